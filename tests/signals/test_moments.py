"""Bias correction, weight decay: what norms of updates and weights show of them, on series whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from traindoctor.model import OptimizerSpec
from traindoctor.rule import run_of
from traindoctor.signals.measurements import Measurements
from traindoctor.signals.moments import (
    correction_factor,
    decay_over_gradient,
    early_growth,
    first_updates_of_gains,
    update_norms,
)

SGD = OptimizerSpec("sgd", lr=0.1, weight_decay=0.5)
ADAM = OptimizerSpec("adam", lr=1e-2, beta1=0.9, beta2=0.999)


def test_the_factor_of_uncorrected_moments_is_that_of_the_paper():
    factor = correction_factor(np.arange(700), 0.9, 0.999)
    assert factor[0] == pytest.approx(0.1 / 0.001**0.5)
    assert np.argmax(factor) == 11
    assert factor.max() == pytest.approx(6.57, abs=0.01)
    assert factor[587] < 1.5 < factor[585]


def test_growth_is_against_the_first_update_and_free_of_the_rate():
    step, lr = np.arange(40), np.linspace(1e-3, 2e-3, 40)
    size = np.r_[1.0, 2.0, 3.0, 3.0, 3.0, np.full(35, 0.5)]
    assert early_growth(step, size * lr, lr) == pytest.approx(3.0)
    assert np.isnan(early_growth(step + 1, size * lr, lr))
    assert np.isnan(early_growth(step[:4], size[:4], lr[:4]))


def test_the_whole_update_is_put_together_from_the_layers():
    run = run_of(ADAM, **{
        "update_ratio/a.weight": [0.3, 0.1, 0.1], "weight_norm/a.weight": [1.0, 1.0, 1.0],
        "update_ratio/b.weight": [0.2, 0.2, 0.2], "weight_norm/b.weight": [2.0, 2.0, 2.0],
    })  # fmt: skip
    step, norm, source = update_norms(Measurements(run))
    assert step.tolist() == [0, 1, 2]
    assert norm[0] == pytest.approx(0.5)
    assert "update_ratio" in source
    assert update_norms(Measurements(run_of(ADAM, loss=[1.0, 2.0]))) is None


def test_gains_move_by_the_learning_rate():
    norms = {f"weight_norm/{n}.weight": [4.0] * 4 for n in ("norm1", "norm2", "fc")}
    ratios = {f"update_ratio/{n}.weight": [0.01, 0.001, 0.001, 0.001] for n in ("norm1", "norm2")}
    seen = first_updates_of_gains(Measurements(run_of(ADAM, **norms, **ratios, **{"update_ratio/fc.weight": [0.5] * 4})))
    assert seen.tolist() == pytest.approx([1.0, 1.0])


def test_the_pull_of_decay_is_over_the_gradient():
    run = run_of(SGD, loss=[1.0] * 8, weight_norm=[2.0] * 8, grad_norm=[4.0] * 4 + [0.5] * 4)
    assert decay_over_gradient(Measurements(run)) == pytest.approx(2.0)
    assert np.isnan(decay_over_gradient(Measurements(run_of(SGD, loss=[1.0]))))
