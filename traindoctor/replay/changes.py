"""Changes of settings as a user types them, `optimizer.lr=1e-4,optimizer.eps=1e-6` -> settings in the one vocabulary."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from traindoctor.errors import TraindoctorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: No run has a number above this.
HIGHEST = 1e30
Kind = Literal["number", "whole", "pair", "truth", "word"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What a setting takes: a kind, and for numbers `low <= value < high`; `open_low` leaves `low` itself out."""

    kind: Kind
    low: float = 0.0
    high: float = HIGHEST
    open_low: bool = False

    def takes(self, value: object) -> bool:
        """Return whether a value is of the kind, and in range."""
        if self.kind == "truth":
            return isinstance(value, bool)
        if self.kind == "word":
            return isinstance(value, str)
        numbers = list(value) if self.kind == "pair" and isinstance(value, list | tuple) else [value]
        kinds = (int,) if self.kind == "whole" else (int, float)
        return len(numbers) == (2 if self.kind == "pair" else 1) and all(
            isinstance(v, kinds) and not isinstance(v, bool) and self.holds(v) for v in numbers
        )

    def holds(self, value: float) -> bool:
        """Return whether a number is in range; NaN and infinities are not."""
        return math.isfinite(value) and value < self.high and (value > self.low if self.open_low else value >= self.low)

    @property
    def range(self) -> str:
        """The range in words."""
        above = f"above {self.low:g}" if self.open_low else f"{self.low:g} or above"
        return f"{above} and below {self.high:g}" if self.high < HIGHEST else above


_ABOVE_ZERO, _NOT_NEGATIVE = Setting("number", open_low=True), Setting("number")
_SHARE, _TRUTH, _WORD = Setting("number", high=1.0), Setting("truth"), Setting("word")
#: Every setting that may be changed. A decay rate of 1 never forgets its start, and the bias correction divides by 0.
SETTINGS: Mapping[str, Setting] = {
    "optimizer.name": _WORD,
    "optimizer.lr": _ABOVE_ZERO,
    "optimizer.eps": _NOT_NEGATIVE,
    "optimizer.betas": Setting("pair", high=1.0),
    "optimizer.beta1": _SHARE,
    "optimizer.beta2": _SHARE,
    "optimizer.alpha": _SHARE,
    "optimizer.amsgrad": _TRUTH,
    "optimizer.momentum": _SHARE,
    "optimizer.nesterov": _TRUTH,
    "optimizer.weight_decay": _NOT_NEGATIVE,
    "schedule.name": _WORD,
    "schedule.warmup_steps": Setting("whole"),
    "schedule.total_steps": Setting("whole", low=1.0),
    "schedule.min_lr": _NOT_NEGATIVE,
    "schedule.decay": _ABOVE_ZERO,
    "schedule.step_size": Setting("whole", low=1.0),
    "gradient.clip_norm": _ABOVE_ZERO,
    "gradient.accumulation_steps": Setting("whole", low=1.0),
    "gradient.zero_grad": _TRUTH,
    "batch_size": Setting("whole", low=1.0),
    "precision": _WORD,
    "seed": Setting("whole"),
    "epochs": _ABOVE_ZERO,
    "steps": Setting("whole", low=1.0),
}
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
#: A comma that begins the next setting, not the second of two betas.
_NEXT = re.compile(r",(?=\s*[A-Za-z_][\w.]*\s*=)")


def changes_of(texts: Iterable[str]) -> tuple[dict[str, object], ...]:
    """Return one change for each text, `key=value` or several of them with commas, in the one vocabulary of settings.

    Raises: TraindoctorError for a text that is none, a key that is not known, and a value of the wrong kind or out of range.
    """
    return tuple(_change(text) for text in texts)


def _change(text: str) -> dict[str, object]:
    made: dict[str, object] = {}
    for one in _NEXT.split(text):
        key, equals, written = (part.strip() for part in one.partition("="))
        if not equals or not key or not written:
            raise TraindoctorError(f"--set {text}", "is not KEY=VALUE", "--set optimizer.lr=1e-4")
        checked_key(key, f"--set {text}")
        if key in made:
            raise TraindoctorError(f"--set {text}", f"sets {key} twice")
        made[key] = _value(key, written, f"--set {text}")
    if "optimizer.betas" in made and made.keys() & {"optimizer.beta1", "optimizer.beta2"}:
        raise TraindoctorError(
            f"--set {text}", "sets a beta twice", "give optimizer.betas, or optimizer.beta1 and optimizer.beta2"
        )
    return made


def checked_key(key: str, where: str) -> str:
    """Return the key when it is one of the vocabulary.

    Raises: TraindoctorError for one that is not, with the nearest that is.
    """
    if key in SETTINGS:
        return key
    lower = key.lower().replace("-", "_")
    near = [known for known in SETTINGS if known.rpartition(".")[2] == lower.rpartition(".")[2]]
    near = near or difflib.get_close_matches(lower, SETTINGS, 1, 0.6)
    near = near or [k for k in SETTINGS if difflib.get_close_matches(lower, [k.rpartition(".")[2]], 1, 0.7)]
    way = f"did you mean {near[0]}?" if near else f"known settings: {', '.join(SETTINGS)}"
    raise TraindoctorError(where, f"{key!r} is no setting that is known", way)


def _value(key: str, written: str, where: str) -> object:
    setting = SETTINGS[key]
    if setting.kind == "truth":
        truth = _WORDS.get(written.lower())
        if truth is None:
            raise TraindoctorError(where, f"{key} is true or false, not {written!r}")
        return truth
    if setting.kind == "word":
        if not re.fullmatch(r"[A-Za-z0-9_./+-]+", written):
            raise TraindoctorError(where, f"{key} is a name, not {written!r}")
        return written
    if setting.kind == "pair":
        parts = [part for part in re.split(r"[\s,]+", written.strip("()[] ")) if part]
        if len(parts) != 2:
            raise TraindoctorError(where, f"{key} is two numbers, not {written!r}", f"--set {key}=0.9,0.99")
        return tuple(_number(key, part, setting, where) for part in parts)
    number = _number(key, written, setting, where)
    if setting.kind == "whole":
        if number != int(number):
            raise TraindoctorError(where, f"{key} is a whole number, not {written}")
        return int(number)
    return number


#: A number as config files write it; `float` takes underscores and the digits of every script too.
_NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|[-+]?(?:nan|inf)", re.ASCII | re.IGNORECASE)


def _number(key: str, written: str, setting: Setting, where: str) -> float:
    if not _NUMBER.fullmatch(written.strip()):
        raise TraindoctorError(where, f"{key} is a number, not {written!r}")
    number = float(written)
    if not setting.holds(number):
        raise TraindoctorError(where, f"{key} must be {setting.range}, not {written}")
    return number
