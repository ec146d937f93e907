"""JSON lines of six columns -> columns: traindoctor against pandas and the json module, CPU time, interleaved.

    python benchmarks/ingest/jsonlines.py [--rows 100000 1000000] [--rounds 5]

Each round runs all readers once, in turn; printed is the median of the CPU time in seconds and its ratio to ours. Kinds:
`even`, all rows hold the same names; `mixed`, each tenth is an evaluation; `words`, each holds a date and a word.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import statistics
import sys
import time

import numpy as np
import pandas as pd

from traindoctor.readers.jsonlines import read_jsonl


def rows(n: int, kind: str) -> bytes:
    draw = random.Random(0)
    lines = []
    for i in range(n):
        row = {"step": i, "loss": draw.random(), "lr": 1e-3 * draw.random(), "grad_norm": 3 * draw.random(), "epoch": i / 1000}
        row["time"] = 1.7e9 + 0.1 * i
        if kind == "mixed" and i % 10 == 9:
            row = {"step": i, "val_loss": draw.random()}
        if kind == "words":
            row |= {"time": f"2024-01-01T{i // 3600 % 24:02d}:{i // 60 % 60:02d}:{i % 60:02d}", "phase": "train"}
        lines.append(json.dumps(row))
    return "\n".join(lines).encode() + b"\n"


def with_json(data: bytes) -> dict[str, np.ndarray]:
    read = [json.loads(line) for line in data.splitlines()]
    names = dict.fromkeys(name for row in read for name in row)
    return {name: np.array([row.get(name, np.nan) for row in read]) for name in names}


READERS = {
    "traindoctor": lambda data: read_jsonl(data, "f.jsonl"),
    "json": with_json,
    "pandas": lambda data: pd.read_json(io.BytesIO(data), lines=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000])
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    sys.stdout.write(f"{'rows':>9} {'kind':6} {'MB':>6}" + "".join(f" {name:>12}{'':8}" for name in READERS) + "\n")
    for n in given.rows:
        for kind in ("even", "mixed", "words"):
            data = rows(n, kind)
            seconds: dict[str, list[float]] = {name: [] for name in READERS}
            for _ in range(given.rounds):
                for name, read in READERS.items():
                    begin = time.process_time()
                    read(data)
                    seconds[name].append(time.process_time() - begin)
            ours = statistics.median(seconds["traindoctor"])
            told = "".join(f" {(s := statistics.median(seconds[name])):11.3f}s ({s / ours:4.2f}x)" for name in READERS)
            sys.stdout.write(f"{n:9,} {kind:6} {len(data) / 1e6:6.1f}{told}\n")


if __name__ == "__main__":
    main()
