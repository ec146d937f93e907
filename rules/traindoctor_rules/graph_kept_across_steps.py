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

from traindoctor.code.kept import kept_losses
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


@CAUSE.in_script("torch", "backward", "+|append(|update(|add(|extend(|push(|put(|insert(")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the statements that keep a loss that was differentiated in the same iteration."""
    shown: dict[str, bool] = {}
    for kept in kept_losses(script):
        repair = None
        if kept.holder not in shown:
            shown[kept.holder] = _is_only_shown(script, kept.holder)
        if kept.is_scalar:
            end = script.span(kept.loss)[1]
            repair = Repair("Keep the number alone", (Edit(end, end, ".item()"),), safe=shown[kept.holder])
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
CAUSE.valid_code = (
    Sample(
        "item",
        _HEAD
        + """\
def train(model, loader, optimizer):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total
""",
    ),
    Sample(
        "detach, float, data",
        _HEAD
        + """\
def train(model, loader, optimizer):
    a, b, c, losses = 0, 0, 0, []
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        a += loss.detach()
        b += float(loss)
        c = c + loss.data
        losses.append(loss.detach().cpu())
""",
    ),
    Sample(
        "sum before backward",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        loss = 0
        for z in x:
            loss += F.cross_entropy(model(z), y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "sum of two losses",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        loss_a = F.cross_entropy(model(x), y)
        loss_b = aux(x)
        total_loss = loss_a + loss_b
        total_loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "begins anew in each iteration",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        total = 0
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        total += loss
        print(total)
""",
    ),
    Sample(
        "under no_grad",
        _HEAD
        + """\
def train(model, loader, optimizer):
    total = 0
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            total += loss
""",
    ),
    Sample(
        "truncated backpropagation through time",
        _HEAD
        + """\
def train(model, loader, optimizer):
    total = 0
    for i, (x, y) in enumerate(loader):
        loss = F.cross_entropy(model(x), y)
        total = total + loss
        if i % 8 == 7:
            total.backward()
            optimizer.step()
            total = 0
""",
    ),
    Sample(
        "list that is differentiated",
        _HEAD
        + """\
def train(model, loader, optimizer):
    losses = []
    for x, y in loader:
        losses.append(F.cross_entropy(model(x), y))
    torch.stack(losses).mean().backward()
    optimizer.step()
""",
    ),
    Sample(
        "number of the same name",
        _HEAD
        + """\
def train(model, loader, optimizer):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        loss = loss.item()
        total += loss
""",
    ),
    Sample(
        "detached afterwards",
        _HEAD
        + """\
def train(model, loader, optimizer):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total = total + loss
        total = total.detach()
""",
    ),
    Sample(
        "object of another kind",
        _HEAD
        + """\
def train(model, loader, optimizer):
    meter = AverageMeter()
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        meter.append(loss)
        meter.update(loss)
""",
    ),
    Sample(
        "meter that takes the number",
        _HEAD
        + """\
class Meter:
    def __init__(self):
        self.sum = 0.0
    def update(self, value):
        self.sum += float(value)
def train(model, loader, optimizer):
    meter = Meter()
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        meter.update(loss)
""",
    ),
    Sample(
        "last ten of them",
        _HEAD
        + """\
from collections import deque
def train(model, loader, optimizer):
    losses = deque(maxlen=10)
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss)
""",
    ),
    Sample(
        "number from a helper",
        _HEAD
        + """\
def step(model, x, y):
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss.item()
def train(model, loader, optimizer):
    total = 0
    for x, y in loader:
        loss = step(model, x, y)
        total += loss
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "list of a dictionary, made where it is missing",
        _HEAD
        + """\
def train(model, loader, optimizer):
    history = {}
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        history.setdefault("loss", []).append(loss)  # <-
    return history
""",
    ),
    Sample(
        "sum",
        _HEAD
        + """\
def train(model, loader, optimizer):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss  # <-
    print(total / len(loader))
""",
        fixed=_HEAD
        + """\
def train(model, loader, optimizer):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()  # <-
    print(total / len(loader))
""",
    ),
    Sample(
        "sum, spelled out",
        _HEAD
        + """\
def train(model, loader, optimizer):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total = total + loss  # <-
    return total
""",
    ),
    Sample(
        "list",
        _HEAD
        + """\
def train(model, loader, optimizer):
    history = []
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        history.append(loss)  # <-
""",
        fixed=_HEAD
        + """\
def train(model, loader, optimizer):
    history = []
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        history.append(loss.item())  # <-
""",
    ),
    Sample(
        "weighted sum",
        _HEAD
        + """\
def train(model, loader, optimizer):
    total = 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss * x.size(0)  # <-
    return total
""",
    ),
    Sample(
        "GradScaler, module level, dictionary",
        _HEAD
        + """\
stats = {'loss': 0.0}
for epoch in range(9):
    for x, y in loader:
        with torch.autocast('cuda'):
            loss = F.cross_entropy(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        stats['loss'] += loss  # <-
""",
    ),
    Sample(
        "attribute",
        _HEAD
        + """\
class T:
    def __init__(self):
        self.losses = []
    def fit(self):
        for x, y in self.loader:
            self.loss = F.mse_loss(self.model(x), y)
            self.loss.backward()
            self.opt.step()
            self.losses.append(self.loss)  # <-
""",
    ),
    Sample(
        "a summand of what is differentiated",
        _HEAD
        + """\
def train(model, loader, optimizer):
    total_a = 0
    for x, y in loader:
        loss_a = F.cross_entropy(model(x), y)
        loss_b = aux(x)
        loss = loss_a + 0.1 * loss_b
        (loss / 4).backward()
        optimizer.step()
        total_a += loss_a  # <-
""",
    ),
    Sample(
        "accelerate, while",
        _HEAD
        + """\
from accelerate import Accelerator
accelerator = Accelerator()
def train(model, it, optimizer):
    running = 0
    n = 0
    while n < 9:
        x, y = next(it)
        loss = F.cross_entropy(model(x), y)
        accelerator.backward(loss)
        optimizer.step()
        running += loss  # <-
        n += 1
""",
    ),
    Sample(
        "helper that returns the loss",
        _HEAD
        + """\
def step(model, x, y):
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss
def train(model, loader, optimizer):
    total = 0
    for x, y in loader:
        loss = step(model, x, y)
        total += loss  # <-
""",
    ),
    Sample(
        "meter of the file",
        _HEAD
        + """\
class Meter:
    def __init__(self):
        self.sum = 0.0
        self.n = 0
    def update(self, value, n=1):
        self.sum += value * n
        self.n += n
def train(model, loader, optimizer):
    meter = Meter()
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        meter.update(loss, x.size(0))  # <-
""",
    ),
)
