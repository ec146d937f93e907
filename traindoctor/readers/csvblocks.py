"""Whole lines of a regular table -> columns, by the C parser of pandas: the fast twin of the exact reader in csvlog.py.

It declines what pandas may read otherwise than Python's own `float`, cell by cell, would: then the exact reader has the
block. A NaN and a blank look alike in a frame; where both may be in a block, the bytes of the cells tell.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import numpy as np

from traindoctor.readers.table import BLANKS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from numpy.typing import NDArray

    from traindoctor.model import FloatArray, IntArray
    from traindoctor.readers.storage import LogStream

#: Bytes of a block that is taken apart line by line; a line as long is no row of a log.
BLOCK_BYTES = 2 * 2**20
#: Bytes that stay in the processor's cache while they are looked at.
PIECE = 2**18
#: The delimiter of columns that any number of blanks sets apart.
BLANK = " "
#: What pandas is to take for a blank or for NaN; other spellings go to the exact reader.
MISSING = sorted({spelled for word in (*BLANKS, "nan", "-nan") for spelled in (word, word.upper(), word.capitalize(), "NaN")})
#: Bytes of "2024-01-31 12:00:00", of its longest fraction of a second; where digits stand, and what stands between.
MOMENT, LONGEST_MOMENT = 19, 26
DIGITS = (0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18)
BETWEEN = ((4, b"-"), (7, b"-"), (10, b" T"), (13, b":"), (16, b":"))


class BlockColumn(NamedTuple):
    """One column of a block. `value`: None where it holds no number. `there`: None where every row holds one.

    `n_words`: how many cells hold a word, and `there` where. `by_bytes`: whether pandas was not needed to take it apart.
    """

    value: FloatArray | IntArray | None
    there: NDArray[np.bool_] | None
    n_words: int = 0
    by_bytes: bool = False


class Feed:
    """The bytes of a file in order: those of `data[at:stop]`, then those that a stream of the file still holds."""

    def __init__(self, data: bytes, at: int, stop: int, stream: LogStream | None = None) -> None:
        self._data, self._at, self._stop, self._stream = data, at, stop, stream
        self._back = b""

    def take(self, size: int) -> bytes:
        """Return the next bytes, fewer than asked for only at the end."""
        back, self._back = self._back[:size], self._back[size:]
        stop = min(self._at + size - len(back), self._stop)
        piece = back + self._data[self._at : stop]
        self._at = stop
        return piece if self._stream is None or len(piece) == size else piece + self._stream.read(size - len(piece))

    def put_back(self, piece: bytes) -> None:
        """Let the end of what was taken last come again."""
        self._back = piece + self._back

    def take_all(self) -> bytes:
        """Return all that is left."""
        rest = self._stream.read() if self._stream is not None else b""
        return b"".join([self._back, self._data[self._at : self._stop], rest])


class Block:
    """Some MiB of whole lines, which pandas reads as a file; what may trouble is looked for on the way, in warm memory.

    `size`: bytes that were read. `is_cut`: whether they end within a line, as no line's end was near.
    """

    mode = "r"  # pandas takes bytes from what it believes to be open as text, and decodes nothing twice

    def __init__(self, feed: Feed, most: int, *, comma_decimal: bool = False) -> None:
        self._feed, self._most, self._left, self._comma_decimal = feed, most, most, comma_decimal
        self._pieces: list[bytes] = []
        self.size, self.is_cut = 0, False
        self.has_quotes = self.has_zeros = False
        self._is_over = False
        self._first: bytes | None = self._take(PIECE)

    def _take(self, size: int) -> bytes:
        if self._is_over:
            return b""
        size = min(size, self._left, PIECE)
        piece = self._feed.take(size)
        is_end = len(piece) < size
        self._left -= len(piece)
        if is_end or not self._left:
            whole = piece.rfind(b"\n") + 1
            if whole:
                if whole < len(piece):
                    self._feed.put_back(piece[whole:])
                    piece = piece[:whole]
                self._is_over = True
            elif is_end or self.size > 2 * self._most:
                self._is_over = True
                self.is_cut = bool(piece) or not self._pieces or not self._pieces[-1].endswith(b"\n")
            else:
                self._left = PIECE
        self.size += len(piece)
        self._pieces.append(piece)
        return piece

    def read(self, size: int = PIECE) -> bytes:
        """Return the next bytes, fewer than `size` anywhere, none at the end."""
        if self._first is None:
            piece = self._take(size)
        else:
            piece, self._first = self._first, None
        self.has_quotes = self.has_quotes or b'"' in piece
        self.has_zeros = self.has_zeros or b"\0" in piece
        return piece.replace(b",", b".") if self._comma_decimal else piece

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    @property
    def first_line(self) -> bytes:
        """The first line, or as much of it as was read at once."""
        return self._pieces[0].partition(b"\n")[0]

    def holds(self, byte: bytes) -> bool:
        """Whether one of these bytes is in what was read."""
        return any(byte in piece for piece in self._pieces)

    def raw(self) -> bytes:
        """Return what was read."""
        return b"".join(self._pieces)

    def count(self, byte: int) -> int:
        """Return how often a byte occurs; quick where it is frequent."""
        return sum(int(np.count_nonzero(np.frombuffer(piece, dtype=np.uint8) == byte)) for piece in self._pieces)


def read_block(
    block: Block,
    delimiter: str,
    width: int,
    not_numbers: Collection[int] = (),
    moments: Collection[int] = (),
) -> tuple[int, list[BlockColumn]] | None:
    """Return the number of rows and the `width` columns of a block of whole lines.

    None where the exact reader has to look. `not_numbers`: columns that held no number in the blocks before, which
    pandas then need not take apart. `moments`: columns whose cells may be a date and time.
    """
    import pandas as pd

    by_blanks = delimiter == BLANK
    comma = delimiter.encode()
    first = block.first_line
    if (len(first.split()) - 1 if by_blanks else first.count(comma)) != width - 1:
        return None  # pandas allows the first line to be longer than the others
    skipped = set(not_numbers) if len(not_numbers) < width else set()
    exact = {} if pd.__version__ >= "3" else {"float_precision": "round_trip"}  # newer ones are exact unasked
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of columns that are numbers here and words there: they are declined
            frame = pd.read_csv(
                block,  # type: ignore[call-overload]
                sep=r"\s+" if by_blanks else delimiter,
                header=None,
                names=range(width),
                usecols=[k for k in range(width) if k not in skipped] if skipped else None,
                index_col=False,
                keep_default_na=False,
                na_values=[] if by_blanks else MISSING,
                skip_blank_lines=False,
                low_memory=False,
                **exact,
            )
    except (ValueError, TypeError, OverflowError):  # ParserError and UnicodeDecodeError are ValueErrors
        return None
    n = len(frame)
    if block.is_cut or block.has_zeros or (block.has_quotes and (by_blanks or block.raw().count(b"\n") != n)):
        return None
    columns: list[BlockColumn | None] = [None] * width
    is_regular = not skipped
    for k, column in frame.items():
        value = column.to_numpy()
        if value.dtype.kind == "f":
            there = value == value  # all but NaN
            is_full = bool(there.all())
            is_regular = is_regular and is_full
            columns[cast("int", k)] = BlockColumn(value, None if is_full else there)
        elif value.dtype.kind in "iu":
            columns[cast("int", k)] = BlockColumn(value, None)
        else:
            is_regular = False
    found = [column for column in columns if column is not None]
    if is_regular:
        return n, found
    if by_blanks or not found or width == 1:  # a line without a cell is no row
        return None
    if len(found) < width or block.holds(b"n") or block.holds(b"N"):
        if block.has_quotes or block.holds(b"#"):  # it may be a comment
            return None
        return _settled(block.raw(), delimiter, n, columns, moments)
    if found[-1].there is not None and block.count(comma[0]) != n * (width - 1):  # a row may be shorter
        return None
    return _rows_with_numbers(n, [_without_nothing(column) for column in found])


def _rows_with_numbers(n: int, columns: list[BlockColumn]) -> tuple[int, list[BlockColumn]] | None:
    """Return what is given; None where a row has no number: it may be no row at all, or a header."""
    if any(column.value is not None and column.there is None for column in columns):
        return n, columns
    masks = [column.there for column in columns if column.value is not None and column.there is not None]
    return (n, columns) if masks and np.logical_or.reduce(masks).all() else None


def _without_nothing(column: BlockColumn) -> BlockColumn:
    return column if column.there is None or column.there.any() else BlockColumn(None, column.there)


# -- cells by their bytes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cells:
    """Where the cells of a block end: `end` (rows * width) int64, offsets into `byte`. `has_returns`: before line feeds."""

    byte: NDArray[np.uint8]
    end: IntArray
    width: int
    has_returns: bool

    def edges(self, rows: IntArray, k: int) -> tuple[IntArray, IntArray]:
        """Return where the cells of column `k` in these rows, in order, start and stop."""
        cell = rows * self.width + k
        start = self.end[cell - 1] + 1
        if cell.size and cell[0] == 0:
            start[0] = 0
        stop = self.end[cell]
        if self.has_returns and k == self.width - 1:
            stop -= self.byte[np.maximum(stop - 1, 0)] == 13
        return start, stop


def _cells_of(data: bytes, delimiter: str, n: int, width: int) -> _Cells | None:
    """Return where the cells lie; None where a row does not have just `width` of them."""
    byte = np.frombuffer(data, dtype=np.uint8)
    is_end = byte == 10
    n_lines = int(np.count_nonzero(is_end))
    is_end |= byte == ord(delimiter)
    end = np.flatnonzero(is_end)
    if n_lines != n or end.size != n * width:
        return None
    last = end[width - 1 :: width]
    if not (byte[last] == 10).all() or np.diff(last, prepend=-1).max() > BLOCK_BYTES - 1:
        return None
    return _Cells(byte, end, width, bool((byte[np.maximum(last - 1, 0)] == 13).any()))


def _settled(
    data: bytes, delimiter: str, n: int, columns: list[BlockColumn | None], moments: Collection[int]
) -> tuple[int, list[BlockColumn]] | None:
    """Return the columns with NaN told from blanks and words counted; None where that cannot be told from a few bytes."""
    cells = _cells_of(data, delimiter, n, len(columns))
    if cells is None:
        return None
    found = []
    for k, column in enumerate(columns):
        if column is None:
            seen = _words(cells, n, k, k in moments)
        elif column.there is None:
            seen = column
        else:
            seen = _with_nans(cells, k, column)
        if seen is None:
            return None
        found.append(seen)
    return _rows_with_numbers(n, found)


def _with_nans(cells: _Cells, k: int, column: BlockColumn) -> BlockColumn | None:
    """Return the column with True for each cell that says "nan"."""
    assert column.value is not None
    assert column.there is not None
    rows = np.flatnonzero(~column.there)
    start, stop = cells.edges(rows, k)
    said = stop > start
    if not said.any():
        return _without_nothing(column)
    if not said.all():
        rows, start, stop = rows[said], start[said], stop[said]
    last = cells.byte[stop - 1]
    if (last <= 32).any() or (cells.byte[start] <= 32).any():
        return None
    is_nan = (last | 32 == ord("n")) & (cells.byte[stop - 2] | 32 == ord("a")) & (cells.byte[stop - 3] | 32 == ord("n"))
    is_nan &= stop - start >= 3
    there = column.there.copy()
    there[rows[is_nan]] = True
    return _without_nothing(BlockColumn(column.value, None if there.all() else there))


def _words(cells: _Cells, n: int, k: int, is_moment: bool) -> BlockColumn | None:
    """Return a column in which no cell is a number, or all are a date and time; None where that cannot be told."""
    start, stop = cells.edges(np.arange(n), k)
    there = stop > start
    if not there.any():
        return BlockColumn(None, there, by_bytes=True)
    first, last, length = cells.byte[start[there]], cells.byte[stop[there] - 1], (stop - start)[there]
    is_letter = ((first | 32) >= ord("a")) & ((first | 32) <= ord("z"))
    spells_number = np.isin(first, list(b"iInN")) & (np.isin(length, [2, 3, 4, 8]) | (last <= 32))
    if (is_letter & ~spells_number).all():
        return BlockColumn(None, there, int(np.count_nonzero(there)), by_bytes=True)
    if not is_moment:
        return None
    seconds = _seconds(cells.byte, start[there], length)
    if seconds is None:
        return None
    value = np.full(start.size, np.nan)
    value[there] = seconds
    return BlockColumn(value, None if there.all() else there, by_bytes=True)


def _seconds(byte: NDArray[np.uint8], start: IntArray, length: IntArray) -> FloatArray | None:
    """Return the seconds since 1970 of "2024-01-31 12:00:00.5" in UTC, (n,); None where a cell is written otherwise."""
    if length.min() < MOMENT or length.max() > LONGEST_MOMENT or (length == MOMENT + 1).any():
        return None
    text = np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(byte, MOMENT)[start].T)  # (19, n)
    if any(not np.isin(text[at], list(among)).all() for at, among in BETWEEN):
        return None
    digit = text - ord("0")  # what is below becomes large
    if max(int(digit[at].max()) for at in DIGITS) > 9:
        return None
    century, decade, month, day, hour, minute, second = (10 * digit[at] + digit[at + 1] for at in (0, 2, 5, 8, 11, 14, 17))
    if month.min() < 1 or month.max() > 12 or day.min() < 1 or hour.max() > 23 or minute.max() > 59 or second.max() > 59:
        return None
    months = 1200 * century.astype(np.int64) + 12 * decade.astype(np.int64) + month - 1  # since the year 0
    first = int(months.min())
    if first < 12:  # there is no year 0
        return None
    begins = np.arange(first, int(months.max()) + 2) - 12 * 1970
    day_of = begins.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    months -= first
    if (day > np.diff(day_of)[months]).any():
        return None
    micros = np.zeros(start.size, dtype=np.int64)
    for n_digits in range(1, LONGEST_MOMENT - MOMENT):
        rows = length > MOMENT + n_digits
        if not rows.any():
            break
        one = byte[start[rows] + MOMENT + n_digits].astype(np.int64) - ord("0")
        if one.min() < 0 or one.max() > 9 or not np.isin(byte[start[rows] + MOMENT], list(b".")).all():
            return None
        micros[rows] += one * 10 ** (6 - n_digits)
    seconds = 86_400 * (day_of[months] + day - 1) + 3_600 * hour.astype(np.int64) + 60 * minute.astype(np.int64) + second
    found: FloatArray = (seconds * 1_000_000 + micros) / 1e6
    return found
