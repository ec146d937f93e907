"""The schedule that a logged learning rate shows by itself, and how it goes on."""

import numpy as np
import pytest

from traindoctor.optim.schedules import ScheduleSpec, learning_rate
from traindoctor.signals.shape import continuation, describe

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
FLAT = ScheduleSpec("huggingface.constant", 1e-3)


def run(spec, step=STEPS):
    return learning_rate(spec, step)


@pytest.mark.parametrize("stride", [1, 10])
@pytest.mark.parametrize(
    ("spec", "kind", "words"),
    [
        (FLAT, "constant", "constant at 0.001"),
        (COSINE, "phases", "cosine from 0.001"),
        (LINEAR, "phases", "linear from 0.001 to 0"),
        (POWER, "phases", "polynomial of power 2"),
        (ROOT, "phases", "inverse square root"),
        (STABLE, "phases", "constant at 0.001"),
        (STAIRS, "steps", "0.01 from step 300"),
        (RESTARTS, "restarts", "every 200 steps"),
    ],
    ids=lambda x: getattr(x, "name", None),
)
def test_the_shape_of_a_log(spec, kind, words, stride):
    made = describe(STEPS[::stride], run(spec)[::stride])
    assert (made.kind, words in made.text) == (kind, True), made.text
    assert made.error < 2e-3


def test_the_end_of_a_decay_is_told_before_it_comes():
    made = describe(STEPS[:600], run(COSINE)[:600])
    assert [phase.shape for phase in made.phases] == ["linear", "cosine"]
    assert made.warmup_stop == pytest.approx(100, abs=2)
    assert made.phases[-1].stop == pytest.approx(1000, rel=0.02)


def test_a_rate_that_is_held_for_an_epoch():
    made = describe(STEPS, run(ScheduleSpec("torch.CosineAnnealingLR", 0.1, {"T_max": 40}, every=25.0)))
    assert made.held == 25.0
    assert "moved every 25 steps" in made.text


@pytest.mark.parametrize("value", [np.zeros(0), np.ones(2), np.full(5, np.nan)])
def test_too_little_is_unknown(value):
    assert describe(np.arange(value.size), value).kind == "unknown"


def test_noise_is_unknown():
    assert describe(STEPS, np.random.default_rng(1).uniform(0.1, 1.0, 1000)).kind == "unknown"


@pytest.mark.parametrize(
    ("spec", "far"),
    [(COSINE, 1000), (LINEAR, 1000), (STAIRS, 3000), (ROOT, 5000), (RESTARTS, 3000), (FLAT, 9000), (POWER, 1000)],
    ids=lambda x: getattr(x, "name", None),
)
def test_the_log_goes_on_as_its_schedule_would(spec, far):
    seen = 950 if spec is STAIRS else 700
    rate = continuation(STEPS[:seen], run(spec)[:seen])
    at = np.arange(0, far, 13)
    np.testing.assert_allclose(rate(at), run(spec, at), atol=0.02 * np.max(run(spec)))


def test_the_continuation_of_nothing_is_nan():
    assert np.isnan(continuation(STEPS[:0], np.zeros(0))(STEPS)).all()


def test_the_continuation_of_noise_holds_the_last_rate():
    value = np.random.default_rng(1).uniform(0.1, 1.0, 100)
    np.testing.assert_array_equal(continuation(STEPS[:100], value)(np.array([99, 100, 5000])), value[-1])
