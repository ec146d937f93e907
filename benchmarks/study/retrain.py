"""Apply the first fix of each finding to the run's own plan, train again, and say whether the fault is gone.

python benchmarks/study/retrain.py STUDY/tuning --part tuning [--only GLOB] [--codes TD101,TD201]

Repaired means: by the measure by which the fault counted, the fixed run is less than `--harm` times as bad as its sound twin (for
a rebound: it does not end 100 times above its own best). A fix of settings is taken at its word; a fix of code (zero_grad)
is the sound loop.
"""

from __future__ import annotations

import argparse
import fnmatch
import math
import sys
import warnings
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from generate import cases, harm, rebounds, summary
from training import Plan, train

from traindoctor.diagnose import diagnose

if TYPE_CHECKING:
    from traindoctor.model import Fix


def fixed(plan: Plan, fix: Fix) -> Plan | None:
    """The plan with the fix in it; None when the fix names nothing that a plan has."""
    if not fix.settings:
        hook = {k: v for k, v in plan.hook.items() if "zero" not in k}
        return replace(plan, hook=hook) if hook != plan.hook else None
    kw, changed = dict(plan.kw), plan
    for key, value in fix.settings.items():
        match key:
            case "optimizer.lr":
                changed = replace(changed, lr=float(str(value)))
            case "optimizer.eps" | "optimizer.amsgrad" | "optimizer.betas":
                kw[key.partition(".")[2]] = value
            case "schedule.name":
                changed = replace(changed, schedule=str(value))
            case "gradient.clip_norm":
                changed = replace(changed, clip=float(str(value)))
            case "precision":
                changed = replace(changed, hook={k: v for k, v in plan.hook.items() if k != "half"})
            case _:
                return None
    return replace(changed, kw=kw)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--part", choices=("tuning", "held-back"), default="tuning")
    parser.add_argument("--only", default="*")
    parser.add_argument("--codes", default="TD101,TD102,TD103,TD201,TD202,TD301,TD302")
    parser.add_argument("--harm", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=20.0, help="leave out plans that took longer")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    twins: dict[str, dict[str, Any]] = {}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases(options.part):
        folder = options.study / case.name
        if not case.fault or not fnmatch.fnmatch(case.name, options.only) or not (folder / "label.json").exists():
            continue
        run = diagnose([folder]).runs[0]
        named = [f for f in run.findings if f.severity != "info"]
        if not named or named[0].code not in options.codes.split(",") or not named[0].fixes:
            continue
        fix = named[0].fixes[0]
        plan = fixed(case.plan, fix)
        if plan is None:
            counts[named[0].code]["not applicable"] += 1
            continue
        if case.twin is not None and case.twin.key not in twins:
            twins[case.twin.key] = summary(train(case.twin, 10**9))
        twin = twins[case.twin.key] if case.twin is not None else None
        mine = summary(train(plan, 10**9))
        was = summary(train(case.plan, 10**9))
        ratio = harm(case, mine, twin)
        if case.measure == "rebound" or twin is None or not math.isfinite(ratio):
            good = mine["finite"] and not rebounds(mine) and mine["tail"] <= was.get("tail", math.inf)
        else:
            good = ratio < options.harm
        worse = not mine["finite"] if was["finite"] else False
        worse = worse or (mine["finite"] and was["finite"] and mine["tail_max"] > 1.5 * was["tail_max"])
        better = mine["finite"] and not worse and (not was["finite"] or mine["tail"] < 0.7 * was["tail"])
        word = "repaired" if good else "worse" if worse else "better, not repaired" if better else "no change"
        said = fix.replay.verdict
        counts[named[0].code][word] += 1
        counts[f"{named[0].code} where the replay said {said}"][word] += 1
        print(
            f"{case.name:38} {case.fault:22} {named[0].code} {fix.title[:44]:44} {said:10} ratio {ratio:9.3g} {word}", flush=True
        )
    for code, words in sorted(counts.items()):
        total = sum(n for w, n in words.items() if w != "not applicable")
        print(f"{code}: {words['repaired']} of {total} repaired; {dict(words)}")


if __name__ == "__main__":
    main()
