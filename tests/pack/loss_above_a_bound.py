"""The loss ends above a bound of the house.

## What it looks like
A training loss that is still above 2.0 at the end.
"""

from traindoctor.model import Fix
from traindoctor.rule import PROOF, Cause, Example, Statement, Threshold, against, run_of, supports

CAUSE = Cause(
    code="HOUSE001",
    name="loss-above-a-bound",
    summary="the loss ends above a bound of the house",
    explanation=__doc__,
    severity="warning",
    thresholds=(Threshold("bound", 2.0, "loss", "the house's own records"),),
)


@CAUSE.in_logs(needs=("loss",))
def above(m, limits):
    """Yield the level of the end."""
    if m.loss.tail > limits["bound"]:
        yield supports("tail", m.loss.tail, weight=PROOF, source=m.loss.source, text=f"The loss ends at {m.loss.tail:g}.")
    else:
        yield against("tail", m.loss.tail, weight=PROOF, source=m.loss.source, text=f"The loss ends at {m.loss.tail:g}.")


@CAUSE.fixes
def change(m, limits):  # noqa: ARG001 -- the interface's
    """Yield whom to ask."""
    yield Fix("Ask the house")


@CAUSE.says
def say(m, evidence):  # noqa: ARG001 -- the interface's
    """Return the sentence."""
    return Statement("The loss ended above the bound of the house.", evidence[0].text)


@CAUSE.examples
def examples():
    """Return a run below the bound, and one above."""
    return (Example("below", run_of(loss=[1.0] * 8)),), (Example("above", run_of(loss=[3.0] * 8)),)
