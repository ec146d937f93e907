"""Random small runs of zeros, infinities, NaN and absurd settings through every rule: nothing may raise."""

from __future__ import annotations

import numpy as np
import pytest

from traindoctor.model import OptimizerSpec
from traindoctor.pipeline import diagnose_run
from traindoctor.registry import load_rules
from traindoctor.rule import run_of

POOL = np.array([0.0, -0.0, 1.0, -1.0, 1e-300, 1e300, np.nan, np.inf, -np.inf, 1e-12, 2.3])
LENGTHS = (0, 1, 2, 3, 4, 5, 8, 12, 20, 70, 300)
QUANTITIES = ("loss", "grad_norm", "learning_rate", "weight_norm", "val_loss")


def series(rng, n):
    wild = 10.0 ** rng.uniform(-12, 3, n)
    kind = rng.integers(4)
    if kind == 0:
        return rng.choice(POOL, n)
    if kind == 1:
        return np.full(n, rng.choice(POOL))
    return wild if kind == 2 else np.concatenate([wild[: n // 2], rng.choice(POOL, n - n // 2)])


def optimizer(rng):
    if rng.random() < 0.2:
        return None
    decay = rng.choice([0.0, 0.9, 0.999, 1.0])
    return OptimizerSpec(
        str(rng.choice(["adam", "sgd", "rmsprop", "adagrad"])),
        lr=float(rng.choice([0.0, 1e-3, 10.0])),
        beta1=float(rng.choice([0.0, 0.9, 1.0])),
        beta2=float(decay),
        alpha=float(decay),
        eps=float(rng.choice([0.0, 1e-8])),
        momentum=float(rng.choice([0.0, 1.0])),
    )


@pytest.mark.parametrize("seed", range(8))
def test_no_run_makes_the_pipeline_raise(seed):
    rng, causes = np.random.default_rng(seed), load_rules().causes
    for _ in range(60):
        n = int(rng.choice(LENGTHS))
        logged = {name: series(rng, n) for name in QUANTITIES if rng.random() < 0.7}
        report = diagnose_run(run_of(optimizer(rng), every=int(rng.choice([1, 10])), **logged), causes)
        assert report.verdict in ("failed", "suspicious", "healthy", "undecided")
        assert all(0.0 <= f.confidence <= 1.0 for f in report.findings)
        assert not [one for one in report.not_checked if "failed" in one.reason]
