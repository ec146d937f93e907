"""The open loop against the recurrences themselves, against known transients of resumes, and what it says of its assumptions."""

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from traindoctor.errors import TraindoctorError
from traindoctor.model import Histogram, OptimizerSpec, Run, Series, Setting
from traindoctor.optim import adam
from traindoctor.optim.optimizer import optimizer_of
from traindoctor.readers.discover import read_runs
from traindoctor.replay.open_loop import largest_update, open_loop, signal, signals_of
from traindoctor.signals.measurements import Measurements
from traindoctor.signals.second_moment import Resume, second_moment

FIXTURES = Path(__file__).parents[2] / "fixtures"
PERCEPTRON = json.loads((FIXTURES / "optim" / "perceptron.json").read_text())
ADAM = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
OTHERS = ("rmsprop", "adagrad", "adamax", "adafactor", "adadelta", "sgd", "lion")
RNG = np.random.default_rng(1)


def series(quantity, value, step=None, tag=None):
    at = np.arange(len(value)) if step is None else np.asarray(step)
    return Series(quantity, tag or quantity, at, np.asarray(value, dtype=float), np.full(len(value), np.nan))


def measured(*logged, settings=None, optimizer=ADAM, n_parameters=None, **more):
    primary = {s.quantity: s for s in reversed(logged) if s.quantity != "grad_norm_layer"}
    settings = {key: Setting(value, "config.yaml:1") for key, value in (settings or {}).items()}
    return Measurements(Run("run", "", "", logged, primary, settings, optimizer, **more), n_parameters)


# -- against the optimizer itself ---------------------------------------------------------------------------------------


def test_the_figures_are_those_of_adam_when_all_coordinates_are_alike():
    """Update, effective rate, share of eps and g^2/v_hat of 5 equal coordinates with a gradient of one direction."""
    norm = np.exp(-np.arange(300) / 40.0) + 1e-3
    spec = replace(ADAM, eps=1e-3)
    loop = open_loop(signal(norm, lr=1e-3, n_parameters=5), [spec])
    state = adam.start((1,))
    for t, now in enumerate(norm / np.sqrt(5.0)):
        update, state = adam.step(np.array([now]), state, lr=1e-3, eps=1e-3)
        root = np.sqrt(state.v / (1.0 - 0.999**state.t))[0]
        assert loop.root_mean_square[0, t] == pytest.approx(root, rel=1e-10)
        assert loop.update[0, t] == pytest.approx(-update[0], rel=1e-10)
        assert loop.eps_share[0, t] == pytest.approx(1e-3 / (root + 1e-3), rel=1e-10)
        assert loop.ratio[0, t] == pytest.approx(now**2 / root**2, rel=1e-10)


def test_candidates_in_one_pass_equal_candidates_one_by_one():
    norm = 10.0 ** RNG.uniform(-3.0, 1.0, 2000)
    specs = [
        replace(ADAM, lr=lr, beta2=beta2, eps=eps, amsgrad=amsgrad)
        for lr in (1e-3, 1e-2) for beta2 in (0.9, 0.999) for eps in (1e-8, 0.1) for amsgrad in (False, True)
    ] + [OptimizerSpec(name, lr=1e-3) for name in OTHERS]  # fmt: skip
    recorded = signal(norm, lr=1e-3, n_parameters=7)
    together = open_loop(recorded, specs)
    for i, spec in enumerate(specs):
        alone = open_loop(recorded, [ADAM, spec])
        for figure in ("total", "first", "lr", "update", "effective_rate", "update_bound"):
            np.testing.assert_array_equal(
                getattr(together, figure)[i], getattr(alone, figure)[1], err_msg=f"{spec.name} {figure}"
            )


def test_perceptron():
    norm = np.array(PERCEPTRON["grad_norm"])
    loop = open_loop(signal(norm, lr=1e-3, n_parameters=1001), [ADAM, replace(ADAM, eps=0.1), replace(ADAM, beta1=0.5)])
    root = loop.root_mean_square[0]
    told = {1000: 0.902, 2000: 0.468, 2250: 0.406, 2500: 0.353}
    assert {taken: round(float(root[taken - 1]), 3) for taken in told} == told
    # seven orders above eps at the onset: eps is not what this failure is about
    assert 1e7 < root[2300] / 1e-8 < 1e8
    assert loop.eps_share[0, 2300] < 1e-7
    margin = loop.margin(2300, curvature=3028.0)
    table = {1000: 16.6, 2000: 32.1, 2250: 37.0}
    for taken, truth in table.items():
        assert margin[0, taken - 1] == pytest.approx(truth, rel=0.01)
    assert margin[1].max() < 38.0  # an eps of 0.1 keeps it below the limit
    assert margin[2, 1000] == pytest.approx(margin[0, 1000])
    assert loop.limit[2] == pytest.approx(6.0)  # beta1 = 0.5 fails sooner: the limit falls


def test_margin_from_a_probe_equals_margin_from_the_onset():
    loop = open_loop(signal(np.array(PERCEPTRON["grad_norm"]), lr=1e-3), [ADAM])
    onset = loop.margin(2300)
    np.testing.assert_allclose(loop.margin(999, float(onset[0, 999])), onset, rtol=1e-12)


def test_the_mean_margin_is_below_the_true_one_by_the_unevenness():
    norm = np.array(PERCEPTRON["grad_norm"])
    assert open_loop(signal(norm, lr=1e-3), [ADAM]).mean_margin(3028.0) is None
    alike = open_loop(signal(norm, lr=1e-3, n_parameters=1001), [ADAM]).mean_margin(3028.0)
    assert 16.63 / alike[0, 999] == pytest.approx(4.95, abs=0.02)


def test_eps_share_of_the_unstable_mode():
    loop = open_loop(signal(np.array(PERCEPTRON["grad_norm"]), lr=1e-3), [ADAM, replace(ADAM, eps=0.08)])
    share = loop.eps_share_at(2300, 3028.0)
    assert share[0, 2300] < 1e-6
    assert share[1, 2300] == pytest.approx(0.5, abs=0.01)  # 0.08 = lr lambda / 38 is the denominator at the onset


@pytest.mark.parametrize(
    "spec",
    [
        OptimizerSpec("radam", lr=1e-2, beta1=0.9, beta2=0.99, eps=1e-9),
        OptimizerSpec("adagrad", lr=1e-2, eps=1e-9, lr_decay=0.05, initial_accumulator=0.1),
        OptimizerSpec("rmsprop", lr=1e-2, alpha=0.9, eps=1e-9, momentum=0.0),
        OptimizerSpec("adamax", lr=1e-2, beta1=0.9, beta2=0.99, eps=1e-12),
        OptimizerSpec("amsgrad", lr=1e-2, beta1=0.9, beta2=0.99, eps=1e-9),
        OptimizerSpec("adadelta", lr=1.0, alpha=0.9, eps=1e-6),
        OptimizerSpec("adadelta", lr=1.0, alpha=0.9, eps=1e-1),
        OptimizerSpec("stableadamw", lr=1e-2, beta1=0.9, beta2=0.99, eps=1e-9, weight_decay=0.0),
    ],
    ids=lambda spec: spec.name,
)
def test_the_update_is_the_optimizers_own_where_all_coordinates_are_alike(spec):
    """On a gradient of one direction; LAMB, NAdam and Adafactor differ, which their notes say."""
    norm = np.exp(-np.arange(200) / 60.0) * np.sqrt(4.0)
    loop = open_loop(signal(norm, lr=spec.lr, n_parameters=4), [spec])
    own, weight = optimizer_of(spec), np.ones(4)
    state = own.start((4,))
    for t, now in enumerate(norm / 2.0):
        update, state = own.step(np.full(4, now), weight, state, spec.lr)
        if np.isfinite(loop.update[0, t]):
            assert loop.update[0, t] == pytest.approx(-update[0], rel=1e-5), t
    assert np.isfinite(loop.update[0, 10:]).all()


def test_adadelta_from_a_log_that_does_not_allow_its_rate():
    spec = OptimizerSpec("adadelta", lr=1.0, alpha=0.9, eps=1e-6)
    for recorded in (signal(np.ones(30)), signal(np.ones(30), 10 * np.arange(30), n_parameters=4)):
        loop = open_loop(recorded, [spec])
        assert np.isnan(loop.update).all()
        assert np.isfinite(loop.total).all()
        assert any("Adadelta's own rate" in note for note in loop.notes)


# -- what no update exceeds ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [(0.9, 0.999), (0.5, 0.9), (0.9, 0.8)])
def test_no_gradients_exceed_the_bound_and_the_worst_reach_it(beta):
    beta1, beta2 = beta
    spec, n = replace(ADAM, beta1=beta1, beta2=beta2), 60
    taken = np.arange(1.0, n + 1.0)
    bound = largest_update(spec, taken, taken)
    assert bound[0] == pytest.approx(1.0)
    # equality in Cauchy and Schwarz: g_k in proportion to a_k / b_k
    worst = (beta1 / beta2) ** np.arange(n)[::-1]
    for grads in (worst, 10.0 ** RNG.uniform(-3.0, 3.0, n), RNG.standard_normal(n)):
        state, sizes = adam.start((1,)), []
        for g in grads:
            update, state = adam.step(np.array([g]), state, lr=1.0, beta1=beta1, beta2=beta2, eps=0.0)
            sizes.append(abs(update[0]))
        assert np.all(np.array(sizes) <= bound * (1.0 + 1e-9))
        if grads is worst:
            assert sizes[-1] == pytest.approx(bound[-1], rel=1e-9)


def test_the_bound_in_the_long_run():
    late = np.array([1e6])
    assert largest_update(ADAM, late, late)[0] == pytest.approx(7.27, abs=0.01)
    assert largest_update(OptimizerSpec("rmsprop", alpha=0.99), late, late)[0] == pytest.approx(10.0)
    assert largest_update(OptimizerSpec("lion"), late, late)[0] == 1.0
    assert np.isnan(largest_update(OptimizerSpec("sgd"), late, late)[0])


# -- resumes ------------------------------------------------------------------------------------------------------------


def transient(kind, beta2=0.999, at=20_000, n=3000):
    """Return the update over lr under a constant gradient from the resume on, in units of what it was before."""
    spec = replace(ADAM, beta2=beta2)
    norm = np.full(at + n, 3.0)
    loop = open_loop(signal(norm, resumes=[Resume(at, kind)], n_parameters=4), [spec])
    return loop.update[0, at:] / loop.update[0, at - 1]


def test_moments_lost_with_the_step_kept():
    factor = transient("moments-lost")
    assert factor[0] == pytest.approx(3.16, abs=0.01)
    assert (factor.max(), factor.argmax() + 1) == (pytest.approx(6.57, abs=0.01), 12)
    assert np.count_nonzero(factor > 1.5) == 587
    assert transient("moments-lost", 0.95).max() == pytest.approx(1.10, abs=0.01)


def test_step_reset_with_the_moments_kept():
    factor = transient("step-reset")
    assert factor[0] == pytest.approx(0.316, abs=0.001)
    assert (factor.min(), factor.argmin() + 1) == (pytest.approx(0.152, abs=0.001), 12)
    assert np.count_nonzero(factor < 0.9) == 1659
    assert transient("step-reset", 0.95)[0] == pytest.approx(2.24, abs=0.01)


def test_only_v_lost():
    assert transient("v-lost")[0] == pytest.approx(31.6, abs=0.05)


@pytest.mark.parametrize("kind", ["fresh", "kept"])
def test_all_fresh_or_all_kept_under_a_constant_gradient(kind):
    np.testing.assert_allclose(transient(kind), 1.0, rtol=1e-7)


def test_a_resume_equals_the_optimizer_that_lost_its_state():
    norm = np.concatenate((np.linspace(5.0, 1.0, 400), np.linspace(2.0, 0.1, 300)))
    loop = open_loop(signal(norm, resumes=[Resume(400, "moments-lost")], n_parameters=1), [ADAM])
    state = adam.start((1,))
    for t, now in enumerate(norm):
        if t == 400:
            state = adam.start((1,))._replace(t=400)
        update, state = adam.step(np.array([now]), state, lr=1.0)
        assert loop.update[0, t] == pytest.approx(-update[0], rel=1e-7)  # eps
    assert np.all(loop.update[0] <= loop.update_bound[0])


def test_amsgrad_loses_its_maximum_with_v():
    norm = np.concatenate((np.full(500, 10.0), np.full(3000, 1.0)))
    spec = replace(ADAM, amsgrad=True)
    kept = open_loop(signal(norm, resumes=[Resume(500, "kept")]), [spec]).total[0, -1]
    lost = open_loop(signal(norm, resumes=[Resume(500, "moments-lost")]), [spec]).total[0, -1]
    assert kept > 30.0 * lost


def test_a_single_spike_moves_31_8_rates():
    """With v settled far below: 3.16 lr at once, 31.8 lr in all (b = 0.9, 0.999); 0.45 and 5.8 at 0.95."""
    for beta2, first, total in ((0.999, 3.16, 31.8), (0.95, 0.447, 5.8)):
        norm = np.zeros(30_000)
        norm[20_000] = 1.0
        update = open_loop(signal(norm, n_parameters=1), [replace(ADAM, beta2=beta2, eps=0.0)]).update[0, 20_000:]
        assert update[0] == pytest.approx(first, rel=0.01)
        assert np.nansum(update) == pytest.approx(total, rel=0.02)


# -- signals of a run ---------------------------------------------------------------------------------------------------


def test_a_run_of_the_fixtures():
    (run,) = read_runs(FIXTURES / "sick" / "overtrained-perceptron")
    (whole,) = signals_of(Measurements(run, 1001))
    loop = open_loop(whole, [run.optimizer])
    at = int(np.searchsorted(loop.step, 2490))
    assert loop.root_mean_square[0, at] == pytest.approx(0.3545, rel=0.06)  # of every tenth norm
    assert any("logged every 10 steps" in note for note in loop.notes)


def test_layers_each_with_the_clip_of_the_global_norm():
    a, b = np.full(50, 3.0), np.full(50, 4.0)
    logged = series("grad_norm", np.hypot(a, b)), series("grad_norm_layer", a, tag="a"), series("grad_norm_layer", b, tag="b")
    whole, first, second = (open_loop(s, [ADAM]) for s in signals_of(measured(*logged, settings={"gradient.clip_norm": 1.0})))
    assert (whole.name, first.name, second.name) == ("all parameters", "a", "b")
    np.testing.assert_allclose([whole.grad_norm[0, 0], first.grad_norm[0, 0], second.grad_norm[0, 0]], [1.0, 0.6, 0.8])
    np.testing.assert_allclose(first.total + second.total, whole.total)


def test_the_size_of_a_layer_is_in_its_histogram():
    at, one = np.arange(3), np.ones(3)
    histogram = Histogram("grads/a", at, one, 12.0 * one, one, one, np.ones((3, 9)))
    run = measured(series("grad_norm_layer", one, tag="grads/a (norm of the histogram)"), histograms=(histogram,))
    (layer,) = signals_of(run)
    assert layer.n_parameters == 12


def test_norms_logged_after_the_clip():
    norm = np.minimum(10.0 * np.exp(-np.arange(200) / 30.0), 1.0)
    (after,) = signals_of(measured(series("grad_norm", norm), settings={"gradient.clip_norm": 1.0}))
    assert after.logged == "after"
    assert any("logged after the clip" in note for note in after.notes)
    wider = open_loop(after, [ADAM], clip_norms=[10.0])
    assert any("wider clip" in note for note in wider.notes)


def test_a_clip_by_value_is_exact_below_it_and_a_bound_above():
    norm = np.array([0.5, 100.0])
    (clipped,) = signals_of(measured(series("grad_norm", norm), settings={"gradient.clip_value": 1.0}, n_parameters=4))
    loop = open_loop(clipped, [ADAM])
    np.testing.assert_allclose(loop.grad_norm[0], [0.5, 2.0])
    assert any("clipped by value" in note for note in loop.notes)


def test_coupled_decay_enters_the_second_moment_and_decoupled_does_not():
    logged = series("grad_norm", np.zeros(5000)), series("weight_norm", np.full(5000, 10.0))
    specs = [replace(ADAM, weight_decay=0.1), replace(ADAM, name="adamw", weight_decay=0.1)]
    (whole,) = signals_of(measured(*logged))
    loop = open_loop(whole, specs)
    np.testing.assert_allclose(loop.total[0], 1.0, rtol=1e-9)
    assert not loop.total[1].any()
    assert any("right angles" in note for note in loop.notes)
    (bare,) = signals_of(measured(logged[0]))
    assert any("no weight norm was logged" in note for note in open_loop(bare, specs).notes)


def test_a_log_of_epochs_needs_their_length():
    epochs = measured(series("grad_norm", [4.0, 2.0, 1.0]), step_unit="epoch")
    with pytest.raises(TraindoctorError, match="counts epochs"):
        signals_of(epochs)
    (whole,) = signals_of(epochs, steps_per_epoch=100)
    assert whole.step.tolist() == [99, 199, 299]
    assert any("value an epoch" in note for note in whole.notes)


def test_resumes_of_the_run_are_taken_as_kept_and_told():
    run = measured(series("grad_norm", np.ones(100)), restarts=(40,))
    (whole,) = signals_of(run)
    assert whole.resumes == (Resume(40, "kept"),)
    assert any("step 40" in note and "restored" in note for note in open_loop(whole, [ADAM]).notes)
    (lost,) = signals_of(run, resumes=[Resume(40, "fresh")])
    assert open_loop(lost, [ADAM]).taken[40] == 1.0


def test_nothing_logged_and_nothing_to_replay():
    with pytest.raises(TraindoctorError, match="no gradient norm was logged"):
        signals_of(measured(series("loss", [1.0])))
    with pytest.raises(TraindoctorError, match="no gradient norm"):
        open_loop(signal(np.zeros(0)), [ADAM])


@pytest.mark.parametrize("name", ["lion", "muon", "sgd"])
def test_without_a_second_moment_it_says_so(name):
    loop = open_loop(signal(np.ones(10), lr=0.1), [OptimizerSpec(name, lr=0.1)])
    assert np.isnan(loop.total).all()
    assert any(name in note and "No second moment" in note for note in loop.notes)
    np.testing.assert_array_equal(loop.effective_rate, 1.0)


def test_points_that_are_not_finite_are_left_out_and_counted():
    (whole,) = signals_of(measured(series("grad_norm", [1.0, np.nan, np.inf, 2.0])))
    assert whole.step.tolist() == [0, 3]
    assert any("2 points" in note for note in whole.notes)


@pytest.mark.parametrize("change", [{"beta1": 1.0, "weight_decay": 0.1}, {"beta2": 1.0}, {"eps": -1.0}, {"dialect": "other"}])
def test_settings_that_a_framework_rejects_are_replayed_as_far_as_they_go(change):
    loop = open_loop(signal(np.ones(20)), [ADAM, replace(ADAM, **change)])
    assert loop.total.shape == (2, 20)


# -- scale --------------------------------------------------------------------------------------------------------------


def test_a_million_steps_of_64_candidates_in_bounded_memory():
    norm = 10.0 ** RNG.uniform(-2.0, 0.0, 200_000)
    specs = [replace(ADAM, beta2=1.0 - 10.0 ** -float(k)) for k in np.linspace(1.0, 4.0, 64)]
    tracemalloc.start()
    loop = open_loop(signal(norm, lr=1e-3), specs, max_values=64 * 1000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * norm.size * 8 / 3  # far below one array of all values: candidates do not add up
    assert loop.step.size <= 1001
    assert loop.step[-1] == norm.size - 1
    assert any("reported at each" in note for note in loop.notes)
    exact = second_moment(norm, np.arange(norm.size), specs[40])
    np.testing.assert_array_equal(loop.total[40], exact[loop.step])
