"""Rprop: step sizes that follow the signs of the gradient alone, as in torch.optim.Rprop."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, FloatSetting


class State(NamedTuple):
    """`t`: steps taken so far. `last`, `size`: gradient of the last step and step sizes, shape of the parameters."""

    t: int
    last: FloatArray
    size: FloatArray


def start(shape: tuple[int, ...]) -> State:
    """Return the state before the first step; the step sizes begin at the lr of that step."""
    return State(0, np.zeros(shape), np.zeros(shape))


def step(
    grad: FloatArray,
    state: State,
    *,
    lr: FloatSetting,
    eta_minus: FloatSetting = 0.5,
    eta_plus: FloatSetting = 1.2,
    step_min: FloatSetting = 1e-6,
    step_max: FloatSetting = 50.0,
) -> tuple[FloatArray, State]:
    """Return the update to add to the parameters, and the next state.

        size   <- clip(size * (eta_plus where g * last > 0, eta_minus where g * last < 0, else 1), step_min, step_max)
        g      <- 0 where g * last < 0
        update  = -size * sign(g)                        last <- g

    `lr` is the step size of the first step and plays no part later: no schedule reaches Rprop. It is for full batches:
    the signs of mini-batch gradients flip with the noise. NaN propagates here; PyTorch's sign of NaN is 0, so that it
    leaves such a coordinate where it is. Settings as in `adam.step`.

    Source: Riedmiller and Braun 1993, IEEE ICNN; Igel and Huesken 2000, the form without weight-backtracking (iRprop-),
    as in torch.optim.Rprop.
    """
    size = np.zeros_like(state.size) + lr if state.t == 0 else state.size
    turn = grad * state.last
    factor = np.where(turn > 0.0, eta_plus, np.where(turn < 0.0, eta_minus, 1.0))
    size = np.clip(size * factor, step_min, step_max)
    kept = np.where(turn < 0.0, 0.0, grad)
    return -size * np.sign(kept), State(state.t + 1, kept, size)
