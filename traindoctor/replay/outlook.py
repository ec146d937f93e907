"""Where the optimizer of a run stands, and when it will meet its stability limit: open loop and forecast."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.errors import TraindoctorError
from traindoctor.optim.stability import stability_limit
from traindoctor.replay.engine import COLLAPSE_DECADES
from traindoctor.replay.forecast import Forecast, forecast, forecast_from_log
from traindoctor.replay.open_loop import OpenLoop, open_loop, signals_of
from traindoctor.signals.second_moment import Resume, recurrence
from traindoctor.signals.shape import continuation

if TYPE_CHECKING:
    from collections.abc import Callable

    from traindoctor.model import IntArray, Replay
    from traindoctor.replay.open_loop import Signal
    from traindoctor.signals.measurements import Measurements
    from traindoctor.signals.second_moment import ResumeKind


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """The moments over the recorded run, of all parameters and of each layer, and the forecast.

    `layers`: the whole first where its norm was logged. `forecast`: None where nothing is ahead: the run has failed already,
    or its optimizer has no such limit. `probe`: as it was given. `refusal`: why there is no open loop, empty where there is
    one; `ways_out`: what would allow it. `remarks`: what was asked for and had no place. All steps are those of the
    optimizer, counted from 0: `steps_per_epoch` turns them into epochs where the log counts those, else it is None.
    """

    layers: tuple[OpenLoop, ...] = ()
    forecast: Forecast | None = None
    probe: tuple[int, float] | None = None
    refusal: str = ""
    ways_out: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    steps_per_epoch: int | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed, each sentence once; of the layers only where the whole was not logged."""
        told = self.layers[0].notes if self.layers else ()
        ahead = self.forecast.notes if self.forecast is not None else ()
        return tuple(dict.fromkeys([*self.remarks, *told, *ahead]))

    def logged(self, step: IntArray) -> IntArray:
        """Return steps as the log counts them: the epochs they lie in, where it counts those."""
        return step if self.steps_per_epoch is None else step // self.steps_per_epoch


def outlook(
    m: Measurements,
    made: Replay,
    *,
    resume: ResumeKind = "kept",
    steps_per_epoch: int | None = None,
    probe: tuple[int, float] | None = None,
) -> Outlook:
    """Return where the optimizer of a run stands.

    `made`: the run's replay: a run that has left its floor is past its limit, and gets no forecast without a probe. `resume`:
    what resumed processes found of the optimizer's state. `steps_per_epoch`: of a log that counts epochs. `probe`: a step, as the
    log counts, and lr * lambda_max(P^-1 H) measured after it.

    Raises: TraindoctorError for a probe outside the log, or not positive.
    """
    by_epoch = m.run.step_unit == "epoch"
    remarks = []
    if resume != "kept" and not m.run.restarts:
        remarks.append("No resumed process is in the log: what one would have found of the state changes nothing.")
    if steps_per_epoch is not None and not by_epoch:
        remarks.append(f"The log counts {m.run.step_unit}s: the steps of an epoch change nothing.")
    said = tuple(remarks)
    spec = m.run.optimizer
    if spec is None:
        return Outlook(refusal="no optimizer settings are known", ways_out=("--config FILE names them",), remarks=said)
    kinds = [Resume(step, resume) for step in m.run.restarts]
    try:
        signals = signals_of(m, resumes=kinds, steps_per_epoch=steps_per_epoch)
        layers = tuple(open_loop(one, [spec]) for one in signals)
    except TraindoctorError as error:
        return Outlook(refusal=error.what, ways_out=error.ways_out, remarks=said)
    told = Outlook(layers, probe=probe, remarks=said, steps_per_epoch=steps_per_epoch if by_epoch else None)
    return replace(told, forecast=_forecast(m, made, signals[0], told))


def _forecast(m: Measurements, made: Replay, whole: Signal, told: Outlook) -> Forecast | None:
    """Return when the limit is met, None where nothing is ahead, or there is no limit."""
    spec = m.optimizer
    if told.probe is not None:
        at, value = told.probe
        if not m.has("grad_norm"):
            raise TraindoctorError("probe", "goes with a log of the norm of the whole gradient, and this one holds it by layer")
        first, last = (int(at) for at in told.logged(whole.step[[0, -1]]))
        if not first <= at <= last:
            unit = m.run.step_unit
            raise TraindoctorError(
                "probe", f"{unit} {at:,} lies outside the logged gradient norm", f"one from {first:,} to {last:,}"
            )
        taken = at if told.steps_per_epoch is None else (at + 1) * told.steps_per_epoch - 1
        return forecast(whole, spec, at=taken, value=value, lr=_later_rate(m, told))
    if not (m.has("grad_norm") and m.has("loss") and recurrence(spec) and np.isfinite(stability_limit(spec))):
        return None
    rebound = m.loss.rebound
    if made.segment.onset is not None or (rebound is not None and rebound.decades >= COLLAPSE_DECADES):
        return None
    loss = np.interp(told.logged(whole.step), m.loss.step, m.loss.value)
    return forecast_from_log(whole, spec, loss, m.loss.best, lr=_later_rate(m, told))


def _later_rate(m: Measurements, told: Outlook) -> Callable[[int], float] | None:
    """Return the learning rate of a step beyond the log, by the course that the log shows; None for the last one kept."""
    if not m.has("learning_rate"):
        return None
    course = continuation(m.learning_rate.step, m.learning_rate.value)
    return lambda at: float(course(told.logged(np.array([at], dtype=np.int64)))[0])
