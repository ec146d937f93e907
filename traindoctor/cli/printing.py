"""Printing a diagnosis in the form that was asked for, to stdout or to a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    from traindoctor.model import Report

#: The names of the forms, known without the import of what makes them; a test compares them.
FORMATS = ("text", "json", "jsonl", "sarif", "markdown", "github", "junit")
RANKS = {"info": 0, "warning": 1, "error": 2}
#: Suffix of --output -> the form that is written where none is named; a test compares them with those of `Report.save`.
SUFFIXES = {".json": "json", ".jsonl": "jsonl", ".md": "markdown", ".sarif": "sarif", ".txt": "text", ".xml": "junit"}

OPTIONS = (
    click.option(
        "--format",
        "form",
        type=click.Choice(FORMATS),
        help="What to print. Default: what the suffix of --output names (.json, .jsonl, .sarif, .md, .xml), else text.",
    ),
    click.option(
        "--output",
        "-o",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Write it there and not to stdout.",
    ),
)


def printing(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with the options that say what is printed, and where."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def form_for(form: str | None, output: Path | None) -> str:
    """Return the form that is printed: the one that was named, else that of the file's suffix, else text.

    A place that cannot be written is refused before the work is done.

    Raises: BadParameter when its folder does not exist, or it is to be a page, which --output does not write.
    """
    if output is None:
        return form or "text"
    if not output.parent.is_dir():
        raise click.BadParameter(f"the folder {str(output.parent)!r} does not exist", param_hint="'--output'")
    suffix = output.suffix.lower()
    if form is None and suffix in (".html", ".htm"):
        what = "what is printed is no page; traindoctor diagnose --html FILE writes one"
        raise click.BadParameter(what, param_hint="'--output'")
    return form or SUFFIXES.get(suffix, "text")


def deliver(report: Report, form: str, output: Path | None) -> None:
    """Print the report in a form, or write it to a file as it is piped.

    Raises: UnreadableInputError when the file cannot be written.
    """
    from traindoctor.report.forms import Look, rendered

    if output is not None:
        from traindoctor.report.writing import write_whole

        write_whole(output, rendered(report, form), "--output")
        return
    from traindoctor.cli.colour import in_colour
    from traindoctor.cli.terminal import columns
    from traindoctor.report.sparkline import drawable

    look = Look(columns(), in_colour(sys.stdout), not drawable(getattr(sys.stdout, "encoding", None)))
    sys.stdout.write(rendered(report, form, look))


def exit_code(report: Report, fail_on: str) -> int:
    """Return 1 when a finding is at least as severe as `fail_on`, else 0."""
    if fail_on == "never":
        return 0
    worst = max((RANKS[f.severity] for r in report.runs for f in r.findings), default=-1)
    return 1 if worst >= RANKS[fail_on] else 0
