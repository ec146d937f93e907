"""What a check came to: the result for each file, and for all."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from traindoctor.check.findings import Found
    from traindoctor.check.repairs import Change
    from traindoctor.check.sources import Source
    from traindoctor.check.suppressions import Remark


class FileResult(NamedTuple):
    """A script or config that was checked: its findings, how many more a comment silences, what is to be said of comments.

    `source`: its text is empty where nothing was found. `blank`: cells of a notebook that do not parse.
    """

    source: Source
    dialect: str = ""
    findings: tuple[Found, ...] = ()
    n_silenced: int = 0
    remarks: tuple[Remark, ...] = ()
    blank: tuple[int, ...] = ()

    @property
    def file(self) -> str:
        """The file as it is shown."""
        return self.source.file


class NotChecked(NamedTuple):
    """A file, or a cell of one, that could not be checked, and why; `asked`: it was named, not found in a folder."""

    file: str
    reason: str
    line: int = 0
    way_out: str = ""
    asked: bool = False


class Result(NamedTuple):
    """What a check came to, files in the order of their names.

    `n_other`: files looked at that hold no training code. `problems`: rules and packs that failed. `n_known`: findings that
    the baseline knows. `changes`: the files that repairs change. `n_links`: links to folders that were not followed.
    """

    files: tuple[FileResult, ...] = ()
    not_checked: tuple[NotChecked, ...] = ()
    n_other: int = 0
    problems: tuple[str, ...] = ()
    n_known: int = 0
    changes: tuple[Change, ...] = ()
    n_links: int = 0
