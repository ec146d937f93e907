"""Keras, kohya's scripts for diffusion models, Stable-Baselines3, and what is no config of one run.

Source: keras, optimizers/base_optimizer.py, `get_config`; sd-scripts, library/train_util.py (`optimizer_args` is a list of
"k=v"; `lr_warmup_steps` below 1 is a ratio; `max_grad_norm` 0 is off; sections of the TOML are only for people);
stable-baselines3, the constructors of its algorithms and common/policies.py (Adam with eps 1e-5); rl-baselines3-zoo
("lin_2.5e-4" falls linearly to 0); docs.wandb.ai, "Sweep configuration".
"""

from __future__ import annotations

from traindoctor.configs.frameworks.dialect import Dialect, Shape, Slots, drop, put, read, read_arguments
from traindoctor.configs.vocabulary import number


def _is_keras(shape: Shape) -> bool:
    if "class_name" not in shape.keys:
        return False
    return any(path.endswith(("config.learning_rate", "config.beta_1", "config.clipnorm")) for path in (*shape.at, *shape.blocks))


def _keras(shape: Shape, slots: Slots) -> None:
    block = next(
        (path[: -len("config.learning_rate")] for path in (*shape.at, *shape.blocks) if path.endswith("config.learning_rate")), ""
    )
    name = shape.at.get(block + "class_name")
    if name is not None and isinstance(name.value, str):
        put(slots, "optimizer.name", name.value, name)
        put(slots, "framework", "keras", name)


KERAS = Dialect("Keras", _is_keras, {"registered_name": "", "config.name": ""}, refine=_keras, builds=True)


def _is_kohya(shape: Shape) -> bool:
    own = (
        "network_dim", "network_module", "network_alpha", "unet_lr", "text_encoder_lr", "optimizer_args", "cache_latents",
        "full_fp16", "full_bf16",
    )  # fmt: skip
    more = ("lr_warmup_steps", "max_train_steps", "max_train_epochs", "min_snr_gamma", "sdpa", "xformers", "optimizer_type")
    return (
        shape.count(*own) >= 1
        and shape.count(*own, *more) >= 3
        and "pretrained_model_name_or_path" in shape.keys | {"pretrained_model_name_or_path" if shape.count(*own) >= 2 else ""}
    )


def _kohya(shape: Shape, slots: Slots) -> None:
    for entry in shape.ending("optimizer_args"):
        read_arguments(slots, entry)
    for entry in shape.ending("lr_warmup_steps"):
        share = number(entry.value)
        if share is not None and 0.0 < share < 1.0:
            put(slots, "schedule.warmup_ratio", share, entry)
            drop(slots, "schedule.warmup_steps")
    if "optimizer.lr" not in slots:
        for entry in shape.ending("unet_lr"):
            read(slots, "optimizer.lr", entry)


_ANY_SECTION = {
    "optimizer_type": "optimizer.name",
    "learning_rate": "optimizer.lr",
    "lr_scheduler": "schedule.name",
    "lr_warmup_steps": "schedule.warmup_steps",
    "lr_scheduler_num_cycles": "schedule.cycles",
    "max_grad_norm": "gradient.clip_norm",
    "gradient_accumulation_steps": "gradient.accumulation_steps",
    "train_batch_size": "batch_size",
    "batch_size": "",
    "max_train_steps": "steps",
    "max_train_epochs": "epochs",
    "mixed_precision": "precision",
    "full_fp16": "",
    "seed": "seed",
    "optimizer_args": "",
}
KOHYA = Dialect(
    "kohya",
    _is_kohya,
    _ANY_SECTION,
    {"optimizer.name": "AdamW", "optimizer.lr": 2e-6, "schedule.name": "constant", "gradient.clip_norm": 1.0},
    _kohya,
)


def _is_sb3(shape: Shape) -> bool:
    own = (
        "n_timesteps",
        "n_steps",
        "gae_lambda",
        "ent_coef",
        "vf_coef",
        "clip_range",
        "n_envs",
        "learning_starts",
        "buffer_size",
        "train_freq",
    )
    return shape.count(*own) >= 2 and shape.count("policy", "algo", "policy_kwargs", "normalize", "n_timesteps") >= 1


def _sb3(shape: Shape, slots: Slots) -> None:
    for entry in shape.ending("learning_rate"):
        text = str(entry.value)
        rate = number(text.removeprefix("lin_")) if text.startswith("lin_") else None
        if rate is not None:
            put(slots, "optimizer.lr", rate, entry, "falls linearly to 0")
            put(slots, "schedule.name", "linear", entry, "lin_")
        elif "optimizer.lr" not in slots and number(entry.value) is not None:
            read(slots, "optimizer.lr", entry)
    ppo = next(
        (entry for key in ("clip_range", "algo") for entry in shape.ending(key) if key != "algo" or entry.value == "ppo"), None
    )
    if (
        ppo is not None
        and "optimizer.name" not in slots
        and not any("optimizer" in str(e.value) for e in shape.ending("policy_kwargs"))
    ):
        put(slots, "optimizer.name", "Adam", ppo, "the optimizer of PPO")
        put(slots, "optimizer.eps", 1e-5, ppo, "as PPO sets it")


SB3 = Dialect(
    "Stable-Baselines3",
    _is_sb3,
    {"n_epochs": "", "gamma": "", "eval_episodes": "", "track": "", "hyperparams.learning_rate": "optimizer.lr"},
    refine=_sb3,
    casts=False,
)

#: Ranges to search, no run's settings.
SWEEP = Dialect(
    "W&B sweep",
    lambda shape: shape.has("parameters", "method") and "metric" not in shape.at,
    refine=lambda _, slots: slots.clear(),
)
PLAIN = Dialect("", lambda _: True, casts=False)
