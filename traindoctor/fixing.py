"""The fixes that a report offers, the patch of each as today's files take it, and the files with it made.

A report may come from elsewhere, and whoever wrote it may want more than a better training. So nothing of its patches is ever
applied: what it names is a change of settings, or a mistake of a script that is looked for again, and the patch is made anew
from the files that lie here. A patch of the report only chooses among those.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, NamedTuple

from traindoctor.beside import mistakes_of, patch_of, patch_of_settings, read_beside, with_settings
from traindoctor.configs.discover import SCRIPTS, Surroundings
from traindoctor.configs.documents import COMMANDS, ParseError
from traindoctor.configs.every import same
from traindoctor.configs.inherit import read_config
from traindoctor.configs.loading import load_settings
from traindoctor.diff import DiffError, applied, headed, read_diff, renamed
from traindoctor.errors import TraindoctorError
from traindoctor.readers.storage import is_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from traindoctor.beside import Beside
    from traindoctor.configs.patch import Patched
    from traindoctor.model import Finding, Fix, Report, Run
    from traindoctor.rule import Cause, Limits

#: Kinds of files that hold settings or train: a patch of any other is none of ours.
KNOWN = frozenset({".py", ".yaml", ".yml", ".json", ".toml", *COMMANDS, *SCRIPTS})
_ORIGIN = re.compile(r"(?P<file>[^\0\n]+?):\d+(?: \(.*\))?")


class Choice(NamedTuple):
    """One fix of one finding of one run; `number`: its place among those of the finding, from 1."""

    run: Run
    finding: Finding
    number: int
    fix: Fix


class Derived(NamedTuple):
    """The patch of a fix as today's files take it; without one, why.

    `state`: "patched"; "by hand" for a change that no line of a known file makes; "made" for one that is there already; "stale"
    where the files are not those that the report speaks of.
    """

    patch: str | None
    state: Literal["patched", "by hand", "made", "stale"]
    reason: str = ""


class Change(NamedTuple):
    """A file before and after a fix, by its path from the root and where it really lies."""

    file: str
    path: Path
    before: bytes
    after: bytes


# -- which fixes ------------------------------------------------------------------------------------------------------


def choices(
    report: Report, *, wanted: Callable[[Run, Finding], bool] | None = None, number: int = 1, every: bool = False
) -> Iterator[Choice]:
    """Yield the fixes that are meant: one of the first finding of each run, or of each finding that is wanted.

    `number`: which fix of a finding, from 1. `every`: all fixes of all findings. A finding without that fix yields none, and
    so does a run that is healthy for all that was found, where nothing of it is named.
    """
    for told in report.runs:
        if told.verdict == "healthy" and wanted is None and not every:
            continue
        findings = [one for one in told.findings if wanted is None or wanted(told.run, one)]
        for finding in findings if every or wanted is not None else findings[:1]:
            for i, fix in enumerate(finding.fixes, 1):
                if every or i == number:
                    yield Choice(told.run, finding, i, fix)


# -- which patch ------------------------------------------------------------------------------------------------------


def patch_from_run(choice: Choice) -> Derived:
    """Return the patch of a fix of a diagnosis that was made just now; else why it has none."""
    if choice.fix.patch is not None:
        return Derived(choice.fix.patch, "patched")
    if not choice.fix.settings:
        return Derived(None, "by hand")
    made = _made(choice, choice.run)
    if made:
        return Derived(None, "made", made)
    return _derived(patch_of_settings(choice.run, choice.fix.settings, read_beside(choice.run)))


def patch_from_report(choice: Choice, root: Path, causes: Mapping[str, Cause], thresholds: Mapping[str, Limits]) -> Derived:
    """Return the patch of a fix of a report that was read back, made anew from the files under `root`; else why it has none.

    `thresholds`: those of the project, by the code of a cause.
    """
    named = files_named(choice)
    if not named and not choice.fix.patch:
        why = "the report names no config and no script that could be changed"
        return Derived(None, "by hand", why if choice.fix.settings else "")
    there = [file for file in named if not refusal(root, file) and is_there(root, file)]
    if not there:
        return Derived(None, "stale", f"{_absent(root, named)}; --root DIR names the folder that was diagnosed")
    run = _run_at(choice, root, there)
    beside = read_beside(run)
    made = _of_settings(choice, run, beside)
    if made.patch is not None or choice.fix.patch is None or made.state == "made":
        return made
    again = _of_a_mistake(choice, beside, causes.get(choice.finding.code), thresholds.get(choice.finding.code))
    if again is not None:
        return Derived(again, "patched")
    why = made.reason or "its mistake is not found in the files that are here, and a patch is not taken on trust"
    return Derived(None, "stale", why)


def _derived(made: Patched) -> Derived:
    return Derived(made.patch, "by hand" if made.patch is None else "patched", made.reason)


def _bases(root: Path, file: str) -> set[Path]:
    """Return the files that a config inherits what it sets from."""
    try:
        return {entry.file.resolve() for entry in read_config(root / file, root).entries if entry.file is not None}
    except ParseError:
        return set()


def _of_settings(choice: Choice, run: Run, beside: Beside) -> Derived:
    """Return the patch of a change of settings, where the files hold of them what the report saw."""
    if not choice.fix.settings:
        return Derived(None, "by hand")
    made = _made(choice, run)
    if made:
        return Derived(None, "made", made)
    stale = _stale(choice, run)
    return Derived(None, "stale", stale) if stale else _derived(patch_of_settings(run, choice.fix.settings, beside))


def _made(choice: Choice, run: Run) -> str:
    """Return where the settings of a fix stand already, where all of them do; else ""."""
    wanted, now = choice.fix.settings, run.settings
    if not all(key in now and same(_plain(now[key].value), _plain(value)) for key, value in wanted.items()):
        return ""
    return ", ".join(f"{now[key].origin} holds {_plain(value)} already" for key, value in wanted.items())


def files_named(choice: Choice) -> list[str]:
    """Return the files that a finding, its fix, and the origins of the run's settings name, those of the fix first."""
    found: list[str] = []
    if choice.fix.patch:
        with suppress(DiffError):
            found += [change.file for change in read_diff(choice.fix.patch)]
    found += [place.file for place in choice.finding.locations]
    origins = [setting.origin for setting in choice.run.settings.values()]
    found += [at["file"] for origin in origins if (at := _ORIGIN.fullmatch(origin)) is not None]
    return [file for file in dict.fromkeys(found) if PurePosixPath(file).suffix.lower() in KNOWN]


def _run_at(choice: Choice, root: Path, files: Sequence[str]) -> Run:
    """Return the run with the files that it names as they lie under `root`, and the settings that they hold today."""
    around = Surroundings()
    code = [
        file for file in files if file.endswith(".py") and (root / file).resolve() in around.code((root / file).resolve().parent)
    ]
    configs = [file for file in files if file not in code]
    bases = {base for file in configs for base in _bases(root, file)}  # which are read with the config that names them
    configs = [file for file in configs if (root / file).resolve() not in bases]
    order = {path.name: i for file in configs for i, path in enumerate(around.configs((root / file).parent))}
    configs.sort(key=lambda file: order.get(PurePosixPath(file).name, -1))
    held, _ = load_settings([root / file for file in configs], root)
    run = replace(choice.run, root=str(root), config_files=tuple(configs), code_files=tuple(code), settings=held)
    run = with_settings(run, read_beside(run))
    logged = {key: setting for key, setting in choice.run.settings.items() if _ORIGIN.fullmatch(setting.origin) is None}
    return replace(run, settings={**logged, **run.settings})


def _stale(choice: Choice, run: Run) -> str:
    """Return how the files differ from what the report saw in the settings that the fix changes; empty where they do not."""
    for setting in choice.fix.settings:
        told, now = choice.run.settings.get(setting), run.settings.get(setting)
        if told is None or _ORIGIN.fullmatch(told.origin) is None or same(_plain(told.value), _plain(now and now.value)):
            continue
        holds = f"{now.origin} holds {_plain(now.value)}" if now is not None else f"`{setting}` is not set here"
        return f"the report saw {_plain(told.value)} at {told.origin}, and {holds}: it was changed, or is another run's"
    return ""


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _of_a_mistake(choice: Choice, beside: Beside, cause: Cause | None, thresholds: Limits | None) -> str | None:
    """Return the repair that a cause offers today which changes the lines that the report's patch does."""
    if cause is None or choice.fix.patch is None:
        return None
    try:
        wanted = [(change.file, change.changed) for change in read_diff(choice.fix.patch)]
        found, _ = mistakes_of(cause, beside, cause.limits(thresholds))
    except DiffError:
        return None
    for some in (found, *([one] for one in found)):
        patch = patch_of(some, beside)
        if patch is not None and [(change.file, change.changed) for change in read_diff(patch)] == wanted:
            return patch
    return None


def _absent(root: Path, names: Sequence[str]) -> str:
    """Return why none of the files can be changed under `root`."""
    refused = [f"{file} {why}" for file in names if (why := refusal(root, file))]
    if refused:
        return refused[0]
    if len(names) == 1:
        return f"{names[0]} is not here"
    return f"none of {', '.join(names[:4])}{' ...' if len(names) > 4 else ''} is here"


# -- which files ------------------------------------------------------------------------------------------------------


def folder_of(report: Report, near: Sequence[Path]) -> Path:
    """Return the folder that holds the files which a report names, most of them unchanged; the first of `near` where none does.

    Each of `near` is looked at, and in it the folder of the name that was diagnosed, where the report knows of one alone.
    """
    named = {file for choice in choices(report, every=True) for file in files_named(choice)}
    made = [told.provenance for told in report.runs if told.provenance is not None]
    hashes = {(given.path, given.sha256) for one in made for given in one.inputs}
    below = {name for one in made for name in (_diagnosed(one.making.command),) if name}

    def held(place: Path) -> tuple[int, bool]:
        there = [file for file in named if not refusal(place, file) and is_there(place, file)]
        return sum((file, _sha256(place / file)) in hashes for file in there), bool(there)

    return max([*near, *(place / name for name in sorted(below) for place in near)], key=held)


def _diagnosed(command: str) -> str:
    """Return the name of the one folder that a recorded command was given; "" where it was several, or is no plain name."""
    try:
        words = shlex.split(command)[2:]
    except ValueError:
        return ""
    paths = list(takewhile(lambda word: not word.startswith("-"), words))
    return paths[0] if len(paths) == 1 and paths[0] not in ("", ".", "..") and not {*paths[0]} & {*"/\\\0"} else ""


def _sha256(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def is_there(root: Path, file: str) -> bool:
    """Return whether a file lies under a folder; a name that no file can have is none."""
    try:
        return (root / file).is_file()
    except (OSError, ValueError):
        return False


def refusal(root: Path, file: str) -> str:
    """Return why a file is not to be changed: it lies outside of the root, in .git, or is no config or script; else ""."""
    place = PurePosixPath(file)
    try:
        top, real = root.resolve(), (root / file).resolve()
    except (OSError, RuntimeError, ValueError):
        return "cannot be reached"
    if place.is_absolute() or Path(file).is_absolute() or ".." in place.parts or not real.is_relative_to(top):
        return f"lies outside of {root}"
    if any(part.lower() == ".git" for part in (*place.parts, *real.relative_to(top).parts)):
        return "belongs to git"
    if place.suffix.lower() not in KNOWN or real.suffix.lower() not in KNOWN:
        return "is no config and no script of a kind that is known"
    return ""


def changes_of(patch: str, root: Path) -> tuple[Change, ...]:
    """Return the files under `root` that a patch changes, before and after.

    Raises: TraindoctorError for a file that is not to be changed, cannot be read, or holds something else than the patch says.
    """
    made = []
    for change in read_diff(patch):
        file = change.file
        why = refusal(root, file)
        if why:
            raise TraindoctorError(file, f"it {why}, and is not changed", "--root DIR, the folder of the run")
        path = (root / file).resolve()
        try:
            before = path.read_bytes()
            encoding = _encoding(path, before)
            text = before.decode(encoding)
            after = applied(headed(file) + change.body, {file: text})[file].encode(encoding)
        except OSError as error:
            raise TraindoctorError(file, error.strerror or "cannot be read", "--root DIR, the folder of the run") from error
        except (UnicodeError, LookupError) as error:
            raise TraindoctorError(file, "is no text in the encoding it declares", "save it as UTF-8") from error
        except DiffError as error:
            raise TraindoctorError(file, f"the patch does not fit: {error}", "diagnose the logs again") from error
        made.append(Change(file, path, before, after))
    return tuple(made)


def _encoding(path: Path, data: bytes) -> str:
    """Return the encoding of a file that a patch changes: UTF-8, or what a script declares. A byte-order mark is a character."""
    if path.suffix != ".py":
        return "utf-8"
    import io
    import tokenize

    try:
        return tokenize.detect_encoding(io.BytesIO(data).readline)[0].removesuffix("-sig")
    except SyntaxError as error:
        raise LookupError(str(error)) from error


def new_keys(choice: Choice) -> list[str]:
    """Return the settings that a fix brings into a config which did not hold them."""
    held = {key for key, setting in choice.run.settings.items() if _ORIGIN.fullmatch(setting.origin) is not None}
    pair = {"optimizer.betas", "optimizer.beta1", "optimizer.beta2"}
    return [key for key in choice.fix.settings if key not in held and not (key in pair and held & pair)]


def targets(patch: str, root: Path) -> tuple[Path, ...]:
    """Return where the files that a patch changes really lie."""
    return tuple(place if is_remote(root) else place.resolve() for place in (root / change.file for change in read_diff(patch)))


def shown_from(patch: str, root: Path, here: Path) -> tuple[str, bool]:
    """Return a patch with its paths from `here`, and whether all of its files lie below it; else the patch as it is."""
    names: dict[str, str] = {}
    try:
        files = [change.file for change in read_diff(patch)]
        for file in files:
            names[file] = Path(os.path.abspath(root / file)).relative_to(os.path.abspath(here)).as_posix()  # noqa: PTH100 -- no links
    except (DiffError, ValueError):
        return patch, False
    return renamed(patch, names), True


def as_bytes(patch: str, shown: str, root: Path) -> bytes:
    """Return a patch, with its paths as `shown`, in the bytes that `git apply` wants: the lines of a file in its encoding."""
    made = []
    for change, other in zip(read_diff(patch), read_diff(shown), strict=True):
        path = root / change.file
        try:
            encoding = _encoding(path, path.read_bytes()) if change.file.endswith(".py") else "utf-8"
            body = change.body.encode(encoding)
        except (OSError, LookupError, UnicodeError):
            body = change.body.encode("utf-8", "surrogateescape")
        made.append(headed(other.file).encode("utf-8", "surrogateescape") + body)
    return b"".join(made)
