from __future__ import annotations

import pytest

from traindoctor.configs.documents import parse, read_document


def values(text: str, suffix: str = ".sh") -> dict[str, object]:
    return {".".join(entry.path): entry.value for entry in parse(text, suffix)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python t.py --lr 1e-4 --wd=0.1 --fp16 --name 'a b'", {"lr": 1e-4, "wd": 0.1, "fp16": True, "name": "a b"}),
        ("python t.py \\\n  --lr 1e-4 \\\r\n  --betas 0.9 0.95 config.yaml\n", {"lr": 1e-4, "betas": [0.9, 0.95]}),
        ("LR=2e-5\ntorchrun t.py --lr ${LR} --out $OUT/x --n $(nproc)\n", {"lr": 2e-5}),
        ('LR="2e-5"\ntorchrun t.py --lr "$LR"\n', {"lr": 2e-5}),
        ("LR=1\nLR=2\npython t.py --lr $LR --wd 3\n", {"wd": 3}),
        ("A=(\n --lr 1 # --lr 3\n --wd 2\n)\npython t.py ${A[@]}\n", {"lr": 1, "wd": 2}),
        ('A="--lr 1 --wd 2"\npython t.py $A\n', {"lr": 1, "wd": 2}),
        ("CUDA_VISIBLE_DEVICES=0 python t.py optimizer.lr=0.1 +trainer.steps=5\n", {"optimizer.lr": 0.1, "trainer.steps": 5}),
        ("python t.py --lr 1 --lr 2", {"lr": 2}),
        ("python t.py --min-lr -1e-5 --steps -1", {"min-lr": -1e-5, "steps": -1}),
    ],
)
def test_options_of_scripts(text: str, expected: dict[str, object]) -> None:
    assert values(text) == expected


def test_commands_that_differ_say_nothing() -> None:
    document = read_document("python t.py --lr 1 --wd 5\npython t.py --lr 2 --wd 5\n", ".sh")
    assert {entry.key: entry.value for entry in document.entries} == {"wd": 5}
    assert [(note.line, note.kind) for note in document.notes] == [(2, "several-commands")]


def test_the_place_of_a_variable_is_where_it_is_set() -> None:
    text = "# x\nLR=2e-5\ntorchrun t.py \\\n  --wd 1 --lr ${LR}\n"
    entries = {entry.key: entry for entry in parse(text, ".sh")}
    assert (entries["lr"].line, entries["lr"].column) == (2, 4)
    assert (entries["wd"].line, entries["wd"].column) == (4, 3)
    assert text[slice(*entries["lr"].span)] == "2e-5"


def test_namespaces() -> None:
    text = "I Namespace(a=1, b='x, y', c=[0.5], d=device(type='cuda', index=0), e=<f at 0x1>, f=(1, 2), g=None)\nlr: 3\n"
    assert values(text, ".txt") == {
        "a": 1,
        "b": "x, y",
        "c": [0.5],
        "e": "<f at 0x1>",
        "f": "(1, 2)",
        "g": None,
    }
    text = "Namespace(\n  lr=0.1,\n  wd=0.2)\n"
    assert [(e.key, e.line, text[slice(*e.span)]) for e in parse(text, ".txt")] == [("lr", 2, "0.1"), ("wd", 3, "0.2")]
