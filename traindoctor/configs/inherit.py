"""A config file and the files it names as its bases -> the entries of all, each with the file it stands in.

`_BASE_: ../base.yaml` (Detectron2), `_base_ = [...]` (OpenMMLab), relative imports of a Python config (LazyConfig, MMEngine's
`read_base`), and the `defaults:` of Hydra. Only files at hand are read: relative paths that stay below the repository of the
config (the nearest folder above it with `.git`) or, without one, below the folder that was given. At most 64
files, 16 deep, 500 kB. A base that is not there is a note.

Source: detectron2, fvcore's config.py; mmengine.readthedocs.io, "Config", "Inheritance" (`_delete_=True` replaces a block);
hydra.cc, "The Defaults List" (`group: option` is `group/option.yaml` under the key of the group, `/` is from the top,
`@package` puts it elsewhere, what stands later overrides, the file itself comes last unless `_self_` says where).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from traindoctor.configs.documents import MAX_ENTRIES, TOO_MANY, Document, Entry, Note, ParseError, read_document, read_text
from traindoctor.configs.interpolation import resolved
from traindoctor.configs.vocabulary import GROUPS, OPTIMIZERS, SCHEDULES, normal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from traindoctor.configs.python_text import Tree

MAX_FILES = 64
MAX_DEPTH = 16
MAX_BASE_BYTES = 500_000
_YAML = (".yaml", ".yml")


def read_config(path: Path, root: Path, text: str | None = None) -> Document:
    """Return the entries of a config with those of its bases, overridden ones left out, and what is doubtful in it.

    `text`: of the file, where it is not, or not yet, the one on the disk.

    Raises: ParseError when the file itself cannot be read.
    """
    family = _Family(path, root, text)
    document = family.read(path, 0)
    entries = [e for e in document.entries if e.key not in ("_base_", "_BASE_", "_delete_")]
    if len(entries) > MAX_ENTRIES:
        raise ParseError(0, TOO_MANY)
    return Document(resolved(entries), [*document.notes, *family.notes])


class _Family:
    """A config and its bases: what was opened, and what could not be."""

    def __init__(self, first: Path, root: Path, text: str | None) -> None:
        self.first = first
        self.text = text
        self.top = _top(first, root)
        self.open: list[Path] = []
        self.n_read = self.n_bytes = 0
        self.notes: list[Note] = []

    def read(self, path: Path, depth: int) -> Document:
        self.n_read += 1
        self.open.append(path.resolve())
        if path != self.first:
            self.n_bytes += path.stat().st_size
        try:
            if path.suffix.lower() == ".py":
                return self.python(path, depth)
            document = read_document(self.text_of(path), path.suffix)
            own = document.entries if path == self.first else [e._replace(file=e.file or path) for e in document.entries]
            return Document(self.composed(own, path, depth), document.notes)
        finally:
            self.open.pop()

    def text_of(self, path: Path) -> str:
        return self.text if path == self.first and self.text is not None else read_text(path)

    def base(self, path: Path, line: int, depth: int) -> list[Entry]:
        """Return the entries of a base; none, and a note, when it is not at hand or cannot be read."""
        where = self.refusal(path, depth)
        if not where:
            try:
                return self.read(path, depth + 1).entries
            except ParseError as error:
                where = error.reason
            except OSError:
                where = "cannot be reached"
        self.note(line, path, where)
        return []

    def refusal(self, path: Path, depth: int) -> str:
        """Return why a base is not read; empty when it may be."""
        try:
            real = path.resolve()
            if not real.is_relative_to(self.top):
                return "lies outside of the folder of this config's repository"
            if real in self.open:
                return "is a base of its own"
            if self.n_read >= MAX_FILES or depth >= MAX_DEPTH:
                return "is one of too many bases"
            if not real.is_file():
                return "is not at hand"
            return "" if self.n_bytes + real.stat().st_size <= MAX_BASE_BYTES else "makes the bases too large"
        except (OSError, ValueError, RuntimeError):
            return "cannot be reached"

    def note(self, line: int, path: Path, reason: str) -> None:
        if len(self.notes) < 20:
            self.notes.append(Note(line, "missing-base", f"the base {path.name[:80]!r} {reason}: what it sets is not known"))

    # -- YAML, JSON, TOML ---------------------------------------------------------------------------------------------

    def composed(self, own: list[Entry], path: Path, depth: int) -> list[Entry]:
        """Return the entries of a file over those of its bases."""
        entries: list[Entry] = []
        for entry in own:
            if entry.path in (("_BASE_",), ("_base_",)) and not (entry.file and entry.file != path):
                for name in entry.value if isinstance(entry.value, list) else [entry.value]:
                    if isinstance(name, str) and 0 < len(name) < 400:
                        entries = _over(entries, self.base(path.parent / name, entry.line, depth))
        defaults = [entry for entry in own if entry.path[0] == "defaults"]
        if path.suffix.lower() not in _YAML or not defaults:
            return _over(entries, own)
        mine = [entry for entry in own if entry.path[0] != "defaults"]
        for item in [*_defaults(defaults), None]:
            if item is None:
                entries = _over(entries, mine)
                break
            line, group, option = item
            if option == "_self_":
                entries, mine = _over(entries, mine), []
            else:
                entries = _over(entries, self.option(path, line, group, option, depth))
        return [*(e for e in defaults if path == self.first), *entries]

    def option(self, path: Path, line: int, group: str, option: str, depth: int) -> list[Entry]:
        """Return the entries of `group: option` of a defaults list, under the key that it is packaged as."""
        if "${" in option or "hydra" in group.split("/")[0] or len(group) + len(option) > 400:
            return []
        group, _, package = group.partition("@")
        name = f"{group}/{option}" if group else option
        absolute = name.startswith("/")
        name = name.lstrip("/")
        file = next((f for f in self.places(path, name, absolute=absolute) if not self.refusal(f, depth)), None)
        if file is None:
            words = {normal(part) for part in group.split("/")} if group else {"config"}
            if words & (OPTIMIZERS | SCHEDULES | GROUPS):  # else it is of no consequence here
                self.note(line, Path(name), "is not at hand")
            return []
        try:
            header = re.search(r"^#\s*@package\s+(\S+)", read_text(file), re.MULTILINE)
        except ParseError:
            header = None
        key = package or (header.group(1) if header else "") or name.rpartition("/")[0].replace("/", ".")
        key = "" if key in ("_global_", "_here_") else key.removeprefix("_group_.").removeprefix("_global_.")
        parts = tuple(part for part in key.split(".") if part)
        return [entry._replace(path=(*parts, *entry.path)) for entry in self.base(file, line, depth)]

    def places(self, path: Path, name: str, *, absolute: bool) -> Iterator[Path]:
        """Yield the files that an option may be: beside the file that names it, else up to the top."""
        folders = [path.parent, self.first.parent] if not absolute else [self.first.parent]
        for folder in (*folders, *self.first.resolve().parents[:MAX_DEPTH]):
            for suffix in ("", *_YAML) if name.endswith(_YAML) else _YAML:
                yield folder / f"{name}{suffix}"

    # -- Python -------------------------------------------------------------------------------------------------------

    def python(self, path: Path, depth: int) -> Document:
        from traindoctor.configs.python_text import entries_of

        notes: list[Note] = []
        names = self.names(path, depth, notes)
        own = list(entries_of(names))
        entries: list[Entry] = []
        for entry in own:
            if entry.path == ("_base_",):
                for name in entry.value if isinstance(entry.value, list) else [entry.value]:
                    if isinstance(name, str) and 0 < len(name) < 400 and "::" not in name:
                        entries = _over(entries, self.base(path.parent / name, entry.line, depth))
        return Document(_over(entries, own), notes)

    def names(self, path: Path, depth: int, notes: list[Note]) -> dict[str, Tree]:
        from traindoctor.configs.python_text import names_of

        def load(module: str) -> dict[str, Tree] | None:
            """Return what a module that is imported relative to this file assigns."""
            dotted = module.lstrip(".")
            folder = path.parent
            for _ in range(len(module) - len(dotted) - 1):
                folder = folder.parent
            file = folder.joinpath(*dotted.split(".")) if dotted else folder / "__init__"
            file = file.with_name(file.name + ".py") if not file.is_dir() else file / "__init__.py"
            why = self.refusal(file, depth)
            if why:
                self.note(1, file, why)
                return None
            self.n_read += 1
            self.n_bytes += file.stat().st_size
            self.open.append(file.resolve())
            try:
                return self.names(file, depth + 1, [])
            except ParseError as error:
                self.note(1, file, error.reason)
                return None
            finally:
                self.open.pop()

        return names_of(self.text_of(path), notes, load, None if path == self.first else path)


def _top(first: Path, root: Path) -> Path:
    """Return the folder that all bases must lie in."""
    here = first.resolve().parent
    repository = next((folder for folder in (here, *here.parents) if (folder / ".git").exists()), None)
    if repository is not None:
        return repository
    given = root.resolve()
    return given if given == here or given in here.parents else here  # the logs may lie elsewhere, at a URL


def _defaults(entries: Iterable[Entry]) -> Iterator[tuple[int, str, str]]:
    """Yield line, group and option of each item of a defaults list; the group is "" for a file beside it."""
    for entry in entries:
        if len(entry.path) == 1:
            for value in entry.value if isinstance(entry.value, list) else [entry.value]:
                if isinstance(value, str):
                    group, _, option = value.strip().rpartition("/") if not value.startswith("/") else ("", "", value)
                    yield entry.line, group, option
        elif len(entry.path) == 2 and isinstance(entry.value, str):
            yield entry.line, "", entry.value.strip()
        elif len(entry.path) == 3 and isinstance(entry.value, str | list):
            group = re.sub(r"^(?:optional|override)\s+", "", entry.key.strip())
            for value in entry.value if isinstance(entry.value, list) else [entry.value]:
                if isinstance(value, str) and value.lower() not in ("null", "none"):
                    yield entry.line, group, value.strip()


def _over(below: list[Entry], above: list[Entry]) -> list[Entry]:
    """Return the entries of `above` and those of `below` that it does not override.

    A value replaces what stood at its path, a list the whole list, and a block with `_delete_` the whole block.
    """
    if not below:
        return above
    replaced: set[tuple[str, ...]] = set()
    opened: set[tuple[str, ...]] = set()
    for entry in above:
        replaced.add(entry.path[:-1] if entry.key == "_delete_" and entry.value is True else entry.path)
        for n in range(1, len(entry.path)):
            opened.add(entry.path[:n])
            if entry.path[n].isdigit():
                replaced.add(entry.path[:n])
    kept = [e for e in below if e.path not in opened and not any(e.path[:n] in replaced for n in range(1, len(e.path) + 1))]
    return [*kept, *above]
