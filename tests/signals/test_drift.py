import numpy as np
import pytest

from traindoctor.signals.drift import at_rest, blocks, drift, overfit

NOISE = np.random.default_rng(9).standard_normal(600)


def test_a_steady_rise_that_speeds_up():
    found = drift(np.exp(np.linspace(0.0, 3.0, 200)) * (1.0 + 0.02 * NOISE[:200]))
    assert found is not None
    assert found.order == 1.0
    assert found.factor > 10.0
    assert found.pace > 3.0


def test_noise_has_no_order_and_one_outlier_does_not_count():
    value = 1.0 + 0.1 * NOISE
    value[300] = 1e9
    found = drift(value)
    assert found is not None
    assert abs(found.order) < 0.6
    assert found.factor == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("value", [[], [1.0], [np.nan] * 9, [np.inf] * 9], ids=str)
def test_too_few_points(value):
    assert drift(np.asarray(value, dtype=np.float64)) is None


def test_constant_and_signed_series():
    assert drift(np.zeros(20)).order == 0.0
    assert np.isnan(drift(np.linspace(-5.0, 5.0, 20)).factor)


def test_blocks_of_few_points():
    assert blocks(np.arange(3.0)).tolist() == [0.0, 1.0, 2.0]
    assert blocks(np.zeros(0)).size == 0


class TestOverfit:
    step = np.arange(60)
    train = 2.3 * 0.93 ** np.arange(60) + 0.01

    def test_turns_and_rises(self):
        found = overfit(self.step, 2.0 * 0.8**self.step + 0.6 + 0.012 * self.step, self.step, self.train)
        assert found is not None
        assert found.rise > 0.4
        assert found.order > 0.9
        assert found.noises > 5.0
        assert found.train < 0.5

    def test_falls_to_the_end(self):
        found = overfit(self.step, self.train + 0.4, self.step, self.train)
        assert found is not None
        assert found.rise < 0.02

    def test_noise_alone_has_no_order(self):
        found = overfit(self.step, 0.5 * (1.0 + 0.1 * NOISE[:60]), self.step, self.train)
        assert found is not None
        assert found.order < 0.6
        assert found.noises < 5.0

    def test_five_evaluations_that_only_rise(self):
        found = overfit(np.arange(5) * 10 + 10, np.array([0.321, 0.358, 0.394, 0.412, 0.42]), self.step, self.train)
        assert found is not None
        assert (found.n, found.n_after, found.order) == (5, 4, 1.0)
        assert found.trend == pytest.approx(2.45, abs=0.01)

    def test_a_noisy_rise_has_a_trend(self):
        found = overfit(self.step, (0.5 + 0.02 * self.step) * (1.0 + 0.2 * NOISE[:60]), self.step, self.train)
        assert found is not None
        assert found.noises < 10.0
        assert found.trend > 5.0
        assert found.train_order == -1.0

    @pytest.mark.parametrize("value", [[1.0] * 3, [0.0] * 20, [-1.0] * 20], ids=str)
    def test_nothing_to_judge(self, value):
        held = np.asarray(value)
        assert overfit(np.arange(held.size), held, self.step, self.train) is None


class TestAtRest:
    rate = np.array([0.1] * 20 + [0.001] * 20)

    def test_a_loss_that_jumps_on(self):
        found = at_rest(0.5 * (1.0 + 0.05 * NOISE[:40]), self.rate)
        assert found is not None
        assert found.n == 19
        assert found.quieter > 0.5

    def test_a_loss_that_comes_to_rest(self):
        value = 0.5 * (1.0 + np.where(self.rate > 0.01, 0.05, 0.0005) * NOISE[:40])
        found = at_rest(value, self.rate)
        assert found is not None
        assert found.quieter < 0.1

    def test_a_loss_that_moves_on(self):
        assert at_rest(2.0 * 0.95 ** np.arange(40), self.rate) is None

    def test_a_constant_rate_and_nothing(self):
        assert at_rest(0.5 * (1.0 + 0.05 * NOISE[:40]), np.full(40, 0.1)) is None
        assert at_rest(np.zeros(0), np.zeros(0)) is None
        assert at_rest(np.zeros(40), self.rate) is None
