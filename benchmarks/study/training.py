"""One training run with, or without, an injected fault: a Plan in, what a log would have seen out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from tasks import TASKS, Problem
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Plan:
    """What to train. `hook`: names of faults of the loop with their setting; see `train`."""

    task: str
    seed: int
    optimizer: str
    lr: float
    steps: int
    kw: dict[str, Any] = field(default_factory=dict)  # of the optimizer
    task_kw: dict[str, Any] = field(default_factory=dict)
    schedule: str = ""
    clip: float | None = None
    accumulate: int = 1
    hook: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return repr(self)


@dataclass
class Trace:
    """What was seen at each step; norms only where `every` asked for them (NaN elsewhere)."""

    loss: np.ndarray
    lr: np.ndarray
    grad_norm: np.ndarray
    weight_norm: np.ndarray
    extra: np.ndarray
    val: list[tuple[int, float, float]]  # step, loss, accuracy (NaN without classes)
    steps_per_epoch: int
    batch: int
    parameters: int
    extra_tag: str


def norm(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(v.item() ** 2 for v in torch._foreach_norm([t.float() for t in tensors]))) if tensors else 0.0


def build_optimizer(plan: Plan, parameters: list[Tensor]) -> torch.optim.Optimizer:
    return getattr(
        torch.optim, {"rmsprop": "RMSprop", "sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "adagrad": "Adagrad"}[plan.optimizer]
    )(parameters, lr=plan.lr, **plan.kw)


def lr_factor(plan: Plan, step: int, per_epoch: int) -> float:
    """The schedule's factor on the learning rate."""
    name, _, value = plan.schedule.partition(":")
    t = step / max(1, plan.steps)
    if name == "cosine":
        return 0.5 * (1 + math.cos(math.pi * t))
    if name == "epoch-cosine":
        return 0.5 * (1 + math.cos(math.pi * (step // per_epoch) / max(1, plan.steps // per_epoch)))
    if name == "restarts":
        return 0.5 * (1 + math.cos(math.pi * (t * float(value or 4) % 1.0)))
    if name == "linear":
        return 1 - t
    if name == "warmup-cosine":
        w = float(value or 0.1)
        return (step + 1) / (w * plan.steps) if t < w else 0.5 * (1 + math.cos(math.pi * (t - w) / (1 - w)))
    if name == "warmup":
        return min(1.0, (step + 1) / float(value or 100))
    if name == "step":
        return 0.1 ** int(t * 3)
    if name == "per-batch":  # meant per epoch, stepped per batch
        return float(value or 0.9) ** step
    if name == "per-epoch":
        return float(value or 0.9) ** (step // per_epoch)
    return 1.0


def spoil_data(problem: Problem, hook: dict[str, Any]) -> None:
    y = problem.y
    if "shuffle_labels" in hook:
        problem.y = y[torch.randperm(len(y))]
    if "label_noise" in hook and problem.classes:
        wrong = torch.rand(len(y)) < hook["label_noise"]
        problem.y = torch.where(wrong, torch.randint(problem.classes, y.shape), y)
    if "sorted" in hook:
        order = problem.y.argsort()
        problem.x, problem.y = problem.x[order], problem.y[order]
    if "scale_input" in hook:
        problem.x = problem.x * hook["scale_input"]
        problem.x_val = None if problem.x_val is None else problem.x_val * hook["scale_input"]


def evaluate(problem: Problem, loss: Any) -> tuple[float, float]:
    problem.model.eval()
    with torch.no_grad():
        value = loss(problem.model, problem.x_val, problem.y_val).item()
        accuracy = math.nan
        if problem.classes:
            accuracy = (problem.model(problem.x_val).argmax(1) == problem.y_val).float().mean().item()
    problem.model.train()
    return value, accuracy


def train(plan: Plan, every: int) -> Trace:
    """Train one run; norms are taken at each `every`-th step."""
    torch.manual_seed(plan.seed)
    hook = plan.hook
    problem = TASKS[plan.task](**plan.task_kw)
    spoil_data(problem, hook)
    model, loss_of = problem.model, problem.loss
    if "half" in hook:
        model.half()
        problem.x = problem.x.half()
        problem.x_val = None if problem.x_val is None else problem.x_val.half()
        if problem.y.is_floating_point():
            problem.y = problem.y.half()
            problem.y_val = None if problem.y_val is None else problem.y_val.half()
    if "softmax_twice" in hook:
        loss_of = lambda m, x, y: F.cross_entropy(F.softmax(m(x), 1), y)
    if "dead" in hook:
        for layer in list(model.modules()):
            if isinstance(layer, torch.nn.Linear) and layer.out_features > 10:
                torch.nn.init.constant_(layer.bias, -abs(hook["dead"]))
    if "scale_init" in hook:
        with torch.no_grad():
            for p in model.parameters():
                p.mul_(hook["scale_init"])
    parameters = list(model.parameters())
    trained = parameters
    if "frozen" in hook:  # the optimizer got parameters of another model, or only the last bias
        trained = parameters[-1:] if hook["frozen"] == "last" else [p.detach().clone().requires_grad_() for p in parameters]
    optimizer = build_optimizer(plan, trained)
    n, size = len(problem.x), problem.batch or len(problem.x)
    per_epoch = problem.steps_per_epoch
    head_start = hook.get("head_start", 0)  # steps trained before the log begins: a fine-tuning
    if head_start:
        first = torch.optim.Adam(parameters, lr=hook.get("head_start_lr", 1e-3))
        for _ in range(head_start):
            rows = torch.randint(n, (size,))
            first.zero_grad()
            loss_of(model, problem.x[rows], problem.y[rows]).backward()
            first.step()
    steps = plan.steps
    out = {k: np.full(steps, np.nan) for k in ("loss", "lr", "grad_norm", "weight_norm", "extra")}
    val: list[tuple[int, float, float]] = []
    val_every = per_epoch if problem.batch and per_epoch * 8 <= steps else max(1, steps // 12)
    order, at = torch.randperm(n), 0
    for step in range(steps):
        factor = lr_factor(plan, step, per_epoch)
        for group in optimizer.param_groups:
            group["lr"] = plan.lr * factor
        if hook.get("lose_state") == step:
            optimizer = build_optimizer(plan, trained)
        total = 0.0
        if "zero" not in hook:  # clears only what the optimizer holds, as in life
            (model if "own_zero" in hook else optimizer).zero_grad()
        for _ in range(plan.accumulate):
            if problem.batch is None:
                x, y = problem.x, problem.y
            else:
                if at + size > n:
                    order, at = (torch.arange(n) if "sorted" in hook else torch.randperm(n)), 0
                rows = order[at : at + size]
                if "sorted" in hook:
                    rows = torch.arange(at, at + size)
                at += size
                x, y = problem.x[rows], problem.y[rows]
            if problem.extra is not None and problem.extra_tag == "d_loss":
                out["extra"][step] = problem.extra(x)
            if "bad_batch" in hook and step % per_epoch == 5 % per_epoch and step >= per_epoch:
                x = x * hook["bad_batch"]
            if hook.get("one_spike") == step:
                x = x * 30
            loss = loss_of(model, x, y)
            if "non_finite" in hook and step >= hook["at"]:
                loss = poison(hook["non_finite"], loss, model, x)
            (loss / plan.accumulate).backward()
            total += loss.item() / plan.accumulate
        if problem.extra is not None and problem.extra_tag != "d_loss":
            out["extra"][step] = problem.extra(x)
        look = step % every == 0 or step == steps - 1
        grads = [p.grad for p in parameters if p.grad is not None]
        if hook.get("zero") == "misplaced-logged-before" and look:
            out["grad_norm"][step] = norm(grads)
        if "zero" in hook and hook["zero"].startswith("misplaced"):
            optimizer.zero_grad()
            grads = []
        if plan.clip is not None:
            out["grad_norm"][step] = float(torch.nn.utils.clip_grad_norm_(parameters, plan.clip))
        elif look and math.isnan(out["grad_norm"][step]):
            out["grad_norm"][step] = norm(grads)
        optimizer.step()
        if "bf16" in hook:
            with torch.no_grad():
                for p in parameters:
                    p.copy_(p.bfloat16())
        if look:
            out["weight_norm"][step] = norm([p.detach() for p in parameters])
        out["loss"][step], out["lr"][step] = total, plan.lr * factor
        if problem.x_val is not None and (step + 1) % val_every == 0:
            val.append((step, *evaluate(problem, loss_of)))
        if step > 20 and "run_on" not in hook and not np.isfinite(out["loss"][max(0, step - 60) : step + 1]).any():
            out = {k: v[: step + 1] for k, v in out.items()}  # nobody lets it run on for ever
            break
    return Trace(
        **out,
        val=val,
        steps_per_epoch=per_epoch,
        batch=size,
        parameters=sum(p.numel() for p in parameters),
        extra_tag=problem.extra_tag,
    )


def poison(kind: str, loss: Tensor, model: torch.nn.Module, x: Tensor) -> Tensor:
    """The loss with a singular term, as faulty loss code meets it when a sample hits the edge of its domain."""
    if kind == "log0":
        p = torch.sigmoid(model(x)).clamp(max=0.5) * 0.0
        return loss - 0.01 * torch.log(p).mean()
    if kind == "0/0":
        z = model(x) * 0.0
        return loss + (z / z.norm(dim=-1, keepdim=True)).mean()
    if kind == "overflow":
        return loss + 1e-3 * torch.exp(100 + model(x).abs()).mean()
    z = (model(x) - model(x).detach()).float()  # "sqrt0": finite loss, gradient 0/0
    return loss + torch.sqrt((z**2).sum())
