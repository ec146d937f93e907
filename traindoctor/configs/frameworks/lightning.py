"""Lightning: the config of LightningCLI, and `hparams.yaml` as its loggers save it.

Source: lightning.ai, "Configure hyperparameters from the CLI": `class_path` and `init_args`, or the class's name alone;
jsonargparse reads `3e-4` as a number. What a module takes as `lr` or `learning_rate` is taken for its optimizer's when the
config has no optimizer of its own. `hparams.yaml` is a dump of any mapping and is told by its name alone, when its keys
are no other dialect's.
"""

from __future__ import annotations

from traindoctor.configs.frameworks.dialect import Dialect, Shape, Slots, drop, read

_MODULE = {
    "optimizer.lr": ("lr", "learning_rate"),
    "optimizer.weight_decay": ("weight_decay", "wd"),
    "optimizer.name": ("optimizer", "optimizer_name", "optim"),
    "optimizer.momentum": ("momentum",),
    "schedule.warmup_steps": ("warmup_steps",),
}


def _is_cli(shape: Shape) -> bool:
    if not shape.has("trainer") or not shape.has("model"):
        return False
    inside = shape.count("accelerator", "devices", "max_epochs", "max_steps", "gradient_clip_val", "precision", "num_nodes")
    return ("class_path" in shape.keys and inside > 0) or (shape.has("seed_everything") and inside > 0)


def _is_cli_without_model(shape: Shape) -> bool:
    return shape.has("trainer") and (shape.has("optimizer.class_path") or shape.has("seed_everything"))


def _refine(shape: Shape, slots: Slots) -> None:
    if shape.value("trainer.gradient_clip_algorithm") == "value":
        drop(slots, "gradient.clip_norm")  # clips each value, not the norm
    for setting, keys in _MODULE.items():
        for key in keys:
            for block in ("model.init_args.", "model."):
                entry = shape.at.get(block + key)
                if entry is not None and setting not in slots:
                    read(slots, setting, entry)


_KEYS = {"optimizer.class_path": "optimizer.name", "lr_scheduler.class_path": "schedule.name"}
LIGHTNING_CLI = Dialect(
    "LightningCLI", lambda shape: _is_cli(shape) or _is_cli_without_model(shape), _KEYS, refine=_refine, builds=True
)
LIGHTNING_HPARAMS = Dialect("Lightning hparams", lambda shape: shape.name == "hparams.yaml")
