"""Fit what turns evidence into confidence on the tuning part of a study, and say how far it holds on recipes not seen.

PYTHONPATH=.:rules python benchmarks/study/calibrate.py STUDY/tuning [--keep evidence.json] [--jobs 2]

Four fits, all small enough to follow by hand. Two restate how sure a diagnosis is and change none:

- a ceiling: confidence = min(share, ceiling);
- a scale and a shift of the log-odds: confidence = 1 / (1 + exp(-(scale * logit(share) + shift))).

Two change diagnoses as well, so that first causes and alarms are counted again:

- the prior and the four weights of the differential, in their order (weak <= moderate <= strong <= proof);
- an offset for each cause: how many nats its rule says too much (below 0) or too little.

Each is fitted on four fifths of the recipes and judged on the last fifth, five times. Nothing is written into the differential:
the figures are for whoever changes it or a rule. The part held-back is refused.
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
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from accuracy import calibration_error, reliability
from accuracy_page import SHOWN
from score import ALARMS, runs_under, truth_of

from traindoctor import differential, rule
from traindoctor.model import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from traindoctor.differential import Suspicion
    from traindoctor.model import EvidenceKind
    from traindoctor.rule import Cause

#: The weights of the differential, smallest first.
NAMES = ("weak", "moderate", "strong", "proof")
#: How firmly refitted weights are held to today's, and offsets to 0: loss per squared nat, as of a normal prior of 0.7 and 1 nat.
HOLD, HOLD_OFFSET = 1.0, 0.5
#: An offset from which a rule is worth a look, in nats.
NOTABLE = 0.5
N_FOLDS = 5
#: A share this close to 0 or 1 has no finite log-odds worth the name.
EDGE = 1e-4

Answers = list[tuple[float, bool]]
FloatArray: TypeAlias = "npt.NDArray[np.float64]"


class Weights(NamedTuple):
    """Prior log-odds of a cause, and what a piece of evidence of each name adds to it, in nats."""

    prior: float
    weak: float
    moderate: float
    strong: float
    proof: float

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:g}" for name, value in zip(self._fields, self, strict=True))


TODAY = Weights(rule.PRIOR, rule.WEAK, rule.MODERATE, rule.STRONG, rule.PROOF)


class Model(NamedTuple):
    """The weights of evidence, and code -> what is added to the log-odds of that cause."""

    weights: Weights = TODAY
    offsets: Mapping[str, float] = {}


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of evidence as the differential sees it."""

    weight: float
    supports: bool
    kind: EvidenceKind


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
    from traindoctor import pipeline

    seen: list[Suspicion] = []

    def listening(suspicions: Sequence[Suspicion], unchecked: Mapping[str, str] | None = None) -> differential.Opinion:
        seen.extend(suspicions)
        return differential.decide(suspicions, unchecked)

    truth = truth_of(folder)
    try:
        with patch.object(pipeline, "decide", listening):
            pipeline.diagnose([folder])
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


def suspicions_of(run: Examined, causes: Mapping[str, Cause], model: Model) -> list[Suspicion]:
    """Return what the differential is given of a run, with the model's weights in place of today's."""
    suspicions = []
    for code, pieces in run.evidence.items():
        if code in causes:
            told = [Piece(reweighted(p.weight, model.weights), p.supports, p.kind) for p in pieces]
            offset = model.offsets.get(code, 0.0) if any(p.supports for p in pieces) else 0.0
            told += [Piece(abs(offset), offset > 0.0, "log")] if offset else []
            evidence = tuple(Evidence(p.supports, p.kind, "", "", p.weight) for p in told)
            suspicions.append(differential.Suspicion(causes[code], evidence))
    return suspicions


def judged(run: Examined, causes: Mapping[str, Cause], model: Model) -> tuple[str, float, bool]:
    """Return (first cause or "", its share, whether it is an alarm) as the differential would say with this model.

    An undecided verdict names nothing, and a remark on the log is no cause.
    """
    suspicions = suspicions_of(run, causes, model)
    with patch.object(differential, "PRIOR", model.weights.prior):
        opinion = differential.decide(suspicions)
    named = [d for d in opinion.diagnoses if not d.suspicion.cause.standalone]
    named.sort(key=lambda d: d.severity not in ALARMS)  # as an engineer reads: what is an alarm first
    if opinion.undecided or not named:
        return "", 0.0, False
    return named[0].suspicion.cause.code, named[0].confidence, named[0].severity in ALARMS


class Outcome(NamedTuple):
    """What a model comes to on runs. `answers`: (share, right) of every first cause that was named."""

    right: int
    known: int
    alarms: int
    sound: int
    answers: Answers

    def joined(self, other: Outcome) -> Outcome:
        """Return what both come to together."""
        return Outcome(
            self.right + other.right,
            self.known + other.known,
            self.alarms + other.alarms,
            self.sound + other.sound,
            self.answers + other.answers,
        )

    def __str__(self) -> str:
        return (
            f"first cause {self.right}/{self.known}, alarms {self.alarms}/{self.sound}, "
            f"calibration error {calibration_error(self.answers):.3f} of {len(self.answers)}"
        )


def outcome(runs: Sequence[Examined], causes: Mapping[str, Cause], model: Model) -> Outcome:
    """Return what the model comes to on the runs."""
    said = [(run, *judged(run, causes, model)) for run in runs]
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

    def loss(theta: FloatArray) -> float:
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

    `codes` (n,). `counts` (n, 5): 1, and the net number of pieces of each weight. `rivals` (n, n): which causes a share is taken
    over, each cause among its own. `expected` (n,): whether a cause is right.
    """

    codes: list[str]
    counts: FloatArray
    rivals: npt.NDArray[np.bool_]
    expected: npt.NDArray[np.bool_]

    def loss(self, scores: FloatArray) -> tuple[float, FloatArray]:
        """Return the negative log-likelihood of the shares at these log-odds, and its gradient.

        Every supported cause counts as one answer: its share is the stated probability that it is right. So a wrong suspicion on
        a sound run, and one beside a fault that was missed, weigh as much as a right one that is doubted.
        """
        odds = np.exp(np.clip(scores, -30.0, 30.0))
        total = 1.0 + self.rivals @ odds
        share = np.clip(odds / total, EDGE, 1.0 - EDGE)
        pull = np.where(self.expected, 1.0, -share / (1.0 - share))  # of the log-likelihood by the log of the share
        slope = pull - (self.rivals * odds / total[:, None]).T @ pull
        return -float(np.sum(np.log(np.where(self.expected, share, 1.0 - share)))), -slope


def design(run: Examined, causes: Mapping[str, Cause]) -> Design | None:
    """Return the table of a run, with rivals and consequences as they are today; None where nothing is supported."""
    alone = [s for s in suspicions_of(run, causes, Model()) if s.is_supported and not s.cause.standalone]
    roots = [s for s in alone if not any(s.cause.code in r.cause.explains and explains(r, s) for r in alone if r is not s)]
    if not roots:
        return None
    counts = [
        [1.0, *np.sum([np.array(parts_of(round(e.weight, 6))) * (1 if e.supports else -1) for e in s.evidence], axis=0)]
        for s in roots
    ]
    return Design(
        [s.cause.code for s in roots],
        np.array(counts),
        np.array([[r is s or s.competes_with(r) for r in roots] for s in roots]),
        np.array([s.cause.code in run.expected for s in roots]),
    )


def explains(root: Suspicion, consequence: Suspicion) -> bool:
    """Return whether a cause is likely enough for another to fold under it."""
    return root.log_odds > 0.0 and root.log_odds >= consequence.log_odds - rule.STRONG


def fitted_weights(designs: Sequence[Design]) -> Weights:
    """Return prior and weights, to one decimal, that make the shares most likely, in their order and held to today's."""
    from scipy.optimize import minimize

    today = np.array(TODAY)

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        values = np.array(
            [theta[0], *np.cumsum(theta[1:])]
        )  # weights as steps above the one before, so that they keep their order
        total, slope = HOLD * float(np.sum((values - today) ** 2)), 2.0 * HOLD * (values - today)
        for d in designs:
            lost, by_score = d.loss(d.counts @ values)
            total += lost
            slope = slope + d.counts.T @ by_score
        return total, np.array([slope[0], *np.cumsum(slope[:0:-1])[::-1]])

    start = np.array([TODAY.prior, TODAY.weak, *np.diff(TODAY[1:])])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-8.0, 0.0), *[(0.05, 8.0)] * 4])
    return Weights(*(round(float(v), 1) for v in (found.x[0], *np.cumsum(found.x[1:]))))


def fitted_offsets(designs: Sequence[Design]) -> dict[str, float]:
    """Return code -> offset, to one decimal, that makes the shares most likely at today's weights, held to 0."""
    from scipy.optimize import minimize

    codes = sorted({code for d in designs for code in d.codes})
    place = {code: i for i, code in enumerate(codes)}
    tables = [(d, d.counts @ np.array(TODAY), [place[code] for code in d.codes]) for d in designs]

    def loss(offsets: FloatArray) -> tuple[float, FloatArray]:
        total, slope = HOLD_OFFSET * float(np.sum(offsets**2)), 2.0 * HOLD_OFFSET * offsets
        for d, scores, places in tables:
            lost, by_score = d.loss(scores + offsets[places])
            total += lost
            np.add.at(slope, places, by_score)
        return total, slope

    found = minimize(loss, np.zeros(len(codes)), jac=True, method="L-BFGS-B")
    return {code: round(float(v), 1) for code, v in zip(codes, found.x, strict=True)}


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
        code, share, _ = judged(run, causes, Model())
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
    if any(truth_of(run).part in SHOWN for run in runs):
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
    now = outcome(runs, causes, Model())
    print(f"{len(runs)} runs of {len({r.recipe for r in runs})} recipes\ntoday ({TODAY}): {now}")
    show_bins("today", now.answers)
    show_groups(runs, causes)
    ceiling, scale = fitted_ceiling(now.answers), fitted_scale(now.answers)
    print(f"\nceiling: {ceiling.top:g}")
    show_bins("under the ceiling, same runs", [(ceiling.of(p), right) for p, right in now.answers])
    print(f"\nscale and shift of the log-odds of the share: {scale.scale:.2f}, {scale.shift:+.2f}")
    print("  a share of " + ", ".join(f"{p:g} is stated as {scale.of(p):.2f}" for p in (0.5, 0.65, 0.8, 0.9, 0.95, 0.99)))
    show_bins("restated, same runs", [(scale.of(p), right) for p, right in now.answers])
    designs = designs_of(runs, causes)
    weights, offsets = fitted_weights(designs), fitted_offsets(designs)
    for what, model in ((f"weights ({weights})", Model(weights)), ("offsets", Model(TODAY, offsets))):
        then = outcome(runs, causes, model)
        print(f"\n{what}: {then}")
        show_bins("same runs", then.answers)
    print("\nnotable offsets, in nats:")
    for code, offset in sorted(offsets.items(), key=lambda item: item[1]):
        if abs(offset) >= NOTABLE:
            print(f"  {code} {causes[code].name:45} {offset:+.1f}")
    across_recipes(runs, causes)


def across_recipes(runs: Sequence[Examined], causes: Mapping[str, Cause]) -> None:
    """Print what each fit comes to on recipes that it has not seen."""
    capped: Answers = []
    restated: Answers = []
    reweighed = shifted = Outcome(0, 0, 0, 0, [])
    for fit, judge in folds(runs):
        fitted_on, judged_on = outcome(fit, causes, Model()).answers, outcome(judge, causes, Model()).answers
        ceiling, scale, designs = fitted_ceiling(fitted_on), fitted_scale(fitted_on), designs_of(fit, causes)
        weights, offsets = fitted_weights(designs), fitted_offsets(designs)
        capped += [(ceiling.of(p), right) for p, right in judged_on]
        restated += [(scale.of(p), right) for p, right in judged_on]
        reweighed = reweighed.joined(outcome(judge, causes, Model(weights)))
        shifted = shifted.joined(outcome(judge, causes, Model(TODAY, offsets)))
        print(f"\nfold of {len(judge)}: ceiling {ceiling.top:g}; scale {scale.scale:.2f}, shift {scale.shift:+.2f}; {weights}")
    show_bins("under the ceiling, recipes not seen", capped)
    show_bins("restated, recipes not seen", restated)
    for what, then in (("weights refitted", reweighed), ("offsets", shifted)):
        show_bins(f"{what}, recipes not seen", then.answers)
        print(f"  {then}")


def designs_of(runs: Sequence[Examined], causes: Mapping[str, Cause]) -> list[Design]:
    """Return the tables of all runs on which anything is supported."""
    return [d for d in (design(run, causes) for run in runs) if d is not None]


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
