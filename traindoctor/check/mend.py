"""Repairs -> the text with them made, byte for byte the same elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.diff import unified_diff

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
    return None if after is None else unified_diff(source.file, whole(source), after, marked=source.bom)


def diff_of(before: Source, after: Source) -> bytes:
    """Return the change of a file as the bytes of a diff, its lines in the encoding of the file."""
    diff = unified_diff(before.file, whole(before), whole(after), marked=before.bom)
    if diff is None:
        return b""
    old, new, lines = diff.split("\n", 2)
    return f"{old}\n{new}\n".encode("utf-8", "surrogateescape") + lines.encode(before.encoding, "backslashreplace")
