# ruff: noqa: E501 -- a case of a table is one line
from __future__ import annotations

import pytest

from traindoctor.configs.documents import NOWHERE, parse


def values(text: str) -> dict[str, object]:
    return {".".join(entry.path): entry.value for entry in parse(text, ".py")}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("5e-4 * 1024 / 512", 1e-3),
        ("2 ** 10", 1024),
        ("7 // 2", 3),
        ("7 % 4", 3),
        ("-1e-3", -1e-3),
        ("+1", 1),
        ("1 - 0.1", 0.9),
        ("'a' + 'b'", "ab"),
        ("(0.9, 0.99)", [0.9, 0.99]),
        ("[1] + [2]", [1, 2]),
        ("[0.1] * 3", [0.1, 0.1, 0.1]),
        ("not True", False),
        ("None", None),
    ],
)
def test_constants_are_folded(written: str, value: object) -> None:
    assert values(f"a = {written}\n")["a"] == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.parametrize(
    "written",
    ["f(1)", "other", "1 / 0", "9**9**9", "10.0**400", "(-1)**0.5", "'a' * 5", "1 if x else 2", "[i for i in y]", "b'x'", "1j", "~1", "x.y", "f'{a}'", "1 < 2", "True + 1"],
)  # fmt: skip
def test_what_is_not_known_is_left_out(written: str) -> None:
    assert values(f"a = {written}\nb = 1\n") == {"b": 1}


def test_names_stand_for_what_was_assigned_last() -> None:
    assert values("lr = 1\nx = lr\nlr = 2\ny = lr\n") == {"x": 1, "lr": 2, "y": 2}
    assert values("lr = 1\nlr = f()\n") == {}
    assert values("a, b = 1, 2\nc: int = 3\nd = e = 4\n") == {"a": 1, "b": 2, "c": 3, "d": 4, "e": 4}


@pytest.mark.parametrize(
    "statement", ["if debug:\n    lr = 2\n", "for lr in range(3):\n    pass\n", "del lr\n", "lr += 1\n", "while x: lr = 1\n"]
)
def test_what_a_branch_may_set_is_not_known(statement: str) -> None:
    assert values(f"lr = 1\nwd = 2\n{statement}") == {"wd": 2}


def test_a_value_stands_where_it_was_written() -> None:
    entries = {
        ".".join(e.path): e
        for e in parse("base = 1e-3\no = dict(\n    type='SGD', lr=base,\n    wd=2 * base, ä='ü', z=5)\n", ".py")
    }
    assert (entries["o.lr"].line, entries["o.lr"].column) == (1, 8)
    assert (entries["o.wd"].line, entries["o.wd"].span) == (4, NOWHERE)
    assert (entries["o.z"].line, entries["o.z"].column) == (4, 27)
    text = "# ä\nx = 'ü'; y = 12\n"
    start, stop = {e.key: e for e in parse(text, ".py")}["y"].span
    assert text[start:stop] == "12"


def test_blocks_of_all_makes() -> None:
    text = (
        "import torch\nfrom torch.optim import AdamW\nfrom my import thing\n"
        "a = L(torch.optim.SGD)(lr=0.1, params=L(f)(x=1))\n"
        "b = dict(type=AdamW, lr=0.2, fn=thing)\n"
        "c = {'lr': 0.3, 5: 1, **b}\nc['wd'] = 0.5\na.lr = 0.4\na.update(momentum=0.9, lr=g())\n"
        "d = [dict(x=1), dict(y=2), f()]\n"
    )
    assert values(text) == {
        "a._target_": "torch.optim.SGD",
        "a.params._target_": "f",
        "a.params.x": 1,
        "a.momentum": 0.9,
        "b.type": "torch.optim.AdamW",
        "b.lr": 0.2,
        "c.lr": 0.2,
        "c.5": 1,
        "c.type": "torch.optim.AdamW",
        "c.wd": 0.5,
        "d.0.x": 1,
        "d.1.y": 2,
    }
    assert values("c = dict(lr=1)\nd = dict(**c)\nd['lr'] = 2\n")["c.lr"] == 1
    assert values("c = dict(o=dict(lr=1))\nd = c\nd.o.lr = 2\n") == {"c.o.lr": 2, "d.o.lr": 2}  # one object of two names


def test_get_config_is_read() -> None:
    text = "def get_config():\n    c = ConfigDict()\n    c.lr = 0.1\n    c.opt = ConfigDict(dict(eps=1))\n    return c\n\ndef other():\n    lr = 2\n"
    assert values(text) == {"lr": 0.1, "opt.eps": 1}


def test_update_goes_into_blocks_where_the_class_does() -> None:
    text = "o = dict(p=dict(a=1, b=2), q=[dict(x=1)])\no.update(p=dict(b=3), q=[dict(y=2)])\n"
    assert values(text) == {"o.p.b": 3, "o.q.0.y": 2}
    assert values(f"with read_base():\n    pass\n{text}") == {"o.p.a": 1, "o.p.b": 3, "o.q.0.y": 2}


def test_what_is_set_on_something_from_elsewhere_is_known() -> None:
    assert values("train = get('train.py').train\ntrain.max_iter = 5\nother(1).x = 2\n") == {"train.max_iter": 5}
