"""Muon: momentum whose singular values are brought near one, as in torch.optim.Muon and Keras; for matrices alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import BoolSetting, FloatArray, FloatSetting

#: Of the quintic iteration x -> a x + b x^3 + c x^5 on the singular values. Source: Jordan et al. 2024.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class State(NamedTuple):
    """`t`: steps taken so far. `buffer`: momentum, shape of the parameters."""

    t: int
    buffer: FloatArray


def start(shape: tuple[int, ...]) -> State:
    """Return the state before the first step; the last two axes are the matrix."""
    return State(0, np.zeros(shape))


def step(
    grad: FloatArray,
    state: State,
    *,
    lr: FloatSetting,
    momentum: FloatSetting = 0.95,
    nesterov: BoolSetting = True,
    eps: FloatSetting = 1e-7,
    ns_steps: int = 5,
    adjust_lr: Literal["original", "match_rms_adamw"] = "original",
    summed: bool = False,
) -> tuple[FloatArray, State]:
    """Return the update to add to the parameters, and the next state.

        buffer <- momentum * buffer + (1 - momentum) * g
        u       = buffer                                  (Nesterov: (1 - momentum) * g + momentum * buffer)
        update  = -lr * adjust * orthogonalized(u)

    adjust is sqrt(max(1, rows / columns)), or 0.2 * sqrt(max(rows, columns)) for "match_rms_adamw", so that the update
    is as large as AdamW's and its lr can be kept. With `summed`, the form of the paper and of Keras: g is not scaled by
    1 - momentum. That differs by a factor which the orthogonalisation removes, but for eps.

    torch.optim.Muon iterates in bfloat16, whatever the dtype of the parameters: its updates differ from these by some
    hundredths of lr * adjust, and no closer check against it is possible. The decay is decoupled, at the lr without
    adjust: see `decay.decoupled`. `grad`: (..., rows, columns).

    Source: Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks; Liu et al. 2025,
    arXiv:2502.16982, equation 4 for the match to AdamW.
    """
    momentum = np.asarray(momentum, dtype=np.float64)
    fed = grad if summed else (1.0 - momentum) * grad
    buffer = momentum * state.buffer + fed
    rows, columns = grad.shape[-2:]
    adjust = max(1.0, rows / columns) ** 0.5 if adjust_lr == "original" else 0.2 * max(rows, columns) ** 0.5
    direction = orthogonalized(np.where(nesterov, fed + momentum * buffer, buffer), eps=eps, ns_steps=ns_steps, eps_added=summed)
    return -np.asarray(lr) * adjust * direction, State(state.t + 1, buffer)


def orthogonalized(matrix: FloatArray, *, eps: FloatSetting = 1e-7, ns_steps: int = 5, eps_added: bool = False) -> FloatArray:
    """Return the matrix, (..., rows, columns), with singular values brought near one, about 0.7 to 1.2.

    A Newton-Schulz iteration on x = matrix / max(||matrix||, eps) (`eps_added`: over ||matrix|| + eps), in float64:

        s = x x^T                 x <- a x + (b s + c s s) x           ns_steps times

    A matrix of zeros stays zero; NaN and infinities make all of it NaN.

    Source: Jordan et al. 2024, as above; coefficients in `COEFFICIENTS`.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrix.shape[-2] > matrix.shape[-1]
    x = np.swapaxes(matrix, -1, -2) if is_tall else matrix
    norm = np.sqrt(np.sum(x * x, axis=(-2, -1), keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        x = x / (norm + eps if eps_added else np.maximum(norm, eps))
        for _ in range(ns_steps):
            s = x @ np.swapaxes(x, -1, -2)
            x = a * x + (b * s + c * (s @ s)) @ x
    return np.swapaxes(x, -1, -2) if is_tall else x
