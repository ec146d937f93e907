"""Rule packs -> causes by code: every module of every installed pack, found by entry point, and of those at a path.

`load_rules` imports them all. `check` starts at every commit, so its `Shelf` imports a rule when the first text comes that
the rule may say something about: a pack can tell beforehand, in a module `words`, what its rules look for.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.errors import RulePackError, TraindoctorError, did_you_mean
from traindoctor.rule import API, Cause

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

GROUP = "traindoctor.rules"
#: The module of a pack that says what its rules look for: `INDEX`, written by docs/make_rules.py.
WORDS = "words"


class Registry(NamedTuple):
    """The causes by code, in the order of their codes; `problems`: packs that failed to load, with the reason."""

    causes: dict[str, Cause]
    problems: tuple[str, ...] = ()


class Indexed(NamedTuple):
    """What a pack says of a module: its code, the words of each of its rules on scripts, and whether it reads configs."""

    code: str
    scripts: tuple[tuple[str, ...], ...]
    files: bool


def load_rules(extra: Iterable[str] = ()) -> Registry:
    """Return the causes of all installed packs, and of those at the paths of `extra`, see `packs_at`.

    A pack that fails is named in `problems`, and the others are still loaded.

    Raises: RulePackError when two packs claim one code, no pack is installed, or nothing lies at a path.
    """
    owners: dict[str, str] = {}
    causes: dict[str, Cause] = {}
    problems: list[str] = []
    for pack, module in sorted((installed_packs() | packs_at(extra)).items()):
        try:
            found = causes_in(import_module(module))
        except Exception as error:
            problems.append(_failed(pack, module, error))
            continue
        for cause in found:
            _claim(owners, cause.code, pack)
            causes[cause.code] = cause
    if not causes:
        raise _nothing_installed(problems)
    return Registry(dict(sorted(causes.items())), tuple(problems))


def refuse_unknown(codes: Iterable[str], causes: Iterable[str]) -> None:
    """Refuse what begins none of the codes there are: `TD2` is a family, `TD999` a slip.

    Raises: TraindoctorError with the nearest.
    """
    known = tuple(causes)
    for code in codes:
        if not any(there.startswith(code) for there in known):
            raise TraindoctorError(code, "no rule has a code that begins so", *did_you_mean(code, known), "traindoctor rules")


def causes_in(pack: ModuleType) -> list[Cause]:
    """Return the causes that the modules of a pack define.

    Raises: RulePackError when the pack was written for another rule interface.
    """
    _check_interface(pack)
    modules = [pack, *(import_module(f"{pack.__name__}.{name}") for name in _modules(pack))]
    return [m.CAUSE for m in modules if isinstance(getattr(m, "CAUSE", None), Cause)]


def installed_packs() -> dict[str, str]:
    """Return the modules of the installed rule packs by the name of the pack.

    Reads the entry points of the distributions on `sys.path` as `importlib.metadata` does, whose import alone would cost half
    of what `check` needs for a file; where nothing is found that way, it is asked.
    """
    packs: dict[str, str] = {}
    for folder in dict.fromkeys(sys.path):
        for name in _listed(folder or "."):
            if name.endswith((".dist-info", ".egg-info")):
                packs = dict(_entry_points(os.path.join(folder, name, "entry_points.txt"))) | packs  # noqa: PTH118 -- pathlib's import
    if not packs:
        from importlib.metadata import entry_points

        packs = {entry.name: entry.value for entry in entry_points(group=GROUP)}
    return packs


def packs_at(paths: Iterable[str]) -> dict[str, str]:
    """Return the modules of rule packs that lie at paths, by path: a rule file, or a folder with an `__init__.py`.

    They are made importable under a name of their own; importing one runs it, which is what naming it asks for.

    Raises: RulePackError for a path without a rule pack.
    """
    packs: dict[str, str] = {}
    for path in paths:
        file = os.path.join(path, "__init__.py") if os.path.isdir(path) else path  # noqa: PTH112, PTH118 -- pathlib's import
        if not (os.path.isfile(file) and file.endswith(".py")):  # noqa: PTH113
            raise RulePackError(path, "is no rule file, and no folder with an __init__.py", "name a file such as my_rule.py")
        packs[path] = _importable(file)
    return packs


def _importable(file: str) -> str:
    """Return the name under which a file can be imported from now on."""
    from importlib.util import spec_from_file_location

    full = os.path.abspath(file)  # noqa: PTH100
    folder, name = os.path.split(full)
    inside = [folder] if name == "__init__.py" else None
    words = (folder if inside else full.removesuffix(".py")).strip(os.sep)
    module = "_rules_at_" + "".join(c if c.isalnum() else f"_{ord(c):x}_" for c in words)
    spec = spec_from_file_location(module, full, submodule_search_locations=inside)
    if spec is not None:
        _AT_PATHS.specs[module] = spec
    if _AT_PATHS not in sys.meta_path:
        sys.meta_path.append(_AT_PATHS)
    return module


class _AtPaths:
    """Finds the modules that were made importable by their path."""

    def __init__(self) -> None:
        self.specs: dict[str, ModuleSpec] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002
        return self.specs.get(name)


_AT_PATHS = _AtPaths()


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 -- pathlib's import
    except OSError:
        return []


def _entry_points(file: str) -> Iterator[tuple[str, str]]:
    """Yield name and module of each entry point of the group in an `entry_points.txt`."""
    try:
        with open(file, encoding="utf-8") as stream:  # noqa: PTH123 -- pathlib's import
            text = stream.read()
    except (OSError, UnicodeDecodeError):
        return
    inside = False
    for line in text.splitlines() if GROUP in text else ():
        if line.strip().startswith("["):
            inside = line.strip() == f"[{GROUP}]"
        elif inside and "=" in line:
            name, _, module = line.partition("=")
            yield name.strip(), module.strip()


def _modules(pack: ModuleType) -> list[str]:
    """Return the names of the modules of a pack, sorted."""
    import pkgutil

    return [info.name for info in pkgutil.iter_modules(getattr(pack, "__path__", []))]


def _check_interface(pack: ModuleType) -> None:
    if getattr(pack, "API", None) != API:
        raise RulePackError(pack.__name__, f"is written for rule interface {getattr(pack, 'API', 'unknown')}, this is {API}")


def _claim(owners: dict[str, str], code: str, pack: str) -> None:
    if code in owners:
        raise RulePackError(code, f"is claimed by rule packs {owners[code]} and {pack}", "uninstall one of them")
    owners[code] = pack


def _failed(pack: str, module: str, error: Exception) -> str:
    return f"rule pack {pack} ({module}) failed to load: {type(error).__name__}: {error}"


def _nothing_installed(problems: Sequence[str]) -> RulePackError:
    what = problems[0] if problems else "no rule pack is installed"
    return RulePackError("traindoctor", what, "pip install --force-reinstall traindoctor")


# -- for check --------------------------------------------------------------------------------------------------------


class Shelf:
    """The rules on scripts and configs of all installed packs and those at paths, imported when a text first calls for them.

    `extra`: paths of packs, see `packs_at`. `known`: all codes. `codes`: of every cause that may look at a script or a config.
    `problems`: packs and rules that failed to load. `folders`: where the modules of the packs lie.

    Raises: RulePackError as `load_rules` does.
    """

    def __init__(self, extra: Iterable[str] = ()) -> None:
        self.known: set[str] = set()
        self.codes: set[str] = set()
        self.problems: list[str] = []
        self.folders: list[str] = []
        self._index: list[tuple[str, str, Indexed]] = []
        self._loaded: dict[str, Cause | None] = {}
        owners: dict[str, str] = {}
        for pack, module in sorted((installed_packs() | packs_at(extra)).items()):
            try:
                home = import_module(module)
                self.folders += getattr(home, "__path__", [str(home.__file__)])
                entries = list(self._entries(home))
            except Exception as error:
                self.problems.append(_failed(pack, module, error))
                continue
            for name, entry in entries:
                _claim(owners, entry.code, pack)
                self.known.add(entry.code)
                if entry.scripts or entry.files:
                    self._index.append((pack, name, entry))
                    self.codes.add(entry.code)
        if not owners:
            raise _nothing_installed(self.problems)
        self._index.sort(key=lambda known: known[2].code)

    def for_script(self, text: str) -> list[Cause]:
        """Return the causes, by code, one of whose rules on scripts has all its words in the text."""
        return self._causes(e for e in self._index if any(speaks_of(words, text) for words in e[2].scripts))

    def for_file(self) -> list[Cause]:
        """Return the causes, by code, that look at configs."""
        return self._causes(e for e in self._index if e[2].files)

    def _causes(self, entries: Iterable[tuple[str, str, Indexed]]) -> list[Cause]:
        found = []
        for pack, name, _ in entries:
            if name not in self._loaded:
                try:
                    self._loaded[name] = import_module(name).CAUSE
                except Exception as error:
                    self._loaded[name] = None
                    self.problems.append(_failed(pack, name, error))
            cause = self._loaded[name]
            if cause is not None:
                found.append(cause)
        return found

    def _entries(self, pack: ModuleType) -> Iterator[tuple[str, Indexed]]:
        """Yield the modules of a pack with what they look for: from its index, imported where that does not know them."""
        _check_interface(pack)
        known: dict[str, Indexed] = {}
        names = sorted(name[:-3] for folder in getattr(pack, "__path__", ()) for name in _listed(folder) if name.endswith(".py"))
        if WORDS in names:
            known = {name: Indexed(*entry) for name, entry in import_module(f"{pack.__name__}.{WORDS}").INDEX.items()}
        for name in ["", *names]:
            full = f"{pack.__name__}.{name}" if name else pack.__name__
            if name in known:
                yield full, known[name]
            elif name not in ("__init__", "__main__", WORDS):
                cause = getattr(import_module(full), "CAUSE", None)
                if isinstance(cause, Cause):
                    yield full, indexed(cause)


def indexed(cause: Cause) -> Indexed:
    """Return what a cause looks for in scripts and configs."""
    return Indexed(cause.code, tuple(words for _, words in cause.script_rules), bool(cause.file_rules))


def speaks_of(words: Iterable[str], text: str) -> bool:
    """Return whether all words stand in a text ("a|b": one of two)."""
    return all(any(word in text for word in either.split("|")) for either in words)
