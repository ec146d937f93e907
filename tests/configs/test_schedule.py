"""The schedule that settings name: what it is, where its values are from, what is missing, what is only assumed."""

import numpy as np
import pytest

from traindoctor.configs import load_settings
from traindoctor.configs.schedule import FAMILIES, configured_schedule, schedule_spec
from traindoctor.configs.vocabulary import whole_numbers
from traindoctor.model import Setting
from traindoctor.optim.schedules import FOLLOWS_A_METRIC, SCHEDULES, learning_rate


def settings(**values):
    """Return settings from keywords with "__" for a dot; the origin is the setting."""
    held = {key.replace("__", "."): value for key, value in values.items()}
    return {key: Setting(value, f"config.yaml: {key}") for key, value in held.items()}


FULL = settings(
    optimizer__lr=0.1,
    schedule__warmup_steps=10,
    schedule__total_steps=100,
    schedule__min_lr=0.01,
    schedule__decay=0.5,
    schedule__step_size=30,
    schedule__milestones=(20, 60),
    schedule__power=2.0,
    schedule__period=25,
    schedule__peak_lr=0.2,
    schedule__decay_steps=20,
)


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("cosine", "huggingface.cosine_with_min_lr"),
        ("CosineAnnealingLR", "huggingface.cosine_with_min_lr"),
        ("torch.optim.lr_scheduler.CosineAnnealingLR", "huggingface.cosine_with_min_lr"),
        ("cosine_with_min_lr", "huggingface.cosine_with_min_lr"),
        ("LinearWarmupCosineAnnealingLR", "huggingface.cosine_with_min_lr"),
        ("cosine_with_restarts", "huggingface.cosine_with_restarts"),
        ("CosineAnnealingWarmRestarts", "torch.CosineAnnealingWarmRestarts"),
        ("linear", "huggingface.linear"),
        ("constant", "huggingface.constant_with_warmup"),
        ("constant_with_warmup", "huggingface.constant_with_warmup"),
        ("StepLR", "torch.StepLR"),
        ("step", "torch.StepLR"),
        ("MultiStepLR", "torch.MultiStepLR"),
        ("WarmupMultiStepLR", "torch.MultiStepLR"),
        ("ExponentialLR", "torch.ExponentialLR"),
        ("polynomial", "huggingface.polynomial"),
        ("PolynomialDecay", "keras.PolynomialDecay"),
        ("ExponentialDecay", "keras.ExponentialDecay"),
        ("inverse_sqrt", "huggingface.inverse_sqrt"),
        ("warmup_stable_decay", "huggingface.warmup_stable_decay"),
        ("OneCycleLR", "torch.OneCycleLR"),
        ("CyclicLR", "torch.CyclicLR"),
        ("ReduceLROnPlateau", "torch.ReduceLROnPlateau"),
        ("reduce_lr_on_plateau", "torch.ReduceLROnPlateau"),
    ],
)
def test_every_name(name, schedule):
    made = configured_schedule({**FULL, **settings(schedule__name=name)})
    assert made.missing == ()
    assert made.spec is not None
    assert made.spec.name == schedule
    assert made.origin == made.spec.origin["name"] == "config.yaml: schedule.name"


def test_each_family_gives_a_schedule_that_can_be_computed():
    for name in FAMILIES:
        spec = schedule_spec({**FULL, **settings(schedule__name=name)})
        assert spec is not None, name
        assert spec.name in SCHEDULES or spec.name in FOLLOWS_A_METRIC, name
        if spec.name in SCHEDULES:
            assert learning_rate(spec, range(50)).shape == (50,), name


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("cosine", ("schedule.total_steps", "optimizer.lr")),
        ("linear", ("schedule.total_steps", "optimizer.lr")),
        ("StepLR", ("schedule.step_size", "optimizer.lr")),
        ("MultiStepLR", ("schedule.milestones", "optimizer.lr")),
        ("ExponentialLR", ("schedule.decay", "optimizer.lr")),
        ("inverse_sqrt", ("schedule.warmup_steps", "optimizer.lr")),
    ],
)
def test_what_is_missing_is_named_and_nothing_is_guessed(name, missing):
    made = configured_schedule(settings(schedule__name=name))
    assert made.spec is None
    assert set(made.missing) == set(missing)


@pytest.mark.parametrize("values", [{}, {"schedule__name": 3}, {"schedule__name": "auto"}])
def test_no_name_is_no_schedule(values):
    made = configured_schedule(settings(optimizer__lr=0.1, **values))
    assert (made.name, made.spec, made.missing) == ("", None, ())


def test_a_name_that_is_not_known_is_kept():
    made = configured_schedule(settings(optimizer__lr=0.1, schedule__name="my_own"))
    assert (made.name, made.spec, made.missing) == ("my_own", None, ())


def test_the_length_of_the_run_stands_in_and_is_assumed():
    cosine = settings(optimizer__lr=0.1, schedule__name="cosine")
    by_steps = schedule_spec({**cosine, **settings(steps=500, epochs=5)})
    assert by_steps.settings["num_training_steps"] == 500
    assert "num_training_steps" in by_steps.assumed
    assert by_steps.origin["num_training_steps"] == "the run's steps, config.yaml: steps"
    by_epochs = schedule_spec({**cosine, **settings(epochs=5)}, steps_per_epoch=20.0)
    assert by_epochs.settings["num_training_steps"] == 100
    calls = schedule_spec({**cosine, **settings(epochs=5)})
    assert calls.settings["num_training_steps"] == 5
    assert "every" in calls.assumed
    counted = schedule_spec({**cosine, **settings(epochs=5, steps=500)}, counted_by="epoch")
    assert counted.settings["num_training_steps"] == 5


def test_a_trainer_that_always_spans_the_run_assumes_nothing():
    told = settings(optimizer__lr=5e-5, schedule__name="linear", steps=300, dialect="Hugging Face TrainingArguments")
    assert schedule_spec(told).assumed == frozenset()


def test_a_length_of_as_many_as_epochs_counts_epochs():
    told = settings(optimizer__lr=0.1, schedule__name="CosineAnnealingLR", schedule__total_steps=10, epochs=10)
    assert schedule_spec(told, steps_per_epoch=23.0).every == 23.0
    assert schedule_spec(told).assumed == {"every"}
    assert schedule_spec(told, steps_per_epoch=23.0, counted_by="epoch").every == 1.0


def test_a_warmup_is_raised_onto_schedules_that_have_none():
    told = settings(optimizer__lr=0.1, schedule__name="WarmupMultiStepLR", schedule__milestones=(50,), schedule__warmup_steps=20)
    rate = learning_rate(schedule_spec(told), np.array([0, 10, 20, 49, 50]))
    np.testing.assert_allclose(rate, [0.0, 0.05, 0.1, 0.1, 0.01])


def test_a_log_of_epochs_counts_a_warmup_of_steps_in_epochs():
    told = settings(optimizer__lr=0.1, schedule__name="cosine", schedule__warmup_steps=100, epochs=20)
    spec = schedule_spec(told, steps_per_epoch=50.0, counted_by="epoch")
    assert dict(spec.settings) == {"num_warmup_steps": 2, "num_training_steps": 20}
    assert schedule_spec(told, counted_by="epoch").assumed >= {"num_warmup_steps"}
    by_steps = {**told, **settings(schedule__total_steps=1000)}
    assert schedule_spec(by_steps, steps_per_epoch=50.0, counted_by="epoch").every == 1 / 50


@pytest.mark.parametrize(
    ("value", "numbers"),
    [([30, 60], (30, 60)), ("30,60", (30, 60)), ("[30, 60]", (30, 60)), ([], None), ([1.5], None), ("a", None), (3, None)],
)
def test_whole_numbers(value, numbers):
    assert whole_numbers(value) == numbers


def test_from_a_file(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("optimizer: {name: sgd, lr: 0.1}\nscheduler:\n  name: MultiStepLR\n  milestones: [30, 60]\n  gamma: 0.2\n")
    held, _ = load_settings([path], tmp_path)
    spec = schedule_spec(held)
    assert dict(spec.settings) == {"milestones": (30, 60), "gamma": 0.2}
    assert spec.origin["milestones"] == "config.yaml:4"
