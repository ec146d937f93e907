"""Formats that NumPy lacks, shapes that do not fit, and figures against NumPy on the whole tensor."""

import numpy as np
import pytest

from traindoctor.checkpoints import tensors
from traindoctor.checkpoints.state import QUANTILES
from traindoctor.checkpoints.tensors import Tensor, change_of, decoded, figures, moments_of, number, tensor_of


def of(values, dtype="float32"):
    array = np.asarray(values, dtype=dtype)
    return Tensor(dtype, array)


def brain(values):
    """Return a tensor in bfloat16, rounded to nearest even."""
    bits = np.asarray(values, dtype=np.float32).view(np.uint32).astype(np.uint64)
    return Tensor("bfloat16", ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16))


class TestFormats:
    def test_bfloat16(self):
        assert decoded(brain([1.0, -2.5, 0.0, 3.140625]).raw, "bfloat16").tolist() == [1.0, -2.5, 0.0, 3.140625]
        assert np.isnan(decoded(np.array([0x7FC0], np.uint16), "bfloat16"))[0]

    @pytest.mark.parametrize("dtype", ["float8_e4m3fn", "float8_e5m2"])
    def test_eight_bits_agree_with_torch(self, dtype):
        torch = pytest.importorskip("torch")
        codes = np.arange(256, dtype=np.uint8)
        theirs = torch.from_numpy(codes.copy()).view(getattr(torch, dtype)).float().numpy()
        assert np.array_equal(decoded(codes, dtype), theirs, equal_nan=True)

    def test_number_of_one_element(self):
        assert number(of([[2.5]])) == 2.5
        assert number(of(7, "int64")) == 7.0
        assert number(of([1.0, 2.0])) is None


class TestShapes:
    BUFFER = np.arange(24, dtype=np.float32).view(np.uint8)

    def test_usual_and_other_order(self):
        assert tensor_of(self.BUFFER, "float32", (2, 12)).raw[1, 0] == 12.0
        assert tensor_of(self.BUFFER, "float32", (12, 2), (1, 12)).raw[0].tolist() == [0.0, 12.0]

    @pytest.mark.parametrize(
        ("shape", "stride"),
        [
            ((25,), None),
            ((10**9, 10**9), None),
            ((1000,), (0,)),
            ((4, 4), (1, 1)),
            ((2, 2), (100, 1)),
            ((1,) * 70, None),
        ],
    )
    def test_what_does_not_fit_is_refused(self, shape, stride):
        with pytest.raises(ValueError, match="shape"):
            tensor_of(self.BUFFER, "float32", shape, stride)


class TestFigures:
    def test_counts(self):
        found = figures(of([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, -3.0, 4.0]))
        assert (found.nan, found.infinite, found.zeros, found.subnormal) == (1, 2, 2, 1)
        assert found.largest == 4.0
        assert found.norm == 5.0
        assert found.lost == 3

    def test_agree_with_numpy_over_many_blocks(self, monkeypatch):
        monkeypatch.setattr(tensors, "BLOCK", 100)
        values = np.random.default_rng(0).normal(size=(37, 29)).astype(np.float32)
        found = figures(of(values))
        assert found.norm == pytest.approx(np.linalg.norm(values.astype(np.float64)), rel=1e-9)
        assert found.quantiles == pytest.approx(np.quantile(np.abs(values), QUANTILES))

    def test_a_sample_stands_for_a_large_one(self, monkeypatch):
        monkeypatch.setattr(tensors, "SAMPLE", 500)
        monkeypatch.setattr(tensors, "BLOCK", 333)
        values = np.random.default_rng(0).normal(size=20_011).astype(np.float32)
        assert figures(of(values)).quantiles[3] == pytest.approx(np.median(np.abs(values)), rel=0.15)

    def test_nothing_and_numbers_that_are_not_real(self):
        assert figures(of(np.zeros((0, 4)))).size == 0
        assert figures(of([1, 2], "int64")).quantiles == ()
        assert figures(of([np.nan] * 3)).norm != figures(of([np.nan] * 3)).norm


class TestMoments:
    SETTINGS = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8}  # noqa: RUF012

    def test_shares_of_eps(self):
        v = [[1e-20, 1e-15, 1e-4, 0.0]]
        found = moments_of({"exp_avg": of(np.ones((1, 4))), "exp_avg_sq": of(v)}, None, self.SETTINGS, None)
        assert found.below_eps == pytest.approx(1 / 3)
        assert found.near_eps == pytest.approx(2 / 3)
        assert found.starved == 0.25

    def test_memory_is_corrected_for_the_first_steps(self):
        slots = {"exp_avg": of([0.1, 0.1]), "exp_avg_sq": of([0.001, 0.001])}  # one step of gradient 1
        assert moments_of(slots, None, self.SETTINGS, 1.0).memory == pytest.approx(1.0)

    def test_dead_rows(self):
        slots = {"exp_avg": of([[0.0, 0.0], [0.0, 1e-3]]), "exp_avg_sq": of(np.ones((2, 2)))}
        found = moments_of(slots, None, self.SETTINGS, 9.0)
        assert (found.dead_rows, found.rows) == (1, 2)

    def test_updates_that_round_away(self):
        slots = {"exp_avg": brain([1.0, 1.0, 1.0]), "exp_avg_sq": brain([1.0, 1.0, 1.0])}
        weight = brain([1.0, 0.1, 0.0])  # half a spacing: 2^-8, 2^-12, tiny; an update of 1e-3
        assert moments_of(slots, weight, self.SETTINGS, None).rounded_away == pytest.approx(1 / 3)
        assert moments_of(slots, of([1.0, 0.1, 0.0]), self.SETTINGS, None).rounded_away is None

    def test_none_without_a_second_moment(self):
        assert moments_of({"momentum_buffer": of([1.0])}, None, self.SETTINGS, None) is None

    def test_nothing_hostile_raises(self):
        odd = {"lr": float("nan"), "betas": ["a", None], "eps": -1.0}
        values = np.array([[np.nan, np.inf], [-1.0, 0.0]])
        with np.errstate(all="ignore"):
            assert moments_of({"exp_avg": of(values), "exp_avg_sq": of(values)}, of(values), odd, 0.0) is not None


def test_what_changed_between_two():
    found = change_of(
        "w", of([1.0, 2.0, 3.0, 4.0]), of([1.0, 2.0, 3.0, 5.0]), (of([1.0, 1.0, 1.0, 1.0]), of([0.5, 1.0, 1.0, 2.0]))
    )
    assert (found.same, found.second_fell, found.second_same) == (0.75, 0.25, 0.5)
    assert change_of("w", of([1.0]), of([1.0, 2.0]), None) is None
