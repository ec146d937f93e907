"""The text of a YAML, JSON or TOML file -> its entries: path of keys, value, line, and where the value stands.

Nothing is constructed: tags such as `!!python/object` are looked past, and aliases are followed a bounded number of times.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

#: A config is written by hand; what is larger is data. The YAML reader takes up to 4 s for its limit.
MAX_BYTES = {".json": 2_000_000, ".toml": 2_000_000, ".yaml": 250_000, ".yml": 250_000}
MAX_ENTRIES = 20_000
MAX_DEPTH = 32

Span = tuple[int, int]
NOWHERE: Span = (-1, -1)


class ParseError(Exception):
    """A config file that cannot be read, with the line where reading stopped (0 when it has none)."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Entry:
    """One key with a scalar, or a list of scalars.

    `path`: keys from the top, lists by index. `line`: of the key, from 1. `span`: characters of the value in the text
    without a byte-order mark, (-1, -1) when not known. `items`: spans of the elements of a list. `key_start`: first
    character of the key. `flow`: inside `{...}` or `[...]`. `shared`: reached through an alias.
    """

    path: tuple[str, ...]
    value: object
    line: int
    span: Span = NOWHERE
    items: tuple[Span, ...] = ()
    key_start: int = -1
    flow: bool = False
    shared: bool = False

    @property
    def key(self) -> str:
        """The last key of the path."""
        return self.path[-1]

    @property
    def block(self) -> tuple[str, ...]:
        """The path of the mapping that the entry stands in."""
        return self.path[:-1]


def read_text(path: Path) -> str:
    """Return the text of a config file without a byte-order mark, line ends as they are.

    Raises: ParseError for a file that is missing, too large, or no UTF-8.
    """
    limit = MAX_BYTES.get(path.suffix.lower(), min(MAX_BYTES.values()))
    try:
        if (size := path.stat().st_size) > limit:
            raise ParseError(0, f"{size:,} bytes are too many for a config (limit {limit:,})")
        return path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise ParseError(1, f"not UTF-8 text (byte {error.start:,})") from None
    except OSError as error:
        raise ParseError(0, error.strerror or "cannot be read") from None


def parse(text: str, suffix: str) -> list[Entry]:
    """Return the entries of a config in file order; an empty file has none.

    Raises: ParseError for text that does not parse, or that is no mapping of keys to values.
    """
    try:
        entries = list({".json": _json, ".toml": _toml}.get(suffix.lower(), _yaml)(text))
    except RecursionError:
        raise ParseError(0, "nested too deeply for a config") from None
    return [_unwrapped(entry) for entry in entries if entry.key != "desc" or len(entry.path) == 1]


def _unwrapped(entry: Entry) -> Entry:
    """Return `lr: {value: 0.1}`, as Weights & Biases writes it, as the entry `lr`."""
    return replace(entry, path=entry.block) if entry.key == "value" and len(entry.path) > 1 else entry


# -- YAML -------------------------------------------------------------------------------------------------------------

_INT = re.compile(r"[-+]?[0-9][0-9_]*")
_FLOAT = re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, object] = {"": None, "~": None, "null": None, "none": None, "true": True, "yes": True, "on": True}
_WORDS |= {"false": False, "no": False, "off": False, ".inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}


def plain_scalar(text: str) -> object:
    """Return what an unquoted word stands for; `3e-4` is a number here, though YAML 1.1 reads a string."""
    word = text.strip()
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    if len(word) < 40:
        if _INT.fullmatch(word):
            return int(word.replace("_", ""))
        if _FLOAT.fullmatch(word):
            return float(word.replace("_", ""))
    return text


def _yaml(text: str) -> Iterator[Entry]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    roots: list[Any] = []
    try:
        loader = YAML(typ="safe", pure=True)
        constructor, parser = loader.get_constructor_parser(text)
        try:
            composer: Any = constructor.composer
            while composer.check_node():
                roots.append(composer.get_node())
        finally:
            parser.dispose()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        lines = max(1, len(text.splitlines()))  # a file that ends too early is wrong at its last line
        raise ParseError(min(mark.line + 1, lines) if mark else 1, str(error.problem or error.context or "not YAML")) from None
    except (YAMLError, ValueError, AttributeError, KeyError, IndexError, OverflowError) as error:
        raise ParseError(1, f"not YAML: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from None
    walk = _YamlWalk()
    for root in roots:
        kind = getattr(root, "id", "")
        if kind == "scalar" and not root.value:
            continue
        if kind == "mapping" or _pairs(root) is not None:
            yield from walk.entries(root, (), shared=False)
        else:
            raise ParseError(root.start_mark.line + 1, "not a mapping of keys to values")


def _pairs(node: Any) -> list[tuple[Any, Any]] | None:
    """Return the pairs of a mapping node, also of Python's OrderedDict written as a list of pairs; else None."""
    if node.id == "mapping":
        return list(node.value)
    if node.id == "sequence" and "OrderedDict" in str(node.tag):
        inner = node.value[0] if len(node.value) == 1 and node.value[0].id == "sequence" else node
        if all(item.id == "sequence" and len(item.value) == 2 for item in inner.value):
            return [(item.value[0], item.value[1]) for item in inner.value]
    return None


class _YamlWalk:
    """Walks composed nodes; counts what it visits, so that aliases of aliases end."""

    def __init__(self) -> None:
        self.visited = 0
        self.seen: set[int] = set()

    def entries(self, node: Any, path: tuple[str, ...], *, shared: bool) -> Iterator[Entry]:
        shared = shared or id(node) in self.seen
        self.seen.add(id(node))
        flow = bool(node.flow_style)
        pairs = _pairs(node)
        if pairs is None:
            pairs = [(None, child) for child in node.value]
        merges = [pair for pair in pairs if pair[0] is not None and pair[0].value == "<<"]
        for _, child in merges:  # first, so that the mapping's own keys override
            for parent in reversed(child.value) if child.id == "sequence" else [child]:
                if parent.id == "mapping" and len(path) < MAX_DEPTH:
                    self.visited += 1
                    if self.visited > MAX_ENTRIES:
                        return
                    yield from self.entries(parent, path, shared=True)
        for index, (key, child) in enumerate(pairs):
            self.visited += 1
            if self.visited > MAX_ENTRIES:
                return
            if key is not None and (key.id != "scalar" or key.value == "<<"):
                continue
            here = (*path, str(key.value) if key is not None else str(index))
            place = key if key is not None else child
            line, start = place.start_mark.line + 1, place.start_mark.index
            if child.id == "scalar":
                yield Entry(here, _scalar(child), line, _span(child), (), start, flow, shared or id(child) in self.seen)
            elif child.id == "sequence" and child.value and all(item.id == "scalar" for item in child.value):
                values, items = [_scalar(item) for item in child.value], tuple(_span(item) for item in child.value)
                yield Entry(here, values, line, _span(child), items, start, flow, shared or id(child) in self.seen)
            elif len(here) < MAX_DEPTH:
                yield from self.entries(child, here, shared=shared)
            self.seen.add(id(child))


def _scalar(node: Any) -> object:
    return plain_scalar(node.value) if node.style is None and not str(node.tag).endswith(":str!") else str(node.value)


def _span(node: Any) -> Span:
    return node.start_mark.index, node.end_mark.index


# -- JSON -------------------------------------------------------------------------------------------------------------

_SPACE = re.compile(r"[ \t\r\n]*")
_ATOM = re.compile(r"[^\s,\]}]+")
_ATOMS: dict[str, object] = {"true": True, "false": False, "null": None}


def _json(text: str) -> Iterator[Entry]:
    if not text.strip():
        return
    try:
        top = json.loads(text)
    except json.JSONDecodeError as error:
        raise ParseError(error.lineno, f"not JSON: {error.msg} (column {error.colno})") from None
    except ValueError as error:
        raise ParseError(1, f"not JSON: {error}") from None
    if not isinstance(top, dict):
        raise ParseError(1, "not a mapping of keys to values")
    found: list[Entry] = []
    _json_value(text, _SPACE.match(text).end(), (), found, None)  # type: ignore[union-attr]
    lines, at, line = [], 0, 1
    for entry in sorted(found, key=lambda e: e.key_start):
        line += text.count("\n", at, entry.key_start)
        at = entry.key_start
        lines.append(replace(entry, line=line))
    yield from lines[:MAX_ENTRIES]


def _json_value(text: str, at: int, path: tuple[str, ...], found: list[Entry], key_start: int | None) -> tuple[int, object]:
    """Return the end of the value that starts at `at`, and its value where it is no object; add its entries to `found`."""
    if len(path) > MAX_DEPTH:
        raise ParseError(text.count("\n", 0, at) + 1, "nested too deeply for a config")
    start = at
    value: object
    items: list[Span] = []
    if text[at] == '"':
        value, at = json.decoder.scanstring(text, at + 1, False)  # type: ignore[attr-defined]
    elif text[at] in "{[":
        is_object, closing = text[at] == "{", "}" if text[at] == "{" else "]"
        values: list[object] = []
        before, index, at = len(found), 0, _skip(text, at + 1)
        while text[at] != closing:
            child_key, child_start = str(index), at
            if is_object:
                child_key, at = json.decoder.scanstring(text, at + 1, False)  # type: ignore[attr-defined]
                at = _skip(text, _skip(text, at) + 1)
            first = at
            at, child = _json_value(text, at, (*path, child_key), found, child_start if is_object else None)
            values.append(child)
            items.append((first, at))
            at = _skip(text, at)
            if text[at] == ",":
                at = _skip(text, at + 1)
            index += 1
        at += 1
        value = values
        if is_object or len(found) > before or not values:
            return at, {}
    else:
        word = _ATOM.match(text, at).group()  # type: ignore[union-attr]
        at += len(word)
        value = _ATOMS[word] if word in _ATOMS else plain_scalar(word)
        if isinstance(value, str):  # NaN, Infinity
            value = float(word)
    if key_start is not None:
        found.append(Entry(path, value, 0, (start, at), tuple(items), key_start, flow=True))
    return at, value


def _skip(text: str, at: int) -> int:
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]


# -- TOML -------------------------------------------------------------------------------------------------------------

_TABLE = re.compile(r"\s*\[(\[?)\s*([^\[\]]+?)\s*\]?\]\s*(?:#.*)?$")
_PAIR = re.compile(r"""(\s*)((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=\s*(\S.*)?$""")
_TOML_VALUE = re.compile(r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|\[[^\[\]#"']*\]|[^\s#,{}\[\]"']+)(?=\s*(?:#.*)?$)""")


def _toml(text: str) -> Iterator[Entry]:
    import tomllib

    try:
        top = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = re.search(r"line (\d+)", str(error))
        last = text.count("\n") + 1
        raise ParseError(int(at.group(1)) if at else last, f"not TOML: {error}") from None
    places = _toml_places(text)
    for path, value in _leaves(top, ()):
        line, span, start = places.get(path) or next(
            (places[path[:n]] for n in range(len(path), 0, -1) if path[:n] in places), (1, NOWHERE, -1)
        )
        if path not in places:
            span, start = NOWHERE, -1
        items: list[Span] = []
        if isinstance(value, list) and span != NOWHERE:
            items = [m.span() for m in re.compile(r"[^\s,\[\]]+").finditer(text, *span)]
        yield Entry(path, value, line, span, tuple(items) if isinstance(value, list) and len(items) == len(value) else (), start)


def _leaves(node: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    if len(path) > MAX_DEPTH:
        return
    children: Iterator[tuple[str, object]]
    if isinstance(node, dict):
        children = iter(node.items())
    elif isinstance(node, list) and any(isinstance(item, dict | list) for item in node):
        children = ((str(i), item) for i, item in enumerate(node))
    else:
        yield path, node
        return
    for key, child in children:
        yield from _leaves(child, (*path, key))


def _toml_places(text: str) -> dict[tuple[str, ...], tuple[int, Span, int]]:
    """Return line, span of the value, and start of the key, for each `key = value` that stands on a line of its own."""
    places: dict[tuple[str, ...], tuple[int, Span, int]] = {}
    table: tuple[str, ...] = ()
    counts: dict[tuple[str, ...], int] = {}
    at = 0
    for number, raw in enumerate(text.splitlines(keepends=True), 1):
        line = raw.rstrip("\r\n")
        if header := _TABLE.match(line):
            table = _toml_keys(header.group(2))
            if header.group(1):
                counts[table] = counts.get(table, -1) + 1
                table = (*table, str(counts[table]))
        elif pair := _PAIR.match(line):
            value = _TOML_VALUE.match(line, pair.start(3)) if pair.group(3) else None
            span = (at + value.start(), at + value.end()) if value else NOWHERE
            places[(*table, *_toml_keys(pair.group(2)))] = (number, span, at + pair.start(2))
        at += len(raw)
    return places


def _toml_keys(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
