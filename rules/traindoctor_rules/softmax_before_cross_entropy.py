"""Probabilities are given to a loss that takes logits or log-probabilities.

## What it looks like
Training works, but slowly, and the loss stays high: with 10 classes it starts at 2.30 and cannot fall below 1.46, however
good the model is. With `nll_loss` of probabilities the loss is negative, between -1 and 0.

## Why it happens
`CrossEntropyLoss` and `F.cross_entropy` apply log-softmax themselves. A softmax before them is a second one: its inputs lie
between 0 and 1, so the best possible loss for C classes is log(e + C - 1) - 1, and the gradient all but vanishes where the
model is sure. `NLLLoss` takes log-probabilities; given probabilities its gradient is weakest where the model is wrong, since
the logarithm is missing, and given logits it has no lower bound.

## When it is wrong
Softmax for an accuracy, for printing, inside of attention, or of the target (the second argument), is no mistake, and is
not reported. `log_softmax` before `CrossEntropyLoss` is superfluous, but changes nothing.

## What repairs it
Give the logits to `CrossEntropyLoss`; apply softmax only where probabilities are shown or compared. Or `log_softmax` and
`NLLLoss`.

## References
PyTorch documentation, torch.nn.CrossEntropyLoss: "The input is expected to contain the unnormalized logits for each class".
PyTorch documentation, torch.nn.NLLLoss: "The input given through a forward call is expected to contain log-probabilities".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.code.losses import in_script, unwrapped, written
from traindoctor.mistake import Mistake, Repair
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.losses import LossCall
    from traindoctor.code.script import Script
    from traindoctor.code.tensors import Tensor
    from traindoctor.mistake import Location

CAUSE = Cause(
    code="TD601",
    name="softmax-before-cross-entropy",
    summary="probabilities are given to a loss that takes logits or log-probabilities",
    explanation=__doc__,
)


@CAUSE.in_script("torch", "cross_entropy|CrossEntropyLoss|nll_loss|NLLLoss")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the losses whose prediction went through a softmax on every path."""
    for loss in script.losses.calls:
        if loss.kind not in ("cross_entropy", "nll"):
            continue
        tensors = script.tensors.of(loss.input, loss.frame)
        forms = {t.form for t in tensors}
        if forms == {"softmax"}:
            yield _double(script, loss, tensors[0]) if loss.kind == "cross_entropy" else _no_logarithm(script, loss, tensors[0])
        elif forms == {"logits"} and loss.kind == "nll":
            yield Mistake(
                script.place(loss.input),
                f"`{written(script, loss.call)}` is given logits, the output of a {_layer(tensors[0])} layer. "
                "NLLLoss takes log-probabilities: of logits it has no lower bound, and training runs away from the target.",
                "Apply log_softmax first, or use CrossEntropyLoss.",
            )


def _double(script: Script, loss: LossCall, tensor: Tensor) -> Mistake:
    node = in_script(script, tensor.by)
    edit = unwrapped(script, node) if node is not None else None
    inline = node is not None and script.statement(node) is script.statement(loss.call)
    what = written(script, node) if node is not None else "softmax"
    return Mistake(
        script.place(node if node is not None else loss.input),
        f"`{what}` is given to a cross entropy that applies log-softmax itself. Softmax twice: with 10 classes the loss "
        "cannot fall below 1.46, and its gradient vanishes where the model is sure.",
        "Give the logits to the loss.",
        repair=Repair("Remove the softmax before the cross entropy", (edit,), safe=inline) if edit is not None else None,
        related=((script.place(loss.call), "the loss"),) if node is not None else _elsewhere(tensor),
    )


def _no_logarithm(script: Script, loss: LossCall, tensor: Tensor) -> Mistake:
    node = in_script(script, tensor.by)
    return Mistake(
        script.place(node if node is not None else loss.input),
        f"`{written(script, node) if node is not None else 'softmax'}` is given to NLLLoss, which takes log-probabilities. Of "
        "probabilities it is between -1 and 0, and its gradient is weakest where the model is wrong.",
        "Use log_softmax in place of softmax, or CrossEntropyLoss on the logits.",
        related=((script.place(loss.call), "the loss"),) if node is not None else _elsewhere(tensor),
    )


def _elsewhere(tensor: Tensor) -> tuple[tuple[Location, str], ...]:
    return ((tensor.by.script.place(tensor.by.node), "the softmax"),) if tensor.by is not None else ()


def _layer(tensor: Tensor) -> str:
    return written(tensor.by.script, tensor.by.node.func) if tensor.by is not None else "linear"  # type: ignore[attr-defined]


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
        "softmax for the accuracy alone",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = F.cross_entropy(out, y)\n{_STEP}"
        "        accuracy = (torch.softmax(out, 1).argmax(1) == y).float().mean()\n        print(F.softmax(out, dim=1))\n",
    ),
    Sample(
        "attention",
        f"{_HEAD}class Attention(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.out = nn.Linear(8, 4)\n"
        "    def forward(self, q, k, v):\n        w = torch.softmax(q @ k, dim=-1)\n        return self.out(w @ v)\n"
        f"model = Attention()\ndef train(loader, optimizer):\n{_LOOP}        loss = nn.CrossEntropyLoss()(out, y)\n{_STEP}",
    ),
    Sample(
        "logarithm between",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        p = F.softmax(out, 1)\n        loss = F.nll_loss(torch.log(p + 1e-8), y)\n{_STEP}",
    ),
    Sample(
        "log_softmax and nll_loss",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = F.nll_loss(F.log_softmax(out, dim=1), y)\n{_STEP}",
    ),
    Sample(
        "LogSoftmax as last layer",
        f"{_HEAD}model = nn.Sequential(nn.Linear(8, 4), nn.LogSoftmax(dim=1))\ncriterion = nn.NLLLoss()\n"
        f"def train(loader, optimizer):\n{_LOOP}        loss = criterion(out, y)\n{_STEP}",
    ),
    Sample(
        "targets are probabilities",
        f"{_HEAD}def train(model, teacher, loader, optimizer):\n{_LOOP}        soft = F.softmax(teacher(x) / 4, dim=1)\n        loss = F.cross_entropy(out / 4, soft)\n{_STEP}",
    ),
    Sample(
        "distillation by kl_div",
        f"{_HEAD}def train(model, teacher, loader, optimizer):\n{_LOOP}        loss = F.kl_div(F.log_softmax(out, 1), F.softmax(teacher(x), 1))\n{_STEP}",
    ),
    Sample(
        "label smoothing",
        f"{_HEAD}criterion = nn.CrossEntropyLoss(label_smoothing=0.1)\ndef train(model, loader, optimizer):\n{_LOOP}        loss = criterion(out, y)\n{_STEP}        p = out.softmax(1)\n",
    ),
    Sample(
        "forward returns both",
        f"{_HEAD}class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(8, 4)\n"
        "    def forward(self, x):\n        z = self.fc(x)\n        return z, F.softmax(z, dim=1)\n"
        "model = Net()\ndef train(loader, optimizer):\n    for x, y in loader:\n        logits, probabilities = model(x)\n"
        "        loss = F.cross_entropy(logits, y)\n        loss.backward()\n        optimizer.step()\n",
    ),
    Sample(
        "softmax only in evaluation",
        f"{_HEAD}class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(8, 4)\n"
        "    def forward(self, x):\n        x = self.fc(x)\n        if not self.training:\n            x = F.softmax(x, dim=1)\n        return x\n"
        f"model = Net()\ndef train(loader, optimizer):\n{_LOOP}        loss = F.cross_entropy(out, y)\n{_STEP}",
    ),
    Sample(
        "loss of the file's own with the same name",
        f"{_HEAD}class CrossEntropyLoss(nn.Module):\n    def forward(self, p, y):\n        return -(y * p.log()).sum(1).mean()\n"
        f"criterion = CrossEntropyLoss()\ndef train(model, loader, optimizer):\n{_LOOP}        loss = criterion(torch.softmax(out, 1), y)\n{_STEP}",
    ),
    Sample(
        "the name is bound again",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        p = F.softmax(out, dim=1)\n        print(p)\n        p = out\n        loss = F.cross_entropy(p, y)\n{_STEP}",
    ),
    Sample(
        "a model that is not known",
        f"{_HEAD}from transformers import AutoModel\nmodel = AutoModel.from_pretrained('x')\nfor x, y in loader:\n    loss = F.cross_entropy(model(x).logits, y)\n    loss.backward()\n",
    ),
    Sample(
        "logits into nll through a wrapper that is not known",
        f"{_HEAD}class Net(nn.Module):\n    def __init__(self, head):\n        super().__init__()\n        self.head = head\n    def forward(self, x):\n        return self.head(x)\n"
        f"model = Net(make_head())\ndef train(loader, optimizer):\n{_LOOP}        loss = F.nll_loss(out, y)\n{_STEP}",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "in the call",
        f"{_HEAD}criterion = nn.CrossEntropyLoss()\ndef train(model, loader, optimizer):\n{_LOOP}        loss = criterion(torch.softmax(out, 1), y)  # <-\n{_STEP}",
        fixed=f"{_HEAD}criterion = nn.CrossEntropyLoss()\ndef train(model, loader, optimizer):\n{_LOOP}        loss = criterion(out, y)  # <-\n{_STEP}",
    ),
    Sample(
        "in a line of its own",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        out = out.softmax(dim=-1)  # <-\n        loss = F.cross_entropy(out, y)\n{_STEP}",
        fixed=f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = F.cross_entropy(out, y)\n{_STEP}",
    ),
    Sample(
        "module in place",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        p = nn.Softmax(dim=1)(out)  # <-\n        loss = F.cross_entropy(p, y)\n{_STEP}",
    ),
    Sample(
        "last layer",
        f"{_HEAD}model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4), nn.Softmax(dim=1))  # <-\nmodel = model.to('cuda')\n"
        f"criterion = nn.CrossEntropyLoss().to('cuda')\ndef train(loader, optimizer):\n{_LOOP}        loss = criterion(out, y)\n{_STEP}",
        fixed=f"{_HEAD}model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))  # <-\nmodel = model.to('cuda')\n"
        f"criterion = nn.CrossEntropyLoss().to('cuda')\ndef train(loader, optimizer):\n{_LOOP}        loss = criterion(out, y)\n{_STEP}",
    ),
    Sample(
        "last layer, named",
        f"{_HEAD}from collections import OrderedDict\nmodel = nn.Sequential(OrderedDict([\n    ('fc', nn.Linear(8, 4)),\n    ('p', nn.Softmax(dim=1)),  # <-\n]))\n"
        f"def train(loader, optimizer):\n{_LOOP}        loss = F.cross_entropy(out, y)\n{_STEP}",
    ),
    Sample(
        "forward returns it",
        f"{_HEAD}class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(8, 4)\n"
        "    def forward(self, x):\n        x = self.fc(x)\n        return F.softmax(x, dim=1)  # <-\n"
        "def main():\n    model = nn.DataParallel(Net()).cuda()\n    criterion = nn.CrossEntropyLoss()\n    train(model, criterion, loader, None)\n"
        f"def train(model, criterion, loader, optimizer):\n{_LOOP}        loss = criterion(out, y)\n{_STEP}",
    ),
    Sample(
        "softmax as a layer of the class",
        f"{_HEAD}class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(8, 4)\n        self.softmax = nn.Softmax(dim=1)  # <-\n"
        "    def forward(self, x):\n        return self.softmax(self.fc(x))\n"
        "class Trainer:\n    def __init__(self, model):\n        self.model = model\n        self.criterion = nn.CrossEntropyLoss()\n"
        "    def step(self, x, y):\n        loss = self.criterion(self.model(x), y)\n        loss.backward()\nTrainer(Net()).step(1, 2)\n",
    ),
    Sample(
        "model in another file",
        f"{_HEAD}from models.net import Net\nmodel = Net()\nfor x, y in loader:\n    out = model(x)\n    loss = F.cross_entropy(out, y)  # <-\n    loss.backward()\n",
        others={
            "models/net.py": "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
            "        self.body = nn.Sequential(nn.Linear(8, 4), nn.Softmax(dim=1))\n    def forward(self, x):\n        return self.body(x)\n"
        },
    ),
    Sample(
        "Lightning",
        f"{_HEAD}import lightning as L\nclass M(L.LightningModule):\n    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(8, 4)\n"
        "    def forward(self, x):\n        return self.fc(x).softmax(1)  # <-\n    def training_step(self, batch, i):\n        x, y = batch\n        return F.cross_entropy(self(x), y)\n",
    ),
    Sample(
        "helper that computes the loss",
        f"{_HEAD}def loss_of(out, y):\n    return F.cross_entropy(out, y)\ndef train(model, loader, optimizer):\n{_LOOP}        loss = loss_of(F.softmax(out, dim=1), y)  # <-\n{_STEP}",
    ),
    Sample(
        "nll_loss of probabilities",
        f"{_HEAD}def train(model, loader, optimizer):\n{_LOOP}        loss = F.nll_loss(F.softmax(out, dim=1), y)  # <-\n{_STEP}",
    ),
    Sample(
        "nll_loss of logits",
        f"{_HEAD}class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.fc = nn.Linear(8, 4)\n"
        "    def forward(self, x):\n        return self.fc(x)\n"
        f"model = Net()\ndef train(loader, optimizer):\n{_LOOP}        loss = F.nll_loss(out, y)  # <-\n{_STEP}",
    ),
)
