"""The trees that checked files belong to: scripts that import each other are read once, and what was read is known."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from traindoctor.check.cache import digest
from traindoctor.check.discover import shown
from traindoctor.check.sources import UnusableError, decoded, read_bytes
from traindoctor.code.project import Project
from traindoctor.code.script import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from traindoctor.check.findings import Found
    from traindoctor.check.sources import Source
    from traindoctor.mistake import Location

#: A folder with one of these is the root of a project.
ROOT_MARKS = ("pyproject.toml", ".git", "setup.py", "setup.cfg", "requirements.txt")
#: Scripts of a project that are kept parsed; a syntax tree takes a hundred times the space of its text.
MAX_KEPT = 64


class WatchedProject(Project):
    """A project that notes which file asked for which, whether it is there or not."""

    def __init__(self, root: Path) -> None:
        super().__init__(self._text)
        self.root = root
        self.asked: dict[str, set[str]] = {}
        self._importer = ""

    def _text(self, path: str) -> str | None:
        try:
            return decoded(path, "script", read_bytes(self.root / path)).text
        except UnusableError:
            return None

    def module(self, name: str, importer: str, about: Callable[[str], bool] | None = None) -> Script | None:
        """Return the script that `importer` imports under a dotted name, as `Project` does."""
        before, self._importer = self._importer, importer
        try:
            return super().module(name, importer, about)
        finally:
            self._importer = before

    def script(self, path: str, about: Callable[[str], bool] | None = None) -> Script | None:
        """Return the script at a path, as `Project` does."""
        self.asked.setdefault(self._importer, set()).add(path)
        return super().script(path, about)

    def reached(self, path: str) -> set[str]:
        """Return the paths that were asked for from a file, and from those."""
        found: set[str] = set()
        pending = [path, ""]
        while pending:
            new = self.asked.get(pending.pop(), set()) - found
            found |= new
            pending += new
        return found - {path}

    @property
    def is_full(self) -> bool:
        """Whether so many scripts are parsed that memory asks for a new start."""
        return sum(script is not None for script in self._scripts.values()) >= MAX_KEPT


class Projects:
    """The project of each file, and names as they are shown from the working directory."""

    def __init__(self, here: Path) -> None:
        self.here = here
        self._roots: dict[Path, Path | None] = {}
        self._project: WatchedProject | None = None  # of the file at hand; files come tree by tree
        self._digests: dict[str, str] = {}

    def root(self, path: Path) -> Path:
        """Return the nearest folder at or above a file that is the root of a project, else the file's own folder."""
        folder = path.parent
        return self._root(folder) or folder

    def _root(self, folder: Path) -> Path | None:
        if folder not in self._roots:
            is_root = any((folder / mark).exists() for mark in ROOT_MARKS)
            self._roots[folder] = folder if is_root else None if folder.parent == folder else self._root(folder.parent)
        return self._roots[folder]

    def of(self, path: Path) -> WatchedProject:
        """Return the project of a file."""
        root = self.root(path)
        if self._project is None or self._project.root != root or self._project.is_full:
            is_first, self._project = self._project is None, WatchedProject(root)
            if not is_first:
                gc.collect()  # scripts and their project know each other
        return self._project

    def parsed(self, path: Path, source: Source) -> Script:
        """Return the text of a file as a script of its project.

        Raises: UnusableError when it does not parse.
        """
        project = self.of(path)
        name = path.relative_to(project.root).as_posix()
        cells = source.notebook.cells if source.notebook is not None else ()
        known = project.parsed(name, source.text) if source.kind == "script" else None
        if known is not None:
            return known
        try:
            script = Script(name, source.text, cells=cells, project=project)
        except SyntaxError as error:
            raise UnusableError(
                f"does not parse: {error.msg}", error.lineno or 0, "python -m py_compile says more; Python 2 is not read"
            ) from None
        except (RecursionError, MemoryError):
            raise UnusableError("is nested too deeply to be parsed", way_out="exclude it: --exclude PATTERN") from None
        except ValueError as error:
            raise UnusableError(f"does not parse: {error}") from None
        if source.kind == "script":
            project.keep(script)
        return script

    def as_shown(self, found: Found, path: Path) -> Found:
        """Return a finding with its places named as the user sees them."""
        root = self.root(path)
        if root == self.here:
            return found
        mistake = found.mistake
        return found._replace(
            mistake=mistake._replace(
                location=self._place(mistake.location, root),
                related=tuple((self._place(place, root), words) for place, words in mistake.related),
            )
        )

    def _place(self, place: Location, root: Path) -> Location:
        return place._replace(file=shown(root / place.file, self.here))

    def looked_at(self, path: Path) -> Iterator[tuple[str, str]]:
        """Yield the other files that were looked for while a script was checked, with the hash of each."""
        project = self._project
        if project is None or project.root != self.root(path):
            return
        for name in sorted(project.reached(path.relative_to(project.root).as_posix())):
            other = str(project.root / name)
            yield other, self.digest_of(other)

    def digest_of(self, path: str) -> str:
        """Return the hash of what a file holds, "" where it cannot be read; each is read once."""
        if path not in self._digests:
            try:
                with open(path, "rb") as stream:  # noqa: PTH123 -- most of them are not there, and a Path costs more than that
                    self._digests[path] = digest(stream.read())
            except OSError:
                self._digests[path] = ""
        return self._digests[path]
