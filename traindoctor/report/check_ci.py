"""The result of a check as other services read it: GitHub's annotations, GitLab's code quality report, JUnit's XML."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from traindoctor.check.baseline import fingerprints
from traindoctor.report.wording import begun, clean, clean_block, first_sentence, stopped

if TYPE_CHECKING:
    from traindoctor.check.findings import Found
    from traindoctor.check.results import FileResult, Result

RANKS = {"error": 0, "warning": 1, "info": 2}
_COMMANDS = {"error": "error", "warning": "warning", "info": "notice"}
#: GitHub shows no more annotations of one level for one step of a job.
MOST = 10
_GITLAB = {"error": "critical", "warning": "major", "info": "info"}


def github(result: Result) -> str:
    """Return workflow commands, the worst findings first, ten of each level: what GitHub shows. Then how many there are.

    Source: docs.github.com, "Workflow commands"; actions/toolkit, command.ts: `%`, CR and LF are escaped, in properties `:`
    and `,` too.
    """
    lines, left_out = [], 0
    for severity in RANKS:
        found = [(one, file) for file in result.files for one in file.findings if one.mistake.severity == severity]
        left_out += max(0, len(found) - MOST)
        lines += [_annotation(one, file) for one, file in found[:MOST]]
    if left_out:
        lines.append(f"::notice title=traindoctor::{left_out} more findings: `traindoctor check` shows all")
    return "".join(f"{line}\n" for line in lines)


def _annotation(one: Found, file: FileResult) -> str:
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
    listed = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    advice = f"\n{begun(stopped(one.mistake.advice))}" if one.mistake.advice else ""
    return f"::{_COMMANDS[str(one.mistake.severity)]} {listed}::{_data(clean_block(stopped(one.mistake.message) + advice))}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


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
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"
