"""With two optimizers, the gradients of the wrong one are cleared: those of the other add up.

## What it looks like
One of two networks trains as if its learning rate grew: its gradient norm rises step by step, and its loss swings. The other one
trains as it should.

## Why it happens
`opt_g.zero_grad(); d_loss.backward(); opt_d.step()`, often a line that was copied from the part of the other network. Nothing in
the loop clears what `opt_d` holds.

## When it is wrong
Optimizers that hold the same parameters clear for each other; where that may be so, nothing is said.

## What repairs it
`zero_grad()` of the optimizer that steps next.

## References
PyTorch documentation, torch.optim.Optimizer.zero_grad; PyTorch DCGAN tutorial, "Training" (each network cleared before its pass).
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.events import TracedEvent
from traindoctor.code.order import of_another, place, receiver, text_of_call, uncleared, wrong_in
from traindoctor.mistake import Mistake, Repair
from traindoctor.rule import Cause, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.order import Wrong
    from traindoctor.code.script import Script
    from traindoctor.rule import Limits

CAUSE = Cause(
    code="TD306",
    name="gradients-of-another-optimizer-cleared",
    summary="the gradients of another optimizer are cleared, and those of this one add up",
    explanation=__doc__,
)


@CAUSE.in_script("backward|grad|optim", "backward(|.step(|optimizer_step(")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the calls that clear one optimizer right before the pass and the step of another, which nothing clears."""
    for wrong, where in wrong_in(script, uncleared):
        cleared = of_another(wrong)
        if not isinstance(cleared, TracedEvent):
            continue
        yield Mistake(
            place(script, cleared),
            f"`{text_of_call(cleared)}` stands before the backward pass of `{text_of_call(wrong.other)}`. "
            f"Nothing clears the gradients of `{wrong.optimizer}`: they add up over all steps.",
            f"Call {wrong.optimizer}.zero_grad() here",
            repair=_renamed(script, cleared, wrong),
            related=((where, "the pass whose gradients add up"),),
        )


def _renamed(script: Script, cleared: TracedEvent, wrong: Wrong) -> Repair | None:
    """Return the repair where both calls stand in one function, and so see the same names."""
    step = wrong.other
    if not isinstance(step, TracedEvent) or step.script is not script or cleared.script is not script:
        return None
    name = receiver(script, step.node)
    call = cleared.node
    if name is None or script.function(call) is not script.function(step.node):
        return None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return None
    return Repair(f"Clear {name}", (script.replaced(call.func.value, name),), safe=True)


_GAN = """import torch
G, D = Generator(), Discriminator()
opt_g = torch.optim.Adam(G.parameters())
opt_d = torch.optim.Adam(D.parameters())
"""
_G = "    opt_g.zero_grad()\n    D(G(x)).backward()\n    opt_g.step()\n"
CAUSE.valid_code = (
    Sample(
        "one of two that step on one pass is cleared",
        """\
import torch
first = torch.optim.SGD(encoder.parameters(), lr=0.01)
second = torch.optim.SGD(decoder.parameters(), lr=0.01)
for x, y in pairs:
    first.zero_grad()
    criterion(decoder(encoder(x)), y).backward()
    first.step()
    second.step()
""",
    ),
    Sample("each its own", _GAN + "for x in dl:\n    opt_d.zero_grad()\n    D(x).backward()\n    opt_d.step()\n" + _G),
    Sample(
        "both at the head",
        _GAN + "for x in dl:\n    opt_g.zero_grad()\n    opt_d.zero_grad()\n    D(x).backward()\n    opt_d.step()\n" + _G,
    ),
    Sample(
        "the pass of the generator leaves gradients in the discriminator, cleared before its own",
        _GAN + "for x in dl:\n" + _G + "    opt_d.zero_grad()\n    D(x).backward()\n    opt_d.step()\n",
    ),
    Sample(
        "cleared through the model",
        _GAN
        + "for x in dl:\n    D.zero_grad()\n    D(x).backward()\n    opt_d.step()\n    G.zero_grad()\n    D(G(x)).backward()\n"
        "    opt_g.step()\n",
    ),
    Sample(
        "optimizers of unknown parameters",
        "def train(opt_a, opt_b, dl):\n    for x in dl:\n        opt_a.zero_grad()\n        loss(x).backward()\n"
        "        opt_b.step()\n",
    ),
    Sample(
        "a shared encoder",
        "import torch\nopt_a = torch.optim.Adam(list(enc.parameters()) + list(a.parameters()))\n"
        "opt_b = torch.optim.Adam(enc.parameters())\nfor x in dl:\n    opt_a.zero_grad()\n    loss(x).backward()\n"
        "    opt_b.step()\n",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "copied from the generator",
        _GAN + "for x in dl:\n    opt_g.zero_grad()  # <-\n    d_loss = D(x)\n    d_loss.backward()\n    opt_d.step()\n" + _G,
        fixed=_GAN
        + "for x in dl:\n    opt_d.zero_grad()  # <-\n    d_loss = D(x)\n    d_loss.backward()\n    opt_d.step()\n"
        + _G,
    ),
    Sample(
        "two passes, methods",
        "import torch\nclass GAN:\n    def __init__(self, G, D):\n        self.G, self.D = G, D\n"
        "        self.opt_g = torch.optim.Adam(self.G.parameters())\n        self.opt_d = torch.optim.Adam(self.D.parameters())\n"
        "    def critic(self, x):\n        self.opt_d.zero_grad()\n        self.D(x).backward()\n"
        "        self.D(self.G(x)).backward()\n"
        "        self.opt_d.step()\n    def generator(self, x):\n        self.opt_d.zero_grad()  # <-\n"
        "        self.D(self.G(x)).backward()\n"
        "        self.opt_g.step()\n    def fit(self, dl):\n        for x in dl:\n            self.critic(x)\n"
        "            self.generator(x)\n",
    ),
)
