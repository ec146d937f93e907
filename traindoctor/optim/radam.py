"""RAdam: Adam that waits with the second moment until its variance is tractable, as in torch.optim.RAdam and Optax."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, FloatSetting


class State(NamedTuple):
    """`t`: steps taken so far. `m`, `v`: moments, shape of the parameters."""

    t: int
    m: FloatArray
    v: FloatArray


def start(shape: tuple[int, ...]) -> State:
    """Return the state before the first step."""
    return State(0, np.zeros(shape), np.zeros(shape))


def step(
    grad: FloatArray,
    state: State,
    *,
    lr: FloatSetting,
    beta1: FloatSetting = 0.9,
    beta2: FloatSetting = 0.999,
    eps: FloatSetting = 1e-8,
    epsilon_hat: bool = True,
    eps_root: FloatSetting = 0.0,
    threshold: float = 5.0,
) -> tuple[FloatArray, State]:
    """Return the update to add to the parameters, and the next state.

        m      <- beta1 * m + (1 - beta1) * g            m_hat = m / (1 - beta1**t)
        v      <- beta2 * v + (1 - beta2) * g**2         rho_inf = 2 / (1 - beta2) - 1
        rho     = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
        r       = sqrt((rho - 4) (rho - 2) rho_inf / ((rho_inf - 4) (rho_inf - 2) rho))
        update  = -lr * m_hat * r * sqrt(1 - beta2**t) / (sqrt(v) + eps)     where rho > threshold
        update  = -lr * m_hat                                                else

    In the early steps (5 of them at beta2 = 0.999) it is SGD with momentum: the update scales with the gradient there.
    Without `epsilon_hat` the denominator is sqrt(v_hat + eps_root) + eps, as in Optax. The paper's threshold is 4.
    `grad` and settings as in `adam.step`.

    Source: Liu et al. 2020, On the variance of the adaptive learning rate and beyond, arXiv:1908.03265, Algorithm 2, in
    the form of torch.optim.RAdam.
    """
    t = state.t + 1
    beta1, beta2 = np.asarray(beta1, dtype=np.float64), np.asarray(beta2, dtype=np.float64)
    m = beta1 * state.m + (1.0 - beta1) * grad
    v = beta2 * state.v + (1.0 - beta2) * (grad * grad)
    with np.errstate(divide="ignore", invalid="ignore"):
        m_hat, bias2 = m / (1.0 - beta1**t), 1.0 - beta2**t
        rho_inf = 2.0 / (1.0 - beta2) - 1.0
        rho = rho_inf - 2.0 * t * beta2**t / bias2
        r = np.sqrt((rho - 4.0) * (rho - 2.0) * rho_inf / ((rho_inf - 4.0) * (rho_inf - 2.0) * rho))
        scale = r * np.sqrt(bias2) / (np.sqrt(v) + eps) if epsilon_hat else r / (np.sqrt(v / bias2 + eps_root) + eps)
        update = -np.asarray(lr) * m_hat * np.where(rho > threshold, scale, 1.0)
    return update, State(t, m, v)
