"""Faults of the learning rate and its schedule."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from hooks import Hook, State, hook

from faults.declare import Fault, Sound, hooked

if TYPE_CHECKING:
    from random import Random

    from recipes import Recipe
    from training import Plan

FAMILY = "learning_rate"
RATES = ("lr/pg{}", "lr-group{}", "train/lr_{}", "learning_rate/group_{}")
BATCHES = ("batch_size", "train/batch_size", "data/batch_size")


def factor(law: dict[str, Any], count: float) -> float:
    """The factor of a schedule after so many calls.

    `law`: "shape" (cosine, linear, exponential, step, constant), "total" calls, "warmup" calls, "start" of the warmup,
    "low" end, "gamma" and "size" of a step. A cosine goes up again after its end, as PyTorch's does, unless "held".
    """
    warmup, low = law.get("warmup", 0), law.get("low", 0.0)
    if count < warmup:
        start = law.get("start", 0.0)
        return start + (1.0 - start) * (count + 1) / warmup
    count -= warmup
    share = count / max(1.0, law.get("total", 1.0) - warmup)
    if law["shape"] == "cosine":
        return low + (1.0 - low) * 0.5 * (1.0 + math.cos(math.pi * (min(share, 1.0) if law.get("held") else share)))
    if law["shape"] == "linear":
        return max(low, 1.0 - share)
    if law["shape"] == "exponential":
        return law["gamma"] ** count
    if law["shape"] == "step":
        return law["gamma"] ** (count // law["size"])
    return 1.0


@hook("law")
class Law(Hook):
    """A schedule of its own, see `factor`; called every "every" steps, once an epoch where that is 0. "reset": step at which it
    begins anew."""

    def rate(self, s: State) -> None:
        step = s.step - (self.value["reset"] if 0 < self.value.get("reset", 0) <= s.step else 0)
        every = self.value.get("every", 1) or s.per_epoch
        s.lr = s.plan.lr * factor(self.value, step // every if every >= 1 else step / every)


@hook("schedule_settings")
class Mark(Hook):
    """What the config says of the schedule beside its name."""


@hook("on_plateau")
class OnPlateau(Hook):
    """The rate times "factor" when the loss has not improved by a ten-thousandth over "patience" calls; "every": steps a call."""

    def __init__(self, value: Any, plan: Plan) -> None:
        super().__init__(value, plan)
        self.scale, self.best, self.bad, self.seen = 1.0, math.inf, 0, list[float]()

    def rate(self, s: State) -> None:
        s.lr = s.plan.lr * self.scale

    def stepped(self, s: State) -> None:
        self.seen.append(float(s.loss.detach()))
        every = self.value["every"] or s.per_epoch
        if len(self.seen) < every:
            return
        level = self.seen[-1] if self.value.get("last") else float(np.mean(self.seen))
        self.seen.clear()
        if level < self.best * (1.0 - 1e-4):
            self.best, self.bad = level, 0
        else:
            self.bad += 1
        if self.bad > self.value["patience"] and self.scale > 1e-8:
            self.scale, self.bad = self.scale * self.value["factor"], 0


@hook("batch_times")
class BatchChanged(Hook):
    """From step "at" on a share of each batch alone; before it for "early". "noted": the batch size is logged."""

    def batch(self, s: State) -> None:
        small = s.step >= self.value["at"]
        n = max(1, round(len(s.x) * (self.value["share"] if small else 1.0)))
        s.x, s.y = s.x[:n], s.y[:n]
        if self.value.get("noted") is not None:
            s.note(BATCHES[self.value["noted"]], n)


@hook("group")
class OneGroup(Hook):
    """Part of the parameters at another rate: "which" ("first", "last", "half": a weight matrix with its bias), times "share"."""

    def build(self, s: State) -> None:
        names = [n for n, _ in s.model.named_parameters()]
        modules = list(dict.fromkeys(n.rpartition(".")[0] for n in names))
        wide = [m for m in modules if any(p.ndim >= 2 for n, p in s.model.named_parameters() if n.rpartition(".")[0] == m)]
        chosen = {"first": wide[:1], "last": wide[-1:], "middle": wide[len(wide) // 2 :][:1], "half": wide[: len(wide) // 2]}[
            self.value["which"]
        ]
        inside = [p for n, p in s.model.named_parameters() if n.rpartition(".")[0] in chosen]
        rest = [p for n, p in s.model.named_parameters() if n.rpartition(".")[0] not in chosen]
        s.trained = [{"params": rest}, {"params": inside, "share": self.value["share"]}]

    def stepped(self, s: State) -> None:
        if self.value.get("noted") is not None:
            tag = RATES[self.value["noted"]]
            s.note(tag.format(0), s.lr)
            s.note(tag.format(1), s.lr * self.value["share"])


# -- plans ------------------------------------------------------------------------------------------------------------


def scheduled(plan: Plan, name: str, law: dict[str, Any], **settings: Any) -> Plan:
    """The plan with this law; `name` and `settings` are what its config says."""
    return hooked(replace(plan, schedule=name), law=law, schedule_settings=settings)


def _hot(plan: Plan, draw: Random) -> Plan:
    return replace(plan, lr=plan.lr * draw.choice((4, 8, 10) if plan.optimizer == "sgd" else (30, 60, 100)))


def _no_warmup(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    hot = _hot(plan, draw)
    shape = draw.choice(("cosine", "linear"))
    long = plan.steps // draw.choice((4, 6))
    law = {"shape": shape, "total": plan.steps, "held": True}
    return scheduled(hot, shape, law), scheduled(hot, shape, law | {"warmup": long}, warmup_steps=long)


def _short_warmup(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    hot = _hot(plan, draw)
    shape = draw.choice(("cosine", "linear"))
    short, long = draw.choice((4, 8, 12)), plan.steps // 4
    law = {"shape": shape, "total": plan.steps, "held": True}
    return (
        scheduled(hot, shape, law | {"warmup": short}, warmup_steps=short),
        scheduled(hot, shape, law | {"warmup": long}, warmup_steps=long),
    )


def _per_batch(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    kind = draw.choice(("exponential", "exponential", "step"))
    gamma = draw.choice((0.7, 0.8, 0.9)) if kind == "exponential" else draw.choice((0.1, 0.3))
    law: dict[str, Any] = {"shape": kind, "gamma": gamma, "size": draw.choice((4, 6, 8)), "every": 1}
    name = {"exponential": "exponential", "step": "step"}[kind]
    settings: dict[str, Any] = {"gamma": gamma} | ({"step_size": law["size"]} if kind == "step" else {})
    meant = law | {"every": max(1, plan.steps // 30)}
    return scheduled(plan, name, law, **settings), scheduled(plan, name, meant, **settings)


def _per_epoch(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    """Meant in steps, called once in a thirtieth of the run: the warmup never ends."""
    warmup = plan.steps // draw.choice((4, 8))
    law = {"shape": draw.choice(("cosine", "linear")), "total": plan.steps, "warmup": warmup, "held": True}
    law["start"] = draw.choice((0.0, 0.04))
    slow = law | {"every": max(1, plan.steps // draw.choice((12, 30)))}
    settings = {"warmup_steps": warmup}
    return scheduled(plan, str(law["shape"]), slow, **settings), scheduled(plan, str(law["shape"]), law, **settings)


def _noisy(plan: Plan, recipe: Recipe, draw: Random, batch: int = 8, more: float = 1.0) -> Plan:
    """The plan with small batches and a rate at which their noise sets the level; `more`: times that rate, but of SGD."""
    up = draw.choice((8, 16)) * more if plan.optimizer != "sgd" else draw.choice((2, 4))
    return replace(plan, lr=plan.lr * up, steps=max(900, plan.steps), task_kw=plan.task_kw | {"batch": batch})


def _never_stepped(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    """Half of them stay at the first value of the warmup, the others at the peak, where small batches make noise."""
    shape = draw.choice(("cosine", "linear"))
    if draw.random() < 0.5:
        warmup = plan.steps // 8
        law = {"shape": shape, "total": plan.steps, "warmup": warmup, "start": draw.choice((0.0, 0.04, 0.001)), "held": True}
        settings: dict[str, Any] = {"warmup_steps": warmup}
        stuck = law | {"every": 10**9}
        return scheduled(plan, shape, stuck, **settings), scheduled(plan, shape, law, **settings)
    noisy = _noisy(plan, recipe, draw)
    law = {"shape": shape, "total": noisy.steps, "held": True}
    return scheduled(noisy, shape, {"shape": "constant"}), scheduled(noisy, shape, law)


def _too_short(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    """A schedule that is over long before the run."""
    shape = draw.choice(("cosine", "linear"))
    total = int(plan.steps * draw.choice((0.1, 0.15, 0.2, 0.3)))
    law = {"shape": shape, "total": total, "held": True, "low": draw.choice((0.0, 1e-3))}
    warmup = draw.choice((0, total // 8))
    law |= {"warmup": warmup}
    settings = {"decay_steps": total} | ({"warmup_steps": warmup} if warmup else {})
    return scheduled(plan, shape, law, **settings), scheduled(plan, shape, law | {"total": plan.steps}, decay_steps=plan.steps)


def _too_long(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    """A schedule of which the run sees the beginning alone, where small batches make noise."""
    noisy = _noisy(plan, recipe, draw)
    shape = draw.choice(("cosine", "linear"))
    total = int(noisy.steps * draw.choice((3, 5, 10)))
    law = {"shape": shape, "total": total, "held": True}
    return (
        scheduled(noisy, shape, law, decay_steps=total),
        scheduled(noisy, shape, law | {"total": noisy.steps}, decay_steps=noisy.steps),
    )


def _floor(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    """A rate that is lowered once, by a little, and then held: the loss falls with it, and stays."""
    noisy = _noisy(plan, recipe, draw, 8, 2)
    law = {"shape": "step", "gamma": draw.choice((0.3, 0.5)), "size": int(noisy.steps * draw.uniform(0.52, 0.65))}
    cosine = {"shape": "cosine", "total": noisy.steps, "held": True}
    return scheduled(noisy, "step", law), scheduled(noisy, "cosine", cosine)


def _reset(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    """The schedule begins anew where the run is resumed, late, and where small batches make noise."""
    noisy = _noisy(plan, recipe, draw, 16)
    shape = draw.choice(("cosine", "linear"))
    at = int(noisy.steps * draw.uniform(0.5, 0.8))
    warmup = draw.choice((0, 0, noisy.steps // 20))
    law = {"shape": shape, "total": noisy.steps, "warmup": warmup, "held": True}
    settings = {"warmup_steps": warmup} if warmup else {}
    twin = scheduled(hooked(noisy, resumed=at), shape, law, **settings)
    return scheduled(hooked(noisy, resumed=at), shape, law | {"reset": at}, **settings), twin


def _impatient(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    patience = draw.choice((1, 2, 4))
    factor_ = draw.choice((0.1, 0.3, 0.5))
    noisy = replace(plan, task_kw=plan.task_kw | {"batch": 16})
    value = {"every": draw.choice((1, 2, 5)), "patience": patience, "factor": factor_, "last": 1}
    settings = {"patience": patience, "factor": factor_}
    twin = hooked(noisy, on_plateau=value | {"every": 0, "patience": 10, "last": 0})
    faulty = replace(hooked(noisy, on_plateau=value, schedule_settings=settings), schedule="reduce_on_plateau")
    return faulty, twin


def _smaller_batch(plan: Plan, recipe: Recipe, draw: Random, logged: bool = True) -> tuple[Plan, Plan]:
    hot = replace(plan, lr=plan.lr * draw.choice((2, 4)), steps=max(600, plan.steps), task_kw=plan.task_kw | {"batch": 64})
    share = draw.choice((1 / 16, 1 / 32))
    at = int(hot.steps * draw.uniform(0.35, 0.65))
    noted = draw.choice((0, 1, 2)) if logged else None
    change = {"at": at, "share": share, "noted": noted}
    law = {"shape": "step", "gamma": share, "size": at}
    return hooked(hot, batch_times=change), hooked(hot, batch_times=change, law=law)


def _unlogged_batch(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    return _smaller_batch(plan, recipe, draw, logged=False)


def _group_wild(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    share = draw.choice((100.0, 300.0, 1000.0)) if plan.optimizer != "sgd" else draw.choice((50.0, 100.0, 300.0))
    return hooked(
        plan, group={"which": draw.choice(("first", "last", "middle")), "share": share, "noted": draw.choice((None, 0, 1, 2, 3))}
    )


def _group_still(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(
        plan,
        group={
            "which": draw.choice(("half", "first", "last")),
            "share": draw.choice((1e-4, 1e-3)),
            "noted": draw.choice((None, 0, 1, 2, 3)),
        },
    )


def _at_reset(plan: Plan) -> int:
    return int(plan.hook["law"]["reset"])


def _at_change(plan: Plan) -> int:
    return int(plan.hook["batch_times"]["at"])


def _at_drop(plan: Plan) -> int:
    return int(plan.hook["law"]["size"])


# -- sound runs that look alike ---------------------------------------------------------------------------------------


def _spike_with_warmup(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    """A warmup of usual length to a rate somewhat above the usual, then a decay."""
    up = replace(plan, lr=plan.lr * 2)
    law = {"shape": "cosine", "total": plan.steps, "warmup": plan.steps // 10, "held": True}
    return scheduled(up, "cosine", law, warmup_steps=law["warmup"])


def _no_warmup_needed(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    shape = draw.choice(("cosine", "linear", "constant"))
    return scheduled(plan, shape, {"shape": shape, "total": plan.steps, "held": True})


def _constant_and_noisy(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    """Small batches at a constant rate, somewhat above the usual: a plateau that says nothing by itself."""
    return replace(plan, lr=plan.lr * draw.choice((1, 2)), steps=max(900, plan.steps), task_kw=plan.task_kw | {"batch": 8})


def _decayed_steps(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    """A staircase of usual factors: the loss falls at once with the rate, twice."""
    noisy = _noisy(plan, recipe, draw)
    law = {"shape": "step", "gamma": 0.1, "size": noisy.steps // draw.choice((2, 3))}
    return scheduled(noisy, "step", law, gamma=0.1, step_size=law["size"])


def _held_then_decayed(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    """Warmup, a long constant rate, and a short decay at the end."""
    return hooked(replace(plan, schedule="wsd"), wsd=draw.choice((0.1, 0.2, 0.3)))


@hook("wsd")
class WarmupStableDecay(Hook):
    """Warmup over a twentieth of the run, then constant, then linear to zero over the last share of it."""

    def rate(self, s: State) -> None:
        t = s.step / s.plan.steps
        s.lr = s.plan.lr * min(1.0, (t + 1e-3) / 0.05, max(0.0, (1.0 - t) / self.value))


def _resumed_well(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    """A resume with the schedule kept."""
    law = {"shape": "cosine", "total": plan.steps, "warmup": plan.steps // 20, "held": True}
    return scheduled(hooked(plan, resumed=int(plan.steps * draw.uniform(0.3, 0.8))), "cosine", law, warmup_steps=law["warmup"])


def _restarts(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return replace(plan, schedule=f"restarts:{draw.choice((2, 3, 5, 8))}")


def _patient(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    long = replace(plan, steps=2 * plan.steps)
    return replace(
        hooked(long, on_plateau={"every": 0, "patience": 3, "factor": 0.3}, schedule_settings={"patience": 3, "factor": 0.3}),
        schedule="reduce_on_plateau",
    )


def _grown_batch(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    """A smaller batch with a rate scaled to it."""
    at = int(plan.steps * draw.uniform(0.4, 0.7))
    share = draw.choice((0.25, 0.5))
    law = {"shape": "step", "gamma": share, "size": at}
    return hooked(plan, batch_times={"at": at, "share": share, "noted": draw.choice((None, 0))}, law=law)


def _discriminative(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    """Groups at rates that differ as they do in fine-tuning."""
    return hooked(
        plan,
        group={
            "which": draw.choice(("half", "first", "last")),
            "share": draw.choice((0.1, 0.3, 3.0)),
            "noted": draw.choice((None, 0, 1)),
        },
    )


def _slow_schedule(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    """A decay to a tenth, an exponential once an epoch, a decay that ends a little before the run."""
    kind = draw.choice(("low", "exponential", "early"))
    if kind == "exponential":
        return scheduled(
            plan, "exponential", {"shape": "exponential", "gamma": 0.93, "every": max(1, plan.steps // 30)}, gamma=0.93
        )
    law = {
        "shape": "cosine",
        "total": int(plan.steps * (0.8 if kind == "early" else 1.0)),
        "held": True,
        "low": 0.1 if kind == "low" else 0.0,
    }
    return scheduled(plan, "cosine", law)


MINI = ("batches", "!game")
LEVEL = ("batches", "classes", "relu", "val", "!batch-norm")  # fits its data, but not at a high rate
ROWS = (*MINI, "!classes-of-pairs")
FAULTS: tuple[Fault, ...] = (
    Fault(
        "warmup-missing",
        FAMILY,
        ("TD203", "TD201"),
        _no_warmup,
        ("batches", "!game"),
        measure="lasting",
        least=1.5,
        runs=24,
        held_back=12,
        habit={"log_lr": True, "every": 2},
    ),
    Fault(
        "warmup-too-short",
        FAMILY,
        ("TD216", "TD201"),
        _short_warmup,
        ("batches", "!game"),
        measure="lasting",
        least=1.5,
        runs=24,
        held_back=12,
        habit={"log_lr": True, "every": 2},
    ),
    Fault("stepped-per-batch", FAMILY, ("TD206",), _per_batch, MINI, runs=12, held_back=8, habit={"log_lr": True}),
    Fault(
        "never-stepped",
        FAMILY,
        ("TD207",),
        _never_stepped,
        MINI,
        least=1.5,
        runs=14,
        held_back=8,
        habit={"log_lr": True, "config": "nested"},
    ),
    Fault("stepped-per-epoch", FAMILY, ("TD208",), _per_epoch, MINI, runs=12, held_back=8, habit={"log_lr": True}),
    Fault("horizon-too-short", FAMILY, ("TD209",), _too_short, MINI, least=1.5, runs=12, held_back=8, habit={"log_lr": True}),
    Fault(
        "horizon-too-long",
        FAMILY,
        ("TD209",),
        _too_long,
        MINI,
        least=1.5,
        runs=12,
        held_back=8,
        habit={"log_lr": True, "config": "flat"},
    ),
    Fault(
        "floor-of-the-rate",
        FAMILY,
        ("TD215", "TD201"),
        _floor,
        LEVEL,
        least=1.5,
        runs=24,
        held_back=8,
        onset=_at_drop,
        habit={"log_lr": True, "every": 2},
    ),
    Fault(
        "reset-at-resume",
        FAMILY,
        ("TD217",),
        _reset,
        MINI,
        least=1.3,
        runs=14,
        held_back=8,
        onset=_at_reset,
        habit={"log_lr": True},
    ),
    Fault("impatient-plateau", FAMILY, ("TD218",), _impatient, MINI, least=1.5, runs=12, held_back=8, habit={"log_lr": True}),
    Fault("batch-changed", FAMILY, ("TD219",), _smaller_batch, ROWS, least=1.5, runs=10, held_back=8, onset=_at_change),
    Fault(
        "batch-changed-unlogged",
        FAMILY,
        ("TD219", "TD508"),
        _unlogged_batch,
        ROWS,
        least=1.5,
        runs=8,
        held_back=4,
        onset=_at_change,
    ),
    Fault(
        "group-too-fast",
        FAMILY,
        ("TD220",),
        _group_wild,
        ("batches", "!game"),
        least=1.5,
        runs=10,
        held_back=6,
        habit={"tier": 3},
    ),
    Fault(
        "group-too-slow",
        FAMILY,
        ("TD220",),
        _group_still,
        ("batches", "!game"),
        least=1.5,
        runs=10,
        held_back=6,
        habit={"tier": 3},
    ),
)
SOUND: tuple[Sound, ...] = (
    Sound("warmup-to-twice", FAMILY, _spike_with_warmup, MINI, runs=6),
    Sound("no-warmup-needed", FAMILY, _no_warmup_needed, MINI, runs=8),
    Sound("constant-and-noisy", FAMILY, _constant_and_noisy, LEVEL, runs=6, habit={"val": True}),
    Sound("staircase", FAMILY, _decayed_steps, MINI, runs=6),
    Sound("held-then-decayed", FAMILY, _held_then_decayed, MINI, runs=6),
    Sound("resumed-well", FAMILY, _resumed_well, MINI, runs=6),
    Sound("warm-restarts", FAMILY, _restarts, MINI, runs=6),
    Sound("patient-plateau", FAMILY, _patient, MINI, runs=6),
    Sound("batch-and-rate", FAMILY, _grown_batch, ROWS, runs=6),
    Sound("rates-by-group", FAMILY, _discriminative, MINI, runs=8, habit={"tier": 3}),
    Sound("slow-schedule", FAMILY, _slow_schedule, MINI, runs=6),
)
