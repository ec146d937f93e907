"""The learning rate is too high for this loss surface: divergence, or a fast fall and then bouncing at a level.

## What it looks like
Either the loss grows beyond its start, often until it overflows; or it falls at once and then wanders at a level that it does
not leave, with a weight norm that was blown up in the first steps. At the stability limit of full-batch descent it alternates
with a period of two steps.

## Why it happens
Along a direction of curvature lambda an update of lr * lambda beyond the optimizer's stability limit overshoots by more than it
gains (2 for SGD, 2 (1 + mu) with momentum, 38 for Adam on the preconditioned Hessian). Below the limit, noisy gradients keep the
loss at a level proportional to the learning rate.

## When it is wrong
The learning rate alone is a poor witness: 25 to 40 times a task's usual rate was harmless on three tasks of the study, so that
evidence in the loss or the weights is asked for. A noisy plateau at a usual rate is the noise of small batches; the jumps of a
validation loss that still gets better are those of few rows. A clip bounds each step: under SGD the rate then counts for less.
Losses of games (GAN) and policies need not fall. Gradients that are never cleared look alike in the loss (TD301).

## What repairs it
A smaller learning rate; warmup if only the first steps are violent; decay if only the end is noisy.

## References
Cohen et al. 2021, Gradient descent on neural networks typically occurs at the edge of stability, arXiv:2103.00065.
Zhang et al. 2019, Which algorithmic choices matter at which batch sizes?, arXiv:1907.04164 (the noise floor).
Godbole et al. 2023, Deep learning tuning playbook, Google, "How can optimization failures be debugged and mitigated?".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from traindoctor.mistake import Mistake
from traindoctor.optim.families import NORMALISED
from traindoctor.patterns import lazy
from traindoctor.rule import (
    MODERATE,
    PROOF,
    STRONG,
    WEAK,
    Cause,
    Example,
    Examples,
    Limits,
    Sample,
    Statement,
    Threshold,
    against,
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.code.script import Script
    from traindoctor.configs.file import ConfigFile
    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD201",
    name="learning-rate-too-high",
    summary="divergence, or a fast fall and then bouncing at a level",
    explanation=__doc__,
    thresholds=(
        Threshold(
            "adam",
            0.1,
            "learning rate of an optimizer with steps of its size",
            "100 times the usual 1e-3; 25 to 40 times were harmless",
        ),
        Threshold(
            "adam_sure",
            0.5,
            "learning rate of an optimizer with steps of its size",
            "a step of half the size that weights seldom pass; small models use 0.25",
        ),
        Threshold(
            "absurd",
            1.0,
            "learning rate of an optimizer with steps of its size",
            "arXiv:1412.6980, section 2.1: a step is at most the rate",
        ),
        Threshold("sgd", 40.0, "learning rate of SGD", "30 is in use: arXiv:1911.05722, section 4.1, and 1708.02182, section 5"),
        Threshold("grown", 1.5, "smoothed loss at the end over initial loss", STUDY),
        Threshold("sure", 4.0, "standard errors of a rise of the loss", "chance of noise below 1e-4"),
        Threshold("growth", 2.0, "last finite level over the lowest before NaN", STUDY),
        Threshold("leap", 100.0, "last finite value over the lowest before NaN, where it grew within three logged points", STUDY),
        Threshold("usual", 29.9, "learning rate over the usual one of the optimizer", STUDY),
        Threshold(
            "above",
            4.0,
            "learning rate of SGD over 0.3, momentum counted, that may be why a run stands near its start",
            "0.1 with a momentum of 0.9, the recipe of arXiv:1512.03385, is 3.3",
        ),
        Threshold("well_above", 12.0, "learning rate of SGD over 0.3, momentum counted", STUDY),
        Threshold("stands", 0.9, "level at the end over the first loss", STUDY),
        Threshold("excursion", 0.03, "how far a loss went above its start and its end, or below both, over its level", STUDY),
        Threshold("beyond_noise", 3.0, "the same over the noise between points", "three standard deviations"),
        Threshold("moved", 0.02, "relative change of the weight norm", STUDY),
        Threshold(
            "blown_window", 30.0, "first window of a log over the second one", "sound runs at such rates: 11 at most, " + STUDY
        ),
        Threshold(
            "wild", 3.0, "third quartile of the later half over the highest of the first tenth", "sound runs: below 1, " + STUDY
        ),
        Threshold("leapt", 10.0, "second and last finite value over the first", "a tenfold loss within the first logged steps"),
        Threshold("falling", 0.7, "level at the end over that of the middle third, of a loss that has not settled", STUDY),
        Threshold("gaining", 0.95, "validation loss of the last third over that of the middle third", STUDY),
        Threshold("large_clip", 5.0, "norm", "gradient norms of sound runs: 1.8 at most in 95 of 100, " + STUDY),
        Threshold("far", 90.0, "learning rate over the usual one of the optimizer", STUDY),
        Threshold("lost", 1.0, "decades that the smoothed loss climbs back from its lowest", STUDY),
        Threshold(
            "blown",
            3.0,
            "level at the end over the first loss, of a loss that rose once and stays",
            "sound runs: 0.99 at most, " + STUDY,
        ),
        Threshold("clear", 1.5, "tenth percentile of the last third over the first loss", "sound runs: below 1, " + STUDY),
        Threshold("deep", 1e-4, "lowest over initial loss below which a rise has other causes (TD101)", STUDY),
        Threshold("overshoot", 1.3, "highest early level over the initial one", STUDY),
        Threshold("violent", 3.0, "highest early level over the initial one", "sound runs that end high: 1.45 at most, " + STUDY),
        Threshold(
            "alternating", 0.4, "share of the variance at periods of up to 2.5 steps", "arXiv:2103.00065: period 2 at the limit"
        ),
        Threshold("visible", 0.002, "noise over level from which an alternation is seen at all", STUDY),
        Threshold("low", 0.02, "tail loss over initial loss of a run that got down", STUDY),
        Threshold("back", 3.0, "tail loss over the lowest level, at a rate far above the usual", STUDY),
        Threshold("blown_up", 2.0, "change of the weight norm over its first value", STUDY),
        Threshold(
            "far_off", 8.0, "change of the weight norm over its first value", "sound runs that end high: 5.8 at most, " + STUDY
        ),
        Threshold("still", 0.1, "change of the level from the second logged point to the end", STUDY),
        Threshold("high", 0.1, "tail loss over initial loss from which a level is high", STUDY),
        Threshold("settled", 0.35, "share of the run until the level is reached", STUDY),
        Threshold("at_once", 0.15, "share of the run until the level is reached, at a rate far above the usual", STUDY),
        Threshold("jitter", 0.12, "noise of the validation loss over its level: same data, so the weights jump", STUDY),
        Threshold("wild_jitter", 0.5, "noise of the validation loss over its level, at any rate", STUDY),
        Threshold("noise", 0.1, "point-to-point noise over the level", STUDY),
    ),
    explains=("TD401", "TD612"),
    look_alikes=("TD301", "TD101"),
    experiment="the first tenth of the run at a tenth of the learning rate: it passes the old level if the rate was too high",
    replay_model="divergence",
    refutation="A run at a tenth of the learning rate that stays at the same level.",
)


@CAUSE.in_logs(needs=("loss",))
def diverges(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield growth beyond the start, or growth before the loss was lost."""
    loss = m.loss
    if m.is_adversarial or not loss.is_positive:
        return
    first_bad = loss.first_not_finite()
    before = loss.before(first_bad) if first_bad is not None else loss.value
    start = float(before[0]) if len(before) else float("nan")
    if first_bad is not None and len(before) >= 3:
        last, low = sorted(before[-3:])[1], float(min(before))
        top = float(max(before[-3:]))
        grew = last > limits["growth"] * low or float(before[-1]) > limits["leap"] * low
        if low > 0.0 and grew and top > limits["grown"] * start:
            yield supports(
                "growth",
                top / low,
                unit="times its lowest",
                weight=PROOF,
                onset=_onset(m),
                source=loss.source,
                text=f"The loss grew from {low:.3g} to {top:.3g} before it overflowed.",
            )
    elif first_bad is not None and len(before) == 2 and before[1] > limits["leapt"] * start > 0.0:
        yield supports(
            "growth",
            float(before[1]) / start,
            unit="times the first loss",
            weight=STRONG + MODERATE,
            onset=int(loss.step[0]),
            source=loss.source,
            text=f"The loss leapt from {start:.3g} to {before[1]:.3g} before it overflowed.",
        )
    elif first_bad is not None and len(before) in (1, 2):
        lr = m.peak_lr
        if lr is None or m.rate_ratio is None or m.rate_ratio > 1.0 / limits["usual"]:
            yield supports(
                "at_once",
                first_bad,
                unit="step",
                weight=MODERATE,
                onset=first_bad,
                source=loss.source,
                text="The loss was lost within the first logged steps.",
            )
    elif first_bad is None and loss.n >= 4:
        high = float(max(loss.smooth[-max(2, loss.n // 10) :]))
        sure = loss.fall_significance != loss.fall_significance or loss.fall_significance < -limits["sure"]
        wild = loss.n >= 16 and loss.late_high > limits["wild"]
        if (sure or wild) and high > limits["grown"] * loss.initial and loss.tail > limits["grown"] * loss.best:
            # a fall, and then a growth at no unusual rate: gradients that add up do the same, and only their norm would tell
            ratio = m.rate_ratio
            unclear = (
                ratio is not None and ratio < limits["usual"] / 3.0 and not m.has("grad_norm") and loss.best < 0.8 * loss.initial
            )
            yield supports(
                "grown",
                high / loss.initial,
                unit="times the initial loss",
                weight=PROOF if high > 2.0 * limits["grown"] * loss.initial and loss.n >= 6 and not unclear else STRONG + WEAK,
                onset=_onset(m),
                source=loss.source,
                text=f"The loss ends at {high:.3g}, above its start of {loss.initial:.3g}.",
            )
        elif loss.late_low > limits["clear"] and loss.tail > limits["blown"] * start:
            yield supports(
                "blown",
                loss.tail / start,
                unit="times the first loss",
                weight=PROOF,
                onset=int(loss.step[0]),
                source=loss.source,
                text=f"The loss jumps from {start:.3g} to the level of {loss.tail:.3g} and stays there.",
            )


def _start(m: Measurements, limits: Limits) -> float:
    """Return the first loss, that before any step: the level of the start is lower where it fell fast, higher where it rose.

    Where the first window was blown up, it is the second one.
    """
    first = float(m.loss.value[1 if _first_window(m, limits) > limits["blown_window"] else 0])
    return first if first > 0.0 else m.loss.initial


def _onset(m: Measurements) -> int:
    """Return the step of the lowest smoothed loss, after which it grew."""
    return int(m.loss.step[int(m.loss.smooth.argmin())])


def _is_judged(m: Measurements) -> bool:
    """Return whether the level of the loss means anything: positive, finite, no game, and not above where it started."""
    loss = m.loss
    return not m.is_adversarial and loss.is_positive and loss.n >= 8 and loss.first_not_finite() is None and loss.initial > 0


def _ratio(m: Measurements, limits: Limits) -> float | None:
    """Return the rate over the usual one; under SGD less what a clip takes away, of gradients of norm 1 if none is logged."""
    ratio, clip = m.rate_ratio, m.setting("gradient.clip_norm")
    adaptive = m.run.optimizer is not None and m.run.optimizer.is_adaptive
    if ratio is None or adaptive or not isinstance(clip, int | float) or not 0.0 < clip < limits["large_clip"]:
        return ratio
    if m.has("grad_norm") and m.clip_norm is None and m.grad_norm.middle < 0.99 * clip:
        return ratio  # it never clips
    return ratio * min(1.0, clip / m.grad_norm.middle if m.clip_norm is not None else clip)


def _is_far_above(m: Measurements, limits: Limits) -> bool:
    """Return whether the rate is known and far above the usual one."""
    ratio = _ratio(m, limits)
    return ratio is not None and ratio >= limits["usual"]


def _is_above(m: Measurements, limits: Limits) -> bool:
    """Return whether the rate of SGD is above what recipes use; steps of an adaptive optimizer do not kill at such rates."""
    ratio = _ratio(m, limits)
    return ratio is not None and ratio >= limits["above"] and not m.optimizer.is_adaptive


def _stands(m: Measurements, left: float, limits: Limits) -> bool:
    """Return whether the loss ended where it began, or where outputs say nothing; `left`: its level at the end over the start."""
    return left > limits["stands"] or (left > 0.5 and m.stillness is not None and m.stillness.classes is not None)


def _stands_above(m: Measurements, left: float, limits: Limits) -> bool:
    """Return whether SGD at a rate above recipes moved the weights and got nowhere, at no time."""
    moved = not m.has("weight_norm") or m.weight_norm.relative_change > limits["moved"]
    return _stands(m, left, limits) and _is_above(m, limits) and moved and m.loss.best > 0.5 * _start(m, limits)


def _is_very_far_above(m: Measurements, limits: Limits) -> bool:
    """Return whether one step at the rate moves weights further than they go: any far rate with steps of its size, else more."""
    ratio = _ratio(m, limits)
    adaptive = m.run.optimizer is not None and m.run.optimizer.is_adaptive
    return ratio is not None and ratio >= limits["usual" if adaptive else "far"]


def _first_window(m: Measurements, limits: Limits) -> float:
    """Return the first value over the second of a log of windows at a rate far above the usual; 1 for other logs.

    Where each value is the mean of an epoch, the first one holds what the first updates did, not the loss before them.
    """
    loss = m.loss
    by_epoch = m.run.step_unit == "epoch" or (
        m.has("val_loss") and m.series("val_loss").stride == loss.stride and m.series("val_loss").n >= 0.8 * loss.n
    )
    if not by_epoch or not _is_far_above(m, limits) or loss.n < 8 or not loss.value[1] > 0.0:
        return 1.0
    return float(loss.value[0] / loss.value[1])


def _is_high(m: Measurements, limits: Limits) -> bool:
    """Return whether much of the loss is left at the end, but not more than there was; half as much says it at a far rate."""
    left = m.loss.tail / _start(m, limits)
    return left <= limits["grown"] and left > limits["high"] * (0.5 if _is_far_above(m, limits) else 1.0)


@CAUSE.in_logs(needs=("loss",))
def alternates(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield an oscillation with a period of two steps, where every step was logged."""
    loss = m.loss
    if not _is_judged(m) or loss.n < 64 or loss.stride != 1 or m.run.step_unit != "step":  # two epochs are no two updates
        return
    period, share = loss.oscillation
    if period <= 2.5 and share > limits["alternating"] and loss.noise > limits["visible"]:
        yield supports(
            "alternating",
            period,
            unit="steps",
            weight=PROOF,
            source=loss.source,
            text=f"The loss alternates with a period of {period:.1f} steps: each update overshoots.",
        )


@CAUSE.in_logs(needs=("loss",))
def falls_back(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a level that was reached and lost again, and late spikes."""
    loss, rebound = m.loss, m.loss.rebound
    if not _is_judged(m):
        return
    left, far = loss.tail / _start(m, limits), _is_far_above(m, limits)
    late = loss.spikes[loss.spikes > loss.step[loss.n // 2]]
    if late.size >= 3 and far and left > limits["deep"]:
        yield supports(
            "spikes",
            int(late.size),
            unit="spikes",
            weight=WEAK,
            onset=int(late[0]),
            source=loss.source,
            text=f"In the second half the loss spikes {late.size} times, from {m.name_of(int(late[0]))} on.",
        )
    if left >= limits["grown"]:
        return
    if rebound is not None and rebound.decades > limits["lost"] and rebound.floor > limits["deep"] * loss.initial:
        yield supports(
            "lost",
            rebound.decades,
            unit="decades",
            weight=MODERATE if m.rate_ratio is None and left < limits["low"] else STRONG,
            onset=rebound.onset,
            source=loss.source,
            text=f"From {rebound.floor:.2g} the loss climbed back by {rebound.decades:.1f} decades from "
            f"{m.name_of(rebound.onset)} on.",
        )
    elif far and loss.tail > max(limits["back"], 1.0 + 5.0 * loss.noise) * loss.best:
        yield supports(
            "worse_than_best",
            loss.tail / loss.best,
            unit="times the lowest level",
            weight=MODERATE,
            source=loss.source,
            text=f"The loss ends at {loss.tail:.2g}, {loss.tail / loss.best:.0f} times its lowest level.",
        )


@CAUSE.in_logs(needs=("loss",))
def stays_at_a_level(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a level that is reached early and not left, or that the run got down well."""
    loss = m.loss
    if not _is_judged(m):
        return
    left, far = loss.tail / _start(m, limits), _is_far_above(m, limits)
    at_once = _is_very_far_above(m, limits) and loss.mostly_settled < limits["at_once"]
    restless = loss.noise > limits["noise"]
    still = at_once and loss.n >= 12 and abs(loss.since_second - 1.0) < limits["still"]
    if loss.tail < limits["falling"] * loss.middle_third:
        restless = at_once = still = False  # it goes on falling: there is no level
    if left < limits["low"] and not still:
        if not (at_once and restless and left > limits["deep"]):
            weight = WEAK if far and loss.settled < limits["at_once"] else MODERATE
            yield against(
                "low", left, unit="tail / initial loss", weight=weight, source=loss.source, text="The loss got down well."
            )
            return
    elif not still and not (_is_high(m, limits) and (at_once or (restless and loss.settled < limits["settled"]))):
        return
    yield supports(
        "level",
        loss.noise,
        unit="noise / level",
        weight=MODERATE,
        source=loss.source,
        text=f"The level of {loss.tail:.3g} is reached after {loss.mostly_settled if at_once else loss.settled:.0%} of the run "
        f"and not left; the loss bounces by {loss.noise:.0%}.",
    )


@CAUSE.in_logs(needs=("loss",))
def gets_nowhere(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield that little of the loss is gone at a far rate, or that it rose before it fell."""
    loss = m.loss
    if not _is_judged(m):
        return
    left = loss.tail / _start(m, limits)
    if left < limits["low"] or left > limits["grown"]:
        return
    far, stands = _is_far_above(m, limits), _stands(m, left, limits)
    if far and left > 0.5:
        yield supports(
            "nowhere",
            left,
            unit="tail / initial loss",
            weight=STRONG if stands else MODERATE,
            source=loss.source,
            text=f"At this rate the run got nowhere: {left:.0%} of the loss is left.",
        )
    elif _stands_above(m, left, limits):
        yield supports(
            "nowhere",
            left,
            unit="tail / initial loss",
            weight=STRONG if loss.excursion > max(limits["excursion"], limits["beyond_noise"] * loss.noise) else MODERATE,
            source=loss.source,
            text=f"The loss swung by {loss.excursion:.0%} of its level and ended at {loss.tail:.3g}, {left:.0%} of its start.",
        )
    start = max(_start(m, limits), loss.initial)
    early = float(max(loss.smooth[: max(3, loss.n // 5)]))
    if m.beginning is not None and m.beginning.sure:  # a rise of a few points, which the smoothed loss does not show
        early = max(early, m.beginning.overshoot * float(loss.value[0]))
    if _is_far_above(m, limits):
        early = max(early, float(max(loss.value[: max(4, loss.n // 10)])))
    if early > limits["overshoot"] * start:
        yield supports(
            "overshoot",
            early / start,
            unit="times the initial loss",
            weight=STRONG if early > limits["violent"] * start and left > limits["high"] else MODERATE,
            source=loss.source,
            text=f"The loss first rises from {start:.3g} to {early:.3g}.",
        )


@CAUSE.in_logs(needs=("loss",))
def first_window(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a first epoch that was blown up, at a rate far above the usual: the second one is the start of what follows."""
    loss = m.loss
    if not _is_judged(m):
        return
    over = _first_window(m, limits)
    if over > limits["blown_window"]:
        yield supports(
            "first_window",
            over,
            unit="times the second value",
            weight=STRONG,
            onset=int(loss.step[0]),
            source=loss.source,
            text=f"In {m.name_of(int(loss.step[0]))} the loss was {loss.value[0]:.3g} on average, after it {loss.value[1]:.3g}.",
        )


@CAUSE.in_logs(needs=("loss", "val_loss|weight_norm"))
def weights_jump(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield what the weights show of their jumps: a validation loss without rest, a norm blown up."""
    if not _is_judged(m):
        return
    left = m.loss.tail / _start(m, limits)
    if left < limits["low"] or left > limits["grown"]:
        return
    if m.has("val_loss") and m.series("val_loss").n >= 8 and m.series("val_loss").n_not_finite == 0:
        validation, far = m.series("val_loss"), _is_far_above(m, limits)
        wild = validation.noise > limits["wild_jitter"]
        # at a usual rate a small validation part that is still getting better jumps as much
        gaining = validation.tail_third < limits["gaining"] * validation.middle_third
        if validation.noise > limits["jitter"] and (far or (_is_high(m, limits) and (wild or not gaining))):
            yield supports(
                "jitter",
                validation.noise,
                unit="noise / level",
                weight=STRONG if far or wild else MODERATE,
                source=validation.source,
                text=f"The validation loss jumps by {validation.noise:.0%} from one evaluation to the "
                "next, on the same data: the weights do.",
            )
    blown_up = m.has("weight_norm") and m.weight_norm.n >= 3 and m.weight_norm.relative_change > limits["blown_up"]
    if blown_up and left > limits["high"]:
        yield supports(
            "weights",
            m.weight_norm.relative_change,
            unit="times the first weight norm",
            weight=_weight_of_weights(m, left, limits),
            source=m.weight_norm.source,
            text=f"The weight norm goes from {m.weight_norm.value[0]:.3g} to {m.weight_norm.highest:.3g}.",
        )


def _weight_of_weights(m: Measurements, left: float, limits: Limits) -> float:
    """Return what a weight norm that was blown up says: most where it grew many times over and the loss got nowhere."""
    if left > 0.5:
        return STRONG + WEAK if m.weight_norm.relative_change > limits["far_off"] / 2.0 else STRONG
    return STRONG if m.weight_norm.relative_change > limits["far_off"] else WEAK


@CAUSE.in_logs(needs=("loss",))
def rate(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the learning rate against the optimizer's default; it never convicts alone."""
    lr, ratio = m.peak_lr, _ratio(m, limits)
    if lr is None or ratio is None:
        return
    name = m.run.optimizer.name if m.run.optimizer else "the optimizer"
    # the scale of a rate of SGD depends on the scale of the loss, so that it says less
    adaptive = m.run.optimizer is not None and m.run.optimizer.is_adaptive
    if ratio >= limits["far"]:
        yield supports(
            "rate",
            lr,
            weight=STRONG if adaptive else MODERATE + WEAK,
            kind="config",
            source=m.lr_source,
            text=f"lr {lr:g} is {ratio:,.0f} times what {name} is usually given.",
        )
    elif ratio >= limits["usual"]:
        yield supports(
            "rate",
            lr,
            weight=MODERATE,  # with a level alone it is undecided: 4 sound runs of the study against 3 faulty ones
            kind="config",
            source=m.lr_source,
            text=f"lr {lr:g} is {ratio:.0f} times what {name} is usually given.",
        )
    elif _is_judged(m) and _stands_above(m, m.loss.tail / _start(m, limits), limits):
        yield supports(
            "rate",
            lr,
            weight=MODERATE + (WEAK if ratio > limits["well_above"] else 0.0),
            kind="config",
            source=m.lr_source,
            text=f"lr {lr:g} is {ratio:.0f} times what {name} is usually given, momentum counted.",
        )
    elif ratio <= 1.0:
        yield against(
            "rate",
            lr,
            weight=MODERATE if adaptive else WEAK,
            kind="config",
            source=m.lr_source,
            text=f"lr {lr:g} is not above what {name} is usually given.",
        )


@CAUSE.in_logs(needs=("loss", "learning_rate"))
def decayed(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a schedule that took the rate down: then the level at the end is not the rate's."""
    rate, loss = m.learning_rate, m.loss
    if rate.n >= 8 and rate.tail < 0.1 * rate.highest and loss.is_positive and loss.tail < 0.5 * loss.initial:
        yield against(
            "decayed",
            rate.tail / rate.highest,
            unit="last / peak",
            weight=MODERATE,
            source=rate.source,
            text="The schedule took the rate down: what is left at the end is not its doing.",
        )


#: Schedules whose factor is not below 1, and wrappers that scale the rate to the size of the weights.
_SCALED = lazy(
    r"noam|LambdaLR|lr_lambda|\b(?:fused)?_?(?:lars|larc|lamb)(?:\b|_)|trust_coef|\[.lr.\]\s*=|CyclicLR|OneCycle|InverseSquare"
    r"|rsqrt",
    re.IGNORECASE,
)


@CAUSE.in_script("optim")
def built_with_it(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each learning rate of a model's optimizer that is a hundred times the usual one, or more."""
    for made in script.constructions:
        if made.name not in NORMALISED | {"sgd"} or not made.trains_a_model:
            continue
        for given in made.everywhere("lr"):
            value = given.number
            if value is None or not _is_far(made.name, value, limits, script.text):
                continue
            yield Mistake(
                script.place(given.node),
                f"The learning rate of {made.shown} is {value:g}. {_what(made.name, value)}",
                "lower the learning rate: 1e-3 is usual" if made.name != "sgd" else "lower the learning rate: 0.1 is usual",
                given.severity("info" if made.name != "sgd" and value < limits["adam_sure"] else "warning"),
                related=made.related(given),
            )


@CAUSE.in_file
def set_to_it(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a learning rate of the config that is a hundred times the usual one of its optimizer, or more."""
    from traindoctor.configs.optimizer_values import FREE, numbers

    name = config.optimizer_name
    if name not in NORMALISED | {"sgd"}:
        return
    for slot, value in numbers(config, "lr"):
        if not _is_far(name, value, limits, config.text):
            continue
        absurd = name != "sgd" and value >= limits["absurd"] and config.dialect not in FREE
        yield Mistake(
            config.place(slot),
            f"{slot.entry.key} is {value:g}, with {name}. {_what(name, value)}",
            f"lower {slot.entry.key}: {'0.1' if name == 'sgd' else '1e-3'} is usual",
            "error" if absurd else "info" if name != "sgd" and value < limits["adam_sure"] else "warning",
        )


def _is_far(name: str, value: float, limits: Limits, text: str) -> bool:
    """Return whether a rate is far above the usual one, and nothing in the text says that it is scaled or bounded."""
    if name == "sgd":
        return value > limits["sgd"] and not _SCALED.search(text)
    return value > limits["adam"] and not _SCALED.search(text)


def _what(name: str, value: float) -> str:
    if name == "sgd":
        return f"It is stable only where no curvature of the loss is above {2 / value:.2g}, twice its inverse."
    return f"Each step moves every weight by about {value:g}, whatever its gradient: more than most weights are."


@CAUSE.fixes
def lower(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield a smaller rate: three times the usual one where the run is far above it, a tenth elsewhere."""
    from traindoctor.model import Fix

    lr = m.setting("optimizer.lr")
    lr = lr if isinstance(lr, int | float) and lr > 0 else m.peak_lr
    if lr is None:
        yield Fix("Divide the learning rate by 10", note="the log does not hold it, so it cannot be sized")
        return
    usual, ratio = m.usual_lr, m.rate_ratio
    adaptive = m.run.optimizer is not None and m.run.optimizer.is_adaptive
    if adaptive and usual is not None and ratio is not None and ratio >= limits["usual"]:
        value, note = float(f"{3.0 * usual:.2g}"), f"three times the usual {usual:g}; go down to it if the loss still bounces"
    else:
        value, note = float(f"{lr / 10.0:.2g}"), "a tenth; a factor of three either way is worth a short run each"
    yield Fix(f"Lower lr from {lr:g} to {value:g}", {"optimizer.lr": value}, note=note)


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    loss, names = m.loss, {e.name for e in evidence if e.supports}
    last = int(loss.series.step[-1]) + 1
    rate = f"a learning rate of {m.peak_lr:g}" if m.peak_lr else "the learning rate"
    if names & {"growth", "grown", "at_once", "blown"}:
        onset = next(e.onset for e in evidence if e.name in ("growth", "grown", "at_once", "blown"))
        start = 0 if onset is None else onset
        title = f"Training diverged from {m.name_of(start)}: {rate} was too high."
        return Statement(title, " ".join(e.text for e in evidence if e.supports), Segment(start, last, start))
    if "lost" in names:
        start = next(e.onset or 0 for e in evidence if e.name == "lost")
        title = (
            f"Training fell back from {m.name_of(start)}: {rate} was too high, and the loss ended at "
            f"{loss.tail:.2g} after {loss.best:.2g}."
        )
        return Statement(title, " ".join(e.text for e in evidence if e.supports), Segment(start, last, start))
    start = loss.reached if loss.n >= 4 else 0
    title = f"Training stalled at {m.name_of(start)}: {rate} was too high, and the loss bounced near {loss.tail:.2g}."
    return Statement(title, " ".join(e.text for e in evidence if e.supports), Segment(start, last, start))


def _wave(k: int) -> float:
    """Return a deterministic noise in [-1, 1]."""
    return ((k * 2654435761) % 2048) / 1024.0 - 1.0


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    adam = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    hot = OptimizerSpec("adam", lr=0.3, beta1=0.9, beta2=0.999, eps=1e-8)
    fall = [2.3 * 0.97**k for k in range(200)]
    stuck = [(2.3 if k < 6 else 0.6) * (1.0 + 0.3 * _wave(k)) for k in range(200)]
    valid = (
        Example("clean descent", run_of(adam, loss=fall)),
        Example("high rate that does no harm", run_of(hot, loss=[2.3 * 0.95**k for k in range(200)])),
        Example("noisy plateau at the default rate", run_of(adam, loss=stuck)),
        Example("early spike that recovers", run_of(adam, loss=[2.3, 9.0, 4.0, *fall])),
        Example("signed loss of a policy", run_of(adam, loss=[-0.1 - 0.02 * k for k in range(100)])),
        Example("a generator's loss rises", run_of(adam, loss=[0.7 + 0.02 * k for k in range(100)], d_loss=[1.0] * 5)),
        Example("one value", run_of(hot, loss=[1.0])),
        Example(
            "a small validation part that still gets better, at a usual rate",
            run_of(
                OptimizerSpec("sgd", lr=0.02),
                loss=[(1.3 * 0.9**k + 0.28) * (1.0 + 0.3 * _wave(k)) for k in range(100)],
                val_loss=[(0.35 * 0.8**k + 0.2 * 0.98**k) * (1.0 + 0.2 * _wave(k)) for k in range(40)],
            ),
        ),
        Example(
            "still falling at a high rate",
            run_of(hot, loss=[(9.0 * 0.98**k + 0.001) * (1.0 + 0.4 * _wave(k)) for k in range(400)]),
        ),
    )
    invalid = (
        Example("diverges", run_of(OptimizerSpec("sgd", lr=1.0), loss=[2.3 * 1.08**k for k in range(60)])),
        Example("overflows", run_of(OptimizerSpec("sgd", lr=9.0), loss=[2.0**k for k in range(40)] + [float("inf")] * 9)),
        Example("bounces at a level, rate 300 times the default", run_of(hot, loss=stuck)),
        Example(
            "blows up once and stays",
            run_of(OptimizerSpec("sgd", lr=2.0), loss=[2.3] + [132.0 + 9.0 * _wave(k) for k in range(200)]),
        ),
        Example(
            "SGD above any recipe that swings, and stands at chance",
            run_of(
                OptimizerSpec("sgd", lr=0.3, momentum=0.9),
                loss=[2.3, 4.03, 5.88, 2.28, 2.47, *(2.31 + 0.01 * _wave(k) for k in range(60))],
            ),
        ),
        Example("leaps, and overflows", run_of(OptimizerSpec("sgd", lr=3.0), loss=[1.41, 8070.0] + [float("nan")] * 30)),
        Example("alternates", run_of(OptimizerSpec("sgd", lr=0.5), loss=[0.4 + 0.02 * (-1) ** k for k in range(200)])),
    )
    return valid, invalid


CAUSE.valid_code = (
    Sample(
        "usual rates",
        """import torch
a = torch.optim.Adam(m.parameters(), lr=3e-3)
b = torch.optim.SGD(n.parameters(), lr=1.6)
""",
    ),
    Sample(
        "an image is optimised",
        """import torch
image = content.clone().requires_grad_()
opt = torch.optim.Adam([image], lr=10.0)
""",
    ),
    Sample("a latent code", "import torch\nopt = torch.optim.Adam([latent] + noises, lr=0.5)\n"),
    Sample("Adadelta", "import torch\nopt = torch.optim.Adadelta(m.parameters(), lr=1.0)\n"),
    Sample(
        "LBFGS and Rprop",
        """import torch
a = torch.optim.LBFGS(m.parameters(), lr=1)
b = torch.optim.Rprop(m.parameters(), lr=1.0)
""",
    ),
    Sample("Prodigy finds its own", "from prodigyopt import Prodigy\nopt = Prodigy(m.parameters(), lr=1.0)\n"),
    Sample(
        "Adafactor",
        """from transformers import Adafactor
opt = Adafactor(m.parameters(), lr=1.0, relative_step=False)
""",
    ),
    Sample(
        "factor of a schedule",
        """import torch
opt = torch.optim.Adam(m.parameters(), lr=1.0, betas=(0.9, 0.98), eps=1e-9)
s = torch.optim.lr_scheduler.LambdaLR(opt, rate)
""",
    ),
    Sample(
        "a language model, clipped",
        """import torch
m = torch.nn.LSTM(8, 8)
opt = torch.optim.SGD(m.parameters(), lr=30.0)
torch.nn.utils.clip_grad_norm_(m.parameters(), 0.25)
""",
    ),
    Sample("from the command line", "import torch\nopt = torch.optim.Adam(m.parameters(), lr=args.lr * world_size)\n"),
    Sample("Adagrad", "import torch\nopt = torch.optim.Adagrad(m.parameters(), lr=0.5)\n"),
    Sample(
        "LAMB",
        """opt: lamb
sched: cosine
lr: 8.0
warmup_lr: 1.0e-6
reprob: 0.1
""",
        file="args.yaml",
    ),
    Sample(
        "LARS",
        """optimizer:
  name: lars
  lr: 4.8
""",
        file="config.yaml",
    ),
    Sample(
        "Prodigy in a config",
        """pretrained_model_name_or_path = "m"
network_dim = 8
unet_lr = 1.0
learning_rate = 1.0
optimizer_type = "Prodigy"
max_train_steps = 100
""",
        file="config.toml",
    ),
    Sample(
        "DAdaptation",
        """base_model: a/b
micro_batch_size: 2
sequence_len: 512
optimizer: DAdaptAdam
learning_rate: 1.0
""",
        file="config.yaml",
    ),
    Sample(
        "Noam",
        """optim: adam
lr: 10.0
scheduler: noam
""",
        file="config.yaml",
    ),
    Sample(
        "YOLOv5",
        """lr0: 0.01
lrf: 0.01
box: 0.05
cls: 0.5
obj: 1.0
anchor_t: 4.0
fl_gamma: 0.0
momentum: 0.937
""",
        file="hyp.yaml",
    ),
    Sample(
        "chosen by Ultralytics",
        """task: detect
mode: train
lr0: 1.0
lrf: 0.01
box: 7.5
cls: 0.5
optimizer: auto
momentum: 0.937
""",
        file="args.yaml",
    ),
    Sample(
        "interpolated",
        """optimizer:
  _target_: torch.optim.AdamW
  lr: ${lr}
""",
        file="config.yaml",
    ),
)
CAUSE.invalid_code = (
    Sample("Adam", "import torch\nopt = torch.optim.Adam(model.parameters(), lr=1.0)  # <-\n"),
    Sample(
        "SGD",
        """import torch.optim as optim
opt = optim.SGD(net.parameters(), 100, momentum=0.9)  # <-
""",
    ),
    Sample(
        "filtered, over lines",
        """import torch
opt = torch.optim.AdamW(
    filter(lambda p: p.requires_grad, model.parameters()),
    lr=3.0,  # <-
    weight_decay=0.01,
)
""",
    ),
    Sample(
        "named",
        """from torch.optim import RMSprop

learning_rate = 0.5  # <-

class T:
    def configure_optimizers(self):
        return RMSprop(self.parameters(), lr=learning_rate)
""",
    ),
    Sample(
        "in a group",
        """import torch
opt = torch.optim.Adam([
    {'params': m.body.parameters()},
    {'params': m.head.parameters(), 'lr': 5.0},  # <-
], lr=1e-4)
""",
    ),
    Sample(
        "Keras",
        """from tensorflow import keras
model.compile(optimizer=keras.optimizers.Adam(learning_rate=1.0), loss='mse')  # <-
""",
    ),
    Sample("plain", "optimizer: adamw\nlr: 10  # <-\n", file="config.yaml"),
    Sample(
        "Hugging Face, by default AdamW",
        """output_dir: o
per_device_train_batch_size: 4
learning_rate: 5  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "torchtune",
        """optimizer:
  _component_: torch.optim.AdamW
  lr: 2.0  # <-
epochs: 1
""",
        file="config.yaml",
    ),
    Sample(
        "MMEngine",
        "optim_wrapper = dict(optimizer=dict(type='AdamW', lr=0.5, weight_decay=0.05))  # <-\n",
        file="config_small.py",
    ),
    Sample(
        "Detectron2",
        """SOLVER:
  BASE_LR: 200.0  # <-
  MAX_ITER: 90000
  IMS_PER_BATCH: 16
""",
        file="config.yaml",
    ),
    Sample(
        "DeepSpeed",
        """{"train_batch_size": 8,
 "zero_optimization": {"stage": 1},
 "optimizer": {"type": "AdamW", "params": {
  "lr": 3.0}}}
""",
        file="ds_config.json",
        line=4,
    ),
    Sample(
        "kohya, by default AdamW",
        """pretrained_model_name_or_path = "m"
network_dim = 8
network_alpha = 4
learning_rate = 1.0  # <-
max_train_steps = 100
""",
        file="config.toml",
    ),
    Sample(
        "LightningCLI",
        """trainer:
  max_epochs: 3
model:
  class_path: a.B
optimizer:
  class_path: torch.optim.Adam
  init_args:
    lr: 10.0  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "Keras json",
        """{"class_name": "Adam",
 "config": {
  "learning_rate": 1.0,
  "beta_1": 0.9}}
""",
        file="optimizer.json",
        line=3,
    ),
    Sample(
        "Megatron",
        """torchrun pretrain_gpt.py \\
  --tensor-model-parallel-size 1 \\
  --train-iters 100 \\
  --lr-decay-iters 100 \\
  --global-batch-size 8 \\
  --optimizer adam \\
  --lr 1.5
""",
        file="pretrain.sh",
        line=7,
    ),
)
