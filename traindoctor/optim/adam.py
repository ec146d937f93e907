"""Adam, AdamW and AMSGrad: the paper's Algorithm 1 (PyTorch, Optax) and the epsilon-hat form (TensorFlow, Keras)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import BoolSetting, FloatArray, FloatSetting


class State(NamedTuple):
    """`t`: steps taken so far. `m`, `v`, `v_max`: shape of the parameters; `v_max` is used by AMSGrad alone."""

    t: int
    m: FloatArray
    v: FloatArray
    v_max: FloatArray


def start(shape: tuple[int, ...], dtype: type[np.floating[Any]] = np.float64) -> State:
    """Return the state before the first step: all moments zero."""
    return State(0, np.zeros(shape, dtype), np.zeros(shape, dtype), np.zeros(shape, dtype))


def step(
    grad: FloatArray,
    state: State,
    *,
    lr: FloatSetting,
    beta1: FloatSetting = 0.9,
    beta2: FloatSetting = 0.999,
    eps: FloatSetting = 1e-8,
    amsgrad: BoolSetting = False,
    epsilon_hat: bool = False,
    eps_root: FloatSetting = 0.0,
    max_of_corrected: bool = False,
    bias_correction: bool = True,
    grad_sq: FloatArray | None = None,
) -> tuple[FloatArray, State]:
    """Return the update to add to the parameters, and the next state.

        m      <- beta1 * m + (1 - beta1) * g            m_hat = m / (1 - beta1**t)
        v      <- beta2 * v + (1 - beta2) * g**2         v_hat = v / (1 - beta2**t)
        update  = -lr * m_hat / (sqrt(v_hat) + eps)

    With `epsilon_hat`, the form before section 2.1 of the paper, which TensorFlow 1 and Keras use: the update is
    -lr * sqrt(1 - beta2**t) / (1 - beta1**t) * m / (sqrt(v) + eps). `eps_root` (Optax): sqrt(v_hat + eps_root). AdamW's
    decay does not pass through the moments: see `decay.decoupled`.

    With `amsgrad`, v_hat is replaced by max(v_1 ... v_t) / (1 - beta2**t), as in PyTorch and Keras. With
    `max_of_corrected` it is max(v_hat_1 ... v_hat_t), as in Optax, whose first steps are shorter for longer; then
    `v_max` holds that. Without `bias_correction` the divisors of m and v are 1, as in the paper of AMSGrad.

    `grad`: any shape, float64, or float32, which is kept where the settings are scalars; NaN propagates, and 0/0 is NaN as in
    the frameworks. Settings are scalars or arrays that broadcast against `grad`, so that a leading axis holds many
    candidates. `grad_sq`: what enters v in place of grad**2, for a replay that knows the energy of directions it does not
    simulate.

    Source: Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1 and section 2; Reddi, Kale and Kumar 2018, arXiv:1904.09237.
    """
    t = state.t + 1
    beta1, beta2 = np.asarray(beta1, dtype=np.float64), np.asarray(beta2, dtype=np.float64)
    m = _weak(beta1) * state.m + _weak(1.0 - beta1) * grad
    v = _weak(beta2) * state.v + _weak(1.0 - beta2) * (grad * grad if grad_sq is None else grad_sq)
    one = np.ones(())
    with np.errstate(divide="ignore", invalid="ignore"):
        bias1, bias2 = (1.0 - beta1**t, 1.0 - beta2**t) if bias_correction else (one, one)
        seen, bias_of_max = (v / _weak(bias2), one) if max_of_corrected else (v, bias2)
        v_max = seen if amsgrad is False else np.where(amsgrad, np.maximum(state.v_max, seen), seen)
        if epsilon_hat:
            update = _weak(-np.asarray(lr) * np.sqrt(bias2) / bias1) * m / (np.sqrt(v_max) + _weak(eps))
        else:
            corrected = v_max / _weak(bias_of_max)
            root = np.sqrt(corrected + _weak(eps_root) if np.ndim(eps_root) or eps_root else corrected)
            update = _weak(-np.asarray(lr) / bias1) * m / (root + _weak(eps))
    return update, State(t, m, v, v_max)


def _weak(setting: FloatSetting) -> FloatSetting:
    """Return a setting that leaves the dtype of what it multiplies alone: a scalar as a Python float (NEP 50)."""
    return setting if np.ndim(setting) else float(setting)
