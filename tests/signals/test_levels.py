import numpy as np
import pytest

from traindoctor.signals.levels import (
    bias_gradient,
    bounded_by_accuracy,
    classes_at,
    double_softmax_classes,
    double_softmax_fit,
    double_softmax_floor,
    equal_start,
    first_over_next,
    known_classes,
    summed_start,
    wrong_answers,
)


def cross_entropy(scores, label):
    return float(np.log(np.exp(scores).sum()) - scores[label])


@pytest.mark.parametrize("classes", [3, 10, 100])
def test_floor_of_a_softmax_applied_twice_is_that_of_the_surest_answer(classes):
    sure = np.zeros(classes)
    sure[0] = 1.0  # what a softmax gives for very different scores
    assert double_softmax_floor(classes) == pytest.approx(cross_entropy(sure, 0))
    assert double_softmax_classes(double_softmax_floor(classes)) == pytest.approx(classes)


def test_floor_of_ten_classes():
    assert double_softmax_floor(10) == pytest.approx(1.4612, abs=1e-4)


@pytest.mark.parametrize(
    ("loss", "classes"),
    [(2.3026, 10), (2.33, 10), (0.6931, 2), (0.8, None), (0.01, None), (-2.3, None), (float("nan"), None), (1e300, None)],
)
def test_classes_at(loss, classes):
    assert classes_at(loss, 0.02) == classes


class TestDoubleSoftmaxFit:
    def fit(self, loss):
        value = np.asarray(loss, dtype=np.float64)
        return double_softmax_fit(value, value, 0.035, 0.015)

    def test_a_loss_on_its_floor(self):
        found = self.fit([2.3026, *[1.4612 + 0.8 * 0.5**k for k in range(20)]])
        assert found is not None
        assert found.classes == 10
        assert found.above == pytest.approx(0.0, abs=1e-3)
        assert found.share > 0.7

    def test_one_point_below_the_floor_rules_it_out(self):
        assert self.fit([2.3026, *[1.5] * 10, 1.2, *[1.5] * 10]) is None

    def test_a_start_elsewhere(self):
        assert self.fit([2.15, *[1.47] * 20]) is None

    def test_two_classes_and_short_logs_say_nothing(self):
        assert self.fit([0.6931, *[0.32] * 20]) is None
        assert self.fit([2.3026, 1.5]) is None


def test_loss_goes_with_the_accuracy_after_two_softmaxes():
    step, accuracy = np.arange(10), np.linspace(0.2, 0.95, 10)
    found = bounded_by_accuracy(step, double_softmax_floor(10) + 1.0 - accuracy, step, accuracy)
    assert found is not None
    assert found.classes == pytest.approx(10.0)
    assert found.spread == pytest.approx(0.0, abs=1e-12)
    usual = bounded_by_accuracy(step, -np.log(accuracy), step, accuracy)
    assert usual is not None
    assert usual.classes < 2.0
    assert bounded_by_accuracy(step, accuracy, step + 100, accuracy) is None


class TestSummedStart:
    def test_a_sum(self):
        found = summed_start(64 * 2.35, 64, 0.05)
        assert found is not None
        assert found.factor == 64.0
        assert found.level == pytest.approx(2.35)

    def test_a_mean_that_was_divided_again(self):
        found = summed_start(2.35 / 64, 64, 0.05)
        assert found is not None
        assert found.factor == 1.0 / 64.0

    @pytest.mark.parametrize("initial", [2.3, 10.8, 0.0, -5.0, float("nan"), float("inf"), 1e300])
    def test_what_is_no_sum(self, initial):
        assert summed_start(initial, 64, 0.05) is None


def test_bias_gradient_is_what_draws_leave():
    random = np.random.default_rng(3)
    labels = random.integers(0, 10, size=(4000, 64))
    counts = np.stack([(labels == c).mean(axis=1) for c in range(10)], axis=1)
    assert np.sqrt(((counts - 0.1) ** 2).sum(axis=1).mean()) == pytest.approx(bias_gradient(2.3026, 10, 64), rel=0.02)
    targets = 3.0 * random.standard_normal((4000, 32))
    assert np.abs(2.0 * targets.mean(axis=1)).mean() == pytest.approx(bias_gradient(9.0, None, 32), rel=0.05)


def test_wrong_answers_cost_at_least_ln_2():
    step, accuracy = np.arange(5), np.array([0.1, 0.3, 0.5, 0.7, 0.95])
    found = wrong_answers(step, (1.0 - accuracy) * np.log(2.0), step, accuracy)
    assert found is not None
    assert (found.most, found.n) == (pytest.approx(1.0), 4)
    low = wrong_answers(step, np.full(5, 0.01), step, accuracy)
    assert low is not None
    assert low.most < 0.05
    assert wrong_answers(step, np.ones(5), step, 100.0 * accuracy) is None


def test_equal_scores_have_no_noise():
    loss = np.concatenate([np.full(20, np.log(10.0)), np.linspace(2.2, 0.1, 80)])
    found = equal_start(loss, 2e-3)
    assert found is not None
    assert (found.classes, found.points) == (10, 20)
    assert found.share == pytest.approx(0.2)
    assert equal_start(np.array([2.35, 2.2]), 2e-3) is None
    assert equal_start(np.zeros(0), 2e-3) is None


def test_first_over_next():
    assert first_over_next(np.array([100.0, *[2.0] * 99])) == pytest.approx(50.0)
    assert np.isnan(first_over_next(np.array([1.0, 2.0])))
    assert np.isnan(first_over_next(np.zeros(50)))


@pytest.mark.parametrize(
    ("level", "error", "known"),
    [
        (np.log(100), 0.001, True),
        (np.log(100), 0.01, False),
        (np.log(100.5), 0.001, False),
        (np.nan, 0.0, False),
        (900.0, 0.0, False),
    ],
)
def test_classes_are_known_to_a_quarter_of_the_way_to_the_next(level, error, known):
    assert known_classes(level, error) == known
