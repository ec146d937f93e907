"""The SQLite store of Trackio (`<project>.db`) -> one log for each run: a row is a call of `log`, its values JSON.

System metrics have no step and are not read.

Source: trackio/sqlite_storage.py; `serialize_values` of trackio/utils.py for what is not finite.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from traindoctor.model import Damage
from traindoctor.readers.log import Log
from traindoctor.readers.logcalls import TIME, Calls
from traindoctor.readers.sqlitefile import read_rows

if TYPE_CHECKING:
    import sqlite3

    from traindoctor.readers.log import Hints
    from traindoctor.readers.sqlitefile import Tables

FORMAT = "trackio"
METRICS = ("run_id", "run_name", "step", "timestamp", "metrics")
CONFIGS = ("run_id", "run_name", "config")
NEEDED = {"metrics": {"run_name", "step", "timestamp", "metrics"}, "configs": {"run_name", "config"}}


def is_trackio(tables: Tables) -> bool:
    """Whether the tables of an SQLite file are those of Trackio."""
    return all(columns <= tables.get(name, frozenset()) for name, columns in NEEDED.items())


def read_runs(db: sqlite3.Connection, tables: Tables, file: str, hints: Hints, lost: tuple[Damage, ...]) -> tuple[Log, ...]:
    """Return one log for each run, in the order of their first row. `lost`: what was lost before."""
    runs: dict[object, Calls] = {}
    for run, name, step, time, text in read_rows(db, tables, "metrics", METRICS):
        calls = runs.setdefault(run or name, Calls(name=str(name)))
        row = calls.add_row(step if isinstance(step, int) else None)
        values = _json(text, numbers_as_float=True)
        if not isinstance(values, dict):
            calls.add_unreadable(f"row {row + 1}")
            continue
        calls.add_values(row, {**values, TIME: _seconds(time)})
    for run, name, text in read_rows(db, tables, "configs", CONFIGS):
        config = _json(text)
        if (run or name) in runs and isinstance(config, dict):  # what begins with "_" is Trackio's own
            runs[run or name].settings = {key: value for key, value in config.items() if not key.startswith("_")}
    if not runs:
        return (Log(FORMAT, (), damages=(*lost, Damage("empty-file", file, "the store holds no row"))),)
    return tuple(calls.log(FORMAT, file, hints, () if i else lost) for i, calls in enumerate(runs.values()))


def _json(text: object, *, numbers_as_float: bool = False) -> object:
    """Return what a JSON text holds; None when it is none."""
    if not isinstance(text, str | bytes):
        return None
    try:
        return json.loads(text, parse_int=float if numbers_as_float else None)
    except (ValueError, RecursionError):
        return None


def _seconds(text: object) -> float:
    """Return the time since the epoch of a date as ISO 8601 writes it, in UTC without a zone; NaN for what is none."""
    try:
        date = datetime.fromisoformat(str(text))
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, OSError):
        return math.nan
