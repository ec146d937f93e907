"""The lowest learning rate of the schedule is not below its highest.

## What it looks like
`min_lr: 1e-3` with `lr: 1e-4`; `eta_min` above the rate of the optimizer; a ratio above 1 where a share of the peak is meant.

## Why it matters
The rate rises where it should decay, or does not move at all. Changing the rate of a recipe and leaving its `min_lr` does
this.

## When it is wrong
Equal rates for a constant schedule; where the schedule says that it is constant, nothing is said.

## What repairs it
A tenth of the peak, or 0.

## References
Hoffmann et al. 2022, Training compute-optimal large language models, arXiv:2203.15556: decay to a tenth of the peak;
Megatron-LM, optimizer_param_scheduler.py asserts that the lowest rate is at most the highest; PyTorch documentation,
CosineAnnealingLR: `eta_min`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from traindoctor.configs.lengths import decays_or_warms, is_free
from traindoctor.configs.vocabulary import number
from traindoctor.mistake import Mistake
from traindoctor.patterns import lazy
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.documents import Entry
    from traindoctor.configs.file import ConfigFile
    from traindoctor.configs.vocabulary import Slot

CAUSE = Cause(
    code="TD212",
    name="minimum-rate-above-peak",
    summary="the lowest learning rate of the schedule is not below its highest",
    explanation=__doc__,
)


class _Rate(NamedTuple):
    value: float
    key: str
    what: Slot | Entry | None

    @property
    def text(self) -> str:
        """The rate in words: "`min_lr` is 0.1"."""
        return f"`{self.key}` is {self.value:g}{'' if self.what is not None else ' by default'}"


@CAUSE.in_file
def rises(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a lowest rate that is above the highest, or equal to it."""
    del limits
    if config.dialect == "Lightning hparams" or config.is_base or not decays_or_warms(config):
        return
    for low, peak in _pairs(config):
        if low.value < peak.value or min(low.value, peak.value) <= 0.0 or (low.what is None and peak.what is None):
            continue
        if not config.dialect and (low.value == peak.value or not _DECAYS.search(str(config.value("schedule.name")))):
            continue  # of a free-form config it is not known that the one is the floor of a decay from the other
        at = config.foremost(low.what, peak.what)
        if at is None:
            continue
        other = peak if at is low.what else low
        yield Mistake(
            config.place(at),
            f"The lowest learning rate {low.text}, and the highest {peak.text}. "
            + ("The schedule does not change the rate." if low.value == peak.value else "The rate rises where it should decay."),
            f"set `{low.key}` to a tenth of the peak, {peak.value / 10:g}, or to 0",
            severity="error" if low.value > peak.value and other.what is not None and not is_free(config) else "warning",
            related=((config.place(other.what), other.text),) if other.what is not None else (),
        )


#: Names of schedules that fall from the highest rate to the lowest.
_DECAYS = lazy(r"(?i)cos|poly|linear|plateau|exp")


@CAUSE.in_file
def share_above_one(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a share of the peak that is above 1."""
    del limits
    if not config.dialect or not decays_or_warms(config):
        return
    slot = config.slot("schedule.min_lr_ratio")
    entry = slot.entry if slot is not None else config.at(*_SHARES.get(config.dialect, ()))
    share = number(entry.value) if entry is not None else None
    if entry is not None and share is not None and share > 1.0:
        yield Mistake(
            config.place(entry),
            f"`{entry.key}` is {share:g}, and is a share of the highest learning rate. The rate ends above its peak.",
            "write a share below 1, such as 0.1",
            severity="warning",
        )


#: Keys of shares that are no setting of the vocabulary.
_SHARES = {
    "torchtitan": ("lr_scheduler.min_lr_factor", "lr_scheduler.lr_min"),
    "Ultralytics": ("lrf",),
    "YOLOv5": ("lrf",),
    "Composer": ("scheduler.alpha_f",),
}


def _pairs(config: ConfigFile) -> Iterator[tuple[_Rate, _Rate]]:
    """Yield the lowest and highest rates that belong together."""
    low, peak = _rate(config, "schedule.min_lr"), _rate(config, "optimizer.lr")
    if low is not None and peak is not None:
        yield low, peak
    start, top = _rate(config, "schedule.warmup_lr"), _rate(config, "schedule.peak_lr")
    if config.dialect == "DeepSpeed" and start is not None and top is not None:
        yield start, top
    last = config.at("solver.base_lr_end") if config.dialect == "Detectron2" else None
    value = number(last.value) if last is not None else None
    if last is not None and value is not None and peak is not None:
        yield _Rate(value, last.key, last), peak


def _rate(config: ConfigFile, setting: str) -> _Rate | None:
    """Return a rate that the file sets, or its dialect by default; None where that is left open."""
    slot = config.slot(setting)
    value = number(slot.value) if slot is not None else None
    if slot is not None:
        return _Rate(value, slot.entry.key, slot) if value is not None else None
    default = config.reading.dialect.defaults.get(setting)
    if setting in config.reading.slots or not isinstance(default, int | float):
        return None
    return _Rate(float(default), _DEFAULT_KEYS.get(config.dialect, {}).get(setting, setting.rpartition(".")[2]), None)


_DEFAULT_KEYS = {
    "nanoGPT": {"optimizer.lr": "learning_rate"},
    "Hugging Face TrainingArguments": {"optimizer.lr": "learning_rate"},
    "LLaMA-Factory": {"optimizer.lr": "learning_rate"},
    "Detectron2": {"optimizer.lr": "BASE_LR"},
}
_NANO = """\
init_from = 'scratch'
block_size = 256
n_layer = 6
max_iters = 5000
lr_decay_iters = 5000
"""
_CLI = """\
trainer: {max_epochs: 100, accelerator: gpu}
model: {class_path: net.Net}
optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.001}}
"""
_MM = """\
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.001))
train_cfg = dict(by_epoch=True, max_epochs=12)
"""
_TIMM = """\
opt: sgd
opt_eps: null
sched: cosine
warmup_lr: 1.0e-06
cooldown_epochs: 0
warmup_epochs: 5
epochs: 100
"""
_NEOX = """\
train_micro_batch_size_per_gpu: 4
zero_optimization: {stage: 1}
train-iters: 1000
num-layers: 12
optimizer: {type: Adam, params: {lr: 0.0006}}
"""
CAUSE.valid_code = (
    Sample(
        "a rate below 0 is another mistake",
        """\
optimizer: {_target_: torch.optim.Adam, lr: -0.001}
scheduler: {_target_: torch.optim.lr_scheduler.CosineAnnealingLR, T_max: 10, eta_min: 0.0001}
""",
        file="config.yaml",
    ),
    Sample("a tenth", _NANO + "learning_rate = 1e-3\nmin_lr = learning_rate / 10\n", file="config_nano.py"),
    Sample("no decay", _NANO + "learning_rate = 3e-5\ndecay_lr = False\n", file="config_nano.py"),
    Sample(
        "ratio",
        """\
lr0: 0.001
lrf: 0.01
box: 7.5
momentum: 0.9
optimizer: SGD
""",
        file="args.yaml",
    ),
    Sample(
        "ratio of axolotl",
        """\
base_model: x
micro_batch_size: 2
sequence_len: 2048
learning_rate: 2.0e-5
cosine_min_lr_ratio: 0.1
""",
        file="a.yml",
    ),
    Sample(
        "factor of torchtitan",
        """\
[job]
d = 1
[metrics]
log_freq = 1
[optimizer]
name = 'AdamW'
lr = 8e-4
[lr_scheduler]
min_lr_factor = 0.1
[training]
seq_len = 2048
steps = 1000
""",
        file="t.toml",
    ),
    Sample(
        "auto",
        """\
{"zero_optimization": {"stage": 2},
 "scheduler": {"type": "WarmupLR", "params": {"warmup_min_lr": 0.1, "warmup_max_lr": "auto"}}}""",
        file="ds.json",
    ),
    Sample(
        "constant",
        """\
torchrun pretrain_gpt.py --num-attention-heads 16 --train-iters 1000 --lr 1e-5 --lr-decay-style constant --min-lr 1e-5
""",
        file="run.sh",
    ),
    Sample("free-form", "lr: 0.0001\nmin_lr: 0.001\n", file="config.yaml"),
    Sample(
        "base of timm",
        _TIMM
        + """\
batch_size: 256
lr_base: 0.1
lr: null
min_lr: 0.01
""",
        file="args.yaml",
    ),
    Sample(
        "of a group",
        _MM + "param_scheduler = dict(type='CosineAnnealingLR', T_max=12, eta_min_ratio=0.05)\n",
        file="config_mm.py",
    ),
    Sample(
        "interpolation",
        """\
defaults: [_self_]
optimizer: {_target_: torch.optim.SGD, lr: 0.1}
scheduler: {_target_: torch.optim.lr_scheduler.CosineAnnealingLR, T_max: 10, eta_min: '${div:${optimizer.lr},10}'}
""",
        file="conf.yaml",
    ),
    Sample(
        "no stop rate",
        """\
optimization:
  max_update: 100
  lr: [0.0005]
  clip_norm: 0.0
  update_freq: [4]
  stop_min_lr: -1.0
optimizer: {_name: adam}
""",
        file="config.yaml",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "free-form, with a cosine",
        """\
optimizer: {name: adamw, lr: 0.0001}
scheduler:
  name: cosine_annealing
  eta_min: 0.01  # <-
""",
        file="config.yaml",
    ),
    Sample("nanogpt", _NANO + "learning_rate = 1e-4\nmin_lr = 1e-3  # <-\n", file="config_nano.py"),
    Sample("nanogpt default", _NANO + "learning_rate = 3e-5  # <-\n", file="config_nano.py"),
    Sample("equal", _NANO + "learning_rate = 1e-4\nmin_lr = 1e-4  # <-\n", file="config_nano.py"),
    Sample("computed", _NANO + "learning_rate = 1e-4\nmin_lr = 10 * 1e-4  # <-\n", file="config_nano.py"),
    Sample(
        "lightning",
        _CLI
        + """\
lr_scheduler: {class_path: torch.optim.lr_scheduler.CosineAnnealingLR, init_args: {T_max: 100, eta_min: 0.01}}  # <-
""",
        file="cli.yaml",
    ),
    Sample(
        "mmengine",
        _MM + "param_scheduler = dict(type='CosineAnnealingLR', T_max=12, eta_min=0.01)  # <-\n",
        file="config_mm.py",
    ),
    Sample("timm", _TIMM + "lr: 0.0001\nmin_lr: 0.001  # <-\n", file="args.yaml"),
    Sample("neox", _NEOX + "min_lr: 0.006  # <-\n", file="a.yml"),
    Sample(
        "megatron",
        """\
torchrun pretrain_gpt.py --num-attention-heads 16 --train-iters 1000 --lr 1e-5 --lr-decay-style cosine --clip-grad 1.0 \\
  --min-lr 1e-4  # <-
""",
        file="run.sh",
    ),
    Sample(
        "deepspeed",
        """\
{"zero_optimization": {"stage": 2},
 "scheduler": {"type": "WarmupLR", "params": {"warmup_max_lr": 1e-4,
   "warmup_min_lr": 1e-3}}}""",
        file="ds.json",
        line=3,
    ),
    Sample(
        "trainer",
        """\
output_dir: o
per_device_train_batch_size: 8
learning_rate: 2.0e-5
lr_scheduler_type: cosine_with_min_lr
lr_scheduler_kwargs: {min_lr: 2.0e-4}  # <-
""",
        file="run.yaml",
    ),
    Sample(
        "hydra",
        """\
defaults: [_self_]
optimizer: {_target_: torch.optim.SGD, lr: 0.1}
scheduler: {_target_: torch.optim.lr_scheduler.CosineAnnealingLR, T_max: 10, eta_min: 1}  # <-
""",
        file="conf.yaml",
    ),
    Sample(
        "detectron2",
        """\
SOLVER:
  BASE_LR: 0.001
  LR_SCHEDULER_NAME: WarmupCosineLR
  BASE_LR_END: 0.01  # <-
  MAX_ITER: 40000
""",
        file="c.yaml",
    ),
    Sample(
        "share above one",
        """\
lr0: 0.001
lrf: 10  # <-
box: 7.5
momentum: 0.9
optimizer: SGD
""",
        file="args.yaml",
    ),
    Sample(
        "share of composer",
        """\
max_duration: 4800ba
global_train_batch_size: 256
optimizer: {name: decoupled_adamw, lr: 6.0e-4}
scheduler:
  name: cosine_with_warmup
  t_warmup: 10ba
  alpha_f: 10  # <-
""",
        file="m.yaml",
    ),
)
