"""The gradient is clipped far below its usual size at every step, and plain descent crawls.

## What it looks like
The norm before the clip is many times the bound in nearly all steps, or the logged norm after it stands at the bound. The loss
falls slowly and evenly, as with a learning rate that is too low, and the weights hardly move.

## Why it happens
A bound of c turns each update of SGD into one of the length lr * c at most. Over n steps the weights then move by no more than
n * lr * c (with momentum by 1 / (1 - mu) times as much), however steep the loss is.

## When it is wrong
Adam and its kin divide by the size of the gradient, so that a clip that always cuts leaves their steps as they are. A bound that
always cuts with a rate to match is normalised descent, and fine. Large models are clipped at 1.0 in most steps early on.

## What repairs it
A bound near the 90th percentile of the gradient norm, so that it cuts the rare steps alone; or a higher learning rate.

## References
Godbole et al. 2023, Deep learning tuning playbook, Google, "How can optimization failures be debugged and mitigated?": a clip of
more than half of the updates is very aggressive, the 90th percentile of the norm a first choice.
Zhang et al. 2020, Why gradient clipping accelerates training, arXiv:1905.11881.
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
    code="TD318",
    name="clip-too-tight",
    summary="gradients are clipped far below their usual size, and plain descent crawls",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("share", 0.9, "share of the steps that the bound cuts", STUDY),
        Threshold("half", 0.5, "share of the steps that the bound cuts", "Deep learning tuning playbook: very aggressive above"),
        Threshold("left", 0.1, "bound over the norm, median over the steps", STUDY),
        Threshold("reach", 0.1, "way of all updates over the weight norm", STUDY),
        Threshold("far", 0.5, "way of all updates, where no weight norm was logged: weights of usual networks are longer", STUDY),
        Threshold("tiny", 0.01, "bound of the gradient norm", "a tenth of the lowest in common recipes, 0.1"),
        Threshold("slow", 0.5, "loss at the end over the initial one", STUDY),
        Threshold("low", 0.2, "loss at the end over the initial one of a run that got down", STUDY),
        Threshold("usual", 0.02, "learning rate over the usual one of plain descent, from which it is not to blame", STUDY),
    ),
    explains=("TD202",),
    look_alikes=("TD202", "TD310"),
    experiment="the first tenth of the run with a bound a hundred times as high",
    refutation="A run with a bound at the 90th percentile of the norm that is no faster.",
)


@CAUSE.in_logs(needs=("loss", "optimizer"))
def cuts_every_step(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a bound that cuts nearly all of nearly every gradient, and how little way it leaves."""
    from traindoctor.signals.gradients import clipping, stands_still, way_of

    if m.is_adversarial or m.loss.n < 8 or m.loss.n_not_finite or stands_still(m) is not None:
        return
    clip = clipping(m.grad_norm.value if m.has("grad_norm") else m.loss.value[:0], _bound(m))
    if clip is None:
        return
    source = m.grad_norm.source if m.has("grad_norm") else m.origin("gradient.clip_norm")
    if clip.share < limits["half"]:
        yield against(
            "share",
            clip.share,
            unit="share of the steps",
            weight=PROOF,
            source=source,
            text=f"The bound of {clip.bound:g} cuts {clip.share:.0%} of the steps.",
        )
        return
    if m.optimizer.is_adaptive:
        yield against(
            "scale_free",
            m.optimizer.name,
            weight=STRONG,
            unit="",
            kind="config",
            text=f"{m.optimizer.name} is free of the scale.",
        )
        return
    seen = clip.is_pinned or clip.share > limits["share"]
    if seen and (clip.is_pinned or clip.left < limits["left"]):
        yield supports(
            "share",
            clip.share,
            unit="share of the steps",
            weight=MODERATE,
            onset=0,
            source=source,
            text=f"The bound of {clip.bound:g} cuts {clip.share:.0%} of the logged steps"
            + ("." if clip.is_pinned else f" and leaves {clip.left:.2%} of the gradient in the median."),
        )
    elif not m.has("grad_norm") and clip.bound <= limits["tiny"]:
        yield supports(
            "bound",
            clip.bound,
            unit="gradient norm",
            weight=STRONG if clip.bound <= limits["tiny"] / 3.0 else MODERATE,
            kind="config",
            source=source,
            text=f"The gradient is clipped at {clip.bound:g}, far below usual bounds of 0.1 to 10.",
        )
    else:
        return
    way, weights = way_of(m, clip.bound), m.weight_norm.initial if m.has("weight_norm") else float("nan")
    if m.rate_ratio is None or m.rate_ratio < limits["usual"]:
        return
    if way < (limits["reach"] * weights if weights == weights else limits["far"]):
        yield supports(
            "way",
            way,
            unit="length of all updates",
            weight=STRONG,
            source=source,
            text=f"All updates together can move the weights by {way:.2g} at most"
            + (f", {way / weights:.1%} of their norm." if weights == weights else "."),
        )


@CAUSE.in_logs(needs=("loss", "gradient.clip_norm"))
def crawls(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield what the loss says of the pace."""
    loss = m.loss
    if m.is_adversarial or not loss.is_positive or loss.n < 8 or not loss.initial > 0.0 or m.run.optimizer is None:
        return
    left = loss.tail / loss.initial
    if left < limits["low"]:
        yield against("low", left, unit="tail / initial loss", weight=STRONG, source=loss.source, text="The loss got down well.")
    elif left > limits["slow"] and not m.optimizer.is_adaptive:
        yield supports(
            "slow",
            left,
            unit="tail / initial loss",
            weight=WEAK,
            source=loss.source,
            text=f"The loss is still at {left:.0%} of its start.",
        )


def _bound(m: Measurements) -> float | None:
    bound = m.setting("gradient.clip_norm")
    return float(bound) if isinstance(bound, int | float) and bound > 0.0 else None


@CAUSE.fixes
def at_a_percentile(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield a bound at the 90th percentile of the norm, where the log has it before the clip; else a usual one."""
    from traindoctor.model import Fix
    from traindoctor.signals.gradients import usual_bound

    bound = usual_bound(m)
    if bound is None:
        yield Fix(
            "Raise the bound of the gradient norm to 1.0",
            {"gradient.clip_norm": 1.0},
            note="log the norm before the clip to size it",
        )
    else:
        yield Fix(
            f"Raise the bound of the gradient norm to {bound:g}, the 90th percentile of what was logged",
            {"gradient.clip_norm": bound},
        )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    return Statement(
        "Training crawled: the gradient was clipped far below its size at nearly every step.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(0, int(m.loss.step[-1]) + 1, 0),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    from traindoctor.model import OptimizerSpec, Run, Setting

    def clipped(run: Run, bound: float) -> Run:
        return replace(run, settings={**run.settings, "gradient.clip_norm": Setting(bound, "example")})

    sgd, adam = OptimizerSpec("sgd", lr=0.1, momentum=0.0), OptimizerSpec("adam", lr=1e-3, eps=1e-8)
    norm = [1.0 + 0.1 * ((k * 7) % 11) for k in range(200)]
    crawl = [2.3 - 0.001 * k for k in range(200)]
    falls = [2.3 * 0.98**k + 0.02 for k in range(200)]
    weights = [10.0] * 199 + [10.001]
    valid = (
        Example("Adam is free of the scale", clipped(run_of(adam, loss=crawl, grad_norm=norm), 0.001)),
        Example("cuts the rare steps alone", clipped(run_of(sgd, loss=crawl, grad_norm=norm, weight_norm=weights), 1.95)),
        Example("always cuts, and the loss falls", clipped(run_of(replace(sgd, lr=10.0), loss=falls, grad_norm=norm), 0.05)),
        Example("no bound", run_of(sgd, loss=crawl, grad_norm=norm, weight_norm=weights)),
        Example("a usual bound, no norm logged", clipped(run_of(sgd, loss=crawl), 1.0)),
    )
    invalid = (
        Example("norm of 1 to 2, bound of 0.001", clipped(run_of(sgd, loss=crawl, grad_norm=norm, weight_norm=weights), 0.001)),
        Example("no norm logged, bound of 0.001", clipped(run_of(sgd, loss=crawl), 0.001)),
    )
    return valid, invalid
