"""What the constructors of optimizers take, by their full name: the arguments in order, and whether they check values."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from traindoctor.optim.defaults import FRAMEWORKS, RATES

if TYPE_CHECKING:
    from collections.abc import Mapping


class Signature(NamedTuple):
    """The constructor of one optimizer.

    `name`: in the one vocabulary ("adamw"). `shown`: as the library spells it. `framework`: whose defaults stand ("torch",
    "keras", "optax"). `library`: as people call it. `positional`: arguments by position, after the parameters in PyTorch.
    `accepts`: every argument that any version takes, None where that is not known. `checks`: whether it refuses values that
    are out of range.
    """

    name: str
    shown: str
    framework: str
    library: str
    positional: tuple[str, ...]
    accepts: frozenset[str] | None
    checks: bool

    @property
    def takes_parameters(self) -> bool:
        """Whether the first argument holds the parameters to train."""
        return self.framework == "torch"

    def default(self, setting: str) -> float | bool | str | None:
        """Return what stands where a setting ("beta1", "eps", "lr") is not given; None when that is not known."""
        if setting == "lr":
            return RATES[self.framework].get(self.name)
        if self.library == "Transformers" and self.name == "adamw":
            return {"eps": 1e-6, "weight_decay": 0.0}.get(setting) or FRAMEWORKS["torch"][0]["adamw"].get(setting)
        return FRAMEWORKS[self.framework][0].get(self.name, {}).get(setting)


#: What an argument is called in the one vocabulary, where that differs.
CANONICAL = {
    "learning_rate": "lr",
    "beta_1": "beta1",
    "beta_2": "beta2",
    "b1": "beta1",
    "b2": "beta2",
    "epsilon": "eps",
    "rho": "alpha",
}

_LOOP = "maximize foreach capturable differentiable fused"
#: Name -> arguments in order, then "|" and those that are given by keyword alone (or were added, moved or dropped).
#: Source: torch.optim 1.0 to 2.13, the constructors.
_TORCH = {
    "Adam": f"lr betas eps weight_decay amsgrad | decoupled_weight_decay {_LOOP}",
    "AdamW": f"lr betas eps weight_decay amsgrad | {_LOOP}",
    "NAdam": f"lr betas eps weight_decay momentum_decay | decoupled_weight_decay {_LOOP}",
    "RAdam": f"lr betas eps weight_decay | decoupled_weight_decay {_LOOP}",
    "Adamax": f"lr betas eps weight_decay | {_LOOP}",
    "SparseAdam": f"lr betas eps | {_LOOP}",
    "SGD": f"lr momentum dampening weight_decay nesterov | {_LOOP}",
    "RMSprop": f"lr alpha eps weight_decay momentum centered | {_LOOP}",
    "Adagrad": f"lr lr_decay weight_decay initial_accumulator_value eps | {_LOOP}",
    "Adadelta": f"lr rho eps weight_decay | {_LOOP}",
    "Adafactor": f"lr beta2_decay eps d weight_decay | {_LOOP}",
    "ASGD": f"lr lambd alpha t0 weight_decay | {_LOOP}",
    "Rprop": f"lr etas step_sizes | {_LOOP}",
    "LBFGS": "lr max_iter max_eval tolerance_grad tolerance_change history_size line_search_fn |",
    "Muon": "lr weight_decay momentum nesterov ns_coefficients eps ns_steps adjust_lr_fn |",
}
#: Names of torch.optim that are no optimizers.
TORCH_OTHERS = frozenset({"Optimizer", "lr_scheduler", "swa_utils", "optimizer", "functional", "required"})

_FUSED = "lr bias_correction betas eps adam_w_mode weight_decay amsgrad"
_EIGHT_BIT = "lr betas eps weight_decay amsgrad"
_LAMB = "lr bias_correction betas eps weight_decay amsgrad"
#: Source: apex, optimizers/; bitsandbytes, optim/; deepspeed, ops/; lion-pytorch; transformers, optimization.py; timm, optim/.
_OTHERS = {
    "FusedAdam": _FUSED,
    "FusedLAMB": _LAMB,
    "FusedLamb": _LAMB,
    "FusedSGD": "lr momentum dampening weight_decay nesterov",
    "DeepSpeedCPUAdam": "lr bias_correction betas eps weight_decay amsgrad adamw_mode",
    "HybridAdam": "lr bias_correction betas eps weight_decay adamw_mode",
    **dict.fromkeys(("Adam", "AdamW", "Adam8bit", "AdamW8bit", "PagedAdam8bit", "PagedAdamW8bit"), _EIGHT_BIT),
    **dict.fromkeys(("Adam32bit", "AdamW32bit", "PagedAdam32bit", "PagedAdamW32bit", "PagedAdam", "PagedAdamW"), _EIGHT_BIT),
    **dict.fromkeys(("Lion", "Lion8bit", "PagedLion", "PagedLion8bit"), "lr betas weight_decay"),
    "SGD8bit": "lr momentum dampening weight_decay nesterov",
    "RMSprop8bit": "lr alpha eps weight_decay momentum centered",
    "NAdam": "lr betas eps weight_decay",
    "RAdam": "lr betas eps weight_decay",
    "NAdamW": "lr betas eps weight_decay",
    "Lamb": "lr bias_correction betas eps weight_decay",
    "SGDW": "lr momentum dampening weight_decay nesterov",
    "RMSpropTF": "lr alpha eps weight_decay momentum centered",
}
#: Name -> arguments in order. Source: keras.optimizers of Keras 3, and `lr` and `decay` of tf.keras before 2.11.
_KERAS = {
    "Adam": "learning_rate beta_1 beta_2 epsilon amsgrad weight_decay",
    "AdamW": "learning_rate weight_decay beta_1 beta_2 epsilon amsgrad",
    "Nadam": "learning_rate beta_1 beta_2 epsilon weight_decay",
    "Adamax": "learning_rate beta_1 beta_2 epsilon weight_decay",
    "SGD": "learning_rate momentum nesterov weight_decay",
    "RMSprop": "learning_rate rho momentum epsilon centered weight_decay",
    "Adagrad": "learning_rate initial_accumulator_value epsilon weight_decay",
    "Adadelta": "learning_rate rho epsilon weight_decay",
    "Lion": "learning_rate beta_1 beta_2 weight_decay",
}
#: Keyword arguments of every optimizer of Keras, of any version.
_KERAS_BASE = """
    learning_rate lr decay schedule_decay weight_decay clipnorm clipvalue global_clipnorm use_ema ema_momentum
    ema_overwrite_frequency loss_scale_factor gradient_accumulation_steps name jit_compile is_legacy_optimizer
    gradient_aggregator gradient_transformers
"""
#: Source: optax 0.2, alias.py.
_OPTAX = {
    "adam": "learning_rate b1 b2 eps eps_root mu_dtype nesterov",
    "adamw": "learning_rate b1 b2 eps eps_root mu_dtype weight_decay mask nesterov",
    "nadam": "learning_rate b1 b2 eps eps_root mu_dtype",
    "radam": "learning_rate b1 b2 eps eps_root threshold nesterov",
    "adamax": "learning_rate b1 b2 eps",
    "sgd": "learning_rate momentum nesterov accumulator_dtype",
    "rmsprop": "learning_rate alpha eps initial_scale eps_in_sqrt centered momentum nesterov",
    "lamb": "learning_rate b1 b2 eps eps_root weight_decay mask",
    "lion": "learning_rate b1 b2 mu_dtype weight_decay mask",
    "adagrad": "learning_rate initial_accumulator_value eps",
}
#: What the class is called in the one vocabulary, where lower case without digits and makers is not it.
_NAMES = {
    "fusedadam": "adam",
    "deepspeedcpuadam": "adamw",
    "hybridadam": "adamw",
    "fusedlamb": "lamb",
    "fusedsgd": "sgd",
    "sgdw": "sgd",
    "rmsproptf": "rmsprop",
    "nadamw": "nadam",
    "sparseadam": "adam",
}


class _Package(NamedTuple):
    framework: str
    library: str
    table: Mapping[str, str]
    checks: bool


_BITSANDBYTES = _Package("torch", "bitsandbytes", _OTHERS, True)
#: Package -> its constructors; what lies below it counts as it.
_PACKAGES = {
    "torch.optim": _Package("torch", "PyTorch", _TORCH, True),
    "apex.optimizers": _Package("torch", "apex", _OTHERS, False),
    "bitsandbytes.optim": _BITSANDBYTES,
    "bnb.optim": _BITSANDBYTES,
    "deepspeed.ops": _Package("torch", "DeepSpeed", _OTHERS, False),
    "colossalai.nn.optimizer": _Package("torch", "ColossalAI", _OTHERS, False),
    "lion_pytorch": _Package("torch", "lion-pytorch", _OTHERS, False),
    "transformers": _Package("torch", "Transformers", _OTHERS, True),
    "timm.optim": _Package("torch", "timm", _OTHERS, False),
    "tensorflow.keras.optimizers": _Package("keras", "Keras", _KERAS, False),
    "tensorflow.python.keras.optimizers": _Package("keras", "Keras", _KERAS, False),
    "tf.keras.optimizers": _Package("keras", "Keras", _KERAS, False),
    "keras.optimizers": _Package("keras", "Keras", _KERAS, False),
    "optax": _Package("optax", "Optax", _OPTAX, False),
}
#: Every class or function name that may be a constructor.
CONSTRUCTORS = frozenset({*_TORCH, *_OTHERS, *_KERAS, *_OPTAX})
TORCH_CLASSES = tuple(_TORCH)


def signature(path: str) -> Signature | None:
    """Return the constructor of a full name ("torch.optim.AdamW"); None for any other name."""
    parent, _, name = path.rpartition(".")
    if name not in CONSTRUCTORS:
        return None
    parts = parent.split(".")
    package = next((p for n in range(len(parts), 0, -1) if (p := _PACKAGES.get(".".join(parts[:n])))), None)
    if package is None or name not in package.table:
        return None
    first, _, more = package.table[name].partition("|")
    plain = name.lower().removeprefix("paged").removesuffix("8bit").removesuffix("32bit")
    positional = tuple(first.split())
    accepts = None
    if package.library == "PyTorch":
        accepts = frozenset({"params", *positional, *more.split()})
    elif package.library == "Keras":
        accepts = frozenset({*positional, *_KERAS_BASE.split()})
    return Signature(
        name=_NAMES.get(plain, plain),
        shown=name,
        framework=package.framework,
        library=package.library,
        positional=positional,
        accepts=accepts,
        checks=package.checks,
    )
