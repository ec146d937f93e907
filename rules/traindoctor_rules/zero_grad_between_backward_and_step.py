"""Gradients are cleared between the backward pass and the step: the optimizer never sees one.

## What it looks like
The weights do not move: their norm is the same to the last bit, and the loss changes by the noise of the batches
alone. A gradient norm that is logged after the clearing is exactly 0; one that is logged before it looks normal.

## Why it happens
`loss.backward(); optimizer.zero_grad(); optimizer.step()`: the gradients are thrown away before they are used.

## When it is wrong
Weights that do not move have other causes: an optimizer that holds other parameters (then their gradients pile up,
since nothing clears them), a learning rate of zero, frozen parameters, step() never called. A gradient norm of 0 with
a loss that falls is a log that reads the gradient after it was cleared.

## What repairs it
`optimizer.zero_grad()` before the backward pass, or after the step.

## References
PyTorch documentation, torch.optim, "Taking an optimization step".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.code.order import clear_moved, cleared_late, clears_correctly, text_of_call, wrong_in
from traindoctor.mistake import Mistake
from traindoctor.rule import (
    MODERATE,
    PROOF,
    STRONG,
    WEAK,
    Cause,
    Example,
    Examples,
    Limits,
    Sample,
    Statement,
    Threshold,
    against,
    disproven,
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.checkpoints.state import State
    from traindoctor.code.script import Script
    from traindoctor.model import Evidence, Fix, TrainingLoop
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD302",
    name="zero-grad-between-backward-and-step",
    summary="gradients are cleared before the step: the optimizer never sees one",
    explanation=__doc__,
    thresholds=(
        Threshold("sure", 5.0, "standard errors of a fall of the loss", "chance of noise below 1e-6"),
        Threshold(
            "piles", 0.7, "growth of the gradient norm, log over log of the step", "1 for gradients that are never cleared"
        ),
    ),
    explains=("TD202",),
    look_alikes=("TD204", "TD311", "TD305"),
    experiment="print the gradient norm right before optimizer.step(), and the ids of the optimizer's parameters",
    refutation="A gradient norm above 0 right before optimizer.step().",
)


@CAUSE.in_logs(needs=("loss",))
def nothing_moves(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield exact zeros and exact constants: no threshold is needed."""
    from traindoctor.signals.gradients import pile_up, stands_still

    grad_is_zero = m.has("grad_norm") and m.grad_norm.is_zero
    still = stands_still(m)
    if not grad_is_zero and still is None:
        if m.has("weight_norm") and m.weight_norm.n >= 3:
            yield against(
                "weights", m.weight_norm.relative_change, weight=PROOF, source=m.weight_norm.source, text="The weights move."
            )
        return
    if m.peak_lr is not None and m.peak_lr <= 0.0:
        yield against("rate", m.peak_lr, weight=PROOF, kind="config", source=m.lr_source, text="The learning rate is zero.")
        return
    falls = still is None and m.loss.fall_significance > limits["sure"] and m.loss.tail < 0.95 * m.loss.initial
    if grad_is_zero and not falls:
        yield supports(
            "grad_norm",
            0.0,
            weight=STRONG + MODERATE,
            onset=int(m.grad_norm.step[0]),
            source=m.grad_norm.source,
            text=f"The gradient norm is exactly 0 at all {m.grad_norm.n:,} logged steps.",
        )
    elif grad_is_zero:
        yield against(
            "loss",
            m.loss.tail,
            weight=PROOF,
            source=m.loss.source,
            text="The loss falls: the gradient norm was read after it was cleared.",
        )
        return
    if still is not None:
        # with a gradient that is logged and not 0 an optimizer that holds other parameters is the likelier cause (TD311)
        yield supports(
            "weights",
            still.value,
            unit=still.words,
            weight=STRONG + (MODERATE if grad_is_zero else WEAK),
            onset=0,
            source=m.series(still.quantity).source,
            text=f"The {still.words} is the same to the last bit from first to last step.",
        )
        pile = pile_up(m.grad_norm.step, m.grad_norm.value) if m.has("grad_norm") else None
        if pile is not None and pile.power > limits["piles"]:
            yield against(
                "piles",
                pile.power,
                weight=PROOF,
                source=m.grad_norm.source,
                text="The gradients pile up: nothing clears them, so the optimizer does not hold these parameters.",
            )


@CAUSE.in_code
def cleared(loop: TrainingLoop) -> Iterator[Evidence]:
    """Yield the order that clears the gradients where it should."""
    if clears_correctly(loop):
        yield disproven("cleared", loop.location, "The loop clears the gradients before each backward pass.")


@CAUSE.in_script("backward|grad|optim", "backward(|.step(|optimizer_step(")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the calls that clear between the backward pass and the step."""
    for wrong, where in wrong_in(script, cleared_late):
        yield Mistake(
            where,
            f"`{text_of_call(wrong.event)}` stands between the backward pass and `{text_of_call(wrong.other)}`. "
            "The step sees no gradient, and the weights do not move.",
            "Clear the gradients before the backward pass, or after the step",
            repair=clear_moved(script, wrong),
        )


@CAUSE.in_state
def never_saw_a_gradient(state: State, m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield moments that are all exactly 0 after many steps, or that are not."""
    last = state.last
    stepped = [optimizer for optimizer in last.optimizers if optimizer.with_state]
    if not stepped:
        return
    if all(optimizer.only_zeros for optimizer in stepped):
        yield supports(
            "moments",
            0.0,
            weight=STRONG + MODERATE,
            kind="state",
            onset=0,
            source=last.file,
            text=f"{last.at}: the optimizer has stepped, and every moment of every parameter is exactly 0: no gradient "
            "ever reached it.",
        )
    else:
        yield against(
            "moments",
            max(values.largest for optimizer in stepped for one in optimizer.with_state for values in one.slots.values()),
            weight=PROOF,
            kind="state",
            source=last.file,
            text=f"{last.at}: the optimizer's moments are not 0, so gradients reached it.",
        )


@CAUSE.fixes
def move(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the order that works."""
    from traindoctor.model import Fix

    yield Fix("Move optimizer.zero_grad() before the backward pass")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    steps = [int(s.step[-1]) for s in m.run.primary.values() if len(s)]
    proven = any(e.kind == "code" and e.supports for e in evidence)
    why = (
        "gradients were cleared between backward and step"
        if proven
        else "no gradient reached the optimizer, as when they are cleared before the step"
    )
    return Statement(
        f"Training never started: {why}, and the weights did not move.",
        " ".join(e.text for e in evidence if e.supports),
        Segment(0, max(steps, default=0) + 1, 0),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.checkpoints.examples import checkpoint_of, state_of
    from traindoctor.model import OptimizerSpec

    spec = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    flat = [2.3 + 0.01 * ((k * 7) % 11) for k in range(60)]
    valid = (
        Example("weights move", run_of(spec, loss=flat, grad_norm=[0.5] * 60, weight_norm=[5.0 + 0.001 * k for k in range(60)])),
        Example(
            "norm read after the clearing, loss falls", run_of(spec, loss=[2.3 * 0.9**k for k in range(60)], grad_norm=[0.0] * 60)
        ),
        Example("learning rate of zero", run_of(OptimizerSpec("sgd", lr=0.0), loss=flat, weight_norm=[5.0] * 60)),
        Example(
            "other parameters: gradients pile up",
            run_of(spec, loss=flat, grad_norm=[0.5 * (k + 1) for k in range(60)], weight_norm=[5.0] * 60),
        ),
        Example("flat loss alone decides nothing", run_of(spec, loss=flat)),
    )
    invalid = (
        Example("gradient norm exactly 0", run_of(spec, loss=flat, grad_norm=[0.0] * 60)),
        Example(
            "weights constant to the last bit", run_of(spec, loss=flat, grad_norm=[0.5, 0.6, 0.4] * 20, weight_norm=[5.0] * 60)
        ),
    )
    return (
        (*valid, Example("moments that live", run_of(spec, loss=flat, grad_norm=[0.0] * 60), state=state_of(checkpoint_of(60)))),
        (*invalid, Example("moments of 0", run_of(spec, loss=flat), state=state_of(checkpoint_of(60, zero=True)))),
    )


_HEAD = """import torch
model = torch.nn.Linear(1, 1)
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
_GAN = """import torch
G, D = Generator(), Discriminator()
opt_g = torch.optim.Adam(G.parameters())
opt_d = torch.optim.Adam(D.parameters())
"""
CAUSE.valid_code = (
    Sample("cleared before", _HEAD + "for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    opt.step()\n"),
    Sample("cleared after", _HEAD + "for x in dl:\n    model(x).backward()\n    opt.step()\n    opt.zero_grad()\n"),
    Sample(
        "the other optimizer is cleared between",
        _GAN + "for x in dl:\n    opt_d.zero_grad()\n    D(x).backward()\n    opt_g.zero_grad()\n    opt_d.step()\n"
        "    D(G(x)).backward()\n    opt_g.step()\n",
    ),
    Sample(
        "gradients kept by hand",
        _HEAD + "for x in dl:\n    model(x).backward()\n    gs = average(model)\n    opt.zero_grad()\n"
        "    for p, g in zip(ps, gs):\n        p.grad = g\n    opt.step()\n",
    ),
    Sample(
        "cleared where a loss is not finite",
        _HEAD + "for x in dl:\n    opt.zero_grad()\n    loss = model(x)\n    loss.backward()\n    if not torch.isfinite(loss):\n"
        "        opt.zero_grad()\n        continue\n    opt.step()\n",
    ),
    Sample(
        "sharpness-aware",
        "opt = SAM(m.parameters(), torch.optim.SGD)\nfor x in dl:\n    m(x).backward()\n    opt.first_step(zero_grad=True)\n"
        "    m(x).backward()\n    opt.second_step(zero_grad=True)\n",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "a helper that is in its place once",
        """\
import torch
class Solver:
    def __init__(self):
        self.opt_d = torch.optim.Adam(self.D.parameters())
        self.opt_g = torch.optim.Adam(self.G.parameters())
    def reset(self):
        self.opt_d.zero_grad()
        self.opt_g.zero_grad()
    def train(self, loader):
        for x in loader:
            self.reset()
            self.d_loss(x).backward()
            self.opt_d.step()
            self.g_loss(x).backward()
            self.reset()  # <-
            self.opt_g.step()
""",
    ),
    Sample(
        "in both branches",
        """\
import torch
def train(model, loader, optimizer, scaler):
    for x in loader:
        loss = model(x).mean()
        if scaler is None:
            loss.backward()
            optimizer.zero_grad()  # <-
            optimizer.step()
        else:
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
""",
    ),
    Sample(
        "between",
        _HEAD + "for x in dl:\n    model(x).backward()\n    opt.zero_grad()  # <-\n    opt.step()\n",
        fixed=_HEAD + "for x in dl:\n    opt.zero_grad()  # <-\n    model(x).backward()\n    opt.step()\n",
    ),
    Sample(
        "cleared twice",
        _HEAD + "for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    opt.zero_grad()  # <-\n    opt.step()\n",
    ),
    Sample(
        "through the model",
        _HEAD + "for x in dl:\n    model(x).backward()\n    model.zero_grad()  # <-\n    opt.step()\n",
    ),
    Sample(
        "in a function for one batch",
        "def train_step(model, batch, optimizer):\n    loss = model(batch)\n    loss.backward()\n"
        "    optimizer.zero_grad()  # <-\n"
        "    optimizer.step()\n    return loss.item()\n",
    ),
    Sample(
        "GAN, one of two",
        _GAN + "for x in dl:\n    D(x).backward()\n    opt_d.zero_grad()  # <-\n    opt_d.step()\n    opt_g.zero_grad()\n"
        "    D(G(x)).backward()\n    opt_g.step()\n",
    ),
    Sample(
        "in a helper of another file",
        _HEAD + "from helpers import update\nfor x in dl:\n    model(x).backward()\n    update(opt)  # <-\n",
        others={"helpers.py": "def update(o):\n    o.zero_grad()\n    o.step()\n"},
    ),
)
