"""Logits drift: attention or output scores grow a little each step, for long, until the loss turns.

## What it looks like
The run learns, and then slowly gets worse over a large part of it, with no spike to begin with. The largest attention logit, or
the logarithm of the softmax's sum (log Z), grows all the time and faster and faster; so do gradient and weight norm.

## Why it happens
Nothing holds the scale of queries and keys, or of the last layer, where only differences of scores count. Large scores saturate
the softmax, whose gradient then comes in few, large pieces. It is slow at small scale and a common end of long, large runs.

## When it is wrong
Scores grow in every sound run while it becomes sure, and level off. A learning rate that is too high ends alike, but soon, and
noisily. Overfitting raises the validation loss alone.

## What repairs it
Normalised queries and keys (qk-norm), a penalty on log Z squared (z-loss, 1e-4), weight decay, a lower rate.

## References
Wortsman et al. 2023, Small-scale proxies for large-scale transformer training instabilities, arXiv:2309.14322 (attention logit
growth, output logit divergence). Dehghani et al. 2023, Scaling vision transformers to 22 billion parameters, arXiv:2302.05442
(qk-norm). Chowdhery et al. 2022, PaLM, arXiv:2204.02311, section 5 (z-loss 1e-4).
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
    against,
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"
#: Quantity -> what it is called in a sentence.
NAMES = {"attention_logit": "the largest attention logit", "log_z": "log Z"}

CAUSE = Cause(
    code="TD613",
    name="logits-drift",
    summary="attention or output scores grow all the time, until the loss turns",
    explanation=__doc__,
    thresholds=(
        Threshold("grown", 4.0, "last over first level of the logits", STUDY),
        Threshold(
            "attention_logit", 50.0, "level at which a softmax is saturated", "exp(-50) is below the float32 epsilon squared"
        ),
        Threshold("log_z", 20.0, "level that no sound model of the study has", STUDY),
        Threshold("faster", 1.2, "late over early pace of the growth; sound runs level off", STUDY),
        Threshold("steady", 0.9, "rank correlation of time and level", STUDY),
        Threshold("risen", 1.15, "loss at the end over its best", STUDY),
        Threshold("learnt", 0.8, "best over initial loss of a run that had learnt", STUDY),
        Threshold("slow", 0.2, "share of the run over which the loss rises", STUDY),
    ),
    explains=("TD201", "TD401"),
    look_alikes=("TD201",),
    experiment="log the largest attention logit and log Z every hundred steps",
    refutation="Logits that are level while the loss rises.",
)


@CAUSE.in_logs(needs=("attention_logit|log_z",))
def logits_grow(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield scores that grow all the time and faster, or that are level."""
    from traindoctor.signals.drift import drift

    for quantity, name in NAMES.items():
        if not m.has(quantity):
            continue
        seen = m.series(quantity)
        moves = drift(abs(seen.value))
        if moves is None or not moves.first > 0.0:
            continue
        if moves.order > limits["steady"] and moves.factor > limits["grown"] and moves.last > limits[quantity]:
            yield supports(
                quantity,
                moves.last,
                unit="logit",
                weight=STRONG if moves.pace > limits["faster"] else MODERATE,
                source=seen.source,
                text=f"{name[0].upper()}{name[1:]} grows all the time, from {moves.first:.3g} to {moves.last:.3g}"
                + (", and faster and faster." if moves.pace > limits["faster"] else "."),
            )
        elif moves.last < 0.5 * limits[quantity]:
            yield against(
                quantity,
                moves.last,
                unit="logit",
                weight=STRONG,
                source=seen.source,
                text=f"{name[0].upper()}{name[1:]} is {moves.last:.3g} at the end: no softmax is saturated.",
            )


@CAUSE.in_logs(needs=("loss",))
def turns_slowly(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a loss that had fallen and then rises slowly, with norms that creep up."""
    from traindoctor.signals.drift import drift

    loss = m.loss
    if m.is_adversarial or not loss.is_positive or loss.n < 24 or loss.n_not_finite:
        return
    low = int(loss.smooth.argmin())
    after = drift(loss.value[low:])
    if after is None or loss.best > limits["learnt"] * loss.initial or loss.tail < limits["risen"] * loss.best:
        return
    share = 1.0 - low / loss.n
    if after.order < 0.8 or share < limits["slow"]:
        return
    yield supports(
        "turn",
        loss.tail / loss.best,
        unit="last / best loss",
        weight=MODERATE,
        onset=int(loss.step[low]),
        source=loss.source,
        text=f"Since {m.name_of(int(loss.step[low]))} the loss rises steadily, from {loss.best:.3g} to {loss.tail:.3g}, over "
        f"{share:.0%} of the run.",
    )
    for quantity, name in (("grad_norm", "gradient norm"), ("weight_norm", "weight norm")):
        if not m.has(quantity) or m.series(quantity).n < 24:
            continue
        seen = m.series(quantity)
        creep = drift(seen.value[seen.n // 4 :])
        if creep is not None and creep.order > limits["steady"] and creep.factor > 2.0:
            yield supports(
                quantity,
                creep.factor,
                unit="times",
                weight=WEAK,
                source=seen.source,
                text=f"The {name} creeps up {creep.factor:.1f} times, without a jump.",
            )


@CAUSE.in_logs(needs=("loss",))
def rate(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a learning rate far above the usual one, which does the same."""
    ratio = m.rate_ratio
    if ratio is not None and ratio >= 30.0:
        yield against(
            "rate",
            m.peak_lr,
            kind="config",
            weight=STRONG,
            source=m.lr_source,
            text=f"The rate is {ratio:.0f} times the usual one.",
        )


@CAUSE.fixes
def hold(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield what holds the scale of the scores."""
    from traindoctor.model import Fix

    name = "attention" if m.has("attention_logit") and not m.has("log_z") else "output"
    if name == "attention":
        yield Fix("Normalise queries and keys before their product (qk-norm)", note="arXiv:2302.05442; logits then cannot grow")
    else:
        yield Fix("Add 1e-4 times the mean of log Z squared to the loss (z-loss)", note="arXiv:2204.02311, section 5")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next((e.onset for e in evidence if e.onset is not None), None)
    series = m.loss.series if m.has("loss") else next(m.series(q).series for q in NAMES if m.has(q))
    start = int(series.step[0]) if onset is None else onset
    return Statement(
        f"The logits drifted, and training turned at {m.name_of(start)}: nothing held their scale.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(start, int(series.step[-1]) + 1, start),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    fall = [4.0 * 0.97**k + 1.0 for k in range(100)]
    turn = [*fall[:60], *[fall[59] * 1.02**k for k in range(100)]]
    grow = [2.0 * 1.025**k for k in range(160)]
    valid = (
        Example("logits that level off", run_of(loss=fall, attention_logit=[30.0 * (1.0 - 0.95**k) for k in range(100)])),
        Example("large logits, and the loss falls", run_of(loss=fall, attention_logit=[2.0 * 1.04**k for k in range(100)])),
        Example("the loss turns, logits are level", run_of(loss=turn, log_z=[4.6] * 160)),
        Example("the loss turns, no more is known", run_of(loss=turn)),
        Example("two points", run_of(loss=[4.0, 3.0], log_z=[1.0, 90.0])),
        Example("infinite logits", run_of(loss=fall, log_z=[float("inf")] * 100)),
    )
    invalid = (
        Example(
            "attention logits grow, the loss turns",
            run_of(loss=turn, attention_logit=grow, grad_norm=[0.5 * 1.02**k for k in range(160)]),
        ),
    )
    return valid, invalid
