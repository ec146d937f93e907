"""Several processes train copies of a model, but nobody averages their gradients: the copies drift apart.

## What it looks like
Ranks that began with the same weights have weight norms, and gradient norms, that differ more and more. Each of them learns
from its own share of the data with the noise of its own small batch, and only the weights of one rank are saved.

## Why it happens
Data-parallel training keeps the copies equal by averaging gradients after each backward pass. A model that is not wrapped
(`model.module` called instead of `model`), a parameter that no forward pass uses, `no_sync` that is never left, or a loop with
its own optimizer steps leaves the average out. Nothing fails.

## How it is told
Only with the logs of two ranks. Weights that are averaged are equal to the last digit, and so are their norms. The losses of
ranks differ in any case: each has its own batch. From one log alone, the noise of a batch N times too small cannot be told from
a small batch.

## When it is wrong
Sharded training (FSDP, ZeRO, tensor and pipeline parallelism) logs norms of each rank's own part, which differ from the first
step on. Norms of gradients are often taken before they are averaged.

## What repairs it
Wrap the model (`DistributedDataParallel`), call the wrapper, and let every rank step after the same backward passes. Broadcast
the weights once before going on.

## References
PyTorch documentation, "Distributed Data Parallel", internal design: gradients are averaged, so that all model replicas see the
same. Jiang et al. 2025, Training with confidence: catching silent errors in deep learning training with automated proactive
checks, OSDI (TrainCheck: weights of ranks that must be equal). Li et al. 2020, PyTorch distributed, arXiv:2006.15704, section
3.
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

    from traindoctor.model import Evidence, Fix, Run
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD807",
    name="gradients-not-averaged-across-ranks",
    summary="copies of the model on several ranks drift apart: their gradients are not averaged",
    explanation=__doc__,
    thresholds=(
        Threshold(
            "equal", 1e-5, "relative difference of two norms that are the same", "float32: 6e-8 a term, summed in another order"
        ),
        Threshold(
            "apart",
            1e-3,
            "relative difference of two norms that are not",
            "benchmarks/study: averaged ranks are equal to the bit",
        ),
    ),
    experiment="compare a checksum of the weights on two ranks after ten steps",
    refutation="Weights of two ranks that are equal after the last step.",
)


@CAUSE.in_logs(needs=("loss",))
def ranks_drift_apart(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield how far the norms of two ranks are apart; equal ones speak against."""
    from traindoctor.signals.boundaries import drifts

    by_tag = {s.tag: s.quantity for s in m.run.series}
    for drift in sorted(drifts(m.run), key=lambda d: by_tag[d.tag], reverse=True):  # weights before gradients
        quantity = by_tag[drift.tag]
        if quantity not in ("weight_norm", "grad_norm"):
            continue
        what = quantity.replace("_", " ")
        if drift.last <= limits["equal"] and drift.first <= limits["equal"]:
            yield against(
                quantity,
                drift.last,
                weight=PROOF if quantity == "weight_norm" else STRONG,
                source=m.series(quantity).source,
                text=f"The {what}s of rank {drift.rank} and of the first one are equal to the end.",
            )
        elif drift.last > limits["apart"] and quantity == "weight_norm":
            grown, growing = drift.last > 3.0 * drift.first, drift.last > 1.5 * drift.first
            yield supports(
                quantity,
                drift.last,
                unit="relative difference",
                weight=PROOF if grown else STRONG + MODERATE if growing else STRONG,
                onset=drift.step,
                source=f"{m.series(quantity).source}, rank {drift.rank}",
                text=f"The weight norm of rank {drift.rank} is {drift.last:.2%} away from the first one's at the end, after "
                f"{drift.first:.2%} at the start: copies whose gradients are averaged stay equal"
                + ("." if grown else ", unless each rank holds a part of the model."),
            )
        elif drift.last > limits["apart"]:
            yield supports(
                quantity,
                drift.last,
                unit="relative difference",
                weight=STRONG + MODERATE,
                onset=drift.step,
                source=f"{m.series(quantity).source}, rank {drift.rank}",
                text=f"The gradient norm of rank {drift.rank} differs from the first one's by {drift.last:.0%}: after they are "
                "averaged, gradients are equal.",
            )
        else:
            continue
        return  # one pair of ranks and one quantity decide; the others say the same


@CAUSE.fixes
def average(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the wrapper that averages."""
    from traindoctor.model import Fix

    del m, limits
    yield Fix(
        "Wrap the model in DistributedDataParallel and call the wrapper, not its .module",
        note="begin again from one rank's weights, sent to all; the learning rate may go up with the batch",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next((e.onset for e in evidence if e.onset is not None), 0)
    return Statement(
        f"The ranks trained apart from {m.name_of(onset)}: their gradients were not averaged.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(onset, int(m.loss.step[-1]) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    import numpy as np

    from traindoctor.model import OptimizerSpec

    sgd = OptimizerSpec("sgd", lr=0.1)
    fall = [2.3 * 0.98**k for k in range(100)]
    weights = [10.0 + 0.01 * k for k in range(100)]

    def beside(run: Run, **other: list[float]) -> Run:
        series = {s.tag: s for s in run.series}
        extra = [
            replace(series[tag], tag=f"{tag} (rank 1)", quantity="", value=np.array(value), step=series[tag].step[: len(value)])
            for tag, value in other.items()
        ]
        return replace(run, series=(*run.series, *extra))

    valid = (
        Example("one process", run_of(sgd, loss=fall, weight_norm=weights)),
        Example("equal weights", beside(run_of(sgd, loss=fall, weight_norm=weights), weight_norm=weights)),
        Example("losses of ranks differ", beside(run_of(sgd, loss=fall), loss=[v * 1.2 for v in fall])),
        Example(
            "each rank holds a part of the model",
            beside(run_of(sgd, loss=fall, weight_norm=weights), weight_norm=[0.7 * v for v in weights]),
        ),
        Example("two points", beside(run_of(sgd, loss=fall, weight_norm=weights), weight_norm=weights[:2])),
        Example(
            "weights equal, gradients logged before the average",
            beside(
                run_of(sgd, loss=fall, weight_norm=weights, grad_norm=fall),
                weight_norm=weights,
                grad_norm=[0.9 * v for v in fall],
            ),
        ),
    )
    drifting = [v * (1.0 + 0.001 * k) for k, v in enumerate(weights)]
    invalid = (
        Example("weights drift apart", beside(run_of(sgd, loss=fall, weight_norm=weights), weight_norm=drifting)),
        Example("gradients differ", beside(run_of(sgd, loss=fall, grad_norm=fall), grad_norm=[0.8 * v for v in fall])),
    )
    return valid, invalid
