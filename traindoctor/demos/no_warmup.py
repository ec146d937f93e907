"""Adam at its full rate from the first step: the first steps all point one way, and saturate the network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.demos.networks import first_weights, perceptron, saturated
from traindoctor.demos.story import Demo, Table
from traindoctor.demos.training import Problem, Recipe, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.demos.training import Training
    from traindoctor.model import FloatArray

N_ROWS, N_INPUTS, N_CLASSES, HIDDEN, DEPTH = 256, 8, 4, 32, 4
WIDTHS = (N_INPUTS, *[HIDDEN] * DEPTH, N_CLASSES)
WARMUP = 100
#: The steps that are looked at one by one.
EARLY = 20


def data(seed: int) -> tuple[FloatArray, FloatArray, np.random.Generator]:
    """Return inputs (256, 8) whose mean is 2 and not 0, their classes one-hot (256, 4), and the generator as it is left."""
    random = np.random.default_rng(seed)
    x = random.standard_normal((N_ROWS, N_INPUTS))
    teacher = np.tanh(x @ random.standard_normal((N_INPUTS, 16))) @ random.standard_normal((16, N_CLASSES))
    return x + 2.0, np.eye(N_CLASSES)[teacher.argmax(axis=1)], random


def problem(seed: int) -> Problem:
    """Return four classes by a tanh network of four hidden layers."""
    x, target, random = data(seed)
    gradient = perceptron(x, target, WIDTHS, activation="tanh", loss="cross-entropy", batch=128, seed=seed)
    return Problem(first_weights(WIDTHS, random), gradient, n_steps=400)


def first_steps(runs: Sequence[Training], seed: int) -> tuple[Table, ...]:
    """Return what the first steps do to loss, weights and units."""
    x = data(seed)[0]
    flat = {"schedule.name": "constant"}  # the decay of 400 steps has hardly begun after 20
    early = train(replace(problem(seed), n_steps=EARLY), [run.recipe.change(run.recipe.title, flat) for run in runs])
    rows = tuple(
        (
            run.recipe.title,
            f"{run.loss[:EARLY].max():.3g}",
            f"x {np.linalg.norm(first.last) / run.weight_norm[0]:.2f}",
            f"{saturated(x, first.last, WIDTHS):.0%}",
            f"{saturated(x, run.last, WIDTHS):.0%}",
            f"{np.median(run.loss[-60:]):.3g}",
        )
        for run, first in zip(runs, early, strict=True)
    )
    head = ("run", "highest loss", "weights", "saturated", "the same, end", "loss, end")
    guess = f"Guessing costs ln {N_CLASSES} = {np.log(N_CLASSES):.3g}."
    note = f"The first three after {EARLY} steps. Saturated: hidden signals beyond 0.99. {guess}"
    return (Table(f"What the first {EARLY} steps do", head, rows, note),)


_FULL_RATE = Recipe(
    "no warmup", {"optimizer.name": "adam", "optimizer.lr": 0.1, "schedule.name": "cosine", "schedule.warmup_steps": 0}
)
NO_WARMUP = Demo(
    name="no-warmup",
    summary="Adam at full rate from step 0 wrecks a net that a warmup saves",
    story=(
        "A tanh network of four hidden layers learns four classes by Adam, lr 0.1 and a cosine decay, 400 steps. Its inputs are "
        "not centred, so that the first gradients of a layer all point one way. Adam's first step is lr for every weight, "
        "whatever the gradient's size: the weights of a unit move together, its input jumps by the sum of them, and tanh "
        "saturates. Little gradient comes back through such a unit, and it does not recover. With a warmup to the same peak the "
        "first steps are small, and most units are still alive when the rate is high. A lower rate helps as well."
    ),
    problem=problem,
    faulty=(_FULL_RATE,),
    beside=(
        _FULL_RATE.change(f"warmup {WARMUP}, same peak", {"schedule.warmup_steps": WARMUP}),
        _FULL_RATE.change("no warmup, lr 0.01", {"optimizer.lr": 0.01}),
    ),
    measure=first_steps,
    remedies={f"Warm up for {WARMUP} steps, to the same peak": {"schedule.warmup_steps": WARMUP}},
)
