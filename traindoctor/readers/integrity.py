"""What a logger did to the values of a series before they were written: NaN as zero, values that stand still, rounding.

Nothing is changed here: every finding is a `Damage`, so that a report can say how far a curve is to be trusted. All of
them ask for an abrupt change or an exact pattern, because a curve that is merely odd is what a doctor is asked about.

Averaging over time is told by the name of a tag alone. From the values it cannot be told reliably: the loss of a full
batch, or a mean over the steps between two lines of a log, is as smooth as a moving average.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import Damage
from traindoctor.readers.table import count_times
from traindoctor.readers.tags import SIDE, quantity_of, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from traindoctor.model import FloatArray, Series

#: Quantities that change in every step of a sound training; rates, scales and accuracies stand still for good reasons.
ALIVE = ("loss", "val_loss", "loss_term", "grad_norm", "update_norm")
#: Values before and after a change for it to be one, and no accident: at 20 equal floats in a row chance is out.
LEAST = 20
#: Values right before a change that say whether the curve was on its way to zero, or to rest.
NEAR = 10
#: A curve that goes to zero passes a tenth of its level on the way; one that is cut off does not.
NOT_SMALL = 0.1
#: Relative change from value to value above which a curve is not at rest: float32 rounds at 6e-8, a run that converges
#: comes to its last digit through changes ever smaller.
AT_REST = 1e-4
#: Decimals to which loggers round: "%.4f" is the finest usual one that hides a loss.
MOST_DECIMALS = 4
#: Values of a series for a pattern of decimals to be one; the last of them are its tail.
LEAST_ROUNDED, TAIL = 50, 200
#: Rounding matters where one unit of the last decimal is more than this part of the level.
COARSE = 0.01
#: Where values differ, rounding to a grid makes at least so many of them equal.
VALUES_EACH = 3
#: Words of a tag that say that earlier steps are in its value.
AVERAGED = frozenset({"smoothed", "smooth", "ema", "running", "moving", "rolling"})


def check_series(series: Sequence[Series], file: str, aliases: Mapping[str, Sequence[str]] | None = None) -> list[Damage]:
    """Return what is doubtful in the values of a run's series; no value is changed.

    `file`: how messages name the log of a series that does not say where it is from.
    """
    known = [(one, one.quantity or quantity_of(one.tag, aliases)) for one in series if len(one) and one.quantity not in SIDE]
    found = []
    for one, quantity in known:
        if quantity not in ALIVE:
            continue
        where = one.source or file
        checks = (
            zero_for_nan(one, (other for other, _ in known if other is not one), where) if quantity != "val_loss" else None,
            constant_tail(one, where),
            quantised(one, where),
        )
        found += [damage for damage in checks if damage is not None]
    losses = [one for one, quantity in known if quantity == "loss"]
    if losses and all(is_averaged(one.tag) for one in losses):
        found += [averaged(one, one.source or file) for one in losses]
    return found


def zero_for_nan(series: Series, others: Iterable[Series], file: str) -> Damage | None:
    """Return a damage where values far from zero become 0.0 for good, while another series goes on; else None.

    Writers do so that replace NaN by zero, and the Trainer of Hugging Face, whose mean over no finite loss is 0.0
    (`logging_nan_inf_filter`).
    """
    value = series.value
    if value.size < LEAST + NEAR or value[-1] != 0.0:
        return None
    before = np.flatnonzero(value != 0.0)
    if not before.size or value.size - 1 - before[-1] < LEAST:
        return None
    start = int(before[-1]) + 1
    sound = value[:start][np.isfinite(value[:start])]
    if sound.size < NEAR or (sound == 0.0).any():
        return None
    level = float(np.median(np.abs(sound)))
    if np.abs(sound[-NEAR:]).min() < NOT_SMALL * level:
        return None
    step = int(series.step[start])
    if not any(_goes_on(other, step) for other in others):
        return None
    count = count_times(value.size - start, "value")
    what = (
        f"{series.tag} is exactly 0.0 from step {step:,} to the end ({count}), after {value[start - 1]:.3g}, while other series "
        "go on: NaN may have been written as zero; the values are left as they are"
    )
    return Damage("zero-for-nan", file, what)


def _goes_on(series: Series, step: int) -> bool:
    """Whether a series still changes from this step on, or turns NaN."""
    after = series.value[series.step >= step]
    if quantity_of(series.tag) == "epoch" or after.size < NEAR:
        return False
    return bool(np.isnan(after).any() or (np.diff(after) != 0.0).mean() > 0.5)


def constant_tail(series: Series, file: str) -> Damage | None:
    """Return a damage where the last values are the same to the last digit, though no two in a row were before; else None.

    A curve that comes to rest by itself does so through ever smaller changes, and is none.
    """
    value = series.value
    if value.size < 2 * LEAST or not np.isfinite(value[-1]) or value[-1] == 0.0 or value[-LEAST] != value[-1]:
        return None
    changed = np.flatnonzero(value != value[-1])
    start = int(changed[-1]) + 1 if changed.size else 0
    if value.size - start < LEAST or start < LEAST:
        return None
    before = value[:start]
    move = np.diff(before)
    if not np.isfinite(before[-LEAST:]).all() or (move == 0.0).any():
        return None
    if np.median(np.abs(move[-NEAR:])) < AT_REST * abs(value[-1]):
        return None
    what = (
        f"{series.tag} is {float(value[-1])!r} to the last digit from step {int(series.step[start]):,} to the end "
        f"({count_times(value.size - start, 'value')}), where no two in a row were equal before: it may no longer be measured"
    )
    return Damage("constant-tail", file, what)


def quantised(series: Series, file: str) -> Damage | None:
    """Return a damage where values are rounded to so few decimals that the end of the curve is hidden; else None."""
    value = series.value[np.isfinite(series.value)]
    if value.size < LEAST_ROUNDED:
        return None
    tail = value[-TAIL:]
    if not _on_grid(tail, MOST_DECIMALS):
        return None
    decimals = next((k for k in range(MOST_DECIMALS + 1) if _on_grid(value, k)), None)
    if not decimals:
        return None
    unit, level = 10.0**-decimals, float(np.median(np.abs(tail)))
    n_distinct = np.unique(np.round(tail / unit)).size
    if unit <= COARSE * level or n_distinct * VALUES_EACH > tail.size or np.ptp(value) == 0.0:
        return None
    part = f"{100.0 * unit / level:.0f} % of its level at the end" if level else "and it is zero at the end"
    what = f"{series.tag} was rounded to {count_times(decimals, 'decimal')} when it was logged: a unit of the last one is {part}"
    return Damage("quantised", file, what)


def _on_grid(value: FloatArray, decimals: int) -> bool:
    """Whether all values are multiples of 10^-decimals, as float32 holds them."""
    with np.errstate(over="ignore", invalid="ignore"):  # infinities are on no grid
        scaled = value * 10.0**decimals
        return bool((np.abs(scaled - np.round(scaled)) <= 1.2e-7 * np.abs(scaled) + 1e-9).all())


def is_averaged(tag: str) -> bool:
    """Whether a tag says that its values are averages over time; `ema` among validation is the model, not the value."""
    return "(avg)" in tag.lower() or not AVERAGED.isdisjoint(words(tag))


def averaged(series: Series, file: str) -> Damage:
    """Return what is to be known of a loss that is there only as an average over time."""
    what = f"{series.tag} is by its name an average over earlier steps: a spike is flatter in it, and comes later"
    return Damage("averaged", file, what)
