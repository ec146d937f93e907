import numpy as np
import pytest

from traindoctor.replay.verdict import course, judge, scaled

STEP = np.arange(600)
FALL = 10.0 ** -(STEP / 30.0)
FLOOR = np.maximum(FALL, 1e-10) * (1.0 + 0.2 * np.sin(STEP))
REBOUND = np.where(STEP < 400, FLOOR, 10.0 ** np.minimum(-10.0 + (STEP - 400) / 15.0, -3.0))


def said(base, candidate, step=STEP):
    return judge(course(step, base), course(step, candidate)).verdict


def test_the_figures_of_a_rebound():
    c = course(STEP, REBOUND)
    assert c.initial == pytest.approx(1.0, rel=0.2)
    assert c.best == pytest.approx(1e-10, rel=0.5)
    assert 400 <= c.onset <= 440
    assert c.rise == pytest.approx(7.0, abs=0.3)
    assert c.tail <= c.highest == pytest.approx(1e-3)
    assert c.steps_to(1e-5) == pytest.approx(150, abs=8)
    assert c.steps_to(1e-20) == np.inf


def test_a_rebound_that_is_gone_is_repaired_and_the_same_one_is_not():
    assert said(REBOUND, FLOOR) == "repairs"
    assert said(REBOUND, REBOUND) == "no effect"
    assert said(REBOUND, REBOUND * 20.0) == "worse"


def test_a_later_onset_is_postponed():
    later = np.where(STEP < 560, FLOOR, 1e-6)
    assert said(REBOUND, later) == "postpones"


def test_stable_but_far_from_the_best_is_no_repair():
    slow = np.maximum(10.0 ** -(STEP / 100.0), 1e-10)
    judgement = judge(course(STEP, REBOUND), course(STEP, slow))
    assert judgement.verdict != "repairs"
    assert judgement.slower is None
    assert "recorded best" in judgement.note


def test_a_run_that_still_falls_at_the_end_holds():
    falling = 10.0 ** -(STEP / 50.0)
    assert course(STEP, falling).rise == 0.0
    assert said(np.full(600, 1.0) + 0.01 * np.sin(STEP), falling) == "repairs"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_never_repaired(bad):
    dead = np.where(STEP < 300, FLOOR, bad)
    assert course(STEP, dead).onset == 300
    assert said(FLOOR, dead) == "worse"
    assert said(dead, FLOOR) == "repairs"
    assert said(dead, dead) == "no effect"


def test_a_run_that_never_learnt_is_not_repaired_by_standing_still():
    diverges = 10.0 ** (STEP / 50.0)
    assert said(diverges, np.ones(600)) != "repairs"
    assert said(diverges, np.maximum(10.0 ** -(STEP / 200.0), 0.3)) == "repairs"


def test_small_differences_of_noisy_runs_are_no_effect():
    rng = np.random.default_rng(0)
    noisy = [0.5 * np.exp(0.3 * rng.standard_normal(600)) for _ in range(2)]
    assert said(*noisy) == "no effect"
    assert said(noisy[0], noisy[1] * 0.5) == "no effect"  # half the loss from the first step on: nothing was learnt


def test_a_scaled_end_moves_the_verdict():
    base, better = course(STEP, REBOUND), course(STEP, FLOOR)
    assert judge(base, scaled(better, 1e9)).verdict != "repairs"


def test_one_point_and_two():
    one = np.array([0])
    assert said(np.array([1.0]), np.array([1.0]), one) == "no effect"
    assert said(np.array([1.0, 2.0]), np.array([1.0, 0.1]), np.array([0, 1])) == "repairs"
