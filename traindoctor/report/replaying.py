"""A replay as words and numbers: for a terminal, with the losses as lines of bars, and as the JSON of `replay.schema.json`."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from traindoctor import __version__
from traindoctor.report import wording as w
from traindoctor.report.lines import Words, cut, entry, plain_text, wrapped
from traindoctor.report.outlook import outlook_object, view_outlook
from traindoctor.report.sparkline import levels_of, scale_words, sparkline
from traindoctor.report.to_json import SCHEMA_VERSION, optimizer_object, plain, replay_object
from traindoctor.report.view import DEPTHS, TRIAL_TONES, extent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.model import Curve, Hypothesis, Replay, Run, Trial
    from traindoctor.replay.outlook import Outlook

#: How far above the highest logged loss the bars go, as a factor.
ABOVE = 100.0
#: Characters of a change's title in the table.
LONGEST_TITLE = 34


@dataclass(frozen=True, slots=True)
class CauseView:
    """A cause that was simulated: its share of the belief, and how well it makes the log."""

    code: str
    name: str
    share: str
    error: str
    likelihood: str
    note: str


@dataclass(frozen=True, slots=True)
class TriedView:
    """One change and what came of it; `tail` is the highest loss of the last sixth, `interval` where it lies in 9 of 10 draws."""

    title: str
    verdict: str
    tone: str
    tail: str
    interval: str
    slower: str
    sureness: str
    note: str


@dataclass(frozen=True, slots=True)
class ReplayView:
    """What is said of a replay: what was replayed, how well, what else makes the log, what was tried.

    `how`: empty where nothing was replayed; then `refusal` says why. `tried`: the recorded settings first, empty without changes.
    """

    name: str
    extent: str
    lead: str
    tone: str
    how: str
    where: str
    score: str
    refusal: str
    causes: tuple[CauseView, ...]
    tried: tuple[TriedView, ...]


def repairing(replay: Replay) -> list[Trial]:
    """Return the changes that repair, those without a reservation first."""
    return sorted(
        (t for t in replay.trials if t.settings and t.verdict == "repairs"), key=lambda t: (bool(t.note), t.slower or np.inf)
    )


def is_healthy(replay: Replay) -> bool:
    """Return whether the likeliest of the simulated causes is none."""
    return bool(replay.hypotheses) and replay.hypotheses[0].name == "healthy"


def best_trial(replay: Replay) -> Trial | None:
    """Return the change to show: the first that repairs, else that postpones most, else the only one; None for no such."""
    tried = [t for t in replay.trials if t.settings and t.loss.step.size and t.verdict != "not tried"]
    repairs = [t for t in repairing(replay) if t in tried]
    later = sorted((t for t in tried if t.verdict == "postpones"), key=lambda t: t.tail_max)
    return next(iter([*repairs, *later, *(tried if len(tried) == 1 else ())]), None)


def view_replay(run: Run, replay: Replay) -> ReplayView:
    """Return what is said of a replay, in words."""
    changes = [t for t in replay.trials if t.settings]
    repairs = [w.sentence(t.title, 80) for t in repairing(replay)]
    named = [*repairs[:3], f"{len(repairs) - 3} more"] if len(repairs) > 3 else repairs
    unit, segment = run.step_unit, replay.segment
    where = f"{unit}s {w.count(segment.start)} to {w.count(max(segment.start, segment.stop - 1))}"
    if segment.onset is not None:
        where += f", onset at {w.count(segment.onset)}"
    lead, tone = "The log is reproduced", "bold"
    if not replay.reproduces:
        lead = "Nothing can be said from this log" if replay.error <= replay.bound else "The log is not reproduced"
        tone = "fault"
    elif repairs:
        lead, tone = f"Repaired{'' if replay.depth == 'exact' else ' on the replay'} by {w.listed(named)}", "fix"
    elif is_healthy(replay):
        lead += ", and best by a healthy run: there is nothing to repair"
    elif changes:
        lead += f", and {_outcome([t.verdict for t in changes])}"
    elif replay.depth == "exact":
        lead += "; no change was tried"
    if replay.reproduced is None:
        lead, how = "Not replayed", ""
    else:
        how = "by " + DEPTHS.get(replay.depth, "a replay") + (f": {w.clean(replay.model, 400)}" if replay.model else "")
    return ReplayView(
        name=w.clean(run.name) or "unnamed run",
        extent=extent(run),
        lead=w.stopped(lead),
        tone=tone,
        how=how,
        where=where,
        score=_score(replay, unit),
        refusal=w.sentence(replay.refusal, 600) or ("" if how else "no model of it could be made"),
        causes=tuple(_cause(h) for h in replay.hypotheses),
        tried=tuple(_tried(t) for t in replay.trials) if changes else (),
    )


def _outcome(verdicts: Sequence[str]) -> str:
    """Return what came of changes of which none repairs. Whether there was anything to repair is not said here."""
    alone = {
        "postpones": ("the change only postpones the failure", "the changes only postpone the failure"),
        "no effect": ("the change has no effect", "none of the changes has an effect"),
        "worse": ("the change makes it worse", "all changes make it worse"),
        "not tried": ("the change could not be tried", "none of the changes could be tried"),
    }
    kinds = set(verdicts)
    if len(kinds) == 1:
        return alone[verdicts[0]][len(verdicts) > 1]
    if "not tried" in kinds:
        n = sum(verdict == "not tried" for verdict in verdicts)
        return f"no change that it decides repairs the run; {n} of {len(verdicts)} {'is' if n == 1 else 'are'} not decided"
    return "none of the changes makes it better" if kinds == {"no effect", "worse"} else "none of the changes repairs the run"


def _score(replay: Replay, unit: str) -> str:
    """Return how near the replay comes to the log."""
    if math.isnan(replay.error):
        return "no"
    if replay.depth == "exact" and replay.residual is not None:
        n = replay.residual.step.size
        same = int((replay.residual.value == 0.0).sum())
        if n and same == n:
            return f"yes, bit for bit: all {w.count(n)} logged values are the same"
        first = replay.residual.step[np.flatnonzero(replay.residual.value != 0.0)[0]] if n else 0
        apart = f"{w.number(replay.error)} decades apart in the median, bound {w.number(replay.bound)}"
        word = "yes" if replay.reproduces else "no"
        return (
            f"{word}, {apart}; {w.count(same)} of {w.count(n)} values are the same, and they part from {unit} "
            f"{w.count(int(first))} on: another machine or version, or a command that is not deterministic"
        )
    word = "yes" if replay.reproduces else "not enough" if replay.error <= replay.bound else "no"
    return f"{word}, error {w.number(replay.error)} decades in the median, bound {w.number(replay.bound)}"


def _cause(hypothesis: Hypothesis) -> CauseView:
    return CauseView(
        w.clean(hypothesis.code, 20),
        w.clean(hypothesis.name, 80),
        w.confidence(hypothesis.share),
        w.number(hypothesis.error),
        w.number(hypothesis.log_likelihood),
        w.sentence(hypothesis.note, 300),
    )


def _tried(trial: Trial) -> TriedView:
    recorded, untried = not trial.settings, trial.verdict == "not tried"
    interval = ""
    if trial.tail_interval is not None and not untried and all(math.isfinite(t) for t in trial.tail_interval):
        interval = f"{w.number(trial.tail_interval[0])} to {w.number(trial.tail_interval[1])}"
    slower = "" if recorded or untried else "never" if trial.slower is None else f"×{trial.slower:.3g}"
    return TriedView(
        w.sentence(trial.title, 80),
        "" if recorded else trial.verdict,
        "" if recorded else TRIAL_TONES.get(trial.verdict, ""),
        "" if untried else w.number(trial.tail_max),
        interval,
        slower,
        "" if recorded or untried or trial.sureness is None else w.confidence(trial.sureness),
        w.sentence(trial.note, 400),
    )


# -- a terminal -------------------------------------------------------------------------------------------------------


def render_text(run: Run, replay: Replay, width: int = 88, *, outlook: Outlook | None = None, ascii_only: bool = False) -> str:
    """Return the replay as plain text, with a line break at the end."""
    return plain_text(lines_of(run, replay, width, outlook=outlook, ascii_only=ascii_only))


def lines_of(
    run: Run, replay: Replay, width: int = 88, *, outlook: Outlook | None = None, ascii_only: bool = False
) -> list[list[Words]]:
    """Return the replay as lines of styled words; `ascii_only` keeps the drawing within ASCII."""
    view = view_replay(run, replay)
    lines: list[list[Words]] = [[(view.name, "bold"), (f"  {view.extent}", "soft")], [], [(view.lead, view.tone)], []]
    if not view.how:
        lines += entry("why", [(w.stopped(view.refusal), "")], width)
    else:
        lines += entry("replayed", [(f"{view.where}, {view.how}", "")], width)
        lines += entry("reproduced", [(view.score, "")], width)
        if view.refusal:
            lines += entry("", [(w.stopped(view.refusal), "fault")], width)
    lines += [[], *_drawn(run, replay, width, ascii_only=ascii_only)]
    if view.causes:
        asked = "what could have made this log" if replay.reproduces else "simulated, none is taken"
        head = CauseView("code", asked, "share", "decades off", "log-likelihood", "")
        lines += [[], *_table([head, *view.causes], CAUSE_COLUMNS, width)]
    if view.tried:
        head_tried = TriedView("change", "verdict", "soft", "highest at the end", "in 9 of 10 draws", "steps", "sure", "")
        lines += [[], *_table([head_tried, *view.tried], TRIED_COLUMNS, width)]
    if outlook is not None:
        told = view_outlook(run, outlook)
        lines.append([])
        for label, words in told.facts:
            lines += entry(label, [(words, "")], width)
        for i, note in enumerate(told.assumed):
            lines += entry("assumed" if i == 0 else "", [(note, "soft")], width)
    return lines


#: Columns of a table: name of the field, whether to the right.
TRIED_COLUMNS = (("title", False), ("verdict", False), ("tail", True), ("interval", True), ("slower", True), ("sureness", True))
CAUSE_COLUMNS = (("name", False), ("code", False), ("share", True), ("error", True), ("likelihood", True))


def _table(rows: Sequence[CauseView | TriedView], columns: Sequence[tuple[str, bool]], width: int) -> list[list[Words]]:
    """Return a table, its head the first row; empty columns are left out, and each note stands below its row."""
    cells = {name: [cut(getattr(row, name), LONGEST_TITLE) for row in rows] for name, _ in columns}
    used = [(name, right) for name, right in columns if any(cells[name][1:])]
    lines: list[list[Words]] = []
    for i, row in enumerate(rows):
        line: list[Words] = []
        for name, right in used:
            wide = max(map(len, cells[name]))
            shown = f"{cells[name][i]:>{wide}}" if right else f"{cells[name][i]:<{wide}}"
            tone = row.tone if isinstance(row, TriedView) and name == "verdict" else ""
            line.append((shown + "  ", "soft" if i == 0 else tone))
        lines.append(line)
        if i and row.note:
            lines += [[("  ", ""), *part] for part in wrapped([(row.note, "soft")], width - 2)]
    return lines


def _drawn(run: Run, replay: Replay, width: int, *, ascii_only: bool) -> list[list[Words]]:
    """Return the losses as lines of bars, on one scale and one axis of steps."""
    curves = [("logged", "bold", replay.observed)]
    if replay.reproduced is not None:
        curves.append(("replayed" if replay.depth != "exact" else "run again", "", replay.reproduced))
    best = best_trial(replay)
    if best is not None:
        curves.append((cut(w.sentence(best.title, 80), 24), "fix" if best.verdict == "repairs" else "", best.loss))
    curves = [(label, style, curve) for label, style, curve in curves if curve.step.size]
    if not curves:
        return []
    logged = curves[0][2].value[np.isfinite(curves[0][2].value)]
    levels = levels_of([curve.value for _, _, curve in curves], ABOVE * float(logged.max(initial=0.0)) or np.inf)
    steps = (min(int(curve.step.min()) for *_, curve in curves), max(int(curve.step.max()) for *_, curve in curves))
    longest = max(len(label) for label, _, _ in curves)
    room = max(12, min(80, width - longest - 2))
    head = f"loss, {scale_words(levels)}; {run.step_unit}s {w.count(steps[0])} to {w.count(steps[1])}"
    lines: list[list[Words]] = [[(head, "soft")]]
    for label, style, curve in curves:
        bars = sparkline(curve.step, curve.value, steps, levels, room, ascii_only=ascii_only)
        lines.append([(f"{label:<{longest}}  ", "soft"), (bars, style)])
    return lines


# -- JSON -------------------------------------------------------------------------------------------------------------


def to_json(run: Run, replay: Replay, outlook: Outlook | None = None, *, curves: bool = True) -> dict[str, Any]:
    """Return the replay as plain dicts, lists, strings and finite numbers; NaN and infinities are strings.

    `curves`: False puts null in the place of every curve.
    """

    def drawn(curve: Curve | None) -> dict[str, Any] | None:
        return {"step": curve.step.tolist(), "value": plain(curve.value.tolist())} if curves and curve is not None else None

    made = replay_object(replay)
    for trial, one in zip(replay.trials, made["trials"], strict=True):
        one["tail_interval"] = plain(trial.tail_interval)
        one["sureness"] = plain(trial.sureness)
        one["loss"] = drawn(trial.loss)
    made["observed"], made["reproduced"] = drawn(replay.observed), drawn(replay.reproduced)
    made["residual"] = drawn(replay.residual)
    made["hypotheses"] = [
        {
            "code": h.code,
            "name": h.name,
            "log_likelihood": plain(h.log_likelihood),
            "share": plain(h.share),
            "error": plain(h.error),
            "note": h.note,
        }
        for h in replay.hypotheses
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "traindoctor", "version": __version__},
        "run": {
            "name": run.name,
            "path": w.relative(run.path, run.root),
            "step_unit": run.step_unit,
            "optimizer": optimizer_object(run.optimizer),
        },
        "replay": made,
        "outlook": None if outlook is None else outlook_object(outlook, curves=curves),
    }


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of what `to_json` returns."""
    text = resources.files("traindoctor.report").joinpath("replay.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded
