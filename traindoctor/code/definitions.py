"""Which assignments a use of a name may see: the statements before it are walked backwards, branch by branch.

A branch that is not taken on every path leaves what stood before it as another possibility; the end of a loop's body
reaches its beginning; a branch that returns or raises does not reach what follows.
"""

from __future__ import annotations

import ast
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.code.script import Script

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_LEAVES = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_BLOCKS = ("body", "orelse", "finalbody")

#: Indices and keys that remain to be applied to a value: `a, b = f()` gives `b` the value f() with the path (1,).
Path = tuple[object, ...]


class Definition(NamedTuple):
    """One binding of a name that a use may see.

    `kind`: "assign", "augment" (`+=`), "loop" (a target of `for`; `value` is what is iterated over), "parameter" (of the
    function), "with" (`value` is the context), "other". `node`: the statement, or the argument. `path`: see Path.
    """

    kind: Literal["assign", "augment", "loop", "with", "parameter", "other"]
    node: ast.AST
    value: ast.expr | None = None
    path: Path = ()


class Definitions:
    """The bindings of all names and attributes of one script."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._stores: dict[str, list[ast.AST]] = {}
        self._stores_in: dict[str, dict[ast.AST | None, list[ast.AST]]] = {}
        self._touched: dict[tuple[ast.AST | None, str], dict[ast.AST, ast.AST]] = {}
        self._positions: dict[ast.AST, dict[ast.AST, tuple[str, int]]] = {}
        for node in script.nodes.get(ast.Name, ()):
            if type(node.ctx) is ast.Store:  # type: ignore[attr-defined]
                self._stores.setdefault(node.id, []).append(node)  # type: ignore[attr-defined]
        for node in script.nodes.get(ast.Attribute, ()):
            if type(node.ctx) is ast.Store:  # type: ignore[attr-defined]
                self._stores.setdefault(f".{node.attr}", []).append(node)  # type: ignore[attr-defined]

    def stores(self, path: str) -> list[ast.AST]:
        """Return the nodes at which a name ("loss") or an attribute ("self.loss") is bound, anywhere in the script."""
        _, dot, last = path.rpartition(".")
        if not dot:
            return self._stores.get(path, [])
        return [n for n in self._stores.get(f".{last}", ()) if self.script.dotted(n) == path]

    def stores_of_attribute(self, name: str) -> list[ast.AST]:
        """Return the nodes at which an attribute of this name is bound, on whatever it is."""
        return self._stores.get(f".{name}", [])

    @cached_property
    def attributes_of_others(self) -> frozenset[str]:
        """The attributes that are bound on anything but `self`."""
        return frozenset(
            name[1:]
            for name, stores in self._stores.items()
            if name[0] == "." and any(getattr(n.value, "id", "") != "self" for n in stores)  # type: ignore[attr-defined]
        )

    def reaching(self, path: str, use: ast.AST) -> tuple[list[Definition], bool]:
        """Return what a name or attribute path may be bound to at a use, within the function that the use stands in.

        The flag: whether the beginning of the function is reached without a binding on some path, so that what stands
        outside of it counts too. Stores in the statement of the use itself come after it.
        """
        function = self.script.function(use)
        touched = self._touching(function, path)
        found: list[Definition] = []
        if not touched:
            return found, not self._is_parameter(function, path, found)
        statement: ast.AST = self.script.statement(use)
        if isinstance(function, ast.Lambda):
            return found, not self._is_parameter(function, path, found)
        while (parent := self.script.parents.get(statement)) is not None:
            if self._before(statement, parent, touched, found):
                return _once(found), False
            if parent is function or isinstance(parent, ast.Module):
                break
            statement = parent
        return _once(found), not self._is_parameter(function, path, found)

    def within(self, scope: ast.AST, path: str) -> list[Definition]:
        """Return every binding of a name in a scope (a function or the module), wherever it stands there."""
        function = None if isinstance(scope, ast.Module) else scope
        found: list[Definition] = []
        for store, statement in self._touching(function, path).items():
            if store is statement and isinstance(store, ast.Name | ast.Attribute):
                found.append(self._definition(store))
        self._is_parameter(function, path, found)
        return found

    # -- the walk

    def _touching(self, function: ast.AST | None, path: str) -> dict[ast.AST, ast.AST]:
        """Return the nodes of a function that hold a store, up to its statements; each store stands for itself."""
        key = (function, path)
        if key not in self._touched:
            touched: dict[ast.AST, ast.AST] = {}
            if path not in self._stores_in:
                stores_in = self._stores_in[path] = {}
                for store in self.stores(path):
                    stores_in.setdefault(self.script.function(store), []).append(store)
            for store in self._stores_in[path].get(function, ()):
                above = [store]
                for parent in self.script.above(store):
                    if parent is function:
                        break
                    above.append(parent)
                if not any(isinstance(n, ast.comprehension) for n in above):
                    for node in above:
                        touched.setdefault(node, store)
            self._touched[key] = touched
        return self._touched[key]

    def _is_parameter(self, function: ast.AST | None, path: str, found: list[Definition]) -> bool:
        if not isinstance(function, _FUNCTIONS):
            return False
        arguments = function.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg):
            if argument is not None and argument.arg == path:
                found.append(Definition("parameter", argument))
                return True
        return False

    def _before(self, statement: ast.AST, parent: ast.AST, touched: dict[ast.AST, ast.AST], found: list[Definition]) -> bool:
        """Collect what the statements before one in its block bind, and the head of the block; True where all is bound there."""
        field, index = self.position(statement, parent)
        if not field:
            if isinstance(parent, ast.Try) and isinstance(statement, ast.ExceptHandler):
                self._backwards(parent.body, touched, found)
            return False
        block: list[ast.stmt] = getattr(parent, field)
        for i in range(index - 1, -1, -1):
            if block[i] in touched and self._through(block[i], touched, found):
                return True
        if isinstance(parent, ast.For | ast.AsyncFor) and field == "body":
            if self._bound_in(parent.target, touched, found):
                return True
            self._backwards(block, touched, found)
        elif isinstance(parent, ast.While) and field == "body":
            self._backwards(block, touched, found)
        elif isinstance(parent, ast.With | ast.AsyncWith):
            return any(self._bound_in(i.optional_vars, touched, found) for i in parent.items if i.optional_vars is not None)
        elif isinstance(parent, ast.Try) and field == "orelse":
            return self._backwards(parent.body, touched, found)
        elif isinstance(parent, ast.Try) and field == "finalbody":
            self._through(ast.Try(parent.body, parent.handlers, parent.orelse, []), touched, found)
        return False

    def position(self, statement: ast.AST, parent: ast.AST) -> tuple[str, int]:
        """Return the block of a parent that a statement stands in, and its place there; "" for one that stands in none."""
        if parent not in self._positions:
            self._positions[parent] = {
                one: (field, i) for field in _BLOCKS for i, one in enumerate(_statements(getattr(parent, field, None)))
            }
        return self._positions[parent].get(statement, ("", 0))

    def _bound_in(self, target: ast.AST, touched: dict[ast.AST, ast.AST], found: list[Definition]) -> bool:
        if target in touched:
            found.append(self._definition(touched[target]))
            return True
        return False

    def _backwards(self, block: Sequence[ast.stmt], touched: dict[ast.AST, ast.AST], found: list[Definition]) -> bool:
        """Collect what a block binds at its end; True where it is bound on every path through it."""
        return any(statement in touched and self._through(statement, touched, found) for statement in reversed(block))

    def _through(self, statement: ast.stmt, touched: dict[ast.AST, ast.AST], found: list[Definition]) -> bool:
        """Collect what one statement binds; True where it does on every path."""
        match statement:
            case ast.If():
                branches = [
                    bool(block) and (isinstance(block[-1], _LEAVES) or self._backwards(block, touched, found))
                    for block in (statement.body, statement.orelse)
                ]
                return all(branches)
            case ast.With() | ast.AsyncWith():
                bound = self._backwards(statement.body, touched, found)
                return bound or any(
                    self._bound_in(i.optional_vars, touched, found) for i in statement.items if i.optional_vars is not None
                )
            case ast.For() | ast.AsyncFor():
                self._backwards(statement.orelse, touched, found)
                self._backwards(statement.body, touched, found)
                self._bound_in(statement.target, touched, found)
                return False
            case ast.While():
                self._backwards(statement.orelse, touched, found)
                self._backwards(statement.body, touched, found)
                return False
            case ast.Try():
                if self._backwards(statement.finalbody, touched, found):
                    return True
                bound = self._backwards(statement.orelse, touched, found) or self._backwards(statement.body, touched, found)
                handlers = [
                    isinstance(h.body[-1], _LEAVES) or self._backwards(h.body, touched, found) for h in statement.handlers
                ]
                return bound and all(handlers)
            case ast.Match():
                for one in statement.cases:
                    self._backwards(one.body, touched, found)
                return False
            case _:
                found.append(self._definition(touched[statement]))
                return True

    def _definition(self, store: ast.AST) -> Definition:
        """Return the binding that a store node is part of."""
        path: list[object] = []
        child = store
        for parent in self.script.above(store):
            match parent:
                case ast.Tuple() | ast.List():
                    path.append(parent.elts.index(child))  # type: ignore[arg-type]
                case ast.Starred():
                    return Definition("other", store)
                case ast.Assign():
                    return _unpacked(Definition("assign", parent, parent.value, tuple(reversed(path))))
                case ast.AnnAssign() if parent.value is not None:
                    return Definition("assign", parent, parent.value)
                case ast.NamedExpr():
                    return Definition("assign", parent, parent.value)
                case ast.AugAssign():
                    return Definition("augment", parent, parent.value)
                case ast.For() | ast.AsyncFor():
                    return Definition("loop", parent, parent.iter, tuple(reversed(path)))
                case ast.withitem():
                    return Definition("with", parent, parent.context_expr)
                case ast.stmt():
                    return Definition("other", parent)
            child = parent
        return Definition("other", store)


def _statements(block: object) -> list[ast.stmt]:
    return block if isinstance(block, list) else []  # the body of a lambda is an expression


def _unpacked(definition: Definition) -> Definition:
    """Return the definition with the elements of a written tuple or list taken at once."""
    value, path = definition.value, definition.path
    while path and isinstance(value, ast.Tuple | ast.List) and isinstance(path[0], int):
        if path[0] >= len(value.elts) or any(isinstance(e, ast.Starred) for e in value.elts):
            return Definition("other", definition.node)
        value, path = value.elts[path[0]], path[1:]
    return definition._replace(value=value, path=path)


def _once(found: list[Definition]) -> list[Definition]:
    return list({(d.node, d.value, d.path): d for d in found}.values())
