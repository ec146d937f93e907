"""What `import traindoctor` offers in Python: the diagnosis of the command line, as a function."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from traindoctor.errors import ConfigError, UnreadableInputError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from traindoctor.model import Report

#: A file, a folder, or a URL that fsspec opens.
Place: TypeAlias = str | os.PathLike[str]


def diagnose(
    *paths: Place | Iterable[Place],
    config: Place | None = None,
    code: Place | None = None,
    checkpoints: Place | Iterable[Place] = (),
    tags: Mapping[str, str | Sequence[str]] | None = None,
    select: str | Iterable[str] = (),
    ignore: str | Iterable[str] = (),
    thresholds: Mapping[str, Mapping[str, float]] | None = None,
    parameters: int | None = None,
    rules: Place | Iterable[Place] = (),
    format: str = "",  # noqa: A002 -- as in `DiagnoseOptions`
    step_column: str | None = None,
    settings: bool = True,
    progress: Callable[[str], None] | None = None,
) -> Report:
    """Return what is said of the runs under the paths: files, folders, URLs, or lists of them.

    It is the diagnosis of `traindoctor diagnose`, with the same options. `config`, `code`, `checkpoints`: the run's config file,
    training script and checkpoints; found beside the log if not given. `tags`: quantity -> its tag or tags,
    `{"loss": "train/total"}`. `select`, `ignore`: codes of causes or their prefixes, "TD101,TD2" or a list. `thresholds`: code ->
    name -> value. `parameters`: number of trained parameters. `rules`: rule files or packs of your own. `format`: what every
    file is read as. `step_column`: the column that counts the steps. `settings`: whether `[tool.traindoctor]` near the first path
    holds, as it does for the command; what is passed here comes first. `progress`: called with a line of text before each
    piece of work.

    What looks like a secret is left out of it, as every report is made to be passed on. No code of yours is run, and no file is
    written.

    Raises: UnreadableInputError when no path is given or nothing under one can be read; ConfigError for a config or settings
    that do not parse, and for an unknown format or quantity; RulePackError for a pack that cannot be loaded;
    TraindoctorError, of which these are kinds, for a code that no rule has.
    """
    from traindoctor.pipeline import DiagnoseOptions
    from traindoctor.pipeline import diagnose as run
    from traindoctor.report.provenance import making_of, with_provenance
    from traindoctor.report.redaction import redacted
    from traindoctor.settings import Settings, load_settings

    places = [os.fspath(place) for given in paths for place in _each(given)]
    if not places:
        raise UnreadableInputError("diagnose()", "no path was given", 'traindoctor.diagnose("logs/")')
    set_near = load_settings(places[0]) if settings else Settings()
    options = DiagnoseOptions(
        config=None if config is None else Path(config),
        code=None if code is None else Path(code),
        checkpoints=tuple(Path(one) for one in _each(checkpoints)),
        step_column=step_column,
        format=_known_format(format),
        tags={**set_near.tags, **_tags(tags or {})},
        select=_codes(select) or set_near.select,
        ignore=_codes(ignore) or set_near.ignore,
        thresholds={**set_near.thresholds, **(thresholds or {})},
        parameters=parameters,
        rules=tuple(os.fspath(one) for one in _each(rules)),
    )
    return redacted(with_provenance(run(places, options, progress), making_of(places, options)))


def _each(given: Place | Iterable[Place]) -> Iterable[Place]:
    return (given,) if isinstance(given, (str, os.PathLike)) else given


def _codes(given: str | Iterable[str]) -> tuple[str, ...]:
    written = (given,) if isinstance(given, str) else given
    return tuple(code.strip().upper() for one in written for code in one.split(",") if code.strip())


def _known_format(name: str) -> str:
    from traindoctor.readers.formats import FORMATS

    if name and name not in (known := [one.name for one in FORMATS]):
        raise ConfigError(
            "format", f"{name!r} is no format that is read", *did_you_mean(name, known), f"one of {', '.join(known)}"
        )
    return name


def _tags(given: Mapping[str, str | Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return quantity -> tags; a quantity that is near to none we know may be one of a rule pack."""
    from traindoctor.readers.tags import QUANTITIES

    for quantity in given:
        if quantity not in QUANTITIES and (ways := did_you_mean(quantity, QUANTITIES, 0.7)):
            raise ConfigError("tags", f"{quantity!r} is no quantity that is known", *ways)
    return {quantity: (tags,) if isinstance(tags, str) else tuple(tags) for quantity, tags in given.items()}
