"""Input that is made to hurt, given to the command itself in little memory: a clear message, never a traceback."""

from __future__ import annotations

import gzip
import json
import os
import resource
import struct
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.readers.wire import VERSION, loss_file, record
from traindoctor.readers.tfrecord import masked_crc

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = "events.out.tfevents.1700000000.host.1.0"
#: Address space of the command, in bytes: NumPy, SciPy and pandas alone map about 1.5 GB of it.
MEMORY = 4 * 2**30
TABLE = b"step,loss\n" + b"".join(b"%d,%.4f\n" % (i, 1 / (i + 1)) for i in range(50))


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def command(*arguments: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    done = subprocess.run(
        [sys.executable, "-m", "traindoctor", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        preexec_fn=limit,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert "Traceback" not in done.stderr, done.stderr[-2000:]
    return done


def inspected(*arguments: str | os.PathLike[str]) -> list[dict]:
    done = command("inspect", *arguments, "--format", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["runs"]


def test_a_zip_bomb(tmp_path: Path) -> None:
    member = gzip.compress(bytes(64 * 2**20))
    path = put(tmp_path / "metrics.csv.gz", member * 160)  # 10 GiB
    done = command("diagnose", path)
    assert done.returncode == 2
    assert "times its size" in done.stderr


def header(length: int) -> bytes:
    eight = struct.pack("<Q", length)
    return eight + struct.pack("<I", masked_crc(eight))


@pytest.mark.parametrize("length", [2**31, 2**40, 2**63, 2**64 - 1])
def test_a_hostile_length_field(tmp_path: Path, length: int) -> None:
    put(tmp_path / EVENTS, loss_file([1.0, 0.5, 0.25]) + header(length) + b"x" * 100)
    (run,) = inspected(tmp_path)
    assert [t["points"] for t in run["tags"]] == [3]
    assert [d["kind"] for d in run["integrity"]] in (["truncated"], ["corrupt-record"])


def test_a_record_as_long_as_a_gigabyte(tmp_path: Path) -> None:
    path = put(tmp_path / EVENTS, loss_file([1.0, 0.5, 0.25]) + header(2**30))
    with path.open("r+b") as stream:
        stream.seek(0, 2)
        stream.truncate(stream.tell() + 2**30 + 4)  # a hole in the file: it takes no room on the disk
        stream.seek(0, 2)
        stream.write(record(b""))
    (run,) = inspected(path)
    assert [t["points"] for t in run["tags"]] == [3]
    assert run["integrity"]


def test_a_table_of_a_hundred_thousand_columns(tmp_path: Path) -> None:
    n = 100_000
    names = ",".join(f"c{i}" for i in range(n))
    row = ",".join(["1.5"] * n)
    put(tmp_path / "metrics.csv", f"step,loss,{names}\n0,2.5,{row}\n1,2.0,{row}\n".encode())
    done = command("inspect", tmp_path, "--format", "json")
    assert done.returncode in (0, 2)
    if done.returncode == 0:
        (run,) = json.loads(done.stdout)["runs"]
        assert run["roles"]["loss"] == "loss"
    else:
        assert "columns" in done.stderr


@pytest.mark.parametrize(
    ("name", "start"), [("metrics.csv", b"step,loss\n0,"), ("log.jsonl", b'{"step": 1, "loss": '), ("train.log", b"step 1 loss ")]
)
def test_a_line_as_long_as_a_gigabyte(tmp_path: Path, name: str, start: bytes) -> None:
    path = put(tmp_path / name, start)
    with path.open("r+b") as stream:
        stream.seek(0, 2)
        stream.truncate(2**30)
    done = command("inspect", path)
    assert done.returncode in (0, 2)


BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [" % (98 + i, 98 + i) + b",".join([b"*%c" % (97 + i)] * 9) + b"]\n" for i in range(12)
)


def test_yaml_that_multiplies_itself(tmp_path: Path) -> None:
    put(tmp_path / "metrics.csv", TABLE)
    put(tmp_path / "config.yaml", b"optimizer: adam\nlr: 0.001\n" + BOMB)
    (run,) = inspected(tmp_path)
    assert run["roles"]["loss"] == "loss"


def test_tags_of_python_are_not_obeyed(tmp_path: Path) -> None:
    put(tmp_path / "metrics.csv", TABLE)
    put(
        tmp_path / "config.yaml",
        b"lr: 0.001\noptimizer: adam\nrun: !!python/object/apply:os.system ['touch %s/owned']\n" % os.fsencode(tmp_path),
    )
    (run,) = inspected(tmp_path)
    assert run["optimizer"]["lr"] == 0.001
    assert not (tmp_path / "owned").exists()


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self):
            return (os.system, (f"touch {tmp_path}/owned",))

    put(tmp_path / "metrics.csv", TABLE)
    put(tmp_path / "optimizer.pt", pickle.dumps(Evil()))
    put(tmp_path / "training_args.bin", pickle.dumps(Evil()))
    assert len(inspected(tmp_path)) == 1
    assert command("inspect", tmp_path / "optimizer.pt").returncode == 2
    assert not (tmp_path / "owned").exists()


def test_names_that_steer_a_terminal(tmp_path: Path) -> None:
    put(tmp_path / "metrics.csv", b"step,loss,\x1b[2Jevil\n" + b"".join(b"%d,%.4f,1\n" % (i, 1 / (i + 1)) for i in range(50)))
    done = command("inspect", tmp_path)
    assert "\x1b" not in done.stdout
    assert "\\x1b" in done.stdout


def test_only_the_first_version_record(tmp_path: Path) -> None:
    put(tmp_path / EVENTS, VERSION)
    done = command("diagnose", tmp_path)
    assert done.returncode == 2
    assert "no scalar" in done.stderr
