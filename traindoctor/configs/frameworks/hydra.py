"""Hydra and OmegaConf, and what builds on them: torchtune, fairseq, Composer.

Source: hydra.cc, "Instantiating objects with Hydra" (`_target_`, `_partial_`) and "The Defaults List"; torchtune, recipes/
configs (`_component_`); fairseq, dataclass/configs.py and optim/adam.py (`adam_betas` is text, `lr` a list with one rate an
epoch, weights decay as in AdamW, `clip_norm` 0 is off); composer, optim/decoupled_weight_decay.py and llm-foundry's YAMLs
(`max_duration: 4800ba`, `t_warmup: 100ba`: batches). OmegaConf reads `3e-4` as a number.
"""

from __future__ import annotations

import re

from traindoctor.configs.frameworks.dialect import Dialect, Shape, Slots, drop, put
from traindoctor.configs.vocabulary import number


def _is_hydra(shape: Shape) -> bool:
    if (
        "_target_" in shape.keys
        or shape.has("hydra")
        or isinstance(shape.value("defaults"), list)
        or any(key.startswith("defaults.0") for key in shape.at)  # a mapping of that name is but an anchor's place
    ):
        return True
    return any(entry.interpolated or (isinstance(entry.value, str) and "${" in entry.value) for entry in shape.at.values())


def _is_fairseq(shape: Shape) -> bool:
    nested = shape.has("optimization") and shape.count("max_update", "update_freq", "clip_norm", "_name") >= 2
    flat = shape.count("update_freq", "max_tokens", "criterion", "adam_betas", "arch", "warmup_updates", "clip_norm") >= 4
    return nested or flat


def _fairseq(shape: Shape, slots: Slots) -> None:
    name, decay = slots.get("optimizer.name"), slots.get("optimizer.weight_decay")
    if name is not None and decay is not None and number(decay.value) and str(name.value).lower() == "adam":
        put(slots, "optimizer.name", "adamw", name.entry, "fairseq's adam decays weights as AdamW does")
    for key in ("optimization.lr", "lr"):
        entry = shape.at.get(key)
        if entry is not None and isinstance(entry.value, str) and entry.value[:1] == "[":  # as text in a dump
            rates = re.findall(r"[-+.\deE]+", entry.value)
            rate = number(rates[0]) if len(rates) == 1 else None
            if rate is not None:
                put(slots, "optimizer.lr", rate, entry)


def _is_composer(shape: Shape) -> bool:
    return shape.has("max_duration") and shape.count("global_train_batch_size", "device_train_microbatch_size", "t_warmup") > 0


def _composer(shape: Shape, slots: Slots) -> None:
    for path, setting in (("max_duration", "steps"), ("scheduler.t_warmup", "schedule.warmup_steps")):
        found = re.fullmatch(r"(\d{1,12})ba", str(shape.value(path)).strip())
        if found:
            put(slots, setting, int(found.group(1)), shape.at[path])
    epochs = re.fullmatch(r"(\d{1,12})ep", str(shape.value("max_duration")).strip())
    if epochs:
        put(slots, "epochs", int(epochs.group(1)), shape.at["max_duration"])
    clipping = "algorithms.gradient_clipping."
    if shape.value(clipping + "clipping_type") in ("norm", None) and clipping + "clipping_threshold" in shape.at:
        entry = shape.at[clipping + "clipping_threshold"]
        if (threshold := number(entry.value)) is not None:
            put(slots, "gradient.clip_norm", threshold, entry)


def _torchtune(shape: Shape, slots: Slots) -> None:
    if number(shape.value("gradient_accumulation_steps")) is None and "gradient_accumulation_steps" in shape.at:
        drop(slots, "gradient.accumulation_steps")


HYDRA = Dialect("Hydra", _is_hydra, builds=True)
TORCHTUNE = Dialect(
    "torchtune",
    lambda shape: "_component_" in shape.keys,
    {"optimizer._component_": "optimizer.name", "lr_scheduler._component_": "schedule.name"},
    refine=_torchtune,
    builds=True,
)
FAIRSEQ = Dialect(
    "fairseq",
    _is_fairseq,
    {
        "optimizer._name": "optimizer.name",
        "lr_scheduler._name": "schedule.name",
        "lr_scheduler.warmup_updates": "schedule.warmup_steps",
    },
    {
        "optimizer.beta1": 0.9,
        "optimizer.beta2": 0.999,
        "optimizer.eps": 1e-8,
        "optimizer.weight_decay": 0.0,
        "gradient.clip_norm": 0.0,
    },
    _fairseq,
)
COMPOSER = Dialect(
    "Composer",
    _is_composer,
    {"global_train_batch_size": "batch_size", "scheduler.t_warmup": "schedule.warmup_steps"},
    {},
    _composer,
)
