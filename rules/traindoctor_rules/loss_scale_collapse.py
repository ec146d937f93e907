"""The dynamic loss scale of mixed precision runs down: gradients overflow again and again, and their steps are skipped.

## What it looks like
The loss scale halves far more often than it doubles, ends at 1 or below, and hardly any step is taken from there on. It runs
down over hundreds of steps before the loss shows anything: in the log of BLOOM's 104B model a scale that fell from 4,700 came a
thousand steps before the failure.

## Why it happens
The scaler halves its scale whenever a gradient is infinite or NaN, and doubles it after 2,000 clean steps. Where more than one
step in 2,000 overflows, the scale goes down without end. Activations that pass 65504 in the forward pass overflow at every
scale: halving does not help, it only makes small gradients vanish.

## When it is wrong
Halvings at the start are how the scale is found. A scale that goes up and down by a few powers of two about one level is sound,
and so is a static one.

## What repairs it
bfloat16, which has the range of float32. Else the layer whose activations grow: a smaller learning rate, normalisation or a clip
of logits, float32 for that operation.

## References
Micikevicius et al. 2018, Mixed precision training, arXiv:1710.03740, section 3.2. PyTorch documentation, torch.amp.GradScaler:
init_scale 65536, growth_interval 2000, backoff_factor 0.5. BigScience, chronicles of the 104B training. Zhang et al. 2022, OPT,
arXiv:2205.01068, section 2.5 (loss scale crashing to 0).
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

    from traindoctor.checkpoints.state import State
    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD408",
    name="loss-scale-collapse",
    summary="the loss scale of mixed precision was halved until nothing was left of it",
    explanation=__doc__,
    thresholds=(
        Threshold("lowest", 1.0, "loss scale at the end", "torch.amp.GradScaler: 16 halvings of its first scale"),
        Threshold(
            "fall", 8.0, "powers of two from its peak to its end", "benchmarks/study, tuning part: sound scales fall 7 at most"
        ),
        Threshold(
            "again", 0.34, "doublings over halvings since its peak", "arithmetic: a scale that finds its level goes both ways"
        ),
        Threshold("found", 0.1, "share of the run over which a first scale is found", "benchmarks/study, tuning part"),
        Threshold("sound", 128.0, "loss scale in a checkpoint", "arXiv:1710.03740, section 3.2: factors of 8 to 32,768 served"),
    ),
    explains=("TD202", "TD401", "TD407", "TD201"),
    look_alikes=("TD401",),
    experiment="train ten steps in float32 from the last checkpoint and look for the first activation above 65504",
    refutation="A gradient that is finite at the lowest scale.",
)


@CAUSE.in_logs(needs=("loss_scale",))
def runs_down(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a loss scale that only falls, or what shows it to be sound."""
    from traindoctor.signals.precision import scale_path

    series = m.series("loss_scale")
    path = scale_path(series)
    if path is None:
        return
    if path.is_static:
        text = "The loss scale never changed."
        yield against("static", path.last, unit="loss scale", weight=PROOF, source=series.source, text=text)
        return
    risen = path.doublings / max(path.halvings, 1.0)
    if path.span <= limits["found"] and path.last > limits["lowest"]:
        yield against(
            "found",
            path.last,
            unit="loss scale",
            weight=STRONG,
            source=series.source,
            text=f"The loss scale was found early, at {path.last:g}, and held.",
        )
        return
    if path.fall < limits["fall"] or risen > limits["again"]:
        yield against(
            "both_ways",
            risen,
            unit="doublings over halvings",
            weight=MODERATE,
            source=series.source,
            text=f"The loss scale ends {path.fall:.0f} powers of two below its peak, after {path.doublings:.0f} doublings.",
        )
        return
    low = path.last <= limits["lowest"]
    yield supports(
        "fall",
        path.fall,
        unit="powers of two",
        weight=PROOF if low else MODERATE + WEAK,
        onset=path.peak_step,
        source=series.source,
        text=f"The loss scale falls from {path.peak:g} at step {path.peak_step:,} to {path.last:g}: "
        f"{path.halvings:.0f} halvings, {path.doublings:.0f} doublings.",
    )
    if path.low_step is not None:
        yield supports(
            "low",
            path.low_step,
            unit="step",
            weight=MODERATE,
            source=series.source,
            text=f"From step {path.low_step:,} on it is 1 or less: it no longer helps, and small gradients vanish in float16.",
        )


@CAUSE.in_logs(needs=("loss_scale", "loss"))
def steps_were_skipped(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the overflows that the loss itself shows."""
    del limits
    if m.loss.n_not_finite and not m.series("loss_scale").is_constant:
        yield supports(
            "overflows",
            m.loss.n_not_finite,
            unit="values",
            weight=WEAK,
            source=m.loss.source,
            text=f"{m.loss.n_not_finite:,} logged losses are not finite.",
        )


@CAUSE.in_state
def scale_at_the_end(state: State, m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a loss scale that has run down to nothing, or one that has not."""
    last = state.last
    scale = last.scaler.get("scale")
    if scale is None or not last.step:
        return
    if scale <= limits["lowest"]:
        yield supports(
            "saved_scale",
            scale,
            unit="loss scale",
            weight=WEAK if m.has("loss_scale") else STRONG + MODERATE,
            kind="state",
            onset=last.step,
            source=last.file,
            text=f"{last.at}: the loss scale is {scale:g}; it began at 65,536 if nobody set it.",
        )
    elif scale >= limits["sound"]:
        yield against(
            "saved_scale",
            scale,
            unit="loss scale",
            weight=STRONG,
            kind="state",
            source=last.file,
            text=f"{last.at}: the loss scale is {scale:g}.",
        )


@CAUSE.fixes
def wider_range(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the format with the range of float32, and the rate where that is not to be had."""
    from traindoctor.model import Fix

    del limits
    yield Fix("Train in bfloat16", {"precision": "bf16-mixed"}, note="no loss scale is needed; needs hardware that has it")
    if m.peak_lr:
        lr = float(f"{m.peak_lr / 3.0:.1g}")
        yield Fix(
            f"Lower the learning rate to {lr:g}", {"optimizer.lr": lr}, note="where activations grow because the rate is high"
        )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    saved = next((e for e in evidence if e.name == "saved_scale"), None)
    if saved is not None and not m.has("loss_scale"):
        return Statement(f"Training stalled: the loss scale ran down to {saved.value:g}, and steps were skipped.", saved.text)
    scale = m.series("loss_scale")
    onset = next((e.onset for e in evidence if e.onset is not None), 0)
    return Statement(
        f"Training stalled from {m.name_of(onset)}: the loss scale ran down to {scale.value[-1]:g}, and steps were skipped.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(onset, int(scale.step[-1]) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.checkpoints.examples import checkpoint_of, state_of
    from traindoctor.model import OptimizerSpec

    spec = OptimizerSpec("adamw", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    loss = [2.0 * 0.99**k + 0.3 for k in range(200)]
    down = [65536.0 / 2.0 ** (k // 8) for k in range(200)]
    found = [65536.0 / 2.0 ** min(k, 9) for k in range(200)]
    both = [4096.0 * (2.0 if k // 20 % 2 else 1.0) for k in range(200)]
    valid = (
        Example("found at once, then held", run_of(spec, loss=loss, loss_scale=found)),
        Example("static", run_of(spec, loss=loss, loss_scale=[1.0] * 200)),
        Example("up and down", run_of(spec, loss=loss, loss_scale=both)),
        Example("grows", run_of(spec, loss=loss, loss_scale=[2.0 ** (8 + k // 40) for k in range(200)])),
        Example("not logged", run_of(spec, loss=loss)),
        Example("zeros and NaN", run_of(spec, loss=loss, loss_scale=[0.0, float("nan")] * 100)),
    )
    invalid = (
        Example("runs down to nothing", run_of(spec, loss=loss, loss_scale=down)),
        Example("and the loss is lost", run_of(spec, loss=[*loss[:150], *[float("nan")] * 50], loss_scale=down)),
    )
    return (
        (*valid, Example("saved at its level", run_of(spec, loss=loss), state=state_of(checkpoint_of(200, scale=32768.0)))),
        (*invalid, Example("saved at nothing", run_of(spec, loss=loss), state=state_of(checkpoint_of(200, scale=2.0**-7)))),
    )
