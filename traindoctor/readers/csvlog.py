"""CSV, TSV and blank-separated tables -> logs: dense, one metric a row, ragged, cut off, with a comment on top.

Two readers give the same cells. The exact one takes a line apart at a time and knows every damage. Large files are cut
into blocks, and a block without surprises is handed to the C parser of pandas; any other block goes to the exact one, so
that one bad line costs its block alone.

Memory: 9 bytes a cell of what is a number, one block taken apart, and what follows the first surprise of a file, since a
sound file is read block by block. A row longer than a block is left out.
"""

from __future__ import annotations

import codecs
import csv
import json
import math
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice, pairwise, takewhile
from typing import TYPE_CHECKING, cast

import numpy as np

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage
from traindoctor.readers.csvblocks import BLANK, BLOCK_BYTES, Block, Feed, read_block
from traindoctor.readers.log import NO_HINTS, Hints, Log
from traindoctor.readers.storage import LARGEST, open_log
from traindoctor.readers.table import BLANKS, MOST_RUNS, NAMED, WALL_TIMES, Table, find_step_column, logs_of, name_lines
from traindoctor.readers.tags import words

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from traindoctor.model import FloatArray, IntArray
    from traindoctor.readers.storage import LogStream

#: Bytes from which a file is worth the import of pandas: 0.1 to 0.8 s, the exact reader takes 0.15 to 0.3 s for these.
MANY_BYTES = 4 * 2**20
#: Bytes for each column that pandas is given at a time at least: it takes its time for every column of a block.
COLUMN_BYTES = 4_096
#: More columns than this are no log: the widest ones name a few values for each of some hundred layers.
MOST_COLUMNS = 20_000
#: Cells that rows may lack together before the table is called none; a cell that is there takes a byte at least.
MISSING_CELLS = 2**24
#: Lines that a quoted cell may span.
QUOTED_LINES = 1_000
DELIMITERS = ",\t;"
#: Characters of a name; a column of an export may be called by its run and its tag.
LONGEST_NAME = 300
#: First lines looked at to tell a format.
HEAD_LINES = 12

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d{1,6})?(?:Z|[+-]\d\d:?\d\d)?")
_COMMA_DECIMAL = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?")
_NAME = re.compile(r"[^\W\d]|[#_]")
#: What stands in the text of a program or of a message, and not in the name of a column.
_SENTENCE = re.compile(r"[={}]|: |\b(?:import|def|return|include)\b|(?:\w+ ){6}")


def looks_like_csv(head: bytes, name: str) -> bool:
    """Whether a file begins like a table of numbers: a line of names, and rows of as many cells.

    `head`: its first bytes. `name`: decides for a file of one column, or of nothing but a header.
    """
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        head = head.decode("utf-16", "replace").encode()
    text = head.removeprefix(codecs.BOM_UTF8).replace(b"\0", b"").decode("utf-8", "replace")
    whole = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    lines = [line for line in whole[: HEAD_LINES + 30] if line.strip()]
    comments = list(takewhile(lambda line: line.lstrip().startswith("#"), lines))
    lines = lines[len(comments) :]
    if not lines or len(lines[0]) > MOST_COLUMNS * 100 or lines[0].lstrip()[0] in "{[<|-=*(" or "{" in lines[0]:
        return False
    is_called_so = name.lower().endswith((".csv", ".tsv"))
    header, rows = lines[0], lines[1 : 1 + HEAD_LINES]
    if len(rows) > 1 and len(whole) <= len(lines) + 2:
        rows = rows[:-1] or rows  # the last one may be cut
    delimiter = max(DELIMITERS, key=header.count)
    if delimiter not in header:
        return _looks_like_blanks(comments[-1:], header, rows, is_called_so)
    names = [cell.strip() for cell in _cells(header, delimiter)]
    if all(map(_is_number, filter(None, names))):
        return bool(comments) and _names_above(comments[-1].lstrip("#%! "), header, delimiter) is not None
    if any(map(_is_number, names)) or not all(_is_name(name) for name in names if name) or not any(names):
        return False
    if not rows:
        return is_called_so and find_step_column(names) is not None
    cells = [[cell.strip() for cell in _cells(row, delimiter)] for row in rows]
    fitting = [row for row in cells if len(row) == len(names)]
    if 2 * len(fitting) < len(cells) or not fitting:
        return False
    columns = [[cell for cell in column if cell.lower() not in BLANKS] for column in zip(*fitting, strict=True)]
    is_value = _is_comma_number if delimiter == ";" and _has_comma_decimals(rows) else _is_number
    return any(column and all(map(is_value, column)) for column in columns)


def _looks_like_blanks(above: Sequence[str], header: str, rows: Sequence[str], is_called_so: bool) -> bool:
    """Whether blanks set the columns apart: nothing but numbers under as many names, which may stand in a comment."""
    names = header.split()
    if all(map(_is_number, names)):
        return bool(above) and _names_above(above[0].lstrip("#%! "), header, BLANK) is not None
    if any(map(_is_number, names)) or not all(map(_is_name, names)) or not rows:
        return False
    cells = [row.split() for row in rows]
    return (len(names) > 1 or is_called_so) and all(len(row) == len(names) and all(map(_is_number, row)) for row in cells)


def _is_name(cell: str) -> bool:
    return len(cell) < LONGEST_NAME and _NAME.match(cell.strip('"')) is not None and not _SENTENCE.search(cell)


def _is_comma_number(cell: str) -> bool:
    return _COMMA_DECIMAL.fullmatch(cell) is not None or _is_number(cell)


def read_csv_file(place: Path, file: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:
    """Return the logs of a CSV or TSV file, compressed or not; `file` is how messages name it.

    What `read_csv` makes of its bytes. A large file is never in memory whole unless it holds a surprise.

    Raises: UnreadableInputError when it cannot be read, is no table, or no column looks like a step.
    """
    with open_log(place, file) as stream:
        stream.allow(LARGEST)
        head = stream.read(max(MANY_BYTES, BLOCK_BYTES))
        is_all = len(head) < max(MANY_BYTES, BLOCK_BYTES)
        logs = _logs_of(read_tables(head, file, None if is_all else stream), file, hints)
        lost = stream.damages
    return (replace(logs[0], damages=(*logs[0].damages, *lost)), *logs[1:])


def read_csv(data: bytes, file: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:
    """Return the logs of a CSV or TSV file of these bytes: one, or several where runs were appended.

    No series and a damage when there are none.

    Raises: UnreadableInputError when it is no table, or no column looks like a step.
    """
    return _logs_of(read_tables(data, file), file, hints)


def _logs_of(tables: Sequence[Table], file: str, hints: Hints) -> tuple[Log, ...]:
    if not tables:
        return (Log("csv", (), damages=(Damage("empty-file", file, "the file holds nothing", 0),)),)
    named = _of_runs(tables[0]) if len(tables) == 1 else None
    if named is not None:
        return tuple(replace(log, name=name) for name, table in named for log in logs_of(table, file, "csv", hints))
    logs = [log for table in tables for log in logs_of(table, file, "csv", hints)]
    if len(tables) > 1:
        logs = [replace(log, name=f"run {number}") for number, log in enumerate(logs, 1)]
    return tuple(logs)


def _of_runs(table: Table) -> Sequence[tuple[str, Table]] | None:
    """Return the tables of the runs that one export of Weights & Biases holds side by side, by name; None for any other."""
    if not any(" - " in name for name in table.columns):
        return None
    try:
        from traindoctor.readers.wandblog import split_export
    except ImportError:
        return None
    return cast("Sequence[tuple[str, Table]] | None", split_export(table))


def read_tables(data: bytes, file: str, stream: LogStream | None = None) -> tuple[Table, ...]:
    """Return the cells of the tables in a file, in order: a line with other names begins another one; () for no content.

    `stream`: where the file goes on after `data`, None where that is all of it.

    Raises: UnreadableInputError when it does not begin with such a table.
    """
    if data.startswith(b"version https://git-lfs"):
        raise UnreadableInputError(file, "is a pointer of git-lfs: the log itself was not downloaded", "git lfs pull")
    tables: list[Table] = []
    at, line = len(codecs.BOM_UTF8) * data.startswith(codecs.BOM_UTF8), 1
    if stream is not None:
        form = _form_of_head(data, at, file)
        if form is None:
            data += stream.read()
        else:
            table, data, at, line = _read_section(data, form, file, ends=True, stream=stream)
            tables.append(table)
    if not tables:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            data = data.decode("utf-16", "replace").encode()
        if _is_untidy(data, 0, BLOCK_BYTES):
            data = _tidy(data, 0)
    while at < len(data):
        form = _form(data, at, line, file)
        if form is None:
            break
        table, data, at, line = _read_section(data, form, file, ends=len(tables) < MOST_RUNS)
        tables.append(table)
    return tuple(tables)


def _form_of_head(head: bytes, at: int, file: str) -> _Form | None:
    """Return what the header says of the rows where the first bytes of a file tell all of it, else None."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff") or _is_untidy(head, 0, BLOCK_BYTES):
        return None
    try:
        form = _form(head, at, 1, file)
    except UnreadableInputError:
        return None
    if form is None or len(list(islice(_lines(head, form.start), HEAD_LINES + 1))) <= HEAD_LINES:
        return None
    return form


def _is_untidy(data: bytes, at: int, stop: int) -> bool:
    """Whether zero bytes, or carriage returns with no line feed, are among these bytes."""
    if data.find(b"\0", at, stop) >= 0:
        return True
    if data.find(b"\r", at, stop) < 0:
        return False
    some = np.frombuffer(data, dtype=np.uint8, count=min(stop, len(data)) - at, offset=at)
    returns = np.flatnonzero(some == 13)
    ends_so = int(returns[-1]) + 1 == some.size
    return bool((some[returns[:-1] + 1 if ends_so else returns + 1] != 10).any()) or (
        ends_so and data[at + some.size : at + some.size + 1] != b"\n"
    )


def _tidy(data: bytes, at: int) -> bytes:
    """Return what follows without zero bytes, as a crash leaves them behind, and with a line feed for every line's end."""
    return data[at:].replace(b"\0", b"").replace(b"\r\n", b"\n").replace(b"\r", b"\n")


# -- what the file looks like -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Form:
    """Where the rows of a table begin, and how they are written.

    `width`: cells of the header, which may end with a delimiter and then has one name less.
    """

    names: tuple[str, ...]
    width: int
    delimiter: str
    comma_decimal: bool
    start: int
    line: int
    comment: str
    header_cells: tuple[str, ...]

    def split(self, line: str) -> list[str]:
        """Return the cells of a line without quotes; what is more than the header has stays in one cell."""
        if self.delimiter == BLANK:
            return line.split(None, self.width)
        return line.split(self.delimiter, self.width)


def _lines(data: bytes, at: int, longest: int = BLOCK_BYTES) -> Iterator[tuple[int, int, str]]:
    """Yield the offset of each line, that of the next one, and its text, at most `longest` bytes of it."""
    while at < len(data):
        stop = data.find(b"\n", at)
        after = stop + 1 if stop >= 0 else len(data)
        yield at, after, data[at : min(stop if stop >= 0 else len(data), at + longest)].decode("utf-8", "replace").rstrip("\r")
        at = after


def _form(data: bytes, at: int, number: int, file: str) -> _Form | None:
    """Return what the header says of the rows that follow; None where nothing follows.

    Raises: UnreadableInputError when the first line that is no comment is no header.
    """
    comment = ""
    for _, after, text in _lines(data, at):
        line = text.strip()
        if line and not line.startswith("#"):
            break
        comment = line or comment
        number, at = number + 1, after
    else:
        return None
    if max(map(text.count, DELIMITERS)) > MOST_COLUMNS:
        what = f"has more than {MOST_COLUMNS:,} columns: no training log has"
        raise UnreadableInputError(file, what, "keep the columns of step, loss, learning rate and gradient norm")
    if len(text.encode()) >= BLOCK_BYTES:
        what = f"is not a table with a header line: its first line is longer than {BLOCK_BYTES // 2**20} MiB"
        raise UnreadableInputError(file, what)
    sample = [row for _, (_, _, row) in zip(range(HEAD_LINES), _lines(data, after, 2**16), strict=False) if row.strip()]
    above = comment.lstrip("#%! ").strip()
    delimiter = max(DELIMITERS, key=text.count)
    cells = _cells(text, delimiter)
    if all(map(_is_number, filter(str.strip, cells))) or (delimiter not in text and all(map(_is_number, text.split()))):
        named = _names_above(above, text, delimiter)  # numpy.savetxt puts the names into a comment
        if named is None:
            what = "has no header: its first line holds numbers"
            raise UnreadableInputError(file, what, "write the names of the columns into the first line, separated by commas")
        cells, delimiter = named
        after, number = at, number - 1
    elif delimiter not in text and len(text.split()) > 1:
        cells = text.split()
        delimiter = BLANK
        if not sample or any(len(row.split()) != len(cells) for row in sample[:-1]) or not _has_numbers(sample[0].split()):
            raise _no_table(file)
    names = _header(cells)
    if not names or not any(map(_NAME.search, names)):
        raise _no_table(file)
    comma = delimiter == ";" and _has_comma_decimals(sample)
    return _Form(names, len(cells), delimiter, comma, after, number + 1, comment, tuple(cell.strip() for cell in cells))


def _no_table(file: str) -> UnreadableInputError:
    way_out = "write the names of the columns into the first line, separated by commas"
    return UnreadableInputError(file, "is not a table with a header line", way_out)


def _cells(text: str, delimiter: str) -> list[str]:
    if '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return text.split(delimiter)


def _names_above(above: str, row: str, delimiter: str) -> tuple[list[str], str] | None:
    for by in (delimiter, BLANK) if delimiter in row else (BLANK,):
        names = above.split(None if by == BLANK else by)
        values = row.split(None if by == BLANK else by)
        if len(names) == len(values) and len(names) > 1 and not any(map(_is_number, names)):
            return names, by
    if delimiter in row and len(above.split()) == len(row.split(delimiter)):  # the header in words, the rows with commas
        return above.split(), delimiter
    return None


def _has_numbers(cells: Sequence[str]) -> bool:
    return sum(map(_is_number, cells)) * 2 >= len(cells)


def _has_comma_decimals(rows: Sequence[str]) -> bool:
    cells = [cell.strip() for row in rows[:-1] or rows for cell in row.split(";")]
    return any(map(_COMMA_DECIMAL.fullmatch, cells)) and not any("." in cell and _is_number(cell) for cell in cells)


def _header(cells: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns: padding off, none twice; a column without a name is called by its number."""
    names: dict[str, None] = {}
    counts: dict[str, int] = {}
    for i, cell in enumerate(cells, 1):
        plain = cell.strip().strip('"').strip() or f"column {i}"
        name = plain
        while name in names:
            counts[plain] = counts.get(plain, 0) + 1
            name = plain + " (again)" * counts[plain] if counts[plain] < NAMED else f"{plain} (again, {counts[plain]})"
        names[name] = None
    found = list(names)
    while len(found) > 1 and found[-1] == f"column {len(found)}":  # a line that ends with the delimiter
        found.pop()
    return tuple(found)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


# -- rows to columns --------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Places:
    """Lines of which the first few are named and all are counted."""

    count: int = 0
    first: list[int] = field(default_factory=list)

    def add(self, line: int, count: int = 1) -> None:
        if len(self.first) < NAMED:
            self.first.append(line)
        self.count += count

    def __str__(self) -> str:
        return name_lines(self.first, self.count)


@dataclass(slots=True)
class _Column:
    """The values of one column as they come in.

    `value`: None before the first number, then with room for more rows. `masks`: for each block its number of rows, and
    where it has numbers: everywhere, nowhere, or (n,) bool. `is_idle`: it held words alone, or times, in the last block.
    """

    value: FloatArray | None = None
    masks: list[tuple[int, NDArray[np.bool_] | bool]] = field(default_factory=list)
    n_numbers: int = 0
    n_words: int = 0
    words_at: _Places = field(default_factory=_Places)
    is_idle: bool = False

    def add(self, start: int, n: int, value: FloatArray | IntArray | None, there: NDArray[np.bool_] | None, room: int) -> None:
        """Take in the block that begins at row `start`; `room`: rows that the whole column may come to."""
        is_none = value is None
        self.masks.append((n, there if there is not None and not is_none else not is_none))
        if is_none and self.value is None:
            return
        self.n_numbers += 0 if is_none else n if there is None else int(np.count_nonzero(there))
        if self.value is None or self.value.size < start + n:
            bigger = np.empty(max(room, (start + n) * 3 // 2), dtype=np.float64)
            bigger[:start] = math.nan if self.value is None else self.value[:start]
            self.value = bigger
        room_for = self.value[start : start + n]
        if value is None:
            room_for.fill(math.nan)
        else:  # pandas reads "-0" among whole numbers as 0 and elsewhere as -0.0: the sign of a zero says nothing
            np.add(value, 0.0, out=room_for)


@dataclass
class _Section:
    """A table as it comes in. `n_bytes`: the file has so many, as far as is known."""

    form: _Form
    file: str
    columns: list[_Column]
    line: list[NDArray[np.int64] | range] = field(default_factory=list)
    n_rows: int = 0
    short: _Places = field(default_factory=_Places)
    long: _Places = field(default_factory=_Places)
    again: _Places = field(default_factory=_Places)
    comments: _Places = field(default_factory=_Places)
    open_quotes: _Places = field(default_factory=_Places)
    begins: list[int] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    n_bytes: int = 0

    @cached_property
    def moments(self) -> frozenset[int]:
        """The columns that may hold the time in words."""
        return frozenset(k for k, name in enumerate(self.form.names) if _is_time(name))

    def add_lines(self, line: NDArray[np.int64] | range) -> int:
        """Take in the line numbers of a block of rows; return the number of its first row.

        Raises: UnreadableInputError when the rows lack absurdly much.
        """
        start = self.n_rows
        self.line.append(line)
        self.n_rows += len(line)
        if self.n_rows * self.form.width > self.n_bytes + MISSING_CELLS:
            what = f"has {self.n_rows:,} rows or more that lack most of their {self.form.width:,} cells: no log does"
            raise UnreadableInputError(self.file, what, "keep the columns of step, loss, learning rate and gradient norm")
        return start


def _read_section(
    data: bytes, form: _Form, file: str, *, ends: bool, stream: LogStream | None = None
) -> tuple[Table, bytes, int, int]:
    """Return the table of a header; the bytes, offset in them and line number of where the next one begins.

    `ends`: whether it may end at another header. `stream`: where the file goes on after `data`, None where it ends there.
    """
    section = _Section(form, file, [_Column() for _ in form.names], n_bytes=len(data))
    many = stream is not None or len(data) - form.start >= MANY_BYTES
    at, line = form.start, form.line
    most = max(BLOCK_BYTES, COLUMN_BYTES * form.width)
    declined = at  # what lies before has been given to pandas
    is_over = False
    if stream is not None:
        data, declined, line = _add_from_stream(section, data, stream, most)
        at = 0
    while at < len(data) and not is_over:
        whole = data.rfind(b"\n", at, at + most) + 1 if many and at >= declined else 0
        n_rows = _add_quickly(section, _block(form, Feed(data, at, whole), most), line, len(data) - whole) if whole else None
        if n_rows is not None:
            at, line = whole, line + n_rows
            continue
        declined = max(declined, whole)
        stop = len(data) if len(data) - at <= BLOCK_BYTES else data.rfind(b"\n", at, at + BLOCK_BYTES) + 1
        if _is_untidy(data, at, stop or at + BLOCK_BYTES):
            data, at, declined = _tidy(data, at), 0, 0
            continue
        if not stop:  # one line fills the block
            stop = data.find(b"\n", at + BLOCK_BYTES) + 1 or len(data)
            what = f"line {line} is {(stop - at) / 2**20:,.0f} MiB long, no row of a table: it is left out"
            section.damages.append(Damage("long-line", file, what))
            at, line = stop, line + 1
            continue
        at, line, is_over = _add_exactly(section, data, at, stop, line, ends=ends)
    return _finish(section), data, at, line


def _block(form: _Form, feed: Feed, most: int) -> Block:
    return Block(feed, most, comma_decimal=form.comma_decimal)


def _add_from_stream(section: _Section, head: bytes, stream: LogStream, most: int) -> tuple[bytes, int, int]:
    """Add blocks as they are read, until one holds a surprise or the file ends.

    Return the bytes from there on, how many of them have been declined, and the number of their first line.
    """
    form = section.form
    feed, at, line = Feed(head, form.start, len(head), stream), form.start, form.line
    section.n_bytes = 0 if stream.is_packed else stream.size
    while True:
        block = _block(form, feed, most)
        section.n_bytes = max(section.n_bytes, at + block.size)
        n_rows = _add_quickly(section, block, line, section.n_bytes - at - block.size)
        if n_rows is None:
            rest = block.raw() + feed.take_all()
            section.n_bytes = at + len(rest)
            return rest, block.size, line
        at, line = at + block.size, line + n_rows


def _add_quickly(section: _Section, block: Block, line: int, n_left: int) -> int | None:
    """Add the rows of a block of whole lines; return how many, None and nothing added where the exact reader has to look.

    `n_left`: bytes of the file after it, as far as is known.
    """
    form = section.form
    idle = [k for k, column in enumerate(section.columns) if column.is_idle]
    read = read_block(block, form.delimiter, form.width, idle, section.moments)
    if read is None or any(column.value is not None or column.n_words for column in read[1][len(form.names) :]):
        return None
    n, columns = read
    start = section.add_lines(range(line, line + n))
    room = start + int(1.02 * n * (block.size + n_left) / max(block.size, 1)) + 1_000
    for column, (value, there, n_words, by_bytes) in zip(section.columns, columns, strict=False):
        column.add(start, n, value, there, room)
        column.is_idle = by_bytes
        column.n_words += n_words
        if n_words and there is not None:
            for row in np.flatnonzero(there)[:NAMED].tolist():
                column.words_at.add(line + row, 0)
            column.words_at.count += n_words
    return n


def _is_time(name: str) -> bool:
    return "_".join(words(name)) in WALL_TIMES


def _add_exactly(section: _Section, data: bytes, at: int, stop: int, line: int, *, ends: bool) -> tuple[int, int, bool]:
    """Add the rows that begin before `stop`; return offset and line of the next one, and whether it is another header."""
    form = section.form
    width = len(form.names)
    rows: list[list[str]] = []
    lines: list[int] = []
    is_over = False
    before = stop
    for begin, after, text, n_lines, is_open in _records(data, at, stop, form.delimiter):
        if is_open:
            section.open_quotes.add(line)
        stop = after
        cells = form.split(text) if form.delimiter == BLANK or '"' not in text else _cells(text, form.delimiter)
        if not any(map(str.strip, cells)):  # a line without a cell is no row
            line += n_lines
            continue
        if cells[0].strip() == form.header_cells[0] and tuple(cell.strip() for cell in cells) == form.header_cells:
            section.again.add(line)
            section.begins.append(section.n_rows + len(rows))
        elif ends and section.n_rows + len(rows) > 0 and _is_other_header(cells):
            stop, is_over = begin, True
            break
        elif text[0] == "#":
            section.comments.add(line)
        else:
            if len(cells) < width:
                if after == len(data) and data[-1:] != b"\n":  # its last cell may be cut as well
                    what = f"line {line}, the last one, is cut off: its last cell is left out"
                    section.damages.append(Damage("ragged-row", section.file, what))
                    cells.pop()
                else:
                    section.short.add(line)
            elif len(cells) > width and any(map(str.strip, cells[width:])):
                section.long.add(line)
            rows.append(cells)
            lines.append(line)
        line += n_lines
    else:
        stop = max(stop, before)
    start = section.add_lines(np.array(lines, dtype=np.int64))
    for k, (name, column) in enumerate(zip(form.names, section.columns, strict=True)):
        column.is_idle = False
        cells = [row[k] if k < len(row) else "" for row in rows]
        _add_cells(column, start, cells, lines, form.comma_decimal, _is_time(name))
    return stop, line, is_over


def _records(data: bytes, at: int, stop: int, delimiter: str) -> Iterator[tuple[int, int, str, int, bool]]:
    """Yield offset, offset of the next, text and number of lines of each row that begins before `stop`.

    A quote that is not closed within some lines is no quote; the last one says whether there was one.
    """
    while at < stop:
        end = data.find(b"\n", at)
        after = end + 1 if end >= 0 else len(data)
        text = data[at : end if end >= 0 else after].decode("utf-8", "replace").rstrip("\r")
        n_lines, is_open = 1, False
        if '"' in text and delimiter != BLANK and text.count('"') % 2:
            whole = _quoted(data, at, after, text)
            if whole is None:
                is_open, text = True, text.replace('"', "")
            else:
                after, text, n_lines = whole
        yield at, after, text, n_lines, is_open
        at = after


def _quoted(data: bytes, at: int, after: int, text: str) -> tuple[int, str, int] | None:
    """Return where the row ends whose quote goes on in the next lines, its text, its lines; None where no line closes it."""
    parts = [text]
    for _, end, more in _lines(data, after):
        parts.append(more)
        if more.count('"') % 2:
            return end, "\n".join(parts), len(parts)
        if len(parts) >= QUOTED_LINES or end - at > BLOCK_BYTES:
            break
    return None


def _is_other_header(cells: Sequence[str]) -> bool:
    """Whether a row in the midst of numbers holds names, one of which counts: another table begins."""
    if len(cells) < 2:
        return False
    names = [cell.strip() for cell in cells]
    if not all(len(name) < 200 and _NAME.match(name) for name in names) or any(map(_is_number, names)):
        return False
    return find_step_column(names) is not None and len(set(names)) == len(names)


def _add_cells(column: _Column, start: int, cells: list[str], lines: Sequence[int], comma_decimal: bool, is_time: bool) -> None:
    """Add the cells of one column of a block."""
    n = len(cells)
    if comma_decimal:
        cells = [cell.replace(",", ".") for cell in cells]
    try:
        column.add(start, n, np.array(list(map(float, cells)), dtype=np.float64), None, 0)
        return
    except ValueError:
        pass
    value = np.full(n, np.nan)
    there = np.zeros(n, dtype=bool)
    filled = [i for i, cell in enumerate(cells) if cell]
    try:
        value[filled] = [float(cells[i]) for i in filled]
        there[filled] = True
        filled = []
    except ValueError:
        pass
    for i in filled:
        cell = cells[i]
        try:
            value[i] = float(cell)
            there[i] = True
        except ValueError:
            plain = cell.strip()
            if plain.lower() in BLANKS:
                continue
            moment = _moment(plain) if is_time else math.nan
            if moment == moment:
                value[i], there[i] = moment, True
            else:
                column.n_words += 1
                column.words_at.add(lines[i])
    column.add(start, n, value if there.any() else None, there, 0)


def _moment(cell: str) -> float:
    """Return the seconds since 1970 of a date and time as ISO 8601 writes it, without a zone as UTC; NaN for anything else."""
    if not _MOMENT.fullmatch(cell):
        return math.nan
    try:
        moment = datetime.fromisoformat(cell.replace(",", "."))
    except ValueError:
        return math.nan
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _finish(section: _Section) -> Table:
    form, file = section.form, section.file
    damages = list(section.damages)
    for found, what in (
        (section.short, "shorter than the header: what is missing counts as not logged"),
        (section.long, "longer than the header: what is too much is left out"),
    ):
        if found.count:
            damages.append(Damage("ragged-row", file, f"{found} {'is' if found.count == 1 else 'are'} {what}"))
    if section.comments.count:
        damages.append(Damage("comment-line", file, f"{section.comments}: a comment, left out"))
    if section.open_quotes.count:
        what = f"{section.open_quotes}: a quote is opened and not closed: it was read as if it were not there"
        damages.append(Damage("open-quote", file, what))
    if section.again.count:
        damages.append(
            Damage("repeated-header", file, f"the header stands again at {section.again}: rows were appended below it")
        )
    n = section.n_rows
    everywhere, nowhere = np.ones(n, dtype=bool), np.zeros(n, dtype=bool)
    numbers: dict[str, FloatArray] = {}
    filled: dict[str, NDArray[np.bool_]] = {}
    nothing: FloatArray | None = None
    for name, column in zip(form.names, section.columns, strict=True):
        if column.n_words > column.n_numbers:
            continue
        if column.n_words:
            damages.append(Damage("unreadable-cell", file, f"column {name}: no number at {column.words_at}"))
        if column.value is None:
            nothing = np.full(n, math.nan) if nothing is None else nothing
            numbers[name], filled[name] = nothing, nowhere
            continue
        numbers[name] = column.value[:n]
        filled[name] = everywhere if column.n_numbers == n else _mask(column)
    line = _lines_together(section.line)
    table = Table(form.names, numbers, filled, _as_array(line), tuple(damages), begins=tuple(sorted(set(section.begins))))
    return _as_monitor(table, form.comment)


def _mask(column: _Column) -> NDArray[np.bool_]:
    return np.concatenate([np.full(n, mask) if isinstance(mask, bool) else mask for n, mask in column.masks])


def _lines_together(parts: Sequence[NDArray[np.int64] | range]) -> NDArray[np.int64] | range:
    ranges = [part for part in parts if isinstance(part, range)]
    if len(ranges) == len(parts) and parts and all(a.stop == b.start for a, b in pairwise(ranges)):
        return range(ranges[0].start, ranges[-1].stop)
    return np.concatenate([_as_array(part) for part in parts]) if parts else np.zeros(0, dtype=np.int64)


def _as_array(part: NDArray[np.int64] | range) -> NDArray[np.int64]:
    return np.arange(part.start, part.stop, dtype=np.int64) if isinstance(part, range) else part


def _as_monitor(table: Table, comment: str) -> Table:
    """Return the table with the clock of its episodes where stable-baselines3's Monitor wrote it, else as it is.

    A row is an episode: reward, length, seconds since the start. The comment on top holds the start. What counts are
    the environment steps, so the lengths are added up.

    Source: stable_baselines3/common/monitor.py, ResultsWriter.
    """
    if not comment.startswith("#{"):
        return table
    try:
        head = json.loads(comment[1:])
    except ValueError:
        head = {}
    head = head if isinstance(head, dict) else {}
    settings = {key: value for key, value in head.items() if isinstance(value, (str, int, float)) and key != "t_start"}
    length, time = table.numbers.get("l"), table.numbers.get("t")
    if length is None or length.size == 0 or not np.isfinite(length).all() or length.min() < 0 or length.sum() > 2.0**53:
        return replace(table, row_unit="row", settings=settings)
    start = head.get("t_start")
    wall = start + time if isinstance(start, (int, float)) and time is not None else None
    return replace(
        table, row_unit="row", clock=np.cumsum(length).astype(np.int64), clock_name="sum of l", wall_time=wall, settings=settings
    )
