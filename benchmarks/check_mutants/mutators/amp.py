"""Rows 16 to 19: mixed precision."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mutators import plants
from mutators.order import of_one_loss
from source import dotted, keyword, last

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sites import Script
    from source import Mutant


def _is_clip(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and last(node.func).startswith("clip_grad")


@plants
def clipped_while_scaled(script: Script) -> Iterator[Mutant | None]:
    """Row 16: gradients are clipped while they still carry the scale."""
    for site in of_one_loss(script):
        if not site.scaler:
            continue
        unscales = [s for s, c in script.bare("unscale_") if script.block(s) is script.block(site.step)]
        clips = [s for s in script.block(site.step) if any(_is_clip(n) for n in ast.walk(s))]
        seen = (site.backward, site.step)
        if unscales and clips:
            gone = script.delete(unscales[0])
            yield script.mutant("16", "unscale_ deleted", [gone], clips[0], *seen)
            yield script.mutant(
                "16", "unscale_ behind the clip", [gone, script.after(clips[0], script.code(unscales[0]))], clips[0], *seen
            )
            yield script.mutant("16", "unscale_ commented out", [script.comment_out(unscales[0])], clips[0], *seen)
        elif site.built and script.model_of(site.built) and not clips:
            clip = f"torch.nn.utils.clip_grad_norm_({script.model_of(site.built)}.parameters(), 1.0)"
            value = clip.replace("norm_", "value_")
            yield script.mutant("16", "clip added", [script.before(site.step, clip)], *seen)
            yield script.mutant("16", "clip by value added", [script.before(site.step, value)], *seen)


@plants
def scaler_half_used(script: Script) -> Iterator[Mutant | None]:
    """Row 17: update() is missing, the plain step is taken, or the plain loss goes backward."""
    for site in of_one_loss(script):
        if not site.scaler:
            continue
        updates = [s for s, c in script.bare("update") if dotted(c.func.value) == site.scaler]  # type: ignore[attr-defined]
        built = [b.statement for b in script.scalers]
        seen = (site.backward, site.step, *updates, *built)
        plain = script.replace(site.step.value, f"{site.optimizer}.step()")  # type: ignore[attr-defined]
        if updates:
            yield script.mutant("17", "update() deleted", [script.delete(updates[0])], *seen)
            yield script.mutant("17", "update() commented out", [script.comment_out(updates[0])], *seen)
            yield script.mutant("17", "plain step, no update()", [plain, script.delete(updates[0])], *seen)
        yield script.mutant("17", "plain step", [plain], *seen)
        yield script.mutant("17", "plain backward", [script.replace(site.backward.value, f"{site.loss}.backward()")], *seen)  # type: ignore[attr-defined]


def _autocasts(script: Script) -> Iterator[tuple[ast.With, ast.Call]]:
    for node in script.statements:
        if isinstance(node, ast.With):
            for item in node.items:
                if isinstance(item.context_expr, ast.Call) and last(item.context_expr.func) == "autocast":
                    yield node, item.context_expr


@plants
def scaler_with_bfloat16(script: Script) -> Iterator[Mutant | None]:
    """Row 18 (info): a scaler that is on, and autocast to bfloat16."""
    enabled = [b for b in script.scalers if keyword(b.call, "enabled") is None]
    if not enabled:
        return
    for block, call in _autocasts(script):
        dtype = keyword(call, "dtype")
        if dtype:
            yield script.mutant(
                "18", "dtype changed", [script.replace(dtype.value, "torch.bfloat16")], enabled[0].statement, block
            )
        else:
            inside = ", ".join(
                [*(script.of(a) for a in call.args), *(script.of(k) for k in call.keywords), "dtype=torch.bfloat16"]
            )
            edit = script.replace(call, f"{script.of(call.func)}({inside})")
            yield script.mutant("18", "dtype given", [edit], enabled[0].statement, block)


@plants
def backward_inside_autocast(script: Script) -> Iterator[Mutant | None]:
    """Row 19 (info): the backward pass runs inside autocast."""
    for site in of_one_loss(script):
        for block, _ in _autocasts(script):
            body = script.block(block)
            if site.backward in body and body.index(site.backward) > body.index(block):
                code = script.code(site.backward)
                yield script.mutant("19", "moved in", [script.delete(site.backward), script.after(block.body[-1], code)], block)
