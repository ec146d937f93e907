"""The learning rate of a step: the schedules of PyTorch, Hugging Face, Keras, Optax, timm and DeepSpeed as pure functions.

A `ScheduleSpec` names one schedule with its settings; `learning_rate` gives its rate at any steps. Every function is a
closed form of the step in float64; the frameworks' own step-by-step products differ from it by rounding alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.optim.schedules import deepspeed, huggingface, keras, optax, pytorch, timm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from traindoctor.model import FloatArray, IntArray

__all__ = ["FOLLOWS_A_METRIC", "SCHEDULES", "ScheduleSpec", "learning_rate"]

#: Name -> its rate as a function of step, lr and the settings of the framework's own constructor.
SCHEDULES: Mapping[str, Callable[..., FloatArray]] = {
    "torch.LambdaLR": pytorch.lambda_lr,
    "torch.MultiplicativeLR": pytorch.multiplicative_lr,
    "torch.StepLR": pytorch.step_lr,
    "torch.MultiStepLR": pytorch.multi_step_lr,
    "torch.ConstantLR": pytorch.constant_lr,
    "torch.LinearLR": pytorch.linear_lr,
    "torch.ExponentialLR": pytorch.exponential_lr,
    "torch.CosineAnnealingLR": pytorch.cosine_annealing_lr,
    "torch.PolynomialLR": pytorch.polynomial_lr,
    "torch.CosineAnnealingWarmRestarts": pytorch.cosine_annealing_warm_restarts,
    "torch.CyclicLR": pytorch.cyclic_lr,
    "torch.OneCycleLR": pytorch.one_cycle_lr,
    "torch.SWALR": pytorch.swa_lr,
    "huggingface.constant": huggingface.constant,
    "huggingface.constant_with_warmup": huggingface.constant_with_warmup,
    "huggingface.linear": huggingface.linear,
    "huggingface.cosine": huggingface.cosine,
    "huggingface.cosine_with_restarts": huggingface.cosine_with_restarts,
    "huggingface.polynomial": huggingface.polynomial,
    "huggingface.inverse_sqrt": huggingface.inverse_sqrt,
    "huggingface.cosine_with_min_lr": huggingface.cosine_with_min_lr,
    "huggingface.cosine_warmup_with_min_lr": huggingface.cosine_warmup_with_min_lr,
    "huggingface.warmup_stable_decay": huggingface.warmup_stable_decay,
    "keras.ExponentialDecay": keras.exponential_decay,
    "keras.InverseTimeDecay": keras.inverse_time_decay,
    "keras.PiecewiseConstantDecay": keras.piecewise_constant_decay,
    "keras.PolynomialDecay": keras.polynomial_decay,
    "keras.CosineDecay": keras.cosine_decay,
    "keras.CosineDecayRestarts": keras.cosine_decay_restarts,
    "optax.constant_schedule": optax.constant_schedule,
    "optax.polynomial_schedule": optax.polynomial_schedule,
    "optax.linear_schedule": optax.linear_schedule,
    "optax.exponential_decay": optax.exponential_decay,
    "optax.cosine_decay_schedule": optax.cosine_decay_schedule,
    "optax.warmup_constant_schedule": optax.warmup_constant_schedule,
    "optax.warmup_cosine_decay_schedule": optax.warmup_cosine_decay_schedule,
    "optax.warmup_exponential_decay_schedule": optax.warmup_exponential_decay_schedule,
    "optax.piecewise_constant_schedule": optax.piecewise_constant_schedule,
    "optax.piecewise_interpolate_schedule": optax.piecewise_interpolate_schedule,
    "optax.linear_onecycle_schedule": optax.linear_onecycle_schedule,
    "optax.cosine_onecycle_schedule": optax.cosine_onecycle_schedule,
    "optax.sgdr_schedule": optax.sgdr_schedule,
    "timm.CosineLRScheduler": timm.cosine_lr,
    "timm.StepLRScheduler": timm.step_lr,
    "timm.MultiStepLRScheduler": timm.multi_step_lr,
    "deepspeed.WarmupLR": deepspeed.warmup_lr,
    "deepspeed.WarmupDecayLR": deepspeed.warmup_decay_lr,
    "deepspeed.WarmupCosineLR": deepspeed.warmup_cosine_lr,
}
#: Schedules made of others: in turn, or all at every step.
COMPOSED = frozenset({"torch.SequentialLR", "torch.ChainedScheduler", "optax.join_schedules"})
#: Schedules whose rate follows a measured value, so that no function of the step exists.
FOLLOWS_A_METRIC = frozenset(
    [f"torch.{name}" for name in pytorch.FOLLOWS_A_METRIC] + [f"huggingface.{name}" for name in huggingface.FOLLOWS_A_METRIC]
)


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """One schedule and its settings.

    `name`: framework and name there ("torch.StepLR", "huggingface.cosine"). `lr`: the rate it starts from, or its peak
    where the framework calls that so. `settings`: as the framework's constructor takes them. `parts`: of a schedule made of
    others. `every`: optimizer steps between two calls of the schedule, 1 when it is called each step. `warmup`: steps over
    which the schedule is raised in proportion from 0, as Detectron2 and mmcv do to any. `assumed`: settings that no config
    states. `origin`: setting -> place.
    """

    name: str
    lr: float
    settings: Mapping[str, object] = field(default_factory=dict)
    parts: tuple[ScheduleSpec, ...] = ()
    every: float = 1.0
    warmup: int = 0
    assumed: frozenset[str] = frozenset()
    origin: Mapping[str, str] = field(default_factory=dict)

    @property
    def follows_a_metric(self) -> bool:
        """Whether the rate hangs on a measured value and not on the step alone."""
        return self.name in FOLLOWS_A_METRIC or any(part.follows_a_metric for part in self.parts)


def learning_rate(spec: ScheduleSpec, step: IntArray) -> FloatArray:
    """Return the learning rate that a schedule gives at each step, float64 of the shape of `step`.

    `step`: optimizer steps already taken, any integers from 0. Where the schedule is called every n steps, its own count is
    floor(step / n).

    Raises: LookupError for a name that is not known, and for a schedule that follows a metric (see
    `pytorch.reduce_lr_on_plateau`).
    """
    count = np.asarray(step)
    if spec.every != 1.0:
        count = np.floor(count / spec.every + 1e-9).astype(np.int64)
    if spec.follows_a_metric:
        raise LookupError(f"{spec.name} follows a metric: its rate is no function of the step")
    if spec.name in COMPOSED:
        rate = _composed(spec, count)
    elif spec.name in SCHEDULES:
        rate = np.asarray(SCHEDULES[spec.name](count, spec.lr, **spec.settings), dtype=np.float64)
    else:
        raise LookupError(f"{spec.name} is no schedule that is known")
    return rate * np.minimum(np.asarray(step) / spec.warmup, 1.0) if spec.warmup else rate


def _composed(spec: ScheduleSpec, count: IntArray) -> FloatArray:
    parts = [
        pytorch.Part(part.name.partition(".")[2], part.lr, part.settings, partial(learning_rate, part)) for part in spec.parts
    ]
    if spec.name == "torch.ChainedScheduler":
        return pytorch.chained_scheduler(count, parts)
    boundaries = spec.settings["boundaries" if spec.name == "optax.join_schedules" else "milestones"]
    return pytorch.sequential_lr(count, parts, [int(b) for b in boundaries])  # type: ignore[attr-defined]
