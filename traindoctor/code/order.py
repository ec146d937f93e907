"""What the order of the calls in a training loop proves about its gradients, and the edit that puts it right.

For each optimizer that steps, every path through the loop is followed, again and again until nothing new is reached, so
that a `zero_grad` at the end of the body counts for the next backward pass.
"""

from __future__ import annotations

import ast
import difflib
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from traindoctor.code.loops import training_loops
from traindoctor.errors import UnreadableInputError
from traindoctor.model import Location, LoopEvent, TrainingLoop

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Conditions in one loop whose combinations are all followed; above it nothing is proven.
MAX_CONDITIONS = 8


def missing_zero_grad(loop: TrainingLoop) -> Location | None:
    """Return the backward pass whose gradients no path clears before the next one; None when that is not proven."""
    if loop.why_unsure:
        return None
    for optimizer in _stepping(loop):
        if any(e.kind == "zero_grad" and e.target in (optimizer, None) for e in loop.events):
            continue
        if _steps_again(loop, optimizer):
            return _backward_before(loop.events, optimizer).location
    return None


def zero_grad_between(loop: TrainingLoop) -> Location | None:
    """Return the call that clears the gradients after the backward pass and before every step of their optimizer."""
    if loop.why_unsure:
        return None
    for optimizer in _stepping(loop):
        seen = _walk(loop, optimizer)
        if seen is None or not seen.at_steps:
            continue
        if all(state.startswith("cleared ") for state in seen.at_steps):
            index = max(int(state.split()[1]) for state in seen.at_steps)
            return loop.events[index].location
    return None


def clears_correctly(loop: TrainingLoop) -> bool:
    """Return whether on every path each step of each optimizer sees gradients, and none that an earlier step used."""
    optimizers = _stepping(loop)
    if loop.why_unsure or not optimizers:
        return False
    walks = [_walk(loop, optimizer) for optimizer in optimizers]
    return all(seen is not None and seen.at_steps == {"fresh"} for seen in walks)


def _steps_again(loop: TrainingLoop, optimizer: str) -> bool:
    """Return whether the optimizer surely steps more than once: on every path, or each time a counter comes round."""
    paths = _paths(loop)
    steps = {i for i, e in enumerate(loop.events) if e.kind == "step" and e.target == optimizer}
    if paths and all(steps & set(path) for path in paths):
        return True
    return any(branch and all("%" in key for key, _ in branch) for branch in (_branch(loop.events[i], i) for i in steps))


def _stepping(loop: TrainingLoop) -> list[str]:
    """Return the optimizers that step in the loop; none when the loop has no backward pass."""
    if not any(e.kind == "backward" for e in loop.events):
        return []
    return list(dict.fromkeys(e.target for e in loop.events if e.kind == "step" and e.target is not None))


@dataclass(frozen=True, slots=True)
class _Seen:
    """`at_steps`: the states of the gradients that steps of one optimizer meet on some path."""

    at_steps: frozenset[str]


def _walk(loop: TrainingLoop, optimizer: str) -> _Seen | None:
    """Return what the steps of an optimizer meet; None when there are too many paths.

    States of its gradients: "fresh" (of passes since they were cleared), "used" (a step has seen them), "stale" (used,
    and a new pass was added), "cleared i" (by event i of the loop, no pass since).
    """
    paths = _paths(loop)
    if paths is None:
        return None
    start = "fresh"
    reached, pending, at_steps = {start}, [start], set()
    while pending:
        entry = pending.pop()
        for path in paths:
            state = entry
            for index in path:
                event = loop.events[index]
                if event.kind == "backward":
                    state = "fresh" if state == "fresh" or state.startswith("cleared") else "stale"
                elif event.kind == "zero_grad" and event.target == optimizer:
                    state = f"cleared {index}"
                elif event.kind == "step" and event.target == optimizer:
                    at_steps.add(state)
                    state = state if state.startswith("cleared") else "used"
            if state not in reached:
                reached.add(state)
                pending.append(state)
    return _Seen(frozenset(at_steps))


def _paths(loop: TrainingLoop) -> list[tuple[int, ...]] | None:
    """Return the events met on each path through one iteration, by index; None when there are too many conditions."""
    branches = [_branch(event, index) for index, event in enumerate(loop.events)]
    conditions = list(dict.fromkeys(key for branch in branches for key, _ in branch))
    if len(conditions) > MAX_CONDITIONS:
        return None
    paths = []
    for values in product((True, False), repeat=len(conditions)):
        holds = dict(zip(conditions, values, strict=True))
        path = tuple(i for i, branch in enumerate(branches) if all(holds[key] == value for key, value in branch))
        if path not in paths:
            paths.append(path)
    return paths


def _branch(event: LoopEvent, index: int) -> tuple[tuple[str, bool], ...]:
    """Return the conditions of an event; for one that is only known to be uncertain, a condition of its own."""
    known: tuple[tuple[str, bool], ...] = getattr(event, "branch", ())
    return known or (() if event.certain else ((f"event {index}", True),))


def _backward_before(events: Sequence[LoopEvent], optimizer: str) -> LoopEvent:
    """Return the last backward pass before the first step of an optimizer, that of the iteration before if need be."""
    step = next(i for i, e in enumerate(events) if e.kind == "step" and e.target == optimizer)
    around = [*events[step:], *events[:step]]
    return next(e for e in reversed(around) if e.kind == "backward")


# -- the edit ---------------------------------------------------------------------------------------------------------


def fix_patch(source: str, file: str, kind: str) -> str | None:
    """Return a unified diff that repairs the order of the calls, or None when there is not one right answer.

    `kind`: "TD301" inserts `zero_grad()` before the backward pass, "TD302" moves the misplaced one there. The edited
    text is read again, and a patch is given only when the cause is gone from it and nothing else was found.
    """
    proven = {"TD301": missing_zero_grad, "TD302": zero_grad_between}.get(kind)
    if proven is None:
        return None
    text, seen = source, 0
    try:
        while sick := [loop for loop in training_loops(text, file) if proven(loop) is not None]:
            seen += 1
            edited = _Edit(text).repair(sick[0], kind) if seen <= 8 else None
            if edited is None:
                return None
            text = edited
        healthy = all(missing_zero_grad(loop) is None and zero_grad_between(loop) is None for loop in training_loops(text, file))
    except UnreadableInputError:
        return None
    if not seen or not healthy:
        return None
    return _diff(source, text, file)


class _Edit:
    """The statements of a script by their place, and the two edits."""

    def __init__(self, source: str) -> None:
        self.lines = source.split("\n")
        self.tree = ast.parse(source.removeprefix("\ufeff"))
        self.parents: dict[ast.AST, ast.AST] = {}
        for node in ast.walk(self.tree):
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node

    def repair(self, loop: TrainingLoop, kind: str) -> str | None:
        """Return the text with one order put right, or None."""
        proven = missing_zero_grad if kind == "TD301" else zero_grad_between
        for optimizer in _stepping(loop):
            events = [
                e for e in loop.events if e.kind in ("backward", "step") or (e.kind == "zero_grad" and e.target == optimizer)
            ]
            only = TrainingLoop(loop.location, tuple(e for e in events if e.kind != "step" or e.target == optimizer))
            if proven(only) is None:
                continue
            backward = self._the_backward(events, optimizer)
            if backward is None:
                return None
            return self._insert(events, optimizer, backward) if kind == "TD301" else self._move(only, backward)
        return None

    def _the_backward(self, events: Sequence[LoopEvent], optimizer: str) -> LoopEvent | None:
        """Return the first backward pass after the step before, when the optimizer steps once in each iteration."""
        steps = [i for i, e in enumerate(events) if e.kind == "step" and e.target == optimizer]
        if len(steps) != 1:
            return None
        step = steps[0]
        around = [*events[step + 1 :], *events[:step]]
        since = max((i for i, e in enumerate(around) if e.kind == "step"), default=-1) + 1
        passes = [e for e in around[since:] if e.kind == "backward"] or [e for e in around if e.kind == "backward"]
        others = {e.target for e in events if e.kind == "step"} != {optimizer}
        if not passes or (others and len(passes) > 1):
            return None
        first = passes[0]
        return first if _branch(first, -1) == _branch(events[step], -1) else None

    def _insert(self, events: Sequence[LoopEvent], optimizer: str, backward: LoopEvent) -> str | None:
        step = next(e for e in events if e.kind == "step" and e.target == optimizer)
        call, place = self._call(step.location), self._statement(backward.location)
        if call is None or place is None or not self._same_scope(call, place):
            return None
        receiver = self._receiver(call)
        if receiver is None:
            return None
        line = f"{self._indent(place)}{receiver}.zero_grad(){self._line_end(place)}"
        return "\n".join([*self.lines[: place.lineno - 1], line, *self.lines[place.lineno - 1 :]])

    def _move(self, only: TrainingLoop, backward: LoopEvent) -> str | None:
        where = zero_grad_between(only)
        misplaced = self._statement(where) if where is not None else None
        place = self._statement(backward.location)
        if misplaced is None or place is None or not isinstance(misplaced, ast.Expr) or not self._same_scope(misplaced, place):
            return None
        zero = next(e for e in only.events if e.location == where)
        body = self._body(misplaced)
        if _branch(zero, -1) != _branch(backward, -1) or body is None or len(body) < 2 or misplaced.end_lineno is None:
            return None
        old = range(misplaced.lineno - 1, misplaced.end_lineno)
        shift = self._indent(place)
        moved = [shift + self.lines[i].removeprefix(self._indent(misplaced)) for i in old]
        kept = [(i, line) for i, line in enumerate(self.lines) if i not in old]
        at = next(n for n, (i, _) in enumerate(kept) if i == place.lineno - 1)
        lines = [line for _, line in kept]
        return "\n".join([*lines[:at], *moved, *lines[at:]])

    def _call(self, location: Location) -> ast.Call | None:
        """Return the call of a method that an event was recorded for."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and node.lineno == location.line and self._column(node) == location.column:
                return node
        return None

    def _column(self, node: ast.expr | ast.stmt) -> int:
        return len(self.lines[node.lineno - 1].encode()[: node.col_offset].decode(errors="ignore")) + 1

    def _statement(self, location: Location) -> ast.stmt | None:
        """Return the statement at a place, when it has its lines to itself and can be moved or preceded by a line."""
        call: ast.AST | None = self._call(location)
        while call is not None and not isinstance(call, ast.stmt):
            call = self.parents.get(call)
        if call is None or not isinstance(call, ast.Expr | ast.Assign) or call.end_lineno is None or call.end_col_offset is None:
            return None
        before = self.lines[call.lineno - 1].encode()[: call.col_offset]
        after = self.lines[call.end_lineno - 1].encode()[call.end_col_offset :].strip()
        return None if before.strip() or (after and not after.startswith(b"#")) else call

    def _indent(self, node: ast.stmt) -> str:
        return self.lines[node.lineno - 1].encode()[: node.col_offset].decode()

    def _line_end(self, node: ast.stmt) -> str:
        return "\r" if self.lines[node.lineno - 1].endswith("\r") else ""

    def _around(self, node: ast.AST) -> Iterator[ast.AST]:
        while node in self.parents:
            node = self.parents[node]
            yield node

    def _same_scope(self, first: ast.AST, second: ast.AST) -> bool:
        """Return whether two nodes stand in the same function and directly in the same loop."""
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.For, ast.AsyncFor, ast.While)
        scopes = [next((n for n in self._around(node) if isinstance(n, kinds)), None) for node in (first, second)]
        return scopes[0] is scopes[1]

    def _body(self, node: ast.stmt) -> list[ast.stmt] | None:
        parent = self.parents.get(node)
        for name in ("body", "orelse", "finalbody"):
            body = getattr(parent, name, None)
            if isinstance(body, list) and node in body:
                return body
        return None

    def _receiver(self, call: ast.Call) -> str | None:
        """Return the text of the optimizer in `optimizer.step()`, `scaler.step(optimizer)`, `xm.optimizer_step(optimizer)`."""
        if not isinstance(call.func, ast.Attribute):
            return None
        given = bool(call.args) and isinstance(call.args[0], ast.Name | ast.Attribute)
        if call.func.attr == "optimizer_step" or (given and "scaler" in ast.unparse(call.func.value).lower()):
            return ast.unparse(call.args[0]) if given else None
        return ast.unparse(call.func.value) if isinstance(call.func.value, ast.Name | ast.Attribute | ast.Subscript) else None


def _diff(old: str, new: str, file: str) -> str:
    """Return the unified diff of two texts, as `git apply` takes it."""
    lines = [[f"{x}\n" for x in text.split("\n")] for text in (old, new)]
    for text in lines:
        if text[-1] == "\n":
            text.pop()
        else:
            text[-1] = text[-1].removesuffix("\n")
    difference = difflib.unified_diff(lines[0], lines[1], f"a/{file}", f"b/{file}")
    return "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in difference)
