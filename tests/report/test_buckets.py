import numpy as np
import pytest

from traindoctor.report.buckets import bucket


def steps(n):
    return np.arange(n, dtype=np.int64)


def test_a_short_series_stays_as_it_is():
    made = bucket(steps(3), np.array([1.0, 5.0, 2.0]))
    assert made.width == 1
    assert [s.middle.tolist() for s in made.stretches] == [[1.0, 5.0, 2.0]]
    assert made.stretches[0].step.tolist() == [0, 1, 2]


def test_an_empty_series_gives_nothing():
    assert bucket(steps(0), np.zeros(0)).stretches == ()


def test_a_spike_one_point_wide_is_in_the_range():
    value = np.ones(100_000)
    value[77_777] = 9.0
    made = bucket(steps(value.size), value, 500)
    assert sum(s.step.size for s in made.stretches) <= 600
    assert max(s.high.max() for s in made.stretches) == 9.0
    assert max(s.middle.max() for s in made.stretches) == 1.0


def test_values_that_are_not_finite_are_marks_and_counted():
    value = np.ones(10_000)
    value[100:300] = np.nan
    value[5000] = np.inf
    value[6000] = -np.inf
    made = bucket(steps(value.size), value)
    assert [(m.kind, m.first, m.last, m.n) for m in made.marks] == [
        ("NaN", 100, 299, 200),
        ("Inf", 5000, 5000, 1),
        ("−Inf", 6000, 6000, 1),
    ]
    assert len(made.stretches) == 2  # the line stops where nothing is finite, and only there


def test_only_nan_gives_marks_and_no_line():
    made = bucket(steps(1_000_000), np.full(1_000_000, np.nan))
    assert made.stretches == ()
    assert sum(m.n for m in made.marks) == 1_000_000


def test_a_step_back_and_a_gap_break_the_line():
    step = np.concatenate([np.arange(500), np.arange(300, 800), np.arange(5000, 5400)])
    made = bucket(step, np.ones(step.size))
    assert [(s.step[0] // 100, s.step[-1] // 100) for s in made.stretches] == [(0, 4), (3, 7), (50, 53)]


@pytest.mark.parametrize("n", [1, 2, 599, 600, 601, 6000])
def test_every_value_is_in_some_bucket(n):
    value = np.random.default_rng(n).standard_normal(n)
    made = bucket(steps(n), value, 600)
    assert min(s.low.min() for s in made.stretches) == value.min()
    assert max(s.high.max() for s in made.stretches) == value.max()


def test_rows_in_no_order_are_sorted():
    rng = np.random.default_rng(0)
    step = rng.permutation(2000)
    made = bucket(step, step.astype(float))
    assert len(made.stretches) == 1
    assert (np.diff(made.stretches[0].middle) > 0).all()
