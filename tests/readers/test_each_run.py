"""Runs read folder by folder are those that are read together."""

import gc
import weakref
from pathlib import Path

import pytest

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Run
from traindoctor.readers import discover
from traindoctor.readers.discover import each_run, read_runs

FIXTURES = Path(__file__).parents[2] / "fixtures"
ROWS = "step,loss,grad_norm\n" + "".join(f"{i},{2.0 / (1 + i):.5f},1\n" for i in range(40))


def write(folder, text=ROWS, name="metrics.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def told(run: Run):
    return (run.name, run.path, run.damages, run.stitches, run.settings, [(s.tag, s.value.tolist()) for s in run.series])


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(discover, "BATCH_BYTES", 1)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("folder", ["sick", "healthy", "compare/sweep", "formats/mlflow-files"])
def test_the_same_runs(folder):
    together = [told(run) for run in read_runs(FIXTURES / folder)]
    apart = [told(run) for run in sorted(each_run(FIXTURES / folder), key=lambda run: (run.name, run.path))]
    assert [one[:2] for one in apart] == [one[:2] for one in together]
    assert repr(apart) == repr(together)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("names", [("train", "validation"), ("rank0", "rank1"), ("checkpoint-1", "checkpoint-2")])
def test_folders_that_may_be_parts_of_one_run_are_read_together(tmp_path, names):
    for name in names:
        write(tmp_path / name)
    assert [told(run) for run in each_run(tmp_path)] == [told(run) for run in read_runs(tmp_path)]


@pytest.mark.usefixtures("small_batches")
def test_only_some_are_in_memory(tmp_path):
    for i in range(6):
        write(tmp_path / f"run-{i}")
    alive = []
    most = 0
    for run in each_run(tmp_path):
        alive.append(weakref.ref(run.series[0].value))
        del run
        gc.collect()
        most = max(most, sum(one() is not None for one in alive))
    assert len(alive) == 6
    assert most <= 3


@pytest.mark.usefixtures("small_batches")
def test_what_belongs_to_no_run_is_told_with_another_one(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", "step,loss\n", "metrics.csv")
    damages = [d.kind for run in each_run(tmp_path) for d in run.damages]
    assert damages.count("lost-elsewhere") == [d.kind for run in read_runs(tmp_path) for d in run.damages].count("lost-elsewhere")


@pytest.mark.usefixtures("small_batches")
def test_nothing_that_can_be_read(tmp_path):
    write(tmp_path / "a", "hello\n", "metrics.csv")
    with pytest.raises(UnreadableInputError) as apart:
        list(each_run(tmp_path))
    with pytest.raises(UnreadableInputError) as together:
        read_runs(tmp_path)
    assert (apart.value.where, apart.value.what) == (together.value.where, together.value.what)
