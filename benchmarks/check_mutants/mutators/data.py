"""Rows 37 to 39: what the batches are made of."""

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


@plants
def train_loader_not_shuffled(script: Script) -> Iterator[Mutant | None]:
    """Row 37: the batches of the training set come in the order of the files."""
    for built in script.built({"DataLoader"}):
        shuffled = keyword(built.call, "shuffle")
        text = script.of(built.statement).lower()
        plain = "train" in text and not any(k.arg in {"sampler", "batch_sampler", None} for k in built.call.keywords)
        if plain and shuffled and isinstance(shuffled.value, ast.Constant) and shuffled.value.value is True:
            yield script.mutant("37", "False", [script.replace(shuffled.value, "False")], built.statement)


@plants
def sampler_epoch_not_set(script: Script) -> Iterator[Mutant | None]:
    """Row 38: a DistributedSampler that repeats one order every epoch."""
    samplers = script.built({"DistributedSampler"})
    calls = [s for s, c in script.bare("set_epoch")]
    if samplers and len(calls) == 1:
        seen = [b.statement for b in samplers] + script.loops(calls[0])[:1]
        yield script.mutant("38", "deleted", [script.delete(calls[0])], *seen)
        yield script.mutant("38", "commented out", [script.comment_out(calls[0])], *seen)
        yield script.mutant("38", "not called", [script.replace(calls[0], script.of(calls[0].value.func))], *seen)  # type: ignore[attr-defined]


@plants
def first_batch_again_and_again(script: Script) -> Iterator[Mutant | None]:
    """Row 39: a new iterator per step, of which only the first batch is used."""
    for site in of_one_loss(script):
        loop = site.loop
        if not isinstance(loop, ast.For) or loop.orelse:
            continue
        data, target = loop.iter, loop.target
        if (
            isinstance(data, ast.Call)
            and last(data.func) == "enumerate"
            and isinstance(target, ast.Tuple)
            and len(target.elts) == 2
        ):
            data, counter, batch = data.args[0], dotted(target.elts[0]), target.elts[1]
        else:
            counter, batch = "_", target
        if not dotted(data) or not counter or "epoch" in script.of(target):
            continue
        source, names = script.of(data), script.of(batch)
        head = (script.replace(target, counter), script.replace(loop.iter, f"range(len({source}))"))
        fetch = script.before(
            loop.body[0], f"{names.strip('()') if isinstance(batch, ast.Tuple) else names} = next(iter({source}))"
        )
        yield script.mutant("39", "next(iter())", [*head, fetch])
        twice = script.before(loop.body[0], f"fresh = iter({source})\n{names} = next(fresh)")
        yield script.mutant("39", "iterator made in the loop", [*head, twice])
