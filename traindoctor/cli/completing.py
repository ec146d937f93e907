"""What a shell is offered for the words of a command that click does not know the choices of."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click
    from click.shell_completion import CompletionItem


def files(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return that the shell is to offer files and folders, as it does where nothing is known of a command."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(begun, type="file")]


def codes(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return the codes of causes that begin so; of a list with commas, its last one."""
    from traindoctor.registry import load_rules

    done, comma, last = begun.rpartition(",")
    return [f"{done}{comma}{code}" for code in sorted(load_rules().causes) if code.startswith(last.upper())]


def causes(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return the codes, or the names, of causes that begin so."""
    from traindoctor.registry import load_rules

    known = load_rules().causes
    named = sorted(code for code in known if code.startswith(begun.upper()))
    return named or sorted(cause.name for cause in known.values() if cause.name.startswith(begun.lower()))


def formats(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return the formats of logs that begin so."""
    from traindoctor.readers.formats import FORMATS

    return [one.name for one in FORMATS if one.name.startswith(begun)]


def demos(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Return the demos that begin so."""
    from traindoctor.demos.play import DEMOS

    return [name for name in DEMOS if name.startswith(begun)]
