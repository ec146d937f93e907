"""What a number format leaves in a log: values that it holds exactly, overflow beside sound numbers, updates that are lost.

float16 has 11 significant bits and ends at 65504; bfloat16 has 8, so that an update below 2^-9 of a weight is lost for certain
and one below 2^-8 mostly. Source: IEEE 754-2019, binary16; Kalamkar et al. 2019, arXiv:1905.12322 (bfloat16).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import numpy as np

from traindoctor.signals.robust import running_median

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from traindoctor.model import FloatArray, IntArray, Run
    from traindoctor.signals.measurements import Measurements, SeriesMeasurements

#: Largest finite number of float16.
LARGEST_HALF = 65504.0
#: Different values that have to fit a format for that to be no accident: a float32 fits float16 once in 8,192 times.
DIFFERENT = 12
#: Whole numbers below this fit float16, and are counts more often than losses.
WHOLE = 2048.0
#: Updates below this share of a weight are lost in bfloat16 whatever the weight; below twice as much, for the larger mantissas.
LOST_BF16 = 2.0**-9
#: A cross-entropy below this, in nats, has probabilities of 0.999 and more: softmax is saturated.
SATURATED = 1e-3
#: Moves that `stillness` looks at, at least.
LEAST_MOVES = 8


class Overflow(NamedTuple):
    """Where a loss stops being finite, and what was beside it.

    `step`: of the first value that is not finite; `infinite`: whether it is an infinity, no NaN. `share`: of the values from
    there on that are not finite. `largest`: highest finite |value| of the loss. `growth`: see `growth_before`. `sound_after`: of
    gradient and weight norms from that step on, share that is finite; NaN where neither was logged. `still_moves`: whether one
    of those norms still changes.
    """

    step: int
    infinite: bool
    share: float
    largest: float
    growth: float
    sound_after: float
    still_moves: bool


class ScalePath(NamedTuple):
    """The way of a dynamic loss scale. `halvings`, `doublings`: how many powers of two it fell and rose in all.

    `peak`, `peak_step`: its highest value and the last step that has it; `lowest`, `last`. `fall`: powers of two from the peak to
    the last value. `low_step`: first step at which it is 1 or below, None when it never is. `span`: share of the run between the
    peak and the last halving. `is_static`: it never changed.
    """

    halvings: float
    doublings: float
    peak: float
    peak_step: int
    lowest: float
    last: float
    fall: float
    low_step: int | None
    span: float
    is_static: bool


class Stillness(NamedTuple):
    """How little a weight norm moves, as shares of itself.

    `moved`: largest distance from its first value. `still`: share of the moves from one logged point to the next that are exactly
    zero. `late`: median move of the last half; `early`: of the first tenth.
    """

    moved: float
    still: float
    late: float
    early: float


#: What settings say of the numbers that weights are kept in: float16, float16 for operations alone, the same of bfloat16.
_WORDS = {
    "half": frozenset({"float16", "half", "16-true", "fp16-true", "pure_fp16", "full_fp16"}),
    "mixed-half": frozenset({"16-mixed", "fp16", "amp_fp16", "16"}),
    "brain": frozenset({"bf16-true", "bfloat16", "pure_bf16", "full_bf16"}),
    "mixed-brain": frozenset({"bf16-mixed", "bf16", "amp_bf16"}),
    "single": frozenset({"32", "32-true", "fp32", "float32", "64-true", "64", "float64", "no"}),
}
Kept = Literal["half", "mixed-half", "brain", "mixed-brain", "single", ""]


def kept_in(run: Run) -> Kept:
    """Return what the settings say of the number format of a run, "" where they say nothing that is known."""
    setting = run.settings.get("precision")
    text = str(setting.value).strip().lower().removeprefix("torch.") if setting is not None else ""
    return next((cast("Kept", kept) for kept, words in _WORDS.items() if text in words), "")


def format_of(value: FloatArray) -> Literal["float16", "bfloat16", ""]:
    """Return the half-precision format that holds all of the values exactly, "" for none or too few different ones.

    Whole numbers that fit, and numbers of five bits, are not counted. What fits bfloat16 and float16 is of bfloat16.
    """
    seen = np.abs(value[np.isfinite(value)])
    some = seen[:64]  # one look at a few answers for nearly every log
    if np.any(np.minimum(some, LARGEST_HALF).astype(np.float16) != some) and not np.all(_fits(some, 8)):
        return ""
    finite = np.unique(seen)
    whole = (finite < WHOLE) & (finite == np.round(finite))
    rich = finite[(finite > 0.0) & (finite < 1e30) & ~_fits(finite, 5) & ~whole]
    if rich.size < DIFFERENT:
        return ""
    if np.all(_fits(rich, 8)):
        return "bfloat16"
    inside = rich[rich <= LARGEST_HALF]
    return "float16" if inside.size == rich.size and np.all(inside.astype(np.float16).astype(np.float64) == inside) else ""


def _fits(value: FloatArray, bits: int) -> NDArray[np.bool_]:
    """Whether each value has no more significant bits than this, as float32 holds it."""
    mantissa, _ = np.frexp(value)
    scaled = mantissa * 2.0**bits
    return np.asarray(np.abs(scaled - np.round(scaled)) < 2.0 ** (bits - 24))


#: Times its level that a single last value must be to count as growth: a loss that was lost within three logged points.
AT_ONCE = 100.0


def growth_before(value: FloatArray) -> float:
    """Return the median of the last three values over the lowest level before, NaN below four or where that is not positive.

    The last value alone counts where it is `AT_ONCE` times the level.

    The level is a running median over a fifteenth of the values, 5 to 25 of them: the luckiest batch of a noisy loss is no level.
    """
    if value.size < 4:
        return float("nan")
    window = int(np.clip(value.size // 15, 5, 25)) // 2 * 2 + 1
    inner = slice(window // 2, -(window // 2))  # the ends of a running median repeat single values
    low = float(running_median(value, window)[inner].min()) if value.size >= 2 * window else float(value.min())
    last = float(value[-1]) if value[-1] > AT_ONCE * low else float(np.median(value[-3:]))
    return last / low if low > 0.0 else float("nan")


def overflow(m: Measurements) -> Overflow | None:
    """Return where the loss is lost, None where all of it is finite and none of it a zero that stands for NaN."""
    if "loss" not in m.run.primary:
        return None
    loss = m.loss.series
    lost = ~np.isfinite(loss.value)
    if not lost.any() and any(d.kind in ("hidden-nan", "zero-for-nan") for d in m.run.damages):
        lost = loss.value == 0.0
    bad = np.flatnonzero(lost)
    if not bad.size:
        return None
    step = int(loss.step[bad[0]])
    before = loss.value[: bad[0]]
    finite = loss.value[np.isfinite(loss.value)]
    parts = [m.series(q).series for q in ("grad_norm", "weight_norm") if q in m.run.primary]
    after = [p.value[p.step >= step] for p in parts]
    seen = np.concatenate(after) if after else np.zeros(0)
    return Overflow(
        step,
        bool(np.isinf(loss.value[bad[0]])),
        float(np.mean(lost[bad[0] :])),
        float(np.abs(finite).max()) if finite.size else float("nan"),
        growth_before(before),
        float(np.isfinite(seen).mean()) if seen.size else float("nan"),
        any(v.size >= 3 and np.isfinite(v).all() and np.ptp(v) > 0.0 for v in after),
    )


def scale_path(scale: SeriesMeasurements) -> ScalePath | None:
    """Return the way of a loss scale, None where fewer than two positive values were logged."""
    keep = scale.value > 0.0
    step, value = scale.step[keep], scale.value[keep]
    if value.size < 2:
        return None
    power = np.log2(value)
    move = np.diff(power)
    top = int(value.size - 1 - np.argmax(value[::-1]))
    down = np.flatnonzero(move < 0.0)
    low = np.flatnonzero(value <= 1.0)
    length = max(1.0, float(step[-1] - step[0]))
    return ScalePath(
        float(-move[move < 0.0].sum()),
        float(move[move > 0.0].sum()),
        float(value[top]),
        int(step[top]),
        float(value.min()),
        float(value[-1]),
        float(power[top] - power[-1]),
        int(step[low[0]]) if low.size else None,
        float(step[down[-1] + 1] - step[top]) / length if down.size and step[down[-1] + 1] > step[top] else 0.0,
        bool(np.all(value == value[0])),
    )


def stillness(weight: SeriesMeasurements) -> Stillness | None:
    """Return how little a weight norm moves, None below eight moves or for a norm of 0."""
    value = weight.value
    if value.size <= LEAST_MOVES or not value[0] > 0.0:
        return None
    move = np.abs(np.diff(value)) / value[:-1].clip(min=1e-300)
    return Stillness(
        weight.relative_change,
        float(np.mean(move == 0.0)),
        float(np.median(move[move.size // 2 :])),
        float(np.median(move[: max(3, move.size // 10)])),
    )


def slingshots(loss: SeriesMeasurements) -> IntArray:
    """Return the steps at which a loss that was almost 0 shoots up, to come down again: (k,), often none.

    Almost 0: three logged points in a row below 1e-5 of the first loss, and of 1. Up: above a thousandth of the first loss, which
    is what a log of every fiftieth step still sees of it. The last one need not have come down. Source of the pattern: Thilak
    et al. 2022, arXiv:2206.04817, figure 1.
    """
    if loss.n < 2 or loss.positive_share < 0.25 or not loss.initial > 0.0:
        return loss.step[:0]
    start = max(loss.initial, float(loss.value[0]))
    low = loss.value < 0.01 * SATURATED * min(1.0, start)
    calm = low & np.roll(low, 1) & np.roll(low, 2)
    calm[:2] = False
    state = np.where(loss.value > SATURATED * start, 1, np.where(calm, -1, 0))
    known = np.flatnonzero(state)
    turns = known[1:][(state[known][1:] == 1) & (state[known][:-1] == -1)]
    return np.asarray(loss.step[turns], dtype=np.int64)


def jumps_with(series: SeriesMeasurements, steps: IntArray, within: float) -> float:
    """Return the share of steps around which a series moves five times as far, in `within` steps, as it usually does."""
    if not steps.size or series.n < 20:
        return float("nan")
    at = np.arange(series.step[0], series.step[-1], max(1.0, within))
    if at.size < 5:
        return float("nan")

    def moves(start: FloatArray) -> FloatArray:
        before, after = (np.interp(start + k * within, series.step, series.value) for k in (-0.5, 1.0))
        return np.abs(after - before)

    return float(np.mean(moves(steps.astype(np.float64)) > 5.0 * np.median(moves(at))))


def share_that_arrives(m: Measurements) -> float:
    """Return the update of a layer over lr times its gradient, median over the layers; NaN where one of the three is missing.

    Update ratio times weight norm is the update. Under SGD without momentum the two are equal in exact arithmetic.
    """
    layers, lr = m.layers, m.peak_lr
    if not lr or not all(layers.has(q) for q in ("update_ratio", "weight_norm", "grad_norm")):
        return float("nan")
    update = layers.level("update_ratio") * layers.level("weight_norm")
    made = lr * layers.level("grad_norm")
    known = np.isfinite(update) & np.isfinite(made) & (made > 0.0)
    return float(np.median(update[known] / made[known])) if known.any() else float("nan")


def frozen_shrink(grad_norm: FloatArray, step: IntArray, beta2: float) -> FloatArray:
    """Return how many times smaller Adam's updates are with v in bfloat16 than with an exact one, at the logged steps: (n,).

    In bfloat16 v * beta2 rounds back to v, and a new (1 - beta2) g^2 counts only above 2^-9 of v: v rises, and never falls. The
    result is sqrt(v in bfloat16 / v); the mean over the parameters stands for each of them. All ones where beta2 is below
    1 - 2^-8, so that v still decays.
    """
    from traindoctor.signals.second_moment import decayed_average

    if not grad_norm.size or 1.0 - beta2 >= 2.0 * LOST_BF16:
        return np.ones(grad_norm.size)
    gain = (1.0 - beta2) * np.minimum(grad_norm, 1e100) ** 2
    count = np.diff(step, prepend=-1).clip(min=0)
    exact = decayed_average(np.minimum(grad_norm, 1e100) ** 2, step, beta2)
    frozen, v = np.empty(gain.size), 0.0
    for k, (g, n) in enumerate(zip(gain.tolist(), count.tolist(), strict=True)):
        v = max(v, min(v + n * g, g / LOST_BF16))
        frozen[k] = v
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.sqrt(np.where(exact > 0.0, frozen / exact, 1.0)))
