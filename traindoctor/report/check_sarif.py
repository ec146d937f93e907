"""The result of a check as SARIF 2.1.0, with what GitHub's code scanning reads of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from traindoctor.check.baseline import fingerprints
from traindoctor.check.mend import changed, whole
from traindoctor.report.sarif import LEVELS, MAX_PLACES, log_of, numbered, rule_of, top_of, uri_of
from traindoctor.report.wording import begun, stopped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traindoctor.check.findings import Found
    from traindoctor.check.results import FileResult, Result
    from traindoctor.check.sources import Source
    from traindoctor.mistake import Location, Repair


def to_sarif(result: Result, category: str = "check") -> dict[str, Any]:
    """Return a log of one run; paths are relative to the root of the repository, which its reader knows as %SRCROOT%.

    Places in a cell of a notebook are given as lines of the file, where the viewers look for them.
    """
    from traindoctor.registry import load_rules

    here = Path.cwd()
    top = top_of(here)
    causes = load_rules().causes
    found = [(one, mark, file) for file in result.files for one, mark in zip(file.findings, fingerprints(file), strict=True)]
    codes = sorted({one.code for one, _, _ in found})
    seen: dict[str, int] = {}
    notes = [("warning", f"{one.file}: not checked: {one.reason}") for one in result.not_checked]
    notes += [("error", problem) for problem in result.problems]
    return log_of(
        category,
        [rule_of(causes[code]) for code in codes],
        [_result(one, file, codes, numbered(mark, seen), here, top) for one, mark, file in found],
        notes,
        successful=not any(one.asked for one in result.not_checked),
    )


def _result(one: Found, file: FileResult, codes: list[str], mark: str, here: Path, top: Path) -> dict[str, Any]:
    mistake = one.mistake
    advice = f" {begun(stopped(mistake.advice))}" if mistake.advice else ""
    related = [
        {"id": i, **_place(place, file.source, here, top), "message": {"text": stopped(words)}}
        for i, (place, words) in enumerate(mistake.related[:MAX_PLACES], 1)
    ]
    made: dict[str, Any] = {
        "ruleId": one.code,
        "ruleIndex": codes.index(one.code),
        "level": LEVELS[str(mistake.severity)],
        "message": {"text": stopped(mistake.message) + advice},
        "locations": [_place(mistake.location, file.source, here, top)],
        "partialFingerprints": {"primaryLocationLineHash": mark},
    }
    if related:
        made["relatedLocations"] = related
    fix = _fix(mistake.repair, file.source, here, top) if mistake.repair is not None else None
    if fix is not None:
        made["fixes"] = [fix]
    return made


def _place(place: Location, source: Source, here: Path, top: Path) -> dict[str, Any]:
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": uri_of(here / place.file, top), "uriBaseId": "%SRCROOT%"},
            "region": _region(place, source),
        }
    }


def _region(place: Location, source: Source) -> Mapping[str, int]:
    if place.cell:
        line = source.line_in_file(place.line, place.cell)
        return {"startLine": line} if line else {"startLine": 1}
    region = {"startLine": place.line, "startColumn": place.column}
    if place.end_line:
        region |= {"endLine": place.end_line, "endColumn": place.end_column}
    return region


def _fix(repair: Repair, source: Source, here: Path, top: Path) -> dict[str, Any] | None:
    """Return a repair as replacements of characters of the file; None for a cell of a notebook that they do not fit."""
    if source.notebook is None:
        edits = [(edit.start, edit.stop, edit.text) for edit in sorted(repair.edits)]
    else:
        after = changed(source, repair.edits)
        if after is None:
            return None
        edits = [_difference(whole(source), after)]
    return {
        "description": {"text": repair.title},
        "artifactChanges": [
            {
                "artifactLocation": {"uri": uri_of(here / source.file, top), "uriBaseId": "%SRCROOT%"},
                "replacements": [
                    {
                        "deletedRegion": {"charOffset": start, "charLength": stop - start},
                        "insertedContent": {"text": text},
                    }
                    for start, stop, text in edits
                ],
            }
        ],
    }


def _difference(before: str, after: str) -> tuple[int, int, str]:
    """Return the characters between the common beginning and the common end of two texts, and what stands there after."""
    start = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after)))
    stop = 0
    while stop < min(len(before), len(after)) - start and before[-1 - stop] == after[-1 - stop]:
        stop += 1
    return start, len(before) - stop, after[start : len(after) - stop]
