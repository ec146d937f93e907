"""The commands, with the pipeline and the rules replaced by small ones: what is printed where, and the exit codes."""

import copy
import dataclasses
import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from tests.report import sample
from traindoctor.cli import main
from traindoctor.errors import TraindoctorError, UnreadableInputError
from traindoctor.report.writing import write_whole
from traindoctor.rule import Cause, Threshold

HEAVY = ("numpy", "pandas", "scipy", "tensorboard", "torch", "rich", "jinja2", "matplotlib", "ruamel", "google", "tensorflow")


@dataclasses.dataclass(frozen=True)
class DiagnoseOptions:
    config: Path | None = None
    code: Path | None = None
    checkpoints: tuple[Path, ...] = ()
    step_column: str | None = None
    format: str = ""
    tags: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    thresholds: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    parameters: int | None = None
    rules: tuple[str, ...] = ()


@pytest.fixture
def pipeline(monkeypatch, tmp_path):
    """The pipeline as a stand-in that returns `result.report` and keeps what it was asked."""
    monkeypatch.chdir(tmp_path)
    result = types.SimpleNamespace(report=sample.report_of(sample.undecided_run()), asked=None, error=None)

    def diagnose(paths: Sequence[Path], options: DiagnoseOptions, progress: Callable[[str], None] | None):
        result.asked = (paths, options)
        if progress is not None:
            progress("reading [bold]x[/bold]")
        if result.error:
            raise result.error
        return result.report

    module = types.ModuleType("traindoctor.pipeline")
    module.DiagnoseOptions, module.diagnose = DiagnoseOptions, diagnose
    monkeypatch.setitem(sys.modules, "traindoctor.pipeline", module)
    return result


@pytest.fixture
def rules(monkeypatch):
    cause = Cause(
        code="TD101",
        name="second-moment-collapse",
        summary="the second moment decays until the step is unstable",
        explanation="The step grows.\n\n## What it looks like\nA late rebound.\n",
        thresholds=(Threshold("margin", 38.0, "1", "arXiv:2207.14484"),),
        refutation="A run with amsgrad that fails all the same.",
    )
    cause.log_rules.append((lambda *_: iter(()), ("loss",)))
    other = copy.copy(cause)
    other.code, other.name = "TD201", "learning-rate-too-high"
    module = types.ModuleType("traindoctor.registry")
    registry = types.SimpleNamespace(causes={"TD201": other, "TD101": cause}, problems=("acme: no module",))
    module.load_rules = lambda *_: registry
    monkeypatch.setitem(sys.modules, "traindoctor.registry", module)


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["diagnose", "--help"], ["explain", "--help"], ["rules", "--help"]]
)
def test_help_imports_nothing_heavy(arguments):
    program = f"import sys; from traindoctor.cli import main; code = main({arguments!r}); "
    program += f"print('HEAVY', sorted(set({HEAVY!r}) & {{m.split('.')[0] for m in sys.modules}})); sys.exit(code)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"


def test_the_module_runs():
    done = subprocess.run([sys.executable, "-m", "traindoctor", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("traindoctor ")


@pytest.mark.usefixtures("pipeline")
def test_text_goes_to_stdout_and_nothing_to_stderr_when_piped(capsys):
    assert main(["diagnose", "logs"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("notebook-7  UNDECIDED")
    assert err == ""


@pytest.mark.usefixtures("pipeline")
def test_json(capsys):
    assert main(["diagnose", "logs", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["verdict"] == "undecided"


@pytest.mark.parametrize(
    ("run", "fail_on", "code"),
    [
        (sample.failed_run, "error", 1),
        (sample.failed_run, "never", 0),
        (sample.undecided_run, "error", 0),
        (sample.undecided_run, "warning", 1),
        (sample.healthy_run, "warning", 0),
    ],
)
def test_the_severity_decides_the_exit_code(pipeline, run, fail_on, code):
    pipeline.report = sample.report_of(run())
    assert main(["diagnose", "logs", "--fail-on", fail_on, "--quiet"]) == code


def test_options_reach_the_pipeline(pipeline):
    Path("traindoctor.toml").write_text(
        'ignore = ["td502"]\n[thresholds.TD101]\nmargin = 40\n[tags]\nloss = ["a"]\nval_loss = ["v"]\n'
    )
    arguments = "diagnose a b --config c.yaml --code t.py --step-column epoch --tag loss=x --tag loss=y=z --parameters 1001"
    arguments += " --select td1,TD2 --rules mine.py --rules house/"
    assert main(arguments.split()) == 0
    paths, options = pipeline.asked
    assert [str(p) for p in paths] == ["a", "b"]
    assert options == DiagnoseOptions(
        config=Path("c.yaml"),
        code=Path("t.py"),
        step_column="epoch",
        tags={"loss": ("x", "y=z"), "val_loss": ("v",)},
        select=("TD1", "TD2"),
        ignore=("TD502",),
        thresholds={"TD101": {"margin": 40.0}},
        parameters=1001,
        rules=("mine.py", "house/"),
    )


@pytest.mark.usefixtures("pipeline")
def test_html_is_written_whole(capsys):
    assert main(["diagnose", "logs", "--html", "report.html"]) == 0
    assert Path("report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert capsys.readouterr().err == "wrote report.html\n"
    assert sorted(p.name for p in Path().iterdir()) == ["report.html"]


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").write_text("")
    with pytest.raises(UnreadableInputError):
        write_whole(tmp_path / "taken", "text")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


@pytest.mark.usefixtures("pipeline")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["diagnose"], "Missing argument 'PATH...'"),
        (["diagnose", "x", "--format", "xml"], "'xml' is not one of"),
        (["diagnose", "x", "--tag", "loss"], "is not QUANTITY=TAG"),
        (["diagnose", "x", "--parameters", "0"], "x>=1"),
        (["diagnose", "x", "--html", "nowhere/report.html"], "does not exist"),
        (["diagnoze"], "there is no command 'diagnoze'"),
    ],
)
def test_bad_usage_is_two(capsys, arguments, words):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err


def test_an_error_says_where_what_and_the_way_out(pipeline, capsys):
    pipeline.error = TraindoctorError("runs/m.csv", "no column looks like a step\x1b[2J", "--step-column epoch", "--tag loss=x")
    assert main(["diagnose", "runs"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "error: runs/m.csv: no column looks like a step\\x1b[2J\n  try:     --step-column epoch\n           --tag loss=x\n"
    )


def test_ctrl_c_is_130(pipeline):
    pipeline.error = KeyboardInterrupt()
    assert main(["diagnose", "logs"]) == 130


def test_a_reader_that_went_away_is_no_traceback():
    program = "import sys; from tests.cli.test_cli import big; sys.exit(big())"
    first = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    first.stdout.close()
    err = first.stderr.read().decode()
    assert first.wait() in (141, -signal.SIGPIPE)
    assert "Traceback" not in err
    assert "Exception ignored" not in err


def big() -> int:
    """Print far more than a pipe holds."""
    module = types.ModuleType("traindoctor.pipeline")
    report = sample.report_of(*[sample.undecided_run()] * 300)
    module.DiagnoseOptions, module.diagnose = DiagnoseOptions, lambda *_: report
    sys.modules["traindoctor.pipeline"] = module
    return main(["diagnose", "logs", "--format", "json"])


def test_a_terminal_without_unicode_is_no_reason_to_fail():
    program = "import sys; from tests.cli.test_cli import failed; sys.exit(failed())"
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "loss <- Loss" in done.stdout


def failed() -> int:
    module = types.ModuleType("traindoctor.pipeline")
    module.DiagnoseOptions, module.diagnose = DiagnoseOptions, lambda *_: sample.report_of(sample.undecided_run())
    sys.modules["traindoctor.pipeline"] = module
    return main(["diagnose", "logs"])


@pytest.mark.usefixtures("rules")
@pytest.mark.parametrize("code", ["TD101", "td101", "second-moment-collapse"])
def test_explain(capsys, code):
    assert main(["explain", code]) == 0
    out = capsys.readouterr().out
    for words in (
        "TD101 second-moment-collapse (error)",
        "## What it looks like",
        "margin = 38; source: arXiv:2207.14484",
        "amsgrad",
    ):
        assert words in out


@pytest.mark.usefixtures("rules")
def test_explain_of_an_unknown_code_names_the_nearest(capsys):
    assert main(["explain", "TD110"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "did you mean" in err
    assert "TD101" in err


@pytest.mark.usefixtures("rules")
def test_the_catalogue(capsys):
    assert main(["rules"]) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["code", "TD101", "TD201"]
    assert "acme: no module" in err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
def test_what_is_no_file_is_written_to_and_not_replaced(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(pipe, "whole")
        assert os.read(reader, 100) == b"whole"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
