"""Settings in the one vocabulary -> the learning-rate schedule they name, with the origin of each value and what is missing.

A schedule is given only where its config says what it needs: a cosine without a length stays unknown. A length that is not
the schedule's own but the run's ("steps", "epochs") is taken and named as assumed, so that a log may say otherwise; so is a
warmup that no config mentions, where the framework is not known to have none.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from traindoctor.configs.frameworks import dialect_named
from traindoctor.configs.vocabulary import number, word
from traindoctor.optim.schedules import ScheduleSpec, learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from traindoctor.model import Setting

#: Dialects whose schedule always spans the run and is called at each step.
SPANS_THE_RUN = ("Hugging Face TrainingArguments", "TRL", "LLaMA-Factory", "axolotl", "Megatron-LM")
#: Dialects without a warmup that their config does not state; axolotl makes one up from the length of the run.
COLD = ("Hugging Face TrainingArguments", "TRL", "LLaMA-Factory", "Megatron-LM", "nanoGPT", "MMEngine", "timm")
#: Schedules without a warmup of their own, to which frameworks add one.
RAISED = frozenset({"torch.StepLR", "torch.MultiStepLR", "torch.ExponentialLR", "torch.CosineAnnealingWarmRestarts"})
#: Spellings of a schedule's name, without case, "_", "lr", "scheduler" and "warmup" -> the family.
FAMILIES: Mapping[str, str] = {
    "constant": "constant",
    "constantwith": "constant",
    "linear": "linear",
    "lineardecay": "linear",
    "linearwith": "linear",
    "cosine": "cosine",
    "cos": "cosine",
    "cosineannealing": "cosine",
    "cosinedecay": "cosine",
    "cosinewith": "cosine",
    "cosinewithmin": "cosine",
    "linearcosineannealing": "cosine",
    "cosinewithrestarts": "cosine_with_restarts",
    "cosineannealingwarmrestarts": "warm_restarts",
    "cosinedecayrestarts": "keras_restarts",
    "step": "step",
    "multistep": "multi_step",
    "exponential": "exponential",
    "exponentialdecay": "keras_exponential",
    "inversetimedecay": "inverse_time",
    "polynomial": "polynomial",
    "poly": "polynomial",
    "polynomialdecay": "keras_polynomial",
    "polynomialdecaywith": "polynomial",
    "cosinewithhardrestartswith": "cosine_with_restarts",
    "inversesqrt": "inverse_sqrt",
    "inversesquareroot": "inverse_sqrt",
    "stabledecay": "stable_decay",
    "wsd": "stable_decay",
    "onecycle": "one_cycle",
    "cyclic": "cyclic",
    "reduceonplateau": "plateau",
    "reduceonplateauscheduler": "plateau",
    "plateau": "plateau",
    "greedy": "greedy",
}


@dataclass(frozen=True, slots=True)
class ConfiguredSchedule:
    """What a config says of the schedule.

    `name`: as written, "" when none is named. `spec`: None where the name is not known or values are `missing`, which names
    the settings that would be needed.
    """

    name: str
    spec: ScheduleSpec | None = None
    missing: tuple[str, ...] = ()
    origin: str = ""


def schedule_spec(
    settings: Mapping[str, Setting], *, steps_per_epoch: float | None = None, counted_by: str = "step"
) -> ScheduleSpec | None:
    """Return the schedule that the settings make, None when they name none or leave out what it needs."""
    return configured_schedule(settings, steps_per_epoch=steps_per_epoch, counted_by=counted_by).spec


def configured_schedule(
    settings: Mapping[str, Setting], *, steps_per_epoch: float | None = None, counted_by: str = "step"
) -> ConfiguredSchedule:
    """Return what the settings say of the schedule.

    `steps_per_epoch`: optimizer steps in an epoch, where known. `counted_by`: "step", "epoch" or "row", what the log counts; the
    rate is a function of that count.
    """
    told = settings.get("schedule.name")
    name = word(told.value) if told is not None else None
    if told is None or name is None:
        return ConfiguredSchedule("")
    values = _Values(settings, steps_per_epoch, counted_by)
    family = FAMILIES.get(_normal(name), _last(name))
    build = _IN_DIALECT.get(values.dialect, {}).get(family) or (None if values.dialect in _OWN else _BUILD.get(family))
    if build is None:
        return ConfiguredSchedule(name, origin=told.origin)
    made = build(values)
    lr = values.lr
    if made.name in RAISED and values.dialect != "MMEngine":
        made = made._replace(warmup=values.warmup_alone())
    missing = tuple(dict.fromkeys(values.missing))
    if missing:
        return ConfiguredSchedule(name, None, missing, told.origin)
    spec = ScheduleSpec(
        made.name,
        lr,
        made.settings,
        made.parts,
        every=values.every,
        warmup=made.warmup,
        assumed=frozenset(values.assumed),
        origin={"name": told.origin, **values.origin},
    )
    return ConfiguredSchedule(name, spec, (), told.origin)


def _last(name: str) -> str:
    return re.split(r"[.:/]", name.strip().lower())[-1]


def _normal(name: str) -> str:
    plain = re.sub(r"[\s_-]+", "", re.sub(r"^get_", "", _last(name)))
    plain = re.sub(r"schedule(?=with)", "", plain)
    plain = re.sub(r"(?:lr)?schedule[r]?$", "", plain)
    return re.sub(r"warmup|^lr|lr$|(?<=with)minlr|lr(?=on|lambda)", "", plain) if plain not in FAMILIES else plain


@dataclass(slots=True)
class _Values:
    """Reads one schedule's settings and keeps note of origins, of what is assumed and of what is missing."""

    settings: Mapping[str, Setting]
    steps_per_epoch: float | None
    counted_by: str
    origin: dict[str, str] = field(default_factory=dict)
    assumed: set[str] = field(default_factory=set)
    missing: list[str] = field(default_factory=list)
    every: float = 1.0

    def get(self, setting: str, key: str = "") -> float | None:
        """Return a number, None where it is not set; its origin is kept under the schedule's own word for it."""
        held = self.settings.get(setting)
        value = number(held.value) if held is not None else None
        if held is not None and value is not None:
            self.origin[key or setting] = held.origin
        return value

    def need(self, setting: str, key: str = "") -> float:
        """Return a number that the schedule cannot do without; 1 where it is missing, which is noted."""
        value = self.get(setting, key)
        if value is None:
            self.missing.append(setting)
        return 1.0 if value is None else value

    @property
    def lr(self) -> float:
        """The rate that the optimizer is built with."""
        return self.need("optimizer.lr", "lr")

    def warmup(self, length: str, total: int) -> int:
        """Return the length of the warmup in calls of the schedule, 0 where none is set.

        `length`: the schedule's word for its length, `total` the length itself: a ratio is a share of it.
        """
        key = "num_warmup_steps"
        steps, ratio, epochs = (self.get(f"schedule.warmup_{of}", key) or 0.0 for of in ("steps", "ratio", "epochs"))
        if steps:
            if self.every != 1.0 or self.counted_by != "step":
                self.assumed.add(key)  # in steps, where the schedule or the log counts epochs
                steps = steps / self.steps_per_epoch if self.steps_per_epoch else 0.0
            return round(steps)
        if ratio:
            if self.assumed & {"every", length}:
                self.assumed.add(key)
            return math.ceil(ratio * total - 1e-9)
        if epochs:
            if self.counted_by == "step" and self.every == 1.0 and not self.steps_per_epoch:
                self.assumed.add(key)
            return round(epochs * (self.steps_per_epoch or 0.0 if self.counted_by == "step" and self.every == 1.0 else 1.0))
        if self.dialect not in COLD and "schedule.warmup_steps" not in self.settings:
            self.assumed.add(key)
        return 0

    def warmup_alone(self) -> int:
        """Return the length of the warmup in logged steps, of a schedule that has no length."""
        if self.states("schedule.warmup_ratio") and not self.states("schedule.warmup_steps"):
            return self.warmup("num_training_steps", self.length("num_training_steps"))
        every, self.every = self.every, 1.0
        made = self.warmup("", 0)
        self.every = every
        return made

    def states(self, setting: str) -> bool:
        """Whether a setting holds a number that is not 0."""
        return bool(number(self._value(setting)))

    @property
    def dialect(self) -> str:
        """The framework whose config it is, "" where that is not known."""
        held = self.settings.get("dialect")
        return dialect_named(str(held.value)).name if held is not None else ""

    @property
    def spans_the_run(self) -> bool:
        """Whether the framework always stretches the schedule over the run."""
        return self.dialect in SPANS_THE_RUN

    def length(self, key: str) -> int:
        """Return the schedule's length, its own or else the run's."""
        own = self.get("schedule.total_steps", key)
        epochs, steps = number(self._value("epochs")), number(self._value("steps"))
        if own is not None:
            self._unit(own, epochs, steps)
            return max(1, int(own))
        if steps is not None and steps > 0 and self.counted_by == "step":
            return self._of_run(key, "steps", steps)
        if epochs is not None and epochs > 0:
            if self.counted_by == "epoch":
                return self._of_run(key, "epochs", epochs)
            if self.steps_per_epoch:
                return self._of_run(key, "epochs", epochs * self.steps_per_epoch)
            self.assumed |= {"every", key}
            return self._of_run(key, "epochs", epochs)
        self.missing.append("schedule.total_steps")
        return 1

    def _value(self, setting: str) -> object:
        return self.settings[setting].value if setting in self.settings else None

    def _of_run(self, key: str, setting: str, length: float) -> int:
        self.origin[key] = f"the run's {setting}, {self.settings[setting].origin}"
        if not self.spans_the_run:
            self.assumed |= {key, "every"}
        return max(1, round(length))

    def _unit(self, own: float, epochs: float | None, steps: float | None) -> None:
        """Set how often the schedule is called, where a length that equals the run's epochs tells that it counts these."""
        counts_epochs = own == epochs and own != steps
        if counts_epochs == (self.counted_by == "epoch"):
            return
        if self.steps_per_epoch and self.counted_by != "row":
            self.every = self.steps_per_epoch if counts_epochs else 1.0 / self.steps_per_epoch
        else:
            self.assumed.add("every")

    def count(self, setting: str, key: str) -> int:
        """Return a length in calls of the schedule; whether these are steps or epochs few configs say."""
        self.call()
        return max(1, int(self.need(setting, key)))

    def call(self) -> float:
        """Set how often the schedule is called, and return the calls in one unit of the lengths that the config gives.

        "schedule.unit": "step", "epoch", or "epoch by step" for lengths in epochs that are walked step by step.
        """
        unit = self._value("schedule.unit")
        if unit == "epoch by step" and self.counted_by == "step":
            if not self.steps_per_epoch:
                self.missing.append("steps in an epoch")
            return self.steps_per_epoch or 1.0
        counts_epochs = unit in ("epoch", "epoch by step")
        if unit in ("step", "epoch", "epoch by step"):
            if counts_epochs == (self.counted_by == "epoch"):
                return 1.0
            if self.steps_per_epoch and self.counted_by != "row":
                self.every = self.steps_per_epoch if counts_epochs else 1.0 / self.steps_per_epoch
                return 1.0
        if not self.spans_the_run:
            self.assumed.add("every")
        return 1.0


class Made(NamedTuple):
    """A schedule's name, its settings, its parts and a warmup that is put upon it."""

    name: str
    settings: dict[str, Any]
    parts: tuple[ScheduleSpec, ...] = ()
    warmup: int = 0


def _constant(v: _Values) -> Made:
    if v.states("schedule.warmup_steps") or v.states("schedule.warmup_ratio") or v.states("schedule.warmup_epochs"):
        return Made("huggingface.constant_with_warmup", {"num_warmup_steps": v.warmup_alone()})
    return Made("huggingface.constant", {})


def _spanned(v: _Values) -> dict[str, Any]:
    total = v.length("num_training_steps")
    return {"num_warmup_steps": v.warmup("num_training_steps", total), "num_training_steps": total}


def _lowest(v: _Values, key: str) -> float:
    """Return the rate at the end, given itself or as a share of the highest; 0 where neither is set."""
    low, share = v.get("schedule.min_lr", key), v.get("schedule.min_lr_ratio", key)
    return share * v.lr if low is None and share is not None else low or 0.0


def _cosine(v: _Values) -> Made:
    its, low = _spanned(v), _lowest(v, "min_lr")
    cycles = v.get("schedule.cycles", "num_cycles")
    more = {} if cycles is None else {"num_cycles": cycles}
    if low:
        return Made("huggingface.cosine_with_min_lr", {**its, **more, "min_lr": low})
    return Made("huggingface.cosine", {**its, **more})


def _hard_restarts(v: _Values) -> Made:
    cycles = int(v.get("schedule.cycles", "num_cycles") or 1)
    return Made("huggingface.cosine_with_restarts", {**_spanned(v), "num_cycles": cycles})


def _warm_restarts(v: _Values) -> Made:
    its = {"T_0": v.count("schedule.period", "T_0"), "T_mult": int(v.get("schedule.period_factor", "T_mult") or 1)}
    return Made("torch.CosineAnnealingWarmRestarts", {**its, "eta_min": v.get("schedule.min_lr", "eta_min") or 0.0})


def _keras_restarts(v: _Values) -> Made:
    its = {"first_decay_steps": v.count("schedule.total_steps", "first_decay_steps")}
    return Made("keras.CosineDecayRestarts", {**its, "t_mul": v.get("schedule.period_factor", "t_mul") or 2.0})


def _decay(v: _Values, key: str = "gamma") -> float:
    gamma = v.get("schedule.decay", key)
    return 0.1 if gamma is None else gamma


def _milestones(v: _Values) -> tuple[float, ...]:
    held = v.settings.get("schedule.milestones")
    if held is None or not isinstance(held.value, tuple):
        v.missing.append("schedule.milestones")
        return ()
    v.origin["milestones"] = held.origin
    return held.value


def _step(v: _Values) -> Made:
    return Made("torch.StepLR", {"step_size": v.count("schedule.step_size", "step_size"), "gamma": _decay(v)})


def _multi_step(v: _Values) -> Made:
    v.call()
    return Made("torch.MultiStepLR", {"milestones": _milestones(v), "gamma": _decay(v)})


def _exponential(v: _Values) -> Made:
    v.assumed.add("every")
    return Made("torch.ExponentialLR", {"gamma": v.need("schedule.decay", "gamma")})


def _keras_decay(name: str) -> Callable[[_Values], Made]:
    def build(v: _Values) -> Made:
        its = {"decay_steps": int(v.need("schedule.total_steps", "decay_steps"))}
        return Made(name, {**its, "decay_rate": v.need("schedule.decay", "decay_rate")})

    return build


def _polynomial(v: _Values) -> Made:
    power, low = v.get("schedule.power", "power"), v.get("schedule.min_lr", "lr_end")
    more = {"power": 1.0 if power is None else power, "lr_end": 1e-7 if low is None else low}
    return Made("huggingface.polynomial", {**_spanned(v), **more})


def _keras_polynomial(v: _Values) -> Made:
    power, low = v.get("schedule.power", "power"), v.get("schedule.min_lr", "end_learning_rate")
    its = {"decay_steps": int(v.need("schedule.total_steps", "decay_steps"))}
    more = {"power": 1.0 if power is None else power, "end_learning_rate": 1e-4 if low is None else low}
    return Made("keras.PolynomialDecay", {**its, **more})


def _inverse_sqrt(v: _Values) -> Made:
    if v.states("schedule.warmup_ratio") or v.states("schedule.warmup_epochs"):
        return Made("huggingface.inverse_sqrt", {"num_warmup_steps": v.warmup_alone()})
    return Made("huggingface.inverse_sqrt", {"num_warmup_steps": int(v.need("schedule.warmup_steps", "num_warmup_steps"))})


def _stable_decay(v: _Values) -> Made:
    its = {**_spanned(v), "num_decay_steps": int(v.need("schedule.decay_steps", "num_decay_steps"))}
    share = v.get("schedule.min_lr_ratio", "min_lr_ratio")
    return Made("huggingface.warmup_stable_decay", its if share is None else {**its, "min_lr_ratio": share})


def _one_cycle(v: _Values) -> Made:
    peak, up = v.get("schedule.peak_lr", "max_lr"), v.get("schedule.warmup_ratio", "pct_start")
    its = {"max_lr": v.lr if peak is None else peak, "total_steps": v.length("total_steps")}
    return Made("torch.OneCycleLR", its if up is None else {**its, "pct_start": up})


def _cyclic(v: _Values) -> Made:
    low, high = v.need("schedule.min_lr", "base_lr"), v.need("schedule.peak_lr", "max_lr")
    its = {"base_lr": low, "max_lr": high, "step_size_up": v.count("schedule.step_size", "step_size_up")}
    return Made("torch.CyclicLR", its)


def _deepspeed(name: str) -> Callable[[_Values], Made]:
    def build(v: _Values) -> Made:
        its: dict[str, Any] = {"warmup_num_steps": int(v.need("schedule.warmup_steps", "warmup_num_steps"))}
        if name != "WarmupLR":
            its["total_num_steps"] = v.length("total_num_steps")
        if name == "WarmupCosineLR":
            keys = {"warmup_min_ratio": "schedule.warmup_factor", "cos_min_ratio": "schedule.min_lr_ratio"}
        else:
            keys = {"warmup_min_lr": "schedule.warmup_lr"}
            its["warmup_max_lr"] = v.need("schedule.peak_lr", "warmup_max_lr")
        found = {key: v.get(setting, key) for key, setting in keys.items()}
        kind = v.settings.get("schedule.warmup_type")
        way = {} if kind is None else {"warmup_type": str(kind.value)}
        return Made(f"deepspeed.{name}", {**its, **way, **{key: value for key, value in found.items() if value is not None}})

    return build


_BUILD: Mapping[str, Callable[[_Values], Made]] = {
    "constant": _constant,
    "linear": lambda v: Made("huggingface.linear", _spanned(v)),
    "cosine": _cosine,
    "cosine_with_restarts": _hard_restarts,
    "warm_restarts": _warm_restarts,
    "keras_restarts": _keras_restarts,
    "step": _step,
    "multi_step": _multi_step,
    "exponential": _exponential,
    "keras_exponential": _keras_decay("keras.ExponentialDecay"),
    "inverse_time": _keras_decay("keras.InverseTimeDecay"),
    "polynomial": _polynomial,
    "keras_polynomial": _keras_polynomial,
    "inverse_sqrt": _inverse_sqrt,
    "stable_decay": _stable_decay,
    "one_cycle": _one_cycle,
    "cyclic": _cyclic,
    "plateau": lambda _: Made("torch.ReduceLROnPlateau", {}),
    "greedy": lambda _: Made("huggingface.greedy", {}),
    "warmuplr": _deepspeed("WarmupLR"),
    "warmupdecaylr": _deepspeed("WarmupDecayLR"),
}


# -- schedules that one framework alone has ---------------------------------------------------------------------------


def _held_cosine(v: _Values) -> Made:
    """Return the cosine of nanoGPT and Megatron-LM, which stays at its lowest rate when the run is longer."""
    total = v.length("decay_steps")
    its = {"init_value": 0.0, "warmup_steps": v.warmup("decay_steps", total), "decay_steps": total}
    return Made("optax.warmup_cosine_decay_schedule", {**its, "end_value": _lowest(v, "end_value")})


def _timm(name: str, **more: Callable[[_Values, float], object]) -> Callable[[_Values], Made]:
    """Return what builds a schedule of timm; `more`: settings made of the values and the calls in an epoch."""

    def build(v: _Values) -> Made:
        per_epoch = v.call()
        rate = v.settings.get("optimizer.lr")
        if rate is not None and " (" in rate.origin:
            v.assumed.add("lr")  # scaled to the batch of one process; how many there are no config says
        warmup = {
            "warmup_t": round((v.get("schedule.warmup_epochs", "warmup_t") or 0.0) * per_epoch),
            "warmup_lr_init": v.get("schedule.warmup_lr", "warmup_lr_init") or 0.0,
            "warmup_prefix": bool(v.get("schedule.warmup_prefix", "warmup_prefix")),
        }
        return Made(f"timm.{name}", {**{key: made(v, per_epoch) for key, made in more.items()}, **warmup})

    return build


def _param_scheduler(kind: str) -> Callable[[_Values], Made]:
    """Return what builds a schedule of MMEngine: a warmup, the rate held, the schedule between its begin and end, held again.

    A warmup that overlaps the schedule multiplies it; that is so where the schedule only multiplies, too.
    """

    def build(v: _Values) -> Made:
        calls = v.call()
        every, v.every = v.every, 1.0
        if "every" in v.assumed:
            v.missing.append("steps in an epoch")
        begin, end = v.get("schedule.begin", "begin") or 0.0, v.get("schedule.end", "end")
        low, warmup = _lowest(v, "eta_min"), v.warmup("", 0)
        name, its = _walked(v, kind, calls, begin, end, low)
        start, stop = begin * every * calls, None if end is None else end * every * calls
        if warmup > start:
            if begin or low:
                v.missing.append("how the warmup and the schedule overlap")
            v.every = every
            return Made(name, its, warmup=warmup)
        main = ScheduleSpec(name, v.lr, its, every=every)
        factor = v.get("schedule.warmup_factor", "start_factor")
        rise = {"start_factor": 1.0 / 3.0 if factor is None else factor, "total_iters": warmup - 1}
        before = ScheduleSpec("torch.LinearLR", v.lr, rise) if warmup > 1 else ScheduleSpec("huggingface.constant", v.lr)
        if stop is None or v.missing:
            return Made("torch.SequentialLR", {"milestones": (round(start),)}, (before, main))
        left = float(learning_rate(main, np.array([round(stop - start)]))[0])
        after = ScheduleSpec("huggingface.constant", left)
        return Made("torch.SequentialLR", {"milestones": (round(start), round(stop))}, (before, main, after))

    return build


def _walked(v: _Values, kind: str, calls: float, begin: float, end: float | None, low: float) -> tuple[str, dict[str, Any]]:
    """Return the name and settings of one schedule of MMEngine, its lengths counted in calls from its begin on."""
    if kind == "multi_step":
        return "torch.MultiStepLR", {"milestones": tuple(round(one * calls) for one in _milestones(v)), "gamma": _decay(v)}
    if kind == "step":
        return "torch.StepLR", {"step_size": round(v.need("schedule.step_size", "step_size") * calls), "gamma": _decay(v)}
    span = v.get("schedule.total_steps", "T_max") if kind == "cosine" else None
    if span is None and end is not None:
        span = end - begin
    if span is None:
        v.missing.append("schedule.total_steps")
    length = max(2, round((span or 2.0) * calls))
    if kind == "cosine":
        return "torch.CosineAnnealingLR", {"T_max": length, "eta_min": low}
    power = v.get("schedule.power", "power")
    its = {"num_warmup_steps": 0, "num_training_steps": length - 1, "lr_end": low}
    return "huggingface.polynomial", {**its, "power": 1.0 if power is None else power}


_IN_DIALECT: Mapping[str, Mapping[str, Callable[[_Values], Made]]] = {
    "nanoGPT": {"cosine": _held_cosine},
    "Megatron-LM": {"cosine": _held_cosine},
    "Detectron2": {"multi_step": _multi_step},
    "DeepSpeed": {"cosine": _deepspeed("WarmupCosineLR")},
    "timm": {
        "cosine": _timm(
            "CosineLRScheduler",
            t_initial=lambda v, per_epoch: max(1, round(v.need("epochs", "t_initial") * per_epoch)),
            lr_min=lambda v, _: v.get("schedule.min_lr", "lr_min") or 0.0,
        ),
        "step": _timm(
            "StepLRScheduler",
            decay_t=lambda v, per_epoch: v.need("schedule.step_size", "decay_t") * per_epoch,
            decay_rate=lambda v, _: _decay(v, "decay_rate"),
        ),
        "multi_step": _timm(
            "MultiStepLRScheduler",
            decay_t=lambda v, per_epoch: tuple(round(one * per_epoch) for one in _milestones(v)),
            decay_rate=lambda v, _: _decay(v, "decay_rate"),
        ),
        "plateau": _BUILD["plateau"],
    },
    "MMEngine": {
        "cosine": _param_scheduler("cosine"),
        "polynomial": _param_scheduler("polynomial"),
        "multi_step": _param_scheduler("multi_step"),
        "step": _param_scheduler("step"),
        "plateau": _BUILD["plateau"],
    },
}
#: Dialects whose schedules are not those of others by the same name.
_OWN = frozenset({"Detectron2", "timm", "MMEngine"})
