"""Several runs together: which setting separates the failed ones, and what is not claimed."""

import itertools
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from scipy.stats import fisher_exact

from traindoctor.across import Outcome, across, fisher, splits_of
from traindoctor.pipeline import KEPT_WHOLE, diagnose
from traindoctor.report.html import render_html
from traindoctor.report.text import render_text
from traindoctor.report.to_json import schema, to_json

SWEEP = Path(__file__).parents[1] / "fixtures" / "compare" / "sweep"
NAMES = {"TD201": "learning-rate-too-high", "TD202": "learning-rate-too-low"}
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.02, 0.03, 0.1, 0.3, 1.0)


def sweep(rates=RATES, fails=lambda lr: lr >= 0.03, **more):
    """Return outcomes of runs that differ in their learning rate, and in what `more` makes of their number."""
    return [
        Outcome(
            f"run-{i:03}",
            fails(lr),
            "TD201" if fails(lr) else "",
            {"optimizer.lr": lr, **{key: make(i) for key, make in more.items()}},
            frozenset({"optimizer.lr"}) if fails(lr) else frozenset(),
        )
        for i, lr in enumerate(rates)
    ]


@pytest.mark.parametrize(("n", "failed", "inside"), [(10, 4, 4), (12, 3, 7), (40, 20, 1), (7, 3, 6)])
def test_the_p_value_is_that_of_scipy(n, failed, inside):
    for k, p in enumerate(fisher(n, failed, inside)):
        if max(0, inside + failed - n) <= k <= min(failed, inside):
            table = [[k, inside - k], [failed - k, n - failed - inside + k]]
            assert p == pytest.approx(fisher_exact(table).pvalue)


def test_the_setting_that_separates_is_named():
    made = across(sweep(), NAMES)
    (cause,) = made.causes
    (found,) = cause.separations
    assert (found.key, found.rule) == ("optimizer.lr", ">= 0.03")
    assert (found.failed_inside, found.n_inside, found.failed_outside, found.n_outside) == (4, 4, 0, 6)
    assert found.p_split == pytest.approx(1 / 210)
    assert found.p_setting == pytest.approx(2 / 210)  # the four highest rates, or the four lowest
    assert found.p_value == found.p_setting
    assert found.text.startswith("All 4 runs with optimizer.lr >= 0.03 failed, none of the 6 others did")
    assert cause.text.startswith("TD201 learning-rate-too-high, 4 runs.")


def test_a_low_rate_is_named_from_below():
    (cause,) = across(sweep((1e-5, 2e-5, 5e-5, *RATES), fails=lambda lr: lr < 0.002), NAMES).causes
    assert cause.separations[0].rule == "< 0.003"


def test_a_word_separates():
    runs = [Outcome(f"r{i}", i % 3 == 0, "TD201" if i % 3 == 0 else "", {"optimizer.name": "asb"[i % 3]}) for i in range(12)]
    (found,) = across(runs, NAMES).causes[0].separations
    assert (found.rule, found.failed_inside, found.n_inside, found.failed_outside) == ("= a", 4, 4, 0)


@pytest.mark.parametrize("n_failed", [1, 2])
def test_too_few_runs_say_nothing(n_failed):
    made = across(sweep(fails=lambda lr: lr > RATES[-1 - n_failed]), NAMES)
    assert all(c.separations == () for c in made.causes)
    assert "too few to say which setting it is" in made.causes[0].text


def test_three_and_three_are_too_few_for_a_threshold_that_was_searched():
    made = across(sweep(RATES[3:9], fails=lambda lr: lr >= 0.03), NAMES)
    assert made.causes[0].separations == ()
    assert "no setting separates them" in made.causes[0].text


def test_settings_that_go_along_are_not_told_apart():
    made = across(sweep(**{"batch_size": lambda i: 32 * (1 + (i >= 6)), "optimizer.name": lambda i: "ab"[i >= 6]}), NAMES)
    (found,) = made.causes[0].separations
    assert found.key == "optimizer.lr"  # the one that a fix of the cause changes
    assert found.confounded == ("batch_size", "optimizer.name")
    assert found.text.endswith("batch_size and optimizer.name go along with it: these runs do not tell them apart.")


def test_a_setting_that_the_first_one_explains_is_not_named():
    rng = np.random.default_rng(3)
    rates = [*np.geomspace(1e-4, 0.02, 15).tolist(), *np.geomspace(0.04, 1.0, 15).tolist()] * 2
    width = [int(8 + 8 * ((rates[i] > 0.03) != (rng.random() < 0.2))) for i in range(60)]
    (cause,) = across(sweep(rates, **{"model.width": lambda i: width[i]}), NAMES).causes
    assert [s.key for s in cause.separations] == ["optimizer.lr"]
    assert cause.separations[0].confounded == ()


def test_two_settings_that_each_do_it():
    runs = []
    for i, (lr, batch, again) in enumerate(itertools.product((1e-3, 0.3), (8, 64), range(16))):
        failed = (lr > 0.1 and again < 13) or (batch == 8 and again < 13)
        runs.append(Outcome(f"r{i}", failed, "TD201" if failed else "", {"optimizer.lr": lr, "batch_size": batch}))
    (cause,) = across(runs, NAMES).causes
    assert {s.key for s in cause.separations} == {"optimizer.lr", "batch_size"}


def test_each_cause_is_told_by_itself():
    runs = sweep((*RATES, 1e-7, 2e-7, 3e-7, 4e-7), fails=lambda lr: lr >= 0.03 or lr < 1e-6)
    runs = [o._replace(code="TD202") if o.failed and o.settings["optimizer.lr"] < 1e-6 else o for o in runs]
    made = across(runs, NAMES)
    assert [(c.code, len(c.runs), c.separations[0].rule) for c in made.causes] == [
        ("TD201", 4, ">= 0.03"),
        ("TD202", 4, "< 0.0001"),
    ]


def test_causes_too_rare_go_together():
    runs = [o._replace(code=f"TD20{i % 2 + 1}") if o.failed else o for i, o in enumerate(sweep())]
    (cause,) = across(runs, NAMES).causes
    assert cause.code == ""
    assert cause.text.startswith("Several causes, 4 runs. All 4 runs with optimizer.lr >= 0.03")


def test_noise_separates_nothing():
    rng = np.random.default_rng(0)
    alarms = 0
    for _ in range(60):
        runs = [Outcome(f"r{i}", bool(rng.random() < 0.4), "TD201", {k: float(rng.normal()) for k in "abcd"}) for i in range(16)]
        alarms += any(c.separations for c in across(runs).causes)
    assert alarms <= 8  # 3 are expected


def test_what_is_left_out_is_said():
    runs = [*sweep(), Outcome("odd", None, "", {})]
    made = across(runs, NAMES)
    assert made.left_out == ("odd",)
    assert made.text == "11 runs: 4 failed, 6 sound, 1 undecided and left out."
    assert across(runs[:1]) is None


@pytest.mark.parametrize(
    ("values", "n"),
    [
        ([1, 2, 3, 3], 2),
        ([1, float("nan"), 2, 3], None),
        ([True, False, True, None], None),
        (["a", "a", "b", "b"], 1),
        ([None, 1, 1, None], 1),
        (["a", "b", "c", "d"], None),
        ([1, 1, 1, 1], None),
        ([[1, 2], [1, 2], [3, 4], (3, 4)], 1),
    ],
)
def test_ways_to_split(values, n):
    found = splits_of("k", values)
    assert (None if found is None else len(found.rules)) == n


def test_seeds_are_names():
    assert splits_of("seed", [1, 2, 3, 4]) is None


def test_a_sweep_of_real_runs():
    report = diagnose([SWEEP])
    (cause,) = report.across.causes
    assert (cause.code, cause.separations[0].key, cause.separations[0].rule) == ("TD201", "optimizer.lr", ">= 0.4")
    assert len(report.runs) == 10 > KEPT_WHOLE
    text = render_text(report)
    assert "across runs    10 runs: 4 failed, 6 sound." in text
    assert "Across runs" in render_html(report)
    made = to_json(report)
    jsonschema.validate(made, schema())
    assert made["across"]["causes"][0]["separated_by"][0]["failed_inside"] == 4


def test_one_run_says_nothing_together():
    report = diagnose([SWEEP / "run-0"])
    assert report.across is None
    assert to_json(report)["across"] is None
