"""The curves that a terminal draws of a run and a stored report keeps, in sixty points: its loss, and what convicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.report.view import diagnosis_first
from traindoctor.signals.thinning import kept_points, whole_of

if TYPE_CHECKING:
    from traindoctor.model import Finding, FloatArray, IntArray, Run, RunReport, Series

#: Quantities beside the loss.
MOST = 2
#: Points of a curve at most; a terminal is seldom wide enough for more.
POINTS = 60
#: Significant digits that are kept of a value: a bar has eight heights.
DIGITS = 4


class Overview(NamedTuple):
    """A curve in at most `POINTS` points: `step` (n,) and `value` (n,), with `DIGITS` significant digits."""

    step: IntArray
    value: FloatArray


def curves_of(report: RunReport) -> dict[str, Overview]:
    """Return quantity -> its curve: the loss, and of a run that is not healthy the quantities that convict it."""
    shown = ["loss"]
    report = diagnosis_first(report)
    if report.findings and report.verdict != "healthy":
        shown += convicting(report.findings[0], report.run)
    named = {quantity: report.run.primary[quantity] for quantity in shown if quantity in report.run.primary}
    return {quantity: overview(series) for quantity, series in named.items() if len(series)}


def convicting(finding: Finding, run: Run) -> list[str]:
    """Return the quantities beside the loss that the heaviest evidence was measured on."""
    found: dict[str, None] = {}
    for evidence in sorted((e for e in finding.evidence if e.supports), key=lambda e: -e.weight):
        for quantity, series in run.primary.items():
            named = f"{series.source}: {series.tag}"
            if quantity != "loss" and any(f"{named}{end}" in f"{evidence.source}," for end in (",", " and ")):
                found[quantity] = None
    return list(found)[:MOST]


def overview(series: Series) -> Overview:
    """Return the highest point of each of `POINTS` stretches of steps; a value that is not finite counts as the highest.

    It is the same for all points of a series, for those that a report of many runs keeps, and for itself.
    """
    whole = whole_of(series)
    step, value = series.step, series.value
    if series.whole is None:
        kept = kept_points(value)
        step, value = step[kept], value[kept]
    first, last = float(whole.first_step or 0), float(whole.last_step or 0)
    stretch = np.clip((step - first) / (last - first + 1.0) * POINTS, 0, POINTS - 1).astype(np.int64)
    height = np.where(np.isfinite(value), value, np.inf)
    tops = np.full(POINTS, -np.inf)
    np.maximum.at(tops, stretch, height)
    highest = np.flatnonzero(height == tops[stretch])
    _, first_of_each = np.unique(stretch[highest], return_index=True)
    at = highest[first_of_each]
    return Overview(step[at], np.array([float(f"{v:.{DIGITS}g}") for v in value[at]], dtype=np.float64))
