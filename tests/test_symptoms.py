"""A failed course is told from a sound one by its shape alone, and what makes it is listed, never named."""

from __future__ import annotations

import numpy as np
import pytest

from traindoctor.pipeline import diagnose_run
from traindoctor.registry import load_rules
from traindoctor.rule import run_of
from traindoctor.signals.measurements import Measurements
from traindoctor.symptoms import CAUSES, symptom

RULES = load_rules().causes
N = 300
T = np.arange(N)
NOISE = np.random.default_rng(5).standard_normal(N)
FALLING = 2.3 * np.exp(-T / 40.0) + 0.1
FAILED = {
    "never_moved": 2.9 * (1.0 + 0.004 * NOISE),
    "at_chance": (np.log(10) + 4.0 * np.exp(-T / 5.0)) * (1.0 + 0.001 * NOISE),
    "lost": np.where(T < 150, FALLING, 1.8) * (1.0 + 0.02 * NOISE),
    "thrown": np.where(T < 100, 2.0, 1.6) * np.where((T > 5) & (T < 30), 6.0, 1.0) * (1.0 + 0.02 * NOISE),
}


def of(loss, **quantities):
    return Measurements(run_of(loss=loss, **quantities))


@pytest.mark.parametrize("name", FAILED)
def test_a_failed_course(name):
    found = symptom(of(FAILED[name]))
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize(
    "loss",
    [
        FALLING * (1.0 + 0.05 * NOISE),
        1.2 + 0.8 * np.exp(-T / 5.0) + 0.001 * NOISE,  # no ln C: as far as it can get, for all that is known
        np.where(T == 150, 50.0, FALLING),
        -FALLING,
        np.full(N, np.nan),
        FALLING[:6],
    ],
    ids=["falls", "floor", "spike", "signed", "nan", "short"],
)
def test_no_failure_is_seen(loss):
    assert symptom(of(loss)) is None


def test_a_validation_loss_that_falls():
    assert symptom(of(FAILED["never_moved"], val_loss=2.9 - 0.05 * np.arange(20))) is None


def test_its_causes_are_rules():
    assert {code for causes in CAUSES.values() for code in causes} <= set(RULES)


@pytest.mark.parametrize("name", ["never_moved", "thrown"])  # the others have signs of their own here
def test_causes_are_listed_and_none_is_named(name):
    report = diagnose_run(run_of(loss=FAILED[name]), RULES)
    assert report.verdict == "undecided"
    assert report.findings
    assert all(f.severity == "info" and f.confidence <= 0.5 for f in report.findings)
