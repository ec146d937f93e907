"""Weight decay goes through Adam's second moment: parameters with large gradients are hardly decayed.

## What it looks like
`Adam(..., weight_decay=0.1)`. Training works, and the decay does less for generalisation than the same number in AdamW.

## Why it happens
Adam adds weight_decay * w to the gradient, and divides the sum by the root of its mean square. What is decayed how fast then
depends on the gradients. AdamW takes lr * weight_decay * w off the weight itself.

## When it is wrong
A small decay (below 1e-3) makes little difference, and results are to be compared with ones that were made this way. Keras,
DeepSpeed, Megatron and fairseq call an Adam with decoupled decay "adam"; those are not meant.

## What repairs it
AdamW. Its weight decay is another number: 0.01 to 0.1 is usual.

## References
Loshchilov and Hutter 2019, Decoupled weight decay regularization, arXiv:1711.05101, section 2.
PyTorch documentation, torch.optim.Adam and torch.optim.AdamW, the algorithms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.mistake import Mistake
from traindoctor.optim.families import ADDS_DECAY
from traindoctor.patterns import lazy
from traindoctor.rule import Cause, Limits, Sample, Threshold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script
    from traindoctor.configs.file import ConfigFile

CAUSE = Cause(
    code="TD107",
    name="l2-in-adaptive-optimizer",
    summary="weight decay is added to the gradient, and scaled away by Adam",
    explanation=__doc__,
    severity="info",
    thresholds=(
        Threshold(
            "decay", 1e-3, unit="weight decay", source="arXiv:1711.05101, figure 2: the two differ where the decay is large"
        ),
    ),
)


@CAUSE.in_script("optim", "decay|wd|beta|(0|(.|[0|[.")
def built_with_it(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each Adam of PyTorch with a weight decay that is not small."""
    for made in script.constructions:
        if made.signature.library != "PyTorch" or made.name not in ADDS_DECAY:
            continue
        if "decoupled_weight_decay" in made.arguments or made.is_open:
            continue
        for given in made.everywhere("weight_decay"):
            if given.number is not None and limits["decay"] <= given.number <= 1.0:
                yield Mistake(
                    script.place(given.node),
                    f"{made.shown} adds its weight decay of {given.number:g} to the gradient. {_SCALED}",
                    "use AdamW, and set its weight decay anew",
                    "info",
                    related=made.related(given),
                )


@CAUSE.in_file
def set_so(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a weight decay that is not small, of an Adam that the config names."""
    from traindoctor.configs.optimizer_values import numbers, refused

    if config.optimizer_name not in ADDS_DECAY or not refused(config) or _DECOUPLES.search(str(config.value("optimizer.name"))):
        return
    for slot, value in numbers(config, "weight_decay"):
        if limits["decay"] <= value <= 1.0 and config.value("optimizer.decoupled") is None:
            yield Mistake(
                config.place(slot),
                f"{config.optimizer_name} adds its weight decay of {value:g} to the gradient. {_SCALED}",
                "use adamw, and set its weight decay anew",
                "info",
            )


#: Source: apex, optimizers/fused_adam.py, `adam_w_mode=True`; deepspeed, ops/adam/cpu_adam.py, `adamw_mode=True`.
_DECOUPLES = lazy(r"(?i)fused_?adam|apex|cpu_?adam")
_SCALED = "It is then divided by the root mean square like the gradient, so that it does little where gradients are large."

CAUSE.valid_code = (
    Sample(
        "apex decouples it",
        """\
optim:
  name: fused_adam
  lr: 0.0002
  weight_decay: 0.01
""",
        file="config.yaml",
    ),
    Sample("AdamW", "import torch\nopt = torch.optim.AdamW(m.parameters(), weight_decay=0.1)\n"),
    Sample("small decay", "import torch\nopt = torch.optim.Adam(m.parameters(), weight_decay=5e-4)\n"),
    Sample("none", "import torch\nopt = torch.optim.Adam(m.parameters(), lr=1e-3, weight_decay=0)\n"),
    Sample(
        "decoupled by its switch",
        """import torch
opt = torch.optim.NAdam(m.parameters(), weight_decay=0.1, decoupled_weight_decay=True)
""",
    ),
    Sample(
        "DeepSpeed's Adam is decoupled",
        """from deepspeed.ops.adam import FusedAdam
opt = FusedAdam(m.parameters(), weight_decay=0.1)
""",
    ),
    Sample("Keras's too", "import keras\nopt = keras.optimizers.Adam(1e-3, weight_decay=0.1)\n"),
    Sample(
        "SGD",
        """optimizer:
  name: sgd
  lr: 0.1
  weight_decay: 0.05
""",
        file="config.yaml",
    ),
    Sample(
        "adamw",
        """optimizer:
  name: adamw
  lr: 0.1
  weight_decay: 0.05
""",
        file="config.yaml",
    ),
    Sample(
        "DeepSpeed in a config",
        """{"train_batch_size": 8, "zero_optimization": {"stage": 1},
 "optimizer": {"type": "Adam", "params": {"lr": 1e-4, "weight_decay": 0.1}}}
""",
        file="ds_config.json",
    ),
    Sample(
        "fairseq",
        """optimization:
  max_update: 100
  update_freq: [1]
optimizer:
  _name: adam
  weight_decay: 0.1
""",
        file="config.yaml",
    ),
)
CAUSE.invalid_code = (
    Sample("Adam", "import torch\nopt = torch.optim.Adam(m.parameters(), lr=1e-3, weight_decay=0.1)  # <-\n"),
    Sample(
        "in a group",
        """from torch.optim import Adam
opt = Adam([{'params': a, 'weight_decay': 0.01}, {'params': b}], lr=1e-3)  # <-
""",
    ),
    Sample(
        "by position",
        """import torch.optim as optim
opt = optim.Adam(m.parameters(), 1e-3, (0.9, 0.999), 1e-8, 0.05)  # <-
""",
    ),
    Sample(
        "MMEngine",
        """optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='Adam', lr=1e-4, weight_decay=0.05))  # <-
""",
        file="config_small.py",
    ),
    Sample(
        "timm",
        """opt: adam
sched: cosine
lr: 0.001
warmup_lr: 1.0e-6
reprob: 0.1
weight_decay: 0.05  # <-
""",
        file="args.yaml",
    ),
    Sample(
        "Hydra",
        """optimizer:
  _target_: torch.optim.Adam
  _partial_: true
  lr: 0.001
  weight_decay: 0.01  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "plain",
        """optimizer: adam
learning_rate: 0.001
weight_decay: 0.01  # <-
""",
        file="config.yaml",
    ),
)
