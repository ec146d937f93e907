"""Where two curves part beyond the noise: the good run's own scatter, how fast it moves, and how far further good runs lie apart.

What two seeds of one recipe do differently is not in one log. Three things stand for it: the scatter of the points around the
running median, a stretch of time (a seed reaches a level somewhat sooner or later), and a share of the level. Further good runs
replace the guess where they lie further apart than that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.signals.changes import EXACT_FIT
from traindoctor.signals.robust import MAD_TO_SIGMA, running_median

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.model import FloatArray, IntArray

#: Points at which curves are compared at most; a longer log is taken as medians of its stretches.
MOST_POINTS = 600
#: Fewer common points than this tell no noise from a difference.
FEWEST_POINTS = 4
#: The first of so many parts of the log is its start.
EARLY = 50
#: Share of the points that a difference has to last, and points at least.
LASTING, LASTING_POINTS = 1 / 20, 3


class Allowance(NamedTuple):
    """What two sound runs of one recipe may differ by.

    `stretch`: share of the steps by which one may be ahead. `level`: share of the level. `noises`: standard deviations of the
    point-to-point noise. How they were set: docs/compare.md.
    """

    stretch: float
    level: float
    noises: float


#: A schedule has no seed: one point of the log either way, and the last digit that a log keeps.
EXACT = Allowance(0.0, 0.01, 0.0)


class Curve(NamedTuple):
    """A series to compare: `step` (n,) int64 ascending, `value` (n,) float64, NaN and infinities included."""

    step: IntArray
    value: FloatArray


class Parting(NamedTuple):
    """The first step from which a curve lies beyond what noise explains, and how far.

    `step`: first compared step that lies outside and is followed by others that do. `since`: the last one before it at which
    the curves were together, within half of the noise; None when they are apart from their first points on. `good`, `bad`:
    levels at `step`; `low`, `high`: what the noise allows there. `n_points`: how many points were compared. `lost`: whether
    the curve stopped being finite there, which no level tells. `until`: the first step at which the curves are together again
    for good, None when they stay apart.
    """

    step: int
    since: int | None
    good: float
    bad: float
    low: float
    high: float
    n_points: int
    lost: bool = False
    until: int | None = None


class Together(NamedTuple):
    """Curves that do not part. `n_points`: how many were compared, over the steps `start` to `stop`."""

    start: int
    stop: int
    n_points: int


def parting(good: Sequence[Curve], bad: Curve, allowance: Allowance) -> Parting | Together | None:
    """Return where `bad` leaves the band that the good curves span, or that it does not; None when too little is common.

    Curves are compared over the steps that all of them cover, at the points of the one that was logged most sparsely.
    """
    curves = [*good, bad]
    finite = [Curve(c.step[np.isfinite(c.value)], c.value[np.isfinite(c.value)]) for c in curves]
    lost = _first_loss(good, bad)
    if any(c.step.size == 0 for c in finite):
        return _lost_at(lost, finite[0], 0) if lost is not None and all(c.step.size for c in finite[:-1]) else None
    start, stop = max(int(c.step[0]) for c in finite), min(int(c.step[-1]) for c in finite)
    grid = _grid(finite, start, stop)
    if grid.size < FEWEST_POINTS:
        return _lost_at(lost, finite[0], grid.size) if lost is not None else None
    found = _parting(finite[:-1], finite[-1], grid, allowance)
    if lost is not None and (found is None or lost <= found.step):
        return _lost_at(lost, finite[0], grid.size)
    return found or Together(start, stop, int(grid.size))


def _first_loss(good: Sequence[Curve], bad: Curve) -> int | None:
    """Return the first step at which the bad curve is not finite and no good one has lost its value by then."""
    gone = bad.step[~np.isfinite(bad.value)]
    if not gone.size or any(not np.isfinite(c.value[c.step <= gone[0]]).all() for c in good):
        return None
    return int(gone[0])


def _lost_at(step: int, good: Curve, n_points: int) -> Parting:
    before = good.step[good.step < step]
    at = min(int(np.searchsorted(good.step, step)), good.step.size - 1)
    level = float(good.value[at])
    return Parting(step, int(before[-1]) if before.size else None, level, float("nan"), level, level, n_points, lost=True)


def _grid(curves: Sequence[Curve], start: int, stop: int) -> IntArray:
    """Return the steps at which to compare: those of the curve with the fewest points between start and stop."""
    inside = [np.unique(c.step[(c.step >= start) & (c.step <= stop)]) for c in curves]
    coarse = min(inside, key=lambda steps: steps.size)
    if coarse.size <= MOST_POINTS:
        return coarse
    return coarse[np.unique(np.linspace(0, coarse.size - 1, MOST_POINTS).astype(np.int64))]


def _on(curve: Curve, grid: IntArray) -> FloatArray:
    """Return the curve on the grid: the median of what was logged since the grid's last point, else between its neighbours."""
    value = np.interp(grid, curve.step, curve.value)
    edge = np.searchsorted(curve.step, grid, side="right")
    for i in np.flatnonzero(np.diff(edge, prepend=edge[0] - 1) > 1):
        value[i] = np.median(curve.value[edge[i - 1] : edge[i]])
    return value


def _parting(good: Sequence[Curve], bad: Curve, grid: IntArray, allowance: Allowance) -> Parting | None:
    values = [_on(c, grid) for c in (*good, bad)]
    everything = np.concatenate(values)
    logarithmic = bool(np.mean(everything > 0.0) >= 0.95)
    floor = max(float(np.max(values[0])), 1e-300) * EXACT_FIT
    scale = 1.0 if logarithmic else max(float(np.median(np.abs(everything))), 1e-300)
    shown = [np.log(np.maximum(v, floor)) if logarithmic else v / scale for v in values]
    window = max(3, grid.size // 40) if allowance.noises else 1
    smooth = [running_median(v, window) for v in shown]
    noise = [_local_noise(v, s) for v, s in zip(shown, smooth, strict=True)]
    low, high = _band(smooth[:-1], grid, allowance)
    scatter = np.sqrt(np.max(np.square(noise[:-1]), axis=0) + np.square(noise[-1]) / window)
    margin = np.log1p(allowance.level) + allowance.noises * scatter + _apart(smooth[:-1])
    near = (smooth[-1] >= low - margin / 2) & (smooth[-1] <= high + margin / 2)
    low, high = low - margin, high + margin
    outside = (smooth[-1] < low) | (smooth[-1] > high)
    hold = max(LASTING_POINTS if grid.size >= 12 else 2, int(LASTING * grid.size))
    first = _first_lasting(outside, hold)
    if first is None:
        return None
    together = np.flatnonzero(near[:first])
    inside_again = np.flatnonzero(outside)[-1] + 1
    back = grid.size - inside_again >= hold
    raw = np.exp if logarithmic else lambda v: v * scale

    def level(v: FloatArray) -> float:
        return float(raw(v[first]))

    return Parting(
        int(grid[first]),
        int(grid[together[-1]]) if together.size and together[-1] >= grid.size // EARLY else None,
        level(np.median(np.asarray(smooth[:-1]), axis=0)),
        level(smooth[-1]),
        level(low),
        level(high),
        int(grid.size),
        until=int(grid[inside_again]) if back else None,
    )


def _first_lasting(outside: FloatArray, hold: int) -> int | None:
    """Return the first position from which `hold` points in a row are outside."""
    if outside.size < hold:
        return None
    runs = np.convolve(outside.astype(np.int64), np.ones(hold, dtype=np.int64), mode="valid") == hold
    return int(np.argmax(runs)) if runs.any() else None


def _local_noise(value: FloatArray, smooth: FloatArray) -> FloatArray:
    """Return the standard deviation of the points around the running median, (n,), as it is around each point."""
    residual = np.abs(value - smooth)
    around = running_median(residual, max(9, value.size // 8))
    return MAD_TO_SIGMA * np.maximum(around, 0.5 * float(np.median(residual)))


def _band(smooth: Sequence[FloatArray], grid: IntArray, allowance: Allowance) -> tuple[FloatArray, FloatArray]:
    """Return the lowest and the highest that a good curve is within the stretch of time around each step."""
    origin = float(grid[0])
    first = np.searchsorted(grid, origin + (grid - origin) / (1.0 + allowance.stretch)) - 1
    last = np.searchsorted(grid, origin + (grid - origin) * (1.0 + allowance.stretch), side="right")
    spans = [slice(max(0, a), max(b, i + 2)) for i, (a, b) in enumerate(zip(first, last, strict=True))]
    low = np.min([[s[span].min() for span in spans] for s in smooth], axis=0)
    high = np.max([[s[span].max() for span in spans] for s in smooth], axis=0)
    return low, high


def _apart(smooth: Sequence[FloatArray]) -> FloatArray:
    """Return how far the good curves lie apart, (n,): the typical distance of two of them around each step; 0 for one."""
    if len(smooth) < 2:
        return np.zeros(smooth[0].size)
    distance = np.median([np.abs(a - b) for i, a in enumerate(smooth) for b in smooth[:i]], axis=0)
    return running_median(distance, max(9, distance.size // 8))
