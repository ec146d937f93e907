"""The entries of a config file, in whatever dialect -> the one vocabulary of settings.

A key counts by its name and by the blocks it stands in: blocks that only group (`train:`, `params:`, `init_args:`) are
looked through, blocks of an optimizer or schedule give short keys (`name`, `eps`) their meaning, and below any other
block (`model:`) only an optimizer's or a schedule's own block is read. Of several optimizers the first is taken; of
several parameter groups the first too, and the others stand beside it with their number ("optimizer.1.lr"). What a
framework means by a key otherwise stands with that framework, in `frameworks/`, and comes first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.configs.frameworks import PLAIN, Dialect, Shape, dialect_of
from traindoctor.configs.vocabulary import (
    ANYWHERE_KEYS,
    GRADIENT_KEYS,
    GRADIENTS,
    GROUPS,
    KERAS_KEYS,
    LEARNING_RATES,
    OPTIMIZER_KEYS,
    OPTIMIZERS,
    PRECISIONS,
    SCHEDULE_KEYS,
    SCHEDULES,
    SHARED_WORDS,
    Slot,
    normal,
    value_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from traindoctor.configs.documents import Entry

#: How many optimizers beside the first are read.
MAX_FURTHER = 8
PARAMETER_GROUPS = frozenset({"param_groups", "parameter_groups", "params_groups"})

_Rank = tuple[int, int, int, int, int]


class Reading(NamedTuple):
    """The dialect of a config, and its settings by name of the one vocabulary, with the place of each."""

    dialect: Dialect
    slots: dict[str, Slot]

    @property
    def open(self) -> tuple[str, ...]:
        """The settings that the config leaves to something else ("auto", an interpolation): no default stands for them."""
        left = {setting for setting, slot in self.slots.items() if slot.value is None and _is_open(slot.entry.value)}
        if "optimizer.betas" in left:
            left |= {"optimizer.beta1", "optimizer.beta2"} - {s for s, slot in self.slots.items() if slot.value is not None}
        return tuple(sorted(left))


def _is_open(value: object) -> bool:
    return isinstance(value, str) and ("${" in value or value.strip().lower() == "auto")


def interpret(entries: Iterable[Entry]) -> dict[str, Slot]:
    """Return the settings that a file makes, by name of the one vocabulary, with the place of each."""
    return read_settings(entries).slots


def read_settings(entries: Iterable[Entry], name: str = "") -> Reading:
    """Return the dialect of a config and the settings it makes; `name`, of its file, breaks ties between dialects."""
    entries = list(entries)
    dialect = dialect_of(entries, name)
    slots = _slots(entries, dialect)
    dialect.refine(Shape(entries, name), slots)
    spelt = next((slot for slot in slots.values() if slot.key in KERAS_KEYS and slot.setting.startswith("optimizer.")), None)
    if spelt is not None and "framework" not in slots and dialect is PLAIN:
        slots["framework"] = Slot("framework", "keras", spelt.entry, spelt.context)
    slots.update({setting: slot for setting, slot in _further_groups(entries).items() if setting not in slots})
    return Reading(dialect, _with_both_betas(slots))


def _slots(entries: list[Entry], dialect: Dialect) -> dict[str, Slot]:
    """Return the settings by the tables of the dialect and of the vocabulary."""
    anchors, built = _learning_blocks(entries), _built_blocks(entries)
    ranked: dict[str, tuple[_Rank, Slot]] = {}
    home: tuple[int, tuple[str, ...]] | None = None
    found: list[tuple[_Rank, tuple[str, ...], Slot]] = []
    for entry in entries:
        context, block, strangers = _context(entry, built)
        setting, order, own = dialect.setting_of(entry.path), 0, 1
        if setting is not None:
            own, context = 0, context or ("optimizer" if setting.startswith("optimizer.") else "")
        elif context is not None:
            setting, order = _by_tables(entry, context, anchors)
        if not setting:
            continue
        value = value_of(setting, entry)
        # A value before none, the dialect's own keys before the rest, the optimizer's own block, then what fewer strange
        # blocks enclose; a repeated key: the last.
        owns = context == setting.partition(".")[0] or context == "learning rate"
        rank = (int(value is None), own, int(not owns), strangers, order)
        slot = Slot(setting, value, entry, context or "")
        found.append((rank, block, slot))
        if context == "optimizer" and block and value is not None and (home is None or strangers < home[0]):
            home = strangers, block
    first_block = home[1] if home is not None else None
    others: list[tuple[tuple[str, ...], Slot]] = []
    for rank, block, slot in found:
        if slot.context in ("optimizer", "learning rate") and block and first_block is not None and block != first_block:
            others.append((block, slot))
            continue
        known = ranked.get(slot.setting)
        if known is None or rank < known[0] or (rank == known[0] and slot.entry.path == known[1].entry.path):
            ranked[slot.setting] = (rank, slot)
    slots = {setting: slot for setting, (_, slot) in ranked.items()}
    return slots | _of_its_likes(slots, others)


def _of_its_likes(slots: dict[str, Slot], others: list[tuple[tuple[str, ...], Slot]]) -> dict[str, Slot]:
    """Return the settings of further optimizers of the same class as the first, numbered like parameter groups, from 100 on."""
    first = slots.get("optimizer.name")
    names = {block: str(slot.value) for block, slot in others if slot.setting == "optimizer.name" and slot.value is not None}
    its = [block for block, name in names.items() if first is not None and name == first.value][:MAX_FURTHER]
    made: dict[str, Slot] = {}
    for block, slot in others:
        field = slot.setting.partition(".")[2]
        if block in its and field != "name" and slot.value is not None and slot.setting.startswith("optimizer."):
            number = 100 + its.index(block)
            made[f"optimizer.{number}.{field}"] = slot._replace(setting=f"optimizer.{number}.{field}")
    return made


def _by_tables(entry: Entry, context: str, anchors: frozenset[tuple[str, ...]]) -> tuple[str, int]:
    """Return the setting that a key means by the tables of the vocabulary, "" for none, and how much it is preferred."""
    key = normal(entry.key)
    if context == "learning rate":
        if key in ("name", "type", "class_name"):
            return "schedule.name", 0
        return ("optimizer.lr", 0) if key in ("learning_rate", "base_lr") else SCHEDULE_KEYS.get(key, ("", 0))
    if context == "precision":
        return ("precision", 0) if key == "enabled" else ("", 0)
    if context == "" and key in SHARED_WORDS and entry.block not in anchors:
        return "", 0
    return {"optimizer": OPTIMIZER_KEYS, "schedule": SCHEDULE_KEYS, "gradient": GRADIENT_KEYS}.get(context, ANYWHERE_KEYS).get(
        key, ("", 0)
    )


def _learning_blocks(entries: Iterable[Entry]) -> frozenset[tuple[str, ...]]:
    """Return the blocks in which a learning rate or an optimizer stands."""
    entries = list(entries)
    rates = {e.block for e in entries if ANYWHERE_KEYS.get(normal(e.key), ("",))[0] in ("optimizer.lr", "optimizer.name")}
    of_schedules = {e.path[:n] for e in entries for n, part in enumerate(e.block) if normal(part) in LEARNING_RATES}
    return frozenset(rates | of_schedules)


def _built_blocks(entries: Iterable[Entry]) -> frozenset[tuple[str, ...]]:
    """Return the blocks, by whatever name, that name a class of torch.optim to be built with what else stands in them."""
    return frozenset(
        e.block
        for e in entries
        if e.key in ("_target_", "_component_", "class_path") and re.match(r"torch\.optim\.[A-Z]\w*$", str(e.value))
    )


def _context(entry: Entry, built: frozenset[tuple[str, ...]] = frozenset()) -> tuple[str | None, tuple[str, ...], int]:
    """Return what kind of block an entry stands in, that block's path, and how many strange blocks enclose it.

    The kind is None where an entry says nothing of the training.
    """
    context, strangers, lost = "optimizer" if () in built else "", 0, False
    block: tuple[str, ...] = ()
    for depth, part in enumerate(entry.block, 1):
        word = normal(part)
        if entry.path[:depth] in built or (lost and word in ("optimizer", "optim")):
            context, block, lost = "optimizer", entry.path[:depth], False
        elif word in SCHEDULES:
            context, block = "schedule", entry.path[:depth]
        elif word in OPTIMIZERS or re.fullmatch(r"optim(?:izer)?_?[a-z0-9]{1,2}", word):
            if context != "optimizer":
                context, block = "optimizer", entry.path[:depth]
        elif word in GRADIENTS:
            context, block = "gradient", entry.path[:depth]
        elif word in LEARNING_RATES:
            context = "learning rate"
            block = block or entry.path[:depth]
        elif word in PRECISIONS:
            context, block = "precision", entry.path[:depth]
        elif word == "paramwise_cfg" or word in PARAMETER_GROUPS:
            return None, (), 0
        elif word not in GROUPS:
            strangers += 1
            lost = lost or bool(context)
    if lost:
        return None, (), 0
    if strangers and context not in ("optimizer", "schedule", "learning rate"):
        return None, (), strangers
    return context, block, strangers


def _further_groups(entries: Iterable[Entry]) -> dict[str, Slot]:
    """Return the settings of parameter groups given as a list: of the first as those of the optimizer, of others numbered."""
    slots: dict[str, Slot] = {}
    for entry in entries:
        words = [normal(part) for part in entry.block]
        if len(words) < 2 or words[-2] not in PARAMETER_GROUPS | {"optimizers"} or not words[-1].isdigit():
            continue
        setting, _ = OPTIMIZER_KEYS.get(normal(entry.key), ("", 0))
        if not setting.startswith("optimizer."):
            continue
        value = value_of(setting, entry)
        if value is None:
            continue
        field = setting.partition(".")[2]
        setting = setting if words[-1] == "0" else f"optimizer.{int(words[-1][:6])}.{field}"
        slots.setdefault(setting, Slot(setting, value, entry, "optimizer"))
    return slots


def _with_both_betas(slots: dict[str, Slot]) -> dict[str, Slot]:
    """Return the slots with beta1 and beta2 read from a pair of betas where they have no key of their own."""
    pair = slots.get("optimizer.betas")
    if pair is not None and isinstance(pair.value, tuple):
        for index, setting in enumerate(("optimizer.beta1", "optimizer.beta2")):
            known = slots.get(setting)
            if known is None or known.value is None:
                slots[setting] = pair._replace(setting=setting, value=pair.value[index])
    return slots
