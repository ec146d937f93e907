"""A few gradients are many times as large as the others, nothing clips them, and each throws the weights off.

## What it looks like
Isolated gradient norms of more than ten times their running median, out of the calm and at no regular interval. Under plain
descent the loss jumps at the same step or the next, and needs many steps to come back, or never does. Under Adam it hardly jumps:
the large gradients make up the second moment, and training is slow.

## Why it happens
Gradients of rare batches, of long sequences and of policies have heavy tails. A step of plain descent is proportional to its
gradient; under Adam one gradient that is k times too large moves the weights for 1 / (1 - beta1) steps, and makes the steps of
the next 1 / (1 - beta2) too small.

## When it is wrong
Heavy tails are normal, and harmless where the loss does not follow. Spikes with the period of an epoch are those of a bad
batch (TD507), and so are those of which each epoch has the same number. A learning rate that is too high (TD201) makes every
gradient large, not one in a hundred. After a bound on the norm the log may still show the norm before it.

## What repairs it
A bound on the gradient norm, near the 90th to 99th percentile of what was logged.

## References
Pascanu et al. 2013, On the difficulty of training recurrent neural networks, arXiv:1211.5063 (the clip).
Zhang et al. 2020, Why are adaptive methods good for attention models?, arXiv:1912.03194 (heavy tails).
Godbole et al. 2023, Deep learning tuning playbook, Google: a clip at the 90th percentile of the gradient norm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import STRONG, Cause, Example, Examples, Limits, Statement, Threshold, against, run_of, supports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD319",
    name="clip-absent-heavy-tail",
    summary="rare gradients many times as large as the others, unclipped, throw the weights off",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold(
            "times",
            10.0,
            "gradient norm over its running median",
            "Zhang et al., arXiv:1912.03194; benchmarks/study, tuning part",
        ),
        Threshold("follows", 0.5, "share of the large gradients that the loss follows", STUDY),
        Threshold("after", 1.5, "loss behind a large gradient over that before it", STUDY),
        Threshold("least", 3, "large gradients", STUDY),
        Threshold(
            "clock", 0.08, "distance of the gaps from multiples of the smallest, over it", "0 for a clock, 0.25 for chance"
        ),
        Threshold("deep", 1e-4, "lowest over initial loss of an exact fit", STUDY),
        Threshold(
            "spread",
            0.35,
            "variance of the number of large gradients in an epoch over its mean",
            "1 for chance, 0 for certain rows",
        ),
        Threshold("sudden", 0.7, "share of the large gradients with an ordinary one before", STUDY),
        Threshold("slowed", 3.0, "root of the second moment over that without the large gradients", STUDY),
    ),
    explains=("TD201", "TD203", "TD401", "TD508"),
    look_alikes=("TD507", "TD201"),
    experiment="the same seed with a bound at the 99th percentile of the gradient norm",
    refutation="A run with that bound whose loss jumps as much.",
)


@CAUSE.in_logs(needs=("loss", "grad_norm"))
def large_gradients_first(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield isolated large gradients, and what the loss or the second moment suffers from them."""
    from traindoctor.signals.gradients import bursts, slowed_by_bursts, spread_over_epochs
    from traindoctor.signals.periodicity import epoch_lengths

    grad, loss = m.grad_norm, m.loss
    if m.is_adversarial or not loss.is_positive or loss.best < limits["deep"] * loss.initial:
        return  # below that an exact fit is unstable for other reasons (TD101)
    found = bursts(grad.step, grad.value, loss.step, loss.value, limits["times"])
    if found is None:
        return
    bound = m.setting("gradient.clip_norm")
    if isinstance(bound, int | float) and 0.0 < bound < float(grad.value.max()):
        yield against(
            "bound",
            float(bound),
            unit="gradient norm",
            weight=STRONG,
            kind="config",
            source=m.origin("gradient.clip_norm"),
            text=f"The norm is bounded at {bound:g}: what is logged is the norm before it.",
        )
        return
    if found.off_clock < limits["clock"]:
        yield against(
            "clock",
            found.off_clock,
            unit="of the smallest gap",
            weight=STRONG,
            source=grad.source,
            text="The large gradients come by the clock, as one batch of each epoch does.",
        )
        return
    spread = next((spread_over_epochs(found.steps, one.steps) for one in epoch_lengths(m.run)), float("nan"))
    if spread < limits["spread"]:
        yield against(
            "each_epoch",
            spread,
            unit="variance of their number in an epoch over its mean",
            weight=STRONG,
            source=grad.source,
            text="Each epoch has as many of them as the next: they come from certain rows.",
        )
        return
    n, first = len(found.steps), int(found.steps[0])
    if n < limits["least"] or found.sudden < limits["sudden"]:
        return
    adaptive = m.run.optimizer is not None and m.optimizer.is_adaptive
    slowed = slowed_by_bursts(grad.step, grad.value, m.optimizer, limits["times"]) if adaptive else 1.0
    thrown = found.follows >= limits["follows"] and found.after > limits["after"]
    if not thrown and slowed < limits["slowed"]:
        return
    yield supports(
        "bursts",
        n,
        unit="gradients",
        weight=STRONG,
        onset=first,
        source=grad.source,
        text=f"{n} gradients are {found.times:.0f} times as large as those around them, the first at {m.name_of(first)}.",
    )
    if thrown:
        yield supports(
            "after",
            found.after,
            unit="times the loss before",
            weight=STRONG,
            onset=first,
            source=loss.source,
            text=f"The loss follows {found.follows:.0%} of them, and is {found.after:.3g} times as high on the steps behind.",
        )
    else:
        yield supports(
            "slowed",
            slowed,
            unit="times the second moment's root",
            weight=STRONG,
            onset=first,
            source=grad.source,
            text=f"They make up the second moment: in the median of the run steps are {slowed:.1f} times as short as without.",
        )


@CAUSE.fixes
def bound(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield a bound at the 90th percentile of the norm."""
    from traindoctor.model import Fix
    from traindoctor.signals.gradients import usual_bound

    value = usual_bound(m)
    if value is not None:
        yield Fix(f"Bound the gradient norm at {value:g}, the 90th percentile of what was logged", {"gradient.clip_norm": value})


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next((e.onset for e in evidence if e.onset is not None), 0)
    return Statement(
        f"Training was thrown off again and again from {m.name_of(onset)}: rare large gradients were not clipped.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(onset, int(m.loss.step[-1]) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    from traindoctor.model import OptimizerSpec, Run, Setting

    def clipped(run: Run, bound: float) -> Run:
        return replace(run, settings={**run.settings, "gradient.clip_norm": Setting(bound, "example")})

    sgd = OptimizerSpec("sgd", lr=0.1, momentum=0.0)
    large = (63, 121, 140, 222, 307, 390)
    norm = [1.0 + 0.1 * ((k * 7) % 11) for k in range(450)]
    wild = [v * (60.0 if k in large else 1.0) for k, v in enumerate(norm)]
    calm = [1.0 + 0.05 * ((k * 5) % 7) for k in range(450)]
    thrown = [v + sum(4.0 * 0.9 ** (k - at - 1) for at in large if k > at) for k, v in enumerate(calm)]
    even = [v * (60.0 if k % 50 == 49 else 1.0) for k, v in enumerate(norm)]
    valid = (
        Example("heavy tails without harm", run_of(sgd, loss=calm, grad_norm=wild)),
        Example("norm before a bound", clipped(run_of(sgd, loss=thrown, grad_norm=wild), 1.0)),
        Example(
            "by the clock: a bad batch",
            run_of(sgd, loss=[v + (4.0 if k % 50 == 0 else 0.0) for k, v in enumerate(calm)], grad_norm=even),
        ),
        Example("no large gradient", run_of(sgd, loss=calm, grad_norm=norm)),
        Example("six points", run_of(sgd, loss=calm[:6], grad_norm=[1.0, 1.0, 90.0, 1.0, 1.0, 1.0])),
    )
    invalid = (Example("six large gradients throw the loss off", run_of(sgd, loss=thrown, grad_norm=wild)),)
    return valid, invalid
