"""ReduceLROnPlateau is stepped without the quantity it is to watch.

## What it looks like
`TypeError: step() missing 1 required positional argument: 'metrics'` at the end of the first epoch. With the number of the epoch
in its place nothing is raised: the rate falls by `factor` every `patience + 1` epochs, whatever the loss does.

## Why it happens
`ReduceLROnPlateau.step(metrics)` takes a number. The other schedulers take none, and used to take the epoch, so that swapping one
scheduler for another leaves the wrong call behind. Lightning steps it by itself, and needs to be told what to watch (`monitor`).

## When it is wrong
A variable that holds one of several schedulers, told apart before each step, is left alone.

## What repairs it
`scheduler.step(val_loss)`, once per evaluation; in Lightning `{"scheduler": scheduler, "monitor": "val_loss"}`.

## References
PyTorch documentation, torch.optim.lr_scheduler.ReduceLROnPlateau. Lightning documentation, LightningModule.configure_optimizers.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.schedulers import built_as, counts_epochs, kind_of, kinds
from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script
    from traindoctor.rule import Limits

CAUSE = Cause(
    code="TD211",
    name="plateau-without-metric",
    summary="ReduceLROnPlateau is stepped without the quantity it watches",
    explanation=__doc__,
)

_ADVICE = "Give step() the quantity to watch, such as the validation loss: scheduler.step(val_loss)"


@CAUSE.in_script("ReduceLROnPlateau", ".step(")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the steps of a plateau scheduler that are given nothing, or the number of the epoch."""
    for call in script.calls.get("step", ()):
        if (
            not isinstance(call.func, ast.Attribute)
            or len(call.args) > 1
            or script.open_ended(call)
            or not _is_plateau(script, call)
        ):
            continue
        name = script.dotted(call.func.value)
        if not call.args and not call.keywords:
            yield Mistake(
                script.place(call),
                f"{name}.step() is given nothing, and {name} is a ReduceLROnPlateau. It raises TypeError: 'metrics' is missing.",
                _ADVICE,
            )
        elif call.args and _is_epoch(script, call.args[0], call):
            given = script.source(call.args[0])
            yield Mistake(
                script.place(call),
                f"{name}.step({given}) watches the number of the epoch. ReduceLROnPlateau takes a quantity such as the loss; "
                "the epoch never stops rising, and the learning rate falls every patience + 1 epochs.",
                _ADVICE,
                severity="warning",
            )


@CAUSE.in_script("ReduceLROnPlateau", "configure_optimizers")
def unwatched_in_lightning(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the plateau schedulers that `configure_optimizers` returns with no `monitor` anywhere in it."""
    for function in script.all(ast.FunctionDef):
        assert isinstance(function, ast.FunctionDef)
        if function.name != "configure_optimizers" or "monitor" in script.source(function) or _steps_by_hand(script):
            continue
        made = [c for c in script.calls.get("ReduceLROnPlateau", ()) if kind_of(script, c) and function in script.above(c)]
        for call in made:
            if any(_is_returned(script, call, node) for node in ast.walk(function) if isinstance(node, ast.Return)):
                yield Mistake(
                    script.place(call),
                    "This ReduceLROnPlateau is returned from configure_optimizers without `monitor`. "
                    "Lightning raises MisconfigurationException: it does not know what to watch.",
                    'Return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}',
                )


def _is_plateau(script: Script, step: ast.Call) -> bool:
    """Return whether the receiver of a step can only be a ReduceLROnPlateau."""
    assert isinstance(step.func, ast.Attribute)
    receiver = step.func.value
    known = kinds(script, receiver)
    if known != {""}:
        return known == {"ReduceLROnPlateau"}
    met = script.trace.at(step)
    return bool(met) and all({one.kind for one in built_as(event)} == {"ReduceLROnPlateau"} for event in met)


def _is_epoch(script: Script, given: ast.expr, call: ast.Call) -> bool:
    """Return whether an argument is the variable of a loop over epochs around the call."""
    if isinstance(given, ast.BinOp) and isinstance(given.op, ast.Add) and isinstance(given.right, ast.Constant):
        given = given.left
    return isinstance(given, ast.Name) and any(
        isinstance(loop, ast.For)
        and isinstance(loop.target, ast.Name)
        and loop.target.id == given.id
        and isinstance(loop.iter, ast.Call)
        and script.dotted(loop.iter.func).rpartition(".")[2] in ("range", "trange")
        and counts_epochs(script, loop)
        for loop in script.loops(call)
    )


def _steps_by_hand(script: Script) -> bool:
    return "automatic_optimization" in script.text


def _is_returned(script: Script, call: ast.Call, node: ast.Return) -> bool:
    """Return whether a call, or a name bound to it alone, stands in what a function returns, in a list or a dictionary."""
    if not isinstance(node.value, ast.Tuple | ast.Dict | ast.List):
        return False
    return any(part is call or (isinstance(part, ast.Name) and script.origin(part) is call) for part in ast.walk(node.value))


CAUSE.valid_code = (
    Sample(
        "given the validation loss",
        """\
from torch.optim.lr_scheduler import ReduceLROnPlateau
scheduler = ReduceLROnPlateau(optimizer, patience=3)
for epoch in range(10):
    train()
    scheduler.step(evaluate())
""",
    ),
    Sample(
        "by keyword",
        """\
from torch.optim.lr_scheduler import ReduceLROnPlateau
scheduler = ReduceLROnPlateau(optimizer, patience=3)
scheduler.step(metrics=val_loss)
""",
    ),
    Sample(
        "another scheduler",
        """\
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
plateau = ReduceLROnPlateau(optimizer)
scheduler = StepLR(optimizer, 10)
for epoch in range(10):
    scheduler.step()
    plateau.step(loss)
""",
    ),
    Sample(
        "one of two, told apart",
        """\
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
if args.plateau:
    scheduler = ReduceLROnPlateau(optimizer)
else:
    scheduler = StepLR(optimizer, 10)
for epoch in range(10):
    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(val_loss)
    else:
        scheduler.step()
""",
    ),
    Sample(
        "Lightning with monitor",
        """\
from torch.optim.lr_scheduler import ReduceLROnPlateau
class Net(LightningModule):
    def configure_optimizers(self):
        optimizer = Adam(self.parameters())
        scheduler = ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": scheduler, "monitor": "val_loss"}
""",
    ),
    Sample(
        "Lightning, stepped by hand",
        """\
from torch.optim.lr_scheduler import ReduceLROnPlateau
class Net(LightningModule):
    def __init__(self):
        self.automatic_optimization = False
    def on_validation_epoch_end(self):
        self.lr_schedulers().step(self.trainer.callback_metrics["loss"])
    def configure_optimizers(self):
        optimizer = Adam(self.parameters())
        return [optimizer], [ReduceLROnPlateau(optimizer)]
""",
    ),
    Sample(
        "arguments that are not seen",
        """\
from torch.optim.lr_scheduler import ReduceLROnPlateau
scheduler = ReduceLROnPlateau(optimizer)
scheduler.step(*watched)
""",
    ),
    Sample(
        "a loss that is called like the loop variable of another loop",
        """\
from torch.optim.lr_scheduler import ReduceLROnPlateau
scheduler = ReduceLROnPlateau(optimizer)
for epoch, loss in enumerate(losses):
    scheduler.step(loss)
""",
    ),
    Sample(
        "a wrapper of that name",
        """\
from mylib.schedulers import ReduceLROnPlateau
scheduler = ReduceLROnPlateau(optimizer)
scheduler.step()
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "a list of schedulers",
        """\
import torch
optimizers = {k: torch.optim.SGD(m.parameters(), lr=0.1) for k, m in nets.items()}
schedulers = [torch.optim.lr_scheduler.ReduceLROnPlateau(o) for o in optimizers.values()]
for epoch in range(epochs):
    for x in loader:
        for opt in optimizers.values():
            opt.zero_grad()
        loss_of(nets, x).backward()
        for opt in optimizers.values():
            opt.step()
    for s in schedulers:
        s.step()  # <-
""",
    ),
    Sample(
        "nothing given",
        """\
from torch.optim.lr_scheduler import ReduceLROnPlateau
scheduler = ReduceLROnPlateau(optimizer, patience=3)
for epoch in range(10):
    train()
    scheduler.step()  # <-
""",
    ),
    Sample(
        "an attribute of self",
        """\
import torch.optim as optim
class Trainer:
    def __init__(self):
        self.sched = optim.lr_scheduler.ReduceLROnPlateau(self.optimizer, "min")
    def end_of_epoch(self, loss):
        self.sched.step()  # <-
""",
    ),
    Sample(
        "in the batch loop, with a scaler",
        """\
from torch.optim import lr_scheduler
plateau = lr_scheduler.ReduceLROnPlateau(optimizer)
for x, y in loader:
    scaler.scale(criterion(model(x), y)).backward()
    scaler.step(optimizer)
    scaler.update()
    plateau.step()  # <-
""",
    ),
    Sample(
        "the epoch in place of the metric",
        """\
import torch
scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
for epoch in range(num_epochs):
    train()
    scheduler.step(epoch)  # <-
""",
    ),
    Sample(
        "in a function that is given it",
        """\
from torch.optim.lr_scheduler import ReduceLROnPlateau
def fit(model, optimizer, scheduler):
    for epoch in range(10):
        for x, y in loader:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
        scheduler.step()  # <-
optimizer = Adam(model.parameters())
fit(model, optimizer, ReduceLROnPlateau(optimizer))
""",
    ),
    Sample(
        "Lightning, two lists",
        """\
from torch.optim.lr_scheduler import ReduceLROnPlateau
class Net(LightningModule):
    def configure_optimizers(self):
        optimizer = Adam(self.parameters())
        scheduler = ReduceLROnPlateau(optimizer)  # <-
        return [optimizer], [scheduler]
""",
    ),
    Sample(
        "Lightning, a dictionary",
        """\
import torch
class Net(LightningModule):
    def configure_optimizers(self):
        optimizer = Adam(self.parameters())
        return {
            "optimizer": optimizer,
            "lr_scheduler": torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),  # <-
        }
""",
    ),
)
