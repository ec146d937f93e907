"""Where a process began again, and what the loss did there: a jump, a fall to what is known by heart, a sequence once more.

A boundary is marked by a second file, by steps that go back, or by a pause in the times of the log. Without a mark there is
only a rise that comes at once, which `sudden_rise` describes: it looks the same, and proves nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from traindoctor.signals.robust import MAD_TO_SIGMA, correlation, running_median, spread

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, Run, Series
    from traindoctor.signals.measurements import SeriesMeasurements

#: A pause is no validation and no slow batch: this many times the usual distance of two values, and rare.
PAUSE, RARE, MOST = 20.0, 0.05, 20
#: Points before a boundary that say what is usual there, at least and at most.
FEWEST, SEEN = 6, 400
#: Points before a boundary whose median is the level there, and numbers of points behind it whose mean is tried.
BACK, LENGTHS = 12, (1, 2, 4, 8, 16, 32, 64)
#: Points behind a boundary of which the highest is tried: a jump of a single step.
AT_ONCE = 4
#: Levels this far below the first loss are rounding: 1e-10 of it.
FLOOR = 1e-10
#: Points of a sequence that is looked for again, at least and at most.
SEQUENCE, LONGEST = 24, 256
_RANK = re.compile(r"^(.*) \(rank (\d+)\)$")


class Boundary(NamedTuple):
    """The first step of a resumed process. `mark`: how the log shows it; `text`: the same in words."""

    step: int
    mark: Literal["restart", "pause"]
    text: str


class Jump(NamedTuple):
    """What a positive series did at a step, against what it does at other steps.

    `before`: its level before the step. `first`: its first value from the step on. `peak`: the highest of the points that are
    looked at from there on, at `peak_step`. `ratio`: peak over before. `mean`: the mean of those points, or the highest of the
    first four, over the level before, on a log scale; whichever stands out most. `z`: `mean` in standard deviations of the same
    figure at all steps before. `usual`: the largest `mean` at those. `lasting`: points from the step on that stay above the level
    before times the square root of `ratio`, without a break. `late`: the level at the end, or before the next boundary.
    """

    step: int
    before: float
    first: float
    peak: float
    peak_step: int
    ratio: float
    mean: float
    z: float
    usual: float
    lasting: int
    late: float


class Repetition(NamedTuple):
    """A stretch of a series that comes again: from `start` on what was logged from `earlier` on.

    `correlation`: of the two stretches, each without its slow part. `chance`: the correlation that the best of all places
    reaches by chance, four standard deviations above it. `before`: the correlation at the same distance before the boundary,
    NaN where there are too few points: near the other one where the data never change their order. `n`: points.
    """

    start: int
    earlier: int
    correlation: float
    chance: float
    before: float
    n: int


class Drift(NamedTuple):
    """How far two processes of one run are apart in a quantity that they share: relative differences.

    `first`: at the first common step; `last`: median over the last tenth; `step`: first common step at which they differ by
    more than a thousandth and never less again, None when there is none. `n`: common steps.
    """

    tag: str
    rank: int
    first: float
    last: float
    step: int | None
    n: int


# -- where ------------------------------------------------------------------------------------------------------------


def boundaries(run: Run) -> tuple[Boundary, ...]:
    """Return where processes of a run began again, in the order of steps; those at the first step are none."""
    loss = run.primary.get("loss")
    found = {step: Boundary(step, "restart", _words(run, step)) for step in run.restarts if step > 0}
    if loss is not None:
        stride = float(np.median(np.abs(np.diff(loss.step)))) if len(loss) > 1 else 1.0
        for step, pause in pauses(loss):
            if not any(abs(step - known) <= 2.0 * stride for known in found):
                found[step] = Boundary(step, "pause", f"{pause:,.0f} s pass before {run.step_unit} {step:,} is logged")
    return tuple(found[step] for step in sorted(found))


def _words(run: Run, step: int) -> str:
    """Return what the stitching says of a restart."""
    return next((s.detail for s in run.stitches if s.step == step), f"the process began again at {run.step_unit} {step:,}")


def pauses(series: Series) -> list[tuple[int, float]]:
    """Return the steps before which a log was silent for long, and for how many seconds; none without times."""
    wall = series.wall_time
    if wall.size < FEWEST + 2 or not np.isfinite(wall).all():
        return []
    gap = np.diff(wall)
    usual = float(np.median(gap))
    long = np.flatnonzero(gap > PAUSE * usual)
    if usual <= 0.0 or not long.size or long.size > min(MOST, max(3.0, RARE * gap.size)):
        return []
    rest = np.delete(gap, long)
    if gap[long].min() < 5.0 * float(rest.max()):  # a distribution with a long tail, and no pauses
        return []
    return [(int(series.step[k + 1]), float(gap[k])) for k in long]


# -- what the loss did there ------------------------------------------------------------------------------------------


def jump_at(series: SeriesMeasurements, step: int, reach: float, until: int | None = None) -> Jump | None:
    """Return what a positive series did from a step on, None where too little was logged around it, or it is not positive.

    `reach`: steps within which a rise counts as one of this step (the memory of an optimizer). `until`: the next boundary.
    """
    if not series.is_positive or series.n < FEWEST + 3:
        return None
    at = int(np.searchsorted(series.step, step))
    stop = series.n if until is None else int(np.searchsorted(series.step, until))
    within = int(np.searchsorted(series.step, step + reach, side="right")) - at
    most = min(within, stop - at)
    if at < FEWEST or most < 2:
        return None
    log = _log(series)
    start = max(0, at - SEEN)
    back = int(np.clip((at - start) // 2, 3, BACK))
    before = float(np.median(log[at - back : at]))
    best = (-np.inf, 0.0, 0.0, 1)
    for k, highest in (*((k, False) for k in LENGTHS), (AT_ONCE, True)):
        if k > most:
            continue
        ahead = log[at : at + k]
        elsewhere = _rises(log[start:at], k, back, highest=highest)
        here = float(ahead.max() if highest else ahead.mean()) - before
        if elsewhere.size < 3:
            continue
        middle = float(np.median(elsewhere))
        # a steep descent spreads the lower side alone, and says nothing of rises
        noise = max(spread(elsewhere[elsewhere >= middle]), (float(np.quantile(elsewhere, 0.95)) - middle) / 1.645, 1e-3)
        z = (here - middle) / noise
        if z > best[0]:
            best = (z, here, float(elsewhere.max()), k)
    z, mean, usual, k = best
    if not np.isfinite(z):
        return None
    seen = log[at : at + max(k, 2)]
    rise = float(seen.max()) - before
    below = np.flatnonzero(log[at:stop] <= before + 0.5 * rise)
    ramp = int(np.argmax(seen))
    below = below[below > ramp]
    return Jump(
        step=int(series.step[at]),
        before=float(np.exp(before)),
        first=float(series.value[at]),
        peak=float(np.exp(seen.max())),
        peak_step=int(series.step[at + ramp]),
        ratio=float(np.exp(rise)),
        mean=mean,
        z=z,
        usual=usual,
        lasting=int(below[0]) - ramp if below.size else stop - at - ramp,
        late=float(np.exp(np.median(log[max(at + 1, stop - max(3, (stop - at) // 5)) : stop]))),
    )


def _log(series: SeriesMeasurements) -> FloatArray:
    """Return the logarithm of a positive series, held at its floor."""
    return np.asarray(np.log(np.maximum(series.value, FLOOR * max(abs(series.initial), 1e-290))))


def _rises(log: FloatArray, k: int, back: int, *, highest: bool) -> FloatArray:
    """Return at each place of a stretch the mean, or the highest, of the next `k` points over the median of `back` before it."""
    if log.size < back + k:
        return np.zeros(0)
    windows = np.lib.stride_tricks.sliding_window_view(log, k)  # of the points i .. i + k - 1
    ahead = windows.max(axis=1) if highest else windows.mean(axis=1)
    level = np.median(np.lib.stride_tricks.sliding_window_view(log, back), axis=1)  # of the points i .. i + back - 1
    n = min(level.size, ahead.size - back)
    return np.asarray(ahead[back : back + n] - level[:n])


def sudden_rise(series: SeriesMeasurements, reach: float) -> tuple[Jump, float] | None:
    """Return the place where a positive series goes up at once and stays up, and how far, as a ratio; None without one.

    How far: the lowest of the three points from there on over the highest of the six before. It is one where it doubles the
    level at least, at one place alone. A log without marks shows a restart no otherwise.
    """
    if not series.is_positive or series.n < 24:
        return None
    windows = np.lib.stride_tricks.sliding_window_view
    log = _log(series)
    low, high = windows(log, 3).min(axis=1), windows(log, 6).max(axis=1)
    gap = low[6:] - high[: low.size - 6]  # at the points 6, 7, ...
    gap[: max(0, series.n // 5 - 6)] = -np.inf
    at = int(np.argmax(gap))
    others = np.delete(gap, slice(max(0, at - 6), at + 7))
    if gap[at] < np.log(2.0) or (others.size and others.max() > 0.3 * gap[at]):
        return None
    jump = jump_at(series, int(series.step[at + 6]), reach)
    return None if jump is None else (jump, float(np.exp(gap[at])))


# -- the same data again ----------------------------------------------------------------------------------------------


def repetition(series: SeriesMeasurements, step: int, until: int | None = None, first: int | None = None) -> Repetition | None:
    """Return the earlier stretch of a positive series that its points from `step` on resemble most; None when too short.

    Of stretches that resemble them alike the latest counts. `until`: the next boundary. `first`: the first boundary of all, up
    to which no restart repeated anything.

    Each batch has a difficulty of its own, so that the same batches in the same order leave the same pattern around the slow
    part of the loss. Only where steps are as dense after the boundary as before can the two be laid on each other.
    """
    if not series.is_positive or series.n < 2 * SEQUENCE:
        return None
    at = int(np.searchsorted(series.step, step))
    stop = series.n if until is None else int(np.searchsorted(series.step, until))
    n = min(stop - at, at, LONGEST)
    if n < SEQUENCE:
        return None
    log = _log(series)
    residual = _without_slow_part(log[: at + n], at)
    wanted = _standardised(residual[at : at + n])
    if wanted is None:
        return None
    known = residual[:at]
    likeness = _likeness(known, wanted)
    place = int(np.flatnonzero(likeness >= 0.9 * likeness.max())[-1]) if likeness.max() > 0.0 else 0
    lag = at - place
    by_chance = float(
        np.tanh((np.sqrt(2.0 * np.log(max(2.0, likeness.size))) + 4.0) / np.sqrt(n - 3.0))
    )  # Fisher's transformation
    known = known if first is None else known[: int(np.searchsorted(series.step, first))]
    before = correlation(known[lag:], known[:-lag]) if known.size - lag >= SEQUENCE else float("nan")
    return Repetition(int(series.step[at]), int(series.step[place]), float(likeness[place]), by_chance, before, n)


def _likeness(known: FloatArray, wanted: FloatArray) -> FloatArray:
    """Return the correlation of a standardised piece with every stretch of its length, (known - wanted + 1,)."""
    n = wanted.size
    sums = [np.concatenate([[0.0], np.cumsum(known**power)]) for power in (1, 2)]
    mean, square = ((s[n:] - s[:-n]) / n for s in sums)
    deviation = np.sqrt(np.maximum(square - mean**2, 0.0))
    flat = deviation <= 1e-6 * float(np.abs(known).max(initial=0.0))
    likeness = np.zeros(deviation.size)
    np.divide(np.correlate(known, wanted, "valid"), n * deviation, out=likeness, where=~flat)
    return likeness


def _without_slow_part(log: FloatArray, at: int) -> FloatArray:
    """Return a series without its running median, taken on each side of a boundary by itself; large values are held."""
    parts = [part - running_median(part, max(9, min(25, part.size // 4))) for part in (log[:at], log[at:])]
    limit = 4.0 * MAD_TO_SIGMA * float(np.median(np.abs(np.concatenate(parts))))
    return np.clip(np.concatenate(parts), -limit, limit) if limit > 0.0 else np.concatenate(parts)


def _standardised(value: FloatArray) -> FloatArray | None:
    deviation = float(value.std())
    return (value - value.mean()) / deviation if deviation > 0.0 else None


# -- several processes ------------------------------------------------------------------------------------------------


def drifts(run: Run) -> tuple[Drift, ...]:
    """Return how far the other processes of a run are from the first one in what both log, ordered by tag and rank."""
    by_tag = {s.tag: s for s in run.series}
    found = []
    for one in run.series:
        match = _RANK.match(one.tag)
        first = by_tag.get(match.group(1)) if match else None
        if match is None or first is None or not first.quantity:
            continue
        drift = _drift(first, one, int(match.group(2)))
        if drift is not None:
            found.append(drift)
    return tuple(sorted(found, key=lambda d: (d.tag, d.rank)))


def _drift(first: Series, other: Series, rank: int) -> Drift | None:
    step, mine, theirs = np.intersect1d(first.step, other.step, return_indices=True)
    a, b = first.value[mine], other.value[theirs]
    keep = np.isfinite(a) & np.isfinite(b)
    step, a, b = step[keep], a[keep], b[keep]
    if step.size < 3:
        return None
    size = np.maximum(np.abs(a), np.abs(b))
    apart = np.divide(np.abs(a - b), size, out=np.zeros_like(size), where=size > 0.0)
    near = np.flatnonzero(apart <= 1e-3)
    since = int(near[-1]) + 1 if near.size else 0
    return Drift(
        first.tag,
        rank,
        float(apart[0]),
        float(np.median(apart[-max(3, apart.size // 10) :])),
        int(step[since]) if since < step.size else None,
        int(step.size),
    )


def steps_of_memory(beta2: float | None) -> float:
    """Return the steps over which a second moment forgets, 1 / (1 - beta2); 1,000 where it is not known."""
    return 1.0 / (1.0 - beta2) if beta2 is not None and 0.0 <= beta2 < 1.0 else 1000.0
