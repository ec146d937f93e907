"""The forms in which a diagnosis is printed, by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from traindoctor.model import Report

FORMATS = ("text", "json", "jsonl", "sarif", "markdown", "github", "junit")


class Look(NamedTuple):
    """How text is laid out: its width in columns, whether with colours, and whether in ASCII alone. Other forms have no look."""

    width: int = 88
    colour: bool = False
    ascii_only: bool = False


PLAIN = Look()


def rendered(report: Report, form: str, look: Look = PLAIN) -> str:
    """Return the report in one of `FORMATS`, with a line break at its end: the same text for the same report."""
    if form == "json":
        from traindoctor.report.saving import json_of

        return json_of(report)
    if form == "jsonl":
        from traindoctor.report.to_json import to_json_lines

        return "".join(f"{json.dumps(one, ensure_ascii=True, allow_nan=False)}\n" for one in to_json_lines(report))
    if form == "sarif":
        from traindoctor.report.diagnosis_sarif import to_sarif

        return json.dumps(to_sarif(report), ensure_ascii=True, allow_nan=False, indent=2) + "\n"
    if form == "markdown":
        from traindoctor.report.markdown import render_markdown

        return render_markdown(report)
    if form == "github":
        from traindoctor.report.github import render_github

        return render_github(report)
    if form == "junit":
        from traindoctor.report.junit import render_junit

        return render_junit(report)
    from traindoctor.report.text import render_text

    return render_text(report, look.width, colour=look.colour, ascii_only=look.ascii_only)
