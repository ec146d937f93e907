"""The moments of the gradient, run again from the logged gradient norm.

v is linear in the squared gradient, so the mean of v over the parameters obeys the same recurrence, driven by the mean
squared gradient ||g||^2 / d. From the norm alone it is known exactly up to the parameter count d, and d cancels in every
ratio (growth of the effective learning rate, margin to the stability limit).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from traindoctor.optim.defaults import FRAMEWORKS, TORCH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import FloatArray, IntArray, OptimizerSpec

#: What a resumed process found of the optimizer's state: all of it; the moments zeroed but the step count kept; the step
#: count zeroed but the moments kept; v alone zeroed; nothing.
ResumeKind = Literal["kept", "moments-lost", "step-reset", "v-lost", "fresh"]
#: How the second moment follows the squared gradient: averaged and divided by 1 - beta2**t, averaged, averaged with a
#: decay that changes over the steps, summed, or the decayed maximum of the gradient itself; "" without a second moment.
Recurrence = Literal["corrected", "average", "decaying", "sum", "maximum", ""]

RECURRENCES: dict[str, Recurrence] = {
    **dict.fromkeys(("adam", "adamw", "amsgrad", "nadam", "radam", "lamb", "stableadamw"), "corrected"),
    **dict.fromkeys(("rmsprop", "adadelta"), "average"),
    "adafactor": "decaying",
    "adagrad": "sum",
    "adamax": "maximum",
}
#: Points that are averaged by one product with a triangular matrix; 16 to 64 are equally fast.
BLOCK = 32
#: A norm above this counts as this, so that its square stays finite over the decay of a block (1e100, see `linear_scan`).
LARGEST = 1e100
#: Steps up to which Adafactor's decays are multiplied one by one: from here on they differ from 1 by less than 1e-4.
TABLED = 1e6


@dataclass(frozen=True, slots=True)
class Resume:
    """The first step of a resumed process, and what it found of the optimizer's state."""

    step: int
    kind: ResumeKind


def decayed_average(
    value: FloatArray, step: IntArray, beta: float, initial: float | FloatArray = 0.0, before: int = -1
) -> FloatArray:
    """Return the exponential moving average of a signal that is known at some steps only.

        v_i = beta**n_i * v_{i-1} + (1 - beta**n_i) * value_i,     n_i = step_i - step_{i-1}, n_0 = step_0 - before

    Between two logged steps the signal is held at the later value; where every step is logged this is the optimizer's
    own recurrence. `value`: (..., n) float64, finite: leading axes are signals of their own. `step`: (n,) int64, not
    decreasing. Steps that repeat count once. `initial`: the average after step `before`. Returns (..., n) float64.

    Equal gaps are averaged block by block, each block one product with the triangular matrix of powers of beta: no
    division and, for values of one sign, no cancellation. Relative error below 1e-12 in either way.
    """
    if not step.size:
        return np.zeros_like(value)
    gaps = np.diff(step, prepend=before).clip(min=0)
    stride = int(gaps[1]) if gaps.size > 1 else 1
    if stride > 0 and np.all(gaps == stride):
        return _even_scan(value, beta**stride, _gain(beta, stride), np.broadcast_to(initial, value.shape[:-1]))
    if stride > 0 and np.all(gaps[1:] == stride):
        first = beta ** int(gaps[0]) * np.asarray(initial) + _gain(beta, int(gaps[0])) * value[..., 0]
        rest = _even_scan(value[..., 1:], beta**stride, _gain(beta, stride), first)
        return np.concatenate((first[..., None], rest), axis=-1)
    if beta == 0.0:
        return _forgetful(value, gaps, initial)
    log_decay = gaps * np.log(beta)
    return linear_scan(log_decay, -np.expm1(log_decay) * value, initial)


def _gain(beta: float, n: int) -> float:
    """Return 1 - beta**n without cancellation."""
    return 1.0 - beta if n == 1 or beta == 0.0 else float(-np.expm1(n * np.log(beta)))


def _even_scan(value: FloatArray, decay: float, gain: float, initial: FloatArray) -> FloatArray:
    """Return y_i = decay * y_{i-1} + gain * value_i along the last axis, y_{-1} = `initial` (...,)."""
    n = value.shape[-1]
    whole = n // BLOCK * BLOCK
    if n < 2 * BLOCK:
        return _block_powers(decay, n) * initial[..., None] + value @ (gain * _triangle(decay, n)).T
    blocks = value[..., :whole].reshape(*value.shape[:-1], -1, BLOCK) @ (gain * _triangle(decay, BLOCK)).T
    ends = _even_scan(blocks[..., -1], decay**BLOCK, 1.0, initial)
    carried = np.concatenate((initial[..., None], ends[..., :-1]), axis=-1)
    blocks += carried[..., None] * _block_powers(decay, BLOCK)
    made = blocks.reshape(*value.shape[:-1], whole)
    if whole == n:
        return np.asarray(made)
    return np.concatenate((made, _even_scan(value[..., whole:], decay, gain, ends[..., -1])), axis=-1)


def _block_powers(decay: float, n: int) -> FloatArray:
    return np.asarray(decay ** np.arange(1.0, n + 1.0), dtype=np.float64)


def _triangle(decay: float, n: int) -> FloatArray:
    """Return the (n, n) matrix of decay**(i - j), zero above the diagonal."""
    lag = np.subtract.outer(np.arange(n), np.arange(n))
    return np.asarray(np.where(lag >= 0, float(decay) ** np.maximum(lag, 0), 0.0), dtype=np.float64)


def linear_scan(log_decay: FloatArray, gain: FloatArray, initial: float | FloatArray = 0.0) -> FloatArray:
    """Return y_i = exp(log_decay_i) * y_{i-1} + gain_i along the last axis, with y_{-1} = `initial`.

    `log_decay`: (n,) float64, finite. `gain`: (..., n) float64. One array pass per block of bounded decay or growth:
    within a block the product of the decays stays within 1e-100 and 1e100, so that no quotient leaves float64.
    """
    average = np.empty_like(gain)
    carry = np.broadcast_to(np.asarray(initial, dtype=np.float64), gain.shape[:-1])
    begin, window, n = 0, 65536, log_decay.size
    while begin < n:
        total = np.cumsum(log_decay[begin : begin + window])
        length = max(1, int(np.searchsorted(np.maximum.accumulate(np.abs(total)), 230.0)))
        window = min(65536, max(2 * length, 16))
        block = slice(begin, begin + length)
        if length == 1:
            average[..., begin] = np.exp(log_decay[begin]) * carry + gain[..., begin]
        else:
            decay = np.exp(total[:length])
            average[..., block] = decay * (carry[..., None] + np.cumsum(gain[..., block] / decay, axis=-1))
        carry = average[..., begin + length - 1]
        begin += length
    return average


def _forgetful(value: FloatArray, gaps: IntArray, initial: float | FloatArray) -> FloatArray:
    """Return the average at beta = 0: the latest value, held where a step repeats."""
    last = np.maximum.accumulate(np.where(gaps > 0, np.arange(gaps.size), -1))
    held = np.broadcast_to(np.asarray(initial, dtype=np.float64), value.shape[:-1])[..., None]
    return np.where(last >= 0, value[..., np.maximum(last, 0)], held)


def _between(squared: FloatArray, step: IntArray) -> FloatArray:
    """Return the mean squared gradient since the point before, for a norm that is log-linear between logged points.

    That is the logarithmic mean of the two ends; the later value where every step is logged, or an end is zero.
    """
    gaps = np.diff(step, prepend=step[:1] - 1)
    if not np.any(gaps > 1):
        return squared
    earlier = np.concatenate((squared[..., :1], squared[..., :-1]), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = (squared - earlier) / np.log(squared / earlier)
    return np.where((gaps > 1) & np.isfinite(mean) & (mean > 0.0), mean, squared)


# -- the optimizers' own moments ----------------------------------------------------------------------------------------


def recurrence(spec: OptimizerSpec) -> Recurrence:
    """Return how the optimizer's second moment follows the squared gradient, "" where it has none or it is not known."""
    return RECURRENCES.get(spec.name, "")


def decay_rate(spec: OptimizerSpec) -> float:
    """Return the decay of the second moment a step: beta2, or alpha of RMSprop and Adadelta; the framework's default if unset."""
    name = "alpha" if spec.name in ("rmsprop", "adadelta") else "beta2"
    value = getattr(spec, name)
    return float(_default(spec, name, 0.999) if value is None else value)


def _default(spec: OptimizerSpec, name: str, otherwise: float) -> float:
    """Return what the framework fills in for a setting, `otherwise` where it has none."""
    return float(FRAMEWORKS.get(spec.dialect, (TORCH, ""))[0].get(spec.name, {}).get(name, otherwise))


def _pieces(step: IntArray, resumes: Sequence[Resume]) -> Iterator[tuple[slice, int, Resume | None]]:
    """Yield the points between two resumes: where they stand, the step before the first of them, and the resume."""
    kept = sorted((r for r in resumes if r.kind != "kept"), key=lambda r: r.step)
    cuts = [int(np.searchsorted(step, r.step, side="left")) for r in kept]
    for begin, stop, resume in zip([0, *cuts], [*cuts, step.size], [None, *kept], strict=True):
        if stop > begin:
            yield slice(begin, stop), int(step[begin - 1]) if begin else -1, resume


def steps_taken(step: IntArray, resumes: Sequence[Resume] = ()) -> FloatArray:
    """Return the step count t of the optimizer at each logged step, 1 for the first; a resume may have set it back."""
    taken = step + 1.0
    for resume in sorted(resumes, key=lambda r: r.step):
        if resume.kind in ("step-reset", "fresh"):
            taken = np.where(step >= resume.step, step - resume.step + 1.0, taken)
    return np.asarray(taken, dtype=np.float64)


def second_moment(
    grad_norm: FloatArray, step: IntArray, spec: OptimizerSpec, resumes: Sequence[Resume] = (), initial: float = 0.0
) -> FloatArray:
    """Return d times the mean of v_hat over the d parameters, at the logged steps.

        Adam, NAdam, RAdam, LAMB, StableAdamW: EMA_beta2(||g||^2) / (1 - beta2**t) · RMSprop, Adadelta: EMA_alpha(||g||^2)
        AMSGrad: running maximum of Adam's EMA (Optax: of v_hat; paper: not corrected) · Adagrad: the sum of ||g||^2
        Adafactor: EMA with beta2_t = 1 - t**beta2_decay · Adamax: the square of max_k beta2**k ||g_{t-k}||

    Adafactor's factors keep the sum of v over a matrix, so that this is exact for it too. Of the two maxima it is a lower
    bound: each parameter keeps a maximum of its own. NaN for an optimizer without a second moment.

    `grad_norm`: (..., n) float64, finite, L2 norm of the gradient that enters the optimizer (after a clip, if there is
    one). `step`: (n,) int64, counting from 0. `resumes`: where a process began again, and what it had of the state.
    `initial`: sum of the accumulators before the first step (Keras' Adagrad starts each at 0.1). Returns (..., n) float64.

    Source: Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1, averaged over the parameters, and Algorithm 2 (Adamax);
    Shazeer and Stern 2018, arXiv:1804.04235, Algorithm 4 and section 7.2 (Adafactor).
    """
    kind, beta2 = recurrence(spec), decay_rate(spec)
    if not kind or not step.size:
        return np.full(grad_norm.shape, np.nan)
    keeps_largest = bool(spec.amsgrad) or spec.name == "amsgrad"
    corrected = kind == "corrected" and 0.0 < beta2 < 1.0 and not (keeps_largest and spec.dialect == "paper")
    grad_norm = np.minimum(grad_norm, LARGEST)
    squared = _between(grad_norm**2, step)
    total = np.empty_like(squared)
    carry: float | FloatArray = initial
    largest: float | FloatArray = 0.0
    taken = steps_taken(step, resumes)
    bias = -np.expm1(taken * np.log(beta2)) if corrected else np.ones_like(taken)
    for part, before, resume in _pieces(step, resumes):
        if resume is not None and resume.kind != "step-reset":
            carry, before, largest = initial, resume.step - 1, 0.0
            squared[..., part.start] = grad_norm[..., part.start] ** 2  # what came before the resume has left no trace
        average = _uncorrected(squared[..., part], step[part], taken[part], spec, carry, before)
        carry = average[..., -1].copy()
        if spec.dialect == "optax":
            average = average / bias[part]
        if keeps_largest:
            average = np.maximum(np.maximum.accumulate(average, axis=-1), np.asarray(largest)[..., None])
            largest = average[..., -1].copy()
        total[..., part] = average if spec.dialect == "optax" else average / bias[part]
    return total


def _uncorrected(
    squared: FloatArray, step: IntArray, taken: FloatArray, spec: OptimizerSpec, initial: float | FloatArray, before: int
) -> FloatArray:
    """Return the sum of v over the parameters for steps without a resume between them."""
    gaps = np.diff(step, prepend=before).clip(min=0)
    kind, beta2 = recurrence(spec), decay_rate(spec)
    if kind == "sum":
        return np.asarray(np.asarray(initial)[..., None] + np.cumsum(squared * gaps, axis=-1))
    if kind == "maximum":
        return _decayed_maximum(squared, step, beta2, initial, before)
    if kind == "decaying":
        log_decay = _adafactor_log_decay(taken, gaps, -0.8 if spec.beta2_decay is None else spec.beta2_decay)
        return linear_scan(np.maximum(log_decay, -700.0), -np.expm1(log_decay) * squared, initial)
    return decayed_average(squared, step, beta2, initial, before)


def _decayed_maximum(squared: FloatArray, step: IntArray, beta: float, initial: float | FloatArray, before: int) -> FloatArray:
    """Return the square of u_t = max(beta u_{t-1}, ||g_t||): a running maximum once the decay is divided out."""
    if beta <= 0.0:
        return squared.copy()
    lead = np.broadcast_to(np.asarray(initial, dtype=np.float64), squared.shape[:-1])[..., None]
    with np.errstate(divide="ignore"):
        undecayed = np.log(np.concatenate((lead, squared), axis=-1)) - 2.0 * np.log(beta) * np.concatenate(([before], step))
    decay = 2.0 * np.log(beta) * step
    return np.asarray(np.exp(np.maximum.accumulate(undecayed, axis=-1)[..., 1:] + decay))


def _adafactor_log_decay(taken: FloatArray, gaps: IntArray, power: float) -> FloatArray:
    """Return the logarithm of the product of 1 - t**power over the steps since the point before; -inf from step 1 on."""
    since = np.maximum(taken - gaps, 0.0)
    log_decay = _log_kept(taken, power) - _log_kept(since, power)
    return np.where((since < 1.0) & (gaps > 0), -np.inf, log_decay)


def _log_kept(taken: FloatArray, power: float) -> FloatArray:
    """Return the sum of log(1 - k**power) for k from 2 to `taken`: summed as far as `TABLED`, from there on integrated."""
    last = int(min(taken.max(initial=1.0), TABLED))
    summed = np.concatenate(([0.0, 0.0], np.cumsum(np.log1p(-(np.arange(2.0, last + 1.0) ** power)))))
    kept = summed[np.minimum(taken, last).astype(np.int64)]
    beyond = np.maximum(taken, TABLED)
    grown = np.log(beyond / TABLED) if power == -1.0 else (beyond ** (1.0 + power) - TABLED ** (1.0 + power)) / (1.0 + power)
    return np.asarray(kept - grown)


def first_moment_bound(grad_norm: FloatArray, step: IntArray, spec: OptimizerSpec, resumes: Sequence[Resume] = ()) -> FloatArray:
    """Return EMA_beta1(||g||) / (1 - beta1**t): no less than the norm of m_hat, and equal to it while g keeps its direction.

    Shapes as in `second_moment`. The gradient norm itself where the optimizer has no averaged first moment (no beta1).
    """
    beta1 = _default(spec, "beta1", 0.0) if spec.beta1 is None else spec.beta1
    if not recurrence(spec):
        beta1 = 0.0  # Lion's beta1 is of its sign
    if beta1 <= 0.0 or not step.size:
        return grad_norm.copy()
    first = np.empty_like(grad_norm)
    carry: float | FloatArray = 0.0
    for part, before, resume in _pieces(step, resumes):
        if resume is not None and resume.kind in ("moments-lost", "fresh"):
            carry, before = 0.0, resume.step - 1
        first[..., part] = decayed_average(grad_norm[..., part], step[part], beta1, carry, before)
        carry = first[..., part.stop - 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(first / -np.expm1(steps_taken(step, resumes) * np.log(beta1))) if beta1 < 1.0 else first


def anchored_margin(total: FloatArray, lr: FloatArray, total_at: float, lr_at: float, value: float) -> FloatArray:
    """Return lr * lambda(P^-1 H) from the second moment, given its `value` where the moment was `total_at` and the rate `lr_at`.

    It goes as lr / sqrt(v_hat); eps is left out. `total`, `lr`: (..., n) float64.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(value * (lr / lr_at) * np.sqrt(total_at / total))


def curvature(loss: FloatArray, floor: float, grad_norm: FloatArray) -> FloatArray:
    """Return ||g||^2 / (2 (L - L*)): the curvature that the gradient sees, where the loss is above its floor.

    For a quadratic this is the mean of the Hessian's eigenvalues, weighted by each mode's share of the excess loss; where
    one direction dominates it is that direction's eigenvalue, and never more than the largest. `loss`, `grad_norm`: (n,)
    float64. NaN where the loss is not above `floor` (L*).
    """
    excess = loss - floor
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(excess > 0.0, grad_norm**2 / (2.0 * excess), np.nan)
