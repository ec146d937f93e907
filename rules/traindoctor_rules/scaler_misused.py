"""A GradScaler is half used: a part of scale, step and update is missing or stands in the wrong place.

## What it looks like
With the optimizer's own `step()` the updates are 65536 times too large under SGD, and the loss is NaN soon. The other forms raise
at once: "No inf checks were recorded", "step() has already been called since the last update()".

## Why it happens
`scaler.scale(loss).backward()`, `scaler.step(optimizer)` and `scaler.update()` belong together: the first multiplies gradients
by the scale, the second divides them and leaves out the step where one is infinite, the third chooses the next scale. A loop that
was changed to mixed precision line by line keeps one of its old lines.

## When it is wrong
After `scaler.unscale_(optimizer)` the gradients have their size, and a step by hand that looks for infinities first is a choice.
Wrappers of the scaler that do all of it in one call are left alone.

## What repairs it
`scaler.scale(loss).backward()`, `scaler.step(optimizer)`, `scaler.update()`, in this order, once in each iteration.

## References
PyTorch documentation, torch.amp.GradScaler, and Automatic Mixed Precision examples, "Typical mixed precision training".
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.edits import line_after
from traindoctor.code.names import HARMLESS, last_of
from traindoctor.code.scaler import (
    by_hand,
    is_on,
    is_plain_backward,
    is_plain_step,
    iterations,
    meet,
    passes_before,
    scaler_of,
    scaler_that_steps,
    unscaled_before,
)
from traindoctor.mistake import Mistake, Repair
from traindoctor.patterns import lazy
from traindoctor.rule import Cause, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.events import TracedEvent, TracedLoop
    from traindoctor.code.script import Script
    from traindoctor.rule import Limits

CAUSE = Cause(
    code="TD402",
    name="scaler-misused",
    summary="a GradScaler is half used: scale, step or update is missing",
    explanation=__doc__,
)

_LOOKS_FOR_INFINITIES = lazy(r"isfinite|isinf|isnan|found_inf|error_if_nonfinite|nan_to_num")


@CAUSE.in_script("scaler|Scaler", "backward|step|optim")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the calls of a scaler that its other calls do not go with, in the rounds of loops that train."""
    on = is_on(script)
    if on is False:
        return
    for loop, events in iterations(script):
        hand = by_hand(loop)
        for at, event in enumerate(events):
            found = (
                (None if hand else _plain_step(script, events, at))
                or _plain_backward(script, events, at)
                or _no_update(script, loop, event)
                or _update_first(script, events, at)
                or _unscaled_twice(script, events, at)
            )
            if found is not None:
                yield found._replace(severity="error" if on else "warning")


def _at(script: Script, event: TracedEvent) -> ast.AST:
    return event.node if event.script is script else event.via


def _plain_step(script: Script, events: list[TracedEvent], at: int) -> Mistake | None:
    """Return the mistake of a step of an optimizer that meets scaled gradients only."""
    step = events[at]
    if not is_plain_step(step) or step.target is None or _is_checked(events, at):
        return None
    passes = passes_before(events, at)
    scaler = next((s for e in passes if (s := scaler_of(e)) is not None), None)
    if scaler is None or any(scaler_of(e) is None for e in passes if meet(e, passes[0])):
        return None
    optimizer = step.script.source(step.node.func.value)  # type: ignore[attr-defined]
    name = passes[0].script.source(scaler)
    unscaled = unscaled_before(events, at)
    return Mistake(
        script.place(_at(script, step)),
        f"{optimizer}.step() takes a step with whatever gradients there are, after {name} unscaled them. "
        "Those that overflowed are infinite, as at the first scale of 65536 they may well be, and are not skipped."
        if unscaled
        else f"{optimizer}.step() is given gradients that still carry the loss scale. "
        "They are 65536 times too large at first, and an infinite one is not skipped.",
        f"Call {name}.step({optimizer}), and {name}.update() after it",
        repair=_step_by_scaler(script, step, passes[0], name),
        related=((passes[0].script.place(passes[0].node), "the loss is scaled here"),),
    )


def _is_checked(events: list[TracedEvent], at: int) -> bool:
    """Return whether gradients are unscaled before a step that is then taken on a condition, or after a look for infinities."""
    step = events[at]
    for event in reversed(events[:at]):
        if event.kind == "unscale" and meet(event, step):
            text = step.script.text
            if event.script is step.script:
                text = text[event.script.span(event.node)[0] : step.script.span(step.node)[0]]
            return not set(step.branch) <= set(event.branch) or bool(_LOOKS_FOR_INFINITIES.search(text))
        if event.kind == "step" and meet(event, step):
            break
    return False


def _step_by_scaler(script: Script, step: TracedEvent, scaled: TracedEvent, scaler: str) -> Repair | None:
    """Return the step of the scaler, with its update where there is none, in the place of that of the optimizer."""
    call = step.node
    if step.script is not script or scaled.script is not script or script.function(call) is not script.function(scaled.node):
        return None
    statement = script.statement(call)
    if not isinstance(statement, ast.Expr) or statement.value is not call or script.line_span(statement) is None:
        return None
    optimizer = script.source(call.func.value)  # type: ignore[attr-defined]
    edits = [script.replaced(call, f"{scaler}.step({optimizer})")]
    update = line_after(script, statement, f"{scaler}.update()")
    if not _updates(script) and update is not None:
        edits.append(update)
    return Repair("Let the scaler take the step", tuple(edits))


def _plain_backward(script: Script, events: list[TracedEvent], at: int) -> Mistake | None:
    """Return the mistake of a step of a scaler that meets gradients of plain backward passes only."""
    step = events[at]
    scaler = scaler_that_steps(step)
    if scaler is None:
        return None
    passes = passes_before(events, at)
    if (
        not passes
        or not all(is_plain_backward(e) for e in passes)
        or _scales_apart(step.script)
        or _scales_apart(passes[0].script)
    ):
        return None
    last = passes[0]
    name, loss = step.script.source(scaler), last.script.source(last.node.func.value)  # type: ignore[attr-defined]
    same = last.script is script and step.script is script and script.function(last.node) is script.function(step.node)
    edit = script.replaced(last.node.func.value, f"{name}.scale({loss})") if same else None  # type: ignore[attr-defined]
    return Mistake(
        script.place(_at(script, last)),
        f"{loss}.backward() is not scaled, but {name}.step divides its gradients by the loss scale. "
        "Where nothing was ever scaled it raises AssertionError; else the updates are 65536 times too small.",
        f"Call {name}.scale({loss}).backward()",
        repair=Repair("Scale the loss", (edit,), safe=True) if edit is not None and len(passes) == 1 else None,
        related=((step.script.place(step.node), "the scaler steps here"),),
    )


def _scales_apart(script: Script) -> bool:
    """Return whether something is scaled whose backward pass is not called in the same expression."""
    for call in script.calls.get("scale", ()):
        parent = script.parents.get(call)
        if not (isinstance(parent, ast.Attribute) and parent.attr == "backward"):
            return True
    return False


def _no_update(script: Script, loop: TracedLoop, step: TracedEvent) -> Mistake | None:
    """Return the mistake of a scaler that steps in a loop, and whose update is nowhere called."""
    scaler = scaler_that_steps(step)
    if scaler is None or any(_updates(one) for one in script.trace.scripts) or _is_handed_on(script, step.script, scaler):
        return None
    if not step.loops and not script.trace.scalers:
        return None
    name = step.script.source(scaler)
    repair = None
    statement = step.script.statement(step.node)
    if step.script is script and isinstance(statement, ast.Expr):
        steps = [e for e in loop.own() if e.script is script and scaler_that_steps(e) is not None]
        line = line_after(script, statement, f"{name}.update()")
        if len(steps) == 1 and line is not None:
            repair = Repair("Update the scale after the step", (line,), safe=True)
    return Mistake(
        script.place(_at(script, step)),
        f"{name}.update() is never called. "
        "The second step raises RuntimeError: step() has already been called since the last update().",
        f"Call {name}.update() once after the steps of an iteration",
        repair=repair,
    )


def _updates(script: Script) -> bool:
    """Return whether a scaler is updated somewhere in a script."""
    return any(
        isinstance(call.func, ast.Attribute)
        and ("scaler" in last_of(call.func.value).lower() or not (call.args or call.keywords))
        for call in script.calls.get("update", ())
    )


def _is_handed_on(walked: Script, script: Script, scaler: ast.expr) -> bool:
    """Return whether a scaler is given to a function, or kept in an object, that is not followed."""
    name = last_of(scaler)
    for node in script.all(ast.Name, ast.Attribute):
        if last_of(node) != name:  # type: ignore[arg-type]
            continue
        parent = script.parents.get(node)
        if isinstance(parent, ast.keyword):
            parent = script.parents.get(parent)
        if isinstance(parent, ast.Call) and node is not parent.func:
            called = last_of(parent.func)
            known = any(f.name == called for one in walked.trace.scripts for f in one.all(ast.FunctionDef))  # type: ignore[attr-defined]
            if not known and not HARMLESS.search(called):
                return True
    return False


def _update_first(script: Script, events: list[TracedEvent], at: int) -> Mistake | None:
    """Return the mistake of an update that comes after the backward pass and before every step of the scaler."""
    update = events[at]
    if update.kind != "scaler_update":
        return None
    passes = passes_before(events, at)
    before = any(e.kind in ("step", "unscale") and meet(e, update) for e in events[:at])
    after = next((e for e in events[at:] if scaler_that_steps(e) is not None and meet(e, update)), None)
    if before or after is None or not passes or not all(scaler_of(e) is not None for e in passes):
        return None
    return Mistake(
        script.place(_at(script, update)),
        "The scaler is updated before it steps. It raises AssertionError: no inf checks were recorded prior to update.",
        "Call update() after step(), once in each iteration",
        related=((after.script.place(after.node), "the scaler steps here"),),
    )


def _unscaled_twice(script: Script, events: list[TracedEvent], at: int) -> Mistake | None:
    """Return the mistake of a second unscale_ of one optimizer before the scaler was updated."""
    second = events[at]
    if second.kind != "unscale" or second.target is None:
        return None
    for event in reversed(events[:at]):
        if event.kind in ("scaler_update", "step") and meet(event, second):
            return None
        if event.kind == "unscale" and event.target == second.target and meet(event, second):
            if event.loops != second.loops or event.node is second.node or not set(event.branch) <= set(second.branch):
                return None
            return Mistake(
                script.place(_at(script, second)),
                f"The gradients of {second.target} are unscaled twice. "
                "It raises RuntimeError: unscale_() has already been called on this optimizer since the last update().",
                "Remove one of the calls",
                related=((event.script.place(event.node), "they are unscaled here already"),),
            )
    return None


CAUSE.valid_code = (
    Sample(
        "all three",
        """\
import torch
scaler = torch.amp.GradScaler()
for x, y in loader:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    scaler.step(optimizer)
    scaler.update()
""",
    ),
    Sample(
        "unscaled, and a step by hand where nothing is infinite",
        """\
for x, y in loader:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    scaler.unscale_(optimizer)
    if all(p.grad.isfinite().all() for p in model.parameters()):
        optimizer.step()
    scaler.update()
""",
    ),
    Sample(
        "two branches",
        """\
for x, y in loader:
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    if scaler is not None:
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    else:
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "two branches for the pass and two for the step",
        """\
for x, y in loader:
    loss = criterion(model(x), y)
    if use_amp:
        scaler.scale(loss).backward()
    else:
        loss.backward()
    if use_amp:
        scaler.step(optimizer)
        scaler.update()
    else:
        optimizer.step()
""",
    ),
    Sample(
        "two optimizers, one update",
        """\
for x, y in loader:
    scaler.scale(d_loss(x)).backward()
    scaler.step(opt_d)
    scaler.scale(g_loss(x)).backward()
    scaler.step(opt_g)
    scaler.update()
""",
    ),
    Sample(
        "one of two optimizers in float32",
        """\
for x, y in loader:
    scaler.scale(d_loss(x)).backward()
    scaler.step(opt_d)
    scaler.update()
    g_loss(x).backward()
    opt_g.step()
""",
    ),
    Sample(
        "a wrapper that does it all",
        """\
class NativeScalerWithGradNormCount:
    def __init__(self):
        self._scaler = torch.cuda.amp.GradScaler()
    def __call__(self, loss, optimizer, update_grad=True):
        self._scaler.scale(loss).backward()
        if update_grad:
            self._scaler.unscale_(optimizer)
            self._scaler.step(optimizer)
            self._scaler.update()
loss_scaler = NativeScalerWithGradNormCount()
for x, y in loader:
    loss_scaler(model(x), optimizer)
    optimizer.zero_grad()
""",
    ),
    Sample(
        "the scaled loss in a variable",
        """\
for x, y in loader:
    loss = scaler.scale(criterion(model(x), y))
    loss.backward()
    scaler.step(optimizer)
    scaler.update()
""",
    ),
    Sample(
        "the scaler is off",
        """\
import torch
scaler = torch.amp.GradScaler(enabled=False)
for x, y in loader:
    criterion(model(x), y).backward()
    scaler.step(optimizer)
""",
    ),
    Sample(
        "a loop over optimizers",
        """\
for x, y in loader:
    scaler.scale(loss_of(x)).backward()
    for optimizer in optimizers:
        scaler.step(optimizer)
    scaler.update()
""",
    ),
    Sample(
        "updated in a function",
        """\
def finish(scaler):
    scaler.update()
for x, y in loader:
    scaler.scale(model(x)).backward()
    scaler.step(optimizer)
    finish(scaler)
""",
    ),
    Sample(
        "updated by someone else",
        """\
from engine import finish
for x, y in loader:
    scaler.scale(model(x)).backward()
    scaler.step(optimizer)
    finish(scaler)
""",
    ),
    Sample(
        "a scaler of features",
        """\
scaler = StandardScaler()
X = scaler.fit_transform(X)
for x, y in loader:
    criterion(model(x), y).backward()
    optimizer.step()
""",
    ),
    Sample(
        "apex",
        """\
for x, y in loader:
    with amp.scale_loss(model(x), optimizer) as scaled_loss:
        scaled_loss.backward()
    optimizer.step()
# no scaler here
""",
    ),
    Sample(
        "unscaled once in each round, with accumulation",
        """\
for i, (x, y) in enumerate(loader):
    scaler.scale(model(x)).backward()
    if (i + 1) % 4 == 0:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "a helper in another file",
        """\
import torch
from steps import update
def train(model, loader, optimizer):
    scaler = torch.cuda.amp.GradScaler()
    for x in loader:
        with torch.cuda.amp.autocast():
            loss = model(x).mean()
        update(optimizer, loss, scaler)  # <-
""",
        others={
            "steps.py": """\
def update(optimizer, loss, scaler):
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
""",
        },
    ),
    Sample(
        "the optimizer steps by itself",
        """\
import torch
scaler = torch.cuda.amp.GradScaler()
for x, y in loader:
    optimizer.zero_grad()
    with torch.autocast("cuda"):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    optimizer.step()  # <-
    scaler.update()
""",
        fixed="""\
import torch
scaler = torch.cuda.amp.GradScaler()
for x, y in loader:
    optimizer.zero_grad()
    with torch.autocast("cuda"):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)  # <-
    scaler.update()
""",
    ),
    Sample(
        "the optimizer steps by itself, and no update",
        """\
import torch
scaler = torch.amp.GradScaler("cuda")
for x, y in loader:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    optimizer.step()  # <-
""",
        fixed="""\
import torch
scaler = torch.amp.GradScaler("cuda")
for x, y in loader:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    scaler.step(optimizer)  # <-
    scaler.update()
""",
    ),
    Sample(
        "no update",
        """\
import torch
scaler = torch.amp.GradScaler()
def train():
    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        scaler.step(optimizer)  # <-
train()
""",
        fixed="""\
import torch
scaler = torch.amp.GradScaler()
def train():
    for x, y in loader:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        scaler.step(optimizer)  # <-
        scaler.update()
train()
""",
    ),
    Sample(
        "a plain backward pass",
        """\
import torch
scaler = torch.amp.GradScaler()
for x, y in loader:
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    loss.backward()  # <-
    scaler.step(optimizer)
    scaler.update()
""",
        fixed="""\
import torch
scaler = torch.amp.GradScaler()
for x, y in loader:
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    scaler.scale(loss).backward()  # <-
    scaler.step(optimizer)
    scaler.update()
""",
    ),
    Sample(
        "updated before the step",
        """\
for x, y in loader:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    scaler.update()  # <-
    scaler.step(optimizer)
""",
    ),
    Sample(
        "unscaled twice",
        """\
for x, y in loader:
    scaler.scale(criterion(model(x), y)).backward()
    scaler.unscale_(optimizer)
    log(model)
    scaler.unscale_(optimizer)  # <-
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
""",
    ),
    Sample(
        "in a class, after micro-batches",
        """\
import torch
class Trainer:
    def __init__(self, model):
        self.optimizer = torch.optim.AdamW(model.parameters())
        self.scaler = torch.amp.GradScaler()
    def step(self, batches):
        for batch in batches:
            self.scaler.scale(self.model(batch)).backward()
        self.optimizer.step()  # <-
        self.optimizer.zero_grad()
        self.scaler.update()
""",
    ),
    Sample(
        "under a condition",
        """\
for i, (x, y) in enumerate(loader):
    scaler.scale(model(x) / 4).backward()
    if (i + 1) % 4 == 0:
        optimizer.step()  # <-
        scaler.update()
        optimizer.zero_grad()
""",
    ),
    Sample(
        "the second of two optimizers",
        """\
for x, y in loader:
    scaler.scale(d_loss(x)).backward()
    scaler.step(opt_d)
    scaler.scale(g_loss(x)).backward()
    opt_g.step()  # <-
    scaler.update()
""",
    ),
    Sample(
        "on by a flag",
        """\
import torch
scaler = torch.cuda.amp.GradScaler(enabled=args.amp)
for x, y in loader:
    scaler.scale(model(x)).backward()
    optimizer.step()  # <-
    scaler.update()
""",
    ),
    Sample(
        "unscaled and clipped, and the step taken without a look",
        """\
import torch
scaler = torch.amp.GradScaler()
for x, y in loader:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()  # <-
    scaler.update()
""",
    ),
)
