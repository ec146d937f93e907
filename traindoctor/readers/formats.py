"""The formats that are read: how each is recognised by its content, and which reader it has. First match wins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from traindoctor.readers.csvlog import looks_like_csv, read_csv
from traindoctor.readers.events import EVENTS, looks_like_events, read_tensorboard
from traindoctor.readers.jsonlines import (
    looks_like_detectron2,
    looks_like_jsonl,
    looks_like_mmengine,
    read_detectron2,
    read_jsonl,
    read_mmengine,
)
from traindoctor.readers.jsonlog import looks_like_json, looks_like_keras_history, read_json, read_keras_history
from traindoctor.readers.mlflow_sqlite import looks_like_mlflow_sqlite, read_mlflow_sqlite
from traindoctor.readers.textlog import looks_like_text, read_text
from traindoctor.readers.trainer_state import looks_like_trainer_state, read_trainer_state
from traindoctor.readers.wandblog import looks_like_wandb, read_wandb

if TYPE_CHECKING:
    from collections.abc import Callable

    from traindoctor.readers.log import Hints, Log


@dataclass(frozen=True, slots=True)
class Format:
    """A format of one file. `looks_like`: first bytes and name of a file -> whether it is one.

    `read`: the bytes of a file, its name in messages, and hints -> the logs in it. `title`: what people call it.
    """

    name: str
    title: str
    looks_like: Callable[[bytes, str], bool]
    read: Callable[[bytes, str, Hints], tuple[Log, ...]]


#: In the order in which they are asked: what has a mark of its own first, what is told by its shape alone last.
FORMATS: tuple[Format, ...] = (
    Format(EVENTS, "event file of TensorBoard", looks_like_events, read_tensorboard),
    Format("wandb", "offline run of Weights & Biases", looks_like_wandb, read_wandb),
    Format("mlflow-sqlite", "SQLite store of MLflow or Trackio", looks_like_mlflow_sqlite, read_mlflow_sqlite),
    Format("trainer-state", "trainer state of Hugging Face", looks_like_trainer_state, read_trainer_state),
    Format("mmengine", "JSON lines of MMEngine", looks_like_mmengine, read_mmengine),
    Format("detectron2", "JSON lines of Detectron2", looks_like_detectron2, read_detectron2),
    Format("jsonl", "JSON lines", looks_like_jsonl, read_jsonl),
    Format("keras-history", "history of Keras as JSON", looks_like_keras_history, read_keras_history),
    Format("json", "JSON", looks_like_json, read_json),
    Format("csv", "table (CSV, TSV)", looks_like_csv, read_csv),
    Format("text", "text log", looks_like_text, read_text),
)
#: Formats that are no single file -> what people call them.
STORES = {"mlflow-files": "file store of MLflow", "trackio": "store of Trackio"}
_PAGE = re.compile(rb'\s*<!doctype html>(?s:.*)<meta name="generator" content="traindoctor">', re.IGNORECASE)
_REPORT = re.compile(rb'\s*\{\s*"schema_version":\s*"[\d.]+",\s*"tool":\s*\{\s*"name":\s*"traindoctor"')


def is_report(head: bytes) -> bool:
    """Return whether a file begins as what traindoctor itself writes as JSON, JSON lines or a page, which is no log."""
    return _REPORT.match(head) is not None or _PAGE.match(head) is not None


def detect(head: bytes, name: str) -> Format | None:
    """Return the format of a file by its first bytes, unpacked, and its name without the end of a compression.

    None for none that is known, and for a report of traindoctor.
    """
    if is_report(head):
        return None
    return next((f for f in FORMATS if f.looks_like(head, name)), None)


#: End of a name -> the format whose reader says what is wrong with a file that is called so and does not look like it.
NAMES = {
    ".csv": "csv",
    ".tsv": "csv",
    ".wandb": "wandb",
    "trainer_state.json": "trainer-state",
}


def by_name(name: str) -> Format | None:
    """Return the format that a file claims by its name, None for a name that claims nothing."""
    if "tfevents" in name:
        return format_named(EVENTS)
    kind = next((kind for end, kind in NAMES.items() if name.lower().endswith(end)), None)
    return format_named(kind) if kind else None


def format_named(name: str) -> Format:
    """Return the format of that name.

    Raises: KeyError when there is none.
    """
    return {f.name: f for f in FORMATS}[name]


def title_of(name: str) -> str:
    """Return what people call a format, its name where it has no reader of single files."""
    return next((f.title for f in FORMATS if f.name == name), STORES.get(name, name))


def formats_read() -> tuple[str, str]:
    """Return the ways out of an input that is of no known format."""
    return (
        "log with SummaryWriter or a CSV logger, or export a CSV with a column step",
        "what is read: " + ", ".join(f.name for f in FORMATS) + "; --format-in NAME insists on one",
    )
