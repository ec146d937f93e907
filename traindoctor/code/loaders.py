"""Where the data loaders of a script go: the loops that read them, in this file and in helpers beside it.

A loader is followed forward from the call that builds it: through names, attributes of `self`, tuples, dictionaries, the
return values and the parameters of functions, and what wraps it in a loop (`enumerate`, `tqdm`). Nothing is run.
"""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from traindoctor.code.project import speaks_of
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from traindoctor.code.script import Script

#: The calls on the way into a function.
Way: TypeAlias = "tuple[tuple[Script, ast.Call], ...]"
Function = ast.FunctionDef | ast.AsyncFunctionDef
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

#: Calls that hand on the batches of what they are given, in the same order.
PASSES_ON = frozenset({"enumerate", "tqdm", "trange", "zip", "iter", "islice", "cycle", "track", "progress_bar", "wrap"})
#: Calls that return their arguments ready for training, one for one.
PREPARES = frozenset({"prepare", "prepare_data_loader", "setup_dataloaders", "MpDeviceLoader"})
#: Calls that run a backward pass, by the last part of their name.
BACKWARD = frozenset({"backward", "manual_backward"})
#: Steps of one search; above it the way of a loader counts as not known.
BUDGET = 600

_WORDS = lazy(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_TRAIN = lazy(r"train(?!ed|er|able)|trn$")
#: Parts of names of loaders that are read in order on purpose.
_IN_ORDER = lazy(
    r"^(val|valid|validation|vald|test|tst|testing|eval|evaluation|dev|infer|inference|pred|predict|prediction|feat|feature|features"
    r"|extract|extraction|memory|bank|knn|stat|stats|statistics|calib|calibration|embed|embedding|embeddings|sample|samples"
    r"|cache|cached|vis|visual|visualize|plot|encode|score|scoring|query|gallery|probe|fid|unshuffled|ordered|order|noshuffle|seq"
    r"|sequential|online|stream|debug|dummy|fake|bench|benchmark|profile|fixed|label|labels|unlabeled|unlabelled|attack|swa|bn|update)$"
)


class Use(NamedTuple):
    """What becomes of a loader: it is read by a loop (item by item, or with `next`), or handed to a call that is not followed.

    `node`: the loop or the call, in `script`. `way`: the calls on the way into the function that `node` stands in.
    """

    script: Script
    node: ast.AST
    way: Way = ()


@lru_cache(maxsize=16)
def data_loaders(script: Script) -> list[ast.Call]:
    """Return the calls that build a `DataLoader` as PyTorch defines it: not shuffled by default."""
    calls = (call for name in ("DataLoader", "StatefulDataLoader") for call in script.calls.get(name, ()))
    return [call for call in calls if is_torch(script, call.func)]


def is_torch(script: Script, func: ast.expr) -> bool:
    """Return whether a class comes from PyTorch, or from a library that derives it from PyTorch's."""
    top = script.dotted(func).partition(".")[0]
    return top in ("torch", "torch_geometric", "monai", "torchdata") or (
        top == "DataLoader" and "torch" in script.imports.get("*", "")
    )


def words(name: str) -> list[str]:
    """Return the words of an identifier in lower case: "trainDataLoader_v" -> ["train", "data", "loader", "v"]."""
    return [word.lower() for word in _WORDS.findall(name)]


def named_for_training(name: str) -> bool:
    """Return whether a name says that something is for training, and for nothing that is read in order."""
    parts = words(name)
    return any(_TRAIN.match(part) for part in parts) and not any(_IN_ORDER.match(part) for part in parts)


def named_in_order(name: str) -> bool:
    """Return whether a name says that something is for evaluation, or read in order on purpose."""
    return any(_IN_ORDER.match(part) for part in words(name)) or name.lower().startswith(("val", "test", "eval"))


def called(func: ast.expr) -> str:
    """Return the last part of the name that a call calls; "" where it is no name."""
    return func.attr if isinstance(func, ast.Attribute) else func.id if isinstance(func, ast.Name) else ""


def functions(script: Script, func: ast.expr) -> list[tuple[Script, Function]]:
    """Return the function that a call calls, of this file or of one beside it; empty where it is not known.

    A method is taken by its name, where only one function of the file has it; of functions of the module the last one before.
    """
    name = called(func)
    if _imported(script, func):
        module, _, name = script.dotted(func).rpartition(".")
        if script.project is None or not module.strip("."):
            return []
        other = script.project.module(module, script.file, speaks_of(name))
        return [(other, f) for f in defined(other).get(name, ())[:1]] if other is not None else []
    found = defined(script).get(name, [])
    if len(found) > 1 and all(isinstance(script.parents.get(f), ast.Module) for f in found):
        found = [f for f in found if f.lineno < func.lineno][-1:]
    return [(script, found[0])] if len(found) == 1 else []


def _imported(script: Script, node: ast.expr) -> bool:
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name) and node.id in script.imports


@lru_cache(maxsize=16)
def defined(script: Script) -> dict[str, list[Function]]:
    """Return the functions and methods of a script by their name."""
    found: dict[str, list[Function]] = {}
    for function in script.all(*_FUNCTIONS):
        assert isinstance(function, _FUNCTIONS)
        found.setdefault(function.name, []).append(function)
    return found


def classes(script: Script, func: ast.expr) -> list[tuple[Script, ast.ClassDef]]:
    """Return the class of this file, or of one beside it, that a call builds."""
    name = called(func)
    own = [(script, c) for c in script.all(ast.ClassDef) if isinstance(c, ast.ClassDef) and c.name == name]
    if own or not name or not _imported(script, func) or script.project is None:
        return own
    module, _, name = script.dotted(func).rpartition(".")
    other = script.project.module(module, script.file, speaks_of(name)) if module.strip(".") else None
    if other is None:
        return []
    return [(other, c) for c in other.all(ast.ClassDef) if isinstance(c, ast.ClassDef) and c.name == name]


def trains(script: Script, node: ast.AST, depth: int = 3) -> bool:
    """Return whether a backward pass is run within a node, or in a function that it calls."""
    seen: set[ast.AST] = set()
    pending: list[tuple[Script, ast.AST, int]] = [(script, node, depth)]
    while pending:
        where, part, left = pending.pop()
        if part in seen:
            continue
        seen.add(part)
        if any(within(call, part) for name in BACKWARD for call in where.calls.get(name, ())):
            return True
        for name, calls in where.calls.items() if left else ():
            if name in defined(where) or name in where.imports or _imported(where, calls[0].func):
                inside = [call for call in calls if within(call, part)][:1]
                pending += [(other, f, left - 1) for call in inside for other, f in functions(where, call.func)]
    return False


def _extent(node: ast.AST) -> tuple[tuple[int, int], tuple[int, int]]:
    return (
        (node.lineno, node.col_offset),  # type: ignore[attr-defined]
        (node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
    )


def within(node: ast.AST, outer: ast.AST) -> bool:
    """Return whether a node of the same script stands within another, by its place."""
    start, stop = _extent(outer)
    return start <= (node.lineno, node.col_offset) < stop  # type: ignore[attr-defined]


def uses(script: Script, call: ast.expr) -> list[Use]:
    """Return the loops that read what a call builds, and the calls not followed that it is handed to, nearest first."""
    return _Search().run(script, call)


def around(use: Use) -> list[tuple[Script, ast.AST]]:
    """Return the loops around a use, the nearest first: those of its own function, then those around the calls of it."""
    found: list[tuple[Script, ast.AST]] = []
    seen: set[ast.AST] = set()
    pending: list[tuple[Script, ast.AST, int]] = [(use.script, use.node, 3), *((s, c, 0) for s, c in reversed(use.way))]
    while pending:
        script, node, left = pending.pop(0)
        if node in seen:
            continue
        seen.add(node)
        found += [(script, loop) for loop in script.loops(node)]
        function = script.function(node)
        if left and isinstance(function, _FUNCTIONS):
            pending += [(script, caller, left - 1) for caller in script.calls.get(function.name, ())]
    return found


class _Search:
    """One search forward from an expression; each expression is looked at once."""

    def __init__(self) -> None:
        self.found: list[Use] = []
        self.seen: set[tuple[ast.AST, object]] = set()
        self.pending: list[tuple[Script, ast.AST, object, Way]] = []

    def run(self, script: Script, expression: ast.AST) -> list[Use]:
        self.pending.append((script, expression, None, ()))
        steps = 0
        while self.pending and steps < BUDGET:
            steps += 1
            where, node, key, way = self.pending.pop(0)
            if (node, key) not in self.seen:
                self.seen.add((node, key))
                self.follow(where, node, key, way)
        return self.found

    def follow(self, script: Script, node: ast.AST, key: object, way: Way) -> None:
        """Note what becomes of a value; `key`: the loader is the element of it under this key or at this place, None: itself."""
        parent = script.parents.get(node)
        match parent:
            case ast.Assign(targets=targets):
                for target in targets:
                    self.bind(script, target, key, way)
            case ast.AnnAssign(target=target) | ast.NamedExpr(target=target):
                self.bind(script, target, key, way)
            case ast.For() | ast.AsyncFor() if parent.iter is node:
                self.found.append(Use(script, parent, way))
            case ast.comprehension() if parent.iter is node:
                self.found.append(Use(script, script.parents[parent], way))
            case ast.Return():
                self.returned(script, node, key, way)
            case ast.Tuple() | ast.List() if key is None:
                self.pending.append((script, parent, parent.elts.index(node), way))  # type: ignore[arg-type]
            case ast.Dict() if key is None and node in parent.values:
                name = parent.keys[parent.values.index(node)]
                self.pending.append((script, parent, name.value if isinstance(name, ast.Constant) else ..., way))
            case ast.ListComp() if parent.elt is node:
                self.pending.append((script, parent, ..., way))
            case ast.DictComp() if parent.value is node:
                self.pending.append((script, parent, ..., way))
            case ast.Subscript() if parent.value is node:
                index = parent.slice.value if isinstance(parent.slice, ast.Constant) else ...
                if key is None or key is ... or index is ... or index == key:
                    self.pending.append((script, parent, None, way))
            case ast.IfExp() | ast.BoolOp() | ast.Await():
                self.pending.append((script, parent, key, way))
            case ast.Starred():
                self.found.append(Use(script, parent, way))
            case ast.Attribute() if parent.value is node:
                self.method(script, parent, way)
            case ast.Call() if node is not parent.func:
                self.handed(script, node, parent, key, way, "")
            case ast.keyword():
                outer = script.parents[parent]
                if isinstance(outer, ast.Call):
                    self.handed(script, node, outer, key, way, parent.arg or "")

    def method(self, script: Script, attribute: ast.Attribute, way: Way) -> None:
        call = script.parents.get(attribute)
        if attribute.attr in ("items", "values") and isinstance(call, ast.Call):
            self.found.append(Use(script, call, way))

    def handed(
        self,
        script: Script,
        node: ast.AST,
        call: ast.Call,
        key: object,
        way: Way,
        keyword: str,
    ) -> None:
        """Follow a loader into the function that it is an argument of."""
        name = called(call.func)
        if name == "next":
            self.found += [Use(script, loop, way) for loop in script.loops(call)[:1]]
        if name in ("len", "print", "isinstance", "next", "type"):
            return
        if name in PASSES_ON:
            self.pending.append((script, call, None, way))
            return
        if name in PREPARES:
            alone = len(call.args) == 1
            place = None if alone or node not in call.args else call.args.index(node)
            self.pending.append((script, call, place, way))
            return
        if self.is_read_by_loop(script, call):
            self.pending.append((script, call, None, way))
            return
        followed = functions(script, call.func)
        bound = isinstance(call.func, ast.Attribute)
        if not followed:
            followed = [
                (other, init)
                for other, owner in classes(script, call.func)
                for init in owner.body
                if isinstance(init, _FUNCTIONS) and init.name == "__init__"
            ]
            bound = True
        if not followed:
            self.found.append(Use(script, call, way))
        for other, function in followed:
            parameter = keyword or self.parameter(function, call, node, bound and _is_method(other, function))
            if parameter:
                for load in _reads(other).get(parameter, ()):
                    if isinstance(load, ast.Name) and within(load, function):
                        self.pending.append((other, load, key, (*way, (script, call))))

    @staticmethod
    def is_read_by_loop(script: Script, call: ast.AST) -> bool:
        """Return whether a loop goes over what a call gives, whatever the call is: `for x in log_every(loader, 10)`."""
        while isinstance(parent := script.parents.get(call), ast.Call) and call is not parent.func:
            call = parent
        return isinstance(parent, ast.For | ast.AsyncFor) and parent.iter is call

    @staticmethod
    def parameter(function: Function, call: ast.Call, node: ast.AST, bound: bool) -> str:
        names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)][1 if bound else 0 :]
        place = next((i for i, a in enumerate(call.args) if a is node), -1)
        starred = any(isinstance(a, ast.Starred) for a in call.args[: place + 1])
        return names[place] if 0 <= place < len(names) and not starred else ""

    def returned(self, script: Script, node: ast.AST, key: object, way: Way) -> None:
        function = script.function(node)
        if not isinstance(function, _FUNCTIONS):
            return
        callers = [c for c in script.calls.get(function.name, ()) if not within(c, function)]
        for caller in callers:
            self.pending.append((script, caller, key, way))
        if not callers:
            self.found.append(Use(script, function, way))

    def bind(self, script: Script, target: ast.expr, key: object, way: Way) -> None:
        """Follow a loader to where the target of an assignment is read."""
        if isinstance(target, ast.Tuple | ast.List):
            elements = target.elts
            if isinstance(key, int) and key < len(elements) and not any(isinstance(e, ast.Starred) for e in elements):
                self.bind(script, elements[key], None, way)
            return
        if isinstance(target, ast.Subscript):
            name = target.slice.value if isinstance(target.slice, ast.Constant) else ...
            self.bind(script, target.value, name, way)
            return
        if isinstance(target, ast.Name):
            bindings = script.bound(target)
            for load in _reads(script).get(target.id, ()):
                if script.bound(load) is bindings:
                    self.pending.append((script, load, key, way))
        elif isinstance(target, ast.Attribute) and (name := script.dotted(target)):
            for load in _reads(script).get(name, ()):
                self.pending.append((script, load, key, way))


@lru_cache(maxsize=4)
def _reads(script: Script) -> dict[str, list[ast.expr]]:
    """Return where each name, and each dotted name, of a script is read."""
    found: dict[str, list[ast.expr]] = {}
    for node in script.all(ast.Name, ast.Attribute):
        assert isinstance(node, ast.Name | ast.Attribute)
        if isinstance(node.ctx, ast.Load):
            name = node.id if isinstance(node, ast.Name) else script.dotted(node)
            found.setdefault(name, []).append(node)
    return found


def _is_method(script: Script, function: Function) -> bool:
    return isinstance(script.parents.get(function), ast.ClassDef) and not any(
        isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list
    )
