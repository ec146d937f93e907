"""The verdict for a terminal: what fits a screen, as plain text or with the same words in colour."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.report import wording as w
from traindoctor.report.curve import curves_of
from traindoctor.report.lines import MARGIN, ansi_text, cut, entry, margin, plain_text, shortened, wrapped
from traindoctor.report.sparkline import levels_of, scale_words, sparkline
from traindoctor.report.view import FindingView, FixView, RunView, TagView, diagnosis_first, in_order, view_run
from traindoctor.signals.thinning import whole_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from traindoctor.model import Across, FloatArray, Report, RunReport
    from traindoctor.report.lines import Words

#: Runs that are told in full when several are given; the table names all.
IN_FULL = 3
#: Causes of a sweep that are told.
MOST_CAUSES = 5
#: Lines of one run at the usual width: what a terminal shows at once, and a prompt.
SCREEN, USUAL = 40, 88
#: Columns that a curve has at most, and at least beside its scale.
LONGEST_CURVE, SHORTEST_CURVE = 60, 20
#: What a terminal that cannot show it gets instead.
ASCII = str.maketrans(
    {
        "←": "<-", "→": "->", "−": "-", "…": "...", "×": "x", "▲": "^", "√": "sqrt ", "’": "'", "·": "*", "≥": ">=", "≤": "<=",
        "\u0302": "^", "β": "beta", "ε": "eps", "λ": "lambda", "₁": "1", "₂": "2", "–": "-",
    }
)  # fmt: skip


class Detail(NamedTuple):
    """How much is told of a run: pieces of evidence for and against, rivals, other findings, and lines of each thing."""

    supports: int
    against: int
    rivals: int
    others: int
    summary: int
    patch: int
    lines: int
    record: int


#: From the most to the least: the first that fits the screen is told.
DETAILS = (
    Detail(3, 2, 3, 3, summary=7, patch=6, lines=3, record=4),
    Detail(3, 2, 3, 2, summary=5, patch=6, lines=3, record=2),
    Detail(3, 2, 2, 2, summary=4, patch=6, lines=3, record=1),
    Detail(3, 2, 2, 1, summary=4, patch=6, lines=2, record=1),
    Detail(3, 1, 1, 1, summary=3, patch=4, lines=2, record=1),
    Detail(2, 1, 1, 1, summary=3, patch=4, lines=1, record=1),
)


def render_text(report: Report, width: int = USUAL, *, colour: bool = False, ascii_only: bool = False) -> str:
    """Return the verdict as text, lines of at most about `width` characters, with a line break at the end.

    `colour`: with the escape sequences of a terminal. `ascii_only`: for a stream that cannot hold the bars of a curve.
    """
    lines = lines_of(report, width, ascii_only=ascii_only)
    text = ansi_text(lines) if colour else plain_text(lines)
    return text.translate(ASCII) if ascii_only else text


def lines_of(report: Report, width: int = USUAL, *, ascii_only: bool = False) -> list[list[Words]]:
    """Return the verdict as lines of styled words: the worst run first, at most a screen for each of three."""
    runs = [(one, view_run(one, report.names)) for one in in_order(report)]
    lines: list[list[Words]] = []
    if not runs:
        lines.append([("no run was found", "bold")])
    if len(runs) > 1:
        lines += _overview([view for _, view in runs], width)
    told = runs if len(runs) == 1 else [run for run in runs if run[1].verdict != "healthy"][:IN_FULL]
    for i, (one, view) in enumerate(told):
        if i or len(runs) > 1:
            lines.append([])
        lines += _fitting(one, view, width, ascii_only=ascii_only)
    if len(runs) > 1 and len(told) < len(runs):
        words = f"{len(told)} of {len(runs)} runs are told in full; --html FILE writes them all."
        lines += [[], *wrapped([(words, "soft")], width)]
    if report.across is not None:
        lines += _across(report.across, width)
    for problem in report.problems:
        lines += entry("pack failed", [(w.clean(problem, 500), "fault")], width)
    return lines


def _overview(views: Sequence[RunView], width: int) -> list[list[Words]]:
    longest = min(32, max(8, width - 24), max(len(v.name) for v in views))
    made = []
    for v in views:
        head = f"{cut(v.name, longest):<{longest}}  {v.verdict:<10}  "
        words = " ".join(f"{v.lead} {v.rest}".split())
        room = width - len(head)
        told = cut(words, room) if room >= 20 else ""
        made.append([(head[: longest + 2], "bold"), (head[longest + 2 :], v.tone), (told, "")])
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


def _fitting(report: RunReport, view: RunView, width: int, *, ascii_only: bool) -> list[list[Words]]:
    """Return what is said of a run, in as much detail as a screen holds; a narrow one scrolls."""
    curves = _curves(report, view, width, ascii_only=ascii_only)
    most = SCREEN if width >= USUAL else SCREEN * USUAL // width
    lines: list[list[Words]] = []
    for detail in DETAILS:
        lines = _run(view, curves, width, detail)
        if len(lines) <= most:
            break
    return lines


def _run(view: RunView, curves: list[list[Words]], width: int, detail: Detail) -> list[list[Words]]:
    tone = view.tone if view.tone != "ink" else "bold"
    name = cut(view.name, max(12, width - len(view.verdict) - 2))
    told = [(view.lead, tone), (" " if view.lead else "", ""), (_plain(view.rest), "")]
    lines: list[list[Words]] = [
        *wrapped([(name, "bold"), ("  ", ""), (view.verdict.upper(), tone), ("  " + view.extent, "soft")], width),
        [],
        *shortened(wrapped(told, width), detail.summary, width),
        [],
        *curves,
        *_integrity(view, width, detail),
    ]
    first = view.diagnosis
    if first is not None:
        lines += _finding(first, view, width, detail)
    for i, step in enumerate(view.next_steps[: max(2, detail.record)]):
        words = [(f"{i + 1}. {_plain(step)}", "bold" if i == 0 else "")]
        lines += entry("next" if i == 0 else "", words, width, detail.lines)
    for i, other in enumerate(view.others[: detail.others]):
        head = f"{other.code} {other.confidence} {other.word}: "
        words = [(head, ""), (_plain(f"{other.lead} {other.rest}"), "")]
        lines += entry("also found" if i == 0 else "", words, width, detail.lines)
    if len(view.others) > detail.others:
        lines += entry("", [(f"and {w.plural(len(view.others) - detail.others, 'finding')} more", "soft")], width)
    return lines + _record(view, width, detail)


def _curves(report: RunReport, view: RunView, width: int, *, ascii_only: bool) -> list[list[Words]]:
    """Return the loss, and what convicts, as bars over the same steps, with a mark where it begins."""
    curves = {quantity: curve for quantity, curve in curves_of(report).items() if len(curve.step)}
    if not curves:
        return []
    wholes = [whole_of(report.run.primary[quantity]) for quantity in curves]
    first = min(whole.first_step for whole in wholes if whole.first_step is not None)
    last = max(whole.last_step for whole in wholes if whole.last_step is not None)
    levels = {quantity: levels_of([curve.value]) for quantity, curve in curves.items()}
    scales = {quantity: _scale(curve.value, levels[quantity]) for quantity, curve in curves.items()}
    left = margin(width)
    room = width - left - 2 - max(map(len, scales.values()))
    beside = left == MARGIN and room >= SHORTEST_CURVE
    n = min(LONGEST_CURVE, room if beside else width - left)
    segment = diagnosis_first(report).findings[0].segment if view.diagnosis is not None else None
    onset = None if segment is None else segment.onset
    mark = None
    if onset is not None and first <= onset <= last:
        mark = min(n - 1, int((onset - first) / (last - first + 1.0) * n))
    lines: list[list[Words]] = []
    for quantity, curve in curves.items():
        bars = sparkline(curve.step, curve.value, (first, last), levels[quantity], n, ascii_only=ascii_only)
        drawn = [(bars, "")] if mark is None else [(bars[:mark], ""), (bars[mark:], view.tone)]
        label = cut(w.clean(quantity).replace("_", " "), MARGIN - 2)
        scale = f"{' ' * (n - len(bars))}  {scales[quantity]}" if beside else ""
        if left == MARGIN:
            lines.append([(f"{label:<{MARGIN}}", "soft"), *drawn, (scale, "soft")])
        else:
            lines += [[(f"{label}, {scales[quantity]}", "soft")], [(" " * left, ""), *drawn]]
    if mark is not None and onset is not None:
        lines.append([(" " * left, ""), (_marked(mark, report.run.step_unit, onset, width - left), view.tone)])
    return [*lines, []]


def _scale(value: FloatArray, levels: tuple[float, float]) -> str:
    """Return what the bars of a curve span, in few words."""
    finite = value[np.isfinite(value)]
    if not finite.size:
        return "NaN or infinity"
    if finite.min() == finite.max():
        return f"{w.number(float(finite[0]))} throughout" if finite.size == value.size else f"{w.number(float(finite[0]))}, and ×"
    return scale_words(levels).replace(" scale from", ",")


def _marked(mark: int, unit: str, onset: int, room: int) -> str:
    """Return the mark below a curve with as many words beside it as there is room for."""
    for words in (f"onset at {unit} {w.count(onset)}", w.count(onset)):
        if mark + 2 + len(words) <= room:
            return f"{' ' * mark}▲ {words}"
        if mark > len(words):
            return f"{' ' * (mark - len(words) - 1)}{words} ▲"
    return " " * mark + "▲"


def _integrity(view: RunView, width: int, detail: Detail) -> list[list[Words]]:
    """Return what was damaged, which comes before all that rests on the log."""
    return _notes("integrity", view.doubts, width, detail) or entry("integrity", [("sound", "")], width)


def _notes(label: str, notes: Sequence[tuple[str, str, str]], width: int, detail: Detail) -> list[list[Words]]:
    lines: list[list[Words]] = []
    for i, (kind, file, words) in enumerate(notes[: detail.record]):
        lines += entry(label if i == 0 else "", [(f"{kind}, {file}: {_plain(words)}", "")], width, detail.lines)
    if len(notes) > detail.record:
        lines += entry("", [(f"and {len(notes) - detail.record} more (traindoctor inspect lists them)", "soft")], width)
    return lines


def _finding(finding: FindingView, view: RunView, width: int, detail: Detail) -> list[list[Words]]:
    sure = [(f"{finding.confidence} {finding.word}", "bold"), (f"  {finding.code} {finding.name}", "")]
    lines = entry("confidence", sure, width)
    for label, pieces in (("for", finding.supports[: detail.supports]), ("against", finding.against[: detail.against])):
        for i, one in enumerate(pieces):
            words = _evidence(one.value, one.unit, one.text, unit_first=one.unit_first)
            lines += entry(label if i == 0 else "", words, width, detail.lines)
    if not finding.against:
        lines += entry("against", [("nothing that was looked at", "soft")], width)
    if finding.fixes:
        lines += _fix(finding.fixes[0], width, detail)
    lines += _tried(view, width, detail)
    fact = view.facts[1]
    told = " ".join(piece.text for fix in finding.fixes[:1] for piece in fix.said)
    why = f"; {fact.note}" if fact.note and fact.note[1:] not in told else ""
    lines += entry("reproduced", [(fact.text + why, "")], width, detail.lines)
    for i, rival in enumerate(finding.rivals[: detail.rivals]):
        head = f"{rival.code} {rival.name.lower()} {rival.confidence}: "
        words = [(head, ""), (cut(_plain(rival.why_not), 160), "soft")]
        lines += entry("rivals" if i == 0 else "", words, width, detail.lines)
    return lines


def _tried(view: RunView, width: int, detail: Detail) -> list[list[Words]]:
    """Return the changes that were tried on the replay, by what came of them."""
    words: list[Words] = []
    for verdict in ("repairs", "postpones", "worse", "no effect", "not tried"):
        rungs = [t for t in view.ladder if t.verdict == verdict and not t.is_recorded]
        if rungs:
            words += [("; " if words else "", ""), (verdict, rungs[0].tone)]
            words.append((f" {_listed([_plain(t.title) for t in rungs], 6)}", ""))
    return entry("tried", words, width, detail.lines) if words else []


def _evidence(value: str, unit: str, text: str, *, unit_first: bool) -> list[Words]:
    shown = f"{unit} {value}" if unit_first else f"{value} {unit}".strip()
    return [(f"{shown}  " if value else "", "bold"), (cut(_plain(text), 220), "")]


def _fix(fix: FixView, width: int, detail: Detail) -> list[list[Words]]:
    left, room = " " * margin(width), width - margin(width)
    lines = [[], *entry("first fix", [(_plain(fix.title), "fix")], width, detail.lines)]
    if fix.patch:
        body = [line for line in fix.patch.splitlines() if not line.startswith(("---", "+++", "@@"))]
        changed = [line for line in body if line[:1] in "+-"]
        target = next((line[4:].removeprefix("b/") for line in fix.patch.splitlines() if line.startswith("+++ ")), "")
        shown = changed[: detail.patch]
        lines += [[(left + cut(line.rstrip(), room), "fix" if line[0] == "+" else "soft")] for line in shown]
        if target and changed:
            where = f"   in {w.clean(target, 60)}"
            if len(lines[-1][0][0]) + len(where) <= width:
                lines[-1].append((where, "soft"))
            else:
                lines.append([(left + cut(where, room), "soft")])
    else:
        for s in fix.settings[: detail.patch]:
            was = f"{s.value} → " if s.value else ""
            lines += entry("", [(f"{s.key}  {was}", ""), (s.becomes, "fix")], width, 1)
    lines += entry("", [(_plain(p.text), p.tone) for p in fix.said], width, detail.lines)
    if fix.note:
        lines += entry("", [(cut(_plain(fix.note), 300), "soft")], width, detail.lines)
    return [*lines, []]


def _record(view: RunView, width: int, detail: Detail) -> list[list[Words]]:
    lines = entry("tags", [(_tags(view.mapped), "")], width, detail.lines)
    if view.unmapped:
        lines += entry("", [("no role: " + _listed(tuple(t.tag for t in view.unmapped), 6), "soft")], width, 1)
    lines += _notes("put together", view.stitches, width, detail)
    lines += _notes("noted", [note for note in view.damages if note not in view.doubts], width, detail)
    for i, gap in enumerate(view.gaps[: min(3, detail.record)]):
        lines += entry("the log lacks" if i == 0 else "", [(_plain(gap.removeprefix("no ")), "")], width, 1)
    lines += entry("checked", [(view.facts[3].text, "")], width, 1)
    shown = view.not_checked[: detail.record]
    for i, group in enumerate(shown):
        codes = _listed(tuple(c.split(" ")[0] for c in group.causes), 5)
        lines += entry("not checked" if i == 0 else "", [(f"{group.reason}: ", ""), (codes, "soft")], width, 1)
    left = sum(len(g.causes) for g in view.not_checked[len(shown) :])
    if left:
        lines += entry("", [(f"and {left} more for other reasons (--format json lists them)", "soft")], width, 1)
    return lines


def _tags(mapped: Iterable[TagView]) -> str:
    pairs = [f"{t.role} ← {t.tag}" for t in mapped]
    return _listed(tuple(pairs), 8) if pairs else "no tag took a role; --tag QUANTITY=TAG names one"


def _listed(items: Sequence[str], most: int) -> str:
    shown = ", ".join(items[:most])
    return shown + (f" and {len(items) - most} more" if len(items) > most else "")


def _plain(text: str) -> str:
    return text.replace("`", "")
