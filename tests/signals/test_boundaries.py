from dataclasses import replace

import numpy as np
import pytest

from traindoctor.model import Run, Series, Stitch
from traindoctor.rule import run_of
from traindoctor.signals.boundaries import boundaries, drifts, jump_at, pauses, repetition, steps_of_memory, sudden_rise
from traindoctor.signals.measurements import SeriesMeasurements


def series(value, *, every=1, wall=None, tag="loss"):
    value = np.asarray(value, dtype=np.float64)
    step = np.arange(value.size, dtype=np.int64) * every
    time = np.full(value.size, np.nan) if wall is None else np.asarray(wall, dtype=np.float64)
    return Series("loss", tag, step, value, time, "log.csv")


def measured(value, *, every=1):
    return SeriesMeasurements(series(value, every=every))


def noisy(n, seed=0, scale=0.1, level=1.0):
    return level * np.exp(scale * np.random.default_rng(seed).standard_normal(n))


def timed(n, pause_at=(), pause=1800.0, seed=0):
    gap = 1.0 + 0.2 * np.random.default_rng(seed).random(n)
    gap[list(pause_at)] += pause
    return 1.7e9 + np.cumsum(gap)


class TestPauses:
    def test_finds_a_long_silence(self):
        assert [step for step, _ in pauses(series(noisy(100), wall=timed(100, (40,))))] == [40]

    def test_validation_at_every_epoch_is_none(self):
        assert pauses(series(noisy(100), wall=timed(100, range(10, 100, 10), pause=60.0))) == []

    def test_a_long_tail_of_step_times_is_none(self):
        wall = np.cumsum(np.random.default_rng(0).pareto(1.2, 400) + 0.01)
        assert pauses(series(noisy(400), wall=wall)) == []

    @pytest.mark.parametrize("wall", [None, np.zeros(50), np.full(50, np.inf), np.arange(50)[::-1]])
    def test_says_nothing_without_usable_times(self, wall):
        assert pauses(series(noisy(50), wall=wall)) == []


class TestBoundaries:
    def test_joins_restarts_and_pauses(self):
        loss = series(noisy(100), wall=timed(100, (40, 70)))
        run = Run("r", "r", "", (loss,), {"loss": loss}, restarts=(0, 41), stitches=(Stitch("resumed", "b", "goes on", 41),))
        found = boundaries(run)
        assert [(b.step, b.mark) for b in found] == [(41, "restart"), (70, "pause")]
        assert found[0].text == "goes on"

    def test_a_run_without_loss_has_its_restarts(self):
        assert [b.step for b in boundaries(replace(run_of(grad_norm=[1.0] * 9), restarts=(5,)))] == [5]


class TestJump:
    def test_measures_a_jump(self):
        value = noisy(300)
        value[200:230] *= 10.0
        jump = jump_at(measured(value), 200, 1000.0)
        assert jump.ratio == pytest.approx(10.0, rel=0.5)
        assert jump.z > 10.0
        assert jump.usual < 0.5
        assert jump.lasting >= 10

    def test_noise_is_no_jump(self):
        found = [jump_at(measured(noisy(300, seed)), 200, 1000.0).z for seed in range(40)]
        assert max(found) < 5.0

    def test_scale_leaves_it_alone(self):
        value = noisy(300)
        value[200:] *= 3.0
        one, other = (jump_at(measured(c * value), 200, 1000.0) for c in (1.0, 1e6))
        assert one.z == pytest.approx(other.z)
        assert one.ratio == pytest.approx(other.ratio)

    def test_a_slow_ramp_is_seen(self):
        value = noisy(400)
        value[200:] *= 1.0 + 2.0 * np.minimum(1.0, np.arange(200) / 12.0)
        assert jump_at(measured(value), 200, 1000.0).z > 8.0

    @pytest.mark.parametrize("value", [[], [1.0], [1.0] * 12, [-1.0] * 50, [0.0] * 50, [1e300] * 50, [np.nan] * 50])
    def test_odd_series_do_no_harm(self, value):
        jump = jump_at(measured(value), 8, 1000.0)
        assert jump is None or jump.ratio == pytest.approx(1.0)

    def test_is_none_at_the_ends(self):
        assert jump_at(measured(noisy(50)), 1, 100.0) is None
        assert jump_at(measured(noisy(50)), 49, 100.0) is None


class TestSuddenRise:
    def test_finds_the_place(self):
        value = noisy(300, scale=0.05)
        value[200:] *= 1.0 + 30.0 * 0.95 ** np.arange(100)
        jump, gap = sudden_rise(measured(value), 1000.0)
        assert jump.step == 200
        assert gap > 10.0

    def test_a_single_point_is_none(self):
        value = noisy(300, scale=0.05)
        value[200] *= 100.0
        assert sudden_rise(measured(value), 1000.0) is None

    def test_several_such_places_are_none(self):
        value = noisy(300, scale=0.05)
        for at in (150, 250):
            value[at : at + 20] *= 30.0
        assert sudden_rise(measured(value), 1000.0) is None

    def test_a_gradual_rise_is_none(self):
        assert sudden_rise(measured(np.exp(0.1 * np.maximum(0, np.arange(300) - 200))), 1000.0) is None


class TestRepetition:
    def test_finds_the_stretch_again(self):
        value = noisy(300)
        value[200:] = value[:100] * np.exp(0.02 * np.random.default_rng(9).standard_normal(100))
        found = repetition(measured(value), 200)
        assert (found.start, found.earlier) == (200, 0)
        assert found.correlation > 0.9 > found.chance

    def test_other_data_do_not_repeat(self):
        found = [repetition(measured(noisy(300, seed)), 200) for seed in range(40)]
        assert all(r.correlation < r.chance for r in found)

    def test_one_order_in_every_epoch_shows_before_the_restart_too(self):
        found = repetition(measured(np.tile(noisy(50), 6)), 200)
        assert found.before > 0.8

    @pytest.mark.parametrize("value", [[1.0] * 100, [0.0] * 100, [1e300] * 100, list(range(1, 101)), [-1.0] * 100])
    def test_odd_series_do_no_harm(self, value):
        found = repetition(measured(value), 60)
        assert found is None or not found.correlation > found.chance


class TestDrifts:
    def both(self, one, other):
        mine = replace(series(one, tag="w"), quantity="weight_norm")
        return Run("r", "r", "", (mine, series(other, tag="w (rank 1)")), {"weight_norm": mine})

    def test_measures_how_far_two_ranks_are_apart(self):
        (drift,) = drifts(self.both(np.full(100, 2.0), 2.0 + 0.01 * np.arange(100)))
        assert (drift.tag, drift.rank, drift.first) == ("w", 1, 0.0)
        assert drift.last == pytest.approx(0.32, abs=0.03)
        assert drift.step == 1

    def test_equal_ranks_do_not_part(self):
        (drift,) = drifts(self.both(np.ones(100), np.ones(100)))
        assert (drift.last, drift.step) == (0.0, None)

    def test_needs_common_steps(self):
        assert drifts(self.both([1.0, 2.0], [1.0, 2.0])) == ()
        assert drifts(run_of(weight_norm=[1.0] * 5)) == ()


def test_memory_of_a_second_moment():
    assert steps_of_memory(0.99) == pytest.approx(100.0)
    assert steps_of_memory(None) == steps_of_memory(1.0) == 1000.0
