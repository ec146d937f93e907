"""Gradients are cleared once in an epoch: within it each update uses the sum of all gradients since its start.

## What it looks like
A sawtooth in the gradient norm. It falls back at the first step of each epoch and grows from there, as the square root of the
steps while the gradients differ, as the steps themselves while they agree. The loss is unsteady from one epoch to the next.

## Why it happens
`optimizer.zero_grad()` stands in the loop over epochs, one level above the loop over batches. PyTorch adds to `.grad`, so
that the n-th step of an epoch is given the sum of n gradients.

## When it is wrong
A curriculum within the epoch, or data that are sorted, give a norm with the period of an epoch too, but not one that grows as a
power of the steps. A learning rate that starts anew in each epoch is told by the rate. With one logged value an epoch the teeth
are hidden, and the log cannot tell. Gradient accumulation over a whole epoch steps once an epoch, and has no teeth.

## What repairs it
`optimizer.zero_grad()` in the loop over batches, before each backward pass.

## References
PyTorch documentation, torch.optim.Optimizer.zero_grad, and torch.optim, "Taking an optimization step".
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
    from traindoctor.signals.gradients import Sawtooth
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"
LAW = "0.5 for a sum of independent gradients, 1 for equal ones"

CAUSE = Cause(
    code="TD317",
    name="zero-grad-once-per-epoch",
    summary="gradients are cleared once in an epoch and add up within it",
    explanation=__doc__,
    thresholds=(
        Threshold("share", 0.45, "share of the variance of log norm that the teeth explain", STUDY),
        Threshold("beside", 0.15, "by how much that share is above the one at lengths beside it", STUDY),
        Threshold("flattest", 0.25, "growth of the norm within a tooth, log over log of the step", LAW),
        Threshold("steepest", 1.5, "growth of the norm within a tooth, log over log of the step", LAW),
        Threshold(
            "resets", 0.75, "share of the epochs at whose start the norm falls most", "one over the points of an epoch by chance"
        ),
        Threshold("drop", 2.0, "gradient norm before over behind the start of an epoch", STUDY),
        Threshold("over_noise", 3.0, "log of that drop over the median change from point to point", STUDY),
        Threshold("at_once", 0.7, "largest rise within an epoch over the drop, in logarithms; sorted data rise at once", STUDY),
        Threshold("found", 0.6, "the same share where no length of an epoch is known", STUDY),
        Threshold("points", 4.0, "logged points within a tooth of unknown length", STUDY),
        Threshold("none", 0.15, "the same share below which nothing adds up within an epoch", STUDY),
    ),
    explains=("TD201", "TD301", "TD401", "TD501", "TD507", "TD508"),
    look_alikes=("TD301", "TD501"),
    experiment="print the gradient norm right before the backward pass: it must be 0 at every step",
    refutation="A gradient norm of 0 right before each backward pass.",
)


@CAUSE.in_logs(needs=("loss", "grad_norm"))
def grows_within_epochs(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a gradient norm that starts anew with each epoch and grows within it as a sum does."""
    from traindoctor.signals.gradients import resets, sawtooth
    from traindoctor.signals.periodicity import epoch_lengths

    grad = m.grad_norm
    if m.is_adversarial or m.run.step_unit != "step" or grad.n < 24:
        return
    lengths = [one for one in epoch_lengths(m.run) if one.told_by != "found"]
    known = sawtooth(grad.step, grad.value, [one.steps for one in lengths]) if lengths else None
    if known is not None and _is_clear(known, limits, limits["share"]):
        told = next(one for one in lengths if one.steps == known.length)
        yield supports(
            "sawtooth",
            known.share,
            unit="share of the variance",
            weight=PROOF,
            onset=0,
            source=grad.source,
            text=f"Every {known.length:,.0f} steps, an epoch by {told.words}, the gradient norm falls back and grows as the "
            f"steps to the power {known.power:.2f}: that explains {known.share:.0%} of its variance.",
        )
        return
    for told in lengths:
        reset = resets(grad.step, grad.value, told.steps)
        if (
            reset is not None
            and reset.share > max(limits["resets"], 2.0 / reset.points)
            and reset.drop > limits["drop"]
            and reset.over_noise > limits["over_noise"]
            and reset.rise < limits["at_once"]
        ):
            yield supports(
                "resets",
                reset.share,
                unit="share of the epochs",
                weight=PROOF,
                onset=0,
                source=grad.source,
                text=f"The gradient norm falls by a factor of {reset.drop:.3g} at the first step of {reset.share:.0%} of the "
                f"{reset.n} epochs by {told.words}, and nowhere else as much.",
            )
            return
    found = sawtooth(grad.step, grad.value)
    if found is not None and found.length >= limits["points"] * grad.stride and _is_clear(found, limits, limits["found"]):
        yield supports(
            "sawtooth",
            found.share,
            unit="share of the variance",
            weight=STRONG + MODERATE,
            onset=0,
            source=grad.source,
            text=f"Every {found.length:,.0f} steps the gradient norm falls back and grows as the steps to the power "
            f"{found.power:.2f}: that explains {found.share:.0%} of its variance.",
        )
    elif known is not None and lengths[0].told_by != "validation" and known.share < limits["none"]:
        yield against(
            "sawtooth",
            known.share,
            unit="share of the variance",
            weight=STRONG,
            source=grad.source,
            text="The gradient norm does not grow within the epochs.",
        )


def _is_clear(tooth: Sawtooth, limits: Limits, share: float) -> bool:
    """Return whether teeth stand out, and grow as a sum of gradients does."""
    return (
        tooth.share > share
        and tooth.share > tooth.beside + limits["beside"]
        and limits["flattest"] < tooth.power < limits["steepest"]
    )


@CAUSE.fixes
def clear(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the call in its place."""
    from traindoctor.model import Fix

    yield Fix("Call optimizer.zero_grad() in the loop over batches, before each backward pass, not once per epoch")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    steps = [int(s.step[-1]) for s in m.run.primary.values() if len(s)]
    return Statement(
        "Training was disturbed from the first epoch: gradients were cleared once per epoch, and added up within it.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(0, max(steps, default=0) + 1, 0),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    import math

    from traindoctor.model import OptimizerSpec

    spec = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    jitter = [1.0 + 0.1 * ((k * 7) % 11 - 5) / 5 for k in range(400)]
    loss = [2.0 * 0.995**k * jitter[k] for k in range(400)]
    teeth = [0.5 * (1 + k % 20) ** 0.7 * jitter[(3 * k) % 400] for k in range(400)]
    epochs = [float(k // 20) for k in range(400)]
    swinging = [0.5 * (1.0 + k % 20) ** 0.9 * (1.1 + math.cos(0.4 * (k % 20))) * 1.01**k for k in range(400)]
    valid = (
        Example("noise", run_of(spec, loss=loss, grad_norm=jitter, epoch=epochs)),
        Example(
            "a sum that is never cleared", run_of(spec, loss=loss, grad_norm=[0.5 * (k + 1) for k in range(400)], epoch=epochs)
        ),
        Example(
            "sorted data: up and down within an epoch",
            run_of(spec, loss=loss, grad_norm=[1.0 + 0.5 * (abs(k % 20 - 10) / 10) for k in range(400)], epoch=epochs),
        ),
        Example("falls within an epoch", run_of(spec, loss=loss, grad_norm=[2.0 / (1 + k % 20) ** 0.5 for k in range(400)])),
        Example("three points", run_of(spec, loss=loss[:3], grad_norm=teeth[:3])),
    )
    invalid = (
        Example("teeth of an epoch", run_of(spec, loss=loss, grad_norm=teeth, epoch=epochs)),
        Example("up and down within an epoch, and anew at its start", run_of(spec, loss=loss, grad_norm=swinging, epoch=epochs)),
        Example("teeth in a log that names no epoch", run_of(spec, loss=loss, grad_norm=teeth)),
        Example(
            "every fourth step is logged",
            run_of(spec, every=4, loss=loss[:100], grad_norm=[0.5 * (1 + (4 * k) % 22) ** 0.7 for k in range(100)]),
        ),
    )
    return valid, invalid
