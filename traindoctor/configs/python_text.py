"""A Python config file -> its entries, by reading it: nothing is imported or run.

What is read: assignments at module level (`optimizer = dict(type="SGD", lr=0.1)`, `lr: float = 0.1`, `optimizer.lr = 0.1`),
and in a function `get_config`, as ml_collections has it. Constants are folded: numbers with + - * / // % and **, text,
tuples, lists, dicts, `dict(...)`, `L(torch.optim.SGD)(lr=0.1)`, and names that were assigned before. What cannot be folded
(a call, an `if`, a loop, a name from elsewhere) is left out, and so is a name that a branch or loop may set.

A class that was imported stands for its dotted name: `type=AdamW` after `from torch.optim import AdamW`.
"""

from __future__ import annotations

import ast
import math
import warnings
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from traindoctor.configs.documents import (
    MAX_DEPTH,
    MAX_ENTRIES,
    NOWHERE,
    TOO_MANY,
    Entry,
    Note,
    ParseError,
    Repeat,
    Span,
    repeated,
)
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

MAX_TEXT = 10_000
MAX_ITEMS = 1_000
#: Largest power of two in an integer that is folded: 9**9**9 has 1.2 thousand million bits.
MAX_BITS = 1_024
#: Names that make a block of their keyword arguments.
MAPPINGS = frozenset(
    {"dict", "ConfigDict", "Config", "edict", "EasyDict", "SimpleNamespace", "Namespace", "CN", "CfgNode", "OrderedDict"}
)
#: A line as the parser of Python counts them.
_LINE = lazy(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
LAZY = frozenset({"L", "LazyCall"})


class Leaf(NamedTuple):
    """A folded constant and where it stands.

    `span`: of a literal, (-1, -1) for what was computed. `extent`: the characters of the expression, computed or not.
    """

    value: object
    line: int
    column: int
    span: Span = NOWHERE
    items: tuple[Span, ...] = ()
    file: Path | None = None
    extent: Span = NOWHERE


class Block:
    """A dict that was folded, or a list with blocks in it under the keys "0", "1", ..."""

    __slots__ = ("children", "is_list")

    def __init__(self, children: dict[str, Tree] | None = None, *, is_list: bool = False) -> None:
        self.children: dict[str, Tree] = {} if children is None else children
        self.is_list = is_list


Tree: TypeAlias = Leaf | Block
#: Module of an import with its leading dots -> the names it assigns; None when it is not at hand.
Importer: TypeAlias = "Callable[[str], dict[str, Tree] | None]"


class _CannotFoldError(Exception):
    """The value is not known without running the file."""


def python_entries(text: str, notes: list[Note]) -> Iterator[Entry]:
    """Yield the entries of a Python config file.

    Raises: ParseError for text that is no Python.
    """
    yield from entries_of(names_of(text, notes))


def entries_of(names: dict[str, Tree]) -> Iterator[Entry]:
    """Yield the entries of what a file assigns, in the order of assignment."""
    pending: list[tuple[tuple[str, ...], Tree]] = [((name,), tree) for name, tree in reversed(names.items())]
    n = 0
    while pending:
        path, tree = pending.pop()
        n += 1
        if n > MAX_ENTRIES:
            raise ParseError(0, TOO_MANY)
        if isinstance(tree, Leaf):
            yield Entry(
                path, tree.value, tree.line, tree.span, tree.items, column=tree.column, file=tree.file, extent=tree.extent
            )
        elif len(path) < MAX_DEPTH:
            pending += [((*path, key), child) for key, child in reversed(tree.children.items())]


def names_of(text: str, notes: list[Note], load: Importer | None = None, file: Path | None = None) -> dict[str, Tree]:
    """Return what a Python file assigns at module level, as far as it can be told without running it.

    Raises: ParseError for text that is no Python.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in the user's text
            module = ast.parse(text)
    except SyntaxError as error:
        raise ParseError(error.lineno or 1, f"not Python: {error.msg}") from None
    except (RecursionError, MemoryError):
        raise ParseError(0, "nested too deeply for a config") from None
    except ValueError as error:
        raise ParseError(1, f"not Python: {error}") from None
    reading = _Reading(text, notes, load, file)
    reading.statements(module.body)
    return {name: tree for name, tree in reading.names.items() if not name.startswith("__")}


class _Reading:
    """The names that statements assign, one after the other."""

    def __init__(self, text: str, notes: list[Note], load: Importer | None, file: Path | None) -> None:
        self.names: dict[str, Tree] = {}
        self.imported: dict[str, str] = {}
        self.notes, self.load, self.file = notes, load, file
        self.merges = "read_base" in text or "ConfigDict" in text  # whose `update` goes into blocks; that of a dict does not
        self.lines = _LINE.findall(text)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line))
        self.folded = 0

    # -- statements ---------------------------------------------------------------------------------------------------

    def statements(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            if isinstance(statement, ast.Assign):
                for target in statement.targets:
                    self.assign(target, statement.value)
            elif isinstance(statement, ast.AnnAssign):
                if statement.value is not None:
                    self.assign(statement.target, statement.value)
            elif isinstance(statement, ast.Import | ast.ImportFrom):
                self.imports(statement)
            elif isinstance(statement, ast.With) and _is_read_base(statement):
                self.statements(statement.body)
            elif isinstance(statement, ast.FunctionDef) and statement.name == "get_config":
                self.get_config(statement)
            elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
                self.call(statement.value)
            elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self.names.pop(statement.name, None)
            else:  # a branch or loop: what it may assign is not known after it
                for node in ast.walk(statement):
                    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
                        self.names.pop(node.id, None)

    def assign(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple | ast.List) and isinstance(value, ast.Tuple | ast.List):
            if len(target.elts) == len(value.elts):
                for one, its in zip(target.elts, value.elts, strict=True):
                    self.assign(one, its)
            return
        try:
            tree: Tree | None = self.fold(value, 0)
        except (_CannotFoldError, RecursionError):
            tree = None
        if isinstance(target, ast.Name):
            self.names.pop(target.id, None)
            self.imported.pop(target.id, None)
            if tree is not None:
                self.names[target.id] = tree
            return
        place = _place(target)
        if place is not None:
            self.put(place, tree)

    def put(self, place: Sequence[str], tree: Tree | None) -> None:
        """Set `a.b.c` or `a["b"]["c"]`, also of an `a` from elsewhere; None takes away what stood there."""
        here: Tree | None = self.names.get(place[0])
        if here is None and tree is not None:
            here = self.names[place[0]] = Block()
        for key in place[1:-1]:
            if not isinstance(here, Block):
                return
            here = here.children.setdefault(key, Block())
        if not isinstance(here, Block):
            return
        here.children.pop(place[-1], None)
        if tree is not None:
            here.children[place[-1]] = tree

    def call(self, call: ast.Call) -> None:
        """Read `optimizer.update(lr=0.1)` and `optimizer.update(dict(lr=0.1))`."""
        if isinstance(call.func, ast.Attribute) and call.func.attr in ("update", "merge") and (place := _place(call.func.value)):
            for argument in call.args:
                try:
                    tree = self.fold(argument, 0)
                except (_CannotFoldError, RecursionError):
                    continue
                if isinstance(tree, Block):
                    for key, child in tree.children.items():
                        self.update((*place, key), child)
            for keyword in call.keywords:
                if keyword.arg is not None:
                    try:
                        self.update((*place, keyword.arg), self.fold(keyword.value, 0))
                    except (_CannotFoldError, RecursionError):
                        self.put((*place, keyword.arg), None)

    def update(self, place: tuple[str, ...], tree: Tree) -> None:
        """Set what stands at a place, or go into the block there as the `update` of ConfigDict does."""
        here: Tree | None = self.names.get(place[0])
        for key in place[1:]:
            here = here.children.get(key) if isinstance(here, Block) else None
        if self.merges and isinstance(here, Block) and isinstance(tree, Block) and not tree.is_list and len(place) < MAX_DEPTH:
            for key, child in tree.children.items():
                self.update((*place, key), child)
        else:
            self.put(place, tree)

    def imports(self, statement: ast.Import | ast.ImportFrom) -> None:
        if isinstance(statement, ast.Import):
            for name in statement.names:
                bound = name.asname or name.name.partition(".")[0]
                self.names.pop(bound, None)
                self.imported[bound] = name.name if name.asname else bound
            return
        module = "." * statement.level + (statement.module or "")
        held = self.load(module) if self.load is not None and statement.level else None
        for name in statement.names:
            if name.name == "*":
                self.names.update(held or {})
                continue
            bound = name.asname or name.name
            self.names.pop(bound, None)
            self.imported.pop(bound, None)
            if held is not None and name.name in held:
                self.names[bound] = held[name.name]
            elif not statement.level:
                self.imported[bound] = f"{module}.{name.name}"

    def get_config(self, function: ast.FunctionDef) -> None:
        """Read the body of `get_config`: the block that it returns is the config."""
        inner = _Reading("", self.notes, self.load, self.file)
        inner.lines, inner.starts = self.lines, self.starts
        inner.names, inner.imported, inner.merges = dict(self.names), dict(self.imported), self.merges
        inner.statements([s for s in function.body if not isinstance(s, ast.Return)])
        for statement in function.body:
            if isinstance(statement, ast.Return) and isinstance(statement.value, ast.Name):
                block = inner.names.get(statement.value.id)
                if isinstance(block, Block):
                    self.names.update(block.children)

    # -- expressions --------------------------------------------------------------------------------------------------

    def fold(self, node: ast.expr, depth: int) -> Tree:
        """Return what an expression is.

        Raises: _CannotFoldError.
        """
        self.folded += 1
        if depth > MAX_DEPTH * 4 or self.folded > 20 * MAX_ENTRIES:
            raise _CannotFoldError
        if isinstance(node, ast.Constant):
            return self.constant(node)
        if isinstance(node, ast.Name):
            return self.name(node)
        if isinstance(node, ast.Attribute | ast.Subscript):
            return self.attribute(node)
        if isinstance(node, ast.List | ast.Tuple):
            return self.sequence(node, depth)
        if isinstance(node, ast.Dict):
            return self.mapping(node, depth)
        if isinstance(node, ast.Call):
            return self.called(node, depth)
        if isinstance(node, ast.UnaryOp):
            return self.signed(node, depth)
        if isinstance(node, ast.BinOp):
            left, right = self.fold(node.left, depth + 1), self.fold(node.right, depth + 1)
            if isinstance(left, Leaf) and isinstance(right, Leaf):
                return self.at(node, _computed(node.op, left.value, right.value))
        raise _CannotFoldError

    def constant(self, node: ast.Constant) -> Leaf:
        value = node.value
        if value is None or isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= MAX_TEXT):
            return self.at(node, value, literal=True)
        raise _CannotFoldError

    def name(self, node: ast.Name) -> Tree:
        if node.id in self.names:
            return self.names[node.id]
        if node.id in self.imported and node.id[:1].isupper():
            return self.at(node, self.imported[node.id])
        raise _CannotFoldError

    def attribute(self, node: ast.Attribute | ast.Subscript) -> Tree:
        """Return `base.lr`, `base["lr"]`, `betas[0]`, or the dotted name of a class, `torch.optim.SGD`."""
        place = _place(node)
        if place is None:
            raise _CannotFoldError
        if place[0] in self.imported and isinstance(node, ast.Attribute):
            return self.at(node, ".".join((self.imported[place[0]], *place[1:])))
        tree: Tree | None = self.names.get(place[0])
        for key in place[1:]:
            if isinstance(tree, Leaf) and isinstance(tree.value, list) and key.isdigit() and int(key) < len(tree.value):
                index = int(key)
                span = tree.items[index] if tree.items else NOWHERE
                tree = Leaf(tree.value[index], tree.line, tree.column, span, (), tree.file, tree.extent)
            else:
                tree = tree.children.get(key) if isinstance(tree, Block) else None
        if tree is None:
            raise _CannotFoldError
        return tree

    def sequence(self, node: ast.List | ast.Tuple, depth: int) -> Tree:
        if len(node.elts) > MAX_ITEMS:
            raise _CannotFoldError
        trees: list[Tree | None] = []
        for element in node.elts:
            try:
                trees.append(self.fold(element, depth + 1))
            except _CannotFoldError:
                trees.append(None)
        leaves = [tree for tree in trees if isinstance(tree, Leaf)]
        if len(leaves) == len(trees):
            spans = tuple(leaf.span if leaf.file == self.file else NOWHERE for leaf in leaves)
            leaf = self.at(node, [leaf.value for leaf in leaves], literal=True)
            return leaf._replace(items=spans if NOWHERE not in spans else ())
        return Block({str(i): tree for i, tree in enumerate(trees) if isinstance(tree, Block)}, is_list=True)

    def mapping(self, node: ast.Dict, depth: int) -> Block:
        block, first = Block(), dict[str, tuple[int, object]]()
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                self.spread(block, value, depth)
                continue
            if not isinstance(key, ast.Constant) or not isinstance(key.value, str | int):
                continue
            name = str(key.value)
            self.keep(block, name, value, depth)
            its = value.value if isinstance(value, ast.Constant) else None
            if name in first:
                column = self.character(key.lineno, key.col_offset) + 1
                repeated(self.notes, key.lineno, Repeat((name,), column, *first[name], its))
            first.setdefault(name, (key.lineno, its))
        return block

    def keep(self, block: Block, name: str, value: ast.expr, depth: int) -> None:
        try:
            block.children[name] = self.fold(value, depth + 1)
        except _CannotFoldError:
            block.children.pop(name, None)

    def spread(self, block: Block, value: ast.expr, depth: int) -> None:
        """Add what `**value` holds."""
        try:
            tree = self.fold(value, depth + 1)
        except _CannotFoldError:
            return
        if isinstance(tree, Block):
            block.children.update(tree.children)

    def called(self, node: ast.Call, depth: int) -> Block:
        """Return the block that `dict(...)`, `ConfigDict(...)` or `L(torch.optim.SGD)(...)` makes."""
        block = Block()
        maker = node.func
        if isinstance(maker, ast.Call) and _last(maker.func) in LAZY and len(maker.args) == 1:
            place = _place(maker.args[0])
            if place is None:
                raise _CannotFoldError
            dotted = ".".join((self.imported.get(place[0], place[0]), *place[1:]))
            block.children["_target_"] = self.at(maker.args[0], dotted)
        elif _last(maker) not in MAPPINGS:
            raise _CannotFoldError
        for argument in node.args:
            self.spread(block, argument, depth)
        for keyword in node.keywords:
            if keyword.arg is None:
                self.spread(block, keyword.value, depth)
            else:
                self.keep(block, keyword.arg, keyword.value, depth)
        return block

    def signed(self, node: ast.UnaryOp, depth: int) -> Leaf:
        tree = self.fold(node.operand, depth + 1)
        value = tree.value if isinstance(tree, Leaf) else None
        if isinstance(node.op, ast.Not) and isinstance(value, bool):
            return self.at(node, not value)
        if isinstance(value, int | float) and not isinstance(value, bool) and isinstance(node.op, ast.USub | ast.UAdd):
            plain = isinstance(node.operand, ast.Constant)
            return self.at(node, -value if isinstance(node.op, ast.USub) else value, literal=plain)
        raise _CannotFoldError

    def at(self, node: ast.expr, value: object, *, literal: bool = False) -> Leaf:
        """Return a value with its place; with its span where it stands as it is, on one line."""
        column = self.character(node.lineno, node.col_offset)
        extent = NOWHERE
        if node.end_lineno is not None and node.end_col_offset is not None:
            stop = self.starts[node.end_lineno - 1] + self.character(node.end_lineno, node.end_col_offset)
            extent = self.starts[node.lineno - 1] + column, stop
        span = extent if literal and node.end_lineno == node.lineno else NOWHERE
        return Leaf(value, node.lineno, column + 1, span, (), self.file, extent)

    def character(self, line: int, n_bytes: int) -> int:
        """Return the column in characters: Python's parser counts bytes of UTF-8."""
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        return n_bytes if text.isascii() else len(text.encode()[:n_bytes].decode(errors="ignore"))


def _is_read_base(statement: ast.With) -> bool:
    """Whether a `with` is that of MMEngine around the imports of its bases."""
    first = statement.items[0].context_expr
    return isinstance(first, ast.Call) and _last(first.func) == "read_base"


def _last(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _place(node: ast.expr) -> tuple[str, ...] | None:
    """Return ("a", "b", "c") of `a.b["c"]`; None for anything else."""
    parts: list[str] = []
    while len(parts) < MAX_DEPTH:
        if isinstance(node, ast.Name):
            return (node.id, *reversed(parts))
        if isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str | int):
            parts.append(str(node.slice.value))
            node = node.value
        else:
            return None
    return None


def _computed(op: ast.operator, left: object, right: object) -> object:
    """Return `left op right` for numbers, sums of text and lists, and short repeats of lists."""
    if isinstance(op, ast.Add) and isinstance(left, str) and isinstance(right, str) and len(left) + len(right) <= MAX_TEXT:
        return left + right
    if isinstance(op, ast.Add) and isinstance(left, list) and isinstance(right, list) and len(left) + len(right) <= MAX_ITEMS:
        return [*left, *right]
    if isinstance(op, ast.Mult) and isinstance(left, list) and isinstance(right, int) and len(left) * right <= MAX_ITEMS:
        return left * right
    if isinstance(left, str | bool) or isinstance(right, str | bool):
        raise _CannotFoldError
    if not isinstance(left, int | float) or not isinstance(right, int | float):
        raise _CannotFoldError
    try:
        value = _arithmetic(op, left, right)
    except (ArithmeticError, ValueError):
        raise _CannotFoldError from None
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise _CannotFoldError
    return value


def _arithmetic(op: ast.operator, left: float, right: float) -> float:
    if isinstance(op, ast.Add):
        return left + right
    if isinstance(op, ast.Sub):
        return left - right
    if isinstance(op, ast.Mult):
        return left * right
    if isinstance(op, ast.Div):
        return left / right
    if isinstance(op, ast.FloorDiv):
        return left // right
    if isinstance(op, ast.Mod):
        return left % right
    if isinstance(op, ast.Pow):
        if isinstance(left, int) and isinstance(right, int) and right > 0 and math.log2(abs(left) or 1) * right > MAX_BITS:
            raise _CannotFoldError
        result: object = left**right  # of a negative number it may be complex
        if isinstance(result, int | float):
            return result
    raise _CannotFoldError
