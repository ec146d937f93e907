"""What a diagnosis is measured by: rows of "what is true, what was said" in, counts with their intervals out.

Nothing here reads a log or knows a rule: the rows may come from traindoctor or from any other tool.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: What a log of each tier holds.
TIERS = {1: "loss and learning rate", 2: "these and gradient or weight norms", 3: "these and per-layer statistics"}
#: An undecided verdict that names at most this many candidates counts half where the truth is among them.
PAIR = 2


@dataclass(frozen=True, slots=True)
class Truth:
    """What a run was made to be. `fault`: "" for a sound run. `expected`: the codes of which any is right, none where no rule
    knows the fault. `expected_all`: groups of codes of faults that are all in the run. `onset`: first step of the fault, None
    where it has none or is not known. `style`: in what way a sound run is unusual."""

    name: str
    fault: str
    expected: tuple[str, ...]
    tier: int
    part: str
    family: str = ""
    style: str = ""
    expected_all: tuple[tuple[str, ...], ...] = ()
    onset: int | None = None
    steps: int = 0
    worse: float | None = None
    form: str = ""
    every: int = 0
    config: bool = False
    damage: str = ""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with the run."""
        return not self.fault

    @property
    def known(self) -> bool:
        """Whether the run has a fault that there is a rule for."""
        return bool(self.fault and self.expected)


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said of a run. `named`: groups of codes that a finding stands for, first cause first (one code each, unless a
    tool is vaguer than our codes). `candidates`: the same for an undecided verdict. `also`: causes mentioned as less likely.
    `alarms`: findings at warning or above. `confidence` and `stated_onset` are those of the first named one, or of the first
    candidate."""

    verdict: str
    named: tuple[tuple[str, ...], ...] = ()
    candidates: tuple[tuple[str, ...], ...] = ()
    also: tuple[tuple[str, ...], ...] = ()
    alarms: tuple[str, ...] = ()
    confidence: float | None = None
    stated_onset: int | None = None
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A run: what is true of it and what was said of it."""

    truth: Truth
    answer: Answer

    @property
    def first(self) -> str:
        """The first cause that was named, "" for none."""
        return "/".join(self.answer.named[0]) if self.answer.named else ""

    @property
    def right(self) -> bool:
        """Whether the first named cause is one of the expected ones."""
        return bool(self.answer.named) and any(code in self.truth.expected for code in self.answer.named[0])

    @property
    def guessed(self) -> bool:
        """Whether the one cause that the first finding suggests before all others is right."""
        return bool(self.answer.named) and self.answer.named[0][0] in self.truth.expected

    @property
    def right_in_three(self) -> bool:
        """Whether an expected cause is among the first three, however they were said."""
        said = dict.fromkeys((*self.answer.named, *self.answer.candidates, *self.answer.also))
        return any(code in self.truth.expected for group in list(said)[:3] for code in group)

    @property
    def right_pair(self) -> bool:
        """Whether the verdict left at most two causes standing and the truth is one of them."""
        pair = self.answer.candidates
        return not self.answer.named and len(pair) <= PAIR and any(c in self.truth.expected for group in pair for c in group)

    @property
    def points(self) -> float:
        """1 for the right first cause, a half for the right pair, else 0."""
        return 1.0 if self.right else 0.5 if self.right_pair else 0.0

    @property
    def alarmed(self) -> bool:
        """Whether anything was said at warning or above."""
        return bool(self.answer.alarms)

    @property
    def found_all(self) -> bool:
        """Whether each of several faults of one run was named."""
        said = {code for group in self.answer.named for code in group}
        return bool(self.truth.expected_all) and all(said & set(group) for group in self.truth.expected_all)

    def to_json(self) -> dict[str, Any]:
        """The row as one flat object, with the judgements for who reads the file by hand."""
        judged = {"first": self.first, "right": self.right, "right3": self.right_in_three, "points": self.points}
        return asdict(self.truth) | asdict(self.answer) | judged


class Share(NamedTuple):
    """`got` of `total`; `got` may hold halves."""

    got: float
    total: int

    def __str__(self) -> str:
        return f"{self.got:g}/{self.total}" if self.total else "-"

    @property
    def value(self) -> float:
        """The share itself, NaN of none."""
        return self.got / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the share."""
        return wilson(self.got, self.total)


def share_of(rows: Sequence[Row], judged: Callable[[Row], float]) -> Share:
    """Return the sum of a judgement over the rows, and their number."""
    return Share(float(sum(judged(r) for r in rows)), len(rows))


def wilson(got: float, total: int, z: float = 1.959964) -> tuple[float, float]:
    """Return the 95 % score interval of a share, (0, 1) of none.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical inference, JASA 22, 209-212.
    """
    if not total:
        return 0.0, 1.0
    p = got / total
    centre = p + z * z / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    scale = 1 + z * z / total
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


class Bin(NamedTuple):
    """One bin of a reliability table: n answers, their mean confidence, and how many were right."""

    low: float
    high: float
    n: int
    confidence: float
    right: int


def reliability(answers: Iterable[tuple[float, bool]], n_bins: int = 10) -> list[Bin]:
    """Return the bins of equal width over [0, 1] that hold answers; an answer is (confidence, was it right)."""
    held: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for p, right in answers:
        held[min(n_bins - 1, int(p * n_bins))].append((p, right))
    return [
        Bin(i / n_bins, (i + 1) / n_bins, len(some), sum(p for p, _ in some) / len(some), sum(right for _, right in some))
        for i, some in sorted(held.items())
    ]


def calibration_error(answers: Iterable[tuple[float, bool]], n_bins: int = 10) -> float:
    """Return the expected calibration error: |share right - mean confidence| over the bins, weighted by their counts.

    NaN without answers. Source: Guo et al. 2017, On calibration of modern neural networks, arXiv:1706.04599, equation 3.
    """
    bins = reliability(answers, n_bins)
    total = sum(b.n for b in bins)
    return sum(abs(b.right - b.n * b.confidence) for b in bins) / total if total else math.nan


def stated(rows: Iterable[Row], *, undecided: bool = False) -> list[tuple[float, bool]]:
    """Return (confidence, was it right) of the first named cause of each run that has one; on a sound run it is wrong.

    `undecided`: the first candidate of an undecided verdict as well.
    """
    answers = []
    for r in rows:
        if r.answer.confidence is None:
            continue
        if r.answer.named:
            answers.append((r.answer.confidence, r.right))
        elif undecided and r.answer.candidates:
            answers.append((r.answer.confidence, any(code in r.truth.expected for code in r.answer.candidates[0])))
    return answers


class OnsetError(NamedTuple):
    """Over runs whose cause was found: how many have an onset on record, how many were given one, and by how much it missed.

    `steps`, `run_share`: medians of the absolute error, NaN of none. `late`: share of the stated ones that came after the truth.
    """

    n: int
    stated: int
    steps: float
    run_share: float
    late: float


def onset_error(rows: Iterable[Row]) -> OnsetError:
    """Return how far the stated onsets are from the true ones, over runs with a right first cause and an onset on record."""
    timed = [r for r in rows if r.right and r.truth.onset is not None]
    misses = [
        (r.answer.stated_onset - r.truth.onset, max(r.truth.steps, 1))
        for r in timed
        if r.answer.stated_onset is not None and r.truth.onset is not None
    ]
    if not misses:
        return OnsetError(len(timed), 0, math.nan, math.nan, math.nan)
    return OnsetError(
        len(timed),
        len(misses),
        median(abs(miss) for miss, _ in misses),
        median(abs(miss) / steps for miss, steps in misses),
        sum(miss > 0 for miss, _ in misses) / len(misses),
    )


def confusions(rows: Iterable[Row]) -> dict[str, Counter[str]]:
    """Return expected cause -> first cause that was said, "undecided" or "nothing" -> number of runs.

    A right answer counts under the code that was said, a wrong one under the first code that was expected.
    """
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for r in rows:
        if r.truth.known:
            said = next((c for c in (r.answer.named[0] if r.answer.named else ()) if c in r.truth.expected), r.first)
            silent = "undecided" if r.answer.candidates else "nothing"
            table[said if r.right else r.truth.expected[0]][said or silent] += 1
    return dict(sorted(table.items()))


def grouped(rows: Iterable[Row], by: Callable[[Row], str]) -> dict[str, list[Row]]:
    """Return the rows by a name, names in order."""
    table: dict[str, list[Row]] = defaultdict(list)
    for r in rows:
        table[by(r)].append(r)
    return dict(sorted(table.items()))
