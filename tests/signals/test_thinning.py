import numpy as np
import pytest

from tests.report import sample
from traindoctor.model import Curve, RunReport, Series, VitalSign
from traindoctor.report.html import render_html
from traindoctor.report.to_json import to_json
from traindoctor.report.view import view_run
from traindoctor.rule import run_of
from traindoctor.signals.thinning import STRETCHES, kept_points, thinned_report, whole_of


def series(value, quantity="loss"):
    value = np.asarray(value, dtype=np.float64)
    return Series(quantity, quantity, np.arange(value.size), value, np.full(value.size, np.nan), "log.csv")


def long_run():
    rng = np.random.default_rng(0)
    loss = np.exp(-np.arange(20_000) / 4_000.0) * np.exp(0.1 * rng.standard_normal(20_000))
    loss[12_345] = 77.0
    loss[500:503] = np.nan
    loss[9_000] = 0.0
    return run_of(loss=loss, grad_norm=np.full(20_000, 2.0))


def test_the_lowest_the_highest_the_last_and_a_spike_are_kept():
    loss = long_run().primary["loss"].value
    kept = kept_points(loss)
    assert kept.size <= 3 * STRETCHES + STRETCHES + 402
    assert {0, 12_345, 9_000, 19_999, 500} <= set(kept.tolist())
    assert np.all(np.diff(kept) > 0)


def test_short_series_stay_as_they_are():
    assert kept_points(np.ones(50)).tolist() == list(range(50))
    report = RunReport(run_of(loss=np.linspace(1, 0.1, 50)), "healthy", "", (), (), ())
    assert thinned_report(report).run.primary["loss"] is report.run.primary["loss"]


@pytest.mark.parametrize("value", [[], [np.nan] * 2_000, [3.0] * 5_000, [np.inf, -np.inf, 1e300, -1e300] * 900])
def test_hostile_series(value):
    one = series(value)
    at = kept_points(one.value)
    assert at.size <= max(1_400, 0)
    whole = whole_of(one)
    assert (whole.n, whole.n_nan) == (len(value), int(np.isnan(np.array(value)).sum()))


def test_a_thinned_report_says_what_the_whole_one_does():
    whole = RunReport(long_run(), "healthy", "", (), ("TD101",), ())
    thin = thinned_report(whole)
    assert len(thin.run.primary["loss"]) < 2_000
    assert view_run(thin) == view_run(whole)
    assert to_json(sample.report_of(thin)) == to_json(sample.report_of(whole))
    assert "20,000 steps" in render_html(sample.report_of(thin))


def test_what_is_only_listed_keeps_no_point():
    run = long_run()
    other = series(np.arange(5_000.0), "")
    report = RunReport(type(run)(run.name, run.path, run.root, (*run.series, other), run.primary), "healthy", "", (), (), ())
    thin = thinned_report(report).run.series[-1]
    assert len(thin) == 0
    assert (thin.whole.n, thin.whole.last, thin.whole.n_not_positive) == (5_000, 4_999.0, 1)


def test_replay_and_signs_are_thinned_too():
    report = sample.failed_run()
    thin = thinned_report(report)
    assert view_run(thin) == view_run(report)


def test_the_interval_about_a_curve_is_thinned_with_it():
    value = np.linspace(1.0, 2.0, 20_000)
    curve = Curve("with a fix", "counterfactual", np.arange(value.size), value, low=value - 0.5, high=value + 0.5, interval="all")
    report = RunReport(long_run(), "healthy", "", (), (), (), vital_signs=(VitalSign("sign", "", (curve,), log_scale=False),))
    (thin,) = thinned_report(report).vital_signs[0].curves
    assert thin.value.size < 1_000
    np.testing.assert_allclose(thin.high - thin.value, 0.5)
    np.testing.assert_allclose(thin.value - thin.low, 0.5)
    assert thin.interval == "all"
