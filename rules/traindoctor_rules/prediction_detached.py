"""The prediction is cut from its graph before the loss: no gradient reaches the model.

## What it looks like
`backward()` stops with "element 0 of tensors does not require grad", or, where another term or `requires_grad` set by hand
hides that, training runs and the loss does not fall.

## Why it happens
`detach()`, `.data`, `.numpy()`, `.tolist()`, `torch.tensor(output)` and a forward pass under `no_grad` keep the numbers and
leave the graph behind. What the loss is computed from then no longer knows the model.

## When it is wrong
What is detached on purpose is the other side of a loss, or the input of another model: `D(fake.detach())`, target networks,
the logits of a teacher, stop-gradient (BYOL, SimSiam), the returns and advantages of reinforcement learning, the state of a
recurrent network between two chunks. None of these is reported: only a loss that nothing with a gradient enters is.

## What repairs it
Remove the call that detaches; detach for logging alone.

## References
PyTorch documentation, torch.Tensor.detach: "Returns a new Tensor, detached from the current graph"; torch.no_grad.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.code.losses import in_script, written
from traindoctor.code.tensors import COPIES, DETACHING
from traindoctor.mistake import Edit, Mistake, Repair
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script

CAUSE = Cause(
    code="TD604",
    name="prediction-detached",
    summary="the prediction is cut from its graph before the loss: no gradient reaches the model",
    explanation=__doc__,
)
_HOW = {*DETACHING, *COPIES, "data", "no_grad", "float"}


@CAUSE.in_script("torch", "backward|training_step|compute_loss")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield what cuts the loss that is differentiated from every weight."""
    for cut in script.losses.cut:
        node = in_script(script, cut.at, cut.loss)
        if cut.how not in _HOW or node is None:
            continue
        what = "the forward pass under no_grad" if cut.how == "no_grad" else f"`{written(cut.at.script, cut.at.node)}`"
        yield Mistake(
            script.place_of(script.span(node)[0], script.span(node)[0] + 4) if isinstance(node, ast.With) else script.place(node),
            f"{what[0].upper()}{what[1:]} cuts the prediction from the model. No gradient reaches the weights: "
            + ("backward() has nothing to differentiate." if cut.whole else "this term of the loss teaches the model nothing."),
            "Compute the loss from the output of the model itself, and detach only what is logged.",
            "warning" if cut.guess else "error",
            _attached(script, node),
            ((script.place(cut.backward), "differentiated here"),),
        )


def _attached(script: Script, node: ast.AST) -> Repair | None:
    """Return the repair that takes `.detach()` or `.data` away, for these alone."""
    match node:
        case ast.Call(func=ast.Attribute(attr="detach", value=value), args=[]):
            pass
        case ast.Attribute(attr="data", value=value):
            pass
        case _:
            return None
    parent = script.parents.get(node)
    if isinstance(parent, ast.Attribute):  # .detach().cpu().numpy(): the rest would fail without it
        return None
    return Repair("Keep the graph of the prediction", (Edit(script.span(value)[1], script.span(node)[1], ""),))


_HEAD = """\
import torch
import torch.nn.functional as F
from torch import nn

"""
CAUSE.valid_code = (
    Sample(
        "gradients switched on again within",
        _HEAD
        + """\
def train(net, states, targets, optimizer):
    with torch.no_grad():
        net = net.cuda()
        for batch, target in zip(states.split(8), targets.split(8)):
            step(net, batch, target, optimizer)
def step(net, batch, target, optimizer):
    family = net.heads.family
    with torch.enable_grad():
        out = net(batch)
        loss = family.kl(target, out.logits).mean()
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
""",
    ),
    Sample(
        "gradients handed over by hand, and a latent that is trained",
        _HEAD
        + """\
def split(client, server, x, y):
    activations = client(x)
    received = activations.detach().requires_grad_(True)
    F.cross_entropy(server(received), y).backward()
    activations.backward(received.grad)
def invert(encoder, x):
    code = torch.tensor(encoder(x).tolist(), requires_grad=True)
    optimizer = torch.optim.Adam([code], lr=0.1)
    for i in range(100):
        optimizer.zero_grad()
        (code - 1).pow(2).sum().backward()
        optimizer.step()
""",
    ),
    Sample(
        "commitment and codebook losses",
        _HEAD
        + """\
class Quantizer(nn.Module):
    def __init__(self, size, width):
        super().__init__()
        self.codes = nn.Embedding(size, width)
        self.size = size
    def forward(self, z):
        nearest = torch.cdist(z, self.codes.weight).argmin(1)
        chosen = torch.zeros(len(z), self.size).scatter_(1, nearest.unsqueeze(1), 1)
        q = chosen @ self.codes.weight
        loss = F.mse_loss(q, z.detach()) + 0.25 * F.mse_loss(q.detach(), z)
        return z + (q - z).detach(), loss
def train(encoder, decoder, loader, optimizer):
    quantizer = Quantizer(512, 64)
    for x in loader:
        q, loss = quantizer(encoder(x))
        loss = loss + F.mse_loss(decoder(q), x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "discriminator on a detached fake",
        _HEAD
        + """\
netD, netG = make()
criterion = nn.BCELoss()
for x, _ in loader:
    label = torch.full((4,), 1.0)
    loss = criterion(netD(x), label)
    loss.backward()
    fake = netG(torch.randn(4, 8))
    loss = criterion(netD(fake.detach()).view(-1), label)
    loss.backward()
    opt.step()
""",
    ),
    Sample(
        "target network",
        _HEAD
        + """\
def learn(policy_net, target_net, loader, optimizer):
    for s, a, r, s2 in loader:
        q = policy_net(s).gather(1, a)
        with torch.no_grad():
            best = target_net(s2).max(1)[0]
        loss = F.smooth_l1_loss(q, r + 0.99 * best)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "target network, arguments exchanged",
        _HEAD
        + """\
def learn(policy_net, target_net, loader, optimizer):
    for s, a, r, s2 in loader:
        q = policy_net(s).gather(1, a)
        expected = (r + 0.99 * target_net(s2).max(1)[0]).detach()
        loss = F.mse_loss(expected, q)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "teacher",
        _HEAD
        + """\
def train(model, teacher, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        with torch.no_grad():
            t = teacher(x)
        loss = F.kl_div(F.log_softmax(out, 1), F.softmax(t, 1)) + F.mse_loss(t.detach(), out)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "state of a recurrent network",
        _HEAD
        + """\
def train(model, loader, optimizer):
    h = None
    for x, y in loader:
        out, h = model(x, h)
        h = h.detach()
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "stop-gradient",
        _HEAD
        + """\
def D(p, z):
    z = z.detach()
    return -F.cosine_similarity(p, z, dim=-1).mean()
def train(model, loader, optimizer):
    for a, b in loader:
        p1, z1 = model(a)
        p2, z2 = model(b)
        loss = D(p1, z2) / 2 + D(p2, z1) / 2
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "advantages and values",
        _HEAD
        + """\
def update(model, states, actions, returns, optimizer):
    log_prob, values = model(states)
    advantage = returns - values.detach()
    policy_loss = -(log_prob * advantage).mean()
    value_loss = F.mse_loss(values, returns.detach())
    (policy_loss + 0.5 * value_loss).backward()
    optimizer.step()
""",
    ),
    Sample(
        "frozen features, trained head",
        _HEAD
        + """\
def train(backbone, head, loader, optimizer):
    for x, y in loader:
        with torch.no_grad():
            features = backbone(x)
        loss = F.cross_entropy(head(features), y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "detached for logging",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
        log(F.mse_loss(out.detach(), y), out.data, loss.detach())
""",
    ),
    Sample(
        "constant that scales a term",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        a = F.mse_loss(out, y)
        b = F.l1_loss(out, y)
        loss = a / a.detach() + b / b.detach() + a.detach()
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "an image is optimised",
        _HEAD
        + """\
def dream(image, target, optimizer):
    image = image.detach().clone().requires_grad_(True)
    for i in range(9):
        loss = F.mse_loss(image, target)
        loss.backward()
""",
    ),
    Sample(
        "labels from numpy",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        y = torch.from_numpy(y.data.cpu().numpy())
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "with and without gradients by branch",
        _HEAD
        + """\
def train(model, loader, optimizer, frozen):
    for x, y in loader:
        if frozen:
            with torch.no_grad():
                out = model(x)
        else:
            out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "features of a perceptual loss",
        _HEAD
        + """\
def train(netG, vgg, loader, optimizer):
    for x, y in loader:
        fake = netG(x)
        loss = F.l1_loss(vgg(fake), vgg(y).detach())
        loss.backward()
        optimizer.step()
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "copy that gathers gradients in the place of the prediction",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        out = torch.tensor(out, requires_grad=True)  # <-
        loss = F.mse_loss(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "detached, and told to gather gradients",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x).detach().requires_grad_(), y)  # <-
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "detach",
        _HEAD
        + """\
criterion = nn.CrossEntropyLoss()
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = criterion(out.detach(), y)  # <-
        loss.backward()
        optimizer.step()
""",
        fixed=_HEAD
        + """\
criterion = nn.CrossEntropyLoss()
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = criterion(out, y)  # <-
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "data",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        out = out.data  # <-
        loss = F.mse_loss(out, y.to('cuda'))
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "through numpy",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        out = torch.from_numpy(out.detach().cpu().numpy())  # <-
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "through a list",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(torch.tensor(out.tolist()), y)  # <-
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "forward pass under no_grad",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        with torch.no_grad():  # <-
            out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "loss written by hand",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = ((out.detach() - y) ** 2).mean()  # <-
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "criterion that is not known",
        _HEAD
        + """\
def train(model, criterion, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = criterion(out.detach(), y)  # <-
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "one term of two",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss += 0.1 * F.mse_loss(out.detach(), y)  # <-
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "noise that is predicted",
        _HEAD
        + """\
def train(model, loader, optimizer, scaler):
    for x, _ in loader:
        noise = torch.randn_like(x)
        predicted = model(x + noise)
        loss = F.mse_loss(predicted.detach(), noise)  # <-
        scaler.scale(loss).backward()
        scaler.step(optimizer)
""",
    ),
)
