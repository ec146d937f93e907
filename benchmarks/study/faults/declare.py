"""How a family declares its faults and the sound runs that look like them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

from recipes import Recipe
from training import Plan

#: A sound plan -> the faulty one, (faulty, twin) where the twin is another than the sound plan, None where it cannot have it.
Injection = Callable[[Plan, Recipe, Random], "Plan | tuple[Plan, Plan] | None"]


@dataclass(frozen=True)
class Fault:
    """A fault that is injected into all recipes that suit it.

    `codes`: first causes that are right, any of them. `also`: codes of a second, independent cause that must be found too.
    `suits`: traits of `Recipe.is_like`. `optimizers`: names, empty for all. `measure`, `least`: the harm it must do, see
    `harm.MEASURES`. `runs`, `held_back`: how many are tried in each part. `habit`: what its log must be like (fields of
    `habits.Habit`). `onset`: the step at which it begins, None for the start of the run.
    """

    name: str
    family: str
    codes: tuple[str, ...]
    change: Injection
    suits: tuple[str, ...] = ()
    optimizers: tuple[str, ...] = ()
    measure: str = "loss"
    least: float = 2.0
    runs: int = 9
    held_back: int = 6
    habit: Mapping[str, Any] = field(default_factory=dict)
    onset: Callable[[Plan], int] | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sound:
    """A way in which a run may look ill and is not.

    `compare`: whether it must be about as good as the plain run. `flat`: whether it may end where it began (fine-tuning, noise).
    """

    name: str
    family: str
    change: Callable[[Plan, Recipe, Random], Plan | None]
    suits: tuple[str, ...] = ()
    optimizers: tuple[str, ...] = ()
    runs: int = 5
    held_back: int = 4
    compare: bool = False
    flat: bool = False
    habit: Mapping[str, Any] = field(default_factory=dict)


def with_hook(**hooks: Any) -> Callable[[Plan, Recipe, Random], Plan]:
    """Return the injection of hooks with fixed settings."""
    return lambda plan, recipe, draw: hooked(plan, **hooks)


def hooked(plan: Plan, **hooks: Any) -> Plan:
    """Return the plan with these hooks added."""
    from dataclasses import replace

    return replace(plan, hook=plan.hook | hooks)
