"""CSV logs as people have them."""

from __future__ import annotations

import contextlib
import gzip
import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindoctor.errors import UnreadableInputError
from traindoctor.readers import csvblocks, csvlog
from traindoctor.readers.csvlog import looks_like_csv, read_csv_file
from traindoctor.readers.log import Hints, Log
from traindoctor.readers.storage import COMPRESSED, LogStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from traindoctor.readers.table import Table

ROOT = Path(__file__).parents[2]
FORMATS = ROOT / "fixtures" / "formats"


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


def test_the_rows_of_a_history_count_where_nothing_else_does() -> None:
    rows = "".join(f"{2.0 / i},0.{i},{3.0 / i},2026-01-0{i} 10:00:00\n" for i in range(1, 6))
    log = read_csv(f"model_loss,accuracy,val_loss,run_time\n{rows}".encode(), "history.csv")
    assert (log.step_unit, log.step_source, kinds(log)) == ("row", "row", ["no-steps"])
    assert points(log, "val_loss") == [(i, 3.0 / (i + 1)) for i in range(5)]
    assert "--step-column" in log.damages[0].detail


@pytest.mark.parametrize(
    "header", ["loss,score", "accuracy,size", "fold,loss", "model,train_loss", "best val_loss seed,loss", "name,loss"]
)
@pytest.mark.parametrize("n", [4, 5])
def test_a_table_of_results_is_no_history(header: str, n: int) -> None:
    first = "a{}" if header.startswith("name") else "1.{}"
    data = (header + "\n" + "".join(f"{first.format(i)},0.5\n" for i in range(n))).encode()
    if (header, n) == ("loss,score", 5):
        assert read_csv(data, "f").step_unit == "row"
    else:
        with pytest.raises(UnreadableInputError, match="no column looks like a step"):
            read_csv(data, "f")


def test_a_monitor_counts_the_steps_of_its_episodes() -> None:
    log = read_csv(b'#{"t_start": 1.6e9, "env_id": "Acrobot-v1"}\nr,l,t\n-500.0,500,4.6\n-186.0,187,9.4\n', "0.monitor.csv")
    assert (log.step_unit, log.step_source) == ("step", "sum of l")
    assert points(log, "r") == [(500, -500.0), (687, -186.0)]
    assert log.series[0].wall_time.tolist() == [1.6e9 + 4.6, 1.6e9 + 9.4]
    assert log.settings == {"env_id": "Acrobot-v1"}


def test_a_monitor_that_lacks_lengths_counts_rows() -> None:
    log = read_csv(b"#{broken\nr,t\n-500.0,4.6\n-186.0,9.4\n", "0.monitor.csv")
    assert (log.step_unit, points(log, "r")) == ("row", [(0, -500.0), (1, -186.0)])


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


def test_a_header_that_stands_twice_begins_another_run() -> None:
    first, second = csvlog.read_csv(b"step,loss\n0,1.0\n5,0.5\nstep,loss\n0,1.0\n", "f")
    assert points(first, "loss") == [(0, 1.0), (5, 0.5)]
    assert points(second, "loss") == [(0, 1.0)]
    assert (first.name, second.name) == ("run 1", "run 2")
    assert kinds(first) == kinds(second) == ["repeated-header", "appended-runs"]
    assert (first.goes_back, second.goes_back) == ((), ())
    assert "lines 5 to 5 are run 2 of 2" in second.damages[-1].detail


def test_a_header_in_the_midst_of_a_run_is_one_run() -> None:
    log = read_csv(b"step,loss\n0,1.0\n5,0.5\nstep,loss\n10,0.4\n15,0.3\n", "f")
    assert points(log, "loss") == [(0, 1.0), (5, 0.5), (10, 0.4), (15, 0.3)]
    assert kinds(log) == ["repeated-header"]


def test_a_header_with_other_names_begins_another_table() -> None:
    first, second = csvlog.read_csv(b"step,loss,lr\n0,1,0.1\n5,0.5,0.1\nstep,acc\n0,0.2\n", "f")
    assert [s.tag for s in first.series] == ["loss", "lr"]
    assert points(second, "acc") == [(0, 0.2)]
    assert (first.name, second.name) == ("run 1", "run 2")


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


# -- the two readers --------------------------------------------------------------------------------------------------


CELLS = [
    *("1", "2.5", "-3e-5", "0.1234567890123456789", "+1", ".5", "1.", "-0", "1e400", "4.9e-324", "1_000", "0x10", " 1.5", "1.5 "),
    *("99999999999999999999", "9007199254740993", "nan", "NaN", "-nan", "inf", "-inf", "Infinity", "\t7", "1\r2", "1,5", "\xe9"),
    *("", "", "", "None", "null", "NA", "-", "word", "note", "infinite", "none yet", "True", '"1.5"', '"a;b"', '"', "#3"),
    *("2024-01-02T03:04:05", "2024-01-02 03:04:05.25", "2024-02-30T00:00:00", "2024-01-02T03:04:05+00:00"),
]


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """Tables as people have them, columns of one kind or of several, with a damage here and there."""
    names = draw(
        st.lists(st.sampled_from(["step", "loss", "lr", "time", "note", "val_loss"]), min_size=1, max_size=5, unique=True)
    )
    delimiter = draw(st.sampled_from([",", ",", ";", "\t", " "]))
    kinds = [draw(st.lists(st.sampled_from(CELLS), max_size=3)) for _ in names]
    chosen = draw(st.integers(0, 2**32))
    rng = np.random.default_rng(chosen)
    ends = draw(st.sampled_from(["", "", delimiter]))
    lines = [delimiter.join(names) + ends]
    for number in range(draw(st.integers(1, 80))):
        cells = [str(number) if not kind else kind[rng.integers(len(kind))] for kind in kinds]
        cells = cells[:-1] if rng.random() < 0.01 else cells
        line = delimiter.join(cells) + ends
        lines.append(
            "# note" if rng.random() < 0.005 else "" if rng.random() < 0.005 else lines[0] if rng.random() < 0.01 else line
        )
    text = draw(st.sampled_from(["\n", "\r\n"])).join(lines)
    return (text + draw(st.sampled_from(["\n", "\n", ""]))).encode()


def tables_of(data: bytes, patch: pytest.MonkeyPatch, many: int, block: int) -> tuple[Table, ...] | str:
    patch.setattr(csvlog, "MANY_BYTES", many)
    patch.setattr(csvlog, "BLOCK_BYTES", block)
    patch.setattr(csvlog, "COLUMN_BYTES", 1)
    try:
        return csvlog.read_tables(data, "f")
    except UnreadableInputError as error:
        return str(error)


def assert_same(exact: tuple[Table, ...] | str, quick: tuple[Table, ...] | str) -> None:
    if isinstance(exact, str) or isinstance(quick, str):
        assert exact == quick
        return
    assert len(exact) == len(quick)
    for a, b in zip(exact, quick, strict=True):
        assert (a.columns, a.damages, a.begins, list(a.numbers)) == (b.columns, b.damages, b.begins, list(b.numbers))
        np.testing.assert_array_equal(a.line, b.line)
        for name in a.numbers:
            np.testing.assert_array_equal(a.filled[name], b.filled[name])
            there = a.numbers[name][a.filled[name]], b.numbers[name][b.filled[name]]
            assert np.isnan(there[0]).tolist() == np.isnan(there[1]).tolist()
            bits = [np.nan_to_num(value, nan=0.0).view(np.int64).tolist() for value in there]
            assert bits[0] == bits[1]


def tables_from_file(data: bytes, block: int) -> tuple[Table, ...] | str:
    """What is read where the file comes in piece by piece, with the sizes that `tables_of` has set."""
    stream = LogStream(io.BytesIO(data), "f")
    try:
        head = stream.read(block)
        return csvlog.read_tables(head, "f", stream if len(head) == block else None)
    except UnreadableInputError as error:
        return str(error)


def agree(data: bytes, quick: int = 400) -> None:
    with pytest.MonkeyPatch.context() as patch:
        exact = tables_of(data, patch, 1 << 60, quick)
        assert_same(exact, tables_of(data, patch, 0, quick))
        if data.startswith(tuple(COMPRESSED.values())):  # of a file, these would be unpacked
            return
        assert_same(exact, tables_from_file(data, quick))
        patch.setattr(csvblocks, "PIECE", 64)
        assert_same(exact, tables_from_file(data, quick))


@settings(derandomize=True, max_examples=400, deadline=None)
@given(tables(), st.sampled_from([400, 10_000]))
def test_pandas_and_the_exact_reader_agree(data: bytes, quick: int) -> None:
    agree(data, quick)


@pytest.mark.slow
@settings(derandomize=True, max_examples=10_000, deadline=None)
@given(tables(), st.sampled_from([400, 10_000]), st.lists(st.tuples(st.integers(0, 999), st.binary(max_size=2)), max_size=3))
def test_pandas_and_the_exact_reader_agree_on_mutations(data: bytes, quick: int, changes: list[tuple[int, bytes]]) -> None:
    for at, piece in changes:
        data = data[:at] + piece + data[at + 1 :]
    agree(data, quick)


@pytest.mark.parametrize(
    "cell",
    [
        pytest.param(lambda i: b"" if i % 3 else b"1e-7", id="sparse"),
        pytest.param(lambda i: b"nan" if i % 3 else b"", id="NaN and blanks"),
        pytest.param(lambda i: b"NA" if i % 3 else b"0.5", id="NA"),
        pytest.param(lambda i: b"2024-01-01 00:00:%02d" % (i % 60), id="clock"),
        pytest.param(lambda i: b"2024-01-01T00:00:%02d%s" % (i % 60, b".5" * (i % 2)), id="clock with fractions"),
        pytest.param(lambda _: b"warm up", id="words"),
        pytest.param(lambda i: b'"0.5"' if i % 3 else b'""', id="quoted"),
        pytest.param(lambda i: b"inf" if i % 3 else b"-Infinity", id="infinities"),
    ],
)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("delimiter", [b",", b"\t", b";"])
def test_the_fast_reader_declines_none_of_these(
    cell: Callable[[int], bytes], end: bytes, delimiter: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [delimiter.join([b"%d" % i, cell(i), b"0.1234567890123456789", b"1e-3"]) for i in range(50)]
    data = end.join([delimiter.join([b"step", b"time", b"loss", b"lr"]), *rows]) + end
    agree(data, 10_000)
    monkeypatch.setattr(csvlog, "_add_exactly", lambda *_, **__: pytest.fail("the exact reader was asked"))
    monkeypatch.setattr(csvlog, "MANY_BYTES", 0)
    monkeypatch.setattr(csvlog, "BLOCK_BYTES", 1_000)
    [table] = csvlog.read_tables(data, "f")
    assert table.line.tolist() == list(range(2, 52))


def test_one_bad_line_costs_its_block_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [b"%d,%d\n" % (i, i) for i in range(10_000)]
    rows[7_000] = b"7000,7000,7000\n"
    seen: list[int] = []
    exact = csvlog._add_exactly

    def counted(section: object, data: bytes, at: int, stop: int, *more: object, **named: bool) -> object:
        seen.append(stop - at)
        return exact(section, data, at, stop, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(csvlog, "_add_exactly", counted)
    monkeypatch.setattr(csvlog, "MANY_BYTES", 0)
    monkeypatch.setattr(csvlog, "COLUMN_BYTES", 1)
    monkeypatch.setattr(csvlog, "BLOCK_BYTES", 1_000)
    log = read_csv(b"step,loss\n" + b"".join(rows), "f")
    assert len(points(log, "loss")) == 10_000
    assert kinds(log) == ["ragged-row"]
    assert "line 7002" in log.damages[0].detail
    assert sum(seen) <= 1_000


def test_values_are_those_of_pandas_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**63, 4_000, dtype=np.int64).view(np.float64)
    value = np.concatenate([bits[np.isfinite(bits)], rng.random(4_000), 10.0 ** rng.uniform(-320, 308, 2_000)])
    data = "step,loss\n" + "".join(f"{i},{v!r}\n" for i, v in enumerate(value.tolist()))
    expected = pd.read_csv(io.StringIO(data))["loss"].to_numpy()
    for many in (1 << 60, 0):
        monkeypatch.setattr(csvlog, "MANY_BYTES", many)
        found = np.array([v for _, v in points(read_csv(data.encode(), "f"), "loss")])
        np.testing.assert_array_equal(found.view(np.int64), value.view(np.int64))
        np.testing.assert_array_equal(found.view(np.int64), expected.view(np.int64))


# -- a file as it comes in ---------------------------------------------------------------------------------------------


def long_table(n: int) -> bytes:
    return b"step,loss,val_loss\n" + b"".join(b"%d,0.%d,%s\n" % (i, i, b"" if i % 3 else b"1.5") for i in range(n))


def small_sizes(monkeypatch: pytest.MonkeyPatch, block: int = 2_000) -> None:
    monkeypatch.setattr(csvlog, "MANY_BYTES", 0)
    monkeypatch.setattr(csvlog, "BLOCK_BYTES", block)
    monkeypatch.setattr(csvlog, "COLUMN_BYTES", 1)
    monkeypatch.setattr(csvblocks, "PIECE", block // 4)


def assert_same_logs(one: tuple[Log, ...], other: tuple[Log, ...]) -> None:
    assert [(log.name, log.damages, log.step_source) for log in one] == [
        (log.name, log.damages, log.step_source) for log in other
    ]
    for a, b in zip(one, other, strict=True):
        assert [s.tag for s in a.series] == [s.tag for s in b.series]
        for s, t in zip(a.series, b.series, strict=True):
            np.testing.assert_array_equal(s.step, t.step)
            np.testing.assert_array_equal(s.value, t.value)
            np.testing.assert_array_equal(s.wall_time, t.wall_time)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "more",
    [
        pytest.param(b"", id="sound"),
        pytest.param(b"4000,0.5", id="cut"),
        pytest.param(b"4000,0.5,1,2\n4001,oops,1\n", id="damaged"),
        pytest.param(b"4000,0.5,1\n\0\0\0\0", id="zeros at the end"),
        pytest.param(b"step,acc\n" + b"".join(b"%d,1\n" % i for i in range(3_000)), id="another table"),
        pytest.param(b'4000,"0.5\n' + b"4001,1,2\n" * 2_000, id="an open quote"),
    ],
)
def test_a_file_gives_what_its_bytes_give(more: bytes, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = long_table(4_000) + more
    path = tmp_path / "metrics.csv"
    path.write_bytes(gzip.compress(data) if packed else data)
    small_sizes(monkeypatch)
    assert_same_logs(read_csv_file(path, "f"), csvlog.read_csv(data, "f"))


@pytest.mark.parametrize("packed", [False, True])
def test_a_sound_file_is_never_in_memory_whole(packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.csv"
    data = long_table(4_000)
    path.write_bytes(gzip.compress(data) if packed else data)
    small_sizes(monkeypatch)
    asked: list[int] = []
    plain = LogStream.read

    def read(self: LogStream, size: int = -1) -> bytes:
        piece = plain(self, size)
        asked.append(size)
        return piece

    monkeypatch.setattr(LogStream, "read", read)
    monkeypatch.setattr(csvblocks.Feed, "take_all", lambda _: b"")  # after the last whole line nothing is left
    [log] = read_csv_file(path, "f")
    assert len(points(log, "loss")) == 4_000
    assert 0 < max(asked) <= 2_000
    assert min(asked) >= 0


def test_a_file_that_breaks_off_in_its_compression_gives_what_was_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.csv.gz"
    packed = gzip.compress(long_table(4_000), 0)
    path.write_bytes(packed[: len(packed) // 2])
    small_sizes(monkeypatch)
    [log] = read_csv_file(path, "f")
    steps = [step for step, _ in points(log, "loss")]
    assert steps == list(range(len(steps)))
    assert 1_500 < len(steps) < 2_500
    assert kinds(log)[-1] == "truncated"


def test_a_file_that_cannot_be_read_on_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.csv.gz"
    path.write_bytes(gzip.compress(long_table(4_000)))
    small_sizes(monkeypatch)
    monkeypatch.setattr(csvlog, "LARGEST", 20_000)
    with pytest.raises(UnreadableInputError, match="holds more than"):
        read_csv_file(path, "f")
    monkeypatch.undo()
    small_sizes(monkeypatch)

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 20_000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    stream = LogStream(Failing(long_table(4_000)), "f")
    with pytest.raises(UnreadableInputError, match="Input/output error"):
        csvlog.read_tables(stream.read(2_000), "f", stream)


def test_what_a_row_lacks_is_held_against_the_whole_file(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"step,loss,lr\n" + b"".join(b"%d,0.5,0.1\n" % i for i in range(2_000)) + b"2000,0.5,0.1\n\0\0\n2001,0.5,0.1\n"
    small_sizes(monkeypatch)
    monkeypatch.setattr(csvlog, "MISSING_CELLS", 100)
    [from_bytes] = csvlog.read_tables(data, "f")
    from_file = tables_from_file(data, 2_000)
    assert_same((from_bytes,), from_file)
    assert from_bytes.line.size == 2_002


def test_columns_of_unknown_length_grow_by_factors() -> None:
    column = csvlog._Column()
    places = set()
    for start in range(0, 100_000, 10):
        column.add(start, 10, np.arange(start, start + 10), None, 0)
        assert column.value is not None
        places.add(column.value.size)
    assert column.value is not None
    np.testing.assert_array_equal(column.value[:100_000], np.arange(100_000))
    assert len(places) < 30


# -- forms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"step loss\n0 1.5\n10 0.5\n",
        b"  step      loss\n     0       1.5\n    10   5e-01\n",
        b"# step loss\n0.000e+00 1.5\n1.000e+01 0.5\n",
        b"# step,loss\n0,1.5\n10,0.5\n",
        b"# step loss\n0,1.5\n10,0.5\n",
        b"step;loss\n0;1,5\n10;0,5\n",
        b"#step\tloss\n0\t1.5\n10\t0.5\n",
    ],
)
def test_tables_that_are_no_csv(data: bytes) -> None:
    log = read_csv(data, "f")
    assert points(log, "loss") == [(0, 1.5), (10, 0.5)]
    assert log.damages == ()


def test_what_numpy_saves(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    np.savetxt(path, np.array([[0, 1.5], [1, 0.25]]), header="step loss")
    assert looks_like_csv(path.read_bytes(), path.name)
    assert points(read_csv(path.read_bytes(), "f"), "loss") == [(0, 1.5), (1, 0.25)]


def test_a_comma_is_no_decimal_point_where_points_are() -> None:
    log = read_csv(b"step;loss;n\n0;1.5;1,234\n1;0.5;2,345\n2;0.4;3,456\n", "f")
    assert [s.tag for s in log.series] == ["loss"]


def test_a_comment_among_the_rows_is_told() -> None:
    log = read_csv(b"step,loss\n0,1\n# resumed\n1,2\n", "f")
    assert (points(log, "loss"), kinds(log)) == ([(0, 1.0), (1, 2.0)], ["comment-line"])


def test_a_quoted_cell_over_several_lines() -> None:
    log = read_csv(b'step,note,loss\n0,"a\nb, c\nd",1.5\n1,"x",0.5\n', "f")
    assert (points(log, "loss"), log.damages) == ([(0, 1.5), (1, 0.5)], ())


def test_an_open_quote_loses_no_other_row() -> None:
    log = read_csv(b'step,loss\n0,1\n1,"2\n2,3\n3,4\n', "f")
    assert (points(log, "loss"), kinds(log)) == ([(0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0)], ["open-quote"])
    assert "line 3:" in log.damages[0].detail


def test_times_in_words() -> None:
    log = read_csv(b"timestamp,step,loss\n1970-01-01 00:00:00,0,1\n2024-01-31 12:00:00.5,1,2\n2024-01-31 12:00:01,2,2\n", "f")
    [clock] = [s for s in log.series if s.tag == "timestamp"]
    assert clock.value.tolist() == [0.0, 1706702400.5, 1706702401.0]
    late = read_csv(b"timestamp,step,loss\n2024-01-31T12:00:00Z,0,1\n2024-01-31T13:00:00+01:00,1,2\n", "f")
    assert late.series[0].wall_time.tolist() == [1706702400.0, 1706702400.0]


@pytest.mark.parametrize(
    ("case", "tag", "n", "steps", "unit"),
    [
        ("lightning-csv/metrics.csv", "loss_step", 30, (1, 59), "step"),
        ("lightning-csv/metrics.csv", "loss_epoch", 5, (11, 59), "step"),
        ("lightning-csv/metrics.csv", "val_loss", 5, (11, 59), "step"),
        ("keras-csv/training.csv", "val_loss", 12, (0, 11), "epoch"),
        ("keras-csv/with-na.csv", "val_loss", 4, (0, 9), "epoch"),
        ("keras-csv/with-na.csv", "loss", 10, (0, 9), "epoch"),
        ("ultralytics-csv/yolov5.csv", "train/box_loss", 25, (0, 24), "epoch"),
        ("ultralytics-csv/padded.csv", "lr/pg2", 25, (1, 25), "epoch"),
        ("ultralytics-csv/results.csv", "metrics/mAP50-95(B)", 25, (1, 25), "epoch"),
        ("sb3-progress/progress.csv", "train/loss", 19, (128, 1280), "step"),
        ("sb3-monitor/0.monitor.csv", "r", 35, (50, 1259), "step"),
        ("algoperf-csv/measurements.csv", "train/loss", 185, (1, 173644), "step"),
    ],
)
def test_forms_of_libraries(case: str, tag: str, n: int, steps: tuple[int, int], unit: str) -> None:
    data = (FORMATS / case).read_bytes()
    log = read_csv(data, case)
    found = points(log, tag)
    assert (len(found), found[0][0], found[-1][0], log.step_unit) == (n, *steps, unit)
    assert set(kinds(log)) <= {"blank-nan"}
    assert looks_like_csv(data[:65_536], Path(case).name)
    assert looks_like_csv(data[:65_536], "noname")


def test_nan_as_blank_is_counted_as_the_event_file_of_the_same_run_does() -> None:
    log = read_csv((FORMATS / "algoperf-csv" / "measurements.csv").read_bytes(), "measurements.csv")
    assert sum(math.isnan(value) for _, value in points(log, "train/loss")) == 123


def test_two_runs_that_keras_appended() -> None:
    first, second = csvlog.read_csv((FORMATS / "keras-csv" / "appended.csv").read_bytes(), "f")
    assert (len(first.series[0]), len(second.series[0])) == (9, 7)
    assert second.series[0].step.tolist() == list(range(7))


def test_a_chart_of_wandb_is_two_runs() -> None:
    slow, fast = csvlog.read_csv((FORMATS / "wandb-export-csv" / "chart.csv").read_bytes(), "f")
    assert (slow.name, fast.name) == ("baseline-7", "lr - 3e-3")
    assert (len(points(slow, "train/loss")), len(points(fast, "train/loss"))) == (40, 25)


# -- what is a table --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"step 1, loss 0.5, lr 0.1\nstep 2, loss 0.4, lr 0.1\n",
        b"2024-01-01 12:00:00,123 INFO loss 0.5\n2024-01-01 12:00:01,456 INFO loss 0.4\n",
        b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.4}\n',
        b"| step | loss |\n|------|------|\n| 1 | 0.5 |\n",
        b"lr: 0.1\nbetas: [0.9, 0.999]\n",
        b"import os, sys\nx, y = 1, 2\n",
        b"def f(a, b):\n    return 1, 2\n",
        b"#ifndef A\n#define A 1\nint a, b;\nint c, d;\n",
        b"numpy==1.26\npandas>=2.1,<3\n",
        b"x = [1, 2, 3,\n     4, 5, 6,\n     7, 8, 9,\n]\n",
        b"Once upon a time, there was a loss\nand it fell, and fell\n",
        b"0,1.5\n1,0.5\n",
        b"0 1.5\n1 0.5\n",
        b"",
        b"\n\n",
        b"\x08\x02\x00\x00,\n1,2\n",
        b"a b c\nd e f\n",
        b"Epoch 1/3 loss: 0.5\nEpoch 2/3 loss: 0.4\n",
    ],
)
def test_what_does_not_look_like_a_table(data: bytes) -> None:
    assert not looks_like_csv(data, "file")


@pytest.mark.parametrize(
    "data", [b"step,loss\n0,1\n1,2\n", b"step,loss\r\n0,\r\n,nan\r\n", b"# c\nstep\tloss\n0\t1", b"epoch,a\n0,NA"]
)
def test_what_looks_like_a_table(data: bytes) -> None:
    assert looks_like_csv(data, "file")
    assert looks_like_csv("\ufeff".encode() + data, "file")
    assert looks_like_csv(data.decode().encode("utf-16"), "file")


def test_a_header_alone_and_a_single_column_are_tables_by_name() -> None:
    for data in (b"step,loss\n", b"loss\n1\n2\n"):
        assert looks_like_csv(data, "metrics.csv")
        assert not looks_like_csv(data, "metrics")


def test_no_file_of_the_code_looks_like_a_table() -> None:
    files = [path for end in ("py", "md", "toml", "json", "yaml") for path in ROOT.glob(f"**/*.{end}")]
    assert len(files) > 100
    assert not [path for path in files if looks_like_csv(path.read_bytes()[:65_536], path.name)]


# -- hostile ----------------------------------------------------------------------------------------------------------


def test_more_columns_than_a_log_has() -> None:
    data = b",".join(b"c%d" % i for i in range(100_000)) + b"\n" + b"1," * 100_000
    with pytest.raises(UnreadableInputError, match="more than 20,000 columns"):
        read_csv(data, "f")


def test_columns_of_one_name_are_told_apart_in_linear_time() -> None:
    log = read_csv(b"step," + b",".join([b"loss"] * 19_999) + b"\n" + b"1," * 19_999 + b"2\n", "f")
    assert len({s.tag for s in log.series}) == 19_999
    assert [s.tag for s in log.series][:3] == ["loss", "loss (again)", "loss (again) (again)"]


def test_a_line_that_is_no_row_is_left_out() -> None:
    log = read_csv(b"step,loss\n0,1\n" + b"0," * 2_000_000 + b"\n1,2\n" + b"a" * 3_000_000 + b"\n2,3\n", "f")
    assert points(log, "loss") == [(0, 1.0), (1, 2.0), (2, 3.0)]
    assert kinds(log) == ["long-line", "long-line"]
    assert "line 3 is 4 MiB long" in log.damages[0].detail


def test_rows_that_lack_most_of_a_wide_header_are_no_table() -> None:
    data = b",".join(b"c%d" % i for i in range(19_999)) + b",step\n" + b"1\n" * 2_000_000
    with pytest.raises(UnreadableInputError, match="lack most of their 20,000 cells"):
        read_csv(data, "f")


def test_a_header_as_long_as_a_file_is_none() -> None:
    with pytest.raises(UnreadableInputError, match="its first line is longer than 2 MiB"):
        read_csv(b"step," + b"a" * 3_000_000, "f")


def test_quotes_that_are_never_closed_take_linear_time() -> None:
    log = read_csv(b"step,loss\n" + (b'1,"2\n' + b"1,2\n" * 1_001) * 100, "f")
    assert len(points(log, "loss")) == 100_200
    assert "open-quote" in kinds(log)


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


SOUND = [path.read_bytes() for path in sorted(FORMATS.glob("*/*.csv")) if path.stat().st_size < 10_000]


def mutate(data: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """Cut, overwrite, insert or repeat a piece at a place."""
    for kind, at, piece in changes:
        at %= len(data) + 1
        data = (
            data[:at],
            data[:at] + piece + data[at + len(piece) :],
            data[:at] + piece + data[at:],
            data[:at] + data[at // 2 : at] + data[at:],
        )[kind]
    return data


def read_anything(data: bytes) -> None:
    looks_like_csv(data[:65_536], "f.csv")
    with contextlib.suppress(UnreadableInputError):
        for log in csvlog.read_csv(data, "f"):
            assert all(len(s.step) == len(s.value) == len(s.wall_time) > 0 for s in log.series)


CHANGES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9_999), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.sampled_from(SOUND), CHANGES)
def test_a_damaged_table_gives_logs_or_a_clear_error(data: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    read_anything(mutate(data, changes))


@pytest.mark.slow
@settings(derandomize=True, max_examples=10_000, deadline=None)
@given(st.sampled_from(SOUND), CHANGES)
def test_ten_thousand_damaged_tables_give_logs_or_a_clear_error(data: bytes, changes: list[tuple[int, int, bytes]]) -> None:
    read_anything(mutate(data, changes))


@settings(derandomize=True, max_examples=150, deadline=None)
@given(
    st.sampled_from(["lightning-csv/metrics.csv", "ultralytics-csv/results.csv", "sb3-progress/progress.csv"]),
    st.integers(0, 9_999),
)
def test_a_cut_gives_a_prefix_of_every_series(case: str, at: int) -> None:
    whole = (FORMATS / case).read_bytes()
    first_row = whole.index(b"\n") + 1
    at = first_row + at % (len(whole) - first_row)
    before, after = read_csv(whole[:at], "f"), {s.tag: s for s in read_csv(whole, "f").series}
    for series in before.series:
        n = len(series) - 1  # the last value may be cut within its digits
        assert series.step[:n].tolist() == after[series.tag].step[:n].tolist()
        np.testing.assert_array_equal(series.value[:n], after[series.tag].value[:n])
