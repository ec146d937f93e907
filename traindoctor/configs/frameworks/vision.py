"""Configs of computer vision: OpenMMLab (MMEngine and the older mmcv), Detectron2, timm, Ultralytics and YOLOv5.

Source: mmengine.readthedocs.io, "Config" and "OptimWrapper"; mmcv 1.x, runner/hooks/lr_updater.py; detectron2,
config/defaults.py (SOLVER) and config/lazy.py; pytorch-image-models, train.py (lr = lr_base * batch / lr_base_size, by the
square root of that ratio for adaptive optimizers; "sgd" is with Nesterov momentum); ultralytics, cfg/default.yaml and
engine/trainer.py, `build_optimizer` (`momentum` is beta1 of Adam; with `optimizer: auto`, lr0 and momentum are not used);
yolov5, train.py and data/hyps/.
"""

from __future__ import annotations

import math

from traindoctor.configs.frameworks.dialect import Dialect, Shape, Slots, drop, put, read
from traindoctor.configs.vocabulary import GROUPS, number, truth

# -- OpenMMLab --------------------------------------------------------------------------------------------------------


def _is_mmengine(shape: Shape) -> bool:
    return any(shape.has(f"optim_wrapper.{key}") for key in ("optimizer", "type", "constructor"))


def _mmengine(shape: Shape, slots: Slots) -> None:
    if str(shape.value("optim_wrapper.type")).endswith("AmpOptimWrapper"):
        half = "bf16-mixed" if str(shape.value("optim_wrapper.dtype")) == "bfloat16" else "16-mixed"
        put(slots, "precision", half, shape.at["optim_wrapper.type"], "AmpOptimWrapper")
    drop(slots, *[setting for setting in slots if setting.startswith("schedule.")])
    _param_schedulers(shape, slots)


def _param_schedulers(shape: Shape, slots: Slots) -> None:
    """Read the list of schedulers: one that starts at 0 and others after it is a warmup, the next is the schedule.

    Several schedules are named together, as something that is not known. `by_epoch` is on unless switched off; with
    `convert_to_iter_based` lengths in epochs are walked step by step.
    """
    names = [f"param_scheduler.{n}." for n in range(16)] if shape.has("param_scheduler.0") else ["param_scheduler."]
    names = [name for name in names if name + "type" in shape.at and "Momentum" not in str(shape.value(name + "type"))]
    kinds = [str(shape.value(name + "type")) for name in names]
    warms = len(names) > 1 and kinds[0].rpartition(".")[2] in ("LinearLR", "LinearParamScheduler")
    if warms:
        name = names.pop(0)
        end = shape.at.get(name + "end")
        if end is not None:
            read(slots, "schedule.warmup_epochs" if _by_epoch(shape, name) else "schedule.warmup_steps", end)
        if name + "start_factor" in shape.at:
            read(slots, "schedule.warmup_factor", shape.at[name + "start_factor"])
    if not names:
        return
    name = names[0]
    put(slots, "schedule.name", " and ".join(kinds[warms:]), shape.at[name + "type"], "" if len(names) == 1 else "in turn")
    by_step = truth(shape.value(name + "convert_to_iter_based")) is True
    unit = ("epoch by step" if by_step else "epoch") if _by_epoch(shape, name) else "step"
    place = next((shape.at[name + key] for key in ("convert_to_iter_based", "by_epoch") if name + key in shape.at), None)
    put(slots, "schedule.unit", unit, place or shape.at[name + "type"], "" if place else "by_epoch is on unless switched off")
    for key, setting in _OF_PARAM_SCHEDULER.items():
        if name + key in shape.at:
            read(slots, setting, shape.at[name + key])


_OF_PARAM_SCHEDULER = {
    "eta_min": "schedule.min_lr",
    "eta_min_ratio": "schedule.min_lr_ratio",
    "gamma": "schedule.decay",
    "milestones": "schedule.milestones",
    "step_size": "schedule.step_size",
    "power": "schedule.power",
    "begin": "schedule.begin",
    "end": "schedule.end",
    "t_max": "schedule.total_steps",
}


def _by_epoch(shape: Shape, name: str) -> bool:
    return truth(shape.value(name + "by_epoch")) is not False


def _is_mmcv(shape: Shape) -> bool:
    return shape.has("optimizer.type") and sum(map(shape.has, ("lr_config", "optimizer_config", "runner", "total_epochs"))) >= 2


def _mmcv(shape: Shape, slots: Slots) -> None:
    if "schedule.warmup_steps" in slots and (
        truth(shape.value("lr_config.warmup_by_epoch")) or shape.value("lr_config.warmup") is None
    ):
        drop(slots, "schedule.warmup_steps")
    if shape.has("fp16"):
        entry = next(entry for path, entry in shape.at.items() if path.startswith("fp16"))
        put(slots, "precision", "16-mixed", entry, "fp16 of mmcv")


_MMCV = {
    "lr_config.policy": "schedule.name",
    "lr_config.warmup_iters": "schedule.warmup_steps",
    "lr_config.warmup": "",
    "lr_config.warmup_ratio": "",
    "lr_config.step": "",
    "lr_config.min_lr": "schedule.min_lr",
    "lr_config.gamma": "schedule.decay",
    "optimizer_config.grad_clip.max_norm": "gradient.clip_norm",
    "optimizer_config.cumulative_iters": "gradient.accumulation_steps",
    "optimizer_config.update_interval": "gradient.accumulation_steps",
    "optimizer_config.type": "",
    "optimizer_config.loss_scale": "",
    "runner.max_epochs": "epochs",
    "runner.max_iters": "steps",
    "data.samples_per_gpu": "batch_size",
}
MMENGINE = Dialect(
    "MMEngine",
    _is_mmengine,
    {
        "optim_wrapper.type": "",
        "optim_wrapper.dtype": "",
        "optim_wrapper.loss_scale": "",
        "optim_wrapper.accumulative_counts": "gradient.accumulation_steps",
        "optim_wrapper.optimizer.type": "optimizer.name",
        "train_cfg.max_epochs": "epochs",
        "train_cfg.max_iters": "steps",
        "train_cfg.type": "",
        "auto_scale_lr.base_batch_size": "",
    },
    refine=_mmengine,
    casts=False,
    builds=True,
)
MMCV = Dialect("mmcv", _is_mmcv, _MMCV, refine=_mmcv, casts=False, builds=True)


# -- Detectron2 -------------------------------------------------------------------------------------------------------


def _is_detectron2(shape: Shape) -> bool:
    if not shape.has("solver"):
        return False
    own = (
        "base_lr",
        "ims_per_batch",
        "warmup_iters",
        "bias_lr_factor",
        "weight_decay_norm",
        "clip_gradients",
    )
    if any(f"solver.{key}" in shape.at or f"solver.{key}" in shape.blocks for key in own):
        return True
    return isinstance(shape.value("solver.steps"), list | tuple | str) or shape.has("solver.max_iter", "_base_")


def _detectron2(shape: Shape, slots: Slots) -> None:
    clip = "solver.clip_gradients."
    drop(slots, "gradient.clip_norm")
    kind = str(shape.value(clip + "clip_type") or "value")
    if truth(shape.value(clip + "enabled")) and kind != "value" and clip + "clip_value" in shape.at:
        read(slots, "gradient.clip_norm", shape.at[clip + "clip_value"])
    if "schedule.milestones" in slots:
        put(slots, "schedule.unit", "step", slots["schedule.milestones"].entry, "Detectron2 counts steps")
    if truth(shape.value("solver.amp.enabled")):
        put(slots, "precision", "16-mixed", shape.at["solver.amp.enabled"], "AMP")


DETECTRON2 = Dialect(
    "Detectron2",
    _is_detectron2,
    {
        "solver.steps": "schedule.milestones",
        "solver.optimizer": "optimizer.name",
        "solver.base_lr": "optimizer.lr",
        "solver.gamma": "schedule.decay",
        "solver.lr_scheduler_name": "schedule.name",
        "solver.clip_gradients.clip_value": "",
        "solver.ims_per_batch": "batch_size",
    },
    {
        "optimizer.name": "SGD",
        "optimizer.lr": 0.001,
        "optimizer.momentum": 0.9,
        "optimizer.nesterov": False,
        "optimizer.weight_decay": 1e-4,
        "schedule.name": "WarmupMultiStepLR",
        "schedule.warmup_steps": 1000,
        "schedule.decay": 0.1,
        "steps": 40_000,
        "batch_size": 16,
    },
    _detectron2,
)


def _is_lazy(shape: Shape) -> bool:
    mine = ("train.max_iter", "lr_multiplier", "dataloader", "train.ddp", "train.amp", "train.init_checkpoint")
    makes = shape.has("optimizer._target_") or shape.has("lr_multiplier._target_") or shape.has("train.max_iter")
    return makes and "_target_" in shape.keys and sum(map(shape.has, mine)) >= 1


def _lazy(shape: Shape, slots: Slots) -> None:
    if truth(shape.value("train.amp.enabled")):
        put(slots, "precision", "16-mixed", shape.at["train.amp.enabled"], "AMP")


LAZY_CONFIG = Dialect(
    "Detectron2 LazyConfig",
    _is_lazy,
    {
        "train.max_iter": "steps",
        "dataloader.train.total_batch_size": "batch_size",
        "optimizer.params.lr": "",
        "optimizer.params._target_": "",
        "train.amp.enabled": "",
    },
    refine=_lazy,
    builds=True,
)


# -- timm -------------------------------------------------------------------------------------------------------------


def _is_timm(shape: Shape) -> bool:
    flat = any(path.rpartition(".")[2] == "opt" and set(path.split(".")[:-1]) <= GROUPS for path in shape.at)
    return flat and shape.count("sched", "lr_base", "warmup_lr", "cooldown_epochs", "opt_eps", "reprob", "aa") >= 2


#: Options of timm's schedules that are followed here at these values alone.
_PLAIN_OF_TIMM = {"lr_noise": None, "lr_cycle_mul": 1.0, "lr_cycle_limit": 1.0, "lr_k_decay": 1.0, "layer_decay": None}


def _timm_schedule(shape: Shape, slots: Slots) -> None:
    """Say what the schedule's lengths count, and name one with further options as something that is not known."""
    held = slots.get("schedule.name")
    if held is None:
        return
    by_step = next((entry for entry in shape.ending("sched_on_updates") if truth(entry.value)), None)
    put(
        slots,
        "schedule.unit",
        "epoch by step" if by_step else "epoch",
        by_step or held.entry,
        "" if by_step else "as timm counts",
    )
    for key, plain in _PLAIN_OF_TIMM.items():
        for entry in shape.ending(key):
            if entry.value not in (None, []) and (plain is None or number(entry.value) != plain):
                put(slots, "schedule.name", f"{held.value} with {key}", held.entry, f"{key} is set")


def _timm(shape: Shape, slots: Slots) -> None:
    _timm_schedule(shape, slots)
    mode = next((str(entry.value) for entry in shape.ending("clip_mode")), "norm")
    if mode != "norm":
        drop(slots, "gradient.clip_norm")
    name = str(slots["optimizer.name"].value if "optimizer.name" in slots else "sgd").lower()
    if name in ("sgd", "nesterov", "momentum") and "optimizer.name" in slots and "optimizer.nesterov" not in slots:
        put(slots, "optimizer.nesterov", name != "momentum", slots["optimizer.name"].entry, "as timm means it")
    held = slots.get("optimizer.lr")
    if held is not None and held.key != "lr_base":
        return
    drop(slots, "optimizer.lr")
    base = next(iter(shape.ending("lr_base")), None)
    rate = number(base.value) if base is not None else None
    batch = number(slots["batch_size"].value) if "batch_size" in slots else None
    if base is None or rate is None or batch is None:
        return
    size = number(next((entry.value for entry in shape.ending("lr_base_size")), 256.0)) or 256.0
    n_batches = number(slots["gradient.accumulation_steps"].value) if "gradient.accumulation_steps" in slots else 1.0
    ratio = batch * (n_batches or 1.0) / size
    scale = str(next((entry.value for entry in shape.ending("lr_base_scale")), "") or "")
    if scale == "sqrt" or (not scale and any(part in name for part in ("ada", "lamb"))):
        ratio = math.sqrt(ratio)
    put(
        slots,
        "optimizer.lr",
        rate * ratio,
        base,
        f"{rate:g} for a batch of {size:g}, scaled to {batch * (n_batches or 1.0):g}: one process",
    )


TIMM = Dialect(
    "timm",
    _is_timm,
    {
        "warmup_lr": "schedule.warmup_lr",
        "momentum": "optimizer.momentum",
        "opt_eps": "optimizer.eps",
        "decay_rate": "schedule.decay",
        "decay_epochs": "schedule.step_size",
        "decay_milestones": "schedule.milestones",
    },
    {
        "optimizer.name": "sgd",
        "optimizer.momentum": 0.9,
        "optimizer.nesterov": True,
        "optimizer.weight_decay": 2e-5,
        "schedule.name": "cosine",
        "schedule.unit": "epoch",
        "schedule.min_lr": 0.0,
        "schedule.warmup_epochs": 5,
        "schedule.warmup_lr": 1e-5,
        "schedule.decay": 0.1,
        "epochs": 300,
    },
    _timm,
)


# -- Ultralytics ------------------------------------------------------------------------------------------------------


def _is_yolo(shape: Shape) -> bool:
    return shape.count("lr0", "lrf") == 2 and shape.count("warmup_bias_lr", "box", "cls", "warmup_momentum", "momentum") >= 1


def _is_yolov5(shape: Shape) -> bool:
    return _is_yolo(shape) and shape.count("anchor_t", "cls_pw", "obj_pw") >= 1 and shape.count("task", "close_mosaic") == 0


def _yolo(shape: Shape, slots: Slots) -> None:
    name = next((str(entry.value).lower() for entry in shape.ending("optimizer")), "auto")
    if name == "auto":  # trainer.py sets name, rate and momentum itself
        drop(slots, "optimizer.name", "optimizer.lr", "optimizer.momentum")
    _momentum_is_beta1(name, slots)


def _yolov5(shape: Shape, slots: Slots) -> None:
    _momentum_is_beta1(next((str(entry.value).lower() for entry in shape.ending("optimizer")), "sgd"), slots)


def _momentum_is_beta1(name: str, slots: Slots) -> None:
    held = slots.get("optimizer.momentum")
    if held is not None and name in ("adam", "adamw", "adamax", "nadam", "radam"):
        drop(slots, "optimizer.momentum")
        slots["optimizer.beta1"] = type(held)(
            "optimizer.beta1", held.value, held.entry, held.context, "momentum is beta1 of Adam here"
        )


_YOLO = {"batch": "batch_size", "half": "", "lrf": "", "dropout": "", "scale": ""}
YOLOV5 = Dialect(
    "YOLOv5",
    _is_yolov5,
    _YOLO,
    {"optimizer.name": "SGD", "optimizer.nesterov": True, "optimizer.momentum": 0.937, "optimizer.weight_decay": 5e-4},
    _yolov5,
    casts=False,
)
ULTRALYTICS = Dialect("Ultralytics", _is_yolo, _YOLO, {"optimizer.weight_decay": 5e-4}, _yolo, casts=False)
