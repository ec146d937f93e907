"""The places of a training loop at which a fault, or a habit, acts; `training.train` calls them in this order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from problem import Loss, Problem
    from torch import Tensor
    from training import Plan


@dataclass
class State:
    """One run while it trains. What a hook may change is what it finds here.

    `x`, `y`, `loss`: of the micro-batch at hand. `parameters`: of the model. `trained`: what the optimizer was given.
    `out`: name -> (steps,) float64, NaN where nothing was noted; "loss", "lr", "grad_norm", "weight_norm" and "wall" (seconds
    that the step took) are always there. `look`: whether norms are taken at this step.
    """

    plan: Plan
    problem: Problem
    model: torch.nn.Module
    loss_of: Loss
    per_epoch: int = 1
    step: int = 0
    micro: int = 0
    lr: float = 0.0
    look: bool = False
    optimizer: Any = None
    parameters: list[Tensor] = field(default_factory=list)
    trained: list[Any] = field(default_factory=list)
    x: Any = None
    y: Any = None
    loss: Any = None
    out: dict[str, np.ndarray] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        """Note one value of a series of the run's own ("loss_scale", "accuracy", "loss_term/mask") at this step."""
        if name not in self.out:
            self.out[name] = np.full(self.plan.steps, np.nan)
        self.out[name][self.step] = value


class Hook:
    """Does nothing; a fault overrides the places at which it acts. `value`: its setting in `Plan.hook`."""

    def __init__(self, value: Any, plan: Plan) -> None:
        self.value, self.plan = value, plan

    def prepare(self, s: State) -> None:
        """Spoil data, model or loss (`s.problem`, `s.model`, `s.loss_of`), before parameters are collected."""

    def build(self, s: State) -> None:
        """Change what the optimizer is given (`s.trained`: tensors or parameter groups), before it is built."""

    def built(self, s: State) -> None:
        """Change the optimizer just built (`s.optimizer`)."""

    def rate(self, s: State) -> None:
        """Change `s.lr` of this step; it is then set in all groups, times the group's own "share" where it has one."""

    def begin(self, s: State) -> None:
        """Act at the beginning of a step: resume, change of data."""

    def clears(self, s: State) -> bool:
        """Whether `zero_grad` is called at the beginning of this step."""
        return True

    def order(self, s: State, order: Tensor) -> Tensor:
        """Return the order of the rows for the epoch that begins."""
        return order

    def batch(self, s: State) -> None:
        """Change `s.x`, `s.y`."""

    def objective(self, s: State) -> None:
        """Change `s.loss`, the loss that is logged and differentiated."""

    def scaled(self, s: State) -> None:
        """Change `s.loss` after it was logged: what is differentiated alone."""

    def backward(self, s: State) -> None:
        """Act on the gradients of all micro-batches, before norm, clip and step."""

    def clipped(self, s: State) -> None:
        """Act on the gradients after norm and clip, before the step."""

    def steps(self, s: State) -> bool:
        """Whether `optimizer.step` is called."""
        return True

    def stepped(self, s: State) -> None:
        """Act on the weights after the step."""

    def evaluates(self, s: State) -> bool:
        """Whether the model is put into evaluation mode for validation."""
        return True

    def finish(self, s: State) -> None:
        """Change what the log shows (`s.out`) when training is over."""


#: Hook name -> its class; `faults/` fills it.
HOOKS: dict[str, type[Hook]] = {}


def hook(name: str) -> Callable[[type[Hook]], type[Hook]]:
    """Register a hook under its name in `Plan.hook`."""

    def register(cls: type[Hook]) -> type[Hook]:
        if name in HOOKS:
            raise ValueError(f"two hooks are called {name}")
        HOOKS[name] = cls
        return cls

    return register
