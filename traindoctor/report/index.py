"""Many runs on one page: the worst first, by cause, with a line for each that leads to its own page.

The page holds what its lines show as JSON, `index.schema.json` states it; the findings themselves are in the runs' pages.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from traindoctor.model import VERDICTS
from traindoctor.report import wording as w
from traindoctor.report.buckets import bucket
from traindoctor.report.figures import COLOURS, GHOST, Domain, element, moves, scale_of
from traindoctor.report.markup import digest, embedded, environment, source
from traindoctor.report.to_json import SCHEMA_VERSION, across_object, plain
from traindoctor.report.view import TONES, anchor_of, diagnosis_first, in_order, next_steps, onset_of, view_across

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from traindoctor.model import Across, Report, Run, RunReport, Series

#: Size of the loss of a run on its line, in pixels, and points of it; of many runs fewer, for the size of the page.
WIDE, HIGH = 120, 26
POINTS, FEW_POINTS, MANY_RUNS = 60, 36, 400
#: Longest name that is shown on a line; the page of the run has all of it.
LONGEST_NAME = 120
#: Longest file name of a page, without what tells two of them apart.
LONGEST_FILE = 60
#: Names that Windows keeps for devices.
_DEVICES = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


@dataclass(frozen=True, slots=True)
class Row:
    """One run on its line. `href`: its page, "" where none was written.

    `code`: of its first cause, `anchor`: where its page tells of it; "" for none.
    `sure`: its confidence, -1 for none. `at`: its onset in steps, None where it has none. `remarks`: findings of a healthy run.
    """

    name: str
    path: str
    href: str
    verdict: str
    word: str
    tone: str
    code: str
    cause: str
    anchor: str
    confidence: str
    sure: float
    at: int | None
    onset: str
    next: str
    told: str
    spark: Markup


@dataclass(frozen=True, slots=True)
class Cluster:
    """The runs with one first cause: how many of each verdict, and what sets the failed ones apart."""

    code: str
    name: str
    n: int
    verdicts: str
    tone: str
    told: tuple[str, ...]
    spark: Markup


def render_index(report: Report, folder: str = "") -> str:
    """Return the index of the runs of a report as one HTML page; `folder`: where their pages are, "" when there are none."""
    runs = [diagnosis_first(run) for run in in_order(report)]
    files = file_names(runs)
    links = [f"{quote(folder)}/{quote(file)}" if folder else "" for file in files]
    points = POINTS if len(runs) <= MANY_RUNS else FEW_POINTS
    rows = [row_of(run, link, report.names, points) for run, link in zip(runs, links, strict=True)]
    counts = Counter(run.verdict for run in runs)
    made = runs[0].provenance if runs else None
    style, script = source("templates/report.css") + source("templates/index.css"), source("templates/index.js")
    return (
        environment()
        .get_template("index.html.j2")
        .render(
            rows=rows,
            counts=[(word, word.capitalize(), TONES[word], counts[word]) for word in VERDICTS if counts[word]],
            clusters=clusters_of(report, runs),
            across=view_across(report.across),
            compared=_compared(report.across),
            making=made.making if made is not None else None,
            version=report.version,
            problems=[w.clean(problem) for problem in report.problems],
            style=Markup(style),  # our own files
            script=Markup(script),  # our own file
            style_hash=digest(style),
            script_hash=digest(script),
            data=embedded(index_object(report, runs, links)),
        )
    )


def index_object(report: Report, runs: Sequence[RunReport], links: Sequence[str]) -> dict[str, Any]:
    """Return what the index holds as JSON: one short object a run, in the order of the page, and what they say together.

    `page`: the file with all findings of a run, as a relative URL; None where none was written.
    """
    return {
        "schema_version": SCHEMA_VERSION,
        "kind": "index",
        "tool": {"name": "traindoctor", "version": report.version},
        "problems": list(report.problems),
        "runs": [_object(run, link) for run, link in zip(runs, links, strict=True)],
        "across": None if report.across is None else across_object(report.across),
    }


def index_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of what `index_object` returns."""
    loaded: dict[str, Any] = json.loads(source("index.schema.json"))
    return loaded


def _object(report: RunReport, link: str) -> dict[str, Any]:
    first = report.findings[0] if report.findings else None
    return {
        "name": report.run.name,
        "path": w.relative(report.run.path, report.run.root),
        "verdict": report.verdict,
        "summary": report.summary,
        "findings": len(report.findings),
        "code": None if first is None else first.code,
        "cause": None if first is None else first.name,
        "severity": None if first is None else first.severity,
        "confidence": None if first is None else plain(first.confidence),
        "onset": onset_of(report),
        "step_unit": report.run.step_unit,
        "fix": first.fixes[0].title if first is not None and first.fixes else None,
        "page": link or None,
    }


def row_of(report: RunReport, link: str, names: Mapping[str, str], points: int = POINTS) -> Row:
    """Return the line of a run, its diagnosis first."""
    run, first = report.run, report.findings[0] if report.findings else None
    path = w.clean(w.relative(run.path, run.root), LONGEST_NAME)
    name = w.clean(run.name, LONGEST_NAME) or "unnamed run"
    cause = first if report.verdict != "healthy" else None
    steps = next_steps(report)
    fix = cause.fixes[0].title if cause is not None and cause.fixes else ""
    at = onset_of(report) if cause is not None else None
    told = ""
    if report.verdict == "healthy" and report.findings:
        told = w.plural(len(report.findings), "remark")
    elif cause is None and report.verdict != "healthy":
        told = w.sentence(report.summary, 300)
    return Row(
        name=name,
        path="" if name in path or path == "." else path,
        href=link,
        verdict=report.verdict,
        word=report.verdict.capitalize(),
        tone=TONES[report.verdict],
        code="" if cause is None else w.clean(cause.code, 20),
        cause="" if cause is None else words_of(names.get(cause.code, cause.name)),
        anchor="" if cause is None else quote(anchor_of(run, cause)),
        confidence="" if cause is None else w.confidence(cause.confidence),
        sure=-1.0 if cause is None else round(cause.confidence, 4),
        at=at,
        onset="" if at is None else w.count(at) if run.step_unit == "step" else f"{run.step_unit} {w.count(at)}",
        next=w.sentence(steps[0] if steps and report.verdict == "undecided" else fix or (steps[0] if steps else ""), 300),
        told=told,
        spark=spark_of(run, at, calm=report.verdict == "healthy", points=points),
    )


def words_of(name: str) -> str:
    """Return the name of a cause as words: "Learning rate too high"."""
    return w.clean(name, 80).replace("-", " ").capitalize()


# -- by cause -------------------------------------------------------------------------------------------------------------


def clusters_of(report: Report, runs: Sequence[RunReport]) -> list[Cluster]:
    """Return the runs that are not sound by their first cause, the most common one first; the others of a kind last."""
    by_code: dict[str, list[RunReport]] = {}
    for run in runs:
        if run.verdict != "healthy" and run.findings:
            by_code.setdefault(run.findings[0].code, []).append(run)
    told: dict[str, tuple[str, ...]] = {}
    if report.across is not None:
        for cause in report.across.causes:
            told[cause.code] = tuple(w.sentence(one.text, 400) for one in cause.separations)
    made = []
    for code, group in sorted(by_code.items(), key=lambda pair: (-len(pair[1]), pair[0])):
        counts = Counter(run.verdict for run in group)
        words = ", ".join(f"{w.count(counts[word])} {word}" for word in VERDICTS if counts[word])
        tone = TONES[group[0].verdict]
        name = words_of(report.names.get(code, group[0].findings[0].name))
        made.append(Cluster(w.clean(code, 20), name, len(group), words, tone, told.get(code, ()), overlay_of(group)))
    return made


def _compared(across: Across | None) -> str:
    """Return what the failed runs were compared with, to find what sets them apart."""
    if across is None or not across.failed:
        return ""
    if not across.sound:
        return "There is no sound run to compare them with."
    if not across.n_settings:
        return "No known setting differs among the runs."
    return (
        f"Compared with {w.plural(len(across.sound), 'sound run')} in {w.plural(across.n_settings, 'setting')} that "
        f"{'differs' if across.n_settings == 1 else 'differ'}; a suspicious run counts as failed."
    )


# -- the loss, the size of a word -----------------------------------------------------------------------------------------


def spark_of(run: Run, onset: int | None, *, calm: bool, points: int = POINTS) -> Markup:
    """Return the loss of a run as a small drawing: its median over its range, the onset, and what was not finite."""
    series = _loss(run)
    if series is None:
        return Markup("")
    finite = series.value[np.isfinite(series.value)]
    scale = scale_of([finite])
    span = Domain(float(series.step.min()), float(series.step.max()))
    drawn = bucket(series.step, series.value, points)
    parts = []
    if onset is not None and not calm and span.first <= onset <= span.last:
        x = f"{span.fraction(onset) * WIDE:.1f}"
        parts.append(element("path", class_="s-fault", d=f"M{x} 0V{HIGH}", stroke=COLOURS["fault"], stroke_opacity=".6"))
    band, line = [], []
    for part in drawn.stretches:
        x_at = np.round([span.fraction(s) * WIDE * 10 for s in part.step]).astype(int).tolist()
        low, middle, high = (
            np.round(2 + scale.fractions(v) * (HIGH - 4)).astype(int) for v in (part.low, part.middle, part.high)
        )
        middle = np.round(20 + scale.fractions(part.middle) * (HIGH - 4) * 10).astype(int)
        low, high = low * 10, high * 10
        if (low - high).max(initial=0) > 20:
            there, back = list(zip(x_at, high.tolist(), strict=True)), list(zip(x_at, low.tolist(), strict=True))
            band.append(moves([*there, *back[::-1]]) + "z")
        line.append(moves(zip(x_at, middle.tolist(), strict=True)))
    if band:
        parts.append(element("path", class_="range", d="".join(band), transform="scale(.1)", fill=GHOST, fill_opacity=".6"))
    if any(line):
        parts.append(
            element(
                "path",
                class_="s-ink",
                d="".join(line),
                transform="scale(.1)",
                fill="none",
                stroke=COLOURS["ink"],
                stroke_width="12",
                stroke_linejoin="round",
                stroke_linecap="round",
            )
        )
    marks = "".join(f"M{span.fraction(mark.first) * WIDE:.1f} 0v5" for mark in drawn.marks[:20])
    if marks:
        ink = "soft" if calm else "fault"
        parts.append(element("path", class_=f"s-{ink}", d=marks, stroke=COLOURS[ink], stroke_width="1.5"))
    return _drawing(parts)


def overlay_of(group: Sequence[RunReport], most: int = 12) -> Markup:
    """Return the losses of some runs in one small drawing, each from its first step to its last and from its low to its high."""
    parts = []
    for report in group[:most]:
        series = _loss(report.run)
        if series is None:
            continue
        scale = scale_of([series.value[np.isfinite(series.value)]])
        span = Domain(float(series.step.min()), float(series.step.max()))
        data = []
        for part in bucket(series.step, series.value, 30).stretches:
            x_at = np.round([span.fraction(s) * WIDE for s in part.step]).astype(int).tolist()
            y_at = np.round(2 + scale.fractions(part.middle) * (HIGH - 4)).astype(int).tolist()
            data.append(moves(zip(x_at, y_at, strict=True)))
        parts.append(
            element(
                "path",
                class_="s-ink",
                d="".join(data),
                fill="none",
                stroke=COLOURS["ink"],
                stroke_opacity=".45",
                stroke_linejoin="round",
            )
        )
    return _drawing(parts)


def _loss(run: Run) -> Series | None:
    series = run.primary.get("loss") or run.primary.get("val_loss")
    return series if series is not None and np.isfinite(series.value).any() else None


def _drawing(parts: Sequence[Markup]) -> Markup:
    if not parts:
        return Markup("")
    return element(
        "svg", Markup("").join(parts), class_="spark", width=WIDE, height=HIGH, viewBox=f"0 0 {WIDE} {HIGH}", aria_hidden="true"
    )


# -- files ----------------------------------------------------------------------------------------------------------------


def file_names(runs: Sequence[RunReport]) -> list[str]:
    """Return a file name for the page of each run, "adam-lr-0.1.html": letters, digits, dots, dashes and underscores alone.

    A name that had to be changed or cut, or that two runs share, gets the hash of the run's name and path, so that a page keeps
    its name whatever other runs there are. Names differ in more than case.
    """
    plain_names = [_plain(report.run.name) for report in runs]
    shared = Counter(name.lower() for name in plain_names)
    made: list[str] = []
    taken: set[str] = set()
    for report, name in zip(runs, plain_names, strict=True):
        stem = name
        if name != report.run.name.replace("/", "-") or shared[name.lower()] > 1:
            words = f"{report.run.name}\0{w.relative(report.run.path, report.run.root)}"
            stem = f"{name}-{hashlib.sha256(words.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}"
        unique, n = stem, 1
        while unique.lower() in taken:
            n += 1
            unique = f"{stem}-{n}"
        taken.add(unique.lower())
        made.append(f"{unique}.html")
    return made


def _plain(name: str) -> str:
    """Return a name with everything replaced that some file system, shell or URL takes amiss."""
    plain_name = re.sub(r"[^A-Za-z0-9._=-]+", "-", name).strip(".-")[:LONGEST_FILE].rstrip(".-")
    return f"run-{plain_name}".rstrip("-") if not plain_name or _DEVICES.fullmatch(plain_name) else plain_name
