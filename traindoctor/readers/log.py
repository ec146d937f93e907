"""What a reader hands on: the log of one run, whatever the format of its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from traindoctor.model import Damage, Histogram, Series, StepUnit


@dataclass(frozen=True, slots=True)
class Hints:
    """What the user says of a log. `step_column`: the column that counts, "row" for the rows themselves.

    `aliases`: quantity -> the tags that mean it, best first.
    """

    step_column: str | None = None
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)


NO_HINTS = Hints()


@dataclass(frozen=True, slots=True, eq=False)
class Log:
    """What one file holds of one run; a file in which runs were appended gives several.

    `format`: name of the format, as `--format-in` takes it. `series`: in file order, quantities not yet set.
    `step_source`: the column or field that counts, "" where the format has one of its own. `goes_back`: steps at which
    the count goes back and the run goes on, resumed or restarted. `starts`: steps of session starts that the format
    itself records. `settings`: hyperparameters as the log holds them, nested or with dotted names.
    `name`: what the log calls its run. `begun`: wall time of its first record, NaN when unknown.
    """

    format: str
    series: tuple[Series, ...]
    step_unit: StepUnit = "step"
    step_source: str = ""
    damages: tuple[Damage, ...] = ()
    goes_back: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    histograms: tuple[Histogram, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    name: str = ""
    begun: float = float("nan")
