"""A demo for a terminal: lines of styled words, and the same as a plain dict."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np

from traindoctor.demos.story import Table
from traindoctor.report.sparkline import levels_of, scale_words, sparkline
from traindoctor.report.text import lines_of as verdict_lines
from traindoctor.report.to_json import plain, to_json
from traindoctor.report.wording import number, sentence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from traindoctor.demos.story import Demo, Performance, Picture, Retraining
    from traindoctor.demos.training import Training
    from traindoctor.replay.verdict import Course
    from traindoctor.report.lines import Words

#: Below this share of the steps that a run had needed, its best was no feat, and the share says nothing.
SOON = 0.1


def lines_of(performance: Performance, width: int = 88, *, ascii_only: bool = False) -> list[list[Words]]:
    """Return what was done and what came of it: the story, the runs side by side, the verdict, the repair."""
    demo = performance.demo
    lines: list[list[Words]] = [[(demo.name, "bold"), (f"  seed {performance.seed}", "soft")], []]
    lines += [[(line, "")] for line in textwrap.wrap(demo.story, width, break_on_hyphens=False)]
    lines += [[], *_runs(performance.runs, width, ascii_only=ascii_only)]
    for shown in performance.shown:
        lines += [[], *(_table(shown, width) if isinstance(shown, Table) else _picture(shown, width))]
    lines += [[], _heading("What traindoctor diagnose says of the log", width), []]
    lines += verdict_lines(performance.report, width, ascii_only=ascii_only)
    if not any(run.findings for run in performance.report.runs):
        words = "No cause of the catalogue names this failure from its log. Why it fails is what the demo itself measured, above."
        lines += [[], *([(line, "bold")] for line in textwrap.wrap(words, width, break_on_hyphens=False))]
    lines += [[], _heading("The repair, trained again", width)]
    for again in performance.retrainings:
        lines += [[], *_retraining(again, width, ascii_only=ascii_only)]
    lines += [[(line, "")] for words in performance.why_not for line in ("", *textwrap.wrap(words, width))]
    return lines


def to_dict(performance: Performance) -> dict[str, Any]:
    """Return the same as a plain dict, ready for JSON; the report as `diagnose --format json` gives it."""
    made = {
        "demo": performance.demo.name,
        "seed": performance.seed,
        "summary": performance.demo.summary,
        "runs": [_run_object(run) for run in performance.runs],
        "measured": [
            {"title": s.title, "head": s.head, "rows": s.rows, "note": s.note}
            if isinstance(s, Table)
            else {"title": s.title, "lines": s.lines, "note": s.note}
            for s in performance.shown
        ],
        "repairs": [_retraining_object(again) for again in performance.retrainings],
        "not_trained": performance.why_not,
    }
    return {**{key: plain(value) for key, value in made.items()}, "report": to_json(performance.report)}


def listing(demos: Iterable[Demo], width: int = 88) -> list[str]:
    """Return one line for each demo, its name first; a summary that is too long for the width goes on below."""
    named = list(demos)
    longest = max(len(demo.name) for demo in named)
    made = []
    for demo in named:
        first, *rest = textwrap.wrap(demo.summary, max(30, width - longest - 2), break_on_hyphens=False)
        made += [f"{demo.name:<{longest}}  {first}", *(" " * (longest + 2) + line for line in rest)]
    return made


def _levels(runs: Sequence[Training]) -> tuple[float, float]:
    """Return the levels between which the losses of runs are drawn: not above a hundred times the highest start."""
    return levels_of([run.loss for run in runs], 100.0 * max(float(run.loss[0]) for run in runs))


def _bars(run: Training, levels: tuple[float, float], width: int, *, ascii_only: bool) -> str:
    return sparkline(run.step, run.loss, (int(run.step[0]), int(run.step[-1])), levels, width, ascii_only=ascii_only)


def _runs(runs: Sequence[Training], width: int, *, ascii_only: bool) -> list[list[Words]]:
    levels = _levels(runs)
    longest = max(len(run.recipe.title) for run in runs)
    room = max(8, width - longest - 26)
    head = f"The loss, {scale_words(levels)}; {_n_steps(runs[0]):,} steps, left to right"
    lines: list[list[Words]] = [[(line, "bold")] for line in textwrap.wrap(head, width)]
    for run in runs:
        drawn = _bars(run, levels, room, ascii_only=ascii_only)
        lines.append([(f"{run.recipe.title:<{longest}}  ", ""), (f"{drawn:<{room}}", ""), (f"  {_end(run)}", "soft")])
    return lines


def _n_steps(run: Training) -> int:
    return int(2 * run.step[-1] - run.step[-2])


def _end(run: Training) -> str:
    last = float(run.loss[-1])
    return f"{number(float(run.loss[0]))} -> {number(last)}" if np.isfinite(last) else f"{number(float(run.loss[0]))} -> lost"


def _table(table: Table, width: int) -> list[list[Words]]:
    """Return a table, its last column cut where the width asks for it."""
    grid = [table.head, *table.rows]
    widths = [max(len(row[i]) for row in grid) for i in range(len(table.head))]
    lines: list[list[Words]] = [[(table.title, "bold")]]
    for i, row in enumerate(grid):
        line = "  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        wrapped = textwrap.wrap(line, width, subsequent_indent="    ", break_on_hyphens=False) if len(line) > width else [line]
        lines += [[(part, "soft" if i == 0 else "")] for part in wrapped]
    return [*lines, *([(line, "soft")] for line in textwrap.wrap(table.note, width, break_on_hyphens=False))]


def _picture(picture: Picture, width: int) -> list[list[Words]]:
    frame = "+" + "-" * (max(len(line) for line in picture.lines) + 2)
    lines: list[list[Words]] = [[(picture.title, "bold")], [(frame[:width], "soft")]]
    lines += [[(("| " + line)[:width].rstrip(), "")] for line in picture.lines]
    return [*lines, [(frame[:width], "soft")], [(picture.note, "soft")]]


def _heading(words: str, width: int) -> list[Words]:
    return [(f"-- {words} {'-' * max(2, width - len(words) - 4)}", "soft")]


def _retraining(again: Retraining, width: int, *, ascii_only: bool) -> list[list[Words]]:
    by = "the report's first fix" if again.fix is not None else "the demo's own remedy"
    runs = (again.faulty, again.training)
    levels = _levels(runs)
    room = max(8, width - 8 - 26)
    lines: list[list[Words]] = [[(sentence(again.title), "fix"), (f"  {by}", "soft")]]
    lines[-1].append((f", for {again.faulty.recipe.title}", "soft"))
    for label, run in zip(("before", "after"), runs, strict=True):
        drawn = _bars(run, levels, room, ascii_only=ascii_only)
        lines.append([(f"{label:<8}", "soft"), (f"{drawn:<{room}}", ""), (f"  {_end(run)}", "soft")])
    before, after = again.before, again.after
    told = f"loss over the last sixth {_level(before)} -> {_level(after)}, best {number(before.best)} -> {number(after.best)}"
    tone = "bold" if again.judgement.verdict == "repairs" else "fault"
    first, *rest = textwrap.wrap(f"{again.judgement.verdict}: {told}", width - 8, break_on_hyphens=False)
    verdict, _, words = first.partition(":")
    lines.append([("verdict ", "soft"), (verdict, tone), (f":{words}", "")])
    lines += [[(" " * 8 + line, "")] for line in rest]
    if again.judgement.slower is not None and again.judgement.slower > SOON:
        lines.append([(f"{'':<8}near the best of the run before in {again.judgement.slower:.2g} times its steps", "soft")])
    return lines


def _level(figures: Course) -> str:
    return number(figures.tail) if np.isfinite(figures.tail) else "lost"


def _run_object(run: Training) -> dict[str, Any]:
    finite = run.loss[np.isfinite(run.loss)]
    return {
        "title": run.recipe.title,
        "settings": dict(run.recipe.settings),
        "loss": {"first": float(run.loss[0]), "best": float(finite.min()), "last": float(run.loss[-1])},
    }


def _retraining_object(again: Retraining) -> dict[str, Any]:
    return {
        "title": again.title,
        "of": again.faulty.recipe.title,
        "settings": dict(again.settings),
        "from_the_report": again.fix is not None,
        "verdict": again.judgement.verdict,
        "before": {"tail": again.before.tail, "best": again.before.best},
        "after": {"tail": again.after.tail, "best": again.after.best},
        "slower": again.judgement.slower,
    }
