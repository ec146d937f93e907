"""The pipeline of `check`: files -> scripts and configs -> the mistakes that rules find in them. Nothing is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from traindoctor.code.script import Script
    from traindoctor.configs.file import ConfigFile
    from traindoctor.mistake import Edit, Mistake
    from traindoctor.rule import Cause

SEVERITIES = ("error", "warning", "info")


class Found(NamedTuple):
    """A mistake with the cause that it is an instance of; its severity filled in."""

    code: str
    name: str
    mistake: Mistake


def in_script(
    script: Script, causes: Iterable[Cause], thresholds: Mapping[str, Mapping[str, float]] | None = None
) -> list[Found]:
    """Return what the causes find in a script, in the order of the file."""
    found = []
    for cause in causes:
        limits = cause.limits((thresholds or {}).get(cause.code))
        for rule, words in cause.script_rules:
            if all(any(word in script.text for word in either.split("|")) for either in words):
                found += [_of(cause, mistake) for mistake in rule(script, limits)]
    return _once(found)


def in_file(
    config: ConfigFile, causes: Iterable[Cause], thresholds: Mapping[str, Mapping[str, float]] | None = None
) -> list[Found]:
    """Return what the causes find in a config file, in the order of the file."""
    found = []
    for cause in causes:
        limits = cause.limits((thresholds or {}).get(cause.code))
        for rule in cause.file_rules:
            found += [_of(cause, mistake) for mistake in rule(config, limits)]
    return _once(found)


def mended(text: str, found: Iterable[Found], *, unsafe: bool = False) -> str:
    """Return the text with the edits of all repairs that are safe (or of all), those that overlap an earlier one left out."""
    taken: list[Edit] = []
    for one in found:
        repair = one.mistake.repair
        if repair is None or not (repair.safe or unsafe):
            continue
        if all(edit in taken or all(edit.stop < t.start or edit.start > t.stop for t in taken) for edit in repair.edits):
            taken += [edit for edit in repair.edits if edit not in taken]
    for start, stop, new in sorted(taken, reverse=True):
        text = text[:start] + new + text[stop:]
    return text


def _of(cause: Cause, mistake: Mistake) -> Found:
    return Found(cause.code, cause.name, mistake._replace(severity=mistake.severity or cause.severity))


def _once(found: Iterable[Found]) -> list[Found]:
    """Return the findings in the order of the file, of equal ones the first."""
    seen: dict[tuple[object, ...], Found] = {}
    for one in found:
        seen.setdefault((one.code, one.mistake.location, one.mistake.message), one)
    return sorted(seen.values(), key=_order)


def _order(one: Found) -> tuple[object, ...]:
    return (*one.mistake.location, one.code, one.mistake.message)
