"""The nouns of a demonstration: what is trained, what is shown beside it, and what came of the repair."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from traindoctor.demos.training import Problem, Recipe, Training
    from traindoctor.model import Fix, Report
    from traindoctor.replay.verdict import Course, Judgement


@dataclass(frozen=True, slots=True)
class Table:
    """Numbers that a demo measured itself, as text. `note`: what they say."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """Lines of ASCII."""

    title: str
    lines: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Demo:
    """A classic failure. Nothing here says what the pipeline will answer.

    `story`: what is trained and why it fails, 3 to 6 lines. `problem`: of a seed. `faulty`: the runs that are logged and
    diagnosed. `beside`: the runs shown beside them. `measure`: what the demo works out itself, of the faulty runs, those
    beside them, and the seed. `remedies`: changes of settings that the demo retrains whatever the report says, by title.
    `script`: the training script as users write it, where the code is the evidence.
    """

    name: str
    summary: str
    story: str
    problem: Callable[[int], Problem]
    faulty: tuple[Recipe, ...]
    beside: tuple[Recipe, ...] = ()
    measure: Callable[[Sequence[Training], int], Sequence[Table | Picture]] = lambda _runs, _seed: ()
    remedies: Mapping[str, Mapping[str, object]] | None = None
    script: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Retraining:
    """A faulty run trained again with a change. `fix`: of the report, None for a remedy of the demo's own.

    `before`, `after`: the figures that the judgement rests on.
    """

    title: str
    settings: Mapping[str, object]
    fix: Fix | None
    faulty: Training
    training: Training
    before: Course
    after: Course
    judgement: Judgement


@dataclass(frozen=True, slots=True, eq=False)
class Performance:
    """A demo as it went: `runs`: the faulty ones first. `why_not`: why a first fix could not be trained, else empty."""

    demo: Demo
    seed: int
    runs: tuple[Training, ...]
    shown: tuple[Table | Picture, ...]
    report: Report
    retrainings: tuple[Retraining, ...]
    why_not: tuple[str, ...]
