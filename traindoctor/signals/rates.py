"""What a logged learning rate did to a run: where it was spent, jumped, was cut, and how the loss answered.

Steps are those of the log. All levels are medians, so that one point decides nothing. Ratios have no unit.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.signals import changes, robust
from traindoctor.signals.schedule import reconcile, steps_per_epoch
from traindoctor.signals.shape import cleaned, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.configs.schedule import ConfiguredSchedule
    from traindoctor.model import FloatArray, IntArray, Run, Series
    from traindoctor.signals.layers import Layers
    from traindoctor.signals.schedule import Reconciliation

#: Share of the highest rate below which hardly anything is learnt: two decades.
SPENT = 0.01
#: Change of a rate between two logged points, over the highest one, that is a jump.
JUMP = 0.1
#: Rate over the highest one at which no cycle of a schedule with restarts ends.
HALFWAY = 0.3
#: A jump is so many times what the rate moved before it; twice is enough where it turns from falling to rising.
SUDDEN = 5.0
#: Distance over the highest rate within which a schedule is the same as the one at the start.
SAME = 0.03
#: Factor by which a cut lowers the rate at least, and how alike the factors of a scheduler's cuts are.
CUT, ALIKE = 0.95, 0.02
#: Points on each side of a step from which a level is taken at least.
LEAST = 4
#: Names of schedules that move from their first call on, and of those that wait or stay.
_MOVES = re.compile(r"cosine|linear|exp|poly|cycl|anneal|sqrt|restart|step|decay")
_WAITS = re.compile(r"plateau|metric|constant|multi|milestone|piecewise")
_BATCH_SIZE = re.compile(r"(?:^|[/._ -])(?:global_|train_|total_|effective_)?batch[_-]?size$", re.IGNORECASE)


class Spent(NamedTuple):
    """A rate that came down to `SPENT` of its peak and stayed there.

    `step`: the first one from which it stays. `share`: of the run's length. `left`: rate at the end over the peak. `way`:
    "geometric" where it goes on by factors through the decades, "end" where it came to an end (cosine, linear, a lowest rate).
    """

    step: int
    share: float
    left: float
    way: str


class Answer(NamedTuple):
    """How a series answered to what happened at a step.

    `before`, `after`: levels on both sides. `noise_before`, `noise_after`: point-to-point noise. `errors`: the change in
    standard errors of both levels, NaN where there is no noise to tell.
    """

    before: float
    after: float
    noise_before: float
    noise_after: float
    errors: float

    @property
    def ratio(self) -> float:
        """Level after over level before; NaN where that is not above 0."""
        return self.after / self.before if self.before > 0.0 else float("nan")

    @property
    def noise_ratio(self) -> float:
        """Noise after over noise before; NaN where that is not above 0."""
        return self.noise_after / self.noise_before if self.noise_before > 0.0 else float("nan")


class Reset(NamedTuple):
    """A schedule that begins anew in the middle of its decay.

    `step`: the first one of the new beginning. `before`: rate over the peak just before it. `rewarmed`: whether it begins with
    a warmup. `at_restart`: whether the process was restarted there. `gap`: time between the two points over the usual one.
    """

    step: int
    before: float
    rewarmed: bool
    at_restart: bool
    gap: float


class Cuts(NamedTuple):
    """A rate that is cut by one factor again and again, at uneven distances: by a scheduler that watches the loss.

    `steps` (n,): of the cuts. `factor`: of one cut. `fell`: level of the loss around the last cut that mattered over the one
    before the first: how far it still fell while the rate was cut.
    """

    steps: IntArray
    factor: float
    fell: float


class Change(NamedTuple):
    """A change of the batch size that is logged: the first step with it, rows before and after, rate after over before."""

    step: int
    before: float
    after: float
    rate: float


class Beginning(NamedTuple):
    """The start of a run.

    `overshoot`: highest level of the loss within the first tenth over its first value. `at`: the step of it. `sure`: whether
    that is beyond the noise of that tenth, comes before the loss has fallen, and never comes again. `grad`: highest gradient
    norm in that tenth over the first one, NaN where it was not logged. `warmup`: share of the run until the rate is at its
    peak, NaN where it was not logged.
    """

    overshoot: float
    at: int
    sure: bool
    grad: float
    warmup: float


def configured(run: Run) -> ConfiguredSchedule:
    """Return what a run's settings say of the schedule."""
    from traindoctor.configs.schedule import configured_schedule

    return configured_schedule(run.settings, steps_per_epoch=steps_per_epoch(run), counted_by=run.step_unit)


def reconciled(run: Run) -> Reconciliation:
    """Return whether the logged rate follows the configured schedule; "cannot-tell" where either is missing."""
    series = run.primary.get("learning_rate")
    none = np.zeros(0)
    step, value = (series.step, series.value) if series is not None else (none.astype(np.int64), none)
    return reconcile(step, value, configured(run).spec, steps_per_epoch=steps_per_epoch(run), restarts=run.restarts)


def planned_length(run: Run) -> float | None:
    """Return the length of the run that the settings ask for, in what the log counts; None where they do not say."""
    steps, epochs = (run.settings[key].value if key in run.settings else None for key in ("steps", "epochs"))
    if run.step_unit == "epoch":
        return float(epochs) if isinstance(epochs, int | float) and epochs > 0 else None
    if isinstance(steps, int | float) and steps > 0:
        return float(steps)
    per_epoch = steps_per_epoch(run)
    if isinstance(epochs, int | float) and epochs > 0 and per_epoch:
        return float(epochs) * per_epoch
    return None


def should_move(run: Run, seen: float = 0.5, epochs: float = 3.0) -> bool:
    """Return whether the settings name a schedule that would have moved the rate within the log.

    `seen`: share of the planned run that the log must hold, where its length is known; else so many `epochs`.
    """
    name = str(run.settings["schedule.name"].value).lower() if "schedule.name" in run.settings else ""
    series = run.primary.get("learning_rate")
    if series is None or len(series) < 2 or not _MOVES.search(name) or _WAITS.search(name):
        return False
    span, length, per_epoch = float(np.ptp(series.step)) + 1.0, planned_length(run), steps_per_epoch(run)
    if run.step_unit == "epoch":
        return span >= epochs and (length is None or span >= seen * length)
    return span >= seen * length if length is not None else per_epoch is not None and span >= epochs * per_epoch


def spent(step: IntArray, rate: FloatArray, length: float | None = None, peak: float = 0.0) -> Spent | None:
    """Return where a rate came down to `SPENT` of its peak for good, None where it does not or the log is shorter than 8 points.

    `length`: steps of the planned run, where it is longer than the log. `peak`: the configured rate, where the log may have
    missed it: one value per epoch shows nothing of a schedule that is over within the first.
    """
    step, rate = cleaned(step, rate)
    highest = float(rate.max()) if rate.size else 0.0
    if rate.size < 8 or not highest > 0.0 or rate[-1] > SPENT * highest:
        return None
    peak = max(peak, highest) if rate[0] == highest else highest  # one that rises first has its peak in the log
    above = np.flatnonzero(rate > SPENT * peak)
    first = int(above[-1]) + 1 if above.size else 0
    span = max(1.0, float(step[-1] - step[0]))
    whole = length if length is not None and span < length <= 2.0 * span else span  # a far longer plan may count something else
    low = rate[first:]
    deep = np.unique(low[(low > 0.0) & (low < SPENT**2 * peak)])
    left = float(rate[-1]) / peak
    # a horizon that is over stands at 0 or at a lowest rate of some use; 1e-16 is what rounding leaves of a cosine's 0
    geometric = (deep.size >= 3 and deep[-1] > 30.0 * deep[0]) or 1e-12 < left < SPENT**3
    return Spent(int(step[first]), float(step[first] - step[0]) / whole, left, "geometric" if geometric else "end")


def answer(step: IntArray, value: FloatArray, at: int, reach: float = 0.15) -> Answer | None:
    """Return the levels and the noise of a series on both sides of a step; None with fewer than `LEAST` points on one side.

    `reach`: share of the run that is looked at on either side. The points next to the step are left out, since a log may
    average over it.
    """
    n = value.size
    j = int(np.searchsorted(step, at))
    width = max(LEAST, round(reach * n))
    before, after = value[max(0, j - width) : max(0, j - 1)], value[j + 1 : j + 1 + width]
    if min(before.size, after.size) < LEAST:
        return None
    noise = [robust.step_noise(part) for part in (before, after)]
    error = 1.25 * math.hypot(noise[0] / math.sqrt(before.size), noise[1] / math.sqrt(after.size))  # of medians
    level = [float(np.median(part)) for part in (before, after)]
    errors = (level[1] - level[0]) / error if error > 0.0 else float("nan")
    return Answer(level[0], level[1], noise[0], noise[1], errors)


def stands_since(step: IntArray, value: FloatArray, at: int) -> float:
    """Return the level of a series at the end over the one just after a step: 1 where it stands; NaN for fewer than 8 points."""
    after = value[step >= at]
    if after.size < 8:
        return float("nan")
    k = max(3, after.size // 6)
    first = float(np.median(after[:k]))
    return float(np.median(after[-k:])) / first if first > 0.0 else float("nan")


def level_at(step: IntArray, value: FloatArray, at: int) -> float:
    """Return the median of a series over a fiftieth of its points, at least five, around a step; NaN for none."""
    if not value.size:
        return float("nan")
    j = min(int(np.searchsorted(step, at)), value.size - 1)
    half = max(2, value.size // 100)
    return float(np.median(value[max(0, j - half) : j + half + 1]))


def reset(step: IntArray, rate: FloatArray, restarts: Sequence[int] = (), wall_time: FloatArray | None = None) -> Reset | None:
    """Return where a schedule began anew before its decay was over; None where it did not.

    From there on the rate is what it was from the start on, which no schedule does before its end: cosine restarts come when
    their cycle is over, and come again. `wall_time` (n,): of each point, where the log has it.
    """
    order = np.argsort(step, kind="stable")
    wall = wall_time[order] if wall_time is not None and wall_time.size == step.size else None
    step, rate = step[order], rate[order]
    keep = np.isfinite(rate)
    step, rate, wall = step[keep], rate[keep], wall[keep] if wall is not None else None
    peak = float(rate.max()) if rate.size else 0.0
    if rate.size < 8 or not peak > 0.0:
        return None
    move = np.diff(rate)
    ahead = np.concatenate([[np.inf], np.abs(move[:-1])])  # what follows may be the warmup that the jump begins
    turns = (move > 2.0 * ahead) & (np.concatenate([[0.0], move[:-1]]) < 0.0)
    found = np.flatnonzero((np.abs(move) > JUMP * peak) & (turns | (np.abs(move) > SUDDEN * ahead))) + 1
    if found.size == 0 or found.size > 3:
        return None
    stride = float(np.median(np.diff(step)))
    # once an epoch, a resume falls between two points: the start is gone on with to before its first one
    known = np.concatenate([[step[0] - stride], step]), np.concatenate([[2.0 * rate[0] - rate[1]], rate])
    for j in found:
        if rate.size - j < 4 or j < 4 or np.ptp(rate[j:]) <= 0.01 * peak or rate[j:].max() < rate[j - 1] + JUMP * peak:
            continue
        since = step[j:] - step[j] + step[0]
        near = min(
            float(np.quantile(np.abs(rate[j:] - np.interp(since + shift * stride, *known)), 0.75)) / peak
            for shift in np.linspace(-1.0, 1.0, 9)
        )
        if near > SAME:
            continue
        before = float(rate[j - 1]) / peak
        end = end_of_decay(step[:j], rate[:j])
        over = end is not None and end < step[j] + max(1.5 * stride, 0.1 * float(step[j] - step[0])) and before < HALFWAY
        if over or before < 2.0 * SPENT:
            continue
        gap = float("nan")
        if wall is not None and np.isfinite(wall[j]) and np.isfinite(wall[j - 1]):
            usual = float(np.median(np.diff(wall[np.isfinite(wall)])))
            gap = float(wall[j] - wall[j - 1]) / usual if usual > 0.0 else float("nan")
        at_restart = any(abs(step[j] - restart) <= 1.5 * stride for restart in restarts)
        return Reset(int(step[j]), before, bool(rate[j] < rate[j - 1]), at_restart, gap)
    return None


def cuts(step: IntArray, rate: FloatArray, loss_step: IntArray, loss: FloatArray) -> Cuts | None:
    """Return the cuts of a rate by one factor at uneven distances; None for fewer than three, or where they come by the clock.

    Where several cuts fell between two logged points the quotient there is a power of the factor. Distances that differ by no
    more than a logged point are even.
    """
    step, rate = cleaned(step, rate)
    if rate.size < 12 or not np.all(rate > 0.0) or loss.size < 12:
        return None
    fall = -np.diff(np.log(rate))
    at = np.flatnonzero(fall > 1e-9)
    if at.size < 3 or np.any(fall < -1e-9) or float(fall[at].min()) < -np.log(CUT):
        return None
    n = next((k for k in (1, 2, 3, 4) if _are_whole(fall[at] / fall[at].min() * k)), None)
    if n is None:
        return None
    unit = float(fall[at].min()) / n
    gaps = np.diff(step[at + 1]) / np.round(fall[at[1:]] / unit)
    if np.ptp(gaps) <= 1.01 * float(np.median(np.diff(step))):
        return None
    mattered = at[rate[at + 1] >= 0.1 * SPENT * rate[0]]
    last = int(step[(mattered if mattered.size else at[:1])[-1] + 1])
    first = level_at(loss_step, loss, int(step[at[0]]))
    fell = level_at(loss_step, loss, last) / first if first > 0.0 else float("nan")
    return Cuts(step[at + 1], float(np.exp(-unit)), fell)


def _are_whole(value: FloatArray) -> bool:
    return bool(np.all(np.abs(value - np.round(value)) <= ALIKE * np.maximum(value, 1.0)))


def batch_change(run: Run) -> Change | None:
    """Return the first change of a logged batch size, None where it is not logged or does not change."""
    sizes = [s for s in run.series if _BATCH_SIZE.search(s.tag)]
    for one in sizes:
        step, value = cleaned(one.step, one.value)
        moved = np.flatnonzero(np.abs(np.diff(value)) > 0.1 * np.abs(value[:-1])) if value.size > 5 else np.zeros(0, dtype=int)
        if moved.size != 1 or moved[0] < 2 or not np.all(value > 0.0):
            continue
        at = int(step[moved[0] + 1])
        rate = run.primary.get("learning_rate")
        change = float("nan")
        if rate is not None:
            rate_step, rates = cleaned(rate.step, rate.value)
            before, after = rates[rate_step < at], rates[rate_step >= at]
            if before.size and after.size and before[-1] > 0.0:
                change = float(after[min(1, after.size - 1)] / before[-1])
        return Change(at, float(value[moved[0]]), float(value[moved[0] + 1]), change)
    return None


def rates_of_groups(run: Run) -> tuple[str, str, float] | None:
    """Return the tags with the lowest and the highest learning rate of a run's groups, and their ratio; None for one group.

    Only series that are not 0 throughout count; the ratio is the median over the last half of the points.
    """
    groups: list[tuple[float, str]] = []
    for one in run.series:
        if one.quantity != "learning_rate":
            continue
        _, value = cleaned(one.step, one.value)
        late = value[value.size // 2 :]
        if late.size >= 3 and np.median(late) > 0.0:
            groups.append((float(np.median(late)), one.tag))
    if len(groups) < 2:
        return None
    (low, slow), (high, fast) = min(groups), max(groups)
    return slow, fast, high / low


def beginning(step: IntArray, loss: FloatArray, rate: Series | None = None, grad_norm: Series | None = None) -> Beginning | None:
    """Return what happened in the first tenth of a run; None where fewer than four points of the loss lie in it.

    `step`, `loss` (n,): finite. The first value is taken as that before any step.
    """
    early = max(4, loss.size // 10)
    if loss.size < 3 * early or not loss[0] > 0.0:
        return None
    level = 0.5 * (loss[:early] + loss[1 : early + 1])  # one point stands for itself only by half
    top = int(np.argmax(level))
    first = float(loss[0])
    noise = changes.relative_noise(loss[: early + 1])
    beyond = float(level[top]) - first > 5.0 * noise * first
    fallen = top > 0 and float(loss[:top].min()) < 0.7 * first
    again = float(loss[2 * early :].max()) > 0.5 * float(level[top])
    grown = float("nan")
    if grad_norm is not None:
        at, norms = cleaned(grad_norm.step, grad_norm.value)
        norms = norms[at <= step[early]]
        if norms.size >= 3 and norms[0] > 0.0:
            grown = float(norms.max()) / float(norms[0])
    warmup = warmup_share(rate.step, rate.value) if rate is not None else float("nan")
    return Beginning(float(level[top]) / first, int(step[top]), beyond and not fallen and not again, grown, warmup)


def warmup_share(step: IntArray, rate: FloatArray) -> float:
    """Return the share of the run until the rate first is at nine tenths of its peak: 0 where it starts there; NaN if unknown."""
    step, rate = cleaned(step, rate)
    if rate.size < 3 or not rate.max() > 0.0:
        return float("nan")
    first = int(np.argmax(rate >= 0.9 * rate.max()))
    return float(step[first] - step[0]) / max(1.0, float(step[-1] - step[0]))


def held(step: IntArray, rate: FloatArray) -> float:
    """Return the logged points between two changes of a rate, median; 1 where it moves at each, NaN where it never does."""
    step, rate = cleaned(step, rate)
    if rate.size < 3:
        return float("nan")
    moved = np.flatnonzero(np.abs(np.diff(rate)) > 1e-9 * max(1e-300, float(np.abs(rate).max())))
    return float(np.median(np.diff(moved))) if moved.size >= 3 else float("nan")


def end_of_decay(step: IntArray, rate: FloatArray) -> float | None:
    """Return the step at which the last decay that a log shows would come to its end; None where it shows none that has one."""
    told = describe(step, rate)
    last = told.phases[-1] if told.kind == "phases" and told.phases else None
    if last is None or last.last >= last.first or last.shape in ("constant", "exponential", "inverse-sqrt", "inverse-time"):
        return None
    return float(last.stop)


def noise_jump(step: IntArray, value: FloatArray) -> tuple[int, float] | None:
    """Return the step at which the point-to-point noise of a series changes most, and noise after over before; None if unclear.

    The change is sought in the logarithm of the second differences, whose mean moves with the noise and not with the level;
    it must stand out by six standard errors, from a tenth to nine tenths of the points.
    """
    n = value.size
    if n < 60:
        return None
    move = np.abs(np.diff(value, n=2))
    known = move[move > 0.0]
    if known.size < 0.9 * move.size:
        return None
    log = np.log(np.maximum(move, float(known.min())))
    total = np.concatenate([[0.0], np.cumsum(log)])
    at = np.arange(log.size // 10, log.size - log.size // 10)
    before, after = total[at] / at, (total[-1] - total[at]) / (log.size - at)
    # neighbours share two of three values: the effective number of second differences is about a third
    error = float(log.std()) * np.sqrt(3.0 / at + 3.0 / (log.size - at))
    score = (after - before) / error
    best = int(np.argmax(np.abs(score)))
    j = int(at[best])
    error_inside = float(np.sqrt(log[:j].var() * 3.0 / j + log[j:].var() * 3.0 / (log.size - j)))
    jump = float(after[best] - before[best])
    if not error_inside > 0.0 or abs(jump) < 6.0 * error_inside:
        return None
    return int(step[min(j + 1, n - 1)]), float(np.exp(jump))


class Floor(NamedTuple):
    """A level of the loss that follows the rate: it stood, fell at once when the rate was lowered, and stands again.

    `step`: of the lower rate. `rate`: after over before. `level`: of the loss, after over before. `errors`: of that change.
    `left`: rate at the end over the peak.
    """

    step: int
    rate: float
    level: float
    errors: float
    left: float


def floor_of_rate(rate: tuple[IntArray, FloatArray], loss: tuple[IntArray, FloatArray]) -> Floor | None:
    """Return where the loss followed a sudden cut of the rate down, from one plateau to another; None where it did not.

    `rate`, `loss`: steps and values. Only the last cut counts, and only where a tenth of the points lie on either side.
    """
    step, value = cleaned(*rate)
    if value.size < 12 or not np.all(value > 0.0):
        return None
    ratio = value[1:] / value[:-1]
    moved = np.flatnonzero(np.abs(ratio - 1.0) > 1e-6)
    if moved.size == 0 or moved.size > 4 or np.any(ratio[moved] > 1.0):
        return None
    j = int(moved[-1]) + 1
    at = int(step[j])
    loss_step, level = loss
    if not np.all(level > 0.0):
        return None
    log = np.log(level)  # the noise of a small loss is a factor, and skew
    found = answer(loss_step, log, at, reach=0.4)
    if found is None or not found.after < found.before:
        return None
    for part in (log[loss_step < at], log[loss_step >= at]):  # did it stand, beside the noise?
        if part.size < max(12, log.size // 10):
            return None
        late = part[part.size // 2 :] if part.size > 24 else part[part.size // 3 :]
        half = late.size // 2
        error = 1.25 * robust.step_noise(late) * math.sqrt(2.0 / max(1, half))
        if float(np.median(late[half:]) - np.median(late[:half])) < -max(0.1, 2.0 * error):
            return None
    fell = math.exp(found.after - found.before)
    return Floor(at, float(ratio[moved[-1]]), fell, found.errors, float(value[-1] / value.max()))


def moves_near(run: Run, at: int, reach: float = 0.05) -> bool:
    """Return whether the logged rate moves by a fifth within a share of the run on either side of a step."""
    series = run.primary.get("learning_rate")
    if series is None:
        return False
    step, rate = cleaned(series.step, series.value)
    if rate.size < 3:
        return False
    width = reach * float(step[-1] - step[0])
    near = rate[(step >= at - width) & (step <= at + width)]
    return bool(near.size and np.ptp(near) > 0.2 * float(np.abs(near).max()))


class OddLayer(NamedTuple):
    """A weight matrix that stands out, in decades from the median of the others; NaN where it cannot be told.

    `updates`: of its update-to-weight ratio. `growth`: of the growth of its weight norm. `moved`: of how far its weight norm
    went, over its first value. `gradient`: of its gradient norm.
    """

    name: str
    updates: float
    growth: float
    moved: float
    gradient: float

    @property
    def direction(self) -> float:
        """1 for a layer that moves more than the others, -1 for one that moves less."""
        known = self.updates if np.isfinite(self.updates) else self.moved
        return 1.0 if known > 0.0 else -1.0


def odd_layer(layers: Layers) -> OddLayer | None:
    """Return the weight matrix that stands out most, by its updates or its weights; None for fewer than two matrices."""
    updates = layers.update_deviation()
    rows = layers.rows("weight_norm")
    growth = moved = np.full(layers.n, np.nan)
    if len(rows) >= 3:
        with np.errstate(all="ignore"):
            growth = _from_others(layers.growth("weight_norm"), layers)
            away = np.abs(rows - rows[0])
            moved = _from_others(np.max(away, axis=0, initial=0.0, where=np.isfinite(away)) / rows[0], layers)
    apart = np.nan_to_num(np.abs(np.stack([updates, growth, moved])), nan=-1.0)
    score = apart.max(axis=0) if layers.n else np.zeros(0)
    if not score.size or float(score.max()) <= 0.0:
        return None
    k = int(np.argmax(score))
    norms = layers.level("grad_norm")
    gradient = np.where(norms == 0.0, -np.inf, _from_others(norms, layers))
    return OddLayer(layers.names[k], float(updates[k]), float(growth[k]), float(moved[k]), float(gradient[k]))


def _from_others(value: FloatArray, layers: Layers) -> FloatArray:
    """Return by how many decades each matrix is above the median of the other matrices, (k,); NaN for fewer than two."""
    with np.errstate(all="ignore"):
        log = np.where(layers.matrices & (value > 0.0), np.log10(value), np.nan)
    known = np.flatnonzero(np.isfinite(log))
    made = np.full(layers.n, np.nan)
    if known.size >= 2:
        for k in known:
            made[k] = log[k] - float(np.median(log[known[known != k]]))
    return made
