"""The learning rate of optax.schedules as closed forms of the step, in float64.

`step` is the count that the optimizer's state holds, from 0; `lr` is `init_value`, or `peak_value` where a schedule has
one. Other arguments are named, and default, as in Optax, which computes in float32 unless JAX is told otherwise.

Source: optax/schedules/_schedule.py of Optax 0.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from traindoctor.model import FloatArray, IntArray


def constant_schedule(step: IntArray, lr: float) -> FloatArray:
    """Return lr at every step."""
    return np.full(np.shape(step), float(lr))


def polynomial_schedule(
    step: IntArray, lr: float, *, end_value: float, power: float, transition_steps: int, transition_begin: int = 0
) -> FloatArray:
    """Return (lr - end_value) * (1 - share) ** power + end_value, share of transition_steps after transition_begin.

    No positive transition_steps means lr for ever.
    """
    time = np.asarray(step, dtype=np.float64)
    if transition_steps <= 0:
        return np.full(time.shape, float(lr))
    share = np.clip((time - max(0, transition_begin)) / transition_steps, 0.0, 1.0)
    return (lr - end_value) * np.power(1.0 - share, power) + end_value


def linear_schedule(
    step: IntArray, lr: float, *, end_value: float, transition_steps: int, transition_begin: int = 0
) -> FloatArray:
    """Return `polynomial_schedule` of power 1."""
    return polynomial_schedule(
        step, lr, end_value=end_value, power=1.0, transition_steps=transition_steps, transition_begin=transition_begin
    )


def exponential_decay(
    step: IntArray,
    lr: float,
    *,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> FloatArray:
    """Return lr * decay_rate ** (steps after transition_begin / transition_steps), which `end_value` bounds.

    With `staircase` the exponent is rounded down.
    """
    periods = np.maximum(np.asarray(step, dtype=np.float64) - max(0, transition_begin), 0.0) / transition_steps
    decayed = lr * np.power(decay_rate, np.floor(periods) if staircase else periods)
    if end_value is None:
        return decayed
    return np.maximum(decayed, end_value) if decay_rate < 1.0 else np.minimum(decayed, end_value)


def cosine_decay_schedule(
    step: IntArray, lr: float, *, decay_steps: int, alpha: float = 0.0, exponent: float = 1.0
) -> FloatArray:
    """Return lr * ((1 - alpha) * ((1 + cos(pi * share)) / 2) ** exponent + alpha), held at the end.

    Source: Loshchilov and Hutter 2017, SGDR, arXiv:1608.03983, equation 5.
    """
    share = np.minimum(np.asarray(step, dtype=np.float64), decay_steps) / decay_steps
    return lr * ((1.0 - alpha) * np.power(0.5 * (1.0 + np.cos(np.pi * share)), exponent) + alpha)


def warmup_constant_schedule(step: IntArray, lr: float, *, init_value: float, warmup_steps: int) -> FloatArray:
    """Return a straight way from init_value to lr, the peak, and lr from there on."""
    return linear_schedule(step, init_value, end_value=lr, transition_steps=warmup_steps)


def warmup_cosine_decay_schedule(
    step: IntArray,
    lr: float,
    *,
    init_value: float,
    warmup_steps: int,
    decay_steps: int,
    end_value: float = 0.0,
    exponent: float = 1.0,
) -> FloatArray:
    """Return a straight way from init_value to lr, then a cosine to end_value at decay_steps, the warmup counted in."""
    time = np.asarray(step)
    decay = cosine_decay_schedule(
        time - warmup_steps,
        lr,
        decay_steps=decay_steps - warmup_steps,
        alpha=end_value / lr if lr else 0.0,
        exponent=exponent,
    )
    return _after_warmup(time, lr, init_value, warmup_steps, decay)


def warmup_exponential_decay_schedule(
    step: IntArray,
    lr: float,
    *,
    init_value: float,
    warmup_steps: int,
    transition_steps: int,
    decay_rate: float,
    transition_begin: int = 0,
    staircase: bool = False,
    end_value: float | None = None,
) -> FloatArray:
    """Return a straight way from init_value to lr, then `exponential_decay` counted from the end of the warmup."""
    time = np.asarray(step)
    decay = exponential_decay(
        time - warmup_steps,
        lr,
        transition_steps=transition_steps,
        decay_rate=decay_rate,
        transition_begin=transition_begin,
        staircase=staircase,
        end_value=end_value,
    )
    return _after_warmup(time, lr, init_value, warmup_steps, decay)


def piecewise_constant_schedule(
    step: IntArray, lr: float, *, boundaries_and_scales: Mapping[int, float] | None = None
) -> FloatArray:
    """Return lr times the scales of all boundaries at or before the step."""
    bounds, values = _scaled(lr, boundaries_and_scales or {})
    return values[np.searchsorted(bounds[1:], step, side="right")]


def piecewise_interpolate_schedule(
    step: IntArray, lr: float, *, interpolate_type: str, boundaries_and_scales: Mapping[int, float] | None = None
) -> FloatArray:
    """Return the way between the values of `piecewise_constant_schedule`, by straight lines or half cosines.

    `interpolate_type`: "linear" or "cosine". The value of a boundary is reached at it.
    """
    bounds, values = _scaled(lr, boundaries_and_scales or {})
    time = np.asarray(step, dtype=np.float64)
    index = np.clip(np.searchsorted(bounds, time, side="right") - 1, 0, bounds.size - 1)
    following = np.minimum(index + 1, bounds.size - 1)
    share = (time - bounds[index]) / np.maximum(bounds[following] - bounds[index], 1.0)
    share = np.where(following > index, share, 0.0)
    if interpolate_type == "cosine":
        share = 0.5 * (1.0 - np.cos(np.pi * share))
    return values[index] + (values[following] - values[index]) * share


def linear_onecycle_schedule(
    step: IntArray,
    lr: float,
    *,
    transition_steps: int,
    pct_start: float = 0.3,
    pct_final: float = 0.85,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> FloatArray:
    """Return straight ways from lr / div_factor to lr, the peak, back, and on to that start over final_div_factor.

    Source: Smith and Topin 2018, Super-convergence, arXiv:1708.07120, section 4.
    """
    scales = {
        int(pct_start * transition_steps): div_factor,
        int(pct_final * transition_steps): 1.0 / div_factor,
        transition_steps: 1.0 / final_div_factor,
    }
    return piecewise_interpolate_schedule(step, lr / div_factor, interpolate_type="linear", boundaries_and_scales=scales)


def cosine_onecycle_schedule(
    step: IntArray,
    lr: float,
    *,
    transition_steps: int,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
) -> FloatArray:
    """Return half cosines from lr / div_factor to lr, the peak, and down to that start over final_div_factor.

    Source: Smith and Topin 2018, Super-convergence, arXiv:1708.07120, section 4.
    """
    scales = {int(pct_start * transition_steps): div_factor, transition_steps: 1.0 / (div_factor * final_div_factor)}
    return piecewise_interpolate_schedule(step, lr / div_factor, interpolate_type="cosine", boundaries_and_scales=scales)


def sgdr_schedule(step: IntArray, lr: float, *, cosine_kwargs: Sequence[Mapping[str, float]]) -> FloatArray:
    """Return one `warmup_cosine_decay_schedule` after the other, each for its own decay_steps. `lr` is not used.

    Source: Loshchilov and Hutter 2017, SGDR, arXiv:1608.03983.
    """
    del lr
    time = np.asarray(step)
    starts = np.cumsum([0, *(int(one["decay_steps"]) for one in cosine_kwargs[:-1])])
    index = np.searchsorted(starts, time, side="right") - 1
    rate = np.empty(time.shape)
    for n, one in enumerate(cosine_kwargs):
        inside = index == n
        rate[inside] = warmup_cosine_decay_schedule(
            time[inside] - starts[n],
            one["peak_value"],
            init_value=one["init_value"],
            warmup_steps=int(one["warmup_steps"]),
            decay_steps=int(one["decay_steps"]),
            end_value=one.get("end_value", 0.0),
            exponent=one.get("exponent", 1.0),
        )
    return rate


def _after_warmup(time: IntArray, lr: float, init_value: float, warmup_steps: int, decay: FloatArray) -> FloatArray:
    warmup = linear_schedule(time, init_value, end_value=lr, transition_steps=warmup_steps)
    return np.where(time < warmup_steps, warmup, decay)


def _scaled(lr: float, scales: Mapping[int, float]) -> tuple[FloatArray, FloatArray]:
    """Return the boundaries in order, 0 before them, and the value from each on."""
    bounds = sorted(scales)
    values = np.cumprod([lr, *(scales[b] for b in bounds)])
    return np.array([0.0, *bounds]), np.asarray(values, dtype=np.float64)
