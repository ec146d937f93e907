"""Changes as they are typed: what they read as, and what is refused with which way out."""

import pytest

from traindoctor.configs.vocabulary import ANYWHERE
from traindoctor.errors import TraindoctorError
from traindoctor.replay.candidates import SIMULATED
from traindoctor.replay.changes import SETTINGS, changes_of


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("optimizer.lr=1e-4", {"optimizer.lr": 1e-4}),
        (" optimizer.eps = 0 ", {"optimizer.eps": 0.0}),
        ("optimizer.lr=0.1,optimizer.eps=1e-6", {"optimizer.lr": 0.1, "optimizer.eps": 1e-6}),
        ("optimizer.betas=0.9,0.99", {"optimizer.betas": (0.9, 0.99)}),
        ("optimizer.betas=(0.9, 0.99), optimizer.lr=1", {"optimizer.betas": (0.9, 0.99), "optimizer.lr": 1.0}),
        ("optimizer.amsgrad=True", {"optimizer.amsgrad": True}),
        ("schedule.warmup_steps=1e3", {"schedule.warmup_steps": 1000}),
        ("schedule.name=cosine", {"schedule.name": "cosine"}),
        ("batch_size=64", {"batch_size": 64}),
    ],
)
def test_a_change_is_read(text, change):
    (made,) = changes_of([text])
    assert made == change
    assert [type(v) for v in made.values()] == [type(v) for v in change.values()]


@pytest.mark.parametrize(
    ("text", "said", "way"),
    [
        ("optimizer.lr", "is not KEY=VALUE", "--set optimizer.lr=1e-4"),
        ("optimizer.lr=", "is not KEY=VALUE", ""),
        ("=3", "is not KEY=VALUE", ""),
        ("optimizer.lr=-1e-3", "above 0", ""),
        ("optimizer.lr=0", "above 0", ""),
        ("optimizer.lr=nan", "above 0", ""),
        ("optimizer.lr=inf", "above 0", ""),
        ("optimizer.lr=1_0", "is a number", ""),
        ("optimizer.lr=١", "is a number", ""),
        ("optimizer.lr=fast", "is a number", ""),
        ("optimizer.eps=-1", "0 or above", ""),
        ("optimizer.beta2=1", "below 1", ""),
        ("optimizer.betas=0.9,1.0", "below 1", ""),
        ("optimizer.betas=0.9", "two numbers", "--set optimizer.betas=0.9,0.99"),
        ("optimizer.amsgrad=maybe", "true or false", ""),
        ("batch_size=0", "1 or above", ""),
        ("batch_size=2.5", "whole number", ""),
        ("schedule.name=two words", "is a name", ""),
        ("lr=1", "no setting that is known", "did you mean optimizer.lr?"),
        ("optimizer.epss=1", "no setting that is known", "did you mean optimizer.eps?"),
        ("Optimizer.LR=1", "no setting that is known", "did you mean optimizer.lr?"),
        ("clip-norm=1", "no setting that is known", "did you mean gradient.clip_norm?"),
        ("zzz=1", "no setting that is known", "known settings: optimizer.name"),
        ("optimizer.lr=1,optimizer.lr=2", "sets optimizer.lr twice", ""),
        ("optimizer.betas=0.9,0.99,optimizer.beta1=0.5", "sets a beta twice", ""),
    ],
)
def test_what_cannot_be_is_refused(text, said, way):
    with pytest.raises(TraindoctorError) as error:
        changes_of([text])
    assert text in error.value.where
    assert said in error.value.what
    assert any(one.startswith(way) for one in error.value.ways_out) or not way


def test_every_known_setting_may_be_changed():
    assert {key for key in ANYWHERE if key.startswith(("optimizer.", "gradient."))} <= {*SETTINGS}
    assert {*SIMULATED} <= {*SETTINGS}
