"""The log itself is damaged or ambiguous: what it says is said with that reserve.

## What it looks like
Records cut off or with a wrong checksum, rows with missing or surplus cells, steps that repeat or go back, a loss that turns
blank while other columns go on.

## Why it matters
A spike at a place where two runs overlap is no spike, and a tail that was lost hides how the run ended. The rest of the
report rests on what could be read.

## When it is wrong
A file that is still being written ends in a partial record; nothing is wrong with the run.

## References
TensorFlow record format: length, masked CRC-32C of the length, data, masked CRC-32C of the data (tensorflow/core/lib/io).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.model import Damage, Evidence, Run
from traindoctor.rule import PROOF, Cause, Example, Limits, Statement, run_of, supports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD001",
    name="log-integrity",
    summary="the log is damaged or ambiguous",
    explanation=__doc__,
    severity="info",
    standalone=True,
    experiment="read the file again once the run has ended, or the copy on the training machine",
    refutation="The same file, copied again, without the damage.",
)


@CAUSE.in_logs()
def damages(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield each damage that was met while reading."""
    for damage in m.run.damages:
        place = damage.file if damage.offset is None else f"{damage.file}, byte {damage.offset:,}"
        yield supports(damage.kind, damage.file, unit="", weight=PROOF, source=place, text=damage.detail)


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the sentence."""
    kinds = ", ".join(dict.fromkeys(e.name.replace("-", " ") for e in evidence))
    return Statement(f"The log is not whole: {kinds}.", " ".join(e.text for e in evidence[:3]))


def _damaged() -> Run:
    from dataclasses import replace

    return replace(run_of(loss=[1.0, 0.5]), damages=(Damage("truncated", "events", "the file ends inside a record", 120),))


CAUSE.valid = (Example("sound", run_of(loss=[1.0, 0.5])), Example("no series at all", run_of()))
CAUSE.invalid = (Example("cut off", _damaged()),)
