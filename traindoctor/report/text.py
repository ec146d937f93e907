"""The verdict for a terminal: what fits a screen, as plain text or with the same words in colour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.report import wording as w
from traindoctor.report.lines import MARGIN, cut, entry, plain_text, print_lines, wrapped
from traindoctor.report.view import FindingView, FixView, RunView, TagView, view_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from traindoctor.model import Across, Report
    from traindoctor.report.lines import Words

#: Runs that are told in full when several are given; the table names all.
IN_FULL = 3
#: Causes of a sweep that are told.
MOST_CAUSES = 5


def render_text(report: Report, width: int = 88) -> str:
    """Return the verdict as plain text, lines of at most about `width` characters, with a line break at the end."""
    return plain_text(lines_of(report, width))


def print_rich(report: Report, console: Console) -> None:
    """Print the same words to a terminal, in colour. No string of a log is read as markup."""
    print_lines(lines_of(report, min(console.width, 100)), console)


def lines_of(report: Report, width: int = 88) -> list[list[Words]]:
    """Return the verdict as lines of styled words: the worst run first, at most a screen for each of three."""
    views = view_of(report)
    lines: list[list[Words]] = []
    if not views:
        lines.append([("no run was found", "bold")])
    if len(views) > 1:
        lines += _overview(views, width)
    told = views if len(views) == 1 else tuple(v for v in views if v.verdict != "healthy")[:IN_FULL]
    for i, view in enumerate(told):
        if i or len(views) > 1:
            lines.append([])
        lines += _run(view, width)
    if len(views) > 1 and len(told) < len(views):
        lines += [[], [(f"{len(told)} of {len(views)} runs are told in full; --html FILE writes them all.", "soft")]]
    if report.across is not None:
        lines += _across(report.across, width)
    for problem in report.problems:
        lines += entry("pack failed", [(w.clean(problem, 500), "fault")], width)
    return lines


def _overview(views: Sequence[RunView], width: int) -> list[list[Words]]:
    longest = min(32, max(len(v.name) for v in views))
    made = []
    for v in views:
        head = f"{cut(v.name, longest):<{longest}}  {v.verdict:<10}  "
        words = " ".join(f"{v.lead} {v.rest}".split())
        made.append([(head[: longest + 2], "bold"), (head[longest + 2 :], v.tone), (cut(words, max(20, width - len(head))), "")])
    return made


def _across(across: Across, width: int) -> list[list[Words]]:
    """Return what several runs say together: nothing more than their number where none of them failed."""
    if not across.failed:
        return []
    lines = [[], *entry("across runs", [(w.sentence(across.text), "bold")], width)]
    for cause in across.causes[:MOST_CAUSES]:
        lines += entry("", [(w.sentence(cause.text), "fault" if cause.separations else "")], width)
    if len(across.causes) > MOST_CAUSES:
        lines += entry("", [(f"and {len(across.causes) - MOST_CAUSES} causes more (--format json lists them)", "soft")], width)
    return lines


def _run(view: RunView, width: int) -> list[list[Words]]:
    tone = view.tone if view.tone != "ink" else "bold"
    lines: list[list[Words]] = [
        [(view.name, "bold"), ("  ", ""), (view.verdict.upper(), tone), ("  " + view.extent, "soft")],
        [],
        *wrapped([(view.lead, tone), (" " if view.lead else "", ""), (_plain(view.rest), "")], width),
        [],
        *_integrity(view, width),
    ]
    first = view.diagnosis
    if first is not None:
        lines += _finding(first, view, width)
    if view.verdict == "healthy":
        lines += entry("checked", [(_listed(view.silent, 8), "")], width)
    for i, step in enumerate(view.next_steps):
        lines += entry("next" if i == 0 else "", [(f"{i + 1}. {_plain(step)}", "bold" if i == 0 else "")], width)
    for i, other in enumerate(view.others[:3]):
        head = f"{other.code} {other.confidence} {other.word}: "
        lines += entry("also found" if i == 0 else "", [(head, ""), (_plain(f"{other.lead} {other.rest}"), "")], width)
    if len(view.others) > 3:
        lines += entry("", [(f"and {w.plural(len(view.others) - 3, 'finding')} more", "soft")], width)
    lines += _record(view, width)
    return lines


def _integrity(view: RunView, width: int) -> list[list[Words]]:
    """Return what was damaged, which comes before all that rests on the log."""
    return _notes("integrity", view.doubts, width) or entry("integrity", [("sound", "")], width)


def _notes(label: str, notes: Sequence[tuple[str, str, str]], width: int) -> list[list[Words]]:
    lines: list[list[Words]] = []
    for i, (kind, file, detail) in enumerate(notes[:4]):
        lines += entry(label if i == 0 else "", [(f"{kind}, {file}: {_plain(detail)}", "")], width)
    if len(notes) > 4:
        lines += entry("", [(f"and {len(notes) - 4} more (traindoctor inspect lists them)", "soft")], width)
    return lines


def _finding(finding: FindingView, view: RunView, width: int) -> list[list[Words]]:
    sure = [(f"{finding.confidence} {finding.word}", "bold"), (f"  {finding.code} {finding.name}", "")]
    lines = entry("confidence", sure, width)
    for i, evidence in enumerate(finding.supports[:3]):
        lines += entry(
            "for" if i == 0 else "",
            _evidence(evidence.value, evidence.unit, evidence.text, unit_first=evidence.unit_first),
            width,
        )
    against = finding.against[:2]
    for i, evidence in enumerate(against):
        lines += entry(
            "against" if i == 0 else "",
            _evidence(evidence.value, evidence.unit, evidence.text, unit_first=evidence.unit_first),
            width,
        )
    if not against:
        lines += entry("against", [("nothing that was looked at", "soft")], width)
    if finding.fixes:
        lines += _fix(finding.fixes[0], width)
    if view.ladder:
        rungs: list[Words] = []
        for trial in view.ladder[:10]:
            if not trial.is_recorded:
                rungs += [((", " if rungs else "") + f"{_plain(trial.title)} ", ""), (trial.verdict, trial.tone)]
        if rungs:
            lines += entry("tried", rungs, width)
    fact = view.facts[1]
    told = " ".join(piece.text for fix in finding.fixes[:1] for piece in fix.said)
    why = f"; {fact.note}" if fact.note and fact.note[1:] not in told else ""
    lines += entry("reproduced", [(fact.text + why, "")], width)
    for i, rival in enumerate(finding.rivals[:3]):
        head = f"{rival.code} {rival.name.lower()} {rival.confidence}: "
        lines += entry("rivals" if i == 0 else "", [(head, ""), (cut(_plain(rival.why_not), 160), "soft")], width)
    return lines


def _evidence(value: str, unit: str, text: str, *, unit_first: bool) -> list[Words]:
    shown = f"{unit} {value}" if unit_first else f"{value} {unit}".strip()
    return [(f"{shown}  " if value else "", "bold"), (cut(_plain(text), 220), "")]


def _fix(fix: FixView, width: int) -> list[list[Words]]:
    lines = [[], *entry("first fix", [(_plain(fix.title), "fix")], width)]
    if fix.patch:
        body = [line for line in fix.patch.splitlines() if not line.startswith(("---", "+++", "@@"))]
        changed = [line for line in body if line[:1] in "+-"]
        target = next((line[4:].removeprefix("b/") for line in fix.patch.splitlines() if line.startswith("+++ ")), "")
        lines += [[(" " * MARGIN + cut(line.rstrip(), 70), "fix" if line[0] == "+" else "soft")] for line in changed[:6]]
        if target and changed:
            lines[-1].append((f"   in {w.clean(target, 60)}", "soft"))
    else:
        for s in fix.settings[:6]:
            was = f"{s.value} → " if s.value else ""
            lines.append([(" " * MARGIN + f"{s.key}  {was}", ""), (s.becomes, "fix")])
    lines += entry("", [(_plain(p.text), p.tone) for p in fix.said], width)
    if fix.note:
        lines += entry("", [(cut(_plain(fix.note), 300), "soft")], width)
    return [*lines, []]


def _record(view: RunView, width: int) -> list[list[Words]]:
    lines = entry("tags", [(_tags(view.mapped), "")], width)
    if view.unmapped:
        lines += entry("", [("no role: " + _listed(tuple(t.tag for t in view.unmapped), 6), "soft")], width)
    lines += _notes("put together", view.stitches, width)
    lines += _notes("noted", [note for note in view.damages if note not in view.doubts], width)
    for i, gap in enumerate(view.gaps[:3]):
        lines += entry("the log lacks" if i == 0 else "", [(cut(_plain(gap.removeprefix("no ")), 200), "")], width)
    lines += entry("checked", [(view.facts[3].text, "")], width)
    for i, group in enumerate(view.not_checked[:4]):
        codes = _listed(tuple(c.split(" ")[0] for c in group.causes), 5)
        lines += entry("not checked" if i == 0 else "", [(f"{group.reason}: ", ""), (codes, "soft")], width)
    if len(view.not_checked) > 4:
        left = sum(len(g.causes) for g in view.not_checked[4:])
        lines += entry("", [(f"and {left} more for other reasons (--format json lists them)", "soft")], width)
    return lines


def _tags(mapped: Iterable[TagView]) -> str:
    pairs = [f"{t.role} ← {t.tag}" for t in mapped]
    return _listed(tuple(pairs), 8) if pairs else "no tag took a role; --tag QUANTITY=TAG names one"


def _listed(items: Sequence[str], most: int) -> str:
    shown = ", ".join(items[:most])
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")


def _plain(text: str) -> str:
    return text.replace("`", "")
