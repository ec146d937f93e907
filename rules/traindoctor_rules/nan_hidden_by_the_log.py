"""NaN or infinite values were written as something else: a blank cell, 0.0, or the mean of the values around them.

## What it looks like
A loss that turns blank for ever while other columns go on; a loss or gradient norm that is exactly 0.0 from one row to the
next; a loss that stays on one value while the gradient norm is NaN.

## Why it matters
The curve looks calm and the run is dead. Hugging Face's Trainer replaces a loss that is NaN or infinite by the mean of what was
logged before (`logging_nan_inf_filter`, on by default); AlgoPerf and pandas write NaN as a blank cell.

## When it is wrong
A loss that is exactly 0.0 because the training set is learned by heart in half precision.

## What repairs it
Log what was computed: `logging_nan_inf_filter=False`, `to_csv(na_rep="nan")`.

## References
transformers, TrainingArguments.logging_nan_inf_filter; AlgoPerf, the measurements of its workloads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import Cause, Example, Examples, Limits, Statement, damaged, damages_of, run_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD002",
    name="nan-hidden-by-the-log",
    summary="NaN values are hidden by how they were logged",
    explanation=__doc__,
    severity="warning",
    standalone=True,
    experiment="train again from the last checkpoint with the filter off",
    refutation="The same steps, logged unfiltered, with finite values.",
)


@CAUSE.in_logs()
def damages(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield each damage of this family."""
    yield from damages_of(m, "hidden-nan")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the sentence."""
    return Statement(f"NaN is hidden in the log: {evidence[0].text}", " ".join(e.text for e in evidence[1:3]))


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
            "hidden nan",
            damaged(
                Damage("hidden-nan", "trainer_state.json", "the loss is 0.0 from step 40 on, the gradient norm NaN", step=40)
            ),
        ),
    )
    return valid, invalid
