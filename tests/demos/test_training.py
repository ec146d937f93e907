"""The trainer of the demos: many runs at once as one by one, by the recurrences; schedules, sums of gradients, refusals."""

from itertools import pairwise

import numpy as np
import pytest

from traindoctor.demos.networks import first_weights, perceptron
from traindoctor.demos.training import Problem, Recipe, learning_rates, train
from traindoctor.optim import adam

CURVATURE = np.array([3.0, 0.5])
BOWL = Problem(
    np.array([1.0, -2.0]), lambda w, _step: (0.5 * np.einsum("nd,d,nd->n", w, CURVATURE, w), w * CURVATURE), n_steps=40, every=2
)


def recipe(name, lr=0.1, **more):
    return Recipe(name, {"optimizer.name": name, "optimizer.lr": lr, **{k.replace("__", "."): v for k, v in more.items()}})


def test_runs_side_by_side_are_the_runs_one_by_one():
    recipes = [
        recipe("adam"),
        recipe("sgd", optimizer__momentum=0.5),
        recipe("adam", lr=0.01, optimizer__betas=(0.5, 0.9), optimizer__amsgrad=True),
        recipe("sgd", gradient__clip_norm=0.5),
        recipe("adagrad"),
        recipe("rmsprop", lr=0.01),
    ]
    together = train(BOWL, recipes)
    for one, run in zip(recipes, together, strict=True):
        (alone,) = train(BOWL, [one])
        assert run.recipe is one
        np.testing.assert_array_equal(run.loss, alone.loss)
        np.testing.assert_array_equal(run.weights, alone.weights)


def test_adam_is_the_recurrence():
    (run,) = train(BOWL, [recipe("adam")])
    weights, state = BOWL.weights, adam.start((2,))
    for step in range(BOWL.n_steps):
        if step % 2 == 0:
            np.testing.assert_array_equal(run.weights[step // 2], weights)
        update, state = adam.step(CURVATURE * weights, state, lr=0.1)
        weights = weights + update


def test_gradients_that_add_up_are_momentum_without_friction():
    added, heavy = train(BOWL, [recipe("sgd", gradient__zero_grad=False), recipe("sgd", optimizer__momentum=1.0)])
    np.testing.assert_allclose(added.weights, heavy.weights, rtol=1e-12, atol=1e-12)


def test_learning_rates():
    warm = learning_rates({"optimizer.lr": 0.4, "schedule.warmup_steps": 4, "schedule.name": "cosine"}, 12)
    np.testing.assert_allclose(warm[:5], [0.1, 0.2, 0.3, 0.4, 0.4])
    np.testing.assert_allclose(warm[8], 0.2)
    line = learning_rates({"optimizer.lr": 1.0, "schedule.name": "linear", "schedule.min_lr": 0.2}, 8)
    np.testing.assert_allclose(line, 1.0 - 0.1 * np.arange(8))
    assert set(learning_rates({"optimizer.lr": 0.3}, 5)) == {0.3}


@pytest.mark.parametrize("settings", [{"batch_size": 3}, {"schedule.name": "polynomial"}, {"optimizer.name": "lion"}])
def test_what_is_not_known_is_refused(settings):
    with pytest.raises(ValueError, match="not known to the trainer"):
        train(BOWL, [recipe("sgd").change("strange", settings)])


@pytest.mark.parametrize(("activation", "loss"), [("tanh", "cross-entropy"), ("relu", "squared")])
def test_the_gradient_of_the_perceptron_is_that_of_its_loss(activation, loss):
    random = np.random.default_rng(3)
    widths = (3, 5, 4, 2)
    x = random.standard_normal((20, 3))
    target = np.eye(2)[random.integers(0, 2, 20)] if loss == "cross-entropy" else random.standard_normal((20, 2))
    gradient = perceptron(x, target, widths, activation=activation, loss=loss, batch=8, seed=1)
    weights = np.stack([first_weights(widths, random) for _ in range(2)])
    assert weights.shape[1] == sum(a * b for a, b in pairwise(widths))
    _, grad = gradient(weights, 5)
    for k in range(weights.shape[1]):
        nudge = np.zeros(weights.shape[1])
        nudge[k] = 1e-6
        slope = (gradient(weights + nudge, 5)[0] - gradient(weights - nudge, 5)[0]) / 2e-6
        np.testing.assert_allclose(grad[:, k], slope, rtol=1e-5, atol=1e-7)
