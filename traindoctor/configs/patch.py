"""A change of settings -> a unified diff of the user's own config file, which differs from it in those places alone."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from traindoctor.configs.dialects import interpret
from traindoctor.configs.documents import NOWHERE, Entry, ParseError, parse, read_text
from traindoctor.configs.optimizer import KERAS, TORCH, normal_name
from traindoctor.configs.vocabulary import Slot, normal, number, pair, truth
from traindoctor.diff import unified_diff
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
_CLASSES = {
    "adam": "Adam",
    "adamw": "AdamW",
    "sgd": "SGD",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "nadam": "NAdam",
    "radam": "RAdam",
}
_NUMBER = lazy(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def patch_for(
    root: Path, settings: Mapping[str, Setting], change: Mapping[str, object], config_files: Sequence[str]
) -> str | None:
    """Return a unified diff, for `git apply` from `root`, of the config files that hold the settings to change.

    A value that is there is replaced, every other byte stays; a key that is missing goes beside its siblings. None when
    no file holds the optimizer's settings, when a key's name cannot be told, and when the changed file, read again,
    would differ in anything but the change.
    """
    if not change:
        return None
    wanted = dict(change)
    both = pair(wanted.pop("optimizer.betas", None))
    if both is not None:
        wanted["optimizer.beta1"], wanted["optimizer.beta2"] = both
    elif "optimizer.betas" in change:
        return None
    before = {name: text for name in config_files if (text := _text(root, name)) is not None}
    after = dict(before)
    for setting, value in wanted.items():
        name = _holder(after, setting)
        new = _applied(after[name], Path(name).suffix.lower(), setting, value, settings) if name is not None else None
        if name is None or new is None:
            return None
        after[name] = new
    if not _changes_just(before, after, wanted):
        return None
    return "".join(diff for name in before if (diff := _diff(root, name, before[name], after[name])) is not None) or None


def _text(root: Path, name: str) -> str | None:
    """Return the text of a config file under `root` that parses; None otherwise."""
    path = root / name
    try:
        if not path.resolve().is_relative_to(root.resolve()) or Path(name).is_absolute() or re.search(r"[\n\r\t\"\\]", name):
            return None
        text = read_text(path)
        parse(text, path.suffix)
    except (ParseError, OSError, ValueError):
        return None
    return text


def _slots(text: str, suffix: str) -> dict[str, Slot]:
    return interpret(parse(text, suffix))


def _holder(texts: Mapping[str, str], setting: str) -> str | None:
    """Return the file that a change of the setting belongs in: the last that sets it, else that of the learning rate or name."""
    found = {name: _slots(text, Path(name).suffix) for name, text in reversed(list(texts.items()))}
    for name, slots in found.items():
        if setting in slots and slots[setting].value is not None:
            return name
    for wanted in (setting, "optimizer.lr", "optimizer.name"):
        for name, slots in found.items():
            if wanted in slots:
                return name
    return None


def _applied(text: str, suffix: str, setting: str, value: object, settings: Mapping[str, Setting]) -> str | None:
    """Return the text with one setting changed or added; None when it cannot be done."""
    slots = _slots(text, suffix)
    slot = slots.get(setting)
    if slot is None:
        return _inserted(text, suffix, slots, setting, value, settings)
    entry = slot.entry
    if entry.shared or entry.span == NOWHERE or entry.span[0] == entry.span[1]:
        return None
    start, stop = entry.span
    index = 1 if setting == "optimizer.beta2" else 0
    if (
        setting in ("optimizer.beta1", "optimizer.beta2")
        and not normal(entry.key).rstrip("12").endswith("beta")
        and "beta_" not in normal(entry.key)
    ):
        if entry.items:  # one of a list of betas
            start, stop = entry.items[index]
        else:  # "(0.9, 0.98)"
            numbers = list(_NUMBER.finditer(text, start, stop))
            if len(numbers) <= index:
                return None
            start, stop = numbers[index].span()
    elif len(entry.items) == 1:  # fairseq writes lr: [0.0005]
        start, stop = entry.items[0]
    elif entry.items:
        return None
    written = _written(suffix, slot, value, text[start:stop])
    return None if written is None else text[:start] + written + text[stop:]


def _inserted(
    text: str, suffix: str, slots: Mapping[str, Slot], setting: str, value: object, settings: Mapping[str, Setting]
) -> str | None:
    """Return the text with a new key beside its siblings; None when there are none or the key's name cannot be told.

    Python files and launch scripts get no new key: where it goes is not told by the entries alone.
    """
    if suffix not in (".yaml", ".yml", ".json", ".toml"):
        return None
    group, _, field = setting.partition(".")
    anchor = _anchor(slots, group, field)
    key = _new_key(slots, setting, anchor) if anchor is not None else None
    if anchor is None or key is None:
        return None
    written: str | None
    if key == "betas":
        spec = {"optimizer.beta1": 0.9, "optimizer.beta2": 0.999}
        spec |= {s: read for s in spec if s in settings and (read := number(settings[s].value)) is not None}
        read = number(value)
        if read is None:
            return None
        spec[setting] = read
        written = "[" + ", ".join(write_number(beta, suffix) for beta in spec.values()) + "]"
    else:
        written = _literal(suffix, value)
    return None if written is None else _spliced(text, suffix, anchor.entry, key, written)


def _anchor(slots: Mapping[str, Slot], group: str, field: str) -> Slot | None:
    """Return the setting after which a new one of the group goes."""
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
    usable = (slot for slot in candidates if not slot.entry.shared and slot.entry.span != NOWHERE and slot.entry.key_start >= 0)
    return next(usable, None)


def _new_key(slots: Mapping[str, Slot], setting: str, anchor: Slot) -> str | None:
    """Return the name of a new key in the dialect of the file."""
    keys = {slot.key for slot in slots.values()}
    if any(
        key.startswith("adam_") or key in ("per_device_train_batch_size", "lr_scheduler_type", "num_train_epochs") for key in keys
    ):
        names = _HUGGING_FACE
    elif "framework" in slots and re.search("keras|tensorflow", str(slots["framework"].value).lower()):
        names = _KERAS
    else:
        names = _OTHER
    if setting in names:
        lightning = keys & {"max_epochs", "accumulate_grad_batches", "gradient_clip_val"} and "trainer" in anchor.entry.path
        return "gradient_clip_val" if setting == "gradient.clip_norm" and lightning else names[setting]
    group, _, field = setting.partition(".")
    if group != "optimizer" or field == "name":
        return None
    if field in ("beta1", "beta2"):
        one = slots.get("optimizer.beta2" if field == "beta1" else "optimizer.beta1")
        if one is not None:
            return one.key.translate(str.maketrans("12", "21"))
        return "betas"
    return field


def _spliced(text: str, suffix: str, anchor: Entry, key: str, written: str) -> str | None:
    """Return the text with `key: written` after the anchor, in the way the anchor is written."""
    line_start = text.rfind("\n", 0, anchor.key_start) + 1
    prefix = text[line_start : anchor.key_start]
    quote = text[anchor.key_start] if text[anchor.key_start] in "\"'" else ""
    stop = max((anchor.span[1], *(item[1] for item in anchor.items))) if anchor.flow or suffix == ".toml" else _block_stop(anchor)
    newline = "\r\n" if "\r\n" in text else "\n"
    if anchor.flow:
        colon = re.compile(r"\s*:\s*").match(text, anchor.key_start + len(anchor.key) + 2 * len(quote))
        between = ": " if colon is None or colon.group().endswith(" ") else ":"
        gap = newline + prefix if not prefix.strip() and line_start else " " if between == ": " else ""
        return f"{text[:stop]},{gap}{quote}{key}{quote}{between}{written}{text[stop:]}"
    if prefix.strip(" \t-"):
        return None
    indent = prefix.replace("-", " ")
    if suffix == ".toml":
        raw = text[anchor.key_start : text.index("=", anchor.key_start)].strip()
        key = raw[: raw.rfind(".") + 1] + key
    end = text.find("\n", stop)
    line = f"{indent}{key} = {written}" if suffix == ".toml" else f"{indent}{quote}{key}{quote}: {written}"
    if end < 0:
        return f"{text}{newline}{line}"
    return f"{text[: end + 1]}{line}{newline}{text[end + 1 :]}"


def _block_stop(anchor: Entry) -> int:
    """Return the end of a value in block style: a block list's own end mark lies beyond its last line."""
    return max(item[1] for item in anchor.items) if anchor.items else anchor.span[1]


# -- values as text ---------------------------------------------------------------------------------------------------


def _written(suffix: str, slot: Slot, value: object, old: str) -> str | None:
    """Return the new value in the way the old one is written: quotes, packages and 1 - beta are kept."""
    quote = old[0] if old[:1] in ("'", '"') and old[-1:] == old[:1] else ""
    if slot.setting == "optimizer.name" and isinstance(value, str):
        text = _named(old.strip(quote) if quote else old, value)
        return f"{quote}{text}{quote}" if text is not None else None
    if slot.key.startswith("one_minus"):
        rest = number(value)
        value = None if rest is None else float(f"{1.0 - rest:.12g}")
    written = _literal(suffix, value)
    if written is None or not quote or written[:1] in ("'", '"'):
        return written
    return f"{quote}{written}{quote}"


def _named(old: str, name: str) -> str | None:
    """Return the name of an optimizer in the style of the old one: `torch.optim.Adam` -> `torch.optim.SGD`."""
    head, dot, last = old.rpartition(".")
    if dot or last[:1].isupper():
        last = _CLASSES.get(normal_name(name), "")
        return f"{head}{dot}{last}" if last else None
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) else None


def _literal(suffix: str, value: object) -> str | None:
    """Return a value as text of the format; None for what it does not write."""
    if isinstance(value, bool):
        word = "true" if value else "false"
        return word.capitalize() if suffix == ".py" else word
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return write_number(value, suffix) if math.isfinite(value) else None
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_./+-]+", value):
        plain = suffix in (".yaml", ".yml") and value[0].isalnum() and truth(value) is None and number(value) is None
        return value if plain else f'"{value}"'
    return None


def write_number(value: float, suffix: str) -> str:
    """Return a number as people write it: 0.1, 0.999, 1e-4; in YAML 1.0e-4, which YAML 1.1 needs to see a number.

    Six digits, or as many more as 1 - value needs to keep three: 0.9999999 stays what it is.
    """
    if value == int(value) and abs(value) < 1e6:
        return f"{value:.1f}"
    digits = next(
        d for d in range(6, 18) if d == 17 or abs(float(f"{value:.{d}g}") - value) <= 1e-3 * min(abs(value) / 1e3, abs(1 - value))
    )
    short = Decimal(f"{value:.{digits}g}").normalize()
    if 1e-3 <= abs(value) < 1e6:
        return format(short, "f")
    mantissa, _, exponent = f"{short:e}".partition("e")
    if suffix in (".yaml", ".yml") and "." not in mantissa:
        mantissa += ".0"
    return f"{mantissa}e{int(exponent):+d}"


# -- the check -------------------------------------------------------------------------------------------


def _changes_just(before: Mapping[str, str], after: Mapping[str, str], wanted: Mapping[str, object]) -> bool:
    """Return whether the files, read again, differ in the wanted settings and nothing else."""
    try:
        old, new = _read(before), _read(after)
    except ParseError:
        return False
    for setting, value in wanted.items():
        if not _same(new.get(setting), value) and not (setting == "optimizer.name" and _same_name(new.get(setting), value)):
            return False
    betas = {"optimizer.beta1", "optimizer.beta2"}
    for setting in old.keys() | new.keys():
        if (
            setting in wanted
            or _same(old.get(setting), new.get(setting))
            or (setting == "optimizer.betas" and betas & wanted.keys())
        ):
            continue
        name = normal_name(str(new.get("optimizer.name", "adam")))
        default = {**TORCH.get(name, {}), **KERAS.get(name, {})}.get(setting.partition(".")[2])
        if not (setting in betas and betas & wanted.keys() and setting not in old and _same(new[setting], default)):
            return False
    return True


def _read(texts: Mapping[str, str]) -> dict[str, object]:
    return {
        s: slot.value
        for name, text in texts.items()
        for s, slot in _slots(text, Path(name).suffix).items()
        if slot.value is not None
    }


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
