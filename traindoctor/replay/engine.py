"""The replay of a run: which cause makes the log, and what each change of settings would have done.

A cause with a model of its own is replayed by that: the collapse of the second moment (`cure.py`), the exponential divergence
of SGD (`divergence.py`). Any other run goes to the noisy quadratic. All causes that can be simulated are compared on the same
log (`rivals.py`), and the likeliest answers, if it reproduces the run.

What the noisy quadratic may answer is bounded by what the log has seen. A change is decided only where

- the effective learning rate stays within a factor `FARTHEST` of the recorded one: beyond, nothing was seen;
- it does not rise while the loss is held up by a floor, or by noise: what lies below the floor, and how steep it is there, is
  not in the log;
- `SURE` of the posterior draws, over all hypotheses that hold more than `CANDIDATE` of the belief, say the same.

Everything else is "not tried", with the reason.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import Curve, Replay, Segment, Trial, TrialVerdict
from traindoctor.optim.stability import stability_limit
from traindoctor.replay import noisy_quadratic as nq
from traindoctor.replay.candidates import Candidate, candidate_of, title_of
from traindoctor.replay.cure import replay_collapse
from traindoctor.replay.divergence import replay_divergence
from traindoctor.replay.modes import linear_form
from traindoctor.replay.rivals import (
    HEALTHY,
    NOISE_FLOOR,
    ON_THE_LIMIT,
    Rival,
    accumulating,
    middle_of,
    noise_share,
    observation,
    rivals,
    weigh,
)
from traindoctor.replay.verdict import Course, course, judge, scaled

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from traindoctor.model import FloatArray, Hypothesis, IntArray
    from traindoctor.replay.rivals import Schedule
    from traindoctor.signals.measurements import Measurements

#: Decades by which the noisy quadratic, on its own, may miss the logged loss in the median over the run, and at its end.
BOUND_DECADES = 0.2
#: A rise of fewer decades than this is no collapse to be replayed: sound runs of the study stay below 1.5.
COLLAPSE_DECADES = 1.5
#: Factor on the effective learning rate beyond which nothing of the log speaks: how fast a descent would have gone that the
#: run made in a few steps is not seen (benchmarks/replay_agreement, tuning part).
FARTHEST = 5.0
#: Change of the effective learning rate that counts as none.
SAME = 0.05
#: Share of the posterior draws that have to agree, and belief from which a hypothesis has a say.
SURE, CANDIDATE = 0.9, 0.1
#: A run whose loss fell by less than this factor shows too little of its curvature.
FELL = 1.25
#: Factor by which the model's own error may move a loss: a verdict that turns within it is none.
ERROR = 1.25
#: Points at which a simulated course is judged.
EVEN_POINTS = 400
MODEL = "noisy quadratic, mean-field second moment, {n} modes; {name}"


@np.errstate(all="ignore")  # what overflows is infinite, and judged as that
def replay_run(
    m: Measurements,
    *,
    changes: Sequence[Mapping[str, object]] = (),
    auto: bool = True,
    cause: str = "",
    schedule: Schedule | None = None,
) -> Replay:
    """Return the replay of a run with its rival causes and its trials: the recorded settings first, then `changes`.

    `auto`: try the usual changes as well. `cause`: code that the signs in the log speak for, "" for none: a replay that needs
    no such cause is then no reproduction. `schedule`: the configured learning rate of steps, where one is configured.
    """
    collapse, divergence = None, replay_divergence(m, changes, auto=auto) if m.has("loss") else None
    if not m.has("loss"):
        return _refusal(m, "no training loss was logged")
    rebound = m.loss.rebound
    if rebound is not None and rebound.decades >= COLLAPSE_DECADES:
        collapse = replay_collapse(m, changes, auto=auto)
    obs = observation(m)
    if isinstance(obs, str):
        return next((r for r in (collapse, divergence) if r is not None), _refusal(m, obs))
    others = [("TD101", "second-moment-collapse", collapse), ("TD201", "learning-rate-too-high", divergence)]
    own = [(code, name, replay) for code, name, replay in others if replay is not None and replay.reproduces]
    found = rivals(m, obs, own, schedule)
    if not found:
        return _refusal(m, "no model of the run could be fitted")
    hypotheses = tuple(weigh(found, m, obs))
    first = hypotheses[0]
    for code, _, replay in own:
        if first.code == code and (collapse is replay or divergence is replay):
            return replace(replay, hypotheses=hypotheses)
    if cause == "TD101" and collapse is not None and not collapse.reproduces:
        return replace(collapse, hypotheses=hypotheses)
    return _quadratic(m, obs, found, hypotheses, changes, auto=auto, cause=cause)


@np.errstate(all="ignore")
def compared(m: Measurements, replay: Replay, code: str, name: str) -> Replay:
    """Return the replay of one cause with the causes that could have made the log as well, the likeliest first."""
    obs = observation(m)
    if isinstance(obs, str) or not replay.reproduces:
        return replay
    return replace(replay, hypotheses=tuple(weigh(rivals(m, obs, [(code, name, replay)]), m, obs)))


def _refusal(m: Measurements, reason: str) -> Replay:
    none = np.zeros(0, dtype=np.int64)
    observed = Curve("logged loss", "observed", none, np.zeros(0))
    segment = Segment(0, 0)
    if m.has("loss"):
        observed = Curve(f"logged {m.loss.tag}", "observed", m.loss.step, m.loss.value)
        segment = _segment(m)
    return Replay("closed", "none", segment, observed, None, None, float("nan"), BOUND_DECADES, False, reason)


def _segment(m: Measurements) -> Segment:
    return Segment(int(m.loss.step[0]), int(m.loss.step[-1]) + 1) if m.loss.n else Segment(0, 0)


def _quadratic(
    m: Measurements,
    obs: nq.Observation,
    found: Sequence[Rival],
    hypotheses: tuple[Hypothesis, ...],
    changes: Sequence[Mapping[str, object]],
    *,
    auto: bool,
    cause: str,
) -> Replay:
    """Return the replay by the likeliest noisy quadratic."""
    by_name = {r.name: r for r in found}
    standing = [(by_name[h.name], h.share) for h in hypotheses if h.share >= CANDIDATE and by_name[h.name].fit is not None]
    likeliest = next((by_name[h.name] for h in hypotheses if by_name[h.name].fit is not None), None)
    if likeliest is None or likeliest.fit is None:
        return _refusal(m, "no model of the run could be fitted")
    at = middle_of(m, obs)
    observed = Curve(f"logged {m.loss.tag}", "observed", m.loss.step, m.loss.value)
    shown = Curve("replay, as recorded", "reproduced", at, likeliest.loss)
    with np.errstate(divide="ignore", invalid="ignore"):
        residual = np.log10(likeliest.loss) - np.log10(obs.loss)
    error = float(np.median(np.abs(residual)))
    end = float(np.median(residual[-max(1, residual.size // 6) :]))
    model = MODEL.format(n=likeliest.fit.curvature.size, name=likeliest.name)
    reason = _reason(m, likeliest, error, end, cause)
    trials: tuple[Trial, ...] = ()
    if not reason:
        trials = _trials(
            m, obs, standing or [(likeliest, 1.0)], [*changes, *(_usual(m, adding_up=likeliest.code == "TD301") if auto else ())]
        )
    curve = Curve("reproduced over logged, decades", "reproduced", at, residual)
    return Replay(
        "closed", model, _segment(m), observed, shown, curve, error, BOUND_DECADES, not reason, reason, trials, hypotheses
    )


def _reason(m: Measurements, rival: Rival, error: float, end: float, cause: str) -> str:
    """Return why the likeliest model is no reproduction of the run, "" when it is one."""
    if not error <= BOUND_DECADES:
        return f"the replay misses the logged loss by {error:.1f} decades in the median, its bound is {BOUND_DECADES:g}"
    if not abs(end) <= BOUND_DECADES:
        return f"the replay misses the end of the log by {abs(end):.1f} decades, its bound is {BOUND_DECADES:g}"
    start = max(m.loss.initial, float(m.loss.value[0]))
    if m.loss.tail * FELL > start and rival.name in (HEALTHY, NOISE_FLOOR, "zero-grad-missing"):
        return f"the loss did not fall by a factor of {FELL:g}: the log shows too little of the curvature"
    explained = rival.code == cause or (cause == "TD201" and rival.name == NOISE_FLOOR)
    if cause in ("TD101", "TD201", "TD301") and not explained:
        return f"the replay makes this run without what the signs in the log speak for ({cause}): {rival.name} is likelier"
    return ""


def _usual(m: Measurements, *, adding_up: bool) -> list[Mapping[str, object]]:
    """Return what is tried unasked: learning rates, decays, eps, a larger batch, cleared gradients where they add up."""
    spec, lr = m.optimizer, m.peak_lr
    tried: list[Mapping[str, object]] = []
    if lr:
        tried += [{"optimizer.lr": float(f"{lr * factor:.2g}")} for factor in (3.0, 0.3, 0.1)]
    tried += [{"schedule.name": "linear"}, {"schedule.name": "cosine"}]
    if spec.is_adaptive and m.has("grad_norm"):
        tried += [{"optimizer.eps": eps} for eps in (1e-8, 1e-4, 1e-2, 1.0) if eps != spec.eps]
    batch = m.setting("batch_size")
    if isinstance(batch, int | float) and batch > 0:
        tried.append({"batch_size": int(4 * batch)})
    if adding_up:
        tried.append({"gradient.zero_grad": True})
    return tried


def _settings(candidate: Candidate, obs: nq.Observation, rival: Rival) -> nq.Settings:
    """Return a candidate as the noisy quadratic takes it, under a rival's dynamics."""
    assert rival.fit is not None
    dynamics = rival.fit.dynamics
    form = linear_form(candidate.spec)
    assert form is not None
    limit, seen = stability_limit(candidate.spec), dynamics.seen
    factor = np.ones(obs.loss.size)
    if seen == "b" and not candidate.clears_gradients:
        form, limit = accumulating(form, candidate.spec)[0], dynamics.limit
    elif seen == "b":
        factor, seen = factor / accumulating(form, candidate.spec)[1], "x"
    middle = (obs.edge[1:] + obs.edge[:-1] - 1) / 2.0
    lr = candidate.rate(middle, int(obs.edge[-1]), obs.lr) * factor
    return nq.Settings(candidate.spec, form, limit, lr, candidate.clip_norm, candidate.noise_factor, seen)


def _trials(
    m: Measurements, obs: nq.Observation, standing: Sequence[tuple[Rival, float]], changes: Sequence[Mapping[str, object]]
) -> tuple[Trial, ...]:
    """Return the recorded settings and every change, judged on all draws of the hypotheses that stand."""
    base = Candidate("as recorded", {}, obs.spec)
    made = [candidate_of(change, m) for change in changes]
    able = [c for c in made if isinstance(c, Candidate)]
    tried = [base, *able]
    at = middle_of(m, obs)
    weight: list[float] = []
    said: list[list[tuple[TrialVerdict, float]]] = [[] for _ in tried]
    bars: list[list[str]] = [[] for _ in tried]
    larger = [False] * len(tried)
    drawn: list[FloatArray] = []
    for rival, share in standing:
        assert rival.fit is not None
        settings = [_settings(c, obs, rival) for c in tried]
        steps = [_step_ratio(obs, rival, settings[0], s) for s in settings]
        larger = [was or step > 1.0 + SAME for was, step in zip(larger, steps, strict=True)]
        simulated = nq.simulate(obs, rival.fit, settings)
        n_draws = simulated.loss.shape[1]
        weight += [share / n_draws] * n_draws
        held = bool(np.mean(noise_share(obs, rival.fit) > 0.5) > 0.5) or _floor_share(obs, rival.fit) > 0.5
        for k in range(len(tried)):
            bars[k].append(_bar(obs, rival, settings[0], settings[k], steps[k], held=held))
            for d in range(n_draws):
                first, mine = (_even(at, simulated.loss[j, d]) for j in (0, k))
                judgement = judge(first, mine)
                verdict = judgement.verdict
                if any(
                    (judge(first, scaled(mine, f)).verdict == "repairs") != (verdict == "repairs") for f in (1.0 / ERROR, ERROR)
                ):
                    verdict = "not tried"
                said[k].append((verdict, mine.highest))
        drawn.append(simulated.loss)
    curves = drawn[0][:, 0]
    weights = np.array(weight) / np.sum(weight)
    low, high = _interval(np.concatenate(drawn, axis=1), weights)
    trials = {}
    for k, candidate in enumerate(tried):
        tails = np.array([tail for _, tail in said[k]])
        votes = {v: float(weights[[w == v for w, _ in said[k]]].sum()) for v in {w for w, _ in said[k]}}
        verdict = max(votes, key=lambda v: (votes[v], v))
        note = next((bar for bar in bars[k] if bar), "")
        # what matters is whether it repairs: draws that disagree on anything else do not make it undecided
        repairs, unsure = votes.get("repairs", 0.0), votes.get("not tried", 0.0)
        sureness = repairs if verdict == "repairs" else 1.0 - repairs - unsure
        if candidate is base:
            verdict, note = "no effect", ""
        elif note or sureness < SURE:
            note = note or "the draws do not agree, or turn within the model's own error: the log does not decide"
            verdict = "not tried"
        elif verdict != "repairs" and any(r.name in (NOISE_FLOOR, ON_THE_LIMIT) for r, _ in standing):
            note = "held up by noise or large steps, a network may find its way with smaller ones where a quadratic only slows"
            verdict = "not tried"
        elif verdict != "repairs" and larger[k]:
            note = "with larger steps than the recorded ones only a repair is claimed: how steep it gets is not in the log"
            verdict = "not tried"
        trials[id(candidate)] = Trial(
            candidate.title,
            candidate.settings,
            verdict,
            float(said[k][0][1]),
            None,
            Curve(
                candidate.title,
                "counterfactual",
                at,
                curves[k],
                low=low[k],
                high=high[k],
                interval=f"5 to 95 % of {weights.size} posterior draws",
            ),
            note,
            (float(np.quantile(tails, 0.05)), float(np.quantile(tails, 0.95))) if np.isfinite(tails).all() else None,
            sureness if candidate is not base else None,
        )
    none = Curve("", "counterfactual", at[:0], obs.loss[:0])
    untried = [
        Trial(title_of(change, obs.spec), change, "not tried", float("nan"), None, none, str(c))
        for change, c in zip(changes, made, strict=True)
        if isinstance(c, str)
    ]
    return (*(trials[id(c)] for c in tried), *untried)


def _interval(loss: FloatArray, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the 5th and the 95th percentile over weighted draws: `loss` (c, d, n), `weights` (d,) that add up to 1; both (c, n).

    The first draw at which that share of the weight is reached; a draw that overflowed counts as the highest.
    """
    loss = np.nan_to_num(loss, nan=np.inf)
    order = np.argsort(loss, axis=1)
    reached = np.cumsum(weights[order], axis=1)
    ranked = np.take_along_axis(loss, order, axis=1)
    low, high = (np.take_along_axis(ranked, np.argmax(reached >= q - 1e-9, axis=1)[:, None], axis=1)[:, 0] for q in (0.05, 0.95))
    return low, high


def _even(at: IntArray, loss: FloatArray) -> Course:
    """Return the figures of a simulated loss on stretches of unequal length, as of one that is logged evenly."""
    even = np.linspace(float(at[0]), float(at[-1]), EVEN_POINTS)
    log = np.interp(even, at, np.log(np.clip(loss, 1e-300, 1e300)))
    alive = np.interp(even, at, np.isfinite(loss).astype(np.float64)) == 1.0
    return course(even.astype(np.int64), np.where(alive, np.exp(log), np.inf))


def _floor_share(obs: nq.Observation, fit: nq.Fit) -> float:
    """Return the share of the loss at the end that the fit puts down to the floor."""
    return float(fit.floor[0] / np.median(obs.loss[-max(1, obs.loss.size // 6) :]))


def _step_ratio(obs: nq.Observation, rival: Rival, base: nq.Settings, tried: nq.Settings) -> float:
    """Return how large a candidate's steps are against the recorded ones: the median ratio of effective rates, open loop.

    The recorded gradients are fed to both; NaN where the recorded rate was zero.
    """
    assert rival.fit is not None
    with np.errstate(divide="ignore", invalid="ignore"):
        was, now = (_open_loop_rate(obs, s, rival.fit.root) for s in (base, tried))
        ratio = float(np.nanmedian(now / was))
    return ratio * (nq.gain_of(tried.form) / nq.gain_of(base.form) if base.seen == "x" else 1.0)


def _bar(obs: nq.Observation, rival: Rival, base: nq.Settings, tried: nq.Settings, ratio: float, *, held: bool) -> str:
    """Return why a candidate cannot be decided by what the log has seen, "" when nothing is in the way.

    `ratio`: of its steps to the recorded ones.
    """
    assert rival.fit is not None
    if base.seen == "b" and np.isfinite(tried.clip_norm):
        return "a clip of gradients that add up is not simulated"
    if not np.isfinite(ratio):
        return "the recorded learning rate was zero there"
    if ratio > 1.0 + SAME and held:
        return "a larger step would be taken where a floor, or noise, holds the loss up: what lies below is not in the log"
    now = _open_loop_rate(obs, tried, rival.fit.root)
    if not rival.fit.dynamics.capped and np.max(now) * rival.fit.curvature.max() > tried.limit:
        return "the steepest mode would pass its stability limit: whether its curvature gives way is not in the log"
    if not 1.0 / FARTHEST <= ratio <= FARTHEST:
        return f"the step would be {ratio:.2g} times the recorded one: too far from what the log has seen"
    return ""


def _open_loop_rate(obs: nq.Observation, settings: nq.Settings, root: float) -> FloatArray:
    """Return lr / denominator on each stretch, (n,), of settings under the recorded gradients, clipped where they clip."""
    if obs.grad_sq is None or not np.isfinite(settings.clip_norm):
        return nq.recorded_rate(replace(obs, spec=settings.spec, lr=settings.lr), root)
    held = np.minimum(1.0, settings.clip_norm / np.sqrt(obs.grad_sq))
    clipped = replace(obs, spec=settings.spec, lr=settings.lr, grad_sq=obs.grad_sq * held**2)
    return nq.recorded_rate(clipped, root) * held
