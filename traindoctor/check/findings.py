"""What rules find in one script or config: each mistake with its cause. A rule that fails is named, and the others run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from traindoctor.registry import speaks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from traindoctor.code.script import Script
    from traindoctor.configs.file import ConfigFile
    from traindoctor.mistake import Mistake
    from traindoctor.rule import Cause

#: The worst first.
SEVERITIES = ("error", "warning", "info")


class Found(NamedTuple):
    """A mistake with the cause that it is an instance of; its severity filled in."""

    code: str
    name: str
    mistake: Mistake


def in_script(
    script: Script,
    causes: Iterable[Cause],
    thresholds: Mapping[str, Mapping[str, float]] | None = None,
    on_failure: Callable[[Cause, Exception], None] | None = None,
) -> list[Found]:
    """Return what the causes find in a script, in the order of the file; nothing in a file of tests.

    `on_failure`: is told of a rule that raised; without it the exception is the caller's.
    """
    found: list[Found] = []
    for cause in () if script.is_test else causes:
        limits = cause.limits((thresholds or {}).get(cause.code))
        for rule, words in cause.script_rules:
            if speaks_of(words, script.text):
                found += _gathered(cause, lambda rule=rule, limits=limits: rule(script, limits), on_failure)  # type: ignore[misc]
    return _once(found, script.file)


def in_file(
    config: ConfigFile,
    causes: Iterable[Cause],
    thresholds: Mapping[str, Mapping[str, float]] | None = None,
    on_failure: Callable[[Cause, Exception], None] | None = None,
) -> list[Found]:
    """Return what the causes find in a config file, in the order of the file; `on_failure` as in `in_script`."""
    found: list[Found] = []
    for cause in causes:
        limits = cause.limits((thresholds or {}).get(cause.code))
        for rule in cause.file_rules:
            found += _gathered(cause, lambda rule=rule, limits=limits: rule(config, limits), on_failure)  # type: ignore[misc]
    return _once(found, config.file)


def _gathered(
    cause: Cause, look: Callable[[], Iterator[Mistake]], on_failure: Callable[[Cause, Exception], None] | None
) -> list[Found]:
    """Return what one rule finds: what it had found before it failed, where it fails and somebody is told."""
    found: list[Found] = []
    try:
        for mistake in look():
            found.append(  # noqa: PERF401 -- what was found before the rule failed stays
                Found(cause.code, cause.name, mistake._replace(severity=mistake.severity or cause.severity))
            )
    except Exception as error:
        if on_failure is None:
            raise
        on_failure(cause, error)
    return found


def _once(found: Iterable[Found], file: str) -> list[Found]:
    """Return the findings in the order of the file; of those of one cause at one place the worst, else the first.

    What is found in another file, one beside it, has no repair here: its edits count that file's characters.
    """
    seen: dict[tuple[object, ...], Found] = {}
    for one in sorted(found, key=lambda one: SEVERITIES.index(one.mistake.severity or "info")):
        place = one.mistake.location
        if place.file != file and one.mistake.repair is not None:
            one = one._replace(mistake=one.mistake._replace(repair=None))
        seen.setdefault((one.code, place.file, place.cell, place.line, place.column), one)
    return sorted(seen.values(), key=in_order)


def in_order(one: Found) -> tuple[object, ...]:
    """Return what findings are sorted by: the file, the place in it, the code."""
    place = one.mistake.location
    return (place.file, place.cell, place.line, place.column, one.code, one.mistake.message)
