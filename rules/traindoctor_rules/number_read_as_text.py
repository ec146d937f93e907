"""A number is read as text: YAML 1.1 wants a dot in it, and a sign in its exponent.

## What it looks like
`lr: 3e-4`, read with PyYAML. The optimizer gets "3e-4" and stops with a TypeError, or a comparison with text takes the wrong
branch.

## Why it happens
PyYAML follows YAML 1.1, whose floats are `3.0e-4`. YAML 1.2, JSON, TOML and Python read `3e-4` as a number.

## When it is wrong
Readers that take it for a number, or cast it: OmegaConf and Hydra, torchtune, LightningCLI, the Trainer of Hugging Face,
axolotl, DeepSpeed, ruamel.yaml, yacs. Nothing is said of their configs, nor where a Python file of the project uses one of
these, or casts the value itself.

## What repairs it
`3.0e-4`.

## References
YAML 1.1, "Floating-Point Language-Independent Type", yaml.org/type/float.html; PyYAML, resolver.py, the implicit resolver of
floats.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from traindoctor.configs.documents import is_text_in_yaml_1_1
from traindoctor.configs.vocabulary import ANYWHERE_KEYS, OPTIMIZER_KEYS, SCHEDULE_KEYS, normal, number
from traindoctor.mistake import Edit, Mistake, Repair
from traindoctor.patterns import lazy
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.documents import Entry, Span
    from traindoctor.configs.file import ConfigFile

CAUSE = Cause(
    code="TD801",
    name="number-read-as-text",
    summary="a number is text to the YAML reader",
    explanation=__doc__,
    severity="warning",
)

#: What reads such a word as a number, by the names that a script has for it.
_CASTS = lazy(
    r"ruamel|[Oo]mega[Cc]onf|\bhydra\b|jsonargparse|LightningCLI|HfArgumentParser|pyrallis|tyro|yacs|CfgNode|strictyaml|pydantic"
    r"|add_implicit_resolver|fairseq|lightning\.pytorch\.cli"
)
#: Tags of HyperPyYAML, which reads with ruamel.yaml.
_TAGS = lazy(r"!(?:ref|new|name|apply|copy)\b")
_RATES = lazy(r"(?:^|_)(?:lr|learning_rate|weight_decay|wd|eps|epsilon|momentum)(?:_|$)")


@CAUSE.in_file
def text_to_pyyaml(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield settings that PyYAML reads as text, where nothing is known to read them as numbers."""
    del limits
    if config.suffix not in (".yaml", ".yml") or config.reading.dialect.casts:
        return
    found = [entry for entry in config.entries if entry.as_text and not entry.interpolated and _is_setting(entry)]
    if not found or _TAGS.search(config.text):
        return
    programs = list(config.programs())
    if any(_CASTS.search(text) for text in programs):
        return
    for entry in found:
        if any(re.search(rf"\bfloat\([^()\n]*(?:\([^()\n]*\))?[^()\n]*\b{re.escape(entry.key)}\b", text) for text in programs):
            continue
        edits = tuple(_edits(config, entry))
        words = [config.text[slice(*span)] for span in _spans(config, entry)]
        its = ", ".join(words) or str(entry.value)
        yield Mistake(
            config.place(entry),
            f"`{entry.key}: {its}` is text to PyYAML, which wants a dot, and a sign in the exponent. "
            "The optimizer is handed text.",
            f"write {', '.join(map(as_float, words)) or 'a dot in it: 3.0e-4'}",
            repair=Repair("write it as YAML 1.1 writes floats", edits, safe=True) if edits else None,
        )


@CAUSE.in_file
def quoted(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield numbers in quotes among the arguments of DeepSpeed's optimizer and schedule, which it hands over as they are."""
    del limits
    if config.dialect != "DeepSpeed" or config.suffix != ".json":
        return
    for entry in config.own_entries:
        if entry.block not in (("optimizer", "params"), ("scheduler", "params")) or not isinstance(entry.value, str):
            continue
        if number(entry.value) is None:
            continue
        edit = config.replaced(entry, entry.value.strip())
        yield Mistake(
            config.place(entry),
            f'`{entry.key}` is the text "{entry.value}", and DeepSpeed hands it over as it is. '
            "The run ends at the first sum with it.",
            f"write {entry.value.strip()} without quotes",
            "error",
            Repair("take the quotes away", (edit,), safe=True) if edit is not None and _is_json(entry.value.strip()) else None,
        )


def _is_json(word: str) -> bool:
    """Whether a number is written as JSON has them."""
    return re.fullmatch(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?", word) is not None


def _is_setting(entry: Entry) -> bool:
    """Whether a key means a number of an optimizer or of a schedule; not one in capitals, as yacs has them, which casts."""
    key = normal(entry.key)
    if entry.key.isupper():
        return False
    setting = next((table[key][0] for table in (ANYWHERE_KEYS, OPTIMIZER_KEYS, SCHEDULE_KEYS) if key in table), "")
    return bool(setting and not setting.endswith(".name")) or _RATES.search(key) is not None


def _spans(config: ConfigFile, entry: Entry) -> list[Span]:
    """Return the characters of each word that is meant as a number and is text."""
    if entry.file is not None or entry.shared:
        return []
    spans = entry.items or (entry.span,)
    return [span for span in spans if span[0] >= 0 and is_text_in_yaml_1_1(config.text[slice(*span)])]


def _edits(config: ConfigFile, entry: Entry) -> Iterator[Edit]:
    for span in _spans(config, entry):
        yield Edit(*span, as_float(config.text[slice(*span)]))


def as_float(word: str) -> str:
    """Return a number as YAML 1.1 writes floats: "3e-4" -> "3.0e-4", "1e5" -> "1.0e+5", "-.5" -> "-0.5"."""
    parts = re.fullmatch(r"([-+]?)([\d_]*)(?:\.([\d_]*))?(?:([eE])([-+]?)(\d+))?", word.strip())
    if parts is None:
        return word
    sign, whole, fraction, letter, its_sign, power = parts.groups()
    exponent = f"{letter}{its_sign or '+'}{power}" if letter else ""
    return f"{sign}{whole or '0'}.{fraction or '0'}{exponent}"


_SGD = "optimizer:\n  name: sgd\n"
CAUSE.valid_code = (
    Sample(
        "words of DeepSpeed that are no numbers",
        """\
{"train_micro_batch_size_per_gpu": 1,
 "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": [0.9, 0.95]}}}
""",
        file="ds_config.json",
    ),
    Sample("with a dot", _SGD + "  lr: 3.0e-4\n", file="config.yaml"),
    Sample("decimal", _SGD + "  lr: 0.0003\n", file="config.yaml"),
    Sample("quoted on purpose", _SGD + "  lr: '3e-4'\n", file="config.yaml"),
    Sample("tagged", _SGD + "  lr: !!float 3e-4\n", file="config.yaml"),
    Sample("hydra", "defaults: [_self_]\noptimizer: {_target_: torch.optim.SGD, lr: 3e-4}\n", file="conf.yaml"),
    Sample("torchtune", "optimizer: {_component_: torch.optim.SGD, lr: 3e-4}\n", file="t.yaml"),
    Sample("lightning", "trainer: {max_epochs: 3}\nmodel: {class_path: net.Net, init_args: {lr: 3e-4}}\n", file="cli.yaml"),
    Sample(
        "trainer",
        """\
output_dir: o
per_device_train_batch_size: 8
learning_rate: 3e-4
""",
        file="run.yaml",
    ),
    Sample(
        "axolotl",
        """\
base_model: x
micro_batch_size: 2
sequence_len: 2048
learning_rate: 3e-4
""",
        file="a.yml",
    ),
    Sample("json", '{"optimizer": {"name": "sgd", "lr": 3e-4}}', file="config.json"),
    Sample(
        "toml",
        """\
[optimizer]
name = 'sgd'
lr = 3e-4
""",
        file="config.toml",
    ),
    Sample(
        "python",
        """\
learning_rate = 3e-4
max_iters = 10
block_size = 8
n_layer = 2
""",
        file="config_n.py",
    ),
    Sample("ruamel", _SGD + "  lr: 3e-4\n", file="config.yaml", others={"train.py": "import ruamel.yaml as yaml\n"}),
    Sample("cast", _SGD + "  lr: 3e-4\n", file="config.yaml", others={"train.py": "lr = float(config['optimizer']['lr'])\n"}),
    Sample("capitals of yacs", "TRAIN:\n  BASE_LR: 5e-4\n  WEIGHT_DECAY: 0.05\n", file="swin.yaml"),
    Sample("HyperPyYAML", "lr: 3e-4\nopt_class: !name:torch.optim.Adam\n  lr: !ref <lr>\n", file="train.yaml"),
    Sample("name of a run", _SGD + "  lr: 0.1\nrun: 3e-4\n", file="config.yaml"),
)
CAUSE.invalid_code = (
    Sample(
        "quoted for DeepSpeed",
        """\
{"train_micro_batch_size_per_gpu": 1,
 "optimizer": {"type": "AdamW", "params": {"lr": "1e-4"}}}
""",
        file="ds_config.json",
        line=2,
        fixed='{"train_micro_batch_size_per_gpu": 1,\n "optimizer": {"type": "AdamW", "params": {"lr": 1e-4}}}\n',
    ),
    Sample(
        "block of anchors named defaults",
        """\
defaults: &d {weight_decay: 0.01}
optimizer:
  <<: *d
  name: adam
  lr: 1e-3  # <-
""",
        file="config.yaml",
    ),
    Sample("no dot", _SGD + "  lr: 3e-4  # <-\n", file="config.yaml", fixed=_SGD + "  lr: 3.0e-4  # <-\n"),
    Sample(
        "no sign",
        _SGD + "  lr: 0.1\n  eps: 1.0e5  # <-\n",
        file="config.yaml",
        fixed=_SGD + "  lr: 0.1\n  eps: 1.0e+5  # <-\n",
    ),
    Sample("at the top", "lr: 5E-4  # <-\nbatch_size: 32\n", file="config.yaml", fixed="lr: 5.0E-4  # <-\nbatch_size: 32\n"),
    Sample(
        "in a list",
        _SGD + "  lr: 0.1\n  betas: [9e-1, 0.999]  # <-\n",
        file="config.yaml",
        fixed=_SGD + "  lr: 0.1\n  betas: [9.0e-1, 0.999]  # <-\n",
    ),
    Sample(
        "pyyaml in the script",
        _SGD + "  lr: 3e-4  # <-\n",
        file="config.yaml",
        others={"train.py": "import yaml\nconfig = yaml.safe_load(open('config.yaml'))\n"},
    ),
    Sample(
        "yolov5",
        """\
lr0: 1e-2  # <-
lrf: 0.01
momentum: 0.9
anchor_t: 4.0
box: 0.05
""",
        file="hyp.yaml",
    ),
    Sample("rate of a part", _SGD + "  lr: 0.1\n  backbone_lr: 1e-5  # <-\n", file="config.yaml"),
)
