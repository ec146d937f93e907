"""A file or a folder -> the training runs in it, with what belongs to each: logs, config, script."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from traindoctor.errors import UnreadableInputError
from traindoctor.model import Damage, Run, Series, Setting
from traindoctor.readers.csvlog import read_csv_file
from traindoctor.readers.events import read_event_file
from traindoctor.readers.log import Hints
from traindoctor.readers.table import COLUMNS, check_steps
from traindoctor.readers.tags import choose_primary, quantity_of, spellings, with_quantities

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from traindoctor.model import StepUnit
    from traindoctor.readers.events import EventLog
    from traindoctor.readers.log import Log

#: Folders that only hold logs: what a run is called stands above them.
PLAIN = frozenset(
    spellings(
        "logs log tb tensorboard tb_logs runs run lightning_logs csv_logs events summaries output outputs metrics history ."
    )
)
#: Names of files that say nothing of the run.
PLAIN_STEMS = frozenset(spellings("metrics history training train log logs progress measurements results monitor loss losses"))
#: Folders beside `train` that hold the other values of the same run.
HELD_OUT_FOLDERS = ("validation", "val", "valid", "eval", "test")
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "checkpoints"})
TABLES = (".csv", ".tsv")
#: Logs that are not read yet: end of the name -> what it is.
OTHER_LOGS = {
    "trainer_state.json": "the trainer state of Hugging Face",
    ".wandb": "a run of Weights & Biases",
    ".jsonl": "JSON lines",
    ".json": "JSON",
    ".ndjson": "JSON lines",
    ".txt": "text",
    ".log": "text",
    ".parquet": "Parquet",
    ".tfrecord": "a data set",
}
#: A pause, in usual distances of two values, after which a new file is a resumed process.
PAUSE = 10.0
#: More step resets than this in one table are disorder, no restarts.
RESETS = 20


@dataclass(frozen=True)
class ReadOptions:
    """What the user says of the input. `aliases`: quantity -> the tags that mean it, best first."""

    config: Path | None = None
    code: Path | None = None
    step_column: str | None = None
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(slots=True)
class _Draft:
    """A run while it is put together; paths are absolute, names of files too."""

    folder: Path
    files: list[Path]
    series: list[Series]
    unit: StepUnit = "step"
    damages: list[Damage] = field(default_factory=list)
    restarts: list[int] = field(default_factory=list)
    hparams: dict[str, object] = field(default_factory=dict)
    label: str = ""


def read_runs(path: Path | str, options: ReadOptions | None = None) -> list[Run]:
    """Return the runs of a log file, or of all logs in a folder and below, in order of their names.

    Raises: UnreadableInputError when the path is missing or nothing under it can be read; ConfigError for a config that
    was named and does not parse.
    """
    given, options = Path(path), options or ReadOptions()
    for named in (options.config, options.code):
        if named is not None and not named.is_file():
            raise UnreadableInputError(str(named), "there is no such file")
    if not given.exists():
        near = ", ".join(p.name for p in _listed(given.parent)[:8])
        raise UnreadableInputError(
            str(path), "there is no such file or folder", *([f"one of what is there: {near}"] if near else [])
        )
    start = given.resolve()
    if start.is_file():
        drafts, top = _read_file(start, str(path), options), start.parent
    else:
        drafts, top = _read_tree(start, str(path), options), start
    runs = [_run(draft, start, top, options) for draft in drafts]
    return _with_own_names(sorted(runs, key=lambda run: (run.name, run.path)))


# -- finding and reading ----------------------------------------------------------------------------------------------


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_events(path: Path) -> bool:
    return "tfevents" in path.name


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in TABLES


def _read_file(file: Path, shown: str, options: ReadOptions) -> list[_Draft]:
    """Return the run of one file; its content decides where its name does not."""
    known = _is_events(file) or _is_table(file) or _begins_like_events(file)
    if not known and not _looks_like_table(file):
        kind = _other_kind(file)
        raise UnreadableInputError(shown, f"{kind} is not read yet" if kind else "is of no format that is known", *_formats())
    try:
        if _is_events(file) or _begins_like_events(file):
            draft = _Draft(file.parent, [], [])
            _add_events(draft, [(file, read_event_file(file, str(file)))], options)
        else:
            [log] = read_csv_file(file, str(file), Hints(options.step_column, options.aliases))
            draft = _Draft(file.parent, [], [])
            _add_table(draft, file, log)
    except UnreadableInputError as error:
        raise UnreadableInputError(shown, error.what, *error.ways_out) from error
    if not draft.series:
        raise UnreadableInputError(shown, _nothing_in(draft.damages), *_formats())
    draft.label = _label(file)
    return [draft]


def _label(file: Path) -> str:
    """Return what the name of a file says of its run; "" for a usual name."""
    stem = file.name.removesuffix(file.suffix)
    stem = stem.removesuffix(".log")
    return "" if _is_events(file) or stem.lower() in PLAIN_STEMS else stem


def _nothing_in(damages: Iterable[Damage]) -> str:
    details = [damage.detail for damage in damages]
    return f"no value can be read: {'; '.join(details[:3])}" if details else "it holds no scalar: nothing to diagnose"


def _formats() -> tuple[str, str]:
    return (
        "log with SummaryWriter or a CSV logger, or export a CSV with a column step",
        "what is read: event files of TensorBoard, CSV and TSV",
    )


def _begins_like_events(file: Path) -> bool:
    if _is_table(file):
        return False
    try:
        with file.open("rb") as stream:
            head = stream.read(12)
    except OSError:
        return False
    from traindoctor.readers.tfrecord import HEADER, masked_crc

    return len(head) == HEADER.size and masked_crc(head[:8]) == HEADER.unpack(head)[1]


def _looks_like_table(file: Path) -> bool:
    """Whether a .txt or .log file begins like a table: a line of names, a line of numbers as long."""
    try:
        with file.open("rb") as stream:
            lines = stream.read(8192).decode("utf-8", "replace").splitlines()[:2]
    except OSError:
        return False
    for delimiter in ",\t;":
        if len(lines) == 2 and lines[0].count(delimiter) >= 1 and lines[0].count(delimiter) == lines[1].count(delimiter):
            return "{" not in lines[0]
    return False


def _other_kind(file: Path) -> str:
    return next((kind for end, kind in OTHER_LOGS.items() if file.name.endswith(end)), "")


def _read_tree(top: Path, shown: str, options: ReadOptions) -> list[_Draft]:
    drafts: list[_Draft] = []
    failures: list[UnreadableInputError] = []
    others: Counter[str] = Counter()
    seen = 0
    for here, folders, names in os.walk(top):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in SKIPPED)
        files = [Path(here, name) for name in sorted(names) if not name.startswith(".")]
        seen += len(files)
        others.update(kind for file in files if (kind := _other_kind(file)) and not _is_events(file))
        found, failed = _read_folder(Path(here), files, options)
        drafts += found
        failures += failed
    _share_hparams(drafts)
    drafts = [draft for draft in drafts if draft.series]
    if drafts:
        return _with_validation(drafts)
    if failures:
        error = failures[0]
        more = [f"also: {other.where}: {other.what}" for other in failures[1:4]]
        raise UnreadableInputError(_shown(error.where, top, shown), error.what, *error.ways_out, *more)
    if others:
        kinds = ", ".join(f"{count} {'file' if count == 1 else 'files'} of {kind}" for kind, count in sorted(others.items()))
        raise UnreadableInputError(shown, f"no log that can be read; found {kinds}, not read yet", *_formats())
    where = f"among {seen:,} {'file' if seen == 1 else 'files'}" if seen else "here: the folder is empty"
    raise UnreadableInputError(shown, f"no log that can be read {where}", *_formats())


def _share_hparams(drafts: Sequence[_Draft]) -> None:
    """Give a run the hyperparameters that add_hparams put into a folder of its own below it."""
    by_folder = {draft.folder: draft for draft in drafts if draft.series}
    for draft in drafts:
        parent = by_folder.get(draft.folder.parent)
        if draft.hparams and parent is not None and not parent.hparams:
            parent.hparams.update(draft.hparams)


def _with_validation(drafts: Sequence[_Draft]) -> list[_Draft]:
    """Return the drafts; folders `train` and `validation` side by side, as Keras writes them, are one run.

    A tag of the validation folder gets its name in front, as TensorBoard shows it.
    """
    by_folder = {draft.folder: draft for draft in drafts if all(_is_events(file) for file in draft.files)}
    taken: set[int] = set()
    for draft in drafts:
        beside = [by_folder[draft.folder.parent / n] for n in HELD_OUT_FOLDERS if draft.folder.parent / n in by_folder]
        tags = {s.tag for s in draft.series}
        is_train = draft.folder.name == "train" and draft.folder in by_folder
        if not is_train or not any(s.tag in tags for other in beside for s in other.series):
            continue
        for other in beside:
            taken.add(id(other))
            draft.files += other.files
            draft.series += [replace(s, tag=f"{other.folder.name}/{s.tag}") for s in other.series]
            draft.damages += other.damages
            draft.hparams.update(other.hparams)
        draft.folder = draft.folder.parent
    return [draft for draft in drafts if id(draft) not in taken]


def _shown(where: str, top: Path, shown: str) -> str:
    """Return a path as the user named it."""
    try:
        return str(Path(shown) / Path(where).relative_to(top))
    except ValueError:
        return where


def _read_folder(folder: Path, files: Sequence[Path], options: ReadOptions) -> tuple[list[_Draft], list[UnreadableInputError]]:
    """Return the runs whose logs lie in one folder, and the files that cannot be read.

    The event files are one run. A table joins it, or the tables before it, unless it logs the same tags or counts
    otherwise: then it is a run by itself. A draft without series holds nothing but hyperparameters.
    """
    failures: list[UnreadableInputError] = []
    lost: list[Damage] = []
    logs: list[tuple[Path, EventLog]] = []
    for file in filter(_is_events, files):
        try:
            logs.append((file, read_event_file(file, str(file))))
        except UnreadableInputError as error:
            failures.append(error)
            lost.append(Damage("unreadable-file", str(file), error.what))
    drafts: list[_Draft] = []
    empty: list[Damage] = []
    hparams: dict[str, object] = {}
    if logs:
        draft = _Draft(folder, [], [])
        _add_events(draft, logs, options)
        if draft.series:
            drafts.append(draft)
        else:  # a graph, a text, hyperparameters: nothing is wrong with that beside a run
            empty += draft.damages
            hparams = draft.hparams
            failures.append(UnreadableInputError(str(logs[0][0]), _nothing_in(draft.damages), *_formats()))
    for file in (f for f in files if _is_table(f) and not _is_events(f)):
        try:
            [log] = read_csv_file(file, str(file), Hints(options.step_column, options.aliases))
        except UnreadableInputError as error:
            failures.append(error)
            if _names_a_loss(error, options):
                lost.append(Damage("unreadable-file", str(file), error.what))
            continue
        if not log.series:
            empty += log.damages
            failures.append(UnreadableInputError(str(file), _nothing_in(log.damages), *_formats()))
            continue
        home = next((d for d in drafts if _joins(d, log)), None)
        if home is None:
            home = _Draft(folder, [], [], label=_label(file))
            drafts.append(home)
        _add_table(home, file, log)
    if drafts:
        drafts[0].damages += lost + empty
    if len(drafts) == 1:
        drafts[0].label = ""
    if hparams and not drafts:
        drafts.append(_Draft(folder, [], [], hparams=hparams))
    return drafts, failures


def _names_a_loss(error: UnreadableInputError, options: ReadOptions) -> bool:
    columns = next((way.removeprefix(COLUMNS).split(", ") for way in error.ways_out if way.startswith(COLUMNS)), [])
    return any(quantity_of(name, options.aliases) in ("loss", "val_loss", "loss_term") for name in columns)


def _joins(draft: _Draft, log: Log) -> bool:
    """Whether a table is of the same run: it counts alike, and it is not a second one with the same tags."""
    if draft.unit != log.step_unit:
        return False
    if all(_is_events(file) for file in draft.files):
        return True
    mine = {s.tag for s in draft.series if s.quantity != "epoch"}
    return not mine & {s.tag for s in log.series if s.tag.lower() not in ("epoch", "lr", "learning_rate")}


def _add_table(draft: _Draft, file: Path, log: Log) -> None:
    draft.files.append(file)
    draft.series += log.series
    draft.unit = log.step_unit if not draft.series or draft.unit == "step" else draft.unit
    draft.damages += log.damages
    if len(log.goes_back) <= RESETS:
        draft.restarts += log.goes_back


def _add_events(draft: _Draft, logs: Sequence[tuple[Path, EventLog]], options: ReadOptions) -> None:
    """Put the event files of a run together, in the order in which they were begun."""
    ordered = sorted(logs, key=lambda pair: (np.nan_to_num(pair[1].first_wall_time, nan=np.inf), pair[0].name))
    points: dict[str, list[tuple[str, Series]]] = {}
    before: dict[str, Series] = {}
    for file, log in ordered:
        name = str(file)
        draft.files.append(file)
        draft.damages += log.damages
        draft.hparams.update(log.hparams)
        mine = {tag: Series("", tag, step, value, wall, name) for tag, (step, value, wall) in log.scalars.items()}
        back, damages = check_steps(name, [s.step for s in mine.values()])
        draft.damages += damages
        if back and len(back) <= RESETS:
            draft.restarts += back
        draft.restarts += [start for start in log.starts if start > 0]
        _compare(draft, before, mine, name)
        for tag, one in mine.items():
            points.setdefault(tag, []).append((name, one))
            before[tag] = one
    for tag, parts in points.items():
        first = parts[0][1]
        if len(parts) == 1:
            draft.series.append(first)
            continue
        joined = [np.concatenate([getattr(part, name) for _, part in parts]) for name in ("step", "value", "wall_time")]
        draft.series.append(Series("", tag, joined[0], joined[1], joined[2], first.source))
    losses = [s.tag for s in draft.series if quantity_of(s.tag, options.aliases) in ("loss", "val_loss")]
    if losses and all(tag.split("/")[-1].startswith("epoch_") for tag in losses):  # the callback of Keras counts epochs
        draft.unit = "epoch"


def _compare(draft: _Draft, before: Mapping[str, Series], mine: Mapping[str, Series], name: str) -> None:
    """Note where a file begins again, and which steps it holds for a second time."""
    shared = [(before[tag], one) for tag, one in mine.items() if tag in before and before[tag].source != name]
    if not shared:
        return
    old, new = max(shared, key=lambda pair: len(pair[0]) + len(pair[1]))
    first, last = int(new.step[0]), int(old.step.max())
    overlaps = [(int(b.step.min()), int(a.step.max()), a.source) for a, b in shared if b.step.min() <= a.step.max()]
    if overlaps:
        start, stop, other = min(overlaps)[0], max(o[1] for o in overlaps), overlaps[0][2]
        detail = f"steps {start:,} to {stop:,} were logged before in {Path(other).name}: all are kept, in the order of the files"
        draft.damages.append(Damage("overlapping-files", name, detail))
    stride = float(np.median(np.abs(np.diff(old.step)))) if len(old) > 1 else 0.0
    pace = float(np.median(np.abs(np.diff(old.wall_time)))) if len(old) > 1 else 0.0
    paused = pace > 0.0 and new.wall_time[0] - old.wall_time[-1] > PAUSE * pace
    if first <= last or (stride and first > last + 1.5 * stride) or paused:
        draft.restarts.append(first)


# -- what belongs to a run --------------------------------------------------------------------------------------------


def _is_plain(name: str) -> bool:
    return name.lower() in PLAIN or (name.startswith("version_") and name[8:].isdigit())


def _meaning(folder: Path) -> Path:
    """Return the folder that a run is called by: the nearest one whose name is not just `logs` or the like."""
    here = folder
    while _is_plain(here.name) and here.parent != here:
        here = here.parent
    return here if here.name else folder


def _holds_logs(folder: Path) -> bool:
    return any(_is_events(file) or _is_table(file) for file in _listed(folder) if file.is_file())


def _run(draft: _Draft, start: Path, top: Path, options: ReadOptions) -> Run:
    """Return the run of a draft, with config and script, and paths relative to one root."""
    from traindoctor.configs import find_code, find_configs, load_settings, optimizer_spec

    meaning = _meaning(draft.folder)
    highest = meaning if meaning != draft.folder else draft.folder.parent
    if highest != draft.folder and _holds_logs(highest):  # another run lives there: what lies there is its own
        highest = draft.folder
    configs = [_absolute(options.config)] if options.config else [_absolute(f) for f in find_configs(draft.folder, highest)]
    codes = [_absolute(options.code)] if options.code else [_absolute(f) for f in find_code(draft.folder, highest)]
    logs = set(draft.files)
    configs, codes = [f for f in configs if f not in logs], [f for f in codes if f not in logs]
    root = Path(os.path.commonpath([top, *(f.parent for f in (*configs, *codes, *draft.files))]))
    settings, damages = load_settings(configs, root, strict=options.config is not None)
    merged = _hparam_settings(draft.hparams)
    merged.update(settings)
    relative = {str(file): _relative(file, root) for file in draft.files}

    def named(file: str) -> str:
        return relative.get(file) or _relative(Path(file), root)

    series = with_quantities((replace(s, source=named(s.source)) for s in draft.series), options.aliases)
    lost = [replace(d, file=named(d.file)) for d in draft.damages]
    return Run(
        name=_name(draft, start, top),
        path=_relative(draft.folder if start.is_dir() else start, root),
        root=str(root),
        series=series,
        primary=choose_primary(series, options.aliases),
        settings=merged,
        optimizer=optimizer_spec(merged, series),
        damages=tuple(dict.fromkeys((*lost, *damages))),
        restarts=tuple(dict.fromkeys(draft.restarts)),
        step_unit=draft.unit,
        files=tuple(relative.values()),
        config_files=tuple(_relative(f, root) for f in configs),
        code_files=tuple(_relative(f, root) for f in codes),
    )


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_absolute() and path.is_relative_to(root) else path.as_posix()


def _hparam_settings(hparams: Mapping[str, object]) -> dict[str, Setting]:
    """Return what was logged with add_hparams in the one vocabulary of settings."""
    from traindoctor.configs.dialects import interpret
    from traindoctor.configs.documents import ParseError, parse

    nested: dict[str, Any] = {}
    for name, value in hparams.items():
        *blocks, key = re.split(r"[/.]", name)
        inner = nested
        for block in blocks:
            held = inner.setdefault(block, {})
            inner = held if isinstance(held, dict) else inner  # else a block and a value are called the same
        inner[key] = value
    try:
        slots = interpret(parse(json.dumps(nested), ".json"))
    except ParseError:
        return {}
    return {name: Setting(slot.value, "hparams of TensorBoard") for name, slot in slots.items() if slot.value is not None}


def _name(draft: _Draft, start: Path, top: Path) -> str:
    """Return what the run is called: its path below what was given, else the folder that tells."""
    parts = list(draft.folder.relative_to(top).parts) if start.is_dir() else []
    while parts and _is_plain(parts[-1]):
        parts.pop()
    name = "/".join(parts) or _meaning(draft.folder).name or draft.folder.name or "run"
    if start.is_file() and draft.label:
        return draft.label
    return f"{name}/{draft.label}" if draft.label else name


def _with_own_names(runs: Iterable[Run]) -> list[Run]:
    """Return the runs with names that differ: the path is added where two are called the same."""
    runs = list(runs)
    count = Counter(run.name for run in runs)
    named = [replace(run, name=run.path) if count[run.name] > 1 and run.path != "." else run for run in runs]
    again = Counter(run.name for run in named)
    taken: Counter[str] = Counter()
    result = []
    for run in named:
        taken[run.name] += 1
        result.append(replace(run, name=f"{run.name} ({taken[run.name]})") if again[run.name] > 1 else run)
    return result
