"""The schedule began anew where the run was resumed: the learning rate jumped back to where it once started.

## What it looks like
The logged rate jumps, in the middle of its decay, back to the peak or to the start of the warmup, and from there on does again
what it did from the first step on. The loss rises with it. Often half an hour or a day lies between the two points.

## Why it happens
The checkpoint held the weights and perhaps the optimizer, but not the scheduler. A new one counts from zero.

## When it is wrong
Schedules with warm restarts come back when a cycle is over, and again after the next: such jumps are left alone. A second
stage of training with a schedule of its own is meant so; then the jump comes where the first one had ended.

## What repairs it
`scheduler.state_dict()` in the checkpoint and `load_state_dict` at the resume; or `last_epoch` when it is built.

## References
PyTorch documentation, torch.optim.lr_scheduler.LRScheduler: state_dict, load_state_dict, last_epoch. Loshchilov and Hutter
2017, SGDR: stochastic gradient descent with warm restarts, arXiv:1608.03983 (restarts that are meant).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD217",
    name="schedule-reset-at-resume",
    summary="the schedule began anew where the run was resumed",
    explanation=__doc__,
    thresholds=(
        Threshold(
            "before", 0.1, "rate over the peak before the jump", "half a cycle of a cosine is over at 0.5, nine tenths at 0.02"
        ),
        Threshold("halfway", 0.3, "rate over the peak before the jump", "no cycle with restarts ends so high"),
        Threshold("gap", 10.0, "times the usual time between two points", STUDY),
        Threshold("rise", 1.1, "loss after over before", STUDY),
        Threshold("sure", 4.0, "standard errors of the rise", "chance of noise below 1e-4"),
    ),
    explains=("TD508", "TD209"),
    look_alikes=("TD209",),
    experiment="print the learning rate and scheduler.last_epoch right after loading the checkpoint",
    refutation="A learning rate after the resume that goes on where it was.",
)


@CAUSE.in_logs(needs=("learning_rate",))
def begins_anew(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a schedule that does again what it did from the first step on, before its decay was over."""
    rate, reset = m.learning_rate, m.rate_reset
    if reset is None or reset.before < limits["before"]:
        return
    how = "the start of its warmup" if reset.rewarmed else "its peak"
    yield supports(
        "reset",
        reset.before,
        unit="of the peak before",
        weight=STRONG,
        onset=reset.step,
        source=rate.source,
        text=f"At {m.name_of(reset.step)} the learning rate goes from {reset.before:.0%} of its peak back to {how}, and does "
        "again what it did from the first step on.",
    )
    if reset.at_restart or reset.gap > limits["gap"]:
        text = f"The process was restarted there: {reset.gap:,.0f} times the usual time lies between the two points."
        yield supports(
            "boundary",
            reset.step,
            unit=m.run.step_unit,
            weight=STRONG,
            onset=reset.step,
            source=rate.source,
            text=text if reset.gap > limits["gap"] else "The process was restarted there.",
        )
    if m.schedule.answer in ("reset-at-resume", "rewarmed-at-resume"):
        yield supports("configured", reset.step, unit=m.run.step_unit, weight=STRONG, onset=reset.step, source=rate.source,
                       text="The configured schedule has no such jump; begun anew there, it explains the log.")  # fmt: skip
    else:
        yield supports("not_over", reset.before, unit="of the peak before", source=rate.source,
                       weight=MODERATE if reset.before >= limits["halfway"] else WEAK,
                       text="Its decay was not over: a schedule with restarts comes back when it is.")  # fmt: skip


@CAUSE.in_logs(needs=("learning_rate", "loss"))
def loss_answers(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the rise of the loss where the rate jumped."""
    from traindoctor.signals import rates

    reset = m.rate_reset
    if reset is None or m.is_adversarial:
        return
    found = rates.answer(m.loss.step, m.loss.value, reset.step)
    if found is not None and found.ratio > limits["rise"] and found.errors > limits["sure"]:
        yield supports(
            "rise",
            found.ratio,
            unit="loss after over before",
            weight=MODERATE,
            onset=reset.step,
            source=m.loss.source,
            text=f"The loss goes from {found.before:.3g} to {found.after:.3g} there.",
        )


@CAUSE.fixes
def keep_state(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield what the checkpoint must hold."""
    from traindoctor.model import Fix

    yield Fix("Save scheduler.state_dict() in the checkpoint, and load it at the resume", note="with the optimizer's state")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next(e.onset or 0 for e in evidence if e.onset is not None)
    return Statement(
        f"The learning rate jumped back to its start at {m.name_of(onset)}: the resumed run began its schedule anew.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(onset, int(m.learning_rate.step[-1]) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    from traindoctor.model import OptimizerSpec

    adam = OptimizerSpec("adam", lr=1e-3)
    fall = [2.3 * 0.98**k + 0.1 for k in range(300)]
    risen = [*fall[:200], *(0.5 + 0.01 * (k % 3) for k in range(100))]

    def linear(k: int) -> float:
        return 1e-3 * min((k + 1) / 20, 1.0 - k / 300)

    goes_on = [linear(k) for k in range(300)]
    anew = [linear(k if k < 200 else k - 200) for k in range(300)]
    resumed = replace(run_of(adam, loss=risen, learning_rate=anew), restarts=(200,))
    valid = (
        Example("one decay", run_of(adam, loss=fall, learning_rate=goes_on)),
        Example("resumed with its schedule", replace(run_of(adam, loss=fall, learning_rate=goes_on), restarts=(150,))),
        Example("warm restarts", run_of(adam, loss=fall, learning_rate=[1e-3 * (1 - (k % 100) / 100) for k in range(300)])),
        Example("constant", run_of(adam, loss=fall, learning_rate=[1e-3] * 300)),
        Example("two points", run_of(adam, loss=fall[:2], learning_rate=[1e-3, 1e-4])),
    )
    invalid = (
        Example("warms up again at a restart", resumed),
        Example(
            "back to the peak",
            run_of(adam, loss=risen, learning_rate=[1e-3 * (1 - (k if k < 170 else k - 170) / 300) for k in range(300)]),
        ),
    )
    return valid, invalid
