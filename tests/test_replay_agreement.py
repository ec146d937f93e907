"""The agreement study trains what it says: changes, logs and parts, on the smallest case."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("yaml")

STUDY = Path(__file__).parents[1] / "benchmarks" / "replay_agreement"


@pytest.fixture(scope="module")
def study():
    """Return the modules of the study; their plain names are free again afterwards."""
    before, names = list(sys.path), ("run", "cases", "loop", "tasks", "training")
    kept = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.path.insert(0, str(STUDY))
    import run

    yield run
    sys.path[:] = before
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(kept)


def case_of(study, fault, part="tuning"):
    return next(c for c in study.CASES if c.fault == fault and c.part == part)


def test_the_parts_have_no_run_in_common(study):
    tuning, held = ({(c.job.task, c.job.seed) for c in study.CASES if c.part == part} for part in ("tuning", "held-back"))
    assert not tuning & held
    assert {c.fault for c in study.CASES if c.part == "held-back"} == set(study.CODES)


def test_a_change_of_the_schedule_replaces_the_recorded_one(study):
    from loop import lr_factor

    job = case_of(study, "schedule-ends-early").job
    assert lr_factor(job.settings, 300, 900) == 0.0
    assert lr_factor(job.changed({"schedule.name": "linear"}).settings, 450, 900) == 0.5
    assert lr_factor(job.changed({"schedule.total_steps": 900}).settings, 450, 900) == 0.5
    assert lr_factor({"optimizer.lr": 1.0, "schedule.warmup_steps": 10}, 4, 900) == 0.5


def test_what_mends_the_loop_takes_the_fault_away_and_no_setting(study):
    job = case_of(study, "keeps-gradients").job
    assert job.hook == {"keep_gradients": True}
    assert job.changed({"gradient.zero_grad": True}).hook == {}
    assert job.changed({"gradient.zero_grad": True}).settings == job.settings


def test_the_log_is_what_was_trained_and_names_no_fault(study, tmp_path):
    case = case_of(study, "keeps-gradients")
    case = replace(case, changes=({"gradient.zero_grad": True}, {"optimizer.lr": 1e-4}))
    study.generate(case, tmp_path)
    (run,) = study.discover.read_runs(tmp_path / "log")
    base = study.load(tmp_path / "base.npz")
    assert run.primary["loss"].value == pytest.approx(base.loss, rel=1e-8)
    assert run.primary["grad_norm"].value == pytest.approx(base.grad_norm, rel=1e-8)
    assert (run.optimizer.name, run.optimizer.lr) == ("sgd", 1e-3)
    assert "grad" not in (tmp_path / "log" / "config.yaml").read_text()
    truth = study.truth_of(case, tmp_path)
    assert truth.judgements[0].verdict == "repairs"
    written = (tmp_path / "cand-0.npz").stat().st_mtime_ns
    study.generate(case, tmp_path)
    assert (tmp_path / "cand-0.npz").stat().st_mtime_ns == written
