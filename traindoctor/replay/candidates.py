"""Changes of settings to try on a replay: from the one vocabulary of settings to what a simulation needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from traindoctor.replay.changes import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traindoctor.model import FloatArray, OptimizerSpec
    from traindoctor.signals.measurements import Measurements

#: Settings that a closed loop can change; any other one is not tried.
SIMULATED = (
    "optimizer.lr",
    "optimizer.eps",
    "optimizer.betas",
    "optimizer.beta1",
    "optimizer.beta2",
    "optimizer.alpha",
    "optimizer.amsgrad",
    "optimizer.momentum",
    "optimizer.nesterov",
    "schedule.name",
    "schedule.warmup_steps",
    "gradient.clip_norm",
    "gradient.accumulation_steps",
    "gradient.zero_grad",
    "batch_size",
)
#: Schedules that a closed loop knows by name: over the whole run, in place of the logged one.
Shape = Literal["", "constant", "linear", "cosine"]
SHAPES: Mapping[str, Shape] = {"linear": "linear", "cosine": "cosine", "constant": "constant", "none": "constant"}


@dataclass(frozen=True, slots=True)
class Candidate:
    """Settings to try: `spec` is the run's optimizer with the change in it.

    `lr_factor` scales the logged learning rate; `schedule` takes the place of its course, from its peak to zero over the run
    ("linear", "cosine") or constant; `warmup_steps` brings it up linearly; `clip_norm` bounds the gradient; `noise_factor`
    scales the variance of its noise (batch size before over batch size after); `clears_gradients`: whether the gradients are
    cleared between steps where the run did not.
    """

    title: str
    settings: Mapping[str, object]
    spec: OptimizerSpec
    lr_factor: float = 1.0
    schedule: Shape = ""
    clip_norm: float = np.inf
    warmup_steps: int = 0
    noise_factor: float = 1.0
    clears_gradients: bool = False

    def rate(self, step: FloatArray, n_steps: int, logged: FloatArray) -> FloatArray:
        """Return the learning rate at `step` (n,) of a run of `n_steps`, `logged` (n,) being the recorded one there."""
        rate = self.lr_factor * (np.full(np.shape(step), logged.max()) if self.schedule else logged)
        if self.schedule == "linear":
            rate = rate * (1.0 - step / n_steps)
        elif self.schedule == "cosine":
            rate = rate * 0.5 * (1.0 + np.cos(np.pi * step / n_steps))
        if self.warmup_steps:
            rate = rate * np.minimum(1.0, (step + 1.0) / self.warmup_steps)
        return rate


def candidate_of(settings: Mapping[str, object], m: Measurements) -> Candidate | str:
    """Return the candidate for a change of a run's settings, or why it cannot be tried on a simulation."""
    spec, lr, batch_size = m.optimizer, m.peak_lr, m.setting("batch_size")
    steps = m.setting("gradient.accumulation_steps")
    accumulated = float(steps) if isinstance(steps, int | float) and steps > 0 else 1.0
    made = Candidate(title_of(settings, spec), settings, spec)
    for key, value in settings.items():
        if key not in SIMULATED:
            return f"{key} is nothing that the closed loop simulates; try it with --cmd"
        if not SETTINGS[key].takes(value):
            return f"{key} cannot be {value!r}"
        field = key.partition(".")[2]
        match key, value:
            case "optimizer.lr", int() | float():
                if not lr:
                    return "the learning rate of the run is not known"
                made = replace(made, lr_factor=float(value) / lr, spec=replace(made.spec, lr=float(value)))
            case "optimizer.betas", [beta1, beta2]:
                made = replace(made, spec=replace(made.spec, beta1=float(str(beta1)), beta2=float(str(beta2))))
            case (("optimizer.amsgrad" | "optimizer.nesterov"), bool()):
                made = replace(made, spec=_with(made.spec, field, value))
            case "schedule.name", str():
                if value not in SHAPES:
                    return f"schedule {value!r} is not simulated; linear and cosine are"
                made = replace(made, schedule=SHAPES[value])
            case "schedule.warmup_steps", int():
                made = replace(made, warmup_steps=value)
            case "gradient.clip_norm", int() | float():
                made = replace(made, clip_norm=float(value))
            case "batch_size", int() | float():
                if not isinstance(batch_size, int | float) or batch_size <= 0:
                    return "the batch size of the run is not known"
                made = replace(made, noise_factor=made.noise_factor * batch_size / float(value))
            case "gradient.accumulation_steps", int() | float():
                made = replace(made, noise_factor=made.noise_factor * accumulated / float(value))
            case "gradient.zero_grad", bool():
                made = replace(made, clears_gradients=value)
            case _, int() | float() if key.startswith("optimizer.") and key != "optimizer.betas":
                made = replace(made, spec=_with(made.spec, field, float(value)))
            case _:
                return f"{key} cannot be {value!r}"
    return made


def _with(spec: OptimizerSpec, field: str, value: float | bool) -> OptimizerSpec:
    changed: dict[str, Any] = {field: value}
    return replace(spec, **changed)


def title_of(settings: Mapping[str, object], spec: OptimizerSpec | None = None) -> str:
    """Return a change in a few words: "eps 0.1", "beta2 0.99", "cosine decay to 0"; "as recorded" for none."""
    return " with ".join(_words(key, value, spec) for key, value in settings.items()) or "as recorded"


def _words(key: str, value: object, spec: OptimizerSpec | None) -> str:
    match key, value:
        case "optimizer.betas", [int() | float() as beta1, int() | float() as beta2]:
            if spec is not None and beta1 == spec.beta1:
                return f"beta2 {beta2:g}"
            return f"beta1 {beta1:g}" if spec is not None and beta2 == spec.beta2 else f"betas {beta1:g} and {beta2:g}"
        case "optimizer.amsgrad", True:
            return "amsgrad"
        case "gradient.zero_grad", True:
            return "gradients cleared"
        case "schedule.name", str() if value in ("linear", "cosine"):
            return f"{value} decay to 0"
        case "schedule.warmup_steps", _:
            return f"warmup over {value} steps"
        case "gradient.clip_norm", int() | float():
            return f"clip norm {value:g}"
    name = key.rpartition(".")[2].replace("_", " ")
    return f"{name} {value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else f"{name} {value}"
