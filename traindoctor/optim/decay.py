"""Weight decay: as a penalty in the gradient (coupled), and beside the update (decoupled)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, FloatSetting


def coupled(grad: FloatArray, weight: FloatArray, *, weight_decay: FloatSetting) -> FloatArray:
    """Return the gradient of the loss plus an L2 penalty: g + weight_decay * w. It passes through the moments.

    `weight_decay` is a scalar or an array that broadcasts against `grad`. Where it is 0 the gradient stays as it is,
    also beside a weight that is infinite, as in torch.optim.

    Source: Loshchilov and Hutter 2019, arXiv:1711.05101, Algorithm 2, line 6, what they call L2 regularization;
    `weight_decay` of torch.optim's SGD, Adam, NAdam, RAdam, Adamax, Adagrad, Adadelta, RMSprop and ASGD.
    """
    return grad + _share(weight, weight_decay)


def decoupled(weight: FloatArray, *, lr: FloatSetting, weight_decay: FloatSetting) -> FloatArray:
    """Return the decay to add beside the update: -lr * weight_decay * w. It does not pass through the moments.

    The paper multiplies by the schedule's factor alone and not by lr, so that its weight_decay is lr times the frameworks'.

    Source: Loshchilov and Hutter 2019, arXiv:1711.05101, Algorithm 2, line 12, in the form of torch.optim.AdamW and
    optax.adamw; `weight_decay` of every optimizer of Keras 3.
    """
    return -np.asarray(lr) * _share(weight, weight_decay)


def _share(weight: FloatArray, weight_decay: FloatSetting) -> FloatArray:
    rate = np.asarray(weight_decay, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        return np.where(rate == 0.0, 0.0, rate * weight)
