"""Config files of many dialects -> settings in one vocabulary, the optimizer they name, and patches of the user's file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from traindoctor.configs.dialects import interpret
from traindoctor.configs.discover import find_code, find_configs
from traindoctor.configs.documents import ParseError, parse, read_text
from traindoctor.configs.optimizer import optimizer_spec
from traindoctor.configs.patch import patch_for
from traindoctor.errors import ConfigError
from traindoctor.model import Damage, Setting

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["find_code", "find_configs", "load_settings", "optimizer_spec", "patch_for"]


def load_settings(files: Sequence[Path], root: Path, *, strict: bool = False) -> tuple[dict[str, Setting], list[Damage]]:
    """Return the settings of config files, later files overriding earlier ones, and what could not be read.

    The origin of a setting is the file, relative to `root`, and the line of its key: "config.yaml:12".

    Raises: ConfigError when `strict` and a file does not parse or is no mapping.
    """
    settings: dict[str, Setting] = {}
    damages: list[Damage] = []
    for path in files:
        name = _relative(path, root)
        try:
            slots = interpret(parse(read_text(path), path.suffix))
        except ParseError as error:
            if strict:
                where = f"{name}:{error.line}" if error.line else name
                raise ConfigError(where, error.reason, *_ways_out(path)) from None
            at = f"line {error.line}: " if error.line else ""
            damages.append(Damage("unreadable-config", name, f"{at}{error.reason}"))
            continue
        for setting, slot in slots.items():
            if slot.value is not None:
                settings[setting] = Setting(slot.value, f"{name}:{slot.entry.line}")
        if "optimizer.betas" in settings:  # a later file may have set one of the two alone
            first, second = settings["optimizer.beta1"].value, settings["optimizer.beta2"].value
            settings["optimizer.betas"] = Setting((first, second), settings["optimizer.betas"].origin)
    return settings, damages


def _relative(path: Path, root: Path) -> str:
    """Return the path from `root` as it was given; through links only where it does not lie under `root` otherwise."""
    plain = Path(os.path.relpath(path, root))
    return (Path(os.path.relpath(path.resolve(), root.resolve())) if ".." in plain.parts else plain).as_posix()


def _ways_out(path: Path) -> tuple[str, ...]:
    kind = {".json": "JSON", ".toml": "TOML"}.get(path.suffix.lower(), "YAML")
    return (
        f"correct the {kind} at that line",
        "name another file with --config FILE",
    )
