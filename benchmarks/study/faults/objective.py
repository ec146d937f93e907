"""Faults of loss, model and initialisation, and of generalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from faults.declare import Fault, Sound, hooked, with_hook
from hooks import Hook, State, hook
from torch.nn import functional as F

if TYPE_CHECKING:
    from random import Random

    from recipes import Recipe
    from training import Plan

FAMILY = "objective"


@hook("softmax_twice")
class SoftmaxTwice(Hook):
    """Cross-entropy of probabilities instead of scores."""

    def prepare(self, s: State) -> None:
        s.loss_of = lambda m, x, y: F.cross_entropy(F.softmax(m(x), 1), y)


@hook("dead")
class Dead(Hook):
    """Biases of hidden layers so far below zero that no unit is ever active."""

    def prepare(self, s: State) -> None:
        for layer in s.model.modules():
            if isinstance(layer, torch.nn.Linear) and layer.out_features > 10:
                torch.nn.init.constant_(layer.bias, -abs(self.value))


@hook("scale_init")
class ScaledInit(Hook):
    """All initial weights times a factor."""

    def prepare(self, s: State) -> None:
        with torch.no_grad():
            for p in s.model.parameters():
                p.mul_(self.value)


@hook("rows")
class FewRows(Hook):
    """Only the first rows of the training part."""

    def prepare(self, s: State) -> None:
        s.problem.x, s.problem.y = s.problem.x[: self.value], s.problem.y[: self.value]


def _overfit(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    noise = {"label_noise": 0.3} if "classes" in recipe.traits else {}
    return hooked(plan, rows=draw.choice((80, 128, 160)), **noise), plan


FAULTS: tuple[Fault, ...] = (
    Fault("softmax-twice", FAMILY, ("TD601",), with_hook(softmax_twice=1), ("classes", "batches", "val", "!imbalanced")),
    Fault("overfitting", FAMILY, ("TD704",), _overfit, ("batches", "val", "!tokens"), measure="val", least=1.5, habit={"val": True}),
    Fault("dead-relu", FAMILY, ("TD612",), with_hook(dead=12.0), ("relu", "val"), ("adam", "sgd", "adamw")),
)
SOUND: tuple[Sound, ...] = ()
