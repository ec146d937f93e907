"""The result for a file as plain values for the cache, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traindoctor.check.findings import Found
from traindoctor.check.results import FileResult
from traindoctor.mistake import Edit, Location, Mistake, Repair

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traindoctor.check.sources import Source
    from traindoctor.check.suppressions import Remark


def packed(result: FileResult | None) -> dict[str, Any]:
    """Return a result without its text, as what JSON holds; of a file without training code, nothing."""
    if result is None:
        return {}
    return {
        "dialect": result.dialect,
        "findings": [_found(one) for one in result.findings],
        "n_silenced": result.n_silenced,
        "remarks": [list(remark) for remark in result.remarks],
        "blank": list(result.blank),
    }


def unpacked(entry: Mapping[str, Any], source: Source) -> FileResult | None:
    """Return the result that was packed, for the text that it was made of.

    Raises: ValueError, TypeError, KeyError for what was packed by nobody.
    """
    if not entry:
        return None
    if source.kind == "notebook" and entry["findings"]:
        from traindoctor.check.notebooks import script_of

        text, notebook = script_of(source.text)
        source = source._replace(text=text, notebook=notebook)
    return FileResult(
        source,
        entry["dialect"],
        tuple(_found_again(*one) for one in entry["findings"]),
        entry["n_silenced"],
        _remarks(entry["remarks"]),
        tuple(entry["blank"]),
    )


def _remarks(listed: list[list[Any]]) -> tuple[Remark, ...]:
    if not listed:
        return ()
    from traindoctor.check.suppressions import Remark

    return tuple(
        Remark(kind, file, line, column, cell, tuple(codes), message) for kind, file, line, column, cell, codes, message in listed
    )


def _found(one: Found) -> list[Any]:
    mistake = one.mistake
    repair = mistake.repair
    return [
        one.code,
        one.name,
        list(mistake.location),
        mistake.message,
        mistake.advice,
        mistake.severity,
        None if repair is None else [repair.title, [list(edit) for edit in repair.edits], repair.safe],
        [[list(place), words] for place, words in mistake.related],
        dict(mistake.settings),
    ]


def _found_again(
    code: str, name: str, place: Any, message: str, advice: str, severity: Any, repair: Any, related: Any, settings: Any
) -> Found:
    return Found(
        code,
        name,
        Mistake(
            Location(*place),
            message,
            advice,
            severity,
            None if repair is None else Repair(repair[0], tuple(Edit(*edit) for edit in repair[1]), repair[2]),
            tuple((Location(*where), words) for where, words in related),
            settings,
        ),
    )
