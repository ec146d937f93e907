"""Which figures a run gets: the loss with its replay, the residual, the vital signs and the sparklines of the ladder."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import Curve, RunReport, VitalSign
from traindoctor.report import wording as w
from traindoctor.report.events import events_of, in_words
from traindoctor.report.figures import Band, Domain, Limit, Line, Panel, Scale, draw, nice, scale_of, spark
from traindoctor.report.replaying import ABOVE, best_trial
from traindoctor.report.view import QUANTITIES, VALIDATION, RunView, bad_words, trial_of
from traindoctor.signals.second_moment import recurrence
from traindoctor.signals.thinning import whole_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from traindoctor.model import FloatArray, IntArray, Trial, Whole


#: Share of the run within which a segment that begins there begins at the start.
WHOLE = 0.03
#: Dashes of several curves of one kind, after the first.
DASHES = ("", "7 3", "3 3", "9 3 2 3", "1.5 3")


@dataclass(frozen=True, slots=True)
class Figure:
    """One row of the page: a heading, what it shows in words, and the drawing.

    `key`: what it is called within its run ("loss", "residual", "sign-gradient-norm"). `panel`: all that is drawn. `height` in
    pixels. `railed`: marks stand above it.
    """

    name: str
    text: str
    svg: Markup
    key: str
    panel: Panel
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

    @property
    def figures(self) -> tuple[Figure, ...]:
        """All figures with a shared axis, in the order of the page."""
        return tuple(f for f in (self.loss, self.residual, *self.signs) if f is not None)


def plots_of(report: RunReport, view: RunView, points: int = 600) -> Plots:
    """Return the figures of one run, each curve in at most about `points` buckets."""
    signs = report.vital_signs or _signs_of_the_log(report)
    domain = _domain(report, signs)
    replay, residual = report.replay, None
    if replay is not None and replay.residual is not None and replay.residual.step.size:
        residual = _residual(report, replay.residual, replay.bound, domain, points)
    loss = _loss(report, view, domain, points, axis=residual is None)
    scale = Scale(False, 0.0, 1.0) if loss is None else loss.panel.scale
    figures: list[Figure] = []
    keys = keys_of([w.clean(sign.name, 60) for sign in signs])
    for i, (key, sign) in enumerate(zip(keys, signs, strict=True)):
        above = sum(figure.height for figure in figures)  # no less far away is the top of the first
        figures.append(_sign(sign, key, domain, report, points, last=i == len(signs) - 1, above=above))
    sparks, spark_range = _sparks(report, domain, scale)
    dotted = next((c.name for s in signs for c in s.curves if c.role == "counterfactual"), "")
    lede = f"Dotted: the same sign with {w.clean(dotted, 60).removeprefix('with ')}." if dotted else ""
    lede = " ".join(filter(None, (lede, _not_shown(report))))
    return Plots(loss, residual, tuple(figures), sparks, spark_range, lede)


def _not_shown(report: RunReport) -> str:
    """Return why the second moment of the optimizer is not drawn, "" where it is, or there is none."""
    run = report.run
    if not report.vital_signs or (run.optimizer is not None and not recurrence(run.optimizer)):
        return ""
    if "grad_norm" not in run.primary:
        why = "no gradient norm was logged"
    elif run.optimizer is None:
        why = "the optimizer is not known"
    elif run.step_unit != "step":
        why = f"the log counts {run.step_unit}s"
    else:
        return ""
    return f"Not shown, since {why}: √v̂, the effective learning rate and g² over v̂."


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
            segment, onset = _within((float(finding.segment.start), float(finding.segment.stop)), first, last), at
        elif at != onset and first <= at <= last:
            others.append((at, w.clean(finding.code, 20)))
    calm = report.verdict == "healthy"
    if not report.findings and report.replay is not None:
        onset = report.replay.segment.onset
    if onset is not None and not first + WHOLE * (last - first) < onset <= last:
        onset = None
    return Domain(first, last, segment, None if calm else onset, run.step_unit, calm, events_of(run), tuple(others))


def _within(segment: tuple[float, float], first: float, last: float) -> tuple[float, float] | None:
    """Return a segment, None for one that is as good as the whole run: to tint all is to mark nothing."""
    margin = WHOLE * (last - first)
    return None if segment[0] <= first + margin and segment[1] >= last - margin else segment


def _notes_on_the_domain(report: RunReport, domain: Domain) -> list[str]:
    """Return what the figure of the loss says of the steps: a finding that has no place of its own, and what is marked."""
    first = report.findings[0] if report.findings else None
    whole = first is not None and first.segment is not None and domain.segment is None
    notes = ["The finding concerns the whole run."] if whole else []
    return [*notes, *filter(None, [in_words(domain.events)])]


def _rounded_up(first: float, last: float) -> float:
    """Return the last step, or the round one just after it: a run of 6,000 steps ends at 5,999."""
    if last <= first:
        return last
    stride = nice((last - first) / 6)
    up = -(-last // stride) * stride
    return up if up - last <= 0.01 * (last - first) else last


def _loss(report: RunReport, view: RunView, domain: Domain, points: int, *, axis: bool) -> Figure | None:
    """Return the figure of the loss, None where there is none; `axis`: whether the steps are written under it."""
    lines, notes = _loss_lines(report)
    if not lines:
        return None
    scale = scale_of([line.value for line in lines])
    observed, whole = lines[0], _whole_of_the_loss(report)
    off, zeros = _off_the_axis(observed.step, observed.value, scale, whole.n_not_positive)
    k = max(1, -(-whole.n // points))
    lines[0] = replace(observed, detail=f"median and range of {k} values" if k > 1 else "every value", band=True)
    panel = Panel(tuple(lines), domain, scale, zeros=tuple(zeros), end=_last_bad(observed.value))
    height = 360 if scale.flat is None and not scale.blank else 140
    sentence = _loss_sentence(report, view, scale)
    drawn = draw(panel, height=height, sentence=sentence, points=points, hero=True, axis=axis)
    words = _loss_words(observed.step, observed.value, report.run.step_unit, scale, whole)
    notes = [words, *notes, *_notes_on_the_domain(report, domain), off, *_leaving(lines[1:], scale)]
    return Figure("Loss", " ".join(filter(None, notes)), drawn, "loss", panel, height)


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
                low=chosen.loss.low,
                high=chosen.loss.high,
            )
        )
        if chosen.loss.interval:
            notes.append(f"Tinted about the dotted line: {w.clean(chosen.loss.interval, 120)}.")
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


def _off_the_axis(step: IntArray, value: FloatArray, scale: Scale, n_not_positive: int) -> tuple[str, list[int]]:
    """Return what is said of values below a logarithmic axis, and the steps at which a circle marks them."""
    if not scale.log:
        return "", []
    below = np.flatnonzero(value < scale.low)
    if below.size == 0 and not n_not_positive:
        return "", []
    where = [int(step[i]) for i in below[:: max(1, -(-below.size // 300))]]
    n_small = int(np.sum(value[below] > 0))
    said = []
    if n_not_positive:
        said.append(f"{w.plural(n_not_positive, 'value is', 'values are')} zero or less, which a logarithmic axis cannot show")
    if n_small:
        said.append(f"{w.plural(n_small, 'value lies', 'values lie')} far below all others")
    return f"{', and '.join(said)}: circles on the lower edge.", where


def _leaving(lines: Sequence[Line], scale: Scale) -> list[str]:
    """Return which curves beside the observed one leave the figure at the top, and how high they go."""
    said = []
    for line in lines:
        above = line.value[np.isfinite(line.value) & (line.value > scale.high)]
        if above.size:
            said.append(f"The curve `{line.name}` leaves the figure at the top, and reaches {w.number(float(above.max()))}.")
    return said


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
    panel = Panel(
        (Line("observed", "", curve.step, curve.value),),
        domain,
        scale,
        bands=(Band(-bound, bound, "bound", "bound"),),
        end=w.signed(float(finite[-1]), 2) if finite.size else "",
        unit="decades",
    )
    drawn = draw(
        panel,
        height=76,
        sentence=f"Residual of the replay in decades: {w.number(share)} percent of the {unit}s lie beyond {w.number(bound)}.",
        points=points,
        axis=True,
        thread=120,
        labels=False,
    )
    words = f"Reproduced over observed loss, in decades; the bound is {w.number(bound)} either way. "
    words += "No step is outside." if outside == 0 else f"{w.number(share)} % of the {unit}s lie outside."
    return Figure("Residual", words, drawn, "residual", panel, 76)


def _sign(sign: VitalSign, key: str, domain: Domain, report: RunReport, points: int, *, last: bool, above: int) -> Figure:
    lines = _sign_lines(sign)
    curves = sorted(sign.curves, key=lambda c: c.role != "observed")
    values = [line.value for line in lines]
    n_own = sum(line.role in ("observed", "second") for line in lines)
    alike = [np.concatenate(values[:n_own])] if n_own else []  # curves of one kind share their axis, however far apart they are
    seen = np.concatenate([v[np.isfinite(v)] for v in values]) if values else np.zeros(0)
    limit, include = None, []
    if sign.limit is not None and np.isfinite(sign.limit) and seen.size:
        own = curves[0].value[np.isfinite(curves[0].value)]
        crossed = bool(sign.limit_is_bound and own.size and own.max() >= sign.limit)
        limit = Limit(sign.limit, w.clean(sign.limit_name, 60), crossed)
        near = sign.log_scale or abs(sign.limit) <= 4 * max(abs(float(seen.max())), 1e-300)
        include = [sign.limit] if near else []
    log = sign.log_scale and bool((seen > 0).any()) and not bool((seen < 0).any())
    scale = scale_of([*alike, *values[n_own:]], log=log, include=include)
    first = lines[0] if lines else None
    below = whole_of(curves[0]).n_not_positive if curves else 0
    zero_words, zeros = _off_the_axis(first.step, first.value, scale, below) if first is not None else ("", [])
    flat = bool(seen.size and float(seen.max()) - float(seen.min()) <= 1e-9 * abs(float(seen.max())))
    name = w.clean(sign.name, 60)
    height = 48 if (flat or not seen.size) and limit is None else 168 if n_own > 1 else 124 if limit is not None else 96
    bands: tuple[Band, ...] = ()
    if limit is not None and sign.limit_is_bound:
        bands = (Band(min(scale.low, limit.value), limit.value, limit.name),)
    railed = bool(lines and not np.isfinite(lines[0].value).all())
    panel = Panel(
        tuple(lines),
        domain,
        scale,
        (limit,) if limit is not None else (),
        bands,
        zeros=tuple(zeros),
        end=_last_bad(lines[0].value) if lines and lines[0].value.size else "",
        unit=w.clean(sign.unit, 30) if sign.unit not in ("1", "") else "",
    )
    drawn = draw(
        panel,
        height=height,
        sentence=_sign_sentence(sign, lines[0] if lines else None, report.run.step_unit),
        points=points,
        axis=last,
        thread=min(above, 400),
    )
    unit = f" Unit: {panel.unit}." if panel.unit else ""
    text = " ".join(f"{w.sentence(sign.explanation, 400)}{unit} {zero_words}".split())
    return Figure(name, text, drawn, key, panel, height, railed)


def _sign_lines(sign: VitalSign) -> list[Line]:
    """Return the lines of a sign: the observed one first; several of them are told apart by their names and dashes."""
    roles = {"reproduced": "reproduced", "counterfactual": "counterfactual", "forecast": "forecast", "limit": "limit"}
    observed = [c for c in sign.curves if c.role not in roles]
    names = short_names([w.clean(c.name, 200) for c in observed])
    several = len(observed) > 1
    lines = [
        Line(
            "second" if i else "observed",
            name,
            curve.step,
            curve.value,
            band=not i,
            labelled=several,
            dashes=DASHES[i % len(DASHES)],
        )
        for i, (name, curve) in enumerate(zip(names, observed, strict=True))
    ]
    for curve in sign.curves:
        if curve.role in roles:
            name = "forecast" if curve.role == "forecast" else w.clean(curve.name, 40)
            labelled = curve.role in ("forecast", "limit") or curve.value.size == 2
            lines.append(Line(roles[curve.role], name, curve.step, curve.value, labelled=labelled))
    return lines


def short_names(names: Sequence[str]) -> list[str]:
    """Return names without the parts that all of them share at their start and end: "grad_norm/fc1.weight" is "fc1"."""
    if len(names) < 2:
        return list(names)
    parts = [re.split(r"(?<=[/.: ])|(?=[/.: ])", name) for name in names]
    shortest = min(map(len, parts))
    head = next((k for k in range(shortest) if len({p[k] for p in parts}) > 1), shortest)
    tail = next((k for k in range(shortest - head) if len({p[-1 - k] for p in parts}) > 1), shortest - head)
    cut = ["".join(p[head : len(p) - tail]).strip("/.: ") for p in parts]
    if any(name.isdigit() for name in cut):  # a number alone names nothing: "0.weight", "layer 0"
        start = head if tail else max(0, head - 2)
        cut = ["".join(p[start:]).strip("/.: ") for p in parts]
    return cut if all(cut) and len(set(cut)) == len(set(names)) else list(names)


def keys_of(names: Sequence[str]) -> list[str]:
    """Return what the figures of some signs are called within their run, each once: "sign-gradient-norm"."""
    keys: list[str] = []
    for name in names:
        plain = unicodedata.normalize("NFKD", name.replace("√v̂", "root v").replace("²", "2")).encode("ascii", "ignore").decode()
        key = "sign-" + (re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-") or "other")
        keys.append(key if key not in keys else f"{key}-{1 + sum(k.startswith(key) for k in keys)}")
    return keys


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
        if quantity in ("loss", "epoch", *VALIDATION) or not len(series) or len(made) == 5:
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
