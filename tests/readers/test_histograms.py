"""Norms by layer from logged distributions."""

from __future__ import annotations

import numpy as np
import pytest

from traindoctor.model import QUANTILES, Histogram
from traindoctor.readers.histograms import norms_of, quantity_of_histogram


def histogram(tag: str, layers: list[list[float]], steps: list[int] | None = None, *, squares: bool = True) -> Histogram:
    values = [np.array(v, dtype=np.float64) for v in layers]
    step = np.array(steps if steps is not None else range(len(values)), dtype=np.int64)
    return Histogram(
        tag, step, np.zeros(step.size), np.array([float(v.size) for v in values]), np.array([v.sum() for v in values]),
        np.array([float((v**2).sum()) if squares else np.nan for v in values]),
        np.array([np.quantile(v, QUANTILES) for v in values]), "events",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("tag", "quantity"),
    [
        ("gradients/fc1.weight", "grad_norm_layer"),
        ("fc1.weight.grad", "grad_norm_layer"),
        ("fc1.weight/grads", "grad_norm_layer"),
        ("fc1.weight", "weight_norm_layer"),
        ("parameters/conv.bias", "weight_norm_layer"),
        ("dense/kernel_0", "weight_norm_layer"),
        ("activations/fc1", ""),
        ("weight_updates/fc1", ""),
        ("predictions", ""),
    ],
)
def test_what_a_distribution_is_of(tag: str, quantity: str) -> None:
    assert quantity_of_histogram(tag) == quantity


def test_the_norm_of_each_layer_and_of_all() -> None:
    first, second = histogram("grads/a", [[3.0, 4.0], [0.0, 0.0]]), histogram("grads/b", [[12.0], [1.0]])
    a, b, total = norms_of([first, second])
    assert (a.quantity, b.quantity, total.quantity) == ("grad_norm_layer", "grad_norm_layer", "grad_norm")
    assert a.value.tolist() == [5.0, 0.0]
    assert total.value.tolist() == [13.0, 1.0]
    assert total.tag == "grad_norm (norm of 2 histograms)"


def test_no_norm_of_all_where_a_layer_is_missing_or_alone() -> None:
    alone = histogram("grads/a", [[3.0, 4.0]])
    other_steps = histogram("grads/b", [[1.0]], [7])
    without = histogram("grads/c", [[1.0]], squares=False)
    assert [s.quantity for s in norms_of([alone])] == ["grad_norm_layer"]
    assert [s.quantity for s in norms_of([alone, other_steps])] == ["grad_norm_layer"] * 2
    assert [s.quantity for s in norms_of([alone, without])] == ["grad_norm_layer"]
    assert norms_of([]) == []
