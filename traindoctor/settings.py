"""The user's settings: `[tool.traindoctor]` in the nearest pyproject.toml, or a traindoctor.toml."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traindoctor.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

KEYS = ("select", "ignore", "thresholds", "tags")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the user set. `source`: the file, "" when none was found.

    `thresholds`: code -> name -> value. `tags`: quantity -> the tags that may speak for it, best first.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    thresholds: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source: str = ""


def load_settings(path: Path | str) -> Settings:
    """Return the settings of the nearest file at or above `path`, else at or above the working directory, else none.

    traindoctor.toml wins over a pyproject.toml beside it; a pyproject.toml without the section does not count.

    Raises: ConfigError when a file does not parse, or holds a key or a value that is not known.
    """
    for start in (Path(path), Path.cwd()) if "://" not in str(path) else (Path.cwd(),):
        here = start.absolute()
        for folder in (here, *here.parents):
            for name in ("traindoctor.toml", "pyproject.toml"):
                file = folder / name
                if not file.is_file():
                    continue
                table = _section(file)
                if table is not None:
                    return read_settings(table, str(file))
    return Settings()


def _section(file: Path) -> Mapping[str, Any] | None:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(str(file), f"cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        if file.name == "pyproject.toml":
            return None  # not ours to complain about
        raise ConfigError(str(file), f"is not TOML: {error}") from error
    if file.name == "traindoctor.toml":
        return table
    tool = table.get("tool")
    section = tool.get("traindoctor") if isinstance(tool, dict) else None
    return section if isinstance(section, dict) else None


def read_settings(table: Mapping[str, Any], source: str) -> Settings:
    """Return settings from a parsed table.

    Raises: ConfigError for an unknown key, with the nearest known one, and for a value of the wrong kind.
    """
    for key in table:
        if key not in KEYS:
            near = difflib.get_close_matches(str(key), KEYS, 1, 0.5)
            ways = [f"did you mean {near[0]}?"] if near else [f"known keys: {', '.join(KEYS)}"]
            raise ConfigError(source, f"unknown key {key!r} in the settings of traindoctor", *ways)
    return Settings(
        select=tuple(c.upper() for c in _strings(table.get("select", []), "select", source)),
        ignore=tuple(c.upper() for c in _strings(table.get("ignore", []), "ignore", source)),
        thresholds=_thresholds(table.get("thresholds", {}), source),
        tags={
            str(quantity): _strings(tags, f"tags.{quantity}", source)
            for quantity, tags in _table(table.get("tags", {}), "tags", source).items()
        },
        source=source,
    )


def _strings(value: object, key: str, source: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ConfigError(source, f"{key} must be a list of strings", f'{key} = ["..."]')
    return tuple(value)


def _table(value: object, key: str, source: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(
            source, f"{key} must be a table", f"[{'tool.traindoctor.' if source.endswith('pyproject.toml') else ''}{key}]"
        )
    return value


def _thresholds(value: object, source: str) -> Mapping[str, Mapping[str, float]]:
    made: dict[str, dict[str, float]] = {}
    for code, limits in _table(value, "thresholds", source).items():
        made[code.upper()] = {}
        for name, number in _table(limits, f"thresholds.{code}", source).items():
            if isinstance(number, bool) or not isinstance(number, (int, float)):
                raise ConfigError(source, f"thresholds.{code}.{name} must be a number, not {number!r}")
            made[code.upper()][name] = float(number)
    return made
