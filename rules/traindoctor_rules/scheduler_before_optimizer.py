"""The scheduler steps before the optimizer does in the same round: the first learning rate of the schedule is never used.

## What it looks like
"UserWarning: Detected call of `lr_scheduler.step()` before `optimizer.step()`". The whole schedule is one round early: milestones
take effect an epoch too soon, and a cosine ends at its last value but one step before the end.

## Why it happens
Since PyTorch 1.1 a scheduler sets the first rate when it is built, and each `step()` sets the next one. Loops written before that
call `scheduler.step()` at the top of the epoch.

## When it is wrong
`scheduler.step(epoch)` names the epoch, and may stand anywhere. PyTorch's own warning is also shown when a GradScaler left out
the first step because of an infinite gradient; this rule looks at the order alone.

## What repairs it
`optimizer.step()` first, `scheduler.step()` after it: behind the batch loop for a schedule over epochs.

## References
PyTorch documentation, torch.optim, "How to adjust learning rate": the warning on the order since version 1.1.0.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.edits import moved_after
from traindoctor.code.schedulers import FLAT, steps_of_schedulers
from traindoctor.mistake import Mistake, Repair
from traindoctor.rule import Cause, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.events import TracedEvent, TracedLoop
    from traindoctor.code.script import Script
    from traindoctor.rule import Limits

CAUSE = Cause(
    code="TD210",
    name="scheduler-before-optimizer",
    summary="the scheduler steps before the optimizer does",
    explanation=__doc__,
    severity="warning",
)


@CAUSE.in_script("LR|WarmRestarts|_schedule", ".step(")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the steps of schedulers that come first in the round of their loop, before every step of an optimizer."""
    for event, built in steps_of_schedulers(script):
        if not event.loops or any(one.kind == "ReduceLROnPlateau" or one.kind in FLAT for one in built):
            continue
        loop = event.loops[-1]
        step = _first_step_after(event, loop)
        if step is None:
            continue
        name = event.script.source(event.node.func.value)  # type: ignore[attr-defined]
        yield Mistake(
            script.place(event.node if event.script is script else event.via),
            f"{name}.step() comes before the optimizer's step. The first learning rate of the schedule is never used, "
            "and all others come one round early.",
            f"Call {name}.step() after the optimizer's step",
            repair=_later(script, event, step, loop),
            related=((step.script.place(step.node), "the optimizer steps here"),),
        )


def _first_step_after(event: TracedEvent, loop: TracedLoop) -> TracedEvent | None:
    """Return the first step of an optimizer of a round, where the scheduler steps before it and as surely as it; else None."""
    events = list(loop.flat())
    at = next(i for i, other in enumerate(events) if other is event)
    optimizer = getattr(getattr(event.thing, "optimizer", None), "id", None)
    its = [
        i for i, other in enumerate(events) if other.kind == "step" and (optimizer is None or other.target in (optimizer, None))
    ]
    steps = [events[i] for i in its if i > at]
    if not steps or its[0] < at or not set(event.branch) <= set(steps[0].branch):
        return None
    return steps[0]


def _later(script: Script, event: TracedEvent, step: TracedEvent, loop: TracedLoop) -> Repair | None:
    """Return the edit that moves the scheduler's step behind the optimizer's, in one block or to the end of the epoch."""
    if event.script is not script or step.script is not script:
        return None
    moved = script.statement(event.node)
    if not isinstance(moved, ast.Expr) or moved.value is not event.node:
        return None
    block = _block(script, moved)
    direct = bool(step.loops) and step.loops[-1] is loop
    anchor = next((s for s in reversed(block) if _is_update_of(script, s, step)), None) if direct else block[-1]
    if anchor is None or anchor is moved or isinstance(block[-1], ast.Continue | ast.Break | ast.Return):
        return None
    edits = moved_after(script, moved, anchor)
    return Repair("Step the scheduler after the optimizer", edits, safe=direct) if edits is not None else None


def _block(script: Script, statement: ast.stmt) -> list[ast.stmt]:
    """Return the statements among which a statement stands."""
    parent = script.parents[statement]
    for name in ("body", "orelse", "finalbody"):
        block = getattr(parent, name, None)
        if isinstance(block, list) and statement in block:
            return block
    return [statement]


def _is_update_of(script: Script, statement: ast.stmt, step: TracedEvent) -> bool:
    """Return whether a statement is the step of the optimizer itself, or the update of the scaler that took it."""
    if script.statement(step.node) is statement:
        return True
    call = statement.value if isinstance(statement, ast.Expr) else None
    took = step.node.func.value if isinstance(step.node, ast.Call) and isinstance(step.node.func, ast.Attribute) else None
    return (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and call.func.attr == "update"
        and took is not None
        and script.source(call.func.value) == script.source(took)
    )


CAUSE.valid_code = (
    Sample(
        "after the optimizer",
        """\
from torch.optim.lr_scheduler import StepLR
scheduler = StepLR(optimizer, 10)
for epoch in range(90):
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    scheduler.step()
""",
    ),
    Sample(
        "after the function that trains",
        """\
from torch.optim.lr_scheduler import StepLR
def train():
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
scheduler = StepLR(optimizer, 10)
for epoch in range(90):
    train()
    scheduler.step()
""",
    ),
    Sample(
        "after the scaler",
        """\
from torch.optim.lr_scheduler import OneCycleLR
scheduler = OneCycleLR(optimizer, 0.1, total_steps=1000)
for x, y in loader:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    scaler.step(optimizer)
    scaler.update()
    scheduler.step()
""",
    ),
    Sample(
        "the epoch is named",
        """\
from torch.optim.lr_scheduler import StepLR
scheduler = StepLR(optimizer, 10)
for epoch in range(90):
    scheduler.step(epoch)
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
""",
    ),
    Sample(
        "timm",
        """\
from timm.scheduler import create_scheduler
lr_scheduler, num_epochs = create_scheduler(args, optimizer)
for epoch in range(num_epochs):
    lr_scheduler.step(epoch + 1)
    for i, (x, y) in enumerate(loader):
        lr_scheduler.step_update(i)
        criterion(model(x), y).backward()
        optimizer.step()
""",
    ),
    Sample(
        "from the second epoch on",
        """\
from torch.optim.lr_scheduler import StepLR
scheduler = StepLR(optimizer, 10)
for epoch in range(90):
    if epoch > 0:
        scheduler.step()
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
""",
    ),
    Sample(
        "after the step of another function of the round",
        """\
from torch.optim.lr_scheduler import LambdaLR
def update(batch):
    optimizer.zero_grad()
    model(batch).backward()
    optimizer.step()
scheduler = LambdaLR(optimizer, lambda step: 1.0)
for batch in loader:
    update(batch)
    scheduler.step()
    log()
""",
    ),
    Sample(
        "a chain of schedulers",
        """\
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, ExponentialLR
scheduler = ChainedScheduler([ConstantLR(optimizer), ExponentialLR(optimizer, 0.9)])
for epoch in range(90):
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    scheduler.step()
""",
    ),
    Sample(
        "the second of two optimizers has its own",
        """\
from torch.optim.lr_scheduler import StepLR
sched_d = StepLR(opt_d, 10)
sched_g = StepLR(opt_g, 10)
for x, y in loader:
    opt_d.zero_grad()
    d_loss(x).backward()
    opt_d.step()
    sched_d.step()
    opt_g.zero_grad()
    g_loss(x).backward()
    opt_g.step()
    sched_g.step()
""",
    ),
    Sample(
        "a plateau waits for a metric",
        """\
from torch.optim.lr_scheduler import ReduceLROnPlateau
scheduler = ReduceLROnPlateau(optimizer)
for epoch in range(90):
    scheduler.step(last_loss)
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
""",
    ),
    Sample(
        "before the loop, to catch up",
        """\
from torch.optim.lr_scheduler import StepLR
scheduler = StepLR(optimizer, 10)
for _ in range(start_epoch):
    scheduler.step()
for epoch in range(start_epoch, 90):
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    scheduler.step()
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "in the batch",
        """\
from torch.optim.lr_scheduler import OneCycleLR
scheduler = OneCycleLR(optimizer, 0.1, total_steps=1000)
for x, y in loader:
    optimizer.zero_grad()
    criterion(model(x), y).backward()
    scheduler.step()  # <-
    optimizer.step()
""",
        fixed="""\
from torch.optim.lr_scheduler import OneCycleLR
scheduler = OneCycleLR(optimizer, 0.1, total_steps=1000)
for x, y in loader:
    optimizer.zero_grad()
    criterion(model(x), y).backward()
    optimizer.step()
    scheduler.step()  # <-
""",
    ),
    Sample(
        "at the top of the batch",
        """\
from torch.optim.lr_scheduler import OneCycleLR
scheduler = OneCycleLR(optimizer, 0.1, total_steps=1000)
for x, y in loader:
    scheduler.step()  # <-
    optimizer.zero_grad()
    criterion(model(x), y).backward()
    optimizer.step()
    log()
""",
    ),
    Sample(
        "with a scaler",
        """\
from torch.optim.lr_scheduler import OneCycleLR
scheduler = OneCycleLR(optimizer, 0.1, total_steps=1000)
for x, y in loader:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    scheduler.step()  # <-
    scaler.step(optimizer)
    scaler.update()
    log()
""",
        fixed="""\
from torch.optim.lr_scheduler import OneCycleLR
scheduler = OneCycleLR(optimizer, 0.1, total_steps=1000)
for x, y in loader:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    scaler.step(optimizer)
    scaler.update()
    scheduler.step()  # <-
    log()
""",
    ),
    Sample(
        "at the top of the epoch",
        """\
from torch.optim import lr_scheduler
scheduler = lr_scheduler.MultiStepLR(optimizer, milestones=[30, 60])
for epoch in range(90):
    scheduler.step()  # <-
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    evaluate()
""",
        fixed="""\
from torch.optim import lr_scheduler
scheduler = lr_scheduler.MultiStepLR(optimizer, milestones=[30, 60])
for epoch in range(90):
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    evaluate()
    scheduler.step()  # <-
""",
    ),
    Sample(
        "before the function that trains",
        """\
import torch
def train(model, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
def main():
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    for epoch in range(90):
        scheduler.step()  # <-
        train(model, optimizer)
""",
    ),
    Sample(
        "under the condition of the step, in a class",
        """\
from torch.optim.lr_scheduler import LambdaLR
class Trainer:
    def __init__(self, model):
        self.optimizer = AdamW(model.parameters())
        self.scheduler = LambdaLR(self.optimizer, warmup)
    def fit(self):
        for i, batch in enumerate(self.loader):
            self.model(batch).loss.backward()
            if (i + 1) % 4 == 0:
                self.scheduler.step()  # <-
                self.optimizer.step()
                self.optimizer.zero_grad()
""",
    ),
    Sample(
        "a while loop",
        """\
from transformers import get_linear_schedule_with_warmup
lr_scheduler = get_linear_schedule_with_warmup(optimizer, 100, 1000)
while step < 1000:
    lr_scheduler.step()  # <-
    loss = model(next(batches))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    step += 1
""",
    ),
    Sample(
        "after the step of another optimizer",
        """\
from torch.optim.lr_scheduler import ExponentialLR
opt_d = Adam(D.parameters())
opt_g = Adam(G.parameters())
scheduler = ExponentialLR(opt_g, gamma=0.9999)
for x, y in loader:
    opt_d.zero_grad()
    d_loss(x).backward()
    opt_d.step()
    opt_g.zero_grad()
    g_loss(x).backward()
    scheduler.step()  # <-
    opt_g.step()
""",
    ),
)
