"""Stores of Trackio: what its own storage gives, to the bit."""

from __future__ import annotations

import gzip
import json
import math
import sqlite3
from datetime import datetime
from pathlib import Path

import numpy as np

from traindoctor.readers.mlflow_sqlite import read_mlflow_sqlite

FOLDER = Path(__file__).parents[2] / "fixtures" / "formats" / "trackio"
EXPECTED = json.loads((FOLDER / "expected.json").read_text())
STORE = gzip.decompress((FOLDER / "demo.db.gz").read_bytes())


def read(data):
    return read_mlflow_sqlite(data, "demo.db")


def changed(script, *rows):
    db = sqlite3.connect(":memory:")
    db.deserialize(STORE)
    db.execute(script) if not rows else db.executemany(script, rows)
    db.commit()
    return bytes(db.serialize())


def test_what_trackios_storage_gives_is_read_to_the_bit():
    logs = read(STORE)
    assert [(log.name, log.format) for log in logs] == [("first", "trackio"), ("second", "trackio")]
    for log in logs:
        rows = EXPECTED[log.name]
        steps = [row["global_step" if log.name == "second" else "step"] for row in rows]
        times = [datetime.fromisoformat(row["timestamp"]).timestamp() for row in rows]
        for series in log.series:
            if series.tag == "done":
                continue
            values = [row["grad"]["norm"] if series.tag == "grad.norm" else row[series.tag] for row in rows]
            assert series.value.tobytes() == np.array(values, dtype=np.float64).tobytes()
            assert series.step.tolist() == steps
            assert series.wall_time.tolist() == times
    assert [s.tag for s in logs[0].series] == ["train/loss", "lr", "grad.norm", "done"]
    assert logs[1].step_source == "global_step"


def test_the_config_is_the_users_own():
    first, second = read(STORE)
    assert first.settings == {"lr": 1e-3, "optimizer": {"name": "adamw"}}
    assert second.settings == {}


def test_words_and_lists_are_left_out_and_told():
    first, second = read(STORE)
    assert [d.detail for d in first.damages] == ["left out: text note (1 time), list sizes (1 time)"]
    assert second.damages == ()


def test_rows_that_are_no_json_are_told():
    insert = "INSERT INTO metrics (run_id, run_name, timestamp, step, metrics) VALUES ('x', 'x', ?, ?, ?)"
    data = changed(insert, ("no time", 5, '{"loss": 1}'), ("2026-01-02", 6, '{"loss"'), (None or "", 2**62, b'{"loss": "NaN"}'))
    log = read(data)[-1]
    (loss,) = log.series
    assert loss.step.tolist() == [5, 7]
    assert loss.value[0] == 1.0
    assert math.isnan(loss.value[1])
    assert np.isnan(loss.wall_time).all()
    assert [d.kind for d in log.damages] == ["no-step", "unreadable-cell"]


def test_a_store_without_rows_says_so():
    (log,) = read(changed("DELETE FROM metrics"))
    assert [d.kind for d in log.damages] == ["empty-file"]
