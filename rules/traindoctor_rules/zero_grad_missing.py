"""Gradients are never cleared: every backward pass adds to the sum of all before it.

## What it looks like
The gradient norm is smooth from step to step and grows: over the first steps as their number, later as its square root, in every
layer. It stays large while the loss is small, and does not follow the loss. The loss falls at first, and then swings with a long
period, often with growing amplitude.

## Why it happens
PyTorch adds to `.grad`. Without `optimizer.zero_grad()` the optimizer is given the sum of all gradients ever seen.
Under SGD that is heavy-ball momentum with a factor of 1: an undamped oscillator, L - L* + lr * ||G||^2 / 2 = const on
a quadratic, whose loss swings with the period pi / sqrt(lr * lambda).

## When it is wrong
A full batch gives a smooth gradient too, but one that follows the loss. Gradient accumulation over k micro-batches
clears every k passes. From the loss alone slow swings at a usual rate are a hint; a rate that is too high (TD201) and logits that
drift (TD613) stay rivals. Correct scripts that clear through `model.zero_grad()`, a helper, an engine or a hook are
recognised where they can be resolved.

## What repairs it
`optimizer.zero_grad()` before each backward pass (or after each step).

## References
PyTorch documentation, torch.optim.Optimizer.zero_grad. Qian 1999, On the momentum term in gradient descent learning algorithms,
Neural Networks 12, 145 (the oscillator).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.code.order import all_inserted, clears_correctly, of_another, text_of_call, uncleared, wrong_in
from traindoctor.mistake import Mistake
from traindoctor.rule import (
    MODERATE,
    PROOF,
    STRONG,
    WEAK,
    Cause,
    Example,
    Examples,
    Limits,
    Sample,
    Statement,
    Threshold,
    against,
    disproven,
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.code.order import Wrong
    from traindoctor.code.script import Script
    from traindoctor.mistake import Location
    from traindoctor.model import Evidence, Fix, TrainingLoop
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD301",
    name="zero-grad-missing",
    summary="gradients are never cleared and add up over all steps",
    explanation=__doc__,
    thresholds=(
        Threshold("smooth", 0.95, "lag-1 autocorrelation of the gradient norm", STUDY),
        Threshold("risen", 1.5, "tail loss over initial loss from which a run has diverged", STUDY),
        Threshold("rising", 2.0, "gradient norm over its start", STUDY),
        Threshold("descended", 0.9, "lowest loss over the initial one of a run that fell", STUDY),
        Threshold("rose", 0.97, "lowest loss over the initial one of a run that only rose", STUDY),
        Threshold("shrunk", 0.5, "late over early gradient norm of one weight matrix", STUDY),
        Threshold("dense", 2.0, "steps between logged losses, to see the first descent", "a descent of a few steps"),
        Threshold("unmoved", 0.95, "lowest loss over the initial one of a run that never fell", STUDY),
        Threshold("together", 0.5, "correlation of log norm and log loss during the descent", STUDY),
        Threshold("closely", 0.9, "correlation of log norm and log loss over the run", STUDY),
        Threshold("kept", 0.5, "late over early gradient norm that has not gone down", STUDY),
        Threshold("energy", 3.3, "factor about 2/lr: networks are no quadratics", "exact on a quadratic; benchmarks/study"),
        Threshold("growing", 0.9, "lag-1 autocorrelation of a gradient norm that grows", STUDY),
        Threshold("noisy", 0.8, "lag-1 autocorrelation below which gradients cannot be adding up", STUDY),
        Threshold("follows", 0.3, "correlation of log gradient norm with log loss", STUDY),
        Threshold("grown", 4.0, "late over early gradient norm", STUDY),
        Threshold(
            "slope",
            0.4,
            "growth of the norm, log over log of the step",
            "0.5 for a sum of independent gradients, 1 for equal ones",
        ),
        Threshold(
            "anew", 0.75, "share of the epochs at whose start the norm falls most", "one over the points of an epoch by chance"
        ),
        Threshold("teeth", 0.45, "share of the variance of log norm that teeth of an epoch explain", STUDY),
        Threshold("law_points", 16, "logged gradient norms", STUDY),
        Threshold("law_grown", 7.0, "late over early gradient norm; 5.4 is the most of a sound run that follows the law", STUDY),
        Threshold("law_scatter", 0.09, "distance from a power of the step count, in decades; 0.11 in the best sound run", STUDY),
        Threshold("law_scatter_of_equal", 0.015, "the same, below which all gradients are equal: the weights stand still", STUDY),
        Threshold(
            "law_power", 0.33, "growth over the whole run, log over log of the step", "0.5 for a sum of independent gradients"
        ),
        Threshold("law_steepest", 1.35, "growth over the whole run, log over log of the step", "1 for a sum of equal gradients"),
        Threshold("first", 4, "logged points in the first 20 steps", STUDY),
        Threshold(
            "first_power",
            0.69,
            "growth in the first steps, log over log of the step",
            "1 for a sum of equal gradients; benchmarks/study",
        ),
        Threshold("first_steepest", 1.2, "growth in the first steps, log over log of the step", "1 for a sum of equal gradients"),
        Threshold("first_spread", 0.25, "how far that growth differs among the first points", STUDY),
        Threshold("left", 0.02, "tail loss over initial loss, below which swings are those of an exact fit", STUDY),
        Threshold(
            "momentum", 0.95, "momentum above which slow swings are its own", "damping of heavy-ball momentum; benchmarks/study"
        ),
        Threshold("not_high", 5.0, "learning rate over the usual one of the optimizer", STUDY),
        Threshold("over_noise", 5.5, "logarithm of a slow rise over the noise of the log of the loss", STUDY),
        Threshold("points", 4.0, "logged points in a rise that is slow", STUDY),
        Threshold("rise", 1.6, "times that the loss rises, median", STUDY),
        Threshold("highest_rise", 100.0, "times that the loss rises, above which it is a divergence or a spike", STUDY),
        Threshold("high_rise", 1.9, "times that the loss rises, median", STUDY),
        Threshold("usual", 10.0, "learning rate over the usual one of the optimizer", STUDY),
        Threshold(
            "explosive",
            4.0,
            "growth of the norm, log over log of the step",
            "a divergence is exponential: its power has no bound",
        ),
        Threshold("moved", 0.01, "relative change of the weight norm", STUDY),
        Threshold(
            "conserved", 0.8, "correlation of ||G||^2 with -L under SGD", "exact on a quadratic: L + lr ||G||^2 / 2 is constant"
        ),
    ),
    explains=("TD201", "TD401"),
    look_alikes=("TD201",),
    experiment="print the gradient norm right after zero_grad, or read the loop: it must be 0 there",
    refutation="A gradient norm of 0 right before the backward pass.",
)


@CAUSE.in_logs(needs=("loss", "grad_norm"))
def adds_up(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the signs of a sum in the gradient norm: smooth, growing, not following the loss."""
    from traindoctor.signals.gradients import layer_smoothness, shrunken_layer, split_piles

    grad, loss = m.grad_norm, m.loss
    if grad.n < 12 or grad.is_constant or m.is_adversarial or not loss.is_positive:
        return
    smooth = grad.autocorrelation(1)
    if smooth < limits["noisy"] and not _begins_as_a_sum(m, limits):
        yield against(
            "smooth",
            smooth,
            weight=STRONG,
            source=grad.source,
            text="The gradient norm is noisy from point to point; a sum of all gradients is not.",
        )
        return
    if split_piles(m.layers):
        yield against(
            "layers",
            len(split_piles(m.layers)),
            unit="layers",
            weight=PROOF + STRONG,
            source=m.layers.source("grad_norm"),
            text="The gradients of some layers add up and those of others do not: the optimizer clears what it holds.",
        )
        return
    if m.has("weight_norm") and m.weight_norm.is_constant:
        yield against(
            "weights",
            0.0,
            weight=PROOF,
            source=m.weight_norm.source,
            text="The weights never move: the optimizer does not hold these parameters.",
        )
        return
    follows = m.grad_follows_loss
    grown = grad.tail / grad.initial if grad.initial > 0.0 else float("nan")
    fell = loss.tail < limits["risen"] * loss.initial
    if (
        m.has("weight_norm")
        and m.weight_norm.n >= 3
        and m.weight_norm.relative_change < limits["moved"]
        and grown > limits["rising"]
    ):
        yield against(
            "weights",
            m.weight_norm.relative_change,
            weight=STRONG,
            source=m.weight_norm.source,
            text="The weights hardly move under a sum that grows: most of them are not in the optimizer's hands.",
        )
    descent = m.descent
    each = layer_smoothness(m.layers)
    if each < limits["noisy"]:
        yield against(
            "layers_smooth",
            each,
            unit="autocorrelation, median over the layers",
            weight=STRONG,
            source=m.layers.source("grad_norm"),
            text="Most layers' gradient norms are noisy from point to point; sums are not.",
        )
    least = shrunken_layer(m.layers)
    if least < limits["shrunk"]:
        yield against(
            "shrinks",
            least,
            unit="late / early gradient norm",
            weight=STRONG,
            source=m.layers.source("grad_norm"),
            text=f"The gradient norm of one layer falls to {least:.0%}: it is no sum of all its gradients.",
        )
    seen = m.run.step_unit == "step" and loss.stride <= limits["dense"] and loss.step[0] <= 1
    if seen and loss.best > limits["rose"] * float(loss.value[0]) and not fell:
        yield against(
            "rose",
            loss.best / float(loss.value[0]),
            unit="lowest / initial loss",
            weight=STRONG,
            source=loss.source,
            text="The loss rose from the first step on; a sum of gradients descends at first.",
        )
    if descent.left > limits["unmoved"] and fell:
        yield against(
            "never_fell",
            descent.left,
            unit="lowest / initial loss",
            weight=STRONG,
            source=loss.source,
            text="The loss never fell: the gradients pile up, but the weights do not follow them.",
        )
    if (
        descent.left < limits["descended"]
        and descent.follows < 0.0
        and descent.grown > limits["rising"]
        and smooth >= limits["growing"]
    ):
        yield supports(
            "opposes",
            descent.grown,
            unit="times, as the loss fell",
            weight=STRONG,
            source=f"{grad.source} and {loss.source}",
            text=f"While the loss fell to {descent.left:.0%}, the gradient norm grew {descent.grown:.3g} times.",
        )
    elif descent.left < limits["descended"] and descent.follows > limits["together"]:
        yield against(
            "follows_down",
            descent.follows,
            weight=STRONG,
            source=grad.source,
            text="The gradient norm fell with the loss, as it should.",
        )
    if smooth >= limits["smooth"] and follows < limits["follows"] and grown > limits["kept"] and fell:
        yield supports(
            "follows",
            follows,
            weight=STRONG,
            source=f"{grad.source} and {loss.source}",
            text=f"The gradient norm is smooth (autocorrelation {smooth:.2f}) and does not follow the loss "
            f"(correlation {follows:.2f}).",
        )
    elif follows > limits["closely"] and grown < 1.0:
        yield against(
            "follows", follows, weight=STRONG, source=grad.source, text="The gradient norm follows the loss down, as it should."
        )
    slope = grad.growth(1, max(200, int(grad.step[-1]) // 5))
    explodes = slope > limits["explosive"] and not _begins_as_a_sum(m, limits)
    if explodes and not _has_momentum(m):
        yield against(
            "explosive",
            slope,
            unit="log g / log t",
            weight=STRONG,
            source=grad.source,
            text="The gradient norm explodes; a sum grows as a power of the step count.",
        )
    elif grown > limits["grown"] and smooth >= limits["noisy"] and not explodes:
        firm = max(slope, grad.growth(1, int(grad.step[-1]))) > limits["slope"] and smooth >= limits["growing"]
        yield supports(
            "grown",
            grown,
            unit="late / early gradient norm",
            weight=STRONG + WEAK if firm else MODERATE,
            source=grad.source,
            text=f"The gradient norm grows {grown:.3g} times, early on as the step count to the power {slope:.2f}.",
        )


@CAUSE.in_logs(needs=("loss", "grad_norm"))
def starts_anew(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a norm that falls back where epochs begin: something clears the gradients there (TD317)."""
    from traindoctor.signals.gradients import resets, sawtooth
    from traindoctor.signals.periodicity import epoch_lengths

    grad = m.grad_norm
    for told in epoch_lengths(m.run) if m.run.step_unit == "step" and grad.n >= limits["law_points"] else ():
        tooth, reset = sawtooth(grad.step, grad.value, [told.steps]), resets(grad.step, grad.value, told.steps)
        falls = reset is not None and reset.share > limits["anew"] and reset.drop > limits["rising"]
        if falls or (tooth is not None and tooth.length == told.steps and tooth.share > limits["teeth"]):
            yield against(
                "anew",
                told.steps,
                unit="steps",
                weight=PROOF + STRONG,
                source=grad.source,
                text=f"The gradient norm falls back every {told.steps:,.0f} steps, an epoch by {told.words}: it is cleared.",
            )
            return


@CAUSE.in_logs(needs=("loss", "grad_norm"))
def grows_by_the_law(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a norm that grows as a power of the steps over the whole run, as a sum does whose gradients still differ."""
    from traindoctor.signals.gradients import pile_up, split_piles, stands_still

    grad = m.grad_norm
    pile = pile_up(grad.step, grad.value) if grad.n >= limits["law_points"] and not m.is_adversarial else None
    if pile is None or split_piles(m.layers) or stands_still(m) is not None or _carries_a_scale(m):
        return
    if not m.loss.is_positive or m.loss.best > limits["descended"] * float(m.loss.value[0]):
        return  # a sum of gradients descends at first
    if (
        pile.grown > limits["law_grown"]
        and limits["law_scatter_of_equal"] < pile.scatter < limits["law_scatter"]
        and limits["law_power"] < pile.power < limits["law_steepest"]
    ):
        yield supports(
            "law",
            pile.power,
            unit="log g / log t",
            weight=STRONG,
            onset=0,
            source=grad.source,
            text=f"Over the whole run the gradient norm follows the step count to the power {pile.power:.2f}, within "
            f"{pile.scatter:.2f} decades: 0.5 is a sum of unlike gradients, 1 one of like ones.",
        )


def _has_momentum(m: Measurements) -> bool:
    """Return whether the run is one of SGD with momentum, under which weights that follow a sum of gradients diverge."""
    return m.run.optimizer is not None and m.run.optimizer.name == "sgd" and bool(m.run.optimizer.momentum)


def _carries_a_scale(m: Measurements) -> bool:
    """Return whether the norm may go along with a loss scale that changes."""
    return m.has("loss_scale") and not m.series("loss_scale").is_constant


def _begins_as_a_sum(m: Measurements, limits: Limits) -> bool:
    """Return whether the gradient norm grows with the steps taken from the first one on, by one and the same power."""
    from traindoctor.signals.gradients import first_steps

    first = first_steps(m.grad_norm.step, m.grad_norm.value) if m.run.step_unit == "step" else None
    return (
        first is not None
        and first.n >= limits["first"]
        and first.lowest > limits["first_power"]
        and first.highest < min(limits["first_steepest"], first.lowest + limits["first_spread"])
    )


@CAUSE.in_logs(needs=("loss", "grad_norm"))
def adds_up_from_the_start(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a norm that grows from the first step on as the number of gradients in a sum."""
    from traindoctor.signals.gradients import first_steps, split_piles

    grad = m.grad_norm
    first = first_steps(grad.step, grad.value)
    if first is None or grad.n < 12 or m.is_adversarial or not _begins_as_a_sum(m, limits) or split_piles(m.layers):
        return
    yield supports(
        "first_steps",
        0.5 * (first.lowest + first.highest),
        unit="log g / log t",
        weight=STRONG + MODERATE,
        onset=0,
        source=grad.source,
        text=f"From the first step on the gradient norm grows as the number of steps to the power {first.lowest:.2f} to "
        f"{first.highest:.2f}: a sum of like gradients.",
    )


@CAUSE.in_logs(needs=("loss", "grad_norm", "optimizer.lr"))
def energy_is_conserved(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the law of the undamped oscillator under plain SGD: ||G||^2 falls by 2/lr where the loss rises by 1."""
    from traindoctor.signals.robust import correlation

    spec, grad, loss = m.optimizer, m.grad_norm, m.loss
    if spec.name != "sgd" or spec.momentum or not spec.lr or grad.n < 20 or grad.is_constant:
        return
    import numpy as np

    value = np.interp(grad.step, loss.step, loss.value)
    squared = grad.value**2
    together = correlation(squared, value)
    if together > -limits["conserved"] or not np.ptp(value) > 0.0:
        return
    seen = float(np.std(squared) / np.std(value)) * spec.lr / 2.0
    if 1.0 / limits["energy"] < seen < limits["energy"]:
        yield supports(
            "energy",
            seen,
            unit="of 2/lr",
            weight=PROOF,
            source=f"{grad.source} and {loss.source}",
            text=f"Loss and squared gradient norm trade places at {seen:.2f} of the rate 2/lr, as in momentum without damping.",
        )


@CAUSE.in_logs(needs=("loss",))
def swings(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a slow, strong oscillation of the loss."""
    loss = m.loss
    if loss.n < 48 or not loss.is_positive or m.is_adversarial:
        return
    period, share = loss.oscillation
    later = loss.value[loss.n // 2 :]
    swing = float(later.max() - later.min()) / loss.initial if loss.initial > 0.0 else 0.0
    if (
        share > 0.5
        and period > 6.0 * loss.stride
        and period < 0.3 * float(loss.step[-1])
        and swing > 0.05
        and loss.autocorrelation(1) > 0.8
    ):
        yield supports(
            "period",
            period,
            unit="steps",
            weight=WEAK,
            source=loss.source,
            text=f"The loss swings with a period of {period:,.0f} steps.",
        )


@CAUSE.in_logs(needs=("loss",))
def swings_at_a_usual_rate(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield slow swings, far above the noise, at a rate that does not explain them, where no gradient norm was logged."""
    from traindoctor.signals.gradients import slow_swings

    loss = m.loss
    if m.has("grad_norm") or m.is_adversarial or not loss.is_positive or loss.n_not_finite or not loss.initial > 0.0:
        return
    momentum = (m.optimizer.momentum or 0.0) if m.run.optimizer is not None else 0.0
    rate = m.rate_ratio
    if (
        loss.tail < limits["left"] * loss.initial
        or momentum > limits["momentum"]
        or (rate is not None and rate > limits["not_high"])
    ):
        return
    found = slow_swings(loss.value)
    if found is None or found.over_noise < limits["over_noise"] or found.points < limits["points"]:
        return
    if not limits["rise"] < found.rise < limits["highest_rise"]:
        return
    yield supports(
        "swings",
        found.rise,
        unit="times in a rise",
        weight=MODERATE if found.n < 2 else STRONG + (WEAK if rate is not None and found.rise > limits["high_rise"] else 0.0),
        onset=0,
        source=loss.source,
        text=f"The loss rises slowly by a factor of {found.rise:.2f}, {found.n} times, over {found.points:.0f} logged points, "
        f"{found.over_noise:.0f} times its noise" + (", at a usual learning rate." if rate is not None else "."),
    )


@CAUSE.in_logs(needs=("loss", "optimizer.lr"))
def diverges_at_a_usual_rate(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a divergence that the learning rate does not explain, where no gradient norm speaks against a sum."""
    loss, ratio = m.loss, m.rate_ratio
    unseen = not m.has("grad_norm") or _begins_as_a_sum(m, limits) or _has_momentum(m)
    if not unseen or m.is_adversarial or not loss.is_positive or loss.n < 8 or ratio is None:
        return
    if ratio <= limits["usual"] and float(max(loss.smooth[-max(2, loss.n // 10) :])) > limits["risen"] * loss.initial:
        yield supports(
            "usual_rate",
            ratio,
            unit="of the usual rate",
            weight=MODERATE + WEAK,
            source=loss.source,
            text="The loss grows at a usual learning rate, as it does under a sum of gradients."
            + ("" if m.has("grad_norm") else " Without a gradient norm the two look the same."),
        )


@CAUSE.in_code
def cleared(loop: TrainingLoop) -> Iterator[Evidence]:
    """Yield the order that clears the gradients."""
    if clears_correctly(loop):
        yield disproven("cleared", loop.location, "The loop clears the gradients before each backward pass.")


@CAUSE.in_script("backward|grad|optim", "backward(|.step(|optimizer_step(")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the backward passes whose gradients nothing clears."""
    found: dict[Location, list[Wrong]] = {}
    for wrong, where in wrong_in(script, uncleared):
        if of_another(wrong) is None:
            found.setdefault(where, []).append(wrong)
    for where, of_one_pass in found.items():
        names = list(dict.fromkeys(wrong.optimizer for wrong in of_one_pass))
        yield Mistake(
            where,
            f"No zero_grad() clears the gradients of {' and '.join(f'`{name}`' for name in names)} between two backward passes. "
            f"`{text_of_call(of_one_pass[0].event)}` adds to those of all steps before.",
            f"Call {' and '.join(f'{name}.zero_grad()' for name in names)} before the backward pass, or after the step",
            repair=all_inserted(script, of_one_pass),
        )


@CAUSE.fixes
def clear(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the call that is missing."""
    from traindoctor.model import Fix

    yield Fix(
        "Call optimizer.zero_grad() before each backward pass",
        note="costs nothing; learning rates that were tuned without it are too small",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    steps = [int(s.step[-1]) for s in m.run.primary.values() if len(s)]
    return Statement(
        "Training failed from the first step: gradients were never cleared, and every update used the sum of all before it.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(0, max(steps, default=0) + 1, 0),
    )


def _line(k: int) -> float:
    import math

    return 4.0 * math.cos(0.2 * k) ** 2 + 0.001


def _sum(k: int) -> float:
    import math

    return math.sqrt(2.0 * 4.0 / 0.01) * abs(math.sin(0.2 * k)) + 0.001


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    adam = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    fall = [2.3 * 0.97**k + 0.05 for k in range(200)]
    valid = (
        Example("full batch: smooth, and follows the loss", run_of(adam, loss=fall, grad_norm=[0.5 * v for v in fall])),
        Example("mini-batches: noisy", run_of(adam, loss=fall, grad_norm=[1.0 + 0.5 * ((k * 7) % 11) for k in range(200)])),
        Example(
            "gradients that grow with the loss",
            run_of(adam, loss=[1.1**k for k in range(200)], grad_norm=[1.1**k for k in range(200)]),
        ),
        Example("five points", run_of(adam, loss=[5.0, 4.0, 3.0, 2.0, 1.0], grad_norm=[1.0, 2.0, 3.0, 4.0, 5.0])),
        Example("loss alone", run_of(adam, loss=fall)),
    )
    invalid = (
        Example("grows as t and leaves the loss", run_of(adam, loss=fall, grad_norm=[0.5 * (k + 1) for k in range(200)])),
        Example(
            "undamped oscillator under SGD",
            run_of(OptimizerSpec("sgd", lr=0.01, momentum=0.0), loss=map(_line, range(200)), grad_norm=map(_sum, range(200))),
        ),
    )
    return valid, invalid


_HEAD = """import torch
from torch import nn
model = nn.Linear(1, 1)
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
CAUSE.valid_code = (
    Sample(
        "lists of parameters, cleared through the model",
        """\
import torch
model = GPT()
hidden = [p for p in model.blocks.parameters() if p.ndim >= 2]
first = torch.optim.AdamW([dict(params=[model.embed.weight]), dict(params=[model.head.weight])])
second = Muon(hidden, lr=0.02)
optimizers = [first, second]
for step in range(1000):
    model(x, y).backward()
    for opt in optimizers:
        opt.step()
    model.zero_grad(set_to_none=True)
""",
    ),
    Sample(
        "a list that grows elsewhere",
        """\
import torch
class GAN:
    def __init__(self):
        self.optimizers = []
        self.opt_g = torch.optim.Adam(self.g.parameters())
        self.optimizers.append(self.opt_g)
        self.setup_d()
    def setup_d(self):
        self.opt_d = torch.optim.Adam(self.d.parameters())
        self.optimizers += [self.opt_d]
    def train(self, loader):
        for x in loader:
            for o in self.optimizers:
                o.zero_grad()
            self.loss(x).backward()
            self.opt_d.step()
            self.opt_g.step()
""",
    ),
    Sample(
        "in the finally of each iteration",
        """\
import torch
opt = torch.optim.Adam(model.parameters())
for x in loader:
    try:
        model(x).mean().backward()
        opt.step()
    except RuntimeError:
        continue
    finally:
        opt.zero_grad()
""",
    ),
    Sample("cleared before", _HEAD + "for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    opt.step()\n"),
    Sample("cleared at the end", _HEAD + "for x in dl:\n    model(x).backward()\n    opt.step()\n    opt.zero_grad()\n"),
    Sample("through the model", _HEAD + "for x in dl:\n    model.zero_grad()\n    model(x).backward()\n    opt.step()\n"),
    Sample(
        "grad is None",
        _HEAD
        + "for x in dl:\n    for p in model.parameters():\n        p.grad = None\n    model(x).backward()\n    opt.step()\n",
    ),
    Sample(
        "in a helper of another file",
        _HEAD + "from helpers import clear\nfor x in dl:\n    clear(opt)\n    model(x).backward()\n    opt.step()\n",
        others={"helpers.py": "def clear(o):\n    o.zero_grad(set_to_none=True)\n"},
    ),
    Sample(
        "in a helper that is not there",
        _HEAD + "from elsewhere import clear\nfor x in dl:\n    clear(opt)\n    model(x).backward()\n    opt.step()\n",
    ),
    Sample("one step, no loop", _HEAD + "model(x).backward()\nopt.step()\n"),
    Sample(
        "accumulation",
        _HEAD + "for i, x in enumerate(dl):\n    (model(x) / 4).backward()\n    if (i + 1) % 4 == 0:\n        opt.step()\n"
        "        opt.zero_grad()\n",
    ),
    Sample("accumulation over the whole loop", _HEAD + "opt.zero_grad()\nfor x in dl:\n    model(x).backward()\nopt.step()\n"),
    Sample(
        "LBFGS",
        "import torch\nopt = torch.optim.LBFGS(model.parameters())\nfor x in dl:\n    def closure():\n        opt.zero_grad()\n"
        "        loss = model(x)\n        loss.backward()\n        return loss\n    opt.step(closure)\n",
    ),
    Sample(
        "fused in the backward pass",
        _HEAD + "def hook(p):\n    opts[p].step()\n    opts[p].zero_grad()\nfor p in model.parameters():\n"
        "    p.register_post_accumulate_grad_hook(hook)\nfor x in dl:\n    model(x).backward()\n    opt.step()\n",
    ),
    Sample(
        "DeepSpeed",
        "def train(model_engine, dl):\n    for x in dl:\n        loss = model_engine(x)\n        model_engine.backward(loss)\n"
        "        model_engine.step()\n",
    ),
    Sample(
        "Lightning",
        "import lightning as L\nclass M(L.LightningModule):\n    def training_step(self, batch, i):\n        for x in batch:\n"
        "            self.manual_backward(self(x))\n            self.optimizer.step()\n",
    ),
    Sample(
        "two optimizers, one call clears both",
        "import torch\nG, D = Generator(), Discriminator()\nopt_g = torch.optim.Adam(G.parameters())\n"
        "opt_d = torch.optim.Adam(D.parameters())\ndef reset():\n    opt_g.zero_grad()\n    opt_d.zero_grad()\nfor x in dl:\n"
        "    reset()\n    D(x).backward()\n    opt_d.step()\n    reset()\n    D(G(x)).backward()\n    opt_g.step()\n",
    ),
    Sample(
        "test file",
        _HEAD + "for x in dl:\n    model(x).backward()\n    opt.step()\n",
        file="test_optimizer.py",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "an optimizer for each model",
        """\
import torch
optimizers = [torch.optim.Adam(m.parameters()) for m in models]
for x, y in loader:
    loss = sum(criterion(m(x), y) for m in models)
    loss.backward()  # <-
    for opt in optimizers:
        opt.step()
""",
    ),
    Sample(
        "two optimizers, one pass",
        """\
import torch
def train(encoder, decoder, pairs):
    first = torch.optim.SGD(encoder.parameters(), lr=0.01)
    second = torch.optim.SGD(decoder.parameters(), lr=0.01)
    for x, y in pairs:
        loss = criterion(decoder(encoder(x)), y)
        loss.backward()  # <-
        first.step()
        second.step()
""",
        fixed="""\
import torch
def train(encoder, decoder, pairs):
    first = torch.optim.SGD(encoder.parameters(), lr=0.01)
    second = torch.optim.SGD(decoder.parameters(), lr=0.01)
    for x, y in pairs:
        loss = criterion(decoder(encoder(x)), y)
        first.zero_grad()
        second.zero_grad()
        loss.backward()  # <-
        first.step()
        second.step()
""",
    ),
    Sample(
        "an object that is called for each batch",
        """\
import torch
class Step:
    def __init__(self, model, optimizer):
        self.model, self.optimizer = model, optimizer
    def __call__(self, x):
        self.model(x).mean().backward()  # <-
        self.optimizer.step()
model = Net()
step = Step(model, torch.optim.Adam(model.parameters()))
for x in loader:
    step(x)
""",
    ),
    Sample(
        "cleared only after a failure",
        """\
import torch
opt = torch.optim.Adam(model.parameters())
for x in loader:
    loss = model(x).mean()
    if not torch.isfinite(loss):
        opt.zero_grad()
        continue
    loss.backward()  # <-
    opt.step()
""",
    ),
    Sample(
        "a closure that does not clear",
        """\
import torch
opt = torch.optim.LBFGS(model.parameters())
for x in loader:
    def closure():
        loss = model(x).mean()
        loss.backward()  # <-
        return loss
    opt.step(closure)
""",
    ),
    Sample(
        "never",
        _HEAD + "for x in dl:\n    model(x).backward()  # <-\n    opt.step()\n",
        fixed=_HEAD + "for x in dl:\n    opt.zero_grad()\n    model(x).backward()  # <-\n    opt.step()\n",
    ),
    Sample("only before the loop", _HEAD + "opt.zero_grad()\nfor x in dl:\n    model(x).backward()  # <-\n    opt.step()\n"),
    Sample(
        "only once an epoch",
        _HEAD
        + "for e in range(9):\n    opt.zero_grad()\n    for x in dl:\n        model(x).backward()  # <-\n        opt.step()\n",
    ),
    Sample("named, not called", _HEAD + "for x in dl:\n    opt.zero_grad\n    model(x).backward()  # <-\n    opt.step()\n"),
    Sample(
        "GradScaler",
        _HEAD + "scaler = torch.amp.GradScaler()\nfor x in dl:\n    with torch.autocast('cuda'):\n        loss = model(x)\n"
        "    scaler.scale(loss).backward()  # <-\n    scaler.step(opt)\n    scaler.update()\n",
        fixed=_HEAD + "scaler = torch.amp.GradScaler()\nfor x in dl:\n    with torch.autocast('cuda'):\n        loss = model(x)\n"
        "    opt.zero_grad()\n    scaler.scale(loss).backward()  # <-\n    scaler.step(opt)\n    scaler.update()\n",
    ),
    Sample(
        "accelerate",
        "from accelerate import Accelerator\nimport torch\nacc = Accelerator()\nmodel = Net()\n"
        "opt = torch.optim.AdamW(model.parameters())\nmodel, opt, dl = acc.prepare(model, opt, dl)\nfor x in dl:\n"
        "    acc.backward(model(x))  # <-\n    opt.step()\n",
    ),
    Sample(
        "methods, and a constructor of the base",
        "import torch\nclass Base:\n    def __init__(self, model):\n        self.model = model\n"
        "        self.opt = torch.optim.SGD(model.parameters(), lr=0.1)\nclass Trainer(Base):\n    def __init__(self, model):\n"
        "        super().__init__(model)\n    def one(self, x):\n        self.model(x).backward()  # <-\n"
        "        self.opt.step()\n"
        "    def fit(self):\n        while True:\n            self.one(self.next())\n    def next(self):\n"
        "        return next(self.data)\n",
    ),
    Sample(
        "the pass in a helper of another file",
        _HEAD + "import engine\nfor x in dl:\n    engine.passes(model, x)  # <-\n    opt.step()\n",
        others={"engine.py": "def passes(m, x):\n    m(x).backward()\n"},
    ),
    Sample(
        "accumulation that never clears",
        _HEAD + "for i, x in enumerate(dl):\n    model(x).backward()  # <-\n    if (i + 1) % 4 == 0:\n        opt.step()\n",
    ),
)
