from dataclasses import replace

import numpy as np
import pytest

from traindoctor.model import OptimizerSpec, Setting
from traindoctor.rule import run_of
from traindoctor.signals.measurements import Measurements
from traindoctor.signals.stillness import brake, is_regression, stillness

NOISE = np.random.default_rng(5).standard_normal(400)


def of(**quantities):
    return stillness(Measurements(run_of(**quantities)))


def tagged(run, tag):
    return replace(run, series=(replace(run.series[0], tag=tag), *run.series[1:]))


def test_a_loss_that_never_leaves_ln_10():
    found = of(loss=2.3026 * (1.0 + 0.002 * NOISE), weight_norm=9.0 + 0.01 * np.arange(400), grad_norm=0.5 + 0.01 * NOISE)
    assert found is not None
    assert found.from_start
    assert found.classes == 10
    assert (found.gradient, found.weights) == ("steady", "growing")
    assert found.weights_moved == pytest.approx(3.99 / 9.0)


def test_a_loss_that_falls_does_not_stand():
    assert of(loss=2.3 * 0.99 ** np.arange(200)) is None


def test_a_converged_loss_stands_far_from_its_start():
    found = of(loss=np.concatenate([2.3 * 0.9 ** np.arange(30), np.full(170, 0.1)]))
    assert found is not None
    assert not found.from_start
    assert found.left == pytest.approx(0.1 / 2.3, rel=0.2)
    assert 20 <= found.index <= 35


def test_the_variance_of_standardised_targets():
    found = of(loss=1.0 + 0.2 * NOISE)
    assert found is not None
    assert found.at_variance
    assert found.from_start


@pytest.mark.parametrize(
    ("weights", "state"),
    [
        (np.full(100, 9.0), "constant"),
        (9.0 + 1e-6 * np.arange(100), "still"),
        (9.0 + 0.01 * np.arange(100), "moving"),
        (9.0 * 0.98 ** np.arange(100), "shrinking"),
        (9.0 * 1.02 ** np.arange(100), "growing"),
    ],
)
def test_what_the_weights_do(weights, state):
    found = of(loss=2.3026 + 0.01 * NOISE[:100], weight_norm=weights)
    assert found is not None
    assert found.weights == state


@pytest.mark.parametrize(
    ("norm", "state"),
    [
        (np.zeros(100), "zero"),
        (np.full(100, 0.5), "steady"),
        (0.5 * 0.97 ** np.arange(100), "falling"),
        (1.03 ** np.arange(100), "growing"),
    ],
)
def test_what_the_gradient_does(norm, state):
    found = of(loss=2.3026 + 0.01 * NOISE[:100], grad_norm=norm)
    assert found is not None
    assert found.gradient == state


def test_ln_c_of_many_classes_is_near_any_level():
    found = of(loss=np.concatenate([[4.6], np.full(99, 4.1)]))
    assert found is None or found.classes is None


@pytest.mark.parametrize(
    ("level", "noise", "classes"),
    [
        (2.3026, 0.002, 10),
        (2.3026, 0.05, None),  # equal outputs cost ln C in every batch
        (4.6052, 0.002, 100),
        (4.6102, 0.002, None),  # halfway from ln 100 to ln 101
        (4.6052, 0.015, None),  # not known well enough to tell C from C + 1
        (7.6127, 0.007, None),  # ln 2024 by chance
    ],
)
def test_ln_c_by_level_and_noise(level, noise, classes):
    found = of(loss=level * (1.0 + noise * NOISE))
    assert found is not None
    assert found.classes == classes
    assert found.at_chance == (classes is not None)


def test_a_log_that_begins_in_the_middle_is_not_at_chance():
    run = run_of(loss=2.3026 * (1.0 + 0.002 * NOISE))
    late = replace(run.primary["loss"], step=run.primary["loss"].step + 140_749)
    found = stillness(Measurements(replace(run, series=(late,), primary={"loss": late})))
    assert found is not None
    assert found.classes is None


def test_an_accuracy_above_guessing_is_not_chance():
    guesses = of(loss=2.3026 + 0.002 * NOISE, val_accuracy=[0.1, 0.11, 0.09])
    knows = of(loss=2.3026 + 0.002 * NOISE, val_accuracy=[0.1, 0.4, 0.6])
    assert guesses is not None
    assert knows is not None
    assert (guesses.classes, knows.classes) == (10, None)


@pytest.mark.parametrize(
    ("start", "level", "chance"),
    [
        (np.linspace(2.564, 2.3026, 20), 2.3026, True),  # fell to chance
        (np.array([2.30, 1.9, 1.4, 1.2, 1.5, 2.2]), 2.3026, True),  # left it and came back
        (np.linspace(2.1, 2.3, 9), 2.3026, True),  # rose to it
        (np.linspace(2.3, 1.94, 20), 1.9459, False),  # ln 7, but it began at ln 10: something was learnt
        (np.linspace(2.0, 1.771, 20), 1.7705, False),  # near ln 6, not at it
        (np.linspace(4.0, 2.3026, 20), 2.3026, False),  # came from afar
    ],
    ids=["fell", "came-back", "rose", "learnt", "near", "from-afar"],
)
def test_a_loss_that_came_to_chance(start, level, chance):
    found = of(loss=np.concatenate([start, level * (1.0 + 0.001 * NOISE[:100])]))
    assert found is not None
    assert found.at_chance == chance


def test_a_level_of_one_on_its_way_is_no_variance():
    still = of(loss=1.0 + 0.2 * NOISE, val_loss=[1.02, 1.01, 1.0, 1.0])
    lower = of(loss=1.0 + 0.2 * NOISE, val_loss=[1.17, 1.08, 1.03, 1.0])
    falls = of(loss=1.15 - 0.0005 * np.arange(400) + 0.02 * NOISE)
    assert still is not None
    assert lower is not None
    assert (still.at_variance, lower.at_variance) == (True, False)
    assert falls is None or not falls.at_variance


@pytest.mark.parametrize(
    ("tag", "kind"),
    [
        ("train/loss", None), ("train_mean_nll", False), ("train/box_loss", False), ("num_tokens", False),
        ("metrics/mAP50(B)", False), ("train_mse", True), ("val/rmse", True),
    ],
)  # fmt: skip
def test_the_words_of_tags_tell_a_regression(tag, kind):
    run = run_of(loss=1.0 + 0.2 * NOISE, val_loss=[1.0, 1.0])
    assert is_regression(Measurements(tagged(run, tag))) is kind


def test_batch_noise_and_level_tell_a_regression():
    run = run_of(loss=1.0 + 0.25 * NOISE)
    assert is_regression(Measurements(replace(run, settings={"batch_size": Setting(32, "")}))) is True
    assert is_regression(Measurements(replace(run, settings={"batch_size": Setting(4096, "")}))) is None
    assert is_regression(Measurements(run_of(loss=15.0 * (1.0 + 0.25 * NOISE)))) is True
    assert is_regression(Measurements(run_of(loss=1.0 + 0.25 * NOISE, val_accuracy=[0.1]))) is False


def test_gradient_of_a_bias_alone_needs_the_batch_size():
    run = run_of(loss=2.3026 + 0.005 * NOISE, grad_norm=np.full(400, 0.1186))
    without, known = stillness(Measurements(run)), stillness(Measurements(replace(run, settings={"batch_size": Setting(64, "")})))
    assert without is not None
    assert known is not None
    assert np.isnan(without.gradient_over_bias)
    assert known.gradient_over_bias == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize(
    "loss", [[], [2.3], [0.0] * 50, [-1.0] * 50, [np.nan] * 50, [2.3] * 20 + [np.inf] * 20, [1e300] * 50, [2.3] * 5], ids=str
)
def test_hostile_logs(loss):
    assert of(loss=loss) is None or np.isfinite(of(loss=loss).level)


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (OptimizerSpec("adam", lr=1e-3, eps=1e-8), None),
        (OptimizerSpec("adam", lr=1e-6, eps=1e-8), "optimizer.lr"),
        (OptimizerSpec("adam", lr=1e-3, eps=1.0), "optimizer.eps"),
        (OptimizerSpec("adamw", lr=1e-3, eps=1e-8, weight_decay=1.0), "optimizer.weight_decay"),
        (OptimizerSpec("sgd", lr=0.1), None),
    ],
)
def test_settings_that_hold_a_run_back(spec, name):
    found = brake(Measurements(run_of(spec, loss=[2.3] * 20)))
    assert (found.name if found else None) == name


def test_a_rate_that_has_decayed_for_most_of_the_run():
    rate = [0.1] * 10 + [1e-5] * 90
    found = brake(Measurements(run_of(OptimizerSpec("sgd", lr=0.1), loss=[2.3] * 100, learning_rate=rate)))
    assert found is not None
    assert found.value == 1e-5
