"""`traindoctor check` as it is called: what goes where, exit codes, options, and what a hook does with it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.check.rules import CAUSES, Shelf
from traindoctor import registry
from traindoctor.check import pipeline
from traindoctor.cli import main
from traindoctor.registry import Registry

ROOT = Path(__file__).parents[2]
BAD = "import torch\nbad()\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working directory, with the rules of the tests of the pipeline."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRAINDOCTOR_CACHE_DIR", str(tmp_path / ".cache"))
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(pipeline, "Shelf", Shelf)
    monkeypatch.setattr(registry, "load_rules", lambda *_: Registry({cause.code: cause for cause in CAUSES}))
    return tmp_path


def test_exit_codes(here, capsys):
    (here / "bad.py").write_text(BAD)
    (here / "good.py").write_text("import torch\n")
    (here / "hint.py").write_text("import torch\nhint()\n")
    (here / "odd.yaml").write_text("optimizer: adam\nlr: 3\n")
    assert main(["check", "good.py"]) == 0
    assert main(["check", "bad.py"]) == 1
    assert main(["check", "hint.py"]) == 0
    assert main(["check", "hint.py", "--fail-on", "info"]) == 1
    assert main(["check", "odd.yaml"]) == 1
    assert main(["check", "odd.yaml", "--fail-on", "error"]) == 0
    assert main(["check", "bad.py", "--fail-on", "never"]) == 0
    assert main(["check", "bad.py", "--exit-zero"]) == 0
    assert main(["check", "missing.py"]) == 2
    assert main(["check", "bad.py", "missing.py"]) == 2
    assert main(["check", "bad.py", "--exit-zero", "--no-such-option"]) == 2
    capsys.readouterr()


@pytest.mark.usefixtures("here")
def test_no_paths_is_no_error(capsys):
    assert main(["check"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "nothing to check" in err
    assert main(["check", "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("here")
def test_a_deleted_file(capsys):
    assert main(["check", "gone.py"]) == 2
    out, err = capsys.readouterr()
    assert err.splitlines() == [
        "error: gone.py: does not exist",
        "  try:     look at the spelling; a deleted file needs no check",
    ]
    assert "Traceback" not in out


def test_plain_paths_and_options_come_to_the_same(here, capsys):
    (here / "bad.py").write_text(BAD)
    main(["check", "bad.py"])
    plain = capsys.readouterr()
    main(["check", "--level", "warning", "bad.py"])
    assert capsys.readouterr() == plain


def test_text(here, capsys):
    (here / "bad.py").write_text("import torch\nx = make()\nif x:\n\tbad(x)\n\nhint()\n")
    assert main(["check", "bad.py"]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "bad.py:4:2: error TD901 bad-call",
        "  bad() is called. It costs the run.",
        "",
        "   2 | x = make()",
        "     |     ------ made here",
        "   3 | if x:",
        "   4 |     bad(x)",
        "     |     ^^^^^^",
        "",
        "  help: Call good().",
        "  fix:  Call good() (--fix)",
        "",
        "Found 1 error in 1 file (1 fixable with --fix; 1 more with --level info).",
    ]
    assert err == ""


def test_concise(here, capsys):
    (here / "bad.py").write_text(BAD)
    main(["check", "--format", "concise", "--quiet", "bad.py"])
    assert capsys.readouterr().out == "bad.py:2:1: error TD901 bad-call: bad() is called. It costs the run. [*]\n"


def test_colour_is_for_terminals(here, capsys, monkeypatch):
    (here / "bad.py").write_text(BAD)
    main(["check", "bad.py"])
    assert "\x1b" not in capsys.readouterr().out
    monkeypatch.setenv("FORCE_COLOR", "1")
    main(["check", "bad.py"])
    assert "\x1b[1;31merror\x1b[0m" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    main(["check", "bad.py"])
    assert "\x1b" not in capsys.readouterr().out


@pytest.mark.parametrize("form", ["json", "sarif", "github", "gitlab", "junit", "concise"])
def test_stdout_is_the_format_alone(here, capsys, form):
    (here / "src").mkdir()
    (here / "src/bad.py").write_text(BAD)
    (here / "src/broken.py").write_text("import torch\n(\n")
    (here / "src/explodes.py").write_text("import torch\nexplode()\n")
    assert main(["check", "--format", form, "src"]) == 1
    out, err = capsys.readouterr()
    assert "TD904 failed on src/explodes.py: LookupError: no such thing" in err
    if form in ("json", "sarif", "gitlab"):
        json.loads(out)
    main(["check", "--no-cache", "--format", form, "src"])
    assert capsys.readouterr().out == out
    assert main(["check", "--format", form, "--output", "out.txt", "src"]) == 1
    assert capsys.readouterr().out == ""
    assert (here / "out.txt").read_text() == out


@pytest.mark.parametrize("form", ["json", "sarif", "github", "gitlab", "junit", "concise", "text"])
@pytest.mark.usefixtures("here")
def test_nothing_found_is_still_the_format(capsys, form):
    assert main(["check", "--format", form, "."]) == 0
    out = capsys.readouterr().out
    if form in ("json", "sarif", "gitlab"):
        json.loads(out)


def test_statistics(here, capsys):
    (here / "bad.py").write_text(BAD + "bad()\n")
    (here / "odd.yaml").write_text("optimizer: adam\nlr: 3\n")
    main(["check", "--statistics", "."])
    assert capsys.readouterr().out.splitlines() == [
        "2  TD901  bad-call",
        "1  TD902  odd-number",
        "Found 2 errors and 1 warning in 2 files (3 fixable with --fix).",
    ]


def test_fix_writes_and_says_so(here, capsys):
    (here / "bad.py").write_text(BAD + "worse()\n")
    assert main(["check", "--fix", "bad.py"]) == 1
    assert (here / "bad.py").read_text() == "import torch\ngood()\nworse()\n"
    assert "Repaired 1 mistake. Found 1 error in 1 file (1 with --unsafe-fixes)." in capsys.readouterr().out
    assert main(["check", "--unsafe-fixes", "bad.py"]) == 0
    assert (here / "bad.py").read_text() == "import torch\ngood()\ngood()\n"
    assert main(["check", "--fix", "--exit-non-zero-on-fix", "bad.py"]) == 0
    (here / "bad.py").write_text(BAD)
    assert main(["check", "--fix", "--exit-non-zero-on-fix", "bad.py"]) == 1


def test_diff_prints_and_writes_nothing(here, capsys):
    (here / "bad.py").write_text(BAD)
    assert main(["check", "--diff", "bad.py"]) == 1
    out = capsys.readouterr().out
    assert out == "--- a/bad.py\n+++ b/bad.py\n@@ -1,2 +1,2 @@\n import torch\n-bad()\n+good()\n"
    assert (here / "bad.py").read_text() == BAD
    subprocess.run(["git", "apply", "-"], input=out.encode(), cwd=here, check=True)
    assert main(["check", "--diff", "bad.py"]) == 0
    assert capsys.readouterr().out == ""


def test_a_diff_goes_where_it_is_asked_to(here, capsys):
    (here / "bad.py").write_bytes(b"# coding: latin-1\nimport torch  # \xe9\nbad()\n")
    (here / "worse one.py").write_bytes(b"\xef\xbb\xbfimport torch\r\nbad()\r\n")
    assert main(["check", "--diff", ".", "--output", "a.diff"]) == 1
    assert capsys.readouterr().out == ""
    subprocess.run(["git", "apply", "a.diff"], cwd=here, check=True)
    assert (here / "bad.py").read_bytes() == b"# coding: latin-1\nimport torch  # \xe9\ngood()\n"
    assert (here / "worse one.py").read_bytes() == b"\xef\xbb\xbfimport torch\r\ngood()\r\n"
    assert main(["check", "--diff", "."]) == 0


def test_exit_zero_is_zero_whatever_was_changed(here):
    (here / "bad.py").write_text(BAD)
    assert main(["check", "--diff", "--exit-zero", "."]) == 0
    assert main(["check", "--fix", "--exit-non-zero-on-fix", "--exit-zero", "."]) == 0


def test_what_is_not_shown_is_not_repaired(here):
    (here / "odd.yaml").write_text("optimizer: adam\nlr: 3\n")
    assert main(["check", "odd.yaml", "--fix", "--level", "error", "--fail-on", "error"]) == 0
    assert (here / "odd.yaml").read_text() == "optimizer: adam\nlr: 3\n"
    assert main(["check", "odd.yaml", "--fix", "--level", "error"]) == 0  # what fails is shown
    assert (here / "odd.yaml").read_text() != "optimizer: adam\nlr: 3\n"


def test_statistics_are_text(here, capsys):
    assert main(["check", str(here), "--statistics", "--format", "json"]) == 2
    assert "--statistics" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_said(tmp_path):
    (tmp_path / "a.py").write_text("import torch\n")
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "traindoctor", "check", "a.py"]
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: stdout: No space left")
    assert "Traceback" not in done.stderr


def test_a_working_directory_that_is_gone_is_said(tmp_path):
    command = f"cd {tmp_path} && mkdir gone && cd gone && rmdir ../gone && {sys.executable} -m traindoctor check ."
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(["sh", "-c", command], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: the working directory: No such file or directory\n"


def test_pre_commit_names_what_is_excluded(here, monkeypatch):
    (here / "old").mkdir()
    (here / "old/bad.py").write_text(BAD)
    (here / "traindoctor.toml").write_text('exclude = ["old"]\n')
    assert main(["check", "."]) == 0
    assert main(["check", "old/bad.py"]) == 1
    monkeypatch.setenv("PRE_COMMIT", "1")
    assert main(["check", "old/bad.py"]) == 0
    assert main(["check", "old/bad.py", "--isolated"]) == 1


@pytest.fixture
def given(monkeypatch):
    """Put a text into stdin."""
    import io
    import types

    return lambda text: monkeypatch.setattr(sys, "stdin", types.SimpleNamespace(buffer=io.BytesIO(text.encode())))


def test_stdin_beside_files(here, capsys, given):
    (here / "bad.py").write_text(BAD)
    given("import torch\n")
    assert main(["check", "-", "bad.py", "--fix"]) == 0
    assert capsys.readouterr().out == "import torch\n"
    assert (here / "bad.py").read_text() == "import torch\ngood()\n"


@pytest.mark.usefixtures("here")
def test_stdin(capsys, given):
    given(BAD)
    assert main(["check", "-"]) == 1
    assert "stdin.py:2:1" in capsys.readouterr().out
    given("optimizer: adam\nlr: 3\n")
    assert main(["check", "-", "--stdin-filename", "conf/a.yaml"]) == 1
    assert "conf/a.yaml:2:5" in capsys.readouterr().out
    given(BAD)
    assert main(["check", "-", "--fix"]) == 0
    assert capsys.readouterr().out == "import torch\ngood()\n"
    given("import torch\n")
    assert main(["check", "-", "--fix"]) == 0
    assert capsys.readouterr().out == "import torch\n"


def test_baseline(here, capsys):
    (here / "bad.py").write_text(BAD)
    assert main(["check", "--write-baseline", "base.json", "bad.py"]) == 0
    assert "knows 1 finding" in capsys.readouterr().err
    assert main(["check", "--baseline", "base.json", "bad.py"]) == 0
    assert "1 in the baseline" in capsys.readouterr().out
    (here / "bad.py").write_text(BAD + "bad(2)\n")
    assert main(["check", "--baseline", "base.json", "bad.py"]) == 1
    (here / "pyproject.toml").write_text('[tool.traindoctor]\nbaseline = "base.json"\n')
    (here / "bad.py").write_text(BAD)
    assert main(["check", "bad.py"]) == 0
    assert main(["check", "--baseline", "missing.json", "bad.py"]) == 2
    assert "--write-baseline missing.json" in capsys.readouterr().err


def test_an_unknown_code_is_refused_with_the_nearest(here, capsys):
    (here / "bad.py").write_text(BAD)
    assert main(["check", "--select", "TD91", "bad.py"]) == 2
    err = capsys.readouterr().err
    assert "error: TD91: no rule has a code that begins so" in err
    assert "did you mean TD901" in err
    assert main(["check", "--per-file-ignores", "*.py", "bad.py"]) == 2
    assert main(["check", "--per-file-ignores", "*.py:TD901", "bad.py"]) == 0


def test_settings(here, capsys):
    (here / "bad.py").write_text(BAD)
    (here / "pyproject.toml").write_text('[tool.traindoctor]\nfail-on = "never"\nlevel = "error"\nignore = ["TD903"]\n')
    assert main(["check", "bad.py"]) == 0
    assert main(["check", "bad.py", "--isolated"]) == 1
    (here / "other.toml").write_text('ignore = ["TD901"]\n')
    assert main(["check", "bad.py", "--config", "other.toml"]) == 0
    capsys.readouterr()
    assert main(["check", "--show-settings", "bad.py"]) == 0
    out = capsys.readouterr().out
    assert f"bad.py: from {here / 'pyproject.toml'}" in out
    assert "fail-on = 'never'" in out
    (here / "pyproject.toml").write_text("[tool.traindoctor]\nfail_on = 'error'\n")
    assert main(["check", "bad.py"]) == 2
    assert "did you mean fail-on?" in capsys.readouterr().err


def test_suppression_comments_are_told(here, capsys):
    (here / "a.py").write_text("import torch\nx = 1  # traindoctor: ignore[TD901] -- gone\n")
    assert main(["check", "a.py"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "a.py:2:8: note suppression-comment"
    assert out[5] == "     |        " + "^" * len("# traindoctor: ignore[TD901] -- gone")


def test_names_cannot_write_on_the_terminal(here, capsys):
    (here / "a\x1b[2Jb.py").write_text(BAD)
    (here / "c.py").write_text("import torch\nx = '\x1b[31m\u202e'; bad()\n")
    for form in ("text", "concise", "github"):
        main(["check", "--format", form, "."])
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err
        assert "\u202e" not in out + err


# -- as a process of its own ------------------------------------------------------------------------------------------


def run(*arguments, cwd, **more):
    env = {**os.environ, "TRAINDOCTOR_CACHE_DIR": str(cwd / ".cache"), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "traindoctor", *arguments], cwd=cwd, env=env, capture_output=True, text=True, **more
    )


def test_a_script_imports_nothing_heavy(tmp_path):
    (tmp_path / "a.py").write_text("import torch\n\nfor x in y:\n    loss.backward()\n    optimizer.step()\n")
    heavy = ("numpy", "pandas", "scipy", "tensorboard", "jinja2", "rich", "torch", "click", "ruamel", "dataclasses", "tomllib")
    program = "import sys; from traindoctor.cli import main; code = main(['check', 'a.py']); "
    program += f"print(sorted(set({heavy!r}) & set(sys.modules)))"
    env = {**os.environ, "TRAINDOCTOR_CACHE_DIR": str(tmp_path / "cache")}
    for _ in ("cold", "warm"):
        done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, env=env)
        assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_goes_away(tmp_path):
    (tmp_path / "a.py").write_text("import torch\n" + "x = torch.optim.Adam(p, betas=(0.9, 1.0))\n" * 3000)
    command = f"{sys.executable} -m traindoctor check a.py | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_the_real_pre_commit_runs_the_hooks(tmp_path):
    """A repository of its own, the hooks as this checkout defines them, but with the `traindoctor` that is installed."""
    pytest.importorskip("pre_commit")
    yaml = pytest.importorskip("yaml")
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    local = [
        {**hook, "language": "system", "entry": hook["entry"].replace("traindoctor", f"{sys.executable} -m traindoctor", 1)}
        for hook in hooks
    ]
    env = {**os.environ, "PRE_COMMIT_HOME": str(tmp_path / "home"), "TRAINDOCTOR_CACHE_DIR": str(tmp_path / "cache")}
    env |= {f"GIT_{who}_{what}": "a@b.example" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    repository = tmp_path / "repository"
    repository.mkdir()

    def git(*arguments):
        subprocess.run(["git", *arguments], cwd=repository, env=env, check=True, capture_output=True)

    def hook(name):
        command = [sys.executable, "-m", "pre_commit", "run", name, "--all-files", "--verbose"]
        return subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True, check=False)

    git("init", "-q")
    (repository / ".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [{"repo": "local", "hooks": local}]}))
    (repository / "readme.md").write_text("nothing to check\n")
    git("add", ".")
    assert hook("traindoctor-check").returncode == 0
    (repository / "train.py").write_text("import torch\noptimizer = torch.optim.Adam(ps, betas=(0.9, 1.0))\n")
    (repository / "package.json").write_text('{"name": "x"}\n')
    (repository / "template.yaml").write_text("{{ not: yaml\n")
    git("add", ".")
    done = hook("traindoctor-check")
    assert done.returncode == 1
    assert "train.py:2:" in done.stdout
    assert "TD104" in done.stdout
    assert "template.yaml" not in done.stdout
    assert hook("traindoctor-fix").returncode == 1
    git("rm", "-q", "--cached", "train.py")
    (repository / "train.py").unlink()
    assert hook("traindoctor-check").returncode == 0
