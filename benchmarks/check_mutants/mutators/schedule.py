"""Rows 8 to 14: accumulation and learning-rate schedules."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from mutators import plants
from mutators.order import of_one_loss, updates
from sites import is_epoch_loop, positional_or_keyword
from source import dotted, last

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sites import Built, Script, Site
    from source import Mutant


def scheduler_steps(script: Script) -> list[tuple[ast.stmt, Built]]:
    """Return the statements that step a scheduler built in the file."""
    known = {b.name: b for b in script.schedulers}
    return [(s, known[dotted(c.func.value)]) for s, c in script.bare("step") if dotted(c.func.value) in known]  # type: ignore[attr-defined]


def _plain(script: Script) -> Iterator[tuple[Site, ast.For]]:
    """Yield the one-loss updates of plain batch loops: clear, backward and step in one block."""
    for site in of_one_loss(script):
        blocks = {id(script.block(s)) for s in site.order}
        if isinstance(site.loop, ast.For) and len(blocks) == 1 and len(site.zeros) == 1:
            yield site, site.loop


@plants
def accumulates_without_dividing(script: Script) -> Iterator[Mutant | None]:
    """Row 8 (info): several backward passes of a mean loss per step, never divided. Row 9 (info): the rest is dropped."""
    for site, loop in _plain(script):
        if site.scaler or site.loop is not script.loops(site.step)[0] or script.block(site.step) is not loop.body:
            continue
        call = loop.iter
        if isinstance(call, ast.Call) and last(call.func) == "enumerate" and isinstance(loop.target, ast.Tuple):
            i = dotted(loop.target.elts[0])
            lines = f"if ({i} + 1) % 4 == 0:\n    {script.code(site.step)}\n    {script.code(site.zeros[0])}"
            edits = [script.delete(site.zeros[0]), script.delete(site.step), script.after(site.backward, lines)]
            if not i or site.step.lineno < site.backward.lineno:
                continue
            yield script.mutant("8", "every fourth batch steps", edits, site.backward)
            halved = script.before(site.backward, f"{site.loss} = {site.loss} / 4", planted=False)
            yield script.mutant("9", "rest of the epoch dropped", [*edits, halved], site.backward)
    for node in script.statements:
        if isinstance(node, ast.If) and isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.Or):
            first = node.test.values[0]
            steps = {s.step for s in script.sites}
            if "%" in script.of(first) and steps & set(ast.walk(node)):
                yield script.mutant("9", "condition for the rest removed", [script.replace(node.test, script.of(first))], *steps)
    for node in script.statements:
        divided = isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div)
        again = isinstance(node, ast.Assign) and isinstance(node.value, ast.BinOp) and isinstance(node.value.op, ast.Div)
        losses = {s.loss for s in script.sites if s.loss}
        if again and dotted(node.targets[0]) in losses and dotted(node.value.left) == dotted(node.targets[0]):  # type: ignore[attr-defined]
            yield script.mutant("8", "division removed", [script.delete(node)], *(s.backward for s in script.sites))
        if divided and dotted(node.target) in losses:  # type: ignore[attr-defined]
            yield script.mutant("8", "division removed", [script.delete(node)], *(s.backward for s in script.sites))


@plants
def scheduler_steps_first(script: Script) -> Iterator[Mutant | None]:
    """Row 10: the scheduler steps before the optimizer did in the same iteration."""
    for s, built in scheduler_steps(script):
        if built.kind == "ReduceLROnPlateau" or script.code(s).count("(") != 1:
            continue
        for update in updates(script):
            site = update[0]
            if script.block(s) is script.block(site.step):
                moved = [script.delete(s), script.before(site.step, script.code(s))]
                yield script.mutant("10", "moved before the step", moved, site.step)
                if site.zeros[0].lineno < site.backward.lineno and script.block(site.zeros[0]) is script.block(s):
                    moved = [script.delete(s), script.before(site.zeros[0], script.code(s))]
                    yield script.mutant("10", "moved to the top of the batch", moved, site.step)
            elif site.outer is not None and script.block(s) is site.outer.body and s.lineno > site.loop.lineno:  # type: ignore[attr-defined]
                moved = [script.delete(s), script.before(site.outer.body[0], script.code(s))]  # type: ignore[attr-defined]
                yield script.mutant("10", "moved to the top of the epoch", moved, site.step, site.loop)
    if not script.schedulers:
        for site, loop in _plain(script):
            if (
                site.built
                and not site.scaler
                and script.block(site.step) is loop.body
                and script.alone_on_its_lines(site.built.statement)
            ):
                name = "scheduler"
                make = f"{name} = torch.optim.lr_scheduler.ExponentialLR({site.optimizer}, gamma=0.9999)"
                if script.function(site.built.statement) is script.function(site.step):
                    edits = [script.after(site.built.statement, make, planted=False), script.before(site.step, f"{name}.step()")]
                    yield script.mutant("10", "added before the step", edits, site.step)


@plants
def scheduler_never_steps(script: Script) -> Iterator[Mutant | None]:
    """Row 11: a scheduler is built and never stepped."""
    for built in script.schedulers:
        steps = [s for s, b in scheduler_steps(script) if b.name == built.name]
        if steps and len([b for b in script.schedulers if b.name == built.name]) == 1:
            yield script.mutant("11", "deleted", [script.delete(s) for s in steps], built.statement)
            yield script.mutant("11", "commented out", [script.comment_out(s) for s in steps], built.statement)
    if not script.schedulers:
        for built in script.optimizers:
            if any(site.built == built for site in script.sites) and script.alone_on_its_lines(built.statement):
                for kind in ("StepLR({}, step_size=30)", "CosineAnnealingLR({}, T_max=100)"):
                    line = f"lr_sched = torch.optim.lr_scheduler.{kind.format(built.name)}"
                    yield script.mutant("11", "added, unused", [script.after(built.statement, line)], built.statement)


@plants
def epoch_scheduler_in_the_batch_loop(script: Script) -> Iterator[Mutant | None]:
    """Row 12: a schedule counted in epochs is stepped every batch."""
    for s, built in scheduler_steps(script):
        for site, loop in _plain(script):
            outer = site.outer
            if (
                outer is None
                or script.block(s) is not outer.body
                or not is_epoch_loop(outer, script)
                or script.code(s).count("(") != 1
                or s.value.args  # type: ignore[attr-defined]
            ):  # type: ignore[attr-defined]
                continue
            bound = (
                outer.iter.args[-1]
                if isinstance(outer, ast.For) and isinstance(outer.iter, ast.Call) and outer.iter.args
                else None
            )
            horizon = positional_or_keyword(built.call, 1, "T_max")
            moved = [script.delete(s), script.after(site.step, script.code(s))]
            seen = (built.statement, loop)
            if built.kind == "CosineAnnealingLR" and horizon is not None and "len(" not in script.of(horizon):
                yield script.mutant("12", "moved into the batch loop", moved, *seen)
            elif bound is not None and script.of(bound).replace(".", "").replace("_", "").isalnum():
                for kind in ("CosineAnnealingLR({}, T_max={})", "PolynomialLR({}, total_iters={})"):
                    call = "torch.optim.lr_scheduler." + kind.format(script.of(built.call.args[0]), script.of(bound))
                    yield script.mutant("12", "epochs as horizon", [*moved, script.replace(built.call, call)], *seen)


@plants
def one_cycle_stepped_per_epoch(script: Script) -> Iterator[Mutant | None]:
    """Row 13: OneCycleLR planned over batches, stepped once an epoch."""
    for s, built in scheduler_steps(script):
        steps = positional_or_keyword(built.call, 3, "steps_per_epoch")
        for site, loop in _plain(script):
            if built.kind == "OneCycleLR" and steps is not None and script.block(s) is loop.body and site.outer:
                moved = [script.delete(s), script.after(loop, script.code(s))]
                yield script.mutant("13", "moved out of the batch loop", moved, built.statement, site.step)
            epochwise = site.outer is not None and script.block(s) is site.outer.body and is_epoch_loop(site.outer, script)  # type: ignore[attr-defined]
            data = (
                loop.iter.args[0]
                if isinstance(loop.iter, ast.Call) and last(loop.iter.func) in {"enumerate", "tqdm"}
                else loop.iter
            )
            bound = (
                site.outer.iter.args[-1] if epochwise and isinstance(site.outer.iter, ast.Call) and site.outer.iter.args else None
            )  # type: ignore[union-attr]
            if bound is not None and dotted(data) and dotted(bound):
                for rate in ("max_lr=0.1", "0.01"):
                    call = (
                        f"torch.optim.lr_scheduler.OneCycleLR({script.of(built.call.args[0])}, {rate}, "
                        f"epochs={script.of(bound)}, steps_per_epoch=len({script.of(data)}))"
                    )
                    plain = script.replace(s.value, f"{built.name}.step()")  # type: ignore[attr-defined]
                    yield script.mutant("13", "built over batches", [script.replace(built.call, call), plain], s)


@plants
def plateau_without_metric(script: Script) -> Iterator[Mutant | None]:
    """Row 14: ReduceLROnPlateau.step() is given nothing to watch."""
    for s, built in scheduler_steps(script):
        if len([b for b in script.schedulers if b.name == built.name]) > 1:
            continue
        if built.kind == "ReduceLROnPlateau":
            yield script.mutant("14", "metric removed", [script.replace(s.value, f"{built.name}.step()")], built.statement)  # type: ignore[attr-defined]
        elif built.call.args and not s.value.args:  # type: ignore[attr-defined]
            first = script.of(built.call.args[0])
            for kind in ("ReduceLROnPlateau({}, patience=3)", 'ReduceLROnPlateau({}, mode="min", factor=0.5)'):
                call = "torch.optim.lr_scheduler." + kind.format(first)
                edits = [script.replace(built.call, call, planted=False)]
                yield script.mutant("14", "built in its place", edits, s, built.statement)
