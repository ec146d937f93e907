"""Which fixes a report offers, and their patches made anew: nothing that a report holds is taken on trust."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from traindoctor.beside import patch_of_settings, read_beside
from traindoctor.cli import main
from traindoctor.configs import load_settings
from traindoctor.errors import TraindoctorError
from traindoctor.fixing import (
    Choice,
    changes_of,
    choices,
    files_named,
    new_keys,
    patch_from_report,
    patch_from_run,
    refusal,
    shown_from,
)
from traindoctor.model import Finding, Fix, Report, Run, RunReport, Setting
from traindoctor.registry import load_rules

CONFIG = "optimizer:\n  name: adam\n  lr: 0.5  # peak\n  eps: 1.0e-8\ntrain:\n  steps: 10\n"
SCRIPT = """import torch
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for x, y in loader:
    loss = ((model(x) - y) ** 2).mean()
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()
"""
PATCH = "--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n-{1}\n+{2}\n"


def finding(code, *fixes):
    return Finding(code, "a-cause", "error", 0.9, "It failed", "It failed.", fixes=fixes)


def choice(root, fix, code="TD201", settings=None):
    held = load_settings([root / "config.yaml"], root)[0] if settings is None else settings
    run = Run(name="run", path=".", root="", series=(), primary={}, settings=held)
    return Choice(run, finding(code, fix), 1, fix)


def anew(told, root):
    return patch_from_report(told, root, load_rules().causes, {})


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


# -- which fixes ------------------------------------------------------------------------------------------------------


def test_the_first_fix_of_each_run_is_meant():
    def told(name, *findings):
        run = Run(name=name, path=name, root="", series=(), primary={})
        return RunReport(run, "failed" if name != "sound" else "healthy", "", findings, (), ())

    one, other = finding("TD201", Fix("a"), Fix("b")), finding("TD101", Fix("c"))
    report = Report((told("x", one, other), told("y", other), told("z"), told("sound", other)), "1")
    assert [(c.run.name, c.fix.title) for c in choices(report)] == [("x", "a"), ("y", "c")]
    assert [c.fix.title for c in choices(report, number=2)] == ["b"]
    assert [c.fix.title for c in choices(report, every=True)] == ["a", "b", "c", "c", "c"]
    assert [c.fix.title for c in choices(report, wanted=lambda _, f: f.code == "TD101")] == ["c", "c", "c"]


# -- a report that was read back --------------------------------------------------------------------------------------


def test_the_patch_of_a_setting_is_made_from_the_file_that_is_here(folder):
    evil = PATCH.format("config.yaml", "optimizer:", "optimizer: !!python/object/apply:os.system [id]")
    told = choice(folder, Fix("Lower lr", {"optimizer.lr": 0.05}, evil))
    made = anew(told, folder)
    assert made.state == "patched"
    (change,) = changes_of(made.patch, folder)
    assert change.after.decode() == CONFIG.replace("lr: 0.5  # peak", "lr: 0.05  # peak")


@pytest.mark.parametrize(
    "target",
    ["../.bashrc", "/etc/x.yaml", ".git/hooks/a.sh", "notes.md", "sub/../../up.yaml", ".GIT/config.yaml", "a\0.yaml"],
)
def test_a_patch_of_any_other_file_is_never_taken(folder, target):
    (folder / ".git" / "hooks").mkdir(parents=True)
    (folder / ".git" / "hooks" / "a.sh").write_text("x\n")
    (folder / "notes.md").write_text("x\n")
    patch = PATCH.format(target, "x", "y")
    made = anew(choice(folder, Fix("Do this", {}, patch)), folder)
    assert (made.patch, made.state) == (None, "stale")
    if "\0" not in target:
        assert refusal(folder, target)
        with pytest.raises(TraindoctorError, match="not changed"):
            changes_of(patch, folder)


def test_a_patch_of_a_script_needs_the_mistake_in_the_script(folder):
    (folder / "train.py").write_text(SCRIPT)
    patch = PATCH.format("train.py", "import torch", "import os; os.system('id')")
    made = anew(choice(folder, Fix("Move it", {}, patch), code="TD302"), folder)
    assert (made.patch, made.state) == (None, "stale")
    assert "not taken on trust" in made.reason


def test_a_repair_of_a_script_is_found_again_where_lines_were_added(folder):
    (folder / "train.py").write_text(SCRIPT)
    patch = (
        "--- a/train.py\n+++ b/train.py\n@@ -3,6 +3,6 @@\n optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)\n"
        " for x, y in loader:\n     loss = ((model(x) - y) ** 2).mean()\n+    optimizer.zero_grad()\n     loss.backward()\n"
        "-    optimizer.zero_grad()\n     optimizer.step()\n"
    )
    told = choice(folder, Fix("Move it", {}, patch), code="TD302")
    assert anew(told, folder).patch == patch
    (folder / "train.py").write_text(f"# a new first line\n{SCRIPT}")
    made = anew(told, folder)
    assert made.patch is not None
    assert "@@ -4,6 +4,6 @@" in made.patch
    (folder / "train.py").write_text(SCRIPT.replace("    optimizer.zero_grad()\n", ""))
    assert anew(told, folder).state == "stale"


ONE_LINE = "import torch; model = torch.nn.Linear(2, 1); optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)"


@pytest.mark.parametrize(
    ("head", "encoding", "end"),
    [
        ("", "utf-8-sig", "\n"),
        ("", "utf-8", "\r\n"),
        ("# coding: latin-1\n", "latin-1", "\n"),
        ("# größe\n", "utf-8-sig", "\r\n"),
    ],
)
def test_git_takes_the_patch_of_a_script_of_any_encoding(tmp_path, monkeypatch, capfdbinary, head, encoding, end):
    """A byte-order mark, line ends of Windows and letters of Latin-1 stand in the lines around the change."""
    body = SCRIPT.partition("\nfor ")[2].replace("    loss.backward()", "    loss.backward()  # größe")
    text = f"{head}{ONE_LINE}\nfor {body}".replace("\n", end)
    (tmp_path / "train.py").write_bytes(text.encode(encoding))
    (tmp_path / "metrics.csv").write_text("step,loss,grad_norm\n" + "".join(f"{i},0.5,0\n" for i in range(300)))
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    assert main(["fix", ".", "--only", "TD302", "-q"]) == 0
    patch = capfdbinary.readouterr().out
    subprocess.run(["git", "apply", "-"], input=patch, check=True)
    after = (tmp_path / "train.py").read_bytes()
    assert sorted(after.splitlines()) == sorted(text.encode(encoding).splitlines())
    (tmp_path / "train.py").write_bytes(text.encode(encoding))
    assert main(["fix", ".", "--only", "TD302", "-q", "--apply"]) == 0
    assert (tmp_path / "train.py").read_bytes() == after


def test_a_file_that_holds_something_else_is_told(folder):
    told = choice(folder, Fix("Lower lr", {"optimizer.lr": 0.05}))
    (folder / "config.yaml").write_text(CONFIG.replace("lr: 0.5", "lr: 0.7"))
    made = anew(told, folder)
    assert (made.patch, made.state) == (None, "stale")
    assert "saw 0.5 at config.yaml:3, and config.yaml:3 holds 0.7" in made.reason
    (folder / "config.yaml").write_text(CONFIG.replace("lr: 0.5", "lr: 0.05"))
    assert anew(told, folder).state == "made"
    (folder / "config.yaml").unlink()
    assert "--root" in anew(told, folder).reason


def test_an_option_of_hydra_is_changed_where_it_stands(folder):
    (folder / "optimizer").mkdir()
    (folder / "optimizer" / "adam.yaml").write_text("_target_: torch.optim.Adam\nlr: 0.5\neps: 1.0e-8\n")
    (folder / "config.yaml").write_text("defaults:\n- optimizer: adam\n- _self_\noptimizer:\n  eps: 1.0e-7\n")
    made = anew(choice(folder, Fix("Lower lr", {"optimizer.lr": 0.05})), folder)
    assert made.state == "patched"
    assert made.patch.startswith("--- a/optimizer/adam.yaml\n")
    made = anew(choice(folder, Fix("Raise eps", {"optimizer.eps": 1e-3})), folder)
    assert made.patch.startswith("--- a/config.yaml\n")


def test_other_lines_may_have_changed(folder):
    told = choice(folder, Fix("Lower lr", {"optimizer.lr": 0.05}))
    (folder / "config.yaml").write_text(f"# more\n\n{CONFIG}seed: 3\n")
    made = anew(told, folder)
    assert "-  lr: 0.5  # peak\n+  lr: 0.05  # peak\n" in made.patch


def test_a_value_that_only_the_log_holds_has_no_file(folder):
    settings = {"optimizer.lr": Setting(0.5, "first value of tag lr")}
    made = anew(choice(folder, Fix("Lower lr", {"optimizer.lr": 0.05}), settings=settings), folder)
    assert (made.patch, made.state) == (None, "by hand")
    assert "names no config" in made.reason


@pytest.mark.parametrize("value", ["0.1\nevil: true", {"a": 1}, float("nan"), None, [1, 2, 3]])
def test_a_value_that_is_none_is_not_written(folder, value):
    made = anew(choice(folder, Fix("Set lr", {"optimizer.lr": value})), folder)
    assert made.patch is None


def test_files_that_are_named(folder):
    settings = {
        "optimizer.lr": Setting(0.5, "config.yaml:3"),
        "optimizer.eps": Setting(1e-8, "default of PyTorch"),
        "batch_size": Setting(1, "notes: 12"),
        "steps": Setting(1, "sub/base.yaml:4 (worked out)"),
    }
    told = choice(folder, Fix("a", {}, PATCH.format("train.py", "a", "b")), settings=settings)
    assert files_named(told) == ["train.py", "config.yaml", "sub/base.yaml"]


# -- a diagnosis of now -----------------------------------------------------------------------------------------------


def run_at(folder, **fields):
    settings, _ = load_settings([folder / "config.yaml"], folder)
    made = Run(name="run", path=".", root=str(folder), series=(), primary={}, settings=settings, config_files=("config.yaml",))
    return dataclasses.replace(made, **fields)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schedule.name": "cosine"}, "a schedule is built by the program"),
        ({"gradient.zero_grad": True}, "which key of config.yaml would stand for"),
        ({"precision": "16-mixed"}, "no config file holds `precision`|which key"),
    ],
)
def test_why_there_is_no_patch(folder, change, reason):
    fix = Fix("a", change)
    made = patch_from_run(Choice(run_at(folder), finding("TD201", fix), 1, fix))
    assert (made.patch, made.state) == (None, "by hand")
    assert any(words in made.reason for words in reason.split("|"))


def test_what_a_file_holds_already_is_made(folder):
    fix = Fix("a", {"optimizer.lr": 0.5})
    made = patch_from_run(Choice(run_at(folder), finding("TD201", fix), 1, fix))
    assert made == (None, "made", "config.yaml:3 holds 0.5 already")


@pytest.mark.parametrize(
    ("text", "change", "reason"),
    [
        ("lr: 0.1\nlr: 0.2\noptimizer: adam\n", {"optimizer.lr": 0.3}, "stands twice"),
        ("base: &b\n  lr: 0.1\noptimizer:\n  <<: *b\n  name: adam\n", {"optimizer.lr": 0.3}, "other keys share"),
        ("optimizer: adam\nlr:\n", {"optimizer.lr": 0.3}, "no config file holds|nothing stands behind"),
        ("optimizer: adam\nlr: 0.1\n", {"optimizer.lr": 0.1}, "stands there so already"),
        ("optimizer: adam\nlr: 0.1\n", {"optimizer.lr": "a b"}, "would spell"),
        ("optim: adamw_torch\nlearning_rate: 0.1\nnum_train_epochs: 3\n", {"optimizer.amsgrad": True}, "which key"),
    ],
)
def test_a_place_that_is_not_surely_right_says_why(folder, text, change, reason):
    (folder / "config.yaml").write_text(text)
    made = patch_of_settings(run_at(folder), change, read_beside(run_at(folder)))
    assert made.patch is None
    assert any(words in made.reason for words in reason.split("|")), made.reason


def test_a_script_says_why_it_is_not_changed(folder):
    (folder / "config.yaml").unlink()
    (folder / "train.py").write_text(SCRIPT.replace("lr=1e-3", "lr=args.lr"))
    run = Run(name="run", path=".", root=str(folder), series=(), primary={}, code_files=("train.py",))
    made = patch_of_settings(run, {"optimizer.lr": 0.1}, read_beside(run))
    assert "the value at train.py:3 comes from elsewhere" in made.reason
    made = patch_of_settings(run, {"schedule.name": "cosine"}, read_beside(run))
    assert "no argument of Adam" in made.reason


def test_a_default_is_changed_where_the_run_had_it(folder):
    (folder / "config.yaml").unlink()
    head = "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', default=1e-3)\nargs = p.parse_args()\n"
    (folder / "train.py").write_text(head + SCRIPT.replace("lr=1e-3", "lr=args.lr"))
    run = Run(name="run", path=".", root=str(folder), series=(), primary={}, code_files=("train.py",))
    assert "what the run had is not known" in patch_of_settings(run, {"optimizer.lr": 0.1}, read_beside(run)).reason
    run = dataclasses.replace(run, settings={"optimizer.lr": Setting(3e-4, "first value of tag lr")})
    assert "the run had 0.0003" in patch_of_settings(run, {"optimizer.lr": 0.1}, read_beside(run)).reason
    run = dataclasses.replace(run, settings={"optimizer.lr": Setting(1e-3, "first value of tag lr")})
    patch = patch_of_settings(run, {"optimizer.lr": 0.1}, read_beside(run)).patch
    assert "+p.add_argument('--lr', default=0.1)\n" in patch


def test_new_keys_are_those_that_no_file_held(folder):
    fix = Fix("a", {"optimizer.lr": 1.0, "optimizer.amsgrad": True})
    assert new_keys(Choice(run_at(folder), finding("TD201", fix), 1, fix)) == ["optimizer.amsgrad"]


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_link_may_lead_to_a_file_below_the_root_and_nowhere_else(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "out.yaml").write_text("1\n")
    (root / "real.yaml").write_text("1\n")
    (root / "in.yaml").symlink_to("real.yaml")
    (root / "away.yaml").symlink_to("../out.yaml")
    (root / "loop.yaml").symlink_to("loop.yaml")
    (root / "rc").write_text("1\n")
    (root / "hidden.yaml").symlink_to("rc")
    (change,) = changes_of(PATCH.format("in.yaml", 1, 2), root)
    assert change.path == (root / "real.yaml").resolve()
    assert refusal(root, "away.yaml").startswith("lies outside")
    assert refusal(root, "hidden.yaml")
    assert refusal(root, "loop.yaml") or not (root / "loop.yaml").exists()
    linked = tmp_path / "link"
    linked.symlink_to(root)
    assert not refusal(linked, "real.yaml")


def test_a_script_keeps_its_encoding(tmp_path):
    text = "# -*- coding: latin-1 -*-\nname = 'größe'\nlr = 0.1\n"
    (tmp_path / "train.py").write_bytes(text.encode("latin-1"))
    patch = "--- a/train.py\n+++ b/train.py\n@@ -2,2 +2,2 @@\n name = 'größe'\n-lr = 0.1\n+lr = 0.2\n"
    (change,) = changes_of(patch, tmp_path)
    assert change.after == text.replace("0.1", "0.2").encode("latin-1")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a file that cannot be read")
def test_a_file_that_cannot_be_read_is_told(folder):
    (folder / "config.yaml").chmod(0)
    with pytest.raises(TraindoctorError, match="Permission"):
        changes_of(PATCH.format("config.yaml", "a", "b"), folder)


def test_paths_are_shown_from_where_one_stands(tmp_path):
    patch = PATCH.format("config.yaml", "a", "b")
    assert shown_from(patch, tmp_path / "runs" / "a b", tmp_path)[0].startswith("--- a/runs/a b/config.yaml\n")
    assert shown_from(patch, tmp_path, tmp_path / "deep") == (patch, False)
    assert shown_from(patch, Path("sub/../other"), Path()) == (PATCH.format("other/config.yaml", "a", "b"), True)
