"""Planted causes on quadratics that are really trained: each has to come out as the likeliest of those that are simulated."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from tests.replay.quadratics import Quadratic, Training, log_of, train
from traindoctor.model import OptimizerSpec
from traindoctor.optim import sgd
from traindoctor.replay.modes import linear_form
from traindoctor.replay.rivals import accumulating, middle_of, noise_share, observation, rivals, weigh
from traindoctor.signals.measurements import Measurements

SGD = OptimizerSpec("sgd", lr=0.05)
ADAM = OptimizerSpec("adam", lr=0.003, beta1=0.9, beta2=0.999, eps=1e-8)
CURVATURES = np.repeat([10.0, 1.0, 0.1], 20)
START = 0.6 * np.sqrt(2.0 / CURVATURES / 20.0)
ALIKE = Quadratic(np.full(40, 2.0), np.full(40, 0.2), np.full(40, 0.02), 0.001)


def problem(noise=0.05, floor=0.01):
    return Quadratic(CURVATURES, START, np.full(60, noise / np.sqrt(60.0)), floor)


def measured(made, spec, n_steps=1500, every=1, with_norm=True, restarts=(), **training):
    (loss,), (norm,) = train(made, Training(spec, np.full(n_steps, spec.lr), **training))
    return Measurements(log_of(spec, loss, norm if with_norm else None, every=every, restarts=restarts))


PLANTED = {
    "healthy, sgd": ("healthy", lambda: measured(problem(), SGD)),
    "healthy, adam": ("healthy", lambda: measured(problem(), ADAM)),
    "healthy, adam, one in ten steps": ("healthy", lambda: measured(problem(), ADAM, every=10)),
    "noise, sgd": ("noise-floor", lambda: measured(problem(3.0, 0.0), SGD)),
    "noise, adam": ("noise-floor", lambda: measured(problem(3.0, 0.0), replace(ADAM, lr=0.02))),
    "eps": ("epsilon-too-large", lambda: measured(problem(), replace(ADAM, lr=0.02, eps=10.0))),
    "gradients add up": ("zero-grad-missing", lambda: measured(ALIKE, replace(SGD, lr=1e-4), accumulates=True)),
    "bad batch, sgd": ("bad-batch", lambda: measured(problem(), SGD, thrown={800: 1.0})),
    "bad batch, adam": ("bad-batch", lambda: measured(problem(), ADAM, thrown={800: 1.0})),
}
EACH = pytest.mark.parametrize("case", PLANTED)


@functools.cache
def compared(case):
    """Return the measurements, the log on stretches, and the causes."""
    m = PLANTED[case][1]()
    obs = observation(m)
    return m, obs, rivals(m, obs)


@functools.cache
def hypotheses(case):
    m, obs, found = compared(case)
    return weigh(found, m, obs)


@EACH
def test_the_planted_cause_is_the_likeliest(case):
    first = hypotheses(case)[0]
    assert first.name == PLANTED[case][0]
    assert first.share > 0.9
    assert first.error < 0.1


@EACH
def test_shares_are_a_distribution_in_falling_order(case):
    shares = [h.share for h in hypotheses(case)]
    assert sum(shares) == pytest.approx(1.0)
    assert shares == sorted(shares, reverse=True)
    assert all(np.isfinite(h.log_likelihood) and h.error >= 0.0 for h in hypotheses(case))
    assert len({h.name for h in hypotheses(case)}) == len(shares)


@EACH
def test_a_hypothesis_shows_its_run_at_logged_steps(case):
    m, obs, _ = compared(case)
    for hypothesis in hypotheses(case):
        assert hypothesis.curve.step.shape == hypothesis.curve.value.shape == obs.loss.shape
        assert (np.diff(hypothesis.curve.step) > 0).all()
        assert m.loss.step[0] <= hypothesis.curve.step[0]
        assert hypothesis.curve.step[-1] <= m.loss.step[-1]
    np.testing.assert_array_equal(hypotheses(case)[0].curve.step, middle_of(m, obs))


def test_the_same_log_gives_the_same_shares():
    m = PLANTED["bad batch, sgd"][1]()
    obs = observation(m)
    again = weigh(rivals(m, obs), m, obs)
    before = hypotheses("bad batch, sgd")
    assert [(h.name, h.share, h.log_likelihood, h.error) for h in again] == [
        (h.name, h.share, h.log_likelihood, h.error) for h in before
    ]


def test_the_place_of_a_bad_batch_is_named():
    assert "800" in next(h.note for h in hypotheses("bad batch, sgd") if h.name == "bad-batch")


def test_a_loss_alone_does_not_speak_of_eps():
    m = measured(problem(), replace(ADAM, lr=0.02, eps=10.0), with_norm=False)
    obs = observation(m)
    assert "epsilon-too-large" not in [r.name for r in rivals(m, obs)]


def test_the_share_of_noise_is_that_of_training_without_it():
    _, obs, found = compared("noise, sgd")
    fit = next(r.fit for r in found if r.name == "noise-floor")
    (noisy,), _ = train(problem(3.0, 0.0), Training(SGD, np.full(1500, SGD.lr)))
    (calm,), _ = train(problem(0.0, 0.0), Training(SGD, np.full(1500, SGD.lr)))
    true = 1.0 - calm[-250:].mean() / noisy[-250:].mean()
    np.testing.assert_allclose(noise_share(obs, fit)[0], true, atol=0.1)


def test_lost_and_reset_moments_are_asked_about_only_at_a_restart():
    without = [r.name for r in compared("healthy, adam")[2]]
    assert not {"optimizer-state-lost", "step-count-lost"} & set(without)
    m = measured(problem(1.0, 0.0), ADAM, restarts=(700,))
    found = {r.name: r for r in rivals(m, observation(m))}
    for name in ("optimizer-state-lost", "step-count-lost"):
        assert "700" in found[name].note
    m = measured(problem(1.0, 0.0), SGD, restarts=(700,))
    assert "optimizer-state-lost" not in [r.name for r in rivals(m, observation(m))]


def test_gradients_that_add_up_are_heavy_ball_with_a_momentum_of_one():
    """The form against the recurrence that is fed the sum of all gradients, in one coordinate."""
    spec = OptimizerSpec("sgd", lr=1e-2)
    form, gain = accumulating(linear_form(spec), spec)
    assert gain == 1.0
    x, b, weight, summed, state = 1.0, 0.0, np.array([1.0]), np.zeros(1), sgd.start((1,))
    for _ in range(300):
        b = float(form.c) * b + float(form.f) * x
        x -= 1e-2 * float(form.p) * b
        summed = summed + weight
        update, state = sgd.step(summed, state, lr=1e-2)
        weight = weight + update
        assert x == pytest.approx(weight[0], abs=1e-9)
    assert accumulating(linear_form(OptimizerSpec("sgd", momentum=0.9)), OptimizerSpec("sgd", momentum=0.9))[1] == pytest.approx(
        10.0
    )
    assert accumulating(linear_form(ADAM), ADAM)[1] == 1.0


@pytest.mark.parametrize(
    ("reason", "run"),
    [
        ("no optimizer", log_of(None, np.geomspace(1.0, 0.1, 50))),
        ("lion", log_of(OptimizerSpec("lion", lr=0.1), np.geomspace(1.0, 0.1, 50))),
        ("one value per epoch", log_of(SGD, np.geomspace(1.0, 0.1, 50), step_unit="epoch")),
        ("11 points", log_of(SGD, np.geomspace(1.0, 0.1, 11))),
        ("not positive", log_of(SGD, np.linspace(1.0, -1.0, 50))),
        ("not positive", log_of(SGD, np.zeros(50))),
        ("decay rate of 1", log_of(OptimizerSpec("adam", lr=0.1, beta1=1.0), np.geomspace(1.0, 0.1, 50))),
        ("learning rate", log_of(OptimizerSpec("sgd"), np.geomspace(1.0, 0.1, 50))),
        ("learning rate", log_of(SGD, np.geomspace(1.0, 0.1, 50), lr=np.zeros(50))),
        ("not finite", log_of(SGD, np.append(np.geomspace(1.0, 0.1, 50), np.nan))),
    ],
)
def test_what_cannot_be_fitted_has_its_reason(reason, run):
    made = observation(Measurements(run))
    assert isinstance(made, str)
    assert reason in made


def test_a_norm_of_zero_somewhere_is_left_out():
    norm = np.geomspace(1.0, 0.1, 50)
    norm[20] = 0.0
    assert observation(Measurements(log_of(SGD, np.geomspace(1.0, 0.1, 50), norm))).grad_sq is None


def test_a_model_of_the_loss_alone_is_compared_on_the_loss_alone():
    """A cause that says nothing of the gradient norm is not favoured for its silence."""
    m, obs, found = compared("healthy, sgd")
    spoken = replace(found[0], name="spoken")
    silent = replace(found[0], name="silent", misses=found[0].misses[: obs.loss.size])
    assert silent.misses.size < spoken.misses.size
    one, other = weigh([spoken, silent], m, obs)
    assert one.share == other.share == pytest.approx(0.5)
