"""Two independent faults in one run: both must be found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faults.declare import Fault, Sound, hooked, with_hook

if TYPE_CHECKING:
    from random import Random

    from recipes import Recipe
    from training import Plan

FAMILY = "pairs"


def _overfit_with_bad_batch(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    return hooked(plan, rows=draw.choice((256, 320)), label_noise=0.3, bad_batch=draw.choice((40.0, 300.0))), plan


FAULTS: tuple[Fault, ...] = (
    Fault("softmax-twice-and-bad-batch", FAMILY, ("TD601",), with_hook(softmax_twice=1, bad_batch=300.0),
          ("classes", "batches", "val", "!tokens", "!imbalanced"), runs=6, held_back=4,
          habit={"every": 1, "val": True}, also=("TD507",)),
    Fault("overfitting-and-bad-batch", FAMILY, ("TD704",), _overfit_with_bad_batch,
          ("classes", "batches", "val", "!tokens", "!imbalanced"), measure="val", least=1.5, runs=6, held_back=4,
          habit={"every": 1, "val": True}, also=("TD507",)),
)  # fmt: skip
SOUND: tuple[Sound, ...] = ()
