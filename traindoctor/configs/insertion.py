"""A key that a config lacks, put in beside one of its siblings, in the way that one is written.

YAML in block and flow style, JSON, TOML with its inline tables, calls, dicts and assignments of Python, and options of a
command line. Where the sibling has a line of its own the new key gets one too, and a comment stays with what it speaks of.
"""

from __future__ import annotations

import ast
import re
import warnings
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.configs.documents import COMMANDS, NOWHERE
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.configs.documents import Entry, Span

#: What may follow an item that ends its line: a comma, and a comment.
_REST = lazy(r"([ \t]*,)?[ \t]*(?:#[^\r\n]*)?(?=\r?\n|\Z)")
_LINE = lazy(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


def with_key(text: str, suffix: str, anchor: Entry, key: str, written: str) -> str | None:
    """Return the text with a key and its value after the anchor; None where the anchor's place gives it no room."""
    if suffix == ".py":
        return _in_python(text, anchor, key, written)
    if suffix in COMMANDS:
        return _in_command(text, anchor, key, written)
    if anchor.key_start < 0:
        return None
    begun = text.rfind("\n", 0, anchor.key_start) + 1
    prefix = text[begun : anchor.key_start]
    quote = text[anchor.key_start] if text[anchor.key_start] in "\"'" else ""
    stop = max((anchor.span[1], *(item[1] for item in anchor.items)))
    if suffix == ".toml":
        sign = text.index("=", anchor.key_start)
        raw = text[anchor.key_start : sign].strip()
        gap = " " if text[sign - 1] == " " else ""
        item = f"{raw[: raw.rfind('.') + 1]}{key}{gap}={gap}{written}"
        return _in_brackets(text, begun, anchor.key_start, stop, item) if prefix.strip() else _on_a_line(text, prefix, stop, item)
    if anchor.flow:
        colon = re.compile(r"\s*:\s*").match(text, anchor.key_start + len(anchor.key) + 2 * len(quote))
        between = ": " if colon is None or colon.group().endswith(" ") else ":"
        item = f"{quote}{key}{quote}{between}{written}"
        return _in_brackets(text, begun, anchor.key_start, stop, item, between.removeprefix(":"))
    if prefix.strip(" \t-"):
        return None
    if anchor.items:  # a list in block style: its own end mark lies beyond its last line
        stop = max(item[1] for item in anchor.items)
        stop = anchor.span[1] if text[anchor.span[1] - 1] == "]" else stop
    return _on_a_line(text, prefix.replace("-", " "), stop, f"{quote}{key}{quote}: {written}")


def _on_a_line(text: str, indent: str, after: int, line: str) -> str:
    """Return the text with a line after the one that a place stands in, with that one's line end."""
    end = text.find("\n", after)
    if end < 0:
        return f"{text}{_newline(text, len(text))}{indent}{line}"
    return f"{text[: end + 1]}{indent}{line}{_newline(text, end + 1)}{text[end + 1 :]}"


def _in_brackets(text: str, begun: int, start: int, stop: int, item: str, gap: str = " ") -> str:
    """Return the text with an item after the one that begins at `start` and ends at `stop`; `begun`: of its line.

    `gap`: what follows a comma within a line.
    """
    prefix = text[begun:start]
    rest = _REST.match(text, stop) if begun and not prefix.strip() else None
    if rest is None:
        return f"{text[:stop]},{gap}{item}{text[stop:]}"
    line = f"{_newline(text, begun)}{prefix}{item}"
    if rest[1] is not None:
        return f"{text[: rest.end()]}{line},{text[rest.end() :]}"
    return f"{text[:stop]},{text[stop : rest.end()]}{line}{text[rest.end() :]}"


def _newline(text: str, before: int) -> str:
    """Return the line end of the last line that ends at or before a place."""
    end = text.rfind("\n", 0, before)
    return "\r\n" if end > 0 and text[end - 1] == "\r" else "\n"


# -- a command line ---------------------------------------------------------------------------------------------------


def _in_command(text: str, anchor: Entry, key: str, written: str) -> str | None:
    """Return a launch script with an option after another one, on a line of its own where that has one."""
    start = text.rfind("\n", 0, anchor.span[0]) + 1
    option = re.search(rf"(--?){re.escape(anchor.key)}(=|[ \t]+)$", text[start : anchor.span[0]])
    if option is None:
        return None
    key = key.replace("_", "-") if "-" in anchor.key else key
    item = f"{option[1]}{key}{option[2]}{written}"
    prefix, stop = text[start : start + option.start()], anchor.span[1]
    if prefix.strip() or not start:
        return f"{text[:stop]} {item}{text[stop:]}"
    follows = re.compile(r"[ \t]*\\(?=\r?\n)").match(text, stop)
    line = f"{_newline(text, start)}{prefix}{item}"
    if follows is not None:
        return f"{text[: follows.end()]}{line}{follows.group()}{text[follows.end() :]}"
    if re.compile(r"[ \t]*(?=\r?\n|\Z)").match(text, stop) is None:
        return f"{text[:stop]} {item}{text[stop:]}"
    return f"{text[:stop]} \\{line}{text[stop:]}"


# -- Python -----------------------------------------------------------------------------------------------------------


class _Home(NamedTuple):
    """Where a value stands in a Python file: in a bracket or a statement, from its key on, and how a sibling's key is written."""

    start: int
    stop: int
    key: str
    sign: str
    in_brackets: bool


def _in_python(text: str, anchor: Entry, key: str, written: str) -> str | None:
    home = next((home for home in _homes(text, anchor) if home is not None), None)
    if home is None:
        return None
    begun = text.rfind("\n", 0, home.start) + 1
    item = f"{home.key.replace(chr(0), key)}{home.sign}{written}"
    if home.in_brackets:
        return _in_brackets(text, begun, home.start, home.stop, item)
    prefix = text[begun : home.start]
    rest = re.compile(r"[ \t]*(?:#[^\r\n]*)?(?=\r?\n|\Z)").match(text, home.stop)
    return _on_a_line(text, prefix, home.stop, item) if rest is not None and not prefix.strip() else None


def _homes(text: str, anchor: Entry) -> Iterator[_Home | None]:
    """Yield the call, dict or assignment that gives the anchor's key its value, as it is written."""
    lines = _LINE.findall(text)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))

    def at(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode(errors="ignore"))

    def span(node: ast.expr | ast.stmt | ast.keyword) -> Span:
        if node.end_lineno is None or node.end_col_offset is None:
            return NOWHERE
        return at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)

    wanted = anchor.extent if anchor.extent != NOWHERE else anchor.span
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in the user's text
        module = ast.parse(text)
    for node in ast.walk(module):
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg == anchor.key and span(keyword.value) == wanted:
                    yield _Home(*span(keyword), "\0", _sign(text, span(keyword)[0] + len(anchor.key), "="), in_brackets=True)
        elif isinstance(node, ast.Dict):
            for name, value in zip(node.keys, node.values, strict=True):
                if isinstance(name, ast.Constant) and name.value == anchor.key and span(value) == wanted:
                    start, end = span(name)
                    quote = text[start]
                    if quote in "\"'" and text[start:end] == f"{quote}{anchor.key}{quote}":
                        yield _Home(start, wanted[1], f"{quote}\0{quote}", _sign(text, end, ":"), in_brackets=True)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and span(node.value) == wanted:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            start, end = span(target)
            whole = text[start:end]
            if isinstance(target, ast.Name | ast.Attribute) and whole.rpartition(".")[2] == anchor.key:
                key = whole.removesuffix(anchor.key) + "\0"
                yield _Home(start, span(node)[1], key, _sign(text, span(node.value)[0], "=", back=True), in_brackets=False)


def _sign(text: str, at: int, mark: str, *, back: bool = False) -> str:
    """Return an equals sign or colon with the blanks that stand around it on its line, behind a place or before it."""
    blanks = rf"[ \t]*{mark}[ \t]*"
    found = re.search(f"{blanks}$", text[text.rfind("\n", 0, at) + 1 : at]) if back else re.compile(blanks).match(text, at)
    return found.group() if found is not None else {"=": "=", ":": ": "}[mark]
