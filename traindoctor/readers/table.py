"""Columns of numbers by row, as a CSV file, JSON lines or a text log gives them -> logs: which column counts, what a blank means.

Every reader of rows makes a `Table`; what the rows mean is decided here, once for all of them.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
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
#: Words of a column that may count steps under a longer name.
COUNTS = frozenset({"step", "steps", "timestep", "timesteps", "iteration", "iterations", "updates", "frames"})
#: Rows from which a table without a count is read as a training, and the roles that one of its columns must have.
LEAST_HISTORY, HISTORY = 5, frozenset({"loss", "val_loss", "loss_term", "val_loss_term"})
#: Words of columns that name what is compared row by row: such a table holds results of several runs.
COMPARED = frozenset({"fold", "seed", "trial", "run", "model", "experiment", "config"})
#: Words of columns that tell the time in words.
TIMES = frozenset({"time", "date", "datetime", "timestamp", "elapsed", "eta"})
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
#: Columns that an error lists.
LISTED = 60
#: Rows that the first run, and half of the others, must have for a count that starts again to be a run of its own.
LEAST_RUN = 3
#: More resets than this at uneven distances are disorder, no runs; at even ones, or with a header each, runs up to the other.
RESETS, MOST_RUNS = 20, 1_000
#: Rows that count epochs among steps lag behind by this factor at least.
EPOCHS_BEHIND = 5
#: Ways of being filled that are told apart among the columns of a table.
MOST_PATTERNS = 300
#: Words that stand for a cell without a value; "nan" is a value.
BLANKS = frozenset({"", "none", "null", "na", "n/a", "-", "<na>", "#n/a"})
NAN_MATTERS = ("loss", "val_loss", "loss_term", "val_loss_term", "grad_norm", "weight_norm", "update_norm")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Rows of numbers by column. `line`: (n,) int64, the line of each row in its file, from 1.

    `numbers`: column -> (n,) float64. `filled`: column -> (n,) bool, False where the row has no value. Columns of words
    are left out. `columns`: all of them, in order. `row_unit`: what a row is where no column counts ("row", "epoch");
    None when that is an error. `begins`: rows before which the header stands again. `clock`: (n,) int64, the step of each
    row where the format has one that is no column, called `clock_name`. `wall_time`: (n,) float64, seconds since the
    epoch, where it is no column. `settings`: hyperparameters beside the rows. `blank_is_nothing`: rows are of several
    kinds, as lines of a text are, so that a blank is never a NaN.
    """

    columns: tuple[str, ...]
    numbers: Mapping[str, FloatArray]
    filled: Mapping[str, NDArray[np.bool_]]
    line: IntArray
    damages: tuple[Damage, ...]
    row_unit: StepUnit | None = None
    begins: tuple[int, ...] = ()
    clock: IntArray | None = None
    clock_name: str = ""
    wall_time: FloatArray | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    blank_is_nothing: bool = False


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


def _rising_count(table: Table) -> tuple[str, StepUnit] | None:
    """Return a column whose name speaks of steps and which rises, such as `total/steps`; a planned total stands still."""
    for name, value in table.numbers.items():
        if COUNTS & set(words(name)) and _rises(value):
            return name, "step"
    return None


def _no_step(table: Table, file: str, what: str = "no column looks like a step") -> UnreadableInputError:
    numeric = [name for name in table.columns if name in table.numbers]
    rising = next((name for name in numeric if _rises(table.numbers[name])), ROW)
    more = f" and {len(table.columns) - LISTED:,} more" if len(table.columns) > LISTED else ""
    return UnreadableInputError(file, what, f"--step-column {rising}", COLUMNS + ", ".join(table.columns[:LISTED]) + more)


def _rises(values: FloatArray) -> bool:
    if values.size < 2 or not np.isfinite(values).all():
        return False
    return bool((np.diff(values) > 0).all() and (values == np.round(values)).all())


@dataclass(frozen=True, slots=True, eq=False)
class _Clock:
    """What counts the rows. `step`: (n,) int64, 0 where a row has none. `there`: (n,) bool, whether it has one."""

    step: IntArray
    there: NDArray[np.bool_]
    unit: StepUnit
    column: str
    damages: tuple[Damage, ...] = ()

    def part(self, rows: slice) -> _Clock:
        return replace(self, step=self.step[rows], there=self.there[rows])


def _clock(table: Table, file: str, asked: str | None, aliases: Mapping[str, Sequence[str]]) -> _Clock:
    """Return what counts the rows. Raises: UnreadableInputError when nothing does."""
    n = table.line.size
    if asked == ROW and ROW not in table.columns:
        return _rows_counted(n, "row")
    if asked is not None:
        match = next((name for name in table.columns if asked in (name, name.strip())), None)
        if match is None or match not in table.numbers:
            why = "there is no column" if match is None else "there are no numbers in the column"
            raise _no_step(table, file, f"{why} {asked!r} to count steps by")
        unit: StepUnit = "epoch" if "_".join(words(match)) in EPOCH_COLUMNS else "step"
        column = match
    elif table.clock is not None:
        return _Clock(table.clock, np.ones(n, dtype=bool), "step", table.clock_name)
    else:
        found = find_step_column([name for name in table.columns if name in table.numbers]) or _rising_count(table)
        if found is None:
            if table.row_unit or _is_index(table):
                return _rows_counted(n, table.row_unit or "row")
            if _is_history(table, aliases):
                what = "no column looks like a step: the rows are counted, in order; --step-column names one that counts"
                return _rows_counted(n, "row", (Damage("no-steps", file, what),))
            raise _no_step(table, file)
        column, unit = found
        epochs = _epoch_column(table)
        if unit == "step" and epochs is not None and _stands_still(table.numbers[column]) and _rises(table.numbers[epochs]):
            column, unit = epochs, "epoch"
    return _counted(table, file, column, unit, asked is not None)


def _rows_counted(n: int, unit: StepUnit, damages: tuple[Damage, ...] = ()) -> _Clock:
    return _Clock(np.arange(n, dtype=np.int64), np.ones(n, dtype=bool), unit, ROW, damages)


def _counted(table: Table, file: str, column: str, unit: StepUnit, is_asked: bool) -> _Clock:
    """Return the clock of a column; of the rows where it counts epochs in fractions."""
    value, there = table.numbers[column], table.filled[column]
    low, high = (value.min(), value.max()) if value.size else (0.0, 0.0)
    if not (there.all() and low > -(2.0**62) and high < 2.0**62):
        there = there & np.isfinite(value)
        there &= np.abs(np.nan_to_num(value)) < 2.0**62
    known = value if there.all() else value[there]
    whole = known.astype(np.int64)
    damages: tuple[Damage, ...] = ()
    if (whole != known).any():
        if unit == "epoch" or is_asked:
            damage = Damage("fractional-steps", file, f"column {column} counts in fractions: rows are counted instead")
            return _rows_counted(value.size, "row", (damage,))
        damages = (Damage("fractional-steps", file, f"column {column} holds fractions: they are cut off"),)
    if whole.size == value.size:
        return _Clock(whole, there, unit, column, damages)
    step = np.zeros(value.size, dtype=np.int64)
    step[there] = whole
    return _Clock(step, there, unit, column, damages)


def _is_index(table: Table) -> bool:
    """Whether the first column is the nameless index of a data frame: 0, 1, 2 ..."""
    first = table.columns[0]
    return first == "column 1" and first in table.numbers and bool((table.numbers[first] == np.arange(table.line.size)).all())


def _is_history(table: Table, aliases: Mapping[str, Sequence[str]]) -> bool:
    """Whether rows that nothing counts are those of a training: five or more, numbers alone, a loss among them.

    `DataFrame(history.history).to_csv(index=False)` writes such a table. A column of words names what is compared row by
    row, unless it tells the time.
    """
    if table.line.size < LEAST_HISTORY:
        return False
    role = {name: quantity_of(name, aliases) for name in table.columns}
    others = [(name, set(words(name))) for name in table.columns if not role[name]]
    if any((name not in table.numbers or COMPARED & said) and not TIMES & said for name, said in others):
        return False
    return any(role[name] in HISTORY for name in table.numbers)


def _epoch_column(table: Table) -> str | None:
    return next((name for name in table.numbers if "_".join(words(name)) in EPOCH_COLUMNS), None)


def _stands_still(values: FloatArray) -> bool:
    return bool(values.size > 2 and values[0] == values[-1] and (values == values[0]).all())


# -- runs that were appended ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """Where the count starts again.

    `starts`: first rows of the runs, the first is 0. `ends_epoch`: rows at which a count within epochs begins anew, with
    no run of its own.
    """

    starts: tuple[int, ...] = (0,)
    ends_epoch: tuple[int, ...] = ()


def _parts(table: Table, clock: _Clock, aliases: Mapping[str, Sequence[str]]) -> _Parts:
    """Return where the rows of appended runs begin.

    A run begins where the count, and the epoch if there is one, starts again at its first value. Going back into the
    middle is a run resumed. Counts that start again at equal distances, while the loss goes on where it was, are the
    batches of epochs.
    """
    headers = {row for row in table.begins if 0 < row < table.line.size}
    if clock.column == ROW:
        return _Parts(tuple(sorted({0, *headers})))
    if not headers and not (clock.step[1:] < clock.step[:-1]).any():
        return _Parts()
    rows, value = _voice(table, clock, aliases)
    step = clock.step[rows]
    if step.size < 2:
        return _Parts()
    falls = np.flatnonzero(step[1:] < step[:-1]) + 1
    again = np.unique(np.searchsorted(rows, sorted(headers)))
    again = again[again < step.size]
    candidates = np.union1d(falls, again)
    if not candidates.size:
        return _Parts()
    rise = np.diff(step)
    stride = float(np.median(rise[rise > 0])) if (rise > 0).any() else 1.0
    begins = candidates[step[candidates] < step[0] + stride]
    epoch = _epochs_at(table, clock, rows)
    if epoch is not None:
        begins = begins[(epoch[begins] <= epoch[0]) & ~(epoch[begins] > epoch[begins - 1])]
    if not begins.size:
        return _Parts()
    lengths = np.diff([0, *begins, step.size])
    short = lengths < LEAST_RUN
    if (short[0] or short.mean() > 0.5) and not np.isin(begins, again).all():
        return _Parts()
    is_regular = bool(np.ptp(lengths[:-1]) <= 1 and lengths[-1] <= lengths[:-1].max() + 1)
    if epoch is None and is_regular and not again.size and _goes_on(value, begins, int(lengths.min())):
        return _Parts(ends_epoch=tuple(rows[begins].tolist()))
    if begins.size > (MOST_RUNS if is_regular or np.isin(begins, again).all() else RESETS):
        return _Parts()
    first_rows = rows[begins]
    return _Parts((0, *(_first_row(table, clock, int(row)) for row in first_rows)))


def _first_row(table: Table, clock: _Clock, row: int) -> int:
    """Return the first row of the run whose first value of the voice stands in `row`: rows right above may be of it too."""
    headers = [begin for begin in table.begins if begin <= row]
    top = max(headers, default=0)
    while row > top and clock.there[row - 1] and clock.step[row - 1] <= clock.step[row]:
        row -= 1
    return row


def _voice(table: Table, clock: _Clock, aliases: Mapping[str, Sequence[str]]) -> tuple[IntArray, FloatArray]:
    """Return the rows and values of the column that is filled most often, a loss before others: (k,) int64, (k,) float64."""
    best, rank = None, (-1, False)
    for name, present in table.filled.items():
        if name == clock.column or "_".join(words(name)) in CLOCKS:
            continue
        mine = (int(np.count_nonzero(present)), quantity_of(name, aliases) == "loss")
        if mine > rank:
            best, rank = name, mine
    if best is None:
        rows = np.flatnonzero(clock.there)
        return rows, np.zeros(rows.size)
    rows = np.flatnonzero(table.filled[best] & clock.there)
    return rows, table.numbers[best][rows]


def _epochs_at(table: Table, clock: _Clock, rows: IntArray) -> FloatArray | None:
    """Return the epoch of each of these rows; None where there is none, or always the same."""
    column = _epoch_column(table)
    if column is None or column == clock.column or not table.filled[column][rows].all():
        return None
    epoch = table.numbers[column][rows]
    return None if (epoch == epoch[0]).all() else epoch


def _goes_on(value: FloatArray, begins: IntArray, shortest: int) -> bool:
    """Whether the values after most of these places are nearer to those right before than to the first ones of all."""
    span = max(1, min(5, shortest // 4))
    begins = begins[:: -(-begins.size // MOST_RUNS)]
    level = np.log(value) if np.isfinite(value).all() and value.size and value.min() > 0 else value
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a median of nothing but NaN is NaN
        first = np.nanmedian(level[:span])
        before = np.array([np.nanmedian(level[at - span : at]) for at in begins])
        after = np.array([np.nanmedian(level[at : at + span]) for at in begins])
    return bool((np.abs(after - before) <= np.abs(after - first)).mean() > 0.5)


# -- steps within a run -----------------------------------------------------------------------------------------------


def _within(table: Table, clock: _Clock, ends_epoch: Sequence[int], file: str) -> _Clock:
    """Return the clock of one run: epochs put one after the other, rows that only know their epoch put to its end."""
    damages = list(clock.damages)
    if clock.column == ROW or clock.unit != "step" or table.clock is not None:
        if not clock.there.all():
            damages.append(_stepless(table, clock, file))
        if ends_epoch:
            clock = replace(clock, step=_after_each_other(clock.step, ends_epoch))
            what = f"column {clock.column} starts again at equal distances and the loss goes on: read as one run"
            damages.append(Damage("steps-of-epochs", file, what))
        return replace(clock, damages=tuple(damages))
    joined = _joined(table, clock)
    if joined is not None:
        what = f"column {clock.column} starts again in each epoch: the epochs are put one after the other"
        damages.append(Damage("steps-of-epochs", file, what))
        clock = replace(clock, step=joined)
    elif ends_epoch:
        what = (
            f"column {clock.column} starts again {count_times(len(ends_epoch), 'time')} at equal distances, first at line "
            f"{int(table.line[ends_epoch[0]])}, and the loss goes on where it was: the parts are put one after the other"
        )
        damages.append(Damage("steps-of-epochs", file, what))
        clock = replace(clock, step=_after_each_other(clock.step, ends_epoch))
    if not clock.there.all():
        clock, told = _from_epochs(table, clock, file)
        damages += told
        if not clock.there.all():
            damages.append(_stepless(table, clock, file))
    else:
        clock, told = _epochs_for_steps(table, clock, file)
        damages += told
    return replace(clock, damages=tuple(damages))


def _stepless(table: Table, clock: _Clock, file: str) -> Damage:
    rows = np.flatnonzero(~clock.there)
    lines = name_lines(table.line[rows[:NAMED]].tolist(), rows.size)
    return Damage("no-step", file, f"{lines}: no step in column {clock.column}, left out")


def _after_each_other(step: IntArray, ends_epoch: Sequence[int]) -> IntArray:
    length = int(step.max()) + 1 - int(step.min() > 0)
    return step + length * np.searchsorted(np.asarray(ends_epoch), np.arange(step.size), side="right")


def _joined(table: Table, clock: _Clock) -> IntArray | None:
    """Return the steps since the start where the column counts within an epoch; None where it does not."""
    epochs, step = _epoch_column(table), clock.step
    if epochs is None or epochs == clock.column or not clock.there.all() or not table.filled[epochs].all():
        return None
    back = step[1:] < step[:-1]
    if not back.any():
        return None
    epoch = table.numbers[epochs]
    next_epoch = epoch[1:] > epoch[:-1]
    if (back != next_epoch).any() or (epoch[1:] < epoch[:-1]).any():
        return None
    length = int(step.max()) + 1 - int(step.min() > 0)
    joined: IntArray = step + np.round(epoch - epoch[0]).astype(np.int64) * length
    return joined


def _from_epochs(table: Table, clock: _Clock, file: str) -> tuple[_Clock, list[Damage]]:
    """Return the clock with a step for rows that hold an epoch and no step: the last one seen in that epoch."""
    column = _epoch_column(table)
    if column is None or column == clock.column:
        return clock, []
    epoch, has = table.numbers[column], table.filled[column] & np.isfinite(table.numbers[column])
    lost = np.flatnonzero(~clock.there & has)
    known = np.flatnonzero(clock.there & has)
    if not lost.size or not clock.there.any():
        return clock, []
    step = clock.step.copy()
    if known.size:
        order = np.lexsort((clock.step[known], epoch[known]))
        at, last = epoch[known][order], clock.step[known][order]
        ends = np.append(at[1:] != at[:-1], True)
        at, last = at[ends], last[ends]
        inside = (epoch[lost] >= at[0]) & (epoch[lost] <= at[-1])
        lost = lost[inside]
        step[lost] = np.round(np.interp(epoch[lost], at, last)).astype(np.int64)
    else:  # rows with a step hold no epoch: the last step above
        above = np.searchsorted(rows := np.flatnonzero(clock.there), lost) - 1
        lost, above = lost[above >= 0], above[above >= 0]
        step[lost] = clock.step[rows[above]]
    if not lost.size:
        return clock, []
    there = clock.there.copy()
    there[lost] = True
    lines = name_lines(table.line[lost[:NAMED]].tolist(), lost.size)
    what = f"{lines}: no step in column {clock.column}; put at the last step of the epoch that column {column} names"
    return replace(clock, step=step, there=there), [Damage("steps-from-epochs", file, what)]


def _epochs_for_steps(table: Table, clock: _Clock, file: str) -> tuple[_Clock, list[Damage]]:
    """Return the clock with rows put right that count epochs in the column of steps: 1, 2, 3 among hundreds of steps.

    Such rows hold none of what most rows hold (validation after each epoch), count on by one, and go back each time.
    """
    if not (clock.step[1:] < clock.step[:-1]).any():
        return clock, []
    rows, _ = _voice(table, clock, {})
    is_voice = np.zeros(clock.step.size, dtype=bool)
    is_voice[rows] = True
    other = np.flatnonzero(~is_voice)
    if other.size < LEAST_RUN or (np.diff(clock.step[rows]) < 0).any():
        return clock, []
    above = np.searchsorted(rows, other) - 1
    if (above < 0).any():
        return clock, []
    own, last = clock.step[other], clock.step[rows[above]]
    if not ((np.diff(own) == 1).all() and (own <= last).all() and own[0] in (0, 1) and EPOCHS_BEHIND * own[-1] <= last[-1]):
        return clock, []
    step = clock.step.copy()
    step[other] = last
    lines = name_lines(table.line[other[:NAMED]].tolist(), other.size)
    what = f"{lines}: column {clock.column} counts epochs there and steps elsewhere; put at the last step above"
    return replace(clock, step=step), [Damage("steps-from-epochs", file, what)]


# -- series -----------------------------------------------------------------------------------------------------------


def logs_of(table: Table, file: str, format_name: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:
    """Return the logs that the rows of a file make up, in file order: one, or several where runs were appended.

    Raises: UnreadableInputError when no column looks like a step.
    """
    if not table.line.size:
        damage = Damage("empty-file", file, "the file holds a header and no row")
        return (Log(format_name, (), damages=(*table.damages, damage), settings=table.settings),)
    clock = _clock(table, file, hints.step_column, hints.aliases)
    counters = {clock.column} if clock.column != ROW else ({"column 1"} if _is_index(table) else set())
    parts = _parts(table, clock, hints.aliases)
    if len(parts.starts) == 1:
        return (_log_of(table, clock, counters, parts.ends_epoch, file, format_name, hints.aliases),)
    logs = []
    n_runs = len(parts.starts)
    for number, (start, stop) in enumerate(pairwise((*parts.starts, table.line.size)), 1):
        rows = slice(start, stop)
        run, mine = _rows_of(table, rows), clock.part(rows)
        if clock.column == ROW:
            mine = _rows_counted(stop - start, clock.unit, clock.damages)
        first, last = int(run.line[0]), int(run.line[-1])
        what = f"{n_runs} runs were appended: the count starts again; lines {first} to {last} are run {number} of {n_runs}"
        log = _log_of(run, mine, counters, (), file, format_name, hints.aliases)
        logs.append(replace(log, name=f"run {number}", damages=(*log.damages, Damage("appended-runs", file, what))))
    return tuple(logs)


def _rows_of(table: Table, rows: slice) -> Table:
    return replace(
        table,
        numbers={name: value[rows] for name, value in table.numbers.items()},
        filled={name: present[rows] for name, present in table.filled.items()},
        line=table.line[rows],
        begins=tuple(row - rows.start for row in table.begins if rows.start < row < rows.stop),
        clock=None if table.clock is None else table.clock[rows],
        wall_time=None if table.wall_time is None else table.wall_time[rows],
    )


def _log_of(
    table: Table,
    clock: _Clock,
    counters: set[str],
    ends_epoch: Sequence[int],
    file: str,
    format_name: str,
    aliases: Mapping[str, Sequence[str]],
) -> Log:
    """Return the log of one run."""
    clock = _within(table, clock, ends_epoch, file)
    step, there = clock.step, clock.there
    is_counted = bool(there.all())
    damages = list(clock.damages)
    wall = _wall_time(table)
    times = np.full(table.line.size, np.nan) if wall is None else wall
    is_dense = {name: bool(present.all()) for name, present in table.filled.items()}
    blanks = _Blanks(table, there, counters, is_dense)
    series = []
    for name, value in table.numbers.items():
        if name in counters:
            continue
        if is_dense[name] and is_counted:
            series.append(Series("", name, step, value, times, file))
            continue
        filled = table.filled[name] & there
        quantity = quantity_of(name, aliases)
        may_be_nan = quantity in NAN_MATTERS and not table.blank_is_nothing
        blank = blanks.nans(filled, quantity) if may_be_nan else None
        if blank is not None and blank.any():
            first = int(np.flatnonzero(blank)[0])
            place = f"line {int(table.line[first])} (step {int(step[first])})"
            detail = (
                f"column {name} is blank from {place} on, where what is logged with it goes on: "
                f"read as NaN, {count_times(int(blank.sum()), 'time')}"
            )
            damages.append(Damage("blank-nan", file, detail))
            filled = filled | blank
        rows = np.flatnonzero(filled)
        if rows.size:
            series.append(Series("", name, step[rows], value[rows], times[: rows.size] if wall is None else wall[rows], file))
    is_sparse = not all(dense for name, dense in is_dense.items() if name not in counters)
    logged = [s.step for s in series if "_".join(words(s.tag)) not in CLOCKS]
    back, more = check_steps(file, logged if is_sparse else [step if is_counted else step[there]])
    return Log(
        format_name,
        tuple(series),
        clock.unit,
        clock.column,
        (*table.damages, *damages, *more),
        back,
        settings=table.settings,
        begun=float("nan") if wall is None else float(wall[0]),
    )


def _wall_time(table: Table) -> FloatArray | None:
    """Return (n,) seconds since 1970, NaN where a row has none; None where no row has one."""
    if table.wall_time is not None:
        return table.wall_time
    for name, value in table.numbers.items():
        if "_".join(words(name)) not in WALL_TIMES or not value.size:
            continue
        known = value if table.filled[name].all() else value[table.filled[name]]
        if known.size and np.isfinite(known).all() and known.min() > 1e9 and known.max() < 1e11:  # not since the start
            return value
    return None


# -- blanks that mean NaN ---------------------------------------------------------------------------------------------


class _Blanks:
    """Which blanks of a table mean NaN. Columns that are filled in the same rows are looked at once."""

    def __init__(self, table: Table, there: NDArray[np.bool_], counters: set[str], is_dense: Mapping[str, bool]) -> None:
        self._table, self._there, self._counters, self._is_dense = table, there, counters, is_dense
        self._seen: dict[tuple[bytes, bool], NDArray[np.bool_]] = {}

    def nans(self, filled: NDArray[np.bool_], quantity: str) -> NDArray[np.bool_] | None:
        """Return (n,) bool: rows where a blank of a column that is `filled` (n,) elsewhere means NaN; None for no row.

        It is blank to the end, while most of what was filled only together with it goes on; or rows come that hold a
        step and nothing else, which there were not before.
        """
        if filled[-BLANK_ROWS:].any():
            return None
        before = np.flatnonzero(filled)
        if before.size < 3:
            return None
        may_be_bare = quantity in ("loss", "grad_norm")
        key = (filled.tobytes(), may_be_bare)
        if key not in self._seen:
            if len(self._seen) >= MOST_PATTERNS:
                return None
            self._seen[key] = self._look(filled, before, may_be_bare)
        return self._seen[key]

    def _look(self, filled: NDArray[np.bool_], before: IntArray, may_be_bare: bool) -> NDArray[np.bool_]:
        last = int(before[-1])
        with_it = _is_dense(filled, last)
        n_going_on = np.zeros(filled.size - last - 1, dtype=np.int64)
        n_columns = 0
        for mask, n_content, n_clocks in self._patterns:
            count = n_content + (n_clocks if with_it else 0)
            earlier = mask[: last + 1]
            together = int(np.count_nonzero(earlier[before]))
            if not count or together < 3 or together < 0.9 * before.size or together < 0.95 * np.count_nonzero(earlier):
                continue
            goes_on = mask[last + 1 :] & self._there[last + 1 :]
            if np.count_nonzero(goes_on) >= BLANK_ROWS:
                n_going_on += count * goes_on
                n_columns += count
        found: NDArray[np.bool_] = np.zeros(filled.size, dtype=bool)
        if n_columns:
            found[last + 1 :] = 2 * n_going_on >= n_columns
            return found
        bare = ~self._has_content & self._there
        if may_be_bare and not bare[: last + 1].any() and np.count_nonzero(bare[last + 1 :]) >= BLANK_ROWS:
            found[last + 1 :] = bare[last + 1 :]
        return found

    @cached_property
    def _patterns(self) -> list[tuple[NDArray[np.bool_], int, int]]:
        """The rows that columns are filled in, and how many columns with content, and how many clocks, are filled so."""
        found: dict[bytes, list[int]] = {}
        for name, mask in self._table.filled.items():
            if name in self._counters:
                continue
            counts = found.setdefault(mask.tobytes(), [0, 0])
            counts["_".join(words(name)) in CLOCKS] += 1
        most = sorted(found.items(), key=lambda item: -sum(item[1]))[:MOST_PATTERNS]
        return [(np.frombuffer(mask, dtype=bool), n_content, n_clocks) for mask, (n_content, n_clocks) in most]

    @cached_property
    def _has_content(self) -> NDArray[np.bool_]:
        """(n,) bool: whether a row holds more than what counts."""
        held: NDArray[np.bool_] = np.zeros(self._there.size, dtype=bool)
        for name, mask in self._table.filled.items():
            if name not in self._counters and "_".join(words(name)) not in CLOCKS:
                held |= mask
        return held


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


def name_lines(lines: Sequence[int], count: int | None = None) -> str:
    """Return "lines 3, 7, 9 and 12 more"; `count`: how many there are, where `lines` are only the first of them."""
    count = len(lines) if count is None else count
    named = ", ".join(str(line) for line in lines[:NAMED])
    more = f" and {count - NAMED:,} more" if count > NAMED else ""
    return f"{'line' if count == 1 else 'lines'} {named}{more}"
