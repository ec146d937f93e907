"""Text logs, what a training script prints -> logs: Megatron-LM, DeepSpeed, fairseq, nanoGPT, Keras, tqdm, own prints ...

There is no list of frameworks. A number is named by the words before it ("lm loss: 9.1", "loss=9.1", "gnorm 1.2"), and lines
that count ("iteration 100/5000", "Epoch: [1][ 50/469]") and name a number, again and again, are the lines of metrics. Code,
settings and prose have no such shape that comes again with a count that rises.

Terminal control is undone first: colours go, and of a line that was drawn over itself with carriage returns the last state
counts; of a tqdm bar every state does, because each holds the values of another step. Values are what `float` makes of the
printed text. A time without a zone is UTC; a line without a time has that of the line before it.
"""

from __future__ import annotations

import ast
import json
import re
from calendar import timegm
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage
from traindoctor.readers.log import NO_HINTS, Hints, Log
from traindoctor.readers.table import ROW, STEP_COLUMNS, WALL_TIMES, Table, logs_of
from traindoctor.readers.tags import quantity_of, spellings, words
from traindoctor.readers.text_dialects import HELD_OUT, INFINITY, NAN, NUMBER, Shape, is_known, shape_of, with_nans

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from traindoctor.model import FloatArray, IntArray, StepUnit

FORMAT = "text"
#: How the refusal of a text without metrics begins.
NO_METRICS = "no line of metrics found"
#: Words of what a training without a known quantity prints; other lines that count belong to other programs.
SCORES = frozenset(
    spellings(
        "reward rewards return returns score scores error err ppl perplexity psnr ssim fid map f1 auc iou miou dice wer cer bleu "
        "rouge elbo kl mae mse rmse nll entropy value epsilon fps throughput tokens mfu"
    )
)
#: Lines an epoch, on average, above which an epoch is no count for them.
LINES_AN_EPOCH = 5
#: A line of metrics comes at least so often, unless it names a known quantity beside lines that do.
RECURS = 3
#: The most lines of a block that a count stands above.
LONGEST_BLOCK = 40
#: Bytes that are decoded at a time.
BLOCK = 4 * 2**20
#: The longest line that is looked at, in characters, and the most numbers in it.
LONGEST_LINE, MOST_NUMBERS = 65_536, 1_000
#: The most shapes of lines that are told apart, and the most rows kept as text before they become numbers.
MOST_SHAPES, MOST_PENDING = 20_000, 50_000
#: The most tags, and the most cells of the table that the lines make up.
MOST_TAGS, MOST_CELLS = 1_000, 15 * 10**7
#: Bytes at the start of a log in which settings are looked for.
PREAMBLE = 2**20
#: How deep settings may be nested.
DEEPEST = 50
#: Counts that start again in each epoch unless something says otherwise; "" for an "n/m" without a name.
WITHIN_EPOCHS = ("", "batch", "batch_idx", "batch_id", "minibatch")
LOG_NAMES = (".log", ".out", ".err", ".txt", ".stdout", ".stderr")
#: Names of documents and sources: a sample of a log in one is no log.
NO_LOGS = spellings(
    ".md .rst .py .ipynb .html .htm .tex .json .jsonl .ndjson .yaml .yml .toml .cfg .ini .csv .tsv .xml .sh .c .cc .cpp .cu .h "
    ".js .ts"
)
#: What a value with a unit is multiplied by where a tag comes with several of them.
FACTORS = {
    "": 1.0, "K": 1e3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "us/step": 1e-6, "ms/step": 1e-3, "s/step": 1.0,
    "B": 1.0, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40,
}  # fmt: skip

_ANSI = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,512}(?:\x07|\x1b\\)|[@-Z\\-_])")
_OVERDRAWN = re.compile("[\r\b]+")
_BAR = re.compile(r"%\|[^|\n]{0,400}\|")
_KERAS_BAR = re.compile(r"\[[=>.]{3,}\]|[━╸╺╍]{2,}[━╸╺╍ ]*")
_CLOCK_TIME = re.compile(r"(\d{1,2}):(\d\d)(?::(\d\d(?:[.,]\d{1,9})?))?")
_CAPITALS = re.compile(r"INF(?![A-Za-z])")
_ISO = re.compile(r"T(?=[0-2]\d:\d\d)(?<=\d\d-\d\dT)")
#: What may be left of a number at the end of a file that was cut off.
_CUT_NUMBER = re.compile(r"(?:[eE][-+]?|[,:])?")
_CONTROL = {0: None, 1: None, 2: None}
#: The column of wall times: the table knows it by this name, and no log of ours keeps it.
_CLOCK = WALL_TIMES[0]
_LOSS, _TRAINING = re.compile(rb"(?i)\bloss"), re.compile(rb"\b(?:optimizer|backward\(|epochs?|learning_rate|torch|jax)\b")
_DOTTED = re.compile(r"^\s*([\w.\-]+) ?\.{3,} ?(\S.*)$")
_PAIR = re.compile(r"^\s*['\"]?([A-Za-z_][\w.\-/]*)['\"]?\s*[:=]\s*(\S.*?)\s*,?\s*$")
_CODE = re.compile(r"(?m)^\s*(?:import \w|from [\w.]+ import |def \w+\(|class \w+|return\b|for \w+ in |#include)")
_PREFIX = re.compile(r"^(?:\[[^\]]{0,80}\]\s*){1,4}(?:\w+: ?)?")


def looks_like_text(head: bytes, name: str) -> bool:
    """Whether a file that begins with `head` (64 KiB) is a text log: lines of metrics are there, or may come later.

    They may where the head is full and a log by its name: some logs begin with the whole training script.
    """
    lower = name.lower()
    if lower.endswith(NO_LOGS) or not _is_text(head) or _is_other(head):
        return False
    named = lower.endswith(LOG_NAMES)
    full = len(head) >= 65_536
    cut = head[: head.rfind(b"\n") + 1] if full and b"\n" in head else head
    lines = _Lines()
    lines.read(cut)
    chosen = _choose(lines, strict=True)
    rows = sum(one.n for one in chosen)
    tags = [tag for one in chosen for tag, _, _ in one.shape.tags]
    known = any(is_known(tag) for tag in tags)
    scored = named and any(SCORES & set(words(tag)) for tag in tags)
    if (rows >= RECURS and (known or scored)) or (named and known and rows >= RECURS - 1):
        return True
    if not (named and full and _LOSS.search(head)):
        return False
    return not lower.endswith(".txt") or _TRAINING.search(head) is not None


def read_text(data: bytes, file: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:
    """Return the logs that the lines of a text log make up; `file` is how messages name it.

    Raises: UnreadableInputError when no line holds metrics.
    """
    if not data.strip(b"\0 \t\r\n\xef\xbb\xbf"):
        return (Log(FORMAT, (), damages=(Damage("empty-file", file, "the file holds nothing", 0),)),)
    lines = _Lines()
    lines.read(_as_utf8(data))
    chosen = _choose(lines, strict=False)
    if not chosen:
        raise UnreadableInputError(
            file,
            f"{NO_METRICS}: none names a count (step, iteration, epoch) and a number again and again",
            'print lines like "step 100 loss 2.31 lr 1e-4"',
            "give the log that the framework wrote itself (event file, CSV, JSON lines)",
        )
    damages = list(lines.damages(file))
    axis = _axis(lines, chosen, hints.step_column)
    damages.extend(Damage(kind, file, detail) for kind, detail in axis.notes)
    table, lost = _table(chosen, axis, tuple(damages))
    damages.extend(Damage("too-many-tags", file, detail) for detail in lost)
    told = replace(hints, step_column=axis.column)
    logs = logs_of(replace(table, damages=tuple(damages)), file, FORMAT, told)
    settings = _settings(data[:PREAMBLE], min(int(one.line[0]) for one in chosen))
    return tuple(_finish(log, settings) for log in logs)


def _finish(log: Log, settings: Mapping[str, object]) -> Log:
    """Return the log without the column of wall times, which every series holds, and with its settings."""
    series = tuple(s for s in log.series if s.tag != _CLOCK)
    times = [s.wall_time[np.isfinite(s.wall_time)] for s in series]
    begun = min((float(t.min()) for t in times if t.size), default=float("nan"))
    return replace(log, series=series, settings=settings, begun=begun)


# -- lines ------------------------------------------------------------------------------------------------------------


class _Rows:
    """The lines of one shape: their numbers, as text first, then by position."""

    __slots__ = ("_columns", "_lines", "_orders", "first", "kept", "line", "n", "order", "pending", "places", "shape", "wall")

    def __init__(self, shape: Shape, first: int) -> None:
        self.shape = shape
        self.first = first
        wanted = {position for _, position, _ in shape.tags}
        wanted |= {shape.step, shape.step_total, shape.place, shape.total, shape.epoch, shape.rank} - {-1}
        self.kept = sorted(wanted)
        self.n = 0
        self.pending: list[list[str]] = []
        self.places: list[tuple[int, int]] = []
        self._columns: dict[int, list[FloatArray]] = {position: [] for position in self.kept}
        self._orders: list[IntArray] = []
        self._lines: list[IntArray] = []
        self.wall: list[FloatArray] = []
        self.order: IntArray = np.zeros(0, dtype=np.int64)
        self.line: IntArray = self.order

    def flush(self) -> None:
        """Make numbers of the text that waits."""
        if not self.pending:
            return
        for position in self.kept:
            column = 2 * position + 1
            self._columns[position].append(_floats([parts[column] for parts in self.pending]))
        if self.shape.dates:
            year, month, day, clock = (2 * position + 1 for position in self.shape.dates)
            wall = [_wall_time(parts[year], parts[month], parts[day], parts[clock]) for parts in self.pending]
            self.wall.append(np.array(wall))
        places = np.array(self.places, dtype=np.int64)
        self._orders.append(places[:, 0])
        self._lines.append(places[:, 1])
        self.pending.clear()
        self.places.clear()

    def close(self) -> None:
        """Put the pieces together."""
        self.flush()
        self.order, self.line = np.concatenate(self._orders), np.concatenate(self._lines)

    def column(self, position: int) -> FloatArray:
        """Return the numbers at a position, NaN throughout for -1."""
        if position < 0:
            return np.full(self.n, np.nan)
        pieces = self._columns[position]
        if len(pieces) > 1:
            self._columns[position] = pieces = [np.concatenate(pieces)]
        return pieces[0]

    def times(self) -> FloatArray:
        """Return the wall times, NaN where the lines have none."""
        return np.concatenate(self.wall) if self.wall else np.full(self.n, np.nan)


class _Lines:
    """All lines of a log that hold numbers, by shape."""

    def __init__(self) -> None:
        self.shapes: dict[tuple[str, ...], _Rows | None] = {}
        self._line = self._order = self._waiting = 0
        self._skipping = self._redrawn = self._full = False
        self._long: list[int] = []
        self._many: list[int] = []
        self._cut = 0

    def read(self, data: bytes) -> None:
        """Take in the lines of a log in UTF-8."""
        start, size = 0, len(data)
        while start < size:
            stop = min(start + BLOCK, size)
            if stop < size:
                end = data.rfind(b"\n", start, stop)
                end = end if end >= 0 else data.rfind(b"\r", start, stop)
                stop = end + 1 if end >= 0 else stop
            self._read_block(data[start:stop], last=stop == size)
            start = stop
        for rows in self.shapes.values():
            if rows is not None:
                rows.close()

    def _read_block(self, raw: bytes, *, last: bool) -> None:
        if b"\x1b" in raw:
            raw = _ANSI.sub(b"", raw)
        if b"\r" in raw:
            raw = raw.replace(b"\r\n", b"\n")
        text = raw.decode("utf-8", "replace")
        if "\0" in text or NAN in text or INFINITY in text:
            text = text.translate(_CONTROL)
        if "%|" in text:
            text = _BAR.sub("%||", text)
        if "[=" in text or "[>" in text or "━" in text:
            text = _KERAS_BAR.sub("[]", text)
        if "T0" in text or "T1" in text or "T2" in text:
            text = _ISO.sub(" ", text)
        ended = text.endswith("\n")
        lines = text.split("\n")
        if ended:
            lines.pop()
        not_finite = [word for word in ("nan", "NaN", "NAN", "inf", "Inf") if word in text]
        if _CAPITALS.search(text):
            not_finite.append("INF")
        has_redrawn = "\r" in text or "\b" in text
        final = len(lines) - 1
        for i, line in enumerate(lines):
            if i or not (self._skipping or self._redrawn):
                self._line += 1
            elif self._skipping:
                continue
            if has_redrawn and ("\r" in line or "\b" in line):
                states = [state for state in _OVERDRAWN.split(line) if state and not state.isspace()]
                open_end = i == final and not ended and not last
                for state in states if open_end else states[:-1]:
                    if "it/s" in state or "s/it" in state:
                        self._take(state, not_finite)
                if not states or open_end:
                    continue
                line = states[-1]
            self._take(line, not_finite, cut=last and i == final and not ended)
        self._skipping = not ended and not last and not text.endswith("\r")
        self._redrawn = not ended and not last and text.endswith("\r")

    def _take(self, line: str, not_finite: Sequence[str], cut: bool = False) -> None:
        """Take in one line as it was last seen on the screen."""
        if len(line) > LONGEST_LINE:
            self._long.append(self._line)
            line = line[:LONGEST_LINE]
        for word in not_finite:
            if word in line:
                line = with_nans(line)
                break
        parts = NUMBER.split(line)
        if len(parts) == 1:
            return
        if cut:
            parts = self._sure_part(parts)
            if len(parts) == 1:
                return
        if len(parts) > 2 * MOST_NUMBERS:
            self._long.append(self._line)
            parts = parts[: 2 * MOST_NUMBERS + 1]
        key = tuple(parts[::2])
        try:
            rows = self.shapes[key]
        except KeyError:
            if len(self.shapes) >= MOST_SHAPES and not self._make_room():
                self._many.append(self._line)
                return
            shape = shape_of(parts[::2], parts[1::2])
            rows = self.shapes[key] = _Rows(shape, self._line) if shape.tags or shape.counts or shape.is_overflow else None
        if rows is None:
            return
        rows.pending.append(parts)
        rows.places.append((self._order, self._line))
        rows.n += 1
        self._order += 1
        self._waiting += 1
        if self._waiting >= MOST_PENDING:
            for each in self.shapes.values():
                if each is not None:
                    each.flush()
            self._waiting = 0

    def _make_room(self) -> bool:
        """Whether half of the shapes can go: those that name nothing, and those of a single line that does not count."""
        if self._full:
            return False
        kept = {key: rows for key, rows in self.shapes.items() if rows is not None and (rows.n > 1 or rows.shape.counts)}
        if len(kept) > MOST_SHAPES // 2:
            self._full = True
            return False
        gone = (rows for key, rows in self.shapes.items() if rows is not None and key not in kept)
        self._many.extend(rows.first for rows in gone)
        self.shapes = dict(kept)
        return True

    def _sure_part(self, parts: list[str]) -> list[str]:
        """Return what is sure of a last line without an end: all of it when a line of its shape had one before.

        Its last number is unsure where nothing comes after it; then a count there leaves nothing to place the others by.
        """
        whole = self.shapes.get(tuple(parts[::2]))
        if whole is None:
            self._cut = self._line
            return parts[:1]
        if not _CUT_NUMBER.fullmatch(parts[-1]):
            return parts
        self._cut = self._line
        shape, last = whole.shape, len(parts) // 2 - 1
        counts = (shape.step, shape.step_total, shape.place, shape.total, shape.epoch, shape.rank)
        return parts[:1] if last in counts else parts[:-2]

    def used(self) -> Iterator[_Rows]:
        """Yield the shapes that name or count something, in the order of their first lines."""
        yield from (rows for rows in self.shapes.values() if rows is not None)

    def damages(self, file: str) -> Iterator[Damage]:
        """Yield what was left out of the lines."""
        if self._long:
            what = f"is longer than {LONGEST_LINE:,} characters or {MOST_NUMBERS:,} numbers: the rest of it is left out"
            yield Damage("long-line", file, _at(self._long, what))
        if self._many:
            what = f"is left out: there are more than {MOST_SHAPES:,} shapes of lines, and its own comes once or came too late"
            yield Damage("too-many-shapes", file, _at(self._many, what))
        if self._cut:
            yield Damage("truncated", file, f"line {self._cut:,}, the last one, has no end: what may be cut off is left out")


def _at(lines: Sequence[int], what: str) -> str:
    more = f", and so {'is' if len(lines) == 2 else 'are'} {len(lines) - 1:,} more" if len(lines) > 1 else ""
    return f"line {lines[0]:,} {what}{more}"


def _as_utf8(data: bytes) -> bytes:
    """Return the bytes in UTF-8: PowerShell's `>` writes UTF-16."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace").encode("utf-8", "replace")
    return data.removeprefix(b"\xef\xbb\xbf")


def _floats(texts: Sequence[str]) -> FloatArray:
    try:
        return np.array(list(map(float, texts)))
    except ValueError:
        return np.array([_float(text) for text in texts])


def _float(text: str) -> float:
    """Return the number that a text spells: thousands may be set apart; a time of day is none."""
    try:
        return float(text.replace(",", "").replace(NAN, "nan").replace(INFINITY, "inf"))
    except ValueError:
        return float("nan")


def _wall_time(year: str, month: str, day: str, clock: str) -> float:
    """Return the seconds since 1970 of a date and a time of day in UTC, NaN for an impossible one."""
    match = _CLOCK_TIME.fullmatch(clock)
    months, days = int(month), int(day)
    if months > 12 >= days:
        months, days = days, months
    if match is None or not (1 <= months <= 12 and 1 <= days <= 31 and 1970 <= int(year) <= 9999):
        return float("nan")
    second = float((match[3] or "0").replace(",", "."))
    return timegm((int(year), months, days, int(match[1]), int(match[2]), 0)) + second


# -- which lines hold metrics -----------------------------------------------------------------------------------------


def _choose(lines: _Lines, *, strict: bool) -> list[_Rows]:
    """Return the shapes whose lines are lines of metrics; `strict`: only those that leave no doubt."""
    kinds: dict[tuple[frozenset[str], str, tuple[str, bool, bool]], list[_Rows]] = {}
    for rows in lines.used():
        shape = rows.shape
        if shape.tags:
            names = frozenset(tag for tag, _, _ in shape.tags)
            count = (shape.step_name.lower(), shape.place >= 0, shape.epoch >= 0)
            kinds.setdefault((names, shape.split, count), []).append(rows)
    certain: list[list[_Rows]] = []
    likely: list[list[_Rows]] = []
    bare: list[list[_Rows]] = []
    unknown: list[list[_Rows]] = []
    headed = _headed(lines)
    for (names, _, _), members in kinds.items():
        known = any(is_known(tag) for tag in names)
        if not members[0].shape.counts:
            seldom = sum(rows.n for rows in members) < RECURS and all(quantity_of(tag) == "learning_rate" for tag in names)
            (bare if known and not seldom else unknown).append(members)
        elif sum(rows.n for rows in members) >= RECURS and (headed or _moves(members)):
            certain.append(members)
        elif known:
            likely.append(members)
    if strict:
        certain += [members for members in likely if sum(rows.n for rows in members) >= RECURS - 1 and _moves(members)]
        if not certain and headed:
            certain += [members for members in bare if sum(rows.n for rows in members) >= RECURS]
        return [rows for members in certain for rows in members]
    chosen = [rows for members in certain or likely for rows in members]
    if not chosen:
        chosen = [rows for members in bare if sum(rows.n for rows in members) >= RECURS for rows in members]
    if not chosen:
        return []
    first = min(int(rows.line[0]) for rows in chosen)
    usual = {tag for rows in chosen for tag, _, _ in rows.shape.tags}
    for members in [*(likely if certain else []), *bare]:
        tags = [tag for tag, _, _ in members[0].shape.tags]
        alike = sum(tag in usual for tag in tags) > 0.5 * len(tags) > 1  # lines that lack some of the numbers
        if members[0] not in chosen and (alike or max(int(rows.line[-1]) for rows in members) >= first):
            chosen.extend(members)
    chosen.extend(_below(lines, chosen, [rows for members in unknown for rows in members if rows.n >= RECURS], first))
    chosen.extend(rows for rows in lines.used() if rows.shape.is_overflow and rows.shape.tags and rows not in chosen)
    return chosen


def _below(lines: _Lines, chosen: Sequence[_Rows], others: list[_Rows], first: int) -> list[_Rows]:
    """Return the shapes that stand right below lines of metrics or a count, in a block with a name and a number a line.

    `first`: the first line of metrics, a part of a block itself.
    """
    others = [rows for rows in others if int(rows.line[0]) >= first - LONGEST_BLOCK]
    counts = [rows for rows in lines.used() if not rows.shape.tags and rows.shape.counts and rows.n >= RECURS and _moves([rows])]
    above = np.concatenate([rows.line for rows in (*chosen, *counts)])
    found: list[_Rows] = []
    for _ in range(LONGEST_BLOCK):
        more = [rows for rows in others if np.isin(rows.line - 1, above).mean() >= 0.8]
        if not more:
            break
        found.extend(more)
        others = [rows for rows in others if rows not in more]
        above = np.concatenate([above, *(rows.line for rows in more)])
    return found


def _moves(members: Sequence[_Rows]) -> bool:
    """Whether a count of the lines takes more than one value."""
    for rows_of in ("step", "place", "epoch"):
        values = np.concatenate([rows.column(getattr(rows.shape, rows_of)) for rows in members])
        if np.unique(values[np.isfinite(values)]).size > 1:
            return True
    return False


def _headed(lines: _Lines) -> bool:
    """Whether lines count epochs or steps and say nothing else, as a header of what follows."""
    return any(not rows.shape.tags and rows.shape.counts and rows.n >= 2 and _moves([rows]) for rows in lines.used())


# -- steps ------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Axis:
    """Which step each chosen line is at. `order`: (n,) of the lines, sorted; `step`, `epoch`: (n,) float64, NaN for none.

    `keep`: False for a state of a bar that the next one replaced. `bars`: whether a line is a state of a bar, `edge`:
    one at its begin or end. `column`: name of the count, as the log spells it.
    """

    order: IntArray
    line: IntArray
    step: FloatArray
    epoch: FloatArray
    keep: NDArray[np.bool_]
    wall: FloatArray
    column: str
    unit: StepUnit
    epoch_name: str
    bars: NDArray[np.bool_]
    edge: NDArray[np.bool_]
    notes: list[tuple[str, str]] = field(default_factory=list)


def _axis(lines: _Lines, chosen: Sequence[_Rows], asked: str | None) -> _Axis:
    """Return the step of each chosen line: its own count; one within an epoch, put after those before; or the last seen."""
    heads = [rows for rows in lines.used() if not rows.shape.tags and rows.shape.counts and not rows.shape.is_held_out]
    every = [*chosen, *heads]
    order = np.concatenate([rows.order for rows in every])
    by = np.argsort(order)

    def joined(name: str) -> FloatArray:
        return np.concatenate([rows.column(getattr(rows.shape, name)) for rows in every])[by]

    def flags(values: Sequence[bool]) -> NDArray[np.bool_]:
        return np.repeat(np.array(values, dtype=bool), [rows.n for rows in every])[by]

    is_chosen = flags([i < len(chosen) for i in range(len(every))])
    held_out, bars = flags([rows.shape.is_held_out for rows in every]), flags([rows.shape.is_bar for rows in every])
    step, place, epoch = joined("step"), joined("place"), joined("epoch")
    line = np.concatenate([rows.line for rows in every])[by]
    names = np.concatenate([np.full(rows.n, i) for i, rows in enumerate(every)])[by]
    spelled = [rows.shape.step_name for rows in every]
    notes: list[tuple[str, str]] = []
    first_rank = _first_ranks(every, by)
    ambient_epoch = _carried(epoch)
    own = np.full(step.size, np.nan)
    counted: dict[str, int] = {}
    for name in dict.fromkeys(name.lower() for name in spelled if name):
        of_name = np.isin(names, [i for i, each in enumerate(spelled) if each.lower() == name]) & np.isfinite(step)
        total = joined("step_total")
        settled = of_name & is_chosen & ~held_out & first_rank
        within = _within_epochs(step[settled], total[settled], ambient_epoch[settled], name)
        if within is not None and asked is None:
            notes.append(_told_of_epochs(name))
            train = of_name & is_chosen & ~held_out
            own[train] = _global(step[train], total[train], ambient_epoch[train], within, first_rank[train])
        elif asked is None or asked.lower() == name:
            own[of_name] = step[of_name]
        counted[name] = int((of_name & is_chosen).sum())
    loose = np.isnan(own) & np.isfinite(place) & ~held_out & is_chosen
    if asked is None and loose.any():
        total = joined("total")
        settled = loose & first_rank
        within = _within_epochs(place[settled], total[settled], ambient_epoch[settled], "")
        if within is not None:
            notes.append(_told_of_epochs("n/m"))
            own[loose] = _global(place[loose], total[loose], ambient_epoch[loose], within, first_rank[loose])
        else:
            own[loose] = place[loose]
        counted["n/m"] = int(loose.sum())
    epoch_name = next((rows.shape.epoch_name for rows in every if "epoch" in rows.shape.epoch_name.lower()), "epoch")
    keep = is_chosen & ~_replaced(bars & is_chosen & ~held_out, place, epoch)
    column, unit, final = _pick_axis(own, is_chosen & ~held_out, ambient_epoch, epoch_name, counted, asked)
    if column != ROW and unit == "epoch" and asked is None:
        of_bars = _steps_of_bars(every, by, order[by], is_chosen)
        if of_bars is not None:
            column, unit, final = "step", "step", of_bars
    wall = _carried(np.concatenate([rows.times() for rows in every])[by])
    at = np.flatnonzero(is_chosen)
    return _Axis(
        order[by][at], line[at], final[at], epoch[at], keep[at], wall[at], column, cast("StepUnit", unit), epoch_name,
        bars[at], (place == 0)[at] | (place == joined("total"))[at], notes,
    )  # fmt: skip


def _told_of_epochs(name: str) -> tuple[str, str]:
    return "steps-of-epochs", f"the count {name} starts again in each epoch: the epochs are put one after the other"


def _first_ranks(every: Sequence[_Rows], by: IntArray) -> NDArray[np.bool_]:
    """Return (n,) bool: whether the line is of the first of the processes that print lines with its metrics."""
    lowest: dict[frozenset[str], float] = {}
    ranks = [_ranks(rows) for rows in every]
    names = [frozenset(tag for tag, _, _ in rows.shape.tags) for rows in every]
    for name, rank in zip(names, ranks, strict=True):
        lowest[name] = min(lowest.get(name, np.inf), float(rank.min()))
    return np.concatenate([rank == lowest[name] for name, rank in zip(names, ranks, strict=True)])[by]


def _carried(values: FloatArray) -> FloatArray:
    """Return the values with each NaN replaced by the last value before it, or the first one there is."""
    there = np.flatnonzero(np.isfinite(values))
    if not there.size:
        return values
    last = np.searchsorted(there, np.arange(values.size), side="right") - 1
    return values[there[np.maximum(last, 0)]]


def _within_epochs(count: FloatArray, total: FloatArray, epoch: FloatArray, name: str) -> FloatArray | None:
    """Return the epochs (n,) within which a count counts; None where it counts the whole run.

    It does where it starts again as the epoch moves on. Where the log names no epoch, one called "batch" or nothing does
    if it starts again after it came far; a "step" or "iteration" that starts again is another run.
    """
    if count.size < 2:
        return None
    before, after = count[:-1], count[1:]
    if np.isfinite(epoch).all():
        whole = np.floor(epoch)
        moved = np.diff(whole) > 0
        if moved.any():
            again = moved & (after <= before)
            return whole if again.sum() >= 0.5 * moved.sum() else None
    if not np.isfinite(total).all() or name not in WITHIN_EPOCHS:
        return None
    back = (after < 0.5 * before) if name else (after < before) | ((after == before) & (before == total[:-1]))
    if not back.any() or (before[back] < 0.5 * total[:-1][back]).any() or np.unique(total).size > 2:
        return None
    epochs: FloatArray = np.append(0.0, np.cumsum(back))
    return epochs


def _global(
    count: FloatArray, total: FloatArray, epoch: FloatArray, within: FloatArray, first_rank: NDArray[np.bool_]
) -> FloatArray:
    """Return the count since the start of the run of one within epochs."""
    epochs = np.full(count.size, np.nan)
    epochs[first_rank] = within
    epochs = _carried(epochs) if not np.isfinite(epoch).all() else np.floor(epoch)
    length = float(np.nanmax(total)) if np.isfinite(total).any() else float(count.max()) + float(count.min() == 0)
    with np.errstate(invalid="ignore", over="ignore"):  # a count of 1e999 is none, and is left out later
        since_start: FloatArray = (epochs - epochs.min()) * length + count
    return since_start


def _replaced(bars: NDArray[np.bool_], place: FloatArray, epoch: FloatArray) -> NDArray[np.bool_]:
    """Return (n,) bool: states of a bar that were drawn over by another one at the same place."""
    at = np.flatnonzero(bars)
    replaced = np.zeros(bars.size, dtype=bool)
    place, epoch = place[at], np.nan_to_num(epoch[at], nan=-1.0)
    replaced[at[:-1]] = (place[:-1] == place[1:]) & (epoch[:-1] == epoch[1:])
    return replaced


def _pick_axis(
    own: FloatArray, settles: NDArray[np.bool_], epoch: FloatArray, epoch_name: str, counted: Mapping[str, int], asked: str | None
) -> tuple[str, str, FloatArray]:
    """Return the name of the count, its unit, and the count (n,) of each line, carried on where a line has none."""
    if asked == ROW:
        return ROW, "row", np.arange(own.size, dtype=np.float64)
    if asked is not None and asked.lower() not in counted and asked.lower() != epoch_name.lower():
        return asked, "step", np.full(own.size, np.nan)
    if asked is None or asked.lower() in counted:
        if np.isfinite(own[settles]).any():
            carried = _carried(np.where(settles, own, np.nan))
            best = max(counted, key=lambda name: (counted[name], -_place_of(name))) if counted else "step"
            column = asked or ("step" if best == "n/m" else best)
            return column, "step", np.where(np.isfinite(own), own, carried)
        if np.isfinite(own).any():
            return asked or max(counted, key=lambda name: counted[name]), "step", np.where(np.isfinite(own), own, _carried(own))
    known = epoch[settles & np.isfinite(epoch)]
    crowded = asked is None and known.size > LINES_AN_EPOCH * np.unique(known).size
    if np.isfinite(epoch).any() and not crowded:
        return epoch_name, "epoch", epoch
    return ROW, "row", np.arange(own.size, dtype=np.float64)


def _place_of(name: str) -> int:
    spelled = "_".join(words(name))
    return STEP_COLUMNS.index(spelled) if spelled in STEP_COLUMNS else len(STEP_COLUMNS)


def _steps_of_bars(every: Sequence[_Rows], by: IntArray, order: IntArray, is_chosen: NDArray[np.bool_]) -> FloatArray | None:
    """Return the steps of lines between which a bar counts the run, as the Trainer of Hugging Face prints them.

    The bar is drawn again right after a line, with the exact count; else the last one before it holds.
    """
    total = np.concatenate([rows.column(rows.shape.total) for rows in every])[by]
    place = np.concatenate([rows.column(rows.shape.place) for rows in every])[by]
    plain = np.repeat([rows.shape.plain_bar and not rows.shape.tags for rows in every], [rows.n for rows in every])[by]
    if not plain.any():
        return None
    run = np.flatnonzero(plain & (total == np.nanmax(np.where(plain, total, np.nan))))
    lines = np.flatnonzero(is_chosen)
    if np.unique(place[run]).size < 2:
        return None
    following = np.searchsorted(run, lines)
    final = np.full(order.size, np.nan)
    for at, k in zip(lines.tolist(), following.tolist(), strict=True):
        if k < run.size and order[run[k]] == order[at] + 1:
            final[at] = place[run[k]]
        else:
            final[at] = place[run[max(k - 1, 0)]]
    return final


# -- tables -----------------------------------------------------------------------------------------------------------


def _table(chosen: Sequence[_Rows], axis: _Axis, damages: tuple[Damage, ...]) -> tuple[Table, list[str]]:
    """Return the chosen lines as a table in the order of the file, and what was too much for it."""
    n = axis.order.size
    cells: dict[str, list[tuple[IntArray, FloatArray]]] = {}
    tags = _tags(chosen)
    factors = _factors(chosen)
    overflow: list[IntArray] = []
    speaker: dict[str, float] = {}
    for k, rows in enumerate(chosen):
        lowest = float(_ranks(rows).min())
        for tag, _, _ in rows.shape.tags:
            speaker[tags[k, tag]] = min(lowest, speaker.get(tags[k, tag], lowest))
    for k, rows in enumerate(chosen):
        at = np.searchsorted(axis.order, rows.order)
        rank = _ranks(rows)
        if rows.shape.is_overflow:
            overflow.append(at[rank == np.nanmin(rank)])
        for tag, position, unit in rows.shape.tags:
            value = rows.column(position)
            if tag in factors:
                value = value * FACTORS[unit]
            name = tags[k, tag]
            for one in np.unique(rank).tolist():
                mine = rank == one
                called = name if one == speaker[name] else f"{name} (rank {one:g})"
                cells.setdefault(called, []).append((at[mine], value[mine]))
    if overflow:
        places = np.sort(np.concatenate(overflow))
        steps, first, count = np.unique(axis.step[places], return_index=True, return_counts=True)
        cells["overflow"] = [(places[first], count.astype(np.float64))] if steps.size else []
    lost = []
    most = min(max(MOST_CELLS // max(n, 1), 8), MOST_TAGS)
    if len(cells) > most:
        ranked = sorted(cells, key=lambda name: -sum(at.size for at, _ in cells[name]))
        lost.append(f"{len(cells) - most:,} tags are left out, those with the fewest values: {n:,} lines hold too many of them")
        kept = set(ranked[:most])
        cells = {name: pieces for name, pieces in cells.items() if name in kept}
    numbers: dict[str, FloatArray] = {}
    filled: dict[str, NDArray[np.bool_]] = {}

    def add(name: str, value: FloatArray, there: NDArray[np.bool_]) -> None:
        numbers[name], filled[name] = value[axis.keep], there[axis.keep]

    if np.isfinite(axis.wall).any():
        add(_CLOCK, axis.wall, np.isfinite(axis.wall))
    if axis.column != ROW and np.isfinite(axis.step).any():
        add(axis.column, axis.step, np.isfinite(axis.step))
    if axis.unit != "epoch" and "epoch" not in cells and np.isfinite(axis.epoch).any():
        add("epoch", axis.epoch, np.isfinite(axis.epoch))
    for name, pieces in cells.items():
        value, there = np.full(n, np.nan), np.zeros(n, dtype=bool)
        for at, values in pieces:
            value[at], there[at] = values, True
        drawn = np.flatnonzero(there & axis.bars & axis.keep)
        if drawn.size:  # a bar shows the last value until there is another: at its ends, and of the validation throughout
            again = value[drawn[1:]] == value[drawn[:-1]]
            there[drawn[1:][again & (axis.edge[drawn[1:]] | bool(HELD_OUT & set(words(name))))]] = False
        add(name if name not in numbers else f"{name} (again)", value, there)
    table = Table(tuple(numbers), numbers, filled, axis.line[axis.keep], damages, axis.unit, blank_is_nothing=True)
    return table, lost


def _tags(chosen: Sequence[_Rows]) -> dict[tuple[int, str], str]:
    """Return (shape, name) -> tag. One that a step logs and a summary of the epoch as well is `train/` or `epoch/` there."""
    where: dict[str, dict[tuple[str, bool, bool], int]] = {}
    for rows in chosen:
        for tag, _, _ in rows.shape.tags if not rows.shape.is_overflow else ():
            kinds = where.setdefault(tag, {})
            kinds[_kind(rows)] = kinds.get(_kind(rows), 0) + rows.n
    tags = {}
    for k, rows in enumerate(chosen):
        for tag, _, _ in rows.shape.tags:
            kinds = where.get(tag, {})
            kind = _kind(rows)
            rare = len(kinds) > 1 and kind != max(kinds, key=lambda each: kinds[each]) and not rows.shape.is_overflow
            tags[k, tag] = f"{kind[0] or 'epoch'}/{tag}" if rare and "/" not in tag else tag
    return tags


def _kind(rows: _Rows) -> tuple[str, bool, bool]:
    shape = rows.shape
    return shape.split, shape.epoch >= 0 and shape.place < 0 and shape.step_total < 0, shape.counts


def _factors(chosen: Sequence[_Rows]) -> set[str]:
    """Return the tags whose unit changes within the log ("900", "1.2K"): only those are brought to one unit."""
    units: dict[str, set[str]] = {}
    for rows in chosen:
        for tag, _, unit in rows.shape.tags:
            units.setdefault(tag, set()).add(unit)
    return {tag for tag, seen in units.items() if len({FACTORS.get(unit) for unit in seen}) > 1 and seen <= set(FACTORS)}


def _ranks(rows: _Rows) -> FloatArray:
    """Return the number of the process that printed each line, -1 where the lines do not say."""
    if rows.shape.rank < 0:
        return np.full(rows.n, float(rows.shape.fixed_rank))
    return rows.column(rows.shape.rank)


# -- settings ---------------------------------------------------------------------------------------------------------


def _settings(head: bytes, first: int) -> dict[str, object]:
    """Return the settings that a log tells before its first line of metrics, which is line `first`.

    The block of arguments of Megatron-LM and DeepSpeed, a Namespace of argparse, a dict in JSON or Python, and where no
    code stands before the metrics also blocks of `key: value` or `key = value`.
    """
    text = _ANSI.sub(b"", _as_utf8(head)).decode("utf-8", "replace").replace("\r\n", "\n")
    lines = [line[:LONGEST_LINE] for line in text.split("\n")[: first - 1]]
    found: dict[str, object] = {}
    for line in lines:
        dotted = _DOTTED.match(_PREFIX.sub("", line[:4_096]))
        if dotted:
            found.setdefault(dotted[1], _literal(dotted[2]))
        start = line.find("Namespace(")
        brace = line.find("{'")
        if start >= 0:
            told = _namespace(line[start:])
        elif brace >= 0:
            value = _literal(line[brace : line.rfind("}") + 1], LONGEST_LINE)
            told = {str(key): each for key, each in value.items()} if isinstance(value, dict) else {}
        else:
            continue
        found = {**told, **found}
    if not _CODE.search("\n".join(lines)):
        found = {**_pairs(lines), **_json_block(lines), **found}
    return found


def _json_block(lines: Sequence[str]) -> dict[str, object]:
    """Return the first JSON object that begins with a line of its own."""
    begin = next((i for i, line in enumerate(lines) if re.match(r"\s*\{\s*(?:\"|$)", line)), -1)
    if begin < 0:
        return {}
    try:
        value, _ = json.JSONDecoder().raw_decode("\n".join(lines[begin:]).lstrip())
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _pairs(lines: Sequence[str]) -> dict[str, object]:
    """Return the settings of blocks of three and more lines that each name one; a name that comes twice says nothing."""
    found: dict[str, object] = {}
    twice: set[str] = set()
    block: list[tuple[str, str]] = []
    for line in (*lines, ""):
        match = _PAIR.match(line[:1_024])
        if match:
            block.append((match[1], match[2]))
            continue
        for name, value in block if len(block) >= 3 else ():
            if name in found:
                twice.add(name)
            found[name] = _literal(value)
        block.clear()
    return {name: value for name, value in found.items() if name not in twice}


def _literal(text: str, longest: int = 4_096) -> object:
    """Return the plain value that a text spells, the text itself when it spells none."""
    short = text.strip()
    words_of_yaml = {"true": True, "false": False, "null": None}
    if short in words_of_yaml:
        return words_of_yaml[short]
    if len(short) > longest or _depth(short) > DEEPEST:
        return short
    try:
        value = ast.literal_eval(short)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return short
    return value if isinstance(value, (str, int, float, bool, list, tuple, dict, type(None))) else short


def _depth(text: str) -> int:
    """Return how deep the brackets of a text are nested, at most."""
    deepest = depth = 0
    for mark in re.findall(r"[(\[{)\]}]", text):
        depth += 1 if mark in "([{" else -1
        deepest = max(deepest, depth)
    return deepest


def _namespace(text: str) -> dict[str, object]:
    """Return the settings in the text of an `argparse.Namespace`."""
    if _depth(text) > DEEPEST:
        return {}
    try:
        plain = re.sub(r"=<[^<>]{0,200}>", "=None", text[: text.rindex(")") + 1])  # "<function f at 0x7f>"
        tree = ast.parse(plain, mode="eval").body
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return {}
    if not isinstance(tree, ast.Call):
        return {}
    found: dict[str, object] = {}
    for keyword in tree.keywords:
        if keyword.arg is not None:
            found[keyword.arg] = _literal(ast.unparse(keyword.value))
    return found


# -- what is no log ---------------------------------------------------------------------------------------------------


def _is_text(head: bytes) -> bool:
    """Whether the bytes are text: hardly a control character but those of a terminal."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return True
    sample = head.replace(b"\0", b"")
    if len(sample) < 0.5 * len(head) or not sample:
        return False
    odd = len(sample.translate(None, bytes(range(32, 256)) + b"\t\n\r\b\f\x1b\x07"))
    if odd > 0.005 * len(sample):
        return False
    try:
        sample[: sample.rfind(b"\n") + 1].decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > 0.9 * len(sample) or sum(byte > 127 for byte in sample) < 0.05 * len(sample)
    return True


def _is_other(head: bytes) -> bool:
    """Whether the bytes begin like JSON lines, JSON, XML or a table: formats that other readers know better."""
    body = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if body[:1] == b"<" or body.startswith(b"version https://git-lfs"):
        return True
    lines = [line for line in body[:16_384].splitlines()[:20] if line.strip()]
    if len(lines) > 1 and body[-1:] not in b"\r\n" and len(body) >= 16_384:
        lines.pop()
    if body[:1] in (b"{", b"["):
        whole = 0
        for line in lines:
            try:
                whole += isinstance(json.loads(line), (dict, list))
            except (ValueError, RecursionError):
                continue
        if whole > 0.5 * len(lines) or re.match(rb'[\[{]\s*(?:[\[{]\s*)?"[^"\n]*"\s*:', body):
            return True
    for delimiter in (b",", b"\t", b";"):
        counts = {line.count(delimiter) for line in lines}
        if len(counts) == 1 and counts != {0} and lines and not re.search(rb"[=:|]|\d", lines[0]):
            return True
    return False
