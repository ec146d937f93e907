"""Files changed on the disk, all or none, each with its original kept beside it; and the way back.

The original of `config.yaml` is kept as `config.yaml.orig`, as patch(1) does, or `config.yaml.orig.1`, ... where that is
there: an earlier one is never written over. The way back gives the newest of them its name again, and keeps what stood there
as `config.yaml.undone`.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from traindoctor.errors import TraindoctorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.fixing import Change


def apply(changes: Sequence[Change]) -> list[Path]:
    """Write the files as they become, and return where their originals are, in the same order.

    All are written or none. Permissions stay; a link stays a link, and the file it leads to is changed.

    Raises: TraindoctorError when one cannot be written, or no longer holds what it held.
    """
    ready: list[tuple[Change, Path]] = []
    kept: list[Path] = []
    done: list[Change] = []
    with ExitStack() as tidy:
        try:
            for change in changes:
                made = _beside(change.path, change.after, change.file)
                ready.append((change, made))
                tidy.callback(made.unlink, missing_ok=True)
            for change, _ in ready:
                kept.append(_kept(change.path, change.before, "orig", change.file))
            for change, made in ready:
                if change.path.read_bytes() != change.before:
                    raise TraindoctorError(change.file, "was changed meanwhile, and is left as it is", "run the command again")
                made.replace(change.path)
                done.append(change)
        except BaseException as error:
            for change in done:
                _beside(change.path, change.before, change.file).replace(change.path)
            for original in kept:
                original.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _unwritable(str(error.filename or changes[0].file), error) from error
            raise
    return kept


def undo(path: Path) -> tuple[Path, Path]:
    """Give a file its newest kept original back; return that original's path, and where the text of now is kept.

    Raises: TraindoctorError when no original is kept beside it, or it cannot be written.
    """
    real = path.resolve()
    if not real.is_file():
        raise TraindoctorError(str(path), "is no file", "name the file that a fix changed")
    originals = [(number, found) for found in real.parent.iterdir() if (number := _number(found.name, real.name)) is not None]
    if not originals:
        raise TraindoctorError(str(path), f"no {real.name}.orig is kept beside it: no fix is there to undo")
    original = max(originals)[1]
    if not original.is_file() or original.is_symlink():
        raise TraindoctorError(str(original), "is no plain file, and not what a fix keeps")
    undone = _kept(real, real.read_bytes(), "undone", str(path))
    try:
        original.replace(real)
    except OSError as error:
        undone.unlink(missing_ok=True)
        raise _unwritable(str(path), error) from error
    return original, undone


def changed_since(path: Path, logs: Sequence[Path]) -> bool:
    """Return whether a fix changed a file after its run was logged: its newest kept original is what the run had."""
    real = path.resolve()
    try:
        originals = [(number, one) for one in real.parent.iterdir() if (number := _number(one.name, real.name)) is not None]
        ended = max(log.stat().st_mtime_ns for log in logs)
        return bool(originals) and max(originals)[1].stat().st_mtime_ns <= ended < real.stat().st_mtime_ns
    except (OSError, ValueError):
        return False


def _number(name: str, of: str) -> int | None:
    """Return which kept original of a file a name is: 0 for `of.orig`, 1 for `of.orig.1`; None for none."""
    found = re.fullmatch(r"\.orig(?:\.([1-9]\d{0,5}))?", name.removeprefix(of)) if name.startswith(of) else None
    return None if found is None else int(found[1] or 0)


def _beside(path: Path, data: bytes, file: str) -> Path:
    """Write a new file of hidden name beside another, with that one's permissions, and return its path."""
    if not os.access(path, os.W_OK):  # which a file that takes its name would not ask
        raise TraindoctorError(file, "cannot be written: it is read-only", f"chmod u+w {file}")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:60]}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise _unwritable(file, error) from error
    made = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        made.chmod(path.stat().st_mode & 0o7777)
    except BaseException as error:
        made.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _unwritable(file, error) from error
        raise
    return made


def _kept(path: Path, data: bytes, kind: str, file: str) -> Path:
    """Write what a file holds under the first free name of a kind, and return its path."""
    number = 0
    while True:
        place = path.with_name(f"{path.name}.{kind}" + (f".{number}" if number else ""))
        try:
            with place.open("xb") as stream:
                stream.write(data)
        except FileExistsError:
            number += 1
            continue
        except BaseException as error:
            with suppress(OSError):
                place.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise _unwritable(file, error) from error
            raise
        with suppress(OSError):
            shutil.copystat(path, place)
        return place


def _unwritable(file: str, error: OSError) -> TraindoctorError:
    return TraindoctorError(file, f"cannot be written: {error.strerror or error}", "change it by hand, as the patch says")
