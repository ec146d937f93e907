"""JSON documents that hold a log: records, columns, histories of Keras; and configs, which hold none."""

from __future__ import annotations

import contextlib
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.readers.test_jsonlines import mutate
from traindoctor.errors import UnreadableInputError
from traindoctor.readers.jsonlines import looks_like_jsonl
from traindoctor.readers.jsonlog import looks_like_json, looks_like_keras_history, mend, read_json, read_keras_history
from traindoctor.readers.tags import quantity_of

if TYPE_CHECKING:
    from traindoctor.readers.log import Log

KERAS = Path(__file__).parents[2] / "fixtures" / "formats" / "keras-history"
RECORDS = [{"step": 10 * i, "loss": 1.0 / (i + 1)} for i in range(6)]
LOSS = [(10 * i, 1.0 / (i + 1)) for i in range(6)]


def read(content: object) -> Log:
    [log] = read_json(json.dumps(content).encode(), "f.json")
    return log


def points(log: Log, tag: str) -> list[tuple[int, float]]:
    series = next(s for s in log.series if s.tag == tag)
    return list(zip(series.step.tolist(), series.value.tolist(), strict=True))


def kinds(log: Log) -> list[str]:
    return [damage.kind for damage in log.damages]


# -- documents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        RECORDS,
        {"metrics": RECORDS},
        {"history": RECORDS, "seed": 1},
        {"log_history": RECORDS},
        {"run": {"logs": RECORDS}},
        {"anything": RECORDS},
        {"step": [s for s, _ in LOSS], "loss": [v for _, v in LOSS]},
        {"metrics": {"step": [s for s, _ in LOSS], "loss": [v for _, v in LOSS]}},
        {str(step): {"loss": value} for step, value in LOSS},
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_shapes(content: object, indent: int | None) -> None:
    data = json.dumps(content, indent=indent).encode()
    assert looks_like_json(data, "f.json")
    [log] = read_json(data, "f.json")
    series = next(s for s in log.series if quantity_of(s.tag) == "loss")
    assert list(zip(series.step.tolist(), series.value.tolist(), strict=True)) == LOSS
    assert (log.format, log.step_unit, log.damages) == ("json", "step", ())


def test_what_stands_beside_the_records_is_settings() -> None:
    log = read({"config": {"lr": 0.1, "model": {"width": 3}}, "seed": 1, "name": "a", "best_acc": 0.1, "history": RECORDS})
    assert log.settings == {"lr": 0.1, "model": {"width": 3}, "seed": 1, "name": "a", "best_acc": 0.1}


def test_lists_of_training_and_validation_records() -> None:
    log = read({"train": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}], "val": [{"step": 2, "loss": 1.5}]})
    assert points(log, "loss") == [(1, 2.0), (2, 1.0)]
    assert points(log, "val/loss") == [(2, 1.5)]
    assert (log.damages, log.goes_back) == ((), ())


def test_columns_in_objects() -> None:
    log = read({"train": {"loss": [2.0, 1.0]}, "val": {"loss": [3.0, 2.5]}})
    assert points(log, "train/loss") == [(0, 2.0), (1, 1.0)]
    assert points(log, "val/loss") == [(0, 3.0), (1, 2.5)]
    assert log.step_unit == "epoch"


def test_lists_that_are_not_as_long_as_each_other() -> None:
    log = read({"loss": [3.0, 2.0, 1.0, 0.5], "val_loss": [3.0, 2.5]})
    assert [len(s) for s in log.series] == [4, 2]
    [damage] = log.damages
    assert damage.kind == "ragged-columns"
    assert "val_loss (2) beside 4" in damage.detail


def test_a_short_list_is_not_one_that_turns_blank() -> None:
    losses = [1.0 / i for i in range(1, 101)]
    log = read({"train_loss": losses, "val_loss": losses[:10], "grad_norm": losses, "step": [10 * i for i in range(100)]})
    assert points(log, "val_loss") == [(10 * i, loss) for i, loss in enumerate(losses[:10])]
    assert len(points(log, "train_loss")) == 100
    assert kinds(log) == ["ragged-columns"]


def test_none_in_a_list_is_not_logged() -> None:
    assert points(read({"loss": [1.0, 0.5, 0.25], "val_loss": [None, 2.0, None]}), "val_loss") == [(1, 2.0)]


def test_entries_that_are_no_objects() -> None:
    log = read([*RECORDS, 3, None])
    assert points(log, "loss") == LOSS
    assert kinds(log) == ["unreadable-line"]


@pytest.mark.parametrize(
    "content",
    [
        {"lr": 0.1, "betas": [0.9, 0.99], "milestones": [30, 60], "loss": "mse", "optimizer": {"lr": 0.1}, "epochs": 3},
        {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        {"lr": [0.1, 0.01], "steps": [0, 100]},
        [{"image_id": 1, "bbox": [1, 2, 3, 4], "score": 0.4}] * 10,
        {"layers": [{"name": "a", "units": 3}, {"name": "b", "units": 4}]},
        {"compilerOptions": {"target": "es6"}},
        {"loss": 0.1, "accuracy": 0.5},
        {"epoch": 3.0, "eval_loss": 0.5},
        [1, 2, 3],
        [],
        {},
        3,
        None,
        "loss",
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_what_is_no_log(content: object, indent: int | None) -> None:
    data = json.dumps(content, indent=indent).encode()
    assert not looks_like_json(data, "metrics.json")
    assert not looks_like_keras_history(data, "history.json")
    if content != {"epoch": 3.0, "eval_loss": 0.5}:  # one line of it is a log of one row
        assert not looks_like_jsonl(data, "metrics.json")
    with pytest.raises(UnreadableInputError, match="holds no log"):
        read(content)


@pytest.mark.parametrize(
    "data", [b"", b"step,loss\n1,2\n", b"{'a': 1}", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"{" * 9]
)
def test_what_is_no_json(data: bytes) -> None:
    assert not looks_like_json(data, "f.json")
    assert not looks_like_keras_history(data, "f.json")
    with pytest.raises(UnreadableInputError):
        read_json(data, "f.json")


def test_lines_of_json_are_no_document() -> None:
    data = "".join(json.dumps(row) + "\n" for row in RECORDS).encode()
    assert not looks_like_json(data, "f.json")


def test_the_head_of_a_long_document_is_enough() -> None:
    long = json.dumps({"seed": 1, "history": RECORDS * 10_000}).encode()
    assert looks_like_json(long[:65_536], "f.json")
    history = json.dumps({"loss": [0.1] * 50_000, "val_loss": [0.2] * 50_000}).encode()
    assert looks_like_keras_history(history[:65_536], "f.json")


# -- histories of Keras -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["history", "diverged"])
def test_a_history_of_keras(name: str) -> None:
    data = (KERAS / f"{name}.json").read_bytes()
    assert looks_like_keras_history(data, "f.json")
    [log] = read_keras_history(data, "f.json")
    content = json.loads(data)
    for series in log.series:
        assert series.step.tolist() == list(range(len(series)))
        assert series.value.tobytes() == np.array(content[series.tag]).tobytes()
    assert {s.tag for s in log.series} == content.keys()
    assert (log.format, log.step_unit, log.damages) == ("keras-history", "epoch", ())
    roles = {s.tag: quantity_of(s.tag) for s in log.series}
    assert (roles["loss"], roles["val_loss"], roles["learning_rate"]) == ("loss", "val_loss", "learning_rate")


def test_a_cut_history_gives_what_is_whole() -> None:
    data = (KERAS / "history.json").read_bytes().rstrip()
    content = json.loads(data)
    for size in range(data.index(b",") + 1, len(data)):
        [log] = read_keras_history(data[:size], "f.json")
        assert log.series
        for series in log.series:
            assert series.value.tolist() == content[series.tag][: len(series)]
        assert kinds(log) == ["truncated"]


def test_a_history_of_numbers_that_are_no_quantity_is_an_error() -> None:
    with pytest.raises(UnreadableInputError, match="not an object of lists"):
        read_keras_history(b"[1, 2]", "f.json")
    with pytest.raises(UnreadableInputError, match="no list of numbers"):
        read_keras_history(b'{"a": "b"}', "f.json")


# -- a cut document ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ('{"a": [1, 2, 3', '{"a": [1, 2]}'),
        ('{"a": [1, 2], "b": "x, ]', '{"a": [1, 2]}'),
        ('{"a": [{"b": 1, "c": 2}, {"b": 1, "c', '{"a": [{"b": 1, "c": 2}]}'),
        ('{"a": [{"b": [1, 2], "c": [3', '{"a": []}'),
        ('{"a": {"b": 1, "c": 2', '{"a": {"b": 1}}'),
        ('[{"a": 1}, {"a"', '[{"a": 1}]'),
        ('{"a\\"]": [1, 2', '{"a\\"]": [1]}'),
        ("", ""),
        ("}", ""),
        ('{"a": 1]', ""),
    ],
)
def test_mend(text: str, mended: str) -> None:
    assert mend(text) == mended


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=25,
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(JSONS.filter(lambda content: isinstance(content, (list, dict))), st.data())
def test_what_is_mended_parses(content: object, data: st.DataObject) -> None:
    text = json.dumps(content)
    cut = text[: data.draw(st.integers(0, len(text)))]
    mended = mend(cut)
    if mended:
        assert isinstance(json.loads(mended), type(content))
    assert mend(text) == text


@pytest.mark.parametrize("data", [b'["' * 500_000, b'"\\"' * 500_000, b"[1," * 300_000, b'{"a":1,' * 300_000, b"[]," * 500_000])
def test_mending_takes_no_longer_than_the_size(data: bytes) -> None:
    begin = time.process_time()
    mend(data.decode())
    mend("[" + data.decode())
    assert time.process_time() - begin < 3


def check_mutation(data: st.DataObject) -> None:
    content = data.draw(
        st.sampled_from(
            [RECORDS, {"config": {"lr": 1}, "history": RECORDS}, {"train": {"loss": [1.0, math.nan]}, "val": {"loss": [2]}}]
        )
    )
    keras = data.draw(st.booleans())
    mutated = (KERAS / "history.json").read_bytes() if keras else json.dumps(content).encode()
    for _ in range(data.draw(st.integers(1, 4))):
        mutated = mutate(mutated, data)
    looks_like_json(mutated, "f")
    looks_like_keras_history(mutated, "f")
    for read_it in (read_json, read_keras_history):
        with contextlib.suppress(UnreadableInputError):
            read_it(mutated, "f")


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.data())
def test_mutations_raise_nothing_else(data: st.DataObject) -> None:
    check_mutation(data)


@pytest.mark.slow
@settings(derandomize=True, max_examples=10_000, deadline=None)
@given(st.data())
def test_many_mutations_raise_nothing_else(data: st.DataObject) -> None:
    check_mutation(data)
