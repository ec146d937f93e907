"""`traindoctor compare`: a good run and a bad one in, what changed between them out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from traindoctor import __version__
from traindoctor.cli import completing
from traindoctor.cli.packs import rules_option
from traindoctor.cli.progress import telling
from traindoctor.cli.reading import checked_format, tag_aliases, warn_of_unused
from traindoctor.cli.terminal import columns, write_lines
from traindoctor.errors import TraindoctorError

if TYPE_CHECKING:
    from traindoctor.compare import Comparison


@click.command(short_help="What changed between a good run and a bad one, and which change explains it.")
@click.argument("paths", nargs=-1, required=True, metavar="[GOOD...] BAD", shell_complete=completing.files)
@click.option(
    "--good",
    "more",
    multiple=True,
    metavar="PATH",
    shell_complete=completing.files,
    help="A good run. Repeatable; each tells more of the noise.",
)
@click.option("--step-column", metavar="NAME", help="The column or field that counts the steps.")
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="QUANTITY=TAG",
    help="Which tag is which quantity, e.g. loss=train/total. Repeatable; holds for all runs.",
)
@click.option(
    "--format-in",
    metavar="NAME",
    shell_complete=completing.formats,
    help="Read every file as this format, e.g. csv; recognised by content if not given.",
)
@click.option("--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="What to print.")
@rules_option
@click.option("--quiet", "-q", is_flag=True, help="No progress on stderr.")
def compare(
    paths: tuple[str, ...],
    more: tuple[str, ...],
    step_column: str | None,
    tags: tuple[str, ...],
    format_in: str | None,
    form: str,
    packs: tuple[str, ...],
    quiet: bool,
) -> int:
    """Say what changed between good runs and a bad one, the last PATH: settings, scripts, the step at which the curves part.

    Each PATH is a file, folder or URL of one run; that of a good one may hold several.

    Exit codes: 0 no difference beyond noise, 1 the runs differ, 2 they cannot be read or nothing in them can be compared.
    """
    from traindoctor.compare import compare as run
    from traindoctor.pipeline import DiagnoseOptions, diagnose
    from traindoctor.settings import load_settings

    good, bad = (*more, *paths[:-1]), paths[-1]
    if not good:
        raise click.UsageError("two runs are compared, and one was given: traindoctor compare GOOD BAD")
    aliases = tag_aliases(tags)
    settings = load_settings(bad)
    options = DiagnoseOptions(
        step_column=step_column,
        format=checked_format(format_in),
        tags={**settings.tags, **aliases},
        select=settings.select,
        ignore=settings.ignore,
        thresholds=settings.thresholds,
        rules=packs,
    )
    with telling(quiet=quiet) as progress:
        ours = [report for path in good for report in diagnose([path], options, progress).runs]
        theirs = diagnose([bad], options, progress).runs
        if len(theirs) != 1:
            named = ", ".join(report.run.path for report in theirs[:8]) + (" ..." if len(theirs) > 8 else "")
            raise TraindoctorError(bad, f"holds {len(theirs)} runs, and one bad run is compared", f"name one of {named}")
        if progress is not None:
            progress("comparing")
        made = run(ours, theirs[0])
    warn_of_unused(aliases, (one.run for one in (*ours, *theirs)))
    _print(made, form)
    return exit_code(made)


def exit_code(made: Comparison) -> int:
    """Return 0 when no curve parts beyond the noise, 1 when one does, 2 when none could be compared."""
    if not made.is_comparable:
        return 2
    return 1 if made.differs else 0


def _print(made: Comparison, form: str) -> None:
    from traindoctor.report.comparison import comparison_json, comparison_lines

    if form == "json":
        click.echo(json.dumps(comparison_json(made, __version__), ensure_ascii=True, allow_nan=False, indent=2))
    else:
        write_lines(comparison_lines(made, columns()))
