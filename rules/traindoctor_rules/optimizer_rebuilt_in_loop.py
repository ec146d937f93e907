"""The optimizer (or schedule, or scaler) is built anew in every epoch: its state starts from nothing each time.

## What it looks like
A jump of the loss at each epoch: Adam's moments and SGD's momentum start at zero, and Adam's first steps have full size in
every coordinate. A schedule that is built in the loop stays at its first value.

## Why it happens
The line that builds it stands inside the loop over epochs, mostly because it was written beside its first use.

## When it is wrong
A new model for each fold, task, run or seed needs a new optimizer. Where the model is built or loaded in the same loop, where
the line stands under a condition (unfreezing), or where its arguments change with the loop, nothing is said; nor of SGD without
momentum, which has no state.

## What repairs it
The line before the loop.

## References
PyTorch documentation, torch.optim, "Constructing it" and Optimizer.state_dict; Kingma and Ba 2015, arXiv:1412.6980, section 3
(bias correction of moments that start at zero).
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from traindoctor.code.edits import plain_statement
from traindoctor.code.names import text_of
from traindoctor.code.order import place
from traindoctor.code.values import Optimizer, Scaler, Scheduler
from traindoctor.mistake import Edit, Mistake, Repair
from traindoctor.patterns import lazy
from traindoctor.rule import Cause, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.events import TracedEvent, TracedLoop
    from traindoctor.code.script import Script
    from traindoctor.rule import Limits

CAUSE = Cause(
    code="TD312",
    name="optimizer-rebuilt-in-loop",
    summary="the optimizer is built anew in every epoch and loses its state",
    explanation=__doc__,
)


_TRAINING = lazy(r"epoch|batch|loader|iter|step|^for\s+(e|ep)\b", re.IGNORECASE)
_OTHER = lazy(
    r"fold|run|seed|trial|task|config|stage|phase|round|client|experience|domain|session|split|restart|lrs|models|layer|client|agent",
    re.IGNORECASE,
)
#: Calls in the loop after which the model is another one.
_RENEWS = lazy(
    r"load_state_dict|load_weights|reset_(param|weight|model)|reinit|init_|_init|weights_init|deepcopy|clone|get_model"
    r"|build_model|freeze|prune"
)


@CAUSE.in_script("backward(|.step(", "for |while ")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the optimizers, schedulers and scalers that are built in a loop that trains one model."""
    seen = set()
    for event in script.trace.events():
        if event.kind != "build" or event.script is not script or not event.loops or event.node in seen:
            continue
        loop = next((loop for loop in event.loops if loop.script is script and _is_rebuilt(script, event, loop)), None)
        if loop is None:
            continue
        seen.add(event.node)
        thing = event.thing
        name = getattr(thing, "id", None) or "it"
        what, lost = _lost(thing)
        yield Mistake(
            place(script, event),
            f"The {what} `{name}` is built anew in each iteration of the loop. {lost}",
            f"Build the {what} once, before the loop",
            repair=_moved_out(script, event, loop),
            related=((script.place_of(*_header(script, loop)), "the loop"),),
        )


def _lost(thing: object) -> tuple[str, str]:
    if isinstance(thing, Scheduler):
        return "scheduler", "The schedule starts again each time and never gets on."
    if isinstance(thing, Scaler):
        return "scaler", "Its scale starts again at 65536 each time."
    return "optimizer", "Its momentum and second moments start again from zero each time."


def _is_rebuilt(script: Script, event: TracedEvent, loop: TracedLoop) -> bool:
    """Return whether what is built is used for training in the loop, and nothing in the loop asks for a new one."""
    thing, node = event.thing, event.node
    if loop.unsure and any("in its first iteration" in why for why in loop.unsure):
        return False
    if not isinstance(node, ast.Call) or event.branch != loop.branch or not _repeats_training(script, loop):
        return False
    path = getattr(thing, "id", None)
    if path is None or any(isinstance(n, ast.Name) and n.id in loop.bound for n in _settings(node)) or _renews(loop):
        return False
    steps = [e for e in loop.flat() if e.kind == "step"]
    if isinstance(thing, Scheduler):
        optimizer = thing.optimizer
        own = any(e.kind == "scheduler_step" and e.target == path for e in loop.own())
        return own and bool(steps) and optimizer is not None and loop not in optimizer.born
    if not any(e.kind == "backward" for e in loop.flat()):
        return False
    if isinstance(thing, Scaler):
        return any(e.kind == "scaler_update" and e.target == path for e in loop.own())
    if not isinstance(thing, Optimizer) or not thing.holds or not _has_state(script, thing):
        return False
    held = {part for path in thing.holds for part in _prefixes(path)}
    return not held & loop.bound and any(e.thing is thing or e.target == path for e in steps)


def _prefixes(path: str) -> Iterator[str]:
    """Yield a path and what it is a part of: "self.net.head" -> "self.net.head", "self.net"."""
    parts = re.split(r"[.\[]", path)
    for n in range(len(parts), 0, -1):
        if parts[:n] != ["self"]:
            yield ".".join(parts[:n])


def _repeats_training(script: Script, loop: TracedLoop) -> bool:
    """Return whether the header of a loop speaks of epochs or batches, and of nothing else."""
    header = script.text[slice(*_header(script, loop))]
    return _TRAINING.search(header) is not None and _OTHER.search(header) is None


def _header(script: Script, loop: TracedLoop) -> tuple[int, int]:
    node = loop.node
    assert node is not None
    return script.span(node)[0], script.span(node.test if isinstance(node, ast.While) else node.iter)[1]


def _settings(node: ast.Call) -> Iterator[ast.AST]:
    """Yield the parts of the arguments after the first."""
    for argument in [*node.args[1:], *(k.value for k in node.keywords if k.arg != "params")]:
        yield from ast.walk(argument)


def _renews(loop: TracedLoop) -> bool:
    assert loop.node is not None
    calls = (n.func for n in ast.walk(loop.node) if isinstance(n, ast.Call))
    return any(_RENEWS.search(f.attr if isinstance(f, ast.Attribute) else getattr(f, "id", "")) for f in calls)


def _has_state(script: Script, thing: Optimizer) -> bool:
    """Return whether an optimizer remembers anything from step to step."""
    if thing.constructor != "SGD":
        return True
    momentum = script.argument(thing.node, "momentum", 2)
    return momentum is not None and script.constant(momentum) != 0


def _moved_out(script: Script, event: TracedEvent, loop: TracedLoop) -> Repair | None:
    """Return the repair that moves the line before the loop, where all its names are known there."""
    statement = plain_statement(script, event.node)
    node = loop.node
    if statement is None or node is None or script.loops(event.node)[:1] != [node]:
        return None
    names = {text_of(n) for n in ast.walk(statement) if isinstance(n, ast.Name | ast.Attribute) and isinstance(n.ctx, ast.Load)}
    span = script.line_span(statement)
    if names & loop.bound or span is None or len(node.body) < 2 or statement.lineno != statement.end_lineno:
        return None
    start = script.offset(node.lineno, 0)
    if script.text[start : script.span(node)[0]].strip():
        return None
    line = Edit(start, start, f"{script.indent(node)}{script.text[span[0] : span[1]].strip()}{script.newline}")
    return Repair("Move it before the loop", (line, Edit(*span, "")))


_TRAIN = "        for x in loader:\n            opt.zero_grad()\n            model(x).backward()\n            opt.step()\n"
_HEAD = "import torch\nmodel = Net()\n"
_LOOP = "    for x in loader:\n        opt.zero_grad()\n        model(x).backward()\n        opt.step()\n"
CAUSE.valid_code = (
    Sample("before the loop", _HEAD + "opt = torch.optim.Adam(model.parameters())\nfor epoch in range(9):\n" + _LOOP),
    Sample(
        "a model for each fold",
        "import torch\nfor fold in range(5):\n    model = Net()\n    opt = torch.optim.Adam(model.parameters())\n"
        "    for epoch in range(9):\n" + _TRAIN,
    ),
    Sample(
        "a fold, the model loaded",
        _HEAD
        + "for fold in range(5):\n    model.load_state_dict(start)\n    opt = torch.optim.Adam(model.parameters())\n"
        + _LOOP,
    ),
    Sample(
        "unfreezing, under a condition",
        _HEAD + "opt = torch.optim.Adam(model.head.parameters())\nfor epoch in range(9):\n    if epoch == 3:\n"
        "        opt = torch.optim.Adam(model.parameters())\n" + _LOOP,
    ),
    Sample(
        "a rate that changes with the loop",
        _HEAD + "lr = 0.1\nfor epoch in range(9):\n    lr = lr * 0.9\n"
        "    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)\n" + _LOOP,
    ),
    Sample("no state", _HEAD + "for epoch in range(9):\n    opt = torch.optim.SGD(model.parameters(), lr=0.1)\n" + _LOOP),
    Sample(
        "an image for each batch",
        _HEAD
        + "for batch in loader:\n    delta = torch.zeros_like(batch, requires_grad=True)\n    opt = torch.optim.Adam([delta])\n"
        "    for i in range(20):\n        opt.zero_grad()\n        model(batch + delta).backward()\n        opt.step()\n",
    ),
    Sample(
        "cosine restarts within each epoch",
        _HEAD + "opt = torch.optim.Adam(model.parameters())\nfor epoch in range(9):\n"
        "    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=len(loader))\n    for x in loader:\n"
        "        opt.zero_grad()\n"
        "        model(x).backward()\n        opt.step()\n        sched.step()\n",
    ),
)
CAUSE.invalid_code = (
    Sample("e for epoch", _HEAD + "for e in range(9):\n    opt = torch.optim.Adam(model.parameters())  # <-\n" + _LOOP),
    Sample(
        "each epoch",
        _HEAD + "for epoch in range(9):\n    opt = torch.optim.Adam(model.parameters())  # <-\n" + _LOOP,
        fixed=_HEAD + "opt = torch.optim.Adam(model.parameters())  # <-\nfor epoch in range(9):\n" + _LOOP,
    ),
    Sample(
        "momentum, in a function",
        "import torch\ndef main(model, loader):\n    for epoch in range(9):\n"
        "        opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)  # <-\n" + _TRAIN,
    ),
    Sample(
        "in a helper of the epoch",
        _HEAD
        + "def run(model, loader):\n    opt = torch.optim.AdamW(model.parameters(), lr=1e-3)  # <-\n"
        + _LOOP
        + "for epoch in range(9):\n    run(model, loader)\n",
    ),
    Sample(
        "built twice",
        _HEAD + "opt = torch.optim.Adam(model.parameters())\nfor epoch in range(9):\n    model.train()\n"
        "    opt = torch.optim.Adam(model.parameters())  # <-\n" + _LOOP,
    ),
    Sample(
        "the schedule",
        _HEAD + "opt = torch.optim.Adam(model.parameters())\nfor epoch in range(9):\n"
        "    sched = torch.optim.lr_scheduler.StepLR(opt, 3)  # <-\n" + _LOOP + "    sched.step()\n",
    ),
    Sample(
        "the scaler of each batch",
        _HEAD + "opt = torch.optim.Adam(model.parameters())\nfor batch in loader:\n    scaler = torch.amp.GradScaler()  # <-\n"
        "    opt.zero_grad()\n    scaler.scale(model(batch)).backward()\n    scaler.step(opt)\n    scaler.update()\n",
    ),
)
