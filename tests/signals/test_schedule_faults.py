"""Faults planted in a logged learning rate: schedules, habits of logging and dialects of configs, each with each."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from traindoctor.configs.schedule import configured_schedule
from traindoctor.model import Setting
from traindoctor.optim.schedules import ScheduleSpec, learning_rate
from traindoctor.signals.schedule import reconcile

LR, TOTAL, WARMUP, PER_EPOCH, RESUMED = 1e-3, 600, 60, 30, 360
SCHEDULES = ("linear", "cosine", "polynomial")
#: Steps between two logged values, what is added to their count, and how the value is written.
HABITS = {
    "each step": (1, 0, lambda v: v),
    "after the step, three digits": (5, 1, lambda v: np.array([float(f"{one:.2e}") for one in v])),
    "seldom, in float32": (15, 0, lambda v: v.astype(np.float32).astype(np.float64)),
}
DIALECTS = {
    "a ratio, the Trainer": {
        "dialect": "Hugging Face TrainingArguments",
        "schedule.warmup_ratio": WARMUP / TOTAL,
        "epochs": TOTAL / PER_EPOCH,
    },
    "steps, a plain config": {"schedule.warmup_steps": WARMUP, "schedule.total_steps": TOTAL, "steps": TOTAL},
}


def schedule(name: str, warmup: int = WARMUP, total: int = TOTAL) -> ScheduleSpec:
    more = {"power": 2.0, "lr_end": 0.0} if name == "polynomial" else {}
    return ScheduleSpec(f"huggingface.{name}", LR, {"num_warmup_steps": warmup, "num_training_steps": total, **more})


def logged(fault: str, name: str, step: np.ndarray) -> np.ndarray:
    """Return what a script with this fault would log."""
    other = "linear" if name != "linear" else "cosine"
    match fault:
        case "none":
            return learning_rate(schedule(name), step)
        case "once an epoch":
            return learning_rate(schedule(name), step // PER_EPOCH)
        case "by four processes":
            return learning_rate(schedule(name), 4 * step)
        case "never stepped":
            return np.full(step.size, LR)
        case "reset at the resume":
            return learning_rate(schedule(name), np.where(step >= RESUMED, step - RESUMED, step))
        case "half the warmup":
            return learning_rate(schedule(name, warmup=WARMUP // 2), step)
        case "times the processes":
            return 8.0 * learning_rate(schedule(name), step)
        case "too long":
            return learning_rate(schedule(name, total=3 * TOTAL // 2), step)
        case "another":
            return learning_rate(schedule(other), step)
    raise AssertionError(fault)


ANSWERS = {
    "none": "follows",
    "once an epoch": "time-scaled",
    "by four processes": "time-scaled",
    "never stepped": "constant",
    "reset at the resume": "reset-at-resume",
    "half the warmup": "warmup-differs",
    "times the processes": "scaled",
    "too long": "total-differs",
    "another": "another-schedule",
}


def answer(fault: str, name: str, habit: str, dialect: str) -> str:
    stride, shift, written = HABITS[habit]
    held = {"optimizer.lr": LR, "schedule.name": name, **DIALECTS[dialect]}
    if name == "polynomial":
        held |= {"schedule.power": 2.0, "schedule.min_lr": 0.0}
    told = configured_schedule({key: Setting(value, "c") for key, value in held.items()}, steps_per_epoch=float(PER_EPOCH))
    step = np.arange(0, TOTAL, stride)
    value = written(logged(fault, name, step))
    return reconcile(step + shift, value, told.spec, steps_per_epoch=float(PER_EPOCH), restarts=(RESUMED,)).answer


@pytest.mark.parametrize("fault", ANSWERS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_each_fault_by_its_name(fault: str, dialect: str) -> None:
    made = {(name, habit): answer(fault, name, habit, dialect) for name, habit in itertools.product(SCHEDULES, HABITS)}
    assert set(made.values()) == {ANSWERS[fault]}, made
