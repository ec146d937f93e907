"""CSV logs as people have them."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traindoctor.errors import UnreadableInputError
from traindoctor.readers import csvlog
from traindoctor.readers.csvlog import read_csv_file
from traindoctor.readers.log import Hints, Log

if TYPE_CHECKING:
    from pathlib import Path


def read_csv(data: bytes, file: str, step_column: str | None = None) -> Log:
    [log] = csvlog.read_csv(data, file, Hints(step_column))
    return log


def points(log: Log, tag: str) -> list[tuple[int, float]]:
    series = next(s for s in log.series if s.tag == tag)
    return list(zip(series.step.tolist(), series.value.tolist(), strict=True))


def kinds(log: Log) -> list[str]:
    return [damage.kind for damage in log.damages]


def test_dense() -> None:
    log = read_csv(b"step,loss,lr\n0,1.5,1e-3\n10,0.5,1e-3\n", "f.csv")
    assert points(log, "loss") == [(0, 1.5), (10, 0.5)]
    assert [s.tag for s in log.series] == ["loss", "lr"]
    assert (log.step_unit, log.step_source, log.damages) == ("step", "step", ())
    assert log.series[0].source == "f.csv"
    assert log.series[0].step.dtype == np.int64


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbfstep,loss\r\n0,1.5\r\n10,0.5\r\n",
        b" step , loss \n0 , 1.5\n10, 0.5\n",
        b"step\tloss\n0\t1.5\n10\t0.5\n",
        b"step;loss\n0;1.5\n10;0.5\n",
        b'"step","loss"\n"0","1.5"\n"10","0.5"\n',
        b"step,loss,\n0,1.5,\n10,0.5,\n",
        b"# a comment\n\nstep,loss\n0,1.5\n\n10,0.5",
        b"step,loss\r0,1.5\r10,0.5\r",
        "step,loss\n0,1.5\n10,0.5\n".encode("utf-16"),
        b"step,loss,note\n0.0,1.5,warm up\n10.0,0.5,go\n",
        b"step,loss\n0,1.5\n10,0.5\n\0\0\0\0",
    ],
)
def test_dialects(data: bytes) -> None:
    log = read_csv(data, "f")
    assert points(log, "loss") == [(0, 1.5), (10, 0.5)]
    assert log.damages == ()


@pytest.mark.parametrize(
    ("header", "column", "unit"),
    [
        ("_step,loss", "_step", "step"),
        ("epoch,loss,iter", "iter", "step"),
        ("Iteration,loss", "Iteration", "step"),
        ("train/global_step,loss", "train/global_step", "step"),
        ("trainer/global_step,loss,epoch", "trainer/global_step", "step"),
        ("total_steps,loss,epoch", "epoch", "epoch"),
        ("timesteps_this_iter,loss,current_steps", "current_steps", "step"),
        ("Epoch,loss", "Epoch", "epoch"),
    ],
)
def test_the_column_that_counts(header: str, column: str, unit: str) -> None:
    n = header.count(",") + 1
    rows = "".join(",".join([str(i)] * n) + "\n" for i in range(3))
    log = read_csv(f"{header}\n{rows}".encode(), "f")
    assert (log.step_source, log.step_unit) == (column, unit)


def test_no_column_that_counts_is_said_with_a_way_out() -> None:
    data = b"loss,time,n\n1,0.5,1\n2,0.7,2\n"
    with pytest.raises(UnreadableInputError, match=r"metrics\.csv: no column looks like a step") as error:
        read_csv(data, "metrics.csv")
    assert error.value.ways_out == ("--step-column loss", "another of the columns: loss, time, n")
    assert points(read_csv(data, "f", step_column="n"), "loss") == [(1, 1.0), (2, 2.0)]
    rows = read_csv(data, "f", step_column="row")
    assert (rows.step_unit, points(rows, "loss")) == ("row", [(0, 1.0), (1, 2.0)])
    with pytest.raises(UnreadableInputError, match="there is no column 'x'"):
        read_csv(data, "f", step_column="x")


def test_a_monitor_of_episodes_counts_rows() -> None:
    log = read_csv(b'#{"t_start": 1.6e9, "env_id": "Acrobot-v1"}\nr,l,t\n-500.0,500,4.6\n-186.0,187,9.4\n', "0.monitor.csv")
    assert log.step_unit == "row"
    assert points(log, "r") == [(0, -500.0), (1, -186.0)]


def test_the_nameless_index_of_a_data_frame_counts_rows() -> None:
    log = read_csv(b",loss\n0,1.0\n1,0.5\n", "f")
    assert (log.step_unit, [s.tag for s in log.series]) == ("row", ["loss"])


def test_one_metric_a_row() -> None:
    log = read_csv(b"epoch,step,loss,val_loss\n0,0,1.0,\n0,1,0.9,\n0,1,,2.0\n1,2,0.8,\n1,3,0.7,\n1,3,,1.9\n", "f")
    assert points(log, "loss") == [(0, 1.0), (1, 0.9), (2, 0.8), (3, 0.7)]
    assert points(log, "val_loss") == [(1, 2.0), (3, 1.9)]
    assert log.damages == ()


def test_words_for_numbers() -> None:
    log = read_csv(b"step,loss\n0,nan\n1,inf\n2,-Infinity\n3,None\n4,NULL\n5,1.0\n", "f")
    assert str(points(log, "loss")) == "[(0, nan), (1, inf), (2, -inf), (5, 1.0)]"


def test_ragged_rows_are_named_by_line() -> None:
    log = read_csv(b"step,loss,lr\n0,1.0\n1,0.9,0.1\n2,0.8,0.1,7\n3,oops,0.1\n4,0.6", "f")
    assert points(log, "loss") == [(0, 1.0), (1, 0.9), (2, 0.8)]
    assert points(log, "lr") == [(1, 0.1), (2, 0.1), (3, 0.1)]
    assert kinds(log) == ["ragged-row", "ragged-row", "ragged-row", "unreadable-cell"]
    text = " ".join(d.detail for d in log.damages)
    assert all(f"line {n}" in text for n in (2, 4, 5, 6))


def test_a_header_that_stands_twice() -> None:
    log = read_csv(b"step,loss\n0,1.0\n5,0.5\nstep,loss\n0,1.0\n", "f")
    assert points(log, "loss") == [(0, 1.0), (5, 0.5), (0, 1.0)]
    assert kinds(log) == ["repeated-header", "duplicate-steps", "steps-go-back"]
    assert log.goes_back == (0,)


def test_repeated_steps_are_kept_and_told_once() -> None:
    log = read_csv(b"step,loss,lr\n0,1,1\n1,1,1\n1,2,1\n2,1,1\n", "f")
    assert len(points(log, "loss")) == 4
    assert kinds(log) == ["duplicate-steps"]
    assert "1 value" in log.damages[0].detail


def test_steps_that_count_within_an_epoch_are_put_together() -> None:
    log = read_csv(b"epoch,batch,loss\n" + b"".join(b"%d,%d,1\n" % (e, b) for e in range(3) for b in range(4)), "f")
    assert [step for step, _ in points(log, "loss")] == list(range(12))
    assert kinds(log) == ["steps-of-epochs"]


def test_epochs_in_fractions_count_rows() -> None:
    log = read_csv(b"epoch,loss\n0.25,1\n0.5,1\n", "f")
    assert (log.step_unit, kinds(log)) == ("row", ["fractional-steps"])


def test_a_step_that_stands_still_gives_way_to_the_epoch() -> None:
    log = read_csv(b"step,epoch,loss\n0,1,1\n0,2,2\n0,3,3\n", "f")
    assert (log.step_unit, points(log, "loss")) == ("epoch", [(1, 1.0), (2, 2.0), (3, 3.0)])


def test_rows_without_a_step_are_left_out() -> None:
    log = read_csv(b"step,loss\n0,1\n,2\n2,3\n", "f")
    assert points(log, "loss") == [(0, 1.0), (2, 3.0)]
    assert kinds(log) == ["no-step"]


def test_a_loss_that_turns_blank_for_ever_is_nan() -> None:
    rows = [f"{i},{1.0 if i < 10 else ''},0.1\n" for i in range(20)]
    log = read_csv(("step,loss,lr\n" + "".join(rows)).encode(), "f")
    assert points(log, "loss")[:10] == [(i, 1.0) for i in range(10)]
    assert len(points(log, "loss")) == 20
    assert all(math.isnan(value) for _, value in points(log, "loss")[10:])
    assert kinds(log) == ["blank-nan"]
    assert "line 12 (step 10)" in log.damages[0].detail


def test_a_blank_loss_on_rows_of_another_kind_is_not_logged() -> None:
    rows = [f"{i},1.0,0.1,\n" for i in range(10)] + [f"{i},,,2.0\n" for i in range(10, 20)]
    log = read_csv(("step,loss,lr,val_acc\n" + "".join(rows)).encode(), "f")
    assert len(points(log, "loss")) == 10
    assert kinds(log) == []


def test_a_validation_loss_that_came_last_is_no_nan() -> None:
    rows = (
        [f"0,{i},1.0,\n" for i in range(9)]
        + ["0,9,,2.0\n", "0,9,,2.0\n", "0,9,,2.0\n"]
        + [f"1,{i},1.0,\n" for i in range(10, 30)]
    )
    log = read_csv(("epoch,step,loss,val_loss\n" + "".join(rows)).encode(), "f")
    assert len(points(log, "val_loss")) == 3
    assert "blank-nan" not in kinds(log)


def test_few_blanks_at_the_end_are_not_logged() -> None:
    rows = [f"{i},{1.0 if i < 10 else ''},0.1\n" for i in range(14)]
    assert kinds(read_csv(("step,loss,lr\n" + "".join(rows)).encode(), "f")) == []


def test_rows_that_hold_nothing_but_the_step_are_nan_where_there_were_none() -> None:
    rows = [f"{i},{1.0 if i < 10 else ''},{0.1 if i < 10 else ''},{2.0 if i % 4 == 0 and i > 9 else ''}\n" for i in range(30)]
    log = read_csv(("step,loss,grad_norm,val_acc\n" + "".join(rows)).encode(), "f")
    assert len(points(log, "loss")) == 25
    assert kinds(log) == ["blank-nan", "blank-nan"]


def test_wall_times_since_1970() -> None:
    log = read_csv(b"step,loss,timestamp\n0,1,1.7e9\n1,1,1.7000001e9\n", "f")
    assert log.series[0].wall_time.tolist() == [1.7e9, 1.7000001e9]
    assert np.isnan(read_csv(b"step,loss,time\n0,1,1.5\n", "f").series[0].wall_time).all()


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\0\0\0", b"step,loss\n", b"step,loss"])
def test_empty(data: bytes) -> None:
    log = read_csv(data, "f")
    assert (log.series, kinds(log)) == ((), ["empty-file"])


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"0,1.0\n1,0.9\n", "no header"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
        (b"Once upon a time there was a loss\nand it fell\n", "not a table"),
    ],
)
def test_what_is_no_table(data: bytes, what: str) -> None:
    with pytest.raises(UnreadableInputError, match=what):
        read_csv(data, "f")


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInputError, match="cannot be read"):
        read_csv_file(tmp_path, "here")


@pytest.mark.parametrize("blank", [b"", b"nan", b"word"])
def test_pandas_and_the_exact_reader_agree(blank: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = b"".join(b"%d,%s,0.1234567890123456789\n" % (i, blank if i % 3 else b"1e-7") for i in range(50))
    exact = read_csv(b"step,loss,lr\n" + rows, "f")
    monkeypatch.setattr(csvlog, "MANY_ROWS", 5)
    quick = read_csv(b"step,loss,lr\n" + rows, "f")
    assert [s.tag for s in exact.series] == [s.tag for s in quick.series]
    assert exact.damages == quick.damages
    for a, b in zip(exact.series, quick.series, strict=True):
        np.testing.assert_array_equal(a.step, b.step)
        np.testing.assert_array_equal(a.value, b.value)


@given(st.integers(0, 400))
def test_a_table_cut_anywhere_gives_a_prefix(cut: int) -> None:
    whole = "step,loss,lr\n" + "".join(f"{i},{i / 7},0.001\n" for i in range(15))
    try:
        log = read_csv(whole[:cut].encode(), "f")
    except UnreadableInputError:
        assert cut < len("step,loss,lr")
        return
    if log.series:
        steps = [step for step, _ in points(log, log.series[0].tag)]
        assert steps == list(range(len(steps)))


@given(st.binary(max_size=200))
def test_whatever_bytes_give_a_log_or_a_clear_error(data: bytes) -> None:
    with contextlib.suppress(UnreadableInputError):
        read_csv(b"step,loss\n" + data, "f")
