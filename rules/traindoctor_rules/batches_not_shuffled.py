"""The training set is read in the same order in every epoch.

## What it looks like
The loss swings with a period of one epoch, and it falls slower than it should. Where the files are sorted by class, a batch
holds one class, and the loss jumps from class to class: it is high where a class begins and sinks while it lasts.
## Why it happens
`DataLoader` does not shuffle unless it is told to: `shuffle=False` is its default. Consecutive batches are then made of the
same samples in every epoch, so that their gradients are not the independent draws that stochastic gradient descent counts on.
## How it is told
From a log: the loss is folded over the epoch. In a sound run the place in the epoch explains nothing of it; where the order is
fixed it explains most. An order that was mixed once does no harm, and shows as well: only where the loss also swings far
within an epoch, or moves smoothly over it, are the batches unlike each other. A bad batch stands out at one place of the epoch.
## When it is wrong
Samples that were shuffled before they are loaded, time series and text that has to be read in order, a batch that holds the
whole set, one batch that is overfitted on purpose.
## What repairs it
`shuffle=True`; with a sampler, one that shuffles.
## References
PyTorch documentation, torch.utils.data.DataLoader: "shuffle (bool, optional) - set to True to have the data reshuffled at every
epoch (default: False)".
Bottou 2012, Stochastic gradient descent tricks, section 5.1: "randomly shuffle the training examples".
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.code.loaders import classes, data_loaders, named_for_training, named_in_order, trains, uses
from traindoctor.code.script import LOOPS
from traindoctor.mistake import Edit, Mistake, Repair
from traindoctor.patterns import lazy
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

    from traindoctor.code.loaders import Use
    from traindoctor.code.script import Script
    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD501",
    name="batches-not-shuffled",
    summary="the training set is read in the same order in every epoch",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold(
            "repeats",
            0.45,
            "share of the loss's variance that the place in the epoch explains",
            f"{STUDY}: sorted 0.48 to 0.83, mixed below 0.4",
        ),
        Threshold("repeats_found", 0.6, "the same, where the length of the epoch was looked for in the loss itself", STUDY),
        Threshold("beside", 0.4, "share at lengths beside the epoch, over that at the epoch", f"{STUDY}: sorted at most 0.35"),
        Threshold(
            "swing",
            0.05,
            "standard deviation of the loss within an epoch over the first loss",
            f"{STUDY}: sorted classes 0.075 to 0.29, a fixed order that does no harm at most 0.032",
        ),
        Threshold(
            "smooth", 1.8, "autocorrelation from phase to phase times the root of their number", "mixed: 3.6 % are smoother"
        ),
        Threshold("alike", 0.78, "as repeats", f"{STUDY}: an order that was mixed once at most 0.75"),
        Threshold(
            "sawtooth",
            0.8,
            "rank correlation of the gradient norm with the place in the epoch",
            "one way but for one pair in ten",
        ),
        Threshold("single", 20.0, "standard deviations by which one phase stands out", "as for bad-batch"),
    ),
    explains=("TD509",),
    look_alikes=("TD507", "TD502", "TD317"),
    experiment="draw the batches in another random order each epoch, all else equal: the period of one epoch must go",
    refutation="A run with shuffled batches whose loss comes again in every epoch all the same.",
)

#: Words of scripts in which the order of the samples carries meaning, or one batch is trained on again and again.
_ORDER_MATTERS = lazy(
    r"IterableDataset|webdataset|streaming|time.?series|forecast|bptt|stateful *=|init_hidden|stock.?price|curriculum"
    r"|overfit\w*.?(batch|one|single)|(one|single).batch",
    re.IGNORECASE,
)
#: Calls that mix the samples before they are loaded.
_MIXES = ("shuffle", "permutation", "randperm", "make_private")
#: Data sets of files or classes in a fixed order. torchvision.datasets, torch.utils.data.
_MAP_STYLE = frozenset(
    {
        *(
            "MNIST",
            "FashionMNIST",
            "KMNIST",
            "EMNIST",
            "QMNIST",
            "CIFAR10",
            "CIFAR100",
            "SVHN",
            "STL10",
            "ImageNet",
            "ImageFolder",
        ),
        *(
            "DatasetFolder",
            "CelebA",
            "CocoDetection",
            "VOCDetection",
            "VOCSegmentation",
            "Cityscapes",
            "Food101",
            "OxfordIIITPet",
        ),
        *("Flowers102", "Caltech101", "Places365", "TensorDataset"),
    }
)
_GENERATED = lazy(r"\b(randn?|randint|uniform|normal|make_\w+|linspace|arange|fake|synthetic|toy)\b")


class _Order(NamedTuple):
    """How a loader orders its samples: `written`: the argument that says so, None where it is the default."""

    written: ast.expr | None


@CAUSE.in_logs(needs=("loss",))
def comes_again(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield that the loss repeats itself in every epoch, how far it swings, and what else would make it do so."""
    fold, length, peak = m.epochs.fold, m.epochs.length, m.epochs.peak
    if fold is None or length is None or m.is_adversarial or not m.loss.is_positive:
        return
    if m.loss.tail > 2.0 * m.loss.initial:  # a loss that grows repeats what drives it
        return
    least = limits["repeats_found"] if length.told_by == "found" else limits["repeats"]
    if fold.share < least or fold.beside > limits["beside"] * fold.share:
        return
    source = f"{m.loss.source}; the epoch by {length.words}"
    yield supports(
        "repeats",
        fold.share,
        unit="of the variance",
        weight=STRONG + WEAK if fold.share > limits["alike"] else MODERATE + WEAK,
        onset=int(m.loss.step[0]),
        source=source,
        text=f"The place in the epoch of {fold.length:,.0f} steps explains {fold.share:.0%} of the loss beside its trend, other "
        f"lengths at most {fold.beside:.0%}: the same batches come in the same order.",
    )
    if m.epochs.swing > limits["swing"]:
        yield supports(
            "swing",
            m.epochs.swing,
            unit="of the first loss",
            weight=STRONG,
            source=source,
            text=f"Within an epoch the loss swings by {m.epochs.swing:.0%} of where it began: the batches are unlike each other.",
        )
    if fold.smoothness * fold.profile.size**0.5 > limits["smooth"]:
        yield supports(
            "smooth",
            fold.smoothness,
            unit="autocorrelation from phase to phase",
            weight=MODERATE,
            source=source,
            text="It moves smoothly over the epoch: neighbouring batches are alike, as they are in sorted data.",
        )
    inside = peak is not None and peak.phase * fold.length > 2.0  # sorted data begin anew with the epoch, and jump there
    if inside and peak is not None and peak.distance > limits["single"] and peak.distance > 4.0 * peak.second:
        yield against(
            "single_phase",
            peak.phase,
            unit="of the epoch",
            weight=STRONG,
            source=source,
            text=f"One place of the epoch stands out alone, at {peak.phase:.0%}: that is a batch, no order.",
        )
    if m.epochs.gradient_growth > limits["sawtooth"]:
        yield against(
            "sawtooth",
            m.epochs.gradient_growth,
            unit="rank correlation with the place in the epoch",
            weight=STRONG,
            source=m.grad_norm.source,
            text="The gradient norm grows all through each epoch and begins anew: gradients are cleared once an epoch.",
        )
    if m.epochs.restarts_the_rate:
        yield against(
            "rate",
            fold.length,
            unit="steps",
            weight=PROOF,
            source=m.lr_source,
            text="The learning rate itself comes again with the epoch, and the loss follows it.",
        )


@CAUSE.fixes
def change(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield to shuffle."""
    from traindoctor.model import Fix

    yield Fix(
        "Draw the training batches in a new random order in every epoch",
        note="DataLoader(..., shuffle=True); a shuffle buffer has to hold several classes, or the files be mixed before",
    )


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence, on the script where the log does not show it."""
    from traindoctor.model import Segment

    seen = [e for e in evidence if e.kind == "log"]
    if not seen:
        return Statement("The training set is read in the same order in every epoch.", " ".join(e.text for e in evidence))
    first, last = int(m.loss.step[0]), int(m.loss.step[-1])
    return Statement(
        "Training batches came in the same order in every epoch, and are unlike each other.",
        "The loss repeats itself from epoch to epoch: the data are sorted, or read without shuffling.",
        Segment(first, last + 1, first),
    )


@CAUSE.in_script("DataLoader", "torch|lightning|monai")
def find(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield the loaders of a training set that are read in order."""
    for call in data_loaders(script):
        order = _in_order(script, call)
        if order is None:
            continue
        names = _names(script, call)
        for_training = any(named_for_training(name) for name in names) or _says_train(script, call)
        if any(named_in_order(name) for name in names) or not (for_training or order.written is None):
            continue
        if _read_whole(script, call) or _is_mixed(script, call, order) or _twin(script, call):
            continue
        if order.written is None and not (_is_map_style(script, call) or _own_in_order(script, call)):
            continue
        reached = uses(script, call)
        training = [use for use in reached if isinstance(use.node, LOOPS) and trains(use.script, use.node)]
        if order.written is not None:
            sure = bool(training) or (_leaves(reached) if reached else _is_kept(script, call))
        else:
            sure = bool(training) and (for_training or len(training) == len(reached))
        if sure and not _mixes(script) and not _ORDER_MATTERS.search(script.text):
            yield _mistake(script, call, order, training, names)


def _mistake(script: Script, call: ast.Call, order: _Order, training: list[Use], names: list[str]) -> Mistake:
    name = next((n for n in names if named_for_training(n)), "") or (names[0] if names else "the loader of the training set")
    how = "has shuffle=False" if order.written is not None else "is not shuffled, as DataLoader does not by default"
    where = [(use.script.place(use.node), "the loop that trains on it") for use in training[:1]]
    if order.written is not None:
        edit = script.replaced(order.written, "True")
    else:
        at = script.span(call.keywords[-1].value if call.keywords else call.args[-1])[1]
        edit = Edit(at, at, ", shuffle=True")
    return Mistake(
        script.place(order.written or call),
        f"{name} {how}. Training sees the same samples together, in the same order, in every epoch.",
        "Pass shuffle=True to the DataLoader of the training set.",
        repair=Repair("Shuffle the training set", (edit,)),
        related=tuple((place, text) for place, text in where if place.file == script.file),
    )


def _in_order(script: Script, call: ast.Call) -> _Order | None:
    """Return how a loader says that it reads in order; None where it shuffles, has a sampler, or may do either."""
    if script.open_ended(call) or not (call.args or script.argument(call, "dataset")):
        return None
    for name, position in (("sampler", 3), ("batch_sampler", 4)):
        given = script.argument(call, name, position)
        if given is not None and script.constant(given) is not None:
            return None
    shuffle = script.argument(call, "shuffle", 2)
    if shuffle is None:
        return _Order(None)
    return _Order(shuffle) if isinstance(shuffle, ast.Constant) and shuffle.value in (False, 0) else None


def _names(script: Script, call: ast.Call) -> list[str]:
    """Return the names that say what a loader is for: what it is bound to, the function that makes it, its data set."""
    found: list[str] = []
    statement = script.statement(call)
    targets = (
        statement.targets
        if isinstance(statement, ast.Assign)
        else [statement.target]
        if isinstance(statement, ast.AnnAssign)
        else []
    )
    for target in targets:
        value = statement.value  # type: ignore[attr-defined]
        if (
            isinstance(target, ast.Tuple)
            and isinstance(value, ast.Tuple)
            and call in value.elts
            and len(target.elts) == len(value.elts)
        ):
            target = target.elts[value.elts.index(call)]
        found.append(_last(target))
    parent = script.parents.get(call)
    if isinstance(parent, ast.Dict):
        key = parent.keys[parent.values.index(call)] if call in parent.values else None
        found.append(str(key.value) if isinstance(key, ast.Constant) else "")
    data = script.argument(call, "dataset", 0)
    found.append(_last(data) if isinstance(data, ast.Name | ast.Attribute | ast.Subscript) else "")
    function = script.function(call)
    if (isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and isinstance(statement, ast.Return)) or (
        isinstance(function, ast.FunctionDef) and named_in_order(function.name) and "train" not in function.name
    ):
        found.append(function.name)
    return [name for name in found if name]


def _last(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Subscript(slice=ast.Constant(value=str() as name)):
            return name
        case ast.Subscript(value=value):
            return _last(value)
    return ""


def _data_set(script: Script, call: ast.Call) -> ast.AST | None:
    data = script.argument(call, "dataset", 0)
    return script.origin(data) if data is not None else None


def _says_train(script: Script, call: ast.Call) -> bool:
    """Return whether the data set is asked for as the one for training: `train=True`, `split="train"`."""
    made = _data_set(script, call)
    if not isinstance(made, ast.Call):
        return False
    return script.constant(script.argument(made, "train")) is True or script.constant(script.argument(made, "split")) == "train"


def _is_map_style(script: Script, call: ast.Call) -> bool:
    made = _data_set(script, call)
    if not isinstance(made, ast.Call):
        return False
    name = script.dotted(made.func).rpartition(".")[2]
    return name in _MAP_STYLE and script.constant(script.argument(made, "train")) is not False


def _own_in_order(script: Script, call: ast.Call) -> bool:
    """Return whether the data set is of a class at hand that looks its samples up by their index alone."""
    made = _data_set(script, call)
    owners = classes(script, made.func) if isinstance(made, ast.Call) else []
    for other, owner in owners:
        methods = {f.name: f for f in owner.body if isinstance(f, ast.FunctionDef)}
        get = methods.get("__getitem__")
        return get is not None and "__len__" in methods and "rand" not in other.source(owner)
    return False


def _is_mixed(script: Script, call: ast.Call, order: _Order) -> bool:
    """Return whether the samples have no order to begin with: generated at random, split at random, or looked up at random."""
    made = _data_set(script, call)
    if isinstance(made, ast.Subscript):
        made = script.origin(made.value)
    if not isinstance(made, ast.Call):
        return False
    name = script.dotted(made.func).rpartition(".")[2]
    if name == "range" or (name in ("random_split", "train_test_split", "Subset") and order.written is None):
        return True
    for other, owner in classes(script, made.func):
        if any(isinstance(b, ast.Name | ast.Attribute) and "Iterable" in other.dotted(b) for b in owner.bases):
            return True
        for method in owner.body:
            if isinstance(method, ast.FunctionDef) and method.name == "__getitem__" and len(method.args.args) > 1:
                index = method.args.args[1].arg
                if not any(isinstance(n, ast.Name) and n.id == index for n in ast.walk(method)):
                    return True
    sources = [script.origin(a) for a in made.args]
    sources += [script.origin(a) for s in sources if isinstance(s, ast.Call) for a in s.args]  # torch.from_numpy(x)
    return any(_GENERATED.search(script.source(s)) for s in sources if isinstance(s, ast.Call))


def _mixes(script: Script) -> bool:
    """Return whether something is shuffled by hand, under no condition."""
    calls = [call for name in _MIXES for call in script.calls.get(name, ())]
    return any(not any(isinstance(above, ast.If) for above in script.above(call)) for call in calls)


def _read_whole(script: Script, call: ast.Call) -> bool:
    """Return whether one batch holds the whole set."""
    size = script.argument(call, "batch_size", 1)
    if size is None:
        return False
    made = script.origin(size)
    return isinstance(made, ast.Call) and script.dotted(made.func) == "len"


def _leaves(reached: list[Use]) -> bool:
    """Return whether the loader is made for others to train on: returned to another file, or handed to a trainer."""
    calls = [use.node for use in reached if isinstance(use.node, ast.Call)]
    if any(named_in_order(_last(c.func)) for c in calls):
        return False
    return all(isinstance(use.node, ast.Call | ast.FunctionDef | ast.AsyncFunctionDef) for use in reached)


def _is_kept(script: Script, call: ast.Call) -> bool:
    """Return whether a loader that nothing here reads is kept where others read it: in an attribute, or at the top of a file."""
    statement = script.statement(call)
    targets = statement.targets if isinstance(statement, ast.Assign) and statement.value is call else []
    return any(isinstance(t, ast.Attribute) or script.function(call) is None for t in targets)


def _twin(script: Script, call: ast.Call) -> bool:
    """Return whether another loader of the same data set shuffles: this one is for something else."""
    data = script.argument(call, "dataset", 0)
    if data is None:
        return False
    text = script.source(data)
    for other in data_loaders(script):
        same = script.argument(other, "dataset", 0)
        if other is not call and same is not None and script.source(same) == text and _in_order(script, other) is None:
            return script.function(other) is script.function(call)
    return False


_LOOP = """
model = nn.Linear(784, 10)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(10):
    for x, y in train_loader:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
"""
_HEAD = """import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision import datasets
"""

CAUSE.valid_code = (
    Sample(
        "differential privacy draws the batches itself",
        _HEAD
        + """
train_loader = DataLoader(datasets.MNIST("data", train=True), batch_size=64)
model, optimizer, train_loader = PrivacyEngine().make_private(module=model, optimizer=optimizer, data_loader=train_loader)
"""
        + _LOOP,
    ),
    Sample(
        "random numbers have no order",
        _HEAD
        + """
inputs = numpy.random.rand(1000, 784)
train_loader = DataLoader(TensorDataset(torch.from_numpy(inputs), torch.from_numpy(labels)), batch_size=64, shuffle=False)
"""
        + _LOOP,
    ),
    Sample(
        "loaders that are merged by something else",
        """import torch
def show(sets, Merged):
    train_loaders = [torch.utils.data.DataLoader(one, batch_size=4, shuffle=False) for one in sets]
    draw(Merged(*train_loaders))
""",
    ),
    Sample("shuffled", f"{_HEAD}train_loader = DataLoader(datasets.MNIST('.', train=True), 64, shuffle=True)\n{_LOOP}"),
    Sample("shuffled by position", f"{_HEAD}train_loader = DataLoader(datasets.MNIST('.', train=True), 64, True)\n{_LOOP}"),
    Sample("sampler", f"{_HEAD}train_loader = DataLoader(train_set, 64, shuffle=False, sampler=sampler)\n{_LOOP}"),
    Sample("batch sampler", f"{_HEAD}train_loader = DataLoader(datasets.MNIST('.'), batch_sampler=batches)\n{_LOOP}"),
    Sample(
        "shuffled where there is no sampler",
        f"{_HEAD}train_loader = DataLoader(train_set, 64, shuffle=(sampler is None), sampler=sampler)\n{_LOOP}",
    ),
    Sample(
        "stream",
        f"""{_HEAD}
class Lines(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield from open("train.txt")

train_set = Lines()
train_loader = DataLoader(train_set, 64, shuffle=False)
{_LOOP}""",
    ),
    Sample(
        "time series",
        f"""{_HEAD}# forecasting: the windows follow each other
train_loader = DataLoader(train_set, 64, shuffle=False)
{_LOOP}""",
    ),
    Sample(
        "ordered batches of a language model",
        f"""{_HEAD}
train_loader = DataLoader(train_set, 20, shuffle=False)
model = LSTM()
optimizer = torch.optim.SGD(model.parameters(), lr=20.0)
hidden = model.init_hidden(20)
for x, y in train_loader:
    optimizer.zero_grad()
    output, hidden = model(x, hidden.detach())
    F.cross_entropy(output, y).backward()
    optimizer.step()
""",
    ),
    Sample(
        "loaders for evaluation",
        f"""{_HEAD}
train_loader = DataLoader(train_set, 64, shuffle=True)
test_loader = DataLoader(datasets.MNIST('.', train=False), 64, shuffle=False)
train_eval_loader = DataLoader(train_set, 64, shuffle=False)
val_loader = DataLoader(datasets.MNIST('.', train=True), 64)
{_LOOP}""",
    ),
    Sample(
        "features of the training set",
        f"""{_HEAD}
train_loader = DataLoader(train_set, 64, shuffle=False)
features = []
with torch.no_grad():
    for x, _ in train_loader:
        features.append(model(x))
train_stats_loader = DataLoader(train_set, 64, shuffle=False)
loss = F.mse_loss(head(torch.cat(features)), target)
loss.backward()
""",
    ),
    Sample(
        "helper for both",
        f"""{_HEAD}
def loader_of(split, train):
    return DataLoader(datasets.MNIST('.', train=train), 64, shuffle=train)

train_loader, test_loader = loader_of("train", True), loader_of("test", False)
{_LOOP}""",
    ),
    Sample(
        "helper with a parameter that is off by default",
        f"""{_HEAD}
def loader_of(train_set, shuffle=False):
    return DataLoader(train_set, 64, shuffle=shuffle)

train_loader = loader_of(datasets.MNIST('.'), shuffle=True)
{_LOOP}""",
    ),
    Sample("settings that are not seen", f"{_HEAD}train_loader = DataLoader(datasets.MNIST('.'), **settings)\n{_LOOP}"),
    Sample("one batch", f"{_HEAD}train_loader = DataLoader(train_set, batch_size=len(train_set), shuffle=False)\n{_LOOP}"),
    Sample(
        "overfit one batch", f"{_HEAD}overfit_one_batch = True\ntrain_loader = DataLoader(train_set, 8, shuffle=False)\n{_LOOP}"
    ),
    Sample(
        "made at random",
        f"{_HEAD}train_set = TensorDataset(torch.randn(512, 784), torch.randint(10, (512,)))\n"
        f"train_loader = DataLoader(train_set, 8, shuffle=False)\n{_LOOP}",
    ),
    Sample(
        "shuffled before", f"{_HEAD}random.shuffle(train_set)\ntrain_loader = DataLoader(train_set, 8, shuffle=False)\n{_LOOP}"
    ),
    Sample(
        "data set that draws its samples",
        f"""{_HEAD}
class Crops(torch.utils.data.Dataset):
    def __len__(self):
        return 1000
    def __getitem__(self, index):
        return random.choice(self.images)

train_loader = DataLoader(Crops(), 8, shuffle=False)
{_LOOP}""",
    ),
    Sample("data set not known", f"{_HEAD}train_loader = DataLoader(train_set, 64)\n{_LOOP}"),
    Sample(
        "loader of another library",
        f"from mylib import DataLoader\ntrain_loader = DataLoader(train_set, 64, shuffle=False)\n{_LOOP}",
    ),
    Sample(
        "the ordered twin of a shuffled loader",
        f"{_HEAD}loader = DataLoader(train_set, 64, shuffle=True)\ntrain_loader = DataLoader(train_set, 64, "
        f"shuffle=False)\n{_LOOP}",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "written out",
        f"{_HEAD}train_loader = DataLoader(train_set, batch_size=64, shuffle=False)  # <-\n{_LOOP}",
        fixed=f"{_HEAD}train_loader = DataLoader(train_set, batch_size=64, shuffle=True)  # <-\n{_LOOP}",
    ),
    Sample(
        "the default",
        f"{_HEAD}train_loader = DataLoader(datasets.MNIST('.', train=True), batch_size=64)  # <-\n{_LOOP}",
        fixed=f"{_HEAD}train_loader = DataLoader(datasets.MNIST('.', train=True), batch_size=64, shuffle=True)  # <-\n{_LOOP}",
    ),
    Sample(
        "on lines of its own, no sampler",
        f"""{_HEAD}
train_loader = torch.utils.data.DataLoader(
    datasets.CIFAR10('.', train=True),
    batch_size=64,
    shuffle=False,  # <-
    sampler=None,
)
{_LOOP}""",
    ),
    Sample(
        "trained on in a function",
        f"""{_HEAD}
def train(model, loader, optimizer):
    for i, (x, y) in enumerate(tqdm(loader)):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()

def main():
    train_set = TensorDataset(images, labels)
    loader = DataLoader(train_set, batch_size=64, num_workers=4)  # <-
    for epoch in range(10):
        train(model, loader, optimizer)
""",
    ),
    Sample(
        "method of a class, own data set",
        f"""{_HEAD}
class Faces(torch.utils.data.Dataset):
    def __len__(self):
        return len(self.files)
    def __getitem__(self, index):
        return load(self.files[index])

class Trainer:
    def __init__(self):
        self.train_loader = DataLoader(Faces(), batch_size=64)  # <-
    def run(self):
        for epoch in range(10):
            for batch in self.train_loader:
                self.step(batch)
    def step(self, batch):
        self.optimizer.zero_grad()
        self.model(batch).backward()
        self.optimizer.step()
""",
    ),
    Sample(
        "returned to another file",
        f"""{_HEAD}
def get_loaders(root):
    train_set = datasets.ImageFolder(root)
    train_loader = DataLoader(train_set, batch_size=64, shuffle=False)  # <-
    test_loader = DataLoader(test_set, batch_size=64, shuffle=False)
    return train_loader, test_loader
""",
    ),
    Sample(
        "of Lightning",
        f"""import lightning as L
{_HEAD}
class Digits(L.LightningDataModule):
    def train_dataloader(self):
        return DataLoader(self.digits, batch_size=64, shuffle=False)  # <-
    def val_dataloader(self):
        return DataLoader(self.digits_val, batch_size=64, shuffle=False)
""",
    ),
    Sample(
        "of a phase",
        f"""{_HEAD}
loaders = {{
    "train": DataLoader(data["train"], batch_size=4, shuffle=False),  # <-
    "val": DataLoader(data["val"], batch_size=4, shuffle=False),
}}
for epoch in range(25):
    for phase in ["train", "val"]:
        for x, y in loaders[phase]:
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            if phase == "train":
                loss.backward()
                optimizer.step()
""",
    ),
    Sample(
        "made ready by Accelerate",
        f"""{_HEAD}from accelerate import Accelerator
accelerator = Accelerator()
train_dataloader = DataLoader(train_dataset, shuffle=False, batch_size=8)  # <-
model, optimizer, train_dataloader = accelerator.prepare(model, optimizer, train_dataloader)
for epoch in range(3):
    for batch in train_dataloader:
        loss = model(**batch).loss
        accelerator.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
""",
    ),
    Sample(
        "trained on by a helper in another file",
        f"""{_HEAD}from engine import train_one_epoch
train_set = datasets.MNIST('.')
loader = DataLoader(train_set, 64)  # <-
for epoch in range(10):
    train_one_epoch(model, loader, optimizer)
""",
        others={
            "engine.py": "def train_one_epoch(model, data, optimizer):\n    for x, y in data:\n        optimizer.zero_grad()\n"
            "        model(x, y).backward()\n        optimizer.step()\n"
        },
    ),
)


@CAUSE.examples
def examples() -> Examples:
    """Give sorted classes; sound runs, an order that was mixed once, restarts of the rate, a bad batch."""
    import numpy as np

    draw = np.random.default_rng(0)
    n, length = 800, 40
    step = np.arange(n)
    epoch = step // length
    level = 0.3 + 2.0 * np.exp(-step / 200.0)
    noise = 0.05 * draw.standard_normal(n)
    by_class = 0.7 * np.exp(-(step % 8) / 3.0)
    once_mixed = 0.06 * draw.standard_normal(length)[step % length]
    cosine = 0.5 * (1.0 + np.cos(np.pi * (step % length) / length))
    valid = (
        Example("a sound run", run_of(loss=level * (1.0 + noise), epoch=epoch)),
        Example("mixed once: harmless", run_of(loss=level * (1.0 + 0.2 * noise + once_mixed), epoch=epoch)),
        Example("restarts of the rate", run_of(loss=level * (1.0 + cosine), learning_rate=1e-3 * cosine, epoch=epoch)),
        Example("a bad batch", run_of(loss=level * (1.0 + noise) * np.where(step % length == 7, 5.0, 1.0), epoch=epoch)),
        Example("means over epochs", run_of(loss=level[::length])),
    )
    invalid = (
        Example(
            "sorted by class", run_of(loss=level * (1.0 + noise) + by_class * (1.0 + 0.3 * np.sin(step % length)), epoch=epoch)
        ),
        Example(
            "sorted by class, the epoch not logged", run_of(loss=level + 0.1 * noise + 0.8 * by_class * (step % length > 20))
        ),
    )
    return valid, invalid
