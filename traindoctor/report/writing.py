"""Writing a file, or a folder of pages, that the user named."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What every page of ours has in its head.
GENERATOR = b'<meta name="generator" content="traindoctor">'


def write_whole(path: Path, content: str | bytes, option: str = "--html") -> None:
    """Write a file whole or not at all: into a temporary one beside it, then renamed over it.

    Raises: UnreadableInputError when the place cannot be written; `option` is what names another.
    """
    from traindoctor.errors import UnreadableInputError

    data = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    made: str | None = None
    try:
        if path.exists() and not path.is_file():  # a device or a pipe is written to, not replaced
            path.write_bytes(data)
            return
        handle, made = tempfile.mkstemp(prefix=f".{path.name[:60]}.", suffix=".tmp", dir=path.parent)
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        umask = os.umask(0)
        os.umask(umask)
        Path(made).chmod(0o666 & ~umask)
        Path(made).replace(path)
    except OSError as error:
        raise UnreadableInputError(
            str(path), f"cannot be written: {error.strerror or error}", f"another place for {option}"
        ) from error
    finally:
        if made is not None:
            Path(made).unlink(missing_ok=True)


def write_folder(folder: Path, files: Iterable[tuple[str, str]], option: str = "--html") -> None:
    """Write a folder of pages, (name, text) each, whole or not at all: under another name, then renamed.

    A folder of that name is replaced where it holds nothing but pages of ours.

    Raises: UnreadableInputError when the place cannot be written, or the folder there holds anything else.
    """
    from traindoctor.errors import UnreadableInputError

    made: Path | None = None
    try:
        if folder.exists() and not _is_ours(folder):
            raise UnreadableInputError(str(folder), "is there, and holds what is no report", f"another place for {option}")
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name[:60]}.", suffix=".tmp", dir=folder.parent))
        fresh, old = made / "new", made / "old"
        fresh.mkdir()
        for name, text in files:
            (fresh / name).write_bytes(text.encode("utf-8", "backslashreplace"))
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    except OSError as error:
        raise UnreadableInputError(
            str(folder), f"cannot be written: {error.strerror or error}", f"another place for {option}"
        ) from error
    finally:
        if made is not None:
            if (made / "old").exists() and not folder.exists():
                (made / "old").rename(folder)
            shutil.rmtree(made, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Return whether a folder holds nothing but pages that were written here."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    for file in folder.iterdir():
        if file.suffix != ".html" or file.is_symlink() or not file.is_file():
            return False
        with file.open("rb") as stream:
            if GENERATOR not in stream.read(4096):
                return False
    return True
