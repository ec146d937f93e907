"""A diagnosis as SARIF 2.1.0: each finding at the line of the config or the script that sets what convicts it.

Code scanning shows no result without a file of the repository, so that findings of the log alone are left out, and told of.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from traindoctor.report import wording as w
from traindoctor.report.fingerprint import fingerprint
from traindoctor.report.places import message_of, places_of
from traindoctor.report.sarif import LEVELS, MAX_PLACES, PRECISION, log_of, numbered, rule_of, top_of, uri_of
from traindoctor.report.view import diagnosis_first, in_order

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traindoctor.model import Finding, Report, Run
    from traindoctor.report.places import Place
    from traindoctor.rule import Cause


def to_sarif(report: Report, category: str = "diagnose") -> dict[str, Any]:
    """Return the findings that have a place in the repository of the working directory; the others are in the notifications."""
    from traindoctor.registry import load_rules

    top = top_of(Path.cwd())
    causes = load_rules().causes
    found: list[tuple[Finding, Run, list[Place]]] = []
    notes: list[tuple[str, str]] = []
    for one in map(diagnosis_first, in_order(report)):
        notes.append(("note", f"{one.run.name}: {one.verdict}: {one.summary}"))
        for finding in one.findings:
            places = places_of(finding, one.run, top)
            if places:
                found.append((finding, one.run, places))
            else:
                words = f"{one.run.name}: {fingerprint(one.run, finding)} is left out, no file of the repository sets it"
                notes.append((LEVELS[finding.severity], f"{words}: {finding.title}"))
    notes += [("error", problem) for problem in report.problems]
    first = {finding.code: finding for finding, _, _ in reversed(found)}
    codes = sorted(first)
    seen: dict[str, int] = {}
    return log_of(
        category,
        [_rule(first[code], causes) for code in codes],
        [_result(finding, run, places, codes, seen, top) for finding, run, places in found],
        notes,
    )


def _rule(finding: Finding, causes: Mapping[str, Cause]) -> dict[str, Any]:
    """Return the cause of a finding with its help; of a pack that is not installed here, what the finding says of it."""
    if finding.code in causes and causes[finding.code].name == finding.name:
        return rule_of(causes[finding.code])
    name = w.clean(finding.name.replace("-", " "))
    return {
        "id": w.clean(finding.code),
        "name": w.clean(finding.name),
        "shortDescription": {"text": w.stopped(name)},
        "fullDescription": {"text": w.stopped(name)},
        "help": {"text": w.sentence(finding.refutation) or w.stopped(name)},
        "properties": {"tags": ["machine-learning", "training"], "precision": PRECISION[finding.severity]},
    }


def _result(finding: Finding, run: Run, places: list[Place], codes: list[str], seen: dict[str, int], top: Path) -> dict[str, Any]:
    mark = fingerprint(run, finding)
    made: dict[str, Any] = {
        "ruleId": w.clean(finding.code),
        "ruleIndex": codes.index(finding.code),
        "level": LEVELS[finding.severity],
        "message": {"text": message_of(finding, run)},
        "locations": [_place(places[0], top)],
        "partialFingerprints": {"primaryLocationLineHash": numbered(mark, seen), "traindoctor/v1": mark},
    }
    if finding.confidence == finding.confidence:
        made["rank"] = round(100.0 * finding.confidence, 1)
    if places[1:]:
        made["relatedLocations"] = [
            {"id": i, **_place(place, top), "message": {"text": w.stopped(place.words or "It is set here")}}
            for i, place in enumerate(places[1 : MAX_PLACES + 1], 1)
        ]
    return made


def _place(place: Place, top: Path) -> dict[str, Any]:
    """Return a place; one in a cell of a notebook is at the file's first line, since its lines count from the cell's."""
    at = place.location
    region = {"startLine": 1} if at.cell else {"startLine": max(1, at.line), "startColumn": max(1, at.column)}
    if at.end_line and not at.cell:
        region |= {"endLine": at.end_line, "endColumn": max(1, at.end_column)}
    file = {"uri": uri_of(place.file, top), "uriBaseId": "%SRCROOT%"}
    return {"physicalLocation": {"artifactLocation": file, "region": region}}
