"""The learning rate of the schedules that `transformers.get_scheduler` knows, as closed forms of the step.

`step` counts calls of `scheduler.step()` from 0, `lr` is the optimizer's rate. Arguments are named, and default, as in
transformers. All but the two that follow a metric multiply lr by a factor of the step alone, through torch's LambdaLR.

Source: transformers/optimization.py of transformers 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, IntArray

#: Schedules whose rate is not a function of the step: they follow the loss.
FOLLOWS_A_METRIC = frozenset({"reduce_lr_on_plateau", "greedy"})


def constant(step: IntArray, lr: float) -> FloatArray:
    """Return lr at every step."""
    return np.full(np.shape(step), float(lr))


def constant_with_warmup(step: IntArray, lr: float, *, num_warmup_steps: int) -> FloatArray:
    """Return lr * min(step / num_warmup_steps, 1)."""
    time = _float(step)
    return lr * np.where(time < num_warmup_steps, time / max(1, num_warmup_steps), 1.0)


def linear(step: IntArray, lr: float, *, num_warmup_steps: int, num_training_steps: int) -> FloatArray:
    """Return the warmup, then lr * max(0, (num_training_steps - step) / (num_training_steps - num_warmup_steps))."""
    time = _float(step)
    left = (num_training_steps - time) / max(1, num_training_steps - num_warmup_steps)
    return _warmed(time, lr, num_warmup_steps, np.maximum(0.0, left))


def cosine(step: IntArray, lr: float, *, num_warmup_steps: int, num_training_steps: int, num_cycles: float = 0.5) -> FloatArray:
    """Return the warmup, then lr * max(0, (1 + cos(2 pi num_cycles progress)) / 2).

    progress = (step - num_warmup_steps) / (num_training_steps - num_warmup_steps); beyond 1 the rate rises again.
    """
    return cosine_with_min_lr(
        step, lr, num_warmup_steps=num_warmup_steps, num_training_steps=num_training_steps, num_cycles=num_cycles
    )


def cosine_with_restarts(
    step: IntArray, lr: float, *, num_warmup_steps: int, num_training_steps: int, num_cycles: int = 1
) -> FloatArray:
    """Return the warmup, then lr * (1 + cos(pi * (num_cycles * progress mod 1))) / 2, and 0 from the end on."""
    time = _float(step)
    progress = _progress(time, num_warmup_steps, num_training_steps)
    factor = 0.5 * (1.0 + np.cos(np.pi * np.mod(num_cycles * progress, 1.0)))
    return _warmed(time, lr, num_warmup_steps, np.where(progress >= 1.0, 0.0, np.maximum(0.0, factor)))


def polynomial(
    step: IntArray, lr: float, *, num_warmup_steps: int, num_training_steps: int, lr_end: float = 1e-7, power: float = 1.0
) -> FloatArray:
    """Return the warmup, then (lr - lr_end) * (1 - progress) ** power + lr_end, and lr_end after the end."""
    time = _float(step)
    left = np.clip(1.0 - (time - num_warmup_steps) / (num_training_steps - num_warmup_steps), 0.0, 1.0)
    return _warmed(time, lr, num_warmup_steps, ((lr - lr_end) * left**power + lr_end) / lr)


def inverse_sqrt(step: IntArray, lr: float, *, num_warmup_steps: int, timescale: int | None = None) -> FloatArray:
    """Return the warmup, then lr / sqrt((step + timescale - num_warmup_steps) / timescale).

    `timescale`: by default num_warmup_steps, or 10,000 where that is 0.

    Source: Zhai et al. 2022, Scaling vision transformers, arXiv:2106.04560, section 3.5, in big_vision's form.
    """
    time = _float(step)
    scale = float(timescale or num_warmup_steps or 10_000)
    since = np.maximum(time, num_warmup_steps) + scale - num_warmup_steps
    return _warmed(time, lr, num_warmup_steps, 1.0 / np.sqrt(since / scale))


def cosine_with_min_lr(
    step: IntArray,
    lr: float,
    *,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
) -> FloatArray:
    """Return `cosine` pressed into the range from the lowest rate to lr; min_lr_rate is the lowest over lr."""
    time = _float(step)
    low = _low(lr, min_lr, min_lr_rate)
    factor = 0.5 * (1.0 + np.cos(2.0 * np.pi * num_cycles * _progress(time, num_warmup_steps, num_training_steps)))
    return _warmed(time, lr, num_warmup_steps, np.maximum(0.0, factor * (1.0 - low) + low))


def cosine_warmup_with_min_lr(
    step: IntArray,
    lr: float,
    *,
    num_warmup_steps: int,
    num_training_steps: int,
    num_cycles: float = 0.5,
    min_lr: float | None = None,
    min_lr_rate: float | None = None,
    warmup_lr_rate: float | None = None,
) -> FloatArray:
    """Return `cosine_with_min_lr` one step ahead: the warmup starts at lr / num_warmup_steps, or at warmup_lr_rate * lr."""
    time = _float(step)
    low = _low(lr, min_lr, min_lr_rate)
    factor = 0.5 * (1.0 + np.cos(2.0 * np.pi * num_cycles * _progress(time + 1.0, num_warmup_steps, num_training_steps)))
    if warmup_lr_rate is None:
        warmup = (time + 1.0) / max(1, num_warmup_steps)
    else:
        warmup = warmup_lr_rate + (1.0 - warmup_lr_rate) * time / max(1, num_warmup_steps - 1)
    return lr * np.where(time < num_warmup_steps, warmup, np.maximum(0.0, factor * (1.0 - low) + low))


def warmup_stable_decay(
    step: IntArray,
    lr: float,
    *,
    num_warmup_steps: int,
    num_decay_steps: int,
    num_training_steps: int | None = None,
    num_stable_steps: int | None = None,
    warmup_type: str = "linear",
    decay_type: str = "cosine",
    min_lr_ratio: float = 0.0,
    num_cycles: float = 0.5,
) -> FloatArray:
    """Return a warmup from min_lr_ratio * lr, lr held, a decay to min_lr_ratio * lr, and that from there on.

    `warmup_type`, `decay_type`: "linear", "cosine" or "1-sqrt". The rate is held for what the other two leave of
    num_training_steps, unless num_stable_steps says it.

    Source: Hu et al. 2024, MiniCPM, arXiv:2404.06395, section 4.
    """
    time = _float(step)
    if num_stable_steps is None:
        num_stable_steps = (num_training_steps or 0) - num_warmup_steps - num_decay_steps
    decays_from = num_warmup_steps + num_stable_steps
    up = np.clip(time / max(1, num_warmup_steps), 0.0, 1.0)
    down = np.clip((time - decays_from) / max(1, num_decay_steps), 0.0, 1.0)
    rise = {"linear": up, "cosine": 0.5 * (1.0 - np.cos(np.pi * up)), "1-sqrt": 1.0 - np.sqrt(1.0 - up)}[warmup_type]
    fall = {"linear": 1.0 - down, "cosine": 0.5 * (1.0 + np.cos(2.0 * np.pi * num_cycles * down)), "1-sqrt": 1.0 - np.sqrt(down)}
    span = 1.0 - min_lr_ratio
    phases = [time < num_warmup_steps, time < decays_from, time < decays_from + num_decay_steps]
    factor = np.select(
        phases, [rise * span + min_lr_ratio, np.ones_like(time), fall[decay_type] * span + min_lr_ratio], min_lr_ratio
    )
    return np.asarray(lr * np.maximum(0.0, factor), dtype=np.float64)


def _warmed(time: FloatArray, lr: float, warmup: int, factor: FloatArray) -> FloatArray:
    """Return lr times a straight way from 0 to 1 over the warmup, then lr times the factor."""
    return lr * np.where(time < warmup, time / max(1, warmup), factor)


def _progress(time: FloatArray, warmup: int, total: int) -> FloatArray:
    return (time - warmup) / max(1, total - warmup)


def _low(lr: float, min_lr: float | None, min_lr_rate: float | None) -> float:
    """Return the lowest rate over lr, 0 where none is set."""
    return min_lr / lr if min_lr is not None else min_lr_rate or 0.0


def _float(step: IntArray) -> FloatArray:
    return np.asarray(step, dtype=np.float64)
