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

    value: FloatArray | None
    there: NDArray[np.bool_] | None
    n_words: int = 0
    by_bytes: bool = False


class _Slice:
    """Bytes within others that pandas reads as from a file; what may trouble is looked for on the way, in warm memory."""

    mode = "r"  # pandas takes bytes from what it believes to be open as text, and decodes nothing twice

    def __init__(self, data: bytes, at: int, stop: int) -> None:
        self._data, self._at, self._stop = data, at, stop
        self.has_quotes = self.has_zeros = self.has_n = False

    def read(self, size: int = -1) -> bytes:
        stop = min(self._stop, self._at + size) if size >= 0 else self._stop
        piece = self._data[self._at : stop]
        self.has_quotes = self.has_quotes or b'"' in piece
        self.has_zeros = self.has_zeros or b"\0" in piece
        self.has_n = self.has_n or b"n" in piece or b"N" in piece
        self._at = stop
        return piece

    def __iter__(self) -> Iterator[bytes]:
        return iter(())


def _count(data: bytes, at: int, stop: int, byte: int) -> int:
    """Return how often a byte occurs; quick where it is frequent."""
    found = 0
    for start in range(at, stop, PIECE):
        piece = np.frombuffer(data, dtype=np.uint8, count=min(PIECE, stop - start), offset=start)
        found += int(np.count_nonzero(piece == byte))
    return found


def read_block(
    data: bytes,
    at: int,
    stop: int,
    delimiter: str,
    width: int,
    not_numbers: Collection[int] = (),
    moments: Collection[int] = (),
) -> tuple[int, list[BlockColumn]] | None:
    """Return the number of rows and the `width` columns of the whole lines `data[at:stop]`.

    None where the exact reader has to look. `not_numbers`: columns that held no number in the blocks before, which
    pandas then need not take apart. `moments`: columns whose cells may be a date and time.
    """
    import pandas as pd

    by_blanks = delimiter == BLANK
    comma = delimiter.encode()
    first = data.find(b"\n", at)
    if (len(data[at:first].split()) - 1 if by_blanks else data.count(comma, at, first)) != width - 1:
        return None  # pandas allows the first line to be longer than the others
    skipped = set(not_numbers) if len(not_numbers) < width else set()
    exact = {} if pd.__version__ >= "3" else {"float_precision": "round_trip"}  # newer ones are exact unasked
    source = _Slice(data, at, stop)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of columns that are numbers here and words there: they are declined
            frame = pd.read_csv(
                source,  # type: ignore[call-overload]
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
    if source.has_zeros or (source.has_quotes and by_blanks) or (source.has_quotes and data.count(b"\n", at, stop) != n):
        return None
    columns: list[BlockColumn | None] = [None] * width
    is_regular = not skipped
    for k, column in frame.items():
        value = column.to_numpy()
        if value.dtype.kind == "f":
            missing = np.isnan(value)
            if missing.any():
                is_regular = False
                columns[cast("int", k)] = BlockColumn(value, ~missing)
            else:
                columns[cast("int", k)] = BlockColumn(value, None)
        elif value.dtype.kind in "iu":
            columns[cast("int", k)] = BlockColumn(value.astype(np.float64), None)
        else:
            is_regular = False
    found = [column for column in columns if column is not None]
    if is_regular:
        return n, found
    if by_blanks or not found or width == 1:  # a line without a cell is no row
        return None
    if len(found) < width or source.has_n:
        if source.has_quotes or data.find(b"#", at, stop) >= 0:  # it may be a comment
            return None
        return _settled(data, at, stop, delimiter, n, columns, moments)
    if found[-1].there is not None and _count(data, at, stop, comma[0]) != n * (width - 1):  # a row may be shorter
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
    """Where the cells of a block lie: `start`, `stop` (rows, width) int64, offsets into `byte`."""

    byte: NDArray[np.uint8]
    start: IntArray
    stop: IntArray


def _cells_of(data: bytes, at: int, stop: int, delimiter: str, n: int, width: int) -> _Cells | None:
    """Return where the cells lie; None where a row does not have just `width` of them."""
    byte = np.frombuffer(data, dtype=np.uint8, count=stop - at, offset=at)
    is_end = byte == 10
    n_lines = int(np.count_nonzero(is_end))
    is_end |= byte == ord(delimiter)
    ends = np.flatnonzero(is_end)
    if n_lines != n or ends.size != n * width:
        return None
    stops = ends.reshape(n, width)
    if not (byte[stops[:, -1]] == 10).all():
        return None
    start = np.empty(ends.size, dtype=np.int64)
    start[0] = 0
    np.add(ends[:-1], 1, out=start[1:])
    starts = start.reshape(n, width)
    if (stops[:, -1] - starts[:, 0]).max() >= BLOCK_BYTES - 1:
        return None
    if (byte[np.maximum(stops[:, -1] - 1, 0)] == 13).any():
        stops = stops.copy()
        stops[:, -1] -= byte[np.maximum(stops[:, -1] - 1, 0)] == 13
    return _Cells(byte, starts, stops)


def _settled(
    data: bytes, at: int, stop: int, delimiter: str, n: int, columns: list[BlockColumn | None], moments: Collection[int]
) -> tuple[int, list[BlockColumn]] | None:
    """Return the columns with NaN told from blanks and words counted; None where that cannot be told from a few bytes."""
    cells = _cells_of(data, at, stop, delimiter, n, len(columns))
    if cells is None:
        return None
    found = []
    for k, column in enumerate(columns):
        if column is None:
            seen = _words(cells, k, k in moments)
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
    start, stop = cells.start[rows, k], cells.stop[rows, k]
    rows, start, stop = rows[stop > start], start[stop > start], stop[stop > start]
    if not rows.size:
        return _without_nothing(column)
    if (cells.byte[stop - 1] <= 32).any() or (cells.byte[start] <= 32).any():
        return None
    is_nan = stop - start >= 3
    for back, letter in ((3, b"nN"), (2, b"aA"), (1, b"nN")):
        is_nan &= np.isin(cells.byte[np.maximum(stop - back, start)], list(letter))
    there = column.there.copy()
    there[rows[is_nan]] = True
    return _without_nothing(BlockColumn(column.value, None if there.all() else there))


def _words(cells: _Cells, k: int, is_moment: bool) -> BlockColumn | None:
    """Return a column in which no cell is a number, or all are a date and time; None where that cannot be told."""
    start, stop = cells.start[:, k], cells.stop[:, k]
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
