import json
import shutil
import subprocess
from pathlib import Path

import pytest

from traindoctor.pipeline import diagnose

ROOT = Path(__file__).parents[1]
SICK = ROOT / "fixtures" / "sick"
SCRIPT = """import torch
model = torch.nn.Linear(1000, 1)
optimizer = torch.optim.Adam(model.parameters(), lr=0.001, betas=(0.9, 0.999), eps=1e-8)
for step in range(6000):
    optimizer.zero_grad()
    ((model(x) - y) ** 2).sum().backward()
    optimizer.step()
"""
#: A loss that no longer knows the model, which no log shows.
REWRAPPED = "torch.tensor(((model(x) - y) ** 2).sum(), requires_grad=True)"


@pytest.fixture
def run(tmp_path):
    """Return the folder of a run that collapses, with no config beside it."""
    folder = tmp_path / "run"
    shutil.copytree(SICK / "overtrained-perceptron", folder)
    for file in folder.rglob("*"):
        if file.is_file() and (file.suffix in (".yaml", ".json", ".py")):
            file.unlink()
    return folder


def applied(folder, patch):
    """Return the folder after `git apply`."""
    subprocess.run(["git", "apply", "-"], input=patch, text=True, cwd=folder, check=True)
    return folder


def test_the_optimizer_that_the_script_builds_stands_for_a_config(run):
    (run / "train.py").write_text(SCRIPT)
    (report,) = diagnose([run]).runs
    assert report.run.optimizer.eps == 1e-8
    assert report.run.optimizer.origin["eps"] == "train.py:3"
    finding = report.findings[0]
    assert finding.code == "TD101"
    fix = finding.fixes[0]
    assert list(fix.settings) == ["optimizer.eps"]
    assert ("train.py", 3) in [(place.file, place.line) for place in finding.locations]
    assert f"eps={fix.settings['optimizer.eps']:g}" in (applied(run, fix.patch) / "train.py").read_text()


def test_the_config_goes_before_the_script(run):
    (run / "train.py").write_text(SCRIPT.replace("eps=1e-8", "eps=1e-3"))
    (run / "config.yaml").write_text("optimizer:\n  name: adam\n  lr: 0.001\n  eps: 1.0e-8\n")
    (report,) = diagnose([run]).runs
    assert report.run.optimizer.eps == 1e-8
    assert report.findings[0].locations[0].file == "config.yaml"


def test_a_fault_that_the_script_alone_shows_is_named_with_its_line(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(ROOT / "fixtures" / "healthy" / "digits-adam-tensorboard", folder)
    for file in folder.rglob("*.py"):
        file.unlink()
    (folder / "train.py").write_text(SCRIPT.replace("((model(x) - y) ** 2).sum()", REWRAPPED))
    (report,) = diagnose([folder]).runs
    finding = report.findings[0]
    assert finding.code == "TD605"
    assert report.verdict == "suspicious"
    assert [place.line for place in finding.locations] == [6]
    assert json.dumps(finding.title)


def test_two_faults_of_a_script_are_both_named(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(ROOT / "fixtures" / "healthy" / "digits-adam-tensorboard", folder)
    script = SCRIPT.replace("((model(x) - y) ** 2).sum()", REWRAPPED).replace("betas=(0.9, 0.999)", "betas=(0.999, 0.9)")
    (folder / "train.py").write_text(script)
    (report,) = diagnose([folder]).runs
    assert report.verdict == "suspicious"
    found = {finding.code: finding for finding in report.findings}
    assert {code: one.severity for code, one in found.items()} == {"TD105": "error", "TD605": "error"}
    assert "betas=(0.9, 0.999)" in (applied(folder, found["TD105"].fixes[0].patch) / "train.py").read_text()


def test_a_comment_silences_a_fault_of_the_script_here_too(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(ROOT / "fixtures" / "healthy" / "digits-adam-tensorboard", folder)
    comment = "    # traindoctor: ignore[TD605] -- the paper does so\n    "
    (folder / "train.py").write_text(SCRIPT.replace("    ((model(x) - y) ** 2).sum()", comment + REWRAPPED))
    (report,) = diagnose([folder]).runs
    assert report.verdict == "healthy"
    assert not report.findings


def test_each_line_is_named_once_and_a_default_by_its_optimizer():
    (report,) = diagnose([SICK / "digits-eps-zero"]).runs
    assert [place.text for place in report.findings[0].locations] == ["config.yaml:5"]
    (report,) = diagnose([SICK / "overtrained-perceptron"]).runs
    (place,) = report.findings[0].locations
    assert "name:" in (SICK / "overtrained-perceptron" / place.file).read_text().splitlines()[place.line - 1]


def test_what_lacks_a_script_or_config_is_said_not_to_be_checked(run):
    (report,) = diagnose([run]).runs
    assert {"TD602", "TD312"} <= {silent.code for silent in report.not_checked}
    assert all("script" in silent.reason for silent in report.not_checked if silent.code == "TD602")


def test_a_config_alone_names_nothing_on_a_run_that_is_sound(tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(ROOT / "fixtures" / "healthy" / "digits-adam-tensorboard", folder)
    for file in [*folder.rglob("*.py"), *folder.rglob("*.yaml"), *folder.rglob("*.json")]:
        file.unlink()
    (folder / "config.yaml").write_text(
        "output_dir: out\noptim: adam\nlearning_rate: 0.002\nadam_beta1: 0.9\nper_device_train_batch_size: 64\n"
        "warmup_steps: 900\nmax_steps: 550\nfp16: true\nbf16: true\n"
    )
    (report,) = diagnose([folder]).runs
    assert report.verdict == "healthy"
    assert all(finding.severity == "info" for finding in report.findings)
