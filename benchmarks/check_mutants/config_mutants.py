"""Plants the defects of configs: a value exchanged, a line added, a key misspelt, in healthy configs of many dialects.

config_slots.toml says how each config writes a setting, config_defects.toml which settings make each row.
"""

from __future__ import annotations

import ast
import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

from source import Mutant

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
SEEDS = HERE / "config_seeds"

#: A value: a bracketed list, a quoted text, or what stands before a comma, a bracket, a quote or white space.
VALUE = r"""(\[[^\]]*\]|\([^)]*\)|"[^"\n]*"|'[^'\n]*'|[^\s,"')\]}#]+)"""


class Defect(NamedTuple):
    """What makes a row in one config: new values of settings, a line added behind the first, or keys typed wrongly.

    `also`: settings that the first is at odds with, so that a finding may as well stand there.
    """

    row: str
    values: dict[str, str]
    line: str = ""
    also: tuple[str, ...] = ()
    misspelt: tuple[str, str] | None = None


def slots() -> dict[str, dict[str, str]]:
    """Return, for each healthy config, the text before the value of each setting."""
    return tomllib.loads((HERE / "config_slots.toml").read_text(encoding="utf-8"))


def defects(name: str, settings: dict[str, str]) -> Iterator[Defect]:
    """Yield the defects that a config has the settings for."""
    for row, entries in tomllib.loads((HERE / "config_defects.toml").read_text(encoding="utf-8")).items():
        for entry in entries:
            values = entry.get("set", {})
            if name in entry.get("never", ()) or name not in entry.get("only", (name,)) or not set(values) <= set(settings):
                continue
            for in_turn in zip(*values.values(), strict=True):
                yield Defect(row, dict(zip(values, in_turn, strict=True)), entry.get("line", ""), tuple(entry.get("also", ())))
            for typed in entry.get("misspelt", {}).items():
                yield Defect(row, {}, misspelt=typed)


def config_mutants(folder: Path, only: str = "") -> Iterator[tuple[str, Mutant, Path, Path]]:
    """Write each mutant of a config into a folder of its own; yield seed, mutant, its file, and that of the healthy one."""
    for name, settings in slots().items():
        text = (SEEDS / name).read_text(encoding="utf-8")
        flat = name.replace("/", ".")
        healthy = _write(folder / f"healthy.{flat}", name, text)
        for i, defect in enumerate(d for d in defects(name, settings) if only in ("", d.row)):
            mutant = misspell(text, defect) if defect.misspelt else plant(text, settings, defect)
            if mutant.text != text:
                _read(name, mutant.text)
                yield name, mutant, _write(folder / f"{flat}.{i}", name, mutant.text), healthy


def plant(text: str, settings: dict[str, str], defect: Defect) -> Mutant:
    """Return the config with the values of a defect, and the lines they stand in."""
    edits = []
    for setting, value in defect.values.items():
        at = re.search(re.escape(settings[setting]) + VALUE, text)
        if at is None:
            raise ValueError(f"no {setting} in the config")
        new = value.replace("[", "(").replace("]", ")") if at[1].startswith("(") else value
        edits.append((at.start(1), at.end(1), new))
    lines = {text.count("\n", 0, start) + 1 for start, _, _ in edits}
    lines |= {
        text.count("\n", 0, at.start(1)) + 1 for s in defect.also if (at := re.search(re.escape(settings[s]) + VALUE, text))
    }
    if defect.line:
        first = edits[0][0]
        start, end = text.rindex("\n", 0, first) + 1, text.index("\n", first) + 1
        indent = re.match(r"[ \t]*", text[start:end])
        edits.append((end, end, f"{indent[0] if indent else ''}{defect.line}\n"))
        lines.add(text.count("\n", 0, end) + 1)
    changed = text
    for start, end, new in sorted(edits, reverse=True):
        changed = changed[:start] + new + changed[end:]
    form = ", ".join([*(f"{k}={v}" for k, v in defect.values.items()), *filter(None, [defect.line])])
    return Mutant(defect.row, form, changed, frozenset(lines))


def misspell(text: str, defect: Defect) -> Mutant:
    """Return the config with one key as someone typed it."""
    key, typed = defect.misspelt or ("", "")
    at = re.search(rf"\b{key}\b", text)
    if at is None:
        raise ValueError(f"no {key} in the config")
    changed = text[: at.start()] + typed + text[at.end() :]
    return Mutant(defect.row, typed, changed, frozenset({text.count("\n", 0, at.start()) + 1}))


def _read(name: str, text: str) -> None:
    """Raise where the planted text is no longer a config of its format."""
    kind = name.rsplit(".", 1)[1]
    {"json": json.loads, "toml": tomllib.loads, "py": ast.parse}.get(kind, yaml.safe_load)(text)


def _write(home: Path, name: str, text: str) -> Path:
    home.mkdir()
    file = home / Path(name).name
    if "/" in name:
        for neighbour in (SEEDS / name).parent.iterdir():
            shutil.copy(neighbour, home / neighbour.name)
    file.write_text(text, encoding="utf-8")
    return file
