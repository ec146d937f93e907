"""Adam's beta2 is so low that the second moment follows single gradients: steps of full size, however noisy they are.

## What it looks like
A loss that falls at once and then stays at a noisy level, at a learning rate that is usual for Adam; updates whose size does not
depend on the gradient. With a logged update norm it is nearly constant.

## Why it happens
The update is m / sqrt(v). With beta2 of 0.999 the root averages a thousand gradients; with 0.5 it averages two, so that every
update is about as large as the learning rate, whatever the gradient. Convergence is only known for beta1 < sqrt(beta2) and beta2
large enough for the noise of the batches.

## When it is wrong
0.95 and 0.98 are usual for transformers, 0.9 works for full batches and large ones. Where the run got down well there is
nothing to repair. A log without the settings cannot tell this from a learning rate that is too high.

## What repairs it
beta2 back to 0.999, or 0.95 to 0.98 for large batches. A learning rate that decays hides it.

## References
Zhang et al. 2022, Adam can converge without any modification on update rules, arXiv:2208.09632, theorems 3.1 and 4.3.
Reddi, Kale and Kumar 2018, On the convergence of Adam and beyond, arXiv:1904.09237, theorem 1 (beta1 < sqrt(beta2)).
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
    code="TD110",
    name="beta2-too-low",
    summary="the second moment follows single gradients, so that noise moves the weights at full size",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("usual", 0.9, "beta2", "the lowest in common recipes: 0.9 for full batches, 0.95 for transformers"),
        Threshold("left", 0.03, "tail loss over initial loss", STUDY),
        Threshold("noise", 0.08, "point-to-point noise over the level", STUDY),
    ),
    explains=("TD201", "TD215"),
    look_alikes=("TD201", "TD215"),
    experiment="a tenth of the run with beta2 = 0.999: it passes the old level if beta2 held it",
    refutation="A run with beta2 = 0.999 that stays at the same level.",
)


def _beta2(m: Measurements) -> float | None:
    spec = m.run.optimizer
    return spec.beta2 if spec is not None and spec.is_adam else None


@CAUSE.in_logs(needs=("loss", "optimizer.beta2"))
def set_low(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the setting against beta1 and the usual ones."""
    beta1, beta2 = m.optimizer.beta1, _beta2(m)
    if beta2 is None:
        return
    source = m.origin("optimizer.beta2")
    if beta2 >= limits["usual"]:
        yield against("beta2", beta2, weight=PROOF, kind="config", source=source, text=f"A beta2 of {beta2:g} is usual.")
        return
    below = beta1 is not None and beta1 > beta2**0.5
    yield supports(
        "beta2",
        beta2,
        weight=STRONG if below else MODERATE,
        kind="config",
        source=source,
        text=f"beta2 is {beta2:g}: the second moment averages the last {1.0 / (1.0 - beta2):.1f} gradients"
        + (f", and sqrt(beta2) is below beta1 = {beta1:g}." if below else "."),
    )


@CAUSE.in_logs(needs=("loss", "optimizer.beta2"))
def stays_noisy(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a noisy level, or that the run got down well."""
    loss, beta2 = m.loss, _beta2(m)
    if beta2 is None or beta2 >= limits["usual"] or m.is_adversarial or not loss.is_positive or loss.n < 8:
        return
    left = loss.tail / loss.initial
    if left < 0.1 * limits["left"]:
        yield against("left", left, unit="tail / initial loss", weight=STRONG, source=loss.source, text="The loss got down well.")
    elif left > limits["left"]:
        yield supports(
            "left",
            left,
            unit="tail / initial loss",
            weight=MODERATE,
            source=loss.source,
            text=f"At the end {left:.0%} of the loss is still there.",
        )
    if left > limits["left"] and loss.noise > limits["noise"]:
        yield supports(
            "noise",
            loss.noise,
            unit="noise / level",
            weight=MODERATE if loss.noise > 2.0 * limits["noise"] else WEAK,
            source=loss.source,
            text=f"The loss moves by {loss.noise:.0%} from point to point.",
        )


@CAUSE.in_logs(needs=("loss", "optimizer.beta2"))
def diverges(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a loss that grew beyond its start or was lost, where beta1 is above sqrt(beta2)."""
    loss, beta1, beta2 = m.loss, m.optimizer.beta1, _beta2(m)
    if beta1 is None or beta2 is None or beta1 <= beta2**0.5 or m.is_adversarial or not loss.is_positive or loss.n < 1:
        return
    lost = loss.first_not_finite() is not None
    if lost or loss.highest > 10.0 * loss.initial:
        yield supports(
            "diverges",
            loss.highest / loss.initial,
            unit="times the initial loss",
            weight=STRONG,
            source=loss.source,
            text=f"The loss {'was lost' if lost else f'rose to {loss.highest:.3g}'}: beta1 above sqrt(beta2) drives Adam apart.",
        )


@CAUSE.fixes
def raise_it(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the usual moments."""
    from traindoctor.model import Fix

    beta1 = m.optimizer.beta1 if m.run.optimizer is not None and m.optimizer.beta1 is not None else 0.9
    yield Fix("Raise beta2 to 0.999", {"optimizer.betas": [beta1, 0.999]})


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    return Statement(f"beta2 = {m.optimizer.beta2:g} made every update full-size noise.", " ".join(e.text for e in evidence[:3]))


@CAUSE.examples
def examples() -> Examples:
    """Return sound runs at usual and low values, and noisy ones at low values."""
    import numpy as np

    from traindoctor.model import OptimizerSpec

    def spec(beta2: float, beta1: float = 0.9) -> OptimizerSpec:
        return OptimizerSpec("adam", lr=1e-3, beta1=beta1, beta2=beta2, eps=1e-8)

    noise = np.random.default_rng(0).normal(size=200)
    level = (0.5 + 1.8 * np.exp(-np.arange(200) / 8.0)) * np.exp(0.3 * noise)
    valid = (
        Example("usual", run_of(spec(0.999), loss=level)),
        Example("as for transformers", run_of(spec(0.95), loss=level)),
        Example("low and harmless", run_of(spec(0.5, 0.0), loss=np.geomspace(2.0, 1e-4, 200))),
        Example("not Adam", run_of(OptimizerSpec("sgd", lr=0.1), loss=level)),
    )
    apart = np.geomspace(2.0, 1e6, 60)
    invalid = (
        Example("low and noisy", run_of(spec(0.1), loss=level)),
        Example("below the square of beta1", run_of(spec(0.0), loss=apart)),
    )
    return valid, invalid
