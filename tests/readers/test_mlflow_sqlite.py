"""SQLite stores of MLflow: what its own client gives, to the bit; other databases and hostile ones."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
import sqlite3
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindoctor.errors import UnreadableInputError
from traindoctor.readers.log import Hints
from traindoctor.readers.mlflow_sqlite import looks_like_mlflow_sqlite, read_mlflow_sqlite
from traindoctor.readers.sqlitefile import with_write_ahead_log

FOLDER = Path(__file__).parents[2] / "fixtures" / "formats" / "mlflow-sqlite"
EXPECTED = {run["name"]: run for run in json.loads((FOLDER / "expected.json").read_text())}
STORE = gzip.decompress((FOLDER / "mlflow.db.gz").read_bytes())

TABLES = """
CREATE TABLE runs (run_uuid TEXT PRIMARY KEY, name TEXT, start_time BIGINT, lifecycle_stage TEXT);
CREATE TABLE metrics (key TEXT, value FLOAT, timestamp BIGINT, run_uuid TEXT, step BIGINT, is_nan BOOLEAN);
CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);
CREATE TABLE tags (key TEXT, value TEXT, run_uuid TEXT);
"""


def database(script, *rows):
    db = sqlite3.connect(":memory:")
    db.executescript(script)
    for statement, values in rows:
        db.execute(statement, values)
    db.commit()
    return bytes(db.serialize())


def metrics(*rows, run="r", tables=TABLES):
    inserted = [("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", row) for row in rows]
    return database(tables, ("INSERT INTO runs VALUES (?, 'a', 5000, 'active')", (run,)), *inserted)


SMALL = metrics(*(("loss", 1.0 / (i + 1), 1000 * i, "r", i, 0) for i in range(40)))


def read(data, **hints):
    return read_mlflow_sqlite(data, "mlflow.db", Hints(**hints))


def points(log):
    return {s.tag: list(zip(s.step.tolist(), s.value.tolist(), strict=True)) for s in log.series}


def test_what_mlflows_client_gives_is_read_to_the_bit():
    logs = read(STORE)
    assert [log.name for log in logs] == ["plain", "uncounted", "with-data"]
    for log in logs:
        found = {s.tag: s for s in log.series}
        assert set(found) == set(EXPECTED[log.name]["metrics"])
        for tag, history in EXPECTED[log.name]["metrics"].items():
            stamps, values, steps = map(np.array, zip(*history, strict=True))
            values = np.where(np.abs(values) == sys.float_info.max, np.copysign(math.inf, values), values)
            assert found[tag].value.tobytes() == values.tobytes()
            assert found[tag].wall_time.tolist() == (stamps / 1000).tolist()
            if log.name != "uncounted":
                assert found[tag].step.tolist() == steps.tolist()


def test_infinities_are_what_was_logged():
    loss = {s.tag: s for s in read(STORE)[0].series}["train/loss"].value
    assert math.isnan(loss[30])
    assert loss[31:35].tolist() == [math.inf, -math.inf, 5e-324, 1.7e308]


def test_parameters_start_and_deleted_runs():
    plain, uncounted, _ = read(STORE)
    assert plain.settings == {
        "lr": 1e-3,
        "optimizer.name": "adamw",
        "betas": (0.9, 0.95),
        "amp": True,
        "seed": None,
        "note": "a b\nc",
    }
    assert plain.begun == 1_760_000_000.001
    assert [d.kind for d in plain.damages] == ["deleted-run", "duplicate-steps"]
    assert "deleted" in plain.damages[0].detail
    assert [d.kind for d in uncounted.damages] == ["no-steps"]
    assert uncounted.series[0].step.tolist() == list(range(10))


def test_nothing_of_the_machine_stands_in_the_fixture():
    assert not any(word in STORE for word in (b"/root", b"/tmp/"))


def test_runs_of_one_name_are_told_apart():
    runs = [
        ("INSERT INTO runs VALUES (?, ?, ?, 'active')", row)
        for row in (("a" * 32, "x", 2), ("b" * 32, "x", 1), ("c" * 32, None, 3))
    ]
    assert [log.name for log in read(database(TABLES, *runs))] == ["x bbbbbbbb", "x aaaaaaaa", "cccccccc"]


def test_the_name_may_be_a_tag():
    data = database(
        TABLES,
        ("INSERT INTO runs VALUES ('r', NULL, 1, 'active')", ()),
        ("INSERT INTO tags VALUES ('mlflow.runName', 'tagged', 'r')", ()),
    )
    assert [log.name for log in read(data)] == ["tagged"]


def test_an_old_store_without_marks_of_nan_is_read():
    tables = TABLES.replace(", step BIGINT, is_nan BOOLEAN", "")
    row = ("INSERT INTO metrics VALUES ('loss', ?, 1000, 'r')", (0.5,))
    data = database(tables, ("INSERT INTO runs VALUES ('r', 'a', 5000, 'active')", ()), row, row)
    assert points(read(data)[0]) == {"loss": [(0, 0.5), (1, 0.5)]}


def test_values_that_are_no_numbers_are_left_out_and_told():
    data = metrics(
        ("loss", 1.0, 1, "r", 0, 0),
        ("loss", "x", 1, "r", 1, 0),
        ("loss", b"\1", 1, "r", 1, 0),
        ("loss", None, 1, "r", 1, 0),
        ("loss", 1.0, 1, "r", "x", 0),
        ("loss", 1.0, 1, "r", 2**62, 0),
        (None, 1.0, 1, "r", 1, 0),
        ("loss", 1.0, 1, "other", 1, 0),
        ("loss", 3, None, "r", 5, 0),
        ("loss", 0.0, 1, "r", 6, 1),
    )
    (log,) = read(data)
    assert str(points(log)) == "{'loss': [(0, 1.0), (5, 3.0), (6, nan)]}"
    assert math.isnan(log.series[0].wall_time[1])
    assert [(d.kind, d.detail[:8]) for d in log.damages] == [("unreadable-cell", "7 values")]


def test_texts_that_are_no_utf8_do_no_harm():
    (log,) = read(SMALL.replace(b"loss", b"l\xffss"))
    assert [s.tag for s in log.series] == ["l\ufffdss"]


def test_a_store_without_a_run_says_so():
    (log,) = read(database(TABLES))
    assert [d.kind for d in log.damages] == ["empty-file"]


def test_a_file_that_goes_with_a_write_ahead_log_is_read_and_told():
    data = SMALL[:18] + b"\2\2" + SMALL[20:]
    (log,) = read(data)
    assert len(log.series[0]) == 40
    assert [d.kind for d in log.damages] == ["write-ahead-log"]


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """Return the bytes of a store that is being written, and of the log beside it: one commit in the file, two behind it."""
    path = tmp_path_factory.mktemp("live") / "mlflow.db"
    path.write_bytes(SMALL)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        for first in (40, 200):
            db.executemany("INSERT INTO metrics VALUES ('loss', 0.5, 1, 'r', ?, 0)", [(i,) for i in range(first, first + 100)])
            db.commit()
        return path.read_bytes(), path.with_name("mlflow.db-wal").read_bytes()


def steps_of(data):
    (log,) = read(data)
    assert log.damages == ()
    return log.series[0].step.tolist()


def test_what_stands_in_the_write_ahead_log_is_read(live):
    data, wal = live
    assert steps_of(with_write_ahead_log(data, wal)) == [*range(140), *range(200, 300)]
    assert steps_of(with_write_ahead_log(data)) == list(range(40))
    assert with_write_ahead_log(SMALL, wal) == SMALL  # the file says that it has none


def test_a_write_ahead_log_that_is_cut_or_damaged_gives_the_commits_before(live):
    data, wal = live
    allowed = ([*range(40)], [*range(140)], [*range(140), *range(200, 300)])
    found = [steps_of(with_write_ahead_log(data, wal[:size])) for size in range(0, len(wal) + 1, 997)]
    assert [steps for i, steps in enumerate(found) if i == 0 or steps != found[i - 1]] == list(allowed[:2])
    for at in range(3, len(wal), 1009):
        flipped = wal[:at] + bytes([wal[at] ^ 1]) + wal[at + 1 :]
        assert steps_of(with_write_ahead_log(data, flipped)) in allowed


def test_it_is_told_by_its_first_bytes():
    assert looks_like_mlflow_sqlite(STORE[:65_536], "x")
    assert not looks_like_mlflow_sqlite(b"step,loss", "mlflow.db")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is no SQLite file"),
        (SMALL[:50], "is no SQLite file"),
        (SMALL[:100], "cannot be read|no store"),
        (database("CREATE TABLE a (b); CREATE TABLE c (d)"), "no store of a tracker: its tables are a, c"),
        (database("VACUUM"), "cannot be read|no SQLite|it has no table"),
        (SMALL[:100] + b"\xff" * (len(SMALL) - 100), "cannot be read"),
    ],
)
def test_what_is_no_store_is_refused(data, why):
    with pytest.raises(UnreadableInputError, match=why):
        read(data)


HOSTILE = {
    "a view": "DROP TABLE metrics; CREATE VIEW metrics AS SELECT 'loss' AS key, 1.0 AS value, 1 AS timestamp, 'r' AS run_uuid",
    "a computed column": (
        "DROP TABLE metrics; CREATE TABLE metrics (key TEXT, timestamp BIGINT, run_uuid TEXT, "
        "value FLOAT GENERATED ALWAYS AS (length(hex(zeroblob(500000000)))) VIRTUAL)"
    ),
    "a virtual table": "DROP TABLE metrics; CREATE VIRTUAL TABLE metrics USING fts5(key, value, timestamp, run_uuid)",
    "no rowid": "DROP TABLE params; CREATE TABLE params (run_uuid TEXT, key TEXT, value TEXT, PRIMARY KEY (key)) WITHOUT ROWID",
}


@pytest.mark.parametrize("script", HOSTILE.values(), ids=HOSTILE)
def test_nothing_but_plain_tables_is_read(script):
    began = time.perf_counter()
    with pytest.raises(UnreadableInputError):
        read(database(TABLES + script, ("INSERT INTO runs VALUES ('r', 'a', 1, 'active')", ())))
    assert time.perf_counter() - began < 2.0


def with_children(page, child):
    """Return an inner page of a table all of whose children are one page."""
    page = bytearray(page)
    assert page[0] == 5
    page[8:12] = child.to_bytes(4, "big")
    for i in range(int.from_bytes(page[3:5], "big")):
        at = int.from_bytes(page[12 + 2 * i : 14 + 2 * i], "big")
        page[at : at + 4] = child.to_bytes(4, "big")
    return bytes(page)


@pytest.mark.parametrize("levels", [0, 3])
def test_a_small_database_of_endless_rows_is_left(levels):
    """Inner pages that name one page as all of their children: 0.4 MB that hold a thousand million rows, or a circle."""
    db = sqlite3.connect(":memory:")
    db.executescript(TABLES)
    db.execute("INSERT INTO runs VALUES ('r', 'a', 1, 'active')")
    db.executemany("INSERT INTO metrics VALUES ('loss', 1.0, 1, 'r', ?, 0)", [(i,) for i in range(20_000)])
    db.commit()
    (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'metrics'").fetchone()
    data = db.serialize()
    page = data[(root - 1) * 4096 : root * 4096]
    child = int.from_bytes(page[8:12], "big") if levels else root
    for _ in range(levels):
        data += with_children(page, child)
        child = len(data) // 4096
    data = data[: (root - 1) * 4096] + with_children(page, child) + data[root * 4096 :]
    data = data[:28] + (len(data) // 4096).to_bytes(4, "big") + data[32:]
    began = time.perf_counter()
    with pytest.raises(UnreadableInputError, match="more rows than its size" if levels else "malformed"):
        read(data)
    assert time.perf_counter() - began < 10.0


def reads_or_refuses(data):
    try:
        logs = read(data)
    except UnreadableInputError:
        return
    for log in logs:
        assert all(s.step.size == s.value.size == s.wall_time.size > 0 for s in log.series)


def mutate(data, draw):
    """Return bytes with a few random changes, most of them where rows and headers of pages are."""
    pages = len(data) // 4096
    for _ in range(draw.draw(st.integers(1, 8))):
        page = draw.draw(st.integers(0, pages - 1)) * 4096
        at = page + draw.draw(st.one_of(st.integers(0, 120), st.integers(0, 4095)))
        data = data[:at] + bytes([draw.draw(st.integers(0, 255))]) + data[at + 1 :]
    if draw.draw(st.integers(0, 9)) == 0:
        data = data[: draw.draw(st.integers(0, len(data)))]
    return data


@given(st.data())
@settings(derandomize=True, max_examples=300, deadline=None)
def test_a_mutated_store_is_read_or_refused(draw):
    reads_or_refuses(mutate(SMALL, draw))


@pytest.mark.slow
@given(st.data())
@settings(derandomize=True, max_examples=10_000, deadline=None)
def test_ten_thousand_mutated_stores_are_read_or_refused(draw):
    reads_or_refuses(mutate(draw.draw(st.sampled_from([SMALL, STORE])), draw))
