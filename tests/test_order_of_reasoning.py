"""What is physically impossible otherwise is named first, whatever the curve beside it looks like."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from traindoctor.model import Damage, OptimizerSpec
from traindoctor.pipeline import diagnose_run
from traindoctor.registry import load_rules
from traindoctor.rule import run_of

CAUSES = load_rules().causes
N = 240
RNG = np.random.default_rng(5)
NOISE = RNG.normal(size=N)
T = np.arange(N)
#: Curves that suggest something else each: slow descent, plateau, spikes, swings, growth.
CURVES = {
    "slow": 2.3 - 0.001 * T + 0.01 * NOISE,
    "flat": 2.3 + 0.02 * NOISE,
    "at chance": np.full(N, np.log(10.0)) + 0.002 * NOISE,
    "spiky": np.where(T % 37 == 0, 9.0, 2.0) + 0.05 * NOISE,
    "swinging": 2.0 + np.sin(T / 8.0) + 0.05 * NOISE,
    "rising": 2.0 * np.exp(T / 120.0) * np.exp(0.05 * NOISE),
}
GRAD = np.exp(0.3 * RNG.normal(size=N))
ADAM = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)


def first(run):
    findings = [f for f in diagnose_run(run, CAUSES).findings if f.severity in ("error", "warning")]
    return findings[0].code if findings else ""


@pytest.mark.parametrize("curve", CURVES)
def test_a_learning_rate_of_zero(curve):
    run = run_of(
        replace(ADAM, lr=0.0), loss=CURVES[curve], grad_norm=GRAD, learning_rate=np.zeros(N), weight_norm=np.full(N, 8.0)
    )
    assert first(run) == "TD204"


@pytest.mark.parametrize("curve", CURVES)
def test_gradients_of_exactly_zero(curve):
    run = run_of(ADAM, loss=CURVES[curve], grad_norm=np.zeros(N), learning_rate=np.full(N, 1e-3), weight_norm=np.full(N, 8.0))
    assert first(run) == "TD302"


@pytest.mark.parametrize("curve", CURVES)
def test_weights_that_do_not_move(curve):
    run = run_of(ADAM, loss=CURVES[curve], grad_norm=GRAD, learning_rate=np.full(N, 1e-3), weight_norm=np.full(N, 8.1234567))
    assert first(run) in ("TD311", "TD305")


@pytest.mark.parametrize("curve", CURVES)
def test_a_nan_that_the_log_hides(curve):
    hidden = Damage("hidden-nan", "trainer_state.json", "the loss is exactly 0 from step 200 on", step=200)
    run = replace(run_of(ADAM, loss=CURVES[curve], grad_norm=GRAD), damages=(hidden,))
    codes = {f.code for f in diagnose_run(run, CAUSES).findings if f.severity in ("error", "warning")}
    assert "TD002" in codes
    assert codes & {"TD401", "TD201", "TD407", "TD611"}


def resumed(*, jump):
    """Return an exact fit that goes on after a restart, with the loss `jump` times as high at once and back within 60 steps."""
    loss = 1e-6 + 2.0 * np.exp(-T / 12.0) * np.exp(0.1 * NOISE)
    after = T >= 150
    loss = np.where(after, loss * (1.0 + (jump - 1.0) * np.exp(-(T - 150.0) / 15.0)), loss)
    run = run_of(ADAM, loss=loss, grad_norm=np.sqrt(loss), learning_rate=np.full(N, 1e-3))
    return replace(run, restarts=(150,))


def test_a_jump_at_a_resume():
    assert first(resumed(jump=1e4)) == "TD805"
    assert first(resumed(jump=1.0)) == ""
