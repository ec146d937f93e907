"""Where the optimizer of a run stands at the end of its log, and when it will meet its stability limit: open loop and forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.errors import TraindoctorError
from traindoctor.optim.stability import stability_limit
from traindoctor.replay.forecast import Forecast, forecast, forecast_from_log
from traindoctor.replay.open_loop import OpenLoop, open_loop, signals_of
from traindoctor.signals.schedule import continuation
from traindoctor.signals.second_moment import Resume

if TYPE_CHECKING:
    from collections.abc import Callable

    from traindoctor.model import IntArray, Replay
    from traindoctor.signals.measurements import Measurements
    from traindoctor.signals.second_moment import ResumeKind


@dataclass(frozen=True, slots=True, eq=False)
class Outlook:
    """The moments over the recorded run, of all parameters and of each layer, and the forecast.

    `layers`: the whole first where its norm was logged. `forecast`: None where nothing is ahead: the run has failed already,
    or its optimizer has no such limit. `refusal`: why there is no open loop, empty where there is one.
    """

    layers: tuple[OpenLoop, ...] = ()
    forecast: Forecast | None = None
    refusal: str = ""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was assumed, each sentence once."""
        told = [note for loop in self.layers for note in loop.notes]
        return tuple(dict.fromkeys([*told, *(self.forecast.notes if self.forecast is not None else ())]))


def outlook(
    m: Measurements,
    made: Replay,
    *,
    resume: ResumeKind = "kept",
    steps_per_epoch: int | None = None,
    probe: tuple[int, float] | None = None,
) -> Outlook:
    """Return where the optimizer of a run stands.

    `made`: the run's replay: a run that has left its floor is past its limit, and gets no forecast. `resume`: what resumed
    processes found of the optimizer's state. `probe`: a step and lr * lambda_max(P^-1 H) measured there.

    Raises: TraindoctorError for a probe outside the log, or not positive.
    """
    spec = m.run.optimizer
    if spec is None:
        return Outlook(refusal="no optimizer settings are known")
    kinds = [Resume(step, resume) for step in m.run.restarts]
    try:
        signals = signals_of(m, resumes=kinds, steps_per_epoch=steps_per_epoch)
        layers = tuple(open_loop(one, [spec]) for one in signals)
    except TraindoctorError as error:
        return Outlook(refusal=error.what)
    whole = signals[0]
    failed = made.segment.onset is not None and probe is None
    if failed or not np.isfinite(stability_limit(spec)) or not np.isfinite(layers[0].total).any() or not m.has("loss"):
        return Outlook(layers)
    rate = _later_rate(m, whole.step)
    if probe is not None:
        return Outlook(layers, forecast(whole, spec, at=probe[0], value=probe[1], lr=rate))
    loss = np.interp(whole.step, m.loss.step, m.loss.value)
    return Outlook(layers, forecast_from_log(whole, spec, loss, m.loss.best, lr=rate))


def _later_rate(m: Measurements, step: IntArray) -> Callable[[int], float] | None:
    """Return the learning rate of a later step, by the course that the log shows; None for the last one kept."""
    if not m.has("learning_rate"):
        return None
    course = continuation(m.learning_rate.step, m.learning_rate.value)
    last = int(step[-1])
    return lambda at: float(course(np.array([at], dtype=np.int64))[0]) if at > last else float(m.lr_at(np.array([at]))[0])
