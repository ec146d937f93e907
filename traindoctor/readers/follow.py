"""A log that grows, read again and again: each reading costs the new bytes alone.

    follower = follow("runs/exp7/metrics.csv")
    while True:
        for log in follower.read():  # what came since the last reading; no log when nothing did
            ...

The state is small where each row holds the step it belongs to: where the last whole record ended, and the header. Where a
row depends on those before it (rows are counted, or batches within an epoch; lines of a text; blanks that may be NaN), the
lines so far are kept and parsed again. A last line or record that is half written waits for the rest of it. A file that
was written anew is read from its start, which is told as a damage.
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
#: Formats of which a row may be understood by itself.
BY_ROW = ("csv", "jsonl")
#: Bytes of the start of a file by which it is known again.
FINGERPRINT = 256
#: What says that the steps of a line depend on all lines before it.
COUNTED = frozenset({"steps-of-epochs", "steps-from-epochs", "no-step", "no-steps", "fractional-steps", "appended-runs"})


class Follower(Protocol):
    """What follows a file that grows."""

    def read(self) -> tuple[Log, ...]:
        """Return the logs of what came since the last reading.

        Raises: UnreadableInputError when the file is gone.
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

    Known are the header of a table and nothing else where each line is understood by itself; else all lines so far. The
    line numbers in damages count from the first of the lines that were read together.
    """

    def __init__(self, place: Path, file: str, kind: Format, hints: Hints) -> None:
        self._place, self._file, self._kind, self._hints = place, file, kind, hints
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._offset = 0
        self._start = b""
        self._known = b""
        self._keeps_all = False
        self._points: list[dict[str, int]] = []
        self._damages: set[Damage] = set()
        self._last_step: int | None = None

    def _goes_on(self, log: Log) -> bool:
        """Whether the steps of new lines lie behind those that are known."""
        return self._last_step is None or all(int(s.step.min()) > self._last_step for s in log.series)

    def read(self) -> tuple[Log, ...]:
        new, is_anew = self._new_bytes()
        whole = new[: new.rfind(b"\n") + 1]
        if not whole:
            return ()
        try:
            logs = self._kind.read(self._known + whole, self._file, self._hints)
            if self._offset and not self._keeps_all and not all(_is_plain(log) and self._goes_on(log) for log in logs):
                self._keeps_all = True  # these lines are not understood by themselves: all are read together from now on
                self._known = self._before()
                logs = self._kind.read(self._known + whole, self._file, self._hints)
        except UnreadableInputError:
            return ()  # too few lines to tell what they are: they are read again with the next ones
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
                is_anew = stream.read(len(self._start)) != self._start or stream.seek(0, 2) < self._offset
                if is_anew:
                    self._begin_anew()
                stream.seek(self._offset)
                return stream.read(), is_anew
        except OSError as error:
            raise UnreadableInputError(self._file, f"cannot be read: {error.strerror or error}") from error

    def _before(self) -> bytes:
        try:
            with self._place.open("rb") as stream:
                return stream.read(self._offset)
        except OSError as error:
            raise UnreadableInputError(self._file, f"cannot be read: {error.strerror or error}") from error

    def _remember(self, whole: bytes, logs: tuple[Log, ...]) -> None:
        """Keep the lines by which the next ones are understood, and how many points are known."""
        if not self._offset:
            self._start = whole[:FINGERPRINT]
            column = logs[0].step_source
            has_count = bool(column) and column.encode() in whole[: whole.find(b"\n")]
            self._keeps_all = self._kind.name not in BY_ROW or not has_count or not all(map(_is_plain, logs))
            if not self._keeps_all:
                self._known = _header(whole) if self._kind.name == "csv" else b""
                self._hints = replace(self._hints, step_column=self._hints.step_column or column)
        self._offset += len(whole)
        if self._keeps_all:
            self._known += whole
            self._points = [{s.tag: len(s) for s in log.series} for log in logs]
        elif len(logs) == 1:
            held = self._points[0] if self._points else {}
            self._points = [held | {s.tag: held.get(s.tag, 0) + len(s) for s in logs[0].series}]
        self._last_step = max((int(s.step.max()) for log in logs for s in log.series), default=self._last_step)
        self._damages |= {damage for log in logs for damage in log.damages}

    def _new(self, number: int, log: Log) -> Log:
        """Return the log without the points and the damages of the lines that were known before."""
        known = self._points[number] if self._keeps_all and number < len(self._points) else {}
        counts = [(s, known.get(s.tag, 0)) for s in log.series]
        series = tuple(replace(s, step=s.step[n:], value=s.value[n:], wall_time=s.wall_time[n:]) for s, n in counts if len(s) > n)
        return replace(log, series=series, damages=tuple(d for d in log.damages if d not in self._damages))


def _is_plain(log: Log) -> bool:
    """Whether each row of a log holds all its columns and the step: no row needs another one to be understood."""
    lengths = {len(s) for s in log.series}
    return len(lengths) < 2 and log.step_unit != "row" and not log.goes_back and not any(d.kind in COUNTED for d in log.damages)


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
