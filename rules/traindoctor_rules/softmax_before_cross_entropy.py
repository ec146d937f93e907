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
In the logs: strong label smoothing has a floor near that of a softmax applied twice (0.4 with 10 classes: 1.44), but its
validation loss is lower, and it begins further from ln C. Of two classes the range is that of any loss, and no more is said.
In scripts: softmax for an accuracy, for printing, inside of attention, or of the target (the second argument), is no mistake,
and is not reported. `log_softmax` before `CrossEntropyLoss` is superfluous, but changes nothing.

## What repairs it
Give the logits to `CrossEntropyLoss`; apply softmax only where probabilities are shown or compared. Or `log_softmax` and
`NLLLoss`.

## References
PyTorch documentation, torch.nn.CrossEntropyLoss: "The input is expected to contain the unnormalized logits for each class".
Szegedy et al. 2016, arXiv:1512.00567, section 7 (label smoothing, whose floor is near).
PyTorch documentation, torch.nn.NLLLoss: "The input given through a forward call is expected to contain log-probabilities".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.code.losses import in_script, unwrapped, written
from traindoctor.mistake import Mistake, Repair
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

    from traindoctor.code.losses import LossCall
    from traindoctor.code.script import Script
    from traindoctor.code.tensors import Tensor
    from traindoctor.mistake import Location
    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD601",
    name="softmax-before-cross-entropy",
    summary="probabilities are given to a loss that takes logits or log-probabilities",
    explanation=__doc__,
    thresholds=(
        Threshold("start", 0.015, "relative distance of the first loss from ln C", "equal scores change little in a softmax"),
        Threshold(
            "few", 10.0, "classes up to which ln C is a level by itself", "from there on neighbours are closer than starts are"
        ),
        Threshold("near", 0.035, "level over ln(1 + (C - 1) / e), less 1", STUDY),
        Threshold(
            "wide",
            0.06,
            "level over ln(1 + (C - 1) / e), less 1, of a loss that has arrived",
            f"{STUDY}: 0.07 of label smoothing, which is smoother",
        ),
        Threshold("arrived", 0.1, "fall in the last quarter over fall in the first", STUDY),
        Threshold("exact", 0.0015, "relative distance of the first loss from ln C of nearly equal scores", f"{STUDY}: 0.0007"),
        Threshold("many", 100, "classes from which ln C is known no more to that distance", "arithmetic: they lie 1 / C apart"),
        Threshold("left_start", 0.97, "tail over first loss of a run that learns", STUDY),
        Threshold("long", 0.3, "share of the run at that level", STUDY),
        Threshold("short", 0.1, "share of the run at that level", STUDY),
        Threshold("quiet", 0.02, "noise over level: an answer costs at most 1", STUDY),
        Threshold("fits", 0.06, "relative distance of loss + accuracy - 1 from the floor", STUDY),
        Threshold("good", 0.8, "accuracy of a model that is good", "loss and accuracy do not go together otherwise"),
        Threshold("some", 0.3, "accuracy from which loss and accuracy tell", STUDY),
        Threshold("spread", 0.12, "scatter of loss + accuracy over the evaluations", STUDY),
    ),
    explains=("TD202",),
    look_alikes=("TD202",),
    experiment="print the model's output for one row: if it adds up to 1, it is no logit",
    refutation="A cross-entropy below ln(1 + (C - 1) / e) on any batch.",
)


@CAUSE.in_logs(needs=("loss",))
def stands_on_the_floor(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a loss between the bounds of a softmax applied twice, and how long it stands on the lower one."""
    from traindoctor.signals.levels import classes_at, double_softmax_fit

    loss = m.loss
    if m.is_adversarial or loss.n_not_finite or not loss.is_positive:
        return
    fit = double_softmax_fit(loss.value, loss.smooth, limits["near"], limits["start"])
    guessing = classes_at(loss.tail, limits["start"])
    if fit is None or (guessing is not None and guessing <= limits["few"] < fit.classes):
        return  # a start far above ln C, and a level at it, is another run
    if fit.classes < limits["many"] and fit.off_start < limits["exact"] and loss.tail < limits["left_start"] * loss.value[0]:
        yield supports(
            "equal",
            fit.off_start,
            unit="relative distance from ln C",
            weight=MODERATE,
            source=loss.source,
            text=f"The loss begins at {loss.value[0]:.4g}, within {fit.off_start:.2%} of ln {fit.classes}, as scores do that a "
            f"softmax has made nearly equal, and no later point is below ln(1 + {fit.classes - 1}/e) = {fit.bound:.4g}.",
        )
    stands = fit.share >= limits["short"] or (fit.above <= limits["wide"] and loss.progress_left < limits["arrived"])
    if fit.above <= limits["wide"] and stands:
        yield supports(
            "floor",
            fit.bound * (1.0 + fit.above),
            unit="loss",
            weight=STRONG if fit.share >= limits["long"] or fit.above > limits["near"] else MODERATE + WEAK,
            source=loss.source,
            text=f"The loss begins at {loss.value[0]:.4g}, ln {fit.classes}, and ends {fit.above:.1%} above "
            f"ln(1 + {fit.classes - 1}/e) = {fit.bound:.4g}; no point is below.",
        )
        if fit.above <= limits["near"] and loss.noise < limits["quiet"]:
            yield supports(
                "quiet",
                loss.noise,
                unit="noise / level",
                weight=MODERATE,
                source=loss.source,
                text=f"It is as quiet there, {loss.noise:.2%}, as a loss is whose worst answer costs 1 more than its best.",
            )


@CAUSE.in_logs(needs=("val_loss", "val_accuracy"))
def goes_with_the_accuracy(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a validation loss that is the floor plus the share of wrong answers, or one that is below the floor."""
    from math import log

    from traindoctor.signals.levels import bounded_by_accuracy, classes_at, double_softmax_floor

    validation, accuracy = m.series("val_loss"), m.series("val_accuracy")
    seen = bounded_by_accuracy(validation.step, validation.value, accuracy.step, accuracy.value)
    first = float(m.loss.value[0]) if m.has("loss") and m.loss.n else 0.0
    classes = classes_at(first, limits["start"])
    if classes is None and seen is not None and seen.classes == seen.classes and first < log(max(seen.classes, 1.0)):
        classes = round(seen.classes)  # the first point is the mean of an epoch, in which something was learnt
    if m.is_adversarial or classes is None or classes < 3:
        return
    floor = double_softmax_floor(classes)
    lowest = float(min(validation.value))
    if lowest < floor * (1.0 - limits["near"]):
        yield against(
            "below",
            lowest,
            unit="loss",
            weight=PROOF,
            source=validation.source,
            text=f"The validation loss goes down to {lowest:.3g}, below the floor of {floor:.3g}.",
        )
        return
    if seen is None or seen.best < limits["some"] or seen.spread > limits["spread"]:
        return
    distance = abs(seen.intercept / floor - 1.0)
    if seen.best >= limits["good"] and distance < limits["fits"]:
        weight = PROOF
    elif distance < 2.0 * limits["fits"]:
        weight = STRONG if seen.best >= 0.6 else MODERATE
    else:
        return
    yield supports(
        "accuracy",
        seen.intercept,
        unit="validation loss + accuracy - 1",
        weight=weight,
        source=validation.source,
        text=f"With an accuracy of {seen.best:.0%} the validation loss is still {lowest:.3g}: it is {seen.intercept:.3g} "
        "plus the share "
        f"of wrong answers at each evaluation, and ln(1 + {classes - 1}/e) = {floor:.3g}.",
    )


@CAUSE.fixes
def logits(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the repair of the code: no setting cures it."""
    from traindoctor.model import Fix

    yield Fix("Give the logits to the cross entropy: take the softmax out of the model, or of the loss's argument")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    text = " ".join(e.text for e in evidence if e.supports)
    if not m.has("loss"):
        return Statement("Probabilities were given to a loss that takes logits.", text)
    start = int(m.loss.step[0])
    title = f"The loss could not fall below {m.loss.tail:.3g}: softmax was applied before a cross entropy that does so itself."
    return Statement(title, text, Segment(start, int(m.loss.series.step[-1]) + 1, start))


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    floor = [1.4612 + 0.8414 * 0.95**k + 0.004 * ((k * 7919 + 13) ** 2 % 2039 / 2039.0) for k in range(200)]
    usual = [2.3026 * 0.97**k for k in range(200)]
    right = [0.1 + 0.85 * (1.0 - 0.8**k) for k in range(20)]
    held = [1.4612 + 1.0 - a for a in right]
    above = [1.4612 * 1.045 + (2.3026 - 1.4612 * 1.045) * 0.9**k for k in range(200)]
    valid = (
        Example("a usual run", run_of(loss=usual, val_loss=usual[::10], val_accuracy=right)),
        Example("on its way", run_of(loss=usual[:20])),
        Example("noisy labels, a floor elsewhere", run_of(loss=[1.7 + 0.6 * 0.95**k for k in range(200)])),
        Example(
            "smoothed labels", run_of(loss=[1.4445 + 0.86 * 0.9**k for k in range(200)], val_loss=usual[::10], val_accuracy=right)
        ),
        Example("two classes", run_of(loss=[0.6931 - 0.38 * (1.0 - 0.9**k) for k in range(200)])),
        Example("two points", run_of(loss=[2.3, 1.46])),
    )
    invalid = (
        Example("begins at ln 10, arrives at 5 % above the floor", run_of(loss=above)),
        Example("floor of 1.461, loss alone", run_of(loss=floor)),
        Example("good accuracy at a high loss", run_of(loss=floor[:100], val_loss=held, val_accuracy=right)),
    )
    return valid, invalid


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
CAUSE.valid_code = (
    Sample(
        "layer that is appended only sometimes, or never last",
        _HEAD
        + """\
def sometimes(classes, probabilities):
    layers = [nn.Linear(784, classes)]
    if probabilities:
        layers.append(nn.Softmax(dim=1))
    return nn.Sequential(*layers)
def within(classes):
    layers = [nn.Linear(784, 10), nn.Softmax(dim=1)]
    layers += [nn.Linear(10, classes)]
    return nn.Sequential(*layers)
criterion = nn.CrossEntropyLoss()
def step(x, y):
    (criterion(sometimes(10, False)(x), y) + criterion(within(10)(x), y)).backward()
""",
    ),
    Sample(
        "softmax for the accuracy alone",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
        accuracy = (torch.softmax(out, 1).argmax(1) == y).float().mean()
        print(F.softmax(out, dim=1))
""",
    ),
    Sample(
        "attention",
        _HEAD
        + """\
class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.out = nn.Linear(8, 4)
    def forward(self, q, k, v):
        w = torch.softmax(q @ k, dim=-1)
        return self.out(w @ v)
model = Attention()
def train(loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = nn.CrossEntropyLoss()(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "logarithm between",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        p = F.softmax(out, 1)
        loss = F.nll_loss(torch.log(p + 1e-8), y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "log_softmax and nll_loss",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.nll_loss(F.log_softmax(out, dim=1), y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "LogSoftmax as last layer",
        _HEAD
        + """\
model = nn.Sequential(nn.Linear(8, 4), nn.LogSoftmax(dim=1))
criterion = nn.NLLLoss()
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
        "targets are probabilities",
        _HEAD
        + """\
def train(model, teacher, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        soft = F.softmax(teacher(x) / 4, dim=1)
        loss = F.cross_entropy(out / 4, soft)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "distillation by kl_div",
        _HEAD
        + """\
def train(model, teacher, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.kl_div(F.log_softmax(out, 1), F.softmax(teacher(x), 1))
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "label smoothing",
        _HEAD
        + """\
criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = criterion(out, y)
        loss.backward()
        optimizer.step()
        p = out.softmax(1)
""",
    ),
    Sample(
        "forward returns both",
        _HEAD
        + """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)
    def forward(self, x):
        z = self.fc(x)
        return z, F.softmax(z, dim=1)
model = Net()
def train(loader, optimizer):
    for x, y in loader:
        logits, probabilities = model(x)
        loss = F.cross_entropy(logits, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "softmax only in evaluation",
        _HEAD
        + """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)
    def forward(self, x):
        x = self.fc(x)
        if not self.training:
            x = F.softmax(x, dim=1)
        return x
model = Net()
def train(loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "loss of the file's own with the same name",
        _HEAD
        + """\
class CrossEntropyLoss(nn.Module):
    def forward(self, p, y):
        return -(y * p.log()).sum(1).mean()
criterion = CrossEntropyLoss()
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = criterion(torch.softmax(out, 1), y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "the name is bound again",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        p = F.softmax(out, dim=1)
        print(p)
        p = out
        loss = F.cross_entropy(p, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "a model that is not known",
        _HEAD
        + """\
from transformers import AutoModel
model = AutoModel.from_pretrained('x')
for x, y in loader:
    loss = F.cross_entropy(model(x).logits, y)
    loss.backward()
""",
    ),
    Sample(
        "logits into nll through a wrapper that is not known",
        _HEAD
        + """\
class Net(nn.Module):
    def __init__(self, head):
        super().__init__()
        self.head = head
    def forward(self, x):
        return self.head(x)
model = Net(make_head())
def train(loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.nll_loss(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "in the call",
        _HEAD
        + """\
criterion = nn.CrossEntropyLoss()
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = criterion(torch.softmax(out, 1), y)  # <-
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
        "in a line of its own",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        out = out.softmax(dim=-1)  # <-
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
""",
        fixed=_HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "module in place",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        p = nn.Softmax(dim=1)(out)  # <-
        loss = F.cross_entropy(p, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "last layer",
        _HEAD
        + """\
model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4), nn.Softmax(dim=1))  # <-
model = model.to('cuda')
criterion = nn.CrossEntropyLoss().to('cuda')
def train(loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = criterion(out, y)
        loss.backward()
        optimizer.step()
""",
        fixed=_HEAD
        + """\
model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))  # <-
model = model.to('cuda')
criterion = nn.CrossEntropyLoss().to('cuda')
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
        "last layer, named",
        _HEAD
        + """\
from collections import OrderedDict
model = nn.Sequential(OrderedDict([
    ('fc', nn.Linear(8, 4)),
    ('p', nn.Softmax(dim=1)),  # <-
]))
def train(loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "forward returns it",
        _HEAD
        + """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)
    def forward(self, x):
        x = self.fc(x)
        return F.softmax(x, dim=1)  # <-
def main():
    model = nn.DataParallel(Net()).cuda()
    criterion = nn.CrossEntropyLoss()
    train(model, criterion, loader, None)
def train(model, criterion, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = criterion(out, y)
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "softmax as a layer of the class",
        _HEAD
        + """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)
        self.softmax = nn.Softmax(dim=1)
    def forward(self, x):
        return self.softmax(self.fc(x))  # <-
class Trainer:
    def __init__(self, model):
        self.model = model
        self.criterion = nn.CrossEntropyLoss()
    def step(self, x, y):
        loss = self.criterion(self.model(x), y)
        loss.backward()
Trainer(Net()).step(1, 2)
""",
        fixed=_HEAD
        + """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)
        self.softmax = nn.Softmax(dim=1)
    def forward(self, x):
        return self.fc(x)  # <-
class Trainer:
    def __init__(self, model):
        self.model = model
        self.criterion = nn.CrossEntropyLoss()
    def step(self, x, y):
        loss = self.criterion(self.model(x), y)
        loss.backward()
Trainer(Net()).step(1, 2)
""",
    ),
    Sample(
        "criterion of a dictionary",
        _HEAD
        + """\
CRITERIA = {"ce": nn.CrossEntropyLoss(), "mse": nn.MSELoss()}
def step(model, x, y):
    probabilities = model(x).softmax(-1)  # <-
    CRITERIA["ce"](probabilities, y).backward()
""",
    ),
    Sample(
        "layers listed, then chained",
        _HEAD
        + """\
def build(classes):
    layers = [nn.Flatten(), nn.Linear(784, 128), nn.ReLU()]
    layers.append(nn.Linear(128, classes))
    layers.append(nn.Softmax(dim=1))  # <-
    return nn.Sequential(*layers)
model = build(10)
criterion = nn.CrossEntropyLoss()
def step(x, y):
    criterion(model(x), y).backward()
""",
    ),
    Sample(
        "model in another file",
        _HEAD
        + """\
from models.net import Net
model = Net()
for x, y in loader:
    out = model(x)
    loss = F.cross_entropy(out, y)  # <-
    loss.backward()
""",
        others={
            "models/net.py": """\
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 4), nn.Softmax(dim=1))
    def forward(self, x):
        return self.body(x)
"""
        },
    ),
    Sample(
        "Lightning",
        _HEAD
        + """\
import lightning as L
class M(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)
    def forward(self, x):
        return self.fc(x).softmax(1)  # <-
    def training_step(self, batch, i):
        x, y = batch
        return F.cross_entropy(self(x), y)
""",
    ),
    Sample(
        "helper that computes the loss",
        _HEAD
        + """\
def loss_of(out, y):
    return F.cross_entropy(out, y)
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = loss_of(F.softmax(out, dim=1), y)  # <-
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "nll_loss of probabilities",
        _HEAD
        + """\
def train(model, loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.nll_loss(F.softmax(out, dim=1), y)  # <-
        loss.backward()
        optimizer.step()
""",
    ),
    Sample(
        "nll_loss of logits",
        _HEAD
        + """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 4)
    def forward(self, x):
        return self.fc(x)
model = Net()
def train(loader, optimizer):
    for x, y in loader:
        optimizer.zero_grad()
        out = model(x)
        loss = F.nll_loss(out, y)  # <-
        loss.backward()
        optimizer.step()
""",
    ),
)
