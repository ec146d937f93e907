"""The result of a check as the object that `check --format json` prints: the contract that `check.schema.json` states."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from traindoctor import __version__
from traindoctor.check.baseline import fingerprints
from traindoctor.check.mend import patch_of
from traindoctor.report.to_json import SCHEMA_VERSION, plain
from traindoctor.report.wording import first_sentence
from traindoctor.rule import PRIOR, PROOF, STRONG

if TYPE_CHECKING:
    from traindoctor.check.findings import Found
    from traindoctor.check.results import FileResult, Result
    from traindoctor.check.sources import Source
    from traindoctor.mistake import Location, Repair

#: What a place in a file weighs as evidence, in the nats of `traindoctor.rule`: what holds on every path is proven.
_NATS = {"error": PROOF + STRONG, "warning": PROOF, "info": STRONG}


def to_json(result: Result, n_below: int = 0) -> dict[str, Any]:
    """Return the result as plain dicts, lists, strings and numbers, files by name and findings by place.

    `n_below`: findings that are below the level asked for, and not listed.
    """
    found = [one for file in result.files for one in file.findings]
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "traindoctor", "version": __version__},
        "files": [_file(file) for file in result.files],
        "not_checked": [
            {"path": one.file, "line": one.line or None, "reason": one.reason, "asked": one.asked} for one in result.not_checked
        ],
        "unused_suppressions": [
            {
                "path": remark.file,
                "line": remark.line,
                "column": remark.column,
                "cell": remark.cell or None,
                "codes": list(remark.codes),
                "kind": remark.kind,
                "message": remark.message,
            }
            for file in result.files
            for remark in file.remarks
        ],
        "problems": list(result.problems),
        "summary": {
            "n_files": len(result.files),
            "n_other_files": result.n_other,
            "n_links_not_followed": result.n_links,
            **{f"n_{severity}": sum(one.mistake.severity == severity for one in found) for severity in _NATS},
            "n_below_level": n_below,
            "n_silenced": sum(file.n_silenced for file in result.files),
            "n_in_baseline": result.n_known,
            "n_fixable": sum(one.mistake.repair is not None and one.mistake.repair.safe for one in found),
        },
    }


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of what `to_json` returns."""
    from importlib import resources

    text = resources.files("traindoctor.report").joinpath("check.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _file(file: FileResult) -> dict[str, Any]:
    marks = fingerprints(file)
    return {
        "path": file.file,
        "kind": file.source.kind,
        "dialect": file.dialect or None,
        "findings": [_finding(one, file, mark) for one, mark in zip(file.findings, marks, strict=True)],
    }


def _finding(one: Found, file: FileResult, mark: str) -> dict[str, Any]:
    mistake = one.mistake
    title = first_sentence(mistake.message)
    places = [(mistake.location, title), *mistake.related]
    severity = str(mistake.severity)
    return {
        "code": one.code,
        "name": one.name,
        "severity": severity,
        "confidence": _confidence(severity),
        "title": title,
        "message": mistake.message,
        "advice": mistake.advice,
        "fingerprint": mark,
        "evidence": [
            {
                "for": True,
                "kind": "config" if file.source.kind == "config" else "code",
                "name": one.name,
                "value": place.text,
                "unit": "",
                "source": place.text,
                "text": words,
            }
            for place, words in places
        ],
        "locations": [{**_place(place), "text": words} for place, words in places],
        "rivals": [],
        "consequences": [],
        "fixes": [] if mistake.repair is None else [_fix(mistake.repair, dict(mistake.settings), file.source)],
    }


def _confidence(severity: str) -> float:
    from math import exp

    return round(1.0 / (1.0 + exp(-(PRIOR + _NATS[severity]))), 3)


def _place(place: Location) -> dict[str, Any]:
    return {
        "file": place.file,
        "line": place.line,
        "column": place.column,
        "end_line": place.end_line or None,
        "end_column": place.end_column or None,
        "cell": place.cell or None,
    }


def _fix(repair: Repair, settings: dict[str, object], source: Source) -> dict[str, Any]:
    return {
        "title": repair.title,
        "settings": plain(settings),
        "patch": patch_of(source, repair),
        "safe": repair.safe,
        "replay": {"depth": "none", "verdict": "not tried", "before": {}, "after": {}},
    }
