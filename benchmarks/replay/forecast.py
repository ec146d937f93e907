"""How good the forecast is on runs that it was not made from: over-trained problems with other seeds, trained here.

    python benchmarks/replay/forecast.py [--seeds 101 102]

Each run goes on until its second moment has collapsed. Printed are the onset in the loss, the step forecast from the first
probe after the fit, and the interval from the log alone, both as known at that probe. About two minutes on one core. Needs torch.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path

import numpy as np

from traindoctor.model import OptimizerSpec
from traindoctor.optim.stability import stability_limit
from traindoctor.replay.forecast import forecast, forecast_from_log
from traindoctor.replay.open_loop import signal
from traindoctor.signals.changes import rebound

MAKE = runpy.run_path(str(Path(__file__).parents[2] / "fixtures" / "optim" / "make_overtrained.py"))
#: problem -> steps, lr, betas
PROBLEMS = {
    "line": (6000, 1e-3, (0.9, 0.999)),
    "line-mean": (6000, 3e-3, (0.9, 0.999)),
    "line-uneven": (6000, 1e-3, (0.9, 0.999)),
    "tanh": (6000, 2e-3, (0.9, 0.999)),
    "relu": (8000, 2e-3, (0.9, 0.999)),
    "four-heads": (6000, 2e-3, (0.9, 0.995)),
    "tanh-deep": (6000, 1e-3, (0.8, 0.999)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[101, 102])
    given = parser.parse_args()
    write = sys.stdout.write
    write(f"{'run':16} {'onset':>6}  {'probe at':>8} {'forecast':>9} {'error':>6}   from the log alone\n")
    errors, held = [], []
    for kind, (n_steps, lr, betas) in PROBLEMS.items():
        for seed in given.seeds:
            d, loss, norm, probes = MAKE["train"](kind, seed, n_steps, lr, betas)
            late = rebound(np.arange(n_steps), loss)
            spec = OptimizerSpec("adam", lr=lr, beta1=betas[0], beta2=betas[1], eps=1e-8)
            fits = int(np.argmax(loss < 1e-11 * loss[0]))
            early = [t for t, s in probes.items() if t > fits + 20 and s < 0.9 * stability_limit(spec)]
            if late is None or not early or early[0] >= late.onset:
                write(f"{kind}-{seed:<8} no onset, or none after a probe\n")
                continue
            n = early[0]
            recorded = signal(norm[:n], lr=lr, n_parameters=d)
            told = forecast(recorded, spec, at=n - 1, value=probes[n])
            alone = forecast_from_log(recorded, spec, loss[:n], float(np.median(loss[fits:n])))
            error = (told.met or np.inf) / late.onset - 1.0
            errors.append(abs(error))
            latest = alone.interval[1] if alone.interval else 0
            held.append(bool(alone.interval) and alone.interval[0] <= late.onset <= (latest or np.inf))
            write(f"{kind + '-' + str(seed):16} {late.onset:6,}  {n:8,} {told.met!s:>9} {error:6.1%}   {alone.interval}\n")
    write(f"{len(errors)} runs; median error from a probe {np.median(errors):.1%}; the log's interval held in {sum(held)}\n")


if __name__ == "__main__":
    main()
