"""A change of settings -> a unified diff of the user's own config file."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from traindoctor.model import Setting


def patch_for(
    root: Path, settings: Mapping[str, Setting], change: Mapping[str, object], config_files: Sequence[str]
) -> str | None:
    """Return a unified diff that makes the change, or None."""
    return None
