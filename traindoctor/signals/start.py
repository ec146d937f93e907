"""The first point of a log, at which nothing was learned yet, against what comes soon after."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.signals.levels import MANY, classes_at

if TYPE_CHECKING:
    from traindoctor.signals.measurements import Measurements

#: Point-to-point noise over the level below which a loss stands still: equal scores cost ln C on every batch.
STILL = 0.02
#: Last step that still counts as the first: logs number from 0 or from 1.
FIRST = 1
#: Words of tags that say that a loss is a cross-entropy.
_CLASSIFIES = frozenset({"ce", "xent", "crossentropy", "nll", "cls"})


class Start(NamedTuple):
    """The first loss and gradient norm.

    `loss`: of the first step. `over_later`: that over the median loss at a tenth of the run. `gradient`: the first gradient
    norm over its median between a twentieth and a third of the run; NaN where none was logged. `is_classifier`: whether an
    accuracy is logged, or the tag names a cross-entropy, so that a guess costs ln C. `classes`: C where the loss stands still at
    ln C at the end, None elsewhere.
    """

    loss: float
    over_later: float
    gradient: float
    is_classifier: bool
    classes: int | None

    def classes_over(self, parts: object) -> int | None:
        """Return C, at most 60, where the first loss over a number of parts is ln C: a sum of so many; else None."""
        if not isinstance(parts, int | float) or not parts > 1:
            return None
        classes = classes_at(self.loss / float(parts), 0.03)
        return classes if classes is not None and classes <= MANY else None


def start_of(m: Measurements) -> Start | None:
    """Return the start of a run; None where the log begins later, has fewer than 10 points, or its loss is not positive."""
    loss = m.loss
    if loss.n < 10 or loss.step[0] > FIRST or not loss.is_positive or not loss.value[0] > 0.0:
        return None
    first = max(1, loss.n // 10)
    later = float(np.median(loss.value[first : first + max(3, loss.n // 20)]))
    gradient = float("nan")
    if m.has("grad_norm") and m.grad_norm.n >= 10 and m.grad_norm.step[0] <= FIRST:
        grad = m.grad_norm
        usual = float(np.median(grad.value[max(1, grad.n // 20) : grad.n // 3 + 3]))
        gradient = float(grad.value[0]) / usual if usual > 0.0 else gradient
    classes = classes_at(loss.tail, 0.01)
    parts = re.split(r"[^a-z]+", loss.tag.lower())
    named = bool(_CLASSIFIES & set(parts)) or ("cross" in parts and "entropy" in parts)
    return Start(
        float(loss.value[0]),
        float(loss.value[0]) / later if later > 0.0 else float("inf"),
        gradient,
        named or m.has("val_accuracy") or m.has("accuracy"),
        classes if classes is not None and classes <= MANY and loss.noise < STILL else None,
    )
