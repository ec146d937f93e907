"""Faults of data, labels, batches and the loader."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import torch
from hooks import Hook, State, hook
from torch import Tensor, nn
from torch.nn import functional as F

from faults.declare import Fault, Sound, hooked, with_hook

if TYPE_CHECKING:
    from recipes import Recipe
    from training import Plan

FAMILY = "data"


def key_of(y: Tensor) -> Tensor:
    """One number a row by which a data set is sorted: the label, or the mean of several targets."""
    return y if y.ndim == 1 else y.float().reshape(len(y), -1).mean(1)


@hook("shuffle_labels")
class ShuffledLabels(Hook):
    """This share of the labels of the training part in random order."""

    def prepare(self, s: State) -> None:
        y = s.problem.y
        rows = torch.randperm(len(y))[: int(self.value * len(y))]
        s.problem.y = y.clone()
        s.problem.y[rows] = y[rows[torch.randperm(len(rows))]]


@hook("roll_labels")
class RolledLabels(Hook):
    """Labels of the training part out of step with their rows by this many."""

    def prepare(self, s: State) -> None:
        s.problem.y = s.problem.y.roll(self.value, 0)


@hook("label_noise")
class LabelNoise(Hook):
    """A share of the labels drawn at random."""

    def prepare(self, s: State) -> None:
        p = s.problem
        if p.classes:
            wrong = torch.rand(p.y.shape) < self.value
            p.y = torch.where(wrong, torch.randint(p.classes, p.y.shape), p.y)


@hook("sorted")
class Sorted(Hook):
    """Rows sorted by label and never shuffled; below 1, so much of the way from a random order."""

    def prepare(self, s: State) -> None:
        p = s.problem
        rank = key_of(p.y).argsort().argsort().float() / len(p.y)
        order = (rank + (1.0 - self.value) * torch.rand(len(p.y))).argsort()
        p.x, p.y = p.x[order], p.y[order]

    def order(self, s: State, order: Tensor) -> Tensor:
        return torch.arange(len(order))


@hook("fixed_order")
class FixedOrder(Hook):
    """Rows mixed once and read in that order in every epoch."""

    def order(self, s: State, order: Tensor) -> Tensor:
        return torch.arange(len(order))


@hook("buffer")
class ShuffleBuffer(Hook):
    """Rows sorted by label and read through a shuffle buffer of so many rows."""

    def prepare(self, s: State) -> None:
        p = s.problem
        order = key_of(p.y).argsort()
        p.x, p.y = p.x[order], p.y[order]

    def order(self, s: State, order: Tensor) -> Tensor:
        return (torch.arange(len(order)) + self.value * torch.rand(len(order))).argsort()


@hook("easy_first")
class EasyFirst(Hook):
    """A curriculum: for this share of the run only the half of the rows with the lower labels, then all."""

    def order(self, s: State, order: Tensor) -> Tensor:
        if s.step >= self.value * s.plan.steps:
            return order
        easy = key_of(s.problem.y).argsort()[: len(order) // 2]
        return easy.repeat(2)[torch.randperm(2 * len(easy))][: len(order)]


@hook("scale_input")
class ScaledInput(Hook):
    """Inputs times a factor."""

    def prepare(self, s: State) -> None:
        p = s.problem
        p.x = p.x * self.value
        p.x_val = None if p.x_val is None else p.x_val * self.value


@hook("shift_input")
class ShiftedInput(Hook):
    """Inputs this many standard deviations away from 0."""

    def prepare(self, s: State) -> None:
        p = s.problem
        by = self.value * p.x.std()
        p.x = p.x + by
        p.x_val = None if p.x_val is None else p.x_val + by


@hook("one_unit")
class OtherUnit(Hook):
    """Every fourth input in a unit that makes it larger by a factor: metres and millimetres."""

    def prepare(self, s: State) -> None:
        p = s.problem
        for x in (p.x, p.x_val):
            if x is not None:
                x[..., ::4] *= self.value


def spoil(s: State, rows: slice | Tensor, size: float) -> None:
    """Make rows of the batch at hand bad: inputs times a factor, or for tokens other targets."""
    if s.x.is_floating_point():
        s.x = s.x.clone()
        s.x[rows] *= size
    else:
        s.y = s.y.clone()
        s.y[rows] = s.y[rows].flip(0).roll(1, -1) if s.y.ndim > 1 else (s.y[rows] + 1) % s.problem.classes


@hook("bad_batch")
class BadBatch(Hook):
    """One batch of each epoch but the first with inputs times a factor, tokens with targets that are not theirs."""

    def batch(self, s: State) -> None:
        if s.step % s.per_epoch == 5 % s.per_epoch and s.step >= s.per_epoch:
            spoil(s, slice(None), self.value)


@hook("bad_rows")
class BadRows(Hook):
    """The first rows of the training part with inputs times a factor, or targets times a factor: (rows, inputs, targets)."""

    def prepare(self, s: State) -> None:
        rows, inputs, targets = self.value
        p = s.problem
        p.x, p.y = p.x.clone(), p.y.clone()
        p.x[:rows] *= inputs
        if p.y.is_floating_point():
            p.y[:rows] *= targets


@hook("one_spike")
class OneSpike(Hook):
    """One batch of the run, at this step, with inputs times 30."""

    def batch(self, s: State) -> None:
        if s.step == self.value:
            s.x = s.x * 30


@hook("shift_at")
class ShiftAt(Hook):
    """From a step on other data: (step, kind, size).

    "labels": a share of wrong labels; "noise": noise of so many standard deviations on the inputs; "targets": noise on the
    targets; "permuted": a share of the inputs, or tokens, in other places.
    """

    def batch(self, s: State) -> None:
        step, kind, size = self.value
        if s.step < step:
            return
        if kind == "labels":
            wrong = torch.rand(s.y.shape) < size
            s.y = torch.where(wrong, torch.randint(s.problem.classes or 2, s.y.shape), s.y)
        elif kind == "noise":
            s.x = s.x + size * s.problem.x.std() * torch.randn_like(s.x)
        elif kind == "targets":
            s.y = s.y + size * s.problem.y.std() * torch.randn_like(s.y)
        else:
            moved = torch.rand(s.x.shape[-1]) < size
            place = torch.arange(s.x.shape[-1])
            place[moved] = place[moved].roll(1)
            s.x = s.x[..., place]


@hook("imbalance")
class Imbalance(Hook):
    """One class makes up this share of both parts; (share, blur): noise on the inputs that hides the others."""

    def prepare(self, s: State) -> None:
        share, blur = self.value
        p = s.problem
        common = int(p.y.mode().values) if p.y.ndim == 1 else 0
        for part in ("", "_val"):
            x, y = getattr(p, "x" + part), getattr(p, "y" + part)
            many, few = (y == common).nonzero()[:, 0], (y != common).nonzero()[:, 0]
            wanted = round(share * len(y))
            rows = torch.cat([many[torch.arange(wanted) % len(many)], few[torch.randperm(len(few))[: len(y) - wanted]]])
            rows = rows[torch.randperm(len(rows))]
            x, y = x[rows], y[rows]
            setattr(p, "x" + part, x + blur * x.std() * torch.randn_like(x))
            setattr(p, "y" + part, y)
        s.per_epoch = p.steps_per_epoch


@hook("dropout")
class Dropout(Hook):
    """Units left out at random behind each activation."""

    def prepare(self, s: State) -> None:
        for module in list(s.model.modules()):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.ReLU | nn.GELU | nn.Tanh):
                    setattr(module, name, nn.Sequential(child, nn.Dropout(self.value)))


@hook("augment")
class Augmented(Hook):
    """Noise on the inputs of training, up to a share of the run: (size in standard deviations, share)."""

    def batch(self, s: State) -> None:
        size, share = self.value
        if s.step < share * s.plan.steps:
            s.x = s.x + size * s.problem.x.std() * torch.randn_like(s.x)


@hook("smoothed")
class SmoothedLabels(Hook):
    """Label smoothing in training, none in validation."""

    def objective(self, s: State) -> None:
        s.loss = F.cross_entropy(s.model(s.x), s.y, label_smoothing=self.value)


#: Spellings of the seconds that a step waited for data, and that it took in all.
TIMES = (
    ("data_time", "time"),
    ("train/data_time", "train/batch_time"),
    ("perf/data_loading_time", "perf/step_time"),
    ("time/data", "time/iteration"),
    ("dataloader_time_s", "step_time_s"),
    ("", ""),
)


@hook("loader")
class Loader(Hook):
    """How long each step waits for its data: (way, seconds, beside 0.01 of computing).

    "steady": each step the same; "workers": a long wait at each eighth step; "tail": long waits now and then; "epoch": at the
    first step of each epoch; "first": once, at the very first step; "validation": the loop pauses where it evaluates, which
    is no waiting for data.
    """

    def prepare(self, s: State) -> None:
        self.draw = Random(self.plan.seed)
        way, _ = self.value
        # what takes the same time at each step, or at each epoch, is seen by nobody who does not time it
        self.names = TIMES[self.draw.randrange(len(TIMES) - (way in ("steady", "epoch")))]

    def begin(self, s: State) -> None:
        way, size = self.value
        wait = 0.0004 * (1.0 + self.draw.random())
        at_boundary = s.step % s.per_epoch == 0
        if way == "steady":
            wait += size * self.draw.uniform(0.7, 1.3)
        elif (
            (way == "workers" and s.step % 8 == 0)
            or (way == "epoch" and at_boundary)
            or (way == "first" and s.step == 0)
            or (way == "tail" and self.draw.random() < 0.06)
        ):
            wait += size * (self.draw.paretovariate(1.5) if way == "tail" else self.draw.uniform(0.8, 1.2))
        took = wait + 0.01 * self.draw.uniform(0.95, 1.1)
        pause = size if way == "validation" and at_boundary else 0.0
        s.out["wall"][s.step] = took + pause
        if self.names[0]:
            s.note(self.names[0], wait)
            s.note(self.names[1], took)


def _unshuffled(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    if draw.random() < 0.25:
        return hooked(plan, buffer=draw.choice((16, 48)))
    return hooked(plan, sorted=draw.choice((1.0, 1.0, 0.95, 0.85)))


def _wrong_labels(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    if draw.random() < 0.35:
        return hooked(plan, roll_labels=draw.choice((1, 7, 40)))
    return hooked(plan, shuffle_labels=draw.choice((1.0, 1.0, 0.95)))


def _bad_batch(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, bad_batch=draw.choice((40.0, 100.0, 300.0)))


def _bad_rows(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, bad_rows=(draw.choice((1, 1, 2)), draw.choice((1.0, 1.0, 30.0)), draw.choice((30.0, 100.0, 300.0))))


def _shift(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    step = int(draw.uniform(0.35, 0.7) * plan.steps)
    if "tokens" in recipe.traits:
        kind, size = draw.choice((("permuted", 0.5), ("permuted", 0.9), ("labels", 0.3)))
    elif "classes" in recipe.traits:
        kind, size = draw.choice((("labels", 0.2), ("labels", 0.4), ("noise", 1.5), ("permuted", 0.5)))
    else:
        kind, size = draw.choice((("targets", 0.5), ("targets", 1.0), ("noise", 1.0)))
    return hooked(plan, shift_at=(step, kind, size))


def _majority(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, imbalance=(draw.choice((0.94, 0.97, 0.985)), draw.choice((8.0, 20.0))))


def _not_normalised(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    ways = (("one_unit", 300.0), ("one_unit", 1000.0), ("shift_input", 100.0), ("shift_input", 300.0), ("scale_input", 255.0))
    way, size = draw.choice(ways)
    return hooked(plan, **{way: size})


def _starved(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    way, low, high = draw.choice((("steady", 0.015, 0.08), ("workers", 0.15, 0.6), ("tail", 0.2, 0.6), ("epoch", 0.4, 1.2)))
    return hooked(plan, loader=(way, draw.uniform(low, high)))


def _restarts(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return replace(plan, schedule=f"restarts:{draw.choice((3, 5, 8))}", lr=2 * plan.lr)


def _one_spike(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, one_spike=int(draw.uniform(0.2, 0.7) * plan.steps))


def _easy_first(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, easy_first=draw.choice((0.25, 0.4)))


def _fine_loader(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    way, size = draw.choice((("first", 30.0), ("steady", 0.0015), ("validation", 0.3), ("tail", 0.015), ("validation", 1.2)))
    return hooked(plan, loader=(way, size))


def _augmented(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, augment=(draw.choice((0.5, 1.0, 1.5)), draw.choice((1.0, 1.0, 0.8))))


FAULTS: tuple[Fault, ...] = (
    Fault(
        "shuffled-labels",
        FAMILY,
        ("TD506",),
        _wrong_labels,
        ("classes", "batches", "val", "!imbalanced", "!attention"),
        measure="val",
        least=1.5,
        runs=12,
        held_back=8,
        habit={"val": True},
    ),
    Fault(
        "unshuffled-data",
        FAMILY,
        ("TD501",),
        _unshuffled,
        ("batches", "val", "!attention"),
        measure="val",
        least=1.3,
        runs=14,
        held_back=8,
        habit={"every": 1},
    ),
    Fault(
        "unshuffled-sparse",
        FAMILY,
        ("TD501",),
        _unshuffled,
        ("batches", "val", "!attention"),
        measure="val",
        least=1.3,
        runs=8,
        held_back=4,
        habit={"every": 5},
    ),
    Fault(
        "bad-batch",
        FAMILY,
        ("TD507",),
        _bad_batch,
        ("batches", "!tokens", "!game", "!layer-norm", "!classes-of-pairs"),
        measure="max",
        least=2.0,
        runs=14,
        held_back=8,
        habit={"every": 1},
    ),
    Fault(
        "outlier-rows",
        FAMILY,
        ("TD507",),
        _bad_rows,
        ("regression", "batches", "!game"),
        measure="max",
        least=2.0,
        runs=12,
        held_back=6,
        habit={"every": 1},
    ),
    Fault(
        "data-shift",
        FAMILY,
        ("TD508",),
        _shift,
        ("batches", "!game", "!classes-of-pairs"),
        measure="loss",
        least=1.3,
        runs=16,
        held_back=10,
        onset=lambda plan: plan.hook["shift_at"][0],
    ),
    Fault(
        "majority-only",
        FAMILY,
        ("TD509",),
        _majority,
        ("classes", "batches", "val", "!tokens"),
        measure="majority",
        least=1.0,
        runs=18,
        held_back=8,
        habit={"val": True},
    ),
    Fault(
        "inputs-not-normalised",
        FAMILY,
        ("TD510",),
        _not_normalised,
        ("classes", "batches", "!tokens", "!recurrent", "!batch-norm", "!layer-norm"),
        measure="loss",
        runs=18,
        held_back=10,
    ),
    Fault(
        "starved-loader",
        FAMILY,
        ("TD512",),
        _starved,
        ("batches",),
        measure="time",
        least=1.8,
        runs=14,
        held_back=8,
        habit={"form": "events"},
    ),
)
SOUND: tuple[Sound, ...] = (
    Sound(
        "label-noise",
        FAMILY,
        lambda plan, recipe, draw: hooked(plan, label_noise=draw.choice((0.1, 0.25, 0.4))),
        ("classes", "batches", "val"),
        runs=7,
    ),
    Sound(
        "imbalance-learns",
        FAMILY,
        lambda plan, recipe, draw: hooked(plan, imbalance=(draw.choice((0.8, 0.9)), 0.0)),
        ("classes", "batches", "val", "!tokens"),
        runs=5,
        habit={"val": True},
    ),
    Sound("fixed-order", FAMILY, with_hook(fixed_order=1), ("batches", "!game"), runs=10, held_back=6, compare=True),
    Sound(
        "dropout",
        FAMILY,
        lambda plan, recipe, draw: hooked(plan, dropout=draw.choice((0.1, 0.3, 0.5))),
        ("batches", "val", "relu|attention"),
        runs=10,
        held_back=6,
        habit={"val": True},
    ),
    Sound("augmented", FAMILY, _augmented, ("batches", "val", "!tokens"), runs=8, held_back=5, habit={"val": True}),
    Sound(
        "label-smoothing",
        FAMILY,
        lambda plan, recipe, draw: hooked(plan, smoothed=draw.choice((0.05, 0.1))),
        ("classes", "batches", "val"),
        runs=5,
        habit={"val": True},
    ),
    Sound("easy-first", FAMILY, _easy_first, ("classes", "batches", "val"), runs=8, held_back=5),
    Sound("epoch-restarts", FAMILY, _restarts, ("batches", "!game"), runs=6),
    Sound("one-bad-batch", FAMILY, _one_spike, ("batches", "!tokens", "!game"), runs=7),
    Sound("loader-is-fine", FAMILY, _fine_loader, ("batches",), runs=10, held_back=6, habit={"form": "events"}),
    Sound("epoch-means", FAMILY, lambda plan, recipe, draw: plan, ("batches", "val"), runs=5, habit={"every": 0, "val": True}),
)
