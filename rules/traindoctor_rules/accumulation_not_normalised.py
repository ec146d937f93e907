"""Gradients of several batches are added up, and the loss of a batch mean is not divided by their number.

## What it looks like
A run with accumulation that behaves as if its learning rate were multiplied by the number of accumulated batches: under SGD the
update is that many times larger. Adam hides it, but weight decay, epsilon and clipping see gradients of another size.

## Why it matters
`backward()` adds to `.grad`. The mean over k batches is the sum of their means divided by k.

## When it is wrong
A loss that is a sum, gradients that are divided later, or a learning rate that was tuned with the sum. This is a hint, no
proof.

## What repairs it
`(loss / k).backward()`.

## References
PyTorch documentation, Automatic Mixed Precision examples, "Gradient accumulation" (loss divided by iters_to_accumulate).
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

    from traindoctor.code.events import TracedEvent
    from traindoctor.code.script import Script
    from traindoctor.rule import Limits

CAUSE = Cause(
    code="TD307",
    name="accumulation-not-normalised",
    summary="gradients are accumulated, and the loss is not divided by their number",
    severity="info",
    explanation=__doc__,
)


#: Words of a file whose losses are sums, or are divided elsewhere.
_ELSEWHERE = ("sum", "gradient_accumulation_steps=", "deepspeed", "num_items_in_batch")


@CAUSE.in_script("backward(", "%", "step(")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the backward passes of accumulated losses that nothing divides."""
    if any(f"reduction={quote}sum" in script.text for quote in "'\"") or any(word in script.text for word in _ELSEWHERE[1:]):
        return
    for found in accumulations(script):
        first = found.passes[0]
        if first.script is script and len(found.passes) == 1 and not _is_divided(script, first):
            yield Mistake(
                place(script, first),
                f"`{text_of_call(first)}` adds to the gradients of the batches before, and its loss is not divided "
                f"by their number. "
                "The update is as large as if the learning rate were that many times higher.",
                "Divide the loss by the number of accumulated batches",
                related=((script.place(found.test), "steps only then"),),
            )


def _is_divided(script: Script, event: TracedEvent) -> bool:
    """Return whether the loss, or what it is made of, is divided, multiplied or summed."""
    if event.loss is None:
        return True
    node = event.loss.node
    values = [node, *(v for v in script.bound(node) if v is not None)]
    if None in script.bound(node) and isinstance(node, ast.Name):
        values += [
            ast.BinOp(aug.target, aug.op, aug.value)
            for aug in script.nodes.get(ast.AugAssign, ())
            if isinstance(aug, ast.AugAssign) and isinstance(aug.target, ast.Name) and aug.target.id == node.id
        ]
        if not any(isinstance(v, ast.BinOp) for v in values):
            return True
    return any(
        (isinstance(n, ast.BinOp) and isinstance(n.op, ast.Div | ast.Mult))
        or (isinstance(n, ast.Attribute) and n.attr in ("sum", "div", "mul"))
        for value in values
        for n in ast.walk(value)
    )


_HEAD = """import torch
model = torch.nn.Linear(1, 1)
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
_STEP = "    if (i + 1) % 4 == 0:\n        opt.step()\n        opt.zero_grad()\n"
CAUSE.valid_code = (
    Sample("divided", _HEAD + "for i, x in enumerate(dl):\n    loss = model(x).mean() / 4\n    loss.backward()\n" + _STEP),
    Sample(
        "divided in place", _HEAD + "for i, x in enumerate(dl):\n    loss = f(x)\n    loss /= 4\n    loss.backward()\n" + _STEP
    ),
    Sample("divided at the pass", _HEAD + "for i, x in enumerate(dl):\n    loss = f(x)\n    (loss / 4).backward()\n" + _STEP),
    Sample(
        "a sum",
        _HEAD + "loss_of = torch.nn.MSELoss(reduction='sum')\nfor i, x in enumerate(dl):\n    loss = loss_of(model(x), x)\n"
        "    loss.backward()\n" + _STEP,
    ),
    Sample(
        "accelerate divides",
        _HEAD + "for i, x in enumerate(dl):\n    with accelerator.accumulate(model):\n        loss = f(x)\n"
        "        accelerator.backward(loss)\n        opt.step()\n        opt.zero_grad()\n",
    ),
    Sample(
        "no accumulation", _HEAD + "for x in dl:\n    opt.zero_grad()\n    loss = f(x)\n    loss.backward()\n    opt.step()\n"
    ),
)
CAUSE.invalid_code = (
    Sample(
        "mean of a batch",
        _HEAD + "for i, x in enumerate(dl):\n    loss = f(model(x), x)\n    loss.backward()  # <-\n" + _STEP,
    ),
    Sample(
        "GradScaler",
        _HEAD + "scaler = torch.amp.GradScaler()\nfor i, x in enumerate(dl):\n    with torch.autocast('cuda'):\n"
        "        loss = f(model(x), x)\n    scaler.scale(loss).backward()  # <-\n    if i % 4 == 3:\n        scaler.step(opt)\n"
        "        scaler.update()\n        opt.zero_grad()\n",
    ),
)
