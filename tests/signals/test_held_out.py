from dataclasses import replace

import numpy as np
import pytest

from traindoctor.rule import run_of
from traindoctor.signals.held_out import accuracy, also_improved, entropy_of_majority, few_rows, held_out, order
from traindoctor.signals.measurements import Measurements

T = np.linspace(0.0, 1.0, 200)
FALLS = 0.1 + 2.2 * np.exp(-5.0 * T)


def measured(loss, val_loss, every=1):
    """Return the measurements of a run whose validation was logged at equal distances."""
    run = run_of(every=every, loss=loss)
    held = run_of(every=every * (len(loss) // len(val_loss)), val_loss=val_loss)
    return Measurements(replace(run, series=(*run.series, *held.series), primary={**run.primary, **held.primary}))


class TestHeldOut:
    def test_levels_and_the_gap(self):
        seen = held_out(measured(FALLS, FALLS[::10] + 0.3))
        assert seen.start == FALLS[0]
        assert seen.best == pytest.approx((FALLS[190] + 0.3) / FALLS[0])
        assert seen.gap == pytest.approx(0.3 / FALLS[0], abs=0.02)

    def test_the_training_loss_after_an_evaluation_is_lower_than_before(self):
        seen = held_out(measured(FALLS, FALLS[::10]))
        assert np.all(seen.after[:-1] < seen.before[:-1])
        assert np.all(seen.below[:5] > 1.0)

    def test_labels_learned_by_heart(self):
        seen = held_out(measured(2.3 - 0.3 * T, 2.3 + 0.2 * T[::10]))
        assert seen.best == pytest.approx(1.0)
        assert seen.widens == pytest.approx(1.0)
        assert seen.trained < 0.93

    def test_validation_far_below_training(self):
        seen = held_out(measured(1.0 + FALLS, 0.05 * (1.0 + FALLS[::10])))
        assert seen.below_late == pytest.approx(0.05, rel=0.05)
        assert seen.below_early == pytest.approx(0.05, rel=0.2)

    def test_one_value_an_epoch(self):
        run = replace(run_of(loss=FALLS[::20], val_loss=FALLS[::20] + 0.5), step_unit="epoch")
        assert held_out(Measurements(run)).start == FALLS[0] + 0.5

    def test_a_mean_over_an_epoch_is_no_fresh_start(self):
        assert not held_out(measured(FALLS[::10], FALLS[::10])).fresh
        assert held_out(measured(FALLS, FALLS[::10])).fresh

    def test_what_was_learned_before_the_first_evaluation(self):
        seen = held_out(measured(FALLS, np.append(np.full(5, np.nan), FALLS[100::20])))
        assert seen.learned == pytest.approx(FALLS[100] / FALLS[0], rel=0.02)
        assert seen.trend == -1.0

    @pytest.mark.parametrize("val_loss", [[1.0, 0.5], -FALLS[::10], [np.nan] * 20])
    def test_too_little_to_say(self, val_loss):
        assert held_out(measured(FALLS, val_loss)) is None

    def test_no_validation(self):
        assert held_out(Measurements(run_of(loss=FALLS))) is None


class TestAccuracy:
    def test_constant_to_the_last_bit(self):
        seen = accuracy(Measurements(run_of(val_accuracy=[0.5, 0.97, 0.97, 0.97, 0.97])))
        assert (seen.constant, seen.since, seen.n) == (4, 1, 5)
        assert seen.level == 0.97

    def test_percent(self):
        assert accuracy(Measurements(run_of(val_accuracy=[50.0, 60.0, 70.0, 80.0]))).highest == pytest.approx(0.8)

    @pytest.mark.parametrize("values", [[0.5, 0.5], [-0.1, 0.1, 0.2, 0.3], [0.5, 0.5, 0.5, 1e300]])
    def test_no_accuracy(self, values):
        assert accuracy(Measurements(run_of(val_accuracy=values))) is None

    def test_few_rows(self):
        seen = accuracy(Measurements(run_of(val_accuracy=[2 / 7, 4 / 7, 3 / 7, 3 / 7])))
        assert seen.rows == 7
        assert seen.error(0.5) == pytest.approx(0.189, abs=1e-3)

    def test_a_guess_is_not_above_itself(self):
        seen = accuracy(Measurements(run_of(val_accuracy=[0.1, 0.1, 0.1, 0.1])))
        assert seen.above(0.1) == pytest.approx(0.0)
        assert seen.error(0.1) == 0.0

    def test_not_logged(self):
        assert accuracy(Measurements(run_of(loss=FALLS))) is None


@pytest.mark.parametrize(
    ("shares", "rows"),
    [
        ([0.4286, 0.5714], 7),
        ([5 / 9], 9),
        ([0.97], 0),
        ([0.9375, 0.96875], 32),
        ([43 / 360, 41 / 360], 0),
        ([0.0, 1.0], 0),
        ([], 0),
    ],
    ids=str,
)
def test_rows_that_explain_the_shares(shares, rows):
    assert few_rows(np.asarray(shares)) == rows


def test_another_held_out_loss_that_fell():
    run = run_of(loss=FALLS, val_loss=FALLS + 2.0)
    term = replace(run.primary["val_loss"], quantity="val_loss_term", tag="val/cls_loss", value=FALLS)
    assert also_improved(Measurements(run)) == 0.0
    assert also_improved(Measurements(replace(run, series=(*run.series, term)))) > 0.8


def test_entropy_of_a_majority():
    assert entropy_of_majority(0.5) == pytest.approx(np.log(2.0))
    assert entropy_of_majority(0.97) == pytest.approx(0.1347, abs=1e-4)
    assert np.isnan(entropy_of_majority(1.0))


def test_order():
    assert order(np.arange(1000.0)) == 1.0
    assert order(-np.arange(10.0)) == -1.0
    assert np.isnan(order(np.arange(3.0)))
