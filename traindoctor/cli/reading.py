"""The options of every command that reads logs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from traindoctor.cli import completing
from traindoctor.errors import did_you_mean
from traindoctor.report.wording import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from traindoctor.model import Run

OPTIONS = (
    click.argument("paths", nargs=-1, required=True, metavar="PATH...", shell_complete=completing.files),
    click.option(
        "--config",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The run's config file; found beside the logs if not given.",
    ),
    click.option("--step-column", metavar="NAME", help="The column or field that counts the steps."),
    click.option(
        "--tag",
        "tags",
        multiple=True,
        metavar="QUANTITY=TAG",
        help="Which tag is which quantity, e.g. loss=train/total. Repeatable.",
    ),
    click.option(
        "--format-in",
        metavar="NAME",
        shell_complete=completing.formats,
        help="Read every file as this format, e.g. csv; recognised by content if not given.",
    ),
)


def reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with the paths it reads and the options that say how."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def checked_format(name: str | None) -> str:
    """Return the name of a format, "" for none.

    Raises: BadParameter for one that is not known.
    """
    if name is None:
        return ""
    from traindoctor.readers.formats import FORMATS

    if name not in (known := [f.name for f in FORMATS]):
        ways = did_you_mean(name, known) or (f"the formats are {', '.join(known)}",)
        raise click.BadParameter(f"{name!r} is no format that is read; {ways[0]}", param_hint="'--format-in'")
    return name


def tag_aliases(given: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    """Return quantity -> tags of `--tag QUANTITY=TAG`.

    A quantity that is near to none we know may be one of a rule pack.

    Raises: BadParameter for what is not of that form, and for a quantity that is misspelt.
    """
    from traindoctor.readers.tags import QUANTITIES

    made: dict[str, tuple[str, ...]] = {}
    for one in given:
        quantity, equals, tag = one.partition("=")
        if not equals or not quantity.strip() or not tag.strip():
            raise click.BadParameter(f"{one!r} is not QUANTITY=TAG, e.g. loss=train/total", param_hint="'--tag'")
        quantity = quantity.strip()
        if quantity not in QUANTITIES and (ways := did_you_mean(quantity, QUANTITIES, 0.7)):
            raise click.BadParameter(f"{one!r} names no quantity that is known; {ways[0]}", param_hint="'--tag'")
        made[quantity] = (*made.get(quantity, ()), tag.strip())
    return made


def warn_of_unused(tags: Mapping[str, tuple[str, ...]], runs: Iterable[Run]) -> None:
    """Say on stderr which of the tags that were named no run has: a slip would change what is looked at, unseen."""
    there = {series.tag for run in runs for series in run.series}
    for quantity, named in tags.items():
        for tag in named:
            if tag not in there:
                ways = did_you_mean(tag, there) or ("traindoctor inspect lists the tags",)
                click.echo(clean(f"warning: --tag {quantity}={tag}: no run has this tag; {ways[0]}", 2000), err=True)
