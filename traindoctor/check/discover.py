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


class Exclude(NamedTuple):
    """What is left out of folders: patterns as `matches` reads them, and the folder that their paths start from.

    `named`: of the files that are named too.
    """

    patterns: Sequence[str]
    folder: Path
    named: bool = False

    def holds(self, path: Path) -> bool:
        """Return whether a path is left out."""
        return bool(self.patterns) and matches(self.patterns, shown(path, self.folder))


def targets(
    paths: Iterable[Path], here: Path, exclude: Exclude | None = None, links: list[Path] | None = None
) -> Iterator[Target]:
    """Yield the files of the paths in the order of their names, each once; one that is named is left out if `exclude` says so.

    A folder that cannot be listed is yielded itself, so that its reading says why. A link to a folder is followed where it is
    named; the others, which lead to data or in circles, are appended to `links`.
    """
    seen: set[str] = set()
    links = [] if links is None else links
    for given in paths:
        path = _normal(given)
        # os.path's is_dir is False, and not an error, below a closed folder and for a name that is too long
        if os.path.isdir(path) and os.access(path, os.R_OK | os.X_OK):  # noqa: PTH112
            found: Iterable[Target] = (
                Target(file, shown(file, here), KINDS.get(file.suffix.lower()), False) for file in _files(path, exclude, links, 0)
            )
        else:
            found = [] if exclude is not None and exclude.named and exclude.holds(path) else [named(path, here)]
        for target in found:
            if target.file not in seen:
                seen.add(target.file)
                yield target


def named(path: Path, here: Path) -> Target:
    """Return a file that the user named."""
    suffix = path.suffix.lower()
    return Target(path, shown(path, here), KINDS.get(suffix) or NAMED_ONLY.get(suffix), True)


def _normal(path: Path) -> Path:
    """Return a path without "..", where that leads to the same place: behind a link to a folder it may not."""
    if ".." not in path.parts:
        return path
    normal = path.__class__(os.path.normpath(path))
    try:
        return normal if not path.exists() or path.samefile(normal) else path
    except OSError:
        return path


def _files(folder: Path, exclude: Exclude | None, links: list[Path], depth: int) -> Iterator[Path]:
    """Yield the files below a folder that may be checked: its own first, then those of its folders, by name."""
    folders = []
    try:
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda e: e.name):
                suffix = os.path.splitext(entry.name)[1].lower()  # noqa: PTH122 -- of thousands of names
                if entry.name.startswith(".") or (exclude is not None and exclude.holds(folder / entry.name)):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if entry.name not in NOT_OURS and not entry.name.endswith(".egg-info"):
                        folders.append(folder / entry.name)
                elif entry.is_symlink() and entry.is_dir():
                    links.append(folder / entry.name)
                elif suffix in KINDS and entry.is_file():
                    yield folder / entry.name
    except OSError:
        yield folder
        return
    for inner in folders:
        if depth < MAX_DEPTH and not any(os.path.exists(inner / mark) for mark in ENVIRONMENT_MARKS):  # noqa: PTH110 -- as above
            yield from _files(inner, exclude, links, depth + 1)


def matches(patterns: Iterable[str], file: str) -> bool:
    """Return whether a shown path, one of the folders above it, or its name alone is what one of the patterns says."""
    from fnmatch import fnmatchcase

    parts = file.split("/")
    folders = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
    for pattern in patterns:
        wanted = pattern.removeprefix("./").removesuffix("/**").rstrip("/")
        for form in {wanted, wanted.replace("**/", "")}:  # "**/" stands for no folder too
            if any(fnmatchcase(one, form) for one in (folders if "/" in form else parts)):
                return True
    return False
