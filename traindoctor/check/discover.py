"""Paths given -> the files to check, each with the name it is shown by. Folders of others (environments, builds) are left out."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from traindoctor.check.sources import Kind

KINDS: dict[str, Kind] = {
    ".py": "script",
    ".pyw": "script",
    ".ipynb": "notebook",
    ".yaml": "config",
    ".yml": "config",
    ".toml": "config",
    ".json": "config",
}
#: Looked into where they are named, never looked for.
NAMED_ONLY: dict[str, Kind] = dict.fromkeys((".sh", ".bash", ".slurm", ".sbatch", ".args", ".opt", ".txt", ".json5"), "config")
#: Folders that hold nothing that the user wrote. Hidden ones are left out too, and those that are a virtual environment.
# fmt: off
NOT_OURS = frozenset({
    "__pycache__", "__pypackages__", "node_modules", "bower_components", "site-packages", "dist-packages", "venv", "build",
    "dist", "wandb", "mlruns", "lightning_logs", "htmlcov",
})
# fmt: on
ENVIRONMENT_MARKS = ("pyvenv.cfg", "conda-meta")
#: Deeper folders are not entered: a loop of links, or no project.
MAX_DEPTH = 40


class Target(NamedTuple):
    """A file to check: where it lies, how it is shown, how it is read, and whether the user named it."""

    path: Path
    file: str
    kind: Kind | None
    asked: bool


def shown(path: Path, here: Path) -> str:
    """Return a path as it is shown: relative to the working directory where it lies below it, with "/" between its parts."""
    try:
        return path.relative_to(here).as_posix()
    except ValueError:
        return path.as_posix()


def targets(paths: Iterable[Path], here: Path, exclude: Sequence[str] = ()) -> Iterator[Target]:
    """Yield the files of the paths in the order of their names, each once; a path that is named is never left out.

    `exclude`: patterns of names ("old_*"), paths ("scripts/*.py") or folders, as `matches` reads them.
    """
    seen: set[str] = set()
    for path in paths:
        if path.is_dir() and os.access(path, os.R_OK | os.X_OK):
            found: Iterable[Target] = (
                Target(file, shown(file, here), KINDS[file.suffix.lower()], False) for file in _files(path, here, exclude, 0)
            )
        else:
            suffix = path.suffix.lower()
            found = [Target(path, shown(path, here), KINDS.get(suffix) or NAMED_ONLY.get(suffix), True)]
        for target in found:
            if target.file not in seen:
                seen.add(target.file)
                yield target


def _files(folder: Path, here: Path, exclude: Sequence[str], depth: int) -> Iterator[Path]:
    """Yield the files below a folder that may be checked: its own first, then those of its folders, by name."""
    folders = []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 -- of thousands of names
                if entry.name.startswith(".") or (exclude and matches(exclude, shown(folder / entry.name, here))):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in NOT_OURS and not entry.name.endswith(".egg-info"):
                        folders.append(folder / entry.name)
                elif suffix in KINDS and entry.is_file():
                    yield folder / entry.name
    except OSError:
        return
    for inner in folders:
        if depth < MAX_DEPTH and not any((inner / mark).exists() for mark in ENVIRONMENT_MARKS):
            yield from _files(inner, here, exclude, depth + 1)


def matches(patterns: Iterable[str], file: str) -> bool:
    """Return whether a shown path, one of the folders above it, or its name alone is what one of the patterns says."""
    from fnmatch import fnmatchcase

    parts = file.split("/")
    folders = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    for pattern in patterns:
        wanted = pattern.removeprefix("./").removesuffix("/**").rstrip("/")
        if any(fnmatchcase(one, wanted) for one in (folders if "/" in wanted else parts)):
            return True
    return False
