"""Patches of generated configs: `git apply` takes each, and it changes its own lines and nothing else."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "patches"


@pytest.fixture(scope="module")
def patches():
    """Return the modules of the benchmark; their plain names are free again afterwards."""
    kept = {name: sys.modules.pop(name) for name in ("generate", "run") if name in sys.modules}
    before = list(sys.path)
    sys.path.insert(0, str(FOLDER))
    spec = importlib.util.spec_from_file_location("patches_run", FOLDER / "run.py")
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    yield run
    sys.path[:] = before
    sys.modules.pop("generate", None)
    sys.modules.update(kept)


@pytest.mark.parametrize("kind", ["configs", "scripts", "commands"])
def test_git_takes_each_patch_and_only_its_lines_change(patches, tmp_path, kind):
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    cases = list(getattr(sys.modules["generate"], kind)())
    wrong = []
    for i, case in enumerate(cases):
        folder = tmp_path / str(i)
        folder.mkdir()
        why = patches.fault(case, folder)
        if why:
            wrong.append(f"{case.name}: {case.setting} = {case.value}: {why}\n{case.text}")
    assert not wrong, wrong[0]
    assert len(cases) >= {"configs": 200, "scripts": 20, "commands": 20}[kind]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("lr: 0.1  # a\nx: 1\n", "lr: 0.2  # a\nx: 1\n", ""),
        ("lr: 0.1  # a\nx: 1\n", "lr: 0.2\nx: 1\n", "became"),
        ("lr: 0.1  # a\nx: 1\n", "lr: 0.2  # a\nx:  1\n", "lines became"),
        ("lr: 0.1\nb: 2\nx: 1\n", "lr: 0.2\nb: 2\nx: 1", "places changed"),
        ("lr: 0.1\r\n", "lr: 0.2\n", "became"),
    ],
)
def test_a_change_of_anything_else_is_seen(patches, old, new, fault):
    case = sys.modules["generate"].Case("c.yaml", old, "optimizer.lr", 0.2, ("lr",), False)
    found = patches.wrong(case, new)
    assert fault in found
    assert bool(found) == bool(fault)


def test_a_file_that_says_something_else_is_seen(patches):
    case = sys.modules["generate"].Case("c.yaml", "lr: 0.1\nb: 1\n", "optimizer.lr", 3e-4, ("lr",), False)
    assert patches.wrong(case, "lr: 3e-4\nb: 1\n").startswith("the file says something else")  # text to PyYAML
    assert not patches.wrong(case, "lr: 3.0e-4\nb: 1\n")
