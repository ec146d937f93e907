"""A change of a file as a unified diff that `git apply` takes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Lines around a change that a diff shows.
CONTEXT = 3


def unified_diff(file: str, old: str, new: str, *, marked: bool = False) -> str | None:
    """Return the diff of a file, named by its path from the root with "/"; None where nothing changes.

    A line ends at a line feed alone, as git has it, and its end stays as it is. `marked`: the file begins with a byte-order
    mark, which the texts do not hold.
    """
    import difflib

    if marked:
        old, new = f"\ufeff{old}", f"\ufeff{new}"
    before, after = _lines(old), _lines(new)
    longest = min(len(before), len(after))
    head = next((i for i in range(longest) if before[i] != after[i]), longest)
    tail = next((i for i in range(longest - head) if before[-1 - i] != after[-1 - i]), longest - head)
    head, tail = max(0, head - CONTEXT), max(0, tail - CONTEXT)  # of 50,000 lines difflib need not see those that are equal
    lines = difflib.unified_diff(
        before[head : len(before) - tail],
        after[head : len(after) - tail],
        _name(f"a/{file}"),
        _name(f"b/{file}"),
        n=CONTEXT,
    )
    return "".join(_ended(_moved(lines, head))) or None


def _lines(text: str) -> list[str]:
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _name(path: str) -> str:
    """Return a path as git writes it: between quotes where it holds what would end the line, or a quote."""
    if not re.search(r'[\x00-\x1f\x7f"\\]', path):
        return path
    return '"' + re.sub(r'[\x00-\x1f\x7f"\\]', lambda found: f"\\{ord(found[0]):03o}", path) + '"'


def _moved(lines: Iterable[str], by: int) -> Iterable[str]:
    """Yield the lines with the ranges of each hunk's head so many lines later."""
    for line in lines:
        words = line.split(" ")
        if words[0] == "@@":
            words[1:3] = [re.sub(r"\d+", lambda start: str(int(start[0]) + by), part, count=1) for part in words[1:3]]
        yield " ".join(words)


def _ended(lines: Iterable[str]) -> Iterable[str]:
    """Yield the lines with the mark that git needs where a file ends without a line end."""
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
