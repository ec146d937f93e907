"""Faults of data, labels and batches."""

from __future__ import annotations

import torch
from faults.declare import Fault, Sound, with_hook
from hooks import Hook, State, hook
from torch import Tensor

FAMILY = "data"


@hook("shuffle_labels")
class ShuffledLabels(Hook):
    """Labels of the training part in random order."""

    def prepare(self, s: State) -> None:
        s.problem.y = s.problem.y[torch.randperm(len(s.problem.y))]


@hook("label_noise")
class LabelNoise(Hook):
    """A share of the labels drawn at random."""

    def prepare(self, s: State) -> None:
        p = s.problem
        if p.classes:
            wrong = torch.rand(len(p.y)) < self.value
            p.y = torch.where(wrong, torch.randint(p.classes, p.y.shape), p.y)


@hook("sorted")
class Sorted(Hook):
    """Rows sorted by label (by the first target where it is a vector) and never shuffled."""

    def prepare(self, s: State) -> None:
        p = s.problem
        key = p.y if p.y.ndim == 1 else p.y.reshape(len(p.y), -1)[:, 0]
        order = key.argsort()
        p.x, p.y = p.x[order], p.y[order]

    def order(self, s: State, order: Tensor) -> Tensor:
        return torch.arange(len(order))


@hook("scale_input")
class ScaledInput(Hook):
    """Inputs times a factor."""

    def prepare(self, s: State) -> None:
        p = s.problem
        p.x = p.x * self.value
        p.x_val = None if p.x_val is None else p.x_val * self.value


@hook("bad_batch")
class BadBatch(Hook):
    """One batch of each epoch but the first with inputs times a factor."""

    def batch(self, s: State) -> None:
        if s.step % s.per_epoch == 5 % s.per_epoch and s.step >= s.per_epoch:
            s.x = s.x * self.value


@hook("one_spike")
class OneSpike(Hook):
    """One batch of the run, at this step, with inputs times 30."""

    def batch(self, s: State) -> None:
        if s.step == self.value:
            s.x = s.x * 30


FAULTS: tuple[Fault, ...] = (
    Fault("shuffled-labels", FAMILY, ("TD506",), with_hook(shuffle_labels=1), ("classes", "val"), measure="val", least=1.5, habit={"val": True}),
    Fault("unshuffled-data", FAMILY, ("TD501",), with_hook(sorted=1), ("batches", "val", "!tokens"), measure="val", least=1.3, habit={"every": 1}),
    Fault("bad-batch", FAMILY, ("TD507",), with_hook(bad_batch=300.0), ("batches", "!tokens", "!game"), measure="peak", habit={"every": 1}),
    Fault("bad-batch-mild", FAMILY, ("TD507",), with_hook(bad_batch=40.0), ("batches", "!tokens", "!game"), measure="peak", habit={"every": 1}),
)  # fmt: skip
SOUND: tuple[Sound, ...] = ()
