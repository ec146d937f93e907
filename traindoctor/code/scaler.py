"""How a GradScaler goes with the gradients of one iteration: which passes are scaled, which steps unscale them.

Source: PyTorch documentation, torch.amp.GradScaler and "Automatic Mixed Precision examples".
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from traindoctor.code.names import last_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.code.events import TracedEvent, TracedLoop
    from traindoctor.code.script import Script

#: A condition as the trace writes it: a name, a constant, and how often the name was bound.
_EQUAL = re.compile(r"([\w.]+)==('[^']*'|\d+)( \[.*\])$")


def iterations(script: Script) -> Iterator[tuple[TracedLoop, list[TracedEvent]]]:
    """Yield each loop (or function without one) in which an optimizer steps, with the events of one round of it, in order."""
    for root in script.trace.roots:
        for loop in (root, *root.inner()):
            if any(event.kind == "step" for event in loop.own()):
                yield loop, list(loop.flat())


def meet(first: TracedEvent, second: TracedEvent) -> bool:
    """Return whether two events can happen in the same round: no condition is asked to hold in one and to fail in the other.

    Neither may a name be equal to two constants: `phase == "train"` and `phase == "val"`.
    """
    if any((test, not value) in second.branch for test, value in first.branch):
        return False
    ours, theirs = _equal_to(first), _equal_to(second)
    return all(theirs.get(name, constant) == constant for name, constant in ours.items())


def _equal_to(event: TracedEvent) -> dict[str, str]:
    """Return the constants that names, with how often they were bound, are equal to where an event happens."""
    found = {}
    for test, value in event.branch:
        equal = _EQUAL.match(test) if value else None
        if equal is not None:
            found[equal[1] + equal[3]] = equal[2]
    return found


def scaler_that_steps(event: TracedEvent) -> ast.expr | None:
    """Return the scaler of `scaler.step(optimizer)`; None for any other event."""
    call = event.node
    if event.kind != "step" or not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute) or not call.args:
        return None
    receiver = call.func.value
    built = any(isinstance(v, ast.Call) and last_of(v.func) == "GradScaler" for v in event.script.bound(receiver))
    return receiver if call.func.attr == "step" and (built or "scaler" in last_of(receiver).lower()) else None


def is_plain_step(event: TracedEvent) -> bool:
    """Return whether an event is `optimizer.step()`."""
    call = event.node
    return event.kind == "step" and isinstance(call, ast.Call) and last_of(call.func) == "step" and not call.args


def scaler_of(event: TracedEvent) -> ast.expr | None:
    """Return the scaler of `scaler.scale(loss).backward()`; None for any other event."""
    match event.node:
        case ast.Call(func=ast.Attribute(value=ast.Call(func=ast.Attribute(value=scaler, attr="scale")))) if (
            event.kind == "backward" and event.loss is not None and event.loss.scaled is not None
        ):
            return scaler
    return None


def is_plain_backward(event: TracedEvent) -> bool:
    """Return whether an event is `loss.backward()`, with no scaler, accelerator or engine in between."""
    call = event.node
    return (
        event.kind == "backward"
        and event.loss is not None
        and event.loss.scaled is None
        and isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.value is event.loss.node
        and call.func.attr == "backward"
    )


def is_on(script: Script) -> bool | None:
    """Return whether the scalers that a script is seen to build are on; None where that depends on what is not known."""
    found = {scaler.enabled for scaler in script.trace.scalers}
    return found.pop() if len(found) == 1 else None if found else True


def by_hand(loop: TracedLoop) -> bool:
    """Return whether gradients are changed, or handed on with their optimizer, in a way that is not followed."""
    return any("by hand" in why or "given the optimizer" in why or "hooks" in why for why in loop.unsure)


def passes_before(events: Sequence[TracedEvent], at: int) -> list[TracedEvent]:
    """Return the backward passes whose gradients the event at an index meets: those since the last step before it."""
    found: list[TracedEvent] = []
    for event in reversed(events[:at]):
        if event.kind == "step" and event.node is not events[at].node and meet(event, events[at]):
            break
        if event.kind == "backward" and meet(event, events[at]):
            found.append(event)
    return found


def unscaled_before(events: Sequence[TracedEvent], at: int) -> bool:
    """Return whether gradients may be unscaled between the last step and the event at an index."""
    for event in reversed(events[:at]):
        if event.kind == "step" and meet(event, events[at]):
            return False
        if event.kind == "unscale" and meet(event, events[at]):
            return True
    return False
