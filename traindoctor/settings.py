"""The user's settings: `[tool.traindoctor]` in the nearest pyproject.toml, or a traindoctor.toml."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from traindoctor.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

FILES = ("traindoctor.toml", "pyproject.toml")
KEYS = (
    "select",
    "extend-select",
    "ignore",
    "per-file-ignores",
    "exclude",
    "level",
    "fail-on",
    "baseline",
    "thresholds",
    "tags",
)
LEVELS = ("error", "warning", "info")


class Settings(NamedTuple):
    """What the user set, None or nothing where nothing. `source`: the file, "" when none was found.

    `select` and `ignore`: of `diagnose` and `check`, prefixes of codes. The others of `check`: `per_file_ignores` (pattern,
    codes) and `exclude` (patterns) are relative to the folder of the file, `level` and `fail_on` are severities.
    `thresholds`: code -> name -> value. `tags`: quantity -> the tags that may speak for it, best first.
    """

    select: tuple[str, ...] = ()
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    per_file_ignores: tuple[tuple[str, tuple[str, ...]], ...] = ()
    exclude: tuple[str, ...] = ()
    level: str = ""
    fail_on: str = ""
    baseline: str = ""
    thresholds: Mapping[str, Mapping[str, float]] = {}
    tags: Mapping[str, tuple[str, ...]] = {}
    source: str = ""

    @property
    def codes(self) -> set[str]:
        """All codes, and prefixes of codes, that are named."""
        named = {*self.select, *self.extend_select, *self.ignore, *self.thresholds}
        return named.union(*(codes for _, codes in self.per_file_ignores))

    @property
    def folder(self) -> Path:
        """The folder that patterns and paths of the file are relative to."""
        return Path(self.source).absolute().parent if self.source else Path.cwd()


def load_settings(path: Path | str) -> Settings:
    """Return the settings of the nearest file at or above `path`, else at or above the working directory, else none.

    traindoctor.toml wins over a pyproject.toml beside it; a pyproject.toml without the section does not count.

    Raises: ConfigError when a file does not parse, or holds a key or a value that is not known.
    """
    for start in (Path(path), Path.cwd()) if "://" not in str(path) else (Path.cwd(),):
        here = start.absolute()
        for folder in (here, *here.parents):
            settings = settings_in(folder)
            if settings is not None:
                return settings
    return Settings()


def settings_in(folder: Path) -> Settings | None:
    """Return the settings that a folder's own files hold; None where they hold none.

    Raises: ConfigError as `load_settings` does.
    """
    for name in FILES:
        file = folder / name
        if _is_file(file):
            settings = settings_of(file)
            if settings is not None:
                return settings
    return None


def _is_file(path: Path) -> bool:
    """Return whether a file is there; in a folder that is closed to us there is none."""
    try:
        return path.is_file()
    except PermissionError:
        return False


def settings_of(file: Path) -> Settings | None:
    """Return the settings in a file; None for a pyproject.toml without the section.

    Raises: ConfigError as `load_settings` does.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(str(file), f"cannot be read: {error.strerror}") from error
    if file.name == "pyproject.toml" and b"traindoctor" not in data:
        return None  # nearly all of them: the TOML reader is not imported for it
    import tomllib

    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        if file.name == "pyproject.toml":
            return None  # not ours to complain about
        raise ConfigError(str(file), f"is not TOML: {error}") from error
    if file.name != "pyproject.toml":
        return read_settings(table, str(file))
    tool = table.get("tool")
    section = tool.get("traindoctor") if isinstance(tool, dict) else None
    if section is None:
        return None
    if not isinstance(section, dict):
        raise ConfigError(str(file), "tool.traindoctor must be a table", "[tool.traindoctor]")
    return read_settings(section, str(file))


def read_settings(table: Mapping[str, Any], source: str) -> Settings:
    """Return settings from a parsed table.

    Raises: ConfigError for an unknown key, with the nearest known one, and for a value of the wrong kind.
    """
    for key in table:
        if key not in KEYS:
            ways = did_you_mean(str(key), KEYS) or (f"known keys: {', '.join(KEYS)}",)
            raise ConfigError(source, f"unknown key {key!r} in the settings of traindoctor", *ways)
    ignored = _table(table.get("per-file-ignores", {}), "per-file-ignores", source)
    return Settings(
        select=_codes(table, "select", source),
        extend_select=_codes(table, "extend-select", source),
        ignore=_codes(table, "ignore", source),
        per_file_ignores=tuple((pattern, _codes(ignored, pattern, source)) for pattern in ignored),
        exclude=_strings(table.get("exclude", []), "exclude", source),
        level=_one_of(table, "level", LEVELS, source),
        fail_on=_one_of(table, "fail-on", (*LEVELS, "never"), source),
        baseline=_string(table, "baseline", source),
        thresholds=_thresholds(table.get("thresholds", {}), source),
        tags={
            str(quantity): _strings(tags, f"tags.{quantity}", source)
            for quantity, tags in _table(table.get("tags", {}), "tags", source).items()
        },
        source=source,
    )


def _codes(table: Mapping[str, Any], key: str, source: str) -> tuple[str, ...]:
    return tuple(code.strip().upper() for code in _strings(table.get(key, []), key, source) if code.strip())


def _strings(value: object, key: str, source: str) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise ConfigError(source, f"{key} must be a list of strings", f'{key} = ["..."]')
    return tuple(value)


def _string(table: Mapping[str, Any], key: str, source: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise ConfigError(source, f"{key} must be a string", f'{key} = "..."')
    return value


def _one_of(table: Mapping[str, Any], key: str, known: tuple[str, ...], source: str) -> str:
    value = _string(table, key, source)
    if value and value not in known:
        raise ConfigError(source, f"{key} must be one of {', '.join(known)}, not {value!r}", f'{key} = "{known[1]}"')
    return value


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
