"""The causes that could have made a log, each simulated on it, and how likely each of them makes it.

Every rival is a hypothesis on the noisy quadratic (`noisy_quadratic.py`): other dynamics, fitted to the same log by the same
likelihood, and charged for the numbers it needs (BIC; Schwarz 1978, Ann. Statist. 6, 461). What shares one model is told
apart within it: how much of the denominator is eps, and how much of the loss at the end is fed by noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import Curve, Hypothesis
from traindoctor.optim.stability import stability_limit
from traindoctor.replay import noisy_quadratic as nq
from traindoctor.replay.modes import Linear, linear_form
from traindoctor.signals.changes import spikes
from traindoctor.signals.schedule import steps_per_epoch
from traindoctor.signals.second_moment import Resume, second_moment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import FloatArray, IntArray, OptimizerSpec, Replay
    from traindoctor.signals.measurements import Measurements
    from traindoctor.signals.second_moment import ResumeKind

#: Bad batches are looked for at no more spikes than these, the highest.
MAX_KICKS = 4
#: Share of the denominator from which eps is what divides, and share of the loss at the end from which noise holds it up.
EPS_SHARE, NOISE_SHARE = 0.5, 0.5
#: Share of the loss at the end from which modes on the stability limit are what holds it up.
BEYOND_SHARE = 0.1
#: Largest lr * lambda / D of modes whose gradients add up: an oscillation of a period of 6 steps and more, as seen in such runs
#: (the iteration itself is stable up to 4).
SLOW = 1.0
#: Factor between the highest and the lowest learning rate of a schedule.
VARIES = 1.5
#: The configured learning rate of steps, (n,) int64 -> (n,) float64.
Schedule = Callable[["IntArray"], "FloatArray"]
HEALTHY = "healthy"
#: Log-odds of a fault before the log is looked at: one run in twenty, as everywhere in a diagnosis.
#: Twice that for what contradicts the log itself.
PRIOR = -3.0
NOT_APPLIED = "schedule-not-applied"
#: Decades within which a sound model explains the log well enough for nothing that contradicts the log to be considered.
FITS = 0.2
#: Names of the two ways in which steps that are too large hold a loss up.
NOISE_FLOOR, ON_THE_LIMIT = "noise-floor", "on-the-stability-limit"
#: Free numbers of the models of their own: the three that are fitted, the curvature, and the two ends of the recorded part.
OWN_FREE = 6
#: Values beyond these are taken as these, so that squares and products of a few of them are numbers.
TINY, HUGE = 1e-60, 1e60
#: Draws from the posterior of each hypothesis that a verdict may rest on.
N_DRAWS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Rival:
    """A cause with its best model of the run. `loss` (n,): predicted, on the stretches. `fit`: None for another simulator's."""

    code: str
    name: str
    misses: FloatArray
    n_free: int
    loss: FloatArray
    fit: nq.Fit | None
    note: str


def accumulating(form: Linear, spec: OptimizerSpec) -> tuple[Linear, float]:
    """Return the iteration when gradients add up, and the factor on its rate.

    The buffer is then the sum of all gradients: heavy ball with a momentum of 1. The optimizer's own momentum is short beside
    the period of such an oscillation, and only scales it.
    """
    one, zero = np.array(1.0), np.array(0.0)
    gain = 1.0 / (1.0 - float(form.c)) if not spec.is_adam and float(form.c) < 1.0 else 1.0
    return Linear(one, one, one, zero), gain


def observation(m: Measurements) -> nq.Observation | str:
    """Return the log on stretches, or why there is nothing to fit."""
    loss, spec = m.loss, m.run.optimizer
    if spec is None:
        return "no optimizer settings are known"
    if linear_form(spec) is None:
        return f"{spec.name} is not a linear iteration, and is not simulated"
    if m.run.step_unit != "step":
        return f"one value per {m.run.step_unit}: the optimizer's steps in between are not known"
    if loss.n < 12:
        return f"{loss.n} points of the loss are too few"
    if not loss.is_positive:
        return "a loss that is not positive has no levels to compare"
    if max(spec.beta1 or 0.0, spec.beta2 or 0.0, spec.alpha or 0.0) >= 1.0:
        return "a decay rate of 1: the recurrence is not defined"
    lr = m.lr_at(loss.step)
    if not TINY < lr.max() < HUGE or (not m.has("learning_rate") and m.peak_lr is None):
        return "the learning rate is not known"
    if loss.n_not_finite:
        return "the loss is not finite somewhere"
    grad = None
    if m.has("grad_norm") and m.grad_norm.n >= 12 and np.all(m.grad_norm.value > 0.0):
        grad = np.clip(np.interp(loss.step, m.grad_norm.step, m.entering_norm), TINY, HUGE)
    return nq.observe(loss.step, np.clip(loss.value, TINY, HUGE), np.maximum(lr, 0.0), grad, spec)


def rivals(
    m: Measurements,
    obs: nq.Observation,
    others: Sequence[tuple[str, str, Replay]] = (),
    schedule: Schedule | None = None,
) -> list[Rival]:
    """Return every cause that was simulated, in no order.

    `others`: code, name and replay of causes with a model of their own. `schedule`: the configured learning rate of steps (n,).
    """
    spec = obs.spec
    form = linear_form(spec)
    assert form is not None
    limit = stability_limit(spec)
    found: list[Rival] = []

    def add(code: str, name: str, note: str, dynamics: nq.Dynamics, roots: Sequence[float] | None = None) -> None:
        if (rival := _fitted(obs, code, name, note, dynamics, roots)) is not None:
            found.append(rival)

    light, heavy = _roots(obs)
    if heavy:
        add("TD103", "epsilon-too-large", "eps is most of the denominator", nq.Dynamics(form, limit), heavy)
    if light is None or light:
        add("", HEALTHY, "stable modes", nq.Dynamics(form, limit), light)
        if found and found[-1].fit is not None and np.median(share := noise_share(obs, found[-1].fit)) > NOISE_SHARE:
            note = f"noise holds {np.median(share):.0%} of the loss at the end up"
            found[-1] = replace(found[-1], name=NOISE_FLOOR, note=note)
        wild = _fitted(obs, "TD201", ON_THE_LIMIT, "", nq.Dynamics(form, limit, capped=True), light)
        if wild is not None and wild.fit is not None and (above := _beyond(obs, wild.fit)) > BEYOND_SHARE:
            found.append(replace(wild, note=f"{above:.0%} of the loss at the end is in modes on the stability limit"))
    summed, gain = accumulating(form, spec)
    factor = np.full(obs.loss.size, gain)
    period, _ = m.loss.oscillation
    swing = (np.pi / period) ** 2 if np.isfinite(period) and period > 2.0 * m.loss.stride else None
    summing = nq.Dynamics(summed, SLOW, seen="b", rate_factor=factor, around=swing)
    add("TD301", "zero-grad-missing", "every gradient stays in the sum: momentum 1", summing, light or None)
    if kicks := _kicks(m, obs):
        where = ", ".join(f"{int(m.loss.step[0] + obs.edge[k]):,}" for k in kicks)
        norms = tuple(_norm_at(m, obs, k) for k in kicks)
        thrown = nq.Dynamics(form, limit, kicks=kicks, kick_norms=norms)
        add("", "bad-batch", f"thrown off at step {where}", thrown, light or None)
    for name, note, factor in (*_transients(m, obs), *_other_schedules(m, obs, schedule)):
        add("", name, note, nq.Dynamics(form, limit, rate_factor=factor), light or None)
    if any(r.name in (HEALTHY, NOISE_FLOOR) and _error(obs, r.loss) <= FITS for r in found):
        found = [r for r in found if r.name != NOT_APPLIED]  # the log as it stands needs no such thing
    for code, name, replay in others:
        if replay.reproduced is not None:
            found.append(_simulated(m, obs, code, name, replay))
    return found


def weigh(found: Sequence[Rival], m: Measurements, obs: nq.Observation) -> list[Hypothesis]:
    """Return the hypotheses with their shares, the likeliest first.

    Neighbouring misses go together, so that the points count as fewer: by the integrated correlation of the best one's misses.
    Where one model speaks of the loss alone, all are compared on the loss alone.
    """
    n = min(r.misses.size for r in found)
    raw = [nq.log_likelihood(r.misses[:n]) for r in found]
    best = found[int(np.argmax(raw))].misses[:n]
    lag = float(np.corrcoef(best[:-1], best[1:])[0, 1]) if best.size > 3 and np.ptp(best) > 0.0 else 0.0
    lag = float(np.clip(np.nan_to_num(lag), 0.0, 0.9))
    fewer = (1.0 - lag) / (1.0 + lag)
    price = 0.5 * np.log(max(obs.loss.size * fewer, 2.0))
    priors = {HEALTHY: 0.0, NOISE_FLOOR: 0.0, NOT_APPLIED: 2.0 * PRIOR}
    prior = np.array([priors.get(r.name, PRIOR) for r in found])
    score = prior + np.array([fewer * value - price * r.n_free for value, r in zip(raw, found, strict=True)])
    share = np.exp(score - score.max())
    share /= share.sum()
    made = []
    for k in np.argsort(-score, kind="stable"):
        rival = found[int(k)]
        error = _error(obs, rival.loss)
        curve = Curve(rival.name, "reproduced", middle_of(m, obs), rival.loss)
        made.append(Hypothesis(rival.code, rival.name, float(score[k]), float(share[k]), error, curve, rival.note))
    return made


def _error(obs: nq.Observation, loss: FloatArray) -> float:
    """Return the median distance of a course to the logged loss, decades."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(np.median(np.abs(np.log10(loss) - np.log10(obs.loss))))


def noise_share(obs: nq.Observation, fit: nq.Fit) -> FloatArray:
    """Return the share of the loss at the end that noise feeds, (n_draws,)."""
    by_source, floor = _at_the_end(obs, fit)
    fed = by_source[:, 1:3].sum((1, 2))
    return np.asarray(fed / np.maximum(by_source.sum((1, 2)) + floor, 1e-300))


def _at_the_end(obs: nq.Observation, fit: nq.Fit) -> tuple[FloatArray, FloatArray]:
    """Return what start, constant noise and echoing noise make of the loss at the end, (n_draws, 3, n_modes), and the floor."""
    rate = nq.recorded_rate(obs, fit.root)
    if fit.dynamics.rate_factor is not None:
        rate = rate * fit.dynamics.rate_factor
    end = nq.columns(obs, rate, fit.curvature, fit.dynamics)[0][-max(1, obs.loss.size // 6) :].mean(0)
    return end[:3] * np.stack((fit.energy, fit.noise, fit.echo), axis=1), fit.floor


def _roots(obs: nq.Observation) -> tuple[list[float] | None, list[float]]:
    """Return the values of `root` under which eps is the smaller part of the denominator, and those under which it is the larger.

    None and none where the optimizer does not divide, or its gradients are not known.
    """
    if not obs.spec.is_adaptive or obs.grad_sq is None:
        return None, []
    shares = [_share_at(obs, float(root)) for root in nq.ROOTS]
    light = [float(r) for r, share in zip(nq.ROOTS, shares, strict=True) if share < EPS_SHARE]
    return light, [float(r) for r, share in zip(nq.ROOTS, shares, strict=True) if share >= EPS_SHARE]


def _share_at(obs: nq.Observation, root: float) -> float:
    """Return the share of eps in the denominator, median over the run."""
    with np.errstate(divide="ignore", invalid="ignore"):
        below = obs.lr / nq.recorded_rate(obs, root)
    return float(np.nanmedian((obs.spec.eps or 0.0) * root / below))


def _recorded(obs: nq.Observation, fit: nq.Fit) -> nq.Settings:
    return nq.Settings(obs.spec, fit.dynamics.form, fit.dynamics.limit, obs.lr, seen=fit.dynamics.seen)


def _beyond(obs: nq.Observation, fit: nq.Fit) -> float:
    """Return the share of the loss at the end in modes that lie beyond the stability limit somewhere, of the best fit."""
    beyond = fit.curvature * nq.recorded_rate(obs, fit.root).max() > fit.dynamics.limit
    by_source, floor = _at_the_end(obs, fit)
    return float(by_source[0][:, beyond].sum() / max(by_source[0].sum() + floor[0], 1e-300))


def _kicks(m: Measurements, obs: nq.Observation) -> tuple[int, ...]:
    """Return the stretches at which the loss jumps up: the highest spikes."""
    value = np.log(np.maximum(m.loss.value, 1e-300))
    at = spikes(value, 8.0)
    at = at[at > 0]
    if at.size == 0:
        return ()
    highest = at[np.argsort(-value[at], kind="stable")][:MAX_KICKS]
    stretch = np.searchsorted(obs.edge, m.loss.step[highest] - m.loss.step[0], side="right") - 1
    return tuple(int(k) for k in np.unique(np.clip(stretch, 1, obs.loss.size - 1)))


def _norm_at(m: Measurements, obs: nq.Observation, stretch: int) -> float:
    """Return the highest gradient norm about a stretch, infinity where none was logged."""
    if not m.has("grad_norm"):
        return float("inf")
    first = m.loss.step[0]
    near = (m.grad_norm.step >= first + obs.edge[stretch - 1]) & (m.grad_norm.step < first + obs.edge[stretch + 1])
    return float(m.grad_norm.value[near].max()) if near.any() else float("inf")


def _transients(m: Measurements, obs: nq.Observation) -> Iterator[tuple[str, str, FloatArray]]:
    """Yield what a resume may have done to the rate: moments lost, or the step count lost (Adam), at each restart.

    The second moment is run again over the recorded norms with and without. With zeroed moments m is too small by
    1 - beta1**n after n steps; with the step reset and the moments kept, the bias correction divides what needs none.
    """
    first = int(m.loss.step[0])
    restarts = [s for s in m.run.restarts if first < s < m.loss.step[-1]]
    if not restarts or not obs.spec.is_adam or obs.grad_sq is None:
        return
    norm, end = np.sqrt(obs.grad_sq), obs.edge[1:] - 1
    kept = second_moment(norm, end, obs.spec)
    beta1 = 0.9 if obs.spec.beta1 is None else obs.spec.beta1
    middle = (obs.edge[1:] + obs.edge[:-1]) / 2.0
    since = np.stack([middle - (restart - first) for restart in restarts])
    since = np.where(since > 0.0, since, np.inf).min(axis=0)
    bias1 = np.where(np.isfinite(since), 1.0 - beta1 ** np.maximum(since, 1.0), 1.0)
    at = ", ".join(f"{s:,}" for s in restarts)
    kinds: tuple[tuple[str, ResumeKind, FloatArray, str], ...] = (
        ("optimizer-state-lost", "moments-lost", bias1, f"moments zeroed, step count kept, at step {at}"),
        ("step-count-lost", "step-reset", 1.0 / bias1, f"moments kept, step count reset, at step {at}"),
    )
    for name, kind, first_moment, note in kinds:
        v = second_moment(norm, end, obs.spec, [Resume(restart - first, kind) for restart in restarts])
        yield name, note, first_moment * np.sqrt(kept / v)


def _other_schedules(m: Measurements, obs: nq.Observation, schedule: Schedule | None) -> Iterator[tuple[str, str, FloatArray]]:
    """Yield the courses that the learning rate may have taken instead: what a schedule that errs does to the rate.

    Where the rate was logged, the optimizer may never have got it; where it was not, it may have followed the config, each
    step or (called once a batch where epochs were meant) as much faster.
    """
    if obs.lr.max() > VARIES * obs.lr[obs.lr > 0.0].min(initial=np.inf):
        constant = np.divide(obs.lr.max(), obs.lr, out=np.ones_like(obs.lr), where=obs.lr > 0.0)
        yield NOT_APPLIED, "the logged rate never reached the optimizer: constant", constant
    if schedule is None or m.has("learning_rate"):
        return
    middle = m.loss.step[0] + (obs.edge[1:] + obs.edge[:-1]) / 2.0
    per_epoch = steps_per_epoch(m.run)
    courses = [("schedule-followed", "the configured schedule", 1.0)]
    if per_epoch is not None and per_epoch > 1.0:
        courses.append(("schedule-stepped-too-often", f"the schedule called {per_epoch:.0f} times an epoch", per_epoch))
    for name, note, faster in courses:
        rate = schedule(np.asarray(middle * faster, dtype=np.int64))
        if np.all(np.isfinite(rate)) and rate.max() > VARIES * max(rate.min(), 0.0):
            yield name, note, rate / obs.lr


def _simulated(m: Measurements, obs: nq.Observation, code: str, name: str, replay: Replay) -> Rival:
    """Return a cause with a model of its own; before that begins, the log is taken as given."""
    assert replay.reproduced is not None
    shown, at = replay.reproduced, middle_of(m, obs)
    log = np.interp(at, shown.step, np.log(np.clip(shown.value, 1e-300, 1e300)))
    inside = (at >= shown.step[0]) & (at <= shown.step[-1])
    loss = np.where(inside, np.exp(log), obs.loss)
    return Rival(code, name, nq.misses(obs, loss), OWN_FREE, loss, None, replay.model)


def middle_of(m: Measurements, obs: nq.Observation) -> IntArray:
    """Return the steps that the stretches stand for."""
    lengths = np.diff(obs.edge)
    return np.asarray(m.loss.step[0] + obs.edge[:-1] + np.floor(obs.place * lengths), dtype=np.int64)


def _fitted(
    obs: nq.Observation, code: str, name: str, note: str, dynamics: nq.Dynamics, roots: Sequence[float] | None
) -> Rival | None:
    """Return a cause by what its best model makes of the run on its own, closed loop: the fit itself was led by the log.

    Noise that goes with the loss feeds on itself in a closed loop; the model without is taken where that is nearer the log.
    """
    best: Rival | None = None
    for fit in nq.fits_with_and_without_echo(obs, dynamics, n_draws=N_DRAWS, roots=roots):
        first = nq.best_of(fit)
        course = nq.simulate(obs, first, [_recorded(obs, first)])
        misses = nq.misses(obs, course.loss[0, 0], course.grad_sq[0, 0])
        if best is None or nq.log_likelihood(misses) > nq.log_likelihood(best.misses):
            best = Rival(code, name, misses, fit.n_free, course.loss[0, 0], fit, note)
    return best
