"""Files and folders -> runs, with what belongs to each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from traindoctor.errors import ConfigError, UnreadableInputError
from traindoctor.readers.discover import ReadOptions, read_runs

from .wire import event, event_file, field, loss_file, metadata, simple

if TYPE_CHECKING:
    from pathlib import Path

EVENTS = "events.out.tfevents.1700000000.host.1.0"
TABLE = "step,loss,lr\n0,1.0,0.1\n1,0.5,0.1\n2,0.4,0.1\n"
CONFIG = "optimizer: adam\nlr: 0.001\n"
SCRIPT = "optimizer.zero_grad()\nloss.backward()\noptimizer.step()\n"


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def kinds(damages: object) -> list[str]:
    return [damage.kind for damage in damages]  # type: ignore[attr-defined]


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    """A run as people have it: logs in a folder of their own."""
    folder = tmp_path / "mlp-hot"
    put(folder / "logs" / "metrics.csv", TABLE)
    put(folder / "config.yaml", CONFIG)
    put(folder / "train.py", SCRIPT)
    return folder


@pytest.mark.parametrize("given", ["", "logs", "logs/metrics.csv"])
def test_the_same_run_from_its_folder_its_logs_or_its_file(exp: Path, given: str) -> None:
    (run,) = read_runs(exp / given)
    assert run.name == "mlp-hot"
    assert run.root == str(exp.resolve())
    assert (run.files, run.config_files, run.code_files) == (("logs/metrics.csv",), ("config.yaml",), ("train.py",))
    assert run.path == ("logs/metrics.csv" if given.endswith("csv") else "logs")
    assert run.primary["loss"].source == "logs/metrics.csv"
    assert run.settings["optimizer.lr"].value == 0.001
    assert run.optimizer is not None
    assert run.optimizer.name == "adam"
    assert (run.damages, run.restarts, run.step_unit) == ((), (), "step")


def test_a_relative_path_and_text(exp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(exp / "logs")
    (run,) = read_runs(".")
    assert (run.name, run.config_files) == ("mlp-hot", ("config.yaml",))
    (run,) = read_runs("metrics.csv")
    assert (run.name, run.path) == ("mlp-hot", "logs/metrics.csv")


def test_what_is_named_wins(exp: Path, tmp_path: Path) -> None:
    other = put(tmp_path / "other" / "c.yaml", "optimizer: sgd\nlr: 0.5\n")
    script = put(tmp_path / "other" / "s.py", SCRIPT)
    (run,) = read_runs(exp, ReadOptions(config=other, code=script, aliases={"val_loss": ("lr",)}))
    assert run.root == str(tmp_path.resolve())
    assert (run.files, run.config_files, run.code_files) == (("mlp-hot/logs/metrics.csv",), ("other/c.yaml",), ("other/s.py",))
    assert run.settings["optimizer.lr"].value == 0.5
    assert run.primary["val_loss"].tag == "lr"


def test_a_config_that_was_named_must_parse(exp: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_runs(exp, ReadOptions(config=put(tmp_path / "broken.yaml", "a: [1\n\tb: }")))
    with pytest.raises(UnreadableInputError, match="no such file"):
        read_runs(exp, ReadOptions(config=tmp_path / "missing.yaml"))


def test_a_config_that_was_found_and_does_not_parse_is_a_damage(exp: Path) -> None:
    put(exp / "config.yaml", "a: [1\n\tb: }")
    (run,) = read_runs(exp)
    assert len(run.damages) == 1
    assert run.damages[0].file == "config.yaml"


def test_a_tree_of_runs_each_with_its_own_config(tmp_path: Path) -> None:
    put(tmp_path / "a" / "logs" / "metrics.csv", TABLE)
    put(tmp_path / "a" / "config.yaml", CONFIG)
    put(tmp_path / "b" / EVENTS, loss_file([1.0, 0.5]))
    put(tmp_path / "c" / "lightning_logs" / "version_0" / "metrics.csv", TABLE)
    put(tmp_path / ".hidden" / "metrics.csv", TABLE)
    runs = {run.name: run for run in read_runs(tmp_path)}
    assert list(runs) == ["a", "b", "c"]
    assert runs["a"].config_files == ("a/config.yaml",)
    assert runs["b"].config_files == runs["c"].config_files == ()
    assert all(run.root == str(tmp_path.resolve()) for run in runs.values())


def test_a_run_below_another_does_not_take_its_config(tmp_path: Path) -> None:
    put(tmp_path / "top" / EVENTS, loss_file([1.0]))
    put(tmp_path / "top" / "config.yaml", CONFIG)
    put(tmp_path / "top" / "loss_train" / EVENTS, loss_file([1.0]))
    runs = {run.name: run for run in read_runs(tmp_path)}
    assert runs["top"].config_files == ("top/config.yaml",)
    assert runs["top/loss_train"].config_files == ()


def test_runs_called_alike_get_names_of_their_own(tmp_path: Path) -> None:
    for version in ("version_0", "version_1"):
        put(tmp_path / "exp" / "lightning_logs" / version / "metrics.csv", TABLE)
    names = [run.name for run in read_runs(tmp_path)]
    assert names == ["exp/lightning_logs/version_0", "exp/lightning_logs/version_1"]


def test_tables_of_the_same_tags_are_runs_by_themselves(tmp_path: Path) -> None:
    put(tmp_path / "hot.csv", TABLE)
    put(tmp_path / "cold.log.csv", TABLE)
    assert [run.name for run in read_runs(tmp_path)] == [f"{tmp_path.name}/cold", f"{tmp_path.name}/hot"]


def test_a_table_of_other_tags_joins(tmp_path: Path) -> None:
    put(tmp_path / "train.csv", TABLE)
    put(tmp_path / "val.csv", "step,val_loss\n2,1.0\n")
    (run,) = read_runs(tmp_path)
    assert set(run.primary) == {"loss", "learning_rate", "val_loss"}
    assert run.files == ("train.csv", "val.csv")


def test_a_broken_file_does_not_kill_the_others(tmp_path: Path) -> None:
    put(tmp_path / "a" / "metrics.csv", TABLE)
    put(tmp_path / "a" / EVENTS, "this is text")
    put(tmp_path / "b" / EVENTS, b"")
    put(tmp_path / "b" / "notes.csv", "name,score\nx,1\n")
    put(tmp_path / "c" / EVENTS, "this is text")
    (run,) = read_runs(tmp_path)
    assert run.name == "a"
    assert [(d.kind, d.file) for d in run.damages] == [
        ("unreadable-file", f"a/{EVENTS}"),
        ("lost-elsewhere", f"b/{EVENTS}"),
        ("lost-elsewhere", f"c/{EVENTS}"),
    ]


def test_a_table_without_steps_is_told_of_only_when_it_logs_a_loss(tmp_path: Path) -> None:
    put(tmp_path / "metrics.csv", TABLE)
    put(tmp_path / "names.csv", "name,score\nx,1\ny,2\n")
    put(tmp_path / "other.csv", "loss,score\n1,1\n2,2\n")
    (run,) = read_runs(tmp_path)
    assert [(d.kind, d.file) for d in run.damages] == [("unreadable-file", "other.csv")]


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({}, "empty"),
        ({"notes.md": "x"}, "among 1 file"),
        ({"trainer_state.json": "{}"}, "Hugging Face"),
        ({"run.wandb": "x"}, "no W&B log"),
        ({EVENTS: b""}, "0 bytes"),
        ({EVENTS: "step loss"}, "is not an event file"),
        ({"metrics.csv": "loss,b\n1,2\n"}, "no column looks like a step"),
        ({"metrics.csv": ""}, "holds nothing"),
        ({EVENTS: event_file()}, "no scalar"),
    ],
)
def test_nothing_to_read_is_said_with_ways_out(tmp_path: Path, files: dict[str, str | bytes], what: str) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    for name, content in files.items():
        put(folder / name, content)
    with pytest.raises(UnreadableInputError, match=what) as error:
        read_runs(folder)
    assert error.value.ways_out
    assert error.value.where.startswith(str(folder))


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("trainer_state.json", "{}", "Hugging Face"),
        ("log.txt", "hello\nworld\n", "no format that is known"),
        ("README.md", "A word, or two\n\nmore, words\n", "no format"),
        (EVENTS, "text", "is not an event file"),
        (EVENTS, b"", "0 bytes"),
        ("metrics.csv", "loss\n1\n", "no column looks like a step"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, content: str | bytes, what: str) -> None:
    file = put(tmp_path / name, content)
    with pytest.raises(UnreadableInputError, match=what) as error:
        read_runs(file)
    assert error.value.where == str(file)
    assert error.value.ways_out


def test_a_path_that_is_missing(tmp_path: Path) -> None:
    put(tmp_path / "metrics.csv", TABLE)
    with pytest.raises(UnreadableInputError, match="no such file or folder") as error:
        read_runs(tmp_path / "metric.csv")
    assert error.value.ways_out == ("did you mean metrics.csv?",)
    with pytest.raises(UnreadableInputError) as error:
        read_runs(tmp_path / "another")
    assert error.value.ways_out == ("one of what is there: metrics.csv",)


def test_a_file_of_another_name_is_read_by_its_content(tmp_path: Path) -> None:
    assert read_runs(put(tmp_path / "log.txt", TABLE))[0].primary["loss"].tag == "loss"
    assert read_runs(put(tmp_path / "run.bin", loss_file([1.0])))[0].primary["loss"].tag == "loss"


def test_a_resumed_run_keeps_all_points_and_says_where(tmp_path: Path) -> None:
    put(tmp_path / f"{EVENTS}.b", loss_file([float(i) for i in range(10)], wall=1.7e9))
    put(tmp_path / f"{EVENTS}.a", loss_file([50.0, 51.0, 52.0], start=8, wall=1.8e9))
    (run,) = read_runs(tmp_path)
    loss = run.primary["loss"]
    assert loss.step.tolist() == [*range(8), 8, 9, 10]
    assert loss.value.tolist() == [*map(float, range(8)), 50.0, 51.0, 52.0]
    aside = next(s for s in run.series if s.tag == "loss (set aside at the restart at step 8)")
    assert (aside.value.tolist(), aside.quantity) == ([8.0, 9.0], "")
    assert run.restarts == (8,)
    assert run.damages == ()
    assert [(s.kind, s.file, s.step) for s in run.stitches] == [("resumed", f"{EVENTS}.a", 8)]
    assert "steps 8 to 9" in run.stitches[0].detail
    assert run.files == (f"{EVENTS}.b", f"{EVENTS}.a")


@pytest.mark.parametrize(
    ("start", "wall", "restarts"), [(10, 1.7e9 + 10, ()), (10, 1.7e9 + 5000, (10,)), (40, 1.7e9 + 10, (40,))]
)
def test_a_file_that_goes_on_is_a_restart_after_a_gap_or_a_pause(
    tmp_path: Path, start: int, wall: float, restarts: tuple[int, ...]
) -> None:
    put(tmp_path / f"{EVENTS}.0", loss_file([1.0] * 10))
    put(tmp_path / f"{EVENTS}.1", loss_file([1.0] * 10, start=start, wall=wall))
    (run,) = read_runs(tmp_path)
    assert run.restarts == restarts
    assert run.damages == ()


def test_files_of_different_tags_are_no_restart(tmp_path: Path) -> None:
    put(tmp_path / f"{EVENTS}.0", loss_file([1.0] * 10))
    put(tmp_path / f"{EVENTS}.1", loss_file([1.0], tag="test_loss", start=3, wall=1.8e9))
    (run,) = read_runs(tmp_path)
    assert (run.restarts, run.damages) == ((), ())


def test_a_file_cut_off_is_a_damage(tmp_path: Path) -> None:
    put(tmp_path / EVENTS, loss_file([1.0, 2.0, 3.0])[:-7])
    (run,) = read_runs(tmp_path)
    assert run.primary["loss"].value.tolist() == [1.0, 2.0]
    assert [(d.kind, d.file) for d in run.damages] == [("truncated", EVENTS)]


def test_hparams_are_settings_below_those_of_a_config(tmp_path: Path) -> None:
    info = b"".join(
        field(1, field(1, name) + field(2, value))
        for name, value in ((b"lr", field(2, 0.5)), (b"batch_size", field(2, 32.0)), (b"optim/momentum", field(2, 0.9)))
    )
    start = event(0, field(1, field(1, b"_hparams_/session_start_info") + metadata("hparams", field(3, info))))
    put(tmp_path / EVENTS, event_file(start, event(1, simple("loss", 1.0))))
    put(tmp_path / "config.yaml", CONFIG)
    (run,) = read_runs(tmp_path)
    assert run.settings["optimizer.lr"].value == 0.001
    assert run.settings["batch_size"].value == 32
    assert run.settings["batch_size"].origin == f"event file of TensorBoard {EVENTS}"
    assert run.settings["optimizer.momentum"].value == 0.9


def test_hparams_in_a_folder_of_their_own_belong_to_the_run_above(tmp_path: Path) -> None:
    info = field(1, field(1, b"lr") + field(2, field(2, 0.5)))
    start = event(0, field(1, field(1, b"_hparams_/session_start_info") + metadata("hparams", field(3, info))))
    put(tmp_path / EVENTS, loss_file([1.0, 0.5]))
    put(tmp_path / "1700000000.1" / EVENTS, event_file(start))
    (run,) = read_runs(tmp_path)
    assert run.settings["optimizer.lr"].value == 0.5


def test_the_folders_of_keras_are_one_run(tmp_path: Path) -> None:
    put(tmp_path / "fit" / "train" / EVENTS, loss_file([1.0, 0.5], tag="epoch_loss"))
    put(tmp_path / "fit" / "validation" / EVENTS, loss_file([2.0, 1.5], tag="epoch_loss"))
    (run,) = read_runs(tmp_path)
    assert (run.name, run.step_unit) == ("fit", "epoch")
    assert {q: s.tag for q, s in run.primary.items()} == {"loss": "epoch_loss", "val_loss": "validation/epoch_loss"}
    assert run.files == (f"fit/train/{EVENTS}", f"fit/validation/{EVENTS}")


def test_a_table_beside_event_files_of_the_same_run_joins(tmp_path: Path) -> None:
    put(tmp_path / EVENTS, loss_file([1.0, 0.5, 0.4]))
    put(tmp_path / "metrics.csv", TABLE)
    (run,) = read_runs(tmp_path)
    assert run.primary["loss"].source == EVENTS
    assert [s.tag for s in run.series] == ["loss", "lr"]
    assert [(s.kind, s.file) for s in run.stitches] == [("joined", "metrics.csv")]
    assert "1 of its tags hold the same values as there" in run.stitches[0].detail


def test_a_table_that_holds_other_values_of_the_same_tag_keeps_them(tmp_path: Path) -> None:
    put(tmp_path / EVENTS, loss_file([1.0, 0.5, 0.3]))
    put(tmp_path / "metrics.csv", TABLE)
    (run,) = read_runs(tmp_path)
    assert [s.tag for s in run.series] == ["loss", "loss", "lr"]


def test_a_link_to_a_folder(exp: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    try:
        link.symlink_to(exp)
    except OSError:
        pytest.skip("no links here")
    (run,) = read_runs(link)
    assert run.config_files == ("config.yaml",)


def test_two_readings_are_the_same(exp: Path) -> None:
    put(exp / "logs" / EVENTS, loss_file([1.0, float("nan")]))
    (one,), (two,) = read_runs(exp), read_runs(exp)
    assert (one.files, one.damages, [s.tag for s in one.series]) == (two.files, two.damages, [s.tag for s in two.series])
    for a, b in zip(one.series, two.series, strict=True):
        np.testing.assert_array_equal(a.value, b.value)


def test_a_folder_is_looked_into_a_bounded_number_of_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "config.yaml", CONFIG)
    for i in range(40):
        put(tmp_path / f"run{i}" / EVENTS, loss_file([1.0, 0.5]))
    listed: list[Path] = []
    real = type(tmp_path).iterdir
    monkeypatch.setattr(type(tmp_path), "iterdir", lambda self: listed.append(self) or real(self))
    runs = read_runs(tmp_path)
    assert len(runs) == 40
    assert {run.settings["optimizer.lr"].value for run in runs} == {0.001}
    assert listed.count(tmp_path) <= 4
    assert len(listed) <= 4 * 41
