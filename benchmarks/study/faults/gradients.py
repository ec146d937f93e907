"""Faults of gradient handling: clearing, accumulating, clipping, stepping."""

from __future__ import annotations

from faults.declare import Fault, Sound, with_hook
from hooks import Hook, State, hook
from training import norm

FAMILY = "gradients"


@hook("zero")
class Clearing(Hook):
    """"missing": never cleared. "misplaced": cleared between backward and step; "-logged-before": norm taken before that."""

    def clears(self, s: State) -> bool:
        return False

    def backward(self, s: State) -> None:
        if self.value == "misplaced-logged-before" and s.look:
            s.out["grad_norm"][s.step] = norm([p.grad for p in s.parameters if p.grad is not None])
        if self.value.startswith("misplaced"):
            s.optimizer.zero_grad()


@hook("own_zero")
class ModelCleared(Hook):
    """The model's gradients are cleared, not those of what the optimizer holds."""

    def clears(self, s: State) -> bool:
        s.model.zero_grad()
        return False


@hook("frozen")
class OtherParameters(Hook):
    """The optimizer got parameters of another model ("all"), or only the last bias ("last")."""

    def build(self, s: State) -> None:
        last = self.value == "last"
        s.trained = s.parameters[-1:] if last else [p.detach().clone().requires_grad_() for p in s.parameters]


FAULTS: tuple[Fault, ...] = (
    Fault("frozen", FAMILY, ("TD311",), with_hook(frozen="all"), ("val",), runs=6),
    Fault("frozen-clean", FAMILY, ("TD311",), with_hook(frozen="all", own_zero=1), ("val",), runs=6),
    Fault("last-bias-only", FAMILY, ("TD311",), with_hook(frozen="last"), ("val", "!regression"), runs=6),
)
SOUND: tuple[Sound, ...] = ()
