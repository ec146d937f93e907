"""The optimizer's state over the run, as small figures: open loop, from the log, and with the first fix where it was tried."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import Curve, VitalSign
from traindoctor.optim.stability import stability_limit
from traindoctor.replay.open_loop import open_loop, signals_of
from traindoctor.signals.moments import update_norms
from traindoctor.signals.robust import slope
from traindoctor.signals.second_moment import recurrence

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from traindoctor.model import Finding, Fix, FloatArray, IntArray, Replay, Series
    from traindoctor.replay.open_loop import Signal
    from traindoctor.signals.measurements import Measurements, SeriesMeasurements

#: Layers that one figure shows.
MOST_LAYERS = 5
#: Points of what is drawn of each layer.
MOST_POINTS = 20_000
#: Layers whose second moments ended within this factor of each other, each over its highest, say no more than their sum.
ALIKE = 2.0
#: Further figures of what speaks for the first finding.
MOST_EVIDENCE = 3
#: "A rough heuristic is that this ratio should be somewhere around 1e-3": Stanford CS231n, notes on neural networks 3,
#: "Ratio of weights:updates". No bound.
USUAL_RATIO = 1e-3
#: Decades between eps and √v̂ from which eps plays no part, and is told and not drawn.
FAR_DECADES = 3.0
#: Share of what √v̂ is at most from which eps counts, whatever the number of parameters.
SMALL = 0.1
#: Quantities as a figure names them; any other is written as it is.
NAMES = {
    "loss": "Loss",
    "val_loss": "Validation loss",
    "accuracy": "Accuracy",
    "val_accuracy": "Validation accuracy",
    "grad_norm": "Gradient norm",
    "weight_norm": "Weight norm",
    "update_norm": "Update norm",
    "learning_rate": "Learning rate",
    "log_z": "log Z",
    "update_ratio": "Update-to-weight ratio",
    "zero_share": "Share of zeros",
    "attention_logit": "Largest attention logit",
}
#: Quantities that the figure of the loss shows.
_LOSSES = ("loss", "val_loss")
#: What stands between the tags in the source of a piece of evidence.
_BETWEEN = re.compile(r": | and | over | to |[,;] ")
_RANK = re.compile(r"rank \d+")
_OF_RANK = re.compile(r" \(rank \d+\)$")


def vital_signs(m: Measurements, replay: Replay | None, finding: Finding | None) -> tuple[VitalSign, ...]:
    """Return the signs that the log allows: first what speaks for the finding, then in the order of cause and effect."""
    fix = finding.fixes[0] if finding is not None and finding.fixes else None
    logged = {q: _logged(m.series(q)) for q in ("grad_norm", "weight_norm", "learning_rate") if m.has(q)}
    signs: list[tuple[str, VitalSign]] = []
    adaptive = m.run.optimizer is not None and bool(recurrence(m.optimizer)) and m.run.step_unit == "step"
    if "grad_norm" in logged:
        signs.append(("grad_norm", logged["grad_norm"]))
        if adaptive and m.grad_norm.n >= 2 and np.all(m.grad_norm.value >= 0.0):
            signs += [("", sign) for sign in _second_moment(m, replay, fix)]
    signs += [("", sign) for sign in _margin_of_divergence(m, replay, fix)]
    recorded = signals_of(m) if adaptive and _has_norms(m) else ()
    signs += [("", sign) for sign in _layers(m, recorded)]
    if "weight_norm" in logged:
        signs.append(("weight_norm", logged["weight_norm"]))
    signs += [("update_norm", sign) for sign in _update_ratio(m, recorded)]
    if "learning_rate" in logged:
        signs.append(("learning_rate", logged["learning_rate"]))
    if finding is None:
        return tuple(sign for _, sign in signs)
    return _convicting_first(m, finding, signs)


# -- as logged ------------------------------------------------------------------------------------------------------------


def _logged(series: SeriesMeasurements) -> VitalSign:
    quantity, tag = series.series.quantity, series.tag
    curve = Curve(tag, "observed", series.series.step, series.series.value)
    # a decay to 0 passes through all decades in its last steps: what counts is where a schedule spends its time
    spans = np.quantile(series.value, (0.25, 0.75)) if quantity == "learning_rate" else series.value
    return VitalSign(NAMES[quantity], f"As logged, tag `{tag}`.", (curve,), _spans_decades(spans))


def _spans_decades(value: FloatArray) -> bool:
    return bool(value.size and value.min() > 0.0 and value.max() > 30.0 * value.min())


def _update_ratio(m: Measurements, recorded: Sequence[Signal]) -> list[VitalSign]:
    """Return the norm of the update over the norm of the weights: as logged, else as large as it can be at most."""
    name, rule = "Update-to-weight ratio", "About 1e-3 is a rule of thumb (CS231n), and no bound."
    if m.has("update_ratio"):
        sign = replace(_logged(m.series("update_ratio")), limit=USUAL_RATIO, limit_name="rule of thumb", limit_is_bound=False)
        return [replace(sign, explanation=f"{sign.explanation} {rule}")]
    found = _update_norm(m, recorded)
    if found is None or not m.has("weight_norm"):
        return []
    step, update, how = found
    weight = np.interp(step, m.weight_norm.step, m.weight_norm.value)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = update / weight
    if not np.any(ratio > 0.0):
        return []
    curve = Curve("update over weight norm", "observed", step, ratio)
    text = f"{how} over the logged norm of the weights. {rule}"
    return [VitalSign(name, text, (curve,), log_scale=True, limit=USUAL_RATIO, limit_name="rule of thumb", limit_is_bound=False)]


def _update_norm(m: Measurements, recorded: Sequence[Signal]) -> tuple[IntArray, FloatArray, str] | None:
    """Return steps and norm of the update with its source in words; None where neither the log nor a replay has it."""
    logged = update_norms(m)
    if logged is not None and logged[0].size:
        return logged[0], logged[1], "Norm of the update, as logged,"
    spec = m.run.optimizer
    if spec is None or not m.has("grad_norm") or m.run.step_unit != "step" or not np.all(m.grad_norm.value >= 0.0):
        return None
    if spec.name == "sgd":
        step, momentum = m.grad_norm.step, spec.momentum or 0.0
        if not 0.0 <= momentum < 1.0:
            return None
        most = "At most: lr·‖g‖ / (1 − momentum)" if momentum else "lr·‖g‖"
        return step, m.lr_at(step) * m.entering_norm / (1.0 - momentum), most
    if not recorded or m.n_parameters is None or m.grad_norm.n < 2:
        return None
    loop = open_loop(recorded[0], [spec])
    text = "At most: norm of the update for gradients that keep their direction, by the open-loop replay,"
    return loop.step, loop.update[0] * np.sqrt(m.n_parameters), text


# -- the second moment ----------------------------------------------------------------------------------------------------


def _margin_of_divergence(m: Measurements, replay: Replay | None, fix: Fix | None) -> list[VitalSign]:
    """Return lr * lambda of the mode that grows under SGD, as the rate of growth tells it, with its limit."""
    from traindoctor.replay.divergence import MODEL, product_of_growth

    if replay is None or replay.model != MODEL or not replay.reproduces or replay.reproduced is None or not m.peak_lr:
        return []
    step, value = replay.reproduced.step, replay.reproduced.value
    rising = np.isfinite(value) & (value > 3.0 * value[0])
    growth = np.exp(0.5 * slope(step[rising].astype(np.float64), np.log(value[rising] - value[0]))) if rising.sum() > 1 else 0.0
    if not growth > 1.0:
        return []
    limit, product, ends = stability_limit(m.optimizer), product_of_growth(float(growth), m.optimizer), step[[0, -1]]
    curves = [Curve("lr·λ", "observed", ends, np.full(2, product))]
    rate = None if fix is None else fix.settings.get("optimizer.lr")
    if isinstance(rate, int | float):
        with_rate = np.full(2, product * float(rate) / m.peak_lr)
        curves.append(Curve(f"with lr {rate:g}", "counterfactual", ends, with_rate))
    text = f"lr·λ of the direction that grows, from its rate of growth. Stable below {limit:g}."
    return [VitalSign("Stability margin", text, tuple(curves), log_scale=False, limit=limit, limit_name="stability limit")]


def _has_norms(m: Measurements) -> bool:
    """Return whether the log has a gradient norm of all parameters, or of a layer at two steps."""
    return m.has("grad_norm") or any(s.quantity == "grad_norm_layer" and np.isfinite(s.value).sum() >= 2 for s in m.run.series)


def _layers(m: Measurements, recorded: Sequence[Signal]) -> list[VitalSign]:
    """Return sqrt(v_hat) of the layers in which it fell furthest, each over its own highest; none where all went alike."""
    curves = []
    for one in recorded:
        if one.name != "all parameters" and one.step.size >= 2:
            loop = open_loop(one, [m.optimizer], max_values=MOST_POINTS)
            root = np.sqrt(loop.total[0])
            if root.max() > 0.0:
                curves.append(Curve(one.name, "observed", loop.step, root / root.max()))
    curves.sort(key=lambda curve: float(curve.value[-1]))
    if not curves or curves[-1].value[-1] < ALIKE * curves[0].value[-1]:
        return []
    shown = tuple(curves[:MOST_LAYERS])
    of = f" Shown are the {len(shown)} of {len(curves)} layers in which it ends lowest." if len(curves) > len(shown) else ""
    text = f"Of each layer over its own highest, replayed from the layer's gradient norm.{of}"
    return [VitalSign("√v̂ by layer", text, shown, log_scale=True)]


@dataclass(frozen=True, slots=True, eq=False)
class _Root:
    """√v̂ (n,) in units of the gradient where those are known (`absolute`), else in units of its first value."""

    value: FloatArray
    absolute: bool
    text: str


def _second_moment(m: Measurements, replay: Replay | None, fix: Fix | None) -> list[VitalSign]:
    second = m.second_moment
    step, lr = second.step, m.lr_at(second.step)
    onset = m.loss.rebound if replay is not None and m.has("loss") else None
    root, eps, new_eps = _root(m, None if onset is None else onset.onset), m.optimizer.eps, _new_eps(fix)
    signs = [_against_eps(m, root, step, new_eps), _effective_rate(root, step, lr, eps, new_eps)]
    with np.errstate(divide="ignore", invalid="ignore"):
        memory = Curve("g²/v̂", "observed", step, second.ratio)
    text = "Below 1 the optimizer still remembers larger gradients; near 1, its mean for steady ones, it has settled."
    signs.append(VitalSign("g² over v̂", text, (memory,), log_scale=True, limit=1.0, limit_name="settled", limit_is_bound=False))
    if onset is None:
        return signs
    margin = second.margin(onset.onset, lr)
    limit = stability_limit(m.optimizer)
    later = step >= onset.quiet
    until = later & (step <= onset.onset)
    curves = [Curve("lr·λ(P⁻¹H)", "observed", step[until], margin[until])]
    curvature = m.curvature_after
    if new_eps is not None and np.isfinite(curvature):
        with_eps = 1.0 / (1.0 / margin + new_eps / (lr * curvature))
        curves.append(Curve(f"with eps {new_eps:g}", "counterfactual", step[later], with_eps[later]))
    text = (
        f"lr·λ(P⁻¹H), anchored at the onset, where it is the limit by definition. Stable below {limit:g}; from the onset on "
        "training hovers at the limit, and the mean of v no longer tells."
    )
    signs.append(VitalSign("Stability margin", text, tuple(curves), log_scale=False, limit=limit, limit_name="stability limit"))
    return signs


def _new_eps(fix: Fix | None) -> float | None:
    """Return what a fix sets eps to, None where it sets none."""
    value = None if fix is None else fix.settings.get("optimizer.eps")
    return float(value) if isinstance(value, int | float) else None


def _root(m: Measurements, onset: int | None) -> _Root:
    """Return √v̂: over the parameters where their number is known, else where it goes unstable, else relative.

    At the onset lr * lambda / (√v̂ + eps) of the mode that goes unstable is the stability limit, which gives its √v̂ there.
    """
    second = m.second_moment
    if second.root_mean_square is not None:
        text = "Root mean square of √v̂ over the parameters, replayed from the gradient norm."
        return _Root(second.root_mean_square, absolute=True, text=text)
    lr = m.lr_at(second.step)
    if onset is not None and np.isfinite(m.curvature_after):
        at = max(0, int(np.searchsorted(second.step, onset, side="right")) - 1)
        there = float(lr[at]) * m.curvature_after / stability_limit(m.optimizer) - (m.optimizer.eps or 0.0)
        if there > 0.0 and second.total[at] > 0.0:
            text = (
                "Of the direction that goes unstable, replayed from the gradient norm: at the onset its lr·λ/(√v̂ + eps) "
                "is the limit, with λ as the gradient shows it."
            )
            return _Root(there * np.sqrt(second.total / second.total[at]), absolute=True, text=text)
    text = "Replayed from the gradient norm, first value = 1; absolute once the number of parameters is known (`--parameters`)."
    return _Root(np.sqrt(second.total / (float(second.total[0]) or 1.0)), absolute=False, text=text)


def _against_eps(m: Measurements, root: _Root, step: IntArray, new_eps: float | None) -> VitalSign:
    """Return √v̂ with eps as a line where the two are near, and in words where they are not."""
    curve = Curve("√v̂", "observed", step, root.value)
    eps = m.optimizer.eps
    known = root.value[np.isfinite(root.value) & (root.value > 0.0)]
    if not known.size or not root.absolute:
        most = np.sqrt(m.second_moment.total)
        if not eps or not known.size or eps < SMALL * float(np.nanmin(most)):
            return VitalSign("√v̂, relative", root.text, (curve,), log_scale=True)
        curve, name = Curve("√v̂ at most", "observed", step, most), "√v̂ against eps"
        text = "√v̂ of no parameter is above this, the root of the sum of v̂ over all of them, replayed from the gradient norm."
        return VitalSign(name, text, (curve,), log_scale=True, limit=eps, limit_name="eps", limit_is_bound=False)
    curves, text, limit = [curve], root.text, None
    if eps:
        apart = float(np.log10(known.min() / eps))
        if abs(apart) <= FAR_DECADES or eps > known.min():
            limit = eps
        else:
            text += f" eps {eps:g} lies {apart:.1f} decades below its lowest value: it plays no part."
    if new_eps is not None:
        curves.append(Curve(f"eps {new_eps:g}", "counterfactual", step[[0, -1]], np.full(2, new_eps)))
    name = "eps" if limit else ""
    return VitalSign("√v̂ against eps", text, tuple(curves), log_scale=True, limit=limit, limit_name=name, limit_is_bound=False)


def _effective_rate(root: _Root, step: IntArray, lr: FloatArray, eps: float | None, new_eps: float | None) -> VitalSign:
    """Return lr / (√v̂ + eps), or over its first value and without eps where √v̂ is relative."""
    with np.errstate(divide="ignore", invalid="ignore"):
        if not root.absolute:
            rate = lr / root.value
            known = np.flatnonzero(np.isfinite(rate) & (rate > 0.0))
            rate = rate / rate[known[0]] if known.size else rate
            text = "lr/√v̂, first value = 1: how far the step per unit of gradient has grown, eps left out."
            curve = Curve("lr/√v̂", "observed", step, rate)
            return VitalSign("Effective learning rate", text, (curve,), log_scale=True)
        curves = [Curve("lr/(√v̂ + eps)", "observed", step, lr / (root.value + (eps or 0.0)))]
        if new_eps is not None:
            curves.append(Curve(f"with eps {new_eps:g}", "counterfactual", step, lr / (root.value + new_eps)))
    text = "lr/(√v̂ + eps): the step per unit of gradient."
    return VitalSign("Effective learning rate", text, tuple(curves), log_scale=True)


# -- what speaks for the finding ------------------------------------------------------------------------------------------


def _convicting_first(m: Measurements, finding: Finding, signs: Sequence[tuple[str, VitalSign]]) -> tuple[VitalSign, ...]:
    """Return the signs, given as (quantity, sign): in front those that carry the finding's evidence, and further ones that do."""
    weights = _weights(m, finding)
    front: list[tuple[float, VitalSign]] = []
    rest: list[VitalSign] = []
    for quantity, sign in signs:
        weight, series = weights.get(quantity, (0.0, []))
        is_shown = [s is m.run.primary.get(quantity) for s in series]
        if not any(is_shown):
            rest.append(sign)
        elif all(is_shown):  # with others of its kind it is shown together with those
            front.append((weight, _convicts(sign, finding)))
            del weights[quantity]
    for key, (weight, series) in sorted(weights.items(), key=lambda item: -item[1][0])[:MOST_EVIDENCE]:
        front += [(weight, _convicts(sign, finding)) for sign in _of_evidence(m, key, series)]
    front.sort(key=lambda one: -one[0])
    return (*(sign for _, sign in front), *rest)


def _convicts(sign: VitalSign, finding: Finding) -> VitalSign:
    return replace(sign, explanation=f"{sign.explanation} Evidence of {finding.code}.")


def _weights(m: Measurements, finding: Finding) -> dict[str, tuple[float, list[Series]]]:
    """Return what the finding's evidence names, losses aside: quantity, or tag without one -> its weight in nats, the series."""
    found: dict[str, tuple[float, list[Series]]] = {}
    quantities = {s.tag: s.quantity for s in m.run.series}
    for evidence in finding.evidence:
        if not evidence.supports or evidence.kind != "log":
            continue
        named: dict[str, list[Series]] = {}
        for series in _named(m.run.series, evidence.source):
            quantity = series.quantity or quantities.get(_OF_RANK.sub("", series.tag), "")  # another rank's has no role
            named.setdefault(quantity or series.tag, []).append(series)
        for key, several in named.items():
            if key in _LOSSES and len(several) == 1:
                continue
            weight, before = found.get(key, (0.0, []))
            found[key] = (weight + evidence.weight, [*before, *(s for s in several if not any(s is b for b in before))])
    return found


def _named(series: Iterable[Series], source: str) -> list[Series]:
    """Return the series that a piece of evidence names as its source, "log.csv: lr", "log.csv: data over step; the rest"."""
    words = set(_BETWEEN.split(source))
    rank = _RANK.search(source)
    words |= {f"{word} ({rank.group()})" for word in words} if rank else set()
    found = [s for s in series if s.tag in words and len(s)]
    settled = {s.tag for s in found if s.source in words}
    return [s for s in found if s.source in words or s.tag not in settled]


def _of_evidence(m: Measurements, key: str, series: Sequence[Series]) -> list[VitalSign]:
    """Return the figure of series that speak for a finding; of layers up to `MOST_LAYERS`, those that are named among them."""
    quantity = key.removesuffix("_layer")
    name = NAMES.get(quantity, quantity.replace("_", " ").capitalize() if series[0].quantity else key)
    if quantity != key and m.layers.has(quantity, 1):
        return _of_layers(m, quantity, f"{name} by layer")
    shown = series[:MOST_LAYERS]
    curves = tuple(Curve(s.tag, "observed", s.step, s.value) for s in shown)
    values = np.concatenate([s.finite().value for s in shown])
    if not values.size:
        return []
    if len(shown) > 1:
        name += " by rank" if any(_RANK.search(s.tag) for s in shown) else " by tag"
    tags = "tag" if len(shown) == 1 else "tags"
    text = f"As logged, {tags} {', '.join(f'`{s.tag}`' for s in shown)}."
    return [VitalSign(name, text, curves, _spans_decades(values))]


def _of_layers(m: Measurements, quantity: str, name: str) -> list[VitalSign]:
    """Return a quantity of some layers, evenly from the input to the output."""
    matrix = m.layers.matrix(quantity)
    known = np.flatnonzero(np.isfinite(matrix).any(axis=0))
    matrices = known[m.layers.matrices[known]]
    known = matrices if matrices.size >= 2 else known
    chosen = known[np.unique(np.round(np.linspace(0, known.size - 1, MOST_LAYERS)).astype(int))]
    curves = []
    for k in chosen:
        logged = np.isfinite(matrix[:, k])
        name_of = m.layers.names[k]
        title = f"layer {name_of}" if name_of.isdigit() else name_of
        curves.append(Curve(title, "observed", m.layers.step[logged], matrix[logged, k]))
    of = f", {chosen.size} of {known.size} layers" if chosen.size < known.size else ""
    values = np.concatenate([curve.value for curve in curves])
    return [VitalSign(name, f"As logged{of}, input first.", tuple(curves), _spans_decades(values))]
