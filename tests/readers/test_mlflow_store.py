"""Runs in MLflow's file store: what MLflow's own client gives, to the bit; lines of every version; damage."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindoctor.errors import UnreadableInputError
from traindoctor.readers.log import Hints
from traindoctor.readers.mlflow_store import as_value, is_mlflow_run, read_mlflow_run

FOLDER = Path(__file__).parents[2] / "fixtures" / "formats" / "mlflow-files"
EXPECTED = {run["name"]: run for run in json.loads((FOLDER / "expected.json").read_text())}
META = "experiment_id: '1'\nlifecycle_stage: active\nrun_id: abc\nrun_name: 'a name'\nstart_time: 1700000000500\n"


def place_of(name):
    (tag,) = (tag for tag in FOLDER.glob("mlruns/*/*/tags/mlflow.runName") if tag.read_text() == name)
    return tag.parent.parent


def a_run(folder, meta=META, **metrics):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "meta.yaml").write_text(meta)
    for name, content in metrics.items():
        place = folder / "metrics" / name.replace("__", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def read(folder, **hints):
    return read_mlflow_run(folder, "run", Hints(**hints))


def points(log):
    return {s.tag: list(zip(s.step.tolist(), s.value.tolist(), strict=True)) for s in log.series}


@pytest.mark.parametrize("name", EXPECTED)
def test_what_mlflows_client_gives_is_read_to_the_bit(name):
    log = read(place_of(name))
    assert log.name == name
    found = {s.tag: s for s in log.series}
    assert set(found) == set(EXPECTED[name]["metrics"])
    for tag, history in EXPECTED[name]["metrics"].items():
        stamps, values, steps = zip(*history, strict=True)
        assert found[tag].value.tobytes() == np.array(values, dtype=np.float64).tobytes()
        assert found[tag].wall_time.tolist() == [stamp / 1000 for stamp in stamps]
        if name == "plain":
            assert found[tag].step.tolist() == list(steps)


def test_parameters_are_values_again():
    log = read(place_of("plain"))
    assert log.settings == {
        "lr": 1e-3,
        "optimizer.name": "adamw",
        "betas": (0.9, 0.95),
        "amp": True,
        "seed": None,
        "note": "a b\nc",
    }
    assert log.begun == 1_760_000_000.001
    assert {d.kind for d in log.damages} == {"duplicate-steps"}  # "val loss" was logged twice at step 59


def test_values_without_steps_are_counted_and_told():
    log = read(place_of("uncounted"))
    assert log.series[0].step.tolist() == list(range(10))
    assert (log.step_unit, log.step_source) == ("row", "row")
    assert [d.kind for d in log.damages] == ["no-steps"]


def test_lines_with_a_data_set_hold_their_step():
    assert points(read(place_of("with-data"))) == {"loss": [(0, 0.5), (1, 0.4), (2, 0.3)]}  # the client gives step 0


def test_a_deleted_run_is_left_out_and_told():
    log = read(place_of("deleted"))
    assert log.series == ()
    assert [d.kind for d in log.damages] == ["deleted-run"]


def test_a_run_is_told_from_an_experiment_and_from_other_folders(tmp_path):
    found = [meta.parent.name for meta in FOLDER.glob("mlruns/**/meta.yaml") if is_mlflow_run(meta.parent)]
    assert len(found) == 4
    assert not is_mlflow_run(place_of("plain").parent)
    assert not is_mlflow_run(FOLDER)
    assert not is_mlflow_run(tmp_path / "none")
    (tmp_path / "meta.yaml").write_text("model_id: m-1\nexperiment_id: '1'\nsource_run_id: abc\n")
    assert not is_mlflow_run(tmp_path)
    with pytest.raises(UnreadableInputError, match="names no run"):
        read(tmp_path)


def test_old_lines_have_no_step_and_odd_ones_are_told(tmp_path):
    log = read(
        a_run(
            tmp_path,
            old="1000 1.0\n2000 0.5\n",
            odd="1000 1.0 0\n1000 x 1\n1000 2.0 3 4\n1000 0.5 2\n\n",
            empty="",
            large=f"1000 1.0 {2**62}\n1000 1.0 1\n",
        )
    )
    assert points(log) == {"old": [(0, 1.0), (1, 0.5)], "odd": [(0, 1.0), (2, 0.5)], "large": [(1, 1.0)]}
    told = {(d.kind, d.file): d.detail for d in log.damages}
    assert told["unreadable-line", "run/metrics/odd"] == "lines 2, 3 are no 'milliseconds value step': left out"
    assert told["unreadable-line", "run/metrics/large"].startswith("line 1 is no")
    assert ("empty-file", "run/metrics/empty") in told
    assert ("no-steps", "run") in told


def test_a_line_that_is_cut_is_left_out(tmp_path):
    log = read(a_run(tmp_path, loss="1000 1.0 0\n2000 0.5 1\n3000 0.25 2"))
    assert points(log) == {"loss": [(0, 1.0), (1, 0.5)]}
    assert [(d.kind, d.detail) for d in log.damages] == [("truncated", "line 3 is cut off: left out")]


def test_a_file_of_one_line_that_is_cut_gives_nothing(tmp_path):
    log = read(a_run(tmp_path, loss="1000 1.0 1"))
    assert log.series == ()
    assert [d.kind for d in log.damages] == ["truncated"]


def test_one_metric_without_steps_is_counted_beside_others(tmp_path):
    log = read(a_run(tmp_path, loss="1 1.0 0\n2 0.5 10\n", other="1 1.0 0\n2 0.5 0\n", last="9 3.0 0\n"))
    assert points(log) == {"last": [(0, 3.0)], "loss": [(0, 1.0), (10, 0.5)], "other": [(0, 1.0), (1, 0.5)]}
    assert log.step_unit == "step"
    assert [d.detail for d in log.damages] == ["logged without a step, so that their values are counted: other"]


def test_rows_are_counted_when_asked(tmp_path):
    log = read(a_run(tmp_path, loss="1 1.0 7\n2 0.5 9\n"), step_column="row")
    assert points(log) == {"loss": [(0, 1.0), (1, 0.5)]}
    assert log.damages == ()


def test_the_name_is_the_tag_or_stands_in_the_meta_file(tmp_path):
    assert read(a_run(tmp_path)).name == "a name"
    (tmp_path / "tags").mkdir()
    (tmp_path / "tags" / "mlflow.runName").write_text("another")
    assert read(tmp_path).name == "another"


def test_folders_without_end_and_files_without_number_are_bounded(tmp_path, monkeypatch):
    deep = "/".join(["d"] * 20)
    log = read(a_run(tmp_path, **{f"{deep}/loss": "1 1.0 0\n"}))
    assert log.series == ()
    assert [d.kind for d in log.damages] == ["unreadable-file"]
    monkeypatch.setattr("traindoctor.readers.mlflow_store.MOST_FILES", 3)
    shutil.rmtree(tmp_path / "metrics")
    log = read(a_run(tmp_path, **{f"m{i}": "1 1.0 1\n" for i in range(9)}))
    assert len(log.series) == 3
    assert [d.kind for d in log.damages] == ["unreadable-file"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3e-4", 3e-4),
        ("12", 12),
        ("True", True),
        ("None", None),
        ("(0.9, 0.999)", (0.9, 0.999)),
        ("{'a': [1, 2]}", {"a": [1, 2]}),
        ("[x for x in y]", "[x for x in y]"),
        ("(" * 5000, "(" * 5000),
        ("adamw", "adamw"),
        ("(unclosed", "(unclosed"),
    ],
)
def test_the_text_of_a_parameter_is_a_value_or_stays_a_text(text, value):
    assert as_value(text) == value


@given(st.lists(st.tuples(st.integers(-(2**40), 2**40), st.floats(allow_nan=False)), min_size=1, max_size=20))
@settings(derandomize=True, max_examples=30, deadline=None)
def test_every_float_is_read_to_the_bit(tmp_path_factory, rows):
    folder = a_run(
        tmp_path_factory.mktemp("run"), loss="".join(f"1000 {value} {step}\n" for step, value in [*rows, (1, math.inf)])
    )
    (series,) = read(folder).series
    assert series.value.tobytes() == np.array([*(value for _, value in rows), math.inf]).tobytes()
    assert series.step.tolist() == [*(step for step, _ in rows), 1]


@given(st.data())
@settings(derandomize=True, max_examples=150, deadline=None)
def test_a_mutated_metric_is_read_or_told(tmp_path_factory, draw):
    content = (place_of("plain") / "metrics" / "train" / "loss").read_bytes()
    at = draw.draw(st.integers(0, len(content)))
    changed = content[:at] + draw.draw(st.binary(max_size=12)) + content[at + draw.draw(st.integers(0, 12)) :]
    log = read(a_run(tmp_path_factory.mktemp("run"), loss=changed))
    assert sum(map(len, log.series)) >= 50 or log.damages


@given(st.integers(0, 1900))
@settings(derandomize=True, max_examples=50, deadline=None)
def test_a_cut_gives_a_prefix(tmp_path_factory, size):
    content = (place_of("plain") / "metrics" / "train" / "loss").read_bytes()
    log = read(a_run(tmp_path_factory.mktemp("run"), loss=content[:size]))
    values = log.series[0].value if log.series else np.empty(0)
    whole = {s.tag: s for s in read(place_of("plain")).series}["train/loss"].value
    assert values.tobytes() == whole[: values.size].tobytes()
    assert values.size == content[:size].count(b"\n")
