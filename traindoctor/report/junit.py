"""A diagnosis as JUnit's XML: a suite for each run, a case for each cause.

Source: the schema of Jenkins' xUnit plugin, junit-10.xsd.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from traindoctor.report.suites import document
from traindoctor.report.view import diagnosis_first, in_order, view_run
from traindoctor.report.wording import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traindoctor.model import Finding, Report, RunReport
    from traindoctor.report.view import FindingView

#: Severities that fail a case; a remark does not.
FAILING = ("error", "warning")
#: Longest text of a failure.
LONGEST = 8000


def render_junit(report: Report) -> str:
    """Return one test suite a run, the worst first, and in each one case a cause.

    A finding of a warning or worse is a failure, what could not be checked is skipped with its reason, and so is a
    consequence of another cause.
    """
    suites = ET.Element("testsuites", name="traindoctor diagnose")
    made = [_suite(one, report.names) for one in in_order(report)]
    for total in ("tests", "failures"):
        suites.set(total, str(sum(int(suite.get(total, "0")) for suite in made)))
    suites.set("errors", "0")
    suites.extend(made)
    return document(suites)


def _suite(report: RunReport, names: Mapping[str, str]) -> ET.Element:
    report = diagnosis_first(report)
    view = view_run(report, names)
    suite = ET.Element("testsuite", name=view.name)
    properties = ET.SubElement(suite, "properties")
    for name, value in (("verdict", view.verdict), ("path", view.path), ("extent", view.extent)):
        ET.SubElement(properties, "property", name=name, value=value)
    seen = set()
    for finding, words in zip(report.findings, view.findings, strict=True):
        seen.add(finding.code)
        case = _case(suite, finding.code, finding.name, view.name)
        if finding.severity in FAILING:
            message = f"{words.lead} {words.rest}".strip()
            failure = ET.SubElement(case, "failure", type=finding.severity, message=clean(message, 2000))
            failure.text = _told(finding, words)
        else:
            ET.SubElement(case, "system-out").text = _told(finding, words)
    for finding in report.findings:
        for code in finding.consequences:
            if code not in seen:
                seen.add(code)
                _skipped(_case(suite, code, names.get(code, ""), view.name), f"a consequence of {finding.code} {finding.name}")
    for one in report.not_checked:
        if one.code not in seen:
            seen.add(one.code)
            _skipped(_case(suite, one.code, names.get(one.code, ""), view.name), one.reason)
    for code in report.checked:
        if code not in seen:
            seen.add(code)
            _case(suite, code, names.get(code, ""), view.name)
    ET.SubElement(suite, "system-out").text = f"{view.lead} {view.rest}".strip()
    cases = suite.findall("testcase")
    for total, child in (("failures", "failure"), ("skipped", "skipped")):
        suite.set(total, str(sum(case.find(child) is not None for case in cases)))
    suite.set("tests", str(len(cases)))
    suite.set("errors", "0")
    return suite


def _case(suite: ET.Element, code: str, name: str, run: str) -> ET.Element:
    return ET.SubElement(suite, "testcase", name=clean(f"{code} {name}".strip()), classname=run)


def _skipped(case: ET.Element, reason: str) -> None:
    ET.SubElement(case, "skipped", message=clean(reason))


def _told(finding: Finding, words: FindingView) -> str:
    """Return the evidence, the first fix and the confidence as lines."""
    lines = [f"{words.code} {words.name}, {finding.severity}, confidence {words.confidence}, {words.word}"]
    lines += [f"at {place}" for place in words.places]
    for label, pieces in (("for", words.supports), ("against", words.against)):
        lines += [" ".join(f"{label}: {one.value} {one.unit} {one.text} ({one.source})".split()) for one in pieces]
    for fix in words.fixes[:1]:
        lines += [f"first fix: {fix.title}", *fix.patch.splitlines()]
    return "\n".join(lines)[:LONGEST]
