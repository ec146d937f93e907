"""Faults of gradient handling: clearing, accumulating, clipping, stepping, and gradients that grow or shrink over depth."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from hooks import Hook, State, hook
from torch import nn
from training import norm

from faults.declare import Fault, Sound, hooked, with_hook

if TYPE_CHECKING:
    from random import Random

    from recipes import Recipe
    from torch import Tensor
    from training import Plan

FAMILY = "gradients"


def gradients(s: State) -> list[Tensor]:
    return [p.grad for p in s.parameters if p.grad is not None]


def scale_gradients(s: State, factor: float) -> None:
    for grad in gradients(s):
        grad.mul_(factor)


# -- clearing ----------------------------------------------------------------------------------------------------------


@hook("zero")
class Clearing(Hook):
    """ "missing": never cleared. "misplaced": cleared between backward and step; "-logged-before": norm taken before that."""

    def clears(self, s: State) -> bool:
        return False

    def backward(self, s: State) -> None:
        if self.value == "misplaced-logged-before" and s.look:
            s.out["grad_norm"][s.step] = norm(gradients(s))
        if self.value.startswith("misplaced"):
            s.optimizer.zero_grad()


@hook("zero_per_epoch")
class ClearedOncePerEpoch(Hook):
    """Gradients are cleared at the first step of each epoch alone."""

    def clears(self, s: State) -> bool:
        return s.step % s.per_epoch == 0


@hook("own_zero")
class ModelCleared(Hook):
    """The model's gradients are cleared, not those of what the optimizer holds."""

    def clears(self, s: State) -> bool:
        s.model.zero_grad()
        return False


# -- stepping ----------------------------------------------------------------------------------------------------------


@hook("frozen")
class OtherParameters(Hook):
    """The optimizer got parameters of another model ("all"), only the last bias ("last"), or all but the first so many."""

    def build(self, s: State) -> None:
        if self.value == "all":
            s.trained = [p.detach().clone().requires_grad_() for p in s.parameters]
        else:
            s.trained = s.parameters[-1:] if self.value == "last" else s.parameters[self.value :]


@hook("never_steps")
class NeverSteps(Hook):
    """`optimizer.step` is not called."""

    def steps(self, s: State) -> bool:
        return False


@hook("backbone")
class FrozenBackbone(Hook):
    """All but the last two parameters need no gradient, as in the fine-tuning of a head."""

    def begin(self, s: State) -> None:
        if s.step == 0:
            for p in s.parameters[:-2]:
                p.requires_grad_(False)
                p.grad = None


# -- accumulating ------------------------------------------------------------------------------------------------------


@hook("sum_of_passes")
class SumOfPasses(Hook):
    """The loss of each micro-batch is not divided by their number; the log shows the sum too where the setting says so."""

    def scaled(self, s: State) -> None:
        s.loss = s.loss * self.plan.accumulate

    def finish(self, s: State) -> None:
        if self.value == "logged":
            s.out["loss"] *= self.plan.accumulate


# -- clipping ----------------------------------------------------------------------------------------------------------


@hook("amp")
class LossScale(Hook):
    """A loss scale that doubles every so many steps; "early": clipped and logged before it is divided out, "right": after.

    Only the scale is played: the arithmetic stays in float32.
    """

    def __init__(self, value: str, plan: Plan) -> None:
        super().__init__(value, plan)
        self.kind, _, logged = value.partition("+")
        self.logged, self.scale = logged == "logged", 2.0 ** random.Random(plan.seed).choice((10, 12, 16))
        self.tag = random.Random(plan.seed).choice(("loss_scale", "train/loss_scale", "amp/scale", "grad_scale"))

    def scaled(self, s: State) -> None:
        if s.step and s.step % max(20, s.plan.steps // 4) == 0:
            self.scale *= 2.0
        s.loss = s.loss * self.scale
        if self.logged:
            s.note(self.tag, self.scale)

    def backward(self, s: State) -> None:
        if self.kind == "right":
            scale_gradients(s, 1.0 / self.scale)

    def clipped(self, s: State) -> None:
        if self.kind == "early":
            scale_gradients(s, 1.0 / self.scale)


@hook("rare_batches")
class RareBatches(Hook):
    """At random steps, one in sixty, the gradient is about so many times larger: samples of a heavy tail, or of wrong weight."""

    def __init__(self, value: float, plan: Plan) -> None:
        super().__init__(value, plan)
        self.draw = random.Random(plan.seed + 77)

    def scaled(self, s: State) -> None:
        if s.step > 20 and self.draw.random() < 1 / 60:
            s.loss = s.loss * self.value * (0.5 + self.draw.random())


# -- depth -------------------------------------------------------------------------------------------------------------


@hook("gain")
class Gain(Hook):
    """Weights of the hidden layers times a factor at the start."""

    def prepare(self, s: State) -> None:
        with torch.no_grad():
            for module in s.model.modules():
                if isinstance(module, nn.Linear) and module.in_features == module.out_features:
                    module.weight.mul_(self.value)


# -- what is injected --------------------------------------------------------------------------------------------------


def _part_held(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, frozen=draw.choice((1, 2, 4)))


def _sum_of_passes(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    sound = replace(plan, accumulate=draw.choice((3, 4, 8)), steps=max(60, plan.steps // 2))
    return hooked(sound, sum_of_passes="logged"), sound


def _fast_sum_of_passes(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    sound = replace(plan, accumulate=draw.choice((4, 8, 16)), steps=max(60, plan.steps // 3))
    return hooked(sound, sum_of_passes=draw.choice(("logged", "quiet"))), sound


def _tight_clip(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    return replace(plan, clip=draw.choice((1e-4, 3e-4, 1e-3, 3e-3))), plan


def _clip_of_scaled(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    sound = replace(plan, clip=draw.choice((0.5, 1.0, 5.0)))
    return hooked(sound, amp="early" + draw.choice(("", "+logged", "+logged"))), sound


def _heavy_tail(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    wild = hooked(plan, rare_batches=draw.choice((30.0, 60.0, 120.0)))
    return wild, replace(wild, clip=1.0)


def _exploding(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    # with units that are bounded; the gains of ReLU layers cancel in the gradients of weights, and are a matter of scale alone
    sound = replace(plan, task_kw=plan.task_kw | {"act": "Tanh", "layers": draw.choice((8, 12))})
    return hooked(sound, gain=draw.choice((3.0, 5.0))), sound


def _vanishing(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    layers = {"layers": draw.choice((5, 7, 9))}
    return replace(plan, task_kw=plan.task_kw | layers | {"act": "Sigmoid"}), replace(plan, task_kw=plan.task_kw | layers)


# -- what is sound -----------------------------------------------------------------------------------------------------


def _head_alone(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    rate = plan.lr if plan.optimizer != "sgd" else 1e-3
    return hooked(replace(plan, steps=min(plan.steps, 300)), head_start=200, head_start_lr=rate, backbone=1)


def _always_clipped(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    bound = draw.choice((0.01, 0.05))  # with a rate to match, as in normalised gradient descent
    return replace(plan, clip=bound, lr=min(plan.lr * 0.3 / bound, 0.05 / bound))


def _epoch_restarts(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, rate_falls_in_epoch=draw.choice((0.1, 0.3)))


def _accumulates(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return replace(plan, accumulate=draw.choice((2, 4, 8)), steps=max(60, plan.steps // 2))


def _other_units(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return replace(plan, task_kw=plan.task_kw | {"act": draw.choice(("Tanh", "GELU"))})


@hook("rate_falls_in_epoch")
class RateFallsInEpoch(Hook):
    """The rate falls from its full size at the start of each epoch to a share of it at the end."""

    def rate(self, s: State) -> None:
        phase = (s.step % s.per_epoch) / max(1, s.per_epoch - 1)
        s.lr *= 1.0 - (1.0 - self.value) * phase


FROZEN = ("TD311", "TD305", "TD302")  # the log cannot tell them apart where no gradient piles up
RATE = ("TD307", "TD201")  # without a multiple in the logged loss, a rate that is k times too high is all there is to see
PLAIN = ("!layer-norm", "!batch-norm")
LAYERS = {"tier": 3}
NORMS = {"tier": 2}
EACH_NORM = {"tier": 2, "every": 1}
FIFTH_NORM = {"tier": 2, "every": 5}
DATA = ("batches", "!game")
per_epoch = with_hook(zero_per_epoch=1)

FAULTS: tuple[Fault, ...] = (
    Fault("frozen", FAMILY, ("TD311",), with_hook(frozen="all"), ("val",), runs=6),
    Fault("frozen-clean", FAMILY, FROZEN, with_hook(frozen="all", own_zero=1), ("val",), runs=6),
    Fault("last-bias-only", FAMILY, ("TD311",), with_hook(frozen="last"), ("val", "!regression"), runs=6, habit=NORMS),
    Fault("part-not-held", FAMILY, ("TD311",), _part_held, ("val", "deep|attention|convolution"), least=1.3, runs=12,
          habit=LAYERS),
    Fault("never-steps", FAMILY, FROZEN, with_hook(never_steps=1), ("val",), runs=8),
    # of gradients that are cleared once per epoch nothing is seen without a norm within the epoch: the loss has no teeth
    Fault("zero-grad-per-epoch", FAMILY, ("TD317",), per_epoch, DATA, least=1.5, runs=14, held_back=8, habit=EACH_NORM),
    Fault("zero-grad-per-epoch-sparse", FAMILY, ("TD317",), per_epoch, DATA, least=1.5, runs=12, habit=FIFTH_NORM),
    Fault("sum-of-passes", FAMILY, ("TD307",), _sum_of_passes, ("batches", "val"), ("adam", "adamw", "rmsprop"), runs=9),
    Fault("sum-of-passes-fast", FAMILY, RATE, _fast_sum_of_passes, ("batches",), ("sgd",), least=1.5, runs=9),
    Fault("clip-too-tight", FAMILY, ("TD318",), _tight_clip, ("!game", "!exact"), ("sgd",), runs=12, held_back=8),
    Fault("clip-of-scaled", FAMILY, ("TD310",), _clip_of_scaled, DATA, ("sgd", "adam"), runs=14, held_back=9),
    Fault("heavy-tail-unclipped", FAMILY, ("TD319",), _heavy_tail, DATA, ("sgd", "adam"), least=1.5, runs=18,
          held_back=12, habit=EACH_NORM),  # between logged points a single large gradient is not seen
    # over depth: the norm of all layers together is that of the last ones, or as wild as that of sound recurrent networks
    Fault("exploding-layers", FAMILY, ("TD320",), _exploding, ("deep", *PLAIN), least=1.5, runs=6, habit=LAYERS),
    Fault("vanishing-layers", FAMILY, ("TD321",), _vanishing, ("deep", *PLAIN), runs=8, habit=LAYERS),
)  # fmt: skip
SOUND: tuple[Sound, ...] = (
    Sound("head-alone", FAMILY, _head_alone, ("val", "relu", "classes"), runs=5, flat=True),
    Sound("always-clipped", FAMILY, _always_clipped, DATA, ("sgd",), runs=6, compare=True),
    Sound("rate-falls-in-epoch", FAMILY, _epoch_restarts, DATA, runs=6, compare=True),
    Sound("rare-batches", FAMILY, with_hook(rare_batches=12.0), DATA, ("adam", "adamw"), runs=8, compare=True),
    Sound("loss-scaled", FAMILY, with_hook(amp="right+logged"), DATA, runs=5, compare=True),
    Sound("accumulates", FAMILY, _accumulates, DATA, runs=6),
    Sound("other-units", FAMILY, _other_units, ("deep", *PLAIN), runs=4, habit=LAYERS),
)  # fmt: skip
