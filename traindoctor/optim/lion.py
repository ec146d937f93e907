"""Lion: the sign of an interpolated momentum; PyTorch has none of its own, Keras and Optax agree on its form."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, FloatSetting


class State(NamedTuple):
    """`t`: steps taken so far. `m`: momentum, shape of the parameters."""

    t: int
    m: FloatArray


def start(shape: tuple[int, ...]) -> State:
    """Return the state before the first step."""
    return State(0, np.zeros(shape))


def step(
    grad: FloatArray, state: State, *, lr: FloatSetting, beta1: FloatSetting = 0.9, beta2: FloatSetting = 0.99
) -> tuple[FloatArray, State]:
    """Return the update to add to the parameters, and the next state.

        update  = -lr * sign(beta1 * m + (1 - beta1) * g)
        m      <- beta2 * m + (1 - beta2) * g

    Each coordinate moves by lr in every step, whatever the gradient: the usual lr is 3 to 10 times below AdamW's, and
    only a decaying lr lets the loss settle. Its decay is decoupled: see `decay.decoupled`. NaN propagates, as in Optax
    and Keras; implementations in PyTorch take sign(NaN) = 0, so that a coordinate that has seen NaN stays for ever.

    Source: Chen et al. 2023, Symbolic discovery of optimization algorithms, arXiv:2302.06675, Algorithm 2.
    """
    beta1, beta2 = np.asarray(beta1, dtype=np.float64), np.asarray(beta2, dtype=np.float64)
    update = -np.asarray(lr) * np.sign(beta1 * state.m + (1.0 - beta1) * grad)
    return update, State(state.t + 1, beta2 * state.m + (1.0 - beta2) * grad)
