"""The limit of gradient clipping takes the gradient away, or turns it round.

## What it looks like
`clip_grad_norm: -1` in a framework that does not read this as "off"; a limit of 0 that is applied; `max_grad_norm: 1e-6`.

## Why it matters
PyTorch scales the gradient by the limit over its norm: a limit of 0 leaves no gradient, a negative one climbs the loss. A
tiny one leaves gradients that Adam's epsilon drowns, and plain SGD hardly moves.

## When it is wrong
0 and negative values are "off" in the Trainer of Hugging Face, axolotl, LLaMA-Factory, TRL, nanoGPT, kohya, Lightning,
DeepSpeed, Megatron-LM, fairseq and Keras: nothing is said there.

## What repairs it
A limit near the usual norm of the gradient (0.1 to 5), or the framework's own way to switch clipping off.

## References
PyTorch documentation, torch.nn.utils.clip_grad_norm_; torchtune, recipes: `clip_grad_norm` is applied unless it is null;
torchtitan, train.py: `max_norm` is always applied; timm, train.py: `clip_grad` is applied unless it is null; Pascanu, Mikolov
and Bengio 2013, On the difficulty of training recurrent neural networks, arXiv:1211.5063, on how to choose the limit from the
norms that are seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs.vocabulary import number, truth
from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Limits, Sample, Threshold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.documents import Entry
    from traindoctor.configs.file import ConfigFile

CAUSE = Cause(
    code="TD313",
    name="clip-value",
    summary="the limit of gradient clipping leaves no gradient",
    explanation=__doc__,
    thresholds=(
        Threshold("tiny", 1e-3, "norm of the gradient", "usual limits are 0.1 to 5 (arXiv:1211.5063): far below them all"),
    ),
)

#: Dialects that apply a limit of 0 or less as it is, and how they switch clipping off.
_APPLIED = {
    "torchtune": "`null`",
    "torchtitan": "a large limit",
    "MMEngine": "`clip_grad=None`",
    "mmcv": "`grad_clip=None`",
    "timm": "`null`",
    "Stable-Baselines3": "a large limit",
}
#: Dialects without a meaning of their own for a key of clipping.
_NOT_KNOWN = frozenset({"", "Lightning hparams", "W&B sweep"})


@CAUSE.in_file
def leaves_no_gradient(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a limit that is not positive where that is not "off", and one that is tiny."""
    entry = _limit(config)
    value = number(entry.value) if entry is not None else None
    if entry is None or value is None or (config.dialect in _NOT_KNOWN and "norm" not in entry.key.lower()):
        return
    if value <= 0.0:
        off = "`CLIP_GRADIENTS.ENABLED: False`" if config.dialect == "Detectron2" else _APPLIED.get(config.dialect)
        if off is None:
            return
        yield Mistake(
            config.place(entry),
            f"Gradients are clipped at `{entry.key}`: {value:g}, which {config.dialect} applies as it is. "
            + ("No gradient is left." if value == 0.0 else "Each step climbs the loss."),
            f"write a limit such as 1.0, or {off} for no clipping",
        )
    elif value < limits["tiny"] and ("value" not in entry.key.lower() or _of_norm(config)):
        yield Mistake(
            config.place(entry),
            f"Gradients are clipped at `{entry.key}`: {value:g}. Hardly anything is left of them at any step.",
            "write a limit near the norms that are seen, such as 1.0",
            severity="warning",
        )


def _of_norm(config: ConfigFile) -> bool:
    """Whether Detectron2's `CLIP_VALUE` limits a norm, not each value."""
    return str(config.shape.value("solver.clip_gradients.clip_type")).lower() in ("norm", "full_model")


def _limit(config: ConfigFile) -> Entry | None:
    """Return where the limit stands; None where clipping is switched off, or clips something else than the norm."""
    if config.dialect == "Detectron2":
        block = "solver.clip_gradients."
        enabled = config.at(block + "enabled")
        return config.at(block + "clip_value") if enabled is not None and truth(enabled.value) else None
    if config.dialect == "torchtitan":
        return config.at("training.max_norm", "optimizer.max_norm")
    if config.dialect == "Stable-Baselines3":
        return next(iter(config.shape.ending("max_grad_norm")), None)
    slot = config.slot("gradient.clip_norm")
    return slot.entry if slot is not None else None


_TUNE = "model: {_component_: m}\noptimizer: {_component_: torch.optim.AdamW, lr: 2e-5}\n"
_TITAN = """\
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
"""
_HF = """\
output_dir: out
per_device_train_batch_size: 8
learning_rate: 2.0e-5
"""
_TIMM = """\
opt: adamw
opt_eps: null
lr: 0.001
sched: cosine
warmup_lr: 1.0e-06
clip_mode: norm
"""
_CLIP = """\
SOLVER:
  BASE_LR: 0.02
  CLIP_GRADIENTS:
"""
CAUSE.valid_code = (
    Sample("off in the trainer", _HF + "max_grad_norm: 0\n", file="run.yaml"),
    Sample("negative is off in the trainer", _HF + "max_grad_norm: -1.0\n", file="run.yaml"),
    Sample(
        "off in axolotl",
        """\
base_model: x
micro_batch_size: 2
sequence_len: 2048
max_grad_norm: 0.0
""",
        file="a.yml",
    ),
    Sample(
        "off in nanogpt",
        """\
init_from = 'scratch'
block_size = 256
n_layer = 6
learning_rate = 1e-3
grad_clip = 0.0
""",
        file="config_nano.py",
    ),
    Sample(
        "off in kohya",
        """\
pretrained_model_name_or_path = 'x'
network_dim = 8
learning_rate = 1e-4
optimizer_type = 'AdamW'
sdpa = true
max_grad_norm = 0.0
""",
        file="config.toml",
    ),
    Sample(
        "off in lightning",
        "trainer: {max_epochs: 3, accelerator: gpu, gradient_clip_val: 0}\nmodel: {class_path: net.Net}\n",
        file="cli.yaml",
    ),
    Sample("off in deepspeed", '{"zero_optimization": {"stage": 2}, "gradient_clipping": 0.0}', file="ds.json"),
    Sample(
        "off in fairseq",
        """\
optimization: {max_update: 9, lr: [0.1], clip_norm: 0.0, update_freq: [1]}
optimizer: {_name: adam}
""",
        file="config.yaml",
    ),
    Sample("null", _TUNE + "clip_grad_norm: null\n", file="t.yaml"),
    Sample("usual", _TUNE + "clip_grad_norm: 1.0\n", file="t.yaml"),
    Sample("small", _TUNE + "clip_grad_norm: 0.01\n", file="t.yaml"),
    Sample(
        "open",
        "optimizer: {_target_: torch.optim.SGD, lr: 0.1}\ntrainer: {gradient_clip_val: '${clip}'}\n",
        file="conf.yaml",
    ),
    Sample("not enabled", _CLIP + "    ENABLED: False\n    CLIP_VALUE: 0.0\n", file="c.yaml"),
    Sample("free-form", "lr: 0.1\nclip_norm: -1\n", file="config.yaml"),
    Sample("adaptive clipping", _TIMM.replace("norm\n", "agc\n") + "clip_grad: 0.0001\n", file="args.yaml"),
    Sample(
        "of each value",
        _CLIP
        + """\
    ENABLED: True
    CLIP_TYPE: value
    CLIP_VALUE: 0.0005
""",
        file="c.yaml",
    ),
    Sample("large", _HF + "max_grad_norm: 1000000000.0\n", file="run.yaml"),
)
CAUSE.invalid_code = (
    Sample(
        "norm of the whole model in Detectron2",
        """\
SOLVER:
  BASE_LR: 0.02
  CLIP_GRADIENTS:
    ENABLED: True
    CLIP_TYPE: full_model
    CLIP_VALUE: 1.0e-8  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "free-form, of the norm",
        """\
optimizer: {type: AdamW, lr: 0.0001}
clip_max_norm: 1.0e-7  # <-
""",
        file="config.yaml",
    ),
    Sample("torchtune", _TUNE + "clip_grad_norm: -1  # <-\n", file="t.yaml"),
    Sample("torchtune zero", _TUNE + "clip_grad_norm: 0  # <-\n", file="t.yaml"),
    Sample("torchtitan", _TITAN + "max_norm = 0.0  # <-\n", file="t.toml"),
    Sample(
        "mmengine",
        """\
optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.1),
    clip_grad=dict(max_norm=0))  # <-
""",
        file="config_mm.py",
    ),
    Sample(
        "mmcv",
        """\
optimizer = dict(type='SGD', lr=0.1)
optimizer_config = dict(grad_clip=dict(max_norm=-1))  # <-
total_epochs = 12
""",
        file="config_mm.py",
    ),
    Sample("timm", _TIMM + "clip_grad: 0.0  # <-\n", file="args.yaml"),
    Sample("detectron2", _CLIP + "    ENABLED: True\n    CLIP_VALUE: 0.0  # <-\n", file="c.yaml"),
    Sample("tiny", _HF + "max_grad_norm: 1.0e-6  # <-\n", file="run.yaml"),
    Sample("tiny in json", '{"zero_optimization": {"stage": 2},\n "gradient_clipping": 1e-8}', file="ds.json", line=2),
    Sample(
        "tiny in hydra",
        "optimizer: {_target_: torch.optim.SGD, lr: 0.1}\ntrainer: {gradient_clip_val: 1.0e-6}  # <-\n",
        file="conf.yaml",
    ),
    Sample(
        "tiny in lightning",
        """\
trainer: {max_epochs: 3, accelerator: gpu, gradient_clip_val: 1.0e-6}  # <-
model: {class_path: net.Net}
""",
        file="cli.yaml",
    ),
    Sample(
        "tiny in kohya",
        """\
pretrained_model_name_or_path = 'x'
network_dim = 8
learning_rate = 1e-4
optimizer_type = 'AdamW'
sdpa = true
max_grad_norm = 1e-6  # <-
""",
        file="config.toml",
    ),
    Sample(
        "tiny in keras",
        '{"class_name": "Adam", "config": {"learning_rate": 0.001,\n "global_clipnorm": 1e-6}}',
        file="optimizer.json",
        line=2,
    ),
)
