"""Gradient accumulation as loops write it: a step each time a counter comes round, and a backward pass in every iteration."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.code.events import TracedEvent
from traindoctor.code.loops import stretches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.code.events import TracedLoop
    from traindoctor.code.script import Script


class Accumulation(NamedTuple):
    """A loop that accumulates: the passes, the step, and the test of the `if` that the step stands under."""

    loop: TracedLoop
    passes: tuple[TracedEvent, ...]
    step: TracedEvent
    test: ast.expr


def accumulations(script: Script) -> Iterator[Accumulation]:
    """Yield the loops in which an optimizer steps only where a remainder says so, over gradients of every iteration."""
    for found in stretches(script):
        loop = found.traced
        if found.why_unsure or loop is None or loop.node is None:
            continue
        passes = tuple(e for e in found.events if isinstance(e, TracedEvent) and e.kind == "backward" and e.certain)
        steps = [e for e in found.events if isinstance(e, TracedEvent) and e.kind == "step"]
        if len(steps) != 1 or not passes or steps[0].script is not script or "accumulate" in passes[0].within:
            continue
        test = _test(script, steps[0].node, loop)
        if test is not None and any(isinstance(n, ast.Mod) or _is_mod(n) for n in ast.walk(test)):
            yield Accumulation(loop, passes, steps[0], test)


def _is_mod(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod)


def _test(script: Script, node: ast.AST, loop: TracedLoop) -> ast.expr | None:
    """Return the test of the `if` around a node whose body it stands in, inside the loop."""
    child = node
    for parent in script.above(node):
        if parent is loop.node:
            return None
        if isinstance(parent, ast.If) and child in parent.body:
            return script.origin(parent.test)  # type: ignore[return-value]
        child = parent
    return None
