"""Rows of the validation part are in the training part as well.

## What it looks like
The held-out loss is far below the training loss from early on, and the distance does not shrink; every held-out sample is right
while training samples still cost a good deal.

## Why it happens
The set was split after copies were made (augmented images, overlapping windows, several shots of one person), duplicates were
not removed, the split was drawn anew after a restart, or a column tells the answer.

## How it is told
Hardly, from a log. Dropout, augmentation, label smoothing and noisy labels put the training loss above the held-out one in
sound runs, too: their ratio was 0.4 to 0.9 in the runs this rule was measured on, and shrinks as training goes on. What none
of them does is to make each held-out sample right, at a tenth of the training loss. A leak in which both losses fall alike is
not seen at all.

## When it is wrong
Strong augmentation or mixup on an easy task; a validation part that is small, or easier than the training part. A training
loss that is summed over batches beside a held-out mean: then their ratio is tiny from the first evaluation on.

## What repairs it
Hash each sample and intersect the parts, near duplicates too. Split by the unit that repeats (person, document, day), before
any copy is made.

## References
Kapoor and Narayanan 2023, Leakage and the reproducibility crisis in machine-learning-based science, Patterns 4 (9),
arXiv:2207.07048.
Barz and Denzler 2020, Do we train on test data? Purging CIFAR of near-duplicates, arXiv:1902.00423: 3.3 % of the test part of
CIFAR-10.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import (
    MODERATE,
    PROOF,
    STRONG,
    Cause,
    Example,
    Examples,
    Limits,
    Statement,
    Threshold,
    against,
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD511",
    name="validation-leaks",
    summary="rows of the validation part are in the training part as well",
    explanation=__doc__,
    concerns=("validation",),
    severity="warning",
    thresholds=(
        Threshold(
            "ratio",
            0.2,
            "held-out loss over the training loss that follows, later half",
            f"{STUDY}: dropout, augmentation, smoothing and noise 0.4 to 1",
        ),
        Threshold(
            "open",
            0.2,
            "training loss at the end over its start",
            "below it the training part is learned as well, and a ratio says little",
        ),
        Threshold(
            "another_unit",
            0.02,
            "held-out loss over the training loss from the first evaluation on",
            "no model is fifty times better on other rows before it has learned: a sum stands beside a mean",
        ),
        Threshold("perfect", 0.995, "held-out accuracy, later half", "each sample but one in two hundred"),
    ),
    look_alikes=("TD701",),
    experiment="hash the samples of both parts, rounded or downscaled, and count how many of validation are in training",
    refutation="No sample of the validation part, nor a near copy, in the training part.",
)


@CAUSE.in_logs(needs=("loss", "val_loss"))
def implausibly_good(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a held-out loss a small part of a training loss that is far from zero, and an accuracy without mistakes."""
    from traindoctor.signals.held_out import accuracy, held_out

    seen = held_out(m)
    if seen is None or m.is_adversarial or not seen.trained > limits["open"] or seen.below.size < 4:
        return
    early, late = seen.below_early, seen.below_late
    if not late < limits["ratio"]:
        return
    source = m.series("val_loss").source
    yield supports(
        "below_training",
        late,
        unit="of the training loss",
        weight=STRONG,
        onset=int(seen.step[0]),
        source=source,
        text=f"The held-out loss is {late:.2g} times the training loss, which is still {seen.trained:.0%} of its start.",
    )
    if early < limits["another_unit"]:
        yield against(
            "another_unit",
            early,
            unit="of the training loss",
            weight=PROOF,
            source=source,
            text=f"The held-out loss is {early:.2g} times the training loss from the first evaluation on: the two are in "
            "different units, a mean and a sum over batches.",
        )
    if late > 1.5 * early > 0.0:
        yield against(
            "shrinks",
            late / early,
            unit="of the early ratio",
            weight=MODERATE,
            source=source,
            text="The distance shrinks as training goes on, as it does under dropout or augmentation.",
        )
    course = accuracy(m)
    if course is None:
        return
    if course.level >= limits["perfect"]:
        yield supports(
            "perfect",
            course.level,
            unit="held-out accuracy",
            weight=MODERATE,
            source=m.series("val_accuracy").source,
            text=f"{course.level:.1%} of the held-out samples are right, while those of the training part still cost "
            f"{seen.trained * seen.start:.2g} each.",
        )


@CAUSE.fixes
def change(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield to remove what is in both parts."""
    from traindoctor.model import Fix

    yield Fix(
        "Remove from training what is in the validation part, near copies too, and split by the unit that repeats",
        note="the held-out numbers of this run are worth nothing until then",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    first = int(m.loss.step[0])
    return Statement(
        "Validation was implausibly good: its samples seem to be among those trained on.",
        "The held-out loss is a small part of the training loss, from early on, without mistakes.",
        Segment(first, int(m.loss.step[-1]) + 1, first),
    )


@CAUSE.examples
def examples() -> Examples:
    """Give copies in a noisy training part; dropout, label noise, a sound run."""
    import numpy as np

    n = 40
    t = np.linspace(0.0, 1.0, n)
    noisy = 1.2 + 1.1 * np.exp(-8.0 * t)
    falls = 0.02 + 2.3 * np.exp(-6.0 * t)
    valid = (
        Example("a sound run", run_of(loss=falls, val_loss=falls + 0.05, val_accuracy=0.6 + 0.38 * t)),
        Example("dropout", run_of(loss=0.3 + falls, val_loss=0.1 + 0.8 * falls, val_accuracy=0.6 + 0.38 * t)),
        Example("label noise", run_of(loss=noisy, val_loss=0.5 * noisy, val_accuracy=0.6 + 0.35 * t)),
        Example("a sum over 500 batches beside a mean", run_of(loss=500.0 * (0.5 + noisy), val_loss=0.5 + noisy)),
        Example("both learned", run_of(loss=falls**2, val_loss=0.1 * falls**2, val_accuracy=np.ones(n))),
    )
    invalid = (
        Example(
            "copies, each of them right", run_of(loss=noisy, val_loss=0.05 * noisy, val_accuracy=np.minimum(1.0, 0.7 + 2.0 * t))
        ),
    )
    return valid, invalid
