import io

import pytest

from tests.report import sample
from traindoctor.report.text import print_rich, render_text


def test_a_failed_run_fits_a_screen_and_says_what_matters():
    text = render_text(sample.report_of(sample.failed_run()))
    lines = text.splitlines()
    assert len(lines) <= 48
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith("perceptron-overtrained  FAILED  6,000 steps, every step logged")
    for words in (
        "0.93 very likely  TD101",
        "first fix      Raise Adam's eps from 1e-8 to 0.1",
        "+  eps: 0.1   in config.yaml",
        "Without the fix it reaches",
        "eps 0.1 repairs",
        "clip_norm 1.0 worse",
        "TD201 learning rate too high 0.04",
        "against        0.39",
        "loss ← train/loss",
        "no role: gpu_temp",
        "integrity      sound",
        "no checkpoint was given: TD105",
    ):
        assert words in text, words


def test_a_healthy_run_says_what_was_checked():
    text = render_text(sample.report_of(sample.healthy_run()))
    assert "HEALTHY" in text
    assert "TD101 second-moment-collapse" in text
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


def test_a_terminal_gets_the_same_words_in_colour():
    from rich.console import Console

    stream = io.StringIO()
    print_rich(
        sample.report_of(sample.hostile_run()), Console(file=stream, width=88, no_color=True, highlight=False, markup=True)
    )
    assert stream.getvalue() == render_text(sample.report_of(sample.hostile_run()), 88)
    coloured = io.StringIO()
    print_rich(sample.report_of(sample.failed_run()), Console(file=coloured, width=88, force_terminal=True))
    assert "\x1b[1;31m" in coloured.getvalue()
