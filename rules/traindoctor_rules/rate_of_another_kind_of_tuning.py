"""The learning rate is one for another kind of tuning: of adapters, or of all weights.

## What it looks like
LoRA at `learning_rate: 1e-6`; all weights of a model of billions of parameters at 2e-4.

## Why it matters
Adapters start at zero and need rates about ten times those of full fine-tuning: at the rate of the latter they hardly learn.
All weights at the rate of adapters forget what they knew.

## When it is wrong
Preference tuning and reinforcement learning use lower rates for adapters too: their stages are left alone. Small models are
tuned at higher rates, and so is pretraining. What is said here is information only.

## What repairs it
For adapters 1e-4 to 5e-4, for all weights 1e-5 to 5e-5, as a start.

## References
Hu et al. 2021, LoRA: Low-rank adaptation of large language models, arXiv:2106.09685, tables 9 to 12 (2e-4 to 5e-4); Dettmers
et al. 2023, QLoRA, arXiv:2305.14314, table 9 (1e-4 to 2e-4); Touvron et al. 2023, Llama 2, arXiv:2307.09288, section 3.1
(2e-5 for all weights); Biderman et al. 2024, LoRA learns less and forgets less, arXiv:2405.09673 (the best rate of LoRA is an
order higher).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from traindoctor.configs.vocabulary import normal, number
from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Limits, Sample, Threshold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.file import ConfigFile

CAUSE = Cause(
    code="TD214",
    name="rate-of-another-kind-of-tuning",
    summary="the learning rate is one for another kind of tuning",
    explanation=__doc__,
    severity="info",
    thresholds=(
        Threshold(
            "lowest_of_adapters", 5e-6, "learning rate", "arXiv:2106.09685, tables 9 to 12: 2e-4 and more, with a wide margin"
        ),
        Threshold("highest_of_all_weights", 1e-4, "learning rate", "arXiv:2307.09288, section 3.1: 2e-5, with a margin"),
        Threshold("large", 3.0, "thousand million parameters", "arXiv:2001.08361, appendix D: the best rate falls with size"),
    ),
)

_ADAPTIVE = ("adam", "adamw", "lion", "stableadamw", "radam", "")


@CAUSE.in_file
def rate_and_kind(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a rate far below those of adapters, or above those of all weights of a large model."""
    slot = config.slot("optimizer.lr")
    rate = number(slot.value) if slot is not None else None
    if slot is None or rate is None or rate <= 0.0 or config.optimizer_name not in _ADAPTIVE:
        return
    kind = _kind(config)
    if kind == "adapters" and rate <= limits["lowest_of_adapters"]:
        yield Mistake(
            config.place(slot),
            f"`{slot.entry.key}` is {rate:g} for low-rank adapters. They usually learn at 1e-4 to 5e-4.",
            "start at 1e-4",
        )
    elif kind == "all" and rate >= limits["highest_of_all_weights"] and _billions(config) >= limits["large"]:
        yield Mistake(
            config.place(slot),
            f"`{slot.entry.key}` is {rate:g} for all weights of a model of {_billions(config):g} thousand million parameters. "
            "This is a rate for adapters.",
            "start at 2e-5, or train adapters",
        )


def _kind(config: ConfigFile) -> str:
    """Return what is tuned: "adapters", "all", "" where the config does not say, or tunes by preferences or rewards."""
    held = {normal(entry.key): entry.value for entry in config.entries}
    if config.dialect == "LLaMA-Factory":
        if held.get("stage") not in (None, "sft", "pt"):
            return ""
        return {"lora": "adapters", "full": "all"}.get(str(held.get("finetuning_type")).lower(), "")
    if config.dialect == "axolotl":
        if held.get("rl"):
            return ""
        return "adapters" if held.get("adapter") in ("lora", "qlora") else "" if held.get("adapter") else "all"
    if config.dialect == "torchtune":
        component = str(held.get("_component_", ""))
        adapters = "lora_rank" in held or "lora" in component
        return "" if re.search(r"(?i)dpo|ppo|grpo", config.text) else "adapters" if adapters else "all"
    return ""


def _billions(config: ConfigFile) -> float:
    """Return the size of the model in thousand millions of parameters, as its name says it; 0 where it does not."""
    for entry in config.entries:
        if normal(entry.key) in ("model_name_or_path", "base_model", "_component_") and isinstance(entry.value, str):
            sizes = re.findall(r"(?i)(?<![a-z0-9.])(\d{1,3}(?:[._]\d{1,2})?)b(?![a-z0-9])", entry.value)
            if sizes:
                return float(sizes[-1].replace("_", "."))
    return 0.0


_LLAMA = """\
model_name_or_path: meta-llama/Meta-Llama-3-8B
stage: sft
template: llama3
"""
_AXO = """\
base_model: NousResearch/Llama-2-7b-hf
micro_batch_size: 2
sequence_len: 2048
"""
CAUSE.valid_code = (
    Sample("adapters", _LLAMA + "finetuning_type: lora\nlearning_rate: 1.0e-4\n", file="l.yaml"),
    Sample("all weights", _LLAMA + "finetuning_type: full\nlearning_rate: 1.0e-5\n", file="l.yaml"),
    Sample("preferences", _LLAMA.replace("sft", "dpo") + "finetuning_type: lora\nlearning_rate: 5.0e-6\n", file="l.yaml"),
    Sample(
        "axolotl with preferences",
        _AXO
        + """\
adapter: qlora
rl: dpo
learning_rate: 1.0e-6
""",
        file="a.yml",
    ),
    Sample("small model", _AXO.replace("Llama-2-7b-hf", "TinyLlama-1.1B") + "learning_rate: 2.0e-4\n", file="a.yml"),
    Sample("size not said", _AXO.replace("Llama-2-7b-hf", "mymodel") + "learning_rate: 2.0e-4\n", file="a.yml"),
    Sample(
        "kind not said",
        """\
output_dir: o
per_device_train_batch_size: 1
learning_rate: 1.0e-6
lora_r: 8
""",
        file="run.yaml",
    ),
    Sample("other optimizer", _AXO + "optimizer: adafactor\nlearning_rate: 0.001\n", file="a.yml"),
)
CAUSE.invalid_code = (
    Sample("adapters at a rate of all weights", _LLAMA + "finetuning_type: lora\nlearning_rate: 1.0e-6  # <-\n", file="l.yaml"),
    Sample("axolotl", _AXO + "adapter: qlora\nlearning_rate: 0.000001  # <-\n", file="a.yml"),
    Sample("all weights at a rate of adapters", _LLAMA + "finetuning_type: full\nlearning_rate: 2.0e-4  # <-\n", file="l.yaml"),
    Sample("axolotl all weights", _AXO + "learning_rate: 2.0e-4  # <-\n", file="a.yml"),
    Sample(
        "torchtune",
        """\
model: {_component_: torchtune.models.llama3.lora_llama3_8b, lora_rank: 8}
optimizer:
  _component_: torch.optim.AdamW
  lr: 1.0e-6  # <-
""",
        file="t.yaml",
    ),
)
