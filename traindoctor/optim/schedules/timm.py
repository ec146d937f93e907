"""The learning rate of timm's schedulers as closed forms of the step, without cycles, noise and k-decay.

`step` counts what the scheduler counts: epochs, or updates where it is stepped on these. Arguments are named as in the
constructors. A warmup goes straight from `warmup_lr_init` to `lr` over `warmup_t`; with `warmup_prefix` the decay begins at
its end, else at 0, hidden by it. The scripts of timm pass False unless told otherwise.

Source: pytorch-image-models, timm/scheduler/cosine_lr.py, step_lr.py and multistep_lr.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.model import FloatArray, IntArray


def cosine_lr(
    step: IntArray,
    lr: float,
    *,
    t_initial: int,
    lr_min: float = 0.0,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    warmup_prefix: bool = False,
) -> FloatArray:
    """Return lr_min + (lr - lr_min) * (1 + cos(pi * step / t_initial)) / 2, and lr_min from t_initial on."""
    share = np.clip(_decayed(step, warmup_t, prefix=warmup_prefix) / t_initial, 0.0, 1.0)
    decay = lr_min + 0.5 * (lr - lr_min) * (1.0 + np.cos(np.pi * share))
    return _warmed(step, lr, decay, warmup_t, warmup_lr_init)


def step_lr(
    step: IntArray,
    lr: float,
    *,
    decay_t: float,
    decay_rate: float = 1.0,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    warmup_prefix: bool = True,
) -> FloatArray:
    """Return lr * decay_rate ** floor(step / decay_t)."""
    fallen = np.floor(_decayed(step, warmup_t, prefix=warmup_prefix) / decay_t)
    return _warmed(step, lr, lr * np.power(decay_rate, fallen), warmup_t, warmup_lr_init)


def multi_step_lr(
    step: IntArray,
    lr: float,
    *,
    decay_t: Sequence[int],
    decay_rate: float = 1.0,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    warmup_prefix: bool = True,
) -> FloatArray:
    """Return lr * decay_rate ** (number of decay_t at or before step + 1): timm decays one step early."""
    time = _decayed(step, warmup_t, prefix=warmup_prefix) + 1.0
    fallen = np.searchsorted(np.sort(decay_t), time, side="right").astype(np.float64)
    return _warmed(step, lr, lr * np.power(decay_rate, fallen), warmup_t, warmup_lr_init)


def _decayed(step: IntArray, warmup_t: int, *, prefix: bool) -> FloatArray:
    """Return the steps of the decay."""
    return np.asarray(step, dtype=np.float64) - (warmup_t if prefix else 0)


def _warmed(step: IntArray, lr: float, decay: FloatArray, warmup_t: int, start: float) -> FloatArray:
    time = np.asarray(step, dtype=np.float64)
    return np.where(time < warmup_t, start + time * (lr - start) / max(warmup_t, 1), decay)
