"""RMSprop, with optional momentum, as in torch.optim.RMSprop."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, FloatSetting


class State(NamedTuple):
    """`t`: steps taken so far. `v`, `buffer`: second moment and momentum buffer, shape of the parameters."""

    t: int
    v: FloatArray
    buffer: FloatArray


def start(shape: tuple[int, ...]) -> State:
    """Return the state before the first step."""
    return State(0, np.zeros(shape), np.zeros(shape))


def step(
    grad: FloatArray,
    state: State,
    *,
    lr: FloatSetting,
    alpha: FloatSetting = 0.99,
    eps: FloatSetting = 1e-8,
    momentum: FloatSetting = 0.0,
    grad_sq: FloatArray | None = None,
) -> tuple[FloatArray, State]:
    """Return the update to add to the parameters, and the next state.

        v      <- alpha * v + (1 - alpha) * g**2
        buffer <- momentum * buffer + g / (sqrt(v) + eps)
        update  = -lr * buffer

    There is no bias correction, so the first steps are larger by 1 / sqrt(1 - alpha). `grad_sq` as in `adam.step`.

    Source: Hinton 2012, Neural networks for machine learning, lecture 6e, in the form of torch.optim.RMSprop. TensorFlow
    1 puts eps under the square root.
    """
    alpha = np.asarray(alpha, dtype=np.float64)
    v = alpha * state.v + (1.0 - alpha) * (grad * grad if grad_sq is None else grad_sq)
    with np.errstate(divide="ignore", invalid="ignore"):
        buffer = np.asarray(momentum) * state.buffer + grad / (np.sqrt(v) + eps)
    return -np.asarray(lr) * buffer, State(state.t + 1, v, buffer)
