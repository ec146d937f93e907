"""A replay as text, page and JSON: its words, its bars, and what happens to hostile strings."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from tests.report import sample
from traindoctor.model import Curve, Hypothesis, OptimizerSpec, Replay, Segment, Trial
from traindoctor.replay.forecast import Forecast
from traindoctor.replay.open_loop import open_loop, signal
from traindoctor.replay.outlook import Outlook
from traindoctor.report.html import render_replay
from traindoctor.report.outlook import standing, view_outlook
from traindoctor.report.replaying import (
    best_trial,
    render_text,
    schema,
    to_json,
    view_replay,
)
from traindoctor.report.sparkline import BARS

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
    assert [line.split() for line in text.splitlines() if line.startswith(("second", "healthy"))] == [
        ["second-moment-collapse", "TD101", "0.93", "0.08", "−10"],
        ["healthy", "0.07", "0.4", "−15"],
    ]
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
    assert "why            one value per epoch." in render_text(run, refused)
    missed = view_replay(run, replay_of(RECORDED, REPAIRS, reproduces=False, refusal="it misses", error=0.5))
    assert missed.lead == "The log is not reproduced."
    assert missed.score.startswith("no, error 0.5 decades")


@pytest.mark.parametrize(
    ("verdicts", "words"),
    [
        (["worse"], ", and the change makes it worse."),
        (["no effect"], ", and the change has no effect."),
        (["postpones"], ", and the change only postpones the failure."),
        (["not tried"], ", and the change could not be tried."),
        (["worse", "worse"], ", and all changes make it worse."),
        (["not tried", "not tried"], ", and none of the changes could be tried."),
        (["no effect", "no effect"], ", and none of the changes has an effect."),
        (["no effect", "worse"], ", and none of the changes makes it better."),
        (["postpones", "postpones"], ", and the changes only postpone the failure."),
        (["worse", "not tried"], ", and no change that it decides repairs the run; 1 of 2 is not decided."),
        ([], "."),
    ],
)
def test_nothing_repairs(run, verdicts, words):
    tried = [trial(f"change {i}", verdict, 1.0) for i, verdict in enumerate(verdicts)]
    assert view_replay(run, replay_of(RECORDED, *tried)).lead == f"The log is reproduced{words}"


def test_a_healthy_run_has_nothing_to_repair(run):
    healthy = replay_of(RECORDED, WORSE, hypotheses=(Hypothesis("", "healthy", -1.0, 0.9, 0.1, None),))
    assert view_replay(run, healthy).lead == "The log is reproduced, and best by a healthy run: there is nothing to repair."


def test_an_exact_replay_says_how_exact(run):
    exact = {"depth": "exact", "model": "{python} train.py", "reproduced": curve(LOGGED)}
    same = replay_of(RECORDED, REPAIRS, residual=curve(np.zeros(200)), error=0.0, **exact)
    assert view_replay(run, same).score == "yes, bit for bit: all 200 logged values are the same"
    assert view_replay(run, same).lead == "Repaired by eps 0.1."
    assert view_replay(run, replace(same, trials=(RECORDED,))).lead == "The log is reproduced; no change was tried."
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


def test_json_holds_to_its_schema(run):
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(schema())
    full = replay_of(RECORDED, MARGINAL, WORSE, UNTRIED)
    for made in (to_json(run, full), to_json(run, full, curves=False), to_json(run, replay_of(reproduced=None, residual=None))):
        check.validate(json.loads(json.dumps(made, allow_nan=False)))
    told = outlook_of(AHEAD, probe=(150, 20.0))
    for some in (told, Outlook(refusal="no"), outlook_of(replace(AHEAD, refusal="no", remains=math.nan))):
        check.validate(json.loads(json.dumps(to_json(run, full, some), allow_nan=False)))
    check.validate(json.loads(json.dumps(short := to_json(run, full, told, curves=False), allow_nan=False)))
    assert short["outlook"]["layers"][0]["curves"] is short["outlook"]["forecast"]["margin"] is None
    assert to_json(run, full, told)["outlook"]["forecast"]["interval"] == [230, 260]
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
    assert page.count("<script>") == 3  # uPlot and our two, which the policy names
    assert ' src="' not in page
    assert 'href="http' not in page
    assert page.count('class="spark"') == 5


def outlook_of(forecast=None, **more):
    total = 100.0 * 0.99**STEP
    spec = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.99, eps=1e-8)
    whole = open_loop(signal(np.sqrt(total), lr=1e-3, n_parameters=4), [spec])
    layers = [replace(whole, name=name, lr=whole.lr * rate) for name, rate in (("head", 1.0), ("body", np.exp(STEP / 50.0)))]
    return Outlook((whole, *layers), forecast, **more)


AHEAD = Forecast(
    38.0, 240, (230, 260), np.arange(150, 250), np.linspace(20, 38.4, 100), 0.99, math.inf, notes=("eps is left out.",)
)


@pytest.mark.parametrize(
    ("ahead", "probe", "words"),
    [
        (AHEAD, (150, 20.0), "the limit of 38 is met at step 240, between step 230 and step 260"),
        (replace(AHEAD, interval=(230, None)), (150, 20.0), "is met at step 240, not before step 230, and perhaps never"),
        (
            replace(AHEAD, met=None, interval=None, remains=2.5),
            (150, 20.0),
            "the limit of 38 is not met: at its largest the margin stays 2.5 times below it",
        ),
        (
            replace(AHEAD, met=None, interval=(230, None), remains=1.2),
            (150, 20.0),
            "is not met while gradients stay as of late: the margin stays 1.2 times below it; without any, it is met at step 230",
        ),
        (replace(AHEAD, met=None, interval=(201, 900)), None, "the limit of 38 is met from now on, at step 900 at the latest"),
        (replace(AHEAD, met=None, interval=(500, None)), None, "is met at step 500 at the earliest, perhaps never"),
        (replace(AHEAD, met=None, interval=None), None, "the limit of 38 is not met in the steps looked at"),
        (replace(AHEAD, refusal="Too few points."), None, "no forecast. Too few points. What helps: --probe STEP=VALUE as"),
        (replace(AHEAD, refusal="Too few points."), (150, 20.0), "no forecast. Too few points."),
    ],
)
def test_the_limit_in_words(run, ahead, probe, words):
    assert words in dict(view_outlook(run, outlook_of(ahead, probe=probe)).facts)["limit"]


def test_where_the_optimizer_stands(run):
    view = view_outlook(run, outlook_of(AHEAD, remarks=("The log counts steps.",)))
    facts = {words.split()[0]: words for _, words in view.facts}
    assert "since its highest, at step 0, √v̂ fell by a factor of" in facts["since"]
    assert "in the root mean square" in facts["since"]
    assert facts["eps"] == "eps is < 0.01 % of the denominator √v̂ + eps at the end."
    assert any(words.startswith("of the layers it grew by a factor of") and "in body, where" in words for _, words in view.facts)
    assert view.assumed[0] == "The log counts steps."
    assert "eps is left out." in view.assumed
    refused = view_outlook(run, Outlook(refusal="no gradient norm was logged", ways_out=("log it",)))
    assert refused.facts == (("optimizer", "not replayed: no gradient norm was logged. What helps: log it."),)


def test_layers_without_the_whole(run):
    facts = view_outlook(run, Outlook(outlook_of().layers[1:])).facts
    assert facts[0][1].startswith("in body: since its highest, at step 0, √v̂ fell")
    assert "where it grew most" in facts[-1][1]


def test_an_optimizer_that_has_no_second_moment(run):
    plain_sgd = open_loop(signal(np.ones(50)), [OptimizerSpec("sgd", lr=0.1)])
    assert standing(plain_sgd) is None
    assert "no second moment is kept by sgd" in dict(view_outlook(run, Outlook((plain_sgd,))).facts)["optimizer"]


def test_a_rate_that_starts_at_zero():
    """A warmup from zero has no first rate: growth counts from where the second moment was highest, or the first above zero."""
    rising = open_loop(signal(np.exp(STEP / 40.0), lr=STEP * 1e-3), [OptimizerSpec("adam", lr=0.2, beta2=0.9)])
    stands = standing(rising)
    assert (stands.since, stands.fallen) == (199, 1.0)
    assert 0.0 < stands.grown < math.inf


def test_a_page_with_an_outlook(run):
    page = render_replay(run, replay_of(RECORDED), outlook_of(AHEAD, probe=(150, 20.0)))
    for words in (
        "Where the optimizer stands",
        "is met at step 240",
        "What was assumed",
        "Effective learning rate",
        "Stability margin",
    ):
        assert words in page
    assert "Where the optimizer stands" not in render_replay(run, replay_of(RECORDED))
    hostile = Outlook((replace(outlook_of().layers[0], name=HOSTILE),), refusal="", remarks=(HOSTILE,))
    assert "<script>alert" not in render_replay(run, replay_of(RECORDED), hostile)


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


def test_the_bars_of_the_page_leave_out_what_was_not_decided(run):
    """Neither the curve of a change that was not tried, nor how far another diverges, sets the scale of the others."""
    wild = trial("lr 9", "not tried", 1.0, np.full(200, 1e200))
    lost = trial("lr 5", "worse", 1.0, np.full(200, 1e90))
    page = render_replay(run, replay_of(RECORDED, REPAIRS, wild, lost))
    assert "e200" not in page.partition("<script")[0]
    high = float(re.search(r'Loss, <span class="nb">\S+ to ([\d.,e+]+)<', page)[1].replace(",", ""))
    assert 100.0 <= high < 1e4
