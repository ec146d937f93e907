"""The walk through a script: which calls on which optimizer one iteration of each loop makes, in what order.

Nothing is executed. Names are followed from where an optimizer is built, through assignments, attributes of `self`,
tuples and the parameters of functions of the same file. What a function of the same file does is written in the place
of its call. A branch that may not be taken is kept with its condition, so that `order` can go through every path.
"""

from __future__ import annotations

import ast
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from traindoctor.model import Location, LoopEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: How many calls deep functions of the file are followed, from the module's own statements on.
DEPTH = 8
#: Nodes of the syntax tree looked at in one file, callees again at each call; above it callees are no longer followed.
BUDGET = 400_000

Branch: TypeAlias = tuple[tuple[str, bool], ...]
FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

# fmt: off
OPTIMIZERS = frozenset({
    "Adam", "AdamW", "SGD", "Adagrad", "Adadelta", "RMSprop", "Rprop", "ASGD", "LBFGS", "NAdam", "RAdam", "SparseAdam",
    "Adamax", "Adafactor", "Lion", "LAMB", "Lamb", "LARS", "Muon", "Shampoo", "SOAP", "FusedAdam", "FusedLAMB", "FusedSGD",
    "Adam8bit", "AdamW8bit", "Lion8bit", "PagedAdamW", "PagedAdamW8bit", "Prodigy", "DAdaptAdam", "DAdaptSGD", "AdaBelief",
    "AdaBound", "Ranger", "Sophia", "SophiaG", "AdamWScheduleFree", "SGDScheduleFree", "RAdamScheduleFree",
    "ZeroRedundancyOptimizer",
})
# fmt: on
#: Wrappers that hand on the optimizer they are given.
WRAPPERS = frozenset({"DistributedOptimizer", "Lookahead", "FP16_Optimizer", "ZeroRedundancyOptimizer", "OptimizerWrapper"})
MODEL_WRAPPERS = frozenset({"DataParallel", "DistributedDataParallel", "DDP", "FSDP", "FullyShardedDataParallel", "compile"})
SAME_OBJECT = frozenset(
    {"to", "cuda", "cpu", "train", "eval", "half", "float", "double", "bfloat16", "requires_grad_", "apply", "compile"}
)
#: Methods of an optimizer that neither step nor touch a gradient.
# fmt: off
QUIET_METHODS = frozenset({
    "state_dict", "load_state_dict", "add_param_group", "register_state_dict_pre_hook", "train", "eval", "synchronize",
    "no_sync", "consolidate_state_dict", "items", "keys", "get", "values", "append", "swap_swa_sgd", "update_swa",
    "__repr__", "copy",
})
# fmt: on
#: Functions that are given an optimizer and do not clear its gradients, by what their name says.
HARMLESS = re.compile(
    r"^(print|len|id|type|isinstance|repr|str|vars|hasattr|getattr|zip|enumerate|list|tuple|dict|set|iter|next|partial|reversed|sorted)$"
    r"|lr|learning_rate|sched|warm|log|save|load|checkpoint|watch|clip|info|debug|lambda|master_params|append|resume|format|scale_loss|add_scalar",
    re.IGNORECASE,
)
CLEARING_NAME = re.compile(r"(zero|clear|reset|flush).*grad|cleargrads|clear_grad", re.IGNORECASE)
CALLS_BACK = re.compile(r"^(call|run|fire|trigger|dispatch)_?(hooks?|events?|callbacks?)$", re.IGNORECASE)
OPT_NAME = re.compile(r"opt", re.IGNORECASE)
SCHEDULER_NAME = re.compile(r"sched|warmup|(^|_)lrs?($|_)|plateau", re.IGNORECASE)
KNOWN_BASES = frozenset({"object", "Module", "ABC", "Generic", "Protocol", "Callable", "Dataset", "NamedTuple", "Exception"})
PREPARES = frozenset({"prepare", "setup", "setup_optimizers", "prepare_optimizer"})
HOOKS = frozenset(
    {
        "register_post_accumulate_grad_hook",
        "register_step_post_hook",
        "register_step_pre_hook",
        "register_optimizer_step_post_hook",
    }
)


@dataclass(frozen=True, slots=True)
class TracedEvent(LoopEvent):
    """A call with the conditions it stands under: (test, value) from the outside in."""

    branch: Branch = ()


@dataclass(eq=False, slots=True)
class LoopNode:
    """One loop, or one root of the walk (`node` None), with what happens in one iteration, in order."""

    node: ast.For | ast.AsyncFor | ast.While | None
    items: list[TracedEvent | LoopNode] = field(default_factory=list)
    unsure: list[str] = field(default_factory=list)
    rebuilt: set[str] = field(default_factory=set)  # optimizers that are built in the loop
    bound: set[str] = field(default_factory=set)  # names and attributes that get a new value in the loop

    def flat(self) -> Iterator[TracedEvent]:
        """Yield the events of one iteration, each nested loop entered once."""
        for item in self.items:
            if isinstance(item, LoopNode):
                yield from item.flat()
            else:
                yield item


# -- what a name can stand for ----------------------------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Thing:
    """Anything that is no optimizer: `role` "scheduler", "scaler", "accelerator", "engine", "parameters" or "".

    `id`: the path it goes by, None for a loop variable, which is another thing in each iteration. `holds`: the models
    or tensors whose parameters it iterates over.
    """

    role: str = ""
    id: str | None = None
    holds: frozenset[str] | None = None


@dataclass(eq=False, slots=True)
class Optimizer:
    """An optimizer: the name it goes by, what it holds (None: not known), and the loop that builds it."""

    constructor: str
    holds: frozenset[str] | None = None
    id: str | None = None
    born: tuple[LoopNode, ...] = ()
    doubt: str = ""


@dataclass(eq=False, slots=True)
class Function:
    """A function of the file with the names it sees."""

    node: FunctionNode
    env: Env
    owner: Instance | None = None


@dataclass(eq=False, slots=True)
class Class:
    """A class of the file."""

    node: ast.ClassDef
    env: Env


@dataclass(eq=False, slots=True)
class Instance:
    """An object of a class of the file."""

    of: Class
    attributes: dict[str, Value] = field(default_factory=dict)
    id: str | None = None


@dataclass(eq=False, slots=True)
class Group:
    """A tuple or list whose elements are known."""

    items: tuple[Value, ...]


Value: TypeAlias = Thing | Optimizer | Function | Class | Instance | Group | None


@dataclass(eq=False, slots=True)
class Env:
    """The names that a function sees."""

    names: dict[str, Value] = field(default_factory=dict)
    parent: Env | None = None

    def find(self, name: str) -> tuple[bool, Value]:
        """Return whether the name is bound, and to what."""
        env: Env | None = self
        while env is not None:
            if name in env.names:
                return True, env.names[name]
            env = env.parent
        return False, None


# -- the walk ---------------------------------------------------------------------------------------------------------


class Walk:
    """Walks a module and every function that the module's own statements do not reach."""

    def __init__(self, tree: ast.Module, source: str, file: str) -> None:
        self.file = file
        self.lines = source.split("\n")
        self.tree = tree
        self.roots: list[LoopNode] = []
        self.frames: list[LoopNode] = [LoopNode(None)]
        self.branch: Branch = ()
        self.stack: list[FunctionNode] = []
        self.loop_depth: list[int] = []
        self.returned: list[list[Value]] = []
        self.writes: dict[str, int] = {}
        self.visited: set[ast.AST] = set()
        self.optimizers: list[Optimizer] = []
        self.cleared: set[ast.AST] = set()
        self.left = BUDGET
        self.module = Env()
        self.stale = _engines(tree)

    def run(self) -> list[LoopNode]:
        """Return the roots: the module, then each function that nothing in the file called."""
        self._root(lambda: self.block(self.tree.body, self.module))
        called = _called(self.tree)
        pending = list(_functions(self.tree))
        pending.sort(key=lambda found: found[0].name in called)
        for node, owner in pending:
            if node not in self.visited and any(isinstance(n, ast.For | ast.AsyncFor | ast.While) for n in ast.walk(node)):
                self._root(lambda node=node, owner=owner: self._call_unknown(node, owner))  # type: ignore[misc]
        return self.roots

    def _root(self, walk: Callable[[], object]) -> None:
        self.frames, self.branch, self.stack, self.loop_depth = [LoopNode(None)], (), [], []
        self.returned = []
        root = self.frames[0]
        walk()
        self.roots.append(root)

    def _call_unknown(self, node: ast.FunctionDef | ast.AsyncFunctionDef, owner: ast.ClassDef | None) -> None:
        instance = None
        if owner is not None:
            instance = self._imagined(Class(owner, self.module))
        self.inline(Function(node, self.module, instance), [], {})

    def _imagined(self, of: Class) -> Instance:
        """Return an object of the class with the attributes that its methods set."""
        instance = Instance(of, id="self")
        frames, branch = self.frames, self.branch
        self.frames, self.branch = [LoopNode(None)], ()
        init = self._method(of, "__init__")
        if init is not None:
            seen = init in self.visited
            self.inline(Function(init, of.env, instance), [], {})
            if not seen:
                self.visited.discard(init)
        for method in of.node.body:
            if isinstance(method, ast.FunctionDef) and method.name != "__init__" and method.args.args:
                self._attributes_set_in(method, instance, of.env)
        self.frames, self.branch = frames, branch
        return instance

    def _attributes_set_in(self, method: ast.FunctionDef, instance: Instance, env: Env) -> None:
        local = Env({method.args.args[0].arg: instance}, env)
        for node in ast.walk(method):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                for target in node.targets:
                    if isinstance(target, ast.Attribute) and instance.attributes.get(target.attr) is None:
                        value = self._constructed(node.value, local)
                        if value is not None:
                            self.bind(target, value, local)

    # -- statements

    def block(self, body: Sequence[ast.stmt], env: Env) -> str:
        """Walk statements; return how the block ends for sure: "continue", "return", "exit", or "" when it goes on."""
        before = self.branch
        ends = ""
        for statement in body:
            ends = self.statement(statement, env)
            if ends:
                break
        self.branch = before
        return ends

    def statement(self, node: ast.stmt, env: Env) -> str:
        """Walk one statement; return how it ends the block, as `block` does."""
        self.left -= 1
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                env.names[node.name] = Function(node, env)
            case ast.ClassDef():
                env.names[node.name] = Class(node, env)
            case ast.Assign():
                self._assign(node.targets, node.value, env)
            case ast.AnnAssign() if node.value is not None:
                self._assign([node.target], node.value, env)
            case ast.AugAssign():
                self.value(node.value, env)
                self._written(node.target)
                if _is_grad(node.target) and _is_zero(node.value):
                    self._clears(_owner_of_grad(node.target), node.target, env)
                elif _is_grad(node.target) and not isinstance(node.op, ast.Mult | ast.Div):
                    self.doubt("gradients are changed by hand")
            case ast.Delete():
                for deleted in node.targets:
                    if _is_grad(deleted):
                        self._clears(_owner_of_grad(deleted), deleted, env)
            case ast.Return():
                value = self.value(node.value, env) if node.value is not None else None
                if self.returned and value is not None:
                    self.returned[-1].append(value)
                return "return"
            case ast.Continue():
                return "continue"
            case ast.Break() | ast.Raise():
                return "exit"
            case ast.If():
                return self._if(node, env)
            case ast.For() | ast.AsyncFor() | ast.While():
                self._loop(node, env)
            case ast.With() | ast.AsyncWith():
                for item in node.items:
                    already = len(self.frames[-1].items)
                    value = self.value(item.context_expr, env)
                    entered = LoopNode(None, self.frames[-1].items[already:])
                    steps = any(event.kind in ("backward", "step") for event in entered.flat())
                    if steps or (isinstance(value, Instance) and _trains(value.of.node)):
                        self.doubt("a context manager clears or steps")
                    if item.optional_vars is not None:
                        self.bind(item.optional_vars, value, env)
                return self.block(node.body, env)
            case ast.Try() | ast.TryStar():
                ends = self.block(node.body, env) or self.block(node.orelse, env)
                for handler in node.handlers:
                    with self.under(f"except at line {handler.lineno}", value=True):
                        caught = self.block(handler.body, env)
                    if caught == "continue" and self._has_backward():
                        self.branch = (*self.branch, (f"except at line {handler.lineno}", False))
                return self.block(node.finalbody, env) or ends
            case ast.Match():
                self.value(node.subject, env)
                for case in node.cases:
                    with self.under(f"case at line {case.pattern.lineno}", value=True):
                        self.block(case.body, env)
            case ast.Global() | ast.Nonlocal():
                for name in node.names:
                    env.names.setdefault(name, self.module.find(name)[1])
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.value(child, env)
        return ""

    def _if(self, node: ast.If, env: Env) -> str:
        self.value(node.test, env)
        if _is_main(node.test) or (_mentions_grad(node.test) and not node.orelse):
            ends = self.block(node.body, env)
            return ends if _is_main(node.test) else ""
        key, truth = self._condition(node.test)
        with self.under(key, value=truth):
            first = self.block(node.body, env)
        with self.under(key, value=not truth):
            second = self.block(node.orelse, env)
        if first and second:
            return first
        for ends, taken in ((first, truth), (second, not truth)):
            skips = ends == "continue" or (ends == "return" and self.stack and self.loop_depth[-1] == len(self.frames))
            if skips and self._has_backward():
                self.branch = (*self.branch, (key, not taken))
        if not first and not second and self._has_backward() and _may_continue(node):
            self.branch = (*self.branch, (f"continue in line {node.lineno}", False))
        return ""

    def _loop(self, node: ast.For | ast.AsyncFor | ast.While, env: Env) -> None:
        frame = LoopNode(node)
        if isinstance(node, ast.While):
            self.value(node.test, env)
            elements: tuple[Value, ...] = ()
        else:
            if ast.unparse(node.iter) == "range(1)":
                self.bind(node.target, None, env)
                self.block(node.body, env)
                return
            already = len(self.frames[-1].items)
            elements = self._elements(node.iter, env)
            made = LoopNode(None, self.frames[-1].items[already:])
            if any(event.kind == "zero_grad" for event in made.flat()):
                frame.unsure.append("what the loop iterates over clears the gradients")
        self.frames[-1].items.append(frame)
        self.frames.append(frame)
        branch = self.branch
        if isinstance(node, ast.While):
            ends = self.block(node.body, env)
        else:
            known = [e for e in elements if isinstance(e, Optimizer)]
            if known and len(known) == len(elements) <= 8:
                ends = ""
                for element in known:
                    self.bind(node.target, element, env)
                    ends = self.block(node.body, env)
            else:
                self._bind_loop_variable(node, elements, env)
                ends = self.block(node.body, env)
        if ends in ("exit", "return"):
            frame.unsure.append("the loop ends in its first iteration")
        self.frames.pop()
        self.branch = branch
        self.block(node.orelse, env)

    def _elements(self, iterated: ast.expr, env: Env) -> tuple[Value, ...]:
        value = self.value(iterated, env)
        if isinstance(value, Group):
            return value.items
        holds = self.holds(iterated, env)
        if isinstance(value, Thing) and value.role == "parameters":
            holds = value.holds
        return (Thing("parameters", None, holds),)

    def _bind_loop_variable(self, node: ast.For | ast.AsyncFor, elements: tuple[Value, ...], env: Env) -> None:
        element = elements[0] if len(elements) == 1 else None
        for name in ast.walk(node.target):
            if isinstance(name, ast.Name):
                env.names[name.id] = element if isinstance(element, Thing) else Thing()
                self._written(name)

    def _assign(self, targets: Sequence[ast.expr], expression: ast.expr, env: Env) -> None:
        value = self.value(expression, env)
        if isinstance(expression, ast.Name | ast.Attribute | ast.Subscript):
            value = self._as_argument(value, expression, env)
        for target in targets:
            if isinstance(target, ast.Attribute) and target.attr == "grad":
                if isinstance(expression, ast.Constant) and expression.value is None:
                    self._clears(target.value, target, env)
                else:
                    self.doubt("gradients are set by hand")
            elif _is_grad(target) or (isinstance(target, ast.Subscript) and _is_grad(target.value)):
                self.doubt("gradients are set by hand")
            elif isinstance(target, ast.Attribute) and target.attr in ("step", "zero_grad"):
                self.doubt(f"{target.attr} is replaced")
            self.bind(target, value, env)

    def bind(self, target: ast.expr, value: Value, env: Env) -> None:
        """Let a name, an attribute of an object of the file, or a tuple of them stand for a value."""
        if isinstance(target, ast.Tuple | ast.List):
            known = (
                value.items if isinstance(value, Group) and len(value.items) == len(target.elts) else (None,) * len(target.elts)
            )
            for element, item in zip(target.elts, known, strict=True):
                self.bind(element, item, env)
            return
        self._written(target)
        if isinstance(target, ast.Name | ast.Attribute):
            for frame in self.frames[1:]:
                frame.bound.add(ast.unparse(target))
        if isinstance(target, ast.Name):
            path: str | None = target.id
            env.names[target.id] = value
        elif isinstance(target, ast.Attribute):
            path = self.path(target, env)
            owner = self.value(target.value, env)
            if isinstance(owner, Instance):
                owner.attributes[target.attr] = value
        else:
            return
        if isinstance(value, Optimizer | Instance) and value.id is None:
            value.id = path
        if isinstance(value, Optimizer) and path is not None:
            for frame in self.frames[1:]:
                if frame in value.born:
                    frame.rebuilt.add(path)
        if isinstance(value, Thing) and value.id is None and value.role not in ("", "parameters"):
            value.id = path

    def _written(self, target: ast.expr) -> None:
        text = ast.unparse(target) if isinstance(target, ast.Name | ast.Attribute) else ""
        self.writes[text] = self.writes.get(text, 0) + 1

    # -- expressions

    def value(self, node: ast.expr, env: Env) -> Value:
        """Return what an expression stands for, after the events of the calls in it."""
        self.left -= 1
        match node:
            case ast.Constant():
                return None
            case ast.Name():
                return env.find(node.id)[1]
            case ast.Attribute():
                owner = self.value(node.value, env)
                if isinstance(owner, Instance):
                    if node.attr in owner.attributes:
                        return owner.attributes[node.attr]
                    method = self._method(owner.of, node.attr)
                    return Function(method, owner.of.env, owner) if method is not None else None
                if isinstance(owner, Optimizer) and node.attr == "param_groups":
                    return Thing("parameters", None, frozenset({f"optimizer {owner.id}"}))
                if isinstance(owner, Optimizer) and node.attr in ("optimizer", "optim", "base_optimizer"):
                    return owner
                if isinstance(owner, Thing) and owner.role == "engine":
                    return owner
                return None
            case ast.Call():
                return self.call(node, env)
            case ast.Subscript():
                owner = self.value(node.value, env)
                self.value(node.slice, env)
                if isinstance(owner, Group) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, int):
                    index = node.slice.value
                    return owner.items[index] if -len(owner.items) <= index < len(owner.items) else None
                if isinstance(owner, Thing) and owner.role == "parameters":
                    return owner
                return None
            case ast.Tuple() | ast.List():
                return Group(tuple(self.value(element, env) for element in node.elts))
            case ast.Lambda():
                return Function(node, env)
            case ast.IfExp():
                self.value(node.test, env)
                key, truth = self._condition(node.test)
                with self.under(key, value=truth):
                    first = self.value(node.body, env)
                with self.under(key, value=not truth):
                    second = self.value(node.orelse, env)
                return first or second
            case ast.BoolOp():
                self.value(node.values[0], env)
                for operand in node.values[1:]:
                    with self.under(f"line {operand.lineno}:{operand.col_offset}", value=True):
                        self.value(operand, env)
                return None
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp():
                for generator in node.generators:
                    elements = self._elements(generator.iter, env)
                    for name in ast.walk(generator.target):
                        if isinstance(name, ast.Name):
                            env.names[name.id] = elements[0] if len(elements) == 1 else Thing()
                    if elements and all(isinstance(e, Optimizer) for e in elements) and isinstance(generator.target, ast.Name):
                        for element in elements[:-1]:
                            env.names[generator.target.id] = element
                            self.value(node.elt, env)
                        env.names[generator.target.id] = elements[-1]
                self.value(node.elt, env)
                return Thing("parameters", None, self.holds(node, env)) if self.holds(node, env) else None
            case ast.NamedExpr():
                value = self.value(node.value, env)
                self.bind(node.target, value, env)
                return value
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self.value(child, env)
                    elif isinstance(child, ast.comprehension):
                        self.value(child.iter, env)
                holds = self.holds(node, env) if isinstance(node, ast.BinOp) else None
                return Thing("parameters", None, holds) if holds else None

    def call(self, node: ast.Call, env: Env) -> Value:
        """Return what a call gives back, after its events."""
        function = node.func
        receiver: Value = None
        if isinstance(function, ast.Attribute):
            receiver = self.value(function.value, env)
            target = self.value(function, env) if isinstance(receiver, Instance) else None
        else:
            target = self.value(function, env)
        arguments = [self.value(a.value if isinstance(a, ast.Starred) else a, env) for a in node.args]
        named = {k.arg or "**": self.value(k.value, env) for k in node.keywords}
        if isinstance(target, Function):
            if not isinstance(target.node, ast.Lambda):
                return self.inline(
                    target,
                    [self._as_argument(v, a, env) for v, a in zip(arguments, node.args, strict=True)],
                    {k.arg: self._as_argument(named[k.arg], k.value, env) for k in node.keywords if k.arg},
                )
            return self.inline(target, arguments, {k: v for k, v in named.items() if k != "**"})
        if isinstance(target, Class):
            return self._instantiate(target, node, arguments, named, env)
        if isinstance(receiver, Class):
            method = self._method(receiver, function.attr) if isinstance(function, ast.Attribute) else None
            if method is not None:
                return self.inline(Function(method, receiver.env), arguments, {k: v for k, v in named.items() if k != "**"})
        if isinstance(function, ast.Attribute):
            handled, value = self._method_call(node, function, receiver, arguments, named, env)
            if handled:
                return value
        value = self._constructed(node, env, arguments, named)
        if value is not None:
            return value
        self._unresolved(node, function, receiver, [*arguments, *named.values()])
        return None

    def _as_argument(self, value: Value, expression: ast.expr, env: Env) -> Value:
        """Return the value, or the path that the caller knows it by, so that both names mean one thing."""
        if value is not None:
            return value
        path = self.path(expression.value if isinstance(expression, ast.Starred) else expression, env)
        return Thing("", path) if path is not None else None

    def _method_call(
        self, node: ast.Call, function: ast.Attribute, receiver: Value, arguments: list[Value], named: dict[str, Value], env: Env
    ) -> tuple[bool, Value]:
        """Return whether the method is one that trains or is known not to, and what it gives back."""
        name, text = function.attr, ast.unparse(function.value) if isinstance(function.value, ast.Name | ast.Attribute) else ""
        last = text.rsplit(".", 1)[-1]
        role = receiver.role if isinstance(receiver, Thing) else ""
        is_optimizer = isinstance(receiver, Optimizer) or (
            not isinstance(receiver, Instance)
            and role in ("", "parameters")
            and self._is_optimizer_like(function.value, receiver)
            and not SCHEDULER_NAME.search(last)
        )
        if name in ("backward", "manual_backward", "fused_backward"):
            self.emit("backward", None, node)
            if name == "fused_backward" or role == "engine" or text in self.stale:
                self.doubt(f"{text or name} steps and clears on its own")
            if name == "manual_backward":
                self.doubt("Lightning calls this code")
            return True, None
        if name == "step":
            return self._step(node, function, receiver, arguments, named, env, is_optimizer=is_optimizer), None
        if name in ("optimizer_step", "maybe_step") and node.args:
            self._emit_for(node.args[0], arguments[0], "step", node, env)
            return True, None
        if CLEARING_NAME.search(name):
            if is_optimizer:
                self._emit_for(function.value, receiver, "zero_grad", node, env)
            elif name == "zero_grad":
                self._clears(function.value, node, env)
            else:
                self.emit("zero_grad", None, node)
            return True, None
        if name in ("zero_", "fill_") and _is_grad(function.value):
            self._clears(_owner_of_grad(function.value), node, env)
            return True, None
        if name == "zero_" and (last in ("g", "gr") or "grad" in ast.unparse(function.value)):
            self.emit("zero_grad", None, node)
            return True, None
        if name in ("mul_", "multiply_") and _is_grad(function.value) and node.args and _is_zero(node.args[0]):
            self._clears(_owner_of_grad(function.value), node, env)
            return True, None
        if name in ("copy_", "add_", "sub_", "set_") and _is_grad(function.value):
            self.doubt("gradients are changed by hand")
            return True, None
        if name in ("clip_grad_norm_", "clip_grad_value_", "clip_grad_norm", "clip_gradients", "clip_grads"):
            self.emit("clip", None, node)
            return True, None
        if name == "unscale_":
            if node.args:
                self._emit_for(node.args[0], arguments[0], "unscale", node, env)
            return True, None
        if name == "unscale_gradients":
            return True, None
        if name == "update" and (role == "scaler" or "scaler" in last.lower()):
            self.emit("scaler_update", None, node)
            return True, None
        if name in HOOKS:
            return True, None
        is_accelerator = role == "accelerator" or re.search("accel|fabric", last, re.IGNORECASE)
        if (is_accelerator and name in PREPARES) or (last == "amp" and name == "initialize"):
            given = [self._as_argument(v, a, env) for v, a in zip(arguments, node.args, strict=True)]
            given += [v for v in named.values() if isinstance(v, Optimizer)]
            return True, given[0] if len(given) == 1 else Group(tuple(given))
        if name == "initialize" and text.endswith("deepspeed"):
            return True, Group((Thing("engine"), Thing("engine"), Thing("engine"), Thing("engine")))
        if isinstance(receiver, Optimizer):
            if name not in QUIET_METHODS:
                self.doubt(f"what {text}.{name} does is not known")
            return True, None
        if name in ("parameters", "named_parameters", "trainable_parameters"):
            return True, Thing("parameters", None, self.holds(node, env))
        if name in SAME_OBJECT:
            return True, receiver
        return False, None

    def _step(
        self,
        node: ast.Call,
        function: ast.Attribute,
        receiver: Value,
        arguments: list[Value],
        named: dict[str, Value],
        env: Env,
        *,
        is_optimizer: bool,
    ) -> bool:
        """Record a call of a method named step; return whether it is known what it does."""
        text = ast.unparse(function.value) if isinstance(function.value, ast.Name | ast.Attribute) else ""
        last = text.rsplit(".", 1)[-1]
        role = receiver.role if isinstance(receiver, Thing) else ""
        if role == "engine" or text in self.stale:
            self.emit("step", None, node)
            self.doubt(f"{text} steps and clears on its own")
            return True
        if role == "scheduler" or (not isinstance(receiver, Optimizer | Instance) and SCHEDULER_NAME.search(last)):
            self.emit("scheduler_step", self.path(function.value, env), node)
            return True
        if node.args and (isinstance(arguments[0], Optimizer) or role == "scaler" or "scaler" in last.lower()):
            self._emit_for(node.args[0], arguments[0], "step", node, env)
            return True
        if not is_optimizer:
            return False
        closure = arguments[0] if arguments else named.get("closure")
        if isinstance(receiver, Optimizer) and receiver.constructor == "LBFGS":
            self.doubt("LBFGS calls its closure several times in one step")
        if isinstance(closure, Function):
            self.inline(closure, [], {})
        elif node.args or "closure" in named:
            self.doubt(f"{text}.step is given a closure that is not in this file")
        self._emit_for(function.value, receiver, "step", node, env)
        if any(k.arg == "zero_grad" for k in node.keywords):
            self._emit_for(function.value, receiver, "zero_grad", node, env)
        return True

    def _is_optimizer_like(self, node: ast.expr, value: Value) -> bool:
        """Return whether an unknown receiver goes by the name of an optimizer, here or where it comes from."""
        if isinstance(value, Thing) and value.id is not None and OPT_NAME.search(re.split(r"[.\[]", value.id)[-1]):
            return True
        while isinstance(node, ast.Subscript | ast.Call):
            node = node.value if isinstance(node, ast.Subscript) else node.func
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        return bool(OPT_NAME.search(name)) and name not in ("torch.optim", "optim")

    def _emit_for(self, expression: ast.expr, value: Value, kind: str, node: ast.Call, env: Env) -> None:
        """Record a call on an optimizer: resolved, or known by its name only."""
        if isinstance(value, Group):
            for item in value.items:
                self.emit(kind, item.id if isinstance(item, Optimizer) else None, node)
            return
        if isinstance(value, Optimizer):
            if value.doubt:
                self.doubt(value.doubt)
            for frame in self.frames[1:]:
                if frame in value.born and kind == "step":
                    self.doubt("the optimizer is built in the loop", frame)
            self.emit(kind, value.id, node)
            return
        self.emit(kind, self.path(expression, env), node)

    def _clears(self, what: ast.expr, node: ast.AST, env: Env) -> None:
        """Record that gradients of a model, a tensor or an element of a group of parameters are cleared."""
        value = self.value(what, env)
        if isinstance(value, Thing) and value.role == "parameters":
            paths = value.holds
        else:
            path = self.path(what, env)
            paths = frozenset({path}) if path is not None else None
        if paths is None:
            self.emit("zero_grad", None, node)
            return
        direct = next((p for p in paths if p.startswith("optimizer ")), None)
        if direct is not None:
            self.emit("zero_grad", direct.removeprefix("optimizer "), node)
            return
        held = False
        for optimizer in {o.id: o for o in self.optimizers}.values():
            if optimizer.holds is None or optimizer.id is None:
                continue
            covered = [any(h == p or h.startswith((f"{p}.", f"{p}[")) for p in paths) for h in optimizer.holds]
            if covered and all(covered):
                self.emit("zero_grad", optimizer.id, node)
                held = True
        if not held:
            self.emit("zero_grad", None, node)

    def _constructed(
        self, node: ast.Call, env: Env, arguments: Sequence[Value] = (), named: dict[str, Value] | None = None
    ) -> Value:
        """Return the optimizer, scheduler, scaler or wrapper that a call builds; None for anything else."""
        parts = _dotted(node.func)
        name = parts[-1] if parts else ""
        first = arguments[0] if arguments else None
        if name in WRAPPERS or (name.endswith("Optimizer") and isinstance(first, Optimizer)):
            given = next((v for v in [*arguments, *(named or {}).values()] if isinstance(v, Optimizer)), None)
            if given is not None:
                return given
        if (
            "lr_scheduler" in parts
            or name.endswith(("LR", "Scheduler", "OnPlateau", "_scheduler", "WarmRestarts"))
            or name.startswith("get_scheduler")
        ):
            return Thing("scheduler")
        if name == "GradScaler":
            return Thing("scaler")
        if name in ("Accelerator", "Fabric"):
            return Thing("accelerator")
        if name in ("SimpleNamespace", "parse_args", "Namespace"):
            return Thing("settings", None)
        if name in MODEL_WRAPPERS and node.args:
            return self._as_argument(first, node.args[0], env)
        if name in ("list", "tuple", "chain", "filter", "iter", "reversed", "sorted"):
            holds = self.holds(node, env)
            return Thing("parameters", None, holds) if holds else first if isinstance(first, Group) else None
        chosen = isinstance(node.func, ast.Subscript | ast.Call) and re.search("opt", ast.unparse(node.func), re.IGNORECASE)
        if name in OPTIMIZERS or ("optim" in parts[:-1] and name[:1].isupper()) or chosen:
            parameters = (
                node.args[0] if node.args else next((k.value for k in node.keywords if k.arg in ("params", "parameters")), None)
            )
            holds = self.holds(parameters, env) if parameters is not None else None
            if isinstance(first, Thing) and first.role == "parameters":
                holds = first.holds
            return self._optimizer(name or "chosen by name", holds)
        if name[:1].isupper() and OPT_NAME.search(name) and not name.isupper():
            return self._optimizer(name, None, doubt=f"what {name} does is not known")
        return None

    def _optimizer(self, constructor: str, holds: frozenset[str] | None, doubt: str = "") -> Optimizer:
        made = Optimizer(constructor, holds, None, tuple(self.frames[1:]), doubt)
        self.optimizers.append(made)
        return made

    def _instantiate(self, of: Class, node: ast.Call, arguments: list[Value], named: dict[str, Value], env: Env) -> Value:
        """Return an object of a class of the file, its constructor walked."""
        bases = {_dotted(base)[-1] for base in of.node.bases if _dotted(base)}
        if bases & (OPTIMIZERS | {"Optimizer"}):
            holds = self.holds(node.args[0], env) if node.args else None
            step = self._method(of, "step")
            clears = step is not None and "zero_grad" in _attributes(step)
            return self._optimizer(of.node.name, holds, "its step also clears" if clears else "")
        instance = Instance(of, id=None)
        init = self._method(of, "__init__")
        if init is not None:
            instance.id = "self"
            self.inline(
                Function(init, of.env, instance),
                [self._as_argument(v, a, env) for v, a in zip(arguments, node.args, strict=True)],
                {k.arg: self._as_argument(named[k.arg], k.value, env) for k in node.keywords if k.arg},
            )
            instance.id = None
        return instance

    def _unresolved(self, node: ast.Call, function: ast.expr, receiver: Value, given: list[Value]) -> None:
        """Doubt the loop when a function that is not in the file may touch the optimizer."""
        parts = _dotted(function)
        name = parts[-1] if parts else ""
        takes_grad = any(_mentions_grad(a) for a in node.args) or (
            name == "setattr" and any(isinstance(a, ast.Constant) and a.value == "grad" for a in node.args)
        )
        if CLEARING_NAME.search(name) or (takes_grad and re.search("setattr|zero|mul", name)):
            self.emit("zero_grad", None, node)
            return
        if CALLS_BACK.search(name):
            self.doubt(f"{name} runs hooks that are not known")
            return
        if isinstance(receiver, Instance) and name not in receiver.attributes and self._inherits_the_unknown(receiver.of):
            self.doubt(f"{'.'.join(parts)} is not in this file")
            return
        if HARMLESS.search(name):
            return
        by_name = any(
            isinstance(a, ast.Name | ast.Attribute) and re.search("optim", _dotted(a)[-1] if _dotted(a) else "", re.IGNORECASE)
            for a in [*node.args, *(k.value for k in node.keywords)]
        )
        if by_name or any(_carries_optimizer(value) for value in given):
            self.doubt(f"{name or 'a function'} is given the optimizer and is not in this file")

    def inline(self, function: Function, arguments: Sequence[Value], named: dict[str, Value]) -> Value:
        """Walk the body of a function of the file in the place of a call; return what it gives back."""
        node = function.node
        if node in self.stack or len(self.stack) >= DEPTH or self.left <= 0:
            if "zero_grad" in _attributes(node) or "step" in _attributes(node):
                self.doubt("calls are nested too deeply to be followed")
            return None
        self.visited.add(node)
        env = Env({}, function.env)
        parameters = [a.arg for a in [*node.args.posonlyargs, *node.args.args]]
        is_static = not isinstance(node, ast.Lambda) and any(_dotted(d)[-1:] == ["staticmethod"] for d in node.decorator_list)
        given = list(arguments)
        if function.owner is not None and not is_static:
            given.insert(0, function.owner)
        env.names.update(dict.fromkeys([*parameters, *(a.arg for a in node.args.kwonlyargs)]))
        env.names.update(zip(parameters, given, strict=False))
        env.names.update({name: value for name, value in named.items() if name in env.names})
        self.stack.append(node)
        self.loop_depth.append(len(self.frames))
        self.returned.append([])
        branch = self.branch
        lightning = function.owner is not None and self._is_lightning(function.owner.of)
        before = [len(list(self.frames[-1].items))] if lightning else []
        if isinstance(node, ast.Lambda):
            self.returned[-1].append(self.value(node.body, env))
        else:
            self.block(node.body, env)
        if before:
            for item in self.frames[-1].items[before[0] :]:
                if isinstance(item, LoopNode):
                    item.unsure.append("Lightning or a Trainer calls this code")
        self.branch = branch
        self.stack.pop()
        self.loop_depth.pop()
        results = self.returned.pop()
        return next((value for value in reversed(results) if value is not None), None)

    def _method(self, of: Class, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
        """Return a method of a class of the file or of its bases in the file."""
        pending, seen = [of], set()
        while pending:
            current = pending.pop(0)
            if current.node in seen:
                continue
            seen.add(current.node)
            for node in current.node.body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
                    return node
            for base in current.node.bases:
                value = current.env.find(base.id)[1] if isinstance(base, ast.Name) else None
                if isinstance(value, Class):
                    pending.append(value)
        return None

    def _foreign_bases(self, of: Class) -> list[ast.expr]:
        """Return the bases of a class, and of its bases in the file, that are not in the file."""
        pending, seen, foreign = [of], set(), []
        while pending:
            current = pending.pop()
            if current.node in seen:
                continue
            seen.add(current.node)
            for base in current.node.bases:
                value = current.env.find(base.id)[1] if isinstance(base, ast.Name) else None
                if isinstance(value, Class):
                    pending.append(value)
                else:
                    foreign.append(base)
        return foreign

    def _inherits_the_unknown(self, of: Class) -> bool:
        """Return whether a class has methods that are in another file, other than those of a PyTorch module."""
        bases = [_dotted(base) for base in self._foreign_bases(of)]
        return any(parts and parts[-1] not in KNOWN_BASES and not {"nn", "torch"} & set(parts) for parts in bases)

    def _is_lightning(self, of: Class) -> bool:
        names = [".".join(_dotted(base)) for base in self._foreign_bases(of)]
        return any(re.search(r"Lightning|(^|\.)pl\.|Trainer$|Optimizer$", name) for name in names)

    # -- small things

    def path(self, node: ast.expr, env: Env) -> str | None:
        """Return the name a thing goes by in this walk; None when it may be another thing in each iteration."""
        if isinstance(node, ast.Name):
            value = env.find(node.id)[1]
            if isinstance(value, Thing) and value.role in ("", "parameters"):
                return value.id
            if isinstance(value, Thing | Optimizer | Instance) and value.id is not None:
                return value.id
            return node.id
        if isinstance(node, ast.Attribute):
            value = self.value(node, env)
            if isinstance(value, Thing | Optimizer | Instance) and value.id is not None:
                return value.id
            owner = self.path(node.value, env)
            return f"{owner}.{node.attr}" if owner is not None else None
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            owner = self.path(node.value, env)
            return f"{owner}[{node.slice.value!r}]" if owner is not None else None
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SAME_OBJECT:
            return self.path(node.func.value, env)
        return None

    def holds(self, node: ast.expr, env: Env) -> frozenset[str] | None:
        """Return the paths of the models and tensors whose parameters an expression gives; None when not known."""
        found: set[str] = set()
        for call in ast.walk(node):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr.endswith("parameters"):
                path = self.path(call.func.value, env)
                if path is None:
                    return None
                found.add(path)
        if found:
            return frozenset(found)
        if isinstance(node, ast.Name | ast.Attribute):
            value = env.find(node.id)[1] if isinstance(node, ast.Name) else None
            if isinstance(value, Thing) and value.holds is not None:
                return value.holds
            path = self.path(node, env)
            return frozenset({path}) if path is not None else None
        if isinstance(node, ast.List | ast.Tuple) and all(isinstance(e, ast.Name) for e in node.elts):
            paths = [self.path(element, env) for element in node.elts]
            return frozenset(p for p in paths if p is not None) if paths and None not in paths else None
        return None

    def emit(self, kind: str, target: str | None, node: ast.AST) -> None:
        """Record a call in the innermost loop."""
        if kind == "zero_grad":
            self.cleared |= {node, node.func} if isinstance(node, ast.Call) else {node}
        self.frames[-1].items.append(TracedEvent(kind, target, self.place(node), not self.branch, self.branch))

    def overlap(self, first: str, second: str) -> bool:
        """Return whether two optimizers, by their names, may hold the same parameters: all that is not known may."""
        held = []
        for name in (first, second):
            known = [o.holds for o in self.optimizers if o.id == name]
            if not known or None in known:
                return True
            held.append(frozenset().union(*(holds for holds in known if holds is not None)))
        return any(_related(a, b) or self._share(a, b) for a in held[0] for b in held[1])

    def _share(self, first: str, second: str) -> bool:
        """Return whether two models are built from one object, or one is given a part of the other."""
        parts: dict[str, set[str]] = {first: set(), second: set()}
        built = set()
        for text, value in self._assigned:
            names = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
            if isinstance(value, ast.Call) and (_dotted(value.func) or [""])[-1][:1].isupper():
                built.add(text)
            for name, other in ((first, second), (second, first)):
                if text == name:
                    parts[name] |= names
                if text.startswith(f"{name}.") and ast.unparse(value).startswith(other):
                    return True
        return bool(parts[first] & parts[second] & built)

    @cached_property
    def _assigned(self) -> list[tuple[str, ast.expr]]:
        """All assignments to names and attributes, tuples element by element."""
        pairs = (pair for node in ast.walk(self.tree) if isinstance(node, ast.Assign) for pair in _pairs(node))
        return [(ast.unparse(target), value) for target, value in pairs if isinstance(target, ast.Name | ast.Attribute)]

    @cached_property
    def unfollowed(self) -> int | None:
        """The line of a call that clears gradients, or of a mention of one, that no part of the walk has met."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute) and CLEARING_NAME.search(node.attr) and node not in self.cleared:
                return node.lineno
            if isinstance(node, ast.Constant) and node.value == "zero_grad":
                return node.lineno
        return None

    def place(self, node: ast.AST) -> Location:
        """Return where a node stands, the column in characters."""
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0)
        text = self.lines[line - 1] if line <= len(self.lines) else ""
        return Location(self.file, line, len(text.encode()[:column].decode(errors="ignore")) + 1)

    def doubt(self, why: str, only: LoopNode | None = None) -> None:
        """Say why the order in the current loops is not known."""
        for frame in self.frames if only is None else [only]:
            if why not in frame.unsure:
                frame.unsure.append(why)

    @contextmanager
    def under(self, key: str, *, value: bool) -> Iterator[None]:
        """Record what follows as done only where the condition has this value."""
        branch = self.branch
        self.branch = (*branch, (key, value))
        yield
        self.branch = branch

    def _condition(self, test: ast.expr) -> tuple[str, bool]:
        """Return a name for a test, the same for the same test of unchanged variables, and what it is when it holds."""
        truth = True
        while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            test, truth = test.operand, not truth
        if any(isinstance(n, ast.Call | ast.Await | ast.NamedExpr | ast.Subscript) for n in ast.walk(test)):
            return f"line {test.lineno}:{test.col_offset}", truth
        names = sorted({ast.unparse(n) for n in ast.walk(test) if isinstance(n, ast.Name | ast.Attribute)})
        return f"{ast.unparse(test)} {[self.writes.get(name, 0) for name in names]}", truth

    def _has_backward(self) -> bool:
        return any(event.kind in ("backward", "step") for event in self.frames[-1].flat())


def _carries_optimizer(value: Value, depth: int = 2) -> bool:
    if isinstance(value, Optimizer):
        return True
    if depth and isinstance(value, Group):
        return any(_carries_optimizer(item, depth - 1) for item in value.items)
    if depth and isinstance(value, Instance):
        return any(_carries_optimizer(item, depth - 1) or OPT_NAME.search(name) for name, item in value.attributes.items())
    return False


def _dotted(node: ast.expr) -> list[str]:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name):
        parts.append(node.id)
    elif isinstance(node, ast.Call):
        parts += _dotted(node.func)[::-1]
    return parts[::-1]


def _is_grad(node: ast.expr) -> bool:
    """Return whether an expression is `x.grad` or `x.grad.data`."""
    if isinstance(node, ast.Attribute) and node.attr == "data":
        node = node.value
    return isinstance(node, ast.Attribute) and node.attr == "grad"


def _trains(node: ast.AST) -> bool:
    return bool({"zero_grad", "step", "backward"} & _attributes(node))


def _is_zero(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value == 0


def _related(first: str, second: str) -> bool:
    """Return whether one path is the other, or a part of it."""
    return any(a == b or a.startswith((f"{b}.", f"{b}[")) for a, b in ((first, second), (second, first)))


def _pairs(node: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Yield what is assigned to what, tuples element by element."""
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple) and len(target.elts) == len(node.value.elts):
            yield from zip(target.elts, node.value.elts, strict=True)
        else:
            yield target, node.value


def _owner_of_grad(node: ast.expr) -> ast.expr:
    while isinstance(node, ast.Attribute) and node.attr in ("grad", "data"):
        node = node.value
    return node


def _is_main(test: ast.expr) -> bool:
    return "__name__" in {n.id for n in ast.walk(test) if isinstance(n, ast.Name)} or (
        isinstance(test, ast.Constant) and bool(test.value)
    )


def _mentions_grad(test: ast.expr) -> bool:
    return any(isinstance(n, ast.Attribute) and n.attr == "grad" for n in ast.walk(test))


def _may_continue(node: ast.stmt) -> bool:
    """Return whether a `continue` of the loop around the statement stands in it."""
    if isinstance(node, ast.Continue):
        return True
    if isinstance(node, ast.For | ast.AsyncFor | ast.While | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return False
    return any(_may_continue(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt))


def _attributes(node: ast.AST) -> set[str]:
    return {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


def _functions(tree: ast.Module) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, ast.ClassDef | None]]:
    """Yield the functions and methods of a module, those of branches and classes too, not those inside functions."""
    pending: list[tuple[ast.AST, ast.ClassDef | None]] = [(tree, None)]
    while pending:
        node, owner = pending.pop(0)
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                yield child, owner
            elif isinstance(child, ast.ClassDef):
                pending.append((child, child))
            elif isinstance(child, ast.stmt):
                pending.append((child, owner))


def _called(tree: ast.Module) -> set[str]:
    """Return the names of all functions and methods that are called somewhere."""
    calls = (n.func for n in ast.walk(tree) if isinstance(n, ast.Call))
    return {parts[-1] for parts in map(_dotted, calls) if parts}


def _engines(tree: ast.Module) -> set[str]:
    """Return the receivers on which both `backward(loss)` and `step()` are called: DeepSpeed engines and their like."""
    receivers: dict[str, set[str]] = {"backward": set(), "step": set()}
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name() | ast.Attribute() as receiver, attr="backward"), args=[_, *_]):
                receivers["backward"].add(ast.unparse(receiver))
            case ast.Call(func=ast.Attribute(value=ast.Name() | ast.Attribute() as receiver, attr="step")):
                receivers["step"].add(ast.unparse(receiver))
    return receivers["backward"] & receivers["step"]
