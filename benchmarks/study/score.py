"""Diagnose every run of a study and count: causes found, causes missed, false alarms.

PYTHONPATH=.:rules python benchmarks/study/score.py /tmp/study/tuning --json rows.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

ALARMS = ("error", "warning")


def examine(folder: Path) -> dict[str, Any]:
    """One row: what is true of a run, and what was said of it."""
    label = json.loads((folder / "label.json").read_text())
    row: dict[str, Any] = {
        "name": folder.name,
        "path": str(folder),
        "fault": label["fault"],
        "expected": label["expected"],
        "tier": label["tier"],
        "part": label["part"],
        "form": label["logging"]["form"],
        "every": label["logging"]["every"],
        "config": bool(label["logging"]["config"]),
        "damage": label["logging"]["damage"],
        "worse": label["worse_than_twin"],
    }
    begun = time.perf_counter()
    try:
        from traindoctor.diagnose import DiagnoseOptions, diagnose

        report = diagnose([folder], DiagnoseOptions())
        if not report.runs:
            raise RuntimeError("no run found")
        run = report.runs[0]
        findings = [(f.code, f.severity, round(float(f.confidence), 3)) for f in run.findings]
        rivals = [r.code for f in run.findings[:1] for r in f.rivals]
        row |= {"verdict": run.verdict, "findings": findings, "rivals": rivals, "runs": len(report.runs), "error": ""}
    except Exception:  # a crash is a row of the result
        row |= {"verdict": "crash", "findings": [], "rivals": [], "runs": 0, "error": traceback.format_exc(limit=-3)}
    row["seconds"] = round(time.perf_counter() - begun, 3)
    named = [c for c, severity, _ in row["findings"] if severity in ALARMS]
    row["first"] = named[0] if named else ""
    row["confidence"] = next((p for _, severity, p in row["findings"] if severity in ALARMS), None)
    row["top3"] = list(dict.fromkeys([*named, *row["rivals"]] if named else []))[:3]
    row["right"] = bool(row["expected"]) and row["first"] in row["expected"]
    row["right3"] = any(code in row["top3"] for code in row["expected"])
    return row


def share(rows: list[dict[str, Any]], key: str) -> str:
    return f"{sum(r[key] for r in rows)}/{len(rows)}" if rows else "-"


def show(rows: list[dict[str, Any]]) -> None:
    crashed = [r for r in rows if r["error"]]
    if crashed:
        kinds = Counter(r["error"].strip().splitlines()[-1] for r in crashed)
        print(f"{len(crashed)} of {len(rows)} runs crashed:")
        for text, n in kinds.most_common(8):
            print(f"  {n:4} {text[:150]}   e.g. {next(r['name'] for r in crashed if r['error'].strip().endswith(text))}")
        print(crashed[0]["error"])
    by_fault: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for r in rows:
        by_fault[r["fault"] or "sound"].append(r)
    known = [r for r in rows if r["expected"]]
    print(f"\nFaults with a rule: first cause right {share(known, 'right')}, among the first three {share(known, 'right3')}")
    print(f"{'fault':26} {'first':>9} {'top 3':>9}   first by tier 1 / 2 / 3         with / without config")
    for fault, some in sorted(by_fault.items()):
        if some[0]["expected"]:
            tiers = " / ".join(share([r for r in some if r["tier"] == t], "right") for t in (1, 2, 3))
            config = " / ".join(share([r for r in some if r["config"] == c], "right") for c in (True, False))
            print(f"{fault:26} {share(some, 'right'):>9} {share(some, 'right3'):>9}   {tiers:30}  {config}")
    print("\nWrong or missing first cause (expected <- said: runs)")
    wrong: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for r in known:
        if not r["right"]:
            wrong[r["expected"][0], r["first"] or "nothing"].append(r)
    for (expected, said), some in sorted(wrong.items(), key=lambda p: -len(p[1])):
        print(
            f"  {expected} <- {said:8} {len(some):3}: {', '.join(r['name'] for r in some[:12])}{' ...' if len(some) > 12 else ''}"
        )
    sound = by_fault.get("sound", [])
    alarmed = [r for r in sound if r["first"]]
    print(f"\nSound runs: {len(alarmed)} false alarms in {len(sound)}")
    for r in sorted(alarmed, key=lambda r: (r["first"], r["name"])):
        print(f"  {r['first']} {r['confidence'] or 0:.2f}  {r['name']}  (tier {r['tier']}, {r['form']}, every {r['every']})")
    damaged = [r for r in sound if r["damage"]]
    for r in damaged:
        print(f"  damaged log {r['name']} ({r['damage']}): {r['verdict']} {r['findings']}")
    print("\nFaults without a rule: what was said first")
    for fault, some in sorted(by_fault.items()):
        if fault != "sound" and not some[0]["expected"]:
            said = Counter(f"{r['first'] or 'nothing'}" for r in some)
            sure = [
                f"{r['name']}: {r['first']} {r['confidence']:.2f}" for r in some if r["first"] and (r["confidence"] or 0) >= 0.6
            ]
            print(f"  {fault:24} {dict(said)}" + (f"   sure of: {'; '.join(sure)}" if sure else ""))
    print(
        f"\n{len(rows)} runs, {sum(r['seconds'] for r in rows):.1f} s in all, slowest "
        f"{max(rows, key=lambda r: r['seconds'])['seconds']} s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--json", type=Path, help="write one object per run")
    parser.add_argument("--only", default="*", help="glob over run names")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    runs = sorted(p.parent for folder in options.folders for p in folder.glob(f"{options.only}/label.json"))
    if not runs:
        sys.exit("no runs with a label.json there")
    if options.jobs > 1:
        with ProcessPoolExecutor(options.jobs) as pool:
            rows = list(pool.map(examine, runs, chunksize=4))
    else:
        rows = [examine(run) for run in runs]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    show(rows)


if __name__ == "__main__":
    main()
