"""The optimizer steps in a loop that never computes a gradient.

## What it looks like
The weights do not move: the loss changes by the noise of the batches alone. Adam and SGD skip parameters whose gradient is
None.

## Why it happens
`loss.backward()` is missing, commented out, or named without being called (`loss.backward`).

## When it is wrong
Gradients that are set by hand (`p.grad = ...`, `torch.autograd.grad`), or computed in a function that could not be followed;
where one is called in the loop, nothing is said.

## What repairs it
`loss.backward()` between `zero_grad()` and `step()`.

## References
PyTorch documentation, torch.optim, "Taking an optimization step"; torch.Tensor.backward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.code.lacking import steps_without_backward
from traindoctor.code.order import place, text_of_call
from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script
    from traindoctor.rule import Limits

CAUSE = Cause(
    code="TD304",
    name="step-without-backward",
    summary="the optimizer steps, and no gradient is ever computed",
    explanation=__doc__,
)


@CAUSE.in_script("grad|optim", ".step(|optimizer_step(")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the steps of loops that compute a loss and never differentiate it."""
    for lack in steps_without_backward(script):
        yield Mistake(
            place(script, lack.event),
            f"`{text_of_call(lack.event)}` steps, but no backward() in the loop computes a gradient. The weights do not move.",
            "Call backward() on the loss between zero_grad() and step()",
            related=((place(script, lack.zero), "gradients are cleared"),),
        )


_HEAD = """import torch
model = torch.nn.Linear(1, 1)
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
CAUSE.valid_code = (
    Sample(
        "a second pass by a function that is not known",
        """\
import torch
opt_e = torch.optim.Adam(E.parameters())
opt_d = torch.optim.Adam(D.parameters())
for x in loader:
    opt_d.zero_grad()
    loss = D(E(x)).mean()
    loss.backward()
    opt_d.step()
    opt_e.zero_grad()
    extra_backward(E, x)
    opt_e.step()
""",
    ),
    Sample(
        "with a pass",
        _HEAD + "for x in dl:\n    opt.zero_grad()\n    loss = model(x).mean()\n    loss.backward()\n    opt.step()\n",
    ),
    Sample(
        "gradients set by hand",
        _HEAD + "for x in dl:\n    opt.zero_grad()\n    loss = model(x).mean()\n"
        "    for p, g in zip(model.parameters(), torch.autograd.grad(loss, model.parameters())):\n"
        "        p.grad = g\n    opt.step()\n",
    ),
    Sample(
        "the pass in a function of the file",
        _HEAD
        + "def run(x):\n    loss = model(x).mean()\n    loss.backward()\n    return loss\nfor x in dl:\n    opt.zero_grad()\n"
        "    loss = run(x)\n    opt.step()\n",
    ),
    Sample(
        "the pass in a function of another file",
        _HEAD + "from engine import run\nfor x in dl:\n    opt.zero_grad()\n    loss = run(model, x)\n    opt.step()\n",
        others={"engine.py": "def run(m, x):\n    loss = m(x).mean()\n    loss.backward()\n    return loss\n"},
    ),
    Sample(
        "perhaps in a function that is not there",
        _HEAD
        + "from elsewhere import compute_gradients\nfor x in dl:\n    opt.zero_grad()\n    loss = compute_gradients(model, x)\n"
        "    opt.step()\n",
    ),
    Sample(
        "the loss is given away",
        _HEAD + "for x in dl:\n    opt.zero_grad()\n    loss = model(x).mean()\n    runner.process(loss)\n    opt.step()\n",
    ),
    Sample(
        "evolution strategy",
        _HEAD + "for step in range(9):\n    opt.zero_grad()\n    losses = [score(model, n) for n in noise]\n"
        "    model.weight.grad = mix(losses)\n"
        "    opt.step()\n",
    ),
    Sample("environment", "for t in range(9):\n    obs, reward, done = env.step(action)\n    loss = reward\n"),
    Sample(
        "the pass in the loop around",
        _HEAD + "for x in dl:\n    loss = model(x).mean()\n    loss.backward()\n    for opt in [opt]:\n        opt.step()\n"
        "        opt.zero_grad()\n",
    ),
    Sample(
        "xm", _HEAD + "for x in dl:\n    opt.zero_grad()\n    loss = model(x)\n    loss.backward()\n    xm.optimizer_step(opt)\n"
    ),
    Sample(
        "Lightning steps by itself",
        "import lightning as L\nclass M(L.LightningModule):\n    def training_step(self, batch, i):\n        loss = self(batch)\n"
        "        return loss\n",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "the second of two optimizers",
        """\
import torch
opt_d = torch.optim.Adam(D.parameters())
opt_g = torch.optim.Adam(G.parameters())
for x in loader:
    opt_d.zero_grad()
    d_loss = D(x).mean() - D(G(z).detach()).mean()
    d_loss.backward()
    opt_d.step()
    opt_g.zero_grad()
    g_loss = -D(G(z)).mean()
    opt_g.step()  # <-
""",
    ),
    Sample("missing", _HEAD + "for x in dl:\n    opt.zero_grad()\n    loss = model(x).mean()\n    opt.step()  # <-\n"),
    Sample(
        "named, not called",
        _HEAD + "for x in dl:\n    opt.zero_grad()\n    loss = model(x).mean()\n    loss.backward\n    opt.step()  # <-\n",
    ),
    Sample(
        "GradScaler",
        _HEAD + "scaler = torch.amp.GradScaler()\nfor x in dl:\n    opt.zero_grad()\n    with torch.autocast('cuda'):\n"
        "        loss = model(x)\n    scaler.step(opt)  # <-\n    scaler.update()\n    print(loss.item())\n",
    ),
    Sample(
        "function with parameters",
        "def train(model, loader, criterion, optimizer, epoch):\n    model.train()\n    for i, (x, y) in enumerate(loader):\n"
        "        output = model(x)\n        loss = criterion(output, y)\n        losses.update(loss.item(), x.size(0))\n"
        "        optimizer.zero_grad()\n        # loss.backward()\n        optimizer.step()  # <-\n",
    ),
    Sample(
        "method called in a loop",
        "import torch\nclass T:\n    def __init__(self, m):\n        self.m = m\n"
        "        self.opt = torch.optim.SGD(m.parameters(), lr=1)\n"
        "    def one(self, x):\n        self.opt.zero_grad()\n        loss = self.m(x).mean()\n"
        "        self.opt.step()  # <-\n        return loss\n"
        "    def fit(self, dl):\n        for x in dl:\n            loss = self.one(x)\n",
    ),
)
