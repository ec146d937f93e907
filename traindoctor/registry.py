"""Rule packs -> causes by code: every module of every installed pack, loaded by entry point."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from traindoctor.errors import RulePackError
from traindoctor.rule import API, Cause

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

GROUP = "traindoctor.rules"


@dataclass(frozen=True, slots=True)
class Registry:
    """The causes by code, in the order of their codes; `problems`: packs that failed to load, with the reason."""

    causes: dict[str, Cause]
    problems: tuple[str, ...] = ()


def load_rules() -> Registry:
    """Return the causes of all installed packs.

    A pack that fails is named in `problems`, and the others are still loaded.

    Raises: RulePackError when two packs claim one code, or no pack is installed.
    """
    owners: dict[str, str] = {}
    causes: dict[str, Cause] = {}
    problems: list[str] = []
    packs = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    for pack, module in sorted(packs.items()):
        try:
            found = causes_in(importlib.import_module(module))
        except Exception as error:
            problems.append(f"rule pack {pack} ({module}) failed to load: {type(error).__name__}: {error}")
            continue
        for cause in found:
            if cause.code in owners:
                raise RulePackError(
                    cause.code, f"is claimed by rule packs {owners[cause.code]} and {pack}", "uninstall one of them"
                )
            owners[cause.code], causes[cause.code] = pack, cause
    if not causes:
        raise RulePackError("traindoctor", "no rule pack is installed", "pip install --force-reinstall traindoctor")
    return Registry(dict(sorted(causes.items())), tuple(problems))


def causes_in(pack: ModuleType) -> Iterable[Cause]:
    """Return the causes that the modules of a pack define.

    Raises: RulePackError when the pack was written for another rule interface.
    """
    if getattr(pack, "API", None) != API:
        raise RulePackError(pack.__name__, f"is written for rule interface {getattr(pack, 'API', 'unknown')}, this is {API}")
    modules = [pack] + [
        importlib.import_module(f"{pack.__name__}.{info.name}") for info in pkgutil.iter_modules(getattr(pack, "__path__", []))
    ]
    return [m.CAUSE for m in modules if isinstance(getattr(m, "CAUSE", None), Cause)]
