"""A change of a file as a unified diff that `git apply` takes; and such a diff read, and applied where it fits exactly."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Lines around a change that a diff shows.
CONTEXT = 3
_LINE = lazy(r"[^\n]*\n|[^\n]+")
_HUNK = lazy(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+\d{1,9}(?:,(\d{1,9}))? @@[^\n]*\n")
_NO_END = "\\ No newline at end of file\n"


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
    return _LINE.findall(text)


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


# -- the way back -----------------------------------------------------------------------------------------------------


class DiffError(Exception):
    """A text that is no unified diff of files that are there before and after, or one that does not fit a text."""


class Hunk(NamedTuple):
    """Lines with their ends, as they were and as they become; `start`: the first of them, from 0."""

    start: int
    old: tuple[str, ...]
    new: tuple[str, ...]


class FileDiff(NamedTuple):
    """The change of one file, by its path from the root with "/"; `body`: its hunks as they are written."""

    file: str
    hunks: tuple[Hunk, ...]
    body: str

    @property
    def changed(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The lines that go and those that come, wherever they stand."""
        pairs = [_without_context(hunk) for hunk in self.hunks]
        return tuple(line for old, _ in pairs for line in old), tuple(line for _, new in pairs for line in new)


def read_diff(patch: str) -> tuple[FileDiff, ...]:
    """Return the changes that a unified diff makes.

    Raises: DiffError for anything but changes of files that keep their names: no new file, no mode, nothing binary.
    """
    lines = _lines(patch)
    made: list[FileDiff] = []
    at = 0
    while at < len(lines):
        if not (lines[at].startswith("--- ") and lines[at + 1 : at + 2] and lines[at + 1].startswith("+++ ")):
            raise DiffError(f"its line {at + 1} begins no change of a file")
        old, new = _unquoted(lines[at][4:]), _unquoted(lines[at + 1][4:])
        if old[:2] != "a/" or new[:2] != "b/" or old[2:] != new[2:]:
            raise DiffError(f"its line {at + 1} makes, renames or removes a file")
        hunks: list[Hunk] = []
        at = begun = at + 2
        while at < len(lines) and (head := _HUNK.fullmatch(lines[at])) is not None:
            hunk, at = _hunk(lines, at + 1, head)
            hunks.append(hunk)
        if not hunks or any(file.file == old[2:] for file in made):
            raise DiffError(f"it says nothing, or twice, of {old[2:]}")
        made.append(FileDiff(old[2:], tuple(hunks), "".join(lines[begun:at])))
    return tuple(made)


def applied(patch: str, texts: Mapping[str, str]) -> dict[str, str]:
    """Return the texts, by file, with a unified diff applied.

    Raises: DiffError where a line of it does not stand where the diff says, or a file is not among the texts.
    """
    after = dict(texts)
    for change in read_diff(patch):
        if change.file not in texts:
            raise DiffError(f"{change.file} is not there")
        lines, kept = _lines(texts[change.file]), 0
        made: list[str] = []
        for hunk in change.hunks:
            stop = hunk.start + len(hunk.old)
            if hunk.start < kept or tuple(lines[hunk.start : stop]) != hunk.old:
                raise DiffError(f"{change.file} holds something else at line {hunk.start + 1}")
            made += lines[kept : hunk.start]
            made += hunk.new
            kept = stop
        after[change.file] = "".join(made + lines[kept:])
    return after


def renamed(patch: str, names: Mapping[str, str]) -> str:
    """Return a diff with its files under other names, old -> new; a file that is not among them keeps its own.

    Raises: DiffError for what is no diff.
    """
    return "".join(headed(names.get(change.file, change.file)) + change.body for change in read_diff(patch))


def headed(file: str) -> str:
    """Return the two lines that name a file before its hunks."""
    return f"--- {_name(f'a/{file}')}\n+++ {_name(f'b/{file}')}\n"


def _hunk(lines: list[str], at: int, head: re.Match[str]) -> tuple[Hunk, int]:
    """Return the hunk whose body begins at a line of a diff, and the line after it."""
    n_old, n_new = (int(head[group] or 1) if head[group] != "0" else 0 for group in (2, 3))
    old: list[str] = []
    new: list[str] = []
    last = ""
    while at < len(lines) and (len(old) < n_old or len(new) < n_new or lines[at] == _NO_END):
        kind, line = lines[at][0], lines[at][1:]
        at += 1
        if kind == "\\":
            for side in [side for side, its in ((old, " -"), (new, " +")) if last and last in its]:
                side[-1] = side[-1].removesuffix("\n")
            continue
        if kind not in " +-":
            raise DiffError(f"its line {at} is no line of a change")
        last = kind
        if kind in " -":
            old.append(line)
        if kind in " +":
            new.append(line)
    if len(old) != n_old or len(new) != n_new:
        raise DiffError(f"it ends in the middle of a change, at line {at}")
    return Hunk(int(head[1]) - (n_old > 0), tuple(old), tuple(new)), at


def _without_context(hunk: Hunk) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the lines of a hunk that differ: what both begin and end with is left out."""
    old, new = list(hunk.old), list(hunk.new)
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    return tuple(old), tuple(new)


def _unquoted(name: str) -> str:
    """Return a path that a diff names, without quotes and escapes of three octal digits."""
    name = name.removesuffix("\n")
    if len(name) < 2 or name[0] != '"' or name[-1] != '"':
        return name
    return re.sub(r"\\([0-3][0-7]{2})", lambda found: chr(int(found[1], 8)), name[1:-1])
