"""Gradients shrink by a factor from layer to layer on their way back: the first layers hardly learn.

## What it looks like
The gradient norms of the weight matrices fall geometrically from the output to the input, by decades in all, and the loss stays
where it began. The norm over all layers looks normal, since the last layers make it.

## Why it happens
Each layer multiplies the gradient by its weights and by the slope of its units. A sigmoid has a slope of 1/4 at most, a unit
that is saturated none: over n layers what is left is that factor to the power n.

## When it is wrong
Deep networks that learn have small gradients in some layers too, and normalised layers make the size of a gradient mean
little: no absolute value is asked for, and without a loss that stays nothing is said. Layers that were frozen on purpose have
no gradient at all. Dead units (TD612) cut the gradient off at one layer, not step by step.

## What repairs it
Units that do not saturate (ReLU, GELU), residual connections, normalisation, an initialisation for the units in use; for
recurrent networks a gated cell.

## References
Glorot and Bengio 2010, Understanding the difficulty of training deep feedforward neural networks, AISTATS, PMLR 9, 249.
He et al. 2015, Deep residual learning for image recognition, arXiv:1512.03385.
Pascanu et al. 2013, On the difficulty of training recurrent neural networks, arXiv:1211.5063.
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
    code="TD321",
    name="gradients-vanishing-in-depth",
    summary="gradients shrink geometrically towards the input, and the loss does not fall",
    explanation=__doc__,
    thresholds=(
        Threshold("span", 0.01, "first over last layer's gradient norm, by a robust fit", STUDY),
        Threshold(
            "factor",
            0.6,
            "gradient norm of a layer over that of the next",
            "1/4 at most for a sigmoid of small weights; benchmarks/study",
        ),
        Threshold("order", 0.7, "rank correlation of gradient norm and depth", STUDY),
        Threshold("flat", 0.85, "loss at the end over the initial one", STUDY),
        Threshold("slow", 0.6, "best loss over the initial one, where no layer is normalised", STUDY),
        Threshold("late", 0.3, "share of the run in which the loss stayed where it began", STUDY),
    ),
    explains=("TD202", "TD220", "TD617"),
    look_alikes=("TD614", "TD612"),
    experiment="log the gradient norm of each layer; train the same depth with ReLU, or with residual connections",
    refutation="Layers whose gradient norms are within a factor of ten.",
)


@CAUSE.in_logs(needs=("loss", "layers"))
def falls_over_depth(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield gradients that shrink by a factor a layer, where the loss stays."""
    from traindoctor.signals.gradients import stayed
    from traindoctor.signals.layers import START

    loss = m.loss
    if m.is_adversarial or not loss.is_positive or loss.n < 8 or not loss.initial > 0.0:
        return
    trend = m.layers.depth_trend(START)
    if trend is None or trend.n < 4 or m.layers.frozen:
        return
    source = m.layers.source("grad_norm")
    if trend.span > 0.1:
        yield against(
            "span",
            trend.span,
            unit="first / last gradient norm",
            weight=STRONG,
            source=source,
            text="All layers have a gradient.",
        )
        return
    shrinks = trend.factor < limits["factor"] and trend.span < limits["span"] and trend.order > limits["order"]
    if not shrinks:
        return
    stays = loss.tail > limits["flat"] * loss.initial and loss.tail < loss.initial / limits["flat"]
    plain = "gain" not in m.layers.kinds  # with normalised layers a steady fall over depth is common, and harmless
    slow = stays or stayed(loss) > limits["late"] or (plain and loss.best > limits["slow"] * loss.initial)
    if not slow:
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
        trend.factor,
        unit="from layer to layer",
        weight=STRONG + MODERATE if stays or trend.span < 0.1 * limits["span"] else STRONG,
        onset=0,
        source=source,
        text=f"Over {trend.n} layers the gradient shrinks to {trend.factor:.2f} of itself from each to the one before it: "
        f"the first layer has {trend.span:.1g} of the last one's.",
    )
    yield supports(
        "stays",
        loss.tail / loss.initial,
        unit="tail / initial loss",
        weight=MODERATE if stays else WEAK,
        onset=0,
        source=loss.source,
        text="The loss stays where it began." if stays else f"The loss stays for {stayed(loss):.0%} of the run.",
    )


@CAUSE.fixes
def let_it_through(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield what lets gradients through."""
    from traindoctor.model import Fix

    yield Fix(
        "Use units that do not saturate (ReLU, GELU) with an initialisation for them, or residual connections with normalisation",
        note="a learning rate cannot make up for a factor that differs from layer to layer",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    return Statement(
        "Training hardly moved: gradients vanished on their way back through the layers.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(0, int(m.loss.step[-1]) + 1, 0),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    spec = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    flat = [2.3 + 0.01 * ((k * 7) % 11) for k in range(60)]
    falls = [2.3 * 0.95**k + 0.02 for k in range(60)]

    def layers(factor: float, n: int = 7, size: float = 1.0) -> dict[str, Any]:
        norms = {
            f"grad_norm/layer{i}.weight": [size * factor ** (n - 1 - i) * (1.0 + 0.1 * ((k + i) % 3)) for k in range(60)]
            for i in range(n)
        }
        moves = {f"weight_norm/layer{i}.weight": [5.0 + 0.01 * k for k in range(60)] for i in range(n)}
        return norms | moves

    valid = (
        Example("vanishes, and the loss falls", run_of(spec, loss=falls, **layers(0.3))),
        Example("all layers alike", run_of(spec, loss=flat, **layers(0.95))),
        Example("three layers", run_of(spec, loss=flat, **layers(0.05, 3))),
        Example(
            "small as a whole, in every layer",
            run_of(spec, loss=flat, **layers(1.0, size=1e-9)),
        ),
        Example("explodes", run_of(spec, loss=flat, **layers(3.0))),
    )
    invalid = (Example("a third is left from layer to layer", run_of(spec, loss=flat, **layers(0.3))),)
    return valid, invalid
