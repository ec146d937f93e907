"""One training script, parsed once: its nodes by type, what names stand for, constants folded. Nothing is run."""

from __future__ import annotations

import ast
import re
from bisect import bisect_left, bisect_right
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.mistake import Edit, Location

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.code.constructors import Construction
    from traindoctor.code.definitions import Definitions
    from traindoctor.code.facts import Facts
    from traindoctor.code.losses import Losses
    from traindoctor.code.project import Project
    from traindoctor.code.tensors import Tensors
    from traindoctor.code.trace import Trace

#: Stands for a value that is not known without running the script.
UNKNOWN = object()

Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef
_SCOPES = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
LOOPS = (ast.For, ast.AsyncFor, ast.While)
#: Nodes that hold no others, and those that only say what their parent is and are one object wherever they stand.
_LEAVES = frozenset({ast.Name, ast.Constant, ast.alias, ast.Pass, ast.Break, ast.Continue, ast.Global, ast.Nonlocal})
_WORDS = frozenset({*ast.expr_context.__subclasses__(), *ast.operator.__subclasses__()})
_LINE_END = re.compile(r"\r\n?|\n")


class Cell(NamedTuple):
    """A code cell of a notebook: its number among all cells, from 1, and the first line of it in the text of the script."""

    number: int
    first_line: int


class Script:
    """A script and everything that is looked up in it again and again.

    `file`: as shown to the user. `text`: without a byte-order mark; the code cells one below the other for a notebook, whose
    `cells` say where each begins. `project`: the other scripts at hand, None for a file alone.

    Raises: SyntaxError, ValueError, RecursionError, MemoryError as `ast.parse` does.
    """

    def __init__(self, file: str, text: str, *, cells: Sequence[Cell] = (), project: Project | None = None) -> None:
        self.file = file
        self.text = text
        self.cells = tuple(cells)
        self.project = project
        self.tree = ast.parse(text)
        self.parents: dict[ast.AST, ast.AST] = {}
        self.nodes: dict[type[ast.AST], list[ast.AST]] = {}
        self._functions: dict[ast.AST, ast.AST | None] = {self.tree: None}
        self._index()

    def _index(self) -> None:
        """Note the parent of each node, and the nodes by type, in the order of the text."""
        parents, nodes = self.parents, self.nodes
        pending: list[ast.AST] = [self.tree]
        while pending:
            node = pending.pop()
            kind = type(node)
            if kind in nodes:
                nodes[kind].append(node)
            else:
                nodes[kind] = [node]
            if kind in _LEAVES:
                continue
            children: list[ast.AST] = []
            for name in kind._fields:
                value = getattr(node, name, None)
                if type(value) is list:
                    children += [child for child in value if isinstance(child, ast.AST)]
                elif isinstance(value, ast.AST) and type(value) not in _WORDS:
                    children.append(value)
            for child in children:
                parents[child] = node
            children.reverse()
            pending += children

    @cached_property
    def is_test(self) -> bool:
        """Whether the file holds tests, by its name or a folder it lies in: what it does wrong it may do on purpose."""
        *folders, name = self.file.replace("\\", "/").split("/")
        stem = name.partition(".")[0]
        by_name = stem.startswith("test_") or stem.endswith(("_test", "_test_utils", "_testing")) or stem == "conftest"
        return by_name or not {"test", "tests", "test_utils", "testing"}.isdisjoint(folders)

    # -- nodes

    def all(self, *types: type[ast.AST]) -> Iterator[ast.AST]:
        """Yield the nodes of these types, type by type, each in the order of the text."""
        for kind in types:
            yield from self.nodes.get(kind, ())

    @cached_property
    def calls(self) -> dict[str, list[ast.Call]]:
        """The calls by the last part of the name that is called: `torch.optim.Adam(...)` under "Adam"."""
        found: dict[str, list[ast.Call]] = {}
        for node in self.nodes.get(ast.Call, ()):
            assert isinstance(node, ast.Call)
            func = node.func
            name = func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""
            found.setdefault(name, []).append(node)
        return found

    @cached_property
    def called(self) -> dict[str, list[ast.Call]]:
        """The calls by the full name that is called: `torch.optim.Adam(...)` under "torch.optim.Adam"."""
        found: dict[str, list[ast.Call]] = {}
        for node in self.nodes.get(ast.Call, ()):
            assert isinstance(node, ast.Call)
            found.setdefault(self.dotted(node.func), []).append(node)
        return found

    @cached_property
    def names(self) -> dict[str, list[ast.Name]]:
        """Where each name is written, read or bound, by its place."""
        found: dict[str, list[ast.Name]] = {}
        for node in self.nodes.get(ast.Name, ()):
            assert isinstance(node, ast.Name)
            found.setdefault(node.id, []).append(node)
        for written in found.values():
            written.sort(key=_begin)
        return found

    def named_within(self, name: str, outer: ast.AST) -> list[ast.Name]:
        """Return where a name is written within a node, by its place."""
        written = self.names.get(name, [])
        start, stop = _begin(outer), (outer.end_lineno, outer.end_col_offset)  # type: ignore[attr-defined]
        return written[bisect_left(written, start, key=_begin) : bisect_left(written, stop, key=_begin)]

    @cached_property
    def assigned(self) -> dict[str, list[ast.Assign]]:
        """The assignments by the first part of each path that they bind, subscripts too: `self.net[0] = x` under "self"."""
        found: dict[str, list[ast.Assign]] = {}
        for node in self.nodes.get(ast.Assign, ()):
            assert isinstance(node, ast.Assign)
            for path in {self.dotted(name) for target in node.targets for name in _roots(target)}:
                found.setdefault(path.partition(".")[0], []).append(node)
        return found

    def above(self, node: ast.AST) -> Iterator[ast.AST]:
        """Yield the nodes that enclose a node, the nearest first."""
        while (parent := self.parents.get(node)) is not None:
            yield parent
            node = parent

    def statement(self, node: ast.AST) -> ast.stmt:
        """Return the statement that a node belongs to."""
        return next(n for n in (node, *self.above(node)) if isinstance(n, ast.stmt))

    def scope(self, node: ast.AST) -> ast.AST:
        """Return the function, class or module whose names a node sees first."""
        return next(n for n in self.above(node) if isinstance(n, _SCOPES))

    def function(self, node: ast.AST) -> ast.AST | None:
        """Return the function that a node stands in; None at module level."""
        known, parents = self._functions, self.parents
        passed: list[ast.AST] = []
        found: ast.AST | None = None
        while node not in known:
            passed.append(node)
            parent = parents.get(node)
            if parent is None or isinstance(parent, _FUNCTIONS):
                found = parent
                break
            node = parent
        else:
            found = known[node]
        known.update(dict.fromkeys(passed, found))
        return found

    def loops(self, node: ast.AST) -> list[ast.AST]:
        """Return the loops of the same function that a node stands in the body of, the nearest first."""
        found: list[ast.AST] = []
        child = node
        for parent in self.above(node):
            if isinstance(parent, _FUNCTIONS):
                break
            if isinstance(parent, LOOPS) and isinstance(child, ast.stmt) and not (parent.orelse and child in parent.orelse):
                found.append(parent)
            child = parent
        return found

    @cached_property
    def trace(self) -> Trace:
        """The walk through the script: the calls that train, in order, with what they act on."""
        from traindoctor.code.trace import Trace

        return Trace(self)

    @cached_property
    def facts(self) -> Facts:
        """What each walk through the script looks up in it."""
        from traindoctor.code.facts import Facts

        return Facts(self)

    @cached_property
    def definitions(self) -> Definitions:
        """Which assignments each use of a name may see."""
        from traindoctor.code.definitions import Definitions

        return Definitions(self)

    @cached_property
    def tensors(self) -> Tensors:
        """Where the tensors of the script come from."""
        from traindoctor.code.tensors import Tensors

        return Tensors(self)

    @cached_property
    def losses(self) -> Losses:
        """The losses that the script computes, and what it differentiates."""
        from traindoctor.code.losses import Losses

        return Losses(self)

    # -- names and values

    @cached_property
    def imports(self) -> dict[str, str]:
        """What imported names stand for: `F` -> "torch.nn.functional", `Adam` -> "torch.optim.Adam"; relative ones with dots."""
        found: dict[str, str] = {}
        for node in self.all(ast.Import, ast.ImportFrom):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname:
                        found[alias.asname] = alias.name
                    else:
                        top = alias.name.partition(".")[0]
                        found[top] = top
            elif isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{module}.{alias.name}" if module.strip(".") else f"{module}{alias.name}"
        return found

    def dotted(self, node: ast.AST | None) -> str:
        """Return the full name that an expression of names and dots stands for, imports followed; "" for any other.

        `F.cross_entropy` -> "torch.nn.functional.cross_entropy", `self.optimizer` -> "self.optimizer".
        """
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name):
            return ""
        parts.append(self.imports.get(node.id, node.id))
        return ".".join(reversed(parts))

    @cached_property
    def _bindings(self) -> dict[tuple[ast.AST, str], list[ast.expr | None]]:
        """What each name of each scope is bound to: the expressions of plain assignments, None for any other binding."""
        found: dict[tuple[ast.AST, str], list[ast.expr | None]] = {}

        def bind(target: ast.AST, value: ast.expr | None, scope: ast.AST) -> None:
            if isinstance(target, ast.Tuple | ast.List):
                values = value.elts if isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts) else None
                for i, element in enumerate(target.elts):
                    bind(element, values[i] if values else None, scope)
            elif isinstance(target, ast.Starred):
                bind(target.value, None, scope)
            elif isinstance(target, ast.Name):
                found.setdefault((scope, target.id), []).append(value)
            elif isinstance(target, ast.Attribute):
                found.setdefault((self.tree, self.dotted(target)), []).append(value)

        for node in self.nodes.get(ast.Assign, ()):
            assert isinstance(node, ast.Assign)
            for target in node.targets:
                bind(target, node.value, self.scope(node))
        for node in self.all(ast.AnnAssign, ast.NamedExpr):
            assert isinstance(node, ast.AnnAssign | ast.NamedExpr)
            if node.value is not None:
                bind(node.target, node.value, self.scope(node))
        for node in self.all(ast.AugAssign, ast.For, ast.AsyncFor, ast.comprehension):
            bind(node.target, None, self.scope(node))  # type: ignore[attr-defined]
        for node in self.nodes.get(ast.withitem, ()):
            assert isinstance(node, ast.withitem)
            if node.optional_vars is not None:
                bind(node.optional_vars, node.context_expr, self.scope(node))
        for node in self.nodes.get(ast.arg, ()):
            assert isinstance(node, ast.arg)
            found.setdefault((self.scope(node), node.arg), []).append(None)
        for node in self.all(ast.Global, ast.Nonlocal):
            for name in node.names:  # type: ignore[attr-defined]
                found.setdefault((self.tree, name), []).append(None)
        return found

    def bound(self, node: ast.AST) -> list[ast.expr | None]:
        """Return what a name or attribute is bound to where a node uses it: its expressions, None for a binding not followed.

        A name: in the innermost scope that binds it. An attribute of `self`: anywhere in the file. Empty when nothing binds it.
        """
        if isinstance(node, ast.Attribute):
            return self._bindings.get((self.tree, self.dotted(node)), [])
        if not isinstance(node, ast.Name):
            return []
        scopes = [s for s in self.above(node) if isinstance(s, _SCOPES)]
        for index, scope in enumerate(scopes):
            if isinstance(scope, ast.ClassDef) and index > 0:
                continue  # the names of a class are not seen from its methods
            if (scope, node.id) in self._bindings:
                return self._bindings[scope, node.id]
        return []

    def origin(self, node: ast.AST, depth: int = 4) -> ast.AST:
        """Return the expression that a name or attribute stands for, where one plain assignment alone binds it; else the node."""
        while depth and isinstance(node, ast.Name | ast.Attribute):
            values = self.bound(node)
            if len(values) != 1 or values[0] is None:
                break
            node, depth = values[0], depth - 1
        return node

    def constant(self, node: ast.AST | None, depth: int = 4) -> object:
        """Return the value of an expression of constants and of names bound once to such, else UNKNOWN.

        Numbers with + - * / // % **, text, True, False, None, and tuples and lists of them (as tuples).
        """
        if node is None or depth < 0:
            return UNKNOWN
        match self.origin(node):
            case ast.Constant(value=value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                number = self.constant(operand, depth - 1)
                return -number if isinstance(number, int | float) else UNKNOWN
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                values = [self.constant(e, depth - 1) for e in elements]
                return UNKNOWN if any(v is UNKNOWN for v in values) else tuple(values)
            case ast.BinOp(left=left, op=op, right=right):
                return _folded(op, self.constant(left, depth - 1), self.constant(right, depth - 1))
            case ast.Call(func=ast.Name(id="float" | "int"), args=[ast.Constant(value=str() as value)], keywords=[]):
                try:
                    return float(value)
                except ValueError:
                    return UNKNOWN
        return UNKNOWN

    def argument(self, call: ast.Call, name: str, position: int = -1) -> ast.expr | None:
        """Return an argument of a call by keyword, else by position (of a call without `*`); None when it is not given."""
        for keyword in call.keywords:
            if keyword.arg == name:
                return keyword.value
        if 0 <= position < len(call.args) and not any(isinstance(a, ast.Starred) for a in call.args[: position + 1]):
            return call.args[position]
        return None

    def open_ended(self, call: ast.Call) -> bool:
        """Return whether a call takes `*args` or `**kwargs`, so that what is not seen may still be given."""
        return any(k.arg is None for k in call.keywords) or any(isinstance(a, ast.Starred) for a in call.args)

    @cached_property
    def constructions(self) -> list[Construction]:
        """The calls that build an optimizer, with their settings as far as they are known."""
        from traindoctor.code.constructors import constructions

        return constructions(self)

    # -- places

    @cached_property
    def _line_starts(self) -> list[int]:
        """First character of each line, as the parser counts lines."""
        starts = [0, *(end.end() for end in _LINE_END.finditer(self.text))]
        if starts[-1] < len(self.text):
            starts.append(len(self.text))
        return starts

    def offset(self, line: int, byte_column: int) -> int:
        """Return the character of the text at a line and a column as a node has them (columns in UTF-8 bytes)."""
        starts = self._line_starts
        if line > len(starts):
            return len(self.text)
        start = starts[line - 1]
        stop = starts[line] if line < len(starts) else len(self.text)
        text = self.text[start:stop]
        return start + (byte_column if text.isascii() else len(text.encode()[:byte_column].decode(errors="ignore")))

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Return the characters of the text that a node covers."""
        return (
            self.offset(node.lineno, node.col_offset),  # type: ignore[attr-defined]
            self.offset(node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
        )

    def source(self, node: ast.AST) -> str:
        """Return the text of a node as it is written."""
        start, stop = self.span(node)
        return self.text[start:stop]

    def place(self, node: ast.AST) -> Location:
        """Return where a node stands."""
        start, stop = self.span(node)
        return self.place_of(start, stop)

    def place_of(self, start: int, stop: int) -> Location:
        """Return the place of some characters of the text."""
        starts = self._line_starts
        line, end_line = bisect_right(starts, start), bisect_right(starts, stop)
        column, end_column = start - starts[line - 1] + 1, stop - starts[end_line - 1] + 1
        if not self.cells:
            return Location(self.file, line, column, end_line, end_column)
        cell = self.cells[max(0, bisect_right([c.first_line for c in self.cells], line) - 1)]
        before = cell.first_line - 1
        return Location(self.file, line - before, column, end_line - before, end_column, cell.number)

    # -- edits

    def replaced(self, node: ast.AST, text: str) -> Edit:
        """Return the edit that puts text in the place of a node."""
        return Edit(*self.span(node), text)

    def line_span(self, node: ast.stmt) -> tuple[int, int] | None:
        """Return the characters of the whole lines of a statement; None when it shares them with another."""
        start, stop = self.span(node)
        starts = self._line_starts
        first, last = starts[bisect_right(starts, start) - 1], starts[min(bisect_right(starts, stop), len(starts) - 1)]
        rest = self.text[stop:last].strip()
        return (first, last) if not self.text[first:start].strip() and (not rest or rest.startswith("#")) else None

    def indent(self, node: ast.stmt) -> str:
        """Return the white space before a statement that is the first of its line."""
        start = self.span(node)[0]
        return self.text[self._line_starts[bisect_right(self._line_starts, start) - 1] : start]

    @property
    def newline(self) -> str:
        """The line end of the file."""
        return "\r\n" if "\r\n" in self.text else "\n"


def _begin(node: ast.AST) -> tuple[int, int]:
    return node.lineno, node.col_offset  # type: ignore[attr-defined]


def _roots(target: ast.AST) -> Iterator[ast.Name]:
    """Yield the names with which the paths of the target of an assignment begin."""
    pending = [target]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name):
            yield node
        elif isinstance(node, ast.Tuple | ast.List):
            pending += node.elts
        elif isinstance(node, ast.Attribute | ast.Subscript | ast.Starred):
            pending.append(node.value)


def _folded(op: ast.operator, left: object, right: object) -> object:
    if (
        isinstance(left, bool)
        or isinstance(right, bool)
        or not (isinstance(left, int | float) and isinstance(right, int | float))
    ):
        return UNKNOWN
    try:
        match op:
            case ast.Add():
                return left + right
            case ast.Sub():
                return left - right
            case ast.Mult():
                return left * right
            case ast.Div():
                return left / right
            case ast.FloorDiv():
                return left // right
            case ast.Mod():
                return left % right
            case ast.Pow() if abs(right) < 400 and abs(left) < 1e6:
                return left**right
    except (ArithmeticError, ValueError):
        pass
    return UNKNOWN
