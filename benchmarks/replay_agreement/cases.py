"""The cases of the agreement study: a task with one fault, its settings, and the changes that are tried on it.

Part "tuning" is for setting bounds of the replay; "held-back" has other tasks, shapes, seeds and settings, and is only scored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from loop import Job

Change = Mapping[str, Any]


@dataclass(frozen=True)
class Habit:
    """How a run is logged: each `every`-th step, with the gradient norm or without, values in a printf form."""

    every: int = 1
    grad_norm: bool = True
    form: str = "%.9g"


@dataclass(frozen=True)
class Case:
    """`fault`: what was planted. `changes`: the candidates, in the one vocabulary, or "gradient.zero_grad"/"restore_state"."""

    name: str
    part: str
    fault: str
    job: Job
    changes: tuple[Change, ...]
    habit: Habit


#: The fault -> the code of the rule that would name it, "" where there is none.
CODES = {
    "collapse": "TD101",
    "diverges": "TD201",
    "lr-too-high": "TD201",
    "noise-floor": "",
    "eps-too-large": "TD103",
    "lr-too-low": "TD202",
    "keeps-gradients": "TD301",
    "lost-state": "",
    "schedule-ends-early": "",
    "bad-batches": "",
}


def lr(value: float) -> Change:
    return {"optimizer.lr": value}


def eps(*values: float) -> list[Change]:
    return [{"optimizer.eps": v} for v in values]


def betas(beta1: float, beta2: float) -> Change:
    return {"optimizer.betas": [beta1, beta2]}


def clip(value: float) -> Change:
    return {"gradient.clip_norm": value}


def warmup(steps: int) -> Change:
    return {"schedule.warmup_steps": steps}


def batch(size: int) -> Change:
    return {"batch_size": size}


def momentum(value: float) -> Change:
    return {"optimizer.momentum": value}


AMSGRAD: Change = {"optimizer.amsgrad": True}
ZERO_GRAD: Change = {"gradient.zero_grad": True}
RESTORE: Change = {"restore_state": True}
COSINE, LINEAR = {"schedule.name": "cosine"}, {"schedule.name": "linear"}  # to zero over the run

CONSTANT: Change = {"schedule.name": "constant"}

CASES: list[Case] = []


def case(
    part: str,
    fault: str,
    task: str,
    optimizer: str,
    steps: int,
    changes: list[Change],
    *,
    seed: int,
    task_kw: Mapping[str, Any] | None = None,
    hook: Mapping[str, Any] | None = None,
    every: int = 1,
    grad_norm: bool = True,
    form: str = "%.9g",
    **settings: Any,
) -> None:
    """Add a case. Settings are given as "lr", "eps", "schedule_name", "clip_norm", "batch_size", ..."""
    keys = {
        "batch_size": "batch_size",
        "clip_norm": "gradient.clip_norm",
        **{f"schedule_{k}": f"schedule.{k}" for k in ("name", "warmup_steps", "total_steps", "min_lr", "decay")},
    }
    full = {"optimizer.name": optimizer, **{keys.get(k, f"optimizer.{k}"): v for k, v in settings.items()}}
    number = sum(c.part == part and c.fault == fault for c in CASES) + 1
    CASES.append(
        Case(
            f"{fault}-{number}-{task}-{optimizer}",
            part,
            fault,
            Job(task, seed, steps, full, task_kw or {}, hook or {}),
            tuple(changes),
            Habit(every, grad_norm, form),
        )
    )


# A case: which, what is tried, with which settings.
# fmt: off
# -- tuning -----------------------------------------------------------------------------------------------------------

T = "tuning"

case(
    T, "collapse", "linreg-exact", "adam", 5000,
    [*eps(1e-4, 1e-2, 0.1, 1.0), lr(3e-4), lr(1e-4), AMSGRAD, betas(0.9, 0.99), betas(0.9, 0.9999), betas(0.5, 0.999), COSINE],
    seed=1001, task_kw={"n": 48, "d": 600}, lr=1.5e-3, betas=[0.9, 0.999], eps=1e-8, every=5,
)
case(
    T, "collapse", "linreg-exact", "adam", 4000,
    [*eps(1e-4, 1e-3, 1e-2, 0.1, 1.0), lr(1e-3), clip(1.0), betas(0.9, 0.95), AMSGRAD, LINEAR],
    seed=1002, task_kw={"n": 32, "d": 400, "reduction": "mean"}, lr=3e-3, betas=[0.9, 0.99], eps=1e-8, every=1,
)
case(
    T, "collapse", "multitask", "adam", 5000,
    [*eps(1e-4, 1e-3, 3e-3, 0.1), lr(1e-3), lr(3e-4), betas(0.9, 0.99), AMSGRAD, COSINE, clip(0.1)],
    seed=1003, task_kw={"n": 48, "d": 16, "hidden": 160}, lr=4e-3, every=10, form="%.6g",
)
case(
    T, "collapse", "linreg-exact", "rmsprop", 3000,
    [*eps(1e-4, 1e-2, 0.1, 1.0), lr(2e-5), lr(5e-6), {"optimizer.alpha": 0.99}, {"optimizer.alpha": 0.9999}, COSINE,
     momentum(0.9)],
    seed=1004, task_kw={"n": 40, "d": 500}, lr=5e-5, alpha=0.999, eps=1e-8, every=5,
)
case(
    T, "collapse", "mlp-exact", "adam", 6000,
    [*eps(1e-4, 1e-3, 1e-2, 1.0), lr(1e-3), lr(3e-4), AMSGRAD, betas(0.5, 0.999), COSINE],
    seed=1005, task_kw={"n": 16, "d": 6, "hidden": 128}, lr=5e-3, every=20,
)
case(
    T, "collapse", "deep-linear", "adam", 5000,
    [lr(2e-3), lr(1e-3), lr(6e-5), AMSGRAD, betas(0.9, 0.99), betas(0.9, 0.9999), betas(0.5, 0.999), LINEAR],
    seed=1006, lr=6e-3, every=5, grad_norm=False,
)

case(
    T, "diverges", "linreg-noisy", "sgd", 300,
    [lr(0.5), lr(0.3), lr(0.1), lr(0.01), lr(3.0), clip(0.1), COSINE],
    seed=1010, task_kw={"batch": None}, lr=0.78,
)
case(
    T, "diverges", "linreg-noisy", "sgd", 300,
    [lr(0.7), lr(0.3), lr(0.1), lr(3.0), momentum(0.0), momentum(0.99), clip(1.0)],
    seed=1011, task_kw={"n": 200, "d": 40, "batch": None}, lr=0.85, momentum=0.9,
)
case(
    T, "diverges", "linreg-exact", "sgd", 400,
    [lr(1e-3), lr(3e-4), lr(1e-4), lr(1e-5), lr(3e-3), momentum(0.5), COSINE, clip(1.0)],
    seed=1012, task_kw={"n": 64, "d": 300}, lr=1.1e-3, momentum=0.9, nesterov=True, every=2,
)
case(
    T, "lr-too-high", "deep-linear", "sgd", 200,
    [lr(0.2), lr(0.1), lr(0.01), lr(3.0), LINEAR, clip(0.1), momentum(0.5)],
    seed=1013, lr=0.6,
)

case(
    T, "lr-too-high", "mlp-digits", "adam", 600,
    [lr(0.03), lr(0.01), lr(1e-3), lr(1.0), COSINE, clip(0.1), batch(256), betas(0.9, 0.99)],
    seed=1020, lr=0.15, every=1,
)
case(
    T, "lr-too-high", "cnn-digits", "sgd", 500,
    [lr(0.1), lr(0.03), lr(3e-3), lr(1.0), LINEAR, clip(0.1), momentum(0.0)],
    seed=1021, task_kw={"norm": False}, lr=0.25, momentum=0.9, every=5,
)
case(
    T, "lr-too-high", "autoencoder", "adam", 600,
    [lr(0.01), lr(3e-3), lr(3e-4), lr(0.1), COSINE, warmup(100), clip(0.01), eps(0.1)[0]],
    seed=1022, lr=0.04, every=5, form="%.6g",
)

case(
    T, "noise-floor", "linreg-noisy", "sgd", 1500,
    [lr(0.03), lr(0.01), lr(1e-3), lr(0.2), COSINE, LINEAR, batch(32), momentum(0.9), clip(10.0)],
    seed=1030, task_kw={"d": 60, "noise": 0.1}, lr=0.04, batch_size=8,
)
case(
    T, "noise-floor", "linreg-noisy", "adam", 1500,
    [lr(0.03), lr(0.01), lr(1e-4), lr(0.3), COSINE, batch(64), betas(0.9, 0.99), AMSGRAD],
    seed=1031, task_kw={"d": 30, "noise": 0.2}, lr=0.1, batch_size=16, every=5,
)
case(
    T, "noise-floor", "gru-sines", "adam", 900,
    [lr(0.02), lr(5e-3), lr(1e-4), lr(0.2), COSINE, batch(64), clip(0.1)],
    seed=1032, lr=0.06, every=5, form="%.6f",
)

case(
    T, "eps-too-large", "mlp-digits", "adam", 600,
    [*eps(1e-8, 1e-3, 0.03, 10.0), lr(0.03), lr(3e-4), COSINE, betas(0.9, 0.99)],
    seed=1040, lr=3e-3, eps=0.3,
)
case(
    T, "eps-too-large", "linreg-noisy", "adam", 800,
    [*eps(1e-8, 1e-2, 1.0, 100.0), lr(0.1), lr(1e-3), LINEAR, AMSGRAD],
    seed=1041, lr=0.01, eps=10.0, every=5,
)
case(
    T, "eps-too-large", "autoencoder", "adam", 600,
    [*eps(1e-8, 1e-3, 1.0), lr(0.03), lr(3e-4), clip(1.0), batch(256)],
    seed=1042, lr=3e-3, eps=0.1, every=10,
)

case(
    T, "lr-too-low", "mlp-digits", "sgd", 700,
    [lr(3e-3), lr(0.03), lr(0.3), lr(1e-4), momentum(0.9), COSINE, clip(1.0)],
    seed=1050, lr=1e-3, every=1,
)
case(
    T, "lr-too-low", "cnn-digits", "adam", 500,
    [lr(3e-5), lr(1e-3), lr(0.01), lr(1e-6), betas(0.9, 0.99), eps(1e-4)[0], warmup(100)],
    seed=1051, lr=1e-5, every=5,
)
case(
    T, "lr-too-low", "factorisation", "adam", 800,
    [lr(1e-3), lr(1e-2), lr(0.05), lr(3e-5), AMSGRAD, LINEAR],
    seed=1052, lr=1e-4, every=10, grad_norm=False,
)

case(
    T, "keeps-gradients", "linreg-noisy", "sgd", 800,
    [ZERO_GRAD, lr(3e-4), lr(1e-4), lr(1e-2), COSINE, clip(1.0)],
    seed=1060, task_kw={"d": 4, "batch": None}, hook={"keep_gradients": True}, lr=1e-3,
)
case(
    T, "keeps-gradients", "linreg-noisy", "adam", 800,
    [ZERO_GRAD, lr(0.003), lr(1e-3), lr(0.1), COSINE, eps(1.0)[0]],
    seed=1061, task_kw={"d": 4}, hook={"keep_gradients": True}, lr=0.01,
)
case(
    T, "keeps-gradients", "mlp-digits", "sgd", 900,
    [ZERO_GRAD, lr(0.01), lr(1e-3), lr(0.3), LINEAR, clip(1.0)],
    seed=1062, hook={"keep_gradients": True}, lr=0.05, every=5,
)

case(
    T, "lost-state", "linreg-exact", "adam", 1600,
    [RESTORE, lr(3e-4), lr(1e-4), lr(3e-3), eps(0.1)[0], eps(1.0)[0], COSINE, clip(1.0)],
    seed=1070, task_kw={"n": 32, "d": 300}, hook={"lose_state": [1400]}, lr=1e-3, every=5,
)
case(
    T, "lost-state", "mlp-digits", "rmsprop", 900,
    [RESTORE, lr(1e-3), lr(3e-4), lr(0.01), COSINE, eps(1e-2)[0], clip(0.1)],
    seed=1071, hook={"lose_state": [300, 600, 780, 850]}, lr=3e-3, every=1,
)

case(
    T, "schedule-ends-early", "mlp-digits", "sgd", 900,
    [{"schedule.total_steps": 900}, CONSTANT, lr(0.5), lr(0.02), momentum(0.9), clip(1.0), COSINE],
    seed=1080, lr=0.2, schedule_name="linear", schedule_total_steps=200,
)
case(
    T, "schedule-ends-early", "char-lm", "adam", 600,
    [{"schedule.decay": 0.998}, CONSTANT, lr(1e-2), lr(3e-4), warmup(20), betas(0.9, 0.99)],
    seed=1081, lr=3e-3, schedule_name="exponential", schedule_decay=0.96, every=5,
)

case(
    T, "bad-batches", "mlp-digits", "sgd", 800,
    [clip(1.0), clip(0.1), lr(0.03), lr(0.01), lr(1.0), COSINE, momentum(0.9)],
    seed=1090, hook={"bad_steps": list(range(40, 800, 60)), "bad_factor": 30.0}, lr=0.1,
)
case(
    T, "bad-batches", "linreg-noisy", "adam", 900,
    [clip(1.0), lr(3e-3), lr(1e-3), lr(0.1), betas(0.9, 0.99), AMSGRAD, COSINE],
    seed=1091, hook={"bad_steps": [450], "bad_factor": 100.0}, lr=0.01, every=1,
)

# -- held back --------------------------------------------------------------------------------------------------------

H = "held-back"

case(
    H, "collapse", "three-lines", "adam", 5000,
    [*eps(1e-4, 1e-3, 1e-2, 0.1), lr(1e-3), lr(3e-4), AMSGRAD, betas(0.9, 0.99), betas(0.9, 0.9999), betas(0.5, 0.999), COSINE],
    seed=7001, task_kw={"n": 24, "d": 300}, lr=3e-3, every=10,
)
case(
    H, "collapse", "tanh-exact", "adam", 6000,
    [*eps(1e-4, 1e-3, 1e-2, 1.0), lr(1e-3), lr(3e-4), AMSGRAD, betas(0.9, 0.99), LINEAR, clip(0.1)],
    seed=7002, task_kw={"n": 20, "hidden": 160}, lr=3e-3, betas=[0.9, 0.999], eps=1e-8, every=5,
)
case(
    H, "collapse", "fourier-exact", "adamw", 4000,
    [*eps(1e-4, 1e-3, 1e-2, 0.1), lr(3e-4), lr(1e-4), AMSGRAD, betas(0.9, 0.999), betas(0.8, 0.99), COSINE],
    seed=7003, task_kw={"n": 30, "features": 250}, lr=1e-3, betas=[0.9, 0.99], eps=1e-8, weight_decay=0.0,
)
case(
    H, "collapse", "fourier-exact", "rmsprop", 4000,
    [*eps(1e-4, 1e-3, 1e-2, 1.0), lr(3e-5), lr(1e-5), {"optimizer.alpha": 0.99}, {"optimizer.alpha": 0.9999}, LINEAR],
    seed=7004, task_kw={"n": 24, "features": 300}, lr=1e-4, alpha=0.999, eps=1e-8, every=5,
)
case(
    H, "collapse", "factorisation", "adam", 5000,
    [*eps(1e-4, 1e-3, 1e-2, 0.1), lr(3e-3), lr(1e-3), AMSGRAD, betas(0.5, 0.999), betas(0.9, 0.9999), COSINE],
    seed=7005, task_kw={"rank": 8}, lr=0.01, every=20, form="%.6g",
)
case(
    H, "collapse", "linreg-exact", "adam", 6000,
    [lr(2e-4), lr(6e-5), AMSGRAD, betas(0.8, 0.99), betas(0.8, 0.9999), betas(0.5, 0.999), betas(0.9, 0.999), COSINE],
    seed=7006, task_kw={"n": 100, "d": 900}, lr=6e-4, betas=[0.8, 0.999], every=5, grad_norm=False,
)

case(
    H, "diverges", "fourier-exact", "sgd", 250,
    [lr(0.05), lr(0.03), lr(0.01), lr(1e-3), lr(0.2), clip(0.1), LINEAR],
    seed=7011, lr=0.065,
)
case(
    H, "diverges", "fourier-exact", "sgd", 200,
    [lr(0.1), lr(0.05), lr(0.01), lr(0.3), momentum(0.0), momentum(0.95), clip(1.0)],
    seed=7012, lr=0.113, momentum=0.8, every=2,
)
case(
    H, "diverges", "three-lines", "sgd", 300,
    [lr(0.06), lr(0.03), lr(0.01), lr(1e-3), lr(0.3), momentum(0.5), COSINE, clip(1.0)],
    seed=7013, task_kw={"n": 40, "d": 200}, lr=0.074, momentum=0.9, nesterov=True,
)
case(
    H, "diverges", "tabular", "sgd", 300,
    [lr(0.3), lr(0.1), lr(0.01), lr(3.0), momentum(0.0), clip(1.0)],
    seed=7023, task_kw={"name": "wine"}, lr=1.0, momentum=0.9, form="%.6g",
)

case(
    H, "lr-too-high", "bag-of-words", "adam", 600,
    [lr(0.1), lr(0.03), lr(3e-3), lr(1.0), LINEAR, clip(0.1), batch(200), betas(0.9, 0.99)],
    seed=7020, lr=0.3,
)
case(
    H, "lr-too-high", "conv-signals", "adam", 600,
    [lr(0.03), lr(0.01), lr(1e-3), lr(0.5), COSINE, warmup(100), clip(0.1)],
    seed=7021, lr=0.1, every=5,
)
case(
    H, "lr-too-high", "tabular", "rmsprop", 500,
    [lr(0.03), lr(0.01), lr(1e-3), lr(0.5), COSINE, eps(0.1)[0], batch(64)],
    seed=7025, task_kw={"name": "diabetes"}, lr=0.1,
)
case(
    H, "lr-too-high", "attention-copy", "adam", 500,
    [lr(0.03), lr(0.01), lr(3e-3), lr(1.0), LINEAR, warmup(50), clip(0.1)],
    seed=7026, lr=0.1, every=5, grad_norm=False,
)

case(
    H, "noise-floor", "fourier-exact", "sgd", 1500,
    [lr(0.015), lr(5e-3), lr(5e-4), lr(0.15), COSINE, batch(32), momentum(0.9), momentum(0.0)],
    seed=7033, task_kw={"n": 400, "features": 60, "noise": 0.1}, lr=0.04, momentum=0.5, batch_size=8,
)
case(
    H, "noise-floor", "fourier-exact", "rmsprop", 1500,
    [lr(0.01), lr(3e-3), lr(3e-5), lr(0.1), LINEAR, batch(64), {"optimizer.alpha": 0.9}, eps(1e-2)[0]],
    seed=7034, task_kw={"n": 400, "features": 60, "noise": 0.1}, lr=0.033, batch_size=16, every=5,
)
case(
    H, "noise-floor", "tabular", "adam", 1200,
    [lr(0.02), lr(5e-3), lr(5e-4), lr(0.2), COSINE, batch(64), betas(0.9, 0.99)],
    seed=7035, task_kw={"name": "diabetes", "hidden": 8}, lr=0.05, batch_size=8,
)

case(
    H, "eps-too-large", "conv-signals", "adam", 600,
    [*eps(1e-8, 1e-3, 1e-2, 1.0), lr(0.03), lr(3e-4), COSINE],
    seed=7040, lr=3e-3, eps=0.1, every=5,
)
case(
    H, "eps-too-large", "tabular", "adam", 400,
    [*eps(1e-8, 1e-4, 0.1, 30.0), lr(0.03), lr(1e-3), betas(0.5, 0.999), AMSGRAD],
    seed=7041, task_kw={"name": "breast_cancer"}, lr=3e-3, eps=3.0,
)
case(
    H, "eps-too-large", "fourier-exact", "adam", 1000,
    [*eps(1e-8, 1e-2, 1.0, 30.0), lr(0.03), lr(3e-4), LINEAR, batch(200)],
    seed=7043, task_kw={"n": 400, "features": 60, "noise": 0.1}, lr=3e-3, eps=3.0, every=10, form="%.6f", batch_size=50,
)

case(
    H, "lr-too-low", "attention-copy", "adam", 600,
    [lr(1e-4), lr(1e-3), lr(5e-3), lr(3e-6), betas(0.9, 0.99), warmup(100), COSINE],
    seed=7050, lr=3e-5, every=5,
)
case(
    H, "lr-too-low", "tabular", "sgd", 600,
    [lr(3e-3), lr(0.03), lr(0.3), lr(1e-4), momentum(0.9), LINEAR],
    seed=7051, task_kw={"name": "wine"}, lr=1e-3, momentum=0.5, grad_norm=False,
)
case(
    H, "lr-too-low", "conv-signals", "rmsprop", 600,
    [lr(1e-5), lr(1e-4), lr(1e-3), lr(1e-7), eps(1e-4)[0], clip(1.0)],
    seed=7052, lr=1e-6, every=10,
)

case(
    H, "keeps-gradients", "fourier-exact", "sgd", 800,
    [ZERO_GRAD, lr(1e-3), lr(3e-4), lr(0.03), COSINE, clip(0.1)],
    seed=7060, task_kw={"n": 200, "features": 20, "noise": 0.1}, hook={"keep_gradients": True}, lr=3e-3,
)
case(
    H, "keeps-gradients", "tabular", "adam", 800,
    [ZERO_GRAD, lr(1e-3), lr(3e-4), lr(0.03), LINEAR, eps(1.0)[0]],
    seed=7061, task_kw={"name": "diabetes", "batch": None, "hidden": 8}, hook={"keep_gradients": True}, lr=3e-3, every=5,
)
case(
    H, "keeps-gradients", "conv-signals", "sgd", 600,
    [ZERO_GRAD, lr(5e-3), lr(5e-4), lr(0.15), COSINE, clip(1.0)],
    seed=7062, hook={"keep_gradients": True}, lr=0.015,
)

case(
    H, "lost-state", "three-lines", "adam", 2000,
    [RESTORE, lr(6e-4), lr(2e-4), lr(6e-3), eps(0.01)[0], eps(0.3)[0], LINEAR],
    seed=7070, hook={"lose_state": [1750]}, lr=2e-3, every=5,
)
case(
    H, "lost-state", "fourier-exact", "rmsprop", 2100,
    [RESTORE, lr(3e-5), lr(3e-4), eps(1e-3)[0], eps(0.1)[0], COSINE, clip(0.1)],
    seed=7073, task_kw={"n": 24, "features": 300}, hook={"lose_state": [1850]}, lr=1e-4, alpha=0.999, every=1,
)

case(
    H, "schedule-ends-early", "conv-signals", "sgd", 900,
    [{"schedule.total_steps": 900}, CONSTANT, lr(0.06), lr(2e-3), momentum(0.5), LINEAR, clip(0.1)],
    seed=7080, lr=0.02, momentum=0.9, schedule_name="cosine", schedule_total_steps=150, every=5,
)
case(
    H, "schedule-ends-early", "attention-copy", "adam", 700,
    [{"schedule.decay": 0.998}, CONSTANT, lr(0.01), lr(3e-4), warmup(20), betas(0.9, 0.99)],
    seed=7081, lr=3e-3, schedule_name="exponential", schedule_decay=0.97,
)

case(
    H, "bad-batches", "conv-signals", "adam", 800,
    [clip(1.0), clip(0.1), lr(5e-4), lr(1e-4), lr(0.02), COSINE, betas(0.9, 0.99)],
    seed=7090, hook={"bad_steps": list(range(30, 800, 40)), "bad_factor": 20.0}, lr=2e-3,
)
case(
    H, "bad-batches", "fourier-exact", "adam", 900,
    [clip(1.0), clip(0.1), lr(3e-3), lr(0.1), betas(0.9, 0.99), AMSGRAD, LINEAR],
    seed=7092, task_kw={"n": 200, "features": 60, "noise": 0.1}, hook={"bad_steps": [500], "bad_factor": 100.0}, lr=0.01,
     every=5,
)
