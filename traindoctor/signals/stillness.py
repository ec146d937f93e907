"""A loss that stands still: since when, at which level, and what gradient and weights do meanwhile.

"Flat from the start" has a dozen causes that the loss alone does not separate. What separates most of them is here in one
place, so that their rules ask one question: do the weights stand to the last bit, hardly move, shrink or move on; is the
gradient exactly zero, falling, steady or growing; is the level one of those that `levels` knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from traindoctor.signals.levels import MOST, STANDARD_VARIANCE, bias_gradient, classes_at, known_classes
from traindoctor.signals.robust import spread, step_noise

if TYPE_CHECKING:
    from traindoctor.model import FloatArray
    from traindoctor.signals.measurements import Measurements, SeriesMeasurements

Gradient: TypeAlias = Literal["unknown", "zero", "falling", "steady", "growing"]
Weights: TypeAlias = Literal["unknown", "constant", "still", "shrinking", "moving", "growing"]

#: A loss has left its start when this share of it is gone.
LEFT = 0.1
#: It stands when over the last third it falls by less than this share of its level, or by less than noise explains.
STANDS = 0.03
#: Relative distance from ln C that is "at ln C".
AT_CHANCE = 0.02
#: Classes up to which ln C is a level by itself.
FEW = 10
#: Noise over level of a loss of equal outputs, at most: each batch costs ln C. Runs of the study have up to 0.004, at rates far
#: too high 0.03; the losses of models that do learn from batch to batch 0.05 and more.
EVEN = 0.02
#: Strides before the first point of a log, at most: a log that begins later is of a run that was resumed.
BEGINS = 10
#: Start over level of a run that came down to chance, at most, and how far from ln C it may then stand, below and above.
FROM_ABOVE, BELOW, ABOVE = 1.3, 0.003, 0.012
#: Share of the level by which a loss at chance moves over the later half of its run, at most, unless its noise explains more.
FLAT = 0.004
#: Share of the way from guessing to all right that an accuracy may have gone where the model guesses.
GUESSES = 0.25
#: Relative distance from the variance of standardised targets, where noise explains it, and where it does not.
AT_VARIANCE, AT_VARIANCE_AT_LEAST = 0.1, 0.03
#: Fall of a loss from its first to its last third, in standard errors, from which it does not stand at a variance.
FALLS = 1.5
#: Share of the first validation loss that is left where a model learns.
LEARNS = 0.95
#: Batch noise of squared errors over what those of normal errors have, sqrt(2 / batch size): at least, at most.
SQUARED_NOISE = (0.5, 2.0)
#: Relative change of the weight norm below which weights are "still": they agree to three digits.
STILL = 1e-3
#: Change of a norm by a factor, beyond which it shrinks or grows.
FACTOR = 1.4


@dataclass(frozen=True, slots=True)
class Stillness:
    """A loss that stands, and what else was logged meanwhile.

    `level`: median of its last third. `left`: level over the start, 1 where noise explains the difference. `index`, `step`:
    from where on it stands. `share`: of the run that it stands. `noise`: point-to-point noise over the level. `classes`: C
    where the level is ln C, from batch to batch, else None; see `_classes`. `at_chance`: whether the loss stands there for half
    of the run, wherever it began: it never left, came back, or fell or rose to it. `at_variance`: whether the level is 1, the
    variance of standardised targets, up to its noise, and neither it nor the validation loss gets lower. `regression`: whether
    this is one, None where nothing tells; see `is_regression`. `gradient`: what its norm does while the loss stands;
    `gradient_left`: its end over its start; `gradient_noise`: noise over level; `gradient_over_bias`: its level over that of the
    gradient of the last bias alone, `levels.bias_gradient`, NaN where the batch size is not known. `weights`: what their norm
    does while the loss stands; `weights_moved`: its largest distance from where it was, over that. "still" are weights that
    agree to three digits, "constant" those that are the same to the last bit.
    """

    level: float
    left: float
    index: int
    step: int
    share: float
    noise: float
    classes: int | None
    at_chance: bool
    at_variance: bool
    regression: bool | None
    gradient: Gradient
    gradient_left: float
    gradient_noise: float
    gradient_over_bias: float
    weights: Weights
    weights_moved: float

    @property
    def from_start(self) -> bool:
        """Whether the loss stands where it began: less than a tenth of it is gone, within the first fifth of the run."""
        return self.left > 1.0 - LEFT and self.share > 0.8


def stillness(m: Measurements) -> Stillness | None:
    """Return how the training loss of a run stands still; None where it moves, is lost, signed, or shorter than 8 points.

    A loss that fell far first and then stands (converged) is a Stillness too, with a small `left`.
    """
    if not m.has("loss"):
        return None
    loss = m.loss
    if loss.n < 8 or loss.n_not_finite or not loss.is_positive or not loss.initial > 0.0:
        return None
    late = loss.value[-max(4, loss.n // 3) :]
    level = float(np.median(late))
    if not level > 0.0 or not _stands(late, level):
        return None
    index = _since(loss, level)
    step = int(loss.step[index])
    regression = is_regression(m)
    classes = None if regression else _classes(m, late, level)
    gradient, gradient_left, gradient_noise = _gradient(m, step)
    weights, moved = _weights(m, step)
    batch = m.setting("batch_size")
    over_bias = float("nan")
    if m.has("grad_norm") and isinstance(batch, int) and batch > 1:
        over_bias = float(np.median(_after(m.grad_norm, step))) / bias_gradient(level, classes, batch)
    return Stillness(
        level=level,
        left=1.0 if abs(loss.initial - level) <= 2.0 * spread(late) else level / loss.initial,
        index=index,
        step=step,
        share=1.0 - index / loss.n,
        noise=loss.noise,
        classes=classes,
        at_chance=classes is not None and not m.is_adversarial and _is_chance(loss, level, index, classes),
        at_variance=regression is not False and _is_variance(m, late),
        regression=regression,
        gradient=gradient,
        gradient_left=gradient_left,
        gradient_noise=gradient_noise,
        gradient_over_bias=over_bias,
        weights=weights,
        weights_moved=moved,
    )


def _stands(value: FloatArray, level: float) -> bool:
    """Return whether a stretch falls, or rises, by less than `STANDS` of its level, or less than its noise explains."""
    k = value.size // 2
    fall = float(value[:k].mean() - value[-k:].mean())
    error = spread(value) * (2.0 / k) ** 0.5
    return abs(fall) <= max(STANDS * level, 3.0 * error if error < 0.15 * level else 0.0)


def _since(loss: SeriesMeasurements, level: float) -> int:
    """Return the index from which the smoothed loss stays near its later level."""
    band = max(STANDS * level, 3.0 * spread(loss.smooth[-max(4, loss.n // 3) :]))
    outside = np.flatnonzero(np.abs(loss.smooth - level) > band)
    outside = outside[outside < loss.n - loss.n // 3]
    return int(outside[-1]) + 1 if outside.size else 0


def _classes(m: Measurements, late: FloatArray, level: float) -> int | None:
    """Return the number of classes C where a loss that stands at a level stands at ln C, None elsewhere.

    Outputs that say nothing cost ln C in every batch: the noise is small. Up to `FEW` classes ln C is a level by itself. Of more,
    some ln C is near any level: it has to be the start as well, and known well enough to tell C from C + 1. Pretrained models
    start, and stay, anywhere, and so does a log that begins late in its run. A model that answers better than by guessing is
    not at chance.
    """
    loss = m.loss
    if loss.noise >= EVEN or loss.step[0] > BEGINS * loss.stride:
        return None
    words = _words(loss.tag)
    classes = classes_at(level, AT_CHANCE)
    if classes is None or words & _OTHER_LOSSES:
        return None
    if classes > FEW:
        error = 1.25 * spread(late) / late.size**0.5  # of a median
        if abs(level - loss.initial) > AT_CHANCE * level or not known_classes(level, error):
            return None
    elif any(_words(series.tag) & _LANGUAGE for series in m.run.series):
        return None  # no vocabulary is that small
    for name in ("val_accuracy", "accuracy"):
        if m.has(name):
            seen = m.series(name)
            right = seen.tail / (100.0 if seen.highest > 1.0 else 1.0)
            if right > 1.0 / classes + GUESSES * (1.0 - 1.0 / classes):
                return None
    return classes


def _is_chance(loss: SeriesMeasurements, level: float, index: int, classes: int) -> bool:
    """Return whether a loss at ln C stands there for half of its run and, if it fell to it, exactly there."""
    stretch = loss.value[loss.n // 2 :]
    if index > loss.n / 2:
        return False
    k = stretch.size // 2
    fall = float(np.median(stretch[:k]) - np.median(stretch[-k:]))
    if abs(fall) > max(FLAT * level, 3.0 * spread(stretch) * (2.0 / k) ** 0.5):
        return False
    chance, first = log(classes), float(loss.value[0])
    start = min((first, loss.initial), key=lambda one: abs(one - chance))
    if start <= (1.0 + AT_CHANCE) * chance:
        return True
    other = classes_at(start, AT_CHANCE)
    if start > FROM_ABOVE * chance or (other is not None and other <= FEW):
        return False  # what begins at ln C of other classes has learnt something
    return -BELOW <= level / chance - 1.0 <= ABOVE


def _is_variance(m: Measurements, late: FloatArray) -> bool:
    """Return whether a loss stands at 1, and neither it nor the validation loss gets lower. The mean tells: noise is skewed."""
    error = spread(late) / late.size**0.5
    if abs(float(late.mean()) - STANDARD_VARIANCE) > min(AT_VARIANCE, max(AT_VARIANCE_AT_LEAST, 3.0 * error)):
        return False
    return not gets_lower(m)


def gets_lower(m: Measurements) -> bool:
    """Return whether the loss falls by more than its noise from its first to its last third, or the validation loss falls."""
    if m.loss.fall_significance > FALLS:
        return True
    if not m.has("val_loss"):
        return False
    validation = m.series("val_loss")
    return validation.n >= 3 and validation.is_positive and validation.tail < LEARNS * float(validation.value[0])


#: Words of tags of models of language: a vocabulary is never small.
_LANGUAGE = frozenset({"token", "tokens", "ppl", "perplexity", "bpc", "bpb", "mlm", "lm", "bleu", "rouge", "wer", "cer"})
#: Words of tags of losses whose level says nothing of classes or of standardised targets.
_OTHER_LOSSES = frozenset({"box", "dfl", "giou", "ciou", "iou", "dice", "ctc", "elbo", "kl", "recon", "reconstruction"})
#: Words of tags of classifiers, detectors and sums of other losses.
_NO_REGRESSION = _LANGUAGE | _OTHER_LOSSES | frozenset(
    {
        "nll", "ce", "xent", "crossentropy", "cls", "seg", "obj", "map", "map50", "accuracy", "acc", "accuracies", "top1", "top5",
        "f1", "auc", "auroc",
    }
)  # fmt: skip
_REGRESSION = frozenset({"mse", "rmse", "huber", "r2", "regression", "mseloss", "msle"})


def _words(text: str) -> frozenset[str]:
    return frozenset(re.split(r"[^a-z0-9]+", text.lower()))


def is_regression(m: Measurements) -> bool | None:
    """Return whether a run fits numbers, by the words of its tags and settings, level and noise; None where nothing tells.

    No mean cross-entropy of a vocabulary in use stands above ln 262,144. The mean squared error of a batch of n rows has a
    noise of about sqrt(2 / n) of itself while nothing is learnt.
    """
    tags = [_words(series.tag) for series in m.run.series]
    if any(words & _NO_REGRESSION for words in tags) or m.has("val_accuracy") or m.has("accuracy"):
        return False
    values = [_words(str(setting.value)) for setting in m.run.settings.values() if isinstance(setting.value, str)]
    if any(words & _REGRESSION for words in (*tags, *values)):
        return True
    loss, batch = m.loss, m.setting("batch_size")
    if loss.noise > 2.0 * EVEN and loss.tail > log(MOST):
        return True
    if isinstance(batch, int) and batch >= 8:
        low, high = SQUARED_NOISE
        if low <= loss.noise / (2.0 / batch) ** 0.5 <= high:
            return True
    return None


def _after(series: SeriesMeasurements, step: int) -> FloatArray:
    """Return the values from a step on, all of them where fewer than four are left."""
    value: FloatArray = series.value[series.step >= step]
    return value if value.size >= 4 else series.value


def _gradient(m: Measurements, step: int) -> tuple[Gradient, float, float]:
    if not m.has("grad_norm") or m.grad_norm.n < 4:
        return "unknown", float("nan"), float("nan")
    value = _after(m.grad_norm, step)
    if not np.any(value):
        return "zero", 0.0, 0.0
    k = max(2, value.size // 5)
    first, last = float(np.median(value[:k])), float(np.median(value[-k:]))
    left = last / first if first > 0.0 else float("inf")
    level = float(np.median(value))
    noise = step_noise(value) / level if level > 0.0 else float("nan")
    return "falling" if left < 1.0 / FACTOR else "growing" if left > FACTOR else "steady", left, noise


def _weights(m: Measurements, step: int) -> tuple[Weights, float]:
    if not m.has("weight_norm") or m.weight_norm.n < 3:
        return "unknown", float("nan")
    value = _after(m.weight_norm, step)
    if value.size < 3 or not value[0] > 0.0:
        return "unknown", float("nan")
    moved = float(np.max(np.abs(value - value[0])) / value[0])
    if moved == 0.0:
        return "constant", 0.0
    if moved < STILL:
        return "still", moved
    quotient = float(np.median(value[-max(1, value.size // 10) :])) / float(value[0])
    return "shrinking" if quotient < 1.0 / FACTOR else "growing" if quotient > FACTOR else "moving", moved


@dataclass(frozen=True, slots=True)
class Brake:
    """A setting that alone may keep a loss where it is. `name` as in the settings, `value`, `text`: a sentence."""

    name: str
    value: float
    text: str


def brake(m: Measurements) -> Brake | None:
    """Return the setting that holds a run back by itself, None when none is known to.

    A rate far below the usual, or decayed to nothing for most of the run, an eps that no framework and no recipe uses unasked,
    a weight decay beyond any recipe, a clip that leaves next to nothing under SGD.
    """
    spec, ratio = m.run.optimizer, m.rate_ratio
    if ratio is not None and spec is not None and ratio < (0.03 if spec.is_adaptive else 0.005):
        return Brake("optimizer.lr", m.peak_lr or 0.0, f"The learning rate, {m.peak_lr or 0.0:.2g}, is far below the usual one.")
    if m.has("learning_rate") and m.learning_rate.n >= 8:
        rate = m.learning_rate
        middle = float(np.median(rate.value))
        if middle < 0.02 * rate.highest:
            return Brake("optimizer.lr", middle, f"For most of the run the learning rate is next to nothing, {middle:.2g}.")
    if spec is None:
        return None
    if spec.is_adaptive and spec.eps is not None and spec.eps >= 1e-2:
        return Brake("optimizer.eps", spec.eps, f"eps = {spec.eps:g} alone would slow the run down.")
    if spec.weight_decay is not None and spec.weight_decay >= 0.5:
        return Brake("optimizer.weight_decay", spec.weight_decay, f"A weight decay of {spec.weight_decay:g} alone would do it.")
    clip = m.setting("gradient.clip_norm")
    if not spec.is_adaptive and isinstance(clip, int | float) and 0.0 < clip < 1e-2:
        return Brake("gradient.clip_norm", float(clip), f"A clip at {clip:g} alone would do it under SGD.")
    return None
