"""Configs around the Trainer of Hugging Face: TrainingArguments, TRL, LLaMA-Factory, axolotl, accelerate.

Source: transformers, training_args.py (names and defaults of the fields; `optim_args` is "k=v,k=v"; negative `max_steps` is
unset; since v5 `warmup_steps` below 1 is a ratio); trl, trainer/*_config.py (own default learning rates, so none is filled
in); LLaMA-Factory, hparams/ (`stage`, `finetuning_type`; all others are TrainingArguments); axolotl,
utils/schemas/training.py (`learning_rate` is cast, cosine schedule); accelerate, the questions of `accelerate config`.
"""

from __future__ import annotations

from traindoctor.configs.frameworks.dialect import Dialect, Shape, Slots, drop, put, read_arguments
from traindoctor.configs.vocabulary import number

TRL = ("use_peft", "lora_target_modules", "max_prompt_length", "max_completion_length", "num_generations", "dataset_text_field")

_TRAINER: dict[str, object] = {
    "optimizer.name": "adamw_torch",
    "optimizer.beta1": 0.9,
    "optimizer.beta2": 0.999,
    "optimizer.eps": 1e-8,
    "optimizer.weight_decay": 0.0,
    "gradient.clip_norm": 1.0,
    "gradient.accumulation_steps": 1,
}
_LINEAR = {**_TRAINER, "schedule.name": "linear", "optimizer.lr": 5e-5}


def _is_trainer(shape: Shape) -> bool:
    fields = ("output_dir", "learning_rate", "num_train_epochs", "lr_scheduler_type", "adam_beta2", "max_grad_norm", "optim")
    if "per_device_train_batch_size" in shape.keys:
        return shape.count(*fields) >= 1
    return {"output_dir", "learning_rate"} <= shape.keys and shape.count(
        "num_train_epochs", "lr_scheduler_type", "adam_beta2"
    ) >= 2


def _is_trl(shape: Shape) -> bool:
    return _is_trainer(shape) and shape.count(*TRL) > 0


def _is_llama_factory(shape: Shape) -> bool:
    return "finetuning_type" in shape.keys and shape.count("stage", "per_device_train_batch_size", "template") > 0


def _is_axolotl(shape: Shape) -> bool:
    return shape.has("base_model") and shape.count("micro_batch_size", "sequence_len", "datasets", "adapter") >= 2


def _is_accelerate(shape: Shape) -> bool:
    return shape.has("compute_environment", "distributed_type")


def _refine(shape: Shape, slots: Slots) -> None:
    for key in ("optim_args", "optim_kwargs"):
        for entry in shape.ending(key):
            read_arguments(slots, entry)
    warmup = number(shape.value("warmup_steps"))
    if warmup is not None and 0.0 < warmup < 1.0:
        put(slots, "schedule.warmup_ratio", warmup, shape.at["warmup_steps"])
        drop(slots, "schedule.warmup_steps")
    elif warmup:  # the steps count where both are set
        drop(slots, "schedule.warmup_ratio")
    elif number(shape.value("warmup_ratio")):
        drop(slots, "schedule.warmup_steps")


def _axolotl(shape: Shape, slots: Slots) -> None:
    _refine(shape, slots)
    if shape.value("cosine_constant_lr_ratio") is not None and "schedule.name" in slots:
        put(slots, "schedule.name", "cosine to a constant", slots["schedule.name"].entry, "cosine_constant_lr_ratio")


_KEYS = {"optim_args": "", "logging_steps": "", "per_device_train_batch_size": "batch_size"}
TRAINING_ARGUMENTS = Dialect("Hugging Face TrainingArguments", _is_trainer, _KEYS, _LINEAR, _refine)
TRL_CONFIG = Dialect("TRL", _is_trl, _KEYS, {**_TRAINER, "schedule.name": "linear"}, _refine)
LLAMA_FACTORY = Dialect("LLaMA-Factory", _is_llama_factory, _KEYS, _LINEAR, _refine)
AXOLOTL = Dialect(
    "axolotl",
    _is_axolotl,
    {**_KEYS, "micro_batch_size": "batch_size", "batch_size": "", "cosine_min_lr_ratio": "schedule.min_lr_ratio"},
    {**_TRAINER, "schedule.name": "cosine"},
    _axolotl,
)
ACCELERATE = Dialect(
    "Hugging Face accelerate",
    _is_accelerate,
    {
        "deepspeed_config.gradient_clipping": "gradient.clip_norm",
        "deepspeed_config.gradient_accumulation_steps": "gradient.accumulation_steps",
    },
    part=True,
)
