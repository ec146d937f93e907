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
    assert schedule_spec(told).assumed == {"every", "num_warmup_steps"}
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


# -- what one framework alone means -----------------------------------------------------------------------------------

TRAINER = settings(dialect="Hugging Face TrainingArguments", optimizer__lr=1e-3, schedule__name="cosine")


def test_a_ratio_is_a_share_of_the_run():
    told = {**TRAINER, **settings(schedule__warmup_ratio=0.055, epochs=3)}
    spec = schedule_spec(told, steps_per_epoch=100.0)
    assert dict(spec.settings) == {"num_warmup_steps": 17, "num_training_steps": 300}  # rounded up, as the Trainer does
    assert (spec.assumed, spec.origin["num_warmup_steps"]) == (frozenset(), "config.yaml: schedule.warmup_ratio")
    by_steps = schedule_spec({**told, **settings(steps=1000, schedule__warmup_steps=0)})
    assert dict(by_steps.settings) == {"num_warmup_steps": 55, "num_training_steps": 1000}
    both = schedule_spec({**told, **settings(steps=1000, schedule__warmup_steps=30)})
    assert both.settings["num_warmup_steps"] == 30


def test_a_ratio_of_a_length_that_is_not_known_is_assumed():
    told = {**TRAINER, **settings(schedule__warmup_ratio=0.1, epochs=3)}
    assert schedule_spec(told).assumed >= {"num_warmup_steps", "num_training_steps"}
    assert configured_schedule({**TRAINER, **settings(schedule__warmup_ratio=0.1)}).missing == ("schedule.total_steps",)


@pytest.mark.parametrize("name", ["constant_with_warmup", "inverse_sqrt"])
def test_a_ratio_where_the_schedule_has_no_length(name):
    told = {**TRAINER, **settings(schedule__name=name, schedule__warmup_ratio=0.1)}
    assert schedule_spec({**told, **settings(steps=500)}).settings["num_warmup_steps"] == 50
    assert configured_schedule(told).missing == ("schedule.total_steps",)


def test_a_warmup_that_nobody_mentions_is_assumed_where_the_framework_may_have_one():
    cosine = settings(optimizer__lr=0.1, schedule__name="cosine", schedule__total_steps=500)
    assert "num_warmup_steps" in schedule_spec(cosine).assumed
    assert "num_warmup_steps" in schedule_spec({**cosine, **settings(dialect="axolotl")}).assumed
    assert "num_warmup_steps" not in schedule_spec({**cosine, **settings(dialect="Hugging Face TrainingArguments")}).assumed


def test_a_lowest_rate_as_a_share():
    spec = schedule_spec({**TRAINER, **settings(schedule__min_lr_ratio=0.1, steps=100)})
    assert spec.settings["min_lr"] == pytest.approx(1e-4)


TIMM = settings(
    dialect="timm",
    optimizer__lr=0.1,
    schedule__name="cosine",
    schedule__unit="epoch",
    schedule__warmup_epochs=5,
    schedule__warmup_lr=1e-5,
    schedule__min_lr=0.0,
    epochs=100,
)


def test_timm_counts_epochs_and_its_warmup_hides_the_decay():
    by_epoch = learning_rate(schedule_spec(TIMM, counted_by="epoch"), np.array([0, 4, 5, 50, 100]))
    at_five = 0.05 * (1.0 + np.cos(np.pi * 0.05))
    np.testing.assert_allclose(by_epoch, [1e-5, 1e-5 + 0.8 * (0.1 - 1e-5), at_five, 0.05, 0.0], atol=1e-12)
    by_step = schedule_spec(TIMM, steps_per_epoch=40.0)
    np.testing.assert_allclose(learning_rate(by_step, np.array([0, 160, 239, 2000, 4000])), by_epoch, atol=1e-12)
    assert "every" in schedule_spec(TIMM).assumed
    walked = {**TIMM, **settings(schedule__unit="epoch by step")}
    assert schedule_spec(walked, steps_per_epoch=40.0).settings["t_initial"] == 4000
    assert configured_schedule(walked).missing == ("steps in an epoch",)


def test_a_rate_that_timm_scales_to_the_batch_is_assumed():
    scaled = {**TIMM, "optimizer.lr": Setting(0.05, "args.yaml:11 (0.1 for a batch of 256, scaled to 128: one process)")}
    assert "lr" in schedule_spec(scaled, counted_by="epoch").assumed
    assert "lr" not in schedule_spec(TIMM, counted_by="epoch").assumed


def test_options_of_timm_that_are_not_followed(tmp_path):
    path = tmp_path / "args.yaml"
    path.write_text("opt: sgd\nlr: 0.1\nsched: cosine\nepochs: 10\nwarmup_epochs: 2\nwarmup_lr: 1.0e-5\nlr_noise: [0.4, 0.9]\n")
    made = configured_schedule(load_settings([path], tmp_path)[0], counted_by="epoch")
    assert (made.name, made.spec) == ("cosine with lr_noise", None)


def mmengine(tmp_path, schedulers):
    path = tmp_path / "config.py"
    path.write_text(
        "optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))\n"
        f"train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=12)\nparam_scheduler = [{schedulers}]\n"
    )
    return load_settings([path], tmp_path)[0]


def test_mmengine_warms_up_in_steps_and_decays_in_epochs(tmp_path):
    told = mmengine(
        tmp_path,
        "dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500), "
        "dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1)",
    )
    spec = schedule_spec(told, steps_per_epoch=1000.0)
    np.testing.assert_allclose(learning_rate(spec, np.array([0, 250, 500, 7999, 8000, 11000])), [0, 0.05, 0.1, 0.1, 0.01, 0.001])
    assert configured_schedule(told).missing == ("steps in an epoch",)


def test_mmengine_holds_the_rate_before_and_after(tmp_path):
    told = mmengine(
        tmp_path,
        "dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=11), "
        "dict(type='CosineAnnealingLR', eta_min=0.01, begin=6, end=12, T_max=6, by_epoch=True, convert_to_iter_based=True)",
    )
    rate = learning_rate(schedule_spec(told, steps_per_epoch=100.0), np.array([0, 10, 599, 600, 900, 1200, 1500]))
    np.testing.assert_allclose(rate, [0.01, 0.1, 0.1, 0.1, 0.055, 0.01, 0.01])


@pytest.mark.parametrize(
    "schedulers",
    [
        "dict(type='CosineAnnealingLR', end=6, T_max=6), dict(type='MultiStepLR', begin=6, milestones=[8])",
        "dict(type='OneCycleLR', total_steps=12, eta_max=1.0)",
        "dict(type='LinearLR', end=3), dict(type='CosineAnnealingLR', eta_min=0.01, begin=0, T_max=12)",
        "dict(type='CosineAnnealingLR', by_epoch=True)",
    ],
)
def test_what_of_mmengine_is_not_followed_is_unknown(tmp_path, schedulers):
    assert schedule_spec(mmengine(tmp_path, schedulers), steps_per_epoch=100.0) is None


def test_deepspeed(tmp_path):
    path = tmp_path / "ds_config.json"
    path.write_text(
        '{"train_micro_batch_size_per_gpu": 1, "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}},'
        ' "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_max_lr": 3e-4, "warmup_num_steps": 100,'
        ' "total_num_steps": 1100, "warmup_type": "linear"}}}'
    )
    spec = schedule_spec(load_settings([path], tmp_path)[0])
    assert (spec.name, spec.assumed) == ("deepspeed.WarmupDecayLR", frozenset())
    np.testing.assert_allclose(learning_rate(spec, np.array([0, 50, 100, 600, 1100, 2000])), [0, 1.5e-4, 3e-4, 1.5e-4, 0, 0])


def test_nanogpt_stays_at_its_lowest_rate():
    told = settings(
        dialect="nanoGPT",
        optimizer__lr=1e-3,
        schedule__name="cosine",
        schedule__min_lr=1e-4,
        schedule__warmup_steps=100,
        schedule__total_steps=5000,
        steps=9000,
    )
    spec = schedule_spec(told)
    assert spec.assumed == frozenset()
    np.testing.assert_allclose(learning_rate(spec, np.array([50, 100, 2550, 5000, 9000])), [5e-4, 1e-3, 5.5e-4, 1e-4, 1e-4])


def test_the_cosine_of_detectron2_is_not_that_of_others():
    assert schedule_spec({**FULL, **settings(dialect="Detectron2", schedule__name="WarmupCosineLR")}) is None
    stairs = {**FULL, **settings(dialect="Detectron2", schedule__name="WarmupMultiStepLR", schedule__unit="step")}
    assert schedule_spec(stairs).assumed == frozenset()
