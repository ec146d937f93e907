"""`traindoctor fix`: shown, applied, undone; from logs and from reports; and what it refuses to touch."""

import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from traindoctor.cli import applying, main
from traindoctor.errors import TraindoctorError
from traindoctor.fixing import Change

SICK = Path(__file__).parents[2] / "fixtures" / "sick"
BEFORE, AFTER = "lr: 0.000001\n", "lr: 0.003\n"


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Return the folder of a run whose rate is too low, as the working directory."""
    folder = tmp_path / "run"
    shutil.copytree(SICK / "digits-lr-too-low-csv", folder)
    for name in ("expected.json", "README.md"):
        (folder / name).unlink(missing_ok=True)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(params=["json", "html"])
def report(request, run, capsys):
    """Return the report of the run, in each form that is read back."""
    path = run / f"report.{request.param}"
    if request.param == "html":
        main(["diagnose", ".", "--html", str(path), "-q"])
        capsys.readouterr()
    else:
        main(["diagnose", ".", "--format", "json"])
        path.write_text(capsys.readouterr().out)
    return path


def texts(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# -- shown ------------------------------------------------------------------------------------------------------------


def test_on_a_pipe_only_the_patch_goes_to_stdout(run, capsys):
    before = texts(run)
    assert main(["fix", "."]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("--- a/config.yaml\n+++ b/config.yaml\n@@ ")
    assert f"-{BEFORE}+{AFTER}" in out
    assert "Raise lr from 1e-6 to 0.003" in err
    assert re.search(r"TD202-[0-9a-f]{4}", err)
    assert texts(run) == before


def test_git_apply_takes_what_the_pipe_holds(run):
    traindoctor = [sys.executable, "-c", "import sys; from traindoctor.cli import main; sys.exit(main())"]
    subprocess.run(["git", "init", "-q"], check=True)
    made = subprocess.run([*traindoctor, "fix", "logs"], capture_output=True, check=True)
    subprocess.run(["git", "apply"], input=made.stdout, check=True)
    assert AFTER in (run / "config.yaml").read_text()


def test_paths_are_those_from_where_one_stands(run, capsys, monkeypatch):
    monkeypatch.chdir(run.parent)
    assert main(["fix", "run", "-q"]) == 0
    assert capsys.readouterr().out.startswith("--- a/run/config.yaml\n")
    (run.parent / "elsewhere").mkdir()
    monkeypatch.chdir(run.parent / "elsewhere")
    assert main(["fix", "../run"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("--- a/config.yaml\n")
    assert f"its paths are those from {run}" in err


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_words_and_patch_stand_together(run):
    import pty

    (run / "config.yaml").write_text("# \u202ebackwards\nseed: 1\noptimizer: adam\n" + BEFORE, encoding="utf-8")
    master, slave = pty.openpty()
    code = "import sys; from traindoctor.cli import main; sys.exit(main(['fix', '.', '-q']))"
    done = subprocess.Popen([sys.executable, "-c", code], stdout=slave, stderr=slave, env={**os.environ, "NO_COLOR": "1"})
    os.close(slave)
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        shown += piece
    assert done.wait() == 0
    os.close(master)
    assert b"+lr: 0.003" in shown
    assert b"backwards" in shown
    assert "\u202e".encode() not in shown
    assert b"\x1b" not in shown


def test_every_fix_is_shown_to_choose_from(capsys):
    assert main(["fix", str(SICK / "four-tasks-haywire"), "--all"]) == 1
    out, err = capsys.readouterr()
    assert out.count("--- a/") == 2
    assert "fix 1 of 3" in err
    assert "fix 3 of 3" in err
    assert re.search(r"by hand\s+a schedule is built by the program", err)
    assert main(["fix", str(SICK / "four-tasks-haywire"), "--fix", "2"]) == 0
    out, err = capsys.readouterr()
    assert "+  amsgrad: true" in out
    assert "mind" in err


@pytest.mark.usefixtures("run")
def test_one_finding_is_named_by_its_code_or_its_fingerprint(capsys):
    main(["fix", "."])
    name = re.search(r"TD202-[0-9a-f]{4}", capsys.readouterr().err).group()
    for only in (name, name.lower(), "TD202"):
        assert main(["fix", ".", "--only", only, "-q"]) == 0
        assert AFTER in capsys.readouterr().out
    assert main(["fix", ".", "--only", "TD999"]) == 2
    assert "is no finding of this report" in capsys.readouterr().err
    assert main(["fix", ".", "--fix", "9"]) == 2
    assert "--all to see them" in capsys.readouterr().err


def test_nothing_to_fix(capsys):
    healthy = SICK.parent / "healthy"
    assert main(["fix", str(healthy / "digits-small-batch")]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "nothing to fix" in err


def test_an_undecided_run_is_not_told_as_decided(tmp_path, capsys):
    rows, loss, draw = "", 2.3, random.Random(1)
    for i in range(400):  # down, then up by 15 % a step, then level: a rate too high, or a sum of gradients
        loss = 0.985 * loss + 0.02 if i < 200 else min(1.15 * loss + 0.01, 9e4)
        rows += f"{i},{loss * (1 + 0.03 * draw.random())},0.3\n"
    (tmp_path / "metrics.csv").write_text(f"step,train_loss,lr\n{rows}")
    (tmp_path / "config.yaml").write_text("optimizer:\n  name: sgd\n  lr: 0.3\n")
    main(["diagnose", str(tmp_path), "--format", "json"])
    [run] = json.loads(capsys.readouterr().out)["runs"]
    assert run["verdict"] == "undecided"
    main(["fix", str(tmp_path)])
    told = " ".join(capsys.readouterr().err.split())
    assert "this log does not decide between" in told
    assert run["findings"][0]["title"] not in told


def test_a_fix_that_no_line_makes_is_by_hand(capsys):
    assert main(["fix", str(SICK / "four-tasks-haywire"), "--fix", "3"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "by hand" in err
    assert re.search(r"TD\d{3}-[0-9a-f]{4}  .*, (>|0\.)", err)  # and how sure the finding is


def test_runs_that_share_a_config_change_it_once(run, capsys):
    shutil.copytree(run / "logs", run / "b" / "logs")
    (run / "a").mkdir()
    (run / "logs").rename(run / "a" / "logs")
    assert main(["fix", "a", "b", "--config", "config.yaml", "-q"]) == 0
    assert capsys.readouterr().out.count("--- a/config.yaml") == 1


def test_a_repair_of_a_script(tmp_path, capsys, monkeypatch):
    shutil.copytree(SICK / "digits-zero-grad-before-step", tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    (tmp_path / "run" / "expected.json").unlink()
    assert main(["fix", ".", "--apply"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("--- a/train.py\n")
    before, after = (tmp_path / "run" / f"train.py{end}" for end in (".orig", ""))
    assert sorted(before.read_text().split("\n")) == sorted(after.read_text().split("\n"))
    assert before.read_text() != after.read_text()


# -- applied ----------------------------------------------------------------------------------------------------------


def test_applied_and_undone(run, capsys):
    first = (run / "config.yaml").read_bytes()
    (run / "config.yaml").chmod(0o640)
    assert main(["fix", ".", "--apply"]) == 0
    out, err = capsys.readouterr()
    assert f"+{AFTER}" in out
    assert "changed  config.yaml, the original is config.yaml.orig" in err
    assert (run / "config.yaml").read_text() == first.decode().replace(BEFORE, AFTER)
    assert stat.S_IMODE((run / "config.yaml").stat().st_mode) == 0o640
    assert (run / "config.yaml.orig").read_bytes() == first
    assert not list(run.glob(".*.tmp"))

    assert main(["fix", "--undo", "config.yaml"]) == 0
    assert "restored  config.yaml from config.yaml.orig" in capsys.readouterr().out
    assert (run / "config.yaml").read_bytes() == first
    assert not (run / "config.yaml.orig").exists()
    assert AFTER in (run / "config.yaml.undone").read_text()
    assert main(["fix", "--undo", "config.yaml"]) == 2
    assert "no config.yaml.orig is kept" in capsys.readouterr().err


def test_no_kept_original_is_written_over(run, capsys):
    (run / "config.yaml.orig").write_text("mine\n")
    (run / "config.yaml.orig.1").write_text("mine too\n")
    first = (run / "config.yaml").read_bytes()
    assert main(["fix", ".", "--apply"]) == 0
    assert (run / "config.yaml.orig").read_text() == "mine\n"
    assert (run / "config.yaml.orig.1").read_text() == "mine too\n"
    assert (run / "config.yaml.orig.2").read_bytes() == first
    assert main(["fix", "--undo", "config.yaml"]) == 0
    assert (run / "config.yaml").read_bytes() == first
    capsys.readouterr()


def test_a_link_stays_a_link(run, capsys):
    (run / "configs").mkdir()
    (run / "config.yaml").rename(run / "configs" / "base.yaml")
    (run / "config.yaml").symlink_to("configs/base.yaml")
    assert main(["fix", ".", "--apply", "-q"]) == 0
    capsys.readouterr()
    assert (run / "config.yaml").is_symlink()
    assert AFTER in (run / "configs" / "base.yaml").read_text()
    assert BEFORE in (run / "configs" / "base.yaml.orig").read_text()


@pytest.mark.skipif(sys.platform == "win32", reason="permissions")
def test_a_file_that_is_read_only_is_left(run, capsys, monkeypatch):
    before = texts(run)
    monkeypatch.setattr(applying.os, "access", lambda *_: False)
    assert main(["fix", ".", "--apply"]) == 2
    assert "read-only" in capsys.readouterr().err
    assert texts(run) == before
    monkeypatch.chdir(run.parent)
    assert main(["fix", "run", "--apply"]) == 2
    assert "chmod u+w run/config.yaml" in capsys.readouterr().err


def change(path, before, after):
    return Change(path.name, path, before, after)


def test_all_files_are_written_or_none(tmp_path, monkeypatch):
    one, two = tmp_path / "a.yaml", tmp_path / "b.yaml"
    one.write_bytes(b"1")
    two.write_bytes(b"1")
    before = texts(tmp_path)
    with pytest.raises(TraindoctorError, match="changed meanwhile"):
        applying.apply([change(one, b"1", b"2"), change(two, b"other", b"2")])
    assert texts(tmp_path) == before

    def failing(self, target, n=[0]):  # noqa: B006 -- counts the calls
        n[0] += 1
        if n[0] == 2:
            raise OSError(28, "No space left on device")
        self.rename(target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(TraindoctorError, match="No space left"):
        applying.apply([change(one, b"1", b"2"), change(two, b"1", b"2")])
    monkeypatch.undo()
    assert texts(tmp_path) == before
    kept = applying.apply([change(one, b"1", b"2"), change(two, b"1", b"2")])
    assert [path.name for path in kept] == ["a.yaml.orig", "b.yaml.orig"]
    assert one.read_bytes() == two.read_bytes() == b"2"


def test_undo_takes_no_link_for_an_original(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("now\n")
    (tmp_path / "secret").write_text("secret\n")
    (tmp_path / "c.yaml.orig").symlink_to("secret")
    assert main(["fix", "--undo", str(tmp_path / "c.yaml")]) == 2
    assert (tmp_path / "c.yaml").read_text() == "now\n"
    assert main(["fix", "--undo", str(tmp_path / "none.yaml")]) == 2
    capsys.readouterr()


# -- reports ----------------------------------------------------------------------------------------------------------


def test_a_report_is_applied_where_the_run_lies(report, run, capsys, monkeypatch):
    shutil.rmtree(run / "logs")
    assert main(["fix", str(report), "-q"]) == 0
    patch = capsys.readouterr().out
    assert f"-{BEFORE}+{AFTER}" in patch
    monkeypatch.chdir(run.parent)  # the report lies with the run
    assert main(["fix", str(report), "-q"]) == 0
    assert capsys.readouterr().out.startswith("--- a/run/config.yaml\n")
    moved = run.parent / "elsewhere" / report.name
    moved.parent.mkdir()
    report.rename(moved)
    monkeypatch.chdir(moved.parent)
    assert main(["fix", str(moved), "--apply"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "--root DIR" in err
    assert main(["fix", str(moved), "--root", str(run), "--apply"]) == 0
    capsys.readouterr()
    assert AFTER in (run / "config.yaml").read_text()


def test_the_folder_that_was_diagnosed_is_found_again(run, capsys, monkeypatch):
    monkeypatch.chdir(run.parent)
    main(["diagnose", "run", "--html", "report.html", "-q"])
    capsys.readouterr()
    (run.parent / "config.yaml").write_text(f"# another's\n{(run / 'config.yaml').read_text()}")
    assert main(["fix", "report.html", "-q"]) == 0
    assert capsys.readouterr().out.startswith("--- a/run/config.yaml\n")
    (run.parent / "reports").mkdir()
    Path("report.html").rename(run.parent / "reports" / "report.html")
    assert main(["fix", "reports/report.html", "-q"]) == 0
    assert capsys.readouterr().out.startswith("--- a/run/config.yaml\n")


@pytest.mark.parametrize(
    "command", ["traindoctor diagnose run other", "traindoctor diagnose ../run", "traindoctor diagnose 'run", ""]
)
def test_no_folder_is_looked_for_by_what_is_no_name(run, capsys, monkeypatch, command):
    monkeypatch.chdir(run.parent)
    main(["diagnose", "run", "--format", "json", "-q"])
    stored = json.loads(capsys.readouterr().out)
    stored["runs"][0]["provenance"]["command"] = command
    (run / "deeper").mkdir()
    (run / "deeper" / "r.json").write_text(json.dumps(stored))
    monkeypatch.chdir(run / "deeper")
    assert main(["fix", "r.json"]) == 2
    assert "config.yaml is not here; --root DIR" in " ".join(capsys.readouterr().err.split())


def test_the_logs_of_a_run_that_was_fixed_already(run, capsys):
    assert main(["fix", ".", "--apply", "-q"]) == 0
    capsys.readouterr()
    before = texts(run)
    assert main(["fix", ".", "--apply", "-q"]) == 2
    err = capsys.readouterr().err
    assert "config.yaml: was changed by a fix after its run was logged" in err
    assert "traindoctor fix --undo config.yaml" in err
    assert texts(run) == before
    for log in (run / "logs").iterdir():
        log.touch()  # it was trained again
    assert main(["fix", ".", "--apply", "-q"]) == 0
    capsys.readouterr()


def test_a_file_that_was_changed_since_is_left(report, run, capsys):
    (run / "config.yaml").write_text((run / "config.yaml").read_text().replace(BEFORE, "lr: 0.1\n"))
    before = texts(run)
    assert main(["fix", str(report), "--apply"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "config.yaml:3 holds 0.1" in err
    assert "nothing is changed" in err
    assert texts(run) == before


def test_a_fix_that_is_made_already(report, capsys):
    assert main(["fix", str(report), "--apply", "-q"]) == 0
    capsys.readouterr()
    assert main(["fix", str(report), "--apply"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "holds 0.003 already" in err


@pytest.mark.parametrize("target", ["../victim.yaml", ".git/config.yaml", "link.yaml", "config.yaml"])
def test_a_report_that_lies_changes_nothing(run, capsys, target):
    (run.parent / "victim.yaml").write_text("x\n")
    (run / ".git").mkdir()
    (run / ".git" / "config.yaml").write_text("x\n")
    (run / "link.yaml").symlink_to("../victim.yaml")
    main(["diagnose", ".", "--format", "json"])
    stored = json.loads(capsys.readouterr().out)
    fix = stored["runs"][0]["findings"][0]["fixes"][0]
    fix["patch"] = f"--- a/{target}\n+++ b/{target}\n@@ -1 +1 @@\n-x\n+owned\n"
    fix["settings"] = {}
    (run / "r.json").write_text(json.dumps(stored))
    before = texts(run.parent)
    assert main(["fix", "r.json", "--apply"]) == 2
    assert capsys.readouterr().out == ""
    assert texts(run.parent) == before


@pytest.mark.parametrize(
    "file",
    ["../victim.yaml", "/etc/hosts.yaml", "\0.yaml", f"{'a' * 5000}.yaml", "\x1b[2J.yaml", "\u202e.yaml", "logs", "con fig.yaml"],
)
def test_a_report_that_names_odd_files_is_taken_calmly(run, capsys, file):
    main(["diagnose", ".", "--format", "json"])
    stored = json.loads(capsys.readouterr().out)
    for setting in stored["runs"][0]["settings"].values():
        setting["origin"] = f"{file}:3"
    stored["runs"][0]["name"] = f"\x1b[31m{file}"
    stored["runs"][0]["findings"][0]["fixes"][0]["patch"] = None
    stored["runs"][0]["findings"][0]["locations"] = [{"file": file, "line": 1, "column": 1}]
    (run / "r.json").write_text(json.dumps(stored))
    before = texts(run.parent)
    assert main(["fix", "r.json", "--apply"]) in (1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    assert texts(run.parent) == before


def test_a_finding_has_one_name_in_the_report_and_in_the_logs(report, run, capsys):
    report = report.rename(run.parent / report.name)
    main(["fix", ".", "--all"])
    name = re.search(r"TD202-[0-9a-f]{4}", capsys.readouterr().err).group()
    assert main(["fix", str(report), "--only", name, "-q"]) == 0
    assert AFTER in capsys.readouterr().out


def test_what_does_not_go_together_is_said(report, capsys):
    for arguments in (
        [str(report), "--config", "config.yaml"],
        [str(report), str(report)],
        ["config.yaml", "--undo", "--apply"],
        [".", "--root", "."],
        [".", "--all", "--apply"],
        [".", "--all", "--fix", "1"],
    ):
        assert main(["fix", *arguments]) == 2
        assert "Error" in capsys.readouterr().err
