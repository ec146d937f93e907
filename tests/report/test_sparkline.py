"""A loss as a line of bars, and the levels that it spans."""

import numpy as np
import pytest

from traindoctor.report.sparkline import ASCII_BARS, BARS, drawable, levels_of, scale_words, sparkline


def test_bars():
    step, rising = np.arange(8), 10.0 ** np.linspace(-7, 0, 8)
    assert sparkline(step, rising, (0, 7), (1e-7, 1.0), 8) == BARS
    assert sparkline(step, rising, (0, 7), (1e-7, 1.0), 8, ascii_only=True) == ASCII_BARS
    assert sparkline(step, rising, (0, 7), (0.0, 1.0), 8)[0] == BARS[0]
    assert sparkline(np.arange(3), np.array([1, np.nan, 1]), (0, 2), (0.1, 1.0), 3) == "█×█"
    assert sparkline(np.arange(3), np.array([-1.0, 0.0, 1.0]), (0, 2), (-1.0, 1.0), 3) == f"{BARS[0]}{BARS[4]}{BARS[7]}"
    assert sparkline(np.arange(3), np.full(3, 5.0), (0, 2), (5.0, 5.0), 3) == BARS[0] * 3


def test_a_curve_stands_where_its_steps_are():
    assert sparkline(np.array([4, 9]), np.ones(2), (0, 9), (0.1, 1.0), 10) == "    ██████"
    assert sparkline(np.arange(0), np.ones(0), (0, 9), (0.1, 1.0), 10) == ""


def test_a_spike_of_one_point_is_seen():
    spike = np.ones(1000)
    spike[567] = 1e3
    assert sparkline(np.arange(1000), spike, (0, 999), (1.0, 1e3), 20).count("█") == 1


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([[1e-3, 1.0]], (1e-3, 1.0)),
        ([[1e-3, 1.0], [1e9]], (1e-3, 100.0)),
        ([[1e-30, 1.0]], (1e-14, 1.0)),
        ([[-1.0, 2.0]], (-1.0, 2.0)),
        ([[0.0, 2.0]], (0.0, 2.0)),
        ([[0.0, 2.0, 1.0]], (1.0, 2.0)),
        ([[3.0, 3.0]], (1.5, 6.0)),
        ([[np.nan]], (0.0, 1.0)),
    ],
)
def test_levels(values, levels):
    assert levels_of([np.array(v) for v in values], 100.0) == pytest.approx(levels)


def test_the_scale_in_words():
    assert scale_words((1e-12, 70.0)) == "log scale from 1e-12 to 70"
    assert scale_words((0.0, 2.0)) == "linear scale from 0 to 2"


def test_what_can_hold_the_bars():
    assert drawable("utf-8")
    assert not drawable("ascii")
    assert not drawable("no such encoding")
    assert drawable(None)
