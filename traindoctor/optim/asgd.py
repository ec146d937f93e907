"""ASGD: gradient descent with a decaying rate and an average of the iterates, as in torch.optim.ASGD."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, FloatSetting


class State(NamedTuple):
    """`t`: steps taken so far. `rate`: of the next step, None for the lr it is given. `average`: of the parameters."""

    t: int
    rate: FloatSetting | None
    average: FloatArray


def start(shape: tuple[int, ...]) -> State:
    """Return the state before the first step."""
    return State(0, None, np.zeros(shape))


def step(
    grad: FloatArray,
    state: State,
    *,
    weight: FloatArray,
    lr: FloatSetting,
    lambd: FloatSetting = 1e-4,
    alpha: FloatSetting = 0.75,
    t0: float = 1e6,
) -> tuple[FloatArray, State]:
    """Return the update to add to the parameters `weight`, and the next state.

        update   = -rate * g - lambd * rate * w
        average <- average + (w + update - average) / max(1, t - 1 - t0)
        rate    <- lr / (1 + lambd * lr * t)**alpha      (the first step's rate is lr)

    The rate of a step is made at the end of the one before, from that step's lr: a schedule acts one step late. Up to
    t0 the average is the parameters themselves. torch.optim.ASGD keeps the rate in the default dtype: with float32 it is
    good to seven digits only, also for float64 parameters. Settings as in `adam.step`.

    Source: Polyak and Juditsky 1992, SIAM J. Control Optim. 30; Bottou 2010 for the rate; form of torch.optim.ASGD.
    """
    t, lr, lambd = state.t + 1, np.asarray(lr, dtype=np.float64), np.asarray(lambd, dtype=np.float64)
    rate = lr if state.rate is None else state.rate
    update = -rate * grad - lambd * rate * weight
    average = state.average + (weight + update - state.average) / max(1.0, t - 1 - t0)
    return update, State(t, lr / (1.0 + lambd * lr * t) ** np.asarray(alpha), average)
