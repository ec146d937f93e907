"""The result of a check as SARIF 2.1.0, with what GitHub's code scanning reads of it.

Source: OASIS, Static Analysis Results Interchange Format (SARIF) 2.1.0; docs.github.com, "SARIF support for code scanning":
`partialFingerprints.primaryLocationLineHash`, relative URIs, `rules[]` with help, at most 25,000 results and 1,000 places.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from traindoctor import __version__
from traindoctor.check.baseline import fingerprints
from traindoctor.check.mend import changed, whole
from traindoctor.report.wording import begun, clean, stopped

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traindoctor.check.findings import Found
    from traindoctor.check.results import FileResult, Result
    from traindoctor.check.sources import Source
    from traindoctor.mistake import Location, Repair
    from traindoctor.rule import Cause

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
VERSION = "2.1.0"
LEVELS = {"error": "error", "warning": "warning", "info": "note"}
#: What GitHub shows of the confidence in a rule.
PRECISION = {"error": "very-high", "warning": "high", "info": "medium"}
HOME = "https://pypi.org/project/traindoctor/"
MAX_RESULTS = 25_000
MAX_PLACES = 100
MAX_DESCRIPTION = 1024


def to_sarif(result: Result, category: str = "check") -> dict[str, Any]:
    """Return a log of one run; paths are relative to the root of the repository, which its reader knows as %SRCROOT%.

    Places in a cell of a notebook are given as lines of the file, where the viewers look for them.
    """
    from traindoctor.registry import load_rules

    top = _top(Path.cwd())
    causes = load_rules().causes
    found = [(one, mark, file) for file in result.files for one, mark in zip(file.findings, fingerprints(file), strict=True)]
    found.sort(key=lambda known: list(LEVELS).index(str(known[0].mistake.severity)))
    found = found[:MAX_RESULTS]
    codes = sorted({one.code for one, _, _ in found})
    seen: dict[str, int] = {}
    return {
        "$schema": SCHEMA,
        "version": VERSION,
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "traindoctor",
                        "version": __version__,
                        "semanticVersion": __version__,
                        "informationUri": HOME,
                        "rules": [_rule(causes[code]) for code in codes],
                    }
                },
                "automationDetails": {"id": f"traindoctor/{category}/"},
                "columnKind": "unicodeCodePoints",
                "originalUriBaseIds": {"%SRCROOT%": {"description": {"text": "The root of the repository."}}},
                "invocations": [_invocation(result)],
                "results": [_result(one, file, codes, _numbered(mark, seen), top) for one, mark, file in found],
            }
        ],
    }


def _invocation(result: Result) -> dict[str, Any]:
    notes = [(f"{one.file}: not checked: {one.reason}", "warning") for one in result.not_checked]
    notes += [(problem, "error") for problem in result.problems]
    return {
        "executionSuccessful": not any(one.asked for one in result.not_checked),
        "toolExecutionNotifications": [{"level": level, "message": {"text": clean(text, 1000)}} for text, level in notes],
    }


def _rule(cause: Cause) -> dict[str, Any]:
    text = inspect.cleandoc(cause.explanation)
    return {
        "id": cause.code,
        "name": "".join(part.capitalize() for part in cause.name.split("-")),
        "shortDescription": {"text": stopped(cause.summary[:1].upper() + cause.summary[1:])},
        "fullDescription": {"text": text.partition("\n")[0][:MAX_DESCRIPTION]},
        "help": {"text": text, "markdown": text},
        "helpUri": f"{HOME}#{cause.code.lower()}-{cause.name}",
        "defaultConfiguration": {"level": LEVELS[cause.severity]},
        "properties": {
            "tags": ["machine-learning", "training"],
            "precision": PRECISION[cause.severity],
            "problem.severity": "recommendation" if cause.severity == "info" else cause.severity,
        },
    }


def _numbered(mark: str, seen: dict[str, int]) -> str:
    """Return a fingerprint with the number of times it was met, so that equal lines stay apart."""
    seen[mark] = seen.get(mark, 0) + 1
    return f"{mark}:{seen[mark]}"


def _result(one: Found, file: FileResult, codes: list[str], mark: str, top: Path) -> dict[str, Any]:
    mistake = one.mistake
    advice = f" {begun(stopped(mistake.advice))}" if mistake.advice else ""
    related = [
        {"id": i, **_place(place, file.source, top), "message": {"text": stopped(words)}}
        for i, (place, words) in enumerate(mistake.related[:MAX_PLACES], 1)
    ]
    made: dict[str, Any] = {
        "ruleId": one.code,
        "ruleIndex": codes.index(one.code),
        "level": LEVELS[str(mistake.severity)],
        "message": {"text": stopped(mistake.message) + advice},
        "locations": [_place(mistake.location, file.source, top)],
        "partialFingerprints": {"primaryLocationLineHash": mark},
    }
    if related:
        made["relatedLocations"] = related
    fix = _fix(mistake.repair, file.source, top) if mistake.repair is not None else None
    if fix is not None:
        made["fixes"] = [fix]
    return made


def _place(place: Location, source: Source, top: Path) -> dict[str, Any]:
    return {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(place.file, top), "uriBaseId": "%SRCROOT%"},
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


def _fix(repair: Repair, source: Source, top: Path) -> dict[str, Any] | None:
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
                "artifactLocation": {"uri": _uri(source.file, top), "uriBaseId": "%SRCROOT%"},
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


def _uri(file: str, top: Path) -> str:
    path = (Path.cwd() / file).resolve()
    name = path.relative_to(top).as_posix() if path.is_relative_to(top) else path.name
    return quote(name, errors="surrogateescape")


def _top(here: Path) -> Path:
    """Return the root of the repository that a folder lies in, else the folder."""
    here = here.resolve()
    return next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), here)
