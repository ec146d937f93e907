"""W&B offline logs (`run-<id>.wandb`) -> history, histograms, config, and what was lost: no login, no service, no wandb.

A file is a header, then records framed as in LevelDB's log, with zlib's CRC-32: blocks of 32 KiB that hold chunks of
records. A record is a protocol buffer; every value in it is JSON text, with NaN and Infinity.

System statistics and console output are not read: they have no step. The summary repeats the history.

Source: wandb/proto/wandb_internal.proto (Record, HistoryRecord, ConfigRecord, RunRecord, MetricRecord);
github.com/google/leveldb/blob/main/doc/log_format.md; github.com/wandb/wandb/pull/8088 for the blocks of old versions.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage
from traindoctor.readers.log import NO_HINTS, Hints, Log
from traindoctor.readers.logcalls import DEEPEST, LARGEST_STEP, MOST_TAGS, STEP, Calls, Column, as_number
from traindoctor.readers.table import Table, count_times
from traindoctor.readers.wire import LEN, VARINT, WireError, read_fields

if TYPE_CHECKING:
    from collections.abc import Iterator

FORMAT = "wandb"
IDENT, MAGIC, VERSION = b":W&B", 0xBEE1, 0
HEADER = struct.Struct("<4sHB")
CHUNK = struct.Struct("<IHB")  # CRC-32 of type and data, length of the data, type
BLOCK = 32_768
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4
#: Fields of Record.
HISTORY, CONFIG, METRIC, RUN = 2, 5, 12, 17
#: In front of the value of an item: field 16, bytes.
VALUE_JSON = b"\x82\x01"
#: Lost records that are named one by one.
NAMED = 8

#: What W&B puts around the line of a run in an exported table.
EXPORT_BOUNDS = ("__MIN", "__MAX")


class Loss(NamedTuple):
    """What stands in a file in place of a record."""

    offset: int
    kind: str
    what: str


def looks_like_wandb(head: bytes, name: str) -> bool:
    """Whether a file is a W&B log; an empty one is by its name."""
    return head.startswith(IDENT) or (name.lower().endswith(".wandb") and not head.strip(b"\0"))


def read_wandb(data: bytes, file: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:
    """Return the log of the run in a W&B file; no series and a damage when it holds nothing.

    The steps are W&B's own count, `_step`, unless the run says (`define_metric`), or its rows show, that another column
    counts them. Truth values count as 0 and 1.

    Raises: UnreadableInputError when it is no W&B log, of another version, or `hints` names no column of it.
    """
    if not data.strip(b"\0"):
        what = f"the file holds {len(data):,} zero bytes and nothing else" if data else "the file holds nothing"
        return (Log("wandb", (), damages=(Damage("empty-file", file, what, 0),)),)
    _check_header(data, file)
    run = _Run()
    losses: list[Loss] = []
    for found in read_records(data, _origin(data)):
        if isinstance(found, Loss):
            losses.append(found)
            continue
        offset, payload = found
        try:
            run.read(payload)
        except WireError as error:
            losses.append(Loss(offset, "corrupt-record", f"what is behind its checksum is no record: {error}"))
    return (run.calls.log(FORMAT, file, hints, _name_losses(losses, file)),)


def _name_losses(losses: list[Loss], file: str) -> list[Damage]:
    damages = []
    for offset, kind, what in losses[:NAMED]:
        lost = "what follows is lost" if kind == "truncated" else "the record is lost"
        damages.append(Damage(kind, file, f"record at byte {offset:,}: {what}: {lost}", offset))
    more = losses[NAMED:]
    if more:
        what = f"{count_times(len(more), 'record')} more from byte {more[0].offset:,} on cannot be read and are lost"
        damages.append(Damage("corrupt-record", file, what, more[0].offset))
    return damages


# -- framing ----------------------------------------------------------------------------------------------------------


def _check_header(data: bytes, file: str) -> None:
    if not data.startswith(IDENT[: len(data)]):
        raise UnreadableInputError(file, "is no W&B log: it does not begin with ':W&B'")
    if len(data) < HEADER.size:
        return
    _, magic, version = HEADER.unpack_from(data)
    if magic != MAGIC:
        raise UnreadableInputError(file, f"is no W&B log: its mark is {magic:#06x} where {MAGIC:#06x} is expected")
    if version != VERSION:
        way = "export the history of the run as CSV"
        raise UnreadableInputError(file, f"is a W&B log of version {version}: only version {VERSION} is known", way)


def read_records(data: bytes, origin: int = 0) -> Iterator[tuple[int, bytes] | Loss]:
    """Yield offset and payload of each record in file order, and in their place what was lost.

    A chunk that does not fit its checksum loses its record. Reading goes on behind it where a whole chunk follows, else
    at the next block. `origin`: offset at which the blocks begin.
    """
    at, size = HEADER.size, len(data)
    pieces: list[bytes] = []
    start, skipping, zeros = at, False, -1  # `skipping`: the rest of a record that was lost
    if size < HEADER.size:
        yield Loss(0, "truncated", "the file ends inside its header")
        return
    while at < size:
        left = BLOCK - (at - origin) % BLOCK
        if left < CHUNK.size:
            at += left
            continue
        if at + CHUNK.size > size:
            break
        crc, length, kind = CHUNK.unpack_from(data, at)
        stop = at + CHUNK.size + length
        fits = CHUNK.size + length <= left
        if not crc and not length and not kind:
            end = min(at + left, size)
            if data.count(0, at, end) == end - at:
                zeros = at if zeros < 0 else zeros
                at = end
                continue
        if fits and stop > size:
            break
        if not fits or not FULL <= kind <= LAST or zlib.crc32(memoryview(data)[at + 6 : stop]) != crc:
            yield Loss(start if pieces else at, "corrupt-record", "its checksum does not fit")
            pieces, skipping = [], True
            at = stop if fits and _is_chunk(data, stop, origin) else at + left
            continue
        if zeros >= 0:
            yield Loss(zeros, "corrupt-record", f"{at - zeros:,} zero bytes stand where records should")
            pieces, zeros, skipping = [], -1, True
        if kind in (FULL, FIRST):
            if pieces:
                yield Loss(start, "corrupt-record", "its end is missing")
            pieces, start, skipping = [], at, False
        elif not pieces:
            if not skipping:
                yield Loss(at, "corrupt-record", "its beginning is missing")
            skipping, at = True, stop
            continue
        pieces.append(data[at + CHUNK.size : stop])
        if kind in (FULL, LAST):
            yield start, b"".join(pieces)
            pieces = []
        at = stop
    if zeros >= 0:
        yield Loss(zeros, "truncated", f"only zero bytes follow, {size - zeros:,} of them")
    elif pieces or at < size:
        yield Loss(start if pieces else at, "truncated", "the file ends inside a record")


def _is_chunk(data: bytes, at: int, origin: int) -> bool:
    """Whether a whole chunk stands here, or the end of a block."""
    left = BLOCK - (at - origin) % BLOCK
    if left < CHUNK.size:
        return True
    if at + CHUNK.size > len(data):
        return False
    crc, length, kind = CHUNK.unpack_from(data, at)
    stop = at + CHUNK.size + length
    in_block = CHUNK.size + length <= left and stop <= len(data) and FULL <= kind <= LAST
    return bool(in_block and zlib.crc32(memoryview(data)[at + 6 : stop]) == crc)


def _origin(data: bytes) -> int:
    """Return where the blocks begin: at the start of the file; behind the header before wandb 0.17.6, written in Go."""
    if len(data) <= BLOCK:
        return 0
    begin = data[: 3 * BLOCK]
    lost = [sum(isinstance(found, Loss) for found in read_records(begin, origin)) for origin in (0, HEADER.size)]
    return 0 if lost[0] <= lost[1] else HEADER.size


# -- records ----------------------------------------------------------------------------------------------------------


def _text(data: bytes, start: int, stop: int) -> str:
    return data[start:stop].decode("utf-8", "replace")


def _item(data: bytes, at: int, end: int) -> tuple[list[str], bytes | None]:
    """Return the key of an item, in its parts, and its value as JSON."""
    path: list[str] = []
    value = None
    for number, wire, _, start, stop in read_fields(data, at, end):
        if wire != LEN:
            continue
        if number == 1:
            path = [_text(data, start, stop)]
        elif number == 2:
            path.append(_text(data, start, stop))
            if len(path) > DEEPEST:
                raise WireError(f"a key of more than {DEEPEST} parts")
        elif number == 16:
            value = data[start:stop]
    return path, value


class _Run:
    """What the records of a file add up to."""

    def __init__(self) -> None:
        self.calls = Calls()
        self._known: dict[bytes, Column] = {}  # the key of an item, as its bytes

    def read(self, data: bytes) -> None:
        """Add a record.

        Raises: WireError when it is none.
        """
        readers = {HISTORY: self._history, CONFIG: self._config, METRIC: self._metric, RUN: self._run}
        for number, wire, _, start, stop in read_fields(data, 0, len(data)):
            if wire == LEN and number in readers:
                readers[number](data, start, stop)

    def _history(self, data: bytes, at: int, end: int) -> None:
        """Add a row. An item whose key was seen before, with a short number, is read without parsing it again."""
        calls, known = self.calls, self._known
        row = calls.add_row(None)
        others: dict[str, object] = {}
        while at + 1 < end and data[at] == 0x0A:
            stop = at + 2 + data[at + 1]
            if data[at + 1] >= 0x80 or stop > end:
                break
            key, _, value = data[at + 2 : stop].rpartition(VALUE_JSON)
            column = known.get(key)
            number = _short_number(value) if column is not None else None
            if column is None or number is None:
                self._history_item(data, at + 2, stop, row, others)
            else:
                column.put(row, number)
            at = stop
        for number_, wire, _, start, stop in read_fields(data, at, end):
            if number_ == 1 and wire == LEN:
                self._history_item(data, start, stop, row, others)
            elif number_ == 2 and wire == LEN:
                counts = (value for n, kind, value, _, _ in read_fields(data, start, stop) if n == 1 and kind == VARINT)
                calls.step[row] = min(next(counts, 0), LARGEST_STEP)  # proto3 leaves out a zero
        if others:
            calls.add_values(row, others)

    def _history_item(self, data: bytes, at: int, end: int, row: int, others: dict[str, object]) -> None:
        """Add a number to its column; every other value to `others`, by its tag."""
        path, text = _item(data, at, end)
        tag = ".".join(path)
        if text is None or not tag:
            return
        try:
            value = json.loads(text, parse_int=float)
        except (ValueError, RecursionError):
            self.calls.add_unreadable(tag)
            return
        number = as_number(value)
        if number is None:
            others[tag] = value
            return
        column = self.calls.column(tag)
        if column is None:
            return
        column.put(row, number)
        key, mark, last = data[at:end].rpartition(VALUE_JSON)
        if mark and len(text) < 0x80 and last == bytes([len(text)]) + text and len(self._known) < MOST_TAGS:
            self._known[key] = column

    def _config(self, data: bytes, at: int, end: int) -> None:
        """Set and remove settings."""
        for number, wire, _, start, stop in read_fields(data, at, end):
            if wire != LEN or number not in (1, 2):
                continue
            path, text = _item(data, start, stop)
            if not path or path[0] == "_wandb":
                continue
            here = self.calls.settings
            for name in path[:-1]:
                inner = here.get(name)
                if not isinstance(inner, dict):
                    inner = here[name] = {}
                here = inner
            if number == 2:
                here.pop(path[-1], None)
            elif text is not None:
                try:
                    here[path[-1]] = json.loads(text)
                except (ValueError, RecursionError):
                    self.calls.add_unreadable(f"setting {'.'.join(path)}")

    def _metric(self, data: bytes, at: int, end: int) -> None:
        """Add what `define_metric` said: which tag counts the steps of which tags."""
        name = counter = ""
        for number, wire, _, start, stop in read_fields(data, at, end):
            if wire == LEN and number in (1, 2):
                name = _text(data, start, stop)
            elif wire == LEN and number == 4:
                counter = _text(data, start, stop)
        if name and counter and len(self.calls.counted_by) < MOST_TAGS:
            self.calls.counted_by[name] = counter

    def _run(self, data: bytes, at: int, end: int) -> None:
        calls = self.calls
        for number, wire, value, start, stop in read_fields(data, at, end):
            if number == 14 and wire == VARINT and 0 < value < LARGEST_STEP and value not in calls.starts:
                calls.starts = [value]  # resumed, or forked from another run
            elif wire != LEN:
                continue
            elif number == 1:
                calls.name = calls.name or _text(data, start, stop)
            elif number == 4:
                self._config(data, start, stop)
            elif number == 8:
                calls.name = _text(data, start, stop) or calls.name
            elif number == 17:
                parts = {n: v for n, kind, v, _, _ in read_fields(data, start, stop) if kind == VARINT}
                calls.begun = parts.get(1, 0) + parts.get(2, 0) * 1e-9


def _short_number(value: bytes) -> float | None:
    """Return the number of a field of less than 128 bytes, its length first; None when it is no number."""
    if not value or value[0] != len(value) - 1:
        return None
    try:
        return float(value[1:])
    except ValueError:
        return None


# -- tables of W&B's web page -----------------------------------------------------------------------------------------


def split_export(table: Table, file: str = "") -> list[tuple[str, Table]] | None:
    """Return for each run its name and its rows of a CSV exported from a chart of W&B; None when it is no such table.

    Such a table has a column of steps, then `<run> - <tag>`, `<run> - <tag>__MIN` and `<run> - <tag>__MAX` for each run
    of the chart. The bounds are what W&B draws around a line of samples; they are left out, and told of where they
    differ from it. `file`: how messages name it.
    """
    names = [name for name in table.columns if " - " in name]
    counters = [name for name in table.columns if " - " not in name]
    values = [name for name in names if not name.endswith(EXPORT_BOUNDS)]
    if not values or len(counters) != 1 or any(f"{name}{end}" not in table.columns for name in values for end in EXPORT_BOUNDS):
        return None
    if len(names) != 3 * len(values):
        return None
    counter = counters[0]
    runs: dict[str, dict[str, str]] = {}
    for name in values:
        run, _, tag = name.rpartition(" - ")
        runs.setdefault(run, {})[tag] = name
    found = []
    for run, tags in runs.items():
        own = {tag: name for tag, name in tags.items() if name in table.numbers and tag not in (counter, STEP)}
        bounds = [name for name in own.values() if not _is_point(table, name)]
        damages = list(table.damages)
        if bounds:
            detail = f"{', '.join(bounds[:NAMED])}: the file holds bounds of samples, not every value that was logged"
            damages.append(Damage("sampled", file, detail))
        rows = np.zeros(table.line.size, dtype=bool)
        for name in own.values():
            rows |= table.filled[name]
        columns = {counter: counter, **own}
        found.append(
            (
                run,
                Table(
                    tuple(columns),
                    {tag: table.numbers[name][rows] for tag, name in columns.items() if name in table.numbers},
                    {tag: table.filled[name][rows] for tag, name in columns.items() if name in table.numbers},
                    table.line[rows],
                    tuple(damages),
                    table.row_unit,
                ),
            )
        )
    return found


def _is_point(table: Table, name: str) -> bool:
    """Whether the bounds of a column are its values."""
    there = table.filled[name]
    bounds = [table.numbers.get(f"{name}{end}") for end in EXPORT_BOUNDS]
    return all(bound is None or np.array_equal(bound[there], table.numbers[name][there], equal_nan=True) for bound in bounds)
