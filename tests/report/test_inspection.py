"""What `traindoctor inspect` says was read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from traindoctor.cli import main
from traindoctor.model import Damage, Histogram, OptimizerSpec, Run, Series, Setting, Stitch
from traindoctor.report.inspection import gaps, inspect_runs, render_inspection


def series(quantity: str, tag: str, value, step=None) -> Series:
    values = np.asarray(value, dtype=np.float64)
    steps = np.arange(values.size, dtype=np.int64) if step is None else np.asarray(step, dtype=np.int64)
    return Series(quantity, tag, steps, values, np.full(values.size, np.nan), "logs/a.csv")


@pytest.fixture
def run() -> Run:
    loss = series("loss", "train/loss", [3.0, 2.0, np.nan, np.inf, 1.0], [0, 10, 20, 30, 900])
    x = np.ones(2)
    return Run(
        name="exp",
        path=".",
        root="/home/someone/exp",
        series=(loss, series("loss", "loss2", [1.0, 0.5]), series("", "mem\x1b[31m", [1.0]), series("", "empty", [])),
        primary={"loss": loss},
        settings={"optimizer.lr": Setting(1e-3, "config.yaml:3")},
        optimizer=OptimizerSpec("adam", lr=1e-3, eps=1e-8, beta2=0.999, origin={"eps": "default of PyTorch"}),
        damages=(Damage("truncated", "logs/a.csv", "the file ends inside a record", 1234),),
        restarts=(20,),
        files=("logs/a.csv",),
        formats={"logs/a.csv": "csv"},
        histograms=(Histogram("grads/a", np.array([1, 2]), x, x, x, x, np.ones((2, 9)), "logs/a.csv"),),
        stitches=(Stitch("resumed", "logs/a.csv", "this file goes on from step 20", 20),),
    )  # fmt: skip


def test_the_object_holds_all_that_was_read(run: Run) -> None:
    made = inspect_runs([run], "1.2")
    json.dumps(made, allow_nan=False)
    (one,) = made["runs"]
    assert one["files"] == [{"file": "logs/a.csv", "format": "csv", "title": "table (CSV, TSV)"}]
    assert one["roles"] == {"loss": "train/loss"}
    loss, second, memory, empty = one["tags"]
    assert (loss["role"], loss["speaks"], second["role"], second["speaks"], memory["role"]) == ("loss", True, "loss", False, None)
    assert (loss["points"], loss["first_step"], loss["last_step"], loss["every"]) == (5, 0, 900, 10.0)
    assert (loss["nan"], loss["infinite"], loss["first_nan_step"]) == (1, 1, 20)
    assert (loss["minimum"], loss["maximum"], loss["last"]) == (1.0, 3.0, 1.0)
    assert (loss["gap_count"], loss["gaps"]) == (1, [{"after": 30, "before": 900}])
    assert (empty["points"], empty["first_step"], empty["minimum"]) == (0, None, None)
    assert one["integrity"][0]["offset"] == 1234
    assert one["stitching"] == [{"kind": "resumed", "file": "logs/a.csv", "step": 20, "detail": "this file goes on from step 20"}]
    assert one["histograms"][0]["points"] == 2
    assert one["optimizer"]["origin"]["eps"] == "default of PyTorch"


def test_the_tables_say_the_same(run: Run) -> None:
    text = render_inspection(inspect_runs([run], "1.2"), 120)
    for words in (
        "logs/a.csv  table (CSV, TSV)",
        "also loss",
        "1 NaN, 1 Inf from 20",
        "1, widest 30 to 900",
        "optimizer.lr",
        "config.yaml:3",
        "default of PyTorch",
        "grads/a",
        "logs/a.csv, byte 1,234",
        "goes on from step 20",
        "mem\\x1b[31m",
    ):
        assert words in text, words
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 130


def test_a_run_that_is_whole_says_so(run: Run) -> None:
    from dataclasses import replace

    text = render_inspection(inspect_runs([replace(run, damages=(), settings={}, optimizer=None)], "1"), 100)
    assert "damage: none" in text
    assert "settings: none found" in text


def test_gaps_are_wider_than_three_usual_distances() -> None:
    assert gaps(np.array([0, 1, 2, 3, 9, 10, 11])) == ([(3, 9)], 1)
    assert gaps(np.array([0, 1, 2, 5])) == ([], 0)
    assert gaps(np.array([5, 5])) == ([], 0)
    many = np.concatenate([np.arange(10) + 100 * k for k in range(9)])
    found, total = gaps(many)
    assert (len(found), total) == (5, 8)


def test_the_command(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "metrics.csv").write_text("step,my_total,lr\n0,1.0,0.1\n1,0.5,0.1\n2,nan,0.1\n")
    assert main(["inspect", str(tmp_path), "--tag", "loss=my_total", "--format", "json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["runs"]
    assert one["roles"] == {"loss": "my_total", "learning_rate": "lr"}
    assert main(["inspect", str(tmp_path)]) == 0
    assert "table (CSV, TSV)" in capsys.readouterr().out


def test_bad_input_is_two(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(tmp_path / "none")]) == 2
    assert "no such file" in capsys.readouterr().err
    (tmp_path / "x.bin").write_bytes(b"\x00\x01")
    assert main(["inspect", str(tmp_path / "x.bin")]) == 2
    assert "what is read:" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path), "--format-in", "cvs"]) == 2
    assert "did you mean csv?" in capsys.readouterr().err


def scheduled(rate, **settings) -> Run:
    lr = series("learning_rate", "lr", rate)
    told = {"optimizer.lr": 0.1, "schedule.name": "cosine", "schedule.total_steps": 100, **settings}
    held = {key: Setting(value, "config.yaml:1") for key, value in told.items()}
    return Run("exp", ".", ".", (lr,), {"learning_rate": lr}, held)


def test_the_schedule_of_the_config_and_of_the_log_are_held_together() -> None:
    cosine = 0.05 * (1.0 + np.cos(np.pi * np.arange(100) / 100))
    made = inspect_runs([scheduled(cosine), scheduled(np.full(100, 0.1)), scheduled(cosine, **{"schedule.name": "mine"})], "1")
    json.dumps(made, allow_nan=False)
    good, flat, unknown = (run["schedule"] for run in made["runs"])
    assert (good["agree"], good["answer"]) == (True, "follows")
    assert good["configured"]["schedule"] == "huggingface.cosine"
    assert good["logged"]["text"].startswith("cosine from 0.1 to 0")
    assert (flat["agree"], flat["answer"], flat["numbers"]) == (False, "constant", {"learning_rate": 0.1})
    assert (unknown["agree"], unknown["text"]) == (None, "mine is no schedule that is known")
    text = render_inspection(made, 120)
    assert "yes: follows the configured cosine" in text
    assert "no: constant at 0.1 where the configured cosine" in text


def test_a_schedule_without_what_it_needs_is_not_guessed() -> None:
    one = inspect_runs([scheduled(np.linspace(0.1, 0.0, 50), **{"schedule.total_steps": None})], "1")["runs"][0]["schedule"]
    assert (one["agree"], one["configured"]["missing"]) == (None, ["schedule.total_steps"])
    assert one["text"] == "the config leaves out schedule.total_steps"


def test_no_learning_rate_and_no_schedule_is_no_line(run: Run) -> None:
    made = inspect_runs([run], "1")
    assert made["runs"][0]["schedule"]["text"] == "no learning rate was logged"
    assert "schedule " not in render_inspection(made, 100)
