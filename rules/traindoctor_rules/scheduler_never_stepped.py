"""A learning-rate scheduler is built and never stepped: the rate stays where it began.

## What it looks like
The logged learning rate is constant over the whole run, although the script builds a schedule. With a warmup it is worse: the run
stays at the first, smallest value of the warmup, and hardly learns.

## Why it happens
A scheduler of PyTorch changes the rate of its optimizer in `step()` and nowhere else. The call was left out, commented out while
debugging, or stayed behind when the loop was moved into a function.

## When it is wrong
A scheduler that somebody else steps: it is returned from `configure_optimizers`, or handed to a Trainer, to a function elsewhere,
to an ignite handler, a callback or a `SequentialLR`. Each of these hands it on, and then this rule says nothing.

## What repairs it
`scheduler.step()` after `optimizer.step()`: once an epoch or once a batch, as the schedule counts. Or delete the scheduler.

## References
PyTorch documentation, torch.optim, "How to adjust learning rate".
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.names import PREPARES
from traindoctor.code.schedulers import FLAT, prepared_as, scheduler_calls
from traindoctor.mistake import Mistake
from traindoctor.rule import (
    MODERATE,
    PROOF,
    STRONG,
    WEAK,
    Cause,
    Example,
    Examples,
    Sample,
    Statement,
    Threshold,
    against,
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.checkpoints.state import State
    from traindoctor.code.script import Script
    from traindoctor.model import Evidence, Fix
    from traindoctor.rule import Limits
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD207",
    name="scheduler-never-stepped",
    summary="a learning-rate scheduler is built and never stepped",
    explanation=__doc__,
    thresholds=(
        Threshold("points", 8.0, "logged rates", "fewer may lie within a warmup or before the first milestone"),
        Threshold(
            "below", 0.6, "logged rate over the configured one", "benchmarks/study, tuning part: 0.04 at most of a warmup's"
        ),
        Threshold("seen", 0.5, "share of the planned run that the log holds", "a decay may be left to the second half"),
        Threshold(
            "epochs", 2.0, "epochs after which a scheduler was stepped once", "definition: it steps once an epoch at least"
        ),
    ),
    explains=("TD202", "TD215"),
    look_alikes=("TD208", "TD215"),
    experiment="print the scheduler's last_epoch at the end of the run",
    refutation="A logged learning rate that moves.",
)


@CAUSE.in_logs(needs=("learning_rate", "schedule.name"))
def never_moves(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a constant rate where a schedule is configured that would have moved it."""
    from traindoctor.signals import rates

    rate, said = m.learning_rate, m.schedule
    if not rate.is_constant:
        yield against("moves", rate.tail / rate.highest if rate.highest else None, unit="last / peak", weight=PROOF,
                      source=rate.source, text="The logged learning rate moves.")  # fmt: skip
        return
    name = str(m.setting("schedule.name"))
    if m.origin("schedule.name").startswith("default"):  # nobody asked for it, and the loop may not be the framework's own
        return
    if rate.n < limits["points"] or not (said.answer == "constant" or rates.should_move(m.run, limits["seen"])):
        return
    level = float(rate.value[0])
    yield supports(
        "constant",
        level,
        unit="learning rate",
        weight=PROOF if said.answer == "constant" else STRONG + WEAK,
        onset=int(rate.step[0]),
        source=rate.source,
        text=f"The learning rate is {level:.4g} at all {rate.n} logged points, though the config asks for the schedule {name}.",
    )
    lr = m.setting("optimizer.lr")
    if isinstance(lr, int | float) and 0.0 < level < limits["below"] * lr:
        yield supports(
            "below",
            level / lr,
            unit="of the configured rate",
            weight=MODERATE,
            source=rate.source,
            text=f"It is {level / lr:.2g} of the configured {lr:g}: the first value of a warmup.",
        )


@CAUSE.in_state
def never_counted(state: State, m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a scheduler whose count is still 0 after several epochs, or one that has counted."""
    last = state.last
    counts = [count for scheduler in last.schedulers if isinstance(count := scheduler.get("last_epoch"), float)]
    if not counts:
        return
    if max(counts) > 1.0:
        yield against(
            "counted",
            max(counts),
            unit="steps",
            weight=PROOF,
            kind="state",
            source=last.file,
            text=f"{last.at}: the scheduler was stepped {max(counts):,.0f} times.",
        )
    elif max(counts) <= 0.0 and last.epoch is not None and last.epoch >= limits["epochs"]:
        yield supports(
            "counted",
            0.0,
            unit="steps",
            weight=PROOF,
            kind="state",
            onset=0,
            source=last.file,
            text=f"{last.at}: the scheduler was never stepped, in {last.epoch:g} epochs.",
        )


@CAUSE.fixes
def step_it(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the missing call."""
    from traindoctor.model import Fix

    yield Fix("Call scheduler.step() after optimizer.step()", note="once a batch or once an epoch, as the schedule counts")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    text = " ".join(e.text for e in evidence if e.supports)
    if not m.has("learning_rate"):
        return Statement("The learning rate stayed where it began: the scheduler was never stepped.", text)
    rate = m.learning_rate
    return Statement(
        f"The learning rate stayed at {rate.value[0]:.3g}: the configured schedule was never stepped.",
        text,
        Segment(int(rate.step[0]), int(rate.step[-1]) + 1, int(rate.step[0])),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    from traindoctor.checkpoints.examples import checkpoint_of, state_of
    from traindoctor.model import OptimizerSpec, Run, Setting

    adam = OptimizerSpec("adam", lr=1e-3)
    fall = [2.3 * 0.98**k + 0.1 for k in range(200)]

    def with_schedule(run: Run, name: str) -> Run:
        return replace(run, settings={"schedule.name": Setting(name, "config.yaml:4"), "steps": Setting(200, "config.yaml:5")})

    flat, cosine = [1e-3] * 200, [1e-3 * (1 - k / 200) for k in range(200)]
    valid = (
        Example("no schedule is configured", run_of(adam, loss=fall, learning_rate=flat)),
        Example("the rate moves", with_schedule(run_of(adam, loss=fall, learning_rate=cosine), "linear")),
        Example("constant is what the config asks for", with_schedule(run_of(adam, loss=fall, learning_rate=flat), "constant")),
        Example("it waits for a plateau", with_schedule(run_of(adam, loss=fall, learning_rate=flat), "reduce_on_plateau")),
        Example("the run was stopped early", with_schedule(run_of(adam, loss=fall[:20], learning_rate=flat[:20]), "cosine")),
        Example("not logged", with_schedule(run_of(adam, loss=fall), "cosine")),
    )
    invalid = (
        Example("constant under a cosine", with_schedule(run_of(adam, loss=fall, learning_rate=flat), "cosine")),
        Example(
            "held at the start of a warmup",
            with_schedule(run_of(adam, loss=[2.3 - 1e-4 * k for k in range(200)], learning_rate=[4e-5] * 200), "linear"),
        ),
    )

    def counted(count: float, epoch: float) -> State:
        """Return a state whose scheduler has counted so far."""
        return state_of(checkpoint_of(200, epoch=epoch, scheduler={"last_epoch": count, "T_max": 10.0}))

    return (
        (
            *valid,
            Example("saved in the first epoch", run_of(adam, loss=fall), state=counted(0.0, 0.0)),
            Example("counted once an epoch", run_of(adam, loss=fall), state=counted(4.0, 4.0)),
        ),
        (*invalid, Example("count of 0 after four epochs", run_of(adam, loss=fall), state=counted(0.0, 4.0))),
    )


#: Methods of a scheduler that leave the rate as it is.
_QUIET = frozenset({"state_dict", "load_state_dict", "get_last_lr", "get_lr", "print_lr", "last_epoch", "base_lrs", "optimizer"})
_PRINTS = frozenset({"print", "type", "repr", "str", "isinstance"})


@CAUSE.in_script("LR(|OnPlateau(|WarmRestarts(|ChainedScheduler(|_schedule")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the schedulers whose name leads nowhere: no step, and no one who is given them."""
    for kind, call in scheduler_calls(script):
        if kind in FLAT:
            continue
        statement = script.statement(call)
        if isinstance(statement, ast.Expr) and statement.value is call:
            yield Mistake(
                script.place(call),
                f"This {kind} is thrown away as soon as it is built. The learning rate stays at its first value.",
                "Keep the scheduler in a variable, and call its step() after optimizer.step()",
            )
            continue
        target = _target(statement, call)
        if isinstance(target, ast.Name):
            idle = _idle_name(script, target, call)
        elif isinstance(target, ast.Attribute):
            idle = _idle_attribute(script, target)
        else:
            continue
        if idle:
            name = script.dotted(target)
            yield Mistake(
                script.place(call),
                f"{name}, a {kind}, is never stepped. The learning rate stays at its first value for the whole run.",
                f"Call {name}.step() after optimizer.step(), once an epoch or once a batch as the schedule counts",
                severity="error" if isinstance(target, ast.Name) else "warning",
            )


def _target(statement: ast.stmt, call: ast.Call) -> ast.expr | None:
    """Return what a statement binds a call to, alone or among the elements of a list or dictionary; None for anything else."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and call in _elements(statement.value):
        return statement.targets[0]
    return statement.target if isinstance(statement, ast.AnnAssign) and call in _elements(statement.value) else None


def _elements(node: ast.expr | None) -> list[ast.expr | None]:
    """Return the elements of a list or dictionary, or what a comprehension makes; of any other expression itself."""
    match node:
        case ast.List(elts=elements) | ast.Dict(values=elements):
            return [*elements]
        case ast.ListComp(elt=element) | ast.DictComp(value=element):
            return [element]
    return [node]


def _idle_name(script: Script, target: ast.Name, call: ast.Call, depth: int = 3) -> bool:
    """Return whether a variable that holds a scheduler is only ever written, read out or saved."""
    scope = script.scope(target)
    if isinstance(scope, ast.ClassDef) or (isinstance(scope, ast.Module) and not _trains(script, call)):
        return False
    uses = (n for n in script.names.get(target.id, ()) if isinstance(n.ctx, ast.Load) and _sees(script, n, scope))
    return all(_is_idle(script, use, depth) for use in uses) and not _by_other_ways(script, target.id, scope)


def _idle_attribute(script: Script, target: ast.Attribute) -> bool:
    """Return whether an attribute of self that holds a scheduler is only ever read out or saved, in a class that trains."""
    owner = next((n for n in script.above(target) if isinstance(n, ast.ClassDef)), None)
    if not (isinstance(target.value, ast.Name) and target.value.id == "self") or owner is None:
        return False
    if any(script.dotted(base).rpartition(".")[2] not in ("object", "ABC") for base in owner.bases) or owner.keywords:
        return False  # a base class may step it
    if not _steps_an_optimizer(script, owner):
        return False
    loads = (n for n in script.all(ast.Attribute) if n.attr == target.attr and isinstance(n.ctx, ast.Load))  # type: ignore[attr-defined]
    uses = (n for n in loads if not script.dotted(n).startswith("torch."))
    return all(_is_idle(script, use) for use in uses) and not _by_other_ways(script, target.attr, owner)


def _is_idle(script: Script, use: ast.AST, depth: int = 3) -> bool:
    """Return whether a use of a scheduler can neither step it nor hand it on."""
    parent = script.parents[use]
    if isinstance(parent, ast.Attribute):
        return parent.attr in _QUIET
    if isinstance(parent, ast.keyword):
        name, call = parent.arg, script.parents[parent]
        return isinstance(call, ast.Call) and name is not None and _idle_parameter(script, call, name, -1, depth)
    if isinstance(parent, ast.Call) and use in parent.args:
        if isinstance(parent.func, ast.Name) and parent.func.id in _PRINTS:
            return True
        position = parent.args.index(use)
        if isinstance(parent.func, ast.Attribute) and parent.func.attr in PREPARES:
            return _idle_when_prepared(script, parent, position, depth)
        return _idle_parameter(script, parent, "", position, depth)
    if isinstance(parent, ast.Return):
        return _idle_where_returned(script, parent, -1, depth)
    if isinstance(parent, ast.Tuple) and isinstance(script.parents[parent], ast.Return):
        return _idle_where_returned(script, script.parents[parent], parent.elts.index(use), depth)  # type: ignore[arg-type]
    return isinstance(parent, ast.Compare | ast.FormattedValue | ast.Expr) or (isinstance(parent, ast.If) and use is parent.test)


def _idle_where_returned(script: Script, node: ast.AST, position: int, depth: int) -> bool:
    """Return whether all callers of a function of the file leave alone what it returns (-1), or one element of it."""
    function = script.function(node)
    if not depth or not isinstance(function, ast.FunctionDef) or not isinstance(script.parents[function], ast.Module):
        return False
    callers = script.calls.get(function.name, [])
    for call in callers:
        statement = script.parents[call]
        target = statement.targets[0] if isinstance(statement, ast.Assign) and len(statement.targets) == 1 else None
        if position >= 0:
            target = target.elts[position] if isinstance(target, ast.Tuple) and position < len(target.elts) else None
        if not isinstance(target, ast.Name) or not _idle_name(script, target, call, depth - 1):
            return False
    return bool(callers)


def _idle_when_prepared(script: Script, call: ast.Call, position: int, depth: int) -> bool:
    """Return whether the scheduler that an accelerator gives back in the place of the one it is given is idle too."""
    target = prepared_as(script, call, position)
    if not depth or not isinstance(target, ast.Name):
        return False
    given = call.args[position]
    return (isinstance(given, ast.Name) and given.id == target.id) or _idle_name(script, target, call, depth - 1)


def _idle_parameter(script: Script, call: ast.Call, name: str, position: int, depth: int) -> bool:
    """Return whether a function of the file that is given a scheduler does nothing with it."""
    if not depth or not isinstance(call.func, ast.Name) or any(isinstance(a, ast.Starred) for a in call.args):
        return False
    found = [f for f in script.all(ast.FunctionDef) if f.name == call.func.id]  # type: ignore[attr-defined]
    if len(found) != 1 or not isinstance(script.parents[found[0]], ast.Module):
        return False
    arguments = found[0].args  # type: ignore[attr-defined]
    parameters = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    known = {*parameters, *(a.arg for a in arguments.kwonlyargs)}
    name = name or (parameters[position] if position < len(parameters) else "")
    if name not in known:
        return False
    uses = (n for n in script.names.get(name, ()) if _sees(script, n, found[0]))
    return all(isinstance(n.ctx, ast.Load) and _is_idle(script, n, depth - 1) for n in uses)


def _sees(script: Script, node: ast.AST, scope: ast.AST) -> bool:
    return scope in script.above(node)


def _trains(script: Script, call: ast.Call) -> bool:
    """Return whether a script uses the optimizer of a scheduler, or any other one: no list of settings to be imported."""
    if script.calls.get("step") or script.calls.get("backward"):
        return True
    optimizer = script.argument(call, "optimizer", 0)
    return isinstance(optimizer, ast.Name) and any(
        node.id == optimizer.id and isinstance(script.parents[node], ast.Call) and script.parents[node] is not call  # type: ignore[attr-defined]
        for node in script.all(ast.Name)
    )


def _steps_an_optimizer(script: Script, scope: ast.AST) -> bool:
    return any(_sees(script, call, scope) for call in script.calls.get("step", ()))


def _by_other_ways(script: Script, name: str, scope: ast.AST) -> bool:
    """Return whether all variables are handed on at once, or the name stands in a text that getattr could be given."""
    ways = ("locals", "globals", "vars")
    calls = (call for way in ways for call in script.calls.get(way, ()) if isinstance(call.func, ast.Name) and not call.args)
    if any(script.scope(call) is scope or isinstance(scope, ast.Module) for call in calls):
        return True
    return bool(script.calls.get("getattr")) and any(node.value == name for node in script.all(ast.Constant))  # type: ignore[attr-defined]


CAUSE.valid_code = (
    Sample(
        "stepped once an epoch",
        """\
from torch.optim.lr_scheduler import StepLR
optimizer = SGD(model.parameters(), lr=0.1)
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
        "stepped in a function that is given it",
        """\
import torch
def train(model, loader, optimizer, sched):
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
        sched.step()
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=len(loader))
train(model, loader, optimizer, scheduler)
""",
    ),
    Sample(
        "handed to a function that is not here",
        """\
from torch.optim.lr_scheduler import CosineAnnealingLR
from engine import fit
scheduler = CosineAnnealingLR(optimizer, T_max=100)
fit(model, optimizer, scheduler)
loss.backward()
""",
    ),
    Sample(
        "listed in a module of settings",
        """\
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR
optimizer = SGD(parameters, lr=0.1)
scheduler = StepLR(optimizer, 10)
""",
    ),
    Sample(
        "returned from configure_optimizers",
        """\
from torch.optim.lr_scheduler import StepLR
class Net(LightningModule):
    def training_step(self, batch, i):
        return self.loss(batch)
    def configure_optimizers(self):
        optimizer = Adam(self.parameters())
        scheduler = StepLR(optimizer, 10)
        return [optimizer], [scheduler]
# loss.backward() is called by Lightning
""",
    ),
    Sample(
        "in a dictionary that is returned",
        """\
from torch.optim import lr_scheduler
def configure_optimizers(self):
    optimizer = Adam(self.parameters())
    scheduler = lr_scheduler.StepLR(optimizer, 10)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "epoch"}}
def other(loss):
    loss.backward()
""",
    ),
    Sample(
        "handed to the Trainer",
        """\
from transformers import Trainer, get_cosine_schedule_with_warmup
scheduler = get_cosine_schedule_with_warmup(optimizer, 100, 1000)
trainer = Trainer(model=model, optimizers=(optimizer, scheduler))
trainer.train()
loss.backward()
""",
    ),
    Sample(
        "prepared by accelerate under another name",
        """\
from transformers import get_linear_schedule_with_warmup
scheduler = get_linear_schedule_with_warmup(optimizer, 100, 1000)
model, optimizer, loader, lr_sched = accelerator.prepare(model, optimizer, loader, scheduler)
for batch in loader:
    accelerator.backward(model(batch))
    optimizer.step()
    lr_sched.step()
    optimizer.zero_grad()
""",
    ),
    Sample(
        "an ignite handler",
        """\
from torch.optim.lr_scheduler import StepLR
step_scheduler = StepLR(optimizer, step_size=1, gamma=0.9)
scheduler = LRScheduler(step_scheduler)
trainer.add_event_handler(Events.EPOCH_STARTED, scheduler)
loss.backward()
optimizer.step()
""",
    ),
    Sample(
        "part of a chain that is stepped",
        """\
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
warmup = LinearLR(optimizer, 0.1, total_iters=5)
cosine = CosineAnnealingLR(optimizer, T_max=95)
scheduler = SequentialLR(optimizer, [warmup, cosine], milestones=[5])
for epoch in range(100):
    train(model, optimizer)
    scheduler.step()
loss.backward()
""",
    ),
    Sample(
        "kept in a list that is stepped",
        """\
from torch.optim.lr_scheduler import StepLR
schedulers = []
for optimizer in optimizers:
    scheduler = StepLR(optimizer, 10)
    schedulers.append(scheduler)
for epoch in range(10):
    loss.backward()
    for s in schedulers:
        s.step()
""",
    ),
    Sample(
        "an attribute that a method steps",
        """\
from torch.optim.lr_scheduler import StepLR
class Solver:
    def __init__(self, model):
        self.optimizer = SGD(model.parameters(), 0.1)
        self.scheduler = StepLR(self.optimizer, 10)
    def run(self):
        for epoch in range(10):
            for x, y in self.loader:
                self.optimizer.zero_grad()
                self.criterion(self.model(x), y).backward()
                self.optimizer.step()
            self.scheduler.step()
""",
    ),
    Sample(
        "an attribute that a base class may step",
        """\
from torch.optim.lr_scheduler import StepLR
class Solver(BaseSolver):
    def setup(self):
        self.scheduler = StepLR(self.optimizer, 10)
    def step(self, loss):
        loss.backward()
        self.optimizer.step()
""",
    ),
    Sample(
        "returned to the caller",
        """\
from torch.optim.lr_scheduler import StepLR
def build(model):
    optimizer = SGD(model.parameters(), 0.1)
    scheduler = StepLR(optimizer, 10)
    return optimizer, scheduler
optimizer, lr = build(model)
loss.backward()
optimizer.step()
lr.step()
""",
    ),
    Sample(
        "a constant schedule has nothing to do",
        """\
from transformers import get_constant_schedule
scheduler = get_constant_schedule(optimizer)
loss.backward()
optimizer.step()
""",
    ),
    Sample(
        "a class of the same name in the file",
        """\
class StepLR:
    def __init__(self, optimizer, n):
        optimizer.register_step_post_hook(self.lower)
scheduler = StepLR(optimizer, 10)
loss.backward()
optimizer.step()
""",
    ),
    Sample(
        "stepped from a closure",
        """\
from torch.optim.lr_scheduler import StepLR
def main():
    scheduler = StepLR(optimizer, 10)
    def one_epoch():
        loss.backward()
        optimizer.step()
        scheduler.step()
    for epoch in range(10):
        one_epoch()
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "a list of schedulers",
        """\
import torch
optimizers = {k: torch.optim.SGD(m.parameters(), lr=0.1) for k, m in nets.items()}
schedulers = [torch.optim.lr_scheduler.ExponentialLR(o, 0.9) for o in optimizers.values()]  # <-
for epoch in range(epochs):
    for x in loader:
        for opt in optimizers.values():
            opt.zero_grad()
        loss_of(nets, x).backward()
        for opt in optimizers.values():
            opt.step()
""",
    ),
    Sample(
        "built and forgotten",
        """\
from torch.optim.lr_scheduler import StepLR
optimizer = SGD(model.parameters(), lr=0.1)
scheduler = StepLR(optimizer, 10)  # <-
for epoch in range(90):
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
""",
    ),
    Sample(
        "the step is commented out",
        """\
import torch.optim as optim
def main():
    scheduler = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)  # <-
    for epoch in range(100):
        for x, y in loader:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
        # scheduler.step()
        print(scheduler.get_last_lr())
        torch.save({"scheduler": scheduler.state_dict()}, "last.pt")
""",
    ),
    Sample(
        "given to a function that leaves it alone",
        """\
import torch
def train(model, loader, optimizer, scheduler):
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
def main():
    lr_sched = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=100)  # <-
    train(model, loader, optimizer, scheduler=lr_sched)
""",
    ),
    Sample(
        "an attribute that no method steps",
        """\
from torch.optim import lr_scheduler
class Solver:
    def __init__(self, model):
        self.optimizer = SGD(model.parameters(), 0.1)
        self.scheduler = lr_scheduler.StepLR(self.optimizer, 10)  # <-
    def run(self):
        for x, y in self.loader:
            self.optimizer.zero_grad()
            self.criterion(self.model(x), y).backward()
            self.optimizer.step()
""",
    ),
    Sample(
        "thrown away",
        """\
from torch.optim.lr_scheduler import ExponentialLR
ExponentialLR(optimizer, 0.9)  # <-
for x, y in loader:
    optimizer.zero_grad()
    criterion(model(x), y).backward()
    optimizer.step()
""",
    ),
    Sample(
        "a warmup of transformers, with a scaler",
        """\
from transformers import get_linear_schedule_with_warmup
def fit(model, optimizer, scaler):
    lr_scheduler = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=100, num_training_steps=1000)  # <-
    for batch in loader:
        optimizer.zero_grad()
        scaler.scale(model(**batch).loss).backward()
        scaler.step(optimizer)
        scaler.update()
""",
    ),
    Sample(
        "only tested for being there",
        """\
from torch.optim.lr_scheduler import MultiStepLR
scheduler = MultiStepLR(optimizer, milestones=[30, 60])  # <-
if scheduler is not None:
    print("with a schedule")
while step < 100:
    loss.backward()
    optimizer.step()
""",
    ),
    Sample(
        "prepared by accelerate, and left alone",
        """\
from accelerate import Accelerator
from transformers import get_linear_schedule_with_warmup
def main():
    accelerator = Accelerator()
    scheduler = get_linear_schedule_with_warmup(optimizer, 100, 1000)  # <-
    model, optimizer, loader, scheduler = accelerator.prepare(net, adam, data, scheduler)
    for batch in loader:
        accelerator.backward(model(**batch).loss)
        optimizer.step()
        optimizer.zero_grad()
""",
    ),
    Sample(
        "the loop is in another file",
        """\
import torch
from engine import train_one_epoch
optimizer = torch.optim.RAdam(model.parameters(), lr=5e-4)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5)  # <-
for epoch in range(40):
    train_one_epoch(model, data, optimizer)
""",
        others={"engine.py": "def train_one_epoch(model, data, optimizer):\n    optimizer.step()\n"},
    ),
    Sample(
        "an attribute that is called like the module",
        """\
import torch
class Experiment:
    def __init__(self, model):
        self.optim = torch.optim.Adam(model.parameters())
        self.lr_scheduler = torch.optim.lr_scheduler.ExponentialLR(self.optim, gamma=0.98)  # <-
    def update(self, loss):
        self.optim.zero_grad()
        loss.backward()
        self.optim.step()
""",
    ),
    Sample(
        "built in a function, and left alone by its caller",
        """\
import torch
def build(model, epochs):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)  # <-
    return optimizer, scheduler
def main():
    optimizer, scheduler = build(model, 10)
    for x in loader:
        optimizer.zero_grad()
        model(x).backward()
        optimizer.step()
""",
    ),
)
