"""Apply the first fix of each first finding to the run's own plan, train again, and say whether the fault is gone.

python benchmarks/study/retrain.py STUDY/tuning --part tuning [--only GLOB] [--codes TD101,TD201] [--most 8] [--jobs 2]

Repaired means: by the measure by which the fault counted, the run with the fix does less than the harm from which a fault
counts (for a rebound: it does not end 100 times above its own best). A fix of settings is taken at its word. A fix of the code
(clear the gradients, shuffle) is the loop without the fault, if the cause that it belongs to is the right one; else it changes
nothing. A fix that asks to look (log this, check that) repairs nothing and is counted so.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import sys
import warnings
import zlib
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))

import torch
from generate import cases
from harm import Case, harm, rebounds, summary
from training import Plan, train

from traindoctor.pipeline import diagnose

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Hooks that a change of precision takes out.
NUMBERS = frozenset(
    {"half", "bf16", "amp", "precision", "brain", "bf16_moments", "half_loss", "fixed_scale", "growing", "overflows"}
)
#: Hooks that are a schedule of their own, and the settings that are numbers of one.
SCHEDULES = frozenset({"law", "on_plateau", "schedule_settings"})
LAW = {"schedule.total_steps": "total", "schedule.warmup_steps": "warmup"}


class Retrained(NamedTuple):
    """What became of one run: the code that was named, its fix, what the replay had said of it, and the outcome in a word."""

    name: str
    fault: str
    code: str
    fix: str
    said: str
    ratio: float
    word: str


def with_settings(plan: Plan, settings: Mapping[str, object]) -> Plan | None:
    """Return the plan with settings in it; None when one of them is nothing that a plan has."""
    kw, changed = dict(plan.kw), plan
    for key, value in settings.items():
        head, _, name = key.partition(".")
        if key == "optimizer.lr":
            changed = replace(changed, lr=float(str(value)))
        elif key == "optimizer.name":
            changed = replace(changed, optimizer=str(value).lower())
        elif head == "optimizer":
            kw[name] = tuple(value) if isinstance(value, list) else value
        elif key == "schedule.name":
            plain = {k: v for k, v in changed.hook.items() if k not in SCHEDULES}
            changed = replace(changed, schedule={"constant": ""}.get(str(value), str(value)), hook=plain)
        elif key in LAW and "law" in changed.hook:
            law = changed.hook["law"] | {LAW[key]: int(str(value))}
            changed = replace(changed, hook=changed.hook | {"law": law})
        elif key == "schedule.warmup_steps":
            rest = "" if changed.schedule in ("", "constant") else changed.schedule
            share = float(str(value)) / plan.steps
            changed = replace(changed, schedule=f"warmup-cosine:{share:.4f}" if "cosine" in rest else f"warmup:{value}")
        elif key == "gradient.clip_norm":
            changed = replace(changed, clip=float(str(value)) if value else None)
        elif key == "gradient.accumulation_steps":
            changed = replace(changed, accumulate=int(str(value)))
        elif key == "batch_size":
            changed = replace(changed, task_kw=plan.task_kw | {"batch": int(str(value))})
        elif key == "precision":
            changed = replace(changed, hook={k: v for k, v in plan.hook.items() if k not in NUMBERS})
        elif key in ("steps", "epochs"):
            share = float(str(value)) / (plan.steps if key == "steps" else 1.0)
            changed = replace(changed, steps=max(1, int(plan.steps * share))) if key == "steps" else changed
        else:
            return None
    return replace(changed, kw=kw)


def retrained(case: Case, folder: Path) -> Retrained | None:
    """Return what the first fix of the first finding did to a run; None where nothing was named."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    named = [f for f in diagnose([folder]).runs[0].findings if f.severity != "info"]
    if not named:
        return None
    first, expected = named[0], json.loads((folder / "label.json").read_text())["expected"]
    right = first.code in expected
    if not first.fixes:
        return Retrained(case.name, str(case.fault), first.code, "none", "", math.nan, "no fix")
    fix = first.fixes[0]
    sound = case.twin if case.twin is not None else replace(case.plan, hook={})
    plan = with_settings(case.plan, fix.settings) if fix.settings else sound if right else case.plan
    if plan is None:
        return Retrained(case.name, str(case.fault), first.code, fix.title, fix.replay.verdict, math.nan, "not applicable")
    twin = summary(train(case.twin, 10**9)) if case.twin is not None else None
    try:
        mine = summary(train(plan, 10**9))
    except (RuntimeError, ValueError, TypeError) as error:  # the optimizer does not take the setting
        word = f"refused: {error}"[:40]
        return Retrained(case.name, str(case.fault), first.code, fix.title, fix.replay.verdict, math.nan, word)
    was = summary(train(case.plan, 10**9))
    ratio = harm(case, mine, twin)
    if case.measure == "present":
        good = right and not fix.settings
    elif case.measure == "rebound" or twin is None or not math.isfinite(ratio):
        good = mine["finite"] and not rebounds(mine) and mine["tail"] <= was.get("tail", math.inf)
    else:
        good = ratio < case.least
    return Retrained(case.name, str(case.fault), first.code, fix.title, fix.replay.verdict, ratio, _word(good, mine, was))


def _word(good: bool, mine: dict[str, Any], was: dict[str, Any]) -> str:
    """Return the outcome in a word."""
    if good:
        return "repaired"
    if was["finite"] and (not mine["finite"] or mine["tail_max"] > 1.5 * was["tail_max"]):
        return "worse"
    if mine["finite"] and (not was["finite"] or mine["tail"] < 0.7 * was["tail"]):
        return "better, not repaired"
    return "no change"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--part", choices=("tuning", "held-back"), default="tuning")
    parser.add_argument("--only", default="*")
    parser.add_argument("--codes", default="", help="only findings with these codes")
    parser.add_argument("--most", type=int, default=10**9, help="runs of one fault, drawn by their names")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    by_fault: dict[str, list[Case]] = defaultdict(list)
    for case in sorted(cases(options.part), key=lambda c: zlib.crc32(c.name.encode())):
        written = (options.study / case.name / "label.json").exists()
        if case.fault and written and fnmatch.fnmatch(case.name, options.only) and len(by_fault[case.fault]) < options.most:
            by_fault[case.fault].append(case)
    wanted = [case for some in by_fault.values() for case in some]
    with ProcessPoolExecutor(options.jobs) as pool:
        found = list(pool.map(retrained, wanted, [options.study / case.name for case in wanted], chunksize=2))
    rows = [r for r in found if r is not None and (not options.codes or r.code in options.codes.split(","))]
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for r in rows:
        print(f"{r.name:40} {r.fault:26} {r.code} {r.fix[:48]:48} {r.said:10} ratio {r.ratio:9.3g} {r.word}")
        counts[r.code][r.word] += 1
        counts["all"][r.word] += 1
        if r.said:
            counts[f"where the replay said {r.said}"][r.word] += 1
    print(f"\n{len(wanted)} runs with a fault, {len(rows)} with a named cause")
    for code, words in sorted(counts.items()):
        print(f"{code}: {words['repaired']} of {words.total()} repaired; {dict(words.most_common())}")
    if options.json:
        options.json.write_text(json.dumps([r._asdict() for r in rows], indent=1))


if __name__ == "__main__":
    main()
