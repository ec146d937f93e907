"""StableAdamW: AdamW that shortens a step when the gradient outgrows its second moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.optim.norms import root_mean_square

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, FloatSetting


class State(NamedTuple):
    """`t`: steps taken so far. `m`, `v`: moments with the bias corrected in the betas, shape of the parameters."""

    t: int
    m: FloatArray
    v: FloatArray


def start(shape: tuple[int, ...]) -> State:
    """Return the state before the first step."""
    return State(0, np.zeros(shape), np.zeros(shape))


def step(
    grad: FloatArray,
    state: State,
    *,
    weight: FloatArray,
    lr: FloatSetting,
    beta1: FloatSetting = 0.9,
    beta2: FloatSetting = 0.99,
    eps: FloatSetting = 1e-6,
    weight_decay: FloatSetting = 0.0,
    n_axes: int | None = None,
) -> tuple[FloatArray, State]:
    """Return the update to add to the parameters `weight`, and the next state.

        b1      = beta1 * (1 - beta1**(t-1)) / (1 - beta1**t)             b2 likewise from beta2
        m      <- b1 * m + (1 - b1) * g                                   v <- b2 * v + (1 - b2) * g**2
        rms     = sqrt(mean(g**2 / max(v, eps**2)))                       rate = lr / max(1, rms)
        update  = -rate * m / (sqrt(v) + eps) - rate * weight_decay * w

    The mean is over the trailing `n_axes` axes (None: all), which are one tensor. Where eps is large beside sqrt(v), rms
    uses max(v, eps**2), so that a gradient of zero has no 0/0. The decay is shortened with the step. Settings as in
    `adam.step`.

    Source: Wortsman et al. 2023, Stable and low-precision training for large-scale vision-language models,
    arXiv:2304.13013, Algorithm 2, as in the package torch-optimi.
    """
    t = state.t + 1
    beta1, beta2 = np.asarray(beta1, dtype=np.float64), np.asarray(beta2, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        share1, share2 = (1.0 - beta1) / (1.0 - beta1**t), (1.0 - beta2) / (1.0 - beta2**t)
        m = (1.0 - share1) * state.m + share1 * grad
        v = (1.0 - share2) * state.v + share2 * (grad * grad)
        rms = root_mean_square(grad / np.sqrt(np.maximum(v, np.square(eps))), n_axes)
        rate = np.asarray(lr) / np.maximum(1.0, rms)
        update = -rate * m / (np.sqrt(v) + eps) - rate * np.asarray(weight_decay) * weight
    return update, State(t, m, v)
