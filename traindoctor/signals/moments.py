"""What the norms of updates and weights show of an optimizer's moments and of its weight decay."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, IntArray
    from traindoctor.signals.measurements import Measurements


def correction_factor(step: IntArray, beta1: float, beta2: float) -> FloatArray:
    """Return by how much an update without bias correction is too large at steps counted from 0.

    (1 - beta1^t) / sqrt(1 - beta2^t) at t = step + 1, from the two corrections of Kingma and Ba 2015, algorithm 1: 3.16 at the
    first step for 0.9 and 0.999, at most 6.57 at the twelfth, below 1.5 from the 587th on.
    """
    t = np.asarray(step, dtype=np.float64) + 1.0
    return (1.0 - beta1**t) / np.sqrt(1.0 - beta2**t)


def early_growth(step: IntArray, update: FloatArray, lr: FloatArray) -> float:
    """Return the largest update over lr within the first 50 steps, over that of the very first step.

    The first update of a corrected Adam has the size lr in each coordinate, and later ones are smaller, since gradients point
    less and less the same way. Without the corrections they grow for a dozen steps. NaN where step 0 was not logged, or fewer
    than six points of the first 50 steps. `step` (n,) int64, `update` and `lr` (n,) float64 at these steps.
    """
    keep = (step < 50) & np.isfinite(update) & (lr > 0.0)
    if keep.sum() < 6 or step[keep][0] != 0:
        return float("nan")
    size = update[keep] / lr[keep]
    return float(np.median(np.sort(size[1:])[-3:]) / size[0]) if size[0] > 0.0 else float("nan")


def first_updates_of_gains(m: Measurements) -> FloatArray:
    """Return the very first update of each gain of a normalisation layer, over its norm and the learning rate, (k,).

    A gain begins as ones, so that its norm is the root of its size: an optimizer of Adam's family moves it by lr in each
    coordinate, which makes this 1, and (1 - beta1) / sqrt(1 - beta2) where the moments are not corrected. Empty where step 0, the
    ratios or the learning rate were not logged, or no layer is called a norm.
    """
    if not (m.has("layers") and m.layers.has("update_ratio", 1)) or m.layers.step[0] != 0:
        return np.empty(0)
    gains = [kind == "gain" and "bias" not in name for name, kind in zip(m.layers.names, m.layers.kinds, strict=True)]
    lr = float(m.lr_at(m.layers.step[:1])[0])
    first = m.layers.matrix("update_ratio")[0][gains]
    return np.asarray(first[np.isfinite(first)] / lr) if lr > 0.0 else np.empty(0)


def update_norms(m: Measurements) -> tuple[IntArray, FloatArray, str] | None:
    """Return steps, norms of the whole update and where they stand: as logged, else put together from the layers' ratios."""
    if m.has("update_norm"):
        series = m.series("update_norm")
        return series.step, series.value, series.source
    if not (m.has("layers") and m.layers.has("update_ratio") and m.layers.has("weight_norm")):
        return None
    ratio, weight = m.layers.matrix("update_ratio"), m.layers.matrix("weight_norm")
    square = np.nansum((ratio * weight) ** 2, axis=1)
    keep = np.isfinite(ratio * weight).any(axis=1)
    return m.layers.step[keep], np.sqrt(square[keep]), m.layers.source("update_ratio")


def decay_over_gradient(m: Measurements) -> float:
    """Return the pull of a coupled weight decay over the gradient, weight_decay |w| / |g|, median over the later half.

    NaN where decay, gradient norm or weight norm is not known.
    """
    decay = m.setting("optimizer.weight_decay")
    if not isinstance(decay, int | float) or not (m.has("grad_norm") and m.has("weight_norm")):
        return float("nan")
    step = m.grad_norm.step[m.grad_norm.n // 2 :]
    weight = np.interp(step, m.weight_norm.step, m.weight_norm.value)
    with np.errstate(divide="ignore", invalid="ignore"):
        pull = float(decay) * weight / m.grad_norm.value[m.grad_norm.n // 2 :]
    pull = pull[~np.isnan(pull)]
    return float(np.median(pull)) if pull.size else float("nan")
