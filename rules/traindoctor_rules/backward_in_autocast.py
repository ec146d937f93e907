"""The backward pass runs inside the autocast block.

## What it looks like
Nothing, most of the time: the operations of the backward pass run in the type that autocast chose for the forward ones. What the
block adds is the casting of whatever else stands in it, such as a gradient penalty or a custom backward function.

## Why it matters
PyTorch does not recommend it: the block is to wrap the forward pass and the loss. Code of one's own that runs in the backward
pass gets other types than it was written for.

## When it is wrong
Backward passes that stand there on purpose, for a second derivative.

## What repairs it
Close the block after the loss, and call `backward()` outside of it.

## References
PyTorch documentation, torch.amp, Autocasting: "Backward passes under autocast are not recommended."
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script
    from traindoctor.rule import Limits

CAUSE = Cause(
    code="TD404",
    name="backward-in-autocast",
    summary="the backward pass runs inside the autocast block",
    explanation=__doc__,
    severity="info",
)


@CAUSE.in_script("autocast", "backward")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the backward passes whose innermost autocast block is on."""
    for call in script.calls.get("backward", ()):
        block = _autocast_around(script, call)
        if block is not None and isinstance(call.func, ast.Attribute):
            yield Mistake(
                script.place(call),
                f"This backward pass runs inside the autocast block of line {block.lineno}. "
                "PyTorch does not recommend it: the backward pass takes the types of the forward pass by itself.",
                "End the autocast block after the loss is computed, and call backward() outside of it",
                related=((script.place(block), "the block begins here"),),
            )


def _autocast_around(script: Script, call: ast.Call) -> ast.Call | None:
    """Return the innermost autocast of the blocks of the same function around a call, where it is not switched off."""
    for node in script.above(call):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return None
        if isinstance(node, ast.With | ast.AsyncWith):
            for item in node.items:
                opened = item.context_expr
                if isinstance(opened, ast.Call) and script.dotted(opened.func).rpartition(".")[2] == "autocast":
                    return None if script.constant(script.argument(opened, "enabled")) is False else opened
    return None


CAUSE.valid_code = (
    Sample(
        "forward only",
        """\
for x, y in loader:
    with torch.autocast("cuda"):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
""",
    ),
    Sample(
        "switched off",
        """\
for x, y in loader:
    with torch.autocast("cuda"):
        loss = criterion(model(x), y)
        with torch.autocast("cuda", enabled=False):
            loss.float().backward()
""",
    ),
    Sample(
        "in another function",
        """\
with autocast():
    def closure():
        loss = criterion(model(x), y)
        loss.backward()
        return loss
optimizer.step(closure)
""",
    ),
    Sample(
        "another block",
        """\
with accelerator.accumulate(model):
    with accelerator.autocast():
        loss = model(x)
    accelerator.backward(loss)
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "the whole step",
        """\
for x, y in loader:
    with torch.cuda.amp.autocast():
        loss = criterion(model(x), y)
        scaler.scale(loss).backward()  # <-
        scaler.step(optimizer)
        scaler.update()
""",
    ),
    Sample(
        "bfloat16",
        """\
from torch import autocast
for x, y in loader:
    with autocast(device_type="cuda", dtype=torch.bfloat16), profile():
        loss = criterion(model(x), y)
        if train:
            loss.backward()  # <-
    optimizer.step()
""",
    ),
    Sample(
        "accelerate",
        """\
with accelerator.autocast():
    loss = model(x).loss
    accelerator.backward(loss)  # <-
""",
    ),
)
