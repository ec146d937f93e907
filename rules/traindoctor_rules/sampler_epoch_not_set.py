"""The distributed sampler is not told the epoch: every epoch has the same order.

## What it looks like
The loss curve of each epoch has the same small waves as that of the epoch before; the training loss falls slower than on one
GPU.
## Why it happens
All processes draw the order from one seed, so that their shares of the data do not overlap: `seed + epoch`. The sampler cannot
count the epochs by itself; without `set_epoch` its epoch stays 0.
## When it is wrong
Samplers that do not shuffle; Lightning, Accelerate and the Trainer of Transformers, which call `set_epoch` themselves.
## What repairs it
`sampler.set_epoch(epoch)` as the first statement of the loop over epochs, before the loader is read.
## References
PyTorch documentation, torch.utils.data.distributed.DistributedSampler: "calling the set_epoch() method at the beginning of each
epoch before creating the DataLoader iterator is necessary to make shuffling work properly across multiple epochs. Otherwise,
the same ordering will be always used".
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.loaders import around, data_loaders, functions, is_torch, named_in_order, trains, uses, within
from traindoctor.code.script import LOOPS
from traindoctor.mistake import Edit, Mistake, Repair
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.loaders import Use
    from traindoctor.code.script import Script

CAUSE = Cause(
    code="TD502",
    name="sampler-epoch-not-set",
    summary="the distributed sampler is not told the epoch",
    explanation=__doc__,
    severity="error",
)

#: Names of frameworks that set the epoch of the sampler themselves.
_BY_FRAMEWORK = ("lightning", "accelerate", "transformers", "ignite", "composer", "fabric", "ray", "catalyst", "mmengine", "mmcv")


@CAUSE.in_script("DistributedSampler", "torch")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the loops over epochs whose sampler keeps its epoch."""
    if any(name.split(".")[0].lower() in _BY_FRAMEWORK or ".lightning" in name for name in script.imports.values()):
        return
    samplers = [call for name in ("DistributedSampler", "StatefulDistributedSampler") for call in script.calls.get(name, ())]
    for sampler in samplers:
        if is_torch(script, sampler.func) and _shuffles(script, sampler):
            yield from _of(script, sampler)


def _of(script: Script, sampler: ast.Call) -> Iterator[Mistake]:
    name = _name(script, sampler)
    if named_in_order(name):
        return
    for loader in _loaders(script, sampler):
        for use in uses(script, loader):
            if not isinstance(use.node, LOOPS) or not trains(use.script, use.node):
                continue
            outer = around(use)
            epochs = next(((where, loop) for where, loop in outer if _counts_epochs(where, loop)), None)
            if epochs is None or epochs[0] is not script or _is_set(script, use, epochs[1], name):
                continue
            yield _mistake(script, sampler, epochs[1], name)
            return


def _mistake(script: Script, sampler: ast.Call, loop: ast.AST, name: str) -> Mistake:
    assert isinstance(loop, ast.For | ast.AsyncFor | ast.While)
    start = script.span(loop)[0]
    epoch = loop.target.id if isinstance(loop, ast.For) and isinstance(loop.target, ast.Name) else ""
    what = name or "The DistributedSampler of the training set"
    return Mistake(
        script.place_of(start, script.span(loop.target if isinstance(loop, ast.For | ast.AsyncFor) else loop.test)[1]),
        f"{what} is not told the epoch: set_epoch is never called. A DistributedSampler draws its order from seed + "
        "epoch, so every "
        "epoch reads the samples in the same order.",
        f"Call {name or 'sampler'}.set_epoch({epoch or 'epoch'}) first in this loop.",
        repair=_repair(script, sampler, loop, name, epoch),
        severity="error" if _is_sure(script, sampler) else "warning",
        related=((script.place(sampler), "the sampler"),),
    )


def _repair(script: Script, sampler: ast.Call, loop: ast.AST, name: str, epoch: str) -> Repair | None:
    """Return the insertion of `set_epoch`, where the sampler is surely there under its name in the loop."""
    assert isinstance(loop, ast.For | ast.AsyncFor | ast.While)
    first = loop.body[0]
    if (
        not name
        or not epoch
        or epoch == "_"
        or not script.line_span(first)
        or script.function(sampler) is not script.function(loop)
    ):
        return None
    if any(isinstance(above, ast.If | ast.Try | ast.IfExp) and not within(loop, above) for above in script.above(sampler)):
        return None
    if len(script.bound(_target(script, sampler) or sampler)) != 1:
        return None
    at = script.span(first)[0]
    text = f"{name}.set_epoch({epoch}){script.newline}{script.indent(first)}"
    return Repair(f"Call {name}.set_epoch({epoch}) in each epoch", (Edit(at, at, text),), safe=True)


def _shuffles(script: Script, sampler: ast.Call) -> bool:
    if script.open_ended(sampler):
        return False
    given = script.argument(sampler, "shuffle", 3)
    return given is None or script.constant(given) not in (False, 0, None)


def _is_sure(script: Script, sampler: ast.Call) -> bool:
    """Return whether the sampler is there whatever the settings are, and shuffles."""
    given = script.argument(sampler, "shuffle", 3)
    shuffles = given is None or script.constant(given) is True
    return shuffles and not any(isinstance(above, ast.If | ast.IfExp) for above in script.above(sampler))


def _target(script: Script, call: ast.Call) -> ast.expr | None:
    statement = script.statement(call)
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return None
    target = statement.targets[0]
    return target if isinstance(target, ast.Name | ast.Attribute) else None


def _name(script: Script, call: ast.Call) -> str:
    """Return the name that a sampler is bound to, "" for one that is made in the place of an argument."""
    target = _target(script, call)
    return script.source(target) if target is not None and script.dotted(target) else ""


def _loaders(script: Script, sampler: ast.Call) -> Iterator[ast.Call]:
    """Yield the loaders that read in the order of a sampler."""
    for call in data_loaders(script):
        given = script.argument(call, "sampler", 3)
        if given is None:
            continue
        if given is sampler or (
            isinstance(given, ast.Name | ast.Attribute) and any(v is not None and within(sampler, v) for v in script.bound(given))
        ):
            yield call


def _counts_epochs(script: Script, loop: ast.AST) -> bool:
    return isinstance(loop, ast.While) or (isinstance(loop, ast.For) and isinstance(loop.target, ast.Name))


def _is_set(script: Script, use: Use, loop: ast.AST, name: str) -> bool:
    """Return whether the epoch is set: on this sampler, or on one that goes by a name that is not known to be another."""
    for where in {script, use.script, *(s for s, _ in use.way)}:
        for node in where.nodes.get(ast.Attribute, ()):
            assert isinstance(node, ast.Attribute)
            if node.attr == "set_epoch" and isinstance(where.parents.get(node), ast.Call):
                owner = where.source(node.value)
                if owner == name or not named_in_order(
                    owner.split(".")[-1] if not owner.endswith(".sampler") else owner.split(".")[0]
                ):
                    return True
        if '"set_epoch"' in where.text or "'set_epoch'" in where.text:
            return True
    for call in script.calls.values():
        for one in call:
            if (
                within(one, loop)
                and "epoch" in script.source(one)
                and any("set_epoch" in other.source(f) for other, f in functions(script, one.func))
            ):
                return True
    return False


_HEAD = """import torch
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler
"""
_BATCHES = """    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
"""
_MADE = """train_sampler = DistributedSampler(train_set)
train_loader = DataLoader(train_set, batch_size=64, sampler=train_sampler)
"""

CAUSE.valid_code = (
    Sample("set", f"{_HEAD}{_MADE}for epoch in range(90):\n    train_sampler.set_epoch(epoch)\n{_BATCHES}"),
    Sample(
        "set through the loader", f"{_HEAD}{_MADE}for epoch in range(90):\n    train_loader.sampler.set_epoch(epoch)\n{_BATCHES}"
    ),
    Sample(
        "set where the run is distributed",
        f"{_HEAD}{_MADE}for epoch in range(90):\n    if args.distributed:\n        train_sampler.set_epoch(epoch)\n{_BATCHES}",
    ),
    Sample(
        "set in another function",
        f"""{_HEAD}{_MADE}
def begin(epoch, loader):
    loader.sampler.set_epoch(epoch)

for epoch in range(90):
    begin(epoch, train_loader)
{_BATCHES}""",
    ),
    Sample(
        "set in another file",
        f"{_HEAD}from engine import begin\n{_MADE}for epoch in range(90):\n    begin(epoch, train_loader)\n{_BATCHES}",
        others={"engine.py": "def begin(epoch, loader):\n    loader.sampler.set_epoch(epoch)\n"},
    ),
    Sample(
        "not shuffled",
        f"{_HEAD}{_MADE.replace('(train_set)', '(train_set, shuffle=False)', 1)}for epoch in range(90):\n{_BATCHES}",
    ),
    Sample(
        "for evaluation",
        f"""{_HEAD}
val_sampler = DistributedSampler(val_set)
val_loader = DataLoader(val_set, sampler=val_sampler)
for epoch in range(90):
    for x, y in val_loader:
        total += criterion(model(x), y).item()
    loss.backward()
""",
    ),
    Sample("one epoch", f"{_HEAD}{_MADE}if True:\n{_BATCHES}"),
    Sample(
        "Accelerate sets it",
        f"""{_HEAD}from accelerate import Accelerator
{_MADE}
train_loader = Accelerator().prepare(train_loader)
for epoch in range(90):
{_BATCHES}""",
    ),
    Sample("Lightning sets it", f"{_HEAD}import lightning as L\n{_MADE}for epoch in range(90):\n{_BATCHES}"),
    Sample(
        "a sampler of one's own",
        f"{_HEAD.replace('torch.utils.data.distributed', 'samplers')}{_MADE}for epoch in range(90):\n{_BATCHES}",
    ),
    Sample(
        "settings that are not seen",
        f"{_HEAD}{_MADE.replace('(train_set)', '(train_set, **kw)', 1)}for epoch in range(90):\n{_BATCHES}",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "never set",
        f"{_HEAD}{_MADE}for epoch in range(90):  # <-\n{_BATCHES}",
        fixed=f"{_HEAD}{_MADE}for epoch in range(90):  # <-\n    train_sampler.set_epoch(epoch)\n{_BATCHES}",
    ),
    Sample("named, not called", f"{_HEAD}{_MADE}for epoch in range(90):  # <-\n    train_sampler.set_epoch\n{_BATCHES}"),
    Sample(
        "set on the other sampler",
        f"""{_HEAD}{_MADE}
val_sampler = DistributedSampler(val_set, shuffle=False)
for epoch in range(90):  # <-
    val_sampler.set_epoch(epoch)
{_BATCHES}""",
    ),
    Sample(
        "made in place",
        f"""{_HEAD}
train_loader = torch.utils.data.DataLoader(train_set, 64, sampler=DistributedSampler(train_set, num_replicas=8, rank=rank))
epoch = 0
while epoch < 90:  # <-
{_BATCHES}    epoch += 1
""",
    ),
    Sample(
        "where the run is distributed",
        f"""{_HEAD}
def main(args):
    train_sampler = None
    if args.distributed:
        train_sampler = DistributedSampler(train_set)
    train_loader = DataLoader(train_set, 64, shuffle=(train_sampler is None), sampler=train_sampler)
    for epoch in range(args.epochs):  # <-
        train(train_loader, model, criterion, optimizer, epoch)

def train(loader, model, criterion, optimizer, epoch):
    for i, (x, y) in enumerate(loader):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
""",
    ),
    Sample(
        "in a class",
        f"""{_HEAD}
class Trainer:
    def __init__(self, model, train_set):
        self.model = DDP(model)
        self.train_data = DataLoader(train_set, batch_size=32, shuffle=False, sampler=DistributedSampler(train_set))

    def _run_epoch(self, epoch):
        for x, y in self.train_data:
            self._run_batch(x, y)

    def _run_batch(self, x, y):
        self.optimizer.zero_grad()
        self.loss(self.model(x), y).backward()
        self.optimizer.step()

    def train(self, max_epochs):
        for epoch in range(max_epochs):  # <-
            self._run_epoch(epoch)
""",
    ),
    Sample(
        "through a logger of iterations",
        f"""{_HEAD}
sampler = DistributedSampler(train_set, shuffle=True)
loader = DataLoader(train_set, sampler=sampler, batch_size=64, drop_last=True)
for epoch in range(0, 100):  # <-
    for it, (x, y) in enumerate(metric_logger.log_every(loader, 10, "train")):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
""",
        fixed=f"""{_HEAD}
sampler = DistributedSampler(train_set, shuffle=True)
loader = DataLoader(train_set, sampler=sampler, batch_size=64, drop_last=True)
for epoch in range(0, 100):  # <-
    sampler.set_epoch(epoch)
    for it, (x, y) in enumerate(metric_logger.log_every(loader, 10, "train")):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
""",
    ),
)
