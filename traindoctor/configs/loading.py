"""Config files on disk -> their settings in the one vocabulary, each with its origin, and what could not be read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from traindoctor.configs.dialects import read_settings
from traindoctor.configs.documents import ParseError
from traindoctor.configs.inherit import read_config
from traindoctor.configs.logged import noted
from traindoctor.errors import ConfigError
from traindoctor.model import Damage, Setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.configs.dialects import Reading
    from traindoctor.configs.vocabulary import Slot


def load_settings(files: Sequence[Path], root: Path, *, strict: bool = False) -> tuple[dict[str, Setting], list[Damage]]:
    """Return the settings of config files, later files overriding earlier ones, and what could not be read or is doubtful.

    The origin of a setting is the file, relative to `root`, and the line of its key: "config.yaml:12"; of a base that the
    file inherits from where it stands there. "dialect" is the framework whose config it is, where that can be told, and
    "dialect.open" names the settings that it leaves to something else ("auto", an interpolation that is not resolved).

    Raises: ConfigError when `strict` and a file does not parse or is no mapping.
    """
    settings: dict[str, Setting] = {}
    damages: list[Damage] = []
    for path in files:
        name = _relative(path, root)
        try:
            document = read_config(path, root)
            reading = read_settings(document.entries, path.name)
        except ParseError as error:
            if strict:
                where = f"{name}:{error.line}" if error.line else name
                raise ConfigError(where, error.reason, *_ways_out(path)) from None
            at = f"line {error.line}: " if error.line else ""
            damages.append(Damage("unreadable-config", name, f"{at}{error.reason}"))
            continue
        damages += [Damage(note.kind, name, f"line {note.line}: {note.detail}") for note in document.notes]
        damages += _texts(reading, path, name)
        found = {setting: slot for setting, slot in reading.slots.items() if slot.value is not None}
        for setting, slot in found.items():
            file = name if slot.entry.file is None else _relative(slot.entry.file, root)
            settings[setting] = Setting(slot.value, noted(f"{file}:{slot.entry.line}", slot.note))
        if found and not (reading.dialect.part and "dialect" in settings):
            _tell(settings, reading, name)
        if "optimizer.betas" in settings:  # a later file may have set one of the two alone
            first, second = settings["optimizer.beta1"].value, settings["optimizer.beta2"].value
            settings["optimizer.betas"] = Setting((first, second), settings["optimizer.betas"].origin)
    return settings, damages


def _tell(settings: dict[str, Setting], reading: Reading, place: str) -> None:
    """Add which dialect the settings are in, and what it leaves open."""
    if reading.dialect.name:
        settings["dialect"] = Setting(reading.dialect.name, place)
        settings.pop("dialect.open", None)
    if reading.open:
        settings["dialect.open"] = Setting(reading.open, place)


def _texts(reading: Reading, path: Path, name: str) -> Iterator[Damage]:
    """Yield a note for each setting that is a number here and text to PyYAML, where nothing after it is known to cast it."""
    if reading.dialect.casts or path.suffix.lower() not in (".yaml", ".yml"):
        return
    told: set[tuple[str, ...]] = set()
    for slot in reading.slots.values():
        if slot.entry.as_text and slot.entry.path not in told and slot.value is not None:
            told.add(slot.entry.path)
            yield Damage("number-as-text", name, _as_text(slot))


def _as_text(slot: Slot) -> str:
    key, value = ".".join(slot.entry.path), slot.entry.value
    return (
        f"line {slot.entry.line}: `{key}` is read as the number {value}, but PyYAML, which follows YAML 1.1, reads text: "
        "it wants a dot, and a sign in the exponent (1.0e-4)"
    )


def _relative(path: Path, root: Path) -> str:
    """Return the path from `root` as it was given; through links only where it does not lie under `root` otherwise."""
    if not (isinstance(path, os.PathLike) and isinstance(root, os.PathLike)):  # a log, or its config, at a URL
        return path.relative_to(root).as_posix() if root in path.parents else str(path)
    plain = Path(os.path.relpath(path, root))
    return (Path(os.path.relpath(path.resolve(), root.resolve())) if ".." in plain.parts else plain).as_posix()


def _ways_out(path: Path) -> tuple[str, ...]:
    kind = {".json": "JSON", ".toml": "TOML", ".py": "Python"}.get(path.suffix.lower(), "YAML")
    return (
        f"correct the {kind} at that line",
        "name another file with --config FILE",
    )
