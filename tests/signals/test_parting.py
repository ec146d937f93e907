import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindoctor.signals.parting import EXACT, Allowance, Curve, Parting, Together, parting

LOSS = Allowance(0.25, 0.1, 3.0)


def descent(seed=0, n=300, every=1, noise=0.05, floor=0.1, speed=1.0):
    """Return a noisy descent, logged every so many steps."""
    rng = np.random.default_rng(seed)
    step = np.arange(0, n * every, every)
    level = floor + 2.0 / (1.0 + speed * step / 20.0)
    return Curve(step, level * np.exp(noise * rng.standard_normal(n)))


def leaving(curve, at, factor=3.0):
    return Curve(curve.step, np.where(curve.step >= at, curve.value * factor, curve.value))


@pytest.mark.parametrize("seed", range(10))
def test_two_seeds_of_one_recipe_stay_together(seed):
    assert isinstance(parting([descent(seed)], descent(seed + 100), LOSS), Together)


@pytest.mark.parametrize("every", [1, 7])
@pytest.mark.parametrize("at", [60, 150, 240])
def test_a_curve_that_leaves_is_seen_where_it_does(at, every):
    found = parting([descent(1)], leaving(descent(2, n=300 // every, every=every), at), LOSS)
    assert isinstance(found, Parting)
    assert found.step == pytest.approx(at, abs=2 * every + 12)
    assert found.since is not None
    assert at - 4 * every - 12 <= found.since <= found.step
    assert found.bad > found.high > found.good > found.low
    assert found.until is None


def test_curves_that_come_together_again():
    good, bad = descent(1), descent(2)
    bump = Curve(bad.step, np.where((bad.step >= 100) & (bad.step < 160), 4.0 * bad.value, bad.value))
    assert parting([good], bump, LOSS).until == pytest.approx(160, abs=8)


def test_a_run_that_is_a_little_slower_is_the_same_and_one_that_is_much_slower_is_not():
    assert isinstance(parting([descent(1)], descent(2, speed=0.85), LOSS), Together)
    assert isinstance(parting([descent(1)], descent(2, speed=0.2), LOSS), Parting)


def test_good_runs_that_lie_apart_widen_the_band():
    good, bad = [descent(1), descent(2, floor=0.2), descent(3, floor=0.14)], descent(4, floor=0.21)
    assert isinstance(parting(good[:1], bad, LOSS), Parting)
    assert isinstance(parting(good, bad, LOSS), Together)


def test_apart_from_the_start():
    found = parting([descent(1)], leaving(descent(2), 0), LOSS)
    assert (found.step, found.since) == (0, None)


def test_only_common_steps_are_compared():
    found = parting([descent(1, n=300)], descent(2, n=80), LOSS)
    assert (found.start, found.stop, found.n_points) == (0, 79, 80)
    assert parting([descent(1, n=50)], Curve(np.arange(60, 100), np.ones(40)), LOSS) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_lost_is_a_parting(bad):
    curve = descent(2)
    value = curve.value.copy()
    value[200:] = bad
    found = parting([descent(1)], Curve(curve.step, value), LOSS)
    assert (found.step, found.since, found.lost) == (200, 199, True)


def test_a_value_that_the_good_run_lost_too_is_none():
    good, bad = descent(1), descent(2)
    good.value[100], bad.value[120] = np.nan, np.nan
    assert isinstance(parting([good], bad, LOSS), Together)


def test_all_values_lost():
    curve = descent(2)
    found = parting([descent(1)], Curve(curve.step, np.full(curve.step.size, np.nan)), LOSS)
    assert (found.step, found.since, found.lost) == (0, None, True)


def test_a_schedule_is_compared_without_noise():
    step = np.arange(100)
    constant = Curve(step, np.full(100, 1e-3))
    assert isinstance(parting([constant], Curve(step[::7], np.full(15, 1e-3)), EXACT), Together)
    stepped = Curve(step, np.where(step < 60, 1e-3, 1e-4))
    assert parting([constant], stepped, EXACT).step == 60
    assert parting([constant], Curve(step, np.full(100, 1.1e-3)), EXACT).since is None


def test_further_points_than_are_compared():
    good, bad = descent(1, n=100_000), leaving(descent(2, n=100_000), 50_000)
    begin = time.perf_counter()
    assert parting([good], bad, LOSS).step == pytest.approx(50_000, rel=0.02)
    assert time.perf_counter() - begin < 1.0


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), max_size=40),
    st.lists(st.floats(allow_nan=True, allow_infinity=True, width=64), max_size=40),
)
@settings(max_examples=200, deadline=None)
def test_no_log_is_too_hostile(a, b):
    with np.errstate(all="ignore"):
        found = parting([Curve(np.arange(len(a)), np.array(a))], Curve(np.arange(len(b)), np.array(b)), LOSS)
    assert found is None or isinstance(found, Parting | Together)


@given(st.floats(1e-6, 1e6), st.integers(0, 1_000_000))
@settings(max_examples=30, deadline=None)
def test_scale_and_shift_of_the_steps_change_nothing(scale, shift):
    good, bad = descent(1), leaving(descent(2), 150)
    moved = [Curve(c.step + shift, scale * c.value) for c in (good, bad)]
    assert parting(moved[:1], moved[1], LOSS).step == parting([good], bad, LOSS).step + shift
