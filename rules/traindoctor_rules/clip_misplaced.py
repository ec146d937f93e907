"""Gradients are clipped where that has no effect: after the step, or before the backward pass.

## What it looks like
A limit on the gradient norm that limits nothing: spikes of the loss that clipping was to prevent, update sizes above the limit.

## Why it happens
`loss.backward(); optimizer.step(); clip_grad_norm_(...)`: the step has used the gradients as they were, and `zero_grad` clears
what was clipped. Clipping between `zero_grad` and `backward` clips gradients that are not there yet.

## When it is wrong
A call that measures the norm (`max_norm=inf`), or one beside another that clips in time, is left alone.

## What repairs it
The clipping between the backward pass and the step; with a GradScaler after `scaler.unscale_(optimizer)`.

## References
PyTorch documentation, torch.nn.utils.clip_grad_norm_; Automatic Mixed Precision examples, "Gradient clipping".
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.events import TracedEvent
from traindoctor.code.order import clip_moved, clipped_idle, text_of_call, wrong_in
from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script
    from traindoctor.rule import Limits

CAUSE = Cause(
    code="TD309",
    name="clip-misplaced",
    summary="gradients are clipped after the step, or before the backward pass",
    explanation=__doc__,
)


@CAUSE.in_script("clip", "backward(|.step(|optimizer_step(")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the clippings of gradients that the step has seen already, or that are not there yet."""
    for wrong, where in wrong_in(script, clipped_idle):
        clip = wrong.event
        if not isinstance(clip, TracedEvent) or _measures(clip):
            continue
        events = wrong.loop.events
        kinds = [e.kind for e in events[: next(i for i, e in enumerate(events) if e is clip)]]
        late = any(kind in ("backward", "step") for kind in kinds)
        found = "after the step has used them" if late else "before the backward pass computes them"
        yield Mistake(
            where,
            f"`{text_of_call(clip)}` clips the gradients {found}. The clipping has no effect on training.",
            "Clip between the backward pass and the step",
            repair=clip_moved(script, wrong),
        )


def _measures(clip: TracedEvent) -> bool:
    """Return whether the limit is infinite, or so high that the call is there for the norm it gives back."""
    call = clip.node
    if not isinstance(call, ast.Call):
        return True
    given = next((k.value for k in call.keywords if k.arg in ("max_norm", "clip_value")), None)
    limit = given if given is not None else call.args[1] if len(call.args) > 1 else None
    if limit is None:
        return False
    value = clip.script.constant(limit)
    return (isinstance(value, int | float) and value >= 1e6) or "inf" in clip.script.source(limit)


_HEAD = """import torch
from torch.nn.utils import clip_grad_norm_
model = torch.nn.Linear(1, 1)
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
_CLIP = "clip_grad_norm_(model.parameters(), 1.0)"
CAUSE.valid_code = (
    Sample(
        "in its place, behind a call that clears too late",
        """\
import torch
opt = torch.optim.Adam(model.parameters())
for x in loader:
    model(x).mean().backward()
    opt.zero_grad()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
""",
    ),
    Sample("in time", _HEAD + f"for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    {_CLIP}\n    opt.step()\n"),
    Sample(
        "measured after the step",
        _HEAD + "for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    opt.step()\n"
        "    norm = clip_grad_norm_(model.parameters(), float('inf'))\n",
    ),
    Sample(
        "clipped in time, measured after the step",
        _HEAD + f"for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    {_CLIP}\n    opt.step()\n    print({_CLIP})\n",
    ),
    Sample(
        "accumulation",
        _HEAD + "for i, x in enumerate(dl):\n    model(x).backward()\n    if i % 4 == 3:\n"
        f"        {_CLIP}\n        opt.step()\n        opt.zero_grad()\n",
    ),
    Sample(
        "each micro-batch is clipped",
        _HEAD + "for x in dl:\n    opt.zero_grad()\n    for part in x.chunk(4):\n        model(part).backward()\n"
        f"        {_CLIP}\n    opt.step()\n",
    ),
    Sample(
        "of another network",
        "import torch\nopt_g = torch.optim.Adam(G.parameters())\nopt_d = torch.optim.Adam(D.parameters())\nfor x in dl:\n"
        "    opt_d.zero_grad()\n    D(x).backward()\n    torch.nn.utils.clip_grad_norm_(D.parameters(), 1.0)\n    opt_d.step()\n"
        "    opt_g.zero_grad()\n    D(G(x)).backward()\n    torch.nn.utils.clip_grad_norm_(G.parameters(), 1.0)\n"
        "    opt_g.step()\n",
    ),
    Sample(
        "weights of a critic are clamped after the step",
        _HEAD + "for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    opt.step()\n    for p in model.parameters():\n"
        "        p.data.clamp_(-0.01, 0.01)\n",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "in one branch",
        """\
import torch
def train(model, loader, optimizer, scaler):
    for x in loader:
        loss = model(x).mean()
        optimizer.zero_grad()
        if scaler is not None:
            scaler.scale(loss).backward()
            scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            optimizer.step()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # <-
""",
    ),
    Sample(
        "after the step",
        _HEAD + f"for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    opt.step()\n    {_CLIP}  # <-\n",
        fixed=_HEAD + f"for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    {_CLIP}  # <-\n    opt.step()\n",
    ),
    Sample(
        "before the backward pass",
        _HEAD + f"for x in dl:\n    opt.zero_grad()\n    {_CLIP}  # <-\n    model(x).backward()\n    opt.step()\n",
        fixed=_HEAD + f"for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    {_CLIP}  # <-\n    opt.step()\n",
    ),
    Sample(
        "by value, in a function for one batch",
        "import torch\ndef update(model, optimizer, loss):\n    optimizer.zero_grad()\n    loss.backward()\n"
        "    optimizer.step()\n"
        "    torch.nn.utils.clip_grad_value_(model.parameters(), 0.5)  # <-\n",
    ),
    Sample(
        "GAN, one of two",
        "import torch\nopt_g = torch.optim.Adam(G.parameters())\nopt_d = torch.optim.Adam(D.parameters())\nfor x in dl:\n"
        "    opt_d.zero_grad()\n    D(x).backward()\n    opt_d.step()\n"
        "    torch.nn.utils.clip_grad_norm_(D.parameters(), 1.0)  # <-\n"
        "    opt_g.zero_grad()\n    D(G(x)).backward()\n    opt_g.step()\n",
    ),
    Sample(
        "accelerate",
        "import torch\nfrom accelerate import Accelerator\nacc = Accelerator()\nopt = torch.optim.AdamW(model.parameters())\n"
        "model, opt, dl = acc.prepare(model, opt, dl)\nfor x in dl:\n    opt.zero_grad()\n"
        "    acc.backward(model(x))\n    opt.step()\n"
        "    acc.clip_grad_norm_(model.parameters(), 1.0)  # <-\n",
    ),
)
