"""`traindoctor demo`: the listing, the options, what is printed where, and the exit codes."""

import json
import sys
from pathlib import Path

import pytest

from traindoctor.cli import main
from traindoctor.demos.play import DEMOS, find, play
from traindoctor.demos.stage import lines_of
from traindoctor.report.sparkline import BARS

NAME = "missing-zero-grad"


@pytest.fixture(scope="module")
def performance(tmp_path_factory):
    return play(find(NAME), 0, tmp_path_factory.mktemp("demo"))


@pytest.mark.parametrize("arguments", [["demo"], ["demo", "--list"]])
def test_the_listing_names_all_with_one_line_each(arguments, capsys):
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(DEMOS)
    assert all(len(line) <= 88 for line in lines)


def test_a_wrong_name_tells_the_nearest(capsys):
    assert main(["demo", "sadle"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "did you mean saddle?" in err
    assert "Traceback" not in err


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert main(["demo", NAME, "--html", str(tmp_path / "none" / "report.html")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_all_of_it_as_text(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", NAME, "--keep", "logs", "--html", "report.html"]) == 0
    out, err = capsys.readouterr()
    assert out.index("a * x + b = x") < out.index("TD301 zero-grad-missing") < out.index("trained again") < out.index("repairs:")
    assert "pi / sqrt(lr * curvature)" in out
    assert "\x1b" not in out
    assert err == "wrote report.html\nwrote logs\n"
    assert "TD301" in Path("report.html").read_text(encoding="utf-8")
    assert {p.name for p in Path("logs", NAME).iterdir()} == {"metrics.csv", "config.yaml", "train.py"}
    assert main(["diagnose", f"logs/{NAME}"]) == 1
    assert "TD301 zero-grad-missing" in capsys.readouterr().out
    assert main(["diagnose", f"logs/{NAME}-repair-1"]) == 0  # the repaired run is sound
    assert main(["demo", NAME, "--keep", "logs"]) == 2
    capsys.readouterr()
    assert main(["demo", NAME, "--html", "again.html", "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_nothing_is_left_without_keep(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["demo", NAME, "--format", "json", "--seed", "2"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert not list(tmp_path.iterdir())
    assert (made["demo"], made["seed"]) == (NAME, 2)
    assert made["report"]["runs"][0]["findings"][0]["code"] == "TD301"
    assert made["repairs"][0]["verdict"] == "repairs"
    assert made["repairs"][0]["after"]["tail"] < 1e-6 * made["repairs"][0]["before"]["tail"]
    assert str(tmp_path) not in json.dumps(made)


@pytest.mark.parametrize("width", [60, 88, 100])
def test_lines_keep_to_the_width(performance, width):
    lines = ["".join(text for text, _ in line) for line in lines_of(performance, width)]
    ours = lines[: next(i for i, line in enumerate(lines) if "What traindoctor diagnose says" in line)]
    assert max(len(line) for line in ours) <= width


def test_ascii_where_nothing_else_can_be_printed(performance, monkeypatch, capsys):
    lines = ["".join(text for text, _ in line) for line in lines_of(performance, ascii_only=True)]
    end = next(i for i, line in enumerate(lines) if "What traindoctor diagnose says" in line)
    assert all(line.isascii() for line in lines[:end])
    monkeypatch.setattr("traindoctor.report.sparkline.drawable", lambda _encoding: False)
    assert main(["demo", NAME]) == 0
    assert not set(BARS) & set(capsys.readouterr().out)


def test_colour_on_a_terminal_and_none_where_it_is_not_wanted(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    for wanted, variables in ((True, {"FORCE_COLOR": "1"}), (False, {"NO_COLOR": "1"})):
        with monkeypatch.context() as m:
            m.delenv("NO_COLOR", raising=False)
            for key, value in variables.items():
                m.setenv(key, value)
            assert main(["demo", NAME]) == 0
        assert ("\x1b[1;3" in capsys.readouterr().out) is wanted


@pytest.mark.slow
@pytest.mark.parametrize("name", DEMOS)
def test_every_demo_keeps_to_the_width(name, tmp_path):
    lines = ["".join(text for text, _ in line) for line in lines_of(play(find(name), 0, tmp_path), 60)]
    ours = lines[: next(i for i, line in enumerate(lines) if "What traindoctor diagnose says" in line)]
    assert max(len(line) for line in ours) <= 60
