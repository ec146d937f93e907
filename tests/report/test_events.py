import numpy as np
import pytest

from tests.report.sample import run_with, series
from traindoctor.model import Setting, Stitch
from traindoctor.report.events import MOST_CHANGES, MOST_EPOCHS, epoch_starts, events_of, in_words, jumps


def run_of(**quantities):
    more = {key: quantities.pop(key) for key in ("restarts", "stitches", "settings", "step_unit") if key in quantities}
    n = max(len(value) for value in quantities.values())
    made = (series(q, q, value, np.arange(0, n * 10, 10)[: len(value)]) for q, value in quantities.items())
    return run_with("run", *made, **more)


def kinds(run, kind):
    return [e for e in events_of(run) if e.kind == kind]


def test_a_rate_that_steps_down_has_its_steps_and_their_factors():
    rate = np.repeat([0.1, 0.01, 0.001], 20)
    found = kinds(run_of(loss=np.ones(60), learning_rate=rate), "lr")
    assert [(e.step, e.word) for e in found] == [(200, "lr × 0.1"), (400, "lr × 0.1")]
    assert found[0].text == "learning rate 0.1 to 0.01"


@pytest.mark.parametrize("thin", [1, 7])
def test_a_smooth_schedule_has_no_jump_however_it_was_logged(thin):
    steps = np.arange(1, 5001)
    warm = np.minimum(1.0, steps / 500) * 0.5 * (1 + np.cos(np.pi * steps / 5000))
    keep = np.unique(np.concatenate([np.arange(0, 5000, 53), np.arange(0, 5000, thin * 11), [4998, 4999]]))
    assert jumps(steps[keep], warm[keep]).size == 0
    assert jumps(steps, 0.999**steps).size == 0
    assert jumps(steps, np.full(5000, 0.1)).size == 0
    assert jumps(steps, np.where(steps < 4000, 0.97**steps, 0.0)).size == 0  # a rate that was spent long before


def test_a_staircase_of_many_steps_is_left_to_the_figure_of_the_rate():
    rate = np.repeat(0.9 ** np.arange(MOST_CHANGES + 2), 10)
    assert kinds(run_of(loss=np.ones(rate.size), learning_rate=rate), "lr") == []


def test_resumes_carry_what_the_stitching_says():
    run = run_of(loss=np.ones(60), restarts=(300, 100), stitches=(Stitch("resumed", "b.csv", "goes on in b.csv", 300),))
    assert [(e.step, e.word, e.text) for e in kinds(run, "resume")] == [
        (100, "resumed", ""),
        (300, "resumed", "goes on in b.csv"),
    ]


def test_a_checkpoint_stands_where_the_name_of_its_folder_says():
    read = (Stitch("checkpoint", "out/checkpoint-200/trainer_state.json", "an earlier state"), Stitch("copy", "ckpt-5", "a copy"))
    assert [e.step for e in kinds(run_of(loss=np.ones(60), stitches=read), "checkpoint")] == [200]


def test_epochs_begin_where_the_log_counts_on():
    assert epoch_starts(run_of(loss=np.ones(60), epoch=np.repeat([0, 1, 2], 20))) == {1: 200, 2: 400}
    assert epoch_starts(run_of(loss=np.ones(61), epoch=np.arange(61) / 20)) == {1: 200, 2: 400, 3: 600}


def test_epochs_of_the_settings_are_told_where_none_are_logged():
    settings = {"steps": Setting(600, "config.yaml:1"), "epochs": Setting(3, "config.yaml:2")}
    assert epoch_starts(run_of(loss=np.ones(60), settings=settings)) == {1: 200, 2: 400}


@pytest.mark.parametrize("unit", ["epoch", "row"])
def test_a_log_without_steps_has_no_ticks_of_epochs(unit):
    assert epoch_starts(run_of(loss=np.ones(60), epoch=np.repeat([0, 1, 2], 20), step_unit=unit)) == {}


def test_many_epochs_are_thinned_to_round_ones():
    found = kinds(run_of(loss=np.ones(3000), epoch=np.arange(3000) // 3), "epoch")
    assert 0 < len(found) <= MOST_EPOCHS
    assert found[0].word == "epoch 50"
    assert found[0].text == "every 50th epoch"


def test_what_is_marked_is_said_in_one_sentence():
    run = run_of(loss=np.ones(60), learning_rate=np.repeat([0.1, 0.01, 0.001], 20), restarts=(100,))
    assert in_words(events_of(run)) == "Marked: 1 resume, 2 changes of the rate."
    assert in_words(()) == ""


def test_broken_series_give_no_event_and_no_error():
    run = run_of(loss=[1.0], learning_rate=[np.nan] * 5, epoch=[np.nan, np.inf])
    assert events_of(run) == ()
