"""Fit what turns evidence into confidence on the tuning part of a study, and say how far it holds on tasks that it has not seen.

PYTHONPATH=.:rules python benchmarks/study/calibrate.py STUDY/tuning [--keep evidence.json] [--jobs 2]

Three fits, all small enough to follow by hand. Two restate how sure a diagnosis is and change none:

- a ceiling: confidence = min(share, ceiling);
- a scale and a shift of the log-odds: confidence = 1 / (1 + exp(-(scale * logit(share) + shift))).

The third changes diagnoses too, so that first causes and alarms are counted again:

- the prior and the four weights of the differential, by the likelihood of the shares, in their order
  (weak <= moderate <= strong <= proof) and rounded to one decimal.

Each is fitted on four fifths of the recipes and judged on the last fifth, five times. Nothing is written into the differential:
the figures are for whoever changes it. The part held-back is refused.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from accuracy import calibration_error, reliability
from accuracy_page import HELD_BACK
from score import ALARMS, runs_under, truth_of

from traindoctor import differential, rule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from traindoctor.differential import Suspicion
    from traindoctor.rule import Cause

#: The weights of the differential, smallest first.
NAMES = ("weak", "moderate", "strong", "proof")
#: How firmly the refitted weights are held to today's: a pseudo-observation's strength per squared nat.
HOLD = 1.0
N_FOLDS = 5
#: A share this close to 0 or 1 has no finite log-odds worth the name.
EDGE = 1e-4

Answers = list[tuple[float, bool]]


class Weights(NamedTuple):
    """Prior log-odds of a cause, and what a piece of evidence of each name adds to it, in nats."""

    prior: float
    weak: float
    moderate: float
    strong: float
    proof: float

    def rounded(self) -> Weights:
        """Return the weights to one decimal."""
        return Weights(*(round(v, 1) for v in self))

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in zip(self._fields, self, strict=True))


TODAY = Weights(rule.PRIOR, rule.WEAK, rule.MODERATE, rule.STRONG, rule.PROOF)


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of evidence as the differential sees it."""

    weight: float
    supports: bool
    kind: str


@dataclass(frozen=True, slots=True)
class Examined:
    """A run with all evidence on each cause. `recipe`: what runs of one fold have in common; `expected`: any code is right."""

    name: str
    recipe: str
    sound: bool
    expected: tuple[str, ...]
    evidence: Mapping[str, tuple[Piece, ...]]


def examined(folder: Path) -> Examined | None:
    """Return a run with the evidence that reached the differential; None where nothing could be read."""
    from traindoctor import diagnose

    seen: list[Suspicion] = []

    def listening(suspicions: Sequence[Suspicion], unchecked: Mapping[str, str] | None = None) -> differential.Opinion:
        seen.extend(suspicions)
        return differential.decide(suspicions, unchecked)

    truth = truth_of(folder)
    try:
        with patch.object(diagnose, "decide", listening):
            diagnose.diagnose([folder])
    except Exception:  # a crash is for score.py to show
        return None
    evidence = {s.cause.code: tuple(Piece(e.weight, e.supports, e.kind) for e in s.evidence) for s in seen if s.evidence}
    label = json.loads((folder / "label.json").read_text(encoding="utf-8"))
    recipe = str(label.get("recipe") or label.get("task"))
    return Examined(folder.name, recipe, truth.sound, truth.expected, evidence)


@cache
def parts_of(weight: float) -> tuple[float, float, float, float]:
    """Return how many (weak, moderate, strong, proof) make up a weight; a rest is a share of the smallest."""
    parts = []
    for named in reversed(TODAY[1:]):
        n = math.floor(weight / named + 1e-9)
        parts.append(float(n))
        weight -= n * named
    parts[-1] += weight / TODAY.weak
    return parts[3], parts[2], parts[1], parts[0]


def reweighted(weight: float, weights: Weights) -> float:
    """Return what a weight of today comes to with other weights."""
    return sum(n * w for n, w in zip(parts_of(round(weight, 6)), weights[1:], strict=True))


def suspicions_of(run: Examined, causes: Mapping[str, Cause], weights: Weights) -> list[Suspicion]:
    """Return what the differential is given of a run, with these weights in place of today's."""
    from traindoctor.model import Evidence

    return [
        differential.Suspicion(
            causes[code],
            tuple(Evidence(p.supports, p.kind, "", "", reweighted(p.weight, weights)) for p in pieces),  # type: ignore[arg-type]
        )
        for code, pieces in run.evidence.items()
        if code in causes
    ]


def judged(run: Examined, causes: Mapping[str, Cause], weights: Weights) -> tuple[str, float, bool]:
    """Return (first cause or "", its share, whether it is an alarm) as the differential would say with these weights.

    An undecided verdict names nothing, and a remark on the log is no cause.
    """
    suspicions = suspicions_of(run, causes, weights)
    with patch.object(differential, "PRIOR", weights.prior):
        opinion = differential.decide(suspicions)
    named = [d for d in opinion.diagnoses if not d.suspicion.cause.standalone]
    named.sort(key=lambda d: d.severity not in ALARMS)  # as an engineer reads: what is an alarm first
    if opinion.undecided or not named:
        return "", 0.0, False
    return named[0].suspicion.cause.code, named[0].confidence, named[0].severity in ALARMS


class Outcome(NamedTuple):
    """What a set of weights comes to on runs. `answers`: (share, right) of every first cause that was named."""

    right: int
    known: int
    alarms: int
    sound: int
    answers: Answers

    def __str__(self) -> str:
        return (
            f"first cause {self.right}/{self.known}, alarms {self.alarms}/{self.sound}, "
            f"calibration error {calibration_error(self.answers):.3f} of {len(self.answers)}"
        )


def outcome(runs: Sequence[Examined], causes: Mapping[str, Cause], weights: Weights) -> Outcome:
    """Return what the weights come to on the runs."""
    said = [(run, *judged(run, causes, weights)) for run in runs]
    return Outcome(
        right=sum(code in run.expected for run, code, _, _ in said),
        known=sum(not run.sound and bool(run.expected) for run in runs),
        alarms=sum(run.sound and alarm for run, _, _, alarm in said),
        sound=sum(run.sound for run in runs),
        answers=[(share, code in run.expected) for run, code, share, _ in said if code],
    )


class Scale(NamedTuple):
    """confidence = 1 / (1 + exp(-(scale * logit(share) + shift)))."""

    scale: float = 1.0
    shift: float = 0.0

    def of(self, share: float) -> float:
        """Return the confidence for a share."""
        return 1.0 / (1.0 + math.exp(-(self.scale * logit(share) + self.shift)))


class Ceiling(NamedTuple):
    """confidence = min(share, top)."""

    top: float = 1.0

    def of(self, share: float) -> float:
        """Return the confidence for a share."""
        return min(share, self.top)


def logit(share: float) -> float:
    """Return the log-odds of a share, bounded."""
    p = min(max(share, EDGE), 1.0 - EDGE)
    return math.log(p / (1.0 - p))


def fitted_scale(answers: Answers) -> Scale:
    """Return scale and shift of the greatest likelihood; the scale is not negative.

    Source: Platt 1999, Probabilistic outputs for support vector machines; its targets are drawn in from 0 and 1 by the counts.
    """
    from scipy.optimize import minimize

    x = np.array([logit(share) for share, _ in answers])
    right = np.array([r for _, r in answers], dtype=float)
    n_right, n_wrong = right.sum(), len(right) - right.sum()
    target = np.where(right > 0, (n_right + 1.0) / (n_right + 2.0), 1.0 / (n_wrong + 2.0))

    def loss(theta: npt.NDArray[np.float64]) -> float:
        z = theta[0] * x + theta[1]
        return float(np.sum(np.logaddexp(0.0, z) - target * z))

    found = minimize(loss, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(0.0, 5.0), (-5.0, 5.0)])
    return Scale(*(float(v) for v in found.x))


def fitted_ceiling(answers: Answers) -> Ceiling:
    """Return the ceiling, to a hundredth, of the greatest likelihood."""

    def loss(ceiling: Ceiling) -> float:
        stated = [(min(max(ceiling.of(share), EDGE), 1.0 - EDGE), right) for share, right in answers]
        return -sum(math.log(p if right else 1.0 - p) for p, right in stated)

    return min((Ceiling(i / 100) for i in range(70, 101)), key=loss)


class Design(NamedTuple):
    """The supported causes of a run that stand for themselves, n of them.

    `counts` (n, 5): 1, and the net number of pieces of each weight. `rivals` (n, n): which causes a share is taken over, each
    cause among its own. `expected` (n,): whether a cause is right.
    """

    counts: npt.NDArray[np.float64]
    rivals: npt.NDArray[np.bool_]
    expected: npt.NDArray[np.bool_]


def design(run: Examined, causes: Mapping[str, Cause]) -> Design | None:
    """Return the table of a run, with rivals and consequences as they are at today's weights; None where nothing is supported."""
    alone = [s for s in suspicions_of(run, causes, TODAY) if s.is_supported and not s.cause.standalone]
    roots = [s for s in alone if not any(s.cause.code in r.cause.explains and explains(r, s) for r in alone if r is not s)]
    if not roots:
        return None
    counts = [
        [1.0, *np.sum([np.array(parts_of(round(e.weight, 6))) * (1 if e.supports else -1) for e in s.evidence], axis=0)]
        for s in roots
    ]
    return Design(
        np.array(counts),
        np.array([[r is s or s.competes_with(r) for r in roots] for s in roots]),
        np.array([s.cause.code in run.expected for s in roots]),
    )


def explains(root: Suspicion, consequence: Suspicion) -> bool:
    """Return whether a cause is likely enough for another to fold under it."""
    return root.log_odds > 0.0 and root.log_odds >= consequence.log_odds - rule.STRONG


def fitted_weights(runs: Sequence[Examined], causes: Mapping[str, Cause]) -> Weights:
    """Return prior and weights that make the shares most likely, in their order, held to today's by `HOLD`.

    Every supported cause counts as one answer: its share is the stated probability that it is right. So a wrong suspicion on a
    sound run, and one beside a fault that was missed, weigh as much as a right one that is doubted.
    """
    from scipy.optimize import minimize

    designs = [d for d in (design(run, causes) for run in runs) if d is not None]
    today = np.array([TODAY.prior, TODAY.weak, *np.diff(TODAY[1:])])

    def loss(theta: npt.NDArray[np.float64]) -> float:
        values = np.array([theta[0], *np.cumsum(theta[1:])])
        total = HOLD * float(np.sum((values - np.array(TODAY)) ** 2))
        for d in designs:
            odds = np.exp(np.clip(d.counts @ values, -30.0, 30.0))
            share = np.clip(odds / (1.0 + d.rivals @ odds), EDGE, 1.0 - EDGE)
            total -= float(np.sum(np.log(np.where(d.expected, share, 1.0 - share))))
        return total

    bounds = [(-8.0, 0.0), *[(0.05, 8.0)] * 4]
    found = minimize(loss, today, method="L-BFGS-B", bounds=bounds)
    return Weights(float(found.x[0]), *(float(v) for v in np.cumsum(found.x[1:])))


def folds(runs: Sequence[Examined]) -> list[tuple[list[Examined], list[Examined]]]:
    """Return (fitted on, judged on) five times; all runs of one recipe are on one side."""
    held = [0] * N_FOLDS
    fold_of: dict[str, int] = {}
    for recipe, n in sorted(Counter(run.recipe for run in runs).items(), key=lambda item: (-item[1], item[0])):
        fold_of[recipe] = held.index(min(held))
        held[fold_of[recipe]] += n
    return [
        ([r for r in runs if fold_of[r.recipe] != i], [r for r in runs if fold_of[r.recipe] == i])
        for i in range(N_FOLDS)
        if held[i]
    ]


def show_bins(title: str, answers: Answers) -> None:
    print(f"\n{title}: calibration error {calibration_error(answers):.3f} of {len(answers)} first causes")
    for b in reliability(answers):
        print(f"  {b.low:.1f} to {b.high:.1f}  n {b.n:4}  mean confidence {b.confidence:.3f}  share right {b.right / b.n:.3f}")


def strongest(run: Examined, code: str) -> str:
    """Return what speaks for a cause, in the names of the weights: "1 proof", "2 strong, 1 weak", ..."""
    counts = np.sum([np.array(parts_of(round(p.weight, 6))) for p in run.evidence[code] if p.supports], axis=0)
    named = [f"{int(n)} {name}" for n, name in zip(counts[::-1], reversed(NAMES), strict=True) if int(n)]
    return ", ".join(named) or "less than weak"


def show_groups(runs: Sequence[Examined], causes: Mapping[str, Cause]) -> None:
    """Print where the confidence goes wrong: by cause, and by what speaks for it."""
    by_cause: dict[str, Answers] = {}
    by_evidence: dict[str, Answers] = {}
    for run in runs:
        code, share, _ = judged(run, causes, TODAY)
        if code:
            answer = (share, code in run.expected)
            by_cause.setdefault(f"{code} {causes[code].name}", []).append(answer)
            by_evidence.setdefault(strongest(run, code), []).append(answer)
    for title, table in (("cause", by_cause), ("evidence for the first cause", by_evidence)):
        print(f"\nby {title}: runs, mean confidence, share right")
        for name, some in sorted(table.items(), key=lambda item: -len(item[1])):
            right = sum(r for _, r in some) / len(some)
            print(f"  {name:50} {len(some):4}  {sum(p for p, _ in some) / len(some):.2f}  {right:.2f}")


def collected(runs: Sequence[Path], jobs: int) -> list[Examined]:
    """Return the runs with their evidence.

    Raises: SystemExit for a run that is held back: nothing is fitted on it.
    """
    if any(truth_of(run).part == HELD_BACK for run in runs):
        raise SystemExit("some of these runs are held back: nothing is fitted on them")
    with ProcessPoolExecutor(jobs) as pool:
        return [run for run in pool.map(examined, runs, chunksize=4) if run is not None]


def kept(file: Path | None, collect: Callable[[], list[Examined]]) -> list[Examined]:
    """Return what a file holds of an earlier call; else collect it, and write it there."""
    if file is not None and file.exists():
        return [
            Examined(
                r["name"],
                r["recipe"],
                r["sound"],
                tuple(r["expected"]),
                {code: tuple(Piece(*p) for p in pieces) for code, pieces in r["evidence"].items()},
            )
            for r in json.loads(file.read_text(encoding="utf-8"))
        ]
    runs = collect()
    if file is not None:
        rows = [
            {
                "name": r.name,
                "recipe": r.recipe,
                "sound": r.sound,
                "expected": r.expected,
                "evidence": {code: [(p.weight, p.supports, p.kind) for p in pieces] for code, pieces in r.evidence.items()},
            }
            for r in runs
        ]
        file.write_text(json.dumps(rows), encoding="utf-8")
    return runs


def report(runs: Sequence[Examined], causes: Mapping[str, Cause]) -> None:
    """Print all fits, on all runs and on recipes they have not seen."""
    now = outcome(runs, causes, TODAY)
    print(f"{len(runs)} runs of {len({r.recipe for r in runs})} recipes\ntoday ({TODAY}): {now}")
    show_bins("today", now.answers)
    show_groups(runs, causes)
    ceiling = fitted_ceiling(now.answers)
    print(f"\nceiling: {ceiling.top:g}")
    show_bins("under the ceiling, same runs", [(ceiling.of(p), right) for p, right in now.answers])
    scale = fitted_scale(now.answers)
    print(f"\nscale and shift of the log-odds of the share: {scale.scale:.2f}, {scale.shift:+.2f}")
    print("  a share of " + ", ".join(f"{p:g} is stated as {scale.of(p):.2f}" for p in (0.5, 0.65, 0.8, 0.9, 0.95, 0.99)))
    show_bins("restated, same runs", [(scale.of(p), right) for p, right in now.answers])
    weights = fitted_weights(runs, causes).rounded()
    then = outcome(runs, causes, weights)
    print(f"\nweights ({weights}): {then}")
    show_bins("refitted, same runs", then.answers)
    across_recipes(runs, causes)


def across_recipes(runs: Sequence[Examined], causes: Mapping[str, Cause]) -> None:
    """Print what each fit comes to on recipes that it has not seen."""
    capped: Answers = []
    restated: Answers = []
    parts = []
    for fit, judge in folds(runs):
        fitted_on, judged_on = outcome(fit, causes, TODAY).answers, outcome(judge, causes, TODAY).answers
        ceiling, scale, weights = fitted_ceiling(fitted_on), fitted_scale(fitted_on), fitted_weights(fit, causes).rounded()
        capped += [(ceiling.of(p), right) for p, right in judged_on]
        restated += [(scale.of(p), right) for p, right in judged_on]
        parts.append(outcome(judge, causes, weights))
        print(f"\nfold of {len(judge)}: ceiling {ceiling.top:g}; scale {scale.scale:.2f}, shift {scale.shift:+.2f}; {weights}")
    refitted = Outcome(
        right=sum(p.right for p in parts),
        known=sum(p.known for p in parts),
        alarms=sum(p.alarms for p in parts),
        sound=sum(p.sound for p in parts),
        answers=[a for p in parts for a in p.answers],
    )
    show_bins("under the ceiling, recipes not seen", capped)
    show_bins("restated, recipes not seen", restated)
    show_bins("refitted, recipes not seen", refitted.answers)
    print(f"\nrecipes not seen, weights refitted: {refitted}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--only", default="*", help="glob over run names")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="file that keeps the evidence; read instead of the runs where it exists")
    options = parser.parse_args()
    from traindoctor.registry import load_rules

    runs = kept(options.keep, lambda: collected(runs_under(options.folders, options.only), options.jobs))
    report(runs, load_rules().causes)


if __name__ == "__main__":
    main()
