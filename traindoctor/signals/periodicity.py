"""What comes again in every epoch: the length of an epoch, a series folded over it, and what is left beside the trend.

A training set that is read in one order, or a batch that is bad, shows at the same place of every epoch. Places are phases,
0 to 1 from the first to the last step of an epoch, so that a log every few steps is folded like one of every step.
"""

from __future__ import annotations

from functools import cached_property
from math import erfc, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.signals import robust
from traindoctor.signals.held_out import order
from traindoctor.signals.schedule import steps_per_epoch
from traindoctor.signals.shape import cleaned

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, IntArray, Run
    from traindoctor.signals.measurements import Measurements, SeriesMeasurements

#: Epochs below which nothing can be told to come again.
FEWEST_EPOCHS = 4
#: Points in an epoch below which it has no inside.
FEWEST_PHASES = 4
#: Phases into which an epoch is cut at most.
MOST_PHASES = 128


class EpochLength(NamedTuple):
    """Steps in an epoch and what tells so: "epoch", "settings", "validation" (its interval), "found" (the strongest period)."""

    steps: float
    told_by: str

    @property
    def words(self) -> str:
        """The source as it stands in a text."""
        return {
            "epoch": "the logged epochs",
            "settings": "the settings",
            "validation": "the interval of validation",
            "found": "the strongest period of the log",
        }[self.told_by]


def epoch_lengths(run: Run) -> tuple[EpochLength, ...]:
    """Return what an epoch may be long, the surest first; empty where each point is an epoch, or nothing tells.

    By the logged epochs, else by the settings; by the interval of validation; by the strongest period of the loss.
    """
    if run.step_unit != "step":
        return ()
    made: list[EpochLength] = []
    known = _by_logged_epochs(run)
    if known is not None:
        made.append(EpochLength(known, "epoch"))
    elif (known := steps_per_epoch(run) or _by_number_of_epochs(run)) is not None:
        made.append(EpochLength(known, "settings"))
    held = run.primary.get("val_loss") or run.primary.get("val_accuracy")
    if held is not None and len(held) > FEWEST_EPOCHS:
        gaps = np.diff(np.unique(held.step))
        usual = float(np.median(gaps)) if gaps.size else 0.0
        if float(np.mean(gaps == usual)) > 0.8 and usual not in [one.steps for one in made]:
            made.append(EpochLength(usual, "validation"))
    loss = run.primary.get("loss")
    if loss is not None and not any(one.told_by in ("epoch", "settings") for one in made):
        step, value = cleaned(loss.step, loss.value)
        lag = strongest_lag(value)
        if lag is not None:
            made.append(EpochLength(_refined(step, value, lag), "found"))
    return tuple(one._replace(steps=_whole(one.steps)) for one in made if one.steps > 1.0 and np.isfinite(one.steps))


def _whole(steps: float) -> float:
    """Return the whole number that a length misses by the last decimal of the logged epochs alone, else the length."""
    return float(np.round(steps)) if abs(steps - np.round(steps)) < 1e-3 else steps


def _by_logged_epochs(run: Run) -> float | None:
    """Return the length that all logged epochs allow: whole ones begin between two logged points; None where they do not tell."""
    logged = run.primary.get("epoch")
    if logged is None:
        return None
    step, epoch = cleaned(logged.step, logged.value)
    if epoch.size < 2 or not np.all(epoch == np.round(epoch)):
        return steps_per_epoch(run)
    at = np.flatnonzero(np.diff(epoch) > 0.0) + 1
    if at.size < 2 or np.any(np.diff(epoch) < 0.0):
        return None
    number = epoch[at] - epoch[0]
    low = float(np.max((step[at - 1] - step[0]) / number))
    high = float(np.min((step[at] - step[0]) / number))
    if low > high:  # epochs that are not alike, or a log that begins within one
        return steps_per_epoch(run)
    whole = np.floor(high)
    return float(whole) if whole > low else 0.5 * (low + high)


def _by_number_of_epochs(run: Run) -> float | None:
    """Return the last logged step over the epochs that are set, a whole number within a logged point of it."""
    loss, epochs = run.primary.get("loss"), run.settings["epochs"].value if "epochs" in run.settings else None
    if loss is None or len(loss) < 2 or not isinstance(epochs, int | float) or epochs < FEWEST_EPOCHS:
        return None
    stride = float(np.median(np.diff(np.sort(loss.step))))
    most = (float(loss.step.max()) + stride) / epochs
    return float(np.floor(most)) if np.floor(most) * epochs > float(loss.step.max()) - stride else most


def strongest_lag(value: FloatArray) -> int | None:
    """Return the lag in points, four or more, at which a series repeats itself most: a peak of its autocorrelation above 0.3.

    None where there is no such peak. Lags up to a quarter of the series are looked at.
    """
    n = value.size
    most = n // FEWEST_EPOCHS
    if most <= FEWEST_PHASES + 1:
        return None
    rest = detrended(ranks(value), max(3, most))
    power = np.abs(np.fft.rfft(rest, 2 * n)) ** 2
    if not power.sum() > 0.0:
        return None
    own = np.fft.irfft(power)[: most + 1]
    own = own / own[0] * n / (n - np.arange(most + 1))
    inner = own[FEWEST_PHASES:-1]
    peaks = np.flatnonzero((inner >= own[FEWEST_PHASES - 1 : -2]) & (inner > own[FEWEST_PHASES + 1 :]) & (inner > 0.3))
    if not peaks.size:
        return None
    high = float(inner[peaks].max())
    return int(peaks[inner[peaks] > 0.85 * high][0]) + FEWEST_PHASES  # of a period and its multiples, the period


class Fold(NamedTuple):
    """A series folded over the epoch, its trend taken away.

    `share`: of the variance that the phase explains, adjusted for the number of phases: 0 for noise, 1 for a series that
    repeats itself exactly. `beside`: the largest share at lengths a little shorter and longer, 0 where none can be formed.
    `smoothness`: autocorrelation of the profile from one phase to the next, the epoch closed to a ring. `profile`: mean at
    each phase. `n_epochs`: how many the series spans. `length`: of the epoch, in steps.
    """

    share: float
    beside: float
    smoothness: float
    profile: FloatArray
    n_epochs: float
    length: float


def fold(step: IntArray, value: FloatArray, length: float) -> Fold | None:
    """Return a series folded over a length in steps; None with fewer than four epochs, or four points in an epoch.

    By ranks, so that single spikes weigh no more than other points, and a scale does not matter.

    `step` (n,) int64 in order, `value` (n,) float64, finite.
    """
    if not _can_be_folded(step, length):
        return None
    stride = float(np.median(np.diff(step)))
    n_epochs = float(step[-1] - step[0] + stride) / length
    rest = detrended(ranks(value), max(3, round(length / stride)))
    n_phases = int(min(round(length), MOST_PHASES, value.size / FEWEST_EPOCHS))
    own, profile = _explained(step, rest, length, n_phases)
    # a length is another when the last epoch falls a third of an epoch beside the first
    off = max(stride, length / (3.0 * n_epochs))
    others = [
        _explained(step, rest, other, n_phases)[0]
        for other in (length - off, length - 2.0 * off, length + off, length + 2.0 * off)
        if other > FEWEST_PHASES * stride
    ]
    ring = np.append(profile, profile[:1])
    smooth = robust.correlation(ring[1:], ring[:-1])
    return Fold(own, max(others, default=0.0), smooth, profile, n_epochs, length)


def _refined(step: IntArray, value: FloatArray, lag: int) -> float:
    """Return the whole number of steps near a lag in points at which the series folds best."""
    stride = float(np.median(np.diff(step)))
    near = np.unique(np.round(np.linspace((lag - 1) * stride, (lag + 1) * stride, 21)))
    rest = detrended(ranks(value), max(3, lag))
    n_phases = int(min(lag * stride, MOST_PHASES, value.size / FEWEST_EPOCHS))
    shares = [_explained(step, rest, length, n_phases)[0] for length in near]
    best = int(np.argmax(shares))
    return float(near[best]) if shares[best] > 0.0 else lag * stride


def ranks(value: FloatArray) -> FloatArray:
    """Return each value's place among all, 0 to 1: single large ones weigh no more than others."""
    return np.argsort(np.argsort(value, kind="stable"), kind="stable") / max(1.0, value.size - 1.0)


def detrended(value: FloatArray, window: int) -> FloatArray:
    """Return the series less its running mean over `window` points: over one epoch, what comes again is left whole."""
    if value.size < 3:
        return value - value.mean() if value.size else value
    window = min(window, value.size)
    padded = np.pad(value, (window // 2, window - window // 2), mode="edge")
    total = np.cumsum(padded)
    return value - (total[window:] - total[:-window])[: value.size] / window


class PhasePeak(NamedTuple):
    """The one place of the epoch at which a series is highest in most epochs.

    `height`: over the level of the epoch, a ratio. `distance`: from the middle of the profile, in standard deviations of its
    other phases. `second`: the same of the next highest phase. `phase`: the place, 0 to 1. `step`: its first step in the log.
    """

    height: float
    distance: float
    second: float
    phase: float
    step: int


def phase_peak(step: IntArray, value: FloatArray, length: float) -> PhasePeak | None:
    """Return the highest phase of a positive series, by the median over the epochs; None where it cannot be folded.

    A spike in one epoch alone raises no median. `step` (n,) int64 in order, `value` (n,) float64, finite, above 0.
    """
    if not _can_be_folded(step, length) or not np.all(value > 0.0):
        return None
    log = np.log(value)
    stride = float(np.median(np.diff(step)))
    rest = log - robust.running_median(log, max(5, 2 * round(length / stride) + 1))
    n_phases = int(min(round(length), MOST_PHASES, value.size / FEWEST_EPOCHS))
    phase = _phases(step, length, n_phases)
    by_phase = np.lexsort((rest, phase))
    bounds = np.searchsorted(phase[by_phase], np.arange(n_phases + 1))
    count = np.diff(bounds)
    known = np.flatnonzero(count >= 3)
    if known.size < FEWEST_PHASES:
        return None
    # the lower of the two middle values: at least half of the epochs are as high
    profile = rest[by_phase][bounds[known] + (count[known] - 1) // 2]
    high = np.argsort(profile)[::-1]
    middle, noise = float(np.median(profile)), robust.spread(profile)
    noise = max(noise, 0.25 * robust.spread(rest) / np.sqrt(float(np.median(count[known]))), 1e-9)
    place = int(known[high[0]])
    return PhasePeak(
        float(np.exp(profile[high[0]] - middle)),
        float(profile[high[0]] - middle) / noise,
        float(profile[high[1]] - middle) / noise,
        (place + 0.5) / n_phases,
        int(step[np.flatnonzero(phase == place)[0]]),
    )


def _can_be_folded(step: IntArray, length: float) -> bool:
    """Whether there are four epochs, and four points in each."""
    if step.size < FEWEST_EPOCHS * FEWEST_PHASES or not length > 1.0:
        return False
    stride = float(np.median(np.diff(step)))
    return float(step[-1] - step[0] + stride) / length >= FEWEST_EPOCHS and length / stride >= FEWEST_PHASES


def _phases(step: IntArray, length: float, n_phases: int) -> IntArray:
    """Return the phase of each step, 0 to `n_phases` - 1."""
    place = ((step - step[0]) % length) / length * n_phases + 1e-9
    return np.asarray(np.minimum(place, n_phases - 1.0), dtype=np.int64)


def _explained(step: IntArray, rest: FloatArray, length: float, n_phases: int) -> tuple[float, FloatArray]:
    """Return the adjusted share of the variance that the phase explains, and the mean at each phase."""
    phase = _phases(step, length, n_phases)
    count = np.bincount(phase, minlength=n_phases)
    with np.errstate(divide="ignore", invalid="ignore"):
        profile = np.bincount(phase, weights=rest, minlength=n_phases) / count
    profile = np.where(count > 0, profile, 0.0)
    total = float(np.sum((rest - rest.mean()) ** 2))
    left = float(np.sum((rest - profile[phase]) ** 2))
    n, k = rest.size, int((count > 0).sum())
    if not total > 0.0 or n <= k:
        return 0.0, profile
    return max(0.0, 1.0 - (left / (n - k)) / (total / (n - 1))), profile


class Spikes(NamedTuple):
    """Isolated spikes of a series, and how they lie in the epochs.

    `step` (n,): at which each begins. `height` (n,): over the level around it. `width`: steps from its begin until the series
    is back among its noise, median. `n_epochs`: epochs from the first to the last spike. `same_phase`: share of the spikes at
    one place of the epoch. `phase`: that place, 0 to 1. `chance`: the probability that as many spikes, anywhere, reach as many
    of the epochs: small where they come once in each. `length`: of the epoch in steps; NaN where no epoch is known, and then
    the last five are NaN, too.
    """

    step: IntArray
    height: FloatArray
    width: float
    n_epochs: float
    same_phase: float
    phase: float
    chance: float
    length: float


def isolated_spikes(step: IntArray, value: FloatArray, epoch: float | None, *, least: float = 1.1, skip: float = 0.02) -> Spikes:
    """Return the spikes of a positive series that rise at once and go back soon, above eight standard deviations of its noise.

    `step` (n,) int64 in order, `value` (n,) float64, finite, above 0: spikes are told on a log scale. `epoch`: steps in one.
    `least`: height over the level around it from which a spike counts. `skip`: share of the points at the beginning in which
    nothing counts.
    """
    none = np.zeros(0, dtype=np.int64)
    if value.size < 24:
        return Spikes(none, np.zeros(0), *(float("nan"),) * 6)
    log = np.log(value)
    window = max(7, value.size // 40)
    middle = robust.running_median(log, window)
    rest = log - middle
    noise = robust.running_median(np.abs(rest), max(31, value.size // 8)) * robust.MAD_TO_SIGMA
    high = rest > np.maximum(8.0 * noise, np.log(least))
    high[: int(skip * value.size)] = False
    begin = np.flatnonzero(high & ~np.concatenate([[False], high[:-1]]))
    back = rest < np.maximum(3.0 * noise, 0.05)
    ends = np.flatnonzero(back)
    stop = np.append(ends, value.size - 1)[np.searchsorted(ends, begin)]
    # what is not back before the next begins is the same disturbance
    fresh = np.concatenate([[True], begin[1:] >= stop[:-1]]) if begin.size else np.zeros(0, dtype=bool)
    begin, stop = begin[fresh], stop[fresh]
    height = np.array([np.exp(rest[b : max(s, b + 1)].max()) for b, s in zip(begin, stop, strict=True)])
    stride = float(np.median(np.diff(step)))
    width = float(np.median(step[stop] - step[begin])) if begin.size else float("nan")
    at = step[begin]
    if epoch is None or begin.size < 2 or not epoch > 1.0:
        return Spikes(at, height, width, *(float("nan"),) * 5)
    place = (at % epoch) / epoch
    reach = max(1.5 * stride, 1.5) / epoch
    apart = np.abs(place[:, None] - place[None, :])
    near = np.minimum(apart, 1.0 - apart) <= reach
    best = int(np.argmax(near.sum(axis=1)))
    number = np.floor(at / epoch).astype(np.int64)
    counts = np.bincount(number - number[0])
    return Spikes(
        at,
        height,
        width,
        float(counts.size),
        float(near[best].mean()),
        float(place[best]),
        spread_chance(at.size, counts.size, int((counts > 0).sum())),
        epoch,
    )


def spread_chance(n: int, n_boxes: int, reached: int) -> float:
    """Return the probability that n balls thrown at random reach at least so many of the boxes, by the normal approximation.

    Source: Feller 1968, An introduction to probability theory and its applications, vol. 1, section IV.2 (occupancy).
    """
    if n_boxes < 2:
        return 1.0
    empty = (1.0 - 1.0 / n_boxes) ** n
    mean = n_boxes * (1.0 - empty)
    variance = n_boxes * (n_boxes - 1) * (1.0 - 2.0 / n_boxes) ** n + n_boxes * empty - (n_boxes * empty) ** 2
    if not variance > 1e-12:
        return 1.0
    return 0.5 * erfc((reached - mean) / sqrt(2.0 * variance))


class Epochs:
    """What comes again in every epoch of a run; `length` is None where nothing tells how long one is."""

    def __init__(self, m: Measurements) -> None:
        self._m = m

    @cached_property
    def lengths(self) -> tuple[EpochLength, ...]:
        """What an epoch may be long, the surest first."""
        return epoch_lengths(self._m.run)

    @property
    def length(self) -> EpochLength | None:
        """The surest length of an epoch."""
        return self.lengths[0] if self.lengths else None

    @cached_property
    def fold(self) -> Fold | None:
        """The training loss folded over the epoch; None where it cannot be."""
        return None if self.length is None else fold(self._m.loss.step, self._m.loss.value, self.length.steps)

    @cached_property
    def peak(self) -> PhasePeak | None:
        """The phase at which the training loss is highest in most epochs; None where it cannot be folded, or is not positive."""
        return None if self.length is None else phase_peak(*self._positive, self.length.steps)

    @cached_property
    def spikes(self) -> Spikes:
        """The isolated spikes of the training loss and how they lie in the epochs."""
        return isolated_spikes(*self._positive, None if self.length is None else self.length.steps)

    @cached_property
    def swing(self) -> float:
        """Standard deviation of the training loss within an epoch, trend taken away, over the first loss: the median epoch.

        The first epoch is left out. NaN where the loss cannot be folded, or began at 0.
        """
        made, loss = self.fold, self._m.loss
        if made is None or loss.value[0] == 0.0:
            return float("nan")
        rest = detrended(loss.value, max(3, round(made.length / loss.stride)))
        number = ((loss.step - loss.step[0]) // made.length).astype(np.int64)
        count = np.maximum(np.bincount(number), 1)
        mean = np.bincount(number, weights=rest) / count
        variance = np.bincount(number, weights=(rest - mean[number]) ** 2) / count
        return float(np.sqrt(np.median(variance[1:]))) / abs(float(loss.value[0]))

    @cached_property
    def gradient_growth(self) -> float:
        """Rank correlation of the folded gradient norm with the place in the epoch: 1 where it only grows; NaN if unknown.

        Near 1 where gradients add up over an epoch, near 0 where the batches of an epoch differ.
        """
        if self.length is None or not self._m.has("grad_norm"):
            return float("nan")
        grad = self._m.grad_norm
        made = fold(grad.step, grad.value, self.length.steps)
        return float("nan") if made is None or made.share < 0.3 else order(made.profile)

    @property
    def restarts_the_rate(self) -> bool:
        """Whether the learning rate comes again with the epoch, so that the loss has to."""
        if self.length is None or not self._m.has("learning_rate"):
            return False
        rate = self._m.learning_rate
        made = fold(rate.step, rate.value, self.length.steps)
        return made is not None and made.share > 0.5 and made.beside < 0.5 * made.share

    @cached_property
    def gradient_spikes(self) -> Spikes:
        """The isolated spikes of the gradient norm, three times the level around them or more, and how they lie in the epochs."""
        grad = self._m.grad_norm
        above = grad.value > 0.0
        return isolated_spikes(grad.step[above], grad.value[above], None if self.length is None else self.length.steps, least=3.0)

    @property
    def _positive(self) -> tuple[IntArray, FloatArray]:
        above = self._m.loss.value > 0.0
        return self._m.loss.step[above], self._m.loss.value[above]

    def gradient_at(self, step: IntArray) -> float:
        """Return the gradient norm over its running median at given steps or one point before, median; NaN where not logged."""
        if not self._m.has("grad_norm") or not step.size or self._m.grad_norm.n < 8:
            return float("nan")
        grad = self._m.grad_norm
        usual = robust.running_median(grad.value, max(7, grad.n // 40))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = grad.value / usual
        at = np.clip(np.searchsorted(grad.step, step, side="right") - 1, 1, grad.n - 1)
        seen = np.maximum(ratio[at], ratio[at - 1])
        return float(np.median(seen[np.isfinite(seen)])) if np.isfinite(seen).any() else float("nan")

    def rate_rises_at(self, step: IntArray) -> bool:
        """Whether the learning rate rises by half within two logged points of most of the given steps."""
        if not self._m.has("learning_rate") or not step.size or self._m.learning_rate.n < 4:
            return False
        rate: SeriesMeasurements = self._m.learning_rate
        raised = rate.step[1:][rate.value[1:] > 1.5 * rate.value[:-1]]
        if not raised.size:
            return False
        near = np.min(np.abs(step[:, None] - raised[None, :]), axis=1) <= 2.0 * max(rate.stride, self._m.loss.stride)
        return bool(np.mean(near) > 0.5)

    @property
    def clip_bound(self) -> float:
        """The 90th percentile of the logged gradient norm, two digits; NaN where none was logged."""
        return float(f"{np.quantile(self._m.grad_norm.value, 0.9):.2g}") if self._m.has("grad_norm") else float("nan")
