"""An evaluation loop runs the model with gradients on: the graph of every batch is built for nothing.

## What it looks like
Evaluation needs as much memory as training, and "out of memory" comes with the first validation; where outputs or losses are
gathered over the batches, memory grows through the whole evaluation. The metrics themselves are right.

## Why it happens
`model.eval()` switches dropout and batch norm. It does not switch off autograd: that is what `torch.no_grad()` and
`torch.inference_mode()` do.

## When it is wrong
Adversarial evaluation, attribution and test-time adaptation need the gradients; an evaluation whose caller switches them off
is right. None of these is reported.

## What repairs it
`@torch.no_grad()` above the function, or `with torch.no_grad():` around the loop.

## References
PyTorch documentation, "Autograd mechanics", evaluation mode: "functionally, module.eval() is completely orthogonal to no-grad
mode and inference mode".
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.evaluation import evaluations
from traindoctor.code.losses import written
from traindoctor.mistake import Edit, Mistake, Repair
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script

CAUSE = Cause(
    code="TD702",
    name="evaluation-with-gradients",
    summary="an evaluation loop runs the model with gradients on",
    explanation=__doc__,
    severity="warning",
)


@CAUSE.in_script("torch", "eval|valid|test|Valid|Eval|Test")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the calls of a model in evaluation loops under which gradients are on."""
    for one in evaluations(script):
        yield Mistake(
            script.place(one.call),
            f"`{written(script, one.call)}` runs with gradients on in an evaluation loop. The graph of each batch is built and "
            + (
                "kept with what is gathered: memory grows with every batch."
                if one.keeps
                else "thrown away: time and memory for nothing."
            ),
            "Put @torch.no_grad() above the function, or `with torch.no_grad():` around the loop.",
            repair=_decorated(script, one.function) if one.is_alone else None,
        )


def _decorated(script: Script, function: ast.AST | None) -> Repair | None:
    """Return the repair that puts the decorator above a function; None where torch has another name in the script."""
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or script.imports.get("torch") != "torch":
        return None
    at = script.span(function)[0]
    return Repair(
        "Switch gradients off in the function", (Edit(at, at, f"@torch.no_grad(){script.newline}{script.indent(function)}"),)
    )


_HEAD = """\
import torch
import torch.nn.functional as F

"""
_BODY = """\
    model.eval()
    right = 0
    for x, y in loader:
        out = model(x)
        right += (out.argmax(1) == y).sum().item()
    return right
"""
_FLAGGED = _BODY.replace("out = model(x)\n", "out = model(x)  # <-\n")
CAUSE.valid_code = (
    Sample("decorator", f"{_HEAD}@torch.no_grad()\ndef evaluate(model, loader):\n{_BODY}"),
    Sample("decorator without a call", f"{_HEAD}@torch.inference_mode\ndef evaluate(model, loader):\n{_BODY}"),
    Sample(
        "with around the loop",
        f"{_HEAD}def evaluate(model, loader):\n    model.eval()\n    with torch.no_grad():\n        for x, y in loader:\n            print(model(x))\n",
    ),
    Sample(
        "with in the loop",
        f"{_HEAD}def evaluate(model, loader):\n    model.eval()\n    for x, y in loader:\n        with torch.inference_mode():\n            out = model(x)\n",
    ),
    Sample(
        "with of the caller",
        f"{_HEAD}def evaluate(model, loader):\n{_BODY}def main(model):\n    with torch.no_grad():\n        evaluate(model, loader)\n",
    ),
    Sample(
        "decorator of the caller",
        f"{_HEAD}def evaluate(model, loader):\n{_BODY}@torch.no_grad()\ndef main(model):\n    evaluate(model, loader)\n",
    ),
    Sample(
        "caller of the caller",
        f"{_HEAD}def evaluate(model, loader):\n{_BODY}def run(model):\n    evaluate(model, loader)\ndef main(model):\n    with torch.no_grad():\n        run(model)\n",
    ),
    Sample(
        "set_grad_enabled",
        f"{_HEAD}def run(model, loader, train):\n    if not train:\n        model.eval()\n    with torch.set_grad_enabled(train):\n        for x, y in loader:\n            out = model(x)\n",
    ),
    Sample(
        "switched off for good",
        f"{_HEAD}torch.set_grad_enabled(False)\ndef evaluate(model, loader):\n{_BODY}",
    ),
    Sample(
        "adversarial evaluation",
        f"{_HEAD}def evaluate(model, loader):\n    model.eval()\n    for x, y in loader:\n        x.requires_grad = True\n        loss = F.cross_entropy(model(x), y)\n        loss.backward()\n"
        "        out = model(x + 0.1 * x.grad.sign())\n",
    ),
    Sample(
        "attack of another function",
        f"{_HEAD}def attack(model, x, y):\n    loss = F.cross_entropy(model(x), y)\n    loss.backward()\n    return x.grad\n"
        "def evaluate(model, loader):\n    model.eval()\n    for x, y in loader:\n        out = model(x + attack(model, x, y))\n",
    ),
    Sample(
        "gradients of the inputs",
        f"{_HEAD}def evaluate(model, loader):\n    model.eval()\n    for x, y in loader:\n        e = model(x)\n        f = torch.autograd.grad(e.sum(), x)[0]\n",
    ),
    Sample(
        "trained in evaluation mode",
        f"{_HEAD}def finetune(model, loader, opt):\n    model.eval()\n    for x, y in loader:\n        F.cross_entropy(model(x), y).backward()\n        opt.step()\n",
    ),
    Sample(
        "outputs are turned into numpy",
        f"{_HEAD}def evaluate(model, loader):\n    model.eval()\n    for x, y in loader:\n        out = model(x)\n        save(out.cpu().numpy())\n",
    ),
    Sample(
        "Lightning switches gradients off",
        f"{_HEAD}import lightning as L\nclass M(L.LightningModule):\n    def validation_step(self, batch, i):\n        for x in batch:\n            out = self.model(x)\n",
    ),
    Sample(
        "train and evaluation phases",
        f"{_HEAD}def run(model, loaders, opt):\n    for phase in ('train', 'val'):\n        if phase == 'train':\n            model.train()\n        else:\n            model.eval()\n"
        "        for x, y in loaders[phase]:\n            loss = F.cross_entropy(model(x), y)\n            if phase == 'train':\n                loss.backward()\n                opt.step()\n",
    ),
    Sample(
        "forward switches gradients off",
        f"{_HEAD}from torch import nn\nclass Net(nn.Module):\n    @torch.no_grad()\n    def forward(self, x):\n        return x\nmodel = Net()\nmodel.eval()\nfor x, y in loader:\n    out = model(x)\n",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "function",
        f"{_HEAD}def evaluate(model, loader):\n{_FLAGGED}",
        fixed=f"{_HEAD}@torch.no_grad()\ndef evaluate(model, loader):\n{_FLAGGED}",
    ),
    Sample(
        "outputs are gathered",
        f"{_HEAD}def evaluate(model, loader):\n    model.eval()\n    outputs = []\n    for x, y in loader:\n        outputs.append(model(x))  # <-\n    return outputs\n",
    ),
    Sample(
        "loss is summed",
        f"{_HEAD}def validate(net, loader, criterion):\n    net.eval()\n    total = 0\n    for i, (x, y) in enumerate(loader):\n        out = net(x.cuda())  # <-\n        total += criterion(out, y)\n    return total\n",
    ),
    Sample(
        "in the epoch loop",
        f"{_HEAD}for epoch in range(9):\n    model.train()\n    for x, y in train_loader:\n        opt.zero_grad()\n        F.cross_entropy(model(x), y).backward()\n        opt.step()\n"
        "    model.eval()\n    for x, y in test_loader:\n        right = (model(x).argmax(1) == y).sum()  # <-\n",
    ),
    Sample(
        "method",
        f"{_HEAD}class T:\n    def evaluate(self, loader):\n        self.model.eval()\n        for x, y in loader:\n            loss = F.cross_entropy(self.model(x), y)  # <-\n    def fit(self):\n        self.evaluate(self.test)\n",
    ),
    Sample(
        "eval() of the caller",
        f"{_HEAD}def validate(model, val_loader):\n    for x, y in val_loader:\n        out = model(x)  # <-\ndef main(model):\n    model.eval()\n    validate(model, val_loader)\n",
    ),
)
