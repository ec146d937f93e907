"""A file, a folder or a URL -> the training runs in it, with what belongs to each: logs, config, script."""

from __future__ import annotations

import math
import os
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from traindoctor.errors import UnreadableInputError, did_you_mean
from traindoctor.model import Damage, Run, Setting
from traindoctor.readers.csvlog import read_csv_file
from traindoctor.readers.events import EVENTS, read_event_file, read_event_files
from traindoctor.readers.formats import Format, by_name, detect, format_named, formats_read, is_report, title_of
from traindoctor.readers.grouping import Draft, fold, group_folder, is_part, label_of
from traindoctor.readers.histograms import norms_of
from traindoctor.readers.integrity import check_series
from traindoctor.readers.log import Hints, Log
from traindoctor.readers.mlflow_store import FORMAT as MLFLOW_FILES
from traindoctor.readers.mlflow_store import is_mlflow_run, read_mlflow_run
from traindoctor.readers.sqlitefile import with_write_ahead_log
from traindoctor.readers.stitch import Part, join
from traindoctor.readers.storage import is_remote, locate, plain_name, read_head, read_whole
from traindoctor.readers.table import COLUMNS
from traindoctor.readers.tags import choose_primary, quantity_of, spellings, with_quantities
from traindoctor.readers.textlog import NO_METRICS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from traindoctor.model import StepUnit

#: Folders that only hold logs: what a run is called stands above them.
PLAIN = frozenset(
    spellings(
        "logs log tb tensorboard tb_logs runs run lightning_logs csv_logs events summaries output outputs metrics history "
        "vis_data wandb files mlruns ."
    )
)
SKIPPED = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "checkpoints", "artifacts"})
TABLES = (".csv", ".tsv")
LOSSES = ("loss", "val_loss", "loss_term", "val_loss_term")
#: Files whose names end like this hold no log, whatever their content looks like.
NO_LOGS = frozenset(
    spellings(
        ".py .pyc .ipynb .md .rst .html .htm .css .js .ts .c .h .cc .cpp .cu .rs .go .java .sh .bash .ps1 .bat .yaml .yml "
        ".toml .cfg .ini .lock .png .jpg .jpeg .gif .svg .pdf .webp .mp4 .wav .mp3 .pt .pth .ckpt .safetensors .bin .npy "
        ".npz .pkl .pickle .h5 .hdf5 .onnx .pb .tflite .zip .tar .tgz .bz2 .xz .7z .whl .so .dll .exe .o .a .parquet .arrow "
        ".feather .lmdb .tfrecord .tfrecords .vocab .model .spm .xml .tex .patch .diff"
    )
)
#: Names of files that are known to hold something else.
NO_LOG_NAMES = frozenset(
    spellings(
        "requirements.txt license.txt license readme.txt readme cmakelists.txt makefile dockerfile wandb-summary.json "
        "wandb-metadata.json hparams.json config.json args.json package.json package-lock.json tsconfig.json label.json "
        "expected.json vocab.json tokenizer.json tokenizer_config.json special_tokens_map.json generation_config.json "
        "adapter_config.json debug.log debug-internal.log"
    )
)


#: Bytes of logs that are read together when runs are read one after the other.
BATCH_BYTES = 16_000_000
#: What a run of MLflow's store, many small files, is taken to hold.
STORE_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the user says of the input. `aliases`: quantity -> the tags that mean it, best first.

    `format`: name of the format that every file is taken to be of, "" to tell it by its content.
    """

    config: Path | None = None
    code: Path | None = None
    step_column: str | None = None
    aliases: Mapping[str, Sequence[str]] = field(default_factory=dict)
    format: str = ""

    @property
    def hints(self) -> Hints:
        """What the readers need of it."""
        return Hints(self.step_column, self.aliases)


def read_runs(path: Path | str, options: ReadOptions | None = None) -> list[Run]:
    """Return the runs of a log file, or of all logs in a folder and below, in order of their names.

    `path`: a path, or a URL that fsspec opens.

    Raises: UnreadableInputError when the path is missing or nothing under it can be read; ConfigError for a config that
    was named and does not parse.
    """
    if not str(path):
        raise UnreadableInputError("path", "is empty", "give a file, a folder or a URL")
    runs = list(_each(path, options or ReadOptions(), math.inf))
    return _with_own_names(sorted(runs, key=lambda run: (run.name, run.path)))


def each_run(path: Path | str, options: ReadOptions | None = None) -> Iterator[Run]:
    """Yield the runs as `read_runs` returns them, folder by folder: only the logs of some folders are in memory at a time.

    They come in the order of their folders. A name that was there before gets a number.

    Raises: as `read_runs` does, when it gets there.
    """
    if not str(path):
        raise UnreadableInputError("path", "is empty", "give a file, a folder or a URL")
    names: Counter[str] = Counter()
    for run in _each(path, options or ReadOptions(), BATCH_BYTES):
        names[run.name] += 1
        yield replace(run, name=f"{run.name} ({names[run.name]})") if names[run.name] > 1 else run


def _each(path: Path | str, options: ReadOptions, batch_bytes: float) -> Iterator[Run]:
    """Yield the runs of a path; of a folder, so many bytes of its subfolders are read at a time."""
    given = locate(path)
    for named in (options.config, options.code):
        if named is not None and not named.is_file():
            raise UnreadableInputError(str(named), "there is no such file")
    try:
        is_folder = is_remote(given) and str(path).endswith("/")  # a web server answers with a page for a folder too
        is_there, is_file = given.exists(), given.is_file() and not is_folder
    except OSError as error:
        raise UnreadableInputError(str(path), f"cannot be reached: {error}") from error
    if not is_there:
        there = [p.name for p in _listed(given.parent) if not p.name.startswith(".")]
        listed = (f"one of what is there: {', '.join(there[:8])}",) if there else ()
        raise UnreadableInputError(
            str(path), "there is no such file or folder", *(did_you_mean(given.name, there, 0.7) or listed)
        )
    start = given if is_remote(given) else given.resolve()
    top = start.parent if is_file else start
    drafts = iter(_read_file(start, str(path), options)) if is_file else _read_tree(start, str(path), options, batch_bytes)
    beside = _Neighbours(options)
    for draft in drafts:
        yield _run(draft, start, top, options, beside, is_file=is_file)


# -- finding and reading ----------------------------------------------------------------------------------------------


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _ways_out(error: UnreadableInputError) -> tuple[str, ...]:
    """Return what to try: what is read, unless the file cannot be opened, whatever it holds."""
    return error.ways_out or (() if error.what.startswith("cannot be read") else formats_read())


def _stem(part: Part) -> str:
    name = plain_name(part.place)
    return name.rpartition(".")[0].removesuffix(".log") or name


def _read_file(file: Path, shown: str, options: ReadOptions) -> list[Draft]:
    """Return the runs of one file; its content decides what it is."""
    try:
        kind = _format_of(file, options) or by_name(plain_name(file))
        if kind is None and is_report(read_head(file, str(file))):
            raise UnreadableInputError(shown, "is a report of traindoctor, not a log", f"traindoctor report show {shown}")
        if kind is None:
            raise UnreadableInputError(shown, "is of no format that is known", *formats_read())
        logs = _logs(file, kind, options)
    except UnreadableInputError as error:
        raise UnreadableInputError(shown, error.what, *_ways_out(error)) from error
    if not any(log.series for log in logs):
        raise UnreadableInputError(shown, _nothing_in([d for log in logs for d in log.damages]), *formats_read())
    drafts = group_folder(file.parent, [_part(file, log) for log in logs], _stem)
    for draft in drafts:
        draft.label = draft.label or label_of(draft.parts[0], _stem(draft.parts[0]))
    return drafts


def _part(place: Path, log: Log) -> Part:
    return Part(place, log, EVENTS if log.format == EVENTS else str(place))


def _logs(file: Path, kind: Format, options: ReadOptions) -> tuple[Log, ...]:
    if kind.name == "csv":  # read as it comes in, never whole
        return read_csv_file(file, str(file), options.hints)
    if kind.name == EVENTS:
        return (read_event_file(file, str(file)),)
    data, damages = read_whole(file, str(file))
    if kind.name == "mlflow-sqlite" and (beside := file.with_name(f"{file.name}-wal")).is_file():
        data = with_write_ahead_log(data, read_whole(beside, str(beside))[0])
    logs = kind.read(data, str(file), options.hints)
    return (replace(logs[0], damages=(*logs[0].damages, *damages)), *logs[1:]) if damages and logs else logs


def _format_of(file: Path, options: ReadOptions) -> Format | None:
    if options.format:
        return format_named(options.format)
    return detect(read_head(file, str(file)), plain_name(file))


def _nothing_in(damages: Iterable[Damage]) -> str:
    details = [damage.detail for damage in damages]
    return f"no value can be read: {'; '.join(details[:3])}" if details else "it holds no scalar: nothing to diagnose"


def _may_be_log(file: Path) -> bool:
    name = plain_name(file).lower()
    if "tfevents" in name:
        return True
    return Path(name).suffix not in NO_LOGS and name not in NO_LOG_NAMES


def _walk(top: Path, options: ReadOptions) -> Iterator[_Folder]:
    """Yield each folder at and below `top` with its logs, each with its format, not yet read."""
    pending = [top]
    while pending:
        here = pending.pop()
        folders: list[Path] = []
        files: list[Path] = []
        try:
            entries = sorted(here.iterdir())
        except OSError as error:
            refusal = UnreadableInputError(str(here), f"cannot be read: {error.strerror or error}")
            yield _Folder(here, failures=[(here, refusal)])
            continue
        if any(entry.name == "meta.yaml" for entry in entries) and is_mlflow_run(here):
            yield _Folder(here, store=True, n_files=1)
            continue
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders += [] if _is_link(entry) else [entry]
            elif entry.is_file():
                files.append(entry)
        yield _look_into(here, files, options)
        if any(file.suffix == ".wandb" for file in files):  # what lies below is a copy of what the file holds
            folders = []
        pending += [folder for folder in reversed(folders) if folder.name not in SKIPPED]


def _is_link(entry: Path) -> bool:
    return not is_remote(entry) and entry.is_symlink()


@dataclass(slots=True)
class _Folder:
    """What was found in one folder. `store`: it is that of one run of MLflow. `failures`: what cannot be read, and why."""

    place: Path
    files: list[tuple[Path, Format]] = field(default_factory=list)
    store: bool = False
    n_files: int = 0
    parts: list[Part] = field(default_factory=list)
    failures: list[tuple[Path, UnreadableInputError]] = field(default_factory=list)


def _read_tree(top: Path, shown: str, options: ReadOptions, batch_bytes: float) -> Iterator[Draft]:
    """Yield the runs of a tree, one behind what is read: what belongs to no run is noted with the last one, or the next."""
    folders = list(_walk(top, options))
    elsewhere: list[Damage] = []
    errors: list[UnreadableInputError] = []
    held: Draft | None = None
    for batch in _batches(folders, top, batch_bytes):
        for draft in _read_batch(batch, options, elsewhere):
            draft.damages += elsewhere
            elsewhere.clear()
            if held is not None:
                yield held
            held = draft
        if held is None:
            errors += [error for folder in batch for _, error in folder.failures]
            parts = [part for folder in batch for part in folder.parts]
            errors += [UnreadableInputError(str(part.place), _nothing_in(part.log.damages)) for part in parts]
        for folder in batch:
            folder.parts.clear()
    if held is not None:
        held.damages += elsewhere
        yield held
        return
    if errors:
        first = errors[0]
        more = [f"also: {_shown(other.where, top, shown)}: {other.what}" for other in errors[1:4]]
        raise UnreadableInputError(_shown(first.where, top, shown), first.what, *_ways_out(first), *more)
    seen = sum(folder.n_files for folder in folders)
    where = f"among {seen:,} {'file' if seen == 1 else 'files'}" if seen else "here: the folder is empty"
    raise UnreadableInputError(shown, f"no log that can be read {where}", *formats_read())


def _read_batch(folders: Sequence[_Folder], options: ReadOptions, elsewhere: list[Damage]) -> list[Draft]:
    """Return the runs of some folders; what belongs to none of them is added to `elsewhere`."""
    _read_all(folders, options)
    drafts: list[Draft] = []
    for folder in folders:
        made = group_folder(folder.place, folder.parts, _stem)
        missed = [(file, error.what) for file, error in folder.failures if _matters(file, error, options)]
        if made and made[0].series:
            made[0].damages += [Damage("unreadable-file", str(file), what) for file, what in missed]
            made[0].damages += [d for part in folder.parts if not part.log.series for d in part.log.damages]
        else:  # no run to tell it of: it is noted with another one
            missed += [(part.place, d.detail) for part in folder.parts for d in part.log.damages]
            elsewhere += [Damage("lost-elsewhere", str(file), f"in a folder without a run: {what}") for file, what in missed]
        drafts += made
    return fold(drafts, options.aliases)


def _batches(folders: Sequence[_Folder], top: Path, batch_bytes: float) -> Iterator[list[_Folder]]:
    """Yield folders that are read together: those below one subfolder of `top` always, and so many of these as fit.

    All are read together where `top` itself holds logs, or the names of its subfolders say that they are parts of one run.
    """
    below: dict[Path, list[_Folder]] = {}
    for folder in folders:
        home = next((p for p in (folder.place, *folder.place.parents) if p.parent == top), folder.place)
        below.setdefault(home, []).append(folder)
    is_one = any(folder.files or folder.store or folder.failures for folder in below.get(top, ()))
    if is_one or any(is_part(home.name) for home in below if home != top):
        yield list(folders)
        return
    batch: list[_Folder] = []
    size = 0.0
    for members in below.values():
        mine = sum(_size(file) for folder in members for file, _ in folder.files)
        mine += sum(STORE_BYTES for folder in members if folder.store)
        if batch and size + mine > batch_bytes:
            yield batch
            batch, size = [], 0.0
        batch = [*batch, *members]
        size += mine
    if batch:
        yield batch


def _size(file: Path) -> int:
    try:
        return int(file.stat().st_size)
    except OSError:
        return 0


def _look_into(here: Path, files: Sequence[Path], options: ReadOptions) -> _Folder:
    """Return the logs among the files of a folder, each with its format, not yet read."""
    folder = _Folder(here, n_files=len(files))
    for file in filter(_may_be_log, files):
        try:
            kind = _format_of(file, options) or by_name(plain_name(file))
        except UnreadableInputError as error:
            folder.failures.append((file, error))
            continue
        if kind is not None:
            folder.files.append((file, kind))
    return folder


def _read_all(folders: Sequence[_Folder], options: ReadOptions) -> None:
    """Read what was found; the event files of all folders together, as many small ones cost what a large one does."""
    events = [(folder, file) for folder in folders for file, kind in folder.files if kind.name == EVENTS]
    outcomes = read_event_files([(file, str(file)) for _, file in events])
    for (folder, file), outcome in zip(events, outcomes, strict=True):
        if isinstance(outcome, UnreadableInputError):
            folder.failures.append((file, outcome))
        else:
            folder.parts.append(_part(file, outcome))
    for folder in folders:
        others = [(file, kind) for file, kind in folder.files if kind.name != EVENTS]
        for file, kind in others:
            try:
                folder.parts += [_part(file, log) for log in _logs(file, kind, options)]
            except UnreadableInputError as error:
                folder.failures.append((file, error))
        if folder.store:
            try:
                folder.parts.append(_part(folder.place, read_mlflow_run(folder.place, str(folder.place), options.hints)))
            except UnreadableInputError as error:
                folder.failures.append((folder.place, error))


def _matters(file: Path, error: UnreadableInputError, options: ReadOptions) -> bool:
    """Whether a file that cannot be read is missed: every log but prose, and but a table that logs no loss."""
    if error.what.startswith(NO_METRICS):
        return False
    if error.what.startswith("cannot be read"):
        return True
    if Path(plain_name(file)).suffix.lower() not in TABLES:
        return True
    columns = next((way.removeprefix(COLUMNS).split(", ") for way in error.ways_out if way.startswith(COLUMNS)), [])
    return any(quantity_of(name, options.aliases) in LOSSES for name in columns)


def _shown(where: str, top: Path, shown: str) -> str:
    """Return a path as the user named it."""
    try:
        return str(Path(shown) / Path(where).relative_to(top))
    except ValueError:
        return where


# -- what belongs to a run --------------------------------------------------------------------------------------------


def _is_plain(name: str) -> bool:
    return name.lower() in PLAIN or (name.startswith("version_") and name[8:].isdigit())


def _meaning(folder: Path) -> Path:
    """Return the folder that a run is called by: the nearest one whose name is not just `logs` or the like."""
    here = folder
    while _is_plain(here.name) and here.parent != here:
        here = here.parent
    return here if here.name else folder


class _Neighbours:
    """What lies beside logs and belongs to them: each folder is looked into, and each config read, once for all runs."""

    def __init__(self, options: ReadOptions) -> None:
        from traindoctor.configs import Surroundings

        self._options = options
        self._around = Surroundings()
        self._settings: dict[tuple[tuple[Path, ...], Path], tuple[dict[str, Setting], list[Damage]]] = {}
        self._holds_logs: dict[Path, bool] = {}

    def files(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Return the configs and the scripts that belong to the logs of a folder."""
        from traindoctor.configs import find_code, find_configs

        meaning = _meaning(folder)
        highest = meaning if meaning != folder else folder.parent
        if highest != folder and self._has_logs(highest):  # another run lives there: what lies there is its own
            highest = folder
        configs = [self._options.config] if self._options.config else find_configs(folder, highest, self._around)
        codes = [self._options.code] if self._options.code else find_code(folder, highest, self._around)
        return [_absolute(f) for f in configs], [_absolute(f) for f in codes]

    def settings(self, configs: Sequence[Path], root: Path) -> tuple[dict[str, Setting], list[Damage]]:
        """Return the settings of configs, and what is doubtful in them."""
        from traindoctor.configs import load_settings

        key = (tuple(configs), root)
        if key not in self._settings:
            self._settings[key] = load_settings(configs, root, strict=self._options.config is not None)
        return self._settings[key]

    def _has_logs(self, folder: Path) -> bool:
        if folder not in self._holds_logs:
            self._holds_logs[folder] = any(
                "tfevents" in file.name or Path(plain_name(file)).suffix.lower() in (*TABLES, ".wandb", ".jsonl")
                for file in self._around.files(folder)
            )
        return self._holds_logs[folder]


def _run(draft: Draft, start: Path, top: Path, options: ReadOptions, beside: _Neighbours, *, is_file: bool) -> Run:
    """Return the run of a draft, with config and script, and paths relative to one root."""
    from traindoctor.configs import optimizer_spec, settings_from, with_defaults

    places = list(dict.fromkeys(part.place for part in draft.parts))
    configs, codes = ([f for f in found if f not in places] for found in beside.files(draft.folder))
    root = _common([top, *(f.parent for f in (*configs, *codes, *places))])
    settings, damages = beside.settings(configs, root)
    merged: dict[str, Setting] = {}
    for part in draft.parts:
        merged.update(settings_from(part.log.settings, f"{title_of(part.log.format)} {_relative(part.place, root)}"))
    merged.update(settings_from(draft.settings, "hyperparameters in the log"))
    merged.update(settings)
    merged = with_defaults(merged)
    relative = {str(place): _relative(place, root) for place in places}

    def named(file: str) -> str:
        return relative.get(file) or _relative(locate(file), root)

    joined = join(draft.parts, options.aliases)
    series = with_quantities((replace(s, source=named(s.source)) for s in joined.series), options.aliases)
    known = {s.quantity for s in series}
    series += tuple(replace(s, source=named(s.source)) for s in norms_of(joined.histograms) if s.quantity not in known)
    lost = [replace(d, file=named(d.file)) for d in (*joined.damages, *draft.damages)]
    primary = choose_primary(series, options.aliases)
    doubts = check_series(tuple(primary.values()), "", options.aliases)
    return Run(
        name=_name(draft, top, is_file=is_file),
        path=_relative(start if is_file else draft.folder, root),
        root=str(root),
        series=series,
        primary=primary,
        settings=merged,
        optimizer=optimizer_spec(merged, series),
        damages=tuple(dict.fromkeys((*lost, *damages, *doubts))),
        restarts=tuple(joined.restarts),
        step_unit=_unit(draft, options),
        files=tuple(relative.values()),
        config_files=tuple(_relative(f, root) for f in configs),
        code_files=tuple(_relative(f, root) for f in codes),
        formats={relative[str(part.place)]: part.log.format for part in draft.parts},
        histograms=tuple(replace(h, source=named(h.source)) for h in joined.histograms),
        stitches=tuple(replace(s, file=named(s.file)) for s in (*draft.stitches, *joined.stitches)),
    )


def _unit(draft: Draft, options: ReadOptions) -> StepUnit:
    losses = [s.tag for s in draft.series if quantity_of(s.tag, options.aliases) in ("loss", "val_loss")]
    if draft.is_events and losses and all(tag.split("/")[-1].startswith("epoch_") for tag in losses):
        return "epoch"  # the callback of Keras counts epochs
    return draft.unit


def _absolute(path: Path) -> Path:
    return path if is_remote(path) else Path(os.path.normpath(path.absolute()))


def _common(places: Sequence[Path]) -> Path:
    """Return the lowest folder that all the places lie in."""
    remote = [place for place in places if is_remote(place)]
    if not remote:
        return Path(os.path.commonpath(places))
    root = remote[0]
    while root.parent != root and not all(place == root or root in place.parents for place in remote):
        root = root.parent
    return root


def _relative(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix() if path == root or root in path.parents else str(path)


def _name(draft: Draft, top: Path, *, is_file: bool) -> str:
    """Return what the run is called: its path below what was given, else the folder that tells."""
    parts = list(draft.folder.relative_to(top).parts) if not is_file and top in (draft.folder, *draft.folder.parents) else []
    while parts and _is_plain(parts[-1]):
        parts.pop()
    name = "/".join(parts) or _meaning(draft.folder).name or draft.folder.name or "run"
    if draft.label and (is_file or draft.parts[0].log.format == MLFLOW_FILES):  # its folder is called by a hash
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
