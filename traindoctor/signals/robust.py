"""Robust statistics of a series: levels, noise, correlation. One outlier never decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray

#: Scales the median absolute deviation to the standard deviation of a normal distribution.
MAD_TO_SIGMA = 1.4826
#: Length above which the running median is left to SciPy's C filter, whose import costs as much as a short series.
LONG_SERIES = 20_000


def running_median(value: FloatArray, window: int) -> FloatArray:
    """Return the median over `window` points around each point, (n,) float64; the ends repeat their last value.

    `value`: (n,) float64, finite. `window`: made odd, at most n. Empty input gives empty output.
    """
    window = min(window, value.size) // 2 * 2 + 1
    if window <= 1 or value.size < 3:
        return value.astype(np.float64, copy=True)
    if value.size > LONG_SERIES:
        from scipy.ndimage import median_filter

        return np.asarray(median_filter(value, size=window, mode="nearest"), dtype=np.float64)
    padded = np.pad(value, window // 2, mode="edge")
    return np.asarray(np.median(np.lib.stride_tricks.sliding_window_view(padded, window), axis=1))


def spread(value: FloatArray) -> float:
    """Return the standard deviation by the median absolute deviation; NaN for empty input, 0 for one point."""
    if value.size == 0:
        return float("nan")
    return MAD_TO_SIGMA * float(np.median(np.abs(value - np.median(value))))


def step_noise(value: FloatArray) -> float:
    """Return the standard deviation of the point-to-point noise, from second differences, so that a trend is no noise.

    White noise of standard deviation s gives s. Fewer than three points give NaN.
    """
    if value.size < 3:
        return float("nan")
    return float(spread(np.diff(value, n=2)) / np.sqrt(6.0))


def autocorrelation(value: FloatArray, lag: int) -> float:
    """Return the autocorrelation at `lag` points: 1 for a smooth series, 0 for white noise; NaN when undefined.

    The mean over the whole series is removed, a trend is not: a series that moves slowly is smooth, wherever it goes.
    """
    if value.size <= lag + 1:
        return float("nan")
    return correlation(value[lag:], value[:-lag])


def correlation(a: FloatArray, b: FloatArray) -> float:
    """Return Pearson's correlation of two series of one length; NaN when either is constant or shorter than 3."""
    if a.size < 3:
        return float("nan")
    da, db = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((da @ da) * (db @ db)))
    return float(da @ db) / norm if norm > 0.0 and np.isfinite(norm) else float("nan")


def slope(x: FloatArray, y: FloatArray) -> float:
    """Return the slope of y over x by Theil and Sen on at most 200 points: the median over all pairs; NaN below 2 points.

    Source: Sen 1968, J. Am. Stat. Assoc. 63, 1379.
    """
    if x.size < 2:
        return float("nan")
    if x.size > 200:
        pick = np.linspace(0, x.size - 1, 200).astype(np.int64)
        x, y = x[pick], y[pick]
    i, j = np.triu_indices(x.size, k=1)
    run = x[j] - x[i]
    keep = run != 0
    return float(np.median((y[j] - y[i])[keep] / run[keep])) if keep.any() else float("nan")


def log_floored(value: FloatArray, floor: float) -> FloatArray:
    """Return log10 of the values, held at `floor` from below: zero and negative values are the floor."""
    return np.asarray(np.log10(np.maximum(value, floor)))
