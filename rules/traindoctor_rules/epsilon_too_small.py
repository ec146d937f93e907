"""Adam's eps is zero, or becomes zero in the working precision, so that a zero gradient is divided by zero.

## What it looks like
NaN at the first step at which a coordinate's gradient is exactly zero: often the very first one (dead pixels, unused
embeddings, a ReLU that is off for the whole batch).

## Why it happens
The update is m / (sqrt(v) + eps). Where m and v are 0, eps alone keeps it from being 0/0. In float16 everything below 2^-25
(3e-8) rounds to zero, and the default 1e-8 is lost: with parameters and optimizer state in half precision eps is exactly 0.

## When it is wrong
Mixed precision keeps parameters and moments in float32: autocast, GradScaler, "16-mixed" and bfloat16 (which has float32's
range) are fine. A gradient that is never exactly zero needs no eps; then there is no finding.

## What repairs it
float32 master weights (mixed precision), or an eps that the precision can hold: 1e-7 at least in float16, 1e-4 is usual.

## References
IEEE 754-2019, binary16: smallest subnormal 2^-24, so that anything up to 2^-25 rounds to 0.
pytorch/pytorch issues 26218 and 147437; google-deepmind/optax issue 1755 (NaN from eps in float16).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from traindoctor.mistake import Mistake, Repair
from traindoctor.optim.families import WITH_EPS
from traindoctor.patterns import lazy
from traindoctor.rule import (
    MODERATE,
    PROOF,
    STRONG,
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

    from traindoctor.checkpoints.state import State
    from traindoctor.code.script import Script
    from traindoctor.configs.file import ConfigFile
    from traindoctor.model import Evidence, Fix, Run
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD102",
    name="epsilon-too-small",
    summary="eps is zero in the working precision: a zero gradient becomes 0/0",
    explanation=__doc__,
    thresholds=(
        Threshold("early", 0.2, "share of the run before the first NaN", "a coordinate without gradient shows at once"),
        Threshold("rebound", 3.0, "decades above the floor", "benchmarks/study, tuning part; as TD101"),
        Threshold("reached", 10.0, "rms sqrt(v_hat) over eps", "eps then takes a tenth of the denominator or more"),
        Threshold("parameters", 1000.0, "assumed where the number is not known", "as TD103"),
        Threshold("far", 0.1, "share of elements with sqrt(v_hat) below ten times eps", "as TD103"),
    ),
    explains=("TD401", "TD201"),
    look_alikes=("TD401",),
    experiment="count the coordinates whose gradient is exactly zero in the first batch",
    refutation="A first update without NaN at the same settings.",
)

#: Settings of `precision` under which the parameters themselves are float16; "fp16" alone usually means mixed precision.
PURE_HALF = frozenset({"float16", "half", "16-true", "pure_fp16", "full_fp16", "torch.float16", "fp16-true"})


def is_pure_half(run: Run) -> bool:
    """Return whether parameters and optimizer state are said to be float16."""
    setting = run.settings.get("precision")
    return setting is not None and str(setting.value).lower() in PURE_HALF


@CAUSE.in_config
def zero_in_working_precision(run: Run, limits: Limits) -> Iterator[Evidence]:
    """Yield an eps that is 0 as set, or as stored; decided exactly from value and precision."""
    spec = run.optimizer
    if spec is None or not spec.is_adaptive or spec.eps is None:
        return
    import numpy as np

    stored = float(np.float16(spec.eps)) if is_pure_half(run) else spec.eps
    if stored == 0.0:
        how = "set to 0" if spec.eps == 0.0 else f"{spec.eps:g}, which float16 stores as exactly 0"
        yield supports(
            "eps",
            spec.eps,
            weight=STRONG,
            kind="config",
            source=spec.origin.get("eps", ""),
            text=f"eps is {how}: nothing keeps 0/0 away.",
        )


@CAUSE.in_logs(needs=("optimizer.eps",))
def nan_at_once(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a NaN early in the run, or a run that never met a zero gradient."""
    stored_zero = any(True for _ in zero_in_working_precision(m.run, limits))
    if not stored_zero:
        return
    for quantity in ("loss", "weight_norm", "grad_norm"):
        if quantity not in m.run.primary:
            continue
        series = m.series(quantity)
        first = series.first_not_finite()
        if first is None:
            continue
        span = int(series.series.step[-1]) - int(series.series.step[0])
        early = first - int(series.series.step[0]) <= limits["early"] * max(span, 1)
        yield supports(
            "first_nan",
            first,
            unit="step",
            weight=PROOF if early else MODERATE,
            onset=first,
            source=series.source,
            text=f"{series.tag} is not finite from step {first:,} on" + (", at once, as 0/0 makes it." if early else "."),
        )
        return
    if "loss" in m.run.primary:
        yield against(
            "finite",
            m.loss.n,
            unit="points",
            weight=STRONG,
            source=m.loss.source,
            text="Every logged loss is finite: no gradient was exactly zero.",
        )


@CAUSE.in_logs(needs=("loss", "grad_norm", "optimizer.eps"))
def is_reached(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a second moment that fell to the size of eps while the loss then left its floor: the floor of the rate is too low."""
    eps, rebound = m.optimizer.eps, m.loss.rebound
    if not eps or rebound is None or rebound.decades < limits["rebound"] or not m.optimizer.is_adaptive:
        return
    n = m.n_parameters or limits["parameters"]
    root = (m.second_moment.at(rebound.onset) / n) ** 0.5
    if root < limits["reached"] * eps:
        known = "" if m.n_parameters else f", if the model has {n:,.0f} parameters"
        yield supports(
            "reached",
            root / eps,
            unit="√v̂ / eps",
            weight=STRONG,
            onset=rebound.onset,
            source=f"{m.grad_norm.source}, replayed",
            text=f"At the onset rms √v̂ is {root / eps:.2g} times eps{known}: eps is what bounds the effective rate, and too low.",
        )


#: Below it, half the smallest positive float32, a number added to a float32 is 0. Source: IEEE 754-2019, binary32.
SMALLEST_SINGLE = 2.0**-150
#: Likewise of float16. Source: IEEE 754-2019, binary16.
SMALLEST_HALF = 2.0**-25
#: Optimizers that keep their state in the type of the parameters, and add eps there.
_IN_THEIR_TYPE = frozenset({"adam", "adamw", "nadam", "radam", "adamax", "rmsprop", "adagrad"})
#: Words of scripts that keep float32 copies of parameters in half precision, or train others.
_MASTER_COPIES = lazy(
    r"FP16_?Optimizer|master_?(?:param|weight|copy|grad)|deepspeed|accelerate|\bAccelerator\(|amp\.initialize|fairscale|network_to_half"
    r"|peft|lora|bnb|fused|FullyShard|FSDP",
    re.IGNORECASE,
)


@CAUSE.in_script("optim|optax", "eps|beta|(0|(.|[0|[.|, 0")
def built_with_it(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each eps that is 0, negative, or lost in the type of the parameters."""
    for made in script.constructions:
        if made.name not in WITH_EPS:
            continue
        for given in made.everywhere("eps"):
            value = given.number
            if value is None or value >= SMALLEST_SINGLE:
                continue
            if value < 0.0 and made.signature.checks and not given.in_group:
                why = f"{made.signature.library} raises ValueError when it builds the optimizer."
            elif value < 0.0:
                why = "The denominator passes through 0 where gradients are small."
            else:
                why = ("" if value == 0.0 else "float32 stores it as exactly 0. ") + _DIVIDES
            usual = made.signature.default("eps")
            yield Mistake(
                script.place(given.node),
                f"eps of {made.shown} is {value:g}. {why}",
                f"set eps to {usual:g}" if isinstance(usual, float) else "set eps above 0",
                given.severity("error"),
                Repair(f"Set eps to {usual:g}", (script.replaced(given.node, f"{usual:g}"),))
                if isinstance(usual, float)
                else None,
                made.related(given),
            )


@CAUSE.in_script("optim", "half|float16")
def lost_in_half_precision(script: Script, limits: Limits) -> Iterator[Mistake]:
    """Yield each eps that float16 stores as 0, of an optimizer that is given the parameters of a model in float16."""
    from traindoctor.code.constructors import half_precision  # a config that is checked does without it

    if _MASTER_COPIES.search(script.text):
        return
    for made in script.constructions:
        eps = made.value("eps")
        if made.signature.library != "PyTorch" or made.name not in _IN_THEIR_TYPE or eps is None or not 0.0 < eps < SMALLEST_HALF:
            continue
        cast = next((node for name in made.models for node in half_precision(script, name, made.node)), None)
        if cast is None:
            continue
        given = made.given("eps")
        yield Mistake(
            script.place(made.node if given is None else given.node),
            f"eps of {made.shown} is {eps:g}{' by default' if given is None else ''}, and float16 stores it as 0. {_DIVIDES}",
            "keep the parameters in float32 and use autocast, or set eps to 1e-4",
            "error" if given is None else given.severity("error"),
            related=((script.place(cast), "the parameters become float16 here"),),
        )


@CAUSE.in_file
def set_to_it(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield an eps of the config that is 0, negative, or lost in the precision that it sets."""
    from traindoctor.configs.optimizer_values import numbers, refused

    name = config.optimizer_name
    if name and name not in WITH_EPS:
        return
    for slot, value in numbers(config, "eps"):
        if value >= SMALLEST_SINGLE:
            continue
        if value < 0.0 and refused(config):
            why = "PyTorch raises ValueError when it builds the optimizer."
        elif value < 0.0:
            why = "The denominator passes through 0 where gradients are small."
        else:
            why = ("" if value == 0.0 else "float32 stores it as exactly 0. ") + _DIVIDES
        yield Mistake(
            config.place(slot), f"{slot.entry.key} is {value:g}. {why}", "set it to 1e-8", "error" if name else "warning"
        )
    precision = config.slot("precision")
    if precision is None or str(precision.value).lower() not in PURE_HALF or config.dialect not in _PURE or precision.note:
        return
    written = str(config.value("optimizer.name") or "").lower()
    eps = config.number("optimizer.eps")
    if eps is None and not config.is_open("optimizer.eps"):
        default = config.default("optimizer.eps")
        eps = float(default) if isinstance(default, float) else None
    if (
        name in _IN_THEIR_TYPE
        and eps is not None
        and 0.0 < eps < SMALLEST_HALF
        and not re.search("8bit|fused|paged|4bit", written)
    ):
        set_here = next((slot for slot, _ in numbers(config, "eps")), None)
        yield Mistake(
            config.place(set_here or precision),
            f"eps of {name} is {eps:g}{'' if set_here else ' by default'}, and float16 parameters store it as 0. {_DIVIDES}",
            "use mixed precision, or set eps to 1e-4",
            "warning",
        )


#: Dialects in which the words of PURE_HALF say that the parameters themselves are float16.
_PURE = frozenset({"LightningCLI", "kohya"})
_DIVIDES = "A coordinate whose gradient is exactly 0 is divided by 0, and becomes NaN."


@CAUSE.in_state
def stored_as_zero(state: State, m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield an eps that the format of the state stores as 0, with weights that are NaN; early in the log it is why."""
    import numpy as np

    last = state.last
    lost = sum(values.nan for values in last.weights.values())
    for optimizer in last.optimizers if lost else ():
        eps, dtype = optimizer.number("eps"), optimizer.second_dtype
        if eps is None or dtype not in ("float16", "float32", "float64") or optimizer.setting("fused"):
            continue  # a fused step adds eps in float32
        if float(np.dtype(dtype).type(eps)) != 0.0:
            continue
        yield supports(
            "stored",
            eps,
            weight=PROOF,
            kind="state",
            onset=last.step,
            source=last.file,
            text=f"{last.at}: eps = {eps:g} is 0 in {dtype}, in which the second moment is kept, and {lost:,} weights are NaN.",
        )
        return


@CAUSE.in_state
def is_reached_on_the_floor(state: State, m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield how near the second moment came to eps before the loss left its floor."""
    if "loss" not in m.run.primary or m.loss.rebound is None or m.loss.rebound.decades < limits["rebound"]:
        return
    rebound = m.loss.rebound
    for checkpoint in state.checkpoints:
        if checkpoint.step is None or not rebound.quiet <= checkpoint.step <= rebound.onset or len(checkpoint.optimizers) != 1:
            continue
        near = checkpoint.optimizers[0].typical("near_eps")
        if near is not None and near < limits["far"]:
            yield against(
                "near",
                near,
                unit="of a parameter's elements",
                weight=STRONG,
                kind="state",
                source=checkpoint.file,
                text=f"{checkpoint.at}, on the floor: √v̂ is above ten times eps in {1.0 - near:.0%} of the elements of "
                "the typical parameter.",
            )


@CAUSE.fixes
def larger(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield float32 state for half precision, or the framework's own eps."""
    from traindoctor.model import Fix

    if is_pure_half(m.run):
        yield Fix(
            "Keep the parameters in float32 (mixed precision)",
            {"precision": "16-mixed"},
            note="eps then keeps its value; where memory forbids it, eps 1e-4, which float16 can hold, at some cost in accuracy",
        )
        yield Fix(f"Raise eps from {m.optimizer.eps:g} to 0.0001", {"optimizer.eps": 1e-4}, note="float16 stores it as 1.0e-4")
        return
    default = {"adagrad": 1e-10}.get(m.optimizer.name, 1e-7 if m.optimizer.dialect == "keras" else 1e-8)
    yield Fix(f"Set eps to {default:g}", {"optimizer.eps": default}, note="the framework's default")


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    onset = next((e.onset for e in evidence if e.onset is not None), None)
    last = max((int(s.step[-1]) for s in m.run.primary.values() if len(s)), default=0)
    where = f"from step {onset:,}" if onset is not None else "by its settings"
    if any(e.name == "reached" for e in evidence):
        why = "the second moment fell to eps, which was too low a floor, and the effective learning rate outgrew the loss surface"
    elif is_pure_half(m.run):
        why = "eps is zero in float16, and a coordinate without gradient was divided by zero"
    else:
        why = "eps is zero, and a coordinate without gradient was divided by zero"
    return Statement(
        f"Training failed {where}: {why}.",
        " ".join(e.text for e in evidence if e.supports),
        None if onset is None else Segment(onset, last + 1, onset),
    )


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from traindoctor.checkpoints.examples import checkpoint_of, state_of
    from traindoctor.model import OptimizerSpec

    nan = float("nan")
    zero = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=0.0)
    default = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
    valid = (
        Example("eps of 0 that never mattered", run_of(zero, loss=[3.0 / (1 + k) for k in range(50)])),
        Example("mixed precision", run_of(default, precision="16-mixed", loss=[3.0, *[nan] * 40])),
        Example("bfloat16 has the range of float32", run_of(default, precision="bf16-true", loss=[3.0, *[nan] * 40])),
        Example(
            "float16 with an eps that it holds",
            run_of(OptimizerSpec("adam", lr=1e-3, eps=1e-4), precision="float16", loss=[3.0, *[nan] * 40]),
        ),
        Example("SGD has no eps", run_of(OptimizerSpec("sgd", lr=0.1), precision="float16", loss=[3.0, *[nan] * 40])),
        Example("NaN with the default eps", run_of(default, loss=[3.0, *[nan] * 40])),
    )
    invalid = (
        Example("eps of 0, NaN at once", run_of(zero, loss=[2.3, *[nan] * 40])),
        Example("default eps in float16, NaN at once", run_of(default, precision="float16", loss=[2.3, *[nan] * 40])),
    )
    return (
        (
            *valid,
            Example(
                "NaN, with an eps that the format holds",
                run_of(default, loss=[2.3, *[nan] * 40]),
                state=state_of(checkpoint_of(nan=9)),
            ),
            Example(
                "float16 that lives",
                run_of(loss=[3.0 / (1 + k) for k in range(50)]),
                state=state_of(checkpoint_of(dtype="float16")),
            ),
        ),
        (
            *invalid,
            Example(
                "eps lost in the state's float16",
                run_of(loss=[2.3, *[nan] * 40]),
                state=state_of(checkpoint_of(40, dtype="float16", nan=9)),
            ),
        ),
    )


CAUSE.valid_code = (
    Sample("default eps", "import torch\nopt = torch.optim.Adam(m.parameters(), lr=1e-3)\n"),
    Sample("small, and held by float32", "import torch\nopt = torch.optim.AdamW(m.parameters(), eps=1e-16)\n"),
    Sample(
        "eps of layer norm",
        """import torch
norm = torch.nn.LayerNorm(8, eps=0)
opt = torch.optim.Adam(m.parameters())
""",
    ),
    Sample("Adafactor's pair", "from transformers import Adafactor\nopt = Adafactor(m.parameters(), eps=(1e-30, 1e-3))\n"),
    Sample(
        "bfloat16",
        """import torch
m = Net().to(torch.bfloat16)
opt = torch.optim.Adam(m.parameters())
""",
    ),
    Sample(
        "float16 with an eps that it holds",
        """import torch
m = Net().half()
opt = torch.optim.Adam(m.parameters(), eps=1e-4)
""",
    ),
    Sample(
        "half of another model",
        """import torch
teacher = Net().half()
m = Net()
opt = torch.optim.Adam(m.parameters())
""",
    ),
    Sample(
        "autocast",
        """import torch
m = Net()
opt = torch.optim.Adam(m.parameters())
with torch.autocast('cuda', dtype=torch.float16):
    loss = m(x)
""",
    ),
    Sample(
        "master weights",
        """import torch
from apex.fp16_utils import FP16_Optimizer
m = Net().half()
opt = FP16_Optimizer(torch.optim.Adam(m.parameters()))
""",
    ),
    Sample(
        "half only on request",
        """import torch
m = Net()
if args.fp16:
    m.half()
opt = torch.optim.Adam(m.parameters())
""",
    ),
    Sample(
        "fused keeps eps in float32",
        """import torch
m = Net().half()
opt = torch.optim.Adam(m.parameters(), fused=True)
""",
    ),
    Sample(
        "SGD has no eps",
        """import torch
m = Net().half()
opt = torch.optim.SGD(m.parameters(), lr=0.1)
""",
    ),
    Sample(
        "eps of layers",
        """rms_norm_eps: 0
layer_norm_eps: 0
optimizer: adamw
learning_rate: 1.0e-4
""",
        file="config.yaml",
    ),
    Sample(
        "epsilon of exploration",
        """lr: 0.001
epsilon: 0.0
gamma: 0.99
""",
        file="config.yaml",
    ),
    Sample(
        "not set",
        """opt: adamw
opt_eps: null
sched: cosine
lr: 0.001
warmup_lr: 1.0e-6
reprob: 0.1
""",
        file="args.yaml",
    ),
    Sample(
        "Adafactor's in a config",
        """optimizer:
  name: adafactor
  lr: 1e-3
  eps: [1e-30, 1e-3]
""",
        file="config.yaml",
    ),
    Sample(
        "16-mixed",
        """trainer:
  max_epochs: 3
  precision: 16-mixed
model:
  class_path: a.B
optimizer:
  class_path: torch.optim.Adam
""",
        file="config.yaml",
    ),
    Sample(
        "left to the Trainer",
        """{"train_batch_size": "auto", "zero_optimization": {"stage": 2},
 "optimizer": {"type": "AdamW", "params": {"eps": "auto"}}}
""",
        file="ds.json",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "zero",
        "import torch\nopt = torch.optim.Adam(m.parameters(), lr=1e-3, eps=0)  # <-\n",
        fixed="import torch\nopt = torch.optim.Adam(m.parameters(), lr=1e-3, eps=1e-08)  # <-\n",
    ),
    Sample(
        "zero, by position",
        """from torch.optim import AdamW
opt = AdamW(m.parameters(), 1e-3, (0.9, 0.999), 0.0)  # <-
""",
    ),
    Sample(
        "below float32",
        """import torch
EPS = 1e-50  # <-
opt = torch.optim.RMSprop(m.parameters(), eps=EPS)
""",
    ),
    Sample("negative", "import torch\nopt = torch.optim.Adagrad(m.parameters(), eps=-1e-10)  # <-\n"),
    Sample("in a group", "import torch\nopt = torch.optim.Adam([{'params': m.parameters(), 'eps': 0.0}])  # <-\n"),
    Sample("Keras", "import tensorflow as tf\nopt = tf.keras.optimizers.Adam(1e-3, epsilon=0.0)  # <-\n"),
    Sample("Optax", "import optax\nopt = optax.adamw(1e-3, eps=0)  # <-\n"),
    Sample(
        "model in float16",
        """import torch
model = Net().cuda().half()
opt = torch.optim.Adam(model.parameters(), lr=1e-3)  # <-
""",
    ),
    Sample(
        "cast later",
        """import torch
model = Net()
model.to(device='cuda', dtype=torch.float16)
optimizer = torch.optim.AdamW(filter(lambda p: p.requires_grad, model.parameters()), lr=1e-4)  # <-
""",
    ),
    Sample(
        "of an object",
        """import torch

class Trainer:
    def __init__(self, net):
        self.net = net
        self.net.half()
        self.opt = torch.optim.Adam(self.net.parameters(), eps=1e-8)  # <-
""",
    ),
    Sample(
        "plain",
        """optimizer:
  name: adam
  lr: 1.0e-3
  eps: 0.0  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "Hugging Face",
        """output_dir: o
per_device_train_batch_size: 4
learning_rate: 5.0e-5
adam_epsilon: 0  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "fairseq",
        """optimization:
  max_update: 100
  update_freq: [1]
optimizer:
  _name: adam
  adam_eps: 0.0  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "timm",
        """opt: adamw
opt_eps: 0.0  # <-
sched: cosine
lr: 0.001
warmup_lr: 1.0e-6
reprob: 0.1
""",
        file="args.yaml",
    ),
    Sample("MMEngine", "optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-4, eps=-1e-8))  # <-\n", file="config_small.py"),
    Sample(
        "torchtitan",
        """[optimizer]
name = 'AdamW'
lr = 3e-4
eps = 0  # <-
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
        "Keras json",
        """{"class_name": "Adam",
 "config": {"learning_rate": 0.001,
  "epsilon": 0.0}}
""",
        file="optimizer.json",
        line=3,
    ),
    Sample(
        "LightningCLI in float16",
        """trainer:
  max_epochs: 3
  precision: 16-true  # <-
model:
  class_path: a.B
optimizer:
  class_path: torch.optim.Adam
  init_args:
    lr: 0.001
""",
        file="config.yaml",
    ),
    Sample(
        "Megatron",
        """torchrun pretrain_gpt.py \\
  --tensor-model-parallel-size 1 \\
  --train-iters 100 \\
  --lr-decay-iters 100 \\
  --global-batch-size 8 \\
  --lr 1e-4 \\
  --adam-eps 0
""",
        file="pretrain.sh",
        line=7,
    ),
)
