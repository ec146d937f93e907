"""A value of a setting as text of a config: numbers as people type them, and as the loader of the file reads them."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING

from traindoctor.configs.optimizer import normal_name
from traindoctor.configs.vocabulary import number, truth
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from traindoctor.configs.vocabulary import Slot

_CLASSES = {
    "adam": "Adam",
    "adamw": "AdamW",
    "sgd": "SGD",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "nadam": "NAdam",
    "radam": "RAdam",
}
_WHOLE = lazy(r"[-+]?\d+")


def replacement(suffix: str, slot: Slot, value: object, old: str) -> str | None:
    """Return a new value in the way the old one is written: quotes, packages, whole numbers and 1 - beta are kept.

    None for a value that is not written into a file of this kind.
    """
    quote = old[0] if old[:1] in ("'", '"') and old[-1:] == old[:1] else ""
    if slot.setting == "optimizer.name" and isinstance(value, str):
        text = _named(old.strip(quote) if quote else old, value)
        return f"{quote}{text}{quote}" if text is not None else None
    if slot.key.startswith("one_minus"):
        rest = number(value)
        value = None if rest is None else float(f"{1.0 - rest:.12g}")
    counts = not slot.setting.startswith(("optimizer.", "gradient.clip"))
    if isinstance(value, float) and counts and value.is_integer() and _WHOLE.fullmatch(old.strip(quote or None)):
        value = int(value)
    text = literal(suffix, value)
    if text is None or not quote or text[:1] in ("'", '"'):
        return text
    return f"{quote}{text}{quote}"


def _named(old: str, name: str) -> str | None:
    """Return the name of an optimizer in the style of the old one: `torch.optim.Adam` -> `torch.optim.SGD`."""
    head, dot, last = old.rpartition(".")
    if dot or last[:1].isupper():
        last = _CLASSES.get(normal_name(name), "")
        return f"{head}{dot}{last}" if last else None
    return name if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) else None


def literal(suffix: str, value: object) -> str | None:
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
