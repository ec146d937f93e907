"""The losses that a script computes, and the terms of what it differentiates."""

from __future__ import annotations

import ast
import re
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.code.tensors import COPIES, CRITERION, FUNCTIONAL_LOSSES, LOSS_LAYERS, REDUCTIONS, SAME, Spot, is_torch
from traindoctor.mistake import Edit
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.definitions import Path
    from traindoctor.code.script import Script
    from traindoctor.code.tensors import Frame

#: Objects whose `backward` takes the loss as its argument.
ENGINE = lazy(r"accel|fabric|engine|strategy|manager|trainer|booster|optim|scaler|autograd|^self$|model", re.IGNORECASE)
#: Functions whose returned value a framework differentiates.
RETURNING_LOSS = ("training_step", "compute_loss")
#: Losses, and backward passes, looked at in one script: no script of a person's has more.
MANY = 300


class LossCall(NamedTuple):
    """A call that computes a loss of torch: which one, its prediction and its target, and the frame it stands in."""

    kind: str
    call: ast.Call
    input: ast.expr
    target: ast.expr | None
    frame: Frame


class Term(NamedTuple):
    """A summand of what is differentiated, with its frame; `whole`: nothing is added to it. `backward`: the call that does it."""

    node: ast.expr
    frame: Frame
    whole: bool
    backward: ast.AST


class Cut(NamedTuple):
    """Where something that is differentiated lost its gradients: the operation and its place, and the loss behind it.

    `whole`: nothing else is differentiated with it. `guess`: that it is a loss, or data, is known by a name alone.
    """

    how: str
    at: Spot
    loss: Spot
    whole: bool
    guess: bool
    backward: ast.AST


class Losses:
    """The losses of one script."""

    def __init__(self, script: Script) -> None:
        self.script = script

    @cached_property
    def calls(self) -> list[LossCall]:
        """The calls that compute a loss of torch, in the order of the text."""
        script = self.script
        if "torch" not in script.text:
            return []
        names = {*FUNCTIONAL_LOSSES, ""} | {name for name in script.calls if CRITERION.search(name)}
        for layer in LOSS_LAYERS:
            for call in script.calls.get(layer, ()):
                parent = next((n for n in script.above(call) if isinstance(n, ast.stmt)), None)
                if isinstance(parent, ast.Assign):
                    names |= {t.attr if isinstance(t, ast.Attribute) else getattr(t, "id", "") for t in parent.targets}
        calls = [call for name in names for call in script.calls.get(name, ())][:MANY]
        found = [loss for call in calls if (loss := self.at(call)) is not None]
        return sorted(found, key=lambda loss: (loss.call.lineno, loss.call.col_offset))

    def at(self, call: ast.Call, frame: Frame | None = None) -> LossCall | None:
        """Return the loss that a call computes; None for any other call, and one whose arguments are hidden by `*`."""
        frame = frame if frame is not None else self.script.tensors.frame(call)
        script = frame.script
        prediction = script.argument(call, "input", 0)
        target = script.argument(call, "target", 1)
        if prediction is None or (target is None and len(call.keywords) == 0):
            return None
        kind = self.script.tensors.loss_kind(call, frame)
        return LossCall(kind, call, prediction, target, frame) if kind else None

    @cached_property
    def roots(self) -> list[tuple[ast.expr, ast.AST]]:
        """What is differentiated: the expression, and the call of `backward` or the return that hands it over."""
        script = self.script
        found: list[tuple[ast.expr, ast.AST]] = []
        for call in script.calls.get("backward", ()):
            if isinstance(call.func, ast.Attribute):
                owner = call.func.value
                name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
                found.append((call.args[0] if call.args and ENGINE.search(name) else owner, call))
        found += [(call.args[0], call) for call in script.calls.get("manual_backward", ()) if call.args]
        for function in script.all(ast.FunctionDef):
            assert isinstance(function, ast.FunctionDef)
            of_class = script.parents.get(function)
            if function.name in RETURNING_LOSS and isinstance(of_class, ast.ClassDef):
                if any(script.function(root) is function for _, root in found):
                    continue
                if function.name == "compute_loss" and not any(
                    script.dotted(base).endswith("Trainer") for base in of_class.bases
                ):
                    continue  # a method of the author's own: what becomes of its values is seen where it is called
                for node in script.nodes.get(ast.Return, ()):
                    value = getattr(node, "value", None)
                    if script.function(node) is function and value is not None:
                        found.append((value, node))
        return found[:MANY]

    @cached_property
    def terms(self) -> list[Term]:
        """The summands of all that is differentiated."""
        found = []
        for node, root in self.roots:
            path: Path = ("loss",) if isinstance(root, ast.Return) and isinstance(node, ast.Dict) else ()
            if isinstance(root, ast.Return) and isinstance(node, ast.Tuple):
                path = (0,)
            elif isinstance(root, ast.Return) and isinstance(node, ast.IfExp):  # (loss, outputs) if return_outputs else loss
                node = node.orelse
            found += list(self._terms(node, self.script.tensors.frame(node), path, True, root, set()))
        return list(dict.fromkeys(found))

    @cached_property
    def cut(self) -> list[Cut]:
        """What is differentiated though no gradient passes on any path, by the place where it was lost."""
        found: dict[ast.AST, Cut] = {}
        for term in self.terms:
            if rewrapped(term.node) is not None:
                continue
            known = isinstance(term.node, ast.Call) and bool(self.script.tensors.loss_kind(term.node, term.frame))
            if not term.whole and not known:
                continue  # a summand that is detached on purpose only shifts the loss
            tensors = self.script.tensors.of(term.node, term.frame)
            at = tensors[0].at
            if at is not None and all(t.flow == "cut" for t in tensors):
                guess = any(t.guess for t in tensors) and not known
                found.setdefault(
                    at.node, Cut(tensors[0].cut, at, Spot(term.frame.script, term.node), term.whole, guess, term.backward)
                )
        return list(found.values())

    def _terms(
        self, node: ast.expr, frame: Frame, path: Path, whole: bool, root: ast.AST, seen: set[tuple[ast.AST, int]]
    ) -> Iterator[Term]:
        key = (node, id(frame))
        if key in seen or len(seen) > 200:
            return
        seen.add(key)
        tensors = self.script.tensors
        match node:
            case ast.Name() | ast.Attribute():
                for definition, where in tensors.alternatives(node, frame):
                    if definition.kind == "parameter":
                        for value, given_in in tensors.arguments(definition, where):
                            yield from self._terms(value, given_in, path, whole, root, seen)
                    elif (
                        definition.kind == "augment"
                        and isinstance(definition.node, ast.AugAssign)
                        and definition.value is not None
                    ):
                        if isinstance(definition.node.op, ast.Div | ast.Mult):
                            yield from self._terms(definition.node.target, where, path, whole, root, seen)
                        else:
                            yield from self._terms(definition.node.target, where, path, False, root, seen)
                            yield from self._terms(definition.value, where, (), False, root, seen)
                    elif definition.kind in ("assign", "with") and definition.value is not None:
                        yield from self._terms(definition.value, where, definition.path + path, whole, root, seen)
            case ast.Subscript(slice=ast.Constant(value=int() | str() as index)):
                yield from self._terms(node.value, frame, (index, *path), whole, root, seen)
            case ast.Tuple() | ast.List() if path and isinstance(path[0], int) and path[0] < len(node.elts):
                yield from self._terms(node.elts[path[0]], frame, path[1:], whole, root, seen)
            case ast.Tuple() | ast.List():
                for element in node.elts:
                    yield from self._terms(element, frame, (), whole and len(node.elts) == 1, root, seen)
            case ast.Dict() if path:
                for name, value in zip(node.keys, node.values, strict=True):
                    if isinstance(name, ast.Constant) and name.value == path[0]:
                        yield from self._terms(value, frame, path[1:], whole, root, seen)
            case ast.IfExp():
                yield from self._terms(node.body, frame, path, whole, root, seen)
                yield from self._terms(node.orelse, frame, path, whole, root, seen)
            case ast.UnaryOp():
                yield from self._terms(node.operand, frame, path, whole, root, seen)
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                alone = isinstance(node.left, ast.Constant) or isinstance(node.right, ast.Constant)
                for side in (node.left, node.right):
                    yield from self._terms(side, frame, (), whole and alone, root, seen)
            case ast.BinOp(op=ast.Mult() | ast.Div()):
                sides = [s for s in (node.left, node.right) if not isinstance(s, ast.Constant)]
                weighted = [s for s in sides if isinstance(s, ast.Call) and tensors.loss_kind(s, frame)]
                if isinstance(node.op, ast.Mult) and len(weighted) == 1:
                    yield from self._terms(weighted[0], frame, (), whole, root, seen)
                elif isinstance(node.op, ast.Div) or len(sides) == 1:
                    yield from self._terms(sides[0] if sides else node, frame, (), whole, root, seen)
                else:
                    yield Term(node, frame, whole, root)
            case ast.Call():
                yield from self._called(node, frame, path, whole, root, seen)
            case _:
                if not path:
                    yield Term(node, frame, whole, root)

    def _called(
        self, node: ast.Call, frame: Frame, path: Path, whole: bool, root: ast.AST, seen: set[tuple[ast.AST, int]]
    ) -> Iterator[Term]:
        """Yield the terms of a call: of what a scaler or a mean is taken of, of what a function of the project returns."""
        tensors, script, func = self.script.tensors, frame.script, node.func
        name = func.attr if isinstance(func, ast.Attribute) else script.dotted(func).rpartition(".")[2]
        if rewrapped(node) is not None:
            yield Term(node, frame, whole, root)
            return
        if (
            name in ("scale", "scale_loss", "sum", "stack", "cat", "mean")
            and node.args
            and not isinstance(node.args[0], ast.Constant)
        ):
            yield from self._terms(node.args[0], frame, (), whole, root, seen)
            return
        kept = name in REDUCTIONS or name in SAME or name == "requires_grad_"
        if kept and isinstance(func, ast.Attribute) and script.dotted(func).partition(".")[0] not in ("torch", "F"):
            yield from self._terms(func.value, frame, path, whole, root, seen)
            return
        for entered in tensors.entered(node, frame):
            for value in tensors.returns(entered):
                yield from self._terms(value, entered, path, whole, root, seen)
        if not path:
            yield Term(node, frame, whole, root)


def rewrapped(node: ast.expr) -> ast.expr | None:
    """Return what a call puts into a tensor without a graph: `torch.tensor(loss)`, `loss.detach().requires_grad_()`; or None."""
    if not isinstance(node, ast.Call):
        return None
    func = node.func
    name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
    if name == "requires_grad_" and isinstance(func, ast.Attribute):
        inner = func.value
        while (
            isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr in ("clone", "float", "to")
        ):
            inner = inner.func.value
        if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute) and inner.func.attr == "detach":
            return inner.func.value
        if isinstance(inner, ast.Attribute) and inner.attr == "data":
            return inner.value
        return rewrapped(inner)
    if name in COPIES and name != "from_numpy" and node.args:
        return node.args[0]
    if name == "as_tensor" and node.args and isinstance(node.args[0], ast.Call):  # of a tensor it is that tensor
        inner = node.args[0].func
        return inner.value if isinstance(inner, ast.Attribute) and inner.attr == "item" else None
    return None


def in_script(script: Script, *spots: Spot | None) -> ast.AST | None:
    """Return the node of the first spot that stands in a script."""
    return next((spot.node for spot in spots if spot is not None and spot.script is script), None)


def written(script: Script, node: ast.AST) -> str:
    """Return the text of a node for a message: as it is written where that is short, else its beginning."""
    text = " ".join(script.source(node).split())
    return text if len(text) <= 60 else f"{text[:56]} ..."


def _is_layer(argument: ast.expr | None) -> bool:
    """Return whether the first argument tells that a layer is called, and no method with a dimension: `self.act(x)`."""
    number = argument.operand if isinstance(argument, ast.UnaryOp) else argument
    return argument is not None and not isinstance(number, ast.Constant)


def unwrapped(script: Script, call: ast.AST) -> Edit | None:
    """Return the edit that takes a function away from its operand: `f(x)`, `x.f()`, `nn.F()(x)`, the last layer of Sequential."""
    parent = script.parents.get(call)
    if isinstance(parent, ast.Call) and parent.func is call and len(parent.args) == 1:
        return script.replaced(parent, script.source(parent.args[0]))
    if not isinstance(call, ast.Call):
        return None
    if isinstance(parent, ast.Call) and call in parent.args[1:] and script.dotted(parent.func).endswith("Sequential"):
        before = parent.args[parent.args.index(call) - 1]
        return Edit(script.span(before)[1], script.span(call)[1], "")
    func, dotted = call.func, script.dotted(call.func)
    if is_torch(script, dotted) and dotted.rpartition(".")[2][:1].isupper():
        return None  # builds the layer: taken away, its name would stand for nothing
    operand = script.argument(call, "input", 0)
    if isinstance(func, ast.Attribute) and not is_torch(script, dotted) and not _is_layer(operand):
        operand = func.value  # a method of the tensor: x.softmax(1)
    if operand is None or isinstance(operand, ast.Starred):
        return None
    text = script.source(operand)
    if isinstance(parent, ast.Assign) and [script.source(t) for t in parent.targets] == [text]:  # `out = out` is no statement
        lines = script.line_span(parent)
        if lines is not None:
            return Edit(*lines, "")
    single = isinstance(operand, ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.Constant)
    return script.replaced(call, text if single or isinstance(parent, ast.Call | ast.Assign | ast.Return) else f"({text})")
