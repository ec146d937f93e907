"""A GradScaler is on although autocast runs in bfloat16.

## What it looks like
The logged loss scale doubles every 2,000 steps and hardly ever falls. Now and then a step is skipped because the scale itself
made the gradients overflow.

## Why it matters
Scaling keeps small gradients of float16 from becoming zero: its smallest number is 6e-8. bfloat16 has the range of float32,
1e-38, and nothing is lost without it. The scaler costs a check for infinities, which waits for the GPU, in each step.

## When it is wrong
Scripts that choose the type at run time switch the scaler off by `enabled=`; that is seen, and left alone.

## What repairs it
Remove the scaler, or `GradScaler(enabled=False)`.

## References
PyTorch documentation, torch.amp, Gradient Scaling. Kalamkar et al. 2019, A Study of BFLOAT16 for Deep Learning Training,
arXiv:1905.12322, section 3: no loss scaling is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Sample

if TYPE_CHECKING:
    import ast
    from collections.abc import Iterator

    from traindoctor.code.script import Script
    from traindoctor.rule import Limits

CAUSE = Cause(
    code="TD403",
    name="scaler-with-bfloat16",
    summary="a GradScaler is on although autocast runs in bfloat16",
    explanation=__doc__,
    severity="info",
)


@CAUSE.in_script("GradScaler", "autocast", "bfloat16")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the scalers that are on in a script all of whose autocast blocks are in bfloat16."""
    blocks = [call for call in script.calls.get("autocast", ()) if script.constant(script.argument(call, "enabled")) is not False]
    if not blocks or not all(_is_bfloat16(script, block) for block in blocks) or not script.calls.get("scale"):
        return
    for call in script.calls.get("GradScaler", ()):
        enabled = script.argument(call, "enabled")
        if (enabled is None and not script.open_ended(call)) or script.constant(enabled) is True:
            yield Mistake(
                script.place(call),
                f"This GradScaler is on, and autocast runs in bfloat16 (line {blocks[0].lineno}). "
                "bfloat16 has the range of float32: scaling gains nothing, and costs a check for infinities in each step.",
                "Remove the scaler, or build it with enabled=False",
                related=((script.place(blocks[0]), "bfloat16 is chosen here"),),
            )


def _is_bfloat16(script: Script, block: ast.Call) -> bool:
    dtype = script.argument(block, "dtype", 1)
    return dtype is not None and script.dotted(script.origin(dtype)) == "torch.bfloat16"


CAUSE.valid_code = (
    Sample(
        "float16 by default",
        """\
import torch
scaler = torch.amp.GradScaler()
with torch.autocast("cuda"):
    loss = model(x)
scaler.scale(loss).backward()
""",
    ),
    Sample(
        "on for float16 alone",
        """\
import torch
dtype = "bfloat16"
scaler = torch.cuda.amp.GradScaler(enabled=(dtype == "float16"))
with torch.autocast("cuda", dtype=torch.bfloat16):
    loss = model(x)
scaler.scale(loss).backward()
""",
    ),
    Sample(
        "off",
        """\
import torch
scaler = torch.amp.GradScaler("cuda", enabled=False)
with torch.autocast("cuda", dtype=torch.bfloat16):
    loss = model(x)
scaler.scale(loss).backward()
""",
    ),
    Sample(
        "the type is chosen at run time",
        """\
import torch
dtype = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
scaler = torch.amp.GradScaler()
with torch.autocast("cuda", dtype=dtype):
    loss = model(x)
scaler.scale(loss).backward()
""",
    ),
    Sample(
        "bfloat16 in the evaluation only",
        """\
import torch
scaler = torch.amp.GradScaler()
with torch.autocast("cuda", dtype=torch.float16):
    loss = model(x)
scaler.scale(loss).backward()
with torch.autocast("cuda", dtype=torch.bfloat16):
    predict(x)
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "by keyword",
        """\
import torch
scaler = torch.amp.GradScaler("cuda")  # <-
for x, y in loader:
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
""",
    ),
    Sample(
        "by position and name",
        """\
import torch
from torch.cuda.amp import GradScaler
dtype = torch.bfloat16
scaler = GradScaler(init_scale=1024.0, enabled=True)  # <-
with torch.autocast("cuda", dtype):
    loss = model(x)
scaler.scale(loss).backward()
""",
    ),
)
