"""Adam's eps is zero, or becomes zero in the working precision, so that a zero gradient is divided by zero.

## What it looks like
NaN at the first step at which a coordinate's gradient is exactly zero: often the very first one (dead pixels, unused
embeddings, a ReLU that is off for the whole batch).

## Why it happens
The update is m / (sqrt(v) + eps). Where m and v are 0, eps alone keeps it from being 0/0. In float16 everything below 2^-25
(3e-8) rounds to zero, and the default 1e-8 is lost: with parameters and optimizer state in half precision eps is exactly 0.

## When it is wrong
Mixed precision keeps parameters and moments in float32: autocast, GradScaler, "16-mixed" and bfloat16 (which has float32's
range) are fine. A gradient that is never exactly zero needs no eps; then there is no finding.

## What repairs it
float32 master weights (mixed precision), or an eps that the precision can hold: 1e-7 at least in float16, 1e-4 is usual.

## References
IEEE 754-2019, binary16: smallest subnormal 2^-24, so that anything up to 2^-25 rounds to 0.
pytorch/pytorch issues 26218 and 147437; google-deepmind/optax issue 1755 (NaN from eps in float16).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.rule import (
    MODERATE,
    PROOF,
    STRONG,
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

    from traindoctor.model import Evidence, Fix, Run
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD102",
    name="epsilon-too-small",
    summary="eps is zero in the working precision: a zero gradient becomes 0/0",
    explanation=__doc__,
    thresholds=(
        Threshold("early", 0.2, "share of the run before the first NaN", "a coordinate without gradient shows at once"),
        Threshold("rebound", 3.0, "decades above the floor", "benchmarks/study, tuning part; as TD101"),
        Threshold("reached", 10.0, "rms sqrt(v_hat) over eps", "eps then takes a tenth of the denominator or more"),
        Threshold("parameters", 1000.0, "assumed where the number is not known", "as TD103"),
    ),
    explains=("TD401", "TD201"),
    look_alikes=("TD401",),
    experiment="count the coordinates whose gradient is exactly zero in the first batch",
    refutation="A first update without NaN at the same settings.",
)

#: Settings of `precision` under which the parameters themselves are float16; "fp16" alone usually means mixed precision.
PURE_HALF = frozenset({"float16", "half", "16-true", "pure_fp16", "full_fp16", "torch.float16", "fp16-true"})


def is_pure_half(run: Run) -> bool:
    """Return whether parameters and optimizer state are said to be float16."""
    setting = run.settings.get("precision")
    return setting is not None and str(setting.value).lower() in PURE_HALF


@CAUSE.in_config
def zero_in_working_precision(run: Run, limits: Limits) -> Iterator[Evidence]:
    """Yield an eps that is 0 as set, or as stored; decided exactly from value and precision."""
    spec = run.optimizer
    if spec is None or not spec.is_adaptive or spec.eps is None:
        return
    import numpy as np

    stored = float(np.float16(spec.eps)) if is_pure_half(run) else spec.eps
    if stored == 0.0:
        how = "set to 0" if spec.eps == 0.0 else f"{spec.eps:g}, which float16 stores as exactly 0"
        yield supports(
            "eps",
            spec.eps,
            weight=STRONG,
            kind="config",
            source=spec.origin.get("eps", ""),
            text=f"eps is {how}: nothing keeps 0/0 away.",
        )


@CAUSE.in_logs(needs=("optimizer.eps",))
def nan_at_once(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a NaN early in the run, or a run that never met a zero gradient."""
    stored_zero = any(True for _ in zero_in_working_precision(m.run, limits))
    if not stored_zero:
        return
    for quantity in ("loss", "weight_norm", "grad_norm"):
        if quantity not in m.run.primary:
            continue
        series = m.series(quantity)
        first = series.first_not_finite()
        if first is None:
            continue
        span = int(series.series.step[-1]) - int(series.series.step[0])
        early = first - int(series.series.step[0]) <= limits["early"] * max(span, 1)
        yield supports(
            "first_nan",
            first,
            unit="step",
            weight=PROOF if early else MODERATE,
            onset=first,
            source=series.source,
            text=f"{series.tag} is not finite from step {first:,} on" + (", at once, as 0/0 makes it." if early else "."),
        )
        return
    if "loss" in m.run.primary:
        yield against(
            "finite",
            m.loss.n,
            unit="points",
            weight=STRONG,
            source=m.loss.source,
            text="Every logged loss is finite: no gradient was exactly zero.",
        )


@CAUSE.in_logs(needs=("loss", "grad_norm", "optimizer.eps"))
def is_reached(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a second moment that fell to the size of eps while the loss then left its floor: the floor of the rate is too low."""
    eps, rebound = m.optimizer.eps, m.loss.rebound
    if not eps or rebound is None or rebound.decades < limits["rebound"] or not m.optimizer.is_adaptive:
        return
    n = m.n_parameters or limits["parameters"]
    root = (m.second_moment.at(rebound.onset) / n) ** 0.5
    if root < limits["reached"] * eps:
        known = "" if m.n_parameters else f", if the model has {n:,.0f} parameters"
        yield supports(
            "reached",
            root / eps,
            unit="√v̂ / eps",
            weight=STRONG,
            onset=rebound.onset,
            source=f"{m.grad_norm.source}, replayed",
            text=f"At the onset rms √v̂ is {root / eps:.2g} times eps{known}: eps is what bounds the effective rate, and too low.",
        )


@CAUSE.fixes
def larger(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield float32 state for half precision, or the framework's own eps."""
    from traindoctor.model import Fix

    if is_pure_half(m.run):
        yield Fix(
            "Keep the parameters in float32 (mixed precision)",
            {"precision": "16-mixed"},
            note="eps then keeps its value; where memory forbids it, eps 1e-4, which float16 can hold, at some cost in accuracy",
        )
        yield Fix(f"Raise eps from {m.optimizer.eps:g} to 0.0001", {"optimizer.eps": 1e-4}, note="float16 stores it as 1.0e-4")
        return
    default = {"adagrad": 1e-10}.get(m.optimizer.name, 1e-7 if m.optimizer.dialect == "keras" else 1e-8)
    yield Fix(f"Set eps to {default:g}", {"optimizer.eps": default}, note="the framework's default")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next((e.onset for e in evidence if e.onset is not None), None)
    last = max((int(s.step[-1]) for s in m.run.primary.values() if len(s)), default=0)
    where = f"from step {onset:,}" if onset is not None else "by its settings"
    if any(e.name == "reached" for e in evidence):
        why = "the second moment fell to eps, which was too low a floor, and the effective learning rate outgrew the loss surface"
    elif is_pure_half(m.run):
        why = "eps is zero in float16, and a coordinate without gradient was divided by zero"
    else:
        why = "eps is zero, and a coordinate without gradient was divided by zero"
    return Statement(
        f"Training failed {where}: {why}.",
        " ".join(e.text for e in evidence if e.supports),
        None if onset is None else Segment(onset, last + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    nan = float("nan")
    zero = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=0.0)
    default = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    valid = (
        Example("eps of 0 that never mattered", run_of(zero, loss=[3.0 / (1 + k) for k in range(50)])),
        Example("mixed precision", run_of(default, precision="16-mixed", loss=[3.0, *[nan] * 40])),
        Example("bfloat16 has the range of float32", run_of(default, precision="bf16-true", loss=[3.0, *[nan] * 40])),
        Example(
            "float16 with an eps that it holds",
            run_of(OptimizerSpec("adam", lr=1e-3, eps=1e-4), precision="float16", loss=[3.0, *[nan] * 40]),
        ),
        Example("SGD has no eps", run_of(OptimizerSpec("sgd", lr=0.1), precision="float16", loss=[3.0, *[nan] * 40])),
        Example("NaN with the default eps", run_of(default, loss=[3.0, *[nan] * 40])),
    )
    invalid = (
        Example("eps of 0, NaN at once", run_of(zero, loss=[2.3, *[nan] * 40])),
        Example("default eps in float16, NaN at once", run_of(default, precision="float16", loss=[2.3, *[nan] * 40])),
    )
    return valid, invalid
