"""What a framework's configs look like: how they are told from others, what their keys mean, and what it sets unasked."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping  # noqa: TC003 -- fields of a named tuple
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.configs.documents import NOWHERE, plain_scalar
from traindoctor.configs.vocabulary import Slot, normal, value_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from traindoctor.configs.documents import Entry


class Shape:
    """The keys of one config, in lower case with underscores: what a dialect is told by.

    `at`: dotted path -> entry, the last of equal ones. `blocks`: dotted paths of blocks. `keys`: last keys of all paths.
    `name`: of the file, "" for what comes from a log.
    """

    def __init__(self, entries: Iterable[Entry], name: str = "") -> None:
        self.name = name.lower()
        self.at: dict[str, Entry] = {}
        self.blocks: set[str] = set()
        self.keys: set[str] = set()
        for entry in entries:
            parts = [normal(part) for part in entry.path]
            self.at[".".join(parts)] = entry
            self.keys.add(parts[-1])
            for n in range(1, len(parts)):
                self.blocks.add(".".join(parts[:n]))

    def has(self, *paths: str) -> bool:
        """Whether all of these are keys or blocks of the config, from the top."""
        return all(path in self.at or path in self.blocks for path in paths)

    def count(self, *keys: str) -> int:
        """Return how many of these keys stand anywhere in it."""
        return len(self.keys.intersection(keys))

    def value(self, path: str) -> object:
        """Return the value at a dotted path; None when there is none."""
        return self.at[path].value if path in self.at else None

    def ending(self, end: str) -> Iterable[Entry]:
        """Return the entries whose dotted path is `end` or ends in it after a dot."""
        return [entry for path, entry in self.at.items() if path == end or path.endswith(f".{end}")]


Slots = dict[str, Slot]


def _nothing_more(shape: Shape, slots: Slots) -> None:
    del shape, slots


class Dialect(NamedTuple):
    """The configs of one framework.

    `name`: as people call it. `is_it`: told from the keys alone. `keys`: end of a dotted path -> the setting it means
    here, "" for none. `defaults`: what the framework sets where the config does not. `refine`: what needs more than one
    key. `casts`: whether its loader, or the framework after it, reads `3e-4` in YAML as a number. `builds`: whether the
    optimizer is made from this config alone, so that its constructor's learning rate counts when none is set. `part`:
    whether it stands beside the config of another framework, whose dialect then counts.
    """

    name: str
    is_it: Callable[[Shape], bool]
    keys: Mapping[str, str] = {}
    defaults: Mapping[str, object] = {}
    refine: Callable[[Shape, Slots], None] = _nothing_more
    casts: bool = True
    builds: bool = False
    part: bool = False

    def setting_of(self, path: tuple[str, ...]) -> str | None:
        """Return the setting that a key means in this dialect, "" for none, and None where its own table is silent."""
        parts = [normal(part) for part in path]
        for n in range(len(parts)):
            if (setting := self.keys.get(".".join(parts[n:]))) is not None:
                return setting
        return None


def put(slots: Slots, setting: str, value: object, entry: Entry, note: str = "") -> None:
    """Set a setting to what was worked out from an entry; where that is not what stands there, no patch replaces it."""
    if note:
        entry = entry._replace(span=NOWHERE, items=(), key_start=-1)
    slots[setting] = Slot(setting, value, entry, "optimizer" if setting.startswith("optimizer.") else "", note)


def read(slots: Slots, setting: str, entry: Entry) -> None:
    """Set a setting to what an entry says, where it says anything."""
    value = value_of(setting, entry)
    if value is not None:
        slots[setting] = Slot(setting, value, entry, "")


def drop(slots: Slots, *settings: str) -> None:
    """Take settings away."""
    for setting in settings:
        slots.pop(setting, None)


def read_arguments(slots: Slots, entry: Entry) -> None:
    """Read `betas=0.9,0.99` and its like: constructor arguments as text, in a list or separated by blanks or commas."""
    values = entry.value if isinstance(entry.value, list) else [entry.value]
    for text in values:
        if not isinstance(text, str) or len(text) > 2_000:
            continue
        for key, written in re.findall(r"(\w+)\s*=\s*([\[(][^\])]*[\])]|[-+.\w]+(?:\s*,\s*[-+.\d][-+.\deE]*(?![\w=]))*)", text):
            setting = {
                "lr": "optimizer.lr",
                "betas": "optimizer.betas",
                "beta1": "optimizer.beta1",
                "beta2": "optimizer.beta2",
                "eps": "optimizer.eps",
                "weight_decay": "optimizer.weight_decay",
                "momentum": "optimizer.momentum",
                "nesterov": "optimizer.nesterov",
                "alpha": "optimizer.alpha",
                "amsgrad": "optimizer.amsgrad",
            }.get(key)
            if setting is None:
                continue
            one = entry._replace(path=(*entry.path, key), value=plain_scalar(written), span=NOWHERE, items=(), key_start=-1)
            value = value_of(setting, one)
            if value is not None:
                slots[setting] = Slot(setting, value, one, "optimizer")
                if setting == "optimizer.betas":
                    drop(slots, "optimizer.beta1", "optimizer.beta2")
