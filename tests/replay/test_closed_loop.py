import numpy as np
import pytest

from traindoctor.model import OptimizerSpec
from traindoctor.replay.candidates import Candidate
from traindoctor.replay.closed_loop import N_COORDINATES, Fit, Recording, simulate

QUIET, FLOOR = 400, 1e-8
STOP = 1200
SPECS = {
    "adam": OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8),
    "adamw": OptimizerSpec("adamw", lr=1e-3, beta1=0.9, beta2=0.99, eps=1e-8),
    "keras": OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-7, dialect="keras"),
    "amsgrad": OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, amsgrad=True),
    "rmsprop": OptimizerSpec("rmsprop", lr=1e-3, alpha=0.99, eps=1e-8),
    "adagrad": OptimizerSpec("adagrad", lr=1e-2, eps=1e-10),
}


def recording(spec, every=1, lr=1e-3, curvature=100.0):
    """Return a descent by eight decades over 400 steps, and a floor."""
    step = np.arange(0, STOP, every)
    loss = np.maximum(10.0 ** (-8.0 * step / QUIET), FLOOR)
    return Recording(
        step=step,
        loss=loss * 1.2,
        grad_norm=np.sqrt(2.0 * curvature * loss),
        lr=np.full(step.size, lr),
        spec=spec,
        quiet=QUIET,
        floor=FLOOR,
        noise=1e-4,
        curvature=curvature,
        absolute=True,
    )


def fit(scale=0.1, unevenness=1.0, noise=1e-4, seed=0):
    return Fit(np.array([scale]), np.array([unevenness]), noise, seed)


def as_recorded(spec):
    return Candidate("as recorded", {}, spec)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_recorded_settings_reach_the_floor_where_the_run_did(spec):
    for every in (1, 10):
        made = simulate(recording(spec, every), [as_recorded(spec)], fit(), stop=STOP)
        assert made.descended[0] == pytest.approx(QUIET, rel=0.1), every
        assert made.step.tolist() == list(range(STOP))
        assert made.loss.shape == (STOP, 1)


def test_the_descent_is_the_recorded_one():
    spec = SPECS["adam"]
    made = simulate(recording(spec), [as_recorded(spec)], fit(), stop=STOP)
    logged = np.log10(recording(spec).loss[: QUIET // 2])
    np.testing.assert_allclose(np.log10(made.loss[: QUIET // 2, 0]), logged, atol=0.2)


def test_a_smaller_rate_takes_so_many_more_steps():
    spec = SPECS["adam"]
    tried = [as_recorded(spec), Candidate("half", {}, spec, lr_factor=0.5), Candidate("none", {}, spec, lr_factor=0.0)]
    made = simulate(recording(spec), tried, fit(), stop=STOP)
    assert made.descended[1] > 1.5 * made.descended[0]
    assert np.isinf(made.descended[2])


def test_the_same_input_gives_the_same_output():
    spec = SPECS["adam"]
    one, other = (simulate(recording(spec), [as_recorded(spec)], fit(), stop=STOP) for _ in range(2))
    np.testing.assert_array_equal(one.loss, other.loss)
    np.testing.assert_array_equal(one.descended, other.descended)
    another = simulate(recording(spec), [as_recorded(spec)], fit(seed=1), stop=STOP)
    assert (another.loss != one.loss).any()


def test_a_candidate_alone_equals_itself_among_others():
    spec = SPECS["adam"]
    tried = [
        as_recorded(spec),
        Candidate("eps", {}, OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=0.1)),
        Candidate("beta1", {}, OptimizerSpec("adam", lr=1e-3, beta1=0.5, beta2=0.999, eps=1e-8)),
        Candidate("amsgrad", {}, OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, amsgrad=True)),
        Candidate("half", {}, spec, lr_factor=0.5),
        Candidate("linear", {}, spec, schedule="linear"),
        Candidate("cosine", {}, spec, schedule="cosine"),
        Candidate("clip", {}, spec, clip_norm=0.5),
    ]
    # before a rounding error has grown: summation order differs with the number of rows
    together = simulate(recording(spec, curvature=1.0), tried, fit(), stop=STOP)
    for k, candidate in enumerate(tried):
        alone = simulate(recording(spec, curvature=1.0), [candidate], fit(), stop=STOP)
        np.testing.assert_allclose(together.loss[:, k], alone.loss[:, 0], rtol=1e-6, err_msg=candidate.title)
        assert together.descended[k] == pytest.approx(alone.descended[0], abs=1.0)


def test_many_fits_equal_one_by_one():
    spec = SPECS["adam"]
    scales, uneven = np.array([0.01, 0.1, 1.0]), np.array([1.0, 0.5, 0.25])
    together = simulate(recording(spec, curvature=1.0), [as_recorded(spec)] * 3, Fit(scales, uneven, 1e-4, 0), stop=STOP)
    for k in range(3):
        alone = simulate(recording(spec, curvature=1.0), [as_recorded(spec)], fit(scales[k], uneven[k]), stop=STOP)
        np.testing.assert_allclose(together.loss[:, k], alone.loss[:, 0], rtol=1e-6)


def test_beyond_the_stability_limit_the_floor_is_left():
    """Coordinates all alike, v fed by a constant gradient: below lr * lambda / D = 38 calm, above it not."""
    spec = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1.0)  # eps alone is the denominator
    for factor, is_calm in ((0.9, True), (1.1, False)):
        # with eps * scale the denominator, the curvature at which lr * scale * lambda / (eps * scale) is the limit
        made = recording(spec, curvature=factor * 38.0 / 1e-3)
        loss = simulate(made, [as_recorded(spec)], fit(scale=1e4, unevenness=0.25, noise=1e-6), stop=STOP).loss[:, 0]
        assert (np.nanmax(loss[-300:]) < 1e-4) == is_calm, factor


def test_rates_of_the_schedules():
    step, logged = np.array([0.0, 50.0, 100.0]), np.ones(3)
    spec = SPECS["adam"]
    np.testing.assert_allclose(Candidate("", {}, spec, schedule="linear").rate(step, 100, logged), [1.0, 0.5, 0.0])
    np.testing.assert_allclose(Candidate("", {}, spec, schedule="cosine").rate(step, 100, logged), [1.0, 0.5, 0.0], atol=1e-15)
    falling = np.array([1.0, 0.5, 0.25])
    np.testing.assert_allclose(Candidate("", {}, spec).rate(step, 100, falling), falling)
    np.testing.assert_allclose(Candidate("", {}, spec, schedule="constant").rate(step, 100, falling), 1.0)
    np.testing.assert_allclose(Candidate("", {}, spec, lr_factor=0.3).rate(step, 100, logged), 0.3)
    np.testing.assert_allclose(Candidate("", {}, spec, warmup_steps=51).rate(step, 100, logged), [1.0 / 51.0, 1.0, 1.0])


def test_a_late_begin_follows_the_second_moment_on_the_way():
    spec = SPECS["adam"]
    late = simulate(recording(spec), [as_recorded(spec)], fit(), begin=600, stop=STOP)
    assert late.step[0] == 600
    assert late.loss.shape == (STOP - 600, 1)
    assert late.descended[0] == pytest.approx(QUIET, rel=0.1)
    assert N_COORDINATES >= 100
