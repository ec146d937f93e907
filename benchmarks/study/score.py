"""Diagnose every run of a study and count: causes found, causes missed, false alarms.

PYTHONPATH=.:rules python benchmarks/study/score.py STUDY/tuning [--json rows.json] [--only GLOB] [--jobs 2]

With `--write docs/accuracy.md` the counts become that page and its picture; with `--others PYTHON`, an interpreter that has
the other log doctors installed, they are scored on the same runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import traceback
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from accuracy import (
    TIERS,
    Answer,
    Row,
    Share,
    Truth,
    calibration_error,
    grouped,
    onset_error,
    reliability,
    share_of,
    stated,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from traindoctor.model import Finding, RunReport
    from traindoctor.rule import Cause

ALARMS = ("error", "warning")
#: What stands before the style in names like ae-adam0-restarts and exact4-linreg-exact-short.
BEFORE_STYLE = re.compile(
    r"^[a-z]+\d*-(?:(?:adam|adamw|sgd|sgdm|rmsprop|adagrad)\d*(?:-|$)|(?:linreg-exact|mlp-exact|multitask|factorisation|deep-linear)-)?"
)


def truth_of(folder: Path) -> Truth:
    """Return what the label of a run says."""
    label = json.loads((folder / "label.json").read_text(encoding="utf-8"))
    logging = label.get("logging") or {}
    fault = label.get("fault") or ""
    groups = tuple(tuple(group) for group in label.get("expected_all") or ())
    several = groups if len(groups) > 1 else ()
    return Truth(
        name=folder.name,
        fault=fault,
        expected=tuple(dict.fromkeys(code for group in several for code in group)) or tuple(label.get("expected") or ()),
        tier=int(label["tier"]),
        part=str(label["part"]),
        family=str(label.get("family") or ""),
        style="" if fault else style_of(folder.name, str(label.get("note") or "")),
        expected_all=several,
        onset=label.get("onset"),
        steps=int(label.get("steps") or 0),
        worse=label.get("worse_than_twin"),
        form=str(logging.get("form", "")),
        every=int(logging.get("every") or 0),
        config=bool(logging.get("config")),
        damage=str(logging.get("damage") or ""),
    )


def style_of(name: str, note: str) -> str:
    """Return in what way a sound run is unusual: the end of its name after `<recipe>-sound-`, or after task and optimizer.

    A sound run with a note had a fault that did no harm.
    """
    if note:
        return "fault without harm"
    style = name.partition("-sound")[2] if "-sound" in name else BEFORE_STYLE.sub("", name)
    return re.sub(r"[-\d.]+$", "", style.strip("-")) or "plain"


def answer_of(report: RunReport, causes: Mapping[str, Cause], expected: Sequence[str], seconds: float) -> Answer:
    """Return what a report says: its alarms first, then what it is sure of and calls no alarm.

    A remark on the log itself (a window mean, a repeated step) competes with no cause, and is an answer only where it is an alarm
    or what was asked for.
    """
    from traindoctor.differential import MENTIONED, NAMED

    heads = [f for f in report.findings if f.severity in ALARMS or not causes[f.code].standalone or f.code in expected]
    alarms = [f for f in heads if f.severity in ALARMS]
    sure = [f for f in heads if f.severity not in ALARMS and f.confidence >= NAMED]
    doubted = [f for f in heads if f.severity not in ALARMS and f.confidence < NAMED]
    named = [*alarms, *sure]
    leading: list[Finding] = (named or doubted)[:1]
    return Answer(
        verdict=report.verdict,
        named=tuple((f.code,) for f in named),
        candidates=tuple((f.code,) for f in doubted) if not named else (),
        also=tuple((r.code,) for f in leading for r in f.rivals if r.confidence >= MENTIONED),
        alarms=tuple(f.code for f in alarms),
        confidence=round(float(leading[0].confidence), 4) if leading else None,
        stated_onset=onset_in_steps(report, leading[0]) if leading else None,
        seconds=seconds,
    )


def onset_in_steps(report: RunReport, finding: Finding) -> int | None:
    """Return the onset of a finding; None where it has none, or where the log counts epochs."""
    return finding.segment.onset if finding.segment is not None and report.run.step_unit == "step" else None


def examine(folder: Path) -> Row:
    """Return one row: what is true of a run, and what was said of it."""
    from traindoctor.pipeline import DiagnoseOptions, diagnose
    from traindoctor.registry import load_rules

    truth = truth_of(folder)
    begun = time.perf_counter()
    try:
        report = diagnose([folder], DiagnoseOptions())
        if not report.runs:
            raise RuntimeError("no run found")
        seconds = round(time.perf_counter() - begun, 3)
        return Row(truth, answer_of(report.runs[0], load_rules().causes, truth.expected, seconds))
    except Exception:  # a crash is a row of the result
        return Row(truth, Answer("crash", seconds=round(time.perf_counter() - begun, 3), error=traceback.format_exc(limit=-3)))


def examined(runs: Sequence[Path], jobs: int) -> list[Row]:
    """Return a row for each run."""
    if jobs <= 1:
        return [examine(run) for run in runs]
    with ProcessPoolExecutor(jobs) as pool:
        return list(pool.map(examine, runs, chunksize=4))


def runs_under(folders: Sequence[Path], only: str) -> list[Path]:
    """Return the folders of runs with a label whose name matches."""
    return sorted(p.parent for folder in folders for p in folder.glob(f"{only}/label.json"))


def show(rows: Sequence[Row]) -> None:
    """Print what a person who works on the rules wants to see: every miss and every alarm with its run."""
    crashed = [r for r in rows if r.answer.error]
    for text, some in grouped(crashed, lambda r: r.answer.error.strip().splitlines()[-1]).items():
        print(f"{len(some)} of {len(rows)} runs crashed: {text[:150]}   e.g. {some[0].truth.name}\n{some[0].answer.error}")
    known = [r for r in rows if r.truth.known]
    print(f"\nFaults with a rule: first cause right {_right(known)}, among the first three {_in_three(known)}")
    for tier, some in grouped(known, lambda r: str(r.truth.tier)).items():
        halves = share_of(some, lambda r: r.points)
        print(
            f"  tier {tier} ({TIERS[int(tier)]}): {_right(some)} = {_right(some).value:.1%}, top three {_in_three(some)}, "
            f"a right pair for a half {halves} = {halves.value:.1%}"
        )
    print(f"\n{'fault':34} {'first':>9} {'top 3':>9} {'pair':>5}   {'first by tier 1 / 2 / 3':26} with / without config")
    for fault, some in grouped(known, lambda r: r.truth.fault).items():
        tiers = " / ".join(str(_right([r for r in some if r.truth.tier == tier])) for tier in TIERS)
        config = " / ".join(str(_right([r for r in some if r.truth.config is on])) for on in (True, False))
        pairs = sum(r.right_pair for r in some)
        print(f"{fault:34} {_right(some)!s:>9} {_in_three(some)!s:>9} {pairs:5}   {tiers:26} {config}")
    print("\nWrong or missing first cause (expected <- said: runs)")
    wrong = grouped((r for r in known if not r.right), lambda r: f"{r.truth.expected[0]} <- {_said(r)}")
    for miss, some in sorted(wrong.items(), key=lambda item: -len(item[1])):
        print(f"  {miss:24} {len(some):3}: {_names(some)}")
    several = [r for r in rows if r.truth.expected_all]
    if several:
        print(f"\nSeveral faults in one run: all named {share_of(several, lambda r: r.found_all)}")
    sound = [r for r in rows if r.truth.sound]
    alarmed = [r for r in sound if r.alarmed]
    low, high = _alarms(sound).interval
    print(f"\nSound runs: {len(alarmed)} false alarms in {len(sound)} (95 %: {low:.1%} to {high:.1%})")
    print(f"  undecided without an alarm: {sum(r.answer.verdict == 'undecided' and not r.alarmed for r in sound)}")
    for r in sorted(alarmed, key=lambda r: (r.answer.alarms[0], r.truth.name)):
        t = r.truth
        print(f"  {r.answer.alarms[0]} {r.answer.confidence or 0:.2f}  {t.name}  (tier {t.tier}, {t.form}, every {t.every})")
    for style, some in grouped(sound, lambda r: r.truth.style).items():
        if any(r.alarmed for r in some):
            print(f"  style {style}: {_alarms(some)}")
    print("\nFaults without a rule: what was said first")
    for fault, some in grouped((r for r in rows if r.truth.fault and not r.truth.expected), lambda r: r.truth.fault).items():
        print(f"  {fault:34} {dict(Counter(_said(r) for r in some).most_common())}")
    onset = onset_error(rows)
    print(
        f"\nOnset, where the cause is right and the true step known: stated in {onset.stated} of {onset.n}, "
        f"median miss {onset.steps:g} steps, {onset.run_share:.1%} of the run, late {onset.late:.0%}"
    )
    print(
        f"Expected calibration error: {calibration_error(stated(rows)):.3f} of {len(stated(rows))} named first causes; "
        f"with the first candidates of undecided ones {calibration_error(stated(rows, undecided=True)):.3f}"
    )
    slowest = max(rows, key=lambda r: r.answer.seconds)
    total = sum(r.answer.seconds for r in rows)
    print(f"\n{len(rows)} runs, {total:.1f} s in all, slowest {slowest.answer.seconds} s ({slowest.truth.name})")


def _right(rows: Sequence[Row]) -> Share:
    return share_of(rows, lambda r: r.right)


def _in_three(rows: Sequence[Row]) -> Share:
    return share_of(rows, lambda r: r.right_in_three)


def _alarms(rows: Sequence[Row]) -> Share:
    return share_of(rows, lambda r: r.alarmed)


def _said(r: Row) -> str:
    return r.first or ("(" + " ".join("/".join(g) for g in r.answer.candidates[:3]) + ")" if r.answer.candidates else "nothing")


def _names(rows: Sequence[Row]) -> str:
    return ", ".join(r.truth.name for r in rows[:12]) + (" ..." if len(rows) > 12 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of a study")
    parser.add_argument("--json", type=Path, help="write one object per run")
    parser.add_argument("--only", default="*", help="glob over run names")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", type=Path, help="write the page, and its picture into pictures/ beside it")
    parser.add_argument("--others", type=Path, help="interpreter that has the other log doctors installed")
    options = parser.parse_args()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    runs = runs_under(options.folders, options.only)
    if not runs:
        sys.exit("no runs with a label.json there")
    rows = examined(runs, options.jobs)
    if options.json:
        options.json.write_text(json.dumps([r.to_json() for r in rows], indent=1), encoding="utf-8")
    show(rows)
    if options.write:
        write(options.write, rows, runs, options.others)


def write(target: Path, rows: Sequence[Row], runs: Sequence[Path], python: Path | None) -> None:
    """Write the page and its picture, the other log doctors on it where an interpreter has them."""
    import others
    from accuracy_page import PICTURE, page, reliability_picture, shown

    from traindoctor.registry import load_rules

    theirs = others.scored([(run, row.truth) for run, row in zip(runs, rows, strict=True)], python) if python else {}
    names = {code: cause.name for code, cause in load_rules().causes.items()}
    picture = target.parent / PICTURE
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(reliability_picture(reliability(stated(shown(rows), undecided=True))), encoding="utf-8")
    target.write_text(page(rows, theirs, others.tools(), names), encoding="utf-8")


if __name__ == "__main__":
    main()
