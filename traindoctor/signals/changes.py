"""Where a series changes: rebound from a floor, spikes, oscillation with its period, plateau."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.signals.robust import log_floored, running_median, spread, step_noise

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, IntArray

#: The loss of an exact fit in float32 wanders about 1e-13 of its initial value; below that nothing is a change.
EXACT_FIT = 1e-13


@dataclass(frozen=True, slots=True)
class Rebound:
    """A loss that reached a floor, stayed, and left it upwards.

    `quiet`: first step at which the floor was reached. `onset`: step at which the loss leaves it. `floor`: median loss in
    between. `decades`: log10 of the level at the end over the floor. `quiet_share`: length of the quiet stretch over all.
    `onset_index`, `quiet_index`: positions in the series.
    """

    quiet: int
    onset: int
    floor: float
    decades: float
    quiet_share: float
    quiet_index: int
    onset_index: int


def rebound(step: IntArray, value: FloatArray) -> Rebound | None:
    """Return the largest rebound of a positive series, or None when it has none (fewer than 12 points, or no rise).

    Works on log10 of the values, floored at `EXACT_FIT` of the first ones and smoothed by a running median of a
    sixtieth of the points. The end level is the 90th percentile over the last sixth (what unstable training returns
    to), the floor is the median between the first time within a factor 10 of the lowest smoothed value and the onset.
    The onset is the first step from which the smoothed loss stays above the floor by a sixth of the way up.

    `step` (n,) int64, `value` (n,) float64, finite.
    """
    n = value.size
    if n < 12:
        return None
    scale = float(np.median(np.abs(value[: max(1, n // 50)])))
    log = log_floored(value, max(scale, 1e-300) * EXACT_FIT)
    smooth = running_median(log, max(3, n // 60))
    end = float(np.quantile(smooth[-max(2, n // 6) :], 0.9))
    low = int(np.argmin(smooth[: max(1, n - max(2, n // 12))]))
    if end - smooth[low] < 0.3:
        return None
    quiet = int(np.argmax(smooth <= smooth[low] + min(1.0, 0.3 * (end - smooth[low]))))
    after = smooth[low:]
    way = smooth[low] + (end - smooth[low]) / 6.0
    rise = first_above(after, way, max(2, n // 100))
    if rise is None:
        return None
    onset = low + rise
    floor = float(np.median(smooth[quiet : onset + 1]))
    return Rebound(
        quiet=int(step[quiet]),
        onset=int(step[onset]),
        floor=10.0**floor,
        decades=end - floor,
        quiet_share=float(step[onset] - step[quiet]) / max(1, int(step[-1] - step[0])),
        quiet_index=quiet,
        onset_index=onset,
    )


def first_above(value: FloatArray, level: float, hold: int) -> int | None:
    """Return the first position from which `hold` points in a row are above `level`; None when there is none."""
    if value.size < hold:
        return None
    above = np.convolve(value > level, np.ones(hold), mode="valid") > hold - 0.5
    return int(np.argmax(above)) if above.any() else None


def spikes(value: FloatArray, threshold: float) -> IntArray:
    """Return the positions of points above the running median by `threshold` standard deviations of the local noise.

    The noise is the median absolute deviation of the residual, so that a few spikes do not raise it. Shift and positive
    scale leave the result alone. `value`: (n,) float64, finite.
    """
    if value.size == 0:
        return np.zeros(0, dtype=np.int64)
    residual = value - running_median(value, max(5, value.size // 20))
    noise = spread(residual)
    if not noise > 0.0:
        noise = float(np.mean(np.abs(residual))) or np.inf
    return np.flatnonzero(residual > threshold * noise)


def period(value: FloatArray) -> tuple[float, float]:
    """Return the period of the strongest oscillation, in points, and its share of the variance (0 to 1).

    The slow part, a running mean over an even third of the series, is taken away first (a median would follow a series that
    alternates); the share is the power in the peak's bin and its two neighbours. Fewer than 16 points, or a constant series,
    give (NaN, 0).
    """
    n = value.size
    if n < 16:
        return float("nan"), 0.0
    window = max(4, n // 3) // 2 * 2
    padded = np.pad(value, (window // 2, window - window // 2), mode="edge")
    total_of = np.cumsum(padded)
    rest = value - (total_of[window:] - total_of[:-window])[:n] / window
    rest = (rest - rest.mean()) * np.hanning(n)
    power = np.abs(np.fft.rfft(rest)) ** 2
    power[:2] = 0.0
    total = float(power.sum())
    if not total > 0.0:
        return float("nan"), 0.0
    peak = int(np.argmax(power))
    near = float(power[max(0, peak - 1) : peak + 2].sum())
    return n / peak, near / total


def relative_noise(value: FloatArray) -> float:
    """Return point-to-point noise over the level, both robust; NaN below three points."""
    level = float(np.median(np.abs(value))) if value.size else float("nan")
    return step_noise(value) / level if level > 0.0 else float("nan")
