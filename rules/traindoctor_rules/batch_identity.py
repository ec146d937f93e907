"""The batch sizes do not multiply: the batch of a step is not what its parts make.

## What it looks like
`train_batch_size: 100` with `train_micro_batch_size_per_gpu: 8` and `gradient_accumulation_steps: 2` in a DeepSpeed config; a
`--global-batch-size` that is no multiple of `--micro-batch-size`.

## Why it matters
The batch of one step is the micro batch times the accumulation steps times the number of processes. Where that cannot be, for
any number of processes, the run is refused when it starts, often after it has waited for its machines.

## When it is wrong
"auto", which is filled in later. A script that changes the config before it hands it on.

## What repairs it
Two of the three, and DeepSpeed works out the last.

## References
DeepSpeed documentation, "Batch Size Related Parameters": train_batch_size = train_micro_batch_size_per_gpu *
gradient_accumulation_steps * number of GPUs; Megatron-LM, num_microbatches_calculator.py: the global batch size is divisible
by the micro batch size times the data parallel size; torchtitan, config: global_batch_size over local_batch_size.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs.documents import COMMANDS
from traindoctor.configs.lengths import counted
from traindoctor.configs.vocabulary import normal, whole
from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.documents import Entry
    from traindoctor.configs.file import ConfigFile

CAUSE = Cause(
    code="TD504",
    name="batch-identity",
    summary="the batch of a step is not what its parts make",
    explanation=__doc__,
)

#: Dialect -> path of the batch of a step, and of the parts that it is a multiple of.
_PARTS = {
    "DeepSpeed": ("train_batch_size", ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps")),
    "GPT-NeoX": ("train_batch_size", ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps")),
    "Megatron-LM": ("global_batch_size", ("micro_batch_size",)),
    "torchtitan": ("training.global_batch_size", ("training.local_batch_size",)),
    "Hydra": ("model.global_batch_size", ("model.micro_batch_size", "model.data_parallel_size")),  # NeMo's Megatron models
}
#: Options of launchers that say how many processes there are.
_PROCESSES = frozenset({"num_gpus", "nproc_per_node", "num_processes", "nproc"})


@CAUSE.in_file
def no_multiple(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield the batch of a step that is no multiple of its parts."""
    del limits
    if config.dialect not in _PARTS:
        return
    path, names = _PARTS[config.dialect]
    batch, parts = config.at(path), [entry for name in names if (entry := config.at(name)) is not None]
    n = whole(batch.value) if batch is not None else None
    sizes = [size for entry in parts if (size := whole(entry.value))]
    if batch is None or n is None or n <= 0 or not sizes or len(sizes) != len(parts):
        return
    product = 1
    for size in sizes:
        product *= size
    if n % product:
        yield _broken(config, batch, parts, n, product)


@CAUSE.in_file
def not_with_these_processes(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a launch script whose number of processes does not fit the DeepSpeed config that it names."""
    del limits
    if config.suffix not in COMMANDS:
        return
    processes = next((e for e in config.entries if normal(e.key) in _PROCESSES and whole(e.value)), None)
    nodes = next((e for e in config.entries if normal(e.key) in ("num_nodes", "nnodes")), None)
    named = next(
        (e for e in config.entries if normal(e.key) in ("deepspeed_config", "deepspeed") and isinstance(e.value, str)), None
    )
    held = config.beside(str(named.value)) if named is not None else None
    if processes is None or held is None or held.dialect != "DeepSpeed" or (nodes is not None and nodes.value != 1):
        return
    sizes = [whole(entry.value) for name in _PARTS["DeepSpeed"][1] if (entry := held.at(name)) is not None]
    batch, n_processes = held.at("train_batch_size"), whole(processes.value)
    n = whole(batch.value) if batch is not None else None
    if batch is None or n is None or n_processes is None or len(sizes) != 2 or sizes[0] is None or sizes[1] is None:
        return
    product = sizes[0] * sizes[1] * n_processes
    if product and n != product and n % (sizes[0] * sizes[1]) == 0:
        yield Mistake(
            config.place(processes),
            f"`{processes.key}` is {n_processes}, and `{held.name}` has a batch of {counted(n)}, "
            f"{sizes[0]} x {sizes[1]} a process. These make {counted(product)}, and DeepSpeed refuses the run.",
            f"start {n // (sizes[0] * sizes[1])} processes, or leave `train_batch_size` out",
            related=((held.place(batch), f"`{batch.key}` is {counted(n)}"),),
        )


def _broken(config: ConfigFile, batch: Entry, parts: list[Entry], n: int, product: int) -> Mistake:
    its = " and ".join(f"`{entry.key}` ({entry.value})" for entry in parts)
    return Mistake(
        config.place(batch),
        f"`{batch.key}` is {counted(n)}, and no multiple of {its}. No number of processes makes it: {config.dialect} refuses it.",
        f"set `{batch.key}` to a multiple of {counted(product)}" + (", or leave it out" if config.dialect == "DeepSpeed" else ""),
        related=tuple((config.place(entry), f"`{entry.key}` is {entry.value}") for entry in parts),
    )


_MEGATRON = "torchrun pretrain_gpt.py --num-attention-heads 16 --train-iters 1000 --lr 1e-4 --clip-grad 1.0 "
_PAIR = """\
{"zero_optimization": {"stage": 2}, "train_batch_size": 64,
 "train_micro_batch_size_per_gpu": 8, "gradient_accumulation_steps": 2}"""
CAUSE.valid_code = (
    Sample(
        "multiple in a model of NeMo",
        """\
name: ${oc.env:NAME}
model: {micro_batch_size: 4, global_batch_size: 8, optim: {name: adamw, lr: 0.0002}}
""",
        file="config.yaml",
    ),
    Sample("four processes", _PAIR, file="ds.json"),
    Sample("auto", _PAIR.replace("64", '"auto"'), file="ds.json"),
    Sample("auto in a part", _PAIR.replace(": 8", ': "auto"'), file="ds.json"),
    Sample(
        "two of three",
        """\
{"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": 8, "gradient_accumulation_steps": 3}""",
        file="ds.json",
    ),
    Sample("megatron", _MEGATRON + "--micro-batch-size 4 --global-batch-size 64\n", file="run.sh"),
    Sample("variable", _MEGATRON + "--micro-batch-size 4 --global-batch-size $GBS\n", file="run.sh"),
    Sample(
        "as many processes",
        "deepspeed --num_gpus 4 train.py --deepspeed_config ds.json\n",
        file="run.sh",
        others={"ds.json": _PAIR},
    ),
    Sample(
        "more nodes",
        "deepspeed --num_gpus 2 --num_nodes 2 train.py --deepspeed_config ds.json\n",
        file="run.sh",
        others={"ds.json": _PAIR},
    ),
    Sample(
        "free-form",
        """\
lr: 0.1
train_batch_size: 100
gradient_accumulation_steps: 3
""",
        file="config.yaml",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "model of NeMo",
        """\
name: ${oc.env:NAME}
model:
  micro_batch_size: 4
  global_batch_size: 6  # <-
  optim: {name: adamw, lr: 0.0002}
""",
        file="config.yaml",
    ),
    Sample(
        "deepspeed",
        """\
{"zero_optimization": {"stage": 2},
 "train_batch_size": 100,
 "train_micro_batch_size_per_gpu": 8,
 "gradient_accumulation_steps": 2}""",
        file="ds.json",
        line=2,
    ),
    Sample(
        "smaller than its parts",
        """\
{"zero_optimization": {"stage": 2},
 "train_batch_size": 8,
 "train_micro_batch_size_per_gpu": 8,
 "gradient_accumulation_steps": 2}""",
        file="ds.json",
        line=2,
    ),
    Sample(
        "accumulation alone",
        '{"zero_optimization": {"stage": 2},\n "train_batch_size": 64,\n "gradient_accumulation_steps": 3}',
        file="ds.json",
        line=2,
    ),
    Sample(
        "neox",
        """\
zero_optimization: {stage: 1}
train-iters: 1000
num-layers: 12
train_batch_size: 30  # <-
train_micro_batch_size_per_gpu: 4
optimizer: {type: Adam, params: {lr: 0.0006}}
""",
        file="a.yml",
    ),
    Sample(
        "megatron",
        _MEGATRON
        + """\
\\
  --micro-batch-size 6 \\
  --global-batch-size 64
""",
        file="run.sh",
        line=3,
    ),
    Sample(
        "torchtitan",
        """\
[job]
d = 1
[metrics]
log_freq = 1
[optimizer]
name = 'AdamW'
lr = 8e-4
[training]
seq_len = 2048
steps = 1000
local_batch_size = 8
global_batch_size = 60  # <-
""",
        file="t.toml",
    ),
    Sample(
        "two processes",
        "deepspeed --num_gpus 2 train.py --deepspeed_config ds.json  # <-\n",
        file="run.sh",
        others={"ds.json": _PAIR},
    ),
)
