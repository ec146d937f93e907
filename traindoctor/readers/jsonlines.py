"""JSON lines -> logs: one object a line, of any shape, behind a logger's text or not; mmengine's, mmcv's and Detectron2's.

mmengine (`LoggerHook`, `LocalVisBackend`): training rows count by iteration, evaluation rows in the same file by epoch.
mmcv 1 (`TextLoggerHook`): the first line holds environment and config, `iter` starts again in each epoch, `mode` says of
what data a row is. Detectron2 (`JSONWriter`): one row per `iteration`, evaluations among them. fairseq
(`--log-format json`): objects behind "time | INFO | train | ", numbers as strings.
"""

from __future__ import annotations

import ast
import json
import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage
from traindoctor.readers.jsonrows import (
    MEASURED,
    WRITTEN_AT,
    Rows,
    decode,
    flatten,
    held_out,
    is_count,
    moment,
    number,
    refuse_pointer,
)
from traindoctor.readers.log import NO_HINTS, Hints, Log
from traindoctor.readers.table import count_times, find_step_column, name_lines
from traindoctor.readers.tags import quantity_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from traindoctor.readers.table import Table

#: Bytes that are parsed at a time, and the longest line that is parsed at all.
BLOCK, LONGEST_LINE = 2**21, 2**26
#: Characters in which a logger's text before an object must end, and lines at the top that are looked at for the format.
LONGEST_PREFIX, HEAD_LINES = 400, 400
#: Characters of a config in a log beyond which it is not looked into.
LONGEST_CONFIG = 2**18
#: Line numbers that are remembered of each kind of damage.
REMEMBERED = 6

_SCAN: Callable[[str, int], tuple[Any, int]] = vars(json.JSONDecoder())["scan_once"]
_TIME = re.compile(r"[\[(]?(\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?)")
_OBJECT = re.compile(r"\{\s*[\"}]|^\s*\{")
_BATCH = re.compile(r"\[(?:batch|step)=(\d+)\]")


# -- what it is -------------------------------------------------------------------------------------------------------


def _head_rows(head: bytes) -> tuple[list[dict[str, Any]], int, int]:
    """Return the objects of the first lines, how many lines hold something else, and how many a logger's text leads."""
    if not head:
        return [], 0, 0
    text = decode(head)
    lines = (text if "\n" in text else text.replace("\r", "\n")).split("\n")
    if len(lines) > 1 and parse(lines[-1])[0] is None:
        lines.pop()  # the head ends within it
    rows: list[dict[str, Any]] = []
    others = led = 0
    for line in lines[:HEAD_LINES]:
        if not line.strip(" \t\r\0"):
            continue
        row, prefix = parse(line)
        if row is None:
            others += 1
        else:
            rows.append(row)
            led += bool(prefix)
    return rows, others, led


def looks_like_jsonl(head: bytes, _name: str = "") -> bool:
    """Whether a file begins with objects, one a line, that hold values of a training."""
    rows, others, led = _head_rows(head)
    if not rows or (not led and others > len(rows)):
        return False
    return _is_log(rows)


def _is_log(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether objects hold values of a training: a quantity that is known, or numbers by a step that rises."""
    measured, with_clock, both = 0, 0, 0
    steps: list[float] = []
    wordy = 0
    quantity = lru_cache(maxsize=None)(quantity_of)
    clocks = lru_cache(maxsize=None)(is_count)
    for row in rows:
        values = dict(flatten(row))
        wordy += sum(len(value) for value in values.values() if isinstance(value, str)) > 2000 and not _holds_config(row)
        names = [key for key, value in values.items() if number(value) is not None]
        clock = next((key for key in names if clocks(key)), None)
        known = any(quantity(key) in MEASURED for key in names) or (
            number(row.get("value")) is not None and any(quantity(str(row.get(key))) for key in ("tag", "name", "key", "metric"))
        )
        measured += known
        if clock is not None and len(names) > 1:
            with_clock += 1
            both += known
            steps.append(number(values[clock]) or 0.0)
    if wordy > len(rows) / 2:
        return False
    if len(rows) == 1:  # a config in one line has an `epochs`, too
        names = [name for name, value in flatten(rows[0]) if number(value) is not None]
        return both == 1 and any(quantity_of(name) in MEASURED - {"loss_term"} for name in names)
    rises = np.diff(steps) >= 0
    return measured > 1 or both > 0 or (with_clock > 1 and steps[-1] > steps[0] and bool(rises.mean() > 2 / 3))


def _holds_config(row: dict[str, Any]) -> bool:
    return "config" in row or "env_info" in row


def looks_like_mmengine(head: bytes, _name: str = "") -> bool:
    """Whether a file begins with the rows of mmengine, or of mmcv before it."""
    rows, _, led = _head_rows(head)
    if led or not rows:
        return False
    if "env_info" in rows[0] and ("config" in rows[0] or "seed" in rows[0]):
        return True
    old = sum(row.get("mode") in ("train", "val") and "iter" in row and "epoch" in row for row in rows[:8])
    new = sum("step" in row and "time" in row and "data_time" in row and "_step" not in row for row in rows[:8])
    return max(old, new) > min(len(rows), 8) / 2


def looks_like_detectron2(head: bytes, _name: str = "") -> bool:
    """Whether a file begins with the rows of Detectron2's `metrics.json`."""
    rows, _, led = _head_rows(head)
    if led or not rows:
        return False
    mine = sum(
        "iteration" in row and ("eta_seconds" in row or "total_loss" in row or any(key.startswith("bbox/AP") for key in row))
        for row in rows
    )
    return mine > len(rows) / 2


# -- reading ----------------------------------------------------------------------------------------------------------


def read_jsonl(data: bytes, file: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:
    """Return the log that JSON lines hold; no series and a damage when there is none.

    Raises: UnreadableInputError when no line holds an object, or no column is what the hints say.
    """
    return _log(gather(data, Rows(file)), file, "jsonl", hints)


def read_detectron2(data: bytes, file: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:
    """Return the log of Detectron2's `metrics.json`.

    Raises: UnreadableInputError as for JSON lines.
    """
    return _log(gather(data, Rows(file)), file, "detectron2", hints)


def read_mmengine(data: bytes, file: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:
    """Return the log of mmengine or mmcv; evaluations as `val/...`, at the last step that was logged before them.

    Their own count is of epochs, or of the batches evaluated; a `step` that is not behind the training is kept. A config
    in the first line gives the settings.

    Raises: UnreadableInputError as for JSON lines.
    """
    rows = gather(data, Rows(file, _is_evaluation))
    if isinstance(text := rows.settings.get("config"), str) and (assigned := _assigned(text)):
        del rows.settings["config"]
        rows.set_settings(assigned)
    return _log(rows, file, "mmengine", hints)


def _is_evaluation(names: Sequence[str]) -> bool:
    """Whether a row of mmengine is of an evaluation: no learning rate, and no epoch or memory, which training rows have."""
    return "step" in names and not {"lr", "base_lr", "epoch", "memory", "mode"}.intersection(names)


def _assigned(text: str) -> dict[str, object]:
    """Return what a config of mmcv assigns to names, as far as it is plain values: it is Python, and is not run."""
    if len(text) > LONGEST_CONFIG:
        return {}
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    found: dict[str, object] = {}
    for statement in statements:
        if isinstance(statement, ast.Assign) and isinstance(target := statement.targets[0], ast.Name):
            try:
                found[target.id] = _plain(statement.value)
            except (ValueError, RecursionError, MemoryError):
                continue
    return found


def _python_object(line: str) -> dict[str, object]:
    """Return the dict that a logger wrote as Python shows it, behind its own text, as fairseq does with its config."""
    start = line.find("| {'", 0, LONGEST_PREFIX)
    if start < 0 or len(line) > LONGEST_CONFIG:
        return {}
    try:
        value = ast.literal_eval(line[start + 2 :].strip())
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return {}
    return value if isinstance(value, dict) and all(isinstance(key, str) for key in value) else {}


def _plain(node: ast.expr) -> object:
    """Return the value of a literal, or of dict(...) of literals; ValueError for anything else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        return {keyword.arg: _plain(keyword.value) for keyword in node.keywords if keyword.arg is not None}
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_plain(item) for item in node.elts]
    value: object = ast.literal_eval(node)
    return value


def _log(rows: Rows, file: str, format_name: str, hints: Hints) -> tuple[Log, ...]:
    if not rows.n:
        damages = rows.damages or [Damage("empty-file", file, "the file holds no row of values")]
        return (Log(format_name, (), damages=tuple(damages), settings=rows.settings),)
    table = rows.table("row")
    if format_name == "mmengine":
        table = _on_training_steps(table, rows.validation)
    return rows.logs(table, format_name, hints)


def _on_training_steps(table: Table, validation: Sequence[int]) -> Table:
    """Return the table with evaluation rows at the last step trained before them; as it is where nothing was trained."""
    found = find_step_column(list(table.numbers))
    if found is None or not validation:
        return table
    step, there = table.numbers[found[0]].copy(), table.filled[found[0]].copy()
    trained = there.copy()
    trained[np.array(validation)] = False
    last = np.maximum.accumulate(np.where(trained, np.arange(step.size), -1))
    move = ~trained & (last >= 0)
    if found[0] == "step":  # mmengine counts evaluations by iteration where training is; mmcv's `iter` is of their batches
        move &= ~(there & (step >= step[last]))
    step[move], there[move] = step[last[move]], True
    numbers, filled = {**table.numbers, found[0]: step}, {**table.filled, found[0]: there}
    return replace(table, numbers=numbers, filled=filled)


def parse(line: str) -> tuple[dict[str, Any] | None, str]:
    """Return the object that a line holds, and the text of a logger before it; None when it holds none."""
    start = line.find("{", 0, LONGEST_PREFIX)
    if start < 0:
        return None, ""
    try:
        row, end = _SCAN(line, start)
    except (StopIteration, ValueError, RecursionError):
        return None, ""
    if type(row) is not dict or line[end:].strip(" \t\r\0,"):
        return None, ""
    return row, line[:start].strip(" \t\0\ufeff")


def _blocks(data: bytes) -> Iterator[tuple[str, int]]:
    """Yield (text, number of its first line): whole lines, a few MiB at a time; "" for a line that is too long."""
    start, number_of_line = 0, 1
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    if wide or (b"\n" not in data and b"\r" in data):
        data = decode(data).replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace")
    if data.startswith(b"\xef\xbb\xbf"):
        start = 3
    while start < len(data):
        stop = data.rfind(b"\n", start, start + BLOCK) + 1
        if not stop:
            stop = data.find(b"\n", start) + 1 or len(data)
        if stop - start > LONGEST_LINE:
            yield "", number_of_line
        else:
            yield data[start:stop].decode("utf-8", "replace"), number_of_line
        number_of_line += data.count(b"\n", start, stop)
        start = stop


def gather(data: bytes, rows: Rows) -> Rows:
    """Return the rows with all objects of the lines in them, and what is damaged or left out.

    Raises: UnreadableInputError when no line holds an object.
    """
    file = rows.file
    refuse_pointer(data, file)
    bad = _Places()
    text_lines, too_long = _Places(), _Places()
    led = objects = 0
    last_line, last_is_bad = 0, False
    for text, first in _blocks(data):
        if not text:
            too_long.add(first)
            continue
        found: list[dict[str, Any]] = []
        lines: list[int] = []
        for at, line in enumerate(text.split("\n"), first):
            if line[:1] == "{":
                try:
                    row, end = _SCAN(line, 0)
                    if end == len(line):
                        found.append(row)
                        lines.append(at)
                        last_is_bad = False
                        continue
                except (StopIteration, ValueError, RecursionError):
                    pass
            if not line.strip(" \t\r\0"):
                continue
            parsed, prefix = parse(line)
            last_line, last_is_bad = at, parsed is None
            if parsed is not None:
                if prefix:
                    led += 1
                    parsed = _with_prefix(parsed, prefix)
                found.append(parsed)
                lines.append(at)
            elif not rows.settings and (settings := _python_object(line)):
                rows.set_settings(settings)
            elif _OBJECT.search(line, 0, LONGEST_PREFIX):
                bad.add(at)
            else:
                text_lines.add(at)
        objects += len(found)
        rows.add(found, lines)
    if (
        last_is_bad
        and data[-1:] not in (b"\n", b"\r", b"\0")
        and (bad.drop(last_line) or (objects and text_lines.drop(last_line)))
    ):
        rows.damages.append(Damage("truncated", file, f"line {last_line}, the last one, is cut off: it is left out"))
    if bad.count:
        rows.damages.append(Damage("unreadable-line", file, f"{bad}: no JSON object can be read there, left out"))
    if text_lines.count:
        what = "text of the logger without values" if led else "no JSON object"
        rows.damages.append(Damage("other-lines" if led else "unreadable-line", file, f"{text_lines}: {what}, left out"))
    if too_long.count:
        rows.damages.append(Damage("long-line", file, f"{too_long}: longer than {LONGEST_LINE >> 20} MiB, left out"))
    if not objects and (bad.count or text_lines.count or too_long.count):
        raise UnreadableInputError(file, "holds no JSON lines: no line is a JSON object", "write one object a line")
    return rows


class _Places:
    """Line numbers of one kind: how many, and the first few."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[int] = []
        self.last = 0

    def add(self, line: int) -> None:
        self.count += 1
        self.last = line
        if len(self.first) < REMEMBERED:
            self.first.append(line)

    def drop(self, line: int) -> bool:
        """Take a line out that was added last; False when it was another one."""
        if self.last != line or not self.count:
            return False
        self.count -= 1
        if self.first and self.first[-1] == line:
            self.first.pop()
        return True

    def __str__(self) -> str:
        if self.count <= len(self.first):
            return name_lines(self.first)
        shown = ", ".join(map(str, self.first[:5]))
        return f"{count_times(self.count, 'line')}, {shown} first"


def _with_prefix(row: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return a row with what the logger's text before it says: when it was, and of what data it is."""
    more: dict[str, Any] = {}
    when = _TIME.match(prefix)
    seconds = moment(when[1]) if when else None
    if seconds is not None:
        more[WRITTEN_AT] = seconds
    batch = _BATCH.search(prefix)
    if batch and not any(map(is_count, row)):
        more["step"] = int(batch[1])
    fields = prefix.split("|")
    split = held_out(fields[-2] if len(fields) > 2 else "")
    if split and "split" not in row:
        more["split"] = split
    return {**row, **more}
