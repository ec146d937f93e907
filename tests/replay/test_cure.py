import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from traindoctor.model import OptimizerSpec
from traindoctor.pipeline import diagnose_run
from traindoctor.readers.discover import read_runs
from traindoctor.registry import load_rules
from traindoctor.replay.cure import BOUND_DECADES, BOUND_ONSET, nice_above, repairs, replay_collapse, tried_fixes
from traindoctor.rule import run_of
from traindoctor.signals.measurements import Measurements

FIXTURES = Path(__file__).parents[2] / "fixtures" / "sick"
ADAM = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
SGD = OptimizerSpec("sgd", lr=0.1, momentum=0.9)


@functools.cache
def measured(case):
    (run,) = read_runs(FIXTURES / case)
    return Measurements(run)


@functools.cache
def replayed(case):
    return replay_collapse(measured(case))


def verdicts(replay):
    return {trial.title: trial.verdict for trial in replay.trials}


# -- the perceptron, against what retraining said ---------------------------------------------------------------------


def test_the_perceptron_is_reproduced_within_the_bound():
    replay, rebound = replayed("overtrained-perceptron"), measured("overtrained-perceptron").loss.rebound
    assert replay.depth == "closed"
    assert replay.reproduces, replay.refusal
    assert replay.refusal == ""
    assert replay.error <= BOUND_DECADES == replay.bound
    late = replay.residual.step >= rebound.onset
    assert float(np.median(np.abs(replay.residual.value[late]))) == pytest.approx(replay.error)
    np.testing.assert_array_equal(replay.reproduced.step, replay.residual.step)
    assert replay.segment.onset == rebound.onset
    floor = replay.reproduced.value[(replay.reproduced.step > 500) & (replay.reproduced.step < 1500)]
    assert abs(np.log10(np.median(floor) / rebound.floor)) < 0.5


@pytest.mark.parametrize("change", ["eps 0.0001", "eps 0.001", "eps 0.01", "beta2 0.99"])
def test_what_does_not_repair_the_perceptron(change):
    assert verdicts(replayed("overtrained-perceptron"))[change] in ("no effect", "postpones", "worse")


@pytest.mark.parametrize("change", ["eps 0.1", "eps 1", "amsgrad", "linear decay to 0", "cosine decay to 0"])
def test_what_repairs_the_perceptron(change):
    assert verdicts(replayed("overtrained-perceptron"))[change] == "repairs"


def test_a_smaller_beta1_makes_it_worse_and_a_clip_does_nothing():
    found = verdicts(replayed("overtrained-perceptron"))
    assert found["beta1 0.5"] == "worse"
    assert found["beta1 0"] == "worse"
    (clip,) = [title for title in found if title.startswith("clip")]
    assert found[clip] in ("no effect", "worse")


def test_the_eps_that_is_offered_has_the_right_size():
    replay = replayed("overtrained-perceptron")
    offered = [t for t in repairs(replay) if "optimizer.eps" in t.settings]
    assert len(offered) == 1
    assert 0.05 <= offered[0].settings["optimizer.eps"] <= 0.5
    assert repairs(replay)[0] is offered[0]
    assert all(t.verdict == "repairs" for t in repairs(replay))


def test_every_trial_becomes_a_fix_with_its_verdict():
    replay = replayed("overtrained-perceptron")
    fixes = tried_fixes(replay, measured("overtrained-perceptron").optimizer)
    assert len(fixes) == len(replay.trials) - 1
    order = ("repairs", "postpones", "no effect", "worse", "not tried")
    assert [order.index(f.replay.verdict) for f in fixes] == sorted(order.index(f.replay.verdict) for f in fixes)
    assert fixes[0].title == "Raise eps from 1e-08 to 0.1"
    for fix in fixes:
        assert fix.replay.depth == "closed"
        assert fix.replay.before["tail_loss_max"] == replay.trials[0].tail_max
    assert replay.trials[0].settings == {}


def test_the_replay_of_a_log_is_always_the_same():
    """Also with other objects, as in another process."""
    (run,) = read_runs(FIXTURES / "overtrained-perceptron-loss-only")
    again, before = replay_collapse(Measurements(run)), replayed("overtrained-perceptron-loss-only")
    assert again.error == before.error
    np.testing.assert_array_equal(again.reproduced.value, before.reproduced.value)
    assert [(t.title, t.verdict, t.tail_max, t.slower) for t in again.trials] == [
        (t.title, t.verdict, t.tail_max, t.slower) for t in before.trials
    ]


# -- loss alone -------------------------------------------------------------------------------------------------------


def test_loss_alone_gives_no_eps_but_shape():
    replay = replayed("overtrained-perceptron-loss-only")
    assert replay.reproduces, replay.refusal
    tried = [key for trial in replay.trials for key in trial.settings]
    assert "optimizer.eps" not in tried
    assert "gradient.clip_norm" not in tried
    found = verdicts(replay)
    assert found["amsgrad"] == found["linear decay to 0"] == found["cosine decay to 0"] == "repairs"
    assert found["beta1 0.5"] == "worse"
    assert found["beta2 0.99"] != "repairs"


# -- where it has to refuse -------------------------------------------------------------------------------------------


def collapse(rise=120, n=500):
    """Return a loss that falls by ten decades, stays, and climbs over `rise` points (at once where that is 1)."""
    floor = [1e-10 * (1.0 + 0.3 * ((k * 7) % 5 - 2)) for k in range(260)]
    fall, top = [10.0 ** -(k / 4.0) for k in range(40)], n - 300
    return [*fall, *floor, *(10.0 ** min(-10.0 + 7.0 * (k + 1) / rise, -3.0) for k in range(top))]


def refusal_of(spec=ADAM, unit="step", every=10, **quantities):
    run = replace(run_of(spec, every=every, **quantities), step_unit=unit)
    return replay_collapse(Measurements(run))


def test_nothing_to_replay():
    assert refusal_of(SGD, loss=collapse()) is None
    assert refusal_of(None, loss=collapse()) is None
    assert refusal_of(loss=collapse()[:290]) is None
    assert refusal_of(loss=[1.0, 1e-9, 1.0]) is None
    assert refusal_of(loss=[-1.0 - 0.01 * k for k in range(300)]) is None


@pytest.mark.parametrize("unit", ["epoch", "row"])
def test_a_log_of_epochs_is_refused_with_the_reason(unit):
    replay = refusal_of(unit=unit, every=1, loss=collapse())
    assert not replay.reproduces
    assert unit in replay.refusal
    assert replay.trials == ()
    assert replay.reproduced is None
    assert np.isnan(replay.error)


def test_too_few_points_after_the_onset_are_refused():
    replay = refusal_of(loss=[*(10.0**-k for k in range(8)), *[1e-8] * 18, *[1e-2] * 4])
    assert not replay.reproduces
    assert "six points" in replay.refusal
    assert replay.trials == ()


@pytest.mark.parametrize("with_norm", [False, True])
def test_a_rise_within_one_step_is_not_put_down_to_a_collapse(with_norm):
    """A resume that lost the optimizer's state, every step logged: something is wrong, but TD101 is not named for it."""
    loss = collapse(rise=1)
    norm = {"grad_norm": [(200.0 * v) ** 0.5 for v in loss]} if with_norm else {}
    report = diagnose_run(run_of(ADAM, loss=loss, **norm), load_rules().causes)
    assert report.verdict in ("undecided", "suspicious", "failed")
    assert not [f for f in report.findings if f.code == "TD101" and f.severity != "info"]
    assert report.replay is None or report.replay.reproduces or report.replay.trials == ()


def test_a_rise_between_two_logged_points_speaks_against_a_collapse():
    """With one value in ten steps nothing tells a rise of one step from a steep one; the finding has to say so."""
    report = diagnose_run(run_of(ADAM, every=10, loss=collapse(rise=1)), load_rules().causes)
    for finding in report.findings:
        if finding.code == "TD101":
            assert "jump" in [e.name for e in finding.evidence if not e.supports]


def test_nice_numbers():
    assert [nice_above(v) for v in (0.07, 0.1, 0.11, 1.0, 2.0, 2.1, 5.1, 3e-9)] == [0.1, 0.1, 0.2, 1.0, 2.0, 5.0, 10.0, 5e-9]
    assert nice_above(0.1 * (1.0 + 1e-9)) == 0.1
    assert BOUND_ONSET < 1.0
