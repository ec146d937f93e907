"""Calls of `log`, a step and named JSON values each -> a log: which column counts, and what is no number.

W&B and Trackio keep what was logged in this form: the values of a call are a row, nested values have dotted tags.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.errors import UnreadableInputError
from traindoctor.model import QUANTILES, Damage, Histogram, Series
from traindoctor.readers.log import Log
from traindoctor.readers.table import CLOCKS, COLUMNS, EPOCH_COLUMNS, ROW, STEP_COLUMNS, check_steps, count_times
from traindoctor.readers.tags import words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from traindoctor.model import FloatArray, IntArray, StepUnit
    from traindoctor.readers.log import Hints

#: What the tracker adds to every row: its own count of the steps, seconds since the epoch, seconds since the start.
STEP, TIME, RUNTIME = "_step", "_timestamp", "_runtime"
OWN = frozenset({STEP, TIME, RUNTIME})
#: How JSON writes what is not finite, and how a tracker does that keeps to JSON's rules.
NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
#: Tags beyond these are left out; levels of nesting; tags that are named in one message.
MOST_TAGS, DEEPEST, NAMED = 100_000, 16, 8
#: Numbers that an image, or other media, has at most.
MOST_INSIDE = 64
#: Lengths of the beginnings by which `define_metric` names tags that are looked up.
MOST_LENGTHS = 100
#: Share of the rows that a column has to fill to count the steps instead of the tracker's own count.
MOSTLY = 0.9
NO_STEP = -(2**63)
LARGEST_STEP = 2**62


@dataclass(slots=True)
class Column:
    """The numbers of one tag, and the rows they stand in."""

    row: array[int] = field(default_factory=lambda: array("q"))
    value: array[float] = field(default_factory=lambda: array("d"))

    def put(self, row: int, number: float) -> None:
        """Set the number of a row; rows come in order, and the last number of a row counts."""
        if self.row and self.row[-1] == row:
            self.value[-1] = number
        else:
            self.row.append(row)
            self.value.append(number)

    def drop(self, row: int) -> None:
        """Take back the number of the last row."""
        if self.row and self.row[-1] == row:
            self.row.pop()
            self.value.pop()

    def arrays(self) -> tuple[IntArray, FloatArray]:
        """Return rows and values, (n,) each."""
        return np.array(self.row, dtype=np.int64), np.array(self.value, dtype=np.float64)


@dataclass(slots=True)
class Calls:
    """What was logged in the calls of one run. `step`: the tracker's own count of each row, or NO_STEP.

    `counted_by`: tag, or the beginning of tags with a "*" -> the tag that counts its steps.
    """

    columns: dict[str, Column] = field(default_factory=dict)
    step: array[int] = field(default_factory=lambda: array("q"))
    counted_by: dict[str, str] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)
    name: str = ""
    begun: float = math.nan
    starts: list[int] = field(default_factory=list)
    _below: dict[str, list[Column]] = field(default_factory=dict)
    _histograms: dict[str, list[tuple[int, float, FloatArray]]] = field(default_factory=dict)
    _left_out: dict[tuple[str, str], int] = field(default_factory=dict)
    _unreadable: dict[str, int] = field(default_factory=dict)
    _too_many: set[str] = field(default_factory=set)

    def add_row(self, step: int | None) -> int:
        """Begin a row and return its number."""
        self.step.append(step if step is not None and abs(step) < LARGEST_STEP else NO_STEP)
        return len(self.step) - 1

    def column(self, tag: str) -> Column | None:
        """Return the column of a tag; None when there are too many tags."""
        column = self.columns.get(tag)
        if column is None:
            if len(self.columns) >= MOST_TAGS and tag not in OWN:
                if len(self._too_many) < MOST_TAGS:
                    self._too_many.add(tag)
                return None
            column = self.columns[tag] = Column()
            dot = tag.rfind(".")
            for _ in range(DEEPEST):
                if dot <= 0:
                    break
                below = self._below.setdefault(tag[:dot], [])
                if len(below) < MOST_INSIDE:
                    below.append(column)
                dot = tag.rfind(".", 0, dot)
        return column

    def add_unreadable(self, tag: str) -> None:
        """Count a value that is no JSON."""
        tag = tag if tag in self._unreadable or len(self._unreadable) < MOST_TAGS else "other tags"
        self._unreadable[tag] = self._unreadable.get(tag, 0) + 1

    def add_values(self, row: int, values: Mapping[str, object]) -> None:
        """Sort the values of the last row: numbers and histograms are kept, other media, words and lists counted."""
        flat: dict[str, object] = {}
        for tag, value in values.items():
            _flatten(tag, value, 0, flat)
        media = {
            tag.removesuffix("._type"): kind for tag, kind in flat.items() if tag.endswith("._type") and isinstance(kind, str)
        }
        for tag, value in flat.items():
            column = self.column(tag) if isinstance(value, float) else None
            if column is not None and isinstance(value, float):
                column.put(row, value)
        for tag, kind in media.items():
            for column in self._below.get(tag, ()):  # the width of an image is no series
                column.drop(row)
            is_histogram = kind.rpartition(".")[2] == "histogram"
            found = measure_histogram(flat.get(f"{tag}.values"), flat.get(f"{tag}.bins")) if is_histogram else None
            if found is not None and (tag in self._histograms or len(self._histograms) < MOST_TAGS):
                self._histograms.setdefault(tag, []).append((row, *found))
            else:
                self._leave_out(kind, tag)
        for tag, value in flat.items():
            if value is not None and not isinstance(value, float) and not _is_inside(tag, media):
                self._leave_out("text" if isinstance(value, str) else "list", tag)

    def _leave_out(self, kind: str, tag: str) -> None:
        key = (kind[:40], tag) if len(self._left_out) < MOST_TAGS else ("values", "of other tags")
        self._left_out[key] = self._left_out.get(key, 0) + 1

    def log(self, format_name: str, file: str, hints: Hints, damages: Sequence[Damage] = ()) -> Log:
        """Return the log of the run. `damages`: what was lost before.

        Raises: UnreadableInputError when `hints` names no column.
        """
        found = list(damages)
        own = self._own_steps(file, found)
        step, unit, source = self._count_steps(file, hints, own, found)
        wall = np.full(own.size, np.nan)
        if TIME in self.columns:
            row, value = self.columns[TIME].arrays()
            wall[row] = value
        series = []
        for tag, column in self.columns.items():
            if tag in OWN or tag == source or not column.row:
                continue
            row, value = column.arrays()
            series.append(Series("", tag, step[row], value, wall[row], file))
        histograms = []
        for tag, entries in self._histograms.items():
            row, count = np.array([entry[0] for entry in entries]), np.array([entry[1] for entry in entries])
            quantile, unknown = np.array([entry[2] for entry in entries]), np.full(row.size, np.nan)
            histograms.append(Histogram(tag, step[row], wall[row], count, unknown, unknown, quantile, file))
        back, doubtful = check_steps(file, [s.step for s in series if _spelling(s.tag) not in CLOCKS])
        known = math.isfinite(self.begun) or not own.size
        return Log(
            format_name,
            tuple(series),
            step_unit=unit,
            step_source=source,
            damages=(*found, *self._name_what_is_left_out(file), *doubtful),
            goes_back=back,
            starts=tuple(self.starts),
            histograms=tuple(histograms),
            settings=self.settings,
            name=self.name,
            begun=self.begun if known else float(wall[0]),
        )

    def _own_steps(self, file: str, damages: list[Damage]) -> IntArray:
        """Return the tracker's own count, (n,) int64; where it is missing, it counts on from the row before."""
        step: IntArray = np.array(self.step, dtype=np.int64)
        if STEP in self.columns:
            row, value = self.columns[STEP].arrays()
            usable = np.abs(value) < LARGEST_STEP  # False for NaN
            step[row[usable]] = value[usable].astype(np.int64)
        missing = np.flatnonzero(step == NO_STEP)
        for i in missing.tolist():
            step[i] = step[i - 1] + 1 if i else 0
        if missing.size:
            what = f"{count_times(missing.size, 'row')} without {STEP}: counted on from the row before"
            damages.append(Damage("no-step", file, what))
        return step

    def _count_steps(self, file: str, hints: Hints, own: IntArray, damages: list[Damage]) -> tuple[IntArray, StepUnit, str]:
        """Return the step of each row, its unit, and the column it is from."""
        asked = hints.step_column
        if asked == ROW and ROW not in self.columns:
            return np.arange(own.size, dtype=np.int64), "row", ROW
        if asked is not None and asked not in self.columns and asked != STEP:
            named = ", ".join(tag for tag in self.columns if tag not in OWN)
            raise UnreadableInputError(file, f"there is no column {asked!r} to count steps by", COLUMNS + named)
        counter = asked or self._counter(own)
        if counter == STEP:
            return own, "step", STEP
        unit: StepUnit = "epoch" if _spelling(counter) in EPOCH_COLUMNS else "step"
        row, value = self.columns[counter].arrays()
        usable = np.abs(value) < LARGEST_STEP
        row, value = row[usable], value[usable]
        if not value.size or (value != np.round(value)).any():
            what = f"column {counter} holds no whole numbers: steps are counted by {STEP}"
            damages.append(Damage("fractional-steps", file, what))
            return own, "step", STEP
        if row.size < own.size:
            what = f"{count_times(own.size - row.size, 'row')} without {counter}: put at the one before"
            damages.append(Damage("no-step", file, what))
        last = np.maximum(np.searchsorted(row, np.arange(own.size), side="right") - 1, 0)
        return value.astype(np.int64)[last], unit, counter

    def _counter(self, own: IntArray) -> str:
        """Return the column that counts the steps: what the run says, else the tracker's own count, or one spelled so.

        What the run says counts when at least half of its tags follow it. The tracker counts calls where the script
        gives no step; only then may a column that is spelled like a step be better.
        """
        tags = [tag for tag, column in self.columns.items() if tag not in OWN and column.row]
        lengths = sorted({len(name) - 1 for name in self.counted_by if name.endswith("*")})[:MOST_LENGTHS][::-1]
        votes: dict[str, int] = {}
        for tag in tags:
            counter = self._defined_counter(tag, lengths)
            if counter in self.columns and counter != tag:
                votes[counter] = votes.get(counter, 0) + 1
        others = sum(tag not in votes for tag in tags)
        defined = [counter for counter, count in sorted(votes.items(), key=lambda vote: -vote[1]) if 2 * count >= others]
        by_calls = own.size > 1 and bool((np.diff(own) == 1).all())
        spelled = {_spelling(tag): tag for tag in reversed(tags)} if by_calls else {}
        for counter in [*defined, *(spelled[name] for name in STEP_COLUMNS if name in spelled)]:
            value = self.columns[counter].arrays()[1]
            if _counts(value, strictly=_spelling(counter) in EPOCH_COLUMNS) and (
                counter in defined or value.size >= MOSTLY * own.size
            ):
                return counter
        return STEP

    def _defined_counter(self, tag: str, lengths: Sequence[int]) -> str:
        """Return what the run names as the step of a tag: by the tag, else by its longest beginning; "" for nothing."""
        if tag in self.counted_by:
            return self.counted_by[tag]
        beginnings = (f"{tag[:length]}*" for length in lengths)
        return next((self.counted_by[begin] for begin in beginnings if begin in self.counted_by), "")

    def _name_what_is_left_out(self, file: str) -> list[Damage]:
        damages = []
        if self._left_out:
            named = [f"{kind} {tag} ({count_times(count, 'time')})" for (kind, tag), count in self._left_out.items()]
            damages.append(Damage("left-out", file, f"left out: {_listed(named)}"))
        if self._unreadable:
            named = [f"{tag} ({count_times(count, 'time')})" for tag, count in self._unreadable.items()]
            damages.append(Damage("unreadable-cell", file, f"no JSON, left out: {_listed(named)}"))
        if self._too_many:
            what = f"more than {MOST_TAGS:,} tags: {len(self._too_many):,} or more are left out, among them {min(self._too_many)}"
            damages.append(Damage("too-many-tags", file, what))
        return damages


def as_number(value: object) -> float | None:
    """Return the number that a JSON value is, truth values as 0 and 1; None for every other value."""
    if isinstance(value, float):
        return value
    if isinstance(value, bool):
        return float(value)
    return NOT_FINITE.get(value) if isinstance(value, str) else None


def measure_histogram(counts: object, edges: object) -> tuple[float, FloatArray] | None:
    """Return the number of values of a histogram and its quantiles, (len(QUANTILES),); None when it is none.

    `counts`: n numbers. `edges`: n + 1 numbers that do not fall.
    """
    if not isinstance(counts, list) or not isinstance(edges, list) or not counts or len(edges) != len(counts) + 1:
        return None
    if not all(isinstance(number, float) and math.isfinite(number) for number in (*counts, *edges)):
        return None
    reached = [0.0, *accumulate(counts)]
    total = reached[-1]
    if min(counts) < 0 or not 0 < total < math.inf or any(after < before for before, after in pairwise(edges)):
        return None
    first = next(i for i, count in enumerate(counts) if count > 0)
    found = []
    for share in QUANTILES:
        i = max(bisect_left(reached, share * total) - 1, first)
        inside = min((share * total - reached[i]) / counts[i], 1.0)
        found.append(edges[i] * (1.0 - inside) + edges[i + 1] * inside)
    return total, np.array(found)


def _flatten(tag: str, value: object, depth: int, flat: dict[str, object]) -> None:
    if not isinstance(value, dict) or depth >= DEEPEST:
        number = as_number(value)
        flat[tag] = value if number is None else number
        return
    for name, inner in value.items():
        _flatten(f"{tag}.{name}", inner, depth + 1, flat)


def _is_inside(tag: str, media: Mapping[str, str]) -> bool:
    """Whether a tag is a part of media."""
    dot = tag.rfind(".")
    for _ in range(DEEPEST):
        if dot <= 0:
            break
        if tag[:dot] in media:
            return True
        dot = tag.rfind(".", 0, dot)
    return False


def _counts(value: FloatArray, *, strictly: bool) -> bool:
    """Whether numbers are whole, never fall, and do not stand still; rise each time, where `strictly`."""
    move = np.diff(value)
    whole: NDArray[np.bool_] = np.isfinite(value) & (value == np.round(value))
    if not value.size or not whole.all() or (move < 0).any():
        return False
    return bool((move > 0).all() if strictly else value.size == 1 or move.any())


def _spelling(tag: str) -> str:
    return "_".join(words(tag))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
