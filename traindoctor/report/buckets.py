"""A long series as some hundred buckets: lowest, median and highest of each, with nothing left out of the range."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, IntArray


#: A log with more stretches than this has no order worth keeping; it is drawn sorted by step.
MOST_STRETCHES = 100
#: More marks than this cannot be told apart on a page.
MOST_MARKS = 400


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Buckets that a line may join: no step back, no large gap and no bucket without a finite value between them.

    All (n,): `step` the middle of each bucket, float64; `low`, `middle`, `high` the lowest, the median and the highest
    finite value in it.
    """

    step: FloatArray
    low: FloatArray
    middle: FloatArray
    high: FloatArray


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of values that no line can show: `kind` is "NaN", "Inf", "−Inf"; first and last step, and how many."""

    kind: str
    first: int
    last: int
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """A series made ready to be drawn; `width` values went into each bucket."""

    stretches: tuple[Stretch, ...]
    marks: tuple[Mark, ...]
    width: int


def bucket(step: IntArray, value: FloatArray, n_buckets: int = 600) -> Buckets:
    """Return the series in at most about `n_buckets` buckets of equally many values.

    `step`, `value`: (n,). A series with fewer values than buckets comes back as it is. Values that are not finite
    become marks, with neighbours of one kind merged; an empty series gives no stretch. A step back (a resumed run)
    and a gap of more than ten usual distances and a hundredth of the range start a new stretch.
    """
    n = int(value.size)
    if n == 0:
        return Buckets((), (), 1)
    width = max(1, -(-n // n_buckets))
    breaks = _breaks(step)
    if len(breaks) > MOST_STRETCHES:
        order = np.argsort(step, kind="stable")
        step, value, breaks = step[order], value[order], []
    edges = [0, *breaks, n]
    stretches: list[Stretch] = []
    for start, stop in pairwise(edges):
        stretches += _stretches(step[start:stop], value[start:stop], width)
    return Buckets(tuple(stretches), _marks(step, value, n_buckets), width)


def _breaks(step: IntArray) -> list[int]:
    """Return the indices at which a new stretch begins."""
    if step.size < 2:
        return []
    distance = np.diff(step)
    forward = distance[distance > 0]
    usual = float(np.median(forward)) if forward.size else 1.0
    span = float(step.max() - step.min())
    return [int(i) + 1 for i in np.flatnonzero((distance < 0) | (distance > max(10 * usual, 0.01 * span)))]


def _stretches(step: IntArray, value: FloatArray, width: int) -> list[Stretch]:
    n_rows = -(-value.size // width)
    padded = np.full(n_rows * width, np.nan)
    padded[: value.size] = np.where(np.isfinite(value), value, np.nan)
    table = padded.reshape(n_rows, width)
    filled = np.isfinite(table)
    some = filled.any(axis=1)
    low = np.where(filled, table, np.inf).min(axis=1)
    high = np.where(filled, table, -np.inf).max(axis=1)
    middle = np.full(n_rows, np.nan)
    whole = filled.all(axis=1)
    if whole.any():
        middle[whole] = np.median(table[whole], axis=1)
    for row in np.flatnonzero(some & ~whole):
        middle[row] = np.median(table[row][filled[row]])
    first = np.arange(n_rows) * width
    last = np.minimum(first + width, value.size) - 1
    centre = (step[first].astype(np.float64) + step[last]) / 2
    made = []
    edges = np.flatnonzero(np.diff(np.concatenate(([False], some, [False])).astype(np.int8)))
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        made.append(Stretch(centre[start:stop], low[start:stop], middle[start:stop], high[start:stop]))
    return made


def _marks(step: IntArray, value: FloatArray, n_buckets: int) -> tuple[Mark, ...]:
    bad = np.flatnonzero(~np.isfinite(value))
    if bad.size == 0:
        return ()
    span = float(step.max() - step.min())
    near = max(1.0, span / n_buckets, 1.5 * span / max(1, step.size - 1))
    where = step[bad]
    kind = np.where(np.isnan(value[bad]), 0, np.where(value[bad] > 0, 1, 2))
    distance = np.diff(where)
    starts = np.concatenate(([0], np.flatnonzero((np.diff(kind) != 0) | (distance < 0) | (distance > near)) + 1))
    stops = np.append(starts[1:], bad.size)
    names = ("NaN", "Inf", "−Inf")
    return tuple(
        Mark(names[int(kind[a])], int(where[a]), int(where[b - 1]), int(b - a))
        for a, b in zip(starts[:MOST_MARKS], stops[:MOST_MARKS], strict=True)
    )
