"""The series of a finished diagnosis, thinned to what a report draws: many runs then fit into the memory of a few."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import Curve, Hypothesis, Replay, RunReport, Series, Trial, VitalSign, Whole

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, IntArray

#: Stretches of equally many points of which the lowest, the middle and the highest are kept. A page of many runs draws 150.
STRETCHES = 200
#: Points that are not finite which are kept, evenly, in a series: more than a page marks.
MOST_BAD = 400


def whole_of(series: Series | Curve) -> Whole:
    """Return what all points of a series say, those that were thinned out among them."""
    if series.whole is not None:
        return series.whole
    step, value = series.step, series.value
    finite = np.isfinite(value)
    good, bad = value[finite], np.flatnonzero(~finite)
    forward = np.diff(step)
    forward = forward[forward > 0]
    steady = forward.min(initial=np.iinfo(np.int64).max)  # most logs have one stride, and a median of millions takes long
    n_nan = int(np.isnan(value).sum())
    nan = float("nan")
    return Whole(
        n=int(value.size),
        first_step=int(step.min()) if step.size else None,
        last_step=int(step.max()) if step.size else None,
        stride=max(1, int(steady if steady == forward.max() else np.median(forward))) if forward.size else 1,
        first=float(value[0]) if value.size else nan,
        low=float(good.min()) if good.size else nan,
        middle=float(np.median(good)) if good.size else nan,
        high=float(good.max()) if good.size else nan,
        last=float(value[-1]) if value.size else nan,
        n_nan=n_nan,
        n_infinite=int(bad.size) - n_nan,
        first_bad=int(step[bad[0]]) if bad.size else None,
        n_not_positive=int((value <= 0).sum()),
    )


def kept_points(value: FloatArray) -> IntArray:
    """Return the positions, ascending, of the points that tell the course of a series: at most about 1,200.

    Of each of `STRETCHES` stretches of equally many points the lowest, the highest and the one in the middle of the order;
    the first and the last point; and some of those that are not finite.
    """
    n = value.size
    if n <= 3 * STRETCHES:
        return np.arange(n)
    finite = np.flatnonzero(np.isfinite(value))
    bad = np.setdiff1d(np.arange(n), finite, assume_unique=True)
    kept = [np.array([0, n - 1]), bad[:: max(1, -(-bad.size // MOST_BAD))], bad[-1:]]
    width = max(1, -(-finite.size // STRETCHES))
    rows = finite[: finite.size // width * width].reshape(-1, width)
    order = np.argsort(value[rows], axis=1, kind="stable")
    kept += [np.take_along_axis(rows, order[:, at : at + 1], axis=1).ravel() for at in (0, width // 2, width - 1)]
    kept.append(finite[rows.size :])
    return np.unique(np.concatenate(kept))


def thinned_report(report: RunReport) -> RunReport:
    """Return the report of a run with its series and curves thinned; of what is only listed, no point is kept."""
    run = report.run
    drawn = {id(s) for s in run.primary.values()}
    made = {id(s): _series(s, keep=id(s) in drawn) for s in (*run.series, *run.primary.values())}
    thin_run = replace(
        run,
        series=tuple(made[id(s)] for s in run.series),
        primary={quantity: made[id(s)] for quantity, s in run.primary.items()},
        histograms=(),
    )
    replay = None if report.replay is None else _replay(report.replay)
    return replace(report, run=thin_run, replay=replay, vital_signs=tuple(_sign(s) for s in report.vital_signs))


def _series(series: Series, *, keep: bool) -> Series:
    at = kept_points(series.value) if keep else np.zeros(0, dtype=np.int64)
    if at.size == len(series):
        return series
    unknown = np.broadcast_to(np.nan, at.shape)  # no report shows the time of a point
    return replace(series, step=series.step[at], value=series.value[at], wall_time=unknown, whole=whole_of(series))


def _curve(curve: Curve) -> Curve:
    at = kept_points(curve.value)
    if at.size == curve.value.size:
        return curve
    low, high = (None if bound is None else bound[at] for bound in (curve.low, curve.high))
    return replace(curve, step=curve.step[at], value=curve.value[at], whole=whole_of(curve), low=low, high=high)


def _evenly(curve: Curve) -> Curve:
    """Return every so many-th point: shares of what lies outside a bound stay what they are."""
    every = -(-curve.value.size // (3 * STRETCHES))
    if every <= 1:
        return curve
    return replace(curve, step=curve.step[::every], value=curve.value[::every], whole=whole_of(curve))


def _replay(replay: Replay) -> Replay:
    return replace(
        replay,
        observed=_curve(replay.observed),
        reproduced=None if replay.reproduced is None else _curve(replay.reproduced),
        residual=None if replay.residual is None else _evenly(replay.residual),
        trials=tuple(_trial(t) for t in replay.trials),
        hypotheses=tuple(_hypothesis(h) for h in replay.hypotheses),
    )


def _trial(trial: Trial) -> Trial:
    return replace(trial, loss=_curve(trial.loss))


def _hypothesis(hypothesis: Hypothesis) -> Hypothesis:
    return hypothesis if hypothesis.curve is None else replace(hypothesis, curve=_curve(hypothesis.curve))


def _sign(sign: VitalSign) -> VitalSign:
    return replace(sign, curves=tuple(_curve(c) for c in sign.curves))
