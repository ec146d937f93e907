"""A replay as text, page and JSON: its words, its bars, and what happens to hostile strings."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.report import sample
from traindoctor.model import Curve, Hypothesis, Replay, Segment, Trial
from traindoctor.report.html import render_replay
from traindoctor.report.replaying import (
    ASCII_BARS,
    BARS,
    best_trial,
    levels_of,
    render_text,
    schema,
    sparkline,
    to_json,
    view_replay,
)

STEP = np.arange(200)
LOGGED = np.where(STEP < 100, np.exp(-STEP / 10.0), 1e-2)
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e"


def curve(value, name="x", role="observed", step=STEP):
    return Curve(name, role, step, np.asarray(value, dtype=float))


def trial(title, verdict, tail, value=LOGGED, note="", slower=1.5, **more):
    settings = {} if title == "as recorded" else {"optimizer.eps": 0.1}
    return Trial(title, settings, verdict, tail, slower, curve(value, title, "counterfactual"), note, **more)


def replay_of(*trials, **more):
    given = {
        "depth": "closed",
        "model": "noisy quadratic",
        "segment": Segment(0, 200, 100),
        "observed": curve(LOGGED),
        "reproduced": curve(LOGGED * 1.2, role="reproduced"),
        "residual": curve(np.full(200, np.log10(1.2))),
        "error": 0.0792,
        "bound": 0.2,
        "reproduces": True,
        "trials": trials,
        "hypotheses": (
            Hypothesis("TD101", "second-moment-collapse", -10.0, 0.93, 0.08, None, "fitted"),
            Hypothesis("", "healthy", -15.0, 0.07, 0.4, None),
        ),
    }
    return Replay(**{**given, **more})


@pytest.fixture
def run():
    return sample.run_with("a-run", sample.series("loss", "loss", LOGGED))


RECORDED = trial("as recorded", "no effect", 1e-2)
MARGINAL = trial("eps 0.05", "repairs", 1e-5, note="without a margin", tail_interval=(1e-6, 1e-4), sureness=0.9)
REPAIRS = trial("eps 0.1", "repairs", 1e-5, np.exp(-STEP / 10.0), sureness=0.97)
WORSE = trial("lr 1", "worse", float("inf"), np.full(200, np.nan), slower=None)
UNTRIED = trial("warmup", "not tried", float("nan"), LOGGED[:0], note="cannot be written")
UNTRIED = replace(UNTRIED, loss=curve([], step=STEP[:0]))


def test_text(run):
    text = render_text(run, replay_of(RECORDED, MARGINAL, REPAIRS, WORSE, UNTRIED))
    assert "Repaired on the replay by eps 0.1 and eps 0.05." in text
    assert "yes, error 0.0792 decades in the median, bound 0.2" in text
    assert "0.93  TD101 second-moment-collapse" in text
    assert "log scale from" in text
    rows = {line[:12].strip(): line.split() for line in text.splitlines()}
    assert rows["eps 0.05"][2:] == ["repairs", "1e-5", "1e-6", "to", "1e-4", "×1.5", "0.90"]
    assert rows["lr 1"][2:] == ["worse", "Inf", "never"]
    assert rows["warmup"][1:] == ["not", "tried"]
    assert "  cannot be written" in text
    assert max(map(len, text.splitlines())) <= 88


def test_ascii(run):
    text = render_text(run, replay_of(RECORDED, REPAIRS), ascii_only=True)
    assert not {*BARS} & {*text}
    assert "@" in text


def test_a_refusal_claims_nothing(run):
    refused = replay_of(error=float("nan"), reproduced=None, residual=None, reproduces=False, refusal="one value per epoch")
    view = view_replay(run, refused)
    assert (view.lead, view.score, view.refusal) == ("Not replayed.", "no", "one value per epoch")
    missed = view_replay(run, replay_of(RECORDED, REPAIRS, reproduces=False, refusal="it misses", error=0.5))
    assert missed.lead == "The log is not reproduced."
    assert missed.score.startswith("no, error 0.5 decades")


def test_nothing_repairs(run):
    assert view_replay(run, replay_of(RECORDED)).lead == "The log is reproduced."
    assert view_replay(run, replay_of(RECORDED, WORSE)).lead == "The log is reproduced, and the change does not repair the run."
    lead = view_replay(run, replay_of(RECORDED, WORSE, UNTRIED)).lead
    assert lead == "The log is reproduced, and none of the changes repairs the run."


def test_a_healthy_run_has_nothing_to_repair(run):
    healthy = replay_of(RECORDED, WORSE, hypotheses=(Hypothesis("", "healthy", -1.0, 0.9, 0.1, None),))
    assert view_replay(run, healthy).lead == "The log is reproduced, and best by a healthy run: there is nothing to repair."


def test_an_exact_replay_says_how_exact(run):
    exact = {"depth": "exact", "model": "{python} train.py", "reproduced": curve(LOGGED)}
    same = replay_of(RECORDED, REPAIRS, residual=curve(np.zeros(200)), error=0.0, **exact)
    assert view_replay(run, same).score == "yes, bit for bit: all 200 logged values are the same"
    assert view_replay(run, same).lead == "Repaired by eps 0.1."
    apart = np.where(STEP < 150, 0.0, 0.1)
    other = view_replay(run, replay_of(RECORDED, residual=curve(apart), error=0.0, **exact)).score
    assert "150 of 200 values are the same, and they part from step 150 on" in other


def test_which_trial_is_drawn():
    assert best_trial(replay_of(RECORDED, MARGINAL, REPAIRS)) is REPAIRS
    assert best_trial(replay_of(RECORDED, MARGINAL)) is MARGINAL
    assert best_trial(replay_of(RECORDED, UNTRIED)) is None
    assert best_trial(replay_of(RECORDED, WORSE)) is WORSE
    assert best_trial(replay_of(RECORDED, WORSE, replace(WORSE, title="lr 2"))) is None
    postponed = trial("beta2 0.9", "postpones", 1e-3)
    assert best_trial(replay_of(RECORDED, WORSE, postponed)) is postponed


def test_bars():
    rising = curve(10.0 ** np.linspace(-7, 0, 8), step=np.arange(8))
    assert sparkline(rising, (0, 7), (1e-7, 1.0), 8) == BARS
    assert sparkline(rising, (0, 7), (1e-7, 1.0), 8, ascii_only=True) == ASCII_BARS
    assert sparkline(rising, (0, 7), (0.0, 1.0), 8)[0] == BARS[0]
    assert sparkline(curve([1, np.nan, 1], step=np.arange(3)), (0, 2), (0.1, 1.0), 3) == "█×█"
    assert sparkline(curve([1, 1], step=np.array([4, 9])), (0, 9), (0.1, 1.0), 10) == "    ██████"
    assert sparkline(curve([], step=STEP[:0]), (0, 9), (0.1, 1.0), 10) == ""
    spike = np.ones(1000)
    spike[567] = 1e3
    assert sparkline(curve(spike, step=np.arange(1000)), (0, 999), (1.0, 1e3), 20).count("█") == 1


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([[1e-3, 1.0]], (1e-3, 1.0)),
        ([[1e-3, 1.0], [1e9]], (1e-3, 100.0)),
        ([[1e-30, 1.0]], (1e-14, 1.0)),
        ([[-1.0, 2.0]], (-1.0, 2.0)),
        ([[0.0, 2.0]], (0.0, 2.0)),
        ([[3.0, 3.0]], (1.5, 6.0)),
        ([[np.nan]], (0.0, 1.0)),
    ],
)
def test_levels(values, levels):
    assert levels_of([curve(v, step=np.arange(len(v))) for v in values]) == pytest.approx(levels)


def test_json_holds_to_its_schema(run):
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(schema())
    full = replay_of(RECORDED, MARGINAL, WORSE, UNTRIED)
    for made in (to_json(run, full), to_json(run, full, curves=False), to_json(run, replay_of(reproduced=None, residual=None))):
        check.validate(json.loads(json.dumps(made, allow_nan=False)))
    made = to_json(run, full)["replay"]
    assert made["trials"][1]["tail_interval"] == [1e-6, 1e-4]
    assert made["trials"][2]["loss"]["value"][0] == "NaN"
    assert made["hypotheses"][0]["share"] == 0.93
    assert list(check.iter_errors({**to_json(run, full), "replay": {}}))


def test_the_page(run):
    full = replay_of(RECORDED, MARGINAL, REPAIRS, WORSE, UNTRIED)
    page = render_replay(run, full)
    assert page == render_replay(run, full)
    for words in ("with eps 0.1", "What could have made this log", "What was tried", "in 9 of", "prefers-color-scheme: dark"):
        assert words.lower() in page.lower()
    assert "<script>" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count('class="spark"') == 5


@pytest.mark.parametrize(
    "few", [replay_of(), replay_of(reproduced=None, residual=None, reproduces=False, refusal="no", hypotheses=())]
)
def test_a_page_with_little_in_it(run, few):
    assert "</html>" in render_replay(run, few)


def test_hostile_strings_are_shown_and_not_obeyed():
    run = sample.run_with(HOSTILE, sample.series("loss", HOSTILE, LOGGED))
    hostile = replay_of(
        RECORDED,
        replace(REPAIRS, title=HOSTILE, note=HOSTILE),
        model=HOSTILE,
        refusal=HOSTILE,
        hypotheses=(Hypothesis(HOSTILE, HOSTILE, 0.0, 1.0, 0.0, None, HOSTILE),),
    )
    page, text = render_replay(run, hostile), render_text(run, hostile)
    assert "<script>alert" not in page
    for made in (page, text):
        assert "\x1b" not in made
        assert "\u202e" not in made
