"""The model is in the wrong mode: it trains in evaluation mode from its first evaluation on, or is evaluated in training mode.

## What it looks like
The curve changes its character at the first evaluation: the training loss drops, the validation loss stops improving or rises.
Running means of batch normalisation stand still, and drift away from what the layers see. The other way round, without `eval()`,
the validation loss is noisy: the same rows and the same weights give another loss each time. It shows where the learning rate has
decayed to next to nothing, so that the weights stand, and the validation loss goes on jumping as before, over many evaluations.

## Why it happens
`model.eval()` stays in force until `model.train()` is called. It was called once before the loop, and the evaluation within the
loop undoes it for good. Or `eval()` was forgotten, and dropout and the statistics of the batch are at work in the evaluation.

## When it is wrong
A model without dropout, batch normalisation or the like behaves the same in both modes; where that is seen, this is but a note.
Fine-tuning with frozen statistics calls `eval()` on purpose, on parts of the model or before each training pass; both are left
alone, and so are other models: a teacher, a network for the loss, an average of weights. A validation on rows that are drawn
anew each time is as noisy, so that many evaluations say little; at a constant learning rate the log does not tell. An adaptive
optimizer takes steps of the size of the rate: at a hundredth of it the weights still move a little, and a loss that changes by a
hundredth says nothing.

## What repairs it
`model.train()` at the top of the epoch, or at the end of the function that evaluates; `model.eval()` at its beginning.

## References
PyTorch documentation, torch.nn.Module.train and eval; Autograd mechanics, "Evaluation mode".
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from traindoctor.code.edits import line_before
from traindoctor.code.names import last_of
from traindoctor.code.scaler import meet
from traindoctor.code.values import Instance, Optimizer, Thing
from traindoctor.mistake import Mistake, Repair
from traindoctor.patterns import lazy
from traindoctor.rule import (
    MODERATE,
    STRONG,
    WEAK,
    Cause,
    Example,
    Examples,
    Sample,
    Statement,
    Threshold,
    against,
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.code.events import TracedEvent, TracedLoop
    from traindoctor.code.script import Script
    from traindoctor.mistake import Severity
    from traindoctor.model import Evidence, Fix
    from traindoctor.rule import Limits
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD701",
    name="eval-mode-not-undone",
    summary="the model trains in evaluation mode, or is evaluated in training mode",
    explanation=__doc__,
    concerns=("validation",),
    thresholds=(
        Threshold("rest", 0.02, "learning rate over its peak at which weights stand", "a fiftieth of the usual step"),
        Threshold(
            "jump",
            0.02,
            "relative change of the validation loss while the weights stand",
            f"{STUDY}: faulty from 0.027, sound 0.008 at most; under Adam a fiftieth of the rate still moves it by a hundredth",
        ),
        Threshold("as_before", 0.2, "that change over the usual one before", f"{STUDY}: sound runs 0.12 at most"),
        Threshold("whole", 200.0, "evaluations", "more are of a batch or a few, drawn anew: each is another loss by nature"),
        Threshold("often", 6.0, "changes seen while the weights stand", f"{STUDY}: six and more where the jump is small"),
        Threshold("large", 0.05, "relative change that two evaluations are enough for", f"{STUDY}: 0.12 and 0.15"),
        Threshold("same", 0.5, "that change over the usual one before, at few evaluations", f"{STUDY}: 0.94 and 1.73"),
        Threshold("calm", 0.3, "change over the usual one before, at which it has come to rest with the rate", STUDY),
    ),
    experiment="evaluate the same weights twice: in evaluation mode the two losses are equal",
    refutation="Two evaluations of the same weights that give the same loss.",
)


@CAUSE.in_logs(needs=("val_loss", "learning_rate"))
def jumps_at_rest(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a validation loss that goes on jumping when the learning rate, and so the weights, have come to rest."""
    from traindoctor.signals.drift import at_rest

    validation = m.series("val_loss")
    if m.is_adversarial or validation.n_not_finite or not validation.is_positive:
        return
    found = at_rest(validation.value, m.lr_at(validation.step), limits["rest"])
    if found is None:
        return
    often = found.n >= limits["often"] and found.jump > limits["jump"] and found.quieter > limits["as_before"]
    few = found.n >= 2 and found.jump > limits["large"] and found.quieter > limits["same"]
    if often or few:
        yield supports(
            "jump",
            found.jump,
            unit="relative change",
            weight=STRONG if validation.n <= limits["whole"] else WEAK,
            source=validation.source,
            text=f"At {found.rate:.1%} of its peak rate the weights stand, and the validation loss still changes by "
            f"{found.jump:.1%}.",
        )
        yield supports(
            "as_before",
            found.quieter,
            unit="times the change before",
            weight=MODERATE,
            source=validation.source,
            text=f"Over {found.n} evaluations it is {found.quieter:.2g} times what it was while they moved.",
        )
    elif found.quieter < limits["calm"]:
        yield against(
            "calm",
            found.quieter,
            unit="times the change before",
            weight=STRONG,
            source=validation.source,
            text="The validation loss comes to rest with the learning rate: the same weights give the same loss.",
        )


@CAUSE.fixes
def change_mode(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the repair of an evaluation in training mode; that of a training in evaluation mode is a patch of the script."""
    from traindoctor.model import Fix

    if m.has("val_loss") and m.has("learning_rate") and any(e.supports for e in jumps_at_rest(m, limits)):
        yield Fix("Call model.eval() before the evaluation, and model.train() after it")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    text = " ".join(e.text for e in evidence if e.supports)
    if any(e.kind == "log" for e in evidence):
        return Statement("The model was evaluated in training mode: the same weights gave another loss each time.", text)
    return Statement("The model was put into evaluation mode in the training loop, and trained on in it.", text)


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    wave = [(k * 7919 + 13) ** 2 % 2039 / 1019.5 - 1.0 for k in range(60)]
    rate = [0.1] * 30 + [0.001] * 30
    noisy = [0.5 * (1.0 + 0.06 * w) for w in wave]
    train = [2.3 * 0.95**k for k in range(60)]
    valid: tuple[Example, ...] = (
        Example("comes to rest with the rate", run_of(loss=train, learning_rate=rate, val_loss=[*noisy[:30], *[0.5] * 30])),
        Example("noisy at a constant rate", run_of(loss=train, learning_rate=[0.1] * 60, val_loss=noisy)),
        Example("rate not logged", run_of(loss=train, val_loss=noisy)),
        Example("smooth", run_of(loss=train, learning_rate=rate, val_loss=train)),
        Example(
            "cut by a hundred for the last evaluations, which move by a hundredth",
            run_of(loss=train, learning_rate=[0.1] * 56 + [0.001] * 4, val_loss=[*train[:56], 0.348, 0.350, 0.347, 0.349]),
        ),
        Example("three points", run_of(loss=[2.0, 1.0, 0.5], learning_rate=[0.1, 0.1, 0.0], val_loss=[2.0, 1.0, 1.5])),
    )
    long, slow = [2.0 * 0.98**k + 0.5 for k in range(400)], [0.1 * (1.0 - k / 399) for k in range(400)]
    drawn = [v * (1.0 + 0.1 * (-1.0) ** k) for k, v in enumerate(long)]
    valid += (Example("a batch drawn anew at each evaluation", run_of(loss=long, learning_rate=slow, val_loss=drawn)),)
    invalid = (Example("jumps on when the weights stand", run_of(loss=train, learning_rate=rate, val_loss=noisy)),)
    return valid, invalid


#: What differs between the two modes, and libraries whose models have some of it.
_TWO_MODES = lazy(
    r"dropout|drop_?path|drop_(rate|prob)|batch_?norm|instance_?norm|sync_?bn|nn\.Transformer|TransformerEncoder|TransformerDecoder"
    r"|torchvision\.models|models\.resnet|\btimm\b|transformers|torch\.hub",
    re.IGNORECASE,
)
#: Imports of a file that hold no models but those whose names `_TWO_MODES` knows.
_NO_MODELS = frozenset({"torch", "numpy", "math", "typing", "collections", "functools", "__future__"})
#: Functions that may put a model back, whatever they are called on.
_MAY_PUT_BACK = lazy(
    r"\b(set|to|switch|prep|put|mode|restore|toggle)\w*train\w*\(|train\w*mode\w*\(|set_mode\(|\.training *=|\.mode\(",
    re.IGNORECASE,
)
#: Names of the one model of a script.
_THE_MODEL = lazy(r"(^|\.)(model|net|network)$")
_NO_GRADIENTS = lazy(r"no_grad|inference_mode|set_grad_enabled")

#: What comes of it where the two modes differ, where they do not, and where that is not known; and how bad it is, where a
#: loop around calls `train()` again and where none does.
_CONSEQUENCE: dict[bool | None, str] = {
    True: ": without dropout, and with the running statistics of batch normalisation.",
    False: ", which makes no difference to this model as long as it has no dropout and no batch normalisation.",
    None: ": without dropout, and with the running statistics of batch normalisation, where it has them.",
}
_SEVERITY: dict[tuple[bool | None, bool], Severity] = {
    (True, False): "error",
    (True, True): "warning",
    (None, False): "warning",
    (None, True): "info",
    (False, False): "info",
    (False, True): "info",
}


@CAUSE.in_script("eval|valid|train(False)", "backward|optimizer|optim.|Adam|SGD", "for |while ")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the calls of `eval()` in loops that train the same model and hold no `train()` of it."""
    trained_before = {e.target for e in script.trace.events() if e.kind == "train"}
    seen: set[tuple[str, ast.AST]] = set()
    for root in script.trace.roots:
        for loop in reversed(list(root.inner())):  # the inner ones first: `train()` belongs where the passes are
            events = list(loop.flat())
            if loop.node is None or not any(e.kind == "backward" for e in events) or _may_put_back(loop):
                continue
            on_purpose = _trained_in_evaluation_mode(events)
            for at, event in enumerate(events):
                model = event.target
                if event.kind != "eval" or model is None or model in on_purpose or (model, event.node) in seen:
                    continue
                trains = [e for e in events if e.kind == "train" and (e.target is None or _is_part(e.target, model))]
                if trains or _is_bound_in(loop, model) or not _is_trained(event, events, model in trained_before):
                    continue
                if not any(e.kind == "backward" for e in events[:at]) and not _is_evaluation(event, model, events):
                    continue
                matters = _mode_matters(event)
                until = "until the next pass" if (later := _is_undone_later(loop, model)) else "from the first evaluation on"
                seen.add((model, event.node))
                first = next(e for e in events if e.kind == "backward")
                name = event.script.source(event.node.func.value)  # type: ignore[attr-defined]
                yield Mistake(
                    script.place(event.node if event.script is script else event.via),
                    f"{name}.eval() is not undone in this loop. It trains in evaluation mode {until}" + _CONSEQUENCE[matters],
                    f"Call {name}.train() at the top of the loop, before the training pass",
                    severity=_SEVERITY[matters, later],
                    repair=_train_first(script, loop, event, model),
                    related=((first.script.place(first.node), f"{name} is trained here"),),
                )


def _trained_in_evaluation_mode(events: list[TracedEvent]) -> set[str]:
    """Return the models that the training pass itself puts into evaluation mode: a probe on frozen features."""
    first = next(n for n, e in enumerate(events) if e.kind == "backward")
    return {e.target for e in events[:first] if e.kind == "eval" and e.target and not _is_evaluation(e, e.target, events)}


def _is_part(other: str, model: str) -> bool:
    """Return whether one path is the other, or a part of it."""
    return other == model or other.startswith(f"{model}.") or model.startswith(f"{other}.")


def _is_bound_in(loop: TracedLoop, model: str) -> bool:
    """Return whether the model is another one in each round: it, or the object it is a part of, is assigned in the loop."""
    parts = model.split(".")
    return any(".".join(parts[: n + 1]) in loop.bound for n in range(len(parts)))


def _is_undone_later(loop: TracedLoop, model: str) -> bool:
    """Return whether a loop around puts the model back in each of its rounds."""
    around = loop.parent
    while around is not None and around.node is not None:
        if any(e.kind == "train" and e.target is not None and _is_part(e.target, model) for e in around.flat()):
            return True
        around = around.parent
    return False


def _is_trained(event: TracedEvent, events: list[TracedEvent], has_trained: bool) -> bool:
    """Return whether an optimizer that steps in the loop holds the model, or some part of it.

    Where it is not known what an optimizer holds: whether the model is put into training mode elsewhere, its gradients are
    clipped, or it goes by the name of the one model and is called in the function of the training pass.
    """
    model = event.target or ""
    unknown = False
    for other in events:
        if other.kind in ("step", "clip"):
            holds = other.thing.holds if isinstance(other.thing, Optimizer | Thing) else None
            unknown |= other.kind == "step" and not all(map(event.script.trace.is_model, holds or [""]))
            if holds is not None and any(h == model or h.startswith(f"{model}.") for h in holds):
                return True
    return unknown and (has_trained or (bool(_THE_MODEL.search(model)) and _is_called_for_training(event, events)))


def _is_called_for_training(event: TracedEvent, events: list[TracedEvent]) -> bool:
    """Return whether the model, by the name that the call of `eval()` uses, is called where a backward pass stands."""
    name = event.node.func.value  # type: ignore[attr-defined]
    text = event.script.source(name)
    for other in events:
        if other.kind == "backward":
            function = other.script.function(other.node) or other.script.tree
            calls = other.script.calls.get(last_of(name), ())
            if any(other.script.source(c.func) == text and function in other.script.above(c) for c in calls):
                return True
    return False


def _is_evaluation(event: TracedEvent, model: str, events: list[TracedEvent]) -> bool:
    """Return whether a call begins an evaluation, not a training pass in evaluation mode.

    It stands in the other branch than the training pass, in a function of its own that computes without gradients, or
    before a block without gradients that the model is used in.
    """
    passes = [e for e in events if e.kind == "backward"]
    if event.within & {"no_grad", "inference_mode"} or not any(meet(event, e) for e in passes):
        return True
    script = event.script
    function = script.function(event.node)
    if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and not any(
        function in e.script.above(e.node) for e in passes
    ):
        text = script.source(function) + "".join(script.source(d) for d in function.decorator_list)
        return bool(_NO_GRADIENTS.search(text))
    statement = script.statement(event.node)
    block = getattr(script.parents[statement], "body", [])
    after = block[block.index(statement) + 1 :] if statement in block else []
    used = re.compile(rf"\b{re.escape(model)}\b")
    return any(
        isinstance(s, ast.With) and _NO_GRADIENTS.search(script.source(s.items[0].context_expr)) and used.search(script.source(s))
        for s in after
    )


def _may_put_back(loop: TracedLoop) -> bool:
    """Return whether something in the loop may put a model back in a way that is not followed, or the loop runs but once."""
    if any("first iteration" in why or "Lightning" in why for why in loop.unsure):
        return True
    return loop.node is not None and bool(_MAY_PUT_BACK.search(loop.script.source(loop.node)))


def _mode_matters(event: TracedEvent) -> bool | None:
    """Return whether the model behaves differently in its two modes; None where its class is not known."""
    if not isinstance(event.thing, Instance):
        return _is_built_with_two_modes(event)
    owner = event.thing.of.script
    if _TWO_MODES.search(owner.text):
        return True
    parts = {n.id for n in owner.all(ast.Name) if any(isinstance(above, ast.ClassDef) for above in owner.above(n))}  # type: ignore[attr-defined]
    foreign = any(owner.imports[name].partition(".")[0] not in _NO_MODELS for name in parts & owner.imports.keys())
    return None if foreign else False


def _is_built_with_two_modes(event: TracedEvent) -> bool | None:
    """Return True where the call that builds the model names a library of such models, or layers of this kind; else None."""
    script = event.script
    built = script.origin(event.node.func.value)  # type: ignore[attr-defined]
    if isinstance(built, ast.Call) and _TWO_MODES.search(f"{script.dotted(built.func)} {script.source(built)}"):
        return True
    return None


def _train_first(script: Script, loop: TracedLoop, event: TracedEvent, model: str) -> Repair | None:
    """Return the line that puts the model back at the top of the loop, where it goes by the same name there."""
    node = loop.node
    if node is None or loop.script is not script or event.script is not script:
        return None
    if script.function(event.node) is script.function(node):
        name = script.source(event.node.func.value)  # type: ignore[attr-defined]
    elif any(script.dotted(n) == model for n in ast.walk(node) if isinstance(n, ast.Name | ast.Attribute)):
        name = model
    else:
        return None
    line = line_before(script, node.body[0], f"{name}.train()")
    return Repair(f"Put {name} back into training mode in each round", (line,)) if line is not None else None


_NET = """\
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(10, 2)
        self.drop = nn.Dropout(0.5)
    def forward(self, x):
        return self.fc(self.drop(x))
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""
_PASS = """\
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
"""
CAUSE.valid_code = (
    Sample(
        "a linear probe trains in evaluation mode on purpose",
        """
import torch

def train(loader, model, criterion, optimizer):
    model.eval()
    for images, target in loader:
        loss = criterion(model(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

def validate(loader, model):
    model.eval()
    with torch.no_grad():
        for images, target in loader:
            count(model(images), target)

def main(args, model, loader, val_loader, criterion):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for epoch in range(args.epochs):
        train(loader, model, criterion, optimizer)
        validate(val_loader, model)
""",
    ),
    Sample(
        "train at the top of the epoch",
        f"""\
{_NET}for epoch in range(10):
    model.train()
{_PASS}    model.eval()
    with torch.no_grad():
        evaluate(model)
""",
    ),
    Sample(
        "train in the function of the pass",
        f"""\
{_NET}def train_one_epoch(model, optimizer):
    model.train()
{_PASS}def evaluate(model):
    model.eval()
    return score(model)
for epoch in range(10):
    train_one_epoch(model, optimizer)
    evaluate(model)
""",
    ),
    Sample(
        "undone at the end of the evaluation",
        f"""\
{_NET}def evaluate():
    model.eval()
    with torch.no_grad():
        score(model)
    model.train()
for epoch in range(10):
{_PASS}    evaluate()
""",
    ),
    Sample(
        "the mode is kept and given back",
        f"""\
{_NET}def evaluate():
    was = model.training
    model.eval()
    score(model)
    model.train(was)
for epoch in range(10):
{_PASS}    evaluate()
""",
    ),
    Sample(
        "another model",
        f"""\
{_NET}teacher = Net()
for epoch in range(10):
    model.train()
    teacher.eval()
{_PASS}    ema.eval()
""",
    ),
    Sample(
        "another model, before the loop trains",
        f"""\
{_NET}vgg = Net()
for epoch in range(10):
{_PASS}    vgg.eval()
""",
    ),
    Sample(
        "frozen statistics: eval before each pass",
        f"""\
{_NET}for epoch in range(10):
    model.eval()
{_PASS}""",
    ),
    Sample(
        "frozen statistics: parts of the model",
        f"""\
{_NET}for epoch in range(10):
{_PASS}    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
    model.fc.eval()
""",
    ),
    Sample(
        "a new model in each round",
        """\
import torch
for seed in range(5):
    model = make(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    model.eval()
    test(model)
""",
    ),
    Sample(
        "a run in a function, for each seed",
        """\
import torch
def run(seed):
    net = make(seed)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for x, y in loader:
        optimizer.zero_grad()
        criterion(net(x), y).backward()
        optimizer.step()
    net.eval()
    return test(net)
for seed in range(5):
    run(seed)
""",
    ),
    Sample(
        "after the loop",
        f"""\
{_NET}model.train()
for epoch in range(10):
{_PASS}model.eval()
test(model)
""",
    ),
    Sample(
        "put back by a function that is not here",
        f"""\
{_NET}for epoch in range(10):
    set_train_mode(model)
{_PASS}    model.eval()
""",
    ),
    Sample(
        "phases",
        """\
import torch
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(10):
    for phase in ["train", "val"]:
        if phase == "train":
            model.train()
        else:
            model.eval()
        for x, y in loaders[phase]:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            if phase == "train":
                loss.backward()
                optimizer.step()
""",
    ),
    Sample(
        "by the argument of train",
        """\
import torch
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(10):
    for phase in ["train", "val"]:
        model.train(phase == "train")
        for x, y in loaders[phase]:
            criterion(model(x), y).backward()
            optimizer.step()
    model.eval()
""",
    ),
    Sample(
        "the wrapped model is put back",
        f"""\
{_NET}model = nn.DataParallel(model)
for epoch in range(10):
    model.train()
{_PASS}    model.module.eval()
    evaluate(model.module)
""",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "passes and evaluation in another file",
        """\
import torch
from engine import train_one_epoch, evaluate
def main(model, loader, val_loader):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for epoch in range(90):
        train_one_epoch(model, loader, optimizer)
        evaluate(model, val_loader)  # <-
""",
        others={
            "engine.py": """\
import torch
def train_one_epoch(model, loader, optimizer):
    for x in loader:
        optimizer.zero_grad()
        model(x).mean().backward()
        optimizer.step()
@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    for x in loader:
        model(x)
""",
        },
    ),
    Sample(
        "a loop over phases",
        """\
import torch
def fit(model, criterion, optimizer, loaders):
    for epoch in range(25):
        for phase in ["train", "val"]:
            if phase == "val":
                model.eval()  # <-
            for x, y in loaders[phase]:
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    loss = criterion(model(x), y)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
model = torchvision.models.resnet18()
fit(model, criterion, torch.optim.SGD(model.parameters(), lr=0.1), loaders)
""",
        fixed="""\
import torch
def fit(model, criterion, optimizer, loaders):
    for epoch in range(25):
        for phase in ["train", "val"]:
            model.train()
            if phase == "val":
                model.eval()  # <-
            for x, y in loaders[phase]:
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    loss = criterion(model(x), y)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
model = torchvision.models.resnet18()
fit(model, criterion, torch.optim.SGD(model.parameters(), lr=0.1), loaders)
""",
    ),
    Sample(
        "train before the loop only",
        f"""\
{_NET}model.train()
for epoch in range(10):
{_PASS}    model.eval()  # <-
    with torch.no_grad():
        evaluate(model)
""",
        fixed=f"""\
{_NET}model.train()
for epoch in range(10):
    model.train()
{_PASS}    model.eval()  # <-
    with torch.no_grad():
        evaluate(model)
""",
    ),
    Sample(
        "no train at all, in functions",
        f"""\
{_NET}def train_one_epoch(model, optimizer):
{_PASS}def evaluate(model):
    model.eval()  # <-
    with torch.no_grad():
        return score(model)
for epoch in range(10):
    train_one_epoch(model, optimizer)
    evaluate(model)
""",
        fixed=f"""\
{_NET}def train_one_epoch(model, optimizer):
{_PASS}def evaluate(model):
    model.eval()  # <-
    with torch.no_grad():
        return score(model)
for epoch in range(10):
    model.train()
    train_one_epoch(model, optimizer)
    evaluate(model)
""",
    ),
    Sample(
        "every hundredth step, at the top of the loop",
        f"""\
{_NET}@torch.no_grad()
def estimate_loss():
    model.eval()  # <-
    return score(model)
step = 0
while step < 1000:
    if step % 100 == 0:
        print(estimate_loss())
    optimizer.zero_grad()
    criterion(model(x), y).backward()
    optimizer.step()
    step += 1
""",
    ),
    Sample(
        "methods of a class",
        """\
import torch
from torchvision.models import resnet18
class Trainer:
    def __init__(self):
        self.model = resnet18()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
    def fit(self):
        self.model.train()
        for epoch in range(10):
            for x, y in self.loader:
                self.optimizer.zero_grad()
                self.criterion(self.model(x), y).backward()
                self.optimizer.step()
            self.validate()
    def validate(self):
        self.model.eval()  # <-
        with torch.no_grad():
            self.score()
""",
    ),
    Sample(
        "train(False)",
        f"""\
{_NET}for epoch in range(10):
{_PASS}    model.train(False)  # <-
    evaluate(model)
""",
    ),
    Sample(
        "an optimizer that is not known, train() before the loop",
        """\
def fit(model, optimizer, loader, val_loader):
    model.train()
    for epoch in range(10):
        for x, y in loader:
            optimizer.zero_grad()
            criterion(model(x), y).backward()
            optimizer.step()
        model.eval()  # <-
        validate(model, val_loader)
""",
    ),
    Sample(
        "a model that has one mode only",
        """\
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(10, 2)
    def forward(self, x):
        return self.fc(x)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(10):
    for x, y in loader:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
    model.eval()  # <-
""",
    ),
    Sample(
        "phases, the one for training without train()",
        """\
import torch
model.fc = torch.nn.Linear(2048, 5)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for epoch in range(10):
    for phase in ["train", "val"]:
        if phase == "val":
            model.eval()  # <-
        for x, y in loaders[phase]:
            optimizer.zero_grad()
            loss = criterion(model(x), y)
            if phase == "train":
                loss.backward()
                optimizer.step()
""",
    ),
    Sample(
        "an evaluation at the top of the loop, in its own block",
        f"""\
{_NET}while True:
    if step % 250 == 0:
        model.eval()  # <-
        with torch.no_grad():
            print(criterion(model(xb), yb))
    optimizer.zero_grad()
    criterion(model(x), y).backward()
    optimizer.step()
    step += 1
""",
    ),
    Sample(
        "undone once an epoch, lost in the middle of it",
        f"""\
{_NET}for epoch in range(10):
    model.train()
    for i, (x, y) in enumerate(loader):
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()
        if i % 100 == 0:
            model.eval()  # <-
            validate(model)
""",
    ),
    Sample(
        "an optimizer that another file builds, and no train()",
        """\
from optim import create_optimizer
def train(model, loader, optimizer):
    for x, y in loader:
        loss = criterion(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
def evaluate(model, loader):
    model.eval()  # <-
    with torch.no_grad():
        return [model(x) for x in loader]
def main(model):
    optimizer = create_optimizer(args, model)
    for epoch in range(10):
        train(model, loader, optimizer)
        evaluate(model, loader)
""",
    ),
)
