from dataclasses import replace

import numpy as np
import pytest

from traindoctor.rule import run_of
from traindoctor.signals.measurements import Measurements
from traindoctor.signals.pace import clock, tail, waiting

N = 300
STEP = np.arange(N)
DRAW = np.random.default_rng(1)
COMPUTE = 0.1 + 0.005 * DRAW.random(N)
WAIT = 0.3 + 0.02 * DRAW.random(N)


def timed(seconds, every=1, **quantities):
    """Return the measurements of a run that took so long for each step, by the clock of its log alone."""
    run = run_of(every=every, loss=np.linspace(2.0, 1.0, len(seconds)), **quantities)
    wall = 1.7e9 + np.cumsum(seconds)
    loss = replace(run.primary["loss"], wall_time=wall)
    return Measurements(replace(run, series=(loss,), primary={**run.primary, "loss": loss}))


class TestWaiting:
    def test_share_of_the_step_time(self):
        seen = waiting(Measurements(run_of(data_time=WAIT, step_time=COMPUTE + WAIT)))
        assert seen.share == pytest.approx(0.75, abs=0.02)
        assert seen.often == 1.0

    def test_a_step_time_that_leaves_the_wait_out(self):
        seen = waiting(Measurements(run_of(data_time=WAIT, step_time=COMPUTE)))
        assert seen.share == pytest.approx(0.75, abs=0.02)

    def test_the_first_steps_do_not_count(self):
        first = np.where(STEP == 0, 100.0, 0.001)
        assert waiting(Measurements(run_of(data_time=first, step_time=COMPUTE + first))).share < 0.02

    @pytest.mark.parametrize("data_time", [[0.1, 0.2], -np.ones(N), np.full(N, np.nan)])
    def test_nothing_to_say(self, data_time):
        assert waiting(Measurements(run_of(data_time=data_time, loss=np.ones(N)))) is None

    def test_neither_step_times_nor_a_clock(self):
        assert waiting(Measurements(run_of(data_time=WAIT))) is None


class TestTail:
    def test_a_steady_pace(self):
        seen = tail(timed(COMPUTE))
        assert seen.lost < 0.02
        assert seen.long == 0.0

    def test_long_steps_now_and_then(self):
        at = DRAW.random(N) < 0.1
        seen = tail(timed(COMPUTE + 4.0 * at))
        assert seen.lost > 0.6
        assert seen.spread > 0.6
        assert np.isnan(seen.period)
        assert seen.usual == pytest.approx(0.1, rel=0.05)

    def test_workers_in_turn(self):
        assert tail(timed(COMPUTE + 2.0 * (STEP % 8 == 0))).period == 8.0

    def test_a_slow_start_alone(self):
        assert tail(timed(COMPUTE + 60.0 * (STEP == 0))).lost < 0.02

    def test_step_times_come_before_the_clock(self):
        assert tail(Measurements(run_of(step_time=COMPUTE))).source.endswith("step_time")

    def test_pauses_for_validation(self):
        seconds = COMPUTE + 5.0 * (STEP % 50 == 0)
        held = run_of(every=50, val_loss=np.ones(6))
        m = timed(seconds)
        run = replace(m.run, primary={**m.run.primary, **held.primary})
        assert tail(Measurements(run)).at_evaluations == 1.0

    def test_a_clock_of_whole_seconds_tells_nothing(self):
        assert tail(timed(np.ones(N))) is None

    def test_a_log_that_was_converted_in_one_go(self):
        assert tail(timed(1e-5 * COMPUTE + 0.1 * (STEP % 25 == 7))) is None

    def test_no_clock(self):
        assert tail(Measurements(run_of(loss=COMPUTE))) is None
        assert tail(Measurements(run_of(val_loss=COMPUTE))) is None


def test_the_clock_counts_seconds_a_step_and_leaves_out_restarts():
    m = timed(np.full(N, 5.0), every=10)
    step, seconds = clock(Measurements(replace(m.run, restarts=(1000,))), "loss")
    assert np.allclose(seconds, 0.5)
    assert 1000 not in step
    assert step.size == N - 2
