"""A log that grows: each reading costs the new bytes, and all readings together give what one reading of the whole does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.readers.wire import event, loss_file, record, simple
from traindoctor.errors import UnreadableInputError
from traindoctor.readers import follow as module
from traindoctor.readers.discover import read_runs
from traindoctor.readers.follow import follow
from traindoctor.readers.formats import detect, format_named

if TYPE_CHECKING:
    from traindoctor.readers.log import Log

N = 60
CSV = b"step,loss,lr\n" + b"".join(b"%d,%.6f,0.1\n" % (i, 1 / (i + 1)) for i in range(N))
EPOCHS = b"epoch,batch,loss\n" + b"".join(b"%d,%d,%.6f\n" % (i // 10, i % 10, 1 / (i + 1)) for i in range(N))
JSONL = b"".join(json.dumps({"step": i, "loss": 1 / (i + 1), "a": {"b": i}}).encode() + b"\n" for i in range(N))
TEXT = b"starting up\n" + b"".join(
    b"2024-05-01 12:00:%02d INFO step %d loss %.6f lr 0.1\n" % (i, i, 1 / (i + 1)) for i in range(N)
)
EVENTS = loss_file([1 / (i + 1) for i in range(N)])


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def points(logs: list[Log]) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for series in (s for log in logs for s in log.series):
        found.setdefault(series.tag, []).extend(zip(series.step.tolist(), series.value.tolist(), strict=True))
    return found


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("metrics.csv", CSV, "csv"),
        ("epochs.csv", EPOCHS, "csv"),
        ("log.jsonl", JSONL, "jsonl"),
        ("train.log", TEXT, "text"),
        ("events.out.tfevents.1.h", EVENTS, "tensorboard"),
    ],
)
@pytest.mark.parametrize("pieces", [2, 7, 40])
def test_all_readings_together_are_one_reading_of_the_whole(
    tmp_path: Path, name: str, data: bytes, kind: str, pieces: int
) -> None:
    path = put(tmp_path / name, data[: len(data) // 4])
    follower = follow(path)
    logs = list(follower.read())
    for at in np.linspace(len(data) // 4, len(data), pieces, dtype=int).tolist():
        put(path, data[:at])
        logs += follower.read()
    assert follower.read() == ()
    assert points(logs) == points(list(format_named(kind).read(data, "f", module.NO_HINTS)))
    assert not [d for log in logs for d in log.damages if d.kind == "truncated"]


FORMATS = Path(__file__).parents[2] / "fixtures" / "formats"
GROWING = [
    path
    for path in sorted(FORMATS.rglob("*"))
    if path.is_file()
    and path.suffix in (".csv", ".log", ".jsonl", ".json", ".txt")
    and path.parent.name not in ("wandb-export-csv", "configs")
    and path.name not in ("expected.json", "hf_trainer.log")  # there a bar drawn behind a line says its step
    and (kind := detect(path.read_bytes()[:65_536], path.name)) is not None
    and kind.name in module.BY_LINE
]


@pytest.mark.parametrize("path", GROWING, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_real_log_that_grows(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    data = data[: data.rfind(b"\n") + 1]
    kind = detect(data[:65_536], path.name)
    assert kind is not None
    grown = put(tmp_path / path.name, data[: len(data) // 2])
    follower = follow(grown, format_name=kind.name)
    logs = list(follower.read())
    for part in (0.6, 0.8, 1.0):
        put(grown, data[: int(len(data) * part)])
        logs += follower.read()
    whole = points(list(kind.read(data, "f", module.NO_HINTS)))
    assert {tag: sorted(map(str, p)) for tag, p in points(logs).items()} == {tag: sorted(map(str, p)) for tag, p in whole.items()}


class Counting:
    """A place that counts the bytes that are read from it."""

    def __init__(self, path: Path) -> None:
        self.path, self.count = path, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.path, name)

    def __str__(self) -> str:
        return str(self.path)

    def open(self, mode: str = "r") -> Any:
        stream, place = self.path.open(mode), self

        class Stream:
            def read(self, size: int = -1) -> bytes:
                data = stream.read(size)
                place.count += len(data)
                return data

            def readinto(self, buffer: Any) -> int:
                n = stream.readinto(buffer)  # type: ignore[attr-defined]
                place.count += n
                return n

            def __getattr__(self, name: str) -> Any:
                return getattr(stream, name)

            def __enter__(self) -> Stream:
                return self

            def __exit__(self, *_: object) -> None:
                stream.close()

        return Stream()


@pytest.mark.parametrize(("name", "line"), [("metrics.csv", b"%d,0.5\n"), ("log.jsonl", b'{"step": %d, "loss": 0.5}\n')])
def test_a_reading_costs_the_new_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, line: bytes) -> None:
    start = b"step,loss\n" if name.endswith("csv") else b""
    path = put(tmp_path / name, start + b"".join(line % i for i in range(20_000)))
    place = Counting(path)
    monkeypatch.setattr(module, "locate", lambda _: place)
    follower = follow(str(path))
    assert len(follower.read()[0].series[0]) == 20_000
    before = place.count
    with path.open("ab") as stream:
        stream.write(b"".join(line % i for i in range(20_000, 20_010)))
    (log,) = follower.read()
    assert log.series[0].step.tolist() == list(range(20_000, 20_010))
    assert place.count - before < 1_000


def test_a_half_written_line_waits(tmp_path: Path) -> None:
    path = put(tmp_path / "metrics.csv", CSV + b"60,0.0")
    follower = follow(path)
    assert len(follower.read()[0].series[0]) == N
    put(path, CSV + b"60,0.0125,0.1\n")
    assert follower.read()[0].series[0].value.tolist() == [0.0125]


def test_a_half_written_record_waits(tmp_path: Path) -> None:
    last = record(event(60, simple("loss", 0.25)))
    path = put(tmp_path / "events.out.tfevents.1.h", EVENTS + last[:20])
    follower = follow(path)
    (log,) = follower.read()
    assert (len(log.series[0]), log.damages) == (N, ())
    put(path, EVENTS + last)
    assert follower.read()[0].series[0].value.tolist() == [0.25]


@pytest.mark.parametrize(("name", "data"), [("metrics.csv", CSV), ("log.jsonl", JSONL), ("events.out.tfevents.1.h", EVENTS)])
def test_a_file_written_anew_is_read_from_its_start_and_said(tmp_path: Path, name: str, data: bytes) -> None:
    path = put(tmp_path / name, data)
    follower = follow(path)
    follower.read()
    other = {"metrics.csv": CSV.replace(b"loss", b"cost"), "log.jsonl": JSONL.replace(b"loss", b"cost")}.get(
        name, loss_file([5.0], wall=1.8e9)
    )
    put(path, other)
    (log,) = follower.read()
    assert "rewritten" in [d.kind for d in log.damages]
    assert len(log.series[0]) == (1 if name.startswith("events") else N)


@pytest.mark.parametrize(("name", "data"), [("trainer_state.json", b"{}"), ("a.csv.gz", b"\x1f\x8b"), ("x.bin", b"\0")])
def test_what_cannot_be_followed_says_so(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(UnreadableInputError, match=r"cannot be followed|does not grow"):
        follow(put(tmp_path / name, data))


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    path = put(tmp_path / "metrics.csv", CSV)
    follower = follow(path)
    path.unlink()
    with pytest.raises(UnreadableInputError, match="cannot be read"):
        follower.read()


def test_the_whole_file_says_the_same(tmp_path: Path) -> None:
    path = put(tmp_path / "metrics.csv", CSV)
    (run,) = read_runs(path)
    assert run.primary["loss"].value.tolist() == [v for _, v in points(list(follow(path).read()))["loss"]]
