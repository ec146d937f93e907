"""Curves as static SVG: text in percent of the panel, lines in a stretched view box, so that one drawing fits every width.

Presentation attributes come first and CSS classes only refine them, so a page whose styles are blocked still reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape

from traindoctor.report.buckets import Buckets, bucket
from traindoctor.report.wording import clean, count, number, signed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from traindoctor.model import FloatArray, IntArray

INK, SOFT, FAULT, FIX = "#1c1b19", "#5c5a54", "#b23a0e", "#1b5fa6"
RULE, GRID, GHOST, TINT = "#d8d5cc", "#e9e7e0", "#bdbab1", "#fbf2ed"
COLOURS = {"ink": INK, "soft": SOFT, "fault": FAULT, "fix": FIX}

#: The view box of curves. Coordinates are integers in it.
WIDE, HIGH = 6000, 1000
#: The widths in pixels that labels are placed for: a desktop's, with the whole label, and a phone's, with its short form.
DESKTOP, PHONE = 800.0, 250.0

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
    """A curve to be drawn: `role` decides colour and dashes, `name` and `detail` label it, "" for no label."""

    role: str
    name: str
    step: IntArray
    value: FloatArray
    detail: str = ""
    band: bool = False


@dataclass(frozen=True, slots=True)
class Domain:
    """The steps that every figure of a run spans, and what is marked on all of them.

    `segment`: start and stop in steps, or None. `calm`: the run is healthy, so nothing is drawn in the fault colour.
    """

    first: float
    last: float
    segment: tuple[float, float] | None = None
    onset: int | None = None
    unit: str = "step"
    calm: bool = False
    restarts: tuple[int, ...] = ()
    others: tuple[tuple[int, str], ...] = ()

    def fraction(self, step: float) -> float:
        """Return where a step stands between the left edge (0) and the right (1)."""
        return (step - self.first) / (self.last - self.first) if self.last > self.first else 0.5


@dataclass(frozen=True, slots=True)
class Scale:
    """A vertical axis: `low` stands at the bottom, `high` at the top; `flat` is the only value there is, if so."""

    log: bool
    low: float
    high: float
    flat: float | None = None

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
    A curve never widens the axis by more than four decades below the first one, which is the observed one.
    """
    arrays = [v[np.isfinite(v)] for v in values]
    arrays = [v for v in arrays if v.size]
    if not arrays:
        return Scale(False, 0.0, 1.0)
    every = np.concatenate([*arrays, np.asarray(include, dtype=np.float64)])
    first = arrays[0]
    if log is None:
        positive = first[first > 0]
        log = bool(not (first < 0).any() and positive.size and positive.max() > 100 * positive.min())
    if log and (every > 0).any():
        positive = every[every > 0]
        own = first[first > 0]
        low, high = float(positive.min()), float(positive.max())
        if own.size and not include:
            low = max(low, float(own.min()) * 1e-4)
        if high / low < 1.02:
            low, high = low / 3, high * 3
        pad = (high / low) ** 0.06
        return Scale(True, max(low / pad, 1e-320), min(high * pad, 1e308))
    low, high = float(every.min()), float(every.max())
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


def curve_paths(line: Line, buckets: Buckets, domain: Domain, scale: Scale) -> list[Markup]:
    """Return the band and the line of a curve as paths in the view box."""
    colour, dashes, width, round_ends = STROKES[line.role]
    if domain.calm and colour == "fault":
        colour = "soft"
    middle: list[str] = []
    band: list[str] = []
    single: list[str] = []
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
    made = []
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
        self.high.append(top)
        self.low.append(bottom)
        return np.asarray((top + bottom) / 2)

    def place(self, label: Label, *, left: float = 0.01, right: float = 0.99) -> tuple[float, float]:
        """Return the fraction of the width and the baseline in pixels at which the label covers least."""
        width = max((len(label.name) * 7.2 + len(label.detail) * 6.4 + 12) / DESKTOP, (len(label.name) * 7.0 + 6) / PHONE)
        tall = 15.0
        best = (math.inf, left, tall)
        for x in np.linspace(left, max(left, right - width), 28):
            a, b = int(x * self.COLUMNS), max(int(x * self.COLUMNS) + 1, int(min(1.0, x + width) * self.COLUMNS))
            tops = [t[a:b] for t in self.high]
            bottoms = [t[a:b] for t in self.low]
            own = label.near[a:b] if label.near is not None else None
            for y in np.arange(tall, self.height - 3, 5.0):
                upper, lower = y - tall - 1, y + 5
                cost = 0.0
                for top, bottom in zip(tops, bottoms, strict=True):
                    hit = (top < lower) & (bottom > upper)
                    cost += 40.0 * float(hit.mean()) + (8.0 if hit.any() else 0.0)
                for x0, x1, y0, y1 in self.boxes:
                    if x < x1 and x + width > x0 and upper < y1 and lower > y0:
                        cost += 60.0
                if own is not None and np.isfinite(own).any():
                    away = float(np.nanmin(np.abs(own - (y - 5))))
                    cost += 0.12 * abs(away - 14) + 6.0 * float(np.isnan(own).mean())
                elif own is not None:
                    cost += 20.0
                cost += 0.5 * float(x)
                if cost < best[0]:
                    best = (cost, float(x), float(y))
        _, x, y = best
        self.boxes.append((x, x + width, y - tall, y + 5))
        return x, y


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


def panel(
    lines: Sequence[Line],
    domain: Domain,
    scale: Scale,
    *,
    height: int,
    sentence: str,
    points: int = 600,
    hero: bool = False,
    axis: bool = False,
    thread: int = 0,
    limit: Limit | None = None,
    bound: float | None = None,
    labels: bool = True,
    zeros: Sequence[int] = (),
    end: str = "",
) -> Markup:
    """Return one panel as SVG.

    `hero`: the loss figure, which names the onset. `axis`: the steps are written under it. `thread`: how far the
    onset line reaches up, in pixels, to meet the panel above. `bound`: half height of a grey band about zero.
    `zeros`: steps whose value is zero or negative on a log axis, marked on the lower edge. `end`: the last value of the
    first line in words, where a number alone would mislead.
    """
    red = "soft" if domain.calm else "fault"
    made: list[Markup] = []
    canvas = Canvas(float(height))
    prepared = [(line, bucket(line.step, line.value, points)) for line in lines]

    if domain.segment is not None and not domain.calm:
        start, stop = (min(1.0, max(0.0, domain.fraction(s))) for s in domain.segment)
        made.append(
            element("rect", class_="seg", x=percent(start), y=0, width=percent(max(stop - start, 0)), height="100%", fill=TINT)
        )
    if bound is not None:
        top, bottom = scale.fraction(bound), scale.fraction(-bound)
        made.append(element("rect", class_="bound", x=0, y=percent(top), width="100%", height=percent(bottom - top), fill=GRID))
    ticks = scale.ticks(4 if height >= 150 else 3) if bound is None else _about_zero(scale, bound)
    for value, label in ticks:
        y = percent(scale.fraction(value))
        near_limit = (
            limit is not None and limit.crossed and abs(scale.fraction(limit.value) - scale.fraction(value)) * height < 13
        )
        if near_limit:
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
        paths += curve_paths(line, buckets, domain, scale)
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
    made += _limit_line(limit, scale, canvas, calm=domain.calm)
    made += _verticals(domain, canvas, hero=hero, thread=thread, red=red)
    made += _ends(prepared, domain, scale, height, end)
    made += _rail(prepared, domain, red)
    made += _zero_marks(zeros, domain, red)
    if labels:
        made += _names(prepared, heights, canvas, domain)
    made.append(element("line", class_="rule", x1=0, x2="100%", y1="100%", y2="100%", stroke=RULE))
    if axis:
        made += _steps(domain)
    kind = "plot" + (" hero" if hero else "") + (" axis" if axis else "")
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


def _limit_line(limit: Limit | None, scale: Scale, canvas: Canvas, *, calm: bool) -> list[Markup]:
    if limit is None:
        return []
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
    x, base = canvas.place(Label("" if wide else name, name if wide else "", colour, near=flat), right=0.97)
    made.append(text(name, percent(x), percent(base / canvas.height), colour=colour, extra="halo wide" if wide else "halo"))
    return made


def _verticals(domain: Domain, canvas: Canvas, *, hero: bool, thread: int, red: str) -> list[Markup]:
    made: list[Markup] = []
    for step in domain.restarts[:12]:
        x = percent(domain.fraction(step))
        made.append(
            element(
                "line", class_="s-soft", x1=x, x2=x, y1=0, y2="100%", stroke=SOFT, stroke_dasharray="2 3", stroke_opacity="0.8"
            )
        )
        if hero:
            made.append(text("resumed", x, "100%", dx=5, dy=-6, size=12, extra="wide"))
    if hero:
        for step, label in domain.others[:6]:
            x = percent(domain.fraction(step))
            made.append(element("line", class_=f"s-{red}", x1=x, x2=x, y1="100%", y2="96%", stroke=COLOURS[red], stroke_width=2))
            made.append(text(label, x, "100%", dx=5, dy=-5, size=12, colour=red, extra="wide"))
    if domain.onset is None:
        return made
    at = domain.fraction(domain.onset)
    x = percent(at)
    made.append(element("line", class_=f"s-{red}", x1=x, x2=x, y1=0, y2="100%", stroke=COLOURS[red]))
    if thread:
        made.append(element("line", class_=f"s-{red} thread", display="none", x1=x, x2=x, y1=-thread, y2=0, stroke=COLOURS[red]))
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
    return made


def _ends(prepared: Sequence[tuple[Line, Buckets]], domain: Domain, scale: Scale, height: int, end: str) -> list[Markup]:
    """Return the last values, at the right edge, moved apart where they would touch."""
    found: list[tuple[float, str, str, bool]] = []
    for line, _ in prepared:
        finite = np.flatnonzero(np.isfinite(line.value))
        if line.role == "limit" or finite.size == 0 or domain.fraction(float(line.step[finite[-1]])) < 0.93:
            continue
        if line.role in ("reproduced", "forecast"):
            continue
        colour = STROKES[line.role][0]
        value = float(line.value[finite[-1]])
        if line.role == "observed" and not end and finite[-1] + 1 < line.value.size:
            continue
        shown = end if end and not found else number(value)
        found.append((scale.fraction(value) * height, shown, colour, line.role == "observed"))
    found.sort(key=lambda item: item[0])
    places = [item[0] for item in found]
    for _ in range(20):
        for i in range(1, len(places)):
            overlap = 15 - (places[i] - places[i - 1])
            if overlap > 0:
                places[i - 1] -= overlap / 2
                places[i] += overlap / 2
    made = []
    for (at, shown, colour, bold), place in zip(found, places, strict=True):
        made.append(element("circle", class_=f"f-{colour}", cx="100%", cy=percent(at / height), r="2.5", fill=COLOURS[colour]))
        made.append(text(shown, "100%", percent(place / height), dx=10, dy=4, colour=colour, bold=bold))
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


def _zero_marks(zeros: Sequence[int], domain: Domain, red: str) -> list[Markup]:
    seen = sorted({round(domain.fraction(s), 3) for s in zeros})[:300]
    return [
        element("circle", class_=f"f-{red} hollow", cx=percent(f), cy="100%", r=2.5, fill="none", stroke=COLOURS[red])
        for f in seen
    ]


def _names(
    prepared: Sequence[tuple[Line, Buckets]], heights: Sequence[FloatArray], canvas: Canvas, domain: Domain
) -> list[Markup]:
    made = []
    at = domain.fraction(domain.onset) if domain.onset is not None and not domain.calm else 0.0
    left = at + 0.02 if 0.0 < at < 0.6 else 0.03
    for (line, _), own in zip(prepared, heights, strict=True):
        if not line.name:
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
