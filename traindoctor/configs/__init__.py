"""Config files of many dialects -> settings in one vocabulary, the optimizer they name, and patches of the user's file.

The names below are looked up when first asked for: `check` reads a config without what a log is read with.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traindoctor.configs.discover import Surroundings, find_code, find_configs
    from traindoctor.configs.frameworks import dialect_of
    from traindoctor.configs.loading import load_settings
    from traindoctor.configs.logged import settings_from
    from traindoctor.configs.optimizer import optimizer_spec, with_defaults
    from traindoctor.configs.patch import patch_for

__all__ = [
    "Surroundings",
    "dialect_of",
    "find_code",
    "find_configs",
    "load_settings",
    "optimizer_spec",
    "patch_for",
    "settings_from",
    "with_defaults",
]
_HOMES = {
    "Surroundings": "discover",
    "dialect_of": "frameworks",
    "find_code": "discover",
    "find_configs": "discover",
    "load_settings": "loading",
    "optimizer_spec": "optimizer",
    "patch_for": "patch",
    "settings_from": "logged",
    "with_defaults": "optimizer",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
