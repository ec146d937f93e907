"""The terms that a loss is a sum of, where they were logged: how large each is, and how much of it is left."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.signals.measurements import Measurements

#: Words of terms that are small on purpose: they hold something back, and need not fall.
HOLDING = re.compile(
    r"reg|aux|penal|l1|l2|decay|balanc|kl|z_?loss|entropy|commit|smooth|sparsity|ortho|val|eval|valid|test|dev", re.IGNORECASE
)


class Term(NamedTuple):
    """One term of a loss.

    `first`: median of its first twentieth. `share`: of the sum of all terms, median over the first half. `left`: last over
    first level.
    """

    tag: str
    first: float
    share: float
    left: float
    source: str


class Dominance(NamedTuple):
    """The largest term, the others that should fall, and whether it grew large by its own scale (`first`)."""

    largest: Term
    others: tuple[Term, ...]


def dominance(m: Measurements) -> Dominance | None:
    """Return the term that makes up most of the loss; None for fewer than two terms that are above 0 and of eight points.

    Terms count as they were logged: with their weights or without. Those that hold something back (regularisers) count in the
    sum, but not among the others.
    """
    found = []
    for series in m.run.series:
        if series.quantity != "loss_term" or len(series) < 8:
            continue
        value = series.value
        if np.isfinite(value).all() and np.all(value >= 0.0) and np.any(value):
            found.append(series)
    n = min((len(series) for series in found), default=0)
    if len(found) < 2 or any(len(series) != n for series in found):
        return None
    value = np.stack([series.value for series in found])
    total = value.sum(axis=0)
    keep = (total > 0.0) & (np.arange(n) < (n + 1) // 2)  # what is learnt late is learnt beside what is left
    if not keep.any():
        return None
    share = np.median(value[:, keep] / total[keep], axis=1)
    k = max(1, n // 20)
    first, last = np.median(value[:, :k], axis=1), np.median(value[:, -max(3, n // 10) :], axis=1)
    terms = [
        Term(series.tag, float(f), float(s), float(e / f) if f > 0.0 else float("inf"), series.source)
        for series, f, s, e in zip(found, first, share, last, strict=True)
    ]
    largest = max(terms, key=lambda term: term.share)
    return Dominance(largest, tuple(t for t in terms if t is not largest and not HOLDING.search(t.tag)))
