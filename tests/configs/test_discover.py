from __future__ import annotations

from typing import TYPE_CHECKING

from traindoctor.configs import find_code, find_configs

if TYPE_CHECKING:
    from pathlib import Path


def lay(root: Path, *names: str, text: str = "a: 1\n") -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_the_nearest_folder_that_has_any_wins(tmp_path: Path) -> None:
    lay(
        tmp_path,
        "config.yaml",
        "runs/a/config.json",
        "runs/a/hparams.yaml",
        "runs/a/logs/metrics.csv",
        "runs/a/logs/metrics.json",
    )
    found = find_configs(tmp_path / "runs/a/logs", tmp_path)
    assert [p.name for p in found] == ["hparams.yaml", "config.json"]


def test_nothing_above_the_top_is_read(tmp_path: Path) -> None:
    lay(tmp_path, "config.yaml", "top/run/x.csv")
    assert find_configs(tmp_path / "top/run", tmp_path / "top") == []
    assert [p.name for p in find_configs(tmp_path / "top/run", tmp_path)] == ["config.yaml"]


def test_files_of_other_tools_are_no_configs(tmp_path: Path) -> None:
    lay(
        tmp_path,
        "pyproject.toml",
        "package.json",
        "trainer_state.json",
        "expected.json",
        "label.json",
        "metrics.json",
        "tokenizer_config.json",
    )
    assert find_configs(tmp_path, tmp_path) == []


def test_a_single_file_of_another_name_counts(tmp_path: Path) -> None:
    lay(tmp_path, "exp7.toml")
    assert [p.name for p in find_configs(tmp_path, tmp_path)] == ["exp7.toml"]
    lay(tmp_path, "exp8.yaml")
    assert find_configs(tmp_path, tmp_path) == []
    lay(tmp_path, "my_config_v2.yml")
    assert [p.name for p in find_configs(tmp_path, tmp_path)] == ["my_config_v2.yml"]


def test_code_that_trains(tmp_path: Path) -> None:
    lay(tmp_path, "train.py", text="loss.backward()\n")
    lay(tmp_path, "run/plot.py", text="print(1)\n")
    assert [p.name for p in find_code(tmp_path / "run", tmp_path)] == ["train.py"]
    lay(tmp_path, *(f"run/t{n:02}.py" for n in range(30)), text="opt.zero_grad()\n")
    assert len(find_code(tmp_path / "run", tmp_path)) == 20


def test_python_configs_and_scripts_count_when_nothing_else_does(tmp_path: Path) -> None:
    lay(tmp_path, "a/plot.py", text="import os\nlr = 3\n")
    lay(tmp_path, "a/train.py", text="lr = 0.1\nloss.backward()\n")
    lay(tmp_path, "a/prepare.sh", text="python prepare.py --n 3\n")
    assert find_configs(tmp_path / "a", tmp_path / "a") == []
    lay(tmp_path, "a/run.sh", text="python train.py --lr 0.1\n")
    assert [p.name for p in find_configs(tmp_path / "a", tmp_path / "a")] == ["run.sh"]
    lay(tmp_path, "a/args.txt", text="Namespace(lr=0.1)\n")
    assert [p.name for p in find_configs(tmp_path / "a", tmp_path / "a")] == ["args.txt"]
    lay(tmp_path, "a/retinanet.py", text="optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1))\n")
    assert [p.name for p in find_configs(tmp_path / "a", tmp_path / "a")] == ["retinanet.py"]
    lay(tmp_path, "a/other.py", text="optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.2))\n")
    assert find_configs(tmp_path / "a", tmp_path / "a") == []
    lay(tmp_path, "a/config.yaml")
    assert [p.name for p in find_configs(tmp_path / "a", tmp_path / "a")] == ["config.yaml"]


def test_a_missing_folder_has_nothing(tmp_path: Path) -> None:
    assert find_configs(tmp_path / "none", tmp_path / "none") == []
    assert find_code(tmp_path / "none", tmp_path / "none") == []
