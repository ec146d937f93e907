"""Several logs of one run on one line of time: restarts, leftovers, ranks; nothing is dropped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindoctor.model import Histogram, Series
from traindoctor.readers.log import Log
from traindoctor.readers.stitch import Part, attempts, join

NAN = float("nan")


def part(
    name: str, steps, values=None, *, wall: float = NAN, tag: str = "loss", line: str = "tensorboard", pace: float = 1.0
) -> Part:
    step = np.asarray(list(steps), dtype=np.int64)
    value = np.asarray(list(values) if values is not None else step, dtype=np.float64)
    walls = wall + pace * np.arange(step.size, dtype=np.float64)
    return Part(Path("/run") / name, Log("tensorboard", (Series("", tag, step, value, walls, f"/run/{name}"),), begun=wall), line)


def one(joined, tag: str = "loss") -> Series:
    return next(s for s in joined.series if s.tag == tag)


def test_a_single_log_is_left_as_it_is() -> None:
    joined = join([part("a", range(5))])
    assert one(joined).step.tolist() == [0, 1, 2, 3, 4]
    assert (joined.restarts, joined.stitches, joined.damages) == ([], [], [])


def test_a_file_that_goes_on_is_joined() -> None:
    joined = join([part("b", range(5, 9), wall=105.0), part("a", range(5), wall=100.0)])
    assert one(joined).step.tolist() == list(range(9))
    assert [s.kind for s in joined.stitches] == ["joined"]
    assert joined.restarts == []


def test_a_resume_makes_void_what_was_logged_from_there_on() -> None:
    joined = join([part("a", range(10), wall=100.0), part("b", range(8, 14), range(80, 86), wall=200.0)])
    assert one(joined).step.tolist() == list(range(14))
    assert one(joined).value.tolist() == [*range(8), *range(80, 86)]
    aside = one(joined, "loss (set aside at the restart at step 8)")
    assert aside.step.tolist() == [8, 9]
    assert joined.restarts == [8]
    assert [(s.kind, s.step) for s in joined.stitches] == [("resumed", 8)]
    assert "steps 8 to 9 were logged before in a" in joined.stitches[0].detail
    assert joined.damages == []


def test_a_process_that_died_at_once_does_not_make_a_long_run_void() -> None:
    joined = join([part("a", range(1000), wall=100.0), part("b", range(500, 502), wall=9000.0)])
    assert len(one(joined)) == 1000
    assert one(joined, "loss (set aside, file begun later)").step.tolist() == [500, 501]
    assert [s.kind for s in joined.stitches] == ["leftover"]
    assert joined.restarts == []


def test_a_leftover_before_the_run_is_set_aside() -> None:
    joined = join([part("a", range(3), [9, 9, 9], wall=100.0), part("b", range(300), wall=200.0)])
    assert one(joined).value.tolist() == list(range(300))
    assert [s.kind for s in joined.stitches] == ["began-again"]
    assert sum(len(s) for s in joined.series) == 303


def test_two_attempts_of_some_length_are_two_runs() -> None:
    first, second = part("a", range(50), wall=100.0), part("b", range(60), wall=900.0)
    assert attempts([second, first]) == [[first], [second]]
    goes_on = part("c", range(60, 90), wall=2000.0)
    assert attempts([first, second, goes_on]) == [[first], [second, goes_on]]


@pytest.mark.parametrize(
    "later",
    [
        part("b", range(5), wall=900.0),
        part("b", range(30, 80), wall=900.0),
        part("b", range(50), wall=110.0),
        part("b", range(50), tag="x"),
    ],
    ids=["leftover", "resume", "side by side", "other tags"],
)
def test_what_is_no_attempt_by_itself(later: Part) -> None:
    first = part("a", range(50), wall=100.0)
    assert attempts([first, later]) == [[first, later]]


def test_files_written_side_by_side_are_ranks() -> None:
    joined = join([part("events.rank0", range(20), wall=100.0), part("events.rank3", range(20), range(20, 40), wall=100.4)])
    assert one(joined).value.tolist() == list(range(20))
    assert one(joined, "loss (rank 3)").value.tolist() == list(range(20, 40))
    assert [s.kind for s in joined.stitches] == ["rank"]
    assert joined.restarts == []


def test_lines_do_not_mix() -> None:
    joined = join([part("a", range(9), line="events"), part("b.csv", range(9), line="b")])
    assert [s.tag for s in joined.series] == ["loss", "loss"]
    assert joined.stitches == []


def test_a_resume_within_one_log() -> None:
    joined = join([part("a", [0, 1, 2, 3, 4, 5, 6, 3, 4, 5, 6, 7], range(12))])
    assert one(joined).step.tolist() == list(range(8))
    assert one(joined).value.tolist() == [0, 1, 2, 7, 8, 9, 10, 11]
    assert joined.restarts == [3]
    assert [s.kind for s in joined.stitches] == ["resumed"]


def test_one_value_out_of_order_is_no_resume() -> None:
    joined = join([part("a", [0, 10, 20, 15, 30, 40])])
    assert one(joined).step.tolist() == [0, 10, 20, 15, 30, 40]
    assert joined.restarts == []
    assert [d.kind for d in joined.damages] == ["steps-go-back"]


def test_many_resets_are_disorder() -> None:
    joined = join([part("a", [i for _ in range(30) for i in range(5)])])
    assert len(one(joined)) == 150
    assert {d.kind for d in joined.damages} == {"steps-go-back", "duplicate-steps"}


def test_a_session_start_that_the_file_records_is_a_restart() -> None:
    made = part("a", range(9))
    assert join([replace(made, log=replace(made.log, starts=(0, 4)))]).restarts == [4]


def test_histograms_are_joined_by_tag() -> None:
    def histogram(step: int) -> Histogram:
        x = np.array([float(step)])
        return Histogram("g", np.array([step]), x, x, x, x, np.full((1, 9), float(step)), "a")

    parts = [part("a", range(3), wall=1.0), part("b", range(3, 6), wall=5.0)]
    parts = [replace(p, log=replace(p.log, histograms=(histogram(i),))) for i, p in enumerate(parts)]
    (whole,) = join(parts).histograms
    assert whole.step.tolist() == [0, 1]
    assert whole.quantile.shape == (2, 9)


@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 60), min_size=1, max_size=40), st.floats(0, 1e4), st.booleans()), min_size=1, max_size=4
    )
)
@settings(derandomize=True, deadline=None, max_examples=200)
def test_nothing_is_dropped_whatever_the_files_hold(files) -> None:
    parts = [
        part(f"f{i}", sorted(steps) if rising else steps, np.arange(len(steps)) + 1000 * i, wall=wall)
        for i, (steps, wall, rising) in enumerate(files)
    ]
    joined = join(parts)
    assert sorted(v for s in joined.series for v in s.value.tolist()) == sorted(
        v for p in parts for v in p.log.series[0].value.tolist()
    )
    assert sum(len(p) for p in attempts(parts)) == len(parts)


def test_an_epoch_that_stands_in_every_row_is_no_doubt() -> None:
    assert join([part("a", [0, 0, 1, 1, 2, 2], tag="epoch")]).damages == []
    assert [d.kind for d in join([part("a", [0, 0, 1, 1, 2, 2])]).damages] == ["duplicate-steps"]


def test_a_resume_makes_void_what_other_tags_held_from_there_on() -> None:
    first, other = part("a", range(60), wall=100.0), part("a", [20, 55], tag="val_loss", wall=100.0).log.series
    first = replace(first, log=replace(first.log, series=(*first.log.series, *other)))
    joined = join([first, part("b", range(50, 70), wall=900.0)])
    assert one(joined, "val_loss").step.tolist() == [20]
    assert one(joined, "val_loss (set aside at the restart at step 50)").step.tolist() == [55]


def test_two_resumes_within_one_log_are_told_apart() -> None:
    joined = join([part("a", [*range(40), *range(30, 60), *range(50, 80)])])
    assert one(joined).step.tolist() == list(range(80))
    assert joined.restarts == [30, 50]
    assert [(s.kind, s.step) for s in joined.stitches] == [("resumed", 30), ("resumed", 50)]
    assert one(joined, "loss (set aside at the restart at step 30)").step.tolist() == list(range(30, 40))
    assert one(joined, "loss (set aside at the restart at step 50)").step.tolist() == list(range(50, 60))
