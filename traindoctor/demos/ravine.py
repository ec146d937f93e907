"""A ravine, one direction a thousand times as steep as the other: what each optimizer makes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traindoctor.demos.story import Demo, Table
from traindoctor.demos.training import Problem, Recipe, Training, learning_rates, train
from traindoctor.optim import adagrad
from traindoctor.optim.stability import stability_limit
from traindoctor.report.wording import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.model import FloatArray

CURVATURES = np.array([100.0, 0.1])
#: Share of the loss at the start that counts as the bottom.
BOTTOM = 1e-6
#: Learning rates that are tried, a factor of 1.05 apart.
RATES = 1.05 ** np.arange(-141, 64)


def problem(seed: int) -> Problem:
    """Return a quadratic of two parameters with curvatures 100 and 0.1, started about (1, 4)."""
    weights = np.random.default_rng(seed).uniform(0.8, 1.2, 2) * (1.0, 4.0)

    def gradient(weights: FloatArray, _step: int) -> tuple[FloatArray, FloatArray]:
        grad = CURVATURES * weights
        return 0.5 * np.einsum("nd,nd->n", weights, grad), grad

    return Problem(weights, gradient, n_steps=3000)


def steps_to_bottom(run: Training) -> float:
    """Return the first step from which the loss stays below `BOTTOM` of its start; infinity when it does not."""
    above = np.flatnonzero(~(run.loss <= BOTTOM * run.loss[0]))
    return float(run.step[above[-1]] + 1) if above.size == 0 or above[-1] + 1 < run.loss.size else float("inf")


def theory(recipe: Recipe) -> float:
    """Return the largest stable learning rate on the ravine; infinity where the preconditioner adapts."""
    return float("inf") if recipe.spec.is_adaptive else stability_limit(recipe.spec) / float(CURVATURES.max())


def side_by_side(seed: int) -> Table:
    """Return for each optimizer the limit of its learning rate, by theory and seen, its best rate, and the steps it needs."""
    rows = []
    for base in OPTIMIZERS:
        grid = train(problem(seed), [base.change(f"{lr:.3g}", {"optimizer.lr": float(lr)}) for lr in RATES])
        grows = [not run.loss[-1] < run.loss[0] for run in grid]
        seen = float(RATES[grows.index(True) - 1]) if any(grows) else float("inf")
        needed = np.array([steps_to_bottom(run) for run in grid])
        best = int(needed.argmin())
        limit = theory(base)
        rows.append(
            (
                base.title,
                f"{limit:.3g}" if np.isfinite(limit) else "none, adapts",
                f"{seen:.3g}" if np.isfinite(seen) else f"none to {RATES[-1]:.2g}",
                f"{RATES[best]:.2g}",
                f"{needed[best]:,.0f}" if np.isfinite(needed[best]) else "never",
                f"{np.isfinite(needed).sum()} of {needed.size}",
            )
        )
    head = ("optimizer", "lr limit, theory", "loss grows above", "best lr", "steps needed", "rates that do")
    note = (
        f"Needed: to {BOTTOM:g} of the loss at the start, within 3,000 steps. Tried: {RATES.size} rates from "
        f"{RATES[0]:.1g} to {RATES[-1]:.2g}; at those that do not do, the run is too slow, or bounces."
    )
    return Table("One learning rate does not fit both directions", head, tuple(rows), note)


def mean_square_adagrad(seed: int, lr: float, *, decays: bool) -> FloatArray:
    """Return the loss (n_steps,) of the gradient over the root mean square of all before, with lr constant or down to 0.

    That is Adagrad, whose root is of the sum, at a rate of lr * sqrt(t): its step size does not shrink, and an old gradient
    counts less and less.
    """
    task = problem(seed)
    rates = learning_rates({"optimizer.lr": lr, "schedule.name": "linear" if decays else "constant"}, task.n_steps)
    weights, state = task.weights[None], adagrad.start((1, task.weights.size))
    losses = np.empty(task.n_steps)
    for step, rate in enumerate(rates):
        loss, grad = task.gradient(weights, step)
        update, state = adagrad.step(grad, state, lr=float(rate) * (step + 1) ** 0.5, eps=1e-300)
        weights, losses[step] = weights + update, loss[0]
    return losses


def statements(seed: int) -> Table:
    """Return single runs that each show one thing that is said of optimizers."""
    sgd, _, _, rmsprop, _ = OPTIMIZERS
    walls, constant, decayed = train(
        problem(seed),
        [
            sgd.change("walls", {"optimizer.lr": 0.9999 * theory(sgd)}),
            rmsprop.change("constant", {"optimizer.lr": 0.1}),
            rmsprop.change("decayed", {"optimizer.lr": 0.1, "schedule.name": "linear"}),
        ],
    )
    wild, calm = (mean_square_adagrad(seed, 0.3, decays=decays) for decays in (False, True))
    low = int(wild[:300].argmin())
    burst = low + int(wild[low:].argmax())
    late = wild.size // 2
    rows = (
        (
            "stuck need not be a small gradient",
            "SGD just below its limit, step 500",
            f"loss {walls.loss[500] / walls.loss[0]:.0%}, gradient {walls.grad_norm[500] / walls.grad_norm[0]:.0%} of the start",
        ),
        (
            "it explodes late, and corrects itself",
            "root mean square of all gradients",
            f"{number(wild[low])} at step {low}, {number(wild[burst])} at {burst}, then {number(wild[burst:].min())}",
        ),
        (
            "decay calms the late explosion",
            "the same, linear decay to 0",
            f"second half: up to {number(wild[late:].max())} before, {number(calm[late:].max())} with the decay",
        ),
        ("a constant rate bounces on", "RMSprop, lr 0.1", f"loss {number(float(constant.loss[-100:].max()))} at the end"),
        ("decay calms that too", "the same, linear decay to 0", f"loss {number(float(decayed.loss[-100:].max()))} at the end"),
    )
    return Table("Each said of optimizers, each run here", ("statement", "run", "measured"), rows)


def measure(_runs: Sequence[Training], seed: int) -> tuple[Table, ...]:
    """Return both tables."""
    return side_by_side(seed), statements(seed)


OPTIMIZERS = (
    Recipe("SGD", {"optimizer.name": "sgd", "optimizer.lr": 0.018}),
    Recipe("SGD, momentum 0.9", {"optimizer.name": "sgd", "optimizer.lr": 0.018, "optimizer.momentum": 0.9}),
    Recipe("Adagrad", {"optimizer.name": "adagrad", "optimizer.lr": 0.3}),
    Recipe("RMSprop", {"optimizer.name": "rmsprop", "optimizer.lr": 0.003}),
    Recipe("Adam", {"optimizer.name": "adam", "optimizer.lr": 0.03}),
)
RAVINE = Demo(
    name="ravine",
    summary="SGD, momentum, Adagrad, RMSprop and Adam in one steep valley",
    story=(
        "Two parameters, one with curvature 100 and one with 0.1. The steep direction sets the limit of the learning rate, "
        "2 / 100 for SGD, and at that rate the flat direction takes thousands of steps. So somebody raises the rate, to 2 % "
        "above the limit, and each step overshoots a little more than the one before. Momentum nearly doubles the limit and "
        "gathers speed along the flat direction; Adagrad, RMSprop and Adam divide each direction by the size of its own "
        "gradients, and have no limit of that kind: theirs is on the curvature as they rescale it."
    ),
    problem=problem,
    faulty=(OPTIMIZERS[0].change("SGD, 2 % above its limit", {"optimizer.lr": 0.0204}),),
    beside=OPTIMIZERS,
    measure=measure,
)
