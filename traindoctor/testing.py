"""The examples of every installed rule as test cases: what a rule pack runs in its own tests.

The test of a pack is one parametrised function over `cases()`, with `ids=str`, that asserts
`finds(case.cause, case.example) == case.expect_finding`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from traindoctor.check import Found, in_file, in_script, mended
from traindoctor.differential import Suspicion, decide
from traindoctor.pipeline import gather
from traindoctor.registry import load_rules

if TYPE_CHECKING:
    from collections.abc import Iterable

    from traindoctor.rule import Cause, Example, Sample


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
        valid, invalid = cause.make_examples()
        collected += [Case(cause, example, False) for example in valid]
        collected += [Case(cause, example, True) for example in invalid]
    return collected


def finds(cause: Cause, example: Example) -> bool:
    """Return whether the cause is named on the example, with no other cause to compete and no replay.

    A cause that draws suspicion but holds too little of the belief is not named.
    """
    from traindoctor.signals.measurements import Measurements

    evidence = tuple(gather(cause, Measurements(example.run), example.loops, cause.limits(), example.state))
    opinion = decide([Suspicion(cause, evidence)])
    return bool(opinion.diagnoses) and not opinion.undecided


# -- scripts and configs ----------------------------------------------------------------------------------------------

#: Marks the line of a sample at which a rule must speak.
MARK = "# <-"


class StaticCase(NamedTuple):
    """A sample of a rule, and the lines at which the rule has to speak."""

    cause: Cause
    sample: Sample
    lines: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.cause.code}-code-{'invalid' if self.lines else 'valid'}-{self.sample.name.replace(' ', '-')}"


def static_cases(causes: Iterable[Cause] | None = None) -> list[StaticCase]:
    """Return the samples of the causes, of all installed packs when none are given, by code, valid ones first.

    Raises: ValueError for an invalid sample that says no line. RulePackError as `load_rules` does.
    """
    collected = []
    for cause in load_rules().causes.values() if causes is None else causes:
        collected += [StaticCase(cause, sample, ()) for sample in cause.valid_code]
        for sample in cause.invalid_code:
            marked = tuple(n for n, line in enumerate(sample.text.splitlines(), 1) if MARK in line)
            lines = (sample.line,) if sample.line else marked
            if not lines:
                raise ValueError(f"{cause.code}, {sample.name!r}: no line is marked with {MARK!r}")
            collected.append(StaticCase(cause, sample, lines))
    return collected


def mistakes(causes: Iterable[Cause], sample: Sample) -> list[Found]:
    """Return what the causes find in a sample, as `check` finds it in a file."""
    if sample.file.endswith((".py", ".ipynb")):
        from traindoctor.code.project import Project
        from traindoctor.code.script import Script

        project = Project.of_texts({sample.file: sample.text, **sample.others})
        script = Script(sample.file, sample.text, project=project)
        found = in_script(script, causes)
        if found or not sample.file.startswith("config"):
            return found
    from traindoctor.configs.file import ConfigFile

    return in_file(ConfigFile(sample.file, sample.text, others=sample.others), causes)


def repaired(causes: Iterable[Cause], sample: Sample) -> str:
    """Return the text of a sample after every repair that the causes offer, safe or not."""
    return mended(sample.text, mistakes(list(causes), sample), unsafe=True)
