import numpy as np
import pytest

from traindoctor.model import OptimizerSpec
from traindoctor.rule import run_of
from traindoctor.signals import gradients
from traindoctor.signals.measurements import Measurements

RNG = np.random.default_rng(7)
STEP = np.arange(400)
NOISE = np.exp(0.1 * RNG.standard_normal(400))
SGD = OptimizerSpec("sgd", lr=0.1, momentum=0.0)
ADAM = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)


def teeth(length, power, every=1, n=400):
    step = np.arange(n) * every
    return step, (1.0 + step % length) ** power * NOISE[:n]


class TestSawtooth:
    @pytest.mark.parametrize("power", [0.5, 1.0])
    @pytest.mark.parametrize("every", [1, 3, 5])
    def test_length_and_power_are_found(self, power, every):
        found = gradients.sawtooth(*teeth(37, power, every))
        assert found.length == 37
        assert found.power == pytest.approx(power, abs=0.08)
        assert found.share > 0.85
        assert found.beside < 0.3

    def test_known_length(self):
        found = gradients.sawtooth(*teeth(100, 0.7, 1, 330), [100.0])
        assert found.n_teeth == pytest.approx(3.3)
        assert found.share > 0.9

    def test_scale_does_not_matter(self):
        step, norm = teeth(20, 0.7)
        assert gradients.sawtooth(step, 1e6 * norm).share == pytest.approx(gradients.sawtooth(step, norm).share)

    def test_none_in_noise_nor_in_a_fall_within_the_epoch(self):
        assert gradients.sawtooth(STEP, NOISE).share < 0.2
        assert gradients.sawtooth(STEP, 1.0 / (1.0 + STEP % 20), [20.0]).share == 0.0

    def test_steps_that_count_from_one(self):
        step, norm = teeth(20, 0.8)
        assert gradients.sawtooth(step + 1, norm, [20.0]).share > 0.9

    @pytest.mark.parametrize("norm", [np.zeros(400), np.ones(3), np.full(400, 2.0), np.zeros(0)])
    def test_nothing_to_see(self, norm):
        found = gradients.sawtooth(np.arange(norm.size), norm)
        assert found is None or found.share == 0.0


class TestResets:
    def norm(self, within):
        return within(1.0 + STEP % 20) * 1.02**STEP * NOISE**0.2

    def test_a_norm_that_goes_up_and_down_and_starts_anew(self):
        found = gradients.resets(STEP, self.norm(lambda k: k * (1.1 + np.cos(0.55 * k))), 20.0)
        assert found.share == 1.0
        assert found.n == 19
        assert found.drop > 10.0
        assert found.points == 20.0

    @pytest.mark.parametrize("every", [1, 3])
    def test_other_lengths_see_less(self, every):
        norm = self.norm(lambda k: k)
        assert gradients.resets(STEP[::every], norm[::every], 20.0).share > 0.9
        assert gradients.resets(STEP[::every], norm[::every], 27.0).share < 0.5

    def test_sorted_data_rise_at_once(self):
        assert gradients.resets(STEP, self.norm(lambda k: np.where(k > 15, 9.0, 1.0)), 20.0).rise > 0.8
        assert gradients.resets(STEP, self.norm(lambda k: k), 20.0).rise < 0.4

    def test_noise_and_short_series(self):
        assert gradients.resets(STEP, NOISE, 20.0).share < 0.4
        assert gradients.resets(STEP[:30], NOISE[:30], 20.0) is None
        assert gradients.resets(STEP, np.zeros(400), 20.0) is None
        assert gradients.resets(STEP, np.full(400, 2.0), 20.0).drop == 1.0


class TestSums:
    def test_pile_up_of_equal_gradients(self):
        pile = gradients.pile_up(STEP, 0.3 * (STEP + 1.0))
        assert pile.power == pytest.approx(1.0)
        assert pile.scatter == pytest.approx(0.0, abs=1e-9)
        assert pile.grown > 50

    def test_pile_up_of_nothing(self):
        assert gradients.pile_up(STEP, np.zeros(400)) is None
        assert gradients.pile_up(STEP, NOISE).power == pytest.approx(0.0, abs=0.05)

    def test_first_steps_of_a_sum(self):
        first = gradients.first_steps(STEP, 2.0 * (STEP + 1.0) ** 0.9)
        assert (first.lowest, first.highest) == (pytest.approx(0.9), pytest.approx(0.9))
        assert first.n == 5

    def test_first_steps_are_not_seen(self):
        assert gradients.first_steps(STEP + 40, NOISE) is None
        assert gradients.first_steps(50 * STEP, NOISE) is None
        assert gradients.first_steps(STEP, np.zeros(400)) is None


class TestClipping:
    def test_norm_before_the_clip(self):
        clip = gradients.clipping(2.0 * NOISE, 0.02)
        assert clip.share == 1.0
        assert clip.left == pytest.approx(0.01, rel=0.05)
        assert not clip.is_pinned

    def test_norm_behind_the_clip(self):
        clip = gradients.clipping(np.minimum(2.0 * NOISE, 1.9), None)
        assert clip.is_pinned
        assert clip.bound == pytest.approx(1.9)

    def test_no_clip(self):
        assert gradients.clipping(NOISE, None) is None
        assert gradients.clipping(NOISE, 10.0).share == 0.0
        assert np.isnan(gradients.clipping(np.zeros(0), 1.0).share)

    def test_reach_counts_gaps_and_momentum(self):
        step, ones = np.arange(0, 100, 10), np.ones(10)
        assert gradients.reach(step, 0.1 * ones, 0.5 * ones, 0.0) == pytest.approx(0.05 * 91)
        assert gradients.reach(step, 0.1 * ones, 0.5 * ones, 0.9) == pytest.approx(0.5 * 91)

    def test_usual_bound_is_the_ninetieth_percentile(self):
        m = Measurements(run_of(SGD, loss=[1.0] * 100, grad_norm=range(1, 101)))
        assert gradients.usual_bound(m) == pytest.approx(90.0, abs=1.0)
        assert gradients.usual_bound(Measurements(run_of(SGD, loss=[1.0] * 9))) is None


class TestBursts:
    AT = (63, 121, 140, 222, 307, 390)

    def wild(self, size=60.0):
        norm = NOISE.copy()
        norm[list(self.AT)] *= size
        return norm

    def test_isolated_bursts_and_the_loss_behind_them(self):
        loss = NOISE + sum(np.where(at < STEP, 4.0 * 0.9 ** (STEP - at - 1.0), 0.0) for at in self.AT)
        found = gradients.bursts(STEP, self.wild(), STEP, loss, 10.0)
        assert found.steps.tolist() == list(self.AT)
        assert found.sudden == 1.0
        assert found.follows == 1.0
        assert found.after > 2.0
        assert found.off_clock > 0.1

    def test_a_clock_that_misses_beats(self):
        norm = NOISE.copy()
        norm[[40, 62, 106, 128, 194, 216]] *= 60.0
        assert gradients.bursts(STEP, norm, STEP, NOISE, 10.0).off_clock == pytest.approx(0.0, abs=1e-9)

    def test_no_burst(self):
        assert gradients.bursts(STEP, NOISE, STEP, NOISE, 10.0) is None
        assert gradients.bursts(STEP[:5], NOISE[:5], STEP[:5], NOISE[:5], 10.0) is None

    def test_spread_over_epochs(self):
        epochs = np.arange(40)
        assert gradients.spread_over_epochs(20 * epochs + RNG.integers(20, size=40), 20.0) == 0.0
        assert gradients.spread_over_epochs(np.sort(RNG.choice(800, 80, replace=False)), 20.0) > 0.5
        assert np.isnan(gradients.spread_over_epochs(np.array([3, 40, 77]), 100.0))

    def test_second_moment_is_made_of_them(self):
        slowed = gradients.slowed_by_bursts(STEP, self.wild(), ADAM, 10.0)
        assert slowed == pytest.approx((1 + 6 * 60.0**2 / 400) ** 0.5, rel=0.5)
        assert gradients.slowed_by_bursts(STEP, NOISE, ADAM, 10.0) == 1.0


class TestCarriedScale:
    SCALE = 1024.0 * 2.0 ** (STEP // 100)

    def test_norm_with_and_without_the_scale(self):
        assert gradients.carried_scale(STEP, NOISE * self.SCALE, STEP, self.SCALE) == (pytest.approx(1.0, abs=0.3), 3)
        assert gradients.carried_scale(STEP, NOISE, STEP, self.SCALE) == (pytest.approx(0.0, abs=0.3), 3)

    def test_scale_that_never_changes(self):
        value, n = gradients.carried_scale(STEP, NOISE, STEP, np.full(400, 2.0))
        assert np.isnan(value)
        assert n == 0


def test_first_step_bump():
    norm = NOISE * np.where(STEP % 20 == 0, 1.8, 1.0)
    bump, sure = gradients.first_step_bump(STEP, norm, 20.0)
    assert bump == pytest.approx(1.8, rel=0.1)
    assert sure > 10.0
    assert abs(gradients.first_step_bump(STEP, NOISE, 20.0)[1]) < 5.0


def test_training_loss_over_validation_loss():
    val_step, val = STEP[20::20], np.linspace(2.0, 1.0, 19)
    loss = 4.0 * np.interp(STEP, val_step, val)
    found = gradients.over_validation(STEP, loss, val_step, val)
    assert found[:3] == pytest.approx((4.0, 4.0, 4.0), rel=0.01)
    assert found.late_spread < 0.01
    assert gradients.over_validation(STEP, loss, val_step, -val) is None


class TestStandsStill:
    def test_weight_norm_decides_where_it_was_logged(self):
        still = Measurements(run_of(ADAM, loss=[2.0, 1.9, 2.1] * 5, weight_norm=[5.0] * 15))
        moves = Measurements(run_of(ADAM, loss=[2.0] * 15, val_loss=[2.3025851] * 15, weight_norm=[5.0 + k for k in range(15)]))
        assert gradients.stands_still(still).quantity == "weight_norm"
        assert gradients.stands_still(moves) is None

    def test_validation_loss_that_was_not_rounded(self):
        def of(value):
            return gradients.stands_still(Measurements(run_of(ADAM, loss=[2.0, 1.9, 2.1] * 5, val_loss=[value] * 5)))

        assert of(2.3025851).quantity == "val_loss"
        assert of(2.3) is None
        assert of(0.0) is None

    @pytest.mark.parametrize(
        ("spec", "expected"),
        [
            (ADAM, True),
            (SGD, True),
            (OptimizerSpec("sgd", lr=1e-9), False),
            (OptimizerSpec("sgd", lr=0.0), False),
            (OptimizerSpec("adam", lr=1e-3, eps=10.0), False),
            (None, True),
        ],
    )
    def test_steps_that_float32_would_show(self, spec, expected):
        assert gradients.would_move(Measurements(run_of(spec, loss=[1.0] * 9, grad_norm=[0.5] * 9))) is expected


class TestLayers:
    def layers(self, **more):
        noise = NOISE[:60].tolist()
        values = {"grad_norm/0": [0.5 * (k + 1) for k in range(60)], "grad_norm/2": noise, "grad_norm/4": noise}
        values |= {"weight_norm/0": [5.0123457] * 60, "weight_norm/2": [1.0 + k for k in range(60)]} | more
        return Measurements(run_of(ADAM, loss=[1.0] * 60, **values)).layers

    def test_layer_that_stands_still_with_a_gradient(self):
        still = gradients.still_with_gradient(self.layers())
        assert still.names == ("0",)
        assert still.piles

    def test_layer_that_was_frozen_has_none(self):
        assert gradients.still_with_gradient(self.layers(**{"grad_norm/0": [0.0] * 60})) is None

    def test_some_pile_up(self):
        assert gradients.split_piles(self.layers()) == ("0",)
        assert gradients.split_piles(self.layers(**{"grad_norm/0": NOISE[:60].tolist()})) == ()

    def test_sums_are_smooth_in_each_layer_and_do_not_shrink(self):
        assert gradients.layer_smoothness(self.layers()) < 0.5
        sums = {f"grad_norm/{i}": [0.5 * (k + 1) for k in range(60)] for i in (0, 2, 4)}
        assert gradients.layer_smoothness(self.layers(**sums)) == pytest.approx(1.0)
        assert gradients.shrunken_layer(self.layers(**sums)) > 10.0
        assert gradients.shrunken_layer(self.layers(**{"grad_norm/2": [0.9**k for k in range(60)]})) < 0.1

    def test_depth_at_the_first_point(self):
        norms = {f"grad_norm/{i}": [3.0 ** (6 - i), *([0.1] * 20)] for i in range(7)}
        layers = Measurements(run_of(ADAM, loss=[1.0] * 21, **norms)).layers
        factor, span, order, n = gradients.depth_at_first(layers)
        assert (factor, span, order, n) == (pytest.approx(3.0), pytest.approx(3.0**6), -1.0, 7)

    def test_no_layers(self):
        layers = Measurements(run_of(ADAM, loss=[1.0] * 9)).layers
        assert gradients.still_with_gradient(layers) is None
        assert gradients.split_piles(layers) == ()
        assert gradients.depth_at_first(layers).n == 0
        assert np.isnan(gradients.layer_smoothness(layers))
        assert np.isnan(gradients.shrunken_layer(layers))


class TestSwings:
    def test_slow_swings_above_the_noise(self):
        found = gradients.slow_swings(np.exp(np.sin(STEP / 15.0)) * np.exp(0.02 * RNG.standard_normal(400)))
        assert found.n == 4
        assert found.rise == pytest.approx(np.exp(2.0), rel=0.1)
        assert found.points == pytest.approx(47, abs=6)
        assert found.over_noise > 50

    def test_none_in_a_noisy_fall_nor_for_a_spike_nor_for_growth_without_end(self):
        fall = 2.0 * 0.99**STEP
        spike = fall.copy()
        spike[200] *= 30.0
        assert gradients.slow_swings(fall * NOISE) is None
        assert gradients.slow_swings(spike) is None
        assert gradients.slow_swings(1.02**STEP) is None

    def test_long_series_are_brought_down(self):
        step = np.arange(100_000)
        assert gradients.slow_swings(np.exp(np.sin(step / 4000.0))).n == 4


def test_stayed():
    flat = Measurements(run_of(ADAM, loss=[2.0] * 30 + [2.0 * 0.9**k for k in range(30)])).loss
    assert gradients.stayed(flat) == pytest.approx(0.5, abs=0.06)
    assert gradients.stayed(Measurements(run_of(ADAM, loss=[2.0] * 30)).loss) == 1.0
