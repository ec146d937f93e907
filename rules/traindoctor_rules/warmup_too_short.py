"""The learning rate reaches its peak before the run can bear it: the loss rises as the warmup ends.

## What it looks like
A warmup over a percent or so of the run, and a jump of the loss, the gradient norm or the weights as it ends. The run does not
get over it, or only in part.

## Why it happens
Curvature falls while the rate is low, and the second moment of Adam needs 2 / (1 - beta2) steps to settle. A rate that rises
faster than that meets the curvature of the start.

## When it is wrong
Many runs rise in their first steps and are none the worse for it: a run that ends low is left alone, whatever its start
looked like. No warmup is no finding by itself. A rate that is too high for the whole run looks alike where it never falls
(TD201); a smaller rate cures both.

## What repairs it
A warmup over a tenth of the run; a smaller rate.

## References
Ma and Yarats 2021, On the adequacy of untuned warmup for adaptive optimization, arXiv:1910.04209. Goyal et al. 2017,
Accurate, large minibatch SGD, arXiv:1706.02677, section 2.2. Gotmare et al. 2019, A closer look at deep learning heuristics:
learning rate restarts, warmup and distillation, arXiv:1810.13243. BigScience 2022, chronicles of the 104B training: glitches
near the end of the warmup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import (
    Cause,
    Example,
    Examples,
    Limits,
    Statement,
    Threshold,
    early_rise,
    run_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD216",
    name="warmup-too-short",
    summary="the loss rose when the learning rate reached its peak after a short warmup",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("least", 0.002, "share of the run until the rate is at its peak", "no warmup at all is TD203"),
        Threshold(
            "warmup",
            0.12,
            "share of the run until the rate is at its peak",
            "a tenth is usual: the Deep learning tuning playbook",
        ),
        Threshold(
            "overshoot",
            1.5,
            "highest level of the first tenth over the first loss",
            "sound runs that end high: 1.45 at most, " + STUDY,
        ),
        Threshold("violent", 3.0, "highest level of the first tenth over the first loss", STUDY),
        Threshold("left", 0.05, "loss at the end over the first", "sound runs that rise first end below 0.03: " + STUDY),
        Threshold("far", 25.0, "learning rate over the usual one", "TD201 speaks from 30 on"),
        Threshold("recovered", 0.7, "loss over the first one, of a run that got over it", STUDY),
        Threshold("grad", 5.0, "highest gradient norm of the first tenth over the first one", STUDY),
    ),
    look_alikes=("TD201",),
    experiment="the first tenth of the run with a warmup over as many steps",
    refutation="A run with a warmup over a tenth of its steps that gets no lower.",
)


@CAUSE.in_logs(needs=("learning_rate", "loss"))
def early_anomaly(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a loss that rises at once at the peak of the rate, in a run that does not end well."""
    start, loss = m.beginning, m.loss
    if start is None or m.is_adversarial or not loss.is_positive or not limits["least"] < start.warmup <= limits["warmup"]:
        return
    yield from early_rise(m, limits, f"after a warmup of {start.warmup:.1%} of the run")


@CAUSE.fixes
def longer(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield a warmup over a tenth of the run."""
    from traindoctor.model import Fix
    from traindoctor.signals import rates

    length = rates.planned_length(m.run) or float(m.loss.step[-1] + 1)
    steps = max(1, round(0.1 * length))
    yield Fix(
        f"Warm up over {steps:,} steps, a tenth of the run", {"schedule.warmup_steps": steps}, note="or a third of the rate"
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next(e.onset or 0 for e in evidence if e.name == "overshoot")
    return Statement(
        "The loss rose when the learning rate reached its peak: the warmup was too short.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(int(m.loss.step[0]), int(m.loss.step[-1]) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    adam = OptimizerSpec("adam", lr=3e-3)
    fall = [2.3 * 0.98**k for k in range(300)]
    harmed = [2.3, 2.2, 2.2, 2.5, 9.0, 14.0, 12.0, *(1.4 + 6.0 * 0.9**k for k in range(293))]
    short, long = [3e-3 * min(1.0, (k + 1) / 5) for k in range(300)], [3e-3 * min(1.0, (k + 1) / 60) for k in range(300)]
    valid = (
        Example("short warmup, no anomaly", run_of(adam, loss=fall, learning_rate=short)),
        Example("early spike that recovers", run_of(adam, loss=[2.3, 2.2, 2.1, 9.0, 4.0, *fall[:295]], learning_rate=short)),
        Example("with a long warmup", run_of(adam, loss=harmed, learning_rate=long)),
        Example("without a warmup", run_of(adam, loss=harmed, learning_rate=[3e-3] * 300)),
        Example("one value", run_of(adam, loss=[2.3], learning_rate=[3e-3])),
    )
    invalid = (Example("rises as the warmup ends", run_of(adam, loss=harmed, learning_rate=short)),)
    return valid, invalid
