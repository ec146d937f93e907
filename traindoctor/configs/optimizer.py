"""Settings and logged learning rates -> the optimizer, with the framework's defaults filled in."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from traindoctor.configs.frameworks import dialect_named
from traindoctor.configs.vocabulary import number, pair, truth, word
from traindoctor.optim.defaults import FRAMEWORKS, KERAS, RATES, TORCH

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from traindoctor.model import OptimizerSpec, Series, Setting

__all__ = ["KERAS", "TORCH", "normal_name", "optimizer_spec", "with_defaults"]

#: Names whose optimizers take betas and eps as Adam does: a dialect's own defaults of these are for them alone.
_WITH_BETAS = frozenset({"adam", "adamw", "amsgrad", "nadam", "radam", "adamax", "lamb", "lion"})
#: Spellings of a name, longest first where one holds another.
KNOWN = ("amsgrad", "adamax", "adamw", "nadam", "radam", "adam", "sgd", "rmsprop", "adagrad", "adadelta")
NAMES = {
    "momentum": "sgd",
    "nesterov": "sgd",
    "gd": "sgd",
    "gradientdescent": "sgd",
    "stochasticgradientdescent": "sgd",
    "cpuadam": "adam",
    "adamwithdecay": "adamw",
    "adamweightdecay": "adamw",
    "decoupledadamw": "adamw",
    "decoupledadam": "adam",
    "decoupledsgdw": "sgd",
    "decoupledlionw": "lion",
    "lionw": "lion",
    "sgdw": "sgd",
    "sgdnesterov": "sgd",
    "rmsproptf": "rmsprop",
    "adafactorwrapper": "adafactor",
    "npuadamw": "adamw",
    "npufusedadamw": "adamw",
    "onebitadam": "adam",
    "onebitlamb": "lamb",
    "zerooneadam": "adam",
    "fusedlamb": "lamb",
    "fusednovograd": "novograd",
    "hybridadam": "adam",
}
_NUMBERS = (
    "lr", "beta1", "beta2", "eps", "momentum", "alpha", "weight_decay", "dampening", "eps_root", "momentum_decay",
    "initial_accumulator", "lambd", "eps2", "clip_threshold", "ns_steps",
)  # fmt: skip
_SWITCHES = ("nesterov", "amsgrad", "decoupled", "centered", "relative_step", "scale_parameter")
#: Two fields that configs write as a pair.
_PAIRS = {"betas": ("beta1", "beta2"), "etas": ("eta_minus", "eta_plus"), "step_sizes": ("step_min", "step_max")}
#: What an optimizer has without a default in the tables: what is off or 0 in every framework, Adafactor's eps (that of the
#: dtype), and the switches of transformers' Adafactor.
_WITHOUT_DEFAULT = {
    "sgd": frozenset({"dampening"}),
    "rmsprop": frozenset({"centered", "initial_accumulator"}),
    "adafactor": frozenset({"eps", "relative_step", "scale_parameter"}),
}


def normal_name(text: str) -> str:
    """Return the name of an optimizer in lower case without its package, maker and precision.

    "torch.optim.AdamW", "adamw_torch_fused", "paged_adamw_8bit" -> "adamw". A name that is not known stays as it is.
    """
    last = re.split(r"[.:/]", text.strip().lower())[-1]
    plain = re.sub(
        r"[\s_-]+",
        "",
        re.sub(
            r"(?:_torch|_hf|_apex|_fused|_foreach|_xla|_npu|_bnb|_anyprecision|_?(?:8|4|32)bit|_blockwise|_optimizer)+(?=_|$)",
            "",
            last,
        ),
    )
    plain = re.sub(r"^(?:paged|fused|deepspeed|cpu|distributed|torch|tf|bnb)+|(?:optimizer|fused|optimiser)$", "", plain)
    if plain in NAMES:
        return NAMES[plain]
    return next((name for name in KNOWN if plain == name), plain or last)


def optimizer_spec(settings: Mapping[str, Setting], series: Sequence[Series]) -> OptimizerSpec | None:
    """Return the optimizer that settings and logs name, or None when nothing does.

    The learning rate is that of the settings, else the first positive one that was logged. What is not set is filled in
    from the framework. A value that cannot be what it claims (text, a negative number, NaN) counts as not set; limits
    such as beta1 = 1, eps = 0 and lr = 0 are kept.
    """
    from traindoctor.model import OptimizerSpec

    settings = with_defaults(settings)
    values: dict[str, float | bool | str] = {}
    origin: dict[str, str] = {}
    for field in (*_NUMBERS, *_SWITCHES):
        setting = settings.get(f"optimizer.{field}")
        read = None if setting is None else truth(setting.value) if field in _SWITCHES else _usable(setting.value)
        if setting is not None and read is not None:
            values[field], origin[field] = read, setting.origin
    for together, fields in _PAIRS.items():
        written = settings.get(f"optimizer.{together}")
        both = pair(written.value) if written is not None else None
        for field, one in zip(fields, both or (), strict=False):
            if written is not None and field not in values and (read := _usable(one)) is not None:
                values[field], origin[field] = read, written.origin
    power, adjust = settings.get("optimizer.beta2_decay"), settings.get("optimizer.adjust_lr")
    if power is not None and (exponent := number(power.value)) is not None and math.isfinite(exponent):
        values["beta2_decay"], origin["beta2_decay"] = exponent, power.origin
    if adjust is not None and (way := word(adjust.value)) is not None:
        values["adjust_lr"], origin["adjust_lr"] = way, adjust.origin
    name, raw = _name(settings, series, values, origin)
    if name is None:
        return None
    if raw == "nesterov":
        values.setdefault("nesterov", True)
    if raw in ("momentum", "nesterov"):
        values.setdefault("momentum", 0.9)
        origin.setdefault("momentum", f"usual value of {raw}")
    if "lr" not in values:
        _logged_rate(series, values, origin)
    dialect = _framework(settings)
    table, maker = FRAMEWORKS[dialect]
    defaults = table.get(name, {})
    left_open = _open(settings)
    for field, default in defaults.items():
        if field not in values and field not in left_open:
            values[field], origin[field] = default, f"default of {maker}"
            if field == "weight_decay" and dialect == "torch" and re.search(r"_(?:torch|hf|bnb|8bit)", raw):
                values[field], origin[field] = 0.0, "default of the Hugging Face Trainer"
    dialect_name = settings["dialect"].value if "dialect" in settings else ""
    if "lr" not in values and "lr" not in left_open and dialect_named(str(dialect_name)).builds and name in RATES[dialect]:
        values["lr"], origin["lr"] = RATES[dialect][name], f"default of {maker}"
    if name in TORCH:  # a setting that this optimizer does not have says nothing of it
        has = {
            *TORCH[name],
            *defaults,
            *_WITHOUT_DEFAULT.get(name, ()),
            "lr",
        }  # the two differ where Keras names what torch lacks
        values = {field: value for field, value in values.items() if field in has}
    return OptimizerSpec(
        name=name,
        lr=_number(values, "lr"),
        beta1=_number(values, "beta1"),
        beta2=_number(values, "beta2"),
        eps=_number(values, "eps"),
        momentum=_number(values, "momentum"),
        nesterov=_switch(values, "nesterov"),
        alpha=_number(values, "alpha"),
        weight_decay=_number(values, "weight_decay"),
        amsgrad=_switch(values, "amsgrad"),
        dialect=dialect,
        decoupled=_switch(values, "decoupled"),
        dampening=_number(values, "dampening"),
        centered=_switch(values, "centered"),
        eps_root=_number(values, "eps_root"),
        momentum_decay=_number(values, "momentum_decay"),
        lr_decay=_number(values, "lr_decay"),
        initial_accumulator=_number(values, "initial_accumulator"),
        lambd=_number(values, "lambd"),
        eta_minus=_number(values, "eta_minus"),
        eta_plus=_number(values, "eta_plus"),
        step_min=_number(values, "step_min"),
        step_max=_number(values, "step_max"),
        eps2=_number(values, "eps2"),
        beta2_decay=_number(values, "beta2_decay"),
        clip_threshold=_number(values, "clip_threshold"),
        relative_step=_switch(values, "relative_step"),
        scale_parameter=_switch(values, "scale_parameter"),
        ns_steps=int(values["ns_steps"]) if "ns_steps" in values else None,
        adjust_lr=str(values["adjust_lr"]) if "adjust_lr" in values else None,
        origin={field: place for field, place in origin.items() if field == "name" or field in values},
    )


def _usable(value: object) -> float | None:
    read = number(value)
    return read if read is not None and 0.0 <= read < float("inf") else None


def _number(values: Mapping[str, float | bool | str], field: str) -> float | None:
    return float(values[field]) if field in values else None


def _switch(values: Mapping[str, float | bool | str], field: str) -> bool | None:
    return bool(values[field]) if field in values else None


def _name(
    settings: Mapping[str, Setting], series: Sequence[Series], values: Mapping[str, float | bool | str], origin: dict[str, str]
) -> tuple[str | None, str]:
    """Return the name in our spelling and as written; (None, "") when nothing hints at one. Notes its origin."""
    setting = settings.get("optimizer.name")
    if setting is not None and (raw := word(setting.value)) is not None:
        origin["name"] = setting.origin
        return normal_name(raw), raw.strip().lower()
    for one in series:
        tag = re.search(r"(?:^|/)(?:lr|learning_rate|learningrate)-([A-Za-z]+)", one.tag)
        if tag and normal_name(tag.group(1)) in TORCH:
            origin["name"] = f"tag {one.tag}"
            return normal_name(tag.group(1)), tag.group(1).lower()
    unlike = "nesterov" in values or values.get("beta2") == 0.0  # betas of something else: AlgoPerf's generalised Adam
    for field in ("beta1", "beta2", "eps", "amsgrad"):
        if field in values and not unlike:
            origin["name"] = f"inferred from {field}"
            return "adam", ""
    if "momentum" in values or "nesterov" in values:
        origin["name"] = "inferred from momentum"
        return "sgd", ""
    return None, ""


def _logged_rate(series: Sequence[Series], values: dict[str, float | bool | str], origin: dict[str, str]) -> None:
    """Add the first positive learning rate that was logged."""
    for one in series:
        if one.quantity == "learning_rate":
            for value in one.value:
                if 0.0 < value < float("inf"):
                    values["lr"], origin["lr"] = float(value), f"first value of tag {one.tag}"
                    return


def _framework(settings: Mapping[str, Setting]) -> str:
    """Return whose optimizers these are: "torch", "keras" or "optax"."""
    setting = settings.get("framework")
    told = setting.value.lower() if setting is not None and isinstance(setting.value, str) else ""
    name = settings.get("optimizer.name")
    package = str(name.value).lower() if name is not None else ""
    if re.search(r"keras|tensorflow|^tf\d?$", told) or re.match(r"(?:tf\.)?keras\.|tensorflow\.", package):
        return "keras"
    return "optax" if re.search(r"^(?:jax|flax|optax)", told) or package.startswith("optax.") else "torch"


def _open(settings: Mapping[str, Setting]) -> frozenset[str]:
    """Return what the configs leave to something else and no setting says: fields of the optimizer without "optimizer."."""
    held = settings.get("dialect.open")
    names = held.value if held is not None and isinstance(held.value, tuple) else ()
    return frozenset(str(name).removeprefix("optimizer.") for name in names if name not in settings)


def with_defaults(settings: Mapping[str, Setting]) -> dict[str, Setting]:
    """Return the settings with what their dialect sets where they do not, e.g. "default of Hugging Face TrainingArguments".

    Only where "dialect" names one. Betas and eps are filled in for optimizers that have them as Adam does.
    """
    from traindoctor.model import Setting

    merged = dict(settings)
    told = settings.get("dialect")
    dialect = dialect_named(str(told.value)) if told is not None else None
    if dialect is None or not dialect.defaults:
        return merged
    origin = f"default of {dialect.name}"
    named = settings.get("optimizer.name")
    written = str(named.value if named is not None else dialect.defaults.get("optimizer.name", ""))
    name = normal_name(written) if written else ""
    usual = normal_name(str(dialect.defaults.get("optimizer.name", name)) or "adam")
    if not (name or any(key.startswith("optimizer.") for key in settings)):
        return merged  # a file of this framework that is not about training
    left_open = _open(settings)
    for setting, value in dialect.defaults.items():
        field = setting.partition(".")[2]
        if setting.removeprefix("optimizer.") in left_open:
            continue
        if field in ("beta1", "beta2", "eps") and setting.startswith("optimizer.") and name and name not in _WITH_BETAS:
            continue
        if field in ("momentum", "nesterov") and name != usual:
            continue
        merged.setdefault(setting, Setting(value, origin))
    return merged
