"""The one vocabulary of settings: which key of a config means which, whatever the framework, and how its value is read.

A key counts by its name and by the blocks it stands in. What one framework means by a key that others use otherwise
stands with that framework, in `frameworks/`.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

    from traindoctor.configs.documents import Entry

#: Blocks that only group.
GROUPS = frozenset(
    [
        "train",
        "training",
        "trainer",
        "params",
        "init_args",
        "config",
        "cfg",
        "hparams",
        "args",
        "kwargs",
        "hyperparameters",
        "hyper_parameters",
        "hyperparams",
        "optimization",
        "data",
        "dataset",
        "dataloader",
        "train_dataloader",
        "value",
        "values",
        "experiment",
        "run",
        "settings",
        "train_cfg",
        "training_args",
        "loop",
        "general",
        "common",
        "0",
    ]
)
OPTIMIZERS = frozenset(
    [
        "optimizer",
        "optim",
        "opt",
        "solver",
        "optimizer_config",
        "optimizer_params",
        "optimizer_args",
        "optimizer_kwargs",
        "optim_args",
        "optim_params",
        "optim_config",
        "optim_conf",
        "optim_cfg",
        "optimizer_conf",
        "optimizer_cfg",
        "optim_wrapper",
        "optimizers",
        "optimiser",
    ]
)
SCHEDULES = frozenset(
    [
        "scheduler",
        "lr_scheduler",
        "lr_scheduler_kwargs",
        "lr_schedule",
        "schedule",
        "sched",
        "lr_config",
        "learning_rate_schedule",
        "scheduler_params",
        "scheduler_conf",
        "scheduler_kwargs",
        "lr_scheduler_config",
        "schedulers",
        "param_scheduler",
    ]
)
GRADIENTS = frozenset(["gradient", "grad", "gradients", "clip_grad", "clip_gradients", "gradient_clipping", "clipping"])
LEARNING_RATES = frozenset({"lr", "learning_rate", "learningrate"})
PRECISIONS = frozenset({"fp16", "bf16", "amp", "mixed_precision"})

_NAME_KEYS = (
    "name type _target_ class_path class_name _component_ _name optimizer optim opt algorithm optimizer_name optimizer_type"
)
#: Keys by setting, in order of preference. What an optimizer's own block adds stands in the second table.
ANYWHERE = {
    "optimizer.name": "optimizer optim opt optimizer_type optimizer_name optim_name opt_name optim_type "
    "optimiser optimizer_class solver",
    "optimizer.lr": "lr learning_rate lr0 base_lr learningrate init_lr initial_lr optimizer_lr optim_lr "
    "initial_learning_rate lr_base blr",
    "optimizer.betas": "betas adam_betas opt_betas optimizer_betas",
    "optimizer.beta1": "beta1 beta_1 adam_beta1 adam_beta_1 adam_b1 one_minus_beta1 one_minus_beta_1",
    "optimizer.beta2": "beta2 beta_2 adam_beta2 adam_beta_2 adam_b2 one_minus_beta2 one_minus_beta_2",
    "optimizer.eps": "adam_epsilon adam_eps opt_eps optimizer_eps optimizer_epsilon eps epsilon",
    "optimizer.momentum": "momentum sgd_momentum",
    "optimizer.nesterov": "nesterov use_nesterov",
    "optimizer.alpha": "rmsprop_alpha alpha",
    "optimizer.weight_decay": "weight_decay wd adam_weight_decay l2",
    "optimizer.amsgrad": "amsgrad use_amsgrad",
    "schedule.name": "scheduler lr_scheduler lr_scheduler_type sched schedule lr_schedule lr_policy "
    "scheduler_type scheduler_name lr_decay_style",
    "schedule.warmup_steps": "warmup_steps lr_warmup_steps num_warmup_steps warmup_iters warmup_updates "
    "warmup_num_steps lr_warmup_iters warmup",
    "schedule.warmup_ratio": "warmup_ratio lr_warmup_ratio warmup_fraction lr_warmup_fraction warmup_proportion",
    "schedule.warmup_epochs": "warmup_epochs lr_warmup_epochs num_warmup_epochs",
    "schedule.total_steps": "lr_decay_iters lr_decay_steps num_training_steps total_num_steps decay_steps schedule_steps",
    "schedule.min_lr": "min_lr eta_min lr_min min_learning_rate",
    "schedule.min_lr_ratio": "min_lr_ratio min_lr_rate",
    "schedule.decay": "lr_decay lr_gamma lr_decay_rate gamma_lr decay_rate",
    "schedule.step_size": "lr_step_size",
    "schedule.milestones": "lr_milestones",
    "gradient.clip_norm": "clip_norm clip_grad_norm max_grad_norm grad_clip gradient_clip_val gradient_clipping "
    "clip_grad grad_norm_clip gradient_clip gradient_clip_norm global_clipnorm clipnorm "
    "max_norm grad_clip_norm clip_max_norm",
    "gradient.accumulation_steps": "gradient_accumulation_steps accumulate_grad_batches grad_accum accumulation_steps "
    "grad_accumulation_steps accum_steps grad_accum_steps gradient_accumulation accumulate "
    "update_freq",
    "batch_size": "batch_size per_device_train_batch_size train_batch_size micro_batch_size "
    "train_micro_batch_size_per_gpu global_batch_size mini_batch_size ims_per_batch batch "
    "bs batchsize",
    "precision": "mixed_precision fp16 bf16 amp use_amp half full_fp16 float16 precision param_dtype dtype",
    "seed": "seed random_seed manual_seed seed_everything rng_seed random_state",
    "epochs": "epochs max_epochs num_epochs num_train_epochs n_epochs total_epochs train_epochs nb_epochs max_epoch "
    "num_epoch epoch_num",
    "steps": "steps max_steps max_iters train_steps max_iter num_steps iterations max_train_steps "
    "total_steps num_iterations train_iters max_update training_steps num_train_steps "
    "n_iters total_iter total_iters",
    "framework": "framework backend",
}
IN_OPTIMIZER = {
    "optimizer.name": _NAME_KEYS,
    "optimizer.beta1": "b1",
    "optimizer.beta2": "b2",
    "optimizer.eps": "eps epsilon eps1 epsilon_1",
    "optimizer.alpha": "alpha rho smoothing_constant",
    "optimizer.decoupled": "decoupled_weight_decay",
    "optimizer.dampening": "dampening",
    "optimizer.centered": "centered",
    "optimizer.eps_root": "eps_root",
    "optimizer.momentum_decay": "momentum_decay",
    "optimizer.initial_accumulator": "initial_accumulator_value",
    "optimizer.lambd": "lambd",
    "optimizer.etas": "etas",
    "optimizer.step_sizes": "step_sizes",
    "optimizer.eps2": "eps2 epsilon_2",
    "optimizer.beta2_decay": "beta2_decay beta_2_decay",
    "optimizer.clip_threshold": "clip_threshold clipping_threshold",
    "optimizer.relative_step": "relative_step",
    "optimizer.scale_parameter": "scale_parameter multiply_by_parameter_scale",
    "optimizer.ns_steps": "ns_steps",
    "optimizer.adjust_lr": "adjust_lr_fn",
    "schedule.decay": "decay",
}
IN_SCHEDULE = {
    "schedule.name": _NAME_KEYS.replace("optimizer optim opt", "scheduler") + " policy",
    "schedule.total_steps": "total_steps t_max max_steps num_steps steps decay_steps first_decay_steps total_iters",
    "schedule.warmup_steps": "warmup_steps num_warmup_steps warmup warmup_iters warmup_num_steps",
    "schedule.warmup_ratio": "warmup_ratio warmup_fraction pct_start",
    "schedule.warmup_epochs": "warmup_epochs",
    "schedule.min_lr": "min_lr eta_min final_lr end_lr lr_end",
    "schedule.min_lr_ratio": "min_lr_ratio min_lr_rate",
    "schedule.decay": "gamma decay factor decay_rate",
    "schedule.step_size": "step_size step_size_up",
    "schedule.milestones": "milestones boundaries",
    "schedule.power": "power",
    "schedule.cycles": "num_cycles",
    "schedule.period": "t_0",
    "schedule.period_factor": "t_mult t_mul",
    "schedule.peak_lr": "max_lr",
    "schedule.decay_steps": "num_decay_steps",
    "optimizer.lr": "initial_learning_rate",
}
IN_GRADIENT = {
    "gradient.clip_norm": "clip_norm norm max_norm clip_value value",
    "gradient.accumulation_steps": "accumulation_steps accumulation",
}
#: Spellings that only Keras has.
KERAS_KEYS = frozenset({"class_name", "beta_1", "beta_2"})
#: Words that are no optimizer's alone: read outside its block only where a learning rate or optimizer stands beside them.
SHARED_WORDS = frozenset({"alpha", "eps", "epsilon", "momentum", "l2", "nesterov", "warmup"})

Table = dict[str, tuple[str, int]]


def _table(*parts: dict[str, str]) -> Table:
    table: Table = {}
    for part in reversed(parts):
        for setting, keys in part.items():
            for order, key in enumerate(keys.split()):
                table[key] = (setting, order)
    return table


ANYWHERE_KEYS = _table(ANYWHERE)
OPTIMIZER_KEYS = _table(IN_OPTIMIZER, ANYWHERE)
SCHEDULE_KEYS = _table(IN_SCHEDULE)
GRADIENT_KEYS = _table(IN_GRADIENT)


class Slot(NamedTuple):
    """The place of one setting in a file, and the value it reads there; None for a value that says nothing (`auto`)."""

    setting: str
    value: object
    entry: Entry
    context: str = ""  # "optimizer", "schedule", "gradient", "" for the blocks that group
    note: str = ""  # how the value was made from what stands there, where it is not just read

    @property
    def key(self) -> str:
        """The key in lower case, with underscores."""
        return normal(self.entry.key)


def normal(key: str) -> str:
    """Return a key in lower case, with underscores."""
    return key.strip().lower().replace("-", "_").lstrip("-")


# -- values -----------------------------------------------------------------------------------------------------------


def number(value: object) -> float | None:
    """Return a value as a number, also when it is written as text; None for a bool, NaN and what is no number."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        try:
            result = float(value)
        except OverflowError:
            return None
    elif isinstance(value, str):
        try:
            result = float(value.strip().replace("_", ""))
        except ValueError:
            return None
    elif isinstance(value, list | tuple) and len(value) == 1:
        return number(value[0])
    else:
        return None
    return None if math.isnan(result) else result


def whole(value: object) -> int | None:
    """Return a value as a whole number; None when it is none, or negative (-1 is "unset")."""
    result = number(value)
    return int(result) if result is not None and math.isfinite(result) and result >= 0 and result == int(result) else None


def pair(value: object) -> tuple[float, float] | None:
    """Return two numbers from a list, or from text such as "(0.9, 0.98)"; None otherwise."""
    if isinstance(value, str):
        value = [part for part in re.split(r"[\s,]+", value.strip().strip("()[]").strip()) if part]
    if isinstance(value, list | tuple) and len(value) in (2, 3):
        first, second = number(value[0]), number(value[1])
        if first is not None and second is not None:
            return first, second
    return None


def whole_numbers(value: object) -> tuple[int, ...] | None:
    """Return whole numbers from a list, or from text such as "30,60"; None when one of them is none."""
    if isinstance(value, str):
        value = [part for part in re.split(r"[\s,]+", value.strip().strip("()[]").strip()) if part]
    read = [whole(one) for one in value] if isinstance(value, list | tuple) else []
    known = tuple(one for one in read if one is not None)
    return known if known and len(known) == len(read) else None


def truth(value: object) -> bool | None:
    """Return a value as a bool, also 0, 1, "true" and "False"."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    if isinstance(value, str):
        return {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}.get(
            value.strip().lower()
        )
    return None


def word(value: object) -> str | None:
    """Return a value that is a name; None for interpolations (`${...}`), "auto" and what is no text."""
    if not isinstance(value, str) or "${" in value or len(value) > 200 or "\n" in value:
        return None
    return value.strip() if value.strip().lower() not in ("", "auto", "none", "null", "default") else None


_MIXED = {"fp16": "16-mixed", "float16": "16-mixed", "16": "16-mixed", "bf16": "bf16-mixed", "bfloat16": "bf16-mixed"}


def _precision(key: str, value: object) -> str | None:
    """Return the precision as the user wrote it, or in the words of Lightning where a switch stands for it."""
    on = truth(value) if not isinstance(value, int) or isinstance(value, bool) else None
    text = str(value).strip().lower() if isinstance(value, str | int) and not isinstance(value, bool) else ""
    text = text.removeprefix("torch.").removeprefix("jnp.").removeprefix("np.")
    if key in ("half", "full_fp16", "float16"):
        return "float16" if on else None
    if key in ("fp16", "amp", "use_amp", "bf16"):
        return ("bf16-mixed" if key == "bf16" else "16-mixed") if on else None
    if text.startswith("amp_"):  # Composer
        return _MIXED.get(text.removeprefix("amp_"))
    if key == "mixed_precision":
        return "16-mixed" if on else _MIXED.get(text)
    if text in ("", "auto") or "${" in text or on is not None:
        return None
    if key == "precision" and text == "16":  # Lightning: mixed
        return "16-mixed"
    return text


def _on(value: object) -> bool | None:
    """Return True for a switch that is on; off is what every framework does unasked, and says nothing."""
    return truth(value) or None


_READ: dict[str, Callable[[object], object]] = {
    "optimizer.name": word,
    "optimizer.betas": pair,
    "optimizer.nesterov": truth,
    "optimizer.amsgrad": truth,
    "optimizer.decoupled": truth,
    "optimizer.centered": _on,
    "optimizer.relative_step": truth,
    "optimizer.scale_parameter": truth,
    "optimizer.etas": pair,
    "optimizer.step_sizes": pair,
    "optimizer.ns_steps": whole,
    "optimizer.adjust_lr": word,
    "schedule.name": word,
    "schedule.unit": word,
    "schedule.warmup_steps": whole,
    "schedule.warmup_type": word,
    "schedule.total_steps": whole,
    "schedule.step_size": whole,
    "schedule.milestones": whole_numbers,
    "schedule.period": whole,
    "schedule.decay_steps": whole,
    "gradient.accumulation_steps": whole,
    "batch_size": whole,
    "seed": whole,
    "epochs": number,
    "steps": whole,
    "framework": word,
}


def value_of(setting: str, entry: Entry) -> object:
    """Return what an entry says of a setting; None when it says nothing that can be used."""
    key, value = normal(entry.key), entry.value
    if setting == "precision":
        return _precision(normal(entry.path[-2]) if key == "enabled" and len(entry.path) > 1 else key, value)
    if key.startswith("one_minus"):
        rest = number(value)
        return None if rest is None else 1.0 - rest
    read = _READ.get(setting, number)(value)
    if setting == "epochs" and isinstance(read, float):
        return (int(read) if read == int(read) else read) if math.isfinite(read) and read >= 0 else None
    return read
