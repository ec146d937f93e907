"""The stability limits, each against the recurrence itself on a quadratic of curvature 1, second moment held at 1."""

import math

import numpy as np
import pytest

from traindoctor.model import OptimizerSpec
from traindoctor.optim import adagrad, adam, rmsprop, sgd
from traindoctor.optim.stability import stability_limit

ONE = np.ones(1)


def sgd_step(spec):
    return sgd.start((1,)), lambda g, s, lr: sgd.step(g, s, lr=lr, momentum=spec.momentum or 0.0, nesterov=bool(spec.nesterov))


def adam_step(spec):
    late = adam.State(10**6, 0.0 * ONE, ONE, ONE)  # long after the bias correction, which amplifies the first steps
    return late, lambda g, s, lr: adam.step(g, s, lr=lr, beta1=spec.beta1, eps=0.0, grad_sq=ONE)


def rmsprop_step(spec):
    state = rmsprop.State(0, ONE, 0.0 * ONE)
    return state, lambda g, s, lr: rmsprop.step(g, s, lr=lr, momentum=spec.momentum or 0.0, eps=0.0, grad_sq=ONE)


def adagrad_step(_):
    return adagrad.start((1,), initial=1.0), lambda g, s, lr: adagrad.step(g, s, lr=lr, eps=0.0, grad_sq=0.0 * ONE)


CASES = [
    (OptimizerSpec("sgd"), 2.0, sgd_step),
    (OptimizerSpec("sgd", momentum=0.9), 3.8, sgd_step),
    (OptimizerSpec("sgd", momentum=0.5), 3.0, sgd_step),
    (OptimizerSpec("sgd", momentum=0.9, nesterov=True), 3.8 / 2.8, sgd_step),
    (OptimizerSpec("adam", beta1=0.9), 38.0, adam_step),
    (OptimizerSpec("adamw", beta1=0.5), 6.0, adam_step),
    (OptimizerSpec("adam", beta1=0.0), 2.0, adam_step),
    (OptimizerSpec("rmsprop"), 2.0, rmsprop_step),
    (OptimizerSpec("rmsprop", momentum=0.9), 3.8, rmsprop_step),
    (OptimizerSpec("adagrad"), 2.0, adagrad_step),
]


@pytest.mark.parametrize(("spec", "limit", "recurrence"), CASES)
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


def test_default_and_bound():
    assert stability_limit(OptimizerSpec("adam")) == pytest.approx(38.0)
    assert stability_limit(OptimizerSpec("adam", beta1=1.0)) == math.inf
