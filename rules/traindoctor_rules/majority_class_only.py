"""The model answers with the most common class alone, whatever the input.

## What it looks like
The held-out accuracy is the same number at every evaluation, to the last digit: the share of the most common class. It looks
good, since that share is large. The loss falls quickly to the entropy of the class shares, and no further on held-out data.

## Why it happens
Of 1,000 samples 970 are of one class: a constant answer is right in 97 %, and the few others pull too little to be heard, the
less the harder they are to tell. Dead units or inputs that do not reach the output end in the same constant answer.

## How it is told
An accuracy that learns moves by some samples from evaluation to evaluation; only a constant answer gives one number for ever.
The floor of the loss is then the entropy of the class shares, not ln C.

## When it is wrong
A validation part that is too small to change (five of nine rows are right again and again by chance), or one of which each
sample is right. Frozen weights give a constant accuracy, too, and a constant loss.

## What repairs it
Log the recall of each class and the confusion matrix. Weigh the loss by the inverse share of the classes, or draw them
evenly, and judge by balanced accuracy or average precision. Begin with the bias of the last layer at the log of the shares.

## References
Buda et al. 2018, A systematic study of the class imbalance problem in convolutional neural networks, arXiv:1710.05381.
Lin et al. 2017, Focal loss for dense object detection, arXiv:1708.02002, section 3.3: the bias of the last layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import (
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

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD509",
    name="majority-class-only",
    summary="the model answers with the most common class alone",
    explanation=__doc__,
    explains=("TD612", "TD704", "TD617"),
    thresholds=(
        Threshold(
            "evaluations",
            8,
            "evaluations with one and the same accuracy",
            f"{STUDY}: collapsed 12 to 31 of as many; sound ones begin lower",
        ),
        Threshold("rows", 20.0, "rows that explain the accuracy", "of a few more the same number is hardly right by chance"),
        Threshold("least", 0.5, "accuracy", "definition: the class is the most common one"),
        Threshold("most", 0.999, "accuracy", "above it each sample is right, and nothing is wrong"),
        Threshold(
            "entropy",
            0.9,
            "lowest held-out loss over the entropy of two classes with this share",
            "arithmetic, a tenth for the sample",
        ),
        Threshold("above", 1.1, "held-out loss over the highest entropy of such shares", "arithmetic, a tenth as above"),
        Threshold("moves", 0.02, "fall of the training loss over its first value", "below it nothing is trained: another cause"),
    ),
    look_alikes=("TD612", "TD617", "TD305"),
    experiment="log the recall of each class: it is 1 for the most common one and 0 for all others",
    refutation="A confusion matrix in which more than one class is ever answered.",
)


@CAUSE.in_logs(needs=("val_accuracy",))
def one_number(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield an accuracy that never changed, and a held-out loss that stops at the entropy of its share."""
    from traindoctor.signals.held_out import accuracy, entropy_of_majority
    from traindoctor.signals.levels import classes_at

    course = accuracy(m)
    if course is None or course.constant < max(limits["evaluations"], course.n) or m.is_adversarial:
        return
    if not limits["least"] <= course.level < limits["most"]:
        return
    few = 0 < course.rows <= limits["rows"]  # then the same number may be right by chance
    source = m.series("val_accuracy").source
    yield supports(
        "constant_accuracy",
        course.level,
        unit="accuracy",
        weight=WEAK if few else STRONG,
        onset=course.since,
        source=source,
        text=f"The held-out accuracy is {course.level:.4g} at all {course.n} evaluations, to the last digit: one answer for all "
        "inputs." + (f" But {course.rows} rows would explain it." if few else ""),
    )
    entropy = entropy_of_majority(course.level)
    if m.has("val_loss") and m.series("val_loss").n:
        held = float(m.series("val_loss").value.min())
        most = entropy_of_majority(course.level, classes_at(m.loss.initial, 0.1) if m.has("loss") else None)
        if held > limits["above"] * most:
            yield against(
                "entropy",
                held / most,
                unit="of the entropy of the shares",
                weight=STRONG,
                source=m.series("val_loss").source,
                text=f"The held-out loss of {held:.3g} is above the {most:.3g} that knowing the shares costs: not even they "
                "were learned.",
            )
        elif held >= limits["entropy"] * entropy:
            yield supports(
                "entropy",
                held / entropy,
                unit="of the entropy of the shares",
                weight=WEAK if few else STRONG,
                source=m.series("val_loss").source,
                text=f"The held-out loss never fell below {held:.3g}; answering always with a class of {course.level:.1%} costs "
                f"{entropy:.3g}.",
            )
        else:
            yield against(
                "entropy",
                held / entropy,
                unit="of the entropy of the shares",
                weight=STRONG,
                source=m.series("val_loss").source,
                text=f"The held-out loss fell to {held:.3g}, below the {entropy:.3g} that the share of one class alone allows.",
            )
    if m.has("loss") and m.loss.n > 5 and m.loss.is_positive:
        fell = 1.0 - m.loss.best / m.loss.value[0] if m.loss.value[0] > 0.0 else 0.0
        if fell < limits["moves"]:
            yield against(
                "moves",
                fell,
                unit="of the first loss",
                weight=STRONG,
                source=m.loss.source,
                text="The training loss does not fall at all: nothing is trained, which is another cause.",
            )
        else:
            yield supports(
                "moves",
                fell,
                unit="of the first loss",
                weight=WEAK,
                source=m.loss.source,
                text=f"The training loss fell by {fell:.0%} meanwhile, so that the weights do move.",
            )


@CAUSE.fixes
def change(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield to weigh the classes."""
    from traindoctor.model import Fix

    yield Fix(
        "Weigh the classes of the loss by the inverse of their shares, or draw them evenly",
        note="CrossEntropyLoss(weight=...) or WeightedRandomSampler; judge by the recall of each class",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    held = m.series("val_accuracy")
    first, last = int(held.step[0]), int(held.step[-1])
    return Statement(
        f"The model answered with the most common class alone: its accuracy was {held.value[-1]:.4g} at every evaluation.",
        "A constant answer is right as often as that class is common; the others were not learned.",
        Segment(first, last + 1, first),
    )


@CAUSE.examples
def examples() -> Examples:
    """Give a collapse to the common class; a model that learns, one that is perfect, frozen weights."""
    import numpy as np

    draw = np.random.default_rng(0)
    t = np.linspace(0.0, 1.0, 12)
    noise = 0.002 * draw.standard_normal(12)
    falls = 0.135 + 1.2 * np.exp(-20.0 * t) + noise
    learns = 0.02 + 1.2 * np.exp(-8.0 * t)
    steady = np.full(12, 0.97)
    valid = (
        Example("it learns", run_of(loss=learns, val_loss=learns + 0.01, val_accuracy=0.97 + 0.02 * t)),
        Example("each sample is right", run_of(loss=learns, val_loss=learns, val_accuracy=np.ones(12))),
        Example("as often right, and sure of it", run_of(loss=learns, val_loss=0.03 + 0.1 * learns, val_accuracy=steady)),
        Example("nine rows", run_of(loss=falls, val_loss=1.1 + 0.0 * t, val_accuracy=np.full(12, 5.0 / 9.0))),
        Example("frozen", run_of(loss=0.7 + noise, val_loss=0.7 + 0.0 * t, val_accuracy=steady)),
    )
    invalid = (
        Example("one class alone", run_of(loss=falls, val_loss=falls + 0.01, val_accuracy=steady)),
        Example("one class alone, learned by heart", run_of(loss=learns, val_loss=0.14 + 0.2 * t, val_accuracy=100.0 * steady)),
    )
    return valid, invalid
