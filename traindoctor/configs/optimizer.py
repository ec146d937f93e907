"""Settings and logged learning rates -> the optimizer, with the framework's defaults filled in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from traindoctor.configs.frameworks import dialect_named
from traindoctor.configs.vocabulary import number, pair, truth, word
from traindoctor.model import OptimizerSpec, Series, Setting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ADAM = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False}
_KERAS_ADAM = {**_ADAM, "eps": 1e-7}
_SGD = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
#: Source: torch.optim 2.x constructors; the eight-bit and fused forms of others have the same. The learning rate stands
#: apart in `RATES`: a script that reads a config seldom leaves it to the default.
TORCH: Mapping[str, Mapping[str, float | bool]] = {
    "adam": _ADAM,
    "amsgrad": {**_ADAM, "amsgrad": True},
    "adamw": {**_ADAM, "weight_decay": 1e-2},
    "nadam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    "radam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    "adamax": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    "sgd": _SGD,
    "rmsprop": {"alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0},
    "adagrad": {"eps": 1e-10, "weight_decay": 0.0},
    "adadelta": {"alpha": 0.9, "eps": 1e-6, "weight_decay": 0.0},
    "adafactor": {"weight_decay": 0.0},
    "muon": {"momentum": 0.95, "nesterov": True, "eps": 1e-7, "weight_decay": 0.1},
    "lion": {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0},
    "lamb": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.0},
}
#: Source: keras.optimizers of Keras 3.
KERAS: Mapping[str, Mapping[str, float | bool]] = {
    "adam": _KERAS_ADAM,
    "amsgrad": {**_KERAS_ADAM, "amsgrad": True},
    "adamw": {**_KERAS_ADAM, "weight_decay": 0.004},
    "nadam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-7, "weight_decay": 0.0},
    "adamax": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-7, "weight_decay": 0.0},
    "sgd": _SGD,
    "rmsprop": {"alpha": 0.9, "eps": 1e-7, "momentum": 0.0, "weight_decay": 0.0},
    "adagrad": {"eps": 1e-7, "weight_decay": 0.0},
    "adadelta": {"alpha": 0.95, "eps": 1e-7, "weight_decay": 0.0},
    "lion": {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0},
    "adafactor": {"eps": 1e-30, "weight_decay": 0.0},
    "lamb": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.0},
}
#: Source: optax 0.2, alias.py; the learning rate is always given.
OPTAX: Mapping[str, Mapping[str, float | bool]] = {
    "adam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    "adamw": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 1e-4},
    "nadam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    "radam": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    "adamax": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0},
    "sgd": _SGD,
    "rmsprop": {"alpha": 0.9, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0},
    "adagrad": {"eps": 1e-7, "weight_decay": 0.0},
    "lion": {"beta1": 0.9, "beta2": 0.99, "weight_decay": 1e-3},
    "lamb": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.0},
}
#: Framework -> its constructors' values, and what it is called.
FRAMEWORKS = {"torch": (TORCH, "PyTorch"), "keras": (KERAS, "Keras"), "optax": (OPTAX, "Optax")}
#: The constructors' learning rates, where the config alone makes the optimizer. Source: as above; DeepSpeed's Adam as torch's.
RATES: Mapping[str, Mapping[str, float]] = {
    "torch": {
        **dict.fromkeys(("adam", "adamw", "amsgrad", "radam", "sgd", "muon"), 1e-3),
        **dict.fromkeys(("adamax", "nadam"), 2e-3),
        **dict.fromkeys(("rmsprop", "adagrad", "adafactor"), 1e-2),
        "adadelta": 1.0,
    },
    "keras": {**dict.fromkeys(KERAS, 1e-3), "sgd": 1e-2},
    "optax": {},
}
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
_NUMBERS = ("lr", "beta1", "beta2", "eps", "momentum", "alpha", "weight_decay")
_SWITCHES = ("nesterov", "amsgrad")


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
    settings = with_defaults(settings)
    values: dict[str, float | bool] = {}
    origin: dict[str, str] = {}
    for field in (*_NUMBERS, *_SWITCHES):
        setting = settings.get(f"optimizer.{field}")
        read = None if setting is None else truth(setting.value) if field in _SWITCHES else _usable(setting.value)
        if setting is not None and read is not None:
            values[field], origin[field] = read, setting.origin
    betas = settings.get("optimizer.betas")
    both = pair(betas.value) if betas is not None else None
    for field, beta in zip(("beta1", "beta2"), both or (), strict=False):
        if betas is not None and field not in values and (read := _usable(beta)) is not None:
            values[field], origin[field] = read, betas.origin
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
        has = {*TORCH[name], *defaults, "lr"}  # the two differ where Keras names what torch lacks
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
        origin={field: place for field, place in origin.items() if field == "name" or field in values},
    )


def _usable(value: object) -> float | None:
    read = number(value)
    return read if read is not None and 0.0 <= read < float("inf") else None


def _number(values: Mapping[str, float | bool], field: str) -> float | None:
    return float(values[field]) if field in values else None


def _switch(values: Mapping[str, float | bool], field: str) -> bool | None:
    return bool(values[field]) if field in values else None


def _name(
    settings: Mapping[str, Setting], series: Sequence[Series], values: Mapping[str, float | bool], origin: dict[str, str]
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


def _logged_rate(series: Sequence[Series], values: dict[str, float | bool], origin: dict[str, str]) -> None:
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
