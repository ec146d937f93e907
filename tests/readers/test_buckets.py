"""Buckets of a logged distribution -> its count, sums and quantiles."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest

from traindoctor.model import QUANTILES
from traindoctor.readers.buckets import histogram_of, of_proto, of_tensor
from traindoctor.readers.wire import WireError

from .wire import field


def proto(values: np.ndarray, edges: np.ndarray) -> bytes:
    count, _ = np.histogram(values, bins=np.concatenate([[-np.inf], edges]))
    single = [values.min(), values.max(), float(values.size), values.sum(), (values**2).sum()]
    packed = {6: edges.astype("<f8").tobytes(), 7: count.astype("<f8").tobytes()}
    return b"".join(field(k + 1, float(one)) for k, one in enumerate(single)) + b"".join(
        field(k, one) for k, one in packed.items()
    )


def test_quantiles_lie_within_a_bucket_of_the_true_ones_and_the_ends_are_exact() -> None:
    values = np.random.default_rng(0).standard_normal(5000)
    edges = np.concatenate([np.arange(-6.0, 6.0, 0.05), [1.8e308]])
    number, total, squares, *quantiles = of_proto(proto(values, edges))
    assert (number, total, squares) == (5000.0, values.sum(), (values**2).sum())
    np.testing.assert_allclose(quantiles, np.quantile(values, QUANTILES), atol=0.06)
    assert (quantiles[0], quantiles[-1]) == (values.min(), values.max())
    assert quantiles == sorted(quantiles)


def test_values_are_spread_evenly_within_a_bucket() -> None:
    data = b"".join(field(k + 1, one) for k, one in enumerate([0.0, 8.0, 8.0, 0.0, 0.0]))
    data += field(6, struct.pack("<2d", 4.0, 8.0)) + field(7, struct.pack("<2d", 2.0, 6.0))
    quantiles = dict(zip(QUANTILES, of_proto(data)[3:], strict=True))
    assert quantiles[0.25] == 4.0
    assert quantiles[0.5] == pytest.approx(4.0 + 4.0 * 2 / 6)
    assert quantiles[1.0] == 8.0


def test_empty_and_broken_histograms() -> None:
    assert all(math.isnan(q) for q in of_proto(b"")[3:])
    hostile = field(6, struct.pack("<2d", 1.0, math.nan)) + field(7, struct.pack("<2d", math.nan, -3.0))
    assert all(math.isnan(q) for q in of_proto(hostile)[3:])
    with pytest.raises(WireError, match="limits"):
        of_proto(field(6, struct.pack("<2d", 1.0, 2.0)) + field(7, struct.pack("<d", 1.0)))
    with pytest.raises(WireError, match="odd"):
        of_proto(field(6, b"abc"))


def test_tensors_of_another_shape_are_none() -> None:
    def of_shape(*sizes: int) -> bytes:
        return (
            field(1, 2) + field(2, b"".join(field(2, field(1, size)) for size in sizes)) + field(4, bytes(8 * math.prod(sizes)))
        )

    assert of_tensor(of_shape(3)) is None
    assert of_tensor(of_shape(2, 4)) is None
    empty = of_tensor(of_shape(0, 3))
    assert empty is not None
    assert empty[0] == 0.0
    assert math.isnan(empty[3])


def test_a_row_for_each_step() -> None:
    rows = [(step, 1.5, 2.0, 3.0, 4.0, *range(len(QUANTILES))) for step in (2**60 + 1, 5)]
    found = histogram_of("w", rows, "f")
    assert found.step.tolist() == [2**60 + 1, 5]
    assert found.quantile.shape == (2, len(QUANTILES))
    assert (found.count.tolist(), found.total.tolist(), found.sum_squares.tolist()) == ([2.0] * 2, [3.0] * 2, [4.0] * 2)
