"""The last activation of the model and the loss do not belong together: a sigmoid too many, or none.

## What it looks like
With a sigmoid too many the loss moves between 0.31 and 1.31 and hardly falls: confident answers cannot be told to the loss.
With none before `BCELoss` the run stops: "all elements of input should be between 0 and 1", at once or as soon as a logit
leaves that range.

## Why it happens
`BCEWithLogitsLoss` applies the sigmoid itself: one before it is a second one, whose input lies between 0 and 1.
`CrossEntropyLoss` applies log-softmax itself; a sigmoid before it bounds what it may tell apart. `BCELoss` applies nothing.

## When it is wrong
A sigmoid for metrics or for a threshold, and a model that ends in Sigmoid with `BCELoss`, are right, and are not reported.

## What repairs it
`BCEWithLogitsLoss` on the output of the last linear layer, without a sigmoid: it is also the one that does not overflow.

## References
PyTorch documentation, torch.nn.BCEWithLogitsLoss: "This loss combines a Sigmoid layer and the BCELoss in one single class".
PyTorch documentation, torch.nn.BCELoss: the input holds probabilities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.code.losses import in_script, unwrapped, written
from traindoctor.mistake import Mistake, Repair
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script

CAUSE = Cause(
    code="TD602",
    name="sigmoid-and-loss-mismatch",
    summary="the last activation and the loss do not belong together: a sigmoid too many, or none",
    explanation=__doc__,
)

#: (loss, form of its prediction) -> severity, what is wrong, what to do.
_WRONG = {
    ("bce_logits", "sigmoid"): (
        "error",
        "is given to BCEWithLogitsLoss, which applies the sigmoid itself. Sigmoid twice: the loss stays between 0.31 and 1.31, "
        "and its gradient vanishes where the model is sure.",
        "Give the logits to the loss.",
    ),
    ("bce_logits", "softmax"): (
        "warning",
        "is given to BCEWithLogitsLoss, which takes logits and applies a sigmoid. All answers then lie between 0.5 and 0.73.",
        "Give the logits to the loss; or use CrossEntropyLoss where classes exclude each other.",
    ),
    ("cross_entropy", "sigmoid"): (
        "warning",
        "is given to a cross entropy that applies log-softmax itself. Its inputs then lie between 0 and 1: with 10 classes the "
        "loss cannot fall below 1.46.",
        "Give the logits to the loss; or use BCEWithLogitsLoss where classes do not exclude each other.",
    ),
    ("bce", "log_softmax"): (
        "error",
        "is given to BCELoss, which takes probabilities. Log-probabilities are negative: the loss stops with an error.",
        "Use BCEWithLogitsLoss on the logits.",
    ),
    ("bce", "log_sigmoid"): (
        "error",
        "is given to BCELoss, which takes probabilities. Log-probabilities are negative: the loss stops with an error.",
        "Use BCEWithLogitsLoss on the logits.",
    ),
}


@CAUSE.in_script("torch", "binary_cross_entropy|BCELoss|BCEWithLogitsLoss|cross_entropy|CrossEntropyLoss")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the losses whose prediction has, on every path, an activation that does not belong to them."""
    for loss in script.losses.calls:
        if loss.kind not in ("bce_logits", "bce", "cross_entropy"):
            continue
        tensors = script.tensors.of(loss.input, loss.frame)
        forms = {t.form for t in tensors}
        by = tensors[0].by
        if len(forms) != 1 or by is None:
            continue
        form = forms.pop()
        related = ((script.place(loss.call), "the loss"),)
        if loss.kind == "bce" and form == "logits":
            layer = written(by.script, by.node.func)  # type: ignore[attr-defined]
            yield Mistake(
                script.place(loss.call),
                f"`{written(script, loss.call)}` is given logits, the output of a {layer} layer. BCELoss takes probabilities: "
                "a value outside of 0 to 1 stops the run.",
                "Use BCEWithLogitsLoss, which applies the sigmoid itself.",
                related=((by.script.place(by.node), "the last layer"),),
            )
        elif (loss.kind, form) in _WRONG:
            severity, text, advice = _WRONG[loss.kind, form]
            node = in_script(script, by)
            edit = unwrapped(script, node) if node is not None and "sigmoid" in form and loss.kind == "bce_logits" else None
            inline = node is not None and script.statement(node) is script.statement(loss.call)
            yield Mistake(
                script.place(node if node is not None else loss.input),
                f"`{written(by.script, by.node)}` {text}",
                advice,
                severity,  # type: ignore[arg-type]
                Repair("Remove the sigmoid before the loss", (edit,), safe=inline) if edit is not None else None,
                related if node is not None else ((by.script.place(by.node), "the activation"),),
            )


_HEAD = """\
import torch
import torch.nn.functional as F
from torch import nn

"""
CAUSE.valid_code = (
    Sample(
        "sigmoid for metrics",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.binary_cross_entropy_with_logits(out, y)
        loss.backward()
        optimizer.step()
        hits = (torch.sigmoid(out) > 0.5).eq(y).sum()
""",
    ),
    Sample(
        "model ends in Sigmoid, BCELoss",
        _HEAD
        + """\
model = nn.Sequential(nn.Linear(8, 1), nn.Sigmoid())
criterion = nn.BCELoss()
def train(loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = criterion(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "sigmoid before BCELoss",
        _HEAD
        + """\
model = nn.Linear(8, 1)
def train(loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.binary_cross_entropy(out.sigmoid(), y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "softmax before BCELoss",
        _HEAD
        + """\
model = nn.Linear(8, 4)
def train(loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = nn.BCELoss()(torch.softmax(out, 1), y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "target is a sigmoid",
        _HEAD
        + """\
def train(model, teacher, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.binary_cross_entropy_with_logits(out, teacher(x).sigmoid())
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "gate inside of the model",
        _HEAD
        + """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(8, 8)
        self.b = nn.Linear(8, 1)
    def forward(self, x):
        return self.b(x * torch.sigmoid(self.a(x)))
model = Net()
def train(loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.binary_cross_entropy_with_logits(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "one sigmoid by option",
        _HEAD
        + """\
def train(model, loader, optimizer, probabilities):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        if probabilities:
            out = out.sigmoid()
        loss = F.binary_cross_entropy_with_logits(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "head replaced afterwards",
        _HEAD
        + """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 1)
    def forward(self, x):
        return self.fc(x)
model = Net()
model.fc = nn.Sequential(nn.Linear(8, 1), nn.Sigmoid())
def train(loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.binary_cross_entropy(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "last of a list of layers that a loop begins",
        _HEAD
        + """\
class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        layers = []
        for _ in range(3):
            layers += [nn.Linear(width, width), nn.ReLU()]
        layers.append(nn.Linear(width, 1))
        layers.append(nn.Sigmoid())  # <-
        self.layers = nn.Sequential(*layers)
    def forward(self, x):
        return self.layers(x)
net = Net(8)
criterion = nn.BCEWithLogitsLoss()
def step(x, y):
    criterion(net(x), y).backward()
""",
    ),
    Sample(
        "sigmoid in the call",
        _HEAD
        + """\
criterion = nn.BCEWithLogitsLoss()
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = criterion(torch.sigmoid(out), y)  # <-
        loss.backward()
        optimizer.step()
""",
        fixed=_HEAD
        + """\
criterion = nn.BCEWithLogitsLoss()
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
        "sigmoid before, as a method",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        p = out.squeeze(1).sigmoid()  # <-
        loss = F.binary_cross_entropy_with_logits(p, y.float())
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "sigmoid as last layer",
        _HEAD
        + """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 1), nn.Sigmoid())  # <-
    def forward(self, x):
        return self.body(x)
model = Net()
loss_fn = nn.BCEWithLogitsLoss(reduction='mean')
def train(loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = loss_fn(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "softmax before BCEWithLogitsLoss",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.binary_cross_entropy_with_logits(F.softmax(out, dim=1), y)  # <-
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "sigmoid before cross entropy",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(torch.sigmoid(out), y)  # <-
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "no sigmoid before BCELoss",
        _HEAD
        + """\
model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))
criterion = nn.BCELoss()
def train(loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = criterion(out, y)  # <-
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "discriminator without a sigmoid",
        _HEAD
        + """\
class D(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 1)
    def forward(self, x):
        return self.fc(x).view(-1)
netD = D()
bce = nn.BCELoss()
for x, _ in loader:
    loss = bce(netD(x), torch.ones(4))  # <-
    loss.backward()
""",
    ),
    Sample(
        "log of the sigmoid into BCELoss",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.binary_cross_entropy(F.logsigmoid(out), y)  # <-
        loss.backward()
        optimizer.step()
""",
    ),
)
