"""Which parameters an optimizer holds, and whether they are those that the script trains.

An optimizer holds the parameter objects that it was given. A model that is built anew, or a layer that is put in another's
place, has other ones. Moving, casting and wrapping a model keep them.

Source: PyTorch documentation, torch.optim, "Constructing it"; torch.nn.Module.to and .cuda (both in place).
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Literal, NamedTuple

from traindoctor.code.names import MODEL_WRAPPERS, SAME_OBJECT
from traindoctor.code.script import LOOPS
from traindoctor.code.tensors import plain
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.constructors import Construction
    from traindoctor.code.script import Script

#: Layers of torch.nn that have parameters.
WITH_PARAMETERS = lazy(
    r"^(Lazy)?(Linear|Bilinear|Conv\w*|Embedding\w*|LSTM\w*|GRU\w*|RNN\w*|(Batch|Layer|Group|Instance)Norm\w*|MultiheadAttention"
    r"|Transformer\w*|PReLU|Parameter)$"
)
#: Methods of a model that do not run it.
QUIET = SAME_OBJECT | {
    "parameters",
    "named_parameters",
    "state_dict",
    "load_state_dict",
    "zero_grad",
    "share_memory",
    "named_modules",
    "modules",
    "children",
    "named_children",
}
#: Functions that are handed an optimizer and do not step it.
_LOOKS_ON = lazy(r"sched|lr|save|print|log|len|id|state|watch|warm|plateau|annealing|isinstance|append|scaler", re.IGNORECASE)
_FACTORY = lazy(r"(build|create|make|get|load)_?\w*(model|net)|create_model|from_pretrained", re.IGNORECASE)
#: Models that are updated from another one.
_FOLLOWS = lazy(r"target|teacher|ema|frozen|copy|old|ref", re.IGNORECASE)
_THAWS = lazy(r"requires_grad(_\((?!\s*False)|\s*=(?!\s*False|=))|unfreez|thaw|trainable|peft|lora", re.IGNORECASE)
#: Attributes of a layer that are numbers.
_SIZE = lazy(r"^(in|out)_(features|channels)$|^num_features$|_dim$|_size$|^config$")
_OPTIMIZER_WORD = lazy(r"_?(optimi[sz]ers?|optim|opt|solver|trainer)_?", re.IGNORECASE)


#: Steps of one optimizer that are looked at: a script that writes out more is made by a program.
MAX_STEPS = 16


class Replaced(NamedTuple):
    """A statement that gives a model other parameters after its optimizer was built; `what` of it is new: all, or a layer."""

    node: ast.Assign
    model: str
    what: Literal["model", "layer", "adapters"]
    certain: bool


def name_of(made: Construction) -> str:
    """Return the name that an optimizer is kept under ("opt", "self.optimizer"), "" where it is no plain assignment."""
    statement = made.script.statement(made.node)
    if isinstance(statement, ast.Assign) and statement.value is made.node and len(statement.targets) == 1:
        return made.script.dotted(statement.targets[0])
    return ""


def replacements(made: Construction) -> Iterator[Replaced]:
    """Yield the statements after a construction that replace the model, or a layer of it, before the optimizer is used.

    Only within the function that builds it, and only where the optimizer is not built again, nor told of the new parameters.
    """
    script, name = made.script, name_of(made)
    if not name or not made.models or "?" in made.models:
        return
    function = script.function(made.node)
    rebuilt = next(
        (
            s
            for s in _assigned_after(script, name, made.node)
            if any(name == one for target in s.targets for one in _paths(script, target)) and not _mentions(script, s.value, name)
        ),
        made.node,
    )
    if script.called.get(f"{name}.add_param_group"):
        return
    after = {s: None for model in sorted(made.models) for s in _assigned_after(script, model, made.node, rebuilt)}
    for statement in sorted(after, key=lambda s: s.lineno):
        if len(statement.targets) != 1 or script.loops(statement) != script.loops(made.node):
            continue
        target = _place(script, statement.targets[0])
        model = next((m for m in made.models if target == m or target.startswith((f"{m}.", f"{m}["))), "")
        if not model or not isinstance(statement.value, ast.Call):
            continue
        what: Literal["model", "layer", "adapters"] = "model" if target == model else "layer"
        if what == "model" and script.dotted(statement.value.func).rpartition(".")[2] == "get_peft_model":
            what = "adapters"
        elif _mentions(script, statement.value, model, but_sizes=True) or not (
            _has_parameters(script, statement.value) if what == "layer" else _is_fresh_model(script, statement.value)
        ):
            continue
        if not _is_used(script, name, statement, function):
            continue
        conditions = set(script.above(made.node))
        branches = [p for p in script.above(statement) if isinstance(p, ast.If | ast.Try | ast.Match) and p not in conditions]
        yield Replaced(statement, model, what, not branches)


def is_never_run(made: Construction) -> str:
    """Return the one model that an optimizer holds, where it is stepped and that model never run with gradients; else ""."""
    script, name = made.script, name_of(made)
    if not name or len(made.models) != 1 or not script.calls.get("backward") or not _is_stepped(script, name):
        return ""
    if _named(script)[_place_of(made)] > 1:
        return ""
    (model,) = made.models
    if model.startswith("self.") or "." in model or _is_stored_whole(made) is False:
        return ""
    values = [value for value in _values(script, model) if value is not None]
    if len(values) != 1 or not isinstance(values[0], ast.Call) or not _is_fresh_model(script, values[0]):
        return ""
    for node in script.names.get(model, ()):
        if not isinstance(node.ctx, ast.Load):
            continue
        runs = isinstance(outer := script.parents.get(node), ast.Call) and outer.func is node
        if not _is_quiet(script, node) and not (runs and _without_gradients(script, node)):
            return ""
    return "" if _holders(script)[model] > 1 else model


def mixed_up(script: Script) -> Iterator[tuple[Construction, str, str]]:
    """Yield each optimizer that by its name is for another model than it holds, which no optimizer, or the wrong one, holds.

    With the model that it holds and the one that it is named after.
    """
    whole: dict[ast.AST | None, list[tuple[Construction, str, str]]] = {}
    for made in script.constructions:
        if (name := name_of(made)) and len(made.models) == 1 and _is_stored_whole(made):
            whole.setdefault(script.function(made.node), []).append((made, _word(name), next(iter(made.models))))
    for made, word, held in (one for together in whole.values() for one in together):
        if not word or _is_named_after(word, held):
            continue
        others = [(its_word, model) for _, its_word, model in whole[script.function(made.node)] if its_word != word]
        rivals = [model for its_word, model in others if _is_named_after(its_word, held)]
        swapped = {model for model in rivals if _is_named_after(word, model)}
        meant = swapped if held not in rivals else _models_named(script, word) - _holders(script).keys()
        meant = {model for model in meant if model.startswith("self.") == held.startswith("self.")}
        if len(meant) == 1:
            yield made, held, next(iter(meant))


def unrelated_loss(made: Construction) -> ast.Call | None:
    """Return the backward pass right before the step of an optimizer whose loss does not depend on the model that it holds.

    Only where the gradients are cleared before it in the same block, so that none of an earlier loss is left, and where all
    that the loss is made of is seen: names of the function, and no method of the object that has the model.
    """
    script, name = made.script, name_of(made)
    if not name or len(made.models) != 1 or not _is_stored_whole(made):
        return None
    if _named(script)[_place_of(made)] > 1:
        return None  # which of them is stepped where is not followed
    (model,) = made.models
    for step in script.called.get(f"{name}.step", ())[:MAX_STEPS]:
        if script.function(step) is not script.function(made.node) and not name.startswith("self."):
            continue
        passes = (
            call
            for statement in _since_cleared(script, script.statement(step), name, model)
            for call in ast.walk(statement)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "backward"
        )
        losses = list(islice(passes, 2))
        if len(losses) == 1 and not losses[0].args and not _may_depend(script, losses[0], model):
            return losses[0]
    return None


def freezing(made: Construction) -> ast.stmt | None:
    """Return the statement that freezes every parameter of all that an optimizer holds, where nothing thaws one; else None."""
    script = made.script
    if len(made.models) != 1 or not _is_stored_whole(made) or _thaws(script):
        return None
    (model,) = made.models
    function = script.function(made.node)
    for statement in _freezes(script).get(model, ()):
        if (
            script.function(statement) is not function
            or _is_after(statement, made.node)
            or not _is_certain(script, statement, made.node)
        ):
            continue
        between = [n for n in _uses(script, model, function) if _is_after(n, statement) and _is_after(made.node, n)]
        if all(_is_quiet(script, node) for node in between):
            return statement
    return None


# -- what a loss is made of -------------------------------------------------------------------------------------------


def _since_cleared(script: Script, statement: ast.stmt, *paths: str) -> list[ast.stmt]:
    """Return the statements before one in its block, back to where gradients of a path are cleared; none where they are not."""
    parent = script.parents[statement]
    block, at = script.definitions.position(statement, parent)
    clears = (script.parents[call] for path in paths for call in script.called.get(f"{path}.zero_grad", ()))
    places = [script.definitions.position(one, parent) for one in clears if script.parents[one] is parent]
    cleared = max((place for in_block, place in places if in_block == block and place < at), default=-1)
    return getattr(parent, block)[cleared + 1 : at] if cleared >= 0 else []


def _may_depend(script: Script, backward: ast.Call, model: str) -> bool:
    """Whether the loss of a backward pass may depend on the parameters of a model, as far as the text tells.

    What is detached, and what is computed without gradients, does not. An expression that may hide the model does.
    """
    assert isinstance(backward.func, ast.Attribute)
    pending: list[ast.AST] = [backward.func.value]
    seen: set[ast.AST | None] = set()
    models = _holders(script).keys() - {model}
    function = script.function(backward)
    runs_another = False
    # A function that runs this model by its name is taken to run others by theirs.
    by_name = any(script.function(call) is function for call in _runs(script, model))
    while pending:
        node = pending.pop()
        match node:
            case ast.Call(func=ast.Attribute(attr="detach" | "item" | "data")):
                continue
            case ast.Call(func=ast.Name(id=name)) if (
                not script.bound(node.func) and name not in script.imports and name in _of_file(script)
            ):
                return True
            case ast.Attribute() | ast.Name():
                path = script.dotted(node)
                if not path and isinstance(node, ast.Attribute):  # a method of what a call gives: `critic(s, actor(s)).mean`
                    pending.append(node.value)
                    continue
                if (path + ".").startswith(f"{model}.") or path in ("self", "locals", "globals"):
                    return True
                parent = script.parents.get(node)
                is_called = isinstance(parent, ast.Call) and parent.func is node
                if is_called and path.startswith("self.") and path not in models and not any(_values(script, path)):
                    return True  # a method of the object, which may run the model
                runs_another = runs_another or path in models or (is_called and by_name and script.bound(node) == [None])
                values = _values(script, path) if isinstance(node, ast.Attribute) else _values_of_name(script, node)
                if isinstance(node, ast.Attribute) and not values:
                    values = [node.value]
                if None in values:
                    return True
                pending += [value for value in values if value is not None and value not in seen]
                seen.update(values)
                continue
        pending += ast.iter_child_nodes(node)
    return not runs_another


# -- parts ------------------------------------------------------------------------------------------------------------


def _is_after(node: ast.AST, other: ast.AST) -> bool:
    line: int = node.lineno  # type: ignore[attr-defined]
    end: int = other.end_lineno or other.lineno  # type: ignore[attr-defined]
    return line > end


def _paths(script: Script, target: ast.AST) -> list[str]:
    if isinstance(target, ast.Tuple | ast.List):
        return [path for element in target.elts for path in _paths(script, element)]
    return [script.dotted(target)]


def _values_of_name(script: Script, node: ast.Name) -> list[ast.expr]:
    """Return what a name may be bound to where it is read, in its function, save where gradients are off."""
    found: list[ast.expr] = []
    pending: list[ast.AST] = [node]
    seen: set[ast.AST] = set()
    while pending:
        for one in script.definitions.reaching(node.id, pending.pop())[0]:
            if one.kind not in ("assign", "augment") or one.value is None or one.node in seen:
                continue
            seen.add(one.node)
            if one.kind == "augment":
                pending.append(one.node)
            if not _without_gradients(script, one.node):
                found.append(one.value)
    return found


def _runs(script: Script, model: str) -> list[ast.Call]:
    """Return the calls that run a model."""
    return script.called.get(model, [])


def _without_gradients(script: Script, node: ast.AST) -> bool:
    return any(
        isinstance(one, ast.With) and any("no_grad" in script.source(item.context_expr) for item in one.items)
        for one in script.above(node)
    )


@lru_cache(maxsize=4)
def _of_file(script: Script) -> frozenset[str]:
    """Return the names of the functions and classes of a script."""
    return frozenset(one.name for one in script.all(ast.FunctionDef, ast.ClassDef))  # type: ignore[attr-defined]


@lru_cache(maxsize=4)
def _named(script: Script) -> Counter[tuple[ast.AST | None, str]]:
    """Return how many optimizers are kept under each name of a function, or of an object, whose functions share it."""
    return Counter(_place_of(made) for made in script.constructions)


def _place_of(made: Construction) -> tuple[ast.AST | None, str]:
    name = name_of(made)
    return (None if name.startswith("self.") else made.script.function(made.node), name)


@lru_cache(maxsize=4)
def _holders(script: Script) -> Counter[str]:
    """Return how many optimizers hold each model."""
    return Counter(model for made in script.constructions for model in made.models)


@lru_cache(maxsize=4)
def _thaws(script: Script) -> bool:
    return _THAWS.search(script.text) is not None


def _assigned_after(script: Script, path: str, node: ast.AST, other: ast.AST | None = None) -> Iterator[ast.Assign]:
    """Yield the assignments to a path, or to a part or a whole of it, the last first, in the function of a node and after it.

    `other`: and not before this one.
    """
    function = script.function(node)
    for statement in reversed(script.assigned.get(path.partition(".")[0], [])):
        if not _is_after(statement, node) or (other is not None and _is_after(other, statement)):
            return
        if script.function(statement) is function:
            yield statement


def _place(script: Script, target: ast.AST) -> str:
    """Return the path of what is assigned to, a subscript as "[]" at its end: `model.classifier[6]` -> "model.classifier[]"."""
    return f"{_place(script, target.value)}[]" if isinstance(target, ast.Subscript) else script.dotted(target)


def _values(script: Script, path: str) -> list[ast.expr | None]:
    """Return what a path is bound to anywhere in the script, tuples taken apart, None for what is not followed."""
    return _all_values(script).get(path, [])


@lru_cache(maxsize=4)
def _all_values(script: Script) -> dict[str, list[ast.expr | None]]:
    found: dict[str, list[ast.expr | None]] = {}
    for node in script.nodes.get(ast.Assign, ()):
        assert isinstance(node, ast.Assign)
        for target in node.targets:
            if path := script.dotted(target):
                found.setdefault(path, []).append(node.value)
                continue
            paths = _paths(script, target)
            values = getattr(node.value, "elts", [])
            for path, i in {path: i for i, path in reversed([*enumerate(paths)])}.items():
                found.setdefault(path, []).append(values[i] if len(values) == len(paths) else None)
    return found


def _mentions(script: Script, node: ast.AST, path: str, *, but_sizes: bool = False) -> bool:
    """Whether an expression names a path; `but_sizes`: the size of a layer alone, as in `model.fc.in_features`, is no mention."""
    if path.partition(".")[0] in script.imports:
        return False
    pending = [node]
    while pending:
        one = pending.pop()
        if isinstance(one, ast.Name | ast.Attribute):
            if but_sizes and isinstance(one, ast.Attribute) and _SIZE.search(one.attr):
                continue
            if (plain(one) + ".").startswith(f"{path}."):  # as written: `model.Net` of an import is no model
                return True
        pending += ast.iter_child_nodes(one)
    return False


def _is_used(script: Script, name: str, after: ast.AST, function: ast.AST | None) -> bool:
    """Whether an optimizer is stepped, returned, or handed to something that may step it, after a statement.

    One of an object may be used by any method; one of the module by any function that the module does not only call before.
    """
    for node in script.nodes.get(ast.Return, ()):
        assert isinstance(node, ast.Return)
        returned = getattr(node.value, "elts", [node.value])
        if script.function(node) is function and any(script.dotted(one) == name for one in returned):
            return True
    for call in script.nodes.get(ast.Call, ()):
        assert isinstance(call, ast.Call)
        around = [one for one in script.above(call) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)]
        if (function is None and not around) or function in around[:1]:
            if not _is_after(call, after):
                continue
        elif function is None:
            at_top = [one for one in script.calls.get(getattr(around[-1], "name", ""), ()) if script.function(one) is None]
            if at_top and not any(_is_after(one, after) for one in at_top):
                continue
        elif function not in around and not name.startswith("self."):
            continue
        called = script.dotted(call.func)
        if called == f"{name}.step":
            return True
        given = [*call.args, *(k.value for k in call.keywords)]
        if any(script.dotted(one) == name for one in given) and not _LOOKS_ON.search(called.rpartition(".")[2]):
            return True
    return False


def _is_stepped(script: Script, name: str) -> bool:
    return f"{name}.step" in script.called or name in _given_to_a_step(script)


@lru_cache(maxsize=4)
def _given_to_a_step(script: Script) -> frozenset[str]:
    return frozenset(script.dotted(one) for call in script.calls.get("step", ()) for one in call.args)


def _chain(call: ast.expr) -> ast.expr:
    """Return the call that makes the object on which `.to(...)`, `.cuda()` and their like are called."""
    while isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in QUIET:
        call = call.func.value
    return call


def _is_fresh_model(script: Script, value: ast.expr) -> bool:
    """Whether an expression builds a model of its own: a class, a factory of torchvision or timm, a file; not a wrapper."""
    call = _chain(value)
    if not isinstance(call, ast.Call):
        return False
    path = script.dotted(call.func)
    last = path.rpartition(".")[2]
    if last in MODEL_WRAPPERS or "Parallel" in last:
        return bool(call.args) and _is_fresh_model(script, call.args[0])
    if "Wrapper" in last or last == "Model":
        return False
    if any(is_a_model(script, one) for one in _named_in(call)):
        return False
    is_class = last[:1].isupper() or any(getattr(one, "name", "") == path for one in script.nodes.get(ast.ClassDef, ()))
    return is_class or bool(_FACTORY.match(last)) or path.startswith("torchvision.models.") or path == "torch.load"


def _named_in(call: ast.Call) -> Iterator[ast.expr]:
    """Yield the names and attributes in the arguments of a call, those that are called themselves left out."""
    pending: list[ast.AST] = [*call.args, *call.keywords]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Name | ast.Attribute):
            yield node
        elif isinstance(node, ast.Call):
            pending += [*node.args, *node.keywords]
            continue
        pending += ast.iter_child_nodes(node)


def is_a_model(script: Script, node: ast.expr) -> bool:
    """Whether an expression is a name that the script runs, asks for parameters, moves or switches to training."""
    path = script.dotted(node)
    if not path:
        return False
    return path in script.called or any(f"{path}.{method}" in script.called for method in QUIET)


def _has_parameters(script: Script, value: ast.expr) -> bool:
    """Whether an expression builds layers that have parameters of their own."""
    classes = {node.name for node in script.nodes.get(ast.ClassDef, ()) if isinstance(node, ast.ClassDef)}
    for one in ast.walk(value):
        if isinstance(one, ast.Call):
            path = script.dotted(one.func)
            last = path.rpartition(".")[2]
            if WITH_PARAMETERS.match(last) and ("nn" in path.split(".") or path.startswith("torch")):
                return True
            if last in classes and one is value:
                return True
    return False


def _is_quiet(script: Script, node: ast.AST) -> bool:
    """Whether a use of a model's name is a method that does not run it, or a test of what it is."""
    parent = script.parents.get(node)
    if isinstance(parent, ast.Attribute) and parent.attr in QUIET:
        return isinstance(script.parents.get(parent), ast.Call)
    return isinstance(parent, ast.Call) and isinstance(parent.func, ast.Name) and parent.func.id in ("print", "len", "type")


def _is_stored_whole(made: Construction) -> bool:
    """Whether the optimizer is given `model.parameters()` as it is, or filtered, and nothing beside it."""
    held = made.parameters
    if isinstance(held, ast.Call) and isinstance(held.func, ast.Name) and held.func.id in ("filter", "list") and held.args:
        held = held.args[-1]
    elif isinstance(held, ast.ListComp | ast.GeneratorExp) and len(held.generators) == 1:
        held = held.generators[0].iter
    return isinstance(held, ast.Call) and isinstance(held.func, ast.Attribute) and held.func.attr == "parameters"


def _word(name: str) -> str:
    """Return what an optimizer's name says of its model: "optimizer_D" -> "d", "opt" -> ""."""
    return _OPTIMIZER_WORD.sub("", name.rpartition(".")[2]).strip("_").lower()


def _is_named_after(word: str, model: str) -> bool:
    """Whether a word names a model: "d" of "netD" and "discriminator", "gen" of "generator"."""
    plain = re.sub(r"^_+|_?(?:net|model|network)_?", "", model.rpartition(".")[2].lower()) or model.rpartition(".")[2].lower()
    return bool(word) and (plain == word or plain.startswith(word) or word.startswith(plain))


def _models_named(script: Script, word: str) -> set[str]:
    """Return the models that a script runs and a word names: built here, told to train, or kept by the object that runs them."""
    named = {one for one in script.called if one and not _FOLLOWS.search(one) and _is_named_after(word, one)}
    return {
        one
        for one in named
        if any(f"{one}.{method}" in script.called for method in ("train", "zero_grad"))
        or _is_kept_parameter(script, one)
        or any(value is not None and _is_fresh_model(script, value) for value in _values(script, one))
    }


def _is_kept_parameter(script: Script, path: str) -> bool:
    """Whether an attribute of an object is a parameter of the function that sets it: `self.critic = critic`."""
    if not path.startswith("self."):
        return False
    return any(isinstance(value, ast.Name) and script.bound(value) == [None] for value in _values(script, path))


@lru_cache(maxsize=4)
def _freezes(script: Script) -> dict[str, list[ast.stmt]]:
    """Return the statements that freeze each model as a whole: a loop over its parameters, `requires_grad_(False)`."""
    found: dict[str, list[ast.stmt]] = {}
    for node in script.nodes.get(ast.For, ()):
        match node:
            case ast.For(
                target=ast.Name(id=name) | ast.Tuple(elts=[_, ast.Name(id=name)]),
                iter=ast.Call(func=ast.Attribute(value=held, attr="parameters" | "named_parameters"), args=[]),
                body=[
                    ast.Assign(
                        targets=[ast.Attribute(value=ast.Name(id=frozen), attr="requires_grad")], value=ast.Constant(value=False)
                    )
                ],
            ) if name == frozen:
                found.setdefault(script.dotted(held), []).append(node)
    for call in script.calls.get("requires_grad_", ()):
        if script.constant(script.argument(call, "requires_grad", 0)) is False:
            model = script.dotted(call.func).removesuffix("requires_grad_").rstrip(".")
            found.setdefault(model, []).append(script.statement(call))
    return found


def _uses(script: Script, model: str, function: ast.AST | None) -> Iterator[ast.AST]:
    """Yield the uses of a model in a function."""
    for node in (*script.nodes.get(ast.Name, ()), *script.nodes.get(ast.Attribute, ())):
        if script.dotted(node) == model and script.function(node) is function:
            yield node


def _is_certain(script: Script, statement: ast.AST, node: ast.AST) -> bool:
    around = set(script.above(node))
    return all(p in around for p in script.above(statement) if isinstance(p, (ast.If, ast.Try, ast.Match, *LOOPS)))
