"""Hidden units are dead: a layer gives 0 for every row, so that no gradient passes and only the last bias moves.

## What it looks like
The loss stands at the prior (ln C for balanced classes, the variance of a regression's targets), from the start or from a step
at which it jumped there. The gradient of every weight matrix is exactly 0. What is left of the gradient norm is that of the last
bias: small, steady, of the size that chance leaves in a batch. The weights agree to three digits from then on.

## Why it happens
A ReLU is 0 and flat for negative input. Biases far below zero, or one wild step (a spike, a learning rate far too high), bring
all units of a layer there for all rows. No gradient reaches them any more, so they never come back.

## When it is wrong
Single dead units are common and cost little: half of a layer's outputs are 0 in any sound ReLU network. Inputs that say nothing
(TD617) leave the loss at the same level, with other gradients. Layers that are frozen on purpose have no gradient either, but
their network learns.

## What repairs it
A restart from weights before the jump, with a lower learning rate, clipping or warmup. For units dead from the start: the
initialisation (He et al.), normalised inputs, or an activation with a slope on both sides (leaky ReLU, GELU).

## References
Lu et al. 2019, Dying ReLU and initialization, arXiv:1903.06733.
He et al. 2015, Delving deep into rectifiers, arXiv:1502.01852 (initialisation, PReLU).
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

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD612",
    name="units-dead",
    summary="a layer gives 0 for every row: no gradient passes it",
    explanation=__doc__,
    thresholds=(
        Threshold("all", 0.9999, "share of zeros that is all of them", "float32 mean of a layer's outputs"),
        Threshold("alive", 0.95, "share of zeros of a layer that is not dead", "arXiv:1903.06733: some units alive are enough"),
        Threshold("bias_low", 0.7, "gradient norm over that of the last bias alone", STUDY),
        Threshold("bias_high", 1.45, "gradient norm over that of the last bias alone", STUDY),
        Threshold("more", 1.6, "gradient norm over that of the last bias alone: more than a bias moves", STUDY),
        Threshold("unmoved", 0.01, "relative change of the weight norm while the loss stands", STUDY),
        Threshold("fallen", 0.8, "lowest loss over the level of a run that had learnt before", STUDY),
        Threshold("high", 0.1, "level over initial loss of a run that got back up", STUDY),
        Threshold("far", 30.0, "learning rate over the usual one: it kills units, and is the cause", STUDY),
        Threshold("wild", 1.3, "highest early loss over its start and its level", STUDY),
        Threshold("even", 0.006, "noise over level of a loss of equal scores", STUDY),
        Threshold("uneven", 0.006, "noise over level: a rate that throws the last bias about, or outputs that differ", STUDY),
        Threshold("few", 10, "classes from which ln C is near any level", "arithmetic: ln C and ln (C + 1) lie 1 / C apart"),
        Threshold("back", 0.05, "relative distance of the level from that of the start", STUDY),
    ),
    look_alikes=("TD617",),
    explains=("TD201", "TD202", "TD508", "TD509"),
    experiment="log the share of zeros of each activation: it is 1.0 in a dead layer",
    refutation="A weight matrix whose gradient is not exactly 0 at the level where the loss stands.",
)


def _lowest_before(m: Measurements) -> float:
    """Return the lowest smoothed loss before the loss stands; its level where it stands from the start."""
    still = m.stillness
    if still is None:
        return float("nan")
    return float(m.loss.smooth[: still.index].min()) if still.index >= 3 else still.level


@CAUSE.in_logs(needs=("loss",))
def stands_at_the_prior(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a loss that stands at a level of chance, from the start or from a jump on."""
    still, loss = m.stillness, m.loss
    if still is None or m.is_adversarial:
        return
    before = _lowest_before(m)
    start = float(loss.value[0])
    at_start = abs(still.level - start) <= limits["back"] * start
    if before < limits["fallen"] * still.level and still.left > limits["high"] and (still.classes is not None or at_start):
        yield supports(
            "relapse",
            still.level,
            unit="loss",
            weight=STRONG,
            onset=still.step,
            source=loss.source,
            text=f"The loss had fallen to {before:.3g}; since {m.name_of(still.step)} it stands at {still.level:.4g}, "
            + (f"ln {still.classes}." if still.classes else "its level of the start."),
        )
        if still.classes is not None and still.noise < limits["even"]:
            yield supports(
                "even",
                still.noise,
                unit="noise / level",
                weight=MODERATE,
                source=loss.source,
                text=f"It differs by {still.noise:.1g} of itself from batch to batch: the output is the same for every row.",
            )
    elif still.from_start and still.classes is not None:
        yield supports(
            "chance",
            still.level,
            unit="loss",
            weight=STRONG if still.classes <= limits["few"] else MODERATE,
            source=loss.source,
            text=f"The loss stands at {still.level:.4g} from first to last, ln {still.classes}: the output says nothing of "
            "the row.",
        )
    elif still.at_chance:
        yield supports(
            "chance",
            still.level,
            unit="loss",
            weight=MODERATE,
            onset=still.step,
            source=loss.source,
            text=f"Since {m.name_of(still.step)} the loss stands at {still.level:.4g}, ln {still.classes}.",
        )
    elif still.from_start and still.at_variance:
        yield supports(
            "variance",
            still.level,
            unit="loss",
            weight=MODERATE if still.regression else WEAK,
            source=loss.source,
            text=f"The loss stands at {still.level:.3g}, the variance of standardised targets.",
        )
    if still.classes is not None and still.noise > limits["uneven"]:
        yield against(
            "uneven",
            still.noise,
            unit="noise / level",
            weight=MODERATE,
            source=loss.source,
            text=f"It differs by {still.noise:.1g} of itself from batch to batch: the output is not the same for every row.",
        )


@CAUSE.in_logs(needs=("loss", "zero_share"))
def only_zeros(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a layer whose outputs are all 0, or that none is."""
    from traindoctor.signals.layers import END

    still = m.stillness
    level = m.layers.level("zero_share", END)
    known = [(name, float(v)) for name, v in zip(m.layers.names, level, strict=True) if v == v]
    if not known:
        return
    name, most = max(known, key=lambda one: one[1])
    if most >= limits["all"] and still is not None:
        yield supports(
            "zero_share",
            most,
            unit="share of zeros",
            weight=PROOF,
            onset=still.step,
            source=m.layers.source("zero_share"),
            text=f"All outputs of {name} are 0, and the loss stands.",
        )
    elif most < limits["alive"] and len(known) > 1:
        yield against(
            "zero_share",
            most,
            unit="share of zeros",
            weight=STRONG,
            source=m.layers.source("zero_share"),
            text=f"No layer gives only zeros; most has {name} with {most:.0%}.",
        )


@CAUSE.in_logs(needs=("loss", "layers"))
def no_gradient_passes(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield gradients that are exactly 0 in all but the last bias, or matrices that do have one."""
    from traindoctor.signals.layers import END

    layers, still = m.layers, m.stillness
    if still is None or not layers.has("grad_norm", 2):
        return
    level = layers.level("grad_norm", END)
    known = [(name, kind, float(v)) for name, kind, v in zip(layers.names, layers.kinds, level, strict=True) if v == v]
    matrices = [v for _, kind, v in known if kind == "matrix"]
    living = [name for name, _, v in known if v > 0.0]
    if len(matrices) < 2:
        return
    if not any(matrices) and living:
        yield supports(
            "matrices",
            0.0,
            unit="gradient norm",
            weight=STRONG + MODERATE if not m.has("zero_share") else WEAK,
            onset=still.step,
            source=layers.source("grad_norm"),
            text=f"The gradient of each of the {len(matrices)} weight matrices is exactly 0; only {', '.join(living[:2])} "
            "has one.",
        )
    elif all(matrices):
        yield against(
            "matrices",
            min(matrices),
            unit="gradient norm",
            weight=PROOF,
            source=layers.source("grad_norm"),
            text="Each weight matrix has a gradient: it passes all layers.",
        )


@CAUSE.in_logs(needs=("loss", "grad_norm|weight_norm"))
def only_a_bias_moves(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a gradient of the size of the last bias alone, and weights that do not move."""
    still = m.stillness
    if still is None or m.is_adversarial or m.has("zero_share") or m.layers.has("grad_norm"):
        return  # what is known by layer says it better
    ratio = still.gradient_over_bias
    relapsed = _lowest_before(m) < limits["fallen"] * still.level and still.left > limits["high"]
    if not (relapsed or still.classes is not None or (still.from_start and still.at_variance)):
        return  # a loss that got down stands for better reasons
    alone = limits["bias_low"] <= ratio <= limits["bias_high"]
    if alone:
        yield supports(
            "bias",
            ratio,
            unit="times the last bias's gradient",
            weight=MODERATE if still.weights != "unknown" else WEAK,
            source=m.grad_norm.source,
            text=f"The gradient norm is {ratio:.2f} times what the last bias alone has at this level and batch size.",
        )
    elif ratio > limits["more"]:
        yield against(
            "bias",
            ratio,
            unit="times the last bias's gradient",
            weight=STRONG,
            source=m.grad_norm.source,
            text=f"The gradient norm is {ratio:.1f} times that of the last bias: other weights have gradients too.",
        )
    if still.weights in ("still", "moving") and still.weights_moved < limits["unmoved"]:
        weight = STRONG + MODERATE if relapsed and still.weights == "still" else MODERATE if alone or relapsed else WEAK
        yield supports(
            "weights",
            still.weights_moved,
            unit="relative change",
            weight=weight,
            onset=still.step if relapsed else None,
            source=m.weight_norm.source,
            text=f"Meanwhile the weight norm moves by {still.weights_moved:.2g} of itself"
            + (f", at a loss that was {_lowest_before(m):.3g} before." if relapsed else "."),
        )
    elif still.weights_moved >= limits["unmoved"]:
        yield against(
            "weights",
            still.weights_moved,
            unit="relative change",
            weight=MODERATE,
            source=m.weight_norm.source,
            text=f"The weight norm moves by {still.weights_moved:.0%} while the loss stands.",
        )
    elif still.weights == "constant":
        yield against(
            "weights",
            0.0,
            unit="relative change",
            weight=STRONG,
            source=m.weight_norm.source,
            text="The weight norm is the same to the last bit: the last bias would move.",
        )


@CAUSE.in_logs(needs=("loss",))
def held_by_a_setting(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a setting that would hold the run back by itself, or a rate that kills units."""
    from traindoctor.signals.gradients import stands_still
    from traindoctor.signals.stillness import brake

    found, ratio, still = brake(m), m.rate_ratio, m.stillness
    if still is None:
        return
    frozen = stands_still(m)
    if frozen is not None and frozen.quantity != "weight_norm":
        text = f"The {frozen.words} is the same to the last bit: no weight moves, not even the last bias."
        yield against("frozen", frozen.value, unit=frozen.words, weight=PROOF, source=m.series(frozen.quantity).source, text=text)
    if ratio is not None and ratio >= limits["far"] * (1.0 if m.optimizer.is_adaptive else 2.0):
        yield against(
            "rate",
            m.peak_lr,
            kind="config",
            weight=STRONG,
            source=m.lr_source,
            text=f"The learning rate is {ratio:.0f} times the usual one: if units died, it is why.",
        )
    early = float(m.loss.value[: max(3, m.loss.n // 20)].max())
    if early > limits["wild"] * max(float(m.loss.value[0]), still.level) and not m.is_adversarial:
        yield against(
            "wild",
            early,
            unit="loss",
            weight=MODERATE + WEAK,
            source=m.loss.source,
            text=f"The loss first leaps to {early:.3g}: if units died, a step that was too wide killed them.",
        )
    if found is not None:
        yield against("setting", found.value, kind="config", weight=STRONG, source=m.origin(found.name), text=found.text)


@CAUSE.in_state
def matrices_without_gradient(state: State, m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield first moments that are 0 in every row of every matrix while a bias still has one, or matrices that live."""
    last = state.last
    if "loss" not in m.run.primary or len(last.optimizers) != 1:
        return
    optimizer = last.optimizers[0]
    if optimizer.dead:
        yield supports(
            "moments",
            0.0,
            unit="first moment",
            weight=PROOF,
            kind="state",
            source=last.file,
            text=f"{last.at}: the first moment of each weight matrix is exactly 0, and only biases have one: no gradient "
            "has passed "
            "a layer for hundreds of steps.",
        )
    elif optimizer.living:
        yield against(
            "moments",
            None,
            weight=STRONG,
            kind="state",
            source=last.file,
            text=f"{last.at}: each weight matrix has rows with a first moment: gradients pass all layers.",
        )


@CAUSE.fixes
def revive(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield what keeps units alive; a lower rate where they died on the way."""
    from traindoctor.model import Fix

    still = m.stillness
    if still is not None and still.index > 0 and m.peak_lr:
        note = "units died in one wild step: start again before it, with a lower rate or a clip"
        yield Fix(
            f"Lower lr from {m.peak_lr:g} to {m.peak_lr / 3.0:.2g}", {"optimizer.lr": float(f"{m.peak_lr / 3.0:.2g}")}, note=note
        )
    yield Fix(
        "Initialise the biases of hidden layers with 0 and the weights as He et al. do, or use leaky ReLU or GELU",
        note="dead units do not come back: the run has to start from weights in which they live",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    loss, still = m.loss, m.stillness
    step = still.step if still is not None and still.index > 0 else int(loss.step[0])
    when = f"since {m.name_of(step)}" if still is not None and still.index > 0 else "from the start"
    return Statement(
        f"The network learnt nothing {when}: its hidden units were dead, and the loss stood at {loss.tail:.3g}.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(step, int(loss.series.step[-1]) + 1, step),
    )


def _wave(k: int) -> float:
    """Return a deterministic noise in [-1, 1]."""
    return (k * 7919 + 13) ** 3 % 2039 / 1019.5 - 1.0


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.checkpoints.examples import checkpoint_of, state_of
    from traindoctor.checkpoints.state import Moments

    flat = [2.3026 * (1.0 + 0.002 * _wave(k)) for k in range(100)]
    fall = [2.3 * 0.95**k + 0.1 for k in range(100)]
    valid = (
        Example("a run that learns", run_of(loss=fall, grad_norm=[1.0] * 100, weight_norm=[9.0 + 0.01 * k for k in range(100)])),
        Example("flat loss alone", run_of(loss=flat)),
        Example("fine-tuning near ln 8", run_of(loss=[2.08 * (1.0 + 0.1 * _wave(k)) for k in range(100)])),
        Example("weights move while it is flat", run_of(loss=flat, weight_norm=[9.0 + 0.1 * k for k in range(100)])),
        Example("weights constant to the last bit", run_of(loss=flat, weight_norm=[9.0] * 100)),
        Example("converged", run_of(loss=[*fall, *([0.1] * 200)], weight_norm=[9.0 + 0.001 * min(k, 90) for k in range(300)])),
        Example("three points", run_of(loss=[2.3, 2.3, 2.3])),
        Example("lost", run_of(loss=[2.3] * 9 + [float("nan")] * 9)),
    )
    invalid = (
        Example(
            "jumps to ln 10 and stands",
            run_of(
                loss=[*fall[:50], *flat],
                weight_norm=[*[9.0 + 0.01 * k for k in range(50)], *[30.0 + 1e-5 * k for k in range(100)]],
                grad_norm=[0.5] * 50 + [0.12] * 100,
            ),
        ),
    )
    return (
        (
            *valid,
            Example(
                "gradients pass all layers",
                run_of(loss=flat),
                state=state_of(checkpoint_of(moments=Moments(0.1, dead_rows=2, rows=8))),
            ),
        ),
        (
            *invalid,
            Example(
                "only biases have a moment",
                run_of(loss=flat),
                state=state_of(checkpoint_of(moments=Moments(0.1, dead_rows=8, rows=8))),
            ),
        ),
    )
