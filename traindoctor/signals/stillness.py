"""A loss that stands still: since when, at which level, and what gradient and weights do meanwhile.

"Flat from the start" has a dozen causes that the loss alone does not separate. What separates most of them is here in one
place, so that their rules ask one question: do the weights stand to the last bit, hardly move, shrink or move on; is the
gradient exactly zero, falling, steady or growing; is the level one of those that `levels` knows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from traindoctor.signals.levels import STANDARD_VARIANCE, bias_gradient, classes_at
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
#: Relative distance from the variance of standardised targets.
AT_VARIANCE = 0.1
#: Relative change of the weight norm below which weights are "still": they agree to three digits.
STILL = 1e-3
#: Change of a norm by a factor, beyond which it shrinks or grows.
FACTOR = 1.4


@dataclass(frozen=True, slots=True)
class Stillness:
    """A loss that stands, and what else was logged meanwhile.

    `level`: median of its last third. `left`: level over the start, 1 where noise explains the difference. `index`, `step`:
    from where on it stands. `share`: of the run that it stands. `noise`: point-to-point noise over the level. `classes`: C
    where the level is ln C within 2 %, else None. `at_variance`: whether it is within a tenth of 1, the variance of
    standardised targets. `gradient`: what its norm does while the loss stands; `gradient_left`: its end over its start;
    `gradient_noise`: noise over level; `gradient_over_bias`: its level over that of the gradient of the last bias alone,
    `levels.bias_gradient`, NaN where the batch size is not known. `weights`: what their norm does while the loss stands;
    `weights_moved`: its largest distance from where it was, over that. "still" are weights that agree to three digits,
    "constant" those that are the same to the last bit.
    """

    level: float
    left: float
    index: int
    step: int
    share: float
    noise: float
    classes: int | None
    at_variance: bool
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
    classes = classes_at(level, AT_CHANCE)
    if classes is not None and classes > FEW and abs(level - loss.initial) > AT_CHANCE * level:
        classes = None  # some ln C is near any level: that it is also the start says something
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
        at_variance=abs(level - STANDARD_VARIANCE) <= AT_VARIANCE,
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
