"""Scalars in the order of a file -> columns by tag, with the memory of little more than the columns themselves.

Each stretch of a file is sorted by tag as it comes, while it is in the cache; at the end the stretches are copied to
their places in whole columns, one column after the other, and what was copied is let go.
"""

from __future__ import annotations

import itertools
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from traindoctor.model import Series

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from traindoctor.model import FloatArray, IntArray

    Span: TypeAlias = tuple[int, int]  # start, stop

    Number = TypeVar("Number", bound=np.number[Any])

#: Bytes of a column from which it gets memory of its own.
APART = 2**15
_ONE = np.ones(1, dtype=bool)


@dataclass(slots=True, eq=False)
class Part:
    """Scalars of a stretch of a file, those of a tag together.

    `tags`: (k,) their numbers, in the order in which their values come; `stops`: (k,) where those of each end. `order`:
    (k,) the same tags, in the order of their first records. `step`, `wall_time`, `value`: (n,), in file order within a tag.
    """

    tags: IntArray
    stops: IntArray
    order: IntArray
    step: NDArray[np.integer]
    wall_time: FloatArray
    value: NDArray[np.floating]


def parts_of(
    tag: IntArray,
    step: IntArray,
    wall_time: FloatArray,
    value: NDArray[np.floating],
    spans: Sequence[Span],
    *,
    narrow: bool = False,
) -> list[Part | None]:
    """Return the scalars of each span of rows by tag, None where there are none.

    `tag`: (n,) numbers, -1 for a row that is no scalar. `spans`: one after the other, and all rows. `narrow`: whether
    steps and values are to be kept in 32 bits where that is exact, for columns that are copied once more.
    """
    if not tag.size:
        return [None] * len(spans)
    other = int(tag.max()) + 1  # stands for rows that are no scalars, behind all others
    n_tags = other + 1
    key = tag
    if tag.min() < 0:
        key = np.where(tag < 0, other, tag)
    if len(spans) > 1:
        key = key + np.repeat(np.arange(len(spans)) * n_tags, [stop - start for start, stop in spans])
    order = _stable_order(key, len(spans) * n_tags)
    key = key[order]
    first = np.flatnonzero(np.concatenate((_ONE, key[1:] != key[:-1])))
    tags = key[first] % n_tags
    by_first = tags[np.argsort(order[first])]
    edges = np.searchsorted(key[first], np.arange(len(spans) + 1) * n_tags).tolist()
    starts = np.append(first, key.size)
    if not narrow:
        value = value.astype(np.float64, copy=False)
    elif np.array_equal(step, small := step.astype(np.int32)):
        step = small  # type: ignore[assignment]
    kept_step, kept_wall, kept_value = _apart(step, order), _apart(wall_time, order), _apart(value, order)
    found: list[Part | None] = []
    for a, b in itertools.pairwise(edges):
        ordered = by_first[a:b]
        if b > a and tags[b - 1] == other:
            b -= 1
            ordered = ordered[ordered != other]
        at = slice(int(starts[a]), int(starts[b]))
        part = Part(tags[a:b], starts[a + 1 : b + 1] - at.start, ordered, kept_step[at], kept_wall[at], kept_value[at])
        found.append(part if b > a else None)
    return found


def _stable_order(key: IntArray, limit: int) -> IntArray:
    """Return the order by key, (n,); NumPy sorts 16 bits by radix, ten times as fast as more."""
    if limit <= 2**16:
        return np.argsort(key.astype(np.uint16), kind="stable")
    if limit > 2**32:
        return np.argsort(key, kind="stable")
    order = np.argsort((key & 0xFFFF).astype(np.uint16), kind="stable")
    return order[np.argsort((key >> 16)[order].astype(np.uint16), kind="stable")]


def _apart(column: NDArray[Number], order: IntArray) -> NDArray[Number]:
    """Return a column in an order, in memory of its own.

    It goes back to the system at once when it is let go. Among what is used for moments it would leave holes behind, so
    that twice the memory of the columns stayed taken.
    """
    if column.nbytes < APART:
        return column[order]
    held: NDArray[Number] = np.frombuffer(mmap.mmap(-1, column.nbytes), dtype=column.dtype)
    return column.take(order, out=held, mode="clip")


def join(parts: Sequence[Part], tags: Sequence[str], file: str) -> tuple[Series, ...]:
    """Return the series of all parts, in the order of their first records; the parts are empty afterwards.

    `tags`: names by number.
    """
    if not parts:
        return ()
    order = list(dict.fromkeys(np.concatenate([part.order for part in parts]).tolist()))
    if len(parts) == 1:
        [part] = parts
        stops = part.stops.tolist()
        where = {tag: slice(a, b) for tag, a, b in zip(part.tags.tolist(), [0, *stops], stops)}  # noqa: B905 - one start more
        wide, exact = part.step.astype(np.int64, copy=False), part.value.astype(np.float64, copy=False)
        return _series(tags, order, where, wide, part.wall_time, exact, file)
    numbers = np.array(sorted(order), dtype=np.int64)
    total = np.zeros(numbers.size + 1, dtype=np.int64)
    mine = [np.searchsorted(numbers, part.tags) for part in parts]
    counts = [np.diff(part.stops, prepend=0) for part in parts]
    for place, count in zip(mine, counts, strict=True):
        total[place + 1] += count
    start = np.cumsum(total)
    n = int(start[-1])
    wall_time, step, value = np.empty(n), np.empty(n, dtype=np.int64), np.empty(n)
    whole: NDArray[Any]
    for name, whole in (("wall_time", wall_time), ("step", step), ("value", value)):
        at = start[:-1].copy()
        for part, place, count in zip(parts, mine, counts, strict=True):  # a value goes behind those of the parts before
            shift = at[place] - (part.stops - count)
            whole[np.repeat(shift, count) + np.arange(count.sum())] = getattr(part, name)
            setattr(part, name, None)  # free as it goes
            at[place] += count
    bounds = start.tolist()
    where = {number: slice(*bounds[k : k + 2]) for k, number in enumerate(numbers.tolist())}
    return _series(tags, order, where, step, wall_time, value, file)


def _series(
    tags: Sequence[str],
    order: Sequence[int],
    where: Mapping[int, slice],
    step: IntArray,
    wall_time: FloatArray,
    value: FloatArray,
    file: str,
) -> tuple[Series, ...]:
    """Return the series of tags in an order, each a stretch of the columns."""
    return tuple(Series("", tags[tag], step[(at := where[tag])], value[at], wall_time[at], file) for tag in order)
