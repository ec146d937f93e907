"""A loss that stands from first to last asks for an answer, at whatever level; one that falls, however little, does not."""

from __future__ import annotations

import numpy as np
import pytest

from traindoctor.pipeline import diagnose_run
from traindoctor.registry import load_rules
from traindoctor.rule import run_of

CAUSES = load_rules().causes
N = 200
NOISE = np.random.default_rng(3).standard_normal(N)
T = np.arange(N)


def verdict(**quantities):
    return diagnose_run(run_of(**quantities), CAUSES).verdict


@pytest.mark.parametrize("level", [0.0333, 7.62, 995.0])
def test_a_loss_that_stands(level):
    assert verdict(loss=level * (1.0 + 0.003 * NOISE)) == "undecided"


@pytest.mark.parametrize(
    "quantities",
    [
        {"loss": 995.0 + 15.0 * np.exp(-T / 40.0) + 0.01 * NOISE},  # a likelihood with a large floor
        {"loss": 0.5 * (1.0 + 0.5 * NOISE)},  # may fall unseen
        {"loss": 0.3 * (1.0 + 0.05 * NOISE), "val_loss": 0.3 - 0.0005 * np.arange(14)},
    ],
    ids=["large-floor", "noise", "validation-falls"],
)
def test_a_loss_that_moves_or_may(quantities):
    assert verdict(**{name: np.abs(value) for name, value in quantities.items()}) == "healthy"
