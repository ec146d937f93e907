"""The result of a check as other services read it: GitHub's annotations, GitLab's code quality report, JUnit's XML."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from traindoctor.check.baseline import fingerprints
from traindoctor.report.annotations import Annotation, workflow_commands
from traindoctor.report.suites import document
from traindoctor.report.wording import begun, clean, clean_block, first_sentence, stopped

if TYPE_CHECKING:
    from traindoctor.check.findings import Found
    from traindoctor.check.results import FileResult, Result

_GITLAB = {"error": "critical", "warning": "major", "info": "info"}


def github(result: Result) -> str:
    """Return workflow commands, the worst findings first, as many as GitHub shows."""
    found = [_annotation(one, file) for file in result.files for one in file.findings]
    return workflow_commands(found, "`traindoctor check` shows all")


def _annotation(one: Found, file: FileResult) -> Annotation:
    place = one.mistake.location
    line = place.line if not place.cell else file.source.line_in_file(place.line, place.cell)
    properties = {"file": clean(place.file, 1000), "line": str(max(1, line))}
    if not place.cell:
        properties["col"] = str(place.column)
        if place.end_line:
            properties["endLine"] = str(place.end_line)
            if place.end_line == place.line:
                properties["endColumn"] = str(place.end_column)
    properties["title"] = f"{one.code} {one.name}"
    advice = f"\n{begun(stopped(one.mistake.advice))}" if one.mistake.advice else ""
    return Annotation(str(one.mistake.severity), properties, clean_block(stopped(one.mistake.message) + advice))


def gitlab(result: Result) -> str:
    """Return a code quality report: a JSON list of issues.

    Source: docs.gitlab.com, "Code Quality", "Code Quality report format".
    """
    issues = []
    seen: dict[str, int] = {}
    for file in result.files:
        for one, mark in zip(file.findings, fingerprints(file), strict=True):
            place = one.mistake.location
            seen[mark] = seen.get(mark, 0) + 1
            line = max(1, place.line if not place.cell else file.source.line_in_file(place.line, place.cell))
            end = line if place.cell else max(place.end_line, line)
            issues.append(
                {
                    "description": f"{one.code} {one.name}: {stopped(one.mistake.message)}",
                    "check_name": one.code,
                    "fingerprint": f"{mark}{seen[mark]:04x}",
                    "severity": _GITLAB[str(one.mistake.severity)],
                    "categories": ["Bug Risk"],
                    "location": {"path": place.file, "lines": {"begin": line, "end": end}},
                }
            )
    return json.dumps(issues, ensure_ascii=True, indent=2) + "\n"


def junit(result: Result) -> str:
    """Return a test suite: a case for each file, with a failure for each finding, an error for what was not checked.

    Source: the schema of Jenkins' xUnit plugin, junit-10.xsd.
    """
    import xml.etree.ElementTree as ET

    suites = ET.Element("testsuites", name="traindoctor check")
    n_failures = sum(len(file.findings) for file in result.files)
    n_tests = len(result.files) + len(result.not_checked)
    totals = {"tests": str(n_tests), "failures": str(n_failures), "errors": str(len(result.not_checked))}
    suite = ET.SubElement(suites, "testsuite", {"name": "traindoctor check", **totals})
    for file in result.files:
        case = ET.SubElement(suite, "testcase", name=clean(file.file), classname="traindoctor")
        for one in file.findings:
            place = one.mistake.location
            message = f"{one.code} {one.name}: {first_sentence(one.mistake.message)}"
            failure = ET.SubElement(case, "failure", type=str(one.mistake.severity), message=clean(message, 2000))
            words = f"{place.text}:{place.column}: {stopped(one.mistake.message)} {begun(stopped(one.mistake.advice))}"
            failure.text = clean(words.strip(), 4000)
    for missed in result.not_checked:
        case = ET.SubElement(suite, "testcase", name=clean(missed.file), classname="traindoctor")
        ET.SubElement(case, "error", type="not-checked", message=clean(missed.reason))
    return document(suites)
