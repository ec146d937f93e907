"""Interpolations of OmegaConf between plain keys: `lr: ${optimizer.lr}` -> the value that stands there, with its place.

Only a value that is one interpolation and nothing else, of a key that exists once and is a scalar or a list of scalars.
Resolvers (`${oc.env:HOME}`), parts of a text and missing keys stay as they are.

Source: the grammar of interpolations, omegaconf.readthedocs.io, "Variable interpolation"; a leading dot is the block that
the value stands in, each further dot the one above.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traindoctor.configs.documents import Entry

_ONE = lazy(r"\$\{\s*(\.*)([A-Za-z_][\w-]*(?:(?:\.|\[)[\w-]+\]?)*)\s*\}")
#: How many interpolations one after the other are followed.
MAX_HOPS = 8


def resolved(entries: list[Entry]) -> list[Entry]:
    """Return the entries with interpolations of plain keys replaced by value, line and span of what they stand for."""
    if not any(isinstance(entry.value, str) and "${" in entry.value for entry in entries):
        return entries
    places = {entry.path: entry for entry in entries}
    return [_resolved(entry, places) for entry in entries]


def _resolved(entry: Entry, places: Mapping[tuple[str, ...], Entry]) -> Entry:
    target: Entry | None = entry
    for _ in range(MAX_HOPS):
        path = _path(target)
        if path is None:
            break
        target = places.get(path)
        if target is None:
            return entry
    if target is None or target is entry or _path(target) is not None:
        return entry
    return target._replace(path=entry.path, key_start=-1, interpolated=True)


def _path(entry: Entry | None) -> tuple[str, ...] | None:
    """Return the path of keys that an entry's value stands for; None when it is no interpolation."""
    if entry is None or not isinstance(entry.value, str) or len(entry.value) > 200:
        return None
    found = _ONE.fullmatch(entry.value.strip())
    if found is None:
        return None
    dots, name = found.groups()
    parts = tuple(part for part in re.split(r"[.\[\]]", name) if part)
    if not dots:
        return parts
    depth = len(entry.path) - len(dots)
    return (*entry.path[:depth], *parts) if depth >= 0 else None
