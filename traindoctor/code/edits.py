"""Edits by whole lines: a line put in, a statement moved, its comment with it. All other characters stay as they are."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from traindoctor.mistake import Edit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from traindoctor.code.script import Script


def line_before(script: Script, statement: ast.stmt, code: str) -> Edit | None:
    """Return the edit that puts a line of code before a statement, as deep as it; None where it shares its line with another."""
    lines = script.line_span(statement)
    return Edit(lines[0], lines[0], f"{script.indent(statement)}{code}{script.newline}") if lines is not None else None


def line_after(script: Script, statement: ast.stmt, code: str) -> Edit | None:
    """Return the edit that puts a line of code behind a statement, as deep as it; None where it shares its line with another."""
    lines = script.line_span(statement)
    if lines is None:
        return None
    line = f"{script.indent(statement)}{code}"
    ended = script.text[: lines[1]].endswith(("\n", "\r"))
    return Edit(lines[1], lines[1], f"{line}{script.newline}" if ended else f"{script.newline}{line}")


def moved_before(script: Script, statement: ast.stmt, anchor: ast.stmt) -> tuple[Edit, Edit] | None:
    """Return the edits that move a statement before another one; None where that cannot be done line by line."""
    lines = _lines(script, statement, script.indent(anchor)) if script.line_span(anchor) else None
    return (line_before(script, anchor, lines[1]), lines[0]) if lines is not None else None  # type: ignore[return-value]


def moved_after(script: Script, statement: ast.stmt, anchor: ast.stmt) -> tuple[Edit, Edit] | None:
    """Return the edits that move a statement behind another one; None where that cannot be done line by line."""
    lines = _lines(script, statement, script.indent(anchor)) if script.line_span(anchor) else None
    return (line_after(script, anchor, lines[1]), lines[0]) if lines is not None else None  # type: ignore[return-value]


def _lines(script: Script, statement: ast.stmt, indent: str) -> tuple[Edit, str] | None:
    """Return the edit that takes a statement away, and its lines, those after the first as deep as a new indentation asks."""
    span = script.line_span(statement)
    if span is None or len(_block(script, statement)) < 2:
        return None
    start, stop = span
    first, *rest = script.text[start:stop].rstrip("\r\n").splitlines(keepends=True)
    old = script.indent(statement)
    if rest and old != indent:
        if any(isinstance(n, ast.JoinedStr | ast.Constant) and n.end_lineno != n.lineno for n in ast.walk(statement)):
            return None  # the new indentation would change a text of several lines
        rest = [indent + line.removeprefix(old) for line in rest]
    if not script.text[:stop].endswith(("\n", "\r")):  # the end of the file: the line end before the statement goes instead
        start -= len(script.newline)
    return Edit(start, stop, ""), "".join([first.removeprefix(old), *rest])


def _block(script: Script, statement: ast.stmt) -> list[ast.stmt]:
    """Return the statements of the block that a statement stands in."""
    parent = script.parents.get(statement)
    for name in ("body", "orelse", "finalbody"):
        block = getattr(parent, name, None)
        if isinstance(block, list) and statement in block:
            return block
    return []


def plain_statement(script: Script, node: ast.AST) -> ast.stmt | None:
    """Return the statement that a call stands in, when it is a simple one and has its lines to itself."""
    found = script.statement(node)
    return found if isinstance(found, ast.Expr | ast.Assign | ast.AnnAssign) and script.line_span(found) else None


def side_by_side(script: Script, first: ast.AST, second: ast.AST) -> bool:
    """Return whether two nodes stand in the same function and directly in the same loop."""
    return script.function(first) is script.function(second) and script.loops(first)[:1] == script.loops(second)[:1]


def applied(text: str, edits: Iterable[Edit]) -> str:
    """Return the text after edits that do not overlap."""
    for start, stop, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[stop:]
    return text
