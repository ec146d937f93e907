"""`traindoctor report`: what diagnose wrote, shown again without the logs."""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003 -- click passes one

import click

from traindoctor.cli.printing import deliver, exit_code, form_for, printing


@click.group(short_help="A report that was kept: show it again, in any form.")
def report() -> None:
    """Work on a report that `traindoctor diagnose` wrote, without the logs it was made from."""


@report.command(short_help="Print a stored report as text, or in another form.")
@click.argument("file", type=click.Path(allow_dash=True), metavar="FILE")
@printing
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "never"]),
    default="never",
    show_default=True,
    help="Exit with 1 when a finding is at least this severe.",
)
def show(file: str, form: str | None, output: Path | None, fail_on: str) -> int:
    """Print the report in FILE: JSON or JSON lines of `traindoctor diagnose`, or the HTML page of a run; - for stdin.

    With --format sarif and github, run it in the folder that was given to diagnose: the paths in a report are relative to it.

    Exit codes: 0, with --fail-on 1 for findings, 2 FILE is no report.
    """
    from traindoctor.report.from_json import parse_report, read_report

    form = form_for(form, output)
    stored = parse_report(sys.stdin.buffer.read(), "stdin") if file == "-" else read_report(file)
    deliver(stored, form, output)
    return exit_code(stored, fail_on)
