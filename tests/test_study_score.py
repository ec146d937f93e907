"""The arithmetic of the study's score: shares and intervals, calibration, halves for pairs, and the map of other tools."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from traindoctor.pipeline import diagnose
from traindoctor.registry import load_rules

STUDY = Path(__file__).parents[1] / "benchmarks" / "study"
NAMES = ("accuracy", "accuracy_page", "calibrate", "others", "score")


@pytest.fixture(scope="module")
def study():
    """Return a loader of the study's modules; their plain names are free again afterwards."""
    before = list(sys.path)
    kept = {name: sys.modules.pop(name) for name in NAMES if name in sys.modules}
    sys.path.insert(0, str(STUDY))
    yield __import__
    sys.path[:] = before
    for name in NAMES:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


@pytest.fixture(scope="module")
def accuracy(study):
    return study("accuracy")


@pytest.fixture(scope="module")
def rows(accuracy):
    """Return one row of each kind: right, a right pair, wrong, two faults, sound and silent, sound and alarmed."""
    a = accuracy
    fault = a.Truth("a", "lr-too-high", ("TD201",), 1, "tuning", onset=100, steps=1000)
    sound = a.Truth("s", "", (), 1, "tuning", style="restarts")
    two = replace(fault, name="two", expected=("TD201", "TD501"), expected_all=(("TD201",), ("TD501",)))
    return {
        "right": a.Row(fault, a.Answer("failed", (("TD201",),), alarms=("TD201",), confidence=0.95, stated_onset=110)),
        "pair": a.Row(fault, a.Answer("undecided", candidates=(("TD301",), ("TD201",)), confidence=0.5)),
        "many": a.Row(fault, a.Answer("undecided", candidates=(("TD301",), ("TD302",), ("TD201",)), confidence=0.3)),
        "wrong": a.Row(fault, a.Answer("failed", (("TD301",),), also=(("TD201",),), alarms=("TD301",), confidence=0.85)),
        "silent": a.Row(fault, a.Answer("healthy")),
        "both": a.Row(two, a.Answer("failed", (("TD501",), ("TD201",)), alarms=("TD501", "TD201"), confidence=0.9)),
        "sound": a.Row(sound, a.Answer("healthy")),
        "alarmed": a.Row(sound, a.Answer("failed", (("TD201",),), alarms=("TD201",), confidence=0.75)),
    }


def test_wilson_interval(accuracy):
    assert accuracy.wilson(0, 0) == (0.0, 1.0)
    assert accuracy.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert accuracy.wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    # Newcombe 1998, Statistics in Medicine 17, 857-872, table I: 81 of 263
    assert accuracy.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_calibration_error(accuracy):
    assert math.isnan(accuracy.calibration_error([]))
    assert accuracy.calibration_error([(0.75, True)] * 3 + [(0.75, False)]) == pytest.approx(0.0)
    # two bins: 0.95 stated and half right (4 runs), 0.65 stated and all right (1 run)
    answers = [(0.95, True), (0.95, False)] * 2 + [(0.65, True)]
    assert accuracy.calibration_error(answers) == pytest.approx(0.8 * 0.45 + 0.2 * 0.35)
    assert [(b.n, b.right) for b in accuracy.reliability(answers)] == [(1, 1), (4, 2)]
    assert accuracy.reliability([(1.0, True)])[0].low == pytest.approx(0.9)


def test_a_right_pair_counts_half(rows):
    assert {name: row.points for name, row in rows.items() if row.truth.known} == {
        "right": 1.0,
        "pair": 0.5,
        "many": 0.0,
        "wrong": 0.0,
        "silent": 0.0,
        "both": 1.0,
    }


def test_first_three_and_several_faults(rows):
    assert [name for name, row in rows.items() if row.right_in_three] == ["right", "pair", "many", "wrong", "both"]
    assert [name for name, row in rows.items() if row.found_all] == ["both"]


def test_confidence_counts_alarms_on_sound_runs_as_wrong(accuracy, rows):
    assert sorted(accuracy.stated(rows.values())) == [(0.75, False), (0.85, False), (0.9, True), (0.95, True)]
    assert len(accuracy.stated(rows.values(), undecided=True)) == 6


def test_onset_error(accuracy, rows):
    error = accuracy.onset_error(rows.values())
    assert (error.n, error.stated, error.steps, error.run_share, error.late) == (2, 1, 10, 0.01, 1.0)
    assert math.isnan(accuracy.onset_error([rows["silent"]]).steps)


def test_confusions(accuracy, rows):
    assert accuracy.confusions(rows.values())["TD201"] == {"TD201": 1, "undecided": 2, "nothing": 1, "TD301": 1}


def test_page_and_picture(study, accuracy, rows):
    page = study("accuracy_page")
    others = study("others")
    names = {code: cause.name for code, cause in load_rules().causes.items()}
    text = page.page(list(rows.values()), {"trainproof": list(rows.values())}, others.tools(), names)
    assert "| TD201 | learning-rate-too-high | 2/6 | 2.5/6 |" in text
    assert "50.0 % (1/2; 9.5 to 90.5)" in text
    assert "$" not in text
    picture = page.reliability_picture(accuracy.reliability(accuracy.stated(rows.values())))
    dots = ElementTree.fromstring(picture).findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(dots) == 3


def test_other_tools_are_mapped_to_causes_that_exist(study):
    others = study("others")
    names = others.codes_of_names()
    tools = others.tools()
    assert {t.name for t in tools} == {"trainproof", "runmedic", "trainspotter"}
    assert not [cause for t in tools for causes in t.counts_for.values() for cause in causes if cause not in names]


def test_answer_of_another_tool(study):
    others = study("others")
    tool = others.Tool("x", "1", "", "", {"rises": ("learning-rate-too-high", "zero-grad-missing"), "slow": ()})
    found = {"findings": [["slow", "info", None], ["rises", "error", 40], ["rises", "error", 60]], "error": "", "seconds": 0.1}
    answer = others.answer_of(found, tool, {"learning-rate-too-high": "TD201", "zero-grad-missing": "TD301"})
    assert answer.named == (("TD201", "TD301"),)
    assert (answer.alarms, answer.stated_onset) == (("rises",), 40)


def test_the_log_given_to_other_tools_keeps_its_order(study, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("step,loss,val_loss\n0,4,\n10,3,\n10,,2.5\n20,nan,\n15,1,\n15,,2\n", encoding="utf-8")
    study("others").write_table(tmp_path, tmp_path / "out.csv")
    lines = (tmp_path / "out.csv").read_text(encoding="utf-8").splitlines()
    assert lines == ["step,loss,val_loss", "0,4.0,", "10,3.0,2.5", "20,nan,", "15,1.0,2.0"]


def test_styles_of_sound_runs(study):
    score = study("score")
    assert score.style_of("ae-sound-tiny-batch-3", "") == "tiny-batch"
    assert score.style_of("ae-adam0-sound", "") == "plain"
    assert score.style_of("lm-adamw1-restarts-4", "") == "restarts"
    assert score.style_of("exact4-linreg-exact-short", "") == "short"
    assert score.style_of("lm-lr-too-high-2", "lr too high in name only") == "fault without harm"


def test_fitted_scale_finds_the_overconfidence(study):
    calibrate = study("calibrate")
    sure = [(0.98, i % 10 != 0) for i in range(200)] + [(0.7, i % 10 < 7) for i in range(200)]
    scale = calibrate.fitted_scale(sure)
    assert scale.of(0.98) == pytest.approx(0.9, abs=0.02)
    assert scale.of(0.7) == pytest.approx(0.7, abs=0.02)


def test_weights_take_apart_and_together(study):
    calibrate = study("calibrate")
    for weight in (0.7, 1.5, 3.0, 6.0, 9.0, 2.2, 4.5, 1.1):
        assert calibrate.reweighted(weight, calibrate.TODAY) == pytest.approx(weight)
    assert calibrate.parts_of(9.0) == (0.0, 0.0, 1.0, 1.0)


def labelled(folder, **label):
    """Write a run whose learning rate is 0 from the start, and its label."""
    (folder / "logs").mkdir(parents=True)
    rows = [f"{step},{2.3 + 0.01 * (step * 7 % 5)},0.0" for step in range(0, 400, 4)]
    (folder / "logs" / "metrics.csv").write_text("\n".join(["step,loss,lr", *rows]), encoding="utf-8")
    (folder / "label.json").write_text(json.dumps({"tier": 1, "part": "tuning", "steps": 400, "logging": None} | label))


def test_a_run_is_diagnosed_and_held_against_its_label(study, tmp_path):
    score = study("score")
    labelled(tmp_path / "a-zero-0", fault="lr-zero", expected=["TD204"], expected_all=[["TD204"]])
    labelled(tmp_path / "a-two-0", fault="two", expected=["TD501"], expected_all=[["TD501"], ["TD204"]])
    labelled(tmp_path / "a-sound-still-0", fault=None, expected=[], expected_all=[])
    alarmed, two, right = (score.examine(run) for run in score.runs_under([tmp_path], "*"))
    assert (right.right, right.first, right.truth.expected_all) == (True, "TD204", ())
    assert (two.right, two.found_all, two.truth.expected) == (True, False, ("TD501", "TD204"))
    assert (alarmed.truth.sound, alarmed.truth.style, alarmed.alarmed) == (True, "still", True)


def test_evidence_is_collected_and_judged_as_the_differential_does(study, tmp_path):
    calibrate = study("calibrate")
    labelled(tmp_path / "a-zero-0", fault="lr-zero", expected=["TD204"])
    run = calibrate.examined(tmp_path / "a-zero-0")
    causes = load_rules().causes
    code, share, alarm = calibrate.judged(run, causes, calibrate.Model())
    finding = diagnose([tmp_path / "a-zero-0"]).runs[0].findings[0]
    assert (code, alarm) == ("TD204", True)
    assert share == pytest.approx(finding.confidence)
    table = calibrate.design(run, causes)
    assert table.expected.any()
    scores = np.linspace(-1.0, 2.0, len(table.codes))
    loss, slope = table.loss(scores)
    for i in range(len(scores)):
        moved = scores + 1e-6 * np.eye(len(scores))[i]
        assert (table.loss(moved)[0] - loss) / 1e-6 == pytest.approx(slope[i], abs=1e-4)


def test_a_rule_that_says_too_much_gets_an_offset(study):
    calibrate = study("calibrate")
    one = calibrate.Design(["TD201"], np.array([[1.0, 0, 0, 2, 0]]), np.array([[True]]), np.array([True]))
    designs = [one] * 20 + [one._replace(expected=np.array([False]))] * 20
    assert -3.2 < calibrate.fitted_offsets(designs)["TD201"] < -2.5  # two strong pieces state +3, half are right: 0
    assert calibrate.fitted_weights(designs).strong < calibrate.TODAY.strong


def test_nothing_is_fitted_on_runs_that_are_held_back(study, tmp_path):
    labelled(tmp_path / "a-zero-0", fault="lr-zero", expected=["TD204"], part="held-back")
    with pytest.raises(SystemExit):
        study("calibrate").collected([tmp_path / "a-zero-0"], 1)
