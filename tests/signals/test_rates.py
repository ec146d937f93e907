import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from traindoctor.model import OptimizerSpec, Run, Series, Setting
from traindoctor.rule import run_of
from traindoctor.signals import rates
from traindoctor.signals.layers import Layers
from traindoctor.signals.measurements import Measurements

STEP = np.arange(400)
NOISE = np.random.default_rng(7).normal(size=400)


def linear(total, n=400):
    return np.maximum(0.0, 1.0 - np.arange(n) / total)


def warmed(k, warmup=20, total=400):
    return np.minimum((k + 1) / warmup, 1.0 - k / total)


class TestSpent:
    def test_a_decay_that_ends_with_the_run_is_spent_at_its_last_hundredth(self):
        found = rates.spent(STEP, linear(400))
        assert found is not None
        assert found.share > 0.98

    def test_by_factors_through_the_decades(self):
        found = rates.spent(STEP, 1e-3 * 0.8**STEP)
        assert found is not None
        assert (found.step, found.way) == (21, "geometric")

    def test_a_horizon_that_is_over(self):
        found = rates.spent(STEP, linear(100))
        assert found is not None
        assert (found.step, found.left, found.way) == (100, 0.0, "end")

    def test_a_longer_plan_lowers_the_share(self):
        found = rates.spent(STEP, linear(100), length=600)
        assert found is not None
        assert found.share == pytest.approx(1 / 6, abs=0.001)

    def test_a_peak_that_the_log_missed(self):
        rate = 1e-6 * 0.5 ** np.arange(30.0)
        found = rates.spent(np.arange(30), rate, peak=1e-3)
        assert found is not None
        assert (found.step, found.share, found.way) == (0, 0.0, "geometric")

    def test_a_configured_rate_that_is_a_factor_is_no_peak(self):
        assert rates.spent(STEP, 1e-3 * np.minimum((STEP + 1) / 100, 10.0 / np.sqrt(STEP + 1.0)), peak=1.0) is None

    @pytest.mark.parametrize("rate", [np.full(400, 1e-3), 1e-3 * 0.1 ** (STEP // 200), np.zeros(400), np.full(5, 1.0)])
    def test_of_other_rates_there_is_none(self, rate):
        assert rates.spent(STEP[: rate.size], rate) is None


class TestReset:
    def test_in_the_middle_of_a_decay(self):
        rate = np.where(STEP < 250, warmed(STEP), warmed(STEP - 250))
        wall = STEP * 1.0 + np.where(STEP < 250, 0.0, 1800.0)
        found = rates.reset(STEP, rate, (250,), wall)
        assert found is not None
        assert (found.step, found.rewarmed, found.at_restart) == (250, True, True)
        assert found.gap == pytest.approx(1801.0)

    def test_back_to_the_peak(self):
        found = rates.reset(STEP, np.where(STEP < 300, linear(400), linear(400)[STEP - 300]))
        assert found is not None
        assert (found.step, found.rewarmed, found.at_restart) == (300, False, False)
        assert np.isnan(found.gap)

    @pytest.mark.parametrize("period", [50, 100, 133, 200])
    def test_warm_restarts_are_meant(self, period):
        rate = 0.5 * (1.0 + np.cos(np.pi * (STEP % period) / period))
        assert rates.reset(STEP, rate) is None

    @pytest.mark.parametrize("rate", [linear(400), np.full(400, 0.1), 0.1 ** (STEP // 100), warmed(STEP)])
    def test_schedules_without_one(self, rate):
        assert rates.reset(STEP, rate) is None


class TestCuts:
    AT = (4, 7, 12, 14, 19, 37, 40, 64)

    def uneven(self):
        return 1e-3 * 0.3 ** np.array([sum(k >= a for a in self.AT) for k in STEP], dtype=float)

    def test_at_uneven_distances(self):
        found = rates.cuts(STEP, self.uneven(), STEP, 2.0 * 0.98**STEP)
        assert found is not None
        assert found.steps.tolist() == list(self.AT)
        assert found.factor == pytest.approx(0.3)
        assert found.fell < 0.8

    def test_in_a_coarse_log(self):
        found = rates.cuts(STEP[::4], self.uneven()[::4], STEP, np.ones(400))
        assert found is not None
        assert found.factor == pytest.approx(0.3)

    @pytest.mark.parametrize("rate", [0.3 ** (STEP // 8), 0.9**STEP, linear(500), np.ones(400), 0.1 ** (STEP // 100)])
    @pytest.mark.parametrize("every", [1, 5])
    def test_by_the_clock_there_are_none(self, rate, every):
        assert rates.cuts(STEP[::every], rate[::every], STEP, np.ones(400)) is None


class TestAnswer:
    def test_a_step_down_in_level_and_noise(self):
        value = np.where(STEP < 200, 1.0 + 0.1 * NOISE, 0.5 + 0.02 * NOISE)
        found = rates.answer(STEP, value, 200)
        assert found is not None
        assert found.ratio == pytest.approx(0.5, abs=0.05)
        assert found.noise_ratio == pytest.approx(0.2, abs=0.08)
        assert found.errors < -20.0

    def test_too_near_to_an_end(self):
        assert rates.answer(STEP, np.ones(400), 398) is None


class TestNoiseJump:
    def test_is_found_where_it_is(self):
        value = 1.0 + NOISE * np.where(STEP < 260, 0.01, 0.05)
        found = rates.noise_jump(STEP, value)
        assert found is not None
        step, ratio = found
        assert abs(step - 260) <= 6
        assert ratio == pytest.approx(5.0, rel=0.3)

    def test_even_noise_has_none(self):
        assert rates.noise_jump(STEP, 1.0 + 0.1 * NOISE) is None


class TestFloorOfRate:
    def test_a_level_that_follows(self):
        level = np.where(STEP < 200, 0.5, 0.28) * (1.0 + 0.05 * NOISE)
        found = rates.floor_of_rate((STEP, np.where(STEP < 200, 0.1, 0.05)), (STEP, level))
        assert found is not None
        assert (found.step, found.rate, found.left) == (200, 0.5, 0.5)
        assert found.level == pytest.approx(0.56, abs=0.03)

    def test_a_loss_that_was_falling_anyway(self):
        assert rates.floor_of_rate((STEP, np.where(STEP < 200, 0.1, 0.05)), (STEP, 2.0 * 0.99**STEP)) is None


def test_a_batch_that_shrinks_at_an_unchanged_rate():
    batch = [64.0] * 50 + [4.0] * 50
    found = rates.batch_change(run_of(loss=[1.0] * 100, learning_rate=[0.1] * 100, batch_size=batch))
    assert found == rates.Change(50, 64.0, 4.0, 1.0)
    assert rates.batch_change(run_of(loss=[1.0] * 100, batch_size=[64.0] * 100)) is None


class TestBeginning:
    def test_a_rise_at_once(self):
        value = np.array([2.3, 9.0, 14.0, 12.0, *(1.4 + 6.0 * 0.9 ** np.arange(96))])
        run = run_of(loss=value, learning_rate=[1e-3] * 100)
        found = rates.beginning(np.arange(100), value, run.primary["learning_rate"])
        assert found is not None
        assert found.overshoot == pytest.approx(12.0 / 2.3, rel=0.1)
        assert found.warmup == 0.0
        assert found.sure
        assert np.isnan(found.grad)

    @pytest.mark.parametrize(
        "value",
        [
            [2.3, 1.6, 1.2, 9.0, 9.0, 1.1, *(0.98**k for k in range(94))],  # after the loss had fallen: a batch
            [2.3, 9.0, 9.0, *([1.5] * 40), 9.0, *([1.5] * 56)],  # and again
            np.abs(1.0 + 0.6 * NOISE[:100]) + 0.1,  # noise
        ],
    )
    def test_a_rise_that_is_not_of_the_start(self, value):
        found = rates.beginning(np.arange(100), np.asarray(value, dtype=float))
        assert found is not None
        assert not found.sure

    def test_short_logs_have_none(self):
        assert rates.beginning(np.arange(8), np.ones(8)) is None


@pytest.mark.parametrize(("rate", "share"), [(linear(400), 0.0), (warmed(STEP), 0.04), (STEP / 400.0, 0.9)])
def test_warmup_share(rate, share):
    assert rates.warmup_share(STEP, rate) == pytest.approx(share, abs=0.02)


def test_held_and_end_of_decay():
    assert rates.held(STEP, 0.9 ** (STEP // 20)) == 20.0
    assert rates.held(STEP, linear(400)) == 1.0
    assert rates.end_of_decay(STEP, linear(2000)) == pytest.approx(2000.0, rel=0.01)
    assert rates.end_of_decay(STEP, np.ones(400)) is None


class TestOddLayer:
    def layers(self, growth, ratio):
        made = []
        for k, (g, r) in enumerate(zip(growth, ratio, strict=True)):
            for quantity, tag, value in (
                ("weight_norm_layer", "weight_norm", np.linspace(1.0, g, 50)),
                ("update_ratio_layer", "update_ratio", np.full(50, r)),
            ):
                made.append(Series(quantity, f"{tag}/fc{k}.weight", np.arange(50), value, np.full(50, np.nan), "log"))
        return Layers(Run("run", "run", "", tuple(made), {}))

    def test_one_that_runs_away(self):
        odd = rates.odd_layer(self.layers((1.1, 1.2, 60.0), (1e-3, 2e-3, 0.3)))
        assert odd is not None
        assert odd.name == "fc2"
        assert odd.updates > 2.0
        assert odd.growth > 1.0

    def test_one_that_stands_still(self):
        odd = rates.odd_layer(self.layers((1.00001, 1.2, 1.3), (1e-6, 2e-3, 1e-3)))
        assert odd is not None
        assert odd.name == "fc0"
        assert odd.moved < -3.0

    def test_nothing_logged(self):
        assert rates.odd_layer(Layers(run_of(loss=[1.0]))) is None


@pytest.mark.parametrize(
    ("settings", "moves"),
    [
        ({"schedule.name": "cosine", "steps": 100}, True),
        ({"schedule.name": "cosine", "steps": 10_000}, False),
        ({"schedule.name": "constant_with_warmup", "steps": 100}, False),
        ({"schedule.name": "ReduceLROnPlateau", "steps": 100}, False),
        ({"steps": 100}, False),
    ],
)
def test_should_move(settings, moves):
    from dataclasses import replace

    run = run_of(OptimizerSpec("adam", lr=1e-3), loss=[1.0] * 100, learning_rate=[1e-3] * 100)
    run = replace(run, settings={key: Setting(value, "config.yaml") for key, value in settings.items()})
    assert rates.should_move(run) is moves


@given(arrays(np.float64, st.integers(0, 40), elements=st.floats(allow_nan=True, allow_infinity=True)))
def test_hostile_values_do_not_crash(value):
    step = np.arange(value.size)
    good = np.isfinite(value)
    with np.errstate(all="ignore"):
        rates.spent(step, value)
        rates.reset(step, value)
        rates.cuts(step, value, step, value)
        rates.warmup_share(step, value)
        rates.held(step, value)
        rates.noise_jump(step[good], value[good])
        rates.floor_of_rate((step, value), (step[good], value[good]))
        rates.beginning(step[good], value[good])
        rates.answer(step[good], value[good], 5)


class TestOfARun:
    def measured(self, **settings):
        from dataclasses import replace

        value = [2.3, *([132.0] * 99)]
        run = run_of(OptimizerSpec("sgd", lr=0.1), loss=value, learning_rate=[0.1 * max(0.0, 1.0 - k / 20) for k in range(100)])
        made = {key.replace("__", "."): Setting(one, "config.yaml") for key, one in settings.items()}
        return Measurements(replace(run, settings=made))

    def test_a_loss_that_rose_once_and_stays(self):
        m = self.measured()
        assert m.loss.late_low == pytest.approx(132.0 / 2.3)
        assert m.loss.since_second == 1.0

    def test_what_the_rate_did(self):
        m = self.measured()
        assert m.spent_rate is not None
        assert m.spent_rate.step == 20
        assert m.rate_cuts is None
        assert m.rate_reset is None
        assert m.beginning is not None
        assert m.beginning.warmup == 0.0

    def test_without_a_schedule_nothing_is_reconciled(self):
        assert self.measured().schedule.answer == "cannot-tell"

    def test_a_configured_schedule_is(self):
        assert self.measured(schedule__name="linear", schedule__total_steps=100, optimizer__lr=0.1).schedule.is_discrepancy
