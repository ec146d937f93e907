"""What a course shows that failed, whatever the cause: it never moved, stands at chance, was lost, was thrown up.

Each symptom has several causes that a loss alone does not tell apart. Where no cause has enough signs of its own to be named,
those that make the symptom most often are listed, so that a run that visibly failed does not end without an answer. A symptom
names no cause: it speaks for several at once.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from traindoctor.rule import MODERATE, STRONG, WEAK
from traindoctor.signals.stillness import BEGINS, LEARNS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traindoctor.signals.measurements import Measurements, SeriesMeasurements

#: A run of fewer logged points, or steps, is too short to have failed; that many points in fewer steps may be epochs.
POINTS, STEPS, EPOCHS = 12, 150, 24
#: Level at the end over that of the start of a loss that did not move: at least, at most.
STILL_LEFT, STILL_MOST = 0.97, 1.1
#: Fall in standard errors, and over the start, that is one: a likelihood may have a high floor, and a saddle is not quite flat.
STILL_FALL, STILL_WAY = 6.0, 0.002
#: Standard error of that fall over the level, at most: a loss of more noise may fall unseen.
STILL_ERROR = 0.03
#: A loss that stands at chance: its level over the start and the share of the run for which it stands, at least; its relative
#: distance from its end after a tenth of the run, at most.
CHANCE_LEFT, CHANCE_SHARE, CHANCE_FALL = 0.3, 0.6, 0.05
#: A loss that was lost: its end over its lowest level and over its start, at least. No sound run of the study has both.
LOST, LOST_LEFT = 2.5, 0.5
#: A loss that was thrown up: its highest over its first value, its end over the start, at least. Sound runs that are thrown up
#: come down to 0.17 of their start or less.
THROWN, THROWN_LEFT = 3.0, 0.25

#: Symptom -> what makes it, by how often it did in runs whose cause had no signs of its own (benchmarks/study, tuning part).
CAUSES: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "never_moved": {
            "TD311": STRONG,
            "TD617": STRONG,
            "TD201": MODERATE,
            "TD202": MODERATE,
            "TD612": MODERATE,
            "TD616": MODERATE,
        },
        "at_chance": {
            "TD201": MODERATE + WEAK,
            "TD510": MODERATE + WEAK,
            "TD617": MODERATE + WEAK,
            "TD610": MODERATE,
            "TD612": MODERATE,
            "TD614": MODERATE,
        },
        "lost": {"TD508": STRONG, "TD301": MODERATE + WEAK, "TD319": MODERATE + WEAK, "TD201": MODERATE},
        "thrown": {"TD201": STRONG, "TD614": MODERATE + WEAK, "TD507": MODERATE, "TD610": MODERATE},
    }
)


class Symptom(NamedTuple):
    """A sign of failure.

    `name`: as in `CAUSES`. `value`, with its `unit`. `text`: a sentence without its stop. `onset`: a step, None for the start.
    """

    name: str
    value: float
    unit: str
    text: str
    onset: int | None = None


def symptom(m: Measurements) -> Symptom | None:
    """Return what the loss of a run shows of a failure; None for nothing, for a game, and for a log too short or begun late."""
    if not m.has("loss"):
        return None
    loss = m.loss
    if loss.n < POINTS or not loss.is_positive or m.is_adversarial or not loss.initial > 0.0:
        return None
    short = m.run.step_unit == "step" and loss.step[-1] - loss.step[0] < STEPS and loss.n < EPOCHS
    if short or loss.step[0] > BEGINS * loss.stride:
        return None
    stands = None if _validation_falls(m) else _never_moved(loss) or _at_chance(m, loss)
    return stands or _lost(m, loss) or _thrown(m, loss)


def _validation_falls(m: Measurements) -> bool:
    """Return whether a validation loss gets lower, so that something is learnt whatever the training loss does."""
    validation = m.series("val_loss") if m.has("val_loss") else None
    if validation is None or validation.n < 3:
        return False
    return validation.tail < LEARNS * float(validation.value[0]) or validation.fall_significance > STILL_FALL


def _never_moved(loss: SeriesMeasurements) -> Symptom | None:
    """Return whether a loss stands from the first to the last point of a whole run, as far as its noise lets one see."""
    if loss.step[-1] - loss.step[0] < STEPS or loss.noise * (6.0 / loss.n) ** 0.5 > STILL_ERROR:
        return None
    start, level = loss.initial, loss.tail
    if loss.noise > STILL_ERROR:  # the first and the last points say little
        third = loss.n // 3
        start, level = float(loss.value[:third].mean()), float(loss.value[-third:].mean())
    falls = loss.fall_significance > STILL_FALL and loss.tail < (1.0 - STILL_WAY) * loss.initial
    if falls or not STILL_LEFT * start < level < STILL_MOST * start:
        return None
    return Symptom("never_moved", loss.tail, "loss", f"The loss stayed near {loss.tail:.3g} from first to last step")


def _at_chance(m: Measurements, loss: SeriesMeasurements) -> Symptom | None:
    """Return whether a loss came to ln C within a tenth of the run, and stands there; elsewhere it may be as low as it can."""
    still, left = m.stillness, loss.tail / loss.initial
    if still is None or still.classes is None or still.share < CHANCE_SHARE or left < CHANCE_LEFT:
        return None
    tenth = max(1, loss.n // 10)
    then = float(np.median(loss.value[tenth : 2 * tenth + 1]))
    if abs(then / loss.tail - 1.0) > CHANCE_FALL:
        return None
    text = f"After a tenth of the run the loss stood at {then:.3g}, near ln {still.classes}, and fell no further"
    return Symptom("at_chance", left, "tail / initial loss", text, still.step)


def _lost(m: Measurements, loss: SeriesMeasurements) -> Symptom | None:
    """Return whether a loss had come down, and went up again for good."""
    risen = loss.tail / loss.best if loss.best > 0.0 else float("inf")
    if risen < LOST or loss.tail < LOST_LEFT * loss.initial:
        return None
    lowest = int(loss.step[int(loss.smooth.argmin())])
    text = f"The loss came down to {loss.best:.3g} at {m.name_of(lowest)} and ended at {loss.tail:.3g}"
    return Symptom("lost", risen, "tail / lowest loss", text, lowest)


def _thrown(m: Measurements, loss: SeriesMeasurements) -> Symptom | None:
    """Return whether a loss went up far above its start, and did not come down far below it."""
    first = float(loss.value[0])
    if not first > 0.0 or loss.highest < THROWN * first or loss.tail < THROWN_LEFT * max(first, loss.initial):
        return None
    at, highest = int(loss.step[int(loss.value.argmax())]), loss.highest / first
    text = f"The loss went up to {highest:.3g} times its start at {m.name_of(at)}, and ended at {loss.tail / first:.0%} of it"
    return Symptom("thrown", highest, "highest / first loss", text, at)
