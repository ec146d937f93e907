"""Levels that a loss has for reasons of arithmetic: ln C at the start, the floor of a softmax applied twice, a target's variance.

A cross-entropy of C classes begins near ln C, whatever the model. What stands at such a level, or a bound of it, tells more
than what stands anywhere else. All functions take and give losses in nats.
"""

from __future__ import annotations

from math import e, exp, expm1, isfinite, log, pi, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, IntArray

#: Mean squared error of the mean, for targets that were standardised.
STANDARD_VARIANCE = 1.0
#: Classes from which ln C lies closer to its neighbours than a start is known: no number can be told.
MANY = 60
#: The most classes in use: a vocabulary of 260,000 pieces.
MOST = 262_144


def double_softmax_floor(classes: float) -> float:
    """Return the lowest cross-entropy when a softmax came before it, ln(1 + (C - 1) / e).

    The scores are then at best (1, 0, 0, ...), and log-softmax of them is what is left.
    """
    return log(1.0 + (classes - 1.0) / e)


def double_softmax_classes(floor: float) -> float:
    """Return the number of classes, with fraction, whose `double_softmax_floor` is this; NaN for none."""
    return 1.0 + e * expm1(floor) if 0.0 < floor < 700.0 else float("nan")


def classes_at(loss: float, tolerance: float) -> int | None:
    """Return the number of classes C >= 2 whose ln C is within a relative tolerance of a loss, the nearest; None for none.

    From `MANY` classes on the neighbours lie closer together than that, and the number is a guess, but of the right size.
    """
    if not isfinite(loss) or not 0.5 < loss < log(MOST):
        return None
    classes = max(2, round(exp(loss)))
    return classes if abs(loss - log(classes)) <= tolerance * log(classes) else None


def known_classes(level: float, error: float) -> bool:
    """Return whether a level of many classes is known well enough to tell C from C + 1, whose logarithms lie 1 / C apart.

    `level`: in nats, less than a quarter of that from some ln C. `error`: its standard error, less than that.
    """
    if not isfinite(level) or not 0.5 < level < log(MOST):
        return False
    classes = round(exp(level))
    return max(abs(level - log(classes)), error) <= 0.25 / classes


class Floor(NamedTuple):
    """A floor that fits a softmax applied twice.

    `classes`: as the start tells. `bound`: the lowest loss possible. `above`: the level of the end over the bound, less 1.
    `share`: share of the points, counted from the end, within `near` of the bound. `lowest`: lowest point over the bound, less 1.
    `off_start`: relative distance of the first point from ln C.
    """

    classes: int
    bound: float
    above: float
    share: float
    lowest: float
    off_start: float


def double_softmax_fit(loss: FloatArray, smooth: FloatArray, near: float, tolerance: float) -> Floor | None:
    """Return how a loss fits between the bounds of a softmax applied twice; None when it does not.

    Such a loss begins at ln C: equal scores change little through the first softmax. It stays between the bound and the
    bound plus 1, point by point. `loss`, `smooth`: (n,) float64, finite, in order of steps; `near`: relative distance that
    counts as at the bound; `tolerance`: that of the start from ln C.
    """
    if loss.size < 6:
        return None
    classes = classes_at(float(loss[0]), tolerance)
    if classes is None or classes < 3:  # of two classes the range is 0.31 to 1.31: most losses lie in it
        return None
    bound = double_softmax_floor(classes)
    low, high = float(loss.min()), float(loss.max())
    slack = 0.01 * bound  # of the number of classes, where that is a guess
    if low < bound - slack or high > bound + 1.0 + slack:
        return None
    inside = smooth <= (1.0 + near) * bound
    share = float(inside[::-1].argmin()) / inside.size if not inside.all() else 1.0
    end = float(np.median(loss[-max(3, loss.size // 10) :]))
    off_start = abs(float(loss[0]) / log(classes) - 1.0)
    return Floor(classes, bound, end / bound - 1.0, share, low / bound - 1.0, off_start)


class Bounded(NamedTuple):
    """How a validation loss goes with its accuracy if softmax was applied twice: loss = bound + 1 - accuracy.

    `intercept`: median of loss + accuracy - 1, the bound. `spread`: largest distance from it. `classes`: those of the bound.
    `best`: highest accuracy. `range`: highest less lowest accuracy. `n`: evaluations.
    """

    intercept: float
    spread: float
    classes: float
    best: float
    range: float
    n: int


def bounded_by_accuracy(step: IntArray, loss: FloatArray, accuracy_step: IntArray, accuracy: FloatArray) -> Bounded | None:
    """Return how a loss goes with the accuracy of the same evaluations, accuracies 0 to 1; None for fewer than 3 of them.

    A model that is sure gives the true class 1 or 0; its loss is then the bound, or the bound plus 1. What counts is the later
    half of the gain in accuracy: early on a model is not sure of anything.
    """
    _, i, j = np.intersect1d(step, accuracy_step, return_indices=True)
    loss, accuracy = loss[i], accuracy[j]
    if loss.size < 3 or accuracy.min() < 0.0 or accuracy.max() > 1.0:
        return None
    base = (loss + accuracy - 1.0)[accuracy >= 0.5 * (accuracy.min() + accuracy.max())]
    intercept = float(np.median(base))
    best = float(accuracy.max())
    return Bounded(
        intercept,
        float(np.abs(base - intercept).max()),
        double_softmax_classes(intercept),
        best,
        best - float(accuracy.min()),
        int(loss.size),
    )


class Batch(NamedTuple):
    """A start that is a known level times the rows of a batch.

    `factor`: start over level, the batch size or one over it. `level`: the start of one row. `classes`: C where that is near ln
    C, 0 where it is near the variance of standardised targets.
    """

    factor: float
    level: float
    classes: int


def summed_start(initial: float, batch: int, tolerance: float) -> Batch | None:
    """Return the known level that a start is `batch` times, or a `batch`-th, of; None when it is of none.

    A start that is itself ln C of some number of classes in use, or the variance of standardised targets, is no sum.
    """
    if not isfinite(initial) or initial <= 0.0 or batch < 8:
        return None
    for factor in (float(batch), 1.0 / batch):
        level = initial / factor
        if factor > 1.0 and initial <= log(MOST):  # ln C of some vocabulary, as well
            continue
        if factor < 1.0 and initial >= 0.35:  # below ln 2 and any usual variance
            continue
        classes = classes_at(level, tolerance)
        if classes is not None:
            return Batch(factor, level, classes)
        if factor > 1.0 and abs(level - STANDARD_VARIANCE) <= 0.15 * STANDARD_VARIANCE:
            return Batch(factor, level, 0)
    return None


def bias_gradient(level: float, classes: int | None, batch: int) -> float:
    """Return the gradient norm of the last bias alone, at a loss level of a model whose output is the same for all rows.

    It is what chance leaves: each batch holds a little more of one class, or of large targets, than the whole. Cross-entropy of C
    balanced classes: the norm of shares of `batch` draws, sqrt((1 - 1 / C) / batch). Mean squared error, one output: the
    expected |2 times the mean of `batch` deviations|, 2 sqrt(2 level / (pi batch)).
    """
    if classes is not None:
        return sqrt((1.0 - 1.0 / classes) / batch)
    return 2.0 * sqrt(2.0 * level / (pi * batch))


class WrongAnswers(NamedTuple):
    """A loss over what its wrong answers cost at least, (1 - accuracy) ln 2. `most`: highest share of `n` evaluations."""

    most: float
    n: int


def wrong_answers(step: IntArray, loss: FloatArray, accuracy_step: IntArray, accuracy: FloatArray) -> WrongAnswers | None:
    """Return what share of the cost of its wrong answers a loss is; None where there are no two evaluations to tell it by.

    The class that is true has at most half of the probability where another one is answered, so that below 1 it is no mean over
    the rows. Only evaluations that both series have count, with accuracies, 0 to 1, of at most 0.9: rounding decides above.
    """
    _, i, j = np.intersect1d(step, accuracy_step, return_indices=True)
    value, right = loss[i], accuracy[j]
    keep = (right >= 0.0) & (right <= 0.9) & (value > 0.0)
    if keep.sum() < 2 or accuracy.max() > 1.0:
        return None
    share = value[keep] / ((1.0 - right[keep]) * log(2.0))
    return WrongAnswers(float(share.max()), share.size)


def first_over_next(loss: FloatArray) -> float:
    """Return the first value over the median of what follows after three hundredths of the points; NaN for fewer than 8."""
    if loss.size < 8:
        return float("nan")
    k = max(1, loss.size * 3 // 100)
    later = float(np.median(loss[k : 3 * k + 2]))
    return float(loss[0]) / later if later > 0.0 else float("nan")


class Equal(NamedTuple):
    """A start at which all scores are equal: the loss is ln C in every batch, whatever its labels are.

    `classes`, `level`: C and ln C. `noise`: largest relative distance from it. `points`, `share`: how long it lasts.
    """

    classes: int
    level: float
    noise: float
    points: int
    share: float


def equal_start(loss: FloatArray, even: float) -> Equal | None:
    """Return how long a loss stands at ln C from its first point on, within the relative distance `even`; None for not at all."""
    classes = classes_at(float(loss[0]), even) if loss.size else None
    if classes is None:
        return None
    level = log(classes)
    off = np.abs(loss - level) > even * level
    points = int(off.argmax()) if off.any() else loss.size
    return Equal(classes, level, float(np.abs(loss[:points] - level).max()) / level, points, points / loss.size)
