"""Where logs lie: a folder here, or any URL that fsspec opens; compressed or not.

A place is a `Path`, or the `UPath` of a URL, which has the same methods, so that no reader knows the difference. The
network is touched for a URL alone.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self, cast

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage

if TYPE_CHECKING:
    import io
    from collections.abc import Callable

#: End of a name -> what it says of the bytes. What is inside decides where the name is silent.
COMPRESSED = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}
#: Extras that bring the file system of a protocol.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "http": "http", "https": "http"}
#: A compressed log that grows beyond this, and by more than this factor, is no log. Repeated text packs 20 to 100 times.
BOMB_BYTES, BOMB_RATIO = 256 * 2**20, 400
#: The largest file of a format that is held in memory whole.
LARGEST = 4 * 2**30
CHUNK = 2**20

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


def locate(text: Path | str) -> Path:
    """Return the place that a path or a URL names.

    Raises: UnreadableInputError for a protocol that nothing installed can open.
    """
    name = str(text)
    if not isinstance(text, str) or not _URL.match(name):
        return Path(text)
    protocol = name.partition("://")[0].lower()
    try:
        from upath import UPath

        place = UPath(name)
        place.fs  # noqa: B018 - the file system is made on first use, and may be missing
    except (ImportError, ValueError) as error:
        extra = EXTRAS.get(protocol)
        ways = [f"pip install 'traindoctor[{extra}]'"] if extra else ["give a path, or a URL that fsspec knows"]
        raise UnreadableInputError(name, f"nothing installed opens {protocol}://: {error}", *ways) from error
    return cast("Path", place)


def is_remote(place: Path) -> bool:
    """Whether the place is reached through fsspec."""
    return not isinstance(place, Path) or bool(getattr(place, "protocol", ""))


def plain_name(place: Path) -> str:
    """Return the name of a file without the end that says how it is compressed."""
    name = place.name
    return name[: -len(place.suffix)] if place.suffix.lower() in COMPRESSED else name


class LogStream:
    """The bytes of a log in the order of the file, unpacked on the way; reads like a file, forwards only.

    `loss`: what ended the reading before its time, "" when the file was read to its end.
    """

    def __init__(self, raw: IO[bytes], file: str) -> None:
        self.loss = ""
        self._raw, self._file, self._produced, self._limit = raw, file, 0, sys.maxsize
        self._head = raw.read(max(map(len, COMPRESSED.values())))
        kind = next((end for end, magic in COMPRESSED.items() if self._head.startswith(magic)), None)
        self._packed: IO[bytes] | None = None
        if kind is not None:
            raw.seek(0)
            self._packed = UNPACK[kind](raw, file)

    @property
    def is_packed(self) -> bool:
        """Whether the file is compressed."""
        return self._packed is not None

    @property
    def size(self) -> int:
        """Bytes of the file as it lies there, packed or not."""
        here = self._raw.tell()
        size = self._raw.seek(0, 2)
        self._raw.seek(here)
        return size

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, fewer only at the end; all that is left for -1.

        Raises: UnreadableInputError when reading fails, or the file unpacks to absurd size.
        """
        pieces, left = [], size if size >= 0 else sys.maxsize
        while left > 0 and not self.loss:
            piece = self._unpacked(min(left, CHUNK)) if self._packed is not None else self._plain(left if size >= 0 else -1)
            if not piece:
                break
            pieces.append(piece)
            left -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def allow(self, limit: int) -> None:
        """Let the file hold so many bytes, unpacked, and no more.

        Raises: UnreadableInputError when it holds more; reading raises it where only that can tell.
        """
        self._limit = limit
        if not self.is_packed and self.size > limit:
            raise self._too_large()

    def _too_large(self) -> UnreadableInputError:
        what = f"holds more than {self._limit / 2**30:g} GiB: too much for its format to be read whole"
        return UnreadableInputError(self._file, what)

    @property
    def damages(self) -> tuple[Damage, ...]:
        """What was lost in the unpacking of what has been read."""
        if not self.loss:
            return ()
        return (Damage("truncated", self._file, f"{self.loss}: {self._produced:,} bytes of its content could be read"),)

    def _plain(self, size: int) -> bytes:
        head, self._head = self._head, b""
        if head and 0 <= size <= len(head):
            self._head = head[size:]
            return head[:size]
        try:
            rest = self._raw.read(size - len(head) if size >= 0 else -1)
        except OSError as error:
            raise UnreadableInputError(self._file, f"cannot be read: {error.strerror or error}") from error
        return head + rest if head else rest

    def _unpacked(self, size: int) -> bytes:
        """Return the next bytes of a compressed file: those before damage come out before it is met."""
        stream = cast("io.BufferedReader", self._packed)
        try:
            piece = stream.read1(size)
        except EOFError:
            self.loss = "the compressed file ends before its end mark"
            return b""
        except _unpack_errors() as error:
            self.loss = f"the compressed file is damaged: {error}"
            return b""
        self._produced += len(piece)
        self._guard()
        return piece

    def _guard(self) -> None:
        if self._produced > self._limit:
            raise self._too_large()
        if self._produced > BOMB_BYTES and self._produced > BOMB_RATIO * max(self._raw.tell(), 1):
            times = self._produced // max(self._raw.tell(), 1)
            what = f"unpacks to {times:,} times its size: no log does, so it was not read on"
            raise UnreadableInputError(self._file, what, "unpack it yourself when it is what it should be")

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _gzip(raw: IO[bytes], _: str) -> IO[bytes]:
    import gzip

    return cast("IO[bytes]", gzip.GzipFile(fileobj=raw))


def _zstandard(raw: IO[bytes], file: str) -> IO[bytes]:
    try:
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
    except ImportError as error:
        raise UnreadableInputError(file, "is compressed with zstandard", "pip install 'traindoctor[zstd]'") from error
    return cast("IO[bytes]", zstd.ZstdFile(raw))


UNPACK: dict[str, Callable[[IO[bytes], str], IO[bytes]]] = {".gz": _gzip, ".zst": _zstandard}


def _unpack_errors() -> tuple[type[Exception], ...]:
    import zlib

    zstd = sys.modules.get("compression.zstd") or sys.modules.get("backports.zstd")
    return (OSError, zlib.error, zstd.ZstdError) if zstd is not None else (OSError, zlib.error)


def open_log(place: Path, file: str) -> LogStream:
    """Return a stream of the bytes of a file, unpacked where its first bytes say that it is compressed.

    `file`: how messages name it.

    Raises: UnreadableInputError when it cannot be opened.
    """
    try:
        return LogStream(cast("IO[bytes]", place.open("rb")), file)
    except OSError as error:
        raise UnreadableInputError(file, f"cannot be read: {error.strerror or error}") from error


def read_whole(place: Path, file: str, limit: int = LARGEST) -> tuple[bytes, tuple[Damage, ...]]:
    """Return the bytes of a file, unpacked, and what was lost in the unpacking.

    Raises: UnreadableInputError when it cannot be read, or holds more than `limit` bytes.
    """
    with open_log(place, file) as stream:
        stream.allow(limit)
        return stream.read(), stream.damages


def read_head(place: Path, file: str, size: int = 65_536) -> bytes:
    """Return the first bytes of a file, unpacked: enough to tell its format.

    Raises: UnreadableInputError when it cannot be read.
    """
    with open_log(place, file) as stream:
        return stream.read(size)
