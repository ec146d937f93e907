"""Faults of checkpoints, restarts and several processes."""

from __future__ import annotations

import torch
from faults.declare import Fault, Sound
from hooks import Hook, State, hook
from training import build_optimizer

FAMILY = "resume"


@hook("lose_state")
class StateLost(Hook):
    """The optimizer is built anew at this step, as after a restart that loads the weights alone."""

    def begin(self, s: State) -> None:
        if s.step == self.value:
            s.optimizer = build_optimizer(s.plan, s.trained)


@hook("head_start_lr")
class HeadStartRate(Hook):
    """Rate of `head_start`."""


@hook("head_start")
class HeadStart(Hook):
    """Steps trained before the log begins: a fine-tuning."""

    def built(self, s: State) -> None:
        first = torch.optim.Adam(s.parameters, lr=s.plan.hook.get("head_start_lr", 1e-3))
        n = len(s.problem.x)
        for _ in range(self.value):
            rows = torch.randint(n, (s.problem.batch or n,))
            first.zero_grad()
            s.loss_of(s.model, s.problem.x[rows], s.problem.y[rows]).backward()
            first.step()


FAULTS: tuple[Fault, ...] = ()
SOUND: tuple[Sound, ...] = ()
