"""The initial weights are far too large or far too small: the run begins with undoing them.

## What it looks like
Too large: the first loss and the first gradient are tens of times those of a few steps later, and the weight norm then hardly
moves, for it is all initialisation. Too small: the loss stands exactly at ln C, with next to no noise, since all outputs are
equal; the gradient is tiny and grows by an order of magnitude, the weights grow many times over, and only then the loss falls.

## Why it happens
Each layer multiplies the signal by a factor that its weights set. Above 1 it explodes over depth, below 1 it vanishes, and so
do the gradients on their way back. All weights at zero is a saddle: units that are equal stay equal.

## When it is wrong
A last layer that begins at zero is good practice: the loss begins exactly at ln C, and falls at once. A warmup keeps a loss at
its start, too. Inputs that are not normalised give a large first loss, while the weights move on. A target far from zero is
learnt by the last bias first, and the loss falls from far up.

## What repairs it
The initialisation that belongs to the activation (He for ReLU, Glorot for tanh), 1 / sqrt(2 layers) on residual branches.

## References
Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural networks, AISTATS.
He et al. 2015, Delving deep into rectifiers, arXiv:1502.01852.
Hanin and Rolnick 2018, How to start training, arXiv:1803.01719.
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
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD614",
    name="initialisation-out-of-scale",
    summary="the initial weights are far too large or far too small",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("drop", 5.0, "first loss over the loss after three hundredths of the run", STUDY),
        Threshold("beyond", 12.5, "first loss", "ln C of 260,000 classes, the largest vocabulary in use"),
        Threshold("absurd", 1000.0, "first cross-entropy", "no sum over a usual batch is as high"),
        Threshold("bottom", 2e-5, "tail over initial loss, below which a steep fall is a good fit", STUDY),
        Threshold("far", 30.0, "learning rate over the usual one", STUDY),
        Threshold("gradient_drop", 12.0, "first gradient norm over its median", STUDY),
        Threshold("unmoved", 0.08, "largest relative change of the weight norm", STUDY),
        Threshold("even", 2e-3, "noise over level of the loss at the start; ln C of equal outputs has none", STUDY),
        Threshold("waits", 0.04, "share of the run for which the loss stands at its start", STUDY),
        Threshold("weights_grown", 30.0, "last over first weight norm", "sound runs: 25 at most, benchmarks/study, tuning part"),
        Threshold("weights_larger", 10.0, "last over first weight norm", STUDY),
        Threshold(
            "gradient_grown", 12.0, "highest early over first gradient norm", "sound runs: 11.5, benchmarks/study, tuning part"
        ),
    ),
    explains=("TD401", "TD509", "TD510", "TD612"),
    look_alikes=("TD201", "TD202"),
    experiment="print the standard deviation of each layer's output on one batch: it should stay near 1 over depth",
    refutation="Outputs of all layers of one size at step 0.",
)


@CAUSE.in_logs(needs=("loss",))
def begins_far_up(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a first loss and a first gradient far above what follows, over weights that hardly move."""
    from traindoctor.signals.levels import first_over_next

    loss = m.loss
    if m.is_adversarial or not loss.is_positive or loss.n < 20 or loss.n_not_finite:
        return
    drop, first, ratio = first_over_next(loss.value), float(loss.value[0]), m.rate_ratio
    of_classes = m.has("val_accuracy") or m.has("accuracy")
    if first < limits["beyond"] or loss.tail < limits["bottom"] * first or not (drop > limits["drop"] or of_classes):
        return
    known = m.has("weight_norm") and m.weight_norm.n >= 3
    if known and m.weight_norm.relative_change > 4.0 * limits["unmoved"]:
        yield against(
            "weights",
            m.weight_norm.relative_change,
            unit="relative change",
            weight=STRONG,
            source=m.weight_norm.source,
            text="The weights change by much of what they were: they did not begin large.",
        )
        return
    if ratio is not None and ratio >= limits["far"]:
        yield against(
            "rate",
            m.peak_lr,
            kind="config",
            weight=STRONG,
            source=m.lr_source,
            text=f"The learning rate is {ratio:.0f} times the usual one: the first step may have thrown the weights there.",
        )
    yield supports(
        "drop",
        first,
        unit="loss",
        weight=_weight_of_start(first, limits, of_classes=of_classes),
        source=loss.source,
        text=f"The loss begins at {first:.3g}, {drop:.1f} times what it is a few points later"
        + (", and above ln C of any number of classes." if of_classes else "."),
    )
    if known and m.weight_norm.relative_change < limits["unmoved"]:
        yield supports(
            "weights",
            m.weight_norm.relative_change,
            unit="relative change",
            weight=MODERATE + WEAK,
            source=m.weight_norm.source,
            text=f"Meanwhile the weight norm moves by {m.weight_norm.relative_change:.1%} at most: it is all initialisation.",
        )
    # that of a squared error goes with the root of the loss, by itself
    usual = max(limits["gradient_drop"], 2.0 * (first / max(loss.tail, 1e-300)) ** 0.5)
    if m.has("grad_norm") and m.grad_norm.n >= 8 and m.grad_norm.value[0] > usual * _median(m):
        yield supports(
            "gradient",
            float(m.grad_norm.value[0] / _median(m)),
            unit="first / median gradient norm",
            weight=MODERATE,
            source=m.grad_norm.source,
            text=f"The first gradient is {m.grad_norm.value[0] / _median(m):.0f} times the usual one.",
        )


def _weight_of_start(first: float, limits: Limits, *, of_classes: bool) -> float:
    if not of_classes or first <= limits["absurd"]:
        return MODERATE
    return STRONG + MODERATE if first > 10.0 * limits["absurd"] else STRONG


@CAUSE.in_logs(needs=("loss",))
def lost_from_far_up(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a loss that was lost soon, and whose first value, before any step, was absurd."""
    loss = m.loss
    if loss.first_not_finite() is None or not 0 < loss.n < 20 or m.is_adversarial or loss.step[0] > 1:
        return
    first = float(loss.value[0])
    if first > limits["absurd"]:
        yield supports(
            "first",
            first,
            unit="loss",
            weight=STRONG,
            onset=int(loss.step[0]),
            source=loss.source,
            text=f"The loss was {first:.3g} at {m.name_of(int(loss.step[0]))}, before anything was learnt, and was lost soon.",
        )


def _median(m: Measurements) -> float:
    values = sorted(m.grad_norm.value)
    return max(float(values[len(values) // 2]), 1e-300)


@CAUSE.in_logs(needs=("loss",))
def begins_at_zero(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield outputs that are equal for a while, and weights and gradients that grow many times over first."""
    from traindoctor.signals.gradients import stands_still
    from traindoctor.signals.levels import equal_start

    loss = m.loss
    if m.is_adversarial or not loss.is_positive or loss.n < 8 or loss.n_not_finite:
        return
    start = equal_start(loss.value, limits["even"])
    if start is not None and stands_still(m) is not None:
        return  # nothing is trained: it says nothing of the start
    if start is not None and start.share > limits["waits"] and start.points >= 3:
        yield supports(
            "equal",
            start.noise,
            unit="noise / level",
            weight=STRONG if start.share > 2.0 * limits["waits"] else MODERATE,
            source=loss.source,
            text=f"For {start.share:.0%} of the run the loss stands at {start.level:.4f}, ln {start.classes}, to "
            f"{start.noise:.1g} of "
            "itself: all outputs are equal.",
        )
    if m.has("weight_norm") and m.weight_norm.n >= 4 and m.weight_norm.value[0] > 0.0:
        grown = m.weight_norm.tail / float(m.weight_norm.value[0])
        if grown > limits["weights_larger"]:
            yield supports(
                "weights",
                grown,
                unit="last / first weight norm",
                weight=WEAK if start is None else STRONG if grown > limits["weights_grown"] else MODERATE,
                source=m.weight_norm.source,
                text=f"The weight norm grows from {m.weight_norm.value[0]:.3g} to {grown:.0f} times that.",
            )
        elif start is not None and grown < limits["unmoved"] + 1.0:
            yield against(
                "weights",
                grown,
                unit="last / first weight norm",
                weight=STRONG,
                source=m.weight_norm.source,
                text="The weights do not grow: they were not small.",
            )
    if m.has("grad_norm") and m.grad_norm.n >= 12 and m.grad_norm.value[0] > 0.0:
        first = float(m.grad_norm.value[0])
        top = float(max(m.grad_norm.smooth[: m.grad_norm.n // 2])) / first
        if top > limits["gradient_grown"] and loss.best < 0.9 * loss.initial:
            yield supports(
                "gradient",
                top,
                unit="highest / first gradient norm",
                weight=MODERATE if start is not None else WEAK,
                source=m.grad_norm.source,
                text=f"The gradient begins at {first:.2g} and grows {top:.0f} times before the loss falls.",
            )
    if m.has("learning_rate") and m.learning_rate.n >= 4 and m.learning_rate.value[0] < 0.2 * m.learning_rate.highest:
        yield against(
            "warmup",
            float(m.learning_rate.value[0] / m.learning_rate.highest),
            unit="first / peak rate",
            weight=MODERATE,
            source=m.learning_rate.source,
            text="The learning rate is warmed up: that alone holds a loss at its start.",
        )


@CAUSE.fixes
def rescale(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the initialisation that keeps the scale: no setting of the optimizer does."""
    from traindoctor.model import Fix

    yield Fix(
        "Initialise as the activation asks: He (kaiming_normal_) for ReLU, Glorot (xavier_uniform_) for tanh, biases 0",
        note="the framework's defaults are within a factor of two of it",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    start, last = int(m.loss.step[0]), int(m.loss.series.step[-1]) + 1
    large = any(e.name == "drop" for e in evidence)
    what = (
        f"too large: the loss began at {m.loss.value[0]:.3g}"
        if large
        else "too small: the outputs were equal, and learning waited"
    )
    return Statement(
        f"The initial weights were {what}.", " ".join(e.text for e in evidence if e.supports), Segment(start, last, start)
    )


def _wave(k: int) -> float:
    """Return a deterministic noise in [-1, 1]."""
    return (k * 7919 + 13) ** 2 % 2039 / 1019.5 - 1.0


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    import math

    usual = [2.4 * 0.97**k + 0.1 for k in range(100)]
    steep = [100.0 * 0.5**k + 1.0 + 0.1 * _wave(k) for k in range(100)]
    waits = [math.log(10.0)] * 20 + [2.3 * 0.96**k for k in range(80)]
    grows = [0.1 + 0.1 * min(k, 60) for k in range(100)]
    valid = (
        Example("a usual start", run_of(loss=usual, weight_norm=[9.0 + 0.02 * k for k in range(100)])),
        Example(
            "a head of zeros",
            run_of(loss=[math.log(10.0) * 0.95**k for k in range(100)], weight_norm=[9.0 + 0.02 * k for k in range(100)]),
        ),
        Example("waits at ln 10, alone", run_of(loss=waits)),
        Example("waits for a warmup", run_of(loss=waits, learning_rate=[1e-3 * min(1.0, k / 30.0) for k in range(100)])),
        Example("an exact fit", run_of(loss=[100.0 * 0.5**k for k in range(100)], weight_norm=[9.0] * 99 + [9.1])),
        Example("targets far from zero", run_of(loss=steep, weight_norm=[5.0 + 0.1 * k for k in range(100)])),
        Example("two points", run_of(loss=[100.0, 1.0])),
    )
    invalid = (
        Example(
            "a cross-entropy of 80,000 at the first step",
            run_of(loss=[8e4 / (1.0 + 0.05 * k) for k in range(100)], val_accuracy=[0.1 + 0.002 * k for k in range(100)]),
        ),
        Example(
            "far up, weights hardly move",
            run_of(loss=steep, weight_norm=[90.0 + 0.01 * k for k in range(100)], grad_norm=[500.0, *[3.0] * 99]),
        ),
        Example(
            "equal outputs, weights grow",
            run_of(loss=waits, weight_norm=grows, grad_norm=[0.02 + 0.1 * min(k, 30) for k in range(100)]),
        ),
    )
    return valid, invalid
