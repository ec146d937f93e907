"""A config that was mended after its run: no fix asks for what it holds already, none raises a value by lowering it."""

import re
import shutil
from pathlib import Path

import pytest

from traindoctor.pipeline import diagnose

SICK = Path(__file__).parents[1] / "fixtures" / "sick"


@pytest.mark.parametrize(
    ("run", "key", "word"),
    [
        ("digits-momentum-lr-too-high", "optimizer.lr", "lr"),
        ("stuck-bouncing", "optimizer.lr", "lr"),
        ("four-tasks-haywire", "optimizer.eps", "epsilon"),
    ],
)
def test_no_fix_asks_for_what_is_there(run, key, word, tmp_path):
    shutil.copytree(SICK / run, tmp_path / run)
    first = diagnose([tmp_path / run]).runs[0].findings[0].fixes[0]
    config = tmp_path / run / "config.yaml"
    written = rf"\g<1>{first.settings[key]:.6f}"
    mended, n = re.subn(rf"(?m)^(\s*{word}\s*:\s*)\S+", written, config.read_text())
    assert n == 1
    config.write_text(mended)
    [report] = diagnose([tmp_path / run]).runs
    now = {k: s.value for k, s in report.run.settings.items()}
    assert now[key] == first.settings[key]
    for finding in report.findings:
        for fix in finding.fixes:
            if fix.replay.depth == "none":
                assert not fix.settings or any(now.get(k) != v for k, v in fix.settings.items()), fix.title
            if fix.title.startswith("Raise") and key in fix.settings:
                assert fix.settings[key] > now[key], fix.title
