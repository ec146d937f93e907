from dataclasses import replace

import numpy as np
import pytest

from traindoctor.rule import run_of
from traindoctor.signals.measurements import Measurements

STEP = np.arange(100)
CRASH = 0.5 + 20.0 * np.exp(-STEP / 2.0)


def test_a_start_out_of_scale():
    start = Measurements(run_of(loss=CRASH, grad_norm=10.0 * CRASH, val_accuracy=[0.5])).start
    assert start.loss == CRASH[0]
    assert start.over_later == pytest.approx(40.0, rel=0.1)
    assert start.gradient == pytest.approx(40.0, rel=0.1)
    assert start.is_classifier


@pytest.mark.parametrize(
    ("tag", "is_classifier"), [("train/ce_loss", True), ("cross_entropy", True), ("nll", True), ("loss", False), ("mse", False)]
)
def test_what_the_tag_says(tag, is_classifier):
    run = run_of(loss=CRASH)
    loss = replace(run.primary["loss"], tag=tag)
    assert Measurements(replace(run, series=(loss,), primary={"loss": loss})).start.is_classifier == is_classifier


def test_a_log_that_begins_late_has_no_start():
    run = run_of(loss=CRASH)
    loss = replace(run.primary["loss"], step=STEP + 50)
    assert Measurements(replace(run, primary={"loss": loss})).start is None


@pytest.mark.parametrize("loss", [[1.0, 2.0], -np.ones(50), np.zeros(50)])
def test_too_little_or_not_positive(loss):
    assert Measurements(run_of(loss=loss)).start is None


def test_no_gradient_norm():
    assert np.isnan(Measurements(run_of(loss=CRASH)).start.gradient)


def test_a_loss_that_came_to_stand_at_the_cost_of_a_guess():
    start = Measurements(run_of(loss=np.log(10.0) + 20.0 * np.exp(-STEP / 2.0))).start
    assert start.classes == 10
    assert not start.is_classifier
    assert Measurements(run_of(loss=CRASH)).start.classes is None


def test_a_sum_over_parts():
    start = Measurements(run_of(loss=64.0 * np.log(10.0) * np.exp(-STEP / 30.0))).start
    assert start.classes_over(64) == 10
    assert start.classes_over(2) is None
    assert start.classes_over(None) is None
    assert start.classes_over(1) is None
