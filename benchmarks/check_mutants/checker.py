"""Runs `traindoctor check` on many files and hands back what it found in each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Files in one call: few enough for the command line, many enough that start-up does not count.
FILES_A_CALL = 200

#: Hints too, by the rules as they come, everything looked at anew.
ALL = ("--level", "info", "--fail-on", "never", "--isolated", "--no-cache")


@dataclass(frozen=True, slots=True)
class Found:
    """One finding: its code and severity, the line of its first place, the lines of all places, and its message."""

    code: str
    severity: str
    line: int
    lines: frozenset[int]
    message: str


def check(files: Sequence[Path]) -> dict[Path, list[Found]]:
    """Return the findings of each file."""
    found: dict[Path, list[Found]] = {file.resolve(): [] for file in files}
    for start in range(0, len(files), FILES_A_CALL):
        for file, finding in _one_call(files[start : start + FILES_A_CALL]):
            found.setdefault(file.resolve(), []).append(finding)
    return found


def _one_call(files: Sequence[Path]) -> Iterable[tuple[Path, Found]]:
    call = [sys.executable, "-m", "traindoctor", "check", "--format", "json", *ALL, *map(str, files)]
    done = subprocess.run(call, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if not done.stdout.strip():
        raise SystemExit(f"traindoctor check gave nothing, exit {done.returncode}:\n{done.stderr[-2000:]}")
    for entry in json.loads(done.stdout)["files"]:
        for finding in entry["findings"]:
            places = finding["locations"] or [{"line": 0}]
            lines = frozenset(place.get("line") or 0 for place in places)
            file = places[0].get("file") or entry["path"]
            yield (
                Path(file),
                Found(
                    finding["code"],
                    finding["severity"],
                    places[0].get("line") or 0,
                    lines,
                    finding.get("message") or finding.get("title", ""),
                ),
            )
