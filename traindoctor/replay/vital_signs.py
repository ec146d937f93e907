"""The optimizer's state over the run, as small figures: open loop, from the log, and with the first fix where it was tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import Curve, VitalSign
from traindoctor.optim.stability import stability_limit
from traindoctor.replay.open_loop import open_loop, signals_of
from traindoctor.signals.second_moment import recurrence

if TYPE_CHECKING:
    from traindoctor.model import Fix, FloatArray, Replay
    from traindoctor.signals.measurements import Measurements, SeriesMeasurements

#: Layers that one figure shows.
MOST_LAYERS = 5


def vital_signs(m: Measurements, replay: Replay | None, fix: Fix | None) -> tuple[VitalSign, ...]:
    """Return the signs that the log allows, in the order of cause and effect."""
    signs = []
    adaptive = m.run.optimizer is not None and bool(recurrence(m.optimizer)) and m.run.step_unit == "step"
    if m.has("grad_norm"):
        signs.append(_logged("Gradient norm", "As logged.", m.grad_norm))
        if adaptive and m.grad_norm.n >= 2 and np.all(m.grad_norm.value >= 0.0):
            signs += _second_moment(m, replay, fix)
    if adaptive:
        signs += _layers(m)
    if m.has("weight_norm"):
        signs.append(_logged("Weight norm", "As logged.", m.weight_norm))
    if m.has("update_norm") and m.has("weight_norm"):
        update = m.series("update_norm")
        ratio = update.value / np.interp(update.step, m.weight_norm.step, m.weight_norm.value)
        curve = Curve("update over weight norm", "observed", update.step, ratio)
        signs.append(
            VitalSign("Update-to-weight ratio", "Norm of the update over norm of the weights.", (curve,), _spans_decades(ratio))
        )
    if m.has("learning_rate"):
        signs.append(_logged("Learning rate", "As logged.", m.learning_rate))
    return tuple(signs)


def _logged(name: str, explanation: str, series: SeriesMeasurements) -> VitalSign:
    curve = Curve(series.tag, "observed", series.series.step, series.series.value)
    return VitalSign(name, explanation, (curve,), _spans_decades(series.value))


def _spans_decades(value: FloatArray) -> bool:
    return bool(value.size and value.min() > 0.0 and value.max() > 30.0 * value.min())


def _layers(m: Measurements) -> list[VitalSign]:
    """Return sqrt(v_hat) of the layers in which it fell furthest, each over its own highest; none where no layer was logged."""
    if not any(s.quantity == "grad_norm_layer" and s.value.size >= 2 for s in m.run.series):
        return []
    curves = []
    for recorded in signals_of(m):
        if recorded.name != "all parameters" and recorded.step.size >= 2:
            loop = open_loop(recorded, [m.optimizer])
            root = np.sqrt(loop.total[0])
            if root.max() > 0.0:
                curves.append(Curve(recorded.name, "observed", loop.step, root / root.max()))
    curves.sort(key=lambda curve: float(curve.value[-1]))
    if not curves:
        return []
    shown = tuple(curves[:MOST_LAYERS])
    of = f" Shown are the {len(shown)} of {len(curves)} layers in which it ends lowest." if len(curves) > len(shown) else ""
    text = f"Of each layer over its own highest, replayed from the layer's gradient norm.{of}"
    return [VitalSign("√v̂ by layer", text, shown, log_scale=True)]


def _second_moment(m: Measurements, replay: Replay | None, fix: Fix | None) -> list[VitalSign]:
    second = m.second_moment
    step, rebound = second.step, m.loss.rebound if m.has("loss") else None
    signs = []
    eps = m.optimizer.eps
    if second.root_mean_square is not None:
        root = Curve("rms √v̂", "observed", step, second.root_mean_square)
        text = "Root mean square of √v̂ over the parameters, replayed from the gradient norm."
        signs.append(VitalSign("√v̂ against eps", text, (root,), log_scale=True, limit=eps, limit_name="eps" if eps else ""))
    else:
        first = float(second.total[0]) or 1.0
        root = Curve("√v̂, first step = 1", "observed", step, np.sqrt(second.total / first))
        text = "Replayed from the gradient norm; absolute only where the number of parameters is known (--parameters)."
        signs.append(VitalSign("√v̂, relative", text, (root,), log_scale=True))
    rate = Curve("lr/√v̂, first step = 1", "observed", step, second.effective_rate(m.lr_at(step)))
    text = "How far the step per unit of gradient has grown, eps left out."
    signs.append(VitalSign("Effective learning rate", text, (rate,), log_scale=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        memory = Curve("g²/v̂", "observed", step, second.ratio)
    text = "Below 1 the optimizer still remembers larger gradients; near 1 it has settled to the present ones."
    signs.append(VitalSign("g² over v̂", text, (memory,), log_scale=True, limit=1.0, limit_name="settled", limit_is_bound=False))
    if replay is None or rebound is None:
        return signs
    lr = m.lr_at(step)
    margin = second.margin(rebound.onset, lr)
    limit = stability_limit(m.optimizer)
    later = step >= rebound.quiet
    until = later & (step <= rebound.onset)
    curves = [Curve("lr·λ(P⁻¹H)", "observed", step[until], margin[until])]
    curvature = m.curvature_after
    if fix is not None and "optimizer.eps" in fix.settings and np.isfinite(curvature):
        with_eps = 1.0 / (1.0 / margin + float(str(fix.settings["optimizer.eps"])) / (lr * curvature))
        curves.append(Curve(f"with eps {fix.settings['optimizer.eps']:g}", "counterfactual", step[later], with_eps[later]))
    text = (
        f"lr·λ(P⁻¹H), anchored at the onset, where it is the limit by definition. Stable below {limit:g}; from the onset on "
        "training hovers at the limit, and the mean of v no longer tells."
    )
    signs.append(VitalSign("Stability margin", text, tuple(curves), log_scale=False, limit=limit, limit_name="stability limit"))
    return signs
