"""One training run with, or without, an injected fault: a Plan in, what a log would have seen out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from hooks import HOOKS, State
from tasks import TASKS
from torch import Tensor

if TYPE_CHECKING:
    from problem import Problem


@dataclass(frozen=True)
class Plan:
    """What to train. `hook`: names of hooks with their setting, see `hooks.py` and `faults/`."""

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
    """What was seen at each step; norms only where `every` asked for them (NaN elsewhere).

    `extra`: further series by name. `layers`: parameter -> gradient norm, weight norm, norm of the update. `zeros`: name of a
    ReLU -> share of its outputs that are 0. `wall`: seconds that each step took.
    """

    loss: np.ndarray
    lr: np.ndarray
    grad_norm: np.ndarray
    weight_norm: np.ndarray
    wall: np.ndarray
    extra: dict[str, np.ndarray]
    layers: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    zeros: dict[str, np.ndarray]
    val: list[tuple[int, float, float]]  # step, loss, accuracy (NaN without classes)
    steps_per_epoch: int
    batch: int
    parameters: int


def norm(tensors: list[Tensor]) -> float:
    return math.sqrt(sum(v.item() ** 2 for v in torch._foreach_norm([t.float() for t in tensors]))) if tensors else 0.0


def build_optimizer(plan: Plan, parameters: list[Any]) -> torch.optim.Optimizer:
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


def evaluate(s: State, quiet: bool) -> tuple[float, float]:
    """Validation loss and accuracy (NaN without classes); `quiet`: in evaluation mode."""
    problem, model = s.problem, s.model
    if quiet:
        model.eval()
    with torch.no_grad():
        value = s.loss_of(model, problem.x_val, problem.y_val).item()
        accuracy = math.nan
        if problem.classes:
            accuracy = (model(problem.x_val).argmax(1) == problem.y_val).float().mean().item()
    model.train()
    return value, accuracy


class Observer:
    """Takes per-layer figures while a run trains."""

    def __init__(self, s: State, wanted: bool) -> None:
        self.named = dict(s.model.named_parameters()) if wanted else {}
        self.layers = {name: tuple(np.full(s.plan.steps, np.nan) for _ in range(3)) for name in self.named}
        self.zeros: dict[str, np.ndarray] = {}
        self.before: dict[str, Tensor] = {}
        for name, module in s.model.named_modules() if wanted else ():
            if isinstance(module, torch.nn.ReLU):
                share = self.zeros.setdefault(name, np.full(s.plan.steps, np.nan))
                module.register_forward_hook(self._counter(s, share))

    @staticmethod
    def _counter(s: State, share: np.ndarray) -> Any:
        def count(module: torch.nn.Module, inputs: Any, output: Tensor) -> None:
            if s.look and torch.is_grad_enabled():
                share[s.step] = (output == 0).float().mean().item()

        return count

    def before_step(self, s: State) -> None:
        for name, p in self.named.items():
            self.layers[name][0][s.step] = 0.0 if p.grad is None else p.grad.float().norm().item()
            self.before[name] = p.detach().clone()

    def after_step(self, s: State) -> None:
        for name, p in self.named.items():
            self.layers[name][1][s.step] = p.detach().float().norm().item()
            self.layers[name][2][s.step] = (p.detach() - self.before[name]).float().norm().item()


def train(plan: Plan, every: int, layers: bool = False) -> Trace:
    """Train one run; norms are taken at each `every`-th step, those of every layer too where `layers` asks for them."""
    import faults  # noqa: F401  # fills HOOKS

    torch.manual_seed(plan.seed)
    problem: Problem = TASKS[plan.task](**plan.task_kw)
    hooks = [HOOKS[name](value, plan) for name, value in plan.hook.items()]
    s = State(plan, problem, problem.model, problem.loss, problem.steps_per_epoch)
    s.out = {k: np.full(plan.steps, np.nan) for k in ("loss", "lr", "grad_norm", "weight_norm")}
    s.out["wall"] = np.full(plan.steps, 0.01)
    for h in hooks:
        h.prepare(s)
    s.parameters = s.trained = list(s.model.parameters())
    for h in hooks:
        h.build(s)
    s.optimizer = build_optimizer(plan, s.trained)
    for h in hooks:
        h.built(s)
    observer = Observer(s, layers)
    n, size = len(problem.x), problem.batch or len(problem.x)
    val: list[tuple[int, float, float]] = []
    val_every = s.per_epoch if problem.batch and s.per_epoch * 8 <= plan.steps else max(1, plan.steps // 12)

    def new_order() -> Tensor:
        rows = torch.randperm(n)
        for h in hooks:
            rows = h.order(s, rows)
        return rows

    order, at = new_order(), 0
    for step in range(plan.steps):
        s.step, s.look = step, step % every == 0 or step == plan.steps - 1
        for h in hooks:
            h.begin(s)
        s.lr = plan.lr * lr_factor(plan, step, s.per_epoch)
        for h in hooks:
            h.rate(s)
        for group in s.optimizer.param_groups:
            group["lr"] = s.lr * group.get("share", 1.0)
        clears = [h.clears(s) for h in hooks]  # each is asked: some clear by themselves
        if all(clears):
            s.optimizer.zero_grad()
        total = 0.0
        for s.micro in range(plan.accumulate):
            if problem.batch is None:
                s.x, s.y = problem.x, problem.y
            else:
                if at + size > len(order):
                    order, at = new_order(), 0
                rows = order[at : at + size]
                at += size
                s.x, s.y = problem.x[rows], problem.y[rows]
            for h in hooks:
                h.batch(s)
            if problem.extra is not None and problem.extra_tag == "d_loss":
                s.note("d_loss", problem.extra(s.x))
            s.loss = s.loss_of(s.model, s.x, s.y)
            for h in hooks:
                h.objective(s)
            total += s.loss.item() / plan.accumulate
            s.loss = s.loss / plan.accumulate
            for h in hooks:
                h.scaled(s)
            s.loss.backward()
        if problem.extra is not None and problem.extra_tag != "d_loss":
            s.note(problem.extra_tag, problem.extra(s.x))
        for h in hooks:
            h.backward(s)
        grads = [p.grad for p in s.parameters if p.grad is not None]
        if plan.clip is not None:
            s.out["grad_norm"][step] = float(torch.nn.utils.clip_grad_norm_(s.parameters, plan.clip))
        elif s.look and math.isnan(s.out["grad_norm"][step]):
            s.out["grad_norm"][step] = norm(grads)
        for h in hooks:
            h.clipped(s)
        if s.look:
            observer.before_step(s)
        steps = [h.steps(s) for h in hooks]
        if all(steps):
            s.optimizer.step()
        for h in hooks:
            h.stepped(s)
        if s.look:
            observer.after_step(s)
            s.out["weight_norm"][step] = norm([p.detach() for p in s.parameters])
        s.out["loss"][step], s.out["lr"][step] = total, s.lr
        if problem.x_val is not None and (step + 1) % val_every == 0:
            val.append((step, *evaluate(s, all(h.evaluates(s) for h in hooks))))
        if step > 20 and "run_on" not in plan.hook and not np.isfinite(s.out["loss"][max(0, step - 60) : step + 1]).any():
            break  # nobody lets it run on for ever
    for h in hooks:
        h.finish(s)
    seen = s.step + 1
    cut = {k: v[:seen] for k, v in s.out.items()}
    return Trace(
        **{k: cut.pop(k) for k in ("loss", "lr", "grad_norm", "weight_norm", "wall")},
        extra=cut,
        layers={k: (a[:seen], b[:seen], c[:seen]) for k, (a, b, c) in observer.layers.items()},
        zeros={k: v[:seen] for k, v in observer.zeros.items()},
        val=val,
        steps_per_epoch=s.per_epoch,
        batch=size,
        parameters=sum(p.numel() for p in s.parameters),
    )
