import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindoctor.signals import changes


def late_rebound(every=10, n=600, quiet=1000, onset=3000, floor=1e-11, top=1e-3, noise=0.1, seed=0):
    """Return steps and a loss that falls from 1 to its floor, stays, and climbs by a decade in 40 steps from its onset on."""
    rng = np.random.default_rng(seed)
    step = np.arange(n) * every
    log = np.maximum(-step / quiet * -np.log10(floor), np.log10(floor))
    log = np.where(step > onset, np.minimum(np.log10(floor) + (step - onset) / 40.0, np.log10(top)), log)
    return step, 10.0 ** (log + noise * rng.standard_normal(n))


@pytest.mark.parametrize("onset", [2000, 3000, 4500])
@pytest.mark.parametrize("floor", [1e-11, 1e-7])
def test_a_late_rebound_is_found_where_it_is(onset, floor):
    step, value = late_rebound(onset=onset, floor=floor)
    found = changes.rebound(step, value)
    assert found.onset == pytest.approx(onset, rel=0.03)
    assert found.floor == pytest.approx(floor, rel=0.3)
    assert found.decades == pytest.approx(np.log10(1e-3 / floor), abs=0.3)
    assert found.quiet == pytest.approx(1000, rel=0.12)
    assert step[found.onset_index] == found.onset
    assert step[found.quiet_index] == found.quiet
    assert found.quiet_share == pytest.approx((found.onset - found.quiet) / step[-1])


def test_the_scale_of_a_loss_does_not_move_its_rebound():
    step, value = late_rebound()
    one, other = changes.rebound(step, value), changes.rebound(step, 1e5 * value)
    assert (one.onset, one.quiet) == (other.onset, other.quiet)
    assert one.decades == pytest.approx(other.decades)
    assert other.floor == pytest.approx(1e5 * one.floor)


def test_what_falls_does_not_rebound():
    step = np.arange(500)
    assert changes.rebound(step, np.exp(-step / 50.0)) is None
    assert changes.rebound(step, 1.0 / (1.0 + step)) is None
    assert changes.rebound(step, np.ones(500)) is None
    assert changes.rebound(step, np.exp(-step / 50.0) + 1e-3) is None


def test_what_is_too_short_does_not_rebound():
    assert changes.rebound(np.arange(0), np.zeros(0)) is None
    assert changes.rebound(np.arange(1), np.ones(1)) is None
    assert changes.rebound(np.arange(11), np.array([1.0] + [1e-9] * 5 + [1.0] * 5)) is None


def test_a_single_bad_point_is_no_rebound():
    step, value = late_rebound(onset=10**9)
    value[500] = 1.0
    assert changes.rebound(step, value) is None


def test_the_wandering_of_an_exact_fit_is_no_rebound():
    step = np.arange(300)
    value = np.where(step < 13, 10.0**-step, np.where(step % 2, 1e-14, 9e-14))
    assert changes.rebound(step, value) is None


def test_zeros_are_a_floor():
    step, value = late_rebound()
    value[(step > 1000) & (step < 3000)] = 0.0
    found = changes.rebound(step, value)
    assert found.onset == pytest.approx(3000, rel=0.03)
    assert np.isfinite(found.decades)


def test_first_above_has_to_hold():
    value = np.array([0.0, 2.0, 0.0, 2.0, 2.0, 0.0, 2.0, 2.0, 2.0])
    assert changes.first_above(value, 1.0, 1) == 1
    assert changes.first_above(value, 1.0, 2) == 3
    assert changes.first_above(value, 1.0, 3) == 6
    assert changes.first_above(value, 1.0, 4) is None
    assert changes.first_above(value, 5.0, 1) is None
    assert changes.first_above(np.zeros(0), 0.0, 1) is None


def test_spikes_are_one_point_wide():
    value = np.random.default_rng(1).standard_normal(1000)
    value[[100, 101, 700]] += 20.0
    value[300] -= 20.0
    assert changes.spikes(value, 8.0).tolist() == [100, 101, 700]


def test_no_spikes_in_nothing():
    assert changes.spikes(np.ones(100), 5.0).size == 0
    assert changes.spikes(np.array([1.0]), 5.0).size == 0
    assert changes.spikes(np.arange(100.0), 5.0).size == 0


def test_a_spike_on_a_constant_is_found():
    value = np.zeros(100)
    value[40] = 1.0
    assert changes.spikes(value, 5.0).tolist() == [40]


@settings(deadline=None)
@given(st.integers(0, 2**20), st.integers(-20, 20), st.integers(-1000, 1000), st.sampled_from([1, 3, 5, 8]))
def test_spikes_survive_shift_and_scale(seed, exponent, shift, threshold):
    """Values, shift and scale are exact in binary, so that rounding moves no point over the threshold."""
    rng = np.random.default_rng(seed)
    value = rng.integers(-64, 64, 200) + np.where(rng.random(200) < 0.02, 4096, 0).astype(np.float64)
    moved = 2.0**exponent * (value + shift)
    np.testing.assert_array_equal(changes.spikes(moved, threshold), changes.spikes(value, threshold))


@pytest.mark.parametrize("length", [4.0, 15.0, 37.5, 100.0])
def test_period_of_a_sine(length):
    n = np.arange(1000)
    rng = np.random.default_rng(2)
    found, share = changes.period(np.sin(2.0 * np.pi * n / length) + 0.1 * rng.standard_normal(n.size) + 2.0)
    assert found == pytest.approx(length, rel=0.06)
    assert share > 0.8


def test_period_of_an_alternating_loss_with_noise():
    rng = np.random.default_rng(3)
    for n in (100, 101, 102, 103):
        value = 0.4 + 0.02 * (-1.0) ** np.arange(n) + 0.004 * rng.standard_normal(n)
        found, _ = changes.period(value)
        assert found == pytest.approx(2.0, rel=0.04)


def test_white_noise_has_no_period():
    _, share = changes.period(np.random.default_rng(4).standard_normal(2000))
    assert share < 0.1


def test_no_period_of_what_is_short_or_constant():
    for value in (np.zeros(0), np.ones(1), np.sin(np.arange(15.0)), np.ones(100)):
        length, share = changes.period(value)
        assert np.isnan(length)
        assert share == 0.0


def test_relative_noise_is_free_of_scale():
    value = 10.0 + np.random.default_rng(5).standard_normal(20_000)
    assert changes.relative_noise(value) == pytest.approx(0.1, rel=0.05)
    assert changes.relative_noise(1e-6 * value) == pytest.approx(changes.relative_noise(value))
    assert np.isnan(changes.relative_noise(np.zeros(10)))
    assert np.isnan(changes.relative_noise(np.zeros(0)))
    assert np.isnan(changes.relative_noise(np.ones(2)))
