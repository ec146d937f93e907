"""Batches of one image feed a network with batch normalisation.

## What it looks like
`IMS_PER_BATCH: 1` with `NORM: BN`; `batch: 1` of Ultralytics; a `batch_size` of 1 a process with `norm_cfg=dict(type='BN')`.

## Why it matters
Batch normalisation takes mean and variance from the batch: with one sample they are those of that sample, training and
evaluation see different networks, and a layer without spatial extent refuses to train at all. Accumulating gradients does not
help.

## When it is wrong
Frozen batch normalisation, synchronised batch normalisation over several processes, group or layer normalisation: nothing is
said.

## What repairs it
A larger batch, frozen or synchronised statistics, or group normalisation.

## References
Ioffe and Szegedy 2015, Batch normalization, arXiv:1502.03167; Wu and He 2018, Group normalization, arXiv:1803.08494, figure
1: the error of batch normalisation grows as the batch shrinks; detectron2, config/defaults.py: `MODEL.RESNETS.NORM` is
"FrozenBN".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs.vocabulary import normal, number, truth
from traindoctor.mistake import Mistake
from traindoctor.patterns import lazy
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.documents import Entry
    from traindoctor.configs.file import ConfigFile

CAUSE = Cause(
    code="TD505",
    name="batch-of-one-with-batch-norm",
    summary="batches of one feed a network with batch normalisation",
    explanation=__doc__,
    severity="warning",
)

#: Families of timm's models that normalise by batch.
_NORMALISED = lazy(
    r"(?i)(?:wide_)?(?:resnet|resnext|seresnet|regnet|efficientnet|tf_efficientnet|mobilenet|densenet|vgg\d+_bn|mnasnet|ghostnet)"
)


@CAUSE.in_file
def one_at_a_time(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield the batch size of 1 beside batch normalisation that learns its statistics."""
    del limits
    batch = _batch(config)
    if batch is None or number(batch.value) != 1.0:
        return
    norm = _normalised(config)
    if norm:
        yield Mistake(
            config.place(batch),
            f"`{batch.key}` is 1, and {norm} normalises by batch. The statistics are those of one sample.",
            "take a larger batch, freeze or synchronise the statistics, or normalise by group",
        )


def _batch(config: ConfigFile) -> Entry | None:
    if config.dialect == "MMEngine":
        return config.at("train_dataloader.batch_size")
    if config.dialect not in ("Detectron2", "mmcv", "timm", "Ultralytics"):
        return None
    slot = config.slot("batch_size")
    return slot.entry if slot is not None else None


def _normalised(config: ConfigFile) -> str:
    """Return what normalises by batch with statistics that it learns; "" where nothing is known to."""
    if config.dialect == "Ultralytics":
        mode = config.at("mode")
        return "the network" if mode is None or mode.value == "train" else ""
    if config.dialect == "timm":
        model, synchronised = config.at("model"), config.at("sync_bn")
        named = model is not None and _NORMALISED.match(str(model.value)) is not None
        return f"`{model.value}`" if model is not None and named and not (synchronised and truth(synchronised.value)) else ""
    if config.dialect == "Detectron2":
        return next((f"`{e.key}: BN`" for e in config.entries if normal(e.key) == "norm" and e.value == "BN"), "")
    if any(normal(e.key) in ("norm_eval", "bn_frozen") and e.value is True for e in config.entries):
        return ""
    for entry in config.entries:
        if normal(entry.key) == "type" and entry.value in ("BN", "BN1d", "BN2d", "BN3d") and entry.path[-2:-1] == ("norm_cfg",):
            learns = config.shape.at.get(".".join([*map(normal, entry.block), "requires_grad"]))
            if learns is None or learns.value is not False:
                return "`norm_cfg`"
    return ""


_YOLO = """\
lr0: 0.01
lrf: 0.01
box: 7.5
momentum: 0.9
optimizer: SGD
task: detect
"""
_D2 = "SOLVER:\n  BASE_LR: 0.02\n  IMS_PER_BATCH: "
_MM = "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))\n"
_TIMM = """\
opt: adamw
opt_eps: null
lr: 0.001
sched: cosine
warmup_lr: 1.0e-06
"""
CAUSE.valid_code = (
    Sample("larger batch", _D2 + "16\nMODEL: {RESNETS: {NORM: BN}}\n", file="c.yaml"),
    Sample("frozen", _D2 + "1\nMODEL: {RESNETS: {NORM: FrozenBN}}\n", file="c.yaml"),
    Sample("frozen by default", _D2 + "1\n", file="c.yaml"),
    Sample("synchronised", _D2 + "1\nMODEL: {RESNETS: {NORM: SyncBN}}\n", file="c.yaml"),
    Sample("by group", _D2 + "1\nMODEL: {RESNETS: {NORM: GN}}\n", file="c.yaml"),
    Sample("automatic", _YOLO + "batch: -1\n", file="args.yaml"),
    Sample("validation", _YOLO + "mode: val\nbatch: 1\n", file="args.yaml"),
    Sample(
        "statistics not learned",
        _MM
        + """\
train_dataloader = dict(batch_size=1)
model = dict(backbone=dict(norm_cfg=dict(type='BN'), norm_eval=True))
""",
        file="config_mm.py",
    ),
    Sample(
        "synchronised in openmmlab",
        _MM
        + """\
train_dataloader = dict(batch_size=1)
model = dict(backbone=dict(norm_cfg=dict(type='SyncBN')))
""",
        file="config_mm.py",
    ),
    Sample(
        "validation loader",
        _MM
        + """\
train_dataloader = dict(batch_size=8)
val_dataloader = dict(batch_size=1)
model = dict(backbone=dict(norm_cfg=dict(type='BN')))
""",
        file="config_mm.py",
    ),
    Sample("transformer", _TIMM + "model: vit_base_patch16_224\nbatch_size: 1\n", file="args.yaml"),
    Sample(
        "accumulated language model",
        """\
output_dir: o
per_device_train_batch_size: 1
learning_rate: 2.0e-5
""",
        file="run.yaml",
    ),
)
CAUSE.invalid_code = (
    Sample("detectron2", _D2 + "1  # <-\nMODEL: {RESNETS: {NORM: BN}}\n", file="c.yaml"),
    Sample("ultralytics", _YOLO + "mode: train\nbatch: 1  # <-\n", file="args.yaml"),
    Sample(
        "mmengine",
        _MM
        + """\
train_dataloader = dict(batch_size=1)  # <-
model = dict(backbone=dict(norm_cfg=dict(type='BN', requires_grad=True)))
""",
        file="config_mm.py",
    ),
    Sample(
        "mmcv",
        """\
optimizer = dict(type='SGD', lr=0.1)
optimizer_config = dict(grad_clip=None)
total_epochs = 12
data = dict(
    samples_per_gpu=1)  # <-
model = dict(backbone=dict(norm_cfg=dict(type='BN')))
""",
        file="config_mm.py",
    ),
    Sample("timm", _TIMM + "model: resnet50\nbatch_size: 1  # <-\n", file="args.yaml"),
)
