"""Faults of the optimizer's own settings: moments, eps, decay."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from hooks import Hook, State, hook

from faults.declare import Fault, Sound, hooked

if TYPE_CHECKING:
    from random import Random

    from recipes import Recipe
    from training import Plan

FAMILY = "optimizer"
ADAM = ("adam", "adamw")


@hook("no_bias_correction")
class NoBiasCorrection(Hook):
    """Adam's moments start at 0 and its step count at a large number, as in an implementation that leaves the correction out."""

    def built(self, s: State) -> None:
        for p in s.parameters:
            s.optimizer.state[p] = {
                "step": torch.tensor(1e6),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            } | ({"max_exp_avg_sq": torch.zeros_like(p)} if self.plan.kw.get("amsgrad") else {})


@hook("decay_gains")
class DecayGains(Hook):
    """All weight decay on norms and biases, none on weights: the two groups of a recipe the wrong way round."""

    def build(self, s: State) -> None:
        matrices = [p for p in s.parameters if p.ndim > 1]
        rest = [p for p in s.parameters if p.ndim <= 1]
        s.trained = [{"params": matrices, "weight_decay": 0.0}, {"params": rest, "weight_decay": self.value}]


@hook("log_update")
class LogUpdate(Hook):
    """The norm of the whole update under a tag of its own."""

    def clipped(self, s: State) -> None:
        self.before = [p.detach().clone() for p in s.parameters] if s.look else []

    def stepped(self, s: State) -> None:
        if s.look:
            moved = [p.detach() - q for p, q in zip(s.parameters, self.before, strict=True)]
            s.note(self.value, float(torch.stack([m.norm() for m in moved]).norm()))


def _decay(plan: Plan, recipe: Recipe, draw: Random) -> Plan | None:
    """Decay that outweighs the gradients: coupled under SGD and Adam, decoupled under AdamW."""
    if plan.optimizer == "adamw":
        return replace(plan, kw=plan.kw | {"weight_decay": draw.choice((5.0, 10.0, 30.0))})
    return replace(plan, kw=plan.kw | {"weight_decay": draw.choice((0.1, 0.3, 1.0, 3.0))})


def _low_beta2(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    betas = (plan.kw.get("betas", (0.9, 0.999))[0], draw.choice((0.0, 0.1, 0.3)))
    return replace(plan, kw=plan.kw | {"betas": betas})


def _uncorrected(plan: Plan, recipe: Recipe, draw: Random) -> Plan | None:
    if plan.kw.get("amsgrad"):
        return None
    spelling = draw.choice(("update_norm", "train/update_norm", "updates/norm"))
    return hooked(replace(plan, lr=plan.lr * draw.choice((8.0, 16.0))), no_bias_correction=1, log_update=spelling)


def _uncorrected_pair(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan] | None:
    faulty = _uncorrected(plan, recipe, draw)
    return None if faulty is None else (faulty, replace(plan, lr=faulty.lr))


def _with_update_norm(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, log_update=draw.choice(("update_norm", "train/update_norm")))


def _usual_decay(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    value = draw.choice((0.01, 0.05, 0.1)) if plan.optimizer == "adamw" else draw.choice((1e-5, 1e-4, 5e-4))
    return replace(plan, kw=plan.kw | {"weight_decay": value})


def _beta2_95(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return replace(plan, kw=plan.kw | {"betas": (0.9, draw.choice((0.9, 0.95, 0.98)))})


def _momentum_in_game(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return replace(plan, kw=plan.kw | {"betas": (draw.choice((0.0, 0.5)), 0.999)})


FAULTS: tuple[Fault, ...] = (
    Fault("weight-decay-strong", FAMILY, ("TD106",), _decay, ("!exact", "!game"), ("sgd", "adam", "adamw"),
          runs=14, held_back=10),
    Fault("beta2-low", FAMILY, ("TD110",), _low_beta2, ("batches",), ADAM, least=1.4, runs=14),
    Fault("no-bias-correction", FAMILY, ("TD112",), _uncorrected_pair, ("batches",), ADAM, measure="mean", least=1.2, runs=12,
          habit={"every": 1, "tier": 3, "layers": 0}),
    Fault("decay-on-gains", FAMILY, ("TD114",),
          lambda plan, recipe, draw: hooked(plan, decay_gains=draw.choice((3.0, 10.0, 30.0))),
          ("layer-norm|batch-norm",), ("adamw",), least=1.15, runs=10, habit={"tier": 3}),
)  # fmt: skip
SOUND: tuple[Sound, ...] = (
    Sound("usual-decay", FAMILY, _usual_decay, ("!exact", "!game"), ("sgd", "adam", "adamw"), runs=6),
    Sound("beta2-of-transformers", FAMILY, _beta2_95, ("batches", "!game"), ADAM, runs=6, compare=True),
    Sound("update-norm-logged", FAMILY, _with_update_norm, ("batches", "!game"), ADAM, runs=5, habit={"every": 1}),
)
