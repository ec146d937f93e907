"""Several logs of one run -> its series on one line of time.

A process that begins again at step s makes void what was logged before from s on: those points are set aside, under a
tag of their own that no rule reads, and the stitching says so. Nothing is dropped.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.model import Damage, Histogram, Series, Stitch
from traindoctor.readers.table import check_steps
from traindoctor.readers.tags import quantity_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from numpy.typing import NDArray

    from traindoctor.readers.log import Log

    Key: TypeAlias = tuple[str, str]  # line and tag

#: A pause, in usual distances of two values, after which a new file is a resumed process.
PAUSE = 10.0
#: More step resets than this in one log are disorder, no restarts.
RESETS = 20
#: A branch of so few points, or of so small a share of the other's, is the leftover of a crash.
LEFTOVER, LEFTOVER_SHARE = 3, 0.02
#: An attempt from the first step on with so many points, and this share of the other's, is a run by itself.
ATTEMPT, ATTEMPT_SHARE = 20, 0.1
#: What readers say of the steps of one file.
STEP_DOUBTS = ("duplicate-steps", "steps-go-back")
#: Two files of which so much of the shorter one's time lies in the other's were written side by side.
SIDE_BY_SIDE = 0.5
#: What the name of a file or folder says of the process that wrote it.
RANK = re.compile(r"(?:^|(?<=[._\-/ ]))(?:rank|worker|proc|process)[._\-]?(\d{1,5})(?=$|[._\-/ ])", re.IGNORECASE)


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A log and the file, or the folder of a store, that it was read from.

    `line`: parts of one line go on where the one before it ended, or begin again; parts of different lines log the same
    steps in several files, side by side.
    """

    place: Path
    log: Log
    line: str


@dataclass(slots=True)
class Joined:
    """One run: what its parts logged, in order. `series`: quantities not yet set."""

    series: list[Series] = field(default_factory=list)
    histograms: list[Histogram] = field(default_factory=list)
    restarts: list[int] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    stitches: list[Stitch] = field(default_factory=list)


def attempts(parts: Sequence[Part]) -> list[list[Part]]:
    """Return the parts of a folder by attempt: a process that began again at the first step is a run by itself.

    The leftover of a crash stays with the attempt after it.
    """
    runs: list[list[Part]] = []
    for part in in_order(parts):
        before = [(old, shared) for run in runs[-1:] for old in run if (shared := _lead(old, part)) is not None]
        begins_again = [
            (old, new)
            for _, (old, new) in before
            if new.step[0] <= old.step[0] and not _side_by_side(old, new) and _is_substantial(old, new)
        ]
        if begins_again and len(begins_again) == len(before):
            runs.append([part])
        elif runs:
            runs[-1].append(part)
        else:
            runs.append([part])
    return runs


def in_order(parts: Iterable[Part]) -> list[Part]:
    """Return the parts in the order in which they were begun; those that do not say it last, by name."""
    return sorted(parts, key=lambda part: (np.nan_to_num(part.log.begun, nan=np.inf), part.place.name))


def join(parts: Sequence[Part], aliases: Mapping[str, Sequence[str]] | None = None) -> Joined:
    """Return what the parts of one run make up together, in the order in which they were begun.

    `aliases`: quantity -> the tags that mean it. What the readers said of steps that repeat or go back is said anew: of
    what is left on the line, and of the series that take a role.
    """
    joined = Joined()
    line: dict[Key, list[Series]] = {}
    aside: list[Series] = []
    for number, part in enumerate(in_order(parts)):
        log, name = part.log, str(part.place)
        joined.damages += log.damages
        joined.histograms += log.histograms
        joined.restarts += [start for start in log.starts if start > 0]
        mine = {(part.line, s.tag): s for s in log.series}
        shared = {key: (_whole(line[key]), one) for key, one in mine.items() if line.get(key)}
        lead = max(shared.values(), key=lambda pair: len(pair[0]) + len(pair[1]), default=None)
        if lead is not None and _side_by_side(*lead):
            mine = _as_rank(mine, set(shared), name, number, joined)
        elif lead is not None:
            mine = _go_on(line, mine, shared, lead, name, joined, aside)
        for key, one in mine.items():
            line.setdefault(key, []).append(one)
    for (_, tag), pieces in line.items():
        if not pieces:
            continue
        kept, void, starts = _resumes_within(_whole(pieces))
        joined.series.append(kept)
        aside += void
        new = [s for s in starts if s not in joined.restarts]
        joined.restarts += new
        for start in new:
            detail = f"the steps go back to {start:,} and go on from there: what tag {tag} held from that step on is set aside"
            joined.stitches.append(Stitch("resumed", kept.source, detail, start))
    joined.damages = [d for d in joined.damages if d.kind not in STEP_DOUBTS] + _doubtful_steps(joined.series, aliases)
    joined.series += aside
    joined.restarts = list(dict.fromkeys(joined.restarts))
    joined.histograms = _joined_histograms(joined.histograms)
    return joined


# -- two parts --------------------------------------------------------------------------------------------------------


def _lead(old: Part, new: Part) -> tuple[Series, Series] | None:
    """Return the tag that both log, with the most points; None when they share none."""
    before = {s.tag: s for s in old.log.series if len(s)}
    shared = [(before[s.tag], s) for s in new.log.series if s.tag in before and len(s)]
    return max(shared, key=lambda pair: len(pair[0]) + len(pair[1]), default=None)


def _is_substantial(old: Series, new: Series) -> bool:
    few, many = sorted((len(old), len(new)))
    return few >= ATTEMPT and few >= ATTEMPT_SHARE * many


def _side_by_side(old: Series, new: Series) -> bool:
    """Whether two processes wrote at the same time: their wall times overlap, and so do their steps."""
    if not (np.isfinite(old.wall_time).all() and np.isfinite(new.wall_time).all()) or new.step.min() > old.step.max():
        return False
    spans = [(float(s.wall_time.min()), float(s.wall_time.max())) for s in (old, new)]
    both = min(spans[0][1], spans[1][1]) - max(spans[0][0], spans[1][0])
    shorter = min(spans[0][1] - spans[0][0], spans[1][1] - spans[1][0])
    return shorter > 0.0 and both > SIDE_BY_SIDE * shorter


def _as_rank(mine: Mapping[Key, Series], shared: set[Key], name: str, number: int, joined: Joined) -> dict[Key, Series]:
    """Return the series of a process that wrote beside the first one, with its rank behind the tags that both log."""
    found = RANK.search(name.rpartition("/")[2])
    rank = int(found.group(1)) if found else number
    detail = (
        f"was written at the same time as the first file, step by step: its {len(shared)} shared tags are kept as rank {rank}"
    )
    joined.stitches.append(Stitch("rank", name, detail))
    made = {}
    for key, one in mine.items():
        tag = as_rank(one.tag, rank) if key in shared else one.tag
        made[key[0], tag] = replace(one, tag=tag)
    return made


def as_rank(tag: str, rank: int) -> str:
    """Return the tag of another process than the one that speaks for the run."""
    return f"{tag} (rank {rank})"


def _go_on(
    line: dict[Key, list[Series]],
    mine: dict[Key, Series],
    shared: Mapping[Key, tuple[Series, Series]],
    lead: tuple[Series, Series],
    name: str,
    joined: Joined,
    aside: list[Series],
) -> dict[Key, Series]:
    """Put a later process behind what there is; return its series that stay on the line."""
    old, new = lead
    start = min(int(b.step[0]) for _, b in shared.values())
    last = max(int(a.step.max()) for a, _ in shared.values())
    void = int((old.step >= start).sum())
    if not void:
        _note_restart(old, new, name, joined)
        return mine
    where = f"steps {start:,} to {last:,} were logged before in {old.source.rpartition('/')[2]}"
    if len(new) < max(LEFTOVER, LEFTOVER_SHARE * void):
        detail = f"{where}: this later file holds {len(new):,} of them, a process that died at once; it is set aside"
        joined.stitches.append(Stitch("leftover", name, detail, start))
        aside += [replace(s, tag=f"{s.tag} (set aside, file begun later)") for key, s in mine.items() if key in shared]
        return {key: s for key, s in mine.items() if key not in shared}
    again = start <= int(old.step[0])
    what = "the process began again" if again else f"the process was resumed at step {start:,}"
    detail = f"{where}: {what}, and the later values count; the {void:,} earlier ones are set aside"
    joined.stitches.append(Stitch("began-again" if again else "resumed", name, detail, start))
    joined.restarts.append(start)
    for key, pieces in line.items():
        if key[0] != next(iter(mine))[0] or not pieces:
            continue  # another line of time
        whole = _whole(pieces)
        keep = whole.step < start
        line[key] = [_take(whole, keep)] if keep.any() else []
        if not keep.all():
            aside.append(_aside(whole, ~keep, start))
    return mine


def _note_restart(old: Series, new: Series, name: str, joined: Joined) -> None:
    """Note a later file that begins behind the earlier one: after a gap in the steps, or a pause in time."""
    first, last = int(new.step[0]), int(old.step.max())
    stride = float(np.median(np.abs(np.diff(old.step)))) if len(old) > 1 else 0.0
    pace = float(np.median(np.abs(np.diff(old.wall_time)))) if len(old) > 1 else 0.0
    pause = float(new.wall_time[0] - old.wall_time[-1])
    gap = bool(stride) and first > last + 1.5 * stride
    if gap or (pace > 0.0 and pause > PAUSE * pace):
        joined.restarts.append(first)
        why = f"{first - last:,} steps after the last one" if gap else f"{pause:,.0f} s after the last value"
        joined.stitches.append(Stitch("resumed", name, f"this file goes on from step {first:,}, {why}", first))
    else:
        joined.stitches.append(Stitch("joined", name, f"this file goes on from step {first:,}", first))


# -- one series -------------------------------------------------------------------------------------------------------


def _resumes_within(series: Series) -> tuple[Series, list[Series], list[int]]:
    """Return the series without what a resume in the same log made void, that part, and where it was resumed.

    A single value out of order is no resume: at least LEFTOVER points must lie behind the step that is gone back to.
    """
    step = series.step
    if step.size < 2 or not (np.diff(step) < 0).any():
        return series, [], []
    drops = np.flatnonzero(np.diff(step) < 0) + 1
    if drops.size > RESETS:
        return series, [], []
    keep = np.ones(step.size, dtype=bool)
    starts, aside = [], []
    for at in drops.tolist():
        start = int(step[at])
        void = np.flatnonzero(keep[:at] & (step[:at] >= start))
        if void.size >= LEFTOVER and (step[at : at + LEFTOVER] <= step[:at].max()).all() and step.size - at >= LEFTOVER:
            keep[void] = False
            starts.append(start)
            aside.append(_aside(series, np.isin(np.arange(step.size), void), start))
    return (_take(series, keep), aside, starts) if starts else (series, [], [])


def _aside(series: Series, keep: NDArray[np.bool_], start: int) -> Series:
    return replace(_take(series, keep), tag=f"{series.tag} (set aside at the restart at step {start})")


def _take(series: Series, keep: NDArray[np.bool_]) -> Series:
    return replace(series, step=series.step[keep], value=series.value[keep], wall_time=series.wall_time[keep])


def _whole(pieces: Sequence[Series]) -> Series:
    if len(pieces) == 1:
        return pieces[0]
    step, value, wall = (np.concatenate([getattr(p, name) for p in pieces]) for name in ("step", "value", "wall_time"))
    return replace(pieces[0], step=step, value=value, wall_time=wall)


def _doubtful_steps(series: Sequence[Series], aliases: Mapping[str, Sequence[str]] | None) -> list[Damage]:
    """Return the damages of steps that still repeat or go back in series that take a role, told once a file."""
    by_file: dict[str, list[Series]] = {}
    for one in series:
        if quantity_of(one.tag, aliases) not in ("", "epoch"):
            by_file.setdefault(one.source, []).append(one)
    return [damage for file, group in by_file.items() for damage in check_steps(file, [s.step for s in group])[1]]


def _joined_histograms(histograms: Sequence[Histogram]) -> list[Histogram]:
    by_tag: dict[str, list[Histogram]] = {}
    for one in histograms:
        by_tag.setdefault(one.tag, []).append(one)
    return [_whole_histogram(group) for group in by_tag.values()]


def _whole_histogram(pieces: Sequence[Histogram]) -> Histogram:
    if len(pieces) == 1:
        return pieces[0]
    names = ("step", "wall_time", "count", "total", "sum_squares", "quantile")
    step, wall, count, total, squares, quantile = (np.concatenate([getattr(p, name) for p in pieces]) for name in names)
    return Histogram(pieces[0].tag, step, wall, count, total, squares, quantile, pieces[0].source)
