"""Score the other log doctors that can be installed today on the same runs.

python -m venv OTHERS && OTHERS/bin/pip install trainproof==0.22.0 runmedic==0.1.1 trainspotter==0.2.6
PYTHONPATH=.:rules python benchmarks/study/others.py STUDY/tuning --python OTHERS/bin/python [--json rows.json]

Each log is handed over as a CSV file of the plain names that they read: step, loss, val_loss, lr, grad_norm, and step_time and
data_time where they were logged. So none of them fails on a tag name or on an event file, and none sees more than a log: config
and script stay with traindoctor.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import tomllib
from bisect import bisect_right
from collections import Counter
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

from accuracy import Answer, Row, Truth, grouped, share_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from traindoctor.model import Run, Series

HERE = Path(__file__).parent
#: Our quantity -> the column that all three tools take for it.
COLUMNS = {
    "loss": "loss",
    "val_loss": "val_loss",
    "learning_rate": "lr",
    "grad_norm": "grad_norm",
    "step_time": "step_time",
    "data_time": "data_time",
}
ALARMS = ("error", "warning")


class Tool(NamedTuple):
    """Another log doctor: where it comes from, how it is called, and its finding -> names of our causes that it counts for."""

    name: str
    version: str
    page: str
    called: str
    counts_for: dict[str, tuple[str, ...]]


def tools() -> list[Tool]:
    """Return the tools of others.toml."""
    book = tomllib.loads((HERE / "others.toml").read_text(encoding="utf-8"))
    symptoms: dict[str, list[str]] = book["symptoms"]
    return [
        Tool(
            name,
            entry["version"],
            entry["page"],
            entry["called"],
            {
                finding: tuple(dict.fromkeys(cause for shown in some for cause in symptoms[shown]))
                for finding, some in entry["findings"].items()
            },
        )
        for name, entry in book["tools"].items()
    ]


def codes_of_names() -> dict[str, str]:
    """Return the code of each cause by its name."""
    from traindoctor.registry import load_rules

    return {cause.name: code for code, cause in load_rules().causes.items()}


def table_of(run: Run) -> list[dict[str, str]]:
    """Return the rows of the CSV file: those of the loss in file order, and between them the steps of what is logged apart."""
    columns = {column: keyed(run.primary[quantity]) for quantity, column in COLUMNS.items() if quantity in run.primary}
    rows: dict[tuple[int, int], dict[str, str]] = {}
    for column, values in columns.items():
        for key, value in values.items():
            rows.setdefault(key, {"step": str(key[0])})[column] = repr(value)
    loss = list(columns.get("loss", {}))
    reached = list(accumulate((step for step, _ in loss), max))
    place = {key: i for i, key in enumerate(loss)}
    return [rows[key] for key in sorted(rows, key=lambda k: (place.get(k, bisect_right(reached, k[0]) - 0.5), k))]


def keyed(series: Series) -> dict[tuple[int, int], float]:
    """Return the values by (step, how often the step came before), in file order."""
    seen: Counter[int] = Counter()
    values: dict[tuple[int, int], float] = {}
    for step, value in zip(series.step.tolist(), series.value.tolist(), strict=True):
        values[step, seen[step]] = value
        seen[step] += 1
    return values


def write_table(folder: Path, file: Path) -> None:
    """Write the log of a run as CSV; nothing is written where no loss can be read, as nobody could say anything then."""
    from traindoctor.errors import TraindoctorError
    from traindoctor.readers.discover import read_runs

    try:
        runs = read_runs(folder)
    except TraindoctorError:
        return
    if runs and "loss" in runs[0].primary:
        with file.open("w", newline="", encoding="utf-8") as stream:
            logged = [column for quantity, column in COLUMNS.items() if quantity in runs[0].primary]
            table = csv.DictWriter(stream, ["step", *logged], restval="")
            table.writeheader()
            table.writerows(table_of(runs[0]))


def answer_of(found: Mapping[str, Any], tool: Tool, codes: Mapping[str, str]) -> Answer:
    """Return what a tool says in the shape of ours: each kind of finding once, in the tool's own order.

    Remarks (info) that count for no cause of ours are no answer.
    """
    first_step = {kind: step for kind, _, step in reversed(found["findings"])}
    kinds = list(dict.fromkeys(kind for kind, _, _ in found["findings"]))
    alarms = tuple(dict.fromkeys(kind for kind, severity, _ in found["findings"] if severity in ALARMS))
    meant = {kind: tuple(codes[name] for name in tool.counts_for[kind]) for kind in kinds}
    named = [kind for kind in kinds if meant[kind] or kind in alarms]
    onset = first_step[named[0]] if named else None
    return Answer(
        verdict="crash" if found["error"] else "suspicious" if named else "healthy",
        named=tuple(meant[kind] or (kind,) for kind in named),
        alarms=alarms,
        stated_onset=None if onset is None else int(onset),
        seconds=found["seconds"],
        error=found["error"],
    )


def scored(runs: Sequence[tuple[Path, Truth]], python: Path) -> dict[str, list[Row]]:
    """Return, for each tool, a row for each run."""
    codes = codes_of_names()
    silent = {"findings": [], "error": "", "seconds": 0.0}
    with tempfile.TemporaryDirectory() as held:
        for i, (folder, _) in enumerate(runs):
            write_table(folder, Path(held) / f"{i:06}.csv")
        table = {}
        for tool in tools():
            command = [str(python), str(HERE / "others_inside.py"), tool.name, held]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            said = json.loads(done.stdout)
            if said["version"] != tool.version:
                raise SystemExit(f"{tool.name} is {said['version']} there; others.toml maps the findings of {tool.version}")
            table[tool.name] = [
                Row(truth, answer_of(said["runs"].get(f"{i:06}", silent), tool, codes)) for i, (_, truth) in enumerate(runs)
            ]
    return table


def main() -> None:
    from score import runs_under, truth_of

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--python", type=Path, required=True, help="interpreter that has the tools installed")
    parser.add_argument("--only", default="*", help="glob over run names")
    parser.add_argument("--json", type=Path, help="write tool -> one object per run")
    options = parser.parse_args()
    table = scored([(run, truth_of(run)) for run in runs_under(options.folders, options.only)], options.python)
    for name, rows in table.items():
        known = [r for r in rows if r.truth.known]
        sound = [r for r in rows if r.truth.sound]
        print(
            f"{name}: first cause {share_of(known, lambda r: r.right)}, top three {share_of(known, lambda r: r.right_in_three)}, "
            f"alarms on sound runs {share_of(sound, lambda r: r.alarmed)}, crashed on {sum(bool(r.answer.error) for r in rows)}"
        )
        for kind, some in grouped(sound, lambda r: r.answer.alarms[0] if r.alarmed else "").items():
            if kind:
                print(f"  first alarm on sound runs: {kind}: {len(some)}")
    if options.json:
        rows_of = {name: [r.to_json() for r in rows] for name, rows in table.items()}
        options.json.write_text(json.dumps(rows_of, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
