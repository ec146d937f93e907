"""Loops that lack one of the calls that belong together: a step without a backward pass, a backward pass without a step.

What is not there cannot be proven from the loop alone: a call that is not followed may make up for it. So each unknown call that
could is looked at, and where one remains nothing is said.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.code.names import HOOKS, dotted, last_of
from traindoctor.code.values import Optimizer
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.events import TracedEvent, TracedLoop
    from traindoctor.code.script import Script

#: Calls that compute gradients, or step, by other means.
_GRADIENTS = lazy(r"back|grad|vjp|jacobian|hessian|optimi|closure|learn|train_|_train|fit$|^fit|engine|minimize", re.IGNORECASE)
_STEPS = lazy(
    r"step|optimi|appl(y|ies)_|minimize|(^|_)update$|update_(weights|params|parameters|model)|train_|learn", re.IGNORECASE
)
_SWITCHES = frozenset({"no_grad", "enable_grad", "set_grad_enabled", "inference_mode", "requires_grad_", "zero_grad"})
_LOSS = lazy(r"loss|(^|_)err(or)?($|_|[A-Z])|cost|objective|criterion", re.IGNORECASE)
#: Receivers whose `update` and `step` count, smooth or show something, or move another thing than weights.
_METER = lazy(
    r"meter|bar|loss|acc|top\d|time|avg|average|metric|ema|tqdm|hist|log|stat|dict|config|monitor|writer|swa|progress|scaler|env|sched"
    r"|counter|tracker|prof|summary|kwargs|args|params",
    re.IGNORECASE,
)
#: What may be given a loss without a backward pass.
_READS = frozenset({
    "item", "detach", "append", "print", "float", "isnan", "isfinite", "isinf", "update", "add", "add_scalar",
    "add_scalars", "log", "info", "debug", "write", "format", "mean", "sum", "cpu", "numpy", "tolist", "str", "round",
    "len", "set_postfix", "set_description", "all_reduce", "reduce", "reduce_tensor", "gather", "clone", "to", "max",
    "min", "abs", "exp", "zip", "list", "dict", "stack", "cat", "repr", "int", "isinstance", "type", "save",
    "set_postfix_str", "set_description_str", "scale", "div", "mul",
})  # fmt: skip


class Lack(NamedTuple):
    """A call that lacks its counterpart, and the loop; `zero`: the call that clears in the same loop."""

    loop: TracedLoop
    event: TracedEvent
    zero: TracedEvent


def steps_without_backward(script: Script) -> Iterator[Lack]:
    """Yield the steps in loops that clear gradients, compute a loss, and never differentiate it."""
    for loop in _loops(script):
        outermost = loop
        while outermost.parent is not None and outermost.parent.node is not None:
            outermost = outermost.parent
        passes = any(event.kind == "backward" for event in outermost.flat())
        zeros: dict[str | None, TracedEvent] = {}
        for event in outermost.flat():
            if event.kind == "zero_grad" and event.target is not None:
                zeros.setdefault(event.target, event)
        steps = [event for event in (_of_their_own(loop) if passes else loop.own()) if event.kind == "step"]
        steps = [step for step in steps if step.target in zeros]
        if steps and _computes_loss(loop) and not _may(loop, _GRADIENTS, of_loss=True):
            yield from (Lack(loop, step, zeros[step.target]) for step in steps)


def _of_their_own(loop: TracedLoop) -> Iterator[TracedEvent]:
    """Yield the steps of optimizers that step once in a loop, right after they are cleared, where all passes are those of others.

    Those before are followed by a step before the call that clears, those after come after another optimizer was cleared.
    """
    own = set(loop.own())
    events = [event for event in loop.flat() if event.kind in ("backward", "zero_grad", "step")]
    times = Counter(event.target for event in events if event.kind == "step")
    for at, step in enumerate(events):
        if step.kind != "step" or times[step.target] != 1 or step not in own:
            continue
        before = [(e.kind, e.target, e.branch, e.loops) for e in events[max(0, at - 1) : at]]
        if before != [("zero_grad", step.target, step.branch, step.loops)] or events[at - 2].kind != "step":
            continue
        after = next((event for event in islice(events, at + 1, None) if event.target != step.target), None)
        if after is None or after.kind == "zero_grad":
            yield step


def backward_without_step(script: Script) -> Iterator[Lack]:
    """Yield the backward passes in loops that clear an optimizer in each iteration, and an optimizer that never steps."""
    stepping = {event.target for event in script.trace.events() if event.kind == "step"}
    if None in stepping or script.calls.get("optimizer_step"):
        return
    seen = set()
    for loop in reversed(_loops(script)):  # the inner ones first
        events = [event for event in loop.flat() if event.kind in ("backward", "zero_grad", "step")]
        for at, zero in enumerate(events):
            if zero.kind != "zero_grad" or zero.target is None or zero.target in stepping or zero.target in seen:
                continue
            following = [*events[at + 1 :], *events[:at]]
            passes = next((e for e in following if e.kind == "backward"), None)
            after = next((e for e in following if e.kind != "backward"), None)
            if passes is None or not isinstance(zero.node, ast.Call):
                continue
            # An optimizer of a parameter may step elsewhere, and be cleared here beside the one whose turn it is.
            is_turn = following[0] is passes and (after is None or after.kind != "step")
            if stepping and not is_turn and not isinstance(zero.thing, Optimizer):
                continue
            if not _may(loop, _STEPS, of_loss=False) and (_prepares_step(loop) or not _reads_gradients(loop)):
                seen.add(zero.target)
                yield Lack(loop, passes, zero)


def _loops(script: Script) -> list[TracedLoop]:
    """Return the loops of a script of which everything is known."""
    trace = script.trace
    if any(hook in followed.text for hook in HOOKS for followed in trace.scripts):
        return []
    return [loop for loop in trace.loops() if loop.script is script and not loop.unsure]


def _nodes(loop: TracedLoop) -> Iterator[ast.AST]:
    """Yield the nodes of a loop, and of the functions of the script that its calls were followed into."""
    assert loop.node is not None
    script = loop.script
    bodies: list[ast.AST] = [loop.node]
    around = script.function(loop.node)
    for event in loop.flat():
        function = script.function(event.node) if event.script is script else None
        if function is not None and function is not around and function not in bodies:
            bodies.append(function)
    for body in bodies:
        yield from ast.walk(body)


def _computes_loss(loop: TracedLoop) -> bool:
    """Return whether the loop assigns what goes by the name of a loss, or hands it to a function."""
    for node in _nodes(loop):
        if isinstance(node, ast.FunctionDef) and any(_LOSS.search(given.arg) for given in node.args.args):
            return True
        for target in node.targets if isinstance(node, ast.Assign) else ():
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            if any(_LOSS.search(last_of(name)) for name in names):
                return True
    return False


def _may(loop: TracedLoop, by_name: re.Pattern[str], *, of_loss: bool) -> bool:
    """Return whether a call in the loop that was not followed may make up for what is missing."""
    followed = loop.script.trace.followed
    known = {event.node for event in loop.flat()} | {event.via for event in loop.flat()}
    for call in _nodes(loop):
        if not isinstance(call, ast.Call) or call in known:
            continue
        name = (dotted(call.func) or [""])[-1]
        if name in followed or name in _SWITCHES or name.startswith("clip_grad"):
            continue
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        quiet = name in ("update", "step") or name.startswith("set_")
        counted = owner is not None and quiet and bool(_METER.search(last_of(owner)))
        if by_name.search(name) and not counted:
            return True
        if of_loss and name not in _READS and any(_LOSS.search(last_of(a)) for a in call.args if isinstance(a, ast.Name)):
            return True
    return False


def _prepares_step(loop: TracedLoop) -> bool:
    """Return whether the loop does to gradients, or to the rate, what only makes sense where a step follows."""
    return any(event.kind in ("clip", "unscale", "scaler_update", "scheduler_step") for event in loop.flat())


def _reads_gradients(loop: TracedLoop) -> bool:
    """Return whether the loop looks at a gradient: what is computed may be all that it wants."""
    return any(isinstance(node, ast.Attribute) and node.attr == "grad" for node in _nodes(loop))
