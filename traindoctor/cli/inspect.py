"""`traindoctor inspect`: what was recognised in a log, before any diagnosis."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import click

from traindoctor import __version__
from traindoctor.cli.reading import checked_format, reading, tag_aliases, warn_of_unused

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="What was read: formats, tags and their roles, settings, gaps, damage.")
@reading
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="What to print.")
def inspect(
    paths: tuple[str, ...],
    config: Path | None,
    step_column: str | None,
    tags: tuple[str, ...],
    format_in: str | None,
    form: str,
) -> int:
    """Show what was read under PATH (files, folders or URLs): formats, tags and their roles, settings, gaps, damage."""
    from traindoctor.readers.discover import ReadOptions, read_runs
    from traindoctor.report.inspection import inspect_runs, render_inspection
    from traindoctor.settings import load_settings

    named = tag_aliases(tags)
    aliases = {**load_settings(paths[0]).tags, **named}
    options = ReadOptions(config=config, step_column=step_column, aliases=aliases, format=checked_format(format_in))
    runs = [run for path in paths for run in read_runs(path, options)]
    warn_of_unused(named, runs)
    inspected = inspect_runs(runs, __version__)
    if form == "json":
        click.echo(json.dumps(inspected, ensure_ascii=True, allow_nan=False, indent=2))
    else:
        click.echo(render_inspection(inspected, max(80, shutil.get_terminal_size((100, 24)).columns)), nl=False)
    return 0
