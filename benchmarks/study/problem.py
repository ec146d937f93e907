"""What a training problem is, and what the tasks build theirs from."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from sklearn import datasets
from torch import Tensor, nn
from torch.nn import functional as F

Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@dataclass
class Problem:
    """One training problem.

    `batch`: rows per step, None for all of them. `extra`: an adversary's own training step, called before each step.
    `pool`: whether `x` is data to draw batches from; otherwise the loss draws its own.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    loss: Loss
    x_val: Tensor | None = None
    y_val: Tensor | None = None
    batch: int | None = 64
    classes: int | None = None
    extra: Callable[[Tensor], float] | None = None
    extra_tag: str = ""

    @property
    def steps_per_epoch(self) -> int:
        return 1 if self.batch is None else max(1, len(self.x) // self.batch)


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(model(x), y)


def mean_squares(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(model(x), y)


def sum_squares(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.mse_loss(model(x), y, reduction="sum")


def split(x: Tensor, y: Tensor, share: float = 0.8) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    order = torch.randperm(len(x))
    x, y, n = x[order], y[order], int(len(x) * share)
    return x[:n], y[:n], x[n:], y[n:]


@cache
def digits() -> tuple[Tensor, Tensor]:
    data = datasets.load_digits()
    return torch.tensor(data.data / 16.0, dtype=torch.float32), torch.tensor(data.target)


def dense(sizes: list[int], act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1])
