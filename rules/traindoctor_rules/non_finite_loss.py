"""The loss or a gradient norm becomes NaN or infinite.

## What it looks like
Finite values, then NaN or Inf to the end. Either they come out of a growth (then the growth is the cause, and this finding
folds under it), or out of nothing.

## Why it happens
Out of nothing: the logarithm or square root of zero, a division by zero, a NaN in the data. An overflow in half precision (TD407)
and settings that make an update 0/0 (TD102, TD104) are causes of their own.

## When it is wrong
A logger that writes NaN for "not measured" in rows of another kind; timers and rewards are not losses and are left alone.

## What repairs it
The operation, not the optimizer: find it with `torch.autograd.set_detect_anomaly(True)` on the batch of that step.

## References
Goodfellow, Bengio and Courville 2016, Deep learning, section 4.1 (overflow and underflow).
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
    damaged,
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.checkpoints.state import State
    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements, SeriesMeasurements

NAN = float("nan")
CAUSE = Cause(
    code="TD401",
    name="non-finite-loss",
    summary="the loss or a gradient norm becomes NaN or infinite",
    explanation=__doc__,
    thresholds=(
        Threshold("share", 0.5, "of the values from the first bad one on", "definition: the run does not come back"),
        Threshold("growth", 2.0, "last finite level over the lowest level before", "benchmarks/study: sudden NaN stays below"),
    ),
    look_alikes=("TD201", "TD102", "TD407"),
    experiment="run the step before the first bad value with torch.autograd.set_detect_anomaly(True)",
    refutation="The same step recomputed from its checkpoint and batch with a finite loss.",
)


def _lost(series: SeriesMeasurements, share: float) -> int | None:
    """Return the first step from which most values are not finite."""
    import numpy as np

    bad = ~np.isfinite(series.series.value)
    first = int(np.argmax(bad)) if bad.any() else -1
    if first < 0 or float(np.mean(bad[first:])) < share:
        return None
    return int(series.series.step[first])


@CAUSE.in_logs(needs=())
def not_finite(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the first step at which a loss, gradient or weight norm is lost for good."""
    from traindoctor.signals.precision import growth_before

    lost = False
    for quantity in ("loss", "grad_norm", "weight_norm", "val_loss"):
        if quantity not in m.run.primary:
            continue
        series = m.series(quantity)
        step = _lost(series, limits["share"])
        if step is None:
            continue
        if quantity != "loss" and lost:
            continue  # the same fact again
        lost = lost or quantity == "loss"
        yield supports(
            f"{quantity}_not_finite",
            step,
            unit="step",
            weight=PROOF if quantity == "loss" else MODERATE,
            onset=step,
            source=series.source,
            text=f"{series.tag} is not finite from step {step:,} on: {series.n_not_finite:,} of {len(series.series):,} values.",
        )
    for damage in m.run.damages:
        if damage.kind in ("hidden-nan", "zero-for-nan"):
            onset = damage.step if damage.step is not None else int(m.loss.step[-1]) if m.has("loss") else 0
            text = f"NaN is hidden by how it was logged: {damage.detail}."
            yield supports("hidden_nan", onset, unit="step", weight=PROOF, onset=onset, source=damage.file, text=text)
    if "loss" in m.run.primary:
        step = _lost(m.loss, limits["share"])
        before = m.loss.before(step) if step is not None else m.loss.value[:0]
        growth = growth_before(before)
        if growth < limits["growth"]:
            yield supports(
                "calm_before",
                float(before[-1]),
                unit="loss",
                weight=STRONG,
                source=m.loss.source,
                text="The loss was low until the last finite value: an operation failed, the training did not diverge.",
            )
        elif growth >= limits["growth"]:
            yield against(
                "growth_before",
                growth,
                unit="times its lowest level",
                weight=STRONG,
                source=m.loss.source,
                text="The loss had grown before it was lost: what made it grow is the cause.",
            )


@CAUSE.in_state
def weights_not_finite(state: State, m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield weights that hold NaN or infinities, or finite ones whose optimizer state does."""
    last = state.last
    broken = last.broken
    onset = last.step if last.step is not None else max((int(s.step[-1]) for s in m.run.primary.values() if len(s)), default=0)
    if broken:
        lost = sum(last.weights[name].lost for name in broken)
        yield supports(
            "weights_not_finite",
            len(broken),
            unit="tensors",
            weight=WEAK if "loss" in m.run.primary and _lost(m.loss, limits["share"]) is not None else PROOF,
            kind="state",
            onset=onset,
            source=last.file,
            text=f"{last.at}: {lost:,} values of {len(broken)} of {len(last.weights)} tensors are NaN or infinite; the "
            f"first is {broken[0]}.",
        )
        return
    for optimizer in last.optimizers:
        held = [one for one in optimizer.with_state if any(values.lost for values in one.slots.values())]
        if held:
            yield supports(
                "state_not_finite",
                len(held),
                unit="parameters",
                weight=PROOF,
                kind="state",
                onset=onset,
                source=last.file,
                text=f"{last.at}: the weights are finite, and the optimizer's state of {len(held)} of "
                f"{len(optimizer.held)} parameters "
                f"is not; the first is {optimizer.label(held[0])}. It reaches the weights, or stops them, with the next step.",
            )


@CAUSE.fixes
def change(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the way to the operation."""
    from traindoctor.model import Fix

    yield Fix(
        "Find the operation with torch.autograd.set_detect_anomaly(True) and bound its argument",
        note="log(x) as log(x + tiny), sqrt(x) as sqrt(x + tiny), a division with its denominator held above 0",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    first = min((e for e in evidence if e.onset is not None), key=lambda e: e.onset or 0)
    onset = first.onset or 0
    last = max(int(s.step[-1]) for s in m.run.primary.values() if len(s))
    if first.name == "hidden_nan":
        title = f"Training failed from {m.name_of(onset)}: the loss became NaN, and the logger hid it."
        return Statement(title, first.text, Segment(onset, last + 1, onset))
    if first.kind == "state":
        what = "the weights" if first.name.startswith("weights") else "the optimizer's state"
        return Statement(f"Training failed by {m.name_of(onset)}: {what} became NaN or infinite.", first.text, None)
    return Statement(
        f"Training failed from {m.name_of(onset)}: the "
        f"{first.name.removesuffix('_not_finite').replace('_', ' ')} became NaN or infinite, and nothing finite followed.",
        first.text,
        Segment(onset, last + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.checkpoints.examples import checkpoint_of, state_of
    from traindoctor.model import Damage, OptimizerSpec

    fall = [2.3 / (1.0 + 0.1 * k) for k in range(60)]
    valid = (
        Example("finite", run_of(OptimizerSpec("sgd", lr=0.1), loss=fall)),
        Example("one NaN that was skipped", run_of(OptimizerSpec("adam", lr=1e-3), loss=[*fall[:30], NAN, *fall[30:]])),
        Example("one value", run_of(loss=[1.0])),
        Example(
            "grew before it was lost", run_of(OptimizerSpec("sgd", lr=9.0), loss=[2.0**k for k in range(40)] + [float("inf")] * 9)
        ),
    )
    invalid = (
        Example("NaN out of nothing", run_of(OptimizerSpec("sgd", lr=0.1), loss=[*fall, *[NAN] * 20])),
        Example("hidden by the logger", damaged(Damage("hidden-nan", "state.json", "the loss is 0.0 from step 1 on", step=1))),
        Example("all NaN", run_of(OptimizerSpec("sgd", lr=0.1), loss=[NAN] * 20)),
    )
    return (
        (*valid, Example("weights that are whole", run_of(loss=fall), state=state_of(checkpoint_of()))),
        (*invalid, Example("the log ends before the weights are lost", run_of(loss=fall), state=state_of(checkpoint_of(nan=3)))),
    )
