"""Objects as columns."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from traindoctor.readers import jsonrows
from traindoctor.readers.jsonrows import MAX_DEPTH, MAX_LIST, Rows, flatten, moment, number
from traindoctor.readers.log import NO_HINTS, Hints, Log


def read(*rows: dict[str, object], hints: Hints = NO_HINTS) -> Log:
    gathered = Rows("f.jsonl")
    gathered.add(list(rows), range(1, len(rows) + 1))
    [log] = gathered.logs(gathered.table("row"), "jsonl", hints)
    return log


def points(log: Log, tag: str) -> list[tuple[int, float]]:
    series = next(s for s in log.series if s.tag == tag)
    return list(zip(series.step.tolist(), series.value.tolist(), strict=True))


def kinds(log: Log) -> list[str]:
    return [damage.kind for damage in log.damages]


@pytest.mark.parametrize(
    ("value", "known"),
    [
        (1, 1.0),
        (1.5, 1.5),
        ("1e-4", 1e-4),
        ("-Infinity", -math.inf),
        ("inf", math.inf),
        (" 2 ", 2.0),
        (2**60 + 1, float(2**60 + 1)),
        (True, None),
        (None, None),
        ("", None),
        ("1_000", None),
        ("fast", None),
        (10**400, None),
        ("9" * 100, None),
        ([], None),
    ],
)
def test_number(value: object, known: float | None) -> None:
    assert number(value) == known


@pytest.mark.parametrize("word", ["nan", "NaN", " nan"])
def test_nan_in_a_string_is_a_number(word: str) -> None:
    known = number(word)
    assert known is not None
    assert math.isnan(known)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:01:00", 60.0),
        ("1970-01-01 00:01:00,500", 60.5),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01T00:00:01Z", 1.0),
        ("yesterday", None),
        ("9999-99-99T00:00:00", None),
    ],
)
def test_moment(text: str, seconds: float | None) -> None:
    assert moment(text) == seconds


def test_objects_and_lists_get_names_of_both() -> None:
    row = {"train": {"loss": 1.0, "lrs": [0.1, 0.2]}, "step": 3}
    assert list(flatten(row)) == [("train/loss", 1.0), ("train/lrs/0", 0.1), ("train/lrs/1", 0.2), ("step", 3)]


def test_what_is_too_long_or_too_deep_comes_as_it_is() -> None:
    deep: dict[str, object] = {"x": 1}
    for _ in range(MAX_DEPTH + 5):
        deep = {"x": deep}
    [(name, value)] = flatten(deep)
    assert name.count("/") == MAX_DEPTH - 1
    assert isinstance(value, dict)
    assert list(flatten({"h": [0] * (MAX_LIST + 1)})) == [("h", [0] * (MAX_LIST + 1))]


def test_a_name_of_megabytes_is_not_repeated_for_all_that_lies_below_it() -> None:
    row = {"x" * 10**6: {str(i): i for i in range(10_000)}}
    assert [(len(name), type(value)) for name, value in flatten(row)] == [(10**6, dict)]


def test_what_is_no_number_beside_numbers_is_told() -> None:
    log = read({"step": 1, "loss": 1.0, "note": "go"}, {"step": 2, "loss": "?", "note": "on"}, {"step": 3, "loss": True})
    assert points(log, "loss") == [(1, 1.0)]
    [damage] = log.damages
    assert (damage.kind, damage.detail) == ("unreadable-cell", "column loss: no number 2 times, first at lines 2, 3")
    assert [s.tag for s in log.series] == ["loss"]


def test_a_long_list_is_told() -> None:
    log = read({"step": 1, "loss": 1.0, "h": [0] * 100})
    [damage] = log.damages
    assert damage.detail == "lists of more than 64 values, or objects more than 16 deep, are left out: h"


@pytest.mark.parametrize("blank", [None, "", "None", "null", {}, []])
def test_blanks_are_not_logged(blank: object) -> None:
    log = read({"step": 1, "loss": 1.0, "lr": 0.1}, {"step": 2, "loss": 0.5, "lr": blank})
    assert points(log, "lr") == [(1, 0.1)]
    assert log.damages == ()


def test_rows_of_several_kinds_keep_their_order() -> None:
    rows = [{"step": i, "loss": float(i)} if i % 3 else {"step": i, "val_loss": -float(i)} for i in range(60)]
    log = read(*rows)
    assert points(log, "loss") == [(i, float(i)) for i in range(60) if i % 3]
    assert points(log, "val_loss") == [(i, -float(i)) for i in range(60) if not i % 3]
    assert (log.damages, log.goes_back) == ((), ())


@pytest.mark.parametrize("word", ["val", "valid", "eval", "Validation", "dev"])
@pytest.mark.parametrize("field", ["mode", "split", "phase"])
def test_a_field_says_that_a_row_is_of_validation(field: str, word: str) -> None:
    log = read({field: "train", "step": 1, "loss": 2.0}, {field: word, "step": 1, "loss": 1.0, "val_acc": 0.5})
    assert points(log, "loss") == [(1, 2.0)]
    assert points(log, "val/loss") == [(1, 1.0)]
    assert points(log, "val_acc") == [(1, 0.5)]


def test_rows_of_one_value_are_series_by_name() -> None:
    log = read(
        {"tag": "loss", "step": 1, "value": 2.0}, {"tag": "lr", "step": 1, "value": 0.1}, {"tag": "loss", "step": 2, "value": 1.0}
    )
    assert points(log, "loss") == [(1, 2.0), (2, 1.0)]
    assert points(log, "lr") == [(1, 0.1)]


# -- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["config", "hparams", "args", "hyperparameters"])
def test_settings_in_the_first_row(name: str) -> None:
    log = read({name: {"lr": 0.1, "model": {"width": 4}}}, {"step": 1, "loss": 1.0})
    assert log.settings == {"lr": 0.1, "model": {"width": 4}}
    assert [s.tag for s in log.series] == ["loss"]


def test_a_first_row_of_settings_without_a_name() -> None:
    row = {"lr": 0.1, "epochs": 10, "batch_size": 8, "optimizer": "adam"}
    log = read(row, {"epoch": 1, "lr": 0.1, "loss": 1.0})
    assert log.settings == row
    assert points(log, "lr") == [(1, 0.1)]


@pytest.mark.parametrize(
    "row", [{"step": 0, "lr": 0.1}, {"step": 0, "eval_accuracy": 0.1}, {"step": 0, "reward": -3.0}, {"step": 0, "loss": 3.0}]
)
def test_a_first_row_of_values_is_no_settings(row: dict[str, object]) -> None:
    log = read(row, {"step": 1, "loss": 1.0, "lr": 0.1})
    assert log.settings == {}
    assert any(s.step[0] == 0 for s in log.series)


def test_settings_in_every_row_are_no_series() -> None:
    rows = [{"training_iteration": i, "reward": 1.0 * i, "config": {"lr": 0.1}, "config/gamma": 0.9} for i in range(3)]
    log = read(*rows)
    assert log.settings == {"lr": 0.1, "gamma": 0.9}
    assert [s.tag for s in log.series] == ["reward"]
    assert log.damages == ()


def test_settings_that_change_are_told() -> None:
    log = read({"step": 1, "loss": 1.0, "config": {"lr": 0.1}}, {"step": 2, "loss": 1.0, "config": {"lr": 0.2}})
    assert log.settings == {"lr": 0.1}
    assert kinds(log) == ["settings-change"]


# -- steps ------------------------------------------------------------------------------------------------------------


def test_a_row_without_a_step_is_read_at_the_step_before_and_told() -> None:
    log = read({"step": 5, "loss": 1.0}, {"val_loss": 2.0}, {"step": 6, "loss": 0.5})
    assert points(log, "val_loss") == [(5, 2.0)]
    [damage] = log.damages
    assert (damage.kind, damage.detail) == ("no-step", "line 2: no step in column step, read at the step before")


def test_a_row_before_any_step_is_left_out_and_told() -> None:
    log = read({"val_loss": 2.0}, {"step": 6, "loss": 0.5}, {"step": 7, "loss": 0.5})
    assert "val_loss" not in [s.tag for s in log.series]
    assert kinds(log) == ["no-step"]


def test_steps_by_the_names_of_fairseq() -> None:
    log = read(
        {"update": 0.5, "loss": "2.0", "num_updates": "100"},
        {"valid_loss": "1.5", "valid_num_updates": "100"},
        {"update": 1.0, "loss": "1.0", "num_updates": "200"},
    )
    assert (log.step_source, log.damages) == ("num_updates", ())
    assert points(log, "valid_loss") == [(100, 1.5)]


def test_the_column_that_is_asked_for_counts() -> None:
    log = read({"step": 1, "tokens": 10, "loss": 1.0}, {"step": 2, "tokens": 20, "loss": 0.5}, hints=Hints("tokens"))
    assert points(log, "loss") == [(10, 1.0), (20, 0.5)]


def test_rows_are_counted_where_nothing_counts() -> None:
    log = read({"loss": 1.0}, {"loss": 0.5})
    assert (log.step_unit, points(log, "loss")) == ("row", [(0, 1.0), (1, 0.5)])


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_more_columns_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonrows, "MAX_COLUMNS", 10)
    log = read(*({"step": i, "loss": 1.0, f"x{i}": 1.0} for i in range(30)))
    assert len(log.series) == 9
    [damage] = log.damages
    assert damage.kind == "too-many-columns"
    assert "x8, x9, x10, x11, x12 and 17 more" in damage.detail


def test_more_cells_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonrows, "MAX_CELLS", 300)
    log = read(
        *(
            {"step": i, "full": 1.0, **({f"x{k}": 1.0 for k in range(20)} if i else {}), "loss": 1.0 / i if i % 2 else None}
            for i in range(30)
        )
    )
    assert {"full", "loss", "x0"} <= {s.tag for s in log.series}
    assert len(log.series) == 1 + 10
    assert kinds(log) == ["too-many-columns"]


def test_wall_times_of_three_kinds() -> None:
    for value, seconds in (("2023-11-14T22:13:20Z", 1.7e9), (1.7e9, 1.7e9), ("1700000000", 1.7e9)):
        log = read({"step": 1, "loss": 1.0, "timestamp": value})
        assert log.series[0].wall_time.tolist() == [seconds]
        assert log.begun == seconds
    assert math.isnan(read({"step": 1, "loss": 1.0}).begun)


def test_values_are_those_of_python() -> None:
    texts = [
        "0.1",
        "1e-320",
        "2.5",
        "17",
        "9007199254740993",
        "-0.0",
        "1.7976931348623157e308",
        "1e400",
        "123456789012345678901234567890",
    ]
    log = read(*(json.loads(f'{{"step": {i}, "loss": {text}}}') for i, text in enumerate(texts)))
    expected = np.array([float(text) for text in texts])
    assert log.series[0].value.tobytes() == expected.tobytes()
