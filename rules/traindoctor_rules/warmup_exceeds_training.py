"""The warmup of the learning rate is as long as the training, or its length is not what was meant.

## What it looks like
`warmup_steps: 500` with `max_steps: 50`; a `warmup_ratio` of 3; a ratio and a number of steps side by side; `0.1` where steps
are counted.

## Why it matters
A run that ends inside its warmup never reaches its learning rate: it trains at a fraction of it, and the loss falls slowly
for a reason that no curve shows. A ratio above 1 asks for the same. Of a ratio and a number of steps only one counts.

## When it is wrong
Smoke tests of a few steps: below 20 steps, or up to 3 epochs, this is said as information only. Where the length of the run
is in epochs and the warmup in steps, nothing is said: the config does not tell how many steps an epoch has.

## What repairs it
A warmup of 1 to 10 % of the training, given in one way.

## References
Hugging Face Transformers documentation, TrainingArguments: `warmup_steps` overrides `warmup_ratio`, which lies in [0, 1];
axolotl, utils/schemas/validation.py: the two are mutually exclusive; Megatron-LM, training/arguments.py: only one of the two
may be given. Ma and Yarats 2021, On the adequacy of untuned warmup for adaptive optimization, arXiv:1910.04209, on how long a
warmup needs to be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs.lengths import TRAINER, horizon, is_free, runs, warmup
from traindoctor.configs.vocabulary import normal, number
from traindoctor.mistake import Mistake, Repair
from traindoctor.rule import Cause, Limits, Sample, Threshold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.documents import Entry
    from traindoctor.configs.file import ConfigFile
    from traindoctor.configs.lengths import Length
    from traindoctor.mistake import Severity

CAUSE = Cause(
    code="TD205",
    name="warmup-exceeds-training",
    summary="the warmup is as long as the training",
    explanation=__doc__,
    thresholds=(
        Threshold("few_steps", 20.0, "steps", "the smoke tests in the examples of torchtitan and nanoGPT take 5 to 10"),
        Threshold("few_epochs", 3.0, "epochs", "the default warmup of Ultralytics is 3 epochs, whatever the length of the run"),
    ),
)

_RATIOS = frozenset(
    {
        "warmup_ratio",
        "lr_warmup_ratio",
        "warmup_fraction",
        "lr_warmup_fraction",
        "warmup_proportion",
        "pct_start",
    }
)
_STEPS = frozenset(
    {
        "warmup_steps",
        "lr_warmup_steps",
        "num_warmup_steps",
        "warmup_iters",
        "warmup_updates",
        "warmup_num_steps",
        "lr_warmup_iters",
    }
)
#: Dialects in which a ratio of the warmup is a share of the training. In mmcv it is the rate at which the warmup begins.
_RATIO_DIALECTS = TRAINER | {"Megatron-LM", "Hydra", "LightningCLI", "GPT-NeoX"}
#: Dialects that count steps of warmup as a whole number, and whether they refuse another one.
_WHOLE: dict[str, Severity] = {
    "axolotl": "error",
    "fairseq": "error",
    "Megatron-LM": "error",
    "torchtitan": "error",
    "nanoGPT": "warning",
    "DeepSpeed": "warning",
    "GPT-NeoX": "warning",
    "Detectron2": "warning",
    "mmcv": "warning",
    "torchtune": "warning",
}


@CAUSE.in_file
def outlasts_the_run(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a warmup that does not end before the run, or before the schedule that it is a part of."""
    warm = warmup(config)
    if warm is None:
        return
    its = horizon(config)
    totals = [*runs(config), *([its] if its is not None and its.unit == "step" else [])]
    total = min(
        (one for one in totals if one.unit == warm.unit and one.value <= warm.value), key=lambda one: one.value, default=None
    )
    if total is None or (warm.what is None and total.what is None):
        return
    few = total.value < limits["few_steps"] if total.unit == "step" else total.value <= limits["few_epochs"]
    at = config.foremost(warm.what, total.what)
    if at is None:
        return
    other = total if at is warm.what else warm
    yield Mistake(
        config.place(at),
        f"The warmup takes {warm.text} of a training of {total.text}. {_consequence(warm, total)}",
        f"shorten `{warm.key}` to a tenth of the training or less: {max(1, round(total.value / 10)):,}",
        severity="info" if few or config.is_trial else "warning" if is_free(config) or other.what is None else "error",
        related=((config.place(other.what), other.text),) if other.what is not None else (),
    )


def _consequence(warm: Length, total: Length) -> str:
    if warm.value == total.value:
        return "The learning rate reaches its peak when the training ends."
    return f"The learning rate ends at {total.value / warm.value:.2g} of its peak."


@CAUSE.in_file
def ratio_out_of_range(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a ratio that is no share of the training, and one beside a number of steps."""
    del limits
    if config.dialect not in _RATIO_DIALECTS:
        return
    for entry in config.entries:
        key = normal(entry.key)
        ratio = number(entry.value)
        if ratio is None or (key not in _RATIOS and not (key == "warmup" and config.dialect == "GPT-NeoX")):
            continue
        if not 0.0 <= ratio <= 1.0:
            yield Mistake(
                config.place(entry),
                f"`{entry.key}` is {ratio:g}, and is a share of the training, from 0 to 1. {_out_of_range(config, ratio)}",
                "write a share such as 0.03, or give the warmup in steps",
                severity="warning" if is_free(config) else "error",
                repair=_to_steps(config, entry, ratio),
            )
        elif ratio > 0.0 and (steps := _counted(config)) is not None:
            refused = config.dialect in ("axolotl", "Megatron-LM")
            yield Mistake(
                config.place(entry),
                f"`{entry.key}` is {ratio:g} beside `{steps.key}`: {number(steps.value):g}. "
                + (f"{config.dialect} refuses both at once." if refused else "The steps count, the ratio is not used."),
                f"keep one of `{entry.key}` and `{steps.key}`",
                severity="error" if refused else "warning",
                related=((config.place(steps), "the number of steps"),),
            )


def _out_of_range(config: ConfigFile, ratio: float) -> str:
    if config.dialect in ("Hydra", "GPT-NeoX") and ratio > 1.0:
        return "The learning rate never reaches its peak."
    return "It is refused when the run starts."


def _counted(config: ConfigFile) -> Entry | None:
    """Return the number of warmup steps beside a ratio, where the dialect takes one of the two; None for 0."""
    if config.dialect not in TRAINER | {"Megatron-LM"} or config.is_branching:
        return None
    return next((e for e in config.entries if normal(e.key) in _STEPS and (number(e.value) or 0.0) >= 1.0), None)


def _to_steps(config: ConfigFile, entry: Entry, ratio: float) -> Repair | None:
    """Return the other key for what can only be a number of steps."""
    if config.dialect not in TRAINER or ratio < 100.0 or not ratio.is_integer() or _counted(config) is not None:
        return None
    edit = config.renamed(entry, "warmup_steps")
    return Repair("give the number of steps its own key, `warmup_steps`", (edit,)) if edit is not None else None


@CAUSE.in_file
def share_counted_as_steps(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a share of the training where steps are counted."""
    del limits
    severity: Severity | None = _WHOLE.get(config.dialect, "info" if config.dialect in TRAINER else None)
    if severity is None:
        return
    for entry in config.entries:
        steps = number(entry.value)
        if steps is None or not 0.0 < steps < 1.0 or normal(entry.key) not in _STEPS:
            continue
        share = {"Megatron-LM": "lr_warmup_fraction"}.get(config.dialect, "warmup_ratio" if config.dialect in TRAINER else "")
        edit = config.renamed(entry, share) if share and not _has(config, share) else None
        yield Mistake(
            config.place(entry),
            f"`{entry.key}` counts steps, and is {steps:g}. "
            + (
                "Transformers reads this as a share since version 5, and refuses it before."
                if severity == "info"
                else f"It is refused: {config.dialect} wants a whole number."
                if severity == "error"
                else "There is no warmup."
            ),
            f"write `{share}: {steps:g}`" if share else "write the number of steps",
            severity=severity,
            repair=Repair(f"give the share its own key, `{share}`", (edit,)) if edit is not None else None,
        )


def _has(config: ConfigFile, key: str) -> bool:
    return any(normal(entry.key) == key for entry in config.entries)


_HF = """\
output_dir: out
per_device_train_batch_size: 8
learning_rate: 2.0e-5
num_train_epochs: 3
"""
_TIMM = """\
opt: adamw
opt_eps: null
lr: 0.001
sched: cosine
warmup_lr: 1.0e-06
cooldown_epochs: 0
"""
_TITAN = """\
[job]
dump_folder = 'out'
[metrics]
log_freq = 1
[optimizer]
name = 'AdamW'
lr = 8e-4
"""
CAUSE.valid_code = (
    Sample(
        "steps of an agent before it learns",
        """\
algo: sac
max_steps: 1000
warmup_steps: 10000
lr: 0.0003
""",
        file="config.yaml",
    ),
    Sample(
        "solver of equations",
        """\
solver:
  type: rk4
  steps: 1000
  max_iter: 100
""",
        file="config.yaml",
    ),
    Sample("steps not limited", _HF + "warmup_steps: 500\nmax_steps: -1\n", file="run.yaml"),
    Sample("length in epochs alone", _HF + "warmup_steps: 5000\n", file="run.yaml"),
    Sample("a tenth", _HF + "warmup_steps: 500\nmax_steps: 5000\n", file="run.yaml"),
    Sample(
        "no warmup in a constant schedule",
        _HF
        + """\
lr_scheduler_type: constant
warmup_steps: 500
max_steps: 50
""",
        file="run.yaml",
    ),
    Sample("auto", _HF + "warmup_steps: auto\nmax_steps: 50\n", file="run.yaml"),
    Sample("null", _HF + "warmup_steps: null\nmax_steps: 50\n", file="run.yaml"),
    Sample("ratio", _HF + "warmup_ratio: 0.1\nmax_steps: 50\n", file="run.yaml"),
    Sample("ratio beside no steps", _HF + "warmup_ratio: 0.1\nwarmup_steps: 0\n", file="run.yaml"),
    Sample("steps beside no ratio", _HF + "warmup_ratio: 0.0\nwarmup_steps: 100\n", file="run.yaml"),
    Sample("whole ratio", _HF + "warmup_ratio: 1.0\n", file="run.yaml"),
    Sample(
        "interpolation",
        """\
defaults: [_self_]
optimizer: {lr: 0.1}
warmup_steps: ${eval:'2*10'}
max_steps: 10
""",
        file="conf.yaml",
    ),
    Sample(
        "free-form",
        """\
lr: 0.1
warmup_steps: 500
steps: 50
""",
        file="config.yaml",
    ),
    Sample("free-form ratio", "lr: 0.1\nwarmup_ratio: 3\n", file="config.yaml"),
    Sample(
        "factor of mmcv",
        """\
optimizer = dict(type='SGD', lr=0.1)
lr_config = dict(policy='step', warmup='linear', warmup_iters=500, warmup_ratio=1.0 / 3, step=[8])
runner = dict(type='EpochBasedRunner', max_epochs=12)
""",
        file="config_mmcv.py",
    ),
    Sample(
        "steps of warmup, run in epochs",
        """\
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', milestones=[8, 11])]
train_cfg = dict(max_epochs=12)
""",
        file="config_mm.py",
    ),
    Sample(
        "share in kohya",
        """\
pretrained_model_name_or_path = 'x'
network_dim = 8
optimizer_type = 'AdamW'
learning_rate = 1e-4
lr_warmup_steps = 0.1
max_train_steps = 1600
""",
        file="config.toml",
    ),
    Sample(
        "epochs override steps in kohya",
        """\
pretrained_model_name_or_path = 'x'
network_dim = 8
learning_rate = 1e-4
lr_warmup_steps = 500
max_train_steps = 100
max_train_epochs = 10
""",
        file="config.toml",
    ),
    Sample(
        "fractions of an epoch",
        """\
lr0: 0.01
lrf: 0.01
box: 7.5
momentum: 0.9
optimizer: SGD
warmup_epochs: 0.5
epochs: 100
""",
        file="args.yaml",
    ),
    Sample(
        "nanogpt without decay",
        """\
init_from = 'gpt2'
always_save_checkpoint = False
eval_iters = 40
max_iters = 200
learning_rate = 3e-5
decay_lr = False
""",
        file="config_finetune.py",
    ),
    Sample(
        "no limit in fairseq",
        """\
optimization:
  max_update: 0
  lr: [0.0005]
  clip_norm: 0.0
optimizer:
  _name: adam
lr_scheduler:
  _name: inverse_sqrt
  warmup_updates: 10000
""",
        file="config.yaml",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "free-form, both in epochs",
        """\
TRAIN:
  EPOCHS: 300
  WARMUP_EPOCHS: 400  # <-
  BASE_LR: 0.0005
  OPTIMIZER: {NAME: adamw}
""",
        file="config.yaml",
    ),
    Sample("trainer", _HF + "warmup_steps: 500  # <-\nmax_steps: 50\n", file="run.yaml"),
    Sample("as long", _HF + "max_steps: 500\nwarmup_steps: 500  # <-\n", file="run.yaml"),
    Sample("ratio above one", _HF + "warmup_ratio: 3  # <-\n", file="run.yaml"),
    Sample("steps as ratio", _HF + "warmup_ratio: 500  # <-\n", file="run.yaml", fixed=_HF + "warmup_steps: 500  # <-\n"),
    Sample("negative ratio", _HF + "warmup_ratio: -0.1  # <-\n", file="run.yaml"),
    Sample("both", _HF + "warmup_ratio: 0.1  # <-\nwarmup_steps: 100\n", file="run.yaml"),
    Sample(
        "json",
        """\
{"output_dir": "o", "per_device_train_batch_size": 8, "learning_rate": 2e-5,
 "max_steps": 100,
 "warmup_steps": 1000}""",
        file="args.json",
        line=3,
    ),
    Sample(
        "axolotl share",
        """\
base_model: x
micro_batch_size: 2
sequence_len: 2048
learning_rate: 2.0e-4
warmup_steps: 0.1  # <-
""",
        file="a.yml",
        fixed="""\
base_model: x
micro_batch_size: 2
sequence_len: 2048
learning_rate: 2.0e-4
warmup_ratio: 0.1  # <-
""",
    ),
    Sample(
        "axolotl both",
        """\
base_model: x
micro_batch_size: 2
sequence_len: 2048
learning_rate: 2.0e-4
warmup_ratio: 0.1  # <-
warmup_steps: 10
""",
        file="a.yml",
    ),
    Sample(
        "deepspeed",
        """\
{"zero_optimization": {"stage": 2},
 "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},
 "scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": 1000,
  "warmup_num_steps": 2000}}}""",
        file="ds.json",
        line=4,
    ),
    Sample(
        "neox share above one",
        """\
train_micro_batch_size_per_gpu: 4
zero_optimization: {stage: 1}
train-iters: 1000
num-layers: 12
optimizer: {type: Adam, params: {lr: 0.0006}}
warmup: 1.5  # <-
""",
        file="a.yml",
    ),
    Sample(
        "nanogpt",
        """\
init_from = 'scratch'
block_size = 256
n_layer = 6
learning_rate = 1e-3
max_iters = 5000
lr_decay_iters = 5000
warmup_iters = 10 * 1000  # <-
""",
        file="config_nano.py",
    ),
    Sample(
        "nanogpt default",
        """\
init_from = 'scratch'
block_size = 256
n_layer = 6
learning_rate = 1e-3
max_iters = 1000  # <-
lr_decay_iters = 1000
""",
        file="config_nano.py",
    ),
    Sample(
        "torchtitan",
        _TITAN
        + """\
[lr_scheduler]
warmup_steps = 2000  # <-
[training]
seq_len = 2048
steps = 1000
""",
        file="t.toml",
    ),
    Sample("timm", _TIMM + "epochs: 100\nwarmup_epochs: 120  # <-\n", file="args.yaml"),
    Sample(
        "ultralytics",
        """\
lr0: 0.01
lrf: 0.01
box: 7.5
momentum: 0.9
optimizer: SGD
warmup_epochs: 50  # <-
epochs: 30
""",
        file="args.yaml",
    ),
    Sample(
        "detectron2",
        """\
SOLVER:
  BASE_LR: 0.02
  MAX_ITER: 500
  STEPS: (400,)
  WARMUP_ITERS: 1000  # <-
""",
        file="c.yaml",
    ),
    Sample(
        "detectron2 default",
        """\
SOLVER:
  BASE_LR: 0.02
  MAX_ITER: 300  # <-
  STEPS: (200,)
""",
        file="c.yaml",
    ),
    Sample(
        "mmengine",
        """\
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, begin=0, end=20),  # <-
    dict(type='CosineAnnealingLR', T_max=10, begin=2)]
train_cfg = dict(max_epochs=12)
""",
        file="config_mm.py",
    ),
    Sample(
        "fairseq",
        """\
optimization:
  max_update: 3000
  lr: [0.0005]
  clip_norm: 0.0
optimizer:
  _name: adam
lr_scheduler:
  _name: inverse_sqrt
  warmup_updates: 4000  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "composer",
        """\
max_duration: 100ba
global_train_batch_size: 256
optimizer: {name: decoupled_adamw, lr: 6.0e-4}
scheduler:
  name: cosine_with_warmup
  t_warmup: 200ba  # <-
""",
        file="m.yaml",
    ),
    Sample(
        "kohya",
        """\
pretrained_model_name_or_path = 'x'
network_dim = 8
learning_rate = 1e-4
lr_warmup_steps = 2000  # <-
max_train_steps = 1600
""",
        file="config.toml",
    ),
    Sample(
        "torchtune",
        """\
model: {_component_: m}
epochs: 1
max_steps_per_epoch: 50
optimizer: {_component_: torch.optim.AdamW, lr: 2e-5}
lr_scheduler:
  _component_: torchtune.training.get_cosine_schedule_with_warmup
  num_warmup_steps: 100  # <-
""",
        file="t.yaml",
    ),
    Sample(
        "megatron",
        """\
torchrun pretrain_gpt.py --num-attention-heads 16 --train-iters 1000 --lr 1e-4 --lr-decay-style cosine \\
  --clip-grad 1.0 --lr-warmup-iters 2000  # <-
""",
        file="run.sh",
    ),
    Sample(
        "megatron share",
        """\
torchrun pretrain_gpt.py --num-attention-heads 16 --train-iters 1000 --lr 1e-4 --lr-decay-style cosine \\
  --clip-grad 1.0 --lr-warmup-iters 0.01  # <-
""",
        file="run.sh",
        fixed="""\
torchrun pretrain_gpt.py --num-attention-heads 16 --train-iters 1000 --lr 1e-4 --lr-decay-style cosine \\
  --clip-grad 1.0 --lr-warmup-fraction 0.01  # <-
""",
    ),
    Sample(
        "hydra",
        """\
defaults: [_self_]
trainer: {max_steps: 1000}
optimizer: {_target_: torch.optim.AdamW, lr: 0.001}
scheduler:
  num_warmup_steps: 5000  # <-
""",
        file="conf.yaml",
    ),
    Sample(
        "lightning",
        """\
trainer: {max_steps: 1000, accelerator: gpu}
model:
  class_path: net.Net
  init_args: {lr: 0.001, warmup_steps: 2000}  # <-
""",
        file="cli.yaml",
    ),
)
