"""Configs that were made to hurt, or that went wrong: a bounded time, and a clear word on each."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traindoctor.configs import load_settings
from traindoctor.configs.documents import COMMANDS, ParseError, parse, read_document

if TYPE_CHECKING:
    from pathlib import Path

LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
MAPPINGS = "a: &a {x: 1, y: 2}\n" + "".join(
    f"{b}: &{b} {{{', '.join(f'k{i}: *{a}' for i in range(9))}}}\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGES = "a: &a {lr: 1}\n" + "".join(
    f"{b}: &{b}\n  <<: [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
LONG_LIST = "a: &a [" + "1, " * 9_000 + "1]\n" + "".join(f"k{i}: *a\n" for i in range(9_000))

#: Text, suffix, and whether it is refused.
BOMBS = {
    "lists of lists of aliases": (LAUGHS, ".yaml", True),
    "mappings of mappings": (MAPPINGS, ".yaml", True),
    "merges of merges": (MERGES, ".yaml", True),
    "one long list many times": (LONG_LIST, ".yaml", False),
    "too long a list": ("a: [" + "1, " * 40_000 + "1]\n", ".yaml", True),
    "deep flow": ('{"a":' * 20_000 + "1" + "}" * 20_000, ".yaml", True),
    "deep brackets": ("a: " + "[" * 50_000, ".yaml", True),
    "deep JSON": ('{"a":' * 50_000 + "1" + "}" * 50_000, ".json", True),
    "many JSON keys": ("{" + ",".join(f'"k{i}":{i}' for i in range(100_000)) + "}", ".json", True),
    "one JSON key many times": ("{" + ",".join(f'"lr":{i}' for i in range(100_000)) + "}", ".json", False),
    "deep TOML": ("a = " + "[" * 50_000, ".toml", True),
    "deep sum": ("lr = " + "1+" * 120_000 + "1\n", ".py", True),
    "deep minus": ("lr = " + "-" * 240_000 + "1\n", ".py", True),
    "deep brackets in Python": ("lr = " + "(" * 100_000 + "1" + ")" * 100_000, ".py", True),
    "tower": ("lr = 9**9**9**9\nwd = 2**0.5**-9999\nn = 10**400 * 10**400\nbatch_size = 4\n", ".py", False),
    "doubled text": ("a = 'x' * 10**9\n" + "b = 'y' * 5\n" + "c = 'z'\n" + "c = c + c\n" * 10_000, ".py", False),
    "doubled lists": ("a = [0] * 1000\n" + "a = a + a\n" * 1000 + "b = [a] * 1000\n", ".py", False),
    "doubled dicts": ("a = dict(x=1)\n" + "a = dict(p=a, q=a)\n" * 25, ".py", True),
    "many options": ("python t.py" + " --a 1" * 40_000, ".sh", True),
    "unclosed quotes": ("python t.py " + "\"'" * 100_000, ".sh", None),
    "blanks": ("Namespace(lr=" + " " * 200_000 + "x(", ".txt", True),
    "blank options": ("lr: 1" + " " * 200_000 + "x\nwd: 2\n", ".txt", None),
    "namespaces": ("Namespace(a=f(" * 15_000, ".txt", None),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_ends_soon(bomb: str) -> None:
    text, suffix, is_refused = BOMBS[bomb]
    began, refused = time.monotonic(), ""
    try:
        parse(text, suffix)
    except ParseError as error:
        refused = error.reason
    assert is_refused in (None, bool(refused)), refused
    assert time.monotonic() - began < 8.0


def test_nothing_is_built_or_run(tmp_path: Path) -> None:
    mark = tmp_path / "made"
    run = f"!!python/object/apply:os.system ['touch {mark}']"
    (tmp_path / "config.yaml").write_text(f"lr: 0.1\noptimizer: {run}\nx: {run}\n? {run}\n: 1\nname: !!python/name:os.system\n")
    (tmp_path / "c.py").write_text(
        f"import os\nlr = os.system('touch {mark}')\nopen({str(mark)!r}, 'w')\noptimizer = dict(type='SGD', lr=eval('0.1'))\n"
    )
    for name in ("config.yaml", "c.py"):
        found, damages = load_settings([tmp_path / name], tmp_path)
        assert damages == []
        assert found
    assert not mark.exists()


def test_a_repeated_key_is_noted_and_the_last_one_counts() -> None:
    document = read_document("lr: 0.1\noptimizer: {name: sgd}\nlr: 0.2\noptimizer: {wd: 1}\n", ".yaml")
    assert [(e.path, e.value) for e in document.entries] == [(("lr",), 0.2), (("optimizer", "wd"), 1)]
    assert [(note.line, note.kind) for note in document.notes] == [(3, "duplicate-key"), (4, "duplicate-key")]
    assert "line 1" in document.notes[0].detail
    document = read_document('{"o": {"lr": 1},\n "o": {"wd": 2}, "p": {"lr": 1, "lr": 2}}', ".json")
    assert [(e.path, e.value) for e in document.entries] == [(("o", "wd"), 2), (("p", "lr"), 2)]
    assert [note.line for note in document.notes] == [2, 2]
    assert read_document("o = {'lr': 1, 'lr': 2}\n", ".py").notes[0].kind == "duplicate-key"


def test_an_own_key_over_a_merged_one_is_no_repetition() -> None:
    document = read_document("b: &b {lr: 1, eps: 2}\no:\n  <<: *b\n  lr: 3\np: *b\n", ".yaml")
    assert document.notes == []
    assert [e.value for e in document.entries if e.path == ("o", "lr")][-1] == 3


def test_repetitions_without_end_are_noted_a_few_times() -> None:
    assert len(read_document("lr: 1\n" * 1000, ".yaml").notes) == 20


def test_several_documents_are_read_in_order_and_noted(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("lr: 0.1\noptimizer: sgd\n---\nlr: 0.2\n")
    found, damages = load_settings([tmp_path / "config.yaml"], tmp_path)
    assert found["optimizer.lr"].value == 0.2
    assert found["optimizer.lr"].origin == "config.yaml:4"
    assert [damage.kind for damage in damages] == ["several-documents"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("c.yaml", b"\xef\xbb\xbflr: 0.5\n"),
        ("c.json", b'\xef\xbb\xbf{"lr": 0.5}'),
        ("c.toml", b"\xef\xbb\xbflr = 0.5\n"),
        ("c.py", b"\xef\xbb\xbflr = 0.5\n"),
        ("c.sh", b"\xef\xbb\xbfpython t.py --lr 0.5\n"),
        ("c.yaml", b"lr: &a 0.5\nother: *a\n"),
        ("c.yaml", b"---\nlr: 0.5\n...\n"),
        ("c.yaml", b"%YAML 1.1\n---\nlr: 0.5\n"),
        ("c.py", "# größer\nname = 'größer'; lr = 0.5\n".encode()),
        ("c.py", b"lr = 0.5\r\nx = '''a\x0cb\x1cc'''\r\n"),
    ],
)
def test_oddities_that_are_sound(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    found, damages = load_settings([tmp_path / name], tmp_path)
    assert damages == []
    assert found["optimizer.lr"].value == 0.5


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("c.yaml", b"lr: 1\n\xff\xfe\n"),
        ("c.yaml", "lr: 1\n".encode("utf-16")),
        ("c.yaml", b"- lr: 1\n- lr: 2\n"),
        ("c.yaml", b"lr:\n\t- 1\n"),
        ("c.yaml", b"lr: *nowhere\n"),
        ("c.yaml", b"lr: 1\n\x00\n"),
        ("c.json", b"[{}]"),
        ("c.json", b'{"lr": 1'),
        ("c.toml", b"lr = 1\nlr = 2\n"),
        ("c.py", b"lr = = 1\n"),
        ("c.py", b"lr = 1\n\x00\n"),
        ("c.py", b"print 'lr'\n"),
        ("c.sh", b"echo hello\n"),
        ("c.txt", b"just a note\n"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    found, damages = load_settings([tmp_path / name], tmp_path)
    assert found == {}
    assert [damage.kind for damage in damages] == ["unreadable-config"]
    assert damages[0].file == name


VALID = {
    ".yaml": "optimizer: &o\n  name: adam\n  lr: 3e-4\n  betas: [0.9, 0.99]\nb:\n  <<: *o\n  eps: 1e-8\nlr: ${optimizer.lr}\n",
    ".json": '{"optimizer": {"type": "Adam", "params": {"lr": 1e-3, "betas": [0.9, 0.99]}}, "zero_optimization": {"stage": 2}}',
    ".toml": '[optimizer]\nname = "AdamW"\nlr = 8e-4\nbetas = [0.9, 0.95]\n[training]\nsteps = 10\n',
    ".py": "lr = 5e-4 * 1024 / 512\noptim_wrapper = dict(optimizer=dict(type='AdamW', lr=lr, betas=(0.9, 0.99)))\n",
    ".sh": "LR=1e-4\npython train.py --lr $LR --adam-beta2=0.95 \\\n  --betas 0.9 0.99 opt.lr=2 'a b' # --x 1\n",
    ".txt": "Namespace(lr=[0.0005], adam_betas='(0.9, 0.98)', device=device(type='cuda'), optimizer='adam')\n",
}


@given(st.sampled_from(sorted(VALID)), st.data())
@settings(derandomize=True, max_examples=400, deadline=None)
def test_a_damaged_file_is_read_or_refused(suffix: str, data: st.DataObject) -> None:
    text = VALID[suffix]
    at = data.draw(st.integers(0, len(text)))
    to = data.draw(st.integers(at, len(text)))
    text = data.draw(
        st.sampled_from(
            [text[:at], text[:at] + text[to:], text[:to] + text[at:], text[:at] + data.draw(st.text(max_size=5)) + text[to:]]
        )
    )
    with suppress(ParseError):
        for entry in parse(text, suffix):
            start, stop = entry.span
            assert -1 <= start <= stop <= len(text)
            assert entry.line >= 1
            assert entry.column >= 1


@given(st.sampled_from([".py", *COMMANDS]), st.text("lr=01e-.$'\"()[]{}: ,\\\n#-Namespacedict*/+", max_size=80))
@settings(derandomize=True, max_examples=400, deadline=None)
def test_any_text_is_read_or_refused(suffix: str, text: str) -> None:
    with suppress(ParseError):
        parse(text, suffix)
