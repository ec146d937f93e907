"""Objects -> columns, for every JSON log: nested names, numbers in strings, settings among values, rows without a step."""

from __future__ import annotations

import math
from array import array
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage
from traindoctor.readers.log import Hints, Log
from traindoctor.readers.table import (
    BLANKS,
    EPOCH_COLUMNS,
    STEP_COLUMNS,
    WALL_TIMES,
    Table,
    count_times,
    find_step_column,
    logs_of,
    name_lines,
)
from traindoctor.readers.tags import SETTINGS, TEST, TRAIN, VALIDATION, quantity_of, spellings, words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from traindoctor.model import FloatArray, StepUnit

    #: A row, its number among the rows, and its line in the file.
    _Row = tuple[dict[str, Any], int, int]

#: More columns than this, numbers in one list, and objects in objects, are no log.
MAX_COLUMNS, MAX_LIST, MAX_DEPTH = 20_000, 64, 16
#: Cells that memory is given for in columns with gaps: rows times columns.
MAX_CELLS = 2**27
#: A name beyond which the objects below it are not named after it.
MAX_NAME = 256
#: Names of columns left out that are remembered, to tell of them.
MAX_TOLD = 200_000

GIT_LFS = b"version https://git-lfs"
COUNTS = frozenset((*STEP_COLUMNS, *EPOCH_COLUMNS))
#: Quantities that no config holds as a number.
MEASURED = frozenset(
    {"loss", "val_loss", "loss_term", "accuracy", "val_accuracy", "grad_norm", "grad_norm_layer", "weight_norm", "update_norm"}
)
#: Objects beside the values that hold settings.
CONFIGS = frozenset({*SETTINGS, "hyperparameters", "hyper_parameters", "hyperparams", "settings"})
#: The column of when a row was written, where the text of a logger says it; it is no series.
WRITTEN_AT = "written at"
#: Fields that say in a word whether a row is of training or held-out data.
SPLIT_FIELDS = spellings("mode split phase stage subset partition dataset data_split type kind event prefix")
_SPLITS = frozenset(SPLIT_FIELDS)
#: Fields that name the quantity of a row which holds one value.
NAME_FIELDS = ("tag", "name", "key", "metric", "metric_name")


def spelled(name: str) -> str:
    """Return a name with case and separators put aside, as columns that count are compared."""
    return "_".join(words(name))


def is_count(name: str) -> bool:
    """Whether a name is that of steps or epochs."""
    return spelled(name) in COUNTS


def refuse_pointer(data: bytes, file: str) -> None:
    """Raise UnreadableInputError for what git leaves in place of a file that it keeps elsewhere."""
    if data.startswith(GIT_LFS):
        raise UnreadableInputError(file, "is a pointer of git-lfs: the log itself was not downloaded", "git lfs pull")


def decode(data: bytes) -> str:
    """Return the text of a file: any byte order mark off, bytes that are no UTF-8 replaced."""
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig", "replace")


# -- values -----------------------------------------------------------------------------------------------------------


def number(value: object) -> float | None:
    """Return the number that a JSON value is, as a number or in a string; None for every other value."""
    kind = type(value)
    if kind is float:
        return cast("float", value)
    if kind is int:
        try:
            return float(cast("int", value))
        except OverflowError:
            return None
    if kind is str and len(text := cast("str", value)) < 64 and "_" not in text:
        try:
            return float(text)
        except ValueError:
            return None
    return None


def moment(value: str) -> float | None:
    """Return the seconds since 1970 of a date and time in ISO form, taken as UTC where no zone is named; else None."""
    try:
        when = datetime.fromisoformat(value.strip()[:40].replace(",", "."))
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def flatten(row: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Yield (name, value) of an object: the names of nested objects joined by "/", lists of numbers by index.

    What is nested too deep, and a list that is too long, comes as it is: as a value that is no number.
    """
    pending: list[tuple[str, object, int]] = [(name, value, 1) for name, value in reversed(list(row.items()))]
    while pending:
        name, value, depth = pending.pop()
        if depth >= MAX_DEPTH or len(name) > MAX_NAME:
            yield name, value
        elif type(value) is dict:
            pending += [(f"{name}/{key}", item, depth + 1) for key, item in reversed(list(value.items()))]
        elif type(value) is list and 0 < len(value) <= MAX_LIST:
            pending += [(f"{name}/{i}", item, depth + 1) for i, item in reversed(list(enumerate(value)))]
        else:
            yield name, value


def held_out(value: object) -> str:
    """Return "val" or "test" when the words of a field say that a row is of held-out data, else ""."""
    return _held_out(value) if isinstance(value, str) and len(value) <= 64 else ""


@lru_cache(maxsize=4096)
def _held_out(text: str) -> str:
    parts = words(text)
    return "val" if VALIDATION.intersection(parts) else "test" if TEST.intersection(parts) else ""


# -- rows -> a table --------------------------------------------------------------------------------------------------


class Rows:
    """Objects, gathered as columns of numbers while they are parsed.

    `is_validation`: says by its names whether a row is of validation, where the format has no word for it.
    """

    def __init__(self, file: str, is_validation: Callable[[Sequence[str]], bool] | None = None) -> None:
        self.file = file
        self.settings: dict[str, object] = {}
        self.damages: list[Damage] = []
        self.validation: list[int] = []
        self.n = 0
        self._is_validation = is_validation or (lambda _: False)
        self._lines = array("q")
        self._at: dict[str, array[int]] = {}
        self._value: dict[str, array[float]] = {}
        self._words: dict[str, tuple[int, list[int]]] = {}
        self._nested: dict[str, int] = {}
        self._left_out: dict[str, int] = {}
        self._begun = False

    def add(self, rows: Sequence[dict[str, Any]], lines: Sequence[int]) -> None:
        """Take rows in, with the line of each."""
        if not self._begun and rows:
            self._begun = True
            lead = self._take_settings(rows)
            rows, lines = rows[lead:], lines[lead:]
        at = range(self.n, self.n + len(rows))
        self.n += len(rows)
        self._lines.extend(lines)
        self._add_alike(list(zip(rows, at, lines, strict=True)), flat=False)

    def _add_alike(self, rows: Sequence[_Row], *, flat: bool) -> None:
        """Take rows in by the names they hold: those of the same names are columns already."""
        groups: dict[tuple[str, ...], list[_Row]] = {}
        for taken in rows:
            groups.setdefault(tuple(taken[0]), []).append(taken)
        for names, group in groups.items():
            if any(_in_settings(name) for name in names):
                group = [(self._without_settings(row, line), at, line) for row, at, line in group]
                names = tuple(group[0][0])
            columns = list(zip(*(row.values() for row, _, _ in group), strict=True))
            if not flat and any({dict, list}.intersection(map(type, column)) for column in columns):
                self._add_alike([(dict(flatten(row)), at, line) for row, at, line in group], flat=True)
                continue
            parts: dict[tuple[str, str, str], list[int]] = {("", "", ""): list(range(len(group)))}
            if "value" in names or not _SPLITS.isdisjoint(names):
                parts = {}
                for i, (row, _, _) in enumerate(group):
                    single = single_value(row)
                    parts.setdefault((_split_of(row), single, row[single] if single else ""), []).append(i)
            for (split, single, named), members in parts.items():
                self._add_columns(names, columns, group, members, split, single, named)

    def _add_columns(
        self,
        names: tuple[str, ...],
        columns: Sequence[Sequence[object]],
        group: Sequence[_Row],
        members: Sequence[int],
        split: str,
        single: str,
        named: str,
    ) -> None:
        """Take in the members of a group of rows, all of one split; `single`: the field that says what `value` is of."""
        whole = len(members) == len(group)
        by_format = not split and self._is_validation(names)
        split = "val" if by_format else split
        at = [group[i][1] for i in members]
        where = np.array(at, dtype=np.int64)
        if split:
            self.validation += at
        for name, column in zip(names, columns, strict=True):
            if single and name == single:
                continue
            tag = named if single and name == "value" else name
            if (
                split
                and tag != WRITTEN_AT
                and not is_count(tag)
                and not held_out(tag)
                and (by_format or spelled(tag) not in WALL_TIMES)
            ):
                tag = f"{split}/{tag}"
            values = column if whole else [column[i] for i in members]
            if set(map(type, values)) <= {int, float}:
                try:
                    self._extend(tag, where, np.array(values, dtype=np.float64))
                    continue
                except OverflowError:  # an integer of hundreds of digits
                    pass
            self._add_values(tag, values, at, [group[i][2] for i in members])

    def _add_values(self, name: str, values: Sequence[object], at: Sequence[int], lines: Sequence[int]) -> None:
        """Take in values of which some are no numbers."""
        dated = spelled(name) in WALL_TIMES
        known_words: dict[str, float | None] = {}
        for value, i, line in zip(values, at, lines, strict=True):
            if value is None or value == {} or value == []:
                continue
            if isinstance(value, (list, dict)):
                if len(self._nested) < MAX_COLUMNS or name in self._nested:
                    self._nested[name] = self._nested.get(name, 0) + 1
                continue
            if isinstance(value, str):
                if value not in known_words:
                    seconds = moment(value) if dated else None
                    known_words[value] = number(value) if seconds is None else seconds
                known = known_words[value]
                if known is None and value.strip().lower() in BLANKS:
                    continue
            else:
                known = number(value)
            if known is None:
                count, places = self._words.get(name, (0, []))
                if len(self._words) < MAX_COLUMNS or count:
                    self._words[name] = (count + 1, places if len(places) > 5 else [*places, line])
            elif self._has(name):
                self._at[name].append(i)
                self._value[name].append(known)

    def _extend(self, name: str, at: NDArray[np.int64], column: FloatArray) -> None:
        if self._has(name):
            self._at[name].frombytes(at.tobytes())
            self._value[name].frombytes(column.tobytes())

    def _has(self, name: str) -> bool:
        """Whether a column is kept; a new one is begun while there is room."""
        if name in self._at:
            return True
        if len(self._at) >= MAX_COLUMNS:
            self._left_out[name] = self._left_out.get(name, 0) + 1
            if len(self._left_out) > MAX_TOLD:
                self._left_out.popitem()
            return False
        self._at[name], self._value[name] = array("q"), array("d")
        return True

    # -- settings

    def _take_settings(self, rows: Sequence[dict[str, Any]]) -> int:
        """Return how many rows at the top hold the settings of the run and no value; they are taken as such."""
        body = next((row for row in rows[:64] if any(quantity_of(name) in MEASURED for name, _ in flatten(row))), None)
        lead = 0
        for row in rows[:64]:
            if row is body or not row or not _is_settings(row, body):
                break
            self.set_settings(self._without_settings(row, 0))
            lead += 1
        return lead

    def _without_settings(self, row: dict[str, Any], line: int) -> dict[str, Any]:
        """Return a row without the settings in it, which are kept."""
        found = [name for name in row if _in_settings(name)]
        if not found:
            return row
        for name in found:
            value, rest = row[name], name.partition("/")[2]
            new = {rest: value} if rest else value if isinstance(value, dict) else {name: value}
            if any(key in self.settings and self.settings[key] != item for key, item in new.items()):
                detail = f"line {line}: the settings in {name} are others than before; the first ones are kept"
                if not any(damage.kind == "settings-change" for damage in self.damages):
                    self.damages.append(Damage("settings-change", self.file, detail))
            self.set_settings({key: item for key, item in new.items() if key not in self.settings})
        return {name: value for name, value in row.items() if name not in found}

    def set_settings(self, settings: Mapping[str, object]) -> None:
        """Take settings in, found beside the values."""
        self.settings.update(list(settings.items())[: MAX_COLUMNS - len(self.settings)])

    # -- the table

    def table(self, row_unit: StepUnit | None = None) -> Table:
        """Return the columns that hold numbers."""
        kept = [name for name, at in self._at.items() if at]
        sparse = [name for name in kept if len(self._at[name]) < self.n]
        room = max(MAX_CELLS // max(self.n, 1), 8)
        damages = [*self.damages]
        if len(sparse) > room:
            best = sorted(sparse, key=lambda name: (not (is_count(name) or quantity_of(name)), -len(self._at[name])))
            left = {name: len(self._at[name]) for name in best[room:]}
            kept = [name for name in kept if name not in left]
            self._left_out = {**left, **self._left_out}
        if self._left_out:
            detail = f"more columns than there is room for; left out: {_told(self._left_out)}"
            damages.append(Damage("too-many-columns", self.file, detail))
        if self._nested:
            what = f"lists of more than {MAX_LIST} values, or objects more than {MAX_DEPTH} deep"
            detail = f"{what}, are left out: {_told(self._nested)}"
            damages.append(Damage("long-list", self.file, detail))
        numbers: dict[str, FloatArray] = {}
        filled: dict[str, NDArray[np.bool_]] = {}
        for name in kept:
            at = np.frombuffer(self._at[name], dtype=np.int64)
            if at.size == self.n and (at[1:] > at[:-1]).all():
                numbers[name], filled[name] = np.frombuffer(self._value[name], dtype=np.float64), np.ones(self.n, dtype=bool)
            else:
                numbers[name], filled[name] = np.full(self.n, np.nan), np.zeros(self.n, dtype=bool)
                numbers[name][at] = np.frombuffer(self._value[name], dtype=np.float64)
                filled[name][at] = True
            if name in self._words:
                count, places = self._words[name]
                detail = f"column {name[:80]}: no number {count_times(count, 'time')}, first at {name_lines(sorted(places)[:5])}"
                damages.append(Damage("unreadable-cell", self.file, detail))
        lines = np.frombuffer(self._lines, dtype=np.int64) if self._lines else np.zeros(0, dtype=np.int64)
        written_at = numbers.pop(WRITTEN_AT, None)
        filled.pop(WRITTEN_AT, None)
        return Table(tuple(numbers), numbers, filled, lines, tuple(damages), row_unit, wall_time=written_at)

    def logs(self, table: Table, format_name: str, hints: Hints) -> tuple[Log, ...]:
        """Return the logs that a table of these rows makes, with the settings found beside it.

        Raises: UnreadableInputError when no column counts as the hints say.
        """
        table, hints = fill_steps(table, self.file, hints)
        if not table.numbers:
            damage = Damage("empty-file", self.file, "the file holds no number")
            return (Log(format_name, (), damages=(*table.damages, damage), settings=self.settings),)
        return tuple(
            replace(log, settings=self.settings, begun=_begun(log)) for log in logs_of(table, self.file, format_name, hints)
        )


def _in_settings(name: str) -> bool:
    return name.partition("/")[0].lower() in CONFIGS


def _split_of(row: Mapping[str, object]) -> str:
    return next((split for field in SPLIT_FIELDS if field in row and (split := held_out(row[field]))), "")


def _told(names: Mapping[str, int]) -> str:
    """Return "a, b, c, d, e and 12 more"."""
    more = len(names) - 5
    return ", ".join(name[:80] for name in islice(names, 5)) + (f" and {more:,} more" if more > 0 else "")


def _begun(log: Log) -> float:
    return float(log.series[0].wall_time[0]) if log.series and len(log.series[0]) else math.nan


def single_value(row: Mapping[str, object]) -> str:
    """Return the field that names the quantity of a row which holds one value, {"tag": "loss", "value": 1.5}; else ""."""
    if number(row.get("value")) is None:
        return ""
    name = next((field for field in NAME_FIELDS if isinstance(row.get(field), str) and row[field]), "")
    others = [key for key, value in row.items() if key != "value" and number(value) is not None]
    return name if all(is_count(key) or spelled(key) in WALL_TIMES for key in others) else ""


def _is_settings(row: Mapping[str, object], body: Mapping[str, object] | None) -> bool:
    """Whether a row at the top of a file holds settings: no value of the training, and not the step that the rows count by."""
    if any(name.lower() in CONFIGS for name in row) and not any(is_count(name) for name in row):
        return True
    if body is None or any(quantity_of(name) in MEASURED for name in row):
        return False
    found = find_step_column([name for name in body if number(body[name]) is not None])
    if found is not None and found[0] in row:
        return False
    own = {name for name in row if not is_count(name) and quantity_of(name) != "learning_rate"}
    return bool(own) and not own & body.keys()


def fill_steps(table: Table, file: str, hints: Hints) -> tuple[Table, Hints]:
    """Return the table with a step in each row, and the column that holds it.

    A row without one has it under a name that says of what data it is, as `valid_num_updates` does beside `num_updates`;
    or it is read at the step of the row before, and that is a damage.
    """
    cores: dict[str, list[str]] = {}
    for name in table.numbers:
        core = "_".join(word for word in words(name) if word not in TRAIN | VALIDATION | TEST)
        cores.setdefault(core, []).append(name)
    column = hints.step_column
    if column is None:
        found = find_step_column(list(table.numbers))
        column = found[0] if found else None
        if "num_updates" in cores:  # fairseq: `update` beside it counts epochs in fractions
            column = min(cores["num_updates"], key=lambda name: (len(words(name)), -int(table.filled[name].sum())))
    if column is None or column not in table.numbers:
        return table, hints
    if table.filled[column].all():
        return table, Hints(column, hints.aliases)
    step, there = table.numbers[column].copy(), table.filled[column].copy()
    core = "_".join(word for word in words(column) if word not in TRAIN | VALIDATION | TEST)
    for other in cores.get(core, ()):
        more = table.filled[other] & ~there
        step[more], there = table.numbers[other][more], there | more
    damages = table.damages
    last = np.maximum.accumulate(np.where(there, np.arange(there.size), -1))
    bare = ~there & (last >= 0)
    if bare.any():
        step[bare], there = step[last[bare]], there | bare
        lines = name_lines(table.line[bare].tolist())
        damages = (*damages, Damage("no-step", file, f"{lines}: no step in column {column}, read at the step before"))
    numbers, filled = {**table.numbers, column: step}, {**table.filled, column: there}
    return replace(table, numbers=numbers, filled=filled, damages=damages), Hints(column, hints.aliases)
