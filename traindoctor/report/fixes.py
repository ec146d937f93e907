"""The fixes of `traindoctor fix` in lines of a terminal: what to change, what the replay said of it, and the diff."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.report.lines import MARGIN, entry
from traindoctor.report.view import view_finding
from traindoctor.report.wording import clean, clean_block, confidence, likelihood, sentence

if TYPE_CHECKING:
    from traindoctor.model import Finding, RunReport
    from traindoctor.report.lines import Words


def finding_lines(report: RunReport, finding: Finding, fingerprint: str, width: int) -> list[list[Words]]:
    """Return what a finding is called, how sure it is, and of which run it is; of an undecided run, that it is not decided."""
    tone = {"error": "fault", "warning": "doubt"}.get(finding.severity, "note")
    title = report.summary if report.verdict == "undecided" else finding.title
    name = clean(report.run.name, 200) or "run"
    lines = entry(name if len(name) < MARGIN else "", [(sentence(title, 300), tone)], width)
    if len(name) >= MARGIN:
        lines.insert(0, [(name, "soft")])
    sure = f"{confidence(finding.confidence)} {likelihood(finding.confidence)}"
    words = [(fingerprint, "soft"), (f"  {clean(finding.name.replace('-', ' '), 80)}, ", "soft"), (sure, "bold")]
    return [*lines, *entry("", words, width)]


def fix_lines(report: RunReport, finding: Finding, number: int, aside: Words, width: int) -> list[list[Words]]:
    """Return what a fix is and what the replay said of it; `aside`: a label and words on its patch, or why it has none."""
    fix = view_finding(finding, report, {}).fixes[number - 1]
    of = f" of {len(finding.fixes)}" if len(finding.fixes) > 1 else ""
    lines = entry(f"fix {number}{of}", [(fix.title, "fix")], width)
    lines += entry("", [(piece.text, piece.tone) for piece in fix.said], width)
    told = "".join(piece.text for piece in fix.said)
    if fix.note and fix.note[1:] not in told:  # why it was not tried is both
        lines += entry("", [(fix.note, "soft")], width)
    label, words = aside
    return [*lines, *entry(label, [(clean(words, 600), "doubt")], width)] if words else lines


def diff_lines(patch: str) -> list[list[Words]]:
    """Return a diff for a terminal: whatever would steer it is shown as text."""
    styles = {"+": "fix", "-": "fault", "@": "soft"}
    made: list[list[Words]] = []
    for line in clean_block(patch).splitlines():
        style = "bold" if line.startswith(("--- ", "+++ ")) else styles.get(line[:1], "")
        made.append([(line, style)])
    return made
