"""Frames and checksums of TFRecord files, and the search for the next record."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindoctor.readers.tfrecord import (
    LARGEST,
    LONG,
    TABLE,
    crc32c,
    distance_tables,
    headers_from,
    length_at,
    masked_crc,
    payload_fits,
)

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


def plain_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@pytest.mark.parametrize("length", [LONG - 1, LONG, 255, 256, 257, 511, 512, 65_535, 65_536, 65_537, 131_072, 200_001])
def test_long_data_are_summed_in_pieces(length: int) -> None:
    data = bytes((7 + i * i) % 256 for i in range(length))
    assert crc32c(data) == plain_crc(data)


@given(st.binary(min_size=LONG, max_size=3 * LONG))
def test_any_bytes_have_the_same_sum_in_pieces(data: bytes) -> None:
    assert crc32c(data) == plain_crc(data)


@given(st.integers(0, 255), st.integers(0, 255))
def test_a_byte_adds_its_entry_by_its_distance_from_the_end(distance: int, byte: int) -> None:
    message = bytes([byte]) + bytes(distance)
    assert crc32c(message) ^ crc32c(bytes(distance + 1)) == int(distance_tables()[distance, byte])


def test_a_header_tells_the_length_of_what_follows() -> None:
    data = record(b"abc") + record(b"") + record(b"x" * 300)
    assert [length_at(data, at) for at in (0, 19, 35, 1, len(data) - 4)] == [3, 0, 300, -1, -1]
    assert payload_fits(data, 35, 300)
    assert not payload_fits(data[:60] + b"y" + data[61:], 35, 300)


def test_a_length_that_no_log_has_is_none() -> None:
    for length in (LARGEST + 1, 2**62, 2**64 - 1):
        header = struct.pack("<Q", length)
        assert length_at(header + struct.pack("<I", masked_crc(header)), 0) == -1
    header = struct.pack("<Q", LARGEST)
    assert length_at(header + struct.pack("<I", masked_crc(header)), 0) == LARGEST


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=40), max_size=8), st.binary(max_size=30), st.integers(0, 40))
def test_a_search_finds_each_header_from_a_place_on(payloads: list[bytes], junk: bytes, at: int) -> None:
    data = junk + b"".join(map(record, payloads))
    expected = [(place, length_at(data, place)) for place in range(at, len(data)) if length_at(data, place) >= 0]
    assert list(headers_from(data, at, len(data))) == expected


def test_a_search_passes_megabytes_of_zeros_and_noise() -> None:
    junk = bytes(3 * 2**20) + bytes(range(256)) * 4096
    assert next(iter(headers_from(junk + record(b"abc"), 0, len(junk) + 19))) == (len(junk), 3)
    assert list(headers_from(junk + record(b"abc"), 0, len(junk) + 11)) == []
