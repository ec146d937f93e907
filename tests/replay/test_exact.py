"""The pieces of the exact replay: commands with placeholders, plans, patches, and how two losses are compared."""

import subprocess
import sys

import numpy as np
import pytest

from traindoctor.errors import TraindoctorError
from traindoctor.model import OptimizerSpec, Run, Series, Setting
from traindoctor.replay.exact import (
    BOUND,
    Limits,
    Outcome,
    Plan,
    Workplace,
    as_text,
    command_of,
    plan_of,
    retrain,
    run_commands,
)
from traindoctor.signals.measurements import Measurements

LR, SEED = Setting(0.1, "config.yaml:1"), Setting(3, "config.yaml:2")


def run_with(value, step=None, tag="loss"):
    value = np.asarray(value, dtype=float)
    step = np.arange(value.size) if step is None else np.asarray(step)
    loss = Series("loss", tag, step, value, np.full(value.size, np.nan))
    spec = OptimizerSpec("adam", lr=0.1, beta1=0.9, beta2=0.99, eps=1e-8)
    return Run("a", "a", ".", (loss,), {"loss": loss}, {"optimizer.lr": LR, "seed": SEED}, spec, config_files=("config.yaml",))


def measured():
    return Measurements(run_with(np.exp(-np.arange(40) / 9.0)))


# -- commands ---------------------------------------------------------------------------------------------------------


def test_a_command_is_split_first_and_filled_then():
    command = command_of("train '--out={logdir}' \"a b\" {set:optimizer.lr} {{word}} {not-a-name} '{\"a\": {}}'")
    assert command.placeholders == {"logdir", "set:optimizer.lr"}
    assert command.flags == {"optimizer.lr"}
    filled = command.filled({"logdir": "/tmp/x y; rm", "set:optimizer.lr": "0.1"})
    assert filled == ["train", "--out=/tmp/x y; rm", "a b", "0.1", "{word}", "{not-a-name}", '{"a": {}}']


def test_a_value_is_not_filled_again():
    assert command_of("{logdir} {python}").filled({"logdir": "{python}", "python": "p"}) == ["{python}", "p"]


@pytest.mark.parametrize(("value", "text"), [(1e-8, "1e-08"), (True, "true"), ((0.9, 0.99), "0.9,0.99"), (64, "64"), ("a", "a")])
def test_settings_as_words(value, text):
    assert as_text(value) == text


def patched(change):
    return {"config.yaml": repr(sorted(change)).encode()}


@pytest.mark.parametrize(
    ("command", "change", "values", "file"),
    [
        ("t {logdir} {config}", {"optimizer.lr": 1.0}, {}, "['optimizer.lr']"),
        ("t {logdir} {config} {set:optimizer.lr}", {"optimizer.lr": 1.0}, {"set:optimizer.lr": "1.0"}, "[]"),
        ("t {logdir} {config} {set:optimizer.lr}", {"optimizer.eps": 1.0}, {"set:optimizer.lr": "0.1"}, "['optimizer.eps']"),
        ("t {logdir} {set:optimizer.lr} {seed}", {}, {"set:optimizer.lr": "0.1", "seed": "3"}, None),
        ("t {logdir} {seed}", {"seed": 5}, {"seed": "5"}, None),
        ("t {logdir} {set:optimizer.beta2}", {"optimizer.betas": (0.9, 0.9)}, None, None),
        (
            "t {logdir} {set:optimizer.beta1} {set:optimizer.beta2}",
            {"optimizer.betas": (0.9, 0.5)},
            {"set:optimizer.beta1": "0.9", "set:optimizer.beta2": "0.5"},
            None,
        ),
        ("t {logdir} {set:optimizer.betas}", {"optimizer.beta2": 0.5}, {"set:optimizer.betas": "0.9,0.5"}, None),
    ],
)
def test_how_a_change_reaches_the_command(command, change, values, file):
    plan = plan_of(change, measured(), command_of(command), patched)
    if values is None:  # beta1 is given, though as recorded, and reaches the command in no way
        assert "optimizer.beta1 reaches the command neither" in plan.refusal
        return
    assert plan.refusal == ""
    assert plan.values == values
    assert plan.files == ({} if file is None else {"config.yaml": file.encode()})


def test_why_a_change_cannot_reach_it():
    def refusal(command, change, patch=patched):
        return plan_of(change, measured(), command_of(command), patch).refusal

    assert "neither by {config} nor by {set:optimizer.lr}" in refusal("t {logdir}", {"optimizer.lr": 1.0})
    assert "cannot be written into config.yaml" in refusal("t {logdir} {config}", {"optimizer.lr": 1.0}, lambda _: None)
    assert "does not say its batch_size" in refusal("t {logdir} {set:batch_size}", {})


# -- running ----------------------------------------------------------------------------------------------------------


def test_jobs_run_at_once_and_total_bounds_all(tmp_path):
    command = command_of("{python} -c 'import time; time.sleep(30)' {logdir}")
    plans = [Plan(str(i), {}) for i in range(4)]
    told = []
    place = Workplace(tmp_path, tell=told.append)
    outcomes = run_commands(command, plans, place, Limits(timeout_s=60.0, total_s=0.6, jobs=2))
    assert [o.ended for o in outcomes] == ["timeout", "timeout", "not started", "not started"]
    assert "used up" in outcomes[3].words
    assert any(line.startswith("running 0 ") and ", 1 " in line for line in told)


def test_what_a_command_leaves_running_ends_with_it(tmp_path):
    child = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); print(p.pid)"
    (outcome,) = run_commands(command_of(f'{{python}} -c "{child}" {{logdir}}'), [Plan("a", {})], Workplace(tmp_path), Limits())
    pid = int((outcome.folder / "stdout.txt").read_text())
    assert outcome.ended == "done"
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout.strip()
    assert state in ("", "Z", "Z+", "Zs")


def test_an_outcome_in_words(tmp_path):
    assert Outcome("done", tmp_path).words == ""
    assert Outcome("failed", tmp_path, 3, said=("a", "b")).words == "the command failed with exit code 3: b"
    assert Outcome("failed", tmp_path, -9).words == "the command failed with signal SIGKILL"


# -- comparing --------------------------------------------------------------------------------------------------------


def replayed(tmp_path, recorded, *again, tag="loss", names=("a", "b", "c", "d")):
    """Return the replay of a command that does nothing, with the logs given instead: as recorded, then each change."""
    logs = iter(again)
    plans = [Plan("as recorded", {}), *(Plan(name, {"optimizer.lr": 1.0}) for name in names[: len(again) - 1])]
    command = command_of(f"{sys.executable} -c pass {{logdir}}")
    m = Measurements(run_with(recorded))

    def read(_):
        made = next(logs)
        return [made] if isinstance(made, Run) else [run_with(made, tag=tag)]

    return retrain(m, command, plans, Workplace(tmp_path), read, Limits())


FALLING = np.exp(-np.arange(60) / 9.0)
FAILING = np.where(np.arange(60) < 30, FALLING, 5.0)


def test_the_same_to_the_last_bit_with_nan(tmp_path):
    recorded = FAILING.copy()
    recorded[50:] = np.nan
    replay = replayed(tmp_path, recorded, recorded, FALLING)
    assert replay.reproduces
    assert replay.error == 0.0
    assert not replay.residual.value.any()
    assert [t.verdict for t in replay.trials] == ["no effect", "repairs"]


def test_by_how_much_it_differs(tmp_path):
    replay = replayed(tmp_path, FAILING, FAILING * 2.0, FALLING)
    assert replay.error == pytest.approx(np.log10(2.0))
    assert replay.error < BOUND
    assert replay.reproduces
    far = replayed(tmp_path / "far", FAILING, FAILING * 10.0, FALLING)
    assert not far.reproduces
    assert "1.0 decades" in far.refusal
    assert far.trials[1].verdict == "repairs"


def test_a_nan_where_there_was_none_is_infinitely_far(tmp_path):
    replay = replayed(tmp_path, FAILING, np.full(60, np.nan))
    assert replay.error == np.inf
    assert not replay.reproduces


def test_a_signed_loss_has_a_distance_too(tmp_path):
    replay = replayed(tmp_path, FALLING - 0.5, FALLING - 0.5 + 1e-3)
    assert 0.0 < replay.error < 0.01


def test_other_steps_are_another_run(tmp_path):
    replay = replayed(tmp_path, FALLING, run_with(FALLING, np.arange(1000, 1060)))
    assert not replay.reproduces
    assert "0 logged steps in common" in replay.refusal


def test_the_same_loss_is_no_trial(tmp_path):
    trial = replayed(tmp_path, FAILING, FAILING, FAILING).trials[1]
    assert trial.verdict == "not tried"
    assert "does not read this" in trial.note


def test_a_change_that_logs_less_says_so(tmp_path):
    trial = replayed(tmp_path, FAILING, FAILING, FALLING[:40]).trials[1]
    assert trial.verdict != "not tried"
    assert "ends at step 39" in trial.note
    few = replayed(tmp_path / "few", FAILING, FAILING, FALLING[:2]).trials[1]
    assert (few.verdict, few.note) == ("not tried", "logged other steps than the recorded run")


def test_steps_beyond_the_recorded_ones_do_not_count(tmp_path):
    longer = np.concatenate([FALLING, np.full(60, 9.0)])
    trial = replayed(tmp_path, FAILING, FAILING, longer).trials[1]
    assert trial.verdict == "repairs"
    assert trial.loss.step[-1] == 59


def test_another_tag_is_an_error_as_recorded(tmp_path):
    with pytest.raises(TraindoctorError, match="logged no 'loss'; its tags are train/loss"):
        replayed(tmp_path, FAILING, FAILING, tag="train/loss")
