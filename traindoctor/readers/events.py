"""TensorBoard event files -> scalars, hyperparameters, session starts, and what was lost.

The wire format of the protocol buffers is read by hand: importing the generated classes costs more than reading most
files. Records of one layout are decoded together with NumPy; every other record goes through the exact parser, which
also makes the layouts.

Source: tensorboard/compat/proto/event.proto, summary.proto, tensor.proto; plugins/hparams/plugin_data.proto;
protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage
from traindoctor.readers.tfrecord import FOOTER, HEADER, masked_crc, masked_crcs, read_frames

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from traindoctor.model import FloatArray, IntArray
    from traindoctor.readers.tfrecord import Frames

    Field: TypeAlias = tuple[int, int, int, int, int]  # number, wire type, value (varint), start, stop of the content

#: Records of one length that are worth a vectorised pass, rows of one pass, layouts tried a length.
FEW, BLOCK, LAYOUTS = 48, 16_384, 12
#: Longest payload that is read by layout, and longest varint of a step in one.
LONGEST, VARINT = 2000, 5
#: Lost records that are named one by one; the others are counted.
NAMED = 8
START = 1  # SessionLog.SessionStatus
SCALAR_PLUGINS = (b"", b"scalars")
HPARAMS = b"hparams"

VARINT_TYPE, I64, LEN, I32 = 0, 1, 2, 5
DOUBLE = struct.Struct("<d")
FLOAT = struct.Struct("<f")
#: types.proto: number -> dtype of tensor_content, and the field of TensorProto that holds the values otherwise.
TENSOR_TYPES: dict[int, tuple[str, int]] = {
    1: ("<f4", 5), 2: ("<f8", 6), 3: ("<i4", 7), 4: ("u1", 7), 5: ("<i2", 7), 6: ("i1", 7), 9: ("<i8", 10), 10: ("?", 11),
    14: ("bfloat16", 13), 17: ("<u2", 7), 19: ("<f2", 13), 22: ("<u4", 16), 23: ("<u8", 17),
}  # fmt: skip


class WireError(ValueError):
    """Bytes that are no protocol buffer."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the variable parts of a record are: of one scalar, in a record of `length` bytes.

    `step`: number of bytes of the varint at byte 10, 0 when the step is left out. `tag`, `value`: start, stop.
    `sample`: the record it was made from. Whatever else is in it must be the same, byte for byte.
    """

    sample: bytes
    step: int
    tag: tuple[int, int]
    value: tuple[int, int]
    dtype: str
    is_tensor: bool
    plugin: bytes


@dataclass(slots=True)
class Scalar:
    """One logged value. `plugin`: of the metadata at this value, None where there are none."""

    tag: bytes
    value: float
    is_tensor: bool
    plugin: bytes | None
    tag_at: tuple[int, int]
    value_at: tuple[int, int] | None
    dtype: str


@dataclass(slots=True)
class Event:
    """What one record holds."""

    wall_time: float = 0.0
    step: int = 0
    scalars: list[Scalar] = field(default_factory=list)
    other_tags: list[tuple[bytes, bytes]] = field(default_factory=list)  # tag and plugin of what is no scalar
    hparams: dict[str, object] = field(default_factory=dict)
    session: int = 0
    file_version: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class EventLog:
    """The scalars of an event file. `scalars`: tag -> step, value, wall time, each (n,), in file order.

    `starts`: steps of the session starts that the file names. `first_wall_time`: of the first record; NaN when there is none.
    """

    scalars: dict[str, tuple[IntArray, FloatArray, FloatArray]]
    hparams: dict[str, object]
    starts: tuple[int, ...]
    damages: tuple[Damage, ...]
    first_wall_time: float
    records: int


# -- the wire format --------------------------------------------------------------------------------------------------


def _varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= stop or shift > 63:
            raise WireError("a varint does not end")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
        shift += 7


def _fields(data: bytes, at: int, stop: int) -> Iterator[Field]:
    while at < stop:
        key, at = _varint(data, at, stop)
        number, wire = key >> 3, key & 7
        value, start = 0, at
        if wire == VARINT_TYPE:
            value, at = _varint(data, at, stop)
        elif wire == LEN:
            size, start = _varint(data, at, stop)
            at = start + size
        elif wire == I64:
            at += 8
        elif wire == I32:
            at += 4
        else:
            raise WireError(f"wire type {wire}")
        if at > stop or number == 0:
            raise WireError("a field is longer than what holds it")
        yield number, wire, value, start, at


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def parse_event(data: bytes) -> Event:
    """Return what a record holds.

    Raises: WireError when it is no protocol buffer.
    """
    event = Event()
    for number, wire, value, start, stop in _fields(data, 0, len(data)):
        if number == 1 and wire == I64:
            event.wall_time = DOUBLE.unpack_from(data, start)[0]
        elif number == 2 and wire == VARINT_TYPE:
            event.step = _signed(value)
        elif number == 3 and wire == LEN:
            event.file_version = data[start:stop]
        elif number == 5 and wire == LEN:
            for inner, kind, _, a, b in _fields(data, start, stop):
                if inner == 1 and kind == LEN:
                    _parse_value(data, a, b, event)
        elif number == 7 and wire == LEN:
            for inner, kind, status, _, _ in _fields(data, start, stop):
                if inner == 1 and kind == VARINT_TYPE:
                    event.session = status
    return event


def _parse_value(data: bytes, at: int, end: int, event: Event) -> None:
    """Add what a Summary.Value holds to the event."""
    tag, tag_at, plugin, content = b"", (0, 0), None, b""
    simple: tuple[int, int] | None = None
    tensor: tuple[int, int] | None = None
    for number, wire, _, start, stop in _fields(data, at, end):
        if number == 1 and wire == LEN:
            tag, tag_at = data[start:stop], (start, stop)
        elif number == 2 and wire == I32:
            simple, tensor = (start, stop), None  # one of a oneof: the last one counts
        elif number == 8 and wire == LEN:
            simple, tensor = None, (start, stop)
        elif number == 9 and wire == LEN:
            plugin, content = _parse_metadata(data, start, stop)
    if plugin == HPARAMS:
        event.hparams.update(_parse_hparams(content))
    if simple is not None:
        event.scalars.append(Scalar(tag, FLOAT.unpack_from(data, simple[0])[0], False, plugin, tag_at, simple, "<f4"))
        return
    found = _parse_tensor(data, *tensor) if tensor is not None else None
    if found is not None and (plugin is None or plugin in SCALAR_PLUGINS):
        event.scalars.append(Scalar(tag, found[0], True, plugin, tag_at, found[1], found[2]))
    elif plugin:
        event.other_tags.append((tag, plugin))


def _parse_metadata(data: bytes, at: int, end: int) -> tuple[bytes, bytes]:
    """Return name and content of SummaryMetadata.plugin_data."""
    name = content = b""
    for number, wire, _, start, stop in _fields(data, at, end):
        if number == 1 and wire == LEN:
            for inner, kind, _, a, b in _fields(data, start, stop):
                if inner == 1 and kind == LEN:
                    name = data[a:b]
                elif inner == 2 and kind == LEN:
                    content = data[a:b]
    return name, content


def _parse_tensor(data: bytes, at: int, end: int) -> tuple[float, tuple[int, int] | None, str] | None:
    """Return the number that a tensor of one element holds, with its place and dtype; None for every other tensor."""
    dtype, elements, content = 0, 1, None
    listed: list[tuple[int, int, int, int, int]] = []
    for number, wire, value, start, stop in _fields(data, at, end):
        if number == 1 and wire == VARINT_TYPE:
            dtype = value
        elif number == 2 and wire == LEN:
            elements = _elements(data, start, stop)
        elif number == 4 and wire == LEN:
            content = (start, stop)
        elif number >= 5:
            listed.append((number, wire, value, start, stop))
    if elements != 1 or dtype not in TENSOR_TYPES:
        return None
    name, wanted = TENSOR_TYPES[dtype]
    if content is not None and content[1] > content[0]:
        size = 2 if name == "bfloat16" else np.dtype(name).itemsize
        if content[1] - content[0] != size:
            return None
        return _number(data[content[0] : content[1]], name), (content if name in ("<f4", "<f8") else None), name
    for number, wire, value, start, stop in listed:
        if number != wanted:
            continue
        size = {"<f4": 4, "<f8": 8}.get(name, 0)
        if size:  # float_val, double_val: packed or not
            if stop - start != size or wire not in (LEN, I32, I64):
                return None
            return _number(data[start:stop], name), (start, stop), name
        if wire == LEN:
            value, after = _varint(data, start, stop)
            if after != stop:
                return None
        elif wire != VARINT_TYPE:
            return None
        if wanted == 13:  # half_val holds the bits
            return _number(struct.pack("<H", value & 0xFFFF), name), None, name
        return float(value if name in ("<u4", "<u8") else _signed(value)), None, name
    return 0.0, None, name  # proto3 leaves out a zero


def _elements(data: bytes, at: int, end: int) -> int:
    elements = 1
    for number, wire, _, start, stop in _fields(data, at, end):
        if number == 2 and wire == LEN:
            size = 0
            for inner, kind, value, _, _ in _fields(data, start, stop):
                if inner == 1 and kind == VARINT_TYPE:
                    size = _signed(value)
            elements *= size
        elif number == 3 and wire == VARINT_TYPE:
            return 0  # unknown rank
    return elements


def _number(raw: bytes, name: str) -> float:
    if name == "bfloat16":  # the upper half of a float32
        return float(FLOAT.unpack(b"\0\0" + raw)[0])
    return float(np.frombuffer(raw, dtype=name)[0])


def _parse_hparams(data: bytes) -> dict[str, object]:
    """Return the hyperparameters of HParamsPluginData.session_start_info: numbers, strings and truth values.

    Rare and small, so that TensorBoard's own classes decode it; they are imported for such a record alone.
    """
    from google.protobuf.message import DecodeError
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    try:
        started = HParamsPluginData.FromString(data).session_start_info.hparams
    except DecodeError as error:
        raise WireError(f"hyperparameters that do not parse: {error}") from error
    plain = ("number_value", "string_value", "bool_value")
    return {name: getattr(value, kind) for name, value in started.items() if name and (kind := value.WhichOneof("kind")) in plain}


def _layout(data: bytes, event: Event) -> Layout | None:
    """Return the layout of a record that holds one scalar in the usual order of fields; None for every other."""
    if len(event.scalars) != 1 or event.other_tags or event.hparams or event.session or event.file_version:
        return None
    scalar = event.scalars[0]
    if scalar.value_at is None or len(data) < 11 or data[0] != 0x09:
        return None
    size = 0
    if data[9] == 0x10:
        _, after = _varint(data, 10, len(data))
        size = after - 10
        if size > VARINT:
            return None
    # A field that stands twice, or in another order, is for the exact parser.
    if [number for number, *_ in _fields(data, 0, len(data))] != ([1, 2, 5] if size else [1, 5]):
        return None
    return Layout(data, size, scalar.tag_at, scalar.value_at, scalar.dtype, scalar.is_tensor, scalar.plugin or b"")


# -- a file -----------------------------------------------------------------------------------------------------------


class _Columns:
    """Scalars as they are decoded, by index of the record."""

    def __init__(self) -> None:
        self.ids: dict[bytes, int] = {}
        self.plugins: dict[bytes, bytes] = {}
        self.parts: list[tuple[NDArray[np.int64], NDArray[np.int64], IntArray, FloatArray, FloatArray, bool]] = []
        self.lost: list[tuple[int, str]] = []
        self.events: list[tuple[int, Event]] = []

    def tag_id(self, tag: bytes) -> int:
        return self.ids.setdefault(tag, len(self.ids))

    def read_one(self, index: int, payload: bytes, crc: int | None = None) -> Layout | None:
        """Decode a record exactly; return its layout where others may share it. `crc`: None once it was verified."""
        if crc is not None and masked_crc(payload) != crc:
            self.lost.append((index, "the checksum of a record does not fit"))
            return None
        try:
            event = parse_event(payload)
        except WireError as error:
            self.lost.append((index, f"a record is no event: {error}"))
            return None
        self.events.append((index, event))
        return _layout(payload, event)

    def read_many(self, index: NDArray[np.int64], rows: NDArray[np.uint8]) -> None:
        """Decode records of one length: `rows` (n, length + 4), with their checksums."""
        length = rows.shape[1] - FOOTER.size
        stored = np.ascontiguousarray(rows[:, length:]).view("<u4")[:, 0]
        good = masked_crcs(rows[:, :length]) == stored
        self.lost += [(int(i), "the checksum of a record does not fit") for i in index[~good]]
        left = np.flatnonzero(good)
        for _ in range(LAYOUTS):
            if left.size < FEW:
                break
            first = int(left[0])
            payload = rows[first, :length].tobytes()
            layout = self.read_one(int(index[first]), payload)
            left = left[1:]
            if layout is None:
                continue
            same = _matches(rows, left, layout)
            self._decode(index, rows, left[same], layout)
            left = left[~same]
        for row in left.tolist():
            self.read_one(int(index[row]), rows[row, :length].tobytes())

    def _decode(self, index: NDArray[np.int64], rows: NDArray[np.uint8], chosen: NDArray[np.int64], layout: Layout) -> None:
        if not chosen.size:
            return
        block = rows[chosen]
        wall = np.ascontiguousarray(block[:, 1:9]).view("<f8")[:, 0].astype(np.float64)
        step = np.zeros(chosen.size, dtype=np.int64)
        for k in range(layout.step):
            step |= (block[:, 10 + k] & 0x7F).astype(np.int64) << np.int64(7 * k)
        value = np.ascontiguousarray(block[:, slice(*layout.value)]).view(layout.dtype)[:, 0].astype(np.float64)
        ids = self._tags(np.ascontiguousarray(block[:, slice(*layout.tag)]), layout)
        self.parts.append((index[chosen], ids, step, value, wall, layout.is_tensor))

    def _tags(self, tags: NDArray[np.uint8], layout: Layout) -> NDArray[np.int64]:
        """Return the number of the tag of each row; tags are told apart by a hash and then compared byte for byte."""
        n, width = tags.shape
        if not width:
            return np.full(n, self.tag_id(b""), dtype=np.int64)
        words = np.zeros((n, -(-width // 8) * 8), dtype=np.uint8)
        words[:, :width] = tags
        keys = words.view("<u8")
        mixed = np.zeros(n, dtype=np.uint64)
        for k in range(keys.shape[1]):
            mixed = (mixed ^ keys[:, k]) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        _, first, inverse = np.unique(mixed, return_index=True, return_inverse=True)
        names = [tags[row].tobytes() for row in first.tolist()]
        ids = np.array([self.tag_id(name) for name in names], dtype=np.int64)[inverse]
        wrong = np.flatnonzero((tags != tags[first][inverse]).any(axis=1))
        for row in wrong.tolist():  # two tags of one hash
            ids[row] = self.tag_id(tags[row].tobytes())
        if layout.plugin:
            for name in {tags[row].tobytes() for row in wrong.tolist()} | set(names):
                self.plugins.setdefault(name, layout.plugin)
        return ids


def _matches(rows: NDArray[np.uint8], chosen: NDArray[np.int64], layout: Layout) -> NDArray[np.bool_]:
    """Return (len(chosen),) bool: which records have the layout, so that the exact parser would read the same."""
    length = len(layout.sample)
    fixed = np.ones(length, dtype=bool)
    fixed[1:9] = fixed[slice(*layout.tag)] = fixed[slice(*layout.value)] = False
    if layout.step:
        fixed[10 : 10 + layout.step] = False
    sample = np.frombuffer(layout.sample, dtype=np.uint8)
    same = np.ones(chosen.size, dtype=bool)
    for place in np.flatnonzero(fixed).tolist():
        same &= rows[chosen, place] == sample[place]
    for k in range(layout.step):
        more = rows[chosen, 10 + k] >= 0x80
        same &= more if k < layout.step - 1 else ~more
    return same


def read_events(data: bytes, file: str, *, fast: bool = True) -> EventLog:
    """Return the scalars of an event file of these bytes, and what was lost.

    A record with a bad checksum is lost alone; a bad length, or an end inside a record, loses the rest.
    `fast=False` reads every record by itself; the outcome is the same.

    Raises: UnreadableInputError when the bytes are no event file.
    """
    if not data:
        damage = Damage("empty-file", file, "the file has 0 bytes: nothing was written", 0)
        return EventLog({}, {}, (), (damage,), float("nan"), 0)
    frames = read_frames(data)
    if not frames.start.size and (not frames.is_cut or not _may_be_events(data)):
        raise UnreadableInputError(
            file,
            f"is not an event file: {_what_it_is(data)}",
            "give the file that TensorBoard shows",
            "a table of values is read as CSV: rename it to .csv",
        )
    columns = _Columns()
    buffer = np.frombuffer(data, dtype=np.uint8)
    if fast:
        order = np.argsort(frames.length, kind="stable")
        lengths, begin = np.unique(frames.length[order], return_index=True)
        bounds = [*begin.tolist(), order.size]
        for length, first, last in zip(lengths.tolist(), bounds[:-1], bounds[1:], strict=True):
            group = order[first:last]
            if group.size < FEW or not 11 <= length <= LONGEST:
                _one_by_one(columns, group, data, frames.start, frames.length)
                continue
            width = length + FOOTER.size
            windows = np.lib.stride_tricks.sliding_window_view(buffer, width)
            for at in range(0, group.size, BLOCK):
                index = group[at : at + BLOCK]
                columns.read_many(index, windows[frames.start[index]])
    else:
        _one_by_one(columns, np.arange(frames.start.size), data, frames.start, frames.length)
    end = _end_of(frames, file, len(data))
    return _finish(columns, file, frames.start - HEADER.size, end)


def _one_by_one(
    columns: _Columns, group: NDArray[np.int64], data: bytes, start: NDArray[np.int64], length: NDArray[np.int64]
) -> None:
    for i, at, size in zip(group.tolist(), start[group].tolist(), length[group].tolist(), strict=True):
        columns.read_one(i, data[at : at + size], FOOTER.unpack_from(data, at + size)[0])


def _end_of(frames: Frames, file: str, size: int) -> list[Damage]:
    """Return the damage that ended the walk over the records; none when the file ends where a record ends."""
    if not frames.loss:
        return []
    left = f"{size - frames.loss_offset:,} bytes"
    if frames.is_cut:
        detail = f"{frames.loss}, {left} after its start: the process died while it wrote"
        return [Damage("truncated", file, detail, frames.loss_offset)]
    detail = f"{frames.loss}: the last {left} are lost, as nothing tells where the next record begins"
    return [Damage("corrupt-record", file, detail, frames.loss_offset)]


def _may_be_events(data: bytes) -> bool:
    """Whether so few bytes may be the beginning of an event file: a small length, then zeros."""
    return not any(data[3:8])


def _what_it_is(data: bytes) -> str:
    if data.startswith(b"version https://git-lfs"):
        return "it is a pointer of git-lfs, the log itself was not downloaded (git lfs pull)"
    head = data[:512]
    if b"\0" not in head and sum(b < 9 or 13 < b < 32 for b in head) == 0:
        return "it holds text"
    return "it does not begin with a record whose checksum fits"


def _finish(columns: _Columns, file: str, offsets: NDArray[np.int64], end: list[Damage]) -> EventLog:
    """Put scalars in file order, by tag; tensors of other plugins than scalars are left out."""
    columns.events.sort(key=lambda pair: pair[0])
    hparams: dict[str, object] = {}
    starts: list[int] = []
    index, ids, steps, values, walls, tensors = [], [], [], [], [], []
    foreign: dict[bytes, bytes] = {}
    for i, event in columns.events:
        hparams.update(event.hparams)
        if event.session == START:
            starts.append(event.step)
        for tag, plugin in event.other_tags:
            foreign.setdefault(tag, plugin)
        for scalar in event.scalars:
            index.append(i)
            ids.append(columns.tag_id(scalar.tag))
            steps.append(event.step)
            values.append(scalar.value)
            walls.append(event.wall_time)
            tensors.append(scalar.is_tensor)
    parts = [
        *columns.parts,
        (
            np.array(index, dtype=np.int64), np.array(ids, dtype=np.int64), np.array(steps, dtype=np.int64),
            np.array(values, dtype=np.float64), np.array(walls, dtype=np.float64), np.array(tensors, dtype=bool),
        ),
    ]  # fmt: skip
    record = np.concatenate([p[0] for p in parts])
    tag_ids = np.concatenate([p[1] for p in parts])
    step = np.concatenate([p[2] for p in parts])
    value = np.concatenate([p[3] for p in parts])
    wall = np.concatenate([p[4] for p in parts])
    tensor = np.concatenate([np.broadcast_to(np.asarray(p[5]), p[0].shape) for p in parts])
    order = np.argsort(record, kind="stable")
    order = order[np.argsort(tag_ids[order].astype(np.uint16 if len(columns.ids) < 65_536 else np.int64), kind="stable")]
    bounds = np.searchsorted(tag_ids[order], np.arange(len(columns.ids) + 1))
    found: list[tuple[int, str, NDArray[np.int64]]] = []
    for tag, number in columns.ids.items():
        chosen = order[bounds[number] : bounds[number + 1]]
        if tag in foreign:
            chosen = chosen[~tensor[chosen]]
        if chosen.size:
            found.append((int(record[chosen[0]]), tag.decode("utf-8", "replace"), chosen))
    found.sort(key=lambda item: item[:2])
    scalars: dict[str, tuple[IntArray, FloatArray, FloatArray]] = {}
    for _, name, chosen in found:
        at = (step[chosen], value[chosen], wall[chosen])
        if name in scalars:  # two tags that are the same once decoded
            at = tuple(np.concatenate(pair) for pair in zip(scalars[name], at, strict=True))  # type: ignore[assignment]
        scalars[name] = at
    earliest = [(i, event.wall_time) for i, event in columns.events[:1]]
    earliest += [(int(p[0][0]), float(p[4][0])) for p in columns.parts]
    first = min(earliest, default=(0, float("nan")))[1]
    return EventLog(scalars, hparams, tuple(starts), (*_lost(columns, file, offsets), *end), first, int(offsets.size))


def _lost(columns: _Columns, file: str, offsets: NDArray[np.int64]) -> list[Damage]:
    lost = sorted(columns.lost)
    if len(lost) == offsets.size and all("is no event" in why for _, why in lost) and lost:
        what = "is not an event file: it holds records of another kind (a data set?)"
        raise UnreadableInputError(file, what, "give the folder of the logs")
    damages = [Damage("corrupt-record", file, f"{why}: this record is lost", int(offsets[i])) for i, why in lost[:NAMED]]
    if len(lost) > NAMED:
        more = len(lost) - NAMED
        damages.append(Damage("corrupt-record", file, f"{more:,} further records are lost", int(offsets[lost[NAMED][0]])))
    return damages


def read_event_file(path: Path, file: str) -> EventLog:
    """Return the scalars of an event file; `file` is how messages name it.

    Raises: UnreadableInputError when it cannot be opened or is no event file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UnreadableInputError(file, f"cannot be read: {error.strerror}") from error
    return read_events(data, file)
