import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from traindoctor.optim import adadelta, adagrad, adam, adamax, lion, nadam, radam, rmsprop, rprop, sgd

COLUMN = np.array([[0.1], [0.01], [0.001]])


def updates(module, grad, **settings):
    state = module.start(np.broadcast_shapes(grad[0].shape, *(np.shape(v) for v in settings.values())))
    made = []
    for now in grad:
        update, state = module.step(now, state, **settings)
        made.append(np.broadcast_to(update, np.broadcast_shapes(now.shape, np.shape(update))).copy())
    return np.array(made)


# -- a leading axis of candidates -------------------------------------------------------------------------------------

BATCHES = [
    (sgd, {"lr": COLUMN, "momentum": np.array([[0.0], [0.9], [1.0]]), "nesterov": np.array([[False], [True], [False]])}),
    (sgd, {"lr": COLUMN, "momentum": 0.9, "dampening": np.array([[0.0], [0.5], [0.9]])}),
    (adam, {"lr": COLUMN, "beta1": np.array([[0.9], [0.5], [0.0]]), "amsgrad": np.array([[False], [True], [False]])}),
    (adam, {"lr": COLUMN, "beta2": np.array([[0.9], [0.5], [0.0]]), "eps": np.array([[0.0], [0.1], [1]]), "epsilon_hat": True}),
    (rmsprop, {"lr": COLUMN, "alpha": np.array([[0.99], [0.9], [0.0]]), "momentum": np.array([[0.0], [0.5], [0.9]])}),
    (rmsprop, {"lr": COLUMN, "centered": np.array([[False], [True], [True]]), "eps": 0.1, "eps_inside": True}),
    (rmsprop, {"lr": COLUMN, "momentum": np.array([[0.0], [0.5], [0.9]]), "lr_in_buffer": True}),
    (sgd, {"lr": COLUMN, "momentum": np.array([[0.0], [0.9], [0.5]]), "lr_in_buffer": True, "nesterov": True}),
    (adam, {"lr": COLUMN, "amsgrad": np.array([[False], [True], [True]]), "max_of_corrected": True}),
    (nadam, {"lr": COLUMN, "beta1": np.array([[0.9], [0.5], [0.0]]), "momentum_decay": np.array([[4e-3], [1.0], [np.inf]])}),
    (radam, {"lr": COLUMN, "beta2": np.array([[0.999], [0.9], [0.0]]), "epsilon_hat": False}),
    (adamax, {"lr": COLUMN, "beta2": np.array([[0.999], [0.9], [0.0]]), "eps_outside": True}),
    (adadelta, {"lr": COLUMN, "alpha": np.array([[0.9], [0.5], [0.0]]), "eps": np.array([[1e-6], [1e-3], [1.0]])}),
    (rprop, {"lr": COLUMN, "eta_minus": np.array([[0.5], [0.7], [0.9]]), "step_max": np.array([[50.0], [0.1], [0.02]])}),
    (lion, {"lr": COLUMN, "beta1": np.array([[0.9], [0.5], [0.0]]), "beta2": np.array([[0.99], [0.9], [0.0]])}),
    (adagrad, {"lr": COLUMN, "eps": np.array([[1e-10], [0.1], [1.0]]), "lr_decay": np.array([[0.0], [0.1], [1.0]])}),
]


@pytest.mark.parametrize(("module", "settings"), BATCHES)
def test_many_candidates_equal_one_by_one(module, settings):
    grad = np.random.default_rng(3).standard_normal((60, 3, 5))
    together = updates(module, grad, **settings)
    assert together.shape == grad.shape
    for k in range(3):
        own = {name: value[k, 0] if np.ndim(value) else value for name, value in settings.items()}
        allowed = 1e-15 if module is nadam else 0.0  # 0.96 to the power of an array differs from that of a number
        np.testing.assert_allclose(together[:, k], updates(module, grad[:, k], **own), rtol=0.0, atol=allowed)


def test_one_gradient_for_all_candidates():
    grad = np.random.default_rng(4).standard_normal((30, 5))
    together = updates(adam, grad[:, None, :], lr=COLUMN, eps=np.array([[1e-8], [0.1], [1.0]]))
    for k, eps in enumerate((1e-8, 0.1, 1.0)):
        np.testing.assert_array_equal(together[:, k], updates(adam, grad, lr=COLUMN[k, 0], eps=eps))


@pytest.mark.parametrize("module", [sgd, adam, rmsprop, adagrad, nadam, radam, adamax, adadelta, lion])
def test_nan_propagates_and_stays_where_it_is(module):
    settings = {"momentum": 0.9} if module is sgd else {}
    grad = np.ones((3, 2))
    grad[1, 0] = np.nan
    made = updates(module, grad, lr=0.1, **settings)
    assert np.isnan(made[1:, 0]).all()
    assert np.isfinite(made[:, 1]).all()
    assert np.isfinite(made[0]).all()


def test_nan_in_rprop_has_no_sign_for_two_steps():
    """It has none to compare the next gradient with, either; then the coordinate goes on."""
    made = updates(rprop, np.array([[1.0], [np.nan], [1.0], [1.0]]), lr=0.1)
    assert np.isnan(made).ravel().tolist() == [False, True, False, False]


def test_state_is_not_changed_in_place():
    state = adam.start((2,))
    adam.step(np.ones(2), state, lr=0.1)
    assert state.t == 0
    assert not any(np.any(part) for part in state[1:])


# -- the saddle (w1 - 1)^2 - (w2 - 1)^2 from (-3, 0.8), lr 0.005; w after 600 steps: see test_optimizer.py --------------


def on_the_saddle(n_steps=600, **settings):
    weight, state = np.array([-3.0, 0.8]), adam.start((2,))
    for _ in range(n_steps):
        update, state = adam.step(np.array([2.0, -2.0]) * (weight - 1.0), state, lr=0.005, **settings)
        weight = weight + update
    return weight


def test_beta_of_one_fails_at_the_first_step():
    assert np.isnan(on_the_saddle(1, beta1=1.0)).all()
    assert np.isnan(on_the_saddle(1, beta1=1.0, epsilon_hat=True)).all()
    assert np.isnan(on_the_saddle(1, beta2=1.0)).all()
    assert on_the_saddle(600, beta2=1.0, epsilon_hat=True).tolist() == [-3.0, 0.8]


def test_an_eps_of_the_dialects_is_another_number():
    """eps_hat = eps * sqrt(1 - beta2**t) makes them one."""
    rng, torch, keras = np.random.default_rng(5), adam.start((4,)), adam.start((4,))
    for t in range(1, 100):
        grad = rng.standard_normal(4)
        one, torch = adam.step(grad, torch, lr=0.1, eps=0.3)
        other, keras = adam.step(grad, keras, lr=0.1, eps=0.3 * (1.0 - 0.999**t) ** 0.5, epsilon_hat=True)
        np.testing.assert_allclose(one, other, rtol=1e-12)


# -- properties -------------------------------------------------------------------------------------------------------

MAGNITUDE = st.floats(1e-3, 1e3) | st.floats(-1e3, -1e-3) | st.just(0.0)


@hypothesis_settings(deadline=None)
@given(st.lists(MAGNITUDE, min_size=1, max_size=20), st.floats(1e-6, 1e6), st.booleans(), st.booleans())
def test_adam_without_eps_ignores_the_scale_of_the_gradient(grad, scale, epsilon_hat, amsgrad):
    grad = np.array(grad)[:, None]
    settings = {"lr": 1e-3, "eps": 0.0, "epsilon_hat": epsilon_hat, "amsgrad": amsgrad}
    np.testing.assert_allclose(
        updates(adam, grad, **settings), updates(adam, scale * grad, **settings), rtol=1e-9, atol=1e-12, equal_nan=True
    )


@hypothesis_settings(deadline=None)
@given(st.lists(MAGNITUDE, min_size=1, max_size=20), st.floats(1e-6, 1e6))
@pytest.mark.parametrize("module", [nadam, adamax, rmsprop, adagrad])
def test_other_adaptive_ones_ignore_the_scale_of_the_gradient(module, grad, scale):
    grad = np.array(grad)[:, None]
    one, other = (updates(module, g, lr=1e-3, eps=0.0) for g in (grad, scale * grad))
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True)


@hypothesis_settings(deadline=None)
@given(st.lists(MAGNITUDE, min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_sign_methods_ignore_any_positive_scale(grad, scale):
    grad = np.sign(grad)[:, None]  # magnitudes whose averages cannot cancel by rounding alone
    for module in (rprop, lion):
        np.testing.assert_array_equal(
            updates(module, grad, lr=0.1), updates(module, 2.0 ** np.round(np.log2(scale)) * grad, lr=0.1)
        )


@hypothesis_settings(deadline=None)
@given(st.lists(MAGNITUDE, min_size=1, max_size=20), st.floats(1e-3, 1e3))
def test_early_radam_follows_the_scale_of_the_gradient(grad, scale):
    grad = np.array(grad[:5])[:, None]
    np.testing.assert_allclose(scale * updates(radam, grad, lr=0.1), updates(radam, scale * grad, lr=0.1), rtol=1e-9, atol=1e-12)


@hypothesis_settings(deadline=None)
@given(st.lists(st.floats(0.1, 10.0), min_size=2, max_size=30))
def test_the_second_moment_of_amsgrad_never_shrinks(grad):
    state = adam.start((1,))
    before = 0.0
    for g in grad:
        _, state = adam.step(np.array([g]), state, lr=1e-3, beta2=0.5, amsgrad=True)
        assert state.v_max[0] >= max(before, state.v[0])
        before = state.v_max[0]


def test_momentum_of_one_adds_gradients_up():
    grad = np.random.default_rng(6).standard_normal((50, 3))
    np.testing.assert_allclose(updates(sgd, grad, lr=0.1, momentum=1.0), -0.1 * np.cumsum(grad, axis=0), rtol=1e-12, atol=1e-14)


def test_energy_of_other_directions_enters_the_second_moment():
    grad, energy = np.array([1.0, -2.0]), np.array([9.0, 9.0])
    _, after = adam.step(grad, adam.start((2,)), lr=1.0, grad_sq=energy)
    np.testing.assert_allclose(after.v, 0.009)
    _, after = rmsprop.step(grad, rmsprop.start((2,)), lr=1.0, grad_sq=energy)
    np.testing.assert_allclose(after.v, 0.09)
    _, after = adagrad.step(grad, adagrad.start((2,)), lr=1.0, grad_sq=energy)
    np.testing.assert_allclose(after.total, 9.0)


def test_adam_keeps_the_precision_of_its_gradients():
    grad = np.random.default_rng(0).standard_normal((3, 4))
    for dtype in (np.float32, np.float64):
        update, state = adam.step(grad.astype(dtype), adam.start(grad.shape, dtype), lr=1e-3)
        assert {update.dtype, state.m.dtype, state.v.dtype, state.v_max.dtype} == {np.dtype(dtype)}
    many, _ = adam.step(grad.astype(np.float32), adam.start(grad.shape, np.float32), lr=np.full((3, 1), 1e-3))
    assert many.dtype == np.float64
