"""Gradients are clipped while they still carry the loss scale: the limit is 65536 times too small.

## What it looks like
Training under float16 is slow, or stops, as if the learning rate were tiny: under SGD the update is the limit divided by the
scale, and under Adam all that the size of a gradient said is lost. The logged gradient norm is tens of thousands.

## Why it happens
`scaler.scale(loss).backward()` leaves gradients that are multiplied by the scale, 65536 at first. `scaler.step(optimizer)`
divides them again, after the clipping. A limit of 1.0 is then one of 1.5e-5.

## When it is wrong
A norm that is only measured (`max_norm=inf`) is left alone, and so is a scaler that is switched off. accelerate and Fabric
unscale in their own `clip_grad_norm_` and `clip_gradients`. A norm that is logged before the unscaling carries the scale too,
and the clip may still be right: the pace of the run, and the order in the script, decide.

## What repairs it
`scaler.unscale_(optimizer)` before the clipping; `scaler.step` then does not divide a second time.

## References
PyTorch documentation, Automatic Mixed Precision examples, "Gradient clipping"; torch.amp.GradScaler: init_scale 65536.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.edits import line_before
from traindoctor.code.scaler import (
    by_hand,
    is_on,
    iterations,
    meet,
    passes_before,
    scaler_of,
    scaler_that_steps,
    unscaled_before,
)
from traindoctor.mistake import Mistake, Repair
from traindoctor.rule import (
    MODERATE,
    PROOF,
    STRONG,
    WEAK,
    Cause,
    Example,
    Sample,
    Statement,
    Threshold,
    against,
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.code.events import TracedEvent
    from traindoctor.code.script import Script
    from traindoctor.model import Evidence, Fix, Run
    from traindoctor.rule import Examples, Limits
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD310",
    name="clip-before-unscale",
    summary="gradients are clipped while they still carry the loss scale",
    explanation=__doc__,
    thresholds=(
        Threshold("carried", 0.7, "jump of log gradient norm over that of the log scale", "1 for a norm that carries the scale"),
        Threshold("free", 0.3, "jump of log gradient norm over that of the log scale", "0 for a norm without the scale"),
        Threshold("large", 100.0, "gradient norm over its bound, median", STUDY),
        Threshold("norm", 1000.0, "gradient norm, median; usual ones are 0.01 to 100", STUDY),
        Threshold("slow", 0.5, "loss at the end over the initial one", STUDY),
        Threshold("usual", 0.3, "learning rate of SGD over the usual one, momentum counted, that is not low", STUDY),
        Threshold("low", 0.2, "loss at the end over the initial one of a run that got down", STUDY),
    ),
    explains=("TD202", "TD318"),
    look_alikes=("TD318", "TD202"),
    experiment="log the gradient norm behind scaler.unscale_(optimizer)",
    refutation="A gradient norm that does not jump where the loss scale does.",
)

#: Above it a limit on the norm is no limit.
_NO_LIMIT = 1e8


@CAUSE.in_logs(needs=("loss", "grad_norm"))
def carries_the_scale(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a gradient norm that goes along with the loss scale, and is far above the bound that it is clipped at."""
    from traindoctor.signals.gradients import carried_scale, clipping

    grad = m.grad_norm
    bound = m.setting("gradient.clip_norm")
    clip = clipping(grad.value, float(bound)) if isinstance(bound, int | float) and bound > 0.0 else None
    carried, n = (
        carried_scale(grad.step, grad.value, m.series("loss_scale").step, m.series("loss_scale").value)
        if m.has("loss_scale")
        else (float("nan"), 0)
    )
    if n and carried < limits["free"]:
        yield against(
            "carried",
            carried,
            unit="of the jump of the scale",
            weight=PROOF,
            source=grad.source,
            text="The gradient norm does not go along with the loss scale.",
        )
        return
    if clip is None or clip.is_pinned or not clip.left < 1.0 / limits["large"]:
        return
    if n and carried > limits["carried"]:
        yield supports(
            "carried",
            carried,
            unit="of the jump of the scale",
            weight=STRONG + WEAK if n > 1 else STRONG,
            onset=0,
            source=f"{grad.source} and {m.series('loss_scale').source}",
            text=f"Where the loss scale changes, {n} times, the gradient norm goes along: it was taken before unscaling.",
        )
    if grad.tail > limits["norm"] and grad.initial > limits["norm"] / 10.0 and _is_scaled(m):
        yield supports(
            "norm",
            grad.tail,
            unit="gradient norm",
            weight=STRONG,
            onset=0,
            source=grad.source,
            text=f"Under a loss scale the norm is {grad.tail:,.0f}, {1.0 / clip.left:,.0f} times its bound of {clip.bound:g}.",
        )


@CAUSE.in_logs(needs=("loss", "gradient.clip_norm"))
def crawls(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield what the loss says of the pace, where a loss scale and a clip meet."""
    loss = m.loss
    if m.is_adversarial or not loss.is_positive or loss.n < 8 or not loss.initial > 0.0 or not _is_scaled(m):
        return
    left = loss.tail / loss.initial
    if left < limits["low"]:
        yield against(
            "low", left, unit="tail / initial loss", weight=MODERATE, source=loss.source, text="The loss got down well."
        )
    elif left > limits["slow"]:
        yield supports(
            "slow",
            left,
            unit="tail / initial loss",
            weight=MODERATE,
            onset=0,
            source=loss.source,
            text=f"With a loss scale and a clip together, the loss is still at {left:.0%} of its start.",
        )
        ratio, spec = m.rate_ratio, m.run.optimizer
        if spec is not None and not spec.is_adaptive and ratio is not None and ratio > limits["usual"]:
            yield supports(
                "rate",
                m.peak_lr,
                weight=MODERATE,
                kind="config",
                source=m.lr_source,
                text=f"A rate of {m.peak_lr:.3g} is not low for SGD, whose steps such a clip shortens by the scale.",
            )


def _is_scaled(m: Measurements) -> bool:
    """Return whether the run has a loss scale: logged, or by its precision."""
    return m.has("loss_scale") or str(m.setting("precision")).lower() in _HALF


#: Names of the precision that needs a loss scale.
_HALF = frozenset({"16", "16-mixed", "fp16", "float16", "half", "amp", "mixed", "mixed_float16"})


@CAUSE.fixes
def unscale(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the call that is missing."""
    from traindoctor.model import Fix

    yield Fix("Call scaler.unscale_(optimizer) before clip_grad_norm_()", note="scaler.step() then does not divide a second time")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    steps = [int(s.step[-1]) for s in m.run.primary.values() if len(s)]
    return Statement(
        "Training crawled: gradients were clipped while they still carried the loss scale.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(0, max(steps, default=0) + 1, 0),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    from traindoctor.model import OptimizerSpec, Setting

    def clipped(run: Run, bound: float) -> Run:
        return replace(run, settings={**run.settings, "gradient.clip_norm": Setting(bound, "example")})

    sgd = OptimizerSpec("sgd", lr=0.1, momentum=0.0)
    crawl = [2.3 - 0.001 * k for k in range(200)]
    falls = [2.3 * 0.97**k + 0.02 for k in range(200)]
    scale = [16384.0 * 2.0 ** (k // 50) for k in range(200)]
    norm = [1.0 + 0.1 * ((k * 7) % 11) for k in range(200)]
    carried = [a * b for a, b in zip(norm, scale, strict=True)]
    valid = (
        Example("unscaled first", clipped(run_of(sgd, loss=falls, grad_norm=norm, loss_scale=scale), 1.0)),
        Example("no clip", run_of(sgd, loss=falls, grad_norm=carried, loss_scale=scale)),
        Example("no scale", clipped(run_of(sgd, loss=crawl, grad_norm=norm), 0.001)),
        Example("two points", clipped(run_of(sgd, loss=[2.0, 1.0], grad_norm=[1e5, 1e5], loss_scale=[1e4, 2e4]), 1.0)),
    )
    invalid = (
        Example("the norm carries the scale", clipped(run_of(sgd, loss=crawl, grad_norm=carried, loss_scale=scale), 1.0)),
        Example(
            "fp16, a norm of tens of thousands",
            clipped(run_of(sgd, precision="fp16", loss=crawl, grad_norm=[16384.0 * v for v in norm]), 1.0),
        ),
    )
    return valid, invalid


@CAUSE.in_script("scale", "clip_grad", "backward")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the clippings between a scaled backward pass and the step of the scaler, with no unscale_ between."""
    on = is_on(script)
    if on is False or any(script.calls.get(name) for name in ("unscale_gradients", "unscale")):
        return
    for loop, events in iterations(script):
        if by_hand(loop):
            continue
        for at, clip in enumerate(events):
            if clip.kind != "clip" or not _clips(clip) or unscaled_before(events, at):
                continue
            passes = passes_before(events, at)
            step = next((e for e in events[at:] if scaler_that_steps(e) is not None and meet(e, clip)), None)
            if step is None or not passes or not all(scaler_of(e) is not None for e in passes):
                continue
            yield Mistake(
                script.place(clip.node if clip.script is script else clip.via),
                "The gradients are clipped before they are unscaled. They are multiplied by the loss scale, 65536 at first: "
                "the limit is that many times too small.",
                "Call scaler.unscale_(optimizer) before the clipping",
                severity="error" if on else "warning",
                repair=_unscale_first(script, clip, step),
                related=((passes[0].script.place(passes[0].node), "the loss is scaled here"),),
            )


def _clips(event: TracedEvent) -> bool:
    """Return whether a call is one of PyTorch's functions that clip, with a limit that is one."""
    call, script = event.node, event.script
    if not isinstance(call, ast.Call):
        return False
    owner = script.dotted(call.func).rpartition(".")[0]
    if owner and owner.split(".")[0] not in ("torch", "nn", "utils", "clip_grad"):
        return False
    limit = script.argument(call, "max_norm", 1) or script.argument(call, "clip_value", 1)
    if limit is None:
        return True
    value = script.constant(limit)
    named_inf = isinstance(limit, ast.Attribute) and limit.attr in ("inf", "Inf", "infty")
    return not named_inf and not (isinstance(value, int | float) and value >= _NO_LIMIT)


def _unscale_first(script: Script, clip: TracedEvent, step: TracedEvent) -> Repair | None:
    """Return the line that is missing, where the scaler and the optimizer go by the same names at the clipping."""
    call = step.node
    if clip.script is not script or step.script is not script or not isinstance(call, ast.Call):
        return None
    scaler = scaler_that_steps(step)
    statement = script.statement(clip.node)
    if scaler is None or script.function(clip.node) is not script.function(call):
        return None
    line = line_before(script, statement, f"{script.source(scaler)}.unscale_({script.source(call.args[0])})")
    return Repair("Unscale the gradients before they are clipped", (line,), safe=True) if line is not None else None


CAUSE.valid_code = (
    Sample(
        "unscaled first",
        """\
for x, y in loader:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
""",
    ),
    Sample(
        "unscaled under the same condition, after micro-batches",
        """\
for step in range(1000):
    for micro in range(8):
        loss = model(x) / 8
        scaler.scale(loss).backward()
    if grad_clip != 0.0:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
""",
    ),
    Sample(
        "the scaler is off",
        """\
import torch
scaler = torch.amp.GradScaler(enabled=False)
for x, y in loader:
    scaler.scale(model(x)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
""",
    ),
    Sample(
        "a norm that is only measured",
        """\
for x, y in loader:
    scaler.scale(model(x)).backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=float("inf"))
    scaler.step(optimizer)
    scaler.update()
""",
    ),
    Sample(
        "two branches",
        """\
for x, y in loader:
    optimizer.zero_grad()
    if use_amp:
        scaler.scale(model(x)).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
    else:
        model(x).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
""",
    ),
    Sample(
        "accelerate unscales by itself",
        """\
for x, y in loader:
    loss = scaler.scale(model(x))
    accelerator.backward(loss)
    accelerator.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
""",
    ),
    Sample(
        "Fabric",
        """\
for x, y in loader:
    fabric.backward(model(x))
    fabric.clip_gradients(model, optimizer, max_norm=1.0)
    optimizer.step()
print(scale)
""",
    ),
    Sample(
        "unscaled in a function",
        """\
def prepare():
    scaler.unscale_(optimizer)
for x, y in loader:
    scaler.scale(model(x)).backward()
    prepare()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
""",
    ),
    Sample(
        "a wrapper of the scaler",
        """\
class NativeScaler:
    def __init__(self):
        self._scaler = torch.cuda.amp.GradScaler()
    def __call__(self, loss, optimizer, clip_grad=None, parameters=None):
        self._scaler.scale(loss).backward()
        if clip_grad is not None:
            self._scaler.unscale_(optimizer)
            torch.nn.utils.clip_grad_norm_(parameters, clip_grad)
        self._scaler.step(optimizer)
        self._scaler.update()
""",
    ),
    Sample(
        "unscaled by hand",
        """\
for x, y in loader:
    scaler.scale(model(x)).backward()
    for p in model.parameters():
        p.grad = p.grad / scaler.get_scale()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
""",
    ),
    Sample(
        "clipped in another phase, before the scaled pass",
        """\
for x, y in loader:
    d_loss(x).backward()
    torch.nn.utils.clip_grad_norm_(D.parameters(), 1.0)
    opt_d.step()
    scaler.scale(g_loss(x)).backward()
    scaler.step(opt_g)
    scaler.update()
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "no unscale_",
        """\
import torch
scaler = torch.cuda.amp.GradScaler()
for x, y in loader:
    optimizer.zero_grad()
    with torch.autocast("cuda"):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # <-
    scaler.step(optimizer)
    scaler.update()
""",
        fixed="""\
import torch
scaler = torch.cuda.amp.GradScaler()
for x, y in loader:
    optimizer.zero_grad()
    with torch.autocast("cuda"):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # <-
    scaler.step(optimizer)
    scaler.update()
""",
    ),
    Sample(
        "unscale_ after the clipping",
        """\
from torch.nn.utils import clip_grad_norm_
for x, y in loader:
    scaler.scale(model(x)).backward()
    clip_grad_norm_(model.parameters(), args.clip)  # <-
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
""",
    ),
    Sample(
        "by value, in a class",
        """\
import torch.nn as nn
class Trainer:
    def __init__(self, model):
        self.optimizer = Adam(model.parameters())
        self.scaler = torch.amp.GradScaler("cuda")
    def step(self, batch):
        loss = self.model(batch)
        self.scaler.scale(loss).backward()
        nn.utils.clip_grad_value_(self.model.parameters(), 0.5)  # <-
        self.scaler.step(self.optimizer)
        self.scaler.update()
""",
        fixed="""\
import torch.nn as nn
class Trainer:
    def __init__(self, model):
        self.optimizer = Adam(model.parameters())
        self.scaler = torch.amp.GradScaler("cuda")
    def step(self, batch):
        loss = self.model(batch)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_value_(self.model.parameters(), 0.5)  # <-
        self.scaler.step(self.optimizer)
        self.scaler.update()
""",
    ),
    Sample(
        "under a condition, with accumulation",
        """\
for i, (x, y) in enumerate(loader):
    scaler.scale(model(x) / 4).backward()
    if (i + 1) % 4 == 0:
        if args.clip > 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)  # <-
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
""",
    ),
    Sample(
        "one of two branches",
        """\
for x, y in loader:
    optimizer.zero_grad()
    if use_amp:
        scaler.scale(model(x)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # <-
        scaler.step(optimizer)
        scaler.update()
    else:
        model(x).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
""",
    ),
    Sample(
        "in a function",
        """\
import torch
def clip(model):
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # <-
def train(model, optimizer, scaler):
    for x, y in loader:
        scaler.scale(model(x)).backward()
        clip(model)
        scaler.step(optimizer)
        scaler.update()
""",
    ),
    Sample(
        "on by a flag",
        """\
import torch
scaler = torch.cuda.amp.GradScaler(enabled=args.amp)
for x, y in loader:
    scaler.scale(model(x)).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # <-
    scaler.step(optimizer)
    scaler.update()
""",
    ),
)
