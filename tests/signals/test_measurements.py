import numpy as np
import pytest

from traindoctor.model import OptimizerSpec, Run, Series, Setting
from traindoctor.rule import run_of
from traindoctor.signals.measurements import Measurements, SeriesMeasurements

RNG = np.random.default_rng(0)


def series(value, step=None):
    value = np.asarray(value, dtype=np.float64)
    step = np.arange(value.size) if step is None else np.asarray(step)
    return SeriesMeasurements(Series("loss", "loss", step.astype(np.int64), value, np.full(value.size, np.nan), "log.csv"))


# -- points -----------------------------------------------------------------------------------------------------------


def test_points_that_are_not_finite_are_counted_and_left_out():
    s = series([3.0, np.nan, 2.0, np.inf, -np.inf, 1.0])
    assert s.n_not_finite == 3
    assert s.n == 3
    assert s.value.tolist() == [3.0, 2.0, 1.0]
    assert s.step.tolist() == [0, 2, 5]
    assert s.first_not_finite() == 1
    assert series([1.0]).first_not_finite() is None


def test_steps_are_put_in_order_and_the_last_of_a_step_counts():
    s = series([5.0, 4.0, 3.0, 2.0], step=[0, 10, 10, 5])
    assert s.step.tolist() == [0, 5, 10]
    assert s.value.tolist() == [5.0, 2.0, 3.0]
    assert s.stride == 5.0


@pytest.mark.parametrize("values", [[], [np.nan], [np.nan] * 20])
def test_without_a_finite_point_every_figure_is_undefined_and_none_fails(values):
    s = series(values)
    assert s.n == 0
    for name in ("initial", "tail", "best", "highest", "progress_left", "fall_significance", "settled"):
        assert np.isnan(getattr(s, name)), name
    assert s.stride == 1.0
    assert s.positive_share == 0.0
    assert s.relative_change == 0.0
    assert s.rebound is None
    assert not s.is_constant
    assert not s.is_zero
    assert np.isnan(s.autocorrelation(1))
    assert np.isnan(s.growth(0, 100))
    assert np.isnan(s.oscillation[0])
    assert np.isnan(s.noise)


def test_one_point():
    s = series([2.0])
    assert (s.initial, s.tail, s.best, s.highest) == (2.0, 2.0, 2.0, 2.0)
    assert s.relative_change == 0.0
    assert s.rebound is None
    assert not s.is_constant
    assert np.isnan(s.settled)


# -- levels -----------------------------------------------------------------------------------------------------------


def test_tail_is_no_last_point():
    value = np.ones(100)
    value[-1] = 1e9
    assert series(value).tail == 1.0
    assert series([9.0, 1.0, 2.0, 3.0]).tail == 2.0
    assert series(np.arange(1000.0)).tail == pytest.approx(949.5)


def test_initial_best_and_highest():
    value = np.concatenate([np.full(10, 5.0), np.linspace(5.0, 1.0, 490)])
    s = series(value)
    assert s.initial == 5.0
    assert s.best == pytest.approx(1.0, abs=0.06)
    assert s.highest == 5.0
    assert series([1.0, -1.0, 1.0, 1.0]).positive_share == 0.75


def test_constant_and_zero_are_exact():
    assert series([2.0] * 3).is_constant
    assert not series([2.0, 2.0, np.nextafter(2.0, 3.0)]).is_constant
    assert series([0.0, -0.0, 0.0]).is_zero
    assert not series([0.0, 5e-324, 0.0]).is_zero
    assert not series([0.0, 0.0]).is_zero


def test_settled_is_the_share_of_the_run_that_moved():
    k = np.arange(400)
    assert series(np.where(k < 100, 10.0 - 0.09 * k, 1.0)).settled == pytest.approx(0.2, abs=0.03)
    assert series(10.0 - 0.02 * k).settled == pytest.approx(0.77, abs=0.05)
    assert series(np.ones(400)).settled == 0.0


def test_mostly_settled_does_not_mind_late_spikes():
    value = np.concatenate([np.full(10, 5.0), np.ones(90)])
    value[60:64] = 5.0
    assert series(value).settled > 0.6
    assert series(value).mostly_settled == pytest.approx(0.1, abs=0.02)
    assert series(np.linspace(5.0, 1.0, 100)).mostly_settled > 0.6


def test_levels_of_the_thirds_and_of_the_whole():
    value = series(np.arange(9.0))
    assert (value.middle, value.middle_third, value.tail_third) == (4.0, 4.0, 7.0)
    assert np.isnan(series(np.arange(5.0)).middle_third)
    assert np.isnan(series(np.arange(5.0)).tail_third)


def test_late_high_is_of_a_series_that_grows_wild():
    assert series([2.0] * 20 + [30.0] * 20).late_high == pytest.approx(15.0)
    spike = [2.0] * 40
    spike[30] = 1e6
    assert series(spike).late_high == pytest.approx(1.0)


def test_excursion_is_none_between_start_and_end():
    assert series(np.linspace(5.0, 1.0, 20)).excursion == 0.0
    assert series([2.0, 3.0, *[2.0] * 18]).excursion == pytest.approx(0.5)
    assert series([2.0, 1.0, *[2.0] * 18]).excursion == pytest.approx(0.5)


def test_progress_left():
    k = np.arange(400.0)
    assert series(10.0 - 0.02 * k).progress_left == pytest.approx(1.0, abs=0.05)
    assert series(np.exp(-k / 30.0)).progress_left < 0.01
    assert np.isnan(series(k).progress_left)


def test_fall_is_weighed_against_noise():
    noise = RNG.standard_normal(300)
    assert abs(series(noise).fall_significance) < 4.0
    assert series(noise - 0.05 * np.arange(300)).fall_significance > 20.0
    assert series(noise + 0.05 * np.arange(300)).fall_significance < -20.0


def test_noise_over_level():
    assert series(10.0 + RNG.standard_normal(3000)).noise == pytest.approx(0.1, rel=0.15)


# -- growth -----------------------------------------------------------------------------------------------------------


def test_equal_terms_grow_as_the_step_count():
    assert series(0.3 * (np.arange(500) + 1.0)).growth(0, 499) == pytest.approx(1.0)


def test_a_random_walk_grows_as_its_root():
    walk = np.cumsum(RNG.standard_normal((2000, 400)), axis=0)
    norm = np.sqrt((walk**2).sum(1))
    assert series(norm).growth(10, 1999) == pytest.approx(0.5, abs=0.05)


def test_growth_of_a_constant_and_outside_of_the_range():
    assert series(np.full(100, 3.0)).growth(0, 99) == pytest.approx(0.0)
    assert np.isnan(series(np.arange(100.0)).growth(200, 300))
    assert np.isnan(series(-np.ones(100)).growth(0, 99))
    bent = np.where(np.arange(200) < 100, np.arange(200) + 1.0, 100.0)
    assert series(bent).growth(0, 99) == pytest.approx(1.0)
    assert series(bent).growth(100, 199) == pytest.approx(0.0)


def test_oscillation_is_in_steps():
    step = np.arange(0, 4000, 10)
    period, share = series(2.0 + np.sin(2.0 * np.pi * step / 150.0), step).oscillation
    assert period == pytest.approx(150.0, rel=0.06)
    assert share > 0.8


def test_a_signed_loss_has_no_rebound():
    value = np.concatenate([np.linspace(1.0, -10.0, 300), np.linspace(-10.0, 1.0, 300)])
    assert series(value).rebound is None


# -- the run ----------------------------------------------------------------------------------------------------------


def test_needs():
    m = Measurements(run_of(OptimizerSpec("adam", lr=1e-3, beta2=0.99), loss=[1.0, 2.0], grad_norm=[np.nan, np.nan]))
    assert m.has("loss")
    assert m.has("optimizer")
    assert m.has("optimizer.beta2")
    assert not m.has("optimizer.eps")
    assert not m.has("grad_norm")
    assert not m.has("weight_norm")
    bare = Measurements(run_of(loss=[1.0]))
    assert not bare.has("optimizer")
    assert not bare.has("optimizer.lr")
    with pytest.raises(LookupError):
        _ = bare.optimizer
    with pytest.raises(KeyError):
        _ = bare.grad_norm


def test_settings_and_their_origin():
    spec = OptimizerSpec("adam", lr=1e-3, eps=1e-8, origin={"lr": "config.yaml:3"})
    run = run_of(spec, loss=[1.0], precision="16-mixed")
    m = Measurements(run)
    assert m.setting("precision") == "16-mixed"
    assert m.setting("optimizer.eps") == 1e-8
    assert m.setting("batch_size") is None
    assert m.origin("optimizer.lr") == "config.yaml:3"
    assert m.origin("precision") == "example"
    assert m.origin("batch_size") == ""
    assert isinstance(run.settings["precision"], Setting)


def test_the_learning_rate_that_is_logged_comes_first():
    spec = OptimizerSpec("adam", lr=1e-3)
    logged = Measurements(run_of(spec, every=10, loss=[1.0] * 4, learning_rate=[0.0, 0.2, 0.4, 0.2]))
    assert logged.peak_lr == 0.4
    np.testing.assert_allclose(logged.lr_at(np.array([0, 5, 20, 99])), [0.0, 0.1, 0.4, 0.2])
    set_only = Measurements(run_of(spec, loss=[1.0]))
    assert set_only.peak_lr == 1e-3
    np.testing.assert_allclose(set_only.lr_at(np.array([0, 5])), 1e-3)
    unknown = Measurements(run_of(loss=[1.0]))
    assert unknown.peak_lr is None
    np.testing.assert_allclose(unknown.lr_at(np.array([0, 5])), 1.0)


def test_gradient_that_follows_the_loss():
    fall = np.exp(-np.arange(200) / 30.0)
    assert Measurements(run_of(loss=fall, grad_norm=np.sqrt(fall))).grad_follows_loss == pytest.approx(1.0)
    assert Measurements(run_of(loss=fall, grad_norm=np.arange(200) + 1.0)).grad_follows_loss < -0.8
    assert np.isnan(Measurements(run_of(loss=fall[:3], grad_norm=fall[:3])).grad_follows_loss)


def test_the_second_moment_is_free_of_the_parameter_count():
    norm = np.exp(-np.arange(3000) / 200.0)
    run = run_of(OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999), loss=norm, grad_norm=norm)
    unknown, known = Measurements(run), Measurements(run, 100)
    assert unknown.second_moment.root_mean_square is None
    np.testing.assert_allclose(known.second_moment.root_mean_square**2 * 100.0, known.second_moment.total)
    # under gradients near zero v falls by beta2 a step, but for the bias correction
    fall = known.second_moment.collapse(2000, 2900)
    corrected = (1.0 - 0.999**2901) / (1.0 - 0.999**2001)
    assert fall == pytest.approx((corrected / 0.999**900) ** 0.5, rel=1e-3)
    assert (known.second_moment.ratio[2000:] < 1e-6).all()
    margin = known.second_moment.margin(2000, np.full(3000, 1e-3))
    assert margin[2000] == pytest.approx(38.0)
    assert margin[2900] == pytest.approx(38.0 * fall)
    halved = known.second_moment.margin(2000, np.where(np.arange(3000) > 2000, 5e-4, 1e-3))
    assert halved[2900] == pytest.approx(19.0 * fall)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [(["loss"], False), (["train/d_loss"], True), (["loss/critic"], True), (["loss_D", "loss_G"], True), (["value_loss"], True)],
)
def test_games_are_told_by_their_tags(tags, expected):
    value = np.ones(3)
    made = tuple(Series("", tag, np.arange(3), value, value, "") for tag in tags)
    assert Measurements(Run("r", "r", "", made, {})).is_adversarial == expected
