"""Tasks with settings that work, by part, and what each task is like: what a fault may be injected into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training import Plan

SGDM, NESTEROV, DAMPED = {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}, {"amsgrad": True}
Optimizers = list[tuple[str, float, dict[str, Any]]]

#: What tasks are like. "classes": integer labels; "batches": mini-batches; "val": a validation part; "relu", "batch-norm",
#: "layer-norm", "attention", "recurrent", "embedding", "deep" (four or more weight layers), "regression", "terms" (several
#: loss terms), "game" (the loss is no measure of progress), "exact" (fits its data to rounding).
TRAITS: dict[str, str] = {
    "mlp-digits": "classes batches val relu images",
    "cnn-digits": "classes batches val relu images convolution",
    "gru-sines": "batches val recurrent regression",
    "autoencoder": "batches val relu regression images",
    "char-lm": "classes batches val attention layer-norm embedding tokens",
    "logreg": "classes val images",
    "linreg-noisy": "batches val regression",
    "factorisation": "regression exact",
    "deep-linear": "regression exact",
    "multitask": "regression terms",
    "linreg-exact": "regression exact",
    "mlp-exact": "regression exact",
    "deep-mlp": "classes batches val relu deep images",
    "residual-mlp": "classes batches val relu deep layer-norm",
    "post-norm-lm": "classes batches val attention layer-norm embedding tokens deep",
    "rnn-parity": "classes batches val recurrent",
    "imbalanced": "classes batches val relu imbalanced",
    "contrastive": "batches relu classes-of-pairs",
    "house-prices": "batches val relu regression",
    "gan": "game batches",
    "bandit": "game batches",
    "bag-of-words": "classes batches val relu embedding tokens",
    "conv-signals": "classes batches val relu convolution",
    "tabular": "classes batches val relu",
    "attention-copy": "classes batches val attention layer-norm embedding tokens",
    "tanh-exact": "regression exact",
    "three-lines": "regression exact terms",
    "lstm-topics": "classes batches val recurrent embedding tokens",
    "resnet-digits": "classes batches val relu images convolution batch-norm deep",
    "friedman": "batches val relu regression",
    "variational": "batches val relu images regression terms",
    "wide-tabular": "classes batches val relu imbalanced",
    "patches": "classes batches val attention layer-norm images deep",
    "separable": "classes batches val relu images convolution",
    "names": "classes batches val recurrent embedding tokens",
    "picture": "batches val relu regression",
    "triplets": "batches relu classes-of-pairs",
    "distilled": "batches val relu",
    "mixer": "classes batches val layer-norm deep images",
    "quantiles": "batches val relu regression",
    "brackets": "classes batches val recurrent embedding tokens",
    "denoiser": "batches val relu images regression convolution",
}


@dataclass(frozen=True)
class Recipe:
    """A task with settings that work; `optimizers`: name, rate and further arguments, each sound with these `steps`."""

    key: str
    task: str
    arguments: dict[str, Any]
    steps: int
    optimizers: Optimizers

    @property
    def traits(self) -> frozenset[str]:
        """What the task is like, see `TRAITS`; "full-batch" where it draws no batches, "batch-norm" where it has one."""
        own = set(TRAITS[self.task].split())
        if self.task == "cnn-digits" and self.arguments.get("norm", True):
            own.add("batch-norm")
        if self.task == "tabular" and self.arguments.get("name") == "diabetes":
            own = own - {"classes"} | {"regression"}
        if ("batch" in self.arguments and self.arguments["batch"] is None) or "batches" not in own:
            own = own - {"batches"} | {"full-batch"}
        return frozenset(own)

    def plan(self, i: int, seed: int) -> Plan:
        """Return the sound plan with its `i`-th optimizer."""
        name, lr, kw = self.optimizers[i % len(self.optimizers)]
        return Plan(self.task, seed, name, lr, self.steps, dict(kw), dict(self.arguments))

    def is_like(self, *traits: str) -> bool:
        """Whether the task has all of these traits ("relu"; "!game" for not; "relu|recurrent" for one of several)."""

        def has(trait: str) -> bool:
            if trait.startswith("!"):
                return trait[1:] not in self.traits
            return any(one in self.traits for one in trait.split("|"))

        return all(has(trait) for trait in traits)


def recipes(part: str) -> dict[str, Recipe]:
    """Return the recipes of a part by key."""
    table = {"tuning": TUNING, "held-back": HELD_BACK, "held-back-2": HELD_BACK_2}[part]
    return {key: Recipe(key, task, arguments, steps, optimizers) for key, (task, arguments, steps, optimizers) in table.items()}


Row = tuple[str, dict[str, Any], int, Optimizers]
TUNING: dict[str, Row] = {
    "mlp": (
        "mlp-digits",
        {},
        690,
        [
            ("adam", 1e-3, {}),
            ("sgd", 0.1, {}),
            ("sgd", 0.05, SGDM),
            ("rmsprop", 1e-3, {}),
            ("adamw", 1e-3, {}),
            ("adagrad", 2e-2, {}),
        ],
    ),
    "mlp1": (
        "mlp-digits",
        {"hidden": 128, "layers": 1, "batch": 32},
        880,
        [("adam", 1e-3, DAMPED), ("sgd", 0.1, {}), ("adam", 2e-3, {})],
    ),
    "cnn": (
        "cnn-digits",
        {},
        352,
        [("sgd", 0.05, SGDM), ("adam", 2e-3, {}), ("adamw", 2e-3, {"weight_decay": 0.05}), ("rmsprop", 1e-3, {})],
    ),
    "plaincnn": ("cnn-digits", {"norm": False, "width": 6}, 352, [("adam", 3e-3, {}), ("sgd", 0.05, NESTEROV)]),
    "gru": ("gru-sines", {}, 400, [("adam", 5e-3, {}), ("rmsprop", 3e-3, {}), ("sgd", 0.2, SGDM)]),
    "ae": ("autoencoder", {}, 660, [("adam", 2e-3, {}), ("sgd", 1.0, SGDM), ("rmsprop", 1e-3, {})]),
    "lm": ("char-lm", {}, 360, [("adamw", 3e-3, {}), ("adam", 2e-3, {"betas": (0.9, 0.95)}), ("sgd", 0.3, SGDM)]),
    "logreg": ("logreg", {}, 300, [("adam", 0.02, {}), ("sgd", 1.0, {}), ("sgd", 0.3, SGDM), ("adagrad", 0.1, {})]),
    "noisy": ("linreg-noisy", {}, 800, [("sgd", 0.02, {}), ("adam", 1e-2, {}), ("sgd", 5e-3, NESTEROV)]),
    "factor": ("factorisation", {}, 700, [("sgd", 3.0, SGDM), ("adam", 1e-2, {})]),
    "deeplin": ("deep-linear", {}, 600, [("sgd", 0.2, {}), ("adam", 3e-3, {})]),
    "heads": ("multitask", {"batch": 32, "n": 512}, 800, [("adam", 3e-3, {}), ("sgd", 0.05, {}), ("adamw", 3e-3, {})]),
    "deep": ("deep-mlp", {}, 500, [("adam", 1e-3, {}), ("sgd", 0.05, SGDM)]),
    "resmlp": ("residual-mlp", {}, 400, [("adamw", 2e-3, {}), ("sgd", 0.1, SGDM)]),
    "postlm": ("post-norm-lm", {}, 320, [("adamw", 1e-3, {}), ("adam", 1e-3, {"betas": (0.9, 0.98)})]),
    "parity": ("rnn-parity", {}, 600, [("adam", 3e-3, {}), ("rmsprop", 1e-3, {})]),
    "rare": ("imbalanced", {}, 500, [("adam", 2e-3, {}), ("sgd", 0.1, SGDM)]),
    "pairs": ("contrastive", {"batch": 48}, 400, [("adam", 1e-3, {}), ("sgd", 0.1, SGDM)]),
    "houses": ("house-prices", {}, 480, [("adam", 2e-3, {}), ("sgd", 0.02, SGDM)]),
}
HELD_BACK: dict[str, Row] = {
    "bow": ("bag-of-words", {}, 480, [("adam", 5e-3, {}), ("sgd", 1.0, SGDM), ("adamw", 5e-3, {})]),
    "conv1d": ("conv-signals", {}, 450, [("adam", 3e-3, {}), ("sgd", 0.05, SGDM), ("rmsprop", 1e-3, {})]),
    "wine": ("tabular", {"name": "wine"}, 240, [("adam", 5e-3, {}), ("sgd", 0.1, {})]),
    "cancer": ("tabular", {"name": "breast_cancer", "batch": 32}, 420, [("adam", 2e-3, {}), ("sgd", 0.1, SGDM)]),
    "diabetes": ("tabular", {"name": "diabetes", "batch": 32, "hidden": 16}, 220, [("adam", 3e-3, {}), ("sgd", 0.02, {})]),
    "copy": ("attention-copy", {}, 420, [("adam", 3e-3, {}), ("adamw", 3e-3, {})]),
    "contrast": ("contrastive", {}, 420, [("adam", 1e-3, {}), ("sgd", 0.1, SGDM)]),
    "lines": ("three-lines", {}, 400, [("sgd", 0.02, {}), ("adam", 3e-3, {})]),
    "topics": ("lstm-topics", {}, 380, [("adam", 5e-3, {}), ("adamw", 5e-3, {})]),
    "resnet": ("resnet-digits", {}, 260, [("sgd", 0.05, SGDM), ("adam", 2e-3, {})]),
    "friedman": ("friedman", {}, 420, [("adam", 3e-3, {}), ("sgd", 0.02, SGDM), ("rmsprop", 1e-3, {})]),
    "vae": ("variational", {}, 440, [("adam", 2e-3, {}), ("adamw", 2e-3, {})]),
    "widetab": ("wide-tabular", {}, 420, [("adam", 2e-3, {}), ("sgd", 0.1, SGDM)]),
}
#: Tasks that were written when every rule stood.
HELD_BACK_2: dict[str, Row] = {
    "patches": ("patches", {}, 380, [("adamw", 3e-3, {}), ("adam", 2e-3, {})]),
    "separable": ("separable", {}, 360, [("adam", 5e-3, {}), ("sgd", 0.1, SGDM)]),
    "names": ("names", {}, 420, [("adam", 5e-3, {}), ("adamw", 5e-3, {}), ("sgd", 0.5, SGDM)]),
    "picture": ("picture", {}, 500, [("adam", 3e-3, {}), ("rmsprop", 1e-3, {})]),
    "triplets": ("triplets", {}, 420, [("adam", 1e-3, {}), ("sgd", 0.05, SGDM)]),
    "distilled": ("distilled", {}, 420, [("adam", 3e-3, {}), ("sgd", 0.05, SGDM), ("adamw", 3e-3, {})]),
    "mixer": ("mixer", {}, 360, [("adamw", 3e-3, {}), ("adam", 3e-3, {})]),
    "quantiles": ("quantiles", {}, 440, [("adam", 3e-3, {}), ("sgd", 0.05, SGDM)]),
    "brackets": ("brackets", {}, 400, [("adam", 1e-2, {}), ("rmsprop", 3e-3, {})]),
    "denoiser": ("denoiser", {}, 380, [("adam", 3e-3, {}), ("sgd", 0.3, SGDM)]),
    "iris": ("tabular", {"name": "iris", "batch": 24, "hidden": 24}, 300, [("adam", 1e-2, {}), ("sgd", 0.1, SGDM)]),
}
EXACT_TUNING: list[tuple[str, dict[str, Any], str, float, dict[str, Any], int]] = [
    ("linreg-exact", {"n": 64, "d": 1000}, "adam", 1e-3, {}, 5000),
    ("linreg-exact", {"n": 48, "d": 600}, "adam", 2e-3, {}, 4500),
    ("linreg-exact", {"n": 20, "d": 200, "noise": 0.3}, "adam", 2e-3, {}, 5500),
    ("linreg-exact", {"n": 32, "d": 400, "reduction": "mean"}, "adam", 1e-3, {}, 5500),
    ("linreg-exact", {"n": 40, "d": 400, "scale": 2.0}, "adamw", 1e-3, {"weight_decay": 0.0}, 5000),
    ("linreg-exact", {"n": 64, "d": 800, "reduction": "mean"}, "adam", 3e-3, {}, 4500),
    ("linreg-exact", {"n": 30, "d": 500}, "adam", 1e-3, {"betas": (0.9, 0.99)}, 3000),
    ("linreg-exact", {"n": 48, "d": 500}, "adam", 1e-3, {"betas": (0.9, 0.995)}, 4000),
    ("linreg-exact", {"n": 24, "d": 300}, "adam", 1e-3, {"betas": (0.8, 0.999)}, 4500),
    ("linreg-exact", {"n": 32, "d": 500}, "rmsprop", 1e-4, {"alpha": 0.999}, 4500),
    ("mlp-exact", {}, "adam", 3e-3, {}, 6000),
    ("mlp-exact", {"n": 16, "hidden": 96}, "adam", 3e-3, {"betas": (0.9, 0.99)}, 4500),
    ("mlp-exact", {"n": 20, "d": 8, "hidden": 64}, "adamw", 5e-3, {"weight_decay": 0.0}, 5000),
    ("multitask", {}, "adam", 3e-3, {}, 4000),
    ("multitask", {"n": 48, "heads": 3}, "adamw", 3e-3, {"weight_decay": 0.0}, 4000),
    ("multitask", {"n": 40, "heads": 2, "hidden": 128}, "adam", 2e-3, {}, 5000),
    ("deep-linear", {}, "adam", 3e-3, {}, 5000),
    ("factorisation", {}, "adam", 1e-2, {}, 4500),
]
EXACT_HELD_BACK: list[tuple[str, dict[str, Any], str, float, dict[str, Any], int]] = [
    ("tanh-exact", {}, "adam", 3e-3, {}, 6000),
    ("tanh-exact", {"n": 20, "hidden": 160}, "adam", 3e-3, {"betas": (0.9, 0.99)}, 5000),
    ("three-lines", {}, "adam", 2e-3, {}, 5000),
    ("three-lines", {"n": 24, "d": 300}, "adamw", 1e-3, {"weight_decay": 0.0}, 5000),
    ("linreg-exact", {"n": 50, "d": 700}, "adam", 1e-3, {}, 5000),
    ("linreg-exact", {"n": 64, "d": 1000}, "adam", 1e-3, {}, 5500),
    ("multitask", {"n": 56}, "adam", 3e-3, {}, 4000),
    ("deep-linear", {"depth": 2}, "adam", 3e-3, {}, 5000),
]
EXACT_HELD_BACK_2: list[tuple[str, dict[str, Any], str, float, dict[str, Any], int]] = [
    ("tanh-exact", {"n": 24, "d": 4, "hidden": 144}, "adam", 3e-3, {}, 5500),
    ("mlp-exact", {"n": 22, "hidden": 80}, "adam", 4e-3, {}, 5500),
    ("three-lines", {"n": 30, "d": 260}, "adam", 1e-3, {}, 5000),
    ("linreg-exact", {"n": 36, "d": 450, "noise": 0.5}, "adam", 1e-3, {}, 5000),
    ("linreg-exact", {"n": 44, "d": 900}, "adamw", 1e-3, {"weight_decay": 0.0}, 5000),
    ("deep-linear", {"depth": 4}, "adam", 2e-3, {}, 5000),
]
