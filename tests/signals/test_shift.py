from dataclasses import replace

import numpy as np
import pytest

from traindoctor.rule import run_of
from traindoctor.signals.measurements import Measurements
from traindoctor.signals.shift import largest_shift

DRAW = np.random.default_rng(5)


def stepped(n=600, at=350, times=3.0, every=1):
    """Return steps and a loss that falls, and steps up once."""
    step = np.arange(n)
    loss = (0.2 + 2.0 * np.exp(-step / (0.1 * n))) * (1.0 + 0.05 * DRAW.standard_normal(n))
    return step * every, loss * np.where(step >= at, times, 1.0)


class TestLargestShift:
    @pytest.mark.parametrize("n", [60, 600, 6000])
    @pytest.mark.parametrize("share", [0.5, 0.65, 0.8])
    def test_is_found_where_it_is(self, n, share):
        found = largest_shift(*stepped(n, int(share * n)))
        assert found.step == pytest.approx(share * n, abs=max(2, 0.006 * n))
        assert found.size == pytest.approx(np.log(3.0), abs=0.15)
        assert found.after / found.before == pytest.approx(3.0, rel=0.15)
        assert found.clear > 6.0
        assert found.sudden > 0.8
        assert found.kept == pytest.approx(1.0, abs=0.15)
        assert found.left == pytest.approx(1.0 - share, abs=0.02)

    def test_a_sound_run_has_no_clear_one(self):
        found = largest_shift(*stepped(times=1.0))
        assert found is None or found.size < 0.1

    def test_growth_is_not_sudden(self):
        step = np.arange(600)
        found = largest_shift(step, 0.2 * np.exp(np.maximum(step - 300, 0) / 50.0))
        assert found.sudden < 0.5

    def test_other_data_neither_overshoot_nor_climb(self):
        found = largest_shift(*stepped(at=350))
        assert found.points == 250
        assert found.overshoot < 1.5
        assert found.climbed < 0.5

    def test_an_instability_climbs_and_overshoots(self):
        step, value = stepped(n=300, at=200)
        value[194:204] = 0.25 * np.array([1.1, 1.3, 1.7, 2.4, 4.0, 100.0, 90.0, 40.0, 20.0, 10.0])
        found = largest_shift(step, value)
        assert found.overshoot > 20.0
        assert found.climb >= 4
        assert found.climbed == pytest.approx(np.log(4.0), abs=0.3)

    def test_what_comes_back_is_not_kept(self):
        step, value = stepped()
        value = np.where(step >= 450, value / 3.0, value)
        assert largest_shift(step, value).kept < 0.3

    @pytest.mark.parametrize("value", [np.ones(200), np.arange(200.0) - 3.0, np.ones(5), np.full(200, 1e300), -np.ones(100)])
    def test_nothing_to_find(self, value):
        found = largest_shift(np.arange(value.size), value)
        assert found is None


class TestBeside:
    def test_what_moved_and_what_did_not(self):
        step, loss = stepped()
        rate = np.where(step >= 350, 2e-3, 1e-3)
        run = run_of(loss=loss, learning_rate=rate, grad_norm=np.where(step == 347, 30.0, 1.0), val_loss=np.ones(600))
        seen = Measurements(run).beside_shift
        assert seen.rate == pytest.approx(np.log(2.0))
        assert seen.gradient_led == 30.0
        assert seen.validation == 0.0
        assert seen.held_share == 0.0

    def test_not_logged(self):
        _, loss = stepped()
        assert np.isnan(Measurements(run_of(loss=loss)).beside_shift).all()

    def test_no_shift(self):
        m = Measurements(run_of(loss=[1.0, 0.5]))
        assert (m.shift, m.beside_shift) == (None, None)
        assert Measurements(replace(run_of(loss=-np.ones(50)))).shift is None
