"""Every step trains on the first batch of the loader, or not on the batch of the loop.

## What it looks like
The training loss falls to zero within an epoch or so while the validation loss rises from the first steps on: a few samples are
learnt by heart. With worker processes, each step takes as long as the first one of an epoch.
## Why it happens
`iter(loader)` begins anew: it starts the workers, draws a new order, and its first `next` gives the first batch. In the body of
a loop, `next(iter(loader))` never reaches the second. A loader that shuffles gives a random batch each time, so that some
samples of an epoch come twice and others never; one that does not shuffle gives the same batch at every step. The same comes of
a loop whose body does not use its own batch, or whose batch is overwritten by an inner loop of the same variable.
## When it is wrong
One batch that is overfitted on purpose, to see that the model can learn; a fixed batch of noise or of pictures to look at.
## What repairs it
`for batch in loader:`, or one iterator made before the loop, `batches = iter(loader)`, and `next(batches)` in it.
## References
PyTorch documentation, torch.utils.data: "each time iterator of a DataLoader is created (e.g., when you call
enumerate(dataloader)), num_workers worker processes are created".
Python documentation, The for statement: the loop makes assignments to the variables in the target list, and these overwrite all
previous assignments to those variables, also those made in the body.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Literal

from traindoctor.code.loaders import BACKWARD, PASSES_ON, data_loaders, trains, within, words
from traindoctor.code.tensors import without_gradients
from traindoctor.mistake import Mistake
from traindoctor.patterns import lazy
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script
    from traindoctor.mistake import Severity

CAUSE = Cause(
    code="TD503",
    name="same-batch-every-step",
    summary="every step trains on the first batch of the loader",
    explanation=__doc__,
    severity="warning",
)

_LOADER = frozenset({"loader", "dataloader", "dl", "trainloader", "loaders", "dataloaders"})
_ON_PURPOSE = lazy(r"overfit|sanity|one.?batch|single.?batch|same.?batch", re.IGNORECASE)


@CAUSE.in_script("backward", "next")
def first_batch(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the calls of `next` in the body of a training loop whose iterator is made in the same iteration."""
    for call in script.calls.get("next", ()):
        if not isinstance(call.func, ast.Name) or not call.args:
            continue
        made = _made(script, call)
        if made is None or not made.args:
            continue
        loader, loops = made.args[0], script.loops(call)
        if not loops:
            yield from _before_the_loop(script, call, loader)
            continue
        always = script.loops(made)[:1] == loops[:1] and all(_always(script, node, loops[0]) for node in (call, made))
        if always and _is_loader(script, loader, loops[0]) and _trains_on(script, call, loops[0]):
            yield _first_again(script, call, loader, loops[0])


@CAUSE.in_script("backward", "for ")
def batch_not_used(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the loops over a loader whose body runs a backward pass and does not read the batch; and batches overwritten."""
    training = {
        loop
        for name in ("backward", "manual_backward")
        for call in script.calls.get(name, ())
        for loop in script.loops(call)
        if isinstance(loop, ast.For | ast.AsyncFor)
    }
    for loop in sorted(training, key=lambda node: (node.lineno, node.col_offset)):
        data, batch = _parts(loop)
        if not _is_loader(script, data, loop):
            continue
        names = [n for n in ast.walk(batch) if isinstance(n, ast.Name)]
        if any(n.id.startswith("_") for n in names) or not all(
            isinstance(n, ast.Name | ast.Tuple | ast.List | ast.expr_context) for n in ast.walk(batch)
        ):
            continue
        used = _reads(script, loop, {n.id for n in names})
        if not used and "locals()" not in script.text:
            text = script.source(batch)
            yield Mistake(
                script.place(batch),
                f"The body of this loop does not use its batch, {text}. Each step trains on what other names hold, "
                "which is the same "
                "at every step.",
                f"Train on {text}.",
                severity=_severity(script, loop),
            )
        yield from _overwritten(script, loop, names, used)


def _made(script: Script, call: ast.Call) -> ast.Call | None:
    """Return the call of `iter` whose iterator a call of `next` reads, made in place or bound to the one name."""
    made = call.args[0]
    if isinstance(made, ast.Name):
        values = script.bound(made)
        made = values[0] if len(values) == 1 and values[0] is not None else made
    return made if isinstance(made, ast.Call) and isinstance(made.func, ast.Name) and made.func.id == "iter" else None


def _trains_on(script: Script, call: ast.Call, loop: ast.AST) -> bool:
    """Return whether an iteration of a loop trains on what it fetched: by a backward pass of its own, or in a call.

    A batch that each epoch fetches beside a loop of its own, to look at it or to validate, is none.
    """
    if without_gradients(script, call) is not None:
        return False
    function = script.function(call)
    passes = [c for name in BACKWARD for c in script.calls.get(name, ()) if script.function(c) is function]
    if any(script.loops(one)[:1] == [loop] for one in passes):
        return True
    statement = script.statement(call)
    targets = statement.targets if isinstance(statement, ast.Assign) else []
    names = {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    readers = {script.parents.get(n) for name in names for n in script.named_within(name, loop) if isinstance(n.ctx, ast.Load)}
    return any(isinstance(one, ast.Call) and trains(script, one) for one in readers)


def _is_loader(script: Script, node: ast.expr, loop: ast.AST) -> bool:
    """Return whether an expression is a loader: known to be one, called one, or what the loop counts the batches of."""
    made = script.origin(node)
    if isinstance(made, ast.Call) and made in data_loaders(script):
        return True
    if isinstance(made, ast.Call | ast.GeneratorExp) and not isinstance(node, ast.Name | ast.Attribute):
        return False
    if isinstance(made, ast.Call) and isinstance(made.func, ast.Name) and made.func.id in ("cycle", "iter", "infinite", "zip"):
        return False
    if not isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
        return False
    name = script.source(node)
    counts = isinstance(loop, ast.For) and script.source(loop.iter).replace(" ", "") == f"range(len({name}))"
    parts = words(name)
    return counts or (
        bool(_LOADER & set(parts)) and not {"iter", "iterator", "gen", "generator", "stream", "cycle", "infinite"} & set(parts)
    )


def _always(script: Script, node: ast.AST, loop: ast.AST) -> bool:
    """Return whether a node is reached in each iteration of a loop: no condition of it stands in between."""
    for above in script.above(node):
        if above is loop:
            return True
        if isinstance(above, ast.If | ast.IfExp | ast.Try | ast.ExceptHandler | ast.Match | ast.BoolOp | ast.While):
            return False
    return False


def _first_again(script: Script, call: ast.Call, loader: ast.expr, loop: ast.AST) -> Mistake:
    name = script.source(loader)
    shuffles = _shuffles(script, loader)
    if shuffles is None:
        what = f"Every step trains on the first batch of a new pass over {name}: the same one each time where it does not shuffle"
    elif shuffles:
        what = (
            f"{name} shuffles anew each time: some samples of an epoch come twice and others never, and its "
            "workers start at each step"
        )
    else:
        what = f"{name} does not shuffle, so every step trains on the same batch"
    counts = isinstance(loop, ast.For) and "len(" in script.source(loop.iter)
    return Mistake(
        script.place(call),
        f"The iterator over {name} is made anew in every iteration, and only its first batch is used. {what}.",
        f"Loop over it, `for batch in {name}:`, or make the iterator before the loop.",
        severity="info" if (shuffles and not counts) or _severity(script, loop) == "info" else "",
    )


def _shuffles(script: Script, loader: ast.expr) -> bool | None:
    made = script.origin(loader)
    if not isinstance(made, ast.Call) or made not in data_loaders(script) or script.open_ended(made):
        return None
    if script.argument(made, "sampler", 3) is not None or script.argument(made, "batch_sampler", 4) is not None:
        return None
    given = script.argument(made, "shuffle", 2)
    value = False if given is None else script.constant(given)
    return value if isinstance(value, bool) else None


def _severity(script: Script, loop: ast.AST) -> Severity | Literal[""]:
    """Return "info" where a name or a comment says that one batch is trained on purpose."""
    function = script.function(loop)
    start = (
        script.span(function)[0] if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) else script.span(loop)[0] - 400
    )
    return "info" if _ON_PURPOSE.search(script.text[max(0, start) : script.span(loop)[1]]) else ""


def _before_the_loop(script: Script, call: ast.Call, loader: ast.expr) -> Iterator[Mistake]:
    """Yield a batch that is fetched once, and that a loop after it trains on."""
    statement = script.statement(call)
    if not isinstance(statement, ast.Assign) or not _is_loader(script, loader, statement):
        return
    names = {n.id for target in statement.targets for n in ast.walk(target) if isinstance(n, ast.Name)}
    block: list[ast.stmt] = next(
        (b for b in (getattr(script.parents[statement], f, None) for f in ("body", "orelse")) if b and statement in b), []
    )
    for later in block[block.index(statement) + 1 :] if block else ():
        if isinstance(later, ast.For) and _counts(later) and _reads(script, later, names) and trains(script, later):
            if not any(isinstance(n, ast.For) and _is_loader(script, _parts(n)[0], n) for n in ast.walk(later)):
                yield Mistake(
                    script.place(call),
                    f"One batch of {script.source(loader)} is fetched, and the loop in line {later.lineno} trains "
                    "on it alone. The model "
                    "learns these samples by heart, which is a test of the code and no training.",
                    "Loop over the loader once it works.",
                    severity="info",
                )
            return


def _counts(loop: ast.For) -> bool:
    return (
        isinstance(loop.iter, ast.Call)
        and isinstance(loop.iter.func, ast.Name)
        and loop.iter.func.id in ("range", "trange", "tqdm")
    )


def _parts(loop: ast.For | ast.AsyncFor) -> tuple[ast.expr, ast.expr]:
    """Return what a loop reads its batches from, and the target that they are bound to."""
    data, batch = loop.iter, loop.target
    while isinstance(data, ast.Call) and data.args:
        func = data.func
        name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
        if name not in PASSES_ON or name == "zip":
            break
        if name == "enumerate":
            if not isinstance(batch, ast.Tuple) or len(batch.elts) != 2:
                break
            batch = batch.elts[1]
        data = data.args[0]
    return data, batch


def _reads(script: Script, loop: ast.For | ast.AsyncFor, names: set[str]) -> list[ast.Name]:
    """Return where the body of a loop reads these names."""
    first = (loop.body[0].lineno, loop.body[0].col_offset)
    written = [node for name in names for node in script.named_within(name, loop)]
    read = [n for n in written if not isinstance(n.ctx, ast.Store) and first <= (n.lineno, n.col_offset)]
    return sorted(read, key=lambda node: (node.lineno, node.col_offset))


def _overwritten(script: Script, loop: ast.For | ast.AsyncFor, names: list[ast.Name], used: list[ast.Name]) -> Iterator[Mistake]:
    """Yield the inner loops that overwrite the batch of a loop, which is read after them."""
    mine = {n.id for n in names}
    stores = [n for name in mine for n in script.named_within(name, loop) if isinstance(n.ctx, ast.Store)]
    for target in sorted(stores, key=lambda node: (node.lineno, node.col_offset)):
        inner = script.statement(target)
        if (
            isinstance(inner, ast.For | ast.AsyncFor)
            and inner is not loop
            and within(target, inner.target)
            and loop in script.loops(inner)
        ):
            after = next((n for n in used if n.id == target.id and _is_past(n, inner)), None)
            if after is not None and not _bound_between(script, target.id, inner, after):
                yield Mistake(
                    script.place(target),
                    f"{target.id} is the batch of the loop in line {loop.lineno}, and this inner loop overwrites "
                    "it. What reads it after, "
                    f"in line {after.lineno}, gets the last {target.id} of the inner loop.",
                    "Give the variable of the inner loop another name.",
                )


def _bound_between(script: Script, name: str, inner: ast.AST, after: ast.Name) -> bool:
    """Return whether a name is bound anew between the end of an inner loop and where it is read."""
    return any(
        node.id == name and isinstance(node.ctx, ast.Store) and _is_past(node, inner) and node.lineno <= after.lineno  # type: ignore[attr-defined]
        for node in script.nodes.get(ast.Name, ())
    )


def _is_past(node: ast.AST, inner: ast.AST) -> bool:
    return (node.lineno, node.col_offset) >= (inner.end_lineno, inner.end_col_offset)  # type: ignore[attr-defined]


_HEAD = """import torch
from torch.utils.data import DataLoader
loader = DataLoader(train_set, batch_size=64, shuffle=True)
"""
_STEP = """        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
"""

CAUSE.valid_code = (
    Sample(
        "batch to look at, beside the training of an epoch",
        """import torch
def train(model, opt, train_loader, val_loader):
    for epoch in range(10):
        for x, y in train_loader:
            opt.zero_grad()
            model(x, y).backward()
            opt.step()
        images, _ = next(iter(val_loader))
        show(images)
""",
    ),
    Sample(
        "batch to validate on, training in a helper",
        """import torch
def train_epoch(model, opt, loader):
    for x, y in loader:
        opt.zero_grad()
        model(x, y).backward()
        opt.step()
def fit(model, opt, train_loader, val_loader):
    for epoch in range(10):
        train_epoch(model, opt, train_loader)
        with torch.no_grad():
            x, y = next(iter(val_loader))
            print(model(x, y))
""",
    ),
    Sample("loop over the loader", f"{_HEAD}for epoch in range(9):\n    for x, y in loader:\n{_STEP}"),
    Sample(
        "iterator made before the loop",
        f"{_HEAD}for epoch in range(9):\n    batches = iter(loader)\n    for i in range(len(loader)):\n        x, y "
        f"= next(batches)\n{_STEP}",
    ),
    Sample(
        "iterator made anew where it is used up",
        f"""{_HEAD}
batches = iter(loader)
for step in range(10000):
    for k in range(4):
        try:
            x, y = next(batches)
        except StopIteration:
            batches = iter(loader)
            x, y = next(batches)
{_STEP}""",
    ),
    Sample(
        "first batch to look at",
        f"""{_HEAD}
images, labels = next(iter(loader))
show(images)
for epoch in range(9):
    for x, y in loader:
{_STEP}    images, labels = next(iter(val_loader))
    if epoch % 5 == 0:
        show(model(next(iter(loader))[0]))
""".replace("    images, labels = next(iter(val_loader))\n", ""),
    ),
    Sample(
        "fixed batch of a GAN",
        f"""{_HEAD}
fixed = next(iter(loader))[0]
for epoch in range(9):
    for x, y in loader:
{_STEP}        if step % 100 == 0:
            save(generator(fixed))
""",
    ),
    Sample(
        "first of something else",
        f"{_HEAD}for x, y in loader:\n    if True:\n{_STEP}    device = next(iter(model.parameters())).device\n",
    ),
    Sample(
        "iterator without end",
        f"{_HEAD}data_iter = cycle(loader)\nfor epoch in range(9):\n    for i in range(100):\n        x, y = "
        f"next(iter(data_iter))\n{_STEP}",
    ),
    Sample(
        "another loader, now and then",
        f"""{_HEAD}
for epoch in range(9):
    for x, y in loader:
{_STEP}        if i % 100 == 0:
            u, v = next(iter(val_loader))
            print(criterion(model(u), v).item())
""",
    ),
    Sample(
        "without training", f"{_HEAD}for i in range(9):\n    x, y = next(iter(loader))\n    print(x.mean())\nloss.backward()\n"
    ),
    Sample("batch thrown away on purpose", f"{_HEAD}for epoch in range(9):\n    for _ in loader:\n{_STEP}"),
    Sample(
        "inner loop of the same name, not read after it",
        f"""{_HEAD}
for x, y in loader:
    if True:
{_STEP}    for x, y in val_loader:
        print(x)
""",
    ),
    Sample(
        "inner loop of the same name, bound again",
        f"""{_HEAD}
for batch in loader:
    x, y = batch
    if True:
{_STEP}    for batch in parts:
        print(batch)
    batch = None
    print(batch)
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "next of iter",
        f"{_HEAD}for epoch in range(9):\n    for i in range(len(loader)):\n        x, y = next(iter(loader))  # <-\n{_STEP}",
    ),
    Sample(
        "loader of a parameter",
        f"""{_HEAD}
def train(model, data, optimizer):
    for i in range(len(data)):
        batch = next(iter(data))  # <-
        x, y = batch
        if True:
{_STEP.replace("        ", "            ")}""",
    ),
    Sample(
        "iterator made in the loop",
        f"""{_HEAD}
for epoch in range(9):
    for i in range(len(loader)):
        batches = iter(loader)
        x, y = next(batches)  # <-
{_STEP}""",
    ),
    Sample(
        "not shuffled, in a while loop, with a helper",
        f"""{_HEAD.replace("True", "False")}
def step(x, y):
    if True:
{_STEP}
while n < 1000:
    x, y = next(iter(loader))  # <-
    step(x, y)
    n += 1
""",
    ),
    Sample(
        "of a class",
        """class Trainer:
    def fit(self):
        for step in range(self.max_steps):
            with autocast():
                x, y = next(iter(self.train_loader))  # <-
                loss = self.criterion(self.model(x), y)
            self.scaler.scale(loss).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()
""",
    ),
    Sample(
        "one batch on purpose",
        f"{_HEAD}x, y = next(iter(loader))  # <-\nfor epoch in range(9):\n    if True:\n{_STEP}",
    ),
    Sample(
        "the batch is not used",
        f"{_HEAD}x, y = first\nfor epoch in range(9):\n    for i, (images, labels) in enumerate(loader):  # <-\n{_STEP}",
    ),
    Sample(
        "the batch is overwritten",
        f"""{_HEAD}
for x, y in loader:
    for x, y in val_loader:  # <-
        print(x)
    if True:
{_STEP}""",
    ),
)
