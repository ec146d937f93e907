"""Two precisions are switched on at once.

## What it looks like
`fp16: true` and `bf16: true` in one config; `full_fp16` of kohya without `mixed_precision = "fp16"`.

## Why it matters
A run has one of them: the frameworks refuse both, and where one wins silently the loss scaling of fp16 may be missing.

## When it is wrong
`auto`, which means whichever the hardware has, is no conflict, nor are options of evaluation alone (`fp16_full_eval`).

## What repairs it
bf16 where the hardware has it, else fp16.

## References
Hugging Face Transformers, training_args.py: "At most one of fp16 and bf16 can be True"; DeepSpeed, runtime/config.py: fp16
and bf16 cannot be enabled together; Megatron-LM, training/arguments.py asserts it; sd-scripts, library/train_util.py:
`full_fp16` requires `mixed_precision="fp16"`.
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

CAUSE = Cause(
    code="TD405",
    name="precision-conflict",
    summary="two precisions are switched on at once",
    explanation=__doc__,
)

_SWITCHED = TRAINER | {"DeepSpeed", "GPT-NeoX", "Megatron-LM", "fairseq"}


@CAUSE.in_file
def both_on(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield fp16 and bf16 that are both on."""
    del limits
    if config.dialect not in _SWITCHED or config.is_branching:
        return
    half, brain = _switch(config, "fp16"), _switch(config, "bf16")
    if half is None or brain is None:
        return
    at, other = (half, brain) if config.is_own(half) and not config.is_own(brain) else (brain, half)
    yield Mistake(
        config.place(at),
        f"`fp16` and `bf16` are both on. {config.dialect} takes one of them and refuses the run.",
        "switch `fp16` off where the hardware has bfloat16, else `bf16`",
        related=((config.place(other), "the other one"),),
    )


def _switch(config: ConfigFile, name: str) -> Entry | None:
    """Return the switch of a precision where it is on: `fp16: true`, or `enabled` in a block of that name."""
    for entry in config.entries:
        words = [normal(part) for part in entry.path]
        if (words[-1] == name or words[-2:] == [name, "enabled"]) and truth(entry.value) is True:
            return entry
    return None


@CAUSE.in_file
def full_without_mixed(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield kohya's `full_fp16` and `full_bf16` beside another precision."""
    del limits
    if config.dialect != "kohya":
        return
    mixed = next((e for e in config.entries if e.key == "mixed_precision"), None)
    for entry in config.entries:
        wanted = {"full_fp16": "fp16", "full_bf16": "bf16"}.get(entry.key)
        if wanted is None or truth(entry.value) is not True or (mixed is not None and mixed.value == wanted):
            continue
        held = f'`mixed_precision = "{mixed.value}"`' if mixed is not None else "no `mixed_precision`"
        yield Mistake(
            config.place(entry),
            f'`{entry.key}` is on with {held}. It wants `mixed_precision = "{wanted}"`, and the run is refused.',
            f'set `mixed_precision = "{wanted}"`, or switch `{entry.key}` off',
            related=((config.place(mixed), "the precision"),) if mixed is not None else (),
        )


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
CAUSE.valid_code = (
    Sample("one", _HF + "fp16: false\nbf16: true\n", file="run.yaml"),
    Sample("auto", _HF + "fp16: auto\nbf16: true\n", file="run.yaml"),
    Sample(
        "both auto",
        '{"zero_optimization": {"stage": 2}, "fp16": {"enabled": "auto"}, "bf16": {"enabled": "auto"}}',
        file="ds.json",
    ),
    Sample(
        "one or the other",
        """\
if [ $GPU = a100 ]; then PRECISION="--bf16"; else PRECISION="--fp16"; fi
torchrun pretrain_gpt.py --num-attention-heads 16 --train-iters 9 --lr-decay-style cosine --clip-grad 1.0 $PRECISION
""",
        file="run.sh",
    ),
    Sample("evaluation", _HF + "bf16: true\nfp16_full_eval: true\n", file="run.yaml"),
    Sample("null", _HF + "fp16: null\nbf16: true\n", file="run.yaml"),
    Sample(
        "free-form",
        """\
lr: 0.1
fp16: true
bf16: true
""",
        file="config.yaml",
    ),
    Sample("full and mixed", _KOHYA + 'mixed_precision = "fp16"\nfull_fp16 = true\n', file="config.toml"),
    Sample("full switched off", _KOHYA + 'mixed_precision = "bf16"\nfull_fp16 = false\n', file="config.toml"),
)
CAUSE.invalid_code = (
    Sample("trainer", _HF + "fp16: true\nbf16: true  # <-\n", file="run.yaml"),
    Sample("words", _HF + "fp16: yes\nbf16: True  # <-\n", file="run.yaml"),
    Sample(
        "axolotl",
        """\
base_model: x
micro_batch_size: 2
sequence_len: 2048
bf16: true  # <-
fp16: true
""",
        file="a.yml",
    ),
    Sample(
        "deepspeed",
        '{"zero_optimization": {"stage": 2},\n "fp16": {"enabled": true},\n "bf16": {"enabled": true}}',
        file="ds.json",
        line=3,
    ),
    Sample(
        "megatron",
        """\
torchrun pretrain_gpt.py --num-attention-heads 16 --train-iters 9 --lr 1e-5 --lr-decay-style cosine --clip-grad 1.0 \\
  --fp16 \\
  --bf16
""",
        file="run.sh",
        line=3,
    ),
    Sample(
        "llama factory",
        """\
stage: sft
finetuning_type: lora
template: llama3
learning_rate: 1.0e-4
bf16: true  # <-
fp16: true
""",
        file="l.yaml",
    ),
    Sample("full without mixed", _KOHYA + 'mixed_precision = "bf16"\nfull_fp16 = true  # <-\n', file="config.toml"),
    Sample("full and no", _KOHYA + 'mixed_precision = "no"\nfull_bf16 = true  # <-\n', file="config.toml"),
)
