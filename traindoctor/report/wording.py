"""Numbers and words as people write them, and strings from logs made harmless to look at."""

from __future__ import annotations

import math
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Longest string from a log that is shown whole; a tag of a megabyte is an attack, not a name.
LONGEST = 300

_EXPONENT = lazy(r"(?<![\w.])(\d+(?:\.\d+)?)e([-+]?)0*(\d+)(?![\w.])")
_SENTENCE_END = lazy(r"[.!?](?=\s+[A-Z`\"'(])")
_UNSEEN = lazy(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\uffff]",
)


def clean(text: object, longest: int = LONGEST) -> str:
    r"""Return the text with what cannot be seen written out: "\x1b" for an escape, "\u202e" for a direction override.

    Line breaks and tabs become spaces; what is longer than `longest` characters is cut with an ellipsis.
    """
    raw = str(text)
    if len(raw) > longest:
        raw = raw[: longest - 1] + "…"
    return clean_block(raw.replace("\n", " ").replace("\t", " "))


def sentence(text: object, longest: int = 1000) -> str:
    """Return words of our own as `clean` does, with numbers as people type them: 1e-8 for 1e-08, 2.8e3 for 2.8e+03."""
    return _EXPONENT.sub(lambda m: f"{m[1]}e{m[2].replace('+', '')}{m[3]}", clean(text, longest))


def stopped(text: str) -> str:
    """Return the words with a full stop, where they have no end of their own."""
    return text if not text or text[-1] in ".!?…" else text + "."


def first_sentence(text: str) -> str:
    """Return the words up to the end of the first sentence, with its full stop."""
    end = _SENTENCE_END.search(text)
    return text[: end.start() + 1] if end else text


def begun(text: str) -> str:
    """Return the words with a capital at their beginning, where that is a word and not code."""
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.isalpha() and first.islower() else text


def clean_block(text: str) -> str:
    """Return the text as `clean` does, with its line breaks and tabs kept and nothing cut: for patches."""
    return _UNSEEN.sub(lambda m: f"\\x{ord(m[0]):02x}" if ord(m[0]) < 256 else f"\\u{ord(m[0]):04x}", text)


def relative(path: str, root: str = "") -> str:
    """Return the path without anything that tells of the machine: relative to `root`, or its last part."""
    posix = path.replace("\\", "/")
    base = root.replace("\\", "/").rstrip("/")
    if base and posix.startswith(base + "/"):
        return posix[len(base) + 1 :]
    if PurePosixPath(posix).is_absolute() or PureWindowsPath(path).drive:
        return PurePosixPath(posix).name
    return posix


def number(value: float, digits: int = 2) -> str:
    """Return a measured number as people type it: 3.2e-11, 0.082, 38.2, 6,000.

    `digits`: significant digits of the mantissa in the exponent form; numbers from 0.01 to a million are written out
    with three.
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Inf" if value > 0 else "−Inf"
    sign, size = ("−" if value < 0 else ""), abs(value)
    if size == 0:
        return "0"
    if size < 0.01 or size >= 1e6:
        mantissa, exponent = f"{size:.{digits - 1}e}".split("e")
        if "." in mantissa:
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{sign}{mantissa}e{int(exponent)}"
    if size >= 1000:
        return f"{sign}{size:,.0f}"
    shown = f"{size:.3g}" if size < 999.5 else "1000"
    return sign + (shown if "e" not in shown else f"{size:.0f}")


def at_most(value: float) -> str:
    """Return the number rounded up to two digits, so that "stays below" stays true."""
    if not math.isfinite(value) or value <= 0:
        return number(value)
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return number(math.ceil(value / unit * (1 - 1e-12)) * unit)


def signed(value: float, decimals: int = 1) -> str:
    """Return a difference with its sign, a true minus; "0" where no decimal of it is left."""
    if not math.isfinite(value):
        return number(value)
    shown = f"{abs(value):.{decimals}f}"
    if float(shown) == 0:
        return "0"
    return ("+" if value > 0 else "−") + shown


def count(value: int) -> str:
    """Return an integer with commas: 6,000."""
    return f"{value:,}".replace("-", "−")


def setting(value: object) -> str:
    """Return a setting as it would be typed in a config: 0.001, 1e-8, true, "0.9, 0.999"."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            return number(value).replace("−", "-")
        if value != 0 and not 1e-3 <= abs(value) < 1e7:
            mantissa, _, exponent = f"{value!r}".partition("e")
            if not exponent:
                mantissa, _, exponent = f"{value:.12e}".partition("e")
                mantissa = mantissa.rstrip("0").rstrip(".")
            return f"{mantissa}e{int(exponent)}"
        return str(int(value)) if value.is_integer() and abs(value) >= 1e3 else f"{value!r}"
    if isinstance(value, (list, tuple)):
        return ", ".join(setting(v) for v in value)
    return clean(value)


def confidence(value: float) -> str:
    """Return a confidence with two decimals, never 0.00 and never 1.00."""
    if math.isnan(value):
        return "unknown"
    if value < 0.005:
        return "< 0.01"
    return "> 0.99" if value > 0.995 else f"{value:.2f}"


def likelihood(value: float) -> str:
    """Return the word of a confidence, from the project's table of words."""
    if value >= 0.9:
        return "very likely"
    if value >= 0.7:
        return "likely"
    return "possible" if value >= 0.4 else "unlikely"


def plural(n: int, one: str, many: str = "") -> str:
    """Return "1 warning", "2 warnings"."""
    return f"{count(n)} {one if n == 1 else many or one + 's'}"


def listed(items: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
