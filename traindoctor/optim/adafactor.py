"""Adafactor: a second moment stored as row and column means, as in torch.optim.Adafactor, Keras and Optax."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.optim.norms import root_mean_square

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, FloatSetting

#: The eps of torch.optim.Adafactor where none is given, for float64 parameters.
MACHINE_EPS = float(np.finfo(np.float64).eps)


class State(NamedTuple):
    """`t`: steps taken so far. `row`, `column`: means of g**2 over the last axis and over the one before it.

    Both keep the axis they are means over, with length 1. Of a tensor with fewer than two axes `row` holds the second
    moment itself, and `column` is empty.
    """

    t: int
    row: FloatArray
    column: FloatArray


def start(shape: tuple[int, ...], n_axes: int | None = None) -> State:
    """Return the state before the first step; the trailing `n_axes` axes (None: all) are one tensor."""
    if (len(shape) if n_axes is None else n_axes) < 2:
        return State(0, np.zeros(shape), np.zeros(0))
    return State(0, np.zeros((*shape[:-1], 1)), np.zeros((*shape[:-2], 1, shape[-1])))


def step(
    grad: FloatArray,
    state: State,
    *,
    weight: FloatArray,
    lr: FloatSetting,
    eps: FloatSetting = MACHINE_EPS,
    eps2: FloatSetting = 1e-3,
    beta2_decay: FloatSetting = -0.8,
    clip_threshold: FloatSetting = 1.0,
    relative_step: bool = True,
    scale_parameter: bool = True,
    eps_added: bool = False,
    n_axes: int | None = None,
) -> tuple[FloatArray, State]:
    """Return the update to add to the parameters `weight`, and the next state.

        beta2   = 1 - t**beta2_decay
        row    <- beta2 * row + (1 - beta2) * mean_columns(g**2)      column likewise over the rows
        v       = row * column / max(mean(row), eps)                  u = g / sqrt(max(v, eps**2))
        rho     = min(lr, 1 / sqrt(t))                                (lr, without `relative_step`)
        rate    = rho * max(eps2, rms(w))                             (rho, without `scale_parameter`)
        update  = -rate * u / max(1, rms(u) / clip_threshold)

    Tensors with fewer than two axes keep the whole second moment. With `eps_added`, the form of the paper, Keras and
    Optax: eps is added to g**2 (1e-30) and not used again; PyTorch's is a floor, and its default is the machine epsilon
    of the dtype. rms and mean are over the trailing `n_axes` axes (None: all). Momentum is left out: neither PyTorch nor
    Keras has it. Optax factorises only axes of at least 128 (`min_dim_size_to_factor`). The decay is decoupled. Settings
    are scalars or arrays that broadcast against `grad`.

    Source: Shazeer and Stern 2018, arXiv:1804.04235, Algorithms 4 and 5, in the form of torch.optim.Adafactor.
    """
    t, axes = state.t + 1, grad.ndim if n_axes is None else n_axes
    share = float(t) ** np.asarray(beta2_decay, dtype=np.float64)
    energy = grad * grad + (eps if eps_added else 0.0)
    floor = np.asarray(0.0 if eps_added else eps)
    with np.errstate(divide="ignore", invalid="ignore"):
        if axes < 2:
            row, column = state.row + share * (energy - state.row), state.column
            v = row
        else:
            row = state.row + share * (energy.mean(axis=-1, keepdims=True) - state.row)
            column = state.column + share * (energy.mean(axis=-2, keepdims=True) - state.column)
            v = row * column / np.maximum(row.mean(axis=-2, keepdims=True), floor)
        u = grad / np.sqrt(np.maximum(v, floor * floor))
        rho = np.minimum(lr, t**-0.5) if relative_step else np.asarray(lr)
        rate = rho * np.maximum(eps2, root_mean_square(weight, axes)) if scale_parameter else rho
        update = -rate * u / np.maximum(1.0, root_mean_square(u, axes) / clip_threshold)
    return update, State(t, row, column)
