"""One self-contained page: no request, a policy that allows the one style and the one script it holds, nothing else.

Every string passes Jinja's autoescape; figures are built from escaped elements. The same report gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup, escape

from traindoctor import __version__
from traindoctor.model import RunReport
from traindoctor.report import replaying
from traindoctor.report.outlook import signs_of, view_outlook
from traindoctor.report.plots import plots_of
from traindoctor.report.to_json import to_json
from traindoctor.report.view import VERDICTS, diagnosis_first, in_order, view_across, view_run

if TYPE_CHECKING:
    from traindoctor.model import Replay, Report, Run
    from traindoctor.replay.outlook import Outlook

#: Points per curve of a page with one run; several runs share the budget.
POINTS = 600

_CODE = re.compile(r"`([^`\n]{1,200})`")
_APOSTROPHE = re.compile(r"(?<=\w)'(?=\w)|(?<=s)'(?= )")
_NUMBER = re.compile(r"(?<![\w.])(\d[\d.,]*e[-−+]?\d+|[\d,.]+\d [%×]|(?:TD)\d{3})(?!\w)")


def render_html(report: Report) -> str:
    """Return the report as one HTML page.

    The page holds the findings as JSON, needs no network and no script to be read, and is the same for the same
    report: it knows neither the time nor the machine.
    """
    runs = [diagnosis_first(r) for r in in_order(report)]
    points = max(150, POINTS * 5 // max(5, len(runs) * 2))
    views = [view_run(r, report.names) for r in runs]
    sections = [{"view": v, "plots": plots_of(r, v, points)} for r, v in zip(runs, views, strict=True)]
    environment = _environment()
    style, script = _source("report.css"), _source("report.js")
    counts = [(word, sum(v.verdict == word for v in views)) for word in VERDICTS]
    data = json.dumps(to_json(report), ensure_ascii=True, allow_nan=False, indent=1)
    return environment.get_template("report.html.j2").render(
        sections=sections,
        many=len(sections) != 1,
        counts=[(word, n) for word, n in counts if n],
        across=view_across(report.across),
        version=report.version,
        problems=report.problems,
        style=Markup(style),  # our own file
        script=Markup(script),  # our own file
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=Markup(_harmless(data)),  # every angle bracket and ampersand is written as \u00xx
    )


def render_replay(run: Run, replay: Replay, outlook: Outlook | None = None) -> str:
    """Return a replay, and where the optimizer stands, as one HTML page of the same kind as `render_html`."""
    signs = () if outlook is None else signs_of(outlook)
    report = RunReport(run, "undecided", "", (), (), (), replay=replay, vital_signs=signs)
    view = view_run(report)
    style = _source("report.css")
    data = json.dumps(replaying.to_json(run, replay, outlook, curves=False), ensure_ascii=True, allow_nan=False, indent=1)
    return (
        _environment()
        .get_template("replay.html.j2")
        .render(
            view=view,
            told=replaying.view_replay(run, replay),
            stands=None if outlook is None else view_outlook(run, outlook),
            has_signs=bool(signs),
            plots=plots_of(report, view, POINTS),
            version=__version__,
            style=Markup(style),  # our own file
            style_hash=_hash(style),
            data=Markup(_harmless(data)),  # every angle bracket and ampersand is written as \u00xx
        )
    )


def prose(text: str) -> Markup:
    """Return a sentence as markup: `code` between backticks, numbers that must not break at their minus; all escaped."""
    parts: list[Markup] = []
    for i, piece in enumerate(_CODE.split(text)):
        if i % 2:
            parts.append(Markup("<code>{}</code>").format(piece))
            continue
        at = 0
        for found in _NUMBER.finditer(piece):
            parts += [escape(_quote(piece[at : found.start()])), Markup('<span class="nb">{}</span>').format(found[0])]
            at = found.end()
        parts.append(escape(_quote(piece[at:])))
    return Markup("").join(parts)


def _quote(text: str) -> str:
    return _APOSTROPHE.sub("’", text)


def diff_lines(patch: str) -> list[tuple[str, str]]:
    """Return a patch as (kind, line): "meta", "add", "del" or "same"."""
    made = []
    for line in patch.split("\n")[: -1 if patch.endswith("\n") else None]:
        head = line[:4]
        kind = "meta" if head in ("--- ", "+++ ") or line.startswith("@@") else {"+": "add", "-": "del"}.get(line[:1], "same")
        made.append((kind, line))
    return made


def _harmless(data: str) -> str:
    return data.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


@lru_cache(maxsize=4)
def _source(name: str) -> str:
    return resources.files("traindoctor.report").joinpath("templates", name).read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("traindoctor.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.do"],
    )
    environment.filters["prose"] = prose
    environment.filters["diff"] = diff_lines
    return environment
