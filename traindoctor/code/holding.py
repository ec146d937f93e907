"""Which parameters an optimizer holds, and whether they are those that the script trains.

An optimizer holds the parameter objects that it was given. A model that is built anew, or a layer that is put in another's
place, has other ones. Moving, casting and wrapping a model keep them.

Source: PyTorch documentation, torch.optim, "Constructing it"; torch.nn.Module.to and .cuda (both in place).
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.code.names import MODEL_WRAPPERS, SAME_OBJECT
from traindoctor.code.script import LOOPS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.constructors import Construction
    from traindoctor.code.script import Script

#: Layers of torch.nn that have parameters.
WITH_PARAMETERS = re.compile(
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
_LOOKS_ON = re.compile(
    r"sched|lr|save|print|log|len|id|state|watch|warm|plateau|annealing|isinstance|append|scaler", re.IGNORECASE
)
_FACTORY = re.compile(r"(build|create|make|get|load)_?\w*(model|net)|create_model|from_pretrained", re.IGNORECASE)
#: Models that are updated from another one.
_FOLLOWS = re.compile(r"target|teacher|ema|frozen|copy|old|ref", re.IGNORECASE)
_THAWS = re.compile(r"requires_grad(_\((?!\s*False)|\s*=(?!\s*False|=))|unfreez|thaw|trainable|peft|lora", re.IGNORECASE)
_OPTIMIZER_WORD = re.compile(r"_?(optimi[sz]ers?|optim|opt|solver|trainer)_?", re.IGNORECASE)


#: Steps of one optimizer that are looked at: a script that writes out more is made by a program.
MAX_STEPS = 16


class Replaced(NamedTuple):
    """A statement that gives a model other parameters after its optimizer was built; `layer`: of a part of it alone."""

    node: ast.Assign
    model: str
    layer: bool
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
    scope = [s for s in script.nodes.get(ast.Assign, ()) if isinstance(s, ast.Assign) and script.function(s) is function]
    after = [s for s in scope if _is_after(s, made.node)]
    rebuilt = [
        s
        for s in after
        if any(name == one for target in s.targets for one in _paths(script, target)) and not _mentions(script, s.value, name)
    ]
    if any(script.dotted(c.func).rpartition(".")[0] == name for c in script.calls.get("add_param_group", ())):
        return
    for statement in after:
        if len(statement.targets) != 1 or script.loops(statement) != script.loops(made.node):
            continue
        target = _place(script, statement.targets[0])
        model = next((m for m in made.models if target == m or target.startswith((f"{m}.", f"{m}["))), "")
        if not model or not isinstance(statement.value, ast.Call):
            continue
        if any(_is_after(one, statement) for one in rebuilt) or _mentions(script, statement.value, model):
            continue
        layer = target != model
        if not (_has_parameters(script, statement.value) if layer else _is_fresh_model(script, statement.value)):
            continue
        if not _is_used(script, name, statement, function):
            continue
        conditions = set(script.above(made.node))
        branches = [p for p in script.above(statement) if isinstance(p, ast.If | ast.Try | ast.Match) and p not in conditions]
        yield Replaced(statement, model, layer, not branches)


def is_never_run(made: Construction) -> str:
    """Return the one model that an optimizer holds, where the script steps that optimizer and never runs that model; else ""."""
    script, name = made.script, name_of(made)
    if not name or len(made.models) != 1 or not script.calls.get("backward") or not _is_stepped(script, name):
        return ""
    (model,) = made.models
    if model.startswith("self.") or "." in model or _is_stored_whole(made) is False:
        return ""
    values = [value for value in _values(script, model) if value is not None]
    if len(values) != 1 or not isinstance(values[0], ast.Call) or not _is_fresh_model(script, values[0]):
        return ""
    for node in script.nodes.get(ast.Name, ()):
        if isinstance(node, ast.Name) and node.id == model and isinstance(node.ctx, ast.Load) and not _is_quiet(script, node):
            return ""
    others = [made_too for made_too in script.constructions if made_too is not made and model in made_too.models]
    return "" if others else model


def mixed_up(script: Script) -> Iterator[tuple[Construction, str, str]]:
    """Yield each optimizer that by its name is for another model than it holds, which no optimizer, or the wrong one, holds.

    With the model that it holds and the one that it is named after.
    """
    whole = [(made, name_of(made)) for made in script.constructions]
    whole = [(made, name) for made, name in whole if name and len(made.models) == 1 and _is_stored_whole(made)]
    for made, name in whole:
        (held,) = made.models
        word = _word(name)
        if not word or _is_named_after(word, held):
            continue
        rivals = [
            (other, other_name)
            for other, other_name in whole
            if other is not made and script.function(other.node) is script.function(made.node) and _word(other_name) != word
        ]
        twins = [
            other_name for other, other_name in rivals if other.models == made.models and _is_named_after(_word(other_name), held)
        ]
        swapped = {
            next(iter(other.models))
            for other, other_name in rivals
            if _is_named_after(_word(other_name), held) and _is_named_after(word, next(iter(other.models)))
        }
        meant = swapped if not twins else _models_named(script, word) - {m for one in script.constructions for m in one.models}
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
    (model,) = made.models
    steps = [step for step in script.calls.get("step", ()) if script.dotted(step.func) == f"{name}.step"]
    for step in steps[:MAX_STEPS]:
        if script.function(step) is not script.function(made.node) and not name.startswith("self."):
            continue
        block = _block_of(script, step)
        before = block[: block.index(script.statement(step))] if block else []
        cleared = max(
            (n for n, s in enumerate(before) if _calls(script, s, f"{name}.zero_grad", f"{model}.zero_grad")), default=-1
        )
        losses = [
            call
            for statement in before[cleared + 1 :]
            for call in ast.walk(statement)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "backward"
        ]
        if cleared >= 0 and len(losses) == 1 and not losses[0].args and not _may_depend(script, losses[0], model):
            return losses[0]
    return None


def freezing(made: Construction) -> ast.stmt | None:
    """Return the statement that freezes every parameter of all that an optimizer holds, where nothing thaws one; else None."""
    script = made.script
    if len(made.models) != 1 or not _is_stored_whole(made) or _THAWS.search(script.text):
        return None
    (model,) = made.models
    function = script.function(made.node)
    for statement in _freezes(script, model):
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


def _block_of(script: Script, node: ast.AST) -> list[ast.stmt]:
    """Return the statements among which the statement of a node stands."""
    statement = script.statement(node)
    parent = script.parents[statement]
    return next((b for b in (getattr(parent, f, None) for f in ("body", "orelse", "finalbody")) if b and statement in b), [])


def _calls(script: Script, statement: ast.stmt, *paths: str) -> bool:
    return (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and script.dotted(statement.value.func) in paths
    )


def _may_depend(script: Script, backward: ast.Call, model: str) -> bool:
    """Whether the loss of a backward pass may depend on the parameters of a model, as far as the text tells.

    What is detached, and what is computed without gradients, does not. An expression that may hide the model does.
    """
    assert isinstance(backward.func, ast.Attribute)
    pending: list[ast.AST] = [backward.func.value]
    seen: set[str] = set()
    models = {m for made in script.constructions for m in made.models} - {model}
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
                not script.bound(node.func) and name not in script.imports and _is_of_file(script, name)
            ):
                return True
            case ast.Attribute() | ast.Name():
                path = script.dotted(node)
                if (path + ".").startswith(f"{model}.") or path in ("self", "locals", "globals"):
                    return True
                parent = script.parents.get(node)
                is_called = isinstance(parent, ast.Call) and parent.func is node
                if is_called and path.startswith("self.") and path not in models and not any(_values(script, path)):
                    return True  # a method of the object, which may run the model
                runs_another = runs_another or path in models or (is_called and by_name and script.bound(node) == [None])
                if path in seen:
                    continue
                seen.add(path)
                if isinstance(node, ast.Attribute) and not _values(script, path):
                    pending.append(node.value)
                    continue
                values = _values(script, path) if isinstance(node, ast.Attribute) else _values_of_name(script, node, backward)
                if None in values:
                    return True
                pending += [value for value in values if value is not None]
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


def _values_of_name(script: Script, node: ast.Name, at: ast.AST) -> list[ast.expr | None]:
    """Return what a name is bound to in the function of a node, save where gradients are off; None for what is not followed."""
    function = script.function(at)
    found: list[ast.expr | None] = []
    for one in script.all(ast.Assign, ast.AugAssign):
        targets = one.targets if isinstance(one, ast.Assign) else [one.target]  # type: ignore[attr-defined]
        if script.function(one) is not function or not any(node.id in _paths(script, target) for target in targets):
            continue
        if not _without_gradients(script, one):
            found.append(one.value)  # type: ignore[attr-defined]
    return found


def _runs(script: Script, model: str) -> list[ast.Call]:
    """Return the calls that run a model."""
    return [call for call in script.calls.get(model.rpartition(".")[2], ()) if script.dotted(call.func) == model]


def _without_gradients(script: Script, node: ast.AST) -> bool:
    return any(
        isinstance(one, ast.With) and any("no_grad" in script.source(item.context_expr) for item in one.items)
        for one in script.above(node)
    )


def _is_of_file(script: Script, name: str) -> bool:
    return any(getattr(one, "name", "") == name for one in script.all(ast.FunctionDef, ast.ClassDef))


def _place(script: Script, target: ast.AST) -> str:
    """Return the path of what is assigned to, a subscript as "[]" at its end: `model.classifier[6]` -> "model.classifier[]"."""
    return f"{_place(script, target.value)}[]" if isinstance(target, ast.Subscript) else script.dotted(target)


def _values(script: Script, path: str) -> list[ast.expr | None]:
    """Return what a path is bound to anywhere in the script, tuples taken apart, None for what is not followed."""
    found: list[ast.expr | None] = []
    for node in script.nodes.get(ast.Assign, ()):
        assert isinstance(node, ast.Assign)
        for target in node.targets:
            if script.dotted(target) == path:
                found.append(node.value)
            elif path in (paths := _paths(script, target)):
                values = getattr(node.value, "elts", [])
                found.append(values[paths.index(path)] if len(values) == len(paths) else None)
    return found


def _mentions(script: Script, node: ast.AST, path: str) -> bool:
    head = path.partition(".")[0]
    roots = [one for one in ast.walk(node) if isinstance(one, ast.Name) and one.id == head and head not in script.imports]
    return bool(roots) and any(
        isinstance(one, ast.Name | ast.Attribute) and (script.dotted(one) + ".").startswith(f"{path}.") for one in ast.walk(node)
    )


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
    return any(
        script.dotted(call.func) == f"{name}.step" or any(script.dotted(one) == name for one in call.args)
        for call in script.calls.get("step", ())
    )


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
    head, _, last = path.rpartition(".")
    if any(script.dotted(call.func) == path for call in script.calls.get(last or head, ())):
        return True
    return any(script.dotted(call.func) == f"{path}.{method}" for method in QUIET for call in script.calls.get(method, ()))


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
    run = {script.dotted(call.func) for call in script.nodes.get(ast.Call, ()) if isinstance(call, ast.Call)}
    named = {one for one in run if one and not _FOLLOWS.search(one) and _is_named_after(word, one)}
    told = {
        script.dotted(call.func).rpartition(".")[0] for method in ("train", "zero_grad") for call in script.calls.get(method, ())
    }
    return {
        one
        for one in named
        if one in told
        or _is_kept_parameter(script, one)
        or any(value is not None and _is_fresh_model(script, value) for value in _values(script, one))
    }


def _is_kept_parameter(script: Script, path: str) -> bool:
    """Whether an attribute of an object is a parameter of the function that sets it: `self.critic = critic`."""
    if not path.startswith("self."):
        return False
    return any(isinstance(value, ast.Name) and script.bound(value) == [None] for value in _values(script, path))


def _freezes(script: Script, model: str) -> Iterator[ast.stmt]:
    """Yield the statements that freeze a whole model: a loop over its parameters, `requires_grad_(False)`."""
    for node in script.nodes.get(ast.For, ()):
        match node:
            case ast.For(
                target=ast.Name(id=name),
                iter=ast.Call(func=ast.Attribute(value=held, attr="parameters"), args=[]),
                body=[
                    ast.Assign(
                        targets=[ast.Attribute(value=ast.Name(id=frozen), attr="requires_grad")], value=ast.Constant(value=False)
                    )
                ],
            ) if name == frozen and script.dotted(held) == model:
                yield node
    for call in script.calls.get("requires_grad_", ()):
        if (
            script.dotted(call.func) == f"{model}.requires_grad_"
            and script.constant(script.argument(call, "requires_grad", 0)) is False
        ):
            yield script.statement(call)


def _uses(script: Script, model: str, function: ast.AST | None) -> Iterator[ast.AST]:
    """Yield the uses of a model in a function."""
    for node in (*script.nodes.get(ast.Name, ()), *script.nodes.get(ast.Attribute, ())):
        if script.dotted(node) == model and script.function(node) is function:
            yield node


def _is_certain(script: Script, statement: ast.AST, node: ast.AST) -> bool:
    around = set(script.above(node))
    return all(p in around for p in script.above(statement) if isinstance(p, (ast.If, ast.Try, ast.Match, *LOOPS)))
