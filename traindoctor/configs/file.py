"""One config file as `check` sees it: its settings in the one vocabulary, their places, and what stands where nothing was set.

Whether a file is the config of a training run at all is told by its text before it is parsed (`configs.words`), and by its keys
(`is_training_config`).
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from traindoctor.configs.dialects import read_settings
from traindoctor.configs.documents import COMMANDS, NOWHERE, Entry, ParseError, parse, read_document, read_text
from traindoctor.configs.frameworks import Shape
from traindoctor.configs.inherit import read_config
from traindoctor.configs.optimizer import normal_name, optimizer_spec
from traindoctor.configs.vocabulary import normal, number
from traindoctor.configs.words import is_program
from traindoctor.mistake import Edit, Location
from traindoctor.patterns import lazy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from traindoctor.configs.dialects import Reading
    from traindoctor.configs.documents import Document, Note, Span
    from traindoctor.configs.vocabulary import Slot
    from traindoctor.model import OptimizerSpec


class ConfigFile:
    """A config, its bases read with it where they are at hand.

    `file`: as shown to the user. `text`: without a byte-order mark. `path`: where it lies, None for text that was given (its
    bases are then not looked for). `root`: the folder that paths are shown relative to. `others`: texts of files beside one
    that was given as text, by their path relative to it.

    Raises: ParseError when it does not parse.
    """

    def __init__(
        self,
        file: str,
        text: str,
        *,
        path: Path | None = None,
        root: Path | None = None,
        others: Mapping[str, str] | None = None,
    ) -> None:
        self.file = file
        self.text = text
        self.suffix = Path(file).suffix.lower()
        self.path = path
        self.root = root
        self.others = others or {}
        self.document: Document = (
            read_document(text, self.suffix) if path is None else read_config(path, root or path.parent, text)
        )
        self.reading: Reading = read_settings(self.entries, Path(file).name)
        self._beside: dict[str, ConfigFile | None] = {}
        self._looked_around = False

    @property
    def name(self) -> str:
        """The name of the file without its folders."""
        return Path(self.file).name

    @property
    def is_base(self) -> bool:
        """Whether the file is a part that others inherit from, by its name: they may set otherwise what it sets."""
        parts = (self.path or Path(self.file)).parts
        return "_base_" in parts or self.name.startswith(("Base-", "Base_", "_base"))

    @property
    def is_branching(self) -> bool:
        """Whether the file is a launch script that decides what it sets, so that two of its options may never meet."""
        return self.suffix in COMMANDS and re.search(r"\b(?:if|elif|else|case)\b", self.text) is not None

    @property
    def entries(self) -> list[Entry]:
        """All keys with a value, in file order, inherited ones too."""
        return self.document.entries

    @property
    def notes(self) -> list[Note]:
        """What is doubtful in the file: a key that stands twice, a base that is not at hand."""
        return self.document.notes

    @cached_property
    def is_trial(self) -> bool:
        """Whether the file, by its name or its folder, is for a run of a few steps that tries the code."""
        *folders, name = self.file.lower().replace("\\", "/").split("/")
        words = {*re.split(r"[^a-z]+", name), *folders[-1:]}
        return not {
            "ci",
            "instant",
            "quick",
            "debug",
            "smoke",
            "dummy",
            "autotuning",
            "quick_schedules",
            "autotuning_configs",
        }.isdisjoint(words)

    @property
    def dialect(self) -> str:
        """Name of the framework whose config it is, "" where no framework's keys are seen."""
        return self.reading.dialect.name

    @cached_property
    def own_entries(self) -> list[Entry]:
        """The entries as the file itself writes them, before interpolation and inheritance."""
        return parse(self.text, self.suffix)

    @cached_property
    def shape(self) -> Shape:
        """The entries by dotted path, in lower case with underscores."""
        return Shape(self.entries, self.name)

    def at(self, *paths: str) -> Entry | None:
        """Return the entry at the first of these dotted paths that holds a value; None where none does."""
        return next((entry for path in paths if (entry := self.shape.at.get(path)) is not None and entry.value is not None), None)

    def slot(self, setting: str) -> Slot | None:
        """Return the place of a setting of the one vocabulary ("optimizer.lr"); None where it is not set or says nothing."""
        slot = self.reading.slots.get(setting)
        return slot if slot is not None and slot.value is not None else None

    def value(self, setting: str) -> object:
        """Return the value that the file sets, None where it sets none."""
        slot = self.slot(setting)
        return slot.value if slot is not None else None

    def number(self, setting: str) -> float | None:
        """Return the value that the file sets as a number; None where it sets none, or one that is no number."""
        return number(self.value(setting))

    def is_open(self, setting: str) -> bool:
        """Whether the file leaves the setting to something else: "auto", an interpolation that is not resolved."""
        return setting in self.reading.open

    def default(self, setting: str) -> object:
        """Return what the dialect, or the constructor of the optimizer, sets where the file does not; None when not known."""
        if setting in self.reading.dialect.defaults:
            return self.reading.dialect.defaults[setting]
        if setting.startswith("optimizer.") and self.optimizer is not None:
            return getattr(self.optimizer, setting.partition(".")[2], None)
        return None

    @property
    def optimizer_name(self) -> str:
        """The optimizer in lower case ("adamw"), also where it is the dialect's default; "" when not known."""
        name = self.value("optimizer.name")
        if name is None and not self.is_open("optimizer.name"):
            name = self.reading.dialect.defaults.get("optimizer.name")
        return normal_name(name) if isinstance(name, str) else ""

    @cached_property
    def optimizer(self) -> OptimizerSpec | None:
        """The optimizer with its defaults filled in, each with its origin; None when none is named."""
        from traindoctor.model import Setting

        settings = {s: Setting(slot.value, self.file) for s, slot in self.reading.slots.items() if slot.value is not None}
        if self.dialect:
            settings["dialect"] = Setting(self.dialect, self.file)
        if self.reading.open:
            settings["dialect.open"] = Setting(self.reading.open, self.file)
        return optimizer_spec(settings, ())

    # -- places and edits

    def is_own(self, what: Slot | Entry) -> bool:
        """Whether a setting stands in the file itself, not in one of its bases."""
        return _entry(what).file is None

    def foremost(self, *places: Slot | Entry | None) -> Slot | Entry | None:
        """Return the first of these that stands in the file itself, else the first that stands in a base."""
        held = [one for one in places if one is not None]
        return next((one for one in held if self.is_own(one)), held[0] if held else None)

    def place(self, what: Slot | Entry) -> Location:
        """Return where a setting stands: its value where that is known, else its key."""
        entry = _entry(what)
        if entry.file is not None:
            return Location(self._shown(entry.file), entry.line, entry.column)
        characters = entry.span if entry.span != NOWHERE else entry.extent
        if characters == NOWHERE:
            return Location(self.file, entry.line, entry.column)
        return self.place_of(*characters)

    def place_of(self, start: int, stop: int) -> Location:
        """Return the place of some characters of the text."""
        before, inside = self.text[:start], self.text[start:stop]
        line = before.count("\n") + 1
        end_line = line + inside.count("\n")
        column = start - (before.rfind("\n") + 1) + 1
        end_column = stop - (self.text.rfind("\n", 0, stop) + 1) + 1
        return Location(self.file, line, column, end_line, end_column)

    def key_place(self, what: Slot | Entry) -> Location:
        """Return where the key of a setting stands; the value where its characters are not known."""
        span = self.key_span(what)
        return self.place_of(*span) if span != NOWHERE else self.place(what)

    def key_span(self, what: Slot | Entry) -> Span:
        """Return the characters of a key, without quotes and dashes; (-1, -1) where they are not known."""
        entry = _entry(what)
        if entry.file is not None or entry.interpolated or entry.shared:
            return NOWHERE
        if entry.key_start >= 0:
            start = entry.key_start + (self.text[entry.key_start : entry.key_start + 1] in "\"'")
            return (start, start + len(entry.key)) if self.text.startswith(entry.key, start) else NOWHERE
        value = entry.span if entry.span != NOWHERE else entry.extent
        if value == NOWHERE:
            return NOWHERE
        line = self.text.rfind("\n", 0, value[0]) + 1
        key = rf"(?<![\w.-])-{{0,2}}({re.escape(entry.key)})[\"']?(?:\s*[:=]\s*|\s+)[\"'(]*$"
        found = re.search(key, self.text[line : value[0]])
        return (line + found.start(1), line + found.end(1)) if found else NOWHERE

    def written(self, what: Slot | Entry) -> str:
        """Return the value as the file writes it; "" where its characters are not known."""
        entry = _entry(what)
        return "" if entry.span == NOWHERE or entry.file is not None else self.text[slice(*entry.span)]

    def replaced(self, what: Slot | Entry, text: str) -> Edit | None:
        """Return the edit that puts text in the place of a value; None where it stands elsewhere, or serves other keys too."""
        entry = _entry(what)
        if (
            entry.file is not None
            or entry.shared
            or entry.interpolated
            or entry.span == NOWHERE
            or entry.span[0] == entry.span[1]
        ):
            return None
        return Edit(entry.span[0], entry.span[1], text)

    def renamed(self, what: Slot | Entry, key: str) -> Edit | None:
        """Return the edit that gives a setting another key, spelt as the file spells keys; None where its place is not known."""
        span = self.key_span(what)
        if span == NOWHERE:
            return None
        old = self.text[slice(*span)]
        if "-" in old and "_" not in old:
            key = key.replace("_", "-")
        return Edit(*span, key.upper() if old.isupper() else key)

    # -- files beside it

    @property
    def is_alone(self) -> bool:
        """Whether nothing but this file was read so far: neither bases nor files beside it."""
        return not self._looked_around and not self.notes and all(entry.file is None for entry in self.entries)

    def beside(self, name: str) -> ConfigFile | None:
        """Return the config that this one names by a path, relative to its folder or to one above it; None when not at hand.

        Only below the root, or the repository, of this file.
        """
        self._looked_around = True
        if name not in self._beside:
            self._beside[name] = self._read_beside(name)
        return self._beside[name]

    def neighbours_that_name_it(self) -> Iterator[ConfigFile]:
        """Yield the configs and launch scripts in the folder of this one whose text holds its name; at most 40 are looked at."""
        self._looked_around = True
        for name, text in self._neighbours():
            if name != self.name and self.name in text:
                try:
                    path = self.path.with_name(name) if self.path is not None else None
                    yield ConfigFile(name if path is None else self._shown(path), text, path=path, root=self.root)
                except ParseError:
                    continue

    def _neighbours(self) -> Iterator[tuple[str, str]]:
        """Yield name and text of the configs and launch scripts in the folder of this one."""
        if self.path is None:
            yield from self.others.items()
            return
        n = 0
        try:
            for path in sorted(self.path.parent.iterdir()):
                if path.suffix.lower() in (".yaml", ".yml", ".json", ".sh") and path.stat().st_size < 100_000 and n < 40:
                    n += 1
                    yield path.name, read_text(path)
        except (OSError, ParseError):
            return

    def programs(self) -> Iterator[str]:
        """Yield the texts of the Python files of the project that this config belongs to, the nearest first; at most 200."""
        self._looked_around = True
        if self.path is None:
            yield from (text for name, text in self.others.items() if name.endswith(".py"))
            return
        n, seen = 0, set[Path]()
        for folder in self._folders():
            for path in _python_files(folder):
                if path not in seen and n < MAX_PROGRAMS:
                    n += 1
                    seen.add(path)
                    with suppress(OSError):
                        yield path.read_text(encoding="utf-8", errors="replace")

    def _read_beside(self, name: str) -> ConfigFile | None:
        if not name or len(name) > 400 or "$" in name or name.startswith(("/", "~")):
            return None
        wanted = name.removeprefix("./")
        try:
            if self.path is None:
                text = self.others.get(wanted)
                return None if text is None else ConfigFile(wanted, text)
            for folder in self._folders():
                path = (folder / wanted).resolve()
                if path.is_file() and path.is_relative_to(self._folders()[-1]):
                    return ConfigFile(self._shown(path), read_text(path), path=path, root=self.root)
        except (ParseError, OSError, ValueError):
            return None
        return None

    def _shown(self, path: Path) -> str:
        """Return a path as it is shown to the user: from the root, where it lies below it."""
        real, root = path.resolve(), self.root.resolve() if self.root is not None else None
        return real.relative_to(root).as_posix() if root is not None and real.is_relative_to(root) else str(path)

    def _folders(self) -> list[Path]:
        """Return the folder of the file and those above it, up to the root or the repository, whichever is higher."""
        if self.path is None:
            return []
        here, root = self.path.resolve().parent, self.root.resolve() if self.root is not None else None
        above = [here, *here.parents][:12]
        tops = [n for n, folder in enumerate(above) if folder == root or (folder / ".git").exists()]
        return above[: tops[-1] + 1] if tops else above[:1]


#: How many Python files of a project are looked at, and how many folders.
MAX_PROGRAMS = 200
MAX_FOLDERS = 100


def _python_files(folder: Path) -> Iterator[Path]:
    """Yield the Python files in a folder and below it, without those of hidden folders and of environments."""
    for n, (here, folders, files) in enumerate(os.walk(folder)):
        if n >= MAX_FOLDERS:
            return
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__")) and name not in ("venv", "node_modules"))
        for name in sorted(files):
            if name.endswith(".py"):
                path = Path(here, name)
                with suppress(OSError):
                    if path.stat().st_size < 500_000:
                        yield path


def _entry(what: Slot | Entry) -> Entry:
    return what if isinstance(what, Entry) else what.entry


# -- which files are configs ------------------------------------------------------------------------------------------

#: Names that hold something else, whatever their keys say.
_OTHER_FILES = lazy(
    r"(?i)package(?:-lock)?\.json|tsconfig.*\.json|trainer_state\.json|.*tokenizer.*\.json|generation_config\.json|vocab\.json"
    r"|special_tokens_map\.json|preprocessor_config\.json|adapter_config\.json|environment\.ya?ml|docker-compose.*|mkdocs\.ya?ml"
    r"|\.pre-commit-config\.yaml|dvc\.(?:yaml|lock)|poetry\.lock|ruff\.toml|expected\.json|metrics\.json|.*results?\.json"
)
_CONFIG_NAMES = lazy(r"(?i)(?:.*[_.-])?(?:conf|configs?|cfg|settings|hparams|hyper_?parameters|options|params|opts?)(?:[_.-].*)?")
#: Dialects that are told by keys that other files have too: such a file must set an optimizer or a rate as well.
_LOOSE = frozenset(
    {
        "Hydra",
        "W&B sweep",
        "Lightning hparams",
        "Keras",
        "torchtune",
        "Hugging Face accelerate",
        "Stable-Baselines3",
        "",
    }
)
#: Settings of which one makes a file the config of a training run.
_TELLING = ("optimizer.lr", "optimizer.name")


def is_training_config(config: ConfigFile) -> bool:
    """Whether a file is the config of a training run.

    Its dialect is one, or it sets a learning rate or an optimizer in a plausible place. A Python file is one where it holds
    nothing but settings, in a dialect that is known or under the name of a config.
    """
    if _OTHER_FILES.fullmatch(config.name):
        return False
    if config.suffix == ".py":
        told = bool(config.dialect) or "ml_collections" in config.text
        told = told or _CONFIG_NAMES.fullmatch(Path(config.name).stem) is not None
        if not told or is_program(config.text):
            return False
    if config.suffix in COMMANDS and not config.dialect and not _is_launch(config):
        return False
    if config.dialect not in _LOOSE:
        return True
    return any(_tells(config, setting) for setting in _TELLING)


def _tells(config: ConfigFile, setting: str) -> bool:
    """Whether a setting is there with a value of its kind: a rate that is a number, an optimizer that is known by its name."""
    slot = config.reading.slots.get(setting)
    if slot is None:
        return False
    if setting == "optimizer.lr":
        return isinstance(slot.value, float) or (slot.value is None and config.is_open(setting))
    from traindoctor.optim.defaults import TORCH

    return isinstance(slot.value, str) and (normal_name(slot.value) in TORCH or slot.context == "optimizer")


#: Options of a command that starts a training.
_OF_LAUNCH = frozenset({"lr", "learning_rate", "optim", "optimizer", "deepspeed", "deepspeed_config"})


def _is_launch(config: ConfigFile) -> bool:
    return any(normal(entry.key) in _OF_LAUNCH for entry in config.entries)
