"""A loss as one line of bars, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traindoctor.report.wording import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traindoctor.model import FloatArray, IntArray

BARS, ASCII_BARS = "▁▂▃▄▅▆▇█", "_.-=+*#@"
LOST, ASCII_LOST = "×", "x"
#: Decades that the bars span at most: what an exact fit does below is rounding.
DECADES = 14.0


def drawable(encoding: str | None) -> bool:
    """Return whether a stream of this encoding can hold the bars."""
    try:
        BARS.encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def sparkline(
    step: IntArray,
    value: FloatArray,
    steps: tuple[int, int],
    levels: tuple[float, float],
    width: int,
    *,
    ascii_only: bool = False,
) -> str:
    """Return a curve, `step` and `value` (n,), as `width` characters over the steps from first to last.

    Each is the highest of its stretch, and of the one before where nothing was logged in it. A value that is not finite
    shows as ×; before its first and after its last step a curve is blank. The scale is logarithmic where the lower level is
    positive.
    """
    first, last = steps
    column = np.clip(((step - first) * width) // max(last - first + 1, 1), 0, width - 1)
    tops = np.full(width, -np.inf)
    np.maximum.at(tops, column, np.where(np.isfinite(value), value, np.inf))
    bars, lost = (ASCII_BARS, ASCII_LOST) if ascii_only else (BARS, LOST)
    scale = np.log10 if levels[0] > 0.0 else np.asarray
    low, high = float(scale(levels[0])), float(scale(levels[1]))
    made: list[str] = []
    ends = int(column.max(initial=-1))
    for i, top in enumerate(tops):
        if np.isneginf(top):
            made.append(made[-1] if made and i < ends else " ")
        elif np.isinf(top):
            made.append(lost)
        else:
            share = (float(scale(min(max(top, levels[0]), levels[1]))) - low) / max(high - low, 1e-300)
            made.append(bars[int(share * (len(bars) - 1) + 0.5)])
    return "".join(made).rstrip()


def levels_of(values: Sequence[FloatArray], highest: float = np.inf) -> tuple[float, float]:
    """Return the levels that the bars of several curves span; a positive lower one asks for a log scale.

    The scale is logarithmic where no value of the first curve is negative and most are positive. `highest`: no level above it.
    """
    first = values[0][np.isfinite(values[0])]
    every = np.concatenate([v[np.isfinite(v)] for v in values])
    if not every.size:
        return 0.0, 1.0
    high = min(float(every.max()), highest)
    if first.size and first.min() >= 0.0 and np.mean(first > 0.0) > 0.5 and high > 0.0:
        low = max(float(every[every > 0.0].min()), high * 10.0**-DECADES)
        return (low, high) if high > low else (low / 2, high * 2)
    low = float(every.min())
    return (min(low, 0.0), high) if high > low else (low - 0.5, high + 0.5)


def scale_words(levels: tuple[float, float]) -> str:
    """Return what the bars span, in words: "log scale from 1e-12 to 70"."""
    return f"{'log' if levels[0] > 0.0 else 'linear'} scale from {number(levels[0])} to {number(levels[1])}"
