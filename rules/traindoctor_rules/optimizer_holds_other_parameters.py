"""The optimizer holds other parameters than those that are trained: its steps change nothing that is used.

## What it looks like
The loss stays where it began, without an error; a layer that was put in later stays as it was initialised. Gradients of the
model pile up, since zero_grad() of this optimizer does not reach them.

## Why it happens
An optimizer holds the parameter objects that it was given. `model = Net()` or `model.fc = nn.Linear(...)` after that line makes
new ones. With two models and two optimizers a name is quickly mistaken.

## When it is wrong
`.to(device)`, `.cuda()`, DistributedDataParallel and torch.compile keep the parameter objects: the order does not matter there.
A model that is built anew for evaluation, after the last step. Encoders that two optimizers share.

## What repairs it
Build the optimizer after the model is complete, of the model that is trained; or tell it of the new parameters with
add_param_group().

## References
PyTorch documentation, torch.optim, "Constructing it".
PyTorch tutorials, Transfer learning for computer vision (the layer is replaced, then the optimizer is built).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script

CAUSE = Cause(
    code="TD311",
    name="optimizer-holds-other-parameters",
    summary="the optimizer was given parameters that are not the ones in training",
    explanation=__doc__,
    explains=("TD202", "TD302"),
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
                f"{what} is replaced after {name_of(made)} was built, which holds the parameters of the old one. "
                + ("The new layer is never updated." if one.layer else "The new model is never updated."),
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
                f"{name_of(made)} holds the parameters of {model}, and {model} is never run. "
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
