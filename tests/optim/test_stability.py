"""The stability limits, each against the recurrence itself on a quadratic of curvature 1, second moment held at 1."""

import math
from dataclasses import replace

import numpy as np
import pytest

from traindoctor.model import OptimizerSpec
from traindoctor.optim import adagrad, adam, nadam, rmsprop, sgd
from traindoctor.optim.stability import spectral_radius, stability_limit

ONE = np.ones(1)


def sgd_step(spec):
    momentum, nesterov, dampening = spec.momentum or 0.0, bool(spec.nesterov), spec.dampening or 0.0
    start = sgd.State(1, 0.0 * ONE)  # past the first step, which stores the gradient itself
    return start, lambda g, s, lr: sgd.step(g, s, lr=lr, momentum=momentum, nesterov=nesterov, dampening=dampening)


def adam_step(spec):
    late = adam.State(10**6, 0.0 * ONE, ONE, ONE)  # long after the bias correction, which amplifies the first steps
    return late, lambda g, s, lr: adam.step(g, s, lr=lr, beta1=spec.beta1, eps=0.0, grad_sq=ONE)


def rmsprop_step(spec):
    state = rmsprop.State(0, ONE, 0.0 * ONE)
    return state, lambda g, s, lr: rmsprop.step(g, s, lr=lr, momentum=spec.momentum or 0.0, eps=0.0, grad_sq=ONE)


def adagrad_step(_):
    return adagrad.start((1,), initial=1.0), lambda g, s, lr: adagrad.step(g, s, lr=lr, eps=0.0, grad_sq=0.0 * ONE)


def nadam_step(spec):
    """NAdam once its momentum has grown to beta1, with v so large that it stays, and lr in proportion."""
    held = 1e120
    late = nadam.State(10**7, 0.0 * ONE, held**2 * ONE, 0.0)
    return late, lambda g, s, lr: nadam.step(g, s._replace(v=late.v), lr=lr * held, beta1=spec.beta1, eps=0.0)


CASES = [
    (OptimizerSpec("sgd"), 2.0, sgd_step),
    (OptimizerSpec("sgd", momentum=0.9), 3.8, sgd_step),
    (OptimizerSpec("sgd", momentum=0.5), 3.0, sgd_step),
    (OptimizerSpec("sgd", momentum=0.9, nesterov=True), 3.8 / 2.8, sgd_step),
    (OptimizerSpec("adam", beta1=0.9), 38.0, adam_step),
    (OptimizerSpec("adamw", beta1=0.5), 6.0, adam_step),
    (OptimizerSpec("adam", beta1=0.0), 2.0, adam_step),
    (OptimizerSpec("nadam", beta1=0.9), 38.0 / 2.8, nadam_step),
    (OptimizerSpec("nadam", beta1=0.5), 3.0, nadam_step),
    (OptimizerSpec("rmsprop"), 2.0, rmsprop_step),
    (OptimizerSpec("rmsprop", momentum=0.9), 3.8, rmsprop_step),
    (OptimizerSpec("adagrad"), 2.0, adagrad_step),
]


def growth(recurrence, lr, decay=0.0, coupled=True, n_steps=3000):
    """Return the factor by which |w| changes a step in the long run, over the later half; curvature 1, or 1 + decay."""
    state, step = recurrence
    weight, log = ONE.copy(), []
    for _ in range(n_steps):
        update, state = step(weight * (1.0 + decay) if coupled else weight, state, lr)
        weight = (weight if coupled else weight * (1.0 - lr * decay)) + update
        log.append(math.log(max(abs(weight[0]), 1e-300)))
        if not 1e-100 < abs(weight[0]) < 1e100:
            break
    log = log[len(log) // 2 :]
    return math.exp((max(log[-40:]) - max(log[:40])) / (len(log) - 40))


@pytest.mark.parametrize(("spec", "limit", "recurrence"), CASES, ids=lambda c: getattr(c, "name", None))
def test_limit_separates_decay_from_growth(spec, limit, recurrence):
    assert stability_limit(spec) == pytest.approx(limit)
    for factor, is_stable in ((0.97, True), (1.03, False)):
        state, step = recurrence(spec)
        weight = ONE.copy()
        for _ in range(4000):
            update, state = step(weight, state, factor * limit)
            weight = weight + update
            if abs(weight[0]) > 1e6:
                break
        assert (abs(weight[0]) < 1e-3) == is_stable, (factor, weight)
        assert (abs(weight[0]) > 1e3) != is_stable, (factor, weight)


@pytest.mark.parametrize(("spec", "limit", "recurrence"), CASES, ids=lambda c: getattr(c, "name", None))
@pytest.mark.parametrize("factor", [0.7, 0.9, 1.01, 1.2])
def test_radius_is_the_growth_a_step(spec, limit, recurrence, factor):
    seen = growth(recurrence(spec), factor * limit)
    assert spectral_radius(spec, np.array([factor * limit]))[0] == pytest.approx(seen, abs=3e-3)


def test_radius_is_one_at_the_limit_of_each():
    for spec, limit, _ in CASES:
        below, at, above = spectral_radius(spec, limit * np.array([0.999, 1.0, 1.001]))
        assert below < 1.0 < above, spec
        assert at == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("dampening", [0.3, 0.9])
def test_dampening(dampening, nesterov):
    spec = OptimizerSpec("sgd", momentum=0.8, nesterov=nesterov, dampening=dampening)
    limit = stability_limit(spec)
    assert limit > stability_limit(replace(spec, dampening=0.0))
    assert growth(sgd_step(spec), 0.98 * limit) < 1.0 < growth(sgd_step(spec), 1.02 * limit)


@pytest.mark.parametrize(
    ("spec", "recurrence", "coupled"),
    [
        (OptimizerSpec("sgd", weight_decay=0.2), sgd_step, True),
        (OptimizerSpec("sgd", momentum=0.9, nesterov=True, weight_decay=0.2), sgd_step, True),
        (OptimizerSpec("adam", beta1=0.9, weight_decay=0.2), adam_step, True),
        (OptimizerSpec("adamw", beta1=0.5, weight_decay=0.2), adam_step, False),
    ],
    ids=["sgd", "nesterov", "adam", "adamw"],
)
def test_weight_decay_moves_the_limit(spec, recurrence, coupled):
    """Curvature 1 and P = 1, so that the product is lr: the largest lr solves limit(lr) = lr."""
    low, high = 1e-6, stability_limit(spec)
    for _ in range(60):
        lr = 0.5 * (low + high)
        low, high = (lr, high) if stability_limit(spec, lr=lr) > lr else (low, lr)
    assert low < 0.99 * stability_limit(spec)
    for factor, is_stable in ((0.98, True), (1.02, False)):
        seen = growth(recurrence(spec), factor * low, decay=0.2, coupled=coupled)
        assert (seen < 1.0) == is_stable
        told = spectral_radius(spec, np.array([factor * low]), lr=factor * low)[0]
        assert told == pytest.approx(seen, rel=3e-3)


def test_a_coupled_decay_is_divided_by_the_denominator():
    spec = OptimizerSpec("adam", weight_decay=0.1)
    assert stability_limit(spec, lr=0.01, denominator=1e-3) == pytest.approx(38.0 - 1.0)


@pytest.mark.parametrize("name", ["lion", "signsgd", "rprop", "muon"])
def test_steps_of_one_length_have_no_limit(name):
    spec = OptimizerSpec(name, momentum=0.95, nesterov=True)
    assert stability_limit(spec) == math.inf
    assert np.isnan(spectral_radius(spec, np.array([1.0, 1e9]))).all()


def test_a_sign_step_neither_settles_nor_diverges():
    weight, seen = 1.0, []
    for _ in range(3000):
        weight -= 0.01 * math.copysign(1.0, 1e6 * weight)
        seen.append(abs(weight))
    assert 1e-3 < max(seen[-100:]) <= 0.011


@pytest.mark.parametrize("name", ["amsgrad", "radam", "adamax", "lamb", "stableadamw"])
def test_relatives_of_adam(name):
    assert stability_limit(OptimizerSpec(name, beta1=0.9)) == pytest.approx(38.0)


@pytest.mark.parametrize("name", ["adagrad", "adadelta", "adafactor"])
def test_without_a_buffer(name):
    assert stability_limit(OptimizerSpec(name)) == 2.0


def test_default_and_bound():
    assert stability_limit(OptimizerSpec("adam")) == pytest.approx(38.0)
    assert stability_limit(OptimizerSpec("adam", beta1=1.0)) == math.inf
