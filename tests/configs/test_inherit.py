from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from traindoctor.configs import load_settings
from traindoctor.configs.inherit import MAX_FILES, read_config

if TYPE_CHECKING:
    from pathlib import Path


def lay(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_py", ".py").replace("_yaml", ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def values(path: Path, root: Path) -> dict[str, object]:
    return {".".join(entry.path): entry.value for entry in read_config(path, root).entries}


def test_a_file_stands_over_its_bases_and_each_value_where_it_is(tmp_path: Path) -> None:
    lay(tmp_path, base_yaml="SOLVER:\n  BASE_LR: 0.1\n  MAX_ITER: 5\n", mid_yaml="_BASE_: base.yaml\nSOLVER: {MAX_ITER: 7}\n")
    lay(tmp_path, sub__c_yaml="_BASE_: ../mid.yaml\nSOLVER:\n\n  MOMENTUM: 0.5\n")
    settings, damages = load_settings([tmp_path / "sub/c.yaml"], tmp_path)
    assert damages == []
    assert {k: (v.value, v.origin) for k, v in settings.items() if k != "dialect"} == {
        "optimizer.lr": (0.1, "base.yaml:2"),
        "steps": (7, "mid.yaml:2"),
        "optimizer.momentum": (0.5, "sub/c.yaml:4"),
    }


def test_lists_and_deleted_blocks_are_replaced_whole(tmp_path: Path) -> None:
    lay(
        tmp_path,
        b_py="p = [dict(a=1), dict(b=2)]\no = dict(type='SGD', lr=1, momentum=0.9)\nq = dict(x=1)\n",
        c_py="_base_ = 'b.py'\np = [dict(c=3)]\no = dict(_delete_=True, type='Adam', lr=2)\nq = dict(y=2)\n",
    )
    assert values(tmp_path / "c.py", tmp_path) == {"p.0.c": 3, "o.type": "Adam", "o.lr": 2, "q.x": 1, "q.y": 2}


def test_relative_imports(tmp_path: Path) -> None:
    lay(tmp_path, common__optim_py="import torch\nSGD = L(torch.optim.SGD)(lr=1, momentum=0.9)\n", common__x_py="steps = 5\n")
    lay(tmp_path, p__c_py="from ..common.optim import SGD as optimizer\nfrom ..common.x import *\noptimizer.lr = 2\n")
    lay(tmp_path, p__d_py="with read_base():\n    from .c import optimizer, nothing\nfrom torch.optim import Adam\nx = steps\n")
    held = {"optimizer._target_": "torch.optim.SGD", "optimizer.lr": 2, "optimizer.momentum": 0.9}
    assert values(tmp_path / "p/c.py", tmp_path) == {**held, "steps": 5}
    assert values(tmp_path / "p/d.py", tmp_path) == held


def test_nothing_outside_of_the_folder_is_read(tmp_path: Path) -> None:
    lay(tmp_path, secret_yaml="lr: 9\n", secret_py="lr = 9\n")
    inside = tmp_path / "repo"
    lay(inside, a_yaml="_BASE_: ../secret.yaml\nwd: 1\n", b_yaml=f"_BASE_: {tmp_path}/secret.yaml\nwd: 1\n")
    lay(inside, c_py="_base_ = ['../secret.py']\nwd = 1\n", d_py="from ..secret import *\nwd = 1\n")
    lay(inside, e_yaml="defaults: [../secret, /../secret]\nwd: 1\n")
    (inside / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    lay(inside, f_yaml="_BASE_: link.yaml\nwd: 1\n")
    for name in ("a.yaml", "b.yaml", "c.py", "d.py", "e.yaml", "f.yaml"):
        document = read_config(inside / name, inside)
        assert {e.key for e in document.entries} - {"defaults"} == {"wd"}, name
        assert {note.kind for note in document.notes} == {"missing-base"}, name


def test_the_repository_of_the_config_is_its_limit(tmp_path: Path) -> None:
    lay(tmp_path, base_yaml="lr: 9\n", run__c_yaml="_BASE_: ../base.yaml\n")
    assert values(tmp_path / "run/c.yaml", tmp_path / "run") == {}
    (tmp_path / ".git").mkdir()
    assert values(tmp_path / "run/c.yaml", tmp_path / "run") == {"lr": 9}


@pytest.mark.parametrize(
    "text",
    ["_BASE_: c.yaml\n", "_BASE_: d.yaml\n", "defaults: [c]\n", "_BASE_: none.yaml\n", "_BASE_: ''\n", "_BASE_: ['.', {a: b}]\n"],
)
def test_circles_and_missing_bases_end(tmp_path: Path, text: str) -> None:
    lay(tmp_path, c_yaml=text + "wd: 1\n", d_yaml="_BASE_: c.yaml\nlr: 2\n")
    assert values(tmp_path / "c.yaml", tmp_path)["wd"] == 1


def test_circles_of_imports_end(tmp_path: Path) -> None:
    lay(tmp_path, c_py="from .d import *\nwd = 1\n", d_py="from .c import *\nlr = 2\n")
    assert values(tmp_path / "c.py", tmp_path) == {"wd": 1, "lr": 2}


def test_bases_upon_bases_end(tmp_path: Path) -> None:
    for n in range(12):
        names = ", ".join([f"b{n + 1}.yaml"] * 12)
        (tmp_path / f"b{n}.yaml").write_text(f"_BASE_: [{names}]\nk{n}: 1\n")
    document = read_config(tmp_path / "b0.yaml", tmp_path)
    assert document.notes
    assert len(document.notes) <= MAX_FILES
    for n in range(40):
        (tmp_path / f"d{n}.yaml").write_text(f"_BASE_: d{n + 1}.yaml\nk{n}: 1\n")
    assert "k0" in values(tmp_path / "d0.yaml", tmp_path)


def test_the_defaults_of_hydra(tmp_path: Path) -> None:
    lay(
        tmp_path,
        conf__config_yaml="defaults:\n  - base\n  - optimizer: adam\n  - optional nothing: x\n  - /sched@my.schedule: cosine\n"
        "  - override hydra/launcher: x\n  - _self_\n  - experiment: big\nseed: 1\nlr: 0.5\n",
        conf__base_yaml="seed: 0\nepochs: 3\n",
        conf__optimizer__adam_yaml="defaults:\n  - common\nname: adam\nlr: ${lr}\n",
        conf__optimizer__common_yaml="eps: 1\n",
        conf__sched__cosine_yaml="warmup_steps: 5\n",
        conf__experiment__big_yaml="# @package _global_\nseed: 7\n",
    )
    held = values(tmp_path / "conf/config.yaml", tmp_path)
    assert {k: v for k, v in held.items() if not k.startswith("defaults")} == {
        "seed": 7,
        "epochs": 3,
        "lr": 0.5,
        "optimizer.name": "adam",
        "optimizer.lr": 0.5,
        "optimizer.eps": 1,
        "my.schedule.warmup_steps": 5,
    }


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${lr}", 0.5),
        ("${ lr }", 0.5),
        ("${o.inner}", 3),
        ("${.sibling}", 4),
        ("${..lr}", 0.5),
        ("${list[1]}", "${list[1]}"),
        ("${chain}", 0.5),
        ("${loop}", "${loop}"),
        ("${missing}", "${missing}"),
        ("${oc.env:X}", "${oc.env:X}"),
        ("${lr}x", "${lr}x"),
        ("${.....lr}", "${.....lr}"),
        ("${o}", "${o}"),
    ],
)
def test_interpolations_of_plain_keys(tmp_path: Path, written: str, value: object) -> None:
    text = "lr: 0.5\nchain: ${lr}\nloop: ${loop2}\nloop2: ${loop}\nlist: [1, 2]\no:\n  inner: 3\n  sibling: 4\n"
    text += f"  x: {written!r}\n"
    (tmp_path / "c.yaml").write_text(text)
    assert values(tmp_path / "c.yaml", tmp_path)["o.x"] == value
