"""Gradients are computed and cleared again in each iteration, and the optimizer never steps.

## What it looks like
The weights do not move: weight norm and validation loss are the same to the last bit, while the gradient norm is that of a
network at its start, and stays there.

## Why it happens
`optimizer.step()` is missing, commented out, or named without being called (`optimizer.step`).

## When it is wrong
Code that wants the gradient itself (saliency, adversarial examples) reads `.grad`, and mostly has no optimizer. A step in a
hook, or in a function that could not be followed, is taken for one. In a log an optimizer that holds other parameters (TD311)
looks the same, and is the more frequent cause.

## What repairs it
`optimizer.step()` behind the backward pass.

## References
PyTorch documentation, torch.optim, "Taking an optimization step".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.code.lacking import backward_without_step
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

    from traindoctor.checkpoints.state import State
    from traindoctor.code.script import Script
    from traindoctor.model import Evidence, Fix
    from traindoctor.rule import Examples, Limits
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD305",
    name="backward-without-step",
    summary="gradients are computed and cleared, and the optimizer never steps",
    explanation=__doc__,
    thresholds=(
        Threshold("power", 0.4, "growth of the gradient norm, log over log of the step", "0.5 for a sum of independent ones"),
    ),
    look_alikes=("TD311", "TD302"),
    experiment="count the calls of optimizer.step() over ten iterations",
    refutation="Weights that differ after one step.",
)


@CAUSE.in_logs(needs=("loss",))
def weights_stand_still(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield weights that are the same to the last bit under gradients that are not 0, and do not add up."""
    from traindoctor.signals.gradients import pile_up, stands_still, would_move

    still = stands_still(m)
    if still is None or not would_move(m):
        return
    pile = pile_up(m.grad_norm.step, m.grad_norm.value) if m.has("grad_norm") else None
    if m.has("grad_norm") and m.grad_norm.is_zero:
        yield against("gradient", 0.0, weight=PROOF, source=m.grad_norm.source, text="The gradient is exactly 0.")
    elif pile is not None and pile.power > limits["power"]:
        yield against(
            "piles",
            pile.power,
            unit="log g / log t",
            weight=STRONG + WEAK,
            source=m.grad_norm.source,
            text="The gradients add up: the optimizer that clears them is another one's.",
        )
    yield supports(
        "weights",
        still.value,
        unit=still.words,
        # without a gradient norm nothing tells it from weights that the optimizer does not hold, which are more common
        weight=MODERATE + WEAK if still.quantity == "val_loss" and not m.has("grad_norm") else STRONG + WEAK,
        onset=0,
        source=m.series(still.quantity).source,
        text=f"The {still.words} is the same to the last bit at all {still.n:,} logged points: no step was taken.",
    )


@CAUSE.in_state
def never_stepped(state: State, m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield an optimizer without a state, or one that has stepped."""
    last = state.last
    if not last.optimizers or not all(optimizer.keeps_state for optimizer in last.optimizers):
        return
    counted = [optimizer.step for optimizer in last.optimizers]
    before = state.before
    first = counted[0]
    if (
        before is not None
        and first is not None
        and last.step_source != "optimizer state"
        and before.step != last.step
        and counted == [optimizer.step for optimizer in before.optimizers]
        and state.unmoved == 1.0
    ):
        yield supports(
            "count",
            first,
            unit="steps",
            weight=PROOF,
            kind="state",
            onset=before.step,
            source=last.file,
            text=f"{before.at} and {last.at}: the optimizer has counted {first:,.0f} steps in both, and no weight moved.",
        )
        return
    if any(optimizer.with_state for optimizer in last.optimizers):
        yield against(
            "state",
            sum(len(optimizer.with_state) for optimizer in last.optimizers),
            unit="parameters",
            weight=STRONG,
            kind="state",
            source=last.file,
            text=f"{last.at}: the optimizer has a state, which its first step makes.",
        )
    elif last.step and last.step_source != "optimizer state":
        yield supports(
            "no_state",
            last.step,
            unit="steps",
            weight=STRONG,
            kind="state",
            onset=0,
            source=last.file,
            text=f"{last.at}: the optimizer has no state, which its first step would have made.",
        )


@CAUSE.fixes
def step(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the call that is missing."""
    from traindoctor.model import Fix

    yield Fix("Call optimizer.step() behind the backward pass", note="and see that the optimizer holds the model's parameters")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    steps = [int(s.step[-1]) for s in m.run.primary.values() if len(s)]
    return Statement(
        "Training never started: gradients were computed, and no step moved the weights.",
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
    noisy = [0.5 + 0.05 * ((k * 3) % 7) for k in range(60)]
    valid = (
        Example("weights move", run_of(spec, loss=flat, grad_norm=noisy, weight_norm=[5.0 + 0.01 * k for k in range(60)])),
        Example("gradient of 0", run_of(spec, loss=flat, grad_norm=[0.0] * 60, weight_norm=[5.0] * 60)),
        Example(
            "gradients add up: another optimizer clears",
            run_of(spec, loss=flat, grad_norm=[0.5 * (k + 1) for k in range(60)], weight_norm=[5.0] * 60),
        ),
        Example("flat loss alone", run_of(spec, loss=flat)),
    )
    invalid = (Example("weights to the last bit", run_of(spec, loss=flat, grad_norm=noisy, weight_norm=[5.0123457] * 60)),)
    return (
        (
            *valid,
            Example(
                "a count that moves", run_of(spec, loss=flat), state=state_of(checkpoint_of(30), checkpoint_of(60), same=1.0)
            ),
            Example("stepped by its state", run_of(spec, loss=flat, val_loss=[2.31] * 20), state=state_of(checkpoint_of(60))),
        ),
        (
            *invalid,
            Example(
                "no state, and weights to the last bit",
                run_of(spec, loss=flat, grad_norm=noisy, weight_norm=[5.0123457] * 60),
                state=state_of(checkpoint_of(60, stepped=False)),
            ),
            Example(
                "a state that was loaded, and never stepped since",
                run_of(spec, loss=flat),
                state=state_of(checkpoint_of(30, counted=900.0), checkpoint_of(60, counted=900.0), same=1.0),
            ),
        ),
    )


@CAUSE.in_script("backward(", "grad")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the backward passes whose gradients are cleared without a step of their optimizer."""
    for lack in backward_without_step(script):
        yield Mistake(
            place(script, lack.event),
            f"`{text_of_call(lack.event)}` computes gradients that no step uses: `{lack.zero.target}` never steps. "
            "The weights do not move.",
            f"Call {lack.zero.target}.step() behind the backward pass",
            related=((place(script, lack.zero), "gradients are cleared"),),
        )


_HEAD = """import torch
model = torch.nn.Linear(1, 1)
opt = torch.optim.Adam(model.parameters(), lr=1e-3)
"""
CAUSE.valid_code = (
    Sample("with a step", _HEAD + "for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    opt.step()\n"),
    Sample("saliency", "for x in dl:\n    model.zero_grad()\n    model(x).backward()\n    show(x.grad)\n"),
    Sample(
        "adversarial examples",
        _HEAD + "for x in dl:\n    x.requires_grad_()\n    opt.zero_grad()\n    loss(model(x)).backward()\n"
        "    x = x + 0.1 * x.grad.sign()\n",
    ),
    Sample(
        "GradScaler",
        _HEAD + "scaler = torch.amp.GradScaler()\nfor x in dl:\n    opt.zero_grad()\n    scaler.scale(model(x)).backward()\n"
        "    scaler.step(opt)\n    scaler.update()\n",
    ),
    Sample("xm", _HEAD + "for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    xm.optimizer_step(opt)\n"),
    Sample(
        "in a hook",
        _HEAD + "def hook(p):\n    opt.step()\nfor p in model.parameters():\n    p.register_post_accumulate_grad_hook(hook)\n"
        "for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n",
    ),
    Sample("one step after the loop", _HEAD + "opt.zero_grad()\nfor x in dl:\n    model(x).backward()\nopt.step()\n"),
    Sample(
        "given to a function that is not there",
        _HEAD + "from elsewhere import finish\nfor x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    finish(opt)\n",
    ),
    Sample(
        "stepped in a function of another file",
        _HEAD + "from engine import finish\nfor x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    finish(opt)\n",
        others={"engine.py": "def finish(o):\n    o.step()\n"},
    ),
    Sample(
        "the discriminator is cleared in the turn of the generator",
        "def generator_turn(G, D, dl, opt_g, opt_d):\n    for x in dl:\n        opt_g.zero_grad()\n        opt_d.zero_grad()\n"
        "        D(G(x)).backward()\n        opt_g.step()\n",
    ),
    Sample(
        "a method that is not followed",
        _HEAD + "for x in dl:\n    opt.zero_grad()\n    model(x).backward()\n    runner.optimizer_update()\n",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "gradients are logged, the scaler is updated",
        """\
import torch
optimizer = torch.optim.Adam(model.parameters())
scaler = torch.cuda.amp.GradScaler()
for x in loader:
    loss = model(x).mean()
    optimizer.zero_grad()
    scaler.scale(loss).backward()  # <-
    scaler.update()
    for name, p in model.named_parameters():
        histograms[name] = p.grad.cpu()
""",
    ),
    Sample("missing", _HEAD + "for x in dl:\n    opt.zero_grad()\n    model(x).backward()  # <-\n"),
    Sample(
        "named, not called",
        _HEAD + "for x in dl:\n    opt.zero_grad()\n    loss = model(x)\n    loss.backward()  # <-\n    opt.step\n"
        "    losses.update(loss)\n",
    ),
    Sample(
        "the scheduler steps, the optimizer does not",
        _HEAD
        + "sched = torch.optim.lr_scheduler.StepLR(opt, 10)\nfor x in dl:\n    opt.zero_grad()\n    model(x).backward()  # <-\n"
        "    sched.step()\n",
    ),
    Sample(
        "GAN, one of two",
        "import torch\nopt_g = torch.optim.Adam(G.parameters())\nopt_d = torch.optim.Adam(D.parameters())\nfor x in dl:\n"
        "    opt_d.zero_grad()\n    D(x).backward()  # <-\n    opt_g.zero_grad()\n    D(G(x)).backward()\n    opt_g.step()\n",
    ),
    Sample(
        "accelerate, cleared at the end",
        "import torch\nfrom accelerate import Accelerator\nacc = Accelerator()\nopt = torch.optim.AdamW(model.parameters())\n"
        "model, opt, dl = acc.prepare(model, opt, dl)\nfor x in dl:\n    acc.backward(model(x))  # <-\n    opt.zero_grad()\n",
    ),
    Sample(
        "function with parameters",
        "def train(model, loader, optimizer):\n    for x, y in loader:\n        loss = model(x, y)\n"
        "        optimizer.zero_grad()\n"
        "        loss.backward()  # <-\n",
    ),
)
