"""Event files for tests, written byte by byte."""

from __future__ import annotations

import struct

from traindoctor.readers.tfrecord import masked_crc


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number: int, content: bytes | int | float) -> bytes:
    if isinstance(content, bytes):
        return varint(number << 3 | 2) + varint(len(content)) + content
    if isinstance(content, float):
        return varint(number << 3 | 1) + struct.pack("<d", content)
    return varint(number << 3) + varint(content)


def fixed32(number: int, value: float) -> bytes:
    return varint(number << 3 | 5) + struct.pack("<f", value)


def metadata(plugin: str, content: bytes = b"") -> bytes:
    return field(9, field(1, field(1, plugin.encode()) + (field(2, content) if content else b"")))


def simple(tag: str, value: float, more: bytes = b"") -> bytes:
    return field(1, field(1, tag.encode()) + more + fixed32(2, value))


def tensor(tag: str, body: bytes, more: bytes = b"") -> bytes:
    return field(1, field(1, tag.encode()) + more + field(8, body))


def float_tensor(value: float) -> bytes:
    return field(1, 1) + field(2, b"") + field(4, struct.pack("<f", value))


def event(step: int, *values: bytes, wall: float = 0.0) -> bytes:
    return field(1, wall) + (field(2, step) if step else b"") + (field(5, b"".join(values)) if values else b"")


def record(payload: bytes) -> bytes:
    length = struct.pack("<Q", len(payload))
    return length + struct.pack("<I", masked_crc(length)) + payload + struct.pack("<I", masked_crc(payload))


VERSION = record(field(1, 1.7e9) + field(3, b"brain.Event:2"))


def event_file(*payloads: bytes) -> bytes:
    return VERSION + b"".join(map(record, payloads))


def loss_file(values: list[float], tag: str = "loss", start: int = 0, stride: int = 1, wall: float = 1.7e9) -> bytes:
    events = (event(start + stride * i, simple(tag, v), wall=wall + i) for i, v in enumerate(values))
    return record(field(1, wall) + field(3, b"brain.Event:2")) + b"".join(map(record, events))
