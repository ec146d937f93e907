"""The last batches of an epoch are accumulated and never stepped: their gradients leak into the next epoch, or are lost.

## What it looks like
Hardly anything in the curves. With few batches an epoch, a good part of the data has no effect, or the first step of each epoch
has a gradient that is up to twice as large as the others.

## Why it happens
`if (i + 1) % k == 0: optimizer.step()` leaves up to k - 1 batches when their number is no multiple of k.

## When it is wrong
A number of batches that is a multiple of k, or a loop that counts steps and not batches. This is a hint, no proof. A first batch
of each epoch that is always the same one may have a larger gradient too. Injected into sound runs it did no harm that could be
measured, so that it is an information alone.

## What repairs it
`if (i + 1) % k == 0 or i + 1 == len(loader):`.

## References
Hugging Face Accelerate documentation, "Performing gradient accumulation" (it steps at the end of the data loader).
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.micro_batches import accumulations
from traindoctor.code.order import place, text_of_call
from traindoctor.mistake import Mistake
from traindoctor.rule import MODERATE, PROOF, STRONG, Cause, Example, Sample, Statement, Threshold, against, run_of, supports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.code.micro_batches import Accumulation
    from traindoctor.code.script import Script
    from traindoctor.model import Evidence, Fix, Run
    from traindoctor.rule import Examples, Limits
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD308",
    name="partial-accumulation-dropped",
    summary="the last batches of an epoch are accumulated and never stepped",
    severity="info",
    explanation=__doc__,
    thresholds=(
        Threshold(
            "bump",
            1.25,
            "gradient norm at the first step of an epoch over that at the others",
            "2 - 1/k at most for equal gradients",
        ),
        Threshold(
            "highest",
            2.5,
            "gradient norm at the first step of an epoch over that at the others",
            "2 - 1/k at most for equal gradients",
        ),
        Threshold("sure", 6.0, "standard errors of the bump", "chance of noise below 1e-8"),
    ),
    look_alikes=("TD507", "TD501"),
    experiment="count the micro-batches whose gradients reach the first step of the second epoch",
    refutation="A number of batches that is a multiple of the passes to a step.",
)


@CAUSE.in_logs(needs=("loss", "grad_norm", "gradient.accumulation_steps"))
def bump_at_the_first_step(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a gradient that is larger at the first step of each epoch, where gradients are accumulated."""
    from traindoctor.signals.gradients import first_step_bump
    from traindoctor.signals.periodicity import epoch_lengths

    passes = m.setting("gradient.accumulation_steps")
    if not isinstance(passes, int | float) or m.run.step_unit != "step":
        return
    if passes < 2:
        yield against(
            "passes",
            float(passes),
            unit="passes a step",
            weight=PROOF,
            kind="config",
            source=m.origin("gradient.accumulation_steps"),
            text="Nothing is accumulated.",
        )
        return
    for length in epoch_lengths(m.run)[:1]:
        bump, sure = first_step_bump(m.grad_norm.step, m.grad_norm.value, length.steps)
        if limits["bump"] < bump < limits["highest"] and sure > limits["sure"]:
            yield supports(
                "bump",
                bump,
                unit="times the gradient norm of other steps",
                weight=STRONG + MODERATE,
                onset=round(length.steps),
                source=m.grad_norm.source,
                text=f"The gradient norm at the first step of each epoch is {bump:.2f} times that of the other steps.",
            )


@CAUSE.fixes
def step_at_the_end(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the step that is missing."""
    from traindoctor.model import Fix

    yield Fix("Step and clear at the last batch of the epoch too, or drop the batches that do not fill a step")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    steps = [int(s.step[-1]) for s in m.run.primary.values() if len(s)]
    onset = next((e.onset for e in evidence if e.onset is not None), 0)
    return Statement(
        "Gradients of the last batches of each epoch were left over and joined the first step of the next.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(onset, max(onset, *steps, 0) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    from traindoctor.model import OptimizerSpec, Setting

    def accumulating(run: Run, passes: int) -> Run:
        return replace(run, settings={**run.settings, "gradient.accumulation_steps": Setting(passes, "example")})

    spec = OptimizerSpec("sgd", lr=0.1, momentum=0.0)
    loss = [2.3 * 0.99**k + 0.1 for k in range(200)]
    norm = [1.0 + 0.02 * ((k * 7) % 11) for k in range(200)]
    bump = [v * (1.7 if k % 10 == 0 else 1.0) for k, v in enumerate(norm)]
    epoch = [float(k // 10) for k in range(200)]
    valid = (
        Example("no bump", accumulating(run_of(spec, loss=loss, grad_norm=norm, epoch=epoch), 4)),
        Example("nothing accumulated", accumulating(run_of(spec, loss=loss, grad_norm=bump, epoch=epoch), 1)),
        Example("no length of an epoch", accumulating(run_of(spec, loss=loss, grad_norm=bump), 4)),
    )
    invalid = (Example("bump at each first step", accumulating(run_of(spec, loss=loss, grad_norm=bump, epoch=epoch), 4)),)
    return valid, invalid


@CAUSE.in_script("backward(", "%", "step(")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the steps of an accumulation that leave a rest at the end of the data."""
    for found in accumulations(script):
        if _over_data(found) and not _ends_too(script, found):
            yield Mistake(
                place(script, found.step),
                f"`{text_of_call(found.step)}` is reached only where `{script.source(found.test)}`. The batches "
                f"after the last such one "
                "are not stepped on before the epoch ends.",
                "Step at the last batch too",
                related=((script.place(found.test), "the condition"),),
            )


def _over_data(found: Accumulation) -> bool:
    """Return whether the loop runs over batches, not over a number of steps."""
    node = found.loop.node
    if not isinstance(node, ast.For | ast.AsyncFor):
        return False
    return not any(isinstance(n, ast.Name) and n.id in ("range", "count", "cycle", "islice") for n in ast.walk(node.iter))


def _ends_too(script: Script, found: Accumulation) -> bool:
    """Return whether the last batch steps by another part of the test, or a step follows the loop."""
    for node in ast.walk(found.test):
        if isinstance(node, ast.Or) or (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "len"):
            return True
    above = found.loop.parent
    events = list(above.flat()) if above is not None else []
    inside = {event.node for event in found.loop.flat()}
    return any(event.kind == "step" and event.node not in inside for event in events)


_HEAD = """import torch
model = torch.nn.Linear(1, 1)
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
_PASS = "    loss = f(x) / 4\n    loss.backward()\n"
_STEP = "        opt.step()\n        opt.zero_grad()\n"
CAUSE.valid_code = (
    Sample(
        "the last batch too",
        _HEAD + "for i, x in enumerate(dl):\n" + _PASS + "    if (i + 1) % 4 == 0 or i + 1 == len(dl):\n" + _STEP,
    ),
    Sample(
        "a step after the loop",
        _HEAD + "for i, x in enumerate(dl):\n" + _PASS + "    if (i + 1) % 4 == 0:\n" + _STEP + "opt.step()\nopt.zero_grad()\n",
    ),
    Sample(
        "steps are counted", _HEAD + "for i in range(400):\n    x = next(it)\n" + _PASS + "    if (i + 1) % 4 == 0:\n" + _STEP
    ),
    Sample("no accumulation", _HEAD + "for x in dl:\n    opt.zero_grad()\n    f(x).backward()\n    opt.step()\n"),
)
CAUSE.invalid_code = (
    Sample(
        "every fourth batch",
        _HEAD
        + "for i, x in enumerate(dl):\n"
        + _PASS
        + "    if (i + 1) % 4 == 0:\n        opt.step()  # <-\n        opt.zero_grad()\n",
    ),
    Sample(
        "the test has a name",
        _HEAD
        + "for i, x in enumerate(dl):\n"
        + _PASS
        + "    due = (i + 1) % 4 == 0\n    if due:\n        opt.step()  # <-\n        opt.zero_grad()\n",
    ),
)
