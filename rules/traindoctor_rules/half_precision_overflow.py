"""A sum, an activation or a gradient passes 65504, the largest number of float16, and becomes infinite.

## What it looks like
The loss is infinite from the first step, or from one step to the next out of a calm descent, at a usual learning rate. Three
forms: the loss alone is infinite while gradients and weights stay finite (a sum over the batch in float16); the gradient norm
is infinite while the loss of that step is finite (a loss scale that is too large and that nobody lowers); or all of it is NaN
at once (an activation). Hugging Face's Trainer writes such a loss as exactly 0.0.

## Why it happens
float16 ends at 65504. A dynamic loss scale skips the step and halves itself when a gradient overflows; without one, or with a
static one, the infinity enters the weights.

## How it is told
Numbers that fit float16 exactly, all of them; an infinity beside finite gradients and weights; an infinite gradient of a finite
loss; a static loss scale; a config that keeps the weights in float16. A loss that grew before it was lost is a divergence
(TD201), whatever the format. A loss above 65504 was not in float16.

## When it is wrong
An infinity of log(0) or exp(100) comes in float32 too (TD401): there the gradient of that step is not finite either, and no
setting speaks of half precision. Where a log holds the loss alone and the config is missing, the two cannot be told apart.

## What repairs it
bfloat16, or a dynamic loss scale (`torch.amp.GradScaler`) with weights in float32. A loss as a mean instead of a sum; sums,
softmax and normalisation in float32, as autocast has them.

## References
IEEE 754-2019, binary16. Micikevicius et al. 2018, Mixed precision training, arXiv:1710.03740, section 3. PyTorch documentation,
"Automatic Mixed Precision": ops that autocast to float32; torch.amp.GradScaler. transformers,
TrainingArguments.logging_nan_inf_filter.
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
    code="TD407",
    name="half-precision-overflow",
    summary="a number passed 65504, the largest of float16, and became infinite",
    explanation=__doc__,
    thresholds=(
        Threshold("largest", 65504.0, "largest finite number", "IEEE 754-2019, binary16"),
        Threshold("near", 4.0, "times below it that count as near", "definition: two powers of two"),
        Threshold("growth", 3.0, "median of the last three finite losses over the lowest", "benchmarks/study, tuning part"),
        Threshold("calm", 10.0, "last gradient norms over their median", "benchmarks/study, tuning part"),
        Threshold(
            "share", 0.5, "of the losses that are not finite from the first one on", "as TD401: the run does not come back"
        ),
        Threshold("eps", 2.0**-25, "eps that float16 stores as 0", "IEEE 754-2019, binary16: half the smallest subnormal"),
        Threshold("early", 0.2, "share of the run before the first NaN that an eps of 0 brings", "as TD102"),
    ),
    explains=("TD401",),
    look_alikes=("TD401", "TD102"),
    experiment="the same step from its checkpoint in float32: a finite loss and gradient there prove the overflow",
    refutation="The same infinity with everything in float32.",
)


@CAUSE.in_logs()
def overflows(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield what was infinite, beside what was not, at the step at which the loss was lost."""
    from traindoctor.signals.precision import kept_in, overflow

    lost = overflow(m)
    if lost is None or m.is_adversarial:
        return
    source = m.loss.source
    kept = kept_in(m.run)
    if lost.growth > limits["growth"]:
        yield against(
            "growth",
            lost.growth,
            unit="times its lowest",
            weight=PROOF,
            source=source,
            text="The loss grew before it was lost: what made it grow is the cause.",
        )
    if kept in ("single", "brain", "mixed-brain"):
        yield against(
            "precision",
            kept,
            unit="",
            kind="config",
            weight=PROOF,
            source=m.origin("precision"),
            text="The settings name a format with the range of float32.",
        )
    if lost.largest > limits["largest"]:
        yield against(
            "beyond",
            lost.largest,
            unit="loss",
            weight=STRONG,
            source=source,
            text=f"The loss was {lost.largest:.3g} and finite: float16 cannot hold that.",
        )
    elif lost.infinite and lost.largest > limits["largest"] / limits["near"]:
        yield supports(
            "near",
            lost.largest,
            unit="loss",
            weight=STRONG,
            onset=lost.step,
            source=source,
            text=f"The highest finite loss is {lost.largest:,.0f}, and the next ones are infinite: float16 ends at 65,504.",
        )
    if lost.infinite and lost.sound_after == 1.0 and lost.still_moves:
        yield supports(
            "alone",
            lost.step,
            unit="step",
            weight=PROOF,
            onset=lost.step,
            source=source,
            text=f"The loss is infinite from step {lost.step:,} on while gradients and weights stay finite and go on: it is the "
            "number that was logged which overflows.",
        )
    if lost.share >= limits["share"] and kept in ("half", "mixed-half") and not lost.growth > limits["growth"]:
        yield supports(
            "precision",
            str(m.setting("precision")),
            unit="",
            kind="config",
            weight=STRONG + MODERATE if kept == "half" else STRONG,
            onset=lost.step,
            source=m.origin("precision"),
            text="The settings keep numbers in float16" + ("." if kept == "half" else " for the operations that gain by it."),
        )
        yield supports(
            "sudden",
            lost.step,
            unit="step",
            weight=STRONG if lost.growth == lost.growth else MODERATE,
            onset=lost.step,
            source=source,
            text=f"The loss is lost at step {lost.step:,} without having grown.",
        )


@CAUSE.in_logs(needs=("loss",))
def fits_the_format(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield that every logged loss of a run that is lost fits float16 exactly."""
    from traindoctor.signals.precision import format_of, overflow

    lost = overflow(m)
    if lost is not None and not m.is_adversarial and format_of(m.loss.value) == "float16":
        yield supports(
            "fits",
            m.loss.n,
            unit="values",
            weight=STRONG,
            source=m.loss.source,
            text=f"Each of {m.loss.n:,} finite losses fits float16 to its last bit: they were computed in it.",
        )


@CAUSE.in_logs(needs=("loss", "grad_norm"))
def gradient_overflows(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield an infinite gradient norm of a loss that is finite and usual."""
    import numpy as np

    from traindoctor.signals.precision import overflow

    norm, loss = m.grad_norm.series, m.loss
    infinite = np.flatnonzero(np.isinf(norm.value))
    lost = overflow(m)
    if not infinite.size or lost is None or m.is_adversarial or not loss.is_positive or lost.growth > limits["growth"]:
        return
    step = int(norm.step[infinite[0]])
    beside, before = loss.value[loss.step == step], m.grad_norm.before(step)
    if not beside.size or m.grad_norm.first_not_finite() != step:
        return
    calm = before.size >= 3 and float(np.median(before[-3:])) < limits["calm"] * float(np.median(before))
    yield supports(
        "gradient",
        step,
        unit="step",
        weight=PROOF if calm else STRONG,
        onset=step,
        source=m.grad_norm.source,
        text=f"At step {step:,} the gradient is infinite, and the loss {float(beside[0]):.3g} is not: in float32 that takes 1e38"
        + (f", and the norm before was {before[-1]:.3g}." if calm else "."),
    )


@CAUSE.in_logs(needs=("loss_scale",))
def scale_is_static(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a loss scale that stays while the loss is lost: nobody looks for overflows."""
    from traindoctor.signals.precision import overflow, scale_path

    path, lost = scale_path(m.series("loss_scale")), overflow(m)
    if path is None or lost is None or not path.is_static or path.last <= 1.0 or lost.growth > limits["growth"]:
        return
    if lost.share >= limits["share"]:
        yield supports(
            "static",
            path.last,
            unit="loss scale",
            weight=STRONG,
            onset=lost.step,
            source=m.series("loss_scale").source,
            text=f"The loss scale stays at {path.last:g} while the loss is lost: an overflow is not looked for, and not skipped.",
        )
        yield supports(
            "sudden",
            lost.step,
            unit="step",
            weight=STRONG,
            source=m.loss.source,
            text="The loss had not grown before it was lost.",
        )


@CAUSE.in_logs(needs=("optimizer.eps",))
def eps_is_zero(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield an eps that is 0 in float16: then 0/0 comes before any overflow."""
    from traindoctor.signals.precision import kept_in, overflow

    lost, eps = overflow(m), m.optimizer.eps
    if lost is None or eps is None or kept_in(m.run) != "half" or lost.infinite or not m.optimizer.is_adaptive:
        return
    series = m.loss.series
    early = lost.step - int(series.step[0]) <= limits["early"] * max(1, int(series.step[-1]) - int(series.step[0]))
    if 0.0 <= eps <= limits["eps"] and early:
        yield against(
            "eps",
            eps,
            weight=STRONG + WEAK,
            kind="config",
            source=m.origin("optimizer.eps"),
            text=f"float16 stores an eps of {eps:g} as 0: the first gradient of exactly 0 makes NaN.",
        )


@CAUSE.fixes
def wider_range(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the formats in which it does not overflow."""
    from traindoctor.model import Fix

    del limits
    yield Fix(
        "Train in bfloat16, or in mixed precision with weights in float32",
        {"precision": "bf16-mixed"},
        note="where only float16 is to be had: 16-mixed with torch.amp.GradScaler, which skips steps that overflow",
    )
    yield Fix("Compute the loss as a mean, in float32: loss_fn(output.float(), target)", note="where the loss alone is infinite")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next((e.onset for e in evidence if e.onset is not None), 0)
    what = "the logged loss" if any(e.name == "alone" for e in evidence) else "a number"
    return Statement(
        f"From {m.name_of(onset)} on {what} passed 65,504, the largest number of float16, and became infinite.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(onset, max((int(s.step[-1]) for s in m.run.primary.values() if len(s)), default=0) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    from traindoctor.model import Damage, OptimizerSpec

    inf, nan = float("inf"), float("nan")
    sgd, adam = OptimizerSpec("sgd", lr=0.1), OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    fall = [2.3 / (1.0 + 0.1 * k) for k in range(60)]
    sums = [float(round(60000.0 / (1.0 + 0.1 * k)) // 64 * 64) for k in range(60)]
    norms = [0.5 + 0.01 * k for k in range(80)]
    valid = (
        Example("finite in float16", run_of(sgd, precision="float16", loss=fall)),
        Example("NaN out of nothing, precision not known", run_of(sgd, loss=[*fall, *[nan] * 20])),
        Example("NaN in bfloat16", run_of(sgd, precision="bf16-true", loss=[*fall, *[inf] * 20])),
        Example("diverged in float16", run_of(sgd, precision="float16", loss=[2.0**k for k in range(15)] + [inf] * 20)),
        Example("Adam's eps is 0 in float16", run_of(adam, precision="float16", loss=[2.3, *[nan] * 60])),
        Example("one infinite batch of mixed precision", run_of(sgd, precision="16-mixed", loss=[*fall, inf, *fall])),
        Example("beyond float16 and finite", run_of(sgd, loss=[1e9 / (1 + k) for k in range(30)] + [nan] * 20)),
        Example(
            "log of zero: the gradient is lost too", run_of(sgd, loss=[*fall, *[inf] * 20], grad_norm=[*norms[:60], *[nan] * 20])
        ),
    )
    hidden = (Damage("zero-for-nan", "trainer_state.json", "the loss is exactly 0.0 from step 60 on"),)
    invalid = (
        Example("NaN written as 0", replace(run_of(sgd, precision="fp16", loss=[*fall, *[0.0] * 30]), damages=hidden)),
        Example("weights in float16", run_of(sgd, precision="float16", loss=[*fall, *[nan] * 20])),
        Example("the sum alone is infinite", run_of(sgd, loss=[inf] * 80, grad_norm=norms)),
        Example("from above 65,504 down to it", run_of(sgd, loss=[inf] * 10 + sums, grad_norm=norms[:70])),
        Example("a static loss scale", run_of(sgd, loss=[*fall, *[nan] * 20], loss_scale=[65536.0] * 80)),
        Example(
            "infinite gradient of a finite loss",
            run_of(sgd, loss=[*fall, *[nan] * 20], grad_norm=[*norms[:59], inf, *[nan] * 20]),
        ),
    )
    return valid, invalid
