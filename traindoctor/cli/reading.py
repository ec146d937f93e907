"""The options of every command that reads logs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

OPTIONS = (
    click.argument("paths", nargs=-1, required=True, metavar="PATH..."),
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
        "--format-in", metavar="NAME", help="Read every file as this format, e.g. csv; recognised by content if not given."
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
        raise click.BadParameter(f"{name!r} is not one of {', '.join(known)}", param_hint="'--format-in'")
    return name


def tag_aliases(given: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    """Return quantity -> tags of `--tag QUANTITY=TAG`.

    Raises: BadParameter for what is not of that form.
    """
    made: dict[str, tuple[str, ...]] = {}
    for one in given:
        quantity, equals, tag = one.partition("=")
        if not equals or not quantity.strip() or not tag.strip():
            raise click.BadParameter(f"{one!r} is not QUANTITY=TAG, e.g. loss=train/total", param_hint="'--tag'")
        made[quantity.strip()] = (*made.get(quantity.strip(), ()), tag.strip())
    return made
