"""One config file as `check` sees it: its settings in the one vocabulary, their places, and what stands where nothing was set."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from traindoctor.configs.dialects import read_settings
from traindoctor.configs.documents import NOWHERE, Entry, parse, read_document
from traindoctor.configs.inherit import read_config
from traindoctor.configs.optimizer import normal_name, optimizer_spec
from traindoctor.configs.vocabulary import number
from traindoctor.mistake import Edit, Location
from traindoctor.model import Setting

if TYPE_CHECKING:
    from traindoctor.configs.dialects import Reading
    from traindoctor.configs.documents import Document, Note
    from traindoctor.configs.vocabulary import Slot
    from traindoctor.model import OptimizerSpec


class ConfigFile:
    """A config, its bases read with it where they are at hand.

    `file`: as shown to the user. `text`: without a byte-order mark. `path`: where it lies, None for text that was given (its
    bases are then not looked for). `root`: the folder that paths are shown relative to.

    Raises: ParseError when it does not parse.
    """

    def __init__(self, file: str, text: str, *, path: Path | None = None, root: Path | None = None) -> None:
        self.file = file
        self.text = text
        self.suffix = Path(file).suffix.lower()
        self.root = root
        self.document: Document = (
            read_document(text, self.suffix) if path is None else read_config(path, root if root is not None else path.parent)
        )
        self.reading: Reading = read_settings(self.entries, Path(file).name)

    @property
    def entries(self) -> list[Entry]:
        """All keys with a value, in file order, inherited ones too."""
        return self.document.entries

    @property
    def notes(self) -> list[Note]:
        """What is doubtful in the file: a key that stands twice, a base that is not at hand."""
        return self.document.notes

    @property
    def dialect(self) -> str:
        """Name of the framework whose config it is, "" where no framework's keys are seen."""
        return self.reading.dialect.name

    @cached_property
    def own_entries(self) -> list[Entry]:
        """The entries as the file itself writes them, before interpolation and inheritance."""
        return parse(self.text, self.suffix)

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
        settings = {s: Setting(slot.value, self.file) for s, slot in self.reading.slots.items() if slot.value is not None}
        if self.dialect:
            settings["dialect"] = Setting(self.dialect, self.file)
        if self.reading.open:
            settings["dialect.open"] = Setting(self.reading.open, self.file)
        return optimizer_spec(settings, ())

    # -- places and edits

    def place(self, what: Slot | Entry) -> Location:
        """Return where a setting stands: its value where that is known, else its key."""
        entry = what if isinstance(what, Entry) else what.entry
        if entry.file is not None:
            shown = entry.file.resolve()
            root = self.root.resolve() if self.root is not None else None
            name = shown.relative_to(root).as_posix() if root is not None and shown.is_relative_to(root) else str(entry.file)
            return Location(name, entry.line, entry.column)
        if entry.span == NOWHERE:
            return Location(self.file, entry.line, entry.column)
        return self.place_of(*entry.span)

    def place_of(self, start: int, stop: int) -> Location:
        """Return the place of some characters of the text."""
        before, inside = self.text[:start], self.text[start:stop]
        line = before.count("\n") + 1
        end_line = line + inside.count("\n")
        column = start - (before.rfind("\n") + 1) + 1
        end_column = stop - (self.text.rfind("\n", 0, stop) + 1) + 1
        return Location(self.file, line, column, end_line, end_column)

    def written(self, what: Slot | Entry) -> str:
        """Return the value as the file writes it; "" where its characters are not known."""
        entry = what if isinstance(what, Entry) else what.entry
        return "" if entry.span == NOWHERE or entry.file is not None else self.text[slice(*entry.span)]

    def replaced(self, what: Slot | Entry, text: str) -> Edit | None:
        """Return the edit that puts text in the place of a value; None where it stands elsewhere, or serves other keys too."""
        entry = what if isinstance(what, Entry) else what.entry
        if (
            entry.file is not None
            or entry.shared
            or entry.interpolated
            or entry.span == NOWHERE
            or entry.span[0] == entry.span[1]
        ):
            return None
        return Edit(entry.span[0], entry.span[1], text)
