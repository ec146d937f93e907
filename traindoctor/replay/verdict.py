"""Whether a change of settings repaired a run: one judgement for simulated, replayed and retrained losses alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.signals.changes import EXACT_FIT, rebound
from traindoctor.signals.robust import running_median

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, IntArray, TrialVerdict

#: A change repairs when the loss at the end is at most this share of the unchanged run's ...
BETTER = 0.7
#: ... and lies below its own start by this share at least, ...
LEARNT = 0.9
#: ... and within this many decades of its own best (sound runs of the study in benchmarks/study stay below), or within this
#: share of the unchanged run's way up from its best, ...
HELD_DECADES, HELD_SHARE = 1.5, 0.25
#: ... and its best is within this factor of the unchanged run's best: a run that is stable, but gets nowhere, is not repaired.
#: Nobody minds below this share of the start; and a run that ended above its own start got nowhere itself.
REACHED, ENOUGH = 10.0, 1e-10
#: Of the last sixth the highest values above this quantile are left out of the mean: a spike is not the level.
TRIMMED = 0.95
#: A change is worse when its end is this many times the unchanged run's, or this many decades where that rose as far itself.
WORSE, WORSE_DECADES = 1.5, 0.5
#: A failure that begins this much later, as a share of the steps, is postponed.
LATER = 1.3


@dataclass(frozen=True, slots=True)
class Course:
    """The figures of a loss that a judgement rests on, see `course`.

    `initial`: level of the first points. `best`: lowest smoothed value; `before`: the same up to the last sixth. `tail`,
    `highest`: mean (without the highest twentieth) and highest value of the last sixth. `onset`: step of a late rise, or of the
    first NaN.
    """

    initial: float
    best: float
    before: float
    tail: float
    highest: float
    onset: int | None
    reaches: FloatArray
    step: IntArray

    @property
    def rise(self) -> float:
        """Decades from the best before the end to the end, what an exact fit does at the float floor left out."""
        low = max(self.before, self.floor)
        return float(np.log10(max(self.tail, low) / low)) if np.isfinite(self.tail) else float("inf")

    @property
    def floor(self) -> float:
        """The best, but not below what float32 makes of an exact fit."""
        return max(self.best, EXACT_FIT * self.initial, 1e-300)

    def steps_to(self, level: float) -> float:
        """Return the first step at which the smoothed loss is at or below `level`; infinity when it never is."""
        below = self.reaches <= level
        return float(self.step[int(np.argmax(below))]) if below.any() else float("inf")


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its figures.

    `tail`: mean of the loss over the last sixth, without its highest twentieth. `slower`: steps to the unchanged run's best,
    over its own; None when it is never reached. `note`: what the verdict leaves out.
    """

    verdict: TrialVerdict
    tail: float
    slower: float | None
    note: str = ""


def course(step: IntArray, loss: FloatArray, *, initial: float | None = None) -> Course:
    """Return the figures of a loss, `step` (n,) int64 and `loss` (n,) float64, at least one point; NaN counts as infinite.

    `initial`: level at the start where the points begin later.
    """
    value = np.where(np.isfinite(loss), loss, np.inf)
    dead = np.flatnonzero(np.isinf(value))
    smooth = running_median(value, max(3, value.size // 60)) if value.size >= 3 else value
    last = value[-max(1, value.size // 6) :]
    late = rebound(step, value) if not dead.size and np.all(value > 0.0) else None
    onset = int(step[dead[0]]) if dead.size else late.onset if late is not None else None
    return Course(
        initial=max(float(value[0]), float(np.median(value[: max(1, value.size // 50)]))) if initial is None else initial,
        best=float(smooth.min()),
        before=float(smooth[: max(1, value.size - last.size)].min()),
        tail=float(last[last <= np.quantile(last, TRIMMED, method="lower")].mean()) if np.isfinite(last).all() else float("inf"),
        highest=float(last.max()),
        onset=onset,
        reaches=np.minimum.accumulate(smooth),
        step=step,
    )


def scaled(one: Course, factor: float) -> Course:
    """Return the same course with another end: what an error of the model may have made of it."""
    return replace(one, tail=one.tail * factor)


def judge(base: Course, candidate: Course) -> Judgement:
    """Return the verdict on a candidate's loss against that of the unchanged settings, over the same steps.

        repairs    ends at 0.7 of the unchanged run's tail or less, below 0.9 of its own start, within 1.5 decades of its own
                   best before, and has come within a factor of 10 of the unchanged run's best, or to 1e-10 of the start
        worse      ends 1.5 times above it, or half a decade where the unchanged run had itself risen by as much
        postpones  ends as much better, but fails later on, by 30 % of the steps at least; or is on its way still
        no effect  else

    The tests are made in this order.
    """
    ends, was = candidate.tail, base.tail
    near = max(REACHED * base.floor, ENOUGH * base.initial)
    reached = candidate.best <= near or not base.tail < base.initial
    held = candidate.rise <= max(HELD_DECADES, HELD_SHARE * base.rise)
    better = ends <= BETTER * was if np.isfinite(was) else np.isfinite(ends)
    learnt = ends < LEARNT * candidate.initial
    steps = candidate.steps_to(near)
    slower = steps / max(base.steps_to(near), 1.0) if np.isfinite(steps) else None
    note = "" if reached else "does not come near the recorded best within the run"
    verdict: TrialVerdict = "no effect"
    bar = max(np.log10(WORSE), min(WORSE_DECADES, 0.1 * base.rise))
    if better and learnt and held and reached:
        verdict = "repairs"
    elif np.isfinite(was) and (not np.isfinite(ends) or ends >= was * 10.0**bar):
        verdict = "worse"
    elif better and ((reached and _later(base, candidate)) or (not reached and held)):
        verdict = "postpones"
    return Judgement(verdict, ends, slower, note)


def _later(base: Course, candidate: Course) -> bool:
    """Return whether the failure begins later by `LATER`, or not within the run."""
    if base.onset is None:
        return False
    return candidate.onset is None or candidate.onset > base.onset * LATER
