"""The learning rate keeps the loss up: a plateau whose level is the noise of the steps, and that a lower rate would leave.

## What it looks like
The loss stands at a level from early on. When the rate is lowered, by a schedule or by hand, the loss falls at once and
stands again; the rate stays high to the end. The validation loss jumps from one evaluation to the next, on the same data.

## Why it happens
With noisy gradients, SGD at a constant rate settles at a distance from the minimum whose loss is proportional to the rate and
to the variance of the gradient. More steps do not help; a lower rate does.

## When it is wrong
A plateau at a constant rate says nothing by itself: label noise and a model that has learnt what it can look the same. So
this is named only where the run itself shows that its level follows the rate; otherwise it is at most one of several.

## What repairs it
A decay to zero over the run, or over its last fifth.

## References
Zhang et al. 2019, Which algorithmic choices matter at which batch sizes?, arXiv:1907.04164 (the noisy quadratic model: the
level is proportional to the rate). Hu et al. 2024, MiniCPM, arXiv:2404.06395, section 4 (the loss falls at once in the
decay). Defazio et al. 2023, When, why and how much? Adaptive learning rate scheduling by refinement, arXiv:2310.07831 (linear
decay to zero).
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
    code="TD215",
    name="rate-never-decayed",
    summary="the loss stands at a level that the learning rate sets",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("level", 0.8, "loss after the cut over before", STUDY),
        Threshold("halved", 0.6, "loss after over before, that counts in full", "as much again may be left"),
        Threshold("sure", 5.0, "standard errors of the fall", "chance of noise below 1e-6"),
        Threshold("likely", 3.0, "standard errors of the fall", "chance of noise below 1e-2"),
        Threshold("mild", 0.2, "rate after the cut over before", "a usual staircase cuts to a tenth: what is left is small"),
        Threshold("left", 0.15, "rate at the end over its peak", "a rate that came down to a tenth was decayed"),
        Threshold("high", 0.4, "rate at the end over its peak, counted in full", "a cut to a third is a decay begun"),
        Threshold("settled", 0.5, "share of the run until the level is reached", STUDY),
        Threshold("jitter", 0.1, "noise of the validation loss over its level", STUDY),
    ),
    look_alikes=("TD201",),
    experiment="a tenth of the run more, with the rate going to zero",
    refutation="A tenth of the run more at a tenth of the rate that stays at the same level.",
)


@CAUSE.in_logs(needs=("learning_rate", "loss"))
def level_follows_the_rate(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a level that fell at once with the rate, in a run that ends with a high one."""
    from traindoctor.signals import rates

    rate, loss = m.learning_rate, m.loss
    if m.is_adversarial or not loss.is_positive:
        return
    floor = rates.floor_of_rate((rate.step, rate.value), (loss.step, loss.value))
    if floor is None or not floor.level < limits["level"] or not floor.errors < -limits["likely"]:
        return
    if floor.rate < limits["mild"] or floor.left < limits["left"]:
        yield against("decayed", floor.left, unit="rate at the end over its peak", weight=STRONG, source=rate.source,
                      text="The rate came down to where it sets no level.")  # fmt: skip
        return
    yield supports(
        "follows",
        floor.level,
        unit="loss after over before",
        weight=(STRONG if floor.errors < -limits["sure"] else MODERATE) if floor.level < limits["halved"] else WEAK,
        onset=floor.step,
        source=loss.source,
        text=f"When the rate goes to {floor.rate:.2g} of its value at {m.name_of(floor.step)}, the loss falls at once to "
        f"{floor.level:.0%} of its level, and stands again.",
    )
    yield supports(
        "left",
        floor.left,
        unit="rate at the end over its peak",
        weight=STRONG if floor.left > limits["high"] else MODERATE,
        source=rate.source,
        text=f"The rate ends at {floor.left:.0%} of its peak: a lower one would take the level down further.",
    )


@CAUSE.in_logs(needs=("learning_rate", "loss", "val_loss"))
def validation_jumps(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a plateau at a constant rate on which the weights still jump, as the validation loss shows."""
    rate, loss, validation = m.learning_rate, m.loss, m.series("val_loss")
    if m.is_adversarial or not loss.is_positive or loss.n < 40 or validation.n < 12 or not rate.is_constant:
        return
    risen = validation.tail > 1.1 * validation.best
    if risen or loss.settled > limits["settled"] or not validation.noise > limits["jitter"] or loss.tail > loss.initial:
        return
    yield supports(
        "jitter",
        validation.noise,
        unit="noise / level",
        weight=MODERATE + WEAK,
        source=validation.source,
        text=f"At a constant rate the loss stands since {loss.settled:.0%} of the run, and the validation loss still jumps by "
        f"{validation.noise:.0%} from one evaluation to the next: the weights do.",
    )


@CAUSE.fixes
def decay(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield a decay to zero."""
    from traindoctor.model import Fix

    yield Fix("Let the rate go to zero over the run", {"schedule.name": "cosine"}, note="or over the last fifth of it")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next((e.onset for e in evidence if e.onset is not None), None)
    start = int(m.loss.step[min(m.loss.n - 1, int(m.loss.settled * m.loss.n))]) if m.loss.n >= 4 else 0
    return Statement(
        f"The loss stood near {m.loss.tail:.2g}: the learning rate was never lowered enough to leave that level.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(start, int(m.loss.step[-1]) + 1, start if onset is None else onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    sgd = OptimizerSpec("sgd", lr=0.1)
    noise = [((k * 2654435761) % 2048) / 1024.0 - 1.0 for k in range(400)]
    halved, tenth = [0.1] * 200 + [0.05] * 200, [0.1] * 200 + [0.01] * 200
    plateau = [(0.5 + 1.8 * 0.93**k) * (1.0 + 0.05 * noise[k]) for k in range(400)]
    lower = [*plateau[:200], *(0.27 * (1.0 + 0.05 * noise[k]) for k in range(200, 400))]
    valid = (
        Example("a plateau at a constant rate", run_of(sgd, loss=plateau, learning_rate=[0.1] * 400)),
        Example("the loss does not mind the rate", run_of(sgd, loss=plateau, learning_rate=halved)),
        Example("a usual staircase", run_of(sgd, loss=lower, learning_rate=tenth)),
        Example("linear to zero", run_of(sgd, loss=lower, learning_rate=[0.1 * (1 - k / 400) for k in range(400)])),
        Example("one value", run_of(sgd, loss=[1.0], learning_rate=[0.1])),
    )
    invalid = (Example("halved once, and half the level at once", run_of(sgd, loss=lower, learning_rate=halved)),)
    return valid, invalid
