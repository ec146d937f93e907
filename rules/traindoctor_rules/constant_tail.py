"""A series that changed at every step repeats one value, digit for digit, until the end of the log.

## What it looks like
At least twenty values that are the same number, behind values that all differ.

## Why it matters
Either nothing is trained any more (a learning rate of zero, dead units, frozen weights), or the logger repeats the last
value that it was given. The two cannot be told apart from this series alone.

## When it is wrong
A loss that is exactly zero because everything is learned; an accuracy of 1.

## References
IEEE 754: two sums over different batches agree in all digits only by rare chance.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import Cause, Example, Examples, Limits, Statement, damaged, damages_of, run_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD005",
    name="constant-tail",
    summary="a series repeats one value to the last digit until its end",
    explanation=__doc__,
    severity="info",
    standalone=True,
    experiment="log the norm of the weights: it moves where training goes on",
    refutation="A weight norm that changes over the same steps.",
)


@CAUSE.in_logs()
def damages(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield each damage of this family."""
    yield from damages_of(m, "constant")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the sentence."""
    return Statement(f"A series stands still to the last digit: {evidence[0].text}", " ".join(e.text for e in evidence[1:3]))


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
            "constant tail", damaged(Damage("constant-tail", "metrics.csv", "column loss is 0.5 from step 100 to 400", step=100))
        ),
    )
    return valid, invalid
