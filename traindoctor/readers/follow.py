"""A log that grows, read again and again: each reading costs the new bytes alone.

    follower = follow("runs/exp7/metrics.csv")
    while True:
        for log in follower.read():  # what came since the last reading; no log when nothing did
            ...

The state is small: where the last whole record ended, and the lines that are needed to understand the next one. Where
rows have no counter of their own (rows are counted, or batches within an epoch), that is all of them. A last line or record
that is half written waits for the rest of it. A file that was written anew is read from its start, which is told as a damage.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage
from traindoctor.readers.events import EVENTS, EventTail
from traindoctor.readers.formats import Format, by_name, detect, format_named
from traindoctor.readers.log import NO_HINTS, Hints, Log
from traindoctor.readers.storage import COMPRESSED, locate, plain_name, read_head

if TYPE_CHECKING:
    from pathlib import Path

#: Formats whose files only grow, line by line, each line understood by itself once the first lines are known.
BY_LINE = ("csv", "jsonl", "mmengine", "detectron2", "text")
#: Bytes of the start of a file by which it is known again, and of the end of a text log by which its next lines are.
FINGERPRINT, CONTEXT = 256, 65_536
#: What says that the steps of a line depend on all lines before it.
COUNTED = frozenset({"steps-of-epochs", "steps-from-epochs", "no-step", "no-steps", "fractional-steps", "appended-runs"})


class Follower(Protocol):
    """What follows a file that grows."""

    def read(self) -> tuple[Log, ...]:
        """Return the logs of what came since the last reading.

        Raises: UnreadableInputError when the file is gone, or what came cannot be understood.
        """
        ...


def follow(path: Path | str, hints: Hints = NO_HINTS, format_name: str = "") -> Follower:
    """Return a follower of a file, here or at a URL, that has read nothing yet.

    Raises: UnreadableInputError when there is no such file, or its format is not one whose files only grow.
    """
    place = locate(path)
    head = read_head(place, str(path))
    kind = format_named(format_name) if format_name else detect(head, plain_name(place)) or by_name(plain_name(place))
    if place.suffix.lower() in COMPRESSED:
        raise UnreadableInputError(str(path), "is compressed: such a file does not grow", "read it whole with read_runs")
    if kind is None or kind.name not in (EVENTS, *BY_LINE):
        name = kind.name if kind else "no known format"
        what = f"{name} is not written line by line: it cannot be followed"
        raise UnreadableInputError(str(path), what, "read it whole with read_runs")
    return _EventFollower(place, str(path)) if kind.name == EVENTS else _LineFollower(place, str(path), kind, hints)


class _EventFollower:
    def __init__(self, place: Path, file: str) -> None:
        self._tail = EventTail(place, file)

    def read(self) -> tuple[Log, ...]:
        log = self._tail.read()
        return (log,) if log.series or log.histograms or log.damages else ()


class _LineFollower:
    """Follows a file of lines. The new ones are read behind some that are known, and what those hold is cut off again.

    The line numbers in damages count from the first of the lines that were read together.
    """

    def __init__(self, place: Path, file: str, kind: Format, hints: Hints) -> None:
        self._place, self._file, self._kind, self._hints = place, file, kind, hints
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._offset = 0
        self._start = b""
        self._known = b""
        self._needs_all = False
        self._points: list[dict[str, int]] = []
        self._damages: set[Damage] = set()

    def read(self) -> tuple[Log, ...]:
        new, is_anew = self._new_bytes()
        whole = new[: new.rfind(b"\n") + 1]
        if not whole:
            return ()
        logs = self._kind.read(self._known + whole, self._file, self._hints)
        if not any(log.series for log in logs):
            return ()  # a header, a preamble: the lines that say something are still to come
        fresh = tuple(self._new(i, log) for i, log in enumerate(logs) if log.series)
        if is_anew:
            damage = Damage("rewritten", self._file, "the file was written anew: it is read from its start")
            fresh = (replace(fresh[0], damages=(damage, *fresh[0].damages)), *fresh[1:])
        self._remember(whole, logs)
        return tuple(log for log in fresh if log.series or log.damages)

    def _new_bytes(self) -> tuple[bytes, bool]:
        """Return what stands behind the last whole line that was read, and whether the file was written anew."""
        try:
            with self._place.open("rb") as stream:
                is_anew = stream.read(len(self._start)) != self._start
                if is_anew:
                    self._begin_anew()
                stream.seek(self._offset)
                return stream.read(), is_anew
        except OSError as error:
            raise UnreadableInputError(self._file, f"cannot be read: {error.strerror or error}") from error

    def _remember(self, whole: bytes, logs: tuple[Log, ...]) -> None:
        """Keep the lines by which the next ones are understood, and how many points they hold."""
        first = not self._offset
        self._offset += len(whole)
        if first:
            self._start = whole[:FINGERPRINT]
            self._needs_all = len(logs) > 1 or logs[0].step_unit == "row" or any(d.kind in COUNTED for d in logs[0].damages)
            if logs[0].step_source and self._hints.step_column is None and self._kind.name != "text":
                self._hints = replace(self._hints, step_column=logs[0].step_source)
        if self._needs_all:
            self._known += whole
        elif self._kind.name == "text":
            last = (self._known + whole)[-CONTEXT:]
            self._known = last[last.find(b"\n") + 1 :] if len(last) == CONTEXT else last
        elif first and self._kind.name == "csv":
            self._known = _header(whole)
        if self._needs_all or self._kind.name == "text":
            known = logs if self._needs_all else self._kind.read(self._known, self._file, self._hints)
            self._points = [{s.tag: len(s) for s in log.series} for log in known]
            self._damages = {damage for log in known for damage in log.damages}

    def _new(self, number: int, log: Log) -> Log:
        """Return the log without the points and the damages of the lines that were known before."""
        known = self._points[number] if number < len(self._points) else {}
        counts = [(s, known.get(s.tag, 0)) for s in log.series]
        series = tuple(replace(s, step=s.step[n:], value=s.value[n:], wall_time=s.wall_time[n:]) for s, n in counts if len(s) > n)
        return replace(log, series=series, damages=tuple(d for d in log.damages if d not in self._damages))


def _header(data: bytes) -> bytes:
    """Return the lines of a table up to and with its header: comments, and the first line that is none."""
    at = 0
    while at < len(data):
        stop = data.find(b"\n", at) + 1
        line = data[at:stop].strip()
        if line and not line.startswith(b"#"):
            return data[:stop]
        at = stop
    return b""
