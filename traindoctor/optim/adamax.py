"""Adamax: Adam with the infinity norm, as in torch.optim.Adamax, Keras and Optax."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, FloatSetting


class State(NamedTuple):
    """`t`: steps taken so far. `m`, `u`: first moment and decayed maximum of |g|, shape of the parameters."""

    t: int
    m: FloatArray
    u: FloatArray


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
    eps_outside: bool = False,
) -> tuple[FloatArray, State]:
    """Return the update to add to the parameters, and the next state.

        m      <- beta1 * m + (1 - beta1) * g
        u      <- max(beta2 * u, |g| + eps)
        update  = -lr / (1 - beta1**t) * m / u

    With `eps_outside`, the form of Keras: u <- max(beta2 * u, |g|), and the denominator is u + eps. The paper has no
    eps. `grad` and settings as in `adam.step`.

    Source: Kingma and Ba 2015, arXiv:1412.6980, Algorithm 2, in the form of torch.optim.Adamax and optax.adamax.
    """
    t = state.t + 1
    beta1 = np.asarray(beta1, dtype=np.float64)
    m = beta1 * state.m + (1.0 - beta1) * grad
    u = np.maximum(np.asarray(beta2) * state.u, np.abs(grad) if eps_outside else np.abs(grad) + eps)
    with np.errstate(divide="ignore", invalid="ignore"):
        update = -np.asarray(lr) / (1.0 - beta1**t) * m / (u + eps if eps_outside else u)
    return update, State(t, m, u)
