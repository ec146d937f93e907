"""One step up of a level that stays: where it is, how sudden, and whether anything else moves with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.signals import robust

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, IntArray
    from traindoctor.signals.measurements import Measurements

#: Points of a long series that a step is looked for in: medians over equal stretches.
SEEN = 400
#: Points below which there is no room on both sides of a step.
FEWEST = 14
#: Points right after a step in which it may overshoot.
NEXT = 10
#: Points on each side of a step, as a share of the series and at least.
SIDE, LEAST = 0.1, 4


class Shift(NamedTuple):
    """The largest step up of a positive series.

    `step`: the first one of the higher level. `size`: log of the level after over the level before. `clear`: that over the
    standard deviation of such rises elsewhere in the series, or of the noise before it. `sudden`: share of the size that comes
    within two points. `kept`: share of the size by which the last tenth still lies above the level before. `left`: share of
    the run that comes after. `before`, `after`: the levels. `points`: logged ones that come after. `overshoot`: the highest of
    the next ten points over the level after. `climb`: how many points in a row rise, one above the other, ahead of the largest
    rise of all; `climbed`: the log of the last of them over the first.
    """

    step: int
    size: float
    clear: float
    sudden: float
    kept: float
    left: float
    before: float
    after: float
    points: int
    overshoot: float
    climb: int
    climbed: float


def largest_shift(step: IntArray, value: FloatArray) -> Shift | None:
    """Return the largest step up within the middle 80 % of a positive series; None below 14 points, or where none goes up.

    `step` (n,) int64 in order, `value` (n,) float64, finite, above 0.
    """
    if value.size < FEWEST or not np.all(value > 0.0):
        return None
    each = -(-value.size // SEEN)
    n = value.size // each
    log = np.log(value)
    # the end of the series is kept whole, its first points fall away
    log, at = log[value.size - n * each :], step[value.size - n * each :: each]
    seen = np.median(log.reshape(n, each), axis=1) if each > 1 else log
    side = max(LEAST, int(SIDE * n))
    if n < 3 * side:
        return None
    middle = np.median(np.lib.stride_tricks.sliding_window_view(seen, side), axis=1)
    rise = middle[side:] - middle[:-side]  # rise[i]: from seen[i : i + side] to seen[i + side : i + 2 * side]
    place = np.arange(rise.size) + side
    inner = (place >= 0.1 * n) & (place <= 0.92 * n)
    if not inner.any():
        return None
    high = float(rise[inner].max())
    if not high > 0.0:
        return None
    # of the places with about the largest rise, the one with the largest jump between neighbours of three points
    near = place[inner & (rise >= 0.8 * high)]
    few = np.array([np.median(seen[k : k + 3]) - np.median(seen[k - 3 : k]) for k in near])
    k = int(near[np.argmax(few)])
    before, after = float(np.median(seen[k - side : k])), float(np.median(seen[k : k + side]))
    size = after - before
    if not size > 0.0:
        return None
    others = rise[np.abs(place - k) > side]
    noise = robust.spread(seen[k - side : k]) * np.sqrt(np.pi / side)
    # a fall elsewhere is training; the upper quartile of the rises is two thirds of their standard deviation
    typical = max(1.5 * float(np.quantile(np.maximum(others, 0.0), 0.75)) if others.size >= LEAST else 0.0, noise, 1e-9)
    end = float(np.median(seen[-max(3, n // 10) :]))
    climb, climbed = _climb(seen[: k + NEXT])
    return Shift(
        int(at[k]),
        size,
        size / typical,
        float(few.max()) / size,
        (end - before) / size,
        1.0 - k / n,
        float(np.exp(before)),
        float(np.exp(after)),
        (n - k) * each,
        float(np.exp(seen[k : k + NEXT].max() - after)),
        climb,
        climbed,
    )


def _climb(seen: FloatArray) -> tuple[int, float]:
    """Return how many points rise in a row up to the foot of the largest rise of a series' last points, and by how much.

    What grows by itself does so over several points; other data come at once.
    """
    rise = np.diff(seen)
    foot = rise.size - 2 * NEXT + int(np.argmax(rise[-2 * NEXT :])) if rise.size > 2 * NEXT else int(np.argmax(rise))
    falls = np.flatnonzero(rise[:foot] <= 0.0)
    start = int(falls[-1]) + 1 if falls.size else 0
    return foot - start, float(seen[foot] - seen[start])


class Beside(NamedTuple):
    """What else did at a shift; NaN where it was not logged.

    `validation`, `rate`, `batch`: log of the level after it over the level before. `held_share`: rise of the
    validation loss over that of the training loss. `gradient_led`: largest gradient norm in the ten points before over its
    median.
    """

    validation: float
    held_share: float
    rate: float
    gradient_led: float
    batch: float


def beside(m: Measurements, shift: Shift) -> Beside:
    """Return what validation loss, gradient norm and learning rate did at a shift of the training loss."""
    led = float("nan")
    if m.has("grad_norm"):
        earlier = m.grad_norm.value[m.grad_norm.step < shift.step][-10:]
        usual = m.grad_norm.value[m.grad_norm.step < shift.step][-60:]
        led = float(earlier.max() / np.median(usual)) if usual.size and np.median(usual) > 0.0 else led
    reach = max(1.0, SIDE * float(m.loss.step[-1] - m.loss.step[0]))
    held, rate, batch = (_levels(m, q, shift.step, reach) for q in ("val_loss", "learning_rate", "batch_size"))
    share = (held[1] - held[0]) / (shift.after - shift.before)
    return Beside(_log_ratio(held), share, _log_ratio(rate), led, _log_ratio(batch))


def _levels(m: Measurements, quantity: str, step: int, reach: float) -> tuple[float, float]:
    """Return the medians of a quantity soon before and soon after a step; NaN where one was not logged."""
    if not m.has(quantity):
        return float("nan"), float("nan")
    one = m.series(quantity)
    early = one.value[(one.step < step) & (one.step >= step - 2.0 * reach)][-5:]
    late = one.value[(one.step >= step) & (one.step < step + 2.0 * reach)]
    late = late[:5] if quantity == "learning_rate" else late
    if not early.size or not late.size:
        return float("nan"), float("nan")
    return float(np.median(early)), float(np.median(late))


def _log_ratio(levels: tuple[float, float]) -> float:
    """Return the log of the second level over the first; NaN where one is not above 0."""
    return float(np.log(levels[1] / levels[0])) if min(levels) > 0.0 else float("nan")
