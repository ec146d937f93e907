"""Columns of numbers by row, as a CSV file, JSON lines or a text log gives them -> logs: which column counts, what a blank means.

Every reader of rows makes a `Table`; what the rows mean is decided here, once for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage, Series, StepUnit
from traindoctor.readers.log import NO_HINTS, Hints, Log
from traindoctor.readers.tags import quantity_of, spellings, words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
#: A blank loss is a NaN when what is always logged with it goes on for so many rows.
BLANK_ROWS = 5
#: Line numbers named in one message.
NAMED = 5
#: Words that stand for a cell without a value; "nan" is a value.
BLANKS = frozenset({"", "none", "null", "na", "n/a", "-", "<na>", "#n/a"})
NAN_MATTERS = ("loss", "val_loss", "loss_term", "grad_norm", "weight_norm", "update_norm")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Rows of numbers by column. `line`: (n,) int64, the line of each row in its file, from 1.

    `numbers`: column -> (n,) float64. `filled`: column -> (n,) bool, False where the row has no value. Columns of words
    are left out. `columns`: all of them, in order. `row_unit`: what a row is where no column counts ("row", "epoch");
    None when that is an error.
    """

    columns: tuple[str, ...]
    numbers: Mapping[str, FloatArray]
    filled: Mapping[str, NDArray[np.bool_]]
    line: IntArray
    damages: tuple[Damage, ...]
    row_unit: StepUnit | None = None


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
            if table.row_unit or _is_index(table):
                return rows, everywhere, table.row_unit or "row", ROW, []
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
        damages.append(
            Damage("no-step", file, f"{name_lines(table.line[~there].tolist())}: no step in column {column}, left out")
        )
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


def logs_of(table: Table, file: str, format_name: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:
    """Return the logs that the rows of a file make up, in file order: one, or several where runs were appended.

    Raises: UnreadableInputError when no column looks like a step.
    """
    if not table.line.size:
        damage = Damage("empty-file", file, "the file holds a header and no row")
        return (Log(format_name, (), damages=(*table.damages, damage)),)
    aliases = hints.aliases
    step, there, unit, column, damages = _steps(table, file, hints.step_column)
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
                    f"read as NaN, {count_times(int(blank.sum()), 'time')}"
                )
                damages.append(Damage("blank-nan", file, detail))
                filled = filled | blank
        if filled.any():
            series.append(Series("", name, step[filled], value[filled], wall[filled], file))
    logged = [s.step for s in series if "_".join(words(s.tag)) not in CLOCKS]
    back, more = check_steps(file, logged if _is_sparse(table, counters) else [step[there]])
    return (Log(format_name, tuple(series), unit, column, (*table.damages, *damages, *more), back),)


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
        detail = f"{count_times(repeats, 'value')} at a step that has one already, first at step {first_repeat:,}; all are kept"
        damages.append(Damage("duplicate-steps", file, detail))
    if back:
        damages.append(
            Damage("steps-go-back", file, f"the steps go back {count_times(len(back), 'time')}, first to step {back[0]:,}")
        )
    return back, damages


def count_times(count: int, what: str) -> str:
    """Return "3 times", "1 time"."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def name_lines(lines: Sequence[int]) -> str:
    """Return "lines 3, 7, 9 and 12 more"."""
    named = ", ".join(str(line) for line in lines[:NAMED])
    more = f" and {len(lines) - NAMED:,} more" if len(lines) > NAMED else ""
    return f"{'line' if len(lines) == 1 else 'lines'} {named}{more}"
