"""The loss is put into a new tensor before backward(): it no longer knows the model.

## What it looks like
The loss does not fall, and no error is shown: `requires_grad=True` makes the new tensor a leaf, `backward()` gives this leaf
a gradient of 1, and no weight gets any.

## Why it happens
`torch.tensor(loss)`, `Variable(loss.data, requires_grad=True)` and `loss.detach().requires_grad_()` copy the number and leave
the graph behind. They are often written to silence "element 0 of tensors does not require grad", whose cause lies earlier.

## When it is wrong
A number that is wrapped to be logged, or reduced over processes, is not differentiated and is not reported.

## What repairs it
Call `backward()` of the loss itself. Where that fails, something before it cut the graph: a detached prediction, argmax, no_grad.

## References
PyTorch documentation, torch.tensor: "When working with tensors prefer using torch.Tensor.clone, detach, requires_grad_";
"Autograd mechanics".
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from traindoctor.code.losses import rewrapped, written
from traindoctor.mistake import Edit, Mistake, Repair
from traindoctor.patterns import lazy
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script

CAUSE = Cause(
    code="TD605",
    name="loss-rewrapped",
    summary="the loss is put into a new tensor before backward(): it no longer knows the model",
    explanation=__doc__,
)
_LOSS = lazy(r"loss|err|cost|objective|criterion", re.IGNORECASE)


@CAUSE.in_script("torch", "backward|training_step|compute_loss", "tensor|Tensor|Variable|requires_grad")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the new tensors that are differentiated in the place of the loss they were made from."""
    for term in script.losses.terms:
        inner = rewrapped(term.node)
        if inner is None or not term.whole or term.frame.script is not script:
            continue
        flows = {t.flow for t in script.tensors.of(inner, term.frame)}
        statement = script.parents.get(term.node)
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        words = (n for part in (inner, *targets) for n in ast.walk(part) if isinstance(n, ast.Name | ast.Attribute))
        named = any(_LOSS.search(_last(n)) for n in words)
        if flows == {"data"} or not (named or flows <= {"live", "cut"}):
            continue
        yield Mistake(
            script.place(term.node),
            f"`{written(script, term.node)}` is a new tensor without a graph, and is what backward() differentiates. No weight "
            "gets a gradient from it, so the model does not learn.",
            "Differentiate the loss itself.",
            repair=_unwrapped(script, term.node),
            related=((script.place(term.backward), "differentiated here"),),
        )


def _last(node: ast.Name | ast.Attribute) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr


def _unwrapped(script: Script, node: ast.expr) -> Repair | None:
    """Return the repair that removes `loss = torch.tensor(loss)` and its kin; None where the loss has another name before."""
    statement = script.parents.get(node)
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return None
    inner = rewrapped(node)
    while isinstance(inner, ast.Call | ast.Attribute) and not (isinstance(inner, ast.Call) and inner.args):
        follow = inner.func if isinstance(inner, ast.Call) else inner
        if not isinstance(follow, ast.Attribute) or follow.attr not in ("data", "item", "detach", "clone", "cpu"):
            break
        inner = follow.value
    lines = script.line_span(statement)
    if inner is None or lines is None or script.source(inner) != script.source(statement.targets[0]):
        return None
    return Repair("Differentiate the loss itself", (Edit(*lines, ""),))


_HEAD = """\
import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd import Variable

"""
CAUSE.valid_code = (
    Sample(
        "loss itself",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "wrapped for logging",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
        logged = torch.tensor(loss.item(), device='cuda')
        dist.all_reduce(logged)
""",
    ),
    Sample(
        "sum that begins with a tensor",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        loss = torch.tensor(0.0, requires_grad=True)
        for i in range(3):
            loss = loss + F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "a tutorial's leaf",
        """\
import torch
x = torch.tensor([2.0], requires_grad=True)
x.backward()
""",
    ),
    Sample(
        "a constant term",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss = loss + torch.tensor(0.5)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "stack of losses",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for xs in loader:
        losses = [F.cross_entropy(model(x), y) for x, y in xs]
        loss = torch.stack(losses).mean()
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "inputs in Variable",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        x, y = Variable(x), Variable(y)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "tensor of the item",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss = torch.tensor(loss.item(), requires_grad=True)  # <-
        loss.backward()
        optimizer.step()
""",
        fixed=_HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "tensor",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss = torch.tensor(loss, requires_grad=True)  # <-
        loss.backward()
        optimizer.step()
""",
        fixed=_HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "Variable",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss = Variable(loss.data, requires_grad=True)  # <-
        loss.backward()
        optimizer.step()
""",
        fixed=_HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "detach and requires_grad_",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss = loss.detach().requires_grad_(True)  # <-
        loss.backward()
        optimizer.step()
""",
        fixed=_HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "list of losses",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for xs in loader:
        losses = []
        for x, y in xs:
            losses.append(F.cross_entropy(model(x), y))
        loss = torch.FloatTensor(losses).mean()  # <-
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "in the call, scaled",
        _HEAD
        + """\
def train(model, loader, optimizer, scaler):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        scaler.scale(torch.autograd.Variable(loss, requires_grad=True)).backward()  # <-
        scaler.step(optimizer)
""",
    ),
    Sample(
        "in a helper",
        _HEAD
        + """\
class T:
    def loss(self, x, y):
        loss = F.cross_entropy(self.model(x), y)
        return torch.tensor(loss, requires_grad=True)  # <-
    def fit(self, loader):
        for x, y in loader:
            self.loss(x, y).backward()
            self.opt.step()
""",
    ),
)
