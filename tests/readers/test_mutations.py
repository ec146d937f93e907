"""Every reader against damaged files: whatever is done to a valid one, nothing but the reader's own error comes out.

A few hundred mutations a format run always, 10,000 with `pytest -m slow`. They are the same each time.
"""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from tests.readers.wire import event, event_file, loss_file, simple
from traindoctor.errors import UnreadableInputError
from traindoctor.readers.formats import FORMATS, detect, format_named
from traindoctor.readers.log import Hints, Log
from traindoctor.readers.storage import plain_name

FIXTURES = Path(__file__).parents[2] / "fixtures"
LARGEST = 60_000
FEW, MANY = 150, 10_000
NUMBERS = (b"nan", b"-inf", b"1e999", b"-1", b"9" * 40, b"", b"NULL", b"0x1p3", b"\xff\xfe", b"1_000", b"\xc2\xb2")


def samples() -> dict[str, list[bytes]]:
    """Return valid files by format: the smallest fixtures of each, and event files made here."""
    found: dict[str, list[bytes]] = {
        "tensorboard": [loss_file([1.0 / (i + 1) for i in range(80)]), event_file(event(1, simple("a", 1.0)))]
    }
    for path in sorted(FIXTURES.rglob("*"), key=lambda p: (p.stat().st_size, p.name)):
        if (
            not path.is_file()
            or path.suffix in (".py", ".md", ".yaml", ".toml")
            or "damaged" in path.parts
            or path.stat().st_size > LARGEST
        ):
            continue
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if (kind := detect(data[:65_536], plain_name(path))) and len(found.setdefault(kind.name, [])) < 4:
            found[kind.name].append(data)
    return found


SAMPLES = samples()


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Return the data with one to four things done to them."""
    made = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not made:
            break
        at, size = rng.randrange(len(made)), rng.choice((1, 1, 2, 4, 8, 40, 400))
        what = rng.randrange(8)
        if what == 0:
            made[at] ^= 1 << rng.randrange(8)
        elif what == 1:
            del made[at:]
        elif what == 2:
            del made[at : at + size]
        elif what == 3:
            made[at:at] = made[max(0, at - size) : at]
        elif what == 4:
            made[at : at + size] = rng.randbytes(size)
        elif what == 5:
            made[at:at] = rng.choice((b"\n", b"\r\n", b",", b'"', b"{", b"}", b"[", b"\0" * 9, b"\x1b[31m", b": ", b"="))
        elif what == 6:
            made[at : at + rng.randint(0, 6)] = rng.choice(NUMBERS)
        else:
            made[at : at + 8] = rng.choice((b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\xff\x07\0\0\0"))
    return bytes(made)


def check(name: str, count: int) -> None:
    rng = random.Random(f"mutations of {name}")
    kind = format_named(name)
    for i in range(count):
        data = mutated(SAMPLES[name][i % len(SAMPLES[name])], rng)
        detect(data[:65_536], "file")
        try:
            logs = kind.read(data, "file", Hints())
        except UnreadableInputError as error:
            refused = (error.where, error.what)
        else:
            refused = None
        if refused is not None:
            assert refused[0].startswith("file")
            assert refused[1]
            continue
        assert all(isinstance(log, Log) for log in logs)
        for series in (s for log in logs for s in log.series):
            assert series.step.shape == series.value.shape == series.wall_time.shape
            assert (series.step.dtype.str, series.value.dtype.str) == ("<i8", "<f8")


def test_every_format_has_a_sample() -> None:
    assert set(SAMPLES) == {f.name for f in FORMATS}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", [f.name for f in FORMATS])
def test_a_mutated_file_raises_nothing_else(name: str) -> None:
    check(name, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", [f.name for f in FORMATS])
def test_ten_thousand_mutated_files_raise_nothing_else(name: str) -> None:
    check(name, MANY)
