"""`traindoctor diagnose`: logs in, verdict out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from traindoctor.cli.packs import rules_option
from traindoctor.cli.progress import telling
from traindoctor.cli.reading import checked_format, reading, tag_aliases
from traindoctor.cli.writing import write_whole

if TYPE_CHECKING:
    from traindoctor.model import Report

RANKS = {"info": 0, "warning": 1, "error": 2}


@click.command(short_help="What went wrong in a run, why, and which change repairs it.")
@reading
@click.option(
    "--code", type=click.Path(path_type=Path), metavar="FILE", help="The training script; found beside the logs if not given."
)
@click.option("--parameters", type=click.IntRange(min=1), metavar="N", help="Number of trained parameters of the model.")
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="What to print.")
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Also write the report as one HTML page."
)
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning", "never"]),
    default="error",
    show_default=True,
    help="Exit with 1 when a finding is at least this severe.",
)
@click.option("--select", multiple=True, metavar="CODES", help="Only these causes: TD101,TD2 (a prefix selects a family).")
@click.option("--ignore", multiple=True, metavar="CODES", help="All but these causes.")
@rules_option
@click.option("--quiet", "-q", is_flag=True, help="No progress and no hints on stderr.")
def diagnose(
    paths: tuple[str, ...],
    config: Path | None,
    step_column: str | None,
    tags: tuple[str, ...],
    format_in: str | None,
    code: Path | None,
    parameters: int | None,
    form: str,
    html: Path | None,
    fail_on: str,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    packs: tuple[str, ...],
    quiet: bool,
) -> int:
    """Say what went wrong in the runs under PATH (files, folders or URLs), why, and which change repairs it."""
    from traindoctor.pipeline import DiagnoseOptions
    from traindoctor.pipeline import diagnose as run
    from traindoctor.settings import load_settings

    settings = load_settings(paths[0])
    options = DiagnoseOptions(
        config=config,
        code=code,
        step_column=step_column,
        format=checked_format(format_in),
        tags={**settings.tags, **tag_aliases(tags)},
        select=_codes(select) or settings.select,
        ignore=_codes(ignore) or settings.ignore,
        thresholds=settings.thresholds,
        parameters=parameters,
        rules=packs,
    )
    if html is not None and not html.parent.is_dir():
        raise click.BadParameter(f"the folder {str(html.parent)!r} does not exist", param_hint="'--html'")
    with telling(quiet=quiet) as progress:
        report = run(paths, options, progress)
    if html is not None:
        from traindoctor.report.html import render_html

        write_whole(html, render_html(report))
        if not quiet:
            click.echo(f"wrote {html}", err=True)
    _print(report, form)
    return exit_code(report, fail_on)


def exit_code(report: Report, fail_on: str) -> int:
    """Return 1 when a finding is at least as severe as `fail_on`, else 0."""
    if fail_on == "never":
        return 0
    worst = max((RANKS[f.severity] for r in report.runs for f in r.findings), default=-1)
    return 1 if worst >= RANKS[fail_on] else 0


def _print(report: Report, form: str) -> None:
    if form == "json":
        from traindoctor.report.to_json import to_json

        click.echo(json.dumps(to_json(report), ensure_ascii=True, allow_nan=False, indent=2))
        return
    if sys.stdout.isatty():
        from rich.console import Console

        from traindoctor.report.text import print_rich

        print_rich(report, Console(highlight=False, markup=False, emoji=False))
        return
    from traindoctor.report.text import render_text

    click.echo(render_text(report), nl=False)


def _codes(given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(code.strip().upper() for one in given for code in one.split(",") if code.strip())
