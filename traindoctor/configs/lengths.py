"""How long a run, its warmup and its schedule are, as far as a config of a known dialect says so by itself.

Lengths count optimizer steps or epochs; two are compared only where they count the same. What a free-form config means by `steps`
is not known: there only keys that can mean nothing else have a length.

Source of the defaults: those of each dialect, in `frameworks/`.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from traindoctor.configs.documents import Entry  # noqa: TC001 -- a field of a named tuple
from traindoctor.configs.vocabulary import Slot, normal, number, truth
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from traindoctor.configs.file import ConfigFile

Unit = Literal["step", "epoch"]

TRAINER = frozenset({"Hugging Face TrainingArguments", "TRL", "LLaMA-Factory", "axolotl"})
#: Dialects whose keys of lengths do not mean what the vocabulary says, or are free-form.
_SILENT = frozenset({"W&B sweep", "Keras", "Stable-Baselines3", "Hugging Face accelerate", "Lightning hparams"})
#: Keys that mean steps of the run also in a config whose author names the keys.
_PLAINLY_STEPS = frozenset(
    [
        "max_steps",
        "max_iters",
        "max_iter",
        "total_iter",
        "total_iters",
        "train_steps",
        "max_train_steps",
        "total_steps",
        "num_training_steps",
        "num_train_steps",
        "training_steps",
    ]
)


class Length(NamedTuple):
    """A number of steps or epochs, its key as the config writes it, and its place; None for a default of the dialect."""

    value: float
    unit: Unit
    key: str
    what: Slot | Entry | None

    @property
    def text(self) -> str:
        """The length in words, "500 steps", with its key."""
        by_default = "" if self.what is not None else " by default"
        return f"{counted(self.value)} {self.unit}{'' if self.value == 1 else 's'} (`{self.key}`{by_default})"


def counted(value: float) -> str:
    """Return a count with its thousands set apart, and no more digits than it has."""
    return f"{int(value):,}" if float(value).is_integer() else f"{value:g}"


def is_free(config: ConfigFile) -> bool:
    """Whether the author of the config named its keys, so that a comparison of two is no proof."""
    return config.dialect in ("Hydra", "Lightning hparams", "")


def runs(config: ConfigFile) -> list[Length]:
    """Return how long the run is at most, in steps, in epochs, or both; nothing where the config does not say."""
    if config.dialect in _SILENT or config.is_base:
        return []
    if config.dialect == "Composer":
        return _timed(config, "max_duration")
    found = []
    epochs = _positive(config, "epochs", "epoch")
    steps = _positive(config, "steps", "step")
    if steps is not None and steps.what is None and epochs is not None:  # forks of Detectron2 that count epochs
        steps = None
    free = config.dialect in ("Hydra", "")  # where `max_iter` in an optimizer's block is that of L-BFGS
    in_optimizer = steps is not None and isinstance(steps.what, Slot) and steps.what.context == "optimizer"
    if steps is not None and not (free and (in_optimizer or normal(steps.key) not in _PLAINLY_STEPS)):
        found.append(steps)
    if epochs is not None:
        found.append(epochs)
        if config.dialect == "kohya" and steps is not None:  # max_train_epochs overrides max_train_steps
            found.remove(steps)
        each = config.at("max_steps_per_epoch") if config.dialect == "torchtune" else None
        n = number(each.value) if each is not None else None
        if each is not None and n is not None and n > 0:
            found.append(Length(n * epochs.value, "step", each.key, each))
    return found


def warmup(config: ConfigFile) -> Length | None:
    """Return how long the warmup is, where the config gives it in steps or epochs; None also for none at all."""
    if config.dialect in _SILENT or not decays_or_warms(config):
        return None
    if config.dialect == "Composer":
        return next(iter(_timed(config, "scheduler.t_warmup")), None)
    steps = _positive(config, "schedule.warmup_steps", "step")
    if steps is not None and not (is_free(config) and steps.key == "warmup") and not _may_be_of_play(config, steps):
        return steps
    return _positive(config, "schedule.warmup_epochs", "epoch")


def _may_be_of_play(config: ConfigFile, steps: Length) -> bool:
    """Whether a free-form config may mean random actions before the training begins, as configs of agents do."""
    own = isinstance(steps.what, Slot) and steps.what.context == "schedule"
    return not config.dialect and not own and not normal(steps.key).startswith(("lr_", "num_warmup", "warmup_iter", "warmup_upd"))


def horizon(config: ConfigFile) -> Length | None:
    """Return how long the decay of the rate is, where the config gives the schedule a length of its own."""
    if config.dialect in _SILENT or not decays_or_warms(config):
        return None
    if config.dialect == "Composer":
        return next(iter(_timed(config, "scheduler.t_max")), None)
    if config.dialect == "fairseq":
        return _entry_length(config, "step", "lr_scheduler.total_num_update", "total_num_update", "lr_scheduler.max_update")
    if config.dialect == "MMEngine":
        return _of_mmengine(config)
    if config.dialect in ("LightningCLI", "Hydra", ""):  # Lightning calls a schedule once an epoch unless told otherwise
        its = _positive(config, "schedule.total_steps", "epoch")
        return its if its is not None and (config.dialect == "LightningCLI" or its.key == "T_max") else None
    return _positive(config, "schedule.total_steps", "step")


def decays_or_warms(config: ConfigFile) -> bool:
    """Whether the rate follows a schedule: not where the config names a constant one, without a warmup, or switches it off."""
    name = str(config.value("schedule.name") or "").lower()
    return name.rpartition(".")[2] not in ("constant", "constantlr", "none", "fixed")


def longest(config: ConfigFile, unit: Unit) -> Length | None:
    """Return the length of the run in this unit."""
    return next((length for length in runs(config) if length.unit == unit), None)


def _positive(config: ConfigFile, setting: str, unit: Unit) -> Length | None:
    """Return a length that the file sets, or that its dialect sets by default; None for 0, and for what is left open."""
    slot = config.slot(setting)
    if slot is not None:
        value = number(slot.value)
        return Length(value, unit, slot.entry.key, slot) if value is not None and 0 < value < math.inf else None
    held = config.reading.slots.get(setting)
    default = config.reading.dialect.defaults.get(setting)
    if held is not None or not isinstance(default, int | float) or default <= 0:
        return None
    if setting == "schedule.warmup_steps" and config.slot("schedule.warmup_epochs") is not None:
        return None
    return Length(default, unit, _DEFAULT_KEYS.get((config.dialect, setting), setting.partition(".")[2] or setting), None)


_DEFAULT_KEYS = {
    ("Detectron2", "schedule.warmup_steps"): "WARMUP_ITERS",
    ("Detectron2", "steps"): "MAX_ITER",
    ("nanoGPT", "schedule.warmup_steps"): "warmup_iters",
    ("nanoGPT", "schedule.total_steps"): "lr_decay_iters",
    ("nanoGPT", "steps"): "max_iters",
}


def _entry_length(config: ConfigFile, unit: Unit, *paths: str) -> Length | None:
    entry = config.at(*paths)
    value = number(entry.value) if entry is not None else None
    return Length(value, unit, entry.key, entry) if entry is not None and value is not None and 0 < value < math.inf else None


_TIME = lazy(r"(\d{1,12})(ba|ep)")


def _timed(config: ConfigFile, path: str) -> list[Length]:
    """Return a length as Composer writes it: "4800ba" in batches, "2ep" in epochs."""
    entry = config.at(path)
    found = _TIME.fullmatch(str(entry.value).strip()) if entry is not None else None
    if entry is None or found is None or int(found.group(1)) == 0:
        return []
    return [Length(int(found.group(1)), "step" if found.group(2) == "ba" else "epoch", entry.key, entry)]


def _of_mmengine(config: ConfigFile) -> Length | None:
    """Return how far the one schedule of MMEngine reaches: its end, or else its length from where it begins."""
    if "in turn" in (slot.note if (slot := config.slot("schedule.name")) is not None else ""):
        return None
    unit: Unit = "step" if config.value("schedule.unit") == "step" else "epoch"
    end, length = config.slot("schedule.end"), config.slot("schedule.total_steps")
    begin = config.number("schedule.begin") or 0.0
    value = number(end.value) if end is not None else None
    if end is not None and value is not None:
        return Length(value, unit, end.entry.key, end)
    value = number(length.value) if length is not None else None
    return Length(begin + value, unit, length.entry.key, length) if length is not None and value is not None else None


# -- where the rate falls ---------------------------------------------------------------------------------------------


class Falls(NamedTuple):
    """The points at which a step schedule lowers the rate, and what they count."""

    points: tuple[float, ...]
    unit: Unit
    what: Slot | Entry | None


def falls(config: ConfigFile) -> Falls | None:
    """Return where a schedule of steps lowers the rate; None for any other schedule, and where the config does not say."""
    name = re.sub(r"[_.\s]", "", str(config.value("schedule.name") or "").lower())
    if config.dialect == "Detectron2":
        if name and "multistep" not in name:
            return None
        slot = config.slot("schedule.milestones")
        points = slot.value if slot is not None else (30_000,)
        in_epochs = slot is not None and config.slot("epochs") is not None and config.slot("steps") is None
        return Falls(tuple(points), "epoch" if in_epochs else "step", slot) if isinstance(points, tuple) else None
    if config.dialect == "Detectron2 LazyConfig":  # as shares of num_updates, whatever the run takes
        own, steps = config.at("lr_multiplier.scheduler.num_updates"), config.slot("steps")
        same = own is not None and steps is not None and own.value == steps.value
        return _listed(config, "step", "lr_multiplier.scheduler.milestones") if same else None
    if config.dialect == "mmcv":
        if str(config.value("schedule.name")).lower() != "step":
            return None
        by_epoch = config.at("lr_config.by_epoch")
        return _listed(config, "epoch" if by_epoch is None or truth(by_epoch.value) is not False else "step", "lr_config.step")
    if config.dialect not in ("MMEngine", "timm", "LightningCLI", "Hydra", ""):
        return None
    if not name.endswith(("multistep", "multisteplr")) and (config.dialect or name not in ("step", "steplr")):
        return None
    slot = config.slot("schedule.milestones")
    if slot is None or not isinstance(slot.value, tuple):
        return None
    by_step = config.value("schedule.unit") == "step" or (not config.dialect and config.slot("epochs") is None)
    unit: Unit = "step" if by_step else "epoch"
    return Falls(tuple(slot.value), unit, slot)


def _listed(config: ConfigFile, unit: Unit, *paths: str) -> Falls | None:
    entry = config.at(*paths)
    values = entry.value if entry is not None and isinstance(entry.value, list) else []
    points = tuple(value for one in values if (value := number(one)) is not None)
    return Falls(points, unit, entry) if points and len(points) == len(values) else None
