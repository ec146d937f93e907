"""A diagnosis as annotations of a job on GitHub: at the line that sets what convicts, else at no file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from traindoctor.report import wording as w
from traindoctor.report.annotations import Annotation, workflow_commands
from traindoctor.report.places import message_of, places_of
from traindoctor.report.sarif import name_of, top_of
from traindoctor.report.view import diagnosis_first, in_order

if TYPE_CHECKING:
    from traindoctor.model import Finding, Report, Run


def render_github(report: Report) -> str:
    """Return workflow commands, the worst and surest findings first, as many as GitHub shows; "" where nothing was found."""
    top = top_of(Path.cwd())
    made: list[tuple[float, Annotation]] = []
    for one in map(diagnosis_first, in_order(report)):
        made += [(finding.confidence, _annotation(finding, one.run, top)) for finding in one.findings]
        if one.verdict == "undecided" and not one.findings:
            words = f"Run {w.clean(one.run.name, 100)} is undecided: {w.stopped(w.sentence(one.summary, 600))}"
            made.append((0.0, Annotation("info", {"title": "traindoctor"}, words.replace("`", ""))))
    ranked = sorted(made, key=lambda pair: -pair[0] if pair[0] == pair[0] else 0.0)
    return workflow_commands([one for _, one in ranked], "`--format markdown` shows all")


def _annotation(finding: Finding, run: Run, top: Path) -> Annotation:
    properties = {}
    for place in places_of(finding, run, top)[:1]:
        at = place.location
        properties = {"file": w.clean(name_of(place.file, top), 1000), "line": str(1 if at.cell else max(1, at.line))}
        if not at.cell:
            properties["col"] = str(max(1, at.column))
            if at.end_line:
                properties["endLine"] = str(at.end_line)
                if at.end_line == at.line:
                    properties["endColumn"] = str(at.end_column)
    properties["title"] = w.clean(f"{finding.code} {finding.name}")
    return Annotation(finding.severity, properties, message_of(finding, run))
