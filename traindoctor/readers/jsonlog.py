"""JSON documents that hold a training log -> logs: records or columns, whole or cut.

A document is read when it holds records (a list of objects) or columns (lists of numbers by name), at its top, or one
level down beside settings. Keras: `json.dump(model.fit(...).history)` is an object of lists, one number an epoch each
(keras/src/callbacks/history.py).
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage
from traindoctor.readers.jsonrows import (
    CONFIGS,
    MEASURED,
    Rows,
    decode,
    flatten,
    held_out,
    is_count,
    number,
    refuse_pointer,
    single_value,
    spelled,
)
from traindoctor.readers.log import NO_HINTS, Hints, Log
from traindoctor.readers.table import WALL_TIMES
from traindoctor.readers.tags import quantity_of, spellings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from traindoctor.model import StepUnit

#: A document beyond this is not parsed: its objects take ten times its size.
MAX_DOCUMENT = 2**30
#: Lists longer than this hold no value an epoch, even with validation beside training.
MOST_EPOCHS = 1000
#: Lists and objects of a document that hold its log under a name which says nothing of the values.
PLAIN_KEYS = frozenset(
    spellings("log_history history metrics logs log records rows results data entries steps epochs events values train_log")
)
#: A string, whole or cut, or a mark of structure. Linear: a quote that is never closed takes the rest.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[{}\[\],]', re.DOTALL)
_CUT_TOKEN = re.compile(r"[-+.\w]*\s*")
#: Brackets open at once beyond which a document is no log.
DEEPEST = 200


def mend(text: str) -> str:
    """Return the longest beginning of a cut JSON document that is whole, its open brackets closed; "" when nothing is.

    A record, an object in a list, is whole or not there.
    """
    opened: list[str] = []
    lists = records = 0  # open ones; a record is an object that lies in a list, and what lies in it
    best, closers = 0, ""
    for token in _TOKEN.finditer(text):
        mark = token[0][0]
        if mark == '"':
            continue
        if mark in "{[":
            if len(opened) >= DEEPEST:
                break
            records += bool(records) or (mark == "{" and lists > 0)
            lists += mark == "["
            opened.append("}" if mark == "{" else "]")
            if mark == "[" and not records:
                best, closers = token.end(), "".join(reversed(opened))
            continue
        if not opened:
            break
        if mark != ",":
            if opened.pop() != mark:
                break
            lists -= mark == "]"
            records -= records > 0
        if not records:
            best, closers = token.start() if mark == "," else token.end(), "".join(reversed(opened))
    return text[:best] + closers


def load(data: bytes, file: str) -> tuple[object, tuple[Damage, ...]]:
    """Return the content of a JSON document, and what was lost: of a cut one, what lies before the cut.

    Raises: UnreadableInputError when nothing of it can be read.
    """
    refuse_pointer(data, file)
    if len(data) > MAX_DOCUMENT:
        raise UnreadableInputError(
            file, f"is a JSON document of more than {MAX_DOCUMENT >> 20:,} MiB", "write one object a line (JSON lines)"
        )
    text = decode(data).strip("\0 \t\r\n")
    try:
        return json.loads(text), ()
    except json.JSONDecodeError as error:
        place = error
    except RecursionError:
        raise UnreadableInputError(file, "its JSON is nested too deeply to be a log") from None
    except ValueError:
        raise UnreadableInputError(file, "its JSON holds a number of thousands of digits") from None
    offset = len(text[: place.pos].encode("utf-8", "replace"))
    whole = mend(text[: place.pos])
    try:
        content = json.loads(whole)
    except (ValueError, RecursionError):
        raise UnreadableInputError(file, f"is no JSON: {place.msg} at byte {offset:,}") from None
    if place.msg == "Extra data":
        detail = f"byte {offset:,}: more follows where the JSON ends, left out"
    elif place.msg.startswith(("Unterminated", "Invalid \\")) or _CUT_TOKEN.fullmatch(text, place.pos):
        detail = f"the file is cut off at byte {len(data):,}: what is whole before it was read"
    else:
        detail = f"byte {offset:,}: {place.msg}; what is whole before it was read, the rest is lost"
    return content, (Damage("truncated", file, detail, offset),)


def head_content(head: bytes) -> object:
    """Return what the head of a JSON document holds, None when it is none."""
    if head.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n")[:1] not in (b"{", b"["):
        return None
    text = decode(head).strip("\0 \t\r\n")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            return None
    except (ValueError, RecursionError):
        return None
    try:
        return json.loads(mend(text))
    except (ValueError, RecursionError):
        return None


def _is_column(value: object) -> bool:
    return type(value) is list and bool(value) and all(item is None or number(item) is not None for item in value[:1000])


def _is_record(value: object) -> bool:
    """Whether an object is a row of a log: a quantity that is known, or a step with another number."""
    if type(value) is not dict:
        return False
    names = [name for name, item in flatten(value) if number(item) is not None]
    if any(quantity_of(name) in MEASURED for name in names) or (single_value(value) and number(value.get("step")) is not None):
        return True
    return len(names) > 1 and any(is_count(name) for name in names)


def _are_records(value: object) -> bool:
    return type(value) is list and bool(value) and sum(map(_is_record, value[:200])) > min(len(value), 200) / 2


def _columns(content: Mapping[str, object]) -> dict[str, list[object]]:
    """Return the lists of numbers of an object, those of objects in it with the name of both; none for a config.

    A list of numbers alone is no log: one of them has to hold a quantity that is measured.
    """
    found = {name: cast("list[object]", value) for name, value in flatten_objects(content) if _is_column(value)}
    return found if any(quantity_of(name) in MEASURED for name in found) else {}


def flatten_objects(content: Mapping[str, object], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, object]]:
    """Yield (name, value) of an object and of the objects in it, lists as they are; a plain name is not repeated."""
    for key, value in content.items():
        if type(value) is dict and depth < 3 and key.lower() not in CONFIGS and key != "params":
            yield from flatten_objects(value, prefix if key in PLAIN_KEYS else f"{prefix}{key}/", depth + 1)
        else:
            yield prefix + key, value


def _record_lists(content: Mapping[str, object]) -> dict[str, list[dict[str, object]]]:
    """Return the lists of records in an object and one level below it, by name; "" where the name says nothing."""
    found: dict[str, list[dict[str, object]]] = {}
    for name, value in flatten_objects(content):
        if _are_records(value):
            found["" if name in PLAIN_KEYS and "" not in found else name] = cast("list[dict[str, object]]", value)
    return found


def _keyed(content: Mapping[str, object]) -> list[dict[str, object]]:
    """Return the records of an object whose names are steps: {"0": {"loss": 1.5}, "10": ...}; [] when they are not."""
    if not content or not all(key.isdecimal() and len(key) < 16 and type(row) is dict for key, row in content.items()):
        return []
    rows = [
        row if any(map(is_count, row)) else {"step": int(key), **row}
        for key, row in cast("Mapping[str, dict[str, object]]", content).items()
    ]
    return rows if _are_records(rows) else []


def _is_history(content: object) -> bool:
    """Whether a document is a Keras history: an object of lists, all as long, of a quantity that is known."""
    if type(content) is not dict or not content or len({len(v) if type(v) is list else -1 for v in content.values()}) > 1:
        return False
    return all(map(_is_column, content.values())) and any(quantity_of(key) in MEASURED for key in content)


def looks_like_keras_history(head: bytes, _name: str = "") -> bool:
    """Whether a file begins like a Keras history written as JSON."""
    content = head_content(head)
    if type(content) is dict and len(head) >= 65_536:  # the head ends within it: the last list may be short
        content = {key: value[:1] if type(value) is list else value for key, value in content.items() if value != []}
    return _is_history(content) and not any(map(is_count, cast("dict[str, object]", content)))


def looks_like_json(head: bytes, _name: str = "") -> bool:
    """Whether a file begins like a JSON document that holds records or columns of a training; a config is none."""
    content = head_content(head)
    if type(content) is list:
        return _are_records(content)
    return type(content) is dict and bool(_record_lists(content) or _columns(content) or _keyed(content))


def read_keras_history(data: bytes, file: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:
    """Return the log of a Keras history written as JSON: one value an epoch in each list.

    Raises: UnreadableInputError when it is no such document.
    """
    content, damages = load(data, file)
    if type(content) is not dict:
        raise UnreadableInputError(file, "holds no history: not an object of lists", "json.dump(history.history, file)")
    return _read_columns(content, damages, file, "keras-history", hints)


def read_json(data: bytes, file: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:
    """Return the log of a JSON document that holds records or columns, at its top or under a name beside settings.

    Raises: UnreadableInputError when it holds neither.
    """
    content, damages = load(data, file)
    lists: dict[str, list[dict[str, object]]] = {}
    if type(content) is list:
        lists = {"": content} if _are_records(content) else {}
    elif type(content) is dict:
        records = _keyed(content)
        lists = {"": records} if records else _record_lists(content)
        if not lists and _columns(content):
            return _read_columns(content, damages, file, "json", hints)
    if not lists:
        raise UnreadableInputError(
            file, "is JSON, but holds no log: neither records nor lists of a loss or another quantity", "write one object a line"
        )
    rows = Rows(file)
    rows.damages += damages
    line = 1
    for name, records in lists.items():
        whole = [row for row in records if type(row) is dict]
        if len(whole) < len(records):
            rows.damages.append(
                Damage("unreadable-line", file, f"{len(records) - len(whole):,} entries are no objects, left out")
            )
        if name:
            whole = [_named(row, name) for row in whole]
        for start in range(0, len(whole), 4096):
            part = whole[start : start + 4096]
            rows.add(part, range(line, line + len(part)))
            line += len(part)
    if type(content) is dict:
        rows.set_settings(_settings_beside(content))
    return rows.logs(rows.table("row"), "json", hints)


def _named(row: Mapping[str, object], prefix: str) -> dict[str, object]:
    """Return a record with the name of its list before what it holds; what counts or tells the time keeps its name."""
    return {
        name
        if is_count(name) or spelled(name) in WALL_TIMES or not held_out(prefix) or held_out(name)
        else f"{prefix}/{name}": value
        for name, value in row.items()
    }


def _settings_beside(content: Mapping[str, object]) -> dict[str, object]:
    """Return what stands beside the values of a document: words, single numbers, and objects of settings."""
    found: dict[str, object] = {}
    for key, value in content.items():
        if type(value) is dict and (key.lower() in CONFIGS or key == "params"):
            found.update(value)
        elif isinstance(value, (str, int, float)) and quantity_of(key) not in MEASURED:
            found[key] = value
    return found


def _read_columns(
    content: dict[str, object], damages: tuple[Damage, ...], file: str, format_name: str, hints: Hints
) -> tuple[Log, ...]:
    lists = _columns(content) or {name: cast("list[object]", value) for name, value in content.items() if _is_column(value)}
    if not lists:
        raise UnreadableInputError(file, "holds no list of numbers that is a loss or another quantity")
    by_length: dict[int, list[str]] = {}
    for name, values in lists.items():
        by_length.setdefault(len(values), []).append(name)
    longest = max(by_length)
    if len(by_length) > 1 and not (damages and len(by_length) == 2):
        told = ", ".join(f"{name[:80]} ({len(values):,})" for name, values in lists.items() if len(values) < longest)
        detail = f"the lists are not as long as each other: {told[:400]} beside {longest:,}; each is counted from its first value"
        damages = (*damages, Damage("ragged-columns", file, detail))
    unit: StepUnit = "epoch" if format_name == "keras-history" else "row"
    if len(by_length) == 1 and longest <= MOST_EPOCHS and any(map(held_out, lists)):
        unit = "epoch"
    counted = [name for name in lists if is_count(name)]
    logs: list[Log] = []
    for length, names in by_length.items():  # each length by itself: a list that is shorter is no list that turns blank
        names += [name for name in counted if name not in names and len(lists[name]) > length]
        rows = Rows(file)
        for start in range(0, length, 4096):
            stop = min(start + 4096, length)
            rows.add([{name: lists[name][i] for name in names} for i in range(start, stop)], range(start + 1, stop + 1))
        rows.set_settings(_settings_beside(content))
        logs += rows.logs(rows.table(unit), format_name, hints)
    whole = max(logs, key=lambda log: max(map(len, log.series), default=0))
    taken = {series.tag: series for log in reversed(logs) for series in log.series}
    taken |= {series.tag: series for series in whole.series}
    series = tuple(taken[name] for name in lists if name in taken)
    return (replace(whole, series=series, damages=(*damages, *(damage for log in logs for damage in log.damages))),)
