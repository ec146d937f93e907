"""What rows mean: which column counts, runs that were appended, blanks that mean NaN."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindoctor.errors import UnreadableInputError
from traindoctor.readers.csvlog import read_csv
from traindoctor.readers.log import NO_HINTS, Hints, Log
from traindoctor.readers.table import Table, check_steps, count_times, find_step_column, logs_of, name_lines

ROOT = Path(__file__).parents[2]


def table(**columns: list[float | None]) -> Table:
    """A table with None where a cell is blank."""
    n = len(next(iter(columns.values())))
    filled = {name: np.array([cell is not None for cell in cells]) for name, cells in columns.items()}
    numbers = {
        name: np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64) for name, cells in columns.items()
    }
    return Table(tuple(columns), numbers, filled, np.arange(2, n + 2), ())


def logs(**columns: list[float | None]) -> tuple[Log, ...]:
    return logs_of(table(**columns), "f", "csv")


def only(**columns: list[float | None]) -> Log:
    [log] = logs(**columns)
    return log


def steps(log: Log, tag: str = "loss") -> list[int]:
    found: list[int] = next(s for s in log.series if s.tag == tag).step.tolist()
    return found


def kinds(log: Log) -> list[str]:
    return [damage.kind for damage in log.damages]


def falling(n: int, first: float = 2.0, last: float = 0.2) -> list[float | None]:
    return [first * (last / first) ** (i / max(n - 1, 1)) for i in range(n)]


def count(*lengths: int, stride: int = 1) -> list[float | None]:
    return [float(stride * i) for n in lengths for i in range(n)]


# -- runs that were appended ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [(30, 20), (20, 30), (30, 30), (40, 3, 40), (30, 2), (9, 9, 9, 4), (12,) * 30])
@pytest.mark.parametrize("stride", [1, 10])
def test_a_count_that_starts_again_with_the_loss_is_another_run(lengths: tuple[int, ...], stride: int) -> None:
    found = logs(step=count(*lengths, stride=stride), loss=[v for n in lengths for v in falling(n)])
    assert [len(log.series[0]) for log in found] == list(lengths)
    assert [log.name for log in found] == [f"run {number}" for number in range(1, len(lengths) + 1)]
    assert all(steps(log) == list(range(0, stride * n, stride)) for log, n in zip(found, lengths, strict=True))
    assert {tuple(kinds(log)) for log in found} == {("appended-runs",)}
    assert all(log.goes_back == () for log in found)
    assert f"lines {2 + lengths[0]} to {1 + sum(lengths[:2])} are run 2 of {len(lengths)}" in found[1].damages[0].detail


def test_epochs_that_start_again_are_another_run() -> None:
    first, second = logs(epoch=count(10, 8), loss=[*falling(10), *falling(8)])
    assert (first.step_unit, steps(first), steps(second)) == ("epoch", list(range(10)), list(range(8)))


def test_a_count_that_goes_back_into_the_middle_is_a_run_resumed() -> None:
    log = only(step=[*count(30), *map(float, range(20, 50))], loss=falling(60))
    assert (kinds(log), log.goes_back) == (["duplicate-steps", "steps-go-back"], (20,))


def test_batches_of_epochs_are_one_run() -> None:
    log = only(batch=count(10, 10, 10, 4), loss=falling(34))
    assert (kinds(log), steps(log), log.goes_back) == (["steps-of-epochs"], list(range(34)), ())
    assert "3 times at equal distances, first at line 12" in log.damages[0].detail


def test_batches_logged_now_and_then_are_one_run() -> None:
    rows = range(0, 1_030, 10)
    log = only(step=[float(step % 103) for step in rows], loss=falling(len(rows)))
    assert "appended-runs" not in kinds(log)
    assert (np.diff(steps(log)) > 0).all()


def test_equal_runs_with_a_jump_of_the_loss_are_runs() -> None:
    assert len(logs(batch=count(10, 10, 10), loss=[*falling(10)] * 3)) == 3


def test_a_loss_that_turned_nan_does_not_hide_the_next_run() -> None:
    broken: list[float | None] = [*falling(5), *([float("nan")] * 5)]
    assert len(logs(step=count(10, 10), loss=[*broken, *falling(10)])) == 2


def test_epochs_tell_batches_from_runs() -> None:
    epoch = [float(e) for _ in range(2) for e in range(3) for _ in range(4)]
    first, second = logs(epoch=epoch, batch=count(*[4] * 6), loss=[*falling(12), *falling(12)])
    assert steps(first) == steps(second) == list(range(12))
    assert kinds(first) == kinds(second) == ["steps-of-epochs", "appended-runs"]


def test_many_uneven_resets_are_disorder() -> None:
    lengths = [3 + (7 * i) % 11 for i in range(40)]
    log = only(step=count(*lengths), loss=[v for n in lengths for v in falling(n)])
    assert kinds(log) == ["duplicate-steps", "steps-go-back"]
    assert len(log.goes_back) == 39


def test_one_row_ahead_of_the_others_is_no_run() -> None:
    assert kinds(only(step=[1.0, *count(20)], loss=falling(21))) == ["duplicate-steps", "steps-go-back"]


def test_rows_of_two_kinds_with_clocks_of_their_own_are_one_run() -> None:
    """Validation after each epoch, which counts epochs in the column of steps: mmengine writes so."""
    step: list[float | None] = []
    loss: list[float | None] = []
    accuracy: list[float | None] = []
    for epoch in range(1, 6):
        for at in range(10):
            step.append(float(100 * (epoch - 1) + 10 * (at + 1)))
            loss.append(1.0 / (epoch + at))
            accuracy.append(None)
        step.append(float(epoch))
        loss.append(None)
        accuracy.append(0.1 * epoch)
    log = only(step=step, loss=loss, accuracy=accuracy)
    assert (kinds(log), log.goes_back) == (["steps-from-epochs"], ())
    assert steps(log, "accuracy") == [100, 200, 300, 400, 500]
    assert steps(log) == list(range(10, 501, 10))


def test_appended_runs_with_one_metric_a_row() -> None:
    step: list[float | None] = []
    loss: list[float | None] = []
    val_loss: list[float | None] = []
    for n in (3, 2):
        for epoch in range(n):
            for at in range(4):
                step.append(float(4 * epoch + at))
                loss.append(2.0 / (1 + 4 * epoch + at))
                val_loss.append(None)
            step.append(float(4 * epoch + 3))
            loss.append(None)
            val_loss.append(1.0)
    first, second = logs(step=step, loss=loss, val_loss=val_loss)
    assert (steps(first, "val_loss"), steps(second, "val_loss")) == ([3, 7, 11], [3, 7])
    assert (steps(first), steps(second)) == (list(range(12)), list(range(8)))


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.integers(3, 40), min_size=1, max_size=6), st.integers(1, 50), st.integers(0, 100), st.integers(0, 2**32))
def test_no_row_is_lost_or_moved_to_another_run(lengths: list[int], stride: int, first: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    loss = [v * rng.lognormal(0, 0.1) for n in lengths for v in falling(n) if v is not None]
    found = logs(step=[first + stride * i for n in lengths for i in range(n)], loss=list(loss))
    assert np.concatenate([log.series[0].value for log in found]).tolist() == loss


def test_no_log_of_a_single_run_is_split() -> None:
    files = [path for path in (ROOT / "fixtures").rglob("*.csv") if "no-step" not in str(path)]
    assert len(files) > 20
    split = [path for path in files if len(read_csv(path.read_bytes(), path.name)) > 1]
    assert sorted(path.relative_to(ROOT / "fixtures").as_posix() for path in split) == [
        "formats/keras-csv/appended.csv",
        "formats/wandb-export-csv/chart.csv",
    ]


# -- epochs for steps -------------------------------------------------------------------------------------------------


def test_rows_that_know_their_epoch_alone_stand_at_its_last_step() -> None:
    log = only(
        step=[0.0, 1.0, 2.0, None, 3.0, 4.0, 5.0, None],
        epoch=[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0],
        loss=[1.0, 0.9, 0.8, None, 0.7, 0.6, 0.5, None],
        val_loss=[None, None, None, 1.5, None, None, None, 1.2],
    )
    assert steps(log, "val_loss") == [2, 5]
    assert kinds(log) == ["steps-from-epochs"]
    assert "lines 5, 9: no step in column step" in log.damages[0].detail


def test_an_epoch_between_others_stands_between_their_steps() -> None:
    log = only(step=[0.0, 100.0, 200.0, None, None], epoch=[0.0, 1.0, 2.0, 1.5, 9.0], loss=[3.0, 2.0, 1.0, 1.4, 1.0])
    assert steps(log) == [0, 100, 200, 150]
    assert kinds(log) == ["steps-from-epochs", "no-step", "steps-go-back"]


def test_rows_of_epochs_after_rows_without_one_stand_at_the_last_step_above() -> None:
    log = only(
        step=[0.0, 1.0, None, 2.0, 3.0, None], epoch=[None, None, 0.0, None, None, 1.0], loss=[3.0, 2.0, 2.5, 2.0, 1.0, 1.5]
    )
    assert steps(log) == [0, 1, 1, 2, 3, 3]
    assert "steps-from-epochs" in kinds(log)


def test_rows_that_know_neither_are_left_out() -> None:
    log = only(step=[0.0, None, 2.0], epoch=[0.0, None, 0.0], loss=[1.0, 2.0, 3.0])
    assert (steps(log), kinds(log)) == ([0, 2], ["no-step"])


# -- blanks -----------------------------------------------------------------------------------------------------------


def test_a_closing_row_of_another_kind_is_no_nan() -> None:
    """AlgoPerf writes a last row that holds the score and little else."""
    n = 20
    loss: list[float | None] = [1.0 if i < 10 else None for i in range(n)]
    scores: dict[str, list[float | None]] = {f"m{k}": [1.0] * n for k in range(4)}
    log = only(
        step=count(n + 1), loss=[*loss, None], score=[1.0] * (n + 1), **{name: [*cells, None] for name, cells in scores.items()}
    )
    series = next(s for s in log.series if s.tag == "loss")
    assert (len(series), int(np.isnan(series.value).sum())) == (n, 10)


def test_many_columns_with_blanks_of_their_own_take_little_time() -> None:
    rng = np.random.default_rng(0)
    columns: dict[str, list[float | None]] = {
        f"loss_{k}": [1.0 if i < k and rng.random() < 0.5 else None for i in range(1_000)] for k in range(1_000)
    }
    assert len(only(step=count(1_000), **columns).series) > 900


# -- the rest ---------------------------------------------------------------------------------------------------------


def test_a_table_with_a_clock_of_its_own() -> None:
    base = table(r=[1.0, 2.0], l=[5.0, 6.0])
    own = Table(
        base.columns,
        base.numbers,
        base.filled,
        base.line,
        (),
        clock=np.array([5, 11]),
        clock_name="sum of l",
        wall_time=np.array([1e9, 2e9]),
        settings={"env": "x"},
    )
    [log] = logs_of(own, "f", "csv")
    assert (steps(log, "r"), log.step_source, log.begun, log.settings) == ([5, 11], "sum of l", 1e9, {"env": "x"})
    [rows] = logs_of(own, "f", "csv", Hints("row"))
    assert (steps(rows, "r"), rows.step_unit) == ([0, 1], "row")


def test_a_table_without_rows() -> None:
    [log] = logs_of(Table(("step",), {}, {}, np.zeros(0, dtype=np.int64), ()), "f", "csv", NO_HINTS)
    assert (log.series, kinds(log)) == ((), ["empty-file"])


def test_an_error_lists_a_few_columns() -> None:
    with pytest.raises(UnreadableInputError) as error:
        logs(**{f"c{i}": [1.0, 1.0] for i in range(5_000)})
    assert error.value.ways_out[-1].endswith("c59 and 4,940 more")


def test_steps_beyond_the_integers_are_none() -> None:
    log = only(step=[0.0, 1e300, float("nan"), 3.0], loss=[1.0, 2.0, 3.0, 4.0])
    assert (steps(log), kinds(log)) == ([0, 3], ["no-step"])


def test_the_words_of_messages() -> None:
    assert (count_times(1, "value"), count_times(1_200, "value")) == ("1 value", "1,200 values")
    assert name_lines([3]) == "line 3"
    assert name_lines([1, 2, 3, 4, 5, 6]) == "lines 1, 2, 3, 4, 5 and 1 more"
    assert name_lines([1, 2], 40) == "lines 1, 2 and 35 more"


def test_which_column_counts() -> None:
    assert find_step_column(["loss", "Epoch", "trainer/global_step"]) == ("trainer/global_step", "step")
    assert find_step_column(["loss", "Epoch"]) == ("Epoch", "epoch")
    assert find_step_column(["loss"]) is None


def test_steps_that_repeat_and_go_back() -> None:
    back, damages = check_steps("f", [np.array([0, 1, 1, 2]), np.array([0, 5, 3])])
    assert back == (3,)
    assert [damage.kind for damage in damages] == ["duplicate-steps", "steps-go-back"]
