"""What the constructor of a learning-rate scheduler says: which one it is, and whether it counts epochs or batches.

Source: the signatures in the documentation of torch.optim.lr_scheduler and of transformers.get_scheduler.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Literal, NamedTuple

from traindoctor.code.names import PREPARES
from traindoctor.code.script import UNKNOWN
from traindoctor.code.values import Scheduler
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.events import TracedEvent, TracedLoop
    from traindoctor.code.script import Script

#: Ways in which one name may be bound: where a script has more, it is not known what the name stands for.
MAX_WAYS = 32
Unit = Literal["epochs", "batches", ""]

#: Argument that holds the horizon of a scheduler, with its position.
HORIZONS: dict[str, tuple[tuple[str, int], ...]] = {
    "StepLR": (("step_size", 1),),
    "MultiStepLR": (("milestones", 1),),
    "ConstantLR": (("total_iters", 2),),
    "LinearLR": (("total_iters", 3),),
    "PolynomialLR": (("total_iters", 1),),
    "CosineAnnealingLR": (("T_max", 1),),
    "CosineAnnealingWarmRestarts": (("T_0", 1),),
    "SequentialLR": (("milestones", 2),),
    "OneCycleLR": (("steps_per_epoch", 4), ("total_steps", 2)),
    "CyclicLR": (("step_size_up", 3),),
    "get_scheduler": (("num_training_steps", 3),),
    "get_linear_schedule_with_warmup": (("num_training_steps", 2),),
    "get_cosine_schedule_with_warmup": (("num_training_steps", 2),),
    "get_cosine_with_hard_restarts_schedule_with_warmup": (("num_training_steps", 2),),
    "get_polynomial_decay_schedule_with_warmup": (("num_training_steps", 2),),
    "get_wsd_schedule": (("num_training_steps", 4),),
    "get_constant_schedule_with_warmup": (),
    "get_constant_schedule": (),
    "get_inverse_sqrt_schedule": (),
    "ExponentialLR": (),
    "LambdaLR": (),
    "MultiplicativeLR": (),
    "ReduceLROnPlateau": (),
    "ChainedScheduler": (),
}
#: Schedulers whose rate stays where it was built, so that a step of them changes nothing.
FLAT = frozenset({"get_constant_schedule"})

_BATCHES = lazy(r"step|iter|batch|update|len|per_epoch|epoch_size|token|sample", re.IGNORECASE)
_EPOCHS = lazy(r"epoch", re.IGNORECASE)
#: Functions that hand on the unit of what they are given.
_SAME_UNIT = frozenset({"int", "float", "round", "max", "min", "abs", "ceil", "floor", "list", "tuple", "range", "sorted"})


def kind_of(script: Script, call: ast.AST | None) -> str:
    """Return the name of the scheduler of PyTorch or transformers that a call builds; "" for any other node."""
    if not isinstance(call, ast.Call):
        return ""
    full = script.dotted(call.func)
    top, _, name = full.rpartition(".")
    if name not in HORIZONS:
        return ""
    if top:
        return name if top.split(".")[0] in ("torch", "optim", "lr_scheduler", "transformers", "diffusers", "accelerate") else ""
    return name if not _defined(script, name) and _star_import(script) else ""


def scheduler_calls(script: Script) -> Iterator[tuple[str, ast.Call]]:
    """Yield the schedulers that a script builds, with their names."""
    for name in HORIZONS.keys() & script.calls.keys():
        for call in script.calls[name]:
            if kind_of(script, call):
                yield name, call


def kinds(script: Script, receiver: ast.AST) -> set[str]:
    """Return the schedulers that a name or attribute may stand for, "" among them where one is not known; empty when unbound."""
    return {kind_of(script, value) for value in _built_values(script, receiver)}


def prepared_as(script: Script, call: ast.Call, position: int) -> ast.expr | None:
    """Return what the argument at a position of `accelerator.prepare(...)` is bound to after it; None where that is not seen."""
    statement = script.parents.get(call)
    if not isinstance(statement, ast.Assign) or statement.value is not call or len(statement.targets) != 1:
        return None
    target = statement.targets[0]
    if isinstance(target, ast.Tuple | ast.List):
        return target.elts[position] if len(target.elts) == len(call.args) else None
    return target if len(call.args) == 1 else None


def _built_values(script: Script, receiver: ast.AST) -> list[ast.expr | None]:
    """Return what a name or attribute is bound to, but for None and for what prepare gives back for the same name.

    None alone where it is bound in more than MAX_WAYS.
    """
    bound = script.bound(receiver)
    if len(bound) > MAX_WAYS:
        return [None]
    values = [v for v in bound if not (isinstance(v, ast.Constant) and v.value is None)]
    name = script.dotted(receiver)
    for way in PREPARES & script.calls.keys():
        for call in script.calls[way]:
            for position, given in enumerate(call.args):
                target = prepared_as(script, call, position)
                if target is not None and script.dotted(given) == name == script.dotted(target):
                    again = None if isinstance(script.statement(call).targets[0], ast.Tuple | ast.List) else call  # type: ignore[attr-defined]
                    if again in values:
                        values.remove(again)
    return values


class Horizon(NamedTuple):
    """How long a schedule is: the argument that says so, its unit ("" where only a number is known), and the number if known."""

    name: str
    node: ast.expr
    unit: Unit
    number: float | None


def horizon(script: Script, kind: str, call: ast.Call) -> Horizon | None:
    """Return the horizon of a scheduler; None where none is given."""
    for name, position in HORIZONS.get(kind, ()):
        node = script.argument(call, name, position)
        if node is None or (isinstance(node, ast.Constant) and node.value is None):
            continue
        unit: Unit = "batches" if name == "steps_per_epoch" else unit_of(script, node)
        value = script.constant(node)
        if isinstance(value, tuple) and value and all(isinstance(v, int | float) for v in value):
            value = max(value)
        if name == "steps_per_epoch" and value == 1:
            unit = "epochs"
        return Horizon(name, node, unit, value if isinstance(value, int | float) and not isinstance(value, bool) else None)
    if kind in ("LambdaLR", "MultiplicativeLR"):
        function = script.argument(call, "lr_lambda", 1)
        body = lambda_of(script, function)
        if function is not None and body is not None:
            unit = _unit_of_names(_names(script, body.body, {a.arg for a in body.args.args}))
            return Horizon("lr_lambda", function, unit, None)
    return None


def lambda_of(script: Script, node: ast.AST | None) -> ast.Lambda | None:
    """Return the lambda that an expression stands for; None for any other."""
    found = script.origin(node) if node is not None else None
    return found if isinstance(found, ast.Lambda) else None


def unit_of(script: Script, node: ast.expr) -> Unit:
    """Return what an expression counts, by the names in it: `epochs * len(loader)` batches, `args.epochs // 3` epochs.

    A name that says neither is looked up; "" where nothing is said, or not for certain.
    """
    return _unit_of_names(_names(script, node, frozenset()))


def counts_batches_surely(script: Script, found: Horizon) -> bool:
    """Return whether a horizon is a product with the length of something, or an argument that is documented to count batches."""
    return found.name in ("steps_per_epoch", "num_training_steps") or "len" in _names(script, found.node, frozenset())


def _unit_of_names(names: list[str]) -> Unit:
    if any(_BATCHES.search(name) for name in names):
        return "batches"
    return "epochs" if names and all(_EPOCHS.search(name) or "warm" in name.lower() for name in names) else ""


def _names(script: Script, node: ast.AST, parameters: frozenset[str] | set[str], depth: int = 3) -> list[str]:
    """Return the names that an expression is made of, its constants left out, unclear ones looked up."""
    found: list[str] = []
    pending: list[tuple[ast.AST, int]] = [(node, depth)]
    while pending:
        part, left = pending.pop()
        if isinstance(part, ast.Call):
            name = part.func.attr if isinstance(part.func, ast.Attribute) else getattr(part.func, "id", "?")
            if name not in _SAME_UNIT:
                found.append(name if name == "len" else f"{name}?")
                continue
            pending += [(a, left) for a in part.args]
        elif isinstance(part, ast.Name | ast.Attribute):
            name = part.attr if isinstance(part, ast.Attribute) else part.id
            if name in parameters:
                continue
            origin = script.origin(part, 1)
            says = _BATCHES.search(name) or _EPOCHS.search(name)
            if (
                origin is not part
                and left
                and not isinstance(origin, ast.Constant)
                and not (says and isinstance(origin, ast.Call))
            ):
                pending.append((origin, left - 1))
            elif not (isinstance(origin, ast.Constant) and not says):
                found.append(name)
        elif isinstance(part, ast.Subscript):
            key = part.slice.value if isinstance(part.slice, ast.Constant) else None
            found.append(key if isinstance(key, str) else "?")
        elif isinstance(part, ast.Lambda):
            found.append("?")
        else:
            pending += [(child, left) for child in ast.iter_child_nodes(part)]
    return found


def decay_per_step(script: Script, kind: str, call: ast.Call) -> float | None:
    """Return the factor by which each step of an exponential schedule lowers the rate; None where it is not a number.

    `ExponentialLR(opt, 0.95)`, `StepLR(opt, 1, 0.95)`, and `LambdaLR(opt, lambda epoch: 0.95 ** epoch)`.
    """
    if kind == "ExponentialLR" or (kind == "StepLR" and script.constant(script.argument(call, "step_size", 1)) == 1):
        value = script.constant(script.argument(call, "gamma", 1 if kind == "ExponentialLR" else 2))
    elif kind in ("LambdaLR", "MultiplicativeLR"):
        function = lambda_of(script, script.argument(call, "lr_lambda", 1))
        if function is None:
            return None
        match function.body:
            case ast.BinOp(left=base, op=ast.Pow(), right=ast.Name()) if kind == "LambdaLR":
                value = script.constant(base)
            case _:
                value = script.constant(function.body) if kind == "MultiplicativeLR" else UNKNOWN
    else:
        return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def counts_epochs(script: Script, loop: ast.AST) -> bool:
    """Return whether a loop says that it is over epochs: in its variable or its bound."""
    if isinstance(loop, ast.For | ast.AsyncFor):
        targets = {n.id for n in ast.walk(loop.target) if isinstance(n, ast.Name)}
        bound = epochs_of(loop, script)
        return any(_says_epochs(t) for t in targets) or (bound is not None and unit_of(script, bound) == "epochs")
    return isinstance(loop, ast.While) and any(
        _says_epochs(n.id if isinstance(n, ast.Name) else n.attr)
        for n in ast.walk(loop.test)
        if isinstance(n, ast.Name | ast.Attribute)
    )


def _says_epochs(name: str) -> bool:
    return bool(_EPOCHS.search(name)) and not _BATCHES.search(name)


def epochs_of(loop: ast.AST, script: Script | None = None) -> ast.expr | None:
    """Return the end of the range that a loop runs over, wrappers like tqdm looked through; None for any other loop.

    `script`: the file of the loop, in which a name for the range is looked up.
    """
    node: ast.AST | None = loop.iter if isinstance(loop, ast.For | ast.AsyncFor) else None
    if script is not None and isinstance(node, ast.Name):
        node = script.origin(node)
    for _ in range(3):
        if not isinstance(node, ast.Call) or not node.args:
            return None
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in ("range", "trange", "arange"):
            return node.args[min(1, len(node.args) - 1)]
        node = node.args[0]
    return None


class Built(NamedTuple):
    """A scheduler where it is built."""

    kind: str
    call: ast.Call
    script: Script


def steps_of_schedulers(script: Script) -> Iterator[tuple[TracedEvent, list[Built]]]:
    """Yield the calls of `scheduler.step()` without an argument, with all that the scheduler may be.

    None where a scheduler that it may be is not known.
    """
    for event in script.trace.events():
        call = event.node
        if event.kind != "scheduler_step" or not isinstance(call, ast.Call) or call.args or call.keywords:
            continue
        built = built_as(event)
        if built:
            yield event, built


def built_as(event: TracedEvent) -> list[Built]:
    """Return what a scheduler that is stepped may be: where its name is bound in one of several ways, each of them."""
    thing = event.thing
    if not isinstance(thing, Scheduler) or thing.node is None or thing.script is None:
        return []
    owner = thing.script
    calls = [thing.node]
    statement = owner.statement(thing.node)
    if isinstance(statement, ast.Assign) and statement.value is thing.node:
        target = statement.targets[0]
        values = _built_values(owner, target)
        calls = [v for v in values if isinstance(v, ast.Call)] if thing.node in values else calls
        if values == [None] or (len(calls) < len(values) and thing.node in values):
            return []
    built = [Built(kind_of(owner, call), call, owner) for call in calls]
    return built if all(one.kind for one in built) else []


def batch_loop(event: TracedEvent) -> TracedLoop | None:
    """Return the innermost loop around an event where an optimizer steps in that loop itself, so that it is one of batches.

    None where each of its rounds is an epoch, as in training on one full batch, or a phase such as "train" and "val".
    """
    loop = event.loops[-1] if event.loops else None
    if loop is None or loop.node is None or counts_epochs(loop.script, loop.node) or _is_over_a_list(loop.node):
        return None
    kinds_of_calls = {other.kind for other in loop.flat()}
    return loop if "backward" in kinds_of_calls and any(other.kind == "step" for other in loop.own()) else None


def loop_of_loops(event: TracedEvent) -> TracedLoop | None:
    """Return the innermost loop around an event where optimizers step in loops within it only, so that it repeats passes.

    None where it goes through data itself, and the loops within it do several steps for each batch.
    """
    loop = event.loops[-1] if event.loops else None
    if loop is None or loop.node is None or any(other.kind == "step" for other in loop.own()):
        return None
    if not counts_epochs(loop.script, loop.node):
        bound = epochs_of(loop.node, loop.script)
        if bound is None or unit_of(loop.script, bound) == "batches" or _targets_batches(loop.node):
            return None
    return loop if any(other.kind == "step" for inner in loop.inner() for other in inner.own()) else None


def _is_over_a_list(loop: ast.AST) -> bool:
    """Return whether a loop goes through a list that is written out."""
    return isinstance(loop, ast.For | ast.AsyncFor) and isinstance(loop.iter, ast.List | ast.Tuple)


def _targets_batches(loop: ast.AST) -> bool:
    """Return whether the variable of a loop is called after steps or batches."""
    return isinstance(loop, ast.For) and isinstance(loop.target, ast.Name) and bool(_BATCHES.search(loop.target.id))


def _defined(script: Script, name: str) -> bool:
    """Return whether the file itself defines a class or function of this name."""
    return any(node.name == name for node in script.all(ast.ClassDef, ast.FunctionDef))  # type: ignore[attr-defined]


def _star_import(script: Script) -> bool:
    """Return whether the file imports every name of a library of schedulers."""
    return any(
        alias.name == "*" and (node.module or "").startswith(("torch.optim", "transformers"))  # type: ignore[attr-defined]
        for node in script.nodes.get(ast.ImportFrom, ())
        for alias in node.names  # type: ignore[attr-defined]
    )
