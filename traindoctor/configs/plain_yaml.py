"""YAML as most configs are written -> its entries, at a tenth of the cost of a whole reader, and without importing one.

Keys and values one a line, blocks by indentation, lists of scalars in brackets or by dashes, lists of blocks, plain and simply
quoted words, comments. For everything else (anchors, tags, merge keys, blocks in braces, text over several lines, a key that
stands twice, tabs) there is no answer here, and the whole reader is asked: what is read is the same either way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from traindoctor.configs.documents import Entry, is_text_in_yaml_1_1, plain_scalar
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from traindoctor.configs.documents import Span

MAX_DEPTH = 16
#: The patterns below look ahead: a longer line is for the whole reader.
MAX_LINE = 2_000
_KEY = lazy(r"([A-Za-z_][\w.-]*):(?= |$)")
#: The first letter of a plain word, and what it does not hold: a colon before a blank, a number sign after one.
_PLAIN = lazy(r"(?:-(?=[\w.])|[\w./~+$(<=;^\\])(?:[^\s:#]|:(?=\S)|(?<! )#| (?! *#))*")
_QUOTED = lazy(r'"[^"\\]*"|\'[^\']*\'(?!\')')
_IN_LIST = lazy(r"(?:-(?=[\w.])|[\w./~+$(<=;^\\])[^\s,\[\]{}:#\"'`]*(?: +[^\s,\[\]{}:#\"'`&*!|>%@?-][^\s,\[\]{}:#\"'`]*)*")
#: Tabs, and what ends a line or is not allowed in YAML.
_STRANGE = lazy("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_REST = lazy(r" *(?: #.*)?$")


class _Line(NamedTuple):
    indent: int
    start: int
    text: str
    number: int


class _NotPlainError(Exception):
    """The text is not written so."""


def plain_entries(text: str) -> list[Entry] | None:
    """Return the entries of a YAML text as the whole reader gives them; None where it has to be asked."""
    if _STRANGE.search(text) is not None:
        return None
    lines: list[_Line] = []
    at = 0
    for number, raw in enumerate(text.split("\n"), 1):
        content = raw.lstrip(" ")
        if len(raw) > MAX_LINE:
            return None
        if content and content[0] != "#":
            indent = len(raw) - len(content)
            lines.append(_Line(indent, at + indent, content.rstrip(" "), number))
        at += len(raw) + 1
    if not lines or lines[0].indent or _KEY.match(lines[0].text) is None:
        return None
    reading = _Reading(lines, len(text))
    try:
        return reading.entries if reading.mapping(0, 0, ()) == len(lines) else None
    except _NotPlainError:
        return None


class _Reading:
    """The entries of the lines that were read."""

    def __init__(self, lines: list[_Line], length: int) -> None:
        self.lines = lines
        self.length = length
        self.entries: list[Entry] = []

    def mapping(self, i: int, indent: int, path: tuple[str, ...]) -> int:
        """Read the keys that stand at an indentation; return the line after them."""
        if len(path) > MAX_DEPTH:
            raise _NotPlainError
        keys: set[str] = set()
        while i < len(self.lines) and self.lines[i].indent == indent:
            line = self.lines[i]
            found = _KEY.match(line.text)
            if found is None or found[1] in keys:
                raise _NotPlainError
            keys.add(found[1])
            i = self.value(i, found.end(), (*path, found[1]))
        if i < len(self.lines) and self.lines[i].indent > indent:
            raise _NotPlainError
        return i

    def value(self, i: int, after: int, path: tuple[str, ...]) -> int:
        """Read what a key holds; return the line after it."""
        line = self.lines[i]
        below = self.lines[i + 1] if i + 1 < len(self.lines) else None
        written = line.text[after:].lstrip(" ")
        if written and written[0] != "#":
            if below is not None and below.indent > line.indent:
                raise _NotPlainError
            self.scalar(line, line.start + len(line.text) - len(written), written, path)
            return i + 1
        if below is not None and _is_item(below) and below.indent >= line.indent:
            return self.sequence(i + 1, line, path)
        if below is not None and below.indent > line.indent:
            return self.mapping(i + 1, below.indent, path)
        end = below.start if below is not None else self.length  # where the whole reader sees that there is no value
        self.entries.append(Entry(path, None, line.number, (end, end), (), line.start, column=line.indent + 1))
        return i + 1

    def scalar(self, line: _Line, start: int, written: str, path: tuple[str, ...]) -> None:
        """Add a scalar, or a list of scalars in brackets."""
        if written[0] == "[":
            values, items, as_text, stop = _listed(written, start)
            if not items:
                return
            self.add(line, path, values, (start, stop), items, as_text=as_text)
            return
        value, stop, as_text = _word(written)
        self.add(line, path, value, (start, start + stop), (), as_text=as_text)

    def add(
        self, line: _Line, path: tuple[str, ...], value: object, span: Span, items: tuple[Span, ...], *, as_text: bool
    ) -> None:
        self.entries.append(Entry(path, value, line.number, span, items, line.start, column=line.indent + 1, as_text=as_text))

    def sequence(self, i: int, key: _Line, path: tuple[str, ...]) -> int:
        """Read the items of a list by dashes, all scalars or all blocks; return the line after it."""
        indent, first = self.lines[i].indent, self.lines[i]
        values: list[object] = []
        items: list[Span] = []
        texts = n = 0
        while i < len(self.lines) and self.lines[i].indent == indent and _is_item(self.lines[i]):
            line = self.lines[i]
            inner = line.text[1:].lstrip(" ")
            ahead = len(line.text) - len(inner)
            if not inner or inner[0] in "-#[{":
                raise _NotPlainError
            if _KEY.match(inner):
                if values:
                    raise _NotPlainError
                self.lines[i] = _Line(indent + ahead, line.start + ahead, inner, line.number)
                i = self.mapping(i, indent + ahead, (*path, str(n)))
            else:
                if n != len(values) or (i + 1 < len(self.lines) and self.lines[i + 1].indent > indent):
                    raise _NotPlainError
                value, stop, as_text = _word(inner)
                values.append(value)
                items.append((line.start + ahead, line.start + ahead + stop))
                texts += as_text
                i += 1
            n += 1
        if i < len(self.lines) and self.lines[i].indent > key.indent:
            raise _NotPlainError
        if values:
            stop = self.lines[i].start if i < len(self.lines) else self.length
            self.add(key, path, values, (first.start, stop), tuple(items), as_text=bool(texts))
        return i


def _is_item(line: _Line) -> bool:
    return line.text.startswith("- ") or line.text == "-"


def _word(written: str) -> tuple[object, int, bool]:
    """Return the value of a word, where it ends, and whether it is a number that YAML 1.1 takes for text.

    Raises: _NotPlainError.
    """
    found = _QUOTED.match(written)
    if found is not None:
        value: object = found[0][1:-1]
        as_text = False
    else:
        found = _PLAIN.match(written)
        if found is None:
            raise _NotPlainError
        value, as_text = plain_scalar(found[0]), is_text_in_yaml_1_1(found[0])
    if _REST.match(written, found.end()) is None:
        raise _NotPlainError
    return value, found.end(), as_text


def _listed(written: str, start: int) -> tuple[list[object], tuple[Span, ...], bool, int]:
    """Return the values of a list in brackets, their places, whether one is text in YAML 1.1, and the end of the list.

    Raises: _NotPlainError.
    """
    values: list[object] = []
    items: list[Span] = []
    texts, at = 0, 1
    while True:
        at += len(written[at:]) - len(written[at:].lstrip(" "))
        if written[at : at + 1] == "]":
            break
        found = _QUOTED.match(written, at) or _IN_LIST.match(written, at)
        if found is None:
            raise _NotPlainError
        quoted = found[0][0] in "\"'"
        values.append(found[0][1:-1] if quoted else plain_scalar(found[0]))
        texts += not quoted and is_text_in_yaml_1_1(found[0])
        items.append((start + found.start(), start + found.end()))
        at = found.end()
        at += len(written[at:]) - len(written[at:].lstrip(" "))
        if written[at : at + 1] == ",":
            at += 1
        elif written[at : at + 1] != "]":
            raise _NotPlainError
    if _REST.match(written, at + 1) is None:
        raise _NotPlainError
    return values, tuple(items), bool(texts), start + at + 1
