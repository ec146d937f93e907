"""Repairs made in a file, round after round, until none is left; and the file written whole, as it was but for them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from traindoctor.check.findings import SEVERITIES
from traindoctor.check.mend import changed, edits_of, together, whole
from traindoctor.check.sources import UnusableError
from traindoctor.errors import UnreadableInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from traindoctor.check.results import FileResult
    from traindoctor.check.sources import Source

#: A repair may uncover the next mistake; two that undo each other must end.
ROUNDS = 10


class Change(NamedTuple):
    """A file before and after its repairs, and how many were made."""

    before: Source
    after: Source
    n_repairs: int


def repaired(
    result: FileResult,
    look: Callable[[Source], FileResult | None],
    *,
    unsafe: bool,
    severities: Collection[str] = SEVERITIES,
) -> tuple[FileResult, Change | None]:
    """Return the result for a file after its repairs, and the change; no change where there is nothing to repair.

    `look`: checks a text of the file; a round after which it would no longer parse is not made. `severities`: of the findings
    that are repaired: one that is not shown changes nothing.
    """
    first = result.source
    n_repairs = 0
    for _ in range(ROUNDS):
        repairs = together((one for one in result.findings if one.mistake.severity in severities), unsafe=unsafe)
        text = changed(result.source, edits_of(repairs)) if repairs else None
        if text is None or text == whole(result.source):
            break
        try:
            after = look(result.source._replace(text=text, notebook=None))
        except UnusableError:
            break
        if after is None:
            break
        result, n_repairs = after, n_repairs + len(repairs)
    return result, Change(first, result.source, n_repairs) if n_repairs else None


def write(path: Path, change: Change) -> None:
    """Write a file with its repairs, whole or not at all: its encoding, byte-order mark, line ends and permissions stay.

    A link stays a link: the file that it leads to is written.

    Raises: UnreadableInputError when it cannot be written.
    """
    import tempfile

    target = path.resolve()
    made: str | None = None
    try:
        data = change.before.encoded(whole(change.after))
        mode = target.stat().st_mode
        if not os.access(target, os.W_OK):  # which a file beside it that takes its name would not ask
            raise PermissionError(None, "it is read-only")
        now = target.read_bytes()
        if now == data:  # written by another of its names
            return
        if now != change.before.encoded(whole(change.before)):
            raise InterruptedError(None, "it was changed meanwhile")
        handle, made = tempfile.mkstemp(prefix=f".{target.name[:60]}.", suffix=".tmp", dir=target.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        Path(made).chmod(mode & 0o7777)
        Path(made).replace(target)
    except UnicodeEncodeError as error:
        lacks = f"its encoding {change.before.encoding} lacks {error.object[error.start]!r}"
        raise UnreadableInputError(change.before.file, lacks, "save it as UTF-8") from error
    except OSError as error:
        raise UnreadableInputError(change.before.file, f"cannot be written: {error.strerror or error}", "--diff") from error
    finally:
        if made is not None:
            Path(made).unlink(missing_ok=True)
