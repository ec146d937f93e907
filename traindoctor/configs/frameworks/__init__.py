"""The dialects of config files, the more particular ones first: each says what its keys mean and what it sets unasked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs.frameworks.deepspeed import DEEPSPEED, NEOX
from traindoctor.configs.frameworks.dialect import Dialect, Shape
from traindoctor.configs.frameworks.huggingface import ACCELERATE, AXOLOTL, LLAMA_FACTORY, TRAINING_ARGUMENTS, TRL_CONFIG
from traindoctor.configs.frameworks.hydra import COMPOSER, FAIRSEQ, HYDRA, TORCHTUNE
from traindoctor.configs.frameworks.lightning import LIGHTNING_CLI, LIGHTNING_HPARAMS
from traindoctor.configs.frameworks.others import KERAS, KOHYA, PLAIN, SB3, SWEEP
from traindoctor.configs.frameworks.pretraining import MEGATRON, NANOGPT, TORCHTITAN
from traindoctor.configs.frameworks.vision import DETECTRON2, LAZY_CONFIG, MMCV, MMENGINE, TIMM, ULTRALYTICS, YOLOV5

if TYPE_CHECKING:
    from collections.abc import Iterable

    from traindoctor.configs.documents import Entry

__all__ = ["DIALECTS", "PLAIN", "Dialect", "Shape", "dialect_named", "dialect_of"]

#: In the order in which they are asked; what none claims is PLAIN.
DIALECTS = (
    SWEEP,
    LLAMA_FACTORY,
    TRL_CONFIG,
    AXOLOTL,
    TRAINING_ARGUMENTS,
    ACCELERATE,
    NEOX,
    DEEPSPEED,
    MMENGINE,
    MMCV,
    DETECTRON2,
    LAZY_CONFIG,
    TORCHTUNE,
    TORCHTITAN,
    KERAS,
    KOHYA,
    FAIRSEQ,
    YOLOV5,
    ULTRALYTICS,
    TIMM,
    COMPOSER,
    LIGHTNING_CLI,
    NANOGPT,
    MEGATRON,
    SB3,
    HYDRA,
    LIGHTNING_HPARAMS,
)


def dialect_of(entries: Iterable[Entry], name: str = "") -> Dialect:
    """Return the dialect that the keys of a config tell, PLAIN when none; `name`, of the file, breaks ties."""
    shape = Shape(entries, name)
    return next((dialect for dialect in DIALECTS if dialect.is_it(shape)), PLAIN)


def dialect_named(name: str) -> Dialect:
    """Return the dialect of a name, PLAIN for one that is not known."""
    return next((dialect for dialect in DIALECTS if dialect.name == name), PLAIN)
