"""What a notebook shows of a report: a small static card, and the whole page in a sandboxed frame on request.

The card has no style, no script and no class of its own. It takes the look of the notebook around it, light or dark, and
stays readable where an export or a host strips what it does not trust.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from markupsafe import Markup, escape

from traindoctor.errors import ConfigError
from traindoctor.model import VERDICTS
from traindoctor.report import wording as w
from traindoctor.report.buckets import bucket
from traindoctor.report.figures import element, moves, scale_of
from traindoctor.report.lines import cut
from traindoctor.report.markup import environment
from traindoctor.report.redaction import redacted
from traindoctor.report.view import RunView, diagnosis_first, in_order, onset_of, trial_of, view_across, view_run
from traindoctor.signals.thinning import whole_of

if TYPE_CHECKING:
    import jinja2

    from traindoctor.model import Curve, Report, RunReport, Series
    from traindoctor.report.figures import Scale

#: Runs that the card names; those it leaves out are no worse.
MOST_RUNS = 40
#: The onset, and the fix: a red and a blue that stand off white and black paper alike (contrasts of 3.8 to 5).
FAULT, FIX = "#d0552a", "#3f86d0"
#: Longest name or sentence of the card, in characters.
LONGEST = 600


class Card(NamedTuple):
    """One run of the card: what is said, and its loss."""

    view: RunView
    figure: Markup


def card(report: Report) -> str:
    """Return the report as a piece of HTML of at most 100 kB, for `_repr_html_`: the verdict, the loss, the first fix."""
    report = redacted(report)  # notebooks are passed on with what they show
    runs = [diagnosis_first(one) for one in in_order(report)]
    shown = runs[:MOST_RUNS]
    wide = len(runs) == 1
    cards = [Card(view_run(one, report.names), _loss(one, wide=wide)) for one in shown]
    counts = [(word, sum(one.verdict == word for one in runs)) for word in VERDICTS]
    made = _template().render(
        cards=cards,
        counts=[(word, n) for word, n in counts if n],
        across=view_across(report.across),
        left=len(runs) - len(shown),
    )
    return f"<div>\n{made}\n</div>"


def show(report: Report, height: int = 720) -> None:
    """Show the whole page in the notebook that runs this, in a frame of `height` pixels without rights of its own.

    Raises: ConfigError outside of a notebook.
    """
    from traindoctor.report.html import render_html

    shell = sys.modules.get("IPython")
    if shell is None or shell.get_ipython() is None:
        raise ConfigError(
            "show()", "there is no notebook to show a report in", 'report.to_html("report.html", open_in_browser=True)'
        )
    shown = {"text/html": frame(render_html(report), height), "text/plain": repr(report)}
    shell.display.display(shown, raw=True)


def frame(page: str, height: int) -> str:
    """Return a page as a frame: its script runs, but cannot reach the notebook, its cookies, or a network."""
    made = Markup(
        '<iframe srcdoc="{}" sandbox="allow-scripts allow-downloads" width="100%" height="{:d}" frameborder="0" '
        'title="The report of traindoctor"></iframe>'
    ).format(page, height)
    return str(made)


class Paper(NamedTuple):
    """The extent of a drawing: its steps, its axis, and its size in pixels."""

    first: int
    last: int
    scale: Scale
    width: int
    height: int

    def x(self, step: float) -> float:
        """Return where a step stands, in pixels from the left."""
        return (step - self.first) / max(self.last - self.first, 1) * self.width

    def path(self, curve: Series | Curve, **look: object) -> Markup:
        """Return a curve as a path, in tenths of a pixel, the median of each two pixels; gaps stay gaps."""
        drawn = []
        for part in bucket(curve.step, curve.value, self.width // 2).stretches:
            x = np.round([self.x(step) * 10 for step in part.step]).astype(int)
            y = np.round(self.scale.fractions(part.middle) * (self.height - 4) * 10).astype(int) + 20
            drawn.append(moves(zip(x.tolist(), y.tolist(), strict=True)) if x.size > 1 else f"M{x[0]} {y[0]}l4 0")
        return element("path", None, d="".join(drawn), transform="scale(.1)", fill="none", stroke_width=14, **look)


def _loss(report: RunReport, *, wide: bool) -> Markup:
    """Return the logged loss as a small drawing in the colour of the text, with the onset marked; nothing without a loss.

    A wide one has what the replay made of the first fix beside it, and says below what is to be seen.
    """
    loss = report.run.primary.get("loss")
    if loss is None or not np.isfinite(loss.value).any():
        return Markup("")
    fixed = _with_the_fix(report) if wide else None
    scale = scale_of([loss.value] if fixed is None else [loss.value, fixed.value])
    width, height = (640, 150) if wide else (120, 24)
    paper = Paper(int(loss.step.min()), int(loss.step.max()), scale, width, height)
    onset = None if report.verdict == "healthy" else onset_of(report)
    parts, told = [], [f"steps {w.count(paper.first)} to {w.count(paper.last)}"]
    if onset is not None and paper.first <= onset <= paper.last:
        at = f"{paper.x(onset):.1f}"
        parts.append(element("line", x1=at, x2=at, y1=0, y2=height, stroke=FAULT, stroke_width="1.5"))
        told.append(f"the red line marks step {w.count(onset)}")
    if fixed is not None:
        parts.append(paper.path(fixed, stroke=FIX, stroke_dasharray="30 30"))
        told.append("dashed what the replay says of the first fix")
    parts.append(paper.path(loss, stroke="currentColor"))
    whole = whole_of(loss)
    if whole.first_bad is not None:
        bad = w.plural(whole.n_nan + whole.n_infinite, "value is", "values are")
        told.append(f"{bad} NaN or infinite, from step {w.count(whole.first_bad)} on")
    axis = f"Loss from {w.number(whole.low)} to {w.number(whole.high)} on a {'log' if scale.log else 'linear'} scale"
    words = "; ".join([axis, *told]) + "."
    drawing = element(
        "svg", Markup("").join(parts), width=width, height=height, viewBox=f"0 0 {width} {height}", role="img", aria_label=words
    )
    return Markup('<p align="left">{}<br><small>{}</small></p>').format(drawing, words) if wide else drawing


def _with_the_fix(report: RunReport) -> Curve | None:
    """Return the loss that the replay has with the first fix; None where nothing is claimed."""
    if report.replay is None or not report.replay.reproduces or not report.findings or not report.findings[0].fixes:
        return None
    trial = trial_of(report.findings[0].fixes[0], report.replay)
    return None if trial is None or trial.verdict == "not tried" or not trial.loss.step.size else trial.loss


def _shortened(patch: str, most: int) -> str:
    """Return the first lines of a patch; a card is no place to copy a long one from."""
    lines = [cut(w.clean_block(line), 160) for line in patch.splitlines()]
    return "\n".join(lines if len(lines) <= most else [*lines[:most], f"and {len(lines) - most} lines more"])


def _prose(text: str) -> Markup:
    """Return a sentence with what stands between backticks as code; the page's own prose has classes, which a card has not."""
    pieces = cut(text, LONGEST).split("`")
    if len(pieces) % 2 == 0:  # one of them is no mark of code
        return escape(cut(text, LONGEST))
    return Markup("").join(Markup("<code>{}</code>").format(piece) if i % 2 else escape(piece) for i, piece in enumerate(pieces))


@lru_cache(maxsize=1)
def _template() -> jinja2.Template:
    made = environment().overlay()
    made.filters = made.filters | {"prose": _prose, "cut": cut, "shortened": _shortened}
    return made.get_template("notebook.html.j2")
