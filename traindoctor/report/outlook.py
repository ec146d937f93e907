"""Where the optimizer stands, and when it meets its limit: in words, as figures, and as the JSON of `replay.schema.json`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from traindoctor.model import Curve, VitalSign
from traindoctor.report import wording as w
from traindoctor.report.to_json import plain

if TYPE_CHECKING:
    from traindoctor.model import FloatArray, Run
    from traindoctor.replay.forecast import Forecast
    from traindoctor.replay.open_loop import OpenLoop
    from traindoctor.replay.outlook import Outlook

#: Name of the open loop of the norm of the whole gradient.
WHOLE = "all parameters"
#: A ratio within this share of 1 is no change.
SAME = 0.05
#: The way to a probe of the Hessian.
PROBE = "--probe STEP=VALUE as traindoctor.replay.torch.where_stuck measures it"
#: Share of the log's length within which a step is now.
NOW = 0.01


@dataclass(frozen=True, slots=True)
class OutlookView:
    """What is said of the optimizer's state: facts as (label, sentence), and what was assumed."""

    facts: tuple[tuple[str, str], ...]
    assumed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Standing:
    """What the second moment of all parameters, or of one layer, did over the log.

    `since`: index of the reported step at which sqrt(v_hat) was highest. `fallen`: the highest over that at the end. `grown`:
    effective learning rate at the end over that at `since`, or at its first where `since` is the end.
    """

    loop: OpenLoop
    since: int
    fallen: float
    grown: float


def standing(loop: OpenLoop) -> Standing | None:
    """Return what the second moment did, None for an optimizer that has none or gradients that are all zero."""
    total = loop.total[0]
    known = np.flatnonzero(np.isfinite(total) & (total > 0.0))
    rates = _rate(loop)
    moving = np.flatnonzero(np.isfinite(rates) & (rates > 0.0))
    if not known.size or not moving.size:
        return None
    since = int(known[np.argmax(total[known])])
    fallen = float(np.sqrt(total[since] / total[known[-1]]))
    base = since if since in moving and since < moving[-1] else int(moving[0])
    return Standing(loop, since, fallen, float(rates[moving[-1]] / rates[base]))


def _rate(loop: OpenLoop) -> FloatArray:
    """Return the effective learning rate (n,) of the recorded settings up to a factor; eps left out where d is not known."""
    with np.errstate(divide="ignore", invalid="ignore"):
        root = loop.root_mean_square
        return np.asarray(loop.lr[0] / (np.sqrt(loop.total[0]) if root is None else root[0] + loop.eps[0]))


def view_outlook(run: Run, told: Outlook) -> OutlookView:
    """Return the outlook in words."""
    if told.refusal:
        ways = f" What helps: {'; or '.join(told.ways_out)}." if told.ways_out else ""
        return OutlookView((("optimizer", w.sentence(f"not replayed: {w.stopped(told.refusal)}{ways}", 600)),), told.remarks)
    whole = told.layers[0] if told.layers[0].name == WHOLE else None
    layers = [s for s in map(standing, told.layers) if s is not None and s.loop.name != WHOLE]
    most = max(layers, key=lambda s: s.grown, default=None)
    stands = standing(whole) if whole is not None else most
    facts: list[tuple[str, str]] = []
    assumed = told.notes
    if stands is not None:
        facts.append(("optimizer", ("" if whole is not None else f"in {_name(stands)}: ") + _stands(run, told, stands)))
        share, eps = stands.loop.eps_share, stands.loop.specs[0].eps
        if share is not None and eps:
            facts.append(("", f"eps is {_percent(float(share[0, -1]))} of the denominator √v̂ + eps at the end"))
    elif not any(np.isfinite(loop.total).any() for loop in told.layers):
        assumed = told.remarks
        name = w.clean(told.layers[0].specs[0].name, 40)
        facts.append(("optimizer", f"no second moment is kept by {name}: its effective learning rate is the learning rate"))
    if most is not None and (most is not stands or len(layers) > 1) and most.grown > 1.0 + SAME:
        facts.append(("", f"of the layers it {_changed(most.grown)} in {_name(most)}, where it grew most"))
    if told.forecast is not None:
        facts.append(("limit", _ahead(run, told, told.forecast)))
    return OutlookView(
        tuple((label, w.stopped(words)) for label, words in facts), tuple(w.sentence(note, 400) for note in assumed)
    )


def _name(stands: Standing) -> str:
    return w.clean(stands.loop.name, 60)


def _stands(run: Run, told: Outlook, stands: Standing) -> str:
    loop = stands.loop
    at = f"{run.step_unit} {w.count(int(told.logged(loop.step[[stands.since]])[0]))}"
    absolute = ""
    if loop.root_mean_square is not None:
        ends = (w.number(float(loop.root_mean_square[0, i])) for i in (stands.since, -1))
        absolute = f", from {' to '.join(ends)} in the root mean square"
    rate = f"the effective learning rate {_changed(stands.grown)}"
    if stands.fallen > 1.0 + SAME:
        return f"since its highest, at {at}, √v̂ fell by a factor of {w.number(stands.fallen)}{absolute}; {rate}"
    return f"√v̂ is at its highest at the end; since its first value {rate}"


def _changed(ratio: float) -> str:
    if abs(ratio - 1.0) <= SAME:
        return "stayed the same"
    return f"grew by a factor of {w.number(ratio)}" if ratio > 1.0 else f"fell by a factor of {w.number(1.0 / ratio)}"


def _percent(share: float) -> str:
    return "< 0.01 %" if share < 1e-4 else f"{w.number(100.0 * share)} %"


def _ahead(run: Run, told: Outlook, ahead: Forecast) -> str:
    """Return when the limit is met."""
    if ahead.refusal:
        known = told.layers[0].n_parameters is not None
        ways = (
            "" if told.probe is not None else f" What helps: {PROBE}." if known else f" What helps: --parameters N, or {PROBE}."
        )
        return f"no forecast. {w.stopped(w.sentence(ahead.refusal, 400))}{ways}"
    limit = f"the limit of {w.number(ahead.limit)}"
    if ahead.interval is None:
        stays = f": at its largest the margin stays {w.number(ahead.remains)} times below it"
        return f"{limit} is not met{stays if told.probe is not None else ' in the steps looked at'}"
    first, last = ahead.interval
    now = int(told.layers[0].step[-1])
    if ahead.met is not None:
        begin = _at(run, told, first)
        between = f"between {begin} and {_at(run, told, last)}" if last is not None else f"not before {begin}, and perhaps never"
        return f"{limit} is met at {_at(run, told, ahead.met)}, {between}"
    begin = "from now on" if first <= now * (1.0 + NOW) + 1 else f"at {_at(run, told, first)} at the earliest"
    if told.probe is not None:
        stays = f"the margin stays {w.number(ahead.remains)} times below it"
        return f"{limit} is not met while gradients stay as of late: {stays}; without any, it is met {begin}"
    end = f"at {_at(run, told, last)} at the latest" if last is not None else "perhaps never"
    return f"{limit} is met {begin}, {end}"


def _at(run: Run, told: Outlook, step: int) -> str:
    """Return a step of the optimizer, with its epoch where the log counts those."""
    if told.steps_per_epoch is None:
        return f"{run.step_unit} {w.count(step)}"
    return f"step {w.count(step)} (epoch {w.count(int(told.logged(np.array([step]))[0]))})"


# -- figures ------------------------------------------------------------------------------------------------------------


def signs_of(told: Outlook) -> tuple[VitalSign, ...]:
    """Return the figures of an outlook: the effective learning rate, and the margin on its way to the limit."""
    signs: list[VitalSign] = []
    if told.layers and standing(told.layers[0]) is not None:
        loop, rates = told.layers[0], _rate(told.layers[0])
        with np.errstate(invalid="ignore"):
            first = rates[np.isfinite(rates) & (rates > 0.0)][0]
        text = "lr/(√v̂ + eps), replayed from the gradient norm." if loop.root_mean_square is not None else "lr/√v̂, replayed."
        curve = Curve("effective learning rate", "observed", told.logged(loop.step), rates / first)
        signs.append(VitalSign("Effective learning rate", f"{text} First value = 1.", (curve,), log_scale=True))
    ahead = told.forecast
    if ahead is not None and ahead.met is not None and told.probe is not None:
        now = int(told.layers[0].step[-1])
        until = ahead.step <= ahead.met
        parts = [("observed", until & (ahead.step <= now)), ("forecast", until & (ahead.step >= now))]
        curves = tuple(
            Curve("lr·λ(P⁻¹H)", role, told.logged(ahead.step[part]), ahead.margin[part]) for role, part in parts if part.any()
        )
        text = f"lr·λ(P⁻¹H) from the probe on. Stable below {w.number(ahead.limit)}."
        signs.append(
            VitalSign("Stability margin", text, curves, log_scale=False, limit=ahead.limit, limit_name="stability limit")
        )
    return tuple(signs)


# -- JSON ---------------------------------------------------------------------------------------------------------------


def outlook_object(told: Outlook, *, curves: bool = True) -> dict[str, Any]:
    """Return the outlook as plain dicts, lists, strings and finite numbers; `curves`: False puts null in place of arrays."""
    ahead = told.forecast
    return {
        "refusal": w.clean(told.refusal),
        "ways_out": [w.clean(way) for way in told.ways_out],
        "steps_per_epoch": told.steps_per_epoch,
        "layers": [_layer_object(loop, curves=curves) for loop in told.layers],
        "forecast": None if ahead is None else _forecast_object(told, ahead, curves=curves),
        "notes": list(told.notes),
    }


def _layer_object(loop: OpenLoop, *, curves: bool) -> dict[str, Any]:
    stands = standing(loop)
    root, share = loop.root_mean_square, loop.eps_share
    return {
        "name": w.clean(loop.name),
        "n_parameters": loop.n_parameters,
        "highest_step": None if stands is None else int(loop.step[stands.since]),
        "root_fell_by": None if stands is None else plain(stands.fallen),
        "rate_grew_by": None if stands is None else plain(stands.grown),
        "root_mean_square": None if root is None else plain(float(root[0, -1])),
        "eps_share": None if share is None else plain(float(share[0, -1])),
        "curves": {
            "step": loop.step.tolist(),
            "second_moment": plain(loop.total[0].tolist()),
            "effective_rate": plain(_rate(loop).tolist()),
        }
        if curves
        else None,
    }


def _forecast_object(told: Outlook, ahead: Forecast, *, curves: bool) -> dict[str, Any]:
    return {
        "probe": None if told.probe is None else {"step": told.probe[0], "value": told.probe[1]},
        "limit": plain(ahead.limit),
        "met": ahead.met,
        "interval": None if ahead.interval is None else list(ahead.interval),
        "remains": None if math.isnan(ahead.remains) else plain(ahead.remains),
        "bound": plain(ahead.bound),
        "refusal": w.clean(ahead.refusal),
        "margin": {"step": ahead.step.tolist(), "value": plain(ahead.margin.tolist())} if curves else None,
    }
