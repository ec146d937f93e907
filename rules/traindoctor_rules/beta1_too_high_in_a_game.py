"""The momentum of Adam is that of supervised training, in a game of two networks that each move the other's target.

## What it looks like
Losses of generator and discriminator that swing against each other, without rest or ever more widely, with Adam's default beta1
of 0.9 (or a momentum of 0.9).

## Why it happens
A game's vector field rotates about its equilibrium. Averaging past gradients delays the turn, so that momentum feeds the
rotation; in bilinear games only zero or negative momentum converges.

## When it is wrong
A game's losses are no measure of its quality, and many generators train well at 0.9: a log cannot prove this, so that it is
said as information. Look at samples or at a score of them.

## What repairs it
beta1 of 0.5 or 0 for both networks; a critic with weight clipping wants RMSprop without momentum.

## References
Radford, Metz and Chintala 2016, DCGAN, arXiv:1511.06434, section 4 (beta1 0.5 instead of 0.9, which oscillated).
Gidel et al. 2019, Negative momentum for improved game dynamics, arXiv:1807.04740, theorem 5.
Arjovsky, Chintala and Bottou 2017, Wasserstein GAN, arXiv:1701.07875, section 4.
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

CAUSE = Cause(
    code="TD113",
    name="beta1-too-high-in-a-game",
    summary="momentum of 0.9 feeds the rotation of a game of two networks",
    explanation=__doc__,
    severity="info",
    thresholds=(
        Threshold("momentum", 0.8, "beta1 or momentum", "arXiv:1511.06434, section 4: 0.9 oscillated, 0.5 did not"),
        Threshold("swing", 0.3, "share of the variance at one period", "definition: a third of what moves, moves in step"),
    ),
    look_alikes=("TD201",),
    experiment="a run with beta1 = 0.5 for both networks, judged by samples",
    refutation="Losses that swing as widely with beta1 = 0.5.",
)


@CAUSE.in_logs(needs=("loss", "optimizer.beta1|optimizer.momentum"))
def swings(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the setting in a game, and losses that swing."""
    if not m.is_adversarial:
        return
    name = "optimizer.beta1" if m.has("optimizer.beta1") else "optimizer.momentum"
    value = m.setting(name)
    if not isinstance(value, int | float):
        return
    if value < limits["momentum"]:
        yield against(
            "momentum", float(value), weight=PROOF, kind="config", source=m.origin(name), text=f"A momentum of {value:g} is low."
        )
        return
    yield supports(
        "momentum",
        float(value),
        weight=MODERATE,
        kind="config",
        source=m.origin(name),
        text=f"Two networks play against each other, and the momentum is {value:g}.",
    )
    period, share = m.loss.oscillation
    if share > limits["swing"]:
        yield supports(
            "swing",
            share,
            unit="of the variance",
            weight=STRONG,
            source=m.loss.source,
            text=f"{m.loss.tag} swings with a period of {period:,.0f} steps, which is {share:.0%} of how it varies.",
        )
        thirds = [float(part.std()) for part in (m.loss.value[: m.loss.n // 3], m.loss.value[-(m.loss.n // 3) :])]
        if thirds[0] > 0.0 and thirds[1] > 1.5 * thirds[0]:
            yield supports(
                "wider",
                thirds[1] / thirds[0],
                unit="last / first spread",
                weight=WEAK,
                source=m.loss.source,
                text="It swings ever more widely.",
            )


@CAUSE.fixes
def lower(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the momentum of the published recipes."""
    from traindoctor.model import Fix

    spec = m.run.optimizer
    if spec is not None and spec.is_adam:
        yield Fix("Lower beta1 to 0.5, for both networks", {"optimizer.betas": [0.5, spec.beta2 or 0.999]})
    else:
        yield Fix("Lower the momentum to 0, for both networks", {"optimizer.momentum": 0.0})


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    return Statement("The losses of the two networks swing, and momentum feeds such swings.", " ".join(e.text for e in evidence))


@CAUSE.examples
def examples() -> Examples:
    """Return games that swing and that do not."""
    from dataclasses import replace

    import numpy as np

    from traindoctor.model import OptimizerSpec, Run

    rng = np.random.default_rng(0)
    noise = 0.05 * rng.normal(size=200)
    wave = np.sin(np.arange(200) / 4.0) * np.linspace(0.2, 0.8, 200)

    def game(beta1: float, judge: list[float]) -> Run:
        run = run_of(OptimizerSpec("adam", lr=2e-4, beta1=beta1, beta2=0.999), loss=judge)
        named = replace(run.series[0], tag="d_loss")
        return replace(run, series=(named,), primary={"loss": named})

    valid = (
        Example("swings at a low momentum", game(0.5, list(0.7 + wave + noise))),
        Example("at rest", game(0.9, list(0.7 + noise))),
        Example("not a game", run_of(OptimizerSpec("adam", lr=2e-4, beta1=0.9), loss=list(1.5 + wave))),
    )
    return valid, (Example("swings at 0.9", game(0.9, list(0.9 + wave + noise))),)
