"""A logged learning rate against the configured schedule."""

import numpy as np
import pytest

from traindoctor.model import Run, Series, Setting
from traindoctor.optim.schedules import ScheduleSpec, learning_rate
from traindoctor.signals.schedule import reconcile, steps_per_epoch

STEPS = np.arange(1000)
COSINE = ScheduleSpec("huggingface.cosine", 1e-3, {"num_warmup_steps": 100, "num_training_steps": 1000})
LINEAR = ScheduleSpec("huggingface.linear", 1e-3, {"num_warmup_steps": 0, "num_training_steps": 1000})
STAIRS = ScheduleSpec("torch.StepLR", 0.1, {"step_size": 300, "gamma": 0.1})
ROOT = ScheduleSpec("huggingface.inverse_sqrt", 1e-3, {"num_warmup_steps": 100})
RESTARTS = ScheduleSpec("torch.CosineAnnealingWarmRestarts", 0.1, {"T_0": 200})
POWER = ScheduleSpec("huggingface.polynomial", 1e-3, {"num_warmup_steps": 50, "num_training_steps": 1000, "power": 2.0})
STABLE = ScheduleSpec(
    "huggingface.warmup_stable_decay", 1e-3, {"num_warmup_steps": 50, "num_training_steps": 1000, "num_decay_steps": 200}
)
ONE = ScheduleSpec("torch.OneCycleLR", 0.1, {"max_lr": 0.1, "total_steps": 1010})
FLAT = ScheduleSpec("huggingface.constant", 1e-3)
ALL = [COSINE, LINEAR, STAIRS, ROOT, RESTARTS, POWER, STABLE, ONE, FLAT]


def run(spec, step=STEPS):
    return learning_rate(spec, step)


# -- no false discrepancy ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spec", ALL, ids=lambda s: s.name)
@pytest.mark.parametrize("shift", [-1, 0, 1])
@pytest.mark.parametrize("stride", [1, 7, 50])
def test_a_log_that_follows_does(spec, shift, stride):
    step = STEPS[3::stride]
    for value in (run(spec, step), run(spec, step).astype(np.float32).astype(np.float64)):
        made = reconcile(step + shift, value, spec)
        assert made.answer == "follows", made.text


@pytest.mark.parametrize("spec", ALL, ids=lambda s: s.name)
def test_the_first_part_of_a_run_follows(spec):
    for n in (5, 30, 300):
        assert not reconcile(STEPS[:n], run(spec)[:n], spec).is_discrepancy


def test_three_printed_digits_follow():
    assert reconcile(STEPS, np.array([float(f"{v:.3g}") for v in run(COSINE)]), COSINE).answer == "follows"
    spec = ScheduleSpec("torch.CosineAnnealingLR", 0.1, {"T_max": 1000})
    assert reconcile(STEPS, np.round(run(spec), 3), spec).answer == "follows"


def test_one_odd_point_decides_nothing():
    value = run(COSINE)
    value[500] = 5.0 * value[500]
    value[501] = np.nan
    assert reconcile(STEPS, value, COSINE).answer == "follows"


def test_a_length_that_is_assumed_is_fitted():
    spec = ScheduleSpec(
        COSINE.name, 1e-3, {"num_warmup_steps": 100, "num_training_steps": 1300}, assumed=frozenset({"num_training_steps"})
    )
    made = reconcile(STEPS, run(COSINE), spec)
    assert made.answer == "follows"
    assert made.numbers["total_steps"] == pytest.approx(1000, abs=3)


def test_an_assumed_unit_is_fitted():
    spec = ScheduleSpec("torch.CosineAnnealingLR", 0.05, {"T_max": 10}, assumed=frozenset({"every"}))
    logged = 0.025 * (1.0 + np.cos(np.pi * (np.arange(230) // 23) / 10))
    made = reconcile(np.arange(230), logged, spec)
    assert made.answer == "follows"
    assert made.numbers["every"] == pytest.approx(23)


@pytest.mark.parametrize(
    ("step", "value", "spec", "words"),
    [
        (STEPS[:2], run(COSINE)[:2], COSINE, "fewer than three"),
        (STEPS, run(COSINE), None, "no schedule"),
        (STEPS, np.zeros(1000), COSINE, "0 throughout"),
        (STEPS, run(COSINE), ScheduleSpec("torch.ReduceLROnPlateau", 1e-3), "metric"),
        (STEPS[:0], np.zeros(0), COSINE, "fewer than three"),
    ],
)
def test_what_cannot_be_told_says_why(step, value, spec, words):
    made = reconcile(step, value, spec)
    assert (made.answer, words in made.text) == ("cannot-tell", True)


@pytest.mark.parametrize("start", [0.1, 0.3])
def test_where_a_warmup_begins_no_config_says(start):
    rise = 1e-3 * (start + (1.0 - start) * STEPS / 100)
    made = reconcile(STEPS, np.where(STEPS < 100, rise, run(COSINE)), COSINE)
    assert made.answer == "follows"
    assert made.numbers == {"warmup_from": pytest.approx(1e-3 * start)}


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_constant_where_a_schedule_was_configured():
    made = reconcile(STEPS, np.full(1000, 1e-3), COSINE)
    assert made.answer == "constant"
    assert made.numbers["learning_rate"] == 1e-3
    assert made.configured_error > 0.9


@pytest.mark.parametrize("factor", [8.0, 0.125, 1.05])
def test_scaled(factor):
    made = reconcile(STEPS, factor * run(COSINE), COSINE)
    assert made.answer == "scaled"
    assert made.numbers["factor"] == pytest.approx(factor, rel=1e-6)


def test_called_each_epoch_where_steps_are_counted():
    spec = ScheduleSpec("torch.CosineAnnealingLR", 0.1, {"T_max": 1000})
    made = reconcile(STEPS, run(spec, STEPS // 25), spec, steps_per_epoch=25.0)
    assert made.answer == "time-scaled"
    assert made.numbers["factor"] == pytest.approx(25.0)
    assert "once an epoch" in made.text


def test_called_each_step_where_epochs_are_counted():
    spec = ScheduleSpec("torch.CosineAnnealingLR", 0.1, {"T_max": 40}, every=25.0)
    called_each_step = ScheduleSpec(spec.name, 0.1, spec.settings)
    made = reconcile(STEPS, run(called_each_step), spec, steps_per_epoch=25.0)
    assert made.answer == "time-scaled"
    assert made.numbers["factor"] == pytest.approx(1 / 25.0)
    assert "counts epochs" in made.text


def test_stepped_once_per_process():
    made = reconcile(STEPS[::10], run(LINEAR, 4 * STEPS[::10]), LINEAR)
    assert made.answer == "time-scaled"
    assert made.numbers["factor"] == pytest.approx(0.25)
    assert "4 times faster" in made.text


def test_reset_at_a_resume():
    value = np.concatenate([run(COSINE)[:600], run(COSINE)[:400]])
    made = reconcile(STEPS, value, COSINE, restarts=[600])
    assert made.answer == "reset-at-resume"
    assert made.numbers["restart"] == 600
    assert 598 <= made.step <= 602


def test_warmed_up_again_at_a_resume():
    value = run(COSINE) * np.where(STEPS >= 600, np.clip((STEPS - 600) / 80, 0, 1), 1)
    made = reconcile(STEPS, value, COSINE, restarts=[600])
    assert made.answer == "rewarmed-at-resume"
    assert made.numbers["warmup_steps"] == pytest.approx(80, abs=2)


def test_a_restart_that_goes_on_is_no_discrepancy():
    assert reconcile(STEPS, run(COSINE), COSINE, restarts=[300, 600]).answer == "follows"


@pytest.mark.parametrize("stride", [1, 10])
def test_a_longer_warmup(stride):
    logged = ScheduleSpec(COSINE.name, 1e-3, {"num_warmup_steps": 250, "num_training_steps": 1000})
    made = reconcile(STEPS[::stride], run(logged)[::stride], COSINE)
    assert made.answer == "warmup-differs"
    assert made.numbers["warmup_steps"] == pytest.approx(250, abs=3)


@pytest.mark.parametrize("total", [500, 1800])
def test_another_length(total):
    logged = ScheduleSpec(COSINE.name, 1e-3, {"num_warmup_steps": 100, "num_training_steps": total})
    made = reconcile(STEPS[: min(1000, total)], run(logged)[: min(1000, total)], COSINE)
    assert made.answer == "total-differs"
    assert made.numbers["total_steps"] == pytest.approx(total, rel=0.01)


def test_another_schedule():
    made = reconcile(STEPS, run(LINEAR), ScheduleSpec("torch.CosineAnnealingLR", 1e-3, {"T_max": 1000}))
    assert made.answer == "another-schedule"
    assert "linear from 0.001 to 0" in made.text


def test_another_family_although_the_length_is_assumed():
    its = {"num_warmup_steps": 0, "num_training_steps": 700}
    spec = ScheduleSpec(LINEAR.name, 1e-3, its, assumed=frozenset({*its, "every"}))
    assert reconcile(STEPS, run(COSINE), spec).answer == "another-schedule"
    short = reconcile(STEPS[:150], run(COSINE)[:150], spec)  # a cosine near its peak could be much
    assert not short.is_discrepancy


def test_a_lowest_rate_of_the_script_is_no_other_family():
    spec = ScheduleSpec(COSINE.name, 1e-3, COSINE.settings, assumed=frozenset({"num_training_steps"}))
    assert not reconcile(STEPS, 1e-4 + 0.9 * run(COSINE), spec).is_discrepancy


def test_constant_over_a_part_of_an_epoch_tells_nothing():
    spec = ScheduleSpec("torch.CosineAnnealingLR", 1e-3, {"T_max": 5}, assumed=frozenset({"T_max", "every"}))
    assert reconcile(STEPS, np.full(1000, 1e-3), spec).answer == "cannot-tell"
    assert reconcile(STEPS, np.full(1000, 1e-3), spec, steps_per_epoch=2000.0).answer == "cannot-tell"
    assert reconcile(STEPS, np.full(1000, 1e-3), spec, steps_per_epoch=200.0).answer == "constant"


def test_what_nothing_explains():
    rng = np.random.default_rng(0)
    made = reconcile(STEPS, 1e-3 * rng.uniform(0.1, 1.0, 1000), COSINE)
    assert made.answer == "differs"
    assert made.is_discrepancy


def test_the_end_of_the_schedule_and_of_the_log_are_noted():
    assert "ends at step 499 of the schedule's 1,000" in reconcile(STEPS[:500], run(COSINE)[:500], COSINE).note
    long = np.arange(1500)
    assert "500 steps before the log" not in reconcile(STEPS, run(LINEAR), LINEAR).note
    assert "499 steps before the log" in reconcile(long, run(LINEAR, long), LINEAR).note


# -- steps in an epoch ------------------------------------------------------------------------------------------------


def of_run(settings, epoch=None):
    series = ()
    if epoch is not None:
        step = np.arange(len(epoch)) * 10
        series = (Series("epoch", "epoch", step, np.array(epoch, dtype=np.float64), np.full(len(epoch), np.nan)),)
    return Run("r", ".", ".", series, {s.quantity: s for s in series}, {k: Setting(v, "c") for k, v in settings.items()})


def test_steps_per_epoch():
    assert steps_per_epoch(of_run({"steps": 1000, "epochs": 10})) == 100.0
    assert steps_per_epoch(of_run({"epochs": 10})) is None
    assert steps_per_epoch(of_run({}, [0.0, 0.1, 0.2, 0.3])) == pytest.approx(100.0)
    assert steps_per_epoch(of_run({}, [0, 0, 1, 1, 1, 2, 2, 2, 3])) == pytest.approx(30.0)
    assert steps_per_epoch(of_run({}, [0, 0, 0])) is None
    assert steps_per_epoch(of_run({}, [0.01, 0.03, 0.04, 0.06])) is None  # rounded to two decimals
