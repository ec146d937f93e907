"""The sign of the loss is wrong: the optimizer makes worse what it should make better.

## What it looks like
Logged with its sign, the loss begins below zero, at -ln C or minus the variance, and falls faster and faster, without a bound.
Logged without it, the loss rises from the first step on, steadily, at a usual learning rate. The accuracy goes below that of
guessing: nobody gets there by noise.

## Why it happens
A minus too many, or one too few: a score that is to be maximised is minimised, `maximize=True`, a gradient that is reversed
and not put back, `nll_loss` of something that is no log-probability.

## When it is wrong
Log-likelihoods of densities (flows, a normal with learned variance) go below zero rightly: they slow down as they fall, and the
validation goes with them. Losses of policies and of games have either sign. A divergence by too high a rate bounces, and its rate
is high.

## What repairs it
The sign, in the loss.

## References
PyTorch documentation, torch.nn.NLLLoss (its minus), torch.optim.SGD: `maximize`.
Ganin and Lempitsky 2015, Unsupervised domain adaptation by backpropagation, arXiv:1409.7495 (gradient reversal).
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

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD611",
    name="loss-sign-wrong",
    summary="the optimizer makes worse what it should make better",
    explanation=__doc__,
    thresholds=(
        Threshold("steady", 0.9, "rank correlation of time and level, over blocks of the run", STUDY),
        Threshold("faster", 0.8, "late over early pace of the fall; densities slow down", STUDY),
        Threshold("far", 10.0, "size of the last loss over that of the first", STUDY),
        Threshold("beyond", 1000.0, "size of the last loss over that of the first, which no density has", STUDY),
        Threshold("start", 0.1, "relative distance of the first loss from -ln C", "a usual start is above ln C by up to a tenth"),
        Threshold("risen", 1.3, "last over first level of a loss that rises", STUDY),
        Threshold("much", 5.0, "last over first level, under steps that the optimizer bounds", STUDY),
        Threshold("usual", 6.0, "learning rate over the usual one", STUDY),
        Threshold("worse", 0.5, "accuracy times the number of classes: guessing gives 1", STUDY),
    ),
    explains=("TD201", "TD301", "TD401", "TD613"),
    look_alikes=("TD201",),
    experiment="ten steps with the other sign: the loss falls, and the accuracy rises above guessing",
    refutation="An accuracy above that of guessing.",
)


@CAUSE.in_logs(needs=("loss",))
def falls_without_bound(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a loss that begins below zero and falls faster and faster."""
    from traindoctor.signals.drift import drift
    from traindoctor.signals.levels import classes_at

    loss = m.loss
    if m.is_adversarial or loss.n < 3 or not loss.value[0] < 0.0 or loss.highest > 0.0:
        return
    first, last = -float(loss.value[0]), -(loss.tail if loss.n >= 8 else float(loss.value[-1]))
    moves = drift(loss.value)
    grows = last > limits["far"] * first
    steady = loss.n < 6 or (moves is not None and moves.order < -limits["steady"])
    faster = loss.n_not_finite > 0 or (moves is not None and moves.pace > limits["faster"])
    if not (grows and (steady or last > limits["beyond"] * first)):
        return
    yield supports(
        "fall",
        last / first,
        unit="last / first loss",
        weight=PROOF if last > limits["beyond"] * first or (faster and steady) else STRONG,
        source=loss.source,
        text=f"The loss goes from {loss.value[0]:.3g} to {loss.tail:.3g}{', faster and faster' if faster else ''}: it has "
        "no bound.",
    )
    classes = classes_at(first, limits["start"])
    if classes is not None:
        yield supports(
            "start",
            -first,
            unit="loss",
            weight=MODERATE,
            source=loss.source,
            text=f"It begins at {-first:.3g}, near -ln {classes}.",
        )


@CAUSE.in_logs(needs=("loss",))
def rises_from_the_first_step(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a loss above zero that rises steadily from its first point, at a usual rate."""
    from traindoctor.signals.drift import drift

    loss, ratio = m.loss, m.rate_ratio
    moves = drift(loss.value)
    if m.is_adversarial or not loss.is_positive or moves is None or not loss.value[0] > 0.0:
        return
    if moves.order < limits["steady"] or not moves.last > limits["risen"] * moves.first or loss.best < 0.97 * loss.value[0]:
        return
    usual = ratio is None or ratio <= limits["usual"]
    bounded = ratio is not None and usual and m.optimizer.is_adaptive and moves.factor > limits["much"]
    yield supports(
        "rise",
        moves.factor,
        unit="last / first level",
        weight=STRONG + MODERATE if bounded else STRONG if usual else MODERATE,
        source=loss.source,
        text=f"The loss rises from the first step on, steadily, from {moves.first:.3g} to {moves.last:.3g}"
        + (", at a usual learning rate." if usual and ratio is not None else ".")
        + (" Steps of that size climb so far only if all go upwards." if bounded else ""),
    )
    if loss.noise < 0.1 and not loss.spikes.size:
        yield supports(
            "smooth", loss.noise, unit="noise / level", weight=WEAK, source=loss.source, text="It does not bounce on its way."
        )


@CAUSE.in_logs(needs=("loss", "val_accuracy|accuracy"))
def worse_than_guessing(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield an accuracy below that of guessing, or above it."""
    from traindoctor.signals.levels import classes_at

    loss, seen = m.loss, m.series("val_accuracy" if m.has("val_accuracy") else "accuracy")
    classes = classes_at(abs(float(loss.value[0])), limits["start"]) if loss.n else None
    if classes is None or seen.n < 2:
        return
    gain = seen.tail * classes / (100.0 if seen.highest > 1.0 else 1.0)
    worsens = loss.value[0] < 0.0 or loss.tail > loss.initial
    if gain < limits["worse"] and worsens:
        yield supports(
            "accuracy",
            gain,
            unit="times guessing",
            weight=STRONG if seen.n >= 3 else WEAK,
            source=seen.source,
            text=f"The accuracy ends at {gain:.2f} times that of guessing among {classes} classes.",
        )
    elif gain > 3.0 and classes > 3:
        yield against(
            "accuracy",
            gain,
            unit="times guessing",
            weight=STRONG,
            source=seen.source,
            text=f"The accuracy is {gain:.1f} times that of guessing.",
        )


@CAUSE.fixes
def turn(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the repair of the code: no setting cures it."""
    from traindoctor.model import Fix

    yield Fix("Turn the sign of the loss that is differentiated, and look for maximize=True", note="ten steps show it")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    loss, start = m.loss, int(m.loss.series.step[0])
    way = "fell below zero without a bound" if loss.tail < 0.0 else f"rose from the first step to {loss.tail:.3g}"
    return Statement(
        f"The loss {way}: its sign was wrong.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(start, int(loss.series.step[-1]) + 1, start),
    )


def _wave(k: int) -> float:
    """Return a deterministic noise in [-1, 1]."""
    return (k * 7919 + 13) ** 2 % 2039 / 1019.5 - 1.0


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    adam, hot = OptimizerSpec("adam", lr=1e-3), OptimizerSpec("adam", lr=0.5)
    density = [3.0 - 4.0 * (1.0 - 0.96**k) for k in range(200)]
    valid = (
        Example("a density that goes below zero", run_of(adam, loss=density)),
        Example("a density that begins below zero", run_of(adam, loss=[v - 3.5 for v in density])),
        Example("a policy", run_of(adam, loss=[-0.1 - 0.02 * k for k in range(100)], reward=[1.0] * 5)),
        Example("a noisy signed loss", run_of(adam, loss=[-0.5 + _wave(k) for k in range(200)])),
        Example("a divergence that bounces", run_of(hot, loss=[2.3 * 1.02**k * (1.0 + 0.6 * _wave(k)) for k in range(200)])),
        Example(
            "a rise after a fall", run_of(adam, loss=[2.3 - 0.01 * k for k in range(100)] + [1.3 + 0.05 * k for k in range(100)])
        ),
        Example("two points", run_of(adam, loss=[-2.3, -500.0])),
    )
    invalid = (
        Example("from -ln 10 down, faster and faster", run_of(adam, loss=[-2.31 - 0.02 * k**2 for k in range(100)])),
        Example(
            "rises at a usual rate, accuracy of nothing",
            run_of(adam, loss=[2.31 + 0.05 * k for k in range(100)], val_accuracy=[0.02, 0.01, 0.0, 0.0]),
        ),
    )
    return valid, invalid
