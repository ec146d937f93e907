"""A change of a file as a unified diff that `git apply` takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def unified_diff(file: str, old: str, new: str, *, marked: bool = False) -> str | None:
    """Return the diff of a file, named by its path from the root with "/"; None where nothing changes.

    Line ends stay as they are. `marked`: the file begins with a byte-order mark, which the texts do not hold.
    """
    import difflib

    if marked:
        old, new = f"\ufeff{old}", f"\ufeff{new}"
    lines = difflib.unified_diff(_lines(old), _lines(new), f"a/{file}", f"b/{file}", n=3)
    return "".join(_ended(lines)) or None


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _ended(lines: Iterable[str]) -> Iterable[str]:
    """Yield the lines with the mark that git needs where a file ends without a line end."""
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
