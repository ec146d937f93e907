"""A schedule that counts batches is stepped once an epoch: it hardly begins.

## What it looks like
The logged learning rate stays near where it began. Under `OneCycleLR`, that is a 25th of the rate that was asked for, and a
linear warmup stays close to zero.

## Why it happens
A scheduler counts its own calls of `step()`. One that was built for `epochs * steps_per_epoch` calls and gets `epochs` of them is
as many times too slow as an epoch has batches.

## When it is wrong
`OneCycleLR(optimizer, lr, total_steps=epochs)`, which counts epochs, is left alone, and so is a horizon that does not say what it
counts.

## What repairs it
Step the scheduler after each `optimizer.step()`.

## References
PyTorch documentation, torch.optim.lr_scheduler.OneCycleLR: "step should be called after a batch has been used for training";
div_factor 25. Smith and Topin 2017, Super-Convergence, arXiv:1708.07120.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.code.schedulers import counts_batches_surely, horizon, loop_of_loops, steps_of_schedulers
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
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.code.schedulers import Built
    from traindoctor.code.script import Script
    from traindoctor.model import Evidence, Fix
    from traindoctor.rule import Limits
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD208",
    name="schedule-stepped-per-epoch",
    summary="a schedule that counts batches is stepped once an epoch",
    explanation=__doc__,
    thresholds=(
        Threshold(
            "rising",
            0.75,
            "share of the run until the rate is at nine tenths of its peak",
            "benchmarks/study, tuning part: 0.83 or more with the fault; OneCycleLR's default peak is at 0.3",
        ),
        Threshold("held", 4.0, "logged points between two changes of the rate", "a schedule that counts batches moves at each"),
        Threshold("below", 0.6, "highest logged rate over the configured one", "benchmarks/study, tuning part: 0.3 at most"),
        Threshold("slower", 2.0, "times the configured pace", "definition: an epoch of one batch is none"),
    ),
    explains=("TD202", "TD205"),
    look_alikes=("TD205", "TD202"),
    experiment="print the learning rate of the first hundred steps beside the scheduler's last_epoch",
    refutation="A learning rate that moves within the first epoch.",
)


@CAUSE.in_logs(needs=("learning_rate",))
def hardly_begins(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a rate that still warms up when the run ends, and that moves too seldom."""
    from traindoctor.signals import rates

    rate, said = m.learning_rate, m.schedule
    if rate.n < 8 or rate.is_constant:
        return
    # a longer schedule that has no warmup looks the same; one that is called once an epoch moves in steps
    in_steps = said.described.held > 1.5 * rate.stride
    if said.answer == "time-scaled" and said.numbers["factor"] >= limits["slower"] and in_steps:
        yield supports("slower", said.numbers["factor"], unit="times", weight=PROOF, onset=int(rate.step[0]), source=rate.source,
                       text=f"The learning rate is {said.text}.")  # fmt: skip
    if "loss" in m.run.primary and m.loss.first_not_finite() is not None:
        return  # a run that was lost ended before its schedule did
    share = rates.warmup_share(rate.step, rate.value)
    if share < limits["rising"] or rate.value[0] > 0.5 * rate.highest:
        return
    yield supports(
        "rising",
        share,
        unit="of the run",
        weight=MODERATE + WEAK,
        onset=int(rate.step[0]),
        source=rate.source,
        text=f"The learning rate still rises after {share:.0%} of the run, from {rate.value[0]:.3g} to {rate.highest:.3g}.",
    )
    held = rates.held(rate.step, rate.value)
    if held >= limits["held"]:
        yield supports(
            "held",
            held * rate.stride,
            unit="steps",
            weight=STRONG,
            source=rate.source,
            text=f"It moves only every {held * rate.stride:,.0f} steps, as once an epoch.",
        )
    lr, warmup = m.setting("optimizer.lr"), m.setting("schedule.warmup_steps")
    if not isinstance(lr, int | float) or not 0.0 < rate.highest < limits["below"] * lr:
        return
    late = isinstance(warmup, int | float) and m.run.step_unit == "step" and warmup < 0.8 * rate.step[-1]
    yield supports(
        "below",
        rate.highest / lr,
        unit="of the configured rate",
        weight=STRONG if late else MODERATE,
        source=rate.source,
        text=f"It never gets beyond {rate.highest / lr:.2g} of the configured {lr:g}"
        + (f", though {warmup:g} steps of warmup are configured." if late else "."),
    )


@CAUSE.fixes
def each_batch(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield where the call belongs."""
    from traindoctor.model import Fix

    yield Fix(
        "Call scheduler.step() in the batch loop, after optimizer.step()", note="or give the schedule its lengths in epochs"
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    text = " ".join(e.text for e in evidence if e.supports)
    title = "The schedule counts batches and was stepped once an epoch: it hardly began."
    if not m.has("learning_rate"):
        return Statement(title, text)
    first, last = int(m.learning_rate.step[0]), int(m.learning_rate.step[-1])
    return Statement(title, text, Segment(first, last + 1, first))


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    adam = OptimizerSpec("adam", lr=1e-3)
    fall = [2.3 * 0.98**k + 0.1 for k in range(300)]
    slow = [2.3 - 1e-5 * k**1.7 for k in range(300)]
    valid = (
        Example("a usual warmup", run_of(adam, loss=fall, learning_rate=[1e-3 * min(1.0, (k + 1) / 30) for k in range(300)])),
        Example(
            "one cycle", run_of(adam, loss=fall, learning_rate=[1e-3 * min((k + 1) / 120, (301 - k) / 180) for k in range(300)])
        ),
        Example("a step once an epoch", run_of(adam, loss=fall, learning_rate=[1e-3 * 0.9 ** (k // 20) for k in range(300)])),
        Example("constant", run_of(adam, loss=fall, learning_rate=[1e-3] * 300)),
        Example("the first points of a warmup", run_of(adam, loss=slow[:6], learning_rate=[1e-5 * k for k in range(6)])),
    )
    invalid = (
        Example(
            "a warmup of batches, once an epoch",
            run_of(adam, loss=slow, learning_rate=[4e-5 * (1 + k // 20) for k in range(300)]),
        ),
        Example("far below the configured rate", run_of(adam, loss=slow, learning_rate=[1e-6 * (1 + k) for k in range(300)])),
    )
    return valid, invalid


@CAUSE.in_script("LR|WarmRestarts|_schedule", ".step(")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the steps of schedulers outside of batch loops whose horizons are all in batches, and that step nowhere else."""
    stepped = list(steps_of_schedulers(script))
    elsewhere = [one.call for event, built in stepped if loop_of_loops(event) is None for one in built]
    for event, built in stepped:
        loop = loop_of_loops(event)
        if loop is None or any(one.call in elsewhere for one in built):
            continue
        said = [_horizon_in_batches(one) for one in built]
        if all(said):
            name = event.script.source(event.node.func.value)  # type: ignore[attr-defined]
            yield Mistake(
                script.place(event.node if event.script is script else event.via),
                f"{name} is stepped once an epoch, but {said[0]}. The schedule hardly begins before the training is over.",
                f"Call {name}.step() in the batch loop, after optimizer.step()",
                related=((built[0].script.place(built[0].call), f"{built[0].kind} is built here"),),
            )


def _horizon_in_batches(built: Built) -> str:
    """Return the words for what shows that a schedule counts batches; "" where nothing does for certain."""
    found = horizon(built.script, built.kind, built.call)
    if found is None or found.unit != "batches" or not counts_batches_surely(built.script, found):
        return ""
    if found.name == "steps_per_epoch":
        return f"its {built.kind} plans {built.script.source(found.node)} steps for each epoch"
    return f"the {found.name} of its {built.kind}, {built.script.source(found.node)}, counts batches"


_TWO_LOOPS = """\
for epoch in range(args.epochs):
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
"""
CAUSE.valid_code = (
    Sample(
        "transformers, in epochs",
        """\
import torch
from transformers import get_linear_schedule_with_warmup
opt = torch.optim.AdamW(model.parameters())
scheduler = get_linear_schedule_with_warmup(opt, num_warmup_steps=1, num_training_steps=args.epochs)
for _ in range(args.epochs):
    for x in loader:
        opt.zero_grad()
        model(x).mean().backward()
        opt.step()
    scheduler.step()
""",
    ),
    Sample(
        "one cycle, once a batch",
        f"""\
from torch.optim.lr_scheduler import OneCycleLR
scheduler = OneCycleLR(optimizer, 0.1, epochs=args.epochs, steps_per_epoch=len(loader))
{_TWO_LOOPS}        scheduler.step()
""",
    ),
    Sample(
        "one cycle over epochs",
        f"""\
from torch.optim.lr_scheduler import OneCycleLR
scheduler = OneCycleLR(optimizer, 0.1, total_steps=args.epochs)
{_TWO_LOOPS}    scheduler.step()
""",
    ),
    Sample(
        "one step an epoch, said so",
        f"""\
from torch.optim.lr_scheduler import OneCycleLR
scheduler = OneCycleLR(optimizer, 0.1, epochs=args.epochs, steps_per_epoch=1)
{_TWO_LOOPS}    scheduler.step()
""",
    ),
    Sample(
        "a number that says nothing",
        f"""\
from torch.optim.lr_scheduler import OneCycleLR
scheduler = OneCycleLR(optimizer, 0.1, total_steps=100)
{_TWO_LOOPS}    scheduler.step()
""",
    ),
    Sample(
        "StepLR",
        f"""\
from torch.optim.lr_scheduler import StepLR
scheduler = StepLR(optimizer, step_size=30)
{_TWO_LOOPS}    scheduler.step()
""",
    ),
    Sample(
        "in both loops",
        f"""\
from torch.optim.lr_scheduler import CosineAnnealingLR
scheduler = CosineAnnealingLR(optimizer, T_max=args.epochs * len(loader))
{_TWO_LOOPS}        if per_batch:
            scheduler.step()
    if not per_batch:
        scheduler.step()
""",
    ),
    Sample(
        "one of two schedules",
        f"""\
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR
if args.one_cycle:
    scheduler = OneCycleLR(optimizer, 0.1, total_steps=args.epochs * len(loader))
else:
    scheduler = CosineAnnealingLR(optimizer, T_max=args.epochs)
{_TWO_LOOPS}    if not args.one_cycle:
        scheduler.step()
""",
    ),
    Sample(
        "an iteration of several small passes",
        """\
from torch.optim.lr_scheduler import LinearLR
scheduler = LinearLR(optimizer, total_iters=num_steps)
for step in range(num_steps):
    for _ in range(n_critic):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    scheduler.step()
""",
    ),
    Sample(
        "epochs counted by their list",
        f"""\
from torch.optim.lr_scheduler import CosineAnnealingLR
scheduler = CosineAnnealingLR(optimizer, T_max=args.epochs)
n = len(loader) * args.epochs
{_TWO_LOOPS}    scheduler.step()
""",
    ),
    Sample(
        "one optimizer step an epoch",
        """\
from torch.optim.lr_scheduler import OneCycleLR
scheduler = OneCycleLR(optimizer, 0.1, epochs=args.epochs, steps_per_epoch=len(loader))
for epoch in range(args.epochs):
    for x, y in loader:
        criterion(model(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
    scheduler.step()
""",
    ),
    Sample(
        "several passes over each batch",
        """\
from torch.optim.lr_scheduler import CosineAnnealingLR
scheduler = CosineAnnealingLR(optimizer, T_max=args.epochs * len(loader))
for epoch in range(args.epochs):
    for batch in loader:
        for part in batch:
            optimizer.zero_grad()
            criterion(model(part)).backward()
            optimizer.step()
        scheduler.step()
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "a range with a name",
        """\
import torch
from tqdm import trange
from transformers import get_linear_schedule_with_warmup
opt = torch.optim.AdamW(model.parameters())
total = len(loader) * args.epochs
scheduler = get_linear_schedule_with_warmup(opt, num_warmup_steps=100, num_training_steps=total)
rounds = trange(args.epochs)
for _ in rounds:
    for x in loader:
        opt.zero_grad()
        model(x).mean().backward()
        opt.step()
    scheduler.step()  # <-
""",
    ),
    Sample(
        "one cycle, once an epoch",
        f"""\
from torch.optim.lr_scheduler import OneCycleLR
scheduler = OneCycleLR(optimizer, max_lr=0.1, epochs=args.epochs, steps_per_epoch=len(loader))
{_TWO_LOOPS}    scheduler.step()  # <-
""",
    ),
    Sample(
        "in the main function, batches in another",
        """\
import torch
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
def main(args):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sched = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, steps_per_epoch=len(loader), epochs=args.epochs)
    for epoch in range(args.epochs):
        train(model, loader, optimizer)
        sched.step()  # <-
""",
    ),
    Sample(
        "a cosine over batches",
        f"""\
from torch.optim.lr_scheduler import CosineAnnealingLR
total = args.epochs * len(loader)
scheduler = CosineAnnealingLR(optimizer, T_max=total)
{_TWO_LOOPS}    scheduler.step()  # <-
""",
    ),
    Sample(
        "a warmup of transformers, with a scaler",
        """\
from transformers import get_linear_schedule_with_warmup
scheduler = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=100, num_training_steps=len(loader) * epochs)
for epoch in range(epochs):
    for batch in loader:
        optimizer.zero_grad()
        scaler.scale(model(**batch).loss).backward()
        scaler.step(optimizer)
        scaler.update()
    scheduler.step()  # <-
""",
    ),
    Sample(
        "methods of a class",
        """\
from torch.optim import lr_scheduler
class Trainer:
    def __init__(self, model, loader, epochs):
        self.loader, self.epochs = loader, epochs
        self.optimizer = Adam(model.parameters())
        self.scheduler = lr_scheduler.OneCycleLR(self.optimizer, 1e-3, steps_per_epoch=len(loader), epochs=epochs)
    def epoch(self):
        for x, y in self.loader:
            self.optimizer.zero_grad()
            self.criterion(self.model(x), y).backward()
            self.optimizer.step()
    def fit(self):
        for epoch in range(self.epochs):
            self.epoch()
            self.scheduler.step()  # <-
""",
    ),
)
