"""The run begins at its full learning rate, and its first steps do lasting harm.

## What it looks like
The loss, the gradient norm or the weights jump within the first percent of the run, at the peak of the learning rate.
Afterwards the same rate is well borne, but the run ends high.

## Why it happens
At random weights the curvature is at its highest, and the second moment of Adam holds few gradients: until it has averaged over
2 / (1 - beta2) steps, updates are larger and noisier than later.

## When it is wrong
Many runs rise in their first steps and are none the worse for it: a run that ends low is left alone, whatever its start
looked like. No warmup is no finding by itself. A rate that is too high for the whole run looks alike where it never falls
(TD201); a smaller rate cures both.

## What repairs it
A warmup over a few hundred steps or a tenth of the run; a smaller rate.

## References
Ma and Yarats 2021, On the adequacy of untuned warmup for adaptive optimization, arXiv:1910.04209. Goyal et al. 2017,
Accurate, large minibatch SGD, arXiv:1706.02677, section 2.2. Gotmare et al. 2019, A closer look at deep learning heuristics:
learning rate restarts, warmup and distillation, arXiv:1810.13243.
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
    code="TD203",
    name="warmup-missing",
    summary="the run began at its full learning rate, and its first steps did lasting harm",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("warmup", 0.02, "share of the run until the rate is at its peak", "one logged point of fifty"),
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
    start, rate, loss = m.beginning, m.learning_rate, m.loss
    if start is None or m.is_adversarial or not loss.is_positive or not start.warmup <= limits["warmup"]:
        return
    yield from early_rise(m, limits, f"at the full rate of {rate.value[0]:.3g}")


@CAUSE.fixes
def longer(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield a warmup over a tenth of the run."""
    from traindoctor.model import Fix
    from traindoctor.signals import rates

    length = rates.planned_length(m.run) or float(m.loss.step[-1] + 1)
    steps = max(1, round(0.1 * length))
    yield Fix(f"Warm up over the first {steps:,} steps", {"schedule.warmup_steps": steps}, note="or a third of the rate")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next(e.onset or 0 for e in evidence if e.name == "overshoot")
    return Statement(
        "The loss rose within the first steps: the run began at its full learning rate, without a warmup.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(int(m.loss.step[0]), int(m.loss.step[-1]) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    adam = OptimizerSpec("adam", lr=3e-3)
    fall = [2.3 * 0.98**k for k in range(300)]
    harmed = [2.3, 9.0, 14.0, 12.0, *(1.4 + 6.0 * 0.9**k for k in range(296))]
    flat, warm = [3e-3] * 300, [3e-3 * min(1.0, (k + 1) / 30) for k in range(300)]
    valid = (
        Example("constant rate, no anomaly", run_of(adam, loss=fall, learning_rate=flat)),
        Example("early spike that recovers", run_of(adam, loss=[2.3, 9.0, 14.0, 4.0, *fall[:296]], learning_rate=flat)),
        Example("with a warmup", run_of(adam, loss=harmed, learning_rate=warm)),
        Example("a generator's loss rises", run_of(adam, loss=harmed, learning_rate=flat, d_loss=[1.0] * 5)),
        Example("one value", run_of(adam, loss=[2.3], learning_rate=[3e-3])),
    )
    invalid = (Example("rises at once and ends high", run_of(adam, loss=harmed, learning_rate=flat)),)
    return valid, invalid
