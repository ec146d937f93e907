"""Adam's two betas stand in each other's place: the momentum outlives the second moment that is to scale it.

## What it looks like
`betas=(0.999, 0.9)`. The loss falls slowly, overshoots and oscillates: the step averages a thousand old gradients, divided by
the size of the last ten.

## Why it happens
The pair is (beta1, beta2), momentum first. Both orders are accepted, and both train for a while.

## When it is wrong
Equal betas, a beta1 of 0 or one half (GAN), Lion's (0.9, 0.99) and (0.95, 0.98) are in order. A beta1 above the root of beta2 is
reported whatever the numbers: the analysis of Adam asks for beta1 below it.

## What repairs it
The smaller one first: `betas=(0.9, 0.999)`.

## References
Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1 (beta1 0.9, beta2 0.999).
Reddi, Kale and Kumar 2018, On the convergence of Adam and beyond, arXiv:1904.09237, Theorem 4: beta1 / sqrt(beta2) < 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.mistake import Edit, Mistake, Repair
from traindoctor.optim.families import WITH_BETAS
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script
    from traindoctor.configs.file import ConfigFile
    from traindoctor.mistake import Location, Severity

CAUSE = Cause(
    code="TD105",
    name="betas-swapped",
    summary="beta1 and beta2 stand in each other's place",
    explanation=__doc__,
    explains=("TD201", "TD202"),
    experiment="print optimizer.param_groups[0]['betas']",
    refutation="A beta1 below beta2.",
)


def are_swapped(beta1: float, beta2: float) -> bool:
    """Return whether two betas in [0, 1) are in the wrong order."""
    return 0.0 < beta2 < beta1 < 1.0 and beta1 * beta1 > beta2


@CAUSE.in_script("optim|optax", "beta|b1|(0|(.|[0|[.")
def built_with_them(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each optimizer, and each of its parameter groups, that is given the larger beta first."""
    for made in script.constructions:
        if made.name not in WITH_BETAS:
            continue
        for first, second in zip(made.everywhere("beta1"), made.everywhere("beta2"), strict=False):
            beta1, beta2 = first.number, second.number
            if beta1 is None or beta2 is None or first.in_group != second.in_group or not are_swapped(beta1, beta2):
                continue
            edits = (
                () if first.node is second.node else _exchanged(script.text, script.span(first.node), script.span(second.node))
            )
            severity = (second if first.sure else first).severity("error")
            yield _mistake(script.place(first.node), beta1, beta2, severity=severity, edits=edits, related=made.related(first))


@CAUSE.in_file
def set_so(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield betas of the config of which the larger stands first."""
    from traindoctor.configs.documents import NOWHERE
    from traindoctor.configs.optimizer_values import numbers, place

    name = config.optimizer_name
    if name and name not in WITH_BETAS:
        return
    for (one, beta1), (other, beta2) in zip(numbers(config, "beta1"), numbers(config, "beta2"), strict=False):
        if one.entry.block != other.entry.block or not are_swapped(beta1, beta2):
            continue
        spans = one.entry.items if len(one.entry.items) == 2 else (one.entry.span, other.entry.span)
        edits = () if one.entry.shared or spans[0] == spans[1] or NOWHERE in spans else _exchanged(config.text, *spans)
        yield _mistake(place(config, one), beta1, beta2, severity="error" if name else "warning", edits=edits)


def _exchanged(text: str, one: tuple[int, int], other: tuple[int, int]) -> tuple[Edit, Edit]:
    """Return the edits that put two pieces of a text in each other's place."""
    return Edit(*one, text[slice(*other)]), Edit(*other, text[slice(*one)])


def _mistake(
    place: Location,
    beta1: float,
    beta2: float,
    *,
    severity: Severity,
    edits: tuple[Edit, ...],
    related: tuple[tuple[Location, str], ...] = (),
) -> Mistake:
    return Mistake(
        place,
        f"betas are ({beta1:g}, {beta2:g}): the momentum averages {1 / (1 - beta1):,.0f} steps, and the second moment that is to "
        f"scale it only {1 / (1 - beta2):,.0f}. The order is (beta1, beta2), and nothing refuses the other one.",
        f"set betas to ({beta2:g}, {beta1:g})",
        severity,
        Repair(f"Set betas to ({beta2:g}, {beta1:g})", edits) if edits else None,
        related,
        {"optimizer.betas": [beta2, beta1]},
    )


CAUSE.valid_code = (
    Sample("usual order", "import torch\nopt = torch.optim.AdamW(m.parameters(), lr=1e-3, betas=(0.9, 0.95))\n"),
    Sample(
        "equal betas",
        """import torch
a = torch.optim.Adam(m.parameters(), betas=(0.9, 0.9))
b = torch.optim.Adam(n.parameters(), betas=(0.95, 0.95))
""",
    ),
    Sample("GAN without momentum", "from torch.optim import Adam\nopt = Adam(G.parameters(), 1e-4, (0.0, 0.9))\n"),
    Sample("beta2 of 0", "from torch.optim import Adam\nopt = Adam(G.parameters(), 1e-4, (0.5, 0.0))\n"),
    Sample("Lion", "from lion_pytorch import Lion\nopt = Lion(m.parameters(), lr=1e-4, betas=(0.95, 0.98))\n"),
    Sample("nearly equal", "import torch\nopt = torch.optim.Adam(m.parameters(), betas=(0.95, 0.94))\n"),
    Sample("one of them is not known", "import torch\nopt = torch.optim.Adam(m.parameters(), betas=(0.999, args.beta2))\n"),
    Sample(
        "QHAdam's nus",
        """from qhoptim.pyt import QHAdam
opt = QHAdam(m.parameters(), nus=(0.7, 1.0), betas=(0.995, 0.9))
""",
    ),
    Sample(
        "usual order in a config",
        """optimizer:
  type: AdamW
  betas: [0.9, 0.98]
  lr: 1e-4
""",
        file="config.yaml",
    ),
    Sample(
        "equal in fairseq",
        """optimization:
  max_update: 100
  update_freq: [1]
optimizer:
  _name: adam
  adam_betas: (0.9, 0.9)
""",
        file="config.yaml",
    ),
    Sample(
        "Lion in a config",
        """optimizer:
  name: lion
  lr: 1e-4
  betas: [0.9, 0.99]
""",
        file="config.yaml",
    ),
    Sample(
        "another optimizer's pair",
        """optimizer:
  type: Rprop
  betas: [0.999, 0.9]
  lr: 0.01
""",
        file="config.yaml",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "second optimizer of a GAN",
        """\
train:
  optim_g: {type: Adam, lr: 0.0001, betas: [0.9, 0.99]}
  optim_d: {type: Adam, lr: 0.0001, betas: [0.99, 0.9]}  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "literal pair",
        """import torch
opt = torch.optim.Adam(m.parameters(), lr=1e-3, betas=(0.999, 0.9))  # <-
""",
        fixed="""import torch
opt = torch.optim.Adam(m.parameters(), lr=1e-3, betas=(0.9, 0.999))  # <-
""",
    ),
    Sample(
        "by position, in a class",
        """from torch import optim

class Trainer:
    def __init__(self, net):
        self.opt = optim.AdamW(net.parameters(), 3e-4, [0.98, 0.9], 1e-8)  # <-
""",
        fixed="""from torch import optim

class Trainer:
    def __init__(self, net):
        self.opt = optim.AdamW(net.parameters(), 3e-4, [0.9, 0.98], 1e-8)  # <-
""",
    ),
    Sample(
        "settings of a class",
        """import torch

class Config:
    lr = 1e-3
    betas = (0.999, 0.9)  # <-

cfg = Config()
opt = torch.optim.Adam(m.parameters(), lr=cfg.lr, betas=cfg.betas)
""",
    ),
    Sample(
        "default of a parameter",
        """import torch

def make(model, lr=1e-3, betas=(0.999, 0.9)):  # <-
    return torch.optim.Adam(model.parameters(), lr=lr, betas=betas)
""",
    ),
    Sample(
        "options",
        """import argparse, torch
p = argparse.ArgumentParser()
p.add_argument('--b1', type=float, default=0.999)  # <-
p.add_argument('--b2', type=float, default=0.9)
args = p.parse_args()
opt = torch.optim.Adam(m.parameters(), betas=(args.b1, args.b2))
""",
    ),
    Sample(
        "chosen by name once",
        """import torch
optimizer_class = torch.optim.AdamW
opt = optimizer_class(m.parameters(), lr=1e-3, betas=(0.999, 0.9))  # <-
""",
    ),
    Sample(
        "eight bits",
        """import bitsandbytes as bnb
opt = bnb.optim.Adam8bit(m.parameters(), lr=1e-4, betas=(0.995, 0.9))  # <-
""",
    ),
    Sample(
        "Keras",
        """import tensorflow as tf
opt = tf.keras.optimizers.Adam(1e-3, beta_1=0.999, beta_2=0.9)  # <-
""",
        fixed="""import tensorflow as tf
opt = tf.keras.optimizers.Adam(1e-3, beta_1=0.9, beta_2=0.999)  # <-
""",
    ),
    Sample(
        "partial",
        """import functools, torch
make = functools.partial(torch.optim.Adam, lr=1e-3, betas=(0.999, 0.9))  # <-
""",
    ),
    Sample(
        "a pair in YAML",
        """optimizer:
  name: adamw
  lr: 0.001
  betas: [0.999, 0.9]  # <-
""",
        file="config.yaml",
        fixed="""optimizer:
  name: adamw
  lr: 0.001
  betas: [0.9, 0.999]  # <-
""",
    ),
    Sample(
        "two keys",
        """output_dir: o
per_device_train_batch_size: 4
learning_rate: 5.0e-5
adam_beta1: 0.999  # <-
adam_beta2: 0.9
""",
        file="config.yaml",
        fixed="""output_dir: o
per_device_train_batch_size: 4
learning_rate: 5.0e-5
adam_beta1: 0.9  # <-
adam_beta2: 0.999
""",
    ),
    Sample(
        "Hydra",
        """optimizer:
  _target_: torch.optim.AdamW
  _partial_: true
  lr: 1e-4
  betas:
  - 0.98  # <-
  - 0.9
""",
        file="config.yaml",
    ),
    Sample(
        "torchtune",
        """optimizer:
  _component_: torch.optim.AdamW
  lr: 2e-5
  betas: [0.999, 0.9]  # <-
epochs: 1
""",
        file="config.yaml",
    ),
    Sample(
        "MMEngine",
        """optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(
        type='AdamW',
        lr=1e-4,
        betas=(0.999, 0.9),  # <-
    ))
""",
        file="config_small.py",
    ),
    Sample(
        "Keras json",
        """{"class_name": "Adam",
 "config": {"learning_rate": 0.001,
  "beta_1": 0.999,
  "beta_2": 0.9}}
""",
        file="optimizer.json",
        line=3,
    ),
    Sample(
        "kohya",
        """pretrained_model_name_or_path = "m"
network_dim = 8
unet_lr = 1e-4
optimizer_type = "AdamW"
max_train_steps = 100
optimizer_args = ["betas=0.999,0.9"]  # <-
""",
        file="config.toml",
    ),
    Sample(
        "Megatron",
        """torchrun pretrain_gpt.py \\
  --tensor-model-parallel-size 1 \\
  --train-iters 100 \\
  --lr-decay-iters 100 \\
  --global-batch-size 8 \\
  --lr 1e-4 \\
  --adam-beta1 0.95 \\
  --adam-beta2 0.9
""",
        file="pretrain.sh",
        line=7,
    ),
)
