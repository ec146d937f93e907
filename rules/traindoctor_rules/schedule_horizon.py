"""The learning-rate schedule and the run have different lengths, so that the rate does not fall when it was meant to.

## What it looks like
A learning rate that is at its end while most of the run is to come, and a loss that stands from there on; or one that is
still above half its peak when the planned run is over. In configs: milestones of a step schedule beyond the last step;
`lr_decay_iters: 600000` for `max_iters: 2000`; `T_max` of a cosine far from the number of epochs; a schedule that needs a
length and has none.

## Why it matters
The decay is where much of the final accuracy comes from. A schedule that is longer than the run stops while the rate is still
high; one that is much shorter trains most of the run at its lowest rate, and a cosine of PyTorch rises again after `T_max`.

## When it is wrong
Runs that are stopped early on purpose, to be continued: a log alone cannot tell that from a schedule that is too long, so that
the planned length has to be known; milestones far away that switch the decay off. A milestone at the
very end and a horizon within a factor of 1.5 of the run are not spoken of.

## What repairs it
The length of the run as the length of the schedule; milestones as fractions of it.

## References
detectron2, solver/build.py: steps beyond MAX_ITER are ignored, with a warning; nanoGPT, train.py: lr_decay_iters "should be
~= max_iters per Chinchilla"; Hoffmann et al. 2022, Training compute-optimal large language models, arXiv:2203.15556, appendix
B: a cosine that is more than 25 % longer than the run costs; PyTorch documentation,
torch.optim.lr_scheduler.CosineAnnealingLR.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs.lengths import counted, falls, horizon, is_free, longest
from traindoctor.configs.vocabulary import number
from traindoctor.mistake import Mistake
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
    run_of,
    supports,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.configs.documents import Entry
    from traindoctor.configs.file import ConfigFile
    from traindoctor.model import Evidence, Fix
    from traindoctor.signals.measurements import Measurements

CAUSE = Cause(
    code="TD209",
    name="schedule-horizon",
    summary="the schedule and the run have different lengths",
    explanation=__doc__,
    severity="warning",
    thresholds=(
        Threshold("longer", 1.5, "lengths of the run", "arXiv:2203.15556, appendix B: 1.25 costs already; some margin"),
        Threshold("shorter", 0.5, "lengths of the run", "Megatron-LM's example for GPT decays over 0.64 of the run"),
        Threshold("few_steps", 20.0, "steps", "the smoke tests in the examples of torchtitan and nanoGPT take 5 to 10"),
        Threshold(
            "over", 0.55, "share of the run after which the rate is spent", "as `shorter`, with the last hundredth of a decay"
        ),
        Threshold("stands", 0.8, "loss at the end over that when the rate was spent", "benchmarks/study, tuning part"),
        Threshold("left", 0.5, "rate at the end over its peak", "a run of two thirds of a cosine ends at a quarter"),
        Threshold("begun", 0.995, "rate at the end over its peak of a schedule that moves", "a constant rate has no end"),
    ),
    explains=("TD204", "TD202", "TD215"),
    look_alikes=("TD206", "TD204"),
    experiment="plot the schedule beside the planned number of steps, before the run",
    refutation="A learning rate that comes to its end with the run.",
)


@CAUSE.in_logs(needs=("learning_rate", "loss"))
def over_before_the_run(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a rate that was at its end long before the run was, and a loss that stands since."""
    from traindoctor.signals import rates

    rate, loss, spent = m.learning_rate, m.loss, m.spent_rate
    watches = "plateau" in str(m.setting("schedule.name")).lower()
    if spent is None or spent.way != "end" or watches or m.rate_cuts is not None or not rate.highest > 0.0:
        return
    if not 0.01 < spent.share <= limits["over"] or rate.value[-1] > 0.02 * rate.highest:
        return
    yield supports(
        "over",
        spent.share,
        unit="of the run",
        weight=STRONG,
        onset=spent.step,
        source=rate.source,
        text=f"The learning rate is at its end from {m.name_of(spent.step)} on, after {spent.share:.0%} of the run.",
    )
    stands = rates.stands_since(loss.step, loss.value, spent.step)
    if not m.is_adversarial and stands >= limits["stands"]:
        yield supports(
            "stands",
            stands,
            unit="loss at the end over then",
            weight=MODERATE,
            source=loss.source,
            text=f"The loss has stood since: {loss.tail:.3g} at the end.",
        )
    if m.has("grad_norm") and rates.stands_since(m.grad_norm.step, m.grad_norm.value, spent.step) > 0.5:
        yield supports(
            "gradient",
            m.grad_norm.tail,
            unit="norm",
            weight=WEAK,
            source=m.grad_norm.source,
            text=f"The gradient stays at {m.grad_norm.tail:.3g}: there was more to learn.",
        )
    total, length = m.setting("schedule.total_steps"), rates.planned_length(m.run)
    if isinstance(total, int | float) and length is not None and 0 < total < limits["shorter"] * length:
        yield supports(
            "configured",
            total,
            unit="steps",
            weight=STRONG,
            kind="config",
            source=m.origin("schedule.total_steps"),
            text=f"The schedule is configured for {total:,.0f} of the run's {length:,.0f} steps.",
        )


@CAUSE.in_logs(needs=("loss", "schedule.total_steps"))
def configured_shorter(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a configured schedule that is over long before the run, and a loss that stands since, where no rate is logged."""
    from traindoctor.signals import rates

    loss, total, length = m.loss, m.setting("schedule.total_steps"), rates.planned_length(m.run)
    if m.has("learning_rate") or m.run.step_unit != "step" or m.is_adversarial or length is None:
        return
    if not isinstance(total, int | float) or not 0 < total < limits["shorter"] * length or loss.step[-1] < 2 * total:
        return
    stands = rates.stands_since(loss.step, loss.value, int(total))
    if stands < limits["stands"]:
        return
    yield supports(
        "configured",
        total,
        unit="steps",
        weight=STRONG,
        kind="config",
        source=m.origin("schedule.total_steps"),
        onset=int(total),
        text=f"The schedule is configured for {total:,.0f} of the run's {length:,.0f} steps.",
    )
    yield supports(
        "stands",
        stands,
        unit="loss at the end over then",
        weight=MODERATE + WEAK,
        source=loss.source,
        text=f"The loss has stood since: {loss.tail:.3g} at the end.",
    )


@CAUSE.in_logs(needs=("learning_rate",))
def hardly_begun(m: Measurements, limits: Limits) -> Iterator[Evidence]:
    """Yield a decay that is at its beginning when the planned run is over."""
    from traindoctor.signals import rates

    rate, length = m.learning_rate, rates.planned_length(m.run)
    if (
        m.rate_reset is not None
        or rate.n < 8
        or not rate.highest > 0.0
        or length is None
        or rate.step[-1] + rate.stride < 0.9 * length
    ):
        return
    left = float(rate.value[-1]) / rate.highest
    if not limits["left"] < left < limits["begun"]:
        return
    ends = rates.end_of_decay(rate.step, rate.value)
    if ends is None or ends < limits["longer"] * length:
        return
    yield supports(
        "ends_at",
        ends,
        unit="steps",
        weight=STRONG,
        onset=int(rate.step[-1]),
        source=rate.source,
        text=f"The run of {length:,.0f} steps ends at {left:.0%} of the peak rate: the decay would have ended near step "
        f"{ends:,.0f}.",
    )
    total = m.setting("schedule.total_steps")
    if isinstance(total, int | float) and total > limits["longer"] * length:
        yield supports(
            "configured",
            total,
            unit="steps",
            weight=PROOF,
            kind="config",
            source=m.origin("schedule.total_steps"),
            text=f"The schedule is configured for {total:,.0f} steps, the run for {length:,.0f}.",
        )
    if m.schedule.answer == "total-differs":
        yield supports("differs", ends, unit="steps", weight=STRONG, source=rate.source, text=f"The log shows {m.schedule.text}.")
    if m.has("loss") and not m.is_adversarial and m.loss.settled < 0.5 and m.loss.noise > 0.05:
        yield supports(
            "noise",
            m.loss.noise,
            unit="noise / level",
            weight=MODERATE,
            source=m.loss.source,
            text=f"The loss was at its level after {m.loss.settled:.0%} of the run, and the rate kept it there.",
        )


@CAUSE.fixes
def same_length(m: Measurements, limits: Limits) -> Iterator[Fix]:
    """Yield the length of the run as that of the schedule."""
    from traindoctor.model import Fix
    from traindoctor.signals import rates

    if not m.has("learning_rate"):
        return
    steps = int(rates.planned_length(m.run) or int(m.learning_rate.step[-1]) + 1)
    yield Fix(f"Let the schedule span the run's {steps:,} {m.run.step_unit}s", {"schedule.total_steps": steps})


@CAUSE.says
def say(m: Measurements, evidence: Sequence[Evidence]) -> Statement:
    """Return the verdict's sentence."""
    from traindoctor.model import Segment

    text = " ".join(e.text for e in evidence if e.supports)
    onset = next((e.onset for e in evidence if e.onset is not None), None)
    if onset is None:
        return Statement("The schedule and the run have different lengths.", text)
    if any(e.name in ("over", "stands") for e in evidence):
        title = f"Training stood still from {m.name_of(onset)} on: the schedule was over long before the run."
    else:
        title = "The run ended while its learning rate was still high: the schedule is longer than the run."
    last = int((m.learning_rate if m.has("learning_rate") else m.loss).step[-1])
    return Statement(title, text, Segment(onset, last + 1, onset))


@CAUSE.examples
def examples() -> Examples:
    """Return runs on which the cause is silent, and on which it speaks."""
    from dataclasses import replace

    from traindoctor.model import OptimizerSpec, Run, Setting

    adam = OptimizerSpec("adam", lr=1e-3)
    fall = [2.3 * 0.98**k + 0.1 for k in range(300)]
    stuck = [2.3 * 0.98 ** min(k, 60) for k in range(300)]

    def linear(total: int, n: int = 300) -> list[float]:
        return [1e-3 * max(0.0, 1.0 - k / total) for k in range(n)]

    def planned(run: Run, **settings: int) -> Run:
        return replace(run, settings={key.replace("__", "."): Setting(value, "config.yaml") for key, value in settings.items()})

    valid = (
        Example("ends with the run", run_of(adam, loss=fall, learning_rate=linear(300))),
        Example("ends a little before it", run_of(adam, loss=fall, learning_rate=linear(220))),
        Example("a log of the beginning", run_of(adam, loss=fall, learning_rate=linear(2000))),
        Example("the run is not over", planned(run_of(adam, loss=fall, learning_rate=linear(2000)), steps=2000)),
        Example("constant", planned(run_of(adam, loss=fall, learning_rate=[1e-3] * 300), steps=300)),
    )
    invalid = (
        Example("over after a fifth", run_of(adam, loss=stuck, learning_rate=linear(60))),
        Example(
            "ten times too long",
            planned(run_of(adam, loss=fall, learning_rate=linear(3000)), steps=300, schedule__total_steps=3000),
        ),
    )
    return valid, invalid


@CAUSE.in_file
def milestones_beyond_the_run(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield milestones that the run does not reach."""
    its = falls(config)
    total = longest(config, its.unit) if its is not None else None
    if its is None or total is None or (its.what is None and total.what is None):
        return
    beyond = [point for point in its.points if point > total.value]
    if not beyond or (total.unit == "step" and total.value < limits["few_steps"]):
        return
    if is_free(config) and max(beyond) > 3.0 * total.value:  # may count steps where the run counts epochs
        return
    at = config.foremost(its.what, total.what)
    if at is None:
        return
    missed = ", ".join(counted(point) for point in beyond)
    never = len(beyond) == len(its.points)
    by_default = "" if its.what is not None else " by default"
    yield Mistake(
        config.place(at),
        f"The schedule lowers the rate at {missed}{by_default}, beyond the end of the run: {total.text}. "
        + ("The learning rate never falls." if never else "Those falls do not happen."),
        "put the milestones within the run",
        severity="info" if total.what is None or config.is_trial else "",
        related=((config.place(total.what), total.text),) if total.what is not None and total.what is not at else (),
    )


@CAUSE.in_file
def horizon_of_another_run(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a decay that is much longer, or much shorter, than the run."""
    its = horizon(config)
    total = longest(config, its.unit) if its is not None else None
    if its is None or total is None or (its.what is None and total.what is None):
        return
    if total.unit == "step" and total.value < limits["few_steps"]:
        return
    ratio = its.value / total.value
    if limits["shorter"] < ratio < limits["longer"] or (is_free(config) and ratio > 20.0):  # may count steps, not epochs
        return
    rises = ratio < 1.0 and its.key == "T_max" and str(config.value("schedule.name")).endswith("CosineAnnealingLR")
    if ratio < 1.0 and (its.what is None or total.what is None or (config.dialect == "MMEngine" and not rises)):
        return
    at = config.foremost(its.what, total.what)
    if at is None:
        return
    if ratio > 1.0:
        consequence = f"The run ends after {1.0 / ratio:.2g} of that: the learning rate has fallen little."
    elif rises:
        consequence = "The cosine rises again after that, to its peak and back."
    else:
        consequence = f"For the last {1.0 - ratio:.0%} of the run the learning rate stays at its lowest."
    yield Mistake(
        config.place(at),
        f"The learning rate decays over {its.text}, and the run takes {total.text}. {consequence}",
        f"set `{its.key}` to {counted(total.value)}",
        related=((config.place(total.what), total.text),) if total.what is not None and total.what is not at else (),
    )


#: Schedules of PyTorch and the arguments of which one set is needed.
_NEEDED = {
    "cosineannealinglr": (("T_max",),),
    "cosineannealingwarmrestarts": (("T_0",),),
    "steplr": (("step_size",),),
    "multisteplr": (("milestones",),),
    "onecyclelr": (("total_steps",), ("epochs", "steps_per_epoch")),
}


@CAUSE.in_file
def no_length_at_all(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield a schedule that has no length, where it needs one and nothing sets one unasked."""
    del limits
    found = _without_length(config)
    if found is None:
        return
    entry, needed, consequence = found
    yield Mistake(
        config.place(entry),
        f"The schedule `{str(entry.value).rpartition('.')[2]}` has no length: {needed} is not set. {consequence}",
        f"set {needed} to the length of the run",
        severity="error",
    )


def _without_length(config: ConfigFile) -> tuple[Entry, str, str] | None:
    """Return the name of a schedule without a length, what it needs, and what comes of it."""
    if config.dialect == "DeepSpeed":
        entry = config.at("scheduler.type")
        decays = entry is not None and entry.value in ("WarmupDecayLR", "WarmupCosineLR")
        if entry is not None and decays and "scheduler.params.total_num_steps" not in config.shape.at:
            return entry, "`total_num_steps`", "DeepSpeed refuses it."
    elif config.dialect == "LightningCLI":
        entry = config.at("lr_scheduler.class_path")
        needed = _NEEDED.get(str(entry.value).lower().rpartition(".")[2]) if entry is not None else None
        if entry is not None and needed is not None and "torch.optim" in str(entry.value):
            given = {e.key for e in config.entries if e.path[:2] == ("lr_scheduler", "init_args")}
            if not any(given.issuperset(names) for names in needed):
                return entry, " or ".join(" and ".join(f"`{n}`" for n in names) for names in needed), "PyTorch refuses it."
    elif config.dialect == "fairseq":
        entry = config.at("lr_scheduler._name", "lr_scheduler")
        if entry is not None and entry.value == "cosine" and not config.is_open("steps"):
            own = config.at("lr_scheduler.max_update", "lr_scheduler.lr_period_updates")
            steps = config.at("optimization.max_update", "max_update")
            if own is None and (steps is None or number(steps.value) == 0.0):
                return entry, "`max_update`", "fairseq refuses it."
    return None


_NANO = """\
init_from = 'scratch'
block_size = 256
n_layer = 6
learning_rate = 1e-3
"""
_CLI = """\
trainer: {max_epochs: 100, accelerator: gpu}
model: {class_path: net.Net}
optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1}}
"""
_MM = """\
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))
train_cfg = dict(by_epoch=True, max_epochs=12)
"""
_SGD = "optimizer = dict(type='SGD', lr=0.1)\noptimizer_config = dict(grad_clip=None)\n"
_TIMM = """\
opt: sgd
opt_eps: null
lr: 0.1
warmup_lr: 1.0e-06
cooldown_epochs: 0
warmup_epochs: 0
"""
CAUSE.valid_code = (
    Sample(
        "milestones within",
        """\
SOLVER:
  BASE_LR: 0.02
  STEPS: (60000, 80000)
  MAX_ITER: 90000
""",
        file="c.yaml",
    ),
    Sample(
        "last milestone at the end",
        """\
SOLVER:
  BASE_LR: 0.02
  STEPS: (60000, 90000)
  MAX_ITER: 90000
""",
        file="c.yaml",
    ),
    Sample(
        "cosine has no milestones",
        """\
SOLVER:
  BASE_LR: 0.02
  LR_SCHEDULER_NAME: WarmupCosineLR
  WARMUP_ITERS: 100
  STEPS: (60000,)
  MAX_ITER: 9000
""",
        file="c.yaml",
    ),
    Sample(
        "milestones in steps, run in epochs",
        _MM + "param_scheduler = dict(type='MultiStepLR', by_epoch=False, milestones=[60000])\n",
        file="config_mm.py",
    ),
    Sample(
        "mmcv",
        _SGD
        + """\
lr_config = dict(policy='step', step=[8, 11])
runner = dict(type='EpochBasedRunner', max_epochs=12)
""",
        file="config_mm.py",
    ),
    Sample(
        "mmcv by step",
        _SGD
        + """\
lr_config = dict(policy='step', step=[80000], by_epoch=False)
runner = dict(type='EpochBasedRunner', max_epochs=12)
""",
        file="config_mm.py",
    ),
    Sample(
        "unused milestones of timm",
        _TIMM
        + """\
sched: cosine
epochs: 100
decay_milestones: [90, 180, 270]
""",
        file="args.yaml",
    ),
    Sample("horizon as long", _NANO + "max_iters = 5000\nlr_decay_iters = max_iters\n", file="config_nano.py"),
    Sample("no decay", _NANO + "max_iters = 50\ndecay_lr = False\n", file="config_nano.py"),
    Sample(
        "unset by -1",
        """\
train_micro_batch_size_per_gpu: 4
zero_optimization: {stage: 1}
train-iters: 1000
num-layers: 12
lr-decay-iters: -1
""",
        file="a.yml",
    ),
    Sample(
        "auto",
        """\
{"zero_optimization": {"stage": 2}, "scheduler": {"type": "WarmupDecayLR", "params": {"total_num_steps": "auto"}}}""",
        file="ds.json",
    ),
    Sample(
        "constant after its warmup",
        """\
{"zero_optimization": {"stage": 2}, "scheduler": {"type": "WarmupLR", "params": {"warmup_num_steps": 10}}}""",
        file="ds.json",
    ),
    Sample(
        "two thirds",
        """\
torchrun pretrain_gpt.py --num-attention-heads 16 --train-iters 500000 --lr 1e-4 --lr-decay-style cosine --lr-decay-iters 320000
""",
        file="run.sh",
    ),
    Sample(
        "epochs by default",
        """\
output_dir: o
per_device_train_batch_size: 8
learning_rate: 2.0e-5
lr_scheduler_type: cosine
""",
        file="run.yaml",
    ),
    Sample(
        "free-form",
        """\
lr: 0.1
milestones: [300]
epochs: 100
""",
        file="config.yaml",
    ),
    Sample(
        "lightning",
        _CLI + "lr_scheduler: {class_path: torch.optim.lr_scheduler.CosineAnnealingLR, init_args: {T_max: 100}}\n",
        file="cli.yaml",
    ),
    Sample(
        "plateau needs no length",
        _CLI + "lr_scheduler: {class_path: lightning.pytorch.cli.ReduceLROnPlateau, init_args: {monitor: loss}}\n",
        file="cli.yaml",
    ),
    Sample(
        "length given in code",
        """\
defaults: [_self_]
optimizer: {_target_: torch.optim.SGD, lr: 0.1}
scheduler: {_target_: torch.optim.lr_scheduler.CosineAnnealingLR, _partial_: true}
""",
        file="conf.yaml",
    ),
    Sample(
        "end of the run",
        _MM
        + """\
param_scheduler = [dict(type='LinearLR', end=5), dict(type='CosineAnnealingLR', begin=5, T_max=7, end=12)]
""",
        file="config_mm.py",
    ),
    Sample(
        "hydra in steps",
        """\
defaults: [_self_]
optimizer: {_target_: torch.optim.SGD, lr: 0.1}
trainer: {max_epochs: 20}
scheduler:
  _target_: torch.optim.lr_scheduler.CosineAnnealingLR
  T_max: 20000
""",
        file="conf.yaml",
    ),
    Sample(
        "as long as the run by default",
        _MM + "param_scheduler = dict(type='CosineAnnealingLR', eta_min=1e-5)\n",
        file="config_mm.py",
    ),
    Sample(
        "smoke test",
        _NANO
        + """\
max_iters = 10
lr_decay_iters = 5000
warmup_iters = 0
""",
        file="config_nano.py",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "free-form, in steps at the least",
        """\
train:
  optim_g: {type: Adam, lr: 0.0001}
  total_iter: 400000
  scheduler:
    type: MultiStepLR
    milestones: [500000, 600000]  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "detectron2",
        """\
SOLVER:
  BASE_LR: 0.02
  STEPS: (210000, 250000)  # <-
  MAX_ITER: 90000
""",
        file="c.yaml",
    ),
    Sample(
        "detectron2 default",
        """\
SOLVER:
  BASE_LR: 0.02
  WARMUP_ITERS: 100
  MAX_ITER: 9000  # <-
""",
        file="c.yaml",
    ),
    Sample(
        "one of two",
        """\
SOLVER:
  BASE_LR: 0.02
  STEPS: [60000, 100000]  # <-
  MAX_ITER: 90000
""",
        file="c.yaml",
    ),
    Sample("mmengine", _MM + "param_scheduler = dict(type='MultiStepLR', milestones=[16, 22])  # <-\n", file="config_mm.py"),
    Sample(
        "mmcv",
        _SGD
        + """\
lr_config = dict(policy='step', step=[16, 22])  # <-
runner = dict(type='EpochBasedRunner', max_epochs=12)
""",
        file="config_mm.py",
    ),
    Sample(
        "mmcv total_epochs",
        _SGD + "lr_config = dict(policy='step', step=[16, 22])  # <-\ntotal_epochs = 12\n",
        file="config_mm.py",
    ),
    Sample(
        "timm",
        _TIMM
        + """\
sched: multistep
epochs: 100
decay_milestones: [90, 180]  # <-
""",
        file="args.yaml",
    ),
    Sample(
        "lightning milestones",
        _CLI
        + """\
lr_scheduler: {class_path: torch.optim.lr_scheduler.MultiStepLR, init_args: {milestones: [150, 180]}}  # <-
""",
        file="cli.yaml",
    ),
    Sample("nanogpt", _NANO + "max_iters = 2000\nlr_decay_iters = 600000  # <-\n", file="config_nano.py"),
    Sample("nanogpt default", _NANO + "max_iters = 5000  # <-\n", file="config_nano.py"),
    Sample(
        "neox",
        """\
train_micro_batch_size_per_gpu: 4
zero_optimization: {stage: 1}
train-iters: 1000
num-layers: 12
lr-decay-iters: 320000  # <-
""",
        file="a.yml",
    ),
    Sample(
        "megatron",
        """\
torchrun pretrain_gpt.py --num-attention-heads 16 --train-iters 500000 --lr 1e-4 --lr-decay-style cosine \\
  --lr-decay-iters 32000  # <-
""",
        file="run.sh",
    ),
    Sample(
        "cosine that rises again",
        _CLI
        + """\
lr_scheduler: {class_path: torch.optim.lr_scheduler.CosineAnnealingLR, init_args: {T_max: 10}}  # <-
""",
        file="cli.yaml",
    ),
    Sample(
        "cosine in steps",
        _CLI
        + """\
lr_scheduler: {class_path: torch.optim.lr_scheduler.CosineAnnealingLR, init_args: {T_max: 20000}}  # <-
""",
        file="cli.yaml",
    ),
    Sample(
        "cosine of mmengine",
        _MM + "param_scheduler = dict(type='CosineAnnealingLR', T_max=300)  # <-\n",
        file="config_mm.py",
    ),
    Sample(
        "cosine of mmengine that rises again",
        _MM + "param_scheduler = dict(type='CosineAnnealingLR', T_max=3)  # <-\n",
        file="config_mm.py",
    ),
    Sample(
        "hydra",
        """\
defaults: [_self_]
optimizer: {_target_: torch.optim.SGD, lr: 0.1}
trainer: {max_epochs: 200}
scheduler:
  _target_: torch.optim.lr_scheduler.CosineAnnealingLR
  T_max: 20  # <-
""",
        file="conf.yaml",
    ),
    Sample(
        "composer",
        """\
max_duration: 4800ba
global_train_batch_size: 256
optimizer: {name: decoupled_adamw, lr: 6.0e-4}
scheduler:
  name: cosine_with_warmup
  t_warmup: 10ba
  t_max: 48000ba  # <-
""",
        file="m.yaml",
    ),
    Sample(
        "deepspeed without",
        """\
{"zero_optimization": {"stage": 2},
 "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_num_steps": 10}}}""",
        file="ds.json",
        line=2,
    ),
    Sample(
        "cosine without",
        _CLI
        + """\
lr_scheduler:
  class_path: torch.optim.lr_scheduler.CosineAnnealingLR  # <-
  init_args: {eta_min: 1.0e-6}
""",
        file="cli.yaml",
    ),
    Sample(
        "one cycle without",
        _CLI
        + """\
lr_scheduler:
  class_path: torch.optim.lr_scheduler.OneCycleLR  # <-
  init_args: {max_lr: 0.1, epochs: 100}
""",
        file="cli.yaml",
    ),
    Sample(
        "fairseq without",
        """\
optimization:
  lr: [0.0005]
  clip_norm: 0.0
  update_freq: [4]
optimizer:
  _name: adam
lr_scheduler:
  _name: cosine  # <-
  warmup_updates: 100
""",
        file="config.yaml",
    ),
    Sample(
        "fairseq",
        """\
optimization:
  max_update: 10000
  lr: [0.0005]
  clip_norm: 0.0
  update_freq: [4]
optimizer:
  _name: adam
lr_scheduler:
  _name: polynomial_decay
  total_num_update: 1000000  # <-
""",
        file="config.yaml",
    ),
)
