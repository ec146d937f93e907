"""A change of settings -> a unified diff of the user's own config file, which differs from it in those places alone."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping  # noqa: TC003 -- a field of a named tuple
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.configs.dialects import read_settings
from traindoctor.configs.documents import COMMANDS, NOWHERE, Entry, Note, ParseError, read_document, read_text
from traindoctor.configs.insertion import with_key
from traindoctor.configs.lengths import TRAINER
from traindoctor.configs.optimizer import KERAS, TORCH, normal_name
from traindoctor.configs.vocabulary import Slot, normal, number, pair
from traindoctor.configs.written import literal, replacement, write_number
from traindoctor.diff import unified_diff
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Setting

#: What a new key is called, and beside which setting it goes: the first that is there.
_BESIDE = {
    "optimizer": ("lr", "eps", "betas", "beta2", "beta1", "momentum", "weight_decay", "amsgrad", "name"),
    "schedule": ("warmup_steps", "total_steps", "min_lr", "decay", "name"),
}
_HUGGING_FACE = {
    "optimizer.lr": "learning_rate",
    "optimizer.eps": "adam_epsilon",
    "optimizer.beta1": "adam_beta1",
    "optimizer.beta2": "adam_beta2",
    "optimizer.weight_decay": "weight_decay",
    "gradient.clip_norm": "max_grad_norm",
    "gradient.accumulation_steps": "gradient_accumulation_steps",
    "schedule.warmup_steps": "warmup_steps",
}
_KERAS = {"optimizer.lr": "learning_rate", "optimizer.eps": "epsilon", "optimizer.beta1": "beta_1", "optimizer.beta2": "beta_2"}
_OTHER = {
    "gradient.clip_norm": "clip_norm",
    "gradient.accumulation_steps": "accumulation_steps",
    "schedule.warmup_steps": "warmup_steps",
    "schedule.min_lr": "min_lr",
}
#: What programs call a key that their configs may lack. Source: those named in `configs.spelling`; Megatron-LM, arguments.py.
_NAMES: Mapping[str, Mapping[str, str]] = {
    "DeepSpeed": {
        "gradient.clip_norm": "gradient_clipping",
        "gradient.accumulation_steps": "gradient_accumulation_steps",
        "schedule.warmup_steps": "warmup_num_steps",
    },
    "nanoGPT": {
        "optimizer.beta1": "beta1",
        "optimizer.beta2": "beta2",
        "optimizer.weight_decay": "weight_decay",
        "gradient.clip_norm": "grad_clip",
        "gradient.accumulation_steps": "gradient_accumulation_steps",
        "schedule.warmup_steps": "warmup_iters",
    },
    "timm": {
        "optimizer.eps": "opt_eps",
        "optimizer.betas": "opt_betas",
        "optimizer.weight_decay": "weight_decay",
        "optimizer.momentum": "momentum",
        "gradient.clip_norm": "clip_grad",
    },
    "fairseq": {
        "optimizer.eps": "adam_eps",
        "optimizer.weight_decay": "weight_decay",
        "gradient.clip_norm": "clip_norm",
        "schedule.warmup_steps": "warmup_updates",
    },
    "Megatron-LM": {
        "optimizer.eps": "adam_eps",
        "optimizer.beta1": "adam_beta1",
        "optimizer.beta2": "adam_beta2",
        "optimizer.weight_decay": "weight_decay",
        "gradient.clip_norm": "clip_grad",
        "schedule.warmup_steps": "lr_warmup_iters",
    },
}
#: Programs that read the keys they know and no others.
_CLOSED = frozenset(
    {"nanoGPT", "timm", "fairseq", "Megatron-LM", "YOLOv5", "Ultralytics", "Detectron2", "kohya", "Stable-Baselines3"}
)
#: The name that an alias may go by, and a tag, before a value of YAML.
_MARKS = lazy(r"(?:[&!][^\s,\[\]{}]*[ \t]+)+")
_ORIGIN = lazy(r"([^\0\n]+?):\d+(?: \(.*\))?")
_NUMBER = lazy(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


class Patched(NamedTuple):
    """A unified diff that makes a change of settings; without one, why there is none."""

    patch: str | None
    reason: str = ""


class _NoPatchError(Exception):
    """Why a change is not made."""


class _Held(NamedTuple):
    """A config as it is, or as it becomes: its keys, what they set, and what is doubtful in it."""

    text: str
    suffix: str
    dialect: str
    entries: tuple[Entry, ...]
    slots: Mapping[str, Slot]
    notes: tuple[Note, ...]


def patch_for(
    root: Path, settings: Mapping[str, Setting], change: Mapping[str, object], config_files: Sequence[str]
) -> str | None:
    """Return the diff of `config_patch`, None where there is none."""
    return config_patch(root, settings, change, config_files).patch


def config_patch(
    root: Path, settings: Mapping[str, Setting], change: Mapping[str, object], config_files: Sequence[str]
) -> Patched:
    """Return a unified diff, for `git apply` from `root`, of the config files that hold the settings to change.

    A value that is there is replaced, every other byte stays; a key that is missing goes beside its siblings. There is none
    when no file holds the optimizer's settings, when a key's name cannot be told, and when the changed file, read again,
    would differ in anything but the change.
    """
    try:
        return Patched(_patch(root, settings, change, config_files))
    except _NoPatchError as error:
        return Patched(None, str(error))


def _patch(root: Path, settings: Mapping[str, Setting], change: Mapping[str, object], config_files: Sequence[str]) -> str:
    if not change:
        raise _NoPatchError("no setting changes")
    before = {name: held for name in config_files if (held := _read(root, name)) is not None}
    if not before:
        raise _NoPatchError("no config file that can be read is beside the log")
    before = {**_inherited(root, before, settings, change), **before}
    wanted = _single(change, settings, before)
    after = dict(before)
    for setting, value in wanted.items():
        names = _holders(after, setting)
        if not names:
            raise _NoPatchError(_nowhere(setting, settings))
        for name in names:
            text = _changed(name, after[name], setting, value, settings)
            if any(note.kind == "several-documents" for note in after[name].notes):
                raise _NoPatchError(f"{name} holds several documents: it is not clear which of them is read")
            try:
                after[name] = _parsed(name, text)
            except ParseError:
                raise _NoPatchError(f"{name} could not be read with `{setting}` changed") from None
    _check(before, after, wanted)
    diff = "".join(_diff(root, name, before[name].text, after[name].text) or "" for name in before)
    if not diff:
        raise _NoPatchError(f"{' and '.join(f'`{setting}`' for setting in change)} stands there so already")
    return diff


def _inherited(
    root: Path, files: Mapping[str, _Held], settings: Mapping[str, Setting], change: Mapping[str, object]
) -> dict[str, _Held]:
    """Return the files that settings to change are inherited from, where no config sets them itself: an option of Hydra.

    A base that by its name is there for many configs is left alone.
    """
    found: dict[str, _Held] = {}
    for setting in change:
        origin = _ORIGIN.fullmatch(settings[setting].origin) if setting in settings else None
        name = origin[1] if origin is not None else ""
        if not name or name in files or any(_sets(held, setting) for held in files.values()):
            continue
        if "_base_" in Path(name).parts or Path(name).name.startswith(("Base-", "Base_", "_base")):
            raise _NoPatchError(f"`{setting}` stands in {settings[setting].origin}, a base that other configs share")
        held = _read(root, name)
        if held is not None and _sets(held, setting):
            found[name] = held
    return found


def _sets(held: _Held, setting: str) -> bool:
    return setting in held.slots and held.slots[setting].value is not None


def _nowhere(setting: str, settings: Mapping[str, Setting]) -> str:
    origin = settings[setting].origin if setting in settings else ""
    if origin and ":" not in origin:
        return f"`{setting}` is known from the {origin}, and no config file holds it"
    return f"no config file holds `{setting}` or a setting that it belongs beside"


def _single(change: Mapping[str, object], settings: Mapping[str, Setting], files: Mapping[str, _Held]) -> dict[str, object]:
    """Return the change with a pair of betas as two settings, those that stay left out."""
    wanted = dict(change)
    if "optimizer.betas" not in wanted:
        return wanted
    both = pair(wanted.pop("optimizer.betas"))
    if both is None:
        raise _NoPatchError("betas are a pair of numbers")
    for setting, value in zip(("optimizer.beta1", "optimizer.beta2"), both, strict=True):
        now = next((held.slots[setting].value for held in reversed([*files.values()]) if setting in held.slots), None)
        if not _same(now if now is not None else _default(setting, settings), value):
            wanted[setting] = value
    return wanted


def _default(setting: str, settings: Mapping[str, Setting]) -> object:
    name = normal_name(str(settings["optimizer.name"].value)) if "optimizer.name" in settings else "adam"
    return {**KERAS.get(name, {}), **TORCH.get(name, {})}.get(setting.partition(".")[2])


def _read(root: Path, name: str) -> _Held | None:
    """Return a config file under `root`; None for one that does not parse, or whose name no diff should hold."""
    path = root / name
    try:
        if not path.resolve().is_relative_to(root.resolve()) or Path(name).is_absolute() or re.search(r"[\n\r\t\"\\]", name):
            return None
        return _parsed(name, read_text(path))
    except (ParseError, OSError, ValueError):
        return None


def _parsed(name: str, text: str) -> _Held:
    """Return what a text of a config says.

    Raises: ParseError.
    """
    suffix = Path(name).suffix.lower()
    document = read_document(text, suffix)
    reading = read_settings(document.entries, Path(name).name)
    return _Held(text, suffix, reading.dialect.name, tuple(document.entries), reading.slots, tuple(document.notes))


def _holders(files: Mapping[str, _Held], setting: str) -> tuple[str, ...]:
    """Return the files that a change of the setting belongs in: the last that sets it, else that of the learning rate or name.

    DeepSpeed and the trainer above it must agree: where both set it to one value, both are changed.
    """
    found = {name: held.slots for name, held in reversed(list(files.items()))}
    sets = {name: slots[setting].value for name, slots in found.items() if _sets(files[name], setting)}
    first = next(iter(sets.values()), None)
    if any(files[name].dialect == "DeepSpeed" for name in sets) and all(_same(value, first) for value in sets.values()):
        return tuple(sets)
    last = [*sets, *(name for wanted in (setting, "optimizer.lr", "optimizer.name") for name in found if wanted in found[name])]
    return tuple(last[:1])


def _changed(name: str, held: _Held, setting: str, value: object, settings: Mapping[str, Setting]) -> str:
    """Return the text of a file with one setting changed or added."""
    slot = held.slots.get(setting)
    if slot is None:
        return _inserted(name, held, setting, value, settings)
    entry = slot.entry
    place = f"{name}:{entry.line}"
    if slot.value is None and isinstance(entry.value, str) and ("${" in entry.value or entry.value.strip().lower() == "auto"):
        raise _NoPatchError(f"{place} leaves the value to something else: {entry.value[:60]}")
    if entry.shared:
        raise _NoPatchError(f"the value at {place} is that of an anchor, which other keys share")
    if any(
        note.repeat is not None
        and (note.repeat.path == entry.path or (held.suffix == ".py" and note.repeat.path[-1] == entry.key))
        for note in held.notes
    ):
        raise _NoPatchError(f"`{entry.key}` stands twice in its block in {name}: it is not clear which of them is meant")
    if entry.span == NOWHERE and not entry.items:
        raise _NoPatchError(f"the value at {place} is worked out there, not written as a number")
    if entry.span[0] == entry.span[1] != NOWHERE[1]:
        raise _NoPatchError(f"nothing stands behind the key at {place}")
    start, stop = entry.span
    index = 1 if setting == "optimizer.beta2" else 0
    text = held.text
    if (
        setting in ("optimizer.beta1", "optimizer.beta2")
        and not normal(entry.key).rstrip("12").endswith("beta")
        and "beta_" not in normal(entry.key)
        and normal(entry.key) not in ("b1", "b2", "adam_b1", "adam_b2")
    ):
        if entry.items:  # one of a list of betas
            start, stop = entry.items[index]
        else:  # "(0.9, 0.98)"
            numbers = list(_NUMBER.finditer(text, start, stop))
            if len(numbers) <= index:
                raise _NoPatchError(f"the pair of betas at {place} is not written as two numbers")
            start, stop = numbers[index].span()
    elif len(entry.items) == 1:  # fairseq writes lr: [0.0005]
        start, stop = entry.items[0]
    elif entry.items:
        raise _NoPatchError(f"a list stands at {place}")
    marked = _MARKS.match(text, start, stop) if held.suffix in (".yaml", ".yml") else None
    start = marked.end() if marked is not None else start
    written = replacement(held.suffix, slot, value, text[start:stop])
    if written is None:
        raise _NoPatchError(f"how {name} would spell `{setting}` = {value!r} is not known")
    return text[:start] + written + text[stop:]


def _inserted(name: str, held: _Held, setting: str, value: object, settings: Mapping[str, Setting]) -> str:
    """Return the text of a file with a new key beside its siblings."""
    if any(note.kind == "several-commands" for note in held.notes):
        raise _NoPatchError(f"{name} holds several commands, which differ in their options")
    group, _, field = setting.partition(".")
    key = ""
    for anchor in _anchors(held.slots, group, field):
        key = _new_key(held, setting, anchor) or ""
        if not key:
            continue
        if key == "betas":
            spec = {"optimizer.beta1": 0.9, "optimizer.beta2": 0.999}
            spec |= {s: read for s in spec if s in settings and (read := number(settings[s].value)) is not None}
            read = number(value)
            if read is None:
                raise _NoPatchError("betas are a pair of numbers")
            spec[setting] = read
            both = ", ".join(write_number(beta, held.suffix) for beta in spec.values())
            written: str | None = f"({both})" if held.suffix == ".py" else f"[{both}]"
        else:
            written = literal(held.suffix, value)
        if written is None:
            raise _NoPatchError(f"how {name} would spell `{setting}` = {value!r} is not known")
        text = with_key(held.text, held.suffix, anchor.entry, key, written)
        if text is not None:
            return text
    if key:
        raise _NoPatchError(f"{name} has no room for a new key beside its siblings")
    if group == "schedule" and field == "name":
        raise _NoPatchError(f"a schedule is built by the program: no key that {name} lacks stands for it")
    raise _NoPatchError(f"which key of {name} would stand for `{setting}` cannot be told")


def _anchors(slots: Mapping[str, Slot], group: str, field: str) -> Iterator[Slot]:
    """Yield the settings after which a new one of the group may go, the nearest first."""
    optimizer = [slots[f"optimizer.{s}"] for s in _BESIDE["optimizer"] if f"optimizer.{s}" in slots]
    optimizer = [
        slot for slot in optimizer if slot.context in ("optimizer", "") and slot.key not in ("class_path", "class_name", "type")
    ]
    if group == "optimizer":
        candidates = sorted(optimizer, key=lambda slot: slot.context != "optimizer")
    elif group == "schedule" and field != "name":
        candidates = [slots[f"schedule.{s}"] for s in _BESIDE["schedule"] if f"schedule.{s}" in slots]
        if field != "warmup_steps":
            candidates = [slot for slot in candidates if slot.context == "schedule"]
        else:
            candidates += [slot for slot in optimizer if slot.context == ""]
    elif group == "gradient":
        order = ("gradient.clip_norm", "gradient.accumulation_steps", "steps", "epochs", "batch_size")
        candidates = [slot for slot in optimizer if slot.setting == "optimizer.lr" and slot.context == ""]
        candidates += [slots[s] for s in order if s in slots and slots[s].context in ("", "gradient")]
    else:
        candidates = []
    for slot in candidates:
        if not slot.entry.shared and not slot.entry.interpolated and slot.entry.span != NOWHERE:
            yield slot


def _new_key(held: _Held, setting: str, anchor: Slot) -> str | None:
    """Return the name of a new key in the dialect of the file; None where nothing would read it."""
    group, _, field = setting.partition(".")
    keys = {slot.key for slot in held.slots.values()}
    names = _NAMES.get(held.dialect, {})
    closed = held.dialect in _CLOSED or held.suffix in COMMANDS
    if not names and (
        held.dialect in TRAINER
        or any(key.startswith("adam_") for key in keys)
        or keys & {"per_device_train_batch_size", "lr_scheduler_type", "num_train_epochs"}
    ):
        names, closed = _HUGGING_FACE, True
    elif not names and "framework" in held.slots and re.search("keras|tensorflow", str(held.slots["framework"].value).lower()):
        names = _KERAS
    elif not names and not closed and held.suffix != ".py":
        names = _OTHER
    if setting in names:
        lightning = keys & {"max_epochs", "accumulate_grad_batches", "gradient_clip_val"} and "trainer" in anchor.entry.path
        return "gradient_clip_val" if setting == "gradient.clip_norm" and lightning else names[setting]
    if group != "optimizer" or field == "name":
        return None
    if field in ("beta1", "beta2"):
        one = held.slots.get("optimizer.beta2" if field == "beta1" else "optimizer.beta1")
        if one is not None:
            return one.key.translate(str.maketrans("12", "21"))
        return names.get("optimizer.betas") if closed else "betas"
    return None if closed else field


# -- the check -------------------------------------------------------------------------------------------


def _check(before: Mapping[str, _Held], after: Mapping[str, _Held], wanted: Mapping[str, object]) -> None:
    """See that the files, read again, differ in the wanted settings and nothing else.

    Raises: _NoPatchError.
    """
    for name, held in before.items():
        now = {entry.path: entry.value for entry in after[name].entries}
        shared = next((e for e in held.entries if e.shared and not _same(e.value, now.get(e.path, e.value))), None)
        if shared is not None:
            raise _NoPatchError(f"`{'.'.join(shared.path)}` is an alias of the same value in {name}, and would change with it")
    old, new = _values(before), _values(after)
    for setting, value in wanted.items():
        if not _same(new.get(setting), value) and not (setting == "optimizer.name" and _same_name(new.get(setting), value)):
            raise _NoPatchError(f"a change of `{setting}` there would not be read as one")
    betas = {"optimizer.beta1", "optimizer.beta2"}
    for setting in sorted(old.keys() | new.keys()):
        if (
            setting in wanted
            or _same(old.get(setting), new.get(setting))
            or (setting == "optimizer.betas" and betas & wanted.keys())
        ):
            continue
        name = normal_name(str(new.get("optimizer.name", "adam")))
        default = {**TORCH.get(name, {}), **KERAS.get(name, {})}.get(setting.partition(".")[2])
        if not (setting in betas and betas & wanted.keys() and setting not in old and _same(new[setting], default)):
            raise _NoPatchError(f"`{setting}` hangs on the same value, and would change with it")


def _values(files: Mapping[str, _Held]) -> dict[str, object]:
    return {s: slot.value for held in files.values() for s, slot in held.slots.items() if slot.value is not None}


def _same(one: object, other: object) -> bool:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    first, second = number(one), number(other)
    if first is not None and second is not None:
        return math.isclose(first, second, rel_tol=1e-5, abs_tol=1e-300)
    return one == other


def _same_name(one: object, other: object) -> bool:
    return isinstance(one, str) and isinstance(other, str) and normal_name(one) == normal_name(other)


def _diff(root: Path, name: str, old: str, new: str) -> str | None:
    return unified_diff(name, old, new, marked=(root / name).read_bytes()[:3] == b"\xef\xbb\xbf")
