"""Rows 1 to 7 and 15: the order of clearing, backward pass, clipping and step."""

from __future__ import annotations

import ast
from itertools import groupby
from typing import TYPE_CHECKING

from mutators import plants
from source import LOOPS, dotted, last

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sites import Script, Site
    from source import Edit, Mutant


def updates(script: Script) -> Iterator[list[Site]]:
    """Yield the sites that share a step: one update, of one or more backward passes."""
    for _, sites in groupby(script.sites, key=lambda site: site.step):
        yield list(sites)


def of_one_loss(script: Script) -> Iterator[Site]:
    """Yield the updates made of a single backward pass."""
    for update in updates(script):
        if len(update) == 1:
            yield update[0]


def _remove(script: Script, statements: list[ast.stmt]) -> list[Edit]:
    return [script.delete(s, gone=[t for t in statements if t is not s]) for s in statements]


@plants
def never_cleared(script: Script) -> Iterator[Mutant | None]:
    """Row 1: the clearing call is gone, commented out, or named without being called."""
    for update in updates(script):
        site = update[0]
        seen = (*(s.backward for s in update), site.step)
        yield script.mutant("1", "deleted", _remove(script, site.zeros), *seen)
        yield script.mutant("1", "commented out", [script.comment_out(z) for z in site.zeros], *seen)
        named = [script.replace(z, script.of(z.value.func)) for z in site.zeros if isinstance(z, ast.Expr)]  # type: ignore[attr-defined]
        yield script.mutant("1", "not called", named, *seen) if named else None


@plants
def cleared_between(script: Script) -> Iterator[Mutant | None]:
    """Row 2: cleared after the backward pass and before the step."""
    for site in of_one_loss(script):
        code = script.code(site.zeros[0])
        gone = _remove(script, site.zeros)
        yield script.mutant("2", "moved behind backward", [*gone, script.after(site.backward, code)], *site.order)
        yield script.mutant("2", "moved before step", [*gone, script.before(site.step, code)], *site.order)
        if site.zeros[0].lineno < site.backward.lineno:
            yield script.mutant("2", "cleared twice", [script.before(site.step, code)], site.backward, site.step)
        if site.built and script.model_of(site.built):
            call = f"{script.model_of(site.built)}.zero_grad()"
            yield script.mutant("2", "through the model", [*gone, script.before(site.step, call)], *site.order)


@plants
def cleared_before_the_loop(script: Script) -> Iterator[Mutant | None]:
    """Row 3: cleared once, before the loop of the steps or before the outermost loop."""
    for update in updates(script):
        site = update[0]
        code, gone = script.code(site.zeros[0]), _remove(script, site.zeros)
        seen = (*(s.backward for s in update), site.step)
        if not isinstance(site.loop, LOOPS):
            continue
        if not site.outer:
            yield script.mutant("3", "before the loop", [*gone, script.before(site.loop, code)], *seen)
        else:
            yield script.mutant("3", "before the outer loop", [*gone, script.before(script.loops(site.step)[-1], code)], *seen)
            yield script.mutant("3", "once an epoch", [*gone, script.before(site.loop, code)], *seen)


@plants
def step_before_backward(script: Script) -> Iterator[Mutant | None]:
    """Row 4: the step comes before the gradients are there."""
    for update in updates(script):
        site = update[0]
        code = script.code(site.step)
        block = script.block(site.backward)
        if script.block(site.step) is not block:
            continue
        gone = script.delete(site.step)
        yield script.mutant("4", "moved before backward", [gone, script.before(site.backward, code)], *site.order)
        zeros = [z for z in site.zeros if script.block(z) is block and z.lineno < site.backward.lineno]
        if zeros:
            yield script.mutant("4", "moved behind zero_grad", [gone, script.after(zeros[-1], code)], *site.order)
        if len(update) == 1:
            moved = [script.delete(site.backward), script.after(site.step, script.code(site.backward))]
            yield script.mutant("4", "backward moved behind", moved, *site.order)


@plants
def no_backward(script: Script) -> Iterator[Mutant | None]:
    """Row 5: the step is taken and no backward pass was made."""
    if len({site.optimizer for site in script.sites}) > 1 or len(script.sites) > 1:
        return
    for site in script.sites:
        seen = (site.step, *site.zeros)
        yield script.mutant("5", "deleted", [script.delete(site.backward)], *seen)
        yield script.mutant("5", "commented out", [script.comment_out(site.backward)], *seen)
        yield script.mutant("5", "not called", [script.replace(site.backward, script.of(site.backward.value.func))], *seen)  # type: ignore[attr-defined]


@plants
def never_steps(script: Script) -> Iterator[Mutant | None]:
    """Row 6: gradients are computed and nothing is updated."""
    if len({site.step for site in script.sites}) != 1:
        return
    for update in updates(script):
        site = update[0]
        seen: list[ast.AST] = [s.backward for s in update] + ([site.built.statement] if site.built else []) + list(site.zeros)
        yield script.mutant("6", "deleted", [script.delete(site.step)], *seen)
        yield script.mutant("6", "commented out", [script.comment_out(site.step)], *seen)
        yield script.mutant("6", "not called", [script.replace(site.step, script.of(site.step.value.func))], *seen)  # type: ignore[attr-defined]


@plants
def wrong_optimizer_cleared(script: Script) -> Iterator[Mutant | None]:
    """Row 7: with two optimizers, the other one's gradients are cleared."""
    all_updates = list(updates(script))
    for update in all_updates:
        site = update[0]
        for other in all_updates:
            if other[0].optimizer != site.optimizer and site.optimizer in script.of(site.zeros[0]):
                edits = [
                    script.replace(z.value.func.value, other[0].optimizer)  # type: ignore[attr-defined]
                    for z in site.zeros if dotted(z.value.func.value) == site.optimizer  # type: ignore[attr-defined]
                ]  # fmt: skip
                yield script.mutant("7", "other one cleared", edits, *(s.backward for s in update), site.step)
                break


@plants
def clipped_at_the_wrong_time(script: Script) -> Iterator[Mutant | None]:
    """Row 15: clipping after the step, or before the backward pass."""
    for update in updates(script):
        site, final = update[0], update[-1]
        if site.scaler:
            continue
        clips = [
            s for s in script.block(site.step)
            if isinstance(s, ast.Expr) and isinstance(s.value, ast.Call) and last(s.value.func).startswith("clip_grad")
        ]  # fmt: skip
        seen = (final.backward, site.step)
        if clips:
            code, gone = script.code(clips[0]), script.delete(clips[0])
            yield script.mutant("15", "moved behind the step", [gone, script.after(site.step, code)], *seen)
            if site.zeros[0].lineno < site.backward.lineno:
                yield script.mutant("15", "moved before backward", [gone, script.before(site.backward, code)], *seen)
        elif "clip_grad" in script.of(site.loop):
            continue
        elif site.built and script.model_of(site.built) and final.backward.lineno < site.step.lineno:
            clip = f"torch.nn.utils.clip_grad_norm_({script.model_of(site.built)}.parameters(), 1.0)"
            value = clip.replace("norm_", "value_").replace("1.0", "0.5")
            yield script.mutant("15", "added behind the step", [script.after(site.step, clip)], *seen)
            yield script.mutant("15", "by value, behind the step", [script.after(site.step, value)], *seen)
            if len(update) == 1 and site.zeros[0].lineno < site.backward.lineno:
                yield script.mutant("15", "added before backward", [script.before(site.backward, clip)], *seen)
