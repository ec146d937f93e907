"""The open loop against a Python loop, and candidates in one pass against one by one: CPU time, interleaved, medians.

    python benchmarks/replay/open_loop.py [--steps 1000000] [--rounds 5]

`moments`: m and v of a recorded scalar gradient. `grid`: 64 candidates, 4 values each of beta2, eps and lr, by `open_loop`, all
figures at 15,625 points each; `grid, all beta2`: 64 different beta2, where no recurrence is shared. `recurrence`: Adam's own
step of traindoctor.optim on 32 coordinates over 5,000 steps, 64 settings along a leading axis against one after the other.
The peer does the same work, and the results are compared.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import OptimizerSpec
from traindoctor.optim import adam
from traindoctor.replay.open_loop import open_loop, signal
from traindoctor.signals.second_moment import decayed_average

if TYPE_CHECKING:
    from collections.abc import Callable

    from traindoctor.replay.open_loop import Signal

LR, EPS, BETA2 = (1e-4, 3e-4, 1e-3, 3e-3), (1e-8, 1e-4, 1e-2, 0.1), (0.9, 0.99, 0.999, 0.9999)
POINTS = 15_625


def python_loop(grad: list[float]) -> np.ndarray:
    m = v = 0.0
    ms, vs = [], []
    for g in grad:
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g * g
        ms.append(m)
        vs.append(v)
    return np.array([ms, vs])


def scans(grad: np.ndarray, step: np.ndarray) -> np.ndarray:
    return np.stack([decayed_average(grad, step, 0.9), decayed_average(grad * grad, step, 0.999)])


def filters(grad: np.ndarray) -> np.ndarray:
    from scipy.signal import lfilter

    return np.stack([lfilter([1.0 - 0.9], [1.0, -0.9], grad), lfilter([1.0 - 0.999], [1.0, -0.999], grad * grad)])


def steps_of(grads: np.ndarray, settings: dict[str, np.ndarray | float]) -> np.ndarray:
    """Return the sum of all updates, (candidates, coordinates) or (coordinates,)."""
    n = np.shape(settings["lr"])[:1]
    state = adam.start((*n, grads.shape[1]))
    moved = np.zeros((*n, grads.shape[1]))
    for g in grads:
        update, state = adam.step(g, state, **settings)
        moved += update
    return moved


def alone(recorded: Signal, spec: OptimizerSpec, base: OptimizerSpec) -> np.ndarray:
    return open_loop(replace(recorded, lr=recorded.lr * (spec.lr / base.lr)), [spec], max_values=POINTS).update[0]


def race(rounds: int, **runners: Callable[[], np.ndarray]) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Run all in turn, `rounds` times after one for warmth; return the median time of each, and the last result."""
    taken: dict[str, list[float]] = {name: [] for name in runners}
    result = {}
    for i in range(rounds + 1):
        for name, run in runners.items():
            begin = time.process_time()
            result[name] = run()
            if i:
                taken[name].append(time.process_time() - begin)
    return {name: statistics.median(times) for name, times in taken.items()}, result


def tell(what: str, peer: str, took: dict[str, float], result: dict[str, np.ndarray]) -> None:
    ours = took["ours"]
    away = float(np.max(np.abs(result["ours"] - result[peer])) / np.max(np.abs(result[peer])))
    sys.stdout.write(
        f"{what:34} {ours:8.4f} s   {peer:14} {took[peer]:8.4f} s   ratio {took[peer] / ours:6.1f}   differ {away:.0e}\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    n = given.steps

    grad, step = rng.standard_normal(n), np.arange(n)
    as_list = grad.tolist()
    took, result = race(
        given.rounds, ours=lambda: scans(grad, step), loop=lambda: python_loop(as_list), lfilter=lambda: filters(grad)
    )
    tell(f"moments, {n:,} steps", "loop", took, result)
    tell(f"moments, {n:,} steps", "lfilter", took, result)

    recorded = signal(np.abs(grad), lr=LR[0], n_parameters=1000)
    grid = [OptimizerSpec("adam", lr=lr, beta1=0.9, beta2=b, eps=eps) for lr in LR for b in BETA2 for eps in EPS]
    spread = [OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=1.0 - b, eps=1e-8) for b in np.geomspace(0.1, 1e-5, 64)]
    for name, specs in (("grid", grid), ("grid, all beta2", spread)):
        took, result = race(
            given.rounds,
            ours=lambda specs=specs: open_loop(recorded, specs, max_values=64 * POINTS).update,
            apart=lambda specs=specs: np.stack([alone(recorded, s, specs[0]) for s in specs]),
        )
        tell(f"{name}, 64 x {n:,} steps", "apart", took, result)

    grads = rng.standard_normal((5000, 32))
    columns = {"lr": [s.lr for s in grid], "beta2": [s.beta2 for s in grid], "eps": [s.eps for s in grid]}
    batch = {name: np.array(values)[:, None] for name, values in columns.items()}
    took, result = race(
        max(1, given.rounds // 2),
        ours=lambda: steps_of(grads, batch),
        apart=lambda: np.stack([steps_of(grads, {k: v[i] for k, v in columns.items()}) for i in range(64)]),
    )
    tell("recurrence, 64 x 5,000 x 32", "apart", took, result)


if __name__ == "__main__":
    main()
