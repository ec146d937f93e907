"""Rows 20 to 26: what the loss is computed from, and what is kept of it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mutators import plants
from mutators.order import of_one_loss
from source import FUNCTIONS, LOOPS, dotted, last

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sites import Script
    from source import Mutant


@plants
def loss_kept_with_its_graph(script: Script) -> Iterator[Mutant | None]:
    """Row 20: the loss is summed or listed across iterations with its graph."""
    for site in of_one_loss(script):
        if not site.loss.isidentifier() or not isinstance(site.loop, LOOPS):
            continue
        inside = [s for s in script.statements if site.loop in script.loops(s) and s.lineno > site.backward.lineno]
        for s in inside:
            for node in ast.walk(s):
                kept = isinstance(s, ast.AugAssign) or (
                    isinstance(s, ast.Expr) and isinstance(s.value, ast.Call) and last(s.value.func) == "append"
                )
                if not kept or not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                if node.func.attr in {"item", "detach"} and dotted(node.func.value) == site.loss:
                    yield script.mutant("20", "item() removed", [script.replace(node, site.loss)], site.backward)
        around = script.loops(site.step)[0]  # in a loop of micro-batches the step stands one further out
        sums = {
            "sum added": ("running_total = 0.0", f"running_total += {site.loss}"),
            "sum added, spelled out": ("running_total = 0.0", f"running_total = running_total + {site.loss}"),
            "list added": ("history = []", f"history.append({site.loss})"),
        }
        for form, (first, line) in sums.items():
            yield script.mutant("20", form, [script.before(around, first, planted=False), script.after(site.step, line)])


def _wrap_first(script: Script, kind: str, row: str, forms: dict[str, str]) -> Iterator[Mutant | None]:
    """Yield the losses of a kind with their first argument wrapped, in place and in a line of its own before."""
    for call, statement in script.loss_calls(kind):
        first = script.of(call.args[0])
        for form, text in forms.items():
            yield script.mutant(row, form, [script.replace(call.args[0], text.format(first))], statement)
            if first.isidentifier() and script.alone_on_its_lines(statement):
                line = f"{first} = {text.format(first)}"
                yield script.mutant(row, f"{form}, line before", [script.before(statement, line)], statement)


@plants
def softmax_before_cross_entropy(script: Script) -> Iterator[Mutant | None]:
    """Row 21: probabilities where logits are due."""
    forms = {
        "torch.softmax": "torch.softmax({}, 1)",
        "F.softmax": "torch.nn.functional.softmax({}, dim=1)",
        "method": "{}.softmax(dim=-1)",
        "module": "torch.nn.Softmax(dim=1)({})",
    }
    yield from _wrap_first(script, "CE", "21", forms)
    for end, owner in _last_layers(script, "CE"):
        yield script.mutant(
            "21",
            "last layer",
            [script.replace(end, f"{script.of(end)}, nn.Softmax(dim=1)")],
            owner,
            *_loss_statements(script, "CE"),
        )
    for node, value in _returned_logits(script, "CE"):
        text = f"torch.softmax({script.of(value)}, dim=1)"
        yield script.mutant("21", "forward returns it", [script.replace(value, text)], node, *_loss_statements(script, "CE"))


@plants
def softmax_into_nll(script: Script) -> Iterator[Mutant | None]:
    """Row 22: the negative log likelihood of probabilities that are no logarithms."""
    losses = _loss_statements(script, "NLL")
    if losses:
        for node in script.nodes:
            if isinstance(node, ast.Call) and last(node.func) == "log_softmax":
                text = script.of(node.func).replace("log_softmax", "softmax")
                yield script.mutant("22", "log removed", [script.replace(node.func, text)], script.statement(node), *losses)
            if isinstance(node, ast.Call) and last(node.func) == "LogSoftmax":
                text = script.of(node.func).replace("LogSoftmax", "Softmax")
                yield script.mutant("22", "log layer removed", [script.replace(node.func, text)], script.statement(node), *losses)
    for call, statement in script.loss_calls("CE"):
        name, rest = script.of(call.args[0]), ", ".join(script.of(a) for a in call.args[1:])
        if call.keywords or script.losses.get(dotted(call.func)) not in {None, "CE"}:
            continue
        text = f"torch.nn.functional.nll_loss(torch.softmax({name}, dim=1), {rest})"
        yield script.mutant("22", "loss exchanged", [script.replace(call, text)], statement)
        text = f"torch.nn.functional.nll_loss({name}.softmax(1), {rest})"
        yield script.mutant("22", "loss exchanged, method", [script.replace(call, text)], statement)


@plants
def sigmoid_and_binary_losses(script: Script) -> Iterator[Mutant | None]:
    """Row 23: a sigmoid too many before BCEWithLogitsLoss, or none before BCELoss."""
    forms = {"torch.sigmoid": "torch.sigmoid({})", "method": "{}.sigmoid()", "functional": "torch.nn.functional.sigmoid({})"}
    yield from _wrap_first(script, "BCEL", "23", forms)
    logits, losses = _loss_statements(script, "BCEL"), _loss_statements(script, "BCE")
    for end, owner in _last_layers(script, "BCEL"):
        yield script.mutant("23", "last layer", [script.replace(end, f"{script.of(end)}, nn.Sigmoid()")], owner, *logits)
    for node, value in _returned_logits(script, "BCEL"):
        yield script.mutant(
            "23", "forward returns it", [script.replace(value, f"torch.sigmoid({script.of(value)})")], node, *logits
        )
    if losses:
        for node in script.nodes:
            layer = isinstance(node, ast.Call) and last(node.func) == "Sigmoid"
            parent = script.parents.get(node)
            if (
                layer
                and isinstance(parent, ast.Call)
                and last(parent.func) == "Sequential"
                and parent.args[-1] is node
                and len(parent.args) > 1
            ):
                before = parent.args[-2]
                text = script.of(before)
                edit = script.replace(node, "nn.Identity()")
                yield script.mutant("23", "sigmoid removed", [edit], script.statement(node), *losses) if text else None
            if (
                isinstance(node, ast.Call)
                and last(node.func) == "sigmoid"
                and isinstance(parent, (ast.Return, ast.Assign))
                and node.args
            ):
                yield script.mutant(
                    "23", "sigmoid removed", [script.replace(node, script.of(node.args[0]))], script.statement(node), *losses
                )


@plants
def decision_in_the_loss(script: Script) -> Iterator[Mutant | None]:
    """Row 24: a decision, which has no gradient, stands in the path of the loss."""
    forms = {"argmax": "{}.argmax(1).float()", "torch.argmax": "torch.argmax({}, dim=1).float()", "round": "torch.round({})"}
    yield from _wrap_first(script, "CE", "24", forms)
    binary = {"threshold": "({} > 0.5).float()", "round": "{}.round()"}
    for kind in ("BCE", "BCEL", "MSE"):
        yield from _wrap_first(script, kind, "24", binary)


@plants
def prediction_detached(script: Script) -> Iterator[Mutant | None]:
    """Row 25: the prediction is cut from its graph before the loss."""
    forms = {
        "detach": "{}.detach()",
        "data": "{}.data",
        "numpy": "torch.from_numpy({}.detach().cpu().numpy())",
        "tensor": "torch.tensor({}.tolist())",
    }
    optimizers = {site.optimizer for site in script.sites}
    if len(optimizers) > 1:
        return
    for kind in ("CE", "NLL", "BCE", "BCEL", "MSE"):
        yield from _wrap_first(script, kind, "25", forms)
    for site in of_one_loss(script):
        for s in script.block(site.backward):
            forward = (
                isinstance(s, ast.Assign)
                and isinstance(s.value, ast.Call)
                and site.built
                and dotted(s.value.func) == script.model_of(site.built)
            )
            if forward and s.lineno < site.backward.lineno and script.alone_on_its_lines(s):
                code = "with torch.no_grad():\n" + "\n".join(f"    {line}" for line in script.code(s).splitlines())
                start, end = script.lines_of(s)
                edit = script.before(s, code)
                joined = type(edit)(start, end, edit.text)
                yield script.mutant("25", "forward under no_grad", [joined], site.backward)


@plants
def loss_wrapped_again(script: Script) -> Iterator[Mutant | None]:
    """Row 26: the loss is put into a new tensor, which knows no model."""
    forms = {
        "tensor of item": "{0} = torch.tensor({0}.item(), requires_grad=True)",
        "tensor": "{0} = torch.tensor({0}, requires_grad=True)",
        "variable": "{0} = torch.autograd.Variable({0}.data, requires_grad=True)",
        "detached": "{0} = {0}.detach().requires_grad_(True)",
    }
    for site in of_one_loss(script):
        if site.loss.isidentifier():
            for form, line in forms.items():
                yield script.mutant("26", form, [script.before(site.backward, line.format(site.loss))], site.backward)


def _loss_statements(script: Script, kind: str) -> list[ast.stmt]:
    return [statement for _, statement in script.loss_calls(kind)]


def _trained_models(script: Script) -> set[str]:
    """The classes and names of the models whose parameters the optimizers of the file were given."""
    names = {script.model_of(b) for b in script.optimizers} - {""}
    classes = set()
    for node in script.nodes:
        if isinstance(node, ast.Assign) and dotted(node.targets[0]) in names:
            classes |= {last(n.func) for n in ast.walk(node.value) if isinstance(n, ast.Call)}
    return names | classes


def _last_layers(script: Script, kind: str) -> Iterator[tuple[ast.expr, ast.stmt]]:
    """Yield the last layer of each Sequential that is a trained model itself, where the loss is of the kind."""
    if not script.loss_calls(kind):
        return
    models = _trained_models(script)
    for node in script.nodes:
        call = node.value if isinstance(node, ast.Assign) and dotted(node.targets[0]) in models else None
        if isinstance(call, ast.Call) and last(call.func) == "Sequential" and call.args and "nn." in script.of(call.args[-1]):
            yield call.args[-1], script.statement(call)


def _returned_logits(script: Script, kind: str) -> Iterator[tuple[ast.stmt, ast.expr]]:
    """Yield the return of each trained model's forward that returns one name or call, where the loss is of the kind."""
    if not script.loss_calls(kind):
        return
    models = _trained_models(script)
    for node in script.nodes:
        if isinstance(node, ast.ClassDef) and node.name in models:
            for method in node.body:
                if isinstance(method, FUNCTIONS) and method.name == "forward":
                    returns = [n for n in ast.walk(method) if isinstance(n, ast.Return)]
                    if (
                        len(returns) == 1
                        and isinstance(returns[0].value, (ast.Name, ast.Call))
                        and "softmax" not in script.of(returns[0])
                    ):
                        yield returns[0], returns[0].value
