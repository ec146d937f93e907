"""One file of the user's as text: its encoding, its byte-order mark, its line ends kept, and why it cannot be used."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from traindoctor.check.notebooks import Notebook

Kind = Literal["script", "config", "notebook"]

#: What is larger is data. A script of 50,000 lines has 2 MB.
MAX_BYTES = 20_000_000
BOM = b"\xef\xbb\xbf"
_COOKIE = rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)"
#: A training script, and nearly nothing else, holds one of these.
# fmt: off
TRAINING = (
    b"torch", b"keras", b"lightning", b"tensorflow", b"accelerate", b"deepspeed", b"transformers", b"jax", b"flax", b"optax",
    b"paddle", b"mxnet", b"mindspore", b"fairseq", b"mmengine", b"mmcv", b"detectron2", b"timm", b"tinygrad",
)
# fmt: on
#: Begins a comment that speaks to traindoctor.
SUPPRESSION = "traindoctor:"


def trains(data: bytes) -> bool:
    """Return whether a file may hold training code, by its words."""
    return any(word in data for word in TRAINING)


class UnusableError(Exception):
    """A file that cannot be checked: `reason` in a few words, `line` where reading stopped (0: none), `way_out` to try."""

    def __init__(self, reason: str, line: int = 0, way_out: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.way_out = way_out


class Source(NamedTuple):
    """The text of a file without a byte-order mark, and how it is written back. `notebook`: where the text is its cells."""

    file: str
    kind: Kind
    text: str
    encoding: str = "utf-8"
    bom: bool = False
    notebook: Notebook | None = None

    def line(self, number: int, cell: int = 0) -> str:
        """Return a line without its end, of a notebook's cell where one is given; "" for one that is not there."""
        lines = lines_of(self.text)
        if cell and self.notebook is not None:
            number += next((c.first_line - 1 for c in self.notebook.cells if c.number == cell), 0)
        return lines[number - 1] if 0 < number <= len(lines) else ""

    def line_in_file(self, number: int, cell: int) -> int:
        """Return the line of the notebook's own file at which a line of a cell stands, 0 where that is not known."""
        return 0 if self.notebook is None else self.notebook.line_in_file(number, cell)

    def encoded(self, text: str) -> bytes:
        """Return the bytes of another text for the same file.

        Raises: UnicodeEncodeError where the file's encoding lacks a character.
        """
        return (BOM if self.bom else b"") + text.encode(self.encoding)


@lru_cache(maxsize=2)
def lines_of(text: str) -> list[str]:
    """Return the lines of a text as Python counts them: they end at a line feed, a carriage return or both."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def read_bytes(path: Path) -> bytes:
    """Return the content of a file.

    Raises: UnusableError for a file that is missing, cannot be read, is too large, or is no regular file.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise UnusableError(
                f"{size / 1e6:,.0f} MB are too many (limit {MAX_BYTES // 10**6} MB)", way_out="exclude it: --exclude PATTERN"
            )
        if path.is_dir():
            raise UnusableError("is a folder that cannot be listed", way_out="its permissions")
        if not path.is_file():
            raise UnusableError("is no regular file", way_out="a file, a folder, or - for stdin")
        return path.read_bytes()
    except FileNotFoundError:
        raise UnusableError("does not exist", way_out="look at the spelling; a deleted file needs no check") from None
    except OSError as error:
        raise UnusableError(f"cannot be read: {error.strerror or error}", way_out="its permissions, or --exclude") from None


def decoded(file: str, kind: Kind, data: bytes) -> Source:
    """Return the text of a file: of a script in the encoding that it declares (PEP 263), of any other in UTF-8.

    Raises: UnusableError for what is no text, or not in its encoding.
    """
    bom = data.startswith(BOM)
    body = data[len(BOM) :] if bom else data
    encoding = "utf-8"
    if kind == "script":
        for beginning in body.split(b"\n", 2)[:2]:
            cookie = re.match(_COOKIE, beginning) if b"coding" in beginning else None
            if cookie:
                encoding = cookie[1].decode("ascii", "replace")
                break
            if beginning.strip() and not beginning.lstrip().startswith(b"#"):
                break
    if b"\0" in body:
        raise UnusableError("is no text (it holds a zero byte)", way_out="exclude it: --exclude PATTERN")
    try:
        text = body.decode(encoding)
    except LookupError:
        raise UnusableError(f"declares an encoding that is not known: {encoding}", 1, "# -*- coding: utf-8 -*-") from None
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        way = "save it as UTF-8" + (", or declare its encoding in the first line" if kind == "script" else "")
        raise UnusableError(f"is not {encoding} text (byte {error.start:,})", line, way) from None
    if encoding != "utf-8" and text.encode(encoding) != body:
        raise UnusableError(f"is in {encoding}, which a change would not keep", 1, "save it as UTF-8")
    return Source(file, kind, text, encoding, bom)
