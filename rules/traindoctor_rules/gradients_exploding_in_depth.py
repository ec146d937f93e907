"""Gradients grow by a factor from layer to layer, or from time step to time step, on their way back.

## What it looks like
The gradient norms of the weight matrices rise geometrically from the output to the input, by decades in all. Steps are as large
as the first layers want them: the loss jumps, overflows, or stays high. In a recurrent network the norm as a whole is large from
the first step on and swings by decades from batch to batch.

## Why it happens
Each layer, and each time step of a recurrent network, multiplies the gradient by its weights and by the slope of its units. Over
n of them what is left is that factor to the power n.

## When it is wrong
Layers of different width, and embeddings, have different norms; a steady trend over depth is asked for. A learning rate that
is too high (TD201) makes the gradients of all layers grow. Initial weights that are too large (TD614) show in the loss of the
first step, and under ReLU in all layers alike. From the norm over all layers alone the cause is a guess.

## What repairs it
A bound on the gradient norm, an initialisation for the units in use (orthogonal for recurrent weights), normalisation, a
gated cell.

## References
Pascanu et al. 2013, On the difficulty of training recurrent neural networks, arXiv:1211.5063.
Schoenholz et al. 2017, Deep information propagation, arXiv:1611.01232 (the factor of tanh layers with large weights).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    code="TD320",
    name="gradients-exploding-in-depth",
    summary="gradients grow geometrically towards the input, and the loss jumps or stays high",
    explanation=__doc__,
    thresholds=(
        Threshold("span", 30.0, "first over last layer's gradient norm, by a robust fit", STUDY),
        Threshold(
            "factor", 1.4, "gradient norm of a layer over that of the next", "arXiv:1611.01232, figure 4; benchmarks/study"
        ),
        Threshold("order", -0.7, "rank correlation of gradient norm and depth", STUDY),
        Threshold("fell", 0.5, "loss at the end over the initial one, below which the run got down", STUDY),
        Threshold("restless", 0.15, "point-to-point noise of the loss over its level", STUDY),
    ),
    explains=("TD201", "TD321", "TD401", "TD612", "TD617"),
    look_alikes=("TD201", "TD614"),
    experiment="log the gradient norm of each layer over the first ten steps",
    refutation="Layers whose gradient norms are within a factor of ten.",
)


@CAUSE.in_logs(needs=("loss", "layers"))
def rises_over_depth(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield gradients that grow by a factor a layer from the first steps on, where the loss suffers."""
    from traindoctor.signals.gradients import depth_at_first

    loss = m.loss
    if m.is_adversarial or not loss.is_positive or loss.n < 8 or not loss.initial > 0.0 or m.layers.frozen:
        return
    factor, span, order, n = depth_at_first(m.layers)
    source = m.layers.source("grad_norm")
    if span < 5.0:
        yield against(
            "span",
            span,
            unit="first / last gradient norm",
            weight=STRONG,
            source=source,
            text="No layer has far more than others.",
        )
        return
    if not (factor > limits["factor"] and span > limits["span"] and order < limits["order"]):
        return
    lost = loss.n_not_finite > 0
    high = loss.tail > limits["fell"] * loss.initial
    if not (lost or high or loss.noise > limits["restless"]):
        yield against(
            "falls",
            loss.tail / loss.initial,
            unit="tail / initial loss",
            weight=STRONG,
            source=loss.source,
            text="The loss falls.",
        )
        return
    yield supports(
        "factor",
        factor,
        unit="from layer to layer",
        weight=STRONG + MODERATE if lost or high else STRONG,
        onset=0,
        source=source,
        text=f"At first, over {n} layers, the gradient grows {factor:.2f} times from each to the one before it: "
        f"the first layer has {span:,.0f} times the last one's.",
    )
    yield supports(
        "suffers",
        loss.noise,
        unit="noise / level",
        weight=MODERATE if lost or high else WEAK,
        onset=0,
        source=loss.source,
        text="The loss was lost." if lost else "The loss stays high." if high else f"The loss bounces by {loss.noise:.0%}.",
    )


@CAUSE.fixes
def bound(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the initialisation, and a bound."""
    from traindoctor.model import Fix

    yield Fix(
        "Initialise for the units in use (Xavier for tanh, He for ReLU, orthogonal for recurrent weights), or normalise layers"
    )
    yield Fix("Bound the gradient norm at 1.0", {"gradient.clip_norm": 1.0}, note="keeps the steps small; the layers stay uneven")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    return Statement(
        "Training was disturbed from the first step: gradients exploded on their way back through the layers.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(0, int(m.loss.step[-1]) + 1, 0),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    spec = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    high = [2.3 + 0.3 * ((k * 7) % 11) for k in range(60)]
    falls = [2.3 * 0.95**k + 0.02 for k in range(60)]

    def layers(factor: float, n: int = 7, size: float = 1.0) -> dict[str, Any]:
        norms = {
            f"grad_norm/layer{i}.weight": [size * factor ** (n - 1 - i) * (1.0 + 0.1 * ((k + i) % 3)) for k in range(60)]
            for i in range(n)
        }
        moves = {f"weight_norm/layer{i}.weight": [5.0 + 0.01 * k for k in range(60)] for i in range(n)}
        return norms | moves

    valid = (
        Example("grows, and the loss falls", run_of(spec, loss=falls, **layers(2.5))),
        Example("all layers alike", run_of(spec, loss=high, **layers(1.1))),
        Example("three layers", run_of(spec, loss=high, **layers(20.0, 3))),
        Example(
            "large as a whole, in every layer",
            run_of(spec, loss=high, **layers(1.0, size=1e6)),
        ),
        Example("vanishes", run_of(spec, loss=high, **layers(0.3))),
    )
    invalid = (Example("two and a half times from layer to layer", run_of(spec, loss=high, **layers(2.5))),)
    return valid, invalid
