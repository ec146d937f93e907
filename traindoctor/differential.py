"""Evidence -> one first cause, its consequences, its rivals, and a stated confidence.

The model fits on a page, so that an engineer can follow a finding by hand. Each cause starts at the log-odds of one run in
twenty; each piece of evidence adds its weight (0.7, 1.5, 3 or 6 nats) when it supports and takes it away when it speaks
against. Causes that another present cause explains are its consequences. The rest are rivals: with "none of these" at
log-odds 0, the confidence of a cause is its share, exp(s) / (1 + sum of exp(s)).

A run may have two causes. Rivals are those that would explain the same thing: causes that concern different things (the course
of the training, what validation says, its speed) are none, nor are two that are each sure on their own evidence while neither
names the other as a look-alike, nor faults that stand in the script: one line that is wrong makes no other line right.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING

from traindoctor.model import Rival, Severity
from traindoctor.rule import PRIOR, PROOF, STRONG, Cause

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from traindoctor.model import Evidence

#: Confidence from which a cause is named.
NAMED = 0.55
#: Belief in all errors together from which one of them keeps its severity; below it is a warning at most.
SURE = 0.8
#: Belief in all causes of a failed course together from which something is wrong, even if none is named: one strong sign draws.
DOUBTED = 0.45
#: Share of the belief from which a cause is one of those that an undecided log leaves standing.
CANDIDATE = 0.15
#: Share of the belief from which a single cause is worth saying where the others have less each.
ALONE = 0.3
#: The most that is stated of a cause that is not named.
OPEN = 0.5
#: The most that is stated of a cause that neither the script proves nor a replay reproduces: how often the surest ones are right
#: on runs with known faults (benchmarks/study/calibrate.py, tuning part). No model knows the cause that is not in it.
TOP = 0.93
#: Log-odds from which a cause stands on its own evidence, whatever else is wrong: ninety to one.
STANDS = 4.5
#: A rival below this is not worth a line.
MENTIONED = 0.01


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A cause with all evidence on it. `log_odds`: prior and weights added up."""

    cause: Cause
    evidence: tuple[Evidence, ...]

    @property
    def log_odds(self) -> float:
        """Prior plus the weights of the evidence, for and against."""
        return PRIOR + sum(e.weight if e.supports else -e.weight for e in self.evidence)

    @property
    def is_supported(self) -> bool:
        """Whether anything speaks for the cause."""
        return any(e.supports for e in self.evidence)

    @property
    def is_in_the_script(self) -> bool:
        """Whether the script proves the cause."""
        return any(e.supports and e.kind == "code" and e.weight >= PROOF for e in self.evidence)

    def competes_with(self, other: Suspicion) -> bool:
        """Whether the run has one of the two causes rather than both."""
        if self is other or (self.is_in_the_script and other.is_in_the_script):
            return False
        if not set(self.cause.concerns) & set(other.cause.concerns):
            return False
        alike = other.cause.code in self.cause.look_alikes or self.cause.code in other.cause.look_alikes
        return alike or min(self.log_odds, other.log_odds) < STANDS


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A cause that is named: its share of the belief, at most `TOP`, what it brought about, and what else it could be."""

    suspicion: Suspicion
    confidence: float
    severity: Severity
    consequences: tuple[str, ...]
    rivals: tuple[Rival, ...]


@dataclass(frozen=True, slots=True)
class Opinion:
    """The diagnoses, first cause first. `undecided`: something is wrong, but no cause holds enough of the belief."""

    diagnoses: tuple[Diagnosis, ...]
    undecided: bool


def decide(suspicions: Sequence[Suspicion], unchecked: Mapping[str, str] | None = None, *, by_symptom: bool = False) -> Opinion:
    """Return the opinion on all suspicions of one run; `unchecked`: code -> why that cause could not be looked at.

    `by_symptom`: whether evidence of a symptom is among them, which several causes share: then none is named.
    """
    alone = [s for s in suspicions if s.cause.standalone and s.is_supported]
    present = {s.cause.code: s for s in suspicions if s.is_supported and not s.cause.standalone}
    folded = _fold(present)
    roots = sorted((s for code, s in present.items() if code not in folded), key=lambda s: (-s.log_odds, s.cause.code))
    totals = {s.cause.code: 1.0 + sum(exp(r.log_odds) for r in roots if r is s or s.competes_with(r)) for s in roots}
    share = {s.cause.code: exp(s.log_odds) / totals[s.cause.code] for s in roots}
    course = sum(share[s.cause.code] for s in roots if "course" in s.cause.concerns)
    doubt = course >= DOUBTED or sum(share.values()) >= NAMED
    named = [s for s in roots if share[s.cause.code] >= NAMED and not by_symptom]
    undecided = doubt and not named
    if undecided:
        named = [s for s in roots if share[s.cause.code] >= CANDIDATE]
        if len(named) < 2 and share[roots[0].cause.code] < ALONE:
            named = roots[:3]
    diagnoses = []
    for s in named:
        code = s.cause.code
        belief = min(share[code], OPEN) if undecided else share[code]
        consequences = tuple(sorted(c for c, root in folded.items() if root == code))
        diagnoses.append(
            Diagnosis(
                s,
                _stated(s, belief),
                _severity(s.cause.severity, belief, sum(share[r.cause.code] for r in roots if r.cause.severity == "error")),
                consequences,
                _rivals(s, suspicions, folded, totals[code], unchecked or {}),
            )
        )
    diagnoses += [Diagnosis(s, 1.0 / (1.0 + exp(-s.log_odds)), s.cause.severity, (), ()) for s in alone]
    return Opinion(tuple(diagnoses), undecided)


def _fold(present: Mapping[str, Suspicion]) -> dict[str, str]:
    """Return consequence -> root cause: explained by a cause that is likely itself, and not far weaker."""
    folded: dict[str, str] = {}
    for code, s in present.items():
        explaining = [
            root
            for root in present.values()
            if code in root.cause.explains and root.log_odds > 0.0 and root.log_odds >= s.log_odds - STRONG
        ]
        if explaining:
            folded[code] = max(explaining, key=lambda root: root.log_odds).cause.code
    # two causes that explain each other: the likelier one is the root
    for code in sorted(folded, key=lambda c: -present[c].log_odds):
        if folded.get(folded[code]) == code:
            del folded[code]
    for code in folded:
        seen = {code}
        while folded[code] in folded and folded[code] not in seen:
            seen.add(folded[code])
            folded[code] = folded[folded[code]]
    return folded


def _stated(suspicion: Suspicion, share: float) -> float:
    """Return the confidence that is stated for a share of the belief."""
    reproduced = any(e.supports and e.kind == "replay" for e in suspicion.evidence)
    return share if reproduced or suspicion.is_in_the_script else min(share, TOP)


def _severity(own: Severity, confidence: float, failed: float) -> Severity:
    """Return the cause's severity as far as belief carries it: an undecided cause alarms nobody.

    `failed`: belief in all causes that are errors. Which of them it is may be open while it is sure that there is one.
    """
    if confidence < NAMED:
        return "info"
    return "warning" if own == "error" and failed < SURE else own


def _rivals(
    first: Suspicion, all_: Sequence[Suspicion], folded: Mapping[str, str], total: float, unchecked: Mapping[str, str]
) -> tuple[Rival, ...]:
    """Return what else it could be: causes with a share of the belief, and the look-alikes of the first one."""
    rivals = []
    for s in all_:
        code = s.cause.code
        share = exp(s.log_odds) / (total if s.is_supported else total + exp(s.log_odds))
        if not first.competes_with(s) or code in folded or s.cause.standalone:
            continue
        if not (s.is_supported and share >= MENTIONED) and code not in first.cause.look_alikes:
            continue
        against = sorted((e for e in s.evidence if not e.supports), key=lambda e: -e.weight)
        supporting = [e for e in s.evidence if e.supports]
        if against:
            why_not = against[0].text
        elif supporting:
            why_not = "Fewer of its signs are in the log: " + "; ".join(e.text.rstrip(".") for e in supporting[:2]) + "."
        elif code in unchecked:
            why_not = f"It could not be checked: {unchecked[code]}."
        else:
            why_not = "None of its signs is in the log."
        rivals.append(Rival(code, s.cause.name, share, why_not, s.cause.experiment))
    return tuple(sorted(rivals, key=lambda r: (-r.confidence, r.code)))
