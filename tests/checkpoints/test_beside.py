"""Which checkpoints belong to a log, which of them are read, and what is said of those that are not."""

import json
import os
import shutil
from pathlib import Path

import pytest

from traindoctor.checkpoints import beside
from traindoctor.checkpoints.beside import checkpoints_of, found_beside
from traindoctor.cli import main
from traindoctor.errors import TraindoctorError
from traindoctor.pipeline import DiagnoseOptions, diagnose
from traindoctor.readers.discover import read_runs

FOLDER = Path(__file__).parents[2] / "fixtures" / "checkpoints"
CHECKPOINT = FOLDER / "layouts" / "loop_60.pt"


def log(file, n=50):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("step,loss\n" + "".join(f"{k},{1 / (k + 1)}\n" for k in range(n)))
    return file


def put(*files):
    for age, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(CHECKPOINT, file)
        os.utime(file, (1e9 + age, 1e9 + age))


def names(top, path):
    (run,) = read_runs(path)
    return [found.relative_to(top).as_posix() for found in found_beside(run)]


class TestFound:
    @pytest.mark.parametrize(
        ("files", "found"),
        [
            (["a/model.pt"], ["a/model.pt"]),
            (["a/step_9.pt", "a/step_100.pt", "a/step_20.pt"], ["a/step_20.pt", "a/step_100.pt"]),
            (
                ["a/checkpoints/epoch=3-step=40.ckpt", "a/checkpoints/last.ckpt"],
                ["a/checkpoints/epoch=3-step=40.ckpt", "a/checkpoints/last.ckpt"],
            ),
            (["a/best.pt", "a/step_5.pt"], ["a/step_5.pt"]),
            (["a/best.pt"], ["a/best.pt"]),
            (["a/checkpoint-20/optimizer.pt", "a/checkpoint-100/optimizer.pt"], ["a/checkpoint-20", "a/checkpoint-100"]),
            (["a/optimizer.pth", "a/ema.pt", "a/train_data.pt", "a/rng_state.pth", "a/dataset.pt"], []),
            (["b/model.pt", "model.pt"], []),
        ],
    )
    def test_in_the_folder_of_the_log(self, tmp_path, files, found):
        put(*(tmp_path / file for file in files))
        log(tmp_path / "a" / "log.csv")
        assert names(tmp_path, tmp_path / "a") == found

    def test_above_a_folder_that_only_holds_logs(self, tmp_path):
        log(tmp_path / "exp" / "logs" / "metrics.csv")
        put(tmp_path / "exp" / "ckpt.pt")
        assert names(tmp_path, tmp_path / "exp") == ["exp/ckpt.pt"]
        assert names(tmp_path, tmp_path / "exp" / "logs") == ["exp/ckpt.pt"]

    def test_none_where_several_runs_share_the_folder(self, tmp_path):
        log(tmp_path / "one.csv")
        log(tmp_path / "two.csv")
        put(tmp_path / "model.pt")
        assert names(tmp_path, tmp_path / "one.csv") == []
        for run in ("one", "two"):
            log(tmp_path / "runs" / run / "log.csv")
        put(tmp_path / "last.pt")
        assert names(tmp_path, tmp_path / "runs" / "one") == []

    def test_by_time_where_names_say_nothing(self, tmp_path):
        log(tmp_path / "log.csv")
        put(tmp_path / "c.pt", tmp_path / "b.pt", tmp_path / "a.pt")
        assert names(tmp_path, tmp_path) == ["b.pt", "a.pt"]


class TestRead:
    def test_the_newest_two(self, tmp_path):
        shutil.copytree(FOLDER / "runs" / "sound", tmp_path / "run")
        (run,) = read_runs(tmp_path / "run")
        state, told = checkpoints_of(run)
        assert [checkpoint.step for checkpoint in state.checkpoints] == [150, 300]
        assert told.checkpoint_files == ("step_150.pt", "step_300.pt")
        assert told.damages == run.damages

    def test_one_that_cannot_be_read_is_noted_and_the_other_read(self, tmp_path):
        shutil.copytree(FOLDER / "runs" / "sound", tmp_path / "run")
        (tmp_path / "run" / "step_400.pt").write_bytes(b"PK\x03\x04 cut off")
        (run,) = read_runs(tmp_path / "run")
        state, told = checkpoints_of(run)
        assert [checkpoint.step for checkpoint in state.checkpoints] == [300]
        (damage,) = told.damages
        assert (damage.kind, damage.file) == ("checkpoint-not-read", "step_400.pt")
        assert damage.family == "noted"

    def test_a_large_one_is_read_only_when_it_is_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr(beside, "UNASKED", 1000)
        shutil.copytree(FOLDER / "runs" / "sound", tmp_path / "run")
        (run,) = read_runs(tmp_path / "run")
        state, told = checkpoints_of(run)
        assert state is None
        assert all("--checkpoint step_" in damage.detail for damage in told.damages)
        state, _ = checkpoints_of(run, (tmp_path / "run" / "step_150.pt",))
        assert state.last.step == 150

    def test_one_of_a_longer_run_is_not_taken(self, tmp_path):
        shutil.copytree(FOLDER / "runs" / "sound", tmp_path / "run")
        log(tmp_path / "run" / "log.csv", 60)
        (run,) = read_runs(tmp_path / "run")
        state, told = checkpoints_of(run)
        assert [checkpoint.step for checkpoint in state.checkpoints] == [150]
        assert told.checkpoint_files == ("step_150.pt",)
        assert "another run" in told.damages[-1].detail


class TestDiagnosis:
    @pytest.mark.parametrize(("case", "code"), [("sound", None), ("state-not-loaded", "TD805"), ("weights-lost", "TD401")])
    def test_runs(self, case, code):
        (report,) = diagnose([FOLDER / "runs" / case]).runs
        assert ([finding.code for finding in report.findings] or [None])[0] == code
        if code:
            assert any(e.kind == "state" for e in report.findings[0].evidence)

    @pytest.mark.parametrize("case", ["state-not-loaded", "weights-lost"])
    def test_the_log_alone_does_not_tell(self, tmp_path, case):
        shutil.copyfile(FOLDER / "runs" / case / "log.csv", tmp_path / "log.csv")
        (report,) = diagnose([tmp_path]).runs
        assert [finding for finding in report.findings if finding.severity != "info"] == []

    def test_parameters_are_counted_by_the_state(self, monkeypatch):
        from traindoctor.signals import measurements

        seen = []
        usual = measurements.Measurements.__init__
        monkeypatch.setattr(
            measurements.Measurements, "__init__", lambda self, run, n=None: (seen.append(n), usual(self, run, n))[1]
        )
        diagnose([FOLDER / "runs" / "sound"])
        assert seen == [171]

    def test_named_on_the_command_line(self, tmp_path, capsys):
        shutil.copyfile(FOLDER / "runs" / "weights-lost" / "log.csv", tmp_path / "log.csv")
        elsewhere = str(FOLDER / "runs" / "weights-lost" / "step_301.pt")
        assert main(["diagnose", str(tmp_path), "--checkpoint", elsewhere, "--format", "json"]) == 1
        (run,) = json.loads(capsys.readouterr().out)["runs"]
        assert run["findings"][0]["code"] == "TD401"
        assert "state" in [evidence["kind"] for evidence in run["findings"][0]["evidence"]]

    def test_belongs_to_one_run(self, tmp_path):
        for run in ("one", "two"):
            log(tmp_path / run / "log.csv")
        with pytest.raises(TraindoctorError, match="several were read"):
            diagnose([tmp_path], DiagnoseOptions(checkpoints=(CHECKPOINT,)))

    def test_one_that_is_missing_or_none(self, tmp_path, capsys):
        log(tmp_path / "log.csv")
        assert main(["diagnose", str(tmp_path), "--checkpoint", str(tmp_path / "no.pt")]) == 2
        assert "no such checkpoint" in capsys.readouterr().err
        assert main(["diagnose", str(tmp_path), "--checkpoint", str(tmp_path / "log.csv")]) == 2
        assert "no checkpoint that is known" in capsys.readouterr().err
