"""The second moment of the gradient, run again from the logged gradient norm.

v is linear in the squared gradient, so the mean of v over the parameters obeys the same recurrence, driven by the mean
squared gradient ||g||^2 / d. From the norm alone it is known exactly up to the parameter count d, and d cancels in every
ratio (growth of the effective learning rate, margin to the stability limit).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, IntArray, OptimizerSpec


def decayed_average(value: FloatArray, step: IntArray, beta: float, initial: float = 0.0) -> FloatArray:
    """Return the exponential moving average of a signal that is known at some steps only.

        v_i = beta**n_i * v_{i-1} + (1 - beta**n_i) * value_i,     n_i = step_i - step_{i-1}, n_0 = step_0 + 1

    Between two logged steps the signal is held at the later value; where every step is logged this is the optimizer's
    own recurrence. `value`: (n,) float64, finite. `step`: (n,) int64, not decreasing. Steps that repeat count once. Returns
    (n,) float64; one array pass per block of bounded decay, relative error below 1e-12.
    """
    gaps = np.diff(step, prepend=-1).clip(min=0)
    log_decay = gaps * np.log(beta) if beta > 0.0 else np.where(gaps > 0, -np.inf, 0.0)
    gain = -np.expm1(log_decay) * value
    average = np.empty_like(gain)
    if not np.isfinite(log_decay).all():
        return _forgetful(gain, log_decay, initial)
    carry, begin, window = initial, 0, 65536
    while begin < gain.size:
        # within a block the decay stays above 1e-100, so that neither the quotient nor the product leaves float64
        total = np.cumsum(log_decay[begin : begin + window])
        length = max(1, int(np.searchsorted(-total, 230.0)))
        window = min(65536, max(2 * length, 16))
        if length == 1:
            average[begin] = np.exp(log_decay[begin]) * carry + gain[begin]
        else:
            decay = np.exp(total[:length])
            average[begin : begin + length] = decay * (carry + np.cumsum(gain[begin : begin + length] / decay))
        carry = float(average[begin + length - 1])
        begin += length
    return average


def _forgetful(gain: FloatArray, log_decay: FloatArray, initial: float) -> FloatArray:
    """Return the average at beta = 0: the latest value, held where a step repeats."""
    last = np.maximum.accumulate(np.where(log_decay < 0.0, np.arange(gain.size), -1))
    return np.where(last >= 0, gain[np.maximum(last, 0)], initial)


def _between(squared: FloatArray, step: IntArray) -> FloatArray:
    """Return the mean squared gradient since the point before, for a norm that is log-linear between logged points.

    That is the logarithmic mean of the two ends; the later value where every step is logged, or an end is zero.
    """
    earlier = np.concatenate((squared[:1], squared[:-1]))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (squared - earlier) / np.log(squared / earlier)
    gaps = np.diff(step, prepend=step[:1] - 1)
    return np.where((gaps > 1) & np.isfinite(mean) & (mean > 0.0), mean, squared)


def second_moment(grad_norm: FloatArray, step: IntArray, spec: OptimizerSpec) -> FloatArray:
    """Return d times the mean of v_hat over the d parameters, at the logged steps.

        Adam: EMA_beta2(||g||^2) / (1 - beta2**t) · RMSprop: EMA_alpha(||g||^2) · Adagrad: the sum of ||g||^2
        AMSGrad: running maximum of Adam's

    `grad_norm`: (n,) float64, finite, L2 norm of the gradient that enters the optimizer (after a clip, if there is one).
    `step`: (n,) int64, counting from 0. Returns (n,) float64.

    Source: Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1, averaged over the parameters.
    """
    squared = _between(grad_norm**2, step)
    if spec.name == "adagrad":
        gaps = np.diff(step, prepend=-1).clip(min=0)
        return np.cumsum(squared * gaps)
    if spec.name == "rmsprop":
        return decayed_average(squared, step, 0.99 if spec.alpha is None else spec.alpha)
    beta2 = 0.999 if spec.beta2 is None else spec.beta2
    average = decayed_average(squared, step, beta2)
    if spec.amsgrad:
        average = np.maximum.accumulate(average)
    with np.errstate(divide="ignore", invalid="ignore"):
        return average / -np.expm1((step + 1.0) * np.log(beta2)) if 0.0 < beta2 < 1.0 else average


def curvature(loss: FloatArray, floor: float, grad_norm: FloatArray) -> FloatArray:
    """Return ||g||^2 / (2 (L - L*)): the curvature that the gradient sees, where the loss is above its floor.

    For a quadratic this is the mean of the Hessian's eigenvalues, weighted by each mode's share of the excess loss; where
    one direction dominates it is that direction's eigenvalue, and never more than the largest. `loss`, `grad_norm`: (n,)
    float64. NaN where the loss is not above `floor` (L*).
    """
    excess = loss - floor
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(excess > 0.0, grad_norm**2 / (2.0 * excess), np.nan)
