"""Completion, `env`, the nearest name to a slip, and an interrupt that leaves nothing behind."""

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from traindoctor.cli import main
from traindoctor.errors import did_you_mean

FIXTURES = Path(__file__).parents[2] / "fixtures"
RUN = FIXTURES / "sick" / "overtrained-perceptron"


def out(capsys, *arguments):
    code = main(list(map(str, arguments)))
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["diagnos", "x"], "did you mean diagnose?"),
        (["quux"], "the commands are check, compare, "),
        (["diagnose", RUN, "--frmat", "json"], "--format"),
        (["diagnose", RUN, "--tag", "los=x"], "did you mean loss?"),
        (["diagnose", RUN, "--tag", "learning-rat=x"], "did you mean learning_rate"),
        (["diagnose", RUN, "--format-in", "cvs"], "did you mean csv?"),
        (["diagnose", RUN, "--select", "TD1O1"], "did you mean TD101"),
        (["diagnose", RUN, "--ignore", "TD9X"], "no rule has a code that begins so"),
        (["diagnose", f"{RUN}s"], "did you mean overtrained-perceptron"),
        (["check", RUN, "--select", "TD1O1"], "did you mean TD101"),
        (["explain", "epsilon-to-small"], "did you mean epsilon-too-small"),
        (["demo", "over-trained-adm"], "did you mean over-trained-adam"),
        (["replay", RUN, "--set", "optimizer.esp=1"], "did you mean optimizer.eps?"),
    ],
)
def test_a_slip_is_answered_with_the_nearest_name(arguments, words, capsys):
    code, printed, told = out(capsys, *arguments)
    assert (code, printed) == (2, "")
    assert words in " ".join(told.split())


def test_a_tag_that_no_run_has_is_told_and_the_run_is_diagnosed_all_the_same(capsys):
    for command in (("inspect", RUN), ("diagnose", RUN, "-q"), ("fix", RUN), ("replay", RUN), ("compare", RUN, RUN)):
        code, printed, told = out(capsys, *command, "--tag", "loss=loss_train")
        assert code in (0, 1)
        assert printed
        assert "no run has this tag; did you mean loss/train" in told


def test_a_quantity_of_a_rule_pack_may_be_named(capsys):
    assert out(capsys, "inspect", RUN, "--tag", "wobble=grad_norm")[0] == 0


@pytest.mark.parametrize(
    ("written", "known", "ways"),
    [
        ("Esp", ["eps", "betas"], ("did you mean eps?",)),
        ("fail_on", ["fail-on", "level"], ("did you mean fail-on?",)),
        ("run1", ["run2", "run3"], ("did you mean run2 or run3?",)),
        ("zzz", ["eps"], ()),
        ("", ["eps"], ()),
    ],
)
def test_the_nearest_names(written, known, ways):
    assert did_you_mean(written, known) == ways


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_one_the_shell_reads(shell, capsys, tmp_path):
    code, script, _ = out(capsys, "completion", shell)
    assert code == 0
    assert "_TRAINDOCTOR_COMPLETE" in script
    if shutil.which(shell):
        (tmp_path / "script").write_text(script)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("traindoctor dia", {"diagnose"}),
        ("traindoctor completion ", {"bash", "zsh", "fish"}),
        ("traindoctor diagnose --ht", {"--html"}),
        ("traindoctor diagnose runs/ba", {"runs/ba"}),
        ("traindoctor check tr", {"tr"}),
        ("traindoctor compare good ba", {"ba"}),
        ("traindoctor fix rep", {"rep"}),
        ("traindoctor report show rep", {"rep"}),
        ("traindoctor diagnose --rules my", {"my"}),
        ("traindoctor diagnose --format-in tens", {"tensorboard"}),
        ("traindoctor diagnose --select TD201,td101", {"TD201,TD101"}),
        ("traindoctor explain TD101", {"TD101"}),
        ("traindoctor explain second", {"second-moment-collapse"}),
        ("traindoctor demo over", {"over-trained-adam"}),
    ],
)
def test_a_shell_completes_commands_options_and_choices(words, offered):
    environment = os.environ | {
        "_TRAINDOCTOR_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "traindoctor"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert {line.partition(",")[2] for line in done.stdout.splitlines()} == offered


def test_env_tells_versions_and_nothing_of_the_user(capsys, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    code, printed, _ = out(capsys, "env")
    assert code == 0
    for word in ("traindoctor:", "version", "Python", "numpy", "rule packs", "causes"):
        assert word in printed
    for private in (str(Path.home()), str(Path.cwd()), socket.gethostname(), "0123456789abcdef"):
        assert private not in printed
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in printed


def test_env_as_json_holds_the_same(capsys):
    code, printed, _ = out(capsys, "env", "--format", "json")
    assert code == 0
    assert json.loads(printed)["packages"]["numpy"]


def test_env_names_the_settings_that_differ_from_the_defaults(capsys, monkeypatch, tmp_path):
    (tmp_path / "traindoctor.toml").write_text('ignore = ["TD704"]\n')
    monkeypatch.chdir(tmp_path)
    assert "traindoctor.toml: ignore" in out(capsys, "env")[1]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_an_interrupt_leaves_nothing_half_written(tmp_path):
    for i in range(6):
        shutil.copytree(RUN, tmp_path / "logs" / f"run-{i}")
    (tmp_path / "out").mkdir()
    page = tmp_path / "out" / "report.html"
    page.write_text("the report of yesterday")
    with subprocess.Popen(
        [sys.executable, "-m", "traindoctor", "diagnose", tmp_path / "logs", "--html", page],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        time.sleep(3)  # six replays take several times as long
        process.send_signal(signal.SIGINT)
        printed, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert (printed, told.strip()) == ("", "interrupted")
    assert [(p.name, p.read_text()) for p in (tmp_path / "out").iterdir()] == [("report.html", "the report of yesterday")]
