"""One training run from settings in the one vocabulary, with an injected fault: a `Job` in, its curves out.

The loop of the study (benchmarks/study/training.py) takes a plan of its own; here base and candidates differ in settings
alone, and in all of them: the order of the rows has a generator of its own, so that a change draws no other data.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[1] / "study"))

from problem import Problem, mean_squares
from tasks import TASKS
from training import norm

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "sgd": "SGD", "adagrad": "Adagrad"}
#: A run is broken off after so many steps without a finite loss.
N_DEAD = 20


def fourier_exact(n: int = 48, features: int = 400, noise: float = 0.5) -> Problem:
    """Regression on random cosines of two inputs, with more cosines than rows."""
    x = torch.rand(n, 2) * 6.28
    y = torch.sin(x[:, :1]) * torch.cos(x[:, 1:]) + noise * torch.randn(n, 1)
    waves = torch.cos(x @ torch.randn(2, features) * 2.0 + torch.rand(features) * 6.28)
    return Problem(nn.Linear(features, 1), waves, y, mean_squares, batch=None)


ALL_TASKS = {**TASKS, "fourier-exact": fourier_exact}


@dataclass(frozen=True)
class Job:
    """What to train.

    `settings`: the one vocabulary ("optimizer.lr", "schedule.name", ...); without "batch_size" the task's own batch is
    taken. `hook`: what is wrong with the loop or the data: "keep_gradients", "lose_state" (steps), "bad_steps" (steps) with
    "bad_factor" on the inputs. `order`: of the rows; another number is another order.
    """

    task: str
    seed: int
    steps: int
    settings: Mapping[str, Any]
    task_kw: Mapping[str, Any] = field(default_factory=dict)
    hook: Mapping[str, Any] = field(default_factory=dict)
    order: int = 0

    def changed(self, change: Mapping[str, Any]) -> Job:
        """The job with a change of settings in it; what mends the loop takes its fault away."""
        mends = {"gradient.zero_grad": "keep_gradients", "restore_state": "lose_state"}
        hook = {k: v for k, v in self.hook.items() if not any(mends.get(key) == k for key in change)}
        kept = dict(self.settings)
        if "schedule.name" in change:  # another schedule runs over the whole run
            kept = {k: v for k, v in kept.items() if not k.startswith("schedule.")}
        settings = {**kept, **{k: v for k, v in change.items() if k not in mends}}
        return Job(self.task, self.seed, self.steps, settings, self.task_kw, hook, self.order)


@dataclass(frozen=True)
class Curves:
    """`loss`, `grad_norm` (before the clip, NaN where it was not taken), `lr`: (steps,) float64, NaN after the run died."""

    loss: np.ndarray
    grad_norm: np.ndarray
    lr: np.ndarray


def lr_factor(settings: Mapping[str, Any], step: int, steps: int) -> float:
    """The schedule's factor on the learning rate: a decay over "schedule.total_steps" (the run), times a linear warmup."""
    warmup = settings.get("schedule.warmup_steps", 0)
    factor = min(1.0, (step + 1) / warmup) if warmup else 1.0
    least = settings.get("schedule.min_lr", 0.0) / settings["optimizer.lr"]
    t = min(1.0, step / settings.get("schedule.total_steps", steps))
    match settings.get("schedule.name", "constant"):
        case "linear":
            return factor * max(least, 1.0 - t)
        case "cosine":
            return factor * max(least, 0.5 * (1.0 + math.cos(math.pi * t)))
        case "exponential":
            return factor * settings["schedule.decay"] ** step
        case "step":  # a tenth after each third
            return factor * 0.1 ** int(t * 3)
    return factor


def batch_size(job: Job) -> int | None:
    """Rows per step; None for all of them."""
    size: int | None = job.settings.get("batch_size", ALL_TASKS[job.task](**job.task_kw).batch)
    return size


def build_optimizer(settings: Mapping[str, Any], parameters: list[Tensor]) -> torch.optim.Optimizer:
    name = settings["optimizer.name"]
    kw = {k.partition(".")[2]: v for k, v in settings.items() if k.startswith("optimizer.") and k != "optimizer.name"}
    if "betas" in kw:
        kw["betas"] = tuple(kw["betas"])
    if name in ("adam", "adamw", "sgd"):
        kw["fused"] = True
    return getattr(torch.optim, OPTIMIZERS[name])(parameters, **kw)


def train(job: Job, every: int = 1) -> Curves:
    """Train one run; the gradient norm is taken at each `every`-th step."""
    torch.manual_seed(job.seed)
    problem = ALL_TASKS[job.task](**job.task_kw)
    settings, hook = job.settings, job.hook
    model, x, y = problem.model, problem.x, problem.y
    draw = torch.Generator().manual_seed(1_000_003 * (job.order + 1) + job.seed)
    n = len(x)
    size = settings.get("batch_size", problem.batch) or n
    if job.order and size >= n and job.task != "factorisation":  # rows are no samples there
        rows = torch.randperm(n, generator=draw)
        x, y = x[rows], y[rows]
    parameters = list(model.parameters())
    optimizer = build_optimizer(settings, parameters)
    clip, lost, bad = settings.get("gradient.clip_norm"), set(hook.get("lose_state", ())), set(hook.get("bad_steps", ()))
    curves = {k: np.full(job.steps, np.nan) for k in ("loss", "grad_norm", "lr")}
    order, at, dead = torch.randperm(n, generator=draw), 0, 0
    for step in range(job.steps):
        if step in lost:
            optimizer = build_optimizer(settings, parameters)
        rate = settings["optimizer.lr"] * lr_factor(settings, step, job.steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        if "keep_gradients" not in hook:
            optimizer.zero_grad()
        bx, by = x, y
        if size < n:
            if at + size > n:
                order, at = torch.randperm(n, generator=draw), 0
            rows = order[at : at + size]
            at += size
            bx, by = x[rows], y[rows]
        if step in bad:
            bx = bx * hook.get("bad_factor", 30.0)
        loss = problem.loss(model, bx, by)
        loss.backward()
        value = loss.item()
        grads = [p.grad for p in parameters if p.grad is not None]
        if clip is not None:
            curves["grad_norm"][step] = float(nn.utils.clip_grad_norm_(parameters, clip))
        elif step % every == 0:
            curves["grad_norm"][step] = norm(grads)
        optimizer.step()
        curves["loss"][step], curves["lr"][step] = value, rate
        dead = 0 if math.isfinite(value) else dead + 1
        if dead > N_DEAD:
            break
    return Curves(**curves)
