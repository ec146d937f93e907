"""What the replay decides from a log alone, against training each change for real.

python benchmarks/replay_agreement/run.py --data DIR --part tuning --generate     # train what is missing, then compare
python benchmarks/replay_agreement/run.py --data DIR --part held-back --write     # and write results.md
python benchmarks/replay_agreement/run.py --data DIR --part tuning --truth        # only what retraining says

Needs torch, scikit-learn and PyYAML.
"""

from __future__ import annotations

import argparse
import csv
import fnmatch
import json
import os
import re
import shutil
import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import yaml
from cases import CASES, CODES, Case, Change
from loop import Curves, batch_size, train

from traindoctor.pipeline import suspected
from traindoctor.readers import discover
from traindoctor.replay.engine import replay_run
from traindoctor.replay.verdict import Course, Judgement, course, judge
from traindoctor.signals.measurements import Measurements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from traindoctor.model import IntArray, Replay

HERE = Path(__file__).parent
VERDICTS = ("repairs", "postpones", "no effect", "worse")


# -- training ---------------------------------------------------------------------------------------------------------


def definition(case: Case) -> dict[str, Any]:
    """The case as JSON holds it: data that was trained for another definition is trained again."""
    made: dict[str, Any] = json.loads(json.dumps(asdict(case)))
    return made


def generate(case: Case, folder: Path, orders: int = 0) -> None:
    """Train the base and each change of a case, as far as they are missing, and write its log.

    `orders`: of the rows, beside the first one, in which all is trained again: order-1/, order-2/ ...
    """
    stored = folder / "case.json"
    if stored.exists() and json.loads(stored.read_text()) != definition(case):
        shutil.rmtree(folder)
    for order in range(orders + 1):
        place = folder / f"order-{order}" if order else folder
        place.mkdir(parents=True, exist_ok=True)
        stored.write_text(json.dumps(definition(case), indent=1))
        for name, change in (("base", {}), *((f"cand-{k}", c) for k, c in enumerate(case.changes))):
            if not (place / f"{name}.npz").exists():
                begin = time.perf_counter()
                save(train(replace(case.job.changed(change), order=order), case.habit.every), place / f"{name}.npz")
                print(f"{case.name}: order {order}: {name} in {time.perf_counter() - begin:.1f} s", flush=True)
    write_log(case, load(folder / "base.npz"), folder / "log")


def save(curves: Curves, file: Path) -> None:
    """Write curves: the file is there whole or not at all."""
    part = file.with_suffix(".part")
    with part.open("wb") as stream:
        np.savez_compressed(stream, loss=curves.loss, grad_norm=curves.grad_norm, lr=curves.lr)
    part.rename(file)


def load(file: Path) -> Curves:
    with np.load(file) as data:
        return Curves(data["loss"], data["grad_norm"], data["lr"])


def logged_steps(case: Case, base: Curves) -> IntArray:
    """The steps that the base's log holds: up to the point at which it was broken off."""
    lived = int(np.flatnonzero(np.isfinite(base.lr))[-1]) + 1
    return np.arange(0, lived, case.habit.every, dtype=np.int64)


def write_log(case: Case, base: Curves, folder: Path) -> None:
    """Write metrics.csv and config.yaml as a user has them: nothing in them names the fault."""
    folder.mkdir(exist_ok=True)
    columns = {"loss": base.loss, **({"grad_norm": base.grad_norm} if case.habit.grad_norm else {}), "lr": base.lr}
    with (folder / "metrics.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["step", *columns])
        for step in logged_steps(case, base):
            rows.writerow([step, *(case.habit.form % column[step] for column in columns.values())])
    settings: dict[str, dict[str, Any]] = {"optimizer": {}}
    for key, value in case.job.settings.items():
        block, _, name = key.rpartition(".")
        settings.setdefault({"schedule": "scheduler", "": "train"}.get(block, block), {})[name] = value
    batch = batch_size(case.job)
    settings.setdefault("train", {}).update({} if batch is None else {"batch_size": batch})
    settings["train"].update(steps=case.job.steps, seed=case.job.seed, log_every=case.habit.every)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))


# -- the truth --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """What retraining says: the base's course, and for each change its course and the judgement.

    `flips`: for each change the verdicts of the other orders of the rows that differ from the judgement on repairs or not.
    `n_orders`: orders that were trained beside the first.
    """

    base: Course
    courses: tuple[Course, ...]
    judgements: tuple[Judgement, ...]
    flips: tuple[tuple[str, ...], ...]
    n_orders: int


def judged(case: Case, place: Path) -> tuple[Course, list[Course]]:
    """The courses of the base and of all changes, trained with the rows in one order."""
    base = load(place / "base.npz")
    step = logged_steps(case, base)
    changed = (load(place / f"cand-{k}.npz") for k in range(len(case.changes)))
    return course(step, base.loss[step]), [course(step, curves.loss[step]) for curves in changed]


def truth_of(case: Case, folder: Path) -> Truth:
    base, courses = judged(case, folder)
    judgements = [judge(base, c) for c in courses]
    last = f"cand-{len(case.changes) - 1}.npz"
    others = [judged(case, place) for place in sorted(folder.glob("order-*")) if (place / last).exists()]
    again = [[judge(was, c).verdict for c in changed] for was, changed in others]
    flips = [
        tuple(row[k] for row in again if (row[k] == "repairs") != (j.verdict == "repairs")) for k, j in enumerate(judgements)
    ]
    return Truth(base, tuple(courses), tuple(judgements), tuple(flips), len(others))


def short(change: Change) -> str:
    """A change in few characters: "lr 0.01", "betas [0.9, 0.99]"."""
    return ", ".join(f"{k.rpartition('.')[2] if k != 'schedule.name' else 'decay'} {v}" for k, v in change.items())


def print_truth(case: Case, truth: Truth) -> None:
    b = truth.base
    print(f"\n{case.name}  start {b.initial:.3g}  best {b.best:.3g}  tail {b.tail:.3g}  onset {b.onset}  of {case.job.steps}")
    for change, c, j, flips in zip(case.changes, truth.courses, truth.judgements, truth.flips, strict=True):
        onset = "" if c.onset is None else f"  onset {c.onset}"
        other = f"  [other orders: {', '.join(flips)}]" if flips else ""
        print(f"   {short(change):28} {j.verdict:10} best {c.best:9.3g}  tail {c.tail:9.3g}{onset}  {j.note}{other}")


# -- the replay -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One change of one case: what the replay says ("" when it refuses the run) and what retraining says.

    `note`: of the replay, such as why a change was not tried. `said_tail`: the replayed tail above the floor.
    `stable`: whether all orders of the rows that were trained agree on repairs or not.
    """

    case: Case
    change: Change
    said: str
    note: str
    sureness: float | None
    said_tail: float
    base_tail: float
    course: Course
    truth: Judgement
    stable: bool

    @property
    def decided(self) -> bool:
        return self.said in VERDICTS

    @property
    def agrees(self) -> bool:
        return (self.said == "repairs") == (self.truth.verdict == "repairs")

    @property
    def harmful(self) -> bool:
        return self.said == "repairs" and self.truth.verdict == "worse"


@dataclass(frozen=True)
class Outcome:
    """One case: its replay (None when the engine failed, with the reason), its rows and how long the replay took."""

    case: Case
    replay: Replay | None
    why_not: str
    rows: tuple[Row, ...]
    seconds: float

    @property
    def code(self) -> str:
        """The likeliest hypothesis: its code, "healthy" for none, "-" where nothing was simulated."""
        if self.replay is None or not self.replay.hypotheses:
            return "-"
        return self.replay.hypotheses[0].code or "healthy"


def replayed(case: Case, folder: Path) -> tuple[Replay | None, str]:
    """The replay of the log, or why there is none."""
    runs = discover.read_runs(folder / "log")
    try:
        measured = Measurements(runs[0])
        return replay_run(measured, changes=list(case.changes), auto=False, cause=suspected(measured)), ""
    except Exception as error:  # a failure is a row of the table, not the end of the others
        return None, f"{type(error).__name__}: {error}"


def compare(case: Case, folder: Path) -> Outcome:
    truth = truth_of(case, folder)
    begin = time.perf_counter()
    replay, why_not = replayed(case, folder)
    seconds = time.perf_counter() - begin
    if replay is not None and not replay.reproduces:
        why_not = replay.refusal or "does not reproduce"
    trials = list(replay.trials) if replay is not None and not why_not else []
    rows = []
    for change, changed, judgement, flips in zip(case.changes, truth.courses, truth.judgements, truth.flips, strict=True):
        trial = next((t for t in trials if same(t.settings, change)), None)
        if trial is not None:
            said, note, sureness, tail = trial.verdict, trial.note, trial.sureness, trial.tail_max
        else:
            said, note, sureness, tail = ("" if why_not else "not tried"), "no trial of it", None, float("nan")
        rows.append(Row(case, change, said, note, sureness, tail, truth.base.tail, changed, judgement, not flips))
    return Outcome(case, replay, why_not, tuple(rows), seconds)


def same(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    def plain(settings: Mapping[str, object]) -> dict[str, object]:
        return {k: list(v) if isinstance(v, (tuple, list)) else v for k, v in settings.items()}

    return plain(one) == plain(other)


# -- the report -------------------------------------------------------------------------------------------------------


def share(n: int, of: int) -> str:
    return f"{n} of {of} ({n / of:.0%})" if of else "none"


def report(part: str, outcomes: list[Outcome]) -> Iterator[str]:
    """Yield the lines of the report, as Markdown."""
    rows = [row for outcome in outcomes for row in outcome.rows]
    decided = [row for row in rows if row.decided]
    harmful = [row for row in decided if row.harmful]
    repairs = [row for row in decided if row.said == "repairs"]
    yield f"## Part {part}"
    yield ""
    yield f"{len(outcomes)} runs, {len(rows)} changes. Decided: {share(len(decided), len(rows))}."
    yield f"Agreement on repairs or not: **{share(sum(row.agrees for row in decided), len(decided))}**."
    n_stable, stable = sum(row.stable for row in rows), [row for row in decided if row.stable]
    if n_stable < len(rows):
        yield f"Retraining itself says the same in each order of the rows for {share(n_stable, len(rows))} of the changes;"
        yield f"agreement there: {share(sum(row.agrees for row in stable), len(stable))}."
    true = sum(row.truth.verdict == "repairs" for row in repairs)
    yield f"Of those said to repair, {share(true, len(repairs))} do; {len(harmful)} make the run worse."
    found = [row for row in decided if row.truth.verdict == "repairs"]
    yield f"Of those that repair, {share(sum(row.said == 'repairs' for row in found), len(found))} are found."
    refused = [outcome for outcome in outcomes if outcome.why_not]
    yield f"Refused: {share(len(refused), len(outcomes))} of the runs."
    named = [o for o in outcomes if CODES[o.case.fault]]
    right = sum(o.code == CODES[o.case.fault] for o in named)
    yield f"Where the planted fault has a rule, it is the likeliest hypothesis in {share(right, len(named))} of the runs."
    yield ""
    yield "| said, below: true | " + " | ".join(VERDICTS) + " |"
    yield "| --- |" + " --- |" * len(VERDICTS)
    counts = Counter((row.said or "refused", row.truth.verdict) for row in rows)
    for said in (*VERDICTS, "not tried", "refused"):
        yield f"| {said} | " + " | ".join(str(counts[said, true]) for true in VERDICTS) + " |"
    yield ""
    yield "| fault | runs | refused | decided | agree | said repairs | of these true | harmful |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    by_fault: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        by_fault[outcome.case.fault].append(outcome)
    for fault, some in by_fault.items():
        mine = [row for outcome in some for row in outcome.rows if row.decided]
        good = [row for row in mine if row.said == "repairs"]
        yield (
            f"| {fault} | {len(some)} | {sum(bool(o.why_not) for o in some)} | {len(mine)} | {sum(r.agrees for r in mine)} | "
            f"{len(good)} | {sum(r.truth.verdict == 'repairs' for r in good)} | {sum(r.harmful for r in mine)} |"
        )
    yield ""
    yield "| not tried because | changes | of these repair |"
    yield "| --- | --- | --- |"
    untried = [row for row in rows if row.said == "not tried"]
    notes = [(re.sub(r"\d[\d.e+-]*|\binf\b", "N", row.note), row.truth.verdict == "repairs") for row in untried]
    for note, n in Counter(note for note, _ in notes).most_common():
        yield f"| {note} | {n} | {notes.count((note, True))} |"
    yield ""
    yield "| run | likeliest | error, decades | agree | seconds | refusal |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for o in outcomes:
        mine = [row for row in o.rows if row.decided]
        agree = f"{sum(row.agrees for row in mine)} of {len(mine)}"
        error = f"{o.replay.error:.2f}" if o.replay is not None else ""
        yield f"| {o.case.name} | {o.code} | {error} | {agree} | {o.seconds:.1f} | {o.why_not} |"
    yield ""
    yield "Disagreements. Tail: mean of the loss over the last sixth, retrained; replayed tail: the highest above the floor."
    yield ""
    yield "| run | change | said | sureness | true | stable | base's tail | retrained tail | its best | replayed tail |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for row in decided:
        if not row.agrees:
            sure = "" if row.sureness is None else f"{row.sureness:.2f}"
            said = f"{row.said} (harmful)" if row.harmful else row.said
            holds = "yes" if row.stable else "no"
            tails = f"{row.base_tail:.3g} | {row.course.tail:.3g} | {row.course.best:.3g} | {row.said_tail:.3g}"
            yield f"| {row.case.name} | {short(row.change)} | {said} | {sure} | {row.truth.verdict} | {holds} | {tails} |"


def write(part: str, lines: list[str]) -> None:
    """Put the report of a part into results.md; that of the other part stays."""
    file = HERE / "results.md"
    head = "# Agreement of the replay with real retraining\n\nWritten by run.py --write; see README.md.\n"
    old = file.read_text() if file.exists() else ""
    parts = {chunk.split("\n", 1)[0]: chunk for chunk in old.split("\n## Part ")[1:]}
    parts[part] = "\n".join(lines).removeprefix("## Part ")
    ordered = [f"\n## Part {parts[name].rstrip()}\n" for name in ("tuning", "held-back") if name in parts]
    file.write_text(head + "".join(ordered))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the trained curves and logs, filled by --generate")
    parser.add_argument("--part", choices=("tuning", "held-back"), default="tuning")
    parser.add_argument("--only", default="*", help="cases whose name matches")
    parser.add_argument("--generate", action="store_true", help="train what is missing first")
    parser.add_argument("--truth", action="store_true", help="print what retraining says, and stop")
    parser.add_argument("--orders", type=int, default=0, metavar="N", help="train all again with the rows in N other orders")
    parser.add_argument("--write", action="store_true", help="write the report into results.md")
    options = parser.parse_args()
    chosen = [c for c in CASES if c.part == options.part and fnmatch.fnmatch(c.name, options.only)]
    folder_of = {case.name: options.data / case.part / case.name for case in chosen}
    if options.generate:
        import torch

        torch.set_num_threads(1)
        os.nice(10)
        for case in chosen:
            generate(case, folder_of[case.name], options.orders)
    there = [c for c in chosen if (folder_of[c.name] / "log" / "metrics.csv").exists()]
    if missing := len(chosen) - len(there):
        print(f"{missing} cases are not trained yet: --generate", file=sys.stderr)
    if options.truth:
        for case in there:
            print_truth(case, truth_of(case, folder_of[case.name]))
        return
    lines = list(report(options.part, [compare(case, folder_of[case.name]) for case in there]))
    print("\n".join(lines))
    if options.write:
        write(options.part, lines)


if __name__ == "__main__":
    main()
