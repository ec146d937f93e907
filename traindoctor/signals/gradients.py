"""What the handling of gradients leaves in the norms: sawtooth, pile-up, clipping, bursts, the share of a loss scale.

Pure functions of arrays. Steps are (n,) int64 in rising order, values (n,) float64 and finite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.signals import robust
from traindoctor.signals.periodicity import detrended
from traindoctor.signals.second_moment import second_moment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from traindoctor.model import FloatArray, IntArray, OptimizerSpec
    from traindoctor.signals.layers import Layers
    from traindoctor.signals.measurements import Measurements, SeriesMeasurements

#: Points looked at when a period is searched, and the longest period in steps: a search costs their product.
SEARCHED_POINTS = 1500
SEARCHED_LENGTH = 400
#: Teeth below which a sawtooth of a known length is none, and one whose length is searched.
FEWEST_TEETH, FEWEST_FOUND = 2.5, 4
#: Range of the logarithm of a norm that is constant but for rounding.
FLAT = 1e-9


# -- a sum that is cleared once in an epoch ----------------------------------------------------------------------------


class Sawtooth(NamedTuple):
    """A gradient norm that grows from the start of each tooth as a power of the steps, and falls back.

    `length`: of a tooth, in steps. `share`: of the variance of log norm about its trend that the teeth explain. `beside`: the
    largest such share at lengths a little shorter and longer. `power`: of the growth: 0.5 for a sum of independent gradients,
    1 for one of equal ones. `n_teeth`: how many the log spans.
    """

    length: float
    share: float
    beside: float
    power: float
    n_teeth: float


def sawtooth(step: IntArray, norm: FloatArray, lengths: Iterable[float] = ()) -> Sawtooth | None:
    """Return the clearest sawtooth of a gradient norm; None where there are too few points, teeth, or positive values.

    `lengths`: what a tooth may be long, in steps; without any every whole number is tried. Teeth begin at step 0, or at 1
    where steps are counted from 1. Norms that are 0 are left out.
    """
    keep = norm > 0.0
    step, log = step[keep], np.log(norm[keep])
    if step.size < 16:
        return None
    stride = float(np.median(np.diff(step)))
    span = float(step[-1] - step[0]) + stride
    asked = [length for length in lengths if 3.0 <= length <= span / FEWEST_TEETH]
    if not asked:
        found = _searched(step[:SEARCHED_POINTS], log[:SEARCHED_POINTS], stride)
        if found is None:
            return None
        asked = [found]
    best: Sawtooth | None = None
    for length in asked:
        share, power = _teeth(step, log, length, stride)
        if best is None or share > best.share:
            off = max(1.0, length * length / (3.0 * span))
            beside = max(_teeth(step, log, length + d, stride)[0] for d in (-2.0 * off, -off, off, 2.0 * off))
            best = Sawtooth(length, share, beside, power, span / length)
    return best


def _phase(step: IntArray, length: float) -> FloatArray:
    """Return the logarithm of the steps since the tooth began, its first step counted as 1."""
    since = np.mod(step - min(1, int(step[0])), length)
    return np.asarray(np.log1p(np.floor(since + 1e-9)))


def _teeth(step: IntArray, log: FloatArray, length: float, stride: float) -> tuple[float, float]:
    """Return the share of the variance that teeth of a length explain, 0 where they go down, and the power of the growth."""
    if length < 3.0:
        return 0.0, 0.0
    window = max(3, round(length / stride))
    x, y = detrended(_phase(step, length), window), detrended(log, window)
    together = robust.correlation(x, y)
    if not together > 0.0 or np.ptp(y) < FLAT:
        return 0.0, 0.0
    return together**2, together * float(np.std(y) / np.std(x))


def _searched(step: IntArray, log: FloatArray, stride: float) -> float | None:
    """Return the length of the clearest teeth among all whole numbers of steps; None where none can be told."""
    longest = int(min(SEARCHED_LENGTH, (step[-1] - step[0]) / FEWEST_FOUND))
    shortest = max(4, round(1.5 * stride))
    if longest <= shortest:
        return None
    time = np.linspace(-1.0, 1.0, step.size)
    trend = np.stack([time**k for k in range(6)])
    basis, _ = np.linalg.qr(trend.T)
    rest = log - basis @ (basis.T @ log)
    total = float(np.sqrt(rest @ rest))
    if np.ptp(rest) < FLAT:
        return None
    best, found = 0.0, None
    for length in range(shortest, longest + 1):
        x = _phase(step, float(length))
        x = x - basis @ (basis.T @ x)
        norm = float(np.sqrt(x @ x))
        together = float(x @ rest) / (norm * total) if norm > 1e-9 else 0.0
        if together > best:
            best, found = together, float(length)
    return found


class Resets(NamedTuple):
    """How a gradient norm falls where epochs begin.

    `share`: of the boundaries at which the largest fall from one logged point to the next, within half an epoch on each side,
    is the one across the boundary. `drop`: its median, as a factor. `over_noise`: log of the drop over the median change from
    point to point. `rise`: largest rise from one point to the next within an epoch, median, over the drop, in logarithms:
    near 1 where the norm goes up at once. `n`: boundaries. `points`: logged points of an epoch; by chance the share is one over
    it.
    """

    share: float
    drop: float
    over_noise: float
    rise: float
    n: int
    points: float


def resets(step: IntArray, norm: FloatArray, length: float) -> Resets | None:
    """Return what a norm does at the boundaries of epochs; None with fewer than three, or four points in an epoch.

    Unlike the share of a sawtooth this does not mind a norm that goes up and down within the epoch, or grows all along.
    """
    keep = norm > 0.0
    step, change = step[keep][1:], np.diff(np.log(norm[keep]))
    if change.size < 12 or not length > 1.0:
        return None
    stride = float(np.median(np.diff(step)))
    points = length / stride
    epoch = np.floor((step - min(1, int(step[0] - stride))) / length + 1e-9)
    across = np.flatnonzero(np.diff(epoch) > 0.0) + 1
    half = int(points / 2.0)
    across = across[(across >= half) & (across + half < change.size)]
    if across.size < 3 or points < 4.0:
        return None
    around = np.lib.stride_tricks.sliding_window_view(change, 2 * half + 1)[across - half]
    drop = -float(np.median(change[across]))
    noise = float(np.median(np.abs(change)))
    over = drop / noise if noise > 0.0 else float("inf")
    share = float(np.mean(change[across] <= around.min(axis=1)))
    rise = float(np.median(around.max(axis=1))) / drop if drop > 0.0 else float("inf")
    return Resets(share, float(np.exp(min(drop, 300.0))), over, rise, across.size, points)


# -- a sum that is never cleared ---------------------------------------------------------------------------------------


class PileUp(NamedTuple):
    """How a gradient norm goes with the step count over the whole run.

    `power`: slope of log norm over log of the steps taken: 1 for a sum of equal gradients. `scatter`: distance from that law
    in decades, by the median absolute deviation. `grown`: last level over the first one.
    """

    power: float
    scatter: float
    grown: float


def pile_up(step: IntArray, norm: FloatArray) -> PileUp | None:
    """Return how a norm piles up; None below eight positive values."""
    keep = norm > 0.0
    if keep.sum() < 8:
        return None
    x, y = np.log10(step[keep] + 1.0), np.log10(norm[keep])
    power = robust.slope(x, y)
    n = y.size
    grown = float(np.median(y[-max(3, n // 10) :]) - np.median(y[: max(1, n // 50)]))
    return PileUp(power, robust.spread(y - power * x), float(10.0 ** min(grown, 300.0)))


#: Steps in which gradients of one network still agree, so that their sum grows by a law; points of them that are looked at.
FIRST_STEPS, FIRST_POINTS = 20, 5


class FirstSteps(NamedTuple):
    """How a gradient norm goes in the first steps, as a power of the number of gradients that a sum would hold.

    `lowest`, `highest`: of the powers log(G(t) / G(0)) / log(t + 1) at the first points. `n`: how many points.
    """

    lowest: float
    highest: float
    n: int


def first_steps(step: IntArray, norm: FloatArray) -> FirstSteps | None:
    """Return how a norm begins; None where the first step, or any other of the first twenty, was not logged."""
    if norm.size < 3 or step[0] > 1 or not norm[0] > 0.0:
        return None
    since = step - step[0]
    near = slice(1, 1 + min(FIRST_POINTS, int(np.count_nonzero(since <= FIRST_STEPS)) - 1))
    with np.errstate(divide="ignore"):
        power = np.log(norm[near] / norm[0]) / np.log(since[near] + 1.0)
    return FirstSteps(float(power.min()), float(power.max()), int(power.size)) if power.size else None


# -- what a clip leaves ------------------------------------------------------------------------------------------------


class Clipping(NamedTuple):
    """What a bound on the gradient norm does.

    `bound`: of the norm. `share`: of the steps that it cuts, NaN where norms before the clip were not logged. `left`: bound
    over the norm, median over all steps, 1 where it cuts nothing; NaN as above. `is_pinned`: whether the log shows the norm
    after the clip, and most of it stands at the bound.
    """

    bound: float
    share: float
    left: float
    is_pinned: bool


def clipping(norm: FloatArray, bound: float | None) -> Clipping | None:
    """Return what a clip does; None where no bound is set, or seen as the height at which half of the norms stand.

    `norm`: as logged, before or after the clip. `bound`: as set, None where nothing tells.
    """
    if norm.size >= 8:
        top = float(norm.max())
        pinned = float(np.mean(norm > 0.995 * top))
        if pinned > 0.5 and float(np.ptp(norm)) > 0.0 and (bound is None or abs(top - bound) < 0.01 * bound):
            return Clipping(top, pinned, float("nan"), True)
    if bound is None or not bound > 0.0:
        return None
    if norm.size < 4 or not float(norm.max()) > 1.01 * bound:
        return Clipping(bound, 0.0 if norm.size >= 4 else float("nan"), 1.0 if norm.size >= 4 else float("nan"), False)
    left = np.minimum(1.0, bound / np.maximum(norm, 1e-300))
    return Clipping(bound, float(np.mean(left < 0.99)), float(np.median(left)), False)


def reach(step: IntArray, lr: FloatArray, entering: FloatArray, momentum: float) -> float:
    """Return how far plain descent can have moved the weights in all: the sum of the norms of its updates.

    `lr`, `entering` (norm of the gradient that enters the optimizer): at the steps. Gaps between logged steps count with the
    last value before them. Momentum lengthens the way by at most 1 / (1 - momentum).
    """
    if not step.size:
        return float("nan")
    gaps = np.append(np.diff(step), 1) if step.size > 1 else np.ones(1)
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sum(lr * entering * gaps)) / max(1e-3, 1.0 - momentum)


# -- isolated large gradients ------------------------------------------------------------------------------------------


class Bursts(NamedTuple):
    """Isolated gradients that are many times as large as those around them.

    `steps`: at which they were logged. `times`: median of their size over the running median. `sudden`: share of them before
    which the norm was at most three times as large as usual. `follows`: share of them at which the loss stands far above its
    own surroundings at the same or the next logged point. `after`: median, over the bursts, of the loss at the first three
    points behind them over that before them: above 1 where they did harm. `off_clock`: how far their gaps are from whole
    multiples of the smallest one, mean, over it: 0 for a clock that may miss a beat, about 0.25 for chance; NaN below four gaps.
    """

    steps: IntArray
    times: float
    sudden: float
    follows: float
    after: float
    off_clock: float


def bursts(step: IntArray, norm: FloatArray, loss_step: IntArray, loss: FloatArray, times: float) -> Bursts | None:
    """Return the points at which a norm is `times` its running median; None where there are none, or more than one in ten.

    Neighbouring points are one burst. The loss may be logged at other steps.
    """
    n = norm.size
    if n < 32 or loss.size < 8:
        return None
    size = _over_level(norm)
    high = np.flatnonzero(np.isfinite(size) & (size > times))
    if not high.size or high.size > n // 10:
        return None
    at = high[np.append(True, np.diff(high) > 2)]
    around = robust.running_median(loss, max(9, min(51, loss.size // 8)))
    noise = robust.spread(loss - around)
    follows, after = [], []
    for p in np.searchsorted(loss_step, step[at]).tolist():
        jump = float(np.max(loss[p : p + 2] - around[p : p + 2], initial=-np.inf))
        follows.append(jump > max(6.0 * noise, 0.2 * abs(float(around[min(p, loss.size - 1)]))))
        before, behind = loss[max(0, p - 6) : p], loss[p + 1 : p + 4]
        if before.size >= 3 and behind.size >= 2 and np.median(before) > 0.0:
            after.append(float(np.median(behind) / np.median(before)))
    gaps = np.diff(step[at]).astype(np.float64)
    return Bursts(
        step[at],
        float(np.median(size[high])),
        float(np.mean(size[np.maximum(at - 1, 0)] <= 3.0)),
        float(np.mean(follows)),
        float(np.median(after)) if after else float("nan"),
        _off_clock(gaps),
    )


def _off_clock(gaps: FloatArray) -> float:
    if gaps.size < 4:
        return float("nan")
    beats = gaps / gaps.min()
    return float(np.mean(np.abs(beats - np.round(beats))))


def spread_over_epochs(steps: IntArray, length: float) -> float:
    """Return the variance of the number of bursts in an epoch over its mean, from the first epoch with one on: 1 for chance.

    0 for the same number in each, as where certain rows are bad. NaN below five epochs, or fewer bursts than epochs.
    """
    epoch = np.floor_divide(steps, max(length, 1.0)).astype(np.int64)
    n = int(epoch[-1] - epoch[0]) if epoch.size else 0  # the last epoch may not be whole
    counts = np.bincount(epoch - epoch[0], minlength=n + 1)[:n] if n >= 5 else np.zeros(0)
    mean = float(counts.mean()) if counts.size else 0.0
    return float(counts.var() / mean) if mean >= 0.8 else float("nan")


def slowed_by_bursts(step: IntArray, norm: FloatArray, spec: OptimizerSpec, times: float) -> float:
    """Return by what factor bursts lengthen the memory of Adam's second moment, and so shorten its steps; 1 for no burst.

    Median over the run of sqrt(v) with the norms as they are, over that with those of more than `times` the running median
    brought down to it.
    """
    if norm.size < 32:
        return 1.0
    size = _over_level(norm)
    without = np.where(size > times, norm / size, norm)
    quotient = second_moment(norm, step, spec) / second_moment(without, step, spec)
    quotient = quotient[np.isfinite(quotient) & (quotient > 0.0)]
    return float(np.sqrt(np.median(quotient))) if quotient.size else 1.0


def _over_level(norm: FloatArray) -> FloatArray:
    """Return a norm over its running median; infinite or NaN where that is 0."""
    level = robust.running_median(norm, max(9, min(51, norm.size // 8)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(norm / level)


# -- a loss scale that the gradients still carry -----------------------------------------------------------------------


def carried_scale(step: IntArray, norm: FloatArray, scale_step: IntArray, scale: FloatArray) -> tuple[float, int]:
    """Return how far the gradient norm goes along when the loss scale changes, and at how many changes that was seen.

    1: the norm jumps by the factor of the scale, it carries the scale. 0: it does not, as after unscaling. NaN for no change.
    """
    if norm.size < 8 or scale.size < 2:
        return float("nan"), 0
    change = np.flatnonzero(np.diff(scale) != 0.0)
    jumps, factors = [], []
    for k in change[:200]:
        if not (scale[k] > 0.0 and scale[k + 1] > 0.0):
            continue
        before = norm[(step <= scale_step[k])][-5:]
        behind = norm[(step >= scale_step[k + 1])][:5]
        before, behind = before[before > 0.0], behind[behind > 0.0]
        if before.size >= 2 and behind.size >= 2:
            jumps.append(float(np.median(np.log(behind)) - np.median(np.log(before))))
            factors.append(float(np.log(scale[k + 1] / scale[k])))
    if not factors:
        return float("nan"), 0
    j, f = np.array(jumps), np.array(factors)
    return float(np.median(j / f)), len(factors)


# -- the first step of an epoch ----------------------------------------------------------------------------------------


def first_step_bump(step: IntArray, norm: FloatArray, length: float) -> tuple[float, float]:
    """Return the norm at the first step of an epoch over that at its other steps, and by how many standard errors it differs.

    (NaN, 0) with fewer than four first steps in the log, or four others an epoch apart.
    """
    keep = norm > 0.0
    step, log = step[keep], np.log(norm[keep])
    if step.size < 16 or length < 3.0:
        return float("nan"), 0.0
    stride = float(np.median(np.diff(step)))
    rest = detrended(log, max(3, round(length / stride)))
    first = np.mod(step - min(1, int(step[0])), round(length)) == 0
    if first.sum() < 4 or (~first).sum() < 8:
        return float("nan"), 0.0
    gap = float(np.median(rest[first]) - np.median(rest[~first]))
    error = robust.spread(rest[~first]) * 1.2533 / float(np.sqrt(first.sum()))  # of a median
    return float(np.exp(gap)), gap / error if error > 0.0 else 0.0


# -- losses that are a multiple of what they should be -----------------------------------------------------------------


class OverValidation(NamedTuple):
    """The training loss over the validation loss of the same step.

    `first`: at the first evaluation. `usual`, `late`: its median over the first and over the second half of the evaluations.
    `late_spread`: largest distance from `late` in the second half, over it. `n`: evaluations.
    """

    first: float
    usual: float
    late: float
    late_spread: float
    n: int


def over_validation(loss_step: IntArray, loss: FloatArray, val_step: IntArray, val: FloatArray) -> OverValidation | None:
    """Return how many times the validation loss the training loss is; None where either is missing or not positive.

    The training loss is its running median of five points.
    """
    if loss.size < 5 or val.size < 2:
        return None
    level = np.interp(val_step, loss_step, robust.running_median(loss, 5))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = level / val
    if not (np.all(np.isfinite(ratio)) and np.all(ratio > 0.0)):
        return None
    half = max(2, ratio.size // 2)
    late = float(np.median(ratio[-half:]))
    spread = float(np.abs(ratio[-half:] - late).max()) / late
    return OverValidation(float(ratio[0]), float(np.median(ratio[:half])), late, spread, ratio.size)


# -- weights that stand still ------------------------------------------------------------------------------------------

#: Points of a validation loss, and of a training loss, that make "exactly constant" more than an accident.
STILL_EVALUATIONS, STILL_LOSSES = 4, 8
#: Significant digits below which a number was rounded by the log, and says little by standing still.
DIGITS = 5
#: Move of the weight norm over itself, a step, that float32 (half a unit in the last place is 6e-8) cannot swallow.
VISIBLE = 1e-6


class Still(NamedTuple):
    """What shows that no weight ever moved: the quantity that is the same to the last bit, its value and number of points."""

    quantity: str
    value: float
    n: int

    @property
    def words(self) -> str:
        """The quantity as it stands in a text."""
        return {"weight_norm": "weight norm", "val_loss": "validation loss", "loss": "loss"}[self.quantity]


def stands_still(m: Measurements) -> Still | None:
    """Return what shows that no weight of a run ever moved; None where the weights move, or nothing shows it.

    The weight norm where it was logged. Else a validation loss, which is of the same data each time, or the loss of a full
    batch, that are the same to the last bit and were not rounded to a few digits.
    """
    if m.has("weight_norm"):
        norm = m.weight_norm
        return Still("weight_norm", norm.initial, norm.n) if norm.is_constant and norm.initial > 0.0 else None
    for quantity, least in (("val_loss", STILL_EVALUATIONS), ("loss", STILL_LOSSES)):
        if m.has(quantity):
            one = m.series(quantity)
            if one.n >= least and one.is_constant and not one.n_not_finite and _is_exact(one.initial):
                return Still(quantity, one.initial, one.n)
    return None


def _is_exact(value: float) -> bool:
    return value != 0.0 and float(f"{value:.{DIGITS - 1}e}") != value


def would_move(m: Measurements) -> bool:
    """Return whether a step of the run's optimizer is large enough to be seen in float32, as far as the log tells.

    Under plain descent the weights move by lr * norm of the gradient. Under Adam and its kin each by about lr, unless eps
    is above the size of its gradient, taken as a thousandth of the norm (a million equal ones). A weight norm of 10 and a
    gradient norm of 0.1 are assumed where they were not logged, the usual rate where none is known. The rate is the median of
    the logged ones.
    """
    lr = float(np.median(m.learning_rate.value)) if m.has("learning_rate") else m.peak_lr
    if lr is not None and lr <= 0.0:
        return False
    spec = m.run.optimizer
    weight = m.weight_norm.initial if m.has("weight_norm") else 10.0
    grad = float(np.median(m.entering_norm)) if m.has("grad_norm") else 0.1
    if spec is not None and spec.is_adaptive:
        rate = lr if lr is not None else m.usual_lr or 1e-3
        move = rate * grad / (grad + 1e3 * (spec.eps or 0.0)) if grad > 0.0 else 0.0
    else:
        move = (lr if lr is not None else 1e-3) * grad
    return weight > 0.0 and move / weight > VISIBLE


class StillLayers(NamedTuple):
    """Layers that stand still while others move, though they have a gradient.

    `piles`: whether the gradients of all of them grow at least `PILED` times as much over the run as those of the layers that
    move, as where nothing clears them.
    """

    names: tuple[str, ...]
    piles: bool


#: Share of the largest layer's gradient norm below which a layer has none to speak of.
SMALL_GRADIENT = 1e-3
#: Growth of a gradient norm over that of the others from which it adds up.
PILED = 4.0


def still_with_gradient(layers: Layers) -> StillLayers | None:
    """Return the layers that stand still to the last bit while others move, and have a gradient; None for none.

    Layers that were frozen on purpose have no gradient. Without gradient norms per layer there is no telling.
    """
    frozen = set(layers.frozen)
    if not frozen or not layers.has("grad_norm"):
        return None
    level, growth = layers.level("grad_norm"), layers.growth("grad_norm")
    top = float(np.nanmax(level))
    still = np.array([name in frozen for name in layers.names]) & (level > SMALL_GRADIENT * top)
    if not still.any():
        return None
    others = growth[~np.array([name in frozen for name in layers.names]) & np.isfinite(growth)]
    usual = float(np.median(others)) if others.size else 1.0
    piles = bool(np.all(growth[still] > PILED * max(usual, 1e-300)))
    return StillLayers(tuple(name for name, one in zip(layers.names, still, strict=True) if one), piles)


# -- sizes for a bound -------------------------------------------------------------------------------------------------


def way_of(m: Measurements, bound: float) -> float:
    """Return the longest way that plain descent can have moved the weights of a run under a bound of the gradient norm."""
    if m.has("grad_norm"):
        step, entering = m.grad_norm.step, np.minimum(m.grad_norm.value, bound)
    else:
        step, entering = m.loss.step, np.full(m.loss.n, bound)
    return reach(step, m.lr_at(step), entering, (m.optimizer.momentum or 0.0) if m.run.optimizer is not None else 0.0)


def usual_bound(m: Measurements) -> float | None:
    """Return a bound that cuts one step in ten, two digits; None where the log has no norms before the clip.

    Source: Godbole et al. 2023, Deep learning tuning playbook: the 90th percentile of the norm.
    """
    if not m.has("grad_norm") or m.grad_norm.n < 8:
        return None
    clip = clipping(m.grad_norm.value, None)
    top = float(np.quantile(m.grad_norm.value, 0.9))
    return float(f"{top:.1e}") if clip is None and 0.0 < top < np.inf else None


# -- a loss that stays -------------------------------------------------------------------------------------------------


def stayed(loss: SeriesMeasurements) -> float:
    """Return the share of a run in which the smoothed loss is within a twentieth of its start, from the first step on."""
    if not loss.n:
        return 0.0
    away = np.abs(loss.smooth - loss.initial) > 0.05 * abs(loss.initial)
    return float(away.argmax()) / loss.n if away.any() else 1.0


# -- slow swings of a loss ---------------------------------------------------------------------------------------------

#: Points to which a series is brought down before its swings are counted.
SWING_POINTS = 1500


class Swings(NamedTuple):
    """Rises of a loss that are slow, and larger than its noise.

    `n`: how many. `rise`: of them, median, as a factor. `points`: in which they rise, median. `over_noise`: logarithm of the
    rise over the standard deviation of the point-to-point noise of the log of the loss.
    """

    n: int
    rise: float
    points: float
    over_noise: float


def slow_swings(value: FloatArray, least: float = 0.22) -> Swings | None:
    """Return the swings of a positive loss; None below 24 positive points, or without a rise by a factor of exp(`least`).

    Turning points are those of the running median of five points of its logarithm, so that spikes are no swings; a turn
    counts when the way back is longer than `least` and than five standard deviations of the noise that is left.
    """
    value = value[value > 0.0]
    if value.size < 24:
        return None
    fold = -(-value.size // SWING_POINTS)
    log = np.log(value[: value.size // fold * fold]).reshape(-1, fold).mean(axis=1)
    level = robust.running_median(log, 5)
    noise = max(robust.step_noise(log), 1e-6)
    rises = _rises(level, max(least, 5.0 * noise / 5**0.5))
    if not rises:
        return None
    height = float(np.median([height for _, height in rises]))
    return Swings(len(rises), float(np.exp(height)), float(np.median([length for length, _ in rises])), height / noise)


def _rises(level: FloatArray, least: float) -> list[tuple[int, float]]:
    """Return points and height of each rise between turning points at least so far apart; one that goes on is none."""
    low = high = float(level[0])
    low_at = high_at = direction = 0
    rises = []
    for i, x in enumerate(level.tolist()):
        if direction >= 0:
            if x > high:
                high, high_at = x, i
            if high - x > least:
                if direction > 0:
                    rises.append((high_at - low_at, high - low))
                direction, low, low_at = -1, x, i
        if direction <= 0:
            if x < low:
                low, low_at = x, i
            if x - low > least:
                direction, high, high_at = 1, x, i
    return rises


class FirstDepth(NamedTuple):
    """How gradient norms of the weight matrices go over depth at the first logged point; see `layers.DepthTrend`.

    NaN, and `n` 0, below four matrices with a norm above 0.
    """

    factor: float
    span: float
    order: float
    n: int


def depth_at_first(layers: Layers) -> FirstDepth:
    """Return the trend at the first logged point: units that explode saturate within a few steps, and then hide it."""
    rows = layers.rows("grad_norm")
    first = rows[0][layers.matrices] if len(rows) else np.zeros(0)
    first = np.log10(first[np.isfinite(first) & (first > 0.0)])
    n = int(first.size)
    if n < 4:
        return FirstDepth(float("nan"), float("nan"), float("nan"), 0)
    slope = -robust.slope(np.arange(n, dtype=np.float64), first)
    i, j = np.triu_indices(n, k=1)
    order = float(np.mean(np.sign(first[j] - first[i])))
    factor, span = (float(10.0 ** np.clip(k * slope, -300.0, 300.0)) for k in (1, n - 1))
    return FirstDepth(factor, span, order, n)


def split_piles(layers: Layers) -> tuple[str, ...]:
    """Return the layers whose gradient norms add up while those of others do not; none where all do, or none does.

    What adds up is smooth from point to point (autocorrelation), grows as a power of the steps, by a factor of two at least,
    and more than `PILED` times as much as the layers that do not; these have the noise of the batches.
    """
    if not layers.has("grad_norm"):
        return ()
    rows, growth, level = layers.rows("grad_norm"), layers.growth("grad_norm"), layers.level("grad_norm")
    top = float(np.nanmax(level)) if np.isfinite(level).any() else 0.0
    if len(rows) < 12 or not top > 0.0:
        return ()
    smooth = np.array([robust.autocorrelation(column[np.isfinite(column)], 1) for column in rows.T])
    counts = np.isfinite(growth) & layers.matrices & (level > SMALL_GRADIENT**2 * top)
    others = counts & (growth < 2.0) & (smooth < 0.95)
    if not others.any():
        return ()
    usual = float(np.median(growth[others]))
    piles = counts & (growth > max(2.0, PILED * usual)) & (smooth > 0.985)
    if layers.has("weight_norm"):  # what no optimizer holds does not move
        frozen = layers.frozen
        return tuple(name for name, one in zip(layers.names, piles, strict=True) if one and name in frozen)
    step = np.arange(len(rows))
    laws = {k: pile_up(step, np.nan_to_num(rows[:, k])) for k in np.flatnonzero(piles).tolist()}
    return tuple(layers.names[k] for k, law in laws.items() if law is not None and law.scatter < 0.035 and 0.3 < law.power < 1.4)


def shrunken_layer(layers: Layers) -> float:
    """Return the lowest growth of the gradient norm of a weight matrix over the run, last level over first; NaN for no layers."""
    growth = layers.growth("grad_norm")[layers.matrices] if layers.has("grad_norm") else np.zeros(0)
    growth = growth[np.isfinite(growth)]
    return float(growth.min()) if growth.size else float("nan")


def layer_smoothness(layers: Layers) -> float:
    """Return the autocorrelation at one point of the gradient norm of a weight matrix, median over them; NaN below two.

    A sum of gradients is smooth in each layer; single gradients have the noise of their batches.
    """
    if not layers.has("grad_norm"):
        return float("nan")
    columns = [column[np.isfinite(column)] for column in layers.rows("grad_norm")[:, layers.matrices].T]
    smooth = [robust.autocorrelation(column, 1) for column in columns if column.size >= 12]
    return float(np.nanmedian(smooth)) if len(smooth) > 1 and np.isfinite(smooth).any() else float("nan")
