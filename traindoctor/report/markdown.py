"""A diagnosis as Markdown: what one pastes into an issue, or a job writes to `$GITHUB_STEP_SUMMARY`.

Names and values of logs are shown as what they are: they cannot end a fence or a table, link, mention anyone, or be HTML.
Source: the GitHub Flavored Markdown Spec, 0.29: backslash escapes 6.1, code spans 6.3, fenced code blocks 4.5, tables 4.10.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from traindoctor.model import VERDICTS
from traindoctor.report import wording as w
from traindoctor.report.lines import cut
from traindoctor.report.view import view_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.model import Across, Report
    from traindoctor.report.view import EvidenceView, FindingView, FixView, RunView

#: Runs that are told in full when several are given; the table has more, and says how many it leaves out.
IN_FULL, IN_TABLE = 3, 100
#: Lines of a patch that are shown.
LONGEST_PATCH = 200

_CODE = re.compile(r"`([^`\n]{1,200})`")
#: What means something anywhere, and what does at the beginning of a line.
_SPECIAL = re.compile(r"[\\`*_\[\]<>#|~$&]|^[-+=]|(?<=^\d)[.)]|(?<=^\d\d)[.)]")
#: Between what GitHub would make a mention, a reference or a link of.
_REFERENCE = re.compile(r"(?<=@)(?=\w)|(?<=\\#)(?=\d)|(?<=://)|(?i:(?<=\bgh-)(?=\d))|(?i:(?<=\bwww)(?=\.))")
#: A space of no width.
_APART = "\u200b"


def render_markdown(report: Report) -> str:
    """Return the verdict, the cause with its evidence, its fix as a diff, and what was not checked; the worst run first."""
    views = view_of(report)
    lines: list[str] = []
    if not views:
        lines.append("No run was found.")
    if len(views) > 1:
        lines += _table(views)
    told = views if len(views) == 1 else tuple(v for v in views if v.verdict != "healthy")[:IN_FULL]
    for view in told:
        lines += _run(view)
    if len(views) > 1 and len(told) < len(views):
        lines += ["", f"{len(told)} of {len(views)} runs are told in full."]
    lines += _across(report.across)
    for problem in report.problems:
        lines += ["", f"**A rule pack failed to load:** {escaped(w.clean(problem, 500))}"]
    lines += ["", f"<sub>{escaped(f'traindoctor {w.clean(report.version)}')}</sub>"]
    return "\n".join(lines).lstrip("\n") + "\n"


def escaped(text: str) -> str:
    """Return a text of one line as Markdown that shows it letter by letter."""
    made = _SPECIAL.sub(lambda m: f"\\{m[0]}", text)
    return _REFERENCE.sub(_APART, made)


def prose(text: str) -> str:
    """Return a sentence of ours with its `code` as such and all else escaped."""
    return "".join(code(piece) if i % 2 else escaped(piece) for i, piece in enumerate(_CODE.split(text)))


def code(text: str) -> str:
    """Return a text as a code span: with more backticks around it than it holds."""
    fence = "`" * (_longest_run(text) + 1)
    apart = " " if text[:1] in ("`", "") or text[-1:] == "`" else ""
    return f"{fence}{apart}{text}{apart}{fence}"


def fenced(text: str, language: str) -> list[str]:
    """Return a text as the lines of a fenced block that nothing in it can end."""
    fence = "`" * max(3, _longest_run(text) + 1)
    lines = text.splitlines()
    shown = lines[:LONGEST_PATCH]
    more = [f"({len(lines) - len(shown)} more lines)"] if len(lines) > len(shown) else []
    return [f"{fence}{language}", *shown, fence, *more]


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def _table(views: Sequence[RunView]) -> list[str]:
    rows = ["| run | verdict | what |", "| --- | --- | --- |"]
    rows += [f"| {_cell(v.name)} | {v.verdict} | {_cell(f'{v.lead} {v.rest}'.strip())} |" for v in views[:IN_TABLE]]
    counts = ", ".join(f"{n} {word}" for word in VERDICTS if (n := sum(v.verdict == word for v in views)))
    left = f", {len(views) - IN_TABLE} not in the table" if len(views) > IN_TABLE else ""
    return [f"**{len(views)} runs**: {counts}{left}", "", *rows]


def _cell(text: str, longest: int = 200) -> str:
    """Return a sentence for a cell of a table; code with a bar in it is no code there, since a bar ends the cell in it too."""
    return prose(_CODE.sub(lambda m: m[1] if "|" in m[1] else m[0], cut(text, longest)))


def _run(view: RunView) -> list[str]:
    lines = [
        "",
        f"### {escaped(view.name)}: {view.verdict}",
        "",
        f"{prose(f'{view.lead} {view.rest}'.strip())} ({escaped(view.extent)})",
    ]
    if view.doubts:
        lines += ["", "**The log is damaged:**", ""]
        lines += [f"- {code(kind)}, {code(file)}: {prose(detail)}" for kind, file, detail in view.doubts[:8]]
        lines += [f"- and {len(view.doubts) - 8} more"] if len(view.doubts) > 8 else []
    if view.diagnosis is not None:
        lines += _finding(view.diagnosis, view)
    if view.next_steps:
        lines += ["", "**What would decide:**", "", *(f"{i}. {prose(step)}" for i, step in enumerate(view.next_steps, 1))]
    if view.others:
        lines += ["", "**Also found:**", ""]
        for other in view.others[:8]:
            words = prose(f"{other.lead} {other.rest}".strip())
            lines.append(f"- **{escaped(other.code)}** {escaped(other.name)} ({other.severity}, {other.confidence}): {words}")
        lines += [f"- and {len(view.others) - 8} more"] if len(view.others) > 8 else []
    return [*lines, *_record(view)]


def _finding(finding: FindingView, view: RunView) -> list[str]:
    head = f"**{escaped(finding.code)} {escaped(finding.name)}**, confidence {escaped(finding.confidence)}, {finding.word}"
    lines = ["", head + (f"; {escaped(finding.where)}" if finding.where else "")]
    lines += ["", "| | | evidence | source |", "| --- | --: | --- | --- |"]
    pieces = [("for", one) for one in finding.supports[:6]] + [("against", one) for one in finding.against[:4]]
    lines += [_evidence(label, one) for label, one in pieces]
    if finding.fixes:
        lines += _fix(finding.fixes[0])
    lines += [f"- or: {prose(fix.title)}{_outcome(fix)}" for fix in finding.fixes[1:4]]
    lines += ["", f"**Reproduced:** {escaped(view.facts[1].text)}"]
    if finding.rivals:
        lines += ["", "<details><summary>Other causes that were considered</summary>", ""]
        for rival in finding.rivals[:6]:
            words = (
                f"- **{escaped(rival.code)}** {escaped(rival.name.lower())} ({escaped(rival.confidence)}): {prose(rival.why_not)}"
            )
            lines.append(words + (f" To tell: {prose(rival.experiment)}" if rival.experiment else ""))
        lines += ["", "</details>"]
    if finding.refutation:
        lines += ["", f"**What would refute it:** {prose(finding.refutation)}"]
    return lines


def _evidence(label: str, one: EvidenceView) -> str:
    shown = f"{one.unit} {one.value}" if one.unit_first else f"{one.value} {one.unit}"
    return f"| {label} | {escaped(shown.strip())} | {_cell(one.text, 400)} | {_cell(one.source)} |"


def _fix(fix: FixView) -> list[str]:
    lines = ["", f"**First fix:** {prose(fix.title)}", ""]
    if fix.patch:
        lines += [*fenced(fix.patch, "diff"), ""]
    else:
        for s in fix.settings[:8]:
            was = f"{code(s.value)} to " if s.value else ""
            lines.append(f"- {code(s.key)}: {was}{code(s.becomes)}")
        lines += [""] if fix.settings else []
    lines.append(prose("".join(piece.text for piece in fix.said)))
    return [*lines, "", prose(fix.note), ""] if fix.note else [*lines, ""]


def _outcome(fix: FixView) -> str:
    return f" ({fix.word})" if fix.word != "not tried" else ""


def _record(view: RunView) -> list[str]:
    lines = ["", f"<details><summary>{escaped(view.facts[3].text)}</summary>", ""]
    lines += [f"- not checked, {escaped(group.reason)}: {escaped(_codes(group.causes))}" for group in view.not_checked[:12]]
    if len(view.not_checked) > 12:
        left = sum(len(group.causes) for group in view.not_checked[12:])
        lines.append(f"- and {left} more for other reasons")
    lines += [f"- the log lacks: {prose(gap.removeprefix('no '))}" for gap in view.gaps[:8]]
    lines += [
        f"- role {code(tag.role)}: tag {code(tag.tag)} of {code(tag.source)}, {tag.points} points" for tag in view.mapped[:12]
    ]
    return [*lines, "", "</details>"]


def _codes(causes: Sequence[str]) -> str:
    return ", ".join(cause.partition(" ")[0] for cause in causes)


def _across(across: Across | None) -> list[str]:
    if across is None or not across.failed:
        return []
    lines = ["", f"**Across the runs:** {prose(w.sentence(across.text))}", ""]
    return [*lines, *(f"- {prose(w.sentence(cause.text))}" for cause in across.causes[:8])]
