"""The scripts of one tree, so that a helper that a script imports from a file beside it can be followed."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping

    from traindoctor.code.script import Script


class Project:
    """The Python files of a tree by their path relative to it; each is read and parsed when it is first asked for.

    `read`: path with "/" -> text, None for a file that is not there, or cannot be read.
    """

    def __init__(self, read: Callable[[str], str | None]) -> None:
        self.read = read
        self._scripts: dict[str, Script | None] = {}
        self._texts: dict[str, str | None] = {}

    @classmethod
    def of_texts(cls, texts: Mapping[str, str]) -> Project:
        """Return a project of files given as texts by their path."""
        return cls(texts.get)

    def module(self, name: str, importer: str, about: re.Pattern[str] | None = None) -> Script | None:
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

    def script(self, path: str, about: re.Pattern[str] | None = None) -> Script | None:
        """Return the script at a path; None where there is none, or none that parses.

        `about`: what has to be found in its text for it to be worth parsing.
        """
        if path not in self._scripts:
            if path not in self._texts:
                self._texts[path] = self.read(path)
            text = self._texts[path]
            if text is not None and about is not None and about.search(text) is None:
                return None
            from traindoctor.code.script import Script

            self._scripts[path] = None
            if text is not None:
                with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
                    self._scripts[path] = Script(path, text, project=self)
        return self._scripts[path]

    def keep(self, script: Script) -> None:
        """Take a script that was parsed already as the one at its path."""
        self._scripts[script.file] = script
