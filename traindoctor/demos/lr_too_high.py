"""A learning rate that is too high: SGD diverges beyond its limit, Adam bounces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traindoctor.demos.networks import first_weights, perceptron
from traindoctor.demos.story import Demo, Table
from traindoctor.demos.training import Problem, Recipe, train
from traindoctor.report.wording import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.demos.training import Training

WIDTHS = (8, 64, 64, 1)
RATES = (1e-3, 1e-2, 0.03, 0.1, 0.3, 1.0)


def problem(seed: int) -> Problem:
    """Return a smooth function of eight inputs, learnt by a small tanh network, squared error, batches of 64."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((512, 8))
    target = np.tanh(x @ random.standard_normal((8, 4)) / 2.0).sum(axis=1, keepdims=True)
    gradient = perceptron(x, target, WIDTHS, activation="tanh", loss="squared", batch=64, seed=seed)
    return Problem(first_weights(WIDTHS, random), gradient, n_steps=600)


def ladder(_runs: Sequence[Training], seed: int) -> tuple[Table, ...]:
    """Return the loss at the end at each of six learning rates, for both optimizers."""
    recipes = [base.change(f"{lr:g}", {"optimizer.lr": lr}) for base in (_ADAM, _SGD) for lr in RATES]
    trained = train(problem(seed), recipes)
    rows = tuple(
        (f"{lr:g}", *(number(float(np.median(run.loss[-100:]))) for run in trained[i :: len(RATES)]))
        for i, lr in enumerate(RATES)
    )
    note = "Adam's steps are about lr long whatever the gradient: it bounces where SGD is lost. Too low costs time alone."
    return (Table("Median loss of the last 100 steps, by learning rate", ("lr", "Adam", "SGD"), rows, note),)


_ADAM = Recipe("Adam, lr 1", {"optimizer.name": "adam", "optimizer.lr": 1.0})
_SGD = Recipe("SGD, lr 0.3", {"optimizer.name": "sgd", "optimizer.lr": 0.3})
LR_TOO_HIGH = Demo(
    name="lr-too-high",
    summary="beyond its limit SGD diverges; Adam bounces at a level",
    story=(
        "A small tanh network learns a smooth function of eight inputs, 600 steps. Along a direction of curvature c a step of "
        "SGD overshoots by more than it gains once lr is above 2 / c: the loss grows by a factor a step until it overflows. "
        "Adam cannot diverge so fast, since its steps are about lr long whatever the gradient says: it falls at once to a level "
        "and bounces there between the walls, with a gradient that is not small at all. The two logs are diagnosed side by side."
    ),
    problem=problem,
    faulty=(_ADAM, _SGD),
    measure=ladder,
)
