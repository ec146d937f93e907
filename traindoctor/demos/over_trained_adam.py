"""Adam that goes wrong long after the job is done: its second moment has collapsed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traindoctor.demos.story import Demo, Table
from traindoctor.demos.training import Problem, Recipe
from traindoctor.optim.stability import stability_limit
from traindoctor.replay.verdict import course, judge
from traindoctor.report.wording import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.demos.training import Training
    from traindoctor.model import FloatArray

N_ROWS, N_INPUTS = 64, 1000


def data(seed: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return inputs (64, 1001), the last column ones for the bias, targets (64,) and first weights (1001,), of float32 values."""
    random = np.random.default_rng(seed)
    x = np.concatenate([random.standard_normal((N_ROWS, N_INPUTS)), np.ones((N_ROWS, 1))], axis=1)
    bound = 1.0 / np.sqrt(N_INPUTS)
    return x, random.standard_normal(N_ROWS), random.uniform(-bound, bound, N_INPUTS + 1)


def problem(seed: int) -> Problem:
    """Return a linear unit with 1,000 inputs on 64 points, summed squared error, full batch, in float32."""
    x, y, weights = (part.astype(np.float32) for part in data(seed))

    def gradient(weights: FloatArray, _step: int) -> tuple[FloatArray, FloatArray]:
        error = weights @ x.T - y
        grad = 2.0 * error @ x
        return np.einsum("nr,nr->n", error, error).astype(np.float64), grad.astype(np.float64)

    return Problem(weights.astype(np.float64), gradient, n_steps=6000, every=10, dtype=np.float32)


def steepest(seed: int) -> float:
    """Return the largest eigenvalue of the Hessian, 2 X^T X."""
    return float(2.0 * np.linalg.norm(data(seed)[0], 2) ** 2)


def advice(runs: Sequence[Training], seed: int) -> tuple[Table, ...]:
    """Return what became of each usual piece of advice, and the eps that theory asks for."""
    base = course(runs[0].step, runs[0].loss)
    rows = []
    for run in runs:
        figures = course(run.step, run.loss)
        verdict = "as recorded" if run is runs[0] else judge(base, figures).verdict
        rows.append((run.recipe.title, number(figures.best), number(float(run.loss[-100:].max())), verdict))
    spec, curvature = runs[0].recipe.spec, steepest(seed)
    assert spec.lr is not None
    limit = stability_limit(spec)
    note = (
        f"The true curvature is {curvature:,.0f}: eps >= lr * curvature / {limit:.0f} = {spec.lr * curvature / limit:.2g} is "
        "enough, whatever the second moment does. lr 1e-5 holds for these 6,000 steps and no more: trained on, it climbs near "
        "step 16,000."
    )
    head = ("advice, each trained", "best loss", "max, last 1,000 steps", "verdict")
    return (Table("What the usual advice does to this run", head, tuple(rows), note),)


_DEFAULTS = Recipe("Adam, defaults", {"optimizer.name": "adam", "optimizer.lr": 1e-3, "optimizer.eps": 1e-8})
OVER_TRAINED_ADAM = Demo(
    name="over-trained-adam",
    summary="solved, but trained on: Adam's second moment fades, the loss climbs",
    story=(
        "A linear unit with 1,000 inputs learns 64 random points by Adam with its defaults, full batch, 6,000 steps. After a few "
        "hundred steps nothing is left to learn: the gradients are almost zero. Adam divides by the root of their running mean "
        "square v, and v forgets 0.1 % a step, so that the effective learning rate grows and grows. Once it passes the stability "
        "limit, (2 + 2 beta1) / (1 - beta1) = 38 over the curvature, each step overshoots and the loss climbs back. Rounding is "
        "not the cause, and eps is far too small to be in the way."
    ),
    problem=problem,
    faulty=(_DEFAULTS,),
    beside=(
        _DEFAULTS.change("eps 1e-4", {"optimizer.eps": 1e-4}),
        _DEFAULTS.change("eps 0.1", {"optimizer.eps": 0.1}),
        _DEFAULTS.change("amsgrad", {"optimizer.amsgrad": True}),
        _DEFAULTS.change("cosine decay to 0", {"schedule.name": "cosine"}),
        _DEFAULTS.change("clip norm at 1", {"gradient.clip_norm": 1.0}),
        _DEFAULTS.change("lr 1e-5", {"optimizer.lr": 1e-5}),
    ),
    measure=advice,
)
