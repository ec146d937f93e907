"""A restart lost the optimizer's state: its first updates are several times too large, and the loss jumps there.

## What it looks like
At a restart, told by a second log file, by steps that go back or by a long pause, the loss jumps within the first steps and
comes down again over about 1 / (1 - beta2) of them. Gradient and loss of the very first step are usual: the weights are those
that were saved, and what goes wrong is the first update.

## Why it happens
Adam divides by sqrt(v). With m and v at zero and the step count kept, nothing corrects their bias, and the updates are 3.2 times
too large at once and up to 6.6 times at the twelfth step (betas 0.9, 0.999). With v alone at zero the first update is 31.6 times
too large. With the step count at zero and the moments kept, updates are too small for 1,700 steps, which no jump shows. A state
that is new throughout does what it does at the start of training: little, unless gradients had become small since, for then
steps of the size of the learning rate leave the minimum.

## How it is told
By the place, before the shape: what begins at a restart has its cause there. A jump is measured against all rises of the same
length before it.

## When it is wrong
Data in another order bring a small bump. A schedule that begins anew at the restart raises the rate (TD217). Weights of an
older checkpoint, or of another model, show in the loss of the first step already; the repair is the same. In a log without a
mark of the restart (a CSV without times, a trainer_state.json) the jump looks like any other sudden one: then the cause is
named as possible only.

## What repairs it
Save and load the optimizer's state dict, its step counts, the scheduler and the scaler with the weights. Where the state is gone,
warm the learning rate up again over 1 / (1 - beta2) steps.

## References
PyTorch documentation, "Saving and Loading a General Checkpoint": the optimizer's state_dict holds buffers and parameters that
are updated as the model trains. Kingma and Ba 2015, arXiv:1412.6980, section 3 (bias correction). Ma and Yarats 2021,
arXiv:1910.04209 (warmup over 2 / (1 - beta2) steps).
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
    from traindoctor.model import Evidence, Fix, Run
    from traindoctor.signals.boundaries import Boundary, Jump
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD805",
    name="optimizer-state-lost-at-resume",
    summary="a restart lost the optimizer's state, and its first updates are too large",
    explanation=__doc__,
    thresholds=(
        Threshold("clear", 1.5, "highest loss behind the restart over the level before", STUDY),
        Threshold("large", 3.0, "highest loss behind the restart over the level before", "proper resumes: 0.99 to 3"),
        Threshold("sure", 6.0, "standard deviations of the rises before", STUDY),
        Threshold("beyond", 1.3, "mean rise over the largest one before the restart, on a log scale", STUDY),
        Threshold("usual_gradient", 3.0, "gradient norm of the first step over the level before", STUDY),
        Threshold("raised", 1.5, "learning rate behind the restart over that before", "definition: the rate was raised"),
        Threshold("kept", 1.2, "highest loss behind the restart over the level before: nothing happened", STUDY),
        Threshold("abrupt", 10.0, "lowest of three losses over the highest of six before, without a mark", STUDY),
        Threshold("exact", 1e-4, "level before such a rise, over the initial loss", "as TD101: an exact fit, of one set of data"),
        Threshold("lasting", 3.0, "points that a rise without a mark lasts", "definition: a single batch is none"),
        Threshold(
            "counted", 0.9, "steps of the optimizer's state over those of the run", "a loss scaler skips a hundredth at most"
        ),
        Threshold(
            "near", 0.02, "of the steps, between a restart and the beginning of the state", "a checkpoint is older than the crash"
        ),
    ),
    explains=("TD101", "TD102", "TD201", "TD301", "TD319", "TD401", "TD507", "TD508", "TD613", "TD704"),
    look_alikes=("TD101", "TD201"),
    experiment="load the checkpoint and print the mean of exp_avg_sq and the step count in optimizer.state before the first step",
    refutation="A checkpoint whose optimizer state was loaded, with the step count of the restart.",
)


def _jumps(m: Measurements) -> list[tuple[Boundary, Jump]]:
    """Return what the loss did at each marked restart around which enough was logged."""
    from traindoctor.signals.boundaries import boundaries, jump_at, steps_of_memory

    if "loss" not in m.run.primary or m.is_adversarial:
        return []
    spec = m.run.optimizer
    reach = steps_of_memory((spec.beta2 or spec.alpha) if spec is not None else None)
    marked = boundaries(m.run)
    ends = [*(b.step for b in marked[1:]), None]
    prompt = max(0.1 * reach, 5.0 * m.loss.stride)  # a step count or moments lost peak at the twelfth step, later is not theirs
    found = [(b, jump_at(m.loss, b.step, prompt, end)) for b, end in zip(marked, ends, strict=False)]
    return [(b, jump) for b, jump in found if jump is not None]


@CAUSE.in_logs(needs=("loss",))
def jumps_at_a_restart(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the jump of the loss at a marked restart, or that there is none at any."""
    found = _jumps(m)
    if not found:
        return
    boundary, jump = max(found, key=lambda pair: pair[1].z if pair[1].ratio > limits["clear"] else 0.0)
    if jump.ratio > limits["clear"] and jump.z > limits["sure"] and jump.mean > limits["beyond"] * max(jump.usual, 0.0):
        if _is_stateless(m.run) and jump.first < limits["clear"] * jump.before:
            yield against(
                "optimizer",
                "sgd",
                unit="",
                weight=PROOF,
                source=m.origin("optimizer.name"),
                text="SGD without momentum keeps no state that a restart could lose, and the first loss is usual.",
            )
        yield supports(
            "restart",
            boundary.step,
            unit="step",
            weight=STRONG,
            onset=boundary.step,
            source=m.loss.source,
            text=f"A process began again at step {boundary.step:,}: {boundary.text}.",
        )
        yield supports(
            "jump",
            jump.ratio,
            unit="times the level before",
            weight=STRONG + (MODERATE if jump.ratio > limits["large"] else 0.0),
            onset=boundary.step,
            source=m.loss.source,
            text=f"Right there the loss jumps from {jump.before:.3g} to {jump.peak:.3g}, {jump.z:.0f} standard deviations of "
            "what it did at any other step before.",
        )
        yield from _first_step(m, limits, boundary, jump)
    elif all(jump.ratio < limits["kept"] or jump.z < limits["sure"] / 2.0 for _, jump in found):
        yield against(
            "calm",
            jump.ratio,
            unit="times the level before",
            weight=PROOF,
            source=m.loss.source,
            text=f"The loss goes on at the restart as it was: {jump.peak:.3g} after {jump.before:.3g}.",
        )


def _first_step(m: Measurements, limits: Limits, boundary: Boundary, jump: Jump) -> Iterator[Evidence]:
    """Yield what gradient and rate say of the first step after the restart."""
    from traindoctor.signals.boundaries import jump_at

    if m.has("grad_norm"):
        grad = jump_at(m.grad_norm, boundary.step, 1.0)
        if grad is not None and grad.first < limits["usual_gradient"] * grad.before and m.grad_norm.stride == 1.0:
            yield supports(
                "gradient",
                grad.first / grad.before,
                unit="times the level before",
                weight=MODERATE,
                source=m.grad_norm.source,
                text="The gradient of the first step is usual: the weights are those that were saved, the update is not.",
            )
    if m.has("learning_rate"):
        import numpy as np

        before, after = m.lr_at(np.array([boundary.step - 1, jump.peak_step]))
        if before > 0.0 and after > limits["raised"] * before:
            yield against(
                "learning_rate",
                float(after / before),
                unit="times as high",
                weight=STRONG,
                source=m.lr_source,
                text="The learning rate is higher after the restart than before it.",
            )


@CAUSE.in_logs(needs=("loss",))
def rises_at_once(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a sudden rise in a log that does not mark restarts: it may be one."""
    from traindoctor.signals.boundaries import boundaries, jump_at, steps_of_memory, sudden_rise

    spec = m.run.optimizer
    if m.is_adversarial or m.run.step_unit != "step" or boundaries(m.run) or (spec is not None and _is_stateless(m.run)):
        return
    reach = steps_of_memory((spec.beta2 or spec.alpha) if spec is not None else None)
    found = sudden_rise(m.loss, reach)
    if found is None or m.loss.first_not_finite() is not None:
        return
    jump, gap = found
    if jump.z < limits["sure"] or jump.lasting < limits["lasting"] or jump.late > jump.before * jump.ratio**0.5:
        return  # a single batch, or other data: these do not come down again over some steps
    grad = jump_at(m.grad_norm, jump.step, 1.0) if m.has("grad_norm") and m.grad_norm.stride == 1.0 else None
    normal = grad is not None and grad.first < limits["usual_gradient"] * grad.before
    thrown = gap > limits["abrupt"] and jump.before < limits["exact"] * m.loss.initial  # new data would not have fitted exactly
    yield supports(
        "sudden",
        jump.ratio,
        unit="times the level before",
        weight=(STRONG + WEAK if thrown else MODERATE) + (WEAK if normal else 0.0),
        onset=jump.step,
        source=m.loss.source,
        text=f"The loss jumps from {jump.before:.3g} to {jump.peak:.3g} at step {jump.step:,}"
        + (", where the gradient is still usual" if normal else "")
        + ": a restart there, which this log does not mark, would do that.",
    )


def _is_stateless(run: Run) -> bool:
    """Whether the optimizer has no state that a restart could lose."""
    spec = run.optimizer
    return spec is not None and spec.name == "sgd" and not spec.momentum


@CAUSE.in_state
def counted_too_few(state: State, m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a state that has counted fewer steps than the run, or as many in a run that was restarted."""
    last = state.last
    if last.step is None or last.step_source == "optimizer state" or len(last.optimizers) != 1:
        return
    counted = last.optimizers[0].step
    if not counted:
        return
    began = last.step - counted
    near = [r for r in m.run.restarts if abs(r - began) <= max(limits["near"] * last.step, 5.0)]
    times = last.step / counted
    if counted >= limits["counted"] * last.step:
        if m.run.restarts and max(m.run.restarts) < last.step:
            yield against(
                "counted",
                counted,
                unit="steps",
                weight=STRONG + MODERATE,
                kind="state",
                source=last.file,
                text=f"{last.at}: the optimizer's state has counted {counted:,.0f} steps, those before the restart too.",
            )
        return
    if abs(times - round(times)) < limits["near"] * times and not near:
        return  # a step of the log is a micro-batch, or there are several optimizers
    paced = any(scheduler.get("last_epoch") == last.step for scheduler in last.schedulers)
    paced = paced or last.format.endswith(("Lightning", "Transformers"))  # they count steps of the optimizer
    yield supports(
        "counted",
        counted,
        unit="steps",
        weight=PROOF if near else STRONG + MODERATE if paced else STRONG,
        kind="state",
        onset=round(began),
        source=last.file,
        text=f"{last.at}: the optimizer's state has counted {counted:,.0f} steps. It began anew at step {began:,.0f}"
        + (", where the run was restarted." if near else ", and so did Adam's averages."),
    )


@CAUSE.fixes
def restore(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the state that is to be loaded, and the warmup where it is gone."""
    from traindoctor.model import Fix
    from traindoctor.signals.boundaries import steps_of_memory

    yield Fix(
        "Load the optimizer's state with the weights: optimizer.load_state_dict(checkpoint['optimizer'])",
        note="step counts, scheduler, loss scaler and the position in the data belong to it",
    )
    spec = m.run.optimizer
    memory = round(steps_of_memory(spec.beta2 if spec is not None else None))
    yield Fix(
        f"Where the state is gone, warm the learning rate up again over {memory:,} steps",
        {"schedule.warmup_steps": memory},
        note="1 / (1 - beta2) steps: until the second moment has averaged again",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    jump = next((e for e in evidence if e.name in ("jump", "sudden")), evidence[0])
    onset = jump.onset or 0
    if jump.name == "counted":
        return Statement(
            f"The optimizer forgot its state at {m.name_of(onset)}: it has counted its steps from there on alone.",
            " ".join(e.text for e in evidence if e.supports),
            Segment(onset, int(m.loss.step[-1]) + 1, onset) if "loss" in m.run.primary else None,
        )
    times = f"{jump.value:,.3g} times" if isinstance(jump.value, float) else "far"
    what = "lost the optimizer's state" if jump.name == "jump" else "may have lost the optimizer's state"
    return Statement(
        f"Training fell back at {m.name_of(onset)}: a restart {what}, and the loss jumped {times} above its level.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(onset, int(m.loss.step[-1]) + 1, onset),
    )


def _wave(k: int) -> float:
    """Return a deterministic noise in [-1, 1]."""
    return ((k * 2654435761) % 2048) / 1024.0 - 1.0


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    from traindoctor.checkpoints.examples import checkpoint_of, state_of
    from traindoctor.model import OptimizerSpec

    adam = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    fall = [2.0 * 0.99**k * (1.0 + 0.1 * _wave(k)) for k in range(400)]
    lost = [*fall[:200], *(v * (1.0 + 12.0 * min(1.0, k / 8.0) * 0.98**k) for k, v in enumerate(fall[200:]))]
    bump = [*fall[:200], *(v * (1.0 + 0.15 * 0.9**k) for k, v in enumerate(fall[200:]))]

    def resumed(run: Run) -> Run:
        return replace(run, restarts=(200,))

    valid = (
        Example("a proper resume", resumed(run_of(adam, loss=fall))),
        Example("a bump from another order of the data", resumed(run_of(adam, loss=bump))),
        Example("no restart, clean descent", run_of(adam, loss=fall)),
        Example("a jump without a mark is not enough", run_of(adam, loss=lost)),
        Example("spikes all along", resumed(run_of(adam, loss=[v * (20.0 if k % 25 == 0 else 1.0) for k, v in enumerate(fall)]))),
        Example("SGD keeps no state", resumed(run_of(OptimizerSpec("sgd", lr=0.1, momentum=0.0), loss=lost))),
        Example(
            "the rate was raised at the restart",
            resumed(run_of(adam, loss=bump, learning_rate=[1e-4] * 200 + [1e-3] * 200)),
        ),
        Example("restart at the last point", replace(run_of(adam, loss=fall[:50]), restarts=(49,))),
        Example("restart and NaN", resumed(run_of(adam, loss=[*fall[:200], *[float("nan")] * 200]))),
    )
    norms = [0.5 * v**0.5 for v in lost]
    invalid = (
        Example("jumps at the restart", resumed(run_of(adam, loss=lost))),
        Example("with gradient norms", resumed(run_of(adam, loss=lost, grad_norm=norms))),
        Example(
            "an exact fit is thrown out",
            resumed(run_of(adam, loss=[10.0 ** -(k / 20.0) for k in range(200)] + [1e-4 * 0.97**k for k in range(200)])),
        ),
    )
    return (
        (
            *valid,
            Example("the state has counted all steps", resumed(run_of(adam, loss=bump)), state=state_of(checkpoint_of(400))),
            Example("a log of micro-batches", run_of(adam, loss=fall), state=state_of(checkpoint_of(400, counted=100.0))),
            Example("counts by the optimizer alone", run_of(adam, loss=fall), state=state_of(checkpoint_of(200))),
        ),
        (
            *invalid,
            Example(
                "the state began anew, the schedule did not",
                run_of(adam, loss=fall),
                state=state_of(checkpoint_of(400, counted=150.0, scheduler={"last_epoch": 400.0})),
            ),
            Example(
                "it began anew at the restart, where the loss jumps",
                resumed(run_of(adam, loss=lost)),
                state=state_of(checkpoint_of(400, counted=200.0)),
            ),
        ),
    )
