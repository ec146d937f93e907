"""The last batches of an epoch are accumulated and never stepped: their gradients leak into the next epoch, or are lost.

## What it looks like
Nothing in the curves. With few batches an epoch, a good part of the data has no effect, or a first step of each epoch is too
large.

## Why it happens
`if (i + 1) % k == 0: optimizer.step()` leaves up to k - 1 batches when their number is no multiple of k.

## When it is wrong
A number of batches that is a multiple of k, or a loop that counts steps and not batches. This is a hint, no proof.

## What repairs it
`if (i + 1) % k == 0 or i + 1 == len(loader):`.

## References
Hugging Face Accelerate documentation, "Performing gradient accumulation" (it steps at the end of the data loader).
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.micro_batches import accumulations
from traindoctor.code.order import place, text_of_call
from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.micro_batches import Accumulation
    from traindoctor.code.script import Script
    from traindoctor.rule import Limits

CAUSE = Cause(
    code="TD308",
    name="partial-accumulation-dropped",
    summary="the last batches of an epoch are accumulated and never stepped",
    severity="info",
    explanation=__doc__,
)


@CAUSE.in_script("backward(", "%", "step(")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the steps of an accumulation that leave a rest at the end of the data."""
    for found in accumulations(script):
        if _over_data(found) and not _ends_too(script, found):
            yield Mistake(
                place(script, found.step),
                f"`{text_of_call(found.step)}` is reached only where `{script.source(found.test)}`. The batches "
                f"after the last such one "
                "are not stepped on before the epoch ends.",
                "Step at the last batch too",
                related=((script.place(found.test), "the condition"),),
            )


def _over_data(found: Accumulation) -> bool:
    """Return whether the loop runs over batches, not over a number of steps."""
    node = found.loop.node
    if not isinstance(node, ast.For | ast.AsyncFor):
        return False
    return not any(isinstance(n, ast.Name) and n.id in ("range", "count", "cycle", "islice") for n in ast.walk(node.iter))


def _ends_too(script: Script, found: Accumulation) -> bool:
    """Return whether the last batch steps by another part of the test, or a step follows the loop."""
    for node in ast.walk(found.test):
        if isinstance(node, ast.Or) or (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "len"):
            return True
    above = found.loop.parent
    events = list(above.flat()) if above is not None else []
    inside = {event.node for event in found.loop.flat()}
    return any(event.kind == "step" and event.node not in inside for event in events)


_HEAD = """import torch
model = torch.nn.Linear(1, 1)
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
_PASS = "    loss = f(x) / 4\n    loss.backward()\n"
_STEP = "        opt.step()\n        opt.zero_grad()\n"
CAUSE.valid_code = (
    Sample(
        "the last batch too",
        _HEAD + "for i, x in enumerate(dl):\n" + _PASS + "    if (i + 1) % 4 == 0 or i + 1 == len(dl):\n" + _STEP,
    ),
    Sample(
        "a step after the loop",
        _HEAD + "for i, x in enumerate(dl):\n" + _PASS + "    if (i + 1) % 4 == 0:\n" + _STEP + "opt.step()\nopt.zero_grad()\n",
    ),
    Sample(
        "steps are counted", _HEAD + "for i in range(400):\n    x = next(it)\n" + _PASS + "    if (i + 1) % 4 == 0:\n" + _STEP
    ),
    Sample("no accumulation", _HEAD + "for x in dl:\n    opt.zero_grad()\n    f(x).backward()\n    opt.step()\n"),
)
CAUSE.invalid_code = (
    Sample(
        "every fourth batch",
        _HEAD
        + "for i, x in enumerate(dl):\n"
        + _PASS
        + "    if (i + 1) % 4 == 0:\n        opt.step()  # <-\n        opt.zero_grad()\n",
    ),
    Sample(
        "the test has a name",
        _HEAD
        + "for i, x in enumerate(dl):\n"
        + _PASS
        + "    due = (i + 1) % 4 == 0\n    if due:\n        opt.step()  # <-\n        opt.zero_grad()\n",
    ),
)
