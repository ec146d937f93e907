"""A part of the log was lost: what the rest says is said with that reserve.

## What it looks like
Records cut off or with a wrong checksum, rows with missing or surplus cells, cells that are no numbers, files that cannot be
read at all. Each is told with its byte or line and with what was lost.

## Why it matters
A tail that was lost hides how the run ended. The rest of the report rests on what could be read.

## When it is wrong
A file that is still being written ends in a partial record; nothing is wrong with the run.

## References
TensorFlow record format: length, masked CRC-32C of the length, data, masked CRC-32C of the data (tensorflow/core/lib/io).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import Cause, Example, Examples, Limits, Statement, damaged, damages_of, run_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD001",
    name="log-integrity",
    summary="a part of the log was lost",
    explanation=__doc__,
    severity="info",
    standalone=True,
    experiment="read the file again once the run has ended, or the copy on the training machine",
    refutation="The same file, copied again, without the damage.",
)


@CAUSE.in_logs()
def damages(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield each loss that was met while reading."""
    yield from damages_of(m, "lost")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the sentence."""
    kinds = ", ".join(dict.fromkeys(e.name.replace("-", " ") for e in evidence))
    return Statement(f"The log is not whole: {kinds}.", " ".join(e.text for e in evidence[:3]))


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import Damage

    valid = (
        Example("sound", run_of(loss=[1.0, 0.5])),
        Example("no series at all", run_of()),
        Example("steps that repeat", damaged(Damage("duplicate-steps", "metrics.csv", "a value at a step that has one already"))),
    )
    invalid = (Example("cut off", damaged(Damage("truncated", "events", "the file ends inside a record", 120))),)
    return valid, invalid
