"""CSV and TSV logs -> series: dense, one metric a row, ragged, cut off, with a comment on top."""

from __future__ import annotations

import csv
import io
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage, Series, StepUnit
from traindoctor.readers.tags import quantity_of, spellings, words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from traindoctor.model import FloatArray, IntArray

#: Spellings of the column that counts steps, best first; compared with separators and case put aside.
STEP_COLUMNS = spellings(
    "global_step step trainer_global_step train_global_step iter iteration iterations iters current_steps "
    "current_step train_step training_step steps global_steps opt_step optimizer_step update updates num_updates "
    "n_updates itr it n_iter total_timesteps timesteps_total time_total_timesteps timesteps timestep "
    "training_iteration env_steps num_env_steps_sampled batch batch_idx minibatch"
)
EPOCH_COLUMNS = ("epoch", "epochs", "train_epoch", "current_epoch", "trainer_epoch", "epoch_idx", "epoch_num")
WALL_TIMES = ("wall_time", "walltime", "timestamp", "time", "datetime")
#: Columns that are filled in every row, whatever is logged.
CLOCKS = frozenset((*STEP_COLUMNS, *EPOCH_COLUMNS, *WALL_TIMES))
#: The word that asks for rows to be counted.
ROW = "row"
#: How an error lists the columns of a table.
COLUMNS = "another of the columns: "
#: Rows from which pandas reads faster than the csv module.
MANY_ROWS = 100_000
#: A blank loss is a NaN when what is always logged with it goes on for so many rows.
BLANK_ROWS = 5
#: Line numbers named in one message.
NAMED = 5
BLANKS = frozenset({"", "none", "null", "na", "n/a", "-", "<na>", "#n/a"})
NAN_MATTERS = ("loss", "val_loss", "loss_term", "grad_norm", "weight_norm", "update_norm")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The cells of a CSV file by column. `line`: (n,) int64, the line of each row, from 1.

    `numbers`: column -> (n,) float64. `filled`: column -> (n,) bool, False where the cell is blank. Columns of words
    are left out. `columns`: all of them, in order.
    """

    columns: tuple[str, ...]
    numbers: Mapping[str, FloatArray]
    filled: Mapping[str, NDArray[np.bool_]]
    line: IntArray
    damages: tuple[Damage, ...]
    is_monitor: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class CsvLog:
    """The series of a CSV file, in order of its columns. `goes_back`: steps at which the count starts again."""

    series: tuple[Series, ...]
    step_unit: StepUnit
    step_column: str
    damages: tuple[Damage, ...]
    goes_back: tuple[int, ...] = ()


def read_csv_file(
    path: Path, file: str, *, step_column: str | None = None, aliases: Mapping[str, Sequence[str]] | None = None
) -> CsvLog:
    """Return the series of a CSV or TSV log; `file` is how messages name it.

    Raises: UnreadableInputError when it cannot be opened, is no table, or no column looks like a step.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableInputError(file, f"cannot be read: {error.strerror}") from error
    return read_csv(data, file, step_column=step_column, aliases=aliases)


def read_csv(
    data: bytes, file: str, *, step_column: str | None = None, aliases: Mapping[str, Sequence[str]] | None = None
) -> CsvLog:
    """Return the series of a CSV or TSV log of these bytes; no series and a damage when there are none.

    Raises: UnreadableInputError when it is no table, or no column looks like a step.
    """
    if not data.strip(b"\0 \t\r\n\xef\xbb\xbf"):
        return CsvLog((), "step", "", (Damage("empty-file", file, "the file holds nothing", 0),))
    table = read_table(data, file)
    return _series(table, file, step_column, aliases or {})


# -- cells ------------------------------------------------------------------------------------------------------------


def read_table(data: bytes, file: str) -> Table:
    """Return the cells of a table with a header.

    Raises: UnreadableInputError when it is no such table.
    """
    if data.startswith(b"version https://git-lfs"):
        raise UnreadableInputError(file, "is a pointer of git-lfs: the log itself was not downloaded", "git lfs pull")
    text = _decode(data)
    is_monitor, start, skipped = text.startswith("#{"), 0, 0
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
        quick = _read_with_pandas(body, header, delimiter, skipped, is_monitor)
        if quick is not None:
            return quick
    return _read_cells(body, header, delimiter, file, skipped, is_monitor)


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


def _read_cells(body: str, header: tuple[str, ...], delimiter: str, file: str, skipped: int, is_monitor: bool) -> Table:
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
            damages.append(Damage("ragged-row", file, f"{_lines(found)} {'is' if len(found) == 1 else 'are'} {what}"))
    if unreadable:
        damages.append(Damage("ragged-row", file, f"{_lines(unreadable)} cannot be read as CSV: the rest of the file is lost"))
    repeated = [i for i, row in enumerate(rows) if [cell.strip() for cell in row] == list(header)]
    if repeated:
        places = _lines([lines[i] for i in repeated])
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
            damages.append(Damage("unreadable-cell", file, f"column {name}: no number at {_lines([lines[i] for i in words_at])}"))
        numbers[name], filled[name] = value, there
    return Table(header, numbers, filled, np.array(lines, dtype=np.int64), tuple(damages), is_monitor)


def _read_with_pandas(body: str, header: tuple[str, ...], delimiter: str, skipped: int, is_monitor: bool) -> Table | None:
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
    return Table(header, numbers, filled, np.arange(len(frame), dtype=np.int64) + 2 + skipped, (), is_monitor)


def _lines(lines: Sequence[int]) -> str:
    named = ", ".join(str(line) for line in lines[:NAMED])
    more = f" and {len(lines) - NAMED:,} more" if len(lines) > NAMED else ""
    return f"{'line' if len(lines) == 1 else 'lines'} {named}{more}"


# -- steps ------------------------------------------------------------------------------------------------------------


def find_step_column(columns: Sequence[str]) -> tuple[str, StepUnit] | None:
    """Return the column that counts steps, else the one that counts epochs; None when neither is there."""
    spelled: dict[str, str] = {}
    for name in columns:
        spelled.setdefault("_".join(words(name)), name)
    for known, unit in ((STEP_COLUMNS, "step"), (EPOCH_COLUMNS, "epoch")):
        for name in known:
            if name in spelled:
                return spelled[name], cast("StepUnit", unit)
    return None


def _no_step(table: Table, file: str, what: str = "no column looks like a step") -> UnreadableInputError:
    numeric = [name for name in table.columns if name in table.numbers]
    rising = [name for name in numeric if _rises(table.numbers[name])]
    guess = rising[0] if rising else ROW
    return UnreadableInputError(file, what, f"--step-column {guess}", COLUMNS + ", ".join(table.columns))


def _rises(values: FloatArray) -> bool:
    if values.size < 2 or not np.isfinite(values).all():
        return False
    return bool((np.diff(values) > 0).all() and (values == np.round(values)).all())


def _steps(table: Table, file: str, asked: str | None) -> tuple[IntArray, NDArray[np.bool_], StepUnit, str, list[Damage]]:
    """Return for each row its step, and whether it has one; the unit; the column; and what was lost."""
    n = table.line.size
    rows = np.arange(n, dtype=np.int64)
    everywhere = np.ones(n, dtype=bool)
    if asked == ROW and ROW not in table.columns:
        return rows, everywhere, "row", ROW, []
    if asked is not None:
        match = next((name for name in table.columns if asked in (name, name.strip())), None)
        if match is None or match not in table.numbers:
            why = "there is no column" if match is None else "there are no numbers in the column"
            raise _no_step(table, file, f"{why} {asked!r} to count steps by")
        unit: StepUnit = "epoch" if "_".join(words(match)) in EPOCH_COLUMNS else "step"
        column = match
    else:
        found = find_step_column([name for name in table.columns if name in table.numbers])
        if found is None:
            if table.is_monitor or _is_index(table):
                return rows, everywhere, "row", ROW, []
            raise _no_step(table, file)
        column, unit = found
        epochs = _epoch_column(table)
        if unit == "step" and epochs is not None and _stands_still(table.numbers[column]) and _rises(table.numbers[epochs]):
            column, unit = epochs, "epoch"
    value, there = table.numbers[column], table.filled[column] & np.isfinite(table.numbers[column])
    there &= np.abs(np.nan_to_num(value)) < 2.0**62
    known = value[there]
    damages: list[Damage] = []
    if known.size and (known != np.round(known)).any():
        if unit == "epoch" or asked is not None:
            damage = Damage("fractional-steps", file, f"column {column} counts in fractions: rows are counted instead")
            return rows, everywhere, "row", ROW, [damage]
        damages.append(Damage("fractional-steps", file, f"column {column} holds fractions: they are cut off"))
    if not there.all():
        damages.append(Damage("no-step", file, f"{_lines(table.line[~there].tolist())}: no step in column {column}, left out"))
    step = np.zeros(n, dtype=np.int64)
    step[there] = known.astype(np.int64)
    if unit == "step":
        joined = _joined(table, step, there, column)
        if joined is not None:
            detail = f"column {column} starts again in each epoch: the epochs are put one after the other"
            damages.append(Damage("steps-of-epochs", file, detail))
            step = joined
    return step, there, unit, column, damages


def _is_index(table: Table) -> bool:
    """Whether the first column is the nameless index of a data frame: 0, 1, 2 ..."""
    first = table.columns[0]
    return first == "column 1" and first in table.numbers and bool((table.numbers[first] == np.arange(table.line.size)).all())


def _epoch_column(table: Table) -> str | None:
    return next((name for name in table.numbers if "_".join(words(name)) in EPOCH_COLUMNS), None)


def _stands_still(values: FloatArray) -> bool:
    return bool(values.size > 2 and (values == values[0]).all())


def _joined(table: Table, step: IntArray, there: NDArray[np.bool_], column: str) -> IntArray | None:
    """Return the steps since the start where the column counts within an epoch; None where it does not."""
    epochs = _epoch_column(table)
    if epochs is None or epochs == column or not there.all() or not table.filled[epochs].all():
        return None
    epoch = table.numbers[epochs]
    back, next_epoch = np.diff(step) < 0, np.diff(epoch) > 0
    if back.sum() < 1 or (back & ~next_epoch).any() or (next_epoch & ~back).any() or (np.diff(epoch) < 0).any():
        return None
    length = int(step.max()) + 1 - int(step.min() > 0)
    joined: IntArray = step + np.round(epoch - epoch[0]).astype(np.int64) * length
    return joined


# -- series -----------------------------------------------------------------------------------------------------------


def _series(table: Table, file: str, asked: str | None, aliases: Mapping[str, Sequence[str]]) -> CsvLog:
    if not table.line.size:
        return CsvLog((), "step", "", (*table.damages, Damage("empty-file", file, "the file holds a header and no row")))
    step, there, unit, column, damages = _steps(table, file, asked)
    wall = _wall_time(table)
    counters = {column} if column != ROW else ({"column 1"} if _is_index(table) else set())
    series = []
    for name, value in table.numbers.items():
        if name in counters:
            continue
        filled = table.filled[name] & there
        if quantity_of(name, aliases) in NAN_MATTERS:
            blank = _blank_nans(table, name, filled, there, counters)
            if blank.any():
                first = int(np.flatnonzero(blank)[0])
                place = f"line {int(table.line[first])} (step {int(step[first])})"
                detail = (
                    f"column {name} is blank from {place} on, where what is logged with it goes on: "
                    f"read as NaN, {_times(int(blank.sum()), 'time')}"
                )
                damages.append(Damage("blank-nan", file, detail))
                filled = filled | blank
        if filled.any():
            series.append(Series("", name, step[filled], value[filled], wall[filled], file))
    logged = [s.step for s in series if "_".join(words(s.tag)) not in CLOCKS]
    back, more = check_steps(file, logged if _is_sparse(table, counters) else [step[there]])
    return CsvLog(tuple(series), unit, column, (*table.damages, *damages, *more), back)


def _wall_time(table: Table) -> FloatArray:
    for name, value in table.numbers.items():
        if "_".join(words(name)) not in WALL_TIMES or not value.size or not np.isfinite(value).all():
            continue
        if value.min() > 1e9 and value.max() < 1e11:  # seconds since 1970, not since the start
            return value
    return np.full(table.line.size, np.nan)


def _is_sparse(table: Table, counters: set[str]) -> bool:
    """Whether rows hold some of the columns each, so that a step may stand in several rows."""
    filled = [there for name, there in table.filled.items() if name not in counters]
    return bool(filled) and not np.all(filled)


def _blank_nans(
    table: Table, name: str, filled: NDArray[np.bool_], there: NDArray[np.bool_], counters: set[str]
) -> NDArray[np.bool_]:
    """Return (n,) bool: rows where a blank of the column means NaN.

    It is blank to the end, while a column that was filled only together with it goes on; or rows come that hold a step
    and nothing else, which there were not before.
    """
    none: NDArray[np.bool_] = np.zeros(filled.size, dtype=bool)
    before = np.flatnonzero(filled)
    if before.size < 3:
        return none
    last = int(before[-1])
    after = np.arange(filled.size) > last
    best = none
    clocks = {column for column in table.numbers if "_".join(words(column)) in CLOCKS}
    for other, present in table.filled.items():
        if other == name or other in counters or (other in clocks and not _is_dense(filled, last)):
            continue
        earlier = present[: last + 1]
        together = int((earlier & filled[: last + 1]).sum())
        if together < 3 or together < 0.9 * before.size or together < 0.95 * earlier.sum():
            continue
        goes_on = present & after & there
        if goes_on.sum() >= BLANK_ROWS and goes_on.sum() > best.sum():
            best = goes_on
    if best.any():
        return best
    content = [present for other, present in table.filled.items() if other not in counters and other not in clocks]
    bare: NDArray[np.bool_] = ~np.any(content, axis=0) & there
    if not bare[: last + 1].any() and (bare & after).sum() >= BLANK_ROWS and quantity_of(name) in ("loss", "grad_norm"):
        bare &= after
        return bare
    return none


def _is_dense(filled: NDArray[np.bool_], last: int) -> bool:
    return bool(filled[: last + 1].mean() > 0.95)


def check_steps(file: str, columns: Sequence[IntArray]) -> tuple[tuple[int, ...], list[Damage]]:
    """Return the steps at which counts go back, and damages for steps that repeat or go back.

    Each column of a file is looked at by itself, (n,) steps in file order; the worst one is told of, once.
    """
    back: tuple[int, ...] = ()
    repeats, first_repeat = 0, 0
    for step in columns:
        if step.size < 2:
            continue
        move = np.diff(step)
        down = np.flatnonzero(move < 0)
        if down.size > len(back):
            back = tuple(step[down + 1].tolist())
        if not move.min() > 0:
            order = np.sort(step)
            same = order[1:] == order[:-1]
            if same.sum() > repeats:
                repeats, first_repeat = int(same.sum()), int(order[1:][same][0])
    damages = []
    if repeats:
        detail = f"{_times(repeats, 'value')} at a step that has one already, first at step {first_repeat:,}; all are kept"
        damages.append(Damage("duplicate-steps", file, detail))
    if back:
        damages.append(Damage("steps-go-back", file, f"the steps go back {_times(len(back), 'time')}, first to step {back[0]:,}"))
    return back, damages


def _times(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
