"""`diagnose --format ... --output` and `report show`: what goes where, and what comes back."""

import io
import json
import os
import pty
import subprocess
import sys
import types
from pathlib import Path

import pytest

from tests.report import sample
from traindoctor.cli import main
from traindoctor.cli.printing import SUFFIXES
from traindoctor.report import saving
from traindoctor.report.forms import FORMATS, rendered
from traindoctor.report.html import render_html
from traindoctor.report.text import SCREEN

ROOT = Path(__file__).parents[2]


@pytest.fixture
def stored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    report = sample.report_of(sample.failed_run(), sample.undecided_run())
    Path("report.json").write_text(rendered(report, "json"))
    Path("report.jsonl").write_text(rendered(report, "jsonl"))
    Path("report.html").write_text(render_html(sample.report_of(sample.failed_run())), encoding="utf-8")
    return report


@pytest.mark.parametrize("form", FORMATS)
def test_show_prints_any_form(stored, capsys, form):
    assert main(["report", "show", "report.json", "--format", form]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    if form not in ("sarif", "github"):  # whose places are in the repository of the working directory
        assert out == rendered(stored, form)


def test_show_reads_lines_a_page_and_stdin(stored, capsys, monkeypatch):
    assert main(["report", "show", "report.jsonl"]) == 0
    assert capsys.readouterr().out == rendered(stored, "text")
    assert main(["report", "show", "report.html"]) == 0
    assert capsys.readouterr().out == rendered(sample.report_of(sample.failed_run()), "text")
    stdin = types.SimpleNamespace(buffer=io.BytesIO(Path("report.json").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert main(["report", "show", "-"]) == 0
    assert capsys.readouterr().out == rendered(stored, "text")


def test_show_writes_a_file(stored, capsys):
    assert main(["report", "show", "report.html", "--format", "markdown", "--output", "issue.md"]) == 0
    assert capsys.readouterr() == ("", "")
    assert Path("issue.md").read_text(encoding="utf-8") == rendered(sample.report_of(stored.runs[0]), "markdown")
    assert sorted(p.name for p in Path().iterdir()) == ["issue.md", "report.html", "report.json", "report.jsonl"]


def test_the_suffix_names_the_form_and_format_goes_before_it(stored, capsys):
    assert {suffix: SUFFIXES[suffix] for suffix in saving.FORMS} == saving.FORMS
    for suffix, form in SUFFIXES.items():
        assert main(["report", "show", "report.json", "-o", f"out{suffix}"]) == 0
        assert form == "sarif" or Path(f"out{suffix}").read_text(encoding="utf-8") == rendered(stored, form)
    assert main(["report", "show", "report.json", "-o", "out.log"]) == 0
    assert Path("out.log").read_text(encoding="utf-8") == rendered(stored, "text")
    assert main(["report", "show", "report.json", "-o", "out.json", "--format", "markdown"]) == 0
    assert Path("out.json").read_text(encoding="utf-8") == rendered(stored, "markdown")
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_stream_is_no_fault(monkeypatch, stream):
    monkeypatch.setattr(sys, stream, None)
    assert main(["report", "show", "report.json", "--fail-on", "warning"]) == 1
    assert main(["report", "show", "nothing.json"]) == 2


@pytest.mark.usefixtures("stored")
def test_show_fails_where_it_is_asked_to(capsys):
    assert main(["report", "show", "report.json", "--fail-on", "warning"]) == 1
    capsys.readouterr()


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["report", "show", "nothing.json"], "error: nothing.json: cannot be read: No such file or directory"),
        (["report", "show", "cut.json"], "error: cut.json: ends in the middle of the report: it was cut off"),
        (["report", "show", "."], "cannot be read: Is a directory"),
        (["report", "show", "."], "traindoctor diagnose ."),
        (["report", "show", "reprot.json"], "did you mean report.json"),
        (["report", "show", "report.json", "-o", "page.html"], "what is printed is no page"),
        (["report", "show"], "Missing argument"),
        (["report", "tell"], "No such command"),
        (["report", "show", "report.json", "--format", "xml"], "'xml' is not one of"),
        (["report", "show", "report.json", "-o", "nowhere/x"], "the folder 'nowhere' does not exist"),
    ],
)
def test_what_cannot_be_used_is_two(capsys, arguments, words):
    Path("cut.json").write_text(Path("report.json").read_text()[:900])
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err


def run(*arguments, **environment):
    """Return what a process of its own prints, without a terminal."""
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    return subprocess.run(
        [sys.executable, "-m", "traindoctor", *arguments],
        env={**clean, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_diagnose_and_show_say_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    logs = str(ROOT / "fixtures" / "sick" / "overtrained-perceptron")
    told = run("diagnose", logs)
    assert run("diagnose", logs, "--format", "json", "--output", "report.json", "--html", "report.html", "-q").stdout == ""
    assert told.returncode == 1
    for file in ("report.json", "report.html"):
        assert run("report", "show", file).stdout == told.stdout
        assert run("report", "show", file, "--format", "json").stdout == Path("report.json").read_text()
    assert json.loads(Path("report.json").read_text())["runs"][0]["provenance"]["inputs"]


@pytest.mark.usefixtures("stored")
def test_colour_is_for_terminals_and_for_those_who_ask():
    plain = run("report", "show", "report.json").stdout
    assert "\x1b" not in plain
    assert "\x1b[1;31mFAILED" in run("report", "show", "report.json", FORCE_COLOR="1").stdout
    assert run("report", "show", "report.json", FORCE_COLOR="1", NO_COLOR="1").stdout == plain
    assert "\x1b" not in run("report", "show", "report.json", "--format", "markdown", FORCE_COLOR="1").stdout


@pytest.mark.usefixtures("stored")
def test_a_stream_of_few_characters_gets_ascii():
    done = run("report", "show", "report.json", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "loss <- train/loss" in done.stdout
    assert "loss           @" in done.stdout
    assert "\\u" not in done.stdout


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize("columns", [40, 88, 200])
def test_a_terminal_gets_its_width(columns):
    shown = on_a_terminal(["report", "show", "report.html"], columns, NO_COLOR="1")
    lines = shown.splitlines()
    assert 30 <= max(map(len, lines)) <= min(columns, 100)
    assert "\x1b" not in shown
    assert columns < 88 or len(lines) <= SCREEN


@pytest.mark.usefixtures("stored")
def test_a_terminal_gets_colour():
    assert "\x1b[1;31mFAILED" in on_a_terminal(["report", "show", "report.html"], 88, TERM="xterm")
    assert "\x1b" not in on_a_terminal(["report", "show", "report.html"], 88, TERM="dumb")


def on_a_terminal(arguments, columns, **environment):
    """Return what is printed to a terminal of so many columns."""
    leader, follower = pty.openpty()
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "traindoctor", *arguments],
        env={**clean, "COLUMNS": str(columns), **environment},
        stdout=follower,
        stdin=subprocess.DEVNULL,
    )
    os.close(follower)
    pieces = []
    while True:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # Linux ends a terminal so
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(leader)
    process.wait()
    return b"".join(pieces).decode().replace("\r\n", "\n")
