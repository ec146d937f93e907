"""How long steps take, and for how much of it they wait for data: by logged times, else by the clock of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, IntArray
    from traindoctor.signals.measurements import Measurements

#: Share of the points at the beginning, at least two, in which caches are warmed and kernels compiled.
WARM = 0.02
#: Points below which nothing is said of times.
FEWEST = 20
#: Seconds a step below which the clock is that of a log that was written, or converted, in one go.
WRITTEN = 1e-3
#: A step that takes so many times the usual one is a long one.
LONG = 3.0


class Waiting(NamedTuple):
    """How much of the time the steps waited for data.

    `share`: of all time but the beginning. `often`: share of the steps that wait longer than they compute. `source`: the tags.
    """

    share: float
    often: float
    source: str


def waiting(m: Measurements) -> Waiting | None:
    """Return how long the steps waited for data; None where that was not logged, or no time to hold it against.

    A step time that holds only the computing is told by waits that exceed it.
    """
    if not m.has("data_time") or m.series("data_time").n < FEWEST:
        return None
    data = m.series("data_time")
    if np.any(data.value < 0.0):
        return None
    if m.has("step_time") and m.series("step_time").n >= FEWEST:
        whole = m.series("step_time")
        _, at_data, at_whole = np.intersect1d(data.step, whole.step, assume_unique=True, return_indices=True)
        wait, took, source = data.value[at_data], whole.value[at_whole], f"{data.source} over {whole.tag}"
        if wait.size and float(np.mean(wait > took)) > 0.05:
            took = took + wait
    else:
        step, took_all = clock(m, data.tag)
        _, at_data, at_clock = np.intersect1d(data.step, step, assume_unique=True, return_indices=True)
        wait, took, source = data.value[at_data], took_all[at_clock], f"{data.source} over the clock of the log"
        if wait.size and float(np.median(wait)) > float(np.median(took)):  # other units, or no clock of the training
            return None
    wait, took = wait[_warm(wait.size) :], took[_warm(took.size) :]
    if wait.size < FEWEST or not float(took.sum()) > 0.0:
        return None
    return Waiting(float(wait.sum() / took.sum()), float(np.mean(wait > 0.5 * took)), source)


class Tail(NamedTuple):
    """How uneven the times of the steps are.

    `lost`: share of all time above what it would be at the usual pace. `long`: share of the steps that take three times the
    usual. `spread`: share of the tenths of the run that have a long one. `period`: steps between long ones where they come
    evenly, else NaN. `at_evaluations`: share of the long ones at which a validation was logged. `usual`: seconds. `onset`: the
    first long step. `source`: what was read.
    """

    lost: float
    long: float
    spread: float
    period: float
    at_evaluations: float
    usual: float
    onset: int
    source: str


def tail(m: Measurements) -> Tail | None:
    """Return how uneven the times of the steps are, the beginning left out; None where no times were logged."""
    if m.has("step_time") and m.series("step_time").n >= FEWEST:
        step, took = m.series("step_time").step, m.series("step_time").value
        source = m.series("step_time").source
    elif m.has("loss"):
        step, took = clock(m, m.loss.tag)
        source = f"clock of {m.loss.source}"
    else:
        return None
    first = _warm(took.size)
    step, took = step[first:], took[first:]
    if took.size < FEWEST or not np.all(np.isfinite(took)) or np.any(took < 0.0):
        return None
    usual = float(np.median(took))
    if not usual > 0.0 or np.unique(took).size < 0.2 * took.size:  # a clock of whole seconds tells no steps
        return None
    if usual < WRITTEN and source.startswith("clock"):
        return None
    long = np.flatnonzero(took > LONG * usual)
    lost = max(0.0, 1.0 - usual * took.size / float(took.sum()))
    tenths = np.unique(long * 10 // took.size).size / 10.0
    period = float("nan")
    if long.size >= 5:
        gaps = np.diff(step[long])
        middle = float(np.median(gaps))
        stride = float(np.median(np.diff(step)))
        even = np.abs(gaps - middle) <= max(stride, 0.02 * middle)
        if middle >= 4.0 * stride and float(np.mean(even)) > 0.8:  # nearer ones are even by the grain of the log
            period = middle
    return Tail(
        lost,
        long.size / took.size,
        tenths,
        period,
        _share_at_evaluations(m, step, long),
        usual,
        int(step[long[0]]) if long.size else int(step[0]),
        source,
    )


def clock(m: Measurements, tag: str) -> tuple[IntArray, FloatArray]:
    """Return the seconds each step took by the wall times of one tag, (n,) steps and seconds; empty where it has none.

    The first point and those after a restart are left out.
    """
    none = np.zeros(0, dtype=np.int64), np.zeros(0)
    series = next((one for one in m.run.series if one.tag == tag and np.isfinite(one.wall_time).all()), None)
    if series is None or len(series) < 3:
        return none
    order = np.argsort(series.step, kind="stable")
    step, wall = series.step[order], series.wall_time[order]
    gone, time = np.diff(step), np.diff(wall)
    keep = (gone > 0) & (time >= 0.0)
    for restart in m.run.restarts:
        keep &= step[1:] != restart
    if keep.sum() < 2:
        return none
    return step[1:][keep], time[keep] / gone[keep]


def _warm(n: int) -> int:
    return max(2, int(WARM * n))


def _share_at_evaluations(m: Measurements, step: IntArray, long: IntArray) -> float:
    """Return the share of the long steps before which, or at which, a validation was logged; NaN where none was logged."""
    held = next((m.series(q) for q in ("val_loss", "val_accuracy") if m.has(q)), None)
    if held is None or not long.size:
        return float("nan")
    stride = max(1.0, float(np.median(np.diff(step))))
    near = np.searchsorted(held.step, step[long] + stride, side="right") - np.searchsorted(held.step, step[long] - 2 * stride)
    return float(np.mean(near > 0))
