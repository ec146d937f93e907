"""The learning rate of keras.optimizers.schedules as closed forms of the step, in float64.

`step` counts the optimizer's steps from 0; `lr` is `initial_learning_rate`. Other arguments are named, and default, as in
Keras 3, which computes in its own float type: float32 unless told otherwise, so that its numbers differ by about 1e-7.

Source: keras/src/optimizers/schedules/learning_rate_schedule.py of Keras 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traindoctor.optim.schedules.pytorch import since_restart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.model import FloatArray, IntArray


def exponential_decay(step: IntArray, lr: float, *, decay_steps: int, decay_rate: float, staircase: bool = False) -> FloatArray:
    """Return lr * decay_rate ** (step / decay_steps); the exponent is rounded down with `staircase`."""
    return lr * np.power(decay_rate, _periods(step, decay_steps, staircase))


def inverse_time_decay(step: IntArray, lr: float, *, decay_steps: int, decay_rate: float, staircase: bool = False) -> FloatArray:
    """Return lr / (1 + decay_rate * step / decay_steps); the quotient is rounded down with `staircase`."""
    return lr / (1.0 + decay_rate * _periods(step, decay_steps, staircase))


def piecewise_constant_decay(step: IntArray, lr: float, *, boundaries: Sequence[int], values: Sequence[float]) -> FloatArray:
    """Return values[n], n the number of boundaries that lie before the step; a boundary still has the value before it.

    `lr` is not used.
    """
    del lr
    return np.array([values[n] for n in np.searchsorted(boundaries, step, side="left")], dtype=np.float64)


def polynomial_decay(
    step: IntArray,
    lr: float,
    *,
    decay_steps: int,
    end_learning_rate: float = 1e-4,
    power: float = 1.0,
    cycle: bool = False,
) -> FloatArray:
    """Return (lr - end) * (1 - step / decay_steps) ** power + end, held at the end.

    With `cycle`, decay_steps is stretched to the first of its multiples that reaches the step, so that the rate jumps up
    after each.
    """
    time = np.asarray(step, dtype=np.float64)
    length = decay_steps * np.maximum(1.0, np.ceil(time / decay_steps)) if cycle else np.full(time.shape, float(decay_steps))
    left = 1.0 - np.minimum(time, length) / length
    return np.asarray((lr - end_learning_rate) * np.power(left, power) + end_learning_rate, dtype=np.float64)


def cosine_decay(
    step: IntArray,
    lr: float,
    *,
    decay_steps: int,
    alpha: float = 0.0,
    warmup_target: float | None = None,
    warmup_steps: int = 0,
) -> FloatArray:
    """Return peak * ((1 - alpha) * (1 + cos(pi * share)) / 2 + alpha), share of decay_steps after the warmup.

    The warmup is a straight way from lr to `warmup_target`, the peak; without a target there is none, and lr is the peak.

    Source: Loshchilov and Hutter 2017, SGDR, arXiv:1608.03983, equation 5.
    """
    time = np.asarray(step, dtype=np.float64)
    peak, start = (lr, 0) if warmup_target is None else (warmup_target, warmup_steps)
    share = np.clip((time - start) / decay_steps, 0.0, 1.0)
    decayed = peak * ((1.0 - alpha) * 0.5 * (1.0 + np.cos(np.pi * share)) + alpha)
    return np.where(time < start, lr + (peak - lr) * time / max(1, start), decayed)


def cosine_decay_restarts(
    step: IntArray, lr: float, *, first_decay_steps: int, t_mul: float = 2.0, m_mul: float = 1.0, alpha: float = 0.0
) -> FloatArray:
    """Return lr * ((1 - alpha) * m_mul**n * (1 + cos(pi * share)) / 2 + alpha), share of the n-th period.

    The first period has first_decay_steps, each next one t_mul times as many. Keras finds n by a logarithm, which at a
    restart can round to the period before.
    """
    since, period = since_restart(step, first_decay_steps, t_mul)
    before = np.asarray(step, dtype=np.float64) - since
    turns = before / first_decay_steps if t_mul == 1.0 else np.log(period / first_decay_steps) / np.log(t_mul)
    index = np.rint(turns)
    decayed = 0.5 * np.power(m_mul, index) * (1.0 + np.cos(np.pi * since / period))
    return lr * ((1.0 - alpha) * decayed + alpha)


def _periods(step: IntArray, length: int, staircase: bool) -> FloatArray:
    periods = np.asarray(step, dtype=np.float64) / length
    return np.floor(periods) if staircase else periods
