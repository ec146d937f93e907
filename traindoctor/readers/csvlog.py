"""CSV and TSV logs -> logs: dense, one metric a row, ragged, cut off, with a comment on top."""

from __future__ import annotations

import csv
import io
import warnings
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage
from traindoctor.readers.log import NO_HINTS, Hints, Log
from traindoctor.readers.table import BLANKS, Table, logs_of, name_lines

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from traindoctor.model import FloatArray, StepUnit

#: Rows from which pandas reads faster than the csv module.
MANY_ROWS = 100_000


def read_csv_file(path: Path, file: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:
    """Return the series of a CSV or TSV log; `file` is how messages name it.

    Raises: UnreadableInputError when it cannot be opened, is no table, or no column looks like a step.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableInputError(file, f"cannot be read: {error.strerror}") from error
    return read_csv(data, file, hints)


def read_csv(data: bytes, file: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:
    """Return the series of a CSV or TSV log of these bytes; no series and a damage when there are none.

    Raises: UnreadableInputError when it is no table, or no column looks like a step.
    """
    if not data.strip(b"\0 \t\r\n\xef\xbb\xbf"):
        return (Log("csv", (), damages=(Damage("empty-file", file, "the file holds nothing", 0),)),)
    return logs_of(read_table(data, file), file, "csv", hints)


# -- cells ------------------------------------------------------------------------------------------------------------


def read_table(data: bytes, file: str) -> Table:
    """Return the cells of a table with a header.

    Raises: UnreadableInputError when it is no such table.
    """
    if data.startswith(b"version https://git-lfs"):
        raise UnreadableInputError(file, "is a pointer of git-lfs: the log itself was not downloaded", "git lfs pull")
    text = _decode(data)
    start, skipped = 0, 0
    row_unit: StepUnit | None = "row" if text.startswith("#{") else None
    while start < len(text):
        stop = text.find("\n", start)
        line = text[start : stop if stop >= 0 else len(text)].strip()
        if line and not line.startswith("#"):
            break
        start, skipped = (stop + 1 if stop >= 0 else len(text)), skipped + 1
    body = text[start:]
    header_line = body.partition("\n")[0]
    delimiter = max(",\t;", key=header_line.count)
    header = _header(next(csv.reader([header_line.rstrip("\r")], delimiter=delimiter), []))
    if not header or all(_is_number(name) for name in header) or (len(header) == 1 and len(header[0].split()) > 4):
        bare = bool(header) and _is_number(header[0])
        what = "has no header: its first line holds numbers" if bare else "is not a table with a header line"
        raise UnreadableInputError(file, what, "write the names of the columns into the first line, separated by commas")
    if body.count("\n") >= MANY_ROWS:
        quick = _read_with_pandas(body, header, delimiter, skipped, row_unit)
        if quick is not None:
            return quick
    return _read_cells(body, header, delimiter, file, skipped, row_unit)


def _decode(data: bytes) -> str:
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = data.decode(encoding, "replace").replace("\0", "")
    return text if "\n" in text else text.replace("\r", "\n")


def _header(cells: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the columns: padding off, none twice; a column without a name is called by its number."""
    names: list[str] = []
    for i, cell in enumerate(cells, 1):
        name = cell.strip().strip('"').strip() or f"column {i}"
        while name in names:
            name += " (again)"
        names.append(name)
    while len(names) > 1 and names[-1] == f"column {len(names)}":  # a line that ends with the delimiter
        names.pop()
    return tuple(names)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _read_cells(body: str, header: tuple[str, ...], delimiter: str, file: str, skipped: int, row_unit: StepUnit | None) -> Table:
    width = len(header)
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter)
    rows: list[list[str]] = []
    lines: list[int] = []
    short: list[int] = []
    long: list[int] = []
    empty: list[int] = []
    unreadable: list[int] = []
    next(reader, None)
    try:
        for row in reader:
            number = reader.line_num + skipped
            if not any(map(str.strip, row)):
                empty.append(number)
                continue
            if len(row) != width:
                if len(row) < width:
                    short.append(number)
                elif any(map(str.strip, row[width:])):
                    long.append(number)
            rows.append(row)
            lines.append(number)
    except csv.Error:
        unreadable.append(reader.line_num + skipped)
    damages = []
    if rows and len(rows[-1]) < width and not body.endswith(("\n", "\r")):  # its last cell may be cut as well
        short.remove(lines[-1])
        rows[-1].pop()
        damages.append(Damage("ragged-row", file, f"line {lines[-1]}, the last one, is cut off: its last cell is left out"))
    for found, what in (
        (short, "shorter than the header: what is missing counts as not logged"),
        (long, "longer than the header: what is too much is left out"),
    ):
        if found:
            damages.append(Damage("ragged-row", file, f"{name_lines(found)} {'is' if len(found) == 1 else 'are'} {what}"))
    if unreadable:
        damages.append(
            Damage("ragged-row", file, f"{name_lines(unreadable)} cannot be read as CSV: the rest of the file is lost")
        )
    repeated = [i for i, row in enumerate(rows) if [cell.strip() for cell in row] == list(header)]
    if repeated:
        places = name_lines([lines[i] for i in repeated])
        damages.append(Damage("repeated-header", file, f"the header stands again at {places}: runs were appended"))
        again = set(repeated)
        rows = [row for i, row in enumerate(rows) if i not in again]
        lines = [line for i, line in enumerate(lines) if i not in again]
    numbers: dict[str, FloatArray] = {}
    filled: dict[str, NDArray[np.bool_]] = {}
    for k, name in enumerate(header):
        value = np.full(len(rows), np.nan)
        there = np.zeros(len(rows), dtype=bool)
        words_at: list[int] = []
        for i, row in enumerate(rows):
            cell = row[k] if k < len(row) else ""
            try:
                value[i] = float(cell)
                there[i] = True
            except ValueError:
                if cell.strip().lower() not in BLANKS:
                    words_at.append(i)
        if len(words_at) > there.sum():
            continue
        if words_at:
            damages.append(
                Damage("unreadable-cell", file, f"column {name}: no number at {name_lines([lines[i] for i in words_at])}")
            )
        numbers[name], filled[name] = value, there
    return Table(header, numbers, filled, np.array(lines, dtype=np.int64), tuple(damages), row_unit)


def _read_with_pandas(
    body: str, header: tuple[str, ...], delimiter: str, skipped: int, row_unit: StepUnit | None
) -> Table | None:
    """Return the table, or None when it is not so regular that pandas would read what the exact reader does."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # newer versions are exact without being asked, and warn
            frame = pd.read_csv(
                io.StringIO(body),
                sep=delimiter,
                header=0,
                names=list(header),
                index_col=False,
                float_precision="round_trip",
                keep_default_na=False,
                na_values=[""],
                skip_blank_lines=False,
            )
    except (pd.errors.ParserError, ValueError, TypeError):
        return None
    numeric = frame.dtypes.map(lambda kind: kind.kind in "iuf")
    if not numeric.all() or not body.endswith("\n") or body.count(delimiter) != (len(frame) + 1) * (len(header) - 1):
        return None
    numbers = {name: frame[name].to_numpy(dtype=np.float64) for name in header}
    if "nan" in body.lower():  # a word that pandas does not tell from a blank
        return None
    filled = {name: ~np.isnan(column) for name, column in numbers.items()}
    return Table(header, numbers, filled, np.arange(len(frame), dtype=np.int64) + 2 + skipped, (), row_unit)
