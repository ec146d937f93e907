"""Text logs: each dialect by its fixture, the steps and values as printed, what is no log, damage and hostile input."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from traindoctor.errors import UnreadableInputError
from traindoctor.readers.log import Hints, Log
from traindoctor.readers.tags import choose_primary, with_quantities
from traindoctor.readers.text_dialects import NUMBER, shape_of, with_nans
from traindoctor.readers.textlog import LONGEST_LINE, looks_like_text, read_text

if TYPE_CHECKING:
    from traindoctor.model import Series

FIXTURES = Path(__file__).parents[2] / "fixtures" / "formats" / "text"
LOGS = sorted(FIXTURES.glob("*.log"))
REAL = Path(__file__).parents[2] / "fixtures" / "formats" / "text" / "modded_nanogpt_real.txt"


def read(text: str | bytes, hints: Hints | None = None) -> Log:
    logs = read_text(text.encode() if isinstance(text, str) else text, "train.log", hints or Hints())
    assert len(logs) == 1
    return logs[0]


def fixture(name: str) -> Log:
    return read((FIXTURES / f"{name}.log").read_bytes())


def tags(log: Log) -> dict[str, Series]:
    return {series.tag: series for series in log.series}


def points(log: Log, tag: str) -> list[tuple[int, float]]:
    series = tags(log)[tag]
    return list(zip(series.step.tolist(), series.value.tolist(), strict=True))


def kinds(log: Log) -> set[str]:
    return {damage.kind for damage in log.damages}


# -- dialects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_each_dialect_is_recognised_and_has_a_loss_that_the_rules_find(path: Path) -> None:
    data = path.read_bytes()
    assert looks_like_text(data[:65_536], path.name)
    assert looks_like_text(data[:65_536], "stdout")
    primary = choose_primary(with_quantities(read(data).series))
    assert len(primary["loss"]) >= 4


#: fixture -> step unit, the count, tag of the loss, its number of values, the first two and the last step.
DIALECTS = {
    "megatron": ("step", "iteration", "lm loss", 48, 30, 40, 500),
    "deepspeed": ("step", "global_step", "loss", 20, 10, 20, 200),
    "fairseq": ("step", "num_updates", "loss", 15, 20, 40, 300),
    "torchtitan": ("step", "step", "loss", 21, 1, 10, 200),
    "nanogpt": ("step", "iter", "loss", 31, 0, 10, 300),
    "modded_nanogpt": ("step", "step", "train_loss", 200, 1, 2, 200),
    "llm_c": ("step", "step", "loss", 100, 1, 2, 100),
    "hf_trainer": ("step", "step", "loss", 13, 3, 6, 39),
    "keras": ("step", "step", "loss", 4, 8, 16, 32),
    "tqdm": ("step", "step", "loss", 120, 0, 1, 119),
    "lightning": ("step", "step", "train_loss", 60, 1, 2, 60),
    "pytorch_example": ("step", "step", "Loss", 30, 0, 6_400, 177_600),
    "imagenet_example": ("step", "step", "Loss", 12, 0, 20, 201),
    "mmengine": ("step", "step", "loss", 12, 50, 100, 600),
    "detectron2": ("step", "iter", "total_loss", 20, 19, 39, 399),
    "timm": ("step", "step", "Loss", 9, 0, 50, 302),
    "logging": ("step", "step", "loss", 22, 0, 5, 95),
    "own_prints": ("epoch", "Epoch", "train Loss", 8, 0, 1, 7),
    "own_classic": ("step", "step", "Loss", 18, 100, 200, 1_800),
    "cifar_tutorial": ("step", "step", "loss", 12, 2_000, 4_000, 24_000),
    "espnet": ("step", "batch", "loss", 12, 50, 100, 600),
    "olmo": ("step", "step", "train/CrossEntropyLoss", 30, 1, 2, 30),
    "two_ranks": ("step", "step", "loss", 20, 0, 2, 38),
}


@pytest.mark.parametrize(("name", "expected"), DIALECTS.items(), ids=DIALECTS)
def test_the_steps_of_a_dialect_count_the_whole_run(name: str, expected: tuple[str, str, str, int, int, int, int]) -> None:
    log = fixture(name)
    unit, source, tag, n, first, second, last = expected
    series = tags(log)[tag]
    assert (log.format, log.step_unit, log.step_source) == ("text", unit, source)
    assert (len(series), *series.step[[0, 1, -1]].tolist()) == (n, first, second, last)


def test_every_fixture_has_its_expectation() -> None:
    assert {path.stem for path in LOGS} == set(DIALECTS)


def test_megatron_lines_without_a_loss_and_validation_lines_keep_their_steps() -> None:
    log = fixture("megatron")
    assert tags(log)["loss scale"].step.tolist() == list(range(10, 510, 10))
    assert points(log, "validation/lm loss") == [(250, 3.101238), (500, 2.821643)]
    assert points(log, "number of skipped iterations")[:3] == [(10, 10.0), (20, 10.0), (30, 0.0)]
    assert log.settings["adam_beta2"] == 0.95
    assert log.settings["optimizer"] == "adam"
    assert log.settings["fp16"] is True


def test_the_word_nan_is_a_value_after_a_name_and_a_word_in_a_sentence() -> None:
    lines = "".join(f"iteration {i}/ 9 | lm loss: {'nan' if i > 2 else 0.5} | number of nan iterations: 0 |\n" for i in range(5))
    log = read(lines)
    assert np.isnan(tags(log)["lm loss"].value).tolist() == [False, False, False, True, True]
    assert set(tags(log)) == {"lm loss", "number of nan iterations"}


@pytest.mark.parametrize("word", ["nan", "NaN", "NAN", "-inf", "inf", "Infinity"])
@pytest.mark.parametrize("line", ["loss: {} lr: 0.1", "loss={}, lr=0.1", "loss {} | lr 0.1", "{{'loss': {}, 'lr': 0.1}}"])
def test_a_value_that_is_not_finite_has_its_place_in_every_form(line: str, word: str) -> None:
    log = read("".join(f"step {i} " + line.format(word if i == 2 else 0.25) + "\n" for i in range(4)))
    assert [str(v) for v in tags(log)["loss"].value] == ["0.25", "0.25", str(float(word)), "0.25"]
    assert tags(log)["lr"].value.tolist() == [0.1] * 4


def test_deepspeed_overflows_are_counted_at_the_last_step_seen() -> None:
    log = fixture("deepspeed")
    assert points(log, "overflow") == [(10, 2.0), (50, 1.0)]
    assert points(log, "loss scale") == [(10, 32768.0), (10, 16384.0), (50, 8192.0)]
    assert {"lr", "lr[1]", "mom", "mom[1]"} <= set(tags(log))
    assert tags(log)["lr"].wall_time[0] == 1714564805.37


def test_fairseq_summaries_of_an_epoch_stand_apart() -> None:
    log = fixture("fairseq")
    assert tags(log)["train/loss"].step.tolist() == tags(log)["valid/loss"].step.tolist() == [100, 200, 300]
    assert "duplicate-steps" not in kinds(log)
    assert log.settings["lr"] == [0.0005]
    assert log.settings["optimizer"] == "adam"


def test_thousands_and_percentages_and_colours_of_torchtitan() -> None:
    log = fixture("torchtitan")
    assert points(log, "tps")[:2] == [(1, 3021.0), (10, 3421.0)]
    assert tags(log)["memory (%)"].value[0] == 42.18
    assert tags(log)["memory"].value[0] == 40.1


def test_code_before_the_metrics_is_no_metric_and_no_setting() -> None:
    log = fixture("modded_nanogpt")
    assert set(tags(log)) == {"train_loss", "val_loss", "train_time", "step_avg"}
    assert tags(log)["val_loss"].step.tolist() == [0, 50, 100, 150, 200]
    assert log.settings == {}


def test_a_real_log_behind_its_script() -> None:
    data = REAL.read_bytes()
    script = (FIXTURES / "make.py").read_bytes()[:20_000]
    for text in (data, script + data):
        assert looks_like_text(text[:65_536], "4bcd20c5.txt")
        log = read(text)
        assert points(log, "val_loss")[:2] == [(0, 10.8258), (125, 4.4264)]
        assert points(log, "val_loss")[-1] == (1480, 3.2776)
        steps = tags(log)["train_time"].step
        assert (steps[0], steps[-1]) == (0, 1480)
        assert set(tags(log)) == {"val_loss", "train_time", "step_avg"}


def test_the_bar_of_hugging_face_gives_the_steps_of_its_dicts() -> None:
    log = fixture("hf_trainer")
    assert tags(log)["loss"].step.tolist() == list(range(3, 40, 3))
    assert tags(log)["eval_loss"].step.tolist() == [8, 16, 24, 32, 40]
    assert points(log, "train_loss") == [(40, 1.924)]
    epochs = tags(log)["epoch"]
    assert np.allclose(epochs.value, epochs.step / 8, atol=0.01)


def test_dicts_without_a_bar_keep_their_epochs() -> None:
    lines = "".join(f"{{'loss': {1 / i}, 'learning_rate': 5e-05, 'epoch': {i / 4}}}\n" for i in range(1, 9))
    log = read(lines)
    assert log.step_unit == "row"
    assert tags(log)["loss"].value.tolist() == [1 / i for i in range(1, 9)]
    assert "fractional-steps" in kinds(log)


def test_only_the_last_state_of_a_keras_line_counts() -> None:
    log = fixture("keras")
    assert {len(series) for series in log.series} == {4}
    text = (FIXTURES / "keras.log").read_bytes()
    assert text.count(b"loss: ") > 8
    assert tags(log)["val_loss"].step.tolist() == [8, 16, 24, 32]


def test_every_state_of_a_bar_counts_once() -> None:
    log = fixture("tqdm")
    assert tags(log)["loss"].step.tolist() == list(range(120))
    assert kinds(log) == {"steps-of-epochs"}
    assert tags(log)["loss"].value[[0, 1, 2]].tolist() == [10.7, 8.76, 7.83]


def test_a_bar_that_shows_the_last_validation_loss_all_the_time_logs_it_once() -> None:
    log = fixture("lightning")
    assert tags(log)["val_loss"].step.tolist() == [20, 40, 60]
    assert "v_num" not in tags(log)


def test_a_bar_without_epochs_starts_again_in_each() -> None:
    bars = "".join(f"{10 * i}%|###  | {i}/10 [00:01<00:02, 3.1it/s, loss={e + i / 10}]\r" for e in range(3) for i in range(1, 11))
    log = read(bars + "\n")
    assert tags(log)["loss"].step.tolist() == list(range(1, 31))


def test_value_and_running_mean_are_two_tags() -> None:
    log = fixture("timm")
    assert points(log, "Loss")[1] == (50, 3.97)
    assert points(log, "Loss (avg)")[1] == (50, 4.07)
    assert tags(log)["test/Loss"].step.tolist() == [100, 100, 201, 201, 302, 302]
    assert "duplicate-steps" in kinds(log)


def test_a_header_of_the_epoch_counts_for_the_lines_below() -> None:
    log = fixture("own_prints")
    assert points(log, "val/Acc")[:2] == [(0, 0.6), (1, 0.62)]
    assert points(log, "Acc")[:2] == [(0, 0.6), (1, 0.63)]


def test_a_line_that_names_the_epoch_alone_stands_at_the_last_step_seen() -> None:
    text = "".join(f"step {i} loss {9 - i}\n" + (f"epoch {i // 4}: val loss {8 - i}\n" if i % 4 == 3 else "") for i in range(8))
    assert points(read(text), "val loss") == [(3, 5.0), (7, 1.0)]


def test_ranks_are_kept_apart() -> None:
    log = fixture("two_ranks")
    assert points(log, "loss (rank 1)")[:2] == [(0, 10.71), (2, 7.837)]
    text = "".join(f"[rank{r}]: step: {i}  loss: {i + r / 10}\n" for i in range(4) for r in (1, 0, 2))
    log = read(text)
    assert set(tags(log)) == {"loss", "loss (rank 1)", "loss (rank 2)"}
    assert points(log, "loss") == [(i, float(i)) for i in range(4)]
    assert "duplicate-steps" not in kinds(log)


def test_a_single_rank_needs_no_name() -> None:
    assert set(tags(read("".join(f"[lrdn3:7]: iteration {i}/ 9 | lm loss: 2.5 |\n" for i in range(4))))) == {"lm loss"}


def test_lines_below_a_count_belong_to_it() -> None:
    log = fixture("olmo")
    assert set(tags(log)) == {
        "train/CrossEntropyLoss", "train/Perplexity", "optim/total_grad_norm", "optim/learning_rate_group0",
    }  # fmt: skip
    assert tags(log)["optim/total_grad_norm"].step.tolist() == [10, 20, 30]


def test_counts_named_behind() -> None:
    assert set(tags(fixture("espnet"))) == {"epoch", "iter_time", "loss", "acc", "lr_0", "train_time"}


def test_a_resume_goes_back() -> None:
    log = fixture("logging")
    assert log.goes_back == (50,)
    assert {"steps-go-back", "duplicate-steps"} <= kinds(log)
    assert math.isinf(tags(log)["grad_norm"].value[6])
    assert log.begun == 1714564800.123


@pytest.mark.parametrize("name", ["megatron", "nanogpt", "fairseq", "own_classic", "pytorch_example", "tqdm", "hf_trainer"])
def test_appended_runs_are_several_logs(name: str) -> None:
    data = (FIXTURES / f"{name}.log").read_bytes()
    alone = tags(read(data))
    logs = read_text(data * 2, "train.log")
    assert len(logs) == 2
    for log in logs:
        assert {tag: s.value.tobytes() for tag, s in tags(log).items()} == {tag: s.value.tobytes() for tag, s in alone.items()}
        assert {tag: s.step.tolist() for tag, s in tags(log).items()} == {tag: s.step.tolist() for tag, s in alone.items()}


# -- numbers, names, times --------------------------------------------------------------------------------------------


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.floats(), min_size=3, max_size=12), st.sampled_from(["{!r}", "{:.4f}", "{:.3e}", "{:G}", "{:+.2f}"]))
def test_values_are_what_float_makes_of_the_text(values: list[float], form: str) -> None:
    printed = [form.format(value) for value in values]
    log = read("".join(f"step: {i}, loss: {text}, lr: 0.5\n" for i, text in enumerate(printed)))
    assert np.array_equal(tags(log)["loss"].value, [float(text) for text in printed], equal_nan=True)
    assert tags(log)["loss"].step.tolist() == list(range(len(values)))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("step {} top1 0.5 top-5: 0.7 Acc@1=3 H100 x512", {"top1": 0.5, "top-5": 0.7, "Acc@1": 3.0}),
        ("step {} | tps: 3,021 | n: 1,234,567.5", {"tps": 3021.0, "n": 1234567.5}),
        ("step={} loss=tensor(0.5432, device='cuda:0', grad_fn=<NllLossBackward0>)", {"loss": 0.5432}),
        ("step {} torch 2.6.0 loss 0.5", {"loss": 0.5}),
        ("2024-05-01 12:00:00,123 INFO train.py:45 step={} loss=0.5 lr=1e-3", {"loss": 0.5, "lr": 1e-3}),
        ("2024-05-01T12:00:00.5Z [INFO] loss=0.5 step={}", {"loss": 0.5}),
        ("INFO:root:step {} loss=0.5", {"loss": 0.5}),
        ("I0501 12:00:00.123456 4242 train.py:45] step {} loss 0.5", {"loss": 0.5}),
        ("[D] step {}: loss -0.5, eta 0:10:11, took 3.5 s", {"loss": -0.5}),
        ("Validation loss at step {}: 3.25", {"Validation loss": 3.25}),
        ("step {} layer_-1_loss: 2.5 mem 3.5/80GB", {"layer_-1_loss": 2.5, "mem": 3.5}),
        ("[12:00:01] Step {}/100 | train/loss: .5 | lr: 1.e-3", {"train/loss": 0.5, "lr": 1e-3}),
        ('{{"step": {}, "loss": "0.5"}} trailing', {"loss": 0.5}),
    ],
)
def test_a_number_is_named_by_the_words_before_it(line: str, expected: dict[str, float]) -> None:
    log = read("".join(line.format(i) + "\n" for i in range(5)))
    assert {tag: series.value[0] for tag, series in tags(log).items()} == expected
    assert all(series.step.tolist() == list(range(5)) for series in log.series)


def test_a_unit_that_changes_is_brought_to_one() -> None:
    log = read("".join(f"step {i} loss 1.5 tps {text} mem 3M\n" for i, text in enumerate(["900", "950", "1.2K", "1.5K"])))
    assert tags(log)["tps"].value.tolist() == [900.0, 950.0, 1200.0, 1500.0]
    assert tags(log)["mem"].value.tolist() == [3.0] * 4


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ("[2024-05-01 12:00:00]", 0.0),
        ("2024-05-01 12:00:00,250 -", 0.25),
        ("2024-05-01T12:00:00.250+00:00", 0.25),
        ("2024/05/01 12:00:00 |", 0.0),
        ("05/01/2024 12:00:00 - INFO -", 0.0),
        ("05/01 12:00:00", math.nan),
        ("2024-13-41 12:00:00", math.nan),
    ],
)
def test_wall_times_are_read_as_utc(stamp: str, seconds: float) -> None:
    log = read("".join(f"{stamp} step {i} loss 0.5\n" for i in range(3)))
    assert np.array_equal(tags(log)["loss"].wall_time, [1714564800.0 + seconds] * 3, equal_nan=True)


def test_a_shape_is_found_once_for_lines_that_differ_in_numbers() -> None:
    first, second = "step   1 | loss 2.5 |", "step 100 | loss nan |"
    assert NUMBER.split(with_nans(second))[::2] == ["step ", " | loss ", " |"]
    assert shape_of(NUMBER.split(first)[::2], ["1", "2.5"]).tags == (("loss", 1, ""),)


# -- settings ---------------------------------------------------------------------------------------------------------

METRICS = "".join(f"step {i} loss {5 - i / 100:.3f}\n" for i in range(20))


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        ("lr: 0.001\nbatch_size: 32\nnesterov: true\n", {"lr": 0.001, "batch_size": 32, "nesterov": True}),
        ("lr: 0.001\nbatch_size: 32\n", {}),
        ("import torch\nlr = 0.001\nb = 2\nc = 3\n", {}),
        ("lr = 0.1\nb = 2\nc = 3\n\nlr = 0.2\nd = 2\ne = 3\n", {"b": 2, "c": 3, "d": 2, "e": 3}),
        ('Config:\n{\n  "lr": 0.1,\n  "betas": [0.9, 0.99]\n}\n', {"lr": 0.1, "betas": [0.9, 0.99]}),
        ("args: Namespace(lr=0.1, betas=(0.9, 0.99), f=<function x at 0x1>)\n", {"lr": 0.1, "betas": (0.9, 0.99), "f": None}),
        ("x | {'_name': None, 'optimization': {'lr': [0.0005]}}\n", {"_name": None, "optimization": {"lr": [0.0005]}}),
        ("  lr ........................ 0.1\n", {"lr": 0.1}),
        ("{" * 100_000 + "\n" + "Namespace(" + "(" * 100_000 + ")\n", {}),
        ("Namespace(a=__import__('os').system('true'))\n", {"a": "__import__('os').system('true')"}),
    ],
)
def test_settings_before_the_metrics(head: str, expected: dict[str, object]) -> None:
    assert read(head + METRICS).settings == expected


# -- what the user says -----------------------------------------------------------------------------------------------


def test_the_user_names_the_count() -> None:
    text = "".join(f"epoch {i // 4} step {i} sample {64 * i} loss {9 - i}\n" for i in range(8))
    assert tags(read(text))["loss"].step.tolist() == list(range(8))
    assert tags(read(text, Hints("sample")))["loss"].step.tolist() == [64 * i for i in range(8)]
    assert tags(read(text, Hints("epoch")))["loss"].step.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert tags(read(text, Hints("row")))["loss"].step.tolist() == list(range(8))
    with pytest.raises(UnreadableInputError, match="nothing"):
        read(text, Hints("nothing"))


# -- what is no log ---------------------------------------------------------------------------------------------------

NO_LOG = {
    "rows.csv": "step,loss\n" + "".join(f"{i},{9 - i}.5\n" for i in range(9)),
    "rows.txt": "step\tloss\n" + "".join(f"{i}\t{9 - i}.5\n" for i in range(9)),
    "rows.jsonl": "".join(f'{{"step": {i}, "loss": {9 - i}.5}}\n' for i in range(9)),
    "rows.log": "".join(f'{{"step": {i}, "loss": {9 - i}.5}}\n' for i in range(9)),
    "config.yaml": "train:\n  lr: 0.001\n  epochs: 10\n  batch_size: 32\nloss: mse\nsteps: 1000\n",
    "config.txt": "lr: 0.001\nepochs: 10\nbatch_size: 32\nsteps: 1000\nloss_scale: 128\n",
    "requirements.txt": "torch==2.1.0\nnumpy>=1.26\nlightning==2.2\ntqdm\n" * 3,
    "LICENSE": "Copyright 2024 The Authors\n\n1. Definitions.\n\n2. Grant of Copyright License.\n\n3. Loss of profits, 30 days\n"
    * 5,
    "README.md": "# Results\n```\n" + METRICS + "```\n",
    "train.py": "for step in range(100):\n    loss = 0.5\n    print(f'step {step} loss {loss}')\n" * 10,
    "train.txt": "for step in range(100):\n    loss = 0.5\n    lr = 1e-3\n    if step == 10:\n        x = 3\n" * 10,
    "page.html": "<html><body>" + METRICS,
    "notes.txt": "In 2023 we trained for 3 epochs.\nIn 2024 the loss was 0.5 after 10 epochs.\nTable 3 shows 5 runs.\n",
    "bin.log": "\x00\x03\x04\x05" * 500,
    "empty.log": "",
}


@pytest.mark.parametrize("name", NO_LOG)
def test_look_alikes_are_no_logs(name: str) -> None:
    assert not looks_like_text(NO_LOG[name].encode(), name)


def test_no_document_and_no_source_of_this_project_looks_like_a_log() -> None:
    top = Path(__file__).parents[2]
    files = [
        p for p in top.rglob("*") if p.suffix in (".md", ".txt", ".py", ".yaml", ".yml", ".toml", ".json", ".csv") and p.is_file()
    ]
    files = [p for p in files if not {".git", ".venv", "text"} & set(p.parts)]
    assert len(files) > 100
    assert [p.name for p in files if looks_like_text(p.read_bytes()[:65_536], p.name)] == []


def test_a_long_script_may_be_followed_by_metrics() -> None:
    head = (b"import torch\nloss = criterion(x)\noptimizer.step()\n" * 2_000)[:65_536]
    assert looks_like_text(head, "run.log")
    assert looks_like_text(head, "4bcd20c5.txt")
    assert not looks_like_text(head, "train.py")
    assert not looks_like_text(head[:1_000], "run.log")
    assert not looks_like_text((b"Shall I compare thee to a summer's loss\n" * 2_000)[:65_536], "corpus.txt")
    with pytest.raises(UnreadableInputError) as caught:
        read(head)
    assert "no line of metrics" in caught.value.what
    assert caught.value.ways_out


def test_utf16_and_windows_line_ends() -> None:
    expected = points(read(METRICS), "loss")
    assert points(read(METRICS.encode("utf-16")), "loss") == expected
    assert points(read(METRICS.replace("\n", "\r\n")), "loss") == expected
    assert points(read(b"\xef\xbb\xbf" + METRICS.encode()), "loss") == expected
    assert looks_like_text(METRICS.encode("utf-16"), "run.log")


def test_an_empty_file_is_a_damage() -> None:
    assert kinds(read(b"\0\0\n \r\n")) == {"empty-file"}


# -- damage -----------------------------------------------------------------------------------------------------------


def test_the_last_number_of_a_file_without_an_end_is_left_out() -> None:
    log = read(METRICS + "step 20 loss 4.7")
    assert len(tags(log)["loss"]) == 20
    assert len(tags(read(METRICS + "step 20 loss 4.7 lr"))["loss"]) == 20
    assert points(read(METRICS.replace("\n", " |\n") + "step 20 loss 4.7 |"), "loss")[-1] == (20, 4.7)
    assert [damage.detail for damage in log.damages] == ["line 21, the last one, has no end: what may be cut off is left out"]


@settings(derandomize=True, max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_file_that_is_cut_gives_a_prefix(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["megatron", "nanogpt", "deepspeed", "fairseq", "torchtitan", "llm_c", "modded_nanogpt"]))
    whole = (FIXTURES / f"{name}.log").read_bytes()
    cut = data.draw(st.integers(len(whole) // 2, len(whole) - 1))
    before, after = tags(read(whole)), tags(read(whole[:cut]))
    for tag, series in after.items():
        n = len(series)
        full = before[tag]
        assert np.array_equal(series.value, full.value[:n], equal_nan=True), tag
        assert series.step.tolist() == full.step[:n].tolist(), tag


def mutate(data: st.DataObject, whole: bytes) -> bytes:
    for _ in range(data.draw(st.integers(1, 4))):
        at, length = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, 400))
        kind = data.draw(st.sampled_from(["cut", "flip", "insert", "repeat", "drop"]))
        if kind == "cut":
            whole = whole[:at]
        elif kind == "flip":
            whole = whole[:at] + bytes(b ^ data.draw(st.integers(1, 255)) for b in whole[at : at + 3]) + whole[at + 3 :]
        elif kind == "insert":
            whole = whole[:at] + data.draw(st.binary(max_size=30)) + whole[at:]
        elif kind == "repeat":
            whole = whole[:at] + whole[max(at - length, 0) : at] + whole[at:]
        else:
            whole = whole[:at] + whole[at + length :]
    return whole


def check_survives(data: st.DataObject) -> None:
    whole = mutate(data, data.draw(st.sampled_from(LOGS)).read_bytes())
    looks_like_text(whole[:65_536], "run.log")
    try:
        logs = read_text(whole, "run.log")
    except UnreadableInputError:
        return
    for log in logs:
        for series in log.series:
            assert series.step.dtype == np.int64
            assert series.step.shape == series.value.shape == series.wall_time.shape


@settings(derandomize=True, max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_damaged_logs_raise_nothing_else(data: st.DataObject) -> None:
    check_survives(data)


@pytest.mark.slow
@settings(derandomize=True, max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_ten_thousand_damaged_logs_raise_nothing_else(data: st.DataObject) -> None:
    check_survives(data)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.text(max_size=200))
def test_noise_raises_nothing_else(noise: bytes, text: str) -> None:
    for each in (noise, text.encode("utf-8", "surrogatepass"), noise + METRICS.encode() + noise):
        looks_like_text(each, "run.log")
        try:
            read_text(each, "run.log")
        except UnreadableInputError:
            continue


# -- bounds -----------------------------------------------------------------------------------------------------------

HOSTILE = [
    b"1", b" ", b".", b"-", b"1,", b"a=1 ", b"=", b"(", b"nan ", b"1:", b"10:10:", b"%|", b"[=", b"T0", b"\x1b[", b"\x1b]", b"\r",
    b"1\r", b"1it/s\r", b"1e", b"loss ", b"loss 1 ", b'{"a":', b"{'a':", b"Namespace(", b"a .... 1 ", b"x\b", b"overflow ",
    b"1\n",
]  # fmt: skip


@pytest.mark.parametrize("piece", HOSTILE, ids=repr)
def test_a_hostile_line_costs_little(piece: bytes) -> None:
    data = piece * (300_000 // len(piece)) + b"\n" + METRICS.encode()
    begin = time.process_time()
    looks_like_text(data[:65_536], "run.log")
    try:
        log = read(data)
    except UnreadableInputError:
        log = read(METRICS)
    assert time.process_time() - begin < 2.0
    assert tags(log)["loss"].step[-1] == 19


def test_what_a_long_line_holds_beyond_its_bound_is_named() -> None:
    log = read(METRICS + "x" * LONGEST_LINE + " step 5 loss 3.5\n" + "1 " * 2_000 + "\n")
    assert next(d.detail for d in log.damages if d.kind == "long-line").startswith("line 21 is longer than")
    assert points(log, "loss") == points(read(METRICS), "loss")


def test_a_line_longer_than_a_block_ends_where_it_ends() -> None:
    log = read(METRICS.encode() + b"x" * 9_000_000 + b"\nstep 20 loss 1.5\n")
    assert points(log, "loss")[-1] == (20, 1.5)


def test_too_many_shapes_and_tags_are_named() -> None:
    words = ["".join(chr(97 + (i // 17**k) % 17) for k in range(4)) for i in range(25_000)]
    log = read("".join(f"say {word}: {i} to me\n" for i, word in enumerate(words)) + METRICS)
    assert "too-many-shapes" in kinds(log)
    assert points(log, "loss") == points(read(METRICS), "loss")
    log = read("".join(f"step {i % 9} k{word}=1\n" for i, word in enumerate(words[:1_500]) for _ in range(3)) + METRICS)
    assert "loss" in tags(log) or len(log.series) <= 1_001


def test_a_large_log_reads_fast() -> None:
    text = (FIXTURES / "megatron.log").read_bytes()
    data = text * (5_000_000 // len(text))
    begin = time.process_time()
    logs = read_text(data, "big.log")
    assert time.process_time() - begin < 5.0
    assert sum(len(tags(log)["lm loss"]) for log in logs) == 48 * (5_000_000 // len(text))


def test_names_are_short_and_hold_no_control_characters() -> None:
    log = read("".join(f"step {i} \x1b[31mloss\x1b[0m 0.5 {'long' * 40}: 3\n" for i in range(4)))
    assert set(tags(log)) == {"loss"}
    assert not re.search(r"[\x00-\x1f]", "".join(tags(log)))


def test_the_loss_of_a_test_is_none_of_training() -> None:
    lines = [f"Epoch {i // 3} iter {i} || Loss:{4 - i / 10}" for i in range(1, 13)]
    lines.insert(6, "test epoch:1 || Loss:5.0")
    lines.append("test epoch:3 || Loss:4.9")
    (log,) = read_text("\n".join(lines).encode() + b"\n", "f")
    values = {s.tag: s.value.tolist() for s in log.series}
    assert values["Loss"] == [4 - i / 10 for i in range(1, 13)]
    assert values["test/Loss"] == [5.0, 4.9]


def test_a_key_that_a_line_does_not_print_is_no_nan() -> None:
    lines = [f"epoch: {i} loss: {1 / i:.4f} auc: 0.{i}" for i in range(1, 10)] + [f"epoch: {i} auc: 0.{i}" for i in range(1, 10)]
    logs = read_text("\n".join(lines).encode() + b"\n", "f")
    assert not [d for log in logs for d in log.damages if d.kind == "blank-nan"]
    assert all(np.isfinite(s.value).all() for log in logs for s in log.series)


def test_lines_of_another_program_are_no_log() -> None:
    lines = "".join(f"[{i}/30] Importing issues: exit status {i % 3}\n" for i in range(30)).encode()
    assert not looks_like_text(lines, "import-full.log")


def test_many_lines_an_epoch_are_counted_by_row() -> None:
    lines = "".join(f"Epoch {i // 20} - Batch loss: {1 / (i + 1):.5f}\n" for i in range(100)).encode()
    (log,) = read_text(lines, "f")
    loss = next(s for s in log.series if "loss" in s.tag.lower())
    assert (log.step_unit, loss.step.tolist()) == ("row", list(range(100)))
