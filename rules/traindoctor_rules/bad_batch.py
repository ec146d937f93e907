"""One batch, or one sample, is far from all others, and disturbs training each time it comes.

## What it looks like
A spike of the loss that is one point wide, at the same place of every epoch, or once in every epoch where the data are mixed.
The gradient norm jumps at the same step. A few steps later the loss is where it was.

## Why it happens
A corrupt file, a row in another unit, an empty or endless text, a label that is not in the list, a division by a zero width.
The sample comes once an epoch, and with it the spike.

## How it is told
By when: at one phase of the epoch, or exactly once in each. Spikes of a heavy tail, of a rate that is too high or of an
optimizer that lost its memory keep to no epoch. Data that are sorted move the loss over the whole epoch, not at one place of
it. A learning rate that restarts makes bumps at its own period, and the log shows it.

## When it is wrong
Something else that is done once an epoch and reaches the loss: a penalty that is added, an evaluation in the training loop. One
single spike from which the run recovers is no fault.

## What repairs it
Log the indices of the samples of a batch whose loss or gradient norm is ten times the median, look at them, mend or leave them
out. Clipping the gradient bounds what one batch can do until then.

## References
Chowdhery et al. 2022, PaLM, arXiv:2204.02311, section 5.1: spikes there were of data and state together, and went when batches
were skipped.
Koh and Liang 2017, Understanding black-box predictions via influence functions, arXiv:1703.04730.
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
    from traindoctor.signals.measurements import Measurements, SeriesMeasurements
    from traindoctor.signals.periodicity import Spikes

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD507",
    name="bad-batch",
    summary="one batch or sample is far from all others and disturbs training in every epoch",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("order", 0.7, "as whole_epoch", f"{STUDY}: bad batches at most 0.56, sorted data 0.48 to 0.87"),
        Threshold("spikes", 4, "spikes", "four at one place of 20 or more are chance once in 8,000"),
        Threshold(
            "same_phase", 0.8, "share of the spikes at one phase of the epoch", f"{STUDY}: sound runs with so many at most 0.75"
        ),
        Threshold("phases", 6, "logged points in an epoch", "definition: with fewer, any spike is near one place"),
        Threshold("distance", 20, "standard deviations of the other phases", f"{STUDY}: faulty 23 to 230, sound at most 16"),
        Threshold("height", 1.3, "loss at that phase over the level", f"{STUDY}: faulty 1.4 to 100"),
        Threshold("single", 4, "distance of the highest phase over that of the next", f"{STUDY}: faulty above 4.7"),
        Threshold("several", 6, "spikes", "fewer are spread over as many epochs by chance alone"),
        Threshold("chance", 0.003, "probability that as many spikes anywhere reach as many epochs", "occupancy problem"),
        Threshold("weak_chance", 0.03, "the same", "occupancy problem"),
        Threshold(
            "whole_epoch",
            0.48,
            "share of the variance of its ranks that the phase explains",
            f"{STUDY}: bad batches at most 0.47",
        ),
        Threshold("recovery", 10, "steps", "1 / (1 - beta1) at beta1 = 0.9: the memory of Adam's first moment"),
        Threshold("gradient", 3, "gradient norm at the spikes over its running median", "definition: well above its noise"),
    ),
    explains=("TD201", "TD203", "TD319"),
    look_alikes=("TD501", "TD319"),
    experiment="log the sample indices of the batches at the spikes: the same index must come again in each epoch",
    refutation="The same batch, by its sample indices, without a spike in another epoch.",
)


@CAUSE.in_logs(needs=("loss",))
def comes_again(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield spikes of the loss that keep to the epoch, how soon they pass, and what else would make them."""
    if not m.loss.is_positive or m.is_adversarial:
        return
    spikes, peak = m.epochs.spikes, m.epochs.peak
    found = [*_keeps_to_the_epoch(spikes, m.loss, limits, guessed=_is_guessed(m))]
    length = m.epochs.length
    single = peak is not None and peak.distance >= max(limits["distance"], limits["single"] * peak.second)
    boundary = peak is not None and length is not None and peak.phase * length.steps <= 2.0
    fine = length is not None and m.loss.stride * limits["phases"] <= length.steps
    if single and fine and peak is not None and peak.height >= limits["height"]:
        text = f"In most epochs the loss is {peak.height:.3g} times as high at {peak.phase:.0%} of the epoch, and nowhere else."
        found.append(
            supports(
                "one_phase",
                peak.distance,
                unit="standard deviations of the other phases",
                weight=STRONG,
                onset=peak.step,
                source=m.loss.source,
                text=text,
            )
        )
    yield from found
    if not found:
        return
    if spikes.step.size and spikes.width <= max(limits["recovery"], 2.0 * m.loss.stride):
        yield supports(
            "recovery",
            spikes.width,
            unit="steps",
            weight=MODERATE,
            source=m.loss.source,
            text=f"The loss is back among its noise within {spikes.width:.0f} steps each time.",
        )
    rise = m.epochs.gradient_at(spikes.step)
    if rise > limits["gradient"]:
        yield supports(
            "gradient",
            rise,
            unit="times its running median",
            weight=MODERATE,
            source=m.grad_norm.source,
            text=f"The gradient norm is {rise:.3g} times its running median at the same steps, not before them.",
        )
    fold = m.epochs.fold
    if (boundary or not single) and fold is not None and fold.share > limits["whole_epoch"] and fold.beside < 0.5 * fold.share:
        yield against(
            "whole_epoch",
            fold.share,
            unit="of the variance",
            weight=PROOF if fold.share > limits["order"] else STRONG,
            source=m.loss.source,
            text="The loss repeats itself over the whole epoch, not at one place of it: the batches come in one order.",
        )
    if boundary and single:
        yield against(
            "boundary",
            peak.phase if peak is not None else 0.0,
            unit="of the epoch",
            weight=MODERATE,
            source=m.loss.source,
            text="It is the first step of the epoch: where sorted data begin anew, or something is done once an epoch.",
        )
    if m.epochs.rate_rises_at(spikes.step):
        yield against(
            "restart_of_rate",
            1.0,
            weight=PROOF,
            source=m.lr_source,
            text="The learning rate is raised at the same steps: the bumps are its restarts.",
        )


@CAUSE.in_logs(needs=("loss", "grad_norm"))
def gradient_comes_again(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield spikes of the gradient norm that keep to the epoch: an outlier may move it and hardly the loss."""
    if m.is_adversarial:
        return
    spikes = m.epochs.gradient_spikes
    found = [*_keeps_to_the_epoch(spikes, m.grad_norm, limits, guessed=_is_guessed(m))]
    yield from found
    if found and spikes.width <= max(limits["recovery"], 2.0 * m.grad_norm.stride):
        yield supports(
            "gradient_recovery",
            spikes.width,
            unit="steps",
            weight=MODERATE,
            source=m.grad_norm.source,
            text=f"The gradient norm is back among its noise within {spikes.width:.0f} steps each time.",
        )


def _is_guessed(m: Measurements) -> bool:
    return m.epochs.length is not None and m.epochs.length.told_by == "found"


def _keeps_to_the_epoch(spikes: Spikes, series: SeriesMeasurements, limits: Limits, *, guessed: bool) -> Iterator[Evidence]:
    """Yield that spikes come at one place of the epoch, or never twice in one; `guessed`: its length is a period of the log."""
    if not spikes.length / series.stride >= limits["phases"]:
        return
    if spikes.step.size >= limits["spikes"] and spikes.same_phase >= limits["same_phase"]:
        place = f"step {spikes.phase * spikes.length:.0f} of an epoch of {spikes.length:,.0f}"
        yield supports(
            "same_phase",
            spikes.same_phase,
            unit="share of the spikes",
            weight=MODERATE if guessed else STRONG,  # what swings comes back at its own period
            onset=int(spikes.step[0]),
            source=series.source,
            text=f"{spikes.step.size} spikes, {spikes.same_phase:.0%} of them at {place}.",
        )
    elif spikes.step.size >= limits["several"] and spikes.chance < limits["weak_chance"]:
        yield supports(
            "once_an_epoch",
            spikes.chance,
            unit="probability",
            weight=STRONG if spikes.chance < limits["chance"] else MODERATE,
            onset=int(spikes.step[0]),
            source=series.source,
            text=f"{spikes.step.size} spikes in {spikes.n_epochs:.0f} epochs, about one in each: one sample, mixed, does that.",
        )


@CAUSE.fixes
def change(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield to find the sample; a clip at the 90th percentile of the norm until then."""
    from traindoctor.model import Fix

    where = ""
    if m.epochs.spikes.step.size:
        where = "it is in the batches of " + ", ".join(m.name_of(int(s)) for s in m.epochs.spikes.step[:4])
    yield Fix("Find the sample by its index and mend it, or leave it out", note=where)
    if m.has("grad_norm") and m.setting("gradient.clip_norm") is None:
        bound = m.epochs.clip_bound
        yield Fix(
            f"Clip the gradient norm at {bound:g}",
            {"gradient.clip_norm": bound},
            note="the 90th percentile of the logged norm: bounds what one batch can do, and leaves it in the data",
        )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next((e.onset for e in evidence if e.onset is not None), int(m.loss.step[0]))
    return Statement(
        f"A bad batch or sample disturbed training in every epoch from {m.name_of(onset)} on.",
        "The spikes of the loss keep to the epoch, and pass within a few steps.",
        Segment(onset, int(m.loss.step[-1]) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Give a bad batch, a bad sample in mixed data; one spike, random spikes, restarts of the rate, sorted data."""
    import numpy as np

    draw = np.random.default_rng(0)
    n, length = 600, 30
    step = np.arange(n)
    loss = 0.2 + 2.0 * np.exp(-step / 80.0)
    loss *= 1.0 + 0.05 * draw.standard_normal(n)
    epoch = step // length

    def spiked(at: np.ndarray) -> np.ndarray:
        made = loss.copy()
        made[at] *= 6.0
        return made

    same = spiked(step[(step % length == 11) & (step > length)])
    mixed = spiked(np.array([e * length + int(draw.integers(length)) for e in range(2, 20)]))
    norm = np.where(same > 2.0 * loss, 8.0, 1.0)
    cosine = 0.5 * (1.0 + np.cos(np.pi * (step % length) / length))
    valid = (
        Example("a sound run", run_of(loss=loss, epoch=epoch)),
        Example("one spike", run_of(loss=spiked(np.array([311])), epoch=epoch)),
        Example("spikes anywhere", run_of(loss=spiked(draw.integers(50, n, 9)), epoch=epoch)),
        Example("restarts of the rate", run_of(loss=loss * (1.0 + 3.0 * cosine**8), learning_rate=1e-3 * cosine, epoch=epoch)),
        Example("sorted by class", run_of(loss=loss * (1.5 + np.sin(2 * np.pi * step / length)), epoch=epoch)),
    )
    invalid = (
        Example("the same batch in every epoch", run_of(loss=same, grad_norm=norm, epoch=epoch)),
        Example("the same batch, the loss alone", run_of(loss=same, epoch=epoch)),
        Example("one sample, mixed", run_of(loss=mixed, epoch=epoch)),
    )
    return valid, invalid
