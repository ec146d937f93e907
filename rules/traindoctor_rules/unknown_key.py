"""A key is misspelt, so that what it sets is not set.

## What it looks like
`learing_rate: 1e-4`, `gradient_acumulation_steps: 8`, `warmup_step` where the framework reads `warmup_steps`.

## Why it matters
A framework that refuses unknown keys stops at the start. One that does not, trains with its default, and nothing says so.

## When it is wrong
A script that reads the key as it is spelt. Where the config belongs to no framework, only a key that holds a word which is
none is spoken of, and not where that key stands in a Python file of the project.

## What repairs it
The right spelling. The repair counts as unsafe: a value that was never read takes effect.

## References
Hugging Face Transformers documentation, HfArgumentParser: keys that are not used raise a ValueError; nanoGPT,
configurator.py, runs a config that may set any name; timm, train.py: `parser.set_defaults` takes any key of the file. Damerau
1964, A technique for computer detection and correction of spelling errors, doi:10.1145/363958.363994: four in five
misspellings are one letter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs.spelling import KEYS, mistyped, stands_in
from traindoctor.mistake import Mistake, Repair
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.file import ConfigFile

CAUSE = Cause(
    code="TD802",
    name="unknown-key",
    summary="a key is misspelt, and what it sets is not set",
    explanation=__doc__,
    severity="warning",
)


@CAUSE.in_file
def misspelt(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield keys that are one or two letters from one that is not set."""
    del limits
    for entry, right in mistyped(config):
        if config.dialect not in KEYS and stands_in(entry.key, config.programs()):
            continue
        edit = config.renamed(entry, right)
        yield Mistake(
            config.key_place(entry),
            f"`{entry.key}` is no key that is read here. It looks like `{right}`, which is not set.",
            f"write `{right}`",
            repair=Repair(f"spell it `{right}`", (edit,)) if edit is not None else None,
        )


_HF = """\
output_dir: out
per_device_train_batch_size: 8
num_train_epochs: 3
"""
_CLI = "model: {class_path: net.Net}\noptimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1}}\n"
CAUSE.valid_code = (
    Sample(
        "known keys",
        _HF
        + """\
learning_rate: 2.0e-5
warmup_steps: 100
eval_steps: 10
per_device_eval_batch_size: 8
""",
        file="run.yaml",
    ),
    Sample("both are set", _HF + "learning_rate: 2.0e-5\nlearning_rates: 3\n", file="run.yaml"),
    Sample(
        "other steps",
        _HF
        + """\
learning_rate: 2.0e-5
save_steps: 100
logging_steps: 5
max_seq_length: 512
""",
        file="run.yaml",
    ),
    Sample(
        "singular of one's own",
        """\
optimizer: {name: sgd, lr: 0.1}
num_epoch: 10
max_epoch: 3
warmup_epoch: 1
""",
        file="config.yaml",
    ),
    Sample(
        "words of one's own",
        """\
optimizer: {name: sgd, lr: 0.1}
weights_decay: 0.1
batch_sizes: 3
lr_schedulers: x
height: 3
""",
        file="config.yaml",
    ),
    Sample(
        "read by a script",
        """\
optimizer: {name: sgd, lr: 0.1}
schedular: cosine
weigth_decay: 0.1
""",
        file="config.yaml",
        others={"train.py": "wd = config['weigth_decay']\ns = config['schedular']\n"},
    ),
    Sample("keys of a model", "SOLVER: {BASE_LR: 0.02, IMS_PER_BATCH: 2}\nMODEL: {BASE_RL: 3}\n", file="c.yaml"),
    Sample(
        "deepspeed",
        """\
{"zero_optimization": {"stage": 2}, "scheduler": {"type": "WarmupLR", "params": {"warmup_min_lr": 0, "warmup_max_lr": 0.1}}}""",
        file="ds.json",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "of Composer",
        """\
max_duration: 100ba
device_train_microbatch_size: auto
global_train_batchsize: 256  # <-
optimizer: {name: decoupled_adamw, lr: 1.0e-4}
""",
        file="mpt.yaml",
    ),
    Sample("trainer", _HF + "learing_rate: 2.0e-5  # <-\n", file="run.yaml", fixed=_HF + "learning_rate: 2.0e-5  # <-\n"),
    Sample("left out", _HF + "learning_rate: 2.0e-5\ngradient_acumulation_steps: 8  # <-\n", file="run.yaml"),
    Sample(
        "run together",
        """\
output_dir: out
learning_rate: 2.0e-5
num_train_epochs: 1
adam_beta2: 0.98
per_device_train_batchsize: 8  # <-
""",
        file="run.yaml",
    ),
    Sample("apart", _HF + "learning_rate: 2.0e-5\nwarm_up_steps: 100  # <-\n", file="run.yaml"),
    Sample(
        "swapped",
        """\
{"output_dir": "o", "per_device_train_batch_size": 8, "learning_rate": 1e-4,
 "weight_decya": 0.1}""",
        file="args.json",
        line=2,
        fixed="""\
{"output_dir": "o", "per_device_train_batch_size": 8, "learning_rate": 1e-4,
 "weight_decay": 0.1}""",
    ),
    Sample("deepspeed", '{"zero_optimization": {"stage": 2},\n "gradient_cliping": 1.0}', file="ds.json", line=2),
    Sample("singular", '{"zero_optimization": {"stage": 2},\n "gradient_accumulation_step": 8}', file="ds.json", line=2),
    Sample("lightning", _CLI + "trainer: {max_epochs: 3, gradient_clip_value: 1.0}  # <-\n", file="cli.yaml"),
    Sample(
        "detectron2",
        """\
SOLVER:
  IMS_PER_BATCH: 2
  BASE_RL: 0.02  # <-
""",
        file="c.yaml",
        fixed="""\
SOLVER:
  IMS_PER_BATCH: 2
  BASE_LR: 0.02  # <-
""",
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
[lr_scheduler]
warmup_step = 10  # <-
[training]
seq_len = 2048
steps = 1000
""",
        file="t.toml",
    ),
    Sample(
        "kohya",
        """\
pretrained_model_name_or_path = 'x'
network_dim = 8
optimizer_type = 'AdamW'
sdpa = true
learnng_rate = 1e-4  # <-
""",
        file="config.toml",
    ),
    Sample(
        "ultralytics",
        """\
lr0: 0.01
lrf: 0.01
box: 7.5
cls: 0.5
optimizer: SGD
momemtum: 0.9  # <-
""",
        file="args.yaml",
    ),
    Sample(
        "nanogpt",
        """\
init_from = 'scratch'
block_size = 256
n_layer = 6
max_iters = 100
learning_rte = 1e-3  # <-
""",
        file="config_nano.py",
        fixed="""\
init_from = 'scratch'
block_size = 256
n_layer = 6
max_iters = 100
learning_rate = 1e-3  # <-
""",
    ),
    Sample(
        "free-form",
        """\
optimizer:
  name: sgd
  lr: 0.1
  weigth_decay: 0.1  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "hydra",
        """\
optimizer:
  _target_: torch.optim.SGD
  lr: 0.1
  momentun: 0.9  # <-
""",
        file="conf.yaml",
    ),
    Sample(
        "mmengine",
        """\
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1,
                   weigth_decay=0.1))  # <-
""",
        file="config_mm.py",
    ),
)
