"""NAdam: Adam with Nesterov momentum, as in torch.optim.NAdam, Keras and Optax."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, FloatSetting


class State(NamedTuple):
    """`t`: steps taken so far. `m`, `v`: moments, shape of the parameters. `mu_product`: mu_1 * ... * mu_t."""

    t: int
    m: FloatArray
    v: FloatArray
    mu_product: FloatSetting


def start(shape: tuple[int, ...]) -> State:
    """Return the state before the first step."""
    return State(0, np.zeros(shape), np.zeros(shape), 1.0)


def step(
    grad: FloatArray,
    state: State,
    *,
    lr: FloatSetting,
    beta1: FloatSetting = 0.9,
    beta2: FloatSetting = 0.999,
    eps: FloatSetting = 1e-8,
    momentum_decay: FloatSetting = 4e-3,
    eps_root: FloatSetting = 0.0,
) -> tuple[FloatArray, State]:
    """Return the update to add to the parameters, and the next state.

        mu_t   = beta1 * (1 - 0.5 * 0.96**(t * momentum_decay))
        m      <- beta1 * m + (1 - beta1) * g
        v      <- beta2 * v + (1 - beta2) * g**2                                v_hat = v / (1 - beta2**t)
        m_bar   = mu_(t+1) * m / (1 - mu_1 ... mu_(t+1)) + (1 - mu_t) * g / (1 - mu_1 ... mu_t)
        update  = -lr * m_bar / (sqrt(v_hat + eps_root) + eps)

    The momentum schedule is what differs: `momentum_decay` is 4e-3 in PyTorch and in the paper, 1 in Keras, whose mu is
    beta1 after a hundred steps, and infinite in Optax, whose mu is beta1 from the start.

    torch.optim.NAdam keeps the product of mu in the default dtype: with float32 the first updates of float64 parameters
    are good to seven digits only. `grad` and settings as in `adam.step`.

    Source: Dozat 2016, Incorporating Nesterov momentum into Adam, Algorithm 2 and section 3, as in torch.optim.NAdam.
    """
    t = state.t + 1
    beta1, beta2 = np.asarray(beta1, dtype=np.float64), np.asarray(beta2, dtype=np.float64)
    psi = np.asarray(momentum_decay, dtype=np.float64)
    mu, mu_next = (beta1 * (1.0 - 0.5 * 0.96 ** (now * psi)) for now in (t, t + 1))
    product = state.mu_product * mu
    m = beta1 * state.m + (1.0 - beta1) * grad
    v = beta2 * state.v + (1.0 - beta2) * (grad * grad)
    with np.errstate(divide="ignore", invalid="ignore"):
        ahead = mu_next / (1.0 - product * mu_next) * m + (1.0 - mu) / (1.0 - product) * grad
        update = -np.asarray(lr) * ahead / (np.sqrt(v / (1.0 - beta2**t) + eps_root) + eps)
    return update, State(t, m, v, product)
