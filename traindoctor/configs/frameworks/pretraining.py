"""Programs that train language models from scratch: nanoGPT, torchtitan, Megatron-LM.

Source: nanoGPT, train.py (names at module level that a config file overrides through `exec`; `dtype` is that of autocast;
`grad_clip` 0 is off); torchtitan, config/job_config.py before configs became Python; Megatron-LM, training/arguments.py
(`--optimizer adam` is apex's FusedAdam with decoupled weight decay).
"""

from __future__ import annotations

from traindoctor.configs.frameworks.dialect import Dialect, Shape, Slots, put
from traindoctor.configs.vocabulary import number, truth


def _is_nanogpt(shape: Shape) -> bool:
    own = (
        "lr_decay_iters",
        "always_save_checkpoint",
        "init_from",
        "block_size",
        "n_layer",
        "eval_iters",
        "wandb_run_name",
        "decay_lr",
    )
    if shape.has("learning_rate", "max_iters", "lr_decay_iters", "warmup_iters"):
        return True
    return shape.count("max_iters", "learning_rate", "batch_size", "warmup_iters") >= 1 and shape.count(*own) >= 3


def _nanogpt(shape: Shape, slots: Slots) -> None:
    dtype = shape.value("dtype")
    if "precision" in slots and dtype in ("float16", "bfloat16"):
        put(slots, "precision", "16-mixed" if dtype == "float16" else "bf16-mixed", shape.at["dtype"], f"autocast to {dtype}")
    if truth(shape.value("decay_lr")) is False:
        put(slots, "schedule.name", "constant", shape.at["decay_lr"], "decay_lr is off")


def _is_torchtitan(shape: Shape) -> bool:
    if not shape.has("optimizer", "training"):
        return False
    blocks = ("job", "parallelism", "experimental", "activation_checkpoint", "checkpoint", "metrics", "profiling", "lr_scheduler")
    if shape.has("job", "training.seq_len", "training.steps"):  # before the schedule had a block of its own
        return True
    return (
        sum(block in shape.blocks for block in blocks) >= 2 and shape.count("seq_len", "steps", "local_batch_size", "flavor") >= 2
    )


def _torchtitan(shape: Shape, slots: Slots) -> None:
    """Name a schedule that stays at its peak, or ends above 0, as one that is not known."""
    held = slots.get("schedule.name")
    for key in ("decay_ratio", "lr_min", "min_lr_factor"):
        entry = shape.at.get(f"lr_scheduler.{key}")
        if held is not None and entry is not None and number(entry.value):
            put(slots, "schedule.name", f"{held.value} with {key}", held.entry, f"{key} is set")


def _is_megatron(shape: Shape) -> bool:
    own = (
        "tensor_model_parallel_size",
        "pipeline_model_parallel_size",
        "train_iters",
        "train_samples",
        "lr_decay_iters",
        "lr_warmup_iters",
        "lr_warmup_fraction",
        "lr_decay_style",
        "global_batch_size",
        "num_attention_heads",
        "max_position_embeddings",
        "clip_grad",
    )
    return shape.count(*own) >= 4


def _megatron(shape: Shape, slots: Slots) -> None:
    name = slots.get("optimizer.name")
    if name is not None and str(name.value).lower() == "adam" and "no_decoupled_weight_decay" not in shape.keys:
        put(slots, "optimizer.name", "adamw", name.entry, "Megatron's adam decays weights as AdamW does")


NANOGPT = Dialect(
    "nanoGPT",
    _is_nanogpt,
    {"gradient_accumulation_steps": "gradient.accumulation_steps", "max_iters": "steps"},
    {
        "optimizer.name": "adamw",
        "optimizer.lr": 6e-4,
        "optimizer.beta1": 0.9,
        "optimizer.beta2": 0.95,
        "optimizer.weight_decay": 0.1,
        "gradient.clip_norm": 1.0,
        "schedule.name": "cosine",
        "schedule.warmup_steps": 2000,
        "schedule.total_steps": 600_000,
        "schedule.min_lr": 6e-5,
        "steps": 600_000,
    },
    _nanogpt,
)
TORCHTITAN = Dialect(
    "torchtitan",
    _is_torchtitan,
    {
        "training.warmup_steps": "schedule.warmup_steps",
        "training.local_batch_size": "batch_size",
        "lr_scheduler.decay_type": "schedule.name",
        "lr_scheduler.lr_min": "",
    },
    {
        "optimizer.name": "AdamW",
        "optimizer.lr": 8e-4,
        "optimizer.beta1": 0.9,
        "optimizer.beta2": 0.95,
        "optimizer.eps": 1e-8,
        "optimizer.weight_decay": 0.1,
        "schedule.warmup_steps": 200,
        "gradient.clip_norm": 1.0,
    },
    _torchtitan,
)
MEGATRON = Dialect(
    "Megatron-LM",
    _is_megatron,
    {
        "global_batch_size": "batch_size",
        "micro_batch_size": "",
        "lr_decay_style": "schedule.name",
        "lr_decay_iters": "schedule.total_steps",
    },
    {
        "optimizer.name": "adamw",
        "optimizer.beta1": 0.9,
        "optimizer.beta2": 0.999,
        "optimizer.eps": 1e-8,
        "optimizer.weight_decay": 0.01,
        "gradient.clip_norm": 1.0,
        "schedule.name": "linear",
    },
    _megatron,
    casts=False,
)
