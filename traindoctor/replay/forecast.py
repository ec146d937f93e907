"""When the stability limit will be met, before it is: the second moment run on from the end of the log.

The idea. Under vanishing gradients v decays by beta2 a step, whatever the model is, and the margin lr * lambda(P^-1 H) grows
as lr / sqrt(v_hat). Once it is known at one step (a probe of the Hessian with the optimizer's own P), it is known at all
later ones, up to the gradients that are still to come. The soonest is had with none, the latest with gradients that stay
at the height they have of late.

Without a probe the log gives a curvature, ||g||^2 / (2 (L - L*)) on the descent, and with the number of parameters the root
mean square of sqrt(v_hat). Their quotient is far below the true margin, because v is uneven and the steepest direction of
P^-1 H lies where v is small: by a factor of 6 to 490 on the 13 runs of `UNEVENNESS`. That bounds the step from above; from
below it says mostly "from now on". Without the number of parameters nothing absolute can be said, and it is refused.

How good it is: benchmarks/replay/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.errors import TraindoctorError
from traindoctor.optim.stability import stability_limit
from traindoctor.signals.second_moment import curvature, decay_rate, recurrence, second_moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from traindoctor.model import FloatArray, IntArray, OptimizerSpec
    from traindoctor.replay.open_loop import Signal

#: True margin over lr * lambda / rms sqrt(v_hat), lambda the 90th percentile of the curvature seen on the descent: 5.6 to 490
#: on 13 over-trained runs (linear regressions of 301 to 3,001 parameters, perceptrons with one and four outputs, one and two
#: hidden layers; fixtures/optim/overtrained.json), and a factor of 2 on either side.
UNEVENNESS = (2.5, 1000.0)
#: How many time constants of the second moment are looked ahead where no last step is given: sqrt(v) falls by e^20.
HORIZON = 40.0
#: Steps that are looked at one by one; a longer way ahead is looked at in strides.
MAX_STEPS = 1_000_000
#: A probe by power iteration is taken to be right within this share.
PROBE_ERROR = 0.02


@dataclass(frozen=True, slots=True, eq=False)
class Forecast:
    """When the margin meets the limit, counted as the log counts steps.

    `met`: the step at which it does with gradients as of late; None when it does not, or only an interval is known.
    `interval`: earliest and latest step; a latest of None means perhaps never; None when it is not met in any case, or
    nothing is said. `margin` (n,) at `step` (n,), from the probe on, with gradients as of late. `remains`: limit over the
    largest margin ahead: above 1 when it is never met, how far away it stays. `bound`: what the margin cannot exceed
    however small v becomes, lr * lambda / eps; infinity where eps is 0 or its weight is not known. `refusal`: why nothing is
    said, empty otherwise.
    """

    limit: float
    met: int | None
    interval: tuple[int, int | None] | None
    step: IntArray
    margin: FloatArray
    remains: float
    bound: float
    refusal: str = ""
    notes: tuple[str, ...] = ()


def forecast(
    recorded: Signal,
    spec: OptimizerSpec,
    *,
    at: int,
    value: float,
    lr: Callable[[int], float] | None = None,
    until: int | None = None,
    curvature: float | None = None,
    level: float | None = None,
    error: float = PROBE_ERROR,
) -> Forecast:
    """Return when the margin, measured as `value` after step `at`, meets the stability limit of `spec`.

        s(t) = value * lr(t) / lr(at) / ((1 - e) * sqrt(v_hat(t) / v_hat(at)) + e),     e: share of eps in P at step `at`

    `recorded`: the gradient norm up to now; steps count from 0, so that a probe after 1,000 steps is at 999. `lr`: the
    learning rate of any step, as its schedule has it; by default the last logged one is kept. `until`: last step looked at.
    `curvature`: lambda_max of the Hessian where the probe gave it too; else eps is weighed by the number of parameters, or
    left out. Eps postpones at least as much as is said here, since the steepest direction of P^-1 H is flatter in H.
    `level`: gradient norm to come; by default the median of the last fifth of the log, the interval from none to its 90th
    percentile. `error`: relative error of the probe.

    Raises: TraindoctorError for a probe that is not positive, or outside the log.
    Source: Cohen et al. 2022, arXiv:2207.14484, for the limit; the decay is the optimizer's own recurrence.
    """
    if not value > 0.0:
        raise TraindoctorError("probe", f"a margin of {value:g} is not above zero")
    if not recorded.step.size or not recorded.step[0] <= at <= recorded.step[-1]:
        raise TraindoctorError("probe", f"step {at:,} lies outside the logged gradient norm")
    limit = stability_limit(spec)
    if not recurrence(spec) or not np.isfinite(limit):
        return _refused(limit, f"{spec.name} has no second moment that follows from a gradient norm.")
    ahead = _Ahead.of(recorded, spec, at, lr, until)
    share, notes = _eps_share(recorded, spec, ahead, value, curvature)
    late = recorded.grad_norm[-max(1, recorded.grad_norm.size // 5) :]
    usual = float(np.median(late)) if level is None else level
    most = float(np.quantile(late, 0.9)) if level is None else level
    margin = ahead.margin(value, share, usual)
    met = _first_at(ahead.step, margin, limit)
    soonest = _first_at(
        ahead.step, ahead.margin(value * (1.0 + error), share, min(usual, 0.0 if level is None else usual)), limit
    )
    latest = _first_at(ahead.step, ahead.margin(value * (1.0 - error), share, most), limit)
    bound = float(value / share * ahead.rate.max() / ahead.rate[0]) if share > 0.0 else float("inf")
    return Forecast(
        limit,
        met,
        None if soonest is None else (soonest, latest),
        ahead.step,
        margin,
        limit / float(margin.max()),
        bound,
        notes=(*recorded.notes, *notes),
    )


def forecast_from_log(
    recorded: Signal,
    spec: OptimizerSpec,
    loss: FloatArray,
    floor: float,
    *,
    lr: Callable[[int], float] | None = None,
    until: int | None = None,
) -> Forecast:
    """Return within which steps the limit is met, from the log alone, for a run that has been stable so far.

    `loss`: (n,) at the steps of `recorded`. `floor`: L*, e.g. the loss of the quiet stretch. Never a single step: the
    unevenness of v is known within `UNEVENNESS` only. Refused without the number of parameters, and where the descent
    shows no curvature (fewer than three points above 100 times the floor).
    """
    limit = stability_limit(spec)
    if recorded.n_parameters is None:
        return _refused(
            limit, "The number of parameters is not known, and with it the scale of v: give it, or a probe of the Hessian."
        )
    if not recurrence(spec) or not np.isfinite(limit):
        return _refused(limit, f"{spec.name} has no second moment that follows from a gradient norm.")
    seen = curvature(loss, floor, recorded.grad_norm)[loss > 100.0 * floor]
    seen = seen[np.isfinite(seen) & (seen > 0.0)]
    if seen.size < 3:
        return _refused(limit, "The descent shows no curvature: fewer than three losses lie above 100 times the floor.")
    steepness, now = float(np.quantile(seen, 0.9)), int(recorded.step[-1])
    total = float(second_moment(recorded.grad_norm, recorded.step, spec, recorded.resumes)[-1])
    alike = float(recorded.lr[-1]) * steepness / (np.sqrt(total / recorded.n_parameters) + (spec.eps or 0.0))
    low, high = (min(alike * factor, 0.999 * limit) for factor in UNEVENNESS)
    first = forecast(recorded, spec, at=now, value=high, lr=lr, until=until, curvature=steepness, error=0.0)
    last = forecast(recorded, spec, at=now, value=low, lr=lr, until=until, curvature=steepness, error=0.0)
    notes = (
        *recorded.notes,
        f"The margin now lies between {low:.3g} and {high:.3g}: curvature and root mean square of sqrt(v_hat) are from the log, "
        f"the unevenness of v is taken as {UNEVENNESS[0]:g} to {UNEVENNESS[1]:g}. A probe of the Hessian would settle it.",
    )
    interval = None if first.interval is None else (first.interval[0], last.interval[1] if last.interval else None)
    remains = first.remains if interval is None else last.remains
    return Forecast(limit, None, interval, last.step, last.margin, remains, last.bound, notes=notes)


def _refused(limit: float, reason: str) -> Forecast:
    none = np.zeros(0)
    return Forecast(limit, None, None, np.zeros(0, dtype=np.int64), none, float("nan"), float("inf"), refusal=reason)


def _first_at(step: IntArray, margin: FloatArray, limit: float) -> int | None:
    above = margin >= limit
    return int(step[int(np.argmax(above))]) if above.any() else None


@dataclass(frozen=True, slots=True, eq=False)
class _Ahead:
    """The steps from the probe on: those of the log (`n_logged`), then those to come; `rate` (n,) learning rate there."""

    recorded: Signal
    spec: OptimizerSpec
    begin: int
    step: IntArray
    rate: FloatArray

    @classmethod
    def of(cls, recorded: Signal, spec: OptimizerSpec, at: int, lr: Callable[[int], float] | None, until: int | None) -> _Ahead:
        begin = int(np.searchsorted(recorded.step, at, side="right")) - 1
        last = int(recorded.step[-1])
        constant = 1.0 / max(1.0 - decay_rate(spec), 1e-7)
        stop = max(last, int(last + HORIZON * constant) if until is None else until)
        stride = max(1, -(-(stop - last) // MAX_STEPS))
        to_come = np.arange(last + stride, stop + 1, stride, dtype=np.int64)
        # the schedule is asked at 2,000 places at most: any schedule is smooth at that grain
        asked = np.unique(np.linspace(0, max(to_come.size - 1, 0), min(to_come.size, 2000)).astype(np.int64))
        if lr is None or not to_come.size:
            later = np.full(to_come.size, float(recorded.lr[-1]))
        else:
            later = np.interp(to_come, to_come[asked], [float(lr(int(to_come[i]))) for i in asked])
        step = np.concatenate((recorded.step[begin:], to_come))
        return cls(recorded, spec, begin, step, np.concatenate((recorded.lr[begin:], later)))

    def margin(self, value: float, share: float, level: float) -> FloatArray:
        """Return the margin at `step`, with gradients of norm `level` once the log has ended."""
        n_to_come = self.step.size - (self.recorded.step.size - self.begin)
        norm = np.concatenate((self.recorded.grad_norm, np.full(n_to_come, level)))
        step = np.concatenate((self.recorded.step[: self.begin], self.step))
        total = second_moment(norm, step, self.spec, self.recorded.resumes)[self.begin :]
        with np.errstate(divide="ignore", invalid="ignore"):
            fallen = np.sqrt(total / total[0])
            return np.asarray(value * self.rate / self.rate[0] / ((1.0 - share) * fallen + share))


def _eps_share(
    recorded: Signal, spec: OptimizerSpec, ahead: _Ahead, value: float, curvature: float | None
) -> tuple[float, list[str]]:
    """Return the share of eps in the denominator of the steepest mode at the probe, and what was assumed of it."""
    eps = spec.eps or 0.0
    if eps == 0.0:
        return 0.0, []
    if curvature is not None:
        return min(1.0, eps * value / (float(ahead.rate[0]) * curvature)), []
    if recorded.n_parameters is not None:
        total = float(second_moment(recorded.grad_norm, recorded.step, spec, recorded.resumes)[ahead.begin])
        root = np.sqrt(total / recorded.n_parameters)
        return float(eps / (root + eps)), ["Eps is weighed against the root mean square of sqrt(v_hat)."]
    return 0.0, ["Eps is left out: neither curvature nor number of parameters is known. It can only postpone."]
