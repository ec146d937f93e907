"""What was found in a file the last time, kept by the content of everything that decides it.

One small file for each content, under a name that is the hash of the file, the settings, the rules' own files and this
package's. The files of the project that were looked at are listed inside, with their hashes; another content of one of them
makes the entry worthless. What cannot be read, is damaged or cannot be written is as if it were not there.

Values are marshalled, which no module has to be imported for; the hash before them keeps damage away from it.
"""

from __future__ import annotations

import marshal
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traindoctor import __version__

try:
    from _blake2 import blake2b  # hashlib loads OpenSSL first, which takes a quarter of what bare Python starts in
except ImportError:
    from hashlib import blake2b

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

#: Of the form of an entry.
VERSION = "1"
_HASH_BYTES = 16
#: Entries that are kept; a tenth of them go, the oldest first, when there are more.
MAX_ENTRIES = 20_000
#: The folder is counted when an entry is written whose name begins so: once in 256 times.
_COUNTED_AT = "00"


def default_folder() -> Path | None:
    """Return the folder of the cache: TRAINDOCTOR_CACHE_DIR, else below XDG_CACHE_HOME, else below the home folder.

    None for a user who has no home, as in many a container.
    """
    named = os.environ.get("TRAINDOCTOR_CACHE_DIR")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "traindoctor"
    except RuntimeError:
        return None


def digest(*parts: bytes | str) -> str:
    """Return the hash of some parts; no two lists of parts run together."""
    made = blake2b(digest_size=_HASH_BYTES)
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        made.update(len(data).to_bytes(8, "big"))
        made.update(data)
    return made.hexdigest()


def signature(places: Iterable[str]) -> str:
    """Return what changes with the program: its version, that of Python, and files, alone or in folders, by size and time."""
    parts = [VERSION, __version__, sys.version]
    for place in places:
        parts += [f"{path}:{size}:{time}" for path, size, time in sorted(_modules(place))]
    return digest(*parts)


def _modules(place: str) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []
    if place.endswith(".py"):
        with suppress(OSError):
            stat = os.stat(place)  # noqa: PTH116 -- pathlib's import
            found.append((place, stat.st_size, stat.st_mtime_ns))
        return found
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                stat = entry.stat()
                found.append((entry.path, stat.st_size, stat.st_mtime_ns))
            elif entry.is_dir() and not entry.name.startswith(("_", ".")):
                found += _modules(entry.path)
    return found


class Cache:
    """The entries in a folder, for one program as `signature` tells it."""

    def __init__(self, folder: Path, program: str) -> None:
        self.folder = folder / "check"
        self.program = program

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key[2:]

    def key(self, *parts: bytes | str) -> str:
        """Return the name of the entry that these parts decide."""
        return digest(self.program, *parts)

    def get(self, key: str, digest_of: Callable[[str], str]) -> Mapping[str, Any] | None:
        """Return an entry whose other files still have the content they had; None when there is none.

        `digest_of`: the hash of the content of one of those files, "" for one that is not there.
        """
        try:
            data = self._path(key).read_bytes()
            stamp, body = data[: 2 * _HASH_BYTES], data[2 * _HASH_BYTES :]
            if stamp != digest(body).encode():
                return None
            value, others = marshal.loads(body)
        except (OSError, ValueError, EOFError, TypeError):
            return None
        return value if all(digest_of(path) == then for path, then in others) else None

    def put(self, key: str, value: Mapping[str, Any], others: Iterable[tuple[str, str]]) -> None:
        """Keep an entry, whole or not at all."""
        path = self._path(key)
        try:
            body = marshal.dumps((dict(value), sorted(others)))
        except ValueError:  # a value of a setting that is of no plain type
            return
        made = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            made.write_bytes(digest(body).encode() + body)
            made.replace(path)
        except OSError:
            with suppress(OSError):
                made.unlink(missing_ok=True)
            return
        if key.startswith(_COUNTED_AT):
            self._prune()

    def _prune(self) -> None:
        """Delete the oldest entries where there are too many."""
        with suppress(OSError):
            entries = list(self.folder.glob("*/*"))
            if len(entries) > MAX_ENTRIES:
                entries.sort(key=lambda path: path.stat().st_mtime)
                for path in entries[: len(entries) - MAX_ENTRIES * 9 // 10]:
                    path.unlink(missing_ok=True)
