"""Training and held-out loss side by side: who is lower, from when on, and whether the held-out part was ever learned.

The training loss of one point is that of one batch, and over an epoch it belongs to weights half an epoch older than those
that are validated. Where the two are compared in favour of the held-out part, the training loss is therefore taken after the
evaluation; where in favour of training, before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.signals import robust

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, IntArray
    from traindoctor.signals.measurements import Measurements

#: Evaluations below which nothing is said of a course.
FEWEST = 4
#: Rows of a validation part below which each of them moves the accuracy by 2 % and more.
FEW_ROWS = 50


class HeldOut(NamedTuple):
    """The held-out loss against the training loss at each evaluation.

    `step` (n,), `value` (n,): of the held-out loss. `before`, `after` (n,): mean training loss since the evaluation before, and
    geometric mean until the next; NaN where none was logged. `start`: training loss before anything was learned: its first value,
    or the first held-out one where that is higher and the log has one value an epoch. `fresh`: whether that first value can be
    one of an untrained model: no mean over an epoch. `learned`: training loss at the first evaluation over the start.
    """

    step: IntArray
    value: FloatArray
    before: FloatArray
    after: FloatArray
    start: float
    fresh: bool
    learned: float

    @property
    def best(self) -> float:
        """Lowest held-out loss over the start."""
        return float(self.value.min()) / self.start

    @property
    def trained(self) -> float:
        """Training loss before the last evaluations over the start: median of the last third, at least two."""
        known = self.before[np.isfinite(self.before)]
        return float(np.median(known[-max(2, known.size // 3) :])) / self.start if known.size else float("nan")

    @property
    def gap(self) -> float:
        """Held-out less training loss at the end, over the start: median over the last third of the evaluations."""
        known = np.isfinite(self.before)
        rest = (self.value - self.before)[known]
        return float(np.median(rest[-max(1, rest.size // 3) :])) / self.start if rest.size else float("nan")

    @property
    def widens(self) -> float:
        """Kendall's rank correlation of held-out less training loss with time: 1 when the gap only grows; NaN below four."""
        known = np.isfinite(self.before)
        return order((self.value - self.before)[known])

    @property
    def trend(self) -> float:
        """Kendall's rank correlation of the held-out loss with time: -1 where it only falls; NaN below four."""
        return order(self.value)

    @property
    def below(self) -> FloatArray:
        """Held-out loss over the training loss that follows it, (n',): below 1 where validation does better."""
        known = np.isfinite(self.after) & (self.after > 0.0)
        return self.value[known] / self.after[known]

    @property
    def below_early(self) -> float:
        """Median of `below` over its first quarter, at least two."""
        return float(np.median(self.below[: max(2, self.below.size // 4)])) if self.below.size else float("nan")

    @property
    def below_late(self) -> float:
        """Median of `below` over its later half."""
        return float(np.median(self.below[self.below.size // 2 :])) if self.below.size else float("nan")


def held_out(m: Measurements) -> HeldOut | None:
    """Return the held-out loss of a run against its training loss; None with fewer than four evaluations, or a signed loss."""
    if not (m.has("loss") and m.has("val_loss")):
        return None
    loss, held = m.loss, m.series("val_loss")
    if held.n < FEWEST or loss.n < FEWEST or not (loss.is_positive and held.is_positive) or not loss.value[0] > 0.0:
        return None
    edges = np.searchsorted(loss.step, held.step, side="right")
    before = _means(loss.value, np.concatenate([[0], edges[:-1]]), edges)
    # in the middle of the logs: a spike would make any held-out loss look small
    with np.errstate(divide="ignore", invalid="ignore"):
        after = np.exp(_means(np.log(np.maximum(loss.value, 1e-300)), edges, np.append(edges[1:], loss.n)))
    start = float(loss.value[0])
    fresh = m.run.step_unit != "epoch" and loss.n >= 2 * held.n
    if m.run.step_unit == "epoch" and loss.stride <= 1.0:  # the mean over the first epoch has learned already
        start = max(start, float(held.value[0]))
    smooth = robust.running_median(loss.value, 3)
    learned = float(np.interp(held.step[0], loss.step, smooth)) / start
    return HeldOut(held.step, held.value, before, after, start, fresh, learned)


def order(value: FloatArray) -> float:
    """Return Kendall's rank correlation of at most 200 values with their place: 1 when they only rise; NaN below four."""
    if value.size < FEWEST:
        return float("nan")
    if value.size > 200:
        value = value[np.linspace(0, value.size - 1, 200).astype(np.int64)]
    i, j = np.triu_indices(value.size, k=1)
    return float(np.mean(np.sign(value[j] - value[i])))


class Accuracy(NamedTuple):
    """The course of a held-out accuracy as a share.

    `level`: median of the later half. `highest`: highest running median. `constant`: at how many of the last evaluations it is
    the same to the last bit, `since` the step of the first of them. `n`: evaluations. `rows`: fewest rows, at most 50, of which
    all accuracies are whole numbers right; 0 where none explains them, and the part is larger or its size not told.
    """

    level: float
    highest: float
    constant: int
    since: int
    n: int
    rows: int = 0

    def above(self, guess: float) -> float:
        """Return how far the highest accuracy is from that of a guess to 1: Cohen's kappa of answers drawn at random."""
        return (self.highest - guess) / (1.0 - guess) if guess < 1.0 else float("nan")

    def error(self, share: float) -> float:
        """Return the standard error of the accuracy that is expected to be `share`, 0 where the rows are not known."""
        return float(np.sqrt(share * (1.0 - share) / self.rows)) if self.rows and 0.0 <= share <= 1.0 else 0.0


def accuracy(m: Measurements, quantity: str = "val_accuracy") -> Accuracy | None:
    """Return the course of an accuracy; None where it was not logged four times. Percent are taken as such above 1."""
    if not m.has(quantity) or m.series(quantity).n < FEWEST:
        return None
    value, step = m.series(quantity).value, m.series(quantity).step
    if value.max() > 1.0:
        value = value / 100.0
    if value.min() < 0.0 or value.max() > 1.0:
        return None
    other = np.flatnonzero(value != value[-1])
    same = value.size - (int(other[-1]) + 1 if other.size else 0)
    highest = float(robust.running_median(value, 3).max())
    return Accuracy(
        float(np.median(value[value.size // 2 :])),
        highest,
        same,
        int(step[-same]),
        int(value.size),
        few_rows(value),
    )


def few_rows(value: FloatArray) -> int:
    """Return the fewest rows, at most `FEW_ROWS`, of which all shares are whole numbers; 0 where none explains them.

    `value`: (n,) shares from 0 to 1. Rounded to three digits or fewer they say nothing of the rows: 0.97 is 97 of 100, too.
    """
    value = np.unique(value)
    if value.size > FEW_ROWS + 1:
        return 0
    value = value[(value > 0.0) & (value < 1.0)]
    digits = next((d for d in (3, 4) if np.all(np.abs(value - np.round(value, d)) < 1e-7)), 6)
    if not value.size or digits == 3:
        return 0
    off = 0.6 * 10.0**-digits
    return next((n for n in range(2, FEW_ROWS + 1) if np.all(np.abs(value - np.round(n * value) / n) < off)), 0)


def also_improved(m: Measurements) -> float:
    """Return the largest fall of the other held-out losses of a run, over their start; 0 where none was logged, or fell.

    The parts of a held-out loss, of which the primary one may be that which was learned least. By thirds, so that one low
    evaluation does not count.
    """
    falls = [0.0]
    for series in m.run.series:
        value = series.finite().value
        if series.quantity == "val_loss_term" and value.size >= 6 and value[0] > 0.0:
            third = value.size // 3
            falls.append(1.0 - float(np.median(value[-third:])) / float(np.median(value[: max(1, third // 3)])))
    return max(falls)


def entropy_of_majority(share: float, classes: int | None = 2) -> float:
    """Return the entropy, in nats, of labels of which one class has this share and the others the rest, evenly.

    With two classes it is the least that a constant answer can cost, with all there are the most that one who knows the shares
    pays. NaN outside 0 to 1; infinite where the number of classes is not known (None).
    """
    if not 0.0 < share < 1.0:
        return float("nan")
    if classes is None:
        return float("inf")
    rest = 1.0 - share
    return float(-share * np.log(share) - rest * np.log(rest / max(1, classes - 1)))


def _means(value: FloatArray, first: IntArray, stop: IntArray) -> FloatArray:
    """Return the mean of each stretch of values, NaN for an empty one."""
    total = np.concatenate([[0.0], np.cumsum(value)])
    count = stop - first
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(count > 0, (total[stop] - total[first]) / count, np.nan)
