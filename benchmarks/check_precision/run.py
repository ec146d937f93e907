"""Runs `traindoctor check` over public training repositories and sets its findings against the verdicts in judged.tsv.

    python benchmarks/check_precision/run.py --corpus FOLDER [--part tuning|opened|held-back|fresh] [--table findings.tsv]

FOLDER holds one checkout per repository of repos.tsv, named owner__name.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import os
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
COLUMNS = ("repo", "commit", "file", "line", "code", "severity", "verdict", "why", "text", "message")

#: What makes a Python file a training file: a backward pass, an optimizer that is built, or a call that trains.
OPTIMIZERS = {"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adamax", "Adadelta", "LBFGS", "Adafactor"}
TRAINING_WORDS = re.compile(r"\bbackward\(|\.fit\(|apply_gradients|training_step|" + "|".join(OPTIMIZERS))


#: Hints too, by the rules as they come, everything looked at anew.
ALL = ("--level", "info", "--fail-on", "never", "--isolated", "--no-cache")


@dataclass(frozen=True)
class Finding:
    """One finding, with the text of its line: a verdict holds as long as the line does."""

    repo: str
    file: str
    line: int
    code: str
    severity: str
    text: str
    message: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What a verdict is filed under."""
        return self.repo, self.file, self.code, self.text


def is_training_file(text: str) -> bool:
    """Return whether a file builds an optimizer, runs a backward pass, or calls what trains."""
    if not TRAINING_WORDS.search(text):
        return False
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return False
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in {"backward", "fit", "apply_gradients"} or name in OPTIMIZERS:
                return True
        elif isinstance(node, ast.FunctionDef) and node.name == "training_step":
            return True
    return False


def script_text(file: Path) -> str:
    """Return the code of a script, or that of the cells of a notebook, one after the other."""
    try:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".ipynb":
            cells = [c for c in json.loads(text).get("cells", []) if c.get("cell_type") == "code"]
            code = "\n".join("".join(c["source"]) for c in cells)
            return "\n".join(line for line in code.split("\n") if not line.lstrip().startswith(("%", "!")))
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return text


def line_of(file: Path, line: int, cell: int) -> str:
    """Return the text of a line, of a cell in a notebook."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
        lines = "".join(json.loads(text)["cells"][cell - 1]["source"]).split("\n") if cell else text.split("\n")
        return " ".join(lines[line - 1].split())
    except (OSError, ValueError, LookupError):
        return ""


def check(repo: str, root: Path, kept: Path | None = None) -> list[Finding]:
    """Return the findings of one repository: what is kept of an earlier run, or what `check` says now."""
    memory = kept / f"{root.name}.json" if kept else None
    if memory and memory.exists():
        said = memory.read_text(encoding="utf-8")
    else:
        call = [sys.executable, "-m", "traindoctor", "check", "--format", "json", *ALL, "."]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(call, capture_output=True, text=True, check=False, cwd=root, env=environment)
        said = done.stdout
        if not said.strip():
            print(f"{repo}: no output, exit {done.returncode}: {done.stderr[-500:]}", file=sys.stderr)
            return []
        if memory:
            memory.write_text(said, encoding="utf-8")
    found = []
    for entry in json.loads(said)["files"]:
        for finding in entry["findings"]:
            place = (finding["locations"] or [{}])[0]
            file, line = place.get("file") or entry["path"], place.get("line") or 0
            name = os.path.relpath(root / file, root)
            text = line_of(root / file, line, place.get("cell") or 0)
            found.append(
                Finding(repo, name, line, finding["code"], finding["severity"], text, " ".join(finding["message"].split()))
            )
    return found


def verdicts() -> dict[tuple[str, str, str, str], tuple[str, str]]:
    """Return the judged findings: right or wrong, and why."""
    file = HERE / "judged.tsv"
    if not file.exists():
        return {}
    with file.open(encoding="utf-8") as stream:
        rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {(r["repo"], r["file"], r["code"], r["text"]): (r["verdict"], r["why"]) for r in rows if r["verdict"]}


def main() -> None:
    """Check, count, set against the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--part", choices=("tuning", "opened", "held-back", "fresh"), help="only the repositories of this part")
    parser.add_argument(
        "--kept", type=Path, help="folder for what check says of each repository; taken from there when it is there"
    )
    parser.add_argument("--workers", type=int, default=2, help="repositories checked at the same time")
    parser.add_argument("--table", type=Path, help="write every finding, with its verdict where there is one")
    options = parser.parse_args()
    with (HERE / "repos.tsv").open(encoding="utf-8") as stream:
        listed = [row for row in csv.DictReader(stream, delimiter="\t") if options.part in (None, row["part"])]
    commits = {row["repo"]: row["commit"] for row in listed if (options.corpus / row["repo"].replace("/", "__")).is_dir()}
    names = list(commits)
    known = verdicts()
    folders = {name: options.corpus / name.replace("/", "__") for name in names}
    with ThreadPoolExecutor(options.workers) as pool:
        results = dict(zip(names, pool.map(lambda name: check(name, folders[name], options.kept), names), strict=True))

    training, seen, verdict_count = Counter(), Counter(), Counter()
    wrong_by_code, right_by_code, open_ones = Counter(), Counter(), []
    rows = []
    print(f"{'repository':62} training files   error warning    info")
    for name, found in results.items():
        files = [f for f in folders[name].rglob("*") if f.suffix in {".py", ".ipynb"} and f.is_file()]
        training[name] = sum(is_training_file(script_text(f)) for f in files)
        by_severity = Counter(f.severity for f in found)
        seen.update(by_severity)
        print(f"{name:62} {training[name]:14d} {by_severity['error']:7d} {by_severity['warning']:7d} {by_severity['info']:7d}")
        for finding in found:
            verdict, why = known.get(finding.key, ("", ""))
            rows.append(
                (
                    finding.repo,
                    commits[name],
                    finding.file,
                    finding.line,
                    finding.code,
                    finding.severity,
                    verdict,
                    why,
                    finding.text,
                    finding.message,
                )
            )
            if finding.severity == "info":
                continue
            verdict_count[verdict or "not judged"] += 1
            {"right": right_by_code, "wrong": wrong_by_code}.get(verdict, Counter())[finding.code] += 1
            if not verdict:
                open_ones.append(finding)
    total = sum(training.values())
    right, wrong, unjudged = (verdict_count[v] for v in ("right", "wrong", "not judged"))
    print(f"\n{total} training files; errors and warnings: {right} right, {wrong} wrong, {unjudged} not judged")
    if right + wrong:
        share, rate = 100 * right / (right + wrong), 100 * wrong / max(total, 1)
        print(f"precision {share:.1f} %, wrong per 100 training files {rate:.2f}")
    print("\ncode   right wrong  open")
    for code in sorted({*right_by_code, *wrong_by_code, *(f.code for f in open_ones)}):
        print(f"{code}  {right_by_code[code]:5d} {wrong_by_code[code]:5d} {sum(f.code == code for f in open_ones):5d}")
    if options.table:
        with options.table.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, delimiter="\t", quoting=csv.QUOTE_NONE, escapechar=None, quotechar=None)
            writer.writerow(COLUMNS)
            writer.writerows([str(cell).replace("\t", " ").replace("\n", " ") for cell in row] for row in rows)


if __name__ == "__main__":
    main()
