"""Many small records at once: the scalars of event files, decoded column by column with NumPy.

A training log is millions of records of sixty bytes. Reading them one by one costs microseconds each in Python, whatever
is done with them; here about a hundred passes over arrays read tens of thousands together. `wire.py` is the exact twin:
it reads every record by itself, whatever is in it, and it teaches this file all that it knows of their meaning. What is
not understood here is handed to it, so that the outcome is the same. Four ideas:

1. **Frames by their zeros.** A record begins with the length of its data, eight bytes; below 256 the upper seven are
   zero, and among seven zeros in a row there is an aligned word of four. So the aligned words of zero show every place
   where such a record may begin; the checksum of the length, by table, throws out nearly all others. Then the frames
   are not guessed but proved: from a place where a record is known to begin, each one must end where the next begins.
   Where the chain breaks - a longer record, one inside of the data of another - a plain walk finds how it goes on.
2. **Bodies seen before.** A record of one scalar is the wall time, the step, and a rest - the body - in which, within a
   tag, nothing changes but the four bytes of the value. The exact parser reads one record of a body and says what it
   means; every further one is looked up by a hash of its body with the value blanked out, and compared byte for byte.
   So all wire forms are read alike, simple values and tensors, with metadata or without, and none is known by name.
3. **Checksums without a loop.** CRC-32C is affine over GF(2): the checksum of a record is that of as many zeros, XOR one
   table entry for each byte that differs, by its distance from the end. The body with its value blanked out has one sum
   that is kept, so that only the bytes of wall time, step and value are looked up, and yet every byte is verified.
4. **Many files are one buffer.** A chain starts wherever a file starts, so that a thousand small files cost what one
   large one does.

Records of 256 bytes and more, several values in one event, texts, histograms and damage are left to the exact parser.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from traindoctor.readers.by_tag import parts_of
from traindoctor.readers.tfrecord import HEADER, MASK_DELTA, OVERHEAD, distance_tables, length_at, payload_fits
from traindoctor.readers.wire import SCALAR_PLUGINS, WireError, parse_event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from traindoctor.model import FloatArray, IntArray
    from traindoctor.readers.by_tag import Part, Span
    from traindoctor.readers.tfrecord import CrcArray
    from traindoctor.readers.wire import Event

    Words: TypeAlias = NDArray[np.uint64]

#: Zeros that a buffer has in front of its first file and behind its last, so that wide reads stay within it.
MARGIN = 256
#: Widths in bytes that bodies are compared in, and slots of a table of bodies at first.
WIDTHS = (32, 64, 128, 256)
SLOTS = 2**10
#: The C library of Linux learns from the largest block that was let go how much memory to keep for the next ones. Without
#: one of this size it hands each array of a pass back to the system, and page faults cost a quarter of the time.
SETTLED = 2**23
#: Places that a hash is looked for in its table, one after the other; bodies that find none are left to the exact parser.
PROBES = 8
#: Records in a pass that are read for the meaning of their body without success before the rest is left alone.
PATIENCE = 16
#: Places of the value, counted from the end of a record, that are tried.
FORMS = 8

_WALL_TIME, _STEP, _SUMMARY = 0x09, 0x10, 0x2A  # keys of the fields of an Event
_HIGH_BITS = np.uint64(0x8080808080808000)


@dataclass(frozen=True, slots=True)
class Kind:
    """What the records of one body hold: a scalar of a tag. `tag`: its number. `plugin`: None without metadata."""

    tag: int
    is_tensor: bool
    plugin: bytes | None


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The records of a buffer, in order.

    `start`, `kind`, `step`, `value`, `wall_time`: (n,), of the records below 256 bytes; a kind of -1 is for the exact
    parser, and the numbers beside it mean nothing. `rows`: for each span its records in these arrays. `others`: for each
    span the starts of its longer records. `ends`: where the chain of each span ends: whatever is behind is no whole record.
    """

    start: IntArray
    kind: NDArray[np.int32]
    step: IntArray
    value: NDArray[np.float32]
    wall_time: FloatArray
    rows: list[Span]
    others: list[list[int]]
    ends: list[int]
    missing: IntArray

    def unknown(self, span: int) -> list[int]:
        """Return the starts of the records of a span, below 256 bytes, that are left to the exact parser."""
        if not self.missing.size:
            return []
        first, last = np.searchsorted(self.missing, self.rows[span])
        found: list[int] = self.start[self.missing[first:last]].tolist()
        return found


@lru_cache(maxsize=1)
def _length_crcs() -> CrcArray:
    """Return (256,) uint32: the checksum of a length below 256, as a record stores it."""
    tables = distance_tables()
    crc = tables[7] ^ np.uint32(_crc_of_zeros()[8])
    return _masked(crc)


@lru_cache(maxsize=1)
def _crc_of_zeros() -> CrcArray:
    """Return (256,) uint32: the CRC of so many zeros."""
    table = distance_tables()[0].tolist()
    crc, sums = 0xFFFFFFFF, []
    for _ in range(256):
        sums.append(crc ^ 0xFFFFFFFF)
        crc = (crc >> 8) ^ table[crc & 0xFF]
    return np.array(sums, dtype=np.uint32)


@lru_cache(maxsize=1)
def _frame_crcs() -> CrcArray:
    """Return (512,) uint32: the CRC of a record of zeros but for the key of its wall time; from 256 on of its step too."""
    tables, zeros = distance_tables(), _crc_of_zeros()
    crcs = np.zeros((2, 256), dtype=np.uint32)
    crcs[:, 1:] = zeros[1:] ^ tables[:-1, _WALL_TIME]
    crcs[1, 10:] ^= tables[: 256 - 10, _STEP]
    return crcs.ravel()


@lru_cache(maxsize=1)
def _multipliers() -> Words:
    """Return (32,) uint64, odd and without a pattern: the steps of SplitMix64 (Steele, Lea and Flood 2014)."""
    found = []
    for k in range(1, WIDTHS[-1] // 8 + 1):
        x = k * 0x9E3779B97F4A7C15 % 2**64
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
        x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
        found.append((x ^ x >> 31) | 1)
    return np.array(found, dtype=np.uint64)


def _masked(crc: CrcArray) -> CrcArray:
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(MASK_DELTA)


def _view(data: bytes, dtype: str) -> NDArray[np.generic]:
    """Return what stands at each place of the buffer, aligned or not, without a copy."""
    size = int(dtype.lstrip("V<u"))
    return np.ndarray((len(data) - size + 1,), dtype=dtype, buffer=data, strides=(1,))


class _Family:
    """The bodies of one range of lengths whose value stands at one distance from the end of the record."""

    def __init__(self, distance: int, width: int) -> None:
        self.width, self.words = width, width // 8
        self.multipliers = _multipliers()[: self.words]
        counted = np.arange(width, 0, -1)  # distance of each byte from the end, plus one
        covered = (counted <= np.arange(width + 1)[:, None]) & ~((counted <= distance) & (counted > distance - 4))
        self.masks = np.where(covered, 0xFF, 0).astype(np.uint8).view(f"V{width}")[:, 0]  # by length of the body
        self.slots = np.full(SLOTS, -1, dtype=np.int32)
        self.shift = np.uint64(64 - SLOTS.bit_length() + 1)
        self.bodies: Words = np.zeros((16, self.words), dtype=np.uint64)
        self.numbers: NDArray[np.int32] = np.zeros(16, dtype=np.int32)
        self.hashes: list[int] = []

    def rows(self, view: NDArray[np.generic], end: IntArray, length: IntArray) -> tuple[Words, Words]:
        """Return the bodies, (n, words), blanked out but for what must be the same; and their hashes, (n,)."""
        rows = view[end - self.width].view(np.uint64).reshape(-1, self.words)
        rows &= self.masks.take(length).view(np.uint64).reshape(-1, self.words)
        return rows, (rows ^ (rows >> np.uint64(29))) @ self.multipliers

    def look_up(self, rows: Words, hashes: Words) -> NDArray[np.int32]:
        """Return (n,): the number of the kind of each body, -1 where it is not known."""
        slot = (hashes >> self.shift).astype(np.intp)
        found = self.slots.take(slot)
        same = self._equal(rows, found)
        same &= found >= 0
        if same.all():
            return self.numbers.take(found)
        kinds = np.where(same, self.numbers.take(found, mode="clip"), np.int32(-1)).astype(np.int32)
        left = np.flatnonzero(~same & (found >= 0))
        for probe in range(1, PROBES):
            if not left.size:
                break
            found = self.slots.take(slot[left] + probe, mode="wrap")
            same = self._equal(rows[left], found) & (found >= 0)
            kinds[left[same]] = self.numbers[found[same]]
            left = left[~same & (found >= 0)]
        return kinds

    def _equal(self, rows: Words, found: NDArray[np.int32]) -> NDArray[np.bool_]:
        same = (rows == self.bodies.take(found, axis=0, mode="clip")).view(f"<u{min(self.words, 8)}")
        ones = 0x0101010101010101 & ((1 << 8 * min(self.words, 8)) - 1)
        whole: NDArray[np.bool_] = same[:, 0] == ones
        for column in range(1, same.shape[1]):
            whole &= same[:, column] == ones
        return whole

    def add(self, row: Words, hashed: int, number: int) -> None:
        """Note the number of the kind of a body."""
        at = len(self.hashes)
        if at == self.numbers.size:
            self.bodies = np.concatenate([self.bodies, np.zeros_like(self.bodies)])
            self.numbers = np.concatenate([self.numbers, np.zeros_like(self.numbers)])
        self.bodies[at], self.numbers[at] = row, number
        self.hashes.append(hashed)
        if 4 * len(self.hashes) > self.slots.size:
            self.slots = np.full(4 * self.slots.size, -1, dtype=np.int32)
            self.shift -= np.uint64(2)
            for earlier in range(at):
                self._place(earlier)
        self._place(at)

    def _place(self, at: int) -> None:
        slot = self.hashes[at] >> int(self.shift)
        for probe in range(PROBES):
            place = (slot + probe) % self.slots.size
            if self.slots[place] < 0:
                self.slots[place] = at
                return


class Decoder:
    """Reads buffers of records; keeps the bodies that it has learned for those that follow, of whatever file.

    `tags`: the names of the tags, by number. `kinds`: what the bodies mean, by number.
    """

    def __init__(self) -> None:
        np.empty(SETTLED, dtype=np.uint8)  # let go at once
        self.tags: list[str] = []
        self.kinds: list[Kind] = []
        self.tensor_tags: set[str] = set()  # tags of kinds that are scalars only if the plugin of their tag says so
        self.declares = False  # whether a kind brings metadata
        self._ids: dict[str, int] = {}
        self._raw: dict[bytes, int] = {}
        self._forms = [4]  # a simple value, and a tensor without metadata, end with their value
        self._families: dict[tuple[int, int], _Family] = {}
        self._tag_of = np.full(16, -1, dtype=np.int64)  # the last one stays -1, for the kind -1
        self._crc_of = np.zeros(16, dtype=np.uint32)
        self._distance_of = np.zeros(16, dtype=np.int64)

    def tag_number(self, raw: bytes) -> int:
        """Return the number of a tag; two that read alike as text have the same."""
        number = self._raw.get(raw)
        if number is None:
            name = raw.decode("utf-8", "replace")
            number = self._raw[raw] = self._ids.setdefault(name, len(self._ids))
            if number == len(self.tags):
                self.tags.append(name)
        return number

    def tags_of(self, kind: NDArray[np.int32]) -> IntArray:
        """Return the numbers of the tags of kinds, -1 for that of none."""
        return self._tag_of.take(kind)

    def parts(self, found: Found, *, narrow: bool = False) -> list[Part | None]:
        """Return the scalars that were decoded, by span and tag. `narrow`: see `parts_of`."""
        return parts_of(self.tags_of(found.kind), found.step, found.wall_time, found.value, found.rows, narrow=narrow)

    def decode(self, data: bytes, spans: Sequence[Span]) -> Found:
        """Return the records of the spans of a buffer, each of which begins where a record does.

        `data`: with `MARGIN` zeros in front and behind. `spans`: in order.
        """
        start, rows = _candidates(data)
        stop = start + rows[:, 0].astype(np.int64) + OVERHEAD
        keep, others, ends = _chains(data, start, stop, spans)
        if isinstance(keep, slice):
            start, rows, stop = start[keep], rows[keep], stop[keep]
        else:
            start, rows, stop = start.take(keep), rows.take(keep, axis=0), stop.take(keep)
        bounds = np.searchsorted(start, [place for span in spans for place in span]).tolist()
        in_spans = list(zip(bounds[::2], bounds[1::2], strict=True))
        kind, step, value, wall = self._decode(data, start, stop - 4, rows)
        return Found(start, kind, step, value, wall, in_spans, others, ends, np.flatnonzero(kind < 0))

    def _decode(
        self, data: bytes, start: IntArray, end: IntArray, rows: Words
    ) -> tuple[NDArray[np.int32], IntArray, NDArray[np.float32], FloatArray]:
        """Return kind, step, value and wall time of records. `rows`: (n, 4), their first 32 bytes."""
        wall = (rows[:, 1] >> np.uint64(40)) | (rows[:, 2] << np.uint64(24))
        head = (rows[:, 2] >> np.uint64(40)) | (rows[:, 3] << np.uint64(24))  # what follows the wall time
        key = head.astype(np.uint8)
        stepped = key == _STEP
        last = ~head & _HIGH_BITS
        last &= ~last + np.uint64(1)  # the lowest high bit that is clear: of the last byte of the step
        known = (rows[:, 1] >> np.uint64(32)).astype(np.uint8) == _WALL_TIME
        known &= (stepped & (last != 0)) | (key == _SUMMARY)
        if not stepped.all():
            last[~stepped] = 128  # a step of no bytes
        coded = (head & (last + last - np.uint64(1))) >> np.uint64(8)
        top = int(last.max(initial=128))
        size = stepped.astype(np.uint8)  # of the step, with its key
        for k in range(7):
            if top >> (8 * k + 15):
                size += (last >= np.uint64(1 << (8 * k + 15))).view(np.uint8)
        length = end - start - HEADER.size
        body = length - 9 - size
        known &= body >= 4
        kind = self._kinds_of(data, start, end, body, None if known.all() else np.flatnonzero(known))
        step = _compact(coded, top)
        value = self._verify(data, end, length, kind, (wall, coded, stepped), (top.bit_length() - 8) // 8)
        return kind, step, value, wall.view(np.float64)

    def _kinds_of(self, data: bytes, start: IntArray, end: IntArray, body: IntArray, left: IntArray | None) -> NDArray[np.int32]:
        """Return (n,): the kind of each record by its body, -1 where it has none. `left`: those that may have one."""
        kind = np.full(start.size, -1, dtype=np.int32)
        hits: dict[int, int] = {}
        longest = int(body.max(initial=0)) if left is None else int(body[left].max(initial=0))
        while len(hits) < len(self._forms):
            distance = self._forms[len(hits)]
            for width in WIDTHS:
                if longest <= (width // 2 if width > WIDTHS[0] else 0):
                    break
                mine = body if left is None else body[left]
                inside = (mine > (width // 2 if width > WIDTHS[0] else 0)) & (mine <= width) & (mine >= distance)
                if not inside.any():
                    continue
                if inside.all() and left is None:
                    kind = self._of_family(data, start, end, body, distance, width)
                else:
                    chosen = np.flatnonzero(inside) if left is None else left[inside]
                    kind[chosen] = self._of_family(data, start, end[chosen], body[chosen], distance, width, chosen)
            missing = kind < 0 if left is None else kind[left] < 0
            hits[distance] = missing.size - int(np.count_nonzero(missing))
            if hits[distance] == missing.size:
                break
            left = np.flatnonzero(missing) if left is None else left[missing]
        self._forms.sort(key=lambda form: -hits.get(form, 0))  # what fits most is tried first
        return kind

    def _of_family(
        self,
        data: bytes,
        start: IntArray,
        end: IntArray,
        body: IntArray,
        distance: int,
        width: int,
        chosen: IntArray | None = None,
    ) -> NDArray[np.int32]:
        """Return (n,): the kinds of records whose bodies are of one family. `chosen`: which of `start` they are, None for all."""
        family = self._families.get((distance, width))
        if family is None:
            family = self._families[distance, width] = _Family(distance, width)
        rows, hashes = family.rows(_view(data, f"V{width}"), end, body)
        kind = family.look_up(rows, hashes)
        missing = np.flatnonzero(kind < 0)
        if missing.size and self._learn(
            data, start if chosen is None else start[chosen], family, distance, rows, hashes, missing
        ):
            kind[missing] = family.look_up(rows[missing], hashes[missing])
        return kind

    def _learn(
        self, data: bytes, start: IntArray, family: _Family, distance: int, rows: Words, hashes: Words, missing: IntArray
    ) -> bool:
        """Let the exact parser read one record of each body that is new; return whether it made sense of any."""
        _, first, count = np.unique(hashes[missing], return_index=True, return_counts=True)
        learned = failed = 0
        for row in missing[first[np.lexsort((first, -count))]].tolist():  # what most records share first
            kind, at = self._kind_of_record(data, int(start[row]))
            if kind is None or at != distance:
                if kind is not None and at not in self._forms and len(self._forms) < FORMS:
                    self._forms.append(at)
                failed += 1
                if failed > PATIENCE + learned:
                    break
                continue
            learned += 1
            family.add(rows[row], int(hashes[row]), self._note(kind, at, rows[row]))
        return learned > 0

    def _kind_of_record(self, data: bytes, start: int) -> tuple[Kind | None, int]:
        """Return what a record holds and where its value stands, from its end; None when no other can be read alike."""
        length = length_at(data, start)
        payload = data[start + HEADER.size : start + HEADER.size + length]
        if not payload_fits(data, start, length):
            return None, 0
        try:
            event = parse_event(payload)
        except WireError:
            return None, 0
        value = event.values[0] if len(event.values) == 1 else None
        if value is None or value.number_at is None or not _is_plain(event):
            return None, 0
        if value.plugin is not None and value.plugin not in SCALAR_PLUGINS:
            return None, 0
        return Kind(self.tag_number(value.tag), value.is_tensor, value.plugin), length - value.number_at[0]

    def _note(self, kind: Kind, distance: int, row: Words) -> int:
        number = len(self.kinds)
        self.kinds.append(kind)
        if kind.is_tensor:
            self.tensor_tags.add(self.tags[kind.tag])
        self.declares |= kind.plugin is not None
        if number == self._tag_of.size - 1:
            for name, empty in (("_tag_of", -1), ("_crc_of", 0), ("_distance_of", 0)):
                old = getattr(self, name)
                setattr(self, name, np.concatenate([old, np.full_like(old, empty)]))
        self._tag_of[number], self._distance_of[number] = kind.tag, distance
        masked = row.view(np.uint8)
        self._crc_of[number] = np.bitwise_xor.reduce(distance_tables()[np.arange(masked.size - 1, -1, -1), masked])
        return number

    def _verify(
        self,
        data: bytes,
        end: IntArray,
        length: IntArray,
        kind: NDArray[np.int32],
        parts: tuple[Words, Words, NDArray[np.bool_]],
        step_bytes: int,
    ) -> NDArray[np.float32]:
        """Return the values; the kind of a record whose checksum does not fit becomes -1.

        `parts`: wall time, coded step, and whether there is a step.
        """
        wall, coded, stepped = parts
        tables = distance_tables()
        table = tables.ravel()
        view = _view(data, "<u8")
        tail = view[end - 4].view(np.uint32).reshape(-1, 2)
        value = tail[:, 0].copy()
        elsewhere = distance = np.empty(0, dtype=np.int64)
        if len(self._forms) > 1:
            distance = self._distance_of.take(kind, mode="clip")
            elsewhere = np.flatnonzero(distance != 4)
            value[elsewhere] = view[end[elsewhere] - distance[elsewhere]].astype(np.uint32)
        # Wall times of one time have upper bytes in common: those are summed once for each length.
        common = wall[:1].tobytes().ljust(8, b"\0")
        varying = int(np.bitwise_or.reduce(wall ^ wall[:1])).to_bytes(8, "little")
        frames = _frame_crcs().copy().reshape(2, 256)
        crc = self._crc_of.take(kind, mode="clip")
        place = (length - 2) * 256
        for k, column in enumerate(wall.view(np.uint8).reshape(-1, 8).T):
            if varying[k]:
                crc ^= table.take(place + column, mode="clip")
            else:
                frames[:, 2 + k :] ^= tables[: 254 - k, common[k]]
            place -= 256
        crc ^= frames.ravel().take(length + 256 * stepped if not stepped.all() else length + 256)
        place -= 256  # the key of the step
        for column in coded.view(np.uint8).reshape(-1, 8).T[:step_bytes]:
            crc ^= table.take(place + column, mode="clip")
            place -= 256
        if not elsewhere.size:
            for k, column in enumerate(value.view(np.uint8).reshape(-1, 4).T):
                crc ^= tables[3 - k].take(column)
        else:
            place = (distance - 1) * 256
            for column in value.view(np.uint8).reshape(-1, 4).T:
                crc ^= table.take(place + column, mode="clip")
                place -= 256
        stored = tail[:, 1]
        kind[_masked(crc) != stored] = -1
        return value.view(np.float32)


def _is_plain(event: Event) -> bool:
    """Whether a record has wall time, step and summary in this order, and nothing else."""
    return event.fields in ([1, 2, 5], [1, 5])


def _candidates(data: bytes) -> tuple[IntArray, Words]:
    """Return the places where a record below 256 bytes may begin, in order, and the 32 bytes from there on: (n,), (n, 4).

    The checksum of the length fits at each.
    """
    words = np.frombuffer(data, dtype="<u4", count=len(data) // 4)
    zeros = np.flatnonzero(words == 0)
    before = words.take(zeros - 1, mode="wrap")
    if not before.all():
        some = np.flatnonzero(before)
        zeros, before = zeros.take(some), before.take(some)
    # The record begins at the last byte before the zeros that is none.
    later = (before > 0xFF).view(np.uint8) + (before > 0xFFFF).view(np.uint8) + (before > 0xFFFFFF).view(np.uint8)
    start = 4 * zeros
    start += later
    start -= 4
    start = start[: np.searchsorted(start, len(data) - MARGIN)]
    rows = _view(data, "V32")[start].view(np.uint64).reshape(-1, 4)
    length = rows[:, 0]
    fits = rows.view(np.uint32)[:, 2] == _length_crcs().take(length.view(np.int64), mode="clip")
    fits &= length < 256
    if not fits.all():
        kept = np.flatnonzero(fits)
        start, rows = start.take(kept), rows.take(kept, axis=0)
    return start, rows


def _chains(
    data: bytes, start: IntArray, stop: IntArray, spans: Sequence[Span]
) -> tuple[IntArray | slice, list[list[int]], list[int]]:
    """Return which of the candidates are records; the starts of longer ones by span; where chains end."""
    breaks = [*np.flatnonzero(stop[:-1] != start[1:]).tolist(), start.size - 1]
    runs: list[Span] = []
    others: list[list[int]] = []
    ends = []
    firsts = np.searchsorted(start, [at for at, _ in spans]).tolist()
    for (at, limit), first in zip(spans, firsts, strict=True):
        longer: list[int] = []
        while at < limit:
            if first < start.size and start[first] == at:
                last = breaks[bisect_left(breaks, first)]
                if stop[last] > limit:  # what is not whole, and the files behind
                    last = first + int(np.searchsorted(stop[first : last + 1], limit, side="right")) - 1
                if last < first:
                    break
                if runs and runs[-1][1] == first:
                    runs[-1] = (runs[-1][0], last + 1)
                else:
                    runs.append((first, last + 1))
                at = int(stop[last])
                first = last + 1
            else:
                length = length_at(data, at) if at + HEADER.size <= limit else -1
                if length < 0 or at + OVERHEAD + length > limit:
                    break
                longer.append(at)
                at += OVERHEAD + length
            if at < limit and not (first < start.size and start[first] == at):
                first = int(np.searchsorted(start, at))
        others.append(longer)
        ends.append(at)
    if len(runs) < 2:
        return slice(*(runs[0] if runs else (0, 0))), others, ends
    edge = np.zeros(start.size + 1, dtype=np.int8)
    edge[[first for first, _ in runs]] = 1
    edge[[last for _, last in runs]] = -1
    return np.flatnonzero(np.cumsum(edge[:-1], dtype=np.int8)), others, ends


def _compact(coded: Words, top: int) -> IntArray:
    """Return the numbers of varints: seven bits of each byte. `top`: the highest bit that ends one of them."""
    step = coded & np.uint64(0x7F7F7F7F7F7F7F7F)
    if top > 1 << 15:
        step = (step & np.uint64(0x007F007F007F007F)) | ((step & np.uint64(0x7F007F007F007F00)) >> np.uint64(1))
    if top > 1 << 23:
        step = (step & np.uint64(0x00003FFF00003FFF)) | ((step & np.uint64(0x3FFF00003FFF0000)) >> np.uint64(2))
    if top > 1 << 39:
        step = (step & np.uint64(0x000000000FFFFFFF)) | ((step & np.uint64(0x0FFFFFFF00000000)) >> np.uint64(4))
    return step.view(np.int64)
