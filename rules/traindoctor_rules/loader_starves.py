"""The device waits for data for a large part of the time.

## What it looks like
The logged data time is a large share of the step time. Where it is not logged, the clock of the log shows steps that take many
times as long as usual, all through the run. The loss says nothing of it: the run is slow, not wrong.

## Why it happens
Too few workers, decoding and augmentation on one core, many small files on a network disk, workers that are started anew at
each epoch, a cache that does not hold the set, copies that block because the memory is not pinned.

## How it is told
By the data time, where it is logged: then it is arithmetic. By the clock alone, pauses for validation and checkpoints look
alike; they come at even distances, and where validation is logged the two fall together. The first steps are left out: there
caches are warmed and kernels compiled.

## When it is wrong
Step times that differ by the length of the samples, a machine that is shared, a notebook that was put to sleep.

## What repairs it
More workers and prefetching, persistent workers, pinned memory, larger files (shards), decoding once and for all. Profile one
hundred steps: the wait for the next batch stands there by name.

## References
PyTorch documentation, Performance tuning guide, "Enable asynchronous data loading and augmentation", and torch.utils.data:
num_workers, pin_memory, persistent_workers, prefetch_factor.
Mohan et al. 2021, Analyzing and mitigating data stalls in DNN training, arXiv:2007.06775: stalls take 10 to 70 % of the time.
Amazon SageMaker Debugger documentation, built-in profiler rules, IOBottleneck: 50 % of the steps.
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
    code="TD512",
    name="loader-starves",
    summary="the device waits for data for a large part of the time",
    explanation=__doc__,
    concerns=("speed",),
    severity="warning",
    thresholds=(
        Threshold(
            "starved", 0.4, "data time over step time", f"{STUDY}: starved 0.47 to 0.96, sound at most 0.13; arXiv:2007.06775"
        ),
        Threshold("much", 0.25, "data time over step time", "a quarter of the time: worth a look"),
        Threshold("little", 0.15, "data time over step time", f"{STUDY}: sound at most 0.13"),
        Threshold(
            "lost", 0.5, "share of the time above the usual pace", f"{STUDY}: starved 0.43 to 0.95, sound without pauses 0.10"
        ),
        Threshold("spread", 0.6, "share of the tenths of the run with a long step", "all through the run, not one bad hour"),
        Threshold("pauses", 0.5, "share of the long steps at an evaluation", f"{STUDY}: pauses for validation 1.0"),
    ),
    experiment="log the time from the end of one step to the arrival of the next batch, or profile a hundred steps",
    refutation="A profile of a hundred steps in which the device hardly waits for the next batch.",
)


@CAUSE.in_logs(needs=("data_time|step_time|loss",))
def waits(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the share of the time that went into waiting: as logged, else by the long steps on the clock of the log."""
    from traindoctor.signals.pace import waiting

    seen = waiting(m)
    if seen is None:
        yield from _long_steps(m, limits)
    elif seen.share >= limits["much"]:
        yield supports(
            "data_share",
            seen.share,
            unit="of the step time",
            weight=PROOF if seen.share >= limits["starved"] else MODERATE,
            source=seen.source,
            text=f"{seen.share:.0%} of the time went into waiting for data; {seen.often:.0%} of the steps wait longer than they "
            "compute.",
        )
    elif seen.share <= limits["little"]:
        yield against(
            "data_share",
            seen.share,
            unit="of the step time",
            weight=PROOF,
            source=seen.source,
            text=f"The data were there: {seen.share:.0%} of the time went into waiting for them.",
        )


def _long_steps(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield steps that take far longer than usual, unless they are pauses for something else."""
    from traindoctor.signals.pace import tail

    seen = tail(m)
    if seen is None or seen.lost < limits["lost"] or seen.spread < limits["spread"] or seen.at_evaluations > limits["pauses"]:
        return
    yield supports(
        "long_steps",
        seen.lost,
        unit="of all time",
        weight=STRONG,
        onset=seen.onset,
        source=seen.source,
        text=f"{seen.long:.1%} of the steps take more than three times the usual {seen.usual:.3g} s, all through the run: "
        f"{seen.lost:.0%} of the time is spent above the usual pace.",
    )
    even = seen.period == seen.period
    length = m.epochs.length
    if not even or (length is not None and seen.period < 0.5 * length.steps):
        yield supports(
            "uneven",
            seen.period if even else seen.long,
            unit="steps" if even else "of the steps",
            weight=MODERATE,
            source=seen.source,
            text=f"They come every {seen.period:,.0f} steps, many times an epoch, as workers do that deliver in turn."
            if even
            else "They come at no even distance, as evaluations and checkpoints would.",
        )
    else:
        yield against(
            "pauses",
            seen.period,
            unit="steps",
            weight=WEAK,
            source=seen.source,
            text=f"They come every {seen.period:,.0f} steps: validation or a checkpoint may be what takes the time.",
        )


@CAUSE.fixes
def change(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield what keeps data ahead of the device."""
    from traindoctor.model import Fix

    yield Fix(
        "Load ahead: more workers, prefetching, pinned memory",
        note="DataLoader(..., num_workers=8, pin_memory=True, persistent_workers=True, prefetch_factor=4); then shards in place "
        "of many small files",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    first = evidence[0]
    share = first.value if isinstance(first.value, float) else float("nan")
    last = max((int(one.step[-1]) for one in m.run.primary.values() if len(one)), default=0)
    start = first.onset or 0
    return Statement(
        f"The run lost about {share:.0%} of its time waiting for data."
        if first.name == "data_share"
        else "The run lost time at long steps.",
        "The training itself is not affected: it is slower than the device allows.",
        Segment(start, last + 1, start),
    )


@CAUSE.examples
def examples() -> Examples:
    """Give a starved loader; a fast one, a slow first step, a pause now and then."""
    import numpy as np

    draw = np.random.default_rng(0)
    n = 400
    loss = 2.0 * np.exp(-np.arange(n) / 100.0) + 0.1
    compute = 0.1 + 0.005 * draw.random(n)
    wait = 0.3 + 0.05 * draw.random(n)
    first = np.where(np.arange(n) == 0, 60.0, 0.004)
    pause = np.where(np.arange(n) % 100 == 99, 30.0, 0.0)
    stalls = np.where(draw.random(n) < 0.08, 4.0, 0.0)
    valid = (
        Example("data are there", run_of(loss=loss, data_time=0.004 + 0.001 * draw.random(n), step_time=compute)),
        Example("a slow first step", run_of(loss=loss, data_time=first, step_time=compute + first)),
        Example("pauses at even distances", run_of(loss=loss, step_time=compute + pause)),
        Example("no times", run_of(loss=loss)),
    )
    invalid = (
        Example("each step waits", run_of(loss=loss, data_time=wait, step_time=compute + wait)),
        Example("the step time without the wait", run_of(loss=loss, data_time=wait, step_time=compute)),
        Example("long steps now and then", run_of(loss=loss, step_time=compute + stalls)),
    )
    return valid, invalid
