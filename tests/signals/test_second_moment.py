import json
from pathlib import Path

import numpy as np
import pytest

from traindoctor.model import OptimizerSpec
from traindoctor.optim import adagrad, adam, rmsprop
from traindoctor.optim.optimizer import optimizer_of
from traindoctor.optim.stability import stability_limit
from traindoctor.readers.discover import read_runs
from traindoctor.signals.measurements import Measurements
from traindoctor.signals.second_moment import (
    BLOCK,
    Resume,
    curvature,
    decayed_average,
    first_moment_bound,
    linear_scan,
    second_moment,
    steps_taken,
)

FIXTURES = Path(__file__).parents[2] / "fixtures"
PERCEPTRON = json.loads((FIXTURES / "optim" / "perceptron.json").read_text())
RNG = np.random.default_rng(0)


def one_by_one(value, step, beta, initial=0.0):
    average, before, made = initial, -1, []
    for now, at in zip(value.tolist(), step.tolist(), strict=True):
        decay = beta ** (at - before)
        average, before = decay * average + (1.0 - decay) * now, at
        made.append(average)
    return np.array(made)


# -- the recurrence ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999])
@pytest.mark.parametrize("gaps", ["every step", "every tenth", "uneven", "from later on"])
def test_average_equals_a_loop(beta, gaps):
    value = 10.0 ** RNG.uniform(-12.0, 3.0, 3000)
    step = {
        "every step": np.arange(3000),
        "every tenth": np.arange(3000) * 10,
        "uneven": np.cumsum(RNG.integers(1, 400, 3000)),
        "from later on": np.arange(3000) + 5000,
    }[gaps]
    np.testing.assert_allclose(decayed_average(value, step, beta), one_by_one(value, step, beta), rtol=1e-10, atol=0.0)


@pytest.mark.parametrize("beta", [0.9, 0.999, 0.9999])
def test_average_of_a_long_series(beta):
    value, step = 10.0 ** RNG.uniform(-12.0, 3.0, 300_000), np.arange(300_000)
    np.testing.assert_allclose(decayed_average(value, step, beta), one_by_one(value, step, beta), rtol=1e-10, atol=0.0)


def test_average_without_input_and_from_a_start():
    assert decayed_average(np.zeros(0), np.zeros(0, dtype=np.int64), 0.9).size == 0
    assert decayed_average(np.array([2.0]), np.array([0]), 0.9)[0] == pytest.approx(0.2)
    value, step = RNG.random(500), np.arange(500)
    np.testing.assert_allclose(decayed_average(value, step, 0.99, 7.0), one_by_one(value, step, 0.99, 7.0), rtol=1e-12)


def test_a_step_that_repeats_counts_once():
    value, step = np.array([1.0, 5.0, 9.0, 2.0]), np.array([0, 1, 1, 2])
    average = decayed_average(value, step, 0.9)
    np.testing.assert_allclose(average, one_by_one(value, step, 0.9), rtol=1e-12)
    assert average[2] == average[1]


def test_a_constant_signal_is_known_however_rarely_it_is_logged():
    for every in (1, 7, 50):
        step = np.arange(0, 3000, every)
        average = decayed_average(np.full(step.size, 4.0), step, 0.999)
        np.testing.assert_allclose(average, 4.0 * -np.expm1((step + 1.0) * np.log(0.999)), rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2, BLOCK - 1, BLOCK, 2 * BLOCK, 2 * BLOCK + 1, 5000])
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.999])
def test_every_length_about_the_blocks(n, beta):
    value, step = RNG.random(n), np.arange(n)
    np.testing.assert_allclose(decayed_average(value, step, beta), one_by_one(value, step, beta), rtol=1e-12)


@pytest.mark.parametrize("step", [np.arange(700), np.cumsum(RNG.integers(1, 9, 700))], ids=["every step", "uneven"])
def test_leading_axes_are_signals_of_their_own(step):
    value = RNG.random((2, 3, 700))
    together = decayed_average(value, step, 0.99, np.arange(6.0).reshape(2, 3))
    for i, j in np.ndindex(2, 3):
        np.testing.assert_allclose(together[i, j], one_by_one(value[i, j], step, 0.99, 3.0 * i + j), rtol=1e-12)


def test_a_signed_signal_keeps_the_precision_of_its_size():
    value = RNG.standard_normal(100_000)
    away = decayed_average(value, np.arange(value.size), 0.9) - one_by_one(value, np.arange(value.size), 0.9)
    assert np.max(np.abs(away)) < 1e-14


def test_linear_scan_of_growth_and_decay():
    log_decay, gain = RNG.uniform(-3.0, 3.0, 2000) - 0.1, RNG.random(2000)
    now, made = 0.7, []
    for a, b in zip(np.exp(log_decay), gain, strict=True):
        now = a * now + b
        made.append(now)
    np.testing.assert_allclose(linear_scan(log_decay, gain, 0.7), made, rtol=1e-10)


# -- against the optimizers' own states -------------------------------------------------------------------------------


def own(spec, grad):
    """Return the sum over the coordinates of v_hat, from the recurrence of the optimizer itself."""
    module = {"adam": adam, "rmsprop": rmsprop, "adagrad": adagrad}[spec.name]
    state, sums = module.start(grad[0].shape), []
    for now in grad:
        if spec.name == "adam":
            _, state = adam.step(now, state, lr=1.0, beta2=spec.beta2)
            sums.append((state.v / (1.0 - spec.beta2**state.t)).sum())
        elif spec.name == "rmsprop":
            _, state = rmsprop.step(now, state, lr=1.0, alpha=spec.alpha)
            sums.append(state.v.sum())
        else:
            _, state = adagrad.step(now, state, lr=1.0)
            sums.append(state.total.sum())
    return np.array(sums)


@pytest.mark.parametrize(
    "spec",
    [
        OptimizerSpec("adam", beta2=0.999),
        OptimizerSpec("adam", beta2=0.9),
        OptimizerSpec("rmsprop", alpha=0.95),
        OptimizerSpec("adagrad"),
    ],
    ids=lambda spec: f"{spec.name}-{spec.beta2 or spec.alpha}",
)
def test_the_norm_alone_gives_the_second_moment(spec):
    grad = RNG.standard_normal((400, 7)) * np.exp(-np.arange(400) / 60.0)[:, None]
    norm = np.sqrt((grad**2).sum(1))
    np.testing.assert_allclose(second_moment(norm, np.arange(400), spec), own(spec, grad), rtol=1e-10)


def states_of(spec, grad):
    """Return the sum over the coordinates of v after each step, from the optimizer's own state."""
    own, weight = optimizer_of(spec), np.ones(grad[0].shape)
    state, sums = own.start(grad[0].shape), []
    for now in grad:
        _, state = own.step(now, weight, state, 1e-3)
        if spec.name == "adafactor":
            v = np.outer(state.row, state.column) / state.row.mean() if state.v is None else state.v
        else:
            v = state.u**2 if spec.name == "adamax" else state.v
        sums.append(v.sum())
    return np.array(sums)


@pytest.mark.parametrize("name", ["nadam", "radam", "lamb", "adadelta"])
def test_relatives_of_adam_and_rmsprop(name):
    grad = RNG.standard_normal((300, 6)) * np.exp(-np.arange(300) / 60.0)[:, None]
    spec = OptimizerSpec(name, lr=1e-3)
    total = second_moment(np.sqrt((grad**2).sum(1)), np.arange(300), spec)
    own = states_of(spec, grad)
    np.testing.assert_allclose(total, own if name == "adadelta" else own / (1.0 - 0.999 ** np.arange(1, 301)), rtol=1e-9)


def test_stable_adamw_corrects_its_betas():
    grad = RNG.standard_normal((300, 6))
    spec = OptimizerSpec("stableadamw", lr=1e-3, beta2=0.99)
    np.testing.assert_allclose(second_moment(np.sqrt((grad**2).sum(1)), np.arange(300), spec), states_of(spec, grad), rtol=1e-9)


@pytest.mark.parametrize("power", [-0.8, -0.5])
def test_adafactor(power):
    grad = RNG.standard_normal((300, 6)) * np.exp(-np.arange(300) / 60.0)[:, None]
    norm, step = np.sqrt((grad**2).sum(1)), np.arange(300)
    total, v = second_moment(norm, step, OptimizerSpec("adafactor", beta2_decay=power)), 0.0
    for t, now in enumerate(norm**2, start=1):
        v = (1.0 - t**power) * v + t**power * now
        assert total[t - 1] == pytest.approx(v, rel=1e-10)


def test_steps_and_norms_beyond_measure():
    step = np.array([10, 10**6, 2 * 10**6, 10**15])
    for name in ("adam", "adafactor", "adagrad", "adamax", "rmsprop"):
        total = second_moment(np.array([1e200, 1.0, 2.0, 3.0]), step, OptimizerSpec(name))
        assert np.isfinite(total).all(), name
        assert total[0] > 1e199 * (1.0 - 0.999**11)
    last = second_moment(np.array([1e200, 1.0, 2.0, 3.0]), step, OptimizerSpec("adafactor"))
    # exp of the sum of k**-0.8 from a million to two is e**(-5 * (2e6**0.2 - 1e6**0.2)) = e**-11.8
    assert last[2] == pytest.approx(last[1] * np.exp(-5.0 * (2e6**0.2 - 1e6**0.2)), rel=1e-3)


def test_factors_keep_the_sum():
    """Adafactor's product of row and column means over the mean has the sum of v itself (Shazeer and Stern, section 3)."""
    v = RNG.random((5, 7))
    assert (np.outer(v.mean(1), v.mean(0)) / v.mean()).sum() == pytest.approx(v.sum())


@pytest.mark.parametrize("name", ["adamax", "amsgrad"])
def test_of_a_maximum_by_parameter_the_norm_gives_the_least(name):
    grad = RNG.standard_normal((300, 6)) * np.exp(-np.arange(300) / 60.0)[:, None]
    spec = OptimizerSpec(name, lr=1e-3, beta2=0.99, amsgrad=name == "amsgrad" or None)
    total = second_moment(np.sqrt((grad**2).sum(1)), np.arange(300), spec)
    own, weight = optimizer_of(spec), np.ones(6)
    state, least = own.start((6,)), []
    for t, now in enumerate(grad, start=1):
        _, state = own.step(now, weight, state, 1e-3)
        least.append((state.u**2).sum() if name == "adamax" else state.v_max.sum() / (1.0 - 0.99**t))
    assert np.all(total <= np.array(least) * (1.0 + 1e-6))
    assert np.all(total >= 0.2 * np.array(least))
    one = np.abs(grad[:, :1])  # of a single parameter it is exact
    alone = second_moment(one[:, 0], np.arange(300), spec)
    state, weight, exact = own.start((1,)), np.ones(1), []
    for t, now in enumerate(one, start=1):
        _, state = own.step(now, weight, state, 1e-3)
        exact.append(float(state.u[0] ** 2) if name == "adamax" else float(state.v_max[0]) / (1.0 - 0.99**t))
    np.testing.assert_allclose(alone, exact, rtol=1e-5)


@pytest.mark.parametrize("dialect", ["torch", "keras", "optax", "paper"])
def test_forms_of_amsgrad(dialect):
    """Of one parameter, whose norm is large first: the frameworks differ in whether the maximum is taken after the correction."""
    grad = np.abs(RNG.standard_normal(300)) * np.exp(-np.arange(300) / 30.0) + 0.01
    spec = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.99, eps=0.0, amsgrad=True, dialect=dialect)
    total = second_moment(grad, np.arange(300), spec)
    own, weight = optimizer_of(spec), np.ones(1)
    state, m = own.start((1,)), 0.0
    for t, now in enumerate(grad, start=1):
        update, state = own.step(np.array([now]), weight, state, 1e-3)
        m = 0.9 * m + 0.1 * now
        m_hat = m if dialect == "paper" else m / (1.0 - 0.9**t)
        assert (1e-3 * m_hat / update[0]) ** 2 == pytest.approx(total[t - 1], rel=1e-9), t


@pytest.mark.parametrize("name", ["sgd", "lion", "muon"])
def test_no_second_moment_is_nan(name):
    assert np.isnan(second_moment(np.ones(5), np.arange(5), OptimizerSpec(name))).all()


def test_framework_defaults_of_the_decay():
    step, norm = np.arange(50), RNG.random(50)
    for dialect, alpha in (("torch", 0.99), ("keras", 0.9)):
        filled = second_moment(norm, step, OptimizerSpec("rmsprop", alpha=alpha))
        np.testing.assert_array_equal(second_moment(norm, step, OptimizerSpec("rmsprop", dialect=dialect)), filled)


def test_the_first_moment_of_a_gradient_that_keeps_its_direction():
    norm, step, m = RNG.random(200), np.arange(200), 0.0
    bound = first_moment_bound(norm, step, OptimizerSpec("adam", beta1=0.9))
    for t, now in enumerate(norm, start=1):
        m = 0.9 * m + 0.1 * now
        assert bound[t - 1] == pytest.approx(m / (1.0 - 0.9**t), rel=1e-11)
    np.testing.assert_array_equal(first_moment_bound(norm, step, OptimizerSpec("rmsprop")), norm)
    np.testing.assert_array_equal(first_moment_bound(norm, step, OptimizerSpec("lion", beta1=0.9)), norm)


def test_the_first_moment_bounds_any_other():
    grad, spec = RNG.standard_normal((200, 5)), OptimizerSpec("adam", beta1=0.9)
    bound = first_moment_bound(np.sqrt((grad**2).sum(1)), np.arange(200), spec)
    state = adam.start((5,))
    for t, now in enumerate(grad, start=1):
        _, state = adam.step(now, state, lr=1.0)
        assert np.sqrt((state.m**2).sum()) / (1.0 - 0.9**t) <= bound[t - 1] * (1.0 + 1e-12)


# -- resumes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("every", [1, 10])
@pytest.mark.parametrize("kind", ["kept", "moments-lost", "step-reset", "v-lost", "fresh"])
def test_a_resume_leaves_of_the_state_what_it_says(kind, every):
    """A constant norm before and another behind, so that the average is known in closed form however rarely it is logged."""
    step = np.arange(0, 4000, every)
    norm = np.where(step < 2000, 3.0, 1.0)
    total = second_moment(norm, step, OptimizerSpec("adam", beta2=0.999), [Resume(2000, kind)])
    late = step >= 2000
    n = step[late] - 1999.0
    before = 9.0 * (1.0 - 0.999**2000) if kind in ("kept", "step-reset") else 0.0
    taken = n if kind in ("step-reset", "fresh") else n + 2000.0
    expected = (0.999**n * before + (1.0 - 0.999**n)) / (1.0 - 0.999**taken)
    # between a norm of 3 and one of 1 that were logged ten steps apart it is not known when it changed
    np.testing.assert_allclose(total[late], expected, rtol=0.1 if every > 1 and before else 1e-9)
    np.testing.assert_array_equal(steps_taken(step, [Resume(2000, kind)])[late], taken)


def test_two_resumes_and_one_before_the_log_begins():
    step, norm = np.arange(100, 400), RNG.random(300) + 0.5
    spec, lost = OptimizerSpec("adam", beta2=0.99), [Resume(200, "fresh"), Resume(300, "fresh")]
    total = second_moment(norm, step, spec, lost)
    np.testing.assert_allclose(total[200:], second_moment(norm[200:], np.arange(100), spec), rtol=1e-12)
    np.testing.assert_allclose(total[100:200], second_moment(norm[100:200], np.arange(100), spec), rtol=1e-12)
    early = second_moment(norm, step, spec, [Resume(50, "fresh")])
    np.testing.assert_allclose(early, second_moment(norm, step - 50, spec), rtol=1e-12)


def test_amsgrad_keeps_the_largest():
    norm, step = np.exp(-np.arange(5000) / 300.0), np.arange(5000)
    plain = second_moment(norm, step, OptimizerSpec("adam", beta2=0.999))
    kept = second_moment(norm, step, OptimizerSpec("adam", beta2=0.999, amsgrad=True))
    average = plain * -np.expm1((step + 1.0) * np.log(0.999))
    np.testing.assert_allclose(kept * -np.expm1((step + 1.0) * np.log(0.999)), np.maximum.accumulate(average), rtol=1e-12)
    assert kept[-1] > 10.0 * plain[-1]


def test_perceptron_to_four_digits():
    """rms sqrt(v_hat) from the norm of every step: 0.902 after 1,000 steps, 0.353 after 2,500, as in the optimizer itself."""
    norm = np.array(PERCEPTRON["grad_norm"])
    total = second_moment(norm, np.arange(norm.size), OptimizerSpec("adam", beta2=0.999))
    root = np.sqrt(total / PERCEPTRON["n_parameters"])
    assert root[999] == pytest.approx(0.902, abs=5e-4)
    assert root[2499] == pytest.approx(0.353, abs=5e-4)
    for taken, truth in PERCEPTRON["rms_root_v_hat"].items():
        assert root[int(taken) - 1] == pytest.approx(truth, rel=1e-4)


def test_a_log_of_every_tenth_step_keeps_the_ratios():
    norm = np.array(PERCEPTRON["grad_norm"])
    spec, step = OptimizerSpec("adam", beta2=0.999), np.arange(norm.size)
    full, rare = second_moment(norm, step, spec), second_moment(norm[::10], step[::10], spec)
    for start, stop in ((500, 1500), (1000, 2490)):
        assert rare[start // 10] / rare[stop // 10] == pytest.approx(full[start] / full[stop], rel=0.01)


# -- curvature --------------------------------------------------------------------------------------------------------


def test_curvature_of_a_quadratic():
    eigenvalues = np.array([1.0, 10.0, 100.0])
    weight = RNG.standard_normal((50, 3))
    loss, norm = 0.5 * (weight**2) @ eigenvalues + 3.0, np.sqrt((weight**2) @ eigenvalues**2)
    seen = curvature(loss, 3.0, norm)
    assert (seen <= 100.0 * (1.0 + 1e-9)).all()
    np.testing.assert_allclose(seen, (weight**2 @ eigenvalues**2) / (weight**2 @ eigenvalues))
    assert np.isnan(curvature(np.array([2.0, 3.0]), 3.0, np.ones(2))).all()


def test_curvature_of_the_perceptron_after_the_onset():
    (run,) = read_runs(FIXTURES / "sick" / "overtrained-perceptron")
    m = Measurements(run)
    rebound = m.loss.rebound
    late = m.grad_norm.step >= rebound.onset
    seen = curvature(m.loss.value[late], 0.0, m.grad_norm.value[late])
    assert np.median(seen) == pytest.approx(2714.0, rel=0.02)
    assert 2714.0 < m.curvature_after < 3028.0  # the largest eigenvalue is 3,028


def test_the_sufficient_eps_of_the_perceptron():
    """lr lambda / 38 with lambda from the log, median and upper quartile: 0.071 to 0.080 (0.080 from the Hessian's 3,028)."""
    (run,) = read_runs(FIXTURES / "sick" / "overtrained-perceptron")
    m = Measurements(run)
    assert 0.071 < 1e-3 * m.curvature_after / stability_limit(run.optimizer) <= 0.080


def test_the_forecast_of_the_perceptron():
    """The margin of 16.63 at step 1,000 reaches 38 near step 2,300, from the log alone (SCIENCE: 16.6, 32.1, 37.0)."""
    (run,) = read_runs(FIXTURES / "sick" / "overtrained-perceptron")
    m = Measurements(run)
    margin = m.second_moment.margin(2270, m.lr_at(m.second_moment.step))
    at = {step: margin[m.second_moment.step == step][0] for step in (1000, 2000, 2250)}
    assert at[1000] == pytest.approx(16.6, rel=0.05)
    assert at[2000] == pytest.approx(32.1, rel=0.05)
    assert at[2250] == pytest.approx(37.0, rel=0.05)
