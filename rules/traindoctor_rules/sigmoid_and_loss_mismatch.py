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
        "is given to BCEWithLogitsLoss, which takes logits and applies a sigmoid. All probabilities then lie between 0.5 and 0.73.",
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
_LOOP = """\
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
"""
_STEP = """\
        loss.backward()
        optimizer.step()
"""
CAUSE.valid_code = (
    Sample(
        "sigmoid for metrics",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = F.binary_cross_entropy_with_logits(out, y)\n{_STEP}"
        "        hits = (torch.sigmoid(out) > 0.5).eq(y).sum()\n",
    ),
    Sample(
        "model ends in Sigmoid, BCELoss",
        f"{_HEAD}model = nn.Sequential(nn.Linear(8, 1), nn.Sigmoid())\ncriterion = nn.BCELoss()\ndef train(loader, optimizer):\n"
        f"{_LOOP}        loss = criterion(out, y)\n{_STEP}",
    ),
    Sample(
        "sigmoid before BCELoss",
        f"{_HEAD}model = nn.Linear(8, 1)\ndef train(loader, optimizer):\n{_LOOP}        loss = F.binary_cross_entropy(out.sigmoid(), y)\n{_STEP}",
    ),
    Sample(
        "softmax before BCELoss",
        f"{_HEAD}model = nn.Linear(8, 4)\ndef train(loader, optimizer):\n{_LOOP}        loss = nn.BCELoss()(torch.softmax(out, 1), y)\n{_STEP}",
    ),
    Sample(
        "target is a sigmoid",
        f"{_HEAD}def train(model, teacher, loader, optimizer):\n{_LOOP}        loss = F.binary_cross_entropy_with_logits(out, teacher(x).sigmoid())\n{_STEP}",
    ),
    Sample(
        "gate inside of the model",
        f"{_HEAD}class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.a = nn.Linear(8, 8)\n        self.b = nn.Linear(8, 1)\n"
        "    def forward(self, x):\n        return self.b(x * torch.sigmoid(self.a(x)))\n"
        f"model = Net()\ndef train(loader, optimizer):\n{_LOOP}        loss = F.binary_cross_entropy_with_logits(out, y)\n{_STEP}",
    ),
    Sample(
        "one sigmoid by option",
        f"{_HEAD}def train(model, loader, optimizer, probabilities):\n{_LOOP}        if probabilities:\n            out = out.sigmoid()\n"
        f"        loss = F.binary_cross_entropy_with_logits(out, y)\n{_STEP}",
    ),
    Sample(
        "head replaced afterwards",
        f"{_HEAD}class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(8, 1)\n    def forward(self, x):\n        return self.fc(x)\n"
        f"model = Net()\nmodel.fc = nn.Sequential(nn.Linear(8, 1), nn.Sigmoid())\ndef train(loader, optimizer):\n{_LOOP}        loss = F.binary_cross_entropy(out, y)\n{_STEP}",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "sigmoid in the call",
        f"{_HEAD}criterion = nn.BCEWithLogitsLoss()\ndef train(model, loader, optimizer):\n{_LOOP}        loss = criterion(torch.sigmoid(out), y)  # <-\n{_STEP}",
        fixed=f"{_HEAD}criterion = nn.BCEWithLogitsLoss()\ndef train(model, loader, optimizer):\n{_LOOP}        loss = criterion(out, y)  # <-\n{_STEP}",
    ),
    Sample(
        "sigmoid before, as a method",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        p = out.squeeze(1).sigmoid()  # <-\n        loss = F.binary_cross_entropy_with_logits(p, y.float())\n{_STEP}",
    ),
    Sample(
        "sigmoid as last layer",
        f"{_HEAD}class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.body = nn.Sequential(nn.Linear(8, 1), nn.Sigmoid())  # <-\n"
        "    def forward(self, x):\n        return self.body(x)\n"
        f"model = Net()\nloss_fn = nn.BCEWithLogitsLoss(reduction='mean')\ndef train(loader, optimizer):\n{_LOOP}        loss = loss_fn(out, y)\n{_STEP}",
    ),
    Sample(
        "softmax before BCEWithLogitsLoss",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = F.binary_cross_entropy_with_logits(F.softmax(out, dim=1), y)  # <-\n{_STEP}",
    ),
    Sample(
        "sigmoid before cross entropy",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = F.cross_entropy(torch.sigmoid(out), y)  # <-\n{_STEP}",
    ),
    Sample(
        "no sigmoid before BCELoss",
        f"{_HEAD}model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 1))\ncriterion = nn.BCELoss()\ndef train(loader, optimizer):\n"
        f"{_LOOP}        loss = criterion(out, y)  # <-\n{_STEP}",
    ),
    Sample(
        "discriminator without a sigmoid",
        f"{_HEAD}class D(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(8, 1)\n    def forward(self, x):\n        return self.fc(x).view(-1)\n"
        "netD = D()\nbce = nn.BCELoss()\nfor x, _ in loader:\n    loss = bce(netD(x), torch.ones(4))  # <-\n    loss.backward()\n",
    ),
    Sample(
        "log of the sigmoid into BCELoss",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = F.binary_cross_entropy(F.logsigmoid(out), y)  # <-\n{_STEP}",
    ),
)
