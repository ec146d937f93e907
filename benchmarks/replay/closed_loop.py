"""How long the closed loop takes: a 10,000-step run that goes wrong after training too long, with everything that is tried on it.

    python benchmarks/replay/closed_loop.py [--steps 10000] [--rounds 3]

The run is made here: Adam on least squares with more features than rows, full batch, by traindoctor.optim; its second moment
collapses within the 10,000 steps. `replay_run` reads the log of each step, and of each 10 steps, compares all causes that can
be simulated, searches for a cure and draws from the posterior. CPU time of its parts is taken by timing their functions in a
further run, each part without the parts that are named apart. Then 64 candidates in one pass of the noisy quadratic, against
one by one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import OptimizerSpec, Run, Series
from traindoctor.optim import adam
from traindoctor.optim.stability import stability_limit
from traindoctor.replay import closed_loop, cure, engine, rivals
from traindoctor.replay import noisy_quadratic as nq
from traindoctor.replay.modes import linear_form
from traindoctor.signals.measurements import Measurements

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

#: Seconds within which the replay of such a run has to be made.
GOAL = 5.0
SPEC = OptimizerSpec("adam", lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
N_ROWS, N_FEATURES = 32, 400
#: Where the time goes: modules that hold the name, name, what it is.
PARTS: tuple[tuple[tuple[ModuleType, ...], str, str], ...] = (
    ((cure,), "_fit", "collapse: fit"),
    ((cure,), "_reproduce", "collapse: reproduction"),
    ((cure,), "_trials", "collapse: cure search"),
    ((nq,), "columns", "rival causes: responses of the modes"),
    ((nq,), "_solve", "rival causes: least squares and draws"),
    ((nq,), "recorded_rate", "rival causes: recorded rates"),
    ((nq,), "simulate", "rival causes: closed loop"),
    ((rivals, engine), "rivals", "rival causes: all else"),
)


def over_trained(n_steps: int) -> Run:
    """Return a run of Adam on least squares, loss and gradient norm of each step."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((N_ROWS, N_FEATURES)), rng.standard_normal(N_ROWS)
    weight, state = np.zeros(N_FEATURES), adam.start((N_FEATURES,))
    loss, norm = np.empty(n_steps), np.empty(n_steps)
    for t in range(n_steps):
        # rounded as a framework would: an exact fit is never exact
        miss = (x @ weight - y).astype(np.float32).astype(np.float64) + 1e-7 * rng.standard_normal(N_ROWS)
        grad = 2.0 * miss @ x
        loss[t], norm[t] = miss @ miss, np.linalg.norm(grad)
        update, state = adam.step(grad, state, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8)
        weight += update
    step = np.arange(n_steps, dtype=np.int64)
    series = tuple(Series(q, q, step, v, np.full(n_steps, np.nan)) for q, v in (("loss", loss), ("grad_norm", norm)))
    return Run("over-trained", "over-trained", "", series, {s.quantity: s for s in series}, optimizer=SPEC)


def thinned(run: Run, every: int) -> Run:
    """Return the run as if only each so many-th step had been logged."""
    series = tuple(Series(s.quantity, s.tag, s.step[::every], s.value[::every], s.wall_time[::every]) for s in run.series)
    return replace(run, series=series, primary={s.quantity: s for s in series})


class Shares:
    """CPU seconds of functions, each without the others that it calls."""

    def __init__(self) -> None:
        self.taken: dict[str, float] = {}
        self._inner = [0.0]

    def watch(self, modules: tuple[ModuleType, ...], name: str, what: str) -> None:
        """Time a function wherever these modules call it."""
        function = getattr(modules[0], name)

        def timed(*args: object, **kwargs: object) -> object:
            begin = time.process_time()
            self._inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                spent = time.process_time() - begin
                self.taken[what] = self.taken.get(what, 0.0) + spent - self._inner.pop()
                self._inner[-1] += spent

        for module in modules:
            setattr(module, name, timed)


def race(rounds: int, *runners: Callable[[], object]) -> list[tuple[float, float]]:
    """Run all in turn, `rounds` times after one for warmth; return the median CPU and wall seconds of each."""
    taken: list[list[tuple[float, float]]] = [[] for _ in runners]
    for i in range(rounds + 1):
        for times, run in zip(taken, runners, strict=True):
            cpu, wall = time.process_time(), time.perf_counter()
            run()
            if i:
                times.append((time.process_time() - cpu, time.perf_counter() - wall))
    return [(statistics.median(c for c, _ in times), statistics.median(w for _, w in times)) for times in taken]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    say = sys.stdout.write

    dense = over_trained(given.steps)
    logs = {"each step": dense, "each 10 steps": thinned(dense, 10)}
    replays = [lambda run=run: engine.replay_run(Measurements(run)) for run in logs.values()]
    for name, run, (cpu, wall) in zip(logs, replays, race(given.rounds, *replays), strict=True):
        made = run()
        first = made.hypotheses[0]
        say(
            f"{given.steps:,} steps, {name:14} CPU {cpu:5.2f} s  wall {wall:5.2f} s"
            f"  CPU over the goal of {GOAL:g} s {cpu / GOAL:4.2f}"
            f"   {first.name} {first.share:.2f}, {len(made.hypotheses)} causes, {len(made.trials)} trials"
            f"{'' if made.reproduces else ', ' + made.refusal}\n"
        )

    tried = [replace(SPEC, lr=lr, eps=eps) for lr in np.geomspace(1e-4, 1e-3, 8) for eps in np.geomspace(1e-8, 0.1, 8)]
    obs = rivals.observation(Measurements(dense))
    assert isinstance(obs, nq.Observation)
    form, limit = linear_form(SPEC), stability_limit(SPEC)
    assert form is not None
    fitted = nq.fit(obs, nq.Dynamics(form, limit), n_draws=rivals.N_DRAWS)
    assert fitted is not None
    candidates = [nq.Settings(s, form, limit, obs.lr * (s.lr or 0.0) / 1e-3) for s in tried]

    def together() -> np.ndarray:
        return nq.simulate(obs, fitted, candidates).loss

    def apart() -> np.ndarray:
        return np.concatenate([nq.simulate(obs, fitted, [c]).loss for c in candidates])

    (at_once, _), (alone, _) = race(given.rounds, together, apart)
    one, other = together(), apart()
    with np.errstate(invalid="ignore"):
        differ = np.nanmax(np.where(one == other, 0.0, np.abs(one - other) / np.maximum(one, other)))
    draws = f"64 candidates, {rivals.N_DRAWS + 1} draws"
    say(f"{draws}: CPU {at_once:.2f} s  one by one {alone:.2f} s  ratio {alone / at_once:.1f}  differ {differ:.0e}\n")

    shares = Shares()
    for modules, name, what in PARTS:
        shares.watch(modules, name, what)
    begin = time.process_time()
    engine.replay_run(Measurements(dense))
    total = time.process_time() - begin
    for what, spent in sorted(shares.taken.items(), key=lambda item: -item[1]):
        say(f"  {what:40} {spent:5.2f} s  {spent / total:4.0%}\n")
    rest = total - sum(shares.taken.values())
    say(f"  {'all else':40} {rest:5.2f} s  {rest / total:4.0%}\n")
    say(f"  steps simulated one by one: {closed_loop.MAX_FINE_STEPS:,} at most\n")


if __name__ == "__main__":
    main()
