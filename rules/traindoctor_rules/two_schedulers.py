"""Two learning-rate schedules are set, and only one of them counts.

## What it looks like
A `scheduler` in the DeepSpeed config and another `lr_scheduler_type` in the arguments of the Trainer; `param_scheduler`
beside the `lr_config` of older versions of OpenMMLab.

## Why it matters
The one that does not count is taken for the one that does: DeepSpeed's WarmupLR stays at its peak to the end, whatever
`lr_scheduler_type: cosine` promises.

## When it is wrong
The same schedule set twice: WarmupLR and `constant_with_warmup`, WarmupDecayLR and `linear`, WarmupCosineLR and `cosine` say
the same, and nothing is said.

## What repairs it
One of the two.

## References
Hugging Face Transformers documentation, DeepSpeed, "Optimizer and scheduler": which scheduler of DeepSpeed matches which of
the Trainer, and that the one in the DeepSpeed config is used; MMEngine documentation, "Migrate parameter schedulers from MMCV
1.x".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs.trainer_pair import pairs
from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.file import ConfigFile

CAUSE = Cause(
    code="TD213",
    name="two-schedulers",
    summary="two learning-rate schedules are set and one of them counts",
    explanation=__doc__,
    severity="warning",
)

_SAME = {"WarmupLR": "constant_with_warmup", "WarmupDecayLR": "linear", "WarmupCosineLR": "cosine"}


@CAUSE.in_file
def deepspeed_and_trainer(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a scheduler of DeepSpeed beside another one of the Trainer."""
    del limits
    for one in pairs(config):
        entry, argument = one.of_deepspeed("scheduler.type"), one.of_arguments("lr_scheduler_type", "lr_scheduler")
        if entry is None or argument is None or "auto" in (entry.value, argument.value):
            continue
        if not isinstance(argument.value, str) or _SAME.get(str(entry.value)) == argument.value:
            continue
        yield Mistake(
            one.deepspeed.place(entry),
            f"DeepSpeed's scheduler `{entry.value}` stands beside `{argument.key}: {argument.value}` of the Trainer. "
            f"DeepSpeed's counts{', which does not decay' if entry.value == 'WarmupLR' else ''}; the other is not used.",
            "take the scheduler out of the DeepSpeed config, or out of the arguments",
            related=((one.arguments.place(argument), f"`{argument.key}: {argument.value}`"),),
        )


@CAUSE.in_file
def old_and_new_of_openmmlab(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield the schedule of mmcv 1.x in a config of MMEngine, which does not read it."""
    del limits
    old = next((e for e in config.entries if e.path[0] == "lr_config"), None)
    if config.dialect == "MMEngine" and old is not None and config.shape.has("param_scheduler"):
        yield Mistake(
            config.place(old),
            "`lr_config` stands beside `param_scheduler`. MMEngine reads `param_scheduler` alone.",
            "take `lr_config` out",
        )


_ARGUMENTS = """\
output_dir: o
deepspeed: ds.json
per_device_train_batch_size: 4
learning_rate: 2.0e-5
lr_scheduler_type: cosine
"""
_MM = "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))\n"
CAUSE.valid_code = (
    Sample("only one", '{"zero_optimization": {"stage": 3}}', file="ds.json", others={"train.yaml": _ARGUMENTS}),
    Sample(
        "only that of deepspeed",
        '{"zero_optimization": {"stage": 3}, "scheduler": {"type": "WarmupLR"}}',
        file="ds.json",
        others={"train.yaml": _ARGUMENTS.replace("lr_scheduler_type: cosine\n", "num_train_epochs: 1\n")},
    ),
    Sample(
        "the same",
        '{"zero_optimization": {"stage": 3}, "scheduler": {"type": "WarmupCosineLR"}}',
        file="ds.json",
        others={"train.yaml": _ARGUMENTS},
    ),
    Sample("deepspeed alone", '{"zero_optimization": {"stage": 3}, "scheduler": {"type": "WarmupLR"}}', file="ds.json"),
    Sample(
        "mmengine",
        _MM + "param_scheduler = [dict(type='LinearLR', end=5), dict(type='CosineAnnealingLR', T_max=12)]\n",
        file="config_mm.py",
    ),
    Sample(
        "auto",
        '{"zero_optimization": {"stage": 3}, "scheduler": {"type": "auto"}}',
        file="ds.json",
        others={"train.yaml": _ARGUMENTS},
    ),
)
CAUSE.invalid_code = (
    Sample(
        "warmup alone and cosine",
        '{"zero_optimization": {"stage": 3},\n "scheduler": {"type": "WarmupLR"}}',
        file="ds.json",
        line=2,
        others={"train.yaml": _ARGUMENTS},
    ),
    Sample(
        "linear and cosine",
        '{"zero_optimization": {"stage": 3},\n "scheduler": {"type": "WarmupDecayLR"}}',
        file="ds.json",
        line=2,
        others={"train.yaml": _ARGUMENTS},
    ),
    Sample(
        "inline",
        """\
output_dir: o
per_device_train_batch_size: 4
learning_rate: 2.0e-5
lr_scheduler_type: cosine
deepspeed:
  zero_optimization: {stage: 2}
  scheduler: {type: WarmupLR}  # <-
""",
        file="run.yaml",
    ),
    Sample(
        "mmengine",
        _MM
        + """\
param_scheduler = dict(type='CosineAnnealingLR', T_max=12)
lr_config = dict(policy='step', step=[8])  # <-
""",
        file="config_mm.py",
    ),
)
