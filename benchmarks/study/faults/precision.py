"""Faults of number formats and of operations at the edge of their domain."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import torch
from hooks import Hook, State, hook

from faults.declare import Fault, Sound, hooked

if TYPE_CHECKING:
    from recipes import Recipe
    from torch import Tensor
    from training import Plan

FAMILY = "precision"
#: Spellings of the loss scale in logs.
SCALE_TAGS = ("loss_scale", "train/loss_scale", "grad_scale", "amp/scale", "scaler/scale", "loss_scaler")


@hook("half")
class Half(Hook):
    """Model and data in float16."""

    def prepare(self, s: State) -> None:
        cast(s, torch.float16)


def cast(s: State, dtype: torch.dtype) -> None:
    """Bring model and data to a number format."""
    s.model.to(dtype)
    p = s.problem
    p.x = p.x.to(dtype) if p.x.is_floating_point() else p.x
    if p.x_val is not None and p.x_val.is_floating_point():
        p.x_val = p.x_val.to(dtype)
    if p.y.is_floating_point():
        p.y = p.y.to(dtype)
        p.y_val = None if p.y_val is None else p.y_val.to(dtype)


@hook("brain")
class Brain(Hook):
    """Model, data and so the optimizer's state in bfloat16."""

    def prepare(self, s: State) -> None:
        cast(s, torch.bfloat16)


@hook("bf16")
class BrainFloat(Hook):
    """Weights rounded to bfloat16 after every step; the optimizer's state is not."""

    def stepped(self, s: State) -> None:
        with torch.no_grad():
            for p in s.parameters:
                p.copy_(p.bfloat16())


@hook("bf16_moments")
class BrainMoments(Hook):
    """The optimizer's moments rounded to bfloat16 after every step; the weights are not."""

    def stepped(self, s: State) -> None:
        for state in s.optimizer.state.values():
            for name in ("exp_avg", "exp_avg_sq", "square_avg"):
                if name in state:
                    state[name].copy_(state[name].bfloat16())


@hook("loud_start")
class LoudStart(Hook):
    """Inputs times a factor over the first steps: gradients that are soon much smaller."""

    def batch(self, s: State) -> None:
        if s.step < 12 and s.x.is_floating_point():
            s.x = s.x * self.value


@hook("half_loss")
class HalfLoss(Hook):
    """The loss that is logged is a sum over rows and outputs, this many times the mean, in float16; gradients are sound."""

    def objective(self, s: State) -> None:
        low = (s.loss.detach() * self.value).half().float()
        s.loss = low + (s.loss - s.loss.detach()) if torch.isfinite(low) else s.loss - s.loss.detach() + low


@hook("fixed_scale")
class FixedScale(Hook):
    """Gradients pass through float16 times a fixed loss scale, and nobody looks whether they overflow."""

    def __init__(self, value: Any, plan: Plan) -> None:
        super().__init__(value, plan)
        self.tag = "" if "precision" in plan.hook else Random(plan.seed).choice(SCALE_TAGS)

    def backward(self, s: State) -> None:
        through_half(s, self.value)
        if self.tag:
            s.note(self.tag, self.value)


def through_half(s: State, scale: float) -> bool:
    """Round the gradients as float16 does behind a loss scale; whether all of them are finite."""
    with torch.no_grad():
        grads = [p.grad for p in s.parameters if p.grad is not None]
        for grad in grads:
            grad.copy_((grad * scale).half().float() / scale)
        return all(bool(torch.isfinite(grad).all()) for grad in grads)


@hook("growing")
class Growing(Hook):
    """Activations that grow by this factor a step and cancel again, until they pass float16's largest number."""

    def objective(self, s: State) -> None:
        if 16.0 * self.value**s.step > 65504.0:
            s.loss = s.loss * math.inf


@hook("scaler")
class Scaler(Hook):
    """A dynamic loss scale over gradients in float16: it halves at an overflow, whose step is skipped.

    `value`: steps without overflow after which it doubles. "scale_start": its first value. "overflows": from which step on, and
    with which chance, the forward pass of a batch overflows too.
    """

    def __init__(self, value: Any, plan: Plan) -> None:
        super().__init__(value, plan)
        self.draw = Random(plan.seed)
        self.tag, self.shows = self.draw.choice(SCALE_TAGS), self.draw.random() < 0.3
        self.scale, self.clean = float(plan.hook.get("scale_start", 65536.0)), 0
        self.since, self.chance = plan.hook.get("overflows", (plan.steps, 0.0))
        self.lost = False

    def objective(self, s: State) -> None:
        self.lost = s.step >= self.since and self.draw.random() < self.chance
        if self.lost and self.shows:
            s.loss = s.loss * math.inf

    def backward(self, s: State) -> None:
        s.note(self.tag, self.scale)
        self.lost = not through_half(s, self.scale) or self.lost
        self.clean = 0 if self.lost else self.clean + 1
        if self.lost:
            self.scale /= 2.0
        elif self.clean == self.value:
            self.scale, self.clean = self.scale * 2.0, 0

    def steps(self, s: State) -> bool:
        return not self.lost


@hook("scale_start")
@hook("overflows")
@hook("precision")
@hook("at")
@hook("run_on")
@hook("fp16_log")
class Mark(Hook):
    """A setting of another hook, of the loop or of the log."""


@hook("non_finite")
class Poison(Hook):
    """A singular term in the loss from step "at" on: "log0", "0/0", "overflow", "sqrt0" (finite loss, gradient 0/0)."""

    def objective(self, s: State) -> None:
        if s.step >= s.plan.hook["at"]:
            s.loss = poison(self.value, s.loss, s.model, s.x)


def poison(kind: str, loss: Tensor, model: torch.nn.Module, x: Tensor) -> Tensor:
    """The loss with a singular term, as faulty loss code meets it when a sample hits the edge of its domain."""
    if kind == "log0":
        p = torch.sigmoid(model(x)).clamp(max=0.5) * 0.0
        return loss - 0.01 * torch.log(p).mean()
    if kind == "0/0":
        z = model(x) * 0.0
        return loss + (z / z.norm(dim=-1, keepdim=True)).mean()
    if kind == "overflow":
        return loss + 1e-3 * torch.exp(100 + model(x).abs()).mean()
    z = (model(x) - model(x).detach()).float()  # "sqrt0": finite loss, gradient 0/0
    return loss + torch.sqrt((z**2).sum())


def _slow_in_bf16(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    """Weights kept in bfloat16 under a rate at which a typical update is lost; its twin has them in float32."""
    slow = replace(plan, lr=plan.lr / draw.choice((6, 10, 15)))
    return hooked(slow, bf16=1, precision=draw.choice(("bf16-true", "bfloat16"))), slow


def _said(draw: Random, *words: str) -> dict[str, str]:
    """Return what the config says of the precision: one of the words, or nothing for one run in three."""
    return {} if draw.random() < 1 / 3 else {"precision": draw.choice(words)}


def _pure_bf16(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    slow = replace(plan, lr=plan.lr / draw.choice((5, 8, 12)), kw=plan.kw | _betas(plan, 0.95))
    return hooked(slow, brain=1, **_said(draw, "bf16-true", "bfloat16")), slow


def _betas(plan: Plan, beta2: float) -> dict[str, Any]:
    return {"betas": (0.9, beta2)} if plan.optimizer in ("adam", "adamw") else {}


def _frozen_moment(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    """Early gradients that are loud, and moments in bfloat16 that cannot come down from them; its twin has float32."""
    longer = replace(plan, steps=max(1400, 2 * plan.steps), kw=plan.kw | _betas(plan, 0.998))
    loud = hooked(longer, loud_start=draw.choice((30.0, 100.0)))
    return hooked(loud, bf16_moments=1, precision=draw.choice(("bf16-true", "bfloat16"))), loud


def _summed(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    return hooked(plan, half_loss=draw.choice((1e5, 3e5, 1e6)), run_on=1, **_said(draw, "float16", "half")), plan


def _unscaled(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, fixed_scale=2.0 ** draw.choice((16, 17, 18)), **_said(draw, "fp16"))


def _growing(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    at = round(plan.steps * draw.uniform(0.2, 0.7))
    return hooked(plan, growing=(65504.0 / 16.0) ** (1.0 / at), precision=draw.choice(("float16", "half", "pure_fp16")))


def _scale_runs_down(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    since = round(plan.steps * draw.uniform(0.05, 0.2))
    halving = 0.35 * plan.steps * draw.uniform(0.4, 0.9) / 20.0  # steps between overflows: 20 halvings in a third of the run
    overflows = (since, min(1.0, 1.0 / max(1.0, halving)))
    sound = {"scaler": draw.choice((200, 2000)), "scale_start": 2.0 ** draw.choice((13, 15, 16)), "precision": "16-mixed"}
    return hooked(plan, **sound, overflows=overflows), hooked(plan, **sound)


def _slingshot(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    """A few rows learned by heart in a full batch, trained on with a short memory (arXiv:2206.04817); its twin has a long one."""
    rate = draw.choice((5e-3, 1e-2))
    long = replace(
        plan, steps=draw.choice((1600, 2400)), lr=rate, task_kw=plan.task_kw | {"batch": None, "layers": 3, "hidden": 64}
    )
    long = hooked(replace(long, kw={"betas": (0.9, 0.999)}), rows=draw.choice((60, 100, 150)))
    return replace(long, kw={"betas": (0.9, draw.choice((0.9, 0.95)))}), long


def _half_that_works(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    """Weights in float16 under SGD, at a rate that moves them."""
    return hooked(plan, half=1, precision=draw.choice(("float16", "16-true")))


def _settling_scale(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, scaler=draw.choice((40, 100, 2000)), scale_start=2.0 ** draw.choice((16, 20, 24)), precision="16-mixed")


def _bf16_that_works(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    """bfloat16 throughout at a large rate, or autocast alone, which changes nothing that could be seen here."""
    if draw.random() < 0.5:
        return hooked(plan, precision="bf16-mixed")
    return hooked(replace(plan, kw=plan.kw | _betas(plan, 0.95)), brain=1, precision=draw.choice(("bf16-true", "bfloat16")))


ADAMS = ("adam", "adamw")
FAULTS: tuple[Fault, ...] = (
    Fault(
        "bf16-weights",
        FAMILY,
        ("TD409",),
        _slow_in_bf16,
        ("batches",),
        least=1.25,
        runs=12,
        held_back=8,
        habit={"tier": 2, "weight_norm": True},
    ),
    Fault(
        "bf16-throughout",
        FAMILY,
        ("TD409",),
        _pure_bf16,
        ("batches", "!recurrent"),
        least=1.25,
        runs=10,
        held_back=8,
        habit={"tier": 2, "weight_norm": True},
    ),
    Fault(
        "bf16-moments",
        FAMILY,
        ("TD410",),
        _frozen_moment,
        ("batches", "!tokens"),
        ADAMS,
        least=1.2,
        runs=8,
        held_back=6,
        habit={"tier": 2, "config": "flat"},
    ),
    Fault("half-summed-loss", FAMILY, ("TD407",), _summed, ("batches", "!game"), runs=9, held_back=6),
    Fault("half-without-check", FAMILY, ("TD407",), _unscaled, ("batches", "!game"), runs=12, held_back=6),
    Fault("half-growing", FAMILY, ("TD407",), _growing, ("batches", "!game"), runs=8, held_back=6, habit={"config": "flat"}),
    Fault("loss-scale-runs-down", FAMILY, ("TD408",), _scale_runs_down, ("batches", "!game"), least=1.4, runs=14, held_back=8),
    Fault(
        "slingshot",
        FAMILY,
        ("TD411", "TD101"),
        _slingshot,
        ("classes", "relu", "images", "!convolution", "!deep"),
        ADAMS,
        measure="late",
        least=1e3,
        runs=8,
        held_back=0,
    ),
)
SOUND: tuple[Sound, ...] = (
    Sound("loss-scale-settles", FAMILY, _settling_scale, ("batches", "!game"), runs=8, held_back=5),
    Sound("bf16-that-works", FAMILY, _bf16_that_works, ("batches", "!game", "!recurrent"), runs=10, held_back=6, compare=True),
    Sound("half-that-works", FAMILY, _half_that_works, ("classes", "batches", "images", "!batch-norm"), ("sgd",), runs=4),
    Sound(
        "learned-by-heart",
        FAMILY,
        lambda plan, recipe, draw: _slingshot(plan, recipe, draw)[1],
        ("classes", "relu", "images", "!convolution", "!deep"),
        ADAMS,
        runs=4,
        held_back=0,
        habit={"val": False},  # it does overfit
    ),
)
