"""How long a CSV takes to read, from a local file to a Log, against `pandas.read_csv` with its C engine from the same path.

python benchmarks/ingest/tables.py            # 1,000,000 rows, a minute
python benchmarks/ingest/tables.py --rows N   # another number of rows

CPU seconds of the process, imports left out, medians of interleaved runs. "file": from the path; the goal is judged by it.
"bytes": from bytes in memory to the Log, and to a frame. Each case is read once before, and its values are compared with
those of pandas.
"""

import argparse
import io
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

from traindoctor.readers.csvlog import read_csv, read_csv_file

RUNS, SEED, GOAL = 7, 545345, 1.3
CLOCK = 1_700_000_000


def columns(n):
    rng = np.random.default_rng(SEED)
    t = np.arange(n)
    loss = 2.3 * np.exp(-t / (n / 5)) + 0.1 * rng.random(n)
    return loss, 1e-3 * np.exp(-t / (n / 3)), 3.0 * rng.random(n), 30.0 + rng.random(n), CLOCK + 0.123 * t


def dense(n, end="\n"):
    """A row per step, six columns."""
    rows = zip(range(n), *(column.tolist() for column in columns(n)), strict=True)
    lines = ["step,loss,lr,grad_norm,weight_norm,timestamp", *(",".join(map(repr, row)) for row in rows)]
    return end.join([*lines, ""]).encode()


def crlf(n):
    """The same with the line ends of Windows."""
    return dense(n, "\r\n")


def sparse(n):
    """As Lightning writes: the loss in one row, the learning rate in the next, validation in every tenth."""
    loss, lr, other, _, _ = (column.tolist() for column in columns(n))
    lines = ["epoch,lr,step,train_loss,val_acc,val_loss"]
    for i in range(n):
        if i % 10 == 9:
            lines.append(f"{i // 1000},,{i},,{other[i]!r},{loss[i]!r}")
        elif i % 2:
            lines.append(f",{lr[i]!r},{i},,,")
        else:
            lines.append(f"{i // 1000},,{i},{loss[i]!r},,")
    return "\n".join([*lines, ""]).encode()


def clock(n):
    """The time in words."""
    loss, lr, grad_norm, weight_norm, _ = (column.tolist() for column in columns(n))
    moments = np.datetime_as_string(np.datetime64(CLOCK, "s") + np.arange(n).astype("timedelta64[s]")).tolist()
    rows = zip(moments, range(n), loss, lr, grad_norm, weight_norm, strict=True)
    lines = ["timestamp,step,loss,lr,grad_norm,weight_norm"]
    lines += [f"{moment.replace('T', ' ')},{','.join(map(repr, row))}" for moment, *row in rows]
    return "\n".join([*lines, ""]).encode()


def diverged(n):
    """Half of the loss is NaN, and the validation blank in most rows."""
    loss, lr, grad_norm, _, _ = (column.tolist() for column in columns(n))
    lines = ["step,loss,lr,grad_norm,val_loss"]
    lines += [
        f"{i},{loss[i] if 2 * i < n else 'nan'},{lr[i]!r},{grad_norm[i]!r},{loss[i] if i % 50 == 0 else ''}" for i in range(n)
    ]
    return "\n".join([*lines, ""]).encode()


CASES = (dense, sparse, crlf, clock, diverged)


def cpu(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def check(path):
    """Fail unless every number equals that of pandas."""
    frame = pd.read_csv(path)
    [log] = read_csv_file(path, "f")
    for series in log.series:
        if frame[series.tag].dtype.kind in "if":
            expected = frame[series.tag].to_numpy(np.float64)
            np.testing.assert_array_equal(series.value[~np.isnan(series.value)], expected[~np.isnan(expected)])


def peak(path):
    """Return the memory that reading a file takes at most, in bytes for each byte of it, in a process of its own."""
    code = (
        "import re, sys, pandas; from pathlib import Path; from traindoctor.readers.csvlog import read_csv_file\n"
        "def high(): return int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before = high(); log = read_csv_file(Path(sys.argv[1]), 'f'); print(high() - before)"
    )
    found = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    return 1024 * int(found.stdout) / path.stat().st_size


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    warnings.simplefilter("ignore")
    print(f"{rows:,} rows, CPU seconds, medians of {RUNS}; goal: at most {GOAL} times pandas {pd.__version__}")
    print(
        f"{'':29}file{'':21}bytes\n{'case':10}{'MB':>6}" + 2 * f"{'pandas':>9}{'ours':>8}{'ratio':>7}  " + "goal    peak memory"
    )
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            data = case(rows)
            path = Path(folder, "metrics.csv")
            path.write_bytes(data)
            check(path)
            taken = {name: [] for name in ("pandas file", "ours file", "pandas", "ours")}
            for _ in range(RUNS):
                taken["pandas file"].append(cpu(lambda path=path: pd.read_csv(path, engine="c")))
                taken["ours file"].append(cpu(lambda path=path: read_csv_file(path, "f")))
                taken["pandas"].append(cpu(lambda data=data: pd.read_csv(io.BytesIO(data), engine="c")))
                taken["ours"].append(cpu(lambda data=data: read_csv(data, "f")))
            pandas_file, ours_file, pandas, ours = (statistics.median(times) for times in taken.values())
            row = f"{case.__name__:10}{len(data) / 1e6:6.0f}"
            for theirs, mine in ((pandas_file, ours_file), (pandas, ours)):
                row += f"{theirs:9.3f}{mine:8.3f}{mine / theirs:7.2f}  "
            print(row + f"{'met' if ours_file <= GOAL * pandas_file else 'missed':8}{peak(path):.1f} x file")


if __name__ == "__main__":
    main()
