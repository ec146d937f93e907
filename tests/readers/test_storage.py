"""Where logs lie: folders, URLs, compressed files, and files that are made to hurt."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import fsspec
import pytest
from backports import zstd

from tests.readers.wire import loss_file
from traindoctor.errors import UnreadableInputError
from traindoctor.readers import storage
from traindoctor.readers.discover import read_runs
from traindoctor.readers.storage import is_remote, locate, open_log, plain_name, read_head, read_whole

EVENTS = "events.out.tfevents.1700000000.host.1.0"
TABLE = b"step,loss\n" + b"".join(b"%d,%.6f\n" % (i, 1 / (i + 1)) for i in range(200))


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()
    files.pseudo_dirs[:] = [""]


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_path_is_a_path_and_a_url_is_opened_by_fsspec() -> None:
    assert locate("runs/x") == Path("runs/x")
    assert not is_remote(locate("runs/x"))
    assert not is_remote(locate(Path("runs/x")))
    assert is_remote(locate("memory://runs/x"))


@pytest.mark.parametrize("url", ["nothinglike://bucket/x", "s3x://bucket"])
def test_a_protocol_that_nothing_opens(url: str) -> None:
    with pytest.raises(UnreadableInputError, match="nothing installed opens"):
        locate(url)


def test_the_extra_of_a_protocol_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "s3fs", None)
    with pytest.raises(UnreadableInputError) as error:
        locate("s3://bucket/run")
    assert "pip install 'traindoctor[s3]'" in error.value.ways_out


@pytest.mark.parametrize(("name", "plain"), [("a.csv.gz", "a.csv"), ("a.csv.zst", "a.csv"), ("a.csv", "a.csv"), ("a.GZ", "a")])
def test_the_name_without_its_compression(name: str, plain: str) -> None:
    assert plain_name(Path(name)) == plain


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
def test_what_is_inside_decides_how_it_is_unpacked(tmp_path: Path, pack, name: str) -> None:
    path = put(tmp_path / name, pack(TABLE))
    assert read_whole(path, "f") == (TABLE, ())
    assert read_head(path, "f", 10) == TABLE[:10]
    with open_log(path, "f") as stream:
        assert b"".join(iter(lambda: stream.read(7), b"")) == TABLE


def test_two_members_of_gzip_and_two_frames_of_zstandard(tmp_path: Path) -> None:
    for pack in (gzip.compress, zstd.compress):
        assert read_whole(put(tmp_path / "x", pack(b"one ") + pack(b"two")), "f") == (b"one two", ())


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_a_compressed_file_cut_anywhere_gives_a_prefix_and_one_damage(tmp_path: Path, pack) -> None:
    packed = pack(TABLE)
    for cut in range(5, len(packed)):
        data, damages = read_whole(put(tmp_path / "x", packed[:cut]), "f")
        assert TABLE.startswith(data)
        assert [d.kind for d in damages] == ["truncated"], cut


def test_a_compressed_file_with_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(TABLE))
    for at in range(12, len(packed) - 8, 3):
        packed[at] ^= 0x55
        data, damages = read_whole(put(tmp_path / "x", bytes(packed)), "f")
        assert damages or data != TABLE
        assert damages
        packed[at] ^= 0x55


@pytest.mark.parametrize("pack", ["gzip", "zstandard"])
def test_a_bomb_is_refused_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pack: str) -> None:
    monkeypatch.setattr(storage, "BOMB_BYTES", 4 * 2**20)
    zeros = bytes(64 * 2**20)
    packed = gzip.compress(zeros) if pack == "gzip" else zstd.compress(zeros)
    with pytest.raises(UnreadableInputError, match="times its size"):
        read_whole(put(tmp_path / "bomb.csv.gz", packed), "f")


def test_repeated_text_is_no_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "BOMB_BYTES", 2**20)
    text = b"".join(b"step %d loss %.4f lr 0.001 time 12.5 ms\n" % (i, 1 / (i + 1)) for i in range(60_000))
    assert read_whole(put(tmp_path / "x.gz", gzip.compress(text, 9)), "f") == (text, ())


def test_more_than_may_be_held_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableInputError, match="GiB"):
        read_whole(put(tmp_path / "x", bytes(100)), "f", limit=99)
    assert read_whole(put(tmp_path / "x", bytes(100)), "f", limit=100)[0] == bytes(100)


def test_a_folder_and_nothing_at_all(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UnreadableInputError, match="cannot be read"):
            read_whole(path, "f")


def test_a_stream_that_fails_says_so() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell():
                raise OSError(5, "Input/output error")
            return super().read(size)

    raw = Broken(b"step,loss\n" * 10)
    stream = storage.LogStream(raw, "f")
    raw.seek(4)
    with pytest.raises(UnreadableInputError, match="Input/output error"):
        stream.read(20)


def test_the_same_run_here_packed_and_behind_a_url(tmp_path: Path, memory) -> None:
    events = loss_file([1.0, 0.5, 0.25])
    put(tmp_path / "a" / EVENTS, events)
    put(tmp_path / "b" / f"{EVENTS}.gz", gzip.compress(events))
    memory.pipe(f"/exp/a/{EVENTS}", events)
    memory.pipe("/exp/a/config.yaml", b"optimizer: adam\nlr: 0.002\n")
    memory.pipe("/exp/t/metrics.csv.zst", zstd.compress(TABLE))
    first, second = read_runs(tmp_path)
    far, table = read_runs("memory://exp")
    assert [run.name for run in (first, second, far, table)] == ["a", "b", "a", "t"]
    for run in (first, second, far):
        assert run.primary["loss"].value.tolist() == [1.0, 0.5, 0.25]
        assert run.formats == {run.files[0]: "tensorboard"}
    assert far.optimizer is not None
    assert (far.optimizer.lr, far.optimizer.origin["lr"]) == (0.002, "a/config.yaml:2")
    assert far.files == (f"a/{EVENTS}",)
    assert len(table.primary["loss"]) == 200
    (alone,) = read_runs(f"memory://exp/a/{EVENTS}")
    assert alone.primary["loss"].value.tolist() == [1.0, 0.5, 0.25]


def test_a_url_that_is_not_there() -> None:
    with pytest.raises(UnreadableInputError, match="there is no such file or folder"):
        read_runs("memory://exp/none")
