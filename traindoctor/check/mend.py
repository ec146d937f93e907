"""Repairs -> the text with them made, byte for byte the same elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

#: Lines around a change that a diff shows.
CONTEXT = 3

if TYPE_CHECKING:
    from collections.abc import Iterable

    from traindoctor.check.findings import Found
    from traindoctor.check.sources import Source
    from traindoctor.mistake import Edit, Repair


def together(found: Iterable[Found], *, unsafe: bool = False) -> list[Repair]:
    """Return the repairs that can be made at once, the safe ones or all.

    One that touches the characters of an earlier one is left for the next round; an edit that two of them make is made once.
    """
    taken: list[Edit] = []
    repairs: list[Repair] = []
    for repair in (one.mistake.repair for one in found):
        if repair is None or not repair.edits or not (repair.safe or unsafe):
            continue
        if all(edit in taken or all(edit.stop < t.start or edit.start > t.stop for t in taken) for edit in repair.edits):
            taken += repair.edits
            repairs.append(repair)
    return repairs


def edits_of(repairs: Iterable[Repair]) -> set[Edit]:
    """Return the edits of some repairs, each once."""
    return {edit for repair in repairs for edit in repair.edits}


def edited(text: str, edits: Iterable[Edit]) -> str:
    """Return the text with edits made that do not touch each other."""
    for start, stop, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[stop:]
    return text


def mended(text: str, found: Iterable[Found], *, unsafe: bool = False) -> str:
    """Return the text with the edits of all repairs that are safe (or of all), those that touch an earlier one left out."""
    return edited(text, edits_of(together(found, unsafe=unsafe)))


def whole(source: Source) -> str:
    """Return the text of the file itself, which is not that of its script for a notebook."""
    return source.text if source.notebook is None else source.notebook.json_text


def changed(source: Source, edits: Iterable[Edit]) -> str | None:
    """Return the text of the file with edits of its script made; None where one does not fit a cell of a notebook."""
    if source.notebook is None:
        return edited(source.text, edits)
    from traindoctor.check.notebooks import rewritten

    return rewritten(source.notebook, edits)


def patch_of(source: Source, repair: Repair) -> str | None:
    """Return one repair as a unified diff of the user's file, None where it cannot be made."""
    after = changed(source, repair.edits) if source.text else None
    return None if after is None else unified(source.file, whole(source), after)


def unified(file: str, before: str, after: str) -> str:
    """Return a diff that `git apply` takes, "" for no difference. A line ends at a line feed alone, as git has it."""
    import difflib

    old, new = _lines(before), _lines(after)
    longest = min(len(old), len(new))
    head = next((i for i in range(longest) if old[i] != new[i]), longest)
    tail = next((i for i in range(longest - head) if old[-1 - i] != new[-1 - i]), longest - head)
    head, tail = max(0, head - CONTEXT), max(0, tail - CONTEXT)  # of 50,000 lines difflib need not see those that are equal

    made = []
    for line in difflib.unified_diff(
        old[head : len(old) - tail], new[head : len(new) - tail], f"a/{file}", f"b/{file}", n=CONTEXT
    ):
        words = line.split(" ")
        if words[0] == "@@":
            line = " ".join(["@@", *(_moved(part, head) for part in words[1:3]), *words[3:]])
        made.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
    return "".join(made)


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _moved(part: str, by: int) -> str:
    """Return a range of a hunk's head ("-1,7") that begins so many lines later."""
    start, comma, length = part[1:].partition(",")
    return f"{part[0]}{int(start) + by}{comma}{length}"
