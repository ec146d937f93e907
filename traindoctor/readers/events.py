"""TensorBoard event files -> logs: scalars, histograms, settings, session starts, and what was lost.

Two readers give the same answer. The exact one (`wire.py`) reads record by record, whatever is in it; the fast one
(`columnar.py`) decodes the plain scalars of millions of records together and hands the exact one the rest. Here files
are streamed in chunks, small ones packed into one, and what comes out is put together by tag.

A file that was damaged is read as far as it goes: a record with a bad checksum is lost alone; behind bytes that are no
record the next one is searched for. `EventTail` reads what was added to a file since the last time.

Source: tensorboard/compat/proto/event.proto and summary.proto; tensorboard/plugins/*/metadata.py.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import IO, TYPE_CHECKING, TypeAlias, cast

import numpy as np

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage
from traindoctor.readers.buckets import histogram_of, of_proto, of_tensor
from traindoctor.readers.by_tag import Part, join, parts_of
from traindoctor.readers.columnar import MARGIN, Decoder
from traindoctor.readers.event_texts import LONGEST_TEXT, parse_hparams, settings_of
from traindoctor.readers.log import NO_HINTS, Hints, Log
from traindoctor.readers.storage import COMPRESSED, open_log
from traindoctor.readers.tfrecord import HEADER, OVERHEAD, headers_from, length_at, masked_crc, payload_fits
from traindoctor.readers.wire import (
    SCALAR_PLUGINS,
    START,
    Event,
    Value,
    WireError,
    parse_event,
    parse_strings,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from traindoctor.readers.columnar import Found, Kind
    from traindoctor.readers.storage import LogStream

    Content: TypeAlias = float | tuple[float, ...] | dict[str, object] | bytes

#: The name of the format.
EVENTS = "tensorboard"
#: Bytes that are read at once: what is made of them stays in the cache of a core.
CHUNK = 2**19
#: Bytes of small files that are read together.
PACK = 2**20
#: Bytes from which records are decoded together; below, the passes cost more than they save.
FEW = 2**14
#: Times that the decoding together starts again behind damage within a chunk, before it is left alone.
AGAIN = 8
#: Lost records that are named one by one; the others are counted.
NAMED = 8
#: Bytes at the beginning of a file among which one record must be found, and records of which one must be an event.
SEARCHED, TRIED = 2**20, 100
#: A search may check payloads of so many bytes for each byte that it passes, and so many besides, so that no file makes
#: it look at the same bytes for ever.
EFFORT, ALLOWANCE = 16, 2**20
#: First bytes of a file that is followed, by which a new one is told.
HEAD = 64
HPARAMS, HISTOGRAMS, TEXT = b"hparams", b"histograms", b"text"


class _File:
    """What is known of one file while it is read. Offsets are in the file; places are in a buffer that holds a part of it."""

    def __init__(self, file: str, decoder: Decoder) -> None:
        self.file, self.decoder = file, decoder
        self.parts: list[Part] = []
        self.more: list[tuple[int, int, int, float, float]] = []  # offset, tag, step, wall time, value
        self.plugins: dict[int, bytes] = {}  # tag -> plugin, of the first metadata
        self.foreign: set[str] = set()  # tags of other plugins than scalars
        self.histograms: dict[int, list[tuple[float, ...]]] = {}
        self.hparams: dict[str, object] = {}
        self.texts: dict[str, bytes] = {}
        self.starts: list[int] = []
        self.begun = float("nan")
        self.head = b""
        self.good = self.framed = self.no_events = 0
        self.damages: list[Damage] = []
        self.n_unnamed, self.unnamed_from = 0, -1  # losses that are counted only, and the offset of the first one
        self.lost_from = -1  # offset from which no record could be read, while the next one is searched for
        self.reason, self.is_cut = "", False
        self.passed = self.checked = 0  # bytes passed by searches, bytes of payloads that they checked

    # -- record by record

    def walk(self, data: bytes, at: int, stop: int, origin: int, *, final: bool, until_ready: bool = False) -> tuple[int, bool]:
        """Read records one by one; return where what is left begins, and whether it waits for more of the file.

        `origin`: offset of the buffer's first byte in the file. `until_ready`: stop as soon as the next record can be
        read with others.
        """
        while at < stop:
            if self.lost_from >= 0:
                at, waits = self._search(data, at, stop, origin, final)
                if waits:
                    return at, True
                if at == stop:
                    break
            whole = stop - at >= HEADER.size
            length = length_at(data, at) if whole else 0
            end = at + OVERHEAD + length
            if length >= 0 and end > stop:
                if not final:
                    return at, True
                self._lose_from(origin + at, f"the file ends inside a record{'' if whole else ' header'}", is_cut=True)
                at += 1
                continue
            if length < 0:
                claimed, crc = HEADER.unpack_from(data, at)
                fits = masked_crc(data[at : at + 8]) == crc
                why = f"a record claims {claimed:,} bytes" if fits else "the checksum of a record's length does not fit"
                self._lose_from(origin + at, why)
                at += 1
                continue
            if payload_fits(data, at, length):
                self._read_one(data[at + HEADER.size : end - 4], origin + at)
            elif stop - end < HEADER.size and not final:
                return at, True  # whether this length is to be trusted, the next one tells
            elif stop - end >= HEADER.size and length_at(data, end) < 0:
                self._lose_from(origin + at, "the checksum of a record does not fit, nor that of the next length")
                at += 1
                continue
            else:
                self._lose_one(origin + at, "the checksum of a record does not fit")
            self.framed += 1
            at = end
            if until_ready and self.good:
                return at, False
        return at, False

    def _lose_from(self, offset: int, reason: str, *, is_cut: bool = False) -> None:
        self.lost_from, self.reason, self.is_cut = offset, reason, is_cut

    def _search(self, data: bytes, at: int, stop: int, origin: int, final: bool) -> tuple[int, bool]:
        """Return where the next record is of which both checksums fit, `stop` for none; and whether that is undecided yet."""
        for place, length in headers_from(data, at, stop):
            passed = self.passed + origin + place - self.lost_from
            if self.checked + length > EFFORT * passed + ALLOWANCE:
                continue
            if not self.framed and origin + place > SEARCHED:
                raise self._refusal()
            if place + OVERHEAD + length > stop:
                if final:
                    continue
                return place, True
            self.checked += length
            if payload_fits(data, place, length):
                lost = origin + place - self.lost_from
                self._lose(self.lost_from, f"{self.reason}: {lost:,} bytes are lost, up to the next whole record")
                self.passed += lost
                self.lost_from = -1
                return place, False
        if not self.framed and origin + stop - HEADER.size > SEARCHED:
            raise self._refusal()
        return (stop, False) if final else (max(at, stop - HEADER.size + 1), True)

    def _read_one(self, payload: bytes, offset: int) -> None:
        try:
            event = parse_event(payload)
            self._apply(event, offset)
        except WireError as error:
            self._no_event(offset, error)

    def _no_event(self, offset: int, error: WireError) -> None:
        self._lose_one(offset, f"a record is no event: {error}")
        self.no_events += 1
        if not self.good and self.no_events >= TRIED:
            raise self._refusal()

    def _apply(self, event: Event, offset: int) -> None:
        """Note what a record holds.

        Raises: WireError when a part of it does not parse; nothing of it is noted then.
        """
        notes: list[tuple[int, Content]] = []
        plugins: dict[int, bytes] = {}
        for value in event.values:
            tag = self.decoder.tag_number(value.tag)
            plugin = self.plugins.get(tag, plugins.get(tag))
            if plugin is None and value.plugin is not None:
                plugin = plugins[tag] = value.plugin
            found = _content(value, plugin)
            if found is not None:
                notes.append((tag, found))
        if not self.good:
            self.begun = event.wall_time
        self.good += 1
        self.plugins.update(plugins)
        self.foreign.update(self.decoder.tags[tag] for tag, plugin in plugins.items() if plugin not in SCALAR_PLUGINS)
        if event.session == START:
            self.starts.append(event.step)
        for tag, content in notes:
            if isinstance(content, float):
                self.more.append((offset, tag, event.step, event.wall_time, content))
            elif isinstance(content, tuple):
                self.histograms.setdefault(tag, []).append((event.step, event.wall_time, *content))
            elif isinstance(content, dict):
                self.hparams.update(content)
            else:
                self.texts.setdefault(self.decoder.tags[tag], content)

    # -- many together

    def read(self, data: bytes, at: int, stop: int, origin: int, *, final: bool, few: int) -> int:
        """Read the records of a stretch of the file; return where what is left begins.

        `few`: bytes below which records are read one by one; 0 for all of them always.
        """
        waits, again = False, 0
        while at < stop and not waits:
            if not self.good or self.lost_from >= 0:
                at, waits = self.walk(data, at, stop, origin, final=final, until_ready=True)
            elif not few or stop - at < few or again > AGAIN:
                at, waits = self.walk(data, at, stop, origin, final=final)
            else:
                found = self.decoder.decode(data, [(at, stop)])
                [part] = self.decoder.parts(found, narrow=True)
                at, waits = self.read_found(found, 0, part, data, at, stop, origin, final=final)
                again += 1
        self.gather()
        return at

    def read_found(
        self, found: Found, span: int, part: Part | None, data: bytes, at: int, stop: int, origin: int, *, final: bool
    ) -> tuple[int, bool]:
        """Note the records that were decoded together, read those that were not, and what stands in their way.

        `part`: the scalars that were decoded.
        """
        rows = slice(*found.rows[span])
        longer, end = found.others[span], found.ends[span]
        left = found.unknown(span)
        exact = sorted([*left, *longer]) if left else longer
        if exact and exact[-1] == max([*longer[-1:], *found.start[rows][-1:].tolist()]):
            end = exact.pop()  # what comes behind it tells whether its length is to be trusted
        events = [(place, self._parse(data, place)) for place in exact]
        if self.decoder.tensor_tags or self.decoder.declares:
            kind = found.kind[rows]
            present = [self.decoder.kinds[k] for k in np.flatnonzero(np.bincount(kind[kind >= 0])).tolist()]
            if self._is_in_doubt(events, present):
                return self.walk(data, at, stop, origin, final=final)
            for one in present:
                if one.plugin is not None:
                    self.plugins.setdefault(one.tag, one.plugin)
        for place, event in events:
            self.framed += 1
            if isinstance(event, Event):
                try:
                    self._apply(event, origin + place)
                except WireError as error:
                    self._no_event(origin + place, error)
            elif isinstance(event, WireError):
                self._no_event(origin + place, event)
            else:
                self._lose_one(origin + place, "the checksum of a record does not fit")
        if self.more and part is not None:
            known = np.flatnonzero(found.kind[rows] >= 0) + rows.start
            tag = self.decoder.tags_of(found.kind[known])
            self.gather((found.start[known] + origin, tag, found.step[known], found.wall_time[known], found.value[known]))
        elif part is not None:
            self.parts.append(part)
        if end == stop:
            return end, False
        return self.walk(data, end, stop, origin, final=final, until_ready=True)

    def _parse(self, data: bytes, place: int) -> Event | WireError | None:
        """Return what a whole record holds; None when its checksum does not fit."""
        length = length_at(data, place)
        if not payload_fits(data, place, length):
            return None
        try:
            return parse_event(data[place + HEADER.size : place + HEADER.size + length])
        except WireError as error:
            return error

    def _is_in_doubt(self, events: Sequence[tuple[int, object]], present: Sequence[Kind]) -> bool:
        """Whether a tensor that was taken for a scalar may belong to another plugin: its tag says so in another record."""
        tensors = {self.decoder.tags[kind.tag] for kind in present if kind.is_tensor}
        if not tensors:
            return False
        foreign = set(self.foreign)
        for _, event in events:
            for value in event.values if isinstance(event, Event) else ():
                if value.plugin is not None and value.plugin not in SCALAR_PLUGINS:
                    foreign.add(self.decoder.tags[self.decoder.tag_number(value.tag)])
        return not foreign.isdisjoint(tensors)

    def gather(self, columns: tuple[NDArray[np.generic], ...] | None = None) -> None:
        """Put scalars away by tag, in file order. `columns`: offset, tag, step, wall time, value."""
        if self.more:
            dtypes = (np.int64, np.int64, np.int64, np.float64, np.float64)
            mine = [np.array(column, dtype=dtype) for column, dtype in zip(zip(*self.more, strict=True), dtypes, strict=True)]
            self.more = []
            if columns is None:
                columns = tuple(mine)
            else:
                joined = [np.concatenate(pair) for pair in zip(columns, mine, strict=True)]
                order = np.argsort(joined[0], kind="stable")
                columns = tuple(column[order] for column in joined)
        if columns is not None:
            [part] = parts_of(*columns[1:], [(0, columns[0].size)], narrow=True)  # type: ignore[arg-type, misc]
            if part is not None:
                self.parts.append(part)

    # -- what was lost, and the end

    def _lose_one(self, offset: int, why: str) -> None:
        self._lose(offset, f"{why}: this record is lost")

    def _lose(self, offset: int, detail: str) -> None:
        if len(self.damages) < NAMED:
            self.damages.append(Damage("corrupt-record", self.file, detail, offset))
        else:
            self.unnamed_from = self.unnamed_from if self.n_unnamed else offset
            self.n_unnamed += 1

    def _refusal(self) -> UnreadableInputError:
        if self.no_events:
            what = "is not an event file: it holds records of another kind (a data set?)"
            return UnreadableInputError(self.file, what, "give the folder of the logs")
        return UnreadableInputError(
            self.file,
            f"is not an event file: {_what_it_is(self.head)}",
            "give the file that TensorBoard shows",
            "a table of values is read as CSV: rename it to .csv",
        )

    def finish(self, size: int, loss: str = "") -> Log:
        """Return the log of the whole file. `size`: bytes that were read; `loss`: what ended the reading before its time.

        Raises: UnreadableInputError when it is no event file.
        """
        maybe = self.is_cut and not any(self.head[3:8])  # a small length, then zeros
        if not self.good and (self.no_events or (size and not self.framed and not loss and not maybe)):
            raise self._refusal()
        end = []
        if self.lost_from >= 0:
            left = f"{size - self.lost_from:,} bytes"
            if self.is_cut:
                detail = f"{self.reason}, {left} after its start: {loss or 'the process died while it wrote'}"
            else:
                detail = f"{self.reason}: the last {left} are lost, no whole record follows"
            end = [Damage("truncated" if self.is_cut else "corrupt-record", self.file, detail, self.lost_from)]
        if loss and not self.is_cut:
            end.append(Damage("truncated", self.file, f"{loss}: {size:,} bytes of its content could be read"))
        elif not size:
            end.append(Damage("empty-file", self.file, "the file has 0 bytes: nothing was written", 0))
        return self.take(*end)

    def take(self, *end: Damage) -> Log:
        """Return the log of what was read since the last time. `end`: damages behind it."""
        self.gather()
        damages = self.damages
        if self.n_unnamed:
            damages.append(Damage("corrupt-record", self.file, f"{self.n_unnamed:,} further losses", self.unnamed_from))
        tags = self.decoder.tags
        parts, self.parts = self.parts, []
        log = Log(
            EVENTS,
            join(parts, tags, self.file),
            damages=(*damages, *end),
            starts=tuple(self.starts),
            histograms=tuple(histogram_of(tags[tag], rows, self.file) for tag, rows in self.histograms.items()),
            settings={**settings_of(self.texts), **self.hparams},
            begun=self.begun,
        )
        self.damages, self.n_unnamed, self.starts, self.histograms, self.texts, self.hparams = [], 0, [], {}, {}, {}
        return log


def _what_it_is(head: bytes) -> str:
    if head.startswith(b"version https://git-lfs"):
        return "it is a pointer of git-lfs, the log itself was not downloaded (git lfs pull)"
    if b"\0" not in head and not any(byte < 9 or 13 < byte < 32 for byte in head):
        return "it holds text"
    return "it does not begin with a record whose checksum fits"


def _content(value: Value, plugin: bytes | None) -> Content | None:
    """Return what a value holds: a number, a histogram, hyperparameters or a text; None for everything else.

    `plugin`: of its tag. A tensor of one number is a scalar unless the plugin of the tag says otherwise.

    Raises: WireError when a part does not parse.
    """
    if value.plugin == HPARAMS and value.content:
        return parse_hparams(value.content)
    if value.histogram is not None:
        return of_proto(value.histogram)
    if not value.is_tensor:
        return value.number
    if plugin is None or plugin in SCALAR_PLUGINS:
        return value.number
    if plugin == HISTOGRAMS:
        return of_tensor(value.tensor)
    if plugin == TEXT:
        return b"\n".join(parse_strings(value.tensor))[: LONGEST_TEXT + 1]
    return None


# -- files ------------------------------------------------------------------------------------------------------------


def looks_like_events(head: bytes, name: str) -> bool:  # noqa: ARG001 - one form for all formats
    """Whether the first bytes of a file are those of an event file: a record whose length fits, and which is an event."""
    length = length_at(head, 0)
    if length < 0 or len(head) < OVERHEAD + length:
        return length >= 0
    try:
        parse_event(head[HEADER.size : HEADER.size + length])
    except WireError:
        return False
    return payload_fits(head, 0, length)


def read_tensorboard(data: bytes, file: str, hints: Hints = NO_HINTS) -> tuple[Log, ...]:  # noqa: ARG001 - one form for all
    """Return the log of an event file of these bytes; nothing is left to be said of it by hints.

    Raises: UnreadableInputError when the bytes are no event file.
    """
    return (read_events(data, file),)


def read_events(data: bytes, file: str, *, fast: bool = True, chunk: int = CHUNK, few: int = FEW) -> Log:
    """Return the log of an event file of these bytes.

    `fast=False` reads every record by itself; the outcome is the same. `chunk`: bytes that are read at once; `few`:
    bytes below which records are read one by one.

    Raises: UnreadableInputError when the bytes are no event file.
    """
    one = _File(file, Decoder())
    stream = io.BytesIO(data)
    return one.finish(*_stream(one, stream.read(chunk), stream, chunk, few if fast else 0))


def read_event_file(place: Path, file: str) -> Log:
    """Return the log of an event file; `file` is how messages name it.

    Raises: UnreadableInputError when it cannot be opened or is no event file.
    """
    [log] = read_event_files([(place, file)])
    if isinstance(log, UnreadableInputError):
        raise log
    return log


def read_event_files(
    files: Sequence[tuple[Path, str]], *, chunk: int = CHUNK, few: int = FEW
) -> list[Log | UnreadableInputError]:
    """Return the logs of event files, in their order, or why one cannot be used. Small files are read together.

    `files`: place, and name for messages. `chunk`, `few`: as in `read_events`.
    """
    decoder = Decoder()
    found: dict[int, Log | UnreadableInputError] = {}
    pack: list[tuple[int, _File, bytes, str]] = []
    size = 0
    for number, (place, name) in enumerate(files):
        try:
            with open_log(place, name) as stream:
                one, data = _File(name, decoder), stream.read(chunk)
                if len(data) == chunk:
                    found[number] = one.finish(*_stream(one, data, stream, chunk, few))
                    continue
                pack.append((number, one, data, stream.loss))
        except UnreadableInputError as error:
            found[number] = error
            continue
        size += len(data)
        if size >= PACK:
            found.update(_read_pack(pack, decoder, few))
            pack, size = [], 0
    found.update(_read_pack(pack, decoder, few))
    return [found[number] for number in range(len(files))]


def _stream(one: _File, data: bytes, stream: LogStream | IO[bytes], chunk: int, few: int) -> tuple[int, str]:
    """Read a file to its end, a chunk at a time; return the bytes that it holds and what ended it before its time."""
    one.head = data[:512]
    margin = bytes(MARGIN)
    rest, offset, wanted = b"", 0, chunk
    while True:
        final = len(data) < wanted
        buffer = b"".join((margin, rest, data, margin))
        stop = len(buffer) - MARGIN
        at = one.read(buffer, MARGIN, stop, offset - MARGIN, final=final, few=few)
        offset += at - MARGIN
        if final:
            return offset, str(getattr(stream, "loss", ""))
        rest = buffer[at:stop]
        wanted = max(chunk, len(rest))  # a record of many chunks is not looked at once a chunk
        data = stream.read(wanted)


def _read_pack(
    pack: Sequence[tuple[int, _File, bytes, str]], decoder: Decoder, few: int
) -> dict[int, Log | UnreadableInputError]:
    """Return the logs of files that are held whole, by number: their records are decoded in one buffer."""
    margin = bytes(MARGIN)
    buffer = b"".join((margin, *(data for _, _, data, _ in pack), margin))
    found: dict[int, Log | UnreadableInputError] = {}
    waiting: list[tuple[int, int, int, int, _File, str]] = []
    place = MARGIN
    for number, one, data, loss in pack:
        begin, stop = place, place + len(data)
        place = stop
        one.head = data[:512]
        try:
            at, _ = one.walk(buffer, begin, stop, -begin, final=True, until_ready=True)
            waiting.append((number, begin, at, stop, one, loss))
        except UnreadableInputError as error:
            found[number] = error
    together, parts = None, []
    if few and sum(stop - at for _, _, at, stop, _, _ in waiting) >= few:
        together = decoder.decode(buffer, [(at, stop) for _, _, at, stop, _, _ in waiting])
        parts = decoder.parts(together)
    for span, (number, begin, at, stop, one, loss) in enumerate(waiting):
        try:
            if together is not None and at < stop:
                at, _ = one.read_found(together, span, parts[span], buffer, at, stop, -begin, final=True)
            if at < stop:
                one.read(buffer, at, stop, -begin, final=True, few=few)
            found[number] = one.finish(stop - begin, loss)
        except UnreadableInputError as error:
            found[number] = error
    return found


# -- a file that grows ------------------------------------------------------------------------------------------------


class EventTail:
    """An event file that is still written: each `read` returns what was added since the last one.

    The work is that of the new bytes. A record that is half written waits. What earlier records said of a tag is kept.
    """

    def __init__(self, place: Path, file: str, *, chunk: int = CHUNK, few: int = FEW) -> None:
        self._place, self._name, self._chunk, self._few = place, file, chunk, few
        self._begin()

    def _begin(self) -> None:
        self._decoder = Decoder()
        self._file = _File(self._name, self._decoder)
        self._offset = 0  # in the file, of what was read and not yet understood
        self._rest = b""

    def read(self) -> Log:
        """Return the log of the new records. A file that shrank, or begins otherwise, is read anew, which a damage says.

        Raises: UnreadableInputError when it cannot be opened, is no event file or is compressed.
        """
        try:
            with cast("IO[bytes]", self._place.open("rb")) as stream:
                return self._read(stream)
        except OSError as error:
            raise UnreadableInputError(self._name, f"cannot be read: {error.strerror or error}") from error

    def _read(self, stream: IO[bytes]) -> Log:
        one = self._file
        end = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        head = stream.read(HEAD)
        if head.startswith(tuple(COMPRESSED.values())):
            raise UnreadableInputError(self._name, "is compressed: it cannot be followed while it grows", "read it whole")
        rewritten = []
        if end < self._offset + len(self._rest) or head[: len(one.head)] != one.head[: len(head)]:
            detail = f"the file was written anew: it is read from its start, {self._offset:,} bytes were read before"
            rewritten = [Damage("rewritten", self._name, detail, 0)]
            self._begin()
            one = self._file
        one.head = head
        stream.seek(self._offset + len(self._rest))
        margin = bytes(MARGIN)
        while data := stream.read(max(self._chunk, len(self._rest))):
            buffer = b"".join((margin, self._rest, data, margin))
            stop = len(buffer) - MARGIN
            at = one.read(buffer, MARGIN, stop, self._offset - MARGIN, final=False, few=self._few)
            self._offset += at - MARGIN
            self._rest = buffer[at:stop]
        if not one.framed and one.lost_from >= 0:
            raise UnreadableInputError(
                self._name, f"is not an event file: {_what_it_is(head)}", "give the file that TensorBoard shows"
            )
        log = one.take()
        return replace(log, damages=(*rewritten, *log.damages))
