"""What is gathered over the steps of a training loop: losses that are kept together with their graph."""

from __future__ import annotations

import ast
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.code.losses import MANY
from traindoctor.code.tensors import REDUCTIONS, SAME, is_torch, plain, without_gradients

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.code.definitions import Path
    from traindoctor.code.script import Script

_GATHERING = ("append", "update", "add", "extend", "push", "put", "insert")


class Kept(NamedTuple):
    """A statement that keeps a loss: the name or attribute within it, what holds it then, and where it was differentiated.

    `is_scalar`: the loss is kept as it was differentiated, so that `.item()` works on it.
    """

    statement: ast.stmt
    loss: ast.expr
    holder: str
    is_scalar: bool
    backward: ast.AST


class _Differentiated(NamedTuple):
    """A name with the bindings that it had when a backward pass went through it."""

    path: str
    bindings: frozenset[ast.AST]
    backward: ast.AST


class _Carried(NamedTuple):
    """A differentiated name in an expression; see Kept."""

    loss: ast.expr
    is_scalar: bool
    backward: ast.AST


def kept_losses(script: Script) -> Iterator[Kept]:
    """Yield the statements that add a loss, graph and all, to what outlives the iteration it was differentiated in."""
    differentiated = [
        one for node, root in script.losses.roots if isinstance(root, ast.Call) for one in _chain(script, node, root, set())
    ]
    differentiated_paths: dict[ast.AST | None, set[str]] = {}
    for statement, holder, value in islice(_gathering(script), 3 * MANY) if differentiated else ():
        found = _carried(script, value, differentiated) or _returned(script, value)
        if found is None or without_gradients(script, statement) is not None:
            continue
        if any(t.flow in ("data", "cut") for t in script.tensors.of(found.loss, script.tensors.frame(found.loss))):
            continue
        region = _region(script, statement, holder, found.backward)
        if region is None or _begins_anew(script, holder, statement, region):
            continue
        function = script.function(statement)
        if function not in differentiated_paths:
            differentiated_paths[function] = _paths_of_losses(script, function)
        if holder in differentiated_paths[function]:
            continue
        yield Kept(statement, found.loss, holder, found.is_scalar, found.backward)


def _region(script: Script, statement: ast.stmt, holder: str, backward: ast.AST) -> ast.AST | None:
    """Return the loop that both a statement and the backward pass stand in, or their method where self outlives it; or None."""
    loops = script.loops(statement)
    function = script.function(statement)
    if script.function(backward) is not function:
        return loops[0] if loops else None
    around = script.loops(backward)
    if not around and holder.startswith("self."):
        return function
    return next((loop for loop in around if loop in loops), None)


def _chain(script: Script, node: ast.expr, root: ast.AST, seen: set[ast.AST]) -> Iterator[_Differentiated]:
    """Yield the names that a backward pass goes through, from the loss down to the summands it was made of."""
    if node in seen or len(seen) > 100:
        return
    seen.add(node)
    match node:
        case ast.Name() | ast.Attribute():
            path = plain(node)
            definitions, _ = script.definitions.reaching(path, node) if path else ([], False)
            yield _Differentiated(path, frozenset(d.node for d in definitions), root)
            for definition in definitions:
                if definition.kind == "augment" and isinstance(definition.node, ast.AugAssign):
                    yield from _chain(script, definition.node.target, root, seen)
                if definition.kind in ("assign", "augment", "with") and definition.value is not None and not definition.path:
                    yield from _chain(script, definition.value, root, seen)
        case ast.BinOp():
            yield from _chain(script, node.left, root, seen)
            yield from _chain(script, node.right, root, seen)
        case ast.UnaryOp():
            yield from _chain(script, node.operand, root, seen)
        case ast.Call(func=ast.Attribute(attr="scale" | "scale_loss"), args=[scaled, *_]):
            yield from _chain(script, scaled, root, seen)
        case ast.Call(func=ast.Attribute(attr=name, value=value)) if name in REDUCTIONS or name in SAME:
            if not is_torch(script, script.dotted(node.func)):
                yield from _chain(script, value, root, seen)


# -- statements that gather


def _gathering(script: Script) -> Iterator[tuple[ast.stmt, str, ast.expr]]:
    """Yield the statements that add to something: the statement, the path of what is added to, and what is added."""
    for statement, holder, value in _sums(script):
        single = isinstance(value, ast.List) and len(value.elts) == 1
        yield statement, holder, value.elts[0] if single else value  # type: ignore[attr-defined]
    for node in script.nodes.get(ast.Assign, ()):
        assert isinstance(node, ast.Assign)
        if len(node.targets) == 1 and isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.Add):
            holder, target = _holder(node.targets[0]), script.source(node.targets[0])
            for side, other in ((node.value.left, node.value.right), (node.value.right, node.value.left)):
                if holder and script.source(side) == target:
                    yield node, holder, other
    for name in _GATHERING:
        for call in script.calls.get(name, ()):
            above = script.parents.get(call)
            if isinstance(call.func, ast.Attribute) and isinstance(above, ast.Expr) and call.args:
                holder = _holder(call.func.value)
                if holder and ((name == "append" and _is_list(script, call.func.value)) or _sums_up(script, call)):
                    yield above, holder, call.args[0]


def _sums(script: Script) -> Iterator[tuple[ast.stmt, str, ast.expr]]:
    """Yield likewise the statements with `+=`."""
    for node in script.nodes.get(ast.AugAssign, ()):
        assert isinstance(node, ast.AugAssign)
        if isinstance(node.op, ast.Add) and (holder := _holder(node.target)):
            yield node, holder, node.value


def _holder(node: ast.expr) -> str:
    """Return the path of what is added to: `stats["loss"]` -> "stats", `stats.setdefault("loss", [])` -> "stats"."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return plain(node.func.value) if _is_new_list(node) else plain(node)  # type: ignore[attr-defined]


def _is_new_list(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="setdefault"), args=[_, ast.List()]):
            return True
    return False


def _is_list(script: Script, node: ast.expr) -> bool:
    """Return whether every binding of a name, attribute or entry that is at hand is a list, or a dictionary of lists."""
    if _is_new_list(node):
        return True
    inner = node
    while isinstance(inner, ast.Subscript):
        inner = inner.value
    if not isinstance(inner, ast.Name | ast.Attribute):
        return False
    found = script.tensors.alternatives(inner, script.tensors.frame(node))
    values = [definition.value for definition, _ in found if definition.kind == "assign"]
    return bool(values) and len(values) == len(found) and all(_is_list_value(v, inner is not node) for v in values)


def _is_list_value(node: ast.expr | None, entry: bool) -> bool:
    match node:
        case ast.List() | ast.ListComp() | ast.Call(func=ast.Name(id="list")):
            return True
        case ast.Dict() | ast.DictComp() | ast.Call(func=ast.Name(id="defaultdict") | ast.Attribute(attr="defaultdict")):
            return entry
    return False


def _sums_up(script: Script, call: ast.Call) -> bool:
    """Return whether a method of the project adds its first argument to an attribute as it is."""
    for frame in script.tensors.entered(call, script.tensors.frame(call)):
        function, other = frame.function, frame.script
        if not isinstance(function, ast.FunctionDef) or len(function.args.args) < 2:
            continue
        name = function.args.args[1].arg
        for statement, holder, value in _sums(other):
            used = value.left if isinstance(value, ast.BinOp) else value
            if other.function(statement) is function and holder.startswith("self.") and isinstance(used, ast.Name):
                bound = other.definitions.reaching(name, used)[0]
                if used.id == name and bound and all(d.kind == "parameter" for d in bound):
                    return True
    return False


# -- what they hold


def _carried(script: Script, node: ast.expr, differentiated: Sequence[_Differentiated]) -> _Carried | None:
    """Return the differentiated name that an expression holds with its graph, alone or scaled."""
    match node:
        case ast.Name() | ast.Attribute():
            path = plain(node)
            for one in differentiated:
                if one.path == path and one.bindings and not any(isinstance(b, ast.arg) for b in one.bindings):
                    definitions, _ = script.definitions.reaching(path, node)
                    if frozenset(d.node for d in definitions) == one.bindings:
                        return _Carried(node, True, one.backward)
        case ast.BinOp(op=ast.Mult() | ast.Div() | ast.Add() | ast.Sub()):
            return _carried(script, node.left, differentiated) or _carried(script, node.right, differentiated)
        case ast.Call(func=ast.Attribute(attr=name, value=value)) if name in REDUCTIONS or name in SAME:
            found = _carried(script, value, differentiated)
            return found._replace(is_scalar=False) if found is not None else None
    return None


def _returned(script: Script, node: ast.expr) -> _Carried | None:
    """Return likewise a loss that a function of the script differentiates and then returns as it is."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div):
        return _returned(script, node.left)
    path: Path = ()
    call: ast.expr | None = node
    if isinstance(node, ast.Name):
        definitions, _ = script.definitions.reaching(node.id, node)
        if len(definitions) != 1 or definitions[0].kind != "assign":
            return None
        call, path = definitions[0].value, definitions[0].path
    if not isinstance(call, ast.Call):
        return None
    for frame in script.tensors.called(call, script.tensors.frame(node)):
        inside = [
            one
            for root_node, root in script.losses.roots
            if isinstance(root, ast.Call) and script.function(root) is frame.function
            for one in _chain(script, root_node, root, set())
        ]
        for value in script.tensors.returns(frame) if inside else ():
            if path and isinstance(value, ast.Tuple) and isinstance(path[0], int) and path[0] < len(value.elts):
                value = value.elts[path[0]]
            found = _carried(script, value, inside) if isinstance(value, ast.Name) else None
            if found is not None:
                return _Carried(node, True, found.backward)
    return None


# -- how long it is held


def _begins_anew(script: Script, holder: str, statement: ast.stmt, region: ast.AST) -> bool:
    """Return whether what is added to is bound or emptied in each iteration, or with each step of the optimizer."""
    for store in script.definitions.stores(holder):
        owner = script.statement(store)
        if owner is statement or not isinstance(owner, ast.Assign | ast.AnnAssign | ast.For):
            continue
        above = list(script.above(store))
        if region in above and all(_holds_a_step(script, n) for n in above[: above.index(region)] if isinstance(n, ast.If)):
            return True
    return any(
        isinstance(call.func, ast.Attribute) and plain(call.func.value) == holder and region in script.above(call)
        for name in ("clear", "reset", "pop", "popleft")
        for call in script.calls.get(name, ())
    )


def _holds_a_step(script: Script, branch: ast.If) -> bool:
    """Return whether a branch ends a window of accumulation: an optimizer steps in it."""
    return any(branch in script.above(call) for call in script.calls.get("step", ()))


def _paths_of_losses(script: Script, function: ast.AST | None) -> set[str]:
    """Return the names, and attributes of self, that what is differentiated is made of, followed through a function."""
    pending = {path for node, _ in script.losses.roots for path in _paths(node)}
    seen: set[str] = set()
    while pending:
        path = pending.pop()
        seen.add(path)
        for store in script.definitions.stores(path)[:MANY]:
            owner = script.statement(store)
            value = getattr(owner, "value", None) or getattr(owner, "iter", None)
            if value is not None and (script.function(store) is function or path.startswith("self.")):
                pending |= set(_paths(value)) - seen
    return seen


def _paths(node: ast.AST) -> list[str]:
    """Return the names, and the attributes of self, that an expression reads."""
    found = []
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and inner.id != "self":
            found.append(inner.id)
        elif isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id == "self":
            found.append(f"self.{inner.attr}")
    return found
