"""One Adam step over a million parameters in NumPy against torch.optim.Adam: CPU time of a step, interleaved, medians.

    python benchmarks/replay/adam.py [--parameters 1000000] [--rounds 5]

One thread each; each round takes 20 steps of every form in turn. Needs torch.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from traindoctor.optim import adam

if TYPE_CHECKING:
    from collections.abc import Callable

FORMS = {"for-loop": {"foreach": False, "fused": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}


def ours(grad: np.ndarray) -> Callable[[], None]:
    state, weight = adam.start(grad.shape, grad.dtype.type), np.zeros_like(grad)

    def step() -> None:
        nonlocal state, weight
        update, state = adam.step(grad, state, lr=1e-3)
        weight += update

    return step


def theirs(grad: np.ndarray, dtype: torch.dtype, form: dict[str, bool]) -> Callable[[], None]:
    weight = torch.nn.Parameter(torch.zeros(grad.size, dtype=dtype))
    weight.grad = torch.tensor(grad, dtype=dtype)
    return torch.optim.Adam([weight], lr=1e-3, **form).step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    grad = np.random.default_rng(0).standard_normal(given.parameters)
    steps = {"traindoctor float64": ours(grad), "traindoctor float32": ours(grad.astype(np.float32))}
    for dtype in (torch.float64, torch.float32):
        name = str(dtype).removeprefix("torch.")
        steps |= {f"torch {name} {form}": theirs(grad, dtype, settings) for form, settings in FORMS.items()}
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(given.rounds + 1):
        for name, step in steps.items():
            begin = time.process_time()
            for _ in range(20):
                step()
            if i:
                taken[name].append((time.process_time() - begin) / 20)
    base = statistics.median(taken["traindoctor float64"])
    for name, times in taken.items():
        took = statistics.median(times)
        sys.stdout.write(f"{name:24} {1e3 * took:8.2f} ms a step   over ours {took / base:5.2f}\n")


if __name__ == "__main__":
    main()
