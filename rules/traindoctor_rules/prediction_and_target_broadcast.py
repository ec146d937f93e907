"""Prediction and target have shapes that broadcast: each prediction is compared with all targets of the batch.

## What it looks like
A regression whose loss falls at most a little at first and then stands at the variance of its targets, 1 where they were
standardised. Gradients are small, of the size that a single bias has, the weights move, mostly they shrink. The validation
loss stands at the same level.

## Why it happens
A prediction of shape (n, 1) less a target of shape (n,) is a matrix (n, n). The mean of its squares is smallest when all
predictions are the mean of all targets, whatever the inputs are, so that is what is learnt. PyTorch warns of it once.

## When it is wrong
Targets that cannot be predicted from the inputs stand at their variance too, and inputs that say nothing of the row do. The logs
do not tell these apart; the shapes do, in one line. Pretrained models of language and detectors of boxes have losses near 1 as
well: where tags speak of tokens, classes or boxes, or a loss still falls, this rule is silent.

## What repairs it
`pred.squeeze(-1)`, or `target.unsqueeze(-1)`: both of one shape before the loss.

## References
PyTorch documentation, torch.nn.functional.mse_loss, and its warning "Using a target size that is different to the input size".
NumPy documentation, Broadcasting.
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
    code="TD616",
    name="prediction-and-target-broadcast",
    summary="each prediction is compared with all targets: a regression stands at their variance",
    explanation=__doc__,
    thresholds=(
        Threshold("left", 0.6, "level over initial loss of a run that only learnt the mean", STUDY),
        Threshold("most", 1.1, "level over initial loss", STUDY),
        Threshold("bias", 1.6, "gradient norm over that of the last bias alone", STUDY),
        Threshold("more", 2.5, "gradient norm over that of the last bias alone", STUDY),
        Threshold("moved", 0.01, "relative change of the weight norm while the loss stands", STUDY),
        Threshold("far", 10.0, "learning rate over the usual one", STUDY),
        Threshold("falls", 0.8, "lowest validation loss over the level", STUDY),
        Threshold("several", 8, "evaluations from which a validation loss can be seen to stand", STUDY),
        Threshold("flat", 0.97, "validation loss at the end over its first", STUDY),
        Threshold("near", 0.1, "distance of a validation loss from the variance of standardised targets", STUDY),
        Threshold("noise", 0.05, "noise over level of the squared errors of a batch", STUDY),
    ),
    look_alikes=("TD617", "TD612"),
    explains=("TD202",),
    experiment="print prediction.shape and target.shape at the loss: they must be equal",
    refutation="Equal shapes of prediction and target.",
)


@CAUSE.in_logs(needs=("loss",))
def stands_at_the_variance(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a regression's loss that stands near where it began, and at which level.

    Pretrained models of language and detectors of boxes have losses near 1 too: what is no regression is left alone, what may be
    one says little.
    """
    from traindoctor.signals.stillness import gets_lower

    still = m.stillness
    if still is None or m.is_adversarial or not limits["left"] <= still.left <= limits["most"]:
        return
    if still.regression is False:
        text = "An accuracy is logged, or tags speak of classes, tokens or boxes: this is no regression."
        yield against("kind", "logged", unit="", weight=PROOF, text=text)
        return
    if gets_lower(m):
        yield against(
            "falls",
            m.loss.tail,
            unit="loss",
            weight=STRONG,
            source=m.loss.source,
            text="The loss, or that of validation, still falls: more than the mean of the targets is learnt.",
        )
    if still.at_variance:
        yield supports(
            "variance",
            still.level,
            unit="loss",
            weight=STRONG if still.regression else MODERATE + WEAK,
            source=m.loss.source,
            text=f"The loss stands at {still.level:.3g}, the variance of standardised targets: the mean of them was learnt, "
            "no more.",
        )
    elif still.regression and still.noise > limits["noise"]:
        yield supports(
            "stands",
            still.left,
            unit="level / initial loss",
            weight=STRONG if still.from_start else MODERATE,
            source=m.loss.source,
            text=f"The loss stands at {still.level:.3g}, {still.left:.0%} of its start, for {still.share:.0%} of the run.",
        )
    if m.has("val_loss") and m.series("val_loss").n >= 3 and m.series("val_loss").is_positive:
        validation = m.series("val_loss")
        if validation.best < limits["falls"] * still.level:
            yield against(
                "validation",
                validation.best,
                unit="loss",
                weight=STRONG,
                source=validation.source,
                text="The validation loss falls below that level.",
            )
        elif validation.best > limits["falls"] * float(validation.value[0]):
            stands = validation.n >= limits["several"] and validation.tail > limits["flat"] * float(validation.value[0])
            yield supports(
                "validation",
                validation.best,
                unit="loss",
                weight=MODERATE if stands and abs(validation.tail - 1.0) < limits["near"] else WEAK,
                source=validation.source,
                text=f"The validation loss stands too, at {validation.tail:.3g}.",
            )


@CAUSE.in_logs(needs=("loss", "grad_norm|weight_norm"))
def learns_the_mean(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a gradient that is down to that of a bias while the weights move."""
    still = m.stillness
    if still is None or m.is_adversarial or not limits["left"] <= still.left <= limits["most"]:
        return
    ratio = still.gradient_over_bias
    if still.gradient == "zero" or still.weights == "constant":
        yield against("trained", 0.0, weight=PROOF, text="Nothing is trained at all: gradient or weights do not move by a bit.")
        return
    if ratio <= limits["bias"] and still.weights_moved >= limits["moved"]:
        yield supports(
            "bias",
            ratio,
            unit="times the last bias's gradient",
            weight=STRONG if still.at_variance else MODERATE,
            source=m.grad_norm.source,
            text=f"The gradient is {ratio:.1f} times what a bias alone has at this level, and the weights move by "
            f"{still.weights_moved:.0%}: all outputs are drawn to one value.",
        )
    elif ratio <= limits["bias"]:
        yield supports(
            "bias",
            ratio,
            unit="times the last bias's gradient",
            weight=WEAK,
            source=m.grad_norm.source,
            text=f"The gradient is {ratio:.1f} times what a bias alone has at this level.",
        )
    elif ratio > limits["more"]:
        yield against(
            "bias",
            ratio,
            unit="times the last bias's gradient",
            weight=MODERATE,
            source=m.grad_norm.source,
            text=f"The gradient is {ratio:.1f} times what is left of it when all outputs are compared with all targets.",
        )


@CAUSE.in_logs(needs=("loss",))
def held_by_a_setting(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a setting that would hold the run back by itself."""
    from traindoctor.signals.stillness import brake

    found, ratio = brake(m), m.rate_ratio
    if ratio is not None and ratio >= limits["far"] and m.stillness is not None:
        yield against(
            "rate",
            m.peak_lr,
            kind="config",
            weight=STRONG,
            source=m.lr_source,
            text=f"The learning rate is {ratio:.0f} times the usual one: that alone keeps a loss where it is.",
        )
    if found is not None and m.stillness is not None:
        yield against("setting", found.value, kind="config", weight=STRONG, source=m.origin(found.name), text=found.text)


@CAUSE.fixes
def one_shape(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the repair of the code: no setting cures it."""
    from traindoctor.model import Fix

    yield Fix("Give prediction and target one shape before the loss: prediction.squeeze(-1), or target.unsqueeze(-1)")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    loss, start = m.loss, int(m.loss.step[0])
    return Statement(
        f"The loss stood at {loss.tail:.3g}, the variance of the targets: predictions were compared with all targets of a batch.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(start, int(loss.series.step[-1]) + 1, start),
    )


def _wave(k: int) -> float:
    """Return a deterministic noise in [-1, 1]."""
    return (k * 7919 + 13) ** 3 % 2039 / 1019.5 - 1.0


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    from traindoctor.model import Setting

    flat = [1.0 + 0.4 * _wave(k) for k in range(100)]
    shrinking = [9.0 * 0.98**k + 2.0 for k in range(100)]
    batch = {"batch_size": Setting(32, "example")}
    tuned = run_of(loss=[value - 0.001 * k for k, value in enumerate(flat)], val_loss=[1.2 - 0.01 * k for k in range(20)])
    boxes = run_of(loss=flat, val_loss=[1.0] * 20)
    tagged = replace(boxes, series=tuple(replace(one, tag=f"{one.tag}/box") for one in boxes.series))
    stands = run_of(loss=flat, grad_norm=[0.3] * 100, weight_norm=shrinking)
    valid = (
        Example("a regression that learns", run_of(loss=[0.95**k + 0.1 for k in range(100)], weight_norm=shrinking)),
        Example("flat loss alone", run_of(loss=flat)),
        Example("a loss near 1 on its way", tuned),
        Example("validation gets lower", run_of(loss=flat, val_loss=[1.2 - 0.01 * k for k in range(20)])),
        Example("boxes", tagged),
        Example("classes", replace(run_of(loss=flat, weight_norm=shrinking, val_accuracy=[0.3] * 9), settings=batch)),
        Example("weights constant", replace(run_of(loss=flat, grad_norm=[0.3] * 100, weight_norm=[9.0] * 100), settings=batch)),
        Example("larger gradients", replace(run_of(loss=flat, grad_norm=[3.0] * 100, weight_norm=shrinking), settings=batch)),
        Example("two points", run_of(loss=[1.0, 1.0])),
        Example("lost", run_of(loss=[1.0] * 9 + [float("nan")] * 9)),
    )
    invalid = (Example("stands at 1, small gradient, weights shrink", replace(stands, settings=batch)),)
    return valid, invalid
