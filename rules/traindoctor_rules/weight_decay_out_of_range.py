"""The weight decay is negative, or so large that it outweighs the gradients.

## What it looks like
A weight decay below 0 is refused by PyTorch when the optimizer is built; where nothing checks, weights grow exponentially. One
above 1 pulls every weight to zero faster than the data can hold it: the loss settles at that of a model that says nothing, and
the norm of the weights falls to a fraction.

## Why it happens
A sign too many, or the value of another setting (the learning rate's schedule, a percentage).

## When it is wrong
Lion is used with a decay of 1 to 10, as its learning rate is smaller by the same factor; so such an optimizer is not judged.
A decay of exactly 1 is used to study grokking. Weights that start too large shrink in sound runs, while the loss falls.

## What repairs it
1e-4 for SGD, 0.01 to 0.1 for AdamW.

## References
PyTorch documentation, torch.optim.SGD and AdamW: "weight_decay"; both raise ValueError for a negative value.
Loshchilov and Hutter 2019, Decoupled weight decay regularization, arXiv:1711.05101, Algorithm 2.
Chen et al. 2023, Symbolic discovery of optimization algorithms, arXiv:2302.06675, section 4.1 (Lion's decay).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.mistake import Mistake
from traindoctor.optim.families import DECAYED
from traindoctor.rule import (
    MODERATE,
    PROOF,
    STRONG,
    WEAK,
    Cause,
    Example,
    Examples,
    Limits,
    Sample,
    Statement,
    Threshold,
    against,
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.code.script import Script
    from traindoctor.configs.file import ConfigFile
    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

STUDY = "benchmarks/study, tuning part"

CAUSE = Cause(
    code="TD106",
    name="weight-decay-out-of-range",
    summary="weight decay is negative, or outweighs the gradients",
    explanation=__doc__,
    thresholds=(
        Threshold(
            "large", 1.0, unit="weight decay", source="arXiv:1711.05101, figures 1 to 3 and AdamW's default 0.01: 100 times that"
        ),
        Threshold("coupled", 0.05, "weight decay in the gradient", "100 times 5e-4, arXiv:1512.03385, section 3.4"),
        Threshold("decoupled", 1.0, "decoupled weight decay", "100 times AdamW's default"),
        Threshold("shrunk", 0.7, "weight norm at the end over the start", f"{STUDY}: sound runs that stay high keep 0.93"),
        Threshold("gone", 0.4, "weight norm at the end over the start", STUDY),
        Threshold("left", 0.15, "tail loss over initial loss", STUDY),
        Threshold("pull", 0.05, "weight decay times weight norm over gradient norm", f"{STUDY}: usual decays stay below 0.01"),
    ),
    look_alikes=("TD202", "TD103", "TD201"),
    explains=("TD202", "TD612", "TD617", "TD509"),
    experiment="log the norm of the weights, or train a tenth of the run without decay: it passes the old level if decay held it",
    refutation="A norm of the weights that settles, or a run without decay that stays at the same level.",
)


def _decay(m: Measurements) -> float | None:
    value = m.setting("optimizer.weight_decay")
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is_decoupled(m: Measurements) -> bool:
    """Return whether the decay stays out of the moments, or may: what is called Adam by its betas alone may be AdamW."""
    spec = m.run.optimizer
    if spec is None or spec.name == "sgd":
        return False
    return spec.name == "adamw" or bool(spec.decoupled) or "inferred" in m.origin("optimizer.name")


def _left(m: Measurements) -> float:
    loss = m.loss
    judged = loss.is_positive and loss.n >= 4 and loss.initial > 0.0 and not m.is_adversarial
    return loss.tail / loss.initial if judged else float("nan")


@CAUSE.in_logs(needs=("loss",))
def holds_the_loss(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a decay far above the usual ones, beside a loss that it may be holding up."""
    value, left = _decay(m), _left(m)
    spec = m.run.optimizer
    if value is None or spec is None or spec.name not in DECAYED or left != left:
        return
    bound = limits["decoupled" if _is_decoupled(m) else "coupled"]
    source = m.origin("optimizer.weight_decay")
    if value < 0.2 * bound:
        yield against("decay", value, weight=PROOF, kind="config", source=source, text=f"A weight decay of {value:g} is usual.")
    elif value >= bound and left > limits["left"]:
        yield supports(
            "decay",
            value,
            unit="weight decay",
            weight=STRONG if value >= 2.0 * bound else MODERATE,
            kind="config",
            source=source,
            text=f"The weight decay of {value:g} is {value / (bound / 100.0):,.0f} times a usual one.",
        )
        yield supports(
            "left",
            left,
            unit="tail / initial loss",
            weight=STRONG if left > 2.0 * limits["left"] else WEAK,
            source=m.loss.source,
            text=f"At the end {left:.0%} of the loss is still there.",
        )
    elif left < 0.1 * limits["left"]:
        text = "The loss got down well."
        yield against("left", left, unit="tail / initial loss", weight=STRONG, source=m.loss.source, text=text)


def _kept(m: Measurements) -> tuple[float, str] | None:
    """Return the weight norm at the end over that at the start, of all or in the median over the matrices, and its source."""
    import numpy as np

    if m.has("weight_norm") and m.weight_norm.n >= 4 and m.weight_norm.initial > 0.0:
        return m.weight_norm.tail / m.weight_norm.initial, m.weight_norm.source
    if not (m.has("layers") and m.layers.has("weight_norm")):
        return None
    growth = m.layers.growth("weight_norm")[m.layers.matrices]
    growth = growth[np.isfinite(growth)]
    return (float(np.median(growth)), m.layers.source("weight_norm")) if growth.size else None


@CAUSE.in_logs(needs=("loss", "weight_norm|layers"))
def shrinks_the_weights(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a weight norm that falls to a fraction while the loss stays, and a pull as large as the gradient."""
    from traindoctor.signals.moments import decay_over_gradient

    left, norms = _left(m), _kept(m)
    if left != left or norms is None or _decay(m) == 0.0:
        return
    (kept, source), pull = norms, decay_over_gradient(m)
    if left <= limits["left"]:
        return
    if kept < limits["shrunk"]:
        yield supports(
            "shrunk",
            kept,
            unit="last / first weight norm",
            weight=PROOF if kept < limits["gone"] else STRONG,
            source=source,
            text=f"The norm of the weights fell to {kept:.0%} of its start, and the loss did not follow.",
        )
    elif kept > 0.95:
        yield against(
            "kept",
            kept,
            unit="last / first weight norm",
            weight=STRONG,
            source=source,
            text="The norm of the weights did not fall.",
        )
    if pull == pull and pull > limits["pull"] and not _is_decoupled(m):
        yield supports(
            "pull",
            pull,
            unit="decay / gradient",
            weight=STRONG if pull > 4.0 * limits["pull"] else MODERATE,
            source=f"{source}, {m.grad_norm.source}",
            text=f"Weight decay pulls with {pull:.0%} of the gradient's size.",
        )


@CAUSE.fixes
def lower(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the usual decay of the optimizer."""
    from traindoctor.model import Fix

    usual = 0.01 if _is_decoupled(m) else 1e-4
    yield Fix(f"Lower weight_decay to {usual:g}", {"optimizer.weight_decay": usual})


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    value = _decay(m)
    size = f" of {value:g}" if value is not None else ""
    return Statement(f"Weight decay{size} outweighed the gradients.", " ".join(e.text for e in evidence[:3]))


@CAUSE.examples
def examples() -> Examples:
    """Return sound runs with usual decays, and runs that were decayed away."""
    from dataclasses import replace

    import numpy as np

    from traindoctor.model import OptimizerSpec

    def spec(decay: float, name: str = "sgd") -> OptimizerSpec:
        return OptimizerSpec(name, lr=0.05, weight_decay=decay)

    falls, stays = np.geomspace(2.3, 0.05, 60), np.linspace(2.3, 2.2, 60)
    valid = (
        Example("usual", run_of(spec(5e-4), loss=falls, weight_norm=np.linspace(8, 9, 60))),
        Example("large and harmless", run_of(spec(0.1), loss=falls, weight_norm=np.linspace(8, 6, 60))),
        Example("stuck at a usual decay", run_of(spec(1e-4), loss=stays, weight_norm=np.full(60, 8.0))),
        Example("weights shrink while the loss falls", run_of(spec(0.01), loss=falls, weight_norm=np.geomspace(80, 8, 60))),
        Example("grokking", run_of(spec(1.0, "adamw"), loss=falls, weight_norm=np.linspace(30, 12, 60))),
        Example("nothing known", run_of(loss=stays)),
        Example("told by its betas", run_of(replace(spec(0.2, "adam"), origin={"name": "inferred from beta1"}), loss=stays)),
    )
    gone = np.geomspace(8.0, 0.2, 60)
    invalid = (
        Example("decayed away", run_of(spec(0.3), loss=stays, weight_norm=gone, grad_norm=0.3 * gone)),
        Example("from loss and settings", run_of(spec(30.0, "adamw"), loss=stays)),
        Example("from the norms alone", run_of(None, loss=stays, weight_norm=gone)),
    )
    return valid, invalid


@CAUSE.in_script("optim|optax", "decay|wd|beta|(0|(.|[0|[.|, 0")
def built_with_it(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each negative or very large weight decay that an optimizer is built with."""
    for made in script.constructions:
        for given in made.everywhere("weight_decay"):
            value = given.number
            if value is None:
                continue
            if value < 0.0:
                refuses = made.signature.checks and not given.in_group
                yield Mistake(
                    script.place(given.node),
                    f"weight_decay of {made.shown} is {value:g}, below 0. "
                    + (f"{made.signature.library} raises ValueError when it builds the optimizer." if refuses else _GROWS),
                    "set weight_decay to 0 or above",
                    given.severity("error"),
                    related=made.related(given),
                )
            elif value > limits["large"] and made.name in DECAYED:
                yield Mistake(
                    script.place(given.node),
                    f"weight_decay of {made.shown} is {value:g}. {_PULLS}",
                    "set weight_decay to 0.1 or below",
                    given.severity("warning"),
                    related=made.related(given),
                )


@CAUSE.in_file
def set_to_it(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield each negative or very large weight decay of the config."""
    from traindoctor.configs.optimizer_values import numbers, refused

    name = config.optimizer_name
    for slot, value in numbers(config, "weight_decay"):
        if value < 0.0:
            yield Mistake(
                config.place(slot),
                f"{slot.entry.key} is {value:g}, below 0. "
                + ("PyTorch raises ValueError when it builds the optimizer." if refused(config) else _GROWS),
                f"set {slot.entry.key} to 0 or above",
                "error" if name else "warning",
            )
        elif value > limits["large"] and name in DECAYED:
            yield Mistake(
                config.place(slot),
                f"{slot.entry.key} is {value:g}, with {name}. {_PULLS}",
                f"set {slot.entry.key} to 0.1 or below",
                "warning",
            )


_GROWS = "Nothing refuses it, and each step makes the weights larger by a constant factor."
_PULLS = "It pulls the weights to zero faster than gradients of usual size can hold them."

CAUSE.valid_code = (
    Sample(
        "usual decays",
        """import torch
a = torch.optim.SGD(m.parameters(), lr=0.1, weight_decay=5e-4)
b = torch.optim.AdamW(m.parameters(), weight_decay=0.1)
""",
    ),
    Sample("none", "import torch\nopt = torch.optim.Adam(m.parameters(), lr=1e-3, weight_decay=0)\n"),
    Sample(
        "no decay for one group",
        """import torch
opt = torch.optim.AdamW([{'params': a, 'weight_decay': 0.0}, {'params': b, 'weight_decay': 0.05}])
""",
    ),
    Sample("grokking", "import torch\nopt = torch.optim.AdamW(m.parameters(), lr=1e-3, weight_decay=1.0)\n"),
    Sample("Lion decays more", "from lion_pytorch import Lion\nopt = Lion(m.parameters(), lr=1e-5, weight_decay=10.0)\n"),
    Sample("from the command line", "import torch\nopt = torch.optim.AdamW(m.parameters(), weight_decay=args.wd)\n"),
    Sample(
        "usual decay in a config",
        """optimizer:
  name: sgd
  lr: 0.1
  weight_decay: 0.0001
""",
        file="config.yaml",
    ),
    Sample(
        "not set",
        """optimizer:
  name: adamw
  lr: 0.1
  weight_decay: null
""",
        file="config.yaml",
    ),
    Sample(
        "interpolated",
        """optimizer:
  _target_: torch.optim.AdamW
  lr: 1e-4
  weight_decay: ${wd}
""",
        file="config.yaml",
    ),
    Sample(
        "Lion in a config",
        """optimizer:
  name: lion
  lr: 1e-5
  weight_decay: 10.0
""",
        file="config.yaml",
    ),
    Sample(
        "left to the Trainer",
        """{"train_batch_size": "auto", "zero_optimization": {"stage": 2},
 "optimizer": {"type": "AdamW", "params": {"weight_decay": "auto"}}}
""",
        file="ds.json",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "negative",
        """import torch
opt = torch.optim.AdamW(m.parameters(), lr=1e-3, weight_decay=-0.01)  # <-
""",
    ),
    Sample("by position", "from torch.optim import SGD\nopt = SGD(m.parameters(), 0.1, 0.9, 0, -5e-4, True)  # <-\n"),
    Sample(
        "in a group",
        """import torch
groups = [
    {'params': decayed, 'weight_decay': -0.1},  # <-
    {'params': rest, 'weight_decay': 0.0},
]
opt = torch.optim.AdamW(groups, lr=1e-3)
""",
    ),
    Sample(
        "a constant of the module",
        """import torch.optim as optim
WEIGHT_DECAY = 50  # <-

def main(model):
    return optim.Adam(model.parameters(), weight_decay=WEIGHT_DECAY)
""",
    ),
    Sample(
        "default of an option",
        """import argparse, torch
parser = argparse.ArgumentParser()
parser.add_argument('--wd', '--weight-decay', default=-1e-4, type=float, dest='weight_decay')  # <-
args = parser.parse_args()
opt = torch.optim.SGD(m.parameters(), 0.1, weight_decay=args.weight_decay)
""",
    ),
    Sample("Keras", "import keras\nopt = keras.optimizers.AdamW(1e-3, weight_decay=-0.004)  # <-\n"),
    Sample("Optax", "import optax\ntx = optax.adamw(1e-3, weight_decay=-1e-4)  # <-\n"),
    Sample(
        "Hugging Face",
        """output_dir: o
per_device_train_batch_size: 4
learning_rate: 5.0e-5
weight_decay: -0.1  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "LLaMA-Factory, large",
        """stage: sft
finetuning_type: lora
learning_rate: 1.0e-4
optim: adamw_torch
weight_decay: 10.0  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "Detectron2",
        """SOLVER:
  BASE_LR: 0.02
  MAX_ITER: 90000
  IMS_PER_BATCH: 16
  WEIGHT_DECAY: -0.0001  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "timm",
        """opt: adamw
sched: cosine
lr: 0.001
warmup_lr: 1.0e-6
reprob: 0.1
weight_decay: -0.05  # <-
""",
        file="args.yaml",
    ),
    Sample(
        "MMEngine",
        """optim_wrapper = dict(
    optimizer=dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=-0.0001))  # <-
""",
        file="config_small.py",
    ),
    Sample(
        "nanoGPT",
        """out_dir = 'out'
block_size = 64
n_layer = 2
eval_iters = 20
learning_rate = 1e-3
max_iters = 2000
weight_decay = -1e-1  # <-
""",
        file="config_small.py",
    ),
    Sample(
        "torchtune",
        """optimizer:
  _component_: torch.optim.AdamW
  lr: 2e-5
  weight_decay: -0.01  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "DeepSpeed",
        """{"train_batch_size": 8,
 "zero_optimization": {"stage": 1},
 "optimizer": {"type": "AdamW", "params": {"lr": 1e-4,
  "weight_decay": -0.01}}}
""",
        file="ds_config.json",
        line=4,
    ),
)
