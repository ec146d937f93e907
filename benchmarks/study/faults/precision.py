"""Faults of number formats and of operations at the edge of their domain."""

from __future__ import annotations

import torch
from faults.declare import Fault, Sound, hooked
from hooks import Hook, State, hook
from torch import Tensor

FAMILY = "precision"


@hook("half")
class Half(Hook):
    """Model and data in float16."""

    def prepare(self, s: State) -> None:
        s.model.half()
        p = s.problem
        p.x = p.x.half()
        p.x_val = None if p.x_val is None else p.x_val.half()
        if p.y.is_floating_point():
            p.y = p.y.half()
            p.y_val = None if p.y_val is None else p.y_val.half()


@hook("bf16")
class BrainFloat(Hook):
    """Weights rounded to bfloat16 after every step."""

    def stepped(self, s: State) -> None:
        with torch.no_grad():
            for p in s.parameters:
                p.copy_(p.bfloat16())


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


def _low_rate_bf16(plan, recipe, draw):
    from dataclasses import replace

    slow = replace(plan, lr=plan.lr / draw.choice((10, 20, 40)))
    return hooked(slow, bf16=1), slow


FAULTS: tuple[Fault, ...] = (Fault("bf16-weights", FAMILY, ("TD409",), _low_rate_bf16, ("batches",), least=1.5),)
SOUND: tuple[Sound, ...] = ()
