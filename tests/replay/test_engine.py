import functools
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.replay.quadratics import Quadratic, Training, log_of, train
from traindoctor.model import OptimizerSpec, Series
from traindoctor.readers.discover import read_runs
from traindoctor.replay.engine import SURE, _interval, compared, replay_run
from traindoctor.signals.measurements import Measurements

FIXTURES = Path(__file__).parents[2] / "fixtures"
SGD = OptimizerSpec("sgd", lr=0.05)
ADAM = OptimizerSpec("adam", lr=0.003, beta1=0.9, beta2=0.999, eps=1e-8)
CURVATURES = np.repeat([10.0, 1.0, 0.1], 20)
VERDICTS = ("repairs", "postpones", "no effect", "worse", "not tried")


def measured(spec=SGD, noise=0.05, floor=0.01, n_steps=1000, with_norm=True, **log):
    made = Quadratic(CURVATURES, 0.6 * np.sqrt(2.0 / CURVATURES / 20.0), np.full(60, noise / np.sqrt(60.0)), floor)
    (loss,), (norm,) = train(made, Training(spec, np.full(n_steps, spec.lr)))
    return Measurements(log_of(spec, loss, norm if with_norm else None, **log))


def trials(replay):
    return {trial.title: trial for trial in replay.trials}


# -- the over-trained perceptron, against the table of what retraining said ------------------------------------------------


@functools.cache
def perceptron():
    (run,) = read_runs(FIXTURES / "sick" / "overtrained-perceptron")
    changes = [
        *({"optimizer.eps": eps} for eps in (1e-4, 1e-3, 1e-2, 0.1)),
        *({"optimizer.betas": betas} for betas in ([0.9, 0.99], [0.5, 0.999])),
        {"optimizer.amsgrad": True},
        {"schedule.name": "cosine"},
        {"precision": "float64"},
    ]
    return replay_run(Measurements(run), changes=changes, auto=False)


def test_the_perceptron_is_a_collapse_of_the_second_moment():
    replay = perceptron()
    assert replay.reproduces, replay.refusal
    first = replay.hypotheses[0]
    assert (first.code, first.name) == ("TD101", "second-moment-collapse")
    assert first.share > 0.9
    assert replay.depth == "closed"


@pytest.mark.parametrize("change", ["eps 0.0001", "eps 0.001", "eps 0.01", "beta2 0.99", "beta1 0.5"])
def test_what_does_not_repair_the_perceptron(change):
    trial = trials(perceptron())[change]
    assert trial.verdict in ("no effect", "postpones", "worse")
    assert trial.sureness > 0.5


@pytest.mark.parametrize("change", ["eps 0.1", "amsgrad", "cosine decay to 0"])
def test_what_repairs_the_perceptron(change):
    trial = trials(perceptron())[change]
    assert trial.verdict == "repairs"
    assert trial.sureness > 0.5
    assert trial.tail_interval[1] < trials(perceptron())["as recorded"].tail_interval[0]


def test_a_smaller_beta1_is_worse_for_the_perceptron():
    assert trials(perceptron())["beta1 0.5"].verdict == "worse"


def test_what_no_replay_knows_is_not_tried():
    trial = trials(perceptron())["precision float64"]
    assert trial.verdict == "not tried"
    assert "precision" in trial.note


# -- healthy runs -----------------------------------------------------------------------------------------------------

QUICK = ("converged-plateau", "digits-adam-csv-epochs", "digits-sgd-cosine", "four-tasks", "saddle-torch", "perceptron-cosine")


def healthy_case(case):
    for run in read_runs(FIXTURES / "healthy" / case):
        replay = replay_run(Measurements(run), auto=False)
        assert not replay.hypotheses or replay.hypotheses[0].name != "second-moment-collapse"
        assert replay.reproduces or replay.trials == ()


@pytest.mark.parametrize("case", QUICK)
def test_no_healthy_run_is_put_down_to_a_collapse(case):
    healthy_case(case)


@pytest.mark.slow
@pytest.mark.parametrize("case", sorted(p.name for p in (FIXTURES / "healthy").iterdir() if p.is_dir() and p.name not in QUICK))
def test_no_other_healthy_run_is_either(case):
    healthy_case(case)


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "run"),
    [
        ("no training loss", replace(log_of(SGD, [1.0]), series=(), primary={})),
        ("one value per epoch", log_of(SGD, np.geomspace(1.0, 0.1, 50), step_unit="epoch")),
        ("no optimizer", log_of(None, np.geomspace(1.0, 0.1, 50))),
        ("lion", log_of(OptimizerSpec("lion", lr=1e-4, beta1=0.9, beta2=0.99), np.geomspace(1.0, 0.1, 50))),
        ("too few", log_of(SGD, np.geomspace(1.0, 0.1, 8))),
        ("not positive", log_of(SGD, np.linspace(1.0, -1.0, 50))),
        ("did not fall by", log_of(SGD, 1.0 + 0.01 * np.random.default_rng(2).standard_normal(400))),
        ("decay rate of 1", log_of(replace(ADAM, beta2=1.0), np.geomspace(1.0, 0.1, 50))),
        ("learning rate", log_of(OptimizerSpec("sgd"), np.geomspace(1.0, 0.1, 50))),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_refusal_says_why_and_claims_nothing(reason, run):
    replay = replay_run(Measurements(run), changes=[{"optimizer.lr": 1e-3}])
    assert not replay.reproduces
    assert reason in replay.refusal
    assert replay.trials == ()
    assert replay.depth == "closed"


def test_a_cause_that_the_replay_does_without_is_not_confirmed():
    replay = replay_run(measured(), cause="TD301", auto=False)
    assert not replay.reproduces
    assert "TD301" in replay.refusal
    assert replay_run(measured(), auto=False).reproduces


def test_a_model_that_misses_the_log_is_no_reproduction():
    wild = 10.0 ** np.random.default_rng(0).uniform(-3.0, 3.0, 300)
    replay = replay_run(Measurements(log_of(SGD, wild)))
    assert not replay.reproduces
    assert "misses" in replay.refusal
    assert replay.trials == ()


# -- trials -----------------------------------------------------------------------------------------------------------

FLOOR_HELD = {"optimizer.lr": 0.1}
TOO_FAR = {"optimizer.lr": 1e-5}
UNKNOWN = {"optimizer.colour": 1.0}


@functools.cache
def floored():
    """A run that has come down to a floor of its own."""
    return replay_run(measured(n_steps=3000), changes=[FLOOR_HELD, TOO_FAR, UNKNOWN, {"batch_size": 8}], auto=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("lr 0.1", "holds the loss up"),
        ("lr 1e-05", "too far"),
        ("colour 1", "nothing that the closed loop"),
        ("batch size 8", "not known"),
    ],
)
def test_what_the_log_does_not_decide_is_not_tried(change, reason):
    trial = trials(floored())[change]
    assert trial.verdict == "not tried"
    assert reason in trial.note


@functools.cache
def noisy():
    """A run whose loss the noise holds up: a smaller step, or a larger batch, brings it down."""
    m = measured(noise=3.0, floor=0.0, n_steps=2000, batch_size=32)
    changes = [{"optimizer.lr": 0.02}, {"batch_size": 128}, {"schedule.name": "cosine"}, {"batch_size": 8}]
    return replay_run(m, changes=changes, auto=False)


def test_noise_is_made_out_and_what_quiets_it_repairs():
    replay = noisy()
    assert replay.hypotheses[0].name == "noise-floor"
    assert trials(replay)["batch size 128"].verdict in ("repairs", "not tried")
    assert trials(replay)["batch size 128"].tail_max == pytest.approx(trials(replay)["as recorded"].tail_max / 4.0, rel=0.25)
    assert trials(replay)["batch size 8"].verdict != "repairs"
    assert trials(replay)["cosine decay to 0"].tail_max < trials(replay)["as recorded"].tail_max


@pytest.mark.parametrize("made", [floored, noisy], ids=["floor", "noise"])
def test_what_a_trial_says_is_within_its_bounds(made):
    replay = made()
    assert replay.reproduces, replay.refusal
    assert replay.error <= replay.bound
    assert replay.trials[0].settings == {}
    assert replay.trials[0].verdict == "no effect"
    for trial in replay.trials:
        assert trial.verdict in VERDICTS
        if trial.sureness is not None:
            assert -1e-9 <= trial.sureness <= 1.0 + 1e-9
            assert trial.sureness >= SURE or trial.verdict == "not tried"
        if trial.tail_interval is not None:
            assert 0.0 < trial.tail_interval[0] <= trial.tail_interval[1]
            assert trial.tail_interval[0] / 1.2 <= trial.tail_max <= 1.2 * trial.tail_interval[1]
        if trial.verdict == "not tried":
            assert trial.note
        if trial.loss.step.size:
            np.testing.assert_array_equal(trial.loss.step, replay.reproduced.step)
            assert np.all(trial.loss.low <= trial.loss.high)
            assert trial.loss.interval.startswith("5 to 95 % of ")
    np.testing.assert_allclose(trials(replay)["as recorded"].loss.value, replay.reproduced.value, rtol=1e-9)


def test_the_interval_of_a_curve_is_that_of_its_weighted_draws():
    draws = np.arange(100.0)[None, :, None] * np.array([1.0, 10.0])
    low, high = _interval(draws, np.full(100, 0.01))
    np.testing.assert_array_equal(low, [[4.0, 40.0]])
    np.testing.assert_array_equal(high, [[94.0, 940.0]])
    low, high = _interval(draws, np.where(np.arange(100) == 7, 1.0, 0.0))
    np.testing.assert_array_equal(low, high)
    np.testing.assert_array_equal(high, [[7.0, 70.0]])
    _, high = _interval(np.where(draws > 50, np.nan, draws), np.full(100, 0.01))
    assert np.isinf(high).all()


def test_the_residual_is_the_reproduction_over_the_log():
    replay = noisy()
    assert float(np.median(np.abs(replay.residual.value))) == pytest.approx(replay.error)
    np.testing.assert_array_equal(replay.residual.step, replay.reproduced.step)


def test_the_usual_changes_are_tried_unasked():
    m = measured(batch_size=32, n_steps=400)
    titles = [t.title for t in replay_run(m).trials]
    assert {"as recorded", "cosine decay to 0", "linear decay to 0", "batch size 128"} <= set(titles)
    assert "gradients cleared" not in titles
    assert sum(t.startswith("lr ") for t in titles) == 3
    assert [t.title for t in replay_run(m, auto=False).trials] == ["as recorded"]


def test_the_replay_of_a_log_is_always_the_same():
    one, other = (replay_run(measured(n_steps=400), changes=[{"optimizer.lr": 0.02}], auto=False) for _ in range(2))
    assert one.error == other.error
    assert [(h.name, h.share) for h in one.hypotheses] == [(h.name, h.share) for h in other.hypotheses]
    assert [(t.verdict, t.tail_max, t.sureness) for t in one.trials] == [
        (t.verdict, t.tail_max, t.sureness) for t in other.trials
    ]


def test_a_replay_of_one_cause_is_compared_with_the_others():
    m = measured(n_steps=400)
    own = replay_run(m, auto=False)
    made = compared(m, own, "TD999", "some-cause")
    assert "some-cause" in [h.name for h in made.hypotheses]
    assert sum(h.share for h in made.hypotheses) == pytest.approx(1.0)
    refused = replace(own, reproduces=False)
    assert compared(m, refused, "TD999", "some-cause") is refused


# -- any log ----------------------------------------------------------------------------------------------------------

SPECS = (
    SGD,
    replace(SGD, momentum=0.9, nesterov=True),
    replace(SGD, momentum=1.0),
    ADAM,
    replace(ADAM, eps=0.0),
    replace(ADAM, lr=0.0),
    replace(ADAM, beta1=0.0, beta2=0.0, eps=0.0),
    OptimizerSpec("adamw", lr=1e-3, weight_decay=0.1),
    OptimizerSpec("nadam", lr=1e-3),
    OptimizerSpec("rmsprop", lr=1e-3, alpha=0.99, eps=1e-8, momentum=0.9),
    OptimizerSpec("adagrad", lr=1e-2, eps=1e-10),
    OptimizerSpec("adam"),
    OptimizerSpec("sgd", lr=1e-320),
    OptimizerSpec("sgd", lr=1e300),
    OptimizerSpec("lion", lr=1e-4),
)
ANY = st.one_of(
    st.floats(1e-3, 1e3),
    st.floats(5e-324, 1e-200),
    st.floats(1e200, 1.7e308),
    st.just(1.0),
    st.sampled_from([0.0, np.nan, np.inf]),
)
TAME = st.floats(1e-3, 1e3)


@st.composite
def logs(draw):
    n = draw(st.integers(1, 26))
    loss = draw(st.lists(draw(st.sampled_from([TAME, TAME, ANY])), min_size=n, max_size=n))
    if draw(st.booleans()):
        loss = list(np.sort(loss)[::-1])
    norm = draw(st.none() | st.lists(draw(st.sampled_from([TAME, ANY])), min_size=n, max_size=n))
    lr = draw(st.none() | st.lists(st.sampled_from([0.0, 1e-3, 1e-2, 1e-300, np.nan]), min_size=n, max_size=n))
    run = log_of(draw(st.sampled_from(SPECS)), loss, norm, lr=lr, restarts=draw(st.sampled_from([(), (n // 2,)])), batch_size=32)
    step = np.sort(
        np.array(draw(st.lists(st.integers(0, draw(st.sampled_from([20, 10**6]))), min_size=n, max_size=n)), dtype=np.int64)
    )
    made = tuple(Series(s.quantity, s.tag, step, s.value, s.wall_time, s.source) for s in run.series)
    return replace(run, series=made, primary={s.quantity: s for s in made})


@settings(max_examples=30, deadline=None)
@given(run=logs())
def test_any_log_makes_a_replay_and_no_warning(run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replay = replay_run(Measurements(run), changes=[{"optimizer.lr": 1e-2}, {"gradient.clip_norm": 0.1}])
    assert replay.reproduces == (not replay.refusal)
    assert replay.reproduces or not replay.trials
    for trial in replay.trials:
        assert trial.verdict in VERDICTS
        assert not np.isnan(trial.loss.value).any()
