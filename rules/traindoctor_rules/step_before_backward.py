"""The optimizer steps before the backward pass: on gradients that were just cleared.

## What it looks like
The weights never move, or not until the end: the loss changes by the noise of the batches alone.

## Why it happens
`optimizer.zero_grad(); optimizer.step(); loss.backward()`: each step sees what `zero_grad` left, nothing. The gradients that
`backward` computes are cleared by the next iteration before anything uses them.

## When it is wrong
A step that uses the gradients of the iteration before on purpose (`if i > 0: optimizer.step()`, clearing after it) is left alone.

## What repairs it
The step behind the backward pass.

## References
PyTorch documentation, torch.optim, "Taking an optimization step"; torch.optim.Optimizer.zero_grad.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.code.order import step_moved, stepped_early, text_of_call, wrong_in
from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script
    from traindoctor.rule import Limits

CAUSE = Cause(
    code="TD303",
    name="step-before-backward",
    summary="the optimizer steps before the backward pass, on cleared gradients",
    explanation=__doc__,
)


@CAUSE.in_script("backward|grad|optim", "backward(|.step(|optimizer_step(")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the steps that stand before the backward pass they are for."""
    for wrong, where in wrong_in(script, stepped_early):
        yield Mistake(
            where,
            f"`{text_of_call(wrong.event)}` stands before `{text_of_call(wrong.other)}`. "
            "It sees gradients that were just cleared, and the weights do not move.",
            "Step behind the backward pass",
            repair=step_moved(script, wrong),
        )


_HEAD = """import torch
model = torch.nn.Linear(1, 1)
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
CAUSE.valid_code = (
    Sample("behind", _HEAD + "for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    opt.step()\n"),
    Sample(
        "pipelined: the gradients of the iteration before",
        _HEAD
        + "for i, x in enumerate(dl):\n    if i > 0:\n        opt.step()\n        opt.zero_grad()\n    model(x).backward()\n",
    ),
    Sample(
        "pipelined without a condition",
        _HEAD + "for x in dl:\n    opt.step()\n    opt.zero_grad()\n    model(x).backward()\n",
    ),
    Sample(
        "two losses and two optimizers",
        "import torch\na, b = Net(), Net()\nfirst = torch.optim.Adam(a.parameters())\nopt2 = torch.optim.Adam(b.parameters())\n"
        "for x in dl:\n    first.zero_grad()\n    opt2.zero_grad()\n    a(x).backward()\n    first.step()\n    b(x).backward()\n"
        "    opt2.step()\n",
    ),
    Sample(
        "gradients set by hand",
        _HEAD
        + "for x in dl:\n    opt.zero_grad()\n    for p in model.parameters():\n        p.grad = estimate(p)\n    opt.step()\n"
        "    model(x).backward()\n",
    ),
    Sample(
        "closure",
        _HEAD + "for x in dl:\n    def closure():\n        opt.zero_grad()\n        loss = model(x)\n        loss.backward()\n"
        "        return loss\n    opt.step(closure)\n",
    ),
    Sample(
        "the pass in a helper that is not there",
        _HEAD + "from elsewhere import run\nfor x in dl:\n    opt.zero_grad()\n    run(model, x, opt)\n    opt.step()\n"
        "    model(x).backward()\n",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "in one branch",
        """\
import torch
def train(model, loader, optimizer, scaler):
    for x in loader:
        loss = model(x).mean()
        optimizer.zero_grad()
        if scaler is None:
            optimizer.step()  # <-
            loss.backward()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
""",
    ),
    Sample(
        "between clearing and the pass",
        _HEAD + "for x in dl:\n    opt.zero_grad()\n    opt.step()  # <-\n    loss = model(x)\n    loss.backward()\n",
        fixed=_HEAD + "for x in dl:\n    opt.zero_grad()\n    loss = model(x)\n    loss.backward()\n    opt.step()  # <-\n",
    ),
    Sample(
        "cleared at the end",
        _HEAD + "for x in dl:\n    loss = model(x)\n    opt.step()  # <-\n    loss.backward()\n    opt.zero_grad()\n",
        fixed=_HEAD + "for x in dl:\n    loss = model(x)\n    loss.backward()\n    opt.step()  # <-\n    opt.zero_grad()\n",
    ),
    Sample(
        "clipped after the pass",
        _HEAD + "for x in dl:\n    opt.zero_grad()\n    opt.step()  # <-\n    model(x).backward()\n"
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n    print(x)\n",
        fixed=_HEAD + "for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n"
        "    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n    opt.step()  # <-\n    print(x)\n",
    ),
    Sample(
        "method for one batch",
        "class Trainer:\n    def step(self, batch):\n        self.optimizer.zero_grad()\n        self.optimizer.step()  # <-\n"
        "        self.model(batch).backward()\n",
    ),
    Sample(
        "GAN, one of two",
        "import torch\nG, D = Generator(), Discriminator()\nopt_g = torch.optim.Adam(G.parameters())\n"
        "opt_d = torch.optim.Adam(D.parameters())\nfor x in dl:\n    opt_d.zero_grad()\n    D(x).backward()\n    opt_d.step()\n"
        "    opt_g.zero_grad()\n    opt_g.step()  # <-\n    D(G(x)).backward()\n",
    ),
    Sample(
        "GradScaler, in a while loop",
        _HEAD
        + "scaler = torch.amp.GradScaler()\nwhile True:\n    opt.zero_grad()\n    scaler.step(opt)  # <-\n    scaler.update()\n"
        "    scaler.scale(model(next(it))).backward()\n",
    ),
)
