"""The run cannot be repeated: it has no seed, or keeps nothing of itself.

## What it looks like
`seed: null` in torchtune, `SEED: -1` in Detectron2, no `seed_everything` for LightningCLI; `save_strategy: "no"` in the
arguments of the Trainer.

## Why it matters
Without a seed, two runs differ before anything was changed, and a fault that came once may not come again. A run that saves
nothing has to be started over.

## When it is wrong
A script that seeds by itself. Frameworks that seed unasked (the Trainer of Hugging Face with 42, nanoGPT, timm, Ultralytics)
are not spoken of. What is said here is information only.

## What repairs it
A seed, and a checkpoint now and then.

## References
PyTorch documentation, "Reproducibility"; torchtune documentation, `set_seed`: null draws one; Lightning documentation,
`seed_everything`; detectron2, config/defaults.py: a negative SEED is random; Bouthillier et al. 2021, Accounting for variance
in machine learning benchmarks, arXiv:2103.03098.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs.lengths import TRAINER
from traindoctor.configs.vocabulary import normal, number
from traindoctor.mistake import Mistake
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.documents import Entry
    from traindoctor.configs.file import ConfigFile

CAUSE = Cause(
    code="TD703",
    name="run-not-reproducible",
    summary="the run has no seed, or saves nothing",
    explanation=__doc__,
    severity="info",
)

#: Dialects that draw a seed where none is set, and the path of it.
_SEEDS = {
    "torchtune": ("seed",),
    "LightningCLI": ("seed_everything",),
    "Detectron2": ("seed",),
    "MMEngine": ("randomness.seed", "randomness"),
}


@CAUSE.in_file
def no_seed(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield the seed that is switched off, or the rate of a run that has none."""
    del limits
    paths, rate = _SEEDS.get(config.dialect, ()), config.slot("optimizer.lr")
    if not paths or rate is None or not config.is_own(rate):
        return
    entry = next((config.shape.at[path] for path in paths if path in config.shape.at), None)
    if entry is None:
        yield Mistake(
            config.place(rate),
            f"`{paths[0]}` is not set. {config.dialect} draws a seed, and two runs differ.",
            f"set `{paths[0]}` to a number",
        )
    elif entry.value is None or entry.value is False or (number(entry.value) or 0.0) < 0.0:
        yield Mistake(
            config.place(entry),
            f"`{entry.key}` is {_shown(entry)}. {config.dialect} draws a seed, and two runs differ.",
            f"set `{entry.key}` to a number",
        )


def _shown(entry: Entry) -> str:
    return "empty" if entry.value is None else "off" if entry.value is False else str(entry.value)


@CAUSE.in_file
def nothing_saved(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield what switches off saving, or evaluation though it is asked for."""
    del limits
    if config.dialect not in TRAINER:
        return
    held = {normal(entry.key): entry for entry in config.entries}
    save = held.get("save_strategy")
    if save is not None and _is_off(save):
        yield Mistake(
            config.place(save),
            "`save_strategy` is off. The run keeps no checkpoint to go on from.",
            "save once an epoch, or every few hundred steps",
        )
    evaluation, asked = held.get("eval_strategy") or held.get("evaluation_strategy"), held.get("do_eval")
    if evaluation is not None and _is_off(evaluation) and asked is not None and asked.value is True:
        yield Mistake(
            config.place(evaluation),
            f"`{evaluation.key}` is off, and `do_eval` is on. The model is evaluated after the training alone.",
            "evaluate once an epoch, or every few hundred steps",
        )


def _is_off(entry: Entry) -> bool:
    return entry.value is False or entry.value == "no"


_TUNE = "model: {_component_: m}\noptimizer: {_component_: torch.optim.AdamW, lr: 2e-5}  #\n"
_HF = """\
output_dir: out
per_device_train_batch_size: 8
learning_rate: 2.0e-5
"""
_CLI = "trainer: {max_epochs: 3, accelerator: gpu}\nmodel: {class_path: net.Net}\n"
CAUSE.valid_code = (
    Sample("seed", _TUNE + "seed: 5\n", file="t.yaml"),
    Sample("seed of zero", _TUNE + "seed: 0\n", file="t.yaml"),
    Sample("seed by default", _HF, file="run.yaml"),
    Sample(
        "seed of lightning",
        _CLI + "seed_everything: 7\noptimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1}}\n",
        file="cli.yaml",
    ),
    Sample(
        "seeded for us",
        _CLI + "seed_everything: true\noptimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1}}\n",
        file="cli.yaml",
    ),
    Sample("saves", _HF + "save_strategy: epoch\neval_strategy: 'no'\n", file="run.yaml"),
    Sample("free-form", "lr: 0.1\nseed: null\n", file="config.yaml"),
    Sample("base without a rate", "SOLVER: {IMS_PER_BATCH: 16}\n", file="c.yaml"),
)
CAUSE.invalid_code = (
    Sample("null", _TUNE + "seed: null  # <-\n", file="t.yaml"),
    Sample(
        "none at all",
        """\
model: {_component_: m}
optimizer:
  _component_: torch.optim.AdamW
  lr: 2e-5  # <-
""",
        file="t.yaml",
    ),
    Sample("negative", "SOLVER: {BASE_LR: 0.02, IMS_PER_BATCH: 16}\nSEED: -1  # <-\n", file="c.yaml"),
    Sample(
        "off",
        _CLI
        + """\
seed_everything: false  # <-
optimizer: {class_path: torch.optim.SGD, init_args: {lr: 0.1}}
""",
        file="cli.yaml",
    ),
    Sample("openmmlab", "optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))  # <-\n", file="config_mm.py"),
    Sample("saves nothing", _HF + "save_strategy: 'no'  # <-\n", file="run.yaml"),
    Sample("evaluates never", _HF + "do_eval: true\nevaluation_strategy: 'no'  # <-\n", file="run.yaml"),
)
