"""The text of a config file -> its entries: path of keys, value, line and column, and where the value stands.

YAML, JSON and TOML are read here, Python files in `python_text`, launch scripts and dumps of argparse in `command_text`.
Nothing is constructed or run: tags such as `!!python/object` are looked past, and aliases are followed a bounded number
of times. What is doubtful in a file that does parse (a key that stands there twice) is a note.
"""

from __future__ import annotations

import json
import re
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

#: A config is written by hand; what is larger is data. The YAML reader takes up to 4 s for its limit.
MAX_BYTES = {".json": 2_000_000, ".toml": 2_000_000, ".yaml": 250_000, ".yml": 250_000}
MAX_ENTRIES = 20_000
MAX_DEPTH = 32
#: Files that hold a command line, or what argparse made of one.
COMMANDS = (".sh", ".bash", ".slurm", ".sbatch", ".txt", ".args", ".opt")

Span = tuple[int, int]
NOWHERE: Span = (-1, -1)


#: Why a file that parses is no config.
NO_MAPPING = "not a mapping of keys to values"


class ParseError(Exception):
    """A config file that cannot be read, with the line where reading stopped (0 when it has none)."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason


class Entry(NamedTuple):
    """One key with a scalar, or a list of scalars.

    `path`: keys from the top, lists by index. `line` and `column`: of the key, from 1; of the value where a name or an
    interpolation stands for it. `span`: characters of the value in the text without a byte-order mark, (-1, -1) when not
    known. `items`: spans of the elements of a list. `key_start`: first character of the key. `flow`: inside `{...}` or
    `[...]`. `shared`: reached through an alias. `as_text`: a number here, but text to a loader of YAML 1.1 (`3e-4`).
    `file`: another file that it was inherited from, None for the file itself. `interpolated`: `${...}` of OmegaConf stands
    at the key, the value elsewhere. `extent`: characters of the expression that the value was computed from, in Python.
    """

    path: tuple[str, ...]
    value: object
    line: int
    span: Span = NOWHERE
    items: tuple[Span, ...] = ()
    key_start: int = -1
    flow: bool = False
    shared: bool = False
    column: int = 1
    as_text: bool = False
    file: Path | None = None
    interpolated: bool = False
    extent: Span = NOWHERE

    @property
    def key(self) -> str:
        """The last key of the path."""
        return self.path[-1]

    @property
    def block(self) -> tuple[str, ...]:
        """The path of the mapping that the entry stands in."""
        return self.path[:-1]


class Repeat(NamedTuple):
    """A key that stands twice in one mapping: its path, and the column of its last place; where it stood first, and both values.

    A value is None where it is no scalar.
    """

    path: tuple[str, ...]
    column: int
    first_line: int
    first_value: object
    value: object


class Note(NamedTuple):
    """What is doubtful at a line of a file that could be read; `kind` as in Damage. `repeat`: of a key that stands twice."""

    line: int
    kind: str
    detail: str
    repeat: Repeat | None = None


class Document(NamedTuple):
    """The entries of a config in file order, and what is doubtful in it."""

    entries: list[Entry]
    notes: list[Note]


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
    return read_document(text, suffix).entries


def read_document(text: str, suffix: str) -> Document:
    """Return the entries of a config in file order, and what is doubtful in it; an empty file has neither.

    Raises: ParseError for text that does not parse, or that is no mapping of keys to values.
    """
    from traindoctor.configs.interpolation import resolved

    notes: list[Note] = []
    try:
        entries = list(_reader(suffix.lower())(text, notes))
    except RecursionError:
        raise ParseError(0, "nested too deeply for a config") from None
    if len(entries) > MAX_ENTRIES:
        raise ParseError(0, TOO_MANY)
    return Document(resolved(list(unwrapped(entries))), notes)


def _reader(suffix: str) -> Callable[[str, list[Note]], Iterable[Entry]]:
    """Return what reads a file of this suffix; only that is imported."""
    if suffix == ".py":
        from traindoctor.configs.python_text import python_entries

        return python_entries
    if suffix in COMMANDS:
        from traindoctor.configs.command_text import command_entries

        return command_entries
    return {".json": _json, ".toml": _toml}.get(suffix, _yaml)


TOO_MANY = f"holds more than {MAX_ENTRIES:,} values: data, or aliases of aliases"


def unwrapped(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the entries with `lr: {value: 0.1, desc: null}`, as Weights & Biases writes it, as the entry `lr`."""
    for entry in entries:
        if entry.key != "desc" or len(entry.path) == 1:
            yield entry._replace(path=entry.block) if entry.key == "value" and len(entry.path) > 1 else entry


# -- YAML -------------------------------------------------------------------------------------------------------------

_INT = lazy(r"[-+]?[0-9][0-9_]*")
_FLOAT = lazy(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, object] = {"": None, "~": None, "null": None, "none": None, "true": True, "yes": True, "on": True}
_WORDS |= {"false": False, "no": False, "off": False, ".inf": float("inf"), "-.inf": float("-inf"), ".nan": float("nan")}


def plain_scalar(text: str) -> object:
    """Return what an unquoted word stands for; `3e-4` is a number here, though YAML 1.1 reads a string: `is_text_in_yaml_1_1`."""
    word = text.strip()
    if word.lower() in _WORDS:
        return _WORDS[word.lower()]
    if len(word) < 40:
        if _INT.fullmatch(word):
            return int(word.replace("_", ""))
        if _FLOAT.fullmatch(word):
            return float(word.replace("_", ""))
    return text


#: Source: the implicit resolver of floats in PyYAML 6, resolver.py: it wants a dot, and a sign in the exponent.
_FLOAT_1_1 = re.compile(
    r"[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?|[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*"
)


_DIRECTIVE = lazy(r"(?m)^%YAML[^\n]*$")


def is_text_in_yaml_1_1(word: str) -> bool:
    """Whether PyYAML reads an unquoted word as text that people, and YAML 1.2, read as a number: `3e-4`, `1.0e5`, `-.5`."""
    word = word.strip()
    return len(word) < 40 and bool(_FLOAT.fullmatch(word)) and not _INT.fullmatch(word) and not _FLOAT_1_1.fullmatch(word)


def _yaml(text: str, notes: list[Note]) -> Iterator[Entry]:
    from traindoctor.configs.plain_yaml import plain_entries

    if text.count(",") > MAX_ENTRIES or text.count("\n") > MAX_ENTRIES:  # half a millisecond each in the whole reader
        raise ParseError(0, TOO_MANY)
    plain = plain_entries(text)
    yield from whole_yaml(text, notes) if plain is None else plain


def whole_yaml(text: str, notes: list[Note]) -> Iterator[Entry]:
    """Yield the entries of any YAML.

    Raises: ParseError.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    text = _DIRECTIVE.sub(lambda found: " " * len(found.group()), text)  # the reader fails on it
    roots: list[Any] = []
    try:
        loader = YAML(typ="safe", pure=True)
        constructor, parser = loader.get_constructor_parser(text)
        try:
            composer: Any = constructor.composer
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of anchors used twice
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
    walk = _YamlWalk(text, notes)
    held = [root for root in roots if getattr(root, "id", "") != "scalar" or root.value]
    if len(held) > 1:
        line = held[1].start_mark.line + 1
        notes.append(Note(line, "several-documents", f"{len(held)} documents in one file: the later ones override the earlier"))
    for root in roots:
        kind = getattr(root, "id", "")
        if kind == "scalar" and not root.value:
            continue
        if kind == "mapping" or _pairs(root) is not None:
            yield from walk.entries(root, (), shared=False)
        else:
            raise ParseError(root.start_mark.line + 1, NO_MAPPING)


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

    def __init__(self, text: str, notes: list[Note]) -> None:
        self.text = text
        self.notes = notes
        self.visited = 0
        self.seen: set[int] = set()
        self.lists: dict[int, tuple[list[object], tuple[Span, ...], bool]] = {}

    def count(self, line: int) -> None:
        self.visited += 1
        if self.visited > MAX_ENTRIES:
            raise ParseError(line, TOO_MANY)

    def entries(self, node: Any, path: tuple[str, ...], *, shared: bool) -> Iterator[Entry]:
        shared = shared or id(node) in self.seen
        again = id(node) in self.seen
        self.seen.add(id(node))
        flow = bool(node.flow_style)
        pairs = _pairs(node)
        if pairs is None:
            pairs = [(None, child) for child in node.value]
        elif not again:
            self.note_repeated(pairs, path)
        merges = [pair for pair in pairs if pair[0] is not None and pair[0].value == "<<"]
        for _, child in merges:  # first, so that the mapping's own keys override
            for parent in reversed(child.value) if child.id == "sequence" else [child]:
                if parent.id == "mapping" and len(path) < MAX_DEPTH:
                    self.count(parent.start_mark.line + 1)
                    yield from self.entries(parent, path, shared=True)
        last = {str(key.value): index for index, (key, _) in enumerate(pairs) if key is not None and key.id == "scalar"}
        for index, (key, child) in enumerate(pairs):
            place = key if key is not None else child
            line, start = place.start_mark.line + 1, place.start_mark.index
            self.count(line)
            if key is not None and (key.id != "scalar" or key.value == "<<" or last[str(key.value)] != index):
                continue
            here = (*path, str(key.value) if key is not None else str(index))
            known = shared or id(child) in self.seen
            column = place.start_mark.column + 1
            if child.id == "scalar":
                yield Entry(here, _scalar(child), line, _span(child), (), start, flow, known, column, self.as_text(child))
            elif child.id == "sequence" and child.value and (id(child) in self.lists or _is_flat(child)):
                values, items, as_text = self.scalars(child)
                yield Entry(here, values, line, _span(child), items, start, flow, known, column, as_text)
            elif len(here) < MAX_DEPTH:
                yield from self.entries(child, here, shared=shared)
            self.seen.add(id(child))

    def scalars(self, node: Any) -> tuple[list[object], tuple[Span, ...], bool]:
        """Return values and spans of a list of scalars; read once, however many aliases lead to it."""
        if id(node) not in self.lists:
            values = [_scalar(item) for item in node.value]
            self.lists[id(node)] = values, tuple(_span(item) for item in node.value), any(map(self.as_text, node.value))
        return self.lists[id(node)]

    def as_text(self, node: Any) -> bool:
        """Whether a scalar without quotes and without a tag (`!!float 3e-4`) is text in YAML 1.1 and a number here."""
        tagged = self.text[node.start_mark.index : node.start_mark.index + 1] == "!"
        return node.style is None and not tagged and is_text_in_yaml_1_1(str(node.value))

    def note_repeated(self, pairs: list[tuple[Any, Any]], path: tuple[str, ...]) -> None:
        first: dict[str, tuple[int, object]] = {}
        for key, child in pairs:
            if key is not None and key.id == "scalar" and key.value != "<<":
                line, value = key.start_mark.line + 1, _scalar(child) if child.id == "scalar" else None
                if str(key.value) in first:
                    repeat = Repeat((*path, str(key.value)), key.start_mark.column + 1, *first[str(key.value)], value)
                    repeated(self.notes, line, repeat)
                first.setdefault(str(key.value), (line, value))


def repeated(notes: list[Note], line: int, repeat: Repeat) -> None:
    """Note a key that stands twice in one mapping; at most 20 of them."""
    if len(notes) < 20:
        detail = f"`{repeat.path[-1][:60]}` stood at line {repeat.first_line} already: the last one counts"
        notes.append(Note(line, "duplicate-key", detail, repeat))


def _is_flat(node: Any) -> bool:
    """Whether a list holds nothing but scalars."""
    return all(item.id == "scalar" for item in node.value)


def _scalar(node: Any) -> object:
    if node.style is not None or str(node.tag).endswith(":str!"):
        return str(node.value)
    return plain_scalar(node.value)


def _span(node: Any) -> Span:
    return node.start_mark.index, node.end_mark.index


# -- JSON -------------------------------------------------------------------------------------------------------------

_SPACE = lazy(r"[ \t\r\n]*")
_ATOM = lazy(r"[^\s,\]}]+")
_ATOMS: dict[str, object] = {"true": True, "false": False, "null": None}


def _json(text: str, notes: list[Note]) -> Iterator[Entry]:
    if not text.strip():
        return
    try:
        top = json.loads(text)
    except json.JSONDecodeError as error:
        raise ParseError(error.lineno, f"not JSON: {error.msg} (column {error.colno})") from None
    except ValueError as error:
        its = "a number of thousands of digits" if "digits" in str(error) else str(error)
        raise ParseError(1, f"not JSON: {its}") from None
    if not isinstance(top, dict):
        raise ParseError(1, NO_MAPPING)
    found: list[Entry | None] = []
    twice: list[_Twice] = []
    _json_value(text, _SPACE.match(text).end(), (), found, None, twice)  # type: ignore[union-attr]
    for path, second, value, first, first_value in twice[:20]:
        column = second - text.rfind("\n", 0, second)
        repeat = Repeat(path, column, text.count("\n", 0, first) + 1, first_value, value)
        repeated(notes, text.count("\n", 0, second) + 1, repeat)
    at, line = 0, 1
    for entry in sorted((e for e in found if e is not None), key=lambda e: e.key_start):
        line += text.count("\n", at, entry.key_start)
        at = entry.key_start
        yield entry._replace(line=line, column=at - text.rfind("\n", 0, at))


#: Path of a key that stands twice, its last place and value, its first place and value.
_Twice = tuple[tuple[str, ...], int, object, int, object]


def _json_value(
    text: str,
    at: int,
    path: tuple[str, ...],
    found: list[Entry | None],
    key_start: int | None,
    twice: list[_Twice],
) -> tuple[int, object]:
    """Return the end of the value that starts at `at`, and its value where it is no object.

    Adds its entries to `found`, and to `twice` each key that an object repeats with the two places: the last one counts.
    """
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
        held: dict[str, tuple[int, int, int, object]] = {}  # key -> its place, the range of its entries in `found`, its value
        while text[at] != closing:
            child_key, child_start = str(index), at
            if is_object:
                child_key, at = json.decoder.scanstring(text, at + 1, False)  # type: ignore[attr-defined]
                at = _skip(text, _skip(text, at) + 1)
                if child_key in held:
                    _, start_of, stop_of, _ = held[child_key]
                    found[start_of:stop_of] = [None] * (stop_of - start_of)
            first, n_before = at, len(found)
            at, child = _json_value(text, at, (*path, child_key), found, child_start if is_object else None, twice)
            if is_object:
                known = held.get(child_key)
                its = child if isinstance(child, str | int | float) else None
                if known is not None:
                    twice.append(((*path, child_key), child_start, its, known[0], known[3]))
                place, value_there = (child_start, its) if known is None else (known[0], known[3])
                held[child_key] = place, n_before, len(found), value_there
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

_TABLE = lazy(r"\s*\[(\[?)\s*([^\[\]]+?)\s*\]?\]\s*(?:#.*)?$")
_PAIR = lazy(r"""(\s*)((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*=\s*(\S.*)?$""")
_TOML_TOKEN = lazy(
    r'''"""(?:[^\\]|\\.)*?"""+|'{3}.*?'{3}+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|#[^\n]*|[\[\]{},=]|[^\s\[\]{},="'#]+''', re.DOTALL
)
_TOML_VALUE = lazy(r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|\[[^\[\]#"']*\]|[^\s#,{}\[\]"']+)(?=\s*(?:#.*)?$)""")


def _toml(text: str, notes: list[Note]) -> Iterator[Entry]:  # noqa: ARG001 -- TOML forbids what notes are made of
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
            items = [m.span() for m in _TOML_TOKEN.finditer(text, *span) if m.group()[0] not in "[],#"]
        column = start - text.rfind("\n", 0, start) if start >= 0 else 1
        own = tuple(items) if isinstance(value, list) and len(items) == len(value) else ()
        yield Entry(path, value, line, span, own, start, column=column)


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
    """Return line, span of the value, and start of the key, for each `key = value`."""
    places: dict[tuple[str, ...], tuple[int, Span, int]] = {}
    table: tuple[str, ...] = ()
    counts: dict[tuple[str, ...], int] = {}
    at = done = 0  # a line before `done` belongs to a value that began above it
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.rstrip("\r")
        if at < done:
            pass
        elif header := _TABLE.match(line):
            table = _toml_keys(header.group(2))
            if header.group(1):
                counts[table] = counts.get(table, -1) + 1
                table = (*table, str(counts[table]))
        elif pair := _PAIR.match(line):
            path, start = (*table, *_toml_keys(pair.group(2))), at + pair.start(3)
            if pair.group(3) and text.startswith(("[", "{", '"""', "'''"), start):
                done = _toml_nested(text, start, path, number, places)
                span = start, done
            else:
                value = _TOML_VALUE.match(line, pair.start(3)) if pair.group(3) else None
                span = (at + value.start(), at + value.end()) if value else NOWHERE
            places[path] = (number, span, at + pair.start(2))
        at += len(raw) + 1
    return places


def _toml_nested(
    text: str, start: int, path: tuple[str, ...], line: int, places: dict[tuple[str, ...], tuple[int, Span, int]]
) -> int:
    """Note the places of what stands in an array or an inline table, and return where it ends."""
    frames: list[tuple[tuple[str, ...], bool, int, int]] = []  # path, whether a table, its start, start of its key
    index: list[int] = []
    at, (key, key_start) = start, ("", -1)
    for token in _TOML_TOKEN.finditer(text, start):
        word = token.group()
        line, at = line + text.count("\n", at, token.start()), token.start()
        if word[0] == "#" or word == "=":
            continue
        own = () if not frames else _toml_keys(key) if frames[-1][1] else (str(index[-1]),)
        here = (*(frames[-1][0] if frames else path), *own)
        if word in ("[", "{"):
            frames.append((here, word == "{", at, key_start))
            index.append(0)
            key, key_start = "", -1
        elif word in ("]", "}"):
            its, _, began, its_key = frames.pop()
            index.pop()
            if not frames:
                return token.end()
            places[its] = (line - text.count("\n", began, at), (began, token.end()), its_key)
        elif word == ",":
            index[-1] += 1
            key, key_start = "", -1
        elif not frames:
            return token.end()
        elif frames[-1][1] and not key:
            key, key_start = word, at
        else:
            places[here] = (line, token.span(), key_start)
    return len(text)


def _toml_keys(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))
