"""Time and memory of `traindoctor diagnose FOLDER` over 25, 50, 100 and 200 runs, whole process.

python benchmarks/many_runs/run.py            # some five minutes, 90 MB in the temporary folder
python benchmarks/many_runs/run.py --small    # 4, 8 and 16 runs, seconds
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "import sys; from traindoctor.cli import main; sys.exit(main())"]
N_STEPS, SEED = 5_000, 1925
COLUMNS = "step,train/loss,train/lr,train/grad_norm,train/weight_norm,val/loss,val/accuracy,stats/a,stats/b"
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3)


def write_run(folder, rng, lr):
    """Write one run by formula: a noisy descent, which a rate of 0.1 or more ends at a level with a blown-up weight norm."""
    step = np.arange(N_STEPS)
    noise = rng.standard_normal((8, N_STEPS))
    high = lr >= 0.1
    level = 2.0 + 0.3 * np.exp(-step / 50.0) if high else 0.3 + 2.0 * (1.0 + step / 40.0) ** -0.5
    table = [
        level * np.exp((0.2 if high else 0.05) * noise[0]),
        np.full(N_STEPS, lr),
        (4.0 if high else 0.5 + 20.0 / (step + 20.0)) * np.exp(0.2 * noise[1]),
        20.0 + (100.0 * (1.0 - np.exp(-step / 20.0)) if high else 1e-4 * step) + 0.001 * noise[2],
        1.1 * level * np.exp((0.2 if high else 0.01) * noise[3]),
        np.clip(1.0 - 0.4 * level + 0.01 * noise[4], 0.0, 1.0),
        1.0 + 0.1 * noise[5],
        1.0 + 0.1 * noise[6],
    ]
    (folder / "logs").mkdir(parents=True)
    np.savetxt(
        folder / "logs" / "metrics.csv",
        np.column_stack([step, *table]),
        fmt=["%d", *["%.6g"] * 8],
        delimiter=",",
        header=COLUMNS,
        comments="",
    )
    (folder / "config.yaml").write_text(
        f"optimizer:\n  name: adam\n  lr: {lr}\nbatch_size: {int(rng.choice([32, 64, 128]))}\nseed: {int(rng.integers(1000))}\n"
    )


def whole_process(folder, *more):
    """Wall and CPU seconds and peak resident memory in MB of one diagnosis."""
    begin = time.perf_counter()
    child = subprocess.Popen([*COMMAND, "diagnose", str(folder), "--quiet", *more], stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in (0, 1):
        sys.exit(f"traindoctor failed with {child.returncode} on {folder}")
    return time.perf_counter() - begin, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024.0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few runs only")
    given = parser.parse_args()
    counts = (4, 8, 16) if given.small else (25, 50, 100, 200)
    print(f"Python {sys.version.split()[0]}, NumPy {np.__version__}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(f"runs of {N_STEPS:,} steps, {COLUMNS.count(',')} tags\n")
    print("    runs   wall s    CPU s  CPU s a run   peak MB   MB more than before, a run")
    with tempfile.TemporaryDirectory() as place:
        folder, rng = Path(place) / "sweep", np.random.default_rng(SEED)
        made, peak_before = 0, float("nan")
        for n in counts:
            before = made
            for i in range(made, n):
                write_run(folder / f"run-{i:03}", rng, RATES[i % len(RATES)])
            made = n
            wall, cpu, peak = whole_process(folder, "--format", "json")
            more = (peak - peak_before) / max(1, n - before)
            print(f"{n:8} {wall:8.1f} {cpu:8.1f} {cpu / n:12.3f} {peak:9.0f} {more:10.2f}")
            peak_before = peak
        wall, cpu, peak = whole_process(folder, "--html", str(Path(place) / "report.html"))
        print(f"{made:8} {wall:8.1f} {cpu:8.1f} {cpu / made:12.3f} {peak:9.0f}   with --html")


if __name__ == "__main__":
    main()
