"""SQLite files of others, opened so that reading one is all that happens.

The file is opened in memory. No view, trigger, virtual table or computed column of it is looked at, and the work that
SQLite does is bounded by the size of the file.

Source: sqlite.org/fileformat2.html for the header; sqlite.org/security.html for files that are not trusted.
"""

from __future__ import annotations

import sqlite3
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

#: Name of a table -> its columns.
Tables: TypeAlias = dict[str, frozenset[str]]

MAGIC = b"SQLite format 3\0"
HEADER_BYTES = 100
#: Bytes of the header: 2 where a write-ahead log goes with the file, which SQLite would look for beside it.
VERSIONS, WRITE_AHEAD, ROLLBACK = slice(18, 20), b"\x02\x02", b"\x01\x01"
#: Magic, version, bytes of a page, count of checkpoints, two salts, two checksums; page, pages after a commit, the same.
WAL_HEADER, WAL_FRAME = struct.Struct(">8I"), struct.Struct(">6I")
#: Magic -> order of the bytes of a word in checksums.
WAL_ORDERS = {0x377F0682: "<", 0x377F0683: ">"}
PAGE_SIZES = frozenset(2**power for power in range(9, 17))
#: Steps of SQLite's machine for each byte of a file, and beyond: a sound file needs fewer.
STEPS_PER_BYTE, STEPS_MORE, STEPS_AT_ONCE = 4, 2_000_000, 100_000
#: The longest text or blob, in bytes.
LONGEST = 2**26


@contextmanager
def open_sqlite(data: bytes, file: str) -> Iterator[sqlite3.Connection]:
    """Give a connection to an SQLite file of these bytes, and close it.

    Raises: UnreadableInputError when it is none, and when anything in it cannot be read.
    """
    if not data.startswith(MAGIC) or len(data) < HEADER_BYTES:
        raise UnreadableInputError(file, "is no SQLite file")
    db = sqlite3.connect(":memory:")
    left = (len(data) * STEPS_PER_BYTE + STEPS_MORE) // STEPS_AT_ONCE

    def is_too_much() -> bool:
        nonlocal left
        left -= 1
        return left < 0

    try:
        db.deserialize(data[: VERSIONS.start] + ROLLBACK + data[VERSIONS.stop :])
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        db.set_progress_handler(is_too_much, STEPS_AT_ONCE)
        for pragma in ("trusted_schema = OFF", "query_only = ON", "cell_size_check = ON"):
            db.execute(f"PRAGMA {pragma}")
        yield db
    except (sqlite3.Error, UnicodeError, OverflowError, MemoryError) as error:  # a message may quote bytes of the file
        why = "its pages hold more rows than its size allows" if left < 0 else error or type(error).__name__
        what = f"is an SQLite file that cannot be read: {why}"
        raise UnreadableInputError(file, what, "recover what is left: sqlite3 FILE .recover | sqlite3 MENDED") from error
    finally:
        db.close()


def with_write_ahead_log(data: bytes, log: bytes = b"") -> bytes:
    """Return an SQLite file with the changes that its write-ahead log (`<name>-wal`) holds; b"" where there is none.

    What was not committed, and what does not fit its checksum, is left out, as SQLite does.

    Source: sqlite.org/fileformat2.html, section 4.
    """
    if not data.startswith(MAGIC) or len(data) < HEADER_BYTES or data[VERSIONS] != WRITE_AHEAD:
        return data
    pages, size, page_size = _committed(log)
    merged = bytearray(data)
    if pages and max(max(pages), size) * page_size <= len(data) + len(log):
        for number, (start, stop) in pages.items():
            begin = (number - 1) * page_size
            merged.extend(bytes(max(0, begin - len(merged))))
            merged[begin : begin + page_size] = log[start:stop]
        del merged[size * page_size :]
    merged[VERSIONS] = ROLLBACK
    return bytes(merged)


def _committed(log: bytes) -> tuple[dict[int, tuple[int, int]], int, int]:
    """Return the last place of each page in a write-ahead log, the pages of the file after it, and bytes of a page."""
    if len(log) < WAL_HEADER.size:
        return {}, 0, 0
    magic, _, page_size, _, *salt, first, second = WAL_HEADER.unpack_from(log)
    if magic not in WAL_ORDERS or page_size not in PAGE_SIZES:
        return {}, 0, 0
    order = WAL_ORDERS[magic]
    sums = _sums(log[: WAL_HEADER.size - 8], (0, 0), order)
    if sums != (first, second):
        return {}, 0, 0
    committed: dict[int, tuple[int, int]] = {}
    pending: dict[int, tuple[int, int]] = {}
    size = 0
    for at in range(WAL_HEADER.size, len(log) - WAL_FRAME.size - page_size + 1, WAL_FRAME.size + page_size):
        number, pages, *salts, first, second = WAL_FRAME.unpack_from(log, at)
        start = at + WAL_FRAME.size
        sums = _sums(log[at : at + 8] + log[start : start + page_size], sums, order)
        if salts != salt or sums != (first, second) or not number:
            break
        pending[number] = (start, start + page_size)
        if pages:  # a transaction ends here
            committed |= pending
            pending, size = {}, pages
    return committed, size, page_size


def _sums(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    one, two = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = (one + even + two) & 0xFFFFFFFF
        two = (two + odd + one) & 0xFFFFFFFF
    return one, two


def what_may_lack(data: bytes, file: str) -> tuple[Damage, ...]:
    """Return a damage where the last changes of the file may stand in another one that was not given."""
    if data[VERSIONS] != WRITE_AHEAD:
        return ()
    detail = "what was written last may stand in the file of the same name with -wal at its end, which is not read"
    return (Damage("write-ahead-log", file, detail),)


def plain_tables(db: sqlite3.Connection) -> Tables:
    """Return name -> columns of the tables whose rows are kept as they are; computed columns are left out."""
    rows = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' AND rootpage > 0").fetchall()
    names = [name for name, sql in rows if isinstance(name, str) and isinstance(sql, str)]
    return {name: frozenset(_columns(db, name)) for name in names}


def _columns(db: sqlite3.Connection, table: str) -> Iterator[str]:
    for _, name, _, _, _, _, hidden in db.execute(f"PRAGMA table_xinfo({quoted(table)})"):
        if not hidden and isinstance(name, str):
            yield name


def quoted(name: str) -> str:
    """Return a name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def read_rows(db: sqlite3.Connection, tables: Tables, table: str, wanted: Sequence[str]) -> Iterator[tuple[object, ...]]:
    """Yield the wanted columns of a table in the order in which its rows were written; None for what it lacks."""
    names = ", ".join(quoted(name) if name in tables.get(table, ()) else "NULL" for name in wanted)
    if table in tables:
        yield from db.execute(f"SELECT {names} FROM {quoted(table)} NOT INDEXED ORDER BY rowid")
