"""The SQLite store of MLflow (`mlflow.db`) -> one log for each run; a store of Trackio is handed on to its reader.

A NaN is kept as 0 with a mark, an infinity as the largest float. A value logged without a step has step 0.

Source: mlflow/store/tracking/dbmodels/models.py; SqlAlchemyStore.sanitize_metric_value.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage, Series
from traindoctor.readers import trackio
from traindoctor.readers.log import NO_HINTS, Hints, Log
from traindoctor.readers.mlflow_store import MILLISECONDS, as_log, as_value, listed
from traindoctor.readers.sqlitefile import MAGIC, open_sqlite, plain_tables, read_rows, what_may_lack
from traindoctor.readers.table import count_times

if TYPE_CHECKING:
    import sqlite3

    from traindoctor.readers.sqlitefile import Tables

FORMAT = "mlflow-sqlite"
METRICS = ("run_uuid", "key", "value", "timestamp", "step", "is_nan")
RUNS = ("run_uuid", "name", "start_time", "lifecycle_stage")
PAIRS = ("run_uuid", "key", "value")
#: What a store of MLflow has, of every version.
NEEDED = {"runs": {"run_uuid"}, "metrics": set(METRICS[:4]), "params": set(PAIRS)}
LARGEST_STEP = 2**62


class _Run(NamedTuple):
    uuid: str
    name: str
    begun: float


def looks_like_mlflow_sqlite(head: bytes, _: str) -> bool:
    """Whether a file is an SQLite file; whose it is, its tables say when it is read."""
    return head.startswith(MAGIC)


def read_mlflow_sqlite(data: bytes, file: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:
    """Return one log for each run that an SQLite store of MLflow, or of Trackio, holds, in the order of their start.

    Deleted runs are left out and told of. A metric whose values were all logged without a step is counted by its values.

    Raises: UnreadableInputError when it is no such store, or too damaged to be read.
    """
    with open_sqlite(data, file) as db:
        tables = plain_tables(db)
        lost = what_may_lack(data, file)
        if all(columns <= tables.get(name, frozenset()) for name, columns in NEEDED.items()):
            return _read_runs(db, tables, file, hints, lost)
        if trackio.is_trackio(tables):
            return trackio.read_runs(db, tables, file, hints, lost)
    holds = f"its tables are {listed(sorted(tables))}" if tables else "it has no table"
    raise UnreadableInputError(file, f"is an SQLite file, but no store of a tracker: {holds}", "give that of MLflow or Trackio")


def _read_runs(db: sqlite3.Connection, tables: Tables, file: str, hints: Hints, lost: tuple[Damage, ...]) -> tuple[Log, ...]:
    names = {run: str(value) for run, key, value in read_rows(db, tables, "tags", PAIRS) if key == "mlflow.runName" and value}
    runs, deleted = [], {}
    for run, name, start, stage in read_rows(db, tables, "runs", RUNS):
        if not isinstance(run, str):
            continue
        known = str(name or names.get(run, ""))
        if stage == "deleted":
            deleted[run] = known or run
        else:
            runs.append(_Run(run, known, start / MILLISECONDS if isinstance(start, int) else math.nan))
    damages = list(lost)
    if deleted:
        detail = f"{count_times(len(deleted), 'run')} deleted in MLflow, left out: {listed(list(deleted.values()))}"
        damages.append(Damage("deleted-run", file, detail))
    if not runs:
        return (Log(FORMAT, (), damages=(*damages, Damage("empty-file", file, "the store holds no run"))),)
    settings: dict[str, dict[str, object]] = {}
    for run, key, value in read_rows(db, tables, "params", PAIRS):
        if isinstance(run, str) and isinstance(key, str) and isinstance(value, str):
            settings.setdefault(run, {})[key.replace("/", ".")] = as_value(value)
    series, unreadable = _read_metrics(db, tables, file, {run.uuid for run in runs}, set(deleted))
    if unreadable:
        detail = f"{count_times(unreadable, 'value')} that no number is, or of no run, left out"
        damages.append(Damage("unreadable-cell", file, detail))
    runs.sort(key=lambda run: run.begun if math.isfinite(run.begun) else 0.0)
    named = Counter(run.name for run in runs)
    logs: list[Log] = []
    for run_ in runs:
        name_ = run_.name if run_.name and named[run_.name] == 1 else f"{run_.name} {run_.uuid[:8]}".strip()
        mine = settings.get(run_.uuid, {})
        logs.append(as_log(FORMAT, file, series.get(run_.uuid, []), [] if logs else damages, hints, mine, name_, run_.begun))
    return tuple(logs)


def _read_metrics(
    db: sqlite3.Connection, tables: Tables, file: str, runs: set[str], deleted: set[str]
) -> tuple[dict[str, list[Series]], int]:
    """Return the series of each run, and how many values could not be read."""
    columns: dict[tuple[str, str], tuple[list[int], list[float], list[float]]] = {}
    unreadable = 0
    largest = sys.float_info.max
    for run, key, value, stamp, step, is_nan in read_rows(db, tables, "metrics", METRICS):
        if run in deleted:
            continue
        at = 0 if step is None else step
        if (
            not (isinstance(run, str) and isinstance(key, str) and run in runs)
            or not isinstance(value, float | int)
            or not (isinstance(at, int) and abs(at) < LARGEST_STEP)
        ):
            unreadable += 1
            continue
        number = math.nan if is_nan else float(value)
        if abs(number) == largest:
            number = math.copysign(math.inf, number)
        steps, values, walls = columns.setdefault((run, key), ([], [], []))
        steps.append(at)
        values.append(number)
        walls.append(stamp / MILLISECONDS if isinstance(stamp, int) else math.nan)
    found: dict[str, list[Series]] = {}
    for (run_, tag), (steps, values, walls) in columns.items():
        arrays = np.array(steps, np.int64), np.array(values, np.float64), np.array(walls, np.float64)
        found.setdefault(run_, []).append(Series("", tag, *arrays, file))
    return found, unreadable
