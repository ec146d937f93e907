"""The learning rate is too low: progress is slow but clean.

## What it looks like
A smooth, nearly straight fall that the end of the run cuts off, or a loss that hardly moves; weights that stay within a percent
of their start; gradients that do not shrink.

## Why it happens
Under SGD a direction of curvature lambda needs 1 / (lr * lambda) steps, under Adam a weight moves by lr at most in each step.

## When it is wrong
A fine-tuning run starts near its end, and has little way to go: 2e-5 under AdamW is usual there, and says little alone. A run of
ten epochs that still falls is a short run. A schedule that decays to zero slows every run. A loss that starts at its irreducible
noise cannot fall at any rate.

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
        Threshold("much_left", 0.3, "tail loss over initial loss, at a rate of SGD far below the usual", STUDY),
        Threshold("pace", 0.4, "fall in the last quarter over fall in the first", STUDY),
        Threshold("late", 3.0, "fall in the last quarter over fall in the first of a run that only began to fall late", STUDY),
        Threshold("points", 20.0, "points of the loss from which a steady fall is no short run", "a run of 10 epochs is short"),
        Threshold("sure", 4.0, "standard errors of the fall", "chance of noise below 1e-4"),
        Threshold("seen", 3.0, "standard errors of the fall of a noisy loss that is one", "chance of noise below 0.003"),
        Threshold("noisy", 0.1, "noise over level of a loss whose first and last points say little", STUDY),
        Threshold("risen", 1.1, "tail loss over initial loss of a run that rose", STUDY),
        Threshold("unmoved", 0.9, "tail loss over initial loss of a run that hardly moved", STUDY),
        Threshold("settled", 0.1, "fall in the last quarter over fall in the first of a run that has arrived", STUDY),
        Threshold("usual", 0.3, "learning rate over the usual one that is not low", STUDY),
        Threshold("low", 0.06, "learning rate over the optimizer's default", STUDY),
        Threshold("sgd_low", 0.02, "learning rate of SGD over 0.3, momentum counted: 0.006", STUDY),
        Threshold("sgd_sure", 0.005, "learning rate of SGD over 0.3, momentum counted: 0.0015", STUDY),
        Threshold("sgd_usual", 0.1, "learning rate of SGD over 0.3, momentum counted, that is surely not low", STUDY),
        Threshold(
            "fine_tuning",
            8e-6,
            "learning rate of Adam from which on it is one to fine-tune with",
            "2e-5 to 5e-5: arXiv:1810.04805, appendix A.3",
        ),
        Threshold("risen_val", 1.1, "validation loss at the end over its lowest level", STUDY),
        Threshold("weights", 0.02, "largest relative change of the weight norm", STUDY),
        Threshold("reach", 0.05, "sum of the rates of all steps", "1 / sqrt(400): the first weights of 400 inputs"),
        Threshold("near", 0.8, "tail loss over initial loss of a run that did not get far", STUDY),
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


def _is_low(m: Measurements, limits: Limits) -> bool:
    """Return whether the learning rate is known and far below the usual one; under SGD momentum counts, or the default does."""
    lr, usual, ratio = m.peak_lr, m.usual_lr, m.rate_ratio
    if lr is None or usual is None or ratio is None:
        return False
    return lr <= limits["low"] * usual or (not m.optimizer.is_adaptive and ratio <= limits["sgd_low"])


def _is_steady(m: Measurements, limits: Limits) -> bool:
    """Return whether the loss falls to the end at about its first pace; one that stood first and then fell is not slow."""
    return m.loss.fall_significance > limits["sure"] and limits["pace"] < m.loss.progress_left < limits["late"]


def _brake(m: Measurements) -> str | None:
    """Return the name of a setting other than the learning rate that would hold the run back by itself."""
    from traindoctor.signals.stillness import brake

    found = brake(m)
    return None if found is None or found.name == "optimizer.lr" else found.name


def _left(m: Measurements, limits: Limits) -> float:
    """Return what is left of the loss, 1 where noise explains its fall: a noisy one may start and end anywhere near its level."""
    loss = m.loss
    seen = abs(loss.fall_significance) > limits["seen"] or loss.noise < limits["noisy"]
    return loss.tail / loss.initial if seen else 1.0


def _is_left(m: Measurements, left: float, limits: Limits) -> bool:
    """Return whether much of the loss is left at a low rate of SGD, which nothing else explains and no fine-tuning."""
    far = left > limits["much_left"] and m.loss.initial > limits["started"]
    return far and _is_low(m, limits) and not m.optimizer.is_adaptive and _brake(m) is None


@CAUSE.in_logs(needs=("loss",))
def slow_and_clean(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a fall that goes on to the end at its first pace, or hardly any fall."""
    loss = m.loss
    if m.is_adversarial or not loss.is_positive or loss.n < 4 or loss.first_not_finite() is not None:
        return
    left = _left(m, limits)
    if left < limits["left"]:
        yield against("left", left, unit="tail / initial loss", weight=STRONG, source=loss.source, text="The run got down well.")
        return
    if left > limits["risen"]:
        yield against("left", left, unit="tail / initial loss", weight=STRONG, source=loss.source, text="The loss rose.")
        return
    pace = loss.progress_left
    if _is_steady(m, limits):
        long = loss.n >= limits["points"] and _is_low(m, limits)
        yield supports(
            "steady",
            pace,
            unit="late / early pace",
            weight=STRONG if long else MODERATE,
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
    elif _is_left(m, left, limits):
        yield supports(
            "left",
            left,
            unit="tail / initial loss",
            weight=MODERATE,
            source=loss.source,
            text=f"At the end {left:.0%} of the loss is left.",
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
    if _is_low(m, limits):
        times = ratio if m.optimizer.is_adaptive else min(ratio, m.rate_ratio or ratio)
        yield supports(
            "rate",
            lr,
            weight=_weight_of_rate(m, lr, ratio, limits),
            kind="config",
            source=m.lr_source,
            text=f"lr {lr:g} is {1.0 / times:,.0f} times below what {name} is usually given.",
        )
        reach = m.reach
        if m.optimizer.is_adam and reach < limits["reach"] and _left(m, limits) > limits["near"]:
            yield supports(
                "reach",
                reach,
                unit="sum of the rates",
                weight=MODERATE,
                kind="config",
                source=m.lr_source,
                text=f"Under {name} no weight moves by much more than the rate in a step: {reach:.2g} in the whole run.",
            )
    elif ratio >= limits["usual"]:
        sure = m.optimizer.is_adaptive or (m.rate_ratio or 0.0) >= limits["sgd_usual"]
        yield against(
            "rate",
            lr,
            weight=STRONG if sure else MODERATE,
            kind="config",
            source=m.lr_source,
            text=f"lr {lr:g} is usual for {name}.",
        )
    falls = _is_steady(m, limits)
    if m.has("weight_norm") and m.weight_norm.n >= 3:
        change = m.weight_norm.relative_change
        fine = m.optimizer.is_adaptive and lr >= limits["fine_tuning"] and ratio <= 0.11
        if m.weight_norm.is_constant:
            yield against("weights", 0.0, weight=PROOF, source=m.weight_norm.source, text="The weights do not move at all.")
        elif change < limits["weights"] and not fine and (ratio <= 0.11 or (falls and not m.optimizer.is_adaptive)):
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


def _weight_of_rate(m: Measurements, lr: float, ratio: float, limits: Limits) -> float:
    """Return what a low rate says; `ratio`: over the optimizer's default. Rates to fine-tune with are low for a reason."""
    if m.optimizer.is_adam:
        return STRONG if lr < limits["fine_tuning"] else MODERATE
    if m.optimizer.is_adaptive:
        return STRONG if ratio <= limits["low"] / 2.0 else MODERATE
    return STRONG if ratio <= limits["low"] / 2.0 or (m.rate_ratio or 0.0) <= limits["sgd_sure"] else MODERATE


@CAUSE.in_logs(needs=("loss",))
def arrived(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield that the run got far: a high accuracy, or a validation loss that is past its lowest."""
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
    if m.has("val_loss") and m.series("val_loss").n >= 5 and m.series("val_loss").is_positive:
        validation = m.series("val_loss")
        if validation.tail > limits["risen_val"] * validation.best:
            yield against(
                "validation_rose",
                validation.tail / validation.best,
                unit="times its lowest level",
                weight=MODERATE,
                source=validation.source,
                text="The validation loss has passed its lowest level: more of the same would not help.",
            )


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
    rate = f"a learning rate of {m.peak_lr:g}" if m.peak_lr else "the learning rate"
    return Statement(
        f"Training was slow from the first step: {rate} was too low, "
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
        Example(
            "a rate to fine-tune with, in a short run",
            run_of(OptimizerSpec("adamw", lr=2e-5), loss=[1.2, 1.12, 1.05, 0.98, 0.92, 0.87, 0.82, 0.78, 0.74, 0.7]),
        ),
        Example(
            "SGD that has settled, with noise",
            run_of(OptimizerSpec("sgd", lr=1e-3), loss=[0.4 + 2.0 * 0.8**k for k in range(80)]),
        ),
    )
    invalid = (
        Example("straight line at a thousandth of the default", run_of(low, loss=line)),
        Example(
            "noise that hides the fall, at a rate that moves no weight",
            run_of(
                OptimizerSpec("adam", lr=2e-5),
                loss=[1.0 + 0.3 * ((k * 7919 + 13) ** 2 % 2039 / 1019.5 - 1.0) for k in range(200)],
            ),
        ),
        Example("SGD at 1e-5", run_of(OptimizerSpec("sgd", lr=1e-5), loss=line)),
        Example(
            "SGD at 2e-5, slower and slower",
            run_of(OptimizerSpec("sgd", lr=2e-5), loss=[2.3 / (1.0 + 0.008 * k) for k in range(200)]),
        ),
    )
    return valid, invalid
