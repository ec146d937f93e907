"""What the walk of `code.trace` looks up in one script again and again: gathered once, whoever walks through it."""

from __future__ import annotations

import ast
from functools import cached_property
from typing import TYPE_CHECKING

from traindoctor.code.names import attributes, engines, text_of
from traindoctor.code.script import LOOPS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from traindoctor.code.script import Script

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
#: Expressions that do something where they stand: none around them can be passed over.
_ACTS = (ast.Call, ast.NamedExpr, ast.ListComp, ast.SetComp, ast.GeneratorExp)


class Facts:
    """Sets of nodes of one script, each with all expressions around them.

    `acts`: what calls something or binds a name. `grads`: what mentions a gradient. `parameters`: what asks a model for its
    parameters. `mains`: what asks for `__name__`.
    """

    def __init__(self, script: Script) -> None:
        self.script = script
        self.acts = self._around(script.all(*_ACTS))
        self.grads = self._around(n for n in script.nodes.get(ast.Attribute, ()) if n.attr == "grad")  # type: ignore[attr-defined]
        self.parameters = self._around(
            call
            for name, calls in script.calls.items()
            if name.endswith("parameters")
            for call in calls
            if isinstance(call.func, ast.Attribute)
        )
        names = script.nodes.get(ast.Name, ()) if "__name__" in script.text else ()
        self.mains = self._around(n for n in names if n.id == "__name__")  # type: ignore[attr-defined]
        self._conditions: dict[ast.expr, tuple[str, tuple[str, ...] | None]] = {}
        self._attributes: dict[ast.AST, frozenset[str]] = {}

    def _around(self, nodes: Iterable[ast.AST]) -> set[ast.AST]:
        """Return the nodes and all expressions around them."""
        found: set[ast.AST] = set()
        parents = self.script.parents
        for node in nodes:
            inner: ast.AST | None = node
            while inner is not None and not isinstance(inner, ast.stmt) and inner not in found:
                found.add(inner)
                inner = parents.get(inner)
        return found

    @cached_property
    def engines(self) -> set[str]:
        """The receivers of both `backward(loss)` and `step()`."""
        return engines(self.script)

    @cached_property
    def continues(self) -> set[ast.AST]:
        """The statements in which a `continue` of the loop around them stands."""
        found: set[ast.AST] = set()
        for node in self.script.nodes.get(ast.Continue, ()):
            inner: ast.AST | None = node
            while isinstance(inner, ast.stmt) and not isinstance(inner, LOOPS) and inner not in found:
                found.add(inner)
                inner = self.script.parents.get(inner)
        return found

    @cached_property
    def kept(self) -> dict[ast.AST, list[ast.Assign]]:
        """The assignments of a call to an attribute, by each function that they stand in."""
        found: dict[ast.AST, list[ast.Assign]] = {}
        for node in self.script.nodes.get(ast.Assign, ()):
            assert isinstance(node, ast.Assign)
            if isinstance(node.value, ast.Call) and any(isinstance(target, ast.Attribute) for target in node.targets):
                function = self.script.function(node)
                while function is not None:
                    found.setdefault(function, []).append(node)
                    function = self.script.function(function)
        return found

    @cached_property
    def methods(self) -> dict[tuple[ast.AST, str], ast.FunctionDef | ast.AsyncFunctionDef]:
        """The methods of each class by their names, the first of each."""
        found: dict[tuple[ast.AST, str], ast.FunctionDef | ast.AsyncFunctionDef] = {}
        for node in self.script.all(*_FUNCTIONS):
            assert isinstance(node, _FUNCTIONS)
            found.setdefault((self.script.parents[node], node.name), node)
        return found

    def attributes(self, node: ast.AST) -> frozenset[str]:
        """Return the names of all attributes in a piece of the script."""
        if node not in self._attributes:
            self._attributes[node] = attributes(node)
        return self._attributes[node]

    def condition(self, test: ast.expr) -> tuple[str, tuple[str, ...] | None]:
        """Return the text of a test without its spaces, and the names in it; None for one that is another at each evaluation."""
        known = self._conditions.get(test)
        if known is None:
            names: set[str] | None = set()
            text = "".join(self.script.source(test).replace('"', "'").split())
            for node in ast.walk(test):
                if isinstance(node, ast.Call | ast.Await | ast.NamedExpr | ast.Subscript):
                    names = None
                elif isinstance(node, ast.Name | ast.Attribute) and names is not None:
                    names.add(text_of(node))
                if names is None:
                    break
            known = self._conditions[test] = (text, None if names is None else tuple(sorted(names)))
        return known
