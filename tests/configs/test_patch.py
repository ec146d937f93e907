# ruff: noqa: E501 -- a case of a table is one line
from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from traindoctor.configs import load_settings, patch_for
from traindoctor.configs.patch import write_number

if TYPE_CHECKING:
    from pathlib import Path

#: File name, text, change, and the lines that go and come.
CASES = {
    "replaced, comment kept": ("c.yaml", "optimizer:\n  name: adam\n  lr: 1e-3  # peak\n", {"optimizer.lr": 0.1}, ["-  lr: 1e-3  # peak", "+  lr: 0.1  # peak"]),
    "inserted in its block": (
        "c.yaml",
        "seed: 1\noptimizer:\n  name: adam\n  lr: 0.001 # x\ntrain:\n  steps: 10\n",
        {"optimizer.eps": 0.1},
        ["+  eps: 0.1"],
    ),
    "inserted flat": ("c.yaml", "optimizer: adam\nlr: 0.1\nseed: 1\n", {"optimizer.eps": 1e-4}, ["+eps: 1.0e-4"]),
    "crlf": ("c.yaml", "optimizer: adam\r\nlr: 0.1 # x\r\n", {"optimizer.eps": 0.1, "optimizer.lr": 0.01}, ["-lr: 0.1 # x\r", "+lr: 0.01 # x\r", "+eps: 0.1\r"]),
    "no line end": (
        "c.yaml",
        "optimizer: adam\nlr: 0.1",
        {"optimizer.eps": 0.1},
        ["-lr: 0.1", "\\ No newline at end of file", "+lr: 0.1", "+eps: 0.1", "\\ No newline at end of file"],
    ),
    "byte-order mark": ("c.yaml", "\ufefflr: 0.1\noptimizer: adam\n", {"optimizer.lr": 0.2}, ["-\ufefflr: 0.1", "+\ufefflr: 0.2"]),
    "hugging face": ("c.yaml", "optim: adamw_torch\nlearning_rate: 0.1\nlr_scheduler_type: linear\n", {"optimizer.eps": 0.1}, ["+adam_epsilon: 0.1"]),
    "keras": ("c.yaml", "optimizer:\n  class_name: Adam\n  config:\n    learning_rate: 0.1\n", {"optimizer.eps": 0.1}, ["+    epsilon: 0.1"]),
    "keras by framework": ("c.yaml", "framework: tensorflow\noptimizer:\n  name: Adam\n  lr: 0.1\n", {"optimizer.beta1": 0.9}, ["+  beta_1: 0.9"]),
    "betas as block list": ("c.yaml", "optim:\n  _target_: torch.optim.Adam\n  lr: 0.1\n  betas:\n  - 0.9\n  - 1.0\n", {"optimizer.beta2": 0.999}, ["-  - 1.0", "+  - 0.999"]),
    "betas as list": ("c.yaml", "lr: 0.1\nbetas: [1.0, 0.999]\n", {"optimizer.beta1": 0.9}, ["-betas: [1.0, 0.999]", "+betas: [0.9, 0.999]"]),
    "betas as pair": ("c.yaml", "lr: 0.1\nbetas: [1.0, 1.0]\n", {"optimizer.betas": (0.9, 0.99)}, ["-betas: [1.0, 1.0]", "+betas: [0.9, 0.99]"]),
    "betas as text": ("c.yaml", "lr: 0.1\nadam_betas: '(0.9, 0.98)'\n", {"optimizer.beta2": 0.999}, ["-adam_betas: '(0.9, 0.98)'", "+adam_betas: '(0.9, 0.999)'"]),
    "betas absent": ("c.yaml", "optimizer:\n  _target_: torch.optim.Adam\n  lr: 0.1\n", {"optimizer.beta1": 0.5}, ["+  betas: [0.5, 0.999]"]),
    "one minus": ("c.yaml", "learning_rate: 0.1\none_minus_beta1: 0.2\n", {"optimizer.beta1": 0.9}, ["-one_minus_beta1: 0.2", "+one_minus_beta1: 0.1"]),
    "beta2 beside beta1": ("c.yaml", "lr: 0.1\nadam_beta1: 0.9\n", {"optimizer.beta2": 0.99}, ["+adam_beta2: 0.99"]),
    "flow": ("c.yaml", "optimizer: {name: adam, lr: 0.1}\n", {"optimizer.eps": 0.1}, ["-optimizer: {name: adam, lr: 0.1}", "+optimizer: {name: adam, lr: 0.1, eps: 0.1}"]),
    "quoted": ("c.yaml", "optimizer: adam\nlr: '1e-3'\n", {"optimizer.lr": 0.01}, ["-lr: '1e-3'", "+lr: '0.01'"]),
    "null": ("c.yaml", "optimizer: adam\nlr: 0.1\ngrad_clip: null\n", {"gradient.clip_norm": 1.0}, ["-grad_clip: null", "+grad_clip: 1.0"]),
    "clip": ("c.yaml", "optimizer:\n  name: adam\n  lr: 0.1\ntrain:\n  epochs: 3\n", {"gradient.clip_norm": 1.0}, ["+  clip_norm: 1.0"]),
    "clip in lightning": ("c.yaml", "optimizer: adam\nmodel:\n  lr: 0.1\ntrainer:\n  max_epochs: 3\n", {"gradient.clip_norm": 1.0}, ["+  gradient_clip_val: 1.0"]),
    "schedule": ("c.yaml", "lr: 0.1\nscheduler: cosine\n", {"schedule.name": "constant"}, ["-scheduler: cosine", "+scheduler: constant"]),
    "name in a package": ("c.yaml", "optim:\n  _target_: torch.optim.SGD\n  lr: 0.1\n", {"optimizer.name": "adam"}, ["-  _target_: torch.optim.SGD", "+  _target_: torch.optim.Adam"]),
    "precision": ("c.yaml", "lr: 0.1\nprecision: float16\n", {"precision": "16-mixed"}, ["-precision: float16", "+precision: 16-mixed"]),
    "switch": ("c.yaml", "optimizer: adam\nlr: 0.1\namsgrad: false\n", {"optimizer.amsgrad": True}, ["-amsgrad: false", "+amsgrad: true"]),
    "list item": ("c.yaml", "optimizers:\n- name: adam\n  lr: 0.1\n", {"optimizer.eps": 0.1}, ["+  eps: 0.1"]),
    "json": (
        "c.json",
        '{\n  "optimizer": {\n    "type": "Adam",\n    "params": {\n      "lr": 0.1\n    }\n  }\n}\n',
        {"optimizer.eps": 1e-4},
        ['-      "lr": 0.1', '+      "lr": 0.1,', '+      "eps": 1e-4'],
    ),
    "json on one line": ("c.json", '{"lr":0.1,"optimizer":"adam"}\n', {"optimizer.eps": 0.1}, ['-{"lr":0.1,"optimizer":"adam"}', '+{"lr":0.1,"eps":0.1,"optimizer":"adam"}']),
    "json list": ("c.json", '{"lr": 0.1,\n "betas": [0.9, 1.0]}\n', {"optimizer.beta2": 0.99}, ['- "betas": [0.9, 1.0]}', '+ "betas": [0.9, 0.99]}']),
    "toml": ("c.toml", '[optimizer]\nname = "Adam"\nlr = 8e-4 # hi\n\n[training]\nsteps = 1\n', {"optimizer.eps": 1e-6}, ["+eps = 1e-6"]),
    "toml replaced": ("c.toml", '[optimizer]\nlr = 8e-4 # hi\nbetas = [0.9, 1.0]\n', {"optimizer.lr": 1e-4, "optimizer.beta2": 0.9}, ["-lr = 8e-4 # hi", "-betas = [0.9, 1.0]", "+lr = 1e-4 # hi", "+betas = [0.9, 0.9]"]),
    "toml with dots": ("c.toml", 'optimizer.name = "adam"\noptimizer.lr = 0.1\n', {"optimizer.eps": 0.1}, ["+optimizer.eps = 0.1"]),
    "python": ("c.py", "optimizer = dict(type='SGD', lr=0.02, momentum=0.9)  # peak\n", {"optimizer.lr": 1e-3}, ["-optimizer = dict(type='SGD', lr=0.02, momentum=0.9)  # peak", "+optimizer = dict(type='SGD', lr=0.001, momentum=0.9)  # peak"]),
    "python tuple": ("c.py", "o = 1\noptimizer = dict(type='Adam', lr=0.1,\n    betas=(0.9, 1.0))\n", {"optimizer.beta2": 0.999}, ["-    betas=(0.9, 1.0))", "+    betas=(0.9, 0.999))"]),
    "python name": ("c.py", "base_lr = 0.1\noptimizer = dict(type='Adam', lr=base_lr)\n", {"optimizer.lr": 0.01}, ["-base_lr = 0.1", "+base_lr = 0.01"]),
    "python switch": ("c.py", "optimizer = dict(type='Adam', lr=1, amsgrad=False)\n", {"optimizer.amsgrad": True}, ["-optimizer = dict(type='Adam', lr=1, amsgrad=False)", "+optimizer = dict(type='Adam', lr=1, amsgrad=True)"]),
    "interpolation": ("c.yaml", "lr: 0.1\noptimizer:\n  _target_: torch.optim.Adam\n  lr: ${lr}\n", {"optimizer.lr": 0.2}, ["-lr: 0.1", "+lr: 0.2"]),
    "name of an alias": ("c.yaml", "optimizer: adam\nlr: &lr 0.1  # x\n", {"optimizer.lr": 0.2}, ["-lr: &lr 0.1  # x", "+lr: &lr 0.2  # x"]),
    "tag": ("c.yaml", "optimizer: adam\nlr: !!float 3e-4\n", {"optimizer.lr": 0.2}, ["-lr: !!float 3e-4", "+lr: !!float 0.2"]),
    "comment in a flow": (
        "c.yaml",
        "optimizer: {name: adam,\n  lr: 0.1, # peak\n  weight_decay: 0}\n",
        {"optimizer.eps": 1e-4},
        ["+  eps: 1.0e-4,"],
    ),
    "comment at the end of a flow": (
        "c.yaml",
        "optimizer: {name: adam,\n  lr: 0.1 # peak\n  }\n",
        {"optimizer.eps": 1e-4},
        ["-  lr: 0.1 # peak", "+  lr: 0.1, # peak", "+  eps: 1.0e-4"],
    ),
    "python over lines": (
        "c.py",
        "optimizer = dict(\n    type='Adam',\n    lr=0.1,  # peak\n    betas=(0.9,\n           1.0),\n)\n",
        {"optimizer.beta2": 0.999},
        ["-           1.0),", "+           0.999),"],
    ),
    "python with a new key": (
        "c.py",
        "optimizer = dict(\n    type='Adam',\n    lr=0.1,  # peak\n)\n",
        {"optimizer.eps": 1e-4},
        ["+    eps=1e-4,"],
    ),
    "python dict with a new key": ("c.py", "optimizer = {'type': 'Adam', 'lr': 0.1}\n", {"optimizer.eps": 0.1}, ["-optimizer = {'type': 'Adam', 'lr': 0.1}", "+optimizer = {'type': 'Adam', 'lr': 0.1, 'eps': 0.1}"]),
    "python attribute": (
        "c.py",
        "def get_config():\n    config = ml_collections.ConfigDict()\n    config.optimizer = 'adam'\n    config.learning_rate = 0.1  # x\n    return config\n",
        {"optimizer.eps": 0.1},
        ["+    config.eps = 0.1"],
    ),
    "toml inline table": ("c.toml", 'optimizer = {name="adam", lr=0.1} # x\n', {"optimizer.eps": 0.1}, ['-optimizer = {name="adam", lr=0.1} # x', '+optimizer = {name="adam", lr=0.1, eps=0.1} # x']),
    "deepspeed": (
        "c.json",
        '{\n  "train_batch_size": 8,\n  "optimizer": {"type": "Adam", "params": {"lr": 0.1}},\n  "zero_optimization": {"stage": 1}\n}\n',
        {"gradient.clip_norm": 1.0},
        ['+  "gradient_clipping": 1.0,'],
    ),
    "option": ("c.sh", "python t.py --learning_rate 5e-5 --num_train_epochs 3 # x\n", {"optimizer.eps": 1e-6}, ["-python t.py --learning_rate 5e-5 --num_train_epochs 3 # x", "+python t.py --learning_rate 5e-5 --adam_epsilon 1e-6 --num_train_epochs 3 # x"]),
    "option on its line": (
        "c.sh",
        "torchrun t.py \\\n  --learning-rate=5e-5 \\\n  --num-train-epochs=3\n",
        {"optimizer.eps": 1e-6},
        ["+  --adam-epsilon=1e-6 \\"],
    ),
    "script": ("c.sh", "python t.py \\\n  --lr 1e-3 \\\n  --adam-beta2 0.95\n", {"optimizer.lr": 1e-4}, ["-  --lr 1e-3 \\", "+  --lr 1e-4 \\"]),
}  # fmt: skip

LOADERS = {"yaml": yaml.safe_load, "json": json.loads, "toml": tomllib.loads, "py": ast.parse, "sh": str}


def patch_of(root: Path, name: str, change: dict[str, object]) -> str | None:
    settings, damages = load_settings([root / name], root)
    assert {damage.kind for damage in damages} <= {"number-as-text", "several-documents", "several-commands", "duplicate-key"}
    return patch_for(root, settings, change, [name])


@pytest.mark.parametrize("case", CASES)
def test_git_takes_the_patch_and_the_change_is_made(tmp_path: Path, case: str) -> None:
    name, text, change, lines = CASES[case]
    folder = tmp_path / "my runs"
    folder.mkdir()
    (folder / name).write_bytes(text.encode())
    patch = patch_of(tmp_path, f"my runs/{name}", change)
    assert patch is not None
    assert patch.startswith(f"--- a/my runs/{name}\n+++ b/my runs/{name}\n@@ ")
    assert [line for line in patch.split("\n")[2:] if line[:1] in ("+", "-", "\\")] == lines
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "apply", "--whitespace=nowarn", "-"], cwd=tmp_path, check=True, input=patch.encode())
    after, _ = load_settings([folder / name], tmp_path)
    for setting, value in change.items():
        assert (
            after[setting].value == pytest.approx(value)
            if not isinstance(value, str)
            else value in str(after[setting].value).lower()
        )
    assert LOADERS[name.partition(".")[2]]((folder / name).read_text(encoding="utf-8-sig"))


@pytest.mark.parametrize(
    ("text", "change"),
    [
        ("optimizer: adam\nlr: 0.1\n", {"schedule.name": "constant"}),
        ("optimizer: adam\nlr: 0.1\n", {"precision": "16-mixed"}),
        ("optimizer: adam\nlr: 0.1\nhalf: true\n", {"precision": "16-mixed"}),
        ("optimizer: adam\nlr: 0.1\n", {"no.such": 1}),
        ("optimizer: adam\nlr: 0.1\n", {"optimizer.eps": float("nan")}),
        ("optimizer: adam\nlr: 0.1\n", {"optimizer.eps": object()}),
        ("optimizer: adam\nlr: 0.1\n", {"optimizer.lr": "a: b\nc: d"}),
        ("optimizer: adam\nlr: 0.1\n", {}),
        ("optimizer: adam\nlr: 0.1\n", {"optimizer.lr": 0.1}),
        ("batch: 3\n", {"optimizer.eps": 0.1}),
        ("base: &b\n  lr: 0.1\noptimizer:\n  <<: *b\n  name: adam\n", {"optimizer.lr": 0.5}),
        ("optimizer:\n  class_path: torch.optim.Adam\n", {"optimizer.eps": 0.1}),
        ("optimizer: adam\nlr:\n", {"optimizer.lr": 0.1}),
        ("optimizer: adam\nlr: ${oc.env:LR}\n", {"optimizer.lr": 0.1}),
        ("optimizer: adam\nlr: &lr 0.1\nwarm: *lr\n", {"optimizer.lr": 0.5}),
        ("optimizer: &o\n  name: adam\n  lr: 0.1\nother: *o\n", {"optimizer.lr": 0.5}),
        ("optimizer: adam\nlr: 0.1\n---\nlr: 0.2\n", {"optimizer.lr": 0.5}),
        ("optimizer: adam\nlr: 0.1\nlr: 0.2\n", {"optimizer.lr": 0.5}),
        ("optim: adamw_torch\nlearning_rate: 0.1\nnum_train_epochs: 3\n", {"optimizer.amsgrad": True}),
        ("lr0: 0.01\nlrf: 0.1\nmomentum: 0.9\nwarmup_epochs: 3.0\nbox: 0.05\ncls: 0.5\nhsv_h: 0.1\n", {"optimizer.eps": 0.1}),
    ],
)
def test_no_patch_where_the_place_cannot_be_told(tmp_path: Path, text: str, change: dict[str, object]) -> None:
    (tmp_path / "c.yaml").write_text(text)
    assert patch_of(tmp_path, "c.yaml", change) is None


@pytest.mark.parametrize(
    ("name", "text", "change"),
    [
        ("c.py", "optimizer = dict(type='Adam', lr=5e-4 * 2)\n", {"optimizer.lr": 0.1}),
        ("c.py", "from torch.optim import Adam\noptimizer = dict(type=Adam, lr=0.1)\n", {"optimizer.name": "sgd"}),
        ("c.py", "lr = 0.1\noptimizer = dict(type='Adam', lr=lr)\nlr_config = dict(min_lr=lr)\n", {"optimizer.lr": 0.5}),
        ("c.sh", "python t.py --lr 0.1\n", {"optimizer.eps": 0.1}),
        (
            "c.sh",
            "python t.py --lr 0.1 --num_train_epochs 3\npython t.py --lr 0.2 --num_train_epochs 3\n",
            {"optimizer.eps": 0.1},
        ),
        ("c.py", "optimizer = 'adam'; lr = 0.1\n", {"optimizer.eps": 0.1}),
        ("c.py", "optimizer = dict(type='Adam', lr=0.1)\n", {"gradient.clip_norm": 1.0}),
        ("args.yaml", "opt: sgd\nsched: cosine\nlr: null\nlr_base: 0.1\nbatch_size: 64\n", {"optimizer.lr": 0.5}),
    ],
)
def test_no_patch_of_what_was_worked_out(tmp_path: Path, name: str, text: str, change: dict[str, object]) -> None:
    (tmp_path / name).write_text(text)
    assert patch_of(tmp_path, name, change) is None


def test_no_patch_without_a_readable_file_under_the_root(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "c.yaml").write_text("lr: 0.1\n")
    (tmp_path / "root/bad.yaml").write_text("lr: {\n")
    for files in ([], ["none.yaml"], ["../c.yaml"], [str(tmp_path / "c.yaml")], ["bad.yaml"]):
        assert patch_for(tmp_path / "root", {}, {"optimizer.lr": 0.2}, files) is None


def test_the_file_that_decides_is_patched(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("lr: 0.1\noptimizer: adam\n")
    (tmp_path / "b.yaml").write_text("lr: 0.2\n")
    patch = patch_for(tmp_path, {}, {"optimizer.lr": 0.3, "optimizer.name": "sgd"}, ["a.yaml", "b.yaml"])
    assert patch is not None
    assert "-optimizer: adam\n+optimizer: sgd\n" in patch
    assert "-lr: 0.2\n+lr: 0.3\n" in patch
    assert "-lr: 0.1" not in patch


def test_an_option_of_hydra_is_changed_where_it_stands(tmp_path: Path) -> None:
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer/adam.yaml").write_text("_target_: torch.optim.Adam\nlr: 0.1  # peak\n")
    main = "defaults:\n- optimizer: adam\n- _self_\n\nbatch_size: 8\n"
    (tmp_path / "config.yaml").write_text(main)
    patch = patch_of(tmp_path, "config.yaml", {"optimizer.lr": 0.01})
    assert patch is not None
    assert patch.startswith("--- a/optimizer/adam.yaml\n")
    assert "-lr: 0.1  # peak\n+lr: 0.01  # peak\n" in patch
    (tmp_path / "config.yaml").write_text(f"{main}optimizer:\n  lr: 0.2\n")
    patch = patch_of(tmp_path, "config.yaml", {"optimizer.lr": 0.01})
    assert patch is not None
    assert patch.startswith("--- a/config.yaml\n")


def test_a_base_that_many_configs_share_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "_base_").mkdir()
    (tmp_path / "_base_/schedule.py").write_text("optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))\n")
    (tmp_path / "config.py").write_text("_base_ = ['_base_/schedule.py']\ntrain_cfg = dict(max_epochs=12)\n")
    assert patch_of(tmp_path, "config.py", {"optimizer.lr": 0.01}) is None


def test_deepspeed_and_the_trainer_above_it_are_changed_together(tmp_path: Path) -> None:
    trainer = "learning_rate: 5.0e-5  # peak\nlr_scheduler_type: linear\nnum_train_epochs: 3\ndeepspeed: ds.json\n"
    deepspeed = '{"optimizer": {"type": "AdamW", "params": {"lr": 5e-5}}, "zero_optimization": {"stage": 2}}\n'
    (tmp_path / "args.yaml").write_text(trainer)
    (tmp_path / "ds.json").write_text(deepspeed)
    patch = patch_for(tmp_path, {}, {"optimizer.lr": 1e-5}, ["args.yaml", "ds.json"])
    assert patch is not None
    assert "+learning_rate: 1.0e-5  # peak\n" in patch
    assert '"lr": 1e-5}' in patch
    (tmp_path / "ds.json").write_text(deepspeed.replace("5e-5", '"auto"'))
    patch = patch_for(tmp_path, {}, {"optimizer.lr": 1e-5}, ["args.yaml", "ds.json"])
    assert patch is not None
    assert "b/ds.json" not in patch


@given(
    st.sampled_from(sorted(CASES)),
    st.sampled_from(
        ["optimizer.lr", "optimizer.eps", "optimizer.beta1", "optimizer.beta2", "optimizer.weight_decay", "gradient.clip_norm"]
    ),
    st.floats(1e-7, 0.99),
)
def test_a_patch_removes_only_what_it_replaces(
    tmp_path_factory: pytest.TempPathFactory, case: str, setting: str, value: float
) -> None:
    name, text, _, _ = CASES[case]
    root = tmp_path_factory.mktemp("root")
    (root / name).write_bytes(text.encode())
    patch = patch_of(root, name, {setting: value})
    if patch is not None:
        lines = patch.split("\n")[2:]
        assert sum(line.startswith("-") for line in lines) <= 1
        assert sum(line.startswith("+") for line in lines) in (1, 2)


@pytest.mark.parametrize(
    ("value", "yaml_text", "json_text"),
    [
        (0.1, "0.1", "0.1"),
        (1e-4, "1.0e-4", "1e-4"),
        (3e-4, "3.0e-4", "3e-4"),
        (1.25e-5, "1.25e-5", "1.25e-5"),
        (1.0, "1.0", "1.0"),
        (0.999, "0.999", "0.999"),
        (0.30000000000000004, "0.3", "0.3"),
        (0.9999999, "0.9999999", "0.9999999"),
        (2e7, "2.0e+7", "2e+7"),
        (0.0, "0.0", "0.0"),
    ],
)
def test_numbers_as_people_write_them(value: float, yaml_text: str, json_text: str) -> None:
    assert write_number(value, ".yaml") == yaml_text
    assert write_number(value, ".json") == json_text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_number_reads_as_itself_in_every_format(value: float) -> None:
    assert yaml.safe_load(write_number(value, ".yaml")) == pytest.approx(value, rel=1e-5, abs=0)
    assert json.loads(write_number(value, ".json")) == pytest.approx(value, rel=1e-5, abs=0)
    assert tomllib.loads(f"a = {write_number(value, '.toml')}")["a"] == pytest.approx(value, rel=1e-5, abs=0)


def test_importing_is_light() -> None:
    code = "import sys, traindoctor.configs; print('ruamel.yaml' in sys.modules, 'numpy' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "False"]
