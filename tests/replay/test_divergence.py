import warnings

import numpy as np
import pytest

from tests.replay.quadratics import Quadratic, Training, log_of, train
from traindoctor.model import OptimizerSpec
from traindoctor.optim.stability import stability_limit
from traindoctor.replay.divergence import BOUND_DECADES, LR_MARGIN, replay_divergence
from traindoctor.signals.measurements import Measurements

#: One steep mode beside many flat ones: a learning rate of 0.2 and more is too much for it.
CURVATURE = 10.0
PROBLEM = Quadratic(np.append(np.full(19, 0.05), CURVATURE), np.append(np.full(19, 1.0), 1e-3), np.zeros(20), 0.01)
SPECS = {
    "sgd": OptimizerSpec("sgd"),
    "heavy ball": OptimizerSpec("sgd", momentum=0.9),
    "nesterov": OptimizerSpec("sgd", momentum=0.9, nesterov=True),
}


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def at(name, share):
    """Return a spec whose rate is `share` of what the steep mode bears."""
    spec = SPECS[name]
    return OptimizerSpec("sgd", lr=share * stability_limit(spec) / CURVATURE, momentum=spec.momentum, nesterov=spec.nesterov)


def losses(spec, n_steps, factor=1.0, clip=np.inf):
    (loss,), _ = train(PROBLEM, Training(spec, np.full(n_steps, factor * spec.lr), clip))
    return loss


def measured(spec, n_steps=120):
    return Measurements(log_of(spec, losses(spec, n_steps)))


def verdicts(replay):
    return {trial.title: trial.verdict for trial in replay.trials}


EACH = pytest.mark.parametrize("name", SPECS)


@EACH
def test_the_growth_is_reproduced_and_the_limit_found(name):
    spec = at(name, 1.1)
    replay = replay_divergence(measured(spec))
    assert replay.reproduces, replay.refusal
    assert replay.error <= replay.bound == BOUND_DECADES
    assert replay.trials[0].settings == {}
    # one rate of the ladder lies just about the limit, the others below
    good = [t.settings["optimizer.lr"] for t in replay.trials[1:] if t.verdict == "repairs"]
    limit = spec.lr / 1.1
    assert good
    assert limit / 4.0 / LR_MARGIN < max(good) <= limit


@EACH
@pytest.mark.parametrize("factor", [0.1, 0.5, 0.8, 1.0, 1.5])
def test_a_rate_repairs_where_training_says_so(name, factor):
    spec = at(name, 1.1)
    (trial,) = replay_divergence(measured(spec), [{"optimizer.lr": factor * spec.lr}], auto=False).trials[1:]
    stable = losses(spec, 120, factor)[-1] <= losses(spec, 120)[0]
    assert (trial.verdict == "repairs") == stable


def test_a_smaller_momentum_moves_the_limit():
    """2 (1 + mu): without momentum the heavy ball's rate is too much by 1.9 times as far."""
    found = verdicts(replay_divergence(measured(at("heavy ball", 1.1)), [{"optimizer.momentum": 0.0}], auto=False))
    assert found["momentum 0"] != "repairs"
    found = verdicts(replay_divergence(measured(at("sgd", 1.3)), [{"optimizer.momentum": 0.9}], auto=False))
    assert found["momentum 0.9"] == "repairs"


def test_near_the_limit_a_repair_says_so():
    spec = at("sgd", 1.1)
    near, far = replay_divergence(
        measured(spec), [{"optimizer.lr": 0.8 * spec.lr}, {"optimizer.lr": 0.1 * spec.lr}], auto=False
    ).trials[1:]
    assert near.verdict == far.verdict == "repairs"
    assert "stability limit" in near.note
    assert far.note == ""


def test_a_decay_that_comes_after_the_damage_is_not_called_a_repair():
    spec = at("sgd", 1.5)
    m = measured(spec, 60)
    (cosine,) = replay_divergence(m, [{"schedule.name": "cosine"}], auto=False).trials[1:]
    lr = spec.lr * 0.5 * (1.0 + np.cos(np.pi * np.arange(60) / 60))
    (loss,), _ = train(PROBLEM, Training(spec, lr))
    assert loss.max() > 1e4 * loss[0]  # what the trained quadratic goes through
    assert cosine.verdict != "repairs"


def test_a_clip_bounds_the_growth():
    spec = at("sgd", 1.1)
    m = measured(spec)
    (clipped,) = replay_divergence(m, [{"gradient.clip_norm": 0.01}], auto=False).trials[1:]
    recorded = losses(spec, 120)
    assert clipped.tail_max < recorded[-1] / 100.0
    truth = losses(spec, 120, clip=0.01)[-1]
    assert clipped.tail_max < 100.0 * truth


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"optimizer.eps": 0.1}, "stability"),
        ({"batch_size": 64}, "batch size"),
        ({"optimizer.colour": 1}, "colour"),
        ({"optimizer.lr": 0.01, "optimizer.eps": 0.1}, "stability"),
    ],
)
def test_what_does_not_bear_on_one_mode_is_not_tried(change, word):
    (trial,) = replay_divergence(measured(at("sgd", 1.1)), [change], auto=False).trials[1:]
    assert trial.verdict == "not tried"
    assert word in trial.note
    assert np.isnan(trial.tail_max)
    assert trial.loss.step.size == 0


@pytest.mark.parametrize("name", ["lion", "adamax", "adam", "rmsprop", "muon", "adagrad"])
def test_other_optimizers_do_not_diverge_like_this(name):
    loss = losses(at("sgd", 1.1), 120)
    assert replay_divergence(Measurements(log_of(OptimizerSpec(name, lr=0.2), loss))) is None


def test_no_growth_is_nothing_to_replay():
    assert replay_divergence(measured(at("sgd", 0.5))) is None
    assert replay_divergence(Measurements(log_of(OptimizerSpec("sgd"), losses(at("sgd", 1.1), 120)))) is None
    assert replay_divergence(Measurements(log_of(None, np.geomspace(1.0, 1e9, 50)))) is None
    assert replay_divergence(Measurements(log_of(at("sgd", 1.1), np.geomspace(1.0, 1e9, 4)))) is None
    assert replay_divergence(Measurements(log_of(at("sgd", 1.1), np.geomspace(1.0, 20.0, 50)))) is None
    assert replay_divergence(Measurements(log_of(at("sgd", 1.1), np.geomspace(1.0, 1e9, 50), step_unit="epoch"))) is None


def test_growth_that_is_not_exponential_is_refused():
    loss = 10.0 ** (12.0 * (np.arange(120) / 119.0) ** 0.2)
    replay = replay_divergence(Measurements(log_of(at("sgd", 1.1), loss)))
    assert replay is not None
    assert not replay.reproduces
    assert "not exponential" in replay.refusal
    assert replay.trials == ()


@pytest.mark.parametrize("top", [1e30, 1e200, 1e307])
@pytest.mark.parametrize("name", SPECS)
def test_huge_losses_are_no_error(name, top):
    m = Measurements(log_of(at(name, 1.1), np.geomspace(1e-300 if top > 1e300 else 1.0, top, 200)))
    changes = [{"optimizer.lr": 1e300}, {"optimizer.lr": 0.0}, {"optimizer.momentum": 0.99}, {"gradient.clip_norm": 1e-300}]
    replay = replay_divergence(m, changes)
    assert replay.segment.stop == 200
    for trial in replay.trials:
        assert not np.isnan(trial.loss.value).any()
