"""Reproduce a second-moment collapse from the log, then search for the smallest change that repairs it.

The order is fixed: fit, reproduce, and only then try. What is tried is replayed from the start of the log, with its own
second moment, because a segment's start already holds the state that the old settings left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import Curve, Fix, Replay, ReplayResult, Segment, Trial, TrialVerdict
from traindoctor.optim.stability import stability_limit
from traindoctor.replay.candidates import Candidate, candidate_of, title_of
from traindoctor.replay.closed_loop import MAX_FINE_STEPS, N_COORDINATES, Fit, Recording, simulate
from traindoctor.replay.verdict import course, judge
from traindoctor.signals.changes import Rebound, first_above
from traindoctor.signals.robust import log_floored, running_median
from traindoctor.signals.second_moment import second_moment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from traindoctor.model import FloatArray, IntArray, OptimizerSpec
    from traindoctor.signals.measurements import Measurements

#: Decades by which the reproduced loss may miss the logged one, median over the segment. One decade in a rise of eight
#: tells a level from its neighbours; disturbed training is chaotic, and two float orders of one script differ by a third
#: of a decade in the median (measured: the same script with its rows permuted).
BOUND_DECADES = 1.0
#: How far the reproduced onset may lie from the logged one, as a fraction of the onset.
BOUND_ONSET = 0.15
#: Of the fits of other unevenness so many that reproduce the run within the bounds are kept as posterior draws (approximate
#: Bayesian computation: Marin, Pudlo, Robert and Ryder 2012, Statistics and Computing 22, algorithm 1).
N_DRAWS = 2
#: In the order in which changes are shown.
VERDICTS: tuple[TrialVerdict, ...] = ("repairs", "postpones", "no effect", "worse", "not tried")
#: Note of a change that repairs on the replay, but only just.
NO_MARGIN = "too close to call: it repairs on the replay, but a little nearer the stability limit it no longer does"
#: A change repairs with a margin when it still does where the iteration is this much nearer its limit: retrained runs met the
#: limit at up to this much less than their replay (benchmarks/replay_agreement, tuning part).
MARGIN = 1.5
#: An eps this many times the sufficient one slows a descent by an amount that the log does not show: the coordinates with the
#: smallest second moment, which it slows most, are not seen in a norm.
FAR_EPS = 20.0
#: Values of unevenness that are tried.
UNEVENNESS = (0.25, 0.5, 0.7, 0.85, 1.0)
#: Points at which a simulated curve is searched for its onset, and judged.
ONSET_POINTS = 1_500
#: A miss of more than this many bounds is not mended by another realisation.
FAR = 3.0
#: Realisations of the model's random directions that are tried before the replay refuses; one less for a log that is longer
#: than what is simulated step by step, to keep a diagnosis within seconds.
N_REALISATIONS = 3
#: Why no eps is offered where the gradient norm was not logged.
NO_EPS = (
    "its size cannot be worked out from the loss alone: g² is proportional to the loss above its floor, but by an unknown "
    "factor, and eps counts against √v̂ in units of the gradient; log the gradient norm"
)
MODEL = f"noisy quadratic, {N_COORDINATES} coordinates, the run's own optimizer; three fitted numbers"


def replay_collapse(m: Measurements, changes: Sequence[Mapping[str, object]] = (), *, auto: bool = True) -> Replay | None:
    """Return the replay of a late rebound under an adaptive optimizer, or None when there is none to replay.

    Tried are the `changes` of settings, and with `auto` the usual ones. The replay refuses (with the reason) when the log is
    too coarse, the optimizer is not an adaptive one, or the reproduced curve misses its bound.
    """
    rebound, spec = m.loss.rebound, m.run.optimizer
    if rebound is None or spec is None or not spec.is_adaptive:
        return None
    loss = m.loss
    segment = Segment(rebound.onset, int(loss.step[-1]) + 1, rebound.onset)
    observed = Curve(f"logged {loss.tag}", "observed", loss.step, loss.value)

    def refuse(reason: str) -> Replay:
        return Replay("closed", MODEL, segment, observed, None, None, float("nan"), BOUND_DECADES, False, reason)

    if m.run.step_unit != "step":
        return refuse(f"one value per {m.run.step_unit}: the optimizer's steps in between are not known")
    if loss.n - rebound.onset_index < 6:
        return refuse("fewer than six points after the onset")
    if max(spec.beta1 or 0.0, spec.beta2 or 0.0, spec.alpha or 0.0) >= 1.0:
        return refuse("a decay rate of 1: the recurrence is not defined")
    if not np.all(m.lr_at(loss.step) > 0.0):
        return refuse("a learning rate that is not above zero")
    recording = _record(m, rebound, spec)
    stop = int(loss.step[-1]) + 1
    base = Candidate("as recorded", {}, spec)
    for seed in range(N_REALISATIONS if stop <= MAX_FINE_STEPS else N_REALISATIONS - 1):
        fits, found = _fit(recording, base, rebound, stop, seed)
        if not (reason := found.reason(rebound)) or found.is_far(rebound):
            break
    trials: tuple[Trial, ...] = ()
    if not reason:
        usual = usual_changes(recording, m.setting("batch_size")) if auto else ()
        trials = _trials(m, recording, base, fits, stop, [*changes, *usual])
    return Replay(
        "closed",
        MODEL,
        segment,
        observed,
        found.shown,
        found.residual,
        found.error,
        BOUND_DECADES,
        not reason,
        reason,
        trials,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Reproduction:
    """The run as the model makes it: curve and residual at the logged steps, median error in decades, onset."""

    shown: Curve
    residual: Curve
    error: float
    onset: int | None

    def reason(self, rebound: Rebound) -> str:
        """Why this is not the logged run, "" when it is."""
        if self.misses(rebound) > 1.0:
            where = "not at all" if self.onset is None else f"at step {self.onset:,}"
            return f"the replay leaves the floor {where}, the log at step {rebound.onset:,}"
        if self.error > BOUND_DECADES:
            return f"the replay misses the logged loss by {self.error:.1f} decades in the median, its bound is {BOUND_DECADES:g}"
        return ""

    def misses(self, rebound: Rebound) -> float:
        """Distance of the onsets in bounds."""
        return np.inf if self.onset is None else abs(self.onset - rebound.onset) / (BOUND_ONSET * max(rebound.onset, 1))

    def is_far(self, rebound: Rebound) -> bool:
        """Whether another realisation will not mend it."""
        return self.misses(rebound) > FAR or self.error > FAR * BOUND_DECADES


def _reproduce(recording: Recording, base: Candidate, rebound: Rebound, fits: Fit, stop: int) -> list[_Reproduction]:
    """Return the run under each of some fits."""
    n = np.size(fits.scale)
    simulation = simulate(recording, [base] * n, fits, stop=stop)
    at = recording.step[recording.step >= simulation.step[0]] - simulation.step[0]
    made = []
    for k in range(n):
        shown = Curve("replay, as recorded", "reproduced", simulation.step[at], simulation.loss[at, k])
        made.append(_Reproduction(shown, *_compare(shown, recording.step, recording.loss, rebound)))
    return made


def sufficient_eps(recording: Recording) -> float:
    """Return lr * lambda / limit: the eps that keeps the iteration stable whatever v does."""
    return float(recording.lr.max()) * recording.curvature / stability_limit(recording.spec)


def _trials(
    m: Measurements,
    recording: Recording,
    base: Candidate,
    draws: Fit,
    stop: int,
    changes: Sequence[Mapping[str, object]],
) -> tuple[Trial, ...]:
    """Return the recorded settings and every change, judged on the best of the fits and on the others: the posterior draws."""
    made = [candidate_of(change, m) for change in changes]
    able = [c for c in made if isinstance(c, Candidate)]
    if not recording.absolute:
        able = [c for c in able if not {"optimizer.eps", "gradient.clip_norm"} & set(c.settings)]
    tried = [base, *able]
    nearer = [replace(c, lr_factor=MARGIN * c.lr_factor) for c in tried]
    n_draws = draws.scale.size
    which = np.repeat(np.append(np.arange(n_draws), 0), len(tried))
    spread = Fit(draws.scale[which], draws.unevenness[which], draws.noise, draws.seed)
    simulation = simulate(recording, [*tried * n_draws, *nearer], spread, stop=stop)
    at = recording.step[recording.step >= simulation.step[0]] - simulation.step[0]
    step, loss = simulation.step[at], simulation.loss[at].reshape(at.size, n_draws + 1, len(tried))
    initial = float(recording.loss[0])
    thin = max(1, step.size // ONSET_POINTS)
    courses = [[course(step[::thin], loss[::thin, d, k], initial=initial) for k in range(len(tried))] for d in range(n_draws + 1)]
    late = np.nan_to_num(loss[-max(1, step.size // 6) :], nan=np.inf)
    highest = late.max(axis=0)
    slower = simulation.descended[: len(tried)] / max(float(simulation.descended[0]), 1.0)
    trials = {}
    for k, candidate in enumerate(tried):
        said = [judge(courses[d][0], courses[d][k]) for d in range(n_draws)]
        verdict: TrialVerdict = said[0].verdict if candidate is not base else "no effect"
        note = said[0].note
        if verdict == "repairs" and judge(courses[0][0], courses[-1][k]).verdict != "repairs":
            verdict, note = "not tried", NO_MARGIN
        if recording.absolute and (candidate.spec.eps or 0.0) > FAR_EPS * sufficient_eps(recording):
            verdict, note = "not tried", "so large that the pace of the descent is not known from the log"
        if verdict != "repairs" and candidate.lr_factor < 1.0 and said[0].slower is None:
            verdict, note = "not tried", "on its way still at the end: how long a descent takes at this rate is not in the log"
        trials[id(candidate)] = Trial(
            candidate.title,
            candidate.settings,
            verdict,
            float(highest[0, k]),
            float(slower[k]) if np.isfinite(slower[k]) and (said[0].slower is not None or candidate is base) else None,
            Curve(
                candidate.title,
                "counterfactual",
                step,
                loss[:, 0, k],
                low=loss[:, :n_draws, k].min(axis=1) if n_draws > 1 else None,
                high=loss[:, :n_draws, k].max(axis=1) if n_draws > 1 else None,
                interval=f"range of the {n_draws} fits that reproduce the run" if n_draws > 1 else "",
            ),
            note,
            tail_interval=(float(highest[:n_draws, k].min()), float(highest[:n_draws, k].max())),
            sureness=float(np.mean([(j.verdict == "repairs") == (said[0].verdict == "repairs") for j in said])),
        )
    none = Curve("", "counterfactual", step[:0], loss[:0, 0, 0])
    untried = [
        Trial(title_of(change), change, "not tried", float("nan"), None, none, c if isinstance(c, str) else NO_EPS)
        for change, c in zip(changes, made, strict=True)
        if isinstance(c, str) or id(c) not in trials
    ]
    return (*(trials[id(c)] for c in tried), *untried)


def _record(m: Measurements, rebound: Rebound, spec: OptimizerSpec) -> Recording:
    loss = m.loss
    value = np.maximum(loss.value, 1e-300)
    calm = (loss.step >= rebound.quiet) & (loss.step < rebound.onset)
    curvature = m.curvature_after
    absolute = bool(np.isfinite(curvature))
    if absolute:
        grad = np.interp(loss.step, m.grad_norm.step, m.entering_norm)
    else:
        curvature = 1.0
        grad = np.sqrt(2.0 * np.maximum(value - rebound.floor, 0.1 * rebound.floor))
    noise = float(np.median(grad[calm])) if calm.any() else float(grad[rebound.onset_index])
    return Recording(
        step=loss.step,
        loss=value,
        grad_norm=np.maximum(grad, 1e-300),
        lr=np.maximum(m.lr_at(loss.step), 1e-300),
        spec=spec,
        quiet=rebound.quiet,
        floor=min(max(float(np.min(running_median(value, max(3, loss.n // 40)))), 0.1 * rebound.floor), 0.8 * rebound.floor),
        noise=max(noise, 1e-300),
        curvature=curvature,
        absolute=absolute,
    )


def _onset(step: IntArray, loss: FloatArray, rebound: Rebound) -> int | None:
    """Return when a curve leaves the recorded floor, by the rule of `changes.rebound`."""
    thin = max(1, step.size // ONSET_POINTS)
    step, loss = step[::thin], loss[::thin]
    with np.errstate(invalid="ignore"):
        log = np.where(np.isfinite(loss), np.log10(np.maximum(loss, 1e-300)), 300.0)
    late = step > rebound.quiet
    smooth = running_median(log[late], max(3, step.size // 60))
    rise = first_above(smooth, np.log10(rebound.floor) + rebound.decades / 6.0, max(2, step.size // 100))
    return None if rise is None else int(step[late][rise])


def _fit(recording: Recording, base: Candidate, rebound: Rebound, stop: int, seed: int) -> tuple[Fit, _Reproduction]:
    """Return the best fit, followed by others that reproduce the run as well, and what the best makes of the run.

    For each unevenness it is the scale whose onset lies nearest the logged one, then the best of these. The scale is searched
    over two decades about its value for coordinates that are all alike, in three rounds; the unevenness by the error of the
    envelope over the whole segment. After the first round the noise is set so that the simulated floor is as high as the
    logged one.
    """
    energy = float(second_moment(recording.grad_norm, recording.step, recording.spec)[rebound.onset_index])
    lr = float(recording.lr[rebound.onset_index])
    alike = stability_limit(recording.spec) * np.sqrt(energy / N_COORDINATES) / (lr * recording.curvature)
    uneven = np.array(UNEVENNESS)
    centers = np.full(uneven.size, alike / 2.0)
    noise = recording.noise
    until = min(stop, int(rebound.onset * (1.0 + 2.0 * BOUND_ONSET)) + 50)
    late = (rebound.quiet + rebound.onset) // 2
    stride = max(1, int(np.median(np.diff(recording.step))))
    width = 1.0
    for n_scales, begin in ((9, late), (5, rebound.quiet), (5, rebound.quiet)):
        scales = centers[:, None] * 10.0 ** np.linspace(-width, width, n_scales)
        fits = Fit(scales.ravel(), np.repeat(uneven, n_scales), noise, seed)
        simulation = simulate(recording, [base] * scales.size, fits, begin=begin, stop=until)
        onsets = [_onset(simulation.step[::stride], simulation.loss[::stride, k], rebound) for k in range(scales.size)]
        miss = np.reshape([abs((until if o is None else o) - rebound.onset) for o in onsets], scales.shape)
        best = np.argmin(miss, axis=1)
        centers = scales[np.arange(uneven.size), best]
        width *= 1.2 / (n_scales - 1)
        if noise == recording.noise:
            columns = np.arange(uneven.size) * n_scales + best
            calm = simulation.loss[simulation.step < 0.9 * rebound.onset][:, columns]
            free = float(np.nanmedian(calm)) - recording.floor if np.isfinite(calm).any() else 0.0
            noise *= float(np.clip(np.sqrt((rebound.floor - recording.floor) / free), 0.1, 1.0)) if free > 0.0 else 1.0
    made = _reproduce(recording, base, rebound, Fit(centers, uneven, noise, seed), stop)
    chosen = int(np.argmin([r.error / BOUND_DECADES + min(r.misses(rebound), 1e3) for r in made]))
    others = [k for k in np.argsort([r.error for r in made]) if k != chosen and not made[k].reason(rebound)][:N_DRAWS]
    kept = [chosen, *others]
    return Fit(centers[kept], uneven[kept], noise, seed), made[chosen]


def usual_changes(recording: Recording, batch_size: object = None) -> list[dict[str, object]]:
    """Return what is tried: a ladder of eps about the sufficient one, the usual advice, and every other lever."""
    spec = recording.spec
    tried: list[dict[str, object]] = []
    if recording.absolute:
        sufficient = sufficient_eps(recording)
        ladder = {nice_above(sufficient * 2.0**k) for k in range(-6, 4)} | {1e-4, 1e-3, 1e-2, 0.1, 1.0}
        tried += [{"optimizer.eps": eps} for eps in sorted(ladder) if eps > (spec.eps or 0.0)]
    if spec.is_adam and not spec.amsgrad:
        tried.append({"optimizer.amsgrad": True})
    lr = spec.lr or float(recording.lr.max())
    tried += [{"optimizer.lr": float(f"{lr * factor:.2g}")} for factor in (0.5, 0.3, 0.1, 0.01)]
    tried += [{"schedule.name": "linear"}, {"schedule.name": "cosine"}, {"schedule.warmup_steps": _warmup(spec)}]
    if spec.is_adam:
        tried += [{"optimizer.betas": [spec.beta1, beta2]} for beta2 in (0.99, 0.9999) if beta2 != spec.beta2]
        tried += [{"optimizer.betas": [beta1, spec.beta2]} for beta1 in (0.5, 0.0) if beta1 != spec.beta1]
    if recording.absolute:
        late = recording.grad_norm[recording.step >= recording.quiet]
        tried.append({"gradient.clip_norm": nice_above(float(np.quantile(late, 0.9)))})
    if isinstance(batch_size, int) and batch_size > 0:
        tried.append({"batch_size": 4 * batch_size})
    return tried


def _warmup(spec: OptimizerSpec) -> int:
    """Return the steps that the second moment needs to settle: 2 / (1 - beta2).

    Source: Ma and Yarats 2021, arXiv:1910.04209, abstract.
    """
    return round(2.0 / (1.0 - min(spec.beta2 or 0.999, 0.9999)))


def nice_above(value: float) -> float:
    """Return the smallest of 1, 2 or 5 times a power of ten that is not below `value` (within a millionth)."""
    power = 10.0 ** np.floor(np.log10(value))
    return next(float(f"{k * power:.3g}") for k in (1.0, 2.0, 5.0, 10.0) if k * power >= value * (1.0 - 1e-6))


def _compare(shown: Curve, step: IntArray, loss: FloatArray, rebound: Rebound) -> tuple[Curve, float, int | None]:
    """Return the residual in decades, its median over the segment, and the onset of the reproduced curve.

    Compared are the envelopes, the highest loss within a tenth of the segment: when a burst comes is chaos, how high the
    bursts go is not.
    """
    window = max(3, int((step.size - rebound.onset_index) // 10))
    logged = loss[step >= shown.step[0]]
    residual = _envelope(shown.value, rebound, window) - _envelope(logged, rebound, window)
    late = shown.step >= rebound.onset
    curve = Curve("reproduced over logged, decades", "reproduced", shown.step, residual)
    return curve, float(np.median(np.abs(residual[late]))), _onset(shown.step, shown.value, rebound)


def _envelope(value: FloatArray, rebound: Rebound, window: int) -> FloatArray:
    """Return log10 of the highest value within `window` points about each point, floored a decade below the floor."""
    from scipy.ndimage import maximum_filter1d

    log = log_floored(np.nan_to_num(value, nan=np.inf, posinf=1e300), rebound.floor * 0.1)
    return np.asarray(maximum_filter1d(log, window // 2 * 2 + 1, mode="nearest"))


def repairs(replay: Replay) -> list[Trial]:
    """Return the trials that repaired, the smallest change first.

    The order is by margin, how much slower they are, settings before schedules, and their tail loss. Of the values of
    eps only one is kept, and leads: the smallest that repairs with the margin `MARGIN`, and above which all do.
    """
    ladder = sorted((t for t in replay.trials if "optimizer.eps" in t.settings), key=_eps)
    good = [t for t in ladder if t.verdict == "repairs"]
    failing = [_eps(t) for t in ladder if t.verdict != "repairs"]
    chosen: list[Trial] = []
    if good:
        above = [t for t in good if all(_eps(t) > f for f in failing if f < _eps(good[-1]))]
        chosen = [above[0] if above else good[-1]]
    rates = [t for t in replay.trials if t.verdict == "repairs" and "optimizer.lr" in t.settings]
    rates = [t for t in rates if not t.note] or rates
    others = [t for t in replay.trials if t.verdict == "repairs" and not {"optimizer.eps", "optimizer.lr"} & set(t.settings)]
    # within a tenth of the pace a setting of the optimizer comes before a schedule, which the script has to know
    return chosen + sorted(
        others + rates[:1], key=lambda t: (bool(t.note), round(t.slower or np.inf, 1), "schedule.name" in t.settings, t.tail_max)
    )


def _eps(trial: Trial) -> float:
    return float(str(trial.settings["optimizer.eps"]))


def tried_fixes(replay: Replay, spec: OptimizerSpec) -> list[Fix]:
    """Return every change that was tried as a fix with its verdict: those that repair first, the smallest change leading."""
    good = repairs(replay)
    rest = [t for t in replay.trials[1:] if t not in good]
    rest.sort(key=lambda t: VERDICTS.index(t.verdict))
    fixes = [
        Fix(_imperative(t.settings, spec), t.settings, replay=_result(t, replay.trials[0]), note=t.note) for t in (*good, *rest)
    ]
    if spec.is_adaptive and not any("optimizer.eps" in t.settings for t in replay.trials):
        fixes.insert(len(good), Fix("Raise eps", note=NO_EPS))
    return fixes


def _imperative(settings: Mapping[str, object], spec: OptimizerSpec) -> str:
    """Return a change as an order, with old and new value."""
    (key, value), *more = settings.items()
    if more:
        return f"Set {title_of(settings, spec)}"
    was = getattr(spec, key.partition(".")[2], None)
    match key, value:
        case (("optimizer.eps" | "optimizer.lr"), int() | float()):
            name = key.partition(".")[2]
            return (
                f"{'Raise' if value > was else 'Lower'} {name} from {was:g} to {value:g}"
                if was is not None
                else f"Set {name} to {value:g}"
            )
        case "optimizer.amsgrad", True:
            return "Turn amsgrad on"
        case "optimizer.betas", [beta1, beta2]:
            return f"Set betas to {beta1:g} and {beta2:g}"
        case "gradient.clip_norm", int() | float():
            return f"Clip the gradient norm at {value:g}"
        case "gradient.zero_grad", True:
            return "Clear the gradients before each backward pass"
        case "schedule.warmup_steps", int():
            return f"Warm the learning rate up over {value} steps"
        case "schedule.name", ("linear" | "cosine"):
            return f"Let the learning rate decay to 0 ({value})"
    return f"Set {title_of(settings, spec)}"


def _result(trial: Trial, base: Trial) -> ReplayResult:
    return ReplayResult("closed", trial.verdict, {"tail_loss_max": base.tail_max}, {"tail_loss_max": trial.tail_max}, trial.note)
