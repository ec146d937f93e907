"""The nouns of `check`: a place, a mistake at it, and the edits that mend it.

Named tuples, not dataclasses, and nothing imported: a pre-commit hook pays for this at every start.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 -- a field of a named tuple
from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "info"]


class Location(NamedTuple):
    """A place in a file of the user's: line and column count from 1, columns in characters, as editors do.

    The place ends before `end_column` of `end_line`, 0 where only its beginning is known. `cell`: of a notebook, from 1;
    lines then count from the first of the cell.
    """

    file: str
    line: int
    column: int = 1
    end_line: int = 0
    end_column: int = 0
    cell: int = 0

    @property
    def text(self) -> str:
        """The place as people write it: "train.py:12", "notes.ipynb:cell 3:12"."""
        return f"{self.file}:cell {self.cell}:{self.line}" if self.cell else f"{self.file}:{self.line}"


class Edit(NamedTuple):
    """Characters `start` to `stop` of a text (without a byte-order mark) are replaced by `text`; equal for an insertion."""

    start: int
    stop: int
    text: str


class Repair(NamedTuple):
    """One right answer to a mistake: `title` as an imperative, and its edits, which do not overlap.

    `safe`: the change can only mend: what worked before works the same. Only such a one is made by `--fix`.
    """

    title: str
    edits: tuple[Edit, ...]
    safe: bool = False


class Mistake(NamedTuple):
    """What a rule found at a place of a script or a config.

    `message`: its first sentence stands alone, and holds the value; the second says what comes of it. `advice`: the way out
    as an imperative. `severity`: "error" only where it is provable on every path, "info" for what only looks so; "" stands
    for the severity of the cause. `related`: other places with what is there. `settings`: the change in the one vocabulary of
    settings, where it is one.
    """

    location: Location
    message: str
    advice: str = ""
    severity: Severity | Literal[""] = ""
    repair: Repair | None = None
    related: tuple[tuple[Location, str], ...] = ()
    settings: Mapping[str, object] = {}
