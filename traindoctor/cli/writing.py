"""Writing a file that the user named."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


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
