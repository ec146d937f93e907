"""Histograms as TensorBoard logs them -> count, sums and quantiles of each, by tag.

`HistogramProto` (torch, TensorFlow 1) keeps sums, minimum and maximum beside its buckets; TensorFlow 2 logs a tensor of
left edge, right edge and count for each bucket, and no sums.

Source: tensorboard/compat/proto/summary.proto; tensorboard/plugins/histogram/summary_v2.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import QUANTILES, Histogram
from traindoctor.readers.wire import parse_buckets, parse_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.model import FloatArray

NAN = float("nan")


def of_proto(data: bytes) -> tuple[float, ...]:
    """Return count, sum, sum of squares and the `QUANTILES` of a HistogramProto.

    Raises: WireError when it does not parse.
    """
    held = parse_buckets(data)
    limit = np.clip(held.limit, held.low, held.high) if held.low <= held.high else held.limit
    left = np.concatenate(([held.low], limit[:-1]))[: limit.size]
    quantiles = _quantiles(left, limit, held.count)
    if quantiles[0] == quantiles[0]:
        quantiles[0], quantiles[-1] = held.low, held.high
    return (held.number, held.total, held.sum_squares, *quantiles)


def of_tensor(data: bytes) -> tuple[float, ...] | None:
    """Return the same of a tensor of buckets, (k, 3); None for every other tensor. The sums are NaN.

    Raises: WireError when it does not parse.
    """
    buckets = parse_matrix(data, 3)
    if buckets is None:
        return None
    left, right, count = buckets.T
    return (float(count.sum()), NAN, NAN, *_quantiles(left, right, count))


def _quantiles(left: FloatArray, right: FloatArray, count: FloatArray) -> list[float]:
    """Return the quantiles of buckets, by linear interpolation within each; NaN where nothing was counted."""
    some = count > 0
    left, right, count = left[some], right[some], count[some]
    up_to = np.cumsum(count)
    if not up_to.size or not np.isfinite(up_to[-1]):
        return [NAN] * len(QUANTILES)
    target = np.array(QUANTILES) * up_to[-1]
    bucket = np.minimum(np.searchsorted(up_to, target), up_to.size - 1)
    with np.errstate(all="ignore"):  # edges that are infinite give what they give
        share = (target - (up_to[bucket] - count[bucket])) / count[bucket]
        found: list[float] = (left[bucket] + share * (right[bucket] - left[bucket])).tolist()
    return found


def histogram_of(tag: str, rows: Sequence[tuple[float, ...]], file: str) -> Histogram:
    """Return the histograms of a tag. `rows`: step, wall time, and what `of_proto` returns, of each."""
    step = np.array([row[0] for row in rows], dtype=np.int64)
    rest = np.array([row[1:] for row in rows], dtype=np.float64)
    wall, count, total, squares = (np.ascontiguousarray(rest[:, k]) for k in range(4))
    return Histogram(tag, step, wall, count, total, squares, np.ascontiguousarray(rest[:, 4:]), file)
