"""Settings in the one vocabulary -> the learning-rate schedule they name, with the origin of each value and what is missing.

A schedule is given only where its config says what it needs: a cosine without a length stays unknown. A length that is not
the schedule's own but the run's ("steps", "epochs") is taken and named as assumed, so that a log may say otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from traindoctor.configs.frameworks import dialect_named
from traindoctor.configs.vocabulary import number, word
from traindoctor.optim.schedules import ScheduleSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from traindoctor.model import Setting

#: Dialects whose schedule always spans the run and is called at each step.
SPANS_THE_RUN = ("Hugging Face TrainingArguments", "TRL", "LLaMA-Factory", "axolotl", "Megatron-LM")
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
    build = _BUILD.get(FAMILIES.get(_normal(name), ""))
    if build is None:
        return ConfiguredSchedule(name, origin=told.origin)
    made, its = build(values)
    lr = values.lr
    missing = tuple(dict.fromkeys(values.missing))
    if missing:
        return ConfiguredSchedule(name, None, missing, told.origin)
    spec = ScheduleSpec(
        made,
        lr,
        its,
        every=values.every,
        warmup=0 if "num_warmup_steps" in its or made not in RAISED else values.warmup,
        assumed=frozenset(values.assumed),
        origin={"name": told.origin, **values.origin},
    )
    return ConfiguredSchedule(name, spec, (), told.origin)


def _normal(name: str) -> str:
    last = re.split(r"[.:/]", name.strip().lower())[-1]
    plain = re.sub(r"[\s_-]+", "", last)
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

    @property
    def warmup(self) -> int:
        """Steps of the warmup, 0 where none is set; in epochs where the log counts these, which a config seldom does."""
        steps = self.get("schedule.warmup_steps", "num_warmup_steps") or 0.0
        if steps and self.counted_by != "step":
            self.assumed.add("num_warmup_steps")
            steps = steps / self.steps_per_epoch if self.steps_per_epoch else 0.0
        return round(steps)

    @property
    def spans_the_run(self) -> bool:
        """Whether the framework always stretches the schedule over the run."""
        held = self.settings.get("dialect")
        return held is not None and dialect_named(str(held.value)).name in SPANS_THE_RUN

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
            self.assumed |= {"every"}
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
        """Return a length in calls of the schedule; whether these are steps or epochs no config says."""
        if not self.spans_the_run:
            self.assumed.add("every")
        return max(1, int(self.need(setting, key)))


Made = tuple[str, dict[str, Any]]


def _constant(v: _Values) -> Made:
    return ("huggingface.constant_with_warmup", {"num_warmup_steps": v.warmup}) if v.warmup else ("huggingface.constant", {})


def _spanning(name: str, **more: object) -> Callable[[_Values], Made]:
    def build(v: _Values) -> Made:
        return name, {"num_warmup_steps": v.warmup, "num_training_steps": v.length("num_training_steps"), **more}

    return build


def _cosine(v: _Values) -> Made:
    its = {"num_warmup_steps": v.warmup, "num_training_steps": v.length("num_training_steps")}
    low = v.get("schedule.min_lr", "min_lr")
    cycles = v.get("schedule.cycles", "num_cycles")
    more = {} if cycles is None else {"num_cycles": cycles}
    return ("huggingface.cosine_with_min_lr", {**its, **more, "min_lr": low}) if low else ("huggingface.cosine", {**its, **more})


def _hard_restarts(v: _Values) -> Made:
    its = _spanning("huggingface.cosine_with_restarts")(v)[1]
    return "huggingface.cosine_with_restarts", {**its, "num_cycles": int(v.get("schedule.cycles", "num_cycles") or 1)}


def _warm_restarts(v: _Values) -> Made:
    its = {"T_0": v.count("schedule.period", "T_0"), "T_mult": int(v.get("schedule.period_factor", "T_mult") or 1)}
    return "torch.CosineAnnealingWarmRestarts", {**its, "eta_min": v.get("schedule.min_lr", "eta_min") or 0.0}


def _keras_restarts(v: _Values) -> Made:
    its = {"first_decay_steps": v.count("schedule.total_steps", "first_decay_steps")}
    return "keras.CosineDecayRestarts", {**its, "t_mul": v.get("schedule.period_factor", "t_mul") or 2.0}


def _step(v: _Values) -> Made:
    gamma = v.get("schedule.decay", "gamma")
    return "torch.StepLR", {"step_size": v.count("schedule.step_size", "step_size"), "gamma": 0.1 if gamma is None else gamma}


def _multi_step(v: _Values) -> Made:
    held = v.settings.get("schedule.milestones")
    if held is None or not isinstance(held.value, tuple):
        v.missing.append("schedule.milestones")
        return "torch.MultiStepLR", {}
    if not v.spans_the_run:
        v.assumed.add("every")
    v.origin["milestones"] = held.origin
    gamma = v.get("schedule.decay", "gamma")
    return "torch.MultiStepLR", {"milestones": held.value, "gamma": 0.1 if gamma is None else gamma}


def _exponential(v: _Values) -> Made:
    v.assumed.add("every")
    return "torch.ExponentialLR", {"gamma": v.need("schedule.decay", "gamma")}


def _keras_decay(name: str) -> Callable[[_Values], Made]:
    def build(v: _Values) -> Made:
        its = {"decay_steps": int(v.need("schedule.total_steps", "decay_steps"))}
        return name, {**its, "decay_rate": v.need("schedule.decay", "decay_rate")}

    return build


def _polynomial(v: _Values) -> Made:
    its = _spanning("huggingface.polynomial")(v)[1]
    power, low = v.get("schedule.power", "power"), v.get("schedule.min_lr", "lr_end")
    return "huggingface.polynomial", {**its, "power": 1.0 if power is None else power, "lr_end": 1e-7 if low is None else low}


def _keras_polynomial(v: _Values) -> Made:
    power, low = v.get("schedule.power", "power"), v.get("schedule.min_lr", "end_learning_rate")
    its = {"decay_steps": int(v.need("schedule.total_steps", "decay_steps"))}
    return "keras.PolynomialDecay", {
        **its,
        "power": 1.0 if power is None else power,
        "end_learning_rate": 1e-4 if low is None else low,
    }


def _inverse_sqrt(v: _Values) -> Made:
    return "huggingface.inverse_sqrt", {"num_warmup_steps": int(v.need("schedule.warmup_steps", "num_warmup_steps"))}


def _stable_decay(v: _Values) -> Made:
    its = _spanning("huggingface.warmup_stable_decay")(v)[1]
    return "huggingface.warmup_stable_decay", {**its, "num_decay_steps": int(v.need("schedule.decay_steps", "num_decay_steps"))}


def _one_cycle(v: _Values) -> Made:
    peak = v.get("schedule.peak_lr", "max_lr")
    return "torch.OneCycleLR", {"max_lr": v.lr if peak is None else peak, "total_steps": v.length("total_steps")}


def _cyclic(v: _Values) -> Made:
    low, high = v.need("schedule.min_lr", "base_lr"), v.need("schedule.peak_lr", "max_lr")
    return "torch.CyclicLR", {"base_lr": low, "max_lr": high, "step_size_up": v.count("schedule.step_size", "step_size_up")}


_BUILD: Mapping[str, Callable[[_Values], Made]] = {
    "constant": _constant,
    "linear": _spanning("huggingface.linear"),
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
    "plateau": lambda _: ("torch.ReduceLROnPlateau", {}),
    "greedy": lambda _: ("huggingface.greedy", {}),
}
