"""The files of a checkpoint: PyTorch's archives and safetensors, mapped into memory and never loaded whole."""

from __future__ import annotations

import json
import math
import zipfile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from traindoctor.checkpoints.pickled import Inert, Place, read_pickle
from traindoctor.checkpoints.tensors import WIDTHS, Tensor, tensor_of
from traindoctor.errors import UnreadableInputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

#: Records of an archive, and depth and number of values of its structure, that are followed.
MOST_RECORDS, DEEPEST, MOST_VALUES = 400_000, 40, 4_000_000
#: Bytes of a header of safetensors. Source: the format's own limit.
MOST_HEADER = 100_000_000
#: Names of safetensors for the formats of elements.
NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32",
    "U16": "uint16", "U8": "uint8", "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."


def open_file(path: Path, shown: str) -> tuple[Any, str]:
    """Return what a file holds, dicts, lists, numbers, words and Tensors, and the name of its format.

    `shown`: what the file is called in messages.

    Raises: UnreadableInputError for a file that is missing, of no format that is known, damaged, or not safe to read.
    """
    try:
        size = path.stat().st_size
        if not size:
            raise UnreadableInputError(shown, "is empty")
        with path.open("rb") as stream:
            head = stream.read(16)
        mapped: NDArray[np.uint8] = np.memmap(path, np.uint8, "r")
    except OSError as error:
        raise UnreadableInputError(shown, f"cannot be read: {error.strerror or error}") from error
    if head.startswith(b"PK\x03\x04"):
        return _archive(path, shown, mapped), "PyTorch"
    if head.startswith(LEGACY) or head[:1] == b"\x80":
        raise UnreadableInputError(
            shown,
            "is a bare pickle, or the format of PyTorch before 1.6: it is not read, since unpickling it could run code",
            "save it again as an archive: torch.save(torch.load(file, weights_only=True), file)",
        )
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= min(size, MOST_HEADER):
        return _safetensors(shown, mapped), "safetensors"
    raise UnreadableInputError(
        shown,
        "is no checkpoint that is known: neither an archive of PyTorch nor safetensors",
        "or it was cut off while it was written",
    )


# -- archives of PyTorch ----------------------------------------------------------------------------------------------


def _archive(path: Path, shown: str, mapped: NDArray[np.uint8]) -> Any:
    """Return what an archive of PyTorch holds."""
    try:
        with zipfile.ZipFile(path) as archive:
            records = {info.filename: info for info in archive.infolist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, UnicodeDecodeError, EOFError, OverflowError) as error:
        raise UnreadableInputError(
            shown,
            f"is cut off or damaged: the directory at the end of the archive cannot be read ({error})",
            "the file before it may be whole",
        ) from error
    structure = next((name for name in records if name == "data.pkl" or name.endswith("/data.pkl")), None)
    if structure is None:
        what = "is an archive without the structure of a checkpoint, data.pkl"
        if any(name.endswith(("constants.pkl", "code/__torch__.py")) for name in records):
            what = "is a model of TorchScript"
        raise UnreadableInputError(shown, what, "save state dicts with torch.save")
    if len(records) > MOST_RECORDS:
        raise UnreadableInputError(shown, f"has {len(records):,} records, which no checkpoint needs")
    root = structure.removesuffix("data.pkl")
    order = records.get(f"{root}byteorder")
    if order is not None and bytes(_record(shown, mapped, order)) == b"big":
        raise UnreadableInputError(shown, "was written on a machine of the other byte order", "save it again on this one")
    held = read_pickle(bytes(_record(shown, mapped, records[structure])), shown)

    def tensor(place: Place) -> Tensor:
        record = records.get(f"{root}data/{place.storage.key}")
        if record is None:
            raise UnreadableInputError(shown, f"is damaged: the record {place.storage.key[:40]!r} of a tensor is missing")
        dtype = place.dtype or "uint8"
        data = _record(shown, mapped, record)
        try:
            return tensor_of(data[place.offset * WIDTHS[dtype] :], dtype, place.shape, place.stride)
        except ValueError as error:
            raise UnreadableInputError(shown, f"is damaged: {error}") from error

    return _resolved(held, tensor, shown)


def _record(shown: str, mapped: NDArray[np.uint8], info: zipfile.ZipInfo) -> NDArray[np.uint8]:
    """Return the bytes of a record, which PyTorch never compresses."""
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
        raise UnreadableInputError(shown, "has a compressed or locked record: PyTorch writes none, and it is not unpacked")
    head = bytes(mapped[info.header_offset : info.header_offset + 30])
    if len(head) < 30 or not head.startswith(b"PK\x03\x04"):
        raise UnreadableInputError(shown, "is damaged: a record is not where the directory says")
    start = info.header_offset + 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
    if start + info.file_size > mapped.size:
        raise UnreadableInputError(shown, "is cut off: a record ends behind the end of the file")
    return mapped[start : start + info.file_size]


def _resolved(held: Any, tensor: Any, shown: str) -> Any:
    """Return a structure with its tensors in place of their places; what repeats, or is too deep, ends the reading."""
    left = MOST_VALUES
    done: dict[int, Any] = {}

    def walk(value: Any, depth: int) -> Any:
        nonlocal left
        left -= 1
        if depth > DEEPEST or left < 0:
            raise UnreadableInputError(shown, "has a structure that is nested or repeated beyond what a checkpoint needs")
        if isinstance(value, Place):
            return tensor(value)
        if isinstance(value, Inert) or not isinstance(value, dict | list | tuple):
            return value
        if id(value) not in done:  # what stands in several places is walked once
            if isinstance(value, dict):
                made: Any = {key: walk(item, depth + 1) for key, item in value.items()}
            else:
                made = [walk(item, depth + 1) for item in value]
            done[id(value)] = made
        return done[id(value)]

    return walk(held, 0)


# -- safetensors ------------------------------------------------------------------------------------------------------


def _safetensors(shown: str, mapped: NDArray[np.uint8]) -> dict[str, Tensor]:
    """Return the tensors of a file of safetensors, in the order of their data."""
    length = int.from_bytes(bytes(mapped[:8]), "little")
    data = mapped[8 + length :]
    try:
        header = json.loads(bytes(mapped[8 : 8 + length]))
        entries = [_entry(name, entry) for name, entry in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise UnreadableInputError(shown, f"is damaged: the header of safetensors cannot be read ({error!r:.200})") from error
    tensors = {}
    for one in sorted(entries, key=lambda one: one.start):
        if not 0 <= one.start <= one.stop or min(one.shape, default=0) < 0 or one.stop - one.start != one.size:
            raise UnreadableInputError(shown, f"is damaged: {one.name[:60]!r} of shape {one.shape[:8]} does not fill its bytes")
        if one.stop > data.size:
            raise UnreadableInputError(shown, f"is cut off: {one.name[:60]!r} ends behind the end of the file")
        tensors[one.name] = tensor_of(data[one.start : one.stop], one.dtype, one.shape)
    return tensors


class _Entry(NamedTuple):
    """A tensor as the header of safetensors says it, its place in bytes behind the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of bytes that its shape asks for."""
        return math.prod(self.shape) * WIDTHS[self.dtype]


def _entry(name: str, told: Any) -> _Entry:
    start, stop = told["data_offsets"]
    return _Entry(name, NAMES[told["dtype"]], tuple(int(n) for n in told["shape"]), int(start), int(stop))
