"""`traindoctor replay`: the command of the user run again, what it prints, its exit codes, and what it leaves untouched."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from tests.replay.training import CONFIG, SGD, record
from traindoctor.cli import main
from traindoctor.model import Curve, Hypothesis, Replay, Segment, Trial

OPTIM = Path(__file__).parents[2] / "fixtures" / "optim"
CMD = "{python} train.py --config {config} --logdir {logdir}"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return record(tmp_path_factory.mktemp("recorded"))


@pytest.fixture
def run(recorded, monkeypatch):
    """The recorded run, as the working directory; its files must be the same afterwards."""
    monkeypatch.chdir(recorded)
    before = hashes(recorded)
    yield recorded
    assert hashes(recorded) == before


def hashes(folder):
    return {p.relative_to(folder): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*") if p.is_file()}


def alive(pid):
    """Whether a process runs; one that ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def said(capsys, *arguments):
    """Return exit code, stdout and stderr of `replay . ARGUMENTS`."""
    code = main(["replay", ".", *arguments])
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


@pytest.mark.usefixtures("run")
def test_the_command_is_run_as_recorded_and_with_each_change(capsys):
    code, out, err = said(capsys, "--cmd", CMD, "--set", "optimizer.lr=0.1", "--set", "optimizer.lr=2.2", "--jobs", "2")
    assert code == 0
    assert "Repaired by lr 0.1." in out
    assert "yes, bit for bit: all 120 logged values are the same" in out
    rows = [line.split() for line in out.splitlines()]
    assert [row[2] for row in rows if row[:2] == ["lr", "2.2"]] == ["worse"]
    assert ["lr", "0.1", "repairs"] in [row[:3] for row in rows]
    assert err == ""


@pytest.mark.usefixtures("run")
def test_json_holds_to_its_schema(capsys):
    jsonschema = pytest.importorskip("jsonschema")
    from traindoctor.report.replaying import schema

    code, out, _ = said(capsys, "--cmd", CMD, "--set", "optimizer.lr=0.1", "--format", "json")
    made = json.loads(out)
    jsonschema.Draft202012Validator(schema()).validate(made)
    assert code == 0
    assert made["replay"]["depth"] == "exact"
    assert made["replay"]["error"] == 0.0
    assert [(t["title"], t["verdict"]) for t in made["replay"]["trials"]] == [("as recorded", "no effect"), ("lr 0.1", "repairs")]


def test_keep_leaves_configs_that_differ_in_the_change_alone(run, tmp_path, capsys):
    code, _, err = said(capsys, "--cmd", CMD, "--set", "optimizer.lr=0.1", "--keep", str(tmp_path / "kept"))
    assert code == 0
    assert "wrote" in err
    kept = sorted(p.name for p in (tmp_path / "kept").iterdir())
    assert kept == ["00-as-recorded", "01-lr-0.1"]
    assert (tmp_path / "kept/00-as-recorded/config/config.yaml").read_bytes() == (run / "config.yaml").read_bytes()
    changed = (tmp_path / "kept/01-lr-0.1/config/config.yaml").read_text()
    assert changed == SGD.replace("lr: 2.01", "lr: 0.1")
    assert (tmp_path / "kept/01-lr-0.1/logs/metrics.csv").is_file()


@pytest.mark.usefixtures("run")
def test_nothing_is_left_without_keep(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert said(capsys, "--cmd", CMD, "--set", "optimizer.lr=0.1")[0] == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("run")
def test_settings_by_flag(capsys):
    code, out, _ = said(
        capsys, "--cmd", "{python} train.py --mode sgd --lr {set:optimizer.lr} --logdir {logdir}", "--set", "optimizer.lr=0.1"
    )
    assert code == 0
    assert "bit for bit" in out


@pytest.mark.usefixtures("run")
def test_a_page_is_written(capsys, tmp_path):
    page = tmp_path / "page.html"
    assert said(capsys, "--cmd", CMD, "--set", "optimizer.lr=0.1", "--html", str(page), "--quiet")[0] == 0
    text = page.read_text()
    assert "Repaired by lr 0.1." in text
    assert "default-src 'none'" in text
    assert str(tmp_path) not in text


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cmd", "no-such-program {logdir}"], "no-such-program: command not found"),
        (
            ["--cmd", "{python} train.py --mode fail --logdir {logdir}"],
            "exit code 1; the last lines of its stderr: first line | Val",
        ),
        (["--cmd", "{python} train.py --mode silent --logdir {logdir}"], "wrote no log to {logdir} that can be read"),
        (["--cmd", "{python} train.py --mode text --logdir {logdir}"], "wrote no log to {logdir} that can be read"),
        (["--cmd", "{python} train.py --mode renamed --logdir {logdir}"], "logged no 'loss'; its tags are other"),
        (["--cmd", "{python} train.py"], "has no {logdir}"),
        (["--cmd", "{python} train.py {logdir} {wandb}"], "the placeholder {wandb} is not known"),
        (["--cmd", "train '{logdir}"], "cannot be split into words"),
        (["--cmd", ""], "is empty"),
        (["--cmd", "train {logdir} {set:lr}"], "did you mean optimizer.lr?"),
        (["--cmd", "train {logdir} {set:optimizer.eps}"], "has no value"),
        (["--cmd", "train {logdir} {checkpoint}"], "names {checkpoint}, and none is given"),
        (["--cmd", CMD, "--from-checkpoint", "train.py"], "the command does not name it"),
        (["--cmd", CMD + " --checkpoint {checkpoint}", "--from-checkpoint", "gone.pt"], "there is no such file"),
        (["--cmd", CMD + " --checkpoint {checkpoint}", "--from-checkpoint", "logs"], "is no file"),
        (["--cmd", CMD + " --checkpoint {checkpoint}", "--from-checkpoint", "train.py"], "checkpoint is of another model"),
        (["--cmd", CMD, "--set", "schedule.name=cosine"], "schedule.name cannot be written into config.yaml"),
        (["--cmd", "train {logdir}", "--set", "optimizer.lr=1"], "reaches the command neither by {config} nor by {set:"),
        (["--set", "optimizer.lr"], "is not KEY=VALUE"),
        (["--set", "optimizer.beta2=1"], "below 1"),
        (["--from-checkpoint", "x.pt"], "goes with --cmd alone"),
        (["--keep", "kept"], "goes with --cmd alone"),
        (["--cmd", CMD, "--keep", "logs"], "is not empty"),
        (["--cmd", CMD, "--timeout", "0"], "0"),
        (["--cmd", CMD, "--timeout", "nan"], "no number of seconds"),
    ],
)
def test_bad_input_is_one_clear_message(capsys, arguments, words):
    code, out, err = said(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert words in " ".join(err.split())


def test_an_empty_checkpoint(run, tmp_path, capsys):
    (tmp_path / "empty.pt").touch()
    code, _, err = said(capsys, "--cmd", CMD + " --checkpoint {checkpoint}", "--from-checkpoint", str(tmp_path / "empty.pt"))
    assert code == 2
    assert "is empty" in err
    assert run.is_dir()


@pytest.mark.usefixtures("run")
def test_from_a_checkpoint_which_stays_as_it_is(tmp_path, capsys):
    weight = 3.0
    for _ in range(20):
        weight -= 2.01 * weight
    checkpoint = tmp_path / "step20.pt"
    checkpoint.write_text(f"quadratic {weight!r} 20")
    code, out, _ = said(
        capsys, "--cmd", CMD + " --checkpoint {checkpoint}", "--from-checkpoint", str(checkpoint), "--set", "optimizer.lr=0.1"
    )
    assert code == 0
    assert "bit for bit: all 100 logged values" in out
    assert "steps 20 to 139" in out
    assert checkpoint.read_text() == f"quadratic {weight!r} 20"


@pytest.mark.parametrize(("mode", "words"), [("fail", "ValueError: no such data"), ("hang", "stopped after 2 s")])
def test_a_change_whose_run_fails_says_so_and_the_others_go_on(tmp_path, monkeypatch, capsys, mode, words):
    run = record(tmp_path, CONFIG.replace("seed", f"mode: {mode}-small\nseed"))
    monkeypatch.chdir(run)
    code, out, _ = said(
        capsys, "--cmd", CMD, "--timeout", "2", "--jobs", "2", "--set", "optimizer.lr=0.01", "--set", "optimizer.lr=0.3"
    )
    lines = out.splitlines()
    row = next(i for i, line in enumerate(lines) if line.startswith("lr 0.01"))
    assert "not tried" in lines[row]
    assert words in lines[row + 1]
    assert any(line.startswith("lr 0.3") and "not tried" not in line for line in lines)
    assert code in (0, 1)


@pytest.mark.skipif(os.name != "posix", reason="process groups")
def test_a_timeout_ends_the_whole_group(run, tmp_path, capsys):
    command = "{python} train.py --mode hang --logdir {logdir}"
    code, _, err = said(capsys, "--cmd", command, "--timeout", "1.5", "--keep", str(tmp_path / "kept"))
    assert code == 2
    assert "as recorded: did not end within 1.5 s" in err
    child = int((tmp_path / "kept/00-as-recorded/logs/child").read_text())
    assert not alive(child)
    assert run.is_dir()


@pytest.mark.skipif(os.name != "posix", reason="process groups")
@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_ctrl_c_and_term_end_the_whole_group(run, tmp_path, number):
    command = [sys.executable, "-m", "traindoctor", "replay", ".", "--keep", str(tmp_path / "kept")]
    command += ["--cmd", "{python} train.py --mode hang --logdir {logdir}"]
    ours = subprocess.Popen(command, cwd=run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    file = tmp_path / "kept/00-as-recorded/logs/child"
    for _ in range(400):
        if file.is_file() and file.read_text():
            break
        time.sleep(0.05)
    child = int(file.read_text())
    ours.send_signal(number)
    _, err = ours.communicate(timeout=20)
    assert ours.returncode == 130
    assert err.split() == ["interrupted"]
    assert not alive(child)


@pytest.mark.usefixtures("run")
def test_another_run_is_told_from_the_recorded_one(capsys):
    code, out, _ = said(capsys, "--cmd", "{python} train.py --mode sgd --lr 0.5 --logdir {logdir}")
    assert code == 1
    assert "The log is not reproduced." in out
    assert "other code, data, settings or seed" in out.replace("\n               ", " ")


@pytest.mark.usefixtures("run")
def test_a_setting_that_the_command_does_not_read_is_no_verdict(capsys):
    code, out, _ = said(capsys, "--cmd", CMD, "--set", "optimizer.momentum=0.5")
    assert code == 1
    assert "the command does not read this" in " ".join(out.split())


def test_a_config_elsewhere_keeps_its_bytes(run, tmp_path, capsys):
    (tmp_path / "deep").mkdir()
    config = tmp_path / "deep" / "my config.yaml"
    config.write_bytes(b"\xef\xbb\xbf" + SGD.replace("\n", "\r\n").strip().encode())
    script = f"{{python}} '{run / 'train.py'}' --config {{config}} --logdir {{logdir}}"
    arguments = ["--config", str(config), "--cmd", script, "--set", "optimizer.lr=0.1", "--keep", str(tmp_path / "kept")]
    assert main(["replay", "logs", *arguments]) == 0
    assert "bit for bit" in capsys.readouterr().out
    changed = (tmp_path / "kept/01-lr-0.1/config/my config.yaml").read_bytes()
    assert changed == config.read_bytes().replace(b"2.01", b"0.1")


@pytest.mark.slow
def test_a_training_in_torch(capsys, monkeypatch):
    pytest.importorskip("torch")
    case = Path(__file__).parents[2] / "fixtures" / "healthy" / "digits-adam-tensorboard"
    monkeypatch.chdir(case)
    before = hashes(case.parents[1])
    command = "{python} ../../scripts/digits.py --config {config} --logdir {logdir}"
    code, out, _ = said(capsys, "--cmd", command, "--set", "optimizer.lr=1", "--timeout", "120")
    assert code == 1
    assert "The log is reproduced" in out
    assert next(line for line in out.splitlines() if line.startswith("lr 1  ") and "worse" in line)
    assert hashes(case.parents[1]) == before


def test_several_runs_are_refused(tmp_path, capsys):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text("step,loss\n" + "".join(f"{i},{1 / (i + 1)}\n" for i in range(20)))
    assert main(["replay", str(tmp_path)]) == 2
    assert "holds 2 runs, and one is replayed at a time" in capsys.readouterr().err


def test_a_run_without_a_loss_has_nothing_to_compare_with(tmp_path, capsys):
    (tmp_path / "metrics.csv").write_text("step,accuracy\n" + "".join(f"{i},0.{i}\n" for i in range(10, 40)))
    assert main(["replay", str(tmp_path), "--cmd", "true {logdir}"]) == 2
    assert "has no training loss to compare with" in capsys.readouterr().err


# -- from the log ------------------------------------------------------------------------------------------------------


@pytest.fixture
def engine(monkeypatch):
    """The engine as a stand-in that keeps what it was asked and returns `made.replay`."""
    step = np.arange(120)
    loss = np.exp(-step / 30.0)
    recorded = Trial("as recorded", {}, "no effect", 1.0, 1.0, Curve("as recorded", "reproduced", step, loss))
    better = Trial("lr 0.1", {"optimizer.lr": 0.1}, "repairs", 0.1, 1.2, Curve("lr 0.1", "counterfactual", step, loss / 2))
    observed = Curve("observed", "observed", step, loss)
    replay = Replay("closed", "a model", Segment(0, 120), observed, observed, None, 0.1, 0.2, True, "", (recorded, better))
    made = types.SimpleNamespace(replay=replay, asked=None)

    def replay_run(m, *, changes=(), auto=True, cause="", schedule=None):  # noqa: ARG001
        assert m.has("loss")
        made.asked = (cause, tuple(changes), auto)
        return made.replay

    monkeypatch.setattr("traindoctor.replay.engine.replay_run", replay_run)
    return made


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("arguments", "changes", "auto"),
    [
        ([], (), True),
        (["--set", "optimizer.lr=0.1"], ({"optimizer.lr": 0.1},), False),
        (["--set", "optimizer.lr=0.1", "--candidates", "auto"], ({"optimizer.lr": 0.1},), True),
        (["--candidates", "none"], (), False),
    ],
)
def test_what_the_engine_is_asked(engine, capsys, arguments, changes, auto):
    code, out, err = said(capsys, *arguments)
    assert (code, err) == (0, "")
    assert engine.asked[1:] == (changes, auto)
    assert "Repaired on the replay by lr 0.1." in out


@pytest.mark.usefixtures("run")
def test_the_engine_is_told_what_the_signs_speak_for(engine, monkeypatch, capsys):
    monkeypatch.setattr("traindoctor.pipeline.suspected", lambda m: f"of {m.loss.n} points")
    assert said(capsys)[0] == 0
    assert engine.asked[0] == "of 120 points"


@pytest.mark.usefixtures("run")
def test_exit_codes_of_a_replay(engine, capsys):
    from dataclasses import replace

    good = engine.replay
    engine.replay = replace(good, trials=good.trials[:1])
    assert said(capsys)[0] == 0
    engine.replay = replace(good, trials=(good.trials[0], replace(good.trials[1], verdict="postpones")))
    assert said(capsys)[0] == 1
    healthy = (Hypothesis("", "healthy", 0.0, 1.0, 0.1, None),)
    engine.replay = replace(engine.replay, hypotheses=healthy)
    assert said(capsys)[0] == 0
    engine.replay = replace(good, reproduces=False, refusal="it misses")
    assert said(capsys)[0] == 1


def test_help_says_where_code_is_run():
    done = subprocess.run([sys.executable, "-m", "traindoctor", "replay", "--help"], capture_output=True, text=True, check=True)
    assert "only place where traindoctor runs your code" in " ".join(done.stdout.split())


# -- where the optimizer stands ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def perceptron(tmp_path_factory):
    """The first 1,000 steps of the over-trained perceptron: its gradient norm, the loss of its steepest direction."""
    norm = np.array(json.loads((OPTIM / "perceptron.json").read_text())["grad_norm"][:1000])
    folder = tmp_path_factory.mktemp("perceptron")
    rows = "".join(f"{i},{g**2 / 6056.0!r},{g!r}\n" for i, g in enumerate(norm.tolist()))
    (folder / "metrics.csv").write_text("step,loss,grad_norm\n" + rows)
    (folder / "config.yaml").write_text("optimizer:\n  name: adam\n  lr: 0.001\n")
    return folder


@pytest.fixture
def ahead(perceptron, engine, monkeypatch, capsys):
    """Return what `replay . ARGUMENTS` says of the perceptron, the engine being a stand-in."""
    assert engine.asked is None
    monkeypatch.chdir(perceptron)
    return lambda *arguments: said(capsys, *arguments)


def test_a_probe_says_when_the_limit_is_met(ahead):
    jsonschema = pytest.importorskip("jsonschema")
    from traindoctor.report.replaying import schema

    _, out, _ = ahead("--probe", "999=16.63", "--format", "json")
    made = json.loads(out)
    jsonschema.Draft202012Validator(schema()).validate(made)
    told = made["outlook"]["forecast"]
    assert told["limit"] == pytest.approx(38.0)
    assert told["met"] == pytest.approx(2301, rel=0.05)
    assert told["interval"][0] < told["met"] < told["interval"][1]
    assert told["probe"] == {"step": 999, "value": 16.63}
    whole = made["outlook"]["layers"][0]
    assert len(whole["curves"]["effective_rate"]) == 1000
    text = " ".join(ahead("--probe", "999=16.63")[1].split())
    assert f"the limit of 38 is met at step {told['met']:,}, between step {told['interval'][0]:,} and" in text
    assert "√v̂ fell by a factor of" in text


@pytest.mark.usefixtures("engine")
def test_a_probe_of_a_log_of_every_tenth_step(monkeypatch, capsys):
    """The whole log, which goes on beyond the limit: what is met is met there."""
    monkeypatch.chdir(OPTIM.parent / "sick" / "overtrained-perceptron")
    _, out, _ = said(capsys, "--probe", "990=16.63", "--parameters", "1001", "--format", "json")
    told = json.loads(out)["outlook"]
    assert told["forecast"]["met"] == pytest.approx(2301, rel=0.05)
    assert told["layers"][0]["root_mean_square"] == pytest.approx(0.082, rel=0.1)
    assert 0.0 < told["layers"][0]["eps_share"] < 1e-6


def test_without_a_probe_the_way_to_one_is_named(ahead):
    text = " ".join(ahead()[1].split())
    assert "no forecast. The number of parameters is not known" in text
    assert "What helps: --parameters N, or --probe STEP=VALUE" in text
    known = " ".join(ahead("--parameters", "1001")[1].split())
    assert "the limit of 38 is met from now on, at step" in known
    assert "to 0.902 in the root mean square" in known
    assert "eps is < 0.01 % of the denominator" in known


def test_what_has_no_place_is_said(ahead):
    text = " ".join(ahead("--resume", "fresh", "--steps-per-epoch", "10")[1].split())
    assert "No resumed process is in the log" in text
    assert "The log counts steps: the steps of an epoch change nothing." in text


@pytest.mark.usefixtures("engine")
def test_a_log_of_epochs_needs_their_steps(tmp_path, monkeypatch, capsys):
    rows = "".join(f"{i},{np.exp(-i / 3.0)},{np.exp(-i / 6.0)}\n" for i in range(20))
    (tmp_path / "metrics.csv").write_text("epoch,loss,grad_norm\n" + rows)
    (tmp_path / "config.yaml").write_text("optimizer:\n  name: adam\n  lr: 0.001\n")
    monkeypatch.chdir(tmp_path)
    text = " ".join(said(capsys)[1].split())
    assert "not replayed: the log counts epochs" in text
    assert "--steps-per-epoch N gives the number of steps of an epoch" in text
    text = " ".join(said(capsys, "--steps-per-epoch", "100")[1].split())
    assert "since its highest, at epoch 0, √v̂ fell by a factor of" in text
    assert "taken to hold for its 100 steps" in text
    _, out, _ = said(capsys, "--steps-per-epoch", "100", "--probe", "19=30", "--format", "json")
    told = json.loads(out)["outlook"]
    assert told["steps_per_epoch"] == 100
    assert told["forecast"]["met"] > 1999


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--probe", "soon"], "is not STEP=VALUE"),
        (["--probe", "9=nan"], "the value above 0"),
        (["--probe", "9=0"], "the value above 0"),
        (["--probe", "1000=16"], "step 1,000 lies outside the logged gradient norm try: one from 0 to 999"),
        (["--steps-per-epoch", "0"], "is not in the range x>=1"),
        (["--resume", "lost"], "is not one of 'kept'"),
    ],
)
def test_what_cannot_be_an_outlook(ahead, arguments, words):
    code, out, err = ahead(*arguments)
    assert (code, out) == (2, "")
    assert words in " ".join(err.split())
