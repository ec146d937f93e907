"""What each framework's optimizers are built with when a setting is left out: name -> field of OptimizerSpec -> value."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    Default: TypeAlias = float | bool | str

_ADAM: Mapping[str, Default] = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0, "amsgrad": False}
_MOMENTS: Mapping[str, Default] = {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.0}
_KERAS_ADAM: Mapping[str, Default] = {**_ADAM, "eps": 1e-7}
_KERAS_MOMENTS: Mapping[str, Default] = {**_MOMENTS, "eps": 1e-7}
_OPTAX_MOMENTS: Mapping[str, Default] = {**_MOMENTS, "eps_root": 0.0}
_SGD: Mapping[str, Default] = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
#: Source: torch.optim 2.x constructors; the eight-bit and fused forms of others have the same. What torch.optim lacks
#: (lion, lamb, stableadamw): lion-pytorch, DeepSpeed, torch-optimi. torch.optim.Adafactor's eps is that of the dtype. The
#: learning rate stands apart in `RATES`: a script that reads a config seldom leaves it to the default.
TORCH: Mapping[str, Mapping[str, Default]] = {
    "adam": _ADAM,
    "amsgrad": {**_ADAM, "amsgrad": True},
    "adamw": {**_ADAM, "weight_decay": 1e-2},
    "nadam": {**_MOMENTS, "momentum_decay": 4e-3, "decoupled": False},
    "radam": {**_MOMENTS, "decoupled": False},
    "adamax": _MOMENTS,
    "sgd": _SGD,
    "rmsprop": {"alpha": 0.99, "eps": 1e-8, "momentum": 0.0, "weight_decay": 0.0},
    "adagrad": {"eps": 1e-10, "lr_decay": 0.0, "initial_accumulator": 0.0, "weight_decay": 0.0},
    "adadelta": {"alpha": 0.9, "eps": 1e-6, "weight_decay": 0.0},
    "rprop": {"eta_minus": 0.5, "eta_plus": 1.2, "step_min": 1e-6, "step_max": 50.0},
    "asgd": {"lambd": 1e-4, "alpha": 0.75, "weight_decay": 0.0},
    "adafactor": {"eps2": 1e-3, "beta2_decay": -0.8, "clip_threshold": 1.0, "weight_decay": 0.0},
    "muon": {"momentum": 0.95, "nesterov": True, "eps": 1e-7, "weight_decay": 0.1, "ns_steps": 5, "adjust_lr": "original"},
    "lion": {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0},
    "lamb": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.0},
    "stableadamw": {"beta1": 0.9, "beta2": 0.99, "eps": 1e-6, "weight_decay": 1e-2},
}
#: Source: keras.optimizers of Keras 3.
KERAS: Mapping[str, Mapping[str, Default]] = {
    "adam": _KERAS_ADAM,
    "amsgrad": {**_KERAS_ADAM, "amsgrad": True},
    "adamw": {**_KERAS_ADAM, "weight_decay": 0.004},
    "nadam": _KERAS_MOMENTS,
    "adamax": _KERAS_MOMENTS,
    "sgd": _SGD,
    "rmsprop": {"alpha": 0.9, "eps": 1e-7, "momentum": 0.0, "weight_decay": 0.0},
    "adagrad": {"eps": 1e-7, "initial_accumulator": 0.1, "weight_decay": 0.0},
    "adadelta": {"alpha": 0.95, "eps": 1e-7, "weight_decay": 0.0},
    "lion": {"beta1": 0.9, "beta2": 0.99, "weight_decay": 0.0},
    "adafactor": {"eps": 1e-30, "eps2": 1e-3, "beta2_decay": -0.8, "clip_threshold": 1.0, "weight_decay": 0.0},
    "muon": {
        "momentum": 0.95,
        "nesterov": True,
        "eps": 1e-7,
        "weight_decay": 0.004,
        "ns_steps": 5,
        "adjust_lr": "match_rms_adamw",
    },
    "lamb": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-7, "weight_decay": 0.0},
}
#: Source: optax 0.2, alias.py; the learning rate is always given.
OPTAX: Mapping[str, Mapping[str, Default]] = {
    "adam": _OPTAX_MOMENTS,
    "amsgrad": {**_OPTAX_MOMENTS, "amsgrad": True},
    "adamw": {**_OPTAX_MOMENTS, "weight_decay": 1e-4},
    "nadam": _OPTAX_MOMENTS,
    "radam": _OPTAX_MOMENTS,
    "adamax": _MOMENTS,
    "sgd": _SGD,
    "rmsprop": {"alpha": 0.9, "eps": 1e-8, "momentum": 0.0, "initial_accumulator": 0.0, "weight_decay": 0.0},
    "adagrad": {"eps": 1e-7, "initial_accumulator": 0.1, "weight_decay": 0.0},
    "adadelta": {"alpha": 0.9, "eps": 1e-6, "weight_decay": 0.0},
    "lion": {"beta1": 0.9, "beta2": 0.99, "weight_decay": 1e-3},
    "adafactor": {"eps": 1e-30, "eps2": 1e-3, "beta2_decay": -0.8, "clip_threshold": 1.0, "weight_decay": 0.0},
    "lamb": {"beta1": 0.9, "beta2": 0.999, "eps": 1e-6, "weight_decay": 0.0},
}
#: Framework -> its constructors' values, and what it is called.
FRAMEWORKS = {"torch": (TORCH, "PyTorch"), "keras": (KERAS, "Keras"), "optax": (OPTAX, "Optax")}
#: The constructors' learning rates, where the config alone makes the optimizer. Source: as above; DeepSpeed's Adam as torch's.
RATES: Mapping[str, Mapping[str, float]] = {
    "torch": {
        **dict.fromkeys(("adam", "adamw", "amsgrad", "radam", "sgd", "muon"), 1e-3),
        **dict.fromkeys(("adamax", "nadam"), 2e-3),
        **dict.fromkeys(("rmsprop", "adagrad", "adafactor", "rprop", "asgd"), 1e-2),
        "adadelta": 1.0,
    },
    "keras": {**dict.fromkeys(KERAS, 1e-3), "sgd": 1e-2},
    "optax": {},
}
