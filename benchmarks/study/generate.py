"""Train many short runs, sound ones and ones with a known fault, and write what a log would have shown.

python benchmarks/study/generate.py --out /tmp/study --part tuning
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import random
import shutil
import sys
import time
import warnings
import zlib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import torch
from classic import classic_cases
from faults import FAULTS, SOUND
from faults.declare import Fault, Sound
from habits import habit_of, write_run
from harm import Case, benign, harm, rebounds, sound, summary
from recipes import Recipe, recipes
from training import train

#: Codes of the faults of `classic.py`.
FIRST_CODE = {
    "second-moment-collapse": "TD101",
    "epsilon-too-small": "TD102",
    "epsilon-too-large": "TD103",
    "lr-too-high": "TD201",
    "lr-too-low": "TD202",
    "zero-grad-missing": "TD301",
    "zero-grad-misplaced": "TD302",
    "non-finite": "TD401",
}
#: How many seeds a declared fault or sound style gets at most on one recipe.
SEEDS = 3


def cases(part: str) -> list[Case]:
    """All runs of a part; the ones that turn out harmless, or not sound, are dropped later."""
    out = classic_cases(part)
    for one in (*FAULTS, *SOUND):
        out += crossed(one, recipes(part), part)
    names = Counter(case.name for case in out)
    twice = [name for name, n in names.items() if n > 1]
    if twice:
        raise ValueError(f"run names are not unique: {twice[:5]}")
    random.Random(1).shuffle(out)
    return out


def crossed(one: Fault | Sound, table: dict[str, Recipe], part: str) -> list[Case]:
    """Return the runs of one declared fault, or sound style, on the recipes that suit it; other draws in each part."""
    draw = random.Random(f"{one.name} {part}")
    suiting = [(r, i) for r in table.values() if r.is_like(*one.suits) for i in range(len(r.optimizers))]
    suiting = [(r, i) for r, i in suiting if not one.optimizers or r.optimizers[i][0] in one.optimizers]
    draw.shuffle(suiting)
    out: list[Case] = []
    for turn, (recipe, i) in enumerate(suiting * SEEDS):
        if len(out) == (one.runs if part == "tuning" else one.held_back):
            break
        label = f"{recipe.key}-{one.name}-{turn}"
        base = {"tuning": 1000, "held-back": 5000, "held-back-2": 9000}[part]
        plan = recipe.plan(i, base + zlib.crc32(label.encode()) % 3000)
        changed = one.change(plan, recipe, draw)
        if changed is None:
            continue
        if isinstance(one, Sound):
            out.append(Case(f"{recipe.key}-sound-{one.name}-{turn}", changed, None, plan if one.compare else None,
                            "flat" if one.flat else "loss", habit=dict(one.habit), family=one.family))  # fmt: skip
            continue
        faulty, twin = changed if isinstance(changed, tuple) else (changed, plan)
        onset = one.onset(faulty) if one.onset is not None else None
        out.append(Case(label, faulty, one.name, twin, one.measure, one.least, dict(one.habit), one.codes, one.also, onset,
                        one.family))  # fmt: skip
    return out


@dataclass(frozen=True)
class Outcome:
    """What became of one case: a fault that was written, "sound", or why it was dropped."""

    name: str
    said: str
    dropped: str = ""


def make(case: Case, out: Path, part: str) -> Outcome:
    """Train one case and its twin, and write the run if it is what it is meant to be."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    folder = out / case.name
    shutil.rmtree(folder, ignore_errors=True)
    started = time.process_time()
    plan = case.plan
    per_epoch = {"mlp-digits": 22, "cnn-digits": 22, "autoencoder": 22}.get(plan.task, 10)
    habit = habit_of(case.name, plan, per_epoch, case.habit)
    try:
        twin = summary(train(case.twin, 10**9)) if case.twin is not None else None
        trace = train(plan, habit.every or 1, habit.tier >= 3)
    except (RuntimeError, ValueError) as error:
        return Outcome(case.name, case.fault or "sound", f"failed: {error}")
    if habit.every == 0 and (trace.steps_per_epoch < 4 or plan.steps < 8 * trace.steps_per_epoch):
        habit = replace(habit, every=max(1, plan.steps // 200))
    mine = summary(trace)
    ratio = harm(case, mine, twin) if case.fault else math.nan
    why = sound(case, mine, twin) if not case.fault else ""
    fault, note = case.fault, ""
    if case.fault and not ratio >= case.least:
        why = f"harmless: {ratio:.3g}"
        if case.fault == "lr-too-high" and benign(mine, twin, ratio):  # a high rate that does no harm is a sound run
            fault, why, note = None, "", f"lr too high in name only: {plan.lr:g} against {case.twin.lr:g}"
    if fault and twin is not None and not (twin["finite"] and twin["tail"] < 0.9 * twin["initial"]) and case.measure != "present":
        why = "the twin is not sound"
    if why:
        return Outcome(case.name, case.fault or "sound", why)
    codes = list(case.codes) or ([FIRST_CODE[fault]] if fault in FIRST_CODE else [])
    if fault == "lr-too-high" and mine["finite"] and rebounds(mine) and mine["best_step"] < 0.8 * plan.steps:
        fault, codes = "lr-too-high-then-rebound", ["TD101", "TD201"]  # it did fit first: both are right, and both fixes work
    seen = np.isfinite(trace.loss[:: habit.every or trace.steps_per_epoch]).sum()
    blind = (
        fault == "lr-too-high"
        and not mine["finite"]
        and (seen < 4 or (habit.every == 0 and mine["first_non_finite"] < 4 * trace.steps_per_epoch))
    )
    if blind:  # it died between two logged points: that it is not finite is all that a log can say
        codes = ["TD201", "TD401"]
    label: dict[str, Any] = {
        "task": plan.task,
        "fault": fault,
        "expected": codes + [code for code in case.also if fault],
        "expected_all": [codes, list(case.also)] if case.also and fault else [codes] if codes else [],
        "severity": "error" if codes else None,
        "family": case.family,
        "seed": plan.seed,
        "part": part,
        "tier": habit.tier,
        "onset": case.onset,
        "tail": mine,
        "twin": twin,
        "measure": case.measure,
        "worse_than_twin": ratio,
        "blind": blind,
        "note": note,
        "hook": plan.hook,
        "schedule": plan.schedule,
        "clip": plan.clip,
        "seconds": round(time.process_time() - started, 2),
    }
    write_run(folder, plan, habit, trace, label)
    return Outcome(case.name, fault or "sound")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=("tuning", "held-back", "held-back-2"), default="tuning")
    parser.add_argument("--only", default="*", help="glob over run names; runs already there are kept")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--retry", action="store_true", help="train again what was dropped before")
    options = parser.parse_args()
    begun = time.monotonic()
    options.out.mkdir(parents=True, exist_ok=True)
    notes = options.out / "dropped.jsonl"
    gone = set() if options.retry or not notes.exists() else {json.loads(line)["name"] for line in notes.read_text().splitlines()}
    wanted = [
        case
        for case in cases(options.part)
        if fnmatch.fnmatch(case.name, options.only)
        and not (options.out / case.name / "label.json").exists()
        and case.name not in gone
    ]
    counts: Counter[str] = Counter()
    with notes.open("w" if options.retry else "a") as stream, ProcessPoolExecutor(options.jobs) as pool:
        outcomes = pool.map(make, wanted, [options.out] * len(wanted), [options.part] * len(wanted), chunksize=4)
        for outcome in outcomes:
            if outcome.dropped:
                stream.write(json.dumps({"name": outcome.name, "fault": outcome.said, "why": outcome.dropped}) + "\n")
            counts["dropped" if outcome.dropped else outcome.said] += 1
            print(f"{outcome.name:44} {outcome.said:28} {outcome.dropped}", flush=True)
    print(f"{len(wanted)} runs tried in {time.monotonic() - begun:.0f} s: {dict(counts.most_common())}")


if __name__ == "__main__":
    main()
