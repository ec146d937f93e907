"""Hyperparameters that a log holds (TensorBoard hparams, W&B config, MLflow params) -> the one vocabulary of settings."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from traindoctor.configs.dialects import read_settings
from traindoctor.configs.documents import MAX_DEPTH, MAX_ENTRIES, Entry, plain_scalar, unwrapped
from traindoctor.configs.interpolation import resolved
from traindoctor.model import Setting
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_TEXT = 10_000
#: What printing an optimizer of PyTorch gives: `AdamW (\nParameter Group 0\n    lr: 0.001 ...`.
_PRINTED = lazy(r"([A-Za-z]\w{0,40}) \(\nParameter Group 0\n(.*?)(?:\n\nParameter Group 1|\n\)|\Z)", re.DOTALL)


def settings_from(mapping: Mapping[str, object], origin: str) -> dict[str, Setting]:
    """Return the settings that logged hyperparameters make, each with `origin`.

    `mapping`: nested, or flat with names such as `optimizer/lr` and `optimizer.lr`; a number written as text counts as one,
    as all values of MLflow are text. At most 20,000 values, 32 deep: the rest is not looked at.
    """
    entries: list[Entry] = []
    for entry in _entries(mapping):
        entries.append(entry)
        if len(entries) >= MAX_ENTRIES:
            break
    reading = read_settings(resolved(list(unwrapped(entries))))
    settings = {
        name: Setting(slot.value, noted(origin, slot.note)) for name, slot in reading.slots.items() if slot.value is not None
    }
    if settings and reading.dialect.name:
        settings["dialect"] = Setting(reading.dialect.name, origin)
    if settings and reading.open:
        settings["dialect.open"] = Setting(reading.open, origin)
    return settings


def noted(origin: str, note: str) -> str:
    """Return the place of a value, with how it was made of what stands there."""
    return f"{origin} ({note})" if note else origin


def _entries(mapping: Mapping[str, object]) -> Iterator[Entry]:
    pending: list[tuple[tuple[str, ...], object]] = [((), mapping)]
    while pending:
        path, value = pending.pop()
        value = _unpacked(value) if path else value
        if isinstance(value, dict) or hasattr(value, "items"):
            if len(path) < MAX_DEPTH:
                inner = [((*path, *_parts(str(key))), child) for key, child in list(value.items())[:MAX_ENTRIES]]
                pending += reversed(inner)
        elif isinstance(value, list | tuple) and any(isinstance(item, dict | list | tuple) for item in value):
            if len(path) < MAX_DEPTH:
                pending += reversed([((*path, str(i)), child) for i, child in enumerate(value[:MAX_ENTRIES])])
        elif path:
            yield Entry(path, list(value) if isinstance(value, tuple) else value, 0)


def _parts(name: str) -> tuple[str, ...]:
    """Return the keys of a dotted or slashed name."""
    parts = tuple(part for part in re.split(r"[/.]", name[:1_000]) if part)[:MAX_DEPTH]
    return parts or (name[:1_000] or "-",)


def _unpacked(value: object) -> object:
    """Return what a text stands for: a number, a switch, a mapping or a list, a printed optimizer; else the text."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return value
    text = value.strip()
    if text[:1] in "{[(" and len(text) > 1:
        try:
            literal = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return value
        return literal if isinstance(literal, dict | list | tuple) else value
    printed = _PRINTED.match(text)
    if printed is not None:
        lines = (line.partition(":") for line in printed.group(2).splitlines())
        return {"name": printed.group(1), **{key.strip(): rest.strip() for key, _, rest in lines if rest.strip()}}
    return plain_scalar(value)
