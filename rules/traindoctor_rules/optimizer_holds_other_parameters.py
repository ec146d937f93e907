"""The optimizer holds other parameters than those that are trained: its steps change nothing that is used.

## What it looks like
The loss stays where it began, without an error; a layer that was put in later stays as it was initialised. The weight norm is
the same to the last bit, and so is the validation loss, while the gradient norm is above 0. Gradients of the model pile up, since
zero_grad() of this optimizer does not reach them: their norm grows like the step count.

## Why it happens
An optimizer holds the parameter objects that it was given. `model = Net()` or `model.fc = nn.Linear(...)` after that line makes
new ones. With two models and two optimizers a name is quickly mistaken.

## When it is wrong
`.to(device)`, `.cuda()`, DistributedDataParallel and torch.compile keep the parameter objects: the order does not matter there.
A model that is built anew for evaluation, after the last step. Encoders that two optimizers share. Layers that were frozen on
purpose have no gradient, or none that is logged. From the log alone a step() that is never called (TD305), and gradients that are
cleared between the norm and the step (TD302), look the same unless the gradients pile up: one look at the loop decides.

## What repairs it
Build the optimizer after the model is complete, of the model that is trained; or tell it of the new parameters with
add_param_group().

## References
PyTorch documentation, torch.optim, "Constructing it".
PyTorch tutorials, Transfer learning for computer vision (the layer is replaced, then the optimizer is built).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.checkpoints.state import State
    from traindoctor.code.script import Script
    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD311",
    name="optimizer-holds-other-parameters",
    summary="the optimizer was given parameters that are not the ones in training",
    explanation=__doc__,
    thresholds=(
        Threshold("power", 0.75, "growth of the gradient norm, log over log of the step", "1 for a sum of equal gradients"),
        Threshold("steepest", 1.3, "growth of the gradient norm, log over log of the step", "1 for a sum of equal gradients"),
        Threshold("grown", 8.0, "last over first gradient norm", STUDY),
        Threshold("scatter", 0.12, "distance of the gradient norm from its power law, in decades", STUDY),
        Threshold("equal", 0.015, "the same distance of gradients that are all equal; 0.026 at least where weights move", STUDY),
        Threshold("moved", 0.01, "relative change of the weight norm", STUDY),
        Threshold("usual", 0.3, "learning rate over the usual one, from which 16 bits do not swallow all updates", STUDY),
        Threshold("fell", 0.95, "lowest loss over the initial one of a run that never fell", STUDY),
        Threshold("sure", 4.0, "standard errors of a fall of the loss", "chance of noise below 1e-4"),
    ),
    explains=("TD202", "TD301", "TD506", "TD612", "TD617"),
    look_alikes=("TD305", "TD302"),
    experiment="compare the ids of model.parameters() with those in optimizer.param_groups",
    refutation="Every parameter of the model is found in the optimizer.",
)


@CAUSE.in_script("optim", "parameters")
def replaced_afterwards(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each model, or layer of it, that is put in another's place after the optimizer was built."""
    from traindoctor.code.holding import name_of, replacements

    for made in script.constructions:
        for one in replacements(made):
            what = script.source(one.node.targets[0])
            yield Mistake(
                script.place(one.node),
                f"{one.model} is given adapters after {name_of(made)} was built, which holds the old parameters, now frozen. "
                "The adapters are never updated."
                if one.what == "adapters"
                else f"{what} is replaced after {name_of(made)} was built, which holds the parameters of the old one. "
                f"The new {one.what} is never updated.",
                f"build {name_of(made)} after this line",
                "error" if one.certain else "warning",
                related=((script.place(made.node), f"{name_of(made)} is built here"),),
            )


@CAUSE.in_script("optim", "parameters", "backward")
def never_run(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each optimizer that is stepped, and holds a model that the script never runs."""
    from traindoctor.code.holding import is_never_run, name_of

    for made in script.constructions:
        model = is_never_run(made)
        if model and made.parameters is not None:
            yield Mistake(
                script.place(made.parameters),
                f"{name_of(made)} holds the parameters of {model}, and {model} is never run with gradients on. "
                "Its parameters get no gradient, and no step changes anything.",
                "give it the parameters of the model that is trained",
                "error",
            )


@CAUSE.in_script("optim", "parameters")
def of_another_model(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each optimizer that is named after one model and holds another's parameters."""
    from traindoctor.code.holding import mixed_up, name_of

    for made, held, meant in mixed_up(script):
        if made.parameters is not None:
            yield Mistake(
                script.place(made.parameters),
                f"{name_of(made)} holds the parameters of {held}, and by its name it is for {meant}. "
                f"Its steps change {held}, after a loss that is meant for {meant}.",
                f"give it {meant}.parameters()",
                "error",
            )


@CAUSE.in_script("optim", "parameters", "backward", "zero_grad")
def after_another_loss(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each optimizer that is stepped after the backward pass of a loss that its model has no part in."""
    from traindoctor.code.holding import name_of, unrelated_loss

    for made in script.constructions:
        backward = unrelated_loss(made)
        if backward is not None and made.parameters is not None:
            model = next(iter(made.models))
            yield Mistake(
                script.place(made.parameters),
                f"{name_of(made)} holds the parameters of {model}, and is stepped after a loss that does not depend on {model}. "
                "They have no gradient then, and the step changes nothing.",
                "give it the parameters of the model that makes the loss",
                "error",
                related=((script.place(backward), "the backward pass before its step"),),
            )


@CAUSE.in_script("optim", "parameters", "requires_grad")
def all_frozen(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each optimizer of a model of which every parameter was frozen before."""
    from traindoctor.code.holding import freezing

    for made in script.constructions:
        frozen = freezing(made)
        if frozen is not None:
            filtered = "filter" in script.source(made.node)
            yield Mistake(
                script.place(made.node),
                f"Every parameter of {next(iter(made.models))} is frozen when its optimizer is built. "
                + (
                    "PyTorch raises ValueError: optimizer got an empty parameter list."
                    if filtered
                    else "None of them gets a gradient, and no step changes anything."
                ),
                "leave some parameters thawed, or replace a layer after the freezing",
                "error",
                related=((script.place(frozen), "they are frozen here"),),
            )


@CAUSE.in_logs(needs=("loss",))
def weights_stand_still(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield weights that are the same to the last bit, where a step would have moved them."""
    from traindoctor.signals.gradients import stands_still, would_move

    still = stands_still(m)
    if still is None:
        return
    if m.has("grad_norm") and m.grad_norm.is_zero:
        yield against(
            "gradient", 0.0, weight=PROOF, source=m.grad_norm.source, text="The gradient is exactly 0: no optimizer could step."
        )
        return
    if m.peak_lr is not None and m.peak_lr <= 0.0:
        yield against("rate", m.peak_lr, weight=PROOF, kind="config", source=m.lr_source, text="The learning rate is zero.")
        return
    if not would_move(m):
        yield against("small", m.peak_lr, weight=STRONG, source=m.lr_source, text="Steps of this size may be lost to rounding.")
        return
    sure = m.has("grad_norm") and m.peak_lr is not None
    yield supports(
        "weights",
        still.value,
        unit=still.words,
        weight=PROOF if sure else STRONG + MODERATE,
        onset=0,
        source=m.series(still.quantity).source,
        text=f"The {still.words} is the same to the last bit at all {still.n:,} logged points, "
        + (f"with gradients of {m.grad_norm.initial:.3g} and a rate of {m.peak_lr:.3g}." if sure else "at a rate that is not 0."),
    )


@CAUSE.in_logs(needs=("loss", "grad_norm"))
def gradients_pile_up(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a gradient norm that grows like the step count, while the loss, or the weights, do not follow."""
    from traindoctor.signals.gradients import pile_up, split_piles

    grad, loss = m.grad_norm, m.loss
    pile = pile_up(grad.step, grad.value) if m.run.step_unit == "step" or grad.n >= 8 else None
    if pile is None or m.is_adversarial or loss.n < 8:
        return
    if m.has("loss_scale") and not m.series("loss_scale").is_constant:
        return  # a norm that carries the loss scale grows with it
    piles = (
        limits["power"] < pile.power < limits["steepest"] and pile.grown > limits["grown"] and pile.scatter < limits["scatter"]
    )
    if not piles:
        if (
            m.has("weight_norm")
            and m.weight_norm.relative_change > limits["moved"]
            and not (m.layers.frozen or split_piles(m.layers))
        ):
            yield against(
                "weights", m.weight_norm.relative_change, weight=STRONG, source=m.weight_norm.source, text="The weights move."
            )
        return
    moved = m.weight_norm.relative_change if m.has("weight_norm") else None
    unmoved = moved is not None and moved < limits["moved"]
    flat = loss.best > limits["fell"] * loss.initial and loss.tail < loss.initial / limits["fell"]
    if unmoved or flat:
        yield supports(
            "piles",
            pile.power,
            unit="log g / log t",
            weight=PROOF if pile.scatter < limits["equal"] else STRONG + (MODERATE if unmoved or moved is None else WEAK),
            onset=0,
            source=grad.source,
            text=f"The gradient norm grows {pile.grown:,.0f} times, as the step count to the power {pile.power:.2f}, and "
            + ("the weights hardly move." if unmoved else "the loss does not move: the optimizer does not use it."),
        )
        if unmoved and moved and not (loss.fall_significance > limits["sure"] and loss.tail < limits["fell"] * loss.initial):
            yield supports(
                "loss",
                loss.tail / loss.initial if loss.initial else None,
                unit="of the first loss",
                weight=WEAK,
                source=loss.source,
                text="The loss is where it began.",
            )


@CAUSE.in_logs(needs=("layers",))
def some_layers_pile_up(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield layers whose gradients add up while those of others do not."""
    from traindoctor.signals.gradients import split_piles

    names = split_piles(m.layers)
    if names:
        named = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        yield supports(
            "split",
            len(names),
            unit="layers",
            weight=STRONG + MODERATE,
            onset=0,
            source=m.layers.source("grad_norm"),
            text=f"{named}: the gradient norm is smooth and grows, while that of other layers does not: nothing clears it.",
        )


@CAUSE.in_logs(needs=("layers",))
def layers_stand_still(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield layers whose weights never move, though they have a gradient, while others move."""
    from traindoctor.signals.gradients import still_with_gradient

    still = still_with_gradient(m.layers)
    if still is None:
        return
    named = ", ".join(still.names[:4]) + (f" and {len(still.names) - 4} more" if len(still.names) > 4 else "")
    usual = m.rate_ratio is not None and m.rate_ratio > limits["usual"]
    yield supports(
        "layers",
        len(still.names),
        unit="layers",
        weight=PROOF if still.piles else STRONG + (MODERATE if usual else 0.0),
        onset=0,
        source=m.layers.source("weight_norm"),
        text=f"{named}: the weights are the same to the last bit, with a gradient that is not 0, while other layers move."
        + (" Nothing clears that gradient: it adds up." if still.piles else ""),
    )


@CAUSE.in_state
def holds_others(state: State, m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield states that belong to no weight, states that were never made, and weights that stand still under a moving state."""
    last, before = state.last, state.before
    for optimizer in last.optimizers if len(last.optimizers) == 1 else ():
        matrices = [shape for shape in optimizer.strangers if len(shape) > 1]
        if matrices and optimizer.orphans:
            yield supports(
                "shapes",
                len(matrices),
                unit="shapes",
                weight=STRONG + MODERATE,
                kind="state",
                source=last.file,
                text=f"{last.at}: the optimizer keeps a state of the shape {matrices[0]}, which no weight has, and none "
                "of the shape "
                f"{optimizer.orphans[0]}, which a weight has.",
            )
        if optimizer.keeps_state and not optimizer.with_state and last.step:
            yield supports(
                "no_state",
                last.step,
                unit="steps",
                weight=STRONG,
                kind="state",
                onset=0,
                source=last.file,
                text=f"{last.at}: the optimizer holds {len(optimizer.held)} parameters and has never stepped one: none of "
                "them had a gradient.",
            )
    moving = [
        optimizer for optimizer in last.optimizers if optimizer.with_state and not optimizer.only_zeros and optimizer.number("lr")
    ]
    if before is not None and state.unmoved == 1.0 and moving and len(moving) == len(last.optimizers):
        counted = [one.step for checkpoint in (before, last) for one in checkpoint.optimizers]
        if None not in counted and len(set(counted)) > 1 and last.weight_dtype in ("float32", "float64"):
            yield supports(
                "weights_equal",
                1.0,
                unit="of the weights",
                weight=PROOF,
                kind="state",
                onset=before.step,
                source=last.file,
                text=f"Every weight of {last.at} is that of {before.at} to the last bit, while the optimizer stepped with "
                "gradients that "
                "are not 0: it moves other tensors than those that were saved.",
            )


@CAUSE.fixes
def hold_the_model(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the optimizer that holds the parameters in training."""
    from traindoctor.model import Fix

    yield Fix(
        "Build the optimizer from the parameters of the model that is trained, after the model is complete",
        note="compare the ids of model.parameters() with those in optimizer.param_groups; see that step() is called, and that "
        "nothing clears the gradients before it",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    steps = [int(s.step[-1]) for s in m.run.primary.values() if len(s)]
    part = any(e.name in ("layers", "split") for e in evidence) and not any(e.name in ("weights", "piles") for e in evidence)
    what = "some layers never moved" if part else "the weights never moved"
    return Statement(
        f"The optimizer stepped on other parameters than those in training, or not at all: {what}.",
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

    def of_layers(still: list[float], moving: list[float]) -> dict[str, Any]:
        """Gradient norms of a first layer that stands still, and of a second one that moves."""
        return {
            "weight_norm/first": [5.0123457] * 60,
            "weight_norm/second": [1.0 + 0.02 * k for k in range(60)],
            "grad_norm/first": still,
            "grad_norm/second": moving,
        }

    valid = (
        Example("weights move", run_of(spec, loss=flat, grad_norm=noisy, weight_norm=[5.0 + 0.01 * k for k in range(60)])),
        Example("gradient of 0", run_of(spec, loss=flat, grad_norm=[0.0] * 60, weight_norm=[5.0] * 60)),
        Example("rate of 0", run_of(OptimizerSpec("sgd", lr=0.0), loss=flat, grad_norm=noisy, weight_norm=[5.0] * 60)),
        Example(
            "steps below rounding", run_of(OptimizerSpec("sgd", lr=1e-9), loss=flat, grad_norm=noisy, weight_norm=[5.0] * 60)
        ),
        Example("validation loss rounded to three digits", run_of(spec, loss=flat, val_loss=[2.31] * 20)),
        Example("two points", run_of(spec, loss=[2.0, 2.0], grad_norm=[1.0, 1.0], weight_norm=[5.0, 5.0])),
        Example(
            "a head is trained on a frozen body",
            run_of(spec, loss=[2.0 * 0.98**k for k in range(60)], **of_layers([0.0] * 60, noisy)),
        ),
        Example(
            "a sum of gradients that moves the weights",
            run_of(
                spec,
                loss=[2.3 * 0.97**k for k in range(60)],
                grad_norm=[0.5 * (k + 1) for k in range(60)],
                weight_norm=[5.0 + 0.05 * k for k in range(60)],
            ),
        ),
    )
    invalid = (
        Example("weights to the last bit", run_of(spec, loss=flat, grad_norm=noisy, weight_norm=[5.0123457] * 60)),
        Example("validation loss to the last bit", run_of(spec, loss=flat, val_loss=[2.3025851] * 20)),
        Example(
            "gradients pile up over a last bias that moves",
            run_of(
                spec,
                loss=flat,
                grad_norm=[0.5 * (k + 1) for k in range(60)],
                weight_norm=[5.0 + 1e-5 * k for k in range(60)],
            ),
        ),
        Example(
            "one layer has a gradient and never moves",
            run_of(spec, loss=[2.0 * 0.98**k for k in range(60)], **of_layers([0.5 * (k + 1) for k in range(60)], noisy)),
        ),
    )
    return (
        (
            *valid,
            Example(
                "weights move between two checkpoints",
                run_of(spec, loss=flat),
                state=state_of(checkpoint_of(500), checkpoint_of(1000), same=0.01),
            ),
            Example("saved before the first step", run_of(spec, loss=flat), state=state_of(checkpoint_of(0, stepped=False))),
        ),
        (
            *invalid,
            Example(
                "weights of two checkpoints",
                run_of(spec, loss=flat),
                state=state_of(checkpoint_of(500), checkpoint_of(1000), same=1.0),
            ),
        ),
    )


_LOOP = "for x, y in data:\n    opt.zero_grad()\n    loss(model(x), y).backward()\n    opt.step()\n"
_GAN = """import torch
netG = Generator().to(device)
netD = Discriminator().to(device)
"""
_GAN_LOOP = """for real in data:
    optimizerD.zero_grad()
    loss(netD(real)).backward()
    optimizerD.step()
    optimizerG.zero_grad()
    loss(netD(netG(z))).backward()
    optimizerG.step()
"""

CAUSE.valid_code = (
    Sample(
        "one name for the optimizer of each model, one after another",
        """import torch
first, second, third = Net(), Net(), Net()
opt = torch.optim.SGD(first.parameters(), lr=0.1)
for x, y in data:
    opt.zero_grad()
    loss(first(x), y).backward()
    opt.step()
model = Net()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
last = Net()
opt = torch.optim.SGD(last.parameters(), lr=0.1)
for x, y in data:
    opt.zero_grad()
    loss(last(x), y).backward()
    opt.step()
""",
    ),
    Sample(
        "one name for an optimizer after the other",
        """
import torch
from torch import nn

model_0 = nn.Sequential(nn.Linear(2, 5), nn.Linear(5, 1))
optimizer = torch.optim.SGD(model_0.parameters(), lr=0.1)
for epoch in range(100):
    loss = loss_fn(model_0(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
model_1 = nn.Sequential(nn.Linear(2, 5), nn.ReLU(), nn.Linear(5, 1))
optimizer = torch.optim.SGD(model_1.parameters(), lr=0.1)
for epoch in range(100):
    loss = loss_fn(model_1(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
""",
    ),
    Sample(
        "loss of an actor, as a method of the critic",
        """import torch
class Agent:
    def __init__(self, actor, critic):
        self.actor, self.critic = actor, critic
        self.actor_opt = torch.optim.Adam(self.actor.parameters(), lr=3e-4)
        self.critic_opt = torch.optim.Adam(self.critic.parameters(), lr=3e-4)
    def update(self, state, action, target):
        q1, q2 = self.critic(state, action)
        loss = ((q1 - target) ** 2 + (q2 - target) ** 2).mean()
        self.critic_opt.zero_grad()
        loss.backward()
        self.critic_opt.step()
        actor_loss = -self.critic.Q1(state, self.actor(state)).mean()
        self.actor_opt.zero_grad()
        actor_loss.backward()
        self.actor_opt.step()
""",
    ),
    Sample(
        "layer that holds the one before",
        """import torch
model = load_model()
opt = torch.optim.Adam(model.parameters())
model.fc = torch.nn.Sequential(model.fc, torch.nn.Linear(model.fc.out_features, 2))
"""
        + _LOOP,
    ),
    Sample(
        "model, then optimizer",
        """import torch
model = Net()
opt = torch.optim.Adam(model.parameters())
"""
        + _LOOP,
    ),
    Sample(
        "moved and wrapped later",
        """import torch
from torch.nn.parallel import DistributedDataParallel as DDP
model = Net()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
model = model.to(device)
model.cuda()
model = DDP(model, device_ids=[0])
model = torch.compile(model)
model = torch.nn.DataParallel(model)
"""
        + _LOOP,
    ),
    Sample(
        "layer replaced before",
        """import torch, torchvision
from torch import nn
model = torchvision.models.resnet18()
model.fc = nn.Linear(512, 10)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + _LOOP,
    ),
    Sample(
        "optimizer told of it",
        """import torch
from torch import nn
model = Net()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
model.fc = nn.Linear(512, 10)
opt.add_param_group({'params': model.fc.parameters()})
"""
        + _LOOP,
    ),
    Sample(
        "optimizer built again",
        """import torch
from torch import nn
model = Net()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
model.fc = nn.Linear(512, 10)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + _LOOP,
    ),
    Sample(
        "another model afterwards",
        """import torch
model = Net()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + _LOOP
        + """model = Net()
model.load_state_dict(torch.load('best.pt'))
evaluate(model)
""",
    ),
    Sample(
        "next section",
        """import torch
model = Net()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
train(model, opt)
model = Net2()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
train(model, opt)
""",
    ),
    Sample(
        "a fold each",
        """import torch
for fold in range(5):
    model = Net()
    opt = torch.optim.SGD(model.parameters(), lr=0.1)
    train(model, opt)
""",
    ),
    Sample(
        "no parameters in it",
        """import torch
from torch import nn
model = Net()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
model.loss = nn.CrossEntropyLoss()
model.act = nn.ReLU()
model.loader = DataLoader(d)
"""
        + _LOOP,
    ),
    Sample(
        "wraps the layer",
        """import torch
from torch import nn
model = Net()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
model.fc = nn.Sequential(model.fc, nn.Dropout(0.1))
"""
        + _LOOP,
    ),
    Sample(
        "weights from a file",
        """import torch
model = Net()
opt = torch.optim.SGD(model.parameters(), lr=0.1)
model.load_state_dict(torch.load('a.pt'))
"""
        + _LOOP,
    ),
    Sample(
        "run by another object",
        """import torch
net = Net()
opt = torch.optim.SGD(net.parameters(), lr=0.1)
trainer = Trainer(net)
loss = trainer.loss(x)
loss.backward()
opt.step()
""",
    ),
    Sample(
        "part of another model",
        """import torch
encoder = Encoder()
model = Classifier(encoder)
opt = torch.optim.SGD(encoder.parameters(), lr=0.1)
"""
        + _LOOP,
    ),
    Sample(
        "GAN",
        _GAN
        + """optimizerG = torch.optim.Adam(netG.parameters(), lr=2e-4)
optimizerD = torch.optim.Adam(netD.parameters(), lr=2e-4)
"""
        + _GAN_LOOP,
    ),
    Sample(
        "two optimizers, one model",
        """import torch
model = Net()
opt_a = torch.optim.Adam(model.parameters())
opt_b = torch.optim.SGD(model.parameters(), lr=0.1)
"""
        + _LOOP,
    ),
    Sample(
        "shared encoder",
        """import torch
from itertools import chain
opt_g = torch.optim.Adam(chain(enc.parameters(), gen.parameters()))
opt_d = torch.optim.Adam(chain(enc.parameters(), dis.parameters()))
""",
    ),
    Sample(
        "frozen but the head",
        """import torch
from torch import nn
model = torchvision.models.resnet18()
for p in model.parameters():
    p.requires_grad = False
model.fc = nn.Linear(512, 10)
opt = torch.optim.SGD(filter(lambda p: p.requires_grad, model.parameters()), lr=0.1)
""",
    ),
    Sample(
        "thawed again",
        """import torch
for p in model.parameters():
    p.requires_grad = False
for p in model.head.parameters():
    p.requires_grad = True
opt = torch.optim.SGD(filter(lambda p: p.requires_grad, model.parameters()), lr=0.1)
""",
    ),
    Sample(
        "frozen teacher",
        """import torch
for p in teacher.parameters():
    p.requires_grad = False
opt = torch.optim.SGD(student.parameters(), lr=0.1)
""",
    ),
    Sample(
        "frozen on request",
        """import torch
if args.freeze:
    for p in model.parameters():
        p.requires_grad = False
opt = torch.optim.SGD(model.parameters(), lr=0.1)
""",
    ),
    Sample(
        "two losses, one backward pass each",
        """import torch

def train(encoder, decoder, probe, data):
    opt = torch.optim.Adam(list(encoder.parameters()) + list(decoder.parameters()))
    probe_opt = torch.optim.SGD(probe.parameters(), lr=0.1)
    for x, y in data:
        code = encoder(x)
        opt.zero_grad()
        mse(decoder(code), x).backward()
        opt.step()
        probe_opt.zero_grad()
        guess = probe(code.detach())
        ce(guess, y).backward()
        probe_opt.step()
""",
    ),
    Sample(
        "a loss that someone else makes",
        """import torch

class Trainer:
    def __init__(self, net, loss):
        self.net, self.loss = net, loss
        self.opt = torch.optim.Adam(self.net.parameters())

    def step(self, batch, compute):
        self.opt.zero_grad()
        loss = compute(batch)
        loss.backward()
        self.opt.step()

    def other(self, batch):
        self.opt.zero_grad()
        loss = self.training_loss(batch)
        loss.backward()
        self.opt.step()
""",
    ),
    Sample(
        "one backward pass for both",
        """import torch

def train(a, b, data):
    opt_a = torch.optim.Adam(a.parameters())
    opt_b = torch.optim.Adam(b.parameters())
    for x in data:
        opt_a.zero_grad()
        opt_b.zero_grad()
        loss = b(a(x)).mean()
        loss.backward()
        opt_a.step()
        opt_b.step()
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "head of the size of the old one",
        """import torch, timm
class Trainer:
    def __init__(self, classes):
        self.net = timm.create_model("resnet50", pretrained=True)
        self.opt = torch.optim.AdamW(self.net.parameters(), lr=1e-4)
        self.net.fc = torch.nn.Linear(self.net.fc.in_features, classes)  # <-
    def step(self, x, y):
        self.opt.zero_grad()
        torch.nn.functional.cross_entropy(self.net(x), y).backward()
        self.opt.step()
""",
    ),
    Sample(
        "adapters after the optimizer",
        """import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
model = AutoModelForCausalLM.from_pretrained("gpt2")
opt = torch.optim.AdamW(model.parameters(), lr=1e-4)
model = get_peft_model(model, LoraConfig(r=8))  # <-
for batch in data:
    opt.zero_grad()
    model(**batch).loss.backward()
    opt.step()
""",
    ),
    Sample(
        "one model for two optimizers, another fake later",
        """import torch
def train(netG, netD, data, bce):
    optD = torch.optim.Adam(netG.parameters(), lr=2e-4)  # <-
    optG = torch.optim.Adam(netG.parameters(), lr=2e-4)
    for x in data:
        fake = netG(torch.randn(len(x), 100)).detach()
        optD.zero_grad()
        loss = bce(netD(x), 1) + bce(netD(fake), 0)
        loss.backward()
        optD.step()
        fake = netG(torch.randn(len(x), 100))
        optG.zero_grad()
        loss = bce(netD(fake), 1)
        loss.backward()
        optG.step()
""",
    ),
    Sample(
        "parameters of the teacher",
        """import torch
student, teacher = Net(), Net()
opt = torch.optim.Adam(teacher.parameters(), lr=1e-3)  # <-
def train(data):
    for x, y in data:
        with torch.no_grad():
            target = teacher(x)
        loss = ((student(x) - target) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
""",
    ),
    Sample(
        "all frozen by their names, then filtered",
        """import torch, torchvision
model = torchvision.models.resnet18()
for name, p in model.named_parameters():
    p.requires_grad = False
opt = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)  # <-
"""
        + _LOOP,
    ),
    Sample(
        "stepped after another's loss",
        """import torch

def train(decoder, probe, data):
    ae_opt = torch.optim.Adam(probe.parameters())  # <-
    probe_opt = torch.optim.SGD(probe.parameters(), lr=0.1)
    for x, y in data:
        with torch.no_grad():
            code = encode(x)
        restored = decoder(code)
        loss = mse(restored, x)
        ae_opt.zero_grad()
        loss.backward()
        ae_opt.step()
        probe_opt.zero_grad()
        ce(probe(code), y).backward()
        probe_opt.step()
""",
    ),
    Sample(
        "layer replaced after",
        """import torch, torchvision
from torch import nn
model = torchvision.models.resnet18(pretrained=True)
opt = torch.optim.SGD(model.parameters(), lr=0.1)
model.fc = nn.Linear(512, 10)  # <-
"""
        + _LOOP,
    ),
    Sample(
        "model built again",
        """import torch
model = Net()
opt = torch.optim.Adam(model.parameters())
model = Net(width=2).cuda()  # <-
"""
        + _LOOP,
    ),
    Sample(
        "in a function, trained by another",
        """import torch
import torch.nn as nn

def main():
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net.classifier[6] = nn.Linear(4096, 2)  # <-
    net.head = nn.Sequential(nn.Linear(4096, 2), nn.ReLU())  # <-
    for epoch in range(3):
        train(net, loader, optimizer, epoch)
""",
    ),
    Sample(
        "of an object",
        """import torch
from torch import nn

class Trainer:
    def __init__(self):
        self.model = Net()
        self.opt = torch.optim.Adam(self.model.parameters())
        self.model.out = nn.Linear(8, 2)  # <-
        self.opt.step()
""",
    ),
    Sample(
        "loaded whole on request",
        """import torch
model = Net()
opt = torch.optim.Adam(model.parameters())
if args.resume:
    model = torch.load(args.resume)  # <-
"""
        + _LOOP,
    ),
    Sample(
        "another model is run",
        """import torch
teacher = Net()
model = Net()
opt = torch.optim.Adam(teacher.parameters())  # <-
"""
        + _LOOP,
    ),
    Sample(
        "both of the generator",
        _GAN
        + """optimizerG = torch.optim.Adam(netG.parameters(), lr=2e-4)
optimizerD = torch.optim.Adam(netG.parameters(), lr=2e-4)  # <-
"""
        + _GAN_LOOP,
    ),
    Sample(
        "exchanged",
        _GAN
        + """optimizerG = torch.optim.Adam(netD.parameters(), lr=2e-4)  # <-
optimizerD = torch.optim.Adam(netG.parameters(), lr=2e-4)  # <-
"""
        + _GAN_LOOP,
    ),
    Sample(
        "of an object, mixed up",
        """import torch

class Gan:
    def build(self):
        self.generator = Generator()
        self.discriminator = Discriminator()
        self.opt_gen = torch.optim.Adam(self.generator.parameters())
        self.opt_disc = torch.optim.Adam(self.generator.parameters())  # <-

    def train(self, x):
        loss(self.discriminator(self.generator(x))).backward()
        self.opt_disc.step()
""",
    ),
    Sample(
        "all frozen, filtered",
        """import torch
model = Net()
for param in model.parameters():
    param.requires_grad = False
opt = torch.optim.SGD(filter(lambda p: p.requires_grad, model.parameters()), lr=0.1)  # <-
"""
        + _LOOP,
    ),
    Sample(
        "all frozen at once",
        """import torch
model = Net()
model.requires_grad_(False)
model.to(device)
opt = torch.optim.AdamW(model.parameters(), lr=0.1)  # <-
"""
        + _LOOP,
    ),
)
