"""The one entry to all recurrences: what it applies, what it fills in, what it rejects."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from traindoctor.errors import TraindoctorError
from traindoctor.model import OptimizerSpec
from traindoctor.optim import adam, decay
from traindoctor.optim.defaults import FRAMEWORKS
from traindoctor.optim.optimizer import FORMS, optimizer_of, optimizers_of

ALL = [(dialect, name) for dialect, names in FORMS.items() for name in names]
SHAPE = (4, 3)


def path(spec, n_steps=30, shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    optimizer, weight = optimizer_of(spec), rng.standard_normal(shape)
    state, passed = optimizer.start(shape), []
    for _ in range(n_steps):
        update, state = optimizer.step(rng.standard_normal(shape), weight, state, spec.lr)
        assert update.shape == shape
        weight = weight + update
        passed.append(weight)
    return np.array(passed)


@pytest.mark.parametrize(("dialect", "name"), ALL)
def test_every_form_moves_the_weights(dialect, name):
    passed = path(OptimizerSpec(name, lr=0.01, dialect=dialect))
    assert np.isfinite(passed).all()
    assert (passed[-1] != passed[0]).all()


@pytest.mark.parametrize(("dialect", "name"), [one for one in ALL if one[1] != "rprop"])
def test_weight_decay_reaches_every_form(dialect, name):
    spec = OptimizerSpec(name, lr=0.01, dialect=dialect, weight_decay=0.0)
    assert (path(spec)[-1] != path(dataclasses.replace(spec, weight_decay=0.2))[-1]).any()


@pytest.mark.parametrize(("dialect", "name"), ALL)
def test_candidates_equal_one_by_one(dialect, name):
    specs = [
        OptimizerSpec(name, lr=lr, eps=eps, weight_decay=wd, dialect=dialect)
        for lr, eps, wd in ((0.1, 0.1, 0.0), (0.01, 1e-6, 0.3))
    ]
    together, rng = optimizers_of(specs), np.random.default_rng(0)
    weight = np.broadcast_to(rng.standard_normal(SHAPE), (2, *SHAPE))
    state = together.start(SHAPE)
    for _ in range(30):
        update, state = together.step(rng.standard_normal(SHAPE), weight, state, np.array([0.1, 0.01]))
        weight = weight + update
    for spec, ours in zip(specs, weight, strict=True):
        np.testing.assert_allclose(ours, path(spec)[-1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("dialect", "name"), ALL)
def test_nan_propagates_and_leaves_other_candidates_alone(dialect, name):
    optimizer = optimizers_of([OptimizerSpec(name, lr=0.01, dialect=dialect)] * 2)
    weight, grad = np.ones((2, *SHAPE)), np.ones((2, *SHAPE))
    grad[1, 0, 0] = np.nan
    update, _ = optimizer.step(grad, weight, optimizer.start(SHAPE), 0.01)
    assert np.isnan(update[1, 0, 0])
    assert np.isfinite(update[0]).all()


def test_adam_and_adamw_are_one_family():
    together = optimizers_of([OptimizerSpec("adam", weight_decay=0.1), OptimizerSpec("adamw", weight_decay=0.1)])
    grad, weight = np.array([1.0, -2.0]), np.array([[3.0, 5.0], [3.0, 5.0]])
    update, _ = together.step(grad, weight, together.start((2,)), 0.5)
    coupled, _ = adam.step(decay.coupled(grad, weight[0], weight_decay=0.1), adam.start((2,)), lr=0.5)
    plain, _ = adam.step(grad, adam.start((2,)), lr=0.5)
    np.testing.assert_array_equal(update[0], coupled)
    np.testing.assert_array_equal(update[1], plain + decay.decoupled(weight[1], lr=0.5, weight_decay=0.1))


@pytest.mark.parametrize(("dialect", "name"), [(d, n) for d, (table, _) in FRAMEWORKS.items() for n in table if n in FORMS[d]])
def test_what_is_left_open_is_the_default_of_the_framework(dialect, name):
    spelled = OptimizerSpec(name, lr=0.01, dialect=dialect, **FRAMEWORKS[dialect][0][name])
    np.testing.assert_array_equal(path(OptimizerSpec(name, lr=0.01, dialect=dialect)), path(spelled))


def test_every_name_with_defaults_has_a_recurrence():
    assert {(d, n) for d, (table, _) in FRAMEWORKS.items() for n in table} == {(d, n) for d, n in ALL if d != "paper"}


def test_adafactor_of_transformers():
    """Its switches are not torch.optim's; without both the rate is lr itself, whatever the size of the weights."""
    spec = OptimizerSpec("adafactor", lr=0.01, relative_step=False, scale_parameter=False)
    optimizer = optimizer_of(spec)
    grad = np.full(SHAPE, 3.0)
    update, _ = optimizer.step(grad, np.full(SHAPE, 100.0), optimizer.start(SHAPE), 0.01)
    np.testing.assert_allclose(update, -0.01)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("spec", "where", "way_out"),
    [
        (OptimizerSpec("adan"), "optimizer.name", "known are adadelta, adafactor"),
        (OptimizerSpec("stableadamw", dialect="keras"), "optimizer.name", "known in torch, paper"),
        (OptimizerSpec("adam", dialect="mxnet"), "optimizer", "one of torch, keras"),
        (OptimizerSpec("adam", lr=-1e-3), "optimizer.lr", "0 or more"),
        (OptimizerSpec("adam", lr=NAN), "optimizer.lr", "a finite number"),
        (OptimizerSpec("adam", beta1=1.0), "optimizer.beta1", "below 1"),
        (OptimizerSpec("adamw", beta2=1.0), "optimizer.beta2", "below 1"),
        (OptimizerSpec("adam", beta2=1.5, dialect="keras"), "optimizer.beta2", "0 to 1"),
        (OptimizerSpec("lion", beta1=-0.1), "optimizer.beta1", "0 to 1"),
        (OptimizerSpec("adam", eps=INF), "optimizer.eps", "a finite number"),
        (OptimizerSpec("sgd", momentum=-0.9), "optimizer.momentum", "0 or more"),
        (OptimizerSpec("sgd", nesterov=True), "optimizer.momentum", "above 0 with nesterov"),
        (OptimizerSpec("sgd", momentum=0.9, dampening=0.1, nesterov=True), "optimizer.dampening", "0 with nesterov"),
        (OptimizerSpec("sgd", weight_decay=-0.1), "optimizer.weight_decay", "0 or more"),
        (OptimizerSpec("adadelta", alpha=1.1), "optimizer.alpha", "0 to 1"),
        (OptimizerSpec("rprop", eta_minus=1.0), "optimizer.eta_minus", "below 1"),
        (OptimizerSpec("rprop", eta_plus=1.0), "optimizer.eta_plus", "above 1"),
        (OptimizerSpec("rprop", step_min=60.0), "optimizer.step_min", "at most step_max"),
        (OptimizerSpec("adafactor", beta2_decay=0.8), "optimizer.beta2_decay", "0 or less"),
        (OptimizerSpec("adafactor", clip_threshold=0.5), "optimizer.clip_threshold", "1 or more"),
        (OptimizerSpec("muon", ns_steps=0), "optimizer.ns_steps", "1 to 99"),
        (OptimizerSpec("muon", adjust_lr="moonlight"), "optimizer.adjust_lr", "match_rms_adamw"),
    ],
)
def test_what_cannot_be_used_is_told(spec, where, way_out):
    with pytest.raises(TraindoctorError) as told:
        optimizer_of(spec)
    assert told.value.where == where
    assert any(way_out in way for way in told.value.ways_out)


def test_the_place_of_a_bad_setting_is_told():
    with pytest.raises(TraindoctorError, match=r"optimizer\.beta1 \(config\.yaml:7\): 1\.0 cannot be used with adam \(torch\)"):
        optimizer_of(OptimizerSpec("adam", beta1=1.0, origin={"beta1": "config.yaml:7"}))


def test_limits_that_a_framework_accepts_are_accepted():
    frozen = path(OptimizerSpec("adam", lr=0.005, beta2=1.0, dialect="keras"))
    assert (frozen == frozen[0]).all()
    assert np.isnan(path(OptimizerSpec("adam", lr=0.005, beta1=1.0, dialect="keras"))).all()
    assert np.isfinite(path(OptimizerSpec("sgd", lr=0.1, momentum=1.0))).all()
    assert (path(OptimizerSpec("adamw", lr=0.0)) == path(OptimizerSpec("adamw", lr=0.0))[0]).all()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (OptimizerSpec("sgd", momentum=0.9), OptimizerSpec("sgd", momentum=0.9, dampening=0.5)),
        (OptimizerSpec("rmsprop"), OptimizerSpec("rmsprop", centered=True)),
        (OptimizerSpec("adafactor"), OptimizerSpec("adafactor", eps=2.0)),
        (OptimizerSpec("adam", dialect="optax"), OptimizerSpec("amsgrad", dialect="optax")),
        (OptimizerSpec("nadam", weight_decay=0.1), OptimizerSpec("nadam", weight_decay=0.1, decoupled=True)),
    ],
)
def test_candidates_may_differ_in_what_one_leaves_open(one, other):
    together, rng = optimizers_of([one, other]), np.random.default_rng(2)
    alone = [optimizer_of(one), optimizer_of(other)]
    weight, state, states = np.ones((2, *SHAPE)), together.start(SHAPE), [each.start(SHAPE) for each in alone]
    for grad in rng.standard_normal((20, *SHAPE)):
        update, state = together.step(grad, weight, state, 0.01)
        for k in range(2):
            own, states[k] = alone[k].step(grad, weight[k], states[k], 0.01)
            np.testing.assert_allclose(update[k], own, rtol=1e-12, atol=1e-15)
    assert (update[0] != update[1]).any()


def test_candidates_of_two_recurrences_are_rejected():
    with pytest.raises(TraindoctorError, match="another recurrence"):
        optimizers_of([OptimizerSpec("adam"), OptimizerSpec("adam", dialect="keras")])
    with pytest.raises(TraindoctorError, match="another recurrence"):
        optimizers_of([OptimizerSpec("muon"), OptimizerSpec("muon", adjust_lr="match_rms_adamw")])
    with pytest.raises(TraindoctorError, match="no candidate"):
        optimizers_of([])


# -- the saddle (w1 - 1)^2 - (w2 - 1)^2 from (-3, 0.8), lr 0.005, w after 600 steps, all rows at once --------------------

SADDLE = [
    ({}, (-0.568, -3.786), (-0.568, -3.786)),
    ({"beta1": 0.1}, (-0.591, -3.957), (-0.591, -3.957)),
    ({"beta1": 0.5}, (-0.589, -3.940), (-0.589, -3.940)),
    ({"beta1": 0.999}, (-0.046, -1.991), (-0.046, -1.991)),
    ({"beta1": 1.0}, (NAN, NAN), (NAN, NAN)),
    ({"beta2": 0.9}, (-0.001, -2.197), (-0.001, -2.197)),
    ({"beta2": 0.0}, (0.064, -2.090), (0.064, -2.090)),
    ({"beta2": 1.0}, (NAN, NAN), (-3.0, 0.8)),
    ({"eps": 0.1}, (-0.595, -3.583), (-0.637, -3.270)),
    ({"eps": 1.0}, (-0.813, -1.791), (-1.076, -0.403)),
]


@pytest.mark.parametrize(("dialect", "column"), [("paper", 1), ("optax", 1), ("keras", 2)])
def test_the_saddle_in_both_forms(dialect, column):
    """torch's own form is the paper's; torch itself rejects the betas of 1."""
    specs = [OptimizerSpec("adam", **{"eps": 1e-8, **row[0]}, dialect=dialect) for row in SADDLE]
    together, weight = optimizers_of(specs), np.broadcast_to([-3.0, 0.8], (len(specs), 2))
    state = together.start((2,))
    for _ in range(600):
        update, state = together.step(np.array([2.0, -2.0]) * (weight - 1.0), weight, state, 0.005)
        weight = weight + update
    np.testing.assert_allclose(weight, [row[column] for row in SADDLE], rtol=0.0, atol=6e-4)


def test_torch_takes_the_rows_of_the_saddle_that_it_accepts():
    for settings, expected, _ in SADDLE:
        spec = OptimizerSpec("adam", **settings)
        if 1.0 in (spec.beta1, spec.beta2):
            continue
        optimizer, weight = optimizer_of(spec), np.array([-3.0, 0.8])
        state = optimizer.start((2,))
        for _ in range(600):
            update, state = optimizer.step(np.array([2.0, -2.0]) * (weight - 1.0), weight, state, 0.005)
            weight = weight + update
        np.testing.assert_allclose(weight, expected, rtol=0.0, atol=6e-4)


# -- properties -------------------------------------------------------------------------------------------------------


@hypothesis_settings(deadline=None, max_examples=50)
@given(
    st.sampled_from([one for one in ALL if one[1] in ("adam", "amsgrad", "nadam", "adamax", "lamb")]),
    st.integers(0, 10**6),
    st.integers(-30, 30),
)
def test_without_eps_the_scale_of_the_gradient_does_not_matter(form, seed, exponent):
    dialect, name = form
    optimizer = optimizer_of(OptimizerSpec(name, eps=0.0, weight_decay=0.0, dialect=dialect))
    rng = np.random.default_rng(seed)
    weight, one, other = rng.standard_normal(3), optimizer.start((3,)), optimizer.start((3,))
    for grad in rng.standard_normal((10, 3)):
        first, one = optimizer.step(grad, weight, one, 0.01)
        second, other = optimizer.step(grad * 2.0**exponent, weight, other, 0.01)
        np.testing.assert_allclose(first, second, rtol=1e-12)


@hypothesis_settings(deadline=None, max_examples=50)
@given(st.sampled_from(ALL), st.integers(0, 10**6), st.floats(0.0, 0.5))
def test_a_rate_of_zero_moves_nothing(form, seed, weight_decay):
    dialect, name = form
    if name in ("rprop", "adafactor"):
        return  # Rprop has a smallest step; Optax' Adafactor decays without the rate
    rng = np.random.default_rng(seed)
    optimizer = optimizer_of(OptimizerSpec(name, weight_decay=weight_decay, dialect=dialect))
    update, _ = optimizer.step(rng.standard_normal(SHAPE), rng.standard_normal(SHAPE), optimizer.start(SHAPE), 0.0)
    assert not update.any()
