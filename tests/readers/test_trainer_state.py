"""States of the Hugging Face Trainer, and the traces of its filter of NaN losses."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.readers.test_jsonlines import mutate
from traindoctor.errors import UnreadableInputError
from traindoctor.readers.tags import quantity_of
from traindoctor.readers.trainer_state import contains, find_filtered, looks_like_trainer_state, read_trainer_state

if TYPE_CHECKING:
    from traindoctor.readers.log import Log

STATES = Path(__file__).parents[2] / "fixtures" / "formats" / "trainer-state"
FILES = sorted(STATES.glob("*.json"))
NAN = math.nan


def read(data: bytes | dict[str, object]) -> Log:
    [log] = read_trainer_state(data if isinstance(data, bytes) else json.dumps(data).encode(), "trainer_state.json")
    return log


def points(log: Log, tag: str) -> list[tuple[int, float]]:
    series = next(s for s in log.series if s.tag == tag)
    return list(zip(series.step.tolist(), series.value.tolist(), strict=True))


def kinds(log: Log) -> list[str]:
    return [damage.kind for damage in log.damages]


def state(*rows: dict[str, object], **more: object) -> dict[str, object]:
    return {"log_history": list(rows), "max_steps": 100, "logging_steps": 10, **more}


def run(losses: list[float], norms: list[float | None]) -> Log:
    return read(
        state(
            *(
                {"step": 10 * i, "loss": loss, **({} if norm is None else {"grad_norm": norm})}
                for i, (loss, norm) in enumerate(zip(losses, norms, strict=True), 1)
            )
        )
    )


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_values_and_roles_of_real_states(file: Path) -> None:
    data = file.read_bytes()
    assert looks_like_trainer_state(data[:65_536], "any.json")
    log = read(data)
    history = json.loads(data)["log_history"]
    for series in log.series:
        rows = [row for row in history if series.tag in row and "train_runtime" not in row]
        assert series.step.tolist() == [row["step"] for row in rows]
        assert series.value.tobytes() == np.array([row[series.tag] for row in rows], dtype=np.float64).tobytes()
    roles = {s.tag: quantity_of(s.tag) for s in log.series}
    expected = {"loss": "loss", "grad_norm": "grad_norm", "learning_rate": "learning_rate", "epoch": "epoch"}
    assert {tag: roles[tag] for tag in expected} == expected
    assert roles.get("eval_loss", "val_loss") == "val_loss"
    assert (log.format, log.step_unit, log.step_source, log.goes_back) == ("trainer-state", "step", "step", ())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_summary_is_no_value_of_a_series(file: Path) -> None:
    log = read(file.read_bytes())
    assert "train_loss" not in [s.tag for s in log.series]
    summary = log.settings["train_result"]
    assert isinstance(summary, dict)
    assert summary == json.loads(file.read_bytes())["log_history"][-1] or summary["train_loss"] != summary["train_loss"]


def test_settings() -> None:
    log = read((STATES / "sound.json").read_bytes())
    known = {
        "logging_steps": 5,
        "max_steps": 60,
        "num_train_epochs": 2,
        "train_batch_size": 8,
        "save_steps": 500,
        "eval_steps": 500,
    }
    assert known.items() <= log.settings.items()
    assert "global_step" not in log.settings
    assert "stateful_callbacks" not in log.settings


def test_a_trial_has_a_name_and_settings() -> None:
    row = {"step": 1, "loss": 1.0}
    log = read(state(row, trial_name="run-3", trial_params={"learning_rate": 0.1}))
    assert log.name == "run-3"
    assert log.settings["learning_rate"] == 0.1


def test_several_summaries_of_a_resumed_run_are_all_kept() -> None:
    rows = [{"step": 1, "loss": 1.0}, {"step": 1, "train_loss": 1.0, "train_runtime": 1.0}]
    log = read(state(*rows, {"step": 2, "loss": 0.5}, {"step": 2, "train_loss": 0.25, "train_runtime": 1.0}))
    summaries = log.settings["train_result"]
    assert isinstance(summaries, list)
    assert [summary["train_loss"] for summary in summaries] == [1.0, 0.25]
    assert points(log, "loss") == [(1, 1.0), (2, 0.5)]


# -- the filter -------------------------------------------------------------------------------------------------------


def test_the_filter_hides_nan_as_zero_in_a_real_run() -> None:
    """Batch 13 has a NaN label: the weights are NaN from there on; the first window keeps a mean, the others log 0."""
    log = read((STATES / "nan-from-step-13.json").read_bytes())
    values = dict(points(log, "loss"))
    assert [step for step, value in values.items() if value == 0.0] == list(range(20, 61, 5))
    [damage] = log.damages
    assert (damage.kind, damage.step) == ("hidden-nan", 15)
    assert "at 10 rows (steps 15, 20, 25, 30, 35 ... 60)" in damage.detail


def test_the_mean_that_the_filter_logs() -> None:
    """The two NaN of the window each add sum / (1 + steps): what the class says of the source is what it computes."""
    sound, broken = (dict(points(read((STATES / f"{n}.json").read_bytes()), "loss")) for n in ("sound", "nan-from-step-13"))
    assert broken[10] == sound[10]
    total = broken[15] * 5  # two sound steps a and b, then three NaN: (a + b) * (1 + 1/3) * (1 + 1/4) * (1 + 1/5)
    first_two = total / (4 / 3 * 5 / 4 * 6 / 5)
    assert 0 < first_two < sound[15] * 5


def test_without_the_filter_nan_is_logged_and_nothing_is_hidden() -> None:
    log = read((STATES / "nan-unfiltered.json").read_bytes())
    assert np.isnan([value for step, value in points(log, "loss") if step >= 15]).all()
    assert log.damages == ()


@pytest.mark.parametrize("name", ["sound", "qlora-sound", "qlora-lr-too-high"])
def test_sound_logs_have_no_damage(name: str) -> None:
    assert read((STATES / f"{name}.json").read_bytes()).damages == ()


@pytest.mark.parametrize(
    ("losses", "norms", "expected"),
    [
        ([2.0, 1.0, 0.0, 0.0], [1.0, 1.0, NAN, NAN], ["hidden-nan"]),
        ([2.0, 1.0, 0.0, 1.0], [1.0, 1.0, math.inf, 1.0], ["hidden-nan"]),
        ([0.0, 0.0], [NAN, NAN], ["hidden-nan"]),
        ([2.0, 1.0, 0.0, 0.0], [None] * 4, ["hidden-nan"]),
        ([2.0, 1.0, 0.0, 1.0], [None] * 4, ["hidden-nan"]),
        ([2.0, 1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0, 0.0], ["hidden-nan"]),
        ([2.0, 0.0, 0.0, 0.0], [1.0, NAN, 0.0, 0.0], ["hidden-nan", "hidden-nan"]),
        ([2.0, 1.5, 1.0], [1.0, NAN, 1.0], ["doubtful-loss"]),
        ([2.0, 1.5, 1.0], [math.inf, 1.0, 1.0], ["doubtful-loss"]),
        # what is believed
        ([2.0, NAN, NAN], [1.0, NAN, NAN], []),
        ([0.0, 0.0, 0.1], [0.5, 0.4, 0.3], []),
        ([2.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.3, 0.2], []),
        ([0.01, 0.001, 0.0, 0.0], [None] * 4, []),
        ([0.0, 0.0, 0.0], [None] * 3, []),
        ([2.0, 1.0, 0.0, 0.5], [1.0, 1.0, 0.0, 0.5], []),
        ([2.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], []),
        ([2.0, 1.0], [None, None], []),
    ],
)
def test_traces(losses: list[float], norms: list[float | None], expected: list[str]) -> None:
    log = run(losses, norms)
    assert kinds(log) == expected
    np.testing.assert_array_equal([value for _, value in points(log, "loss")], losses)


def test_a_trace_names_its_steps() -> None:
    [damage] = run([2.0, 1.0, 0.0, 0.0], [None] * 4).damages
    assert damage.step == 30
    assert "at 2 rows (steps 30, 40)" in damage.detail


@pytest.mark.parametrize("step", [None, "nan", 1e300, "x"])
def test_a_row_without_a_step_is_no_trace(step: object) -> None:
    rows = [{"step": 1, "loss": 1.0, "grad_norm": 1.0}, {"step": step, "loss": 0.0, "grad_norm": NAN}]
    assert "hidden-nan" not in kinds(read(state(*rows)))


def test_find_filtered_of_nothing() -> None:
    none = np.zeros(0)
    assert [mask.size for mask in find_filtered(none, none, none.astype(bool))] == [0, 0, 0]


# -- damage -----------------------------------------------------------------------------------------------------------


def test_a_cut_at_any_byte_gives_the_rows_before_it() -> None:
    data = (STATES / "sound.json").read_bytes()
    rows = [row for row in json.loads(data)["log_history"] if "train_runtime" not in row]
    begin = data.index(b'"log_history": [') + len(b'"log_history": [')
    text = data.decode()
    ends = [i + 1 for i in range(begin, data.index(b"logging_steps")) if text[i] == "}"]
    for size in range(begin, len(data.rstrip())):
        log = read(data[:size])
        whole = min(sum(end <= size for end in ends), len(rows))
        assert sum(len(s) for s in log.series if s.tag == "epoch") == whole
        assert kinds(log) == ["truncated"]
        assert log.damages[0].detail.startswith("the file is cut off at byte")


def test_a_flipped_byte_costs_the_rest() -> None:
    data = (STATES / "sound.json").read_bytes()
    at = data.index(b'"step": 20')
    log = read(data[:at] + b"?" + data[at + 1 :])
    assert [step for step, _ in points(log, "loss")] == [5, 10, 15]
    [damage] = log.damages
    assert (damage.kind, damage.offset) == ("truncated", at)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "git-lfs"),
        (b"{}", "no log_history"),
        (b"[]", "no log_history"),
        (b'{"log_history": 3}', "no log_history"),
        (b"", "is no JSON"),
        (b'{"a": ' * 300_000, "nested too deeply"),
        (b'{"log_history": [' + b"[" * 300_000, "nested too deeply"),
        (b'{"log_history": [{"step": ' + b"9" * 10_000 + b"}]}", "thousands of digits"),
    ],
)
def test_what_is_no_state_is_an_error(data: bytes, what: str) -> None:
    with pytest.raises(UnreadableInputError, match=what):
        read(data)


def test_the_pointer_of_git_lfs_is_recognised_by_the_name() -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\n"
    assert looks_like_trainer_state(pointer, "trainer_state.json")
    assert not looks_like_trainer_state(pointer, "model.bin")
    assert not looks_like_trainer_state(b'{"history": []}', "trainer_state.json")


def test_a_state_without_a_row() -> None:
    log = read(state())
    assert (log.series, kinds(log)) == ((), ["empty-file"])
    assert log.settings["max_steps"] == 100


def test_entries_that_are_no_rows() -> None:
    content = state({"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0})
    content["log_history"] = [3, *list(content["log_history"]), None]  # type: ignore[call-overload]
    log = read(content)
    assert points(log, "loss") == [(1, 1.0), (2, 2.0)]
    assert kinds(log) == ["unreadable-row"]


# -- several states of one run ----------------------------------------------------------------------------------------


def test_the_state_of_a_later_checkpoint_contains_that_of_an_earlier_one() -> None:
    content = json.loads((STATES / "nan-unfiltered.json").read_bytes())
    later = read(content)
    for n in range(1, len(content["log_history"])):
        earlier = read({**content, "log_history": content["log_history"][:n]})
        assert contains(later, earlier)
        assert contains(earlier, later) == (n >= len(content["log_history"]) - 1)
    other = read((STATES / "sound.json").read_bytes())
    assert not contains(later, other)
    assert not contains(other, later)
    assert not contains(later, read(state()))


def check_mutation(data: st.DataObject) -> None:
    mutated = data.draw(st.sampled_from(FILES)).read_bytes()
    for _ in range(data.draw(st.integers(1, 4))):
        mutated = mutate(mutated, data)
    looks_like_trainer_state(mutated, "f")
    with contextlib.suppress(UnreadableInputError):
        read_trainer_state(mutated, "f")


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.data())
def test_mutations_raise_nothing_else(data: st.DataObject) -> None:
    check_mutation(data)


@pytest.mark.slow
@settings(derandomize=True, max_examples=10_000, deadline=None)
@given(st.data())
def test_many_mutations_raise_nothing_else(data: st.DataObject) -> None:
    check_mutation(data)
