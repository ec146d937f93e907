"""Faults of loss, model and initialisation, and of generalisation, with the sound runs that look like them."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from hooks import Hook, State, hook
from tasks import TASKS
from torch import nn
from torch.nn import functional as F

from faults.declare import Fault, Sound, hooked, with_hook

if TYPE_CHECKING:
    from random import Random

    from recipes import Recipe
    from torch import Tensor
    from training import Plan

FAMILY = "objective"
WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)


# -- the loss ---------------------------------------------------------------------------------------------------------


@hook("softmax_twice")
class SoftmaxTwice(Hook):
    """Cross-entropy of probabilities instead of scores."""

    def prepare(self, s: State) -> None:
        s.loss_of = lambda m, x, y: F.cross_entropy(F.softmax(m(x), 1), y)


@hook("reduction")
class Reduction(Hook):
    """The loss summed over rows or values where its mean is meant, or its mean divided by the rows once more ("twice")."""

    def prepare(self, s: State) -> None:
        mean, batch = s.loss_of, s.problem.batch or len(s.problem.x)
        by_batch = random.Random(self.plan.seed).random() < 0.6  # validation is mostly the mean over batches of its own

        def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            n = (y.numel() if self.value == "sum" else len(y)) * (batch / len(y) if by_batch and len(y) != batch else 1.0)
            return mean(model, x, y) / n if self.value == "twice" else mean(model, x, y) * n

        s.loss_of = loss


@hook("sign")
class Sign(Hook):
    """The loss with the wrong sign: in the log too ("logged"), or only in what is differentiated ("ascent")."""

    def prepare(self, s: State) -> None:
        if self.value == "logged":
            right = s.loss_of
            s.loss_of = lambda m, x, y: -right(m, x, y)

    def scaled(self, s: State) -> None:
        if self.value == "ascent":
            s.loss = -s.loss


@hook("density")
class Density(Hook):
    """Negative log-likelihood of a normal density, its variance learned: rightly below zero once the fit is good."""

    def prepare(self, s: State) -> None:
        s.model.register_parameter("log_var", nn.Parameter(torch.zeros(())))

        def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            return 0.5 * (((model(x) - y) ** 2) / model.log_var.exp() + model.log_var).mean()  # type: ignore[operator,union-attr]

        s.loss_of = loss


@hook("broadcast")
class Broadcast(Hook):
    """Prediction of shape (n, 1) against targets of shape (n,): each is compared with all of them."""

    def prepare(self, s: State) -> None:
        s.loss_of = lambda m, x, y: ((m(x) - y.squeeze(-1)) ** 2).mean()


#: How people call the terms of a loss.
NAMES = (
    ("loss/position", "loss/size", "loss/angle", "loss/score"),
    ("loss_heatmap", "loss_offset", "loss_size", "loss_depth"),
    ("train/depth_loss", "train/seg_loss", "train/normal_loss", "train/edge_loss"),
    ("losses/box", "losses/cls", "losses/obj", "losses/dfl"),
)


@hook("terms")
class Terms(Hook):
    """A loss of several terms, one for each part of the outputs; the first one's weight is `value`. All are logged."""

    def prepare(self, s: State) -> None:
        names = random.Random(self.plan.seed).choice(NAMES)

        def loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
            square = ((model(x) - y) ** 2).reshape(len(y), -1)
            parts = [part.mean() * (self.value if k == 0 else 1.0) for k, part in enumerate(square.tensor_split(len(names), 1))]
            if torch.is_grad_enabled():
                for name, part in zip(names, parts, strict=True):
                    s.note(name, part.item())
            return torch.stack(parts).sum()

        s.loss_of = loss


# -- model and initialisation -----------------------------------------------------------------------------------------


@hook("dead")
class Dead(Hook):
    """Biases of hidden layers so far below zero that no unit is ever active."""

    def prepare(self, s: State) -> None:
        kill(s.model, abs(self.value))


@hook("dies")
class Dies(Hook):
    """One wild step, at step `value`, after which no hidden unit is active any more."""

    def begin(self, s: State) -> None:
        if s.step == self.value:
            kill(s.model, 60.0)


def kill(model: nn.Module, by: float) -> None:
    """Set the biases of all layers before an activation to `-by`."""
    weighted = [layer for layer in model.modules() if isinstance(layer, WEIGHTED) and layer.bias is not None]
    for layer in weighted[:-1]:
        nn.init.constant_(layer.bias, -by)


@hook("scale_init")
class ScaledInit(Hook):
    """All initial weights times a factor."""

    def prepare(self, s: State) -> None:
        with torch.no_grad():
            for p in s.model.parameters():
                p.mul_(self.value)


@hook("zero_head")
class ZeroHead(Hook):
    """The last layer begins at zero, as is good practice for a head: the loss begins exactly at the prior."""

    def prepare(self, s: State) -> None:
        last = [layer for layer in s.model.modules() if isinstance(layer, nn.Linear)][-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)


@hook("ignored")
class Ignored(Hook):
    """Inputs that say nothing of the row: all zero, the same for all rows, or noise drawn afresh."""

    def batch(self, s: State) -> None:
        s.x = self.spoilt(s.x)

    def prepare(self, s: State) -> None:
        p = s.problem
        if p.x_val is not None:
            p.x_val = self.spoilt(p.x_val)

    def spoilt(self, x: Tensor) -> Tensor:
        if self.value == "zero":
            return torch.zeros_like(x)
        if self.value == "constant":
            return x[:1].expand_as(x)
        return torch.randn_like(x) if x.is_floating_point() else torch.randint_like(x, int(x.max()) + 1)


#: How people call the largest attention logit, and the logarithm of the softmax's sum.
LOGIT_TAGS = {
    "attention": ("max_attn_logit", "max_attention_logit", "qk_logit_max"),
    "output": ("log_z", "logits_logsumexp", "log_partition"),
}


@hook("logits_drift")
class LogitsDrift(Hook):
    """Weights that make the attention logits ("attention") or the output logits grow a little each step."""

    def prepare(self, s: State) -> None:
        self.kind, self.pace = self.value
        draw = random.Random(self.plan.seed)
        self.tag = draw.choice(LOGIT_TAGS[self.kind]) if draw.random() < 0.7 else ""
        self.top = 0.0
        if self.kind == "attention":
            self.weights = [layer["qkv"].weight for layer in s.model.layers]  # type: ignore[union-attr,index]
            for layer in s.model.layers:  # type: ignore[union-attr]
                layer["qkv"].register_forward_hook(self.watch_attention)  # type: ignore[index]
        else:
            last = [layer for layer in s.model.modules() if isinstance(layer, nn.Linear)][-1]
            self.weights = [last.weight]
            last.register_forward_hook(self.watch_output)

    def watch_attention(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        q, k, _ = output.detach().view(*output.shape[:2], 2, -1).transpose(1, 2).chunk(3, -1)
        self.top = (q @ k.transpose(-1, -2)).abs().max().item() / q.shape[-1] ** 0.5

    def watch_output(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        self.top = output.detach().logsumexp(-1).mean().item()

    def stepped(self, s: State) -> None:
        if self.tag:
            s.note(self.tag, self.top)
        with torch.no_grad():
            for weight in self.weights:
                part = weight.view(2, 3, -1, weight.shape[1])[:, :2] if self.kind == "attention" else weight
                part.mul_(1.0 + self.pace)


# -- generalisation and modes -----------------------------------------------------------------------------------------


@hook("rows")
class FewRows(Hook):
    """Only the first rows of the training part."""

    def prepare(self, s: State) -> None:
        s.problem.x, s.problem.y = s.problem.x[: self.value], s.problem.y[: self.value]


@hook("val_rows")
class FewValidationRows(Hook):
    """Only the first rows of the validation part: its loss is uncertain, and the same rows are seen each time."""

    def prepare(self, s: State) -> None:
        p = s.problem
        if p.x_val is not None and p.y_val is not None:
            p.x_val, p.y_val = p.x_val[: self.value], p.y_val[: self.value]


@hook("no_eval")
class NoEvaluationMode(Hook):
    """Validation in training mode: with dropout, and with the statistics of the batch."""

    def evaluates(self, s: State) -> bool:
        return False


# -- which runs have them ---------------------------------------------------------------------------------------------


def _overfit(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    noise = {"label_noise": 0.3} if "classes" in recipe.traits else {}
    return hooked(plan, rows=draw.choice((80, 128, 160)), **noise), plan


def _reduction(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, reduction=draw.choice(("sum", "sum", "rows", "twice")))


def _terms(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    plan = replace(plan, clip=1.0) if plan.optimizer == "sgd" else plan
    return hooked(plan, terms=draw.choice((1e3, 1e4, 3e4))), hooked(plan, terms=1.0)


def _ignored(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, ignored=draw.choice(("constant", "noise")))


def _dies(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, dies=int(draw.uniform(0.2, 0.6) * plan.steps))


def _drift(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    kind = draw.choice(("attention", "output")) if recipe.task == "char-lm" else "output"
    rate = draw.uniform(5.0, 7.5) / plan.steps
    return hooked(plan, logits_drift=(kind, rate)), plan


def _wide_init(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, scale_init=draw.choice((8.0, 12.0, 20.0)))


def _narrow_init(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, scale_init=draw.choice((0.01, 0.03, 0.1)))


def _no_eval(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    twin = hooked(replace(plan, schedule=draw.choice(("step", "step", "cosine", ""))), dropout=draw.choice((0.3, 0.5)))
    return hooked(twin, no_eval=1), twin


def _smoothed(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, smoothed=draw.choice((0.2, 0.3, 0.4)))


def _with_dropout(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(replace(plan, schedule=draw.choice(("", "cosine", "step"))), dropout=draw.choice((0.2, 0.4, 0.5)))


def _summed_and_sized(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    """A sum over the batch, with the rate that suits it where the optimizer follows the gradient's scale."""
    batch = TASKS[plan.task](**plan.task_kw).batch or 1
    return hooked(plan if plan.optimizer != "sgd" else replace(plan, lr=plan.lr / batch), reduction="rows")


def _few_to_validate(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, val_rows=draw.choice((12, 20, 30)))


def _unequal_terms(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, terms=draw.choice((0.1, 5.0, 20.0)))


def _slow_growth(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(plan, logits_drift=("output", 0.2 / plan.steps))


# ruff: noqa: E501 -- a line a fault
# fmt: off
FAULTS: tuple[Fault, ...] = (
    Fault("softmax-twice", FAMILY, ("TD601",), with_hook(softmax_twice=1), ("classes", "val", "!imbalanced"), runs=16, held_back=8),
    Fault("reduction-wrong", FAMILY, ("TD610",), _reduction, ("!game", "!exact"), ("sgd",), runs=16, held_back=8),
    Fault("sign-wrong", FAMILY, ("TD611",), with_hook(sign="logged"), ("!game", "!classes-of-pairs"), measure="size", runs=10),
    Fault("sign-wrong-unlogged", FAMILY, ("TD611",), with_hook(sign="ascent"), ("!game", "!classes-of-pairs"), ("adam", "adamw", "rmsprop", "adagrad"), runs=10),
    Fault("dead-relu", FAMILY, ("TD612",), with_hook(dead=12.0), ("relu", "val", "!layer-norm", "!batch-norm", "!imbalanced"), runs=12),
    Fault("relu-dies", FAMILY, ("TD612",), _dies, ("relu", "val", "!layer-norm", "!batch-norm", "!imbalanced"), runs=10, onset=lambda plan: int(plan.hook["dies"])),
    Fault("logits-drift", FAMILY, ("TD613",), _drift, ("classes", "attention"), least=1.25, runs=14),
    Fault("init-too-wide", FAMILY, ("TD614",), _wide_init, ("relu|recurrent", "!layer-norm", "!batch-norm", "!classes-of-pairs"), least=1.5, runs=14),
    Fault("init-too-narrow", FAMILY, ("TD614",), _narrow_init, ("relu|recurrent", "batches", "!layer-norm", "!batch-norm", "!classes-of-pairs", "!imbalanced"), measure="mean", least=1.5, runs=12),
    Fault("one-term-dominates", FAMILY, ("TD615",), _terms, ("regression", "!exact", "terms|images"), measure="term", runs=14),
    Fault("broadcast-target", FAMILY, ("TD616",), with_hook(broadcast=1), ("regression", "!terms", "!images", "!recurrent", "!exact"), runs=12),
    Fault("inputs-ignored", FAMILY, ("TD617",), _ignored, ("classes", "batches", "val", "!tokens", "!imbalanced"), runs=10, held_back=8),
    Fault("inputs-ignored-regression", FAMILY, ("TD617", "TD616"), _ignored, ("regression", "batches", "val", "!images"), runs=6, held_back=4),
    Fault("inputs-zero", FAMILY, ("TD617", "TD612"), with_hook(ignored="zero"), ("classes", "batches", "val", "!tokens", "!recurrent", "!imbalanced"), runs=8, held_back=5),
    Fault("overfitting", FAMILY, ("TD704",), _overfit, ("batches", "val", "!tokens", "!recurrent"), measure="risen", least=1.15, runs=16, held_back=8, habit={"val": True}),
    Fault("no-evaluation-mode", FAMILY, ("TD701",), _no_eval, ("relu", "val", "!batch-norm"), measure="val-last", least=1.2, runs=16, held_back=8, habit={"val": True}),
)
SOUND: tuple[Sound, ...] = (
    Sound("strong-smoothing", FAMILY, _smoothed, ("classes", "!imbalanced"), runs=8),
    Sound("density", FAMILY, with_hook(density=1), ("regression", "!exact"), runs=6, flat=True),
    Sound("zero-head", FAMILY, with_hook(zero_head=1), ("classes", "!recurrent"), runs=5, compare=True),
    Sound("dropout-decayed", FAMILY, _with_dropout, ("relu|attention", "val"), runs=8, habit={"val": True}),
    Sound("summed", FAMILY, _summed_and_sized, ("images|recurrent|regression", "batches", "!terms", "!deep", "relu|recurrent"), runs=6),
    Sound("few-to-validate", FAMILY, _few_to_validate, ("val",), runs=8, habit={"val": True}),
    Sound("unequal-terms", FAMILY, _unequal_terms, ("regression", "!exact", "terms|images"), runs=5),
    Sound("logits-grow", FAMILY, _slow_growth, ("classes", "batches"), runs=5, compare=True),
    Sound("mild-init", FAMILY, lambda plan, recipe, draw: hooked(plan, scale_init=draw.choice((0.5, 1.5, 2.0))), ("!game", "!exact"), runs=6, compare=True),
)
