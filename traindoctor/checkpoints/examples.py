"""States made by hand, for the examples of rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.checkpoints.state import Change, Checkpoint, Held, Moments, OptimizerState, State, Values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def values_of(shape: Sequence[int] = (8, 8), dtype: str = "float32", *, nan: int = 0, zero: bool = False) -> Values:
    """Return the figures of a tensor of ones, of zeros, or with some NaN."""
    size = 1
    for n in shape:
        size *= n
    level = 0.0 if zero else 1.0
    return Values(tuple(shape), dtype, size, nan, 0, size if zero else 0, 0, level * size**0.5, level, (level,) * 7)


def checkpoint_of(
    step: int = 1000,
    *,
    counted: float | None = None,
    moments: Moments | None = None,
    settings: Mapping[str, object] | None = None,
    dtype: str = "float32",
    second: str = "",
    nan: int = 0,
    stepped: bool = True,
    zero: bool = False,
    epoch: float | None = None,
    scheduler: Mapping[str, object] | None = None,
    scale: float | None = None,
) -> Checkpoint:
    """Return a checkpoint of two matrices and a bias under Adam, made at a step.

    `counted`: steps of the optimizer's state, those of the run if None. `moments`: of each parameter. `settings`: of the
    optimizer, beside Adam's defaults. `dtype`, `second`: formats of weights and moments. `nan`: lost values of each weight.
    `stepped`: whether there is a state. `zero`: whether it is 0. `scale`: of the loss.
    """
    shapes = {"first.weight": (8, 8), "first.bias": (8,), "head.weight": (4, 8)}
    slots = {name: values_of(shape, second or dtype, zero=zero) for name, shape in shapes.items()}
    held = tuple(
        Held(
            i,
            name,
            0,
            {"exp_avg": slots[name], "exp_avg_sq": slots[name]} if stepped else {},
            (float(step) if counted is None else counted) if stepped else None,
            moments if stepped else None,
        )
        for i, name in enumerate(shapes)
    )
    group = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, **(settings or {})}
    return Checkpoint(
        file=f"step_{step}.pt",
        format="PyTorch",
        weights={name: values_of(shape, dtype, nan=nan) for name, shape in shapes.items()},
        optimizers=(OptimizerState("optimizer", (group,), held),),
        schedulers=() if scheduler is None else (scheduler,),
        scaler={} if scale is None else {"scale": scale},
        steps={"global_step": float(step)},
        step=step,
        step_source="global_step",
        epoch=epoch,
    )


def state_of(*checkpoints: Checkpoint, same: float | None = None, fell: float | None = None) -> State:
    """Return the state of checkpoints; `same`: share of the weights that did not move, `fell`: of v that fell."""
    changes = () if same is None else tuple(Change(n, v.size, same, fell) for n, v in checkpoints[-1].weights.items())
    return State(checkpoints, changes)
