"""LAMB: Adam whose step is as long as a share of the weights of its tensor, as in Optax and in Keras."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traindoctor.optim import adam
from traindoctor.optim.norms import l2_norm

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, FloatSetting

State = adam.State
start = adam.start


def step(
    grad: FloatArray,
    state: adam.State,
    *,
    weight: FloatArray,
    lr: FloatSetting,
    beta1: FloatSetting = 0.9,
    beta2: FloatSetting = 0.999,
    eps: FloatSetting = 1e-6,
    weight_decay: FloatSetting = 0.0,
    n_axes: int | None = None,
) -> tuple[FloatArray, adam.State]:
    """Return the update to add to the parameters `weight`, and the next state.

        r       = m_hat / (sqrt(v_hat) + eps) + weight_decay * w          m_hat, v_hat as in `adam.step`
        update  = -lr * ||w|| / ||r|| * r                                 (the ratio is 1 where a norm is 0)

    The norms are over the trailing `n_axes` axes (None: all), which are one tensor. Weights that are zero take Adam's
    step. Keras has no decay in r: it shrinks the weights first, see `decay.decoupled`, and takes `w` after that. Settings
    as in `adam.step`.

    Source: You et al. 2020, Large batch optimization for deep learning, arXiv:1904.00962, Algorithm 2 with phi(x) = x,
    as in optax.lamb. DeepSpeed and others bound the ratio.
    """
    direction, after = adam.step(grad, state, lr=-1.0, beta1=beta1, beta2=beta2, eps=eps)
    r = direction + np.asarray(weight_decay) * weight
    of_weight, of_r = l2_norm(weight, n_axes), l2_norm(r, n_axes)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where((of_weight == 0.0) | (of_r == 0.0), 1.0, of_weight / of_r)
    return -np.asarray(lr) * ratio * r, after
