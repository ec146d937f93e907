"""The mean squares of an optimizer's iteration on the modes of a quadratic, many steps at a time.

On a quadratic every mode of curvature lambda is a linear iteration of its weight x and the optimizer's buffer b, driven by
the noise of the gradient, once the denominator D = sqrt(v_hat) + eps is taken as a common, slowly changing number (mean
field). In the units X = x * sqrt(lambda / 2), so that X**2 is the loss of the mode, and B = b / sqrt(2 * lambda):

    B' = c * B + f * X + f * N                    N: noise of the gradient / sqrt(2 * lambda)
    X' = (1 - w) * X - s * (p * B' + q * (X + N))            s = lr * lambda / D,  w = lr * weight decay

Only the product s decides how a mode goes. A covariance P of (X, B) then obeys P' = A P A^T + n n^T E[N**2], which is linear,
so that n steps at a constant s are one map, found by doubling. No random number is drawn: what is followed is the mean over
all realisations of the noise.

Source: the noisy quadratic model of Zhang et al. 2019, arXiv:1907.04164, equation 4 and appendix B, for any linear optimizer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, OptimizerSpec


class Moments(NamedTuple):
    """Mean squares of a mode: of X (its loss), of X * B, and of B; arrays of one shape."""

    xx: FloatArray
    xb: FloatArray
    bb: FloatArray


class Linear(NamedTuple):
    """The numbers c, f, p, q of the iteration above; scalars, or arrays that broadcast against the modes."""

    c: FloatArray
    f: FloatArray
    p: FloatArray
    q: FloatArray


def linear_form(spec: OptimizerSpec) -> Linear | None:
    """Return the iteration of an optimizer, None for one that is not linear in the gradient even at a given denominator."""
    one, zero = np.array(1.0), np.array(0.0)
    if spec.is_adam:
        beta1 = np.array(0.9 if spec.beta1 is None else spec.beta1)
        if spec.name == "nadam":
            return Linear(beta1, 1.0 - beta1, beta1, 1.0 - beta1)
        return Linear(beta1, 1.0 - beta1, one, zero)
    momentum = np.array(spec.momentum or 0.0)
    if spec.name == "sgd":
        return Linear(momentum, one, momentum, one) if spec.nesterov else Linear(momentum, one, one, zero)
    if spec.name == "rmsprop":
        return Linear(momentum, one, one, zero)
    if spec.name == "adagrad":
        return Linear(zero, one, one, zero)
    return None


def advance(moments: Moments, form: Linear, product: FloatArray, shrink: FloatArray, noise: FloatArray, n_steps: int) -> Moments:
    """Return the mean squares after `n_steps` steps at a constant product s = lr * lambda / D.

    `shrink`: w, decoupled weight decay a step. `noise`: E[N**2] a step. All float64 and broadcast against the moments. What
    overflows is infinite.
    """
    a = 1.0 - shrink - product * (form.p * form.f + form.q)
    b = -product * form.p * form.c
    c, d = form.f, form.c
    kick = -product * (form.p * form.f + form.q)
    map_ = _Map(a, b, c + 0.0 * a, d + 0.0 * a, kick * kick * noise, kick * form.f * noise, form.f * form.f * noise)
    done: _Map | None = None
    while n_steps:
        if n_steps & 1:
            done = map_ if done is None else _compose(map_, done)
        n_steps >>= 1
        if n_steps:
            map_ = _compose(map_, map_)
    if done is None:
        return moments
    xx, xb, bb = _congruence(done, *moments)
    return Moments(xx + done.xx, xb + done.xb, bb + done.bb)


class _Map(NamedTuple):
    """P -> A P A^T + Q, with A = ((a, b), (c, d)) and Q symmetric."""

    a: FloatArray
    b: FloatArray
    c: FloatArray
    d: FloatArray
    xx: FloatArray
    xb: FloatArray
    bb: FloatArray


def _congruence(m: _Map, xx: FloatArray, xb: FloatArray, bb: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return A P A^T."""
    left_x, left_b = m.a * xx + m.b * xb, m.a * xb + m.b * bb
    right_x, right_b = m.c * xx + m.d * xb, m.c * xb + m.d * bb
    return left_x * m.a + left_b * m.b, left_x * m.c + left_b * m.d, right_x * m.c + right_b * m.d


def _compose(after: _Map, before: _Map) -> _Map:
    """Return the map of `before`, then `after`."""
    xx, xb, bb = _congruence(after, before.xx, before.xb, before.bb)
    return _Map(
        after.a * before.a + after.b * before.c,
        after.a * before.b + after.b * before.d,
        after.c * before.a + after.d * before.c,
        after.c * before.b + after.d * before.d,
        xx + after.xx,
        xb + after.xb,
        bb + after.bb,
    )
