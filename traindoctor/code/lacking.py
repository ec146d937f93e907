"""Loops that lack one of the calls that belong together: a step without a backward pass, a backward pass without a step.

What is not there cannot be proven from the loop alone: a call that is not followed may make up for it. So each unknown call that
could is looked at, and where one remains nothing is said.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.code.loops import is_test
from traindoctor.code.names import HOOKS, dotted, last_of, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.events import TracedEvent, TracedLoop
    from traindoctor.code.script import Script

#: Calls that compute gradients, or step, by other means.
_GRADIENTS = re.compile(
    r"back|grad|vjp|jacobian|hessian|optimi|closure|learn|train_|_train|fit$|^fit|engine|minimize", re.IGNORECASE
)
_STEPS = re.compile(
    r"step|optimi|appl(y|ies)_|minimize|(^|_)update$|update_(weights|params|parameters|model)|train_|learn", re.IGNORECASE
)
_LOSS = re.compile(r"loss|(^|_)err(or)?($|_|[A-Z])|cost|objective|criterion", re.IGNORECASE)
#: Receivers whose `update` and `step` count, smooth or show something.
_METER = re.compile(
    r"meter|bar|loss|acc|top\d|time|avg|average|metric|ema|tqdm|hist|log|stat|dict|config|monitor|writer|swa|progress|scaler|env|sched|counter|tracker|timer|prof|summary|kwargs|args|params",
    re.IGNORECASE,
)
#: What may be called on a loss, or be given one, without a backward pass.
# fmt: off
_READS = frozenset({
    "item", "detach", "append", "print", "float", "isnan", "isfinite", "isinf", "update", "add", "add_scalar", "add_scalars", "log", "info",
    "debug", "write", "format", "mean", "sum", "cpu", "numpy", "tolist", "str", "round", "len", "set_postfix", "set_description", "all_reduce",
    "reduce", "reduce_tensor", "gather", "item_", "size", "clone", "to", "data", "max", "min", "abs", "exp", "zip", "list", "dict", "stack", "cat",
    "repr", "int", "isinstance", "type", "save", "set_postfix_str", "set_description_str", "scale", "div", "mul",
})
# fmt: on


class Lack(NamedTuple):
    """A call that lacks its counterpart, and the loop; `zero`: the call that clears in the same loop."""

    loop: TracedLoop
    event: TracedEvent
    zero: TracedEvent


def steps_without_backward(script: Script) -> Iterator[Lack]:
    """Yield the steps in loops that clear gradients, compute a loss, and never differentiate it."""
    for loop in _loops(script):
        around = [loop]
        while around[-1].parent is not None:
            around.append(around[-1].parent)
        if any(event.kind == "backward" for event in around[-2 if len(around) > 1 else -1].flat()):
            continue
        for step in loop.own():
            if step.kind != "step" or step.target is None or step.branch != loop.branch:
                continue
            zero = next((e for e in loop.flat() if e.kind == "zero_grad" and e.target == step.target), None)
            if zero is not None and _computes_loss(loop) and not _may(loop, _GRADIENTS, of_loss=True):
                yield Lack(loop, step, zero)


def backward_without_step(script: Script) -> Iterator[Lack]:
    """Yield the backward passes in loops that clear an optimizer in each iteration, and an optimizer that never steps."""
    events = list(script.trace.events())
    stepping = {event.target for event in events if event.kind == "step"}
    if None in stepping or script.calls.get("optimizer_step"):
        return
    seen = set()
    for loop in _loops(script):
        inner = list(loop.own())
        for at, zero in enumerate(inner):
            if zero.kind != "zero_grad" or zero.target is None or zero.target in stepping or zero.branch != loop.branch:
                continue
            if not isinstance(zero.node, ast.Call) or zero.target in seen:
                continue
            following = [e for e in (*inner[at + 1 :], *inner[:at]) if e.kind in ("backward", "zero_grad", "step")]
            passes = next((e for e in following if e.kind == "backward"), None)
            after = next((e for e in following if e.kind != "backward"), None)
            if passes is None or passes.branch != loop.branch or following[0] is not passes:
                continue
            if after is not None and after.kind == "step":
                continue  # what was computed is for another optimizer
            if not _may(loop, _STEPS, of_loss=False) and not _reads_gradients(loop):
                seen.add(zero.target)
                yield Lack(loop, passes, zero)


def _loops(script: Script) -> list[TracedLoop]:
    """Return the loops of a script of which everything is known."""
    trace = script.trace
    if is_test(script.file) or any(hook in followed.text for hook in HOOKS for followed in trace.scripts):
        return []
    return [loop for loop in trace.loops() if loop.script is script and not loop.unsure]


def _computes_loss(loop: TracedLoop) -> bool:
    """Return whether the loop assigns what goes by the name of a loss."""
    assert loop.node is not None
    for node in ast.walk(loop.node):
        targets = node.targets if isinstance(node, ast.Assign) else ()
        for target in targets:
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            if any(_LOSS.search(last_of(name)) for name in names):
                return True
    return False


def _may(loop: TracedLoop, by_name: re.Pattern[str], *, of_loss: bool) -> bool:
    """Return whether a call in the loop that was not followed may make up for what is missing."""
    assert loop.node is not None
    followed = loop.script.trace.followed
    known = {event.node for event in loop.flat()} | {event.via for event in loop.flat()}
    for call in ast.walk(loop.node):
        if not isinstance(call, ast.Call) or call in known:
            continue
        name = (dotted(call.func) or [""])[-1]
        if name in followed or name in (
            "no_grad",
            "enable_grad",
            "set_grad_enabled",
            "inference_mode",
            "requires_grad_",
            "zero_grad",
        ):
            continue
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        counted = owner is not None and name in ("update", "step") and bool(_METER.search(last_of(owner)))
        if by_name.search(name) and not counted and not name.startswith("clip_grad"):
            return True
        if of_loss and name not in _READS and any(_LOSS.search(last_of(a)) for a in call.args if isinstance(a, ast.Name)):
            return True
        if of_loss and owner is not None and _LOSS.search(last_of(owner)) and isinstance(owner, ast.Name) and not _reads(name):
            return True
    return False


def _reads(name: str) -> bool:
    return name in _READS or name.startswith("__") or not _GRADIENTS.search(name)


def _reads_gradients(loop: TracedLoop) -> bool:
    """Return whether the loop looks at a gradient: what is computed may be all that it wants."""
    assert loop.node is not None
    return any(isinstance(node, ast.Attribute) and node.attr == "grad" for node in ast.walk(loop.node))
