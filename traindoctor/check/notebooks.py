"""A notebook -> one script of its code cells, and edits of that script -> edits of the cells, every other byte the same.

Lines that are IPython's and not Python's (`%matplotlib inline`, `!pip install`, `out = !ls`) are replaced by as many
characters that do nothing, so that all places hold. A cell in another language (`%%bash`), or one that does not parse, is
blanked likewise; the latter is named.

Source: nbformat 4, "The Notebook file format": `cells[].source` is a text or a list of lines that keep their ends.
"""

from __future__ import annotations

import ast
import json
import re
from bisect import bisect_right
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.check.sources import UnusableError
from traindoctor.code.script import Cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from traindoctor.mistake import Edit

_MAGIC = re.compile(r"[ \t]*(?:[%!?]|[\w.]+\?{1,2}[ \t]*$|\?)")
_MAGIC_VALUE = re.compile(r"[ \t]*[\w.,\[\] ()]+=[ \t]*[!%][ \t]*\w")
#: Cell magics whose cell is Python all the same.
_PYTHON_CELLS = ("%%time", "%%timeit", "%%capture", "%%prun", "%%python", "%%python3", "%%memit", "%%notify")


class Piece(NamedTuple):
    """A string of a cell's source: the characters of the file that its literal takes, and of the script that it becomes."""

    start: int
    stop: int
    first: int
    last: int
    cell: int


class Notebook(NamedTuple):
    """A notebook as read: its own text, its code cells in the script, its strings, and the cells that do not parse."""

    json_text: str
    cells: tuple[Cell, ...]
    pieces: tuple[Piece, ...]
    broken: tuple[int, ...]

    def line_in_file(self, number: int, cell: int) -> int:
        """Return the line of the file at which a line of a cell stands, 0 for a cell that is not there."""
        pieces = [piece for piece in self.pieces if piece.cell == cell]
        return self.json_text.count("\n", 0, pieces[min(number, len(pieces)) - 1].start) + 1 if pieces else 0


def script_of(json_text: str) -> tuple[str, Notebook]:
    """Return the code cells of a notebook as one script, and where each part of it stands.

    Raises: UnusableError for text that is no notebook.
    """
    try:
        notebook = json.loads(json_text)
        found = list(_literals(json_text))
    except json.JSONDecodeError as error:
        raise UnusableError(f"is not JSON: {error.msg}", error.lineno, "open it in Jupyter and save it again") from None
    except RecursionError:
        raise UnusableError("is nested too deeply for a notebook") from None
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise UnusableError("is no notebook of format 4 (it has no list of cells)", way_out="jupyter nbconvert --to notebook")
    text = ""
    cells: list[Cell] = []
    pieces: list[Piece] = []
    broken: list[int] = []
    line = 1
    by_cell: dict[int, list[tuple[int, int, str]]] = {}
    for index, start, stop, value in found:
        by_cell.setdefault(index, []).append((start, stop, value))
    for index, cell in enumerate(notebook["cells"]):
        if not isinstance(cell, dict) or cell.get("cell_type") != "code":
            continue
        parts = by_cell.get(index, [])
        raw = "".join(value for _, _, value in parts)
        code, parses = _as_python(raw)
        if not parses:
            broken.append(index + 1)
        cells.append(Cell(index + 1, line))
        at = len(text)
        for start, stop, value in parts:
            pieces.append(Piece(start, stop, at, at + len(value), index + 1))
            at += len(value)
        text += code + "\n"
        line = text.count("\n") + 1
    return text, Notebook(json_text, tuple(cells), tuple(pieces), tuple(broken))


def rewritten(notebook: Notebook, edits: Iterable[Edit]) -> str | None:
    """Return the notebook's own text with edits of its script made in its cells; None where one does not fit a cell."""
    json_text, pieces = notebook.json_text, notebook.pieces
    starts = [piece.first for piece in pieces]
    groups: list[tuple[int, int, list[Edit]]] = []  # the first and the last string that some edits touch
    for edit in sorted(edits):
        one = bisect_right(starts, edit.start) - 1
        last = max(one, bisect_right(starts, edit.stop - 1) - 1)
        if one < 0 or edit.stop > pieces[last].last or any(pieces[i].last != pieces[i + 1].first for i in range(one, last)):
            return None
        if not edit.text and pieces[one].first == edit.start and pieces[last].last == edit.stop:
            last += last + 1 < len(pieces) and pieces[last + 1].cell == pieces[one].cell  # no empty string is left in a list
        if groups and one <= groups[-1][1]:
            groups[-1] = (groups[-1][0], max(last, groups[-1][1]), [*groups[-1][2], edit])
        else:
            groups.append((one, last, [edit]))
    for one, last, touching in reversed(groups):
        changed = "".join(json.loads(json_text[p.start : p.stop]) for p in pieces[one : last + 1])
        for start, stop, new in reversed(touching):
            changed = changed[: start - pieces[one].first] + new + changed[stop - pieces[one].first :]
        glue = _glue(json_text, pieces[one])
        lines = changed.splitlines(keepends=True) if glue else []
        made = glue.join(json.dumps(line, ensure_ascii=json_text.isascii()) for line in lines or [changed])
        json_text = json_text[: pieces[one].start] + made + json_text[pieces[last].stop :]
    return json_text


def _glue(json_text: str, piece: Piece) -> str:
    """Return what stands between the strings of the list that a piece is of: a comma and white space; "" outside of a list."""
    before = json_text[: piece.start]
    bare = before.rstrip()
    return f",{before[len(bare) :] or ' '}" if bare.endswith(("[", ",")) else ""


def _as_python(raw: str) -> tuple[str, bool]:
    """Return a cell as Python of the same length and lines, and whether it is; one that does not parse is blank."""
    head = next((line for line in raw.splitlines() if line.strip()), "")
    if head.startswith("%%") and not head.startswith(_PYTHON_CELLS):
        return _blank(raw), True
    if _parses(raw):
        return raw, True
    lines, continued = [], False
    for line in raw.splitlines(keepends=True):
        body = line.rstrip("\r\n")
        if continued or _MAGIC.match(body) or _MAGIC_VALUE.match(body):
            indent = len(body) - len(body.lstrip())
            n = len(body) - indent
            goes_on, continued = continued, body.endswith("\\")
            nothing = "" if goes_on else "pass" if n >= 4 else "0" * min(n, 1)
            lines.append(body[:indent] + nothing.ljust(n) + line[len(body) :])
        else:
            lines.append(line)
    code = "".join(lines)
    return (code, True) if _parses(code) else (_blank(raw), False)


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _blank(raw: str) -> str:
    return re.sub(r"[^\r\n]", " ", raw)


_SKIP = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r"[^\s,\[\]{}\"]+")


def _literals(text: str) -> Iterator[tuple[int, int, int, str]]:
    """Yield the strings of each cell's source: index of the cell, first and last character of the literal, its value.

    Raises: JSONDecodeError for text that is not JSON.
    """
    from json.decoder import scanstring  # type: ignore[attr-defined]

    path: list[str | int] = []
    at = 0

    def walk(at: int) -> Iterator[int | tuple[int, int, int, str]]:
        at = _SKIP.match(text, at).end()  # type: ignore[union-attr]
        if text[at : at + 1] == '"':
            value, end = scanstring(text, at + 1, True)
            if path[:1] == ["cells"] and path[2:3] == ["source"]:
                yield path[1], at, end, value  # type: ignore[misc]
            yield end
            return
        if text[at : at + 1] not in ("{", "["):
            yield _SCALAR.match(text, at).end()  # type: ignore[union-attr]
            return
        is_object, index = text[at] == "{", 0
        at = _SKIP.match(text, at + 1).end()  # type: ignore[union-attr]
        while text[at] not in "}]":
            key: str | int = index
            if is_object:
                key, at = scanstring(text, at + 1, True)
                at = text.index(":", at) + 1
            path.append(key)
            for step in walk(at):
                if isinstance(step, int):
                    at = step
                else:
                    yield step
            path.pop()
            index += 1
            at = _SKIP.match(text, at).end()  # type: ignore[union-attr]
            if text[at] == ",":
                at = _SKIP.match(text, at + 1).end()  # type: ignore[union-attr]
        yield at + 1

    for step in walk(at):
        if not isinstance(step, int):
            yield step
