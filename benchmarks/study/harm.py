"""How much worse than its sound twin a run is, and whether a run that is meant to be sound is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from training import Plan, Trace


@dataclass(frozen=True)
class Case:
    """One run to write.

    `codes`: the first causes that are right, any of them; empty for a fault that no rule names. `measure`: how harm is told, a
    key of `MEASURES`. `least`: the harm from which the fault counts. `onset`: step at which it begins, where it does not begin
    with the run. A sound run has no fault. `habit`: what its log must be like.
    """

    name: str
    plan: Plan
    fault: str | None = None
    twin: Plan | None = None
    measure: str = "loss"
    least: float = 2.0
    habit: dict[str, Any] = field(default_factory=dict)
    codes: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    onset: int | None = None
    family: str = ""


def tail(loss: np.ndarray) -> float:
    return float(np.mean(loss[-max(3, len(loss) // 10) :]))


def smooth_best(loss: np.ndarray) -> tuple[float, int]:
    width = max(1, min(25, len(loss) // 40))
    level = np.convolve(loss, np.ones(width) / width, "valid")
    at = int(np.nanargmin(level))
    return float(level[at]), at


def rise(loss: np.ndarray) -> float:
    """The largest rise of an exact fit above its best so far, beyond the float floor; 1 before it fits to 1e-6 of the start."""
    width = max(1, min(9, len(loss) // 100))
    level = np.convolve(loss, np.ones(width) / width, "valid")
    best = np.minimum.accumulate(level)
    fits = best < 1e-6 * abs(loss[0])
    return float((level / np.maximum(best, 1e-13 * abs(loss[0])))[fits].max()) if fits.any() else 1.0


def late_rise(loss: np.ndarray) -> float:
    """The largest rise of the later three fifths above the best level so far, levels floored at 1e-10 of the start."""
    level = np.maximum(np.convolve(loss, np.ones(5) / 5, "valid"), 1e-10 * float(abs(loss[0])))
    return float((level / np.minimum.accumulate(level))[len(level) * 2 // 5 :].max()) if level.size > 5 else 1.0


def summary(trace: Trace) -> dict[str, Any]:
    loss = trace.loss
    sound = np.isfinite(loss)
    if not sound.any():
        return {"tail": math.nan, "finite": False}
    best, at = smooth_best(np.where(sound, loss, np.inf))
    end = loss[-max(3, len(loss) // 10) :]
    out = {
        "initial": float(loss[0]),
        "tail": tail(loss),
        "tail_max": float(np.max(end)),
        "peak": float(np.max(loss[len(loss) // 50 :])),
        "late": late_rise(loss),
        "highest": float(np.max(loss[sound])),
        "mean": float(np.mean(loss)),
        "best": best,
        "best_step": at,
        "rise": rise(loss[sound]),
        "seconds": float(trace.wall.sum()),
        "finite": bool(sound.all()),
        "first_non_finite": None if sound.all() else int(np.argmin(sound)),
    }
    terms = [tail(series) / series[0] for name, series in trace.extra.items() if "loss" in name and series[0] > 0.0]
    if terms:
        out["slowest_term"] = float(max(terms))
    if trace.val:
        v = np.array([x[1] for x in trace.val])
        out |= {"val_last": float(v[-1]), "val_best": float(np.nanmin(v)), "accuracy_last": trace.val[-1][2]}
        later = {accuracy for _, _, accuracy in trace.val[len(trace.val) // 3 :]}
        out["stuck"] = float(len(later) == 1 and 0.0 < out["accuracy_last"] < 1.0)
    return out


def ratio_of(key: str) -> Callable[[dict[str, Any], dict[str, Any]], float]:
    """Return a measure: a figure of the run over that of its twin."""
    return lambda mine, twin: mine[key] / max(twin[key], 1e-300) if key in mine and key in twin else math.nan


def by_tail(mine: dict[str, Any], twin: dict[str, Any]) -> float:
    floor = 1e-10 * twin["initial"]  # nobody minds 1e-12 against 1e-14
    return max(mine["tail"], floor) / max(twin["tail"], floor)


def lasting(mine: dict[str, Any], twin: dict[str, Any]) -> float:
    """By the tail, where the loss first rose above its start and ends at more than a twentieth of it; else 0: nothing to see."""
    seen = mine["highest"] > 1.5 * mine["initial"] and mine["tail"] > 0.05 * mine["initial"]
    return by_tail(mine, twin) if seen else 0.0


#: Last over best validation loss from which a run is not sound, whatever its training loss does.
OVERFITS = 1.2


#: How harm is told: a figure of the run over that of its twin. "rebound" needs no twin, "present" is harm by being there.
MEASURES: dict[str, Callable[[dict[str, Any], dict[str, Any]], float]] = {
    "loss": by_tail,
    "lasting": lasting,
    "max": ratio_of("tail_max"),
    "peak": ratio_of("peak"),
    "late": ratio_of("late"),
    "mean": ratio_of("mean"),
    "val": lambda mine, twin: mine.get("val_last", math.nan) / twin.get("val_best", math.nan),
    "val-best": ratio_of("val_best"),
    "errors": lambda mine, twin: (1.02 - mine.get("accuracy_last", math.nan)) / (1.02 - twin.get("accuracy_last", math.nan)),
    "time": ratio_of("seconds"),
    "val-last": ratio_of("val_last"),
    "term": ratio_of("slowest_term"),
    "risen": lambda mine, twin: mine.get("val_last", math.nan) / mine.get("val_best", math.nan),
    "size": lambda mine, twin: abs(mine["tail"]) / max(abs(twin["tail"]), 1e-300),
    "majority": lambda mine, twin: mine.get("stuck", 0.0),
    "present": lambda mine, twin: math.inf,
}


def harm(case: Case, mine: dict[str, Any], twin: dict[str, Any] | None) -> float:
    """How much worse than its sound twin, as a ratio; infinite for a run that died."""
    if case.measure == "rebound":
        late = mine["best_step"] < 0.8 * case.plan.steps and mine["finite"]
        return mine["tail_max"] / max(mine["best"], 1e-300) if late else 0.0
    if not mine["finite"] or case.measure == "present":
        return math.inf
    if twin is None or not twin["finite"]:
        return math.nan
    return MEASURES[case.measure](mine, twin)


def rebounds(mine: dict[str, Any]) -> bool:
    """Whether an exact fit (1e-6 of the start) ends, or ever was, 100 times above its best, beyond what the float floor does."""
    if mine["best"] < 0.0:  # a log-likelihood, whose ratios mean nothing
        return False
    if mine.get("rise", 1.0) > 100:
        return True
    return mine["best"] < 1e-6 * mine["initial"] and mine["tail_max"] > 100 * max(mine["best"], 1e-13 * mine["initial"])


def sound(case: Case, mine: dict[str, Any], twin: dict[str, Any] | None) -> str:
    """Why a run meant to be sound is not, or ""."""
    if not mine["finite"]:
        return "not finite"
    if case.plan.task in ("gan", "bandit"):
        return ""
    if mine["tail"] > 1.05 * mine["initial"] and case.measure != "flat":
        return "ends above its start"
    if rebounds(mine):
        return "rebounds"
    if case.measure != "flat" and mine["tail"] > 8 * max(mine["best"], 1e-6 * mine["initial"]):
        return "ends far above its best"
    if twin is not None and mine["tail"] > 1.3 * twin["tail"]:
        return "worse than its twin"
    if mine.get("val_best", 0.0) > 0.0 and mine["val_last"] > OVERFITS * mine["val_best"] and case.measure != "flat":
        return "overfits"
    return ""


def benign(mine: dict[str, Any], twin: dict[str, Any] | None, ratio: float) -> bool:
    """Whether a run with a large rate is as good as its twin, in training and in validation."""
    if twin is None or not (mine["finite"] and twin["finite"] and ratio <= 1.0) or mine["tail"] > 0.9 * mine["initial"]:
        return False
    if rebounds(mine) or mine["tail"] > 3 * max(mine["best"], 1e-6 * mine["initial"]):
        return False
    return mine.get("val_last", 0.0) <= 1.3 * twin.get("val_last", 0.0)
