from dataclasses import replace

import numpy as np
import pytest

from traindoctor.model import Setting
from traindoctor.rule import run_of
from traindoctor.signals.measurements import Measurements
from traindoctor.signals.periodicity import (
    detrended,
    epoch_lengths,
    fold,
    isolated_spikes,
    phase_peak,
    spread_chance,
    strongest_lag,
)

DRAW = np.random.default_rng(3)
N, LENGTH = 800, 40
STEP = np.arange(N)
LEVEL = 0.3 + 2.0 * np.exp(-STEP / 200.0)
NOISE = 1.0 + 0.05 * DRAW.standard_normal(N)
SORTED = LEVEL * NOISE * (1.0 + 0.5 * np.exp(-(STEP % LENGTH % 8) / 3.0))


class TestEpochLengths:
    @pytest.mark.parametrize("every", [1, 5, 7, 12])
    def test_whole_epochs_give_the_exact_length_whatever_the_interval(self, every):
        step = np.arange(0, 4000, every)
        (told, *_) = epoch_lengths(run_of(every=every, loss=2.0 + 0.0 * step, epoch=step // LENGTH))
        assert told == (LENGTH, "epoch")

    def test_fractions_of_an_epoch_with_few_decimals(self):
        (told, *_) = epoch_lengths(run_of(loss=LEVEL, epoch=np.round(STEP / LENGTH, 4)))
        assert told == (LENGTH, "epoch")

    def test_number_of_epochs_that_was_set(self):
        settings = {"epochs": Setting(20, "config.yaml:3")}
        (told, *_) = epoch_lengths(replace(run_of(every=5, loss=LEVEL[::5]), settings=settings))
        assert told == (LENGTH, "settings")

    def test_interval_of_validation(self):
        run = run_of(loss=LEVEL)
        held = run_of(every=LENGTH, val_loss=LEVEL[::LENGTH])
        both = replace(run, primary={**run.primary, **held.primary})
        assert (LENGTH, "validation") in epoch_lengths(both)

    def test_looked_for_in_the_loss(self):
        swing = LEVEL * NOISE * (1.0 + 0.4 * (STEP % LENGTH < 15))
        assert epoch_lengths(run_of(loss=swing)) == ((LENGTH, "found"),)

    def test_nothing_tells(self):
        assert epoch_lengths(run_of(loss=LEVEL * NOISE)) == ()
        assert epoch_lengths(run_of(loss=[1.0])) == ()


class TestFold:
    def test_what_comes_again_is_explained_by_the_phase(self):
        made = fold(STEP, SORTED, LENGTH)
        assert made.share > 0.7
        assert made.beside < 0.3 * made.share
        assert made.n_epochs == 20

    def test_noise_is_not(self):
        assert fold(STEP, LEVEL * NOISE, LENGTH).share < 0.1

    def test_another_length_explains_little(self):
        assert fold(STEP, SORTED, 37).share < 0.2

    @pytest.mark.parametrize("every", [3, 7])
    def test_points_far_apart_fold_as_well(self, every):
        step = np.arange(0, 8 * N, every)
        value = 1.0 + 0.3 * np.sin(2.0 * np.pi * step / LENGTH) + 0.05 * np.random.default_rng(0).standard_normal(step.size)
        made = fold(step, value, LENGTH)
        assert made.share > 0.8
        assert made.smoothness > 0.8

    def test_scale_and_shift_do_not_matter(self):
        assert fold(STEP, 1e6 * SORTED - 3.0, LENGTH).share == pytest.approx(fold(STEP, SORTED, LENGTH).share)

    @pytest.mark.parametrize("value", [np.zeros(N), np.full(N, 1e300), np.where(STEP == 5, 1e300, 1.0)])
    def test_hostile_values_are_no_period(self, value):
        assert not fold(STEP, value, LENGTH).share > 0.2

    def test_too_short(self):
        assert fold(STEP[:100], SORTED[:100], LENGTH) is None
        assert fold(STEP[:1], SORTED[:1], LENGTH) is None
        assert fold(STEP[::20], SORTED[::20], LENGTH) is None


class TestPhasePeak:
    def test_one_bad_batch_stands_out_alone(self):
        value = np.where(STEP % LENGTH == 7, 4.0, 1.0) * LEVEL * NOISE
        made = phase_peak(STEP, value, LENGTH)
        assert made.distance > 20.0
        assert made.distance > 4.0 * made.second
        assert made.step == 7
        assert made.height == pytest.approx(4.0, rel=0.1)

    def test_a_spike_in_one_epoch_does_not(self):
        assert phase_peak(STEP, np.where(STEP == 407, 50.0, 1.0) * LEVEL * NOISE, LENGTH).height < 1.2

    def test_needs_positive_values(self):
        assert phase_peak(STEP, LEVEL - 1.0, LENGTH) is None


class TestIsolatedSpikes:
    def test_at_one_phase(self):
        value = np.where((STEP % LENGTH == 7) & (STEP > 50), 5.0, 1.0) * LEVEL * NOISE
        made = isolated_spikes(STEP, value, LENGTH)
        assert made.step.size == 18
        assert made.same_phase == 1.0
        assert made.chance < 1e-6
        assert made.width <= 2.0

    def test_phases_close_to_the_end_of_the_epoch_are_near_its_begin(self):
        at = np.array([4 * LENGTH - 1, 6 * LENGTH, 9 * LENGTH, 12 * LENGTH - 1])
        made = isolated_spikes(STEP, np.where(np.isin(STEP, at), 5.0, 1.0) * LEVEL * NOISE, LENGTH)
        assert made.same_phase == 1.0

    def test_two_in_one_epoch_are_chance(self):
        at = np.array([60, 75, 200, 330, 500, 610])
        assert isolated_spikes(STEP, np.where(np.isin(STEP, at), 5.0, 1.0) * LEVEL * NOISE, LENGTH).chance > 0.5

    def test_a_sound_run_has_none(self):
        assert isolated_spikes(STEP, LEVEL * NOISE, LENGTH).step.size == 0

    def test_without_an_epoch_they_have_no_phase(self):
        made = isolated_spikes(STEP, np.where(STEP % 100 == 50, 5.0, 1.0) * LEVEL * NOISE, None)
        assert made.step.size == 8
        assert np.isnan(made.same_phase)

    def test_few_points(self):
        assert isolated_spikes(STEP[:5], LEVEL[:5], 2.0).step.size == 0


def test_detrending_over_one_epoch_leaves_what_comes_again():
    wave = np.sin(2.0 * np.pi * STEP / LENGTH)
    rest = detrended(wave + 0.01 * STEP, LENGTH)
    assert np.allclose(rest[LENGTH:-LENGTH], wave[LENGTH:-LENGTH], atol=0.02)


def test_the_period_and_not_a_multiple_of_it():
    assert strongest_lag(np.sin(2.0 * np.pi * STEP / LENGTH)) == LENGTH
    assert strongest_lag(DRAW.standard_normal(N)) is None
    assert strongest_lag(np.ones(N)) is None
    assert strongest_lag(np.ones(3)) is None


class TestEpochs:
    def test_of_a_run(self):
        m = Measurements(run_of(loss=SORTED, epoch=STEP // LENGTH, learning_rate=np.full(N, 1e-3)))
        assert m.epochs.length.steps == LENGTH
        assert m.epochs.fold.share > 0.7
        assert 0.02 < m.epochs.swing < 0.2
        assert not m.epochs.restarts_the_rate
        assert np.isnan(m.epochs.clip_bound)
        assert np.isnan(m.epochs.gradient_at(np.array([3])))

    def test_gradient_and_rate_at_given_steps(self):
        at = np.array([200, 400, 600])
        rate = 0.5 * (1.0 + np.cos(np.pi * (STEP % 200) / 200.0))
        m = Measurements(run_of(loss=LEVEL, grad_norm=np.where(np.isin(STEP, at), 9.0, 1.0), learning_rate=rate))
        assert m.epochs.gradient_at(at) == 9.0
        assert m.epochs.gradient_at(at + 50) == 1.0
        assert m.epochs.rate_rises_at(at)
        assert not m.epochs.rate_rises_at(at + 50)

    def test_a_rate_that_restarts_with_the_epoch(self):
        rate = 0.5 * (1.0 + np.cos(np.pi * (STEP % LENGTH) / LENGTH))
        assert Measurements(run_of(loss=LEVEL, learning_rate=rate, epoch=STEP // LENGTH)).epochs.restarts_the_rate

    def test_nothing_known(self):
        m = Measurements(run_of(loss=LEVEL * NOISE))
        assert (m.epochs.length, m.epochs.fold, m.epochs.peak) == (None, None, None)
        assert np.isnan(m.epochs.swing)

    def test_a_gradient_that_is_summed_over_the_epoch(self):
        summed = (1.0 + STEP % LENGTH) * NOISE
        assert Measurements(run_of(loss=LEVEL, grad_norm=summed, epoch=STEP // LENGTH)).epochs.gradient_growth > 0.9
        assert np.isnan(Measurements(run_of(loss=LEVEL, grad_norm=NOISE, epoch=STEP // LENGTH)).epochs.gradient_growth)


def test_balls_in_boxes():
    thrown = np.random.default_rng(0).integers(20, size=(4000, 12))
    reached = np.array([np.unique(row).size for row in thrown])
    for least in (8, 10, 12):
        assert spread_chance(12, 20, least) == pytest.approx(np.mean(reached >= least - 0.5), abs=0.2)
    assert spread_chance(12, 20, 12) < 0.05
    assert spread_chance(30, 30, 30) < 1e-6
    assert spread_chance(5, 1, 1) == 1.0
