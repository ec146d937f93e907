"""What a check is asked for, and which rules that means for a file."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from traindoctor.check.discover import matches

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from traindoctor.mistake import Severity


class CheckOptions(NamedTuple):
    """The options of `check`; None where the command line says nothing, so that the settings do.

    `level`: the lowest severity that is shown, and repaired; `fail_on`: the lowest that fails, "never" for none.
    `exclude_named`: what is excluded is left out though it is named. `per_file_ignores`: (pattern, codes). `cache`: the folder
    of the cache, None for no cache. `fix`: "safe" repairs are made, or "all". `rules`: paths of rule packs of the user's own.
    """

    select: tuple[str, ...] | None = None
    extend_select: tuple[str, ...] = ()
    ignore: tuple[str, ...] | None = None
    per_file_ignores: tuple[tuple[str, tuple[str, ...]], ...] | None = None
    exclude: tuple[str, ...] | None = None
    exclude_named: bool = False
    level: Severity | str | None = None
    fail_on: Severity | str | None = None
    config: Path | None = None
    isolated: bool = False
    baseline: Path | None = None
    write_baseline: Path | None = None
    cache: Path | None = None
    fix: str = ""
    diff: bool = False
    stdin: str = ""
    rules: tuple[str, ...] = ()


class Rules(NamedTuple):
    """Which rules run on a file: prefixes of codes, and their thresholds."""

    select: tuple[str, ...]
    ignore: tuple[str, ...]
    thresholds: Mapping[str, Mapping[str, float]]

    def allow(self, code: str) -> bool:
        """Return whether a rule runs: the longest prefix that fits its code decides, and on a draw `ignore` does."""
        chosen = max((len(prefix) for prefix in self.select if code.startswith(prefix)), default=-1 if self.select else 0)
        return chosen > max((len(prefix) for prefix in self.ignore if code.startswith(prefix)), default=-1)


def per_file(ignores: Collection[tuple[str, tuple[str, ...]]], file: str) -> tuple[str, ...]:
    """Return the codes that are ignored in a file, by the patterns that fit its shown path."""
    return tuple(code for pattern, codes in ignores if matches((pattern,), file) for code in codes)
