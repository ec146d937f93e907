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


class HeldOut(NamedTuple):
    """The held-out loss against the training loss at each evaluation.

    `step` (n,), `value` (n,): of the held-out loss. `before`, `after` (n,): mean training loss since the evaluation before, and
    geometric mean until the next; NaN where none was logged. `start`: training loss before anything was learned: its first value,
    or the first held-out one where that is higher and the log has one value an epoch.
    """

    step: IntArray
    value: FloatArray
    before: FloatArray
    after: FloatArray
    start: float

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
    if m.run.step_unit == "epoch" and loss.stride <= 1.0:  # the mean over the first epoch has learned already
        start = max(start, float(held.value[0]))
    return HeldOut(held.step, held.value, before, after, start)


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
    the same to the last bit, `since` the step of the first of them. `n`: evaluations.
    """

    level: float
    highest: float
    constant: int
    since: int
    n: int


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
    )


def entropy_of_majority(share: float) -> float:
    """Return the entropy, in nats, of labels of which one class has this share and one other the rest; NaN outside 0 to 1.

    It is the least that a constant answer can cost: more classes among the rest cost more.
    """
    if not 0.0 < share < 1.0:
        return float("nan")
    return float(-share * np.log(share) - (1.0 - share) * np.log(1.0 - share))


def _means(value: FloatArray, first: IntArray, stop: IntArray) -> FloatArray:
    """Return the mean of each stretch of values, NaN for an empty one."""
    total = np.concatenate([[0.0], np.cumsum(value)])
    count = stop - first
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(count > 0, (total[stop] - total[first]) / count, np.nan)
