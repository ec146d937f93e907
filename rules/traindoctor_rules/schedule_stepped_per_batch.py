"""A schedule that counts epochs is stepped once a batch: it is over within the first epoch.

## What it looks like
The logged learning rate falls to nothing, or runs through its whole cosine again and again, within the first epoch. The loss
falls for a while and stops, while the gradient stays as large as it was. Nothing in the settings looks wrong.

## Why it happens
A scheduler counts its own calls of `step()`. `CosineAnnealingLR(optimizer, T_max=epochs)` that is stepped in the batch loop has
its minimum after as many batches as there are epochs, and then climbs again: the rate goes up and down again and again.
`StepLR(optimizer, 30)` divides the rate by ten every 30 batches.

## When it is wrong
A horizon that is meant in batches and named as if it were in epochs. One that counts both (`epochs * len(loader)`) is left
alone, and so is `CosineAnnealingWarmRestarts.step(epoch + i / iterations)`, and a schedule whose numbers say nothing of
epochs.

## What repairs it
Step the scheduler after the batch loop, or give it a horizon in batches: `T_max=epochs * len(loader)`.

## References
PyTorch documentation, torch.optim, "How to adjust learning rate": its examples step once an epoch; torch.optim.lr_scheduler,
CosineAnnealingLR and StepLR: last_epoch counts the calls of step().
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.schedulers import batch_loop, counts_epochs, decay_per_step, epochs_of, horizon, steps_of_schedulers
from traindoctor.code.script import UNKNOWN
from traindoctor.code.values import Scheduler
from traindoctor.mistake import Mistake
from traindoctor.rule import MODERATE, STRONG, Cause, Example, Examples, Sample, Statement, Threshold, against, run_of, supports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.checkpoints.state import State
    from traindoctor.code.events import TracedEvent, TracedLoop
    from traindoctor.code.schedulers import Built
    from traindoctor.code.script import Script
    from traindoctor.model import Evidence, Fix
    from traindoctor.rule import Limits
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD206",
    name="schedule-stepped-per-batch",
    summary="a schedule that counts epochs is stepped once a batch",
    explanation=__doc__,
    thresholds=(
        Threshold(
            "few_steps",
            200.0,
            "steps of a schedule that are no plan for batches",
            "an epoch of CIFAR-10 with batches of 128 has 391 batches, and ImageNet is trained for 90 to 300 epochs",
        ),
        Threshold(
            "fast_decay",
            0.99,
            "factor per step",
            "0.99 to the power of the 391 batches of an epoch of CIFAR-10 is 0.02",
        ),
        Threshold(
            "early",
            0.2,
            "share of the run after which the rate is below a hundredth of its peak for good",
            "benchmarks/study, tuning part: at most 0.14 with the fault, no sound run before 0.7",
        ),
        Threshold(
            "stands", 0.8, "loss at the end over that when the rate was spent", "benchmarks/study, tuning part: 0.97 or more"
        ),
        Threshold(
            "times", 3.0, "horizons of a schedule that were passed", "definition: a cosine that has gone down, up and down"
        ),
    ),
    explains=("TD204", "TD202", "TD209"),
    look_alikes=("TD209", "TD218"),
    experiment="print the learning rate of the first hundred steps beside the number of the epoch",
    refutation="A learning rate that is still above a hundredth of its peak after the first tenth of the run.",
)


@CAUSE.in_logs(needs=("learning_rate", "loss"))
def is_spent_at_once(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a rate that ran down through the decades at the very start, and the loss that stands since."""
    from traindoctor.signals import rates

    rate, loss = m.learning_rate, m.loss
    cuts = m.rate_cuts
    if cuts is not None:
        yield against("cuts", int(cuts.steps.size), unit="cuts", weight=STRONG, source=rate.source,
                      text="The rate is cut at uneven distances, as by a scheduler that watches the loss.")  # fmt: skip
        return
    spent = m.spent_rate
    if "plateau" in str(m.setting("schedule.name")).lower():
        return
    if spent is None or spent.share > limits["early"] or spent.way != "geometric":
        return
    yield supports(
        "spent",
        spent.share,
        unit="of the run",
        weight=STRONG,
        onset=spent.step,
        source=rate.source,
        text=f"The learning rate is below a hundredth of its peak from {m.name_of(spent.step)} on, after {spent.share:.1%} of "
        "the run.",
    )
    yield supports(
        "decades",
        spent.left,
        unit="of the peak",
        weight=MODERATE,
        source=rate.source,
        text=f"It goes on falling by one factor after another, to {spent.left:.1g} of its peak.",
    )
    stands = rates.stands_since(loss.step, loss.value, spent.step)
    if not m.is_adversarial and stands >= limits["stands"]:
        yield supports(
            "stands",
            stands,
            unit="loss at the end over then",
            weight=MODERATE,
            source=loss.source,
            text=f"The loss has stood since: {loss.tail:.3g} at the end.",
        )
    if m.has("grad_norm"):
        grad = rates.stands_since(m.grad_norm.step, m.grad_norm.value, spent.step)
        if grad > 0.5:
            yield supports(
                "gradient",
                grad,
                unit="norm at the end over then",
                weight=MODERATE,
                source=m.grad_norm.source,
                text=f"The gradient is still {grad:.0%} of what it was: there was more to learn.",
            )


@CAUSE.in_state
def counted_batches(state: State, m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a schedule that has counted each step of the optimizer, and is long over by its own horizon."""
    last = state.last
    taken = max((optimizer.step for optimizer in last.optimizers if optimizer.step is not None), default=None)
    for scheduler in last.schedulers:
        over = last.horizons_passed(scheduler)
        counted = scheduler.get("last_epoch")
        if over is None or taken is None or not isinstance(counted, float) or abs(counted - taken) > 0.02 * taken:
            continue
        if over.times >= limits["times"]:
            yield supports(
                "counted",
                over.times,
                unit="times its horizon",
                weight=STRONG + MODERATE,
                kind="state",
                onset=round(over.horizon),
                source=last.file,
                text=f"{last.at}: the scheduler was stepped {counted:,.0f} times, once with each step of the optimizer, and its "
                f"{over.name} is {over.horizon:,.0f}: {over.words}.",
            )
        else:
            yield against(
                "counted",
                over.times,
                unit="times its horizon",
                weight=STRONG,
                kind="state",
                source=last.file,
                text=f"{last.at}: the scheduler counts steps, and so does its {over.name} of {over.horizon:,.0f}.",
            )


@CAUSE.fixes
def once_an_epoch(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield where the call belongs."""
    from traindoctor.model import Fix

    yield Fix("Call scheduler.step() once an epoch, after the batch loop", note="or give the schedule its lengths in batches")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next((e.onset for e in evidence if e.onset is not None), None)
    text = " ".join(e.text for e in evidence if e.supports)
    if onset is None or not m.has("learning_rate"):
        return Statement("The schedule counts epochs and was stepped once a batch: it was over within the first epoch.", text)
    return Statement(
        f"Training stood still from {m.name_of(onset)}: the schedule was stepped once a batch, and the learning rate was spent.",
        text,
        Segment(onset, int(m.learning_rate.step[-1]) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.checkpoints.examples import checkpoint_of, state_of
    from traindoctor.model import OptimizerSpec

    adam = OptimizerSpec("adam", lr=1e-3)
    fall = [2.3 * 0.98**k + 0.02 for k in range(300)]
    stuck = [2.0 + 0.3 * 0.7**k + 0.01 * ((k * 7) % 5) for k in range(300)]
    valid = (
        Example("decayed once an epoch", run_of(adam, loss=fall, learning_rate=[1e-3 * 0.9 ** (k // 10) for k in range(300)])),
        Example(
            "a staircase over the run", run_of(adam, loss=fall, learning_rate=[1e-3 * 0.1 ** (k // 100) for k in range(300)])
        ),
        Example("linear to zero over the run", run_of(adam, loss=fall, learning_rate=[1e-3 * (1 - k / 300) for k in range(300)])),
        Example("not logged", run_of(adam, loss=stuck)),
        Example("one value", run_of(adam, loss=[1.0], learning_rate=[1e-3])),
    )
    invalid = (
        Example("0.7 a batch", run_of(adam, loss=stuck, learning_rate=[1e-3 * 0.7**k for k in range(300)])),
        Example(
            "a tenth every five batches", run_of(adam, loss=stuck, learning_rate=[1e-3 * 0.1 ** (k // 5) for k in range(300)])
        ),
    )

    def counted(schedule: dict[str, object]) -> State:
        """Return a state whose scheduler has counted each of 300 steps."""
        return state_of(checkpoint_of(300, scheduler={"last_epoch": 300.0, **schedule}))

    return (
        (
            *valid,
            Example("a horizon in steps", run_of(adam, loss=stuck), state=counted({"T_max": 300.0})),
            Example("many small cuts", run_of(adam, loss=stuck), state=counted({"step_size": 3.0, "gamma": 0.99})),
        ),
        (
            *invalid,
            Example("thirty cosines of ten steps", run_of(adam, loss=stuck), state=counted({"T_max": 10.0})),
            Example("a hundred tenths", run_of(adam, loss=stuck), state=counted({"step_size": 3.0, "gamma": 0.1})),
        ),
    )


@CAUSE.in_script("LR|WarmRestarts|_schedule", ".step(")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the steps of schedulers in batch loops whose horizons are all in epochs."""
    for event, built in steps_of_schedulers(script):
        loop = batch_loop(event)
        if loop is None or not _each_time(event, loop):
            continue
        born = event.thing.born if isinstance(event.thing, Scheduler) else ()
        outer = tuple(around for around in event.loops[:-1] if around not in born)
        if not outer:
            continue
        said = [_horizon_in_epochs(one, outer, limits) for one in built]
        if all(said):
            what, severity = next(s for s in said if s is not None)
            at = event.node if event.script is script else event.via
            name = event.script.source(event.node.func.value)  # type: ignore[attr-defined]
            yield Mistake(
                script.place(at),
                f"{name} is stepped once a batch, but {what}. The schedule is over within the first epoch.",
                f"Call {name}.step() after the batch loop, once an epoch, or give the schedule a horizon in batches",
                severity=severity,  # type: ignore[arg-type]
                related=((built[0].script.place(built[0].call), f"{built[0].kind} is built here"),),
            )


def _each_time(event: TracedEvent, loop: TracedLoop) -> bool:
    """Return whether the scheduler steps whenever some optimizer does, conditions that only ask whether there is one aside."""
    for other in loop.own():
        if other.kind == "step":
            extra = [test for test in event.branch if test not in other.branch]
            if all(_asks_for_one(test) for test, _ in extra):
                return True
    return False


def _asks_for_one(test: str) -> bool:
    return "%" not in test and "==" not in test and "sched" in test.lower()


def _horizon_in_epochs(built: Built, outer: tuple[TracedLoop, ...], limits: Limits) -> tuple[str, str] | None:
    """Return the words for what shows that a schedule counts epochs, and how sure that is; None where nothing does."""
    script, kind, call = built.script, built.kind, built.call
    found = horizon(script, kind, call)
    over_epochs = any(counts_epochs(loop.script, loop.node) for loop in outer if loop.node is not None)
    if found is not None and found.unit != "batches":
        what = f"the {found.name} of its {kind}, {script.source(found.node)}, counts epochs"
        if found.unit == "epochs" and found.name != "steps_per_epoch":
            return what, "error"
        for loop in outer:
            bound = epochs_of(loop.node) if loop.node is not None else None
            if bound is not None and _is_same(script, found.node, loop.script, bound):
                return what, "error" if counts_epochs(loop.script, loop.node) else "warning"  # type: ignore[arg-type]
        few = found.number is not None and 1 < found.number < limits["few_steps"]
        if few and over_epochs and kind in ("StepLR", "MultiStepLR", "CosineAnnealingLR"):
            return f"its {kind} has a horizon of {found.number:g} steps", "warning"
    factor = decay_per_step(script, kind, call)
    if factor is not None and 0.0 < factor < limits["fast_decay"] and over_epochs:
        return f"its {kind} multiplies the rate by {factor:g} each time", "warning"
    return None


def _is_same(script: Script, horizon: ast.expr, other: Script, bound: ast.expr) -> bool:
    """Return whether a horizon is the number of rounds of a loop: the same name, or the same number."""
    value = script.constant(horizon)
    if value is not UNKNOWN and isinstance(value, int | float):
        return value > 1 and value == other.constant(bound)
    return isinstance(horizon, ast.Name | ast.Attribute) and script.source(horizon) == other.source(bound)


_TWO_LOOPS = """\
for epoch in range(args.epochs):
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
"""
CAUSE.valid_code = (
    Sample(
        "a list of schedulers, once an epoch",
        """\
import torch
optimizers = {k: torch.optim.SGD(m.parameters(), lr=0.1) for k, m in nets.items()}
schedulers = [torch.optim.lr_scheduler.CosineAnnealingLR(o, epochs) for o in optimizers.values()]
for epoch in range(epochs):
    for x in loader:
        for opt in optimizers.values():
            opt.zero_grad()
        loss_of(nets, x).backward()
        for opt in optimizers.values():
            opt.step()
    for s in schedulers:
        s.step()
""",
    ),
    Sample(
        "once an epoch",
        f"""\
from torch.optim.lr_scheduler import CosineAnnealingLR
optimizer = SGD(model.parameters(), lr=0.1)
scheduler = CosineAnnealingLR(optimizer, T_max=args.epochs)
{_TWO_LOOPS}    scheduler.step()
""",
    ),
    Sample(
        "the horizon is in batches",
        f"""\
from torch.optim.lr_scheduler import CosineAnnealingLR
scheduler = CosineAnnealingLR(optimizer, T_max=args.epochs * len(loader))
{_TWO_LOOPS}        scheduler.step()
""",
    ),
    Sample(
        "the horizon is in batches, by a name",
        f"""\
from torch.optim.lr_scheduler import CosineAnnealingLR
horizon = args.epochs * len(loader)
scheduler = CosineAnnealingLR(optimizer, horizon)
{_TWO_LOOPS}        scheduler.step()
""",
    ),
    Sample(
        "one cycle over batches",
        f"""\
from torch.optim.lr_scheduler import OneCycleLR
scheduler = OneCycleLR(optimizer, 0.1, epochs=args.epochs, steps_per_epoch=len(loader))
{_TWO_LOOPS}        scheduler.step()
""",
    ),
    Sample(
        "warm restarts by the fraction of the epoch",
        """\
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts
scheduler = CosineAnnealingWarmRestarts(optimizer, T_0=args.epochs)
for epoch in range(args.epochs):
    for i, (x, y) in enumerate(loader):
        criterion(model(x), y).backward()
        optimizer.step()
        scheduler.step(epoch + i / len(loader))
""",
    ),
    Sample(
        "a warmup in steps",
        f"""\
from torch.optim.lr_scheduler import LambdaLR
scheduler = LambdaLR(optimizer, lambda step: min(1.0, step / warmup_steps))
{_TWO_LOOPS}        scheduler.step()
""",
    ),
    Sample(
        "a lambda that divides by the batches of an epoch",
        f"""\
from torch.optim.lr_scheduler import LambdaLR
scheduler = LambdaLR(optimizer, lambda i: 0.95 ** (i / len(loader) / args.epochs))
{_TWO_LOOPS}        scheduler.step()
""",
    ),
    Sample(
        "milestones in iterations",
        f"""\
from torch.optim.lr_scheduler import MultiStepLR
scheduler = MultiStepLR(optimizer, milestones=[30000, 60000])
{_TWO_LOOPS}        scheduler.step()
""",
    ),
    Sample(
        "one loop, over steps",
        """\
from torch.optim.lr_scheduler import CosineAnnealingLR
scheduler = CosineAnnealingLR(optimizer, T_max=100)
for step in range(100):
    optimizer.zero_grad()
    criterion(model(x), y).backward()
    optimizer.step()
    scheduler.step()
""",
    ),
    Sample(
        "full batches: one step an epoch",
        """\
from torch.optim.lr_scheduler import StepLR
scheduler = StepLR(optimizer, step_size=50)
for epoch in range(num_epochs):
    optimizer.zero_grad()
    criterion(model(x), y).backward()
    optimizer.step()
    scheduler.step()
""",
    ),
    Sample(
        "at the last batch of the epoch",
        """\
from torch.optim.lr_scheduler import StepLR
scheduler = StepLR(optimizer, 30)
for epoch in range(90):
    for i, (x, y) in enumerate(loader):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
        if i == len(loader) - 1:
            scheduler.step()
""",
    ),
    Sample(
        "in the loop over phases",
        """\
from torch.optim.lr_scheduler import StepLR
scheduler = StepLR(optimizer, step_size=7, gamma=0.1)
for epoch in range(num_epochs):
    for phase in ["train", "val"]:
        for x, y in loaders[phase]:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            if phase == "train":
                loss.backward()
                optimizer.step()
        if phase == "train":
            scheduler.step()
""",
    ),
    Sample(
        "one of two schedules, this one in batches",
        f"""\
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR
if args.one_cycle:
    scheduler = OneCycleLR(optimizer, 0.1, total_steps=args.epochs * len(loader))
else:
    scheduler = CosineAnnealingLR(optimizer, T_max=args.epochs)
{_TWO_LOOPS}        scheduler.step()
""",
    ),
    Sample(
        "a schedule of the script's own",
        f"""\
scheduler = CosineAnnealingLR(optimizer, T_max=args.epochs)
{_TWO_LOOPS}        scheduler.step()
""",
    ),
    Sample(
        "epochs of iterations",
        f"""\
from torch.optim.lr_scheduler import CosineAnnealingLR
scheduler = CosineAnnealingLR(optimizer, T_max=args.epochs * args.iters_per_epoch)
{_TWO_LOOPS}        scheduler.step()
""",
    ),
    Sample(
        "a slow exponential",
        f"""\
from torch.optim.lr_scheduler import ExponentialLR
scheduler = ExponentialLR(optimizer, gamma=0.9999)
{_TWO_LOOPS}        scheduler.step()
""",
    ),
    Sample(
        "full batches, for each fold",
        """\
from torch.optim.lr_scheduler import CosineAnnealingLR
for fold in range(5):
    optimizer = SGD(model.parameters(), lr=0.1)
    scheduler = CosineAnnealingLR(optimizer, T_max=num_epochs)
    for i in range(num_epochs):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
        scheduler.step()
""",
    ),
    Sample(
        "full batches, by phase",
        """\
from torch.optim.lr_scheduler import StepLR
scheduler = StepLR(optimizer, step_size=50)
for epoch in range(num_epochs):
    for phase in ("train", "val"):
        loss = criterion(model(x[phase]), y[phase])
        if phase == "train":
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
""",
    ),
    Sample(
        "two optimizers, stepped in a loop",
        """\
from torch.optim.lr_scheduler import StepLR
scheduler = StepLR(optimizer, step_size=50)
for epoch in range(num_epochs):
    criterion(model(x), y).backward()
    for name in names:
        optimizer.step()
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
schedulers = [torch.optim.lr_scheduler.CosineAnnealingLR(o, epochs) for o in optimizers.values()]
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
        "StepLR of one step",
        """\
import torch
opt = torch.optim.SGD(model.parameters(), lr=0.1)
scheduler = torch.optim.lr_scheduler.StepLR(opt, step_size=1, gamma=0.7)
for epoch in range(epochs):
    for x in loader:
        opt.zero_grad()
        model(x).mean().backward()
        opt.step()
        scheduler.step()  # <-
""",
    ),
    Sample(
        "cosine over epochs",
        f"""\
from torch.optim.lr_scheduler import CosineAnnealingLR
optimizer = SGD(model.parameters(), lr=0.1)
scheduler = CosineAnnealingLR(optimizer, T_max=args.epochs)
{_TWO_LOOPS}        scheduler.step()  # <-
""",
    ),
    Sample(
        "in a function that is given the scheduler",
        """\
import torch
def train(model, loader, optimizer, sched):
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
        sched.step()  # <-
def main():
    num_epochs = 90
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sched = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=num_epochs)
    for epoch in range(num_epochs):
        train(model, loader, optimizer, sched)
""",
    ),
    Sample(
        "the number of epochs as a number",
        """\
from torch.optim import lr_scheduler
scheduler = lr_scheduler.CosineAnnealingLR(optimizer, 10)
for epoch in range(10):
    for x, y in loader:
        scaler.scale(criterion(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()
        scheduler.step()  # <-
""",
    ),
    Sample(
        "the bound of the loop, whatever its name",
        """\
from torch.optim.lr_scheduler import CosineAnnealingLR
class Trainer:
    def __init__(self, model, rounds):
        self.rounds = rounds
        self.optimizer = Adam(model.parameters())
        self.scheduler = CosineAnnealingLR(self.optimizer, T_max=self.rounds)
    def fit(self):
        for epoch in range(self.rounds):
            for x, y in self.loader:
                self.optimizer.zero_grad()
                self.criterion(self.model(x), y).backward()
                self.optimizer.step()
                self.scheduler.step()  # <-
""",
    ),
    Sample(
        "StepLR of 30",
        f"""\
from torch.optim.lr_scheduler import StepLR
scheduler = StepLR(optimizer, step_size=30, gamma=0.1)
{_TWO_LOOPS}        scheduler.step()  # <-
""",
    ),
    Sample(
        "milestones of epochs",
        f"""\
from torch.optim.lr_scheduler import MultiStepLR
scheduler = MultiStepLR(optimizer, [60, 120, 160], gamma=0.2)
{_TWO_LOOPS}        scheduler.step()  # <-
""",
    ),
    Sample(
        "a fast exponential",
        f"""\
from torch.optim.lr_scheduler import ExponentialLR
scheduler = ExponentialLR(optimizer, gamma=0.9)
{_TWO_LOOPS}        scheduler.step()  # <-
""",
    ),
    Sample(
        "a lambda over epochs",
        f"""\
from torch.optim.lr_scheduler import LambdaLR
scheduler = LambdaLR(optimizer, lr_lambda=lambda epoch: 1 - epoch / args.epochs)
{_TWO_LOOPS}        scheduler.step()  # <-
""",
    ),
    Sample(
        "with accumulation, where there is one",
        """\
from torch.optim.lr_scheduler import CosineAnnealingLR
scheduler = CosineAnnealingLR(optimizer, T_max=num_epochs - warmup_epochs)
for epoch in range(num_epochs):
    for i, (x, y) in enumerate(loader):
        (criterion(model(x), y) / 4).backward()
        if (i + 1) % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
            if scheduler is not None:
                scheduler.step()  # <-
""",
    ),
    Sample(
        "a while loop",
        """\
from torch.optim.lr_scheduler import CosineAnnealingLR
scheduler = CosineAnnealingLR(optimizer, max_epoch)
epoch = 0
while epoch < max_epoch:
    for batch in loader:
        optimizer.zero_grad()
        model(batch).loss.backward()
        optimizer.step()
        scheduler.step()  # <-
    epoch += 1
""",
    ),
)
