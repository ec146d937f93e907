"""The learning rate is too low: progress is slow but clean.

## What it looks like
A smooth, nearly straight fall that the end of the run cuts off, or a loss that hardly moves; weights that stay within a percent
of their start; gradients that do not shrink.

## Why it happens
Under SGD a direction of curvature lambda needs 1 / (lr * lambda) steps, under Adam a weight moves by lr at most in each step.

## When it is wrong
A fine-tuning run starts near its end, and has little way to go. A schedule that decays to zero slows every run. A loss that
starts at its irreducible noise cannot fall at any rate.

## What repairs it
Three to ten times the learning rate at a time, until the fall is no longer clean.

## References
Smith 2017, Cyclical learning rates for training neural networks, arXiv:1506.01186, section 3.3 (the range test).
Godbole et al. 2023, Deep learning tuning playbook, Google.
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
    code="TD202",
    name="learning-rate-too-low",
    summary="slow but clean progress",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("left", 0.15, "tail loss over initial loss", STUDY),
        Threshold("pace", 0.4, "fall in the last quarter over fall in the first", STUDY),
        Threshold("sure", 4.0, "standard errors of the fall", "chance of noise below 1e-4"),
        Threshold("risen", 1.1, "tail loss over initial loss of a run that rose", STUDY),
        Threshold("unmoved", 0.9, "tail loss over initial loss of a run that hardly moved", STUDY),
        Threshold("settled", 0.1, "fall in the last quarter over fall in the first of a run that has arrived", STUDY),
        Threshold("usual", 0.3, "learning rate over the usual one that is not low", STUDY),
        Threshold("low", 0.06, "learning rate over the optimizer's default", STUDY),
        Threshold("weights", 0.02, "largest relative change of the weight norm", STUDY),
        Threshold(
            "started",
            0.5,
            "initial loss of a run from scratch, at least",
            "ln 2 = 0.69 for two classes, about 1 for a standardised target",
        ),
    ),
    look_alikes=("TD103", "TD302"),
    experiment="the first tenth of the run at ten times the learning rate",
    refutation="A run at ten times the learning rate that falls no faster.",
)


@CAUSE.in_logs(needs=("loss",))
def slow_and_clean(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a fall that goes on to the end at its first pace, or hardly any fall."""
    loss = m.loss
    if m.is_adversarial or not loss.is_positive or loss.n < 4 or loss.first_not_finite() is not None:
        return
    left = loss.tail / loss.initial
    if left < limits["left"]:
        yield against("left", left, unit="tail / initial loss", weight=STRONG, source=loss.source, text="The run got down well.")
        return
    if left > limits["risen"]:
        yield against("left", left, unit="tail / initial loss", weight=STRONG, source=loss.source, text="The loss rose.")
        return
    sure = loss.fall_significance
    pace = loss.progress_left
    if sure > limits["sure"] and pace > limits["pace"]:
        yield supports(
            "steady",
            pace,
            unit="late / early pace",
            weight=STRONG,
            source=loss.source,
            text=f"The loss still falls at {pace:.0%} of its first pace when the run ends, with {left:.0%} of it left.",
        )
    elif left > limits["unmoved"] and loss.initial > limits["started"]:
        yield supports(
            "hardly_moves",
            left,
            unit="tail / initial loss",
            weight=MODERATE,
            source=loss.source,
            text=f"The loss hardly moves: {left:.0%} is left.",
        )
    elif pace == pace and pace < limits["settled"] and left < limits["unmoved"]:
        yield against(
            "settled",
            pace,
            unit="late / early pace",
            weight=MODERATE,
            source=loss.source,
            text="The loss has settled: it is not on its way.",
        )


@CAUSE.in_logs(needs=("loss",))
def small_rate(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the learning rate against the optimizer's default, and how far the weights went."""
    lr, usual = m.peak_lr, m.usual_lr
    if lr is None or usual is None:
        return
    ratio = lr / usual
    name = m.run.optimizer.name if m.run.optimizer else "the optimizer"
    if ratio <= 0.0:
        yield against("rate", lr, weight=PROOF, kind="config", source=m.lr_source, text="The learning rate is not low but zero.")
        return
    if ratio <= limits["low"]:
        weight = STRONG if ratio <= limits["low"] / 2.0 else MODERATE
        yield supports(
            "rate",
            lr,
            weight=weight,
            kind="config",
            source=m.lr_source,
            text=f"lr {lr:g} is {1.0 / ratio:,.0f} times below the default of {name}.",
        )
    elif ratio >= limits["usual"]:
        yield against("rate", lr, weight=STRONG, kind="config", source=m.lr_source, text=f"lr {lr:g} is usual for {name}.")
    falls = m.loss.fall_significance > limits["sure"] and m.loss.progress_left > limits["pace"]
    if m.has("weight_norm") and m.weight_norm.n >= 3:
        change = m.weight_norm.relative_change
        if m.weight_norm.is_constant:
            yield against("weights", 0.0, weight=PROOF, source=m.weight_norm.source, text="The weights do not move at all.")
        elif change < limits["weights"] and (ratio <= 0.11 or (falls and not m.optimizer.is_adaptive)):
            yield supports(
                "weights",
                change,
                weight=WEAK,
                source=m.weight_norm.source,
                text=f"The weight norm moves by {change:.2%} over the whole run.",
            )
    if m.loss.initial < limits["started"] and not falls:
        yield against(
            "started_low",
            m.loss.initial,
            unit="loss",
            weight=MODERATE,
            source=m.loss.source,
            text="The run started low: a fine-tuning has little way to go.",
        )
    for quantity in ("val_accuracy", "accuracy"):
        if m.has(quantity) and m.series(quantity).tail > (80.0 if m.series(quantity).highest > 1.5 else 0.8):
            accuracy = m.series(quantity)
            yield against(
                "accuracy",
                accuracy.tail,
                weight=STRONG,
                source=accuracy.source,
                text="The accuracy is high: the run has arrived.",
            )
            break


@CAUSE.in_logs(needs=("loss", "learning_rate"))
def decayed(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a schedule that took the rate away: then the peak is not what made the run slow."""
    rate = m.learning_rate
    if rate.n >= 8 and rate.tail < 0.05 * rate.highest and float(sorted(rate.value)[rate.n // 2]) < 0.05 * rate.highest:
        yield against(
            "decayed",
            rate.tail / rate.highest,
            unit="last / peak",
            weight=STRONG,
            source=rate.source,
            text="The schedule had taken the rate away by the middle of the run.",
        )


@CAUSE.fixes
def raise_it(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield three times the usual rate where the run is far below it, else ten times its own."""
    from traindoctor.model import Fix

    lr = m.setting("optimizer.lr")
    lr = lr if isinstance(lr, int | float) and lr > 0 else m.peak_lr
    if lr is None or m.usual_lr is None:
        return
    value = float(f"{3.0 * m.usual_lr:.2g}") if lr < 0.1 * m.usual_lr else float(f"{10.0 * lr:.2g}")
    note = f"three times the usual {m.usual_lr:g}, since the run was far below it; take that first if the model is large"
    if lr >= 0.1 * m.usual_lr:
        note = "ten times; until the fall is no longer clean"
    yield Fix(f"Raise lr from {lr:g} to {value:g}", {"optimizer.lr": value}, note=note)


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    loss = m.loss
    return Statement(
        f"Training was slow from the first step: a learning rate of {m.peak_lr or 0.0:g} was too low, "
        f"and {min(loss.tail / loss.initial, 1.0):.0%} of the loss was left.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(int(loss.step[0]), int(loss.step[-1]) + 1, int(loss.step[0])),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    low = OptimizerSpec("adam", lr=1e-6, beta1=0.9, beta2=0.999, eps=1e-8)
    usual = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    line = [2.3 - 0.004 * k for k in range(200)]
    valid = (
        Example("clean descent at a usual rate", run_of(usual, loss=[2.3 * 0.97**k for k in range(200)])),
        Example("straight line at a usual rate: a hard problem", run_of(usual, loss=line)),
        Example("fine-tuning from a converged start", run_of(low, loss=[0.05 + 0.001 * ((k * 7) % 5) for k in range(200)])),
        Example("label noise at a usual rate", run_of(usual, loss=[2.3 - 0.0005 * k for k in range(200)])),
        Example("zero is not low", run_of(OptimizerSpec("sgd", lr=0.0), loss=[2.3] * 50)),
        Example("rate unknown", run_of(loss=line)),
    )
    invalid = (
        Example("straight line at a thousandth of the default", run_of(low, loss=line)),
        Example("SGD at 1e-5", run_of(OptimizerSpec("sgd", lr=1e-5), loss=line)),
    )
    return valid, invalid
