"""Rows 27 and 28: training and evaluation mode."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mutators import plants
from source import FUNCTIONS, LOOPS, Edit, dotted, last

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sites import Script
    from source import Mutant

WITHOUT_GRADIENTS = {"no_grad", "inference_mode"}


def _calls(node: ast.AST, method: str) -> list[ast.stmt]:
    """Return the statements in a node that call a method and do nothing else."""
    found = [(s, s.value.func) for s in ast.walk(node) if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call)]
    return [s for s, called in found if isinstance(called, ast.Attribute) and called.attr == method]


def _function(script: Script, statement: ast.stmt) -> ast.FunctionDef | None:
    """Return the function of the same file that a statement calls."""
    call = statement.value if isinstance(statement, (ast.Expr, ast.Assign)) else None
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return None
    return next((n for n in script.tree.body if isinstance(n, ast.FunctionDef) and n.name == call.func.id), None)


@plants
def evaluation_mode_not_undone(script: Script) -> Iterator[Mutant | None]:
    """Row 27: eval() in the loop, train() only before it, or not at all."""
    evals = [(s, dotted(c.func.value)) for s, c in script.bare("eval")]  # type: ignore[attr-defined]
    trains = [(s, dotted(c.func.value)) for s, c in script.bare("train")]  # type: ignore[attr-defined]
    for e, name in evals:
        loops = script.loops(e)
        if not name or not loops or not any(loops[-1] in script.loops(site.backward) for site in script.sites):
            continue
        its = [t for t, n in trains if n == name and loops[-1] in script.loops(t)]
        if its:
            gone = [script.delete(t) for t in its]
            yield script.mutant("27", "train() deleted", gone, e)
            yield script.mutant("27", "train() before the loop", [*gone, script.before(loops[-1], script.code(its[0]))], e)


@plants
def training_mode_lost_in_a_helper(script: Script) -> Iterator[Mutant | None]:
    """Row 27: the helper that trains no longer calls train(), and the one that evaluates calls eval()."""
    for loop in (n for n in script.nodes if isinstance(n, LOOPS)):
        helpers = [helper for s in loop.body if (helper := _function(script, s))]
        starts = [(h, t) for h in helpers for t in _calls(h, "train") if t in h.body]
        for trainer, start in starts:
            evals = [e for h in helpers if h is not trainer for e in _calls(h, "eval")]
            if evals:
                yield script.mutant("27", "train() deleted in the helper", [script.delete(start)], *evals, trainer)


def _is_evaluation(function: ast.AST) -> bool:
    return any(word in getattr(function, "name", "").lower() for word in ("eval", "valid", "test"))


@plants
def evaluation_with_gradients(script: Script) -> Iterator[Mutant | None]:
    """Row 28: the `with` of an evaluation loop, or of the batch in one, is gone."""
    for node in script.nodes:
        if not isinstance(node, ast.With) or len(node.items) > 1 or _calls(node, "backward"):
            continue
        manager = node.items[0].context_expr
        if not isinstance(manager, ast.Call) or last(manager.func) not in WITHOUT_GRADIENTS:
            continue
        function = script.function(node)
        around = [loop for loop in script.loops(node)[:1] if not _calls(loop, "backward")]
        batches = any(isinstance(n, LOOPS) for n in ast.walk(node)) or around
        if batches and (_is_evaluation(function) or any(e.lineno < node.lineno for e in _calls(function, "eval"))):
            around = [n for n in (function, *script.loops(node)) if n is not script.tree]
            yield script.mutant("28", "with removed", script.unwrap(node), *around)


@plants
def evaluation_undecorated(script: Script) -> Iterator[Mutant | None]:
    """Row 28: the decorator of a function that evaluates in a loop is gone."""
    for node in script.nodes:
        if not isinstance(node, FUNCTIONS) or not any(isinstance(n, LOOPS) for n in ast.walk(node)):
            continue
        if not _is_evaluation(node) and not _calls(node, "eval"):
            continue
        for decorator in node.decorator_list:
            if last(decorator.func if isinstance(decorator, ast.Call) else decorator) in WITHOUT_GRADIENTS:
                start = script.offset(decorator.lineno, 0)
                end = script.text.find("\n", script.span(decorator)[1]) + 1
                inside = [n for n in ast.walk(node) if isinstance(n, ast.stmt) and n is not node]
                yield script.mutant("28", "decorator removed", [Edit(start, end, "")], *inside)
