"""Rows 29 to 36: how the optimizer is built, over what, and with which numbers."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from mutators import plants
from sites import ADAMS, is_epoch_loop, positional_or_keyword
from source import dotted, keyword, last

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sites import Built, Script
    from source import Edit, Mutant


def trained(script: Script) -> list[Built]:
    """Return the optimizers built in the file, each alone on its lines and once by its name."""
    built = [b for b in script.optimizers if "keras" not in dotted(b.call.func) and script.alone_on_its_lines(b.statement)]
    return [b for b in built if [c.name for c in script.optimizers].count(b.name) == 1]


def with_argument(script: Script, call: ast.Call, name: str, value: str, index: int = -1) -> Edit | None:
    """Return the edit that gives a call an argument; None where the call hides its arguments behind `*` or `**`."""
    if any(k.arg is None for k in call.keywords) or any(isinstance(a, ast.Starred) for a in call.args):
        return None
    given = keyword(call, name)
    if given:
        return script.replace(given.value, value)
    if 0 <= index < len(call.args):
        return script.replace(call.args[index], value)
    end = max([*call.args, *(k.value for k in call.keywords)], key=lambda n: (n.end_lineno, n.end_col_offset))
    at = script.span(end)[1]
    edit = script.replace(end, "")
    return type(edit)(at, at, f", {name}={value}")


@plants
def rebuilt_every_epoch(script: Script) -> Iterator[Mutant | None]:
    """Row 29: the optimizer (or the schedule) is built anew in the epoch loop."""
    for site in script.sites:
        built = site.built
        outer = site.outer
        if built is None or outer is None or built not in trained(script) or not is_epoch_loop(outer, script):
            continue
        if script.function(built.statement) is not script.function(site.step) or outer in script.loops(built.statement):
            continue
        used = [
            n
            for n in script.nodes
            if isinstance(n, ast.Name) and n.id == built.name and built.statement.lineno < n.lineno < outer.lineno
        ]
        code, first = script.code(built.statement), outer.body[0]  # type: ignore[attr-defined]
        if not used:
            yield script.mutant("29", "moved into the loop", [script.delete(built.statement), script.before(first, code)])
        yield script.mutant("29", "built again in the loop", [script.before(first, code)])
        yield script.mutant("29", "built again before the batches", [script.before(site.loop, code)])


@plants
def model_changed_after_the_optimizer(script: Script) -> Iterator[Mutant | None]:
    """Row 30: the optimizer holds the parameters of a model that is no longer the one in use."""
    for built in trained(script):
        model = script.model_of(built)
        if not model or not any(site.built == built for site in script.sites):
            continue
        makers = [n for n in script.nodes if isinstance(n, ast.Assign) and len(n.targets) == 1 and dotted(n.targets[0]) == model]
        if makers and script.function(makers[0]) is script.function(built.statement) and isinstance(makers[0].value, ast.Call):
            made = last(makers[0].value.func)
            if made[:1].isupper() and made not in {"DataParallel", "DistributedDataParallel"}:
                yield script.mutant(
                    "30", "model built again", [script.after(built.statement, script.code(makers[0]))], built.statement
                )
        for line in _new_layers(script, model, makers[0].value if makers else None):
            yield script.mutant("30", "layer replaced", [script.after(built.statement, line)], built.statement)


def _new_layers(script: Script, model: str, made: ast.expr | None) -> Iterator[str]:
    """Yield lines that put a new layer into a model: in place of one it has, or of what pretrained models call theirs."""
    classes = {n.name: n for n in script.nodes if isinstance(n, ast.ClassDef)}
    kinds = [last(n.func) for n in ast.walk(made) if isinstance(n, ast.Call)] if made else []
    own = next((classes[kind] for kind in kinds if kind in classes), None)
    if own is not None:
        for node in ast.walk(own):
            name = dotted(node.targets[0]) if isinstance(node, ast.Assign) else ""
            layer = node.value if isinstance(node, ast.Assign) and name.startswith("self.") else None
            known = isinstance(layer, ast.Call) and last(layer.func) in {"Linear", "Conv2d", "Embedding", "LSTM"}
            if known and all(isinstance(a, ast.Constant) for a in layer.args):
                yield f"{model}.{name.removeprefix('self.')} = {script.of(layer)}"
    elif "Sequential" in kinds:
        yield f"{model}[-1] = torch.nn.Linear(128, 10)"
    else:
        yield f"{model}.fc = torch.nn.Linear(512, 10)"
        yield f"{model}.classifier = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Linear(256, 2))"


@plants
def over_the_wrong_parameters(script: Script) -> Iterator[Mutant | None]:
    """Row 31: the optimizer of one loss holds the other model, or nothing that can be trained."""
    built = [b for b in trained(script) if script.model_of(b)]
    for one in built:
        for other in built:
            if one is not other and script.model_of(one) != script.model_of(other) and any(s.built == one for s in script.sites):
                call = one.call.args[0]
                edit = script.replace(call.func.value, script.model_of(other))  # type: ignore[attr-defined]
                steps = [s.step for s in script.sites if s.built == one]
                yield script.mutant("31", "other model", [edit], one.statement, *steps)
    if len(built) == 1:
        model = script.model_of(built[0])
        freeze = f"for p in {model}.parameters():\n    p.requires_grad = False"
        filtered = f"filter(lambda p: p.requires_grad, {model}.parameters())"
        edits = [script.before(built[0].statement, freeze), script.replace(built[0].call.args[0], filtered)]
        yield script.mutant("31", "all frozen, then filtered", edits, built[0].statement)
        listed = f"[p for p in {model}.parameters() if p.requires_grad]"
        edits = [
            script.before(built[0].statement, f"{model}.requires_grad_(False)"),
            script.replace(built[0].call.args[0], listed),
        ]
        yield script.mutant("31", "all frozen, then listed", edits, built[0].statement)


ADAM_NUMBERS = {
    "32": {
        "lr": ("-1e-3",),
        "betas": ("(0.9, 1.0)", "(0.9, 1.5)", "(-0.1, 0.999)"),
        "eps": ("0", "-1e-8"),
        "weight_decay": ("-0.01",),
    },
    "33": {"betas": ("(0.999, 0.9)", "(0.99, 0.5)")},
    "34": {"eps": ("1e-50", "1e-60")},
    "35": {"lr": ("1.0", "0.5", "10")},
    "36": {"weight_decay": ("0.1", "0.05")},
}
SGD_NUMBERS = {
    "32": {"lr": ("-0.1",), "momentum": ("1.5", "1.0"), "weight_decay": ("-5e-4",)},
    "35": {"lr": ("100", "50.0")},
}


def _rate_is_set_later(script: Script) -> bool:
    """Whether a schedule of the script's own, or one that multiplies, may make up for any rate given at the start."""
    return "LambdaLR" in script.text or "OneCycleLR" in script.text or bool(re.search(r"\[.lr.\]\s*=", script.text))


@plants
def numbers(script: Script) -> Iterator[Mutant | None]:
    """Rows 32, 33, 34, 35 and 36: hyperparameters that are out of range, swapped or implausible."""
    for built in trained(script):
        table = ADAM_NUMBERS if built.kind in ADAMS else SGD_NUMBERS if built.kind == "SGD" else {}
        for row, settings in table.items():
            if row in {"32", "35"} and (_rate_is_set_later(script) or not script.model_of(built)):
                settings = {name: values for name, values in settings.items() if name != "lr"}
            if row == "36" and built.kind != "Adam":
                continue
            for name, values in settings.items():
                for value in values:
                    edit = with_argument(script, built.call, name, value, index=1 if name == "lr" else -1)
                    if edit:
                        yield script.mutant(row, f"{built.kind} {name}={value}", [edit], built.statement)
        if built.kind == "SGD" and positional_or_keyword(built.call, 2, "momentum") is None:
            edit = with_argument(script, built.call, "nesterov", "True")
            yield script.mutant("32", "nesterov without momentum", [edit], built.statement) if edit else None


@plants
def epsilon_lost_in_half_precision(script: Script) -> Iterator[Mutant | None]:
    """Row 34: parameters in float16, in which Adam's epsilon of 1e-8 is 0."""
    for built in trained(script):
        model = script.model_of(built)
        if built.kind in ADAMS and model.isidentifier() and keyword(built.call, "eps") is None:
            for form in (f"{model}.half()", f"{model} = {model}.half()", f"{model} = {model}.to(torch.float16)"):
                yield script.mutant("34", form.replace(model, "model"), [script.before(built.statement, form)], built.statement)
