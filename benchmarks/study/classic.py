"""Runs put together by hand: rates, exact fits, cleared gradients, singular losses, and sound runs that do not look it."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harm import Case
from recipes import DAMPED, EXACT_HELD_BACK, EXACT_HELD_BACK_2, EXACT_TUNING, HELD_BACK, HELD_BACK_2, SGDM, TUNING, Row
from training import Plan

if TYPE_CHECKING:
    from collections.abc import Callable


#: Where the seeds of a part begin.
BASES = {"tuning": 10, "held-back": 900, "held-back-2": 2900}
#: The recipe of a part that stands where another has the first one.
STAND_INS = {
    "tuning": {},
    "held-back": {"mlp": "bow", "cnn": "conv1d", "lm": "copy", "ae": "contrast"},
    "held-back-2": {"mlp": "distilled", "cnn": "separable", "lm": "patches", "ae": "triplets"},
}
EXACT = {"tuning": EXACT_TUNING, "held-back": EXACT_HELD_BACK, "held-back-2": EXACT_HELD_BACK_2}


def classic_cases(part: str) -> list[Case]:
    """All runs of a part; the ones that turn out harmless, or not sound, are dropped later."""
    held = part != "tuning"
    base = BASES[part]
    recipes: dict[str, Row] = dict({"tuning": TUNING, "held-back": HELD_BACK, "held-back-2": HELD_BACK_2}[part])
    if part == "held-back":  # the tasks of the other part too, with other seeds and fewer runs
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
            if kind.endswith("logged-before"):  # weights constant, norm not 0: nothing in a log separates the three
                out[-1] = replace(out[-1], codes=("TD302", "TD305", "TD311"))
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
    for j, (task, arguments, name, lr, kw, steps) in enumerate(EXACT[part]):
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
    pixels = {"held-back": "wine", "held-back-2": "iris"}.get(part, "mlp")
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

    # sound, though it does not look so
    here = lambda key: STAND_INS[part].get(key, key)
    k0 = here("mlp")
    p = plan_of(k0, 0, 200)
    small = {"batch": 4}
    add("tiny-batch-adam", replace(p, lr=p.lr / 4, steps=1500, task_kw=p.task_kw | small))
    add(
        "tiny-batch-sgd",
        replace(p, optimizer="sgd", lr=0.1 if held else 0.01, kw={}, steps=1500, seed=base + 201, task_kw=p.task_kw | small),
    )
    add("restarts", replace(p, schedule="restarts:4", seed=base + 202))
    add("restarts-many", replace(plan_of(here("cnn"), 0, 203), schedule="restarts:7"), every=2)
    add("warmup-cosine-lm", replace(plan_of(here("lm"), 0, 204), schedule="warmup-cosine:0.1"))
    add("warmup-cosine-lm-clip", replace(plan_of(here("lm"), 0, 205), schedule="warmup-cosine:0.2", clip=1.0))
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
    for j, key in enumerate([k0, here("cnn"), here("ae")]):
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
        add(f"{key}-per-epoch", replace(q, seed=base + 243 + j), every=0, val=True)
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
        q = plan_of(here("cnn") if held else "mlp", j % 2, 290 + j)
        add(f"label-noise{j}", replace(q, steps=300, hook={"label_noise": share}))
    out += later_cases(part, pairs, plan_of)
    return out


def later_cases(part: str, pairs: list[tuple[str, int, str]], plan_of: Callable[[str, int, int], Plan]) -> list[Case]:
    """More rates, more deaths, more rebounds, and more sound runs; apart, so that the draws above stay as they were."""
    held, base = part != "tuning", BASES[part]
    draw = random.Random({"tuning": "more False", "held-back": "more True"}.get(part, part))
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
        for up in draw.sample(ups, 1 if held else 2):
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
    for j, (task, arguments, name, lr, kw, steps) in enumerate(EXACT[part][:16]):
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
