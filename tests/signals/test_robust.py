import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter
from scipy.stats import theilslopes

from traindoctor.signals import robust

RNG = np.random.default_rng(0)
EMPTY = np.zeros(0)


def brute_force(value, window):
    window = min(window, value.size) // 2 * 2 + 1
    half, last = window // 2, value.size - 1
    return np.array([np.median([value[min(max(j, 0), last)] for j in range(i - half, i + half + 1)]) for i in range(value.size)])


@pytest.mark.parametrize("n", [3, 4, 7, 50, 333])
@pytest.mark.parametrize("window", [2, 3, 4, 9, 1000])
def test_running_median_equals_brute_force(n, window):
    value = RNG.standard_normal(n)
    np.testing.assert_array_equal(robust.running_median(value, window), brute_force(value, window))


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), max_size=40), st.integers(0, 50))
def test_running_median_of_anything(value, window):
    value = np.array(value)
    smooth = robust.running_median(value, window)
    assert smooth.shape == value.shape
    if value.size >= 3 and window > 1:
        np.testing.assert_array_equal(smooth, brute_force(value, window))


@pytest.mark.parametrize("extra", [0, 1])
@pytest.mark.parametrize("window", [3, 22, 301])
def test_running_median_of_a_long_series_equals_scipy(window, extra):
    value = RNG.standard_normal(robust.LONG_SERIES + extra)
    smooth = robust.running_median(value, window)
    np.testing.assert_array_equal(smooth, median_filter(value, size=window // 2 * 2 + 1, mode="nearest"))
    at = np.arange(1000, 1010)
    np.testing.assert_array_equal(smooth[at], [np.median(value[i - window // 2 : i + window // 2 + 1]) for i in at])


def test_running_median_returns_a_copy_of_what_is_too_short():
    for value in (EMPTY, np.array([1.0]), np.array([2.0, 1.0])):
        smooth = robust.running_median(value, 5)
        assert smooth is not value
        np.testing.assert_array_equal(smooth, value)


def test_one_outlier_does_not_reach_the_median():
    value = np.zeros(30)
    value[12] = 1e9
    assert not robust.running_median(value, 3).any()


def test_spread_of_normal_numbers():
    assert robust.spread(3.0 * RNG.standard_normal(100_000)) == pytest.approx(3.0, rel=0.02)
    assert np.isnan(robust.spread(EMPTY))
    assert robust.spread(np.array([5.0])) == 0.0
    assert robust.spread(np.array([0.0, 0.0, 0.0, 1e9])) == 0.0
    assert np.isnan(robust.spread(np.array([1.0, np.nan])))


def test_noise_of_steps_is_free_of_the_trend():
    noise = 0.5 * RNG.standard_normal(100_000)
    assert robust.step_noise(noise) == pytest.approx(0.5, rel=0.02)
    assert robust.step_noise(noise + 3.0 * np.arange(noise.size)) == pytest.approx(0.5, rel=0.02)
    assert robust.step_noise(np.arange(100.0)) == 0.0
    assert np.isnan(robust.step_noise(np.array([1.0, 2.0])))


def test_autocorrelation_of_smooth_and_white():
    smooth = np.sin(np.linspace(0.0, 6.0, 2000))
    white = RNG.standard_normal(20_000)
    assert robust.autocorrelation(smooth, 1) > 0.999
    assert abs(robust.autocorrelation(white, 1)) < 0.03
    assert robust.autocorrelation((-1.0) ** np.arange(100), 1) == pytest.approx(-1.0)
    assert robust.autocorrelation((-1.0) ** np.arange(100), 2) == pytest.approx(1.0)


def test_correlation_is_undefined_where_nothing_varies():
    assert np.isnan(robust.autocorrelation(np.ones(50), 1))
    assert np.isnan(robust.autocorrelation(np.array([1.0, 2.0]), 1))
    assert np.isnan(robust.autocorrelation(EMPTY, 1))
    assert np.isnan(robust.correlation(np.arange(2.0), np.arange(2.0)))
    assert np.isnan(robust.correlation(np.array([1.0, np.nan, 2.0]), np.arange(3.0)))
    a, b = RNG.standard_normal((2, 500))
    assert robust.correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert robust.correlation(a, 2.0 - 3.0 * a) == pytest.approx(-1.0)


def test_slope_is_that_of_theil_and_sen():
    x = np.sort(RNG.uniform(0.0, 10.0, 80))
    y = 2.5 * x + RNG.standard_normal(80)
    assert robust.slope(x, y) == pytest.approx(theilslopes(y, x).slope)
    y[:20] = 1e6  # a quarter of the points is wild
    assert robust.slope(x[20:], y[20:]) == pytest.approx(2.5, abs=0.3)
    assert robust.slope(np.arange(5000.0), 0.5 * np.arange(5000.0)) == pytest.approx(0.5)
    assert np.isnan(robust.slope(np.array([1.0]), np.array([1.0])))
    assert np.isnan(robust.slope(np.array([1.0, 1.0]), np.array([1.0, 2.0])))


def test_log_is_held_from_below():
    np.testing.assert_allclose(robust.log_floored(np.array([100.0, 1e-30, 0.0, -5.0]), 1e-12), [2.0, -12.0, -12.0, -12.0])
