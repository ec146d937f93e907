"""A comparison of runs in words, for a terminal, and as the JSON of `compare.schema.json`."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from traindoctor.report import wording as w
from traindoctor.report.lines import MARGIN, cut, entry, wrapped
from traindoctor.report.to_json import SCHEMA_VERSION, plain
from traindoctor.signals.parting import Parting, Together

if TYPE_CHECKING:
    from traindoctor.compare import Change, Compared, Comparison, ScriptChange
    from traindoctor.model import RunReport, Setting
    from traindoctor.report.lines import Words

#: Words of what a change has to do with the bad run, and their style.
STATUSES = {"explains": ("explains it", "fix"), "possible": ("not excluded", "bold"), "excluded": ("excluded", "soft")}
TONES = {"failed": "fault", "suspicious": "fault", "undecided": "bold", "healthy": "fine"}
#: So many changes of settings, and lines of a script, are told in full; JSON holds all.
MOST_CHANGES, MOST_LINES = 12, 12
ONE_GOOD_RUN = (
    "One good run was given: its own scatter, a stretch of time of a quarter and a share of the level stand for what another "
    "seed would do. Further good runs (--good PATH) would tell."
)


def comparison_json(comparison: Comparison, version: str) -> dict[str, Any]:
    """Return the comparison as plain dicts, lists, strings and finite numbers; NaN and infinities are strings."""
    c = comparison
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "traindoctor", "version": version},
        "good": [_run_object(report) for report in c.good],
        "bad": _run_object(c.bad),
        "differs": c.differs,
        "summary": c.summary,
        "step_unit": c.unit,
        "settings": [_change_object(change) for change in c.changes],
        "settings_varying_among_good": list(c.varying),
        "scripts": [
            {
                "good": s.good or None,
                "bad": s.bad or None,
                "lines": [{"run": "bad" if at.in_bad else "good", "line": at.number, "text": at.text} for at in s.lines],
                "code": s.code or None,
                "evidence": list(s.evidence),
            }
            for s in c.scripts
        ],
        "quantities": [_compared_object(one) for one in c.compared],
        "begins": None if c.beginning is None else {"at": c.beginning.place, "step": c.beginning.step, "text": c.beginning.text},
        "cause": None
        if c.cause is None
        else {"code": c.cause.code, "name": c.cause.name, "confidence": plain(c.cause.confidence)},
        "noise": _noise(c),
        "notes": list(c.notes),
    }


def comparison_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of what `comparison_json` returns."""
    text = resources.files("traindoctor.report").joinpath("compare.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _run_object(report: RunReport) -> dict[str, Any]:
    run = report.run
    return {
        "name": run.name,
        "path": w.relative(run.path, run.root),
        "verdict": report.verdict,
        "summary": report.summary,
        "first_cause": report.findings[0].code if report.findings and report.verdict != "healthy" else None,
    }


def _change_object(change: Change) -> dict[str, Any]:
    d = change.difference
    return {
        "key": d.key,
        "known": d.known,
        "good": _setting_object(d.good),
        "bad": _setting_object(d.bad),
        "status": change.status,
        "reason": change.reason,
        "code": change.code or None,
        "replay": change.trial,
    }


def _setting_object(setting: Setting | None) -> dict[str, Any] | None:
    return None if setting is None else {"value": plain(setting.value), "origin": setting.origin}


def _compared_object(one: Compared) -> dict[str, Any]:
    made: dict[str, Any] = {"quantity": one.quantity, "tags": list(one.tags), "parts": None, "compared": None}
    made["reason"] = one.reason
    if isinstance(one.outcome, Together):
        made["compared"] = {"start": one.outcome.start, "stop": one.outcome.stop, "points": one.outcome.n_points}
    elif isinstance(one.outcome, Parting):
        p = one.outcome
        made["parts"] = {
            "step": p.step,
            "together_until": p.since,
            "good": plain(p.good),
            "bad": plain(p.bad),
            "noise_low": plain(p.low),
            "noise_high": plain(p.high),
            "lost": p.lost,
            "together_again": p.until,
            "points": p.n_points,
        }
    return made


# -- in words -------------------------------------------------------------------------------------------------------------


def comparison_lines(comparison: Comparison, width: int = 88) -> list[list[Words]]:
    """Return the comparison as lines of styled words."""
    c = comparison
    tone = "fine" if not c.differs and c.is_comparable else "bold"
    lines: list[list[Words]] = [*wrapped([(w.sentence(c.summary, 1500), tone)], width), []]
    for i, report in enumerate(c.good):
        lines += entry("good" if i == 0 else "", _run_words(report), width)
    lines += [*entry("bad", _run_words(c.bad), width), []]
    lines += _changes(c, width)
    for i, script in enumerate(c.scripts):
        lines += _script(script, width, first=i == 0)
    for i, one in enumerate(c.compared):
        lines += entry("curves" if i == 0 else "", _curve_words(one, c.unit), width)
    if c.beginning is not None:
        lines += entry("begins", [(w.sentence(c.beginning.text), "")], width)
    lines += entry("noise", [(_noise(c), "soft")], width)
    for i, note in enumerate(c.notes):
        lines += entry("note" if i == 0 else "", [(w.sentence(note), "")], width)
    return lines


def _run_words(report: RunReport) -> list[Words]:
    said = "" if report.verdict == "healthy" else f": {w.sentence(report.summary, 300)}"
    return [(w.clean(report.run.name, 80), "bold"), ("  ", ""), (report.verdict, TONES[report.verdict]), (said, "")]


def _changes(c: Comparison, width: int) -> list[list[Words]]:
    if not c.changes:
        known = all(r.run.settings or r.run.config_files for r in (*c.good, c.bad))
        return entry("settings", [("none differs" if known else "could not be compared", "soft")], width)
    lines: list[list[Words]] = []
    shown = c.changes[:MOST_CHANGES]
    for i, change in enumerate(shown):
        d = change.difference
        head: list[Words] = [(w.clean(d.key, 80), "bold"), (f"  {_value(d.good)} → {_value(d.bad)}", "")]
        lines += entry("settings" if i == 0 else "", [*head, (f"  ({_origins(d.good, d.bad)})", "soft")], width)
        after = shown[i + 1] if i + 1 < len(shown) else None
        if after is None or (after.status, after.reason) != (change.status, change.reason):  # one reason for several: said once
            word, style = STATUSES[change.status]
            said = wrapped([(word, style), (f": {w.sentence(change.reason)}", "")], max(30, width - MARGIN - 2))
            lines += [[(" " * (MARGIN + 2), ""), *line] for line in said]
    if len(c.changes) > MOST_CHANGES:
        lines += entry("", [(f"and {len(c.changes) - MOST_CHANGES} more (--format json lists them)", "soft")], width)
    if c.varying:
        varying = cut(w.clean(", ".join(c.varying)), 200)
        lines += entry("", [(f"the good runs differ among themselves in {varying}", "soft")], width)
    return lines


def _value(setting: Setting | None) -> str:
    return "not set" if setting is None else cut(w.setting(setting.value), 60)


def _origins(good: Setting | None, bad: Setting | None) -> str:
    told = dict.fromkeys(cut(w.clean(s.origin), 60) for s in (good, bad) if s is not None and s.origin)
    return " and ".join(told) or "origin not known"


def _script(script: ScriptChange, width: int, *, first: bool) -> list[list[Words]]:
    label = "scripts" if first else ""
    if not (script.good and script.bad):
        which = "good" if script.good else "bad"
        return entry(label, [(f"{w.clean(script.good or script.bad)} stands beside the {which} run alone", "")], width)
    told = f": {script.code} is proved by line {w.listed([str(n) for n in script.evidence])}" if script.code else ""
    head = f"{w.clean(script.good)} and {w.clean(script.bad)} differ{told}"
    if script.good == script.bad:
        head = f"{w.clean(script.bad)} differs{told}"
    lines = entry(label, [(head, "bold" if script.code else "")], width)
    evidence_first = sorted(script.lines, key=lambda at: not (at.in_bad and at.number in script.evidence))
    for at in evidence_first[:MOST_LINES]:
        sign, style = ("+", "fault") if at.in_bad else ("-", "fix")
        text = cut(w.clean(at.text), max(30, width - MARGIN - 8))
        lines.append([(" " * MARGIN + f"{at.number:>5} ", "soft"), (f"{sign} {text}", style)])
    if len(script.lines) > MOST_LINES:
        lines += entry("", [(f"and {len(script.lines) - MOST_LINES} lines more (--format json lists them)", "soft")], width)
    return lines


def _curve_words(one: Compared, unit: str) -> list[Words]:
    name = one.quantity.replace("_", " ")
    match one.outcome:
        case Parting() as p if p.lost:
            said = f"is lost at {unit} {w.count(p.step)} in the bad run alone (NaN or infinite)"
            return [(f"{name}  ", "bold"), (said, "fault")]
        case Parting() as p:
            apart = "is apart from the start" if p.since is None else f"parts by {unit} {w.count(p.step)}"
            since = f"beyond noise by {unit} {w.count(p.step)}" if p.since is None else f"together up to {w.count(p.since)}"
            told = f"{since}; {w.number(p.bad)} where the good run has {w.number(p.good)}"
            told += f" and noise allows {w.number(p.low)} to {w.number(p.high)}" if p.high > 1.05 * p.low else ""
            told += f"; together again from {w.count(p.until)}" if p.until is not None else ""
            return [(f"{name}  ", "bold"), (apart, "fault"), (f", {told}", "")]
        case Together() as t:
            points = w.plural(t.n_points, "point")
            return [(f"{name}  ", "bold"), (f"together over {unit}s {w.count(t.start)} to {w.count(t.stop)}, {points}", "")]
    return [(f"{name}  ", "bold"), (f"not compared: {one.reason}", "soft")]


def _noise(c: Comparison) -> str:
    if len(c.good) == 1:
        return ONE_GOOD_RUN
    return (
        f"{len(c.good)} good runs were given: the band is what they span, widened by their scatter and by how far they "
        "typically lie apart."
    )
