"""The learning rate of DeepSpeed's warmup schedulers as closed forms of the step.

`step` counts the calls of `scheduler.step()`. DeepSpeed's own count starts at -1, so that step 0 uses the lowest rate once
more than the formula says: here step 0 is DeepSpeed's batch 0. `lr` is overwritten where a scheduler has a rate of its own.

Source: deepspeed/runtime/lr_schedules.py: WarmupLR, WarmupDecayLR, WarmupCosineLR.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, IntArray


def warmup_lr(
    step: IntArray,
    lr: float,
    *,
    warmup_min_lr: float = 0.0,
    warmup_max_lr: float = 1e-3,
    warmup_num_steps: int = 1000,
    warmup_type: str = "log",
) -> FloatArray:
    """Return the way from the lowest to the highest rate, by the logarithm of the step or straight, and the highest then."""
    del lr
    time = np.asarray(step, dtype=np.float64)
    return warmup_min_lr + (warmup_max_lr - warmup_min_lr) * _risen(time, warmup_num_steps, warmup_type, np.ones_like(time))


def warmup_decay_lr(
    step: IntArray,
    lr: float,
    *,
    total_num_steps: int,
    warmup_min_lr: float = 0.0,
    warmup_max_lr: float = 1e-3,
    warmup_num_steps: int = 1000,
    warmup_type: str = "log",
) -> FloatArray:
    """Return the rate of `warmup_lr`, that after the warmup falls in a line to the lowest rate at total_num_steps."""
    del lr
    time = np.asarray(step, dtype=np.float64)
    left = np.maximum(total_num_steps - time, 0.0) / max(1.0, total_num_steps - max(2, warmup_num_steps))
    return warmup_min_lr + (warmup_max_lr - warmup_min_lr) * _risen(time, warmup_num_steps, warmup_type, left)


def warmup_cosine_lr(
    step: IntArray,
    lr: float,
    *,
    total_num_steps: int,
    warmup_min_ratio: float = 0.0,
    warmup_num_steps: int = 1000,
    cos_min_ratio: float = 1e-4,
    warmup_type: str = "log",
) -> FloatArray:
    """Return lr times a warmup from `warmup_min_ratio` to 1, then half a cosine down to `cos_min_ratio`, where it stays."""
    time = np.asarray(step, dtype=np.float64)
    warmup = max(2, warmup_num_steps)
    share = np.clip((time - warmup + 1.0) / max(1, total_num_steps - warmup), 0.0, 1.0)
    decay = cos_min_ratio + (1.0 - cos_min_ratio) * (1.0 + np.cos(np.pi * share)) / 2.0
    rise = warmup_min_ratio + (1.0 - warmup_min_ratio) * _risen(time, warmup_num_steps, warmup_type, np.ones_like(time))
    return lr * np.where(time < warmup, rise, decay)


def _risen(time: FloatArray, warmup_num_steps: int, warmup_type: str, after: FloatArray) -> FloatArray:
    warmup = max(2, warmup_num_steps)
    way = time / warmup if warmup_type == "linear" else np.log1p(np.minimum(time, warmup)) / math.log(warmup)
    return np.where(time < warmup, way, after)
