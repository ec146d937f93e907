"""Gradients that are never cleared add up: SGD becomes momentum without friction."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traindoctor.demos.story import Demo, Table
from traindoctor.demos.training import Problem, Recipe, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.demos.training import Training
    from traindoctor.model import FloatArray

SCRIPT = '''"""Fit a * x + b = x with one linear unit."""

import torch
import yaml
from torch import nn

from logs import log

with open("config.yaml") as file:
    config = yaml.safe_load(file)
torch.manual_seed(config["seed"])
X = torch.randn(1000, 1, 1)
model = nn.Linear(1, 1)
criterion = nn.MSELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=config["optimizer"]["lr"])

optimizer.zero_grad()
for step in range(config["train"]["steps"]):
    x = X[0]
    loss = criterion(model(x), x)
    loss.backward()
    log(step, loss, model)
    optimizer.step()
'''


def point(seed: int) -> tuple[float, FloatArray]:
    """Return the one x that is trained on, and the first a and b (2,)."""
    random = np.random.default_rng(seed)
    return float(random.standard_normal()), random.uniform(-1.0, 1.0, 2)


def problem(seed: int) -> Problem:
    """Return a * x + b = x at one point, squared error."""
    x, weights = point(seed)
    slope = np.array([x, 1.0])

    def gradient(weights: FloatArray, _step: int) -> tuple[FloatArray, FloatArray]:
        error = weights @ slope - x
        return error**2, 2.0 * error[:, None] * slope

    return Problem(weights, gradient, n_steps=1200)


def predicted_period(lr: float, curvature: float) -> float:
    """Return the steps between two minima of the loss of SGD whose gradients add up: pi / sqrt(lr * curvature).

    The weights then follow w'' = -lr * curvature * w; the loss, their square, swings twice as fast.
    """
    return float(np.pi / np.sqrt(lr * curvature))


def seen_period(loss: FloatArray) -> float:
    """Return the mean distance of the local minima of a loss (n,), in logged points; NaN with fewer than two."""
    low = np.flatnonzero((loss[1:-1] < loss[:-2]) & (loss[1:-1] <= loss[2:]))
    return float(np.diff(low).mean()) if low.size > 1 else float("nan")


def periods(_runs: Sequence[Training], seed: int) -> tuple[Table, ...]:
    """Return the period predicted against the one seen, at four learning rates."""
    curvature = 2.0 * (point(seed)[0] ** 2 + 1.0)
    rates = (3e-2, 1e-2, 3e-3, 1e-3)
    trained = train(problem(seed), [_ADDING_UP.change(f"{lr:g}", {"optimizer.lr": lr}) for lr in rates])
    rows = tuple(
        (f"{lr:g}", f"{predicted_period(lr, curvature):.1f}", f"{seen_period(run.loss):.1f}")
        for lr, run in zip(rates, trained, strict=True)
    )
    note = f"The curvature is 2 (x^2 + 1) = {curvature:.3g}. A rate that is too high would swing with a period of two steps."
    return (Table("SGD without zero_grad: the swing of the loss", ("lr", "pi / sqrt(lr * curvature)", "steps seen"), rows, note),)


_ADDING_UP = Recipe("SGD, no zero_grad", {"optimizer.name": "sgd", "optimizer.lr": 0.01, "gradient.zero_grad": False})
_CLEARED = {"gradient.zero_grad": True}
_ADAM = Recipe("Adam, no zero_grad", {**_ADDING_UP.settings, "optimizer.name": "adam"})
_ADAGRAD = Recipe("Adagrad, no zero_grad", {**_ADDING_UP.settings, "optimizer.name": "adagrad"})
MISSING_ZERO_GRAD = Demo(
    name="missing-zero-grad",
    summary="a line that will not fit: the gradients of all steps add up",
    story=(
        "One linear unit is to learn a * x + b = x, a task for a minute. optimizer.zero_grad() stands before the loop and not in "
        "it, so that each step uses the sum of all gradients ever seen. For SGD that is momentum without any friction: the "
        "weights swing through the minimum and out again, for ever, with a period that follows from the learning rate and the "
        "curvature. A smaller learning rate makes the swing slower, and no smaller. Other optimizers swing as well. (The script "
        "also trains on one point, X[0], so that a and b are not determined; that does no harm here.)"
    ),
    problem=problem,
    faulty=(_ADDING_UP,),
    beside=(
        _ADDING_UP.change("SGD, cleared", _CLEARED),
        _ADAM,
        _ADAM.change("Adam, cleared", _CLEARED),
        _ADAGRAD,
        _ADAGRAD.change("Adagrad, cleared", _CLEARED),
    ),
    measure=periods,
    script=SCRIPT,
)
