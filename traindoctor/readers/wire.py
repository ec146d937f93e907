"""One record of an event file -> what it holds, byte by byte: the exact parser of TensorBoard's `Event`.

The wire format of the protocol buffers is read by hand: importing the generated classes costs more than reading most
files. A number is decoded at once; a histogram, a text or hyperparameters are handed on as bytes, as what they are may
be known from an earlier record of the same tag only.

Source: tensorboard/compat/proto/event.proto, summary.proto, tensor.proto, types.proto;
protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traindoctor.model import FloatArray

    Field: TypeAlias = tuple[int, int, int, int, int]  # number, wire type, value (varint), start, stop of the content
    Place: TypeAlias = tuple[int, int]  # start, stop

START = 1  # SessionLog.SessionStatus
SCALAR_PLUGINS = (b"", b"scalars")
VARINT, I64, LEN, I32 = 0, 1, 2, 5
DOUBLE, FLOAT = struct.Struct("<d"), struct.Struct("<f")
STRING = 7  # types.proto
#: types.proto: number -> dtype of tensor_content, and the field of TensorProto that holds the values otherwise.
TENSOR_TYPES: dict[int, tuple[str, int]] = {
    1: ("<f4", 5), 2: ("<f8", 6), 3: ("<i4", 7), 4: ("u1", 7), 5: ("<i2", 7), 6: ("i1", 7), 9: ("<i8", 10), 10: ("?", 11),
    14: ("bfloat16", 13), 17: ("<u2", 7), 19: ("<f2", 13), 22: ("<u4", 16), 23: ("<u8", 17),
}  # fmt: skip


class WireError(ValueError):
    """Bytes that are no protocol buffer, or not the one that was expected."""


@dataclass(slots=True)
class Value:
    """One logged value of a tag.

    `number`: of a scalar, None for everything else. `number_at`: where its four bytes stand in the record, when it is a
    float32 there. `is_tensor`: whether it came in a tensor, which is a scalar only if the plugin of the tag says so.
    `plugin`: of the metadata at this value, None where there are none; `content`: what they hold for the plugin.
    `tensor`, `histogram`: bytes of the TensorProto or HistogramProto, b"" where there is none.
    """

    tag: bytes
    number: float | None = None
    number_at: Place | None = None
    is_tensor: bool = False
    plugin: bytes | None = None
    content: bytes = b""
    tensor: bytes = b""
    histogram: bytes | None = None


@dataclass(slots=True)
class Event:
    """What one record holds. `session`: status of a SessionLog, 0 without one. `fields`: the numbers of its fields."""

    wall_time: float = 0.0
    step: int = 0
    session: int = 0
    values: list[Value] = field(default_factory=list)
    fields: list[int] = field(default_factory=list)


# -- the wire format --------------------------------------------------------------------------------------------------


def read_varint(data: bytes, at: int, stop: int) -> tuple[int, int]:
    """Return the number at a place, below 2**64, and where it ends.

    Raises: WireError when it does not end.
    """
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


def read_fields(data: bytes, at: int, stop: int) -> Iterator[Field]:
    """Yield the fields of a message.

    Raises: WireError when they do not fill it.
    """
    while at < stop:
        key = data[at]
        at += 1
        if key >= 0x80:
            key, at = read_varint(data, at - 1, stop)
        number, wire = key >> 3, key & 7
        value, start = 0, at
        if wire == VARINT:
            value, at = read_varint(data, at, stop)
        elif wire == LEN:
            size, start = read_varint(data, at, stop)
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


def signed(value: int) -> int:
    """Return the int64 that a varint stands for."""
    return value - (1 << 64) if value >= 1 << 63 else value


# -- an event ---------------------------------------------------------------------------------------------------------


def parse_event(data: bytes) -> Event:
    """Return what a record holds.

    Raises: WireError when it is no protocol buffer, or one of another kind.
    """
    event = Event()
    for number, wire, value, start, stop in read_fields(data, 0, len(data)):
        event.fields.append(number)
        if number == 1:
            if wire != I64:  # the wall time: a tf.train.Example has its features there
                raise WireError("the first field is no wall time")
            event.wall_time = DOUBLE.unpack_from(data, start)[0]
        elif number == 2 and wire == VARINT:
            event.step = signed(value)
        elif number == 5 and wire == LEN:
            for inner, kind, _, a, b in read_fields(data, start, stop):
                if inner == 1 and kind == LEN:
                    event.values.append(_parse_value(data, a, b))
        elif number == 7 and wire == LEN:
            for inner, kind, status, _, _ in read_fields(data, start, stop):
                if inner == 1 and kind == VARINT:
                    event.session = status
    return event


def _parse_value(data: bytes, at: int, end: int) -> Value:
    value = Value(b"")
    simple: Place | None = None
    tensor: Place | None = None
    histogram: Place | None = None
    for number, wire, _, start, stop in read_fields(data, at, end):
        if number == 1 and wire == LEN:
            value.tag = data[start:stop]
        elif number == 2 and wire == I32:  # one of a oneof: the last one counts
            simple, tensor, histogram = (start, stop), None, None
        elif number == 5 and wire == LEN:
            simple, tensor, histogram = None, None, (start, stop)
        elif number == 8 and wire == LEN:
            simple, tensor, histogram = None, (start, stop), None
        elif number in (4, 6) and wire == LEN:  # image, audio
            simple, tensor, histogram = None, None, None
        elif number == 9 and wire == LEN:
            value.plugin, value.content = _parse_metadata(data, start, stop)
    if simple is not None:
        value.number, value.number_at = FLOAT.unpack_from(data, simple[0])[0], simple
    elif tensor is not None:
        value.is_tensor = True
        value.tensor = data[slice(*tensor)]
        found = _parse_number(data, *tensor)
        if found is not None:
            value.number, value.number_at = found
    elif histogram is not None:
        value.histogram = data[slice(*histogram)]
    return value


def _parse_metadata(data: bytes, at: int, end: int) -> tuple[bytes, bytes]:
    """Return name and content of SummaryMetadata.plugin_data."""
    name = content = b""
    for number, wire, _, start, stop in read_fields(data, at, end):
        if number == 1 and wire == LEN:
            for inner, kind, _, a, b in read_fields(data, start, stop):
                if inner == 1 and kind == LEN:
                    name = data[a:b]
                elif inner == 2 and kind == LEN:
                    content = data[a:b]
    return name, content


# -- tensors ----------------------------------------------------------------------------------------------------------


def _parse_number(data: bytes, at: int, end: int) -> tuple[float, Place | None] | None:
    """Return the number that a tensor of one element holds, and where it stands as float32; None for other tensors."""
    dtype, elements, content = 0, 1, None
    listed: list[Field] = []
    for found in read_fields(data, at, end):
        number, wire, value, start, stop = found
        if number == 1 and wire == VARINT:
            dtype = value
        elif number == 2 and wire == LEN:
            elements = 1
            for size in _parse_shape(data, start, stop):
                elements *= size
        elif number == 4 and wire == LEN:
            content = (start, stop)
        elif number >= 5:
            listed.append(found)
    if elements != 1 or dtype not in TENSOR_TYPES:
        return None
    name, wanted = TENSOR_TYPES[dtype]
    if content is not None and content[1] > content[0]:
        if content[1] - content[0] != _itemsize(name):
            return None
        return _number(data[slice(*content)], name), (content if name == "<f4" else None)
    for number, wire, value, start, stop in listed:
        if number != wanted:
            continue
        if name in ("<f4", "<f8"):  # float_val, double_val: packed or not
            if stop - start != _itemsize(name) or wire not in (LEN, I32, I64):
                return None
            return _number(data[start:stop], name), ((start, stop) if name == "<f4" else None)
        if wire == LEN:
            value, after = read_varint(data, start, stop)
            if after != stop:
                return None
        elif wire != VARINT:
            return None
        if wanted == 13:  # half_val holds the bits
            return _number(struct.pack("<H", value & 0xFFFF), name), None
        return float(value if name in ("<u4", "<u8") else signed(value)), None
    return 0.0, None  # proto3 leaves out a zero


def _itemsize(name: str) -> int:
    return 2 if name == "bfloat16" else np.dtype(name).itemsize


def _number(raw: bytes, name: str) -> float:
    if name == "bfloat16":  # the upper half of a float32
        return float(FLOAT.unpack(b"\0\0" + raw)[0])
    return float(np.frombuffer(raw, dtype=name)[0])


def _parse_shape(data: bytes, at: int, end: int) -> tuple[int, ...]:
    """Return the sizes of a TensorShapeProto; a zero for an unknown rank."""
    sizes: list[int] = []
    for number, wire, value, start, stop in read_fields(data, at, end):
        if number == 2 and wire == LEN:
            size = 0
            for inner, kind, length, _, _ in read_fields(data, start, stop):
                if inner == 1 and kind == VARINT:
                    size = signed(length)
            sizes.append(size)
        elif number == 3 and wire == VARINT and value:
            return (0,)
    return tuple(sizes)


def parse_matrix(data: bytes, columns: int) -> FloatArray | None:
    """Return (n, columns) float64 of a tensor of float32 or float64; None for every other tensor.

    Raises: WireError when it is no protocol buffer.
    """
    dtype, content = 0, b""
    shape: tuple[int, ...] = ()
    listed: list[bytes] = []
    for number, wire, value, start, stop in read_fields(data, 0, len(data)):
        if number == 1 and wire == VARINT:
            dtype = value
        elif number == 2 and wire == LEN:
            shape = _parse_shape(data, start, stop)
        elif number == 4 and wire == LEN:
            content = data[start:stop]
        elif number == TENSOR_TYPES.get(dtype, ("", 0))[1] and wire in (LEN, I32, I64):
            listed.append(data[start:stop])
    if dtype not in (1, 2) or len(shape) != 2 or shape[1] != columns:
        return None
    raw, name = content or b"".join(listed), TENSOR_TYPES[dtype][0]
    if len(raw) != shape[0] * columns * np.dtype(name).itemsize:
        return None
    return np.frombuffer(raw, dtype=name).astype(np.float64).reshape(-1, columns)


def parse_strings(data: bytes) -> list[bytes]:
    """Return the texts of a tensor of strings; none for every other tensor.

    Raises: WireError when it is no protocol buffer.
    """
    dtype, found = 0, []
    for number, wire, value, start, stop in read_fields(data, 0, len(data)):
        if number == 1 and wire == VARINT:
            dtype = value
        elif number == 8 and wire == LEN:
            found.append(data[start:stop])
    return found if dtype == STRING else []


@dataclass(frozen=True, slots=True, eq=False)
class Buckets:
    """A HistogramProto: bucket i holds `count[i]` values between `limit[i - 1]` and `limit[i]`; both (n,) float64."""

    low: float
    high: float
    number: float
    total: float
    sum_squares: float
    limit: FloatArray
    count: FloatArray


def parse_buckets(data: bytes) -> Buckets:
    """Return what a HistogramProto holds.

    Raises: WireError when it is no protocol buffer, or its buckets and their limits differ in number.
    """
    single = [0.0] * 6  # by number of the field
    listed: dict[int, list[bytes]] = {6: [], 7: []}
    for number, wire, _, start, stop in read_fields(data, 0, len(data)):
        if 1 <= number <= 5 and wire == I64:
            single[number] = DOUBLE.unpack_from(data, start)[0]
        elif number in listed and wire in (LEN, I64):
            if (stop - start) % 8:
                raise WireError("a list of doubles of odd length")
            listed[number].append(data[start:stop])
    limit, count = (np.frombuffer(b"".join(listed[number]), dtype="<f8").astype(np.float64) for number in (6, 7))
    if limit.size != count.size:
        raise WireError("a histogram with other limits than buckets")
    low, high, number_of_values, total, sum_squares = single[1:]
    return Buckets(low, high, number_of_values, total, sum_squares, limit, count)
