"""The loss is summed over the batch where its mean is meant, or divided by the batch once more: all is off by the batch size.

## What it looks like
The first loss is the batch size times a known level (ln C, or 1 for standardised targets), or that level divided by the batch
size. The gradient norm is off by the same factor. Under SGD, whose step follows the gradient's scale, the run blows up at a usual
rate, or goes nowhere. A cross-entropy below (1 - accuracy) ln 2 cannot be a mean: each wrong answer alone costs ln 2.

## Why it happens
`reduction="sum"` was set, or `loss / batch_size` was written after a loss that is a mean already, or gradients are averaged
twice, by the loss and by the accumulation.

## When it is wrong
Sums are a choice: with a rate that suits them nothing is lost, and Adam does not see the scale of a loss at all. A sum over the
values of a row (pixels, tokens) is none over the batch. A start far above ln C has other causes, too: inputs that are
not normalised, an initialisation that is too wide (TD614). Focal and weighted losses, and squared
errors of probabilities, lie below that bound rightly, though not a whole batch size below.

## What repairs it
`reduction="mean"`, and no second division. Or a learning rate divided by the batch size.

## References
PyTorch documentation, torch.nn.CrossEntropyLoss: `reduction`.
Goyal et al. 2017, Accurate, large minibatch SGD, arXiv:1706.02677, section 3, "Common pitfalls": normalise the loss by the total
minibatch size.
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
    from traindoctor.signals.levels import Batch
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD610",
    name="loss-reduction-wrong",
    summary="the loss is a sum over the batch, or divided by it once more: all is off by the batch size",
    explanation=__doc__,
    thresholds=(
        Threshold(
            "near",
            0.06,
            "relative distance of the first loss from batch size times ln C",
            "a usual start is above ln C by some hundredths",
        ),
        Threshold(
            "few", 10.0, "classes up to which ln C is a level by itself", "from there on neighbours are closer than starts are"
        ),
        Threshold("grown", 2.0, "loss over its start of a run that blew up", STUDY),
        Threshold("left", 0.5, "tail loss over initial loss of a run that went nowhere", STUDY),
        Threshold("well", 0.1, "tail loss over initial loss of a run that got down", STUDY),
        Threshold("usual", 10.0, "learning rate over the usual one", STUDY),
        Threshold("gradient_low", 0.1, "first gradient norm over its factor", STUDY),
        Threshold("gradient_high", 20.0, "first gradient norm over its factor", STUDY),
        Threshold(
            "wrong_answer",
            0.1,
            "highest share of a loss in (1 - accuracy) ln 2",
            "below 1 is impossible for a mean; squared errors of 2 to 10 classes are 0.15 to 0.7",
        ),
        Threshold("evaluations", 3, "evaluations of at most 90 % accuracy", "definition: that the share stays low"),
        Threshold("low_start", 0.35, "first training loss", "half of ln 2, the lowest level that a guess has"),
        Threshold("coin", 0.66, "first loss times the batch size", "ln 2 less 5 %"),
        Threshold("vocabulary", 13.0, "first loss times the batch size", "ln of 260,000 classes, and a little"),
    ),
    explains=("TD201", "TD202", "TD401", "TD612"),
    look_alikes=("TD201", "TD202"),
    experiment="print the loss of one batch and of half of it: a mean stays, a sum is halved",
    refutation="A loss that is the same for a batch and for half of it.",
)


def _start(m: Measurements, limits: Limits) -> Batch | None:
    from traindoctor.signals.levels import summed_start

    batch = m.setting("batch_size")
    loss = m.loss
    if not isinstance(batch, int) or not loss.n or len(loss.series) < 3 or m.is_adversarial:
        return None
    return summed_start(float(loss.value[0]), batch, limits["near"])


def _is_of_classes(m: Measurements) -> bool:
    """Return whether the loss is known to be one of classes: the targets of a regression may have any scale."""
    return m.has("val_accuracy") or m.has("accuracy")


@CAUSE.in_logs(needs=("loss",))
def starts_at_a_multiple(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a first loss that is a known level times, or divided by, the batch size, and what came of it."""
    found, loss = _start(m, limits), m.loss
    if found is None or (found.factor < 1.0 and not (_is_of_classes(m) and found.classes <= limits["few"])):
        return  # a regression's loss may begin anywhere
    level = f"ln {found.classes}" if found.classes else "the variance of standardised targets"
    how = f"{found.factor:.0f} times" if found.factor > 1.0 else f"{1.0 / found.factor:.0f} times less than"
    batch = max(found.factor, 1.0 / found.factor)
    left = loss.tail / loss.initial if loss.initial > 0.0 else float("nan")
    if left < limits["well"] and loss.n_not_finite == 0:
        yield against("left", left, unit="tail / initial loss", weight=STRONG, source=loss.source, text="The loss got down well.")
        return
    yield supports(
        "start",
        found.level,
        unit="first loss of a row",
        weight=STRONG if _is_of_classes(m) and found.factor > 1.0 and 0 < found.classes <= limits["few"] else MODERATE,
        source=loss.source,
        text=f"The first loss, {loss.value[0]:.4g}, is {how} {found.level:.3g}, near {level}; the batch size is {batch:.0f}.",
    )
    if m.has("grad_norm") and _is_of_classes(m):
        ratio = float(m.grad_norm.value[0]) / found.factor
        if limits["gradient_low"] < ratio < limits["gradient_high"]:
            yield supports(
                "gradient",
                ratio,
                unit="first gradient norm of a row",
                weight=WEAK,
                source=m.grad_norm.source,
                text=f"The first gradient norm, {m.grad_norm.value[0]:.3g}, is off by that factor too.",
            )
    spec = m.run.optimizer
    if spec is not None and spec.is_adaptive:
        yield against(
            "adaptive",
            spec.name,
            unit="",
            kind="config",
            weight=STRONG,
            text=f"{spec.name} divides by the scale of the gradient: a factor on the loss changes nothing.",
        )
        return
    ratio = m.rate_ratio if m.rate_ratio is not None else 1.0
    blew_up = loss.n_not_finite > 0 or left > limits["grown"]
    if ratio < limits["usual"] and found.factor > 1.0 and (blew_up or left > limits["left"]):
        yield supports(
            "step",
            m.peak_lr,
            unit="learning rate",
            weight=STRONG if blew_up and _is_of_classes(m) else MODERATE,
            source=m.lr_source,
            text=f"At a usual rate the run {'blew up' if blew_up else 'went nowhere'}: each step is {batch:.0f} times what "
            "is meant.",
        )
    elif found.factor < 1.0 and left > limits["well"]:
        yield supports(
            "step",
            left,
            unit="tail / initial loss",
            weight=MODERATE,
            source=loss.source,
            text=f"{left:.0%} of the loss is left: each step is a {batch:.0f}th of what is meant.",
        )


@CAUSE.in_logs(needs=("loss", "val_loss", "val_accuracy"))
def below_the_bound(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a validation loss that is far below what its wrong answers alone would cost, from the first evaluation on.

    A squared error of probabilities, a focal loss and an accuracy of another meaning lie below it as well, by less, or not at the
    start. A division by the batch size lowers all values alike, those of the training loss too.
    """
    from traindoctor.signals.levels import wrong_answers

    validation, accuracy, batch = m.series("val_loss"), m.series("val_accuracy"), m.setting("batch_size")
    found = wrong_answers(validation.step, validation.value, accuracy.step, accuracy.value)
    if found is None or found.n < limits["evaluations"] or found.most > limits["wrong_answer"] or not m.loss.n:
        return
    start = float(m.loss.value[0])
    if start > limits["low_start"]:
        return
    fits = isinstance(batch, int) and limits["coin"] < start * batch < limits["vocabulary"]
    yield supports(
        "wrong_answers",
        found.most,
        unit="loss / (1 - accuracy) ln 2",
        weight=STRONG if fits else WEAK,
        source=validation.source,
        text=f"The validation loss is never more than {found.most:.2g} of what its wrong answers alone cost: it is no mean over "
        "the rows.",
    )


@CAUSE.fixes
def divide(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the rate that undoes the factor, which is the same under SGD as the mean."""
    from traindoctor.model import Fix

    found, lr = _start(m, limits), m.peak_lr
    if found is not None and lr:
        value = float(f"{lr / found.factor:.3g}")
        yield Fix(
            f"Take the mean over the batch once, or change lr from {lr:g} to {value:g}",
            {"optimizer.lr": value},
            note="under SGD the two are the same; the mean keeps rates comparable between batch sizes",
        )
        return
    yield Fix('Take the mean over the batch, once: reduction="mean", and no division after it')


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    start = int(m.loss.series.step[0])
    return Statement(
        "The loss was not the mean over the batch: it was off by the batch size, and so was each step.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(start, int(m.loss.series.step[-1]) + 1, start),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    from traindoctor.model import OptimizerSpec, Run, Setting

    def batched(run: Run, n: int = 64) -> Run:
        return replace(run, settings={**run.settings, "batch_size": Setting(n, "example")})

    sgd, adam = OptimizerSpec("sgd", lr=0.1), OptimizerSpec("adam", lr=1e-3)
    fall = [2.32 * 0.95**k for k in range(100)]
    blown = [2.32 * 64.0 * 1.3**k for k in range(60)]
    valid = (
        Example("a mean", batched(run_of(sgd, loss=fall))),
        Example(
            "a sum with a rate that suits it", batched(run_of(OptimizerSpec("sgd", lr=0.0016), loss=[64.0 * v for v in fall]))
        ),
        Example("a sum under Adam", batched(run_of(adam, loss=[64.0 * max(v, 1.0) for v in fall], grad_norm=[90.0] * 100))),
        Example("no batch size known", run_of(sgd, loss=blown)),
        Example("a regression of large targets that blows up", batched(run_of(sgd, loss=blown, grad_norm=[130.0] * 60))),
        Example("a divergence from ln 10", batched(run_of(sgd, loss=[2.32 * 1.3**k for k in range(60)]))),
        Example(
            "an accuracy of another meaning",
            batched(
                run_of(sgd, loss=fall, val_loss=[v * 0.3 for v in fall], val_accuracy=[0.02 + 0.004 * k for k in range(100)])
            ),
        ),
        Example(
            "a squared error of probabilities",
            batched(run_of(sgd, loss=[0.09] * 50, val_loss=[0.09] * 50, val_accuracy=[0.1] * 50)),
        ),
        Example("a vocabulary", batched(run_of(sgd, loss=[10.8 - 0.01 * k for k in range(100)]))),
        Example("one value", batched(run_of(sgd, loss=[148.0]))),
    )
    guess = [0.1, 0.1, 0.1]
    lost = [148.0, 900.0, *[float("nan")] * 20]
    invalid = (
        Example("64 times ln 10, and blows up", batched(run_of(sgd, loss=blown, val_accuracy=guess))),
        Example("64 times ln 10, lost", batched(run_of(sgd, loss=lost, grad_norm=[130.0] * 22, val_accuracy=guess))),
    )
    return valid, invalid
