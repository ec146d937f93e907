"""A scheduler that watches the loss took its noise for a plateau, and cut the learning rate while the loss still fell.

## What it looks like
The learning rate is cut by one factor again and again, at uneven distances and soon, until nothing is left of it. The loss was
falling all the while, and stands from then on.

## Why it happens
`ReduceLROnPlateau` counts the calls without a new best value. The loss of a batch swings by several percent, its best value
is a lucky batch, and a few calls without a luckier one are no plateau. Its threshold of 1e-4 is far below the noise.

## When it is wrong
A run that had arrived before the first cut: then the cuts are its work. Losses of games need not fall.

## What repairs it
Call it once an epoch with the validation loss, with a patience of several epochs; or average the loss before it sees it.

## References
PyTorch documentation, torch.optim.lr_scheduler.ReduceLROnPlateau: patience 10, threshold 1e-4, stepped after validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import (
    MODERATE,
    STRONG,
    Cause,
    Example,
    Examples,
    Limits,
    Statement,
    Threshold,
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence, Fix, IntArray
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD218",
    name="plateau-patience-fights-noise",
    summary="the rate was cut at a plateau that was the noise of the loss",
    explanation=__doc__,
    thresholds=(
        Threshold("fell", 0.8, "loss at the last cut that mattered over that before the first", STUDY),
        Threshold("early", 0.5, "share of the run after which the rate is spent", STUDY),
        Threshold(
            "at_once", 0.15, "share of the run after which the rate is spent: no plateau is seen in so short a time", STUDY
        ),
        Threshold("close", 0.04, "share of the run between two cuts", STUDY),
        Threshold("stands", 0.8, "loss at the end over that when the rate was spent", STUDY),
    ),
    explains=("TD206", "TD209", "TD202"),
    look_alikes=("TD206", "TD209"),
    experiment="plot the loss, averaged over an epoch, beside the cuts of the rate",
    refutation="A loss that had stood for several epochs before each cut.",
)


@CAUSE.in_logs(needs=("learning_rate", "loss"))
def cut_while_falling(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield cuts at uneven distances, and what the loss did meanwhile."""
    from traindoctor.signals import rates

    rate, loss, cuts, spent = m.learning_rate, m.loss, m.rate_cuts, m.spent_rate
    if m.is_adversarial or not loss.is_positive or spent is None or spent.share > limits["early"]:
        return
    if cuts is None and not _watches(m):
        return
    falling = cuts is not None and cuts.fell < limits["fell"]
    close = cuts is not None and _apart(m, cuts.steps) < limits["close"]
    if not (falling or close or spent.share < limits["at_once"]):
        return  # there was time to see a plateau
    how = "is cut again and again" if cuts is None else f"is cut {cuts.steps.size} times at uneven distances"
    yield supports(
        "cuts",
        spent.share,
        unit="of the run",
        weight=STRONG,
        onset=spent.step if cuts is None else int(cuts.steps[0]),
        source=rate.source,
        text=f"The learning rate {how}, and is below a hundredth of its peak after {spent.share:.0%} of the run.",
    )
    if cuts is not None and close:
        yield supports(
            "close",
            _apart(m, cuts.steps),
            unit="of the run",
            weight=MODERATE,
            source=rate.source,
            text=f"Two cuts lie {_apart(m, cuts.steps):.1%} of the run apart: no plateau is seen in so short a time.",
        )
    if cuts is not None and falling:
        yield supports(
            "fell",
            cuts.fell,
            unit="loss at the last cut over before",
            weight=STRONG,
            source=loss.source,
            text=f"The loss fell by {1.0 - cuts.fell:.0%} while the rate was cut: it was no plateau.",
        )
    if rates.stands_since(loss.step, loss.value, spent.step) > limits["stands"]:
        yield supports(
            "stands",
            loss.tail,
            unit="loss",
            weight=MODERATE,
            source=loss.source,
            text=f"It has stood at {loss.tail:.3g} since.",
        )


def _watches(m: Measurements) -> bool:
    """Return whether a scheduler that watches the loss is configured."""
    return "plateau" in str(m.setting("schedule.name")).lower()


def _apart(m: Measurements, cuts: IntArray) -> float:
    """Return the mean distance of the cuts over the length of the run."""
    return float(cuts[-1] - cuts[0]) / max(1, cuts.size - 1) / max(1, int(m.learning_rate.step[-1] - m.learning_rate.step[0]))


@CAUSE.in_logs(needs=("learning_rate", "schedule.name"))
def is_configured(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a configured scheduler that watches the loss."""
    spent = m.spent_rate
    if _watches(m) and spent is not None and spent.share < limits["at_once"]:
        yield supports(
            "configured",
            str(m.setting("schedule.name")),
            unit="",
            weight=MODERATE,
            kind="config",
            source=m.origin("schedule.name"),
            text="A scheduler that watches the loss is configured.",
        )


@CAUSE.fixes
def more_patience(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield what it should watch."""
    from traindoctor.model import Fix

    yield Fix(
        "Step the scheduler once an epoch, with the validation loss and a patience of ten",
        note="or give it a running mean of the loss, and a threshold above its noise",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next((e.onset for e in evidence if e.onset is not None), int(m.learning_rate.step[0]))
    return Statement(
        f"The learning rate was cut again and again from {m.name_of(onset)} on, while the loss still fell.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(onset, int(m.learning_rate.step[-1]) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    adam = OptimizerSpec("adam", lr=1e-3)
    noise = [((k * 2654435761) % 2048) / 1024.0 - 1.0 for k in range(300)]
    at = (4, 7, 12, 14, 19, 27, 30, 34)
    soon = [1e-3 * 0.3 ** sum(k >= a for a in at) for k in range(300)]
    late = [1e-3 * 0.3 ** sum(k >= a for a in (150, 190, 260)) for k in range(300)]
    stuck = [(1.2 + 1.1 * 0.93 ** min(k, 30)) * (1.0 + 0.02 * noise[k]) for k in range(300)]
    fall = [2.3 * 0.98**k + 0.1 for k in range(300)]
    valid = (
        Example("patient", run_of(adam, loss=fall, learning_rate=late)),
        Example("a staircase", run_of(adam, loss=fall, learning_rate=[1e-3 * 0.3 ** (k // 50) for k in range(300)])),
        Example(
            "a tenth every five batches", run_of(adam, loss=stuck, learning_rate=[1e-3 * 0.1 ** (k // 5) for k in range(300)])
        ),
        Example("constant", run_of(adam, loss=stuck, learning_rate=[1e-3] * 300)),
        Example("one value", run_of(adam, loss=[1.0], learning_rate=[1e-3])),
    )
    invalid = (Example("cut eight times within a tenth of the run", run_of(adam, loss=stuck, learning_rate=soon)),)
    return valid, invalid
