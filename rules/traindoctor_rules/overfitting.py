"""The model fits its training data ever better, and data it has not seen ever worse.

## What it looks like
The validation loss falls, turns, and rises over many evaluations by more than its noise, while the training loss falls on. A
large model that is fine-tuned on little data has it rise from the first evaluation on.

## Why it happens
The model is large for its data, and goes on learning what is true of these rows alone: their noise, wrong labels, duplicates.

## When it is wrong
A validation loss may rise while the accuracy still gets better: the model becomes surer of what it gets wrong. That is a
matter of calibration, and said as such. A rise that begins at a resume or at a change of the learning rate has its cause there. A
validation loss that never fell points to wrong labels or another distribution. Double descent turns again.

## What repairs it
The weights of the best evaluation (early stopping), which cost nothing. Then more or augmented data, weight decay, dropout, a
smaller model.

## References
Prechelt 1998, Early stopping, but when?, in Neural Networks: Tricks of the Trade.
Guo et al. 2017, On calibration of modern neural networks, arXiv:1706.04599, section 3 (loss rises, error falls).
Nakkiran et al. 2019, Deep double descent, arXiv:1912.02292.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import (
    MODERATE,
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
    from traindoctor.signals.drift import Overfit
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD704",
    name="overfitting",
    summary="training goes on to fall while the validation loss turned and rises",
    explanation=__doc__,
    concerns=("validation",),
    severity="warning",
    thresholds=(
        Threshold(
            "rise", 0.1, "end over best of the validation loss, less 1", "sound runs: 0.03 at the 90th percentile, 0.16 at most"
        ),
        Threshold("clear", 0.2, "end over best of the validation loss, less 1", "above what long sound runs of the study do"),
        Threshold("far", 0.4, "end over best of the validation loss, less 1", STUDY),
        Threshold("noises", 5.0, "rise in standard deviations of the noise from one evaluation to the next", STUDY),
        Threshold("steady", 0.6, "rank correlation of time and validation loss after its best", STUDY),
        Threshold("after", 4.0, "evaluations after the best one", "fewer are no trend"),
        Threshold("share", 0.2, "of the run that is after the best", STUDY),
        Threshold("train", 0.85, "training loss at the end over that at the best evaluation", STUDY),
        Threshold("better", 0.02, "gain in accuracy since the lowest validation loss", "two rows of a hundred"),
        Threshold("fell", 0.05, "first over best of the validation loss, less 1", STUDY),
        Threshold(
            "certain",
            10.0,
            "rise in standard deviations of the noise from one evaluation to the next, above which a small one counts in full",
            f"{STUDY}: sound runs that rise over four evaluations or more 2.6 at most, overfitted ones from 6.2",
        ),
        Threshold("few", 5.0, "evaluations, of which each has to be higher than the one before", "their noise is hardly known"),
        Threshold("far_down", 0.5, "training loss at the end over that at the best of few evaluations", "well below `train`"),
        Threshold(
            "trend",
            3.3,
            "rank correlation after the best, in standard deviations, of a noisy validation loss that rises far",
            "one in 2,000 by chance (Kendall 1938); the study's sound runs that rise far 1.5 at most",
        ),
        Threshold(
            "falls", 0.1, "rank correlation of the training loss with time after the best", "above it the training loss rises"
        ),
    ),
    experiment="evaluate the weights of the best step: they are the better ones on new data",
    refutation="A second validation set on which the loss goes on falling.",
)


def _turned(m: Measurements) -> Overfit | None:
    from traindoctor.signals.drift import overfit

    validation, loss = m.series("val_loss"), m.loss
    if m.is_adversarial or validation.n_not_finite or loss.n_not_finite or not loss.is_positive:
        return None
    return overfit(validation.step, validation.value, loss.step, loss.value)


def _rises(seen: Overfit, limits: Limits) -> bool:
    """Return whether a validation loss rises for long enough, and by more than its noise.

    Where it is very noisy, it has to rise far, in an order that chance does not make, while the training loss falls. Where it was
    evaluated five times alone, at each of them, while the training loss fell to less than half.
    """
    if seen.rise < limits["rise"] or seen.n_after < limits["after"] or seen.share < limits["share"]:
        return False
    if seen.n <= limits["few"]:
        rises = seen.rise > limits["clear"] and seen.train < limits["far_down"]
        return rises and seen.order >= 1.0 and seen.noises >= limits["noises"]
    if seen.noises >= limits["noises"] and seen.order >= limits["steady"]:
        return True
    falls = seen.train < limits["train"] and seen.train_order < limits["falls"]
    return falls and seen.rise > limits["far"] and seen.trend > limits["trend"]


@CAUSE.in_logs(needs=("loss", "val_loss"))
def validation_turns(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a validation loss that turned and rises, and what the training loss does meanwhile."""
    seen, validation = _turned(m), m.series("val_loss")
    if seen is None or not _rises(seen, limits):
        return
    sure = seen.rise > limits["clear"] or seen.noises > limits["certain"]
    yield supports(
        "rise",
        seen.rise,
        unit="above its best",
        weight=STRONG + WEAK if seen.rise > limits["far"] else STRONG if sure else MODERATE,
        onset=seen.step,
        source=validation.source,
        text=f"Since {m.name_of(seen.step)} the validation loss rises, from {seen.best:.3g} by {seen.rise:.0%}, over "
        f"{seen.n_after} evaluations.",
    )
    if seen.train < limits["train"]:
        yield supports(
            "train",
            seen.train,
            unit="training loss, end / then",
            weight=MODERATE,
            source=m.loss.source,
            text=f"The training loss falls on, to {seen.train:.0%} of what it was then.",
        )
    else:
        yield against(
            "train",
            seen.train,
            unit="training loss, end / then",
            weight=STRONG,
            source=m.loss.source,
            text="The training loss does not fall any more: what rises is not the gap alone.",
        )
    if seen.first < limits["fell"]:
        yield against(
            "fell",
            seen.first,
            unit="first / best, less 1",
            weight=WEAK,
            source=validation.source,
            text="The validation loss never fell: labels or data may not belong together.",
        )


@CAUSE.in_logs(needs=("loss", "val_loss", "val_accuracy"))
def accuracy_goes_on(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield an accuracy that still gets better: then it is the calibration that suffers."""
    seen, accuracy = _turned(m), m.series("val_accuracy")
    if seen is None or seen.rise < limits["rise"] or accuracy.n < 4:
        return
    scale = 100.0 if accuracy.highest > 1.0 else 1.0
    then = accuracy.smooth[abs(accuracy.step - seen.step).argmin()]  # one evaluation of a small part is off by some hundredths
    gain = (accuracy.tail - float(then)) / scale
    if gain > limits["better"]:
        yield against(
            "accuracy",
            gain,
            unit="gain in accuracy",
            weight=STRONG,
            source=accuracy.source,
            text=f"The accuracy still gains {gain:.1%} since then: the model is surer, not worse.",
        )


@CAUSE.in_logs(needs=("loss", "val_loss", "learning_rate"))
def rate_changed(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a learning rate that rose where the validation loss turned."""
    seen, rate = _turned(m), m.learning_rate
    if seen is None or seen.rise < limits["rise"] or rate.n < 4:
        return
    before, after = rate.before(seen.step + 1), rate.value[rate.step > seen.step]
    if len(before) and len(after) and max(after[: max(1, len(after) // 4)]) > 1.5 * before[-1]:
        yield against(
            "rate",
            float(max(after) / before[-1]),
            unit="times the rate before",
            weight=STRONG,
            source=rate.source,
            text="The learning rate rises right after: a boundary, not a trend.",
        )


@CAUSE.fixes
def stop_early(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the best evaluation's weights; fewer steps where the log counts steps."""
    from traindoctor.model import Fix

    seen = _turned(m)
    if seen is not None and m.run.step_unit == "step" and seen.step > 0:
        yield Fix(
            f"Keep the weights of step {seen.step:,}, or stop there",
            {"steps": seen.step},
            note="the validation loss was lowest; what comes after needs more data, augmentation or weight decay",
        )
    yield Fix("Keep the weights of the best evaluation; more data, augmentation, dropout or weight decay to go further")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next((e.onset for e in evidence if e.onset is not None), 0)
    validation = m.series("val_loss")
    return Statement(
        f"The model overfitted from {m.name_of(onset)} on: its validation loss rose from {validation.best:.3g} to "
        f"{validation.tail:.3g}.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(onset, int(m.loss.series.step[-1]) + 1, onset),
    )


def _wave(k: int) -> float:
    """Return a deterministic noise in [-1, 1]."""
    return (k * 7919 + 13) ** 2 % 2039 / 1019.5 - 1.0


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    train = [2.3 * 0.93**k + 0.01 for k in range(60)]
    falls = [2.3 * 0.93**k + 0.4 for k in range(60)]
    turns = [2.3 * 0.8**k + 0.6 + 0.012 * k for k in range(60)]
    valid = (
        Example("both fall", run_of(loss=train, val_loss=falls)),
        Example("a plateau", run_of(loss=train, val_loss=[2.3 * 0.8**k + 0.6 + 0.02 * _wave(k) for k in range(60)])),
        Example(
            "a noisy validation", run_of(loss=train, val_loss=[(2.3 * 0.9**k + 0.5) * (1.0 + 0.4 * _wave(k)) for k in range(60)])
        ),
        Example("a last evaluation that is off", run_of(loss=train, val_loss=[*falls[:59], 3.0])),
        Example("training rises too", run_of(loss=turns, val_loss=turns)),
        Example("surer, not worse", run_of(loss=train, val_loss=turns, val_accuracy=[0.5 + 0.008 * k for k in range(60)])),
        Example("four evaluations", run_of(loss=train, val_loss=[1.0, 0.8, 0.9, 1.1])),
        Example("five evaluations, training not far down", run_of(loss=train[:6], val_loss=[0.32, 0.36, 0.39, 0.41, 0.42])),
        Example("a generator", run_of(loss=train, val_loss=turns, d_loss=train)),
    )
    noisy = [(0.5 + 0.02 * k) * (1.0 + 0.3 * _wave(k)) for k in range(60)]
    invalid = (
        Example("turns and rises while training falls", run_of(loss=train, val_loss=turns)),
        Example(
            "rises by a tenth, and without noise",
            run_of(loss=train, val_loss=[2.3 * 0.8**k + 0.6 + 0.0025 * k for k in range(60)]),
        ),
        Example("noisy, and twice as high at the end", run_of(loss=train, val_loss=noisy)),
        Example("five evaluations, each higher", run_of(loss=train[:20], val_loss=[0.32, 0.36, 0.39, 0.41, 0.42])),
    )
    return valid, invalid
