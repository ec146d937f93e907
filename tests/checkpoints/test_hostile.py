"""Files that were made to harm: nothing in them runs, and each is refused in one sentence, quickly."""

import contextlib
import io
import os
import pickle
import struct
import time
import zipfile
from pathlib import Path

import pytest

from traindoctor.checkpoints.layouts import read_checkpoint
from traindoctor.checkpoints.pickled import read_pickle
from traindoctor.cli import main
from traindoctor.errors import UnreadableInputError

FOLDER = Path(__file__).parents[2] / "fixtures" / "checkpoints"
MARK = "traindoctor-was-run"


class Evil:
    def __init__(self, function, *args):
        self.made = (function, args)

    def __reduce__(self):
        return self.made


def archive(structure, records=(), compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as made:
        made.writestr("a/data.pkl", structure)
        for name, data in records:
            made.writestr(f"a/data/{name}", data)
    return out.getvalue()


def refusal(tmp_path, data, name="a.pt"):
    file = tmp_path / name
    file.write_bytes(data)
    start = time.monotonic()
    with pytest.raises(UnreadableInputError) as caught:
        read_checkpoint(file)
    assert time.monotonic() - start < 20.0
    assert caught.value.where == name
    assert len(caught.value.what) < 400
    return caught.value.what


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (os.system, (f"touch {MARK}",)),
        (eval, (f"open({MARK!r}, 'w')",)),
        (exec, (f"open({MARK!r}, 'w')",)),
        (open, (MARK, "w")),
        (__import__, ("os",)),
        (os.mkdir, (MARK,)),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_is_never_run(tmp_path, monkeypatch, function, args, protocol):
    monkeypatch.chdir(tmp_path)
    structure = pickle.dumps({"model": {}, "step": Evil(function, *args)}, protocol)
    what = refusal(tmp_path, archive(structure))
    assert "nothing was run" in what
    assert function.__name__ in what
    assert not Path(MARK).exists()


def test_a_name_that_only_sounds_right(tmp_path):
    for name in (b"torch._utils\nimport_module", b"torch\nload", b"torch.storage\n_load_from_bytes", b"collections\nnamedtuple"):
        assert "nothing was run" in refusal(tmp_path, archive(b"\x80\x02c" + name + b"\n."))


def test_settings_of_frameworks_are_not_made():
    structure = (
        b"\x80\x02}(X\x04\x00\x00\x00argscargparse\nNamespace\n)\x81}X\x02\x00\x00\x00lrK\x01sbX\x04\x00\x00\x00stepK\x05u."
    )
    assert read_pickle(structure, "a") == {"args": {"lr": 1}, "step": 5}


def test_a_bomb_is_not_unpacked(tmp_path):
    data = archive(b"\x80\x02}.", [("0", b"\0" * 10**7)], zipfile.ZIP_DEFLATED)
    assert "compressed" in refusal(tmp_path, data)


def test_references_that_multiply(tmp_path):
    rows = (
        b"\x80\x02]q\x00"
        + b"".join(b"](" + b"h" + bytes([i]) + b"h" + bytes([i]) + b"eq" + bytes([i + 1]) for i in range(200))
        + b"."
    )
    assert "nested" in refusal(tmp_path, archive(rows))


def test_a_list_in_itself(tmp_path):
    assert "nested" in refusal(tmp_path, archive(b"\x80\x02]q\x00h\x00a."))


def test_depth(tmp_path):
    assert "nested" in refusal(tmp_path, archive(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."))


def tensor(shape, stride, size=4, offset=0):
    """Return the pickle of a dict with one tensor."""

    def number(n):
        return b"\x8a\x08" + struct.pack("<q", n)

    def numbers(items):
        return b"(" + b"".join(map(number, items)) + b"t"

    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + number(size) + b"tQ"
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset) + numbers(shape) + numbers(stride) + b"\x89}tR"
    return b"\x80\x02}X\x01\x00\x00\x00w" + rebuild + b"s."


def test_shapes_that_do_not_fit(tmp_path):
    good = archive(tensor((4,), (1,)), [("0", b"\0" * 16)])
    (tmp_path / "good.pt").write_bytes(good)
    assert read_checkpoint(tmp_path / "good.pt").weights["w"].zeros == 4
    for shape, stride, offset in (
        ((2**50,), (1,), 0),
        ((2**40, 2**40), (2**40, 1), 0),
        ((2**30,), (0,), 0),
        ((4,), (1,), 2**40),
        ((2, 2), (5, 1), 0),
    ):
        assert "damaged" in refusal(tmp_path, archive(tensor(shape, stride, offset=offset), [("0", b"\0" * 16)]))
    assert "damaged" in refusal(tmp_path, archive(tensor((-1,), (1,)), [("0", b"\0" * 16)]))
    assert "missing" in refusal(tmp_path, archive(tensor((4,), (1,))))


def test_cut_at_every_place(tmp_path):
    whole = (FOLDER / "layouts" / "loop_60.pt").read_bytes()
    for stop in range(0, len(whole), 97):
        refusal(tmp_path, whole[:stop])


def test_single_bytes_that_are_wrong(tmp_path):
    import random

    whole = (FOLDER / "layouts" / "loop_60.pt").read_bytes()
    chance = random.Random(0)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 4, 32])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        file = tmp_path / "a.pt"
        file.write_bytes(data)
        with contextlib.suppress(UnreadableInputError):
            read_checkpoint(file)


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[]",
        b"{" * 50_000,
        b'{"w": 1}',
        b'{"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 8]}}',
        b'{"w": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}',
        b'{"w": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 16]}}',
        b'{"w": {"dtype": "F32", "shape": [1099511627776], "data_offsets": [0, 4398046511104]}}',
        b'{"w": {"dtype": "Q9", "shape": [4], "data_offsets": [0, 16]}}',
        b'{"w": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]}}',
    ],
)
def test_headers_of_safetensors(tmp_path, header):
    what = refusal(tmp_path, struct.pack("<Q", len(header)) + header + b"\0" * 16, "a.safetensors")
    assert "damaged" in what or "cut off" in what or "no checkpoint" in what


def test_what_is_no_checkpoint(tmp_path):
    assert "empty" in refusal(tmp_path, b"")
    assert "bare pickle" in refusal(tmp_path, pickle.dumps({"a": 1}))
    assert "no checkpoint" in refusal(tmp_path, b"step,loss\n1,2\n")
    assert "neither weights nor" in refusal(tmp_path, archive(pickle.dumps({"a": 1}, 2)))
    out = io.BytesIO()
    zipfile.ZipFile(out, "w").close()
    refusal(tmp_path, out.getvalue())


def test_the_command_says_it_and_ends_with_2(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("log.csv").write_text("step,loss\n" + "".join(f"{k},{1 / (k + 1)}\n" for k in range(50)))
    Path("evil.bin").write_bytes(archive(pickle.dumps(Evil(os.system, f"touch {MARK}"), 2)))
    assert main(["diagnose", "log.csv", "--checkpoint", "evil.bin"]) == 2
    told = capsys.readouterr().err
    assert "posix.system" in told or "nt.system" in told
    assert "torch.save" in told
    assert not Path(MARK).exists()
