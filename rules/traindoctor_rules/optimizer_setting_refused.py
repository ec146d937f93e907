"""The optimizer is misspelt, or is given an argument that it does not take.

## What it looks like
The run ends when the optimizer is built, often after the data and the model were loaded: `AttributeError: module
'torch.optim' has no attribute 'Adamw'`, `TypeError: unexpected keyword argument 'betas'`. Where arguments are given by position
nothing is said: `SGD(params, 0.1, 0.9, 5e-4)` sets a dampening of 5e-4 and no weight decay.

## Why it happens
Arguments differ between optimizers and frameworks: Adam has betas and no momentum, SGD the other way round; `lr` is
`learning_rate` in Keras.

## When it is wrong
An optimizer of one's own, registered under a name that is near to a known one. A class of a newer version.

## What repairs it
The name as the framework spells it, the argument under its name.

## References
PyTorch documentation, torch.optim, the signatures of Adam, AdamW and SGD.
Keras documentation, keras.optimizers.
Transformers documentation, TrainingArguments, `optim`.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.mistake import Edit, Mistake, Repair
from traindoctor.optim.families import ADAMS
from traindoctor.optim.names import (
    AXOLOTL,
    DEEPSPEED,
    FAIRSEQ,
    FURTHER,
    HUGGING_FACE,
    KERAS,
    KOHYA,
    OPENMMLAB,
    TORCHTITAN,
    ULTRALYTICS,
    nearest,
    plain,
    words,
)
from traindoctor.optim.signatures import TORCH_CLASSES, TORCH_OTHERS, signature
from traindoctor.rule import Cause, Limits, Sample, Threshold

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from traindoctor.code.constructors import Construction
    from traindoctor.code.script import Script
    from traindoctor.configs.file import ConfigFile
    from traindoctor.configs.vocabulary import Slot

CAUSE = Cause(
    code="TD109",
    name="optimizer-setting-refused",
    summary="the optimizer's name, or an argument of it, is not known to the framework",
    explanation=__doc__,
    thresholds=(
        Threshold(
            "dampening", 0.01, unit="dampening by position", source="weight decays of SGD lie below it; dampening is near 1"
        ),
    ),
    experiment="build the optimizer of a single tensor with these settings",
    refutation="An optimizer that can be built.",
)


# -- in a script ------------------------------------------------------------------------------------------------------


@CAUSE.in_script("torch", "optim")
def no_such_class(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each name that is asked of torch.optim and is nearly one of its classes."""
    asked: list[tuple[ast.AST, str]] = []
    asked += [
        (node, node.attr)
        for node in script.nodes.get(ast.Attribute, ())
        if isinstance(node, ast.Attribute) and _is_unknown(node.attr) and script.dotted(node.value) == "torch.optim"
    ]
    for node in script.nodes.get(ast.ImportFrom, ()):
        if isinstance(node, ast.ImportFrom) and node.module == "torch.optim" and not node.level:
            asked += [(alias, alias.name) for alias in node.names if _is_unknown(alias.name)]
    for node, name in asked:
        near = nearest(name, TORCH_CLASSES)
        if near and not _is_tried(script, node):
            start, stop = script.span(node)
            stop = start + len(name) if isinstance(node, ast.alias) else stop
            yield Mistake(
                script.place(node),
                f"torch.optim has no {name}. {'The import' if isinstance(node, ast.alias) else 'This line'} fails.",
                f"write {near}",
                "error",
                Repair(f"Write {near}", (Edit(stop - len(name), stop, near),)),
            )


def _is_unknown(name: str) -> bool:
    """Whether a name is none of torch.optim's, and may be meant for a class, not a module of it (`torch.optim.sgd`)."""
    return name not in TORCH_CLASSES and name not in TORCH_OTHERS and not name.startswith("_") and name != name.lower()


def _is_tried(script: Script, node: ast.AST) -> bool:
    """Whether the script is ready for a failure at a node."""
    return any(isinstance(parent, ast.Try) and parent.handlers for parent in script.above(node))


@CAUSE.in_script("optim")
def not_accepted(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each argument that a constructor does not take, or takes for another."""
    for made in script.constructions:
        if made.signature.accepts is None or _is_tried(script, made.node):
            continue
        accepts = made.signature.accepts
        for keyword in made.keywords:
            if keyword.arg is not None and keyword.arg not in accepts:
                yield _unexpected(script, made, keyword)
        if made.signature.library == "PyTorch":
            yield from _misplaced(script, made, limits)
            yield from _not_parameters(script, made)


def _unexpected(script: Script, made: Construction, keyword: ast.keyword) -> Mistake:
    name = keyword.arg or ""
    meant = _meant(name, made.signature.accepts or ())
    edits: tuple[Edit, ...] = ()
    by_position = made.signature.positional[: max(0, len(made.node.args) - made.signature.takes_parameters)]
    if meant and meant not in {*by_position, *(k.arg for k in made.keywords)}:
        start, _ = script.span(keyword)
        edits = (Edit(start, start + len(name), meant),)
    return Mistake(
        script.place(keyword),
        f"{made.shown} of {made.signature.library} takes no argument {name}. It fails when it is built.",
        f"write {meant}" if meant else f"take {name} out",
        "error",
        Repair(f"Write {meant} for {name}", edits) if edits else None,
    )


def _misplaced(script: Script, made: Construction, limits: Limits) -> Iterator[Mistake]:
    betas = made.given("betas")
    if betas is not None and (betas.number is not None or (isinstance(betas.value, tuple) and len(betas.value) != 2)):
        by_keyword = any(k.value is made.arguments["betas"] for k in made.keywords)
        yield Mistake(
            script.place(betas.node),
            f"betas of {made.shown} is {script.source(betas.node)}{'' if by_keyword else ', by its position'}, and no pair. "
            "PyTorch fails when it builds the optimizer.",
            "give betas as a pair, such as (0.9, 0.999)" if by_keyword else "name the arguments",
            betas.severity("error"),
            related=made.related(betas),
        )
    if made.name != "sgd" or "dampening" in {k.arg for k in made.keywords}:
        return
    dampening = made.given("dampening")
    if dampening is not None and dampening.number and 0.0 < dampening.number <= limits["dampening"]:
        written = made.arguments["dampening"]
        start, _ = script.span(written)
        free = "weight_decay" not in made.arguments
        yield Mistake(
            script.place(written),
            f"The fourth argument of SGD is its dampening, and is given {dampening.number:g}. "
            f"As a weight decay, which it looks like, it has no effect.",
            f"write weight_decay={script.source(written)}",
            dampening.severity("warning") if free else "info",
            Repair("Name it weight_decay", (Edit(start, start, "weight_decay="),)) if free and len(made.node.args) == 4 else None,
        )


def _not_parameters(script: Script, made: Construction) -> Iterator[Mistake]:
    """Yield a method `parameters` of a model that is handed over where its call was meant."""
    from traindoctor.code.holding import is_a_model  # a config that is checked does without it

    held = made.parameters
    if isinstance(held, ast.Attribute) and held.attr == "parameters" and is_a_model(script, held.value):
        yield Mistake(
            script.place(held),
            f"{made.shown} is given the method {script.source(held)}, and not what it returns. PyTorch raises TypeError.",
            f"call it: {script.source(held)}()",
            "warning",
            Repair("Call parameters()", (Edit(script.span(held)[1], script.span(held)[1], "()"),)),
        )


# -- in a config ------------------------------------------------------------------------------------------------------


@CAUSE.in_file
def no_such_name(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield an optimizer that the framework of the config does not know by this name, and nearly knows by another."""
    slot = config.slot("optimizer.name")
    if slot is None or not isinstance(slot.entry.value, str) or slot.entry.file is not None:
        return
    path, _, name = slot.entry.value.strip().rpartition(".")
    by_dialect = None if path else _NAMES.get(config.dialect)
    known = frozenset(TORCH_CLASSES) if path == "torch.optim" else by_dialect or (EVERY if not path else None)
    if known is None or name in known or (plain(name) in map(plain, known) and config.dialect not in _TRAINER):
        return
    closed = known is not EVERY
    if closed and by_dialect is not None and config.dialect not in _COMPLETE and plain(name) in map(plain, EVERY):
        return
    meant = nearest(name, known) if closed or name.isalpha() else nearest(name, known, 0.9) if plain(name).isalpha() else ""
    if not closed and _is_made_from_another(plain(name)):
        return
    if not meant and config.dialect in _TRAINER and plain(name) in ("adam", "adamw"):
        meant = "adamw_torch"
    if not meant and not (path == "torch.optim" and _is_unknown(name)):
        return
    if not closed:
        meant = _written_like(name, meant)
    where = path or (config.dialect if closed else "")
    edit = config.replaced(slot, meant) if not path and config.written(slot) == name else None
    yield Mistake(
        config.place(slot),
        (
            f"{where} has no optimizer {name}, and the run ends when it is built."
            if closed
            else f"No usual optimizer is called {name}."
        )
        + (f" The nearest name is {meant}." if meant else ""),
        f"write {f'{path}.{meant}' if path else meant}" if meant else "name a class of torch.optim",
        "error" if closed else "warning",
        Repair(f"Write {meant}", (edit,)) if edit is not None and meant and (closed or name.isalnum()) else None,
    )


def _is_made_from_another(name: str) -> bool:
    """Whether a name is that of an optimizer with letters before or after it, as people name their own: BAdam, EKFAC, AdamSPD.

    Not one whose last letter, or first, is doubled: that is a slip.
    """
    known = [one for one in map(plain, EVERY) if len(one) >= 3 and (name.startswith(one) or name.endswith(one))]
    one = max(known, key=len, default="")
    if name.startswith(one):
        return bool(one) and name.removeprefix(one)[:1] != one[-1]
    return name.removesuffix(one)[-1:] != one[0]


def _written_like(name: str, meant: str) -> str:
    """Return an optimizer's name in the letters of a misspelt one: of the class, in capitals, or in small ones."""
    if name.isupper():
        return meant.upper()
    return next((one for one in TORCH_CLASSES if one.lower() == meant), meant) if name != name.lower() else meant


@CAUSE.in_file
def key_not_accepted(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield each key beside the optimizer's class that its constructor does not take."""
    from traindoctor.configs.vocabulary import normal

    slot = config.slot("optimizer.name")
    if slot is None or slot.entry.file is not None or not isinstance(slot.entry.value, str):
        return
    accepts, block = _accepted(config, slot)
    written = {normal(entry.key) for entry in config.entries if entry.block == block}
    for entry in config.entries:
        key = normal(entry.key)
        if (
            entry.block != block
            or entry.file is not None
            or key.startswith("_")
            or key == slot.key
            or not accepts
            or key in accepts
        ):
            continue
        meant = _meant(key, accepts)
        renamed = None
        if meant and meant not in written and config.text[entry.key_start : entry.key_start + len(entry.key)] == entry.key:
            renamed = Edit(entry.key_start, entry.key_start + len(entry.key), meant)
        yield Mistake(
            config.place(entry),
            f"{slot.entry.value} takes no argument {entry.key}. The run ends when the optimizer is built.",
            f"write {meant}" if meant else f"take {entry.key} out",
            "error",
            Repair(f"Write {meant} for {entry.key}", (renamed,)) if renamed is not None and entry.key_start >= 0 else None,
        )


@CAUSE.in_file
def key_of_another(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a momentum set for Adam, and betas set for SGD, where it is not known what becomes of them."""
    from traindoctor.configs.optimizer_values import FREE

    slot = config.slot("optimizer.name")
    if slot is None or config.dialect not in FREE or slot.context != "optimizer" or _accepted(config, slot)[0]:
        return
    name = config.optimizer_name
    fields = ("momentum", "nesterov") if name in ADAMS else ("betas", "beta1", "beta2") if name == "sgd" else ()
    for field in fields:
        other = config.slot(f"optimizer.{field}")
        if other is not None and other.entry.file is None and other.entry.block == slot.entry.block:
            yield Mistake(
                config.place(other),
                f"{slot.entry.value} has no {other.entry.key}. It is refused when the optimizer is built, or does nothing.",
                f"take {other.entry.key} out",
                "info",
            )


def _accepted(config: ConfigFile, slot: Slot) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return what the constructor that the config names takes, and the block that is handed to it; empty where not known."""
    name, key, block = str(slot.entry.value), slot.key, slot.entry.block
    if key in ("_target_", "_component_"):
        made = signature(name)
    elif key == "class_path":
        made, block = signature(name), (*block, "init_args")
    elif key == "type" and config.dialect in ("MMEngine", "mmcv"):
        made = signature(f"torch.optim.{name}")
    elif key == "type" and config.dialect == "DeepSpeed":
        block = (*block, "params")
        if name.lower() in ("adam", "adamw"):
            return _OF_DEEPSPEED, block
        made = signature(f"torch.optim.{name}")
    elif key == "_name" and config.dialect == "fairseq":
        return _OF_FAIRSEQ.get(name, frozenset()), block
    else:
        made = None
    return (made.accepts or frozenset() if made is not None else frozenset()) | (
        _ADDED if made and made.accepts else frozenset()
    ), block


def _meant(name: str, accepts: Iterable[str]) -> str:
    """Return the argument that another framework calls `name`, or that is nearest to it; "" for none."""
    accepts = frozenset(accepts)
    alias = next((one for one in _ALIASES.get(name, ()) if one in accepts), "")
    return alias or nearest(name, accepts - {"params"})


_ALIASES = {
    "learning_rate": ("lr",),
    "lr": ("learning_rate",),
    "epsilon": ("eps",),
    "eps": ("epsilon",),
    "adam_epsilon": ("eps",),
    "wd": ("weight_decay",),
    "l2": ("weight_decay",),
    "weight_decay_rate": ("weight_decay",),
    "rho": ("alpha",),
}
#: Keys of builders that stand beside the arguments.
_ADDED = frozenset({"type", "constructor", "paramwise_cfg", "partial", "name", "class_path", "params"})
#: Source: deepspeed, runtime/engine.py, _configure_basic_optimizer; ops/adam/fused_adam.py and cpu_adam.py.
_OF_DEEPSPEED = words(
    """lr betas eps weight_decay bias_correction adam_w_mode adamw_mode amsgrad set_grad_none torch_adam fp32_optimizer_states
    max_grad_norm freeze_step cuda_aware comm_backend_name fused"""
)
#: Source: fairseq, optim/adam.py and sgd.py, the fields of their settings.
_OF_FAIRSEQ = {
    "adam": words(
        """name adam_betas adam_eps weight_decay use_old_adam fp16_adam_stats tpu lr use_rmsprop block_wise amsgrad
        lr_scheduler"""
    ),
}
_TRAINER = frozenset({"Hugging Face TrainingArguments", "TRL", "LLaMA-Factory"})
_NAMES = {
    **dict.fromkeys(_TRAINER, HUGGING_FACE),
    "axolotl": AXOLOTL,
    "Ultralytics": ULTRALYTICS,
    "DeepSpeed": DEEPSPEED,
    "kohya": KOHYA,
    "torchtitan": TORCHTITAN,
    "fairseq": FAIRSEQ,
    "Keras": KERAS,
    "MMEngine": OPENMMLAB,
    "mmcv": OPENMMLAB,
}
#: Dialects that know no other name, whatever is installed.
_COMPLETE = _TRAINER | {"axolotl", "Ultralytics"}
#: Every name that some package has.
EVERY = frozenset({*FURTHER, *map(str.lower, (*TORCH_CLASSES, *KERAS)), *HUGGING_FACE})

CAUSE.valid_code = (
    *(
        Sample(f"a name of its own: {name}", f"optimizer: {name}\nlr: 0.1\n", file="config.yaml")
        for name in ("psgd", "ekfac", "AdamSPD")
    ),
    Sample(
        "all arguments",
        """import torch
a = torch.optim.Adam(m.parameters(), lr=1e-3, betas=(0.9, 0.99), eps=1e-8, foreach=True, fused=False, capturable=False)
b = torch.optim.SGD(m.parameters(), 0.1, 0.9, 0, 5e-4, True)
""",
    ),
    Sample("keys of groups", "import torch\nopt = torch.optim.Adam([{'params': a, 'momentum': 0.9, 'name': 'body'}])\n"),
    Sample(
        "modules and helpers of torch.optim",
        """import torch
s = torch.optim.lr_scheduler.StepLR(opt, 10)
a = torch.optim.swa_utils.AveragedModel(m)
o = torch.optim.adam.Adam(m.parameters())
isinstance(o, torch.optim.Optimizer)
""",
    ),
    Sample("a class of one's own", "from mine import optim\nopt = optim.Adamm(m.parameters(), momentum=0.9)\n"),
    Sample("a new class", "import torch\nopt = torch.optim.Shampoo(m.parameters())\n"),
    Sample(
        "ready for an older version",
        """import torch
try:
    opt = torch.optim.AdamW(m.parameters(), quick=True)
except TypeError:
    opt = torch.optim.AdamW(m.parameters())
""",
    ),
    Sample(
        "older Keras",
        """from keras.optimizers import Adam, SGD
a = Adam(lr=1e-3, decay=1e-6, clipnorm=1.0)
b = SGD(lr=0.01, momentum=0.9, nesterov=True, decay=1e-6)
""",
    ),
    Sample("dampening", "import torch\nopt = torch.optim.SGD(m.parameters(), 0.1, 0.9, 0.9)\n"),
    Sample(
        "apex takes more",
        """from apex.optimizers import FusedAdam
opt = FusedAdam(m.parameters(), lr=1e-3, master_weights=True)
""",
    ),
    Sample(
        "a list called parameters",
        """import torch

class M:
    def build(self):
        self.parameters = [w, b]
        self.opt = torch.optim.Adam(self.parameters)
""",
    ),
    Sample(
        "names of the Trainer",
        """output_dir: o
per_device_train_batch_size: 4
learning_rate: 5.0e-5
optim: paged_adamw_8bit
""",
        file="config.yaml",
    ),
    Sample(
        "a name of someone's own",
        """optimizer:
  name: my_fast_adam
  lr: 1e-3
""",
        file="config.yaml",
    ),
    Sample("AdamP is one", "optimizer: adamp\nlr: 0.001\n", file="config.yaml"),
    Sample(
        "registered elsewhere",
        "optim_wrapper = dict(optimizer=dict(type='LearningRateDecayOptimizer', lr=1e-4))\n",
        file="config_small.py",
    ),
    Sample(
        "a class of one's own in Hydra",
        """optimizer:
  _target_: mine.optim.Adamm
  lr: 1e-4
  momentum: 0.9
""",
        file="config.yaml",
    ),
    Sample(
        "Hydra's own keys",
        """optimizer:
  _target_: torch.optim.AdamW
  _partial_: true
  _convert_: all
  lr: 1e-4
  fused: true
  foreach: false
""",
        file="config.yaml",
    ),
    Sample(
        "MMEngine's own keys",
        "optim_wrapper = dict(optimizer=dict(type='SGD', lr=1e-2, momentum=0.9, _delete_=True))\n",
        file="config_small.py",
    ),
    Sample(
        "left to the Trainer",
        """{"train_batch_size": "auto", "zero_optimization": {"stage": 2},
 "optimizer": {"type": "AdamW", "params": {"lr": "auto", "torch_adam": true}}}
""",
        file="ds.json",
    ),
    Sample(
        "the Trainer ignores Adam's settings",
        """output_dir: o
per_device_train_batch_size: 4
learning_rate: 5.0e-5
optim: sgd
adam_beta1: 0.9
""",
        file="config.yaml",
    ),
    Sample("from the environment", "optimizer: ${OPTIMIZER}\nlr: 0.001\n", file="config.yaml"),
    Sample(
        "Ultralytics",
        """task: detect
mode: train
lr0: 0.001
lrf: 0.01
box: 7.5
cls: 0.5
optimizer: RMSProp
momentum: 0.937
""",
        file="args.yaml",
    ),
    Sample(
        "timm",
        """opt: lookahead_radam
sched: cosine
lr: 0.001
warmup_lr: 1.0e-6
reprob: 0.1
momentum: 0.9
""",
        file="args.yaml",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "class of another package under torch.optim",
        """\
optimizer:
  _target_: torch.optim.Adan  # <-
  lr: 0.001
""",
        file="config.yaml",
    ),
    Sample(
        "name that the Trainer spells otherwise",
        """\
output_dir: out
per_device_train_batch_size: 8
learning_rate: 2.0e-5
optim: adam_w_torch  # <-
""",
        file="config.yaml",
        fixed="output_dir: out\nper_device_train_batch_size: 8\nlearning_rate: 2.0e-5\noptim: adamw_torch  # <-\n",
    ),
    Sample("SGD with betas", "import torch\nopt = torch.optim.SGD(m.parameters(), lr=0.1, betas=(0.9, 0.999))  # <-\n"),
    Sample(
        "Adam with momentum",
        """import torch.optim as optim
opt = optim.Adam(
    m.parameters(),
    lr=1e-3,
    momentum=0.9,  # <-
)
""",
    ),
    Sample(
        "misspelt argument",
        """from torch.optim import AdamW
opt = AdamW(m.parameters(), lr=1e-3, weigth_decay=0.1)  # <-
""",
        fixed="""from torch.optim import AdamW
opt = AdamW(m.parameters(), lr=1e-3, weight_decay=0.1)  # <-
""",
    ),
    Sample(
        "in Keras's words",
        "import torch\nopt = torch.optim.Adam(m.parameters(), learning_rate=1e-3)  # <-\n",
        fixed="import torch\nopt = torch.optim.Adam(m.parameters(), lr=1e-3)  # <-\n",
    ),
    Sample(
        "misspelt class",
        "import torch\nopt = torch.optim.Adamw(m.parameters(), lr=1e-3)  # <-\n",
        fixed="import torch\nopt = torch.optim.AdamW(m.parameters(), lr=1e-3)  # <-\n",
    ),
    Sample(
        "misspelt import",
        "from torch.optim import RMSProp  # <-\nopt = RMSProp(m.parameters())\n",
        fixed="from torch.optim import RMSprop  # <-\nopt = RMSProp(m.parameters())\n",
    ),
    Sample("one beta", "import torch\nopt = torch.optim.Adam(m.parameters(), 1e-3, 0.9, 0.999)  # <-\n"),
    Sample("three betas", "import torch\nopt = torch.optim.Adam(m.parameters(), betas=(0.9, 0.99, 0.999))  # <-\n"),
    Sample(
        "decay as dampening",
        "import torch\nopt = torch.optim.SGD(m.parameters(), 0.1, 0.9, 5e-4)  # <-\n",
        fixed="import torch\nopt = torch.optim.SGD(m.parameters(), 0.1, 0.9, weight_decay=5e-4)  # <-\n",
    ),
    Sample(
        "method not called",
        """import torch
model = Net().to(device)
opt = torch.optim.Adam(model.parameters, lr=1e-3)  # <-
out = model(x)
""",
        fixed="""import torch
model = Net().to(device)
opt = torch.optim.Adam(model.parameters(), lr=1e-3)  # <-
out = model(x)
""",
    ),
    Sample(
        "partial",
        """from functools import partial
import torch
make = partial(torch.optim.SGD, lr=0.1, beta1=0.9)  # <-
""",
    ),
    Sample("Keras", "from tensorflow import keras\nopt = keras.optimizers.Adam(1e-3, momentum=0.9)  # <-\n"),
    Sample(
        "the Trainer, misspelt",
        """output_dir: o
per_device_train_batch_size: 4
learning_rate: 5.0e-5
optim: adamw_trch  # <-
""",
        file="config.yaml",
        fixed="""output_dir: o
per_device_train_batch_size: 4
learning_rate: 5.0e-5
optim: adamw_torch  # <-
""",
    ),
    Sample(
        "the Trainer, in another's words",
        """stage: sft
finetuning_type: lora
learning_rate: 1.0e-4
optim: adamw  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "axolotl",
        """base_model: a/b
micro_batch_size: 2
sequence_len: 512
optimizer: adamw_bnb_8bits  # <-
learning_rate: 2e-4
""",
        file="config.yaml",
    ),
    Sample(
        "a path into torch.optim",
        """trainer:
  max_epochs: 3
model:
  class_path: a.B
optimizer:
  class_path: torch.optim.AdmW  # <-
  init_args:
    lr: 0.001
""",
        file="config.yaml",
    ),
    Sample(
        "LightningCLI, SGD with betas",
        """trainer:
  max_epochs: 3
model:
  class_path: a.B
optimizer:
  class_path: torch.optim.SGD
  init_args:
    lr: 0.1
    betas: [0.9, 0.999]  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "Hydra, AdamW with momentum",
        """optimizer:
  _target_: torch.optim.AdamW
  lr: 1e-4
  momentum: 0.9  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "torchtune",
        """optimizer:
  _component_: torch.optim.AdamW
  learning_rate: 2e-5  # <-
epochs: 1
""",
        file="config.yaml",
        fixed="""optimizer:
  _component_: torch.optim.AdamW
  lr: 2e-5  # <-
epochs: 1
""",
    ),
    Sample(
        "MMEngine",
        "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, betas=(0.9, 0.999)))  # <-\n",
        file="config_small.py",
    ),
    Sample("MMEngine, misspelt", "optim_wrapper = dict(optimizer=dict(type='AdmaW', lr=0.0001))  # <-\n", file="config_small.py"),
    Sample(
        "DeepSpeed",
        """{"train_batch_size": 8,
 "zero_optimization": {"stage": 1},
 "optimizer": {"type": "AdamW", "params": {"lr": 1e-4,
  "momentum": 0.9}}}
""",
        file="ds_config.json",
        line=4,
    ),
    Sample(
        "DeepSpeed, misspelt",
        """{"train_batch_size": 8,
 "zero_optimization": {"stage": 1},
 "optimizer": {
  "type": "AdammW", "params": {"lr": 1e-4}}}
""",
        file="ds_config.json",
        line=4,
    ),
    Sample(
        "kohya",
        """pretrained_model_name_or_path = "m"
network_dim = 8
unet_lr = 1e-4
optimizer_type = "AdmW8bit"  # <-
max_train_steps = 100
""",
        file="config.toml",
    ),
    Sample(
        "fairseq",
        """optimization:
  max_update: 100
  update_freq: [1]
optimizer:
  _name: adam
  momentum: 0.9  # <-
""",
        file="config.yaml",
    ),
    Sample("Keras json", '{"class_name": "Adamm",\n "config": {"learning_rate": 0.001}}\n', file="optimizer.json", line=1),
    Sample(
        "Ultralytics, misspelt",
        """task: detect
mode: train
lr0: 0.001
lrf: 0.01
box: 7.5
cls: 0.5
optimizer: AdmaW  # <-
momentum: 0.937
""",
        file="args.yaml",
    ),
    Sample(
        "torchtitan, misspelt",
        """[optimizer]
name = 'AdammW'  # <-
lr = 3e-4
[training]
steps = 10
seq_len = 128
[lr_scheduler]
warmup_steps = 2
[job]
dump_folder = 'o'
""",
        file="debug.toml",
    ),
    Sample("plain, misspelt", "optimizer: adammw  # <-\nlr: 0.001\n", file="config.yaml"),
)
