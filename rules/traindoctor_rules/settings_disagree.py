"""Two files that are read together set one thing to different values.

## What it looks like
`"lr": 1e-3` in the DeepSpeed config and `learning_rate: 2e-5` in the arguments of the Trainer that name it. A launch script
that sets `--lr` over the config that it is started with (information only).

## Why it matters
Transformers refuses a DeepSpeed value that is not "auto" and differs from its own. What a command line sets wins over the
file, so that the file no longer says how the run was made.

## When it is wrong
Arguments that another script reads and changes before it builds the Trainer. An override on the command line is often meant
so.

## What repairs it
"auto" in the DeepSpeed config: the Trainer fills it in.

## References
Hugging Face Transformers documentation, DeepSpeed, "DeepSpeed and Trainer parameters": shared values are best left at "auto";
transformers, integrations/deepspeed.py, `trainer_config_finalize`: the error that names the values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs.documents import COMMANDS
from traindoctor.configs.trainer_pair import pairs
from traindoctor.configs.vocabulary import normal, number, pair, truth
from traindoctor.mistake import Mistake, Repair
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.documents import Entry
    from traindoctor.configs.file import ConfigFile

CAUSE = Cause(
    code="TD804",
    name="settings-disagree",
    summary="two files that are read together set one thing differently",
    explanation=__doc__,
)

#: Path in the DeepSpeed config, names of the argument, and what the Trainer takes where the argument is not given.
_SHARED: tuple[tuple[str, tuple[str, ...], float | None], ...] = (
    ("optimizer.params.lr", ("learning_rate",), None),
    ("optimizer.params.eps", ("adam_epsilon",), None),
    ("optimizer.params.weight_decay", ("weight_decay",), None),
    ("scheduler.params.warmup_max_lr", ("learning_rate",), None),
    ("scheduler.params.warmup_num_steps", ("warmup_steps",), None),
    ("scheduler.params.total_num_steps", ("max_steps",), None),
    ("gradient_clipping", ("max_grad_norm",), 1.0),
    ("gradient_accumulation_steps", ("gradient_accumulation_steps",), 1.0),
    ("train_micro_batch_size_per_gpu", ("per_device_train_batch_size", "micro_batch_size"), None),
)
_SWITCHES = (("fp16.enabled", "fp16"), ("bf16.enabled", "bf16"))


@CAUSE.in_file
def deepspeed_and_trainer(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield values of the DeepSpeed config that the arguments of the Trainer contradict."""
    del limits
    for one in pairs(config):
        for path, names, default in _SHARED:
            entry, argument = one.of_deepspeed(path), one.of_arguments(*names)
            there = number(entry.value) if entry is not None else None
            here = number(argument.value) if argument is not None else default
            if entry is None or there is None or here is None or there == here or here < 0.0:
                continue
            key = argument.key if argument is not None else names[0]
            yield _contradicted(one.deepspeed, entry, one.arguments, argument, f"`{key}` is {here:g}")
        for path, name in _SWITCHES:
            entry, argument = one.of_deepspeed(path), one.of_arguments(name)
            if entry is not None and argument is not None and truth(entry.value) is not None:
                on = truth(argument.value)
                if on is not None and on != truth(entry.value):
                    yield _contradicted(one.deepspeed, entry, one.arguments, argument, f"`{name}` is {'on' if on else 'off'}")
        entry = one.of_deepspeed("optimizer.params.betas")
        betas = pair(entry.value) if entry is not None else None
        for index, name in enumerate(("adam_beta1", "adam_beta2")):
            argument = one.of_arguments(name)
            its = number(argument.value) if argument is not None else None
            if entry is not None and betas is not None and its is not None and betas[index] != its:
                yield _contradicted(one.deepspeed, entry, one.arguments, argument, f"`{name}` is {its:g}")


def _contradicted(deepspeed: ConfigFile, entry: Entry, arguments: ConfigFile, argument: Entry | None, its: str) -> Mistake:
    edit = deepspeed.replaced(entry, '"auto"')
    by_default = "" if argument is not None else " by default"
    return Mistake(
        deepspeed.place(entry),
        f"`{entry.key}` is {_shown(entry.value)} in the DeepSpeed config, and {its}{by_default} in the arguments of the Trainer. "
        "Transformers refuses the run.",
        'write "auto" in the DeepSpeed config, which takes the value of the arguments',
        severity="" if argument is not None else "warning",
        repair=Repair("leave the value to the Trainer", (edit,)) if edit is not None and argument is not None else None,
        related=((arguments.place(argument), its),) if argument is not None else (),
    )


def _shown(value: object) -> str:
    plain = number(value)
    return f"{plain:g}" if plain is not None else str(value)


#: Options that name a config.
_NAMES_A_CONFIG = frozenset({"config", "config_file", "cfg", "conf", "hparams", "config_path"})


@CAUSE.in_file
def command_over_config(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield the options of a launch script that set another value than the config which the script names."""
    del limits
    if config.suffix not in COMMANDS:
        return
    named = next((e for e in config.entries if normal(e.key) in _NAMES_A_CONFIG and isinstance(e.value, str)), None)
    held = config.beside(str(named.value)) if named is not None else None
    if held is None:
        return
    for setting in ("optimizer.lr", "batch_size", "optimizer.weight_decay", "steps", "epochs", "schedule.warmup_steps"):
        slot, other = config.slot(setting), held.slot(setting)
        if slot is not None and other is not None and slot.value != other.value:
            yield Mistake(
                config.place(slot),
                f"`{slot.entry.key}` is {_shown(slot.value)} here and {_shown(other.value)} in `{held.name}`. "
                "The command line wins.",
                "keep the value in one place",
                severity="info",
                related=((held.place(other), f"`{other.entry.key}` is {_shown(other.value)}"),),
            )


_ARGUMENTS = """\
output_dir: out
deepspeed: ds.json
per_device_train_batch_size: 4
learning_rate: 2.0e-5
num_train_epochs: 1
"""
_AUTO = """\
{"zero_optimization": {"stage": 3}, "optimizer": {"type": "AdamW", "params": {"lr": "auto"}}, "gradient_clipping": "auto"}"""
_RUN = "python train.py --config config.yaml "
CAUSE.valid_code = (
    Sample("auto", _ARGUMENTS, file="train.yaml", others={"ds.json": _AUTO}),
    Sample("auto beside its arguments", _AUTO, file="ds.json", others={"train.yaml": _ARGUMENTS}),
    Sample(
        "equal",
        '{"zero_optimization": {"stage": 3}, "optimizer": {"type": "AdamW", "params": {"lr": 2e-5}}}',
        file="ds.json",
        others={"train.yaml": _ARGUMENTS},
    ),
    Sample("not at hand", _ARGUMENTS, file="train.yaml"),
    Sample(
        "alone",
        '{"zero_optimization": {"stage": 3}, "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}}',
        file="ds.json",
    ),
    Sample(
        "arguments of another",
        '{"zero_optimization": {"stage": 3}, "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}}',
        file="other.json",
        others={"train.yaml": _ARGUMENTS},
    ),
    Sample(
        "steps not limited",
        """\
{"zero_optimization": {"stage": 3}, "scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 500}}}""",
        file="ds.json",
        others={"train.yaml": _ARGUMENTS + "max_steps: -1\n"},
    ),
    Sample("same on the command line", _RUN + "--lr 0.1\n", file="run.sh", others={"config.yaml": "lr: 0.1\n"}),
    Sample("config not at hand", _RUN + "--lr 0.1\n", file="run.sh"),
    Sample("variable on the command line", _RUN + "--lr $LR\n", file="run.sh", others={"config.yaml": "lr: 0.2\n"}),
)
CAUSE.invalid_code = (
    Sample(
        "rate",
        '{"zero_optimization": {"stage": 3},\n "optimizer": {"type": "AdamW", "params":\n  {"lr": 1e-3}}}',
        file="ds.json",
        line=3,
        others={"train.yaml": _ARGUMENTS},
        fixed='{"zero_optimization": {"stage": 3},\n "optimizer": {"type": "AdamW", "params":\n  {"lr": "auto"}}}',
    ),
    Sample(
        "clipping",
        '{"zero_optimization": {"stage": 3},\n "gradient_clipping": 0.5}',
        file="ds.json",
        line=2,
        others={"train.yaml": _ARGUMENTS + "max_grad_norm: 1.0\n"},
    ),
    Sample(
        "clipping by default",
        '{"zero_optimization": {"stage": 3},\n "gradient_clipping": 0.5}',
        file="ds.json",
        line=2,
        others={"train.yaml": _ARGUMENTS},
    ),
    Sample(
        "betas",
        """\
{"zero_optimization": {"stage": 3}, "optimizer": {"type": "AdamW", "params":
  {"betas": [0.9, 0.95]}}}""",
        file="ds.json",
        line=2,
        others={"train.yaml": _ARGUMENTS + "adam_beta2: 0.98\n"},
    ),
    Sample(
        "precision",
        '{"zero_optimization": {"stage": 3},\n "bf16": {"enabled": false}}',
        file="ds.json",
        line=2,
        others={"train.yaml": _ARGUMENTS + "bf16: true\n"},
    ),
    Sample(
        "accumulation in a script",
        '{"zero_optimization": {"stage": 3},\n "gradient_accumulation_steps": 2}',
        file="ds.json",
        line=2,
        others={
            "run.sh": """\
deepspeed train.py --deepspeed ds.json --output_dir o --learning_rate 2e-5 \\
  --per_device_train_batch_size 4 --gradient_accumulation_steps 8
"""
        },
    ),
    Sample(
        "from the arguments",
        _ARGUMENTS.replace("learning_rate: 2.0e-5", "learning_rate: 1.0e-5  #"),
        file="train.yaml",
        line=1,
        others={"ds.json": '{"zero_optimization": {"stage": 3}, "optimizer": {"type": "AdamW", "params": {"lr": 1e-3}}}'},
    ),
    Sample(
        "inline",
        """\
output_dir: o
per_device_train_batch_size: 4
learning_rate: 2.0e-5
deepspeed:
  zero_optimization: {stage: 2}
  optimizer:
    type: AdamW
    params: {lr: 1.0e-3}  # <-
""",
        file="run.yaml",
    ),
    Sample("command line", _RUN + "--lr 0.1  # <-\n", file="run.sh", others={"config.yaml": "optimizer: {name: sgd, lr: 0.2}\n"}),
)
