"""Reproduce an exponential divergence of SGD from the log, and find the learning rate at which it would not have begun.

On a quadratic of curvature lambda the iteration of SGD is linear, so that beyond the stability limit the loss grows
by a constant factor a step. That factor, read off the log, gives lr * lambda, and with it the largest stable learning
rate. Momentum mu, growth r of the parameters a step (root of the growth of the loss), from the characteristic
polynomial at its root -r:

    heavy ball  lr * lambda = 1 + mu + r + mu / r          Nesterov  lr * lambda = 1 + r**2 / ((1 + mu) * r + mu)

The recurrence is then run again with that curvature, and has to grow as the log does. Adaptive optimizers are
refused: their updates are bounded, and their divergence is not exponential.

Source: Polyak 1964, USSR Comp. Math. 4, 1; Cohen et al. 2021, arXiv:2103.00065, appendix B.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import Curve, Replay, Segment, Trial, TrialVerdict
from traindoctor.optim import sgd
from traindoctor.optim.stability import stability_limit
from traindoctor.replay.candidates import Candidate, candidate_of, title_of
from traindoctor.replay.cure import nice_above
from traindoctor.signals.robust import slope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from traindoctor.model import FloatArray, IntArray, OptimizerSpec
    from traindoctor.signals.measurements import Measurements

#: Decades that the loss has to grow by, and points it has to be seen at, for a rate of growth to mean anything.
MIN_DECADES, MIN_POINTS = 1.5, 5
#: Share of the whole growth that may lie between two points: more is a jump, whose rate is not seen.
JUMP = 0.5
#: Decades by which the reproduced loss may miss the logged one, median over the growth: a straight line on a log scale has
#: to fit closely, or the growth is another's.
BOUND_DECADES = 0.5
#: A learning rate is offered this far below the stability limit.
LR_MARGIN = 2.0
#: Growth of the loss on the way after which a network is another.
DESTROYED = 1e4
#: Settings on which the stability of one mode depends.
LINEAR = {
    "optimizer.lr",
    "optimizer.momentum",
    "optimizer.nesterov",
    "schedule.name",
    "schedule.warmup_steps",
    "gradient.clip_norm",
}
MODEL = "one unstable mode of a quadratic, the run's own SGD; one fitted number"


def replay_divergence(m: Measurements, changes: Sequence[Mapping[str, object]] = (), *, auto: bool = True) -> Replay | None:
    """Return the replay of an exponential growth of the loss under SGD, or None when there is none to replay.

    Tried are the `changes` of settings, and with `auto` a ladder of learning rates below the limit.
    """
    spec, loss = m.run.optimizer, m.loss
    lr = m.peak_lr
    if spec is None or spec.name != "sgd" or not lr or m.run.step_unit != "step" or not loss.is_positive or loss.n < MIN_POINTS:
        return None
    low = int(np.argmin(loss.smooth))
    top = low + int(np.argmax(loss.value[low:]))
    step, value = loss.step[low : top + 1], loss.value[low : top + 1]
    if step.size < MIN_POINTS or np.log10(value[-1]) - np.log10(value[0]) < MIN_DECADES:
        return None
    log = np.log(np.maximum(value, 1e-300))
    if np.diff(log).max() > JUMP * (log[-1] - log[0]):
        return None  # a jump and a level: no growth at one rate
    rising = log > log[0] + 0.2 * (log[-1] - log[0])
    growth = float(np.exp(0.5 * slope(step[rising].astype(np.float64), log[rising])))
    if not growth > 1.0:
        return None
    product = product_of_growth(growth, spec)
    segment = Segment(int(step[0]), int(step[-1]) + 1, int(step[0]))
    observed = Curve(f"logged {loss.tag}", "observed", loss.step, loss.value)
    anchor = int(np.argmax(rising))
    floor = float(value[0])
    start = float(np.exp(log[anchor] - 2.0 * np.log(growth) * float(step[anchor] - step[0])))
    start /= _growing(growth, product, spec) ** 2
    recorded_lr = np.full(int(step[-1] - step[0]) + 1, lr)
    mode = _Mode(product / lr, start, floor, step, recorded_lr)
    base = Candidate("as recorded", {}, spec)
    shown = Curve("replay, as recorded", "reproduced", step, _run(base, mode))
    with np.errstate(divide="ignore"):
        residual = np.log10(shown.value) - np.log10(value)
    error = float(np.median(np.abs(residual)))
    reason = ""
    if not error <= BOUND_DECADES:
        reason = f"the growth is not exponential: the replay misses the logged loss by {error:.1f} decades in the median"
    trials: tuple[Trial, ...] = ()
    if not reason:
        limit = stability_limit(spec) / product * lr
        rates = sorted({_nice_below(limit / LR_MARGIN / k) for k in (0.5, 1.0, 2.0, 5.0)}, reverse=True) if auto else []
        trials = (
            Trial(base.title, {}, "no effect", float(shown.value[-1]), None, shown),
            *(
                _try(change, m, mode, float(shown.value[-1]))
                for change in [*changes, *({"optimizer.lr": rate} for rate in rates)]
            ),
        )
    curve = Curve("reproduced over logged, decades", "reproduced", step, residual)
    return Replay("closed", MODEL, segment, observed, shown, curve, error, BOUND_DECADES, not reason, reason, trials)


@dataclass(frozen=True, slots=True)
class _Mode:
    """The unstable mode.

    `start`: its loss at the first step of the growth; `floor`: the loss of everything else. `step` (n,): logged steps of the
    growth; `lr`: recorded learning rate at each step from the first to the last of them.
    """

    curvature: float
    start: float
    floor: float
    step: IntArray
    lr: FloatArray


def product_of_growth(growth: float, spec: OptimizerSpec) -> float:
    """Return lr * lambda from the growth of the parameters a step, above 1."""
    momentum = spec.momentum or 0.0
    if spec.nesterov:
        return 1.0 + growth**2 / ((1.0 + momentum) * growth + momentum)
    return 1.0 + momentum + growth + momentum / growth


def _nice_below(value: float) -> float:
    """Return the largest of 1, 2 or 5 times a power of ten that is not above `value`."""
    return float(f"{1.0 / nice_above(1.0 / value):.3g}")


def _growing(growth: float, product: float, spec: OptimizerSpec) -> float:
    """Return how much of a weight, moved without momentum so far, is the solution that grows: 1 where there is no momentum.

    x_t = a (-r)**t + b (D / -r)**t, where D is the determinant of the iteration; x_0 = 1, and x_1 by one step.
    """
    momentum = spec.momentum or 0.0
    first = 1.0 - product * (1.0 + momentum if spec.nesterov else 1.0)
    other = momentum * (1.0 - product if spec.nesterov else 1.0) / -growth
    return (first - other) / (-growth - other)


def _run(candidate: Candidate, mode: _Mode) -> FloatArray:
    """Return the loss of the mode and of everything else at the logged steps."""
    spec, n_steps = candidate.spec, mode.lr.size
    rates = candidate.rate(np.arange(n_steps, dtype=np.float64), n_steps, mode.lr)
    state = sgd.start((1,))
    weight = np.array([np.sqrt(2.0 * mode.start / mode.curvature)])
    loss = np.empty(n_steps)
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(n_steps):
            loss[t] = mode.floor + 0.5 * mode.curvature * weight[0] ** 2
            grad = mode.curvature * weight
            grad = grad * min(1.0, candidate.clip_norm / max(float(np.abs(grad[0])), 1e-300))
            update, state = sgd.step(grad, state, lr=float(rates[t]), momentum=spec.momentum or 0.0, nesterov=bool(spec.nesterov))
            weight = weight + update
    return np.asarray(np.nan_to_num(loss[mode.step - mode.step[0]], nan=np.inf, posinf=1e300))


def _try(settings: Mapping[str, object], m: Measurements, mode: _Mode, recorded: float) -> Trial:
    """Return the verdict on a change: it repairs when the mode stays at the height at which it started, or below.

    What a mode went through counts as well: where the loss grew by `DESTROYED` on the way, a network has nothing left to repair.
    """
    made = candidate_of(settings, m)
    title = title_of(settings, m.optimizer)
    none = Curve(title, "counterfactual", mode.step[:0], mode.lr[:0])
    if isinstance(made, str) or not set(settings) <= LINEAR:
        note = made if isinstance(made, str) else "no setting on which the stability of one mode depends"
        return Trial(title, settings, "not tried", float("nan"), None, none, note)
    loss = _run(made, mode)
    end, top = float(loss[-1]) - mode.floor, float(loss.max()) - mode.floor
    allowed = max(mode.start, mode.floor)
    verdict: TrialVerdict
    note = ""
    if end <= allowed and top <= DESTROYED * allowed:
        verdict = "repairs"
        near = _run(replace(made, lr_factor=LR_MARGIN * made.lr_factor), mode)
        if float(near[-1]) - mode.floor > allowed:
            note = f"within a factor of {LR_MARGIN:g} of the stability limit"
    elif end <= allowed:
        verdict, note = "not tried", "the loss would have grown far before it fell: what a network does then is not in the log"
    else:
        verdict = "no effect" if loss[-1] >= 0.1 * recorded else "postpones"
    return Trial(title, settings, verdict, float(loss[-1]), None, Curve(title, "counterfactual", mode.step, loss), note)
