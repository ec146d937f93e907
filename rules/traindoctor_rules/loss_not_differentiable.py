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
_LOOP = """\
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
"""
_STEP = """\
        loss.backward()
        optimizer.step()
"""
CAUSE.valid_code = (
    Sample(
        "argmax in a metric",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = F.cross_entropy(out, y)\n{_STEP}"
        "        accuracy = (out.argmax(1) == y).float().mean()\n        error = F.mse_loss(out.argmax(1).float(), y.float())\n",
    ),
    Sample(
        "one-hot labels",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = F.cross_entropy(out, y.argmax(dim=1))\n{_STEP}",
    ),
    Sample(
        "pseudo-labels",
        f"{_HEAD}def train(model, loader, optimizer):\n    for weak, strong in loader:\n        pseudo = model(weak).softmax(1).max(1)[1]\n"
        f"        loss = F.cross_entropy(model(strong), pseudo)\n{_STEP}",
    ),
    Sample(
        "confidence mask",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        mask = (out.softmax(1).max(1)[0] > 0.9).float()\n"
        f"        loss = (F.cross_entropy(out, y, reduction='none') * mask).mean()\n{_STEP}",
    ),
    Sample(
        "straight-through",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        hard = out.round()\n        out = hard.detach() - out.detach() + out\n"
        f"        loss = F.mse_loss(out, y)\n{_STEP}",
    ),
    Sample(
        "arguments exchanged",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = F.mse_loss(y.argmax(1).float(), out)\n{_STEP}",
    ),
    Sample(
        "values that are gathered at an action",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        a = out.argmax(1)\n        q = out.gather(1, a.unsqueeze(1))\n"
        f"        loss = F.smooth_l1_loss(q, y)\n{_STEP}",
    ),
    Sample(
        "maximum, not its place",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        q, _ = out.max(dim=1)\n        loss = F.mse_loss(q, y)\n{_STEP}",
    ),
    Sample(
        "where",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        e = out - y\n        loss = torch.where(e.abs() > 1, e.abs(), e ** 2).mean()\n{_STEP}",
    ),
    Sample(
        "attack",
        f"{_HEAD}def attack(model, x, y):\n    x.requires_grad = True\n    loss = F.cross_entropy(model(x), y)\n    loss.backward()\n    return x + 0.1 * x.grad.sign()\n",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "argmax",
        f"{_HEAD}criterion = nn.CrossEntropyLoss()\ndef train(model, loader, optimizer):\n{_LOOP}        loss = criterion(out.argmax(1).float(), y)  # <-\n{_STEP}",
    ),
    Sample(
        "second result of max",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        _, predicted = torch.max(out, 1)  # <-\n        loss = F.mse_loss(predicted.float(), y.float())\n{_STEP}",
    ),
    Sample(
        "threshold",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        p = (torch.sigmoid(out) > 0.5).float()  # <-\n        loss = F.binary_cross_entropy(p, y)\n{_STEP}",
    ),
    Sample(
        "round, GradScaler",
        f"{_HEAD}def train(model, loader, optimizer, scaler):\n    for x, y in loader:\n        with torch.autocast('cuda'):\n            out = torch.round(model(x))  # <-\n"
        "            loss = F.mse_loss(out, y)\n        scaler.scale(loss).backward()\n        scaler.step(optimizer)\n        scaler.update()\n",
    ),
    Sample(
        "one term of two",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = F.cross_entropy(out, y) + 0.1 * F.mse_loss(out.argmax(1).float(), y.float())  # <-\n{_STEP}",
    ),
    Sample(
        "loss written by hand",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        wrong = (out.argmax(1) != y).float()  # <-\n        loss = wrong.mean()\n{_STEP}",
    ),
    Sample(
        "helper, accelerate",
        f"{_HEAD}from accelerate import Accelerator\naccelerator = Accelerator()\ndef loss_of(model, x, y):\n    p = model(x).sigmoid().round()  # <-\n    return F.binary_cross_entropy(p, y)\n"
        "def train(model, loader, optimizer):\n    for x, y in loader:\n        loss = loss_of(model, x, y)\n        accelerator.backward(loss)\n        optimizer.step()\n",
    ),
    Sample(
        "Lightning",
        f"{_HEAD}import lightning as L\nclass M(L.LightningModule):\n    def __init__(self):\n        super().__init__()\n        self.model = nn.Linear(2, 2)\n"
        "    def training_step(self, batch, i):\n        x, y = batch\n        loss = F.mse_loss(self.model(x).argmax(1).float(), y)  # <-\n        return loss\n",
    ),
)
