"""The mean squares of modes against the real recurrences.

On a linear iteration the mean square under white noise is a sum of squares: of what is left of the start, and of the response
to a pulse of noise at each step. Each of these is one coordinate of a real run, so that nothing is drawn and the sum is exact.
"""

import numpy as np
import pytest

from traindoctor.model import OptimizerSpec
from traindoctor.optim import adam, nadam, rmsprop, sgd
from traindoctor.optim.stability import stability_limit
from traindoctor.replay.modes import Linear, Moments, advance, linear_form

CURVATURE, NOISE = 3.0, 0.4  # NOISE: standard deviation of the gradient's noise
#: So large that sqrt(v) is nothing beside it: the denominator is frozen. The rates below are in units of it.
EPS = 1e14
#: Steps after which no bias correction is left.
SETTLED = 10**6

RECURRENCES = {
    "sgd": (
        OptimizerSpec("sgd"),
        lambda n: sgd.start((n,)),
        lambda g, s, lr: sgd.step(g, s, lr=lr),
    ),
    "heavy ball": (
        OptimizerSpec("sgd", momentum=0.9),
        lambda n: sgd.start((n,)),
        lambda g, s, lr: sgd.step(g, s, lr=lr, momentum=0.9),
    ),
    "nesterov": (
        OptimizerSpec("sgd", momentum=0.9, nesterov=True),
        lambda n: sgd.start((n,)),
        lambda g, s, lr: sgd.step(g, s, lr=lr, momentum=0.9, nesterov=True),
    ),
    "adam": (
        OptimizerSpec("adam", beta1=0.9, beta2=0.999),
        lambda n: adam.start((n,))._replace(t=SETTLED),
        lambda g, s, lr: adam.step(g, s, lr=lr * EPS, beta1=0.9, beta2=0.999, eps=EPS),
    ),
    "adamw, beta1 0.5": (
        OptimizerSpec("adamw", beta1=0.5, beta2=0.99),
        lambda n: adam.start((n,))._replace(t=SETTLED),
        lambda g, s, lr: adam.step(g, s, lr=lr * EPS, beta1=0.5, beta2=0.99, eps=EPS),
    ),
    "nadam": (
        OptimizerSpec("nadam", beta1=0.9, beta2=0.999),
        lambda n: nadam.start((n,))._replace(t=SETTLED, mu_product=0.0),
        lambda g, s, lr: nadam.step(g, s, lr=lr * EPS, beta1=0.9, beta2=0.999, eps=EPS, momentum_decay=np.inf),
    ),
    "rmsprop": (
        OptimizerSpec("rmsprop", alpha=0.99, momentum=0.8),
        lambda n: rmsprop.start((n,)),
        lambda g, s, lr: rmsprop.step(g, s, lr=lr * EPS, alpha=0.99, eps=EPS, momentum=0.8),
    ),
}
CASES = pytest.mark.parametrize("name", RECURRENCES)


def real_losses(name, lr, n_steps, start=1.3, shrink=0.0):
    """Return the mean loss after each step, (n_steps,), by the optimizer's own recurrence."""
    _, begin, step = RECURRENCES[name]
    weight = np.zeros(n_steps + 1)
    weight[0] = start
    state = begin(n_steps + 1)
    losses = []
    for t in range(n_steps):
        grad = CURVATURE * weight
        grad[t + 1] += NOISE
        update, state = step(grad, state, lr)
        weight = (1.0 - shrink) * weight + update
        losses.append(0.5 * CURVATURE * float(weight @ weight))
    return np.array(losses)


def mode(start=1.3):
    return Moments(np.array(0.5 * CURVATURE * start**2), np.array(0.0), np.array(0.0))


def fed():
    """The variance of the noise in the units of the modes."""
    return np.array(NOISE**2 / (2.0 * CURVATURE))


@CASES
@pytest.mark.parametrize("share", [0.003, 0.2, 0.9, 1.05])
def test_mean_squares_are_those_of_the_real_recurrence(name, share):
    """From far below the stability limit to beyond it."""
    spec = RECURRENCES[name][0]
    product = share * stability_limit(spec)
    truth = real_losses(name, product / CURVATURE, 150 if share < 1.0 else 30)
    form = linear_form(spec)
    for n in (1, 2, 7, 30, truth.size):
        made = advance(mode(), form, np.array(product), np.array(0.0), fed(), n)
        assert float(made.xx) == pytest.approx(truth[n - 1], rel=1e-8), n


def test_decoupled_decay_shrinks_the_weight():
    truth = real_losses("adamw, beta1 0.5", 0.1, 40, shrink=0.02)
    form = linear_form(RECURRENCES["adamw, beta1 0.5"][0])
    made = advance(mode(), form, np.array(0.1 * CURVATURE), np.array(0.02), fed(), 40)
    assert float(made.xx) == pytest.approx(truth[-1], rel=1e-8)


@CASES
def test_many_steps_are_as_many_single_ones(name):
    form = linear_form(RECURRENCES[name][0])
    product, still = np.array(0.7), np.array(0.0)
    one_by_one = mode()
    for n in range(1, 100):
        one_by_one = advance(one_by_one, form, product, still, fed(), 1)
        at_once = advance(mode(), form, product, still, fed(), n)
        np.testing.assert_allclose(at_once, one_by_one, rtol=1e-9)


def test_no_step_changes_nothing():
    moments = mode()
    assert advance(moments, linear_form(OptimizerSpec("sgd")), np.array(0.5), np.array(0.0), fed(), 0) is moments


@CASES
def test_leading_axes_are_modes_of_their_own(name):
    """Candidates along the first axis, draws along the second, modes along the last; settings broadcast."""
    form = linear_form(RECURRENCES[name][0])
    rng = np.random.default_rng(0)
    start, product = rng.random((3, 2, 4)), rng.random((3, 1, 4))
    shrink, noise = rng.random((3, 1, 1)) * 0.1, rng.random((2, 4))
    zero = np.zeros((3, 2, 4))
    together = advance(Moments(start, zero, zero), form, product, shrink, noise, 13)
    assert together.xx.shape == together.xb.shape == together.bb.shape == (3, 2, 4)
    for c, d, k in np.ndindex(3, 2, 4):
        one = Moments(start[c, d, k], np.array(0.0), np.array(0.0))
        alone = advance(one, form, product[c, 0, k], shrink[c, 0, 0], noise[d, k], 13)
        np.testing.assert_allclose([part[c, d, k] for part in together], alone, rtol=1e-12)


def test_forms_may_differ_between_candidates():
    forms = [linear_form(OptimizerSpec("sgd", momentum=mu)) for mu in (0.0, 0.5, 0.9)]
    column = Linear(*(np.array([getattr(f, name) for f in forms])[:, None] for name in Linear._fields))
    one = np.ones((3, 1))
    together = advance(Moments(one, 0.0 * one, 0.0 * one), column, np.array([0.3]), np.zeros(1), np.zeros(1), 9)
    for k, form in enumerate(forms):
        alone = advance(Moments(np.ones(1), np.zeros(1), np.zeros(1)), form, np.array([0.3]), np.zeros(1), np.zeros(1), 9)
        np.testing.assert_allclose(together.xx[k], alone.xx)


@CASES
def test_the_stability_limit_divides_the_calm_from_the_unstable(name):
    spec = RECURRENCES[name][0]
    products = stability_limit(spec) * np.array([0.98, 1.02])
    zero = np.zeros(2)
    made = advance(Moments(np.ones(2), zero, zero), linear_form(spec), products, zero, zero, 250)
    assert made.xx[0] < 1e-2
    assert made.xx[1] > 1e2


def test_an_unstable_mode_of_sgd_grows_by_its_factor():
    """Weights grow by |1 - s| a step, losses by its square."""
    zero = np.array(0.0)
    made = advance(Moments(np.array(1.0), zero, zero), linear_form(OptimizerSpec("sgd")), np.array(2.5), zero, zero, 30)
    assert float(made.xx) == pytest.approx(1.5**60)


def test_the_floor_of_sgd_is_the_known_one():
    """E[x**2] of x' = (1 - s) x - s N settles at s / (2 - s) E[N**2]."""
    zero = np.array(0.0)
    made = advance(mode(), linear_form(OptimizerSpec("sgd")), np.array(0.3), zero, fed(), 10**6)
    assert float(made.xx) == pytest.approx(0.3 / 1.7 * float(fed()))


def test_what_overflows_is_infinite_or_nan_but_never_small():
    zero = np.array(0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        made = advance(mode(), linear_form(OptimizerSpec("sgd")), np.array(5.0), zero, fed(), 10**4)
    assert not np.isfinite(made.xx)


@pytest.mark.parametrize(
    "name", ["lion", "muon", "adamax", "adafactor", "lamb", "rprop", "signsgd", "adadelta", "", "unheard-of"]
)
def test_what_is_no_linear_iteration_has_no_form(name):
    assert linear_form(OptimizerSpec(name, lr=0.1, beta1=0.9, beta2=0.99)) is None


def test_defaults_are_the_optimizers():
    assert float(linear_form(OptimizerSpec("adam")).c) == 0.9
    assert float(linear_form(OptimizerSpec("sgd")).c) == 0.0
    assert float(linear_form(OptimizerSpec("adagrad", momentum=0.9)).c) == 0.0
