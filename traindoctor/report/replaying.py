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
from traindoctor.report.text import RICH, Words, _entry, _wrapped
from traindoctor.report.to_json import SCHEMA_VERSION, optimizer_object, plain, replay_object
from traindoctor.report.view import DEPTHS, TRIAL_TONES, extent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from traindoctor.model import Curve, Hypothesis, Replay, Run, Trial

BARS, ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
LOST, ASCII_LOST = "×", "x"
#: Decades that the bars span at most, and how far above the highest logged loss they go, as a factor.
DECADES, ABOVE = 14.0, 100.0
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
    """One change and what came of it; `tail` is the loss at the end, `interval` where it lies in 9 of 10 draws."""

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
    """What is said of a replay: what was replayed, how well, what else makes the log, what was tried."""

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
    return sorted((t for t in replay.trials if t.settings and t.verdict == "repairs"), key=lambda t: bool(t.note))


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
        lead, tone = "The log is not reproduced", "fault"
    elif repairs:
        lead, tone = f"Repaired{'' if replay.depth == 'exact' else ' on the replay'} by {w.listed(named)}", "fix"
    elif is_healthy(replay):
        lead += ", and best by a healthy run: there is nothing to repair"
    elif changes:
        lead += ", and the change does not repair the run" if len(changes) == 1 else ", and none of the changes repairs the run"
    if replay.reproduced is None:
        lead, how = "Not replayed", "no model of it could be made"
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
        refusal=w.sentence(replay.refusal, 600),
        causes=tuple(_cause(h) for h in replay.hypotheses),
        tried=tuple(_tried(t) for t in replay.trials),
    )


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
    word = "yes" if replay.reproduces else "no"
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


def render_text(run: Run, replay: Replay, width: int = 88, *, ascii_only: bool = False) -> str:
    """Return the replay as plain text, with a line break at the end."""
    lines = lines_of(run, replay, width, ascii_only=ascii_only)
    return "".join("".join(text for text, _ in line).rstrip() + "\n" for line in lines)


def print_rich(lines: Sequence[Sequence[Words]], console: Console) -> None:
    """Print lines to a terminal, in colour. No string of a log is read as markup."""
    from rich.text import Text

    for line in lines:
        console.print(Text.assemble(*((words, RICH[style]) for words, style in line)), soft_wrap=True)


def lines_of(run: Run, replay: Replay, width: int = 88, *, ascii_only: bool = False) -> list[list[Words]]:
    """Return the replay as lines of styled words; `ascii_only` keeps the drawing within ASCII."""
    view = view_replay(run, replay)
    lines: list[list[Words]] = [[(view.name, "bold"), (f"  {view.extent}", "soft")], [], [(view.lead, view.tone)], []]
    lines += _entry("replayed", [(f"{view.where}, {view.how}", "")], width)
    lines += _entry("reproduced", [(view.score, "")], width)
    if view.refusal:
        lines += _entry("", [(w.stopped(view.refusal), "fault")], width)
    for i, cause in enumerate(view.causes[:6]):
        name = f"{cause.code} {cause.name}".strip()
        told = f"  log-likelihood {cause.likelihood} nats, error {cause.error} decades" + (
            f"; {cause.note}" if cause.note else ""
        )
        lines += _entry("causes" if i == 0 else "", [(f"{cause.share}  ", "bold"), (name, ""), (told, "soft")], width)
    lines += [[], *_drawn(run, replay, width, ascii_only=ascii_only)]
    if view.tried:
        lines += [[], *_table(view.tried, width)]
    return lines


def _table(tried: Sequence[TriedView], width: int) -> list[list[Words]]:
    head = TriedView("change", "verdict", "soft", "loss at the end", "in 9 of 10 draws", "steps", "sure", "")
    columns = [
        ("title", [_cut(t.title, LONGEST_TITLE) for t in (head, *tried)]),
        *((name, [getattr(t, name) for t in (head, *tried)]) for name in ("verdict", "tail", "interval", "slower", "sureness")),
    ]
    used = [(name, cells) for name, cells in columns if any(cells[1:])]
    lines: list[list[Words]] = []
    for i, row in enumerate((head, *tried)):
        line: list[Words] = []
        for name, cells in used:
            wide = max(len(cell) for cell in cells)
            shown = f"{cells[i]:>{wide}}" if name in ("tail", "interval", "slower", "sureness") else f"{cells[i]:<{wide}}"
            line.append((shown + "  ", "soft" if i == 0 else row.tone if name == "verdict" else ""))
        lines.append(line)
        if i and row.note:
            lines += [[("  ", ""), *part] for part in _wrapped([(row.note, "soft")], width - 2)]
    return lines


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def _drawn(run: Run, replay: Replay, width: int, *, ascii_only: bool) -> list[list[Words]]:
    """Return the losses as lines of bars, on one scale and one axis of steps."""
    curves = [("logged", "bold", replay.observed)]
    if replay.reproduced is not None:
        curves.append(("replayed" if replay.depth != "exact" else "run again", "", replay.reproduced))
    best = best_trial(replay)
    if best is not None:
        curves.append((_cut(w.sentence(best.title, 80), 24), "fix" if best.verdict == "repairs" else "", best.loss))
    curves = [(label, style, curve) for label, style, curve in curves if curve.step.size]
    if not curves:
        return []
    levels = levels_of([curve for _, _, curve in curves])
    first = min(int(curve.step.min()) for _, _, curve in curves)
    last = max(int(curve.step.max()) for _, _, curve in curves)
    longest = max(len(label) for label, _, _ in curves)
    room = max(12, min(80, width - longest - 2))
    kind = "log scale" if levels[0] > 0.0 else "linear scale"
    unit = run.step_unit
    head = f"loss, {kind} from {w.number(levels[0])} to {w.number(levels[1])}; {unit}s {w.count(first)} to {w.count(last)}"
    lines: list[list[Words]] = [[(head, "soft")]]
    for label, style, curve in curves:
        bars = sparkline(curve, (first, last), levels, room, ascii_only=ascii_only)
        lines.append([(f"{label:<{longest}}  ", "soft"), (bars, style)])
    return lines


def levels_of(curves: Sequence[Curve]) -> tuple[float, float]:
    """Return the levels that bars span, the first curve being the logged one; a positive lower one asks for a log scale."""
    logged = curves[0].value[np.isfinite(curves[0].value)]
    every = np.concatenate([c.value[np.isfinite(c.value)] for c in curves])
    if not every.size:
        return 0.0, 1.0
    high = float(every.max())
    if logged.size and logged.max() > 0:
        high = min(high, ABOVE * float(logged.max()))
    if logged.size and (logged > 0).all() and high > 0:
        low = max(float(every[every > 0].min()), high * 10.0**-DECADES)
        return (low, high) if high > low else (low / 2, high * 2)
    low = float(every.min())
    return (min(low, 0.0), high) if high > low else (low - 0.5, high + 0.5)


def sparkline(curve: Curve, steps: tuple[int, int], levels: tuple[float, float], width: int, *, ascii_only: bool = False) -> str:
    """Return a loss as `width` characters over the steps from first to last, each the highest of its stretch.

    A value that is not finite shows as ×; before its first and after its last step a curve is blank. The scale is logarithmic
    where the lower level is positive.
    """
    first, last = steps
    column = np.clip(((curve.step - first) * width) // max(last - first + 1, 1), 0, width - 1)
    tops = np.full(width, -np.inf)
    np.maximum.at(tops, column, np.where(np.isfinite(curve.value), curve.value, np.inf))
    bars, lost = (ASCII_BARS, ASCII_LOST) if ascii_only else (BARS, LOST)
    scale = np.log10 if levels[0] > 0.0 else np.asarray
    low, high = float(scale(levels[0])), float(scale(levels[1]))
    made: list[str] = []
    ends = int(column.max(initial=-1))
    for i, top in enumerate(tops):
        if np.isneginf(top):
            made.append(made[-1] if made and i < ends else " ")
        elif np.isinf(top):
            made.append(lost)
        else:
            share = (float(scale(min(max(top, levels[0]), levels[1]))) - low) / max(high - low, 1e-300)
            made.append(bars[int(share * (len(bars) - 1) + 0.5)])
    return "".join(made).rstrip()


# -- JSON -------------------------------------------------------------------------------------------------------------


def to_json(run: Run, replay: Replay, *, curves: bool = True) -> dict[str, Any]:
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
    }


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of what `to_json` returns."""
    text = resources.files("traindoctor.report").joinpath("replay.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded
