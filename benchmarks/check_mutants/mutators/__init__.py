"""The planters of defects, one file per family: each takes a correct script and yields it with one defect."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sites import Script
from source import Mutant

Planter = Callable[[Script], Iterator[Mutant | None]]

PLANTERS: list[Planter] = []


def plants(planter: Planter) -> Planter:
    """Add a planter to the study."""
    PLANTERS.append(planter)
    return planter


def all_mutants(script: Script) -> Iterator[Mutant]:
    """Yield every mutant of a script that every planter can make."""
    from mutators import amp, build, data, frameworks, loss, modes, order, schedule  # noqa: F401

    for planter in PLANTERS:
        for mutant in planter(script):
            if mutant is not None:
                yield mutant
