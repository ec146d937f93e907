"""The folder in which MLflow keeps a run (`mlruns/<experiment>/<run>/`) -> its metrics, parameters and name.

A metric is a file of lines, "milliseconds value step"; with a data set, "milliseconds value step name digest"; before
MLflow 1.0, "milliseconds value". A name with slashes is a path of folders. A parameter, or a tag, is a file of its text.

Source: mlflow/store/tracking/file_store.py. For lines with a data set, which hold a step, MLflow's own reader gives step 0.
"""

from __future__ import annotations

import ast
import math
import re
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.configs.documents import plain_scalar
from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage, Series
from traindoctor.readers.log import NO_HINTS, Hints, Log
from traindoctor.readers.storage import read_head, read_whole
from traindoctor.readers.table import ROW, check_steps, name_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


FORMAT = "mlflow-files"
META = "meta.yaml"
#: Levels of folders that the slashes of a name may make, files of a run, and bytes of a parameter that are read.
DEEPEST, MOST_FILES, LONGEST = 16, 100_000, 20_000
FIELDS = (2, 3, 5)
#: Metrics without steps, or files, that are named in one message.
NAMED = 5
MILLISECONDS = 1000.0

_ENTRY = re.compile(rb"^(run_id|run_uuid|experiment_id|run_name|start_time|lifecycle_stage):[ \t]*(.*?)[ \t\r]*$", re.MULTILINE)


def is_mlflow_run(folder: Path) -> bool:
    """Whether a folder is what MLflow's file store keeps of one run; an experiment, or a model, is none."""
    try:
        with (folder / META).open("rb") as stream:
            meta = _meta(stream.read(LONGEST))
    except OSError:
        return False
    return "experiment_id" in meta and bool(meta.get("run_id") or meta.get("run_uuid"))


def read_mlflow_run(folder: Path, file: str, hints: Hints = NO_HINTS) -> Log:
    """Return the log of a run in MLflow's file store; `file` is how messages name the folder.

    A metric whose values were all logged without a step is counted by its values. A run that was deleted gives no series.

    Raises: UnreadableInputError when the folder holds no run.
    """
    meta = _meta(read_head(folder / META, f"{file}/{META}", LONGEST))
    if not (meta.get("run_id") or meta.get("run_uuid")):
        raise UnreadableInputError(file, f"is no run of MLflow: its {META} names no run")
    name = _read_text(folder / "tags" / "mlflow.runName", file).strip() or meta.get("run_name", "")
    if meta.get("lifecycle_stage") == "deleted":
        damage = Damage("deleted-run", file, f"run {name or '?'} was deleted in MLflow: it is left out")
        return Log(FORMAT, (), damages=(damage,), name=name)
    damages: list[Damage] = []
    series, skipped = [], []
    for tag, place in _files(folder / "metrics", file, damages):
        try:
            found = _read_metric(place, tag, f"{file}/metrics/{tag}", damages)
        except UnreadableInputError as error:
            skipped.append(f"{tag} ({error.what})")
            continue
        if found is not None:
            series.append(found)
    if skipped:
        damages.append(Damage("unreadable-file", file, f"metrics that cannot be read: {listed(skipped)}"))
    settings = {
        tag.replace("/", "."): as_value(_read_text(place, file)) for tag, place in _files(folder / "params", file, damages)
    }
    start = meta.get("start_time", "")
    begun = int(start) / MILLISECONDS if start.isdigit() and len(start) < 18 else math.nan
    return as_log(FORMAT, file, series, damages, hints, settings, name, begun)


def as_log(
    format_name: str,
    file: str,
    series: Sequence[Series],
    damages: Sequence[Damage],
    hints: Hints,
    settings: dict[str, object],
    name: str,
    begun: float,
) -> Log:
    """Return the log of a run whose metrics each have steps of their own; metrics without steps are counted."""
    by_row = hints.step_column == ROW
    uncounted = [s.tag for s in series if len(s) > 1 and not s.step.any()]
    counted = [
        Series(s.quantity, s.tag, np.arange(len(s), dtype=np.int64), s.value, s.wall_time, s.source)
        if by_row or (len(s) > 1 and not s.step.any())
        else s
        for s in series
    ]
    more = []
    if uncounted and not by_row:
        detail = f"logged without a step, so that their values are counted: {listed(uncounted)}"
        more.append(Damage("no-steps", file, detail))
    back, doubtful = check_steps(file, [s.step for s in counted])
    only_rows = by_row or (bool(uncounted) and not any(s.step.any() for s in series))
    return Log(
        format_name,
        tuple(counted),
        "row" if only_rows else "step",
        ROW if only_rows else "",
        (*damages, *more, *doubtful),
        back,
        settings=settings,
        name=name,
        begun=begun,
    )


def listed(names: Sequence[str]) -> str:
    """Return "a, b and 3 more"."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def as_value(text: str) -> object:
    """Return what the text of a parameter stands for: MLflow keeps `str(value)`. A number, truth value, list, or the text."""
    if text[:1] in ("[", "(", "{") and len(text) < LONGEST and "\\" not in text:
        try:
            value: object = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return text
        return value
    return plain_scalar(text)


def _meta(data: bytes) -> dict[str, str]:
    found = {}
    for key, value in _ENTRY.findall(data):
        text = value.decode("utf-8", "replace")
        found[key.decode()] = text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
    return found


def _read_text(place: Path, file: str) -> str:
    """Return the text of a parameter or tag; "" when there is none."""
    try:
        return read_head(place, file, LONGEST).decode("utf-8", "replace")
    except UnreadableInputError:
        return ""


def _files(top: Path, file: str, damages: list[Damage]) -> Iterator[tuple[str, Path]]:
    """Yield name and place of the files at and below a folder, sorted; the name has the slashes of the path."""
    pending = [("", top, 0)]
    seen = 0
    while pending:
        beginning, folder, depth = pending.pop()
        try:
            entries = sorted(folder.iterdir(), key=lambda entry: entry.name) if folder.is_dir() else []
        except OSError as error:
            damages.append(Damage("unreadable-file", file, f"folder {top.name}/{beginning}: {error.strerror or error}"))
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if depth < DEEPEST:
                    pending.append((f"{beginning}{entry.name}/", entry, depth + 1))
                else:
                    damages.append(Damage("unreadable-file", file, f"folders deeper than {DEEPEST} are left out: {beginning}"))
                continue
            seen += 1
            if seen > MOST_FILES:
                damages.append(
                    Damage("unreadable-file", file, f"more than {MOST_FILES:,} files in {top.name}: the rest is left out")
                )
                return
            yield f"{beginning}{entry.name}", entry


def _read_metric(place: Path, tag: str, file: str, damages: list[Damage]) -> Series | None:
    data, lost = read_whole(place, file)
    damages.extend(lost)
    words = data.split()
    if len(words) == 3 * data.count(b"\n"):
        try:
            stamps, steps = (
                np.array(list(map(int, words[::3])), dtype=np.int64),
                np.array(list(map(int, words[2::3])), dtype=np.int64),
            )
            value = np.array(list(map(float, words[1::3])), dtype=np.float64)
        except (ValueError, OverflowError):
            pass
        else:
            if value.size and data.count(b" ") == 2 * value.size and np.abs(steps).max() < 2**62:
                return Series("", tag, steps, value, stamps / MILLISECONDS, file)
    return _read_lines(data, tag, file, damages)


def _read_lines(data: bytes, tag: str, file: str, damages: list[Damage]) -> Series | None:
    """Return the series of a file whose lines are not all of one form; None when no line can be read."""
    rows: list[tuple[int, float, float]] = []
    bad: list[int] = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines, 1):
        parts = line.split()
        if not parts:
            continue
        try:
            if len(parts) not in FIELDS or (number == len(lines) and len(parts) < 3):
                raise ValueError
            step = int(parts[2]) if len(parts) > 2 else 0
            if abs(step) >= 2**62:
                raise ValueError
            rows.append((step, float(parts[1]), int(parts[0]) / MILLISECONDS))
        except (ValueError, OverflowError):
            bad.append(number)
    if lines[-1].strip() and len(lines) not in bad:  # cut off: a step of 1200 may have become 12
        rows.pop()
        bad.append(len(lines))
    if bad:
        cut = bad == [len(lines)]
        what = "is cut off" if cut else f"{'is' if len(bad) == 1 else 'are'} no 'milliseconds value step'"
        damages.append(Damage("truncated" if cut else "unreadable-line", file, f"{name_lines(bad)} {what}: left out"))
    if not rows:
        if not bad:
            damages.append(Damage("empty-file", file, f"metric {tag} holds no value"))
        return None
    steps, values, walls = zip(*rows, strict=True)
    return Series("", tag, np.array(steps, np.int64), np.array(values, np.float64), np.array(walls, np.float64), file)
