"""Which figures a run gets: the loss with its replay, the residual, the vital signs and the sparklines of the ladder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import Curve, RunReport, VitalSign
from traindoctor.report import wording as w
from traindoctor.report.figures import Domain, Limit, Line, Scale, nice, panel, scale_of, spark
from traindoctor.report.replaying import ABOVE, best_trial
from traindoctor.report.view import QUANTITIES, VALIDATION, RunView, bad_words, trial_of
from traindoctor.signals.thinning import whole_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from traindoctor.model import FloatArray, IntArray, Trial, Whole


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the page: a heading, what it shows in words, and the drawing; `railed`: marks stand above it."""

    name: str
    text: str
    svg: Markup
    height: int = 0
    railed: bool = False


@dataclass(frozen=True, slots=True)
class Plots:
    """The figures of one run; `loss` is None where no loss was logged."""

    loss: Figure | None
    residual: Figure | None
    signs: tuple[Figure, ...]
    sparks: tuple[Markup, ...]
    spark_range: str
    lede: str


def plots_of(report: RunReport, view: RunView, points: int = 600) -> Plots:
    """Return the figures of one run, each curve in at most about `points` buckets."""
    signs = report.vital_signs or _signs_of_the_log(report)
    domain = _domain(report, signs)
    loss_lines, notes = _loss_lines(report)
    loss = residual = None
    replay = report.replay
    has_residual = bool(replay and replay.residual is not None and replay.residual.step.size)
    scale = Scale(False, 0.0, 1.0)
    if loss_lines:
        scale = scale_of([line.value for line in loss_lines])
        observed = loss_lines[0]
        whole = _whole_of_the_loss(report)
        floor, zeros = _below_zero(observed.step, observed.value, scale, whole.n_not_positive)
        notes += [floor] if floor else []
        k = max(1, -(-whole.n // points))
        detail = f"median and range of {k} values" if k > 1 else "every value"
        loss_lines[0] = Line("observed", "observed", observed.step, observed.value, detail, band=True)
        drawn = panel(
            loss_lines,
            domain,
            scale,
            height=360 if scale.flat is None else 140,
            sentence=_loss_sentence(report, view, scale),
            points=points,
            hero=True,
            axis=not has_residual,
            zeros=zeros,
            end=_last_bad(observed.value),
        )
        words = _loss_words(observed.step, observed.value, report.run.step_unit, scale, whole)
        loss = Figure("Loss", " ".join([words, *notes]), drawn)
    if has_residual and replay is not None and replay.residual is not None:
        residual = _residual(report, replay.residual, replay.bound, domain, points)
    figures: list[Figure] = []
    for i, sign in enumerate(signs):
        above = figures[-1].height if figures else 0
        figures.append(_sign(sign, domain, report, points, last=i == len(signs) - 1, above=above))
    sparks, spark_range = _sparks(report, domain, scale)
    dotted = next((c.name for s in signs for c in s.curves if c.role == "counterfactual"), "")
    lede = f"Dotted: the same sign with {w.clean(dotted, 60).removeprefix('with ')}." if dotted else ""
    return Plots(loss, residual, tuple(figures), sparks, spark_range, lede)


# -- the shared axis ------------------------------------------------------------------------------------------------------


def _domain(report: RunReport, signs: Sequence[VitalSign]) -> Domain:
    run = report.run
    steps: list[IntArray] = [s.step for s in run.primary.values() if len(s)] or [s.step for s in run.series if len(s)]
    if report.replay is not None:
        steps.append(report.replay.observed.step)
    steps += [c.step for s in signs for c in s.curves]
    steps = [s for s in steps if s.size]
    first = float(min((s.min() for s in steps), default=0))
    last = float(max((s.max() for s in steps), default=1))
    if 0 < first <= 0.05 * last:
        first = 0.0
    last = _rounded_up(first, last)
    segment = onset = None
    others: list[tuple[int, str]] = []
    for i, finding in enumerate(report.findings):
        if finding.segment is None:
            continue
        at = finding.segment.start if finding.segment.onset is None else finding.segment.onset
        if segment is None and i == 0:
            segment, onset = (float(finding.segment.start), float(finding.segment.stop)), at
        elif at != onset and first <= at <= last:
            others.append((at, w.clean(finding.code, 20)))
    calm = report.verdict == "healthy"
    if not report.findings and report.replay is not None:
        onset = report.replay.segment.onset
    if onset is not None and not first <= onset <= last:
        onset = None
    return Domain(first, last, segment, None if calm else onset, run.step_unit, calm, run.restarts, tuple(others))


def _rounded_up(first: float, last: float) -> float:
    """Return the last step, or the round one just after it: a run of 6,000 steps ends at 5,999."""
    if last <= first:
        return last
    stride = nice((last - first) / 6)
    up = -(-last // stride) * stride
    return up if up - last <= 0.01 * (last - first) else last


def _loss_lines(report: RunReport) -> tuple[list[Line], list[str]]:
    run, replay = report.run, report.replay
    lines: list[Line] = []
    notes: list[str] = []
    logged = run.primary.get("loss")
    if logged is not None and len(logged):
        lines.append(Line("observed", "observed", logged.step, logged.value))
    elif replay is not None and replay.observed.step.size:
        lines.append(Line("observed", "observed", replay.observed.step, replay.observed.value))
    else:
        return [], []
    for quantity in VALIDATION:
        other = run.primary.get(quantity)
        if other is not None and len(other):
            lines.append(Line("second", "validation", other.step, other.value, f"tag {w.clean(other.tag, 40)}"))
            break
    if replay is None:
        return lines, notes
    if replay.reproduced is not None and replay.reproduced.step.size:
        word = "reproduced" if replay.reproduces else "not reproduced"
        made = {"open": "open-loop replay", "closed": "closed-loop replay", "exact": "the script run again"}.get(replay.depth, "")
        lines.append(Line("reproduced", word, replay.reproduced.step, replay.reproduced.value, made))
    if not replay.reproduces:
        if replay.reproduced is not None:
            notes.append("The replay misses the segment: no fix is claimed from it.")
        return lines, notes
    fixes = report.findings[0].fixes if report.findings else ()
    chosen = next((t for f in fixes[:1] if (t := trial_of(f, replay)) is not None), None)
    if not report.findings:  # a page of a replay alone
        chosen = best_trial(replay)
    if chosen is not None:
        lines.append(
            Line(
                "counterfactual",
                f"with {short(chosen)}",
                chosen.loss.step,
                chosen.loss.value,
                "replayed with the fix",
            )
        )
    return lines, notes


def short(trial: Trial) -> str:
    """Return a trial by its settings, short enough for a label: "eps 0.1"."""
    pairs = [f"{w.clean(key).rpartition('.')[2]} {w.setting(value)}" for key, value in trial.settings.items()]
    label = ", ".join(pairs)
    return label if label and len(label) <= 32 else w.clean(trial.title, 32)


def _whole_of_the_loss(report: RunReport) -> Whole:
    """Return what all points of the observed loss say; the diagnosis has one, or the replay."""
    logged = report.run.primary.get("loss")
    if (logged is None or not len(logged)) and report.replay is not None:
        return whole_of(report.replay.observed)
    assert logged is not None
    return whole_of(logged)


def _below_zero(step: IntArray, value: FloatArray, scale: Scale, n_below: int) -> tuple[str, list[int]]:
    if not scale.log:
        return "", []
    below = np.flatnonzero(value <= 0)
    if below.size == 0:
        return "", []
    where = [int(step[i]) for i in below[:: -(-below.size // 300)]]
    words = w.plural(n_below, "value is", "values are")
    return f"{words} zero, which a logarithmic axis cannot show: circles on the lower edge.", where


def _last_bad(value: FloatArray) -> str:
    """Return "NaN" where the curve ends in values that are not finite."""
    return "" if np.isfinite(value[-1]) else w.number(float(value[-1]))


def _loss_words(step: IntArray, value: FloatArray, unit: str, scale: Scale, whole: Whole) -> str:
    finite = np.flatnonzero(np.isfinite(value))
    if finite.size == 0:
        return "No finite value was logged."
    best = finite[int(np.argmin(value[finite]))]
    lowest, last = w.number(float(value[best])), w.number(float(value[finite[-1]]))
    end = (
        f"{last} at the end" if finite[-1] + 1 == value.size else f"last finite {last} at {unit} {w.count(int(step[finite[-1]]))}"
    )
    words = f"Lowest {lowest} at {unit} {w.count(int(step[best]))}, {end}."
    if whole.first_bad is not None:
        lost = w.plural(whole.n_nan + whole.n_infinite, "value is", "values are")
        words += f" {lost} not finite, first at {unit} {w.count(whole.first_bad)}."
    return words + (" Logarithmic scale." if scale.log else "")


def _loss_sentence(report: RunReport, view: RunView, scale: Scale) -> str:
    kind = "on a logarithmic scale" if scale.log else "on a linear scale"
    words = f"Loss of {view.name} over {view.extent}, {kind}. {view.lead} {view.rest}"
    bad = bad_words(whole_of(report.run.primary["loss"])) if "loss" in report.run.primary else ""
    return " ".join((words + (f" {bad}." if bad else "")).split())


def _residual(report: RunReport, curve: Curve, bound: float, domain: Domain, points: int) -> Figure:
    finite = curve.value[np.isfinite(curve.value)]
    reach = max(1.5 * bound, min(4 * bound, float(np.abs(finite).max()) * 1.1 if finite.size else bound))
    scale = Scale(False, -reach, reach)
    outside = int((np.abs(finite) > bound).sum())
    share = 100 * outside / max(1, finite.size)
    unit = report.run.step_unit
    drawn = panel(
        [Line("observed", "", curve.step, curve.value)],
        domain,
        scale,
        height=76,
        sentence=f"Residual of the replay in decades: {w.number(share)} percent of the {unit}s lie beyond {w.number(bound)}.",
        points=points,
        axis=True,
        thread=120,
        bound=bound,
        labels=False,
        end=w.signed(float(finite[-1]), 2) if finite.size else "",
    )
    words = f"Reproduced over observed loss, in decades; the bound is {w.number(bound)} either way. "
    words += "No step is outside." if outside == 0 else f"{w.number(share)} % of the {unit}s lie outside."
    return Figure("Residual", words, drawn)


def _sign(sign: VitalSign, domain: Domain, report: RunReport, points: int, *, last: bool, above: int) -> Figure:
    role = {"reproduced": "reproduced", "counterfactual": "counterfactual", "forecast": "forecast", "limit": "limit"}
    curves = sorted(sign.curves, key=lambda c: c.role != "observed")
    lines: list[Line] = []
    for curve in curves:
        name = "forecast" if curve.role == "forecast" else w.clean(curve.name, 40) if curve.role == "limit" else ""
        known = role.get(curve.role, "observed" if not lines else "second")
        lines.append(Line(known, name, curve.step, curve.value, band=curve.role == "observed"))
    values = [line.value for line in lines]
    seen = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.zeros(0)
    limit, include = None, []
    if sign.limit is not None and np.isfinite(sign.limit) and seen.size:
        own = curves[0].value[np.isfinite(curves[0].value)]
        crossed = bool(sign.limit_is_bound and own.size and own.min() < 0.98 * sign.limit <= own.max())
        limit = Limit(sign.limit, w.clean(sign.limit_name, 60), crossed)
        near = sign.log_scale or abs(sign.limit) <= 4 * max(abs(float(seen.max())), 1e-300)
        include = [sign.limit] if near else []
    log = sign.log_scale and bool((seen > 0).any()) and not bool((seen < 0).any())
    scale = scale_of(values, log=log, include=include)
    first = lines[0] if lines else None
    below = whole_of(curves[0]).n_not_positive if curves else 0
    zero_words, zeros = _below_zero(first.step, first.value, scale, below) if first is not None else ("", [])
    flat = bool(seen.size and float(seen.max()) - float(seen.min()) <= 1e-9 * abs(float(seen.max())))
    name = w.clean(sign.name, 60)
    height = 48 if flat and limit is None else 124 if limit is not None else 96
    railed = bool(lines and not np.isfinite(lines[0].value).all())
    drawn = panel(
        lines,
        domain,
        scale,
        height=height,
        sentence=_sign_sentence(sign, lines[0] if lines else None, report.run.step_unit),
        points=points,
        axis=last,
        thread=above + 20 if above else 0,
        limit=limit,
        zeros=zeros,
        end=_last_bad(lines[0].value) if lines and lines[0].value.size else "",
    )
    unit = f" Unit: {w.clean(sign.unit, 30)}." if sign.unit not in ("1", "") else ""
    return Figure(name, " ".join(f"{w.sentence(sign.explanation, 400)}{unit} {zero_words}".split()), drawn, height, railed)


def _sign_sentence(sign: VitalSign, line: Line | None, unit: str) -> str:
    name = w.clean(sign.name, 60)
    finite = line.value[np.isfinite(line.value)] if line is not None else np.zeros(0)
    if line is None or not finite.size:
        return f"{name}: nothing to draw."
    words = (
        f"{name}: from {w.number(float(finite[0]))} to {w.number(float(finite[-1]))}, lowest {w.number(float(finite.min()))}, "
    )
    words += f"highest {w.number(float(finite.max()))} over {w.plural(int(line.step[-1] - line.step[0]) or 1, unit)}."
    if sign.limit is not None:
        words += f" {w.clean(sign.limit_name, 60) or 'Limit'}: {w.number(sign.limit)}."
    return words


def _signs_of_the_log(report: RunReport) -> tuple[VitalSign, ...]:
    """Return what was logged besides the loss as vital signs, where the diagnosis made none."""
    made: list[VitalSign] = []
    for quantity, series in report.run.primary.items():
        if quantity in ("loss", *VALIDATION) or not len(series) or len(made) == 5:
            continue
        finite = series.value[np.isfinite(series.value)]
        log = bool(finite.size and finite.min() > 0 and finite.max() > 100 * finite.min() and quantity != "learning_rate")
        curve = Curve(quantity, "observed", series.step, series.value, series.whole)
        name = QUANTITIES.get(quantity, quantity.replace("_", " ").capitalize())
        made.append(VitalSign(name, f"As logged, tag `{series.tag}`.", (curve,), log))
    return tuple(made)


def _sparks(report: RunReport, domain: Domain, scale: Scale) -> tuple[tuple[Markup, ...], str]:
    replay = report.replay
    if replay is None or not replay.trials:
        return (), ""
    recorded = replay.trials[0].loss
    if not any(t.loss.value.size for t in replay.trials):
        return (), ""
    finite = recorded.value[np.isfinite(recorded.value)]
    highest = ABOVE * float(finite.max()) if finite.size and finite.max() > 0.0 else np.inf
    # a change that was not decided is not drawn, and one that leaves the page at the top is drawn there
    kept = [t.loss.step.size if t.verdict != "not tried" else 0 for t in replay.trials]
    curves = [t.loss.value[:n] for t, n in zip(replay.trials, kept, strict=True)]
    values = [np.where(np.isfinite(v), np.minimum(v, highest), v) for v in curves]
    shared = scale_of(values, log=scale.log or None)
    lines = [Line("observed", "", t.loss.step[:n], v) for t, n, v in zip(replay.trials, kept, values, strict=True)]
    ghost = Line("observed", "", recorded.step, recorded.value)
    steps = [line.step for line in lines if line.step.size]
    span = Domain(
        float(min(s.min() for s in steps)), float(max(s.max() for s in steps)), None, domain.onset, domain.unit, domain.calm
    )
    tones = {"repairs": "fix", "worse": "fault"}
    sparks = tuple(
        spark(line, ghost if i else None, span, shared, tones.get(t.verdict, "ink") if i else "ink")
        for i, (line, t) in enumerate(zip(lines, replay.trials, strict=True))
    )
    return sparks, f"{w.number(shared.low, 1)} to {w.number(shared.high, 1)}"
