"""Adam's second moment is kept in bfloat16, where it rises and never falls: updates shrink for good after loud gradients.

## What it looks like
Weights and state in bfloat16, beta2 above 0.996, and gradients that were large once: early on, or in one spike. From there on the
loss falls ever more slowly, though the gradients are not small against what they were in a run that learns.

## Why it happens
bfloat16 has 8 significant bits. v * 0.999 lies closer to v than to the number below it, and rounds back to v: the decay is
lost. What is added counts only above a five-hundredth of v. So v is a maximum of all gradients, and lr / sqrt(v) keeps the size
that the loudest of them allowed. beta2 itself, stored in bfloat16, is 1.

## How it is told
The settings say where the state is kept and how v decays. The recurrence is run again over the logged gradient norm, rounded and
exact: the root of their quotient is by how much the updates are too small.

## When it is wrong
With beta2 of 0.99 or less v falls in bfloat16 too. Optimizers that keep their state in float32 beside bfloat16 weights,
stochastic rounding and mixed precision do not have this. Gradients that never shrink leave v where it belongs.

## What repairs it
Weights and state in float32 (mixed precision: bf16 for the operations alone); where memory forbids it beta2 of 0.95 to 0.99.

## References
Kalamkar et al. 2019, A study of BFLOAT16 for deep learning training, arXiv:1905.12322 (8 bits; weights and state in float32).
Zamirai et al. 2020, Revisiting BFloat16 training, arXiv:2010.06192 (nearest rounding cancels small updates). NVIDIA NeMo
Automodel, issue 2248 (bfloat16 of 0.999 is 1).
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

    from traindoctor.checkpoints.state import State
    from traindoctor.model import Evidence, Fix, Run
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD410",
    name="bfloat16-second-moment-frozen",
    summary="v is kept in bfloat16, where beta2 cannot make it fall, and updates shrink",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("decay", 2.0**-8, "1 - beta2 above which v still falls", "arithmetic: half the spacing of numbers of 8 bits"),
        Threshold("shrunk", 1.5, "times that the replayed updates are too small", "benchmarks/study, tuning part"),
        Threshold("far", 2.5, "times that the replayed updates are too small", "benchmarks/study, tuning part"),
        Threshold("slow", 0.45, "fall of the loss over the last third over that of the first", "benchmarks/study, tuning part"),
        Threshold("coasting", 0.1, "m_hat^2 / v_hat over that of noise", "updates are then three times too small"),
        Threshold("fell", 0.001, "share of the values of v that fell between two checkpoints", "arithmetic: none can fall"),
    ),
    explains=("TD202",),
    look_alikes=("TD202", "TD409"),
    experiment="train on from the last checkpoint with the moments cast to float32, and nothing else changed",
    refutation="The same curve with the optimizer's state in float32.",
)


@CAUSE.in_config
def moments_in_bfloat16(run: Run, limits: Limits) -> Iterator[Evidence]:
    """Yield a state in bfloat16 under a beta2 too close to 1; any other format rules it out."""
    from traindoctor.signals.precision import kept_in

    spec, kept = run.optimizer, kept_in(run)
    if spec is None or not spec.is_adam or spec.beta2 is None:
        return
    source = run.settings["precision"].origin if "precision" in run.settings else ""
    if kept and kept != "brain":
        text = "The settings keep the optimizer's state in another format than bfloat16."
        yield against("precision", kept, unit="", kind="config", weight=PROOF, source=source, text=text)
    elif kept and 1.0 - spec.beta2 < limits["decay"]:
        yield supports(
            "beta2",
            spec.beta2,
            kind="config",
            weight=MODERATE,
            source=source,
            text=f"Weights and state are in bfloat16: v times beta2 = {spec.beta2:g} rounds back to v.",
        )


@CAUSE.in_logs(needs=("loss", "grad_norm", "optimizer.beta2"))
def updates_shrink(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield by how much the replayed updates are too small at the end, and that the loss has come to a stop."""
    from traindoctor.signals.precision import format_of, frozen_shrink, kept_in

    spec = m.optimizer
    if not spec.is_adam or spec.beta2 is None or m.is_adversarial or m.grad_norm.n < 20 or m.run.step_unit != "step":
        return
    if kept_in(m.run) != "brain" and format_of(m.loss.value) != "bfloat16":
        return
    shrunk = frozen_shrink(m.entering_norm, m.grad_norm.step, spec.beta2)
    late = float(sorted(shrunk[-max(3, shrunk.size // 4) :])[0])
    if late < limits["shrunk"]:
        yield against(
            "shrunk",
            late,
            unit="times too small",
            weight=STRONG,
            source=f"{m.grad_norm.source}, replayed",
            text="Replayed in bfloat16, v is about what it is in float32.",
        )
        return
    yield supports(
        "shrunk",
        late,
        unit="times too small",
        weight=STRONG if late >= limits["far"] else MODERATE,
        onset=int(m.grad_norm.step[int((shrunk >= limits["shrunk"]).argmax())]),
        source=f"{m.grad_norm.source}, replayed",
        text=f"Replayed in bfloat16, v stays at its loudest gradients: at the end the updates are {late:.2g} times too small.",
    )
    if m.loss.progress_left < limits["slow"]:
        yield supports(
            "slow",
            m.loss.progress_left,
            unit="late over early fall",
            weight=MODERATE,
            source=m.loss.source,
            text=f"The loss falls {m.loss.progress_left:.2g} times as much over the last third as over the first.",
        )


@CAUSE.in_state
def kept_in_bfloat16(state: State, m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a second moment in bfloat16 that beta2 cannot move, how far it is too large, and how few of its values fell."""
    last, before = state.last, state.before
    if len(last.optimizers) != 1:
        return
    optimizer = last.optimizers[0]
    beta2, coasting = optimizer.beta2, optimizer.coasting
    if beta2 is None or not optimizer.second_dtype:
        return
    if optimizer.second_dtype != "bfloat16":
        yield against(
            "kept_in",
            optimizer.second_dtype,
            unit="",
            weight=PROOF,
            kind="state",
            source=last.file,
            text=f"{last.at}: the second moment is in {optimizer.second_dtype}.",
        )
        return
    if 1.0 - beta2 >= limits["decay"] or coasting is None:
        return
    if coasting < limits["coasting"]:
        yield supports(
            "coasting",
            coasting,
            unit="m̂² / v̂ over that of noise",
            weight=STRONG,
            kind="state",
            source=last.file,
            text=f"v is {1.0 / max(coasting, 1e-30):,.3g} times what the gradients in m would leave there: it stays at "
            "the loudest.",
        )
        fell = state.second_fell
        if before is not None and fell is not None and fell < limits["fell"]:
            yield supports(
                "fell",
                fell,
                unit="of the values",
                weight=STRONG,
                kind="state",
                onset=before.step,
                source=last.file,
                text=f"Since {before.at} {fell:.2%} of the values of v have fallen.",
            )
    else:
        yield against(
            "coasting",
            coasting,
            unit="m̂² / v̂ over that of noise",
            weight=MODERATE,
            kind="state",
            source=last.file,
            text="v is of the size of the gradients in m: it holds no update back yet.",
        )


@CAUSE.fixes
def state_in_float32(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield float32 for the state, and a beta2 that bfloat16 can follow."""
    from traindoctor.model import Fix

    del limits
    yield Fix(
        "Keep weights and state in float32 (mixed precision)", {"precision": "bf16-mixed"}, note="12 instead of 6 bytes a weight"
    )
    betas = [m.optimizer.beta1 if m.optimizer.beta1 is not None else 0.9, 0.95]
    yield Fix("Lower beta2 to 0.95", {"optimizer.betas": betas}, note="v then falls by 13 bfloat16 spacings a step")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next((e.onset for e in evidence if e.onset is not None), 0)
    return Statement(
        f"Training slowed down from {m.name_of(onset)}: Adam's second moment was kept in bfloat16 and could not fall.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(onset, max((int(s.step[-1]) for s in m.run.primary.values() if len(s)), default=0) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.checkpoints.examples import checkpoint_of, state_of
    from traindoctor.checkpoints.state import Moments
    from traindoctor.model import OptimizerSpec

    adam = OptimizerSpec("adamw", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    quick = OptimizerSpec("adamw", lr=1e-3, beta1=0.9, beta2=0.95, eps=1e-8)
    loss = [0.5 + 2.0 * 0.98**k for k in range(400)]
    loud = [30.0 if k < 20 else 0.5 for k in range(400)]
    even = [1.0] * 400
    valid = (
        Example("gradients of one size", run_of(adam, every=10, precision="bf16-true", loss=loss, grad_norm=even)),
        Example("beta2 of 0.95", run_of(quick, every=10, precision="bf16-true", loss=loss, grad_norm=loud)),
        Example("mixed precision", run_of(adam, every=10, precision="bf16-mixed", loss=loss, grad_norm=loud)),
        Example("precision not known", run_of(adam, every=10, loss=loss, grad_norm=loud)),
        Example("SGD has no v", run_of(OptimizerSpec("sgd", lr=0.1), precision="bf16-true", loss=loss, grad_norm=loud)),
        Example("settings alone", run_of(adam, precision="bf16-true", loss=loss)),
        Example("NaN and zeros", run_of(adam, precision="bf16-true", loss=loss, grad_norm=[0.0, float("nan")] * 100)),
    )
    invalid = (
        Example("a loud start", run_of(adam, every=10, precision="bf16-true", loss=loss, grad_norm=loud)),
        Example(
            "one spike in the middle",
            run_of(
                adam, every=10, precision="torch.bfloat16", loss=loss, grad_norm=[200.0 if k == 60 else 0.5 for k in range(400)]
            ),
        ),
    )

    def brain(memory: float, beta2: float = 0.999) -> State:
        """Return two checkpoints in bfloat16, between which v did not fall."""
        made = [
            checkpoint_of(n, dtype="bfloat16", moments=Moments(0.1, memory=memory), settings={"betas": [0.9, beta2]})
            for n in (500, 1000)
        ]
        return state_of(*made, same=0.1, fell=0.0)

    return (
        (
            *valid,
            Example("kept in float32", run_of(adam, loss=loss), state=state_of(checkpoint_of(moments=Moments(0.1, memory=1e-4)))),
            Example("even gradients", run_of(adam, loss=loss), state=brain(0.06)),
            Example("beta2 of 0.95 in the checkpoint", run_of(quick, loss=loss), state=brain(1e-4, 0.95)),
        ),
        (*invalid, Example("v above the gradients, and fixed", run_of(adam, loss=loss), state=brain(1e-4))),
    )
