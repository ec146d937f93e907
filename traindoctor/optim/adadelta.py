"""Adadelta, as in torch.optim.Adadelta, Keras and Optax, which agree on its form."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, FloatSetting


class State(NamedTuple):
    """`t`: steps taken so far. `v`, `moved`: mean squares of gradient and of step, shape of the parameters."""

    t: int
    v: FloatArray
    moved: FloatArray


def start(shape: tuple[int, ...]) -> State:
    """Return the state before the first step."""
    return State(0, np.zeros(shape), np.zeros(shape))


def step(
    grad: FloatArray, state: State, *, lr: FloatSetting, alpha: FloatSetting = 0.9, eps: FloatSetting = 1e-6
) -> tuple[FloatArray, State]:
    """Return the update to add to the parameters, and the next state.

        v      <- alpha * v + (1 - alpha) * g**2
        delta   = sqrt(moved + eps) / sqrt(v + eps) * g
        moved  <- alpha * moved + (1 - alpha) * delta**2
        update  = -lr * delta

    `alpha` is the paper's and the frameworks' rho (0.9 in PyTorch and Optax, 0.95 in Keras). eps is inside the roots: it
    starts the steps off, so that a change of it changes how fast they grow. The paper has no lr; it is 1 in PyTorch, and
    1e-3 in Keras, which makes Keras' default a thousand times slower. `grad` and settings as in `adam.step`.

    Source: Zeiler 2012, arXiv:1212.5701, Algorithm 1, with the lr of torch.optim.Adadelta.
    """
    alpha = np.asarray(alpha, dtype=np.float64)
    v = alpha * state.v + (1.0 - alpha) * (grad * grad)
    with np.errstate(divide="ignore", invalid="ignore"):
        delta = np.sqrt(state.moved + eps) / np.sqrt(v + eps) * grad
    moved = alpha * state.moved + (1.0 - alpha) * (delta * delta)
    return -np.asarray(lr) * delta, State(state.t + 1, v, moved)
