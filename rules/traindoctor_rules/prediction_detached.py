"""The prediction is cut from its graph before the loss: no gradient reaches the model.

## What it looks like
`backward()` stops with "element 0 of tensors does not require grad", or, where another term or `requires_grad` set by hand
hides that, training runs and the loss does not fall.

## Why it happens
`detach()`, `.data`, `.numpy()`, `.tolist()`, `torch.tensor(output)` and a forward pass under `no_grad` keep the numbers and
leave the graph behind. What the loss is computed from then no longer knows the model.

## When it is wrong
What is detached on purpose is the other side of a loss, or the input of another model: `D(fake.detach())`, target networks,
the logits of a teacher, stop-gradient (BYOL, SimSiam), the returns and advantages of reinforcement learning, the state of a
recurrent network between two chunks. None of these is reported: only a loss that nothing with a gradient enters is.

## What repairs it
Remove the call that detaches; detach for logging alone.

## References
PyTorch documentation, torch.Tensor.detach: "Returns a new Tensor, detached from the current graph"; torch.no_grad.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.losses import in_script, written
from traindoctor.code.tensors import COPIES, DETACHING
from traindoctor.mistake import Edit, Mistake, Repair
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script

CAUSE = Cause(
    code="TD604",
    name="prediction-detached",
    summary="the prediction is cut from its graph before the loss: no gradient reaches the model",
    explanation=__doc__,
)
_HOW = {*DETACHING, *COPIES, "data", "no_grad", "float"}


@CAUSE.in_script("torch", "backward|training_step|compute_loss")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield what cuts the loss that is differentiated from every weight."""
    for cut in script.losses.cut:
        node = in_script(script, cut.at, cut.loss)
        if cut.how not in _HOW or node is None:
            continue
        what = "the forward pass under no_grad" if cut.how == "no_grad" else f"`{written(cut.at.script, cut.at.node)}`"
        yield Mistake(
            script.place_of(script.span(node)[0], script.span(node)[0] + 4) if isinstance(node, ast.With) else script.place(node),
            f"{what[0].upper()}{what[1:]} cuts the prediction from the model. No gradient reaches the weights: "
            + ("backward() has nothing to differentiate." if cut.whole else "this term of the loss teaches the model nothing."),
            "Compute the loss from the output of the model itself, and detach only what is logged.",
            "warning" if cut.guess else "error",
            _attached(script, node),
            ((script.place(cut.backward), "differentiated here"),),
        )


def _attached(script: Script, node: ast.AST) -> Repair | None:
    """Return the repair that takes `.detach()` or `.data` away, for these alone."""
    match node:
        case ast.Call(func=ast.Attribute(attr="detach", value=value), args=[]):
            pass
        case ast.Attribute(attr="data", value=value):
            pass
        case _:
            return None
    parent = script.parents.get(node)
    if isinstance(parent, ast.Attribute):  # .detach().cpu().numpy(): the rest would fail without it
        return None
    return Repair("Keep the graph of the prediction", (Edit(script.span(value)[1], script.span(node)[1], ""),))


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
        "discriminator on a detached fake",
        f"{_HEAD}netD, netG = make()\ncriterion = nn.BCELoss()\nfor x, _ in loader:\n    label = torch.full((4,), 1.0)\n    loss = criterion(netD(x), label)\n    loss.backward()\n"
        "    fake = netG(torch.randn(4, 8))\n    loss = criterion(netD(fake.detach()).view(-1), label)\n    loss.backward()\n    opt.step()\n",
    ),
    Sample(
        "target network",
        f"{_HEAD}def learn(policy_net, target_net, loader, optimizer):\n    for s, a, r, s2 in loader:\n        q = policy_net(s).gather(1, a)\n"
        "        with torch.no_grad():\n            best = target_net(s2).max(1)[0]\n        loss = F.smooth_l1_loss(q, r + 0.99 * best)\n        loss.backward()\n        optimizer.step()\n",
    ),
    Sample(
        "target network, arguments exchanged",
        f"{_HEAD}def learn(policy_net, target_net, loader, optimizer):\n    for s, a, r, s2 in loader:\n        q = policy_net(s).gather(1, a)\n"
        "        expected = (r + 0.99 * target_net(s2).max(1)[0]).detach()\n        loss = F.mse_loss(expected, q)\n        loss.backward()\n        optimizer.step()\n",
    ),
    Sample(
        "teacher",
        f"{_HEAD}def train(model, teacher, loader, optimizer):\n{_LOOP}        with torch.no_grad():\n            t = teacher(x)\n"
        f"        loss = F.kl_div(F.log_softmax(out, 1), F.softmax(t, 1)) + F.mse_loss(t.detach(), out)\n{_STEP}",
    ),
    Sample(
        "state of a recurrent network",
        f"{_HEAD}def train(model, loader, optimizer):\n    h = None\n    for x, y in loader:\n        out, h = model(x, h)\n        h = h.detach()\n        loss = F.cross_entropy(out, y)\n{_STEP}",
    ),
    Sample(
        "stop-gradient",
        f"{_HEAD}def D(p, z):\n    z = z.detach()\n    return -F.cosine_similarity(p, z, dim=-1).mean()\n"
        f"def train(model, loader, optimizer):\n    for a, b in loader:\n        p1, z1 = model(a)\n        p2, z2 = model(b)\n        loss = D(p1, z2) / 2 + D(p2, z1) / 2\n{_STEP}",
    ),
    Sample(
        "advantages and values",
        f"{_HEAD}def update(model, states, actions, returns, optimizer):\n    log_prob, values = model(states)\n    advantage = returns - values.detach()\n"
        "    policy_loss = -(log_prob * advantage).mean()\n    value_loss = F.mse_loss(values, returns.detach())\n    (policy_loss + 0.5 * value_loss).backward()\n    optimizer.step()\n",
    ),
    Sample(
        "frozen features, trained head",
        f"{_HEAD}def train(backbone, head, loader, optimizer):\n    for x, y in loader:\n        with torch.no_grad():\n            features = backbone(x)\n"
        f"        loss = F.cross_entropy(head(features), y)\n{_STEP}",
    ),
    Sample(
        "detached for logging",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = F.cross_entropy(out, y)\n{_STEP}        log(F.mse_loss(out.detach(), y), out.data, loss.detach())\n",
    ),
    Sample(
        "constant that scales a term",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        a = F.mse_loss(out, y)\n        b = F.l1_loss(out, y)\n        loss = a / a.detach() + b / b.detach() + a.detach()\n{_STEP}",
    ),
    Sample(
        "an image is optimised",
        f"{_HEAD}def dream(image, target, optimizer):\n    image = image.detach().clone().requires_grad_(True)\n    for i in range(9):\n        loss = F.mse_loss(image, target)\n        loss.backward()\n",
    ),
    Sample(
        "labels from numpy",
        f"{_HEAD}def train(model, loader, optimizer):\n    for x, y in loader:\n        y = torch.from_numpy(y.data.cpu().numpy())\n        out = model(x)\n        loss = F.cross_entropy(out, y)\n{_STEP}",
    ),
    Sample(
        "with and without gradients by branch",
        f"{_HEAD}def train(model, loader, optimizer, frozen):\n    for x, y in loader:\n        if frozen:\n            with torch.no_grad():\n                out = model(x)\n        else:\n            out = model(x)\n"
        f"        loss = F.cross_entropy(out, y)\n{_STEP}",
    ),
    Sample(
        "features of a perceptual loss",
        f"{_HEAD}def train(netG, vgg, loader, optimizer):\n    for x, y in loader:\n        fake = netG(x)\n        loss = F.l1_loss(vgg(fake), vgg(y).detach())\n{_STEP}",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "detach",
        f"{_HEAD}criterion = nn.CrossEntropyLoss()\ndef train(model, loader, optimizer):\n{_LOOP}        loss = criterion(out.detach(), y)  # <-\n{_STEP}",
        fixed=f"{_HEAD}criterion = nn.CrossEntropyLoss()\ndef train(model, loader, optimizer):\n{_LOOP}        loss = criterion(out, y)  # <-\n{_STEP}",
    ),
    Sample(
        "data",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        out = out.data  # <-\n        loss = F.mse_loss(out, y.to('cuda'))\n{_STEP}",
    ),
    Sample(
        "through numpy",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        out = torch.from_numpy(out.detach().cpu().numpy())  # <-\n        loss = F.cross_entropy(out, y)\n{_STEP}",
    ),
    Sample(
        "through a list",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = F.cross_entropy(torch.tensor(out.tolist()), y)  # <-\n{_STEP}",
    ),
    Sample(
        "forward pass under no_grad",
        f"{_HEAD}def train(model, loader, optimizer):\n    for x, y in loader:\n        with torch.no_grad():  # <-\n            out = model(x)\n        loss = F.cross_entropy(out, y)\n{_STEP}",
    ),
    Sample(
        "loss written by hand",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = ((out.detach() - y) ** 2).mean()  # <-\n{_STEP}",
    ),
    Sample(
        "criterion that is not known",
        f"{_HEAD}def train(model, criterion, loader, optimizer):\n{_LOOP}        loss = criterion(out.detach(), y)  # <-\n{_STEP}",
    ),
    Sample(
        "one term of two",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = F.cross_entropy(out, y)\n        loss += 0.1 * F.mse_loss(out.detach(), y)  # <-\n{_STEP}",
    ),
    Sample(
        "noise that is predicted",
        f"{_HEAD}def train(model, loader, optimizer, scaler):\n    for x, _ in loader:\n        noise = torch.randn_like(x)\n        predicted = model(x + noise)\n"
        "        loss = F.mse_loss(predicted.detach(), noise)  # <-\n        scaler.scale(loss).backward()\n        scaler.step(optimizer)\n",
    ),
)
