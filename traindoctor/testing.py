"""The examples of every installed rule as test cases: what a rule pack runs in its own tests.

The test of a pack is one parametrised function over `cases()`, with `ids=str`, that asserts
`finds(case.cause, case.example) == case.expect_finding`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from traindoctor.diagnose import gather
from traindoctor.differential import Suspicion, decide
from traindoctor.registry import load_rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from traindoctor.rule import Cause, Example


class Case(NamedTuple):
    """An example of a rule, and whether the rule has to speak."""

    cause: Cause
    example: Example
    expect_finding: bool

    def __str__(self) -> str:
        return f"{self.cause.code}-{'invalid' if self.expect_finding else 'valid'}-{self.example.name.replace(' ', '-')}"


def cases(causes: Iterable[Cause] | None = None) -> list[Case]:
    """Return the examples of the causes, of all installed packs when none are given, by code, valid ones first.

    Raises: RulePackError as `load_rules` does.
    """
    collected = []
    for cause in load_rules().causes.values() if causes is None else causes:
        collected += [Case(cause, example, False) for example in cause.valid]
        collected += [Case(cause, example, True) for example in cause.invalid]
    return collected


def finds(cause: Cause, example: Example) -> bool:
    """Return whether the cause is named on the example, with no other cause to compete and no replay.

    A cause that draws suspicion but holds too little of the belief is not named.
    """
    from traindoctor.signals.measurements import Measurements

    evidence = tuple(gather(cause, Measurements(example.run), example.loops, cause.limits()))
    opinion = decide([Suspicion(cause, evidence)])
    return bool(opinion.diagnoses) and not opinion.undecided
