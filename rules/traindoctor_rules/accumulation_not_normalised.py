"""Gradients of several batches are added up, and the loss of a batch mean is not divided by their number.

## What it looks like
A run with accumulation that behaves as if its learning rate were multiplied by the number of accumulated batches: under SGD the
update is that many times larger. Adam hides it, but weight decay, epsilon and clipping see gradients of another size. Where the
sum is logged too, the training loss is k times the validation loss from the first evaluation on.

## Why it matters
`backward()` adds to `.grad`. The mean over k batches is the sum of their means divided by k.

## When it is wrong
A loss that is a sum, gradients that are divided later, or a learning rate that was tuned with the sum. This is a hint, no
proof. In a log, a training loss above the validation loss has other causes, dropout and augmentation among them: it must be the
multiple that the settings name, and from the start. A sum that is not logged shows as a rate that is too high alone (TD201).

## What repairs it
`(loss / k).backward()`.

## References
PyTorch documentation, Automatic Mixed Precision examples, "Gradient accumulation" (loss divided by iters_to_accumulate).
Hugging Face transformers, issue 34191: loss and gradients of Trainer scaled with the accumulation steps.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.micro_batches import accumulations
from traindoctor.code.order import place, text_of_call
from traindoctor.mistake import Mistake
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
    code="TD307",
    name="accumulation-not-normalised",
    summary="gradients are accumulated, and the loss is not divided by their number",
    severity="info",
    explanation=__doc__,
    thresholds=(
        Threshold("near", 0.25, "distance of the losses' ratio from the number of passes, over it", STUDY),
        Threshold(
            "exact",
            0.02,
            "distance of the median ratio from a whole number, over it, where no number of passes is known",
            f"{STUDY}: 0.001; a ratio that dropout or augmentation makes lies as near to 3 by chance in 1 of 8 runs",
        ),
        Threshold("first", 0.05, "that of the ratio at the first evaluation, a single one", f"{STUDY}: 0.033"),
        Threshold("evaluations", 8, "evaluations that show a ratio to be constant", "definition: four in the later half"),
        Threshold("most", 12.0, "passes that are taken from a ratio alone", "above it each ratio is near a whole number"),
        Threshold("at_most", 1.4, "the other of the two ratios over the number of passes", STUDY),
        Threshold("at_least", 0.4, "the other of the two ratios over the number of passes", STUDY),
        Threshold("beyond", 12.5, "first loss", "ln C of 260,000 classes, the largest vocabulary in use"),
        Threshold("large", 6.9, "first loss", "ln C of 1,000 classes"),
        Threshold("learnt", 0.1, "tail over first loss", "a model of a vocabulary does not get there"),
        Threshold("alike", 1.3, "training loss over validation loss of a loss that is divided", STUDY),
    ),
    explains=("TD510", "TD511"),
    look_alikes=("TD201", "TD610"),
    experiment="train one step with one pass and with k passes over the same rows: the losses must be equal",
    refutation="A first loss that does not depend on the number of passes.",
)


@CAUSE.in_logs(needs=("loss", "val_loss"))
def losses_are_a_multiple(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a training loss that is as many times the validation loss as there are passes to a step."""
    from traindoctor.signals.gradients import over_validation

    told = m.setting("gradient.accumulation_steps")
    if m.is_adversarial or not m.loss.is_positive:
        return
    val = m.series("val_loss")
    found = over_validation(m.loss.step, m.loss.value, val.step, val.value)
    if found is None:
        return
    first, usual, late = found.first, found.usual, found.late
    passes = float(told) if isinstance(told, int | float) else float(round(late))
    if passes < 2.0:
        return
    source = f"{m.loss.source} and {val.source}"
    nearest, other = sorted((first / passes, usual / passes), key=lambda r: abs(r - 1.0))
    if told is not None:
        both = abs(other - 1.0) < limits["near"]
    else:
        whole = abs(usual / passes - 1.0) < limits["exact"] and abs(first / passes - 1.0) < limits["first"]
        enough = found.n >= limits["evaluations"] and min(first, usual) > (1.0 - limits["first"]) * passes
        constant = enough and found.late_spread < limits["first"] and abs(late / passes - 1.0) < limits["exact"]
        both = (whole or constant) and passes <= limits["most"]
    if both or (told is not None and abs(nearest - 1.0) < limits["near"] and limits["at_least"] < other < limits["at_most"]):
        yield supports(
            "multiple",
            usual,
            unit="training loss over validation loss",
            weight=PROOF if both and told is not None else STRONG + (MODERATE if told is not None else WEAK),
            onset=0,
            source=source,
            text=(f"With {passes:g} passes a step the" if told is not None else "The")
            + f" training loss is {first:.3g} times the validation loss at the first evaluation, {usual:.3g} times in the "
            f"median of the first half and {late:.3g} times in that of the second.",
        )
    elif first < limits["alike"]:
        yield against(
            "alike",
            first,
            unit="training loss over validation loss",
            weight=PROOF if m.run.step_unit == "step" else STRONG,
            source=source,
            text="Training and validation loss are alike at the first evaluation: the logged loss is a mean.",
        )


@CAUSE.in_logs(needs=("loss",))
def starts_at_a_multiple(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a first loss that is ln C times the number of passes, and no ln C of any number of classes itself."""
    told, start = m.setting("gradient.accumulation_steps"), m.start
    if start is None or m.is_adversarial or m.has("val_loss"):
        return
    classes = start.classes_over(told)
    beyond = start.loss > limits["beyond"]
    if classes is None or not (beyond or (start.loss > limits["large"] and m.loss.tail < limits["learnt"] * start.loss)):
        return
    yield supports(
        "start",
        start.loss,
        unit="first loss",
        weight=STRONG + WEAK if beyond else STRONG,
        onset=0,
        source=m.loss.source,
        text=f"With {told} passes a step the first loss is {start.loss:.4g}, near {told} times ln {classes}"
        + (", and above ln C of any number of classes." if beyond else "."),
    )


@CAUSE.fixes
def divide(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the division that is missing."""
    from traindoctor.model import Fix

    yield Fix(
        "Divide the loss of each pass by the number of passes before backward()", note="or lower the learning rate by as much"
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    steps = [int(s.step[-1]) for s in m.run.primary.values() if len(s)]
    return Statement(
        "Losses of accumulated passes were added up and not divided: loss and gradient were that many times too large.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(0, max(steps, default=0) + 1, 0),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    from traindoctor.model import OptimizerSpec, Setting

    def accumulating(run: Run, passes: int) -> Run:
        return replace(run, settings={**run.settings, "gradient.accumulation_steps": Setting(passes, "example")})

    spec = OptimizerSpec("adam", lr=1e-3, eps=1e-8)
    val = [2.3 * 0.99**k + 0.1 for k in range(100)]
    valid = (
        Example("divided", accumulating(run_of(spec, loss=[0.98 * v for v in val], val_loss=val), 4)),
        Example("dropout: above the validation loss", accumulating(run_of(spec, loss=[1.5 * v for v in val], val_loss=val), 4)),
        Example("one pass a step", accumulating(run_of(spec, loss=[4.0 * v for v in val], val_loss=val), 1)),
        Example("three times and a bit, no passes told", run_of(spec, loss=[3.15 * v for v in val], val_loss=val)),
        Example("a sum over 469 batches, no passes told", run_of(spec, loss=[469.0 * v for v in val], val_loss=val)),
        Example("no validation loss", accumulating(run_of(spec, loss=[4.0 * v for v in val]), 4)),
    )
    invalid = (
        Example("four times the validation loss", accumulating(run_of(spec, loss=[4.0 * v for v in val], val_loss=val), 4)),
        Example("exactly three times, no passes told", run_of(spec, loss=[3.0 * v for v in val], val_loss=val)),
        Example("eight times ln 10, no validation loss", accumulating(run_of(spec, loss=[8.0 * v - 0.75 for v in val]), 8)),
    )
    return valid, invalid


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
