"""Slow movement of a series in one direction: how steadily it goes, how far, since when, and whether it speeds up.

A series is cut into blocks of as many points, and each block speaks by its median: noise from point to point, and single
outliers, do not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, IntArray

#: Blocks that a series is cut into, where it has as many points.
BLOCKS = 12


class Drift(NamedTuple):
    """How a series moves over its blocks.

    `order`: Kendall's rank correlation of block and level, 1 for rising throughout, -1 for falling. `first`, `last`: levels of
    the first and of the last block. `pace`: movement over the last third of the blocks over that of the first third; above 1
    where it speeds up, NaN where it did not move at first. `n`: blocks.
    """

    order: float
    first: float
    last: float
    pace: float
    n: int

    @property
    def factor(self) -> float:
        """Last level over the first; NaN where they are not both above 0."""
        return self.last / self.first if self.first > 0.0 and self.last > 0.0 else float("nan")


def blocks(value: FloatArray, n: int = BLOCKS) -> FloatArray:
    """Return the medians of at most n blocks, in order; fewer blocks where there are fewer points."""
    parts = np.array_split(value, min(n, value.size)) if value.size else []
    return np.array([np.median(part) for part in parts], dtype=np.float64)


def drift(value: FloatArray, n: int = BLOCKS) -> Drift | None:
    """Return how a series moves, None for fewer than six finite points. `value`: (n,) float64, in order of steps."""
    value = value[np.isfinite(value)]
    if value.size < 6:
        return None
    level = blocks(value, n)
    i, j = np.triu_indices(level.size, k=1)
    order = float(np.mean(np.sign(level[j] - level[i])))
    third = max(1, level.size // 3)
    early, late = float(level[third] - level[0]), float(level[-1] - level[-1 - third])
    return Drift(order, float(level[0]), float(level[-1]), late / early if early else float("nan"), int(level.size))


class Overfit(NamedTuple):
    """A validation loss that falls, and then rises while training goes on.

    `best`: its lowest smoothed level, at `step`. `rise`: level of the end over it, less 1. `first`: the first level over the
    best, less 1: how much it fell. `order`: of the validation loss after its best, as in `Drift`; of its single evaluations
    where there are fewer than six. `trend`: their rank correlation with time in standard deviations of that of values without
    order. `n`: evaluations, `n_after`: those after the best. `share`: of the run that is after it. `noises`: the rise in
    standard deviations of the noise from one evaluation to the next. `train`: training loss of the end over that at the best
    step. `train_order`: of the training loss after it, as in `Drift`.
    """

    best: float
    step: int
    rise: float
    first: float
    order: float
    trend: float
    n: int
    n_after: int
    share: float
    noises: float
    train: float
    train_order: float


def overfit(step: IntArray, value: FloatArray, train_step: IntArray, train: FloatArray) -> Overfit | None:
    """Return how a validation loss turned, None for fewer than five evaluations, or when it is not above 0.

    `step`, `value` (n,): evaluations, finite, in order. `train_step`, `train` (k,): the training loss, likewise.
    """
    from traindoctor.signals.held_out import order as rank_correlation
    from traindoctor.signals.robust import running_median, step_noise

    if value.size < 5 or train.size < 6 or not np.all(value > 0.0):
        return None
    smooth = running_median(value, 3 if value.size < 30 else 5)
    at = int(smooth.argmin())
    best = float(smooth[at])
    end = float(np.median(value[-max(3, value.size // 8) :]))
    after = value[at:]
    turned, trained = drift(after), drift(train[train_step >= step[at]])
    ranks = rank_correlation(after)
    noise = step_noise(value)
    span = max(1, int(step[-1] - step[0]))
    then = train[np.abs(train_step - step[at]) <= span / 20]
    level = float(np.median(then)) if then.size else float("nan")
    return Overfit(
        best=best,
        step=int(step[at]),
        rise=end / best - 1.0,
        first=float(smooth[0]) / best - 1.0,
        order=turned.order if turned is not None else ranks,
        trend=ranks / _error_of_ranks(min(200, after.size)),
        n=int(value.size),
        n_after=int(value.size - at - 1),
        share=float(step[-1] - step[at]) / span,
        noises=(end - best) / noise if noise > 0.0 else float("inf"),
        train=float(np.median(train[-max(3, train.size // 20) :])) / level if level > 0.0 else float("nan"),
        train_order=trained.order if trained is not None else float("nan"),
    )


def _error_of_ranks(n: int) -> float:
    """Return the standard deviation of Kendall's rank correlation of n values without order (Kendall 1938)."""
    return float(np.sqrt(2.0 * (2 * n + 5) / (9.0 * n * (n - 1)))) if n > 1 else 1.0


class Rest(NamedTuple):
    """What a validation loss does while the learning rate is next to zero.

    `jump`: largest change from one evaluation to the next, over the level. `rate`: highest rate there over the peak. `quieter`:
    that jump over the median change before, while the rate was ten times higher or more; 1 for no quieter. `n`: changes seen.
    """

    jump: float
    rate: float
    quieter: float
    n: int


def at_rest(value: FloatArray, lr: FloatArray, share: float = 0.02) -> Rest | None:
    """Return how a validation loss moves where the rate is below a share of its peak.

    None where it never is, too shortly, or where the loss moves on in one direction. The same rows are evaluated each time,
    so that only the weights can move the loss, and they stand. `value`, `lr` (n,): evaluations in order, with the learning
    rate of each. An interval counts where the rate at both of its ends is low.
    """
    peak = float(lr.max()) if lr.size else 0.0
    if value.size < 6 or not peak > 0.0 or not np.all(value > 0.0):
        return None
    change = np.abs(np.diff(value)) / value[1:]
    top = np.maximum(lr[1:], lr[:-1]) / peak
    slow, fast = top <= share, top >= 10.0 * share
    if slow.sum() < 1 or fast.sum() < 3:
        return None
    signs = np.sign(np.diff(value)[slow])
    if slow.sum() >= 3 and abs(signs.sum()) == slow.sum():
        return None  # it goes one way: something still moves it
    jump, before = float(change[slow].max()), float(np.median(change[fast][-8:]))
    return Rest(jump, float(top[slow].max()), jump / before if before > 0.0 else float("nan"), int(slow.sum()))
