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
CAUSE.valid_code = (
    Sample(
        "decorated by a call",
        _HEAD
        + """\
def evaluate(model, loader):
    model.eval()
    for x, y in loader:
        out = model(x)
evaluate = torch.inference_mode()(evaluate)
""",
    ),
    Sample(
        "context by its name",
        _HEAD
        + """\
def evaluate(model, loader):
    model.eval()
    context = torch.no_grad()
    with context:
        for x, y in loader:
            out = model(x)
""",
    ),
    Sample(
        "forces from an energy",
        _HEAD
        + """\
class Potential(nn.Module):
    def forward(self, positions):
        positions.requires_grad_(True)
        energy = self.net(positions).sum()
        return energy, -torch.autograd.grad(energy, positions, create_graph=self.training)[0]
def evaluate(model, loader):
    model.eval()
    total = 0
    for positions, forces in loader:
        energy, found = model(positions)
        total += (found - forces).abs().mean().item()
    return total
""",
    ),
    Sample(
        "decorator",
        _HEAD
        + """\
@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    right = 0
    for x, y in loader:
        out = model(x)
        right += (out.argmax(1) == y).sum().item()
    return right
""",
    ),
    Sample(
        "decorator without a call",
        _HEAD
        + """\
@torch.inference_mode
def evaluate(model, loader):
    model.eval()
    right = 0
    for x, y in loader:
        out = model(x)
        right += (out.argmax(1) == y).sum().item()
    return right
""",
    ),
    Sample(
        "with around the loop",
        _HEAD
        + """\
def evaluate(model, loader):
    model.eval()
    with torch.no_grad():
        for x, y in loader:
            print(model(x))
""",
    ),
    Sample(
        "with in the loop",
        _HEAD
        + """\
def evaluate(model, loader):
    model.eval()
    for x, y in loader:
        with torch.inference_mode():
            out = model(x)
""",
    ),
    Sample(
        "with of the caller",
        _HEAD
        + """\
def evaluate(model, loader):
    model.eval()
    right = 0
    for x, y in loader:
        out = model(x)
        right += (out.argmax(1) == y).sum().item()
    return right
def main(model):
    with torch.no_grad():
        evaluate(model, loader)
""",
    ),
    Sample(
        "decorator of the caller",
        _HEAD
        + """\
def evaluate(model, loader):
    model.eval()
    right = 0
    for x, y in loader:
        out = model(x)
        right += (out.argmax(1) == y).sum().item()
    return right
@torch.no_grad()
def main(model):
    evaluate(model, loader)
""",
    ),
    Sample(
        "caller of the caller",
        _HEAD
        + """\
def evaluate(model, loader):
    model.eval()
    right = 0
    for x, y in loader:
        out = model(x)
        right += (out.argmax(1) == y).sum().item()
    return right
def run(model):
    evaluate(model, loader)
def main(model):
    with torch.no_grad():
        run(model)
""",
    ),
    Sample(
        "set_grad_enabled",
        _HEAD
        + """\
def run(model, loader, train):
    if not train:
        model.eval()
    with torch.set_grad_enabled(train):
        for x, y in loader:
            out = model(x)
""",
    ),
    Sample(
        "switched off for good",
        _HEAD
        + """\
torch.set_grad_enabled(False)
def evaluate(model, loader):
    model.eval()
    right = 0
    for x, y in loader:
        out = model(x)
        right += (out.argmax(1) == y).sum().item()
    return right
""",
    ),
    Sample(
        "adversarial evaluation",
        _HEAD
        + """\
def evaluate(model, loader):
    model.eval()
    for x, y in loader:
        x.requires_grad = True
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        out = model(x + 0.1 * x.grad.sign())
""",
    ),
    Sample(
        "attack of another function",
        _HEAD
        + """\
def attack(model, x, y):
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return x.grad
def evaluate(model, loader):
    model.eval()
    for x, y in loader:
        out = model(x + attack(model, x, y))
""",
    ),
    Sample(
        "gradients of the inputs",
        _HEAD
        + """\
def evaluate(model, loader):
    model.eval()
    for x, y in loader:
        e = model(x)
        f = torch.autograd.grad(e.sum(), x)[0]
""",
    ),
    Sample(
        "trained in evaluation mode",
        _HEAD
        + """\
def finetune(model, loader, opt):
    model.eval()
    for x, y in loader:
        F.cross_entropy(model(x), y).backward()
        opt.step()
""",
    ),
    Sample(
        "outputs are turned into numpy",
        _HEAD
        + """\
def evaluate(model, loader):
    model.eval()
    for x, y in loader:
        out = model(x)
        save(out.cpu().numpy())
""",
    ),
    Sample(
        "Lightning switches gradients off",
        _HEAD
        + """\
import lightning as L
class M(L.LightningModule):
    def validation_step(self, batch, i):
        for x in batch:
            out = self.model(x)
""",
    ),
    Sample(
        "train and evaluation phases",
        _HEAD
        + """\
def run(model, loaders, opt):
    for phase in ('train', 'val'):
        if phase == 'train':
            model.train()
        else:
            model.eval()
        for x, y in loaders[phase]:
            loss = F.cross_entropy(model(x), y)
            if phase == 'train':
                loss.backward()
                opt.step()
""",
    ),
    Sample(
        "forward switches gradients off",
        _HEAD
        + """\
from torch import nn
class Net(nn.Module):
    @torch.no_grad()
    def forward(self, x):
        return x
model = Net()
model.eval()
for x, y in loader:
    out = model(x)
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "function",
        _HEAD
        + """\
def evaluate(model, loader):
    model.eval()
    right = 0
    for x, y in loader:
        out = model(x)  # <-
        right += (out.argmax(1) == y).sum().item()
    return right
""",
        fixed=_HEAD
        + """\
@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    right = 0
    for x, y in loader:
        out = model(x)  # <-
        right += (out.argmax(1) == y).sum().item()
    return right
""",
    ),
    Sample(
        "outputs are gathered",
        _HEAD
        + """\
def evaluate(model, loader):
    model.eval()
    outputs = []
    for x, y in loader:
        outputs.append(model(x))  # <-
    return outputs
""",
    ),
    Sample(
        "loss is summed",
        _HEAD
        + """\
def validate(net, loader, criterion):
    net.eval()
    total = 0
    for i, (x, y) in enumerate(loader):
        out = net(x.cuda())  # <-
        total += criterion(out, y)
    return total
""",
    ),
    Sample(
        "in the epoch loop",
        _HEAD
        + """\
for epoch in range(9):
    model.train()
    for x, y in train_loader:
        opt.zero_grad()
        F.cross_entropy(model(x), y).backward()
        opt.step()
    model.eval()
    for x, y in test_loader:
        right = (model(x).argmax(1) == y).sum()  # <-
""",
    ),
    Sample(
        "method",
        _HEAD
        + """\
class T:
    def evaluate(self, loader):
        self.model.eval()
        for x, y in loader:
            loss = F.cross_entropy(self.model(x), y)  # <-
    def fit(self):
        self.evaluate(self.test)
""",
    ),
    Sample(
        "eval() of the caller",
        _HEAD
        + """\
def validate(model, val_loader):
    for x, y in val_loader:
        out = model(x)  # <-
def main(model):
    model.eval()
    validate(model, val_loader)
""",
    ),
)
