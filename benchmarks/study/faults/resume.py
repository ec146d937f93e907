"""Faults of checkpoints, restarts and several processes."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from hooks import Hook, State, hook
from training import build_optimizer, norm

from faults.declare import Fault, Sound, hooked, with_hook

if TYPE_CHECKING:
    from random import Random

    from recipes import Recipe
    from training import Plan

FAMILY = "resume"


@hook("lose_state")
class StateLost(Hook):
    """The optimizer is built anew at this step, as after a restart that loads the weights alone."""

    def begin(self, s: State) -> None:
        if s.step == self.value:
            s.optimizer = build_optimizer(s.plan, s.trained)


#: What a resumed process lacks -> the entries of the optimizer's state that it finds at zero.
MISSING = {
    "kept": (),
    "moments": ("exp_avg", "exp_avg_sq", "square_avg", "sum", "momentum_buffer"),
    "count": ("step",),
    "second": ("exp_avg_sq", "square_avg", "sum"),
}


@hook("resumed")
class Resumed(Hook):
    """A restart at this step, or at each of these; `resume` says what is lost, all is kept without it.

    "fresh": the optimizer's state. "moments", "count", "second": parts of it, see `MISSING`. "weights": they are those of a
    checkpoint from a third of the steps before. The pause is half an hour. From here on batches come in another order.
    """

    def __init__(self, value: Any, plan: Plan) -> None:
        super().__init__(value, plan)
        self.steps_of = (value,) if isinstance(value, int) else tuple(value)
        self.lost = plan.hook.get("resume", "kept")
        self.saved: list[torch.Tensor] = []

    def begin(self, s: State) -> None:
        if s.step == self.steps_of[0] // 3:
            self.saved = [p.detach().clone() for p in s.parameters]
        if s.step not in self.steps_of:
            return
        s.out["wall"][s.step] += 1800.0
        torch.manual_seed(s.plan.seed + s.step)
        if self.lost == "fresh":
            s.optimizer = build_optimizer(s.plan, s.trained)
        elif self.lost == "weights":
            with torch.no_grad():
                for p, old in zip(s.parameters, self.saved, strict=True):
                    p.copy_(old)
        for state in s.optimizer.state.values() if self.lost in MISSING else ():
            for name in MISSING[self.lost]:
                if torch.is_tensor(state.get(name)):
                    state[name].zero_()


@hook("resume")
class Mark(Hook):
    """A setting of "resumed"."""


@hook("rewarmed")
class Rewarmed(Hook):
    """The rate rises from 0 over this many steps after a restart."""

    def rate(self, s: State) -> None:
        at = s.plan.hook["resumed"]
        if at <= s.step < at + self.value:
            s.lr *= (s.step - at + 1) / self.value


@hook("stream")
class Stream(Hook):
    """Batches in an order of their own, drawn from one seed; "again": each restart begins that order anew."""

    def prepare(self, s: State) -> None:
        n, size = len(s.problem.x), s.problem.batch or len(s.problem.x)
        draw = torch.Generator().manual_seed(s.plan.seed)
        passes = [torch.randperm(n, generator=draw)[: n // size * size] for _ in range(s.plan.steps * size // n + 2)]
        self.batches = torch.cat(passes).view(-1, size)
        at = s.plan.hook.get("resumed", ())
        self.restarts = (at,) if isinstance(at, int) else tuple(at)

    def batch(self, s: State) -> None:
        begun = max((r for r in self.restarts if r <= s.step), default=0) if self.value == "again" else 0
        rows = self.batches[s.step - begun]
        s.x, s.y = s.problem.x[rows], s.problem.y[rows]


@hook("ranks")
class Ranks(Hook):
    """A second process beside the logged one, on data of its own; "apart": nobody averages their gradients."""

    def prepare(self, s: State) -> None:
        self.model = copy.deepcopy(s.model)

    def built(self, s: State) -> None:
        self.own = list(self.model.parameters())
        self.optimizer = build_optimizer(s.plan, self.own)

    def backward(self, s: State) -> None:
        n, size = len(s.problem.x), s.problem.batch or len(s.problem.x)
        rows = torch.randint(n, (size,))
        loss = s.loss_of(self.model, s.problem.x[rows], s.problem.y[rows])
        self.optimizer.zero_grad()
        loss.backward()
        if self.value != "apart":
            for mine, other in zip(s.parameters, self.own, strict=True):
                if mine.grad is not None and other.grad is not None:
                    mine.grad.add_(other.grad).div_(2.0)
                    other.grad.copy_(mine.grad)
        for group, theirs in zip(self.optimizer.param_groups, s.optimizer.param_groups, strict=True):
            group["lr"] = theirs["lr"]
        if s.look:
            s.note("rank 1|loss", loss.item())
            s.note("rank 1|grad_norm", norm([p.grad for p in self.own if p.grad is not None]))

    def stepped(self, s: State) -> None:
        self.optimizer.step()
        if s.look:
            s.note("rank 1|weight_norm", norm([p.detach() for p in self.own]))


@hook("head_start_lr")
class HeadStartRate(Hook):
    """Rate of `head_start`."""


@hook("head_start")
class HeadStart(Hook):
    """Steps trained before the log begins: a fine-tuning."""

    def built(self, s: State) -> None:
        first = torch.optim.Adam(s.parameters, lr=s.plan.hook.get("head_start_lr", 1e-3))
        n = len(s.problem.x)
        for _ in range(self.value):
            rows = torch.randint(n, (s.problem.batch or n,))
            first.zero_grad()
            s.loss_of(s.model, s.problem.x[rows], s.problem.y[rows]).backward()
            first.step()


def _lost(kind: str) -> Any:
    """Return the injection of a restart that lost this; exact fits are given time to come to rest before it."""

    def change(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
        steps = plan.steps * draw.choice((2, 3)) if "exact" in recipe.traits else plan.steps
        at = round(steps * draw.uniform(0.45, 0.8))
        return hooked(replace(plan, steps=steps), resumed=at, resume=kind)

    def with_twin(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan] | None:
        if kind == "fresh" and plan.optimizer in ("adam", "adamw") and "exact" not in recipe.traits:
            return None  # a fresh state steps as at the start of training: harmless where gradients have not shrunk much
        changed = change(plan, recipe, draw)
        return changed, replace(changed, hook={**plan.hook, "resumed": changed.hook["resumed"]})

    return change if kind == "kept" else with_twin


def _rewarmed(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    at = round(plan.steps * draw.uniform(0.45, 0.8))
    return hooked(plan, resumed=at, resume="fresh", rewarmed=draw.choice((60, 100)))


def _at(plan: Plan) -> int:
    at = plan.hook["resumed"]
    return int(at if isinstance(at, int) else at[0])


def _again(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    """A job that is stopped at even distances, and begins the same data anew each time: most of them are never seen.

    Batches are so small that one pass takes hundreds of steps, and two fifths of the labels are wrong, so that what is seen too
    often is learned by heart.
    """
    size, apart = draw.choice((4, 6)), draw.choice((40, 50, 60))
    at = tuple(range(apart, 18 * apart, apart))
    rate = plan.lr * (1.0 if plan.optimizer.startswith("adam") else 0.5)
    small = replace(plan, lr=rate, steps=18 * apart, task_kw=plan.task_kw | {"batch": size})
    small = hooked(small, label_noise=0.4)
    return hooked(small, stream="again", resumed=at), hooked(small, stream="on", resumed=at)


FAULTS: tuple[Fault, ...] = (
    Fault(
        "state-lost",
        FAMILY,
        ("TD805",),
        _lost("fresh"),
        optimizers=("adam", "adamw", "rmsprop", "adagrad"),
        suits=("!game",),
        measure="late",
        runs=8,
        held_back=6,
        habit={"clock": True},
        onset=_at,
    ),
    Fault(
        "moments-zeroed",
        FAMILY,
        ("TD805",),
        _lost("moments"),
        optimizers=("adam", "adamw"),
        suits=("!game",),
        measure="late",
        runs=6,
        held_back=6,
        habit={"clock": True},
        onset=_at,
    ),
    Fault(
        "second-moment-lost",
        FAMILY,
        ("TD805",),
        _lost("second"),
        optimizers=("adam", "adamw", "rmsprop", "adagrad"),
        suits=("!game",),
        measure="late",
        runs=14,
        held_back=6,
        habit={"clock": True},
        onset=_at,
    ),
    Fault(
        "older-weights", FAMILY, ("TD805",), _lost("weights"), suits=("!game",), measure="late", runs=8, held_back=4, onset=_at
    ),
    Fault(
        "data-again",
        FAMILY,
        ("TD806",),
        _again,
        ("classes", "batches", "val", "!tokens", "!recurrent"),
        measure="errors",
        least=1.4,
        runs=8,
        held_back=6,
        habit={"every": 1, "form": "events"},
        onset=_at,
    ),
    Fault(
        "gradients-not-averaged",
        FAMILY,
        ("TD807",),
        with_hook(ranks="apart"),
        ("batches", "val", "!game"),
        measure="present",
        runs=9,
        held_back=6,
        habit={"tier": 2, "form": "events"},
    ),
)
SOUND: tuple[Sound, ...] = (
    Sound("resumed", FAMILY, _lost("kept"), ("!game",), runs=14, held_back=8),
    Sound("resumed-rewarmed", FAMILY, _rewarmed, ("!game", "batches"), ("adam", "adamw"), runs=5, compare=True),
    Sound(
        "resumed-count-lost",
        FAMILY,
        lambda p, r, d: _lost("count")(p, r, d)[0],
        ("batches", "!game"),
        ("adam", "adamw"),
        runs=4,
        compare=True,
    ),
    Sound("ranks-averaged", FAMILY, with_hook(ranks="averaged"), ("batches", "!game"), runs=5, habit={"form": "events"}),
)
