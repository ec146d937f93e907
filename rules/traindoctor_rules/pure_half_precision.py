"""The weights themselves are kept in float16.

## What it looks like
`dtype: fp16` of torchtune, `precision: 16-true` of Lightning, `torch_dtype: float16` for a model that is trained as a whole,
`full_fp16` of kohya.

## Why it matters
float16 has 11 bits: an update below a two-thousandth of a weight is lost, Adam's epsilon of 1e-8 rounds to 0, and gradients
below 6e-8 vanish where no loss scaling lifts them. The loss stalls or turns to NaN.

## When it is wrong
Mixed precision (`mixed_precision: fp16`, `16-mixed`, `fp16: true` of the Trainer) keeps float32 weights: nothing is said of
it, nor of float16 base weights under LoRA, which are not trained, nor of settings for evaluation or export.

## What repairs it
Mixed precision, or bfloat16.

## References
Micikevicius et al. 2018, Mixed precision training, arXiv:1710.03740, sections 3.1 and 3.2; Lightning documentation, "N-Bit
Precision": 16-true; torchtune, training/precision.py: fp16 is not among the dtypes that are supported; PyTorch documentation,
"Automatic Mixed Precision": weights stay in float32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs.lengths import TRAINER
from traindoctor.configs.vocabulary import normal, truth
from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.documents import Entry
    from traindoctor.configs.file import ConfigFile
    from traindoctor.mistake import Severity

CAUSE = Cause(
    code="TD406",
    name="pure-half-precision",
    summary="the weights themselves are kept in float16",
    explanation=__doc__,
    severity="warning",
)

_HALF = frozenset({"fp16", "float16", "half", "torch.float16", "torch.half"})
#: Keys by which a config trains adapters on weights that stay as they are.
_ADAPTERS = ("use_peft", "lora_r", "lora_target_modules", "lora_target", "adapter", "load_in_4bit", "load_in_8bit", "peft_config")


@CAUSE.in_file
def weights_in_half(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield the setting that keeps the weights in float16."""
    del limits
    found = _setting(config)
    if found is None:
        return
    entry, refused = found
    severity: Severity = "error" if refused else "warning"
    yield Mistake(
        config.place(entry),
        f"`{entry.key}: {_shown(entry.value)}` keeps the weights in float16. "
        + ("It is refused for training." if refused else "Small updates and Adam's epsilon round to nothing."),
        "train in mixed precision, or in bfloat16",
        severity=severity,
    )


def _setting(config: ConfigFile) -> tuple[Entry, bool] | None:
    """Return the entry, and whether the framework refuses it."""
    dialect = config.dialect
    if dialect == "torchtune":
        entry = config.at("dtype")
        return (entry, True) if entry is not None and _is_half(entry) and config.shape.has("optimizer") else None
    if dialect in ("LightningCLI", "Hydra", ""):
        entry = config.at("trainer.precision", "precision")
        return (entry, False) if entry is not None and str(entry.value).lower() == "16-true" else None
    if dialect == "DeepSpeed":
        entry = config.at("fp16.fp16_master_weights_and_grads")
        return (entry, False) if entry is not None and truth(entry.value) else None
    if dialect == "timm":
        entry, amp = config.at("model_dtype"), config.at("amp")
        mixed = amp is not None and truth(amp.value) is True
        return (entry, False) if entry is not None and _is_half(entry) and not mixed else None
    if dialect == "kohya":
        entry = next((e for e in config.entries if e.key == "full_fp16"), None)
        return (entry, False) if entry is not None and truth(entry.value) else None
    if dialect == "axolotl":
        entry = config.at("float16")
        return (entry, False) if entry is not None and truth(entry.value) and not _has_adapters(config) else None
    if dialect in TRAINER:
        entry = next((e for e in config.entries if normal(e.key) in ("torch_dtype", "dtype") and _is_half(e)), None)
        return (entry, False) if entry is not None and not _has_adapters(config) else None
    return None


def _is_half(entry: Entry) -> bool:
    return str(entry.value).strip().lower() in _HALF


def _has_adapters(config: ConfigFile) -> bool:
    """Whether adapters are trained on weights that stay as they are."""
    held = {normal(entry.key): entry.value for entry in config.entries}
    tuned = str(held.get("finetuning_type", "")).lower()
    return tuned in ("lora", "oft", "freeze") or any(held.get(key) not in (None, False, "", "none") for key in _ADAPTERS)


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_TUNE = "model: {_component_: m}\noptimizer: {_component_: torch.optim.AdamW, lr: 2e-5}\n"
_HF = """\
output_dir: out
per_device_train_batch_size: 8
learning_rate: 2.0e-5
"""
_KOHYA = """\
pretrained_model_name_or_path = 'x'
network_dim = 8
learning_rate = 1e-4
optimizer_type = 'AdamW'
sdpa = true
"""
_CLI = "model: {class_path: net.Net}\noptimizer: {class_path: torch.optim.Adam, init_args: {lr: 0.001}}\n"
CAUSE.valid_code = (
    Sample("mixed precision of kohya", _KOHYA + 'mixed_precision = "fp16"\n', file="config.toml"),
    Sample("switched off", _KOHYA + 'mixed_precision = "fp16"\nfull_fp16 = false\n', file="config.toml"),
    Sample("bfloat16", _TUNE + "dtype: bf16\n", file="t.yaml"),
    Sample("float32", _TUNE + "dtype: fp32\n", file="t.yaml"),
    Sample(
        "generation",
        """\
model: {_component_: m}
dtype: fp16
checkpointer: {_component_: c}
""",
        file="t.yaml",
    ),
    Sample("mixed", _CLI + "trainer: {max_epochs: 3, precision: 16-mixed}\n", file="cli.yaml"),
    Sample("older mixed", _CLI + "trainer: {max_epochs: 3, precision: 16}\n", file="cli.yaml"),
    Sample("fp16 of the trainer", _HF + "fp16: true\n", file="run.yaml"),
    Sample(
        "base of lora",
        _HF
        + """\
fp16: true
torch_dtype: float16
use_peft: true
lora_r: 16
""",
        file="run.yaml",
    ),
    Sample(
        "autocast of nanogpt",
        """\
init_from = 'scratch'
block_size = 256
n_layer = 6
learning_rate = 1e-3
dtype = 'float16'
""",
        file="config_nano.py",
    ),
    Sample(
        "validation of ultralytics",
        """\
lr0: 0.01
lrf: 0.01
box: 7.5
momentum: 0.9
optimizer: SGD
half: true
""",
        file="args.yaml",
    ),
    Sample(
        "fp16 of deepspeed",
        '{"zero_optimization": {"stage": 2}, "fp16": {"enabled": true, "loss_scale": 0}}',
        file="ds.json",
    ),
    Sample("free-form", "lr: 0.1\ndtype: float16\n", file="config.yaml"),
)
CAUSE.invalid_code = (
    Sample(
        "free-form, in the words of Fabric",
        """\
precision: 16-true  # <-
optimizer:
  class_path: torch.optim.AdamW
  init_args: {lr: 0.0002}
""",
        file="config.yaml",
    ),
    Sample("torchtune", _TUNE + "dtype: fp16  # <-\n", file="t.yaml"),
    Sample("kohya", _KOHYA + 'mixed_precision = "fp16"\nfull_fp16 = true  # <-\n', file="config.toml"),
    Sample("lightning", _CLI + "trainer: {max_epochs: 3, precision: 16-true}  # <-\n", file="cli.yaml"),
    Sample("hydra", "optimizer: {_target_: torch.optim.Adam, lr: 0.1}\ntrainer: {precision: 16-true}  # <-\n", file="conf.yaml"),
    Sample("trl", _HF + "num_generations: 4\ntorch_dtype: float16  # <-\n", file="run.yaml"),
    Sample(
        "axolotl",
        """\
base_model: x
micro_batch_size: 2
sequence_len: 2048
learning_rate: 2.0e-5
float16: true  # <-
""",
        file="a.yml",
    ),
    Sample(
        "deepspeed",
        """\
{"zero_optimization": {"stage": 2},
 "fp16": {"enabled": true, "fp16_master_weights_and_grads": true}}""",
        file="ds.json",
        line=2,
    ),
    Sample(
        "timm",
        """\
opt: adamw
opt_eps: null
lr: 0.001
sched: cosine
warmup_lr: 1.0e-06
amp: false
model_dtype: float16  # <-
""",
        file="args.yaml",
    ),
)
