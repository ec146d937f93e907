"""DeepSpeed's JSON, and GPT-NeoX, whose YAML holds it.

Source: deepspeed, runtime/config.py and runtime/engine.py, `_configure_basic_optimizer`: the type "Adam" runs with
`adam_w_mode` on unless that or `torch_adam` says otherwise, so that weights decay as in AdamW; ops/adam/fused_adam.py for
the defaults. `gradient_clipping` 0 is off. "auto" is filled in by the Trainer and says nothing here.
"""

from __future__ import annotations

from traindoctor.configs.frameworks.dialect import Dialect, Shape, Slots, drop, put
from traindoctor.configs.vocabulary import number, truth

_FUSED: dict[str, object] = {
    "optimizer.beta1": 0.9,
    "optimizer.beta2": 0.999,
    "optimizer.eps": 1e-8,
    "optimizer.weight_decay": 0.0,
    "gradient.clip_norm": 0.0,
}


def _is_deepspeed(shape: Shape) -> bool:
    if shape.has("zero_optimization") or shape.has("train_micro_batch_size_per_gpu"):
        return True
    return shape.has("train_batch_size", "optimizer.type", "optimizer.params")


def _is_neox(shape: Shape) -> bool:
    return _is_deepspeed(shape) and shape.count("train_iters", "lr_decay_iters", "num_layers", "pipe_parallel_size") >= 2


def _refine(shape: Shape, slots: Slots) -> None:
    warmup = shape.at.get("warmup")  # of NeoX: the share of lr_decay_iters
    if warmup is not None and (share := number(warmup.value)) is not None and 0.0 < share < 1.0:
        put(slots, "schedule.warmup_ratio", share, warmup)
        drop(slots, "schedule.warmup_steps")
    name = slots.get("optimizer.name")
    decay = slots.get("optimizer.weight_decay")
    if name is None or decay is None or not number(decay.value) or str(name.value).lower() not in ("adam", "fusedadam"):
        return
    if truth(shape.value("optimizer.params.adam_w_mode")) is not False:
        put(slots, "optimizer.name", "AdamW", name.entry, "Adam in DeepSpeed's adam_w_mode, which is on unless switched off")


_KEYS = {
    "optimizer.params.lr": "optimizer.lr",
    "scheduler.params.total_num_steps": "schedule.total_steps",
    "scheduler.params.warmup_min_lr": "schedule.warmup_lr",
    "scheduler.params.warmup_max_lr": "schedule.peak_lr",
    "scheduler.params.warmup_type": "schedule.warmup_type",
    "scheduler.params.warmup_min_ratio": "schedule.warmup_factor",
    "scheduler.params.cos_min_ratio": "schedule.min_lr_ratio",
}
DEEPSPEED = Dialect("DeepSpeed", _is_deepspeed, _KEYS, _FUSED, _refine, builds=True, part=True)
NEOX = Dialect("GPT-NeoX", _is_neox, _KEYS, _FUSED, _refine, casts=False)
