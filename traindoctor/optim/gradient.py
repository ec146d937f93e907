"""What happens to a gradient before the optimizer sees it: clipping and accumulation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traindoctor.optim.norms import l2_norm

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, FloatSetting


def clip_by_norm(grad: FloatArray, *, max_norm: FloatSetting, eps: float = 1e-6, n_axes: int | None = None) -> FloatArray:
    """Return the gradient, scaled so that its L2 norm is at most `max_norm`.

        g * min(1, max_norm / (||g|| + eps))

    The norm is over the trailing `n_axes` axes (None: all). With the eps of PyTorch a clipped norm stays a little below
    `max_norm`; Keras and Optax have none (`eps=0`). A NaN in the gradient makes all of it NaN; an infinity makes the
    finite part 0 and itself NaN, as in the frameworks when they do not check.

    Source: Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, Algorithm 1, in the form of
    torch.nn.utils.clip_grad_norm_.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return grad * np.minimum(1.0, np.asarray(max_norm) / (l2_norm(grad, n_axes) + eps))


def clip_by_value(grad: FloatArray, *, limit: FloatSetting) -> FloatArray:
    """Return the gradient with each coordinate held within -limit to limit; its direction changes. NaN stays NaN.

    Source: torch.nn.utils.clip_grad_value_; `clipvalue` of Keras.
    """
    return np.clip(grad, -np.asarray(limit), np.asarray(limit))


def accumulated(micro: FloatArray, *, mean: bool = True) -> FloatArray:
    """Return the gradient of one optimizer step from those of its micro-batches, (k, ...) -> (...).

    The mean is what the large batch would have given, when all micro-batches weigh the same and their losses are means;
    the sum is what backward() leaves when the loss is not divided by k: k times as large.

    Source: `gradient_accumulation_steps` of Keras and optax.MultiSteps take the mean; plain PyTorch the sum.
    """
    return np.asarray(micro.mean(axis=0) if mean else micro.sum(axis=0))
