"""Weight decay acts on the gains of normalisation layers and on biases, which it only drives to zero.

## What it looks like
The gains of the norms fall steadily, all of them, to half of their start and below, while the weight matrices do not; the
loss ends higher than it need. Only norms per layer show it.

## Why it happens
Decay keeps the size of weight matrices in check, and their scale is free where a norm follows. A gain has no such freedom:
what is taken from it is taken from the signal. `optimizer(model.parameters())` gives all parameters one decay.

## When it is wrong
At usual decays and lengths the effect is small: over a run, gains lose about the learning rate times the decay times the
number of steps. Gains that fall without any decay are learned so.

## What repairs it
Two parameter groups: weight matrices with decay; gains, biases (and often embeddings) without.

## References
Loshchilov and Hutter 2019, Decoupled weight decay regularization, arXiv:1711.05101, algorithm 2.
Brown et al. 2020, arXiv:2005.14165, appendix B; and the two groups of nanoGPT's `configure_optimizers` (decay for 2-D
parameters only).
He et al. 2019, Bag of tricks for image classification, arXiv:1812.01187, section 3.1 ("no bias decay").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    code="TD114",
    name="decay-on-norms-and-biases",
    summary="weight decay drives the gains of norms to zero",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("fallen", 0.6, "gain at the end over its start", f"{STUDY}: gains of sound runs keep more than 0.8"),
        Threshold("apart", 1.5, "how much better the weight matrices kept their norm", STUDY),
    ),
    look_alikes=("TD106",),
    experiment="log the norm of each gain; train on with no decay for gains and biases",
    refutation="Gains that fall as far without weight decay.",
)


@CAUSE.in_logs(needs=("layers",))
def gains_fall(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield gains that fall together while the matrices stay."""
    import numpy as np

    layers = m.layers
    if not layers.has("weight_norm"):
        return
    kept = layers.growth("weight_norm")
    named = [kind == "gain" and "bias" not in name for name, kind in zip(layers.names, layers.kinds, strict=True)]
    is_gain = np.array(named) & np.isfinite(kept)
    is_matrix = layers.matrices & np.isfinite(kept)
    if not is_gain.any() or not is_matrix.any():
        return
    gains, matrices = kept[is_gain], float(np.median(kept[is_matrix]))
    level, source = float(np.median(gains)), layers.source("weight_norm")
    decay = m.setting("optimizer.weight_decay")
    if np.max(gains) < limits["fallen"] and matrices > limits["apart"] * level:
        yield supports(
            "gains",
            level,
            unit="last / first norm of the gains",
            weight=PROOF if gains.size >= 2 else STRONG,
            source=source,
            text=f"The gains of all {gains.size} norms fell, to {level:.0%} of their start, and the weight matrices "
            f"{'did not' if matrices > 0.95 else f'to {matrices:.0%}'}.",
        )
        if isinstance(decay, int | float) and decay > 0:
            yield supports(
                "decay",
                float(decay),
                unit="weight decay",
                weight=MODERATE,
                kind="config",
                source=m.origin("optimizer.weight_decay"),
                text=f"A weight decay of {decay:g} is set.",
            )
    elif level > 0.9:
        yield against(
            "gains",
            level,
            unit="last / first norm of the gains",
            weight=PROOF,
            source=source,
            text="The gains of the norms kept their size.",
        )


@CAUSE.fixes
def split_groups(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the two groups."""
    from traindoctor.model import Fix

    yield Fix(
        "Give gains and biases a parameter group with weight_decay=0",
        note="groups by dimension: parameters with two or more dimensions decay, the others do not",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    return Statement("Weight decay drove the gains of the normalisation layers towards zero.", evidence[0].text)


@CAUSE.examples
def examples() -> Examples:
    """Return runs whose gains stay, fall with all weights, and fall alone."""
    import numpy as np

    from traindoctor.model import OptimizerSpec, Run

    spec = OptimizerSpec("adamw", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.1)

    def run(gains: float, matrices: float) -> Run:
        def norm(start: float, share: float) -> list[float]:
            return list(np.geomspace(start, start * share, 40))

        norms: dict[str, Any] = {
            "weight_norm/fc1.weight": norm(6.0, matrices),
            "weight_norm/norm1.weight": norm(4.0, gains),
            "weight_norm/fc2.weight": norm(5.0, matrices),
            "weight_norm/norm2.weight": norm(4.0, gains),
        }
        return run_of(spec, loss=np.geomspace(2.3, 0.8, 40), **norms)

    valid = (
        Example("gains stay", run(0.97, 1.2)),
        Example("all weights shrink", run(0.5, 0.5)),
        Example("nothing per layer", run_of(spec, loss=np.geomspace(2.3, 0.8, 40))),
    )
    return valid, (Example("gains fall alone", run(0.3, 1.1)),)
