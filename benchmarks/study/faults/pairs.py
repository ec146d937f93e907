"""Two independent faults in one run: both must be found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faults.declare import Fault, Sound, hooked

if TYPE_CHECKING:
    from random import Random

    from recipes import Recipe
    from training import Plan

FAMILY = "pairs"


def _slow(plan: Plan, draw: Random) -> Plan:
    return hooked(plan, loader=("steady", draw.uniform(0.015, 0.08)))


def _overfit_and_starved(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    noise = {"label_noise": 0.3} if "classes" in recipe.traits else {}
    return hooked(_slow(plan, draw), rows=draw.choice((80, 128)), **noise), plan


def _softmax_and_starved(plan: Plan, recipe: Recipe, draw: Random) -> Plan:
    return hooked(_slow(plan, draw), softmax_twice=1)


def _overfit_and_bad_batch(plan: Plan, recipe: Recipe, draw: Random) -> tuple[Plan, Plan]:
    return hooked(plan, rows=draw.choice((256, 320)), label_noise=0.3, bad_batch=draw.choice((40.0, 300.0))), plan


FAULTS: tuple[Fault, ...] = (
    Fault("overfitting-and-starved", FAMILY, ("TD704",), _overfit_and_starved, ("batches", "val", "!tokens"), measure="val",
          least=1.6, runs=6, held_back=4, habit={"form": "events", "val": True}, also=("TD512",)),
    Fault("softmax-twice-and-starved", FAMILY, ("TD601",), _softmax_and_starved, ("classes", "batches", "val", "!imbalanced"),
          runs=6, held_back=4, habit={"form": "events"}, also=("TD512",)),
    Fault("overfitting-and-bad-batch", FAMILY, ("TD704",), _overfit_and_bad_batch,
          ("classes", "batches", "val", "!tokens", "!imbalanced"), measure="val", least=1.5, runs=6, held_back=4,
          habit={"every": 1, "val": True}, also=("TD507",)),
)  # fmt: skip
SOUND: tuple[Sound, ...] = ()
