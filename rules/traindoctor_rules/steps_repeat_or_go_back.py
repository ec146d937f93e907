"""Steps repeat, go back, or are missing, so that a value has no certain place in time.

## What it looks like
Two values at one step; a count that falls back after a crash, or begins again because a second run was appended; a counter
that starts anew in each epoch; rows without a step.

## Why it matters
A spike at a place where two runs overlap is no spike. Where a restart explains the order, the values that it made void were
set aside and the stitching says so; what is told here is what no restart explains.

## When it is wrong
Loggers that write several rows a step on purpose, one a metric or one a device.

## References
TensorBoard, documentation of `purge_step` and of restarts: later events make void what was logged at or after their step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import Cause, Example, Examples, Limits, Statement, damaged, damages_of, run_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD003",
    name="steps-repeat-or-go-back",
    summary="the steps of the log repeat, go back or had to be worked out",
    explanation=__doc__,
    severity="info",
    standalone=True,
    experiment="log one counter of optimizer steps that is kept in the checkpoint",
    refutation="The same log with steps that rise.",
)


@CAUSE.in_logs()
def damages(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield each damage of this family."""
    yield from damages_of(m, "steps")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the sentence."""
    kinds = ", ".join(dict.fromkeys(e.name.replace("-", " ") for e in evidence))
    return Statement(f"The steps of the log are in doubt: {kinds}.", " ".join(e.text for e in evidence[:3]))


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import Damage

    valid = (
        Example("sound", run_of(loss=[1.0, 0.5])),
        Example("another damage", damaged(Damage("truncated", "events", "the file ends inside a record", 120))),
    )
    invalid = (
        Example(
            "duplicate steps",
            damaged(Damage("duplicate-steps", "metrics.csv", "3 values at a step that has one", step=12)),
        ),
    )
    return valid, invalid
