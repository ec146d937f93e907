"""The scripts and configs beside a log: what `check` finds in them is evidence on the run, and its repairs are patches."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path  # noqa: TC003 -- a field of a named tuple
from typing import TYPE_CHECKING, Literal, NamedTuple

from traindoctor.check.findings import Found, in_file, in_script
from traindoctor.check.mend import mended
from traindoctor.check.sources import SUPPRESSION, Source
from traindoctor.check.suppressions import judge
from traindoctor.code.loops import read_source, training_loops
from traindoctor.code.project import Project
from traindoctor.code.script import Script
from traindoctor.code.settings import optimizer_settings, rewritten
from traindoctor.configs.documents import ParseError, read_text
from traindoctor.configs.file import ConfigFile
from traindoctor.configs.optimizer import optimizer_spec
from traindoctor.configs.patch import Patched, config_patch
from traindoctor.diff import unified_diff
from traindoctor.errors import TraindoctorError
from traindoctor.mistake import Location
from traindoctor.model import Damage, Evidence, Fix, NotChecked, Setting
from traindoctor.readers.storage import locate
from traindoctor.rule import MODERATE, PROOF, STRONG, WEAK, supports

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from traindoctor.model import Run, TrainingLoop
    from traindoctor.rule import Cause, Limits

#: What a mistake says of a run, by its place and severity. A line of the script that is wrong on every path did its harm in
#: this run. A value of a config needs a log that goes with it: the run was made, so no framework refused it, and another
#: value may have come from the command line. What only looks so says nothing.
WEIGHTS = {
    ("code", "error"): PROOF + STRONG,
    ("code", "warning"): MODERATE,
    ("config", "error"): MODERATE,
    ("config", "warning"): WEAK,
}
_ORIGIN = re.compile(r"(?P<file>.+?):(?P<line>\d+)(?: \(.*\))?")


class Beside(NamedTuple):
    """Scripts and configs of a run by their file, the loops of the scripts, and what could not be read.

    `root`: the folder that the files are relative to.
    """

    scripts: Mapping[str, Script]
    configs: Mapping[str, ConfigFile]
    loops: tuple[TrainingLoop, ...]
    damages: tuple[Damage, ...]
    root: Path


def read_beside(run: Run) -> Beside:
    """Return what stands beside the log of a run; a file that cannot be read is a damage, no error."""
    root = locate(run.root)
    scripts: dict[str, Script] = {}
    configs: dict[str, ConfigFile] = {}
    loops: list[TrainingLoop] = []
    damages: list[Damage] = []

    def text_of(file: str) -> str | None:
        try:
            return read_source(root / file)
        except TraindoctorError:
            return None

    project = Project(text_of)
    for file in run.code_files:
        try:
            text = read_source(root / file)
            loops += training_loops(text, file)
            scripts[file] = Script(file, text, project=project)
        except TraindoctorError as error:
            damages.append(Damage("unreadable-script", file, str(error)))
    for file in run.config_files:
        path = root / file
        try:  # what cannot be read was told when the settings were
            configs[file] = ConfigFile(file, read_text(path), path=path, root=root)
        except (ParseError, OSError):
            continue
    return Beside(scripts, configs, tuple(loops), tuple(damages), root)


def with_settings(run: Run, beside: Beside) -> Run:
    """Return the run with the optimizer that its scripts build, where no config names one and one script builds one."""
    if "optimizer.name" in run.settings:
        return run
    told = [(file, found) for file, script in beside.scripts.items() if (found := optimizer_settings(script)) is not None]
    if len(told) != 1:
        return run
    file, found = told[0]
    settings = {setting: Setting(written.value, written.place.text) for setting, written in found.values.items()}
    settings.setdefault("framework", Setting(found.framework, file))
    settings |= run.settings
    unknown = set(found.left_open) - set(settings)
    if "dialect.open" in settings:
        unknown |= set(settings["dialect.open"].value)  # type: ignore[call-overload]
    settings["dialect.open"] = Setting(tuple(sorted(unknown)), file)
    return replace(run, settings=settings, optimizer=optimizer_spec(settings, run.series))


def patch_for_settings(run: Run, change: Mapping[str, object], beside: Beside) -> str | None:
    """Return the diff of `patch_of_settings`, None where there is none."""
    return patch_of_settings(run, change, beside).patch


def patch_of_settings(run: Run, change: Mapping[str, object], beside: Beside) -> Patched:
    """Return the diff of the config, or else of the script, that makes a change of settings; else why there is none.

    A script is changed where it names the optimizer, and where nothing but the one script is beside the log.
    """
    root = locate(run.root)
    made = config_patch(root, run.settings, change, run.config_files)
    if made.patch is not None:
        return made
    named = run.settings.get("optimizer.name")
    place = place_of_origin(named.origin, beside) if named is not None else None
    script = beside.scripts.get(place.file) if place is not None else None
    if script is None and named is None and not beside.configs and len(beside.scripts) == 1:
        (script,) = beside.scripts.values()
    if script is None:
        return made if beside.configs else Patched(None, "neither a config nor a script that could be changed is beside the log")
    text, reason = rewritten(script, change, values_now(run))
    if text is None:
        return Patched(None, reason)
    return Patched(unified_diff(script.file, script.text, text, marked=_is_marked(root / script.file)))


def values_now(run: Run) -> dict[str, object]:
    """Return what the optimizer of a run was given, by setting, as far as it is known: of its files, or of the log."""
    known = {key: setting.value for key, setting in run.settings.items()}
    rate = run.primary.get("learning_rate")
    if rate is not None and len(rate):
        known.setdefault("optimizer.lr", float(rate.value.max()))
    return known


def _is_marked(path: Path) -> bool:
    """Return whether a file begins with a byte-order mark, which the text of a script does not hold."""
    try:
        with path.open("rb") as stream:
            return stream.read(3) == b"\xef\xbb\xbf"
    except OSError:
        return False


def mistakes_of(cause: Cause, beside: Beside, limits: Limits) -> tuple[list[Found], list[NotChecked]]:
    """Return what a cause finds in the scripts and configs, errors and warnings alone, and what it could not look at.

    What a comment silences is left out. Only a cause that has nothing else to look at, and a rule that failed, is said not to
    be checked.
    """
    found: list[Found] = []
    missed: list[NotChecked] = []

    def failed(cause: Cause, error: Exception) -> None:
        missed.append(NotChecked(cause.code, f"its rule failed: {type(error).__name__}: {error}"))

    for script in beside.scripts.values() if cause.script_rules else ():
        found += _heard(Source(script.file, "script", script.text), in_script(script, [cause], {cause.code: limits}, failed))
    for config in beside.configs.values() if cause.file_rules else ():
        found += _heard(Source(config.file, "config", config.text), in_file(config, [cause], {cause.code: limits}, failed))
    if not missed and not (cause.log_rules or cause.config_rules or cause.code_rules or cause.state_rules):
        kinds = (("script", cause.script_rules, beside.scripts), ("config", cause.file_rules, beside.configs))
        lacking = [kind for kind, rules, files in kinds if rules and not files]
        if len(lacking) == sum(bool(rules) for _, rules, _ in kinds):
            missed.append(NotChecked(cause.code, f"no {' or '.join(lacking)} beside the log"))
    return [one for one in found if one.mistake.severity != "info"], missed


def _heard(source: Source, found: list[Found]) -> list[Found]:
    """Return the findings that no comment in their file silences."""
    codes = {one.code for one in found}
    return judge(source, found, codes, codes).kept if found and SUPPRESSION in source.text else found


def joined(evidence: Iterable[Evidence], found: Iterable[Found], beside: Beside) -> tuple[Evidence, ...]:
    """Return the evidence on a cause with its mistakes; one that the settings told already gives that evidence its place."""
    known = list(evidence)
    for one in found:
        place = one.mistake.location
        kind: Literal["code", "config"] = "code" if place.file in beside.scripts else "config"
        bare = [i for i, e in enumerate(known) if e.kind == kind == "config" and e.supports and e.location is None]
        if bare:
            known[bare[0]] = replace(known[bare[0]], location=place)
        else:
            known.append(_evidence(one, place, kind))
    return tuple(known)


def patched(found: Iterable[Found], beside: Beside) -> Iterator[Fix]:
    """Yield the fix of each mistake, with its patch where one right answer is known."""
    for one in found:
        mistake = one.mistake
        title = mistake.repair.title if mistake.repair is not None else mistake.advice
        if title:
            yield Fix(title, mistake.settings, patch_of([one], beside))


def patch_of(found: Iterable[Found], beside: Beside) -> str | None:
    """Return the unified diff of the repairs of mistakes in one file; None where there is none."""
    found = [one for one in found if one.mistake.repair is not None and one.mistake.repair.edits]
    if not found:
        return None
    file = found[0].mistake.location.file
    source = beside.scripts.get(file) or beside.configs.get(file)
    if source is None:
        return None
    return unified_diff(file, source.text, mended(source.text, found, unsafe=True), marked=_is_marked(beside.root / file))


def place_of_origin(origin: str, beside: Beside) -> Location | None:
    """Return the place that an origin of a setting names ("config.yaml:12"), where that file is beside the log."""
    found = _ORIGIN.fullmatch(origin)
    if found is None or not (found["file"] in beside.configs or found["file"] in beside.scripts):
        return None
    return Location(found["file"], int(found["line"]))


def _evidence(one: Found, place: Location, kind: Literal["code", "config"]) -> Evidence:
    return supports(
        one.name.replace("-", "_"),
        place.text,
        unit="",
        weight=WEIGHTS[kind, one.mistake.severity],
        kind=kind,
        source=place.text,
        location=place,
        text=one.mistake.message,
    )
