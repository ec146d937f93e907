import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.replay.quadratics import log_of
from traindoctor.model import OptimizerSpec
from traindoctor.replay.candidates import SIMULATED, Candidate, candidate_of, title_of
from traindoctor.signals.measurements import Measurements

ADAM = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
SGD = OptimizerSpec("sgd", lr=0.1, momentum=0.9)
LOSS = np.geomspace(1.0, 0.1, 50)


def made(settings, spec=ADAM, **run_settings):
    return candidate_of(settings, Measurements(log_of(spec, LOSS, **run_settings)))


def test_settings_of_the_optimizer_go_into_its_spec():
    assert made({"optimizer.eps": 0.1}).spec.eps == 0.1
    assert made({"optimizer.amsgrad": True}).spec.amsgrad is True
    assert made({"optimizer.beta1": 0.5}).spec.beta1 == 0.5
    assert made({"optimizer.momentum": 0.5}, SGD).spec.momentum == 0.5
    assert made({"optimizer.nesterov": True}, SGD).spec.nesterov is True
    both = made({"optimizer.betas": [0.8, 0.99]}).spec
    assert (both.beta1, both.beta2) == (0.8, 0.99)


def test_a_rate_is_a_factor_on_the_logged_one():
    assert made({"optimizer.lr": 1e-4}).lr_factor == pytest.approx(0.1)
    halving = candidate_of({"optimizer.lr": 5e-4}, Measurements(log_of(ADAM, LOSS, lr=np.linspace(2e-3, 0.0, 50))))
    assert halving.lr_factor == pytest.approx(0.25)


def test_a_batch_is_a_factor_on_the_noise():
    assert made({"batch_size": 256}, batch_size=64).noise_factor == pytest.approx(0.25)
    assert made({"gradient.accumulation_steps": 4}).noise_factor == pytest.approx(0.25)
    assert made({"gradient.accumulation_steps": 4}, gradient__accumulation_steps=2).noise_factor == pytest.approx(0.5)
    together = made({"batch_size": 128, "gradient.accumulation_steps": 2}, batch_size=64)
    assert together.noise_factor == pytest.approx(0.25)


def test_several_changes_are_one_candidate():
    both = made({"optimizer.lr": 1e-4, "schedule.name": "cosine", "gradient.clip_norm": 2.0, "schedule.warmup_steps": 10})
    assert (both.lr_factor, both.schedule, both.clip_norm, both.warmup_steps) == (pytest.approx(0.1), "cosine", 2.0, 10)
    assert both.title == "lr 0.0001 with cosine decay to 0 with clip norm 2 with warmup over 10 steps"


def test_no_change_is_the_recorded_run():
    assert made({}) == Candidate("as recorded", {}, ADAM)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"optimizer.name": "sgd"}, "optimizer.name"),
        ({"precision": "float32"}, "precision"),
        ({"optimizer.colour": 1.0}, "optimizer.colour"),
        ({"batch_size": 64}, "batch size of the run is not known"),
        ({"schedule.name": "sawtooth"}, "sawtooth"),
        ({"optimizer.lr": "high"}, "high"),
        ({"optimizer.betas": 0.9}, "0.9"),
        ({"schedule.warmup_steps": 1.5}, "1.5"),
        ({"gradient.zero_grad": 1}, "1"),
    ],
)
def test_what_cannot_be_tried_has_its_reason(settings, reason):
    answer = made(settings)
    assert isinstance(answer, str)
    assert reason in answer


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer.lr": -1.0},
        {"optimizer.lr": math.nan},
        {"optimizer.eps": -1.0},
        {"optimizer.betas": ["a", "b"]},
        {"optimizer.betas": [1.0, 0.999]},
        {"optimizer.beta2": 1.0},
        {"optimizer.alpha": 1.5},
        {"optimizer.momentum": -0.5},
        {"batch_size": 0},
        {"batch_size": -4},
        {"gradient.accumulation_steps": 0},
        {"gradient.clip_norm": 0.0},
        {"gradient.clip_norm": -1.0},
        {"schedule.warmup_steps": -5},
    ],
    ids=str,
)
def test_what_no_run_can_have_is_not_tried(settings):
    answer = made(settings, batch_size=64)
    assert isinstance(answer, str)
    assert "cannot be" in answer


def test_without_a_rate_no_other_one_can_be_tried():
    assert "learning rate" in made({"optimizer.lr": 0.1}, OptimizerSpec("adam"))


VALUES = st.one_of(
    st.floats(),
    st.integers(-3, 10**6),
    st.booleans(),
    st.text(max_size=4),
    st.none(),
    st.lists(st.one_of(st.floats(), st.text(max_size=2)), max_size=3),
)


@given(settings=st.dictionaries(st.one_of(st.sampled_from(SIMULATED), st.text(max_size=8)), VALUES, max_size=3))
def test_any_settings_make_a_candidate_or_a_reason(settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        answer = made(settings, batch_size=64)
        assert title_of(settings)
        if isinstance(answer, str):
            assert answer
            return
        rate = answer.rate(np.arange(50.0), 50, np.full(50, 1e-3))
    assert (rate >= 0.0).all()
    assert 0.0 < answer.noise_factor < np.inf
    assert answer.clip_norm > 0.0


def test_a_warmup_comes_before_a_schedule_of_its_own():
    rate = made({"schedule.name": "linear", "schedule.warmup_steps": 10}).rate(np.arange(100.0), 100, np.full(100, 2.0))
    assert rate[0] == pytest.approx(0.2)
    assert np.argmax(rate) == 9
    assert rate[50] == pytest.approx(1.0)


def test_titles_say_the_change():
    assert title_of({}) == "as recorded"
    assert title_of({"optimizer.betas": [0.9, 0.99]}, ADAM) == "beta2 0.99"
    assert title_of({"optimizer.betas": [0.5, 0.999]}, ADAM) == "beta1 0.5"
    assert title_of({"optimizer.betas": [0.5, 0.99]}, ADAM) == "betas 0.5 and 0.99"
    assert title_of({"optimizer.amsgrad": True}) == "amsgrad"
    assert title_of({"optimizer.amsgrad": False}) == "amsgrad False"
    assert title_of({"batch_size": 256}) == "batch size 256"
    assert title_of({"schedule.name": "constant"}) == "name constant"
    assert title_of({"gradient.zero_grad": True}) == "gradients cleared"
