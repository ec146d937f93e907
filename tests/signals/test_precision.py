from dataclasses import replace

import numpy as np
import pytest

from traindoctor.model import Damage, OptimizerSpec
from traindoctor.rule import run_of
from traindoctor.signals.measurements import Measurements
from traindoctor.signals.precision import (
    format_of,
    frozen_shrink,
    growth_before,
    jumps_with,
    kept_in,
    overflow,
    scale_path,
    share_that_arrives,
    slingshots,
    stillness,
)

VALUES = 2.3 * np.exp(-0.01 * np.arange(100)) + 0.1


def brain(value):
    bits = np.asarray(value, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).view(np.float32).astype(np.float64)


def measured(**quantities):
    return Measurements(run_of(OptimizerSpec("sgd", lr=0.1), **quantities))


class TestFormat:
    def test_tells_half_precision_formats(self):
        assert format_of(VALUES.astype(np.float16).astype(np.float64)) == "float16"
        assert format_of(brain(VALUES)) == "bfloat16"

    @pytest.mark.parametrize(
        "value",
        [
            VALUES,
            VALUES.astype(np.float32),
            np.round(VALUES, 3),
            np.round(VALUES, 2),
            np.arange(100.0),
            np.zeros(50),
            [1.5, np.nan],
        ],
    )
    def test_other_numbers_fit_none(self, value):
        assert format_of(np.asarray(value, dtype=np.float64)) == ""

    def test_one_value_that_does_not_fit_decides(self):
        value = VALUES.astype(np.float16).astype(np.float64)
        assert format_of(np.append(value, 0.1)) == ""
        assert format_of(np.append(value, 1e6)) == ""


class TestOverflow:
    def test_finite_is_none(self):
        assert overflow(measured(loss=[1.0, 2.0])) is None
        assert overflow(measured(grad_norm=[np.inf])) is None

    def test_says_what_was_beside_it(self):
        lost = overflow(measured(loss=[3.0, 2.0, 2.0, 2.0, np.inf, np.inf], grad_norm=[1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6]))
        assert (lost.step, lost.infinite, lost.share, lost.largest) == (4, True, 1.0, 3.0)
        assert lost.growth == pytest.approx(1.0)
        assert lost.sound_after == 1.0
        assert lost.still_moves

    def test_norms_that_are_lost_too(self):
        lost = overflow(measured(loss=[1.0, np.nan], grad_norm=[1.0, np.nan]))
        assert (lost.infinite, lost.sound_after, lost.still_moves) == (False, 0.0, False)
        assert np.isnan(lost.growth)


class TestScale:
    def path(self, value):
        return scale_path(measured(loss_scale=value).series("loss_scale"))

    def test_counts_halvings_and_doublings(self):
        path = self.path([1024.0, 512.0, 1024.0, 256.0, 0.5])
        assert (path.halvings, path.doublings, path.peak, path.peak_step) == (12.0, 1.0, 1024.0, 2)
        assert (path.fall, path.low_step, path.span, path.is_static) == (11.0, 4, 0.5, False)

    def test_static_and_short(self):
        assert self.path([128.0] * 3).is_static
        assert self.path([128.0]) is None
        assert self.path([0.0, -1.0, np.nan]) is None


def test_settings_name_the_format():
    def kept(word):
        return kept_in(run_of(OptimizerSpec("sgd", lr=0.1), precision=word, loss=[1.0]))

    words = ("16-true", "16-mixed", "torch.bfloat16", "bf16", "fp32", "8bit", None)
    assert [kept(word) for word in words] == ["half", "mixed-half", "brain", "mixed-brain", "single", "", ""]


def test_stillness_of_a_weight_norm():
    still = stillness(measured(weight_norm=[10.0, *[10.001] * 20]).weight_norm)
    assert still.moved == pytest.approx(1e-4)
    assert still.still == pytest.approx(19 / 20)
    assert still.late == 0.0
    assert stillness(measured(weight_norm=[1.0] * 4).weight_norm) is None
    assert stillness(measured(weight_norm=[0.0] * 40).weight_norm) is None


class TestFrozenMoment:
    def test_a_moment_that_may_fall_is_left_alone(self):
        assert np.all(frozen_shrink(VALUES, np.arange(100), 0.99) == 1.0)

    def test_follows_torch_in_bfloat16(self):
        """The recurrence in numbers rounded to 8 bits: a loud start, then gradients a hundred times smaller."""
        beta2, n = 0.999, 3000
        norm = np.where(np.arange(n) < 300, 10.0, 0.1)
        v = exact = 0.0
        for g in norm:
            v = float(brain([float(brain([beta2 * v])[0]) + (1.0 - beta2) * g * g])[0])
            exact = beta2 * exact + (1.0 - beta2) * g * g
        assert frozen_shrink(norm, np.arange(n), beta2)[-1] == pytest.approx((v / exact) ** 0.5, rel=0.2)

    def test_empty_and_zero_gradients(self):
        assert frozen_shrink(np.zeros(0), np.zeros(0, dtype=np.int64), 0.999).size == 0
        assert np.all(frozen_shrink(np.zeros(9), np.arange(9), 0.999) == 1.0)


class TestSlingshots:
    def flights(self, loss):
        return slingshots(measured(loss=loss).loss).tolist()

    def test_finds_each_flight(self):
        fall = [2.3 * 10.0 ** (-k / 5.0) for k in range(60)]
        assert self.flights([*fall, *fall, *fall]) == [60, 120]

    def test_one_sparse_look_at_a_flight_is_enough(self):
        assert self.flights([2.3, 1e-3, *[1e-8] * 10, 0.05, 1e-5, *[0.0] * 10]) == [12]

    @pytest.mark.parametrize("loss", [[1.0], [0.0] * 50, [-1.0] * 50, [1.0] * 50, [2.3, *[1e-8, 1e-2] * 30], [np.nan] * 9])
    def test_other_losses_have_none(self, loss):
        assert self.flights(loss) == []

    def test_weights_that_move_with_the_flights(self):
        weight = np.cumsum([5.0 if k in (40, 80) else 0.01 for k in range(120)])
        m = measured(weight_norm=weight)
        assert jumps_with(m.weight_norm, np.array([40, 80]), 4.0) == 1.0
        assert jumps_with(m.weight_norm, np.array([20, 60]), 4.0) == 0.0
        assert np.isnan(jumps_with(m.weight_norm, np.zeros(0, dtype=np.int64), 4.0))


def test_growth_is_told_from_a_level():
    noisy = np.where(np.arange(100) % 9 == 0, 0.1, 1.0)
    assert growth_before(noisy) == pytest.approx(1.0)
    assert growth_before(np.exp(0.1 * np.arange(100))) > 1000.0
    assert np.isnan(growth_before(np.ones(3)))
    assert np.isnan(growth_before(np.zeros(30)))


def test_share_of_an_update_that_arrives():
    run = run_of(OptimizerSpec("sgd", lr=0.1), grad_norm=[2.0] * 9, weight_norm=[10.0] * 9, update_ratio=[0.01] * 9)
    layers = [replace(s, tag=f"{s.tag}/fc{k}.weight", quantity=f"{s.tag}_layer") for s in run.series for k in (1, 2)]
    assert np.isnan(share_that_arrives(measured(loss=[1.0])))
    assert share_that_arrives(Measurements(replace(run, series=tuple(layers), primary={}))) == pytest.approx(
        0.01 * 10.0 / (0.1 * 2.0)
    )


def test_zeros_of_a_filter_stand_for_nan():
    run = run_of(OptimizerSpec("sgd", lr=0.1), loss=[*[2.0] * 20, *[0.0] * 30])
    assert overflow(Measurements(run)) is None
    lost = overflow(Measurements(replace(run, damages=(Damage("zero-for-nan", "state.json", "zeros"),))))
    assert (lost.step, lost.infinite, lost.share, lost.growth) == (20, False, 1.0, 1.0)
