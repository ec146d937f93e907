"""The learning rate is zero: nothing can be learned.

## What it looks like
A logged learning rate of exactly 0 for most of the run, a weight norm that does not change, a loss that moves with
the batches alone.

## Why it happens
A schedule whose length is shorter than the run, a warmup that never ends, a factor of 0 in a parameter group.

## When it is wrong
A schedule that ends at zero on the last steps, and a warmup that starts there, are meant so.

## What repairs it
A schedule that spans the run.

## References
The update of every optimizer is a multiple of the learning rate: no threshold is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import PROOF, Cause, Example, Examples, Limits, Statement, Threshold, run_of, supports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD204",
    name="learning-rate-zero",
    summary="the learning rate is exactly zero for most of the run",
    explanation=__doc__,
    thresholds=(
        Threshold(
            "share", 0.5, "share of the logged points", "definition: most of the run; a warmup or an end at zero is shorter"
        ),
    ),
    explains=("TD202", "TD302"),
    experiment="print the learning rate of each parameter group",
    refutation="A learning rate above zero in the optimizer's parameter groups.",
)


@CAUSE.in_logs(needs=("learning_rate",))
def is_zero(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the share of the run at a rate of exactly zero."""
    rate = m.learning_rate
    share = float((rate.value == 0.0).mean())
    if rate.n >= 3 and share > limits["share"]:
        first = int(rate.step[int((rate.value == 0.0).argmax())])
        yield supports(
            "share",
            share,
            unit="of the run",
            weight=PROOF,
            onset=first,
            source=rate.source,
            text=f"The logged learning rate is exactly 0 at {share:.0%} of the points.",
        )


@CAUSE.fixes
def span(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield a schedule as long as the run."""
    from traindoctor.model import Fix

    steps = int(m.learning_rate.step[-1]) + 1
    yield Fix(f"Let the schedule span the run's {steps:,} steps", {"schedule.total_steps": steps})


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = evidence[0].onset or 0
    return Statement(
        f"Training stood still from {m.name_of(onset)}: the learning rate was exactly zero.",
        evidence[0].text,
        Segment(onset, int(m.learning_rate.step[-1]) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    spec = OptimizerSpec("sgd", lr=0.1)
    valid = (
        Example("decays to zero at the end", run_of(spec, loss=[1.0] * 50, learning_rate=[0.1] * 45 + [0.0] * 5)),
        Example("warms up from zero", run_of(spec, loss=[1.0] * 50, learning_rate=[0.0] * 3 + [0.1] * 47)),
        Example("two points", run_of(spec, loss=[1.0] * 2, learning_rate=[0.0] * 2)),
    )
    invalid = (
        Example("zero throughout", run_of(OptimizerSpec("sgd", lr=0.0), loss=[1.0] * 50, learning_rate=[0.0] * 50)),
        Example("schedule shorter than the run", run_of(spec, loss=[1.0] * 50, learning_rate=[0.1] * 10 + [0.0] * 40)),
    )
    return valid, invalid
