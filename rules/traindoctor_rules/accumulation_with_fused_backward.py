"""Gradients are to be accumulated, and the optimizer steps inside the backward pass.

## What it looks like
`optimizer_in_bwd: true` of torchtune, a layer-wise GaLore or a fused backward pass, with more than one accumulation step.

## Why it matters
An optimizer that runs inside the backward pass uses each gradient as soon as it is there and frees it: nothing is left to
accumulate. The frameworks that notice refuse the run, others take a step for each small batch.

## When it is wrong
An accumulation of 1 is none.

## What repairs it
One of the two: a larger batch that fits thanks to the fused step, or accumulation without it.

## References
torchtune, recipes/full_finetune_single_device.py: "Gradient accumulation is not supported with optimizer in bwd";
transformers, trainer.py: layer-wise GaLore does not support gradient accumulation; sd-scripts, sdxl_train.py:
`fused_backward_pass` does not work with gradient accumulation. PyTorch tutorial, "How to save memory by fusing the optimizer
step into the backward pass".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs.lengths import TRAINER
from traindoctor.configs.vocabulary import normal, number, truth
from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.documents import Entry
    from traindoctor.configs.file import ConfigFile

CAUSE = Cause(
    code="TD314",
    name="accumulation-with-fused-backward",
    summary="gradients are accumulated though the optimizer steps inside the backward pass",
    explanation=__doc__,
)

#: Dialect -> switches that let the optimizer step inside the backward pass.
_SWITCHES = {
    "torchtune": ("optimizer_in_bwd",),
    "kohya": ("fused_backward_pass", "fused_optimizer_groups"),
    "LLaMA-Factory": ("galore_layerwise", "apollo_layerwise"),
}


@CAUSE.in_file
def nothing_to_accumulate(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield the accumulation beside such an optimizer."""
    del limits
    fused, steps = _fused(config), _accumulation(config)
    if fused is None or steps is None:
        return
    yield Mistake(
        config.place(steps),
        f"`{steps.key}` is {number(steps.value):g} with `{fused.key}: {_shown(fused.value)}`. The optimizer steps inside the "
        "backward pass, which leaves nothing to accumulate; the run is refused.",
        f"set `{steps.key}` to 1, or switch `{fused.key}` off",
        related=((config.place(fused), "the optimizer steps inside the backward pass"),),
    )


@CAUSE.in_file
def nothing_to_clip(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield the clipping of torchtune beside such an optimizer."""
    del limits
    fused, clip = _fused(config), config.at("clip_grad_norm")
    if config.dialect != "torchtune" or fused is None or clip is None or number(clip.value) is None or config.at("ppo_epochs"):
        return
    yield Mistake(
        config.place(clip),
        f"`{clip.key}` is {number(clip.value):g} with `{fused.key}: {_shown(fused.value)}`. The optimizer steps inside the "
        "backward pass, before there is a norm to clip; the run is refused.",
        f"set `{clip.key}` to null, or switch `{fused.key}` off",
        related=((config.place(fused), "the optimizer steps inside the backward pass"),),
    )


def _fused(config: ConfigFile) -> Entry | None:
    names = _SWITCHES.get(config.dialect, ())
    for entry in config.entries:
        if normal(entry.key) in names and (truth(entry.value) or (number(entry.value) or 0.0) > 0.0):
            return entry
    name = config.slot("optimizer.name")
    if config.dialect in TRAINER and name is not None:
        written = str(name.value).lower()
        if written.endswith("_layerwise") or written in ("lomo", "adalomo"):
            return name.entry
    return None


def _accumulation(config: ConfigFile) -> Entry | None:
    entry = next((e for e in config.entries if normal(e.key) == "gradient_accumulation_steps"), None)
    return entry if entry is not None and (number(entry.value) or 0.0) > 1.0 else None


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
learning_rate = 1e-4
optimizer_type = 'Adafactor'
cache_latents = true
sdpa = true
"""
CAUSE.valid_code = (
    Sample(
        "nothing clipped",
        """\
optimizer: {_component_: torch.optim.AdamW, lr: 2e-5}
optimizer_in_bwd: True
clip_grad_norm: null
""",
        file="full.yaml",
    ),
    Sample("no accumulation", _TUNE + "optimizer_in_bwd: true\ngradient_accumulation_steps: 1\n", file="t.yaml"),
    Sample("switched off", _TUNE + "optimizer_in_bwd: false\ngradient_accumulation_steps: 8\n", file="t.yaml"),
    Sample("not set", _TUNE + "gradient_accumulation_steps: 8\n", file="t.yaml"),
    Sample("open", _TUNE + "optimizer_in_bwd: true\ngradient_accumulation_steps: ${steps}\n", file="t.yaml"),
    Sample("galore at once", _HF + "optim: galore_adamw\ngradient_accumulation_steps: 8\n", file="run.yaml"),
    Sample(
        "layer-wise without accumulation",
        _HF + "optim: galore_adamw_layerwise\ngradient_accumulation_steps: 1\n",
        file="run.yaml",
    ),
    Sample("kohya", _KOHYA + "fused_backward_pass = false\ngradient_accumulation_steps = 4\n", file="config.toml"),
    Sample(
        "free-form",
        """\
lr: 0.1
optimizer_in_bwd: true
gradient_accumulation_steps: 8
""",
        file="config.yaml",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "clipping of torchtune",
        """\
optimizer: {_component_: torch.optim.AdamW, lr: 2e-5}
optimizer_in_bwd: True
clip_grad_norm: 1.0  # <-
""",
        file="full.yaml",
    ),
    Sample("torchtune", _TUNE + "optimizer_in_bwd: True\ngradient_accumulation_steps: 8  # <-\n", file="t.yaml"),
    Sample("layer-wise", _HF + "optim: galore_adamw_layerwise\ngradient_accumulation_steps: 8  # <-\n", file="run.yaml"),
    Sample("lomo", _HF + "optim: lomo\ngradient_accumulation_steps: 8  # <-\n", file="run.yaml"),
    Sample(
        "llama factory",
        """\
stage: sft
finetuning_type: full
use_galore: true
galore_layerwise: true
learning_rate: 1.0e-5
gradient_accumulation_steps: 2  # <-
""",
        file="l.yaml",
    ),
    Sample("kohya", _KOHYA + "fused_backward_pass = true\ngradient_accumulation_steps = 4  # <-\n", file="config.toml"),
    Sample("kohya groups", _KOHYA + "fused_optimizer_groups = 10\ngradient_accumulation_steps = 4  # <-\n", file="config.toml"),
)
