"""The scripts of one tree, so that a helper that a script imports from a file beside it can be followed."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from traindoctor.code.script import Script


@cache
def speaks_of(name: str) -> Callable[[str], bool]:
    """Return what tells of a file whether it may give a name; the same function for the same name."""
    return lambda text: name in text or "import *" in text


class Project:
    """The Python files of a tree by their path relative to it; each is read and parsed when it is first asked for.

    `read`: path with "/" -> text, None for a file that is not there, or cannot be read.
    """

    def __init__(self, read: Callable[[str], str | None]) -> None:
        self.read = read
        self._scripts: dict[str, Script | None] = {}
        self._texts: dict[str, str | None] = {}
        self._judged: dict[tuple[str, Callable[[str], bool]], bool] = {}

    @classmethod
    def of_texts(cls, texts: Mapping[str, str]) -> Project:
        """Return a project of files given as texts by their path."""
        return cls(texts.get)

    def module(self, name: str, importer: str, about: Callable[[str], bool] | None = None) -> Script | None:
        """Return the script that `importer` (a path) imports under a dotted name ("utils.train", ".engine"); None for any other.

        An absolute name is looked for beside the importer and in the folders above it. `about`: see `script`.
        """
        parts = name.lstrip(".").split(".") if name.strip(".") else []
        folder = importer.split("/")[:-1]
        dots = len(name) - len(name.lstrip("."))
        if dots:
            starts = [folder[: len(folder) - dots + 1]] if dots - 1 <= len(folder) else []
        else:
            starts = [folder[:n] for n in range(len(folder), -1, -1)]
        for start in starts:
            path = "/".join([*start, *parts])
            for candidate in (f"{path}.py", f"{path}/__init__.py" if path else "__init__.py"):
                script = self.script(candidate, about)
                if script is not None or self._texts.get(candidate) is not None:
                    return script
        return None

    def script(self, path: str, about: Callable[[str], bool] | None = None) -> Script | None:
        """Return the script at a path; None where there is none, or none that parses.

        `about`: tells of its text whether it is worth parsing.
        """
        if path not in self._scripts:
            if path not in self._texts:
                self._texts[path] = self.read(path)
            text = self._texts[path]
            if text is not None and about is not None and not self._is_about(path, text, about):
                return None
            from traindoctor.code.script import Script

            self._scripts[path] = None
            if text is not None:
                with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                    self._scripts[path] = Script(path, text, project=self)
        return self._scripts[path]

    def _is_about(self, path: str, text: str, about: Callable[[str], bool]) -> bool:
        key = (path, about)
        if key not in self._judged:
            self._judged[key] = about(text)
        return self._judged[key]

    def parsed(self, path: str, text: str) -> Script | None:
        """Return the script at a path where one of this text was followed already; None where none was."""
        script = self._scripts.get(path)
        return script if script is not None and script.text == text else None

    def keep(self, script: Script) -> None:
        """Take a script that was parsed already as the one at its path."""
        self._scripts[script.file] = script
