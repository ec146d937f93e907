"""What happened in a run, as marks on its figures: resumes, jumps of the learning rate, checkpoints, epochs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from traindoctor.report import wording as w
from traindoctor.report.figures import Event
from traindoctor.signals.rates import SUDDEN
from traindoctor.signals.schedule import steps_per_epoch
from traindoctor.signals.shape import cleaned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traindoctor.model import FloatArray, IntArray, Run

#: Ticks of epochs that can be told apart on a narrow page.
MOST_EPOCHS = 40
#: More marks of one kind than this say no more, and more changes of a rate are a schedule.
MOST_MARKS, MOST_CHANGES = 24, 8
#: A change of the rate by this share, between two logged points, that is one.
CHANGE = 0.05
#: Share of the highest rate below which nothing moves any more.
LEAST = 1e-6
#: The step in the name of a checkpoint's folder.
_CHECKPOINT = re.compile(r"(?:checkpoint|ckpt|global_step|step|iter)[-_]?(\d{1,15})(?!\d)", re.IGNORECASE)


def events_of(run: Run) -> tuple[Event, ...]:
    """Return what happened in a run, in order of steps; of each kind at most so many as a figure has room for."""
    found = [*_resumes(run), *_rate_changes(run), *_checkpoints(run), *_epochs(run)]
    return tuple(sorted(found, key=lambda event: event.step))


def in_words(events: Sequence[Event]) -> str:
    """Return what is marked, as a sentence; "" for nothing."""
    number = {kind: [e for e in events if e.kind == kind] for kind in ("resume", "lr", "checkpoint", "epoch")}
    said = []
    if number["resume"]:
        said.append(w.plural(len(number["resume"]), "resume"))
    if number["lr"]:
        said.append(w.plural(len(number["lr"]), "change of the rate", "changes of the rate"))
    if number["checkpoint"]:
        said.append(w.plural(len(number["checkpoint"]), "checkpoint"))
    if number["epoch"]:
        said.append(number["epoch"][0].text)
    return f"Marked: {', '.join(said)}." if said else ""


def _resumes(run: Run) -> Iterator[Event]:
    for step in sorted(set(run.restarts))[:MOST_MARKS]:
        told = next((s.detail for s in run.stitches if s.step == step), "")
        yield Event("resume", step, "resumed", w.clean(told, 200))


def _rate_changes(run: Run) -> Iterator[Event]:
    """Yield the jumps of the logged rate: moves of a share of it that stand out from the moves before and after.

    None where there are many: the schedule is then a staircase, which the figure of the rate itself shows.
    """
    logged = run.primary.get("learning_rate")
    if logged is None or len(logged) < 3:
        return
    step, rate = cleaned(logged.step, logged.value)
    found = jumps(step, rate)
    if found.size > MOST_CHANGES:
        return
    for i in found:
        before, after = float(rate[i - 1]), float(rate[i])
        word = f"lr × {w.number(after / before, 2)}" if before > 0.0 and after > 0.0 else f"lr {w.number(after)}"
        yield Event("lr", int(step[i]), word, f"learning rate {w.number(before)} to {w.number(after)}")


def jumps(step: IntArray, rate: FloatArray) -> IntArray:
    """Return the positions (k,) at which a rate (n,) has jumped since the point before; `step` (n,) increasing.

    A jump is steeper than what comes before and after it, so that a smooth schedule has none, however it was logged.
    """
    if rate.size < 3:
        return np.zeros(0, dtype=np.int64)
    move = np.abs(np.diff(rate))
    slope = move / np.diff(step)
    before, after = np.append(slope[1], slope[:-1]), np.append(slope[1:], slope[-2])  # at an end the one neighbour counts twice
    large = move > np.maximum(CHANGE * np.maximum(np.abs(rate[1:]), np.abs(rate[:-1])), LEAST * np.abs(rate).max())
    return np.flatnonzero(large & (slope > SUDDEN * np.maximum(before, after))) + 1


def _checkpoints(run: Run) -> Iterator[Event]:
    """Yield the checkpoints of which a file was read: the step is in the name of the folder, where the stitching has none."""
    steps: dict[int, str] = {}
    for stitch in run.stitches:
        if stitch.kind == "checkpoint":
            named = _CHECKPOINT.findall(stitch.file)
            step = stitch.step if stitch.step is not None else int(named[-1]) if named else None
            if step is not None:
                steps.setdefault(step, w.clean(stitch.detail, 200))
    for step in sorted(steps)[:MOST_MARKS]:
        yield Event("checkpoint", step, "checkpoint", steps[step])


def _epochs(run: Run) -> Iterator[Event]:
    """Yield where epochs begin, every so many-th of them, in a log of steps that knows its epochs."""
    starts = epoch_starts(run)
    every = next(m * 10**e for e in range(9) for m in (1, 2, 5) if m * 10**e * MOST_EPOCHS >= len(starts))
    name = "each epoch" if every == 1 else f"every {every:,}th epoch" if every > 2 else "every second epoch"
    for epoch, step in starts.items():
        if epoch % every == 0:
            yield Event("epoch", step, f"epoch {epoch:,}", name)


def epoch_starts(run: Run) -> dict[int, int]:
    """Return the first step of each epoch but the first one, by its number; empty where the log does not tell."""
    span = [s.step for s in run.primary.values() if len(s)]
    if run.step_unit != "step" or not span:
        return {}
    first, last = min(int(s.min()) for s in span), max(int(s.max()) for s in span)
    logged = run.primary.get("epoch")
    if logged is not None and len(logged) > 1:
        step, epoch = cleaned(logged.step, logged.value)
        rising = bool(step.size > 1 and np.all(np.diff(epoch) >= 0.0) and epoch[-1] - epoch[0] < 1e6)
        if rising and np.all(epoch == np.round(epoch)) and epoch[-1] > epoch[0]:
            at = np.flatnonzero(np.diff(epoch) == 1.0) + 1
            return {int(epoch[i]): int(step[i]) for i in at}
        if rising and epoch[-1] > epoch[0]:
            whole = np.arange(np.floor(epoch[0]) + 1.0, np.floor(epoch[-1]) + 1.0)
            return {int(k): int(s) for k, s in zip(whole, np.ceil(np.interp(whole, epoch, step)), strict=True)}
    length = steps_per_epoch(run)
    if length is None or not length > 1.0 or last - first > 1e5 * length:
        return {}
    return {k: round(k * length) for k in range(int(first // length) + 1, int(last // length) + 1)}
