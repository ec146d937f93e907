"""Which logs are one run: the layouts that people have on disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from traindoctor.errors import UnreadableInputError
from traindoctor.readers.discover import ReadOptions, read_runs

from .wire import event_file, loss_file

if TYPE_CHECKING:
    from pathlib import Path

    from traindoctor.model import Run

EVENTS = "events.out.tfevents.17000000{:02d}.host.1.0"


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(steps: range, scale: float = 1.0) -> str:
    return "step,loss\n" + "".join(f"{i},{scale / (i + 1)!r}\n" for i in steps)


def state(n: int, folder: Path) -> Path:
    history = [
        {"step": i, "epoch": i / 10, "loss": 3.0 / i, "grad_norm": 1.0 / i, "learning_rate": 1e-3} for i in range(1, n + 1)
    ]
    return put(folder / "trainer_state.json", json.dumps({"global_step": n, "log_history": history, "max_steps": 100}))


def stitched(run: Run) -> list[tuple[str, str]]:
    return [(s.kind, s.file) for s in run.stitches]


def test_two_attempts_in_one_folder_are_two_runs(tmp_path: Path) -> None:
    put(tmp_path / "exp" / EVENTS.format(0), loss_file([2.0] * 30, wall=1.7e9))
    put(tmp_path / "exp" / EVENTS.format(9), loss_file([1.0] * 40, wall=1.8e9))
    first, second = read_runs(tmp_path)
    assert (first.name, second.name) == ("exp/attempt 1", "exp/attempt 2")
    assert (len(first.primary["loss"]), len(second.primary["loss"])) == (30, 40)
    assert stitched(second) == [("attempts", f"exp/{EVENTS.format(9)}")]


def test_a_rotated_or_resumed_table_goes_on(tmp_path: Path) -> None:
    put(tmp_path / "log_0.csv", table(range(50)))
    put(tmp_path / "log_1.csv", table(range(50, 90)))
    (run,) = read_runs(tmp_path)
    assert run.primary["loss"].step.tolist() == list(range(90))
    assert [kind for kind, _ in stitched(run)] == ["joined"]


def test_tables_of_two_seeds_are_two_runs(tmp_path: Path) -> None:
    put(tmp_path / "seed0.csv", table(range(50)))
    put(tmp_path / "seed1.csv", table(range(50), 2.0))
    assert [run.name.rpartition("/")[2] for run in read_runs(tmp_path)] == ["seed0", "seed1"]


@pytest.mark.parametrize("layout", ["rank_{}/metrics.csv", "metrics.rank{}.csv", "log-worker-{}.csv"])
def test_the_ranks_of_one_run(tmp_path: Path, layout: str) -> None:
    for rank in (0, 1, 10):
        put(tmp_path / layout.format(rank), table(range(20), 1.0 + rank))
    (run,) = read_runs(tmp_path)
    assert run.primary["loss"].value[0] == 1.0
    assert [s.tag for s in run.series] == ["loss", "loss (rank 1)", "loss (rank 10)"]
    assert [s.quantity for s in run.series] == ["loss", "", ""]
    assert [kind for kind, _ in stitched(run)] == ["rank", "rank"]


def test_states_of_checkpoints_are_one_run(tmp_path: Path) -> None:
    state(10, tmp_path / "out" / "checkpoint-10")
    state(20, tmp_path / "out" / "checkpoint-20")
    (run,) = read_runs(tmp_path)
    assert len(run.primary["loss"]) == 20
    assert stitched(run) == [("checkpoint", "out/checkpoint-10/trainer_state.json")]
    assert run.name == "out"


def test_states_that_differ_are_two_runs(tmp_path: Path) -> None:
    state(10, tmp_path / "a")
    state(20, tmp_path / "b")
    assert len(read_runs(tmp_path)) == 2


def test_the_same_run_in_two_formats_is_one(tmp_path: Path) -> None:
    state(20, tmp_path / "out" / "checkpoint-20")
    lines = [{"step": i, "train/loss": round(3.0 / i, 6), "samples": i} for i in range(1, 21)]
    put(tmp_path / "out" / "runs" / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    (run,) = read_runs(tmp_path)
    assert [kind for kind, _ in stitched(run)] == ["same-run"]
    assert {s.tag for s in run.series} >= {"samples"}
    assert sum(s.quantity == "loss" for s in run.series) == 1


def test_the_folder_of_evaluation_below_a_run_is_part_of_it(tmp_path: Path) -> None:
    put(tmp_path / "exp" / EVENTS.format(0), loss_file([2.0, 1.0, 0.5]))
    put(tmp_path / "exp" / "eval" / EVENTS.format(1), loss_file([2.5, 1.5]))
    (run,) = read_runs(tmp_path)
    assert run.primary["val_loss"].tag == "eval/loss"
    assert stitched(run) == [("validation", f"exp/eval/{EVENTS.format(1)}")]


def test_the_curves_of_add_scalars_are_of_the_run_above(tmp_path: Path) -> None:
    put(tmp_path / "exp" / EVENTS.format(0), loss_file([1e-3] * 5, tag="lr"))
    put(tmp_path / "exp" / "a_Loss_train" / EVENTS.format(1), loss_file([2.0, 1.0, 0.5], tag="a/Loss"))
    put(tmp_path / "exp" / "a_Loss_val" / EVENTS.format(2), loss_file([2.5, 1.5], tag="a/Loss"))
    (run,) = read_runs(tmp_path)
    assert {quantity: one.tag for quantity, one in run.primary.items()} == {
        "learning_rate": "lr",
        "loss": "a/Loss/train",
        "val_loss": "a/Loss/val",
    }
    assert [kind for kind, _ in stitched(run)] == ["joined", "joined"]
    (held_out,) = read_runs(tmp_path / "exp" / "a_Loss_val")
    assert list(held_out.primary) == ["val_loss"]


def test_curves_of_models_that_are_compared_are_runs(tmp_path: Path) -> None:
    for name in ("loss_small", "loss_large", "val_loss", "lossy_val"):
        put(tmp_path / name / EVENTS.format(1), loss_file([2.0, 1.0, 0.5]))
    assert len(read_runs(tmp_path)) == 4


def test_curves_of_several_attempts_are_runs(tmp_path: Path) -> None:
    put(tmp_path / "loss_train" / EVENTS.format(0), loss_file([2.0] * 30, wall=1.7e9))
    put(tmp_path / "loss_val" / EVENTS.format(0), loss_file([2.0] * 30, wall=1.7e9))
    put(tmp_path / "loss_val" / EVENTS.format(9), loss_file([1.0] * 40, wall=1.8e9))
    assert [list(run.primary) for run in read_runs(tmp_path)] == [["loss"], ["val_loss"], ["val_loss"]]


def test_runs_appended_to_one_table_are_runs(tmp_path: Path) -> None:
    put(tmp_path / "log.csv", table(range(30)) + table(range(30), 2.0))
    runs = read_runs(tmp_path / "log.csv")
    assert [len(run.primary["loss"]) for run in runs] == [30, 30]
    assert len({run.name for run in runs}) == 2


def test_noise_beside_a_log_is_no_log(tmp_path: Path) -> None:
    put(tmp_path / "exp" / "metrics.csv", table(range(30)))
    put(tmp_path / "exp" / "requirements.txt", "torch==2.1\nnumpy>=1.2\n")
    put(tmp_path / "exp" / "notes.txt", "the loss was 2.3 and then 1.2\nlr 0.1 is fine\n")
    put(tmp_path / "exp" / "vocab.json", json.dumps({"a": 1, "b": 2}))
    put(tmp_path / "exp" / "config.json", json.dumps({"lr": 0.1, "optimizer": "sgd"}))
    put(tmp_path / "exp" / "model.pt", b"\x80\x02" * 100)
    (run,) = read_runs(tmp_path)
    assert run.files == ("exp/metrics.csv",)
    assert run.damages == ()
    assert run.settings["optimizer.lr"].value == 0.1


def test_a_format_that_is_insisted_on(tmp_path: Path) -> None:
    put(tmp_path / "x.dat", table(range(30)))
    assert read_runs(tmp_path / "x.dat", ReadOptions(format="csv"))[0].formats == {"x.dat": "csv"}
    with pytest.raises(UnreadableInputError, match="is not an event file"):
        read_runs(tmp_path / "x.dat", ReadOptions(format="tensorboard"))


def test_a_file_without_scalars_beside_a_run_is_no_damage(tmp_path: Path) -> None:
    put(tmp_path / EVENTS.format(0), loss_file([2.0, 1.0, 0.5]))
    put(tmp_path / EVENTS.format(1), event_file())
    (run,) = read_runs(tmp_path)
    assert run.damages == ()


def test_the_same_log_written_twice_is_one_run(tmp_path: Path) -> None:
    rows = "".join(json.dumps({"step": i, "loss": 1 / (i + 1), "lr": 0.1}) + "\n" for i in range(20))
    put(tmp_path / "vis_data" / "scalars.json", rows)
    put(tmp_path / "vis_data" / "20240501_120000.json", rows)
    (run,) = read_runs(tmp_path)
    assert len(run.files) == 1
    assert [kind for kind, _ in stitched(run)] == ["copy"]


def test_a_table_that_cannot_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "ok.jsonl", "".join(json.dumps({"step": i, "loss": 1 / (i + 1)}) + "\n" for i in range(9)))
    put(tmp_path / "other.csv", table(range(9)))
    real = type(tmp_path).open

    def refused(self: Path, *arguments: object, **named: object) -> object:
        if self.name == "other.csv":
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **named)

    monkeypatch.setattr(type(tmp_path), "open", refused)
    (run,) = read_runs(tmp_path)
    assert [(d.kind, d.file) for d in run.damages] == [("unreadable-file", "other.csv")]


def test_what_cannot_be_read_in_other_folders_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "a" / "metrics.csv", table(range(9)))
    put(tmp_path / "b" / EVENTS.format(0), b"")
    put(tmp_path / "c" / EVENTS.format(0), b"not an event file, by far")
    put(tmp_path / "locked" / "metrics.csv", table(range(9)))
    real = type(tmp_path).iterdir

    def refused(self: Path) -> object:
        if self.name == "locked":
            raise PermissionError(13, "Permission denied")
        return real(self)

    monkeypatch.setattr(type(tmp_path), "iterdir", refused)
    (run,) = read_runs(tmp_path)
    assert [(d.kind, d.file) for d in run.damages] == [
        ("lost-elsewhere", f"b/{EVENTS.format(0)}"),
        ("lost-elsewhere", f"c/{EVENTS.format(0)}"),
        ("lost-elsewhere", "locked"),
    ]
    assert {d.family for d in run.damages} == {"noted"}
    with pytest.raises(UnreadableInputError, match="cannot be read: Permission denied"):
        read_runs(tmp_path / "locked")
