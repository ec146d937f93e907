"""The batch size changed and the learning rate did not: the gradient noise is another, and the rate no longer suits it.

## What it looks like
From one step on the loss swings more, by the root of the factor, and its level rises and stays up, at an unchanged learning
rate. Where the batch size is logged, it falls there.

## Why it happens
The variance of a gradient over B rows goes as 1 / B, and the level that SGD keeps from the minimum as lr / B. A batch cut to a
sixteenth, for want of memory or by a changed number of processes, is a rate sixteen times as high for the noise.

## When it is wrong
Larger batches in place of a decay are meant so. Other data from that step on change level and noise too (TD508); only the
logged batch size, or the number of rows in an epoch, tells the two apart.

## What repairs it
The rate by the factor of the batch under SGD, by its root under Adam; or accumulation that keeps the batch as it was.

## References
Goyal et al. 2017, Accurate, large minibatch SGD, arXiv:1706.02677 (linear scaling). Smith et al. 2018, Don't decay the learning
rate, increase the batch size, arXiv:1711.00489. Malladi et al. 2022, On the SDEs and scaling rules for adaptive gradient
algorithms, arXiv:2205.10287 (the root for Adam).
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
    code="TD219",
    name="rate-not-scaled-to-batch",
    summary="the batch size changed and the learning rate did not",
    explanation=__doc__,
    thresholds=(
        Threshold(
            "factor", 2.0, "batch before over after", "arXiv:1706.02677, section 2: half a batch is within what runs forgive"
        ),
        Threshold("kept", 0.7, "rate after over before", "the root of a half, what Adam asks for at half the batch"),
        Threshold("rise", 1.15, "loss after over before", STUDY),
        Threshold("sure", 4.0, "standard errors of the rise", "chance of noise below 1e-4"),
        Threshold("noise", 1.5, "noise of the loss after over before", "a batch cut to less than a half"),
        Threshold(
            "unlogged", 2.0, "noise of the loss after over before, where the batch is not logged", "a batch cut to a quarter"
        ),
    ),
    explains=("TD508", "TD201"),
    look_alikes=("TD508",),
    experiment="log the batch size, and the rows seen, beside the loss",
    refutation="A batch size that is the same before and after.",
)


@CAUSE.in_logs(needs=("loss",))
def batch_is_logged(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a logged batch size that falls at an unchanged rate, and what the loss says to it."""
    from traindoctor.signals import rates

    change = rates.batch_change(m.run)
    if change is None or change.before < limits["factor"] * change.after:
        return
    if change.rate < limits["kept"]:
        yield against(
            "scaled", change.rate, unit="rate after over before", weight=PROOF, text="The learning rate was lowered with it."
        )
        return
    yield supports(
        "batch",
        change.before / change.after,
        unit="batch before over after",
        weight=STRONG,
        onset=change.step,
        text=f"The batch goes from {change.before:,.0f} to {change.after:,.0f} rows at {m.name_of(change.step)}"
        + (", at an unchanged learning rate." if change.rate == change.rate else "."),
    )
    found = rates.answer(m.loss.step, m.loss.value, change.step)
    if found is None or m.is_adversarial:
        return
    if found.ratio > limits["rise"] and found.errors > limits["sure"]:
        yield supports(
            "rise",
            found.ratio,
            unit="loss after over before",
            weight=STRONG,
            onset=change.step,
            source=m.loss.source,
            text=f"The loss goes from {found.before:.3g} to {found.after:.3g} there.",
        )
    if found.noise_ratio > limits["noise"]:
        yield supports("noise", found.noise_ratio, unit="noise after over before", weight=MODERATE, source=m.loss.source,
                       text=f"It swings {found.noise_ratio:.1f} times as much from one point to the next.")  # fmt: skip


@CAUSE.in_logs(needs=("loss",))
def noise_jumps(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield more noise and a higher level from one step on, at an unchanged rate, where no batch size is logged."""
    from traindoctor.signals import rates

    loss = m.loss
    if m.is_adversarial or not loss.is_positive or rates.batch_change(m.run) is not None or loss.rebound is not None:
        return
    jump = rates.noise_jump(loss.step, loss.value)
    if jump is None or jump[1] < limits["unlogged"] or rates.moves_near(m.run, jump[0]):
        return
    found = rates.answer(loss.step, loss.value, jump[0])
    if found is None or not (found.ratio > limits["rise"] and found.errors > limits["sure"]):
        return
    yield supports(
        "noise",
        jump[1],
        unit="noise after over before",
        weight=MODERATE,
        onset=jump[0],
        source=loss.source,
        text=f"From {m.name_of(jump[0])} on the loss swings {jump[1]:.1f} times as much, as with batches "
        f"{jump[1] ** 2:.0f} times smaller.",
    )
    yield supports(
        "rise",
        found.ratio,
        unit="loss after over before",
        weight=MODERATE,
        source=loss.source,
        text=f"Its level goes from {found.before:.3g} to {found.after:.3g} there, at an unchanged learning rate.",
    )


@CAUSE.fixes
def scale_it(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the rate by the factor of the batch."""
    from traindoctor.model import Fix
    from traindoctor.signals import rates

    change = rates.batch_change(m.run)
    if change is None:
        yield Fix("Scale the learning rate with the batch", note="by its factor under SGD, by the root of it under Adam")
        return
    adaptive = m.run.optimizer is not None and m.run.optimizer.is_adaptive
    factor = (change.after / change.before) ** (0.5 if adaptive else 1.0)
    yield Fix(
        f"Multiply the learning rate by {factor:.2g} from {m.name_of(change.step)} on",
        note="or accumulate gradients over as many batches as it takes to see the old number of rows",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next(e.onset or 0 for e in evidence if e.onset is not None)
    return Statement(
        f"The loss rose at {m.name_of(onset)}: the batch became smaller there, and the learning rate did not.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(onset, int(m.loss.step[-1]) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    sgd = OptimizerSpec("sgd", lr=0.1)
    noise = [((k * 2654435761) % 2048) / 1024.0 - 1.0 for k in range(400)]
    flat, scaled = [0.1] * 400, [0.1] * 200 + [0.1 / 16] * 200
    rows, batch = [64.0] * 400, [64.0] * 200 + [4.0] * 200
    fall = [2.0 * 0.98**k + 0.3 + 0.02 * noise[k] for k in range(400)]
    risen = [*fall[:200], *(0.55 + 0.1 * noise[k] for k in range(200, 400))]
    calm = [*fall[:200], *(0.3 + 0.1 * noise[k] for k in range(200, 400))]
    valid = (
        Example("one batch size", run_of(sgd, loss=fall, learning_rate=flat, batch_size=rows)),
        Example("scaled with the batch", run_of(sgd, loss=calm, learning_rate=scaled, batch_size=batch)),
        Example("a larger batch", run_of(sgd, loss=fall, learning_rate=flat, batch_size=batch[::-1])),
        Example("more noise, no higher level", run_of(sgd, loss=calm, learning_rate=flat)),
        Example("one value", run_of(sgd, loss=[1.0])),
    )
    invalid = (Example("a sixteenth of the batch", run_of(sgd, loss=risen, learning_rate=flat, batch_size=batch)),)
    return valid, invalid
