"""One group of parameters learns at a rate of its own that does not suit it: its layers run away, or stand still.

## What it looks like
One layer's updates are tens of times larger, or smaller, over its weights than those of all other layers; its weight norm grows
many times over, or stays the same to three digits, while the rest of the network trains. Where the rates of several groups
are logged, they are decades apart.

## Why it happens
A group with a rate that was meant for another run, a factor applied twice, or a rate in a unit of its own (a tenth of a
percent of the backbone's) in the parameter groups of the optimizer.

## When it is wrong
Fine-tuning lowers the rates of the first layers by a factor of up to a hundred, on purpose, and biases and gains move on a
scale of their own. A frozen layer is frozen to the last bit; that is another cause (TD305).

## What repairs it
One rate for all groups, then factors of at most ten.

## References
Howard and Ruder 2018, Universal language model fine-tuning for text classification, arXiv:1801.06146, section 3.2 (a factor
of 2.6 a layer). Karpathy, CS231n, "Ratio of weights:updates" (about 1e-3 in every layer). PyTorch documentation, torch.optim,
"Per-parameter options".
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
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD220",
    name="group-at-wrong-rate",
    summary="one group of parameters learns at a rate that does not suit it",
    explanation=__doc__,
    thresholds=(
        Threshold("apart", 1.3, "decades between a layer's update ratio and the others'", STUDY),
        Threshold("far", 1.8, "decades between a layer's update ratio and the others'", STUDY),
        Threshold("grown", 1.0, "decades between a layer's growth of weights and the others'", STUDY),
        Threshold("moved", 1.5, "decades between how far a layer's weight norm moved and the others'", STUDY),
        Threshold(
            "rates", 30.0, "highest over lowest rate of the groups", "arXiv:1801.06146: 2.6 a layer, 2.6**3 = 18 over four"
        ),
        Threshold(
            "vanishing", 1.0, "decades between a layer's gradient norm and the others'", "then the gradient explains its updates"
        ),
        Threshold("absurd", 900.0, "highest over lowest rate of the groups", "2.6**7 = 800 over eight layers"),
    ),
    look_alikes=("TD201", "TD305"),
    experiment="log the update-to-weight ratio of each layer over a hundred steps",
    refutation="Update-to-weight ratios of all layers within a factor of ten of each other.",
)


@CAUSE.in_logs(needs=("loss",))
def layer_stands_out(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a layer whose updates, or weights, are decades from those of all others."""
    from traindoctor.signals import rates

    odd = rates.odd_layer(m.layers)
    adaptive = m.run.optimizer is not None and m.run.optimizer.is_adaptive
    if odd is None or (not adaptive and odd.gradient * odd.direction > limits["vanishing"]):
        return  # under SGD its gradient explains it
    size = abs(odd.updates)
    if size >= limits["apart"]:
        yield supports(
            "updates",
            odd.updates,
            unit="decades from the other layers",
            weight=STRONG if size >= limits["far"] else MODERATE,
            onset=int(m.loss.step[0]),
            source=m.layers.source("update_ratio"),
            text=f"The updates of {odd.name} are {10.0**size:,.0f} times as {'large' if odd.updates > 0 else 'small'} over its "
            "weights as those of the other layers.",
        )
    if odd.growth >= limits["grown"]:
        yield supports(
            "grown",
            odd.growth,
            unit="decades from the other layers",
            weight=MODERATE + WEAK,
            onset=int(m.loss.step[0]),
            source=m.layers.source("weight_norm"),
            text=f"The weight norm of {odd.name} grows {10.0**odd.growth:,.0f} times as much as the others'.",
        )
    elif abs(odd.moved) >= limits["moved"]:
        yield supports(
            "moved",
            odd.moved,
            unit="decades from the other layers",
            weight=STRONG if abs(odd.moved) > 2.0 * limits["moved"] else MODERATE,
            onset=int(m.loss.step[0]),
            source=m.layers.source("weight_norm"),
            text=f"The weight norm of {odd.name} moves {10.0 ** abs(odd.moved):,.0f} times "
            f"{'less' if odd.moved < 0 else 'more'} than the others'.",
        )


@CAUSE.in_logs(needs=("learning_rate",))
def rates_apart(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield rates of groups that are decades apart, or that are near each other."""
    from traindoctor.signals import rates

    groups = rates.rates_of_groups(m.run)
    if groups is None:
        return
    slow, fast, ratio = groups
    if ratio >= limits["rates"]:
        yield supports(
            "rates",
            ratio,
            unit="highest over lowest",
            weight=PROOF if ratio >= limits["absurd"] else STRONG,
            source=f"{slow} and {fast}",
            text=f"The learning rate of {fast} is {ratio:,.0f} times that of {slow}.",
        )


@CAUSE.fixes
def one_rate(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield one rate for all."""
    from traindoctor.model import Fix

    yield Fix("Give all parameter groups one learning rate", note="then factors of at most ten, one at a time")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment
    from traindoctor.signals import rates

    odd = rates.odd_layer(m.layers)
    text = " ".join(e.text for e in evidence if e.supports)
    if odd is None or not m.has("loss"):
        return Statement("One group of parameters learnt at a rate decades from the others'.", text)
    how = "hardly moved" if odd.direction < 0 else "ran away"
    first = int(m.loss.step[0])
    title = f"The layer {odd.name} {how} while the others trained: its learning rate did not suit it."
    return Statement(title, text, Segment(first, int(m.loss.step[-1]) + 1, first))


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    import numpy as np

    from traindoctor.model import OptimizerSpec, Run, Series

    adam = OptimizerSpec("adam", lr=1e-3)
    fall = [2.3 * 0.98**k + 0.1 for k in range(100)]

    def with_layers(rates: dict[str, float], growth: dict[str, float]) -> Run:
        step = np.arange(100)
        layers = []
        for name, rate in rates.items():
            norm = 3.0 * np.linspace(1.0, growth.get(name, 1.1), 100)
            for quantity, tag, value in (
                ("update_ratio_layer", "update_ratio", np.full(100, rate)),
                ("weight_norm_layer", "weight_norm", norm),
            ):
                layers.append(Series(quantity, f"{tag}/{name}.weight", step, value, np.full(100, np.nan), "example"))
        run = run_of(adam, loss=fall)
        return replace(run, series=(*run.series, *layers))

    even = {"fc1": 1e-3, "fc2": 2e-3, "fc3": 1e-3, "head": 3e-3}
    valid = (
        Example("even layers", with_layers(even, {})),
        Example("a tenth of the rate", with_layers(even | {"fc1": 1e-4}, {"fc1": 1.02})),
        Example("no layers are logged", run_of(adam, loss=fall)),
    )
    invalid = (
        Example("a head that runs away", with_layers(even | {"head": 0.3}, {"head": 60.0})),
        Example("a layer that hardly moves", with_layers(even | {"fc1": 1e-6}, {"fc1": 1.0001})),
    )
    return valid, invalid
