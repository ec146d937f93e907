"""What was logged is a running mean or the mean of a window of steps, not the value of a step.

## What it looks like
A tag that says so (`smoothed`, `avg`, `running`), or a series far smoother than its noise allows.

## Why it matters
A spike is spread and lowered, an onset comes late, and the autocorrelation is the logger's. Rules that measure noise would
measure the window.

## When it is wrong
Full-batch training, whose loss has no noise to begin with.

## References
Slutzky 1937, The summation of random causes as the source of cyclic processes, Econometrica 5 (moving sums make waves).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import Cause, Example, Examples, Limits, Statement, damaged, damages_of, run_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD004",
    name="values-averaged-by-the-log",
    summary="logged values are means over a window",
    explanation=__doc__,
    severity="info",
    standalone=True,
    experiment="log the loss of the single step beside its mean",
    refutation="A log of single steps with the same curve.",
)


@CAUSE.in_logs()
def damages(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield each damage of this family."""
    yield from damages_of(m, "averaged")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the sentence."""
    kinds = ", ".join(dict.fromkeys(e.name.replace("-", " ") for e in evidence))
    return Statement(f"The log holds means, not values: {kinds}.", " ".join(e.text for e in evidence[:3]))


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import Damage

    valid = (
        Example("sound", run_of(loss=[1.0, 0.5])),
        Example("another damage", damaged(Damage("truncated", "events", "the file ends inside a record", 120))),
    )
    invalid = (Example("averaged", damaged(Damage("averaged", "metrics.csv", "column loss_avg is a mean over a window"))),)
    return valid, invalid
