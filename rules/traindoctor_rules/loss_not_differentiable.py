"""A decision stands between the model and the loss: no gradient passes through it.

## What it looks like
`backward()` stops with "element 0 of tensors does not require grad", or, where other terms are added to the loss or
`requires_grad` was set by hand, training runs and this loss never falls.

## Why it happens
argmax, a threshold, rounding, a cast to integers: what they return is constant almost everywhere. Their gradient is zero, or
is not there at all, so nothing that the loss says of the decision reaches the weights.

## When it is wrong
In metrics, in the target of a loss (pseudo-labels, one-hot to class), and in straight-through estimators, which add the
difference back (`hard - soft.detach() + soft`), decisions are right, and are not reported.

## What repairs it
Give the loss what the decision was made from: logits to a cross entropy, probabilities to a soft measure such as Dice.

## References
PyTorch documentation, torch.argmax and torch.Tensor.round; "Autograd mechanics", gradients for non-differentiable functions.
Bengio, Leonard and Courville 2013, Estimating or propagating gradients through stochastic neurons, arXiv:1308.3432.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.code.losses import in_script, written
from traindoctor.code.tensors import DECISIONS
from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script

CAUSE = Cause(
    code="TD603",
    name="loss-not-differentiable",
    summary="a decision (argmax, threshold, round) stands between the model and the loss: no gradient passes",
    explanation=__doc__,
)
_HOW = {*DECISIONS, "comparison", "floor division", "int", "bool"}


@CAUSE.in_script("torch", "backward|training_step|compute_loss")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the decisions that cut what is differentiated from every weight."""
    for cut in script.losses.cut:
        if cut.how not in _HOW:
            continue
        node = in_script(script, cut.at, cut.loss)
        if node is None:
            continue
        yield Mistake(
            script.place(node),
            f"`{written(cut.at.script, cut.at.node)}` stands between the model and the loss. No gradient passes through it: "
            + ("backward() has nothing to differentiate." if cut.whole else "this term of the loss teaches the model nothing."),
            "Give the loss what the decision is made from: logits or probabilities.",
            "warning" if cut.guess else "error",
            related=((script.place(cut.backward), "differentiated here"),),
        )


_HEAD = """\
import torch
import torch.nn.functional as F
from torch import nn

"""
CAUSE.valid_code = (
    Sample(
        "method of the author's own that returns an accuracy first",
        _HEAD
        + """\
class Tuner:
    def compute_loss(self, x, y, criterion):
        out = self.model(x)
        _, predicted = out.max(dim=1)
        accuracy = float(predicted.eq(y).sum().item()) / len(y)
        return accuracy, criterion(out, y)
    def train(self, loader, optimizer, criterion):
        for x, y in loader:
            accuracy, loss = self.compute_loss(x, y, criterion)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
""",
    ),
    Sample(
        "argmax in a metric",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
        accuracy = (out.argmax(1) == y).float().mean()
        error = F.mse_loss(out.argmax(1).float(), y.float())
""",
    ),
    Sample(
        "one-hot labels",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y.argmax(dim=1))
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "pseudo-labels",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for weak, strong in loader:
        pseudo = model(weak).softmax(1).max(1)[1]
        loss = F.cross_entropy(model(strong), pseudo)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "confidence mask",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        mask = (out.softmax(1).max(1)[0] > 0.9).float()
        loss = (F.cross_entropy(out, y, reduction='none') * mask).mean()
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "straight-through",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        hard = out.round()
        out = hard.detach() - out.detach() + out
        loss = F.mse_loss(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "arguments exchanged",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.mse_loss(y.argmax(1).float(), out)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "values that are gathered at an action",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        a = out.argmax(1)
        q = out.gather(1, a.unsqueeze(1))
        loss = F.smooth_l1_loss(q, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "maximum, not its place",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        q, _ = out.max(dim=1)
        loss = F.mse_loss(q, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "where",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        e = out - y
        loss = torch.where(e.abs() > 1, e.abs(), e ** 2).mean()
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "attack",
        _HEAD
        + """\
def attack(model, x, y):
    x.requires_grad = True
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return x + 0.1 * x.grad.sign()
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "argmax",
        _HEAD
        + """\
criterion = nn.CrossEntropyLoss()
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = criterion(out.argmax(1).float(), y)  # <-
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "second result of max",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        _, predicted = torch.max(out, 1)  # <-
        loss = F.mse_loss(predicted.float(), y.float())
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "threshold",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        p = (torch.sigmoid(out) > 0.5).float()  # <-
        loss = F.binary_cross_entropy(p, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "round, GradScaler",
        _HEAD
        + """\
def train(model, loader, optimizer, scaler):
    for x, y in loader:
        with torch.autocast('cuda'):
            out = torch.round(model(x))  # <-
            loss = F.mse_loss(out, y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
""",
    ),
    Sample(
        "one term of two",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y) + 0.1 * F.mse_loss(out.argmax(1).float(), y.float())  # <-
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "loss written by hand",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        wrong = (out.argmax(1) != y).float()  # <-
        loss = wrong.mean()
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "helper, accelerate",
        _HEAD
        + """\
from accelerate import Accelerator
accelerator = Accelerator()
def loss_of(model, x, y):
    p = model(x).sigmoid().round()  # <-
    return F.binary_cross_entropy(p, y)
def train(model, loader, optimizer):
    for x, y in loader:
        loss = loss_of(model, x, y)
        accelerator.backward(loss)
        optimizer.step()
""",
    ),
    Sample(
        "Lightning",
        _HEAD
        + """\
import lightning as L
class M(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.model = nn.Linear(2, 2)
    def training_step(self, batch, i):
        x, y = batch
        loss = F.mse_loss(self.model(x).argmax(1).float(), y)  # <-
        return loss
""",
    ),
)
