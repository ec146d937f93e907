"""One entry to all recurrences: an OptimizerSpec -> start and step with every setting of its framework applied."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from traindoctor.errors import ConfigError
from traindoctor.optim import (
    adadelta,
    adafactor,
    adagrad,
    adam,
    adamax,
    asgd,
    decay,
    lamb,
    lion,
    muon,
    nadam,
    radam,
    rmsprop,
    rprop,
    sgd,
    stable_adamw,
)
from traindoctor.optim.defaults import FRAMEWORKS, TORCH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from traindoctor.model import FloatArray, FloatSetting, OptimizerSpec


@dataclass(frozen=True, slots=True)
class Family:
    """One recurrence: `settings` are the fields of the spec that `step` takes by these names, one value a candidate.

    `shared`: fields that all candidates have alike. `initial`, `start_axes`: whether `start` takes an accumulator's first
    value, and the number of axes; `weight`, `n_axes`: whether `step` takes the parameters, and that number.
    """

    start: Callable[..., Any]
    step: Callable[..., tuple[FloatArray, Any]]
    settings: tuple[str, ...]
    shared: tuple[str, ...] = ()
    initial: bool = False
    start_axes: bool = False
    weight: bool = False
    n_axes: bool = False


_ADAM = Family(adam.start, adam.step, ("beta1", "beta2", "eps", "amsgrad", "eps_root"))
FAMILIES: Mapping[str, Family] = {
    "sgd": Family(sgd.start, sgd.step, ("momentum", "dampening", "nesterov")),
    "adam": _ADAM,
    "adamw": _ADAM,
    "amsgrad": _ADAM,
    "nadam": Family(nadam.start, nadam.step, ("beta1", "beta2", "eps", "momentum_decay", "eps_root")),
    "radam": Family(radam.start, radam.step, ("beta1", "beta2", "eps", "eps_root")),
    "adamax": Family(adamax.start, adamax.step, ("beta1", "beta2", "eps")),
    "rmsprop": Family(rmsprop.start, rmsprop.step, ("alpha", "eps", "momentum", "centered"), initial=True),
    "adagrad": Family(adagrad.start, adagrad.step, ("eps", "lr_decay"), initial=True),
    "adadelta": Family(adadelta.start, adadelta.step, ("alpha", "eps")),
    "rprop": Family(rprop.start, rprop.step, ("eta_minus", "eta_plus", "step_min", "step_max")),
    "asgd": Family(asgd.start, asgd.step, ("lambd", "alpha"), weight=True),
    "adafactor": Family(
        adafactor.start,
        adafactor.step,
        ("eps", "eps2", "beta2_decay", "clip_threshold"),
        ("relative_step", "scale_parameter"),
        start_axes=True,
        weight=True,
        n_axes=True,
    ),
    "lion": Family(lion.start, lion.step, ("beta1", "beta2")),
    "lamb": Family(lamb.start, lamb.step, ("beta1", "beta2", "eps"), weight=True, n_axes=True),
    "muon": Family(muon.start, muon.step, ("momentum", "nesterov", "eps"), ("ns_steps", "adjust_lr")),
    "stableadamw": Family(stable_adamw.start, stable_adamw.step, ("beta1", "beta2", "eps"), weight=True, n_axes=True),
}
#: Dialect -> name -> what its form fixes in the recurrence, as the docstrings say. A name that is missing has none there.
FORMS: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "torch": {name: {} for name in FAMILIES},
    "keras": {
        **{name: {"epsilon_hat": True} for name in ("adam", "adamw", "amsgrad")},
        **{name: {} for name in ("adadelta", "lion", "lamb")},
        "sgd": {"lr_in_buffer": True},
        "nadam": {"momentum_decay": 1.0},
        "adamax": {"eps_outside": True},
        "rmsprop": {"eps_inside": True, "lr_in_buffer": True},
        "adagrad": {"eps_inside": True},
        "adafactor": {"eps_added": True},
        "muon": {"summed": True},
    },
    "optax": {
        **{name: {"max_of_corrected": True} for name in ("adam", "adamw", "amsgrad")},
        **{name: {} for name in ("sgd", "adamax", "adadelta", "lion", "lamb")},
        "nadam": {"momentum_decay": math.inf},
        "radam": {"epsilon_hat": False},
        "rmsprop": {"eps_inside": True, "lr_in_buffer": True},
        "adagrad": {"eps_inside": True},
        "adafactor": {"eps_added": True, "relative_step": False},
    },
    "paper": {
        **{name: {} for name in FAMILIES},
        "amsgrad": {"bias_correction": False},
        "sgd": {"lr_in_buffer": True},
        "radam": {"epsilon_hat": False, "threshold": 4.0},
        "adafactor": {"eps_added": True},
        "muon": {"summed": True},
    },
}
#: Names whose weight decay stays out of the moments, where the framework leaves no choice and `step` takes none.
_DECOUPLED = {
    "torch": frozenset({"adamw", "adafactor", "lion", "muon"}),
    "keras": frozenset(FAMILIES),  # of Keras 3: before all else, so that the recurrence sees the weights after it
    "optax": frozenset({"adamw", "nadam", "adamax", "adafactor", "lion"}),  # nadamw, adamaxw
    "paper": frozenset({"adamw", "adafactor", "lion", "muon"}),
}
_WITHIN = frozenset({"lamb", "stableadamw"})  # `step` takes weight_decay
#: Names for which torch.optim rejects a beta of 1.
_BETA_BELOW_ONE = frozenset({"adam", "adamw", "amsgrad", "nadam", "radam", "adamax"})
#: What has no effect, where neither spec nor framework sets it: so that it can differ between candidates.
_NEUTRAL = {"dampening": 0.0, "centered": False, "amsgrad": False, "eps_root": 0.0}
_NEVER_NEGATIVE = (
    "lr", "eps", "weight_decay", "momentum", "alpha", "eps_root", "momentum_decay", "lr_decay", "initial_accumulator", "lambd",
    "step_min", "step_max", "eps2",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Optimizer:
    """A recurrence with the settings and the dialect of its spec applied, weight decay included.

    `n_candidates`: None for one spec; else the settings are (n_candidates,) arrays, and every array in `step` has that
    leading axis. `coupled`, `beside`: the weight decay that enters the gradient, and that added beside the update, times
    lr if `beside_by_lr`. `decay_first`: the recurrence sees the weights after that.
    """

    family: Family
    settings: Mapping[str, FloatSetting]
    fixed: Mapping[str, object] = field(default_factory=dict)
    coupled: FloatSetting = 0.0
    beside: FloatSetting = 0.0
    beside_by_lr: bool = True
    initial: FloatSetting = 0.0
    decay_first: bool = False
    n_candidates: int | None = None

    def start(self, shape: tuple[int, ...]) -> Any:
        """Return the state before the first step of a parameter tensor of that shape; the candidates' axis is added."""
        whole = shape if self.n_candidates is None else (self.n_candidates, *shape)
        if self.family.initial:
            return self.family.start(whole, initial=self._column(self.initial, len(whole)))
        return self.family.start(whole, n_axes=len(shape)) if self.family.start_axes else self.family.start(whole)

    def step(self, grad: FloatArray, weight: FloatArray, state: Any, lr: FloatSetting) -> tuple[FloatArray, Any]:
        """Return the update to add to the parameters, and the next state.

        `grad`, `weight`: the shape that `start` was given, float64, behind the axis of the candidates where there is one;
        NaN propagates. `lr`: of this step, schedule applied; a number, or one a candidate.
        """
        n_axes, rate = weight.ndim, self._column(lr, weight.ndim)
        beside = decay.decoupled(weight, lr=rate if self.beside_by_lr else 1.0, weight_decay=self._column(self.beside, n_axes))
        seen = weight + beside if self.decay_first else weight
        own: dict[str, Any] = {name: self._column(value, n_axes) for name, value in self.settings.items()}
        if self.family.weight:
            own["weight"] = seen
        if self.family.n_axes:
            own["n_axes"] = n_axes - (self.n_candidates is not None)
        grad = decay.coupled(grad, weight, weight_decay=self._column(self.coupled, n_axes))
        update, after = self.family.step(grad, state, lr=rate, **own, **self.fixed)
        return beside + update, after

    def _column(self, value: FloatSetting, n_axes: int) -> FloatSetting:
        """Return one value a candidate as a column that broadcasts against arrays with that many axes."""
        return value.reshape(-1, *(1,) * (n_axes - 1)) if isinstance(value, np.ndarray) and value.ndim == 1 else value


def optimizer_of(spec: OptimizerSpec) -> Optimizer:
    """Return the recurrence of a spec; what it leaves open is filled in as its framework does.

    Raises: ConfigError for a name that has no recurrence in the dialect, and for a setting that the framework rejects or
    that is no finite number. What a framework accepts is accepted, such as Keras' beta of 1, which gives NaN.
    """
    known = _known(spec)
    family = FAMILIES[spec.name]
    within = spec.name in _WITHIN and spec.dialect != "keras"
    apart = spec.name in _DECOUPLED[spec.dialect] or bool(known.get("decoupled"))
    weight_decay = float(known.get("weight_decay", 0.0))
    fixed = dict(FORMS[spec.dialect][spec.name])
    fixed.update({name: known[name] for name in family.shared if name in known})
    if spec.dialect == "torch" and spec.name == "adafactor" and {"relative_step", "scale_parameter"} & known.keys():
        fixed["eps_added"] = True  # transformers.Adafactor, not torch's: it alone has these switches
    if spec.name == "adafactor":
        known.setdefault("eps", 1e-30 if "eps_added" in fixed else adafactor.MACHINE_EPS)
    for name, value in _NEUTRAL.items():
        known.setdefault(name, value)
    if spec.dialect == "paper" and known.get("amsgrad"):
        fixed["bias_correction"] = False
    return Optimizer(
        family=family,
        settings={
            **{name: known[name] for name in family.settings if name in known and name not in fixed},
            **({"weight_decay": weight_decay} if within else {}),
        },
        fixed=fixed,
        coupled=0.0 if apart or within else weight_decay,
        beside=weight_decay if apart and not within else 0.0,
        beside_by_lr=(spec.dialect, spec.name) != ("optax", "adafactor"),
        initial=float(known.get("initial_accumulator", 0.0)),
        decay_first=spec.dialect == "keras",
    )


def optimizers_of(specs: Sequence[OptimizerSpec]) -> Optimizer:
    """Return many specs of one family as one recurrence, their settings stacked along a leading axis.

    Raises: ConfigError as `optimizer_of`, for no spec at all, and for specs whose recurrences differ in more than numbers.
    """
    each = [optimizer_of(spec) for spec in specs]
    if not each:
        raise ConfigError("optimizer", "no candidate was given", "give one OptimizerSpec at least")
    first = each[0]
    for spec, one in zip(specs, each, strict=True):
        if (one.family, one.fixed, one.settings.keys()) != (first.family, first.fixed, first.settings.keys()):
            raise ConfigError(
                f"optimizer.name{_origin(spec, 'name')}",
                f"{spec.name} ({spec.dialect}) has another recurrence than {specs[0].name} ({specs[0].dialect})",
                "step the candidates of each recurrence apart",
            )
    return Optimizer(
        family=first.family,
        settings={name: np.array([one.settings[name] for one in each]) for name in first.settings},
        fixed=first.fixed,
        coupled=np.array([one.coupled for one in each]),
        beside=np.array([one.beside for one in each]),
        beside_by_lr=first.beside_by_lr,
        initial=np.array([one.initial for one in each]),
        decay_first=first.decay_first,
        n_candidates=len(each),
    )


# -- what a spec says -------------------------------------------------------------------------------------------------


def _known(spec: OptimizerSpec) -> dict[str, Any]:
    """Return the settings of a spec with its framework's defaults where it has none; raises where they are unusable."""
    if spec.dialect not in FORMS:
        raise ConfigError("optimizer", f"no dialect is called {spec.dialect!r}", f"one of {', '.join(FORMS)}")
    if spec.name not in FORMS[spec.dialect]:
        elsewhere = [dialect for dialect, names in FORMS.items() if spec.name in names]
        raise ConfigError(
            f"optimizer.name{_origin(spec, 'name')}",
            f"no recurrence of {spec.name!r} is known in the dialect {spec.dialect}",
            *([f"known in {', '.join(elsewhere)}"] if elsewhere else []),
            f"known are {', '.join(sorted(FORMS[spec.dialect]))}",
        )
    table = FRAMEWORKS.get(spec.dialect, (TORCH, ""))[0]
    known: dict[str, Any] = dict(table.get(spec.name, {}))
    for name in (*_NEVER_NEGATIVE, *_OTHERS):
        value = getattr(spec, name)
        if value is not None:
            known[name] = value
    if spec.name == "amsgrad":
        known["amsgrad"] = True
    for name, value in known.items():
        _check(spec, name, value)
    _check_together(spec, known)
    return known


_OTHERS = (
    "beta1", "beta2", "nesterov", "amsgrad", "decoupled", "dampening", "centered", "eta_minus", "eta_plus", "beta2_decay",
    "clip_threshold", "relative_step", "scale_parameter", "ns_steps", "adjust_lr",
)  # fmt: skip


def _check(spec: OptimizerSpec, name: str, value: object) -> None:
    """Raise for a value that is no finite number, or out of the range that the framework accepts."""
    if isinstance(value, bool):
        return
    if isinstance(value, str):
        if value not in ("original", "match_rms_adamw"):
            raise _rejected(spec, name, value, "original or match_rms_adamw")
        return
    if not isinstance(value, int | float | np.number) or not math.isfinite(value):
        raise _rejected(spec, name, value, "a finite number")
    number = float(value)
    if name in _NEVER_NEGATIVE and number < 0.0:
        raise _rejected(spec, name, value, "0 or more")
    if name in ("beta1", "beta2"):
        below = spec.dialect == "torch" and spec.name in _BETA_BELOW_ONE
        if not 0.0 <= number <= 1.0 or (below and number == 1.0):
            raise _rejected(spec, name, value, "at least 0 and below 1" if below else "0 to 1")
    if name == "alpha" and spec.name == "adadelta" and number > 1.0:
        raise _rejected(spec, name, value, "0 to 1")
    if name == "beta2_decay" and number > 0.0:
        raise _rejected(spec, name, value, "0 or less")
    if name == "clip_threshold" and number < (1.0 if spec.dialect == "torch" else np.finfo(np.float64).tiny):
        raise _rejected(spec, name, value, "1 or more" if spec.dialect == "torch" else "above 0")
    if name == "ns_steps" and not (number == int(number) and 1 <= number < 100):
        raise _rejected(spec, name, value, "a whole number from 1 to 99")


def _check_together(spec: OptimizerSpec, known: Mapping[str, Any]) -> None:
    """Raise for settings that are each in range but that the framework rejects together."""
    if spec.name == "sgd" and spec.dialect == "torch" and known.get("nesterov"):
        if not known["momentum"] > 0.0:
            raise _rejected(spec, "momentum", known["momentum"], "above 0 with nesterov")
        if known.get("dampening", 0.0) != 0.0:
            raise _rejected(spec, "dampening", known["dampening"], "0 with nesterov")
    if spec.name == "rprop":
        if not 0.0 < known["eta_minus"] < 1.0:
            raise _rejected(spec, "eta_minus", known["eta_minus"], "above 0 and below 1")
        if not known["eta_plus"] > 1.0:
            raise _rejected(spec, "eta_plus", known["eta_plus"], "above 1")
        if known["step_min"] > known["step_max"]:
            raise _rejected(spec, "step_min", known["step_min"], "at most step_max")


def _rejected(spec: OptimizerSpec, name: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(
        f"optimizer.{name}{_origin(spec, name)}",
        f"{value!r} cannot be used with {spec.name} ({spec.dialect})",
        f"{name}: {allowed}",
    )


def _origin(spec: OptimizerSpec, name: str) -> str:
    return f" ({spec.origin[name]})" if name in spec.origin else ""
