"""The logger rounds to a few decimals, and the curve has become as small as a unit of the last one.

## What it looks like
All values are multiples of 0.01 or the like, and near the end only a few different ones are left.

## Why it matters
A loss that reads 0.00 may be 4e-3 or 1e-9: a late rise begins unseen, and no floor can be measured.

## When it is wrong
A quantity that is a count or a share of few items by nature.

## References
Widrow and Kollar 2008, Quantization noise, chapter 1 (what rounding adds, and when it is not small).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import Cause, Example, Examples, Limits, Statement, damaged, damages_of, run_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD006",
    name="values-rounded-by-the-log",
    summary="values were rounded so far that changes are lost",
    explanation=__doc__,
    severity="info",
    standalone=True,
    experiment="log the value with all its digits",
    refutation="The same values, logged in full, with the same few levels.",
)


@CAUSE.in_logs()
def damages(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield each damage of this family."""
    yield from damages_of(m, "quantised")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the sentence."""
    return Statement(
        f"The log is rounded too far to show small changes: {evidence[0].text}", " ".join(e.text for e in evidence[1:3])
    )


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
            "quantised",
            damaged(Damage("quantised", "metrics.csv", "column loss is a multiple of 0.01; its last tenth holds 2 values")),
        ),
    )
    return valid, invalid
