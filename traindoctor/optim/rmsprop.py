"""RMSprop, with optional centring and momentum, as in torch.optim.RMSprop, TensorFlow, Keras and Optax."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import BoolSetting, FloatArray, FloatSetting


class State(NamedTuple):
    """`t`: steps taken so far. `v`, `buffer`, `mean`: second moment, momentum buffer and mean gradient.

    Each has the shape of the parameters; `mean` is used by the centred form alone.
    """

    t: int
    v: FloatArray
    buffer: FloatArray
    mean: FloatSetting = 0.0


def start(shape: tuple[int, ...], initial: FloatSetting = 0.0) -> State:
    """Return the state before the first step; `initial` is the second moment's starting value (TensorFlow 1: 1.0)."""
    return State(0, np.zeros(shape) + initial, np.zeros(shape), np.zeros(shape))


def step(
    grad: FloatArray,
    state: State,
    *,
    lr: FloatSetting,
    alpha: FloatSetting = 0.99,
    eps: FloatSetting = 1e-8,
    momentum: FloatSetting = 0.0,
    centered: BoolSetting = False,
    eps_inside: bool = False,
    lr_in_buffer: bool = False,
    grad_sq: FloatArray | None = None,
) -> tuple[FloatArray, State]:
    """Return the update to add to the parameters, and the next state.

        v      <- alpha * v + (1 - alpha) * g**2
        mean   <- alpha * mean + (1 - alpha) * g         (centered: v - mean**2 stands for v in the next line)
        buffer <- momentum * buffer + g / (sqrt(v) + eps)
        update  = -lr * buffer

    There is no bias correction, so the first steps are larger by 1 / sqrt(1 - alpha). With `eps_inside`, the denominator
    is sqrt(v + eps), as in TensorFlow, Keras and Optax: the same eps then acts like its root. With `lr_in_buffer`, what
    enters the buffer is multiplied by lr (these three again, see `sgd.step`). `grad_sq` as in `adam.step`.

    Source: Hinton 2012, Neural networks for machine learning, lecture 6e, in the form of torch.optim.RMSprop; Graves
    2013, arXiv:1308.0850, equations 38 to 41 for the centred form with momentum.
    """
    alpha, rate = np.asarray(alpha, dtype=np.float64), np.asarray(lr)
    v = alpha * state.v + (1.0 - alpha) * (grad * grad if grad_sq is None else grad_sq)
    mean = alpha * state.mean + (1.0 - alpha) * grad if np.any(centered) else state.mean
    energy = np.where(centered, v - np.square(mean), v) if np.any(centered) else v
    with np.errstate(divide="ignore", invalid="ignore"):
        fed = grad / (np.sqrt(energy + eps) if eps_inside else np.sqrt(energy) + eps)
        buffer = np.asarray(momentum) * state.buffer + (rate * fed if lr_in_buffer else fed)
    return -buffer if lr_in_buffer else -rate * buffer, State(state.t + 1, v, buffer, mean)
