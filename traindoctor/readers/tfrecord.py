"""The records of a TFRecord file, every checksum verified, and what was lost.

Source: frame layout in TensorFlow record_writer.cc; CRC-32C in RFC 3720, appendix B.4.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ByteMatrix: TypeAlias = NDArray[np.uint8]
    CrcArray: TypeAlias = NDArray[np.uint32]

HEADER = struct.Struct("<QI")  # payload length, masked CRC-32C of those 8 bytes
FOOTER = struct.Struct("<I")  # masked CRC-32C of the payload
POLYNOMIAL = 0x82F63B78  # Castagnoli, bits reversed
PIECE = 256  # bytes
LONG = 8192  # bytes from which data are summed in pieces, side by side
MASK_DELTA = 0xA282EAD8  # record_writer.cc: a CRC of data that holds CRCs is masked


def _byte_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


TABLE = _byte_table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of the bytes; 0 for none."""
    crc, table = 0xFFFFFFFF, TABLE
    head = len(data) if len(data) < LONG else len(data) % PIECE
    for byte in data[:head]:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    if head < len(data):
        crc = _crc_of_pieces(np.frombuffer(data, dtype=np.uint8)[head:].reshape(-1, PIECE), crc)
    return crc ^ 0xFFFFFFFF


def _crc_of_pieces(pieces: ByteMatrix, crc: int) -> int:
    """Return the register after the pieces (n, PIECE): each is summed apart, then the register is moved past them."""
    tables, _ = _distance_tables(PIECE)
    sums = np.zeros(pieces.shape[0], dtype=np.uint32)
    for place in range(PIECE):
        sums ^= tables[place].take(pieces[:, place])
    first, second, third, fourth = (tables[place].tolist() for place in range(4))
    for piece in sums.tolist():
        crc = first[crc & 0xFF] ^ second[(crc >> 8) & 0xFF] ^ third[(crc >> 16) & 0xFF] ^ fourth[crc >> 24] ^ piece
    return crc


def masked_crc(data: bytes) -> int:
    """Return the checksum as a record stores it."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & 0xFFFFFFFF


@lru_cache(maxsize=16)  # at most 2 MB each
def _distance_tables(length: int) -> tuple[CrcArray, int]:
    """Return (length, 256) uint32: what a byte adds to the CRC by its place in a message, and the CRC of zeros.

    The CRC is affine over GF(2): the CRC of a message is that of as many zeros, XOR one table entry for each byte.
    """
    table = np.array(TABLE, dtype=np.uint32)
    tables = np.empty((length, 256), dtype=np.uint32)
    entry = table.copy()
    for place in range(length - 1, -1, -1):
        tables[place] = entry
        entry = (entry >> np.uint32(8)) ^ table[entry & np.uint32(0xFF)]
    zeros = 0xFFFFFFFF
    for _ in range(length):
        zeros = (zeros >> 8) ^ TABLE[zeros & 0xFF]
    return tables, zeros ^ 0xFFFFFFFF


def masked_crcs(rows: ByteMatrix) -> CrcArray:
    """Return (n,) uint32: the checksums of `rows` (n, length), as records store them."""
    tables, zeros = _distance_tables(rows.shape[1])
    crc = np.full(rows.shape[0], zeros, dtype=np.uint32)
    for place in range(rows.shape[1]):
        crc ^= tables[place].take(rows[:, place])
    rotated = (crc >> np.uint32(15)) | (crc << np.uint32(17))
    return rotated + np.uint32(MASK_DELTA)


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Where the payloads of a file are. Their own checksums are not yet verified.

    `start`, `length`: (n,) int64, bytes. `loss`: what ended the walk early, "" when the file ends where a record ends.
    `loss_offset`: start of the record that could not be framed. `is_cut`: the file ends inside that record.
    """

    start: NDArray[np.int64]
    length: NDArray[np.int64]
    loss: str = ""
    loss_offset: int = 0
    is_cut: bool = False


def read_frames(data: bytes) -> Frames:
    """Return the frames of the records of a file, in file order.

    A bad length or a short read loses the rest of the file, because nothing then tells where the next record starts.
    """
    known: dict[bytes, int] = {}  # headers that were verified -> bytes from this record to the next
    starts: list[int] = []
    offset, end = 0, len(data)
    loss, is_cut = "", False
    while offset < end:
        header = data[offset : offset + 12]
        size = known.get(header)
        if size is None:
            if len(header) < HEADER.size:
                loss, is_cut = "the file ends inside a record header", True
                break
            length, crc = HEADER.unpack(header)
            if masked_crc(header[:8]) != crc:
                loss = "the checksum of a record's length does not fit"
                break
            size = known[header] = HEADER.size + length + FOOTER.size
        if offset + size > end:
            loss, is_cut = "the file ends inside a record", True
            break
        starts.append(offset)
        offset += size
    start = np.array(starts, dtype=np.int64)
    stops = np.append(start[1:], offset) if starts else start
    overhead = HEADER.size + FOOTER.size
    return Frames(start + HEADER.size, stops - start - overhead, loss, offset, is_cut)
