"""The checkpoints beside a log: the newest two of the run, where they can be read at once, or those that were named."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from traindoctor.configs.optimizer import optimizer_spec
from traindoctor.errors import TraindoctorError, UnreadableInputError
from traindoctor.model import Damage, Setting
from traindoctor.readers.discover import PLAIN
from traindoctor.readers.storage import is_remote, locate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from traindoctor.checkpoints.state import Checkpoint, State
    from traindoctor.model import Run

#: Bytes of a checkpoint that is read unasked: about a second.
UNASKED = 256 * 2**20
#: How many are read unasked: two tell what moved between them.
NEWEST = 2
#: Step of a checkpoint over the last one of the log from which it is taken for another run's.
LATEST = 1.5
FILES = (".pt", ".pth", ".ckpt", ".safetensors")
#: Folders beside a log that hold nothing but checkpoints.
HOLDERS = re.compile(r"(?:checkpoint|ckpt|weight|model)s?|saved?[-_]?models?", re.IGNORECASE)
#: Folders that are one checkpoint.
FOLDERS = re.compile(r"(?:checkpoint|ckpt|step|iter|global_step|epoch)[-_=]?\d+", re.IGNORECASE)
#: Parts of a checkpoint, averages of weights and data that lie beside one.
PARTS = re.compile(
    r"(?:^|[-_.])(?:optimizer|scheduler|scaler|rng_state|random_states|training_args|ema|teacher|dataset|data|tokens|embeddings?)(?=[-_.\d])",
    re.IGNORECASE,
)
#: Ends of names of logs: where another run's lie too, a checkpoint may be its.
LOGS = (".csv", ".tsv", ".jsonl", ".wandb")


def checkpoints_of(run: Run, given: Sequence[Path] = ()) -> tuple[State | None, Run]:
    """Return what the checkpoints of a run say, None where there is none, and the run with their names and what was not read.

    `given`: those that the user named. Others that cannot be read, or are large, are noted with the run.

    Raises: UnreadableInputError for a checkpoint that was named and cannot be read.
    """
    if given:
        missing = next((path for path in given if not path.exists()), None)
        if missing is not None:
            raise UnreadableInputError(str(missing), "there is no such checkpoint")
        from traindoctor.checkpoints.layouts import read_state

        names = {str(path) if is_remote(locate(run.root)) else os.path.relpath(path, run.root): path for path in given}
        state = read_state(names)
        return state, _with_settings(replace(run, checkpoint_files=tuple(names)), state)
    found = {os.path.relpath(path, run.root): path for path in found_beside(run)}
    read, run = _read_unasked(run, found) if found else (None, run)
    return read, run if read is None else _with_settings(run, read)


def _with_settings(run: Run, state: State) -> Run:
    """Return the run with the optimizer and the precision that its last checkpoint holds, where nothing else names them."""
    last = state.last
    if len(last.optimizers) != 1:
        return run
    (optimizer,) = last.optimizers
    told: dict[str, Setting] = {}
    if "optimizer.name" not in run.settings:
        told = {key: Setting(value, f"{last.file}, param_groups") for key, value in optimizer.settings.items()}
    if last.weight_dtype in ("float16", "bfloat16") and optimizer.second_dtype == last.weight_dtype:
        told["precision"] = Setting(f"torch.{last.weight_dtype}", f"{last.file}, weights and state")
    settings = {**told, **run.settings}
    return replace(run, settings=settings, optimizer=optimizer_spec(settings, run.series)) if told else run


def _read_unasked(run: Run, found: dict[str, Path]) -> tuple[State | None, Run]:
    from traindoctor.checkpoints.layouts import read_state

    noted: list[Damage] = []
    small: dict[str, Path] = {}
    for name, path in found.items():
        size = _bytes(path)
        if size > UNASKED:
            text = f"the checkpoint holds {size / 2**30:.1f} GiB and is read only when it is named: --checkpoint {name}"
            noted.append(Damage("checkpoint-not-read", name, text))
        else:
            small[name] = path
    state = None
    while small and state is None:
        try:
            state = read_state(small)
        except TraindoctorError as error:
            guilty = next(
                (name for name in small if error.where == name or error.where.startswith(f"{name}/")), next(iter(small))
            )
            noted.append(Damage("checkpoint-not-read", guilty, f"the checkpoint {error.what}"))
            del small[guilty]
    later = [one for one in state.checkpoints if _is_later(one, run)] if state is not None else []
    for one in later:
        text = f"it was made at step {one.step:,}, long after the log ends: of another run, unless it is named with --checkpoint"
        noted.append(Damage("checkpoint-not-read", one.file, text))
        del small[one.file]
    if later:
        state = read_state(small) if small else None
    return state, replace(run, damages=(*run.damages, *noted), checkpoint_files=tuple(small))


def _is_later(checkpoint: Checkpoint, run: Run) -> bool:
    """Return whether a checkpoint was made so long after the last step of a log that it can hardly be of the same run."""
    ends = [int(series.step[-1]) for series in run.primary.values() if len(series)]
    if checkpoint.step is None or run.step_unit != "step" or not ends:
        return False
    return checkpoint.step > LATEST * max(ends) + 100


def found_beside(run: Run) -> list[Path]:
    """Return the newest checkpoints that lie with the log of a run and can be no other run's, the newest last."""
    root = locate(run.root)
    if is_remote(root) or not run.files:
        return []
    own = {root / file for file in run.files}
    homes = list(dict.fromkeys(home for file in own for home in _homes(file.parent)))[:8]
    found = list(dict.fromkeys(path for home in homes if not _is_shared(home, own) for path in _within(home)))
    named = [path for path in found if "best" not in path.name.lower()] or found
    return sorted(named, key=_age)[-NEWEST:]


def _homes(folder: Path) -> Iterator[Path]:
    """Yield the folders that belong to the logs in one: itself, and those above it as long as names say no more than "logs"."""
    yield folder
    for _ in range(3):
        is_only_run = folder.parent.name.lower() == "runs" and sum(entry.is_dir() for entry in _entries(folder.parent)) == 1
        if not (folder.name.lower() in PLAIN or FOLDERS.fullmatch(folder.name) or is_only_run):
            return
        folder = folder.parent
        yield folder


def _within(home: Path) -> Iterator[Path]:
    """Yield the checkpoints of a folder."""
    entries = _entries(home)
    if any(entry.name in ("model.safetensors", "pytorch_model.bin", "optimizer.pt", "optimizer.bin") for entry in entries):
        yield home
        return
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            if FOLDERS.fullmatch(entry.name):
                inside = [one.name for one in _entries(entry)]
                if any(name.startswith(("model", "pytorch_model", "optimizer")) for name in inside):
                    yield entry
            elif HOLDERS.fullmatch(entry.name):
                yield from _within(entry)
        elif entry.name.endswith(FILES) and PARTS.search(entry.name) is None and entry.is_file():
            yield entry


def _is_shared(home: Path, own: set[Path]) -> bool:
    """Return whether logs lie in a folder that are not those of the run."""
    return any(
        (entry.suffix in LOGS or "tfevents" in entry.name) and entry not in own for entry in _entries(home) if not entry.is_dir()
    )


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())[:2000]
    except OSError:
        return []


def _age(path: Path) -> tuple[float, float, str]:
    """Return what orders checkpoints in time: the last number of the name, else the time of writing; "last" is the newest."""
    numbers = re.findall(r"\d+", path.stem if path.is_file() else path.name)
    counted = float(numbers[-1]) if numbers else -1.0
    if re.search(r"last|latest|final", path.name, re.IGNORECASE):
        counted = float("inf")
    try:
        return counted, path.stat().st_mtime, path.name
    except OSError:
        return counted, 0.0, path.name


def _bytes(path: Path) -> int:
    try:
        return sum(one.stat().st_size for one in _entries(path)) if path.is_dir() else path.stat().st_size
    except OSError:
        return 0
