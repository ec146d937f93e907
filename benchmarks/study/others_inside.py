"""Runs one other log doctor over a folder of CSV files and prints what it found, as one JSON object.

Called by others.py with the interpreter that has the tool installed: python others_inside.py trainproof FOLDER

A finding is [id, severity, step], in the tool's own order; severity in our words, and null where the tool names no step.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

Found = list[tuple[str, str, "float | None"]]
SEVERITIES = {"FAIL": "error", "WARN": "warning", "INFO": "info", "critical": "error"}


def trainproof(file: Path) -> Found:
    """Return the findings of trainproof; its remark that nothing was found, or nothing checked, is none."""
    from trainproof.epoch import check_epoch

    findings = check_epoch(file)["findings"]
    return [(f["id"], SEVERITIES[f["level"]], None) for f in findings if f["level"] in SEVERITIES]


def runmedic(file: Path) -> Found:
    """Return the findings of runmedic."""
    from runmedic import loaders, roles
    from runmedic.checks import run_checks

    return [
        (f.check, SEVERITIES.get(f.severity, f.severity), f.step)
        for run in loaders.load(str(file))
        for f in run_checks(run, roles.detect(run))
    ]


def trainspotter(file: Path) -> Found:
    """Return the findings of trainspotter."""
    from trainspotter.detectors import run_all
    from trainspotter.readers import load_run

    return [(f.title, f.severity, f.step_start) for f in run_all(load_run(file))]


def examined(tool: Any, file: Path) -> dict[str, Any]:
    """Return the findings on one file and the time they took; a crash is a result."""
    begun = time.perf_counter()
    try:
        findings, error = tool(file), ""
    except Exception as crash:  # a tool that cannot take a log has said nothing of it
        findings, error = [], f"{type(crash).__name__}: {crash}"
    return {"findings": findings, "error": error, "seconds": round(time.perf_counter() - begun, 4)}


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    tool = {"trainproof": trainproof, "runmedic": runmedic, "trainspotter": trainspotter}[name]
    runs = {file.stem: examined(tool, file) for file in sorted(folder.glob("*.csv"))}
    json.dump({"version": version(name), "runs": runs}, sys.stdout)


if __name__ == "__main__":
    main()
