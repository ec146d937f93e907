"""What was read, before anything is concluded: files and their formats, tags and their roles, gaps, damage, stitching.

`inspect_runs` returns the object that `traindoctor inspect --format json` prints; `render_inspection` says the same in
tables for a terminal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from traindoctor.configs.schedule import configured_schedule
from traindoctor.readers.formats import title_of
from traindoctor.report import wording as w
from traindoctor.report.to_json import SCHEMA_VERSION, integrity_object, optimizer_object, plain, stitch_object
from traindoctor.signals.schedule import Reconciliation, reconcile, steps_per_epoch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import Histogram, IntArray, Run, Series

#: A step this many usual distances behind the one before it is a gap.
GAP = 3.0
#: Gaps and runs of NaN named one by one.
NAMED = 5
#: Parameter groups beside the first whose learning rate is held against the config.
GROUPS = 8
#: Tags, settings and notes shown on a terminal; the JSON holds all.
SHOWN = 60


def inspect_runs(runs: Sequence[Run], version: str) -> dict[str, Any]:
    """Return what was read of the runs, as plain dicts, lists, strings and finite numbers."""
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": "traindoctor", "version": version},
        "runs": [_run(run) for run in runs],
    }


def _run(run: Run) -> dict[str, Any]:
    primary = {(s.tag, s.source) for s in run.primary.values()}
    return {
        "name": run.name,
        "path": w.relative(run.path, run.root),
        "step_unit": run.step_unit,
        "files": [
            {"file": w.relative(f, run.root), "format": run.formats.get(f), "title": title_of(run.formats.get(f, ""))}
            for f in run.files
        ],
        "config_files": list(run.config_files),
        "code_files": list(run.code_files),
        "roles": {quantity: s.tag for quantity, s in run.primary.items()},
        "tags": [_tag(s, run.root, speaks=(s.tag, s.source) in primary and bool(s.quantity)) for s in run.series],
        "histograms": [_histogram(h, run.root) for h in run.histograms],
        "optimizer": optimizer_object(run.optimizer),
        "settings": {k: {"value": plain(s.value), "origin": s.origin} for k, s in sorted(run.settings.items())},
        "schedule": _schedule(run),
        "restarts": [int(s) for s in run.restarts],
        "stitching": [stitch_object(s, run.root) for s in run.stitches],
        "integrity": [integrity_object(d, run.root) for d in run.damages],
    }


def _tag(series: Series, root: str, *, speaks: bool) -> dict[str, Any]:
    n = len(series)
    finite = series.finite().value
    nan = np.isnan(series.value)
    found, total = gaps(series.step)
    return {
        "tag": series.tag,
        "role": series.quantity or None,
        "speaks": speaks,
        "source": w.relative(series.source, root),
        "points": n,
        "first_step": int(series.step.min()) if n else None,
        "last_step": int(series.step.max()) if n else None,
        "every": _every(series.step),
        "nan": int(nan.sum()),
        "infinite": int(np.isinf(series.value).sum()),
        "first_nan_step": int(series.step[nan][0]) if nan.any() else None,
        "minimum": plain(finite.min()) if finite.size else None,
        "maximum": plain(finite.max()) if finite.size else None,
        "first": plain(series.value[0]) if n else None,
        "last": plain(series.value[-1]) if n else None,
        "gap_count": total,
        "gaps": [{"after": after, "before": before} for after, before in found],
    }


def _histogram(histogram: Histogram, root: str) -> dict[str, Any]:
    return {
        "tag": histogram.tag,
        "source": w.relative(histogram.source, root),
        "points": len(histogram),
        "first_step": int(histogram.step.min()) if len(histogram) else None,
        "last_step": int(histogram.step.max()) if len(histogram) else None,
    }


def _schedule(run: Run) -> dict[str, Any]:
    """Return what the config says of the learning rate's schedule, what the log does, and whether both agree."""
    per_epoch = steps_per_epoch(run)
    told = configured_schedule(run.settings, steps_per_epoch=per_epoch, counted_by=run.step_unit)
    primary = run.primary.get("learning_rate")
    groups = [s for s in run.series if s.quantity == "learning_rate" and s.tag != (primary.tag if primary else "")]
    held: tuple[Series, Reconciliation] | None = None
    for series in [primary, *groups[:GROUPS]] if primary is not None else []:
        made = reconcile(series.step, series.value, told.spec, steps_per_epoch=per_epoch, restarts=run.restarts)
        if held is None or made.answer == "follows":
            held = series, made
        if told.spec is None or made.answer == "follows":  # parameter groups of other rates follow it scaled
            break
    spec = told.spec
    configured = {
        "name": told.name,
        "origin": told.origin,
        "schedule": spec.name if spec is not None else None,
        "settings": plain(spec.settings) if spec is not None else {},
        "assumed": sorted(spec.assumed) if spec is not None else [],
        "missing": list(told.missing),
    }
    result: dict[str, Any] = {"configured": configured if told.name else None, "logged": None, "agree": None}
    if held is None:
        return {**result, "answer": "cannot-tell", "text": "no learning rate was logged", "numbers": {}, "step": None, "note": ""}
    series, made = held
    shape = made.described
    logged = {"tag": series.tag, "kind": shape.kind, "text": shape.text, "held": plain(shape.held), "period": plain(shape.period)}
    agree = {"follows": True, "cannot-tell": None}.get(made.answer, False)
    text = made.text
    if told.name and told.spec is None:
        text = f"the config leaves out {', '.join(told.missing)}" if told.missing else f"{told.name} is no schedule that is known"
    rest = {"answer": made.answer, "text": text, "numbers": plain(made.numbers), "step": made.step, "note": made.note}
    return {**result, "logged": logged, "agree": agree, **rest}


def _every(step: IntArray) -> float | None:
    known = np.unique(step)
    return float(np.median(np.diff(known))) if known.size > 1 else None


def gaps(step: IntArray) -> tuple[list[tuple[int, int]], int]:
    """Return the widest gaps between logged steps, (after, before), in order of the steps, and how many there are.

    `step`: (n,) int64. A gap is a distance of more than GAP times the median one.
    """
    known = np.unique(step)
    if known.size < 3:
        return [], 0
    move = np.diff(known)
    wide = np.flatnonzero(move > GAP * np.median(move))
    widest = np.sort(wide[np.argsort(-move[wide], kind="stable")][:NAMED])
    return [(int(known[i]), int(known[i + 1])) for i in widest], int(wide.size)


# -- for a terminal ---------------------------------------------------------------------------------------------------


def render_inspection(inspected: dict[str, Any], width: int = 100) -> str:
    """Return the inspection as text, with a line break at the end."""
    return "\n\n".join("\n".join(line.rstrip() for line in _lines(run, width)) for run in inspected["runs"]) + "\n"


def _lines(run: dict[str, Any], width: int) -> Iterator[str]:
    files = w.plural(len(run["files"]), "file")
    yield f"{w.clean(run['name'])}  {files}, {w.plural(len(run['tags']), 'tag')}, counted by {run['step_unit']}"
    yield ""
    yield from _table(("file", "read as"), [(f["file"], f["title"]) for f in run["files"]], width)
    yield ""
    rows = [
        (
            t["tag"],
            ("" if t["speaks"] or not t["role"] else "also ") + (t["role"] or "-"),
            w.count(t["points"]),
            _steps(t),
            w.number(t["every"]) if t["every"] is not None else "-",
            _bad(t),
            _gaps(t),
        )
        for t in run["tags"][:SHOWN]
    ]
    yield from _table(("tag", "role", "points", "steps", "every", "not finite", "gaps"), rows, width)
    if len(run["tags"]) > SHOWN:
        yield f"and {w.plural(len(run['tags']) - SHOWN, 'tag')} more (--format json lists them)"
    if run["histograms"]:
        yield ""
        held = [(h["tag"], w.count(h["points"]), _steps(h)) for h in run["histograms"][:SHOWN]]
        yield from _table(("histogram", "points", "steps"), held, width)
    yield ""
    if settings := list(_settings(run)):
        yield from _table(("setting", "value", "origin"), settings[:SHOWN], width)
    else:
        yield "settings: none found; name a config with --config FILE"
    if run["schedule"]["configured"] or run["schedule"]["logged"]:
        yield ""
        yield from _table(("schedule", "what it is"), list(_schedule_rows(run["schedule"])), width)
    if run["stitching"]:
        yield ""
        yield from _table(
            ("put together", "file", "detail"), [(s["kind"], s["file"], s["detail"]) for s in run["stitching"][:SHOWN]], width
        )
    yield ""
    if run["integrity"]:
        yield from _table(("damage", "where", "detail"), [(d["kind"], _place(d), d["detail"]) for d in run["integrity"]], width)
    else:
        yield "damage: none"


def _settings(run: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the settings that were found, then what the optimizer takes where nothing is set."""
    for name, setting in run["settings"].items():
        yield name, w.setting(_number(setting["value"])), setting["origin"]
    optimizer = run["optimizer"] or {"origin": {}}
    for name, origin in optimizer["origin"].items():
        value = optimizer["betas"][int(name == "beta2")] if name in ("beta1", "beta2") else optimizer.get(name)
        if f"optimizer.{name}" not in run["settings"] and value is not None:
            yield f"optimizer.{name}", w.setting(_number(value)), origin


def _schedule_rows(schedule: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what the config says, what the log shows, and whether the two agree."""
    configured, logged = schedule["configured"], schedule["logged"]
    if configured is None:
        yield "config", "names none"
    else:
        of = ", ".join(f"{key} {w.setting(value)}" for key, value in configured["settings"].items())
        lacks = f"; not known: {', '.join(configured['missing'])}" if configured["missing"] else ""
        yield "config", f"{configured['name']}{f' ({of})' if of else ''}, {configured['origin']}{lacks}"
    yield "log", f"{logged['text']} ({logged['tag']})" if logged else "no learning rate"
    if configured is not None and logged is not None:
        word = {True: "yes", False: "no", None: "cannot tell"}[schedule["agree"]]
        yield "agree", f"{word}: {schedule['text']}" + (f"; {schedule['note']}" if schedule["note"] else "")


def _place(damage: dict[str, Any]) -> str:
    return damage["file"] if damage["offset"] is None else f"{damage['file']}, byte {damage['offset']:,}"


def _number(value: object) -> object:
    return (
        {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.get(value, value)
        if isinstance(value, str)
        else value
    )


def _steps(entry: dict[str, Any]) -> str:
    if entry["first_step"] is None:
        return "-"
    return f"{entry['first_step']:,} to {entry['last_step']:,}"


def _bad(tag: dict[str, Any]) -> str:
    named = [f"{w.count(tag[key])} {name}" for key, name in (("nan", "NaN"), ("infinite", "Inf")) if tag[key]]
    if not named:
        return "-"
    first = f" from {w.count(tag['first_nan_step'])}" if tag["first_nan_step"] is not None else ""
    return ", ".join(named) + first


def _gaps(tag: dict[str, Any]) -> str:
    if not tag["gap_count"]:
        return "-"
    after, before = max(((g["after"], g["before"]) for g in tag["gaps"]), key=lambda g: g[1] - g[0])
    return f"{w.count(tag['gap_count'])}, widest {after:,} to {before:,}"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]], width: int) -> Iterator[str]:
    """Yield the lines of a table; the last column is wrapped to what is left of the width."""
    import textwrap

    cells = [[w.clean(cell, 60) for cell in row[:-1]] + [w.sentence(row[-1])] for row in rows]
    widths = [max(len(row[i]) for row in [list(head), *cells]) for i in range(len(head) - 1)]
    left = sum(widths) + 2 * len(widths)
    for row in [list(head), *cells]:
        start = "".join(f"{cell:<{size}}  " for cell, size in zip(row, widths, strict=False))
        body = textwrap.wrap(row[-1], max(24, width - left)) or [""]
        yield start + body[0]
        yield from (" " * left + more for more in body[1:])
