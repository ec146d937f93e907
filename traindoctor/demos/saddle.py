"""A saddle: what stuck means, and how Adam's settings turn on it in two dialects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traindoctor.demos.story import Demo, Picture, Table
from traindoctor.demos.training import Problem, Recipe, Training, train
from traindoctor.replay.critical_point import where
from traindoctor.report.wording import number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from traindoctor.model import FloatArray
    from traindoctor.replay.critical_point import CriticalPoint

#: How far the stuck run starts from the ridge, where the gradient leads straight to the saddle.
OFF_THE_RIDGE = 1e-8
#: A change of the loss that counts; the saddle lies 1 above the bottom.
RESOLUTION = 1e-3


def walled(_seed: int) -> Problem:
    """Return (w1 - 1)^2 + (1 - (w2 - 1)^2 / 2)^2 from (-3, 1 - 1e-8): a saddle of height 1 at (1, 1), bottoms at 0."""

    def gradient(weights: FloatArray, _step: int) -> tuple[FloatArray, FloatArray]:
        a, b = (weights - 1.0).T
        return a**2 + (1.0 - b**2 / 2.0) ** 2, np.stack([2.0 * a, b**3 - 2.0 * b], axis=1)

    return Problem(np.array([-3.0, 1.0 - OFF_THE_RIDGE]), gradient, n_steps=1200)


def hessian(weights: FloatArray) -> FloatArray:
    """Return the Hessian of the walled saddle, (2, 2), at weights (2,)."""
    return np.diag([2.0, 3.0 * (float(weights[1]) - 1.0) ** 2 - 2.0])


def open_saddle(_seed: int) -> Problem:
    """Return (w1 - 1)^2 - (w2 - 1)^2 from (-3, 0.8), which falls for ever."""

    def gradient(weights: FloatArray, _step: int) -> tuple[FloatArray, FloatArray]:
        a, b = (weights - 1.0).T
        return a**2 - b**2, np.stack([2.0 * a, -2.0 * b], axis=1)

    return Problem(np.array([-3.0, 0.8]), gradient, n_steps=601)


def variants(seed: int) -> Table:
    """Return where Adam has come to after 600 steps on the open saddle, in both dialects, by its settings."""
    recipes = [
        Recipe(title, {**_ADAM.settings, **settings}, dialect) for dialect in ("torch", "keras") for title, settings in VARIANTS
    ]
    trained = train(open_saddle(seed), recipes)
    rows = tuple((title, *(_place(run) for run in trained[i :: len(VARIANTS)])) for i, (title, _) in enumerate(VARIANTS))
    note = (
        "A lower w2 is a better turn. eps 1e-8 and 0 coincide; eps-hat is not eps; beta2 = 1 makes the second form's "
        "rate 0, so that nothing moves."
    )
    head = ("Adam, lr 0.005", "PyTorch's form (w1, w2)", "epsilon-hat form (TF1, Keras)")
    return Table("(w1 - 1)^2 - (w2 - 1)^2 from (-3, 0.8), 600 steps", head, rows, note)


def stands(run: Training) -> CriticalPoint:
    """Return what the Hessian says of the place where a run on the walled saddle ended."""
    place = run.weights[-1]
    gradient = walled(0).gradient
    curvature = hessian(place)
    return where(
        lambda offset: float(gradient((place + offset)[None], 0)[0][0]),
        gradient(place[None], 0)[1][0],
        lambda vector: curvature @ vector,
        reach=float(np.linalg.norm(place)),
        resolution=RESOLUTION,
    )


def where_it_stands(runs: Sequence[Training]) -> Table:
    """Return where each run ended, and what the Hessian says of that place."""
    rows = []
    for run in runs:
        point = stands(run)
        left = np.flatnonzero(run.loss < 0.9)
        leaves = f"{run.step[left[0]]:,}" if left.size else "never"
        curvatures = f"{point.lambda_min:.3g}, {point.lambda_max:.3g}"
        rows.append((run.recipe.title, number(float(run.loss[-1])), f"{run.grad_norm[-1]:.1g}", leaves, curvatures, point.kind))
    head = ("run", "loss", "gradient", "past it at step", "eigenvalues", "where it is")
    note = "A small gradient is had at both. The Hessian tells them apart: a negative eigenvalue is the way out."
    return Table("Where each run ends", head, tuple(rows), note)


def paths(runs: Sequence[Training], width: int = 61, height: int = 17) -> Picture:
    """Return the ways of the runs over the walled saddle as a map of letters: w1 to the right, w2 upwards."""
    west, east, south, north = -3.2, 1.6, -0.8, 1.2
    cells = [[" "] * width for _ in range(height)]
    for letter, run in zip("SMA", runs, strict=True):
        for w1, w2 in run.weights:
            column, row = round((w1 - west) / (east - west) * (width - 1)), round((north - w2) / (north - south) * (height - 1))
            if 0 <= column < width and 0 <= row < height:
                cells[row][column] = letter
    for w1, w2, letter in ((1.0, 1.0, "X"), (1.0, 1.0 - 2.0**0.5, "O")):
        cells[round((north - w2) / (north - south) * (height - 1))][round((w1 - west) / (east - west) * (width - 1))] = letter
    title = "Seen from above: S " + ", ".join(
        f"{'' if letter == 'S' else letter + ' '}{run.recipe.title}" for letter, run in zip("SMA", runs, strict=True)
    )
    return Picture(title, tuple("".join(row).rstrip() for row in cells), "X is the saddle, O the bottom.")


def measure(runs: Sequence[Training], seed: int) -> tuple[Table | Picture, ...]:
    """Return where the runs stand, their ways, and Adam's settings side by side."""
    return where_it_stands(runs), paths(runs), variants(seed)


def _place(run: Training) -> str:
    w1, w2 = run.weights[-1]
    return f"({w1:.3f}, {w2:.3f})" if np.isfinite([w1, w2]).all() else "NaN"


_ADAM = Recipe("Adam", {"optimizer.name": "adam", "optimizer.lr": 0.005})
_SGD = Recipe("SGD", {"optimizer.name": "sgd", "optimizer.lr": 0.005})
_MOMENTUM = {"optimizer.momentum": 0.9}
VARIANTS: tuple[tuple[str, Mapping[str, object]], ...] = (
    ("default", {}),
    *((f"beta1 {b:g}", {"optimizer.betas": (b, 0.999)}) for b in (0.0, 0.1, 0.5, 0.999, 1.0)),
    *((f"beta2 {b:g}", {"optimizer.betas": (0.9, b)}) for b in (0.0, 0.9, 1.0)),
    *((f"eps {e:g}", {"optimizer.eps": e}) for e in (0.0, 0.1, 1.0)),
)
SADDLE = Demo(
    name="saddle",
    summary="almost no gradient, and yet no minimum; Adam's beta and eps on it",
    story=(
        "SGD comes down to a saddle almost exactly along its ridge. Near the saddle the gradient is almost zero, and the part "
        "that leads out grows by 1 % a step from 1e-8: the loss stands still to the end of this run, as at a minimum. "
        "The log cannot tell the two apart; the Hessian can, a negative eigenvalue is the way out. Momentum carries over it, "
        "and Adam divides each direction by the size of its own gradient, so that the small one counts as much."
    ),
    problem=walled,
    faulty=(_SGD,),
    beside=(_SGD.change("SGD, momentum 0.9", _MOMENTUM), _ADAM),
    measure=measure,
    remedies={"Momentum 0.9": _MOMENTUM, "Adam": {"optimizer.name": "adam"}},
)
