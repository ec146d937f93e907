"""The walk through a script: which calls on which optimizer one iteration of each loop makes, in what order.

Nothing is executed. Names are followed from where an optimizer is built, through assignments, attributes of `self`,
tuples and the parameters of functions, of this script and of the files of its project. What such a function does is
written in the place of its call. A branch that may not be taken is kept with its condition, so that `order` can go
through every path.

`script.trace` is the Trace of a script:

- `roots`: a TracedLoop (`node` None) for the module, and for each function that nothing in the module called (`function`);
  such a function is walked with parameters that are not known.
- `loops()`: every loop once, the outer ones first, as it was met first; `events()`: every event, helpers again at each call.
- `optimizers`, `schedulers`, `scalers`: what is built, in the order of the walk (Optimizer, Scheduler, Scaler of `values`).

A TracedLoop has `node`, `script`, `parent` (the loop around it), `branch` (the conditions it stands under), `items` (events
and loops, in order), `own()`, `flat()`, `inner()`, and `unsure`: what is not known of it, in words; when it is not empty, no
order in it is proven.

A TracedEvent has

- `kind`: "backward", "step", "zero_grad", "clip", "unscale", "scaler_update", "scheduler_step", "train", "eval", "set_epoch",
  "autocast" (a block is entered), "build" (an optimizer, scheduler or scaler is constructed).
- `target`: the path that the optimizer, scheduler, scaler, model or sampler goes by ("self.optimizer"), the same for all names
  of it; None when it is not known. Of backward and autocast: None.
- `node`, `script`: the call (of `p.grad = None`: the target of the assignment) and the file it stands in; `via`: the call in
  the walked script through which it was reached, the node itself when it stands there; `calls`: all calls that lead to it,
  the outermost first. `location`: where the node begins.
- `branch`: the conditions it stands under since the root, ((test, value), ...); `certain`: there are none.
- `within`: of "autocast", "no_grad", "inference_mode", "accumulate": the contexts it stands in, those of callers too.
- `thing`: the Value of the target where it is known. Optimizer: `constructor`, `node`, `script`, `holds` (paths of models and
  tensors, None when not known), `born` (the loops it is built in, the outermost first), `prepared` (the call that gave it to
  an accelerator). Scheduler: `constructor`, `node`, `script`, `optimizer`, `born`. Scaler: `node`, `script`, `born`, `enabled`
  (None where that is not known). Instance: an object of a class that was followed, `of.node`. Of clip: Thing("parameters",
  `holds`). Of autocast: Thing("autocast", `node`).
- `loss`, of backward alone: `node` (the expression that is differentiated, of `accelerator.backward(loss)` its argument), `id`
  (its path), `scaled` (the path of the scaler in `scaler.scale(loss).backward()`).
- `loops`: the loops it stands in, the outermost first, those of callers too.
"""

from __future__ import annotations

import ast
import re
from functools import cached_property
from typing import TYPE_CHECKING

from traindoctor.code.events import Branch, Loss, TracedEvent, TracedLoop
from traindoctor.code.names import (
    CALLS_BACK,
    CLEARING_NAME,
    CLIPS,
    COMPUTES,
    CONTEXTS,
    HARMLESS,
    HOOKS,
    KNOWN_BASES,
    MODEL_WRAPPERS,
    OPT_NAME,
    OPTIMIZERS,
    PREPARES,
    QUIET_METHODS,
    SAME_OBJECT,
    SCHEDULER_NAME,
    WRAPPERS,
    dotted,
    functions,
    functions_around,
    is_grad,
    is_zero,
    last_of,
    optimizes_manually,
    owner_of_grad,
    pairs,
    related,
    text_of,
)
from traindoctor.code.resolve import FunctionDef, Names
from traindoctor.code.script import LOOPS, UNKNOWN
from traindoctor.code.values import (
    Class,
    Env,
    Function,
    Group,
    Instance,
    Module,
    Optimizer,
    Scaler,
    Scheduler,
    Thing,
    Value,
    carries_optimizer,
)
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from traindoctor.code.events import LoopStatement, TrainingLoop
    from traindoctor.code.script import Script
    from traindoctor.code.values import FunctionNode

#: How many calls deep functions are followed, from the module's own statements on.
DEPTH = 8
#: Nodes of the syntax tree looked at for one script, callees again at each call; above it callees are no longer followed.
BUDGET = 40_000


class Trace:
    """What the walk through a script has met. `complete`: False when the script is nested too deeply for it."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self._walk = Walk(script)
        self.complete = True
        try:
            self._walk.run()
        except RecursionError:
            self.complete = False
            self._walk = Walk(script)

    @property
    def roots(self) -> list[TracedLoop]:
        """The module, and each function that nothing in it called."""
        return self._walk.roots

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers that are built."""
        return self._walk.optimizers

    @property
    def schedulers(self) -> list[Scheduler]:
        """The schedulers that are built."""
        return self._walk.schedulers

    @property
    def scalers(self) -> list[Scaler]:
        """The scalers that are built."""
        return self._walk.scalers

    def events(self) -> Iterator[TracedEvent]:
        """Yield every event, in the order of the walk."""
        for root in self._walk.roots:
            yield from root.flat()

    def at(self, node: ast.AST) -> list[TracedEvent]:
        """Return the events of a call, one for each time that the walk met it."""
        return self._by_node.get(node, [])

    @cached_property
    def _by_node(self) -> dict[ast.AST, list[TracedEvent]]:
        found: dict[ast.AST, list[TracedEvent]] = {}
        for event in self.events():
            found.setdefault(event.node, []).append(event)
        return found

    def loops(self) -> list[TracedLoop]:
        """Return every loop once, as it was met first."""
        found: dict[ast.AST, TracedLoop] = {}
        for root in self._walk.roots:
            for loop in root.inner():
                if loop.node is not None:
                    found.setdefault(loop.node, loop)
        return list(found.values())

    @cached_property
    def training(self) -> list[TrainingLoop]:
        """The loops that train, of this script and of its helpers: see `code.loops`."""
        from traindoctor.code.loops import loops_that_train

        return loops_that_train(self.script)

    @property
    def scripts(self) -> list[Script]:
        """The scripts that were followed, this one first."""
        return self._walk.scripts

    @cached_property
    def followed(self) -> set[str]:
        """The names of the functions that were walked."""
        return {node.name for node in self._walk.visited if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}

    def overlap(self, first: str, second: str) -> bool:
        """Return whether two optimizers, by their names, may hold the same parameters: all that is not known may."""
        return self._walk.overlap(first, second)

    def is_model(self, path: str) -> bool:
        """Return whether something that is asked for its `parameters()` goes by this path."""
        return path in self._walk.models

    @property
    def unfollowed(self) -> int | None:
        """The line of a call that clears gradients, or of a mention of one, that no part of the walk has met."""
        return self._walk.unfollowed


class Walk:
    """Walks a module and every function that the module's own statements do not reach."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.facts = script.facts
        self.names = Names(script)
        self.roots: list[TracedLoop] = []
        self.frames: list[TracedLoop] = [TracedLoop(None, script)]
        self.around: tuple[TracedLoop, ...] = ()
        self.branch: Branch = ()
        self.within: frozenset[str] = frozenset()
        self.via: ast.AST | None = None
        self.stack: list[FunctionNode] = []
        self.methods: list[Function] = []
        self.calls: list[ast.AST] = []
        self.loop_depth: list[int] = []
        self.returned: list[list[Value]] = []
        self.writes: dict[str, int] = {}
        self.visited: set[ast.AST] = set()
        self.optimizers: list[Optimizer] = []
        self.schedulers: list[Scheduler] = []
        self.scalers: list[Scaler] = []
        self.built: list[TracedEvent] = []
        self.models: set[str] = set()
        self.nested: list[Function] = []
        self.cleared: set[ast.AST] = set()
        self.counts = True
        self.left = BUDGET
        self.module = Env(script)
        self.stale = set(self.facts.engines)
        self._templates: dict[ast.ClassDef, Instance] = {}
        self._lightning: dict[ast.AST, bool] = {}

    @property
    def scripts(self) -> list[Script]:
        """The scripts that were followed."""
        return self.names.scripts

    def run(self) -> None:
        """Walk the module, then each function that nothing in the file called: with loops, those that train, closures that do."""
        script = self.script
        self._root(lambda: self.block(script.tree.body, self.module))
        pending = functions(script)
        pending.sort(key=lambda found: found[0].name in script.calls)
        looping = functions_around(script, script.all(*LOOPS))
        training = functions_around(script, (call for name in TRAINING for call in script.calls.get(name, ())))
        for chosen in (looping, training - looping):
            for node, owner in pending:
                if node in chosen and node not in self.visited:
                    self._root(lambda node=node, owner=owner: self._call_unknown(node, owner), node)  # type: ignore[misc]
            # What clears gradients in a function that nobody is seen to call may be called from anywhere.
            self.counts = False
        # A closure that is handed to someone who is not followed, as to an engine that calls it for each batch.
        for closure in self.nested:
            if closure.node in training and closure.node not in self.visited:
                self._root(lambda closure=closure: self.inline(closure, [], {}, closure.node), closure.node)  # type: ignore[misc]
        for event in self.built:
            if event.thing is not None:
                event.target = getattr(event.thing, "id", None)

    def _root(self, walk: Callable[[], object], function: FunctionNode | None = None) -> None:
        root = TracedLoop(None, self.script, function=function)
        self.frames, self.around, self.branch, self.within, self.via = [root], (), (), frozenset(), None
        self.stack, self.methods, self.calls, self.loop_depth, self.returned = [], [], [], [], []
        walk()
        self.roots.append(root)

    def _call_unknown(self, node: ast.FunctionDef | ast.AsyncFunctionDef, owner: ast.ClassDef | None) -> None:
        of = Class(owner, self.script, self.module) if owner is not None else None
        instance = self._imagined(of) if of is not None else None
        self.inline(Function(node, self.script, self.module, instance, of), [], {}, node)

    def _imagined(self, of: Class) -> Instance:
        """Return an object of the class with the attributes that its methods set."""
        template = self._templates.get(of.node)
        if template is None:
            template = Instance(of, "self")
            kept = self.frames, self.around, self.branch
            self.frames, self.around, self.branch = [TracedLoop(None, self.script)], (), ()
            init = self.names.method(of, "__init__")
            if init is not None:
                seen = init[1] in self.visited
                self.inline(self._bound(init, template), [], {}, init[1])
                if not seen:
                    self.visited.discard(init[1])
            for base in self.names.bases(of):
                if isinstance(base, Class):
                    for method in base.node.body:
                        if isinstance(method, ast.FunctionDef) and method.name != "__init__" and method.args.args:
                            self._attributes_set_in(method, template, base.env)
            self.frames, self.around, self.branch = kept
            self._templates[of.node] = template
        instance = Instance(of, "self")
        for name, value in template.attributes.items():  # a list of its own, that one method after another may fill
            instance.attributes[name] = Group(value.items, value.keys) if isinstance(value, Group) else value
        return instance

    def _attributes_set_in(self, method: ast.FunctionDef, instance: Instance, env: Env) -> None:
        local = Env(env.script, {method.args.args[0].arg: instance}, env)
        for node in env.script.facts.kept.get(method, ()):
            for target in node.targets:
                if isinstance(target, ast.Attribute) and instance.attributes.get(target.attr) is None:
                    assert isinstance(node.value, ast.Call)
                    value = self._constructed(node.value, local)
                    if value is not None:
                        self.bind(target, value, local)

    def _bound(self, method: tuple[Class, FunctionDef], owner: Instance | None) -> Function:
        of, node = method
        return Function(node, of.script, of.env, owner, of)

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

    def _block_under(self, key: str, value: bool, body: Sequence[ast.stmt], env: Env) -> str:
        """Walk statements that are done only where a condition has this value; return how they end."""
        before = self.branch
        self.branch = (*before, (key, value))
        ends = self.block(body, env)
        self.branch = before
        return ends

    def _value_under(self, key: str, value: bool, node: ast.expr, env: Env) -> Value:
        """Return what an expression stands for that is evaluated only where a condition has this value."""
        before = self.branch
        self.branch = (*before, (key, value))
        found = self.value(node, env)
        self.branch = before
        return found

    def statement(self, node: ast.stmt, env: Env) -> str:
        """Walk one statement; return how it ends the block, as `block` does."""
        self.left -= 1
        match node:
            case ast.Expr():
                self._done(node.value, env)
            case ast.Assign():
                self._assign(node.targets, node.value, env)
            case ast.If():
                return self._if(node, env)
            case ast.Return():
                value = self.value(node.value, env) if node.value is not None else None
                if self.returned and value is not None:
                    self.returned[-1].append(value)
                return "return"
            case ast.For() | ast.AsyncFor() | ast.While():
                self._loop(node, env)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                function = Function(node, self.script, env)
                env.names[node.name] = function
                if self.stack:
                    self.nested.append(function)
            case ast.ClassDef():
                env.names[node.name] = Class(node, self.script, env)
            case ast.AnnAssign() if node.value is not None:
                self._assign([node.target], node.value, env)
            case ast.AugAssign():
                self._extended(node, env)
                self._written(node.target)
                if is_grad(node.target) and is_zero(node.value):
                    self._clears(owner_of_grad(node.target), node.target, env)
                elif is_grad(node.target) and not isinstance(node.op, ast.Mult | ast.Div):
                    self.doubt("gradients are changed by hand")
            case ast.Delete():
                for deleted in node.targets:
                    if is_grad(deleted):
                        self._clears(owner_of_grad(deleted), deleted, env)
            case ast.Continue():
                return "continue"
            case ast.Break() | ast.Raise():
                return "exit"
            case ast.With() | ast.AsyncWith():
                return self._with(node, env)
            case ast.Try() | ast.TryStar():
                ends = self.block(node.body, env) or self.block(node.orelse, env)
                for handler in node.handlers:
                    caught = self._block_under(f"except at line {handler.lineno}", True, handler.body, env)
                    if caught == "continue" and self._has_backward():
                        self.branch = (*self.branch, (f"except at line {handler.lineno}", False))
                return self.block(node.finalbody, env) or ends
            case ast.Match():
                self.value(node.subject, env)
                for case in node.cases:
                    self._block_under(f"case at line {case.pattern.lineno}", True, case.body, env)
            case ast.Global() | ast.Nonlocal():
                for name in node.names:
                    env.names.setdefault(name, self.module.find(name)[1])
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.expr):
                        self._done(child, env)
        return ""

    def _extended(self, node: ast.AugAssign, env: Env) -> None:
        """Walk what is added to a name; a list takes it in."""
        if isinstance(node.value, ast.Constant):
            return
        added, group = self.value(node.value, env), self.value(node.target, env)
        if isinstance(group, Group):
            group.add(added.items if isinstance(added, Group) else [None])

    def _if(self, node: ast.If, env: Env) -> str:
        self._done(node.test, env)
        main = node.test in self.facts.mains or (isinstance(node.test, ast.Constant) and bool(node.test.value))
        if main or (node.test in self.facts.grads and not node.orelse):
            ends = self.block(node.body, env)
            return ends if main else ""
        key, truth = self._condition(node.test)
        first = self._block_under(key, truth, node.body, env)
        made = Optimizer | Scheduler
        built = {name: value for name, value in env.names.items() if isinstance(value, made)} if node.orelse else {}
        second = self._block_under(key, not truth, node.orelse, env)
        for name, value in built.items():
            if not isinstance(env.names.get(name), made):
                env.names[name] = value  # a loaded one, or None, is bound to the same name in the other case
        if first and second:
            return first
        for ends, taken in ((first, truth), (second, not truth)):
            skips = ends == "continue" or (ends == "return" and self.stack and self.loop_depth[-1] == len(self.frames))
            if skips and self._has_backward():
                self.branch = (*self.branch, (key, not taken))
        if not first and not second and self._has_backward() and node in self.facts.continues:
            self.branch = (*self.branch, (f"continue in line {node.lineno}", False))
        return ""

    def _with(self, node: ast.With | ast.AsyncWith, env: Env) -> str:
        outer = self.within
        for item in node.items:
            already = len(self.frames[-1].items)
            value = self.value(item.context_expr, env)
            entered = TracedLoop(None, self.script, items=self.frames[-1].items[already:])
            steps = any(event.kind in ("backward", "step") for event in entered.flat())
            if steps or (isinstance(value, Instance) and _trains(value.of)):
                self.doubt("a context manager clears or steps")
            if isinstance(value, Thing) and value.role in CONTEXTS.values():
                self._enter(value, item.context_expr)
            if item.optional_vars is not None:
                self.bind(item.optional_vars, value, env)
        ends = self.block(node.body, env)
        self.within = outer
        return ends

    def _enter(self, context: Thing, node: ast.expr) -> None:
        """Note a context for what follows; "grad" is the end of those that switch gradients off."""
        if context.role == "grad":
            self.within -= {"no_grad", "inference_mode"}
            return
        if context.role == "autocast":
            self.emit("autocast", None, context.node or node, context)
        self.within |= {context.role}

    def _loop(self, node: LoopStatement, env: Env) -> None:
        frame = TracedLoop(node, self.script, self.frames[-1], branch=self.branch)
        elements: tuple[Value, ...] = ()
        if isinstance(node, ast.While):
            self._done(node.test, env)
        else:
            if _is_once(node.iter):
                self.bind(node.target, None, env)
                self.block(node.body, env)
                return
            already = len(self.frames[-1].items)
            elements = self._elements(node.iter, env)
            made = TracedLoop(None, self.script, items=self.frames[-1].items[already:])
            if any(event.kind == "zero_grad" for event in made.flat()):
                frame.unsure.append("what the loop iterates over clears the gradients")
            if 0 < len(elements) <= 8 and self.left > 0 and all(_is_stepped(element) for element in elements):
                for element in elements:  # what is done to each optimizer in turn is done where the loop stands
                    self.bind(node.target, element, env)
                    self.block(node.body, env)
                self.block(node.orelse, env)
                return
        self.frames[-1].items.append(frame)
        self.frames.append(frame)
        branch, around = self.branch, self.around
        self.around = (*around, frame)
        if isinstance(node, ast.While):
            ends = self.block(node.body, env)
        else:
            self._bind_loop_variable(node, elements, env)
            ends = self.block(node.body, env)
        if ends in ("exit", "return"):
            frame.unsure.append("the loop ends in its first iteration")
        self.frames.pop()
        self.branch, self.around = branch, around
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
            elif is_grad(target) or (isinstance(target, ast.Subscript) and is_grad(target.value)):
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
        text = self._written(target)
        if text:
            for frame in self.frames[1:]:
                frame.bound.add(text)
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
        _name(value, path)
        if isinstance(value, Optimizer) and path is not None:
            for frame in self.frames[1:]:
                if frame in value.born:
                    frame.rebuilt.add(path)

    def _written(self, target: ast.expr) -> str:
        """Note that a name or attribute has a new value; return it as it is written."""
        text = text_of(target)
        self.writes[text] = self.writes.get(text, 0) + 1
        return text

    # -- expressions

    def _done(self, node: ast.expr, env: Env) -> None:
        """Walk an expression for its events alone."""
        if node in self.facts.acts:
            self.value(node, env)

    def value(self, node: ast.expr, env: Env) -> Value:
        """Return what an expression stands for, after the events of the calls in it."""
        self.left -= 1
        match node:
            case ast.Name():
                return self.names.find(node.id, env)
            case ast.Constant():
                return None
            case ast.Attribute():
                return self._attribute(self.value(node.value, env), node.attr)
            case ast.Call():
                return self.call(node, env)
            case ast.Subscript():
                owner = self.value(node.value, env)
                self._done(node.slice, env)
                if isinstance(owner, Group) and isinstance(node.slice, ast.Constant):
                    return owner.at(node.slice.value)
                if isinstance(owner, Thing) and owner.role == "parameters":
                    return owner
                return None
            case ast.Tuple() | ast.List():
                return Group(self._element(element, env) for element in node.elts)
            case ast.Dict():
                return self._table(node, env)
            case ast.Lambda():
                return Function(node, self.script, env)
            case ast.IfExp():
                self._done(node.test, env)
                key, truth = self._condition(node.test)
                first = self._value_under(key, truth, node.body, env)
                second = self._value_under(key, not truth, node.orelse, env)
                return first or second
            case ast.BoolOp():
                self._done(node.values[0], env)
                for operand in node.values[1:]:
                    self._value_under(f"line {operand.lineno}:{operand.col_offset}", True, operand, env)
                return None
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self._comprehension(node, env)
            case ast.NamedExpr():
                value = self.value(node.value, env)
                self.bind(node.target, value, env)
                return value
            case _:
                for child in ast.iter_child_nodes(node) if node in self.facts.acts else ():
                    if isinstance(child, ast.expr):
                        self.value(child, env)
                    elif isinstance(child, ast.comprehension):
                        self.value(child.iter, env)
                holds = self.holds(node, env) if isinstance(node, ast.BinOp) else None
                return Thing("parameters", None, holds) if holds else None

    def _attribute(self, owner: Value, name: str) -> Value:
        if isinstance(owner, Instance):
            if name in owner.attributes:
                return owner.attributes[name]
            method = self.names.method(owner.of, name)
            return self._bound(method, owner) if method is not None else None
        if isinstance(owner, Module):
            return self.names.member(owner, name)
        if isinstance(owner, Optimizer) and name == "param_groups":
            return Thing("parameters", None, frozenset({f"optimizer {owner.id}"}))
        if isinstance(owner, Optimizer) and name in ("optimizer", "optim", "base_optimizer"):
            return owner
        if isinstance(owner, Thing) and owner.role == "engine":
            return owner
        return None

    def _element(self, node: ast.expr, env: Env) -> Value:
        """Return an element of a list or tuple; an optimizer that is known by its name alone by the path it goes by."""
        value = self.value(node, env)
        named = value is None and isinstance(node, ast.Name | ast.Attribute | ast.Subscript)
        return self._as_argument(value, node, env) if named and self._is_optimizer_like(node, None) else value

    def _table(self, node: ast.Dict, env: Env) -> Value:
        """Return a dictionary of what is stepped; None for any other."""
        made = [(key, self.value(value, env)) for key, value in zip(node.keys, node.values, strict=True)]
        if not made or not all(isinstance(key, ast.Constant) and _is_stepped(value) for key, value in made):
            return None
        return Group((value for _, value in made), [key.value for key, _ in made if isinstance(key, ast.Constant)])

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, env: Env) -> Value:
        """Return a list of what is stepped, one of each kind for all; else the parameters that a comprehension gives."""
        made = node.value if isinstance(node, ast.DictComp) else node.elt
        found: list[Value] = []
        for generator in node.generators:
            elements = self._elements(generator.iter, env)
            for name in ast.walk(generator.target):
                if isinstance(name, ast.Name):
                    env.names[name.id] = elements[0] if len(elements) == 1 and isinstance(elements[0], Thing) else Thing()
            if 0 < len(elements) <= 8 and self.left > 0 and all(_is_stepped(element) for element in elements):
                for element in elements[:-1]:
                    self.bind(generator.target, element, env)
                    found.append(self.value(made, env))
                self.bind(generator.target, elements[-1], env)
        found.append(self.value(made, env))
        if all(_is_stepped(value) for value in found):
            return Group(found, [None] * len(found))
        holds = self.holds(node, env)
        return Thing("parameters", None, holds) if holds else None

    def call(self, node: ast.Call, env: Env) -> Value:
        """Return what a call gives back, after its events."""
        function = node.func
        receiver: Value = None
        target: Value = None
        if isinstance(function, ast.Attribute):
            receiver = self.value(function.value, env)
            if _is_super(function.value):
                target = self._inherited(function.attr)
            elif isinstance(receiver, Instance | Module):
                target = self._attribute(receiver, function.attr)
        else:
            target = self.value(function, env)
        arguments = [self.value(a.value if isinstance(a, ast.Starred) else a, env) for a in node.args]
        named = {k.arg or "**": self.value(k.value, env) for k in node.keywords}
        if isinstance(target, Function):
            if isinstance(target.node, ast.Lambda):
                return self.inline(target, arguments, {k: v for k, v in named.items() if k != "**"}, node)
            if isinstance(function, ast.Attribute) and function.attr in ("train", "eval") and isinstance(receiver, Instance):
                self._mode(node, function, receiver, env)
            return self.inline(target, *self._given(node, arguments, named, env), node)
        if isinstance(target, Instance):
            called = self.names.method(target.of, "__call__") or self.names.method(target.of, "forward")
            if called is not None and TRAINS & called[0].script.facts.attributes(called[1]):
                return self.inline(self._bound(called, target), *self._given(node, arguments, named, env), node)
        if isinstance(target, Class):
            return self._instantiate(target, node, arguments, named, env)
        if isinstance(receiver, Class):
            method = self.names.method(receiver, function.attr) if isinstance(function, ast.Attribute) else None
            if method is not None:
                return self.inline(self._bound(method, None), arguments, {k: v for k, v in named.items() if k != "**"}, node)
        if isinstance(receiver, Group) and isinstance(function, ast.Attribute):
            return self._of_group(receiver, function, arguments, env)
        if isinstance(function, ast.Attribute):
            handled, value = self._method_call(node, function, receiver, arguments, named, env)
            if handled:
                return value
        elif last_of(function) in CLIPS:
            self._clip(node, env)
            return None
        value = self._constructed(node, env, arguments, named)
        if value is not None:
            return value
        return self._unresolved(node, function, receiver, [*arguments, *named.values()])

    def _given(
        self, node: ast.Call, arguments: list[Value], named: dict[str, Value], env: Env
    ) -> tuple[list[Value], dict[str, Value]]:
        """Return the arguments of a call, what is not known by the path that the caller knows it by."""
        positional: list[Value] = []
        for value, given in zip(arguments, node.args, strict=True):
            if not isinstance(given, ast.Starred):
                positional.append(self._as_argument(value, given, env))
            elif isinstance(value, Group):
                positional += value.items
            else:
                break  # which arguments follow is not known
        return positional, {k.arg: self._as_argument(named[k.arg], k.value, env) for k in node.keywords if k.arg}

    def _inherited(self, name: str) -> Function | None:
        """Return the method that `super().name` stands for in the method that is walked."""
        owner, of = next(((f.owner, f.of) for f in reversed(self.methods) if f.owner is not None), (None, None))
        if not isinstance(owner, Instance) or of is None:
            return None
        method = self.names.method(owner.of, name, after=of)
        return self._bound(method, owner) if method is not None else None

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
        name, text, last = function.attr, text_of(function.value), last_of(function.value)
        role = receiver.role if isinstance(receiver, Thing) else ""
        if name in ("backward", "manual_backward", "fused_backward"):
            self._backward(node, function, env)
            if name == "fused_backward" or role == "engine" or text in self.stale:
                self.doubt(f"{text or name} steps and clears on its own")
            if name == "manual_backward" and not optimizes_manually(self.script):
                self.doubt("Lightning calls this code")
            return True, None
        is_optimizer = isinstance(receiver, Optimizer) or (
            not isinstance(receiver, Instance)
            and role in ("", "parameters")
            and self._is_optimizer_like(function.value, receiver)
            and not SCHEDULER_NAME.search(last)
        )
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
        if name in _IN_PLACE and self._in_place(node, function, last, env):
            return True, None
        if name in CLIPS:
            self._clip(node, env)
            return True, None
        if name == "unscale_":
            if node.args:
                self._emit_for(node.args[0], arguments[0], "unscale", node, env)
            return True, None
        if name == "unscale_gradients" or name in HOOKS:
            return True, None
        if name == "update" and (role == "scaler" or "scaler" in last.lower()):
            self.emit("scaler_update", self.path(function.value, env), node, receiver)
            return True, None
        if name == "set_epoch":
            self.emit("set_epoch", self.path(function.value, env), node, receiver)
            return True, None
        is_accelerator = role == "accelerator" or _ACCELERATOR.search(last)
        if (is_accelerator and name in PREPARES) or (last == "amp" and name == "initialize"):
            given = [self._as_argument(v, a, env) for v, a in zip(arguments, node.args, strict=True)]
            given += [v for v in named.values() if isinstance(v, Optimizer)]
            for value in given:
                if is_accelerator and isinstance(value, Optimizer):
                    value.prepared = node
            return True, given[0] if len(given) == 1 else Group(given)
        if name == "initialize" and text.endswith("deepspeed"):
            return True, Group((Thing("engine"), Thing("engine"), Thing("engine"), Thing("engine")))
        if isinstance(receiver, Optimizer):
            if name not in QUIET_METHODS:
                self.doubt(f"what {text}.{name} does is not known")
            return True, None
        if name in ("parameters", "named_parameters", "trainable_parameters"):
            return True, Thing("parameters", None, self.holds(node, env))
        if name in ("train", "eval"):
            self._mode(node, function, receiver, env)
        if name in SAME_OBJECT:
            return True, receiver
        return False, None

    def _of_group(self, group: Group, function: ast.Attribute, arguments: list[Value], env: Env) -> Value:
        """Return what a method of a list, tuple or dictionary gives; `append` and `extend` make it longer."""
        match function.attr:
            case "values" | "copy":
                return group
            case "items":
                return Group(Group((Thing(), item)) for item in group.items)
            case "append":
                _name(arguments[0] if arguments else None, self.path(function.value, env))
                group.add(arguments[:1])
            case "extend" | "insert" | "update":
                given = arguments[0] if arguments else None
                group.add(given.items if isinstance(given, Group) and function.attr == "extend" else [None])
        return None

    def _in_place(self, node: ast.Call, function: ast.Attribute, last: str, env: Env) -> bool:
        """Return whether a method changes a gradient in place; record it."""
        name, grad = function.attr, is_grad(function.value)
        if name in ("zero_", "fill_") and grad:
            self._clears(owner_of_grad(function.value), node, env)
        elif name == "zero_" and (last in ("g", "gr") or "grad" in ast.unparse(function.value)):
            self.emit("zero_grad", None, node)
        elif name in ("mul_", "multiply_") and grad and node.args and is_zero(node.args[0]):
            self._clears(owner_of_grad(function.value), node, env)
        elif name in ("copy_", "add_", "sub_", "set_") and grad:
            self.doubt("gradients are changed by hand")
        else:
            return False
        return True

    def _backward(self, node: ast.Call, function: ast.Attribute, env: Env) -> None:
        """Record a backward pass: `loss.backward()`, `scaler.scale(loss).backward()` or `accelerator.backward(loss)`."""
        given = node.args[0] if node.args and function.attr != "fused_backward" else None
        # The one argument of `loss.backward(gradient)` is a tensor too: an owner by a known name is no loss.
        owner = self.value(function.value, env) if isinstance(function.value, ast.Name | ast.Attribute) else None
        is_owner = (isinstance(owner, Thing) and owner.role in ("accelerator", "engine")) or (
            last_of(function.value) in ("self", "engine", "model_engine") or _ACCELERATOR.search(last_of(function.value))
        )
        loss = given if given is not None and is_owner else function.value
        scaled = None
        if isinstance(loss, ast.Call) and isinstance(loss.func, ast.Attribute) and loss.func.attr == "scale" and loss.args:
            scaled, loss = self.path(loss.func.value, env), loss.args[0]
        self.emit("backward", None, node, loss=Loss(loss, self.path(loss, env), scaled))

    def _mode(self, node: ast.Call, function: ast.Attribute, receiver: Value, env: Env) -> None:
        """Record `model.train()`, `model.eval()` and `model.train(mode)`; a mode that is not known may be either."""
        kind, target = function.attr, self.path(function.value, env)
        mode = node.args[0] if node.args else next((k.value for k in node.keywords if k.arg == "mode"), None)
        if isinstance(mode, ast.Constant):
            self.emit("train" if mode.value else "eval", target, node, receiver)
        elif mode is None:
            self.emit(kind, target, node, receiver)
        elif kind == "train":
            key, truth = self._condition(mode)
            before = self.branch
            for mode_is in (True, False):
                self.branch = (*before, (key, mode_is == truth))
                self.emit("train" if mode_is else "eval", target, node, receiver)
            self.branch = before

    def _clip(self, node: ast.Call, env: Env) -> None:
        """Record that gradients are clipped, with whose they are."""
        holds: frozenset[str] | None = None
        if node.args:
            value = self.value(node.args[0], env) if isinstance(node.args[0], ast.Name | ast.Attribute) else None
            known = isinstance(value, Thing) and value.role == "parameters"
            holds = value.holds if isinstance(value, Thing) and known else self.holds(node.args[0], env)
        self.emit("clip", None, node, Thing("parameters", None, holds))

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
        text, last = text_of(function.value), last_of(function.value)
        role = receiver.role if isinstance(receiver, Thing) else ""
        if role == "engine" or text in self.stale:
            self.emit("step", None, node)
            self.doubt(f"{text} steps and clears on its own")
            return True
        if role == "scheduler" or (not isinstance(receiver, Optimizer | Instance) and SCHEDULER_NAME.search(last)):
            self.emit("scheduler_step", self.path(function.value, env), node, receiver)
            return True
        if node.args and (isinstance(arguments[0], Optimizer) or role == "scaler" or "scaler" in last.lower()):
            self._emit_for(node.args[0], arguments[0], "step", node, env)
            return True
        if not is_optimizer:
            return False
        closure = arguments[0] if arguments else named.get("closure")
        already = len(self.frames[-1].items)
        if isinstance(closure, Function):
            self.inline(closure, [], {}, node)
        elif node.args or "closure" in named:
            self.doubt(f"{text}.step is given a closure that is not in this file")
        if isinstance(receiver, Optimizer) and receiver.constructor == "LBFGS":
            evaluated = TracedLoop(None, self.script, items=self.frames[-1].items[already:])
            if {event.kind for event in evaluated.flat()} != {"backward"}:
                self.doubt("LBFGS calls its closure several times in one step")
        self._emit_for(function.value, receiver, "step", node, env)
        if any(k.arg == "zero_grad" for k in node.keywords):
            self._emit_for(function.value, receiver, "zero_grad", node, env)
        return True

    def _is_optimizer_like(self, node: ast.expr, value: Value) -> bool:
        """Return whether an unknown receiver goes by the name of an optimizer, here or where it comes from."""
        if isinstance(value, Thing) and value.id is not None and OPT_NAME.search(re.split(r"[.\[]", value.id)[-1]):
            return True
        while isinstance(node, ast.Subscript | ast.Call):
            key = node.slice.value if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) else None
            if isinstance(key, str) and OPT_NAME.search(key):
                return True
            node = node.value if isinstance(node, ast.Subscript) else node.func
        name = last_of(node)
        return bool(OPT_NAME.search(name)) and name not in ("torch.optim", "optim")

    def _emit_for(self, expression: ast.expr, value: Value, kind: str, node: ast.Call, env: Env) -> None:
        """Record a call on an optimizer: resolved, or known by its name only."""
        if isinstance(value, Group):
            for item in value.items:
                self.emit(kind, item.id if isinstance(item, Optimizer) else None, node, item)
            return
        if isinstance(value, Optimizer):
            if value.doubt:
                self.doubt(value.doubt)
            for frame in self.frames[1:]:
                if frame in value.born and kind == "step":
                    self.doubt("the optimizer is built in the loop", frame)
            self.emit(kind, value.id, node, value)
            return
        self.emit(kind, self.path(expression, env), node, value)

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
        if self.optimizers and all(self._apart(paths, optimizer) for optimizer in self.optimizers):
            return
        for optimizer in {o.id: o for o in self.optimizers}.values():
            if optimizer.holds is None or optimizer.id is None:
                continue
            covered = [any(h == p or h.startswith((f"{p}.", f"{p}[")) for p in paths) for h in optimizer.holds]
            if covered and all(covered):
                self.emit("zero_grad", optimizer.id, node, optimizer)
                held = True
        if not held:
            self.emit("zero_grad", None, node)

    # -- what is built

    def _constructed(
        self, node: ast.Call, env: Env, arguments: Sequence[Value] = (), named: dict[str, Value] | None = None
    ) -> Value:
        """Return the optimizer, scheduler, scaler, context or wrapper that a call builds; None for anything else."""
        parts = dotted(node.func)
        name = parts[-1] if parts else ""
        first = arguments[0] if arguments else None
        given = [*arguments, *(named or {}).values()]
        if name in WRAPPERS or (name.endswith("Optimizer") and isinstance(first, Optimizer)):
            wrapped = next((v for v in given if isinstance(v, Optimizer)), None)
            if wrapped is not None:
                return wrapped
        if (
            "lr_scheduler" in parts
            or name.endswith(("LR", "Scheduler", "OnPlateau", "_scheduler", "WarmRestarts"))
            or (name.startswith("get_") and "schedule" in name)
        ):
            scheduler = Scheduler(name, node, env.script, next((v for v in given if isinstance(v, Optimizer)), None), self.around)
            self.schedulers.append(scheduler)
            self._build(node, scheduler)
            return scheduler
        if name == "GradScaler":
            scaler = Scaler(node, env.script, _enabled(node, env.script), self.around)
            self.scalers.append(scaler)
            self._build(node, scaler)
            return scaler
        if name in CONTEXTS or name == "set_grad_enabled":
            return _context(name, node, env.script)
        if name in ("Accelerator", "Fabric"):
            return Thing("accelerator", node=node, script=env.script)
        if name in ("SimpleNamespace", "parse_args", "Namespace"):
            return Thing("settings", None)
        if name in MODEL_WRAPPERS and node.args:
            return self._as_argument(first, node.args[0], env)
        if name == "enumerate" and isinstance(first, Group):
            return Group(Group((Thing(), item)) for item in first.items)
        if name == "zip" and any(isinstance(value, Group) for value in arguments):
            length = min(len(value.items) for value in arguments if isinstance(value, Group))
            return Group(
                Group(value.items[at] if isinstance(value, Group) else Thing() for value in arguments) for at in range(length)
            )
        if name in ("list", "tuple", "chain", "filter", "iter", "reversed", "sorted"):
            holds = self.holds(node, env)
            return Thing("parameters", None, holds) if holds else first if isinstance(first, Group) else None
        chosen = isinstance(node.func, ast.Subscript | ast.Call) and OPT_NAME.search(ast.unparse(node.func))
        if name in OPTIMIZERS or ("optim" in parts[:-1] and name[:1].isupper()) or chosen:
            parameters = (
                node.args[0] if node.args else next((k.value for k in node.keywords if k.arg in ("params", "parameters")), None)
            )
            holds = self.holds(parameters, env) if parameters is not None else None
            if isinstance(first, Thing) and first.role == "parameters":
                holds = first.holds
            return self._optimizer(name or "chosen by name", node, env, holds)
        if name[:1].isupper() and OPT_NAME.search(name) and not name.isupper():
            return self._optimizer(name, node, env, None, doubt=f"what {name} does is not known")
        return None

    def _optimizer(self, constructor: str, node: ast.Call, env: Env, holds: frozenset[str] | None, doubt: str = "") -> Optimizer:
        made = Optimizer(constructor, node, env.script, holds, self.around, doubt)
        self.optimizers.append(made)
        self._build(node, made)
        return made

    def _build(self, node: ast.Call, thing: Value) -> None:
        """Record what is built; its name is known only when it is bound to one."""
        self.emit("build", None, node, thing)
        item = self.frames[-1].items[-1]
        assert isinstance(item, TracedEvent)
        self.built.append(item)

    def _instantiate(self, of: Class, node: ast.Call, arguments: list[Value], named: dict[str, Value], env: Env) -> Value:
        """Return an object of a class of the project, its constructor walked."""
        bases = {dotted(base)[-1] for base in self.names.foreign_bases(of) if dotted(base)}
        if bases & (OPTIMIZERS | {"Optimizer"}):
            holds = self.holds(node.args[0], env) if node.args else None
            step = self.names.method(of, "step")
            clears = step is not None and "zero_grad" in step[0].script.facts.attributes(step[1])
            return self._optimizer(of.node.name, node, env, holds, "its step also clears" if clears else "")
        instance = Instance(of, None, node)
        init = self.names.method(of, "__init__")
        if init is not None and ("Module" not in bases or "optim" in init[0].script.source(init[1]).lower()):
            instance.id = "self"
            self.inline(self._bound(init, instance), *self._given(node, arguments, named, env), node)
            instance.id = None
        return instance

    def _configured(self, module: Instance) -> Value:
        """Return the optimizers that `configure_optimizers` of a Lightning module gives back, the schedulers left out."""
        method = self.names.method(module.of, "configure_optimizers")
        if method is None:
            return None
        kept = self.frames, self.around, self.branch, list(self.built)
        self.frames, self.around, self.branch = [TracedLoop(None, self.script)], (), ()
        given = self.inline(self._bound(method, module), [], {}, method[1])
        self.frames, self.around, self.branch, self.built = kept
        both = isinstance(given, Group) and given.items and isinstance(given.items[0], Group)
        return given.items[0] if isinstance(given, Group) and both else given

    def _unresolved(self, node: ast.Call, function: ast.expr, receiver: Value, given: list[Value]) -> Value:
        """Doubt the loop when a function that is not in the project may touch the optimizer; return what it is known to give."""
        parts = dotted(function)
        name = parts[-1] if parts else ""
        takes_grad = any(a in self.facts.grads for a in node.args) or (
            name == "setattr" and any(isinstance(a, ast.Constant) and a.value == "grad" for a in node.args)
        )
        if CLEARING_NAME.search(name) or (takes_grad and re.search("setattr|zero|mul", name)):
            self.emit("zero_grad", None, node)
            return None
        if CALLS_BACK.search(name):
            self.doubt(f"{name} runs hooks that are not known")
            return None
        if isinstance(receiver, Instance) and name not in receiver.attributes and self._may_train_unseen(receiver):
            if not COMPUTES.search(name):
                self.doubt(f"{'.'.join(parts)} is not in this file")
            return self._configured(receiver) if name == "optimizers" else None
        if HARMLESS.search(name):
            return None
        by_name = any("optim" in last_of(a).lower() for a in [*node.args, *(k.value for k in node.keywords)])
        if by_name or any(carries_optimizer(value) for value in given):
            self.doubt(f"{name or 'a function'} is given the optimizer and is not in this file")
        return None

    # -- functions

    def inline(self, function: Function, arguments: Sequence[Value], named: dict[str, Value], at: ast.AST) -> Value:
        """Walk the body of a function in the place of a call; return what it gives back."""
        node = function.node
        if node in self.stack or len(self.stack) >= DEPTH or self.left <= 0:
            if {"zero_grad", "step"} & function.script.facts.attributes(node):
                self.doubt("calls are nested too deeply to be followed")
            return None
        self.visited.add(node)
        env = Env(function.script, {}, function.env)
        parameters = [a.arg for a in [*node.args.posonlyargs, *node.args.args]]
        decorators = [] if isinstance(node, ast.Lambda) else [(dotted(d) or [""])[-1] for d in node.decorator_list]
        given = list(arguments)
        if function.owner is not None and "staticmethod" not in decorators:
            given.insert(0, function.owner)
        elif function.owner is None and "classmethod" in decorators:
            given.insert(0, function.of)
        env.names.update(dict.fromkeys([*parameters, *(a.arg for a in node.args.kwonlyargs)]))
        env.names.update(zip(parameters, given, strict=False))
        if node.args.vararg is not None:
            env.names[node.args.vararg.arg] = Group(given[len(parameters) :])
        env.names.update({name: value for name, value in named.items() if name in env.names})
        for name, value in env.names.items():
            _name(value, name)
        kept = self.script, self.facts, self.via, self.within, self.branch
        if function.script is not self.script:
            self._enter_script(function.script)
            self.via = at if self.via is None else self.via
            if self.script is self.names.scripts[0]:
                self.via = None
        self.within |= {CONTEXTS[d] for d in decorators if d in CONTEXTS} - {"grad"}
        self.calls.append(at)
        self.stack.append(node)
        self.methods.append(function)
        self.loop_depth.append(len(self.frames))
        self.returned.append([])
        lightning = function.owner is not None and self._is_lightning(function.owner.of) and not optimizes_manually(self.script)
        before = len(self.frames[-1].items)
        if isinstance(node, ast.Lambda):
            self.returned[-1].append(self.value(node.body, env))
        else:
            self.block(node.body, env)
        if lightning:
            for item in self.frames[-1].items[before:]:
                if isinstance(item, TracedLoop):
                    item.unsure.append("Lightning or a Trainer calls this code")
        self.script, self.facts, self.via, self.within, self.branch = kept
        self.calls.pop()
        self.stack.pop()
        self.methods.pop()
        self.loop_depth.pop()
        results = self.returned.pop()
        return next((value for value in reversed(results) if value is not None), None)

    def _enter_script(self, script: Script) -> None:
        self.script, self.facts = script, script.facts
        self.stale |= self.facts.engines

    def _may_train_unseen(self, instance: Instance) -> bool:
        """Return whether an object that trains has methods that are not known."""
        trains = {"zero_grad", "backward"} & instance.of.script.facts.attributes(instance.of.node) or carries_optimizer(instance)
        return bool(trains) and self._inherits_the_unknown(instance.of)

    def _inherits_the_unknown(self, of: Class) -> bool:
        """Return whether a class has methods that are in another project, other than those of a PyTorch module."""
        bases = [dotted(base) for base in self.names.foreign_bases(of)]
        return any(parts and parts[-1] not in KNOWN_BASES and not {"nn", "torch"} & set(parts) for parts in bases)

    def _is_lightning(self, of: Class) -> bool:
        known = self._lightning.get(of.node)
        if known is None:
            names = [".".join(dotted(base)) for base in self.names.foreign_bases(of)]
            known = self._lightning[of.node] = any(_LIGHTNING.search(name) for name in names)
        return known

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
        if node in self.facts.parameters:
            found: set[str] = set()
            for call in ast.walk(node):
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr.endswith("parameters"):
                    path = self.path(call.func.value, env)
                    if path is None:
                        return None
                    found.add(path)
            if found:
                self.models |= found
                return frozenset(found)
        if isinstance(node, ast.Name | ast.Attribute):
            value = env.find(node.id)[1] if isinstance(node, ast.Name) else None
            if isinstance(value, Thing) and value.holds is not None:
                return value.holds
            path = self.path(node, env)
            return frozenset({path}) if path is not None else None
        if isinstance(node, ast.List | ast.Tuple) and all(isinstance(e, ast.Name | ast.Attribute) for e in node.elts):
            paths = [self.path(element, env) for element in node.elts]
            return frozenset(p for p in paths if p is not None) if paths and None not in paths else None
        return None

    def emit(self, kind: str, target: str | None, node: ast.AST, thing: Value = None, *, loss: Loss | None = None) -> None:
        """Record a call in the innermost loop."""
        if kind == "zero_grad" and self.counts:
            self.cleared |= {node, node.func} if isinstance(node, ast.Call) else {node}
        event = TracedEvent(kind, target, node, self.script, via=self.via or node, branch=self.branch, thing=thing, loss=loss)
        event.within, event.loops, event.calls = self.within, self.around, tuple(self.calls)
        self.frames[-1].items.append(event)

    def overlap(self, first: str, second: str) -> bool:
        """Return whether two optimizers, by their names, may hold the same parameters: all that is not known may."""
        held = []
        for name in (first, second):
            known = [o.holds for o in self.optimizers if o.id == name]
            if not known or None in known:
                return True
            held.append(frozenset().union(*(holds for holds in known if holds is not None)))
        made = [[self._made_of(path) for path in sorted(paths)] for paths in held]
        if any(origins is None for side in made for origins in side):
            return True
        first_made, second_made = ({path for origins in side if origins for path in origins} for side in made)
        return any(related(a, b) or self._share(a, b) for a in first_made for b in second_made)

    def _apart(self, paths: frozenset[str], optimizer: Optimizer) -> bool:
        """Return whether an optimizer is seen to hold nothing of these models and tensors."""
        made = [self._made_of(path) for path in sorted(paths)]
        held = [self._made_of(path) for path in sorted(optimizer.holds or ())]
        if not held or any(origins is None for origins in [*made, *held]):
            return False
        return not any(
            related(a, b) or self._share(a, b) for one in made for a in one or () for other in held for b in other or ()
        )

    def _made_of(self, path: str) -> set[str] | None:
        """Return the path of a model or tensor, and of all that a list of parameters is made of; None where that is not seen."""
        found, pending = {path}, [path]
        if path in self.models:
            return found
        while pending:
            name = pending.pop()
            values = [value for text, value in self._assigned if text == name]
            if name == path and not values:
                return None
            for value in values:
                called = {id(n.func) for n in ast.walk(value) if isinstance(n, ast.Call)}
                receivers = (
                    n.value if id(n) in called and isinstance(n, ast.Attribute) else n
                    for n in ast.walk(value)
                    if isinstance(n, ast.Attribute) or (isinstance(n, ast.Name) and id(n) not in called)
                )
                new = {text_of(n) for n in receivers} - found - {""}
                new = {text for text in new if text != "self" and text.partition(".")[0] not in self.script.imports}
                found |= new
                pending += [text for text in new if text not in self.models]
        return found

    def _share(self, first: str, second: str) -> bool:
        """Return whether two models are built from one object, or one is given a part of the other."""
        parts: dict[str, set[str]] = {first: set(), second: set()}
        built = set()
        for text, value in self._assigned:
            names = {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}
            if isinstance(value, ast.Call) and (dotted(value.func) or [""])[-1][:1].isupper():
                built.add(text)
            for name, other in ((first, second), (second, first)):
                if text == name:
                    parts[name] |= names
                if text.startswith(f"{name}.") and ast.unparse(value).startswith(other):
                    return True
        return bool(parts[first] & parts[second] & built)

    @cached_property
    def _assigned(self) -> list[tuple[str, ast.expr]]:
        """All assignments to names and attributes in the scripts that were followed, tuples element by element."""
        statements = [node for script in self.scripts for node in script.nodes.get(ast.Assign, ())]
        found = [pair for node in statements if isinstance(node, ast.Assign) for pair in pairs(node)]
        noted = (node for script in self.scripts for node in script.nodes.get(ast.AnnAssign, ()))
        found += [(node.target, node.value) for node in noted if isinstance(node, ast.AnnAssign) and node.value is not None]
        return [(text_of(target), value) for target, value in found if text_of(target)]

    @cached_property
    def unfollowed(self) -> int | None:
        """The line of a call that clears gradients, or of a mention of one, that no part of the walk has met."""
        script = self.scripts[0]
        for node in script.all(ast.Attribute, ast.Constant):
            if isinstance(node, ast.Attribute) and CLEARING_NAME.search(node.attr) and node not in self.cleared:
                if isinstance(script.parents.get(node), ast.Expr):
                    continue  # named, not called
                if CLEARING_NAME.search(getattr(script.function(node), "name", "")):
                    continue  # what a call of this function would do: the call would be such an attribute itself
                return node.lineno
            if isinstance(node, ast.Constant) and node.value == "zero_grad":
                return node.lineno
        return None

    def doubt(self, why: str, only: TracedLoop | None = None) -> None:
        """Say why the order in the current loops is not known."""
        for frame in self.frames if only is None else [only]:
            if why not in frame.unsure:
                frame.unsure.append(why)

    def _condition(self, test: ast.expr) -> tuple[str, bool]:
        """Return a name for a test, the same for the same test of unchanged variables, and what it is when it holds."""
        truth = True
        while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            test, truth = test.operand, not truth
        text, names = self.facts.condition(test)
        meant = self.script.origin(test, 1) if isinstance(test, ast.Name) else test
        if isinstance(meant, ast.Compare) and meant is not test:
            text = f"{text}={self.facts.condition(meant)[0]}"
        if names is None:
            return f"line {test.lineno}:{test.col_offset} {text}", truth
        return f"{text} {[self.writes.get(name, 0) for name in names]}", truth

    def _has_backward(self) -> bool:
        return any(event.kind in ("backward", "step") for event in self.frames[-1].flat())


_IN_PLACE = frozenset({"zero_", "fill_", "mul_", "multiply_", "copy_", "add_", "sub_", "set_"})
_ACCELERATOR = lazy("accel|fabric", re.IGNORECASE)
_LIGHTNING = lazy(r"Lightning|(^|\.)pl\.|(?<!Base)Trainer$|Optimizer$")
#: Calls without which a function that nobody calls is not worth a walk of its own.
TRAINS = frozenset({"zero_grad", "step", "backward"})
TRAINING = ("backward", "manual_backward", "step", "optimizer_step", "zero_grad", "train", "eval", *sorted(CLIPS))


def _trains(of: Class) -> bool:
    return bool(TRAINS & of.script.facts.attributes(of.node))


def _name(value: Value, path: str | None) -> None:
    """Let what has no name yet go by a path; the elements of a list by theirs in it, or by its own where they stand for many."""
    if isinstance(value, Group):
        for key, item in zip(value.keys, value.items, strict=True):
            if isinstance(item, Optimizer | Scheduler):
                _name(item, path if key is None or path is None else f"{path}[{key!r}]")
        return
    named = isinstance(value, Optimizer | Instance) or (isinstance(value, Thing) and value.role not in ("", "parameters"))
    if named and value.id is None:  # type: ignore[union-attr]
        value.id = path  # type: ignore[union-attr]


def _is_stepped(value: Value) -> bool:
    """Return whether a value is an optimizer or a scheduler, or a pair in which one stands."""
    if isinstance(value, Group):
        return any(_is_stepped(item) for item in value.items)
    by_name = type(value) is Thing and value.role == "" and OPT_NAME.search(re.split(r"[.\[]", value.id or "")[-1])
    return isinstance(value, Optimizer | Scheduler) or bool(by_name)


def _is_super(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def _is_once(node: ast.expr) -> bool:
    """Return whether a loop runs over `range(1)`."""
    match node:
        case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=1)], keywords=[]):
            return True
    return False


def _enabled(node: ast.Call, script: Script) -> bool | None:
    """Return whether a GradScaler is on: `amp.GradScaler(device, .., enabled)`, `cuda.amp.GradScaler(.., enabled)`."""
    first = script.constant(node.args[0]) if node.args else None
    given = script.argument(node, "enabled", 5 if isinstance(first, str) else 4)
    if given is None:
        return None if script.open_ended(node) else True
    value = script.constant(given)
    return value if isinstance(value, bool) else None


def _context(name: str, node: ast.Call, script: Script) -> Thing | None:
    """Return the context that a call opens; None for one that is switched off, or may be."""
    if name == "set_grad_enabled":
        on = script.constant(node.args[0]) if node.args else UNKNOWN
        return Thing("grad" if on else "no_grad", None, None, node, script) if isinstance(on, bool) else None
    enabled = script.constant(script.argument(node, "enabled")) if script.argument(node, "enabled") is not None else True
    return Thing(CONTEXTS[name], None, None, node, script) if enabled is not False else None
