"""How many patches of generated configs `git apply` takes, and whether they change their lines and nothing else.

python benchmarks/patches/run.py            # all cases, half a minute
python benchmarks/patches/run.py --seed 7   # other layouts
"""

import argparse
import difflib
import math
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from generate import as_read, cases, command_holds, expected, script_holds

from traindoctor.beside import patch_of_settings, read_beside, with_settings
from traindoctor.configs import load_settings
from traindoctor.model import Run


def run_of(folder, name):
    """Return a run without logs, whose one file holds its settings."""
    is_script = name == "train.py"
    settings, _ = load_settings([] if is_script else [folder / name], folder)
    run = Run(
        name="run",
        path=".",
        root=str(folder),
        series=(),
        primary={},
        settings=settings,
        config_files=() if is_script else (name,),
        code_files=(name,) if is_script else (),
    )
    return with_settings(run, read_beside(run))


def fault(case, folder):
    """Return what is wrong with the patch of a case; "" when git takes it and it does what it should and nothing more."""
    (folder / case.name).write_bytes(case.text.encode())
    run = run_of(folder, case.name)
    made = patch_of_settings(run, {case.setting: case.value}, read_beside(run))
    if made.patch is None:
        return f"no patch: {made.reason}"
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", "-"], cwd=folder, input=made.patch.encode(), capture_output=True, check=False
    )
    if done.returncode:
        return f"git apply: {done.stderr.decode()}"
    return wrong(case, (folder / case.name).read_bytes().decode())


def wrong(case, after):
    """Return what is wrong with the text after the change; "" when it says what it should, in lines that had to change."""
    if case.name.endswith(".sh"):
        holds = command_holds(case, after)
    elif case.name == "train.py":
        holds = script_holds(case, after)
    else:
        holds = same(as_read(case.name, after), expected(case))
    if not holds:
        return "the file says something else than it should"
    return lines_fault(case, after)


def same(one, other):
    """Return whether two readings of a config are one, numbers that are no whole ones to six digits, kinds alike."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6)
    return type(one) is type(other) and one == other


def lines_fault(case, after):
    """Return what changed beyond the value or the new key; "" for nothing."""
    old, new = (text.splitlines(keepends=True) for text in (case.text, after))
    blocks = [code for code in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if code[0] != "equal"]
    if len(blocks) != 1:
        return f"{len(blocks)} places changed"
    _, i, j, k, m = blocks[0]
    if j - i > 1 or m - k > 1 + case.added or (not case.added and m - k != 1):
        return f"{j - i} lines became {m - k}"
    gone, come = "".join(old[i:j]), "".join(new[k:m])
    head = len(os_prefix(gone, come))
    tail = len(os_prefix(gone[head:][::-1], come[head:][::-1]))
    if case.added:
        rest = gone[head : len(gone) - tail]
        return "" if not rest.strip() else f"{rest!r} went with a new key"
    spelt = gone[head : len(gone) - tail] + come[head : len(come) - tail]
    words = case.setting == "optimizer.name"
    return "" if words or all(c in "0123456789.eE+-" for c in spelt) else f"{gone!r} became {come!r}"


def os_prefix(one, other):
    n = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one[:n]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print each case that fails")
    options = parser.parse_args()
    total, good = Counter(), Counter()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
        for case in cases(options.seed):
            kind = case.name if case.name == "train.py" else case.name.rpartition(".")[2]
            key = kind, "added" if case.added else "changed"
            place = folder / f"{sum(total.values())}"
            place.mkdir()
            why = fault(case, place)
            total[key] += 1
            good[key] += not why
            if why:
                print(f"{case.name}: {case.setting} = {case.value}: {why}")
                if options.show:
                    print(case.text)
    print(f"{'file':<10} {'key':<8} {'cases':>6} {'right':>6}")
    for key in sorted(total):
        print(f"{key[0]:<10} {key[1]:<8} {total[key]:>6} {good[key]:>6}")
    print(f"{'all':<10} {'':<8} {sum(total.values()):>6} {sum(good.values()):>6}")
    sys.exit(sum(total.values()) != sum(good.values()))


if __name__ == "__main__":
    main()
