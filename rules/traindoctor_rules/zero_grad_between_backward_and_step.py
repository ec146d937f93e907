"""Gradients are cleared between the backward pass and the step: the optimizer never sees one.

## What it looks like
The weights do not move: their norm is the same to the last bit, and the loss changes by the noise of the batches
alone. A gradient norm that is logged after the clearing is exactly 0; one that is logged before it looks normal.

## Why it happens
`loss.backward(); optimizer.zero_grad(); optimizer.step()`: the gradients are thrown away before they are used.

## When it is wrong
Weights that do not move have other causes: an optimizer that holds other parameters (then their gradients pile up,
since nothing clears them), a learning rate of zero, frozen parameters, step() never called. A gradient norm of 0 with
a loss that falls is a log that reads the gradient after it was cleared.

## What repairs it
`optimizer.zero_grad()` before the backward pass, or after the step.

## References
PyTorch documentation, torch.optim, "Taking an optimization step".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.code.order import clears_correctly, zero_grad_between
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
    disproven,
    proven,
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence, Fix, TrainingLoop
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD302",
    name="zero-grad-between-backward-and-step",
    summary="gradients are cleared before the step: the optimizer never sees one",
    explanation=__doc__,
    thresholds=(
        Threshold("sure", 5.0, "standard errors of a fall of the loss", "chance of noise below 1e-6"),
        Threshold(
            "piles", 0.7, "growth of the gradient norm, log over log of the step", "1 for gradients that are never cleared"
        ),
    ),
    explains=("TD202",),
    look_alikes=("TD204", "TD202"),
    experiment="print the gradient norm right before optimizer.step(), and the ids of the optimizer's parameters",
    refutation="A gradient norm above 0 right before optimizer.step().",
)


@CAUSE.in_logs(needs=("loss", "grad_norm|weight_norm"))
def nothing_moves(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield exact zeros and exact constants: no threshold is needed."""
    grad_is_zero = m.has("grad_norm") and m.grad_norm.is_zero
    still = m.has("weight_norm") and m.weight_norm.is_constant
    if not grad_is_zero and not still:
        if m.has("weight_norm") and m.weight_norm.n >= 3:
            yield against(
                "weights", m.weight_norm.relative_change, weight=PROOF, source=m.weight_norm.source, text="The weights move."
            )
        return
    if m.peak_lr is not None and m.peak_lr <= 0.0:
        yield against("rate", m.peak_lr, weight=PROOF, kind="config", source=m.lr_source, text="The learning rate is zero.")
        return
    falls = m.loss.fall_significance > limits["sure"] and m.loss.tail < 0.95 * m.loss.initial
    if grad_is_zero and not falls:
        yield supports(
            "grad_norm",
            0.0,
            weight=STRONG + MODERATE,
            onset=int(m.grad_norm.step[0]),
            source=m.grad_norm.source,
            text=f"The gradient norm is exactly 0 at all {m.grad_norm.n:,} logged steps.",
        )
    elif grad_is_zero:
        yield against(
            "loss",
            m.loss.tail,
            weight=PROOF,
            source=m.loss.source,
            text="The loss falls: the gradient norm was read after it was cleared.",
        )
        return
    if still:
        yield supports(
            "weights",
            m.weight_norm.initial,
            unit="weight norm",
            weight=STRONG + MODERATE,
            onset=int(m.weight_norm.step[0]),
            source=m.weight_norm.source,
            text="The weight norm is the same to the last bit from first to last step.",
        )
        if m.has("grad_norm") and not grad_is_zero and m.grad_norm.growth(1, 10**9) > limits["piles"]:
            yield against(
                "piles",
                m.grad_norm.growth(1, 10**9),
                weight=PROOF,
                source=m.grad_norm.source,
                text="The gradients pile up: nothing clears them, so the optimizer does not hold these parameters.",
            )


@CAUSE.in_code
def cleared_too_late(loop: TrainingLoop) -> Iterator[Evidence]:
    """Yield the call that clears between backward and step, or the order that does not."""
    place = zero_grad_between(loop)
    if place is not None:
        yield proven(
            "cleared_before_step",
            place,
            "zero_grad stands between backward pass and step: the step sees gradients of zero.",
        )
    elif clears_correctly(loop):
        yield disproven("cleared", loop.location, "The loop clears the gradients before each backward pass.")


@CAUSE.fixes
def move(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the order that works."""
    from traindoctor.model import Fix

    yield Fix("Move optimizer.zero_grad() before the backward pass")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    steps = [int(s.step[-1]) for s in m.run.primary.values() if len(s)]
    proven = any(e.kind == "code" and e.supports for e in evidence)
    why = (
        "gradients were cleared between backward and step"
        if proven
        else "no gradient reached the optimizer, as when they are cleared before the step"
    )
    return Statement(
        f"Training never started: {why}, and the weights did not move.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(0, max(steps, default=0) + 1, 0),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    spec = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    flat = [2.3 + 0.01 * ((k * 7) % 11) for k in range(60)]
    valid = (
        Example("weights move", run_of(spec, loss=flat, grad_norm=[0.5] * 60, weight_norm=[5.0 + 0.001 * k for k in range(60)])),
        Example(
            "norm read after the clearing, loss falls", run_of(spec, loss=[2.3 * 0.9**k for k in range(60)], grad_norm=[0.0] * 60)
        ),
        Example("learning rate of zero", run_of(OptimizerSpec("sgd", lr=0.0), loss=flat, weight_norm=[5.0] * 60)),
        Example(
            "other parameters: gradients pile up",
            run_of(spec, loss=flat, grad_norm=[0.5 * (k + 1) for k in range(60)], weight_norm=[5.0] * 60),
        ),
        Example("flat loss alone decides nothing", run_of(spec, loss=flat)),
    )
    invalid = (
        Example("gradient norm exactly 0", run_of(spec, loss=flat, grad_norm=[0.0] * 60)),
        Example(
            "weights constant to the last bit", run_of(spec, loss=flat, grad_norm=[0.5, 0.6, 0.4] * 20, weight_norm=[5.0] * 60)
        ),
    )
    return valid, invalid
