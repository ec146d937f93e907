"""Every setting of a run, and those in which two runs differ: the one vocabulary, and the keys that have no word in it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from traindoctor.configs.dialects import read_settings
from traindoctor.configs.documents import ParseError
from traindoctor.configs.inherit import read_config
from traindoctor.configs.optimizer import normal_name
from traindoctor.model import OptimizerSpec, Setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from traindoctor.model import Run

#: What a run's settings hold beside settings: in which framework's words a config speaks, and a pair that stands there twice.
BOOKKEEPING = frozenset({"dialect", "dialect.open", "framework", "optimizer.betas", "optimizer.dialect"})
#: What a setting that is not set is as good as.
NEUTRAL: Mapping[str, object] = {
    "gradient.accumulation_steps": 1,
    "gradient.clip_norm": 0,
    "optimizer.amsgrad": False,
    "optimizer.momentum": 0,
    "optimizer.nesterov": False,
    "optimizer.weight_decay": 0,
    "schedule.name": "constant",
    "schedule.warmup_epochs": 0,
    "schedule.warmup_ratio": 0,
    "schedule.warmup_steps": 0,
}
#: Words of keys that say where a run is kept and how it is shown, not how it is trained.
KEPT_AND_SHOWN = frozenset(
    {
        *(
            "output_dir",
            "out_dir",
            "outdir",
            "output_path",
            "log_dir",
            "logdir",
            "logging_dir",
            "save_dir",
            "work_dir",
            "workdir",
        ),
        *("run_name", "exp_name", "experiment", "experiment_name", "job_name", "run_id", "tags", "notes", "comment", "version"),
        *("log_every", "log_interval", "log_freq", "log_steps", "logging_steps", "log_every_n_steps", "print_freq", "verbose"),
        *("save_steps", "save_every", "save_interval", "save_total_limit", "report_to", "logger", "wandb", "tensorboard"),
    }
)


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting in which two runs differ. `good`, `bad`: what each has, None where it is not set and no default is known.

    `known`: whether `key` is a word of the one vocabulary; else it is the dotted path of a key in the config.
    """

    key: str
    good: Setting | None
    bad: Setting | None
    known: bool = True


def known_settings(run: Run) -> dict[str, Setting]:
    """Return the settings of a run in the one vocabulary: defaults of its optimizer filled in, its name spelt in one way."""
    made = {key: setting for key, setting in run.settings.items() if key not in BOOKKEEPING and setting.value is not None}
    spec = run.optimizer
    for field in fields(OptimizerSpec) if spec is not None else ():
        key, value = f"optimizer.{field.name}", getattr(spec, field.name)
        if field.name != "origin" and value is not None and key not in BOOKKEEPING:
            made.setdefault(key, Setting(value, (spec.origin if spec is not None else {}).get(field.name, "")))
    name = made.get("optimizer.name")
    if name is not None and isinstance(name.value, str):
        made["optimizer.name"] = Setting(normal_name(name.value), name.origin)
    return made


def other_settings(root: Path, config_files: Sequence[str]) -> dict[str, Setting]:
    """Return the keys of config files that have no word in the vocabulary, by dotted path; later files override earlier ones.

    What cannot be read is left out: reading the run has told of it.
    """
    made: dict[str, Setting] = {}
    for name in config_files:
        path = root / name
        try:
            document = read_config(path, root)
            reading = read_settings(document.entries, path.name)
        except (ParseError, OSError):
            continue
        told = {slot.entry.path for slot in reading.slots.values()}
        for entry in document.entries:
            if entry.path not in told:
                made[".".join(entry.path)] = Setting(entry.value, f"{name}:{entry.line}")
    return made


def differences(
    good: Mapping[str, Setting], bad: Mapping[str, Setting], *, known: bool, comparable: bool = True
) -> tuple[Difference, ...]:
    """Return the settings in which two runs differ, sorted by key; one that is not set differs from no neutral value.

    `comparable`: whether a key that one of them lacks is a difference: where one has no config, nothing is known of it.
    """
    made = []
    for key in sorted(good.keys() | bad.keys()):
        ours, theirs = good.get(key), bad.get(key)
        if (ours is None or theirs is None) and not comparable:
            continue
        values = [NEUTRAL.get(key) if s is None else s.value for s in (ours, theirs)]
        if not same(*values):
            made.append(Difference(key, ours, theirs, known))
    return tuple(made)


def same(a: object, b: object) -> bool:
    """Return whether two values are one: numbers by value, words without regard to case, lists by their elements."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if is_number(a) and is_number(b):
        return a == b or (a != a and b != b)
    if isinstance(a, str) and isinstance(b, str):
        return a.strip().lower() == b.strip().lower()
    return type(a) is type(b) and a == b


def is_number(value: object) -> bool:
    """Return whether a value is a number; a switch is none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_kept_or_shown(key: str) -> bool:
    """Return whether a key of a config says where a run is kept or how it is shown."""
    parts = [part.lower().replace("-", "_") for part in key.split(".")]
    return bool(KEPT_AND_SHOWN.intersection(parts)) or parts == ["name"] or parts == ["project"]
