"""The learning rate is zero: nothing can be learned.

## What it looks like
A logged learning rate of exactly 0 for most of the run, a weight norm that does not change, a loss that moves with
the batches alone.

## Why it happens
A schedule whose length is shorter than the run, a warmup that never ends, a factor of 0 in a parameter group.

## When it is wrong
A schedule that ends at zero on the last steps, and a warmup that starts there, are meant so.

## What repairs it
A schedule that spans the run.

## References
The update of every optimizer is a multiple of the learning rate: no threshold is needed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from traindoctor.mistake import Mistake
from traindoctor.patterns import lazy
from traindoctor.rule import PROOF, Cause, Example, Examples, Limits, Sample, Statement, Threshold, run_of, supports

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.code.script import Script
    from traindoctor.configs.file import ConfigFile
    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD204",
    name="learning-rate-zero",
    summary="the learning rate is exactly zero for most of the run",
    explanation=__doc__,
    thresholds=(
        Threshold(
            "share", 0.5, "share of the logged points", "definition: most of the run; a warmup or an end at zero is shorter"
        ),
    ),
    explains=("TD202", "TD302"),
    experiment="print the learning rate of each parameter group",
    refutation="A learning rate above zero in the optimizer's parameter groups.",
)


@CAUSE.in_logs(needs=("learning_rate",))
def is_zero(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield the share of the run at a rate of exactly zero."""
    rate = m.learning_rate
    share = float((rate.value == 0.0).mean())
    if rate.n >= 3 and share > limits["share"]:
        first = int(rate.step[int((rate.value == 0.0).argmax())])
        yield supports(
            "share",
            share,
            unit="of the run",
            weight=PROOF,
            onset=first,
            source=rate.source,
            text=f"The logged learning rate is exactly 0 at {share:.0%} of the points.",
        )


#: What may set the rate of an optimizer that is built with 0.
_SET_LATER = lazy(
    r"sched|param_groups|lr_lambda|lr_find|find_lr|warm|noam|set_lr|adjust|\.learning_rate|max_lr|peak_lr|anneal|assign\("
    r"|opt\w*\.load_state_dict",
    re.IGNORECASE,
)
#: A key that holds a learning rate, and not where a schedule ends or a warmup begins.
_RATE = lazy(r"^(?!min|end|final|warmup|init)(?:.*_)?(?:lr|learning_rate)\d?$")
#: Dialects whose schedules are factors of the learning rate of the config.
_FACTORS = frozenset(
    {
        "Hugging Face TrainingArguments", "TRL", "LLaMA-Factory", "axolotl", "torchtune", "torchtitan", "MMEngine", "mmcv",
        "Detectron2", "nanoGPT", "Megatron-LM", "Keras", "fairseq", "Composer", "LightningCLI", "DeepSpeed", "YOLOv5",
        "Ultralytics", "kohya",
    }
)  # fmt: skip


@CAUSE.in_script("optim|optax")
def built_with_it(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each negative learning rate, and each of 0 in a script that nowhere sets another."""
    for made in script.constructions:
        for given in made.everywhere("lr"):
            value = given.number
            if value is None or value > 0.0:
                continue
            maximises = "maximize" in made.arguments or made.signature.framework == "optax"
            if value < 0.0 and made.signature.checks and not given.in_group:
                yield Mistake(
                    script.place(given.node),
                    f"The learning rate of {made.shown} is {value:g}, below 0. "
                    f"{made.signature.library} raises ValueError when it builds the optimizer.",
                    "set a learning rate above 0; maximize=True climbs",
                    given.severity("error"),
                    related=made.related(given),
                )
            elif value < 0.0 and not maximises:
                yield Mistake(
                    script.place(given.node),
                    f"The learning rate of {made.shown} is {value:g}, below 0. Nothing refuses it, and each step climbs.",
                    "set a learning rate above 0",
                    given.severity("warning" if given.in_group else "error"),
                    related=made.related(given),
                )
            elif value == 0.0 and not given.in_group and given.sure and not _SET_LATER.search(script.text):
                yield Mistake(
                    script.place(given.node),
                    f"The learning rate of {made.shown} is 0, and nothing in this script sets another. Its steps change nothing.",
                    "set a learning rate above 0",
                    "error" if made.trains_a_model else "warning",
                    related=made.related(given),
                )


@CAUSE.in_file
def set_to_it(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a learning rate of the config that is negative, or 0 where no schedule can raise it."""
    from traindoctor.configs.optimizer_values import FREE, numbers, refused
    from traindoctor.optim.defaults import TORCH

    for slot, value in numbers(config, "lr"):
        if slot.setting != "optimizer.lr" and value == 0.0:
            continue  # a group may be frozen
        if value < 0.0 and not (value == -1.0 and config.dialect in FREE):
            yield Mistake(
                config.place(slot),
                f"{slot.entry.key} is {value:g}, below 0. "
                + (
                    "PyTorch raises ValueError when it builds the optimizer."
                    if refused(config)
                    else "No optimizer can use it: each step would climb the loss."
                ),
                f"set {slot.entry.key} above 0",
                "error" if config.optimizer_name or slot.context == "optimizer" else "warning",
            )
        elif value == 0.0 and not _is_set_elsewhere(config):
            factor = config.dialect in _FACTORS
            name = config.slot("optimizer.name")
            beside = name is not None and name.entry.block == slot.entry.block
            if factor or (config.optimizer_name in TORCH and (slot.context == "optimizer" or beside)):
                yield Mistake(
                    config.place(slot),
                    f"{slot.entry.key} is 0"
                    + (
                        f", and the schedules of {config.dialect} are factors of it. "
                        if factor
                        else ", and a schedule is a factor of it. "
                    )
                    + "No step changes anything.",
                    f"set {slot.entry.key} above 0",
                    "error" if factor else "warning",
                )


#: Keys and values by which something else sets the rate.
_RAISED = lazy(r"(?i)lr_find|find_lr|max_lr|peak_lr|OneCycle|unet_lr|text_encoder|embedding_lr|lr_groups")


def _is_set_elsewhere(config: ConfigFile) -> bool:
    """Whether a finder, a schedule with a rate of its own, or a group's own rate may stand in; or nothing is trained at all."""
    from traindoctor.configs.vocabulary import normal, number

    words = (f"{'.'.join(entry.path)} {entry.value if isinstance(entry.value, str) else ''}" for entry in config.entries)
    if any(_RAISED.search(word) for word in words):
        return True
    if any(_RATE.search(normal(entry.key)) and (number(entry.value) or 0.0) > 0.0 for entry in config.entries):
        return True
    return any(entry.key == "do_train" and entry.value is False for entry in config.entries)


@CAUSE.fixes
def span(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield a schedule as long as the run."""
    from traindoctor.model import Fix

    steps = int(m.learning_rate.step[-1]) + 1
    yield Fix(f"Let the schedule span the run's {steps:,} steps", {"schedule.total_steps": steps})


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = evidence[0].onset or 0
    return Statement(
        f"Training stood still from {m.name_of(onset)}: the learning rate was exactly zero.",
        evidence[0].text,
        Segment(onset, int(m.learning_rate.step[-1]) + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.model import OptimizerSpec

    spec = OptimizerSpec("sgd", lr=0.1)
    valid = (
        Example("decays to zero at the end", run_of(spec, loss=[1.0] * 50, learning_rate=[0.1] * 45 + [0.0] * 5)),
        Example("warms up from zero", run_of(spec, loss=[1.0] * 50, learning_rate=[0.0] * 3 + [0.1] * 47)),
        Example("two points", run_of(spec, loss=[1.0] * 2, learning_rate=[0.0] * 2)),
    )
    invalid = (
        Example("zero throughout", run_of(OptimizerSpec("sgd", lr=0.0), loss=[1.0] * 50, learning_rate=[0.0] * 50)),
        Example("schedule shorter than the run", run_of(spec, loss=[1.0] * 50, learning_rate=[0.1] * 10 + [0.0] * 40)),
    )
    return valid, invalid


CAUSE.valid_code = (
    Sample(
        "state of a checkpoint, with its rate",
        """import torch
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=0)
checkpoint = torch.load("checkpoint.pth")
optimizer.load_state_dict(checkpoint["optimizer"])
""",
    ),
    Sample(
        "second of two optimizers is frozen",
        """\
optimizers:
  head: {class_path: torch.optim.AdamW, init_args: {lr: 1.0e-3}}
  backbone: {class_path: torch.optim.AdamW, init_args: {lr: 0.0}}
""",
        file="config.yaml",
    ),
    Sample(
        "usual rates",
        """import torch
a = torch.optim.Adam(m.parameters())
b = torch.optim.SGD(n.parameters(), lr=0.1)
""",
    ),
    Sample(
        "filled in by a schedule",
        """import torch
opt = torch.optim.Adam(m.parameters(), lr=0)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.1, total_steps=9)
""",
    ),
    Sample(
        "Noam",
        """import torch
opt = NoamOpt(512, 1, 4000, torch.optim.Adam(m.parameters(), lr=0, betas=(0.9, 0.98), eps=1e-9))
""",
    ),
    Sample(
        "filled in by hand",
        """import torch
opt = torch.optim.SGD(m.parameters(), lr=0.0)
for g in opt.param_groups:
    g['lr'] = rate(step)
""",
    ),
    Sample("a frozen group", "import torch\nopt = torch.optim.SGD([{'params': a, 'lr': 0.0}, {'params': b}], lr=0.1)\n"),
    Sample("climbs on purpose", "import optax\ntx = optax.sgd(-1e-2)\n"),
    Sample(
        "a placeholder of the command line",
        """import argparse, torch
p = argparse.ArgumentParser()
p.add_argument('--lr', type=float, default=0.0)
args = p.parse_args()
opt = torch.optim.SGD(m.parameters(), lr=args.lr)
""",
    ),
    Sample(
        "a finder",
        """trainer:
  max_epochs: 3
  auto_lr_find: true
model:
  class_path: a.B
optimizer:
  class_path: torch.optim.Adam
  init_args:
    lr: 0.0
""",
        file="config.yaml",
    ),
    Sample(
        "auto",
        """output_dir: o
per_device_train_batch_size: 4
learning_rate: auto
""",
        file="config.yaml",
    ),
    Sample(
        "multiplier of 0",
        """optim_wrapper = dict(
    optimizer=dict(type='AdamW', lr=1e-4),
    paramwise_cfg=dict(custom_keys={'backbone': dict(lr_mult=0)}))
""",
        file="config_small.py",
    ),
    Sample(
        "a rate for each network",
        """pretrained_model_name_or_path = "m"
network_dim = 8
learning_rate = 0
unet_lr = 1e-4
text_encoder_lr = 5e-5
max_train_steps = 100
""",
        file="config.toml",
    ),
    Sample(
        "rates of two networks",
        """optimization:
  max_update: 100
  update_freq: [1]
  lr: [0]
optimizer:
  _name: composite
  groups:
    generator:
      lr: [0.0004]
      optimizer:
        _name: adam
""",
        file="config.yaml",
    ),
    Sample(
        "unset in words of one's own",
        """model: x
lr: -1
epochs: 3
""",
        file="config.yaml",
    ),
    Sample(
        "evaluation alone",
        """output_dir: o
per_device_train_batch_size: 4
learning_rate: 0.0
do_train: false
""",
        file="config.yaml",
    ),
    Sample(
        "searched",
        """method: random
parameters:
  lr:
    values: [0.0, 0.1]
""",
        file="sweep.yaml",
    ),
)
CAUSE.invalid_code = (
    Sample("file of a group of Hydra", "_target_: torch.optim.AdamW\nlr: -1e-3  # <-\n", file="conf/optimizer/adamw.yaml"),
    Sample(
        "algorithm of Stable-Baselines3",
        """\
CartPole-v1:
  policy: MlpPolicy
  n_timesteps: 100000
  n_steps: 32
  learning_rate: -0.001  # <-
""",
        file="ppo.yml",
    ),
    Sample(
        "second of two optimizers",
        """\
gen_optimizer:
  _target_: torch.optim.Adam
  lr: 2.0e-4
disc_optimizer:
  _target_: torch.optim.Adam
  lr: -2.0e-4  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "a comment that names a schedule",
        """\
lr0: 0  # <-
lrf: 0.2  # final OneCycleLR learning rate (lr0 * lrf)
momentum: 0.937
weight_decay: 0.0005
warmup_bias_lr: 0.1
box: 0.05
cls: 0.5
anchor_t: 4.0
""",
        file="hyp.yaml",
    ),
    Sample(
        "arguments in a block of their own, as ESPnet has them",
        """\
optim: adam
optim_conf:
    lr: -0.0025  # <-
scheduler: warmuplr
scheduler_conf:
    warmup_steps: 40000
""",
        file="train_asr.yaml",
    ),
    Sample(
        "beside the name of the optimizer",
        """\
optimizer: adam
lr: 0  # <-
epochs: 10
""",
        file="config.yaml",
    ),
    Sample(
        "rate of a schedule, as PaddlePaddle has it",
        """\
Optimizer:
  name: Adam
  lr:
    name: Cosine
    learning_rate: -0.001  # <-
""",
        file="config.yaml",
    ),
    Sample("negative", "import torch\nopt = torch.optim.Adam(m.parameters(), lr=-1e-3)  # <-\n"),
    Sample(
        "zero, nothing sets it",
        """import torch
opt = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)  # <-
for x, y in data:
    opt.zero_grad()
    loss(model(x), y).backward()
    opt.step()
""",
    ),
    Sample(
        "by position, named",
        """import torch.optim as optim
LR = -0.01  # <-

def main(net):
    optimizer = optim.SGD(net.parameters(), LR, momentum=0.9)
""",
    ),
    Sample(
        "default of an option",
        """import argparse, torch
p = argparse.ArgumentParser()
p.add_argument('--learning-rate', type=float, default=-2e-4)  # <-
args = p.parse_args()
opt = torch.optim.SGD(m.parameters(), lr=args.learning_rate)
""",
    ),
    Sample(
        "Keras",
        """from tensorflow import keras
model.compile(keras.optimizers.SGD(learning_rate=-0.1), loss='mse')  # <-
""",
    ),
    Sample(
        "dataclass",
        """from dataclasses import dataclass
import torch

@dataclass
class TrainConfig:
    epochs: int = 3
    lr: float = -1e-3  # <-

config = TrainConfig()
opt = torch.optim.AdamW(m.parameters(), lr=config.lr)
""",
    ),
    Sample(
        "Hugging Face",
        """output_dir: o
per_device_train_batch_size: 4
learning_rate: -2.0e-4  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "Hugging Face, zero",
        """output_dir: o
per_device_train_batch_size: 4
learning_rate: 0.0  # <-
lr_scheduler_type: cosine
""",
        file="config.yaml",
    ),
    Sample(
        "axolotl",
        """base_model: a/b
micro_batch_size: 2
sequence_len: 512
optimizer: adamw_torch
learning_rate: -2e-4  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "DeepSpeed",
        """{"train_batch_size": 8,
 "zero_optimization": {"stage": 1},
 "optimizer": {"type": "AdamW", "params": {
  "lr": -1e-4}}}
""",
        file="ds_config.json",
        line=4,
    ),
    Sample(
        "nanoGPT",
        """out_dir = 'out'
block_size = 64
n_layer = 2
eval_iters = 20
learning_rate = 0.0  # <-
max_iters = 2000
""",
        file="config_small.py",
    ),
    Sample(
        "Hydra",
        """optimizer:
  _target_: torch.optim.AdamW
  lr: -1e-4  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "Detectron2",
        """SOLVER:
  BASE_LR: -0.02  # <-
  MAX_ITER: 90000
  IMS_PER_BATCH: 16
""",
        file="config.yaml",
    ),
    Sample("MMEngine", "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.0, momentum=0.9))  # <-\n", file="config_small.py"),
    Sample(
        "torchtune",
        """optimizer:
  _component_: torch.optim.AdamW
  lr: -2e-5  # <-
epochs: 1
""",
        file="config.yaml",
    ),
    Sample(
        "torchtitan",
        """[optimizer]
name = 'AdamW'
lr = 0.0  # <-
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
        "Ultralytics",
        """task: detect
mode: train
lr0: -0.001  # <-
lrf: 0.01
box: 7.5
cls: 0.5
optimizer: SGD
momentum: 0.937
""",
        file="args.yaml",
    ),
    Sample(
        "Megatron",
        """torchrun pretrain_gpt.py \\
  --tensor-model-parallel-size 1 \\
  --train-iters 100 \\
  --lr-decay-iters 100 \\
  --global-batch-size 8 \\
  --lr 0
""",
        file="pretrain.sh",
        line=6,
    ),
)
