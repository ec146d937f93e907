"""The size of a parameter tensor, where a recurrence or a clip needs it: LAMB, Adafactor, StableAdamW, clipping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray


def l2_norm(value: FloatArray, n_axes: int | None = None) -> FloatArray:
    """Return the L2 norm over the trailing `n_axes` axes (None: all), kept as axes of length 1; NaN propagates.

    What stands before those axes are candidates, each with a norm of its own.
    """
    return np.asarray(np.sqrt(np.sum(value * value, axis=_axes(value, n_axes), keepdims=True)))


def root_mean_square(value: FloatArray, n_axes: int | None = None) -> FloatArray:
    """Return the root mean square over the trailing `n_axes` axes (None: all), kept as axes of length 1."""
    return np.asarray(np.sqrt(np.mean(value * value, axis=_axes(value, n_axes), keepdims=True)))


def _axes(value: FloatArray, n_axes: int | None) -> tuple[int, ...]:
    count = value.ndim if n_axes is None else n_axes
    return tuple(range(value.ndim - count, value.ndim))
