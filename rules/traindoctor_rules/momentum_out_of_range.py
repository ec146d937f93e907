"""The momentum does not damp: it is 1 or more, below 0, or stands where the optimizer cannot use it.

## What it looks like
With a momentum of 1 the velocity is the sum of all gradients: the loss swings further and further past its minimum. Above 1 the
velocity grows exponentially even without gradients. Nesterov's form without a momentum is refused by PyTorch, and does nothing
elsewhere.

## Why it happens
1.0 in place of 0.9, 9 for 0.9, or `nesterov=True` left over after the momentum was taken out. Nothing refuses 1.5.

## When it is wrong
Never for SGD and RMSprop. Ultralytics reads `momentum` as Adam's beta1, where up to 0.99 is usual.

## What repairs it
0.9, the usual momentum, or no Nesterov.

## References
PyTorch documentation, torch.optim.SGD (the update; "Nesterov momentum requires a momentum and zero dampening").
Sutskever et al. 2013, On the importance of initialization and momentum in deep learning, ICML, equations 1 to 4.
Goh 2017, Why momentum really works, Distill, doi:10.23915/distill.00006 (stable for a momentum in [0, 1)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.mistake import Mistake
from traindoctor.optim.families import WITH_MOMENTUM
from traindoctor.rule import Cause, Limits, Sample, Threshold

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.constructors import Construction
    from traindoctor.code.script import Script
    from traindoctor.configs.file import ConfigFile

CAUSE = Cause(
    code="TD108",
    name="momentum-out-of-range",
    summary="momentum of 1 or more, below 0, or Nesterov's form without one",
    explanation=__doc__,
    thresholds=(
        Threshold("beta1", 0.99, unit="momentum of Adam in Ultralytics", source="cfg/default.yaml: momentum is beta1, and 0.937"),
    ),
    explains=("TD201", "TD401"),
    experiment="print optimizer.param_groups[0]",
    refutation="A momentum in [0, 1).",
)


@CAUSE.in_script("optim|optax", "momentum|nesterov|SGD|sgd|RMSprop|rmsprop")
def built_with_it(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each SGD or RMSprop with a momentum that cannot damp, or with Nesterov's form and no momentum to look ahead with."""
    for made in script.constructions:
        if made.name not in WITH_MOMENTUM:
            continue
        for given in made.everywhere("momentum"):
            value = given.number
            if value is None or 0.0 <= value < 1.0:
                continue
            refuses = not given.in_group and (
                (made.signature.checks and value < 0.0) or (made.signature.library == "Keras" and value != 1.0)
            )
            yield Mistake(
                script.place(given.node),
                f"momentum of {made.shown} is {value:g}, and it must be at least 0 and below 1. "
                + (f"{made.signature.library} raises ValueError when it builds the optimizer." if refuses else _effect(value)),
                "set momentum below 1, as the usual 0.9",
                given.severity("error"),
                related=made.related(given),
            )
        yield from _nesterov(script, made)


def _nesterov(script: Script, made: Construction) -> Iterator[Mistake]:
    nesterov = made.given("nesterov")
    if nesterov is None or nesterov.value is not True or made.name != "sgd":
        return
    momentum, dampening = made.value("momentum"), made.given("dampening")
    given = made.given("momentum")
    is_default = given is not None and not given.sure  # 0 is how a parameter or an option says "none"
    if momentum == 0.0 and not is_default and not any("momentum" in group for group in made.groups):
        yield Mistake(
            script.place(nesterov.node),
            f"{made.shown} has nesterov on and {'no momentum' if given is None else 'a momentum of 0'}. "
            + (_REFUSES if made.signature.checks else "There is nothing to look ahead with: it is plain gradient descent."),
            "set momentum to 0.9, or take nesterov out",
            nesterov.severity("error" if made.signature.checks else "warning"),
            related=made.related(nesterov),
        )
    elif dampening is not None and dampening.number and made.signature.checks:
        yield Mistake(
            script.place(dampening.node),
            f"{made.shown} has nesterov on and a dampening of {dampening.number:g}. {_REFUSES}",
            "set dampening to 0, or take nesterov out",
            dampening._replace(sure=dampening.sure and nesterov.sure).severity("error"),
            related=made.related(dampening),
        )


@CAUSE.in_file
def set_to_it(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a momentum of the config that cannot damp, and Nesterov's form without one."""
    from traindoctor.configs.optimizer_values import numbers, refused

    name = config.optimizer_name
    for slot, value in numbers(config, "beta1"):
        if slot.key == "momentum" and not 0.0 <= value <= limits["beta1"]:
            damps = 0.0 < value < 1.0
            yield Mistake(
                config.place(slot),
                f"momentum is {value:g}, and {config.dialect} takes it as beta1 of {name}. "
                + ("The first moment averages too many steps to follow the gradient." if damps else _REFUSED),
                "set momentum to 0.937, as the framework does",
                "warning" if damps else "error",
            )
    if name not in WITH_MOMENTUM:
        return
    for slot, value in numbers(config, "momentum"):
        if not 0.0 <= value < 1.0:
            yield Mistake(
                config.place(slot),
                f"{slot.entry.key} is {value:g}, with {name}, and it must be at least 0 and below 1. "
                + (_REFUSED if value < 0.0 and refused(config) else _effect(value)),
                f"set {slot.entry.key} below 1, as the usual 0.9",
            )
    yield from _nesterov_in(config)


def _nesterov_in(config: ConfigFile) -> Iterator[Mistake]:
    from traindoctor.configs.optimizer_values import is_own, refused

    nesterov, momentum, dampening = (config.slot(f"optimizer.{field}") for field in ("nesterov", "momentum", "dampening"))
    on = nesterov.value if nesterov is not None else config.reading.dialect.defaults.get("optimizer.nesterov")
    if on is not True or config.optimizer_name != "sgd" or not refused(config) or config.is_open("optimizer.momentum"):
        return
    value = config.number("optimizer.momentum")
    if momentum is None and (config.reading.dialect.builds or "optimizer.momentum" in config.reading.dialect.defaults):
        default = config.default("optimizer.momentum")
        value = float(default) if isinstance(default, int | float) else None
    at = next((s for s in (momentum, nesterov) if s is not None and is_own(config, s)), None)
    if value == 0.0 and at is not None:
        what = "is 0" if momentum is not None else "is not set"
        yield Mistake(
            config.place(at),
            f"nesterov is on, and the momentum of {config.optimizer_name} {what}. {_REFUSES}",
            "set momentum to 0.9, or switch nesterov off",
        )
    elif dampening is not None and config.number("optimizer.dampening") and is_own(config, dampening):
        yield Mistake(
            config.place(dampening),
            f"nesterov is on, and dampening is {config.number('optimizer.dampening'):g}. {_REFUSES}",
            "set dampening to 0, or switch nesterov off",
        )


_REFUSED = "PyTorch raises ValueError when it builds the optimizer."
_REFUSES = "PyTorch raises ValueError: Nesterov momentum requires a momentum and zero dampening."


def _effect(momentum: float) -> str:
    """Return what comes of a momentum that nothing refuses."""
    if momentum < 0.0:
        return "The velocity changes its sign at every step."
    if momentum == 1.0:
        return "The velocity is the sum of all gradients, which nothing damps: the loss swings ever further."
    return "Nothing refuses it, and the velocity grows by that factor at every step: training diverges."


CAUSE.valid_code = (
    Sample(
        "usual momentum",
        """import torch
opt = torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, nesterov=True)
""",
    ),
    Sample(
        "none",
        """import torch
opt = torch.optim.SGD(m.parameters(), lr=0.1)
rms = torch.optim.RMSprop(m.parameters(), 1e-3, momentum=0)
""",
    ),
    Sample("high, and below 1", "import torch\nopt = torch.optim.SGD(m.parameters(), 0.1, 0.999, nesterov=True)\n"),
    Sample(
        "from the command line",
        """import torch
opt = torch.optim.SGD(m.parameters(), 0.1, momentum=args.momentum, nesterov=True)
""",
    ),
    Sample(
        "momentum of groups",
        """import torch
opt = torch.optim.SGD([{'params': a, 'momentum': 0.9}], lr=0.1, nesterov=True)
""",
    ),
    Sample("dampening without Nesterov", "import torch\nopt = torch.optim.SGD(m.parameters(), 0.1, 0.9, dampening=0.9)\n"),
    Sample(
        "callers give one",
        """import torch

def make(ps, lr, momentum=0):
    return torch.optim.SGD(ps, lr, momentum=momentum, nesterov=True)
""",
    ),
    Sample(
        "of batch normalisation",
        """import torch
bn = torch.nn.BatchNorm2d(8, momentum=1.0)
opt = torch.optim.SGD(m.parameters(), 0.1, 0.9)
""",
    ),
    Sample(
        "more settings than are seen", "import torch\nopt = torch.optim.SGD(m.parameters(), lr=0.1, nesterov=True, **kwargs)\n"
    ),
    Sample(
        "usual momentum in a config",
        """optimizer:
  name: sgd
  lr: 0.1
  momentum: 0.9
  nesterov: true
""",
        file="config.yaml",
    ),
    Sample(
        "code may have its own default",
        """optimizer: sgd
lr: 0.1
nesterov: true
""",
        file="config.yaml",
    ),
    Sample(
        "Detectron2's default is 0.9",
        """SOLVER:
  BASE_LR: 0.02
  MAX_ITER: 90000
  IMS_PER_BATCH: 16
  NESTEROV: true
""",
        file="config.yaml",
    ),
    Sample(
        "beta1 of Ultralytics",
        """task: detect
mode: train
lr0: 0.001
lrf: 0.01
box: 7.5
cls: 0.5
optimizer: AdamW
momentum: 0.937
""",
        file="args.yaml",
    ),
    Sample(
        "Adam reads no momentum",
        """optimizer: adam
lr: 0.001
momentum: 1.0
""",
        file="config.yaml",
    ),
    Sample(
        "timm's sgd is Nesterov's, with 0.9",
        """opt: sgd
sched: cosine
lr: 0.1
warmup_lr: 1.0e-6
reprob: 0.1
""",
        file="args.yaml",
    ),
    Sample(
        "interpolated",
        """optimizer:
  _target_: torch.optim.SGD
  lr: 0.1
  momentum: ${m}
  nesterov: true
""",
        file="config.yaml",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "beside the name of the optimizer",
        """\
optimizer: sgd
lr: 0.1
momentum: 1.9  # <-
""",
        file="config.yaml",
    ),
    Sample("above one", "import torch\nopt = torch.optim.SGD(m.parameters(), lr=0.1, momentum=1.5)  # <-\n"),
    Sample("one, by position", "from torch import optim\nopt = optim.SGD(m.parameters(), 0.01, 1.0)  # <-\n"),
    Sample("RMSprop", "import torch\nopt = torch.optim.RMSprop(m.parameters(), lr=0.01, momentum=9)  # <-\n"),
    Sample(
        "a class's attribute",
        """import torch

class Trainer:
    def __init__(self, net):
        self.momentum = -0.9  # <-
        self.opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=self.momentum)
""",
    ),
    Sample("Nesterov without momentum", "import torch\nopt = torch.optim.SGD(m.parameters(), lr=0.1, nesterov=True)  # <-\n"),
    Sample(
        "Nesterov, momentum of 0",
        """import torch
opt = torch.optim.SGD(
    m.parameters(),
    lr=0.1,
    momentum=0.0,
    nesterov=True,  # <-
)
""",
    ),
    Sample(
        "Nesterov, dampened",
        """from torch.optim import SGD
opt = SGD(m.parameters(), lr=0.1, momentum=0.9, dampening=0.1, nesterov=True)  # <-
""",
    ),
    Sample(
        "dict of settings",
        """import torch
settings = {'lr': 0.1, 'momentum': 1.0}  # <-
opt = torch.optim.SGD(m.parameters(), **settings)
""",
    ),
    Sample(
        "entries of a dict",
        """import torch
config = {
    'lr': 0.1,
    'momentum': 1.9,  # <-
}
opt = torch.optim.SGD(m.parameters(), lr=config['lr'], momentum=config['momentum'])
""",
    ),
    Sample(
        "Keras",
        """from tensorflow.keras.optimizers import SGD
opt = SGD(learning_rate=0.01, momentum=1.9)  # <-
""",
    ),
    Sample(
        "Keras, Nesterov without momentum",
        "from tensorflow import keras\nopt = keras.optimizers.SGD(0.01, nesterov=True)  # <-\n",
    ),
    Sample("Optax", "import optax\nopt = optax.sgd(0.1, momentum=1.0)  # <-\n"),
    Sample(
        "plain",
        """optimizer:
  name: sgd
  lr: 0.1
  momentum: 9  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "MMEngine, Nesterov",
        """optim_wrapper = dict(
    optimizer=dict(
        type='SGD',
        lr=0.01,
        nesterov=True,  # <-
    ))
""",
        file="config_small.py",
    ),
    Sample(
        "LightningCLI",
        """trainer:
  max_epochs: 3
model:
  class_path: a.B
optimizer:
  class_path: torch.optim.SGD
  init_args:
    lr: 0.1
    momentum: 0.0  # <-
    nesterov: true
""",
        file="config.yaml",
    ),
    Sample(
        "Detectron2",
        """SOLVER:
  BASE_LR: 0.02
  MAX_ITER: 90000
  IMS_PER_BATCH: 16
  MOMENTUM: 1.0  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "timm",
        """opt: sgd
sched: cosine
lr: 0.1
warmup_lr: 1.0e-6
reprob: 0.1
momentum: 1.2  # <-
""",
        file="args.yaml",
    ),
    Sample(
        "timm, Nesterov without momentum",
        """opt: sgd
sched: cosine
lr: 0.1
warmup_lr: 1.0e-6
reprob: 0.1
momentum: 0  # <-
""",
        file="args.yaml",
    ),
    Sample(
        "YOLOv5",
        """lr0: 0.01
lrf: 0.01
box: 0.05
cls: 0.5
obj: 1.0
anchor_t: 4.0
fl_gamma: 0.0
momentum: 1.937  # <-
warmup_epochs: 3.0
""",
        file="hyp.yaml",
    ),
    Sample(
        "Ultralytics, beta1",
        """task: detect
mode: train
lr0: 0.001
lrf: 0.01
box: 7.5
cls: 0.5
optimizer: AdamW
momentum: 0.999  # <-
""",
        file="args.yaml",
    ),
    Sample(
        "Hydra",
        """optimizer:
  _target_: torch.optim.SGD
  _partial_: true
  lr: 0.1
  momentum: -0.9  # <-
""",
        file="config.yaml",
    ),
)
