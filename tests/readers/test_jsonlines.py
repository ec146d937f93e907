"""JSON lines of any shape, and those of mmengine, mmcv, Detectron2 and fairseq."""

from __future__ import annotations

import contextlib
import io
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindoctor.errors import UnreadableInputError
from traindoctor.readers import jsonlines
from traindoctor.readers.jsonlines import (
    looks_like_detectron2,
    looks_like_jsonl,
    looks_like_mmengine,
    read_detectron2,
    read_jsonl,
    read_mmengine,
)
from traindoctor.readers.tags import quantity_of

if TYPE_CHECKING:
    from traindoctor.readers.log import Log

FORMATS = Path(__file__).parents[2] / "fixtures" / "formats"
ROWS = [{"step": i, "loss": 1.0 / (i + 1), "lr": 1e-3} for i in range(8)]
LINES = [json.dumps(row).encode() for row in ROWS]


def read(data: bytes) -> Log:
    [log] = read_jsonl(data, "f.jsonl")
    return log


def points(log: Log, tag: str) -> list[tuple[int, float]]:
    series = next(s for s in log.series if s.tag == tag)
    return list(zip(series.step.tolist(), series.value.tolist(), strict=True))


def kinds(log: Log) -> list[str]:
    return [damage.kind for damage in log.damages]


LOSS = [(i, 1.0 / (i + 1)) for i in range(8)]


@pytest.mark.parametrize(
    "data",
    [
        b"\n".join(LINES) + b"\n",
        b"\n".join(LINES),
        b"\r\n".join(LINES) + b"\r\n",
        b"\r".join(LINES) + b"\r",
        b"\xef\xbb\xbf" + b"\n".join(LINES) + b"\n",
        b"\n".join(LINES).decode().encode("utf-16"),
        b"\n\n".join(LINES) + b"\n  \n",
        b" " + b"\n\t".join(LINES) + b"\n",
        b",\n".join(LINES) + b"\n",
        b"\n".join(LINES) + b"\n" + bytes(40),
        b"\0\0\0" + b"\n\0\0".join(LINES) + b"\n",
    ],
)
def test_line_ends_and_blanks(data: bytes) -> None:
    assert looks_like_jsonl(data, "f")
    log = read(data)
    assert points(log, "loss") == LOSS
    assert (log.format, log.step_unit, log.step_source, log.damages) == ("jsonl", "step", "step", ())


def test_bare_nan_and_infinities_are_data() -> None:
    log = read(b'{"step": 1, "loss": NaN}\n{"step": 2, "loss": -Infinity}\n{"step": 3, "loss": Infinity}\n')
    assert math.isnan(log.series[0].value[0])
    assert log.series[0].value[1:].tolist() == [-math.inf, math.inf]


def test_the_last_of_two_values_of_one_name_counts_as_in_python() -> None:
    assert points(read(b'{"step": 1, "loss": 1, "loss": 2}\n'), "loss") == [(1, 2.0)]


@pytest.mark.parametrize(
    ("line", "kind", "detail"),
    [
        (b"\x00\xff\xfe\x12", "unreadable-line", "line 4: no JSON object, left out"),
        (b'{"step": 3, "lo', "unreadable-line", "line 4: no JSON object can be read there, left out"),
        (b"[1, 2]", "unreadable-line", "line 4: no JSON object, left out"),
        (b"17", "unreadable-line", "line 4: no JSON object, left out"),
        (b'{"a": ' + b"9" * 5000 + b"}", "unreadable-line", "line 4: no JSON object can be read there, left out"),
        (b'{"a": ' * 100_000, "unreadable-line", "line 4: no JSON object can be read there, left out"),
        (b'{"a": 1} {"b": 2}', "unreadable-line", "line 4: no JSON object can be read there, left out"),
    ],
)
def test_a_damaged_line_is_lost_alone_and_told(line: bytes, kind: str, detail: str) -> None:
    log = read(b"\n".join([*LINES[:3], line, *LINES[3:]]) + b"\n")
    assert points(log, "loss") == LOSS
    assert [(d.kind, d.detail) for d in log.damages] == [(kind, detail)]


def test_a_line_that_is_too_long_is_lost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonlines, "BLOCK", 200)
    monkeypatch.setattr(jsonlines, "LONGEST_LINE", 1000)
    long = b'{"step": 3, "text": "' + b"x" * 2000 + b'"}'
    log = read(b"\n".join([*LINES[:3], long, *LINES[3:]]) + b"\n")
    assert points(log, "loss") == LOSS
    assert kinds(log) == ["long-line"]
    assert log.damages[0].detail.startswith("line 4: ")


@pytest.mark.parametrize("block", [1, 60, 61, 1000])
def test_blocks_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonlines, "BLOCK", block)
    log = read(b"\n".join([*LINES[:3], b"?", *LINES[3:]]))
    assert points(log, "loss") == LOSS
    assert [d.detail for d in log.damages] == ["line 4: no JSON object, left out"]


def test_many_damaged_lines_are_counted() -> None:
    log = read(b"\n".join([LINES[0]] + [b"{?"] * 1000) + b"\n")
    assert log.damages[0].detail.startswith("1,000 lines, 2, 3, 4, 5, 6 first: ")


def test_a_cut_at_any_byte_gives_a_prefix_and_at_most_one_damage() -> None:
    data = b"\n".join(LINES) + b"\n"
    for size in range(1, len(data)):
        whole = data[:size].count(b"\n") + (data[size : size + 1] == b"\n")
        log = read(data[:size])
        assert (points(log, "loss") if log.series else []) == LOSS[:whole]
        assert kinds(log) in ([], ["truncated"])
        assert (kinds(log) == []) == (data[size - 1 : size] in (b"\n", b"}"))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git-lfs"),
        (b"no object\nat all\n", "no line is a JSON object"),
        (b"no object", "no line is a JSON object"),
    ],
)
def test_what_holds_no_object_is_an_error(data: bytes, what: str) -> None:
    with pytest.raises(UnreadableInputError, match=what):
        read_jsonl(data, "f")


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\0\0\0"])
def test_an_empty_file_is_a_damage(data: bytes) -> None:
    log = read(data)
    assert (log.series, kinds(log)) == ((), ["empty-file"])


def test_words_alone_are_no_series() -> None:
    log = read(b'{"name": "a"}\n{"name": "b"}\n')
    assert (log.series, kinds(log)) == ((), ["empty-file"])


# -- what it is -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        '{"lr": 0.1, "epochs": 3, "loss_weight": 0.5, "loss": "ce"}\n',
        '{"lr": 0.1, "epochs": 3, "batch_size": 4}\n',
        '{"id": 1, "question": "a", "score": 1}\n{"id": 2, "question": "b", "score": 2}\n',
        '{"steps": 7, "score": 1}\n{"steps": 3, "score": 1}\n{"steps": 3, "score": 0}\n',
        '{\n  "loss": [1, 2]\n}\n',
        "step,loss\n1,2\n",
        "{}\n{}\n",
        '[{"step": 1, "loss": 2}]\n',
        "def f():\n    return {}\n",
        "loss = {1: 2}\n",
    ],
)
def test_what_is_no_log(text: str) -> None:
    assert not looks_like_jsonl(text.encode(), "f.jsonl")


def test_long_texts_with_a_step_are_a_data_set() -> None:
    rows = [{"step": i, "loss": 1.0, "text": "word " * 1000} for i in range(5)]
    assert not looks_like_jsonl("".join(json.dumps(row) + "\n" for row in rows).encode(), "f.jsonl")


@pytest.mark.parametrize(
    "text",
    [
        '{"step": 1, "loss": 2.0}\n',
        '{"training_iteration": 1, "episode_reward_mean": 2.0}\n{"training_iteration": 2, "episode_reward_mean": 3.0}\n',
        '{"config": {"lr": 1}}\n{"step": 1, "loss": 2.0}\n',
        '{"tag": "loss", "step": 1, "value": 2.0}\n{"tag": "loss", "step": 2, "value": 1.0}\n',
        '2020 | INFO | fairseq | begin\n2020 | INFO | train | {"epoch": 1, "train_loss": "1.5"}\n' * 2,
        '{"loss": 2.0}\n{"loss": 1.0}\n{"lo',
    ],
)
def test_what_is_a_log(text: str) -> None:
    assert looks_like_jsonl(text.encode(), "anything")


@pytest.mark.parametrize("name", ["by-epoch.json", "by-iteration.json", "detection.json"])
def test_mmengine_is_recognised(name: str) -> None:
    head = (FORMATS / "mmengine" / name).read_bytes()
    assert looks_like_mmengine(head, "f")
    assert not looks_like_detectron2(head, "f")


def test_other_lines_are_not_taken_for_mmengine_or_detectron2() -> None:
    for file in (FORMATS / "jsonl").glob("*l*g"):
        assert not looks_like_mmengine(file.read_bytes(), file.name)
        assert not looks_like_detectron2(file.read_bytes(), file.name)
    assert not looks_like_mmengine(b"\n".join(LINES) + b"\n", "scalars.json")
    assert not looks_like_detectron2(b"\n".join(LINES) + b"\n", "metrics.json")


# -- formats ----------------------------------------------------------------------------------------------------------


def test_a_real_run_of_mmengine() -> None:
    data = (FORMATS / "mmengine" / "detection.json").read_bytes()
    [log] = read_mmengine(data, "f")
    assert (log.format, log.step_source, log.damages, log.goes_back) == ("mmengine", "step", (), ())
    roles = {s.tag: quantity_of(s.tag) for s in log.series}
    assert (roles["loss"], roles["lr"], roles["loss_classifier"], roles["epoch"]) == (
        "loss",
        "learning_rate",
        "loss_term",
        "epoch",
    )
    rows = [json.loads(line) for line in data.splitlines()]
    assert points(log, "loss") == [(row["step"], row["loss"]) for row in rows if "loss" in row]
    trained = [row["step"] for row in rows if "loss" in row]
    assert points(log, "val/bbox_mAP") == list(zip(trained, [r["bbox_mAP"] for r in rows if "bbox_mAP" in r], strict=True))
    assert not any(s.tag == "bbox_mAP" for s in log.series)
    assert points(log, "val/time") != points(log, "time")


@pytest.mark.parametrize(("name", "steps"), [("by-epoch.json", [15, 31, 47, 63]), ("by-iteration.json", [20, 40, 60])])
def test_evaluations_of_mmengine_stand_at_training_steps(name: str, steps: list[int]) -> None:
    [log] = read_mmengine((FORMATS / "mmengine" / name).read_bytes(), "f")
    evaluated = next(s for s in log.series if s.tag == "val/mse")
    trained = next(s for s in log.series if s.tag == "loss").step
    assert len(evaluated) == len(steps)
    last = [int(trained[trained <= step + 1][-1]) for step in steps]
    assert evaluated.step.tolist() == last or evaluated.step.tolist() == steps
    assert log.damages == ()


def mmcv(first: str = "optimizer = dict(type='SGD', lr=0.02, betas=(0.9, 0.99))\nmodel = Net()\n") -> bytes:
    rows: list[dict[str, object]] = [{"env_info": "sys.platform: linux", "config": first, "seed": 0}]
    for epoch in (1, 2, 3):
        row = {"mode": "train", "epoch": epoch, "lr": 0.02, "memory": 5, "data_time": 0.1, "loss": 3.0 / epoch}
        rows += [{**row, "iter": i} for i in (50, 100, 150)]
        rows.append({"mode": "val", "epoch": epoch, "iter": 5000, "lr": 0.02, "mAP": 0.1 * epoch, "copypaste": "0.1 0.2"})
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_mmcv_counts_iterations_within_epochs_and_holds_its_config() -> None:
    assert looks_like_mmengine(mmcv(), "f.log.json")
    [log] = read_mmengine(mmcv(), "f")
    assert [step for step, _ in points(log, "loss")] == [50, 100, 150, 200, 250, 300, 350, 400, 450]
    assert [step for step, _ in points(log, "val/mAP")] == [150, 300, 450]
    assert log.settings["optimizer"] == {"type": "SGD", "lr": 0.02, "betas": [0.9, 0.99]}
    assert "model" not in log.settings
    assert log.settings["seed"] == 0
    assert kinds(log) == ["steps-of-epochs"]


@pytest.mark.parametrize("config", ["not python (", "x = " + "-" * 50_000 + "1", "(" * 10_000, "a.b = 1", "x = f'{1}'", "\0"])
def test_a_config_that_cannot_be_read_stays_text(config: str) -> None:
    [log] = read_mmengine(mmcv(config), "f")
    assert log.settings["config"] == config


def test_a_config_is_not_run() -> None:
    config = "a = __import__('os').system('false')\nb = dict(c=open('x'))\nd = [1, dict(e=(2, 3))]\n"
    [log] = read_mmengine(mmcv(config), "f")
    assert log.settings == {"env_info": "sys.platform: linux", "seed": 0, "d": [1, {"e": [2, 3]}]}


def test_detectron2() -> None:
    data = (FORMATS / "detectron2" / "metrics.json").read_bytes()
    assert looks_like_detectron2(data, "f")
    [log] = read_detectron2(data, "f")
    assert (log.format, log.step_source, log.damages, log.goes_back) == ("detectron2", "iteration", (), ())
    roles = {s.tag: quantity_of(s.tag) for s in log.series}
    assert (roles["total_loss"], roles["lr"], roles["loss_cls"], roles["bbox/AP"]) == ("loss", "learning_rate", "loss_term", "")
    assert points(log, "bbox/AP") == [(199, 9.95), (399, 19.95)]


def test_one_run_written_in_three_ways() -> None:
    logs = {file.name: read(file.read_bytes()) for file in (FORMATS / "jsonl").glob("*l*")}
    nested, logger, long = logs["nested.jsonl"], logs["logger.log"], logs["long.jsonl"]
    assert points(nested, "train/loss") == points(long, "train/loss")
    assert points(nested, "val/loss") == points(long, "val/loss")
    assert np.allclose([v for _, v in points(logger, "loss")], [v for _, v in points(nested, "train/loss")], rtol=1e-5)
    assert [step for step, _ in points(logger, "valid_loss")] == [10, 20, 30, 40]
    assert nested.settings == {"lr": 0.05, "optimizer": "adamw", "batch_size": 64}
    assert (nested.step_source, logger.step_source) == ("_step", "num_updates")
    assert kinds(nested) == kinds(long) == []
    assert kinds(logger) == ["other-lines"]
    assert nested.begun == 1_700_000_001.0
    assert logger.series[0].wall_time[0] == 1_699_999_981.0  # 22:13:01, taken as UTC
    assert not {"timestamp", "written at", "val/written at"} & {s.tag for s in logger.series}
    for log, tag in (
        (nested, "train/loss"),
        (nested, "val/loss"),
        (nested, "train/grad_norm"),
        (logger, "gnorm"),
        (logger, "valid_loss"),
    ):
        expected = "grad_norm" if "norm" in tag else "val_loss" if "val" in tag else "loss"
        assert quantity_of(next(s.tag for s in log.series if s.tag == tag)) == expected


def test_the_logger_of_a_line_says_what_data_it_is_of() -> None:
    lines = [
        '2020-01-01 00:00:01 | INFO | train | {"num_updates": 1, "loss": 2.0}',
        '2020-01-01 00:00:02 | INFO | valid | {"num_updates": 1, "loss": 3.0}',
    ]
    log = read("\n".join(lines).encode())
    assert points(log, "loss") == [(1, 2.0)]
    assert points(log, "val/loss") == [(1, 3.0)]


def test_the_config_that_fairseq_logs_is_settings_and_is_not_run() -> None:
    row = b'2020 | INFO | train_inner | {"num_updates": "1", "loss": "2.0"}\n'
    log = read(b"2020 | INFO | fairseq_cli.train | {'optimization': {'lr': [0.1], 'clip_norm': 0.0}}\n" + row)
    assert log.settings == {"optimization": {"lr": [0.1], "clip_norm": 0.0}}
    assert log.damages == ()
    for text in (b"{'a': print('x')}", b"{'a': " + b"(" * 5000, b"{'a': [" + b"-" * 5000 + b"1]}", b"{'a': {[]: 1}}", b"{'a'}"):
        log = read(b"2020 | INFO | fairseq_cli.train | " + text + b"\n" + row)
        assert (dict(log.settings), kinds(log)) == ({}, ["other-lines"])


def test_a_batch_before_the_object_is_its_step() -> None:
    log = read(b'[metric][batch=3]: {"loss/train/total": 2.0}\n[metric][batch=4]: {"loss/train/total": 1.0}\n')
    assert points(log, "loss/train/total") == [(3, 2.0), (4, 1.0)]


# -- exactness --------------------------------------------------------------------------------------------------------

VALUES = st.one_of(st.floats(), st.integers(-(2**63), 2**63 - 1))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=30))
def test_values_are_those_of_the_json_module_bit_for_bit(values: list[float]) -> None:
    data = "".join(json.dumps({"step": i, "loss": value}) + "\n" for i, value in enumerate(values)).encode()
    expected = np.array([json.loads(line)["loss"] for line in data.splitlines()], dtype=np.float64)
    assert read(data).series[0].value.tobytes() == expected.tobytes()


def test_values_are_those_of_pandas() -> None:
    rng = np.random.default_rng(0)
    rows = [{"step": i, "loss": float(rng.normal()), "lr": float(10 ** rng.uniform(-12, 3))} for i in range(5000)]
    data = "".join(json.dumps(row) + "\n" for row in rows)
    frame = pd.read_json(io.StringIO(data), lines=True, precise_float=True)
    log = read(data.encode())
    for series in log.series:
        assert series.step.tolist() == frame["step"].tolist()
        assert series.value.tolist() == [row[series.tag] for row in rows]
        assert np.allclose(series.value, frame[series.tag], rtol=1e-15, atol=0)  # pandas' own parser is an ulp off at times


# -- hostile input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        LINES[0] + b"\n" + b"{" * 3_000_000,
        LINES[0] + b"\n" + b'{"a":[\n' * 300_000,
        LINES[0] + b"\n" + b'{"' + b"\\" * 3_000_000,
        LINES[0] + b"\n" + b"{ " * 1_500_000 + b"\n",
        LINES[0] + b"\n" + b"\n" * 3_000_000,
        LINES[0] + b"\n" + b"\0" * 3_000_000,
    ],
)
def test_hostile_lines_take_no_longer_than_their_size(data: bytes) -> None:
    begin = time.process_time()
    assert points(read(data), "loss") == [(0, 1.0)]
    assert time.process_time() - begin < 3


def mutate(data: bytes, draw: st.DataObject) -> bytes:
    kind = draw.draw(st.sampled_from(["cut", "flip", "insert", "repeat", "remove"]))
    at = draw.draw(st.integers(0, len(data)))
    size = draw.draw(st.integers(1, 40))
    if kind == "cut":
        return data[:at]
    if kind == "flip":
        return data[: at - 1] + bytes([data[at - 1] ^ (1 << size % 8)]) + data[at:] if at else data
    if kind == "insert":
        return data[:at] + draw.draw(st.binary(max_size=40)) + data[at:]
    if kind == "repeat":
        return data[: at + size] + data[at:]
    return data[:at] + data[at + size :]


SAMPLES = [
    (FORMATS / "jsonl" / "nested.jsonl", looks_like_jsonl, read_jsonl),
    (FORMATS / "jsonl" / "logger.log", looks_like_jsonl, read_jsonl),
    (FORMATS / "mmengine" / "by-epoch.json", looks_like_mmengine, read_mmengine),
    (FORMATS / "detectron2" / "metrics.json", looks_like_detectron2, read_detectron2),
]


def check_mutation(data: st.DataObject) -> None:
    file, looks_like, read_it = data.draw(st.sampled_from(SAMPLES))
    mutated = file.read_bytes()
    for _ in range(data.draw(st.integers(1, 4))):
        mutated = mutate(mutated, data)
    looks_like(mutated, "f")
    with contextlib.suppress(UnreadableInputError):
        for log in read_it(mutated, "f"):
            for series in log.series:
                assert series.step.size == series.value.size == series.wall_time.size


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.data())
def test_mutations_raise_nothing_else(data: st.DataObject) -> None:
    check_mutation(data)


@pytest.mark.slow
@settings(derandomize=True, max_examples=10_000, deadline=None)
@given(st.data())
def test_many_mutations_raise_nothing_else(data: st.DataObject) -> None:
    check_mutation(data)
