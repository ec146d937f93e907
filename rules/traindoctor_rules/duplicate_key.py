"""A key stands twice in one block, and the last one counts.

## What it looks like
`lr: 0.1` at the top of a block, and `lr: 0.001` further down in it.

## Why it matters
YAML and JSON readers keep the last value and say nothing. Who changes the first one changes nothing.

## When it is wrong
Merge keys (`<<`) and keys of the same name in different blocks are no repetition, and nothing is said of them.

## What repairs it
One of the two. Which one was meant, only the author knows.

## References
YAML 1.2.2, section 3.2.1.1: the keys of a mapping are unique; RFC 8259, section 4: names within an object should be unique,
and what a reader does otherwise is not defined. PyYAML and Python's json keep the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs.vocabulary import ANYWHERE_KEYS, GRADIENT_KEYS, OPTIMIZER_KEYS, SCHEDULE_KEYS, normal
from traindoctor.mistake import Location, Mistake
from traindoctor.rule import Cause, Limits, Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.file import ConfigFile

CAUSE = Cause(
    code="TD803",
    name="duplicate-key",
    summary="a key stands twice in one block and the last one counts",
    explanation=__doc__,
    severity="warning",
)


@CAUSE.in_file
def stands_twice(config: ConfigFile, limits: Limits) -> Iterator[Mistake]:
    """Yield keys that stand twice in one block."""
    del limits
    for note in config.notes:
        if note.repeat is None:
            continue
        path, column, first_line, first, last = note.repeat
        key = path[-1]
        known = any(normal(key) in table for table in (ANYWHERE_KEYS, OPTIMIZER_KEYS, SCHEDULE_KEYS, GRADIENT_KEYS))
        differ = first is not None and last is not None and first != last
        values = (
            f": {_shown(last)} counts, not the {_shown(first)} of line {first_line}"
            if differ
            else f", first at line {first_line}"
        )
        yield Mistake(
            Location(config.file, note.line, column),
            f"`{key[:60]}` stands twice in one block{values}." + ("" if differ else " The last one counts."),
            "keep the one that is meant",
            severity="info" if first is not None and first == last else "error" if known and differ else "warning",
            related=((Location(config.file, first_line), "the first one"),),
        )


def _shown(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return f"`{text[:40]}`"


CAUSE.valid_code = (
    Sample("different blocks", "optimizer_g: {name: adam, lr: 0.1}\noptimizer_d: {name: adam, lr: 0.2}\n", file="config.yaml"),
    Sample(
        "merge keys",
        """\
base: &base {lr: 0.1, wd: 0.0}
other: &other {lr: 0.3}
optimizer:
  <<: *base
  name: sgd
  lr: 0.2
""",
        file="config.yaml",
    ),
    Sample(
        "list of blocks",
        """\
optimizer: {name: sgd, lr: 0.1}
callbacks:
  - {name: a}
  - {name: b}
""",
        file="config.yaml",
    ),
    Sample(
        "several documents",
        """\
lr: 0.1
optimizer: sgd
---
lr: 0.2
""",
        file="config.yaml",
    ),
    Sample("json", '{"optimizer": {"lr": 0.1}, "generator": {"lr": 0.2}}', file="config.json"),
    Sample(
        "assigned again",
        """\
learning_rate = 0.1
learning_rate = 0.2
max_iters = 10
block_size = 8
n_layer = 2
""",
        file="config_n.py",
    ),
)
CAUSE.invalid_code = (
    Sample(
        "yaml",
        """\
optimizer:
  name: sgd
  lr: 0.1
  lr: 0.001  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "same value",
        """\
lr: 0.1
optimizer: sgd
lr: 0.1  # <-
""",
        file="config.yaml",
    ),
    Sample(
        "block",
        """\
optimizer: {name: sgd, lr: 0.1}
model: {depth: 3}
model: {depth: 4}  # <-
""",
        file="config.yaml",
    ),
    Sample("json", '{"optimizer": {"type": "Adam",\n  "lr": 0.1,\n  "lr": 0.001}}', file="config.json", line=3),
    Sample(
        "trainer",
        """\
output_dir: o
per_device_train_batch_size: 8
learning_rate: 2.0e-5
learning_rate: 3.0e-4  # <-
""",
        file="run.yaml",
    ),
    Sample(
        "dict of python",
        """\
optim_wrapper = dict(optimizer={
    'type': 'SGD',
    'lr': 0.1,
    'lr': 0.01,  # <-
})
""",
        file="config_mm.py",
    ),
)
