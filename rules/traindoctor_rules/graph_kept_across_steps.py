"""A loss is summed or listed over the steps together with its graph: memory grows with every step.

## What it looks like
Memory grows slowly through the epoch, and a long one ends "out of memory". Training itself is right.

## Why it happens
`total += loss` makes `total` a tensor whose graph holds that of every loss so far. `backward()` frees the saved activations,
but the nodes of the graph, and whatever a custom function keeps, stay alive as long as `total` or the list does.

## When it is wrong
A sum that is itself differentiated (`loss_a + loss_b`, several steps of a sequence before one `backward()`), that begins
anew in each iteration, or that is taken under `no_grad`, is right, and is not reported.

## What repairs it
`total += loss.item()`, or `loss.detach()` where the wait for the GPU matters.

## References
PyTorch documentation, FAQ, "My model reports cuda runtime error(2): out of memory": "Don't accumulate history across your
training loop".
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.accumulation import kept_losses
from traindoctor.code.losses import written
from traindoctor.mistake import Edit, Mistake, Repair
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script

CAUSE = Cause(
    code="TD606",
    name="graph-kept-across-steps",
    summary="a loss is summed or listed over the steps together with its graph: memory grows",
    explanation=__doc__,
    severity="warning",
)


@CAUSE.in_script("torch", "backward")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the statements that keep a loss that was differentiated in the same iteration."""
    for kept in kept_losses(script):
        repair = None
        if kept.is_scalar:
            end = script.span(kept.loss)[1]
            repair = Repair("Keep the number alone", (Edit(end, end, ".item()"),), safe=_is_only_shown(script, kept.holder))
        yield Mistake(
            script.place(kept.statement),
            f"`{written(script, kept.statement)}` keeps the loss of every step with its graph. Memory grows with each step, and "
            "the sum is a tensor that remembers all of them.",
            f"Keep the number alone: `{written(script, kept.loss)}.item()`, or `.detach()`.",
            repair=repair,
            related=((script.place(kept.backward), "differentiated here"),),
        )


def _is_only_shown(script: Script, holder: str) -> bool:
    """Return whether no tensor method is called on what was summed, so that a float serves as well."""
    for node in script.all(ast.Attribute):
        assert isinstance(node, ast.Attribute)
        if script.dotted(node.value) == holder and node.attr not in ("append", "clear"):
            return False
    used = [n for n in script.nodes.get(ast.Name, ()) if n.id == holder and isinstance(n.ctx, ast.Load)]  # type: ignore[attr-defined]
    return "." not in holder and all(_is_number(script, n) for n in used)


def _is_number(script: Script, node: ast.AST) -> bool:
    """Return whether a use of a name takes it as a number: in arithmetic with numbers, printed, formatted."""
    for parent in script.above(node):
        if isinstance(parent, ast.FormattedValue | ast.AugAssign):
            return True
        if isinstance(parent, ast.Call):
            return isinstance(parent.func, ast.Name) and parent.func.id in ("print", "float", "round", "len", "sum")
        if not isinstance(parent, ast.BinOp | ast.Tuple):
            return False
    return False


_HEAD = """\
import torch
import torch.nn.functional as F

"""
_TRAIN = "def train(model, loader, optimizer):\n"
_LOOP = """\
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
"""
CAUSE.valid_code = (
    Sample("item", f"{_HEAD}{_TRAIN}    total = 0.0\n{_LOOP}        total += loss.item()\n    return total\n"),
    Sample(
        "detach, float, data",
        f"{_HEAD}{_TRAIN}    a, b, c, losses = 0, 0, 0, []\n{_LOOP}        a += loss.detach()\n        b += float(loss)\n        c = c + loss.data\n        losses.append(loss.detach().cpu())\n",
    ),
    Sample(
        "sum before backward",
        f"{_HEAD}{_TRAIN}    for x, y in loader:\n        loss = 0\n        for z in x:\n            loss += F.cross_entropy(model(z), y)\n        loss.backward()\n        optimizer.step()\n",
    ),
    Sample(
        "sum of two losses",
        f"{_HEAD}{_TRAIN}    for x, y in loader:\n        loss_a = F.cross_entropy(model(x), y)\n        loss_b = aux(x)\n        total_loss = loss_a + loss_b\n        total_loss.backward()\n        optimizer.step()\n",
    ),
    Sample(
        "begins anew in each iteration",
        f"{_HEAD}{_TRAIN}    for x, y in loader:\n        total = 0\n        loss = F.cross_entropy(model(x), y)\n        loss.backward()\n        total += loss\n        print(total)\n",
    ),
    Sample(
        "under no_grad",
        f"{_HEAD}{_TRAIN}    total = 0\n{_LOOP}    with torch.no_grad():\n        for x, y in loader:\n            loss = F.cross_entropy(model(x), y)\n            total += loss\n",
    ),
    Sample(
        "truncated backpropagation through time",
        f"{_HEAD}{_TRAIN}    total = 0\n    for i, (x, y) in enumerate(loader):\n        loss = F.cross_entropy(model(x), y)\n        total = total + loss\n"
        "        if i % 8 == 7:\n            total.backward()\n            optimizer.step()\n            total = 0\n",
    ),
    Sample(
        "list that is differentiated",
        f"{_HEAD}{_TRAIN}    losses = []\n    for x, y in loader:\n        losses.append(F.cross_entropy(model(x), y))\n    torch.stack(losses).mean().backward()\n    optimizer.step()\n",
    ),
    Sample(
        "number of the same name",
        f"{_HEAD}{_TRAIN}    total = 0.0\n{_LOOP}        loss = loss.item()\n        total += loss\n",
    ),
    Sample(
        "detached afterwards",
        f"{_HEAD}{_TRAIN}    total = 0.0\n{_LOOP}        total = total + loss\n        total = total.detach()\n",
    ),
    Sample(
        "object of another kind",
        f"{_HEAD}{_TRAIN}    meter = AverageMeter()\n{_LOOP}        meter.append(loss)\n        meter.update(loss)\n",
    ),
    Sample(
        "meter that takes the number",
        f"{_HEAD}class Meter:\n    def __init__(self):\n        self.sum = 0.0\n    def update(self, value):\n        self.sum += float(value)\n{_TRAIN}    meter = Meter()\n{_LOOP}        meter.update(loss)\n",
    ),
    Sample(
        "last ten of them",
        f"{_HEAD}from collections import deque\n{_TRAIN}    losses = deque(maxlen=10)\n{_LOOP}        losses.append(loss)\n",
    ),
    Sample(
        "number from a helper",
        f"{_HEAD}def step(model, x, y):\n    loss = F.cross_entropy(model(x), y)\n    loss.backward()\n    return loss.item()\n"
        f"{_TRAIN}    total = 0\n    for x, y in loader:\n        loss = step(model, x, y)\n        total += loss\n",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "sum",
        f"{_HEAD}{_TRAIN}    total = 0.0\n{_LOOP}        total += loss  # <-\n    print(total / len(loader))\n",
        fixed=f"{_HEAD}{_TRAIN}    total = 0.0\n{_LOOP}        total += loss.item()  # <-\n    print(total / len(loader))\n",
    ),
    Sample("sum, spelled out", f"{_HEAD}{_TRAIN}    total = 0.0\n{_LOOP}        total = total + loss  # <-\n    return total\n"),
    Sample(
        "list",
        f"{_HEAD}{_TRAIN}    history = []\n{_LOOP}        history.append(loss)  # <-\n",
        fixed=f"{_HEAD}{_TRAIN}    history = []\n{_LOOP}        history.append(loss.item())  # <-\n",
    ),
    Sample("weighted sum", f"{_HEAD}{_TRAIN}    total = 0.0\n{_LOOP}        total += loss * x.size(0)  # <-\n    return total\n"),
    Sample(
        "GradScaler, module level, dictionary",
        f"{_HEAD}stats = {{'loss': 0.0}}\nfor epoch in range(9):\n    for x, y in loader:\n        with torch.autocast('cuda'):\n            loss = F.cross_entropy(model(x), y)\n"
        "        scaler.scale(loss).backward()\n        scaler.step(optimizer)\n        scaler.update()\n        stats['loss'] += loss  # <-\n",
    ),
    Sample(
        "attribute",
        f"{_HEAD}class T:\n    def __init__(self):\n        self.losses = []\n    def fit(self):\n        for x, y in self.loader:\n            self.loss = F.mse_loss(self.model(x), y)\n"
        "            self.loss.backward()\n            self.opt.step()\n            self.losses.append(self.loss)  # <-\n",
    ),
    Sample(
        "a summand of what is differentiated",
        f"{_HEAD}{_TRAIN}    total_a = 0\n    for x, y in loader:\n        loss_a = F.cross_entropy(model(x), y)\n        loss_b = aux(x)\n        loss = loss_a + 0.1 * loss_b\n"
        "        (loss / 4).backward()\n        optimizer.step()\n        total_a += loss_a  # <-\n",
    ),
    Sample(
        "accelerate, while",
        f"{_HEAD}from accelerate import Accelerator\naccelerator = Accelerator()\ndef train(model, it, optimizer):\n    running = 0\n    n = 0\n    while n < 9:\n        x, y = next(it)\n"
        "        loss = F.cross_entropy(model(x), y)\n        accelerator.backward(loss)\n        optimizer.step()\n        running += loss  # <-\n        n += 1\n",
    ),
    Sample(
        "helper that returns the loss",
        f"{_HEAD}def step(model, x, y):\n    loss = F.cross_entropy(model(x), y)\n    loss.backward()\n    return loss\n"
        f"{_TRAIN}    total = 0\n    for x, y in loader:\n        loss = step(model, x, y)\n        total += loss  # <-\n",
    ),
    Sample(
        "meter of the file",
        f"{_HEAD}class Meter:\n    def __init__(self):\n        self.sum = 0.0\n        self.n = 0\n    def update(self, value, n=1):\n        self.sum += value * n\n        self.n += n\n"
        f"{_TRAIN}    meter = Meter()\n{_LOOP}        meter.update(loss, x.size(0))  # <-\n",
    ),
)
