"""Histograms of gradients and weights -> norms by layer, as rules read them.

A histogram of TensorBoard holds the sum of the squares of all values, so that the L2 norm of what was logged is exact,
whatever its buckets are (tensorboard/compat/proto/summary.proto, HistogramProto.sum_squares).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import Series
from traindoctor.readers.tags import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.model import Histogram

GRADIENT = frozenset({"grad", "grads", "gradient", "gradients"})
WEIGHT = frozenset({"weight", "weights", "param", "params", "parameter", "parameters", "kernel", "bias"})
#: Words of what is neither gradient nor weight, though it may stand beside them in a tag.
OTHER = frozenset(
    {"activation", "activations", "act", "output", "outputs", "input", "inputs", "update", "updates", "ratio", "norm"}
)
#: What is put behind the tag of a histogram from which a norm was worked out.
NORM = " (norm of the histogram)"


def quantity_of_histogram(tag: str) -> str:
    """Return "grad_norm_layer" or "weight_norm_layer" for the distribution of a layer's gradient or weights, else ""."""
    parts = set(words(tag))
    if parts & OTHER:
        return ""
    if parts & GRADIENT:
        return "grad_norm_layer"
    return "weight_norm_layer" if parts & WEIGHT else ""


def norms_of(histograms: Sequence[Histogram]) -> list[Series]:
    """Return the L2 norm of each layer's gradient or weights over the steps, and of all of them together.

    The norm of all is worked out where two layers or more were logged at the same steps; layers that were not logged are
    missing from it. Histograms without the sum of squares give none.
    """
    made: list[Series] = []
    for quantity, whole in (("grad_norm_layer", "grad_norm"), ("weight_norm_layer", "weight_norm")):
        found = [h for h in histograms if len(h) and quantity_of_histogram(h.tag) == quantity]
        known = [h for h in found if np.isfinite(h.sum_squares).any()]
        made += [Series(quantity, h.tag + NORM, h.step, np.sqrt(h.sum_squares), h.wall_time, h.source) for h in known]
        if len(known) < 2 or len(known) < len(found) or not all(np.array_equal(h.step, known[0].step) for h in known):
            continue
        total = np.sqrt(np.sum([h.sum_squares for h in known], axis=0))
        tag = f"{whole} (norm of {len(known)} histograms)"
        made.append(Series(whole, tag, known[0].step, total, known[0].wall_time, known[0].source))
    return made
