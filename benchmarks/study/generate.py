"""Train many short runs, sound ones and ones with a known fault, and write what a log would have shown.

python benchmarks/study/generate.py --out /tmp/study --part tuning
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import random
import shutil
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable  # noqa: TC003
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import torch
from habits import habit_of, write_run
from training import Plan, Trace, train

FIRST_CODE = {
    "second-moment-collapse": "TD101",
    "epsilon-too-small": "TD102",
    "epsilon-too-large": "TD103",
    "lr-too-high": "TD201",
    "lr-too-low": "TD202",
    "zero-grad-missing": "TD301",
    "zero-grad-misplaced": "TD302",
    "non-finite": "TD401",
}


@dataclass(frozen=True)
class Case:
    """One run to write. `measure`: how harm is told, see `harm`. A sound run has no fault."""

    name: str
    plan: Plan
    fault: str | None = None
    twin: Plan | None = None
    measure: str = "loss"
    least: float = 2.0
    habit: dict[str, Any] = field(default_factory=dict)


def tail(loss: np.ndarray) -> float:
    return float(np.mean(loss[-max(3, len(loss) // 10) :]))


def smooth_best(loss: np.ndarray) -> tuple[float, int]:
    width = max(1, min(25, len(loss) // 40))
    level = np.convolve(loss, np.ones(width) / width, "valid")
    at = int(np.nanargmin(level))
    return float(level[at]), at


def rise(loss: np.ndarray) -> float:
    """The largest rise of an exact fit above its best so far, beyond the float floor; 1 before it fits to 1e-6 of the start."""
    width = max(1, min(9, len(loss) // 100))
    level = np.convolve(loss, np.ones(width) / width, "valid")
    best = np.minimum.accumulate(level)
    fits = best < 1e-6 * abs(loss[0])
    return float((level / np.maximum(best, 1e-13 * abs(loss[0])))[fits].max()) if fits.any() else 1.0


def summary(trace: Trace) -> dict[str, Any]:
    loss = trace.loss
    sound = np.isfinite(loss)
    if not sound.any():
        return {"tail": math.nan, "finite": False}
    best, at = smooth_best(np.where(sound, loss, np.inf))
    end = loss[-max(3, len(loss) // 10) :]
    out = {
        "initial": float(loss[0]),
        "tail": tail(loss),
        "tail_max": float(np.max(end)),
        "best": best,
        "best_step": at,
        "rise": rise(loss[sound]),
        "finite": bool(sound.all()),
        "first_non_finite": None if sound.all() else int(np.argmin(sound)),
    }
    if trace.val:
        v = np.array([x[1] for x in trace.val])
        out |= {"val_last": float(v[-1]), "val_best": float(np.nanmin(v)), "accuracy_last": trace.val[-1][2]}
    return out


def harm(case: Case, mine: dict[str, Any], twin: dict[str, Any] | None) -> float:
    """How much worse than its sound twin, as a ratio; infinite for a run that died."""
    if case.measure == "rebound":
        late = mine["best_step"] < 0.8 * case.plan.steps and mine["finite"]
        return mine["tail_max"] / max(mine["best"], 1e-300) if late else 0.0
    if not mine["finite"]:
        return math.inf
    if twin is None or not twin["finite"]:
        return math.nan
    if case.measure == "val":
        return mine["val_last"] / twin["val_best"]
    if case.measure == "max":
        return mine["tail_max"] / max(twin["tail_max"], 1e-300)
    floor = 1e-10 * twin["initial"]  # nobody minds 1e-12 against 1e-14
    return max(mine["tail"], floor) / max(twin["tail"], floor)


def rebounds(mine: dict[str, Any]) -> bool:
    """Whether an exact fit (1e-6 of the start) ends, or ever was, 100 times above its best, beyond what the float floor does."""
    if mine.get("rise", 1.0) > 100:
        return True
    return mine["best"] < 1e-6 * mine["initial"] and mine["tail_max"] > 100 * max(mine["best"], 1e-13 * mine["initial"])


def sound(case: Case, mine: dict[str, Any], twin: dict[str, Any] | None) -> str:
    """Why a run meant to be sound is not, or ""."""
    if not mine["finite"]:
        return "not finite"
    if case.plan.task in ("gan", "bandit"):
        return ""
    if mine["tail"] > 1.05 * mine["initial"] and case.measure != "flat":
        return "ends above its start"
    if rebounds(mine):
        return "rebounds"
    if case.measure != "flat" and mine["tail"] > 8 * max(mine["best"], 1e-6 * mine["initial"]):
        return "ends far above its best"
    if twin is not None and mine["tail"] > 1.3 * twin["tail"]:
        return "worse than its twin"
    return ""


def benign(mine: dict[str, Any], twin: dict[str, Any] | None, ratio: float) -> bool:
    """Whether a run with a large rate is as good as its twin, in training and in validation."""
    if twin is None or not (mine["finite"] and twin["finite"] and ratio <= 1.0) or mine["tail"] > 0.9 * mine["initial"]:
        return False
    if rebounds(mine) or mine["tail"] > 3 * max(mine["best"], 1e-6 * mine["initial"]):
        return False
    return mine.get("val_last", 0.0) <= 1.3 * twin.get("val_last", 0.0)


# -- what is trained ------------------------------------------------------------------------------------------------------

# Settings that work: task, arguments, steps, and for each optimizer its rate and further arguments.
SGDM, NESTEROV, DAMPED = {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"amsgrad": True}
Recipe = tuple[str, dict[str, Any], int, list[tuple[str, float, dict[str, Any]]]]
TUNING: dict[str, Recipe] = {
    "mlp": (
        "mlp-digits",
        {},
        690,
        [
            ("adam", 1e-3, {}),
            ("sgd", 0.1, {}),
            ("sgd", 0.05, SGDM),
            ("rmsprop", 1e-3, {}),
            ("adamw", 1e-3, {}),
            ("adagrad", 2e-2, {}),
        ],
    ),
    "mlp1": (
        "mlp-digits",
        {"hidden": 128, "layers": 1, "batch": 32},
        880,
        [("adam", 1e-3, DAMPED), ("sgd", 0.1, {}), ("adam", 2e-3, {})],
    ),
    "cnn": (
        "cnn-digits",
        {},
        352,
        [("sgd", 0.05, SGDM), ("adam", 2e-3, {}), ("adamw", 2e-3, {"weight_decay": 0.05}), ("rmsprop", 1e-3, {})],
    ),
    "plaincnn": ("cnn-digits", {"norm": False, "width": 6}, 352, [("adam", 3e-3, {}), ("sgd", 0.05, NESTEROV)]),
    "gru": ("gru-sines", {}, 400, [("adam", 5e-3, {}), ("rmsprop", 3e-3, {}), ("sgd", 0.2, SGDM)]),
    "ae": ("autoencoder", {}, 660, [("adam", 2e-3, {}), ("sgd", 1.0, SGDM), ("rmsprop", 1e-3, {})]),
    "lm": ("char-lm", {}, 360, [("adamw", 3e-3, {}), ("adam", 2e-3, {"betas": (0.9, 0.95)}), ("sgd", 0.3, SGDM)]),
    "logreg": ("logreg", {}, 300, [("adam", 0.02, {}), ("sgd", 1.0, {}), ("sgd", 0.3, SGDM), ("adagrad", 0.1, {})]),
    "noisy": ("linreg-noisy", {}, 800, [("sgd", 0.02, {}), ("adam", 1e-2, {}), ("sgd", 5e-3, NESTEROV)]),
    "factor": ("factorisation", {}, 700, [("sgd", 3.0, SGDM), ("adam", 1e-2, {})]),
    "deeplin": ("deep-linear", {}, 600, [("sgd", 0.2, {}), ("adam", 3e-3, {})]),
    "heads": ("multitask", {"batch": 32, "n": 512}, 800, [("adam", 3e-3, {}), ("sgd", 0.05, {}), ("adamw", 3e-3, {})]),
}
HELD_BACK: dict[str, Recipe] = {
    "bow": ("bag-of-words", {}, 480, [("adam", 5e-3, {}), ("sgd", 1.0, SGDM), ("adamw", 5e-3, {})]),
    "conv1d": ("conv-signals", {}, 450, [("adam", 3e-3, {}), ("sgd", 0.05, SGDM), ("rmsprop", 1e-3, {})]),
    "wine": ("tabular", {"name": "wine"}, 240, [("adam", 5e-3, {}), ("sgd", 0.1, {})]),
    "cancer": ("tabular", {"name": "breast_cancer", "batch": 32}, 420, [("adam", 2e-3, {}), ("sgd", 0.1, SGDM)]),
    "diabetes": ("tabular", {"name": "diabetes", "batch": 32, "hidden": 16}, 220, [("adam", 3e-3, {}), ("sgd", 0.02, {})]),
    "copy": ("attention-copy", {}, 420, [("adam", 3e-3, {}), ("adamw", 3e-3, {})]),
    "contrast": ("contrastive", {}, 420, [("adam", 1e-3, {}), ("sgd", 0.1, SGDM)]),
    "lines": ("three-lines", {}, 400, [("sgd", 0.02, {}), ("adam", 3e-3, {})]),
}
EXACT_TUNING: list[tuple[str, dict[str, Any], str, float, dict[str, Any], int]] = [
    ("linreg-exact", {"n": 64, "d": 1000}, "adam", 1e-3, {}, 5000),
    ("linreg-exact", {"n": 48, "d": 600}, "adam", 2e-3, {}, 4500),
    ("linreg-exact", {"n": 20, "d": 200, "noise": 0.3}, "adam", 2e-3, {}, 5500),
    ("linreg-exact", {"n": 32, "d": 400, "reduction": "mean"}, "adam", 1e-3, {}, 5500),
    ("linreg-exact", {"n": 40, "d": 400, "scale": 2.0}, "adamw", 1e-3, {"weight_decay": 0.0}, 5000),
    ("linreg-exact", {"n": 64, "d": 800, "reduction": "mean"}, "adam", 3e-3, {}, 4500),
    ("linreg-exact", {"n": 30, "d": 500}, "adam", 1e-3, {"betas": (0.9, 0.99)}, 3000),
    ("linreg-exact", {"n": 48, "d": 500}, "adam", 1e-3, {"betas": (0.9, 0.995)}, 4000),
    ("linreg-exact", {"n": 24, "d": 300}, "adam", 1e-3, {"betas": (0.8, 0.999)}, 4500),
    ("linreg-exact", {"n": 32, "d": 500}, "rmsprop", 1e-4, {"alpha": 0.999}, 4500),
    ("mlp-exact", {}, "adam", 3e-3, {}, 6000),
    ("mlp-exact", {"n": 16, "hidden": 96}, "adam", 3e-3, {"betas": (0.9, 0.99)}, 4500),
    ("mlp-exact", {"n": 20, "d": 8, "hidden": 64}, "adamw", 5e-3, {"weight_decay": 0.0}, 5000),
    ("multitask", {}, "adam", 3e-3, {}, 4000),
    ("multitask", {"n": 48, "heads": 3}, "adamw", 3e-3, {"weight_decay": 0.0}, 4000),
    ("multitask", {"n": 40, "heads": 2, "hidden": 128}, "adam", 2e-3, {}, 5000),
    ("deep-linear", {}, "adam", 3e-3, {}, 5000),
    ("factorisation", {}, "adam", 1e-2, {}, 4500),
]
EXACT_HELD_BACK: list[tuple[str, dict[str, Any], str, float, dict[str, Any], int]] = [
    ("tanh-exact", {}, "adam", 3e-3, {}, 6000),
    ("tanh-exact", {"n": 20, "hidden": 160}, "adam", 3e-3, {"betas": (0.9, 0.99)}, 5000),
    ("three-lines", {}, "adam", 2e-3, {}, 5000),
    ("three-lines", {"n": 24, "d": 300}, "adamw", 1e-3, {"weight_decay": 0.0}, 5000),
    ("linreg-exact", {"n": 50, "d": 700}, "adam", 1e-3, {}, 5000),
    ("linreg-exact", {"n": 64, "d": 1000}, "adam", 1e-3, {}, 5500),
    ("multitask", {"n": 56}, "adam", 3e-3, {}, 4000),
    ("deep-linear", {"depth": 2}, "adam", 3e-3, {}, 5000),
]


def cases(part: str) -> list[Case]:
    """All runs of a part; the ones that turn out harmless, or not sound, are dropped later."""
    held = part == "held-back"
    base = 500 if held else 10
    recipes = dict(HELD_BACK) if held else dict(TUNING)
    if held:  # the tasks of the other part too, with other seeds and fewer runs
        recipes |= {
            k: (t, a, n, o[:1]) for k, (t, a, n, o) in TUNING.items() if k in ("mlp", "cnn", "gru", "lm", "noisy", "factor", "ae")
        }
    draw = random.Random(part)
    out: list[Case] = []

    def plan_of(key: str, i: int, seed: int) -> Plan:
        task, arguments, steps, optimizers = recipes[key]
        name, lr, kw = optimizers[i % len(optimizers)]
        return Plan(task, base + seed, name, lr, steps, dict(kw), dict(arguments))

    def add(
        name: str,
        plan: Plan,
        fault: str | None = None,
        twin: Plan | None = None,
        measure: str = "loss",
        least: float = 2.0,
        **habit: Any,
    ) -> None:
        out.append(Case(name, plan, fault, twin, measure, least, habit))

    pairs = [(key, i, o[0]) for key, r in recipes.items() for i, o in enumerate(r[3])]
    for key, i, name in pairs:
        plan = plan_of(key, i, i)
        adam = name in ("adam", "adamw")
        label = f"{key}-{name}{'m' if plan.kw.get('momentum') else ''}{i}"
        add(f"{label}-sound", plan)
        # learning rate far too high, or far too low
        ups = {"adam": (30, 100), "adamw": (30, 100), "rmsprop": (30, 100), "sgd": (10, 30), "adagrad": (30, 100)}[name]
        up = draw.choice(ups)
        add(f"{label}-lr-times-{up}", replace(plan, lr=plan.lr * up), "lr-too-high", plan)
        if draw.random() < 0.5:
            up = draw.choice((4, 300) if name == "sgd" else (10, 300))
            add(f"{label}-lr-times-{up}", replace(plan, lr=plan.lr * up), "lr-too-high", plan)
        if draw.random() < 0.65:
            down = draw.choice((100, 300, 1000))
            add(f"{label}-lr-over-{down}", replace(plan, lr=plan.lr / down), "lr-too-low", plan)
        # gradients never cleared, or cleared before they are used
        if draw.random() < 0.85:
            factor = draw.choice((1, 1, 1, 0.3, 0.1))
            slow = replace(plan, lr=plan.lr * factor)
            add(
                f"{label}-no-zero-grad{'' if factor == 1 else '-slow'}",
                replace(slow, hook={"zero": "missing"}),
                "zero-grad-missing",
                slow,
                least=1.5,
            )
        if draw.random() < 0.35:
            kind = draw.choice(("misplaced", "misplaced", "misplaced-logged-before"))
            add(f"{label}-{kind}", replace(plan, hook={"zero": kind}), "zero-grad-misplaced", plan)
        # epsilon
        if (adam and draw.random() < 0.7) or (adam and held):
            eps = draw.choice((1.0, 10.0, 100.0))
            add(f"{label}-eps-{eps:g}", replace(plan, kw=plan.kw | {"eps": eps}), "epsilon-too-large", plan)
        # singular losses
        if draw.random() < 0.4:
            kind = draw.choice(("log0", "0/0", "overflow", "sqrt0"))
            at = draw.randrange(plan.steps // 5, plan.steps * 3 // 4)
            run_on = {"run_on": 1} if draw.random() < 0.5 else {}
            add(
                f"{label}-{kind.replace('/', '-over-')}",
                replace(plan, hook={"non_finite": kind, "at": at} | run_on),
                "non-finite",
                plan,
            )
        if not held or draw.random() < 0.5:  # sound again, another seed, clip or decay or schedule
            other = plan_of(key, i, 100 + i)
            style = draw.choice(("clip", "cosine", "warmup-cosine", "step", "decay", "restarts", "plain", "epoch-cosine"))
            if style == "clip":
                other = replace(other, clip=draw.choice((0.1, 1.0, 5.0)))
            elif style == "decay" and name != "adagrad":
                other = replace(other, kw=other.kw | {"weight_decay": 1e-4 if name == "sgd" else 1e-2})
            elif style not in ("plain", "decay"):
                other = replace(other, schedule=style)
            add(f"{label}-{style}", other)

    # the second moment of an exact fit that trains on, and what is sound beside it
    for j, (task, arguments, name, lr, kw, steps) in enumerate(EXACT_HELD_BACK if held else EXACT_TUNING):
        plan = Plan(task, base + 40 + j, name, lr, steps, dict(kw), dict(arguments))
        add(f"exact{j}-{task}", plan, "second-moment-collapse", None, "rebound", 1e3)
        if not held and j % 2 == 0:
            add(f"exact{j}-{task}-again", replace(plan, seed=base + 140 + j), "second-moment-collapse", None, "rebound", 1e3)
        sized = 0.1 if task == "linreg-exact" else 3e-3
        for style, changed in (
            ("short", replace(plan, steps=steps // (8 if "betas" in kw else 4))),
            ("amsgrad", replace(plan, kw=plan.kw | DAMPED, steps=steps // 2)),
            ("sized-eps", replace(plan, kw=plan.kw | {"eps": sized}, steps=steps // 2)),
            ("to-zero", replace(plan, schedule="linear", steps=steps // 2)),
            ("sgd", replace(plan, optimizer="sgd", lr=1e-4 if task == "linreg-exact" else 0.02, kw=dict(SGDM), steps=steps // 3)),
        ):
            if name == "rmsprop" and style in ("amsgrad", "sgd"):
                continue
            if (style == "short" and j % 2 == 0) or draw.random() < 0.2:
                add(f"exact{j}-{task}-{style}", changed)

    # epsilon 0, or one that float16 rounds to 0: 0/0 at the first gradient of exactly 0
    pixels = "wine" if held else "mlp"
    for j, (lr, opt, hook, kw) in enumerate(
        [
            (1e-3, "adam", {}, {"eps": 0.0}),
            (3e-4, "adamw", {}, {"eps": 0.0}),
            (1e-3, "rmsprop", {}, {"eps": 0.0}),
            (1e-3, "adam", {"half": 1}, {}),
            (3e-4, "adamw", {"half": 1}, {"eps": 1e-8}),
            (1e-3, "adam", {"half": 1}, {"eps": 1e-9}),
            (2e-3, "adam", {"half": 1}, {"eps": 1e-8}),
            (1e-3, "rmsprop", {"half": 1}, {}),
        ]
    ):
        for key in (pixels,) if held else ("mlp", "logreg" if j % 2 else "ae"):
            task, arguments, steps, _ = recipes[key] if key in recipes else TUNING[key]
            steps = min(steps, 300)
            plan = Plan(
                "mlp-digits" if held else task,
                base + 60 + j,
                opt,
                lr,
                steps,
                kw,
                {"hidden": 40} if held else dict(arguments),
                hook=hook,
            )
            add(
                f"{key}-{opt}-zero-eps{j}",
                plan,
                "epsilon-too-small",
                replace(plan, hook={}, kw={}),
                config=draw.choice(("flat", "nested", "target", "training")),
            )

    # faults without a rule yet: nothing wrong may be said of their cause
    some = ["bow", "conv1d", "cancer"] if held else ["mlp", "mlp1", "cnn", "lm", "logreg"]
    for j, key in enumerate(some):
        plan = plan_of(key, 0, 70 + j)
        classes = key not in ("lm",)
        if classes:
            add(f"{key}-softmax-twice", replace(plan, hook={"softmax_twice": 1}), "softmax-twice", plan)
            add(f"{key}-shuffled-labels", replace(plan, hook={"shuffle_labels": 1}), "shuffled-labels", plan, "val", 1.5, tier=3)
        if key != "logreg":
            add(
                f"{key}-sorted",
                replace(plan, hook={"sorted": 1}),
                "unshuffled-data",
                plan,
                "val",
                1.5,
                every=draw.choice((1, 2, 5)),
            )
        if classes and key != "logreg":
            add(f"{key}-bad-batch", replace(plan, hook={"bad_batch": 300.0}), "bad-batch", plan, "max", 2.0, every=1)
            add(f"{key}-bad-batch-mild", replace(plan, hook={"bad_batch": 40.0}), "bad-batch", plan, "max", 2.0, every=1)
        add(f"{key}-schedule-per-batch", replace(plan, schedule="per-batch:0.9"), "schedule-per-batch", plan)
        if key != "logreg":
            add(f"{key}-frozen", replace(plan, hook={"frozen": "all"}), "frozen-parameters", plan)
            add(f"{key}-frozen-clean", replace(plan, hook={"frozen": "all", "own_zero": 1}), "frozen-parameters", plan)
            add(f"{key}-last-bias-only", replace(plan, hook={"frozen": "last"}), "frozen-parameters", plan)
    for j, key in enumerate(["bow"] if held else ["mlp", "mlp1", "heads"]):
        plan = plan_of(key, 0, 80 + j)
        add(f"{key}-dead", replace(plan, hook={"dead": 12.0}), "dead-relu", plan)
    for j, key in enumerate(["bow", "copy"] if held else ["mlp", "ae", "lm", "gru"]):
        plan = plan_of(key, 0, 84 + j)
        add(
            f"{key}-bf16",
            replace(plan, lr=plan.lr / 20, hook={"bf16": 1}),
            "bf16-weights",
            replace(plan, lr=plan.lr / 20),
            least=1.5,
        )
    exact = (
        [("tanh-exact", {}), ("three-lines", {})]
        if held
        else [("mlp-exact", {}), ("multitask", {}), ("linreg-exact", {"n": 32, "d": 400}), ("deep-linear", {})]
    )
    for j, (task, arguments) in enumerate(exact):
        plan = Plan(task, base + 90 + j, "adam", 3e-3, 1200, {}, dict(arguments))
        add(f"{task}-state-lost", replace(plan, hook={"lose_state": 1100}), "state-lost-at-resume", plan, "max", 10.0)
    for j, arguments in enumerate([{"rows": 100, "hidden": 128}, {"rows": 60}, {"rows": 150, "batch": 16}]):
        plan = Plan("mlp-digits", base + 95 + j, "adam", 2e-3, 900, {}, arguments, hook={"label_noise": 0.3})
        wide = replace(plan, task_kw={k: v for k, v in arguments.items() if k == "hidden"}, hook={}, steps=690)
        add(f"mlp-overfit{j}", plan, "overfitting", wide, "val", 1.5, tier=3)

    # sound, though it does not look so
    task_of = (lambda a, b: b) if held else (lambda a, b: a)
    k0 = task_of("mlp", "bow")
    p = plan_of(k0, 0, 200)
    small = {"batch": 4}
    add("tiny-batch-adam", replace(p, lr=p.lr / 4, steps=1500, task_kw=p.task_kw | small))
    add(
        "tiny-batch-sgd",
        replace(p, optimizer="sgd", lr=task_of(0.01, 0.1), kw={}, steps=1500, seed=base + 201, task_kw=p.task_kw | small),
    )
    add("restarts", replace(p, schedule="restarts:4", seed=base + 202))
    add("restarts-many", replace(plan_of(task_of("cnn", "conv1d"), 0, 203), schedule="restarts:7"), every=2)
    add("warmup-cosine-lm", replace(plan_of(task_of("lm", "copy"), 0, 204), schedule="warmup-cosine:0.1"))
    add("warmup-cosine-lm-clip", replace(plan_of(task_of("lm", "copy"), 0, 205), schedule="warmup-cosine:0.2", clip=1.0))
    add("warmup-only", replace(p, schedule="warmup:150", seed=base + 206))
    for j in range(4):
        add(
            f"noise-floor{j}",
            Plan(
                "linreg-noisy",
                base + 210 + j,
                ("adam", "sgd", "rmsprop", "adamw")[j],
                (0.02, 0.03, 5e-3, 0.02)[j],
                1500,
                {},
                {"noise": (1.0, 0.5, 2.0, 0.1)[j]},
            ),
            measure="flat",
        )
    for j in range(2 if held else 4):
        add(f"gan{j}", Plan("gan", base + 220 + j, "adam", 1e-3, 600, {"betas": (0.5, 0.999)}, {"dims": 2 if held else 1}))
        add(
            f"bandit{j}",
            Plan("bandit", base + 225 + j, ("adam", "sgd", "rmsprop", "adamw")[j], (3e-3, 0.05, 1e-3, 3e-3)[j], 500, {}, {}),
        )
    for j, key in enumerate([k0, task_of("cnn", "conv1d"), task_of("ae", "contrast")]):
        q = plan_of(key, 0, 230 + j)
        add(f"{key}-one-spike", replace(q, hook={"one_spike": q.steps // (3 + 3 * j)}), every=1)
        add(f"{key}-accumulate", replace(q, accumulate=4, steps=q.steps // 3, seed=base + 234 + j))
        add(
            f"{key}-fine-tune",
            replace(
                q,
                lr=1e-5,
                steps=300,
                seed=base + 237 + j,
                hook={"head_start": 600, "head_start_lr": q.lr if q.optimizer != "sgd" else 1e-3},
            ),
            measure="flat",
        )
        add(
            f"{key}-fine-tune-more",
            replace(q, lr=1e-4, optimizer="adamw", kw={}, steps=300, seed=base + 240 + j, hook={"head_start": 300}),
            measure="flat",
        )
        add(f"{key}-per-epoch", replace(q, seed=base + 243 + j), every=0, tier=3)
        add(f"{key}-fifteen-steps", replace(q, steps=15, seed=base + 246 + j), every=1, measure="flat")
        add(f"{key}-sparse", replace(q, steps=1500, seed=base + 249 + j), every=50)
        add(f"{key}-fp16-log", replace(q, seed=base + 252 + j, hook={"fp16_log": 1}))
        add(f"{key}-cut", replace(q, seed=base + 255 + j), damage="cut", form=("events", "csv", "events")[j])
        add(f"{key}-repeat", replace(q, seed=base + 258 + j), damage="repeat", form=("csv", "events", "csv")[j])
        add(f"{key}-lr-times-3", replace(q, lr=q.lr * 3, seed=base + 261 + j), twin=replace(q, seed=base + 261 + j))
        add(f"{key}-lr-times-10", replace(q, lr=q.lr * 10, seed=base + 264 + j), twin=replace(q, seed=base + 264 + j))
        if q.optimizer != "sgd":
            add(f"{key}-mild-eps", replace(q, seed=base + 267 + j, kw=q.kw | {"eps": 1e-3}), twin=replace(q, seed=base + 267 + j))
            add(f"{key}-mild-eps-small", replace(q, seed=base + 270 + j, kw=q.kw | {"eps": 1e-5}))
        add(f"{key}-adamw-decay", replace(q, optimizer="adamw", lr=2e-3, kw={"weight_decay": 0.3}, seed=base + 273 + j))
    if not held:
        add("rare-class", Plan("mlp-digits", base + 280, "adam", 1e-3, 460, {}, {"target": "rare"}))
        add("rare-class-sgd", Plan("mlp-digits", base + 281, "sgd", 0.05, 460, {}, {"target": "rare"}))
        add("edge-of-stability", Plan("mlp-digits", base + 284, "sgd", 0.6, 400, {}, {"batch": None, "rows": 500}))
        add(
            "edge-of-stability-momentum",
            Plan("mlp-digits", base + 285, "sgd", 0.15, 400, dict(SGDM), {"batch": None, "rows": 300}),
        )
    else:
        add("edge-of-stability", Plan("tabular", base + 284, "sgd", 1.0, 400, {}, {"name": "breast_cancer", "batch": None}))
        add(
            "edge-of-stability-momentum",
            Plan("tabular", base + 285, "sgd", 0.3, 400, dict(SGDM), {"name": "wine", "batch": None}),
        )
    for j, share in enumerate((0.4, 0.7, 0.85)):
        q = plan_of(task_of("mlp", "conv1d"), j % 2, 290 + j)
        add(f"label-noise{j}", replace(q, steps=300, hook={"label_noise": share}))
    out += later_cases(held, base, pairs, plan_of)
    random.Random(1).shuffle(out)
    return out


def later_cases(held: bool, base: int, pairs: list[tuple[str, int, str]], plan_of: Callable[[str, int, int], Plan]) -> list[Case]:
    """More rates, more deaths, more rebounds, and more sound runs; apart, so that the draws above stay as they were."""
    draw = random.Random(f"more {held}")
    out: list[Case] = []
    for key, i, name in pairs:
        plan = plan_of(key, i, 300 + i)
        label = f"{key}-{name}{'m' if plan.kw.get('momentum') else ''}{i}"
        ups = {
            "adam": (20, 50, 80, 150, 300),
            "adamw": (20, 50, 80, 150),
            "rmsprop": (60, 200, 500),
            "sgd": (6, 15, 60),
            "adagrad": (100, 1000),
        }[name]
        for up in draw.sample(ups, 2):
            out.append(Case(f"{label}-hot-{up}", replace(plan, lr=plan.lr * up), "lr-too-high", plan))
        if draw.random() < 0.5:
            hot = plan.lr * draw.choice(ups)
            out.append(
                Case(
                    f"{label}-hot-cosine",
                    replace(plan, lr=hot, schedule="cosine"),
                    "lr-too-high",
                    replace(plan, schedule="cosine"),
                )
            )
        out.append(Case(f"{label}-seed", plan))
        if draw.random() < 0.6:
            out.append(
                Case(
                    f"{label}-long",
                    replace(plan, seed=plan.seed + 40, steps=2 * plan.steps, schedule=draw.choice(("", "cosine", "step"))),
                )
            )
        if draw.random() < 0.4:
            kind = draw.choice(("log0", "0/0", "overflow", "sqrt0"))
            at = draw.randrange(plan.steps // 10, plan.steps * 9 // 10)
            hook = {"non_finite": kind, "at": at} | ({"run_on": 1} if draw.random() < 0.5 else {})
            out.append(Case(f"{label}-late-{kind.replace('/', '-over-')}", replace(plan, hook=hook), "non-finite", plan))
        if draw.random() < 0.35:
            down = draw.choice((200, 500))
            out.append(Case(f"{label}-cold-{down}", replace(plan, lr=plan.lr / down), "lr-too-low", plan))
    for j, (task, arguments, name, lr, kw, steps) in enumerate(EXACT_HELD_BACK if held else EXACT_TUNING[:16]):
        plan = Plan(task, base + 340 + j, name, lr, steps, dict(kw), dict(arguments))
        if held and j in (0, 2, 3, 4, 5, 6):
            out.append(Case(f"exact{j}-{task}-again", plan, "second-moment-collapse", None, "rebound", 1e3))
        quiet = {
            "short": replace(plan, steps=steps // (8 if "betas" in kw else 5)),
            "cosine": replace(plan, schedule="cosine", steps=steps // 2),
        }
        if name != "rmsprop":
            quiet["amsgrad-long"] = replace(plan, kw=plan.kw | DAMPED, steps=steps)
        for style in draw.sample(sorted(quiet), 1 if held else 2):
            out.append(Case(f"exact{j}-{task}-quiet-{style}", quiet[style]))
        hot = replace(plan, lr=plan.lr * draw.choice((100, 1000)), steps=1500)
        out.append(Case(f"exact{j}-{task}-hot", hot, "lr-too-high", replace(plan, steps=1500)))
        if j % 2:
            bare = replace(plan, steps=1500)
            out.append(
                Case(
                    f"exact{j}-{task}-no-zero-grad", replace(bare, hook={"zero": "missing"}), "zero-grad-missing", bare, least=1.5
                )
            )
    # a little beyond the stability limit 2 / lambda (2 + 2 beta with momentum): slow growth that a log can see
    beyond = (
        [("three-lines", {}, 0.0956, 0.0), ("three-lines", {"n": 24, "d": 120}, 0.0955, 0.9)]
        if held
        else [
            ("linreg-exact", {"n": 32, "d": 100}, 0.0041, 0.0),
            ("linreg-exact", {"n": 64, "d": 300}, 0.00153, 0.9),
            ("linreg-noisy", {"batch": None}, 0.74, 0.0),
            ("linreg-noisy", {}, 0.6, 0.0),
        ]
    )
    for j, (task, arguments, limit, beta) in enumerate(beyond):
        for k, share in enumerate((1.02, 1.1, 1.4)):
            kw = {"momentum": beta} if beta else {}
            plan = Plan(task, base + 400 + 3 * j + k, "sgd", round(share * limit * (1 + beta), 6), 400, kw, dict(arguments))
            out.append(Case(f"beyond{j}-{share}", plan, "lr-too-high", replace(plan, lr=round(0.2 * limit, 6))))
    # heavy momentum on a full batch swings slowly and dies out: not a missing zero_grad
    heavy = (
        [("three-lines", {}, 2e-3), ("tabular", {"name": "breast_cancer", "batch": None}, 0.02)]
        if held
        else [
            ("linreg-exact", {"n": 32, "d": 100}, 3e-5),
            ("logreg", {}, 0.02),
            ("linreg-noisy", {"batch": None}, 2e-3),
            ("multitask", {}, 2e-3),
            ("factorisation", {}, 0.1),
        ]
    )
    for j, (task, arguments, lr) in enumerate(heavy):
        for beta in (0.97, 0.99):
            out.append(
                Case(f"heavy-momentum{j}-{beta}", Plan(task, base + 380 + j, "sgd", lr, 800, {"momentum": beta}, dict(arguments)))
            )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=("tuning", "held-back"), default="tuning")
    parser.add_argument("--only", default="*", help="glob over run names; runs already there are kept")
    parser.add_argument("--minutes", type=float, default=1e9, help="stop starting runs after this long")
    parser.add_argument("--retry", action="store_true", help="train again what was dropped before")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    begun, twins, dropped, counts = time.monotonic(), {}, [], Counter()
    options.out.mkdir(parents=True, exist_ok=True)
    notes = options.out / "dropped.jsonl"
    gone = set() if options.retry or not notes.exists() else {json.loads(line)["name"] for line in notes.read_text().splitlines()}
    for case in cases(options.part):
        folder = options.out / case.name
        if not fnmatch.fnmatch(case.name, options.only) or (folder / "label.json").exists() or case.name in gone:
            continue
        if time.monotonic() - begun > 60 * options.minutes:
            break
        shutil.rmtree(folder, ignore_errors=True)
        started = time.process_time()
        plan = case.plan
        per_epoch = {"mlp-digits": 22, "cnn-digits": 22, "autoencoder": 22}.get(plan.task, 10)
        habit = habit_of(case.name, plan, per_epoch, case.habit)
        try:
            if case.twin is not None and case.twin.key not in twins:
                twins[case.twin.key] = summary(train(case.twin, 10**9))
            twin = twins[case.twin.key] if case.twin is not None else None
            trace = train(plan, habit.every or 1)
        except (RuntimeError, ValueError) as error:
            dropped.append({"name": case.name, "fault": case.fault, "why": f"failed: {error}"})
            print("failed", case.name, error, file=sys.stderr)
            continue
        if habit.every == 0 and (trace.steps_per_epoch < 4 or plan.steps < 8 * trace.steps_per_epoch):
            habit = replace(habit, every=max(1, plan.steps // 200))
        mine = summary(trace)
        if not case.fault and not plan.hook:
            twins.setdefault(plan.key, mine)
        ratio = harm(case, mine, twin) if case.fault else math.nan
        why = sound(case, mine, twin) if not case.fault else ""
        fault, note = case.fault, ""
        if case.fault and not ratio >= case.least:
            why = f"harmless: {ratio:.3g}"
            if case.fault == "lr-too-high" and benign(mine, twin, ratio):  # a high rate that does no harm is a sound run
                fault, why, note = None, "", f"lr too high in name only: {plan.lr:g} against {case.twin.lr:g}"
        if fault and twin is not None and not (twin["finite"] and twin["tail"] < 0.9 * twin["initial"]):
            why = "the twin is not sound"
        if why:
            dropped.append({"name": case.name, "fault": case.fault, "why": why, "tail": mine, "twin": twin})
            print("dropped", case.name, why, flush=True)
            continue
        codes = [FIRST_CODE[fault]] if fault in FIRST_CODE else []
        if fault == "lr-too-high" and mine["finite"] and rebounds(mine) and mine["best_step"] < 0.8 * plan.steps:
            fault, codes = "lr-too-high-then-rebound", ["TD101", "TD201"]  # it did fit first: both are right, and both fixes work
        seen = np.isfinite(trace.loss[:: habit.every or trace.steps_per_epoch]).sum()
        blind = (
            fault == "lr-too-high"
            and not mine["finite"]
            and (seen < 4 or (habit.every == 0 and mine["first_non_finite"] < 4 * trace.steps_per_epoch))
        )
        if blind:  # it died between two logged points: that it is not finite is all that a log can say
            codes = ["TD201", "TD401"]
        label = {
            "task": plan.task,
            "fault": fault,
            "expected": codes,
            "severity": "error" if codes else None,
            "seed": plan.seed,
            "part": options.part,
            "tier": habit.tier,
            "tail": mine,
            "twin": twin,
            "worse_than_twin": ratio,
            "blind": blind,
            "note": note,
            "hook": plan.hook,
            "schedule": plan.schedule,
            "clip": plan.clip,
            "seconds": round(time.process_time() - started, 2),
        }
        write_run(folder, plan, habit, trace, label)
        counts[fault or "sound"] += 1
        print(f"{case.name:40} {fault or 'sound':24} {ratio:9.3g} {time.process_time() - started:5.1f} s", flush=True)
    with notes.open("w" if options.retry else "a") as stream:
        for line in dropped:
            stream.write(json.dumps(line, default=str) + "\n")
    print(f"{sum(counts.values())} runs in {time.monotonic() - begun:.0f} s, {len(dropped)} dropped: {dict(counts)}")


if __name__ == "__main__":
    main()
