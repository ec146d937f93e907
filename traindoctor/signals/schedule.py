"""What the logged learning rate does: its shape from the log alone, and whether it follows the schedule that was configured.

`describe` takes a log apart into phases (constant, linear, cosine, ...); `continuation` goes on with them beyond the log;
`reconcile` holds a log against a `ScheduleSpec` and, where the two part, tries in turn what commonly goes wrong.
Distances are the 95th percentile of |logged - expected| over the highest rate, so that single odd points decide nothing.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from traindoctor.optim.schedules import ScheduleSpec, learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from traindoctor.model import FloatArray, IntArray, Run

    Rate: TypeAlias = Callable[[IntArray], FloatArray]

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
Answer = Literal[
    "follows",
    "cannot-tell",
    "constant",
    "scaled",
    "time-scaled",
    "reset-at-resume",
    "rewarmed-at-resume",
    "warmup-differs",
    "total-differs",
    "another-schedule",
    "differs",
]

#: Largest distance that is still the same schedule. Float32 gives 1e-7, a rate printed with three digits 5e-4; two cosines
#: whose lengths differ by a hundredth are 0.008 apart.
TOLERANCE = 2e-3
#: A distance below which nothing is called a discrepancy, whatever fits.
CLEAR = 0.01
#: Points that a fit sees of a long log: enough that a cosine still moves between neighbours near its peak.
SEEN = 256
#: Distinct points below which no number is fitted to a log.
ENOUGH = 6
#: Jumps or turns above which a log has no schedule that could be told in words.
MOST_PIECES = 64
#: Points of a long log that faults are tried on; whether it follows is told from all.
SEARCHED = 4000
#: Lengths of a warmup after a resume that are tried, in logged points.
MOST_LENGTHS = 200
_SETTINGS_OF_LENGTH = ("num_training_steps", "T_max", "total_iters", "total_steps", "decay_steps", "transition_steps")
_SETTINGS_OF_WARMUP = ("num_warmup_steps", "warmup_steps")


# -- the log alone ----------------------------------------------------------------------------------------------------


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
    step, value = _cleaned(step, learning_rate)
    if value.size < 3:
        return Description("unknown", text="fewer than three points")
    peak = float(np.max(np.abs(value))) or 1.0
    tolerance = _tolerance(value, peak)
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
    error = _distance(value, rate(step), peak)
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
    known_step, known = _cleaned(step, learning_rate)
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


def _cleaned(step: IntArray, value: FloatArray) -> tuple[IntArray, FloatArray]:
    keep = np.isfinite(value)
    order = np.argsort(step[keep], kind="stable")
    step, value = np.asarray(step[keep][order], dtype=np.int64), np.asarray(value[keep][order], dtype=np.float64)
    last = np.append(step[1:] != step[:-1], True) if step.size else np.zeros(0, dtype=bool)
    return step[last], value[last]


def _distance(value: FloatArray, expected: FloatArray, peak: float) -> float:
    if not np.all(np.isfinite(expected)):
        return float("inf")
    return float(np.quantile(np.abs(value - expected), 0.95, method="higher")) / peak


def _tolerance(value: FloatArray, peak: float) -> float:
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


# -- the log against the config ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Whether a logged learning rate follows the configured schedule, and if not, what explains the log.

    `text`: the answer in words. `error`: distance of the log from what explains it, `configured_error` from the config as it
    stands, both over the highest rate. `numbers`: what was found ("factor", "total_steps", ...). `step`: the first step at
    which the log leaves the config. `note`: what the schedule has to do with the length of the run. `described`: the log alone.
    """

    answer: Answer
    text: str
    error: float = float("nan")
    configured_error: float = float("nan")
    numbers: Mapping[str, float] = field(default_factory=dict)
    step: int | None = None
    note: str = ""
    described: Description = Description("unknown")

    @property
    def is_discrepancy(self) -> bool:
        """Whether log and config say different things."""
        return self.answer not in ("follows", "cannot-tell")


def reconcile(
    step: IntArray,
    rate: FloatArray,
    spec: ScheduleSpec | None,
    *,
    steps_per_epoch: float | None = None,
    restarts: Sequence[int] = (),
) -> Reconciliation:
    """Return whether a logged learning rate follows the schedule, and if not, which common fault explains it.

    `step` (n,) int64, `rate` (n,) float64: as logged, every k steps or once an epoch. Step counts may be off by two, and a
    value that only `spec.assumed` states is fitted, not held against the log. `restarts`: first steps of a resumed process.
    Without a spec, with fewer than three points, or where a log tells nothing the answer is "cannot-tell", with the reason.
    """
    step, value = _cleaned(step, rate)
    told = describe(step, value)
    unsure = _no_comparison(value, spec)
    if unsure or spec is None:
        return Reconciliation("cannot-tell", unsure or "no schedule is configured", described=told)
    peak = float(np.max(np.abs(value))) or float(np.max(learning_rate(spec, step))) or 1.0
    tolerance = _tolerance(value, peak)
    case = _Case(step, value, spec, peak, tolerance, told, steps_per_epoch, tuple(restarts))
    configured = case.error_of(spec)
    if configured <= tolerance:
        return Reconciliation(
            "follows", f"follows {_named(spec)}", configured, configured, note=_length_note(step, spec), described=told
        )
    off = _first_off(case)
    case = _thinned(case, SEARCHED)
    for found in (_warmup_otherwise, _constant_log, _other_scale, _other_time, _at_resume, _other_settings):
        made = found(case)
        if made is not None:
            if made.answer == "follows" or configured > CLEAR:
                return replace(made, configured_error=configured, step=None if made.answer == "follows" else off, described=told)
            break
    if configured <= max(CLEAR, 2.0 * tolerance) or value.size < ENOUGH or spec.assumed:
        why = "the log lies near the configured schedule, but not on it" if configured <= CLEAR else "no explanation fits"
        why = "the config leaves part of the schedule open" if spec.assumed and configured > CLEAR else why
        return Reconciliation("cannot-tell", why, configured, configured, described=told)
    if told.kind != "unknown":
        text = f"the log shows another schedule than {_named(spec)}: {told.text}"
        return Reconciliation("another-schedule", text, told.error, configured, {}, off, described=told)
    far = f"{100.0 * configured:.2g} % of the peak"
    text = f"the log leaves {_named(spec)} from step {off:,} on, by up to {far}, and nothing known explains it"
    return Reconciliation("differs", text, configured, configured, {}, off, described=told)


@dataclass(frozen=True, slots=True, eq=False)
class _Case:
    """One log and its configured schedule."""

    step: IntArray
    value: FloatArray
    spec: ScheduleSpec
    peak: float
    tolerance: float
    told: Description
    steps_per_epoch: float | None
    restarts: tuple[int, ...]

    def error_of(self, spec: ScheduleSpec) -> float:
        """Return the distance of the log from a schedule, at the best common offset of the step count, within two."""
        return self.error(lambda step: learning_rate(spec, step))

    def error(self, rate: Rate) -> float:
        # numbered from 1, logged after scheduler.step(): one off either way, and both together
        return min(_distance(self.value, rate(np.maximum(self.step + shift, 0)), self.peak) for shift in (0, -1, 1, -2, 2))

    @property
    def can_fit(self) -> bool:
        """Whether the log moves at enough points that a fitted number means something."""
        return np.unique(self.value).size >= ENOUGH


def steps_per_epoch(run: Run) -> float | None:
    """Return the optimizer steps in an epoch of a run: by its logged epochs, else by its settings; None when neither tells."""
    logged = run.primary.get("epoch")
    if logged is not None and run.step_unit == "step":
        step, epoch = _cleaned(logged.step, logged.value)
        if epoch.size > 1 and epoch[-1] > epoch[0]:
            if np.all(epoch == np.round(epoch)):  # whole epochs: from the start of one to the start of the last
                starts = step[np.concatenate([[True], np.diff(epoch) > 0.0])]
                return float((starts[-1] - starts[1]) / (epoch[-1] - epoch[0] - 1.0)) if starts.size > 2 else None
            return float((step[-1] - step[0]) / (epoch[-1] - epoch[0]))
    steps, epochs = (run.settings[key].value if key in run.settings else None for key in ("steps", "epochs"))
    if isinstance(steps, int | float) and isinstance(epochs, int | float) and epochs > 0 and steps > epochs:
        return steps / epochs
    return None


def _no_comparison(value: FloatArray, spec: ScheduleSpec | None) -> str:
    """Return why nothing can be said, "" when something can."""
    if value.size < 3:
        return "fewer than three learning rates were logged"
    if spec is None:
        return "no schedule is configured, or its config leaves out what it needs"
    if spec.follows_a_metric:
        return f"{_named(spec)} follows a metric, not the step"
    return "" if np.any(value != 0.0) else "the logged learning rate is 0 throughout"


def _first_off(case: _Case) -> int:
    """Return the first logged step at which the log is clearly off the config, whatever the offset."""
    rates = [learning_rate(case.spec, np.maximum(case.step + shift, 0)) for shift in (-2, -1, 0, 1, 2)]
    away = np.min(np.abs(np.stack(rates) - case.value), axis=0) > max(case.tolerance, CLEAR) * case.peak
    return int(case.step[np.argmax(away)]) if away.any() else int(case.step[0])


def _warmup_otherwise(case: _Case) -> Reconciliation | None:
    """Take a warmup of the configured length that begins elsewhere, or bends: configs do not say from where it rises."""
    warmup = case.spec.warmup or max([0.0, *(_get(case.spec, key) for key in _keys(case.spec, _SETTINGS_OF_WARMUP))])
    after = case.step >= warmup
    if not warmup or after.sum() < ENOUGH or after.all():
        return None
    rises = np.all(np.diff(case.value[~after]) >= -1e-9 * case.peak)
    within = case.value[~after].max() <= case.value[after][0] + case.tolerance * case.peak
    rest = replace(case, step=case.step[after], value=case.value[after])
    error = rest.error_of(case.spec)
    if not (rises and within) or error > case.tolerance or np.ptp(case.value[~after]) <= case.tolerance * case.peak:
        return None
    start = float(case.value[0])
    return Reconciliation(
        "follows", f"follows {_named(case.spec)}, its warmup from {start:.3g} on", error, numbers={"warmup_from": start}
    )


def _constant_log(case: _Case) -> Reconciliation | None:
    if case.told.kind != "constant" or not _moves(case):
        return None
    level = case.told.phases[0].first
    text = f"constant at {level:.4g} where {_named(case.spec)} was configured: the schedule was never stepped, or not attached"
    return Reconciliation("constant", text, 0.0, numbers={"learning_rate": level})


def _moves(case: _Case) -> bool:
    """Whether the configured rate moves clearly over the logged steps."""
    expected = learning_rate(case.spec, case.step)
    return bool(np.ptp(expected) > 5.0 * CLEAR * np.max(np.abs(expected)))


def _other_scale(case: _Case) -> Reconciliation | None:
    expected = learning_rate(case.spec, case.step)
    high = expected > 0.05 * np.max(np.abs(expected))
    if not high.any() or (not _moves(case) and case.told.kind != "constant"):
        return None
    factor = float(np.median(case.value[high] / expected[high]))
    error = case.error(lambda step: factor * learning_rate(case.spec, step))
    if error > case.tolerance or abs(factor - 1.0) <= case.tolerance:
        return None
    near = f"{factor:.4g} times" if factor >= 1.0 else f"1/{1.0 / factor:.4g} of"
    text = f"{near} {_named(case.spec)} at every step, as when the rate is scaled by the number of processes or the batch"
    if "lr" in case.spec.assumed:
        return Reconciliation(
            "follows", f"follows {_named(case.spec)} from {factor * case.spec.lr:.4g}", error, numbers={"factor": factor}
        )
    return Reconciliation("scaled", text, error, numbers={"factor": factor})


def _other_time(case: _Case) -> Reconciliation | None:
    """Try the schedule called more or less often than each step: each epoch, once per process."""
    if not case.can_fit and case.told.kind != "steps":
        return None
    exact = [case.steps_per_epoch] if case.steps_per_epoch and case.steps_per_epoch > 1.0 else []
    tried = [*exact, *(1.0 / s for s in exact), *map(float, range(2, 17)), *(1.0 / s for s in range(2, 17))]
    best = min(((case.error(_timed(case.spec, slow)), slow) for slow in tried), key=lambda b: b[0])
    if best[0] > case.tolerance:
        coarse = _thinned(case, 120)
        near = sorted(np.geomspace(1e-3, 1e5, 320).tolist(), key=lambda slow: coarse.error(_timed(case.spec, slow)))[:3]
        best = min([best, *(_refined(case, coarse, slow) for slow in near)], key=lambda b: b[0])
    error, slow = best
    if error > case.tolerance or abs(slow - 1.0) < 0.02:
        return None
    rounded = round(slow) if slow > 1.0 else 1.0 / round(1.0 / slow)
    if abs(rounded / slow - 1.0) < 0.02 and case.error(_timed(case.spec, rounded)) <= case.tolerance:
        slow = float(rounded)
    if "every" in case.spec.assumed:
        return Reconciliation(
            "follows", f"follows {_named(case.spec)}, called every {slow:,.4g} steps", error, numbers={"every": slow}
        )
    epoch = case.steps_per_epoch is not None and abs(slow / case.steps_per_epoch - 1.0) < 0.05
    batch = case.steps_per_epoch is not None and abs(slow * case.steps_per_epoch - 1.0) < 0.05
    if epoch or (slow > 1.0 and abs(case.told.held / slow - 1.0) < 0.1):
        text = f"called once every {slow:,.4g} steps, as once an epoch, where {_named(case.spec)} counts steps"
    elif batch:
        text = f"called at each of the {1.0 / slow:,.4g} steps of an epoch, where {_named(case.spec)} counts epochs"
    else:
        way = f"{slow:,.4g} times slower" if slow > 1.0 else f"{1.0 / slow:,.4g} times faster"
        text = f"runs {way} than {_named(case.spec)}, as when accumulation or the number of processes is counted in"
    return Reconciliation("time-scaled", text, error, numbers={"factor": slow})


def _timed(spec: ScheduleSpec, slow: float) -> Rate:
    """Return the schedule called once every `slow` steps, or 1 / `slow` times a step."""
    return lambda step: learning_rate(spec, np.floor(np.asarray(step) / slow + 1e-9).astype(np.int64))


def _thinned(case: _Case, n: int) -> _Case:
    """Return the case with `n` of its points at even distances, all of them where there are fewer."""
    pick = np.unique(np.linspace(0, case.step.size - 1, n).astype(np.int64))
    return replace(case, step=case.step[pick], value=case.value[pick])


def _refined(case: _Case, coarse: _Case, slow: float) -> tuple[float, float]:
    width = 0.06
    for _ in range(8):
        slow = min(
            (slow * (1.0 + a * width) for a in (-1.0, -0.5, 0.0, 0.5, 1.0)), key=lambda s: coarse.error(_timed(case.spec, s))
        )
        width *= 0.5
    return case.error(_timed(case.spec, slow)), slow


def _at_resume(case: _Case) -> Reconciliation | None:
    """Try a schedule that began again at a resume, and one whose rate was warmed up again there."""
    for restart in case.restarts:
        after = case.step >= restart
        if after.sum() < 3 or not np.any(~after):
            continue

        def again(step: IntArray, restart: int = restart) -> FloatArray:
            return learning_rate(case.spec, np.where(step >= restart, step - restart, step))

        if (error := case.error(again)) <= case.tolerance:
            text = f"{_named(case.spec)} began again from its start at the resume at step {restart:,}: its state was not restored"
            return Reconciliation("reset-at-resume", text, error, numbers={"restart": float(restart)})
        for at in case.step[after][2:MOST_LENGTHS]:
            length = float(at - restart)

            def warmed(step: IntArray, restart: int = restart, length: float = length) -> FloatArray:
                ramp = np.clip((step - restart) / length, 0.0, 1.0)
                return learning_rate(case.spec, step) * np.where(step >= restart, ramp, 1.0)

            if (error := case.error(warmed)) <= case.tolerance:
                text = (
                    f"warmed up again over {length:,.0f} steps after the resume at step {restart:,}, then as {_named(case.spec)}"
                )
                return Reconciliation(
                    "rewarmed-at-resume", text, error, numbers={"restart": float(restart), "warmup_steps": length}
                )
    return None


def _other_settings(case: _Case) -> Reconciliation | None:
    """Try the schedule with another warmup, another length, and both."""
    if not case.can_fit:
        return None
    warmups, lengths = _keys(case.spec, _SETTINGS_OF_WARMUP), _keys(case.spec, _SETTINGS_OF_LENGTH)
    guess = case.told.warmup_stop
    ends = [phase.stop for phase in case.told.phases if phase.last < phase.first]
    coarse = _thinned(case, 120)
    made: list[tuple[int, float, ScheduleSpec, tuple[str, ...]]] = []
    found = ((key, _scanned(coarse, case.spec, key, guess)) for key in warmups)
    made += [(1, case.error_of(spec), spec, (key,)) for key, spec in found]
    for key in lengths:
        spec = _scanned(coarse, case.spec, key, ends[-1] if ends else None)
        made.append((1, case.error_of(spec), spec, (key,)))
        for warmup in warmups:
            both = _set(case.spec, warmup, round(guess or 0.0))
            both = _scanned(coarse, both, key, ends[-1] if ends else None)
            both = _scanned(coarse, both, warmup, guess)
            made.append((2, case.error_of(both), both, (warmup, key)))
    fitting = [one for one in made if one[1] <= case.tolerance]
    if not fitting:
        return None
    _, error, spec, keys = min(fitting, key=lambda one: one[:2])
    numbers = {_plain(key): float(_get(spec, key)) for key in keys}
    if all(key in case.spec.assumed for key in keys):
        told = ", ".join(f"{name} {value:,.0f}" for name, value in numbers.items())
        return Reconciliation(
            "follows", f"follows {_named(case.spec)} with {told}, which the config does not state", error, numbers=numbers
        )
    parts = [
        f"{_plain(key).replace('_', ' ')} {_get(spec, key):,.0f} in the log, {_get(case.spec, key):,.0f} in the config"
        for key in keys
    ]
    answer: Answer = "warmup-differs" if keys[0] in warmups else "total-differs"
    return Reconciliation(answer, f"{_named(case.spec)}, but {' and '.join(parts)}", error, numbers=numbers)


def _keys(spec: ScheduleSpec, names: Sequence[str]) -> list[str]:
    return [key for key in names if isinstance(spec.settings.get(key), int | float)]


def _get(spec: ScheduleSpec, key: str) -> float:
    value: Any = spec.settings[key]
    return float(value)


def _set(spec: ScheduleSpec, key: str, value: int) -> ScheduleSpec:
    return replace(spec, settings={**spec.settings, key: value})


def _plain(key: str) -> str:
    return "warmup_steps" if key in _SETTINGS_OF_WARMUP else "total_steps"


def _scanned(case: _Case, spec: ScheduleSpec, key: str, guess: float | None) -> ScheduleSpec:
    """Return the schedule with the value of one setting that fits best: a coarse scan, then halving about the best."""
    now = max(1.0, _get(spec, key))
    last = float(case.step[-1])
    low = 0.0 if key in _SETTINGS_OF_WARMUP else 1.0
    values = {*np.geomspace(now / 50.0, now * 50.0, 60).round(), *np.linspace(last / 60.0, 2.0 * last, 60).round(), low}
    if guess is not None:
        values |= {float(round(guess)) + n for n in (-2, -1, 0, 1, 2)}
    others = sum(_get(spec, other) for other in _keys(spec, _SETTINGS_OF_WARMUP) if other != key)

    def error(value: float) -> float:
        if key not in _SETTINGS_OF_WARMUP and value <= others:
            return float("inf")
        return case.error_of(_set(spec, key, int(value)))

    best = min((error(value), value) for value in values if value >= low)
    width = max(2.0, 0.2 * best[1])
    while width >= 1.0:
        near = {round(best[1] + a * width) for a in (-1.0, -0.5, 0.5, 1.0)}
        best = min([best, *((error(value), float(value)) for value in near if value >= low)])
        width *= 0.6
    return _set(spec, key, int(best[1]))


def _length_note(step: IntArray, spec: ScheduleSpec) -> str:
    """Return what the end of the decay has to do with the end of the log, "" where both meet or no end is set."""
    keys = _keys(spec, _SETTINGS_OF_LENGTH)
    if not keys or spec.settings.get("cycle"):
        return ""
    total = _get(spec, keys[-1]) * spec.every
    last = float(step[-1])
    if last < 0.9 * total:
        rate = float(learning_rate(spec, step[-1:])[0])
        return f"the log ends at step {last:,.0f} of the schedule's {total:,.0f}, at a rate of {rate:.3g}"
    if last > 1.1 * total:
        return f"the schedule ends at step {total:,.0f}, {last - total:,.0f} steps before the log"
    return ""


def _named(spec: ScheduleSpec) -> str:
    return f"the configured {spec.name.partition('.')[2]}"
