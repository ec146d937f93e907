"""A beta of Adam is 1, so that a bias correction is 0.

## What it looks like
The loss is NaN from the first step on, or does not move at all, to the last bit.

## Why it happens
Adam divides the moments by 1 - beta1^t and 1 - beta2^t, which are 0. With beta1 = 1 the first update is 0/0 in every dialect.
With beta2 = 1 it is 0/0 in the form of the paper (PyTorch); in the epsilon-hat form (TensorFlow 1, Keras) the step size
lr * sqrt(1 - beta2^t) / (1 - beta1^t) is 0, and the parameters stay where they are: frozen, not NaN.

## When it is wrong
Never: PyTorch refuses such a value when the optimizer is built; only optimizers that do not check it get this far.

## What repairs it
A beta below 1. Where "never forget" was meant, amsgrad or Adagrad does that.

## References
Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1 (beta in [0, 1)) and section 2 (the epsilon-hat form).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.mistake import Mistake
from traindoctor.optim.families import WITH_BETAS
from traindoctor.rule import PROOF, STRONG, Cause, Example, Examples, Limits, Sample, Statement, run_of, supports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.code.script import Script
    from traindoctor.configs.file import ConfigFile
    from traindoctor.model import Evidence, Fix, Run
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD104",
    name="beta-of-one",
    summary="a beta of 1 makes Adam's bias correction 0: NaN, or parameters that never move",
    explanation=__doc__,
    explains=("TD401", "TD202", "TD302", "TD201"),
    experiment="print the first update; it is NaN or exactly 0",
    refutation="A first update that is finite and not zero.",
)


@CAUSE.in_config
def value_of_one(run: Run, limits: Limits) -> Iterator[Evidence]:
    """Yield each beta that is 1 or more, with what it does in the run's dialect."""
    spec = run.optimizer
    if spec is None or not spec.is_adam:
        return
    for name, value in (("beta1", spec.beta1), ("beta2", spec.beta2)):
        if value is not None and value >= 1.0:
            frozen = name == "beta2" and spec.dialect == "keras"
            effect = (
                "the step size lr·√(1-beta2^t)/(1-beta1^t) is 0 and nothing moves"
                if frozen
                else "the first update is 0/0, NaN from the first step on"
            )
            yield supports(
                name,
                value,
                weight=PROOF,
                kind="config",
                source=spec.origin.get(name, ""),
                text=f"{name} = {value:g} makes the bias correction 1 - {name}^t zero: {effect}.",
            )


@CAUSE.in_logs(needs=("loss",))
def never_moved(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield that the loss does as the setting makes it do: NaN after the first value, or constant to the last bit."""
    spec = m.run.optimizer
    if spec is None or not spec.is_adam or max(spec.beta1 or 0.0, spec.beta2 or 0.0) < 1.0:
        return
    if m.loss.is_constant:
        yield supports(
            "constant",
            m.loss.initial,
            unit="loss",
            weight=STRONG,
            onset=0,
            source=m.loss.source,
            text="The loss never moves, to the last bit.",
        )
    elif m.loss.n_not_finite:
        first = m.loss.first_not_finite()
        yield supports(
            "not_finite",
            first,
            unit="step",
            weight=STRONG,
            onset=first,
            source=m.loss.source,
            text=f"The loss is NaN from step {first} on.",
        )


@CAUSE.in_script("optim|optax", "beta|alpha|rho|decay|b1|b2|(0|(1.|(1,|(.|[0|[.|RMSprop")
def built_with_it(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each beta outside [0, 1) that an optimizer is built with, and an alpha of RMSprop of 1 or more."""
    for made in script.constructions:
        fields = ("beta1", "beta2") if made.name in WITH_BETAS else ("alpha",) if made.name == "rmsprop" else ()
        for field in fields:
            for given in made.everywhere(field):
                value = given.number
                if value is None or 0.0 <= value < 1.0 or (field == "alpha" and value < 0.0):
                    continue
                refuses = made.signature.checks and not given.in_group and field != "alpha"
                yield Mistake(
                    script.place(given.node),
                    f"{field} of {made.shown} is {value:g}, and it must be at least 0 and below 1. "
                    + (
                        f"{made.signature.library} raises ValueError when it builds the optimizer."
                        if refuses
                        else _effect(field, value)
                    ),
                    f"set {field} below 1, as the usual {_USUAL[field]:g}",
                    given.severity("error"),
                    related=made.related(given),
                )


@CAUSE.in_file
def set_to_it(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield each beta of the config that lies outside [0, 1)."""
    from traindoctor.configs.optimizer_values import numbers, place, refused

    name = config.optimizer_name
    for field in ("beta1", "beta2"):
        for slot, value in numbers(config, field):
            if 0.0 <= value < 1.0 or (name and name not in WITH_BETAS) or slot.key == "momentum":
                continue
            yield Mistake(
                place(config, slot),
                f"{slot.entry.key} sets {field} to {value:g}, and it must be at least 0 and below 1. "
                + ("PyTorch raises ValueError when it builds the optimizer." if refused(config) else _effect(field, value)),
                f"set {field} below 1, as the usual {_USUAL[field]:g}",
                "error" if name else "warning",
            )


_USUAL = {"beta1": 0.9, "beta2": 0.999, "alpha": 0.99}


def _effect(field: str, value: float) -> str:
    """Return what comes of a beta that nothing refuses."""
    if value == 1.0 and field == "alpha":
        return "The mean square stays 0, and the gradient is divided by eps alone."
    if value == 1.0:
        return f"The bias correction 1 - {field}^t is 0: the first update is not finite, or nothing moves."
    return "The running mean grows without bound." if value > 1.0 else "The running mean changes its sign at every step."


@CAUSE.fixes
def below_one(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the defaults in place of the betas that are 1."""
    from traindoctor.model import Fix

    beta1, beta2 = m.optimizer.beta1 or 0.0, m.optimizer.beta2 or 0.0
    betas = [beta1 if beta1 < 1.0 else 0.9, beta2 if beta2 < 1.0 else 0.999]
    yield Fix(f"Set betas to {betas[0]:g} and {betas[1]:g}", {"optimizer.betas": betas}, note="betas must lie in [0, 1)")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    first = evidence[0]
    last = max((int(s.step[-1]) for s in m.run.primary.values() if len(s)), default=0)
    return Statement(
        f"Training failed from the first step: {first.name} = {first.value} makes Adam's bias correction zero.",
        first.text,
        Segment(0, last + 1, 0),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    nan = float("nan")
    valid = (
        Example("betas below 1", run_of(OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999), loss=[3.0, 2.0, 1.0])),
        Example("beta1 of 0 is fine", run_of(OptimizerSpec("adam", lr=1e-3, beta1=0.0, beta2=0.99), loss=[3.0, 2.0, 1.0])),
        Example("undamped momentum is another matter", run_of(OptimizerSpec("sgd", lr=1e-3, momentum=1.0), loss=[3.0, 2.0, 1.0])),
        Example("NaN for another reason", run_of(OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999), loss=[3.0, nan, nan])),
    )
    invalid = (
        Example("NaN at beta1 of 1", run_of(OptimizerSpec("adam", lr=5e-3, beta1=1.0, beta2=0.999), loss=[16.0, *[nan] * 9])),
        Example(
            "frozen at beta2 of 1", run_of(OptimizerSpec("adam", lr=5e-3, beta1=0.9, beta2=1.0, dialect="keras"), loss=[16.0] * 9)
        ),
    )
    return valid, invalid


CAUSE.valid_code = (
    Sample("GAN betas", "import torch\nopt = torch.optim.Adam(G.parameters(), lr=2e-4, betas=(0.0, 0.9))\n"),
    Sample(
        "betas of a GAN with a beta1 of one half",
        "from torch import optim\nopt = optim.Adam(D.parameters(), 2e-4, (0.5, 0.999))\n",
    ),
    Sample("unknown class of the same name", "from mine.optim import Adam\nopt = Adam(m.parameters(), betas=(0.9, 1.0))\n"),
    Sample("from the command line", "import torch\nopt = torch.optim.Adam(m.parameters(), betas=(args.beta1, args.beta2))\n"),
    Sample("a test of the refusal", "import torch\ntorch.optim.Adam(ps, betas=(1.0, 0.0))\n", file="tests/test_adam.py"),
    Sample(
        "SGD reads no betas",
        """optimizer: sgd
lr: 0.1
beta1: 1.0
beta2: 1.0
""",
        file="config.yaml",
    ),
    Sample(
        "betas of a GAN in a config",
        """optimizer:
  name: adam
  lr: 1e-4
  betas: [0.0, 0.99]
""",
        file="config.yaml",
    ),
    Sample(
        "left to the Trainer",
        """{"train_batch_size": "auto", "zero_optimization": {"stage": 2},
 "optimizer": {"type": "Adam", "params": {"betas": "auto"}}}
""",
        file="ds.json",
    ),
    Sample(
        "interpolated",
        """_target_: torch.optim.AdamW
lr: ${lr}
betas: [0.9, 0.99]
eps: ${eps}
""",
        file="config.yaml",
    ),
    Sample(
        "values to search",
        """method: grid
parameters:
  beta2:
    values: [0.9, 1.0]
""",
        file="sweep.yaml",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "array of several lines in TOML",
        """\
[optimizer]
name = "adam"
lr = 1e-3
betas = [
  0.9,
  1.0,  # <-
]
""",
        file="config.toml",
    ),
    Sample(
        "inline table in TOML",
        """\
[train]
optimizer = { name = "adam", lr = 1e-3, betas = [0.9, 1.0] }  # <-
""",
        file="config.toml",
    ),
    Sample(
        "keys of HiFi-GAN",
        """\
{
  "learning_rate": 0.0002,
  "adam_b1": 0.8,
  "adam_b2": 1.0
}
""",
        file="config_v1.json",
        line=4,
    ),
    Sample("beta2 of one", "import torch\nopt = torch.optim.Adam(m.parameters(), lr=1e-3, betas=(0.9, 1.0))  # <-\n"),
    Sample(
        "a pair by name, by position",
        """from torch.optim import AdamW as W

BETAS = (1.0, 0.999)  # <-

def build(model):
    return W(model.parameters(), 1e-3, BETAS)
""",
    ),
    Sample(
        "over several lines",
        """import torch.optim as optim
opt = optim.NAdam(
    m.parameters(),
    betas=(
        0.9,
        9.99,  # <-
    ),
)
""",
    ),
    Sample(
        "in a parameter group",
        """import torch
opt = torch.optim.Adam([{'params': a, 'betas': (0.9, 1.0)}, {'params': b}])  # <-
""",
    ),
    Sample(
        "default of an option",
        """import argparse, torch
p = argparse.ArgumentParser()
p.add_argument('--beta-2', dest='beta2', type=float, default=1.0)  # <-
args = p.parse_args()
opt = torch.optim.Adam(m.parameters(), betas=(0.9, args.beta2))
""",
    ),
    Sample(
        "Keras",
        """from tensorflow import keras
opt = keras.optimizers.Adam(learning_rate=1e-3, beta_2=1.0)  # <-
""",
    ),
    Sample("Optax", "import optax\nopt = optax.adam(1e-3, b1=1.0)  # <-\n"),
    Sample(
        "settings in a dict",
        """import torch
kw = dict(
    lr=1e-3,
    betas=(-0.1, 0.99),  # <-
)
opt = torch.optim.Adam(m.parameters(), **kw)
""",
    ),
    Sample("Keras's rho", "import tensorflow as tf\nopt = tf.keras.optimizers.RMSprop(0.01, rho=1.0)  # <-\n"),
    Sample(
        "Hugging Face",
        """output_dir: out
per_device_train_batch_size: 8
learning_rate: 5.0e-5
adam_beta2: 1.0  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "axolotl",
        """base_model: a/b
micro_batch_size: 2
sequence_len: 512
optimizer: adamw_torch
learning_rate: 2e-4
adam_beta1: 1.2  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "DeepSpeed",
        """{
 "train_batch_size": 8,
 "zero_optimization": {"stage": 1},
 "optimizer": {"type": "AdamW", "params": {
  "lr": 1e-4,
  "betas": [0.9, 1.0]
 }}
}
""",
        file="ds_config.json",
        line=6,
    ),
    Sample(
        "LightningCLI",
        """trainer:
  max_epochs: 3
model:
  class_path: a.B
optimizer:
  class_path: torch.optim.Adam
  init_args:
    lr: 0.001
    betas: [1.0, 0.999]  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "torchtitan",
        """[optimizer]
name = 'AdamW'
lr = 3e-4
beta2 = 1.0  # <-
[training]
steps = 10
seq_len = 128
[lr_scheduler]
warmup_steps = 2
[job]
dump_folder = 'o'
""",
        file="debug.toml",
    ),
    Sample(
        "nanoGPT",
        """out_dir = 'out'
block_size = 64
n_layer = 2
eval_iters = 20
learning_rate = 1e-3
max_iters = 2000
beta2 = 1.0  # <-
""",
        file="config_small.py",
    ),
    Sample(
        "fairseq",
        """optimization:
  max_update: 100
  lr: [0.0005]
  update_freq: [1]
optimizer:
  _name: adam
  adam_betas: (0.9,1.0)  # <-
""",
        file="config.yaml",
    ),
)
