"""A rule pack of somebody else's, by its path: its causes count, and what fails in it is told while the others go on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from traindoctor.cli import main
from traindoctor.errors import RulePackError
from traindoctor.registry import Shelf, load_rules

PACK = Path(__file__).parent / "pack"


@pytest.fixture
def log(tmp_path):
    """Return a folder with a run whose loss stays at 3."""
    rows = "\n".join(f"{step},{3.0 + 0.01 * (step % 3)},0.001" for step in range(40))
    (tmp_path / "log.csv").write_text(f"step,loss,lr\n{rows}\n")
    return tmp_path


def diagnosed(capsys, *arguments):
    code = main(["diagnose", *map(str, arguments), "--format", "json", "--fail-on", "never", "--quiet"])
    shown = capsys.readouterr()
    return code, json.loads(shown.out) if shown.out else {}, shown.err


def test_the_rules_of_a_folder_join_the_installed_ones(log, capsys):
    code, said, _ = diagnosed(capsys, log, "--rules", PACK)
    (run,) = said["runs"]
    assert code == 0
    assert "HOUSE001" in [finding["code"] for finding in run["findings"]]
    assert "TD201" in run["checked"] + [one["code"] for one in run["not_checked"]]


def test_a_rule_that_fails_on_a_run_is_named_and_the_others_run(log, capsys):
    _, said, _ = diagnosed(capsys, log, "--rules", PACK)
    (run,) = said["runs"]
    (reason,) = [one["reason"] for one in run["not_checked"] if one["code"] == "HOUSE002"]
    assert reason == "the rule failed: ZeroDivisionError: division by zero"


def test_a_single_file_is_a_pack_when_it_states_its_interface(log, capsys, tmp_path):
    rule = tmp_path / "my_rule.py"
    rule.write_text("API = 1\n" + (PACK / "loss_above_a_bound.py").read_text())
    _, said, _ = diagnosed(capsys, log, "--rules", rule)
    assert "HOUSE001" in [finding["code"] for finding in said["runs"][0]["findings"]]


def test_a_pack_that_does_not_load_is_named_in_the_report_and_the_run_is_diagnosed(log, capsys, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_module_at_all\n")
    code, said, _ = diagnosed(capsys, log, "--rules", broken)
    assert code == 0
    (problem,) = said["problems"]
    assert "broken.py" in problem
    assert "no_such_module_at_all" in problem
    assert said["runs"][0]["verdict"]


def test_a_statement_that_fails_leaves_the_evidence(log, capsys, tmp_path):
    rule = tmp_path / "half.py"
    text = (PACK / "loss_above_a_bound.py").read_text().replace('Statement("The', '1 / 0 or Statement("The')
    rule.write_text("API = 1\n" + text)
    _, said, _ = diagnosed(capsys, log, "--rules", rule)
    (finding,) = [f for f in said["runs"][0]["findings"] if f["code"] == "HOUSE001"]
    assert "ZeroDivisionError" in finding["message"]
    assert finding["evidence"]


@pytest.mark.parametrize("name", ["missing.py", "folder", "notes.txt"])
def test_a_path_without_rules_is_refused_with_what_to_name(log, capsys, tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "notes.txt").write_text("")
    assert main(["diagnose", str(log), "--rules", str(tmp_path / name)]) == 2
    shown = capsys.readouterr().err
    assert name in shown
    assert "__init__.py" in shown
    assert "Traceback" not in shown
    with pytest.raises(RulePackError):
        load_rules([str(tmp_path / name)])


def test_explain_and_rules_know_them(capsys):
    assert main(["explain", "HOUSE001", "--rules", str(PACK)]) == 0
    assert "loss-above-a-bound" in capsys.readouterr().out
    assert main(["rules", "--rules", str(PACK)]) == 0
    assert "HOUSE001" in capsys.readouterr().out
    assert main(["explain", "HOUSE001"]) == 2


RULE = """API = 1
from traindoctor.mistake import Mistake
from traindoctor.rule import Cause
CAUSE = Cause("HOUSE003", "no-adam-here", "no Adam here", "No Adam here.")
@CAUSE.in_script("Adam")
def look(script, limits):
    for call in script.calls.get("Adam", ()):
        yield Mistake(script.place(call), "Adam is not for this house.", "Take SGD")
"""


def test_check_takes_them_too_and_sees_when_they_change(capsys, tmp_path):
    rule, script = tmp_path / "house.py", tmp_path / "train.py"
    rule.write_text(RULE)
    script.write_text("import torch\nopt = torch.optim.Adam(model.parameters(), lr=1e-3)\n")
    arguments = ["check", str(script), "--rules", str(rule), "--cache-dir", str(tmp_path / "cache"), "--select", "HOUSE"]
    assert main(arguments) == 1
    assert "Adam is not for this house" in capsys.readouterr().out
    assert str(rule) in Shelf([str(rule)]).folders
