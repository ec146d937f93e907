"""The shape of a logged learning rate: constant, linear, cosine, steps, restarts ..., told from the log alone.

`describe` takes a log apart into phases; `continuation` goes on with them beyond the log. Distances are the 95th percentile
of |logged - expected| over the highest rate, so that single odd points decide nothing.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from traindoctor.model import FloatArray, IntArray

Shape = Literal[
    "constant",
    "linear",
    "cosine",
    "exponential",
    "inverse-sqrt",
    "inverse-time",
    "power-0.5",
    "power-0.9",
    "power-2",
    "one-minus-sqrt",
]
Kind = Literal["unknown", "constant", "phases", "steps", "restarts"]
#: Largest distance that is still the same schedule. Float32 gives 1e-7, a rate printed with three digits 5e-4; two cosines
#: whose lengths differ by a hundredth are 0.008 apart.
TOLERANCE = 2e-3
#: Points that a fit sees of a long log: enough that a cosine still moves between neighbours near its peak.
SEEN = 256
#: Jumps or turns above which a log has no schedule that could be told in words.
MOST_PIECES = 64


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of steps over which the rate moves from `first` at `start` to `last` at `stop` in one shape.

    `stop` may lie beyond the log, where a decay had not come to its end. `begin`: from which step on it holds; `start` may lie
    before it, where the log begins in the middle of the shape.
    """

    shape: Shape
    start: float
    stop: float
    first: float
    last: float
    begin: float = -np.inf

    def rate(self, step: FloatArray) -> FloatArray:
        """Return the rate at the steps, held at both ends; exponential and inverse phases go on after `stop`."""
        share = np.maximum((step - self.start) / max(self.stop - self.start, 1e-9), 0.0)
        if self.shape == "constant":
            return np.full(np.shape(step), self.first)
        if self.shape == "exponential":
            return self.first * np.power(self.last / self.first, share)
        if self.shape in _INVERSE:
            power = _INVERSE[self.shape]
            low, high = self.last**power, self.first**power
            return np.asarray(np.power(high + (low - high) * share, 1.0 / power))
        return self.last + (self.first - self.last) * _WAYS[self.shape](np.minimum(share, 1.0))


@dataclass(frozen=True, slots=True)
class Description:
    """The schedule that a log itself shows.

    `kind`: "constant", "phases" (a warmup, a decay ...), "steps" (a few levels), "restarts", "unknown". `period`: steps between
    restarts, None where it is not regular. `held`: steps between two changes of the rate, 1 when it moves each step.
    `error`: distance of the phases from the log, over the highest rate. `text`: the same in words.
    """

    kind: Kind
    phases: tuple[Phase, ...] = ()
    period: float | None = None
    held: float = 1.0
    error: float = float("nan")
    text: str = ""

    @property
    def warmup_stop(self) -> float | None:
        """Where a first rising phase ends; None when the log does not begin with one."""
        first = self.phases[0] if self.phases else None
        return first.stop if first is not None and first.last > first.first else None


#: Shape -> share of the way left, 1 to 0, over the share of the time.
_WAYS: Mapping[str, Callable[[FloatArray], FloatArray]] = {
    "linear": lambda x: 1.0 - x,
    "cosine": lambda x: 0.5 * (1.0 + np.cos(np.pi * x)),
    "power-0.5": lambda x: np.sqrt(1.0 - x),
    "power-0.9": lambda x: (1.0 - x) ** 0.9,
    "power-2": lambda x: (1.0 - x) ** 2,
    "one-minus-sqrt": lambda x: 1.0 - np.sqrt(x),
}
#: Shape -> the power of the rate that is a straight line over the steps.
_INVERSE: Mapping[str, float] = {"inverse-sqrt": -2.0, "inverse-time": -1.0}


def describe(step: IntArray, learning_rate: FloatArray) -> Description:
    """Return the schedule that a logged learning rate shows.

    `step` (n,) int64 and `learning_rate` (n,) float64 in any order; points that are not finite are left out, of several at one
    step the last counts. Fewer than three points, or a shape that no phase fits, give the kind "unknown".
    """
    step, value = cleaned(step, learning_rate)
    if value.size < 3:
        return Description("unknown", text="fewer than three points")
    peak = float(np.max(np.abs(value))) or 1.0
    tolerance = tolerance_of(value, peak)
    if np.ptp(value) <= 1e-6 * peak:
        level = float(np.median(value))
        return Description("constant", (_constant(step[0], step[-1], level),), error=0.0, text=f"constant at {level:.4g}")
    starts = np.flatnonzero(np.concatenate([[True], np.abs(np.diff(value)) > 1e-9 * peak]))
    if starts.size <= value.size / 2 and (levels := _levels(step, value, starts)) is not None:
        return levels
    held, seen_step, seen = 1.0, step, value
    if _is_held(step, starts):
        held = float(np.median(np.diff(step[starts])))
        seen_step, seen = step[starts], value[starts]
    cuts, phases = _in_phases(seen_step.astype(np.float64), seen, peak, tolerance)
    rate = _of_phases(phases, held, float(seen_step[0]))
    error = distance(value, rate(step), peak)
    if error > tolerance:
        return Description("unknown", error=error, text="no line, cosine, exponential or series of steps fits the log")
    period = _period(cuts, float(seen_step[0]))
    kind: Kind = "restarts" if cuts else "phases"
    text = ", then ".join(_words(phase) for phase in (phases[:4] if cuts else phases))
    if cuts:
        often = f"every {period:,.0f} steps" if period else "at steps " + ", ".join(f"{c:,.0f}" for c in cuts[:5])
        text = f"{_words(phases[0])}, restarted {often}"
    if held > 1.0:
        text += f", moved every {held:,.0f} steps"
    return Description(kind, tuple(phases), period, held, error, text)


def continuation(step: IntArray, learning_rate: FloatArray) -> Callable[[IntArray], FloatArray]:
    """Return a function of the step that follows the log and goes on beyond it as the log's own schedule would.

    Steps in the log are interpolated from it. Beyond it a decay goes on to its end and stays there, restarts come again at
    their period, and a shape that is not known holds the last rate. An empty log gives NaN.
    """
    known_step, known = cleaned(step, learning_rate)
    if known.size == 0:
        return lambda at: np.full(np.shape(at), np.nan)
    told = describe(known_step, known)
    last = float(known_step[-1])
    beyond: Callable[[FloatArray], FloatArray]
    if told.kind in ("unknown", "constant", "steps"):
        ratio, length = _staircase(told)

        def beyond(at: FloatArray) -> FloatArray:
            begun = told.phases[-1].start if told.phases else last
            more = np.floor((at - begun) / length) if length else np.zeros(at.shape)
            return float(known[-1]) * np.power(ratio, np.maximum(more, 0.0))
    elif told.period:
        repeat = _of_phases(told.phases, told.held, float(known_step[0]))

        def beyond(at: FloatArray) -> FloatArray:
            turns = np.ceil(np.maximum(at - last, 0.0) / float(told.period or 1.0))
            return repeat(at - turns * float(told.period or 1.0))
    else:
        beyond = _of_phases(told.phases, told.held, float(known_step[0]))

    def rate(at: IntArray) -> FloatArray:
        time = np.asarray(at, dtype=np.float64)
        return np.where(time <= last, np.interp(time, known_step, known), beyond(time))

    return rate


def _staircase(told: Description) -> tuple[float, float]:
    """Return the factor and the length of steps that all fall alike; (1, 0) where they do not, so that the rate is held."""
    phases = told.phases
    if told.kind != "steps" or len(phases) < 3:
        return 1.0, 0.0
    lengths = np.diff([phase.start for phase in phases])
    rates = np.array([phase.first for phase in phases])
    ratios = rates[1:] / rates[:-1] if np.all(rates > 0.0) else np.array([1.0, 0.0])
    alike = np.ptp(lengths) <= 0.05 * lengths.mean() and np.ptp(ratios) <= 1e-3
    return (float(ratios[0]), float(lengths.mean())) if alike else (1.0, 0.0)


def cleaned(step: IntArray, value: FloatArray) -> tuple[IntArray, FloatArray]:
    """Return the finite points in the order of their steps, of several at one step the last."""
    keep = np.isfinite(value)
    order = np.argsort(step[keep], kind="stable")
    step, value = np.asarray(step[keep][order], dtype=np.int64), np.asarray(value[keep][order], dtype=np.float64)
    last = np.append(step[1:] != step[:-1], True) if step.size else np.zeros(0, dtype=bool)
    return step[last], value[last]


def distance(value: FloatArray, expected: FloatArray, peak: float) -> float:
    """Return the 95th percentile of |value - expected| over the peak; infinite where something expected is not finite."""
    if not np.all(np.isfinite(expected)):
        return float("inf")
    return float(np.quantile(np.abs(value - expected), 0.95, method="higher")) / peak


def tolerance_of(value: FloatArray, peak: float) -> float:
    """Return the largest distance that is none: `TOLERANCE`, or what the log's printed decimals leave open, at most 0.05."""
    for decimals in range(2, 9):
        if np.allclose(value, np.round(value, decimals), rtol=0.0, atol=1e-12 * peak):
            return max(TOLERANCE, min(0.05, 0.6 * 10.0**-decimals / peak))
    return TOLERANCE


def _is_held(step: IntArray, starts: IntArray) -> bool:
    """Whether the rate changes at even distances of several logged points: a schedule that is called once an epoch."""
    if starts.size < 4 or starts.size > step.size / 2:
        return False
    length = np.diff(step[starts])
    usual = float(np.median(length))
    even = np.abs(length - usual) <= 0.1 * usual + 1.0
    return usual > 1.5 * float(np.median(np.diff(step))) and bool(np.mean(even) >= 0.8)


def _constant(start: float, stop: float, level: float) -> Phase:
    return Phase("constant", float(start), float(stop), level, level)


def _levels(step: IntArray, value: FloatArray, starts: IntArray) -> Description | None:
    """Return a description by levels where there are few, and none is one of many samples of a curve; else None."""
    level = value[starts]
    up = np.diff(level) > 0.0
    if starts.size > 12 or (starts.size > 4 and np.any(up[1:])):
        return None
    length = np.diff(step[starts])
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = level[1:] / level[:-1]
    even = length.size >= 3 and np.ptp(length[1:]) <= 0.1 * length.mean()
    if even and np.ptp(ratio) > 1e-3 * abs(ratio[0]):
        return None  # steps of one length and differing factors: a curve that is called each epoch
    ends = [*step[starts[1:]], step[-1]]
    phases = tuple(_constant(step[s], e, float(value[s])) for s, e in zip(starts, ends, strict=True))
    told = ", ".join(f"{phase.first:.4g} from step {phase.start:,.0f}" for phase in phases[1:6])
    return Description("steps", phases, error=0.0, text=f"steps: {level[0]:.4g}, {told}")


def _in_phases(step: FloatArray, value: FloatArray, peak: float, tolerance: float) -> tuple[list[float], list[Phase]]:
    """Return the steps at which the rate jumps up after a decay, and the phases in between."""
    move = np.diff(value)
    size = np.abs(move)
    around = np.maximum(np.append(size[1:], 0.0), np.concatenate([[0.0], size[:-1]]))
    jumps = np.flatnonzero((size > 0.02 * peak) & (size > 5.0 * around)) + 1
    if jumps.size > MOST_PIECES:  # noise, or a rate that a controller sets
        return [], [_constant(step[0], step[-1], float(np.median(value)))]
    # one low point before the decay is a warmup that fell between two logged points, no jump
    pieces = np.split(np.arange(value.size), jumps[jumps > 0])
    cuts = [float(step[j]) for j in jumps if j > 1 and move[j - 1] > 0.0]
    phases: list[Phase] = []
    for piece in pieces:
        made = _piece(step[piece], value[piece], peak, tolerance)
        phases += [replace(made[0], begin=float(step[piece[0]])), *made[1:]]
    return cuts, phases


def _piece(step: FloatArray, value: FloatArray, peak: float, tolerance: float) -> list[Phase]:
    """Return the phases of a stretch without jumps: one for each stretch that only rises, stays or falls."""
    if value.size > SEEN:
        pick = np.unique(np.linspace(0, value.size - 1, SEEN).astype(np.int64))
        step, value = step[pick], value[pick]
    if value.size < 2:
        return [_constant(step[0], step[0], float(value[0]))]
    flat = np.abs(np.diff(value)) <= np.maximum(1e-12 * peak, 2e-7 * np.abs(value[1:]))
    sign = np.where(flat, 0.0, np.sign(np.diff(value)))
    bounds = [0, *(np.flatnonzero(np.diff(sign)) + 1), value.size]
    if len(bounds) > MOST_PIECES:
        return [_constant(step[0], step[-1], float(np.median(value)))]
    parts = []
    for n, (first, stop) in enumerate(itertools.pairwise(bounds)):
        # a turn between two logged points belongs to neither side: it is left out where enough is left
        inner = first + 1 if n and stop - first > 4 else first
        parts.append(np.arange(inner, min(stop, value.size)))
    phases: list[Phase] = []
    for n, part in enumerate(parts):
        made = _split_if_better(step[part], value[part], peak, tolerance, ends=n < len(parts) - 1)
        if phases:
            low, high = step[bounds[n] - 1], step[min(bounds[n] + 1, value.size - 1)]
            phases[-1], made[0] = _joined(phases[-1], made[0], float(low), float(high))
        phases += made
    return phases


def _joined(one: Phase, two: Phase, low: float, high: float) -> tuple[Phase, Phase]:
    """Return two phases in turn with the step, between `low` and `high`, at which the second takes over: where they meet."""
    at = np.linspace(low, high, 97)
    reach = replace(one, stop=high, last=float(_straight(one, high))) if one.shape in ("linear", "constant") else one
    meet = float(at[np.argmin(np.abs(reach.rate(at) - _backwards(two, at)))])
    if one.shape == "linear":
        one = replace(one, stop=meet, last=_straight(one, meet))
    if two.shape == "linear":
        two = replace(two, start=meet, first=_straight(two, meet))
    return one, replace(two, begin=meet)


def _straight(phase: Phase, at: float) -> float:
    return phase.first + (phase.last - phase.first) * (at - phase.start) / max(phase.stop - phase.start, 1e-9)


def _backwards(phase: Phase, at: FloatArray) -> FloatArray:
    """Return the rate of a phase also before its start, where it is a line."""
    if phase.shape != "linear":
        return phase.rate(at)
    return phase.first + (phase.last - phase.first) * (at - phase.start) / max(phase.stop - phase.start, 1e-9)


def _split_if_better(step: FloatArray, value: FloatArray, peak: float, tolerance: float, *, ends: bool) -> list[Phase]:
    """Return one phase, or two where one does not fit and two do: a fall whose shape changes on the way."""
    phase, error = _fitted(step, value, peak, ends=ends)
    if error <= tolerance or value.size < 12:
        return [phase]
    best = (error, [phase])
    for cut in np.unique(np.linspace(4, value.size - 5, 12).astype(np.int64)):
        one, e1 = _fitted(step[: cut + 1], value[: cut + 1], peak, ends=True)
        two, e2 = _fitted(step[cut:], value[cut:], peak, ends=ends)
        if max(e1, e2) < best[0]:
            best = max(e1, e2), list(_joined(one, two, float(step[cut - 1]), float(step[cut + 1])))
    return best[1]


def _fitted(step: FloatArray, value: FloatArray, peak: float, *, ends: bool) -> tuple[Phase, float]:
    """Return the simplest phase that fits a monotone stretch about as well as any, and its distance.

    `ends`: whether another phase follows, so that this one ends where the stretch does.
    """
    if np.ptp(value) <= 1e-6 * peak:
        return _constant(step[0], step[-1], float(np.median(value))), 0.0
    fits = list(_fits(step, value, ends=ends))
    errors = [float(np.max(np.abs(phase.rate(step) - value))) / peak for phase in fits]
    good = max(3.0 * min(errors), 1e-5)
    chosen = next(n for n, error in enumerate(errors) if error <= good)
    return fits[chosen], errors[chosen]


def _fits(step: FloatArray, value: FloatArray, *, ends: bool) -> Iterator[Phase]:
    """Yield the best phase of each shape, the simplest shapes first."""
    first, last = float(step[0]), float(step[-1])
    slope, start = np.polyfit(step - first, value, 1)
    stop, low = last, start + slope * (last - first)
    if slope < 0.0 and not ends:  # a line that falls goes on to zero
        stop, low = first - start / slope, 0.0
    yield Phase("linear", first, stop, float(start), float(low))
    if value.size < 4:
        return
    yield _by_length("cosine", step, value)
    if np.all(value > 0.0):
        rate, log = np.polyfit(step - first, np.log(value), 1)
        yield Phase("exponential", first, last, float(np.exp(log)), float(np.exp(log + rate * (last - first))))
    if value[-1] >= value[0]:
        return
    for shape in ("inverse-sqrt", "inverse-time"):
        power = _INVERSE[shape]
        rise, base = np.polyfit(step - first, value**power, 1) if np.all(value > 0.0) else (0.0, 0.0)
        if base > 0.0 and rise > 0.0:
            ends_at = (base + rise * (last - first)) ** (1.0 / power)
            yield Phase(shape, first, last, float(base ** (1.0 / power)), float(ends_at))
    for way in ("power-0.9", "power-2", "power-0.5", "one-minus-sqrt"):
        yield _by_length(way, step, value)


def _by_length(shape: Shape, step: FloatArray, value: FloatArray) -> Phase:
    """Return the phase of a shape whose start and length fit best; both ends of its rate follow by least squares."""
    span = float(step[-1] - step[0])
    stride = span / (step.size - 1)

    def fitted(start: FloatArray, length: FloatArray) -> tuple[float, float, float, float, float]:
        """Return the least sum of squares over all pairs of start and length, with that pair and the rate at both ends."""
        start, length = (grid.ravel() for grid in np.meshgrid(start, length))
        left = _WAYS[shape](np.clip((step - start[:, None]) / length[:, None], 0.0, 1.0))
        middle, mean = left.mean(axis=1, keepdims=True), value.mean()
        spread = np.sum((left - middle) ** 2, axis=1)
        slope = np.where(spread > 0.0, ((left - middle) @ (value - mean)) / np.maximum(spread, 1e-300), 0.0)
        low = mean - slope * middle[:, 0]
        if value[-1] < value[0]:  # no rate falls below zero
            through_zero = (left @ value) / np.maximum(np.sum(left**2, axis=1), 1e-300)
            slope, low = np.where(low < 0.0, through_zero, slope), np.maximum(low, 0.0)
        squares = np.sum((low[:, None] + slope[:, None] * left - value) ** 2, axis=1)
        n = int(np.argmin(squares))
        return float(squares[n]), float(start[n]), float(length[n]), float(low[n] + slope[n]), float(low[n])

    def narrowed(start_width: float) -> tuple[float, float, float, float, float]:
        """Return the best pair whose start lies within about `start_width` of the stretch's: a grid that closes in on it."""
        grid = np.linspace(-1.0, 1.0, 5)
        near = np.array([0.0]) if start_width == 0.0 else grid
        best, width = fitted(step[0] + start_width * near, span * np.geomspace(0.98, 6.0, 60)), 0.05
        for _ in range(18):
            best = min(best, fitted(best[1] + start_width * near, best[2] * (1.0 + width * grid)))
            start_width, width = 0.6 * start_width, 0.6 * width
        return best

    best = narrowed(0.0)  # a stretch that begins where it was first logged needs no other start
    if best[0] > step.size * (1e-4 * float(np.ptp(value))) ** 2:
        best = min(best, narrowed(stride))
    _, start, length, first, last = best
    return Phase(shape, start, start + length, first, last)


def _of_phases(phases: Sequence[Phase], held: float, origin: float) -> Callable[[IntArray | FloatArray], FloatArray]:
    """Return the rate of phases in turn as a function of the step; the last goes on."""
    begins = np.array([-np.inf, *(phase.begin for phase in phases[1:])])

    def rate(step: IntArray | FloatArray) -> FloatArray:
        time = np.asarray(step, dtype=np.float64)
        if held > 1.0:
            time = origin + np.floor((time - origin) / held + 1e-9) * held
        index = np.clip(np.searchsorted(begins, time, side="right") - 1, 0, len(phases) - 1)
        made = np.empty(time.shape)
        for n, phase in enumerate(phases):
            made[index == n] = phase.rate(time[index == n])
        return made

    return rate


def _period(cuts: Sequence[float], origin: float) -> float | None:
    """Return the steps between restarts, None where they are not alike; the first cycle may begin with a warmup."""
    if not cuts:
        return None
    gaps = np.diff([origin, *cuts])
    regular = gaps[1:] if gaps.size > 2 else gaps
    return float(np.median(regular)) if np.ptp(regular) <= 0.05 * np.median(regular) else None


def _words(phase: Phase) -> str:
    if phase.shape == "constant":
        return f"constant at {phase.first:.4g}"
    names = {"inverse-sqrt": "inverse square root", "inverse-time": "inverse time", "one-minus-sqrt": "1 - sqrt"}
    way = names.get(phase.shape, phase.shape.replace("power-", "polynomial of power "))
    return f"{way} from {phase.first:.4g} to {_near_zero(phase):.4g} over steps {phase.start:,.0f} to {phase.stop:,.0f}"


def _near_zero(phase: Phase) -> float:
    return 0.0 if abs(phase.last) < 1e-4 * abs(phase.first) and phase.shape != "exponential" else phase.last
