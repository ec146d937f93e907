"""What `traindoctor check` costs: against bare Python for one file, against other linters for a tree of 100 training files.

    python benchmarks/check/run.py [--tools FOLDER] [--rounds N]

Prints CPU time, user and system, of whole processes and their children: medians of N rounds, in which the programs take turns.
`--tools`: a folder with two virtual environments, `linters` (ruff, flake8) and `torchfix`, which flake8 would load as a plugin;
made with pip in the temporary folder if none is given.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
N_FILES = 100
MAX_LINES = 1_500
SMALL = """import torch
from torch import nn

model = nn.Linear(10, 1)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(10):
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
"""


def training_files():
    """Return 100 files that train: seeds of the mutation study, scripts of fixtures and benchmarks, then of the torch package."""
    import torch

    package = Path(torch.__file__).parent
    found = []
    for folder in (ROOT / "benchmarks/check_mutants/seeds", ROOT / "fixtures", ROOT / "benchmarks", package):
        for path in sorted(folder.rglob("*.py")):
            text = path.read_text(encoding="utf-8", errors="replace")
            if ".backward(" in text and "optim" in text and text.count("\n") <= MAX_LINES and path not in found:
                found.append(path)
    return found[:N_FILES]


def tree_at(folder):
    """Copy the files into a folder of their own, flat; return how many lines they have."""
    folder.mkdir()
    n_lines = 0
    for i, path in enumerate(training_files()):
        shutil.copyfile(path, folder / f"{i:03}_{path.name}")
        n_lines += path.read_text(encoding="utf-8", errors="replace").count("\n")
    return n_lines


def tools_at(folder):
    """Make the virtual environments of the other linters."""
    for name, packages in (("linters", ("ruff", "flake8")), ("torchfix", ("torchfix",))):
        subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
        subprocess.run([folder / name / "bin/pip", "install", "-q", *packages], check=True)
    return folder


def cpu_ms(command, cwd, env):
    """Return user and system milliseconds of a process and its children."""
    process = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode in (0, 1), (command, process.returncode)
    return 1e3 * (usage.ru_utime + usage.ru_stime)


def medians(commands, cwd, env, rounds, before=None):
    """Return name -> median CPU of commands that take turns; the first turn of each warms up, and is not counted."""
    times = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            if before is not None:
                before(name)
            spent = cpu_ms(command, cwd, env)
            if turn:
                times[name].append(spent)
    return {name: statistics.median(spent) for name, spent in times.items()}


def table(head, rows):
    """Print rows of words, the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        print("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tools", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        tools = given.tools or tools_at(work / "tools")
        (work / "small.py").write_text(SMALL)
        n_lines = tree_at(work / "tree")
        cache = work / "cache"
        # Byte code is written once, as after an installation, whatever the environment says.
        env = {**os.environ, "PYTHONPYCACHEPREFIX": str(work / "pyc"), "TRAINDOCTOR_CACHE_DIR": str(cache)}
        env.pop("PYTHONDONTWRITEBYTECODE", None)
        ours = [Path(sys.executable).with_name("traindoctor"), "check"]

        def clear(name):
            if "cold" in name:
                shutil.rmtree(cache, ignore_errors=True)

        small = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "check small.py, cold cache": [*ours, "small.py"],
            "check small.py, warm cache": [*ours, "small.py"],
        }
        spent = medians(small, work, env, given.rounds, clear)
        bare = spent["python -c pass"]
        print("One small file\n")
        table(["program", "CPU ms", "times python"], [[n, f"{ms:.1f}", f"{ms / bare:.1f}"] for n, ms in spent.items()])

        tree = {
            "check, no cache": [*ours, "--no-cache", "tree"],
            "check, cold cache": [*ours, "tree"],
            "check, warm cache": [*ours, "tree"],
            "ruff": [tools / "linters/bin/ruff", "check", "--isolated", "--no-cache", "-q", "tree"],
            "flake8": [tools / "linters/bin/flake8", "--isolated", "--select", "E,F,W", "-j", "1", "tree"],
            "torchfix": [tools / "torchfix/bin/torchfix", "--select", "ALL", "tree"],
        }
        spent = medians(tree, work, env, max(3, given.rounds // 5), clear)
        first = spent["check, no cache"]
        rows = [[n, f"{ms:,.0f}", f"{(ms - bare) / N_FILES:.2f}", f"{ms / first:.2f}"] for n, ms in spent.items()]
        print(f"\n{N_FILES} training files, {n_lines:,} lines\n")
        table(["program", "CPU ms", "ms a file", "times check"], rows)


if __name__ == "__main__":
    main()
