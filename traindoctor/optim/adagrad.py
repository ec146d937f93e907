"""Adagrad, as in torch.optim.Adagrad, Keras and Optax."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, FloatSetting


class State(NamedTuple):
    """`t`: steps taken so far. `total`: sum of squared gradients, shape of the parameters."""

    t: int
    total: FloatArray


def start(shape: tuple[int, ...], initial: FloatSetting = 0.0) -> State:
    """Return the state before the first step; `initial` is the accumulator's starting value (Keras and Optax: 0.1)."""
    return State(0, np.zeros(shape) + initial)


def step(
    grad: FloatArray,
    state: State,
    *,
    lr: FloatSetting,
    eps: FloatSetting = 1e-10,
    lr_decay: FloatSetting = 0.0,
    eps_inside: bool = False,
    grad_sq: FloatArray | None = None,
) -> tuple[FloatArray, State]:
    """Return the update to add to the parameters, and the next state.

        total <- total + g**2
        update = -lr / (1 + (t - 1) * lr_decay) * g / (sqrt(total) + eps)

    With `eps_inside`, the denominator of Keras and Optax, sqrt(total + eps). `grad_sq` as in `adam.step`.

    Source: Duchi, Hazan and Singer 2011, JMLR 12, Figure 1 (diagonal form), in the form of torch.optim.Adagrad.
    """
    total = state.total + (grad * grad if grad_sq is None else grad_sq)
    rate = np.asarray(lr) / (1.0 + state.t * np.asarray(lr_decay))
    with np.errstate(divide="ignore", invalid="ignore"):
        update = -rate * grad / (np.sqrt(total + eps) if eps_inside else np.sqrt(total) + eps)
    return update, State(state.t + 1, total)
