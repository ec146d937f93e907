import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report import sample
from traindoctor.model import RunReport, Series
from traindoctor.report.curve import POINTS, convicting, curves_of, overview
from traindoctor.rule import run_of
from traindoctor.signals.thinning import thinned_report, whole_of


def series(value, step=None):
    value = np.asarray(value, dtype=np.float64)
    steps = np.arange(value.size) if step is None else np.asarray(step, dtype=np.int64)
    return Series("loss", "loss", steps, value, np.full(value.size, np.nan), "log.csv")


def kept(one):
    """The series that is left when only its overview was stored."""
    step, value = overview(one)
    return Series("loss", "loss", step, value, np.full(step.size, np.nan), "log.csv", whole_of(one))


@given(st.lists(st.tuples(st.integers(-(10**9), 10**12), st.floats(width=64)), min_size=1, max_size=400))
def test_an_overview_is_its_own(points):
    one = series([v for _, v in points], [s for s, _ in points])
    made, again = overview(one), overview(kept(one))
    assert made.step.size <= POINTS
    assert np.array_equal(made.step, again.step)
    assert np.array_equal(made.value, again.value, equal_nan=True)


def test_spikes_and_what_is_not_finite_are_in_it():
    value = np.exp(-np.arange(50_000) / 9_000.0)
    value[31_234], value[40_000], value[41_000] = 88.0, np.nan, np.inf
    made = overview(series(value))
    assert made.step.size == POINTS
    assert dict(zip(made.step.tolist(), made.value.tolist(), strict=True))[31_234] == 88.0
    assert np.isnan(made.value).sum() == 1
    assert np.isinf(made.value).sum() == 1
    assert made.value[0] == 1.0


def test_many_runs_keep_the_same_overview():
    rng = np.random.default_rng(0)
    whole = RunReport(run_of(loss=rng.random(30_000)), "healthy", "", (), (), ())
    thin = thinned_report(whole)
    assert len(thin.run.primary["loss"]) < 2_000
    for quantity, curve in curves_of(whole).items():
        assert all(np.array_equal(a, b) for a, b in zip(curve, curves_of(thin)[quantity], strict=True))


def test_a_restart_that_goes_back_is_shown_at_its_steps():
    made = overview(series([5, 4, 3, 9, 8, 7], [0, 10, 20, 0, 10, 20]))
    assert made.step.tolist() == [0, 10, 20]
    assert made.value.tolist() == [9, 8, 7]


def test_values_have_four_digits():
    assert overview(series([1 / 3, 2e-13 / 3])).value.tolist() == [0.3333, 6.667e-14]


def test_the_quantities_that_convict():
    one = sample.failed_run()
    assert convicting(one.findings[0], one.run) == ["grad_norm"]
    assert list(curves_of(one)) == ["loss", "grad_norm"]
    assert list(curves_of(sample.healthy_run())) == ["loss"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("m.csv: lr", ["learning_rate"]),
        ("m.csv: lr, replayed", ["learning_rate"]),
        ("m.csv: grad_norm and m.csv: loss", ["grad_norm"]),
        ("m.csv: grad_norm and m.csv: lr", ["grad_norm", "learning_rate"]),
        ("m.csv: lr_scale", []),
        ("other.csv: lr", []),
    ],
)
def test_evidence_names_its_tag(source, found):
    from dataclasses import replace

    made = (
        sample.series("grad_norm", "grad_norm", [1.0], source="m.csv"),
        sample.series("learning_rate", "lr", [1.0], source="m.csv"),
    )
    run = sample.run_with("x", *made)
    finding = sample.failed_run().findings[0]
    assert convicting(replace(finding, evidence=(replace(finding.evidence[0], source=source),)), run) == found
