"""The evaluation loops of a script in which gradients are on."""

from __future__ import annotations

import ast
import re
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.code.losses import MANY
from traindoctor.code.tensors import MODEL, fence_of, is_loader, plain, without_gradients
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.script import Script

EVALUATION = lazy(
    r"(^|_)(eval|evaluate|evaluation|validate|validation|valid|val|test|testing|infer|inference|predict)(_|$)", re.IGNORECASE
)
#: Decorators that leave gradients as they are.
HARMLESS = frozenset(
    {"staticmethod", "classmethod", "property", "abstractmethod", "main", "command", "record", "override", "option"}
)
#: Methods that a framework calls with gradients off, or with the mode it chooses.
HOOKS = frozenset(
    {"validation_step", "test_step", "predict_step", "training_step", "forward", "validation_epoch_end", "test_epoch_end"}
)
#: Words after which gradients may be on or off by a value, in the whole script.
_BY_VALUE = ("set_grad_enabled", "volatile")
#: Names of functions that work with gradients.
_NEEDING = lazy(r"grad|attack|adversar|pgd|fgsm|perturb|saliency|explain|attribut", re.IGNORECASE)
_TRAINS = lazy(r"opt|trainer|engine|scaler|accel|agent", re.IGNORECASE)
_GRADIENTS = ("backward", "manual_backward", "grad", "jacobian", "hessian", "attribute", "perturb", "attack")


class Evaluation(NamedTuple):
    """A call of a model in an evaluation loop; `keeps`: outputs with their graph are gathered over the batches.

    `is_alone`: the function does nothing but evaluate.
    """

    call: ast.Call
    function: ast.AST | None
    keeps: bool
    is_alone: bool


def evaluations(script: Script) -> Iterator[Evaluation]:
    """Yield the first call of a model in each evaluation loop under which nothing switches gradients off."""
    if any(word in script.text for word in _BY_VALUE):
        return
    seen: set[ast.AST] = set()
    for call, loop in islice(chain(_after_eval(script), _in_named(script)), MANY):
        function = script.function(call)
        if loop in seen or _is_fenced(script, call, set()) or _needs_gradients(script, function, loop):
            continue
        if _is_frozen(script, plain(call.func)):
            continue
        seen.add(loop)
        tensors = script.tensors.of(call, script.tensors.frame(call))
        if all(t.flow in ("cut", "data") for t in tensors) or _proves_fence(script, function):
            continue
        alone = not any(
            script.function(c) is function for name in ("backward", "step", "train") for c in script.calls.get(name, ())
        )
        yield Evaluation(call, function, _keeps(script, loop), alone and function is not None)


def _after_eval(script: Script) -> Iterator[tuple[ast.Call, ast.AST]]:
    """Yield the calls of a model in loops that follow its `eval()` in the same block, before its `train()`."""
    for switch in script.calls.get("eval", ()):
        if not isinstance(switch.func, ast.Attribute) or switch.args:
            continue
        path, statement = plain(switch.func.value), script.statement(switch)
        parent = script.parents.get(statement)
        block = next((b for f in ("body", "orelse") if statement in (b := getattr(parent, f, None) or [])), [])
        if not path or path == "self" or not isinstance(statement, ast.Expr | ast.Assign):
            continue
        following: list[ast.AST] = []
        for one in block[block.index(statement) + 1 :] if block else ():
            if isinstance(one, ast.Expr) and _is_train(one.value, path):
                break
            following.append(one)
        yield from _model_calls(script, path, following, script.function(switch))


def _is_train(node: ast.expr, path: str) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "train"
        and plain(node.func.value) == path
    )


def _model_calls(
    script: Script, path: str, blocks: list[ast.AST], function: ast.AST | None
) -> Iterator[tuple[ast.Call, ast.AST]]:
    """Yield the calls of a model, with the outermost loop, that stand in loops within some statements."""
    if not blocks:
        return
    for call in script.calls.get(path.rpartition(".")[2], ()):
        if plain(call.func) != path or not (call.args or call.keywords):
            continue
        here = script.function(call)
        if here is function or "." in path:  # an attribute of self is the same one in the helpers that the loop calls
            for reached in _reached_from(script, call, function):
                for loop in [*reversed(script.loops(reached)), *_comprehension(script, reached)]:
                    if any(b is loop or b in script.above(loop) for b in blocks):
                        if not isinstance(loop, ast.While):
                            yield reached, loop
                        break
        elif isinstance(here, ast.FunctionDef) and script.function(here) is function is not None and EVALUATION.search(here.name):
            for loop in script.loops(call)[-1:]:
                yield call, loop


def _reached_from(script: Script, call: ast.Call, function: ast.AST | None, depth: int = 0) -> Iterator[ast.Call]:
    """Yield the calls in a function through which a call is made, gradients on all the way."""
    here = script.function(call)
    if here is function:
        yield call
    elif isinstance(here, ast.FunctionDef) and depth < 3 and fence_of(here) is None and without_gradients(script, call) is None:
        for outer in script.calls.get(here.name, ()):
            yield from _reached_from(script, outer, function, depth + 1)


def _comprehension(script: Script, call: ast.Call) -> list[ast.AST]:
    """Return the comprehension over batches that a call stands in."""
    for parent in script.above(call):
        if isinstance(parent, ast.ListComp | ast.GeneratorExp | ast.SetComp | ast.DictComp):
            return [parent] if is_loader(script, parent.generators[0].iter) else []
        if isinstance(parent, ast.stmt):
            break
    return []


def _in_named(script: Script) -> Iterator[tuple[ast.Call, ast.AST]]:
    """Yield the calls of a model in loops over batches, in functions named for evaluation whose caller called `eval()`."""
    for function in script.all(ast.FunctionDef):
        assert isinstance(function, ast.FunctionDef)
        if not EVALUATION.search(function.name) or not _is_switched_by_caller(script, function):
            continue
        for name in {a.arg for a in function.args.args if MODEL.search(a.arg)}:
            for call in script.calls.get(name, ()):
                if script.function(call) is function and isinstance(call.func, ast.Name):
                    loop = next(
                        (x for x in reversed(script.loops(call)) if isinstance(x, ast.For) and is_loader(script, x.iter)), None
                    )
                    if loop is not None:
                        yield call, loop


def _is_switched_by_caller(script: Script, function: ast.FunctionDef) -> bool:
    """Return whether each call of a function at hand stands in a function in which some model was put into evaluation mode."""
    callers = [c for c in script.calls.get(function.name, ()) if isinstance(c.func, ast.Name)]
    switches = {script.function(c): c.lineno for c in script.calls.get("eval", ()) if isinstance(c.func, ast.Attribute)}
    return bool(callers) and all(switches.get(script.function(c), c.lineno + 1) < c.lineno for c in callers)


def _is_fenced(script: Script, node: ast.AST, seen: set[ast.AST], depth: int = 0) -> bool:
    """Return whether gradients are, or may be, off at a node: by a `with`, a decorator, or a caller."""
    if without_gradients(script, node) is not None or _is_in_some_context(script, node):
        return True
    function = script.function(node)
    if function is None or function in seen or depth > 3:
        return False
    seen.add(function)
    if isinstance(function, ast.Lambda) or fence_of(function) is not None:
        return True
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    if function.name in HOOKS or _is_wrapped(script, function.name):
        return True
    for decorator in function.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if getattr(target, "attr", getattr(target, "id", "")) not in HARMLESS:
            return True
    return any(_is_fenced(script, call, seen, depth + 1) for call in script.calls.get(function.name, ()))


def _is_in_some_context(script: Script, node: ast.AST) -> bool:
    """Return whether a node stands in a `with` of a name that may stand for `no_grad()`: `with context:`."""
    for parent in script.above(node):
        for item in parent.items if isinstance(parent, ast.With | ast.AsyncWith) else ():
            if isinstance(item.context_expr, ast.Name):
                values = script.bound(item.context_expr)
                if not values or any(v is None or "grad" in script.source(v) or "inference" in script.source(v) for v in values):
                    return True
    return False


def _is_wrapped(script: Script, name: str) -> bool:
    """Return whether a function is decorated by a call: `evaluate = torch.no_grad()(evaluate)`."""
    for fence in (call for word in ("no_grad", "inference_mode") for call in script.calls.get(word, ())):
        outer = script.parents.get(fence)
        if isinstance(outer, ast.Call) and outer.func is fence and any(plain(a) == name for a in outer.args):
            return True
    return False


def _differentiates_itself(script: Script) -> bool:
    """Return whether a model of the script takes gradients in its forward pass, such as forces from an energy."""
    for call in script.calls.get("grad", ()):
        owner = next((n for n in script.above(call) if isinstance(n, ast.ClassDef)), None)
        methods = {getattr(n, "name", "") for n in owner.body} if owner is not None else set()
        if "forward" in methods and not methods & {"training_step", "step", "fit"}:
            return True
    return False


def _needs_gradients(script: Script, function: ast.AST | None, loop: ast.AST) -> bool:
    """Return whether a loop, or what it calls, takes gradients, or the function asks for some."""
    if _differentiates_itself(script):
        return True
    first, last = loop.lineno, loop.end_lineno or loop.lineno  # type: ignore[attr-defined]
    for name in (*_GRADIENTS, "requires_grad_"):
        for taken in script.calls.get(name, ()):
            if first <= taken.lineno <= last or (name in ("requires_grad_", "grad") and script.function(taken) is function):
                return True
    stores = script.definitions.stores_of_attribute("requires_grad")
    if any(script.function(n) is function for n in stores):
        return True
    for call in script.calls.get("step", ()):
        if isinstance(call.func, ast.Attribute) and first <= call.lineno <= last and _TRAINS.search(plain(call.func.value)):
            return True
    for call in script.nodes.get(ast.Call, ()):  # type: ignore[assignment]
        if not isinstance(call, ast.Call) or not first <= call.lineno <= last:
            continue
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        if _NEEDING.search(name) and name != "no_grad":
            return True
        for frame in script.tensors.called(call, script.tensors.frame(call)):
            if frame.function is not None and any(
                c.lineno >= frame.function.lineno and c.lineno <= (frame.function.end_lineno or 0)  # type: ignore[attr-defined]
                for name in ("backward", "grad", "requires_grad_")
                for c in frame.script.calls.get(name, ())
            ):
                return True
    return False


def _is_frozen(script: Script, path: str) -> bool:
    """Return whether the parameters of a model are told to have no gradients somewhere, all in a loop or at once."""
    for call in script.calls.get("requires_grad_", ()):
        if isinstance(call.func, ast.Attribute) and plain(call.func.value) == path:
            return True
    for store in script.definitions.stores_of_attribute("requires_grad"):
        loop = next((n for n in script.above(store) if isinstance(n, ast.For)), None)
        source = loop.iter.func if loop is not None and isinstance(loop.iter, ast.Call) else None
        if (
            isinstance(source, ast.Attribute)
            and source.attr in ("parameters", "named_parameters")
            and plain(source.value) == path
        ):
            return True
    return False


def _proves_fence(script: Script, function: ast.AST | None) -> bool:
    """Return whether an output is turned into numpy as it is: that fails with gradients on, so something switches them off."""
    for call in script.calls.get("numpy", ()):
        if isinstance(call.func, ast.Attribute) and script.function(call) is function:
            tensors = script.tensors.of(call.func.value, script.tensors.frame(call))
            if all(t.flow == "live" for t in tensors):
                return True
    return False


def _keeps(script: Script, loop: ast.AST) -> bool:
    """Return whether a loop adds a tensor with its graph to a sum or a list."""
    first, last = loop.lineno, loop.end_lineno or loop.lineno  # type: ignore[attr-defined]
    values = [n.value for n in script.nodes.get(ast.AugAssign, ()) if first <= n.lineno <= last]  # type: ignore[attr-defined]
    values += [c.args[0] for c in script.calls.get("append", ()) if c.args and first <= c.lineno <= last]
    return any(t.flow == "live" for v in values for t in script.tensors.of(v, script.tensors.frame(v)))
