"""A trainer for small problems: many runs at once along the first axis, by the recurrences of `traindoctor/optim`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from traindoctor.model import OptimizerSpec
from traindoctor.optim import adagrad, adam, rmsprop, sgd
from traindoctor.optim.schedules.pytorch import cosine_annealing_lr, linear_lr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from traindoctor.model import FloatArray, IntArray

    #: Gradients (n_runs, d) and the rate of each run (n_runs, 1) -> the updates to add, (n_runs, d).
    Optimizer = Callable[[FloatArray, FloatArray], FloatArray]


class Gradient(Protocol):
    """A problem to train on: weights (n_runs, d) and the step, from 0, to loss (n_runs,) and gradient (n_runs, d)."""

    def __call__(self, weights: FloatArray, step: int, /) -> tuple[FloatArray, FloatArray]:
        """Return the loss of each run and its gradient."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is trained: `weights` (d,) float64 at the start, `gradient`, how many steps, and every how many one is logged.

    `dtype`: what the weights are kept in.
    """

    weights: FloatArray
    gradient: Gradient
    n_steps: int
    every: int = 1
    dtype: type[np.floating[Any]] = np.float64


@dataclass(frozen=True, slots=True)
class Recipe:
    """How it is trained: `settings` in the one vocabulary. `dialect`: "torch" or "keras" (epsilon-hat form of Adam)."""

    title: str
    settings: Mapping[str, object]
    dialect: str = "torch"

    def change(self, title: str, settings: Mapping[str, object]) -> Recipe:
        """Return the recipe with other settings."""
        return Recipe(title, {**self.settings, **settings}, self.dialect)

    @property
    def spec(self) -> OptimizerSpec:
        """The optimizer with the framework's defaults filled in."""
        name = str(self.settings["optimizer.name"])
        adaptive = name == "adam"
        beta1, beta2 = _betas(self.settings) if adaptive else (None, None)
        return OptimizerSpec(
            name,
            lr=_number(self.settings, "optimizer.lr", 1e-3),
            beta1=beta1,
            beta2=beta2,
            eps=None if name == "sgd" else _number(self.settings, "optimizer.eps", 1e-10 if name == "adagrad" else 1e-8),
            momentum=_number(self.settings, "optimizer.momentum", 0.0) if name in ("sgd", "rmsprop") else None,
            alpha=_number(self.settings, "optimizer.alpha", 0.99) if name == "rmsprop" else None,
            amsgrad=bool(self.settings.get("optimizer.amsgrad", False)) if adaptive else None,
            dialect=self.dialect,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """What a run logged, arrays (n_logged,). `grad_norm` is the norm of what the optimizer got, before any clip.

    `weights`: (n_logged, d), or (n_logged, 0) where d is more than `FEW`. `last`: (d,), after the last step.
    """

    recipe: Recipe
    step: IntArray
    loss: FloatArray
    grad_norm: FloatArray
    weight_norm: FloatArray
    lr: FloatArray
    weights: FloatArray = field(repr=False)
    last: FloatArray = field(repr=False)


#: Up to this many parameters a run keeps where it was at each logged step.
FEW = 8
#: What `train` understands. Any other setting is refused: a demo must not claim to have tried it.
KNOWN = frozenset(
    {
        "optimizer.name",
        "optimizer.lr",
        "optimizer.betas",
        "optimizer.eps",
        "optimizer.amsgrad",
        "optimizer.momentum",
        "optimizer.alpha",
        "schedule.name",
        "schedule.warmup_steps",
        "schedule.min_lr",
        "gradient.zero_grad",
        "gradient.clip_norm",
    }
)


def train(problem: Problem, recipes: Sequence[Recipe]) -> tuple[Training, ...]:
    """Return what each recipe makes of the problem, in the order of the recipes; a run that overflows goes on as NaN.

    Raises: ValueError for a setting that is not in `KNOWN`, or a value that is not simulated.
    """
    for recipe in recipes:
        if strange := set(recipe.settings) - KNOWN:
            raise ValueError(f"{', '.join(sorted(strange))}: not known to the trainer of the demos")
    made: dict[int, Training] = {}
    kinds = [(str(r.settings["optimizer.name"]), r.dialect) for r in recipes]
    for kind in dict.fromkeys(kinds):
        places = [i for i, other in enumerate(kinds) if other == kind]
        made |= dict(zip(places, _train_alike(problem, [recipes[i] for i in places]), strict=True))
    return tuple(made[i] for i in range(len(recipes)))


def learning_rates(settings: Mapping[str, object], n_steps: int) -> FloatArray:
    """Return the learning rate of each step, (n_steps,): a linear warmup, then constant, or down to `schedule.min_lr`.

    Step k of a warmup of n, from 1, has k / n of the rate.

    Raises: ValueError for a schedule other than "constant", "linear" or "cosine".
    """
    lr, low = _number(settings, "optimizer.lr", 1e-3), _number(settings, "schedule.min_lr", 0.0)
    warmup = int(_number(settings, "schedule.warmup_steps", 0.0))
    step, left = np.arange(n_steps), max(1, n_steps - warmup)
    since = np.maximum(step - warmup, 0)
    match settings.get("schedule.name", "constant"):
        case "constant" | "none":
            rate = np.full(n_steps, lr)
        case "linear":
            rate = linear_lr(since, lr, start_factor=1.0, end_factor=low / lr, total_iters=left)
        case "cosine":
            rate = cosine_annealing_lr(since, lr, T_max=left, eta_min=low)
        case other:
            raise ValueError(f"schedule {other!r} is not known to the trainer of the demos")
    return np.where(step < warmup, lr * (step + 1) / max(1, warmup), rate)


def _train_alike(problem: Problem, recipes: Sequence[Recipe]) -> Iterator[Training]:
    """Yield the trainings of recipes that share the optimizer's name and dialect."""
    n, d = len(recipes), problem.weights.size
    rates = np.stack([learning_rates(r.settings, problem.n_steps) for r in recipes])
    clip = _column(recipes, "gradient.clip_norm", np.inf)
    adds_up = ~_column(recipes, "gradient.zero_grad", 1.0).astype(bool)
    optimize = _optimizer(recipes, (n, d))
    steps = np.arange(0, problem.n_steps, problem.every)
    loss, grad_norm, weight_norm = (np.full((n, steps.size), np.nan) for _ in range(3))
    kept = d if d <= FEW else 0
    path = np.empty((n, steps.size, kept), dtype=problem.dtype)
    weights = np.repeat(problem.weights[None].astype(problem.dtype), n, axis=0)
    grad = np.zeros((n, d))
    with np.errstate(all="ignore"):  # a run that blows up is what some of the demos are about
        for step in range(problem.n_steps):
            value, fresh = problem.gradient(weights, step)
            grad = np.where(adds_up, grad, 0.0) + fresh if adds_up.any() else fresh
            norm = np.sqrt(np.einsum("nd,nd->n", grad, grad))
            if step % problem.every == 0:
                at = step // problem.every
                loss[:, at], grad_norm[:, at], path[:, at] = value, norm, weights[:, :kept]
                weight_norm[:, at] = np.sqrt(np.einsum("nd,nd->n", weights, weights))
            if np.isfinite(clip).any():
                grad = grad * np.minimum(1.0, clip / np.maximum(norm[:, None], 1e-300))
            weights = (weights + optimize(grad, rates[:, step : step + 1])).astype(problem.dtype, copy=False)
    for i, recipe in enumerate(recipes):
        yield Training(
            recipe,
            steps,
            loss[i],
            grad_norm[i],
            weight_norm[i],
            rates[i, steps],
            path[i].astype(np.float64),
            weights[i].astype(np.float64),
        )


def _optimizer(recipes: Sequence[Recipe], shape: tuple[int, int]) -> Optimizer:
    """Return the update of the optimizer that the recipes share; it keeps the state."""
    name = str(recipes[0].settings["optimizer.name"])
    eps = _column(recipes, "optimizer.eps", 1e-10 if name == "adagrad" else 1e-8)
    momentum = _column(recipes, "optimizer.momentum", 0.0)
    state: Any
    recurrence: Callable[..., tuple[FloatArray, Any]]
    settings: dict[str, Any]
    match name:
        case "adam":
            betas = np.array([_betas(r.settings) for r in recipes])
            amsgrad = _column(recipes, "optimizer.amsgrad", 0.0).astype(bool)
            settings = {"beta1": betas[:, :1], "beta2": betas[:, 1:], "eps": eps, "amsgrad": amsgrad}
            state, recurrence = adam.start(shape), adam.step
            settings["epsilon_hat"] = recipes[0].dialect == "keras"
        case "sgd":
            state, recurrence, settings = sgd.start(shape), sgd.step, {"momentum": momentum}
        case "adagrad":
            state, recurrence, settings = adagrad.start(shape), adagrad.step, {"eps": eps}
        case "rmsprop":
            alpha = _column(recipes, "optimizer.alpha", 0.99)
            state, recurrence = rmsprop.start(shape), rmsprop.step
            settings = {"alpha": alpha, "eps": eps, "momentum": momentum}
        case _:
            raise ValueError(f"optimizer {name!r} is not known to the trainer of the demos")

    def optimize(grad: FloatArray, lr: FloatArray) -> FloatArray:
        nonlocal state
        update, state = recurrence(grad, state, lr=lr, **settings)
        return update

    return optimize


def _number(settings: Mapping[str, object], key: str, default: float) -> float:
    value = settings.get(key, default)
    assert isinstance(value, int | float), f"{key}: {value!r}"
    return float(value)


def _column(recipes: Sequence[Recipe], key: str, default: float) -> FloatArray:
    """Return a setting of each recipe, (n_runs, 1)."""
    return np.array([[_number(r.settings, key, default)] for r in recipes])


def _betas(settings: Mapping[str, object]) -> tuple[float, float]:
    betas = settings.get("optimizer.betas", (0.9, 0.999))
    assert isinstance(betas, list | tuple), f"optimizer.betas: {betas!r}"
    return float(betas[0]), float(betas[1])
