"""A script as text and tree together, and edits of the text at the places of tree nodes.

Everything outside an edit stays byte for byte, and every old position is known in the new text.
"""

from __future__ import annotations

import ast
import textwrap
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOPS = (ast.For, ast.While, ast.AsyncFor)


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace the characters `start <= offset < end` by `text`; `planted` edits are where a defect now is."""

    start: int
    end: int
    text: str
    planted: bool = True


@dataclass(frozen=True, slots=True)
class Mutant:
    """A text with one planted defect: its row of the table, the form it took, and the lines that may be reported."""

    row: str
    form: str
    text: str
    lines: frozenset[int]


class Source:
    """One Python text, its tree, and where each node lies."""

    def __init__(self, text: str) -> None:
        self.text = text if text.endswith("\n") else text + "\n"
        self.tree = ast.parse(self.text)
        self._starts = [0]
        for line in self.text.split("\n")[:-1]:
            self._starts.append(self._starts[-1] + len(line) + 1)

    @cached_property
    def parents(self) -> dict[ast.AST, ast.AST]:
        """The parent of every node."""
        return {child: node for node in ast.walk(self.tree) for child in ast.iter_child_nodes(node)}

    @cached_property
    def nodes(self) -> list[ast.AST]:
        """All nodes in the order of the text."""
        placed = [node for node in ast.walk(self.tree) if hasattr(node, "lineno")]
        return sorted(placed, key=lambda node: (node.lineno, node.col_offset))  # type: ignore[attr-defined]

    def of(self, node: ast.AST) -> str:
        """The text of a node."""
        start, end = self.span(node)
        return self.text[start:end]

    def offset(self, line: int, column: int) -> int:
        """The character offset of a tree position, whose column counts UTF-8 bytes."""
        start = self._starts[line - 1]
        row = self.text[start : self._starts[line] if line < len(self._starts) else None]
        return start + len(row.encode()[:column].decode())

    def line_at(self, offset: int) -> int:
        """The line of a character offset."""
        return bisect_right(self._starts, offset)

    def span(self, node: ast.AST) -> tuple[int, int]:
        """The first and the last-plus-one character of a node."""
        return (
            self.offset(node.lineno, node.col_offset),  # type: ignore[attr-defined]
            self.offset(node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
        )

    def indent(self, statement: ast.stmt) -> str:
        """The white space before a statement."""
        return self.text[self._starts[statement.lineno - 1] :][: statement.col_offset]

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """The parents of a node, inside out."""
        while node in self.parents:
            node = self.parents[node]
            yield node

    def statement(self, node: ast.AST) -> ast.stmt:
        """The innermost statement around a node."""
        return node if isinstance(node, ast.stmt) else next(n for n in self.above(node) if isinstance(n, ast.stmt))

    def loops(self, node: ast.AST) -> list[ast.stmt]:
        """The loops around a node within its function, inside out."""
        found = []
        for parent in self.above(node):
            if isinstance(parent, (*FUNCTIONS, ast.ClassDef, ast.Lambda)):
                break
            if isinstance(parent, LOOPS):
                found.append(parent)
        return found

    def function(self, node: ast.AST) -> ast.AST:
        """The function around a node, or the module."""
        return next((n for n in self.above(node) if isinstance(n, (*FUNCTIONS, ast.Lambda))), self.tree)

    def block(self, statement: ast.stmt) -> list[ast.stmt]:
        """The list of statements that a statement stands in."""
        parent = self.parents[statement]
        for field in ("body", "orelse", "finalbody"):
            body = getattr(parent, field, None)
            if isinstance(body, list) and statement in body:
                return body
        return [statement]

    def alone_on_its_lines(self, statement: ast.stmt) -> bool:
        """Whether no other code shares a line with the statement."""
        start = self._starts[statement.lineno - 1]
        end = self.span(statement)[1]
        rest = self.text[end : self.text.find("\n", end)].strip()
        return not self.text[start : start + statement.col_offset].strip() and (not rest or rest.startswith("#"))

    def lines_of(self, statement: ast.stmt) -> tuple[int, int]:
        """The offsets of the whole lines of a statement, its last newline included."""
        first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", []))])
        end = self.text.find("\n", self.span(statement)[1])
        return self._starts[first - 1], end + 1

    # Edits

    def delete(self, statement: ast.stmt, *, gone: Iterable[ast.stmt] = ()) -> Edit:
        """Remove the lines of a statement; `pass` stands in where its block would be empty."""
        start, end = self.lines_of(statement)
        left = [s for s in self.block(statement) if s is not statement and s not in set(gone)]
        return Edit(start, end, "" if left else self.indent(statement) + "pass\n")

    def comment_out(self, statement: ast.stmt) -> Edit:
        """Turn the lines of a statement into comments."""
        start, end = self.lines_of(statement)
        text = "".join(f"{self.indent(statement)}# {line.strip()}\n" for line in self.text[start:end].splitlines())
        alone = len(self.block(statement)) == 1
        return Edit(start, end, text + (self.indent(statement) + "pass\n" if alone else ""))

    def before(self, statement: ast.stmt, code: str, *, planted: bool = True) -> Edit:
        """Insert lines before a statement, at its indentation."""
        start = self.lines_of(statement)[0]
        return Edit(start, start, self._at(self.indent(statement), code), planted)

    def after(self, statement: ast.stmt, code: str, *, planted: bool = True) -> Edit:
        """Insert lines after a statement, at its indentation."""
        end = self.lines_of(statement)[1]
        return Edit(end, end, self._at(self.indent(statement), code), planted)

    def replace(self, node: ast.AST, text: str, *, planted: bool = True) -> Edit:
        """Replace the text of a node."""
        return Edit(*self.span(node), text, planted)

    def code(self, statement: ast.stmt) -> str:
        """The lines of a statement without their indentation."""
        start, end = self.lines_of(statement)
        return textwrap.dedent(self.text[start:end]).rstrip("\n")

    def unwrap(self, block: ast.With) -> list[Edit]:
        """Remove a `with` header and take its body one level out."""
        body_start = self._starts[block.body[0].lineno - 1]
        start, end = self.lines_of(block)
        inner, outer = self.indent(block.body[0]), self.indent(block)
        lines = self.text[body_start:end].splitlines(keepends=True)
        text = "".join(outer + line[len(inner) :] if line.startswith(inner) else line for line in lines)
        return [Edit(start, end, text)]

    @staticmethod
    def _at(indent: str, code: str) -> str:
        return "".join(f"{indent}{line}\n" if line.strip() else "\n" for line in code.splitlines())

    def mutant(self, row: str, form: str, edits: Iterable[Edit], *also: ast.AST) -> Mutant | None:
        """Return the edited text as a mutant of a row; None when it does not parse.

        Lines that may be reported: those of each planted edit and one around a deletion, and the lines of the nodes `also`.
        """
        edits = sorted(edits, key=lambda edit: (edit.start, edit.end))
        pieces, lines, shifts, done = [], set(), [], 0
        for edit in edits:
            if edit.start < done:
                return None
            pieces += [self.text[done : edit.start], edit.text]
            first = self.line_at(edit.start) + sum(s for _, s in shifts)
            added, removed = edit.text.count("\n"), self.text[edit.start : edit.end].count("\n")
            if edit.planted:
                lines |= set(range(first, first + max(added, 1))) if edit.text.strip() else {first - 1, first}
            shifts.append((edit.end, added - removed))
            done = edit.end
        text = "".join([*pieces, self.text[done:]])
        for node in also:
            begin, end = self.span(node)
            shift = sum(s for at, s in shifts if at <= begin)
            inside = sum(s for at, s in shifts if begin < at <= end)
            # Of a compound statement the header counts, not all that stands in it.
            last = node.body[0].lineno - 1 if isinstance(getattr(node, "body", None), list) else self.line_at(end) + inside
            lines |= set(range(self.line_at(begin) + shift, max(last, self.line_at(begin)) + shift + 1))
        try:
            ast.parse(text)
        except SyntaxError:
            return None
        return Mutant(row, form, text, frozenset(lines)) if text != self.text else None


def dotted(node: ast.AST) -> str:
    """The dotted name of an expression, `''` where it is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        inner = dotted(node.value)
        return f"{inner}.{node.attr}" if inner else ""
    return ""


def last(node: ast.AST) -> str:
    """The last part of a called name: `optim.Adam` gives `Adam`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def keyword(call: ast.Call, name: str) -> ast.keyword | None:
    """The keyword argument of a call, if given."""
    return next((k for k in call.keywords if k.arg == name), None)
