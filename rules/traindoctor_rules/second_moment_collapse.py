"""Adam's second moment (v) decays under vanishing gradients until the step it allows is unstable.

## What it looks like
The loss reaches its floor, stays there for a long time, and then climbs by many decades at a constant learning rate. The
gradient norm rises with the loss, not before it. Longer training makes it worse; a restart from the last checkpoint, with
the data in another order, does the same again.

## Why it happens
With gradients near zero, v shrinks by beta2 at each step, so that the effective learning rate lr / (sqrt(v) + eps) grows
without bound. When lr times the curvature over sqrt(v) meets the stability limit of the optimizer, (2 + 2 beta1) / (1 -
beta1) for Adam (38 at beta1 = 0.9), the iteration becomes unstable and stays at that limit for ever. sqrt(v) is then far
above eps: seven orders in the run this rule was first measured on. "sqrt(v) is close to eps" is not the test, and rounding
is not the cause: float64 does it too.

## How it is told
From the late rebound, from g^2 / v far below one on the floor (v remembers larger gradients), and by replay: the run's own
optimizer on a small model of the valley floor has to leave the floor at the same step and climb as far.

## When it is wrong
A resume that lost the optimizer's state rises within one step. A learning rate that was raised on the floor has its cause
there. A loss that was low by chance once is no floor.

## What repairs it
An eps of the size of the second moment at the onset, which the replay works out (advice such as 1e-4 fails where 0.1 is
needed, and ruins a run that needs 1e-3), amsgrad, or a learning rate that decays. Clipping does nothing: the gradients are
small. A smaller learning rate only postpones it, unless it is much smaller. A smaller beta1 or beta2 makes it worse.

## References
Cohen et al. 2022, Adaptive gradient methods at the edge of stability, arXiv:2207.14484 (the limit).
Bai et al. 2025, Adaptive preconditioners trigger loss spikes in Adam, arXiv:2506.04805 (the decoupling of v from g^2).
Reddi et al. 2018, On the convergence of Adam and beyond, arXiv:1904.09237 (amsgrad).
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

STUDY = "benchmarks/study, tuning part: every healthy run is below, every collapse above"

CAUSE = Cause(
    code="TD101",
    name="second-moment-collapse",
    summary="v decays under vanishing gradients until the effective learning rate passes the stability limit",
    explanation=__doc__,
    thresholds=(
        Threshold("rebound", 3.0, "decades above the floor", STUDY),
        Threshold("floor", 1e-4, "loss on the floor over initial loss", STUDY),
        Threshold("quiet", 0.1, "share of the run spent on the floor", STUDY),
        Threshold("memory", 0.1, "g^2 / v_hat on the floor, median", "arXiv:2506.04805: decoupled when far below 1"),
        Threshold("dense", 10.0, "steps between logged points: a rise within them is at once", STUDY),
        Threshold("raised", 1.5, "learning rate at the onset over that on the floor", "definition: the rate was raised"),
        Threshold("jump", 0.6, "share of the rise within one logged step", STUDY),
        Threshold(
            "coasting",
            0.1,
            "m_hat^2 / v_hat over that of noise, (1 - beta1) / (1 + beta1)",
            "a tenth of what noise leaves; definition of memory",
        ),
        Threshold("fed", 0.5, "m_hat^2 / v_hat over that of noise", "half of what noise leaves, and signal leaves more"),
    ),
    explains=("TD201", "TD401", "TD102"),
    look_alikes=("TD201", "TD301"),
    experiment="retrain to the end with the eps offered here and nothing else changed; it must stay on its floor",
    refutation="A run with amsgrad, all else equal, that leaves its floor at the same step.",
    replay_model="second-moment-collapse",
)


@CAUSE.in_logs(needs=("loss",))
def late_rebound(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the rise from the floor, and what speaks against reading it so."""
    rebound = m.loss.rebound
    if rebound is None or m.is_adversarial:
        return
    depth = rebound.floor / m.loss.initial if m.loss.initial > 0.0 else 1.0
    if depth > limits["floor"] or rebound.quiet_share < limits["quiet"] or rebound.decades < limits["rebound"]:
        return
    yield supports(
        "rebound",
        rebound.decades,
        unit="decades",
        weight=STRONG,
        onset=rebound.onset,
        source=m.loss.source,
        text=f"The loss lay near {rebound.floor:.1e} from step {rebound.quiet:,} on and leaves this floor "
        f"at step {rebound.onset:,}.",
    )
    spec = m.run.optimizer
    if spec is not None and not spec.is_adaptive:
        yield against(
            "optimizer",
            spec.name,
            weight=PROOF,
            source=m.origin("optimizer.name"),
            kind="config",
            text=f"{spec.name} has no second moment that could collapse.",
        )
        return
    if spec is not None and (spec.amsgrad or spec.name == "adagrad"):
        yield against(
            "monotone",
            spec.name,
            weight=PROOF,
            source=m.origin("optimizer.amsgrad"),
            kind="config",
            text="This optimizer's second moment never shrinks.",
        )
        return
    before, after = m.loss.value[rebound.onset_index - 1 : rebound.onset_index + 1] if rebound.onset_index else (1.0, 1.0)
    rise = (after / before) if before > 0.0 else 1.0
    if rise > 10.0 ** (limits["jump"] * rebound.decades):
        yield against(
            "jump",
            rise,
            unit="times in one logged step",
            weight=PROOF if m.loss.stride <= limits["dense"] else MODERATE,
            source=m.loss.source,
            text="The loss rises at once; an instability grows over many steps. Look for a resume, a bad "
            "batch or a change of settings there.",
        )
    near = [r for r in m.run.restarts if abs(r - rebound.onset) <= max(2.0 * m.loss.stride, 0.02 * float(m.loss.step[-1]))]
    if near:
        yield against(
            "restart",
            near[0],
            unit="step",
            weight=PROOF,
            source=m.loss.source,
            text=f"The run was resumed at step {near[0]:,}: what begins there has its cause there.",
        )
    early, late = m.lr_at(m.loss.step[[rebound.quiet_index, rebound.onset_index]])
    if late > limits["raised"] * early:
        yield against(
            "learning_rate",
            float(late / early),
            unit="times as high",
            weight=STRONG,
            source=m.lr_source,
            text="The learning rate was raised while the loss lay on its floor.",
        )


@CAUSE.in_logs(needs=("loss",))
def second_moment_coasts(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield how far v lived on old gradients while the loss lay on its floor."""
    rebound = m.loss.rebound
    spec = m.run.optimizer
    if m.run.step_unit != "step":
        return
    if rebound is None or rebound.decades < limits["rebound"] or not (spec is None or spec.is_adaptive):
        return
    if m.has("grad_norm") and spec is not None:
        ratio = m.second_moment.ratio
        calm = (m.second_moment.step >= rebound.quiet) & (m.second_moment.step < rebound.onset)
        if calm.sum() < 3:
            return
        middle = float(sorted(ratio[calm])[int(calm.sum()) // 2])
        fall = m.second_moment.collapse(rebound.quiet, rebound.onset)
        if middle < limits["memory"]:
            yield supports(
                "memory",
                middle,
                unit="g² / v̂",
                weight=STRONG,
                source=f"{m.grad_norm.source}, replayed",
                text=f"On the floor v lives on old gradients: √v̂ falls {fall:.1f} times by the onset, and lr/√v̂ grows as much.",
            )
        else:
            yield against(
                "memory",
                middle,
                unit="g² / v̂",
                weight=MODERATE,
                source=f"{m.grad_norm.source}, replayed",
                text="The second moment has long settled to the gradients of the floor.",
            )
    else:
        memory = (spec.beta2 or spec.alpha) if spec is not None else None
        horizon = 1.0 / (1.0 - min(memory or 0.999, 0.9999999))
        calm_steps = rebound.onset - rebound.quiet
        if calm_steps > 0.5 * horizon:
            yield supports(
                "calm",
                calm_steps,
                unit="steps",
                weight=MODERATE,
                source=m.loss.source,
                text=("" if spec is not None else "If the optimizer is Adam with its defaults: ")
                + f"v forgets over {horizon:,.0f} steps; for {calm_steps:,} it was fed by a loss "
                f"{rebound.floor / m.loss.initial:.0e} of the first.",
            )
    if spec is not None and spec.eps is not None and spec.eps <= 1e-3:
        yield supports(
            "epsilon",
            spec.eps,
            weight=WEAK,
            kind="config",
            source=m.origin("optimizer.eps"),
            text="eps is too small to keep the effective learning rate bounded.",
        )


@CAUSE.in_state
def coasts_in_the_checkpoint(state: State, m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield how far v lived on old gradients in a checkpoint of the floor, before the loss left it."""
    if "loss" not in m.run.primary or m.loss.rebound is None or m.is_adversarial:
        return
    rebound = m.loss.rebound
    on_floor = [c for c in state.checkpoints if c.step is not None and rebound.quiet <= c.step <= rebound.onset]
    if not on_floor or len(on_floor[-1].optimizers) != 1:
        return
    checkpoint, optimizer = on_floor[-1], on_floor[-1].optimizers[0]
    coasting, root, lr = optimizer.coasting, optimizer.typical("root"), optimizer.number("lr")
    if coasting is None or root is None or lr is None:
        return
    if coasting < limits["coasting"]:
        yield supports(
            "coasting",
            coasting,
            unit="m̂² / v̂ over that of noise",
            weight=WEAK if m.has("grad_norm") else STRONG,
            kind="state",
            source=checkpoint.file,
            text=f"{checkpoint.at}, on the floor: v is {1.0 / max(coasting, 1e-30):,.3g} times what gradients of the size "
            "of m would leave "
            f"there. It falls from step to step, and lr / √v̂, now {lr / root:.3g}, grows.",
        )
    elif coasting > limits["fed"]:
        yield against(
            "coasting",
            coasting,
            unit="m̂² / v̂ over that of noise",
            weight=MODERATE,
            kind="state",
            source=checkpoint.file,
            text=f"{checkpoint.at}, on the floor: v is of the size of the gradients in m.",
        )


@CAUSE.fixes
def change(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield what helps when the replay could not size it: the sufficient eps from the curvature, and what needs no size."""
    from traindoctor.model import Fix
    from traindoctor.optim.stability import stability_limit

    curvature, lr, spec = m.curvature_after, m.peak_lr, m.run.optimizer
    if curvature == curvature and lr and spec is not None:
        eps = float(f"{lr * curvature / stability_limit(spec):.1g}")
        if spec.eps is None or eps > spec.eps:  # a config that was mended after the run holds enough already
            yield Fix(
                f"Raise eps from {spec.eps:g} to {eps:g}" if spec.eps is not None else f"Set eps to {eps:g}",
                {"optimizer.eps": eps},
                note=f"lr·λ over the stability limit, λ = {curvature:.3g} from the gradient norm after the onset; not replayed",
            )
    if spec is None or spec.is_adam:
        yield Fix("Turn amsgrad on", {"optimizer.amsgrad": True}, note="keeps v from shrinking")
    yield Fix("Let the learning rate decay to 0 over the run", {"schedule.name": "cosine"})


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    rebound = m.loss.rebound
    assert rebound is not None
    name = "the optimizer"
    if m.run.optimizer is not None:
        name = {"adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop"}.get(m.run.optimizer.name, m.run.optimizer.name)
    return Statement(
        f"Training failed from {m.name_of(rebound.onset)}: {name}'s second moment collapsed, "
        "and the effective learning rate outgrew what the loss surface allows.",
        f"The gradients of a loss near {rebound.floor:.1e} let v decay for "
        f"{rebound.onset - rebound.quiet:,} {m.run.step_unit}s. From "
        f"{m.name_of(rebound.onset)} on the step size exceeds the stability limit, and the loss "
        f"climbs {rebound.decades:.1f} decades.",
        Segment(rebound.onset, int(m.loss.step[-1]) + 1, rebound.onset),
    )


def _collapse() -> list[float]:
    return [10.0 ** -(k / 4.0) for k in range(40)] + [1e-10] * 260 + [10.0 ** min(-10.0 + (k / 12.0), -3.0) for k in range(200)]


def _norms() -> list[float]:
    return [(2.0 * value) ** 0.5 for value in _collapse()]


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.checkpoints.examples import checkpoint_of, state_of
    from traindoctor.checkpoints.state import Moments
    from traindoctor.model import OptimizerSpec

    adam = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    valid = (
        Example("converged and calm", run_of(adam, every=10, loss=_collapse()[:290])),
        Example("plain descent", run_of(adam, every=10, loss=[1.0 / (1 + k) for k in range(300)])),
        Example("SGD cannot", run_of(OptimizerSpec("sgd", lr=0.1), every=10, loss=_collapse())),
        Example(
            "amsgrad cannot",
            run_of(OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, amsgrad=True), every=10, loss=_collapse()),
        ),
        Example("a single bad batch", run_of(adam, every=10, loss=[*_collapse()[:200], 1.0, *_collapse()[200:290]])),
        Example("exact fit wanders at the float floor", run_of(adam, loss=[10.0**-k for k in range(13)] + [1e-13, 8e-13] * 150)),
        Example("three points", run_of(adam, loss=[1.0, 1e-9, 1.0])),
        Example("rises within one step, as a lost state does", run_of(adam, every=1, loss=_collapse()[:290] + [1e-2] * 100)),
    )
    invalid = (
        Example("late rebound, loss alone", run_of(adam, every=10, loss=_collapse())),
        Example("late rebound with gradient norm", run_of(adam, every=10, loss=_collapse(), grad_norm=_norms())),
    )

    def coasting(memory: float) -> State:
        """Return a state of step 2000."""
        return state_of(checkpoint_of(2000, moments=Moments(1e-4, memory=memory)))

    return (
        (
            *valid,
            Example(
                "v is fed, and the rise is sudden", run_of(adam, loss=_collapse()[:290] + [1e-2] * 100), state=coasting(0.05)
            ),
        ),
        (
            *invalid,
            Example("v coasts in a checkpoint of the floor", run_of(adam, every=10, loss=_collapse()), state=coasting(1e-6)),
        ),
    )
