import json
from pathlib import Path

import numpy as np
import pytest

from traindoctor.model import OptimizerSpec
from traindoctor.optim import adagrad, adam, rmsprop
from traindoctor.readers.discover import read_runs
from traindoctor.signals.measurements import Measurements
from traindoctor.signals.second_moment import curvature, decayed_average, second_moment

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


def test_the_forecast_of_the_perceptron():
    """The margin of 16.63 at step 1,000 reaches 38 near step 2,300, from the log alone (SCIENCE: 16.6, 32.1, 37.0)."""
    (run,) = read_runs(FIXTURES / "sick" / "overtrained-perceptron")
    m = Measurements(run)
    margin = m.second_moment.margin(2270, m.lr_at(m.second_moment.step))
    at = {step: margin[m.second_moment.step == step][0] for step in (1000, 2000, 2250)}
    assert at[1000] == pytest.approx(16.6, rel=0.05)
    assert at[2000] == pytest.approx(32.1, rel=0.05)
    assert at[2250] == pytest.approx(37.0, rel=0.05)
