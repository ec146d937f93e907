"""The fitted noisy quadratic against quadratics that are really trained: `quadratics.py` holds the truth."""

import functools
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pytest

from tests.replay.quadratics import Quadratic, Training, train
from traindoctor.model import OptimizerSpec
from traindoctor.optim.stability import stability_limit
from traindoctor.replay import noisy_quadratic as nq
from traindoctor.replay.modes import linear_form

SGD = OptimizerSpec("sgd", lr=0.05)
ADAM = OptimizerSpec("adam", lr=0.003, beta1=0.9, beta2=0.999, eps=1e-8)
FLOOR = 0.01
#: Three curvatures, twenty coordinates each, with the same loss at the start.
CURVATURES = np.repeat([10.0, 1.0, 0.1], 20)
PROBLEM = Quadratic(CURVATURES, 0.6 * np.sqrt(2.0 / CURVATURES / 20.0), np.full(60, 0.3 / np.sqrt(60.0)), FLOOR)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# -- stretches --------------------------------------------------------------------------------------------------------


def observed(step, loss, lr=0.1, grad_norm=None, spec=SGD):
    step = np.asarray(step, dtype=np.int64)
    norm = None if grad_norm is None else np.asarray(grad_norm, dtype=np.float64)
    return nq.observe(step, np.asarray(loss, dtype=np.float64), np.full(step.size, lr), norm, spec)


@pytest.mark.parametrize(
    "step",
    [
        range(1000),
        range(500, 700),
        range(0, 100_000, 50),
        [0, 1, 2, 3, 50, 51, 52, 400, 401, 5000, 5001, 5002, 9000],
        np.cumsum(np.random.default_rng(0).integers(1, 90, 600)),
        [0, 1],
    ],
    ids=["each", "late start", "coarse", "gaps", "irregular", "two points"],
)
def test_every_logged_point_lies_in_one_stretch_and_every_stretch_holds_one(step):
    step = np.array(step)
    obs = observed(step, np.linspace(3.0, 1.0, step.size), grad_norm=np.linspace(2.0, 1.0, step.size))
    assert obs.edge[0] == 0
    assert (obs.n_steps > 0).all()
    assert obs.edge[-1] > step[-1] - step[0]
    assert obs.loss.size <= nq.N_STRETCHES + 4
    count = np.histogram(step - step[0], obs.edge)[0]
    assert count.min() >= 1
    assert count.sum() == step.size
    for part in (obs.loss, obs.lr, obs.sigma, obs.place, obs.grad_sq, obs.grad_sigma):
        assert part.shape == (obs.edge.size - 1,)
        assert np.isfinite(part).all()
    assert ((obs.place >= 0.0) & (obs.place < 1.0)).all()


def test_a_stretch_has_the_mean_of_its_points():
    rng = np.random.default_rng(1)
    step, loss, norm = np.arange(0, 30_000, 3), rng.random(10_000) + 0.5, rng.random(10_000) + 0.5
    obs = observed(step, loss, grad_norm=norm)
    for k in (0, 40, obs.loss.size - 1):
        inside = (step >= obs.edge[k]) & (step < obs.edge[k + 1])
        assert obs.loss[k] == pytest.approx(loss[inside].mean())
        assert obs.grad_sq[k] == pytest.approx((norm[inside] ** 2).mean())
        assert obs.edge[k] + obs.place[k] * obs.n_steps[k] == pytest.approx(step[inside].mean())


def test_the_error_of_a_stretch_is_that_of_its_mean():
    """White noise of 0.2 nats about a falling loss: each stretch knows its mean to 0.2 over the root of its points."""
    rng = np.random.default_rng(2)
    step = np.arange(20_000)
    obs = observed(step, np.exp(-step / 1e4 + 0.2 * rng.standard_normal(step.size)))
    count = np.diff(obs.edge)
    long = count > 20
    np.testing.assert_allclose(obs.sigma[long] * np.sqrt(count[long]), 0.2, rtol=0.3)
    scatter = np.log(obs.loss[long]) + (obs.edge[:-1][long] + obs.place[long] * count[long]) / 1e4
    assert np.std((scatter - scatter.mean()) / obs.sigma[long]) == pytest.approx(1.0, abs=0.3)


def test_shifting_the_steps_changes_nothing():
    loss = np.geomspace(1.0, 0.1, 300)
    one, other = observed(range(300), loss), observed(range(7000, 7300), loss)
    np.testing.assert_array_equal(one.edge, other.edge)
    np.testing.assert_array_equal(one.loss, other.loss)


# -- the fit ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """An optimizer at a rate, and how near the truth its replay has to come, in decades: within the log, and in what if."""

    spec: OptimizerSpec
    n_steps: int
    every: int
    near: float
    what_if: float

    @property
    def lr(self):
        return np.full(self.n_steps, self.spec.lr)


CASES = {
    "sgd": Case(SGD, 1500, 1, 0.03, 0.06),
    "sgd, one in ten steps": Case(SGD, 3000, 10, 0.03, 0.06),
    "heavy ball": Case(OptimizerSpec("sgd", lr=0.02, momentum=0.9), 1500, 1, 0.04, 0.08),
    "nesterov": Case(OptimizerSpec("sgd", lr=0.02, momentum=0.9, nesterov=True), 1500, 1, 0.04, 0.08),
    "adam": Case(ADAM, 1500, 1, 0.04, 0.15),
    "adam, eps divides": Case(replace(ADAM, lr=0.05, beta2=0.99, eps=1.0), 1500, 1, 0.04, 0.15),
}
CHANGES = {
    "lr / 3": {"rate": 1.0 / 3.0},
    "lr / 5": {"rate": 1.0 / 5.0},
    "four times the batch": {"batch": 4.0},
    "cosine": {"cosine": True},
}


@functools.cache
def logged(name):
    """Return the log of a case on stretches: of one realisation."""
    case = CASES[name]
    (loss,), (norm,) = train(PROBLEM, Training(case.spec, case.lr))
    step = np.arange(0, case.n_steps, case.every)
    return nq.observe(step, loss[step], case.lr[step], norm[step], case.spec)


@functools.cache
def fitted(name):
    spec = CASES[name].spec
    return nq.fit(logged(name), nq.Dynamics(linear_form(spec), stability_limit(spec)), n_draws=6)


@functools.cache
def truth(name, rate=1.0, batch=1.0, cosine=False, clip=np.inf):
    """Return the mean loss of eight trained realisations on the stretches of the log."""
    case = CASES[name]
    lr = rate * case.lr * (0.5 * (1.0 + np.cos(np.pi * np.arange(case.n_steps) / case.n_steps)) if cosine else 1.0)
    loss, _ = train(PROBLEM, Training(case.spec, lr, clip, batch), n_seeds=8, seed=5)
    step = np.arange(0, case.n_steps, case.every)
    return nq.observe(step, loss.mean(0)[step], lr[step], None, case.spec).loss


def settings_of(name, rate=1.0, batch=1.0, cosine=False, clip=np.inf):
    case, obs = CASES[name], logged(name)
    middle = (obs.edge[1:] + obs.edge[:-1] - 1) / 2.0
    lr = rate * obs.lr * (0.5 * (1.0 + np.cos(np.pi * middle / case.n_steps)) if cosine else 1.0)
    return nq.Settings(case.spec, linear_form(case.spec), stability_limit(case.spec), lr, clip, 1.0 / batch)


EACH = pytest.mark.parametrize("name", CASES)


@EACH
def test_the_log_is_fitted_within_its_noise(name):
    obs, made = logged(name), fitted(name)
    miss = np.log10(made.predicted / obs.loss)
    assert np.median(np.abs(miss)) < CASES[name].near
    assert np.median(np.abs(made.miss)) < 1.0
    assert made.n_free > 0


@EACH
def test_a_closed_loop_of_the_recorded_settings_gives_the_run(name):
    made = nq.simulate(logged(name), nq.best_of(fitted(name)), [settings_of(name)]).loss[0, 0]
    away = np.abs(np.log10(made / truth(name)))
    assert np.median(away) < CASES[name].near
    assert np.median(away[-40:]) < CASES[name].near


@EACH
@pytest.mark.parametrize("change", CHANGES)
def test_what_if_is_what_training_says(name, change):
    """Mean of eight trained realisations; the best fit, over the run, and at its end."""
    made = nq.simulate(logged(name), fitted(name), [settings_of(name, **CHANGES[change])]).loss[0]
    away = np.log10(made / truth(name, **CHANGES[change]))
    assert np.median(np.abs(away[0])) < CASES[name].what_if
    assert abs(np.median(away[0, -40:])) < CASES[name].what_if


@pytest.mark.parametrize("name", ["sgd", "sgd, one in ten steps", "heavy ball"])
def test_a_clip_is_what_training_says(name):
    clip = 0.5 * float(np.sqrt(np.median(logged(name).grad_sq)))
    made = nq.simulate(logged(name), nq.best_of(fitted(name)), [settings_of(name, clip=clip)]).loss[0, 0]
    away = np.log10(made / truth(name, clip=clip))
    assert np.median(np.abs(away)) < CASES[name].what_if
    # while the clip holds, the descent is another: where noise and gradient share the norm the mean-field clip is rougher
    assert np.max(np.abs(away)) < 0.25


@pytest.mark.parametrize("name", ["sgd", "sgd, one in ten steps", "adam", "adam, eps divides"])
def test_the_floor_is_found(name):
    """With a gradient norm the noise that holds the loss up is seen in it, and what is left is the floor."""
    np.testing.assert_allclose(fitted(name).floor[0], FLOOR, rtol=0.1)


def test_what_noise_holds_up_is_told_from_the_floor():
    """Sgd whose loss at the end is nine tenths noise, and the same level made of a floor."""
    form, limit = linear_form(SGD), stability_limit(SGD)
    held = []
    for noise, floor in ((2.0, 0.01), (0.1, 0.09)):
        problem = replace(PROBLEM, noise=np.full(60, noise / np.sqrt(60.0)), floor=floor)
        (loss,), (norm,) = train(problem, Training(SGD, np.full(2000, SGD.lr)))
        obs = observed(range(2000), loss, SGD.lr, norm)
        made = nq.fit(obs, nq.Dynamics(form, limit))
        end = nq.simulate(obs, made, [nq.Settings(SGD, form, limit, obs.lr)]).loss[0, 0, -40:].mean()
        still = replace(made, noise=0.0 * made.noise, echo=0.0 * made.echo)
        calm = nq.simulate(obs, still, [nq.Settings(SGD, form, limit, obs.lr)]).loss[0, 0, -40:].mean()
        held.append(1.0 - calm / end)
    assert held[0] > 0.7
    assert held[1] < 0.1


def test_the_curvature_of_a_single_mode_is_found():
    """No noise, one curvature: what carries the loss lies within one rung of the ladder about it, on average."""
    problem = Quadratic(np.full(20, 2.0), np.full(20, 0.3), np.zeros(20))
    (loss,), (norm,) = train(problem, Training(SGD, np.full(60, SGD.lr)))
    obs = observed(range(60), loss, SGD.lr, norm)
    made = nq.fit(obs, nq.Dynamics(linear_form(SGD), stability_limit(SGD)))
    mean = np.average(np.log10(made.curvature), weights=made.energy[0])
    assert abs(mean - np.log10(2.0)) < 1.0 / nq.PER_DECADE


@EACH
def test_draws_differ_and_begin_with_the_best_fit(name):
    made = fitted(name)
    assert made.floor.shape == (7,)
    loss = nq.simulate(logged(name), made, [settings_of(name)]).loss[0]
    assert np.ptp(np.log(loss[:, -1])) > 0.0
    alone = nq.simulate(logged(name), nq.best_of(made), [settings_of(name)]).loss[0]
    np.testing.assert_allclose(alone[0], loss[0], rtol=1e-12)


def test_the_same_log_gives_the_same_fit():
    spec = CASES["adam"].spec
    again = nq.fit(logged("adam"), nq.Dynamics(linear_form(spec), stability_limit(spec)), n_draws=6)
    for name in ("energy", "noise", "echo", "floor", "predicted", "curvature"):
        np.testing.assert_array_equal(getattr(again, name), getattr(fitted("adam"), name), err_msg=name)
    assert again.root == fitted("adam").root


def test_a_loss_alone_is_fitted_too():
    (loss,), _ = train(PROBLEM, Training(ADAM, np.full(1500, ADAM.lr)))
    obs = observed(range(1500), loss, ADAM.lr, spec=ADAM)
    made = nq.fit(obs, nq.Dynamics(linear_form(ADAM), stability_limit(ADAM)))
    assert np.median(np.abs(np.log10(made.predicted / obs.loss))) < 0.03
    assert made.root == 1.0


def test_too_few_stretches_are_no_fit():
    assert nq.fit(observed([0, 1], [2.0, 1.0]), nq.Dynamics(linear_form(SGD), stability_limit(SGD))) is None


# -- simulation -------------------------------------------------------------------------------------------------------


def test_candidates_together_equal_one_by_one():
    obs, made = logged("adam"), fitted("adam")
    tried = [settings_of("adam", **change) for change in CHANGES.values()]
    tried.append(replace(tried[0], spec=replace(ADAM, amsgrad=True)))
    tried.append(replace(tried[0], spec=replace(ADAM, beta1=0.5), form=linear_form(replace(ADAM, beta1=0.5))))
    tried.append(replace(tried[0], spec=replace(ADAM, eps=0.1)))
    together = nq.simulate(obs, made, tried)
    for k, settings in enumerate(tried):
        alone = nq.simulate(obs, made, [settings])
        np.testing.assert_allclose(together.loss[k], alone.loss[0], rtol=1e-9)
        np.testing.assert_allclose(together.grad_sq[k], alone.grad_sq[0], rtol=1e-9)


def test_what_overflows_is_infinite_from_there_on_and_never_nan():
    made = nq.simulate(logged("sgd"), fitted("sgd"), [settings_of("sgd", rate=f) for f in (3.0, 30.0, 1e6, 1e150, 1e300)])
    assert not np.isnan(made.loss).any()
    for loss in made.loss[1:].reshape(-1, made.loss.shape[-1]):
        dead = np.isinf(loss)
        assert dead.any()
        assert dead[np.argmax(dead) :].all()


def test_a_rate_of_zero_stands_still():
    made = nq.simulate(logged("sgd"), nq.best_of(fitted("sgd")), [settings_of("sgd", rate=0.0)])
    np.testing.assert_allclose(made.loss[0, 0], made.loss[0, 0, 0])


def test_a_rate_of_zero_for_most_of_a_run_still_has_rungs_about_an_oscillation():
    obs = observed(np.arange(40), np.linspace(1.0, 0.5, 40))
    rate = np.where(np.arange(obs.loss.size) < 10, 0.1, 0.0)
    rungs = nq.ladder(obs, rate, nq.Dynamics(linear_form(SGD), 2.0, around=0.5))
    assert np.isfinite(rungs).all()
    assert np.any(np.isclose(rungs, 5.0))


def test_amsgrad_keeps_the_rate_from_growing_back():
    spec = replace(ADAM, beta2=0.9)
    obs, made = logged("adam"), nq.best_of(fitted("adam"))
    both = [replace(settings_of("adam"), spec=s) for s in (spec, replace(spec, amsgrad=True))]
    rate = nq.simulate(obs, made, both).rate[:, 0]
    assert (rate[1] <= rate[0] * (1.0 + 1e-9)).all()
    assert rate[1, -1] < 0.5 * rate[0, -1]


def test_a_kick_throws_the_modes_off_and_a_clip_holds_it_back():
    lr = np.full(800, SGD.lr)
    problem = replace(PROBLEM, noise=0.2 * PROBLEM.noise)
    (loss,), (norm,) = train(problem, Training(SGD, lr, thrown={400: 0.8}))
    obs = observed(range(800), loss, SGD.lr, norm)
    at = int(np.searchsorted(obs.edge, 400, side="right")) - 1
    h = nq.Dynamics(linear_form(SGD), stability_limit(SGD), kicks=(at,), kick_norms=(10.0,))
    made = nq.fit(obs, h)
    without = nq.fit(obs, replace(h, kicks=(), kick_norms=()))
    assert nq.log_likelihood(made.miss) > nq.log_likelihood(without.miss) + 50.0
    base = nq.Settings(SGD, h.form, h.limit, obs.lr)
    run, clipped = nq.simulate(obs, made, [base, replace(base, clip_norm=1.0)]).loss[:, 0]
    assert run[at] > 3.0 * run[at - 1]
    assert clipped[at] - clipped[at - 1] < 0.1 * (run[at] - run[at - 1])


def test_pieces_of_a_stretch_add_up():
    for n_steps in (1, 2, 63, 64, 65, 1000, 12_345):
        for longest in (1, 2, 64, 100):
            pieces = nq._pieces(n_steps, longest)
            assert sum(pieces) == n_steps
            assert max(pieces) - min(pieces) <= 1
            assert len(pieces) <= 16


# -- denominators -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    [
        replace(ADAM, beta2=0.95),
        replace(ADAM, beta2=0.95, amsgrad=True),
        OptimizerSpec("rmsprop", alpha=0.9, eps=0.1),
        OptimizerSpec("adagrad", eps=0.1),
        SGD,
    ],
    ids=["adam", "amsgrad", "rmsprop", "adagrad", "sgd"],
)
def test_the_recorded_rate_is_that_of_the_recurrence(spec):
    """Of a run that was logged at each step, its norm spread over 25 alike coordinates."""
    rng = np.random.default_rng(3)
    norm = 0.5 + rng.random(100)
    obs = observed(range(100), np.geomspace(1.0, 0.1, 100), 0.2, norm, spec)
    each = obs.n_steps == 1
    per = norm[: int(each.sum())] / 5.0
    if spec.is_adam:
        v = np.zeros(per.size)
        for t in range(per.size):
            v[t] = spec.beta2 * (v[t - 1] if t else 0.0) + (1.0 - spec.beta2) * per[t] ** 2
        v = np.maximum.accumulate(v) if spec.amsgrad else v
        below = np.sqrt(v / (1.0 - spec.beta2 ** np.arange(1, per.size + 1))) + spec.eps
    elif spec.name == "rmsprop":
        v = np.zeros(per.size)
        for t in range(per.size):
            v[t] = spec.alpha * (v[t - 1] if t else 0.0) + (1.0 - spec.alpha) * per[t] ** 2
        below = np.sqrt(v) + spec.eps
    elif spec.name == "adagrad":
        below = np.sqrt(np.cumsum(per**2)) + spec.eps
    else:
        below = np.ones(per.size)
    assert each[: per.size].all()
    # the rate is per unit of the whole norm, five times that of a coordinate
    rate = nq.recorded_rate(obs, 5.0)[: per.size]
    np.testing.assert_allclose(rate, 0.2 / below / 5.0 if spec.is_adaptive else 0.2)


def test_what_a_gradient_is_turned_into():
    """The steps under a constant gradient, of the recurrence and of the form."""
    assert nq.gain_of(linear_form(OptimizerSpec("sgd", momentum=0.9))) == pytest.approx(10.0)
    assert nq.gain_of(linear_form(OptimizerSpec("sgd", momentum=0.9, nesterov=True))) == pytest.approx(10.0)
    assert nq.gain_of(linear_form(ADAM)) == pytest.approx(1.0)
    assert nq.gain_of(linear_form(OptimizerSpec("nadam", beta1=0.9))) == pytest.approx(1.0)
    assert nq.gain_of(linear_form(OptimizerSpec("sgd", momentum=1.0))) == np.inf


def test_a_few_points_that_nothing_explains_do_not_decide():
    near, far = np.zeros(100), np.zeros(100)
    far[0] = 1e9
    assert nq.log_likelihood(near) == 0.0
    assert nq.log_likelihood(far) > nq.log_likelihood(np.full(100, 1.5))
    assert np.isfinite(nq.log_likelihood(np.full(3, np.inf)))
