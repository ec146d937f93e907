"""The output does not depend on the input: the loss stands at what the labels' prior alone gives.

## What it looks like
The loss stands at ln C (or the entropy of the class shares, or the variance of a regression's targets) from the start. Gradients
are there and the weights move, but nothing comes of it; the accuracy is that of guessing.

## Why it happens
What the model is given says nothing of the row: a mask that hides everything, inputs that are all zero or the same for all
rows, a batch dimension that was mixed up so that rows and targets do not belong together, a wrong column.

## When it is wrong
Targets that cannot be predicted give the same curve, and are no fault of the code. So do weights that the optimizer does not hold
(they do not move), dead units (only a bias moves), a learning rate of next to nothing. A loss of 2 nats that differs from batch
to batch, as in fine-tuning, is near some ln C by coincidence: equal outputs cost ln C in every batch.

## What repairs it
Look at one batch as the model gets it: the inputs of two rows must differ, and belong to their targets. Overfit that one batch:
a model that sees its inputs can.

## References
Karpathy 2019, A recipe for training neural networks, "input-independent baseline" and "overfit one batch".
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

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD617",
    name="inputs-ignored",
    summary="the output does not depend on the input: the loss stands at the prior",
    explanation=__doc__,
    thresholds=(
        Threshold("more", 1.6, "gradient norm over that of the last bias alone", STUDY),
        Threshold("moved", 0.01, "relative change of the weight norm while the loss stands", STUDY),
        Threshold("grown", 1.0, "relative change of the weight norm: more is a start from next to nothing", STUDY),
        Threshold("far", 30.0, "learning rate over the usual one: it throws the weights about", STUDY),
        Threshold("even", 1e-3, "noise over level of the loss of equal outputs", STUDY),
        Threshold("vanishing", 0.01, "gradient norm of the first over the last weight matrix", STUDY),
        Threshold("high", 8.0, "learning rate over the usual one", STUDY),
        Threshold("better", 3.0, "accuracy times the number of classes of a model that sees its input", STUDY),
        Threshold("falls", 0.9, "lowest validation loss over the first", STUDY),
        Threshold("uneven", 0.006, "noise over level: a rate that throws the last bias about, or outputs that differ", STUDY),
        Threshold("few", 10, "classes from which ln C is near any level", "arithmetic: ln C and ln (C + 1) lie 1 / C apart"),
    ),
    look_alikes=("TD612", "TD616"),
    explains=("TD202", "TD509"),
    experiment="train on one batch alone: a model that sees its inputs gets its loss to zero",
    refutation="A loss below the prior's entropy on a single repeated batch.",
)


@CAUSE.in_logs(needs=("loss",))
def stands_at_the_prior(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a loss that stands at a level of chance, from the start or since it fell to it."""
    from traindoctor.signals.levels import equal_start

    still = m.stillness
    if still is None or m.is_adversarial or not (still.from_start or still.at_chance):
        return
    if still.classes is not None:
        since = "from first to last" if still.from_start else f"from {m.name_of(still.step)} on"
        yield supports(
            "chance",
            still.level,
            unit="loss",
            weight=STRONG if still.from_start and still.classes <= limits["few"] else MODERATE,
            source=m.loss.source,
            text=f"The loss stands at {still.level:.4g} {since}, ln {still.classes}: the output says nothing of the row.",
        )
    elif still.at_variance:
        yield supports(
            "variance",
            still.level,
            unit="loss",
            weight=MODERATE + WEAK if still.regression else WEAK,
            source=m.loss.source,
            text=f"The loss stands at {still.level:.3g}, the variance of standardised targets.",
        )
    if still.classes is not None and still.noise > limits["uneven"]:
        yield against(
            "uneven",
            still.noise,
            unit="noise / level",
            weight=MODERATE,
            source=m.loss.source,
            text=f"It differs by {still.noise:.1g} of itself from batch to batch, more than a prior does.",
        )
    equal = equal_start(m.loss.value, limits["even"])
    if equal is not None and equal.points >= 3 and equal.share < 1.0:
        yield against(
            "equal",
            equal.noise,
            unit="noise / level",
            weight=MODERATE,
            source=m.loss.source,
            text=f"It begins at ln {equal.classes} to {equal.noise:.1g} of itself: equal outputs, of weights next to zero.",
        )
    ratio = m.rate_ratio
    if ratio is not None and ratio >= limits["high"]:
        yield against(
            "rate",
            m.peak_lr,
            kind="config",
            weight=STRONG if ratio >= limits["far"] else MODERATE,
            source=m.lr_source,
            text=f"The learning rate is {ratio:.0f} times the usual one: that alone keeps a loss where it is.",
        )


def _is_decay(m: Measurements) -> bool:
    """Return whether weights that shrink may do so by weight decay alone."""
    still, decay = m.stillness, m.setting("optimizer.weight_decay")
    return still is not None and still.weights == "shrinking" and isinstance(decay, int | float) and decay > 0.0


@CAUSE.in_logs(needs=("loss", "grad_norm|weight_norm"))
def weights_move(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield gradients of more than a bias, and weights that move, without effect; or weights that do not."""
    still = m.stillness
    if still is None or m.is_adversarial or not still.from_start:
        return
    if still.gradient == "zero" or still.weights == "constant":
        yield against(
            "weights",
            0.0,
            unit="relative change",
            weight=PROOF,
            source=(m.grad_norm if still.gradient == "zero" else m.weight_norm).source,
            text="Nothing is trained at all: gradient or weights do not move by a bit.",
        )
    elif limits["moved"] <= still.weights_moved <= limits["grown"] and not _is_decay(m):
        ratio = still.gradient_over_bias
        if ratio > limits["more"]:
            yield supports(
                "gradient",
                ratio,
                unit="times the last bias's gradient",
                weight=MODERATE,
                source=m.grad_norm.source,
                text=f"The gradient is {ratio:.1f} times that of the last bias alone: weights have gradients, without effect.",
            )
        yield supports(
            "weights",
            still.weights_moved,
            unit="relative change",
            weight=MODERATE,
            source=m.weight_norm.source,
            text=f"The weights are trained: their norm moves by {still.weights_moved:.0%} while the loss stands.",
        )
    elif still.weights == "still":
        yield against(
            "weights",
            still.weights_moved,
            unit="relative change",
            weight=MODERATE,
            source=m.weight_norm.source,
            text=f"The weight norm hardly moves, by {still.weights_moved:.1g} of itself.",
        )


@CAUSE.in_logs(needs=("loss", "layers"))
def first_layer(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a first weight matrix whose gradient is exactly 0 while all others have one: its inputs are zero."""
    from traindoctor.signals.layers import WHOLE

    layers, still = m.layers, m.stillness
    if still is None or not still.from_start or not layers.has("grad_norm", 2):
        return
    level = layers.level("grad_norm", WHOLE)
    matrices = [
        (n, float(v)) for n, kind, v in zip(layers.names, layers.kinds, level, strict=True) if kind == "matrix" and v == v
    ]
    zero = [name for name, v in matrices if v == 0.0]
    if len(matrices) >= 2 and zero == [matrices[0][0]]:
        yield supports(
            "first_layer",
            0.0,
            unit="gradient norm",
            weight=PROOF,
            source=layers.source("grad_norm"),
            text=f"The gradient of {zero[0]} is exactly 0 and that of all later layers is not: its inputs are all zero.",
        )
    elif zero:
        yield against(
            "layers",
            len(zero),
            unit="layers",
            weight=STRONG,
            source=layers.source("grad_norm"),
            text=f"The gradient is exactly 0 in {len(zero)} of {len(matrices)} layers: it does not come from the output.",
        )
    elif len(matrices) >= 2 and layers.grad_ratio() < limits["vanishing"]:
        yield against(
            "vanishing",
            layers.grad_ratio(),
            unit="first / last gradient norm",
            weight=STRONG,
            source=layers.source("grad_norm"),
            text="The gradient is lost on its way back to the first layers.",
        )


@CAUSE.in_logs(needs=("loss", "val_accuracy|accuracy|val_loss"))
def knows_better(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield an accuracy, or a validation loss, that knows better."""
    still = m.stillness
    if still is None or not still.from_start:
        return
    name = next((q for q in ("val_accuracy", "accuracy") if m.has(q)), None)
    if name is not None and still.classes is not None:
        seen = m.series(name)
        gain = seen.tail * still.classes / (100.0 if seen.highest > 1.0 else 1.0)
        if gain > limits["better"]:
            yield against(
                "accuracy",
                gain,
                unit="times guessing",
                weight=PROOF,
                source=seen.source,
                text=f"The accuracy is {gain:.1f} times that of guessing.",
            )
    if m.has("val_loss") and m.series("val_loss").n >= 3 and m.series("val_loss").is_positive:
        validation = m.series("val_loss")
        if validation.best < limits["falls"] * float(validation.value[0]) and validation.best < limits["falls"] * still.level:
            yield against(
                "validation",
                validation.best / still.level,
                unit="lowest validation loss / training loss",
                weight=STRONG,
                source=validation.source,
                text="The validation loss falls: the model does see its inputs.",
            )


@CAUSE.in_logs(needs=("loss",))
def held_by_a_setting(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a setting that would hold the run back by itself, or weights that stand still."""
    from traindoctor.signals.gradients import stands_still
    from traindoctor.signals.stillness import brake

    if m.stillness is None:
        return
    frozen = stands_still(m)
    if frozen is not None and frozen.quantity != "weight_norm":
        text = f"The {frozen.words} is the same to the last bit: no weight moves, not even the last bias."
        yield against("frozen", frozen.value, unit=frozen.words, weight=PROOF, source=m.series(frozen.quantity).source, text=text)
    found = brake(m)
    if found is not None:
        yield against("setting", found.value, kind="config", weight=STRONG, source=m.origin(found.name), text=found.text)


@CAUSE.fixes
def look(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield what to look at: no setting cures it."""
    from traindoctor.model import Fix

    yield Fix(
        "Print one batch where the model gets it: inputs must differ from row to row and belong to their targets",
        note="then train on that batch alone: its loss must go to zero",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    loss = m.loss
    start = int(loss.step[0])
    return Statement(
        f"The loss stood at {loss.tail:.4g} from the start: the output did not depend on the input.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(start, int(loss.series.step[-1]) + 1, start),
    )


def _wave(k: int) -> float:
    """Return a deterministic noise in [-1, 1]."""
    return (k * 7919 + 13) ** 3 % 2039 / 1019.5 - 1.0


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    flat = [2.3026 * (1.0 + 0.004 * _wave(k)) for k in range(100)]
    moving = [9.0 + 0.05 * k for k in range(100)]
    valid = (
        Example("a run that learns", run_of(loss=[2.3 * 0.95**k + 0.1 for k in range(100)], weight_norm=moving)),
        Example("flat loss alone", run_of(loss=flat)),
        Example("fine-tuning near ln 8", run_of(loss=[2.08 * (1.0 + 0.1 * _wave(k)) for k in range(100)], weight_norm=moving)),
        Example("a vocabulary", run_of(loss=[7.6127 * (1.0 + 0.01 * _wave(k)) for k in range(200)], weight_norm=moving * 2)),
        Example("weights constant", run_of(loss=flat, weight_norm=[9.0] * 100, grad_norm=[0.3] * 100)),
        Example("a rate of nothing", run_of(OptimizerSpec("adam", lr=1e-9), loss=flat, weight_norm=moving)),
        Example(
            "targets that cannot be predicted", run_of(loss=[1.0 + 0.2 * _wave(k) for k in range(100)], grad_norm=[1.0] * 100)
        ),
        Example("no weight moves", run_of(loss=flat, val_loss=[2.3123457] * 10)),
        Example("two points", run_of(loss=[2.3, 2.3])),
        Example("lost", run_of(loss=[2.3] * 9 + [float("nan")] * 9, weight_norm=moving)),
    )
    invalid = (
        Example(
            "ln 10, weights move, accuracy of guessing",
            run_of(loss=flat, weight_norm=moving, grad_norm=[0.6] * 100, val_accuracy=[0.1 + 0.01 * _wave(k) for k in range(10)]),
        ),
    )
    return valid, invalid
