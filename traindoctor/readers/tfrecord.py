"""Frames of TFRecord files: the records of a file, every checksum verified, and where they go on after damage.

A record is framed by the length of its data, the checksum of that length, the data, and their checksum. Nothing marks
its beginning: behind a bad length the next record is the next place where both checksums fit.

Source: frame layout in TensorFlow record_writer.cc; CRC-32C in RFC 3720, appendix B.4.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    CrcArray: TypeAlias = NDArray[np.uint32]

HEADER = struct.Struct("<QI")  # payload length, masked CRC-32C of those 8 bytes
FOOTER = struct.Struct("<I")  # masked CRC-32C of the payload
OVERHEAD = HEADER.size + FOOTER.size
POLYNOMIAL = 0x82F63B78  # Castagnoli, bits reversed
MASK_DELTA = 0xA282EAD8  # record_writer.cc: a CRC of data that holds CRCs is masked
#: Longest payload that is taken for one. No writer of logs comes near it; what claims more is damaged or made to hurt.
LARGEST = 2**26
PIECE = 256  # bytes that are summed side by side
LONG = 160  # bytes from which data are summed in pieces
BLOCK = 2**16  # bytes of data that are summed in one pass
WINDOW, WIDEST = 2**12, 2**20  # bytes that a search for the next record looks at together, at first and at most


def _byte_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


TABLE = _byte_table()


@lru_cache(maxsize=1)
def distance_tables() -> CrcArray:
    """Return (256, 256) uint32: what a byte adds to a CRC by its distance from the end of the message, 0 for the last.

    The CRC is affine over GF(2): that of a message is the CRC of as many zeros, XOR one entry for each byte.
    """
    table = np.array(TABLE, dtype=np.uint32)
    tables = np.empty((PIECE, 256), dtype=np.uint32)
    tables[0] = table
    for distance in range(1, PIECE):
        before = tables[distance - 1]
        tables[distance] = (before >> np.uint32(8)) ^ table[before & np.uint32(0xFF)]
    return tables


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of the bytes; 0 for none."""
    if len(data) >= LONG:
        return _crc_of_pieces(data) ^ 0xFFFFFFFF
    crc, table = 0xFFFFFFFF, TABLE
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _crc_of_pieces(data: bytes) -> int:
    """Return the register after the data: each piece is summed apart, then the register is moved past them in turn.

    Zeros in front leave a register of zero as it is, so the data are filled up there, and the ones that the register
    begins with go to their first four bytes.
    """
    tables = distance_tables()
    flat, place = tables.ravel(), np.arange(PIECE - 1, -1, -1, dtype=np.intp) * 256
    first, second, third, fourth = (tables[PIECE - 1 - k].tolist() for k in range(4))
    crc, at = 0, 0
    left = -len(data) % PIECE
    while at < len(data):
        size = min(BLOCK - left, len(data) - at)
        block = np.zeros(left + size, dtype=np.uint8)
        block[left:] = np.frombuffer(data, dtype=np.uint8, count=size, offset=at)
        if at == 0:
            block[left : left + 4] ^= 0xFF
        sums = np.bitwise_xor.reduce(flat.take(block.reshape(-1, PIECE) + place), axis=1)
        for piece in sums.tolist():
            crc = first[crc & 0xFF] ^ second[(crc >> 8) & 0xFF] ^ third[(crc >> 16) & 0xFF] ^ fourth[crc >> 24] ^ piece
        at, left = at + size, 0
    return crc


def mask(crc: int) -> int:
    """Return a checksum as a record stores it."""
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


def masked_crc(data: bytes) -> int:
    """Return the checksum of the bytes as a record stores it."""
    return mask(crc32c(data))


# -- records ----------------------------------------------------------------------------------------------------------

_known: dict[bytes, int] = {}  # headers that were verified -> length


def length_at(data: bytes, at: int) -> int:
    """Return the length of the payload whose header stands at a place; -1 when no header that fits stands there."""
    header = data[at : at + HEADER.size]
    length = _known.get(header, -1)
    if length < 0 and len(header) == HEADER.size:
        claimed, crc = HEADER.unpack(header)
        if claimed <= LARGEST and masked_crc(header[:8]) == crc:
            length = claimed
            if len(_known) < 4096:
                _known[header] = length
    return length


def payload_fits(data: bytes, at: int, length: int) -> bool:
    """Whether the checksum of the payload of a record that starts at a place fits."""
    start = at + HEADER.size
    stored: int = FOOTER.unpack_from(data, start + length)[0]
    return masked_crc(data[start : start + length]) == stored


def headers_from(data: bytes, at: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield place and length of each header that fits, whole and before `stop`, from a place on."""
    tables = distance_tables()
    zeros = np.uint32(crc32c(bytes(8)))
    width = WINDOW
    while at + HEADER.size <= stop:
        n = min(width, stop - at - HEADER.size + 1)
        part = np.frombuffer(data, dtype=np.uint8, count=n + HEADER.size - 1, offset=at)
        blank = part == 0
        blank = blank[:-1] & blank[1:]
        blank = blank[:-2] & blank[2:]  # four zeros from here on
        likely = np.flatnonzero(blank[4 : n + 4] & ~(blank[:n] & blank[8 : n + 8]))  # twelve of them are no header
        length = np.zeros(likely.size, dtype=np.int64)
        stored = np.zeros(likely.size, dtype=np.uint32)
        crc = np.full(likely.size, zeros)
        for k in range(4):
            byte = part[likely + k]
            length |= byte.astype(np.int64) << np.int64(8 * k)
            crc ^= tables[7 - k].take(byte)
            stored |= part[likely + 8 + k].astype(np.uint32) << np.uint32(8 * k)
        masked = ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(MASK_DELTA)
        fits = (masked == stored) & (length <= LARGEST)
        yield from zip((likely[fits] + at).tolist(), length[fits].tolist(), strict=True)
        at += n
        width = min(2 * width, WIDEST)
