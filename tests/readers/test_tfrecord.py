"""Frames and checksums of TFRecord files."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from traindoctor.readers.tfrecord import TABLE, crc32c, masked_crc, masked_crcs, read_frames

from .wire import record


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_checksums_of_the_standard(data: bytes, crc: int) -> None:
    """RFC 3720, appendix B.4."""
    assert crc32c(data) == crc


@pytest.mark.parametrize(("length", "seed"), [(8191, 0), (8192, 1), (8193, 2), (20_000, 3)])
def test_long_data_are_summed_in_pieces(length: int, seed: int) -> None:
    data = bytes((seed + i * i) % 256 for i in range(length))
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ TABLE[(crc ^ byte) & 0xFF]
    assert crc32c(data) == crc ^ 0xFFFFFFFF


@given(st.integers(0, 70), st.integers(0, 5), st.randoms())
def test_many_checksums_at_once_are_those_of_each(length: int, n: int, random: object) -> None:
    rng = np.random.default_rng(random.randrange(2**32))  # type: ignore[attr-defined]
    rows = rng.integers(0, 256, (n, length), dtype=np.uint8)
    assert masked_crcs(rows).tolist() == [masked_crc(row.tobytes()) for row in rows]


def test_frames_of_whole_records() -> None:
    data = record(b"abc") + record(b"") + record(b"x" * 300)
    frames = read_frames(data)
    assert [data[s : s + n] for s, n in zip(frames.start, frames.length, strict=True)] == [b"abc", b"", b"x" * 300]
    assert frames.loss == ""
    assert read_frames(b"").start.size == 0


@given(st.lists(st.binary(max_size=20), max_size=6), st.data())
def test_a_file_cut_anywhere_gives_a_prefix(payloads: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(map(record, payloads))
    cut = data.draw(st.integers(0, len(whole)))
    frames = read_frames(whole[:cut])
    got = [whole[s : s + n] for s, n in zip(frames.start, frames.length, strict=True)]
    assert got == payloads[: len(got)]
    ends = [0, *np.cumsum([len(p) + 16 for p in payloads]).tolist()]
    assert bool(frames.loss) == (cut not in ends)
    assert frames.is_cut == bool(frames.loss)
    if frames.loss:
        assert frames.loss_offset == ends[len(got)]


def test_a_bad_length_loses_the_rest() -> None:
    data = bytearray(record(b"abc") + record(b"defg") + record(b"hi"))
    data[19] ^= 4
    frames = read_frames(bytes(data))
    assert frames.start.size == 1
    assert not frames.is_cut
    assert frames.loss_offset == 19


def test_a_length_beyond_the_file_is_a_cut_only_if_its_checksum_fits() -> None:
    length = struct.pack("<Q", 2**62)
    assert read_frames(length + struct.pack("<I", masked_crc(length)) + b"abc").is_cut
    assert not read_frames(length + bytes(4) + b"abc").is_cut
