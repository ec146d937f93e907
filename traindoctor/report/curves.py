"""The curves of the figures as data of the page: what the script draws when someone zooms, and what a CSV file is made of.

All numbers stand in one stream: column after column, each with its bytes shuffled (first bytes first), then deflated, then in
base64. A browser decodes that with `DecompressionStream`. A long curve is thinned to the first, lowest, highest and last of
each bucket, which draws the same line (M4), and keeps every value in its suspicious segment as far as the budget goes.

Source of M4: Jugel et al. 2014, M4: a visualization-oriented time series data aggregation, doi:10.14778/2732951.2732953.
"""

from __future__ import annotations

import base64
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.report.figures import STROKES

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from traindoctor.model import FloatArray, IntArray
    from traindoctor.report.figures import Domain, Line
    from traindoctor.report.plots import Figure

#: Values of a run that a page holds, all its curves together; about 4 bytes of the file each, at most.
BUDGET = 160_000
#: Buckets of a thinned curve: four values of each are kept.
BUCKETS = 1000
#: A log that steps back more often has no order worth keeping; its curve is sorted by step.
MOST_RESTARTS = 12
#: Bits that rounding clears of the 23 of a float32's mantissa: 13 stay, which is four digits.
CLEARED = 10


class Kept(NamedTuple):
    """The positions of a curve that a page holds, ascending, and how: `every` values went into a bucket, 1 where none was.

    `whole`: the positions from first to last, half-open, between which every value is kept.
    """

    at: IntArray
    every: int
    whole: tuple[int, int]


def figures_data(figures: Sequence[Figure], budget: int = BUDGET) -> dict[str, object]:
    """Return the figures of a run as one JSON object; an empty one where there are none.

    `budget`: values of the page at most, shared by the curves; four values a bucket are kept in any case.
    """
    if not figures:
        return {}
    columns = Columns()
    domain = figures[0].panel.domain
    allowance = budget // max(1, sum(len(f.panel.lines) for f in figures))
    made = {
        "unit": domain.unit,
        "first": domain.first,
        "last": domain.last,
        "segment": domain.segment,
        "onset": domain.onset,
        "calm": domain.calm,
        "events": [{"kind": e.kind, "step": e.step, "word": e.word} for e in domain.events],
        "others": domain.others,
        "strokes": {role: _stroke(*stroke) for role, stroke in STROKES.items()},
        "figures": [_figure(f, allowance, columns) for f in figures],
    }
    return {**made, **columns.data()}


class Columns:
    """Columns of numbers on their way into the page; equal ones, as the steps of most curves are, stand there once."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}
        self._known: list[list[object]] = []
        self._parts: list[bytes] = []

    def steps(self, step: IntArray) -> int:
        """Add whole numbers, (n,), and return the number of the column; kept exactly."""
        distance = np.diff(step)
        if step.size and np.abs(distance).max(initial=0) < 2**31:
            return self._add(["step", int(step.size), int(step[0])], distance.astype("<i4"))
        return self._add(["f8", int(step.size)], step.astype("<f8"))

    def values(self, value: FloatArray, rough: npt.NDArray[np.bool_] | None = None) -> int:
        """Add values, (n,), and return the number of the column: float32 where their range allows it, else float64.

        `rough`: (n,), where a value may be rounded to 13 bits of mantissa.
        """
        size = np.abs(value[np.isfinite(value) & (value != 0)])
        limits = np.finfo(np.float32)
        if size.size and (size.max() > limits.max or size.min() < limits.tiny):
            return self._add(["f8", int(value.size)], value.astype("<f8"))
        single = value.astype("<f4")
        if rough is not None and rough.any():
            single = np.where(rough, rounded(single), single).astype("<f4")
        return self._add(["f4", int(value.size)], single)

    def data(self) -> dict[str, object]:
        """Return the kinds of the columns and, in `data`, their bytes."""
        packed = zlib.compress(b"".join(self._parts), 6) if self._parts else b""
        return {"columns": self._known, "data": base64.b64encode(packed).decode("ascii")}

    def _add(self, kind: list[object], numbers: npt.NDArray[np.generic]) -> int:
        raw = numbers.tobytes()
        key = repr(kind).encode() + raw
        if key not in self._places:
            self._places[key] = len(self._known)
            self._known.append(kind)
            self._parts.append(np.frombuffer(raw, np.uint8).reshape(-1, numbers.itemsize).T.tobytes())
        return self._places[key]


def rounded(value: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return float32 values rounded to 13 bits of mantissa, at most 6.2e-5 away; NaN and infinities come back as they are."""
    bits = value.view(np.uint32)
    half = np.uint32(1 << (CLEARED - 1))
    mask = np.uint32(0xFFFFFFFF >> CLEARED << CLEARED)
    near = ((bits + half) & mask).view(np.float32)
    return np.where(np.isfinite(value) & np.isfinite(near), near, value)


def thinned(value: FloatArray, n_buckets: int = BUCKETS) -> IntArray:
    """Return the positions, ascending, of the first, lowest, highest and last finite value of each bucket of a curve.

    A bucket with values that are not finite keeps the first and the last of those as well, so that no gap closes. A curve of at
    most four values a bucket is kept whole.
    """
    n = int(value.size)
    if n <= 4 * n_buckets:
        return np.arange(n)
    width = -(-n // n_buckets)
    table = np.full((-(-n // width), width), np.nan)
    table.ravel()[:n] = value
    good = np.isfinite(table)
    start = np.arange(table.shape[0]) * width
    lowest = np.where(good, table, np.inf).argmin(axis=1)
    highest = np.where(good, table, -np.inf).argmax(axis=1)
    picked = [(start + at)[good.any(axis=1)] for at in (*_ends(good), lowest, highest)]
    bad = ~good
    bad.ravel()[n:] = False  # what fills the last bucket up
    picked += [(start + at)[bad.any(axis=1)] for at in _ends(bad)]
    return np.unique(np.concatenate(picked))


def _ends(table: npt.NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
    """Return the places of the first and the last True of each row."""
    return table.argmax(axis=1), table.shape[1] - 1 - table[:, ::-1].argmax(axis=1)


def kept(step: IntArray, value: FloatArray, domain: Domain, allowance: int) -> Kept:
    """Return what a page holds of a curve, `step` and `value` (n,), in about `allowance` values.

    A curve that is longer is thinned, except for its suspicious segment. Of a segment too long for that, the values about the
    onset are all kept: a quarter of them before it.
    """
    n = int(value.size)
    if n <= max(allowance, 4 * BUCKETS):
        return Kept(np.arange(n), 1, (0, n))
    at, every = thinned(value), -(-n // BUCKETS)
    room = allowance - 4 * BUCKETS
    if domain.segment is None or room <= 0:
        return Kept(at, every, (0, 0))
    start, stop = domain.segment
    inside = np.flatnonzero((step >= start) & (step < stop))
    if not inside.size:
        return Kept(at, every, (0, 0))
    first, last = int(inside[0]), int(inside[-1]) + 1
    if last - first > room:
        onset = int(np.argmax(step >= (start if domain.onset is None else domain.onset)))
        first = max(first, min(onset - room // 4, last - room))
        last = first + room
    return Kept(np.union1d(at, np.arange(first, last)), every, (first, last))


def _stroke(colour: str, dashes: str, width: float, round_ends: bool) -> dict[str, object]:
    return {"colour": colour, "dash": [float(d) for d in dashes.split()], "width": width, "round": round_ends}


def _figure(figure: Figure, allowance: int, columns: Columns) -> dict[str, object]:
    panel = figure.panel
    scale = panel.scale
    return {
        "key": figure.key,
        "name": figure.name,
        "unit": panel.unit,
        "scale": {"log": scale.log, "low": scale.low, "high": scale.high, "flat": scale.flat, "blank": scale.blank},
        "limits": [{"value": one.value, "name": one.name, "crossed": one.crossed} for one in panel.limits],
        "bands": [{"low": band.low, "high": band.high, "kind": band.kind} for band in panel.bands],
        "end": panel.end,
        "lines": [{"label": _label(figure, line), **_line(line, panel.domain, allowance, columns)} for line in panel.lines],
    }


def _label(figure: Figure, line: Line) -> str:
    """Return what a column of numbers is called where the figure gives its line no name."""
    if line.name:
        return line.name
    return {"observed": figure.name, "counterfactual": "with the first fix"}.get(line.role, line.role)


def _line(line: Line, domain: Domain, allowance: int, columns: Columns) -> dict[str, object]:
    step, value, low, high = line.step, line.value, line.low, line.high
    if int((np.diff(step) < 0).sum()) > MOST_RESTARTS:
        order = np.argsort(step, kind="stable")
        step, value = step[order], value[order]
        low, high = (None if bound is None else bound[order] for bound in (low, high))
    at, every, (first, last) = kept(step, value, domain, allowance)
    rough = (at < first) | (at >= last)
    return {
        "role": line.role,
        "name": line.name,
        "labelled": bool(line.name) and line.labelled,
        "dash": [float(d) for d in line.dashes.split()] or None,
        "band": line.band,
        "n": int(value.size),
        "every": every,
        "whole": [int(step[first]), int(step[last - 1])] if first < last else None,
        "not_positive": int((value <= 0).sum()),
        "step": columns.steps(step[at]),
        "value": columns.values(value[at], rough),
        **({} if low is None else {"low": columns.values(low[at], np.ones(at.size, bool))}),
        **({} if high is None else {"high": columns.values(high[at], np.ones(at.size, bool))}),
    }
