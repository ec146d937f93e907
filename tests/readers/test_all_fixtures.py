"""Every log of the fixtures through the whole of reading: no warning, no loss of role, and the same twice."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from traindoctor.cli import main
from traindoctor.readers.discover import read_runs
from traindoctor.report.inspection import inspect_runs

FORMATS = Path(__file__).parents[2] / "fixtures" / "formats"
FOLDERS = sorted(p for p in FORMATS.iterdir() if p.is_dir() and p.name != "configs")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_a_folder_of_a_format_is_read_without_a_warning(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runs = read_runs(folder)
    assert runs
    assert all(run.series for run in runs)
    assert any("loss" in run.primary for run in runs) or folder.name in ("sb3-monitor", "sb3-progress")
    assert inspect_runs(runs, "1") == inspect_runs(read_runs(folder), "1")


def test_all_of_them_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(FORMATS)]) == 0
    assert main(["diagnose", str(FORMATS), "--fail-on", "never", "-q"]) == 0
    assert "Traceback" not in capsys.readouterr().err
