"""Curves as static SVG: text in percent of the panel, lines in a stretched view box, so that one drawing fits every width.

Presentation attributes come first and CSS classes only refine them, so a page whose styles are blocked still reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from markupsafe import Markup, escape

from traindoctor.report.buckets import Buckets, bucket
from traindoctor.report.wording import clean, count, number, signed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from traindoctor.model import FloatArray, IntArray

INK, SOFT, FAULT, FIX = "#1c1b19", "#5c5a54", "#b23a0e", "#1b5fa6"
RULE, GRID, GHOST, TINT, OK = "#d8d5cc", "#e9e7e0", "#bdbab1", "#fbf2ed", "#eef4fa"
COLOURS = {"ink": INK, "soft": SOFT, "fault": FAULT, "fix": FIX}

#: The view box of curves. Coordinates are integers in it.
WIDE, HIGH = 6000, 1000
#: The widths in pixels that labels are placed for: a desktop's, with the whole label, and a phone's, with its short form.
DESKTOP, PHONE = 800.0, 250.0

#: Of each kind of event so many are named on the figure; more of them are marks alone.
MOST_WORDS = 4

#: Share of the width from which on a curve ends at the right edge.
EDGE = 0.93

#: Resume, epoch and checkpoint: where one began. lr: a jump of the learning rate.
EventKind = Literal["resume", "epoch", "lr", "checkpoint"]

#: role of a curve -> stroke colour, dashes, width, round ends
STROKES: dict[str, tuple[str, str, float, bool]] = {
    "observed": ("ink", "", 1.5, False),
    "second": ("soft", "", 1.3, False),
    "reproduced": ("fault", "6 4", 1.5, False),
    "forecast": ("fault", "6 4", 1.5, False),
    "counterfactual": ("fix", "0.1 4.5", 2.2, True),
    "limit": ("soft", "", 1.0, False),
}


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """A curve to be drawn: `role` decides colour and dashes, `name` and `detail` label it, "" for no label.

    `band`: a bucket of several values shows its lowest and highest. `low`, `high`: (n,) the interval about each value, or
    None. `labelled`: whether its name is written on it. `dashes`: its own, "" for those of the role.
    """

    role: str
    name: str
    step: IntArray
    value: FloatArray
    detail: str = ""
    band: bool = False
    low: FloatArray | None = None
    high: FloatArray | None = None
    labelled: bool = True
    dashes: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a step, with a word for it and, in `text`, a few more."""

    kind: EventKind
    step: int
    word: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Domain:
    """The steps that every figure of a run spans, and what is marked on all of them.

    `segment`: start and stop in steps, or None. `onset`: step of the onset, None where there is none or the run is healthy.
    `calm`: the run is healthy, so nothing is drawn in the fault colour. `events`: what happened, in order of steps.
    `others`: onsets of the further findings with their codes.
    """

    first: float
    last: float
    segment: tuple[float, float] | None = None
    onset: int | None = None
    unit: str = "step"
    calm: bool = False
    events: tuple[Event, ...] = ()
    others: tuple[tuple[int, str], ...] = ()

    def fraction(self, step: float) -> float:
        """Return where a step stands between the left edge (0) and the right (1)."""
        return (step - self.first) / (self.last - self.first) if self.last > self.first else 0.5


@dataclass(frozen=True, slots=True)
class Scale:
    """A vertical axis: `low` stands at the bottom, `high` at the top; `flat` is the only value there is, if so.

    `blank`: there is no value at all, so the axis has no numbers.
    """

    log: bool
    low: float
    high: float
    flat: float | None = None
    blank: bool = False

    def fraction(self, value: float) -> float:
        """Return where a value stands, 0 at the top and 1 at the bottom, kept within the panel."""
        if self.log:
            if value <= 0:
                return 1.0
            top, bottom, at = math.log10(self.high), math.log10(self.low), math.log10(value)
        else:
            top, bottom, at = self.high, self.low, value
        return min(1.0, max(0.0, (top - at) / (top - bottom))) if top > bottom else 0.5

    def fractions(self, value: FloatArray) -> FloatArray:
        """Return `fraction` of every value, (n,), finite."""
        if self.log:
            positive = np.log10(np.maximum(value, 1e-320))
            top, bottom = math.log10(self.high), math.log10(self.low)
        else:
            positive, top, bottom = value, self.high, self.low
        if top <= bottom:
            return np.full(value.shape, 0.5)
        return np.clip((top - positive) / (top - bottom), 0.0, 1.0)

    def ticks(self, n: int) -> list[tuple[float, str]]:
        """Return about `n` round values with their labels, from low to high."""
        if self.blank:
            return []
        return self._log_ticks(n) if self.log else self._linear_ticks(n)

    def _log_ticks(self, n: int) -> list[tuple[float, str]]:
        low, high = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        if high - low >= 1:
            stride = max(1, math.ceil((high - low + 1) / n))
            stride = next((s for s in (1, 2, 3, 4, 6, 8, 10, 15, 20, 30, 50, 100) if s >= stride), 200)
            chosen = [e for e in range(low, high + 1) if e % stride == 0] or [low]
            return [(10.0**e, power(e)) for e in chosen]
        base = math.floor(math.log10(self.low))
        fine = [m * 10.0**e for e in (base, base + 1) for m in (1, 1.5, 2, 3, 5, 7)]
        inside = [v for v in fine if self.low <= v <= self.high]
        if len(inside) < 2:
            return self._linear_ticks(n)
        return [(v, number(v)) for v in inside[:: max(1, math.ceil(len(inside) / n))]]

    def _linear_ticks(self, n: int) -> list[tuple[float, str]]:
        span = self.high - self.low
        if self.flat is not None:
            return [(self.flat, number(self.flat))]
        if span <= 0 or not math.isfinite(span):
            return [(self.low, number(self.low))]
        stride = nice(span / max(1, n))
        first = math.ceil(self.low / stride - 1e-9)
        last = math.floor(self.high / stride + 1e-9)
        return [(k * stride, tick(k * stride, stride)) for k in range(first, last + 1)][:12]


def power(exponent: int) -> str:
    """Return a power of ten as an axis shows it: 1e-3, 0.1, 1, 10, 100, 1e4."""
    return {-1: "0.1", 0: "1", 1: "10", 2: "100"}.get(exponent, f"1e{exponent}")


def nice(width: float) -> float:
    """Return the next of 1, 2, 2.5, 5, 10 times a power of ten."""
    unit = 10.0 ** math.floor(math.log10(width))
    return next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= width * (1 - 1e-9))


def tick(value: float, stride: float) -> str:
    """Return a tick's label with as many decimals as its stride has."""
    size = abs(value)
    if size < stride * 1e-6:
        return "0"
    if size >= 1e6 or stride < 1e-3:
        return number(value, 3)
    decimals = max(0, -math.floor(math.log10(stride) + 1e-9))
    shown = f"{size:,.{decimals}f}" if round(stride * 10**decimals, 6) % 1 == 0 else f"{size:,.{decimals + 1}f}"
    return ("−" if value < 0 else "") + shown


def scale_of(values: Iterable[FloatArray], *, log: bool | None = None, include: Sequence[float] = ()) -> Scale:
    """Return the axis for some curves; `log=None` chooses: all positive and more than two decades is logarithmic.

    Values that are not finite do not count. On a log axis zeros do not count either; the caller says so on the page.
    The first curve is the observed one. Another never widens the axis by more than four decades either way, or a linear one
    by more than its height; and a few values of the first far below all its others do not: they stand at the lower edge.
    """
    arrays = [v[np.isfinite(v)] for v in values]
    arrays = [v for v in arrays if v.size]
    if not arrays:
        return Scale(False, 0.0, 1.0, blank=True)
    every = np.concatenate([*arrays, np.asarray(include, dtype=np.float64)])
    first = arrays[0]
    if log is None:
        positive = first[first > 0]
        log = bool(not (first < 0).any() and positive.size and positive.max() > 100 * positive.min())
    if log and (every > 0).any():
        positive = every[every > 0]
        own = first[first > 0]
        low, high = float(positive.min()), float(positive.max())
        if own.size:
            least = max(float(own.min()), 1e-6 * float(np.quantile(own, 0.02)))
            others = [float(v[v > 0].min()) for v in arrays[1:] if (v > 0).any()]
            low = min([least, *(max(v, 1e-4 * least) for v in others), *(v for v in include if v > 0)])
            most = float(own.max())
            high = max([most, min(high, 1e4 * most), *include])
        if high / low < 1.02:
            low, high = low / 3, high * 3
        pad = (high / low) ** 0.06
        return Scale(True, max(low / pad, 1e-320), min(high * pad, 1e308))
    low, high = float(every.min()), float(every.max())
    if first.size and not include:  # nor does another one more than double a linear axis
        reach = float(first.max() - first.min()) or abs(float(first.max()))
        low, high = max(low, float(first.min()) - reach), min(high, float(first.max()) + reach)
    if high - low < 1e-12 * max(abs(low), abs(high), 1e-300):
        half = abs(high) / 2 or 0.5
        return Scale(False, low - half, high + half, high)
    pad = 0.06 * (high - low)
    bottom = 0.0 if 0 <= low <= 0.3 * high else low - pad
    return Scale(False, bottom, high + pad)


# -- elements -----------------------------------------------------------------------------------------------------------


def element(name: str, content: Markup | str | None = None, **attributes: object) -> Markup:
    """Return one SVG element; `class_` and `text_anchor` become `class` and `text-anchor`, None is left out."""
    parts = [Markup("<") + Markup(name)]
    for key, value in attributes.items():
        if value is not None:
            label = key.rstrip("_").replace("_", "-") if key not in ("viewBox", "preserveAspectRatio") else key
            parts.append(Markup(' {}="{}"').format(Markup(label), value))
    if content is None:
        return Markup("").join([*parts, Markup("/>")])
    return Markup("").join([*parts, Markup(">"), escape(content), Markup("</"), Markup(name), Markup(">")])


def percent(fraction: float) -> str:
    """Return a position in percent with at most two decimals."""
    return f"{100 * fraction:.2f}".rstrip("0").rstrip(".") + "%"


def moves(points: Iterable[tuple[int, int]]) -> str:
    """Return path data for points of integers: one absolute start, then relative steps."""
    parts: list[str] = []
    x0 = y0 = 0
    for i, (x, y) in enumerate(points):
        if i == 0:
            parts.append(f"M{x} {y}l")
        elif (x, y) != (x0, y0):
            parts.append(f"{x - x0} {y - y0} ")
        x0, y0 = x, y
    return "".join(parts).rstrip("l ").replace(" -", "-")


def _interval_path(line: Line, domain: Domain, scale: Scale, points: int) -> list[Markup]:
    """Return the interval about a curve as one tinted path; its bounds are medians of a bucket, as the curve is."""
    if line.low is None or line.high is None:
        return []
    bounds = [bucket(line.step, np.clip(np.nan_to_num(b, nan=np.inf), -1e300, 1e300), points) for b in (line.low, line.high)]
    data = []
    for low, high in zip(bounds[0].stretches, bounds[1].stretches, strict=True):
        x = np.round([domain.fraction(s) * WIDE for s in low.step]).astype(int).tolist()
        top, bottom = (np.round(scale.fractions(part.middle) * HIGH).astype(int).tolist() for part in (high, low))
        data.append(moves([*zip(x, top, strict=True), *reversed(list(zip(x, bottom, strict=True)))]) + "z")
    colour = STROKES[line.role][0]
    return [
        element("path", class_=f"interval f-{colour}", d="".join(data), fill=COLOURS[colour], fill_opacity="0.16", stroke="none")
    ]


def curve_paths(line: Line, buckets: Buckets, domain: Domain, scale: Scale, points: int = 600) -> list[Markup]:
    """Return the interval, the band and the line of a curve as paths in the view box."""
    colour, dashes, width, round_ends = STROKES[line.role]
    dashes = line.dashes or dashes
    if domain.calm and colour == "fault":
        colour = "soft"
    middle: list[str] = []
    band: list[str] = []
    single: list[str] = []
    made = _interval_path(line, domain, scale, points)
    for part in buckets.stretches:
        x = np.round([domain.fraction(s) * WIDE for s in part.step]).astype(int)
        y = np.round(scale.fractions(part.middle) * HIGH).astype(int)
        top = np.round(scale.fractions(part.high) * HIGH).astype(int)
        bottom = np.round(scale.fractions(part.low) * HIGH).astype(int)
        if x.size == 1:
            single.append(f"M{x[0]} {y[0]}l1 0")
        else:
            middle.append(moves(zip(x.tolist(), y.tolist(), strict=True)))
        if line.band and buckets.width > 1:
            there = list(zip(x.tolist(), top.tolist(), strict=True))
            back = list(zip(x.tolist(), bottom.tolist(), strict=True))[::-1]
            band.append(moves([*there, *back]) + "z")
    if band:
        made.append(
            element(
                "path",
                class_=f"band s-{colour}",
                d="".join(band),
                fill=COLOURS[colour],
                fill_opacity="0.17",
                stroke=COLOURS[colour],
                stroke_opacity="0.3",
                stroke_width="0.7",
                vector_effect="non-scaling-stroke",
            )
        )
    if single:
        made.append(
            element(
                "path",
                class_=f"s-{colour}",
                d="".join(single),
                fill="none",
                stroke=COLOURS[colour],
                stroke_width="4",
                stroke_linecap="round",
                vector_effect="non-scaling-stroke",
            )
        )
    if middle:
        made.append(
            element(
                "path",
                class_=f"line s-{colour}" + (" dots" if round_ends else ""),
                d="".join(middle),
                fill="none",
                stroke=COLOURS[colour],
                stroke_width=f"{width:g}",
                stroke_linejoin="round",
                stroke_dasharray=dashes or None,
                stroke_linecap="round" if round_ends else None,
                vector_effect="non-scaling-stroke",
            )
        )
    return made


@dataclass(slots=True)
class Label:
    """Words on a panel, placed where they cover least; `detail` is left away on narrow screens."""

    name: str
    detail: str
    colour: str
    bold: bool = True
    near: FloatArray | None = None


def _reaching(edge: FloatArray, further: np.ufunc) -> FloatArray:
    """Return the edge of a curve in each column (n,), to halfway to the next one: a steep line covers its column."""
    halfway = (edge[1:] + edge[:-1]) / 2
    return np.asarray(further(edge, further(np.append(halfway, np.nan), np.append(np.nan, halfway))))


@dataclass(slots=True)
class Canvas:
    """What is on a panel already, in pixels of the nominal width, so that labels can keep away from it."""

    height: float
    low: list[FloatArray] = field(default_factory=list)
    high: list[FloatArray] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)

    COLUMNS = 200

    def add(self, buckets: Buckets, domain: Domain, scale: Scale) -> FloatArray:
        """Note where a curve runs; return its height in each column, NaN where it has none."""
        top, bottom = np.full(self.COLUMNS, np.nan), np.full(self.COLUMNS, np.nan)
        for part in buckets.stretches:
            column = np.clip([int(domain.fraction(s) * self.COLUMNS) for s in part.step], 0, self.COLUMNS - 1)
            high, low = scale.fractions(part.high) * self.height, scale.fractions(part.low) * self.height
            np.fmin.at(top, column, high)
            np.fmax.at(bottom, column, low)
            inside = np.arange(column.min(), column.max() + 1)
            known = np.isfinite(top[inside])
            top[inside] = np.interp(inside, inside[known], top[inside][known])
            bottom[inside] = np.interp(inside, inside[known], bottom[inside][known])
        self.high.append(_reaching(top, np.fmin))
        self.low.append(_reaching(bottom, np.fmax))
        return np.asarray((top + bottom) / 2)

    def beside(self, at: float, word: str) -> tuple[float, bool] | None:
        """Return the baseline in pixels of a word beside a vertical line and whether it ends there; None where it is too full."""
        width = (len(word) * 6.6 + 12) / DESKTOP
        best: tuple[float, float, bool] | None = None
        rows = [(self.height - 12 - 15 * k, 0.4 * k) for k in range(4)] + [(30 + 15 * k, 2.0 + 0.4 * k) for k in range(3)]
        for end in (False, True):
            x0, x1 = (at - width, at - 0.005) if end else (at + 0.005, at + width)
            if x0 < 0.0 or x1 > 1.0:
                continue
            a, b = self._columns(x0, x1)
            for y, cost in rows:
                upper, lower = y - 13, y + 4
                if y < 13 or any(x0 < bx1 and x1 > bx0 and upper < by1 and lower > by0 for bx0, bx1, by0, by1 in self.boxes):
                    continue
                hits = [float(((t[a:b] < lower) & (u[a:b] > upper)).mean()) for t, u in zip(self.high, self.low, strict=True)]
                cost += 6.0 * sum(hits) + 0.1 * end
                if best is None or cost < best[0]:
                    best = (cost, y, end)
        if best is None:
            return None
        _, y, end = best
        self.boxes.append((at - width, at, y - 13, y + 4) if end else (at, at + width, y - 13, y + 4))
        return y, end

    def place(self, label: Label, *, left: float = 0.01, right: float = 0.99, pull: float = 0.12) -> tuple[float, float]:
        """Return the fraction of the width and the baseline in pixels at which the label covers least.

        `pull`: what a pixel of distance to its own curve costs.
        """
        width = max((len(label.name) * 7.2 + len(label.detail) * 6.4 + 12) / DESKTOP, (len(label.name) * 7.0 + 6) / PHONE)
        tall = 15.0
        lines = np.arange(tall, max(self.height - 3, tall + 1), 5.0)
        upper, lower = lines - tall - 1, lines + 5
        best = (math.inf, left, tall)
        for x in np.linspace(left, max(left, right - width), 28):
            a, b = self._columns(float(x), float(x) + width)
            cost = np.full(lines.size, 0.5 * float(x))
            for top, bottom in zip(self.high, self.low, strict=True):
                hit = (top[None, a:b] < lower[:, None]) & (bottom[None, a:b] > upper[:, None])
                cost += 40.0 * hit.mean(axis=1) + 8.0 * hit.any(axis=1)
            for x0, x1, y0, y1 in self.boxes:
                if x < x1 and x + width > x0:
                    cost += 60.0 * ((upper < y1) & (lower > y0))
            if label.near is not None:
                own = label.near[a:b]
                known = own[np.isfinite(own)]
                if known.size:
                    away = np.abs(known[None, :] - (lines - 5)[:, None]).min(axis=1)
                    cost += pull * np.abs(away - 14) + 6.0 * (1.0 - known.size / own.size)
                else:
                    cost += 20.0
            k = int(np.argmin(cost))
            if cost[k] < best[0]:
                best = (float(cost[k]), float(x), float(lines[k]))
        _, x, y = best
        self.boxes.append((x, x + width, y - tall, y + 5))
        return x, y

    def _columns(self, x0: float, x1: float) -> tuple[int, int]:
        """Return which columns a box covers, half-open, with a little room to either side."""
        return max(0, int(x0 * self.COLUMNS) - 1), min(self.COLUMNS, max(int(x0 * self.COLUMNS), int(x1 * self.COLUMNS)) + 2)


def text(
    content: Markup | str,
    x: str,
    y: str,
    *,
    colour: str = "soft",
    size: int = 13,
    anchor: str | None = None,
    dx: float | None = None,
    dy: float | None = None,
    bold: bool = False,
    extra: str = "",
    display: str | None = None,
) -> Markup:
    """Return a text element in one of the four colours."""
    return element(
        "text",
        content,
        class_=f"t-{colour}" + (f" {extra}" if extra else ""),
        x=x,
        y=y,
        dx=None if dx is None else f"{dx:g}",
        dy=None if dy is None else f"{dy:g}",
        text_anchor=anchor,
        font_size=size,
        font_weight=600 if bold else None,
        fill=COLOURS[colour],
        display=display,
    )


# -- panels -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Limit:
    """A horizontal line that means something, with its name; `crossed` draws it in the fault colour."""

    value: float
    name: str
    crossed: bool


@dataclass(frozen=True, slots=True)
class Band:
    """A range of values that theory, or a bound that was set, gives: "healthy" (tinted blue) or "bound" (grey)."""

    low: float
    high: float
    name: str
    kind: Literal["healthy", "bound"] = "healthy"


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """What one figure shows, in full: enough to draw it here as SVG, and again elsewhere.

    `lines`: the observed one first; whole arrays. `zeros`: steps whose value is zero or negative on a logarithmic axis, marked
    on the lower edge. `end`: the last value of the first line in words, where a number alone would mislead. `unit`: of the
    values, "" for none.
    """

    lines: tuple[Line, ...]
    domain: Domain
    scale: Scale
    limits: tuple[Limit, ...] = ()
    bands: tuple[Band, ...] = ()
    zeros: tuple[int, ...] = ()
    end: str = ""
    unit: str = ""


def draw(
    panel: Panel,
    *,
    height: int,
    sentence: str,
    points: int = 600,
    hero: bool = False,
    axis: bool = False,
    thread: int = 0,
    labels: bool = True,
) -> Markup:
    """Return a panel as SVG.

    `hero`: the loss figure, which names the onset and the events. `axis`: the steps are written under it. `thread`: how far
    the onset line reaches up, in pixels, to meet the panel above.
    """
    lines, domain, scale = panel.lines, panel.domain, panel.scale
    red = "soft" if domain.calm else "fault"
    made: list[Markup] = []
    canvas = Canvas(float(height))
    prepared = [(line, bucket(line.step, line.value, points)) for line in lines]
    bound = next((band for band in panel.bands if band.kind == "bound"), None)

    if domain.segment is not None and not domain.calm:
        start, stop = (min(1.0, max(0.0, domain.fraction(s))) for s in domain.segment)
        made.append(
            element("rect", class_="seg", x=percent(start), y=0, width=percent(max(stop - start, 0)), height="100%", fill=TINT)
        )
    for band in panel.bands:
        top, bottom = scale.fraction(band.high), scale.fraction(band.low)
        css, fill = ("bound", GRID) if band.kind == "bound" else ("ok", OK)
        made.append(element("rect", class_=css, x=0, y=percent(top), width="100%", height=percent(bottom - top), fill=fill))
    ticks = scale.ticks(4 if height >= 150 else 3) if bound is None else _about_zero(scale, bound.high)
    for value, label in ticks:
        y = percent(scale.fraction(value))
        if any(near.crossed and abs(scale.fraction(near.value) - scale.fraction(value)) * height < 13 for near in panel.limits):
            continue
        if bound is None:
            made.append(element("line", class_="grid", x1=0, x2="100%", y1=y, y2=y, stroke=GRID))
        made.append(text(label, "-10", y, size=12, anchor="end", dy=4, extra="tick"))
    if bound is not None:
        zero = percent(scale.fraction(0.0))
        made.append(element("line", class_="rule", x1=0, x2="100%", y1=zero, y2=zero, stroke=RULE))

    paths: list[Markup] = []
    heights: list[FloatArray] = []
    order = {"limit": 0, "reproduced": 1, "forecast": 1, "observed": 2, "second": 2, "counterfactual": 3}
    for _, buckets in prepared:
        heights.append(canvas.add(buckets, domain, scale))
    for line, buckets in sorted(prepared, key=lambda pair: order[pair[0].role]):
        paths += curve_paths(line, buckets, domain, scale, points)
    made.append(
        element(
            "svg",
            Markup("").join(paths),
            width="100%",
            height="100%",
            viewBox=f"0 0 {WIDE} {HIGH}",
            preserveAspectRatio="none",
            overflow="visible",
        )
    )
    for limit in panel.limits:
        made += _limit_line(limit, scale, canvas, calm=domain.calm)
    made += _verticals(domain, canvas, hero=hero, thread=thread, red=red)
    if hero or axis:
        made += _epoch_ticks(domain)
    made += _ends(prepared, panel, canvas)
    made += _rail(prepared, domain, red)
    made += _zero_marks(panel.zeros, domain)
    if labels:
        made += _names(prepared, heights, canvas, domain)
    made.append(element("line", class_="rule", x1=0, x2="100%", y1="100%", y2="100%", stroke=RULE))
    if axis:
        made += _steps(domain)
    railed = any(buckets.marks for line, buckets in prepared if line.role == "observed")
    kind = "plot" + (" hero" if hero else "") + (" axis" if axis else "") + (" railed" if railed else "")
    return element(
        "svg",
        Markup("").join(made),
        class_=kind,
        width="100%",
        height=height,
        overflow="visible",
        role="img",
        aria_label=sentence,
        font_family="sans-serif",
    )


def _about_zero(scale: Scale, bound: float) -> list[tuple[float, str]]:
    """Return the ticks of a residual: zero, and twice its bound either way where that fits."""
    reach = 2 * bound if scale.high >= 2.2 * bound else bound
    return [(-reach, signed(-reach, 0 if reach % 1 == 0 else 1)), (0.0, "0"), (reach, signed(reach, 0 if reach % 1 == 0 else 1))]


def _limit_line(limit: Limit, scale: Scale, canvas: Canvas, *, calm: bool) -> list[Markup]:
    colour = "fault" if limit.crossed and not calm else "soft"
    at = scale.fraction(limit.value)
    outside = not scale.low <= limit.value <= scale.high
    y = percent(at)
    made = [] if outside else [element("line", class_=f"s-{colour}", x1=0, x2="100%", y1=y, y2=y, stroke=COLOURS[colour])]
    if limit.crossed and not outside:
        made.append(text(number(limit.value), "-10", y, colour=colour, size=12, anchor="end", dy=4, bold=True, extra="tick"))
    name = limit.name or "limit"
    if not limit.crossed or outside:
        name = f"{name}, {number(limit.value)}"
    if outside:
        name += " (outside the figure)"
    flat = np.full(Canvas.COLUMNS, at * canvas.height)
    canvas.high.append(flat)
    canvas.low.append(flat)
    wide = limit.crossed and not outside  # its value stands on the axis, so a narrow screen can do without the name
    x, base = canvas.place(Label("" if wide else name, name if wide else "", colour, near=flat), right=0.97, pull=0.4)
    made.append(text(name, percent(x), percent(base / canvas.height), colour=colour, extra="halo wide" if wide else "halo"))
    return made


def _verticals(domain: Domain, canvas: Canvas, *, hero: bool, thread: int, red: str) -> list[Markup]:
    """Return the onset and the resumes, which run through all figures, and on the loss what else happened."""
    made: list[Markup] = []
    for event in domain.events:
        if event.kind == "resume":
            x = percent(domain.fraction(event.step))
            made.append(
                element(
                    "line",
                    class_="s-soft",
                    x1=x,
                    x2=x,
                    y1=0,
                    y2="100%",
                    stroke=SOFT,
                    stroke_dasharray="2 3",
                    stroke_opacity="0.8",
                )
            )
    if domain.onset is None:
        return made + (_happened(domain, canvas, red) if hero else [])
    at = domain.fraction(domain.onset)
    x = percent(at)
    line = {"x1": x, "x2": x, "stroke": COLOURS[red], "shape_rendering": "crispEdges"}  # so that a thread over a line is not seen
    made.append(element("line", class_=f"s-{red}", y1=0, y2="100%", **line))
    if thread:
        made.append(element("line", class_=f"s-{red} thread", display="none", y1=-thread, y2=0, **line))
    canvas.boxes.append((at - 0.004, at + 0.004, 0, canvas.height))
    if hero:
        to_left = at > 0.3
        label = Markup("").join(
            [
                element("tspan", f"{domain.unit} {count(domain.onset)}", font_weight=600),
                element("tspan", "onset", class_="wide", dx=6),
            ]
        )
        made.append(
            text(label, x, "0", dx=-8 if to_left else 8, dy=13, colour=red, anchor="end" if to_left else None, extra="halo")
        )
        canvas.boxes.append((at - 0.42, at, 0, 20) if to_left else (at, at + 0.42, 0, 20))
        made += _happened(domain, canvas, red)
    return made


def _at_edge(step: float, domain: Domain, *parts: Markup) -> Markup:
    """Return marks in pixels about a place on the lower edge."""
    return element("svg", Markup("").join(parts), x=percent(domain.fraction(step)), y="100%", overflow="visible")


def _epoch_ticks(domain: Domain) -> list[Markup]:
    steps = [e.step for e in domain.events if e.kind == "epoch" and domain.first < e.step < domain.last]
    return [
        _at_edge(step, domain, element("line", class_="s-soft", x1=0, x2=0, y1=-4, y2=0, stroke=SOFT, stroke_opacity="0.7"))
        for step in steps
    ]


def _happened(domain: Domain, canvas: Canvas, red: str) -> list[Markup]:
    """Return marks on the lower edge for what happened, with a word each where there is room for it."""
    made: list[Markup] = []
    told: list[tuple[float, str, str]] = []
    for step, code in domain.others[:6]:
        line = element("line", class_=f"s-{red}", x1=0, x2=0, y1=-14, y2=0, stroke=COLOURS[red], stroke_width=2)
        made.append(_at_edge(step, domain, line))
        told.append((domain.fraction(step), code, red))
    for event in domain.events:
        if event.kind == "epoch" or not domain.first <= event.step <= domain.last:
            continue
        if event.kind == "lr":
            up = element("path", class_="f-ink", d="M-4.5 -1h9l-4.5 -8z", fill=INK)
            made.append(_at_edge(event.step, domain, up))
        elif event.kind == "checkpoint":
            square = element("rect", class_="f-soft", x=-3, y=-7, width=6, height=6, fill=SOFT)
            made.append(_at_edge(event.step, domain, square))
        if sum(e.kind == event.kind for e in domain.events) <= MOST_WORDS:
            told.append((domain.fraction(event.step), event.word, "soft"))
    for at, word, colour in sorted(told):
        place = canvas.beside(at, word)
        if place is not None:
            y, end = place
            x = percent(at)
            anchor, dx = ("end", -6) if end else (None, 6)
            made.append(
                text(word, x, percent(y / canvas.height), dx=dx, size=12, colour=colour, anchor=anchor, extra="halo wide")
            )
    return made


class _End(NamedTuple):
    """Where a curve ends, fraction of the width and pixels, and its last value in words, "" where it stands elsewhere."""

    x: float
    y: float
    shown: str
    colour: str
    bold: bool


def _ends(prepared: Sequence[tuple[Line, Buckets]], panel: Panel, canvas: Canvas) -> list[Markup]:
    """Return the last values, at the right edge or where a curve ends before it, moved apart where they would touch."""
    domain, scale, end = panel.domain, panel.scale, panel.end
    written = {number(limit.value) for limit in panel.limits if limit.crossed}
    found: list[_End] = []
    for line, _ in prepared:
        finite = np.flatnonzero(np.isfinite(line.value))
        if line.role in ("limit", "reproduced", "forecast") or not finite.size:
            continue
        value, x = float(line.value[finite[-1]]), domain.fraction(float(line.step[finite[-1]]))
        is_first = line.role == "observed"
        cut = is_first and finite[-1] + 1 < line.value.size  # followed by values that are not finite
        if cut and not end and x >= EDGE:
            continue
        shown = end if end and is_first and (x >= EDGE or not cut) else number(value)
        if x < EDGE and shown in written:  # it ends on the limit, whose value stands at the axis
            shown = ""
        found.append(_End(x, scale.fraction(value) * canvas.height, shown, STROKES[line.role][0], is_first))
    found.sort(key=lambda item: item.y)
    places = [item.y for item in found]
    for _ in range(20):
        for i in range(1, len(places)):
            overlap = 15 - (places[i] - places[i - 1])
            if overlap > 0:
                places[i - 1] -= overlap / 2
                places[i] += overlap / 2
    made = []
    for one, y in zip(found, places, strict=True):
        place = {"cx": percent(one.x), "cy": percent(one.y / canvas.height)}
        made.append(element("circle", class_=f"f-{one.colour}", **place, r="2.5", fill=COLOURS[one.colour]))
        if not one.shown:
            continue
        within = one.x < EDGE
        x, dx, extra = (one.x, 7, "halo") if within else (1.0, 10, "")
        made.append(
            text(one.shown, percent(x), percent(y / canvas.height), dx=dx, dy=4, colour=one.colour, bold=one.bold, extra=extra)
        )
        if within:
            canvas.boxes.append((one.x, one.x + (7 * len(one.shown) + 12) / DESKTOP, y - 12, y + 8))
    return made


def _rail(prepared: Sequence[tuple[Line, Buckets]], domain: Domain, red: str) -> list[Markup]:
    """Return the values that are not finite, as marks on a rail over the panel: a dot, or a bar from first to last."""
    for line, buckets in prepared:
        if line.role != "observed" or not buckets.marks:
            continue
        kinds = sorted({m.kind for m in buckets.marks})
        made = [
            element("line", class_="rule", x1=0, x2="100%", y1=-14, y2=-14, stroke=RULE),
            text(", ".join(kinds), "-10", "-14", dy=4, size=12, anchor="end", colour=red, bold=True, extra="tick"),
        ]
        for mark in buckets.marks:
            a, b = domain.fraction(mark.first), domain.fraction(mark.last)
            if b - a > 0.002:
                made.append(
                    element(
                        "line",
                        class_=f"s-{red}",
                        x1=percent(a),
                        x2=percent(b),
                        y1=-14,
                        y2=-14,
                        stroke=COLOURS[red],
                        stroke_width=5,
                    )
                )
            else:
                made.append(element("circle", class_=f"f-{red}", cx=percent(a), cy=-14, r=3, fill=COLOURS[red]))
        return made
    return []


def _zero_marks(zeros: Sequence[int], domain: Domain) -> list[Markup]:
    seen = sorted({round(domain.fraction(s), 3) for s in zeros})[:300]
    return [element("circle", class_="f-soft hollow", cx=percent(f), cy="100%", r=2.5, fill="none", stroke=SOFT) for f in seen]


def _names(
    prepared: Sequence[tuple[Line, Buckets]], heights: Sequence[FloatArray], canvas: Canvas, domain: Domain
) -> list[Markup]:
    made = []
    at = domain.fraction(domain.onset) if domain.onset is not None and not domain.calm else 0.0
    left = at + 0.02 if 0.0 < at < 0.6 else 0.03
    for (line, _), own in zip(prepared, heights, strict=True):
        if not line.name or not line.labelled:
            continue
        colour = STROKES[line.role][0]
        if domain.calm and colour == "fault":
            colour = "soft"
        label = Label(clean(line.name, 40), clean(line.detail, 60), colour, near=own)
        reach = np.flatnonzero(np.isfinite(own))
        within = reach.size == 0 or reach[-1] > (at + 0.05) * Canvas.COLUMNS
        x, y = canvas.place(label, left=left if within else 0.03)
        spans = [element("tspan", label.name, font_weight=600)]
        if label.detail:
            spans.append(element("tspan", label.detail, class_="t-soft wide", fill=SOFT, dx=8))
        made.append(text(Markup("").join(spans), percent(x), percent(y / canvas.height), colour=colour, extra="halo"))
    return made


def _steps(domain: Domain) -> list[Markup]:
    span = domain.last - domain.first
    if span <= 0:
        return [text(count(round(domain.first)), "50%", "100%", dy=20, size=12, anchor="middle", extra="tick")]
    stride = max(1.0, nice(span / 6))
    if stride % 1:
        stride = math.ceil(stride)
    first = math.ceil(domain.first / stride - 1e-9)
    last = math.floor(domain.last / stride + 1e-9)
    made = []
    for i, k in enumerate(range(first, last + 1)):
        x = percent(domain.fraction(k * stride))
        made.append(
            text(count(round(k * stride)), x, "100%", dy=20, size=12, anchor="middle", extra="tick odd" if i % 2 else "tick")
        )
    made.append(
        text(
            {"step": "steps", "epoch": "epochs", "row": "rows"}.get(domain.unit, domain.unit),
            "-10",
            "100%",
            dy=20,
            size=12,
            anchor="end",
            extra="tick",
        )
    )
    return made


def spark(
    line: Line,
    ghost: Line | None,
    domain: Domain,
    scale: Scale,
    colour: str,
    *,
    points: int = 110,
    width: int = 150,
    height: int = 30,
) -> Markup:
    """Return a curve the size of a word, with the recorded run as a grey ghost under it."""
    parts = []
    if domain.onset is not None:
        x = f"{domain.fraction(domain.onset) * width:.1f}"
        parts.append(element("line", class_="rule", x1=x, x2=x, y1=0, y2=height, stroke=RULE))
    for one, stroke, name in ((ghost, GHOST, "ghost"), (line, COLOURS[colour], f"s-{colour}")):
        if one is None:
            continue
        data = []
        for part in bucket(one.step, one.value, points).stretches:
            x_at = np.round([domain.fraction(s) * width * 10 for s in part.step]).astype(int)
            y_at = np.round(scale.fractions(part.middle) * (height - 2) * 10).astype(int) + 10
            data.append(moves(zip(x_at.tolist(), y_at.tolist(), strict=True)))
        parts.append(
            element(
                "path",
                class_=name,
                d="".join(data),
                transform="scale(.1)",
                fill="none",
                stroke=stroke,
                stroke_width="1.4" if name != "ghost" else "1",
                stroke_linejoin="round",
                vector_effect="non-scaling-stroke",
            )
        )
    return element(
        "svg",
        Markup("").join(parts),
        class_="spark",
        width=width,
        height=height,
        viewBox=f"0 0 {width} {height}",
        aria_hidden="true",
    )
