"""Stochastic gradient descent, with heavy-ball or Nesterov momentum, as in torch.optim.SGD, Keras and Optax."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import BoolSetting, FloatArray, FloatSetting


class State(NamedTuple):
    """`t`: steps taken so far. `buffer`: momentum buffer, shape of the parameters."""

    t: int
    buffer: FloatArray


def start(shape: tuple[int, ...]) -> State:
    """Return the state before the first step."""
    return State(0, np.zeros(shape))


def step(
    grad: FloatArray,
    state: State,
    *,
    lr: FloatSetting,
    momentum: FloatSetting = 0.0,
    dampening: FloatSetting = 0.0,
    nesterov: BoolSetting = False,
    lr_in_buffer: bool = False,
) -> tuple[FloatArray, State]:
    """Return the update to add to the parameters, and the next state.

        buffer <- momentum * buffer + (1 - dampening) * g        (the first step stores g itself;
                                                                  without momentum there is no dampening)
        update  = -lr * buffer                                   (Nesterov: -lr * (g + momentum * buffer))

    With `lr_in_buffer`, the form of the paper and of Keras: lr * g is what enters the buffer, and the update is -buffer.
    At a constant learning rate that is the same; after a change of it, the old steps keep their old rate for
    1 / (1 - momentum) steps.

    `grad`: any shape, float64; NaN propagates. Settings are scalars or arrays that broadcast against `grad`, so that a
    leading axis holds many candidates. Momentum 1 is allowed: gradients that are never cleared add up just so.

    Source: Sutskever et al. 2013, ICML, equations 1 to 4, in the form of torch.optim.SGD and optax.sgd, whose buffer is
    not scaled by the learning rate.
    """
    momentum = np.asarray(momentum, dtype=np.float64)
    moved = np.asarray(lr) * grad if lr_in_buffer else grad
    fed = np.where(momentum == 0.0, 1.0, 1.0 - np.asarray(dampening)) * moved
    buffer = moved if state.t == 0 else momentum * state.buffer + fed
    direction = np.where(nesterov, moved + momentum * buffer, buffer)
    return -direction if lr_in_buffer else -np.asarray(lr) * direction, State(state.t + 1, buffer)
