"""Where a report comes from: the command, the rules, the files with their hashes; nothing that tells of machine or person.

The same files, rules and options give the same record, from any working directory.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shlex
from collections import Counter
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from traindoctor import __version__
from traindoctor.readers.storage import is_remote, locate
from traindoctor.registry import installed_packs, load_rules, packs_at
from traindoctor.report import wording as w
from traindoctor.report.redaction import redacted_text
from traindoctor.report.view import files_of
from traindoctor.signals.thinning import whole_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from traindoctor.model import Report, RunReport
    from traindoctor.pipeline import DiagnoseOptions

#: Files up to this size are hashed; at a few hundred MB a second, a larger one would be waited for.
LARGEST_HASHED = 256 * 2**20
CHUNK = 2**20
#: Files of one run that are hashed and listed; a run of thousands of shards has them in its findings JSON.
MOST_FILES = 200


@dataclass(frozen=True, slots=True)
class Making:
    """How a report was made, the same for all its runs.

    `command`: with what was named on it, without places of output. `rules`: SHA-256 over the files of all rule packs, the
    thresholds, and which codes were selected. `packs`: their names. `thresholds`: (code and name, value) of each that the user
    changed. `versions`: of what the numbers were worked out with. `shows_paths`: whether full paths may be shown.
    """

    command: str
    rules: str
    n_rules: int
    packs: tuple[str, ...]
    thresholds: tuple[tuple[str, str], ...]
    versions: tuple[tuple[str, str], ...]
    shows_paths: bool = False


@dataclass(frozen=True, slots=True)
class Input:
    """One file that was read.

    `kind`: its format, or "settings", "script", "checkpoint". `sha256`: or the reason why there is none. `n_bytes`: None where
    the file was not looked at again. `n_values`: logged values that came from it, None for what is no log. `n_notes`: notes on
    damage in it.
    """

    path: str
    kind: str
    n_bytes: int | None
    sha256: str
    n_values: int | None
    n_notes: int


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the report of one run comes from. `folder`: that the paths are relative to, "" where it is not to be shown."""

    making: Making
    inputs: tuple[Input, ...]
    folder: str
    n_left_out: int = 0


def making_of(paths: Sequence[Path | str], options: DiagnoseOptions, *, shows_paths: bool = False) -> Making:
    """Return how a report of these paths was made; `shows_paths`: with paths as they were given, made absolute."""
    thresholds = tuple(
        (f"{code} {name}", w.number(value))
        for code, known in sorted(options.thresholds.items())
        for name, value in sorted(known.items())
    )
    packs = installed_packs() | packs_at(options.rules)
    return Making(
        command=command_of(paths, options, shows_paths=shows_paths),
        rules=digest_of_rules(options),
        n_rules=len(load_rules(options.rules).causes),
        packs=tuple(sorted(w.relative(name) for name in packs)),
        thresholds=thresholds,
        versions=(("Python", platform.python_version()), ("NumPy", _numpy_version()), ("traindoctor", __version__)),
        shows_paths=shows_paths,
    )


def command_of(paths: Sequence[Path | str], options: DiagnoseOptions, *, shows_paths: bool = False) -> str:
    """Return the command that gives the same report: paths by their last part, options that change what is found alone.

    Aliases of tags are named here, wherever they were set; secrets in URLs are not shown.
    """

    def named(path: Path | str) -> str:
        place = locate(path)
        if is_remote(place):
            return redacted_text(str(path))
        return str(place.absolute()) if shows_paths else place.resolve().name

    words = ["traindoctor", "diagnose", *map(named, paths)]
    for option, file in (("--config", options.config), ("--code", options.code)):
        words += [option, named(file)] if file is not None else []
    words += [word for file in options.checkpoints for word in ("--checkpoint", named(file))]
    words += ["--format-in", options.format] if options.format else []
    words += ["--step-column", options.step_column] if options.step_column else []
    words += [word for quantity, tags in sorted(options.tags.items()) for tag in tags for word in ("--tag", f"{quantity}={tag}")]
    words += ["--parameters", str(options.parameters)] if options.parameters else []
    for option, codes in (("--select", options.select), ("--ignore", options.ignore)):
        words += [option, ",".join(codes)] if codes else []
    words += [word for pack in options.rules for word in ("--rules", named(pack))]
    return redacted_text(shlex.join(words))


def digest_of_rules(options: DiagnoseOptions) -> str:
    """Return the SHA-256 over the files of all rule packs in use, the thresholds, and which codes were selected or ignored."""
    made = hashlib.sha256()
    for name, module in sorted((installed_packs() | packs_at(options.rules)).items()):
        try:
            pack = import_module(module)
        except Exception:  # the report tells of a pack that does not load
            made.update(f"{w.relative(name)} failed\0".encode())
            continue
        for folder in (Path(p) for p in getattr(pack, "__path__", [str(pack.__file__)])):
            for file in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]:
                inside = file.relative_to(folder).as_posix() if folder.is_dir() else file.name
                made.update(f"{w.relative(name)}/{inside}\0".encode("utf-8", "backslashreplace"))
                made.update(hashlib.sha256(file.read_bytes()).digest())
    chosen: Mapping[str, object] = {
        "thresholds": {code: dict(sorted(known.items())) for code, known in sorted(options.thresholds.items())},
        "select": sorted(options.select),
        "ignore": sorted(options.ignore),
    }
    made.update(json.dumps(chosen, sort_keys=True).encode())
    return made.hexdigest()


def with_provenance(report: Report, making: Making) -> Report:
    """Return the report with the provenance of each of its runs; reads the files of all of them once more."""
    return replace(report, runs=tuple(replace(run, provenance=provenance_of(run, making)) for run in report.runs))


def provenance_of(report: RunReport, making: Making) -> Provenance:
    """Return where the report of a run comes from; hashes its files, those on this machine alone."""
    run = report.run
    kinds = files_of(run)
    values: Counter[str] = Counter()
    for series in run.series:
        values[series.source] += whole_of(series).n
    notes = Counter(d.file for d in run.damages if d.family != "noted")
    inputs = []
    for file, kind in kinds[:MOST_FILES]:
        n_bytes, digest = _looked_at(run.root, file)
        n_values = values[file] if kind not in ("settings", "script", "checkpoint") else None
        shown = w.clean(redacted_text(w.relative(file, run.root)))
        inputs.append(Input(shown, kind, n_bytes, digest, n_values, notes[file]))
    folder = w.clean(redacted_text(run.root)) if making.shows_paths else ""
    return Provenance(making, tuple(inputs), folder, max(0, len(kinds) - MOST_FILES))


def _looked_at(root: str, file: str) -> tuple[int | None, str]:
    """Return size and hash of a file, or the reason why it was not hashed."""
    if "://" in root or "://" in file:
        return None, "not hashed: on a remote store"
    path = Path(root, file)
    try:
        size = path.stat().st_size
        if not path.is_file():
            return None, "not hashed: no plain file"
        if size > LARGEST_HASHED:
            return size, f"not hashed: larger than {LARGEST_HASHED // 2**20} MB"
        made = hashlib.sha256()
        with path.open("rb") as stream:
            while piece := stream.read(CHUNK):
                made.update(piece)
    except (OSError, ValueError):
        return None, "not hashed: no longer there"
    return size, made.hexdigest()


def _numpy_version() -> str:
    import numpy as np

    return np.__version__
