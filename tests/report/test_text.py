import re
from dataclasses import replace

import numpy as np
import pytest

from tests.report import sample
from traindoctor.model import NotChecked, Segment
from traindoctor.report.text import SCREEN, render_text

RUNS = [sample.failed_run, sample.healthy_run, sample.undecided_run, sample.hostile_run]
SGR = re.compile(r"\x1b\[[0-9;]*m")


def test_a_failed_run_fits_a_screen_and_says_what_matters():
    text = render_text(sample.report_of(sample.failed_run()))
    lines = text.splitlines()
    assert len(lines) <= SCREEN
    assert max(map(len, lines)) <= 88
    assert lines[0].startswith("perceptron-overtrained  FAILED  6,000 steps, every step logged")
    for words in (
        "0.93 very likely  TD101",
        "first fix      Raise Adam's eps from 1e-8 to 0.1",
        "+  eps: 0.1   in config.yaml",
        "Without the fix it reaches",
        "repairs eps 0.1, eps 1.0, amsgrad true; worse clip_norm 1.0; no effect",
        "TD201 learning rate too high 0.04",
        "against        0.39",
        "loss ← train/loss",
        "no role: gpu_temp",
        "integrity      sound",
        "not checked    no checkpoint was given: TD105",
    ):
        assert words in text, words


def test_a_healthy_run_says_what_was_checked():
    text = render_text(sample.report_of(sample.healthy_run()))
    assert "HEALTHY" in text
    assert "17 causes silent, 2 not checked" in text
    assert "first fix" not in text


def test_an_undecided_run_says_what_to_log_next():
    text = render_text(sample.report_of(sample.undecided_run()))
    assert "1. Log the learning rate and the batch order" in text
    assert "the log lacks  logged learning rate: taken as constant" in text
    assert "truncated, history.json, byte 18,211" in text
    assert "Not tried" in text


def test_several_runs_have_a_table_worst_first():
    report = sample.report_of(sample.healthy_run(), sample.undecided_run(), sample.failed_run())
    heads = [line.split()[0] for line in render_text(report).splitlines()[:3]]
    assert heads == ["perceptron-overtrained", "notebook-7", "small-gpt"]


def test_no_run_at_all():
    assert render_text(sample.report_of()) == "no run was found\n"


@pytest.mark.parametrize("run", [sample.hostile_run, sample.failed_run])
def test_no_control_character_reaches_the_terminal(run):
    text = render_text(sample.report_of(run()))
    assert not [c for c in text if (ord(c) < 32 and c != "\n") or c in "\u202e\x7f"]


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("width", [30, 40, 60, 88, 100])
def test_no_line_is_wider_than_the_terminal(run, width):
    several = render_text(sample.report_of(run(), sample.undecided_run()), width)
    for text in (render_text(sample.report_of(run()), width), several):
        assert max(map(len, text.splitlines())) <= width
        assert "\n\n\n" not in text


def test_a_run_of_which_there_is_much_to_say_fits_a_screen_too():
    one = sample.failed_run()
    first = one.findings[0]
    long = " and so on without an end" * 30
    full = replace(
        one,
        summary=first.title + long,
        findings=(
            replace(
                first,
                title=first.title + long,
                evidence=tuple(replace(e, text=e.text + long) for e in first.evidence * 4),
                rivals=tuple(replace(r, why_not=r.why_not + long) for r in first.rivals * 3),
                fixes=tuple(replace(f, title=f.title + long, note=f.note + long) for f in first.fixes),
            ),
            *[replace(one.findings[1], code=f"TD9{i}0") for i in range(30)],
        ),
        not_checked=tuple(NotChecked(f"TD{i}", f"reason {i}{long}") for i in range(100, 140)),
        gaps=tuple(f"no {i}{long}" for i in range(20)),
        run=replace(one.run, damages=sample.undecided_run().run.damages * 9),
    )
    lines = render_text(sample.report_of(full)).splitlines()
    assert 30 <= len(lines) <= SCREEN
    assert any(line.startswith("first fix      Raise Adam's eps") for line in lines)
    assert any(line.startswith("               and ") and "findings more" in line for line in lines)


def test_the_loss_and_what_convicts_stand_over_the_same_steps():
    text = render_text(sample.report_of(sample.failed_run()))
    loss, norm, mark = text.splitlines()[5:8]
    assert loss.startswith("loss           █")
    assert loss.endswith("  log, 9.3e-12 to 70")
    assert norm.startswith("grad norm      █")
    onset = sample.failed_run().findings[0].segment.onset
    assert mark.strip() == f"▲ onset at step {onset:,}"
    bars = loss[15:].partition("  log")[0].rstrip()
    assert mark.index("▲") - 15 == int(onset / 6000 * len(bars))
    assert set(bars[5:15]) == {"▁"}  # the floor


@pytest.mark.parametrize(("onset", "words"), [(0, "▲ onset at step 0"), (5999, "onset at step 5,999 ▲"), (9999, ""), (None, "")])
def test_the_mark_of_the_onset_stays_on_the_line(onset, words):
    one = sample.failed_run()
    finding = replace(one.findings[0], segment=Segment(0, 6000, onset))
    text = render_text(sample.report_of(replace(one, findings=(finding,))), 50)
    assert words in text
    assert ("▲" in text) == bool(words)


def test_without_a_loss_there_is_no_curve():
    one = sample.failed_run()
    empty = replace(one.run.series[0], step=np.zeros(0, dtype=np.int64), value=np.zeros(0))
    for primary in ({}, {"loss": empty}):
        text = render_text(sample.report_of(replace(one, run=replace(one.run, primary=primary))))
        assert "▁" not in text
        assert "integrity      sound" in text


def test_colour_means_something_and_the_words_stay():
    report = sample.report_of(sample.failed_run())
    made = render_text(report, colour=True)
    assert [line.rstrip() for line in SGR.sub("", made).splitlines()] == render_text(report).splitlines()
    assert "\x1b[1;31mFAILED" in made
    bars = next(line for line in made.splitlines() if "loss" in line and "▁" in line)
    assert re.search(r"█[▁▂▃▄▅▆▇█]*▁+▂*\x1b\[1;31m[▁▂▃▄▅▆▇█]+\x1b\[0m", bars)  # red from the onset on
    assert re.search(r"\x1b\[1;34m *\+  eps: 0.1", made)
    assert "\x1b[1;31m" not in render_text(sample.report_of(sample.healthy_run()), colour=True)


@pytest.mark.parametrize("run", [sample.failed_run, sample.undecided_run, sample.healthy_run])
def test_a_stream_without_blocks_gets_ascii(run):
    text = render_text(sample.report_of(run()), ascii_only=True)
    assert [c for c in text if ord(c) > 255] == []
    assert "_" in text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([np.nan] * 50, "NaN or infinity"),
        ([3.0] * 50, "3 throughout"),
        ([0.0] * 50, "0 throughout"),
        ([2.0] * 49 + [np.inf], "2, and ×"),
        (list(range(-50, 0)), "linear, −50 to −1"),
    ],
)
def test_the_scale_of_a_curve_in_words(value, words):
    one = sample.undecided_run()
    loss = sample.series("loss", "loss", value)
    text = render_text(sample.report_of(replace(one, run=replace(one.run, series=(loss,), primary={"loss": loss}))))
    assert re.search(rf"^loss  .*  {re.escape(words)}$", text, re.MULTILINE)
