"""The labels do not belong to their inputs: there is nothing to learn but by heart.

## What it looks like
The held-out loss never falls below where it began, ln C for C classes, and rises from then on, while the training loss sinks
slowly: the model learns its training set by heart. The held-out accuracy stays at chance. The training curve alone looks like a
hard task.

## Why it happens
Inputs and labels were sorted, filtered or mixed apart, a join went wrong by a row, a second loader was mixed with another seed,
class numbers of two parts follow different lists.

## How it is told
Overfitting, too, ends with a rising held-out loss, but that falls first: something was learned that holds elsewhere. Here the
gap between the two opens from the first evaluation on. A rate that is too low, frozen weights or dead units move neither loss.

## When it is wrong
Fine-tuning that overfits at once looks the same in its losses (TD704): only an accuracy at chance tells the two apart.
A part of the loss, of boxes or of one task, may not hold while another does: that speaks against. Few evaluations, or
accuracies of a few rows, say nothing.
Labels that are right, and inputs that say nothing about them. A validation part of another task, or prepared in another way,
makes the same curves; the labels of that part are then the wrong ones. Without a validation part the log cannot tell.
In regression the loss of knowing nothing is not known, and the same curves are taken for overfitting.

## What repairs it
Print some inputs beside their labels as the loader yields them, after all mixing. Then a simple model on the same arrays.

## References
Zhang et al. 2017, Understanding deep learning requires rethinking generalization, arXiv:1611.03530, section 2: networks fit
random labels, slowly, and their held-out error is that of a guess.
Northcutt et al. 2021, Pervasive label errors in test sets, arXiv:2103.14749.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import (
    MODERATE,
    PROOF,
    STRONG,
    WEAK,
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

CAUSE = Cause(
    code="TD506",
    name="labels-shuffled",
    summary="the labels do not belong to their inputs",
    explanation=__doc__,
    concerns=("course", "validation"),
    thresholds=(
        Threshold(
            "never_below",
            0.85,
            "lowest held-out loss over the first training loss",
            "benchmarks/study, tuning part: faulty classifications 0.875 to 1.009, other runs with a widening gap below 0.67",
        ),
        Threshold(
            "gap",
            0.03,
            "held-out less training loss at the end, over the first training loss",
            "benchmarks/study, tuning part: faulty 0.047 to 0.19, other runs that never fall below 0.016",
        ),
        Threshold(
            "widens",
            0.7,
            "rank correlation of that gap with time",
            "benchmarks/study, tuning part: faulty 0.86 to 1.00, other runs that never fall at most 0.45",
        ),
        Threshold("grows", 0.5, "rank correlation of that gap with time", "below it the two losses move together"),
        Threshold("evaluations", 8.0, "evaluations", "the rank correlation of fewer is often 0.7 by chance (1 in 100 at 8)"),
        Threshold(
            "learned",
            0.5,
            "training loss at the first evaluation over its start",
            "below it the held-out loss may have fallen before; benchmarks/study, tuning part: faulty from 0.86",
        ),
        Threshold(
            "falls",
            -0.5,
            "rank correlation of the held-out loss with time",
            "below it the loss falls, if slowly; benchmarks/study, tuning part: faulty from 0.23",
        ),
        Threshold("another", 0.2, "fall of another held-out loss over its start", "labels at random let none of them fall"),
        Threshold("good", 0.7, "held-out accuracy", "above it something is known, however low the loss was at the start"),
        Threshold(
            "chance",
            0.2,
            "way of the held-out accuracy from that of a guess, exp(-first loss), to 1",
            "benchmarks/study, tuning part: faulty 0.12 at most, models that learned from 0.5",
        ),
    ),
    look_alikes=("TD704", "TD617", "TD202"),
    experiment="print 20 inputs beside their labels as the loader yields them, and train a linear model on the same arrays",
    refutation="A look at inputs and labels as the loader yields them that finds them right.",
)


@CAUSE.in_logs(needs=("loss", "val_loss"))
def never_learned(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield that the held-out loss never fell while the training loss did, and that the gap opens from the start."""
    from math import exp

    from traindoctor.signals.held_out import accuracy, also_improved, held_out

    seen = held_out(m)
    if (
        seen is None
        or m.is_adversarial
        or seen.value.size < limits["evaluations"]
        or seen.learned < limits["learned"]
        or seen.best < limits["never_below"]
        or not seen.gap > limits["gap"]
        or seen.trained > 0.99
    ):
        return
    course = accuracy(m)
    # without an accuracy the first loss is all that tells what guessing costs, and fine-tuning does not begin by guessing
    weight = MODERATE if course is None else STRONG
    yield supports(
        "never_below",
        seen.best,
        unit="of the first training loss",
        weight=weight if seen.fresh else MODERATE,  # a mean over the first epoch is not what guessing costs
        onset=int(seen.step[0]),
        source=m.series("val_loss").source,
        text=f"The held-out loss was never below {seen.best * seen.start:.3g}, where training began at {seen.start:.3g}, while "
        f"the training loss fell to {seen.trained * seen.start:.3g}.",
    )
    if seen.widens > limits["widens"]:
        yield supports(
            "widens",
            seen.widens,
            unit="rank correlation with time",
            weight=weight,
            source=m.series("val_loss").source,
            text="The gap between held-out and training loss opens from the first evaluation on and only grows.",
        )
    else:
        yield against(
            "widens",
            seen.widens,
            unit="rank correlation with time",
            weight=MODERATE if seen.widens > limits["grows"] else STRONG,
            source=m.series("val_loss").source,
            text="The gap between held-out and training loss does not grow, as it does where labels are learned by heart.",
        )
    if seen.trend < limits["falls"]:
        yield against(
            "falls",
            seen.trend,
            unit="rank correlation with time",
            weight=STRONG,
            source=m.series("val_loss").source,
            text="The held-out loss falls from evaluation to evaluation, if slowly: something is learned that holds there.",
        )
    another = also_improved(m)
    if another > limits["another"]:
        yield against(
            "another",
            another,
            unit="of its start",
            weight=PROOF,
            source=m.series("val_loss").source,
            text=f"Another held-out loss fell by {another:.0%}: the labels belong to their inputs.",
        )
    if course is None:
        return
    guess = exp(-seen.start)
    by_chance = course.above(guess) <= limits["chance"] or course.highest < guess + 3.0 * course.error(guess)
    if by_chance and course.highest < limits["good"]:
        yield supports(
            "chance",
            course.highest,
            unit="held-out accuracy",
            weight=WEAK if course.rows else STRONG,  # of a few rows any share may come by chance
            source=m.series("val_accuracy").source,
            text=f"The held-out accuracy never left chance: {course.highest:.1%} at best, a guess gives about {guess:.1%}.",
        )
    else:
        yield against(
            "chance",
            course.highest,
            unit="held-out accuracy",
            weight=STRONG,
            source=m.series("val_accuracy").source,
            text=f"The held-out accuracy reached {course.highest:.1%}: something was learned that holds there.",
        )


@CAUSE.in_logs(needs=("loss",))
def slow_from_the_prior(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield, without a validation part, a training loss that leaves ln C by a few hundredths alone: worth a look, no more."""
    from traindoctor.signals.levels import classes_at

    if m.has("val_loss") or m.is_adversarial or m.loss.n < 30 or not m.loss.is_positive or not m.loss.initial > 0.0:
        return
    classes = classes_at(m.loss.initial, 0.03)
    left = m.loss.tail / m.loss.initial
    if classes is not None and classes <= 100 and 0.85 < left < 0.99 and m.loss.fall_significance > 4.0:
        yield supports(
            "stuck_near_prior",
            left,
            unit="of the first loss",
            weight=WEAK,
            source=m.loss.source,
            text=f"The loss began at ln {classes} and left it by {1.0 - left:.0%} alone.",
        )


@CAUSE.fixes
def change(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield what to look at: no setting repairs it."""
    from traindoctor.model import Fix

    yield Fix(
        "Keep each label with its input: mix, filter and split both with one index",
        note="print 20 pairs as the loader yields them; compare the class lists of the training and the validation part",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    first, last = int(m.loss.step[0]), int(m.loss.step[-1])
    return Statement(
        "Nothing was learned that holds on held-out data: the labels do not seem to belong to their inputs.",
        "The training loss sinks by learning by heart, and the held-out loss rises from the first evaluation on.",
        Segment(first, last + 1, first),
    )


@CAUSE.examples
def examples() -> Examples:
    """Give labels at random; overfitting, a low rate and a sound run."""
    import numpy as np

    draw = np.random.default_rng(0)
    t = np.linspace(0.0, 1.0, 20)
    noise = 0.003 * draw.standard_normal(20)
    sinks = 2.303 - 0.25 * t + noise
    falls = 2.3 * np.exp(-4.0 * t) + 0.01 + np.abs(noise)
    valid: tuple[Example, ...] = (
        Example("a sound run", run_of(loss=falls, val_loss=falls + 0.05, val_accuracy=1.0 - falls / 2.6)),
        Example("overfitting: the held-out loss falls first", run_of(loss=falls, val_loss=falls + 2.0 * t**2)),
        Example("a rate far too low: neither moves", run_of(loss=2.303 + noise, val_loss=2.305 + 0.5 * noise)),
        Example("random labels, no validation", run_of(loss=sinks)),
    )
    alone = run_of(loss=sinks, val_loss=2.31 + 0.1 * t + noise)
    rises, learned = 1.1 + 1.2 * t, 0.57 + 0.02 * t
    tiny = np.round(7.0 * (0.3 + 20.0 * np.abs(noise))) / 7.0
    valid = (
        *valid,
        Example("no accuracy: a fine-tuning that overfits, perhaps", alone),
        Example("overfits within the first epoch", run_of(loss=1.2 * np.exp(-3.0 * t), val_loss=rises, val_accuracy=learned)),
        Example("both fall together, slowly", run_of(loss=sinks, val_loss=sinks + 0.08, val_accuracy=0.15 + noise)),
        Example("seven rows to validate", run_of(loss=sinks[:6], val_loss=(2.303 + 0.3 * t)[:6], val_accuracy=tiny[:6])),
        Example(
            "evaluated when all was learned by heart",
            run_of(loss=0.3 * np.exp(-9.0 * t), val_loss=np.append(np.full(4, np.nan), 0.32 + 0.1 * t[4:])),
        ),
    )
    invalid = (Example("random labels", run_of(loss=sinks, val_loss=2.303 + 0.1 * t + noise, val_accuracy=0.1 + noise)),)
    return valid, invalid
